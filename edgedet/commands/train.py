"""``edgedet train``: train a detector, and print where its checkpoint is and how good it is."""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ..engines.base import check_threads
from ..errors import InputError, require
from ..judge.labels import read_dataset
from ..progress import count_of
from ..schemas import write_figures
from .options import add_json, add_threads, check_at_least, text_stream

if TYPE_CHECKING:
    from ..training.train import TrainRequest

DESCRIPTION = "Train a detector on labelled pictures of your own; the checkpoint goes into `edgedet export`."
EXAMPLE = """  edgedet train --phi 0 --data train.json --val val.json --weights my.pth --epochs 40
  edgedet train --phi 0 --data photos/ --size 384 --backbone tf_efficientnet_b0.pth
  edgedet train --variant tf_efficientdet_lite0 --transfer d0.safetensors --data photos/
  torchrun --nproc-per-node 2 -m edgedet train --phi 0 --data train.json --val val.json --weights my.pth"""
INPUTS = ("weights", "names", "backbone", "transfer", "data", "val", "distill", "unlabelled")
OUTPUTS = ("json",)
WRITES_INTO = ("out",)
PACKAGES = ("torch", "safetensors", "cv2", "pycocotools", "tqdm", "matplotlib")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet train``."""
    data = parser.add_argument_group("pictures")
    data.add_argument("--data", type=Path, metavar="X", help="labels: COCO JSON, or folder of Pascal VOC or YOLO")
    data.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images of --data (default: the format's usual one)"
    )
    data.add_argument("--val", type=Path, metavar="X", help="labels to validate on (default: a fifth of --data)")
    data.add_argument("--val-images", type=Path, metavar="DIR", help="folder of the images of --val")
    data.add_argument("--classes", metavar="A,B", help="learn these classes only (default: all of the data)")
    data.add_argument("--check", action="store_true", help="look at labels and pictures only, and say what is wrong")

    start = parser.add_argument_group("what to start from (default: official weights of --phi or --variant)")
    start.add_argument("--phi", type=int, metavar="N", help="size of the model, 0 to 8")
    start.add_argument("--variant", metavar="NAME", help="the model's name instead, for example tf_efficientdet_lite0")
    start.add_argument("--weights", metavar="FILE", help="detector, or 'demo'; classes of other names are learnt anew")
    start.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="class names of --weights or --transfer, one a line (default: STEM.names, STEM.json)",
    )
    start.add_argument("--backbone", metavar="FILE", help="ImageNet weights of the backbone, or 'scratch': random ones")
    start.add_argument("--transfer", metavar="FILE", help="detector of another model, or 'demo': what fits is taken")
    start.add_argument("--size", metavar="HxW", help="input size in pixels, e.g. 384x640 (default: the model's own)")

    how = parser.add_argument_group("how to train")
    how.add_argument("--epochs", type=int, default=40, metavar="N", help="times through the pictures (default: 40)")
    how.add_argument(
        "--batch", type=int, default=8, metavar="N", help="pictures of a step, in each process (default: 8)"
    )
    how.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw", help="optimiser (default: adamw)")
    how.add_argument(
        "--lr", type=float, metavar="R", help="learning rate (default, for 8 pictures a step: 5e-4; sgd: 8e-3)"
    )
    how.add_argument(
        "--clip",
        type=float,
        default=10.0,
        metavar="N",
        help="scale gradients down to this norm; 0: never (default: 10)",
    )
    how.add_argument(
        "--freeze", metavar="A,B", help="parts that are not trained: backbone, norms (statistics of BatchNorms)"
    )
    how.add_argument("--amp", action="store_true", help="compute in half precision where it is safe")
    how.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the pictures' order and augmentation (default: 0)"
    )
    how.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    how.add_argument("--sync-bn", action="store_true", help="BatchNorm over the pictures of all processes")
    how.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read pictures (default: 0)")
    how.add_argument("--resume", action="store_true", help="go on with the training in --out")

    more = parser.add_argument_group("frames without labels, which a bigger model labels")
    more.add_argument("--distill", metavar="FILE", help="weights of the bigger model, the teacher")
    more.add_argument("--unlabelled", metavar="SRC", help="video, folder of images or camera of the scene")
    more.add_argument("--frames", type=int, default=300, metavar="N", help="frames to take from it (default: 300)")

    int8 = parser.add_argument_group("INT8: after the epochs (0: of the weights as they are), train while rounding")
    int8.add_argument("--int8", choices=("tflite", "tensorrt"), help="which files are written, to DIR/int8")
    int8.add_argument(
        "--int8-epochs", type=int, default=4, metavar="N", help="epochs of the training for INT8 (default: 4)"
    )
    int8.add_argument(
        "--int8-lr", type=float, metavar="R", help="share of a weight that a step changes (default: 2e-4)"
    )
    int8.add_argument(
        "--teacher", type=float, default=1.0, metavar="W", help="weight of the float network (default: 1)"
    )
    int8.add_argument("--force", action="store_true", help="keep INT8 files that lost too much")

    look = parser.add_argument_group("how pictures are changed; 0 turns each off")
    look.add_argument(
        "--flip", type=float, default=0.5, metavar="P", help="mirror with this probability (default: 0.5)"
    )
    look.add_argument(
        "--scale",
        type=float,
        default=0.4,
        metavar="S",
        help="make pictures larger or smaller by up to this share (default: 0.4)",
    )
    look.add_argument("--colour", type=float, default=1.0, metavar="S", help="strength of colour changes (default: 1)")
    look.add_argument(
        "--mosaic",
        type=float,
        default=0.0,
        metavar="P",
        help="show four pictures in one with this probability (default: 0)",
    )

    parser.add_argument(
        "--out",
        type=Path,
        default=Path("edgedet-train"),
        metavar="DIR",
        help="folder to write to (default: %(default)s)",
    )
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's logs, to DIR/tensorboard")
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and print where the checkpoint is and how good it is."""
    request = _request(args)
    text = text_stream(args.json)
    from ..training.records import show
    from ..training.train import check, train

    if args.check:
        preflight = check(request)
        for line in [*preflight.problems, *(f"note: {line}" for line in preflight.warnings)]:
            print(line, file=text)
        problems = count_of(len(preflight.problems), "problem")
        print(f"{problems}; {args.out / 'labels.jpg'} shows pictures with their boxes", file=text)
        write_figures("train", args.json, asdict(preflight))
        return 1 if preflight.problems else 0
    result = train(request, _print_line)
    if result is None:  # another process of torchrun's prints
        return 0
    print(
        f"wrote {result.best}: AP {show(result.best_ap)} on the validation images (epoch {result.best_epoch})",
        file=text,
    )
    if result.int8 is None:
        print(f"next: edgedet export --weights {result.best} --int8 --calib YOUR_SCENE", file=text)
    else:
        kept = ", ".join(str(file["path"]) for file in result.int8.files if file["kept"])
        print(
            f"wrote {kept}: AP float {show(result.int8.ap_float)}, calibrated only "
            f"{show(result.int8.ap_ptq)}, trained {show(result.int8.ap_qat)}; it is the "
            f"{result.int8.network} network",
            file=text,
        )
    write_figures("train", args.json, asdict(result))
    return 0


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _request(args: argparse.Namespace) -> TrainRequest:
    """Check the options before anything is computed; raises InputError or MissingDependency."""
    if args.data is None:
        raise InputError("nothing to learn from: name --data FILE.json (COCO) or --data FOLDER (VOC, YOLO).")
    if args.weights is None and args.phi is None and args.variant is None and not args.check:
        raise InputError(
            "edgedet train must know which model to train: name --phi N or --variant NAME, and --weights FILE where "
            "you have a checkpoint."
        )
    starts = [name for name in ("weights", "backbone", "transfer") if getattr(args, name) is not None]
    if len(starts) > 1:
        raise InputError(f"a training starts from one of --{' and --'.join(starts)}: leave the others out.")
    if args.names is not None and starts not in (["weights"], ["transfer"]):
        raise InputError("--names are those of --weights FILE or --transfer FILE: name it, or leave --names out.")
    if (args.distill is None) != (args.unlabelled is None):
        raise InputError("--distill FILE (the teacher) and --unlabelled SRC (what it labels) go together.")
    if args.freeze is not None and "backbone" in args.freeze and (args.transfer or args.backbone == "scratch"):
        raise InputError(
            "--freeze backbone keeps a backbone that has learnt: leave it out with --transfer and --backbone scratch, "
            "whose backbones still have to."
        )
    if args.val_images is not None and args.val is None:
        raise InputError("--val-images is the folder of the images of --val: name --val FILE, too.")
    for option, word in (("weights", "demo"), ("backbone", "scratch"), ("transfer", "demo"), ("distill", "demo")):
        value = getattr(args, option)
        if value not in (None, word) and not os.path.exists(value):
            raise InputError(f"--{option} {value}: there is no such file.")
    for option in ("batch", "threads", "frames", "int8_epochs"):
        check_at_least(f"--{option.replace('_', '-')}", getattr(args, option), 1)
    check_at_least("--lr", args.lr, 0)
    check_at_least("--int8-lr", args.int8_lr, 0)
    for option in ("epochs", "teacher", "flip", "scale", "colour", "mosaic", "clip", "workers", "seed"):
        _check_share(option, getattr(args, option), 1.0 if option in ("flip", "mosaic") else None)
    if args.seed >= 2**63:
        raise InputError(f"--seed wants a number below 2**63; got {args.seed}.")
    if args.scale >= 1:
        raise InputError(f"--scale is a share below 1, such as 0.4 for 0.6 to 1.4 times the size; got {args.scale}.")
    check_threads(args.threads)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    for module in PACKAGES:
        require(module, "edgedet train", "pip install 'edgedet[train]'")
    import torch

    torch.set_num_threads(args.threads)
    require("cv2", "edgedet train").setNumThreads(args.threads)
    from ..export.checkpoints.checkpoint import parse_size
    from ..training.augment import Augmentation
    from ..training.fit import FROZEN, FitOptions
    from ..training.int8.train_int8 import Int8Training
    from ..training.pseudo import Distillation
    from ..training.samples import hold_out
    from ..training.start import Start
    from ..training.train import TrainRequest

    frozen = _names(args.freeze)
    if unknown := [name for name in frozen if name not in FROZEN]:
        raise InputError(f"--freeze takes {' and '.join(FROZEN)}; got {unknown[0]!r}.")
    data = read_dataset(args.data, args.images)
    val = None if args.val is None else read_dataset(args.val, args.val_images)
    if val is None:
        data, val = hold_out(data)
        if os.environ.get("RANK", "0") == "0":
            _print_line(f"no --val: every fifth image of {args.data} judges and is not learnt from")
    plain = Augmentation()
    fit = FitOptions(
        args.epochs,
        args.batch,
        args.optimizer,
        args.lr,
        args.clip,
        args.amp,
        frozen,
        args.seed,
        args.workers,
        args.resume,
    )
    int8 = None
    if args.int8 is not None:
        rounds = replace(fit, epochs=args.int8_epochs, optimiser="adamw", rate=args.int8_lr, amp=False, frozen=())
        int8 = Int8Training(args.int8, rounds, args.teacher, args.force)
    return TrainRequest(
        Start(
            args.weights,
            args.backbone,
            args.transfer,
            args.phi,
            args.variant,
            parse_size(args.size) if args.size else None,
            args.names,
        ),
        data,
        val,
        args.out,
        fit,
        Augmentation(
            args.flip,
            (1 - args.scale, 1 + args.scale),
            args.colour * plain.brightness,
            args.colour * plain.contrast,
            args.colour * plain.saturation,
            args.colour * plain.balance,
            args.mosaic,
        ),
        _classes(args.classes),
        args.device,
        args.sync_bn,
        args.tensorboard,
        int8,
        args.distill,
        None if args.unlabelled is None else Distillation(args.unlabelled, args.frames),
    )


def _names(text: Optional[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _classes(text: Optional[str]) -> Optional[tuple[str, ...]]:
    if text is not None and not _names(text):
        raise InputError(f"--classes wants names with commas between, such as car,person; got {text!r}.")
    return _names(text) or None


def _check_share(option: str, value: float, most: Optional[float]) -> None:
    if not 0 <= value < math.inf or (most is not None and value > most):
        raise InputError(f"--{option} wants a number from 0{'' if most is None else f' to {most:g}'}; got {value}.")
