"""`edgedet bench compare` and the page of `--html`: ratios by hand, what is refused, what the page shows."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path

import pytest
from media import META, write_clip, write_fake_model

from edgedet import cli
from edgedet.benchmarks.latency.compare import choose_least_band, compare, compare_medians
from edgedet.benchmarks.latency.options import parse_numbers
from edgedet.benchmarks.latency.page import fit_growth, make_page
from edgedet.benchmarks.latency.result import json_from_result, result_from_json
from edgedet.benchmarks.latency.sensors import Settings
from edgedet.benchmarks.latency.sustain import parse_seconds
from edgedet.engines.fake import save_fake
from edgedet.errors import InputError

pytest.importorskip("cv2", reason="edgedet bench resizes by OpenCV")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder with a.json and page.html of a run of two fake models."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_fake_model(Path("a.fake"))
        save_fake("b.fake", META, [])
        write_clip(Path("clip.avi"), frames=4)
        options = ["--source", "clip.avi", "--seconds", "0", "--runs", "6", "--warmup", "1", "--threads", "1"]
        outputs = ["--html", "page.html", "--json", "a.json"]
        assert cli.main(["bench", "--model", "a.fake", "b.fake", *options, *outputs]) == 0
    return folder


@pytest.fixture
def measured(written, tmp_path, monkeypatch):
    """Return that run's JSON, and enter a copy of its folder."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return json.loads(Path("a.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("after", "ratio", "verdict"),
    [(100.0, 1.0, "within noise"), (102.0, 1.02, "within noise"), (110.0, 1.1, "slower"), (80.0, 0.8, "faster")],
)
def test_a_difference_beyond_the_band_is_faster_or_slower(after: float, ratio: float, verdict: str) -> None:
    """Runs without any noise have the least band, 3 %."""
    found = compare_medians([100.0] * 20, [after] * 20)
    assert found.ratio == pytest.approx(ratio)
    assert found.band == (0.97, 1.03)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("governors", "clocks_mhz", "wanted"),
    [
        ([], (None, None), 0.10),
        (["performance"], (600.0, 1800.0), 0.03),
        (["schedutil"], (600.0, 1800.0), 0.10),
        (["schedutil"], (1510.0, 1510.0), 0.03),
    ],
)
def test_a_free_clock_widens_the_least_band(governors, clocks_mhz, wanted: float) -> None:
    low, high = clocks_mhz
    found = choose_least_band(Settings(None, None, None, [], governors, high, None, None, None, low, None))
    assert found == wanted
    assert compare_medians([100.0] * 20, [108.0] * 20, found).verdict == (
        "slower" if wanted == 0.03 else "within noise"
    )


def test_noise_that_lasts_widens_the_band() -> None:
    """A quarter of the rounds 30 % slower, all in a row: 10 % more time is no verdict."""
    found = compare_medians([100.0] * 30 + [130.0] * 10 + [100.0] * 20, [110.0] * 40 + [143.0] * 20)
    assert found.band[1] > 1.1
    assert found.verdict == "within noise"


def test_few_runs_say_nothing() -> None:
    assert compare_medians([1.0] * 4, [2.0] * 4).verdict == "fewer than 5 runs say nothing"


def test_a_run_compared_with_itself_is_within_noise(measured, capsys) -> None:
    assert cli.main(["bench", "compare", "a.json", "a.json", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 4  # two models, network and end to end
    assert {row["verdict"] for row in rows} == {"within noise"}
    assert {row["ratio"] for row in rows} == {1.0}


def test_runs_of_different_things_are_refused(measured, capsys) -> None:
    other = copy.deepcopy(measured)
    other["cpu"] = "another"
    with pytest.raises(InputError, match="the processor differs"):
        compare(result_from_json(measured), result_from_json(other))
    Path("old.json").write_text('{"models": []}', encoding="utf-8")
    for words in (
        ["compare", "a.json"],
        ["compare", "a.json", "missing.json"],
        ["compare", "a.json", "old.json"],
        ["compare", "a.json", "a.json", "--html", "b.html"],
        ["frobnicate"],
    ):
        assert cli.main(["bench", *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_models_of_another_number_of_classes_are_not_compare_medians(measured) -> None:
    other = copy.deepcopy(measured)
    other["models"][0]["num_classes"] += 84
    found = compare(result_from_json(measured), result_from_json(other))
    assert len(found.rows) == 2  # of the other model: network and end to end
    assert len(found.unmatched) == 2
    for row in other["models"]:
        row["num_classes"] = 90
    with pytest.raises(InputError, match="no row in common"):
        compare(result_from_json(measured), result_from_json(other))


def test_results_without_a_number_of_classes_are_compared_and_other_work_is_told(measured) -> None:
    """Results of earlier versions do not say it; the number of multiply-accumulates does."""
    other = copy.deepcopy(measured)
    for row in other["models"]:
        del row["num_classes"]
        row["macs"] = 2_500_000_000
    found = compare(result_from_json(measured), result_from_json(other))
    assert len(found.rows) == 4
    assert sum("2500000000" in note for note in found.notes) == 2


def test_a_result_is_read_back_as_it_was_written(measured) -> None:
    assert json.loads(json.dumps(json_from_result(result_from_json(measured)))) == measured


@pytest.mark.parametrize(
    "spoil",
    [
        lambda result: result["models"][0].pop("fps"),
        lambda result: result["models"].append(None),
        lambda result: result.pop("conditions"),
        lambda result: result["conditions"].update(clocks_mhz=3),
        lambda result: result["models"][0].update(input_hw=[1]),
        lambda result: result.update(schema=1),
    ],
)
def test_a_result_with_other_entries_is_refused_in_one_line(measured, capsys, spoil) -> None:
    spoil(measured)
    Path("spoilt.json").write_text(json.dumps(measured), encoding="utf-8")
    assert cli.main(["bench", "compare", "a.json", "spoilt.json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "spoilt.json is no result of `edgedet bench`" in line


@pytest.mark.timeout(30)
def test_nothing_but_a_regular_file_is_read(measured, tmp_path, capsys) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep.json").write_text("[" * 100_000, encoding="utf-8")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    for name, reason in (
        ("pipe", "no regular file"),
        ("/dev/zero", "no regular file"),
        (str(tmp_path), "no regular file"),
        ("deep.json", "is no JSON"),
        ("bytes.json", "no UTF-8"),
    ):
        for command in (["bench", "compare", name, name], ["plan", "--from", name, "--fps", "10"]):
            assert cli.main(command) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert reason in line


def test_the_page_is_one_file_with_every_model_and_no_address_outside(measured) -> None:
    text = Path("page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.count("<svg") >= 1
    assert "prefers-color-scheme" in text
    assert 'src="' not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    for row in measured["models"]:
        assert f"{row['ms']['network']['p50']:.1f}" in text


def test_the_page_escapes_what_a_file_is_called(measured) -> None:
    result = copy.deepcopy(measured)
    for row in result["models"]:
        row["name"] = "<script>"
    result["failures"] = ["<b>x"]
    assert "<script>" not in make_page(result_from_json(result))
    assert "<b>x" not in make_page(result_from_json(result))


def test_growth_is_the_exponent_of_a_power_law() -> None:
    costs = [1.0, 2.0, 4.0, 8.0]
    exponent, _ = fit_growth(costs, [3.0 * cost**0.9 for cost in costs])
    assert exponent == pytest.approx(0.9)


@pytest.mark.parametrize(("text", "wanted"), [("0-2", [0, 1, 2]), ("1", [1]), ("0,3-4", [0, 3, 4])])
def test_ranges_of_phi(text: str, wanted: list[int]) -> None:
    assert parse_numbers("--phi", text) == wanted


@pytest.mark.parametrize("text", ["", "a", "2-1", "-1"])
def test_impossible_ranges_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_numbers("--phi", text)


@pytest.mark.parametrize(("text", "wanted"), [("45s", 45.0), ("30m", 1800.0), ("1h", 3600.0)])
def test_times_of_sustain(text: str, wanted: float) -> None:
    assert parse_seconds(text) == wanted


def test_a_long_run_is_cut_into_windows(measured, capsys) -> None:
    options = ["--source", "clip.avi", "--seconds", "0", "--runs", "5", "--warmup", "1", "--threads", "1"]
    assert cli.main(["bench", "--model", "a.fake", *options, "--sustain", "1s", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    windows = row["sustain"]["windows"]
    assert windows
    assert all(window["fps"] > 0 for window in windows)
    assert row["sustain"]["kept"] is None or row["sustain"]["kept"] > 0
