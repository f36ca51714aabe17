"""Turn what was typed after ``edgedet run`` into ``RunOptions``."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Optional, Tuple

from ..engines.base import check_threads
from ..engines.table import engine_for
from ..errors import InputError, require
from ..events.mqtt_options import MqttOptions, broker_of, credentials
from ..motion.gate import MotionRules, parse_rules
from ..postprocess import logit_of
from ..runner.models import ModelOptions
from ..runner.outputs import OutputOptions
from ..runner.run import RunOptions
from ..stream.cameras.capture import CaptureOptions
from ..stream.cameras.pipelines import is_gstreamer
from ..stream.cameras.recovery import Recovery
from ..stream.outputs.segments import parse_bytes
from ..stream.sources import SourceOptions
from ..web.defaults import TOKEN_VARIABLE, VIEWER_TOKEN_VARIABLE
from .options import check_at_least
from .run_arguments import add_run_arguments

if TYPE_CHECKING:
    from ..events.sink import EventOptions
    from ..web.sink import WebOptions


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
        keep_bytes=None if args.keep is None else parse_bytes(args.keep),
        go_on=args.on_write_error == "go-on",
        events=_event_options(args),
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
        raise InputError("--loop is for a video file, and cameras do not end: leave it out.")
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
        batch=args.batch,
        motion=MotionRules() if args.motion is True else None if args.motion is None else parse_rules(args.motion),
    )


def _from_config(args: argparse.Namespace) -> RunOptions:
    """Return the options of a configuration file; beside it, only options that no file can hold are accepted."""
    beside = ("config", "json", "limit", "show")
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    for name, default in vars(parser.parse_args([])).items():
        if name not in beside and getattr(args, name) != default:
            raise InputError(
                f"--config says everything: leave out {name.replace('_', '-')}, and write it into the file."
            )
    from ..runner.config import read_options

    options = read_options(args.config)
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
        raise InputError(f"one model runs at a time, but {' and '.join(models)} were named: leave one of them out.")
    if len(sources) > 1:
        raise InputError(
            f"one source is read at a time, but {', '.join(sources)} were named: name one, or a folder with many "
            "pictures."
        )
    if not sources and not args.camera:
        raise InputError("nothing to look at: name --source FILE, FOLDER or URL, or --camera 0.")
    return (models[0] if models else None), (sources[0] if sources else None)


def _source_options(args: argparse.Namespace) -> SourceOptions:
    if args.retries is not None and args.retries < 0:
        raise InputError(f"--retries wants a number from 0 up; got {args.retries}.")
    on_connector = args.camera and all(name.split("=")[-1].startswith("csi:") for name in args.camera)
    if args.scale is not None and not (on_connector or is_gstreamer(args.decoder)):
        raise InputError("--scale is for a Jetson's csi:N cameras and for --decoder gstreamer or jetson: leave it out.")
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


def _event_options(args: argparse.Namespace) -> Optional[EventOptions]:
    if args.events is None:
        return None
    from ..events.sink import EventOptions

    return EventOptions(args.events)


def _mqtt_options(args: argparse.Namespace) -> Optional[MqttOptions]:
    if args.mqtt is None:
        if args.mqtt_password_file is not None or args.mqtt_ca is not None:
            raise InputError("--mqtt-password-file and --mqtt-ca go with --mqtt: add it, or leave them out.")
        return None
    if args.events is None:
        raise InputError("--mqtt sends events, which need a folder: name one, as --events happened/.")
    require("paho.mqtt.client", "--mqtt")
    host, port, tls = broker_of(args.mqtt)
    user, password = credentials(args.mqtt_password_file)
    return MqttOptions(host, port, tls, user, password, args.mqtt_ca)


def _web_options(args: argparse.Namespace) -> Optional[WebOptions]:
    """Return the options of the live page, None without ``--web``."""
    if args.web is None:
        if args.token is not None or args.viewer_token is not None or args.allow_host:
            raise InputError("--token, --viewer-token and --allow-host go with --web: add it, or leave them out.")
        return None
    from ..web.guard import make_guard, place_of
    from ..web.sink import WebOptions

    if not args.unhealthy_after > 0:
        raise InputError(f"--unhealthy-after wants a number above 0; got {args.unhealthy_after}.")
    place = place_of(args.web)
    token = args.token if args.token is not None else os.environ.get(TOKEN_VARIABLE) or None
    viewer_token = args.viewer_token or os.environ.get(VIEWER_TOKEN_VARIABLE) or None
    guard = make_guard(place, token, viewer_token, args.allow_host)
    for package in ("tornado", "prometheus_client"):
        require(package, "--web")
    return WebOptions(place, guard, args.unhealthy_after, args.healthy_if)
