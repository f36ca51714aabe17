"""LiteRT's profile: what is read out of its text, and that each run is counted by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="writing a network needs the export extra")
pytest.importorskip("ai_edge_litert", reason="needs the tflite extra")
pytest.importorskip("flatbuffers", reason="needs the tflite extra")
pytest.importorskip("cv2", reason="the detector resizes pictures by OpenCV")
pytest.importorskip("tqdm", reason="needs the bench extra")

from models import (
    random_pixels,
)
from tflite_models import plan_for, random_graph

from edgedet.benchmarks.profile.tflite_profile import Profile, parse_times
from edgedet.errors import UnsupportedError
from edgedet.export.tflite.writer import tflite_from_graph
from edgedet.specs import SPECS

SPEC = replace(SPECS["tf_efficientdet_lite0"], num_classes=2, input_hw=(128, 128))
SUMMARY = b"""===== Summary by node type =====
                     [Node type]    [count]   [avg ms]    [avg %]    [cdf %]   [mem KB] [times called]
   Delegate/Fully Connected (NC, QS8, QC8W) GEMM        100      0.102    39.268%    39.268%      0.000           1330
                         RESIZE_NEAREST_NEIGHBOR         12      0.004     0.155%    99.872%      0.000            120

===== Delegate Statistics =====
Op Name                                       Count    Avg(us)    Min(us)    Max(us)  Total(us)
Delegate/Add (ND)                               420      18.08          0       3893       7594
Delegate/Fully Connected (NC, QS8, QC8W) GEMM  1330     102.39          0       5298     136176

Timings (microseconds): count=335 curr=346790
"""


def outside_convolutions(times_ms: dict[str, float]) -> float:
    """Return the sum of the times without the convolutions': a 1 x 1 convolution is a fully connected layer there."""
    return sum(ms for kind, ms in times_ms.items() if "Convolution" not in kind and "Fully Connected" not in kind)


def test_times_are_read_from_the_profilers_text() -> None:
    """Delegates by their totals; the resize 120 times 0.004 ms."""
    times = parse_times(SUMMARY)
    assert times == {
        "RESIZE_NEAREST_NEIGHBOR": pytest.approx(0.48),
        "Delegate/Add (ND)": pytest.approx(7.594),
        "Delegate/Fully Connected (NC, QS8, QC8W) GEMM": pytest.approx(136.176),
    }
    assert outside_convolutions(times) == pytest.approx(0.48 + 7.594)
    with pytest.raises(UnsupportedError, match="a form that edgedet does not know"):
        parse_times(b"another version's words")


def test_litert_profiles_each_run_by_itself(tmp_path: Path) -> None:
    """Convolutions take part of each run and other operators another; a second run is not counted with the first."""
    model = random_graph(SPEC)
    path = tmp_path / "lite.tflite"
    path.write_bytes(tflite_from_graph(model, plan_for(model, SPEC, random_pixels(SPEC)))[0])
    profile = Profile(path)
    runs = [profile.run() for _ in range(60)]
    for times in runs:
        assert 0 < outside_convolutions(times) < sum(times.values())
        assert "RESIZE_NEAREST_NEIGHBOR" in times
    totals = [sum(times.values()) for times in runs]
    # Added up, the 31st would be 31 times the least of those before; a busy machine makes all slower for a while.
    assert min(totals[30:]) < 15 * min(totals[:30])
