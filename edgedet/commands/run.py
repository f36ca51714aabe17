"""``edgedet run``: options to source, model and sinks; the summary and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, TextIO, Tuple, Union

from ..artifact import ArtifactMeta
from ..demo import int8_model
from ..detector import Detector
from ..engines.base import Engine, check_threads, default_threads, open_engine, rebuild_model
from ..engines.table import PUBLIC_ENGINES, engine_for
from ..errors import ArtifactError, InputError, MissingDependency, OutdatedError, PartialFailure, SourceError, require
from ..files import write_json
from ..postprocess import DEFAULT_SCORE, logit_of
from ..stream.live import Say
from ..stream.loop import RunSummary, run_frames
from ..stream.progress import Progress
from ..stream.sources import Source, SourceOptions, open_cameras, open_looped, open_source
from ..stream.stop import Stop
from ..types import CameraStats
from .run_options import add_output_arguments, add_source_arguments, check_at_least, keeper_of, source_options
from .run_outputs import check_save, sinks_of
from .web_options import add_web_arguments, web_options

DESCRIPTION = "Detect on a camera, a video, a stream or images; save, log or show what was found."
EXAMPLE = """  edgedet run --source street.mp4 --save out.mp4 --jsonl out.jsonl
  edgedet run edgedet-out/model.onnx --source photos/ --save annotated/
  edgedet run --camera 0 --web
  edgedet run --camera door=rtsp://10.0.0.7/stream --camera 0 --save recordings/ --keep 10GB"""

EXPORTS = Path("edgedet-out")  # where `edgedet export` writes by default
_NAMED_FAILURES = 5  # in the closing line; --json has all
FILE_DETECTORS = 2  # copies that work side by side on a file, so that no core waits for another one's step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet run``."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help=f"model file (default: the newest in {EXPORTS}/, else the demo)"
    )
    add_source_arguments(parser)
    parser.add_argument(
        "--save", metavar="OUT", help="annotated copy: NAME.mp4, .webm or .mkv for videos and cameras, DIR for images "
        "and cameras; of cameras in segments"
    )  # fmt: skip
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="write the detections, one JSON line a frame")
    parser.add_argument("--show", action="store_true", help="show frames in a window; Esc or q ends")
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, help="leave out what is less sure, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads (default: %(default)s)")
    parser.add_argument("--delegate", metavar="LIB", help="library that runs a .tflite MODEL, e.g. libedgetpu.so.1")
    parser.add_argument("--limit", type=int, metavar="N", help="end after N frames")
    add_output_arguments(parser)
    add_web_arguments(parser)
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the summary as JSON to FILE, or to stdout"
    )


def run(args: argparse.Namespace) -> int:
    """Run, print the summary, and return 0, or 128 + the signal that ended it.

    Raises PartialFailure where some inputs could not be read, SourceError where none could.
    """
    check_at_least(args, 1, "--threads", "--limit")
    check_threads(args.threads)
    options = source_options(args)
    keeper = keeper_of(args)
    logit_of(args.score)
    web_options(args)
    _quieten_opencv()
    text = sys.stderr if args.json == "-" else sys.stdout
    stop = Stop()
    with ExitStack() as held:
        progress = Progress(sys.stderr)
        held.callback(progress.close)
        source = held.enter_context(closing(_open_source(args, stop, options, progress.say)))
        check_save(args.save, source)
        if args.keep is not None and not source.live:
            raise InputError("--keep is for cameras: files end by themselves.")
        model, detectors = _open_detectors(args, source)
        for detector in detectors:
            held.enter_context(closing(detector))
        print(_description_of(model, detectors[0], args.threads), file=text, flush=True)
        progress.expect(min((n for n in (source.total, args.limit) if n is not None), default=None))
        held.enter_context(stop.on_signals())
        failures: List[str] = []
        wanted = sinks_of(args, source, model, detectors, keeper, stop, progress.say, failures)
        sinks = [held.enter_context(sink) for sink in wanted]
        detect = [detector.detect for detector in detectors]
        summary = run_frames(source, detect, sinks, stop, args.limit, progress.update)
        args.score = detectors[0].score  # a viewer of the live page may have changed it
    summary = replace(summary, failures=summary.failures + failures)
    if summary.failures and not summary.frames:
        raise SourceError(summary.failures[0] if len(summary.failures) == 1 else _failure_line(summary))
    _report(args, model, source, summary, stop.signum, text)
    if stop.signum:
        return 128 + stop.signum
    if summary.failures:
        raise PartialFailure(_failure_line(summary))
    return 0


def _open_source(args: argparse.Namespace, stop: Stop, options: SourceOptions, report: Say) -> Source:
    for camera in args.camera or ():
        if camera.lstrip("-").isdigit() and int(camera) < 0:
            raise InputError(f"--camera wants a number from 0 up; got {camera}.")
    if args.loop and args.camera:
        raise InputError("--loop is for a video file: cameras do not end.")
    if args.camera:
        return open_cameras(args.camera, stop, options, report)
    if args.loop and args.source is not None:
        return open_looped(args.source, stop, options, report)
    if args.source is None:
        raise InputError("nothing to look at: name --source FILE, FOLDER or URL, or --camera 0.")
    return open_source(args.source, stop, options, report)


def _quieten_opencv() -> None:
    """Keep OpenCV, FFmpeg and Qt from adding their own words to our one line; the user's settings win.

    They read these once: when cv2 is imported, the first video opened, the first window shown.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # pip's OpenCV has a Qt without fonts, and says so


def _open_detectors(args: argparse.Namespace, source: Source) -> Tuple[Path, List[Detector]]:
    """Return the model and its detector, or for a file copies of it, which share the threads."""
    may_copy = args.delegate is None and (args.model is None or _runs_side_by_side(args.model))
    copies = FILE_DETECTORS if may_copy and not source.live and args.threads >= FILE_DETECTORS else 1
    threads = args.threads // copies
    path, detector = _open_detector(args, threads)
    if not _runs_side_by_side(path):  # the newest export may be a GPU's
        copies = 1
    return path, [detector, *(Detector(path, threads, args.score) for _ in range(copies - 1))]


def _runs_side_by_side(model: Union[str, Path]) -> bool:
    engine = engine_for(model)
    return engine is not None and engine.side_by_side


def _open_detector(args: argparse.Namespace, threads: int) -> Tuple[Path, Detector]:
    """Return the model to use: the one named, else the newest export that opens, else the demo.

    INT8 ONNX files are TensorRT's and slow on a CPU, so they are left out; an INT8 TFLite file is written after its
    float ONNX file, so it comes first where LiteRT is installed: 34 against 84 ms, D0, one x86 thread (docs/tflite.md).
    """
    require("cv2", "edgedet run").setNumThreads(threads)
    if args.model is not None:
        opened = _opened(args.model, threads, args.delegate)
        return Path(args.model), Detector(opened, score=args.score)
    if args.delegate is not None:
        raise InputError("--delegate runs a TFLite file: name one, as in `edgedet run model.tflite --delegate LIB`.")
    exports = [
        path
        for path in EXPORTS.glob("*")
        if any(engine.chooses(path) for engine in PUBLIC_ENGINES) and not path.name.startswith(".")  # being written
    ]
    for path in sorted(exports, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            return path, Detector(_opened(path, threads), score=args.score)
        except (ArtifactError, MissingDependency) as error:
            print(f"edgedet: passed over: {error}", file=sys.stderr)
    if exports:
        raise ArtifactError(f"no model in {EXPORTS}/ can be used: name one, or run `edgedet export` again.")
    demo = int8_model() or _export_demo()
    return demo, Detector(demo, threads, args.score)


def _opened(path: Union[str, Path], threads: int, delegate: Optional[str] = None) -> Tuple[ArtifactMeta, Engine]:
    """Open a model; one that was built for another machine is first built for this one, which is said on stderr."""
    try:
        return open_engine(path, threads, delegate)
    except OutdatedError as error:
        print(f"edgedet: {error}\nedgedet: building {path} again as it was, which takes minutes", file=sys.stderr)
    rebuild_model(path)
    return open_engine(path, threads, delegate)


def _export_demo() -> Path:
    from ..export.export_onnx import export_demo  # host code; it imports torch and onnx when called

    print(f"no model was named and {EXPORTS}/ holds none: exporting the demo model", file=sys.stderr)
    try:
        return export_demo(EXPORTS)
    except MissingDependency as error:
        raise MissingDependency(
            f"no model was named and {EXPORTS}/ holds none; pip install 'edgedet[tflite]' runs the bundled one, or: "
            f"{error}"
        ) from None


def _description_of(model: Path, detector: Detector, threads: int) -> str:
    spec = detector.meta.spec
    return (
        f"model {model}: {spec.name}, {spec.input_hw[0]}x{spec.input_hw[1]}, "
        f"{_counted(len(detector.class_names), 'class', 'es')}, {detector.meta.precision}, "
        f"{_counted(threads, 'thread')}"
    )


def _counted(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"


def _report(
    args: argparse.Namespace, model: Path, source: Source, summary: RunSummary, signum: int, text: TextIO
) -> None:
    ended = "interrupted after " if signum else ""
    print(
        f"{ended}{_counted(summary.frames, 'frame')} in {summary.seconds:.1f} s: {summary.fps:.1f} FPS, "
        f"{_counted(summary.detections, 'detection')}",
        file=text,
    )
    if summary.frames:
        print("stage         p50 ms   p90 ms   p99 ms", file=text)
        for stage, p50_ms in summary.p50_ms.items():
            print(
                f"{stage:<12} {p50_ms:>7.2f}  {summary.p90_ms[stage]:>7.2f}  {summary.p99_ms[stage]:>7.2f}", file=text
            )
        for camera in summary.cameras:
            print(_camera_line(camera), file=text)
        for written in (args.save, args.jsonl):
            if written is not None:
                segments = source.live and written == args.save
                print(f"recorded into segments of {written}" if segments else f"wrote {written}", file=text)
    figures: Dict[str, Any] = {
        "model": str(model),
        "source": source.name,
        "threads": args.threads,
        "score": args.score,
        "interrupted": bool(signum),
        **asdict(summary),
    }
    write_json(args.json, figures)


def _camera_line(camera: CameraStats) -> str:
    age = f", age p50 {camera.age_p50_ms:.0f} ms, p99 {camera.age_p99_ms:.0f} ms" if camera.processed else ""
    left_out = "".join(
        f", {number} {what}" for what, number in (("skipped", camera.skipped), ("stale", camera.stale)) if number
    )
    return (
        f"{camera.name}: {camera.captured} captured, {camera.processed} processed, {camera.dropped} dropped{left_out}, "
        f"{_counted(camera.gaps, 'gap')} ({camera.gap_s:.1f} s){age}"
    )


def _failure_line(summary: RunSummary) -> str:
    named = [failure.rstrip(".") for failure in summary.failures[:_NAMED_FAILURES]]
    more = len(summary.failures) - len(named)
    rest = f"; and {more} more" if more else ""
    return f"{len(summary.failures)} failed, {_counted(summary.frames, 'frame')} done: {'; '.join(named)}{rest}."
