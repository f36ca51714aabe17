"""``edgedet run``: run a model on a source, print the summary, and return the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, TextIO

from ..detector import Detector
from ..errors import PartialFailure, SourceError
from ..progress import count_of
from ..runner.run import RunOptions, RunResult, run_detection
from ..schemas import write_figures
from ..stream.camera_stats import CameraStats
from ..stream.loop import RunSummary
from ..stream.progress import Progress
from ..track.count import ObjectCount
from ..types import FrameResult
from .options import add_json, text_stream
from .run_arguments import add_run_arguments
from .run_options import run_options

DESCRIPTION = "Detect on a camera, a video, a stream or images; save, log or show the detections."
EXAMPLE = """  edgedet run photo.jpg
  edgedet run street.mp4 --save out.mp4 --jsonl out.jsonl
  edgedet run edgedet-out/model.onnx photos/ --save annotated/
  edgedet run --camera 0 --web
  edgedet run --camera door=rtsp://10.0.0.7/stream --camera 0 --save recordings/ --keep 10GB"""
INPUTS = ("files", "source", "config", "mqtt_password_file", "mqtt_ca")
OUTPUTS = ("save", "jsonl", "json")
OUTPUT_FOLDERS = ("save",)
OUTPUTS_MAY_FAIL = {"on_write_error": "go-on"}

_NAMED_FAILURES = 5  # in the closing line; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet run``."""
    add_run_arguments(parser)
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Run, print the summary, and return 0, or 128 + the signal that ended it.

    Raises PartialFailure where some inputs could not be read, SourceError where none could.
    """
    options = run_options(args)
    text = text_stream("-" if str(args.jsonl) == "-" else args.json)
    _quieten_opencv()

    boxes: Counter[str] = Counter()  # by class
    objects = ObjectCount()
    class_names: List[str] = []

    def print_model(model: Path, detector: Detector) -> None:
        class_names.extend(name for name in detector.class_names if name not in class_names)
        print(_description_of(model, detector, options.model.threads), file=text, flush=True)

    def take(result: FrameResult) -> None:
        boxes.update(class_names[class_id] for class_id in result.detections.class_ids)
        objects.note(result)
        if result.frame.name:
            print("\n".join(_picture_lines(result, class_names)), file=text, flush=True)

    with closing(Progress(sys.stderr)) as progress:
        result = run_detection(options, progress, print_model, take, _export_demo)
    summary = result.summary
    if summary.failures and not summary.frames:
        raise SourceError(summary.failures[0] if len(summary.failures) == 1 else _failure_line(summary))
    by_name = {class_names[class_id]: count for class_id, count in objects.by_class.most_common()}
    _print(options, result, boxes, by_name, text)
    figures = {**_figures(options, result), "boxes": dict(boxes.most_common()), "objects": by_name}
    write_figures("run", args.json, figures)
    if result.signum:
        return 128 + result.signum
    if summary.failures:
        raise PartialFailure(_failure_line(summary))
    return 0


def _quieten_opencv() -> None:
    """Keep OpenCV, FFmpeg and Qt from adding their own words to our one line; the user's settings win.

    They read these once: when cv2 is imported, the first video opened, the first window shown.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # pip's OpenCV has a Qt without fonts, and says so


def _export_demo(folder: Path) -> Path:
    from ..export.export_onnx import export_demo  # host code; it imports torch and onnx when called

    return export_demo(folder)


def _description_of(model: Path, detector: Detector, threads: int) -> str:
    spec = detector.meta.spec
    return (
        f"model {model}: {spec.name}, {spec.input_hw[0]}x{spec.input_hw[1]}, "
        f"{count_of(len(detector.class_names), 'class', 'es')}, {detector.meta.precision}, "
        f"{count_of(threads, 'thread')}"
    )


def _picture_lines(result: FrameResult, class_names: Sequence[str]) -> List[str]:
    """Return what was found in one picture: its name, then class, score and corners in pixels of each detection."""
    detections = result.detections
    lines = [f"{result.frame.name}: {count_of(len(detections), 'detection') if len(detections) else 'nothing found'}"]
    names = [class_names[class_id] for class_id in detections.class_ids]
    width = max((len(name) for name in names), default=0)
    for name, score, (x1, y1, x2, y2) in zip(names, detections.scores, detections.boxes_xyxy):
        lines.append(f"  {name:<{width}}  {score:.2f}  ({x1:.0f}, {y1:.0f}) to ({x2:.0f}, {y2:.0f})")
    return lines


def _print(
    options: RunOptions, result: RunResult, boxes: Mapping[str, int], objects: Mapping[str, int], text: TextIO
) -> None:
    summary = result.summary
    ended = "interrupted after " if result.signum else ""
    print(
        f"{ended}{count_of(summary.frames, 'frame')} in {summary.seconds:.1f} s: {summary.fps:.1f} FPS, "
        f"{count_of(summary.detections, 'detection')}",
        file=text,
    )
    if not summary.frames:
        return
    for title, counts in (("boxes", boxes), ("objects", objects)):
        if counts:
            ordered = sorted(counts.items(), key=lambda item: -item[1])
            print(f"{title}: {', '.join(f'{number} {name}' for name, number in ordered)}", file=text)
    print("stage         p50 ms   p90 ms   p99 ms", file=text)
    for stage, p50_ms in summary.p50_ms.items():
        print(f"{stage:<12} {p50_ms:>7.2f}  {summary.p90_ms[stage]:>7.2f}  {summary.p99_ms[stage]:>7.2f}", file=text)
    for camera in summary.cameras:
        print(_camera_line(camera), file=text)
    save, jsonl = options.outputs.save, options.outputs.jsonl
    if save is not None:
        print(f"recorded into segments of {save}" if result.live else f"wrote {save}", file=text)
    if jsonl is not None and str(jsonl) != "-":
        print(f"wrote {jsonl}", file=text)
    if options.outputs.events is not None:
        print(f"events are in {options.outputs.events.folder}", file=text)


def _figures(options: RunOptions, result: RunResult) -> Dict[str, Any]:
    return {
        "model": str(result.model),
        "source": result.source,
        "threads": options.model.threads,
        "score": result.score,
        "interrupted": bool(result.signum),
        **asdict(result.summary),
    }


def _camera_line(camera: CameraStats) -> str:
    age = f", age p50 {camera.age_p50_ms:.0f} ms, p99 {camera.age_p99_ms:.0f} ms" if camera.processed else ""
    left_out = "".join(
        f", {number} {reason}"
        for reason, number in (("skipped", camera.skipped), ("stale", camera.stale), ("not recorded", camera.left_out))
        if number
    )
    return (
        f"{camera.name}: {camera.captured} captured, {camera.processed} processed, {camera.dropped} dropped{left_out}, "
        f"{count_of(camera.gaps, 'gap')} ({camera.gap_s:.1f} s){age}"
    )


def _failure_line(summary: RunSummary) -> str:
    named = [failure.rstrip(".") for failure in summary.failures[:_NAMED_FAILURES]]
    more = len(summary.failures) - len(named)
    rest = f"; and {more} more" if more else ""
    return f"{len(summary.failures)} failed, {count_of(summary.frames, 'frame')} done: {'; '.join(named)}{rest}."
