"""Counting instructions: a file is taken apart into models that run, and marks of the emulator become counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from installs import ROOT

from edgedet.benchmarks.profile.tflite_nodes import SWISH
from edgedet.benchmarks.studies.tflite.instructions import Count, KindCost, count_instructions, format_table, main
from edgedet.benchmarks.studies.tflite.parts import parts_of
from edgedet.errors import InputError, UnsupportedError

pytest.importorskip("ai_edge_litert")
SHAPE = (1, 4, 4, 8)


def small_model(path: Path) -> Path:
    """conv -> a; a x sigmoid(a) -> b; conv of the same shapes on b -> c; b + c -> the output."""
    from edgedet.export.tflite.builder import Scales, TfliteBuilder

    builder = TfliteBuilder()
    rng = np.random.default_rng(0)

    def tensor(name: str, scale: float, zero_point: int = 0) -> int:
        return builder.tensor(name, SHAPE, np.int8, Scales(np.array([scale], np.float32), zero_point))

    def conv(x: int, y: int, name: str) -> None:
        scales = Scales(np.full(8, 0.01, np.float32))
        weights = builder.constant(f"{name}.w", rng.integers(-127, 128, (8, 1, 1, 8)).astype(np.int8), scales)
        bias = builder.constant(f"{name}.b", rng.integers(-99, 99, 8).astype(np.int32), scales)
        options = dict(padding=1, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
        builder.op("CONV_2D", [x, weights, bias], [y], **options)

    x, a, gate = tensor("x", 0.1), tensor("a", 0.1), tensor("gate", 1 / 256, -128)
    b, c, total = tensor("b", 0.1), tensor("c", 0.1), tensor("total", 0.2)
    conv(x, a, "first")
    builder.op("LOGISTIC", [a], [gate])
    builder.op("MUL", [a, gate], [b])
    conv(b, c, "second")
    builder.op("ADD", [b, c], [total])
    path.write_bytes(builder.finished([x], [total]) + b"what follows a flatbuffer is ignored")
    return path


def run_model(flatbuffer: bytes, *inputs: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    for details, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_the_parts_of_a_file_do_one_after_the_other_what_it_does(tmp_path: Path):
    path = small_model(tmp_path / "small.tflite")
    parts = list(parts_of(path))
    assert [part.kind for part in parts] == ["CONV_2D", SWISH, "CONV_2D", "ADD"]
    assert [part.operators for part in parts] == [1, 2, 1, 1]
    assert [part.is_convolution for part in parts] == [True, False, True, False]
    x = np.random.default_rng(1).integers(-128, 128, SHAPE).astype(np.int8)
    b = run_model(parts[1].flatbuffer, run_model(parts[0].flatbuffer, x))
    total = run_model(parts[3].flatbuffer, b, run_model(parts[2].flatbuffer, b))
    np.testing.assert_array_equal(total, run_model(path.read_bytes(), x))
    assert len(np.unique(total)) > 20


def test_parts_of_equal_shapes_share_a_key(tmp_path: Path):
    first, swish, second, add = (part.key for part in parts_of(small_model(tmp_path / "small.tflite")))
    assert first == second
    assert len({first, swish, add}) == 3


def fake_env(folder: Path, marks: list[int], code: int = 0) -> Path:
    """A fake emulated system whose program prints marks as the plugin does, and other lines between them."""
    folder.mkdir()
    lines = "".join(f"echo instructions {mark} >&2; echo INFO: noise >&2\n" for mark in marks)
    (folder / "python").write_text(f"#!/bin/sh\n{lines}echo out of memory >&2\nexit {code}\n")
    (folder / "python").chmod(0o755)
    for name in ("qemu-counting", "count_instructions.so"):
        (folder / name).write_text("")
    return folder


def test_what_two_marks_with_nothing_between_cost_is_taken_off(tmp_path: Path):
    env = fake_env(tmp_path / "env", [100, 110, 500, 1510, 2000, 2510])
    assert count_instructions(env, "cortex-a72", [Path("a.tflite"), Path("b.tflite")]) == [1000, 500]


def test_a_program_that_fails_is_told_by_its_last_line(tmp_path: Path):
    with pytest.raises(UnsupportedError, match=r"emulated program failed \(1\): out of memory"):
        count_instructions(fake_env(tmp_path / "failing", [100, 110, 500], code=1), "cortex-a72", [Path("a.tflite")])
    with pytest.raises(UnsupportedError, match=r"emulated program failed \(0\)"):
        count_instructions(fake_env(tmp_path / "silent", [100, 110]), "cortex-a72", [Path("a.tflite")])


def test_a_folder_without_a_counting_emulator_is_told_in_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"make_aarch64_env.sh .* --count makes it"):
        count_instructions(tmp_path, "cortex-a72", [Path("a.tflite")])


def test_the_table_gives_ratios_to_the_first_file_on_the_same_core():
    kinds = (KindCost("CONV_2D", 3, 80_000_000), KindCost("ADD", 2, 15_000_000))
    peer = Count("peer", "", "cortex-a72", 100_000_000, kinds, 80_000_000)
    ours = Count("ours", "", "cortex-a72", 90_000_000, kinds, 78_000_000)
    lines = format_table([peer, ours]).splitlines()
    assert " ".join(lines[0].split()) == "cortex-a72 100.000 M 1.000 outside convolutions 20.000 M 1.000 peer"
    assert " ".join(lines[1].split()) == "CONV_2D 3 80.000 M"
    assert " ".join(lines[3].split()) == "cortex-a72 90.000 M 0.900 outside convolutions 12.000 M 0.600 ours"


def test_the_command_prints_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    env = fake_env(tmp_path / "env", [100, 110, 500, 1510])
    path = small_model(tmp_path / "small.tflite")
    assert main(["--env", str(env), "--model", str(path), "--cpu", "cortex-a76", "--json"]) == 0
    (count,) = json.loads(capsys.readouterr().out)["counts"]
    assert (count["cpu"], count["instructions"], count["kinds"]) == ("cortex-a76", 1000, [])


@pytest.mark.slow
def test_counts_are_the_same_twice_and_dot_products_save_instructions(tmp_path: Path):
    """Builds the counting emulator, 3 minutes. 64 x 64 x 64 to 64 channels, 16.8 M products: 5.3 M and 1.8 M seen."""
    from edgedet.export.tflite.builder import Scales, TfliteBuilder

    env = tmp_path / "env"
    made = subprocess.run(
        [str(ROOT / "scripts/make_aarch64_env.sh"), str(env), "--count"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    if made.returncode == 77:
        pytest.skip(made.stderr.splitlines()[-1])
    assert made.returncode == 0, made.stderr
    builder, shape = TfliteBuilder(), (1, 64, 64, 64)
    scales = Scales(np.full(64, 0.01, np.float32))
    x, y = (builder.tensor(name, shape, np.int8, Scales(np.array([0.1], np.float32))) for name in "xy")
    weights = builder.constant("w", np.ones((64, 1, 1, 64), np.int8), scales)
    bias = builder.constant("b", np.zeros(64, np.int32), scales)
    options = dict(padding=1, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    builder.op("CONV_2D", [x, weights, bias], [y], **options)
    path = tmp_path / "conv.tflite"
    path.write_bytes(builder.finished([x], [y]))
    (a72,), (a72_again,) = (count_instructions(env, "cortex-a72", [path]) for _ in range(2))
    (a76,) = count_instructions(env, "cortex-a76", [path])
    assert a72 == pytest.approx(a72_again, abs=100)  # 13 of 5.3 M apart were seen where another program was at work
    assert 4.5e6 < a72 < 6e6
    assert 1.5e6 < a76 < 2.2e6
