"""``edgedet run --web``: its options, and the output that they ask for. Knows argparse, sources and detectors."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, ContextManager, Optional, Sequence

from ..detector import Detector
from ..errors import InputError, require
from ..stream.sinks import Write
from ..web.figures import Figures
from ..web.guard import DEFAULT_PLACE, TOKEN_VARIABLE, Guard, Place, check_token, names_of, place_of
from ..web.pictures import jpeg_of
from ..web.server import web_server
from ..web.subject import Subject, facts_of, score_of

if TYPE_CHECKING:
    from ..stream.sources import Source

UNHEALTHY_S = 30.0  # three of the timeouts after which a camera is opened again


@dataclass(frozen=True)
class WebOptions:
    """Where the page is, and who may see it."""

    place: Place
    guard: Guard
    unhealthy_s: float


def add_web_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the live page."""
    group = parser.add_argument_group("live page (docs/web.md)")
    group.add_argument(
        "--web", nargs="?", const=DEFAULT_PLACE, metavar="HOST:PORT", help="show what is seen to browsers "
        f"(default: {DEFAULT_PLACE}, this machine only)"
    )  # fmt: skip
    group.add_argument(
        "--token", metavar="TOKEN", help="what viewers must know, as of `openssl rand -hex 16`; or variable "
        f"{TOKEN_VARIABLE} of the environment"
    )  # fmt: skip
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="answer under this host name, too; repeat it"
    )
    group.add_argument(
        "--unhealthy-after", type=float, default=UNHEALTHY_S, metavar="S",
        help="/healthz fails after S seconds without a frame (default: %(default)g)",
    )  # fmt: skip


def web_options(args: argparse.Namespace) -> Optional[WebOptions]:
    """Return the options, None without ``--web``.

    Raises InputError where they do not fit, MissingDependency without the packages of the extra "web".
    """
    if args.web is None:
        if args.token is not None or args.allow_host:
            raise InputError("--token and --allow-host go with --web.")
        return None
    if not args.unhealthy_after > 0:
        raise InputError(f"--unhealthy-after wants a number above 0; got {args.unhealthy_after}.")
    place = place_of(args.web)
    token = args.token if args.token is not None else os.environ.get(TOKEN_VARIABLE) or None
    check_token(place, token)
    guard = Guard(names_of(place, args.allow_host), token, f"edgedet_{place.port}")
    for package in ("tornado", "prometheus_client"):
        require(package, "--web")
    return WebOptions(place, guard, args.unhealthy_after)


def web_sink(
    args: argparse.Namespace,
    source: Source,
    model: Path,
    detectors: Sequence[Detector],
    report: Callable[[str], None],
) -> ContextManager[Write]:
    """Return the output that serves the live page."""
    options = web_options(args)
    assert options is not None
    first = detectors[0]
    score, set_score = score_of(detectors)
    subject = Subject(
        source.name, facts_of(model.name, first.meta, args.threads), source.stats, Figures(first.class_names),
        score, set_score, options.unhealthy_s, lambda result: jpeg_of(result, first.class_names),
    )  # fmt: skip
    return web_server(options.place, options.guard, subject, report)
