"""Write the figures of a run in Prometheus' text format.

Names follow Prometheus' own rules: base units (seconds), ``_total`` on counters.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

from ..figures import BOUNDS_MS
from ..subject import Subject

OUTCOMES = ("processed", "dropped", "skipped", "stale")  # of the frames that a camera delivered; see CameraStats
UP = "live"


def metrics_text(subject: Subject, pictures: int, viewers: int) -> Tuple[bytes, str]:
    """Return the text and its content type.

    pictures: JPEGs made so far; viewers: open pages and streams.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(_families(subject, pictures, viewers))))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """What prometheus-client wants to be handed."""

    def __init__(self, families: List[Any]) -> None:
        self._families = families

    def collect(self) -> List[Any]:
        return self._families


def _families(subject: Subject, pictures: int, viewers: int) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    figures, stats = subject.figures, subject.cameras()
    info = InfoMetricFamily("edgedet_model", "The model that runs.")
    info.add_metric([], {key: str(subject.facts[key]) for key in ("file", "model", "input", "precision")})
    yield info
    frames = CounterMetricFamily("edgedet_frames", "Frames that the detector looked at.", labels=["camera"])
    detections = CounterMetricFamily(
        "edgedet_detections", "Detections above the threshold.", labels=["camera", "class"]
    )
    objects = CounterMetricFamily(
        "edgedet_objects", "Objects that were followed, each counted once.", labels=["camera", "class"]
    )
    silent = GaugeMetricFamily("edgedet_seconds_since_frame", "Since the newest result.", labels=["camera"])
    for name in subject.camera_names():
        camera = figures.camera(name)
        frames.add_metric([name], camera["frames"])
        silent.add_metric([name], figures.silent_s(name))
        for class_name, count in camera["total"].items():
            detections.add_metric([name, class_name], count)
        for class_name, count in (camera["objects"] or {}).items():
            objects.add_metric([name, class_name], count)
    yield from (frames, detections, objects, silent)

    stages, ages = figures.histograms()
    yield _histogram("edgedet_stage_seconds", "Time of a stage of detection.", "stage", stages)
    yield _histogram("edgedet_frame_age_seconds", "From a frame's capture to its result.", "camera", ages)

    up = GaugeMetricFamily("edgedet_camera_up", "1 while the camera delivers.", labels=["camera"])
    delivered = CounterMetricFamily("edgedet_camera_frames", "Frames by their fate.", labels=["camera", "outcome"])
    gaps = CounterMetricFamily("edgedet_camera_gaps", "Times that the camera was lost.", labels=["camera"])
    gap_s = CounterMetricFamily("edgedet_camera_gap_seconds", "Time that the camera was lost.", labels=["camera"])
    for item in stats:
        up.add_metric([item.name], float(item.state == UP))
        gaps.add_metric([item.name], item.gaps)
        gap_s.add_metric([item.name], item.gap_s)
        for outcome in OUTCOMES:
            delivered.add_metric([item.name, outcome], getattr(item, outcome))
    yield from (up, delivered, gaps, gap_s)

    yield GaugeMetricFamily("edgedet_score_threshold", "Detections below it are left out.", value=subject.score())
    yield GaugeMetricFamily("edgedet_viewers", "Open pages and streams.", value=viewers)
    yield CounterMetricFamily("edgedet_pictures", "Pictures encoded for viewers.", value=pictures)


def _histogram(name: str, text: str, label: str, series: Dict[str, Tuple[List[int], float]]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, text, labels=[label])
    for key, (counts, sum_ms) in series.items():
        total, buckets = 0, []
        for bound, count in zip([f"{bound / 1000:g}" for bound in BOUNDS_MS] + ["+Inf"], counts):
            total += count
            buckets.append((bound, total))
        family.add_metric([key], buckets, sum_ms / 1000)
    return family
