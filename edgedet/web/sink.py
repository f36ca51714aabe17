"""The output of a run that serves the live page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ContextManager, Optional, Protocol

from ..artifact import ArtifactMeta
from ..progress import Say
from ..stream.outputs.sinks import Write
from .figures import Figures
from .guard import Guard, Place
from .pictures import jpeg_of
from .server import web_server
from .subject import Places, Subject, facts_of

if TYPE_CHECKING:
    from ..stream.sources import Source


@dataclass(frozen=True)
class WebOptions:
    """Where the page is, who may see it, and when /healthz fails.

    unhealthy_s: seconds without a frame after which it fails: without a frame of any camera where ``healthy_if`` is
                 "any", without a frame of one of them where it is "all".
    """

    place: Place
    guard: Guard
    unhealthy_s: float
    healthy_if: str = "any"


class Threshold(Protocol):
    """The score threshold of a run, which a viewer may change."""

    def score(self) -> float:
        """Return it."""
        ...

    def set_score(self, score: float) -> None:
        """Change it, from any thread; raises InputError outside (0, 1)."""
        ...


def web_sink(
    options: WebOptions,
    source: Source,
    model: str,
    meta: ArtifactMeta,
    threshold: Threshold,
    threads: int,
    say: Say,
    events: Optional[Path] = None,
    places: Optional[Places] = None,
) -> ContextManager[Write]:
    """Return the sink.

    model:  the file's name; ``meta``: what it says of itself.
    events: the events' folder; ``places``: what changes zones and lines.
    """
    subject = Subject(
        name=source.name,
        facts=facts_of(model, meta, threads),
        cameras=source.stats,
        figures=Figures(meta.class_names),
        score=threshold.score,
        set_score=threshold.set_score,
        unhealthy_s=options.unhealthy_s,
        healthy_if=options.healthy_if,
        events=events,
        places=places,
        encode=lambda result, longest_px: jpeg_of(result, meta.class_names, longest_px),
    )
    return web_server(options.place, options.guard, subject, say)
