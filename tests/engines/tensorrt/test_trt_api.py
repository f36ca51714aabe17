"""Every member of `tensorrt` that edgedet names is in NVIDIA's real bindings of each version, or is asked for first."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import trt_api
from simulated_cuda import cuda_runtime
from simulated_tensorrt import Native, module_for
from trt_api import GUARDED, ROOT, USED, lacking


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
    assert set(listings) < set(trt_api.versions())  # those of 8.5 and 8.6.0 were read by scripts/read_tensorrt_api.py
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
    text = (ROOT / "edgedet/engines/tensorrt/cuda.py").read_text()
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
