"""Measure how long the live page takes to load: a table of docs/web.md.

    python scripts/measure/page_load.py [--loads 9]

A real `edgedet run --loop --web` on the demo, and a headless Chromium (Debian's chromium and chromium-driver, and
selenium) that loads the page again and again, without a cache: directly, and as over a slow line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tests/support/streams")]

from browser import chromium, live_page, why_no_browser  # noqa: E402  # of the tests
from waiting import wait_until  # noqa: E402

from edgedet import demo  # noqa: E402

LINES = {"this machine": None, "10 Mbit/s, 20 ms": (10e6 / 8, 20), "1 Mbit/s, 100 ms": (1e6 / 8, 100)}  # bytes/s, ms
# Waits for the first picture, and says when it was drawn and what was loaded by then; times from the request on.
LOADED = """
const canvas = document.getElementById("picture");
if (!canvas || !Number(canvas.dataset.pictures || 0)) return null;
window.pictureAt = window.pictureAt || performance.now();
const [page] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint")[0];
const files = performance.getEntriesByType("resource").filter((file) => /\\.(js|css|svg|json)/.test(file.name));
if (!page.loadEventEnd || !paint) return null;
return {
  first_paint_ms: paint.startTime,
  load_ms: page.loadEventEnd,
  picture_ms: window.pictureAt,
  files: files.length + 1,
  kilobytes: (files.reduce((sum, file) => sum + file.transferSize, 0) + page.transferSize) / 1e3,
};
"""


def measure(driver: Any, url: str, loads: int) -> dict[str, float]:
    """Return the median of each figure."""
    figures = []
    for _ in range(loads):
        driver.get("about:blank")
        driver.get(url)
        wait_until(lambda: driver.execute_script(LOADED), "no picture came")
        figures.append(driver.execute_script(LOADED))
    return {name: statistics.median(load[name] for load in figures) for name in figures[0]}


def main() -> int:
    """Print a row for each line, then all as JSON."""
    parser = argparse.ArgumentParser(description="How long the live page takes to load.")
    parser.add_argument("--loads", type=int, default=9, help="of which the median counts (default: %(default)s)")
    args = parser.parse_args()
    missing = why_no_browser()
    if missing is not None:
        print(f"page_load {missing}", file=sys.stderr)
        return 2
    options = [str(demo.INT8), "--source", str(demo.CLIP), "--loop", "--threads", "1", "--web", "127.0.0.1:0"]
    with live_page(options) as url:
        print("line                first paint ms  load ms  first picture ms  files   kB")
        table = {}
        with chromium() as driver:
            driver.execute_cdp_cmd("Network.enable", {})
            for name, line in LINES.items():
                speed, latency_ms = line or (-1, 0)
                conditions = {"offline": False, "latency": latency_ms, "downloadThroughput": speed}
                driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**conditions, "uploadThroughput": speed})
                row = table[name] = measure(driver, url, args.loads)
                print(
                    f"{name:18} {row['first_paint_ms']:15.0f} {row['load_ms']:8.0f} {row['picture_ms']:17.0f} "
                    f"{row['files']:6.0f} {row['kilobytes']:4.0f}",
                    flush=True,
                )
    print(json.dumps({"load_1min": os.getloadavg()[0], "loads": args.loads, **table}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
