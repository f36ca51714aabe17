"""The page's token: without it every path is shut, it is said nowhere, and guessing it is slow."""

from __future__ import annotations

import base64
import statistics
import time

import pytest
from web_page import PLACE, TOKEN, ask, page, read_all, result, send

from edgedet.errors import InputError
from edgedet.web import guard
from edgedet.web.answers import guesses, routes, site
from edgedet.web.answers.guesses import FORGET_S, FREE, WAIT_S, Guesses
from edgedet.web.guard import Guard, Place, check_token, names_of, place_of

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")
PATHS = [*routes.ROUTES, "/login", "/nothing"]


@pytest.fixture(scope="module")
def locked():
    with page(token=TOKEN) as one:
        one.put(result(90))
        yield one


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
