"""Tell kinds of camera addresses apart, and name a source in public without its password or token."""

from __future__ import annotations

import re
from typing import Optional, Tuple
from urllib.parse import parse_qsl, urlsplit

# Parts of a query that tell the cameras of one recorder apart; any other value may be a key.
_PUBLIC_QUERY = ("camera", "channel", "ch", "chn", "fps", "id", "res", "resolution", "stream", "subtype")
_LONGEST_PUBLIC_VALUE = 12
_CAMERA_NAME = re.compile(r"([A-Za-z][\w.-]*)=(.+)", re.DOTALL)
_PIPELINE = " ! "  # how GStreamer joins elements


def is_url(text: str) -> bool:
    """Return True for an address of the network."""
    return "://" in text and not is_pipeline(text)


def is_pipeline(text: str) -> bool:
    """Return True for a GStreamer pipeline."""
    return _PIPELINE in text


def make_public_name(text: str) -> str:
    """Return a source's text without what may be secret: user, password and unknown values of the query of a URL.

    Of a GStreamer pipeline, only the elements' names are kept.
    """
    if is_pipeline(text):
        return "pipeline " + _PIPELINE.join(element.split()[0] for element in text.split(_PIPELINE) if element.split())
    if not is_url(text):
        return text
    try:
        url = urlsplit(text)
        query = parse_qsl(url.query, keep_blank_values=True)
    except ValueError:  # brackets that are no IPv6 address
        return text.split("://")[0] + "://..."
    host = url.netloc.rpartition("@")[2]
    shown = "&".join(f"{key}={value if _is_public(key, value) else '...'}" for key, value in query)
    return f"{url.scheme}://{host}{url.path}{'?' + shown if shown else ''}"


def _is_public(key: str, value: str) -> bool:
    return key.lower() in _PUBLIC_QUERY and len(value) <= _LONGEST_PUBLIC_VALUE and value.isalnum()


def split_camera(text: str) -> Tuple[Optional[str], str]:
    """Return (name, source) of ``NAME=SOURCE``, (None, source) where no name is given."""
    named = _CAMERA_NAME.fullmatch(text)
    return (named.group(1), named.group(2)) if named else (None, text)


def make_file_stem(name: str) -> str:
    """Return a camera's name as part of a file's name: letters of any script, digits, "_", dots and dashes."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "camera"
