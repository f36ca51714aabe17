"""`edgedet serve --zmq`: Frigate's protocol over a real socket on this machine, refusals, and who may connect."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zmq = pytest.importorskip("zmq", reason="needs the serve extra (pyzmq)")

from edgedet import Detector
from edgedet.artifact import ArtifactMeta
from edgedet.cli import main
from edgedet.engines.fake import FakeEngine, save_fake
from edgedet.errors import InputError
from edgedet.serve.frigate_zmq import FrigateAnswers, check_endpoint, rows_of, serve_frigate
from edgedet.specs import resized, spec_for
from edgedet.types import Detections

BOXES = [(0, 0.9, (16.0, 32.0, 80.0, 96.0)), (1, 0.6, (64.0, 64.0, 128.0, 128.0)), (1, 0.2, (0.0, 0.0, 30.0, 30.0))]


def meta() -> ArtifactMeta:
    from dataclasses import replace

    spec = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=2)
    return ArtifactMeta(spec, ("person", "car"), "fp32", "0" * 64)


class FrigateClient:
    """Speaks as Frigate's ZmqIpcDetector does: REQ, one JSON header, raw bytes."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.RCVTIMEO, 30_000)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    def ask(self, header: Any, *parts: bytes) -> list[bytes]:
        self._socket.send_multipart([header if isinstance(header, bytes) else json.dumps(header).encode(), *parts])
        return self._socket.recv_multipart()

    def detect(self, picture: np.ndarray) -> np.ndarray:
        header = {"shape": list(picture.shape), "dtype": picture.dtype.name, "model_type": "ssd"}
        (answer,) = self.ask(header, picture.tobytes(order="C"))
        assert len(answer) == 20 * 6 * 4
        return np.frombuffer(answer, np.float32).reshape(20, 6)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def client(lines: list[str], tmp_path: Path) -> Iterator[FrigateClient]:
    """A client of a server in a thread of this process."""
    ended, bound, places = threading.Event(), threading.Event(), []
    detector = Detector((meta(), FakeEngine(meta(), BOXES)))
    answers = FrigateAnswers(detector, "rgb", lines.append)

    def tell(endpoint: str) -> None:
        places.append(endpoint)
        bound.set()

    server = threading.Thread(target=serve_frigate, args=(f"ipc://{tmp_path}/frigate", answers, ended.is_set, tell))
    server.start()
    assert bound.wait(30)
    asking = FrigateClient(places[0])
    yield asking
    asking.close()
    ended.set()
    server.join()


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
        FrigateAnswers(Detector((meta(), Watching(meta(), BOXES))), order, print)(frames)
    assert seen == [[30, 20, 10], [10, 20, 30]]


def test_twenty_boxes_at_most() -> None:
    found = Detections(np.ones((30, 4), np.float32), np.linspace(1, 0.5, 30, dtype=np.float32), np.arange(30))
    rows = rows_of(found, 2, 4)
    assert rows.shape == (20, 6)
    assert rows[19].tolist() == [19, found.scores[19], 0.5, 0.25, 0.5, 0.25]


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.168.1.2:5555", "tcp://:5555"])
def test_other_machines_only_where_that_was_asked(endpoint: str) -> None:
    with pytest.raises(InputError, match="--remote"):
        check_endpoint(endpoint, remote=False)
    check_endpoint(endpoint, remote=True)
    check_endpoint("tcp://127.0.0.1:5555", remote=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --zmq ENDPOINT"),
        (["--zmq", "http://x"], "--zmq takes ipc://PATH"),
        (["--zmq", "tcp://127.0.0.1"], "--zmq takes ipc://PATH"),
        (["--zmq", "ipc:///proc/nowhere/socket"], "no folder /proc/nowhere"),
        (["--zmq", "ipc:///tmp/socket", "--score", "2"], "score"),
    ],
)
def test_bad_options_give_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "model.fake", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    save_fake(tmp_path / "model.fake", meta(), BOXES)
    command = [sys.executable, "-m", "edgedet", "serve", str(tmp_path / "model.fake"), "--zmq", "tcp://127.0.0.1:*"]
    command[-1] = f"ipc://{tmp_path}/socket"
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert "width 128, height 128" in server.stdout.readline()
        client = FrigateClient(f"ipc://{tmp_path}/socket")
        assert client.detect(np.zeros((1, 128, 128, 3), np.uint8))[0, 1] > 0.8
        client.close()
        server.terminate()
        out, _ = server.communicate(timeout=60)
        assert server.returncode == 0
        assert out.startswith("served 1 pictures")
    finally:
        server.kill()
        server.communicate()
