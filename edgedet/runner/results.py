"""A run as a Python loop: ``for result in edgedet.run(source, model)``."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Sequence, Union, cast

import numpy as np

from ..detector import Detector
from ..engines.base import default_threads
from ..errors import InputError
from ..postprocess import DEFAULT_SCORE
from ..progress import Say, say_nothing
from ..stream.sources import DEFAULTS, Source, SourceOptions, open_cameras, open_source
from ..types import Frame, FrameResult

Pictures = Iterable[Union[np.ndarray, Frame]]
Place = Union[str, int, Path, Sequence[str], Pictures]


def run(
    source: Place,
    model: Union[str, Path, Detector],
    score: Optional[float] = None,
    threads: Optional[int] = None,
    options: SourceOptions = DEFAULTS,
    say: Say = say_nothing,
) -> Iterator[FrameResult]:
    """Yield what a model finds in each frame, one at a time; leaving the loop closes the source.

    source:  what ``edgedet run`` takes: an image, a folder, a video, a camera's number or address; a list of cameras;
             or pictures (H, W, 3) uint8 BGR or Frames of your own, from any iterable.
    model:   a model file, which is closed at the end; or a Detector, which stays open.
    score:   threshold in (0, 1) of a model file that is opened here (default: DEFAULT_SCORE); threads likewise.
    options: how sources are opened and kept alive; say: takes a line when a camera is lost or back.
    Of files every frame comes; of cameras the newest one when the loop asks, and a camera that is lost is opened again.
    Nothing is opened before the first frame is asked for. Raises SourceError where there is nothing to read,
    ArtifactError for a model that cannot be used, InputError for a ``score`` or ``threads`` beside a Detector.
    """
    if isinstance(model, Detector) and (score is not None or threads is not None):
        raise InputError("score and threads are those of the Detector: give them where it is made.")
    return _results(source, model, score, threads, options, say)


def _results(
    source: Place,
    model: Union[str, Path, Detector],
    score: Optional[float],
    threads: Optional[int],
    options: SourceOptions,
    say: Say,
) -> Iterator[FrameResult]:
    ended = threading.Event()
    with ExitStack() as held:
        held.callback(ended.set)
        if isinstance(model, Detector):
            detector = model
        else:
            detector = held.enter_context(
                Detector(str(model), threads or default_threads(), DEFAULT_SCORE if score is None else score)
            )
        opened = _opened(source, ended, options, say)
        if opened is None:
            for index, picture in enumerate(cast(Pictures, source)):
                yield detector.detect(picture if isinstance(picture, Frame) else Frame(picture, 0.0, index))
            return
        held.enter_context(closing(opened))
        for frame in opened:
            result = detector.detect(frame)
            if opened.live:
                result = replace(result, age_ms=(time.monotonic() - frame.captured_s) * 1e3)
                opened.note(result)
            yield result


def _opened(source: Place, ended: threading.Event, options: SourceOptions, say: Say) -> Optional[Source]:
    """Open what a text, a number or a list of texts names; None for pictures of the caller's own."""
    if isinstance(source, (str, int, Path)):
        return open_source(str(source), ended.is_set, options, say)
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, str) for item in source):
        cameras: List[str] = list(cast(Sequence[str], source))
        return open_cameras(cameras, ended.is_set, options, say)
    return None
