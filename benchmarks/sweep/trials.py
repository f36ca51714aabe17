"""Make a sweep's checkpoints by training: one trial for each start and input size, one after the other or in workers.

A trial that has ended is not run again; one that was killed goes on from its last saved state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedet.benchmarks.cluster.shards import ClusterOptions, Lost, ray_session, run_in_shards
from edgedet.benchmarks.models.family_files import hash_code
from edgedet.benchmarks.sweep.cells import describe_path, describe_unexpected
from edgedet.child_process import Child
from edgedet.errors import EdgeDetError, InputError
from edgedet.files import atomic_path
from edgedet.progress import Say, say_nothing
from edgedet.specs import SPECS

FOLDER, ENDED = "train", "trained.json"  # below the sweep's folder; the file of a trial that has ended


@dataclass(frozen=True)
class Training:
    """How checkpoints are trained.

    data, images: labelled pictures to learn from, as `edgedet train` takes them. Every fifth one chooses the epoch; the
                  sweep's own labels judge afterwards, and are not seen by the training.
    """

    data: Path
    images: Path | None = None
    epochs: int = 40
    batch: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One training. start: a checkpoint, "demo", or a variant's name, which begins with its official weights."""

    start: str
    input_hw: tuple[int, int] | None
    classes: tuple[str, ...] | None
    training: Training
    out: Path
    threads: int

    @property
    def name(self) -> str:
        """The name in messages."""
        return self.start if self.input_hw is None else f"{self.start} {self.input_hw[0]}x{self.input_hw[1]}"

    def folder(self) -> Path:
        """Return where it writes to: a hash of everything that its result depends on."""
        training = self.training
        start = describe_path(Path(self.start)) if Path(self.start).is_file() else self.start
        content = {
            "code": [hash_code("training"), hash_code("export")],
            "start": start,
            "input_hw": self.input_hw,
            "classes": self.classes,
            "data": describe_path(training.data),
            "images": None if training.images is None else describe_path(training.images),
            "how": [training.epochs, training.batch, training.seed],
        }
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self.out / FOLDER / key[:16]


@dataclass(frozen=True)
class Trained:
    """What a trial gave: the checkpoint of its best epoch, or why there is none."""

    best: str = ""
    ap: float | None = None
    epoch: int = 0
    failure: str = ""


def check_start(start: str) -> None:
    """Raise InputError for what is neither a file nor a variant."""
    if start != "demo" and start not in SPECS and not Path(start).is_file():
        raise InputError(
            f"there is no checkpoint {start}: name a file, demo, or with --train a model such as tf_efficientdet_lite0."
        )


def run_trials(trials: Sequence[Trial], cluster: ClusterOptions | None, say: Say) -> list[Trained]:
    """Run what has not ended earlier, and return a result for each trial; failures are results, too."""
    results = [_ended(trial) for trial in trials]
    missing = [index for index, result in enumerate(results) if result is None]
    say(f"{len(trials)} trainings, {len(trials) - len(missing)} done earlier")

    def done(index: int, result: Trained | Lost) -> None:
        trained = Trained(failure=result.reason) if isinstance(result, Lost) else result
        results[missing[index]] = trained
        ap = "unknown" if trained.ap is None else f"{trained.ap:.3f}"
        outcome = trained.failure or f"AP {ap} on a fifth of its pictures, after epoch {trained.epoch}"
        say(f"trained {trials[missing[index]].name}: {outcome}")

    to_run = [trials[index] for index in missing]
    if cluster is None:
        for index, trial in enumerate(to_run):
            with Child(_run_in_child, trial) as child:
                try:
                    done(index, child.first())
                except EdgeDetError as error:  # the process was killed
                    done(index, Trained(failure=str(error).rstrip(".")))
    elif to_run:
        with ray_session(cluster) as ray:
            run_in_shards(ray, _run_in_worker, None, to_run, cluster, shard_size=1, title="training", each=done)
    return [result or Trained(failure="not run") for result in results]


def _ended(trial: Trial) -> Trained | None:
    folder = trial.folder()
    try:
        result = Trained(**json.loads((folder / ENDED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return result if Path(result.best).is_file() else None


def _run_in_child(trial: Trial) -> tuple[Trained, None]:
    return run_trial(trial), None


def _run_in_worker(_shared: Any, trials: Sequence[Trial]) -> list[Trained]:
    return [run_trial(trial) for trial in trials]


def run_trial(trial: Trial) -> Trained:
    """Train, and return the checkpoint of the best epoch; errors are results, too."""
    try:
        return _train(trial)
    except EdgeDetError as error:
        return Trained(failure=str(error).rstrip("."))
    except Exception as error:  # as in run_cell
        return Trained(failure=describe_unexpected(error))


def _train(trial: Trial) -> Trained:
    import torch

    from edgedet.judge.labels import read_dataset
    from edgedet.training.fit import STATE, FitOptions
    from edgedet.training.samples import hold_out
    from edgedet.training.start import Start
    from edgedet.training.train import BEST, TrainRequest, train

    torch.set_num_threads(trial.threads)
    training, folder = trial.training, trial.folder().absolute()
    resume = (folder / STATE).is_file() and not (folder / ENDED).is_file()  # else somebody removed its checkpoint
    if not resume:
        for name in (STATE, BEST):
            (folder / name).unlink(missing_ok=True)
    data = read_dataset(training.data, training.images)
    learn, val = hold_out(data)
    is_variant = trial.start in SPECS and not Path(trial.start).is_file()
    result = train(
        TrainRequest(
            Start(
                None if is_variant else trial.start,
                variant=trial.start if is_variant else None,
                input_hw=trial.input_hw,
            ),
            learn,
            val,
            folder,
            FitOptions(training.epochs, training.batch, seed=training.seed, resume=resume),
            classes=trial.classes,
        ),
        say_nothing,
    )
    assert result is not None  # only under torchrun
    trained = Trained(str(folder / Path(result.best).name), result.best_ap, result.best_epoch)
    with atomic_path(folder / ENDED) as temporary:
        temporary.write_text(json.dumps(asdict(trained)), encoding="utf-8")
    return trained
