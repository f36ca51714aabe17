"""Does a file arrive whole, whatever the connection, the server or an earlier part of it do?"""

from __future__ import annotations

import re
import subprocess
import sys
import time

from waiting import wait_until
from weight_server import BODY, FETCH, HALF, NAME, fetch, first_time_only, refused

from edgedet.export.checkpoints import download


def test_progress_tells_the_time_left_of_a_slow_download(serve, tmp_path, capsys, monkeypatch):
    def slowly(handler) -> bool:
        handler.answer(200, BODY, sent=0)
        for start in range(0, len(BODY), len(BODY) // 8):
            handler.wfile.write(BODY[start : start + len(BODY) // 8])
            handler.wfile.flush()
            time.sleep(0.1)
        return True

    monkeypatch.setattr(download, "LOGGED_EVERY_S", 0.05)
    assert fetch(serve(slowly), tmp_path, timeout_s=0.5).read_bytes() == BODY  # the whole takes longer than the timeout
    assert re.search(r"[1-8]\d%.*<00:0\d", capsys.readouterr().err)


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(serve, tmp_path, capsys):
    server = serve(first_time_only([], lambda handler: handler.answer(200, BODY, sent=HALF)))
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, f"bytes={HALF}-"]
    assert f"the connection ended after {HALF} of {len(BODY)} bytes; trying again" in capsys.readouterr().err


def test_a_server_that_always_cuts_off_is_given_up_and_the_part_kept(serve, tmp_path):
    def cut(handler) -> bool:
        start = int((handler.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
        handler.answer(206 if start else 200, BODY[start:], range=f"bytes {start}-/{len(BODY)}", sent=1000)
        return True

    server = serve(cut)
    message = refused(server, tmp_path)
    assert f"ended after {download.ATTEMPTS * 1000} of {len(BODY)} bytes" in message
    assert "the same command goes on" in message
    assert len(server.requests) == download.ATTEMPTS
    server.behave = lambda handler: False
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.requests[-1][1] == f"bytes={download.ATTEMPTS * 1000}-"


def test_a_server_without_ranges_makes_it_start_over(serve, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:HALF])

    def whole(handler) -> bool:
        handler.answer(200, BODY)
        return True

    server = serve(whole)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.requests == [(f"/{NAME}", f"bytes={HALF}-")]


def test_a_part_of_another_file_is_thrown_away(serve, tmp_path, capsys):
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * HALF)
    server = serve()
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [f"bytes={HALF}-", None]
    assert "the download starts anew" in capsys.readouterr().err


def test_a_part_longer_than_the_file_is_thrown_away(serve, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY + b"more")

    def behave(handler) -> bool:
        if handler.headers.get("Range") is None:
            return False
        handler.answer(416, b"")
        return True

    assert fetch(serve(behave), tmp_path).read_bytes() == BODY


def test_a_part_that_is_whole_needs_no_server(tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY)
    assert download.fetch(f"http://127.0.0.1:9/{NAME}", tmp_path).read_bytes() == BODY


def test_a_length_that_is_too_long_does_not_spoil_a_whole_file(serve, tmp_path):
    def boast(handler) -> bool:
        handler.answer(200, BODY, length=len(BODY) + 1000)
        return True

    assert fetch(serve(boast), tmp_path).read_bytes() == BODY


def test_a_redirect_is_followed_with_its_range(serve, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:HALF])

    def elsewhere(handler) -> bool:
        if handler.path.startswith("/moved"):
            return False
        handler.send_response(302)
        handler.send_header("Location", "/moved/weights?signature=1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    server = serve(elsewhere)
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.requests[-1] == ("/moved/weights?signature=1", f"bytes={HALF}-")


def test_the_proxy_of_the_environment_is_used(serve, tmp_path, monkeypatch):
    proxy = serve()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
    url = f"http://weights.invalid/{NAME}"
    assert download.fetch(url, tmp_path).read_bytes() == BODY
    assert proxy.requests == [(url, None)]


def test_a_killed_process_leaves_a_part_that_the_next_one_continues(serve, tmp_path):
    part = tmp_path / f"{NAME}.part"

    def hang(handler) -> bool:
        handler.answer(200, BODY, sent=HALF)
        handler.wfile.flush()
        time.sleep(2.0)
        return True

    server = serve(first_time_only([], hang))
    process = subprocess.Popen([sys.executable, "-c", FETCH, server.url, str(tmp_path)], stderr=subprocess.DEVNULL)
    wait_until(lambda: part.exists() and part.stat().st_size)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert 0 < kept <= HALF
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert server.requests[-1][1] == f"bytes={kept}-"
