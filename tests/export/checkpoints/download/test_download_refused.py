"""What the downloader refuses or gives up, and what it says then."""

from __future__ import annotations

import hashlib
import threading

import pytest
from weight_server import BODY, HALF, NAME, fetch, refused

from edgedet.errors import InputError
from edgedet.export.checkpoints import download
from edgedet.export.checkpoints.registry import hash_prefix


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


def test_a_folder_that_cannot_be_written_is_named(serve, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="XDG_CACHE_HOME to another folder"):
        fetch(serve(), tmp_path / "file" / "folder")
