"""Download weights whose name ends in their hash, once, into a folder that all processes share.

A download grows as NAME.part under an advisory lock on NAME.lock, so that a second process waits instead of fetching
too, and an interrupted one is continued by a Range request. Only a file whose hash is right gets its name.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgedet.errors import InputError, require
from edgedet.export.checkpoints.registry import hash_prefix
from edgedet.files import sha256_of

TIMEOUT_S = 30.0  # without a byte; a whole download may take as long as it needs
ATTEMPTS = 4  # that continue where the last broke off
PAUSE_S = 2.0  # before the next attempt
BLOCK_BYTES = 1 << 16
MAX_BYTES = 1 << 30  # the largest official file (D7x) has 0.3 GB
LOGGED_EVERY_S = 10.0  # progress where stderr is no terminal
INSTEAD = "Or give --weights FILE, or --weights demo for the bundled model."


class _Broken(Exception):
    """The transfer stopped early; what came is kept and another attempt may go on from there."""


def fetch(url: str, folder: Path, timeout_s: float = TIMEOUT_S, pause_s: float = PAUSE_S) -> Path:
    """Return the file of ``url`` in ``folder``; download it where it is not there yet or is damaged.

    Proxies come from the environment (http_proxy, https_proxy, no_proxy). Raises InputError in one line where nothing
    can be had, or where what comes has another hash than the name says.
    """
    path = folder / urlsplit(url).path.rpartition("/")[2]
    prefix = hash_prefix(url)
    try:
        if _is_whole(path, prefix):
            return path
        with _sole_writer(path):
            part = path.with_name(path.name + ".part")
            if not _is_whole(path, prefix):  # another process may have fetched it while this one waited
                if not _is_whole(part, prefix):  # or ended between the last byte and the rename
                    _download(url, part, prefix, timeout_s, pause_s)
                os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"cannot use {path}: {error.strerror or error}. Free space, or set XDG_CACHE_HOME to another folder."
        ) from error
    return path


def _is_whole(path: Path, prefix: str) -> bool:
    """Return whether the file is there and has the hash; raises OSError where the folder may not be looked into."""
    return _exists(path) and sha256_of(path).startswith(prefix)


def _exists(path: Path) -> bool:
    try:
        os.stat(path)  # Path.is_file raises or not for a folder without rights, as the version of Python goes
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Hold the lock of one download; the system releases it when the process ends, in whatever way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that downloads {path.name}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(url: str, part: Path, prefix: str, timeout_s: float, pause_s: float) -> None:
    """Complete ``part``; raises InputError where that cannot be done."""
    for attempt in range(1, ATTEMPTS + 1):
        resumed = part.exists()
        try:
            _transfer(url, part, timeout_s)
        except _Broken as error:
            if _is_whole(part, prefix):  # the server promised more than there is
                return
            if attempt == ATTEMPTS:
                kept = part.stat().st_size if part.exists() else 0
                again = f"The {kept} bytes that came are kept: the same command goes on from there. " if kept else ""
                raise InputError(f"cannot download {url}: {error}. {again}{INSTEAD}") from None
            print(f"{part.stem}: {error}; trying again", file=sys.stderr)
            time.sleep(pause_s)
            continue
        if _is_whole(part, prefix):
            return
        digest = sha256_of(part)[: len(prefix)]
        part.unlink()
        if not resumed:
            raise InputError(
                f"{url} is not the file that its name says: its SHA-256 begins with {digest}, wanted {prefix}. "
                f"A proxy may have changed it; nothing was kept. {INSTEAD}"
            )
        print(
            f"{part.stem}: what came earlier does not belong to this file, so the download starts anew", file=sys.stderr
        )
    raise InputError(f"cannot download {url}: its parts do not fit together. {INSTEAD}")


def _transfer(url: str, part: Path, timeout_s: float) -> None:
    """Append to ``part`` what is missing, or write it anew where the server does not continue.

    Raises _Broken where another attempt may help, InputError where none will.
    """
    have = part.stat().st_size if part.exists() else 0
    with _reply(url, have, part, timeout_s) as reply:
        if not (reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
            have = 0
        length = reply.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        if (total or 0) > MAX_BYTES:
            raise InputError(f"{url} would be {total} bytes; at most {MAX_BYTES} are expected. {INSTEAD}")
        block = _next_block(reply)
        if "html" in reply.headers.get("Content-Type", "") or (have == 0 and block.lstrip()[:1] == b"<"):
            raise InputError(f"{url} brings a web page instead of weights: a proxy or login page answers. {INSTEAD}")
        bar = require("tqdm", "edgedet export").tqdm(
            total=total,
            initial=have,
            desc=part.stem,
            unit="B",
            unit_scale=True,
            file=sys.stderr,
            mininterval=0.1 if sys.stderr.isatty() else LOGGED_EVERY_S,
        )
        with open(part, "r+b" if have else "wb") as file, bar:
            file.seek(have)
            file.truncate()
            while block:
                have += file.write(block)
                bar.update(len(block))
                if have > MAX_BYTES:
                    file.truncate(0)
                    raise InputError(f"{url} does not end after {MAX_BYTES} bytes; nothing was kept. {INSTEAD}")
                block = _next_block(reply)
    if total is not None and have < total:
        raise _Broken(f"the connection ended after {have} of {total} bytes")


def _reply(url: str, have: int, part: Path, timeout_s: float) -> Any:
    """Request ``url`` from byte number ``have`` on."""
    request = urllib.request.Request(url, headers={"User-Agent": "edgedet", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        return urllib.request.build_opener().open(request, timeout=timeout_s)  # reads the proxies anew
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        if error.code == 416:  # nothing behind the part, which has another hash than it should
            part.unlink()
        if error.code in (416, 429) or error.code >= 500:
            raise _Broken(answer) from None
        raise InputError(f"cannot download {url}: {answer}. {INSTEAD}") from None
    except urllib.error.URLError as error:
        cause = getattr(error.reason, "strerror", None) or error.reason
        raise InputError(
            f"cannot reach {urlsplit(url).hostname} for {url}: {cause}. Is this machine offline? {INSTEAD}"
        ) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Broken(f"the server does not answer ({error or type(error).__name__})") from None


def _next_block(reply: Any) -> bytes:
    try:
        return reply.read1(BLOCK_BYTES)
    except TimeoutError:
        raise _Broken("the server sends nothing any more") from None
    except (http.client.HTTPException, ConnectionError) as error:
        raise _Broken(f"the connection broke ({error or type(error).__name__})") from None
