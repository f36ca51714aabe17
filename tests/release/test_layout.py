"""The rules between the two halves: who may import whom, and which Python each is written for."""

from __future__ import annotations

import ast
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST_FOLDERS = ("export", "calibration", "benchmarks", "training")
BENCH_ROOMS = ("latency", "models", "profile")
DEVICE_FILES = sorted(
    path for path in (ROOT / "edgedet").rglob("*.py") if path.relative_to(ROOT).parts[1] not in HOST_FOLDERS
)
HOST_FILES = sorted(path for folder in HOST_FOLDERS for path in (ROOT / folder).rglob("*.py"))
# `edgedet bench` runs on boards, too.
BENCH_FILES = [
    path for path in HOST_FILES if path.relative_to(ROOT).parts[:2] in [("benchmarks", room) for room in BENCH_ROOMS]
]
# Commands are imported by the table of edgedet.cli only, so they may import what a board does not have.
COMMAND_FILES = sorted((ROOT / "edgedet/commands").glob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(body: list[ast.stmt], everywhere: bool) -> Iterator[str]:
    """Absolute module names that are imported; outside functions and TYPE_CHECKING blocks unless ``everywhere``."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not everywhere:
            continue
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not everywhere:
            yield from imports(node.orelse, everywhere)
        else:
            for field in ("body", "orelse", "finalbody"):
                yield from imports(getattr(node, field, []), everywhere)
            for handler in getattr(node, "handlers", []):
                yield from imports(handler.body, everywhere)


def all_imports(path: Path, everywhere: bool) -> set[str]:
    return set(imports(ast.parse(path.read_text()).body, everywhere))


def takers_of_namespaces(code: str) -> set[str]:
    """Functions with a parameter that is declared as ``argparse.Namespace``."""
    return {
        node.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.annotation is not None and "Namespace" in ast.unparse(argument.annotation)
    }


@pytest.mark.parametrize("path", [*DEVICE_FILES, *HOST_FILES], ids=named)
def test_what_was_typed_goes_no_further_than_the_command_that_reads_it(path: Path):
    """Libraries get typed options; ``run_options`` and ``export_options`` are second files of a command."""
    code = path.read_text()
    if '__name__ == "__main__"' in code or "studies" in path.parts:
        return
    takers = {name for name in takers_of_namespaces(code) if not name.startswith("_")}
    assert takers <= ({"run", "run_options", "export_options"} if path in COMMAND_FILES else set())


MOST_MODULES = 15
MORE_MODULES = ("edgedet", "edgedet/commands", "tests/core")  # docs/architecture.md says why


def test_folders_hold_few_modules():
    tests = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    modules = [path for path in (*DEVICE_FILES, *HOST_FILES, *tests) if path.name != "__init__.py"]
    counts = Counter(named(path.parent) for path in modules)
    assert {folder for folder, count in counts.items() if count > MOST_MODULES} == set(MORE_MODULES)


def test_a_namespace_that_is_handed_on_is_seen():
    assert takers_of_namespaces("def f(a, *, args: argparse.Namespace): ...\ndef g(args): ...") == {"f"}


def test_both_halves_were_found():
    assert "edgedet/cli.py" in map(named, DEVICE_FILES)
    assert "export/__init__.py" in map(named, HOST_FILES)


@pytest.mark.parametrize("name", HOST_FOLDERS)
def test_host_folders_are_linked_into_the_package(name: str):
    """For type checkers and runs from the checkout; see docs/decisions/0001-layout.md."""
    assert os.readlink(ROOT / "edgedet" / name) == f"../{name}"


@pytest.mark.parametrize("path", [*DEVICE_FILES, *BENCH_FILES], ids=named)
def test_device_code_parses_as_python_3_8(path: Path):
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", DEVICE_FILES, ids=named)
def test_device_modules_import_the_standard_library_numpy_and_each_other(path: Path):
    roots = {name.split(".")[0] for name in all_imports(path, everywhere=False) if not name.startswith(".")}
    assert roots <= sys.stdlib_module_names | {"numpy", "edgedet"}


@pytest.mark.parametrize("path", DEVICE_FILES, ids=named)
def test_device_code_names_no_host_module_in_an_import(path: Path):
    """The command table of edgedet.cli reaches the host half, by name and lazily; commands alone import it."""
    names = {name for name in all_imports(path, everywhere=True) if set(name.split(".")) & set(HOST_FOLDERS)}
    assert path in COMMAND_FILES or names == set()


@pytest.mark.parametrize("path", HOST_FILES, ids=named)
def test_host_modules_are_imported_under_edgedet_only(path: Path):
    """``import export.x`` would make a second copy of a module."""
    roots = {name.split(".")[0] for name in all_imports(path, everywhere=True)}
    assert roots.isdisjoint(HOST_FOLDERS)


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=named)
def test_tests_import_host_modules_under_edgedet_only(path: Path):
    roots = {name.split(".")[0] for name in all_imports(path, everywhere=True)}
    assert roots.isdisjoint(HOST_FOLDERS)


def test_the_import_rules_see_through_blocks():
    """A heavy import inside try, if or a class counts as at module level; one in a function does not."""
    code = "try:\n import a\nexcept E:\n import b\nif x:\n import c\nclass K:\n import d\ndef f():\n import e\n"
    body = ast.parse(code + "if TYPE_CHECKING:\n import g\n").body
    assert set(imports(body, everywhere=False)) == {"a", "b", "c", "d"}
    assert set(imports(body, everywhere=True)) == {"a", "b", "c", "d", "e", "g"}
