"""The assignment of rows to columns with the largest sum, as the Hungarian method finds it."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np


def assign(values: np.ndarray) -> List[Tuple[int, int]]:
    """Return (row, column) pairs, each row and column at most once, whose values (R, C) have the largest sum.

    Every row has a pair, or every column where there are fewer of them. The method is the shortest augmenting path of
    Jonker and Volgenant (1987) with the potentials of Kuhn and Munkres, as in R. Burkard, Assignment Problems, 4.4;
    O(R^2 C). scipy has the same, and is too large for a board.
    """
    if values.shape[0] > values.shape[1]:
        return sorted((row, column) for column, row in assign(values.T))
    rows, columns = values.shape
    costs = np.max(values, initial=0.0) - values.astype(np.float64)
    row_of = np.full(columns + 1, -1)  # of each column; the last one is the path's begin
    row_potential, column_potential = np.zeros(rows), np.zeros(columns + 1)
    for row in range(rows):
        row_of[columns] = row
        shortest = np.full(columns, np.inf)
        came_from = np.full(columns, columns)
        visited = np.zeros(columns + 1, bool)
        at = columns
        while row_of[at] >= 0:
            visited[at] = True
            from_row = row_of[at]
            free = ~visited[:columns]
            reduced = costs[from_row] - row_potential[from_row] - column_potential[:columns]
            shorter = free & (reduced < shortest)
            shortest[shorter], came_from[shorter] = reduced[shorter], at
            nearest = int(np.argmin(np.where(free, shortest, np.inf)))
            step = shortest[nearest]
            row_potential[row_of[visited]] += step
            column_potential[visited] -= step
            shortest[free] -= step
            at = nearest
        while at != columns:  # turn the path's pairs round
            row_of[at] = row_of[came_from[at]]
            at = came_from[at]
    return sorted((int(row), column) for column, row in enumerate(row_of[:columns]) if row >= 0)
