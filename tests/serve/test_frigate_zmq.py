"""`edgedet serve --zmq`: Frigate's protocol over a real socket on this machine, refusals, and who may connect."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

zmq = pytest.importorskip("zmq", reason="needs the serve extra (pyzmq)")

from edgedet import Detector
from edgedet.artifact import ArtifactMeta
from edgedet.cli import main
from edgedet.engines.fake import FakeEngine, save_fake
from edgedet.errors import InputError
from edgedet.serve.frigate_answers import FrigateAnswers, rows_of
from edgedet.serve.frigate_zmq import Clients, check_endpoint, serve_frigate
from edgedet.specs import resized, spec_for
from edgedet.types import Detections, RawOutputs

BOXES = [(0, 0.9, (16.0, 32.0, 80.0, 96.0)), (1, 0.6, (64.0, 64.0, 128.0, 128.0)), (1, 0.2, (0.0, 0.0, 30.0, 30.0))]


def meta() -> ArtifactMeta:
    spec = replace(resized(spec_for("tf_efficientdet_d0"), (128, 128)), num_classes=2)
    return ArtifactMeta(spec, ("person", "car"), "fp32", "0" * 64)


class FrigateClient:
    """Speaks as Frigate's ZmqIpcDetector does: REQ, one JSON header, raw bytes."""

    def __init__(self, endpoint: str, kind: int = zmq.REQ) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.setsockopt(zmq.RCVTIMEO, 30_000)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def send(self, header: Any, *parts: bytes) -> None:
        self.socket.send_multipart([header if isinstance(header, bytes) else json.dumps(header).encode(), *parts])

    def ask(self, header: Any, *parts: bytes) -> list[bytes]:
        self.send(header, *parts)
        return self.socket.recv_multipart()

    def send_picture(self, picture: np.ndarray) -> None:
        header = {"shape": list(picture.shape), "dtype": picture.dtype.name, "model_type": "ssd"}
        self.send(header, picture.tobytes(order="C"))

    def receive(self) -> np.ndarray:
        (answer,) = self.socket.recv_multipart()
        assert len(answer) == 20 * 6 * 4
        return np.frombuffer(answer, np.float32).reshape(20, 6)

    def detect(self, picture: np.ndarray) -> np.ndarray:
        self.send_picture(picture)
        return self.receive()

    def close(self) -> None:
        self.socket.close()
        self._context.term()


class ScoringEngine(FakeEngine):
    """Finds one box, whose score says which picture it belongs to: the first pixel / 100. Keeps each run's pixels."""

    def __init__(self, max_batch: int = 1) -> None:
        super().__init__(replace(meta(), max_batch=max_batch), [])
        self.runs: list[list[int]] = []

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        return self.infer_batch(pixels)[0]

    def infer_batch(self, pixels: np.ndarray) -> list[RawOutputs]:
        self.runs.append([int(picture[0, 0, 0]) for picture in pixels])
        return [FakeEngine(meta(), [(0, value / 100, BOXES[0][2])]).infer(pixels[:1]) for value in self.runs[-1]]


def plain(value: int) -> np.ndarray:
    return np.full((1, 128, 128, 3), value, np.uint8)


@contextmanager
def served(folder: Path, engine: FakeEngine, say: Any = print) -> Iterator[str]:
    """A server in a thread of this process: its endpoint."""
    ended, bound, endpoint = threading.Event(), threading.Event(), f"ipc://{folder}/frigate"
    answers = FrigateAnswers(Detector((meta(), engine)), "rgb", say)
    arguments = (endpoint, answers, ended.is_set, lambda _: bound.set())
    server = threading.Thread(target=serve_frigate, args=arguments)
    server.start()
    try:
        assert bound.wait(30)
        yield endpoint
    finally:
        ended.set()
        server.join()


class Stepped:
    """A server that does one step when the test says so, so that what waits is known."""

    def __init__(self, folder: Path, batch: int = 1, say: Any = print, timeout_ms: float | None = None) -> None:
        self.engine = ScoringEngine(batch)
        detector = Detector((replace(meta(), max_batch=batch), self.engine))
        self.answers = FrigateAnswers(detector, "rgb", say, batch, timeout_ms)
        self._context = zmq.Context()
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.LINGER, 0)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._endpoint = f"ipc://{folder}/frigate"
        socket.bind(self._endpoint)
        self.clients = Clients(socket, self.answers)
        self._sockets = [socket, self._monitor]
        self._asking: list[FrigateClient] = []

    def client(self, kind: int = zmq.REQ) -> FrigateClient:
        self._asking.append(FrigateClient(self._endpoint, kind))
        return self._asking[-1]

    def wait_for(self, count: int) -> None:
        """Take in requests until so many wait."""
        wait_until(lambda: self.clients.receive() or len(self.clients.waiting) == count)

    def wait_until_gone(self) -> None:
        """Wait until a client's connection has ended."""
        assert self._monitor.poll(60_000)
        self._monitor.recv_multipart()

    def close(self) -> None:
        for client in self._asking:
            client.close()
        self._sockets[0].disable_monitor()
        for socket in self._sockets:
            socket.close()
        self._context.term()


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Callable[..., Stepped]]:
    """Makes servers of one step at a time."""
    made: list[Stepped] = []

    def make(*args: Any) -> Stepped:
        made.append(Stepped(tmp_path, *args))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def lines() -> list[str]:
    return []


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


def test_pictures_that_wait_go_through_the_network_at_once_and_each_client_gets_its_own_boxes(
    stepped: Callable[..., Stepped],
) -> None:
    server = stepped(3)
    clients = [server.client() for _ in range(5)]
    for value, client in zip((50, 60, 70, 80, 90), clients, strict=True):
        client.send_picture(plain(value))
    server.wait_for(5)
    server.clients.answer_next()
    server.clients.answer_next()
    scores = [client.receive()[0, 1] for client in clients]
    np.testing.assert_allclose(scores, [0.5, 0.6, 0.7, 0.8, 0.9], atol=1e-4)
    assert [len(run) for run in server.engine.runs] == [3, 2]
    summary = server.answers.summary("")
    assert (summary.pictures, summary.runs) == (5, 2)


def test_clients_come_in_turns_where_one_sends_more_than_the_others(stepped: Callable[..., Stepped]) -> None:
    """A DEALER socket may send several requests without waiting for answers; a REQ socket cannot."""
    server = stepped()
    eager, patient = server.client(zmq.DEALER), [server.client() for _ in range(2)]
    header = json.dumps({"shape": [1, 128, 128, 3], "dtype": "uint8"}).encode()
    for value in (51, 52, 53, 54):
        eager.socket.send_multipart([b"", header, plain(value).tobytes()])
    server.wait_for(4)
    server.clients.answer_next()
    for waiting, (value, client) in enumerate(zip((60, 70), patient, strict=True)):
        client.send_picture(plain(value))
        server.wait_for(4 + waiting)
    for _ in range(5):
        server.clients.answer_next()
    assert server.engine.runs == [[51], [52], [60], [70], [53], [54]]
    assert [client.receive()[0, 1] for client in patient] == pytest.approx([0.6, 0.7], abs=1e-4)
    assert [eager.socket.recv_multipart()[0] for _ in range(4)] == [b""] * 4


def test_four_clients_that_ask_all_the_time_get_equal_shares(tmp_path: Path) -> None:
    counts, ended = [0] * 4, threading.Event()
    with served(tmp_path, ScoringEngine()) as endpoint:

        def ask(number: int) -> None:
            client = FrigateClient(endpoint)
            while not ended.is_set():
                found = client.detect(plain(50 + number))
                assert found[0, 1] == pytest.approx((50 + number) / 100, abs=1e-4)
                counts[number] += 1
            client.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: min(counts) >= 25 or not all(thread.is_alive() for thread in threads))
        ended.set()
        for thread in threads:
            thread.join()
    assert min(counts) >= 25
    assert max(counts) <= 4 * min(counts)  # a thread of this process may be late; a client that is starved is at 0


def test_the_picture_of_a_client_that_has_gone_is_not_looked_at(stepped: Callable[..., Stepped]) -> None:
    """As Frigate's detector goes after 200 ms: it makes a new socket, and asks for the model again."""
    server = stepped()
    gone, other = server.client(), server.client()
    gone.send_picture(plain(60))
    server.wait_for(1)
    gone.close()
    server.wait_until_gone()
    other.send_picture(plain(70))  # comes by the thread that has ended the first connection
    server.wait_for(2)
    for _ in range(2):
        server.clients.answer_next()
    assert other.receive()[0, 1] == pytest.approx(0.7, abs=1e-4)
    assert server.engine.runs == [[70]]
    summary = server.answers.summary("")
    assert (summary.pictures, summary.late) == (1, 1)


def test_in_a_batch_the_others_get_their_answers_when_one_has_gone(stepped: Callable[..., Stepped]) -> None:
    server = stepped(2)
    gone, other = server.client(), server.client()
    gone.send_picture(plain(60))
    server.wait_for(1)
    gone.close()
    server.wait_until_gone()
    other.send_picture(plain(70))
    server.wait_for(2)
    server.clients.answer_next()
    assert other.receive()[0, 1] == pytest.approx(0.7, abs=1e-4)
    assert server.answers.summary("").late == 1


def test_a_picture_whose_answer_would_come_too_late_gets_no_boxes_at_once(stepped: Callable[..., Stepped]) -> None:
    """The last run took 1.0 s of 1.5: a picture may have waited for 0.5 s. One that has waited for longer is late."""
    server = stepped(1, print, 1500.0)
    first, late, fresh = (server.client() for _ in range(3))
    first.send_picture(plain(50))
    server.wait_for(1)
    server.clients.answer_next()
    server.answers._times_ms.append(1000.0)
    late.send_picture(plain(60))
    server.wait_for(1)
    time.sleep(0.55)
    server.clients.receive()  # what comes from now on was not there before
    fresh.send_picture(plain(70))
    server.wait_for(2)
    server.clients.answer_next()
    assert not late.receive().any()
    assert fresh.receive()[0, 1] == pytest.approx(0.7, abs=1e-4)
    assert server.engine.runs == [[50], [70]]
    assert server.answers.summary("").late == 1


def test_where_the_network_takes_longer_than_clients_wait_nothing_is_left_out(
    stepped: Callable[..., Stepped], lines: list[str]
) -> None:
    server = stepped(1, lines.append, 100.0)
    server.answers._times_ms.append(150.0)
    assert server.answers.longest_wait_s() is None
    client = server.client()
    client.send_picture(plain(60))
    server.wait_for(1)
    server.clients.answer_next()
    assert client.receive()[0, 1] == pytest.approx(0.6, abs=1e-4)


def test_neither_bad_messages_nor_a_slow_client_hold_up_the_others(
    stepped: Callable[..., Stepped], lines: list[str]
) -> None:
    server = stepped(2, lines.append)
    bad, slow, good = (server.client() for _ in range(3))
    raw = server.client(zmq.DEALER)
    slow.socket.send(json.dumps({"shape": [1, 128, 128, 3], "dtype": "uint8"}).encode(), zmq.SNDMORE)
    raw.socket.send_multipart([b"no empty part", b"pixels"])
    bad.send(b"no json")
    good.send_picture(plain(60))
    wait_until(lambda: server.clients.receive() or (len(lines) == 2 and len(server.clients.waiting) == 1))
    assert not bad.receive().any()
    server.clients.answer_next()
    assert good.receive()[0, 1] == pytest.approx(0.6, abs=1e-4)
    slow.socket.send(plain(70).tobytes())  # its picture, at last
    server.wait_for(1)
    server.clients.answer_next()
    assert slow.receive()[0, 1] == pytest.approx(0.7, abs=1e-4)
    assert any("its header is no JSON" in line for line in lines)
    assert any("the empty part that a REQ socket sends first" in line for line in lines)


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
        (["--zmq", "ipc:///tmp/socket", "--timeout", "-1"], "--timeout takes milliseconds, and 0 for no limit; got -1"),
        (["--zmq", "ipc:///tmp/socket", "--batch", "2"], "--batch wants 1 to 1 pictures for this model; got 2"),
    ],
)
def test_bad_options_give_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_fake(tmp_path / "model.fake", meta(), BOXES)
    assert main(["serve", str(tmp_path / "model.fake"), *arguments]) == 2
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
