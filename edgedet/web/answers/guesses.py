"""Slow down whoever guesses tokens: wrong ones are counted by address, and after some, each answer takes longer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Tuple

FREE = 4  # wrong tokens of an address that are answered at once: a person who mistypes
WAIT_S = 1.0  # for each answer after them; an address has few connections, so it has few guesses a second
FORGET_S = 60.0  # without a wrong token
_MOST_ADDRESSES = 1000  # an attacker with more of them is forgotten now and then, and gains FREE guesses each time


class Guesses:
    """Wrong tokens of each address."""

    def __init__(self) -> None:
        """Begin with none."""
        self._wrong: OrderedDict[str, Tuple[int, float]] = OrderedDict()  # address -> (how many, when the last)

    def note(self, address: str, now_s: float) -> Tuple[float, str]:
        """Count a wrong token; return (seconds that its answer is to take, a line to report or "")."""
        count, last_s = self._wrong.pop(address, (0, now_s))
        count = 1 if now_s - last_s > FORGET_S else count + 1
        self._wrong[address] = (count, now_s)
        if len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        reported = count > FREE and not count & (count - 1)  # the 8th, 16th, 32nd, ...
        line = f"web: {count} wrong tokens from {address}; answering it slowly" if reported else ""
        return (WAIT_S if count > FREE else 0.0), line
