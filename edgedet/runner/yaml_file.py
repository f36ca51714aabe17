"""Read a YAML file against a table of what may stand where; each error names the line.

A ``Reader`` turns one node of the file into a value, or raises InputError with "FILE:LINE: where: ...".
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ..errors import InputError, require
from ..files import read_text


@dataclass(frozen=True)
class Node:
    """A node of the file: YAML's own, under which keys it stands, and the node of the last of these."""

    yaml: Any
    path: Path
    where: str = ""
    key: Any = None

    @property
    def line(self) -> int:
        """Return the line of the key, or of a value without one, from 1."""
        return int((self.key or self.yaml).start_mark.line) + 1

    def wrong(self, text: str) -> InputError:
        """Return the error of this node."""
        place = f"{self.where}: " if self.where else ""
        return InputError(f"{self.path}:{self.line}: {place}{text}")

    def shown(self) -> str:
        """Return what stands there, short."""
        kind = {"mapping": "a mapping", "sequence": "a list"}.get(self.yaml.id)
        return kind or (repr(self.yaml.value[:40]) if self.yaml.value else "nothing")

    def at(self, yaml: Any, name: object, key: Any = None) -> Node:
        """Return a node below this one."""
        return Node(yaml, self.path, f"{self.where}.{name}" if self.where else str(name), key)


Reader = Callable[[Node], Any]


def read_yaml(path: Path, reader: Reader) -> Any:
    """Return what ``reader`` makes of a file; raises InputError for no YAML, and MissingDependency without PyYAML."""
    yaml = require("yaml", "--config")
    text = read_text(path, "name a configuration file, as `edgedet config --example` prints one")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise InputError(f"{path}{line}: this is no YAML: {getattr(error, 'problem', None) or error}.") from None
    except RecursionError:
        raise InputError(f"{path}: it is nested too deeply.") from None
    if root is None:
        raise InputError(f"{path} is empty: `edgedet config --example` prints a file to begin with.")
    return reader(Node(root, path))


def scalar(node: Node, expected: str) -> Any:
    """Return the value of a text, number or the like; for anything else raises InputError that names ``expected``."""
    yaml = require("yaml", "--config")
    if node.yaml.id != "scalar":
        raise node.wrong(f"wanted {expected}; got {node.shown()}.")
    try:
        return yaml.SafeLoader("").construct_object(node.yaml)
    except (yaml.YAMLError, ValueError):  # a tag that is not YAML's own; a date such as 2026-13-45
        raise node.wrong(f"wanted {expected}; got {node.shown()}.") from None


def text(node: Node) -> str:
    """Read a text; numbers are taken as they are written."""
    value = scalar(node, "a text")
    if value is None or isinstance(value, bool) or not node.yaml.value.strip():
        raise node.wrong(f"wanted a text; got {node.shown()}.")
    return str(node.yaml.value)


def file_path(node: Node) -> Path:
    """Read the name of a file; it is relative to the working folder, as options are."""
    return Path(text(node)).expanduser()


def number(least: float, most: float = sys.maxsize, above: bool = False) -> Reader:
    """Return a reader of finite numbers from ``least`` (or above it) to ``most``."""

    def read(node: Node) -> float:
        span = f"above {least:g}" if above else f"from {least:g} up" if most == sys.maxsize else ""
        expected = f"a number {span or f'from {least:g} to {most:g}'}"
        value = scalar(node, expected)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise node.wrong(f"wanted {expected}; got {node.shown()}.")
        if not (value > least if above else value >= least) or not value <= most:
            raise node.wrong(f"wanted {expected}; got {value:g}.")
        return value

    return read


def whole(least: int) -> Reader:
    """Return a reader of whole numbers from ``least`` up."""

    def read(node: Node) -> int:
        value = scalar(node, f"a whole number from {least} up")
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise node.wrong(f"wanted a whole number from {least} up; got {node.shown()}.")
        return value

    return read


def is_false(node: Node) -> bool:
    """Return whether "false", "no" or "off" stands there, as YAML has them."""
    return node.yaml.id == "scalar" and scalar(node, "a value") is False


def yes_or_no(node: Node) -> bool:
    """Read true or false."""
    value = scalar(node, "true or false")
    if not isinstance(value, bool):
        raise node.wrong(f"wanted true or false; got {node.shown()}.")
    return value


def one_of(*choices: str) -> Reader:
    """Return a reader of one of some words."""

    def read(node: Node) -> str:
        value = str(scalar(node, " or ".join(choices)))
        if value not in choices:
            raise node.wrong(f"wanted {' or '.join(choices)}; got {node.shown()}.")
        return value

    return read


def converted(reader: Reader, convert: Callable[[Any], Any]) -> Reader:
    """Return a reader that converts what another one read; an InputError gets the line."""

    def read(node: Node) -> Any:
        value = reader(node)
        try:
            return convert(value)
        except InputError as error:
            raise node.wrong(str(error)) from None

    return read


def list_of(reader: Reader, least: int = 0) -> Reader:
    """Return a reader of lists; a single value stands for a list of one."""

    def read(node: Node) -> List[Any]:
        if node.yaml.id == "scalar":
            return [reader(node)]
        if node.yaml.id != "sequence" or len(node.yaml.value) < least:
            raise node.wrong(f"wanted a list of {least} or more; got {node.shown()}.")
        return [reader(node.at(item, index + 1)) for index, item in enumerate(node.yaml.value)]

    return read


def pair_of(reader: Reader) -> Reader:
    """Return a reader of two values in a list."""

    def read(node: Node) -> Tuple[Any, Any]:
        if node.yaml.id != "sequence" or len(node.yaml.value) != 2:
            raise node.wrong(f"wanted two numbers, as [0.5, 0.9]; got {node.shown()}.")
        first, second = (reader(node.at(item, index + 1)) for index, item in enumerate(node.yaml.value))
        return first, second

    return read


def mapping_of(reader: Reader, expected: str) -> Reader:
    """Return a reader of names with a value each; ``expected`` says in errors what they are."""

    def read(node: Node) -> Dict[str, Any]:
        return {key: reader(child) for key, child in _children(node, expected).items()}

    return read


def section(fields: Mapping[str, Reader], required: Sequence[str] = ()) -> Reader:
    """Return a reader of a mapping with known keys; those that do not stand there are not in its result."""

    def read(node: Node) -> Dict[str, Any]:
        children = _children(node, f"a mapping with {', '.join(fields)}")
        for key, child in children.items():
            if key not in fields:
                close = get_close_matches(key, fields, 1)
                advice = f"did you mean {close[0]}?" if close else f"choose from {', '.join(fields)}."
                raise child.wrong(f"there is no such key: {advice}")
        for key in required:
            if key not in children:
                raise node.wrong(f"{key} is missing.")
        return {key: fields[key](child) for key, child in children.items()}

    return read


def _children(node: Node, expected: str) -> Dict[str, Node]:
    if node.yaml.id != "mapping":
        raise node.wrong(f"wanted {expected}; got {node.shown()}.")
    children: Dict[str, Node] = {}
    for key_node, value_node in node.yaml.value:
        if key_node.id != "scalar":
            raise node.at(value_node, "?", key_node).wrong("wanted a name before the colon; got a list or a mapping.")
        child = node.at(value_node, key_node.value, key_node)
        if key_node.value in children:
            raise child.wrong("it stands there twice: remove one of them.")
        children[str(key_node.value)] = child
    return children


def given(values: Mapping[str, Any], **names: str) -> Dict[str, Any]:
    """Return the values that were given, by the names of a dataclass's fields: ``field="key"``."""
    return {field: values[key] for field, key in names.items() if key in values}
