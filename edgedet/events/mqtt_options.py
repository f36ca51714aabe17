"""Which MQTT broker is told of events, and as whom: the options, and how addresses and passwords are read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Tuple
from urllib.parse import urlsplit

from ..errors import InputError
from ..files import read_text

USER_VARIABLE, PASSWORD_VARIABLE = "EDGEDET_MQTT_USER", "EDGEDET_MQTT_PASSWORD"
PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class MqttOptions:
    """Which broker, and as whom.

    user, password: None for none; they are never in a report.
    ca:        file of the authority that signed the broker's certificate; None: the system's. ``tls`` only.
    cert, key: files of this client's own certificate, where the broker wants one.
    prefix:    of all topics; ``node``: this board's name in Home Assistant.
    discovery: Home Assistant's prefix, "" for no discovery.
    """

    host: str
    port: int
    tls: bool = False
    user: Optional[str] = field(default=None, repr=False)
    password: Optional[str] = field(default=None, repr=False)
    ca: Optional[Path] = None
    cert: Optional[Path] = None
    key: Optional[Path] = None
    prefix: str = "edgedet"
    node: str = ""
    discovery: str = "homeassistant"

    def __post_init__(self) -> None:
        if not self.tls and (self.ca or self.cert or self.key):
            raise InputError("certificates are for mqtts://HOST: mqtt:// is not encrypted.")
        if (self.cert is None) != (self.key is None):
            raise InputError("a client's certificate and its key go together: name both or none.")
        if not re.fullmatch(r"[^+#\s]+", self.prefix) or self.prefix.startswith("/") or self.prefix.endswith("/"):
            raise InputError(
                f"a prefix of MQTT topics has no +, #, spaces or slashes at its ends; got {self.prefix!r}."
            )


def broker_of(text: str) -> Tuple[str, int, bool]:
    """Return host, port and whether TLS is wanted of mqtt://HOST:PORT, mqtts://HOST or HOST.

    Raises InputError for anything else, and for a password in it, which every user of the machine could read.
    """
    parts = urlsplit(text if "://" in text else f"mqtt://{text}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if "@" in text:  # also of a password with a slash, which ends the address for urlsplit
        raise InputError(
            f"the broker's address must not hold a user or a password: set {USER_VARIABLE} and {PASSWORD_VARIABLE} "
            "instead."
        )
    if parts.scheme not in PORTS or not parts.hostname or port == -1 or parts.path.strip("/") or parts.query:
        raise InputError(f"a broker is mqtt://HOST, mqtts://HOST or either with :PORT; got {text}.")
    return parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts"


def credentials(password_file: Optional[Path]) -> Tuple[Optional[str], Optional[str]]:
    """Return user and password, which are the two lines of a file, or else in the environment."""
    if password_file is not None:
        lines = read_text(password_file, "it holds the user in its first line, the password in its second").splitlines()
        if len(lines) < 2 or not lines[0]:
            raise InputError(f"{password_file} must have the user in its first line and the password in its second.")
        return lines[0], lines[1]
    return os.environ.get(USER_VARIABLE) or None, os.environ.get(PASSWORD_VARIABLE) or None
