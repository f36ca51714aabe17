"""Several clients of one server: batches, turns, clients that have gone and pictures that come too late."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

zmq = pytest.importorskip("zmq", reason="needs the serve extra (pyzmq)")
from frigate_client import FrigateClient, ScoringEngine, Stepped, plain, served


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
