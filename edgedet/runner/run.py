"""One run: open the source, the model and the outputs, detect objects in every frame, and return a summary.

Events, MQTT and the live page are imported where a run has them: they cost a third of the time until it starts.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Mapping, Optional, Sequence, Tuple

from ..detector import Detector
from ..engines.base import choose_batch
from ..errors import EdgeDetError, InputError
from ..motion.gate import MotionRules
from ..progress import Say
from ..stream.file_sources import ImageSource
from ..stream.loop import Batch, RunSummary, run_frames
from ..stream.outputs.sinks import Write
from ..stream.progress import Progress
from ..stream.sources import Source, SourceOptions, open_cameras, open_looped, open_source
from ..stream.stop import Stop
from ..types import FrameResult
from .camera_models import open_camera_models
from .models import ExportDemo, ModelOptions
from .outputs import OutputOptions, check_save, open_outputs
from .tracking import Tracking

if TYPE_CHECKING:
    from ..events.watch import Rulebook
    from ..web.sink import WebOptions
    from ..web.subject import Places


@dataclass(frozen=True)
class Settings:
    """What may change while a run goes on: the score threshold, and what makes an event."""

    score: float
    rules: Rulebook


@dataclass(frozen=True)
class RunOptions:
    """The source, the model and the outputs of a run.

    source:  image, folder, pattern, video or one camera. Either it or ``cameras`` is given.
    cameras: several cameras, with their names.
    loop:    play a video file again and again at its own speed, as a camera.
    opening: how sources are opened, and which frames are taken.
    web:     the live page; None without one.
    limit:   end after this number of frames; None: no limit.
    track:   follow objects from frame to frame; never done for images.
    motion:  look only where something changed; None: at every frame. Never done for images.
    batch:   how many cameras' frames go through the network at once; None: as ``choose_camera_batch`` says.
    reload:  reads anew, at SIGHUP, what may change while the run goes on; None: SIGHUP ends the run.
    models:  of each camera its model file, None for ``model``; empty where all have that one.
    places:  makes of the rules and the model's classes what the live page changes zones and lines by; None: nothing.
    """

    source: Optional[str]
    cameras: Tuple[str, ...]
    loop: bool
    opening: SourceOptions
    model: ModelOptions
    outputs: OutputOptions
    web: Optional[WebOptions] = None
    limit: Optional[int] = None
    track: bool = True
    motion: Optional[MotionRules] = None
    batch: Optional[int] = None
    reload: Optional[Callable[[], Settings]] = None
    models: Mapping[str, Optional[str]] = field(default_factory=dict)
    places: Optional[Callable[[Rulebook, Sequence[str]], Places]] = None


@dataclass(frozen=True)
class RunResult:
    """The summary of a run, with the model and the source that were used.

    source: the source's name, without passwords.
    live:   whether the source was one or several cameras.
    score:  the threshold at the end: a viewer of the live page may have changed it.
    signum: of the signal that ended the run, 0 without one.
    """

    model: Path
    source: str
    live: bool
    score: float
    signum: int
    summary: RunSummary


def run_detection(
    options: RunOptions,
    progress: Progress,
    started: Callable[[Path, Detector], None],
    take: Write,
    export_demo: ExportDemo,
) -> RunResult:
    """Detect objects in frames until the source ends, a signal comes, or the limit is reached.

    progress:    shows how far the run is, and messages on cameras and outputs.
    started:     called with each model once all are open, before the first frame.
    take:        called with each frame's result, after the outputs have written it.
    export_demo: called where the user named no model and MODELS_FOLDER has none.
    Raises InputError where options do not fit the source, and the errors of the source, the model and the outputs.
    """
    stop = Stop()
    with ExitStack() as held:
        source = held.enter_context(closing(_open_source(options, stop, progress.say)))
        check_save(options.outputs.save, source)
        _check_events(options, source)
        if options.motion is not None and isinstance(source, ImageSource):
            raise InputError("--motion is for videos and cameras, because single pictures do not move: leave it out.")
        if options.outputs.keep_bytes is not None and not source.live:
            raise InputError("--keep is for cameras, because files end by themselves: leave it out.")
        one_copy = source.live or options.motion is not None
        models = open_camera_models(options.model, options.models, one_copy, export_demo)
        model, detectors, class_names = models.files[0], models.detectors, models.class_names
        for detector in detectors:
            held.enter_context(closing(detector))
        if options.outputs.events is not None:
            check_classes(options.outputs.events.rules, class_names)
        for path, detector in zip(models.files, detectors[: None if models.several else 1]):
            started(path, detector)
        progress.expect(min((n for n in (source.total, options.limit) if n is not None), default=None))
        held.enter_context(stop.on_signals(reloads=options.reload is not None))
        tracking = Tracking(detectors, options.track and not isinstance(source, ImageSource))
        page = None
        events, mqtt = options.outputs.events, options.outputs.mqtt
        places = None
        if events is not None and options.places is not None:
            places = options.places(events.rules, class_names)
        if options.web is not None:
            from ..web.sink import web_sink

            page = web_sink(
                options.web,
                source,
                ", ".join(path.name for path in dict.fromkeys(models.files)),
                replace(detectors[0].meta, class_names=class_names),
                tracking,
                options.model.threads,
                progress.say,
                None if events is None else events.folder,
                places,
            )
        failures: List[str] = []
        publisher = None
        if events is not None and mqtt is not None:
            from ..events.mqtt import mqtt_publisher

            publisher = held.enter_context(mqtt_publisher(mqtt, events.folder, progress.say))
        outputs = open_outputs(options.outputs, source, class_names, stop, page, progress.say, failures, publisher)
        sinks = [*(held.enter_context(sink) for sink in outputs), take]
        detect = models.detect_functions()
        most = 1 if models.several else choose_camera_batch(options, detectors[0].max_batch, model)
        batch = Batch(detectors[0].detect_batch, most) if most > 1 else None
        if options.motion is not None:
            gate = models.gate(options.motion)
            detect = [gate.detect_alone]
            batch = replace(gate, most=len(options.cameras)) if len(options.cameras) > 1 else None

        def follow(result: FrameResult) -> FrameResult:
            if options.reload is not None and stop.take_reload():
                _reload(options, options.reload, tracking, class_names, progress.say)
            return tracking(result)

        summary = run_frames(source, detect, sinks, stop, options.limit, progress.update, follow, batch)
        score = tracking.score()
    summary = replace(summary, failures=summary.failures + failures)
    return RunResult(model, source.name, source.live, score, stop.signum, summary)


def choose_camera_batch(options: RunOptions, max_batch: int, model: Path) -> int:
    """Return how many cameras' frames go through the network at once; see ``choose_batch``."""
    batch = choose_batch(options.batch, max_batch, model)
    if options.motion is not None:  # one input has parts of several cameras' frames already
        return 1
    return min(batch, max(len(options.cameras), 1))


def _check_events(options: RunOptions, source: Source) -> None:
    if options.outputs.events is None:
        return
    if isinstance(source, ImageSource):
        raise InputError("--events is for videos and cameras, because single pictures have no events: leave it out.")
    if not options.track:
        raise InputError("--events needs tracks: leave out --no-track.")


def check_classes(rules: Rulebook, class_names: Sequence[str]) -> None:
    """Raise InputError where rules name a class that the model has not."""
    unknown = [name for name in rules.class_names() if name not in class_names]
    if unknown:
        known = ", ".join(class_names[:20]) + (", ..." if len(class_names) > 20 else "")
        raise InputError(f"this model has no class {unknown[0]}: choose from {known}.")


def _reload(
    options: RunOptions, read: Callable[[], Settings], tracking: Tracking, class_names: Sequence[str], say: Say
) -> None:
    """Take new settings; where they cannot be used, say so and go on with the old ones."""
    try:
        settings = read()
        check_classes(settings.rules, class_names)
        tracking.set_score(settings.score)
    except EdgeDetError as error:
        say(f"{str(error).rstrip('.')}; going on as before")
        return
    if options.outputs.events is not None:
        options.outputs.events.rules.replace(settings.rules)
    say(
        "the configuration was read again: its score, objects, zones and lines are in force now, the rest at the "
        "next start"
    )


def _open_source(options: RunOptions, stop: Stop, say: Say) -> Source:
    if options.cameras:
        return open_cameras(options.cameras, stop, options.opening, say)
    assert options.source is not None  # the command line says one of both
    opener = open_looped if options.loop else open_source
    return opener(options.source, stop, options.opening, say)
