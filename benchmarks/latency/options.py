"""The options of ``edgedet bench``, and what is wrong with them. Measures nothing."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from edgedet.benchmarks.latency.prepared import Wanted, wanted_files
from edgedet.benchmarks.latency.sustain import seconds_of
from edgedet.engines.base import check_threads, default_threads
from edgedet.engines.table import PRECISIONS, PUBLIC_ENGINES
from edgedet.errors import InputError
from edgedet.files import check_writable
from edgedet.postprocess import DEFAULT_SCORE, logit_of

LONGEST_RANGE = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet bench``."""
    parser.add_argument(
        "compare", nargs="*", metavar="compare A.json B.json", help="compare two earlier runs instead of measuring"
    )
    parser.add_argument("--model", nargs="+", metavar="FILE", help="model files, measured in turns")
    family = parser.add_argument_group("models of the family, exported and cached")
    family.add_argument("--phi", metavar="N,M-L", help="compound scaling: 0-7, or 8 for D7x; numbers and ranges")
    family.add_argument(
        "--precision", default="fp32", metavar="A,B", help=f"of {', '.join(PRECISIONS)} (default: %(default)s)"
    )
    family.add_argument(
        "--engine",
        default="ort",
        metavar="A,B",
        help=f"of {', '.join(engine.name for engine in PUBLIC_ENGINES)} (default: %(default)s)",
    )
    family.add_argument(
        "--weights", metavar="FILE", help="checkpoint, or 'demo' (default: random weights, which find nothing of use)"
    )
    family.add_argument("--seed", type=int, default=0, help="of random weights (default: %(default)s)")
    family.add_argument("--calib", metavar="SRC", help="frames for INT8 with --weights, as `edgedet export` takes them")
    parser.add_argument("--source", metavar="X", help="image, folder or video (default: the demo's clip)")
    parser.add_argument("--runs", type=int, default=50, help="runs of each model, at least (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="measure for this time, at least (default: %(default)s)"
    )
    parser.add_argument("--warmup", type=int, default=5, help="runs before those that count (default: %(default)s)")
    parser.add_argument(
        "--threads", default=str(default_threads()), metavar="N,M", help="CPU threads (default: %(default)s)"
    )
    parser.add_argument(
        "--score", type=float, default=DEFAULT_SCORE, help="leave out what is less sure, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument("--data", type=Path, metavar="X", help="labels for AP: COCO JSON or Pascal VOC folder")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images of --data are")
    parser.add_argument(
        "--sustain", metavar="TIME", help="then run each model for 45s, 30m or 1h: FPS and temperature over time"
    )
    parser.add_argument(
        "--profile", action="store_true", help="then say where the network's time goes, beside what it must cost"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write one page with plots")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the JSON line to FILE; without FILE, print it alone"
    )


@dataclass(frozen=True)
class Checked:
    """Options as they are used.

    threads: numbers, each once. wanted: files of the family. left_out: one line for each pair without a file.
    sustain_s: None without ``--sustain``.
    """

    threads: list[int]
    wanted: list[Wanted]
    left_out: list[str]
    sustain_s: float | None


def checked(args: argparse.Namespace) -> Checked:
    """Check whatever costs nothing to check; raises InputError."""
    for option, wanted in (("weights", "phi"), ("calib", "weights"), ("images", "data")):
        if getattr(args, option) is not None and getattr(args, wanted) is None:
            raise InputError(f"--{option} goes with --{wanted}.")
    if not args.model and args.phi is None:
        raise InputError("nothing to measure: name one or more files after --model, or --phi 0-2 for the family.")
    for option, least in (("runs", 1), ("warmup", 0)):
        if getattr(args, option) < least:
            raise InputError(f"--{option} wants a number from {least} up; got {getattr(args, option)}.")
    if not 0 <= args.seconds < float("inf"):
        raise InputError(f"--seconds wants a number from 0 up; got {args.seconds}.")
    logit_of(args.score)
    threads = numbers("--threads", args.threads)
    for count in threads:
        if count < 1:
            raise InputError(f"--threads wants a number from 1 up; got {count}.")
        check_threads(count)
    sustain_s = None if args.sustain is None else seconds_of(args.sustain)
    files, left_out = _wanted(args)
    for path in (args.html, args.json):
        if path not in (None, "-"):
            check_writable(path)
    return Checked(threads, files, left_out, sustain_s)


def numbers(option: str, text: str) -> list[int]:
    """Parse "0,2,4-6" to [0, 2, 4, 5, 6], each once; raises InputError naming the option."""
    found: list[int] = []
    for part in text.split(","):
        ends = part.strip().split("-")
        if len(ends) > 2 or not all(end.isdigit() for end in ends) or not _fits(int(ends[0]), int(ends[-1])):
            raise InputError(f"{option} takes numbers and ranges, such as 0,2,4-6; got {text!r}.")
        found += range(int(ends[0]), int(ends[-1]) + 1)
    return list(dict.fromkeys(found))


def _fits(first: int, last: int) -> bool:
    return first <= last < first + LONGEST_RANGE


def _wanted(args: argparse.Namespace) -> tuple[list[Wanted], list[str]]:
    if args.phi is None:
        return [], []
    phis = numbers("--phi", args.phi)
    if args.weights is not None and len(phis) > 1:
        raise InputError(f"--weights is of one model, but --phi names {len(phis)}: name one.")
    if args.weights not in (None, "demo") and not Path(args.weights).is_file():
        raise InputError(f"there is no checkpoint {args.weights}: name a file, or demo.")
    return wanted_files(
        phis, _names(args.precision), _names(args.engine), weights=args.weights, seed=args.seed, calib=args.calib
    )  # fmt: skip


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))
