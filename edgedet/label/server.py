"""The page on which boxes are corrected, served by Tornado to this machine only."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any, Dict

from ..errors import InputError, require
from ..files import parse_json
from ..judge.coco import is_gap
from ..progress import Say
from ..web.guard import Guard, Place, names_of
from .session import IMAGES, Session

MAX_BODY_BYTES = 1 << 20  # a thousand boxes have some 100 KB
_FOLDER = Path(__file__).resolve().parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_FILES = {
    "/": _FOLDER / "label.html",
    **{f"/{path.name}": path for path in _FOLDER.iterdir() if path.suffix in (".js", ".css")},
    **{f"/{name}": _FOLDER.parents[1] / "web/page" / name for name in ("icon.svg", "base.css", "dom.js")},
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve_session(session: Session, port: int, say: Say) -> None:
    """Serve until the user has finished, and tell ``say`` where the page is; Ctrl-C ends it, too.

    Raises InputError where the port cannot be had, MissingDependency without tornado.
    """
    require("tornado", "edgedet label")
    asyncio.run(_serve(session, port, say))


async def _serve(session: Session, port: int, say: Say) -> None:
    from tornado.httpserver import HTTPServer

    place = Place("127.0.0.1", port)
    finished = asyncio.Event()
    try:
        listener = socket.create_server((place.host, port))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot listen on port {port}: {reason}. Choose another one by --port.") from None
    listener.setblocking(False)
    application = _make_application(session, Guard(names_of(place, ()), None), finished)
    server = HTTPServer(application, max_body_size=MAX_BODY_BYTES, max_buffer_size=2 * MAX_BODY_BYTES)
    server.add_sockets([listener])
    say(f"label {len(session.pictures)} pictures on http://127.0.0.1:{listener.getsockname()[1]}/")
    await finished.wait()
    server.stop()
    await server.close_all_connections()


def _make_application(session: Session, guard: Guard, finished: asyncio.Event) -> Any:
    from tornado.web import Application, HTTPError, RequestHandler

    class Handler(RequestHandler):
        def set_default_headers(self) -> None:
            for name, value in _HEADERS.items():
                self.set_header(name, value)

        def prepare(self) -> None:
            refusal = guard.refusal(self.request.headers)
            if refusal is not None:
                raise HTTPError(HTTPStatus.FORBIDDEN, reason=refusal)

        def write_error(self, status_code: int, **more: Any) -> None:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"{self._reason}\n")

        def send_file(self, path: Path) -> None:
            self.set_header("Content-Type", _TYPES[path.suffix])
            self.finish(path.read_bytes())

    class File(Handler):
        def get(self) -> None:
            self.send_file(_FILES[self.request.path])

    class Work(Handler):
        def get(self) -> None:
            self.write(_state_of(session))

    class Image(Handler):
        def get(self, number: str) -> None:
            index = int(number)
            if index >= len(session.pictures):
                raise HTTPError(HTTPStatus.NOT_FOUND, reason="there is no such picture")
            self.send_file(session.folder / IMAGES / session.pictures[index].file)

    class Boxes(Handler):
        def post(self, number: str) -> None:
            try:
                session.change(int(number), parse_json(self.request.body))
            except (InputError, ValueError):
                raise HTTPError(HTTPStatus.BAD_REQUEST, reason="these are no boxes of that picture") from None
            done, boxes = session.count()
            self.write({"done": done, "boxes": boxes})

    class Finish(Handler):
        def post(self) -> None:
            self.write({})
            finished.set()

    routes = [(path.replace(".", r"\."), File) for path in _FILES]
    more = [("/work.json", Work), (r"/images/(\d{1,6})", Image), (r"/boxes/(\d{1,6})", Boxes), ("/finish", Finish)]
    return Application([*routes, *more], log_function=lambda handler: None)


def _state_of(session: Session) -> Dict[str, Any]:
    return {
        "class_names": ["" if is_gap(name) else name for name in session.class_names],
        "labels": str(session.labels),
        "pictures": [
            {
                "file": picture.file,
                "width": picture.width,
                "height": picture.height,
                "done": picture.is_done,
                "boxes": [
                    {"box": box.xyxy, "class": box.class_id, "score": box.score, "accepted": box.accepted}
                    for box in picture.boxes
                ],
            }
            for picture in session.pictures
        ],
    }
