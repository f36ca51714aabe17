"""Answer the requests of the page and of other programs, which the site has let in.

Files come from a table, so no path is ever looked up on the disk.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Awaitable, Callable, Dict, Tuple
from urllib.parse import parse_qsl

from ...errors import EdgeDetError, InputError
from ...files import parse_json
from ..pictures import Picture
from ..subject import Places, health_of, score_from
from .events import EVENT_ROUTES
from .metrics import metrics_text
from .replies import Refused, begin, connection_of, reply, wait_until_sent
from .site import EVENTS_EVERY_S, Answer, Query, Site

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

PICTURE_WAIT_S = 5.0  # for /snapshot.jpg, before the first frame
BOUNDARY = "frame"
FOLDER = Path(__file__).resolve().parents[1] / "page"
FILES = {
    "/": FOLDER / "index.html",
    "/events-page": FOLDER / "events.html",
    "/zones-page": FOLDER / "zones.html",
    **{f"/{path.name}": path for path in FOLDER.glob("**/*") if path.suffix in (".js", ".css", ".svg")},
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


async def _file(site: Site, request: HTTPServerRequest, query: Query) -> None:
    path = FILES[request.path]
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
        drawn = await asyncio.get_running_loop().run_in_executor(None, places.of, camera)
    except EdgeDetError as error:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
    await reply(request, HTTPStatus.OK, {**drawn, "camera": camera, "classes": site.subject.facts.get("classes", [])})


async def _save_zones(site: Site, request: HTTPServerRequest, query: Query) -> None:
    """Change a camera's zones and lines; the body is JSON as ``_zones`` sends it."""
    site.check_may_change(request)
    places, camera = _places_of(site), site.find_camera(query)
    try:
        edited = parse_json(request.body)
    except ValueError:
        edited = None
    if not isinstance(edited, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "wanted zones and lines as JSON")
    try:
        await asyncio.get_running_loop().run_in_executor(None, places.save, camera, edited)
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


def _on_events(answer: Callable[[Path, HTTPServerRequest, Query], Awaitable[None]]) -> Answer:
    """Let a function that answers about the events of a folder answer about the run's."""

    async def answer_of_run(site: Site, request: HTTPServerRequest, query: Query) -> None:
        if site.subject.events is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this run keeps no events: start it with --events DIR")
        await answer(site.subject.events, request, query)

    return answer_of_run


ROUTES: Dict[str, Tuple[str, Answer]] = {
    **{path: ("GET", _file) for path in FILES},
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
