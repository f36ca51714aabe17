"""Which requests wait for the network, and whose turn is next? Knows no socket."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Deque, List

import numpy as np


@dataclass(frozen=True, eq=False)
class Request:
    """A picture to look at, (H, W, 3) uint8, and what its answer begins with: the client's identity, an empty part.

    arrived_s: ``time.monotonic()`` before which it did not come.
    """

    envelope: List[bytes]
    picture: np.ndarray
    arrived_s: float


class Waiting:
    """Requests that wait, by client. Clients come in turns, however many requests each has sent."""

    def __init__(self) -> None:
        self._by_client: OrderedDict[bytes, Deque[Request]] = OrderedDict()  # whose turn is next comes first

    def __len__(self) -> int:
        """Return how many requests wait."""
        return sum(len(requests) for requests in self._by_client.values())

    def add(self, request: Request) -> None:
        """Put a request behind those of its client, and a client that has none behind the others."""
        self._by_client.setdefault(request.envelope[0], deque()).append(request)

    def take(self, most: int) -> List[Request]:
        """Take out one request of each of up to ``most`` clients."""
        taken: List[Request] = []
        for client in list(self._by_client)[:most]:
            requests = self._by_client.pop(client)
            taken.append(requests.popleft())
            if requests:
                self._by_client[client] = requests
        return taken

    def take_older(self, than_s: float) -> List[Request]:
        """Take out the requests that may have come before ``than_s``."""
        older: List[Request] = []
        for client, requests in list(self._by_client.items()):
            while requests and requests[0].arrived_s < than_s:
                older.append(requests.popleft())
            if not requests:
                del self._by_client[client]
        return older
