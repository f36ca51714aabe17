"""The questions of ``edgedet doctor`` put to the machine that this runs on."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict

from .. import __version__
from ..machine import machine_of
from .doctor import PythonFacts, Report, report_of, system_packages
from .probe import PROBES, probe


def examine_machine() -> Report:
    """Return what can run here; every package is tried in a process of its own."""
    return report_of(machine_of(), python_facts(), {name: probe(name) for name in PROBES})


def python_facts() -> PythonFacts:
    """Return what the running interpreter says of itself."""
    version = sys.version_info[:3]
    venv = sys.prefix if sys.prefix != sys.base_prefix else None
    settings = Path(sys.prefix) / "pyvenv.cfg"
    closed = settings.is_file() and "include-system-site-packages = false" in settings.read_text(encoding="utf-8")
    return PythonFacts(version, sys.executable, venv, not closed, system_packages(Path("/"), version))


def report_figures(report: Report) -> Dict[str, Any]:
    """Return the report as ``--json`` prints it."""
    figures = {"edgedet": __version__, "os": platform.platform(), **asdict(report)}
    for found in figures["probes"].values():
        del found["build"]  # 200 lines, of which ``video`` is what matters
    return figures
