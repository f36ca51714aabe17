"""``edgedet plan`` as users run it: its choice, bad input and what is said of it, JSON and picture."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgedet.benchmarks.planner.boards import find_board
from edgedet.benchmarks.planner.estimate import list_precisions
from edgedet.cli import main

BENCH = Path(__file__).parents[1] / "golden" / "bench_x86_onnxruntime.json"


def planned(capsys, *options: str) -> dict:
    assert main(["plan", *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *options: str) -> str:
    assert main(["plan", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_nothing_that_fits_is_an_answer(capsys):
    assert main(["plan", "--board", "raspberry-pi-3", "--fps", "30"]) == 0
    assert "Nothing fits 33.3 ms. Nearest: lite0 fp32 at 320x320" in " ".join(capsys.readouterr().out.split())
    plan = planned(capsys, "--board", "raspberry-pi-3", "--fps", "30")
    assert plan["best"] is plan["runner_up"] is None
    assert plan["nearest"]["variant"] == "lite0"


def test_a_board_with_figures_of_its_own_is_near_them(capsys):
    """Published (NobuoTsukamoto/benchmarks): Pi 5, INT8, 4 threads."""
    plan = planned(capsys, "--board", "raspberry-pi-5", "--fps", "15", "--precision", "int8")
    known = {item["variant"]: item for item in plan["rows"]}
    for variant, ms in (("lite0", 22.88), ("lite1", 39.72), ("lite2", 55.59), ("lite3", 100.87), ("lite4", 216.47)):
        assert known[variant]["ms"] == pytest.approx(ms, rel=0.07)
        assert known[variant]["low_ms"] < ms < known[variant]["high_ms"]
        assert known[variant]["basis"] == "fitted"
    assert known["d0"]["basis"] == "extrapolated"
    assert "they are of Lite models" in known["d0"]["why"]
    assert plan["best"]["variant"] == "lite2"
    assert plan["best"]["ap"] == 34.69


def test_boards_without_figures_of_the_family_are_marked_and_wider(capsys):
    plan = planned(capsys, "--board", "orin-nano", "--budget-ms", "33")
    assert {item["basis"] for item in plan["rows"]} == {"extrapolated"}
    d0 = next(item for item in plan["rows"] if (item["variant"], item["precision"]) == ("d0", "fp16"))
    assert d0["high_ms"] / d0["low_ms"] > 2
    assert "no figure of this family" in d0["why"]
    assert "Jetson Nano" in d0["why"]


def test_int8_is_absent_where_the_hardware_has_none(capsys):
    for name in ("jetson-nano", "tx2"):
        assert "int8" not in list_precisions(find_board(name))
    assert "--precision takes fp32, fp16 here; got 'int8'" in refusal(
        capsys, "--board", "jetson-nano", "--fps", "5", "--precision", "int8"
    )


def test_planning_needs_numpy_only():
    code = (
        "import sys; from edgedet.cli import main; main(['plan', '--board', 'raspberry-pi-4', '--fps', '5']); "
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'cv2', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_else_a_frame_costs_comes_off_the_budget(capsys):
    plan = planned(capsys, "--board", "raspberry-pi-5", "--fps", "10", "--other-ms", "40", "--variant", "lite2,d0")
    assert plan["budget_ms"] == pytest.approx(60)
    assert {item["variant"] for item in plan["rows"]} == {"lite2", "d0"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--board", "foo", "--fps", "3"),
            "called 'foo', so nothing can be planned for it: choose from raspberry-pi-3,",
        ),
        (("--board", "orin-nano", "--fps", "0"), "--fps wants a number above 0; got 0"),
        (("--board", "orin-nano", "--budget-ms", "-3"), "--budget-ms wants a number above 0; got -3"),
        (("--board", "orin-nano", "--budget-ms", "nan"), "--budget-ms wants a number above 0; got nan"),
        (("--board", "orin-nano", "--budget-ms", "33", "--fps", "30"), "in one way: --fps 30, or --budget-ms 33"),
        (("--board", "orin-nano"), "say how fast it must be"),
        (("--fps", "30"), "name either --board or --from FILE; boards: raspberry-pi-3"),
        (("--board", "orin-nano", "--from", "x.json", "--fps", "30"), "name either --board or --from FILE"),
        (("--board", "orin-nano", "--fps", "30", "--other-ms", "40"), "leaves nothing of a budget of 33.3 ms"),
        (("--board", "orin-nano", "--fps", "30", "--threads", "4"), "from 1 to 1 (a GPU"),
        (("--board", "raspberry-pi-5", "--fps", "30", "--threads", "0"), "the board has 4 cores"),
        (("--board", "orin-nano", "--fps", "30", "--variant", "yolo"), "the planner knows d0, d1"),
        (("--board", "orin-nano", "--fps", "30", "--picture", "x.bmp"), "ending in .png or .svg; got x.bmp"),
        (("--from", "missing.json", "--fps", "30"), "cannot read missing.json: No such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, options, words):
    assert words in refusal(capsys, *options)


def test_a_boards_own_measurement_replaces_the_constants(capsys, tmp_path):
    """D0 to D4 are given as measured, D5 is predicted from them."""
    plan = planned(capsys, "--from", str(BENCH), "--fps", "10")
    assert (plan["board"], plan["measured"], plan["title"]) == (None, str(BENCH), "AMD EPYC")
    known = {(item["variant"], item["input_hw"][0]): item for item in plan["rows"]}
    assert known["d0", 512]["basis"] == "measured"
    assert known["d0", 512]["ms"] == pytest.approx(79.895, abs=1e-3)
    assert known["d0", 512]["high_ms"] == pytest.approx(122.997, abs=1e-3)
    assert known["d5", 1280]["basis"] == "measured constants"
    assert known["d5", 1280]["ms"] > 2 * known["d4", 1024]["ms"]
    assert {item["engine"] for item in plan["rows"]} == {"ort"}
    assert plan["ram_gb"] is None


def changed(tmp_path: Path, change) -> str:
    figures = json.loads(BENCH.read_text(encoding="utf-8"))
    change(figures)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(figures), encoding="utf-8")
    return str(path)


def test_unknown_keys_are_tolerated_and_rows_that_cannot_be_used_are_named(capsys, tmp_path):
    def change(figures):
        figures["new"] = {"key": 1}
        figures["models"][0]["another"] = [1, 2]
        figures["models"][1]["input_hw"] = [512, 640]

    plan = planned(capsys, "--from", changed(tmp_path, change), "--fps", "10")
    assert plan["notes"] == ["left out: tf_efficientdet_d1 is 512x640, and the planner knows squares only"]


def test_several_numbers_of_threads_are_told_apart(capsys, tmp_path):
    def change(figures):
        models = figures["models"]
        models += [dict(item, threads=2, ms={"network": {"p50": item["ms"]["network"]["p50"] / 2}}) for item in models]

    path = changed(tmp_path, change)
    two, one = (planned(capsys, "--from", path, "--fps", "10", *more) for more in ((), ("--threads", "1")))
    assert (two["threads"], one["threads"]) == (2, 1)
    assert one["rows"][0]["ms"] == pytest.approx(2 * two["rows"][0]["ms"], rel=1e-3)
    assert "measured with 1, 2 threads, not 3" in refusal(capsys, "--from", path, "--fps", "10", "--threads", "3")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda figures: figures.pop("models"), 'has no list of "models"'),
        (lambda figures: figures.update(models=[]), 'has no list of "models"'),
        (lambda figures: figures["models"][2].pop("engine"), "models[2] is no row of `edgedet bench` (KeyError"),
        (lambda figures: figures["models"][1]["ms"]["network"].update(p50=0), "p50 is 0"),
        (lambda figures: figures["models"][0].update(ms="fast"), "models[0] is no row"),
        (lambda figures: [item.update(engine="ncnn 1") for item in figures["models"]], "nothing to plan with"),
    ],
)
def test_files_that_are_no_benchmark_are_refused_in_one_line(capsys, tmp_path, change, words):
    assert words in refusal(capsys, "--from", changed(tmp_path, change), "--fps", "10")


def test_a_file_that_is_no_json_is_refused(capsys, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text("D0 80 ms", encoding="utf-8")
    assert "is no JSON; give the file of `edgedet bench --json FILE`" in refusal(
        capsys, "--from", str(path), "--fps", "10"
    )


def test_json_goes_to_a_file_while_the_table_is_printed(capsys, tmp_path):
    path = tmp_path / "plan.json"
    assert main(["plan", "--board", "n100", "--fps", "20", "--json", str(path)]) == 0
    assert "Best: " in capsys.readouterr().out
    plan = json.loads(path.read_text(encoding="utf-8"))
    assert plan["schema"] == 1
    assert plan["best"] in plan["rows"]
    assert set(plan["best"]) >= {"variant", "input_hw", "precision", "engine", "ms", "low_ms", "high_ms", "fits", "ap"}


def test_picture_shows_the_plan(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
    path = tmp_path / "plan.svg"
    assert main(["plan", "--board", "orin-nano", "--budget-ms", "33", "--picture", str(path)]) == 0
    drawn = path.read_text(encoding="utf-8")
    for words in ("33.0 ms", "best", "runner-up", "fp16, trt, extrapolated", "Jetson Orin Nano"):
        assert words in drawn
    assert f"wrote {path}" in capsys.readouterr().out


def test_documented_json_keys_are_all_that_is_written(capsys):
    document = (Path(__file__).parents[2] / "docs" / "planning.md").read_text(encoding="utf-8")
    plan = planned(capsys, "--board", "orin-nano", "--budget-ms", "33")
    for key in (*plan, *plan["rows"][0]):
        assert f"`{key}`" in document, key


def test_other_sizes_have_no_accuracy_and_go_by_their_variants_order(capsys):
    pytest.importorskip("torch", reason="graphs are made with PyTorch")
    options = ("--board", "raspberry-pi-5", "--fps", "5", "--variant", "lite0,lite1", "--size", "256")
    plan = planned(capsys, *options)
    assert {item["ap"] for item in plan["rows"]} == {None}
    assert (plan["best"]["variant"], plan["best"]["input_hw"]) == ("lite1", [256, 256])
    assert "at least 128 pixels a side; got 96" in refusal(capsys, *options[:-1], "96")
