"""Write files whole or not at all, and name them by their hash. Stdlib only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Collection, Dict, Iterable, Iterator, Mapping, Optional, Set, Tuple, Union

from .errors import InputError, UnavailableError

MODELS_FOLDER = Path("edgedet-out")  # where `edgedet export` writes, and where other commands look for a model
_TEMPORARY = re.compile(r"\..*-edgedet[0-9a-f]{8}(\.\w+)?")  # names that ``_new_file`` gives
MOST_TEXT_BYTES = 64 << 20  # a result of `edgedet bench` with 10,000 runs of 100 rows has some 20 MB


def sha256_of(path: Union[str, Path]) -> str:
    """Return the hex SHA-256 of a file's bytes; raises InputError in one line where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise InputError(unreadable(path, error)) from None
    return digest.hexdigest()


def unreadable(path: Union[str, Path], error: OSError) -> str:
    """Return the line that says why a file cannot be read, and what to do where this user may not."""
    advice = f": allow it by `chmod u+r {path}`, or run as another user" if isinstance(error, PermissionError) else ""
    return f"cannot read {path}: {error.strerror or error}{advice}."


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
        return data.decode("utf-8-sig")  # Windows' editors begin a file with a byte order mark
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {hint}.") from None
    except ValueError:
        raise InputError(f"{path} is no UTF-8 text; {hint}.") from None


def parse_json(text: Union[str, bytes]) -> Any:
    """Return the value of a JSON text; raises ValueError for text that is not JSON or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def atomic_path(path: Union[str, Path]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` if the block succeeds, remove it otherwise.

    The temporary name keeps the suffix, because writers choose a format by it. Missing folders are created. The file
    is on the disk before it gets its name, so after a power cut there is the old file or the whole new one. A symbolic
    link stays, and the file that it names is replaced. Devices and pipes are written through: nothing may replace them.
    Temporary files that killed processes left in the folder are removed.
    Raises InputError in one line where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = lock = None
    try:
        target = None if _is_stream(path) else Path(os.path.realpath(path))
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        temporary, lock = _new_file(path, Path(tempfile.gettempdir()) if target is None else target.parent)
        yield temporary
        if target is None:
            descriptor = _own_descriptor(path)
            with open(temporary, "rb") as source, open(path if descriptor is None else os.dup(descriptor), "wb") as out:
                shutil.copyfileobj(source, out)
        else:
            sync_to_disk(temporary)
            os.replace(temporary, target)
            sync_to_disk(target.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None and temporary.exists():
            temporary.unlink()
        if lock is not None:
            os.close(lock)


def make_folder(path: Union[str, Path]) -> None:
    """Make a folder and those above it that are missing; raises InputError in one line where that is not allowed."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Union[str, Path], error: OSError) -> InputError:
    """Return the error that says why a file cannot be written and what to do: UnavailableError if it is the disk."""
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        advice = "Choose a folder that this user may write to."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free space, or choose another folder."
    else:
        advice = "Choose another folder or free space."
    disk = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    kind = UnavailableError if disk else InputError
    return kind(f"cannot write {path}: {error.strerror or error}. {advice}")


def _is_stream(path: Path) -> bool:
    """Return whether a path leads to a device, a pipe or an open file of this process, as /dev/stdout does."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # not there yet, or not to be seen: writing will tell
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _own_descriptor(path) is not None


def _own_descriptor(path: Path) -> Optional[int]:
    """Return N for /dev/fd/N and its other names: opened by such a name, a file is written from its beginning again."""
    name = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(str(path), str(path))
    match = re.match(r"/(?:dev|proc/self)/fd/(\d+)$", name)
    return int(match[1]) if match else None


def _new_file(path: Path, folder: Path) -> Tuple[Path, int]:
    """Make an empty hidden file with the suffix of ``path`` and the permissions of any new file of this user.

    Returns its name, and a descriptor that holds a lock on it for as long as this process lives: a file without one
    was left by a process that was killed. tempfile's files are for their owner alone, and the umask cannot be read
    without setting it for all threads.
    """
    _remove_leftovers(folder)
    while True:
        name = folder / f".{path.stem}-edgedet{secrets.token_hex(4)}{path.suffix}"
        with suppress(FileExistsError):
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            if lock_file(descriptor, True) and os.fstat(descriptor).st_nlink:
                return name, descriptor
            os.close(descriptor)  # another process took it for a leftover before it was locked


_swept: Set[str] = set()  # folders in which this process has looked for leftovers


def _remove_leftovers(folder: Path) -> None:
    if str(folder) in _swept:
        return
    _swept.add(str(folder))
    with suppress(OSError):  # it may not be listed, or another process removes the same files
        for entry in os.scandir(folder):
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                descriptor = os.open(entry.path, os.O_RDONLY)
                try:
                    if lock_file(descriptor, False):
                        os.unlink(entry.path)
                finally:
                    os.close(descriptor)


def lock_file(descriptor: int, without_locks: bool) -> bool:
    """Return whether this process got the lock of a file; closing the last descriptor of the opened file frees it.

    without_locks: what to return on file systems and systems that have none.
    """
    try:
        import fcntl  # on no Windows

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return without_locks
    return True


def sync_to_disk(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that cannot do this
            raise
    finally:
        os.close(handle)


def check_writable(path: Union[str, Path]) -> None:
    """Raise InputError where ``atomic_path`` would, before hours of work are lost; missing folders are made."""
    if os.path.isdir(path):
        raise InputError(f"cannot write {path}: it is a folder. Name a file.")
    with suppress(_NothingToWrite), atomic_path(path):
        raise _NothingToWrite


def check_folder(path: Union[str, Path]) -> None:
    """Raise InputError where no file can be written into a folder, or it cannot be made; makes nothing."""
    there = Path(path)
    try:
        while not there.exists():
            there = there.parent
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise unwritable(path, error) from error


def check_outputs(
    outputs: Mapping[str, Union[str, Path, None]],
    inputs: Iterable[Union[str, Path]],
    may_fail: bool = False,
    folders: Collection[str] = (),
) -> None:
    """Check what a command will write before it does any work.

    outputs: option -> path; None and "-" (stdout) are passed over. Folders may be among both.
    inputs:  what the command reads; what is no file or folder here, such as a camera's address, is passed over.
    may_fail: the user chose to go on without outputs that cannot be written.
    folders: options of outputs that may name a folder; all others name files.
    Raises InputError where an output would replace an input or a file in an input's folder, where two outputs are one
    file, or where a file cannot be written. Devices and pipes may be named twice: nothing is lost in them.
    """
    read = [Path(name) for name in inputs if os.path.exists(name)]
    seen: Dict[str, str] = {}
    for option, name in outputs.items():
        if name is None or str(name) == "-" or _is_stream(Path(name)):
            continue
        real = os.path.realpath(name)
        for source in read:
            inside = source.is_dir() and os.path.isfile(real) and Path(real).parent == Path(os.path.realpath(source))
            if real == os.path.realpath(source) or inside or (os.path.exists(real) and os.path.samefile(real, source)):
                replaced = real if inside else source
                raise InputError(f"{option} {name} would overwrite its own input {replaced}: choose another name.")
        if real in seen:
            raise InputError(
                f"{seen[real]} and {option} name the same file {name}: choose another name for one of them."
            )
        seen[real] = option
        is_folder = os.path.isdir(real) or str(name).endswith(os.sep) or not Path(name).suffix
        if not may_fail:
            (check_folder if is_folder and option in folders else check_writable)(name)


class _NothingToWrite(Exception):
    """Raised inside ``atomic_path``, so that it writes no file."""


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
