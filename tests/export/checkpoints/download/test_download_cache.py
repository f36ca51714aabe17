"""Is a file fetched once, by one process of several, into the cache's folder?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from weight_server import BODY, FETCH, HALF, NAME, fetch

from edgedet.files import cache_folder


def test_a_file_is_fetched_once_and_found_again(serve, tmp_path, capsys):
    server = serve()
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert fetch(server, tmp_path) == tmp_path / NAME
    assert server.requests == [(f"/{NAME}", None)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.lock"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "100%" in said.err  # progress goes to stderr


def test_a_damaged_file_in_the_cache_is_fetched_again(serve, tmp_path):
    (tmp_path / NAME).write_bytes(BODY[:-1])
    assert fetch(serve(), tmp_path).read_bytes() == BODY


def test_two_processes_fetch_a_file_once(serve, tmp_path):
    entered = threading.Event()

    def slowly(handler) -> bool:
        entered.set()
        handler.answer(200, BODY, sent=HALF)
        handler.wfile.flush()
        time.sleep(1.0)
        handler.wfile.write(BODY[HALF:])
        return True

    server = serve(slowly)
    command = [sys.executable, "-c", FETCH, server.url, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert entered.is_set()
    assert len(server.requests) == 1
    assert sum("waiting for another process" in text for text in said) == 1
    assert (tmp_path / NAME).read_bytes() == BODY


def test_the_cache_lies_where_xdg_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.sep + "somewhere")
    assert cache_folder() == Path("/somewhere/edgedet")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says: ignore it
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/edgedet")
