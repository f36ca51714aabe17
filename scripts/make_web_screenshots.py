"""Make the screenshots of the live page that docs/web.md shows, on the demo.

    python scripts/make_web_screenshots.py

Needs Debian's chromium and chromium-driver, and selenium. Writes docs/web-light.jpg, docs/web-dark.jpg and
docs/web-phone.jpg.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support/streams"))

from browser import chromium, why_no_browser  # noqa: E402  # of the tests

from edgedet import demo  # noqa: E402

SHOTS = (("web-light", (1440, 1200), False), ("web-dark", (1440, 1200), True), ("web-phone", (360, 1240), True))
JPEG_QUALITY = 88
WARM_UP_S = 12.0  # until there are enough frames for the histograms


def main(out: Path) -> int:
    """Run the demo and take the three screenshots."""
    missing = why_no_browser()
    if missing is not None:
        print(f"make_web_screenshots {missing}", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "edgedet", "run", str(demo.INT8), "--source", str(demo.CLIP), "--loop"]
    run = subprocess.Popen(
        [*command, "--threads", "1", "--web", "127.0.0.1:0"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stderr is not None
        url = next(match[0] for line in run.stderr if (match := re.search(r"http://\S+", line)))
        time.sleep(WARM_UP_S)
        for name, size_wh, dark in SHOTS:
            with chromium(size_wh, dark) as driver:
                driver.get(url)
                time.sleep(3.0)
                picture = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
                path = out / f"{name}.jpg"
                cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                print(f"wrote {path}, {path.stat().st_size / 1e3:.0f} kB")
    finally:
        run.terminate()
        run.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"))
