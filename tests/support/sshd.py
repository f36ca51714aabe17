"""A real OpenSSH server on loopback, as a machine that `ssh` reaches by its name. Debian: openssh-server."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waiting import wait_until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class SshServer:
    """One running server.

    port:   on loopback. cache: the folder that programs there take for their user's cache.
    """

    port: int
    cache: Path


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def make_key(path: Path) -> Path:
    """Make a key without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@contextmanager
def ssh_server(folder: Path, user_key: Path, environment: dict[str, str] | None = None) -> Iterator[SshServer]:
    """Run a server that lets this user in with ``user_key``; it is off afterwards, with all that it has started."""
    folder.mkdir()
    cache = folder / "cache"
    port = free_port()
    variables = {"XDG_CACHE_HOME": str(cache), **(environment or {})}
    lines = [
        f"ListenAddress 127.0.0.1:{port}",
        f"HostKey {make_key(folder / 'host_key')}",
        f"AuthorizedKeysFile {user_key}.pub",
        f"PidFile {folder / 'pid'}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "SetEnv " + " ".join(f'{name}="{value}"' for name, value in variables.items()),
    ]
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    os.makedirs("/run/sshd", exist_ok=True)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        wait_until(lambda: _listens(port) or server.poll() is not None)
        assert server.poll() is None, (folder / "log").read_text()
        yield SshServer(port, cache)
    finally:
        server.terminate()
        server.wait()


def write_client_config(path: Path, user_key: Path, ports: dict[str, int]) -> Path:
    """Write what `ssh -F` reads, so that each name reaches its port."""
    known = path.with_name("known_hosts")
    lines = []
    for name, port in ports.items():
        lines += [f"Host {name}", "  HostName 127.0.0.1", f"  Port {port}"]
    lines += ["Host *", f"  User {getpass.getuser()}", f"  IdentityFile {user_key}", "  IdentitiesOnly yes"]
    lines += ["  StrictHostKeyChecking accept-new", f"  UserKnownHostsFile {known}", "  LogLevel ERROR"]
    path.write_text("\n".join(lines) + "\n")
    return path


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
