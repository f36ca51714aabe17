"""A new engine is a row of the table and a module: one is added to a copy of the package, and every command uses it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from media import META, picture, write_fake_model

import edgedet
from edgedet.engines.table import ENGINES, PRECISIONS, engine_for, engine_named
from edgedet.errors import InputError

cv2 = pytest.importorskip("cv2", reason="pictures are resized by OpenCV")

PACKAGE = Path(edgedet.__file__).parent
HOST_FOLDERS = ("benchmarks", "calibration", "export", "training")

ROW = """    EngineSpec(
        name="toy",
        title="the toy runtime",
        module="edgedet.engines.toy",
        suffixes=(".toy",),
        packages=(Package("toy_runtime", "pip install toy-runtime", int8="no: it is a toy"),),
        side_by_side=True,
    ),
"""
MODULE = '''"""Model files of the toy runtime, which finds the same boxes in every picture."""

from pathlib import Path

from ..errors import require
from .fake import open_model as open_fake
from .table import engine_named


def open_model(path: Path, threads: int):
    (package,) = engine_named("toy").packages
    require(package.module, f"running {path.name}", package.install)
    return open_fake(path, threads)
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the toy engine, its runtime beside it, a model and a photo."""
    root = tmp_path_factory.mktemp("tree")
    large = ("*.mp4", "*.safetensors", "*.tflite", "__pycache__")
    shutil.copytree(PACKAGE, root / "edgedet", ignore=shutil.ignore_patterns(*large, *HOST_FOLDERS))
    for folder in HOST_FOLDERS:
        (root / "edgedet" / folder).symlink_to((PACKAGE / folder).resolve())
    table = root / "edgedet" / "engines" / "table.py"
    text, count = re.subn(r"(ENGINES: .* = \(\n)", lambda match: match[1] + ROW, table.read_text(encoding="utf-8"))
    assert count == 1
    table.write_text(text, encoding="utf-8")
    (root / "edgedet" / "engines" / "toy.py").write_text(MODULE, encoding="utf-8")
    (root / "toy_runtime.py").write_text("__version__ = '1.5'\n", encoding="utf-8")
    write_fake_model(root / "model.toy")
    assert cv2.imwrite(str(root / "photo.png"), picture(100))
    return root


def python(tree: Path, *words: str, returncode: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == returncode, done.stderr
    return done


def figures_of(tree: Path, *words: str) -> dict:
    return json.loads(python(tree, "-m", "edgedet", *words, "--json").stdout)


def test_detector_opens_a_file_of_the_new_engine(tree: Path):
    code = (
        "import cv2, edgedet; detector = edgedet.Detector('model.toy', threads=1);"
        "print(edgedet.__file__, len(detector(cv2.imread('photo.png'))))"
    )
    assert python(tree, "-c", code).stdout.split() == [str(tree / "edgedet" / "__init__.py"), "2"]


def test_run_uses_it(tree: Path):
    figures = figures_of(tree, "run", "model.toy", "--source", "photo.png")
    assert (figures["model"], figures["frames"], figures["detections"]) == ("model.toy", 1, 2)


def test_info_reads_it(tree: Path):
    figures = figures_of(tree, "info", "model.toy")
    assert (figures["file"], figures["class_names"]) == ("model.toy", list(META.class_names))
    assert ".toy" in python(tree, "-m", "edgedet", "info", "--help").stdout


def test_doctor_tries_its_package_and_lists_its_files(tree: Path):
    report = figures_of(tree, "doctor")
    assert report["probes"]["toy_runtime"]["version"] == "1.5"
    assert report["runs"][0] == ".toy"
    assert report["int8"]["toy_runtime"] == "no: it is a toy"


def test_bench_measures_it_and_names_it_among_the_engines(tree: Path):
    words = ["--runs", "2", "--seconds", "0", "--warmup", "0", "--threads", "1"]
    (row,) = figures_of(tree, "bench", "--model", "model.toy", "--source", "photo.png", *words)["models"]
    assert (row["engine"], row["n"]) == ("toy_runtime 1.5", 2)
    done = python(tree, "-m", "edgedet", "bench", "--phi", "0", "--engine", "toy", returncode=2)
    assert "fp32 toy: edgedet writes no fp32 file for the toy runtime" in done.stderr
    assert "--engine takes toy, tflite, ort, trt; got 'none'" in (
        python(tree, "-m", "edgedet", "bench", "--phi", "0", "--engine", "none", returncode=2).stderr
    )


def test_errors_name_its_suffix_and_the_command_that_installs_its_package(tree: Path):
    done = python(tree, "-m", "edgedet", "bench", "--model", "model.pth", "--source", "photo.png", returncode=2)
    assert "wanted a name ending in .toy, .tflite, .onnx, .engine, .plan" in done.stderr
    (tree / "toy_runtime.py").rename(tree / "elsewhere.py")
    try:
        done = python(tree, "-m", "edgedet", "run", "model.toy", "--source", "photo.png", returncode=2)
    finally:
        (tree / "elsewhere.py").rename(tree / "toy_runtime.py")
    expected = "edgedet: running model.toy needs toy_runtime, which is not installed: pip install toy-runtime\n"
    assert done.stderr == expected


def test_each_row_is_one_of_a_kind_and_its_module_opens_models():
    names = [engine.name for engine in ENGINES]
    suffixes = [suffix for engine in ENGINES for suffix in engine.suffixes]
    assert len(set(names)) == len(names)
    assert len(set(suffixes)) == len(suffixes)
    for engine in ENGINES:
        assert callable(import_module(engine.module).open_model)
        assert set(engine.files) <= set(PRECISIONS)
        assert all(end.endswith(engine.suffixes) for end in engine.files.values())


def test_an_engine_is_found_by_suffix_and_by_name():
    assert engine_for("a/model.PLAN") is engine_named("trt")
    assert engine_for("weights.pth") is None
    with pytest.raises(InputError, match=r"the engines are tflite, ort, trt; got 'onnx'\."):
        engine_named("onnx")


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("my.onnx", "ort"),
        ("my_int8.onnx", None),
        ("my_int8_fp16.onnx", None),
        ("my_int8.tflite", "tflite"),
        ("my_int8.engine", "trt"),
        ("my.table.json", None),
    ],
)
def test_of_files_that_nobody_named_each_engine_chooses_those_that_are_for_it(name: str, engine: str | None):
    """INT8 ONNX files are TensorRT's, which builds engines from them."""
    assert [spec.name for spec in ENGINES if spec.chooses(Path(name))] == ([engine] if engine else [])
