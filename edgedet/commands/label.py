"""``edgedet label``: label pictures of a scene on a page in the browser, and write a COCO file."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ..engines.base import check_threads
from ..engines.table import engine_for
from ..errors import InputError, require
from ..files import MODELS_FOLDER
from ..label.prepare import prepare_session
from ..label.server import serve_session
from ..label.session import Session, load_session
from ..progress import count_of
from ..schemas import write_figures
from .options import add_json, add_threads, check_at_least, text_stream

DESCRIPTION = (
    "Label the most telling pictures of a scene in a browser: accept, correct and add to the model's boxes. "
    "The labels are a COCO file for --data of export and eval."
)
EXAMPLE = """  edgedet label street.mp4 --model edgedet-out/my.onnx
  edgedet label photos/ --count 40 --out photos-labels"""
INPUTS = ("source", "model")
OUTPUTS = ("json",)
WRITES_INTO = ("out",)
COUNT = 30
PORT = 8081
FOLDER = Path("edgedet-labels")


@dataclass(frozen=True)
class Summary:
    """What ``--json`` prints: the COCO file, its numbers of pictures and boxes, and the pictures still to be done."""

    labels: str
    pictures: int
    boxes: int
    left: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet label``."""
    parser.add_argument("source", metavar="SRC", help="video, folder of pictures, or one picture")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help=f"float model file (default: the newest in {MODELS_FOLDER}/)"
    )
    parser.add_argument(
        "--count", type=int, default=COUNT, metavar="N", help="pictures to label at most (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder of pictures and labels; a session that was begun in it goes on (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=PORT,
        help="port of the page, on this machine only; 0: any free one (default: %(default)s)",
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Pick the pictures, serve the page until the user has finished, and print what was labelled."""
    check_at_least("--count", args.count, 1)
    check_at_least("--threads", args.threads, 1)
    check_threads(args.threads)
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port wants a number from 0 to 65535; got {args.port}.")
    for module, purpose in (("tornado", "edgedet label"), ("tqdm", "edgedet label"), ("cv2", "edgedet label")):
        require(module, purpose)
    session = load_session(args.out)
    if session is None:
        if not os.path.exists(args.source):
            raise InputError(f"there is no {args.source}: wanted a video, a folder of pictures, or one picture.")
        session = prepare_session(args.source, args.model or _newest_float(), args.out, args.count, args.threads)
        session.save()
    else:
        _say(f"going on with the {len(session.pictures)} pictures in {args.out}; --out names another folder")
    try:
        serve_session(session, args.port, _say)
    except KeyboardInterrupt:
        _say("interrupted; what was labelled is kept")
    done, boxes = session.count()
    summary = Summary(str(session.labels), done, boxes, len(session.pictures) - done)
    _print(summary, session, args)
    write_figures("label", args.json, asdict(summary))
    return 0


def _say(line: str) -> None:
    print(f"edgedet: {line}", file=sys.stderr, flush=True)


def _print(summary: Summary, session: Session, args: argparse.Namespace) -> None:
    text = text_stream(args.json)
    pictures, boxes = count_of(summary.pictures, "picture"), count_of(summary.boxes, "box", "es")
    print(f"wrote {summary.labels}: {pictures}, {boxes}; {summary.left} still to be labelled", file=text)
    if summary.left:
        print(f"go on: edgedet label {args.source} --out {session.folder}", file=text)
    if summary.pictures:
        print(f"use it: edgedet export --int8 --calib {args.source} --data {summary.labels} ...", file=text)


def _newest_float() -> Path:
    models = [path for path in MODELS_FOLDER.glob("*") if engine_for(path) is not None and "_int8" not in path.stem]
    if not models:
        raise InputError(f"no model was named and {MODELS_FOLDER}/ holds no float one: name one by --model FILE.")
    return max(models, key=lambda path: path.stat().st_mtime)
