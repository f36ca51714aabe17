"""`edgedet sweep`: what is done is never done again, what failed is tried again, and what is recommended fits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from edgedet import cli, demo
from edgedet.benchmarks.sweep import run_sweep as run_sweep_module
from edgedet.benchmarks.sweep.cells import DONE, FAILED, LEDGER, REFUSED, Cell, CellResult, Ledger, cell_key, list_cells
from edgedet.benchmarks.sweep.report import pareto_front, print_sweep, write_sweep_picture
from edgedet.benchmarks.sweep.run_sweep import Speed, SweepRequest, SweepRow, recommend, run_cell, run_sweep
from edgedet.errors import InputError
from edgedet.judge import labels as labels_module


def row(name, ap, ms, high_ms=None, board="pi", precision="fp32"):
    result = CellResult(name, name, DONE, file=f"{name}.tflite", precision=precision, ap=ap)
    return SweepRow(result, (Speed(board, ms, ms, high_ms or ms, "measured"),))


def test_the_most_accurate_that_surely_fits_is_recommended():
    rows = [row("fast", 0.3, 10), row("good", 0.4, 30), row("doubtful", 0.5, 45, high_ms=60), row("slow", 0.6, 90)]
    assert recommend(rows, "pi", 50).result.name == "good"
    assert recommend(rows, "pi", None).result.name == "slow"
    assert recommend(rows, "pi", 5) is None
    assert recommend(rows, "jetson", 50) is None


def test_of_equal_accuracy_the_faster_is_recommended():
    assert recommend([row("a", 0.4, 30), row("b", 0.4, 20)], "pi", 50).result.name == "b"


def test_the_pareto_front_holds_what_nothing_beats():
    """By hand: (20, .3) is slower than (10, .35) and no better; (30, .4) and (40, .4): the faster counts."""
    assert pareto_front([(40, 0.4), (10, 0.35), (20, 0.3), (30, 0.4)]) == [(10, 0.35), (30, 0.4)]


def test_the_ledger_remembers_results_and_tries_failures_again(tmp_path):
    ledger = Ledger(tmp_path / "out")
    ledger.add(CellResult("k1", "a", DONE, ap=0.25, input_hw=(384, 640)))
    ledger.add(CellResult("k2", "b", REFUSED, "AP lost"))
    ledger.add(CellResult("k3", "c", FAILED, "no disk"))
    again = Ledger(tmp_path / "out")
    assert again.get("k1") == CellResult("k1", "a", DONE, ap=0.25, input_hw=(384, 640))
    assert again.get("k2").status == REFUSED
    assert again.get("k3") is None


def test_a_candidate_whose_file_was_removed_is_made_again(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add(CellResult("k1", "a", DONE, file="k1/a.tflite"))
    assert ledger.get("k1") is None
    (tmp_path / "k1").mkdir()
    (tmp_path / "k1/a.tflite").touch()
    assert ledger.get("k1").status == DONE


def test_a_line_that_a_power_cut_tore_is_written_over(tmp_path):
    Ledger(tmp_path).add(CellResult("k1", "a", DONE))
    path = tmp_path / LEDGER
    with path.open("ab") as file:
        file.write(b'{"key": "k2", "na')
    ledger = Ledger(tmp_path)
    ledger.add(CellResult("k2", "b", DONE))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["k1", "k2"]


def test_another_file_is_no_ledger(tmp_path):
    (tmp_path / LEDGER).write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="no ledger"):
        Ledger(tmp_path)


def test_a_candidate_is_another_one_when_anything_that_it_depends_on_changes(tmp_path):
    labels, calib, weights = tmp_path / "labels.json", tmp_path / "calib", tmp_path / "w.pth"
    for file in (labels, weights):
        file.write_text("1")
    calib.mkdir()
    cell = Cell(str(weights), (128, 128), "int8")

    def key(**changes):
        values = {
            "cell": cell,
            "data": labels,
            "images": None,
            "calib": str(calib),
            "frames": 64,
            "limit": None,
            **changes,
        }
        return cell_key(*values.values())

    before = key()
    assert key() == before
    assert key(limit=3) != before
    assert key(frames=128) != before
    assert key(cell=Cell(str(weights), (128, 256), "int8")) != before
    (calib / "a.png").write_text("picture")
    with_frame = key()
    assert with_frame != before
    labels.write_text("2")
    assert key() != with_frame
    float_cell = Cell(str(weights), None, "fp32")
    assert key(cell=float_cell, calib="elsewhere", frames=128) == key(cell=float_cell)  # frames do not matter to it


def test_candidates_are_all_combinations_once():
    cells = list_cells(["demo"], [None, (128, 128)], ["fp32", "int8", "fp32"], None)
    assert [cell.name for cell in cells] == ["demo fp32", "demo int8", "demo 128x128 fp32", "demo 128x128 int8"]
    with pytest.raises(InputError, match=r"no checkpoint nowhere\.pth"):
        list_cells(["nowhere.pth"], [None], ["fp32"], None)


def test_checkpoints_with_one_file_name_have_different_names_in_tables(tmp_path):
    files = [tmp_path / name for name in ("run1/best.pth", "run2/best.pth", "run2/last.pth", "run2/last.safetensors")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    cells = list_cells([*map(str, files), str(files[0])], [None], ["int8"], None)
    assert [cell.name for cell in cells] == ["run1/best int8", "run2/best int8", f"{files[2]} int8", f"{files[3]} int8"]
    assert [cell.name for cell in list_cells([str(files[0])], [None], ["int8"], None)] == ["best int8"]


def request(tmp_path, weights, **changes):
    Path(tmp_path / "labels.json").write_text('{"images": [], "annotations": [], "categories": []}')
    cells = tuple(list_cells(weights, [None], ["fp32"], None))
    return SweepRequest(cells, tmp_path / "labels.json", None, tmp_path / "out", boards=("raspberry-pi-5",), **changes)


def test_checkpoints_with_the_same_bytes_are_made_once_and_have_two_rows(tmp_path, monkeypatch):
    weights = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for file in weights:
        file.write_bytes(b"the same")
    made = []

    class Here:
        """Stands for the child process."""

        def __init__(self, work, request, key, cell):
            made.append(cell.name)
            self._result = CellResult(key, cell.name, DONE, precision="fp32", ap=0.25)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def first(self):
            return self._result

    monkeypatch.setattr(run_sweep_module, "Child", Here)
    rows = run_sweep(request(tmp_path, [str(file) for file in weights]), lambda line: None)
    assert made == ["a fp32"]
    assert [(row.result.name, row.result.ap) for row in rows] == [("a fp32", 0.25), ("b fp32", 0.25)]


def test_other_class_names_beside_a_checkpoint_make_another_candidate(tmp_path):
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"1")
    cell = Cell(str(weights), None, "fp32")
    labels = tmp_path / "labels.json"
    labels.touch()
    before = cell_key(cell, labels, None, None, 64, None)
    (tmp_path / "a.names").write_text("heart\n")
    assert cell_key(cell, labels, None, None, 64, None) != before


def test_an_error_that_nobody_foresaw_is_one_candidates_failure(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"1")
    wanted = request(tmp_path, [str(tmp_path / "a.pth")])

    def fail(*arguments):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(labels_module, "read_dataset", fail)
    result = run_cell(wanted, "k", wanted.cells[0])
    assert result.status == FAILED
    assert result.reason.startswith("ZeroDivisionError: division by zero (test_sweep.py, line ")


def test_the_table_and_the_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib (edgedet[bench])")
    failed = SweepRow(CellResult("x", "broken", FAILED, "it is too large " * 10))
    rows = [row("fast", 0.3, 10, precision="int8"), row("good", 0.4, 30), failed]
    print_sweep(rows, ["pi", "jetson"], 20, sys.stdout)
    out = capsys.readouterr().out
    assert "pi: take fast, the highest AP within 20 ms (0.300" in out
    assert "jetson: nothing within 20 ms" in out
    assert max(map(len, out.splitlines())) < 125
    write_sweep_picture(rows, ["pi", "jetson"], 20, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert text.count("<svg") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "demo"], "nothing to measure AP on"),
        (["--weights", "demo", "--data", "l.json", "--precision", "int4"], "takes fp32, int8; got 'int4'"),
        (["--weights", "demo", "--data", "l.json", "--budget-ms", "0"], "above 0"),
        (["--weights", "demo", "--data", "l.json", "--threads", "0"], "--threads wants a number from 1 up"),
        (["--weights", "no.pth", "--data", "l.json"], "there is no checkpoint no.pth"),
        (["--weights", "demo", "--data", "l.json", "--board", "toaster"], "toaster"),
        (["--weights", "demo", "--data", "l.json", "--picture", "a.bmp"], ".png or .svg"),
    ],
)
def test_wrong_options_give_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Path("l.json").write_text("{}")
    assert cli.main(["sweep", *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """Two frames of the demo's clip, and a label for each."""
    cv2 = pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
    monkeypatch.chdir(tmp_path)
    images, boxes = [], []
    for n, bgr in enumerate(demo.clip_frames(2)):
        cv2.imwrite(f"{n}.png", np.ascontiguousarray(bgr))
        images.append({"id": n, "file_name": f"{n}.png", "width": bgr.shape[1], "height": bgr.shape[0]})
        boxes.append({"id": n, "image_id": n, "category_id": 1, "bbox": [9, 9, 40, 90], "area": 3600, "iscrowd": 0})
    labels = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    Path("labels.json").write_text(json.dumps(labels))
    return tmp_path


@pytest.mark.slow  # real exports
def test_a_sweep_that_was_killed_goes_on_where_it_was(labelled):
    command = [sys.executable, "-m", "edgedet", "sweep", "--weights", "demo", "--size", "128x128,128x256"]
    command += ["--precision", "fp32", "--data", "labels.json", "--board", "raspberry-pi-5", "--out", "out"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    ledger = labelled / "out" / LEDGER
    wait_until(lambda: run.poll() is not None or ledger.exists())
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    first = ledger.read_bytes()
    assert first.count(b"\n") == 1
    done = subprocess.run([*command, "--json", "all.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 candidates, 1 done earlier" in done.stdout
    assert ledger.read_bytes().startswith(first)
    assert ledger.read_bytes().count(b"\n") == 2
    figures = json.loads((labelled / "all.json").read_text())
    assert [item["result"]["name"] for item in figures["candidates"]] == ["demo 128x128 fp32", "demo 128x256 fp32"]
    assert all((labelled / "out" / item["result"]["file"]).is_file() for item in figures["candidates"])
    assert figures["take"]["raspberry-pi-5"] is not None
