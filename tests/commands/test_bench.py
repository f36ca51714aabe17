"""`edgedet bench`: what is printed and written, what fails, and what Ctrl-C keeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from media import META, picture, write_clip, write_fake_model

from edgedet import cli
from edgedet.benchmarks.latency.served import ServedDetector
from edgedet.engines.fake import save_fake
from edgedet.files import sha256_of

cv2 = pytest.importorskip("cv2", reason="edgedet bench resizes by OpenCV")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with a.fake, b.fake and clip.avi (4 frames of 256 x 192)."""
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("a.fake"))
    save_fake("b.fake", META, [])
    write_clip(Path("clip.avi"), frames=4)
    return tmp_path


def bench(*options, models=("a.fake",)):
    common = ["--source", "clip.avi", "--seconds", "0", "--runs", "4", "--warmup", "1", "--threads", "1"]
    return cli.main(["bench", *(["--model", *models] if models else []), *common, *map(str, options)])


def error_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_the_table_is_followed_by_one_json_line(folder, capsys):
    assert bench(models=("a.fake", "b.fake", "a.fake")) == 0  # a file that is named twice is measured once
    *table, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert [row["model"] for row in figures["models"]] == ["a.fake", "b.fake"]
    for row in figures["models"]:
        assert row["n"] == 4
        assert list(row["ms"]) == ["preprocess", "network", "postprocess", "end to end"]
        stages = [row["ms"][stage]["p50"] for stage in row["ms"]]
        assert 0 < max(stages[:3]) < stages[3]
        for values in row["ms"].values():
            assert 0 <= values["p50"] <= values["p90"] <= values["p99"]
        assert len(row["model_sha256"]) == 64
    assert (figures["warmup"], figures["threads"], figures["frames"], figures["frame_hw"]) == (1, [1], 4, [192, 256])
    assert (figures["schema"], figures["failures"], figures["left_out"]) == (2, [], [])
    assert sum(line.startswith("stage ") for line in table) == 2
    assert [line.split()[0] for line in table[-4:] if line and "warning" not in line][-2:] == ["a.fake", "b.fake"]


def test_json_alone_leaves_nothing_else_on_stdout(folder, capsys):
    assert bench("--json") == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["models"][0]["n"] == 4
    assert "end to end" in output.err


def test_json_goes_to_a_file(folder, capsys):
    assert bench("--json", "out/bench.json") == 0
    assert json.loads(Path("out/bench.json").read_text())["source"] == "clip.avi"
    assert "{" not in capsys.readouterr().out


def test_one_image_is_enough(folder, capsys):
    cv2.imwrite("one.png", picture(9))
    assert bench("--source", "one.png", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 1


def test_the_demo_clip_is_the_default(folder, capsys):
    options = ["--seconds", "0", "--runs", "2", "--warmup", "0", "--threads", "1", "--json"]
    assert cli.main(["bench", "--model", "a.fake", *options]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["source"], figures["frames"], figures["frame_hw"]) == ("demo clip", 30, [576, 768])


def test_a_model_that_does_not_open_is_named_and_the_rest_is_measured(folder, capsys):
    assert bench("--json", "bench.json", models=("lost.onnx", "a.fake")) == 1
    assert error_line(capsys) == (
        "edgedet: 1 model could be measured, with 1 failure: there is no model file lost.onnx: name one that "
        "`edgedet export` wrote."
    )
    figures = json.loads(Path("bench.json").read_text())
    assert [row["model"] for row in figures["models"]] == ["a.fake"]
    assert len(figures["failures"]) == 1


def test_a_model_whose_process_ends_is_named_and_the_rest_is_measured(folder, capsys, monkeypatch):
    """b.fake's process is killed before its third run, as the system does where memory ends."""
    run = ServedDetector.run
    left = iter(range(100))

    def killed_at_the_third(self, frame):
        if self.opened.sha256 == sha256_of("b.fake") and next(left) == 2:
            self._child._process.kill()
        return run(self, frame)

    monkeypatch.setattr(ServedDetector, "run", killed_at_the_third)
    assert bench("--json", "bench.json", models=("a.fake", "b.fake")) == 1
    assert error_line(capsys) == (
        "edgedet: 1 model could be measured, with 1 failure: b.fake, 1 threads: the system killed its process, most "
        "likely for want "
        "of memory."
    )
    assert [row["model"] for row in json.loads(Path("bench.json").read_text())["models"]] == ["a.fake"]


def test_ctrl_c_reports_what_was_measured(folder, capsys, monkeypatch):
    run = ServedDetector.run
    left = iter(range(100))

    def interrupted(self, frame):
        if next(left) == 4:
            raise KeyboardInterrupt
        return run(self, frame)

    monkeypatch.setattr(ServedDetector, "run", interrupted)
    assert bench("--json", "bench.json") == 1
    assert error_line(capsys) == "edgedet: 1 model could be measured, with 1 failure: interrupted after 3 rounds."
    figures = json.loads(Path("bench.json").read_text())
    assert (figures["models"][0]["n"], figures["failures"]) == (3, ["interrupted after 3 rounds"])


# Runs edgedet and says on stderr when a frame was measured, so that Ctrl-C comes in the middle of the measurement.
TELLS_FRAMES = """
import signal, sys
from edgedet import cli
from edgedet.benchmarks.latency.served import ServedDetector

measure_frame = ServedDetector.run

def run(self, frame):
    times = measure_frame(self, frame)
    print("a frame was measured", file=sys.stderr, flush=True)
    return times

ServedDetector.run = run
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests themselves ignore it
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals a group of processes")
def test_ctrl_c_in_a_terminal_keeps_the_results_and_shows_no_traceback(folder):
    """A terminal sends SIGINT to the command and to its children, one for each model."""
    command = ["bench", "--model", "a.fake", "b.fake", "--source", "clip.avi", "--runs", "1000000", "--warmup", "0"]
    command += ["--seconds", "0", "--threads", "1", "--json", "bench.json"]
    process = subprocess.Popen(
        [sys.executable, "-c", TELLS_FRAMES, *command], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = [next(process.stderr) for _ in range(6)]
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 1
    process.stderr.close()
    assert "Traceback" not in "".join(lines) + rest
    assert "2 models could be measured, with 1 failure: interrupted after" in rest.splitlines()[-1]
    result = json.loads(Path("bench.json").read_text())
    assert result["interrupted"]
    assert all(row["n"] >= 2 for row in result["models"])  # the last frame may not have been counted yet


@pytest.mark.parametrize(
    ("options", "models", "says"),
    [
        ((), (), "name one or more files after --model"),
        (("--phi", "9"), (), "--phi takes 0, 1, 2, 3, 4, 5, 6, 7, 8; got 9"),
        (("--phi", "3-1"), (), "--phi takes numbers and ranges, such as 0,2,4-6; got '3-1'"),
        (("--phi", "0", "--engine", "onnx"), (), "--engine takes tflite, ort, trt; got 'onnx'"),
        (("--phi", "0", "--precision", ","), (), "--precision takes fp32, fp16, int8; got ''"),
        (("--phi", "0", "--precision", "fp16"), (), "nothing to measure: fp16 ort: edgedet writes no FP16 file"),
        (("--phi", "0", "--engine", "trt"), (), "--engine trt needs tensorrt, which is not installed"),
        (("--phi", "0-7", "--engine", "trt", "--precision", "fp16,int8"), (), "--engine trt needs tensorrt, which is"),
        (("--weights", "demo"), ("a.fake",), "--weights goes with --phi"),
        (("--phi", "0", "--calib", "clip.avi"), (), "--calib goes with --weights"),
        (("--images", "."), ("a.fake",), "--images goes with --data"),
        (("--precision", "int8"), ("a.fake",), "--precision goes with --phi"),
        (("--engine", "ort"), ("a.fake",), "--engine goes with --phi"),
        (("--seed", "0"), ("a.fake",), "--seed goes with --phi"),
        (("--phi", "0", "--weights", "demo", "--seed", "1"), (), "--seed chooses random weights"),
        (("--phi", "0", "--weights", "demo", "--calib", "clip.avi"), (), "--calib is for INT8: name int8"),
        (("--sustain", "nonsense"), ("a.fake",), "--sustain takes a time such as 45s, 30m or 1h; got 'nonsense'"),
        (("--sustain", "0s"), ("a.fake",), "--sustain takes a time such as 45s, 30m or 1h; got '0s'"),
        (("--html", "a.fake/page.html"), ("a.fake",), "cannot write a.fake/page.html: "),
        (("--json", "."), ("a.fake",), "cannot write .: it is a folder"),
        (("--phi", "0-1", "--weights", "demo"), (), "--weights is of one model, but --phi names 2"),
        (("--phi", "0", "--weights", "lost.pth"), (), "there is no checkpoint lost.pth"),
        ((), ("lost.onnx",), "there is no model file lost.onnx"),
        (
            (),
            ("lost.onnx", "lost.fake"),
            "lost.onnx: name one that `edgedet export` wrote; there is no model file lost.f",
        ),
        (("--runs", 0), ("a.fake",), "--runs wants a number from 1 up; got 0"),
        (("--warmup", -1), ("a.fake",), "--warmup wants a number from 0 up; got -1"),
        (("--threads", 0), ("a.fake",), "--threads wants a number from 1 up; got 0"),
        (("--seconds", "nan"), ("a.fake",), "--seconds wants a number from 0 up; got nan"),
        (("--score", 1), ("a.fake",), "a score threshold lies between 0 and 1"),
        (("--source", "lost.png"), ("a.fake",), "there is no lost.png"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, options, models, says):
    assert bench(*options, models=models) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("edgedet: ")
    assert says in line


def test_a_frame_that_cannot_be_read_is_named(folder, capsys):
    Path("photos").mkdir()
    cv2.imwrite("photos/1.png", picture(9))
    Path("photos/2.png").write_bytes(b"")
    assert bench("--source", "photos") == 1
    assert "photos/2.png is empty (0 bytes)" in error_line(capsys)
