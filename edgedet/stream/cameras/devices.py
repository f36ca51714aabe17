"""Open a camera on the board itself: V4L2 and USB, or CSI on a Jetson or a Raspberry Pi."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from ...errors import InputError, SourceError, UnsupportedError, require
from .capture import DEFAULTS, Capture, CaptureOptions, DeviceCapture, open_pipeline, require_open
from .pipelines import CSI_FPS, CSI_SIZE_WH, make_csi_pipeline
from .sensor_time import from_driver

MODEL_FILE = Path("/proc/device-tree/model")  # says which board this is; a PC has no such file
BY_PATH = Path("/dev/v4l/by-path")  # udev's names of cameras by where they are plugged in
_FPS_TOLERANCE = 0.05  # of what was asked; cameras round, as 29.97


def open_v4l2(device: Union[int, str], options: CaptureOptions = DEFAULTS, name: str = "") -> Capture:
    """Open a camera by its number or device path; ``name`` is what errors call it.

    Raises SourceError where there is none, InputError where it gives other pictures than requested.
    """
    cv2 = require("cv2", "reading a camera")
    name = name or f"camera {device}"
    # The first backend of a board's OpenCV is GStreamer, which knows no sizes; V4L2 does.
    linux = sys.platform.startswith("linux") and cv2.videoio_registry.hasBackend(cv2.CAP_V4L2)
    capture = require_open(
        cv2.VideoCapture(device, cv2.CAP_V4L2 if linux else cv2.CAP_ANY),
        f"{name} cannot be opened: is it connected (edgedet cameras), free, and may this user read it (group video)?",
    )
    complaint = negotiate(capture, options)
    if complaint:
        capture.release()
        raise InputError(f"{name} gives {complaint}: `edgedet cameras` lists what it can.")
    return DeviceCapture(capture)


def find_stable_path(number: int, by_path: Path = BY_PATH) -> Union[int, str]:
    """Return the name of the socket that camera /dev/videoN is plugged into, or N where the system keeps no such names.

    Unplugged and plugged in again, a camera may get another number, but not another socket.
    """
    device = f"video{number}"
    links = sorted(by_path.iterdir()) if by_path.is_dir() else []
    return next((str(link) for link in links if os.path.basename(os.path.realpath(link)) == device), number)


def negotiate(capture: Any, options: CaptureOptions) -> str:
    """Ask a V4L2 capture for format, size and rate, in this order; return what it gives instead, "" where it agrees.

    With "auto", Motion JPEG is asked for as soon as a size or rate is: USB 2 carries 1280x720 raw at 10 frames a second
    only. A camera without it keeps its raw format, which is no fault.
    """
    cv2 = require("cv2", "reading a camera")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # drivers that know it keep no queue of old frames
    asked_format = options.pixel_format
    if asked_format == "auto" and (options.size_wh or options.fps):
        asked_format = "MJPG"
    if asked_format != "auto":
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*asked_format.ljust(4)))
    if options.size_wh:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size_wh[1])
    if options.fps:
        capture.set(cv2.CAP_PROP_FPS, options.fps)
    got_wh = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    got_format = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1").strip()
    got_fps = capture.get(cv2.CAP_PROP_FPS)
    wrong: List[str] = []
    if options.size_wh and got_wh != options.size_wh:
        wrong.append(f"{got_wh[0]}x{got_wh[1]}, not {options.size_wh[0]}x{options.size_wh[1]}")
    if options.fps and abs(got_fps - options.fps) > _FPS_TOLERANCE * options.fps:
        wrong.append(f"{got_fps:g} frames a second, not {options.fps:g}")
    if options.pixel_format not in ("auto", got_format):
        wrong.append(f"{got_format or 'another format'}, not {options.pixel_format}")
    return ", and ".join(wrong)


def open_csi(number: int, options: CaptureOptions = DEFAULTS) -> Capture:
    """Open a camera on the board's CSI connector, in the way of the board that this is."""
    board = read_board_model()
    if "Raspberry" in board:
        return PiCapture(number, options)
    if "NVIDIA" in board or "Jetson" in board:
        pipeline = make_csi_pipeline(number, options.size_wh, options.fps, options.scaled_wh)
        return open_pipeline(pipeline, f"camera csi:{number}")
    raise UnsupportedError(
        f"csi:{number} is a camera on the connector of a Jetson or a Raspberry Pi; this is {board or 'neither'}."
    )


def read_board_model() -> str:
    """Return what the board calls itself, "" on a PC."""
    try:
        return MODEL_FILE.read_bytes().decode("utf-8", "replace").strip("\0 \n")
    except OSError:
        return ""


class PiCapture:
    """A Raspberry Pi's CSI camera through picamera2, in the shape of ``cv2.VideoCapture``."""

    def __init__(self, number: int, options: CaptureOptions = DEFAULTS) -> None:
        """Configure and start the camera; raises SourceError where there is none."""
        picamera2 = require("picamera2", f"camera csi:{number}")
        self._fps = options.fps or CSI_FPS
        self._captured_s = 0.0
        try:
            self._camera = picamera2.Picamera2(number)
        except (RuntimeError, IndexError) as error:
            raise SourceError(f"camera csi:{number} cannot be opened: {error or 'there is none'}.") from None
        try:
            # picamera2's "RGB888" names the bits of a word from the top: in memory it is B, G, R (its manual, 4.2.2.1)
            main = {"size": options.size_wh or CSI_SIZE_WH, "format": "RGB888"}
            self._camera.configure(
                self._camera.create_video_configuration(main=main, controls={"FrameRate": self._fps})
            )
            self._camera.start()
        except Exception as error:  # libcamera's errors are of several kinds
            self._camera.close()
            raise SourceError(f"camera csi:{number} cannot be started: {error}.") from None

    def read(self, into: Optional[np.ndarray] = None) -> Tuple[bool, Any]:
        """Wait for the next frame; (True, (H, W, 3) uint8 BGR)."""
        request = self._camera.capture_request()
        try:
            bgr = request.make_array("main")  # a copy
            self._note(request.get_metadata())
        finally:
            request.release()
        return True, bgr

    def grab(self) -> bool:
        """Skip the next frame."""
        self._note(self._camera.capture_metadata())
        return True

    def captured_s(self) -> float:
        """Return when the sensor began the last frame, in ``time.monotonic()``."""
        return self._captured_s

    def _note(self, metadata: Dict[str, Any]) -> None:
        """Take libcamera's time of the frame: nanoseconds since the board was started (libcamera's SensorTimestamp)."""
        self._captured_s = from_driver(time.monotonic(), metadata.get("SensorTimestamp", 0) / 1e9)

    def get(self, prop: int) -> float:
        """Return the frame rate, and 0 for all else."""
        return self._fps if prop == require("cv2", "reading a camera").CAP_PROP_FPS else 0.0

    def release(self) -> None:
        """Stop and release the camera."""
        self._camera.stop()
        self._camera.close()
