"""Every member of `tensorrt` that edgedet names is in NVIDIA's real bindings of each version, or is asked for first.

8.5 (JetPack 5) is unproven: there is no wheel to read its members from.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
import trt_api
from simulated_cuda import cuda_runtime
from simulated_tensorrt import Native, module_for

ROOT = Path(__file__).resolve().parents[1]
CUDA_ONLY = ("trt_cuda.py", "trt_graph.py")
FILES = [path for path in sorted(ROOT.glob("edgedet/engines/trt*.py")) if path.name not in CUDA_ONLY]
FILES += sorted(ROOT.glob("edgedet/build*.py"))
# what edgedet calls the objects of a class, in every file
VARIABLES = {
    "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig",
    "cache": "ITimingCache", "layer": "ILayer", "quantiser": "ILayer", "dequantiser": "ILayer", "tensor": "ITensor",
    "constant": "ILayer", "constant_layer": "IConstantLayer", "conv": "IConvolutionLayer", "runtime": "Runtime",
    "engine": "ICudaEngine", "context": "IExecutionContext", "of_weights": "IDequantizeLayer",
    "integer_conv": "IConvolutionLayer",
}  # fmt: skip
# members of other objects of those names: edgedet's own, and argparse's
OURS = {"infer", "close", "constant", "maker_of", "maker", "layers", "add_argument", "add_mutually_exclusive_group"}
# members that some versions lack -> what the code does there
GUARDED = {
    "BuilderFlag.INT8": "typed_only() and a typed network come first",
    "BuilderFlag.FP16": "likewise",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "only for typed files, which file_for() refuses in 8.x",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "hasattr",
    "IBuilderConfig.progress_monitor": "hasattr(trt, 'IProgressMonitor')",
    "IProgressMonitor": "hasattr",
}


def named_members(path: Path) -> set[str]:
    """Class.member, or Class alone, of all that a file takes from ``trt`` and from objects named as in VARIABLES."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        of = node.value
        if isinstance(of, ast.Name) and of.id == "trt":
            found.add(node.attr)
        elif isinstance(of, ast.Attribute) and isinstance(of.value, ast.Name) and of.value.id == "trt":
            found.add(f"{of.attr}.{node.attr}")
        else:
            name = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
            if name in VARIABLES and node.attr not in OURS:
                found.add(f"{VARIABLES[name]}.{node.attr}")
    return {name for name in found if "__" not in name}


def lacking(member: str) -> list[str]:
    """Versions without it."""
    kind, _, name = member.partition(".")
    surfaces = {version: trt_api.members(version) for version in trt_api.versions()}
    return [v for v, classes in surfaces.items() if kind not in classes or (name and name not in classes[kind])]


USED = sorted(set().union(*map(named_members, FILES)))


def test_the_members_are_found_in_the_code():
    assert {"IExecutionContext.execute_async_v3", "Builder.build_serialized_network", "ILayer.set_input"} <= set(USED)
    assert len(USED) > 40


@pytest.mark.parametrize("member", USED)
def test_each_member_exists_in_every_version_or_its_absence_is_planned_for(member: str):
    versions = lacking(member)
    assert len(versions) < len(trt_api.versions()), f"no version has {member}"
    assert not versions or member in GUARDED, f"{member} is not in {versions}"


def test_what_is_planned_for_is_needed():
    assert {member for member in GUARDED if not lacking(member)} == set()


@pytest.mark.parametrize("member", ["IExecutionContext.execute_async_v2", "IBuilderConfig.max_workspace_size"])
def test_the_check_sees_a_call_that_a_version_lacks(member: str):
    assert lacking(member) == ["10.0.1", "10.3.0", "10.13.3.9", "11.4.0.106"]


def test_the_golden_listing_is_that_of_the_real_wheels(shared_dir: Path):
    listings = trt_api.read_listings(shared_dir / "reference" / "trt_api")
    for version, listing in listings.items():
        wanted = {name: frozenset(listing[name]) for name in trt_api.CLASSES if listing.get(name)}
        assert trt_api.members(version) == wanted


@pytest.mark.parametrize("version", trt_api.versions())
def test_the_simulation_has_no_member_that_the_version_lacks(version: str):
    module, surface = module_for(version), trt_api.members(version)
    for name, kind in vars(module).items():
        if name.startswith("_"):
            continue
        assert name in surface
        if isinstance(kind, type) and issubclass(kind, Native):
            public = {member for member in vars(kind) if not member.startswith("_")}
            assert public <= surface[name]


def test_cuda_python_has_every_function_that_is_called():
    """The wheel imports without a driver."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")
    text = (ROOT / "edgedet/engines/trt_cuda.py").read_text()
    names = set(re.findall(r"\bcuda[A-Z]\w+", text))
    assert {"cudaMemcpyAsync", "cudaHostAllocMapped", "cudaMemcpyHostToDevice"} <= names
    missing = {name for name in names if not hasattr(runtime, name) and not hasattr(runtime.cudaMemcpyKind, name)}
    assert missing == set()
    simulated = vars(cuda_runtime())
    assert {name for name in simulated if name.startswith("cuda")} <= set(dir(runtime))


def test_nothing_can_be_set_that_a_version_lacks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIMULATED_FAULT", "")
    config = module_for("10.3.0").Builder(None).create_builder_config()
    with pytest.raises(AttributeError, match="max_workspace_size"):
        config.max_workspace_size = 1 << 20
    assert os.environ["SIMULATED_FAULT"] == ""
