"""Power cuts without qemu: edgedet records on a loop device, whose file is copied at random moments and mounted."""

from __future__ import annotations

import filecmp
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installs import ROOT
from media import write_fake_model
from power_cuts import ARGS, LOST_S, SEGMENT_S, check_disk, mounted
from virtual_board import LONG

pytestmark = pytest.mark.board

CUTS = 50 if LONG else 5
SEED = int(os.environ.get("EDGEDET_BOARD_SEED", "0")) or random.randrange(1 << 30)
# Recording threads step back behind other programs, which on a busy machine is what would be measured.
RUN = (
    "import sys, edgedet.stream.overlap as o; o.NICENESS = 0; from edgedet import cli; sys.exit(cli.main(sys.argv[1:]))"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The file of a small disk, and where it is mounted."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    for command in (["truncate", "-s", "160M", image], ["mkfs.ext4", "-q", "-F", image]):
        subprocess.run([str(part) for part in command], check=True)
    mount = ["mount", "-o", "loop,noatime", str(image), str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine mounts no images: {done.stderr.strip()}")
    yield image, folder
    subprocess.run(["umount", str(folder)], check=True)


def copy_at_one_moment(image: Path, copy: Path) -> float:
    """Copy what is on the disk; return when. Copies that are not the same twice in a row are taken again."""
    again = copy.with_suffix(".again")
    while True:
        cut_s = time.time()
        for target in (copy, again):
            subprocess.run(["cp", "--sparse=always", str(image), str(target)], check=True)
        same = filecmp.cmp(copy, again, shallow=False)
        again.unlink()
        if same:
            return cut_s


def test_power_cuts_cost_a_second_and_break_nothing(disk, tmp_path: Path, figure):
    print(f"EDGEDET_BOARD_SEED={SEED}", flush=True)
    image, root = disk
    work, models = root / "var/lib/private/edgedet", root / "opt/edgedet/v1/models"
    for folder in (work, models, root / "etc"):
        folder.mkdir(parents=True)
    os.symlink("v1", root / "opt/edgedet/current")
    (root / "etc/edgedet.env").write_text(f"EDGEDET_ARGS={ARGS}\nEDGEDET_TOKEN={'a' * 32}\n")
    model = write_fake_model(models / "model.fake")
    os.sync()  # settings were written long before
    clip = ROOT / "edgedet/demo/street.mp4"
    options = ["--threads", "1", "--max-fps", "5", "--jsonl", "found.jsonl", "--events", "events", "--keep", "40MB"]
    options += ["--save", "recordings/", "--segment", str(SEGMENT_S)]
    command = [sys.executable, "-c", RUN, "run", str(model), "--source", str(clip), "--loop", *options]
    began_s = time.time()
    lost = []
    with subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not list((work / "recordings").glob("*.mp4")) and process.poll() is None:
                time.sleep(0.1)
            time.sleep(SEGMENT_S + 2)
            for number in range(CUTS):
                time.sleep(random.Random(SEED + number).uniform(0, SEGMENT_S / 2))
                assert process.poll() is None, "the run has ended"
                copy = tmp_path / f"cut{number}.raw"
                cut_s = copy_at_one_moment(image, copy)
                with mounted(copy) as after:
                    lost.append(check_disk(after, began_s, cut_s))
                copy.unlink()
        finally:
            process.send_signal(signal.SIGTERM)
    for name in ("recording", "lines"):
        values = sorted(one[name] for one in lost)
        seconds = [round(values[len(values) // 2], 2), round(values[-1], 2)]
        figure(f"{CUTS} power cuts on a loop device, {name} lost, s: median, worst", seconds)
    assert max(one["lines"] for one in lost) <= LOST_S
    assert max(one["recording"] for one in lost) <= LOST_S + 4  # 3 s behind, where other programs want the processors
