"""``edgedet run``: options to source, model and sinks; the summary and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, ContextManager, Dict, List, TextIO, Tuple

from ..demo import int8_model
from ..detector import Detector
from ..engines.base import default_threads, open_engine
from ..errors import ArtifactError, InputError, MissingDependency, PartialFailure, SourceError, require
from ..files import write_json
from ..postprocess import DEFAULT_SCORE, logit_of
from .draw import draw
from .loop import RunSummary, run_frames
from .progress import Progress
from .sinks import Annotate, Write, image_sink, jsonl_sink, video_sink, window_sink
from .sources import IMAGE_SUFFIXES, ImageSource, Source, open_source
from .stop import Stop

DESCRIPTION = "Detect on a camera, a video, a stream or images; save, log or show what was found."
EXAMPLE = """  edgedet run --source street.mp4 --save out.mp4 --jsonl out.jsonl
  edgedet run edgedet-out/model.onnx --source photos/ --save annotated/
  edgedet run --camera 0 --show"""

EXPORTS = Path("edgedet-out")  # where `edgedet export` writes by default
_NAMED_FAILURES = 5  # in the closing line; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet run``."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help=f"model file (default: the newest in {EXPORTS}/, else the demo)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--source", metavar="X", help="image, folder, 'glob*', video, camera number, or URL")
    where.add_argument("--camera", type=int, metavar="N", help="camera number, same as --source N")
    parser.add_argument("--save", metavar="OUT", help="annotated copy: NAME.mp4 for videos and cameras, DIR for images")
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="write the detections, one JSON line a frame")
    parser.add_argument("--show", action="store_true", help="show frames in a window; Esc or q ends")
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, help="leave out what is less sure, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=default_threads(), help="CPU threads (default: %(default)s)")
    parser.add_argument("--delegate", metavar="LIB", help="library that runs a .tflite MODEL, e.g. libedgetpu.so.1")
    parser.add_argument("--limit", type=int, metavar="N", help="end after N frames")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the summary as JSON to FILE, or to stdout"
    )


def run(args: argparse.Namespace) -> int:
    """Run, print the summary, and return 0, or 128 + the signal that ended it.

    Raises PartialFailure where some inputs could not be read, SourceError where none could.
    """
    where = _source_of(args)
    for option, value in (("--threads", args.threads), ("--limit", args.limit)):
        if value is not None and value < 1:
            raise InputError(f"{option} wants a number from 1 up; got {value}.")
    logit_of(args.score)
    _quieten_opencv()
    text = sys.stderr if args.json == "-" else sys.stdout
    stop = Stop()
    with ExitStack() as held:
        source = held.enter_context(closing(open_source(where, stop)))
        check_save(args.save, source)
        model, detector = _open_detector(args)
        held.enter_context(closing(detector))
        print(_description_of(model, detector, args.threads), file=text, flush=True)
        expected = min((n for n in (source.total, args.limit) if n is not None), default=None)
        progress = held.enter_context(closing(Progress(expected, sys.stderr)))
        held.enter_context(stop.on_signals())
        sinks = [held.enter_context(sink) for sink in _sinks(args, source, detector, stop)]
        summary = run_frames(source, detector.detect, sinks, stop, args.limit, progress.update)
    if summary.failures and not summary.frames:
        raise SourceError(summary.failures[0] if len(summary.failures) == 1 else _failure_line(summary))
    _report(args, model, source, summary, stop.signum, text)
    if stop.signum:
        return 128 + stop.signum
    if summary.failures:
        raise PartialFailure(_failure_line(summary))
    return 0


def _source_of(args: argparse.Namespace) -> str:
    if args.camera is not None:
        if args.camera < 0:
            raise InputError(f"--camera wants a number from 0 up; got {args.camera}.")
        return str(args.camera)
    if args.source is None:
        raise InputError("nothing to look at: name --source FILE, FOLDER or URL, or --camera 0.")
    return str(args.source)


def _quieten_opencv() -> None:
    """Keep OpenCV, FFmpeg and Qt from adding their own words to our one line; the user's settings win.

    They read these once: when cv2 is imported, the first video opened, the first window shown.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # pip's OpenCV has a Qt without fonts, and says so


def check_save(save: Any, source: Source) -> None:
    """Raise InputError where ``--save`` does not fit the source, or would overwrite it."""
    if save is None:
        return
    path = Path(save)
    if isinstance(source, ImageSource):
        one_file = len(source.paths) == 1 and path.suffix.lower() in IMAGE_SUFFIXES
        if not (_is_folder(save) or one_file):
            raise InputError(f"images are saved into a folder: wanted --save DIR, got {save}.")
        same = source.root if _is_folder(save) else source.paths[0]
    else:
        if _is_folder(save) or path.suffix.lower() != ".mp4":
            raise InputError(f"a video or camera is saved as MP4: wanted --save NAME.mp4, got {save}.")
        same = Path(source.name)
    if path.exists() and same.exists() and path.samefile(same):
        raise InputError(f"--save {save} would overwrite its own source: choose another name.")


def _is_folder(save: str) -> bool:
    return save.endswith(os.sep) or not Path(save).suffix or Path(save).is_dir()


def _sinks(args: argparse.Namespace, source: Source, detector: Detector, stop: Stop) -> List[ContextManager[Write]]:
    def annotate(result: Any) -> Any:
        return draw(result.frame.bgr, result.detections, detector.class_names)

    sinks: List[ContextManager[Write]] = []
    if args.show:
        sinks.append(window_sink(annotate, isinstance(source, ImageSource), stop))
    if args.save is not None:
        sinks.append(_save_sink(args.save, source, annotate))
    if args.jsonl is not None:
        sinks.append(jsonl_sink(args.jsonl, detector.class_names, source.live))
    return sinks


def _save_sink(save: str, source: Source, annotate: Annotate) -> ContextManager[Write]:
    path = Path(save)
    if not isinstance(source, ImageSource):
        assert source.fps is not None  # every source but images has a rate
        return video_sink(path, source.fps, source.live, annotate)
    if not _is_folder(save):
        return image_sink(lambda name: path, annotate)
    root = source.root
    return image_sink(lambda name: path / Path(name).relative_to(root), annotate)


def _open_detector(args: argparse.Namespace) -> Tuple[Path, Detector]:
    """Return the model to use: the one named, else the newest export that opens, else the demo.

    INT8 ONNX files are TensorRT's and slow on a CPU, so they are left out; an INT8 TFLite file is written after its
    float ONNX file, so it comes first where LiteRT is installed: 34 against 84 ms, D0, one x86 thread (docs/tflite.md).
    """
    require("cv2", "edgedet run").setNumThreads(args.threads)
    if args.model is not None:
        opened = open_engine(args.model, args.threads, args.delegate)
        return Path(args.model), Detector(opened, score=args.score)
    if args.delegate is not None:
        raise InputError("--delegate runs a TFLite file: name one, as in `edgedet run model.tflite --delegate LIB`.")
    exports = [
        path
        for path in EXPORTS.glob("*")
        if path.suffix in (".onnx", ".tflite")
        and not path.name.startswith(".")  # not one being written
        and (path.suffix == ".tflite" or not path.stem.endswith(("_int8", "_int8_fp16")))
    ]
    for path in sorted(exports, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            return path, Detector(path, args.threads, args.score)
        except (ArtifactError, MissingDependency) as error:
            print(f"edgedet: passed over: {error}", file=sys.stderr)
    if exports:
        raise ArtifactError(f"no model in {EXPORTS}/ can be used: name one, or run `edgedet export` again.")
    demo = int8_model() or _export_demo()
    return demo, Detector(demo, args.threads, args.score)


def _export_demo() -> Path:
    from ..export.command import export_demo  # host code; it imports torch and onnx when called

    print(f"no model was named and {EXPORTS}/ holds none: exporting the demo model", file=sys.stderr)
    try:
        return export_demo(EXPORTS)
    except MissingDependency as error:
        raise MissingDependency(
            f"no model was named and {EXPORTS}/ holds none; pip install 'edgedet[tflite]' runs the bundled one, or: {error}"
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
        print("stage         p50 ms   p90 ms", file=text)
        for stage, p50_ms in summary.p50_ms.items():
            print(f"{stage:<12} {p50_ms:>7.2f}  {summary.p90_ms[stage]:>7.2f}", file=text)
        for written in (args.save, args.jsonl):
            if written is not None:
                print(f"wrote {written}", file=text)
    figures: Dict[str, Any] = {
        "model": str(model),
        "source": source.name,
        "threads": args.threads,
        "score": args.score,
        "interrupted": bool(signum),
        **asdict(summary),
    }
    write_json(args.json, figures)


def _failure_line(summary: RunSummary) -> str:
    named = [failure.rstrip(".") for failure in summary.failures[:_NAMED_FAILURES]]
    more = len(summary.failures) - len(named)
    rest = f"; and {more} more" if more else ""
    return f"{len(summary.failures)} failed, {_counted(summary.frames, 'frame')} done: {'; '.join(named)}{rest}."
