"""A TCP proxy on loopback that fails as networks and cameras do, as long as a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

MODES = ("pass", "hole", "freeze", "drip", "refuse")
_POLL_S = 0.02


class FaultProxy:
    """Stands before a server on this machine.

    mode: "pass" lets all through. "hole" takes connections and never says a word. "freeze" lets nothing more through on
          any connection. "drip" lets one byte a second through. "refuse" closes connections and refuses new ones.
    """

    def __init__(self, port: int, mode: str = "pass") -> None:
        self._target = port
        self._off = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self.port = self._listener.getsockname()[1]
        self.mode = mode
        self._run(self._accept)

    def _run(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._off.is_set():
            if self.mode == "refuse":
                self._hang_up()
                if self._listener.fileno() >= 0:
                    self._listener.close()
                time.sleep(_POLL_S)
                continue
            if self._listener.fileno() < 0:
                self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
                self._listener.settimeout(_POLL_S)
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                self._open.append(client)
                if self.mode != "hole":
                    self._run(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(server)
            self._run(self._copy, server, client)
            self._copy(client, server)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            source.settimeout(_POLL_S)
            while not self._off.is_set():
                if self.mode in ("freeze", "hole"):
                    time.sleep(_POLL_S)
                    continue
                try:
                    data = source.recv(1 if self.mode == "drip" else 65536)
                except TimeoutError:
                    continue
                if not data:
                    break
                sink.sendall(data)
                if self.mode == "drip":
                    self._off.wait(1.0)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        while self._open:
            connection = self._open.pop()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        """End all connections and threads."""
        self._off.set()
        self._threads[0].join()
        self._hang_up()
        for thread in self._threads:
            thread.join()
        self._listener.close()


@contextlib.contextmanager
def fault_proxy(port: int, mode: str = "pass") -> Iterator[FaultProxy]:
    """Yield a running proxy; it is off afterwards."""
    proxy = FaultProxy(port, mode)
    try:
        yield proxy
    finally:
        proxy.close()
