"""Frigate's protocol over a real socket on this machine: what is answered to pictures, and to what is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("zmq", reason="needs the serve extra (pyzmq)")
from frigate_client import BOXES, FrigateClient, meta, served

from edgedet import Detector
from edgedet.engines.fake import FakeEngine
from edgedet.serve.frigate_answers import FrigateAnswers, rows_of
from edgedet.types import Detections


@pytest.fixture
def client(lines: list[str], tmp_path: Path) -> Iterator[FrigateClient]:
    """A client of a server that finds BOXES in every picture."""
    with served(tmp_path, FakeEngine(meta(), BOXES), lines.append) as endpoint:
        asking = FrigateClient(endpoint)
        yield asking
        asking.close()


def test_a_model_is_there_and_boxes_come_as_shares_best_first(client: FrigateClient) -> None:
    (answer,) = client.ask({"model_request": True, "model_name": "model.onnx"})
    assert json.loads(answer) == {"model_available": True, "model_loaded": True}
    found = client.detect(np.zeros((1, 128, 128, 3), np.uint8))
    expected = [[0, 0.9, 32 / 128, 16 / 128, 96 / 128, 80 / 128], [1, 0.6, 0.5, 0.5, 1, 1]]
    np.testing.assert_allclose(found[:2], expected, atol=1e-5)
    assert not found[2:].any()  # the third is below the threshold


def test_pictures_of_other_sizes_and_planes_are_taken(client: FrigateClient) -> None:
    whole = client.detect(np.zeros((1, 256, 256, 3), np.uint8))
    planes = client.detect(np.zeros((1, 3, 256, 256), np.uint8))
    np.testing.assert_allclose(whole[0], [0, 0.9, 32 / 128, 16 / 128, 96 / 128, 80 / 128], atol=1e-5)
    np.testing.assert_array_equal(planes, whole)


@pytest.mark.parametrize(
    ("header", "parts", "reason"),
    [
        (b"no json", (), "no JSON"),
        ([1], (), "no JSON object"),
        ({"shape": [1, 128, 128, 3], "dtype": "float32"}, (b"",), "input_dtype: int"),
        ({"shape": [1, 128, 128, 3], "dtype": "uint8"}, (b"123",), "49152 bytes; got [3]"),
        ({"shape": [1, -1, 128, 3], "dtype": "uint8"}, (b"",), "wanted (1, H, W, 3)"),
        ({"shape": "big", "dtype": "uint8"}, (b"",), "wanted (1, H, W, 3)"),
        ({"shape": [2, 8, 8, 3], "dtype": "uint8"}, (b"\0" * 384,), "wanted (1, H, W, 3)"),
    ],
)
def test_what_cannot_be_used_gets_no_boxes_and_one_line(
    header: Any, parts: tuple[bytes, ...], reason: str, client: FrigateClient, lines: list[str]
) -> None:
    for _ in range(2):
        (answer,) = client.ask(header, *parts)
        assert answer == b"\0" * 480
    (line,) = lines
    assert reason in line
    assert client.detect(np.zeros((1, 128, 128, 3), np.uint8))[0, 1] > 0.8  # it serves on


def test_no_model_is_taken_from_the_network(client: FrigateClient, lines: list[str]) -> None:
    (answer,) = client.ask({"model_data": True, "model_name": "x.onnx"}, b"evil")
    assert json.loads(answer) == {"model_saved": False, "model_loaded": False}
    assert "takes none over the network" in lines[0]


def test_colours_are_swapped_for_rgb_only() -> None:
    seen = []

    class Watching(FakeEngine):
        def infer(self, pixels: np.ndarray) -> Any:
            seen.append(pixels[0, 0, 0].tolist())
            return super().infer(pixels)

    picture = np.broadcast_to(np.array([10, 20, 30], np.uint8), (1, 128, 128, 3))
    frames = [json.dumps({"shape": [1, 128, 128, 3], "dtype": "uint8"}).encode(), picture.tobytes()]
    for order in ("rgb", "bgr"):
        answers = FrigateAnswers(Detector((meta(), Watching(meta(), BOXES))), order, print)
        read = answers.read(frames)
        assert isinstance(read, np.ndarray)
        answers.detect([read])
    assert seen == [[30, 20, 10], [10, 20, 30]]


def test_twenty_boxes_at_most() -> None:
    found = Detections(np.ones((30, 4), np.float32), np.linspace(1, 0.5, 30, dtype=np.float32), np.arange(30))
    rows = rows_of(found, 2, 4)
    assert rows.shape == (20, 6)
    assert rows[19].tolist() == [19, found.scores[19], 0.5, 0.25, 0.5, 0.25]
