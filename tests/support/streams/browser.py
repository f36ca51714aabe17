"""A headless Chromium for the live page, driven by selenium; skips where there is none."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from installs import ROOT

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def why_no_browser() -> str | None:
    """Return what is missing, None for nothing."""
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if shutil.which(program) is None:
            return f"needs {program} (Debian: apt-get install {package})"
    try:
        import selenium.webdriver  # noqa: F401
    except ImportError:
        return "needs selenium (pip install selenium)"
    return None


_MISSING = why_no_browser()
needs_browser = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))


@contextlib.contextmanager
def live_page(options: Sequence[str]) -> Iterator[str]:
    """Yield the address of the page of a real `edgedet run` with these options; the run is ended afterwards."""
    run = subprocess.Popen(
        [sys.executable, "-m", "edgedet", "run", *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stderr is not None
        yield next(match[0] for line in run.stderr if (match := re.search(r"http://\S+", line)))
    finally:
        run.terminate()
        run.wait()


@contextlib.contextmanager
def chromium(size_wh: tuple[int, int] = (1440, 900), dark: bool = False) -> Iterator[Any]:
    """Yield a driver whose page has ``size_wh`` CSS pixels; its processes and its profile are gone afterwards."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            metrics = {"width": size_wh[0], "height": size_wh[1], "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            yield driver
        finally:
            driver.quit()
