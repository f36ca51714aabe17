"""Measure whole files that give boxes (``--for tflite-app``) against edgedet's own file and post-processing.

    python -m edgedet.benchmarks.studies.tflite.boxes_speed cards.pth photographs/ [--classes 6,90] [--rounds 40]

Both files come of one checkpoint, float and INT8. More classes than it has are added to its class layer: rows of the
trained ones' mean and a share of their deviation (--new), so that they detect next to nothing, as most of COCO's
classes in a picture, or with 1 something everywhere. INT8 ranges are those of one picture, as only the time counts.

The pictures are photographs, noise (bytes of equal probability), and photographs with all logits raised until most
anchors pass score 0.1, which is the most work that NMS can get. The two files take turns on each picture, on one
thread. "cpu" is the processor time of that thread, which other programs disturb less than the time on the clock. A
picture lies ready in the order of colours that each file wants.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.anchors import anchors_for
from edgedet.benchmarks.latency.device import describe_device
from edgedet.benchmarks.studies.one_line import ends_in_one_line
from edgedet.engines.base import open_engine
from edgedet.engines.tflite_file import read_trailer
from edgedet.postprocess import postprocess
from edgedet.preprocess import Preprocessor
from edgedet.stream.sources import open_source

SCORE = 0.1  # the lowest that files with boxes give
WARMUP = 3
LOUD_BIAS = 5.0  # added to every logit: backgrounds of about -6 then lie around score 0.27
Clocked = tuple[float, float, int]  # milliseconds on the clock, of processor time, and boxes


@dataclass(frozen=True)
class Row:
    """One kind of file on one kind of pictures.

    Milliseconds are medians over all runs; ratios are medians of app / own over the pairs, [25 %, 75 %] beside.
    """

    classes: int
    precision: str
    pictures: str
    runs: int
    boxes: float
    own_ms: float
    app_ms: float
    own_cpu_ms: float
    app_cpu_ms: float
    postprocess_cpu_ms: float
    ratio: float
    cpu_ratio: float
    cpu_ratio_quartiles: tuple[float, float]

    def line(self) -> str:
        """Return the row of a Markdown table."""
        low, high = self.cpu_ratio_quartiles
        return (
            f"| {self.classes} | {self.precision} | {self.pictures} | {self.boxes:.0f} | {self.own_cpu_ms:.1f} "
            f"| {self.app_cpu_ms:.1f} | {self.postprocess_cpu_ms:.1f} | {self.cpu_ratio:.3f} ({low:.3f} to {high:.3f}) "
            f"| {self.ratio:.3f} |"
        )


HEAD = (
    "| classes | file | pictures | boxes | own, cpu ms | app, cpu ms | of it own post-processing | cpu ratio | clock "
    "ratio |\n|---|---|---|---|---|---|---|---|---|"
)


def with_more_classes(state: dict[str, Any], have: int, want: int, share: float, bias: float) -> dict[str, Any]:
    """Return a checkpoint's tensors with ``want`` classes, and ``bias`` added to every logit.

    share: of the trained rows' deviation that the new ones have.
    """
    import torch

    name = "class_net.predict.conv_pw"
    generator = torch.Generator().manual_seed(0)
    changed = {}
    for leaf in ("weight", "bias"):
        rows = state[f"{name}.{leaf}"]
        per_anchor = rows.reshape(-1, have, *rows.shape[1:])
        shape = (per_anchor.shape[0], want - have, *rows.shape[1:])
        new = torch.randn(shape, generator=generator) * rows.std() * share + rows.mean()
        joined = torch.cat([per_anchor, new], dim=1) if want > have else per_anchor
        changed[f"{name}.{leaf}"] = joined.reshape(-1, *rows.shape[1:]) + (bias if leaf == "bias" else 0.0)
    return {**state, **changed}


def write_files(checkpoint: Path, classes: int, share: float, bias: float, folder: Path) -> dict[str, Path]:
    """Write float and INT8 .tflite files of a checkpoint with this number of classes; return them by precision."""
    from edgedet.artifact import ArtifactMeta
    from edgedet.benchmarks.models.ungated_int8 import NO_SOURCE, write_ungated
    from edgedet.export.checkpoints.checkpoint import load_checkpoint, network_from_checkpoint
    from edgedet.export.fusion.fuse import graph_from_network
    from edgedet.export.tflite.writer import write_tflite

    trained = load_checkpoint(checkpoint)
    spec = replace(trained.spec, num_classes=classes)
    names = tuple(f"class_{index}" for index in range(classes))
    state = with_more_classes(dict(trained.state), trained.spec.num_classes, classes, share, bias)
    network = network_from_checkpoint(replace(trained, spec=spec, class_names=names, state=state))
    meta = ArtifactMeta(spec, names, "fp32", NO_SOURCE)
    model = graph_from_network(network, meta)
    paths = {"float": folder / f"{classes}_{bias}.tflite", "INT8": folder / f"{classes}_{bias}_int8.tflite"}
    write_tflite(model, meta, paths["float"])
    write_ungated(model, meta, paths["INT8"])
    return paths


def own_runner(path: Path) -> Callable[[np.ndarray], tuple[Clocked, float]]:
    """Return edgedet's own file and post-processing as a function of BGR pixels; the last number is the latter's ms."""
    meta, engine = open_engine(path, 1)
    anchors_yxyx = anchors_for(meta.spec)

    def run(bgr: np.ndarray) -> tuple[Clocked, float]:
        clock, cpu = time.perf_counter(), time.thread_time()
        raw = engine.infer(bgr)
        middle = time.thread_time()
        detections = postprocess(raw, anchors_yxyx, 1.0, meta.spec.input_hw, score=SCORE, rules=meta.nms)
        end = time.thread_time()
        return ((time.perf_counter() - clock) * 1e3, (end - cpu) * 1e3, len(detections)), (end - middle) * 1e3

    return run


def app_runner(path: Path) -> Callable[[np.ndarray], Clocked]:
    """Return the same network with the operator behind it as a function of RGB pixels."""
    from ai_edge_litert.interpreter import Interpreter

    from edgedet.export.interop.tflite_detections import with_detections

    meta, flatbuffer = read_trailer(path)
    builder, image, outputs = with_detections(flatbuffer, meta)
    interpreter = Interpreter(model_content=builder.finished([image], outputs), num_threads=1)
    interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    places = [item["index"] for item in interpreter.get_output_details()]

    def run(rgb: np.ndarray) -> Clocked:
        clock, cpu = time.perf_counter(), time.thread_time()
        interpreter.set_tensor(input_index, rgb)
        interpreter.invoke()
        number = [interpreter.get_tensor(place) for place in places][-1]
        end = time.thread_time()
        return (time.perf_counter() - clock) * 1e3, (end - cpu) * 1e3, int(number[0])

    return run


def measure(path: Path, precision: str, kind: str, pictures: Sequence[np.ndarray], rounds: int) -> Row:
    """Run both files on the pictures (1, H, W, 3) uint8 BGR in turn; which of them begins alternates, too."""
    own, app = own_runner(path), app_runner(path)
    times = []
    for number in range(WARMUP + rounds):
        bgr = pictures[number % len(pictures)]
        rgb = np.ascontiguousarray(bgr[..., ::-1])
        if number % 2:
            (own_ms, own_cpu_ms, boxes), postprocess_ms = own(bgr)
            app_ms, app_cpu_ms, _ = app(rgb)
        else:
            app_ms, app_cpu_ms, _ = app(rgb)
            (own_ms, own_cpu_ms, boxes), postprocess_ms = own(bgr)
        if number >= WARMUP:
            times.append((own_ms, app_ms, own_cpu_ms, app_cpu_ms, postprocess_ms, boxes))
    columns = np.array(times).T
    own_ms, app_ms, own_cpu_ms, app_cpu_ms, postprocess_ms = np.median(columns[:5], axis=1).tolist()
    ratios, cpu_ratios = columns[1] / columns[0], columns[3] / columns[2]
    low, middle, high = np.percentile(cpu_ratios, [25, 50, 75]).tolist()
    return Row(
        read_trailer(path)[0].spec.num_classes,
        precision,
        kind,
        rounds,
        float(columns[5].mean()),
        own_ms,
        app_ms,
        own_cpu_ms,
        app_cpu_ms,
        postprocess_ms,
        float(np.median(ratios)),
        middle,
        (low, high),
    )


@ends_in_one_line
def main(argv: Sequence[str] | None = None) -> int:
    """Print a table and, with --json, write its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("photographs")
    parser.add_argument("--classes", default="6,90")
    parser.add_argument("--new", type=float, default=0.3, help="deviation of added classes as a share of the trained")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    frames = [frame.bgr for frame in islice(open_source(args.photographs, lambda: False), args.pictures)]
    rows = []
    print(HEAD, flush=True)
    for classes in map(int, args.classes.split(",")):
        for bias in (0.0, LOUD_BIAS):
            with tempfile.TemporaryDirectory() as folder:
                for precision, path in write_files(args.checkpoint, classes, args.new, bias, Path(folder)).items():
                    spec = read_trailer(path)[0].spec
                    fit = Preprocessor(spec)
                    photographs = [fit(bgr).pixels.copy() for bgr in frames]
                    kinds: dict[str, Sequence[np.ndarray]] = {"photographs, logits raised": photographs}
                    if not bias:
                        noise = np.random.default_rng(0).integers(0, 256, (8, 1, *spec.input_hw, 3), np.uint8)
                        kinds = {"photographs": photographs, "noise": list(noise)}
                    for kind, pictures in kinds.items():
                        rows.append(measure(path, precision, kind, pictures, args.rounds))
                        print(rows[-1].line(), flush=True)
    if args.json:
        text = json.dumps({"device": asdict(describe_device()), "rows": [asdict(row) for row in rows]}, indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
