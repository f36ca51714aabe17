"""Which sinks the options of ``edgedet run`` ask for. Knows options and sinks; knows no camera and no model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Callable, ContextManager, List, Sequence

import numpy as np

from ..detector import Detector
from ..errors import InputError
from ..stream.address import file_stem
from ..stream.draw import draw
from ..stream.jsonl import jsonl_sink
from ..stream.live import Say
from ..stream.notify import notify_address, notify_sink
from ..stream.recording import recording_sink
from ..stream.segments import Keeper
from ..stream.sinks import Annotate, Write, image_sink, lasting, video_sink, window_sink
from ..stream.sources import IMAGE_SUFFIXES, ImageSource, Source
from ..stream.stop import Stop
from ..stream.video_file import CODECS, codec_of, recording_suffix
from ..types import FrameResult
from .web_options import web_sink


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
    elif source.live and _is_folder(save):
        return
    else:
        if _is_folder(save) or path.suffix.lower() not in CODECS:
            wanted = "--save NAME.mp4 or --save DIR" if source.live else "--save NAME.mp4"
            raise InputError(f"video is saved as {', '.join(CODECS)}: wanted {wanted}, got {save}.")
        codec_of(path.suffix.lower())
        same = Path(source.name)
    if path.exists() and same.exists() and path.samefile(same):
        raise InputError(f"--save {save} would overwrite its own source: choose another name.")


def _is_folder(save: str) -> bool:
    return save.endswith(os.sep) or not Path(save).suffix or Path(save).is_dir()


def sinks_of(
    args: argparse.Namespace,
    source: Source,
    model: Path,
    detectors: Sequence[Detector],
    keeper: Keeper,
    stop: Stop,
    report: Say,
    failures: List[str],
) -> List[ContextManager[Write]]:
    """Return the sinks that the options of ``edgedet run`` ask for.

    detectors: of ``model``, one or copies of one.
    failures:  takes a line for each output that failed where the user chose to go on.
    """
    class_names = detectors[0].class_names

    def annotate(result: FrameResult) -> np.ndarray:
        return draw(result.frame.bgr, result.detections, class_names)

    def last(open_sink: Callable[[], ContextManager[Write]]) -> ContextManager[Write]:
        return lasting(open_sink, report, failures) if args.on_write_error == "go-on" else open_sink()

    sinks: List[ContextManager[Write]] = []
    if args.show:
        sinks.append(window_sink(annotate, isinstance(source, ImageSource), stop))
    if args.web is not None:
        sinks.append(web_sink(args, source, model, detectors, report))
    if args.save is not None:
        sinks.append(last(lambda: _save_sink(args, source, keeper, annotate)))
    if args.jsonl is not None:
        sinks.append(last(lambda: jsonl_sink(args.jsonl, class_names, source.live, keeper)))
    manager = notify_address()
    if manager is not None:
        sinks.append(notify_sink(manager))  # last: a result counts once it is written
    return sinks


def _save_sink(
    args: argparse.Namespace, source: Source, keeper: Keeper, annotate: Annotate
) -> ContextManager[Write]:  # fmt: skip
    path = Path(args.save)
    if isinstance(source, ImageSource):
        if not _is_folder(args.save):
            return image_sink(lambda name: path, annotate)
        root = source.root
        return image_sink(lambda name: path / Path(name).relative_to(root), annotate)
    assert source.fps is not None  # every source but images has a rate
    if not source.live:
        return video_sink(path, source.fps, annotate)
    fps = min(args.save_fps, source.fps)
    if _is_folder(args.save):
        suffix = recording_suffix()
        return recording_sink(lambda camera: path / f"{file_stem(camera)}{suffix}", fps, args.segment, keeper, annotate)
    several = len(source.stats()) > 1

    def base_of(camera: str) -> Path:
        return path.with_name(f"{path.stem}-{file_stem(camera)}{path.suffix}") if several else path

    return recording_sink(base_of, fps, args.segment, keeper, annotate)
