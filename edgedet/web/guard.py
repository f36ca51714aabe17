"""Decide who may request what, by the token, the server's names and the origin of a request.

It protects against two dangers: a page on another site that sends requests from
the viewer's browser (cross-site requests, DNS rebinding), and somebody on the network who guesses the token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union
from urllib.parse import urlsplit

from ..errors import InputError
from .defaults import DEFAULT_PLACE

SHORTEST_TOKEN = 16  # characters; `openssl rand -hex 16` gives 32
MAX_PORT = 65535


@dataclass(frozen=True)
class Place:
    """Where the server listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        address = _address(self.host)
        return address is not None and address.is_loopback


def place_of(text: str) -> Place:
    """Parse HOST:PORT, :PORT or PORT; an IPv6 host stands in brackets. Raises InputError for anything else."""
    host, _, port = text.rpartition(":")
    host = host or DEFAULT_PLACE.split(":")[0]
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    good = port.isdigit() and int(port) <= MAX_PORT and bracketed == (":" in name)
    if not good or not name or set(name) & set("/ @[]"):
        raise InputError(
            f"--web wants HOST:PORT, as {DEFAULT_PLACE} or [::1]:8080; got {text}. A model stands before it: "
            "edgedet run MODEL --web"
        )
    return Place(name, int(port))


def check_token(place: Place, token: Optional[str], option: str = "--token") -> None:
    """Raise InputError where a token is wanted and not there, or too short to be one."""
    if token is None:
        if not place.is_loopback:
            raise InputError(
                f"--web on {place.host} is open to the network and needs --token TOKEN, of {SHORTEST_TOKEN} characters "
                "or more (openssl rand -hex 16); without one it listens on 127.0.0.1 only."
            )
    elif len(token) < SHORTEST_TOKEN or not all("!" <= letter <= "~" and letter not in '";,\\' for letter in token):
        raise InputError(
            f"{option} wants {SHORTEST_TOKEN} characters or more, without spaces, quotes, commas, semicolons and "
            f"backslashes; got {len(token)} characters: `openssl rand -hex 16` prints a good one."
        )


def names_of(place: Place, more: Iterable[str]) -> FrozenSet[str]:
    """Return the names, lower case, under which this machine may be asked, beside its IP addresses."""
    machine = socket.gethostname()
    return frozenset(name.lower() for name in ("localhost", place.host, machine, f"{machine}.local", *more))


@dataclass(frozen=True)
class Guard:
    """Decides on requests.

    names:  host names that are ours. A name that is not may be an attacker's that was pointed here (DNS rebinding);
            addresses are no danger, since the attacker's page would have to come from there.
    token:  None for none.
    cookie: name of the cookie that holds the token; browsers share cookies between all ports of a host.
    viewer_token: a second token, with which a viewer can change nothing; None for none.
    """

    names: FrozenSet[str]
    token: Optional[str] = field(repr=False)
    cookie: str = "edgedet"
    viewer_token: Optional[str] = field(repr=False, default=None)

    def refusal(self, headers: Mapping[str, str]) -> Optional[str]:
        """Return why a request is refused whoever sends it, None where it is not."""
        host = headers.get("Host", "")
        if not self._is_ours(host):
            return "this server is not known under that name: start it with --allow-host NAME"
        origin = headers.get("Origin")
        if origin is not None and _netloc(origin) != host.lower():
            return "the request comes from a page of another site"
        site, mode = headers.get("Sec-Fetch-Site", "none"), headers.get("Sec-Fetch-Mode", "")
        if site not in ("none", "same-origin") and mode != "navigate":
            return "the request comes from a page of another site"
        return None

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Return True where no token is wanted, or the request has it: Bearer, Basic's password, or the cookie."""
        return self.token is None or any(self.is_token(offered) for offered in _offered(headers, self.cookie))

    def may_change(self, headers: Mapping[str, str]) -> bool:
        """Return True for whoever may change the run: with the token, not with the viewers' one."""
        return self.token is None or any(_same(offered, self.token) for offered in _offered(headers, self.cookie))

    def offers(self, headers: Mapping[str, str]) -> bool:
        """Return True where a request has something in the place of a token."""
        return bool(_offered(headers, self.cookie))

    def is_token(self, offered: str) -> bool:
        """Return True for the token and for the viewers' one."""
        return any([token is not None and _same(offered, token) for token in (self.token, self.viewer_token)])

    def set_cookie(self, token: str) -> str:
        """Return a Set-Cookie value: not for scripts, nor for what other sites send, gone with the browser."""
        return f"{self.cookie}={token}; Path=/; HttpOnly; SameSite=Lax"

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # brackets that are no address
            return False
        return name.lower() in self.names or _address(name) is not None


def make_guard(
    place: Place,
    token: Optional[str],
    viewer_token: Optional[str],
    allow_hosts: Iterable[str],
    names: Tuple[str, str] = ("--token", "--viewer-token"),
) -> Guard:
    """Return the guard of a page that listens at ``place``.

    names: what errors call the two tokens.
    Raises InputError for a token that is missing or too short, and where both are the same.
    """
    check_token(place, token, names[0])
    if viewer_token is not None:
        if token is None or token == viewer_token:
            raise InputError(
                f"{names[1]} needs {names[0]} beside it and must differ from it: give two different tokens."
            )
        check_token(place, viewer_token, names[1])
    return Guard(names_of(place, allow_hosts), token, f"edgedet_{place.port}", viewer_token)


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that are no address
        return ""


def _same(offered: str, token: str) -> bool:
    """Compare in a time that does not depend on where the two differ, nor on how long the token is."""
    return hmac.compare_digest(_digest(offered), _digest(token))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _offered(headers: Mapping[str, str], cookie: str) -> List[str]:
    tokens = []
    kind, _, value = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        tokens.append(value.strip())
    elif kind.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            tokens.append(base64.b64decode(value, validate=True).decode("utf-8", "replace").partition(":")[2])
    for pair in headers.get("Cookie", "").split(";"):  # not http.cookies, which stops at another server's odd value
        name, _, value = pair.strip().partition("=")
        if name == cookie:
            tokens.append(value)
    return tokens


def _address(text: str) -> Union[ipaddress.IPv4Address, ipaddress.IPv6Address, None]:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
