"""Make the screenshots of the live page that docs/web.md shows, on the demo.

    python scripts/make/web_screenshots.py

Needs Debian's chromium and chromium-driver, and selenium. Writes docs/web-light.jpg, web-dark.jpg,
web-phone.jpg, web-grid.jpg, web-events.jpg and web-zones.jpg, in some four minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tests/support/streams")]

from browser import chromium, live_page, why_no_browser  # noqa: E402  # of the tests
from cameras import mjpeg_camera  # noqa: E402

from edgedet import demo  # noqa: E402

SHOTS = (
    ("web-light", "", (1440, 1340), False),
    ("web-dark", "", (1440, 1340), True),
    ("web-phone", "", (360, 1240), True),
    ("web-events", "events-page", (1440, 1000), False),
)
GRID_SHOTS = (("web-grid", "", (1440, 1000), False),)
ZONE_SHOTS = (("web-zones", "zones-page", (1440, 900), False),)
CONFIG = """\
model: {model}
threads: 1
cameras:
  street:
    source: {url}
    zones:
      lawn: {{points: [[0.0, 0.5], [0.45, 0.56], [0.9, 1.0], [0.0, 1.0]], objects: [person], dwell_s: 10}}
    lines:
      crossing: {{from: [0.02, 0.39], to: [0.56, 0.44]}}
events: {{folder: {folder}/happened}}
web: {{listen: "127.0.0.1:0"}}
"""
CROPS = {
    "gate": (0.0, 1.0),
    "path": (0.0, 0.6),
    "crossing": (0.4, 1.0),
}  # camera -> from, to: shares of the clip's width
# Each canvas has shown some pictures, and each plot is drawn; or the first pictures of events are there.
IS_FILLED_IN = """
if (document.querySelector("#list li")) {
  document.querySelector("#list input").focus();
  return document.querySelector("#picture image") !== null;
}
const events = [...document.querySelectorAll(".event img")].slice(0, 10);
if (events.length) return events.every((image) => image.complete && image.naturalWidth);
const canvases = [...document.querySelectorAll("#picture, #grid canvas")].filter((canvas) => canvas.clientWidth);
return canvases.length > 0 && canvases.every((canvas) => Number(canvas.dataset.pictures || 0) > 5)
  && document.querySelectorAll("#history .u-legend").length === 3;
"""
CAMERA_FPS = 25.0  # as FFmpeg takes Motion JPEG over HTTP to have, which carries no times
JPEG_QUALITY = 88
WARM_UP_S = 40.0  # until histograms and plots have something to show
LAST_RESORT_S = 600.0

Shots = Sequence[tuple[str, str, tuple[int, int], bool]]  # name, page, size, whether dark


def main(out: Path) -> int:
    """Take the pictures of the demo, and of three cameras that show parts of it."""
    missing = why_no_browser()
    if missing is not None:
        print(f"web_screenshots {missing}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as events:
        take_shots(["--source", str(demo.CLIP), "--loop", "--events", events], SHOTS, out)
    frames = clip_frames()
    with mjpeg_camera(CAMERA_FPS) as camera, tempfile.TemporaryDirectory() as folder:
        camera.picture = lambda n: frames[2 * n % len(frames)]
        config = Path(folder, "edgedet.yaml")
        config.write_text(CONFIG.format(model=demo.INT8, url=camera.url, folder=folder), encoding="utf-8")
        take_shots(["--config", str(config)], ZONE_SHOTS, out)
    with ExitStack() as stack:
        words = ["--allow-repeats"]
        for name, (left, right) in CROPS.items():
            camera = stack.enter_context(mjpeg_camera(CAMERA_FPS))
            width = frames[0].shape[1]
            parts = [frame[:, int(left * width) : int(right * width)] for frame in frames]
            camera.picture = lambda n, parts=parts: parts[2 * n % len(parts)]
            words += ["--camera", f"{name}={camera.url}"]
        take_shots(words, GRID_SHOTS, out)
    return 0


def clip_frames() -> list[np.ndarray]:
    """Return the demo's clip, forwards and backwards, so that it may be repeated without a jump."""
    clip, frames = cv2.VideoCapture(str(demo.CLIP)), []
    while (read := clip.read())[0]:
        frames.append(read[1])
    clip.release()
    return frames + frames[::-1]


def take_shots(source: list[str], shots: Shots, out: Path) -> None:
    """Run the demo's INT8 model on a source and take screenshots of its page."""
    options = [] if "--config" in source else [str(demo.INT8), "--threads", "1", "--web", "127.0.0.1:0"]
    with live_page([*options, *source]) as url:
        time.sleep(WARM_UP_S)
        for name, page, size_wh, dark in shots:
            with chromium(size_wh, dark) as driver:
                driver.get(url + page)
                wait_until_filled_in(driver)
                picture = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
                path = out / f"{name}.jpg"
                cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                print(f"wrote {path}, {path.stat().st_size / 1e3:.0f} kB")


def wait_until_filled_in(driver: Any) -> None:
    """Wait for all that a page is to show; the first event comes minutes later on a busy machine."""
    deadline_s = time.monotonic() + LAST_RESORT_S
    while not driver.execute_script(IS_FILLED_IN):
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{driver.current_url} does not show all after {LAST_RESORT_S:.0f} s")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"))
