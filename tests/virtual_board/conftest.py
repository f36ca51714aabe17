"""One virtual board for all tests here, in the order of their names; what they measure is printed at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import virtual_board
from virtual_board import PI_VENV_FOLDER, SERVICE_VENV, VirtualBoard, build_board

_figures: dict[str, object] = {}


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_by_a_module() -> None:
    """The board runs on from module to module, beside the test run."""


@pytest.fixture(autouse=True)
def _nothing_is_left_by_a_test() -> None:
    """See above."""


@pytest.fixture(scope="session")
def figure():
    """Takes (name, value) of what is measured; EDGEDET_BOARD_FIGURES names a JSON file for them."""

    def note(name: str, value: object) -> None:
        _figures[name] = value
        print(f"{name}: {value}", flush=True)

    return note


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory, figure) -> Iterator[VirtualBoard]:
    """The booted board with the day's wheel in /mnt/payload and in the virtual environments that the image has.

    For work on a test: EDGEDET_BOARD_KEEP=1 leaves it running, and EDGEDET_BOARD_RUNNING=FOLDER takes such a one.
    """
    if os.environ.get("EDGEDET_BOARD_RUNNING"):
        yield VirtualBoard(Path(os.environ["EDGEDET_BOARD_RUNNING"]))
        return
    work = tmp_path_factory.mktemp("board")
    began = time.monotonic()
    board = build_board(work)
    figure("image, s", round(time.monotonic() - began))
    board.script("unplug")  # one that an earlier run has left
    answer = board.must("boot", work / "payload")
    figure("boot, s", round(answer.seconds))
    if board.ask("cmp /mnt/payload/contents ~pi/contents").code:  # the image was made with another one
        began = time.monotonic()
        for folder, user in ((PI_VENV_FOLDER, "pi"), (SERVICE_VENV, "root")):
            board.run(f"{folder}/bin/pip install --force-reinstall --no-deps /mnt/payload/edgedet-*.whl", user, 300)
        figure("the wheel of the day, s", round(time.monotonic() - began))
    try:
        yield board
    finally:
        if os.environ.get("EDGEDET_BOARD_KEEP"):
            print(f"the board runs on: EDGEDET_BOARD_RUNNING={board.folder}", flush=True)
        else:
            board.script("unplug")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    if _figures:
        terminalreporter.section(f"virtual board, {virtual_board.ARCH}")
        for name, value in _figures.items():
            terminalreporter.write_line(f"{name}: {value}")
    if os.environ.get("EDGEDET_BOARD_FIGURES"):
        Path(os.environ["EDGEDET_BOARD_FIGURES"]).write_text(json.dumps(_figures, indent=1) + "\n")
