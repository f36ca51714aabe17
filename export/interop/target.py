"""What every target is given, how its files are verified, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedet.anchors import anchors_for
from edgedet.artifact import ArtifactMeta
from edgedet.engines.base import open_engine
from edgedet.errors import InputError, UnsupportedError, VerificationError
from edgedet.files import atomic_path
from edgedet.postprocess import MAX_BOXES, NmsRules, postprocess
from edgedet.types import Detections, ModelInput

LOWEST_SCORE = 0.1  # of a box that a target's file gives; its reader may ask for more
LEAST_IOU = 0.99  # of a box in the target's file with edgedet's own
MOST_SCORE_DIFFERENCE = 1e-3

Reader = Callable[[np.ndarray], Detections]  # (1, H, W, 3) uint8 BGR -> boxes in pixels of the model's input


@dataclass(frozen=True)
class ModelFiles:
    """The verified files of one model that targets are made from.

    onnx, tflite: float; None where it was not written.
    int8_onnx, int8_tflite: INT8 that passed the gate, likewise.
    """

    name: str
    onnx: Path
    tflite: Path | None = None
    int8_onnx: Path | None = None
    int8_tflite: Path | None = None

    def onnx_files(self) -> Iterator[tuple[str, Path]]:
        """Yield (end of the name, file) of the ONNX files."""
        yield "", self.onnx
        if self.int8_onnx is not None:
            yield "_int8", self.int8_onnx

    def tflite_files(self) -> Iterator[tuple[str, Path]]:
        """Yield (end of the name, file) of the TFLite files."""
        for end, path in (("", self.tflite), ("_int8", self.int8_tflite)):
            if path is not None:
                yield end, path


@dataclass(frozen=True)
class Request:
    """What a target is asked to write.

    frames: pictures on which its files are compared with edgedet's own.
    """

    files: ModelFiles
    meta: ArtifactMeta
    folder: Path
    frames: Sequence[ModelInput]
    threads: int


@dataclass(frozen=True)
class Agreement:
    """How a file's boxes compare with those of edgedet on the file that it was made from.

    boxes: number of boxes compared, of LOWEST_SCORE and more; the next two are None where there was no box.
    gate:  the accuracy gate's verdict on the file that it was made from; None for a float file.
    """

    file: str
    frames: int
    boxes: int
    least_iou: float | None
    most_score_difference: float | None
    gate: str | None = None

    def line(self) -> str:
        """Return the comparison in words."""
        verdict = "" if self.gate is None else f", made from a file that {self.gate}"
        if self.least_iou is None:
            return f"{self.file}: there is no box in {self.frames} frames, so nothing could be compared{verdict}"
        return (
            f"{self.file}: {self.boxes} boxes in {self.frames} frames, IoU at least {self.least_iou:.4f}, "
            f"scores within {self.most_score_difference:.1e}{verdict}"
        )


def check_rules(rules: NmsRules) -> None:
    """Raise UnsupportedError for rules of post-processing that no operator of other programs follows."""
    if rules.method != "hard":
        raise UnsupportedError(
            f"files for other programs cannot apply this NMS ({rules.words}), because their operators either drop a "
            "box or keep it as it is: leave --original-nms or --for out."
        )


@contextmanager
def verified_file(
    request: Request,
    name: str,
    made_from: Path,
    reader: Callable[[Path], Reader],
    agreements: list[Agreement],
    rows: int = MAX_BOXES,
    clip: str | None = None,
) -> Iterator[Path]:
    """Yield a temporary path; compare what is written there with ``made_from``, and keep it only where it agrees.

    rows, clip: as of ``compare``.
    """
    with atomic_path(request.folder / name) as temporary:
        yield temporary
        agreements.append(compare(reader(temporary), made_from, request, name, rows, clip))


def compare(
    read: Reader, made_from: Path, request: Request, name: str, rows: int = MAX_BOXES, clip: str | None = None
) -> Agreement:
    """Compare a target's boxes with edgedet's, box by box; raises VerificationError where they differ.

    Both are cut to the model's input, not to the picture in it.

    rows: boxes of a picture that the target has room for.
    clip: "nothing" where the target cuts boxes after NMS, as TFLite's operator; None: before, as the file's rules say.
    """
    meta, engine = open_engine(made_from, request.threads)
    anchors_yxyx = anchors_for(meta.spec)
    rules = meta.nms if clip is None else replace(meta.nms, clip=clip)
    boxes, least_iou, most = 0, 1.0, 0.0
    with engine:
        for frame in request.frames:
            actual = read(frame.pixels)
            raw, input_hw = engine.infer(frame.pixels), meta.spec.input_hw
            expected = postprocess(raw, anchors_yxyx, 1.0, input_hw, LOWEST_SCORE, rules, input_hw)
            pairs = _paired(expected[:rows], actual, name, rows)
            boxes += len(pairs)
            least_iou = min([least_iou, *(iou for iou, _ in pairs)])
            most = max([most, *(difference for _, difference in pairs)])
    if least_iou < LEAST_IOU or most > MOST_SCORE_DIFFERENCE:
        raise VerificationError(
            f"{name} does not do what {made_from.name} does: boxes overlap by IoU {least_iou:.4f}, scores differ by "
            f"{most:.1e}; wanted {LEAST_IOU} and {MOST_SCORE_DIFFERENCE:.0e}. The file was not kept."
        )
    gate = meta.report.get("gate", {}).get("verdict")
    if not boxes:
        return Agreement(name, len(request.frames), 0, None, None, gate)
    return Agreement(name, len(request.frames), boxes, least_iou, most, gate)


def _paired(expected: Detections, actual: Detections, name: str, rows: int) -> list[tuple[float, float]]:
    """Return (IoU, difference of scores) of each expected box with the best unused one of its class.

    Raises VerificationError for a box without a partner, but for those whose score is nearly the lowest: LOWEST_SCORE,
    or where all ``rows`` are taken, the last one's, which INT8 boxes often share.
    """
    lowest = max(LOWEST_SCORE, float(expected.scores[-1])) if len(expected) == rows else LOWEST_SCORE
    pairs, used = [], np.zeros(len(actual), dtype=bool)
    for box, score, class_id in zip(expected.boxes_xyxy, expected.scores, expected.class_ids, strict=True):
        ious = np.where(used | (actual.class_ids != class_id), -1.0, _ious(box, actual.boxes_xyxy))
        best = int(np.argmax(ious)) if len(ious) else -1
        if best < 0 or ious[best] <= 0.5:
            if score > lowest + MOST_SCORE_DIFFERENCE:
                raise VerificationError(
                    f"{name} does not detect a box of score {score:.3f} that the model detects. The file was not kept."
                )
            continue
        used[best] = True
        pairs.append((float(ious[best]), float(abs(actual.scores[best] - score))))
    extra = actual.scores[~used]
    if len(extra) and extra.max() > lowest + MOST_SCORE_DIFFERENCE:
        raise VerificationError(
            f"{name} detects a box of score {extra.max():.3f} that the model does not detect. The file was not kept."
        )
    return pairs


def _ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the IoU of a box (4,) with each of (n, 4), float64; 1 for equal boxes, also for those without area."""
    box, boxes = box.astype(np.float64), boxes.astype(np.float64)
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    inter = sides.prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - inter
    same = (np.abs(boxes - box) < 1e-3).all(axis=1)
    return np.where(same, 1.0, np.divide(inter, union, out=np.zeros_like(inter), where=union > 0))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def labels_text(meta: ArtifactMeta) -> str:
    """Return the class names, one a line; raises InputError where a name holds a line break."""
    for name in meta.class_names:
        if len(name.splitlines()) > 1:
            raise InputError(f"the class name {name!r} holds a line break, which no list of labels can: give --names.")
    return "".join(f"{name}\n" for name in meta.class_names)


def fill_text(meta: ArtifactMeta) -> str:
    """Return how a picture goes into the model's input."""
    h, w = meta.spec.input_hw
    return (
        f"scaled to fit {w}x{h} (width x height), at the top left, the rest filled with RGB {list(meta.spec.fill_rgb)}"
    )


WriteModel = Callable[[Request, str, Path, "list[Agreement]"], str]


def write_models(
    request: Request, files: Iterable[tuple[str, Path]], write_model: WriteModel, readme: str
) -> list[Agreement]:
    """Write a model file for each of ``files``, labels.txt and README.md into the target's folder.

    files:     (end of the name, file that it is made from).
    write_model: (request, name, file that it is made from, list that takes the agreement) -> name of the written file.
    readme:    text with the fields name, files, h, w and fit.
    """
    agreements: list[Agreement] = []
    names = [write_model(request, f"model{end}{path.suffix}", path, agreements) for end, path in files]
    h, w = request.meta.spec.input_hw
    write_text(request.folder / "labels.txt", labels_text(request.meta))
    values = {"name": request.files.name, "files": ", ".join(names), "h": h, "w": w, "fit": fill_text(request.meta)}
    write_text(request.folder / "README.md", readme.format(**values))
    return agreements
