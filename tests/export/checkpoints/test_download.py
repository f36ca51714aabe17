"""The downloader against a server on loopback that misbehaves in every way that we could name."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from waiting import wait_until

from edgedet.cli import main
from edgedet.errors import InputError
from edgedet.export.checkpoints import download, registry
from edgedet.export.checkpoints.registry import PRETRAINED, find_url, hash_prefix
from edgedet.files import cache_folder
from edgedet.specs import SPECS

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
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        if self.server.behave(self):
            return
        start = int(wanted[len("bytes=") : -1]) if wanted else 0
        self.answer(206 if wanted else 200, BODY[start:], range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")

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


@pytest.fixture
def serve(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    running = []

    def start(behave=None) -> Server:
        server = Server(behave)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


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


def test_a_file_is_fetched_once_and_found_again(serve, tmp_path, capsys):
    server = serve()
    assert fetch(server, tmp_path).read_bytes() == BODY
    assert fetch(server, tmp_path) == tmp_path / NAME
    assert server.requests == [(f"/{NAME}", None)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.lock"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "100%" in said.err  # progress goes to stderr


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


def test_a_length_that_is_too_short_is_found_by_the_hash(serve, tmp_path):
    def understate(handler) -> bool:
        handler.answer(200, BODY, length=HALF)
        return True

    found = hashlib.sha256(BODY[:HALF]).hexdigest()[:8]
    message = refused(serve(understate), tmp_path)
    assert f"begins with {found}, wanted {hash_prefix(NAME)}" in message
    assert not (tmp_path / f"{NAME}.part").exists()


def test_a_file_with_another_hash_is_refused_and_not_kept(serve, tmp_path):
    def other(handler) -> bool:
        handler.answer(200, BODY[::-1])
        return True

    assert "is not the file that its name says" in refused(serve(other), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.lock"]


def test_a_web_page_is_called_one_and_the_part_from_before_stays(serve, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:HALF])

    def page(handler) -> bool:
        handler.answer(200, b"<!DOCTYPE html><title>Log in</title>", kind="text/html; charset=utf-8")
        return True

    server = serve(page)
    assert "web page instead of weights" in refused(server, tmp_path)
    server.behave = lambda handler: handler.answer(200, b"\n <html>no type told</html>") or True
    assert "web page instead of weights" in refused(server, tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == BODY[:HALF]


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, download.ATTEMPTS), (429, download.ATTEMPTS)])
def test_a_refusal_names_the_status_and_is_retried_where_that_can_help(serve, tmp_path, status, asked):
    def refuse(handler) -> bool:
        handler.answer(status, b"no")
        return True

    server = serve(refuse)
    assert f"the server answers {status}" in refused(server, tmp_path)
    assert len(server.requests) == asked


def test_a_server_that_falls_silent_is_left_after_the_timeout(serve, tmp_path):
    done = threading.Event()

    def hang(handler) -> bool:
        handler.answer(200, BODY, sent=HALF)
        handler.wfile.flush()
        done.wait()
        return True

    server = serve(hang)
    message = refused(server, tmp_path, timeout_s=0.2)
    done.set()
    assert "sends nothing any more" in message


def test_a_server_that_hangs_up_before_it_answers_is_named(serve, tmp_path):
    server = serve(lambda handler: True)
    assert "does not answer" in refused(server, tmp_path)


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


@pytest.mark.usefixtures("serve")  # takes the proxies out of the environment
def test_offline_is_one_line_that_names_the_ways_out(tmp_path):
    url = f"http://127.0.0.1:1/{NAME}"  # nobody listens there
    with pytest.raises(
        InputError, match=r"^cannot reach 127\.0\.0\.1 for .*Is this machine offline\? Or give --weights FILE, or"
    ) as raised:
        download.fetch(url, tmp_path)
    assert "\n" not in str(raised.value)


def test_too_large_a_file_is_not_begun(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", HALF)
    assert f"at most {HALF} are expected" in refused(serve(), tmp_path)


def test_a_file_without_end_is_stopped(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", HALF)

    def endless(handler) -> bool:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY)
        return True

    assert f"does not end after {HALF} bytes" in refused(serve(endless), tmp_path)


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


def test_the_cache_lies_where_xdg_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.sep + "somewhere")
    assert cache_folder() == Path("/somewhere/edgedet")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says: ignore it
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/edgedet")


def test_a_folder_that_cannot_be_written_is_named(serve, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="XDG_CACHE_HOME to another folder"):
        fetch(serve(), tmp_path / "file" / "folder")


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> tuple[str, bytes]:
    """Name and content of a file like the official ones: Lite0 with random weights."""
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from edgedet.export.network.efficientdet import EfficientDet

    path = tmp_path_factory.mktemp("official") / "weights.pth"
    torch.save(EfficientDet(SPECS["tf_efficientdet_lite0"]).state_dict(), path)
    body = path.read_bytes()
    return f"tf_efficientdet_lite0-{hashlib.sha256(body).hexdigest()[:8]}.pth", body


def test_export_without_weights_fetches_the_official_ones(serve, tmp_path, monkeypatch, capsys, official):
    name, body = official
    server = serve(lambda handler: handler.answer(200, body) or True)
    monkeypatch.setattr(registry, "RELEASE", f"http://127.0.0.1:{server.server_port}/v0.1")
    monkeypatch.setitem(registry.PRETRAINED, "tf_efficientdet_lite0", name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [
        "export",
        "--variant",
        "tf_efficientdet_lite0",
        "--size",
        "128x128",
        "--out",
        str(tmp_path),
        "--threads",
        "1",
    ]
    for _ in range(2):  # the second time from the cache
        assert main(command) == 0
        assert (
            f"wrote {tmp_path / name.replace('.pth', '.onnx')}: tf_efficientdet_lite0, 128x128"
            in capsys.readouterr().out
        )
    assert [path for path, _ in server.requests] == [f"/v0.1/{name}"]


@pytest.mark.usefixtures("serve")  # takes the proxies out of the environment
def test_export_without_weights_and_network_exits_with_2_and_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="needs the export extra")
    monkeypatch.setattr(registry, "RELEASE", "http://127.0.0.1:1/v0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["export", "--phi", "0", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"edgedet: cannot reach 127\.0\.0\.1 .*--weights FILE, or --weights demo .*\n", said.err)
    assert not (tmp_path / "out").exists()


def test_every_model_of_the_table_has_official_weights():
    assert {name for name in SPECS if name.startswith("tf_")} < set(PRETRAINED) < set(SPECS)
    assert find_url("tf_efficientdet_d0").endswith("/v0.1/tf_efficientdet_d0_34-f153e0cf.pth")
    assert all(re.fullmatch("[0-9a-f]{8}", hash_prefix(find_url(name))) for name in PRETRAINED)
    with pytest.raises(
        InputError, match="no official weights for tf_efficientdet_d9; there are for tf_efficientdet_d0,"
    ):
        find_url("tf_efficientdet_d9")
