"""Answer the requests of the page of events: the list, the counts of a day, pictures and videos.

What is asked for is looked up in the store of a folder; only files that an event names are sent.
"""

from __future__ import annotations

import asyncio
import math
import re
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, Mapping, Optional, Tuple

from ...errors import InputError
from ...events.store import EventFilter, count_events, find_event, known_values, read_events
from .replies import Refused, begin, connection_of, reply, wait_until_sent

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

PAGE_EVENTS = 24  # of one answer, unless fewer are asked for
STEP_S = 300  # of the timeline
LONGEST_TIMELINE_S = 8 * 86400
_CHUNK_BYTES = 256 << 10  # of a video at a time
_TYPES = {".jpg": "image/jpeg", ".mp4": "video/mp4", ".webm": "video/webm", ".mkv": "video/x-matroska"}
Query = Mapping[str, str]


async def send_events(folder: Path, request: HTTPServerRequest, query: Query) -> None:
    """Send a page of events, the newest first, without their paths; "next" is what ``older_than`` asks for."""
    limit = min(PAGE_EVENTS, max(1, int(_number(query, "limit") or PAGE_EVENTS)))
    asked = partial(read_events, folder, _filter_of(query), limit + 1, query.get("older_than"))
    events = await _in_thread(asked)
    shown = [{name: value for name, value in event.items() if name != "path"} for event in events[:limit]]
    more = shown[-1]["id"] if len(events) > limit else None
    await reply(request, HTTPStatus.OK, {"events": shown, "next": more})


async def send_known(folder: Path, request: HTTPServerRequest, query: Query) -> None:
    """Send the names of cameras, classes and zones that events have."""
    await reply(request, HTTPStatus.OK, await _in_thread(partial(known_values, folder)))


async def send_timeline(folder: Path, request: HTTPServerRequest, query: Query) -> None:
    """Send how many events of each camera began in each step of STEP_S from ``from`` to ``to``."""
    asked = _filter_of(query)
    if asked.after_s is None or asked.before_s is None or not 0 < asked.before_s - asked.after_s <= LONGEST_TIMELINE_S:
        raise Refused(HTTPStatus.BAD_REQUEST, "wanted from and to, in seconds since 1970, a week apart at most")
    counts = await _in_thread(partial(count_events, folder, asked, float(STEP_S)))
    cameras = {name: sorted(steps.items()) for name, steps in counts.items()}
    await reply(request, HTTPStatus.OK, {"step_s": STEP_S, "cameras": cameras})


async def send_picture(folder: Path, request: HTTPServerRequest, query: Query) -> None:
    """Send an event's best picture."""
    path = await _find_file(folder, query, lambda event: event["snapshot"])
    await _send_file(request, path, {})


async def send_clip(folder: Path, request: HTTPServerRequest, query: Query) -> None:
    """Send one of an event's videos, or a part of it as browsers ask for; with ``download``, to be kept."""
    number = int(_number(query, "part") or 0)
    path = await _find_file(folder, query, lambda event: event["clips"][number] if number >= 0 else "")
    headers = {}
    if "download" in query:
        name = re.sub(r"[^\w.-]", "_", f"{path.parents[1].name}-{path.name}")
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    await _send_file(request, path, headers)


def _filter_of(query: Query) -> EventFilter:
    camera, label, zone = (query.get(name) or None for name in ("camera", "class", "zone"))
    return EventFilter(camera, label, zone, _number(query, "from"), _number(query, "to"))


def _number(query: Query, name: str) -> Optional[float]:
    text = query.get(name, "")
    if not text:
        return None
    with suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise Refused(HTTPStatus.BAD_REQUEST, f"{name} wants a number")


async def _in_thread(read: Callable[[], Any]) -> Any:
    """Call a function that reads the store, and let others be answered meanwhile."""
    try:
        return await asyncio.get_running_loop().run_in_executor(None, read)
    except InputError as error:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None


async def _find_file(folder: Path, query: Query, file_of: Callable[[Dict[str, Any]], str]) -> Path:
    """Return the file that the event names, which must be in the folder."""
    event = await _in_thread(partial(find_event, folder, query.get("id", "")))
    name = ""
    if event is not None:
        with suppress(IndexError):
            name = file_of(event)
    path = (folder / name).resolve()
    if not name or folder.resolve() not in path.parents or path.suffix not in _TYPES or not path.is_file():
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such file")
    return path


async def _send_file(request: HTTPServerRequest, path: Path, headers: Dict[str, str]) -> None:
    """Send a file, or the range of it that was asked for (RFC 9110, 14): players ask so, to jump."""
    with open(path, "rb") as file:
        size = path.stat().st_size
        status, start, end = _range_of(request.headers.get("Range", ""), size)
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise Refused(status, f"the file has {size} bytes", Content_Range=f"bytes */{size}")
        if status == HTTPStatus.PARTIAL_CONTENT:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers.update({"Accept-Ranges": "bytes", "Content-Length": str(end - start)})
        connection = connection_of(request)
        await wait_until_sent(begin(request, status, _TYPES[path.suffix], headers))
        file.seek(start)
        left = 0 if request.method == "HEAD" else end - start
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:  # somebody cut the file: the viewer sees an answer that is too short
                break
            left -= len(chunk)
            await wait_until_sent(connection.write(chunk))
    connection.finish()


def _range_of(text: str, size: int) -> Tuple[HTTPStatus, int, int]:
    """Return the status, the first byte and the end (exclusive) of a Range header; without one, of the whole file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if match is None or not (match[1] or match[2]):
        return HTTPStatus.OK, 0, size
    if not match[1]:  # the last bytes, as many as it says
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    if start >= end:
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
    return HTTPStatus.PARTIAL_CONTENT, start, end


EVENT_ROUTES: Dict[str, Callable[[Path, HTTPServerRequest, Query], Awaitable[None]]] = {
    "/events.json": send_events,
    "/events-known.json": send_known,
    "/events-timeline.json": send_timeline,
    "/event-picture": send_picture,
    "/event-clip": send_clip,
}
