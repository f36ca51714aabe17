"""The live page refuses other sites, foreign names, paths, huge and endless requests. Over raw sockets."""

from __future__ import annotations

import contextlib
import socket

import pytest
from waiting import wait_until
from web_page import PLACE, ask, page, read_all, result, send

from edgedet.web import server
from edgedet.web.answers import site
from edgedet.web.guard import Guard, names_of

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")


@pytest.fixture(scope="module")
def open_page():
    with page() as one:
        one.put(result(90))
        yield one


@pytest.mark.parametrize("path", ["/", "/snapshot.jpg", "/events", "/metrics", "/healthz"])
def test_a_foreign_name_is_refused(open_page, path):
    """DNS rebinding: the attacker's page is served from a name that then points to this machine."""
    for host in (
        "evil.example",
        f"evil.example:{open_page.port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[x",
    ):
        assert ask(open_page.port, path, host=host)[0] == 403


def test_own_names_and_addresses_are_answered(open_page):
    for host in ("localhost", "LOCALHOST:9000", "192.168.1.7:8080", "[::1]:8080", socket.gethostname()):
        assert ask(open_page.port, "/healthz", host=host)[0] == 200
    assert Guard(names_of(PLACE, ["Cam.Example"]), None).refusal({"Host": "cam.example:443"}) is None


def test_another_sites_requests_are_refused(open_page):
    own = f"http://127.0.0.1:{open_page.port}"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"{own}.evil.example", "http://[::1", "[", ""):
        assert ask(open_page.port, "/score", f"Origin: {origin}", method="POST", body="score=0.9")[0] == 403
        assert ask(open_page.port, "/snapshot.jpg", f"Origin: {origin}")[0] == 403
    cross = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
    assert ask(open_page.port, "/snapshot.jpg", *cross)[0] == 403
    assert ask(open_page.port, "/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")[0] == 200  # a link
    assert 0.9 not in open_page.score
    assert ask(open_page.port, "/score", f"Origin: {own}", method="POST", body="score=0.5")[0] == 200
    assert open_page.score == [0.5]


def test_a_get_changes_nothing(open_page):
    assert ask(open_page.port, "/score?score=0.9")[0] == 405
    assert 0.9 not in open_page.score


@pytest.mark.parametrize("path", ["/", "/app.js", "/snapshot.jpg", "/nothing"])
def test_every_answer_forbids_foreign_content_frames_and_guesses_of_type(open_page, path):
    head = ask(open_page.port, path)[1]
    for line in (
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';",
        "frame-ancestors 'none'",
        "X-Content-Type-Options: nosniff",
        "Cross-Origin-Resource-Policy: same-origin",
        "Cache-Control: no-store",
    ):
        assert line in head
    assert "Access-Control-Allow-Origin" not in head


# --- requests that are no requests


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page/../answers.py",
        "/..\\..\\etc\\passwd",
        "/index.html",
        "/login.html",
        "/style.css/../../site.py",
        "/app.js%00.css",
        "/static/",
        "http://127.0.0.1/../site.py",
        "/stream.mjpg/../../guard.py",
    ],
)
def test_no_path_leads_out_of_the_table(open_page, path):
    status, _, body = ask(open_page.port, path)
    assert status in (0, 400, 404)
    assert "root:" not in body
    assert "import" not in body


def test_huge_headers_and_bodies_are_refused(open_page):
    port = open_page.port
    assert ask(port, "/", f"X-Long: {'a' * server.MAX_HEADER_BYTES}")[0] in (0, 400, 431)
    assert ask(port, "/", *[f"X-{n}: {'b' * 100}" for n in range(300)])[0] in (0, 400, 431)
    assert ask(port, "/" + "c" * server.MAX_HEADER_BYTES)[0] in (0, 400, 414, 431)
    body = "score=0.9&x=" + "d" * server.MAX_BODY_BYTES
    assert ask(port, "/score", method="POST", body=body)[0] in (0, 400, 413)
    chunked = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    head = ("POST /score HTTP/1.1", f"Host: 127.0.0.1:{port}", "Transfer-Encoding: chunked", "Connection: close")
    assert read_all(send(port, *head, body=chunked)).split()[1:2] in ([], [b"400"], [b"413"])
    assert 0.9 not in open_page.score
    assert ask(port, "/healthz")[0] == 200


def test_bad_thresholds_and_methods_are_refused(open_page):
    for body in ("", "score=", "score=x", "score=" + "9" * 300, "other=0.5", "\xff\xfe"):
        assert ask(open_page.port, "/score", method="POST", body=body)[0] in (200, 400)
    for body in ("", "score=x", "other=0.5"):
        assert ask(open_page.port, "/score", method="POST", body=body)[0] == 400
    assert ask(open_page.port, "/", method="DELETE")[0] == 405
    assert ask(open_page.port, "/snapshot.jpg?camera=nobody")[0] == 404


@pytest.mark.parametrize("drip", ["", "X: a\r\n"])
def test_a_slow_loris_is_hung_up_on_and_nobody_waits_for_it(monkeypatch, drip):
    monkeypatch.setattr(server, "HEADER_TIMEOUT_S", 2.0)
    with page() as one:
        one.put(result(90))
        slow = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(20)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert ask(one.port, "/healthz")[0] == 200
        for connection in slow:  # each drips on until it is hung up on
            connection.settimeout(0.05)
            wait_until(lambda connection=connection: is_hung_up_on(connection, drip))
            connection.close()


def is_hung_up_on(connection: socket.socket, drip: str) -> bool:
    try:
        connection.sendall(drip.encode())
        return connection.recv(100) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(server, "BODY_TIMEOUT_S", 0.4)
    with page() as one:
        connection = send(one.port, "POST /score HTTP/1.1", f"Host: 127.0.0.1:{one.port}", "Content-Length: 10")
        assert b"200" not in read_all(connection)


def test_one_address_cannot_shut_out_the_others():
    """An attacker at 127.0.0.2 opens more connections than there are, and sends nothing; 127.0.0.1 is answered."""
    with page() as one:
        one.put(result(90))
        idle = []
        for _ in range(2 * server.MAX_CONNECTIONS):
            with contextlib.suppress(OSError):
                idle.append(socket.create_connection(("127.0.0.1", one.port), 60, ("127.0.0.2", 0)))
        assert [ask(one.port, "/healthz")[0] for _ in range(20)] == [200] * 20
        for connection in idle:
            connection.close()


def test_connections_and_streams_have_a_limit(monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 12)
    monkeypatch.setattr(site, "MAX_STREAMS", 3)
    with page() as one:
        one.put(result(90))
        host = f"Host: 127.0.0.1:{one.port}"
        streams = [send(one.port, "GET /events HTTP/1.1", host) for _ in range(3)]
        for stream in streams:
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
        assert ask(one.port, "/stream.mjpg")[0] == 503
        idle: list[socket.socket] = []

        def is_full() -> bool:
            idle.extend(socket.create_connection(("127.0.0.1", one.port)) for _ in range(10))
            return ask(one.port, "/healthz")[0] == 0

        wait_until(is_full)
        for connection in idle + streams:
            connection.close()
        wait_until(lambda: ask(one.port, "/healthz")[0] == 200)
        wait_until(lambda: ask(one.port, "/metrics")[2].find("edgedet_viewers 0.0") > 0)
