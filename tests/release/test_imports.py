"""Who may import whom: the contracts work, names in strings obey them, and the walks of the documents are real."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installs import HOST_FOLDERS, ROOT, copy_sources, run

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli", reason="reads pyproject.toml")
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
LAYERS = [re.split(r" [|:] ", layer) for layer in LINTER["contracts"][0]["layers"]]
TABLE = "edgedet.cli"  # names the commands, which nobody else does


def modules() -> dict[str, Path]:
    """Every module of the package by its name, studies too."""
    folders = {"edgedet": "edgedet", **{name: f"edgedet.{name}" for name in HOST_FOLDERS}}
    named = {}
    for folder, package in folders.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder != "edgedet" or parts[0] not in HOST_FOLDERS:
                named[".".join([package, *parts]).removesuffix(".__init__")] = path
    return named


MODULES = modules()


@pytest.fixture(scope="module")
def graph():
    grimp = pytest.importorskip("grimp", reason="of the extra dev")
    return grimp.build_graph("edgedet", cache_dir=None)


def named_in_strings(code: str) -> Iterator[str]:
    """Dotted names under edgedet in strings: whole, where an f-string begins, or imported by code in a string."""
    for node in ast.walk(ast.parse(code)):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str):
            if re.fullmatch(r"edgedet(\.\w+)+\.?", text):
                yield text.rstrip(".")
            yield from re.findall(r"(?:from|import) (edgedet(?:\.\w+)+)", text)


def layer_of(module: str) -> int:
    """The number of a module's layer, from the top."""
    child = module.split(".")[1]
    return next(number for number, layer in enumerate(LAYERS) if child in layer)


def refusal(module: str, name: str) -> str:
    """Why ``module`` may not import ``name``; "" where it may."""
    same = module.split(".")[1] == name.split(".")[1]
    if name.startswith("edgedet.commands") and module != TABLE and not same:
        return "commands are for the table of edgedet.cli"
    if name.startswith("edgedet.benchmarks.studies") and not module.startswith("edgedet.benchmarks.studies"):
        return "studies are never installed"
    if not same and layer_of(name) <= layer_of(module):
        return "it is no layer further down"
    return ""


@pytest.mark.parametrize("module", sorted(name for name in MODULES if "." in name))
def test_modules_named_in_strings_are_those_that_may_be_imported(module: str):
    names = [name for name in named_in_strings(MODULES[module].read_text(encoding="utf-8")) if name in MODULES]
    assert {name: refusal(module, name) for name in names if refusal(module, name)} == {}


def test_names_in_strings_are_seen():
    code = (
        'import_module("edgedet.export.verify"); f"edgedet.engines.{name}"; """Text on edgedet.cli, and more."""; '
        'run("-c", "from edgedet.web.guard import Guard")'
    )
    assert sorted(named_in_strings(code)) == ["edgedet.engines", "edgedet.export.verify", "edgedet.web.guard"]
    assert refusal("edgedet.info.info", "edgedet.export.verify")
    assert refusal("edgedet.board.tune", "edgedet.commands.build")
    assert not refusal("edgedet.cli", "edgedet.commands.build")
    assert "edgedet.commands.run" in list(named_in_strings(MODULES[TABLE].read_text(encoding="utf-8")))


def test_the_linter_sees_each_arrow_that_goes_the_wrong_way(tmp_path: Path):
    pytest.importorskip("importlinter", reason="of the extra dev")
    tree = copy_sources(tmp_path / "tree", links=True)
    arrows = {
        "edgedet/board/tune.py": "edgedet.export.verify",  # device -> host
        "edgedet/files.py": "edgedet.engines.ort",  # core -> room
        "benchmarks/latency/rows.py": "edgedet.commands.eval",  # room -> command
        "calibration/quantise.py": "edgedet.export.verify",  # calibration -> export
        "edgedet/stream/outputs/draw.py": "edgedet.web.guard",  # stream -> web
        "edgedet/commands/eval.py": "edgedet.commands.run",  # command -> command
        "benchmarks/planner/plan.py": "edgedet.benchmarks.studies.int8.ap_spread",
        "edgedet/judge/matching.py": "edgedet.judge.gate.verdict",  # a circle
    }
    for file, module in arrows.items():
        with open(tree / file, "a", encoding="utf-8") as text:
            text.write(f"\n\ndef _late() -> None:\n    import {module}  # noqa: F401\n")
    done = run([str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"], tree)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1, said
    assert "Contracts: 0 kept, 5 broken." in said
    for file, module in arrows.items():
        importer = file.removesuffix(".py").replace("/", ".")
        importer = importer if importer.startswith("edgedet.") else f"edgedet.{importer}"
        if file != "edgedet/judge/matching.py":
            assert f"{importer} -> {module}" in said or f"{importer} → {module}" in said, (importer, module)


def test_no_two_rooms_import_each_other(graph):
    """At any depth, files beside rooms too. A made-up pair is seen."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from print_rooms import count_arrows, find_mutual

    arrows = count_arrows(graph)
    assert arrows["edgedet.export", "edgedet.calibration"] > 10
    assert arrows["edgedet.export.int8", "edgedet.export.tflite"] > 0
    assert find_mutual(arrows) == []
    arrows["edgedet.calibration", "edgedet.export"] = 1
    assert find_mutual(arrows) == [("edgedet.calibration", "edgedet.export")]


# --- the walks of docs/architecture.md ---------------------------------------------------------------------------

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
WALKS = {
    title: re.findall(r"^\d+\. `([\w./]+)`", text, re.MULTILINE)
    for title, text in re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


def test_there_are_three_walks():
    assert {title: len(files) > 7 for title, files in WALKS.items()} == {
        "A frame from camera to screen": True,
        "A checkpoint to an INT8 file": True,
        "One option from the command line to where it acts": True,
    }


@pytest.mark.parametrize("title", WALKS)
def test_a_walk_passes_files_that_exist_each_once_and_imported_by_one_before_it(title: str, graph):
    by_file = {path.relative_to(ROOT).as_posix(): name for name, path in MODULES.items()}
    files = WALKS[title]
    assert set(files) <= set(by_file)
    assert len(set(files)) == len(files)
    reached: set[str] = set()
    for number, file in enumerate(files):
        module = by_file[file]
        assert not number or module in reached, f"{file} is imported by no file before it"
        reached |= graph.find_modules_directly_imported_by(module)
        reached |= set(named_in_strings((ROOT / file).read_text(encoding="utf-8")))


def test_every_room_of_the_page_has_a_place_among_the_layers_and_the_other_way_round():
    rooms = re.findall(r"^\| `edgedet/(\w+)/` \|", PAGE, re.MULTILINE) + re.findall(
        r"^\| `(\w+)/` \|", PAGE, re.MULTILINE
    )
    packages = {path.parent.name for path in (ROOT / "edgedet").glob("*/__init__.py")} - {"demo"}
    assert set(rooms) - {"tests"} == packages
    assert packages <= {name for layer in LAYERS for name in layer}
