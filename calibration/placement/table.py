"""The calibration table: a range for every tensor, and the frames that gave it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgedet.errors import InputError
from edgedet.files import atomic_path, parse_json

FORMAT = 2


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges that quantisation uses.

    ranges:        tensor -> (low, high) to be covered by an asymmetric INT8 tensor.
    magnitudes:    tensor -> m, where a symmetric INT8 tensor shall cover [-m, m].
    observed:      tensor -> (minimum, maximum) that the frames caused.
    frames_sha256: of the calibration frames' model pixels, in order.
    model_sha256:  of the checkpoint.
    """

    ranges: Mapping[str, tuple[float, float]]
    magnitudes: Mapping[str, float]
    observed: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    frames_sha256: tuple[str, ...] = ()
    model_sha256: str = ""

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> CalibrationTable:
        """Read ``save``'s file; raises InputError where it is none."""
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise InputError(f"{path} is a calibration table of another edgedet: calibrate again.")
            pairs = {
                key: {name: (float(low), float(high)) for name, (low, high) in values[key].items()}
                for key in ("ranges", "observed")
            }
            magnitudes = {name: float(value) for name, value in values["magnitudes"].items()}
            return CalibrationTable(
                pairs["ranges"],
                magnitudes,
                pairs["observed"],
                tuple(values["frames_sha256"]),
                str(values["model_sha256"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is no calibration table of edgedet ({error}): calibrate again.") from None
