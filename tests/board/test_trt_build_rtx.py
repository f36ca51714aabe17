"""`edgedet build`'s own calls against NVIDIA's real bindings: TensorRT-RTX, which parses and builds without a GPU.

It is strongly typed, as TensorRT 11.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from trt_models import save_changed, write_models

trt = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra: NVIDIA's builder, which works without a GPU")

from edgedet.engines.tensorrt.build import BuildOptions, Recipe, build_plan, takes_typed_only
from edgedet.errors import ArtifactError


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")  # its timing caches are no-ops; TensorRT's are not
@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("tiny_int8.onnx", Recipe("int8", "", "int8")),
        ("tiny_int8.onnx", Recipe("int8, depthwise fp16", "", "int8", ("depthwise",))),
        ("tiny_int8.onnx", Recipe("int8, stem and heads fp16", "", "int8", ("stem", "heads"))),
        ("tiny_int8.onnx", Recipe("fp16", "", "fp16")),
        ("tiny.onnx", Recipe("fp16", "", "fp16")),
        ("tiny.onnx", Recipe("fp32", "", "fp32")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_each_recipe_builds_and_tells_how_far_it_is(name: str, recipe: Recipe, int8: Path, tmp_path: Path):
    seen: list[tuple[str, int, int]] = []
    cache = tmp_path / "x.timing"
    options = BuildOptions(64 << 20, low_memory=True, timing_cache=str(cache))
    recipe = Recipe(recipe.name, str(int8.with_name(name)), recipe.precision, recipe.to_float)
    plan, layers = build_plan(trt, recipe, options, lambda *step: seen.append(step))
    assert len(plan) > 100_000
    assert layers > 40
    assert cache.stat().st_size > 0
    assert all(1 <= done <= steps for _, done, steps in seen)
    assert seen
    build_plan(trt, recipe, options, lambda *step: None)  # and takes the cache that it wrote


def test_strong_typing_alone_is_seen():
    assert takes_typed_only(trt)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("pixels.nchw.zero", np.int8(3), "Non-zero zero point is not supported"),
        ("pixels.nchw.scale", np.float16(0), "Scale coefficients must all be positive"),
    ],
)
def test_nvidia_s_refusal_is_one_line_with_the_file(name: str, value, said: str, int8: Path, tmp_path: Path):
    model = onnx.load(int8.with_name("tiny_int8_fp16.onnx"))
    (item,) = (item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
    save_changed(model, tmp_path / "spoilt.onnx")
    with pytest.raises(ArtifactError, match=rf"cannot read .*spoilt\.onnx: .*{said}") as caught:
        build_plan(trt, Recipe("int8", str(tmp_path / "spoilt.onnx"), "int8"), BuildOptions(64 << 20), lambda *_: None)
    assert len(str(caught.value).splitlines()) == 1
