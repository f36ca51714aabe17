"""End a study in one line where it cannot go on, as edgedet's commands do."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from edgedet.errors import EdgeDetError

Main = Callable[[Sequence[str] | None], int]


def ends_in_one_line(main: Main) -> Callable[..., int]:
    """Let a study's ``main`` print an EdgeDetError as one line on stderr and return its exit code."""

    @functools.wraps(main)
    def main_in_one_line(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except EdgeDetError as error:
            print(f"edgedet: {error}", file=sys.stderr)
            return error.exit_code

    return main_in_one_line
