"""Write files whole or not at all, and name them by their hash. Stdlib only."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Union

from .errors import InputError

MODELS_FOLDER = Path("edgedet-out")  # where `edgedet export` writes, and where other commands look for a model
MOST_TEXT_BYTES = 64 << 20  # a result of `edgedet bench` with 10,000 runs of 100 rows has some 20 MB


def sha256_of(path: Union[str, Path]) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: Union[str, Path], hint: str, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Return the text of a regular file in UTF-8.

    A device or a pipe may never end, so nothing but a regular file of at most ``most_bytes`` is read.
    ``hint`` ends each error message: it says which file to name. Raises InputError in one line.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is no regular file; {hint}.")
        with open(path, "rb") as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise InputError(f"{path} has more than {most_bytes >> 20} MB; {hint}.")
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {hint}.") from None
    except ValueError:
        raise InputError(f"{path} is no UTF-8 text; {hint}.") from None


@contextmanager
def atomic_path(path: Union[str, Path]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` if the block succeeds, remove it otherwise.

    The temporary name keeps the suffix, because writers choose a format by it. Missing folders are created.
    Raises InputError in one line where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unused = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
        os.close(os.open(unused, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less what the user's umask takes away
        temporary = unused
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Choose another folder or free space."
        ) from error
    finally:
        if temporary != path and temporary.exists():
            temporary.unlink()


def check_writable(path: Union[str, Path]) -> None:
    """Raise InputError where ``atomic_path`` would, before hours of work are lost; missing folders are made."""
    if os.path.isdir(path):
        raise InputError(f"cannot write {path}: it is a folder. Name a file.")
    with suppress(_NothingToWrite), atomic_path(path):
        raise _NothingToWrite


class _NothingToWrite(Exception):
    """Leaves ``atomic_path`` without a file."""


def write_json(where: Optional[str], figures: Dict[str, Any]) -> None:
    """Write a command's figures as one line of JSON, as its ``--json`` option says.

    where: a file's path, "-" for stdout, None for nowhere. Raises InputError where the file cannot be written.
    """
    if where == "-":
        print(json.dumps(figures))
    elif where is not None:
        with atomic_path(where) as temporary:
            temporary.write_text(json.dumps(figures) + "\n", encoding="utf-8")


def cache_folder() -> Path:
    """Return where edgedet keeps what it can get again: $XDG_CACHE_HOME/edgedet, else ~/.cache/edgedet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "edgedet"
