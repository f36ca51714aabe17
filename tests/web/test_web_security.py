"""The live page refuses: strangers, other sites, foreign names, paths, huge and endless requests. Over raw sockets."""

from __future__ import annotations

import base64
import contextlib
import socket
import statistics
import time

import pytest
from waiting import wait_until
from web_page import PLACE, TOKEN, ask, page, read_all, result, send

from edgedet.errors import InputError
from edgedet.web import answers, guard, guesses, server, site
from edgedet.web.guard import Guard, Place, check_token, names_of, place_of
from edgedet.web.guesses import FORGET_S, FREE, WAIT_S, Guesses

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")

PATHS = [*answers.ROUTES, "/login", "/nothing"]


@pytest.fixture(scope="module")
def locked():
    with page(token=TOKEN) as one:
        one.put(result(90))
        yield one


@pytest.fixture(scope="module")
def open_page():
    with page() as one:
        one.put(result(90))
        yield one


# --- the token


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_shut_without_the_token(locked, path, monkeypatch):
    monkeypatch.setattr(guesses, "WAIT_S", 0.0)  # the wait for wrong tokens has a test of its own
    for method in ("GET", "POST", "HEAD", "PUT"):
        assert ask(locked.port, path, method=method)[0] == 401
    for header in (
        "Authorization: Bearer wrong",
        f"Authorization: Bearer {TOKEN[:-1]}",
        f"Authorization: Bearer {TOKEN}x",
        "Authorization: Basic !!!",
        "Authorization: Bearer",
        f"Cookie: other={TOKEN}",
        "Cookie: edgedet=",
        "Cookie: =;;",
    ):
        assert ask(locked.port, path, header)[0] == 401
    assert ask(locked.port, f"{path}?token=wrong")[0] == 401


@pytest.mark.parametrize("path", ["/", "/app.js", "/metrics", "/healthz", "/snapshot.jpg"])
def test_the_token_opens_by_header_password_and_cookie(locked, path):
    basic = base64.b64encode(f"any:{TOKEN}".encode()).decode()
    odd = 'theme={"a":1, "b"}; edgedet='
    for header in (f"Authorization: Bearer {TOKEN}", f"Authorization: Basic {basic}", f"Cookie: {odd}{TOKEN}"):
        assert ask(locked.port, path, header)[0] == 200


def test_a_token_in_an_address_goes_into_a_cookie_and_out_of_the_address(locked):
    status, head, _ = ask(locked.port, f"/stream.mjpg?token={TOKEN}&camera=")
    assert status == 303
    assert "Location: /stream.mjpg?camera=\r\n" in head
    assert f"Set-Cookie: edgedet={TOKEN}; Path=/; HttpOnly; SameSite=Lax" in head
    assert "Referrer-Policy: same-origin" in head
    status, head, _ = ask(locked.port, f"//evil.example?token={TOKEN}")
    assert (status, "Location: /\r\n" in head) == (303, True)  # never to another site


def test_a_browser_is_asked_for_the_token_and_logs_in_by_a_form(locked):
    status, head, body = ask(locked.port, "/", "Accept: text/html,*/*")
    assert (status, "WWW-Authenticate" in head) == (401, False)
    assert '<form method="post" action="/login">' in body
    status, head, _ = ask(locked.port, "/login", method="POST", body=f"token={TOKEN}")
    assert (status, f"edgedet={TOKEN}" in head) == (303, True)
    status, head, body = ask(locked.port, "/login", "Accept: text/html", method="POST", body="token=<b>wrong")
    assert (status, "Set-Cookie" in head) == (401, False)
    assert "That is not the token." in body
    assert "<b>wrong" not in body


def test_the_token_is_said_nowhere(capfd, caplog):
    with page(token=TOKEN) as one:
        one.put(result(90))
        ask(one.port, f"/?token={TOKEN}")
        ask(one.port, f"/x?token={TOKEN}", f"Authorization: Bearer {TOKEN}")
        read_all(send(one.port, f"GET /?token={TOKEN} HTTP/9.9 broken"))
        read_all(send(one.port, f"GET /?token={TOKEN} HTTP/1.1", "Host: a", "Bad header line"))
        bodies = [ask(one.port, path, f"Authorization: Bearer {TOKEN}")[2] for path in ("/", "/metrics", "/model.json")]
        said = "".join([*one.said, *bodies, repr(Guard(frozenset(), TOKEN))])
    assert TOKEN not in said + caplog.text + "".join(capfd.readouterr())


def test_the_time_of_a_comparison_says_nothing_of_the_token():
    """With ==, a million equal letters take some hundred times as long as a difference in the first."""
    token = "a" * (1 << 20)
    one = Guard(frozenset(), token)

    def median_s(offered: str) -> float:
        times = []
        for _ in range(15):
            began = time.thread_time()  # a busy machine does not count
            assert not one.is_token(offered)
            times.append(time.thread_time() - began)
        return statistics.median(times)

    first, last = median_s("b" + token[1:]), median_s(token[:-1] + "b")
    assert 0.5 < first / last < 2


def test_tokens_are_compared_as_digests_of_one_length_by_compare_digest(monkeypatch):
    seen = []
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda a, b: seen.append((len(a), len(b))) or a == b)
    one = Guard(names_of(PLACE, ()), TOKEN)
    assert one.admits({"Authorization": f"Bearer {TOKEN}"})
    assert not one.admits({"Authorization": "Bearer x", "Cookie": "edgedet=yy"})
    assert seen == [(32, 32)] * 3


@pytest.mark.parametrize("text", ["0.0.0.0:8080", "192.168.1.4:80", "[::]:8080", "board.local:8080"])
def test_a_host_that_others_reach_needs_a_token(text):
    with pytest.raises(InputError, match=r"is open to the network and needs --token"):
        check_token(place_of(text), None)
    check_token(place_of(text), TOKEN)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "localhost:1", "[::1]:8080", ":8080", "8080"])
def test_this_machine_alone_needs_none(text):
    check_token(place_of(text), None)


@pytest.mark.parametrize("token", ["", "short", "with a space in it", "semi;colon;0123456789", "umlaut-ä-0123456789"])
def test_what_is_no_token_is_refused_and_not_repeated(token):
    with pytest.raises(InputError, match=r"^--token wants 16 ") as raised:
        check_token(Place("127.0.0.1", 80), token)
    assert not token or token not in str(raised.value)


@pytest.mark.parametrize("text", ["", "model.onnx", "0.0.0.0", "host:port", "::1:8080", "h:70000", "[h]:80", "a/b:80"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(InputError, match=r"^--web wants HOST:PORT, as 127\.0\.0\.1:8080"):
        place_of(text)


# --- other sites


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


def test_who_guesses_tokens_is_answered_slowly_and_told(monkeypatch):
    """Eight guesses: the first ones at once, the others not before their time; the right token is not slowed down."""
    waits = []

    async def sleep(seconds):
        if isinstance(seconds, float):  # Tornado's own are int
            waits.append(seconds)

    monkeypatch.setattr(site.asyncio, "sleep", sleep)
    with page(token=TOKEN) as one:
        for n in range(8):
            assert ask(one.port, "/metrics", f"Authorization: Bearer guess{n}")[0] == 401
        assert ask(one.port, f"/?token={TOKEN[:-1]}")[0] == 401
        assert ask(one.port, "/login", method="POST", body="token=guess")[0] == 401
        assert ask(one.port, "/metrics")[0] == 401  # guesses nothing
        assert ask(one.port, "/metrics", f"Authorization: Bearer {TOKEN}")[0] == 200
        assert waits == [0.0] * FREE + [WAIT_S] * (10 - FREE)
        assert one.said[1:] == ["web: 8 wrong tokens from 127.0.0.1; answering it slowly"]


def test_guesses_are_forgotten_after_a_while_and_are_of_one_address():
    guesses = Guesses()
    for n in range(FREE):
        assert guesses.note("a", float(n)) == (0.0, "")
    assert guesses.note("a", 10.0)[0] == WAIT_S
    assert guesses.note("b", 10.0) == (0.0, "")
    assert guesses.note("a", 10.0 + FORGET_S + 1)[0] == 0.0


def test_a_viewers_token_shows_everything_and_changes_nothing():
    viewer = "viewer-0123456789ab"
    with page(token=TOKEN, viewer_token=viewer) as one:
        one.put(result(90))
        for path in ("/", "/metrics", "/snapshot.jpg", "/healthz"):
            assert ask(one.port, path, f"Authorization: Bearer {viewer}")[0] == 200
        status, head, _ = ask(one.port, f"/?token={viewer}")
        assert (status, f"Set-Cookie: edgedet={viewer};" in head) == (303, True)
        for header in (f"Authorization: Bearer {viewer}", f"Cookie: edgedet={viewer}"):
            status, _, body = ask(one.port, "/score", header, method="POST", body="score=0.9")
            assert (status, body) == (403, "this token lets you look and change nothing\n")
        assert one.score == [0.4]
        assert ask(one.port, "/score", f"Cookie: edgedet={TOKEN}", method="POST", body="score=0.9")[0] == 200
        assert one.score == [0.9]
        assert viewer not in "".join(one.said)
        for token, may_change in ((viewer, "false"), (TOKEN, "true")):
            answer = ask(one.port, "/viewer.json", f"Authorization: Bearer {token}")
            assert answer[2] == f'{{"may_change": {may_change}, "events": false, "zones": false}}\n'


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
