"""Tensor names, weights and outputs of other code bases, as scripts/make/layout_fixtures.py kept them."""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts" / "make"))
import layout_fixtures as fixtures

LAYOUTS = json.loads(lzma.decompress((ROOT / "tests/golden/layouts.json.xz").read_bytes()))
OTHER_DESIGNS = json.loads(lzma.decompress((ROOT / "tests/golden/other_designs.json.xz").read_bytes()))
OUTPUTS = json.loads((ROOT / "tests/golden/layout_outputs.json").read_text(encoding="utf-8"))


def source_arrays(family: str, variant: str, classes: int, gain: float) -> dict:
    """The weights with which the code base itself was run."""
    arrays = {}
    for name, shape in LAYOUTS[family][variant].items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = [9 * classes if size == 9 * 90 else size for size in shape]
        array = fixtures.seeded_array(name, tuple(shape), gain)
        arrays[name] = array if family == "automl" else torch.from_numpy(array)
    return arrays
