"""A tiny detector as the three ONNX files that `edgedet export --int8` writes, and a place where TensorRT is simulated.

The network has one convolution of each part that recipes know (stem, depthwise, heads), and in its BiFPN a pair of
depthwise and pointwise convolution. Its INT8 weights are exact, so that float and INT8 differ by the rounding of
activations only.
"""

from __future__ import annotations

import functools
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet import demo
from edgedet.artifact import META_KEY, ArtifactMeta
from edgedet.calibration.placement.plan import CENTRED
from edgedet.calibration.placement.table import CalibrationTable
from edgedet.calibration.placement.typed import make_typed_graph
from edgedet.export.onnx_file import finish_graph, write_onnx
from edgedet.specs import SPECS

NAMES = ("cat", "dog")
STEM, DEPTHWISE = "backbone.conv_stem", "backbone.blocks.0.0.conv_dw"
PAIR = ("fpn.cell.0.fnode.0.conv_dw", "fpn.cell.0.fnode.0.conv_pw")
MAGNITUDES = {CENTRED: 127.0, STEM: 127 * 2.0**-5}  # scales 1 and 2^-5, as the INT8 files have
SPEC = replace(SPECS["tf_efficientdet_d0"], num_classes=len(NAMES), input_hw=(128, 128))
WIDTH = 8
CLIP_FRAMES = functools.lru_cache(maxsize=None)(demo.clip_frames)  # decoded once
SIMULATED = ("tensorrt", "pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.runtime")
SHIM = "import os, sys\nsys.path.insert(0, {tests!r})\nfrom {module} import {make}\nsys.modules[__name__] = {call}\n"


def write_models(
    folder: Path, name: str = "tiny", keep_float: tuple[str, ...] = (), top_anchors: int = 0, max_batch: int = 1
) -> Path:
    """Write NAME.onnx, NAME_int8.onnx, NAME_int8_fp16.onnx; return the second.

    keep_float:  names of convolutions that the INT8 files leave float; NAME_int8.table.json then has their ranges.
    top_anchors: how many of the 3069 anchors the graphs keep; 0: all.
    max_batch:   how many pictures the graphs take at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meta = ArtifactMeta(SPEC, NAMES, "fp32", "5" * 64, max_batch=max_batch).with_top_anchors(top_anchors)
    int8 = replace(meta, precision="int8")
    sparse = _model(quantised=True, keep_float=keep_float)
    if keep_float:
        CalibrationTable({}, MAGNITUDES, model_sha256="5" * 64).save(folder / f"{name}_int8.table.json")
    path = folder / f"{name}_int8.onnx"
    for target, model, its in (
        (folder / f"{name}.onnx", _model(quantised=False), meta),
        (path, sparse, int8),
        (folder / f"{name}_int8_fp16.onnx", make_typed_graph(finish_graph(sparse, int8)), int8),
    ):
        write_onnx(model, its, target)
    return path


def build_unjudged(model: Path, precision: str | None = None) -> Path:
    """Build an engine beside the model as `edgedet build --no-tune` does, but compare it with nothing.

    precision: as of BuildRequest. simulate comes first.
    """
    from edgedet.board.recipes import recipes
    from edgedet.engines.tensorrt.board import import_tensorrt, read_board
    from edgedet.engines.tensorrt.build import choose_file, choose_options
    from edgedet.engines.tensorrt.cuda import open_cuda
    from edgedet.engines.tensorrt.engine_file import build_engine

    trt = import_tensorrt("a test")
    with closing(open_cuda()) as cuda:
        board = read_board(trt, cuda)
    (recipe,) = recipes(choose_file(trt, model), precision, tune=False)
    engine = model.with_suffix(".engine")
    build_engine(trt, board, recipe, choose_options(board), engine, {})
    return engine


def left(int8: Path) -> list[str]:
    """Return the names of what lies beside the three models."""
    return sorted(
        {path.name for path in int8.parent.iterdir()} - {"tiny.onnx", "tiny_int8.onnx", "tiny_int8_fp16.onnx"}
    )


def save_changed(model: onnx.ModelProto, path: Path) -> None:
    """Write a model that a test changed, with its metadata and a right checksum, as `edgedet export` would."""
    (text,) = (entry.value for entry in model.metadata_props if entry.key == META_KEY)
    write_onnx(model, ArtifactMeta.from_json(text), path)


def _model(quantised: bool, keep_float: tuple[str, ...] = ()) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {"mean": np.full(3, 128.0, np.float32)}

    def add(kind: str, inputs: list[str], output: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(
        x: str, name: str, shape: tuple[int, ...], exponent: int, read_scale: float, integers=None, **attributes
    ) -> str:
        if integers is None:
            integers = rng.integers(-127, 128, shape).astype(np.int8)
            integers[:, 0, 0, 0] = 127  # so that quantising the float weights gives these integers again
        scales = np.full(shape[0], 2.0**exponent, np.float32)
        weight = f"{name}.weight"
        constants[f"{name}.bias"] = np.full(shape[0], -3.0 if "class" in name else 0.0, np.float32)
        if quantised and name not in keep_float:
            x = pair(x, read_scale)
            constants[weight] = (integers * scales.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)
            constants[f"{weight}.scales"], constants[f"{weight}.zeros"] = scales, np.zeros(shape[0], np.int8)
            quantised_weight = [weight, f"{weight}.scales", f"{weight}.zeros"]
            add("QuantizeLinear", quantised_weight, f"{weight}.int8", axis=0)
            add("DequantizeLinear", [f"{weight}.int8", f"{weight}.scales", f"{weight}.zeros"], f"{weight}.q", axis=0)
            weight = f"{weight}.q"
        else:
            constants[weight] = (integers * scales.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)
        # TensorRT 8's parser asks a convolution of dequantised weights for its kernel_shape
        return add("Conv", [x, weight, f"{name}.bias"], name, kernel_shape=shape[2:], **attributes)

    def pair(x: str, scale: float) -> str:
        if f"{x}.scale" not in constants:
            constants[f"{x}.scale"], constants[f"{x}.zero"] = np.float32(scale), np.int8(0)
            add("QuantizeLinear", [x, f"{x}.scale", f"{x}.zero"], f"{x}.int8")
            add("DequantizeLinear", [f"{x}.int8", f"{x}.scale", f"{x}.zero"], f"{x}.q")
        return f"{x}.q"

    x = add("Cast", ["pixels"], "pixels.float", to=TensorProto.FLOAT)
    x = add("Sub", [x, "mean"], CENTRED)
    x = add("Transpose", [x], "pixels.nchw", perm=[0, 3, 1, 2])
    x = conv(x, STEM, (WIDTH, 3, 8, 8), -16, 1.0, strides=[8, 8])  # 128 -> 16: P3
    x = conv(x, DEPTHWISE, (WIDTH, 1, 3, 3), -9, 2.0**-5, pads=[1, 1, 1, 1], group=WIDTH)
    shift = np.zeros((WIDTH, 1, 3, 3), np.int8)
    shift[:, 0, 0, 1] = 64  # one row down; with scale 2^-6 exactly 1, so that the pair adds no rounding
    roll = np.roll(np.eye(WIDTH, dtype=np.int8) * 64, 1, axis=0)[:, :, None, None]
    x = conv(x, PAIR[0], shift.shape, -6, 0.018, shift, pads=[1, 1, 1, 1], group=WIDTH)
    x = conv(x, PAIR[1], roll.shape, -6, 0.018, roll)
    levels = [x]
    for level in range(4, 8):
        levels.append(add("MaxPool", [levels[-1]], f"p{level}", kernel_shape=[2, 2], strides=[2, 2]))
    widths = {"class_logits": len(NAMES), "box_codes": 4}
    for output, width in widths.items():
        head = {"class_logits": "class_net", "box_codes": "box_net"}[output]
        flat = []
        for level, feature in enumerate(levels, 3):
            name = f"{head}.predict.{level}"
            exponent = -7 if head == "class_net" else -11
            made = conv(feature, name, (9 * width, WIDTH, 1, 1), exponent, 0.018)
            moved = add("Transpose", [made], f"{name}.nhwc", perm=[0, 2, 3, 1])
            constants[f"{head}.shape"] = np.array([1, -1, width], np.int64)
            flat.append(add("Reshape", [moved, f"{head}.shape"], f"{name}.flat"))
        add("Concat", flat, output, axis=1)
    anchors = sum(h * w for h, w in SPEC.level_sizes()) * 9
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("pixels", TensorProto.UINT8, [1, *SPEC.input_hw, 3])],
        [value(name, TensorProto.FLOAT, [1, anchors, width]) for name, width in widths.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def simulate(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str, cuda: str = "pycuda") -> None:
    """Put the simulated packages where imports of this process and of its children find them.

    cuda: "pycuda" or "cuda-python".
    """
    from simulated_cuda import LibCuda

    from edgedet.board import tune as build_tune
    from edgedet.engines.tensorrt import cuda_graph as trt_graph
    from edgedet.judge.gate import verdict

    monkeypatch.setattr(demo, "clip_frames", CLIP_FRAMES)
    monkeypatch.setattr(build_tune, "RUNS", 2)
    monkeypatch.setattr(build_tune, "WARMUP", 0)
    monkeypatch.setattr(verdict, "FEW_RESAMPLES", 10)
    shims = write_shims(folder, cuda)
    there = {name for name in sys.modules if name.split(".")[0] in ("tensorrt", "pycuda", "cuda")}
    for name in there.union(SIMULATED):
        monkeypatch.setitem(sys.modules, name, None)  # so that what a test imports is gone after it
        del sys.modules[name]
    monkeypatch.syspath_prepend(shims)
    monkeypatch.setenv("SIMULATED_TENSORRT", version)
    monkeypatch.delenv("SIMULATED_FAULT", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(trt_graph, "load_driver", LibCuda)


def write_shims(folder: Path, cuda: str = "pycuda") -> Path:
    """Write modules of the simulated packages' names; return their folder, for PYTHONPATH."""
    tests = str(Path(__file__).parent)
    shims = folder / "shims"
    shims.mkdir(parents=True, exist_ok=True)
    call = "module_for(os.environ['SIMULATED_TENSORRT'])"
    texts = {"tensorrt.py": SHIM.format(tests=tests, module="simulated_tensorrt", make="module_for", call=call)}
    if cuda == "pycuda":
        texts["pycuda/__init__.py"] = ""
        texts["pycuda/driver.py"] = SHIM.format(
            tests=tests, module="simulated_cuda", make="pycuda_driver", call="pycuda_driver()"
        )
    else:
        texts["pycuda/__init__.py"] = "raise ModuleNotFoundError('no pycuda here', name='pycuda')"
        texts["cuda/__init__.py"] = texts["cuda/bindings/__init__.py"] = ""
        texts["cuda/bindings/runtime.py"] = SHIM.format(
            tests=tests, module="simulated_cuda", make="cuda_runtime", call="cuda_runtime()"
        )
    for name, text in texts.items():
        (shims / name).parent.mkdir(parents=True, exist_ok=True)
        (shims / name).write_text(text)
    return shims
