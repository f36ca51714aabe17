"""``edgedet serve``: answer other programs' requests for boxes."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Optional

from ..detector import Detector
from ..engines.base import choose_batch
from ..errors import InputError, require
from ..postprocess import logit_of
from ..schemas import write_figures
from ..serve.frigate_answers import PIXEL_FORMATS, TIMEOUT_MS, FrigateAnswers
from ..serve.frigate_zmq import check_endpoint, serve_frigate
from ..stream.stop import Stop
from .options import add_json, add_score, add_threads, text_stream

DESCRIPTION = "Answer another program's requests for boxes with a model of edgedet: Frigate, by its zmq detector."
EXAMPLE = """  edgedet serve --zmq ipc:///tmp/cache/zmq_detector edgedet-out/model_int8.tflite
  edgedet serve --zmq tcp://127.0.0.1:5555 --pixels bgr model.engine"""
INPUTS = ("model",)
OUTPUTS = ("json",)


@dataclass(frozen=True)
class Options:
    """What the command line says.

    pixels: the order of colours that the other program sends.
    batch:  how many pictures go through the network at once; None: as ``choose_batch`` says.
    timeout_ms: how long the other program waits for an answer; None: no limit.
    """

    model: str
    endpoint: str
    pixels: str
    remote: bool
    batch: Optional[int]
    timeout_ms: Optional[float]
    threads: int
    score: float
    json: Optional[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet serve``."""
    parser.add_argument("model", metavar="MODEL", help="model file of edgedet, any engine")
    parser.add_argument(
        "--zmq", metavar="ENDPOINT", help="ipc://PATH or tcp://127.0.0.1:PORT, as Frigate's detector has"
    )
    parser.add_argument(
        "--pixels", choices=PIXEL_FORMATS, default="rgb", help="Frigate's input_pixel_format (default: %(default)s)"
    )
    parser.add_argument("--remote", action="store_true", help="let other machines ask, too; there is no password")
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="pictures of up to N detectors of Frigate go through the network at once (default: on a GPU as many as "
        "MODEL takes, see edgedet export --batch)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT_MS,
        metavar="MS",
        help="how long the other program waits for an answer, Frigate's request_timeout_ms: a picture whose answer "
        "would come later is skipped, so that other answers come in time; 0: no limit (default: %(default)s)",
    )
    add_threads(parser)
    add_score(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM, and print what was served."""
    options = _options(args)
    text = text_stream(options.json)
    stop = Stop()
    require("cv2", "edgedet serve").setNumThreads(options.threads)  # more of them wait for each other: 62 ms, not 47
    with closing(Detector(options.model, options.threads, options.score)) as detector, stop.on_signals():
        batch = choose_batch(options.batch, detector.max_batch, Path(options.model))
        say = partial(print, "edgedet:", file=sys.stderr)
        answers = FrigateAnswers(detector, options.pixels, say, batch, options.timeout_ms)

        def say_where(endpoint: str) -> None:
            h, w = detector.meta.spec.input_hw
            at_once = f", up to {batch} pictures at once" if batch > 1 else ""
            print(
                f"serving {options.model} at {endpoint}{at_once}; Frigate's model block: width {w}, height {h}",
                file=text,
            )
            text.flush()

        summary = serve_frigate(options.endpoint, answers, stop, say_where)
    times = "" if summary.p50_ms is None else f", {summary.p50_ms:.1f} ms each (99 %: {summary.p99_ms:.1f} ms)"
    runs = f" in {summary.runs} runs of the network" if summary.runs < summary.pictures else ""
    late = f", {summary.late} too late" if summary.late else ""
    print(f"served {summary.pictures} pictures{runs}{times}{late}; {summary.refused} messages refused", file=text)
    write_figures("serve", options.json, asdict(summary))
    return 0


def _options(args: argparse.Namespace) -> Options:
    if args.zmq is None:
        raise InputError("edgedet serve needs --zmq ENDPOINT, as ipc:///tmp/cache/zmq_detector for Frigate.")
    check_endpoint(args.zmq, args.remote)
    if not 0 <= args.timeout < float("inf"):
        raise InputError(f"--timeout takes milliseconds, and 0 for no limit; got {args.timeout:g}.")
    logit_of(args.score)
    require("zmq", "edgedet serve --zmq")
    return Options(
        args.model,
        args.zmq,
        args.pixels,
        args.remote,
        args.batch,
        args.timeout or None,
        args.threads,
        args.score,
        args.json,
    )
