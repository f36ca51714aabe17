"""Which machines ``--host`` names: addresses as OpenSSH takes them, and names and groups of a hosts.yaml.

ssh_config: ssh.conf            # optional: what `ssh -F` takes, relative to this file, or ~/FILE
hosts:
  nano2:
    address: user@10.0.0.7      # default: the name itself, which ~/.ssh/config may explain
    python: /opt/edgedet/bin/python  # default: ~/edgedet/bin/python (docs/boards.md), else python3
groups:
  desk: [nano2, pi@board1]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.errors import InputError, require
from edgedet.files import read_text

DEFAULT_FILE = Path("hosts.yaml")
HINT = "docs/boards.md shows one"


@dataclass(frozen=True)
class Host:
    """One machine.

    name:       in tables and messages.
    address:    as `ssh` takes it: a name of ~/.ssh/config, HOST, or USER@HOST.
    python:     interpreter there; None for ~/edgedet/bin/python where it exists, else python3.
    ssh_config: file that `ssh -F` reads instead of ~/.ssh/config; None for that one.
    """

    name: str
    address: str
    python: str | None = None
    ssh_config: Path | None = None


def read_hosts(names: Sequence[str], path: Path | None = None) -> list[Host]:
    """Return each machine once, in the order of the names; a group stands for its members.

    path: the hosts.yaml; None for the one in the working directory, if there is one.
    Raises InputError for a file that cannot be used, and for a name that `ssh` would take for an option.
    """
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    known, groups, ssh_config = ({}, {}, None) if path is None else _read_file(path)
    hosts: dict[str, Host] = {}
    for name in names:
        for member in groups.get(name, [name]):
            if not member or member.startswith("-") or any(letter.isspace() for letter in member):
                raise InputError(f"--host wants names of machines, as `ssh` takes them; got {member!r}.")
            hosts[member] = known.get(member) or Host(member, member, ssh_config=ssh_config)
    return list(hosts.values())


def _read_file(path: Path) -> tuple[dict[str, Host], dict[str, list[str]], Path | None]:
    yaml = require("yaml", "reading hosts.yaml")
    try:
        content = yaml.safe_load(read_text(path, HINT)) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}; {HINT}.") from None
    content = _mapping(path, "the file", content, {"ssh_config", "hosts", "groups"})
    ssh_config = content.get("ssh_config")
    if ssh_config is not None:
        ssh_config = path.parent / Path(_text(path, "ssh_config", ssh_config)).expanduser()
    hosts = {}
    for name, entry in _mapping(path, "hosts", content.get("hosts") or {}).items():
        entry = _mapping(path, f"hosts, {name}", entry or {}, {"address", "python"})
        address = _text(path, f"address of {name}", entry.get("address", name))
        python = entry.get("python")
        hosts[name] = Host(
            name, address, None if python is None else _text(path, f"python of {name}", python), ssh_config
        )
        if address.startswith("-"):
            raise InputError(f"{path}: the address of {name} begins with a dash; {HINT}.")
    groups = {}
    for name, members in _mapping(path, "groups", content.get("groups") or {}).items():
        if not isinstance(members, list) or not members:
            raise InputError(f"{path}: group {name} must be a list of machines, as [nano2, pi@board1]; {HINT}.")
        groups[name] = [_text(path, f"a member of group {name}", member) for member in members]
    return hosts, groups, ssh_config


def _mapping(path: Path, place: str, value: Any, keys: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{path}: {place} must have lines of NAME: value; {HINT}.")
    for key in value:
        if keys is not None and key not in keys:
            raise InputError(f"{path}: {place} knows {', '.join(sorted(keys))}, not {key!r}; {HINT}.")
    return value


def _text(path: Path, place: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{path}: {place} must be a text; got {value!r}. {HINT}.")
    return value
