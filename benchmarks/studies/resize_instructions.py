"""Count the instructions that an ARM core executes to resize a picture into a model's input. Run from a checkout.

    scripts/make_aarch64_env.sh DIR --count
    python -m edgedet.benchmarks.studies.resize_instructions --env DIR

Compared are bilinear alone, which aliases, and ``edgedet.preprocess.shrink`` with three and with four channels. The
emulator executes OpenCV's wheel for aarch64 as a board would; a count is not a time (``instructions``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from edgedet.benchmarks.studies.instructions import CPUS, count_program

ROOT = Path(__file__).resolve().parents[2]
SIZES = (  # height and width of the picture, side of the model
    (1080, 1920, 512),
    (720, 1280, 512),
    (576, 768, 512),
    (480, 640, 512),
    (576, 768, 256),
    (1080, 1920, 256),
    (2160, 3840, 512),
)
WAYS = ("bilinear alone", "shrink, 3 channels", "shrink")
GUEST = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import cv2
import numpy as np
from edgedet.preprocess import fit, shrink
cv2.setNumThreads(1)

def bilinear(bgr, into):
    cv2.resize(bgr, into.shape[1::-1], dst=into, interpolation=cv2.INTER_LINEAR_EXACT)

def three(bgr, into):
    h, w = into.shape[:2]
    while bgr.shape[0] >= 2 * h and bgr.shape[1] >= 2 * w:
        half_wh = bgr.shape[1] // 2, bgr.shape[0] // 2
        if half_wh not in halves:
            halves[half_wh] = np.empty((half_wh[1], half_wh[0], 3), np.uint8)
        bgr = cv2.resize(bgr[: 2 * half_wh[1], : 2 * half_wh[0]], half_wh, dst=halves[half_wh],
                         interpolation=cv2.INTER_AREA)
    bilinear(bgr, into)

os.getppid(), os.getppid()
for height, width, side in json.loads(sys.argv[2]):
    bgr = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
    _, (h, w) = fit((height, width), (side, side))
    made = []
    for way in (bilinear, three, lambda bgr, into: shrink(cv2, bgr, into, buffers)):
        buffers, halves, into = {}, {}, np.zeros((side, side, 3), np.uint8)[:h, :w]
        way(bgr, into)
        os.getppid()
        way(bgr, into)
        os.getppid()
        made.append(into)
    assert (made[1] == made[2]).all()
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True, help="folder of make_aarch64_env.sh DIR --count")
    args = parser.parse_args(argv)
    rows = []
    for cpu in CPUS:
        sections = len(SIZES) * len(WAYS)
        counts = count_program(args.env.resolve(), cpu, GUEST, [str(ROOT), json.dumps(SIZES)], sections)
        for number, (height, width, side) in enumerate(SIZES):
            of_size = counts[number * len(WAYS) : (number + 1) * len(WAYS)]
            line = f"{cpu}  {width:4} x {height:4} into {side}"
            for way, count in zip(WAYS, of_size, strict=True):
                line += f"  {way} {count / 1e6:7.2f} M ({count / of_size[0]:.2f})"
                rows.append({"cpu": cpu, "picture": [height, width], "side": side, "way": way, "instructions": count})
            print(line, flush=True)
    print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
