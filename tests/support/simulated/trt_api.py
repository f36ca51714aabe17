"""Which members NVIDIA's TensorRT Python bindings have, version by version: names only, for the simulation.

`python tests/support/simulated/trt_api.py FOLDER` writes golden/trt_api.json again from listings VERSION.json
({class: [members]}, null for functions), which were read from the real wheels (scripts/read_tensorrt_api.py).
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "golden" / "trt_api.json"
CLASSES = (  # those that edgedet touches
    "Builder",
    "BuilderFlag",
    "DataType",
    "IBuilderConfig",
    "IConstantLayer",
    "IConvolutionLayer",
    "ICudaEngine",
    "IDequantizeLayer",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IQuantizeLayer",
    "ITensor",
    "ITimingCache",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "TacticSource",
    "TensorIOMode",
    "Weights",
)


def compact(listings: dict[str, dict[str, list[str] | None]]) -> dict:
    """Return {"versions": [...], "classes": {class: {"10110": [members of versions 0, 2 and 3]}}}."""
    versions = sorted(listings, key=lambda version: [int(part) for part in version.split(".")])
    classes: dict[str, dict[str, list[str]]] = {}
    for name in CLASSES:
        there = {version: set(listings[version].get(name) or ()) for version in versions}
        for member in sorted(set().union(*there.values())):
            mask = "".join("1" if member in there[version] else "0" for version in versions)
            classes.setdefault(name, {}).setdefault(mask, []).append(member)
    return {"versions": versions, "classes": classes}


def read_listings(folder: Path) -> dict[str, dict[str, list[str] | None]]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def versions() -> list[str]:
    return list(json.loads(GOLDEN.read_text())["versions"])


def members(version: str) -> dict[str, frozenset[str]]:
    """Return class -> names of its members; a class that the version lacks is not there."""
    golden = json.loads(GOLDEN.read_text())
    at = golden["versions"].index(version)
    classes = {
        name: frozenset(member for mask, names in masks.items() if mask[at] == "1" for member in names)
        for name, masks in golden["classes"].items()
    }
    return {name: names for name, names in classes.items() if names}


ROOT = Path(__file__).resolve().parents[3]

CUDA_ONLY = ("cuda.py", "cuda_graph.py")

FILES = [path for path in sorted(ROOT.glob("edgedet/engines/tensorrt/*.py")) if path.name not in CUDA_ONLY]

FILES += [
    ROOT / "edgedet/board/tune.py",
    ROOT / "edgedet/board/recipes.py",
    ROOT / "edgedet/board/engine_reference.py",
    ROOT / "edgedet/board/build.py",
]

# what edgedet calls the objects of a class, in every file
VARIABLES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "layer": "ILayer",
    "quantiser": "ILayer",
    "dequantiser": "ILayer",
    "tensor": "ITensor",
    "constant": "ILayer",
    "constant_layer": "IConstantLayer",
    "conv": "IConvolutionLayer",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "weight_dequantiser": "IDequantizeLayer",
    "new": "IConvolutionLayer",
    "old": "IConvolutionLayer",
    "like": "IConvolutionLayer",
    "data": "ITensor",
    "weight_quantiser": "IQuantizeLayer",
    "pointwise": "IConvolutionLayer",
    "depthwise": "IConvolutionLayer",
}

# members of other objects of those names: edgedet's own, and argparse's
OURS = {
    "infer",
    "close",
    "constant",
    "find_producer",
    "producers",
    "layers",
    "add_argument",
    "add_mutually_exclusive_group",
}

# members that some versions lack -> what the code does there
GUARDED = {
    "BuilderFlag.INT8": "takes_typed_only() and a typed network come first",
    "BuilderFlag.FP16": "likewise",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "only for typed files, which choose_file() refuses in 8.x",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "hasattr",
    "IBuilderConfig.progress_monitor": "hasattr(trt, 'IProgressMonitor')",
    "IProgressMonitor": "hasattr",
    "IBuilderConfig.builder_optimization_level": "hasattr",
    "INetworkDefinition.add_cast": "convert_to_half() only, for networks that TensorRT 11 types by itself",
}


def named_members(path: Path) -> set[str]:
    """Class.member, or Class alone, of all that a file takes from ``trt`` and from objects named as in VARIABLES."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        of = node.value
        if isinstance(of, ast.Name) and of.id == "trt":
            names.add(node.attr)
        elif isinstance(of, ast.Attribute) and isinstance(of.value, ast.Name) and of.value.id == "trt":
            names.add(f"{of.attr}.{node.attr}")
        else:
            name = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
            if name in VARIABLES and node.attr not in OURS:
                names.add(f"{VARIABLES[name]}.{node.attr}")
    return {name for name in names if "__" not in name}


def lacking(member: str) -> list[str]:
    """Versions without it."""
    kind, _, name = member.partition(".")
    surfaces = {version: members(version) for version in versions()}
    return [v for v, classes in surfaces.items() if kind not in classes or (name and name not in classes[kind])]


USED = sorted(set().union(*map(named_members, FILES)))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(compact(read_listings(Path(sys.argv[1]))), indent=0) + "\n")
