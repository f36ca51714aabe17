"""All 47 model names of effdet 0.4.1: 28 are taken for what they are, 19 are refused in one line that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")

from effdet_oracle import import_effdet
from layouts import LAYOUTS, OTHER_DESIGNS

from edgedet.errors import CheckpointError
from edgedet.export.checkpoints.families.recognise import canonical_from_any
from edgedet.export.checkpoints.training import UNTOLD
from edgedet.export.checkpoints.variant import find_hints, find_spec
from edgedet.specs import SPECS

# What stands in the way, by name; a pyramid of another width changes the heads' shapes, too
REASONS = {
    "its heads are full convolutions": (
        *("resdet50", "cspresdet50", "cspresdext50", "cspresdext50pan", "cspdarkdet53", "cspdarkdet53m"),
        *("efficientdet_es", "efficientdet_em"),
    ),
    "its backbone is of another design": ("mixdet_m", "mixdet_l", "mobiledetv3_large"),
    "its backbone and BiFPN and heads are of another design": (
        *("efficientdetv2_dt", "efficientdetv2_ds", "mobiledetv2_110d", "mobiledetv2_120d"),
    ),
    "its BiFPN is of another design": ("efficientdet_q0", "efficientdet_q1", "efficientdet_q2"),
    "its BiFPN and heads are of another design": ("efficientdet_w0",),
}


def spec_from(name, shapes):
    """Return the spec that a file NAME.pth with such tensors gives."""
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items() if not key.endswith("_tracked")}
    converted = canonical_from_any(state)
    path = Path(f"{name}.pth")
    return find_spec(converted.state, converted, None, True, find_hints(path, "0" * 64, ""), UNTOLD, path)[0]


def names_of_the_table():
    """Two of them in each run: each name is compared with every model of the table."""
    fast = ("tf_efficientdet_d0_ap", "efficientdet_d0")
    return [pytest.param(name, marks=[] if name in fast else [pytest.mark.slow]) for name in sorted(SPECS)]


@pytest.mark.parametrize("name", names_of_the_table())
def test_a_name_of_the_table_is_taken_for_itself(name):
    assert spec_from(name, LAYOUTS["effdet"][name.removesuffix("_ap")]).name == name


@pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, names in REASONS.items() for name in names])
def test_another_design_is_refused_with_the_part_that_differs(reason, name):
    with pytest.raises(CheckpointError) as raised:
        spec_from(name, OTHER_DESIGNS[name])
    assert reason in str(raised.value)
    assert "backbones B0-B7 and Lite0-4" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_these_are_all_names_of_effdet():
    known = {*SPECS, *(name for names in REASONS.values() for name in names)}
    assert (len(known), set(OTHER_DESIGNS)) == (47, known - set(SPECS))
    import_effdet()
    from effdet.config.model_config import efficientdet_model_param_dict

    assert known == set(efficientdet_model_param_dict)
