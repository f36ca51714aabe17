"""The output of a run that serves the live page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, ContextManager, Sequence

from ..detector import Detector
from ..stream.outputs.sinks import Write
from .figures import Figures
from .guard import Guard, Place
from .pictures import jpeg_of
from .server import web_server
from .subject import Subject, facts_of, score_of

if TYPE_CHECKING:
    from ..stream.sources import Source


@dataclass(frozen=True)
class WebOptions:
    """Where the page is, who may see it, and when /healthz fails.

    unhealthy_s: seconds without a frame; ``healthy_if``: from all cameras ("any" must deliver), or from one ("all").
    """

    place: Place
    guard: Guard
    unhealthy_s: float
    healthy_if: str = "any"


def web_sink(
    options: WebOptions,
    source: Source,
    model: str,
    detectors: Sequence[Detector],
    threads: int,
    report: Callable[[str], None],
) -> ContextManager[Write]:
    """Return the sink; ``model`` is the file's name, ``detectors`` are of it, one or copies of one."""
    first = detectors[0]
    score, set_score = score_of(detectors)
    subject = Subject(
        name=source.name,
        facts=facts_of(model, first.meta, threads),
        cameras=source.stats,
        figures=Figures(first.class_names),
        score=score,
        set_score=set_score,
        unhealthy_s=options.unhealthy_s,
        healthy_if=options.healthy_if,
        encode=lambda result, longest_px: jpeg_of(result, first.class_names, longest_px),
    )
    return web_server(options.place, options.guard, subject, report)
