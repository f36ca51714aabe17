"""Which request gets which answer. Knows HTTP by way of Tornado; draws no picture and reads no camera.

Every request passes the guard first: the host's name, where it comes from, the token. Files come from a table, so no
path is ever looked up on the disk.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, Iterator, Mapping, Set, Tuple
from urllib.parse import parse_qsl, urlencode

from ..errors import InputError
from .guard import Guard
from .guesses import Guesses
from .metrics import metrics_text
from .pictures import Picture, Pictures
from .subject import Subject, health_of, score_from, status_of

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

STUCK_S = 10.0  # a viewer who takes nothing for so long is let go
MAX_STREAMS = 48  # of pictures and events; a page has one of each
EVENTS_EVERY_S = 0.5
PICTURE_WAIT_S = 5.0  # for /snapshot.jpg, before the first frame
BOUNDARY = "frame"
_FOLDER = Path(__file__).resolve().parent / "page"
_FILES = {
    "/": _FOLDER / "index.html",
    **{f"/{path.name}": path for path in _FOLDER.glob("**/*") if path.suffix in (".js", ".css", ".svg")},
}
_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}  # fmt: skip
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {style}; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY.format(style="'self'"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _Refused(Exception):
    """Ends an answer with a status and a line."""

    def __init__(self, status: HTTPStatus, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


@dataclass
class Site:
    """What the answers are made of.

    previews: small pictures, for several cameras side by side.
    report:  called with a line where an answer failed; no address and no header is in it.
    ending:  set when the run ends.
    guesses: wrong tokens by address.
    streams: open ones.
    """

    guard: Guard
    subject: Subject
    pictures: Pictures
    previews: Pictures
    report: Callable[[str], None]
    ending: asyncio.Event
    guesses: Guesses = field(default_factory=Guesses)
    streams: int = 0
    tasks: Set[asyncio.Task[None]] = field(default_factory=set)
    _status: Tuple[float, bytes] = (0.0, b"")

    def take(self, request: HTTPServerRequest) -> None:
        """Answer a request whose headers and body are here."""
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        _connection(request).set_close_callback(task.cancel)

    async def _answer(self, request: HTTPServerRequest) -> None:
        from tornado.iostream import StreamClosedError

        try:
            try:
                await self._route(request)
            except _Refused as refused:
                await reply(request, refused.status, refused.text, **refused.headers)
        except (StreamClosedError, asyncio.TimeoutError):
            _hang_up(request)
        except Exception as error:  # a mistake of ours must not end the server
            self.report(f"web: {type(error).__name__} in answering {_known_path(request)}")
            _hang_up(request)

    async def _route(self, request: HTTPServerRequest) -> None:
        refusal = self.guard.refusal(request.headers)
        if refusal is not None:
            return await reply(request, HTTPStatus.FORBIDDEN, refusal)
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        if self.guard.token is not None and request.path == "/login":
            return await _login(self, request)
        if not self.guard.admits(request.headers):
            in_address = query.get("token", "")
            if self.guard.is_token(in_address) and request.method == "GET":
                return await _into_cookie(self, request, query, in_address)
            if in_address or self.guard.offers(request.headers):
                await self.slow_down(request)
            return await _unauthorised(request)
        method, answer = _ROUTES.get(request.path, (None, None))
        if answer is None:
            return await reply(request, HTTPStatus.NOT_FOUND, "there is no such page")
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            return await reply(request, HTTPStatus.METHOD_NOT_ALLOWED, f"wanted {method}", Allow=method or "")
        return await answer(self, request, query)

    async def slow_down(self, request: HTTPServerRequest) -> None:
        """Let whoever sent a wrong token wait, after some of them, and say that somebody guesses."""
        wait_s, line = self.guesses.note(request.remote_ip or "", time.monotonic())
        if line:
            self.report(line)
        await asyncio.sleep(wait_s)

    def camera_of(self, query: Mapping[str, str]) -> str:
        """Return the camera that is asked for, the first by default."""
        names = self.subject.camera_names()
        name = query.get("camera", names[0])
        if name not in names:
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such camera")
        return name

    def status(self) -> bytes:
        """Return the state as a server-sent event, made anew at most every EVENTS_EVERY_S for all viewers."""
        now = time.monotonic()
        if now - self._status[0] > EVENTS_EVERY_S / 2:
            text = json.dumps(status_of(self.subject, self.streams))
            self._status = (now, f"data: {text}\n\n".encode())
        return self._status[1]

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count an open stream; there are not too many of them."""
        if self.streams >= MAX_STREAMS:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_STREAMS} streams are open", Retry_After="10")
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


Query = Mapping[str, str]


async def reply(
    request: HTTPServerRequest, status: HTTPStatus, body: Any, kind: str = _TEXT, **headers: str
) -> None:  # fmt: skip
    """Send a whole answer; text gets a line's end, other than bytes and text is sent as JSON."""
    if isinstance(body, str):
        body = (body + "\n").encode()
    elif not isinstance(body, bytes):
        body, kind = (json.dumps(body) + "\n").encode(), _JSON
    headers["Content-Length"] = str(len(body))
    await _flushed(_begin(request, status, kind, headers, b"" if request.method == "HEAD" else body))
    _connection(request).finish()


def _begin(
    request: HTTPServerRequest, status: HTTPStatus, kind: str, headers: Mapping[str, str], body: bytes = b""
) -> Awaitable[None]:  # fmt: skip
    from tornado.httputil import HTTPHeaders, ResponseStartLine

    all_headers = HTTPHeaders({**_SECURITY, "Content-Type": kind})
    for name, value in headers.items():
        all_headers[name.replace("_", "-")] = value
    start = ResponseStartLine("HTTP/1.1", status.value, status.phrase)
    written: Awaitable[None] = _connection(request).write_headers(start, all_headers, body)
    return written


async def _flushed(written: Awaitable[None]) -> None:
    """Wait until the system took it; raises TimeoutError where the viewer takes nothing."""
    await asyncio.wait_for(asyncio.shield(written), STUCK_S)


def _hang_up(request: HTTPServerRequest) -> None:
    _connection(request).close()


def _connection(request: HTTPServerRequest) -> Any:
    """Return Tornado's HTTP1Connection; its types promise less than that."""
    return request.connection


def _known_path(request: HTTPServerRequest) -> str:
    return request.path if request.path in _ROUTES else "an unknown path"


async def _login(site: Site, request: HTTPServerRequest) -> None:
    offered = dict(parse_qsl(request.body.decode("utf-8", "replace"))).get("token", "")
    if request.method == "POST" and site.guard.is_token(offered):
        return await _into_cookie(site, request, {}, offered)
    if offered:
        await site.slow_down(request)
    return await _unauthorised(request, "<p role='alert'>That is not the token.</p>" if offered else "")


async def _into_cookie(site: Site, request: HTTPServerRequest, query: Query, token: str) -> None:
    """Put the token into a cookie, so that no address holds it any longer."""
    left = urlencode([(key, value) for key, value in query.items() if key != "token"])
    path = request.path if request.path in _ROUTES else "/"
    where = f"{path}?{left}" if left else path
    await reply(request, HTTPStatus.SEE_OTHER, "", Location=where, Set_Cookie=site.guard.set_cookie(token))


async def _unauthorised(request: HTTPServerRequest, complaint: str = "") -> None:
    accept = request.headers.get("Accept", "*/*")
    if "text/html" in accept:  # somebody with a browser
        page = (_FOLDER / "login.html").read_text(encoding="utf-8").replace("<!--complaint-->", complaint)
        style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
        policy = _POLICY.format(style=f"'sha256-{digest}'")
        kind = _TYPES[".html"]
        return await reply(
            request, HTTPStatus.UNAUTHORIZED, page.encode(), kind, **{"Content-Security-Policy": policy}
        )  # fmt: skip
    # FFmpeg, VLC and the like send their password only where they are asked; a browser would ask the viewer.
    challenge = 'Basic realm="edgedet"' if accept == "*/*" else 'Bearer realm="edgedet"'
    return await reply(
        request,
        HTTPStatus.UNAUTHORIZED,
        "wanted the token: Authorization: Bearer TOKEN",
        WWW_Authenticate=challenge,
    )


async def _file(site: Site, request: HTTPServerRequest, query: Query) -> None:
    path = _FILES[request.path]
    await reply(request, HTTPStatus.OK, path.read_bytes(), _TYPES[path.suffix])


async def _model(site: Site, request: HTTPServerRequest, query: Query) -> None:
    await reply(request, HTTPStatus.OK, site.subject.facts)


async def _viewer(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Say what the viewer may do."""
    await reply(request, HTTPStatus.OK, {"may_change": site.guard.may_change(request.headers)})


async def _history(site: Site, request: HTTPServerRequest, query: Query) -> None:
    await reply(request, HTTPStatus.OK, site.subject.figures.history(site.camera_of(query)))


async def _score(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Change the detector's threshold; the body is a form with ``score``."""
    if not site.guard.may_change(request.headers):
        raise _Refused(HTTPStatus.FORBIDDEN, "this token lets you look and change nothing")
    try:
        wanted = dict(parse_qsl(request.body.decode("utf-8", "replace"))).get("score", "")
        site.subject.set_score(score_from(wanted))
    except InputError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
    await reply(request, HTTPStatus.OK, {"score": site.subject.score()})


async def _healthz(site: Site, request: HTTPServerRequest, query: Query) -> None:
    site.camera_of(query)
    healthy, figures = health_of(site.subject, query.get("camera"))
    return await reply(request, HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE, figures)


async def _metrics(site: Site, request: HTTPServerRequest, query: Query) -> None:
    text, kind = metrics_text(site.subject, site.pictures.encoded + site.previews.encoded, site.streams)
    await reply(request, HTTPStatus.OK, text, kind)


async def _snapshot(site: Site, request: HTTPServerRequest, query: Query) -> None:
    camera = site.camera_of(query)
    try:
        picture = await asyncio.wait_for(site.pictures.after(camera, 0), PICTURE_WAIT_S)
    except asyncio.TimeoutError:
        raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "no frame has come yet") from None
    await reply(request, HTTPStatus.OK, picture.jpeg, "image/jpeg")


async def _stream(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Send pictures without end; whoever takes them slowly gets fewer, each the newest of its moment."""
    camera = site.camera_of(query)
    connection = _connection(request)
    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    if request.method == "HEAD":
        return await reply(request, HTTPStatus.OK, b"", kind)
    with site.stream():
        await _flushed(_begin(request, HTTPStatus.OK, kind, {}))
        number = 0
        while True:
            picture = await site.pictures.after(camera, number)
            number = picture.number
            await _flushed(connection.write(_part(picture)))


async def _grid(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Send small pictures of all cameras in one stream; the header Camera is the camera's place in /events.

    One stream, since a browser opens six connections to a host and no more.
    """
    connection = _connection(request)
    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    if request.method == "HEAD":
        return await reply(request, HTTPStatus.OK, b"", kind)
    names = site.subject.camera_names()
    numbers = dict.fromkeys(names, 0)
    with site.stream():
        await _flushed(_begin(request, HTTPStatus.OK, kind, {}))
        while True:
            camera, picture = await site.previews.after_each(numbers)
            numbers[camera] = picture.number
            await _flushed(connection.write(_part(picture, Camera=str(names.index(camera)))))


def _part(picture: Picture, **headers: str) -> bytes:
    """Return one picture of a multipart stream."""
    all_headers = {"Content-Type": "image/jpeg", "Content-Length": str(len(picture.jpeg)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return b"".join((f"--{BOUNDARY}\r\n{head}\r\n".encode(), picture.jpeg, b"\r\n"))


async def _events(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Send the state every EVENTS_EVERY_S, and "end" when the run ends."""
    connection = _connection(request)
    if request.method == "HEAD":
        return await reply(request, HTTPStatus.OK, b"", "text/event-stream")
    with site.stream():
        await _flushed(_begin(request, HTTPStatus.OK, "text/event-stream", {}, b"retry: 1000\n\n"))
        while not site.ending.is_set():
            await _flushed(connection.write(site.status()))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(site.ending.wait(), EVENTS_EVERY_S)
        await _flushed(connection.write(b"event: end\ndata: {}\n\n"))
    connection.finish()
    return None


Answer = Callable[[Site, "HTTPServerRequest", Query], Awaitable[None]]
_ROUTES: Dict[str, Tuple[str, Answer]] = {
    **{path: ("GET", _file) for path in _FILES},
    "/model.json": ("GET", _model),
    "/viewer.json": ("GET", _viewer),
    "/history.json": ("GET", _history),
    "/grid.mjpg": ("GET", _grid),
    "/snapshot.jpg": ("GET", _snapshot),
    "/stream.mjpg": ("GET", _stream),
    "/events": ("GET", _events),
    "/healthz": ("GET", _healthz),
    "/metrics": ("GET", _metrics),
    "/score": ("POST", _score),
}
