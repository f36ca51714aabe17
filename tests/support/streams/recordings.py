"""Recording results of a camera, and reading back what was recorded."""

from __future__ import annotations

import time

from media import annotate, frames_of, result

from edgedet.stream.outputs.recording import recording_sink
from edgedet.stream.outputs.segments import Keeper
from edgedet.types import Frame, FrameResult


def shown(level, captured_s, camera="cam", gap=None, size_wh=(256, 192)):
    made = result(level=level, size_wh=size_wh)
    return FrameResult(Frame(made.frame.bgr, captured_s, 0, camera=camera, gap=gap), made.detections)


def record(folder, results, fps=10.0, segment_s=60.0, suffix=".mkv", keeper=None):
    """Record every result, however long the encoder takes."""
    left_out = []

    def base_of(camera):
        return folder / f"{camera}{suffix}"

    sink = recording_sink(base_of, lambda: fps, segment_s, keeper or Keeper(), annotate, left_out.append)
    with sink as write:
        for result in results:
            left_out.append(result.frame.camera)
            while left_out:
                left_out.clear()
                write(result)
                time.sleep(0.001 if left_out else 0)


def levels_of(path):
    return [float(frame.mean()) for frame in frames_of(path)[0]]
