"""The assignment is the one with the largest sum."""

import numpy as np
import pytest

from edgedet.track.assignment import assign

linear_sum_assignment = pytest.importorskip("scipy.optimize").linear_sum_assignment


def test_sum_is_the_largest_as_scipy_finds_it():
    rng = np.random.default_rng(0)
    for shape in [(1, 1), (3, 3), (2, 7), (7, 2), (20, 20), (5, 30)] * 5:
        values = rng.random(shape)
        pairs = assign(values)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(shape)
        rows, columns = linear_sum_assignment(values, maximize=True)
        np.testing.assert_allclose(sum(values[pair] for pair in pairs), values[rows, columns].sum(), atol=1e-9)


def test_best_pair_gives_way_to_the_best_sum():
    assert assign(np.array([[0.9, 0.8], [0.8, 0.1]])) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_assigned_to_nothing(shape):
    assert assign(np.zeros(shape)) == []
