"""GStreamer pipelines for what FFmpeg and V4L2 do not reach: a Jetson's CSI camera, hardware decoders. Text only."""

from __future__ import annotations

from typing import Optional, Tuple

from ...errors import UnsupportedError, require

Size = Optional[Tuple[int, int]]  # (width, height) in pixels; None: as it comes

# How decoded pictures become BGR; {size} is ",width=W,height=H" or nothing. decodebin takes the board's hardware
# decoder by its rank where it has one; a Jetson's leaves pictures in NVMM memory, from where nvvidconv fetches them. It
# scales on the way, by the VIC and not the CPU, to the size in its caps (NVIDIA's Accelerated GStreamer guide).
_CONVERT = {
    "gstreamer": "videoscale ! video/x-raw{size} ! videoconvert",
    "jetson": "nvvidconv ! video/x-raw,format=BGRx{size} ! videoconvert",
}
DECODERS = ("software", "ffmpeg-hardware", *_CONVERT)
CSI_SIZE_WH, CSI_FPS = (1280, 720), 30.0  # a mode of the usual sensors (IMX219, IMX477)
_JITTER_MS = 100  # rtspsrc waits 2000 ms for late packets by itself; frames would be 2 s old
_NEWEST = "appsink drop=true max-buffers=1 sync=false"
_EVERY = "appsink drop=false max-buffers=4 sync=false"


def make_csi_pipeline(sensor: int, size_wh: Size, fps: Optional[float], scaled_wh: Size = None) -> str:
    """Return the pipeline of a Jetson's CSI camera; the size and rate must be a mode of the sensor.

    scaled_wh: what the board's scaler makes of it before the CPU sees it; here and below.
    """
    width, height = size_wh or CSI_SIZE_WH
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},height={height},"
        f"framerate={round(fps or CSI_FPS)}/1,format=NV12 ! {_converted('jetson', scaled_wh)} ! {_NEWEST}"
    )


def make_stream_pipeline(url: str, decoder: str, transport: str, timeout_s: float, scaled_wh: Size = None) -> str:
    """Return the pipeline that decodes a network stream by ``decoder``, one of DECODERS."""
    if url.startswith("rtsp"):
        timeout_us = round(timeout_s * 1e6)
        source = (
            f"rtspsrc location={_quoted(url)} protocols={transport} latency={_JITTER_MS} drop-on-latency=true "
            f"timeout={timeout_us} tcp-timeout={timeout_us} ! decodebin"
        )
    else:
        source = f"uridecodebin uri={_quoted(url)}"
    return f"{source} ! {_converted(decoder, scaled_wh)} ! {_NEWEST}"


def make_file_pipeline(path: str, decoder: str, scaled_wh: Size = None) -> str:
    """Return the pipeline that decodes every frame of a file by ``decoder``, one of DECODERS."""
    return f"filesrc location={_quoted(path)} ! decodebin ! {_converted(decoder, scaled_wh)} ! {_EVERY}"


def _converted(decoder: str, scaled_wh: Size) -> str:
    size = "" if scaled_wh is None else f",width={scaled_wh[0]},height={scaled_wh[1]}"
    if decoder == "gstreamer" and not size:
        return "videoconvert ! video/x-raw,format=BGR"
    return f"{_CONVERT[decoder].format(size=size)} ! video/x-raw,format=BGR"


def is_gstreamer(decoder: str) -> bool:
    """Return True for a decoder that is reached through GStreamer."""
    return decoder in _CONVERT


def require_gstreamer(purpose: str) -> None:
    """Raise UnsupportedError where this OpenCV was built without GStreamer, as pip's is."""
    cv2 = require("cv2", purpose)
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise UnsupportedError(
            f"{purpose} needs an OpenCV with GStreamer, and {cv2.__file__} has none: use the board's own "
            "(docs/boards.md)."
        )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
