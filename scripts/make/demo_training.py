"""Train the demo's weights, and put them into the package in half precision.

python scripts/make/demo_training.py FOLDER

EfficientDet-D0 learns playing cards first, from ../shared/weights, then people in a street, from 53 frames. What was
trained is kept in FOLDER; a second start goes on. Takes some 25 minutes of one core. `make demo-int8` comes after it.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

from edgedet import demo
from edgedet.cli import main
from edgedet.export.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from edgedet.specs import resized
from edgedet.training.fit import STATE
from edgedet.training.train import BEST, LAST

SHARED = Path(__file__).resolve().parents[3] / "shared"
STREET_HELD_OUT = range(4, 58, 12)  # of the frames: they only show how the training goes


def hold_out_cards(folder: Path) -> None:
    """Copy the photographs of cards with their labels to learn/ and, every 19th, to held/."""
    photographs = sorted(p for p in (SHARED / "data/cards/images/train").iterdir() if p.suffix.lower() != ".xml")
    for number, path in enumerate(photographs):
        part = folder / ("held" if number % 19 == 9 else "learn")
        part.mkdir(parents=True, exist_ok=True)
        for file in (path, path.with_suffix(".xml")):
            shutil.copy(file, part)


def hold_out_street(folder: Path) -> None:
    """Write learn.json and held.json with the labels of the street's frames."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = json.loads((SHARED / "data/street/train.json").read_text())
    held = {labels["images"][number]["id"] for number in STREET_HELD_OUT}
    for name, is_held in (("learn", False), ("held", True)):
        images = [image for image in labels["images"] if (image["id"] in held) == is_held]
        boxes = [box for box in labels["annotations"] if (box["image_id"] in held) == is_held]
        (folder / f"{name}.json").write_text(json.dumps({**labels, "images": images, "annotations": boxes}))


def train(out: Path, *options: str) -> None:
    """Train, or go on."""
    resume = ["--resume"] if (out / STATE).is_file() else []
    code = main(["train", *options, "--threads", "1", "--out", str(out), *resume])
    if code:
        sys.exit(code)


folder = Path(sys.argv[1])
hold_out_cards(folder / "cards-pictures")
train(
    folder / "cards",
    *("--weights", str(SHARED / "weights/tf_efficientdet_d0_cards.pth"), "--size", "384x288"),
    *("--data", str(folder / "cards-pictures/learn"), "--val", str(folder / "cards-pictures/held")),
    *("--epochs", "5", "--lr", "2e-4"),
)
hold_out_street(folder / "street-labels")
frames = str(SHARED / "data/street/train")
train(
    folder / "street",
    *("--weights", str(folder / "cards" / BEST), "--size", "384x512"),
    *("--data", str(folder / "street-labels/learn.json"), "--images", frames),
    *("--val", str(folder / "street-labels/held.json"), "--val-images", frames),
    *("--epochs", "24", "--batch", "4", "--lr", "4e-4", "--scale", "0.25", "--colour", "0.6"),
)
checkpoint = load_checkpoint(folder / "street" / LAST)
save_checkpoint(replace(checkpoint, spec=resized(checkpoint.spec, (512, 512))), demo.WEIGHTS, torch.float16)
print(f"wrote {demo.WEIGHTS}: {demo.WEIGHTS.stat().st_size} bytes")
