"""``edgedet export``: checkpoint -> verified model file. Imports torch and onnx only when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .. import __version__, demo
from ..artifact import ArtifactMeta
from ..errors import InputError, require
from ..files import atomic_path, cache_folder, sha256_of, write_json

if TYPE_CHECKING:
    from ..export.checkpoints.checkpoint import Checkpoint
    from ..export.int8.export_int8 import Int8Options, Int8Result

DESCRIPTION = "Turn an EfficientDet checkpoint into a fused ONNX file and verify it against the checkpoint."
EXAMPLE = """  edgedet export --phi 0 --int8 --weights demo
  edgedet export --phi 0 --weights tf_efficientdet_d0_cards.pth
  edgedet export --phi 0 --weights demo --size 384x512"""
DEFAULT_OUT = Path("edgedet-out")
DEMO = "demo"


@dataclass(frozen=True)
class TfliteResult:
    """The TFLite file beside the ONNX file."""

    path: str
    bytes: int
    sha256: str
    max_relative_difference: float


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, as ``--json`` prints it."""

    model: str
    onnx: str
    bytes: int
    sha256: str
    nodes: int
    input_hw: tuple[int, int]
    classes: int
    max_relative_difference: float
    frames: int
    tflite: TfliteResult | None = None
    int8: list[Int8Result] | None = None
    engine: dict[str, Any] | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet export``."""
    parser.add_argument("--phi", type=int, metavar="N", help="compound scaling: 0-7, or 8 for D7x")
    parser.add_argument(
        "--variant", metavar="NAME", help="the model's name where phi is not enough, e.g. tf_efficientdet_d0_ap"
    )
    parser.add_argument(
        "--weights", metavar="FILE",
        help="checkpoint (.pth, .h5, .safetensors), or 'demo' for the bundled model (default: official COCO weights)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--name", help="file name without suffix (default: the checkpoint's)")
    parser.add_argument(
        "--names", type=Path, metavar="FILE",
        help="class names, one a line (default: STEM.json, COCO's for 90 classes, else class_0, ...)",
    )  # fmt: skip
    parser.add_argument("--classes", metavar="A,B", help="keep these classes only, by name: less work (default: all)")
    parser.add_argument("--size", metavar="HxW", help="input size in pixels, e.g. 384x640 (default: the model's own)")
    parser.add_argument("--tflite", action="store_true", help="also write NAME.tflite, for ARM boards")
    parser.add_argument(
        "--target", choices=("tensorrt",), help="also build an engine where TensorRT is, as `edgedet build` does"
    )
    int8 = parser.add_argument_group("INT8, with --int8")
    int8.add_argument(
        "--int8", action="store_true", help="also write NAME_int8.onnx for TensorRT and NAME_int8.tflite for ARM"
    )
    int8.add_argument(
        "--calib", metavar="SRC", help="video, folder, image or camera of the scene (default: bundled photographs)"
    )
    int8.add_argument(
        "--frames", type=int, default=128, metavar="N", help="frames to take of it (default: %(default)s)"
    )
    int8.add_argument(
        "--table", type=Path, metavar="FILE", help="use the ranges of an earlier export's NAME.table.json"
    )
    int8.add_argument(
        "--recover", choices=("none", "fast", "full"), default="fast",
        help="fast: equalise and correct biases; full: also round weights layer by layer (default: %(default)s)",
    )  # fmt: skip
    int8.add_argument(
        "--observer", default="mixed", metavar="NAME",
        help="how ranges are chosen: mixed, mse, minmax or percentile (default: %(default)s, by part of the network)",
    )  # fmt: skip
    int8.add_argument(
        "--keep-float", default="stem,depthwise,se", metavar="A,B",
        help="left float for TensorRT: stem, depthwise, se, heads, or layers by name (default: %(default)s)",
    )  # fmt: skip
    int8.add_argument(
        "--revert", type=int, metavar="N",
        help="put back to float at most N layers where INT8 fails (default: 16; 0: none)",
    )  # fmt: skip
    int8.add_argument("--data", type=Path, metavar="X", help="judge by labels: COCO JSON or Pascal VOC folder")
    int8.add_argument("--images", type=Path, metavar="DIR", help="where the images of --data are")
    int8.add_argument(
        "--score", type=float, default=0.4, help="score that the files are judged at (default: %(default)s)"
    )
    int8.add_argument(
        "--max-drop",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="share of AP that may be lost (default: %(default)s)",
    )
    int8.add_argument("--force", action="store_true", help="keep files whose accuracy could not be verified")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="threads of the verification (default: %(default)s)"
    )
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the figures as JSON to FILE, or to stdout"
    )


def run(args: argparse.Namespace) -> int:
    """Export, print what was written and how far it is from the checkpoint."""
    if args.weights is None and args.phi is None and args.variant is None:
        raise InputError(
            "edgedet export needs --weights FILE, or --weights demo for the bundled model, or --phi N (or --variant "
            "NAME) alone for official COCO weights."
        )
    for module in ("torch", "onnx", "onnxruntime", "cv2", "safetensors"):
        require(module, "edgedet export")
    if args.tflite:
        for module in ("ai_edge_litert", "flatbuffers"):
            require(module, "edgedet export --tflite")
    options = _int8_options(args) if args.int8 else None
    checkpoint, weights = _load(args)
    name = args.name or (demo.MODEL_NAME if args.weights == DEMO else weights.stem)
    result = export_onnx(checkpoint, args.out / f"{name}.onnx", args.threads, args.tflite)
    text = sys.stderr if args.json == "-" else sys.stdout
    h, w = result.input_hw
    print(
        f"wrote {result.onnx}: {result.model}, {h}x{w}, {result.classes} classes, {result.nodes} nodes, "
        f"{result.bytes / 1e6:.1f} MB",
        file=text,
    )
    print(
        f"verified on {result.frames} frames: outputs within {result.max_relative_difference:.1e} of the checkpoint's "
        "(share of the largest)",
        file=text,
    )
    if result.tflite is not None:
        print(
            f"wrote {result.tflite.path}: {result.tflite.bytes / 1e6:.1f} MB, verified likewise: outputs within "
            f"{result.tflite.max_relative_difference:.1e}",
            file=text,
        )
    if options is not None:
        int8 = _export_int8(Path(result.onnx), options, text)
        result = replace(result, int8=int8)
    if args.target is not None:
        result = replace(result, engine=_build_engine(result, args, text))
    write_json(args.json, asdict(result))
    return 0


def _build_engine(result: ExportResult, args: argparse.Namespace, text: TextIO) -> dict[str, Any] | None:
    """Build an engine of the INT8 file, else of the float one; say where to do it if TensorRT is not here."""
    from importlib.util import find_spec

    path = next((one.path for one in result.int8 or () if one.path.endswith("_int8.onnx")), result.onnx)
    if find_spec("tensorrt") is None:
        print(
            f"edgedet: no engine: TensorRT is not on this machine; copy {Path(path).parent}/*.onnx to the board "
            f"and run `edgedet build {Path(path).name}` there",
            file=sys.stderr,
        )
        return None
    from .build import build_model

    return build_model(Path(path), source=args.calib, score=args.score, text=text)


def _int8_options(args: argparse.Namespace) -> Int8Options:
    """Check the options of --int8 before anything is computed."""
    from ..calibration.ranges.observe import OBSERVERS
    from ..export.int8.export_int8 import Int8Options
    from ..export.int8.revert import MOST
    from ..judge.labels import read_dataset
    from ..postprocess import logit_of

    keep_float = tuple(name for name in args.keep_float.split(",") if name)
    if args.observer not in OBSERVERS:
        raise InputError(f"--observer takes {', '.join(OBSERVERS)}; got {args.observer!r}.")
    logit_of(args.score)
    if args.revert is not None and args.revert < 0:
        raise InputError(f"--revert takes a number of layers from 0 on; got {args.revert}.")
    return Int8Options(
        args.calib, args.frames, recovery=args.recover, observer=args.observer, keep_float=keep_float, table=args.table,
        labels=None if args.data is None else read_dataset(args.data, args.images), score=args.score,
        max_drop=args.max_drop, force=args.force, threads=args.threads, is_demo=args.weights == DEMO,
        revert=MOST if args.revert is None else args.revert,
    )  # fmt: skip


def _export_int8(float_path: Path, options: Int8Options, text: TextIO) -> list[Int8Result]:
    from ..export.int8.export_int8 import export_int8, float_model

    model, meta = float_model(float_path)
    written = export_int8(float_path, model, meta, options, lambda line: print(line, file=sys.stderr, flush=True))
    for result in written:
        print(
            f"wrote {result.path}: {result.bytes / 1e6:.1f} MB, {100 * result.int8_mac_share:.1f} % of the MACs in "
            f"INT8, {result.gate['verdict']}",
            file=text,
        )
    return written


def _load(args: argparse.Namespace) -> tuple[Checkpoint, Path]:
    """Return the checkpoint at the wanted size, and the file that it is from."""
    from ..export.checkpoints.checkpoint import load_checkpoint, name_of_phi, parse_size
    from ..export.checkpoints.download import fetch
    from ..export.checkpoints.registry import url_of
    from ..export.checkpoints.select_classes import with_classes
    from ..specs import resized, spec_for

    wanted = args.variant or (None if args.phi is None else name_of_phi(args.phi))
    if wanted is not None:
        spec_for(wanted)
    size = parse_size(args.size) if args.size else None
    if args.weights is None:
        path = fetch(url_of(str(wanted)), cache_folder())
    else:
        path = demo.WEIGHTS if args.weights == DEMO else Path(args.weights)
    checkpoint = load_checkpoint(path, wanted, args.names, exact=args.variant is not None)
    for note in checkpoint.notes:
        print(f"{path}: {note}", file=sys.stderr)
    if args.classes is not None:
        checkpoint = with_classes(checkpoint, args.classes.split(","))
    return (replace(checkpoint, spec=resized(checkpoint.spec, size)) if size else checkpoint), path


def export_onnx(checkpoint: Checkpoint, path: Path, threads: int, tflite: bool = False) -> ExportResult:
    """Write the fused float ONNX file, and with ``tflite`` the same as .tflite beside it; verify both.

    Nothing is left at the path of a file that fails.

    Raises VerificationError where the file does not do what the network does.
    """
    import onnx
    import torch

    from ..export.checkpoints.checkpoint import network_from_checkpoint
    from ..export.fusion.fuse import graph_from_network
    from ..export.verify import FRAMES, verify

    torch.set_num_threads(threads)
    network = network_from_checkpoint(checkpoint)
    versions = {"edgedet": __version__, "torch": torch.__version__, "onnx": onnx.__version__}
    meta = ArtifactMeta(checkpoint.spec, checkpoint.class_names, "fp32", checkpoint.sha256, versions=versions)
    frames = demo.clip_frames(FRAMES)
    with atomic_path(path) as temporary:
        model = graph_from_network(network, meta)
        temporary.write_bytes(model.SerializeToString())
        found = verify(temporary, network, frames, threads)
        report: dict[str, Any] = {"verify": {**asdict(found), "reference": "network in PyTorch"}}
        model = _with_meta(model, replace(meta, report=report))
        temporary.write_bytes(model.SerializeToString())
    written = _export_tflite(model, meta, network, frames, path.with_suffix(".tflite"), threads) if tflite else None
    return ExportResult(
        model=checkpoint.spec.name,
        onnx=str(path),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        nodes=len(model.graph.node),
        input_hw=checkpoint.spec.input_hw,
        classes=checkpoint.spec.num_classes,
        max_relative_difference=found.worst,
        frames=found.frames,
        tflite=written,
    )


def _export_tflite(
    model: Any, meta: ArtifactMeta, network: Any, frames: list[Any], path: Path, threads: int
) -> TfliteResult:
    from ..export.tflite.writer import write_tflite
    from ..export.verify import verify

    with atomic_path(path) as temporary:
        write_tflite(model, meta, temporary)
        found = verify(temporary, network, frames, threads)
        report: dict[str, Any] = {"verify": {**asdict(found), "reference": "network in PyTorch"}}
        write_tflite(model, replace(meta, report=report), temporary)
    return TfliteResult(str(path), path.stat().st_size, sha256_of(path), found.worst)


def _with_meta(model: Any, meta: ArtifactMeta) -> Any:
    from onnx import helper

    from ..artifact import META_KEY

    helper.set_model_props(model, {META_KEY: meta.to_json()})
    return model


def export_demo(out: Path) -> Path:
    """Export the bundled model to ``out`` and return the file's path."""
    for module in ("torch", "onnx", "onnxruntime", "cv2", "safetensors"):
        require(module, "exporting the demo model")
    from ..export.checkpoints.checkpoint import load_checkpoint

    path = out / f"{demo.MODEL_NAME}.onnx"
    export_onnx(load_checkpoint(demo.WEIGHTS), path, os.cpu_count() or 1)
    return path
