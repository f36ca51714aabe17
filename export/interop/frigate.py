"""``--for frigate``: files, label map and configuration for Frigate's detectors onnx, openvino, cpu and zmq.

Frigate's onnx detector reads no SSD; the shape that it calls yolonas, boxes after NMS, serves. Read from Frigate 0.18
(commit e3fa7018, 2026-07-23): detectors/detector_config.py and the plugins; regions are square, util/object.py's
calculate_region. The syntax of 0.19: Frigate's tests of its migrate_models, September 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from edgedet.artifact import ArtifactMeta
from edgedet.export.interop.graph_input import load_graph
from edgedet.export.interop.onnx_detections import XYXY_PIXELS, append_nms, name_output
from edgedet.export.interop.onnx_reader import Outputs, onnx_reader
from edgedet.export.interop.target import Agreement, Request, labels_text, verified_file, write_text
from edgedet.export.interop.tflite_app import write_tflite_app
from edgedet.types import Detections

ROWS = 20  # that Frigate reads of a picture
OUTPUT = "detections"
RELEASED, COMING = "0.17 and 0.18", "0.19"  # pull request 23995 of August 2026 replaced "detectors" by "models"
FOLDER = "/config/edgedet"
ENDPOINT = "ipc:///tmp/cache/zmq_detector"
README = """{name} by `edgedet export --for frigate`: copy this folder to {folder}, where Frigate finds it.
Put one block of config.yml (Frigate {released}) or config-0.19.yml into Frigate's own configuration.
Name the objects to track in Frigate as labelmap.txt does; Frigate drops scores below 0.4 itself.
{shape}
Coral: edgetpu_compiler takes the INT8 TFLite file; that was not tried here, as neither compiler nor stick was at hand.
"""
SQUARE = "Frigate cuts square regions and this model's input is square, so nothing is distorted."
NOT_SQUARE = (
    "Frigate stretches its square regions to this model's {w}x{h}: export with --size {side}x{side}, or take the zmq "
    "block, where edgedet keeps their shape."
)


@dataclass(frozen=True)
class Block:
    """One way to run the model in Frigate.

    kind:   of Frigate's detector; option: its setting, (key, value), if any.
    hw:     height and width to which Frigate resizes its regions.
    """

    title: str
    kind: str
    option: tuple[str, str] | None
    model_type: str
    file: str
    pixels: str
    hw: tuple[int, int]

    def model_lines(self) -> list[str]:
        """Return the settings of the model, which both syntaxes have."""
        return [
            f"model_type: {self.model_type}",
            f"path: {FOLDER}/{self.file}",
            f"labelmap_path: {FOLDER}/labelmap.txt",
            f"width: {self.hw[1]}",
            f"height: {self.hw[0]}",
            "input_tensor: nhwc",
            f"input_pixel_format: {self.pixels}",
            "input_dtype: int",
        ]

    def released_lines(self) -> list[str]:
        """Return the block for Frigate RELEASED."""
        option = [] if self.option is None else ["    {}: {}".format(*self.option)]
        model = [f"  {line}" for line in self.model_lines()]
        return ["detectors:", "  edgedet:", f"    type: {self.kind}", *option, "model:", *model]

    def coming_lines(self) -> list[str]:
        """Return the block for Frigate COMING, as Frigate's migration of settings writes it."""
        device = self.kind if self.option is None else f"{self.kind}:{self.option[1]}"
        model = [f"    {line}" for line in self.model_lines()]
        return ["models:", "  - scene: all", f'    devices: ["{device}"]', *model]


def blocks_for(hw: tuple[int, int], tflite: str) -> tuple[Block, ...]:
    """Return the ways to run a model of input ``hw``; ``tflite``: name of its TFLite file."""
    onnx_file = "model_frigate.onnx"
    side = max(hw)
    return (
        Block("ONNX, where Frigate chooses: CPU, GPU", "onnx", None, "yolonas", onnx_file, "bgr", hw),
        Block("OpenVINO", "openvino", ("device", "CPU"), "yolonas", onnx_file, "bgr", hw),
        Block("TFLite on the CPU", "cpu", ("num_threads", "2"), "ssd", tflite, "rgb", hw),
        Block(
            f"any engine of edgedet, TensorRT too: edgedet serve --zmq {ENDPOINT} MODEL (path is not read; for Frigate "
            "in a container see docs/interop.md)",
            "zmq",
            ("endpoint", ENDPOINT),
            "ssd",
            "labelmap.txt",
            "rgb",
            (side, side),  # edgedet fits a square region into its model without changing its shape
        ),
    )


def config_text(blocks: Sequence[Block], version: str, lines: Callable[[Block], list[str]]) -> str:
    """Return a configuration whose first block is active; the others are comments."""
    parts = [f"# Frigate {version}. Copy this folder to {FOLDER}. Take one of the {len(blocks)} blocks."]
    for number, block in enumerate(blocks, start=1):
        hidden = "" if number == 1 else "# "
        parts += ["", f"# {number}. {block.title}", *(hidden + line for line in lines(block))]
    return "\n".join(parts) + "\n"


def write(request: Request) -> list[Agreement]:
    """Write model_frigate.onnx, TFLite files, labelmap.txt, configurations and README.md into the folder."""
    agreements: list[Agreement] = []
    _write_onnx(request, agreements)
    ends = request.files.tflite_files()
    names = [write_tflite_app(request, f"model{end}.tflite", path, agreements, for_coral=True) for end, path in ends]
    h, w = request.meta.spec.input_hw
    blocks = blocks_for((h, w), names[-1])
    shape = SQUARE if h == w else NOT_SQUARE.format(h=h, w=w, side=max(h, w))
    labels = labels_text(request.meta).splitlines()
    text = "".join(f"{index} {name}\n" for index, name in enumerate(labels))
    write_text(request.folder / "labelmap.txt", text)
    write_text(request.folder / "config.yml", config_text(blocks, RELEASED, Block.released_lines))
    write_text(request.folder / "config-0.19.yml", config_text(blocks, COMING, Block.coming_lines))
    readme = README.format(name=request.files.name, folder=FOLDER, released=RELEASED, shape=shape)
    write_text(request.folder / "README.md", readme)
    return agreements


def _write_onnx(request: Request, agreements: list[Agreement]) -> None:
    """Write the file for the onnx detector, and compare its ROWS boxes with edgedet's best ones."""
    made_from = request.files.onnx
    model, meta = load_graph(made_from)
    yolonas_output(model, meta)
    reader = partial(onnx_reader, threads=request.threads, meta=meta, decode=decode)
    name = "model_frigate.onnx"
    with verified_file(request, name, made_from, reader, agreements, ROWS) as temporary:
        temporary.write_bytes(model.SerializeToString())


def yolonas_output(model: onnx.ModelProto, meta: ArtifactMeta) -> None:
    """Change a graph of raw outputs, in place, into one with rows (ROWS, 7): picture, x1 y1 x2 y2, score, class.

    Behind the last box the class is -1, which ends Frigate's reading.
    """
    t, boxes, scores, classes = append_nms(model, meta, XYXY_PIXELS, ROWS)
    last = t.constant("last_axis", [1], np.int64)
    there = t.op("Greater", [scores, t.constant("nothing", 0.0)], ".there")
    ids = t.op("Where", [there, classes, t.constant("no_class", -1.0)], ".ids_or_none")
    columns = [t.op("Unsqueeze", [value, last], f".column{at}") for at, value in enumerate((scores, ids))]
    t.op("Concat", [t.constant("picture", np.zeros((ROWS, 1))), boxes, *columns], OUTPUT, axis=1)
    name_output(model, OUTPUT, TensorProto.FLOAT, (ROWS, 7))


def decode(outputs: Outputs) -> Detections:
    """Read the rows as Frigate does, up to the first without a class."""
    rows = outputs[OUTPUT]
    ends = np.flatnonzero(rows[:, 6] < 0)
    rows = rows[: ends[0]] if len(ends) else rows
    return Detections(np.ascontiguousarray(rows[:, 1:5]), rows[:, 5], rows[:, 6].astype(np.int64))
