"""Declare the options of ``edgedet run``, and turn what was typed into ``RunOptions``."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Optional, Tuple

from ..engines.base import check_threads
from ..engines.table import engine_for
from ..errors import InputError, require
from ..events.mqtt import PASSWORD_VARIABLE, USER_VARIABLE, MqttOptions, broker_of, credentials
from ..events.sink import EventOptions
from ..files import MODELS_FOLDER
from ..motion.gate import MotionRules, rules_of
from ..postprocess import logit_of
from ..runner.config import options_from
from ..runner.models import ModelOptions
from ..runner.outputs import OutputOptions
from ..runner.run import RunOptions
from ..stream.cameras.capture import PIXEL_FORMATS, TIMEOUT_S, TRANSPORTS, CaptureOptions
from ..stream.cameras.pipelines import DECODERS, is_gstreamer
from ..stream.cameras.recovery import Recovery
from ..stream.outputs.recording import RECORDING_FPS, SEGMENT_S
from ..stream.outputs.segments import bytes_of
from ..stream.sources import SourceOptions
from ..web.guard import (
    DEFAULT_PLACE,
    TOKEN_VARIABLE,
    VIEWER_TOKEN_VARIABLE,
    Guard,
    check_token,
    names_of,
    place_of,
)
from ..web.sink import UNHEALTHY_S, WebOptions
from ..web.subject import HEALTHY_IF
from .options import add_score, add_threads, check_at_least


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that ``run_options`` reads."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="MODEL or SOURCE",
        help=f"model file, recognised by its suffix (default: the newest in {MODELS_FOLDER}/, else the demo), and the "
        "source, as --source takes it",
    )
    _add_source(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with everything (edgedet config --example prints one)"
    )
    parser.add_argument(
        "--save",
        metavar="OUT",
        help="annotated copy: NAME.mp4, .webm or .mkv for videos and cameras, DIR for images and cameras; of cameras "
        "in segments",
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
        help="a picture that does not change is no stall (for a test pattern or a demo)",
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


def run_options(args: argparse.Namespace) -> RunOptions:
    """Return the options of a run.

    Raises InputError for values out of range or options that do not go together, MissingDependency where packages of
    the live page are not installed.
    """
    if args.config is not None:
        return _from_config(args)
    for option, value, least in (
        ("--threads", args.threads, 1),
        ("--limit", args.limit, 1),
        ("--every", args.every, 1),
        ("--max-fps", args.max_fps, 0),
        ("--camera-fps", args.camera_fps, 0),
        ("--timeout", args.timeout, 0),
        ("--segment", args.segment, 0),
        ("--save-fps", args.save_fps, 0),
    ):
        check_at_least(option, value, least)
    check_threads(args.threads)
    opening = _source_options(args)
    outputs = OutputOptions(
        save=args.save,
        jsonl=args.jsonl,
        show=args.show,
        segment_s=args.segment,
        save_fps=args.save_fps,
        keep_bytes=None if args.keep is None else bytes_of(args.keep),
        go_on=args.on_write_error == "go-on",
        events=None if args.events is None else EventOptions(args.events),
        mqtt=_mqtt_options(args),
    )
    if str(args.jsonl) == "-" and args.json == "-":
        raise InputError("--jsonl and --json both want stdout: give one of them a file.")
    logit_of(args.score)
    web = _web_options(args)
    for camera in args.camera:
        if camera.lstrip("-").isdigit() and int(camera) < 0:
            raise InputError(f"--camera wants a number from 0 up; got {camera}.")
    if args.loop and args.camera:
        raise InputError("--loop is for a video file: cameras do not end.")
    model_path, source = _model_and_source(args)
    model = ModelOptions(model_path, args.threads, args.score, args.delegate)
    return RunOptions(
        source=source,
        cameras=tuple(args.camera),
        loop=args.loop,
        opening=opening,
        model=model,
        outputs=outputs,
        web=web,
        limit=args.limit,
        track=not args.no_track,
        motion=MotionRules() if args.motion is True else None if args.motion is None else rules_of(args.motion),
    )


def _from_config(args: argparse.Namespace) -> RunOptions:
    """Return what a configuration file says; on the command line, only what does not stand in it may be said."""
    beside = ("config", "json", "limit", "show")
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    for name, default in vars(parser.parse_args([])).items():
        if name not in beside and getattr(args, name) != default:
            raise InputError(
                f"--config says everything: leave out {name.replace('_', '-')}, and write it into the file."
            )
    options = options_from(args.config)
    if options.web is not None:
        for package in ("tornado", "prometheus_client"):
            require(package, "the page")
    return replace(options, limit=args.limit, outputs=replace(options.outputs, show=args.show))


def _model_and_source(args: argparse.Namespace) -> Tuple[Optional[str], Optional[str]]:
    """Return the model's path and the source, where they were given.

    Of the files without an option, one with a model's suffix is the model; where an option names the source, each is.
    """
    by_option = args.source is not None or bool(args.camera)
    models = [name for name in args.files if by_option or engine_for(name) is not None]
    sources = [args.source] if args.source is not None else [name for name in args.files if name not in models]
    if len(models) > 1:
        raise InputError(f"one model runs at a time; got {' and '.join(models)}.")
    if len(sources) > 1:
        raise InputError(f"one source at a time: got {', '.join(sources)}. A folder holds many pictures.")
    if not sources and not args.camera:
        raise InputError("nothing to look at: name --source FILE, FOLDER or URL, or --camera 0.")
    return (models[0] if models else None), (sources[0] if sources else None)


def _source_options(args: argparse.Namespace) -> SourceOptions:
    if args.retries is not None and args.retries < 0:
        raise InputError(f"--retries wants a number from 0 up; got {args.retries}.")
    on_connector = args.camera and all(name.split("=")[-1].startswith("csi:") for name in args.camera)
    if args.scale is not None and not (on_connector or is_gstreamer(args.decoder)):
        raise InputError("--scale is for a Jetson's csi:N cameras and for --decoder gstreamer or jetson.")
    return SourceOptions(
        CaptureOptions(
            _size_of(args.size, "--size"),
            args.camera_fps,
            args.pixel_format,
            args.transport,
            args.timeout,
            args.decoder,
            _size_of(args.scale, "--scale"),
        ),
        Recovery(args.timeout, args.retries, args.allow_repeats),
        args.every,
        args.max_fps,
    )


def _size_of(text: Optional[str], option: str) -> Optional[Tuple[int, int]]:
    """Return (width, height) in pixels."""
    if text is None:
        return None
    size = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if size is None or not int(size.group(1)) or not int(size.group(2)):
        raise InputError(f"{option} wants WIDTHxHEIGHT, as 1280x720; got {text}.")
    return int(size.group(1)), int(size.group(2))


def _mqtt_options(args: argparse.Namespace) -> Optional[MqttOptions]:
    if args.mqtt is None:
        if args.mqtt_password_file is not None or args.mqtt_ca is not None:
            raise InputError("--mqtt-password-file and --mqtt-ca go with --mqtt.")
        return None
    if args.events is None:
        raise InputError("--mqtt tells of events: name a folder for them, as --events happened/.")
    require("paho.mqtt.client", "--mqtt")
    host, port, tls = broker_of(args.mqtt)
    user, password = credentials(args.mqtt_password_file)
    return MqttOptions(host, port, tls, user, password, args.mqtt_ca)


def _web_options(args: argparse.Namespace) -> Optional[WebOptions]:
    """Return the options of the live page, None without ``--web``."""
    if args.web is None:
        if args.token is not None or args.viewer_token is not None or args.allow_host:
            raise InputError("--token, --viewer-token and --allow-host go with --web.")
        return None
    if not args.unhealthy_after > 0:
        raise InputError(f"--unhealthy-after wants a number above 0; got {args.unhealthy_after}.")
    place = place_of(args.web)
    token = args.token if args.token is not None else os.environ.get(TOKEN_VARIABLE) or None
    check_token(place, token)
    viewer_token = args.viewer_token or os.environ.get(VIEWER_TOKEN_VARIABLE) or None
    if viewer_token is not None:
        if token is None or token == viewer_token:
            raise InputError("--viewer-token goes with --token, and is another one.")
        check_token(place, viewer_token, "--viewer-token")
    guard = Guard(names_of(place, args.allow_host), token, f"edgedet_{place.port}", viewer_token)
    for package in ("tornado", "prometheus_client"):
        require(package, "--web")
    return WebOptions(place, guard, args.unhealthy_after, args.healthy_if)
