"""Declare the options of ``edgedet run``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..events.mqtt_options import PASSWORD_VARIABLE, USER_VARIABLE
from ..files import MODELS_FOLDER
from ..stream.cameras.capture import PIXEL_FORMATS, TIMEOUT_S, TRANSPORTS
from ..stream.cameras.pipelines import DECODERS
from ..stream.outputs.recording import RECORDING_FPS, SEGMENT_S
from ..web.defaults import DEFAULT_PLACE, HEALTHY_IF, TOKEN_VARIABLE, UNHEALTHY_S, VIEWER_TOKEN_VARIABLE
from .options import add_score, add_threads


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare all options but ``--json``; ``run_options`` reads them."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="MODEL or SOURCE",
        help=f"model file, recognised by its suffix (default: the newest in {MODELS_FOLDER}/, else the demo), and the "
        "source, as --source takes it",
    )
    _add_source(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with all settings (edgedet config --example prints one)"
    )
    parser.add_argument(
        "--save",
        metavar="OUT",
        help="save pictures with boxes: NAME.mp4, .webm or .mkv for videos and cameras, DIR for images and cameras; "
        "cameras are recorded in segments",
    )
    parser.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="write the detections, one JSON line a frame; -: stdout"
    )
    parser.add_argument(
        "--events", type=Path, metavar="DIR", help="keep a record, a picture and a clip of each object (docs/events.md)"
    )
    parser.add_argument("--show", action="store_true", help="show frames in a window; Esc or q ends")
    add_score(parser)
    add_threads(parser)
    parser.add_argument("--delegate", metavar="LIB", help="library that runs a .tflite MODEL, e.g. libedgetpu.so.1")
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="with several cameras, up to N frames go through the network at once (default: on a GPU as many as MODEL "
        "takes, see edgedet export --batch)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="end after N frames")
    parser.add_argument(
        "--motion",
        nargs="?",
        const=True,
        metavar="THRESHOLD,AREA",
        help="look only where something changed (docs/motion.md); `edgedet calibrate-motion` finds the numbers",
    )
    parser.add_argument(
        "--no-track", action="store_true", help="do not follow objects from frame to frame (docs/events.md)"
    )
    _add_cameras_outputs(parser)
    _add_mqtt(parser)
    _add_web(parser)


def _add_source(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--source",
        metavar="X",
        help="image (of a TIFF the first page), folder, 'glob*', video, or one camera: its number, csi:N, URL or "
        "pipeline",
    )
    where.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="X",
        help="camera, as number, /dev/videoN, csi:N, URL or GStreamer pipeline, with a name if you wish "
        "(door=rtsp://...); repeat it for several",
    )
    group = parser.add_argument_group("which frames")
    group.add_argument(
        "--loop", action="store_true", help="play a video file again and again at its own speed, as a camera"
    )
    group.add_argument(
        "--every", type=int, default=1, metavar="N", help="take every N-th frame only (default: %(default)s)"
    )
    group.add_argument("--max-fps", type=float, metavar="FPS", help="take at most FPS frames a second")
    group = parser.add_argument_group("how cameras are opened (docs/cameras.md)")
    group.add_argument("--size", metavar="WxH", help="picture size to request from a camera, such as 1280x720")
    group.add_argument("--camera-fps", type=float, metavar="FPS", help="frames a second to request from a camera")
    group.add_argument(
        "--pixel-format",
        choices=PIXEL_FORMATS,
        default="auto",
        help="pixel format of a V4L2 camera (auto: MJPG where that is faster)",
    )
    group.add_argument(
        "--transport", choices=TRANSPORTS, default="tcp", help="transport of RTSP streams (default: %(default)s)"
    )
    group.add_argument(
        "--decoder", choices=DECODERS, default="software", help="what decodes videos and streams (default: %(default)s)"
    )
    group.add_argument(
        "--scale",
        metavar="WxH",
        help="scale pictures before the CPU sees them, as 512x288: a Jetson's csi:N, --decoder gstreamer or jetson",
    )
    group = parser.add_argument_group("when cameras fail")
    group.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT_S,
        metavar="S",
        help="a camera without a new picture for S seconds is lost, and opened again (default: %(default)g)",
    )
    group.add_argument("--retries", type=int, metavar="N", help="give a camera up after N openings (default: never)")
    group.add_argument(
        "--allow-repeats",
        action="store_true",
        help="do not take a picture that stays the same for a stall (for a test pattern or a demo)",
    )


def _add_cameras_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("outputs of cameras")
    group.add_argument(
        "--segment",
        type=float,
        default=SEGMENT_S,
        metavar="S",
        help="length of one file of a recording, in seconds (default: %(default)g)",
    )
    group.add_argument(
        "--save-fps",
        type=float,
        default=RECORDING_FPS,
        metavar="FPS",
        help="frames a second of recordings, at most (default: %(default)g)",
    )
    group.add_argument(
        "--keep", metavar="SIZE", help="keep SIZE of recordings, as 10GB, and remove the oldest files beyond it"
    )
    group.add_argument(
        "--on-write-error",
        choices=("stop", "go-on"),
        default="stop",
        help="end the run or go on when an output cannot be written, as on a full disk (default: %(default)s)",
    )


def _add_mqtt(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("telling an MQTT broker of events, and Home Assistant (docs/mqtt.md)")
    group.add_argument("--mqtt", metavar="URL", help="broker, as mqtt://HOST, or mqtts://HOST with TLS; needs --events")
    group.add_argument(
        "--mqtt-password-file",
        type=Path,
        metavar="FILE",
        help=f"user in its first line, password in its second (default: {USER_VARIABLE} and {PASSWORD_VARIABLE})",
    )
    group.add_argument("--mqtt-ca", type=Path, metavar="FILE", help="authority that signed the broker's certificate")


def _add_web(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("live page (docs/web.md)")
    group.add_argument(
        "--web",
        nargs="?",
        const=DEFAULT_PLACE,
        metavar="HOST:PORT",
        help=f"show frames and detections to browsers (default: {DEFAULT_PLACE}, this machine only)",
    )
    group.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"secret that a viewer must give, such as `openssl rand -hex 16` prints; or variable {TOKEN_VARIABLE}",
    )
    group.add_argument(
        "--viewer-token",
        metavar="TOKEN",
        help=f"secret of those who may look and change nothing; or variable {VIEWER_TOKEN_VARIABLE}",
    )
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="answer under this host name, too; repeat it"
    )
    group.add_argument(
        "--unhealthy-after",
        type=float,
        default=UNHEALTHY_S,
        metavar="S",
        help="/healthz fails after S seconds without a frame (default: %(default)g)",
    )
    group.add_argument(
        "--healthy-if",
        choices=HEALTHY_IF,
        default=HEALTHY_IF[0],
        help="/healthz is fine while any camera gives frames, or only while all do (default: %(default)s)",
    )
