"""Serve Frigate's zmq detector: the requests of several clients come in over ZeroMQ, and take turns.

Our socket is a ROUTER, which takes in the requests of several detectors while the network runs. A message begins with
its envelope: the client's identity, and so on up to an empty part. The answer gets it back; REQ sockets, which Frigate
has, add and remove their part of it. ``frigate_answers`` reads and answers what is behind the envelope.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable, List, Sequence

from ..errors import InputError, require
from .frigate_answers import FrigateAnswers, ServeSummary
from .waiting import Request, Waiting

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
MOST_BYTES = 64 << 20  # of a message: a picture of 4096 x 4096 and its header
_POLL_MS = 200  # how late a signal may be noticed
_MOST_WAITING = 64  # requests taken out of the socket, which holds back the rest
_MOST_QUEUED = 8  # requests that the socket holds of one client; a REQ socket sends one


def check_endpoint(endpoint: str, remote: bool) -> None:
    """Raise InputError for an address that is no ZeroMQ endpoint, or that others can reach where that was not asked.

    remote: whether other machines may reach it.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest:
        folder = os.path.dirname(rest) or "."
        if not os.path.isdir(folder):
            raise InputError(f"there is no folder {folder} for the socket {endpoint}: make it, or name another.")
        return
    if scheme != "tcp" or not rest.rpartition(":")[2].isdigit():
        raise InputError(f"--zmq takes ipc://PATH or tcp://HOST:PORT; got {endpoint!r}.")
    host = rest.rpartition(":")[0]
    if host not in LOCAL_HOSTS and not remote:
        raise InputError(
            f"{endpoint} can be reached by other machines, and ZeroMQ asks for no password: take tcp://127.0.0.1:PORT, "
            "or add --remote in a network that you trust."
        )


def serve_frigate(
    endpoint: str, answers: FrigateAnswers, stopped: Callable[[], bool], bound: Callable[[str], None] = lambda _: None
) -> ServeSummary:
    """Answer requests at ``endpoint`` until ``stopped`` says so.

    Clients come in turns, as many at once as ``answers`` takes. A picture waits for the run before it, and for no
    other picture.

    bound: told the address once requests can come; a port that was given as 0 is the real one there.
    Raises MissingDependency without pyzmq, InputError where the address cannot be taken.
    """
    zmq = require("zmq", "edgedet serve --zmq")
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    try:
        socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
        socket.setsockopt(zmq.RCVHWM, _MOST_QUEUED)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an answer to a client that has gone is an error
        socket.setsockopt(zmq.SNDTIMEO, 0)  # as is one to a client that reads none
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise InputError(f"cannot listen at {endpoint}: {error}.") from None
        bound(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        Clients(socket, answers).serve(stopped)
    finally:
        socket.close()
        context.term()
    return answers.summary(endpoint)


class Clients:
    """The other ends of one ROUTER socket, and those of their requests that wait."""

    def __init__(self, socket: Any, answers: FrigateAnswers) -> None:
        self._zmq, self._socket, self._answers = require("zmq", "edgedet serve --zmq"), socket, answers
        self.waiting = Waiting()
        self._received_s = time.monotonic()  # when the socket was empty

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Answer until ``stopped`` says so."""
        while not stopped():
            if not self.waiting:
                if not self._socket.poll(_POLL_MS):
                    continue
                self._received_s = time.monotonic()
            self.receive()
            self.answer_next()

    def receive(self) -> None:
        """Take in what has come; pictures wait, the rest is answered."""
        while len(self.waiting) < _MOST_WAITING:
            try:
                parts: List[bytes] = self._socket.recv_multipart(self._zmq.NOBLOCK)
            except self._zmq.Again:
                self._received_s = time.monotonic()
                return
            if b"" not in parts:  # a REP socket drops it, too
                self._answers.refuse("it lacks the empty part that a REQ socket sends first, so it gets no answer")
                continue
            body = parts.index(b"") + 1
            read = self._answers.read(parts[body:])
            if isinstance(read, bytes):
                self._send([*parts[:body], read])
            else:
                self.waiting.add(Request(parts[:body], read, self._received_s))

    def answer_next(self) -> None:
        """Look at the pictures of the clients whose turn it is, in one run of the network.

        Those that have waited for too long are not looked at. Their clients ask anew with a newer picture; else, where
        there are too many clients, each would be given an answer just after it has stopped waiting.
        """
        longest_s = self._answers.longest_wait_s()
        if longest_s is not None:
            for request in self.waiting.take_older(time.monotonic() - longest_s):
                self._answers.note_late()
                self._send([*request.envelope, self._answers.no_boxes()])
        requests = self.waiting.take(self._answers.batch)
        if len(requests) == 1:
            self._answer_alone(requests[0])
        elif requests:
            answers = self._answers.detect([request.picture for request in requests])
            for request, answer in zip(requests, answers):
                self._send([*request.envelope, answer])

    def _answer_alone(self, request: Request) -> None:
        """Begin to send the answer before the network runs: for a client that has gone, it need not run."""
        if self._send(request.envelope, self._zmq.SNDMORE):
            self._send(self._answers.detect([request.picture]))

    def _send(self, parts: Sequence[bytes], flags: int = 0) -> bool:
        """Return whether the client was there."""
        try:
            self._socket.send_multipart(parts, flags)
            return True
        except self._zmq.ZMQError as error:
            if error.errno not in (self._zmq.EHOSTUNREACH, self._zmq.EAGAIN):
                raise
            self._answers.note_late()
            return False
