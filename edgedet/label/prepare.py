"""Prepare a session from a source and a model: detect, choose the pictures most worth labelling, and save them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Dict, Iterator, List

from ..detector import Detector
from ..errors import InputError, SourceError, require
from ..files import atomic_path
from ..progress import with_progress
from ..stream.sources import Source, open_source
from ..types import Frame
from .pick import Candidate, make_candidate, pick_telling
from .session import IMAGES, SHOWN_SCORE, Picture, Session, boxes_from_detections

LOOKED_AT = 300  # frames of a source at most


def prepare_session(source: str, model: Path, folder: Path, count: int, threads: int) -> Session:
    """Detect on frames spread over the source, save the ``count`` most worth labelling, and return the session.

    Raises SourceError where nothing can be read, InputError for a camera or where no picture tells anything.
    """
    with Detector(model, threads, SHOWN_SCORE) as detector:
        with closing(_open(source)) as opened:
            step = 1 if opened.total is None else max(1, -(-opened.total // LOOKED_AT))
            total = None if opened.total is None else -(-opened.total // step)
            frames = _every(opened, step)
            candidates = [
                make_candidate(frame, detector(frame.bgr)) for frame in with_progress(frames, "looking", "frame", total)
            ]
        names = detector.class_names
    if not candidates:
        raise SourceError(f"{source} holds no picture that can be read.")
    picked = pick_telling(candidates, count)
    if not picked:
        raise InputError(
            f"the model detects nothing in {source}, even at the lowest score: label pictures that show objects."
        )
    return Session(folder, names, _save_pictures(source, picked, folder))


def _open(source: str) -> Source:
    opened = open_source(source, lambda: True)
    if opened.live:
        opened.close()
        raise InputError(f"{source} is a camera: record it first (edgedet run --camera {source} --save scene.mp4).")
    return opened


def _every(source: Source, step: int) -> Iterator[Frame]:
    """Yield every ``step``-th frame, LOOKED_AT at most."""
    taken = 0
    for position, frame in enumerate(source):
        if position % step == 0 and taken < LOOKED_AT:
            taken += 1
            yield frame


def _save_pictures(source: str, picked: List[Candidate], folder: Path) -> List[Picture]:
    """Read the source once more, and write the pictures that were picked as PNG, upright and without loss."""
    cv2 = require("cv2", "edgedet label")
    picked_by_index: Dict[int, Candidate] = {candidate.index: candidate for candidate in picked}
    pictures = []
    with closing(_open(source)) as opened:
        for frame in opened:
            candidate = picked_by_index.get(frame.index)
            if candidate is None:
                continue
            file = f"{candidate.index + 1:05d}{f'-{candidate.name}' if candidate.name else ''}.png"
            with atomic_path(folder / IMAGES / file) as temporary:
                cv2.imwrite(str(temporary), frame.bgr)
            height, width = frame.bgr.shape[:2]
            pictures.append(Picture(file, width, height, boxes_from_detections(candidate.detections)))
            if len(pictures) == len(picked):
                break
    return pictures
