"""effdet's network as litert-torch wrote it, behind the interface of our engines.

scripts/convert_with_litert_torch.py makes such files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedet.artifact import ArtifactMeta
from edgedet.benchmarks.profile.tflite_profile import open_interpreter
from edgedet.engines.base import Engine
from edgedet.errors import InputError
from edgedet.types import RawOutputs


class LitertEngine(Engine):
    """effdet's network as another converter wrote it, behind the interface of our engines."""

    def __init__(self, path: Path, meta: ArtifactMeta, threads: int = 1) -> None:
        """``meta``: of our file, which is of the same network. Raises InputError where inputs or outputs differ."""
        self._interpreter = open_interpreter(path.read_bytes(), threads)
        (runner,) = [self._interpreter.get_signature_runner(key) for key in self._interpreter.get_signature_list()]
        outputs = sorted(runner.get_output_details().items(), key=lambda item: int(item[0].rpartition("_")[2]))
        (self._input,) = runner.get_input_details().values()
        self._outputs = [details for _, details in outputs]
        sizes, anchors, self._classes = meta.spec.level_sizes(), meta.spec.anchors_per_cell, meta.spec.num_classes
        expected = [(1, *size, anchors * width) for width in (self._classes, 4) for size in sizes]
        shapes = [tuple(details["shape"].tolist()) for details in self._outputs]
        if shapes != expected or tuple(self._input["shape"].tolist()) != (1, *meta.spec.input_hw, 3):
            raise InputError(
                f"{path} takes {self._input['shape']} and gives {shapes}; expected are the outputs {expected}."
            )
        scale, zero = self._input["quantization"] if self._input["dtype"] == np.int8 else (1.0, 0)
        real = (np.arange(256)[:, None] / 255.0 - np.array(meta.spec.mean_rgb)) / np.array(meta.spec.std_rgb)
        if self._input["dtype"] == np.int8:
            real = np.clip(np.rint(real / scale) + zero, -128, 127)
        self._table = real.astype(self._input["dtype"])  # (256, 3) RGB: what each byte becomes

    def infer(self, pixels: np.ndarray) -> RawOutputs:
        """Run (1, H, W, 3) uint8 BGR pixels."""
        prepared = self._interpreter.tensor(self._input["index"])()
        for channel in range(3):
            np.take(self._table[:, channel], pixels[..., 2 - channel], out=prepared[..., channel])
        del prepared
        self._interpreter.invoke()
        levels = [self._real(details) for details in self._outputs]
        half = len(levels) // 2
        return RawOutputs(
            np.concatenate([level.reshape(-1, self._classes) for level in levels[:half]]),
            np.concatenate([level.reshape(-1, 4) for level in levels[half:]]),
        )

    def close(self) -> None:
        """Free the interpreter."""
        del self._interpreter

    def _real(self, details: dict[str, Any]) -> np.ndarray:
        values = self._interpreter.get_tensor(details["index"]).astype(np.float32)
        scale, zero = details["quantization"]
        return values if details["dtype"] == np.float32 else (values - np.float32(zero)) * np.float32(scale)
