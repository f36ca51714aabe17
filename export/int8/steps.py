"""The steps of an INT8 export and what they cost, from which the time that is left is told."""

from __future__ import annotations

from collections.abc import Sequence

from edgedet.calibration.quantise import CHOOSING, CORRECTING, EQUALISING, JUDGING, OBSERVING, RANKING, ROUNDING
from edgedet.calibration.ranges.frames import FrameSets
from edgedet.calibration.ranges.refine import MOST_FRAMES
from edgedet.export.int8.centre import MOST_FRAMES as CENTRED_FRAMES
from edgedet.export.int8.files import Form
from edgedet.export.int8.gate import RUNS
from edgedet.export.int8.options import Int8Options
from edgedet.judge.gate.perturbation import MOVES_XY
from edgedet.judge.gate.reference import BATCH

# CPU seconds of D0 at 384 x 384 on one thread of a PC. Only their ratios count, and those are much the same for other
# models and sizes. A step that ends sooner is taken out of what is left.
OBSERVE_S, CHOOSE_S, RANK_S, JUDGE_S, CORRECT_S, ROUND_S = 0.2, 7.6, 11.0, 1.7, 3.0, 40.0
FLOAT_S, INT8_S = 0.06, {".onnx": 0.15, ".tflite": 0.04}  # a picture
WRITE_S = 2.0


RUNNING_FLOAT = "running the float model on the pictures to judge on"


def comparing(form: Form) -> str:
    """Return the name of the step in which a placement's boxes are compared."""
    return f"comparing boxes' sizes, {form.placement}"


def selecting(form: Form) -> str:
    """Return the name of the step in which a placement is judged on the select frames."""
    return f"judging on the select frames, {form.placement}"


def gating(form: Form) -> str:
    """Return the name of the step in which a file is judged."""
    return f"judging {form.suffix}"


def costs_of_steps(options: Int8Options, frames: FrameSets, forms: Sequence[Form]) -> dict[str, float]:
    """Return what each step costs, in their order."""
    calibrate, select = len(frames.calibrate), len(frames.select)
    runs_of_float = 1 + len(MOVES_XY)
    images_to_judge = runs_of_float * min(BATCH, len(frames.gate))
    if options.labels is not None:
        images_to_judge = len(options.labels.images)
    costs: dict[str, float] = {RUNNING_FLOAT: FLOAT_S * images_to_judge}
    if options.recovery != "none":
        costs[EQUALISING] = 1.0
    if options.table is None:
        costs.update({OBSERVING: OBSERVE_S * calibrate, CHOOSING: CHOOSE_S})
        if options.observer == "mixed":
            costs.update({RANKING: RANK_S, JUDGING: JUDGE_S * min(MOST_FRAMES, calibrate)})
    if options.recovery != "none":
        costs.update({CORRECTING: CORRECT_S} if options.recovery == "fast" else {ROUNDING: ROUND_S})
    for form in _first_of_placements(forms):
        float_s, int8_s = (FLOAT_S if form is forms[0] else 0.0), INT8_S[_engine(form)]
        if options.recovery != "none":
            costs[comparing(form)] = WRITE_S + min(CENTRED_FRAMES, calibrate) * (int8_s + float_s)
        costs[selecting(form)] = WRITE_S + select * (int8_s + runs_of_float * float_s)
    for form in forms:
        engine = _engine(form)
        runs = min(BATCH, len(frames.gate)) if options.labels is None else len(options.labels.images) * RUNS[engine]
        costs[gating(form)] = 2 * WRITE_S + runs * INT8_S[engine]
    return costs


def _first_of_placements(forms: Sequence[Form]) -> list[Form]:
    placements = [form.placement for form in forms]
    return [form for at, form in enumerate(forms) if form.placement not in placements[:at]]


def _engine(form: Form) -> str:
    return f".{form.suffix.rpartition('.')[2]}"
