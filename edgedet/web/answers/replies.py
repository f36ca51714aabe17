"""Send answers by way of Tornado: a whole one, or the head of a stream. Every answer has the same security headers."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Awaitable, Mapping

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

STUCK_S = 10.0  # a viewer who takes nothing for so long is disconnected
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {style}; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_POLICY.format(style="'self'"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Refused(Exception):
    """Ends an answer with a status and a line of text."""

    def __init__(self, status: HTTPStatus, text: str, **headers: str) -> None:
        """``headers`` are further ones, with _ for -."""
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


async def reply(request: HTTPServerRequest, status: HTTPStatus, body: Any, kind: str = _TEXT, **headers: str) -> None:
    """Send a whole answer: bytes as they are, text with a line end, anything else as JSON."""
    if isinstance(body, str):
        body = (body + "\n").encode()
    elif not isinstance(body, bytes):
        body, kind = (json.dumps(body) + "\n").encode(), _JSON
    headers["Content-Length"] = str(len(body))
    await wait_until_sent(begin(request, status, kind, headers, b"" if request.method == "HEAD" else body))
    connection_of(request).finish()


def begin(
    request: HTTPServerRequest, status: HTTPStatus, kind: str, headers: Mapping[str, str], body: bytes = b""
) -> Awaitable[None]:
    """Send status and headers, with the beginning of the body; the result ends when the system took them."""
    from tornado.httputil import HTTPHeaders, ResponseStartLine

    all_headers = HTTPHeaders({**_SECURITY, "Content-Type": kind})
    for name, value in headers.items():
        all_headers[name.replace("_", "-")] = value
    start = ResponseStartLine("HTTP/1.1", status.value, status.phrase)
    written: Awaitable[None] = connection_of(request).write_headers(start, all_headers, body)
    return written


async def wait_until_sent(written: Awaitable[None]) -> None:
    """Wait until the system took what was written; raises TimeoutError where the viewer takes nothing."""
    await asyncio.wait_for(asyncio.shield(written), STUCK_S)


def hang_up(request: HTTPServerRequest) -> None:
    """Close the connection."""
    connection_of(request).close()


def connection_of(request: HTTPServerRequest) -> Any:
    """Return the request's connection, an HTTP1Connection, of which Tornado's types declare only a part."""
    return request.connection
