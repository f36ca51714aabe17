"""Collect the facts of ``edgedet doctor`` on the machine that runs this program."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict

from .. import __version__
from ..machine import read_machine
from .doctor import PythonFacts, Report, diagnose, list_system_packages
from .probe import PROBES, probe


def examine_machine() -> Report:
    """Return what can run on this machine; every package is tried in a process of its own."""
    return diagnose(read_machine(), describe_python(), {name: probe(name) for name in PROBES})


def describe_python() -> PythonFacts:
    """Return the version, place and virtual environment of the interpreter that runs this program."""
    version = sys.version_info[:3]
    venv = sys.prefix if sys.prefix != sys.base_prefix else None
    settings = Path(sys.prefix) / "pyvenv.cfg"
    closed = settings.is_file() and "include-system-site-packages = false" in settings.read_text(encoding="utf-8")
    return PythonFacts(version, sys.executable, venv, not closed, list_system_packages(Path("/"), version))


def report_figures(report: Report) -> Dict[str, Any]:
    """Return the report as ``--json`` prints it."""
    figures = {"edgedet": __version__, "os": platform.platform(), **asdict(report)}
    for facts in figures["probes"].values():
        del facts["build"]  # 200 lines, which ``video`` sums up
    return figures
