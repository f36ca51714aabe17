"""Answer the requests of the page and of other programs.

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
from typing import TYPE_CHECKING, Awaitable, Callable, Dict, Iterator, Mapping, Set, Tuple
from urllib.parse import parse_qsl, urlencode

from ..errors import EdgeDetError, InputError
from ..files import parse_json
from ..progress import Say
from .event_answers import EVENT_ROUTES
from .guard import Guard
from .guesses import Guesses
from .metrics import metrics_text
from .pictures import Picture, Pictures
from .replies import CONTENT_POLICY, Refused, begin, connection_of, hang_up, reply, wait_until_sent
from .subject import Places, Subject, health_of, score_from, status_of

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

MAX_STREAMS = 48  # of pictures and events; a page has one of each
EVENTS_EVERY_S = 0.5
PICTURE_WAIT_S = 5.0  # for /snapshot.jpg, before the first frame
BOUNDARY = "frame"
Query = Mapping[str, str]
_FOLDER = Path(__file__).resolve().parent / "page"
_FILES = {
    "/": _FOLDER / "index.html",
    "/events-page": _FOLDER / "events.html",
    "/zones-page": _FOLDER / "zones.html",
    **{f"/{path.name}": path for path in _FOLDER.glob("**/*") if path.suffix in (".js", ".css", ".svg")},
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass
class Site:
    """The data that answers are made of, and the open streams.

    previews: small pictures, for several cameras side by side.
    say:      called with a line where an answer failed; it holds no address and no header.
    ending:   set when the run ends.
    guesses:  counts wrong tokens by address.
    streams:  number of open streams.
    """

    guard: Guard
    subject: Subject
    pictures: Pictures
    previews: Pictures
    say: Say
    ending: asyncio.Event
    guesses: Guesses = field(default_factory=Guesses)
    streams: int = 0
    tasks: Set[asyncio.Task[None]] = field(default_factory=set)
    _status: Tuple[float, bytes] = (0.0, b"")

    def take(self, request: HTTPServerRequest) -> None:
        """Start to answer a request whose headers and body have arrived."""
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        connection_of(request).set_close_callback(task.cancel)

    async def _answer(self, request: HTTPServerRequest) -> None:
        from tornado.iostream import StreamClosedError

        try:
            try:
                await self._route(request)
            except Refused as refused:
                await reply(request, refused.status, refused.text, **refused.headers)
        except (StreamClosedError, asyncio.TimeoutError):
            hang_up(request)
        except Exception as error:  # a mistake of ours must not end the server
            self.say(f"web: {type(error).__name__} in answering {_known_path(request)}")
            hang_up(request)

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
                return await _move_token_to_cookie(self, request, query, in_address)
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
        """After some wrong tokens, let their sender wait, and report that somebody guesses."""
        wait_s, line = self.guesses.note(request.remote_ip or "", time.monotonic())
        if line:
            self.say(line)
        await asyncio.sleep(wait_s)

    def check_may_change(self, request: HTTPServerRequest) -> None:
        """Refuse whoever may look and change nothing."""
        if not self.guard.may_change(request.headers):
            raise Refused(HTTPStatus.FORBIDDEN, "this token lets you look and change nothing")

    def find_camera(self, query: Mapping[str, str]) -> str:
        """Return the name of the requested camera, the first one by default."""
        names = self.subject.camera_names()
        name = query.get("camera", names[0])
        if name not in names:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such camera")
        return name

    def status(self) -> bytes:
        """Return the state as a server-sent event; viewers share one for half of EVENTS_EVERY_S."""
        now = time.monotonic()
        if now - self._status[0] > EVENTS_EVERY_S / 2:
            text = json.dumps(status_of(self.subject, self.streams))
            self._status = (now, f"data: {text}\n\n".encode())
        return self._status[1]

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count an open stream within the block; refuses more than MAX_STREAMS."""
        if self.streams >= MAX_STREAMS:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_STREAMS} streams are open", Retry_After="10")
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


def _known_path(request: HTTPServerRequest) -> str:
    return request.path if request.path in _ROUTES else "an unknown path"


async def _login(site: Site, request: HTTPServerRequest) -> None:
    offered = dict(parse_qsl(request.body.decode("utf-8", "replace"))).get("token", "")
    if request.method == "POST" and site.guard.is_token(offered):
        return await _move_token_to_cookie(site, request, {}, offered)
    if offered:
        await site.slow_down(request)
    return await _unauthorised(request, "<p role='alert'>That is not the token.</p>" if offered else "")


async def _move_token_to_cookie(site: Site, request: HTTPServerRequest, query: Query, token: str) -> None:
    """Put the token into a cookie, so that it leaves the address."""
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
        policy = CONTENT_POLICY.format(style=f"'sha256-{digest}'")
        kind = _TYPES[".html"]
        return await reply(request, HTTPStatus.UNAUTHORIZED, page.encode(), kind, **{"Content-Security-Policy": policy})
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
    """Tell the page whether this viewer may change settings, and whether there are events."""
    may_change = site.guard.may_change(request.headers)
    events, zones = site.subject.events is not None, site.subject.places is not None
    await reply(request, HTTPStatus.OK, {"may_change": may_change, "events": events, "zones": zones})


async def _cameras(site: Site, request: HTTPServerRequest, query: Query) -> None:
    await reply(request, HTTPStatus.OK, site.subject.camera_names())


async def _history(site: Site, request: HTTPServerRequest, query: Query) -> None:
    await reply(request, HTTPStatus.OK, site.subject.figures.history(site.find_camera(query)))


async def _score(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Change the detector's threshold; the body is a form with ``score``."""
    site.check_may_change(request)
    try:
        text = dict(parse_qsl(request.body.decode("utf-8", "replace"))).get("score", "")
        site.subject.set_score(score_from(text))
    except InputError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
    await reply(request, HTTPStatus.OK, {"score": site.subject.score()})


def _places_of(site: Site) -> Places:
    if site.subject.places is None:
        raise Refused(
            HTTPStatus.NOT_FOUND, "zones belong to a configuration file with events: edgedet run --config FILE"
        )
    return site.subject.places


async def _zones(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Send a camera's zones and lines, and the names of the classes."""
    places, camera = _places_of(site), site.find_camera(query)
    try:
        found = await asyncio.get_running_loop().run_in_executor(None, places.of, camera)
    except EdgeDetError as error:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
    await reply(request, HTTPStatus.OK, {**found, "camera": camera, "classes": site.subject.facts.get("classes", [])})


async def _save_zones(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Change a camera's zones and lines; the body is JSON as ``_zones`` sends it."""
    site.check_may_change(request)
    places, camera = _places_of(site), site.find_camera(query)
    try:
        wanted = parse_json(request.body)
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "wanted zones and lines as JSON")
    try:
        await asyncio.get_running_loop().run_in_executor(None, places.save, camera, wanted)
    except EdgeDetError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
    site.say(f"web: zones and lines of {camera or 'the video'} were changed on the page")
    await reply(request, HTTPStatus.OK, {"saved": camera})


async def _healthz(site: Site, request: HTTPServerRequest, query: Query) -> None:
    site.find_camera(query)
    healthy, figures = health_of(site.subject, query.get("camera"))
    return await reply(request, HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE, figures)


async def _metrics(site: Site, request: HTTPServerRequest, query: Query) -> None:
    text, kind = metrics_text(site.subject, site.pictures.encoded + site.previews.encoded, site.streams)
    await reply(request, HTTPStatus.OK, text, kind)


async def _snapshot(site: Site, request: HTTPServerRequest, query: Query) -> None:
    camera = site.find_camera(query)
    try:
        picture = await asyncio.wait_for(site.pictures.after(camera, 0), PICTURE_WAIT_S)
    except asyncio.TimeoutError:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "no frame has come yet") from None
    await reply(request, HTTPStatus.OK, picture.jpeg, "image/jpeg")


async def _stream(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Send pictures without end; a slow viewer gets fewer of them, but always the newest."""
    camera = site.find_camera(query)
    connection = connection_of(request)
    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    if request.method == "HEAD":
        return await reply(request, HTTPStatus.OK, b"", kind)
    with site.stream():
        await wait_until_sent(begin(request, HTTPStatus.OK, kind, {}))
        number = 0
        while True:
            picture = await site.pictures.after(camera, number)
            number = picture.number
            await wait_until_sent(connection.write(_make_part(picture)))


async def _grid(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Send small pictures of all cameras in one stream; the header Camera is the camera's place in /events.

    One stream, since a browser opens six connections to a host and no more.
    """
    connection = connection_of(request)
    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    if request.method == "HEAD":
        return await reply(request, HTTPStatus.OK, b"", kind)
    names = site.subject.camera_names()
    numbers = dict.fromkeys(names, 0)
    with site.stream():
        await wait_until_sent(begin(request, HTTPStatus.OK, kind, {}))
        while True:
            camera, picture = await site.previews.after_each(numbers)
            numbers[camera] = picture.number
            await wait_until_sent(connection.write(_make_part(picture, Camera=str(names.index(camera)))))


def _make_part(picture: Picture, **headers: str) -> bytes:
    """Return one picture of a multipart stream."""
    all_headers = {"Content-Type": "image/jpeg", "Content-Length": str(len(picture.jpeg)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return b"".join((f"--{BOUNDARY}\r\n{head}\r\n".encode(), picture.jpeg, b"\r\n"))


async def _events(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Send the state every EVENTS_EVERY_S, and "end" when the run ends."""
    connection = connection_of(request)
    if request.method == "HEAD":
        return await reply(request, HTTPStatus.OK, b"", "text/event-stream")
    with site.stream():
        await wait_until_sent(begin(request, HTTPStatus.OK, "text/event-stream", {}, b"retry: 1000\n\n"))
        while not site.ending.is_set():
            await wait_until_sent(connection.write(site.status()))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(site.ending.wait(), EVENTS_EVERY_S)
        await wait_until_sent(connection.write(b"event: end\ndata: {}\n\n"))
    connection.finish()
    return None


Answer = Callable[[Site, "HTTPServerRequest", Query], Awaitable[None]]


def _on_events(answer: Callable[[Path, HTTPServerRequest, Query], Awaitable[None]]) -> Answer:
    """Let a function that answers about the events of a folder answer about the run's."""

    async def answer_of_run(site: Site, request: HTTPServerRequest, query: Query) -> None:
        if site.subject.events is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this run keeps no events: start it with --events DIR")
        await answer(site.subject.events, request, query)

    return answer_of_run


_ROUTES: Dict[str, Tuple[str, Answer]] = {
    **{path: ("GET", _file) for path in _FILES},
    "/model.json": ("GET", _model),
    "/viewer.json": ("GET", _viewer),
    "/cameras.json": ("GET", _cameras),
    "/history.json": ("GET", _history),
    "/grid.mjpg": ("GET", _grid),
    "/snapshot.jpg": ("GET", _snapshot),
    "/stream.mjpg": ("GET", _stream),
    "/events": ("GET", _events),
    **{path: ("GET", _on_events(answer)) for path, answer in EVENT_ROUTES.items()},
    "/healthz": ("GET", _healthz),
    "/metrics": ("GET", _metrics),
    "/score": ("POST", _score),
    "/zones.json": ("GET", _zones),
    "/zones": ("POST", _save_zones),
}
