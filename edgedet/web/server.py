"""The web server: its thread, its sockets and their limits.

Tornado does sockets and HTTP (docs/decisions/0007-web.md). One event loop runs in a thread of its own, with little
priority, so that viewers wait for the detector and never the other way round.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from ..errors import InputError, UnavailableError
from ..progress import Say
from ..stream.outputs.sinks import Write
from ..stream.overlap import lower_priority
from ..types import FrameResult
from .answers.routes import ROUTES
from .answers.site import Site
from .guard import Guard, Place
from .pictures import PREVIEW_PX, PREVIEWS_PER_S, Pictures
from .subject import Subject

MAX_HEADER_BYTES = 16 << 10  # browsers send 1 to 2 KB
MAX_BODY_BYTES = 64 << 10  # a threshold, a token, or a camera's zones
HEADER_TIMEOUT_S = 10.0  # for all headers of a request, and between two requests of a connection
BODY_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 128  # beyond, new ones are closed at once
MAX_OF_ADDRESS = 64  # of these, so that one address cannot shut out the others; a page has some six
SEND_BUFFER_BYTES = 128 << 10  # of the system, a connection: a picture or two, so that a slow viewer sees none older
CLOSE_WAIT_S = 3.0
_EVERY_ADDRESS = ("0.0.0.0", "::")  # to listen on; no browser finds these


@contextmanager
def web_server(place: Place, guard: Guard, subject: Subject, say: Say) -> Iterator[Write]:
    """Serve until the block ends. Yield a function that takes each result and returns at once.

    say: told where the page is.
    Raises InputError where the address cannot be used.
    """
    server = _Server(guard, subject, say)
    server.start(_listen(place))
    host = socket.gethostname() if place.host in _EVERY_ADDRESS else place.host
    shown = f"[{host}]" if ":" in host else host
    say(f"watch it on http://{shown}:{server.port}/")

    def write(result: FrameResult) -> None:
        subject.figures.note(result)
        server.pictures.put(result)
        server.previews.put(result)

    try:
        yield write
    finally:
        server.stop()


def _listen(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        listener = socket.create_server((place.host, place.port), family=family, backlog=MAX_CONNECTIONS)
        listener.setblocking(False)
        return listener
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        later = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)  # the network may come late
        raise (UnavailableError if later else InputError)(
            f"--web cannot listen on {place.host}:{place.port}: {reason}. Choose another host or port."
        ) from None


class _Server:
    """The thread with its event loop; ``pictures`` and ``previews`` are there once ``start`` has returned."""

    pictures: Pictures
    previews: Pictures

    def __init__(self, guard: Guard, subject: Subject, say: Say) -> None:
        self.port = 0
        self._guard, self._subject, self._say = guard, subject, say
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._ready = threading.Event()
        self._error: Optional[BaseException] = None

    def start(self, listener: socket.socket) -> None:
        self.port = int(listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, args=(listener,), name="web", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(2 * CLOSE_WAIT_S)

    def _run(self, listener: socket.socket) -> None:
        try:
            lower_priority()
            asyncio.run(self._serve(listener))
        except BaseException as error:
            self._error = error
            self._say(f"web: the server ended: {type(error).__name__}: {error}")
        finally:
            self._ready.set()

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self.pictures = Pictures(self._subject.encode)
        self.previews = Pictures(self._subject.encode, PREVIEW_PX, PREVIEWS_PER_S)
        site = Site(ROUTES, self._guard, self._subject, self.pictures, self.previews, self._say, self._ending)
        server = _limited_server(site)
        server.add_sockets([listener])
        self._ready.set()
        await self._ending.wait()
        server.stop()
        if site.tasks:  # events say the end by themselves
            await asyncio.wait(set(site.tasks), timeout=0.5)
        for task in set(site.tasks):
            task.cancel()
        await asyncio.wait({asyncio.ensure_future(server.close_all_connections())}, timeout=CLOSE_WAIT_S)
        self.pictures.close()
        self.previews.close()


def _limited_server(site: Site) -> Any:
    """Return Tornado's server with limits on headers, bodies, times and connections."""
    from tornado.httpserver import HTTPServer

    open_by_host: Dict[str, int] = Counter()

    class LimitedServer(HTTPServer):
        def handle_stream(self, stream: Any, address: Any) -> None:
            if sum(open_by_host.values()) >= MAX_CONNECTIONS or open_by_host[address[0]] >= MAX_OF_ADDRESS:
                stream.close()
                return
            open_by_host[address[0]] += 1
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            stream.set_nodelay(True)
            super().handle_stream(stream, address)

        def on_close(self, server_conn: object) -> None:
            host = server_conn.context.address[0]  # type: ignore[attr-defined]  # Tornado's HTTP1ServerConnection
            open_by_host[host] -= 1
            if not open_by_host[host]:
                del open_by_host[host]
            super().on_close(server_conn)

    return LimitedServer(
        site.take,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        max_buffer_size=MAX_HEADER_BYTES + MAX_BODY_BYTES,
        chunk_size=MAX_BODY_BYTES,
        idle_connection_timeout=HEADER_TIMEOUT_S,
        body_timeout=BODY_TIMEOUT_S,
    )
