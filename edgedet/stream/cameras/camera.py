"""Keep one camera or network stream alive: a thread of its own takes every frame and keeps only the newest.

So a reader that is slower than the camera gets the newest frame, and not a queue of old ones. A camera that ends,
hangs, freezes or repeats itself is noticed within the timeout, reported once, and opened again and again.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Optional, Tuple

import numpy as np

from ...errors import EdgeDetError, LoginError, SourceError
from ...progress import Say
from ...types import Frame, Gap
from ..camera_stats import CameraStats
from ..pace import Pace
from .capture import FALLBACK_FPS, Capture, read_fps
from .novelty import Novelty
from .recovery import LOGIN_WAIT_S, LONGEST_WAIT_S, Opener, Recovery, Startable
from .tally import Tally

POLITE_CLOSE_S = 1.0  # for the present read and for closing the connection; then the process is killed
_LONGEST_CLOSE_S = 2.0  # after that; a thread that hangs in this process is left behind, as a daemon
_LONGEST_OPENING = 1.5  # timeouts that the first opening may take: a driver that hangs has no timeout
_SLOW = 0.9  # of the timeout: a read that takes so long has failed, whatever it returns
_LONGEST_PATIENCE_S = 3600.0  # longest time between two openings of a camera whose picture stands still


class Camera:
    """A camera's capture thread and its newest frame.

    The index of a Frame counts all frames that the camera delivered, so a jump shows dropped frames. ``captured_s`` is
    the ``time.monotonic()`` at which the frame was at the sensor, as far as the capture knows.
    """

    def __init__(
        self,
        name: str,
        opener: Opener,
        changed: threading.Condition,
        say: Say,
        pace: Optional[Pace] = None,
        recovery: Optional[Recovery] = None,
    ) -> None:
        """Start the capture thread.

        opener:  opens the camera. A Startable may hang, any other must not.
        changed: notified at each new frame; guards the state that the capture thread and the reader share.
        say:     called with a line when the camera is lost or is back, after it was open once or after
                 ``report_from_now_on``; not from the main thread.
        """
        self.name = name
        self.fps = FALLBACK_FPS
        self.opened = False  # at least once
        self.given_up = False
        self.error: Optional[EdgeDetError] = None  # of the first opening that failed
        self._opener = opener
        self._changed = changed
        self._say = say
        self._pace = pace or Pace()
        self._recovery = recovery or Recovery()
        self._novelty = Novelty()
        self._closing = threading.Event()
        # Guarded by ``changed``:
        self._state = "opening"
        self._reason = ""
        self._reports = False
        self._login_refused = False
        self._still = False  # lost because the picture stands still
        self._newest: Optional[Frame] = None
        self._missed: Optional[Gap] = None  # to be told with the next frame that is handed over
        self._tally = Tally()
        # Times of the last frame, the last that was no stale one, the last new picture:
        self._frame_s = self._given_s = self._new_s = time.monotonic()
        self._opening_s: Optional[float] = None  # when the first opening began; its process takes time to start
        self._patience_s = self._recovery.timeout_s
        self._thread = threading.Thread(target=self._keep_alive, name=f"capture of {name}", daemon=True)
        self._thread.start()

    # --- the reader's side, called with ``changed`` held ---------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether a frame is there to be taken."""
        return self._newest is not None

    @property
    def state(self) -> str:
        """The state, as in CameraStats."""
        return self._state

    @property
    def reason(self) -> str:
        """The reason why the camera is lost or has ended."""
        return self._reason

    def take(self) -> Optional[Frame]:
        """Return the newest frame, each only once; None where no new one is there."""
        frame, self._newest = self._newest, None
        if frame is None:
            return None
        self._tally.counts["processed"] += 1
        gap, self._missed = self._missed, None
        return replace(frame, gap=gap) if gap else frame

    def failed_to_open(self) -> bool:
        """Return whether the first opening failed, or hangs in this process."""
        if self._state != "opening":
            return not self.opened
        hangs_s = _LONGEST_OPENING * self._recovery.timeout_s
        started = self._opening_s is not None and not isinstance(self._opener, Startable)
        return started and time.monotonic() - (self._opening_s or 0.0) > hangs_s

    def report_from_now_on(self) -> None:
        """Report a camera that was never open, too, beginning with its present failure."""
        self._reports = True
        if self._state == "lost" and not self.opened:
            self._report_loss()

    def check_for_stall(self) -> None:
        """Count the camera as lost where a read hangs; call this every tenth of a second, or after each inference."""
        timeout_s = self._recovery.timeout_s
        waits = self._state == "live" or (self._state == "opening" and self._opening_s is not None)
        if waits and time.monotonic() - self._frame_s > timeout_s:
            self._lose(f"no frame for {timeout_s:g} s")

    def note_age(self, age_ms: float) -> None:
        """Add the age of a result to the figures."""
        self._tally.note_age(age_ms)

    def note_left_out(self) -> None:
        """Count a result that the recording left out."""
        self._tally.left_out += 1

    def stats(self) -> CameraStats:
        """Return the figures so far."""
        open_gap_s = self._gap_until(time.monotonic()) if self._state == "lost" else 0.0
        return self._tally.stats(self.name, self._state, self._reason, open_gap_s)

    # --- both sides ---------------------------------------------------------------------------------------------

    def ask_to_close(self) -> None:
        """Let the thread end after the present read."""
        self._closing.set()

    def close(self, polite_until_s: float = 0.0) -> None:
        """Stop the thread and close the camera: in good order until that time, then by force."""
        self._closing.set()
        self._thread.join(max(0.0, polite_until_s - time.monotonic()))
        if isinstance(self._opener, Startable):
            self._opener.abort()
        self._thread.join(_LONGEST_CLOSE_S)
        with self._changed:
            if self._newest is not None:  # nobody will take it
                self._newest = None
                self._tally.counts["dropped"] += 1
            if self._state == "lost":
                self._tally.gap_s += self._gap_until(time.monotonic())
            self._state, self._reason = "ended", self._reason or "closed"

    # --- the capture thread -------------------------------------------------------------------------------------

    def _keep_alive(self) -> None:
        try:
            self._open_again_and_again()
        finally:
            if isinstance(self._opener, Startable):
                self._opener.close()

    def _open_again_and_again(self) -> None:
        attempts = 0  # since the camera last ran for a timeout or more
        wait_s = 0.0
        retries, first_wait_s = self._recovery.retries, self._recovery.first_wait_s
        while not self._closing.wait(wait_s):
            self._login_refused = False
            steady, reason = self._open_and_take_frames()
            with self._changed:
                self._changed.notify_all()
                if self._closing.is_set():
                    return
                attempts = 0 if steady else attempts
                if retries is not None and attempts >= retries:
                    if self._state == "lost":
                        self._tally.gap_s += self._gap_until(time.monotonic())
                    self._state, self._reason, self.given_up = "ended", reason, True
                    return
                if self._state in ("opening", "live"):
                    self._lose(reason)
            wait_s = min(first_wait_s * 2.0 ** min(attempts - 1, 30), LONGEST_WAIT_S) if attempts else 0.0
            wait_s = LOGIN_WAIT_S if self._login_refused else wait_s
            attempts += 1

    def _open_and_take_frames(self) -> Tuple[bool, str]:
        """Open the camera and take frames until it fails; return (whether it ran for a timeout or more, the reason)."""
        try:
            if isinstance(self._opener, Startable):
                self._opener.prepare()
            with self._changed:
                if self._opening_s is None:
                    self._opening_s = self._frame_s = time.monotonic()
            capture = self._opener()
        except EdgeDetError as error:
            self.error = self.error or error
            self._login_refused = isinstance(error, LoginError)
            return False, str(error).rstrip(".")
        except Exception as error:  # a driver may raise anything, and succeed the next time
            self.error = self.error or SourceError(f"{self.name}: {type(error).__name__}: {error}")
            return False, f"{type(error).__name__}: {error}"
        began = time.monotonic()
        try:
            try:
                reason = self._take_frames(capture, began)
            finally:
                capture.release()
        except Exception as error:
            reason = str(error).rstrip(".") or type(error).__name__
        return self._frame_s - began > self._recovery.timeout_s, reason

    def _take_frames(self, capture: Capture, opened_s: float) -> str:
        fps = read_fps(capture)
        with self._changed:
            self.opened = True
            self.fps = fps
            self._frame_s = opened_s
            self._changed.notify_all()
        while not self._closing.is_set():
            began = time.monotonic()
            index = self._tally.counts["captured"]
            taken = self._pace.takes(index, began)
            ok, bgr = capture.read() if taken else (capture.grab(), None)
            now = time.monotonic()
            new = ok and bgr is not None and (self._recovery.allow_repeats or self._novelty.is_new(bgr))
            with self._changed:
                # After a timeout FFmpeg returns an old frame, so the duration of the read decides, too.
                if now - began >= _SLOW * self._recovery.timeout_s:
                    return f"no frame for {now - began:.1f} s"
                if not ok:
                    return "no frame came"
                self._tally.counts["captured"] += 1
                self._frame_s = now
                if bgr is None:
                    self._tally.counts["skipped"] += 1
                elif new or not self._stands_still(opened_s, now):
                    self._publish(Frame(np.asarray(bgr), capture.captured_s(), index, camera=self.name), new, now)
                elif now - opened_s > self._patience_s:
                    self._patience_s = min(2 * self._patience_s, _LONGEST_PATIENCE_S)
                    return self._reason
        return "closed"

    def _stands_still(self, opened_s: float, now: float) -> bool:
        """Return whether this is an old picture of a frozen or repeating camera; count it, since no reader gets it."""
        if self._state == "live" and now - max(opened_s, self._new_s) > self._recovery.timeout_s:
            self._lose(f"the picture stands still or repeats for {self._recovery.timeout_s:g} s")
            self._still = True
        if self._still:
            self._tally.counts["stale"] += 1
        return self._still

    def _publish(self, frame: Frame, new: bool, now: float) -> None:
        if self._state == "lost":
            seconds = self._gap_until(now)
            self._missed = Gap(self._reason, seconds + (self._missed.seconds if self._missed else 0.0))
            self._tally.gap_s += seconds
            self._say(f"{self.name}: back after {seconds:.1f} s")
        if new:
            self._new_s = now
            self._patience_s = self._recovery.timeout_s
        self._state, self._reason, self._still = "live", "", False
        self._given_s = now
        self._tally.size_wh = (frame.bgr.shape[1], frame.bgr.shape[0])
        if self._newest is not None:
            self._tally.counts["dropped"] += 1
        self._newest = frame
        self._changed.notify_all()

    def _lose(self, reason: str) -> None:
        self._state, self._reason = "lost", reason
        self._tally.counts["gaps"] += 1
        if self.opened or self._reports:  # else the caller that waits for the first opening reports it
            self._report_loss()

    def _report_loss(self) -> None:
        again = f"trying again every {LOGIN_WAIT_S / 60:g} minutes" if self._login_refused else "opening it again"
        self._say(f"{self.name}: lost: {self._reason}; {again}")

    def _gap_until(self, now: float) -> float:
        return now - (self._new_s if self._still else self._given_s)
