"""Engines and models of the SIMULATED TensorRT, which several files of tests share."""

from __future__ import annotations

import functools
import gc
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from simulated_driver import VIOLATIONS, forget_binding
from trt_built import NAMES, VERSIONS, V
from trt_models import SPEC, build_unjudged, simulate, write_models

from edgedet.board.build import BuildRequest, build_model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and an INT8 engine of V, to copy."""
    folder = tmp_path_factory.mktemp("built")
    int8 = write_models(folder)
    with pytest.MonkeyPatch.context() as patch:
        simulate(patch, folder / "simulation", V)
        build_model(BuildRequest(int8, tune=False))
    return int8.with_suffix(".engine")


@pytest.fixture(scope="module")
def built_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give an INT8 engine of a version, of the models that ``write_models`` writes; each is built once."""

    @functools.cache
    def engine_of(version: str, **options: int) -> Path:
        folder = tmp_path_factory.mktemp("built")
        with pytest.MonkeyPatch.context() as patch:
            simulate(patch, folder / "simulation", version)
            return build_unjudged(write_models(folder, **options))

    return engine_of


@pytest.fixture
def here(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine with its ONNX files beside it, on the machine that it was built on."""
    for name in NAMES:
        shutil.copy(built.with_name(name), tmp_path)
    simulate(monkeypatch, tmp_path, V)
    return tmp_path / "tiny_int8.engine"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (1, *SPEC.input_hw, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    simulate(monkeypatch, tmp_path, request.param)
    return importlib.import_module("tensorrt")


@pytest.fixture
def trt10(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    simulate(monkeypatch, tmp_path, "10.3.0")
    return importlib.import_module("tensorrt")


@pytest.fixture(scope="module")
def earlier_tests_are_left_out_of_collections() -> None:
    """With what they keep, each collection took 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_is_freed_without_a_context(earlier_tests_are_left_out_of_collections: None) -> Iterator[None]:
    """An engine's memory and its calls belong to the context of the GPU that is bound, until all is collected."""
    forget_binding()  # an earlier test of this thread may have bound the device
    VIOLATIONS.clear()
    yield
    gc.collect()
    assert VIOLATIONS == []
