"""``edgedet doctor``: which models can run on this machine, and the commands that install what is missing."""

from __future__ import annotations

import argparse
import textwrap
from typing import Dict, List, TextIO

from ..board.doctor import Report
from ..board.probe import PROBES, Probe
from ..board.this_machine import examine_machine, report_figures
from ..errors import with_own_pip
from ..machine import Machine
from ..schemas import write_figures
from .options import add_json, text_stream

DESCRIPTION = (
    "Say what can run on this machine (Python, OpenCV, engines, INT8), and which command installs what is missing."
)
EXAMPLE = "  edgedet doctor --json doctor.json"
OUTPUTS = ("json",)

LINE = 120
_INDENT = 16
NOTHING_RUNS = 1  # exit code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet doctor``."""
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    """Print the report; return 0 where a model can run, 1 where none can."""
    report = examine_machine()
    print_report(report, text_stream(args.json))
    write_figures("doctor", args.json, report_figures(report))
    return 0 if report.runs else NOTHING_RUNS


def print_report(report: Report, text: TextIO) -> None:
    """Print what prevents models from running, then what is installed, then what is missing but not required."""
    blocking = [finding for finding in report.findings if finding.blocks]
    if report.runs:
        print(f"Models that can run here: {', '.join(report.runs)}", file=text)
    else:
        print("No model can run here yet. Type:", file=text)
    for finding in blocking:
        print(f"  {with_own_pip(finding.fix)}\n      # {finding.what}", file=text)
    print(file=text)
    for name, value in rows(report):
        lines = textwrap.wrap(
            f"{name:<{_INDENT}}{value}",
            LINE,
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        print("\n".join(lines), file=text)
    helpful = [finding for finding in report.findings if not finding.blocks]
    if helpful:
        print("\nNot needed, but missing:", file=text)
    for finding in helpful:
        print(f"  {with_own_pip(finding.fix)}\n      # {finding.what}", file=text)


def rows(report: Report) -> List[List[str]]:
    """Return (name, value) for each line on hardware and packages."""
    machine, python, probes = report.machine, report.python, report.probes
    where = "no virtual environment"
    if python.venv is not None:
        system = "with" if python.sees_system else "without"
        where = f"virtual environment {python.venv}, {system} the system's packages"
    opencv = _state(probes["cv2"])
    if probes["cv2"].works:
        opencv += f", {_yes_no(report.video)}; {probes['cv2'].file}"
    return [
        ["board", machine.board or "unknown"],
        ["CPU", f"{machine.cpu}, {machine.arch}, {machine.cores} cores; {_yes_no(machine.features)}"],
        ["GPU", _gpu(machine)],
        ["python", f"{'.'.join(map(str, python.version))}, {where}"],
        ["numpy", _state(probes["numpy"])],
        ["OpenCV", opencv],
        *([name, _engine(probes[name], report)] for name in PROBES if name not in ("numpy", "cv2")),
    ]


def _engine(package: Probe, report: Report) -> str:
    return _state(package) + (f"; INT8: {report.int8[package.name]}" if package.name in report.int8 else "")


def _gpu(machine: Machine) -> str:
    jetpack = f", Jetson Linux {machine.jetpack}" if machine.jetpack else ""
    return f"{machine.gpu}{jetpack}" if machine.gpu else "none that TensorRT runs on"


def _state(package: Probe) -> str:
    if package.works:
        return package.version or "version unknown"
    return "not installed" if package.state == "missing" else f"{package.state}: {package.reason}"


def _yes_no(values: Dict[str, bool]) -> str:
    return ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in values.items()) or "features unknown"
