"""A SIMULATION of TensorRT's builder and its options: it refuses what the real one refuses, and writes an ONNX file."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

from onnx import helper
from simulated_driver import fault
from simulated_trt_base import PLAN, PROFILES, HostMemory, Native, Surface

PRECISION_FLAGS = ("INT8", "FP16")  # a strongly typed network takes none of them


def make_builder(surface: Surface, layers: SimpleNamespace, networks: SimpleNamespace) -> SimpleNamespace:
    """Return the classes that build a plan of a version's networks, by their names."""
    version, enums, severity = surface.version, surface.enums, surface.severity

    class IBuilderConfig(Native):
        def __init__(self):
            self._flags, self._cache, self._limits, self._sources = {"TF32"}, None, {}, None
            self._monitor, self._effort, self._profiles = None, 3, []

        def add_optimization_profile(self, profile):
            self._profiles.append(profile)
            return len(self._profiles) - 1

        @property
        def progress_monitor(self):
            return self._monitor

        @progress_monitor.setter
        def progress_monitor(self, monitor):
            self._monitor = monitor

        @property
        def builder_optimization_level(self):
            return self._effort

        @builder_optimization_level.setter
        def builder_optimization_level(self, level):
            self._effort = level

        def set_flag(self, flag):
            self._flags.add(flag.name)

        def clear_flag(self, flag):
            self._flags.discard(flag.name)

        def set_memory_pool_limit(self, pool, size):
            self._limits[pool.name] = size

        def set_tactic_sources(self, sources):
            self._sources = sources
            return True

        def create_timing_cache(self, data):
            return ITimingCache(data)

        def set_timing_cache(self, cache, ignore_mismatch):
            if cache._data and not cache._data.startswith(version.encode()):
                return False
            self._cache = cache
            return True

        def get_timing_cache(self):
            return self._cache

    class ITimingCache(Native):
        def __init__(self, data):
            self._data = bytes(data)

        def serialize(self):
            return HostMemory(self._data or version.encode() + b" timings")

    class IOptimizationProfile(Native):
        """Name of an input -> least, best and largest shape."""

        def __init__(self):
            self._shapes = {}

        def set_shape(self, name, least, best, largest):
            if not all(a <= b <= c for a, b, c in zip(least, best, largest, strict=True)):
                raise ValueError("Shape provided for min <= opt <= max is inconsistent")
            self._shapes[name] = [tuple(least), tuple(best), tuple(largest)]

    class Builder(Native):
        def __init__(self, log):
            self._log = log

        def create_network(self, flags):
            kinds = enums.NetworkDefinitionCreationFlag
            typed = "STRONGLY_TYPED" in kinds.__members__ and bool(flags & 1 << int(kinds["STRONGLY_TYPED"]))
            if "EXPLICIT_BATCH" in kinds.__members__ and not typed and version.startswith("8."):
                assert flags & 1 << int(kinds["EXPLICIT_BATCH"]), "8.x parses ONNX into explicit batches only"
            return networks.INetworkDefinition(typed)

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def create_builder_config(self):
            return IBuilderConfig()

        def build_serialized_network(self, network, config):
            flags = config._flags.intersection(PRECISION_FLAGS)
            quantised = [layer for layer in network._layers if layer.type == enums.LayerType.QUANTIZE]
            if network._typed and flags:
                self._log.log(severity.ERROR, f"strongly typed networks take no {' '.join(sorted(flags))} flag")
                return None
            if quantised and not network._typed and "INT8" not in flags:  # also where nothing reads them (#4021)
                reason = "Int8 precision has been set for a layer or layer output, but int8 is not configured"
                self._log.log(severity.ERROR, f"{reason} in the builder")
                return None
            if not quantised and "INT8" in flags:
                self._log.log(severity.ERROR, "Calibration failure occurred with no scaling factors detected")
                return None
            opened = [v.name for v in network._model.graph.input if -1 in layers.ITensor(network, v.name).shape]
            profiles = config._profiles or [IOptimizationProfile()]
            if any(name not in profile._shapes for name in opened for profile in profiles):
                self._log.log(severity.ERROR, "Network has dynamic or shape inputs, but no optimization profile")
                return None
            if fault() == "build":
                self._log.log(severity.ERROR, "Could not find any implementation for node fpn.cell.0")
                return None
            if fault() == "memory":
                self._log.log(severity.ERROR, "[defaultAllocator.cpp] Cuda Runtime (out of memory)")
                self._log.log(severity.ERROR, "[builder.cpp] error code 2")
                return None
            if fault() == "slow":
                time.sleep(3600)
            monitor = config._monitor
            if monitor is not None:
                monitor.phase_start("Building Engine", None, 2)
                monitor.phase_start("Tactics", "Building Engine", 1)
                for step in range(2):
                    assert monitor.step_complete("Building Engine", step)
                monitor.phase_finish("Building Engine")
            model = network._written()
            shapes = [profile._shapes[name] for name in opened for profile in config._profiles]
            helper.set_model_props(model, {PROFILES: json.dumps(shapes)})
            return HostMemory(PLAN + version.encode() + b"\n" + model.SerializeToString())

    return SimpleNamespace(
        IBuilderConfig=IBuilderConfig,
        ITimingCache=ITimingCache,
        IOptimizationProfile=IOptimizationProfile,
        Builder=Builder,
    )
