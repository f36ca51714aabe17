"""How many objects there were: each track counts once."""

from __future__ import annotations

from collections import Counter
from typing import Dict

from ..types import FrameResult


class ObjectCount:
    """Objects by class since the start; memory does not grow with time."""

    def __init__(self) -> None:
        """Begin with none."""
        self.by_class: Counter[int] = Counter()
        self._newest: Dict[str, int] = {}  # camera -> the highest id so far

    def note(self, result: FrameResult) -> None:
        """Count the tracks that are new; results of a camera come in order."""
        camera = result.frame.camera
        newest = self._newest.get(camera, 0)
        for track in result.tracks or ():
            if track.id > newest:
                self.by_class[track.class_id] += 1
                self._newest[camera] = max(self._newest.get(camera, 0), track.id)
