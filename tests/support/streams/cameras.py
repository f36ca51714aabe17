"""A network camera on loopback whose faults a test tells: Motion JPEG over HTTP, each picture with its number."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

_BITS = 24
_BLOCK = 8  # pixels: JPEG's own block, so that a number comes through exactly
_ROW = 2  # within the blocks, also where the picture was scaled to half or twice its height
SIZE_WH = (_BITS * _BLOCK, 64)


def numbered(number: int, size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """Return a grey picture whose first row of blocks is the number in binary, black and white."""
    picture = np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)
    bits = (number >> np.arange(_BITS)) & 1
    picture[:_BLOCK, : _BITS * _BLOCK] = np.repeat(bits * 255, _BLOCK)[None, :, None]
    return picture


def number_of(bgr: np.ndarray, block: int = _BLOCK) -> int:
    """Return the number in a picture of ``numbered``, or of another one with such blocks."""
    bits = bgr[_ROW, block // 2 : _BITS * block : block, 0] > 127
    return int((bits << np.arange(_BITS)).sum())


class MjpegCamera:
    """Serves one client at a time at ``fps`` pictures a second (0: as fast as they are taken), from its first on.

    produced: pictures that went out or were on the way; their numbers are 0 to produced - 1.
    frozen:   while set, nothing is sent, and the connection stays.
    number:   what stands in the n-th picture; n by default.
    picture:  the n-th picture, BGR; a grey one with its number by default.
    """

    def __init__(self, fps: float = 50.0, size_wh: tuple[int, int] = SIZE_WH) -> None:
        self.fps = fps
        self.size_wh = size_wh
        self.number: Callable[[int], int] = lambda n: n
        self.picture: Callable[[int], np.ndarray] = lambda n: numbered(self.number(n), self.size_wh)
        self.frozen = threading.Event()
        self.produced = 0
        self.connections = 0
        self.garbage = 0  # bytes to send before the next picture
        self._port = 0
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/live"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._off = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self._port), reuse_port=True)
        self._port = self._listener.getsockname()[1]
        self._run(self._accept, self._listener, self._off)

    def kill(self) -> None:
        """Close every connection and refuse new ones, as a camera without power does."""
        self._off.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def hang_up(self) -> None:
        """Close every connection; new ones are taken."""
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()

    def _run(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, off: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while not off.is_set():
                client, _ = listener.accept()
                self._clients.append(client)
                self.connections += 1
                self._run(self._serve, client, off)

    def _serve(self, client: socket.socket, off: threading.Event) -> None:
        import cv2

        with contextlib.suppress(OSError), client:
            client.recv(65536)
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
            due = time.monotonic()
            while not off.is_set():
                while self.frozen.is_set() and not off.is_set():
                    time.sleep(0.01)
                if self.garbage:
                    count, self.garbage = self.garbage, 0
                    client.sendall(os.urandom(count))
                jpeg = cv2.imencode(".jpg", self.picture(self.produced))[1].tobytes()
                self.produced += 1
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                client.sendall(head.encode() + jpeg + b"\r\n")
                if self.fps:
                    due = max(due + 1 / self.fps, time.monotonic() - 0.05)  # what was late is not made up for
                    time.sleep(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def mjpeg_camera(fps: float = 50.0, size_wh: tuple[int, int] = SIZE_WH) -> Iterator[MjpegCamera]:
    """Yield a running camera; it is off afterwards."""
    camera = MjpegCamera(fps, size_wh)
    try:
        yield camera
    finally:
        camera.frozen.clear()
        camera.kill()
