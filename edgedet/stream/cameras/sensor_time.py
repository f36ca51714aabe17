"""When a frame was at the sensor, as far as times that come with it tell. Stdlib only.

A read returns later than the exposure by what the network, the decoder and buffers on the way hold back.
"""

from __future__ import annotations

from typing import Optional

LONGEST_DELAY_S = 30.0  # beyond it a frame's own time is no time of this machine's clock, but a mistake
_DRIFT = 1e-3  # seconds a second by which two clocks may drift apart; quartz does 1e-4


def from_driver(read_s: float, stamp_s: float) -> float:
    """Return a driver's own time of exposure, ``read_s`` where it cannot be one of ``time.monotonic()``."""
    return stamp_s if 0.0 <= read_s - stamp_s < LONGEST_DELAY_S else read_s


class StreamClock:
    """Tells which frames of a network stream came at once, and which waited on the way.

    The stream's own times (RTP's or the container's) say how far apart two frames were captured. The frame that came
    with the least delay so far is taken to have had none but ``held_frames``, so a later one that comes with more has
    waited. The time that the camera takes to encode is not included.

    held_frames: that FFmpeg holds back: its H.264 parser gives a frame when the next one begins.
    """

    def __init__(self, held_frames: int = 0) -> None:
        """Begin with a stream that was just opened."""
        self._held_frames = held_frames
        self._least_s: Optional[float] = None  # arrival - stream time, of the frame with the least delay
        self._last_stream_s = 0.0
        self._last_read_s = 0.0
        self._interval_s = 0.0

    def captured_s(self, read_s: float, stream_s: float) -> float:
        """Return when a frame was captured, in ``time.monotonic()``.

        read_s:   when it was read, by the same clock.
        stream_s: the stream's time of this frame.
        """
        self._follow(read_s, stream_s)
        assert self._least_s is not None
        arrival_s = stream_s + self._least_s - self._held_frames * self._interval_s
        return max(min(arrival_s, read_s), read_s - LONGEST_DELAY_S)

    def _follow(self, read_s: float, stream_s: float) -> None:
        step_s = stream_s - self._last_stream_s
        if self._least_s is None or abs(step_s) > LONGEST_DELAY_S:  # the first, or the stream's times began anew
            self._least_s, self._interval_s = read_s - stream_s, 0.0
        else:
            drifted_s = self._least_s + _DRIFT * (read_s - self._last_read_s)
            self._least_s = min(read_s - stream_s, drifted_s)
            if step_s > 0:
                self._interval_s = step_s
        self._last_stream_s, self._last_read_s = stream_s, read_s
