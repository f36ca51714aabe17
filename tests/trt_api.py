"""Which members NVIDIA's TensorRT Python bindings have, version by version: names only, for the simulation.

`python tests/trt_api.py FOLDER` writes golden/trt_api.json again from listings VERSION.json ({class: [members]}, null
for functions), which were read from the real wheels. 8.5 (JetPack 5) has no wheel to read: it is not in the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "trt_api.json"
CLASSES = (  # those that edgedet touches
    "Builder", "BuilderFlag", "DataType", "IBuilderConfig", "IConstantLayer", "IConvolutionLayer", "ICudaEngine",
    "IDequantizeLayer", "IExecutionContext", "IHostMemory", "ILayer", "ILogger", "INetworkDefinition",
    "IProgressMonitor", "IQuantizeLayer", "ITensor", "ITimingCache", "LayerType", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParser", "ParserError", "Runtime", "TacticSource", "TensorIOMode",
    "Weights",
)  # fmt: skip


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
    found = {
        name: frozenset(member for mask, names in masks.items() if mask[at] == "1" for member in names)
        for name, masks in golden["classes"].items()
    }
    return {name: names for name, names in found.items() if names}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(compact(read_listings(Path(sys.argv[1]))), indent=0) + "\n")
