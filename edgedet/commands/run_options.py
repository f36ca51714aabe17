"""The options of ``edgedet run`` that say where frames come from and how outputs last. Knows argparse only."""

from __future__ import annotations

import argparse
import re
from typing import Optional, Tuple

from ..errors import InputError
from ..stream.camera import Recovery
from ..stream.capture import PIXEL_FORMATS, TIMEOUT_S, TRANSPORTS, CaptureOptions
from ..stream.pipelines import DECODERS
from ..stream.recording import RECORDING_FPS, SEGMENT_S
from ..stream.segments import Keeper, bytes_of
from ..stream.sources import SourceOptions
from ..stream.video_file import MIN_FREE_BYTES


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where frames come from."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--source", metavar="X", help="image, folder, 'glob*', video, or one camera: its number, csi:N, URL, pipeline"
    )
    where.add_argument(
        "--camera", action="append", metavar="X", help="camera, as number, /dev/videoN, csi:N, URL or GStreamer "
        "pipeline, with a name if you like (door=rtsp://...); repeat it for several"
    )  # fmt: skip
    group = parser.add_argument_group("which frames")
    group.add_argument(
        "--loop", action="store_true", help="play a video file again and again at its own speed, as a camera"
    )
    group.add_argument("--every", type=int, default=1, metavar="N", help="look at every N-th frame only")
    group.add_argument("--max-fps", type=float, metavar="FPS", help="look at so many frames a second at most")
    group = parser.add_argument_group("how cameras are opened (docs/cameras.md)")
    group.add_argument("--size", metavar="WxH", help="picture size wanted of a camera, as 1280x720")
    group.add_argument("--camera-fps", type=float, metavar="FPS", help="frames a second wanted of a camera")
    group.add_argument(
        "--pixel-format", choices=PIXEL_FORMATS, default="auto", help="of a V4L2 camera (auto: MJPG where it matters)"
    )
    group.add_argument("--transport", choices=TRANSPORTS, default="tcp", help="of RTSP (default: %(default)s)")
    group.add_argument("--decoder", choices=DECODERS, default="software", help="of videos and streams")
    group = parser.add_argument_group("when cameras fail")
    group.add_argument(
        "--timeout", type=float, default=TIMEOUT_S, metavar="S",
        help="a camera without a new picture for S seconds is lost, and opened again (default: %(default)g)",
    )  # fmt: skip
    group.add_argument("--retries", type=int, metavar="N", help="give a camera up after N openings (default: never)")
    group.add_argument(
        "--allow-repeats", action="store_true", help="a picture that stands still is no fault (test pattern, demo)"
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the outputs of cameras last."""
    group = parser.add_argument_group("outputs of cameras")
    group.add_argument(
        "--segment",
        type=float,
        default=SEGMENT_S,
        metavar="S",
        help="seconds a recording's file (default: %(default)g)",
    )
    group.add_argument(
        "--save-fps", type=float, default=RECORDING_FPS, metavar="FPS", help="of recordings (default: %(default)g)"
    )
    group.add_argument("--keep", metavar="SIZE", help="remove the oldest files beyond SIZE, as 10GB")
    group.add_argument(
        "--on-write-error", choices=("stop", "go-on"), default="stop", help="full disk and the like (default: stop)"
    )


def check_at_least(args: argparse.Namespace, least: float, *options: str) -> None:
    """Raise InputError where an option was given a smaller number; 0 stands for "more than 0"."""
    for option in options:
        value = getattr(args, option[2:].replace("-", "_"))
        if value is not None and (value <= 0 if least == 0 else value < least):
            raise InputError(f"{option} wants a number {f'from {least:g} up' if least else 'above 0'}; got {value}.")


def source_options(args: argparse.Namespace) -> SourceOptions:
    """Return what the options say of sources; raises InputError for numbers out of range."""
    check_at_least(args, 1, "--every")
    check_at_least(args, 0, "--max-fps", "--camera-fps", "--timeout")
    if args.retries is not None and args.retries < 0:
        raise InputError(f"--retries wants a number from 0 up; got {args.retries}.")
    return SourceOptions(
        CaptureOptions(
            _size_of(args.size), args.camera_fps, args.pixel_format, args.transport, args.timeout, args.decoder
        ),
        Recovery(args.timeout, args.retries, args.allow_repeats),
        args.every,
        args.max_fps,
    )


def keeper_of(args: argparse.Namespace) -> Keeper:
    """Return the keeper of all outputs; raises InputError for a size that is none."""
    check_at_least(args, 0, "--segment", "--save-fps")
    return Keeper(None if args.keep is None else bytes_of(args.keep), MIN_FREE_BYTES)


def _size_of(text: Optional[str]) -> Optional[Tuple[int, int]]:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if found is None or not int(found.group(1)) or not int(found.group(2)):
        raise InputError(f"--size wants WIDTHxHEIGHT, as 1280x720; got {text}.")
    return int(found.group(1)), int(found.group(2))
