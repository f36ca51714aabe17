"""Let a request in or refuse it, and find what answers it.

Every request passes the guard first: the host's name, where it comes from, the token. Then a table says which function
answers its path (``routes.ROUTES``).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Awaitable, Callable, Iterator, Mapping, Set, Tuple
from urllib.parse import parse_qsl, urlencode

from ...progress import Say
from ..guard import Guard
from ..pictures import Pictures
from ..subject import Subject, status_of
from .guesses import Guesses
from .replies import CONTENT_POLICY, Refused, connection_of, hang_up, reply

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

MAX_STREAMS = 48  # of pictures and events; a page has one of each
EVENTS_EVERY_S = 0.5
Query = Mapping[str, str]
Answer = Callable[["Site", "HTTPServerRequest", Query], Awaitable[None]]
_LOGIN_PAGE = Path(__file__).resolve().parents[1] / "page" / "login.html"


@dataclass
class Site:
    """The data that answers are made of, and the open streams.

    routes:   method and function that answer each path.
    previews: small pictures, for several cameras side by side.
    say:      called with a line where an answer failed; it holds no address and no header.
    ending:   set when the run ends.
    guesses:  counts wrong tokens by address.
    streams:  number of open streams.
    """

    routes: Mapping[str, Tuple[str, Answer]]
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
            self.say(f"web: {type(error).__name__} in answering {self.known_path(request) or 'an unknown path'}")
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
        method, answer = self.routes.get(request.path, (None, None))
        if answer is None:
            return await reply(request, HTTPStatus.NOT_FOUND, "there is no such page")
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            return await reply(request, HTTPStatus.METHOD_NOT_ALLOWED, f"wanted {method}", Allow=method or "")
        return await answer(self, request, query)

    def known_path(self, request: HTTPServerRequest) -> str:
        """Return the path of a request that something answers, else "": what a sender makes up is not repeated."""
        return request.path if request.path in self.routes else ""

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
    path = site.known_path(request) or "/"
    where = f"{path}?{left}" if left else path
    await reply(request, HTTPStatus.SEE_OTHER, "", Location=where, Set_Cookie=site.guard.set_cookie(token))


async def _unauthorised(request: HTTPServerRequest, complaint: str = "") -> None:
    accept = request.headers.get("Accept", "*/*")
    if "text/html" in accept:  # somebody with a browser
        page = _LOGIN_PAGE.read_text(encoding="utf-8").replace("<!--complaint-->", complaint)
        style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
        policy = CONTENT_POLICY.format(style=f"'sha256-{digest}'")
        kind = "text/html; charset=utf-8"
        return await reply(request, HTTPStatus.UNAUTHORIZED, page.encode(), kind, **{"Content-Security-Policy": policy})
    # FFmpeg, VLC and the like send their password only where they are asked; a browser would ask the viewer.
    challenge = 'Basic realm="edgedet"' if accept == "*/*" else 'Bearer realm="edgedet"'
    return await reply(
        request,
        HTTPStatus.UNAUTHORIZED,
        "wanted the token: Authorization: Bearer TOKEN",
        WWW_Authenticate=challenge,
    )
