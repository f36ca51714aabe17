"""A server of weights on loopback that tests make misbehave, and the downloader that asks it."""

from __future__ import annotations

import hashlib
import http.server
from pathlib import Path

import pytest

from edgedet.errors import InputError
from edgedet.export.checkpoints import download

BODY = bytes(range(256)) * 4096  # 1 MiB
NAME = f"model-{hashlib.sha256(BODY).hexdigest()[:8]}.pth"
HALF = len(BODY) // 2
# another process: FETCH URL FOLDER
FETCH = """import sys; from pathlib import Path
from edgedet.export.checkpoints.download import fetch; fetch(sys.argv[1], Path(sys.argv[2]))"""


class Server(http.server.ThreadingHTTPServer):
    """Serves BODY under any name; ``behave`` gets each handler and may answer in its stead."""

    daemon_threads = True

    def __init__(self, behave=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave or (lambda handler: False)
        self.requests: list[tuple[str, str | None]] = []  # path, Range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{NAME}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        byte_range = self.headers.get("Range")
        self.server.requests.append((self.path, byte_range))
        if self.server.behave(self):
            return
        start = int(byte_range[len("bytes=") : -1]) if byte_range else 0
        self.answer(206 if byte_range else 200, BODY[start:], range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")

    def answer(self, status, body, length=None, kind="application/octet-stream", range=None, sent=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if status == 206:
            self.send_header("Content-Range", range)
        self.end_headers()
        self.wfile.write(body if sent is None else body[:sent])

    def log_message(self, *_args):
        pass


def fetch(server: Server, folder: Path, **how) -> Path:
    return download.fetch(server.url, folder, **{"timeout_s": 30.0, "pause_s": 0.0, **how})


def refused(server: Server, folder: Path, **how) -> str:
    """The message of a download that must fail: one line, nothing under the final name."""
    with pytest.raises(InputError) as raised:
        fetch(server, folder, **how)
    message = str(raised.value)
    assert "\n" not in message
    assert "--weights FILE" in message
    assert "--weights demo" in message
    assert not (folder / NAME).exists()
    return message


def first_time_only(server_state: list, misbehave):
    """Misbehave on the first request, then serve as one should."""

    def behave(handler) -> bool:
        if server_state:
            return False
        server_state.append(1)
        misbehave(handler)
        return True

    return behave
