"""Run effdet's network with other engines, each with edgedet's engine interface.

Each takes normalised RGB pictures (1, 3, H, W) float32 and gives ten levels, as effdet's network does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.detector import Detector
from edgedet.engines.base import Engine
from edgedet.errors import InputError, require
from edgedet.specs import DetectorSpec
from edgedet.types import Frame, FrameResult, RawOutputs

CALIBRATION_FRAMES = 128  # as many as `edgedet export --int8` takes
Levels = Callable[[np.ndarray], Sequence[np.ndarray]]  # normalised picture -> class logits, then box codes, by level


class LevelsEngine(Engine):
    """An engine that normalises pixels, calls a function of the peer, and joins the ten levels that it returns.

    network_ms: latency of the function alone in the last run; the rest of ``infer`` is normalising and joining.
    """

    def __init__(self, run: Levels, spec: DetectorSpec) -> None:
        self._run, self._spec, self.network_ms = run, spec, 0.0
        mean, std = (np.array(values)[:, None] for values in (spec.mean_rgb, spec.std_rgb))
        self._table = ((np.arange(256)[None] / 255.0 - mean) / std).astype(np.float32)  # (3 RGB, 256)
        self._image = np.empty((1, 3, *spec.input_hw), np.float32)

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run (1, H, W, 3) uint8 BGR pixels."""
        for channel in range(3):
            np.take(self._table[channel], pixels[0, :, :, 2 - channel], out=self._image[0, channel])
        started = time.perf_counter()
        levels = self._run(self._image)
        self.network_ms = (time.perf_counter() - started) * 1e3
        half = len(levels) // 2
        return RawOutputs(
            np.concatenate([_cells(level, self._spec.num_classes) for level in levels[:half]]),
            np.concatenate([_cells(level, 4) for level in levels[half:]]),
        )

    def close(self) -> None:
        """Hold nothing that is not freed with this object."""


class PeerDetector(Detector):
    """A detector whose "network" is the peer's engine alone; normalising counts as pre-processing."""

    def detect(self, frame: Frame) -> FrameResult:
        """See ``Detector``."""
        result = super().detect(frame)
        times = dict(result.timings_ms)
        network_ms = getattr(self._engine, "network_ms", times["network"])
        times["preprocess"] += times["network"] - network_ms
        times["network"] = network_ms
        return replace(result, timings_ms=times)


def _cells(level: np.ndarray, width: int) -> np.ndarray:
    """(1, A * width, h, w) -> (h * w * A, width)."""
    return np.ascontiguousarray(level[0].transpose(1, 2, 0)).reshape(-1, width)


def normalised(pixels: np.ndarray, spec: DetectorSpec) -> np.ndarray:
    """(1, H, W, 3) uint8 BGR -> (1, 3, H, W) float32 RGB."""
    rgb = pixels[..., ::-1].astype(np.float32) / 255
    image = (rgb - np.asarray(spec.mean_rgb, np.float32)) / np.asarray(spec.std_rgb, np.float32)
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


def effdet_network(weights: Path, spec: DetectorSpec) -> Any:
    """Return effdet's own network with the checkpoint's weights, in eval mode; its two lists of levels as one tuple."""
    effdet = _effdet()
    import torch

    config = effdet.get_efficientdet_config(spec.name)
    config.num_classes, config.image_size = spec.num_classes, spec.input_hw
    network = effdet.EfficientDet(config, pretrained_backbone=False)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(state.get("state_dict", state))

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            logits, codes = self.network(x)
            return (*logits, *codes)

    return Flat().eval()


def _effdet() -> Any:
    """Import effdet, also beside a torchvision that was compiled for another torch: the network uses none of it."""
    torch = require("torch", "benchmarks.studies.peers")
    try:
        import torchvision  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    except (ImportError, RuntimeError):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _held.append(library)
    return require("effdet", "benchmarks.studies.peers")


_held: list[Any] = []  # torch drops the operators when the Library object dies


def _torch(weights: Path, meta: ArtifactMeta, threads: int, compiled: bool) -> Levels:
    import torch

    torch.set_num_threads(threads)
    network = effdet_network(weights, meta.spec)
    if compiled:
        network = torch.compile(network)

    def run(image: np.ndarray) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            return [level.numpy() for level in network(torch.from_numpy(image))]

    return run


def _onnxruntime(path: Path, meta: ArtifactMeta, threads: int) -> Levels:
    """The same session options as ours (edgedet/engines/ort.py)."""
    ort = require("onnxruntime", "benchmarks.studies.peers")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (image_input,) = session.get_inputs()
    return lambda image: session.run(None, {image_input.name: image})


def _openvino(path: Path, meta: ArtifactMeta, threads: int) -> Levels:
    openvino = require("openvino", "benchmarks.studies.peers")
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    compiled = openvino.compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> Sequence[np.ndarray]:
        request.infer({0: image}, share_inputs=True, share_outputs=True)
        return [request.get_output_tensor(index).data for index in range(len(compiled.outputs))]

    return run


# kind of peer -> what runs its file; "litert" has an engine of its own
_RUNS: dict[str, Callable[[Path, ArtifactMeta, int], Levels]] = {
    "eager": lambda path, meta, threads: _torch(path, meta, threads, compiled=False),
    "compile": lambda path, meta, threads: _torch(path, meta, threads, compiled=True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def open_peer(model: str, threads: int, score: float) -> Detector:
    """Open "KIND|FILE|OURS", OURS a model file of ours of the same network, which says names, sizes and anchors."""
    peer, _, ours = model.rpartition("|")
    from edgedet.engines.base import open_engine

    meta, engine = open_engine(ours, 1)
    engine.close()
    return PeerDetector((meta, peer_engine(peer, meta, threads)), threads, score)


def peer_engine(peer: str, meta: ArtifactMeta, threads: int) -> Engine:
    """Open "KIND|FILE"; ``meta`` is of our file of the same network. Raises InputError for an unknown kind."""
    kind, _, path = peer.partition("|")
    if kind == "litert":
        from edgedet.benchmarks.studies.peers.litert import LitertEngine

        return LitertEngine(Path(path), meta, threads)
    if kind not in _RUNS:
        raise InputError(f"unknown peer {kind}: wanted litert, {', '.join(_RUNS)}.")
    return LevelsEngine(_RUNS[kind](Path(path), meta, threads), meta.spec)


def export_plain_onnx(weights: Path, spec: DetectorSpec, out: Path) -> None:
    """Export effdet's network as it is, by PyTorch's exporter."""
    import warnings

    import torch

    network = effdet_network(weights, spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, *spec.input_hw),), str(out), opset_version=17, dynamo=False)


def quantise_by_nncf(plain_onnx: Path, frames: Sequence[np.ndarray], spec: DetectorSpec, out: Path) -> None:
    """Quantise the plain ONNX with NNCF as its documentation says for such networks: preset "mixed", all frames."""
    nncf, openvino = require("nncf", "benchmarks.studies.peers"), require("openvino", "benchmarks.studies.peers")
    model = openvino.convert_model(str(plain_onnx))
    data = nncf.Dataset(list(frames), lambda pixels: normalised(pixels, spec))
    quantised = nncf.quantize(
        model, data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(frames), fast_bias_correction=False
    )
    openvino.save_model(quantised, str(out), compress_to_fp16=False)
    print(f"quantised by NNCF {nncf.__version__} on {len(frames)} frames", file=sys.stderr)
