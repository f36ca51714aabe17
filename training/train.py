"""A training as one call: labelled pictures in, a checkpoint that ``edgedet export`` takes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from edgedet.artifact import ArtifactMeta
from edgedet.errors import InputError
from edgedet.export.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgedet.export.checkpoints.open_weights import WeightsChoice, open_weights
from edgedet.files import make_folder, sha256_of
from edgedet.judge.labels import Dataset, LabelledImage, join_names
from edgedet.progress import Say, count_of, say_nothing
from edgedet.training.augment import Augmentation
from edgedet.training.fit import STATE, FitOptions, FromPixels, Row, fit
from edgedet.training.int8.train_int8 import Int8Training, Int8TrainResult, train_int8
from edgedet.training.preflight import Preflight, check_labels
from edgedet.training.processes import Processes, join_processes, share_norms, wait
from edgedet.training.pseudo import Distillation, label_frames, take_frames
from edgedet.training.records import TensorBoard, draw_curves, draw_validation, show, write_table
from edgedet.training.samples import Pictures, select_labels
from edgedet.training.start import Start, compute_digest, make_starting_network
from edgedet.training.validate import ModuleEngine, validate

BEST, LAST = "best.safetensors", "last.safetensors"
TABLE, CURVES, PICTURES, SHEET = "results.csv", "curves.png", "validation", "labels.jpg"
INT8, FRAMES = "int8", "frames"


@dataclass(frozen=True, eq=False)
class TrainRequest:
    """What is trained on what.

    start:    the weights that it begins with.
    data:     labelled pictures to learn from; val: to judge on.
    classes:  names of the classes to learn; None: all of the data.
    out:      folder to write to.
    device:   "cpu", "cuda", ...; None: a GPU where there is one.
    sync_bn:  let BatchNorms see the pictures of all processes.
    int8:     how the trained network is then trained for INT8; None: not at all.
    distil:   weights of a teacher, which labels the frames of ``unlabelled``.
    """

    start: Start
    data: Dataset
    val: Dataset
    out: Path
    fit: FitOptions
    how: Augmentation = field(default_factory=Augmentation)
    classes: tuple[str, ...] | None = None
    device: str | None = None
    sync_bn: bool = False
    tensorboard: bool = False
    int8: Int8Training | None = None
    distil: str | None = None
    unlabelled: Distillation | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a training gave, as ``--json`` prints it.

    best, last: checkpoints: of the epoch with the highest AP, and of the last epoch; averaged weights.
    history:    the figures of each epoch; of the network as it came where there was none.
    int8:       what training for INT8 gave.
    """

    best: str
    last: str
    best_epoch: int
    best_ap: float | None
    best_sha256: str
    classes: list[str]
    images: int
    history: list[dict[str, Any]]
    int8: Int8TrainResult | None = None


def train(request: TrainRequest, say: Say) -> TrainResult | None:
    """Train a detector; every process of a torchrun calls it. The first one writes files, and returns what it gave.

    say: takes a line for each choice and each epoch.
    Raises InputError or CheckpointError for what cannot be used.
    """
    with join_processes(request.device) as group:
        say = say if group.is_first else say_nothing  # the first process speaks for all
        torch.manual_seed(request.fit.seed)
        names = select_classes(request.data, request.classes)
        if group.is_first:
            check_folder(request.out, request.fit.resume)
        network = make_starting_network(request.start, names, request.fit.seed, say)
        teacher = None if request.distil is None else open_weights(WeightsChoice(request.distil), say)[0]
        make_folder(request.out)
        if group.is_first and not request.fit.resume:
            preflight = check(request)
            for line in preflight.warnings:
                say(f"note: {line}")
            if preflight.problems:
                raise InputError(
                    f"the labels need mending: {'; '.join(preflight.problems)}. --check looks at them alone."
                )
        labelled = select_labels(request.data.images, map_classes(request.data, names))
        if teacher is not None and request.unlabelled is not None:
            if group.is_first:
                take_frames(request.unlabelled, teacher.spec, request.out / FRAMES, say)
            wait(group)
            labelled += label_frames(teacher, request.unlabelled, names, request.out / FRAMES, say)
        if request.sync_bn and group.count > 1:
            share_norms(network)
        spec = network.spec
        pictures = Pictures(labelled, spec, request.how, request.fit.seed)
        keeper = Keeper(request, names, say)
        settings = {"model": spec.name, "size": list(spec.input_hw), "classes": list(names), "images": len(pictures)}
        if teacher is not None:
            settings["teacher"] = teacher.sha256
        say(
            f"{spec.name}, {spec.input_hw[0]}x{spec.input_hw[1]}, {count_of(len(names), 'class', 'es')} "
            f"({join_names(names)}); {count_of(len(pictures), 'image')} to learn from, {len(request.val.images)} to "
            f"judge on, "
            f"{_describe_device(group)}"
        )
        options = replace(request.fit, settings={**settings, **asdict(request.how)} | request.fit.settings)
        if options.epochs:
            fit(FromPixels(network), spec, pictures, options, group, request.out, keeper.judge, keeper.report)
        elif group.is_first:
            row: Row = dict.fromkeys(("rate", "loss", "class_loss", "box_loss", "seconds"))
            keeper.report([{"epoch": 0, **row, **keeper.judge(FromPixels(network), 0)}], 0.0)
        wait(group)
        int8 = None
        if request.int8 is not None:
            checkpoint = load_checkpoint(request.out / BEST)
            class_map = map_classes(request.val, names)
            how, folder = request.int8, request.out / INT8
            make_folder(folder)
            int8 = train_int8(checkpoint, pictures, request.val, class_map, how, group, folder, request.out.name, say)
        return keeper.make_result(len(pictures), int8) if group.is_first else None


def check(request: TrainRequest) -> Preflight:
    """Return what is wrong with the labels, and draw some of the pictures with their boxes to OUT/labels.jpg."""
    names = select_classes(request.data, request.classes)
    return check_labels(request.data, request.val, names, request.out / SHEET)


def check_folder(out: Path, resume: bool) -> None:
    """Raise InputError where there is nothing to go on with, or where a new training would write over another one."""
    state = out / STATE
    if resume and not state.is_file() and not (out / INT8 / STATE).is_file():  # --epochs 0 --int8 has the latter only
        raise InputError(
            f"there is no {state} to go on from: leave --resume out, or name the training's folder by --out."
        )
    there = [path for path in (state, out / BEST) if path.exists()]
    if there and not resume:
        raise InputError(
            f"{there[0]} is there already, of another training: go on with it by --resume, name another --out, or "
            "remove the folder."
        )


def _describe_device(group: Processes) -> str:
    threads = count_of(torch.get_num_threads(), "thread")
    return f"{count_of(group.count, 'process', 'es')}, {threads if group.device.type == 'cpu' else group.device}"


def select_classes(dataset: Dataset, chosen: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the classes to learn, in the data's order or in that of ``chosen``; raises InputError for unknown ones."""
    if chosen is None:
        return dataset.class_names
    known = {name.strip().lower(): name for name in dataset.class_names}
    unknown = [name for name in chosen if name.strip().lower() not in known]
    if unknown or not chosen or len({name.strip().lower() for name in chosen}) < len(chosen):
        raise InputError(
            f"--classes wants different names of the data's classes ({join_names(dataset.class_names, 20)}); got "
            f"{', '.join(chosen)}."
        )
    return tuple(known[name.strip().lower()] for name in chosen)


def map_classes(dataset: Dataset, names: tuple[str, ...]) -> list[int]:
    """Return the model's class id of each class of the data, -1 for those that are not learnt."""
    slots = {name.strip().lower(): slot for slot, name in enumerate(names)}
    return [slots.get(name.strip().lower(), -1) for name in dataset.class_names]


class Keeper:
    """Judges each epoch, keeps the checkpoints and writes the records."""

    def __init__(self, request: TrainRequest, names: tuple[str, ...], say: Say) -> None:
        """``say`` takes a line for each epoch."""
        self._out, self._names, self._say = request.out, names, say
        self._images: tuple[LabelledImage, ...] = request.val.images
        self._class_map = map_classes(request.val, names)
        self._board = TensorBoard(request.out / "tensorboard") if request.tensorboard else None
        self._history: list[Row] = []

    def judge(self, model: torch.nn.Module, epoch: int) -> Row:
        """Return the averaged model's figures, write its checkpoint, and draw what it finds."""
        assert isinstance(model, FromPixels)
        network = model.network
        state = {key: value.detach().cpu() for key, value in network.state_dict().items() if "num_batches" not in key}
        checkpoint = Checkpoint(state, network.spec, self._names, compute_digest(state))
        save_checkpoint(checkpoint, self._out / LAST)
        meta = ArtifactMeta(network.spec, self._names, "fp32", checkpoint.sha256)
        accuracy, detected = validate(ModuleEngine(model), meta, self._images, self._class_map)
        ap = accuracy.figures["AP"]
        if ap is None or ap >= max((float(row["AP"] or 0) for row in self._history), default=0.0):
            save_checkpoint(checkpoint, self._out / BEST)
        draw_validation(detected, self._class_map, self._names, self._out / PICTURES / f"epoch_{epoch:03d}.jpg")
        return {name: accuracy.figures[name] for name in ("AP", "AP50", "AP75")}

    def report(self, history: list[Row], left_s: float) -> None:
        """Write the records of all epochs and print the last one."""
        self._history = history
        row = history[-1]
        write_table(history, self._out / TABLE)
        draw_curves(history, self._out / CURVES)
        if self._board is not None:
            self._board.add(row)
        best = find_best_row(history)
        self._say(
            f"epoch {row['epoch']}: loss {show(row['loss'])}, AP {show(row['AP'])}, AP50 {show(row['AP50'])}; best "
            f"{show(best['AP'])} (epoch {best['epoch']}); {format_time_left(left_s)}"
        )

    def make_result(self, images: int, int8: Int8TrainResult | None) -> TrainResult:
        """Return what the training gave; nothing is written after it."""
        if self._board is not None:
            self._board.close()
        best = find_best_row(self._history)
        path = self._out / BEST
        return TrainResult(
            str(path),
            str(self._out / LAST),
            int(best["epoch"] or 0),
            best["AP"],
            sha256_of(path),
            list(self._names),
            images,
            [dict(row) for row in self._history],
            int8,
        )


def find_best_row(history: list[Row]) -> Row:
    """Return the row with the highest AP, the later one of equal ones."""
    return max(reversed(history), key=lambda row: float(row["AP"] or 0))


def format_time_left(left_s: float) -> str:
    """Return the time left, for people."""
    minutes = round(left_s / 60)
    if minutes < 1:
        return "done" if left_s == 0 else f"{left_s:.0f} s left"
    return f"{minutes} min left" if minutes < 120 else f"{minutes / 60:.1f} h left"
