"""Faults of accessibility of a page in a browser, by axe-core; skips where it is not there.

`make axe` gets axe-core from npm, for tests only: it is neither committed nor installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(sys.prefix) / "axe.min.js"


def why_no_axe() -> str | None:
    """Return what is missing, None for nothing."""
    return None if SCRIPT.is_file() else f"needs {SCRIPT}: axe-core of npm (make axe)"


needs_axe = pytest.mark.skipif(why_no_axe() is not None, reason=str(why_no_axe()))


def faults_of(driver: Any) -> list[str]:
    """Return a line for each rule that the page breaks, with the places: axe-core's rules but experimental ones."""
    driver.execute_script(SCRIPT.read_text(encoding="utf-8"))
    broken = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run().then(({ violations, passes }) => done([violations, passes.length]))"
    )
    rules, passed = broken
    assert passed > 10, "axe-core checked hardly anything"
    return [f"{rule['id']}: {'; '.join(' '.join(node['target']) for node in rule['nodes'])}" for rule in rules]
