"""README.md tells the truth: its commands run as they stand and in order, and its tables are what the code does."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from installs import ROOT, run
from many_processes import make_once

from edgedet import demo, errors
from edgedet.benchmarks.planner.boards import find_accuracy
from edgedet.cli import COMMANDS
from edgedet.judge.gate.verdict import MIN_BOXES, MIN_KEPT
from edgedet.specs import PHI, SPECS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def shell_commands() -> list[str]:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def set_up_desk(folder: Path) -> None:
    """Make a folder as a reader has it: `edgedet` on the PATH, my.pth, clip.mp4 and photos/street.jpg.

    my.pth is the demo's state dict, as torch.save writes it in training. Both clips are 10 frames of the demo's.
    """
    import cv2
    import torch
    from safetensors.torch import load_file

    program = folder / "bin/edgedet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m edgedet "$@"\n')
    program.chmod(0o755)
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to("../bin")  # as after the README's first two commands
    (folder / "edgedet/demo").mkdir(parents=True)
    torch.save({name: value.float() for name, value in load_file(demo.WEIGHTS).items()}, folder / "my.pth")
    frames = demo.clip_frames(10)
    h, w = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (w, h))
    for frame in frames:
        writer.write(frame)
    writer.release()
    shutil.copy(folder / "clip.mp4", folder / "edgedet/demo/street.mp4")
    (folder / "photos").mkdir()
    cv2.imwrite(str(folder / "photos/street.jpg"), frames[0])


def run_on_the_desk(command: str, desk: Path) -> subprocess.CompletedProcess[str]:
    done = run(["sh", "-c", command], desk, PATH=f"{desk / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def check_make_target(command: str, desk: Path) -> None:
    """Not run: this test is itself part of `make test`, and the others set up an environment for minutes."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    done = run(["make", "-n", *shlex.split(command)[1:]], ROOT)
    assert done.returncode == 0, done.stderr


def check_install(command: str, desk: Path) -> None:
    """Not run: test_packaging.py installs edgedet without a network, and checks the extras that texts name."""
    assert "." in shlex.split(command) or "'.[" in command or " -m venv " in command


def check_options(command: str, desk: Path) -> None:
    """Not run: needs a camera, a screen or hours. Its options are parsed."""
    _, name, *options = shlex.split(command)
    module = import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    parser.parse_args(options)


TREATMENTS: tuple[tuple[str, Callable[[str, Path], object]], ...] = (
    (r"make \w+$", check_make_target),
    (r"(\S*/)?pip install ", check_install),
    (r"python3 -m venv ", check_install),
    (r"edgedet run .*--(camera|show)\b", check_options),
    (r"edgedet train ", check_options),  # hours: tests/training/ trains a tiny detector
    (r"edgedet export .*--int8\b", check_options),  # minutes: run by the slow test below
    (r"(\.venv/bin/)?edgedet \w+( |$)", run_on_the_desk),
)


def follow_readme(folder: Path) -> None:
    """Treat each command of the README in order: a later one needs what an earlier one wrote.

    outcomes.json tells what came of each: None, or ["skipped" or "failed", why].
    """
    set_up_desk(folder)
    outcomes: dict[str, tuple[str, str] | None] = {}
    for command in shell_commands():
        treat = next((treat for pattern, treat in TREATMENTS if re.match(pattern, command)), unknown)
        outcomes[command] = None
        try:
            treat(command, folder)
        except pytest.skip.Exception as reason:
            outcomes[command] = ("skipped", str(reason))
        except Exception:
            outcomes[command] = ("failed", traceback.format_exc())
    (folder / "outcomes.json").write_text(json.dumps(outcomes))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder after the README's commands."""
    return make_once(tmp_path_factory, "readme", follow_readme)


def unknown(command: str, desk: Path) -> None:
    raise AssertionError(f"README.md shows a command that this test does not know how to treat: {command}")


@pytest.mark.parametrize("command", shell_commands())
def test_the_readmes_command_works_as_it_stands(command: str, desk: Path):
    outcome = json.loads((desk / "outcomes.json").read_text())[command]
    if outcome is not None:
        how, why = outcome
        pytest.skip(why) if how == "skipped" else pytest.fail(why)


@pytest.mark.slow(first=True)
def test_the_readmes_int8_export_works_as_it_stands(desk: Path):
    """At the model's own size: three files that passed; 85 % of the MACs are INT8 for TensorRT, all for TFLite."""
    (command,) = (command for command in shell_commands() if "--int8" in command)
    run_on_the_desk(f"{command} --json int8.json", desk)
    written = json.loads((desk / "int8.json").read_text())["int8"]
    suffixes = ["_int8.onnx", "_int8_fp16.onnx", "_int8.tflite"]
    assert [Path(item["path"]).name for item in written] == [demo.MODEL_NAME + suffix for suffix in suffixes]
    for item, share in zip(written, (0.85, 0.85, 0.99), strict=True):
        assert (desk / item["path"]).is_file()
        assert item["int8_mac_share"] >= share
        assert item["gate"]["verdict"] == "PASSED"
        assert item["gate"]["value"] >= MIN_KEPT
        assert item["gate"]["boxes"] >= MIN_BOXES


def test_the_readme_shows_commands_of_every_kind():
    """So that a changed fence or language name does not silently empty the tests above."""
    treated = {treat for command in shell_commands() for pattern, treat in TREATMENTS if re.match(pattern, command)}
    assert treated == {treat for _, treat in TREATMENTS}


def test_what_the_readme_says_is_written_is_there(desk: Path):
    """After the README's commands: the model, the boxed clip with a line a frame, the boxed photograph."""
    import cv2

    assert (desk / "edgedet-out/my.onnx").stat().st_size > 1e6
    assert len((desk / "out.jsonl").read_text().splitlines()) == 10
    capture = cv2.VideoCapture(str(desk / "out.mp4"))
    assert sum(capture.read()[0] for _ in range(11)) == 10
    assert [path.name for path in (desk / "boxed").iterdir()] == ["street.jpg"]


def test_the_python_example_finds_people(desk: Path):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line]) == 5
    check = "\nassert len(detections) >= 3 and set(detections.class_ids) == {0}, detections"
    done = run([sys.executable, "-c", code + check], desk, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_the_output_contract_is_what_an_exported_file_has(desk: Path):
    """The table with D0's H = W = 512, C = 1 and N = 3840."""
    import onnxruntime

    session = onnxruntime.InferenceSession(desk / "edgedet-out/my.onnx", providers=["CPUExecutionProvider"])
    sizes = {"H": "512", "W": "512", "N": "3840", "C": "1"}
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int32)": "int32"}
    rows = re.findall(r"^\| (in|out) \| `(\w+)` \| \(([\w, ]+)\) (\w+) \|", README, re.MULTILINE)
    written = [
        (way, name, [sizes.get(side, side) for side in shape.split(", ")], kind) for way, name, shape, kind in rows
    ]
    assert written == [
        (way, value.name, [str(side) for side in value.shape], types[value.type])
        for way, values in (("in", session.get_inputs()), ("out", session.get_outputs()))
        for value in values
    ]


def test_the_exit_codes_are_those_of_the_errors():
    rows = re.findall(r"^\| (\d) \| ", README.partition("## Exit codes")[2], re.MULTILINE)
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {int(code) for code in rows} == {0} | {kind.exit_code for kind in classes}


def test_every_local_link_of_the_documents_exists():
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def table_rows(text: str, columns: int) -> list[list[str]]:
    """Return the cells of every table row that has so many columns, without bold marks."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip("* ") for cell in row] for row in rows if len(row) == columns]


def test_the_familys_times_and_sizes_are_those_of_the_measurement():
    figures = json.loads((ROOT / "docs/benchmarks-d0-d4-avx2.json").read_text(encoding="utf-8"))
    by_file = {(row["phi"], row["precision"], row["engine"].split()[0]): row for row in figures["models"]}
    rows = [row for row in table_rows(README, 7) if row[0].isdigit()]
    assert len(rows) == 5
    for phi, side, ap, gmac, float_ms, int8_ms, int8_mb in rows:
        as_float, as_int8 = by_file[int(phi), "fp32", "onnxruntime"], by_file[int(phi), "int8", "ai_edge_litert"]
        spec = SPECS[PHI[int(phi)]]
        assert spec.input_hw == (int(side), int(side))
        assert find_accuracy(spec.name, int(side), "fp32").value == float(ap)
        assert float(gmac) == pytest.approx(as_float["macs"] / 1e9, abs=0.05)
        assert float(float_ms) == pytest.approx(as_float["ms"]["end to end"]["p50"], abs=0.5)
        assert float(int8_ms) == pytest.approx(as_int8["ms"]["end to end"]["p50"], abs=0.5)
        assert float(int8_mb) == pytest.approx(as_int8["bytes"] / 1e6, abs=0.05)


def test_the_table_of_other_tools_is_that_of_the_benchmarks():
    """The first such table of docs/benchmarks.md: name, network ms, ratio, end to end ms, ratio, memory."""
    measured = table_rows((ROOT / "docs/benchmarks.md").read_text(encoding="utf-8"), 6)
    rows = [row for row in table_rows(README, 4) if row[3].endswith(" MB")]
    assert len(rows) == 5
    for _, ms, _, memory in rows:
        assert [row for row in measured if row[3] == ms and f"{row[5]} MB" == memory], (ms, memory)
