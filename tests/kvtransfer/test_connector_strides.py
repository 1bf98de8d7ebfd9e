from __future__ import annotations

import numpy as np
import pytest
import torch

from kvtransfer.connector_strides import gather_by

SIZE = 24
DICE = np.random.default_rng(1)


@pytest.mark.parametrize(
    "positions",
    [
        pytest.param(np.arange(SIZE), id="in-order"),
        pytest.param(np.arange(SIZE).reshape(4, 6).T.ravel(), id="transposed"),
        pytest.param(np.arange(SIZE).reshape(3, 2, 4).swapaxes(0, 1).ravel(), id="tiles"),
        pytest.param(np.arange(0, SIZE, 2), id="every-other"),
        pytest.param(DICE.permutation(SIZE), id="without-a-pattern"),
    ],
)
def test_elements_are_taken_in_the_order_asked_for(positions: np.ndarray) -> None:
    memory = torch.from_numpy(DICE.integers(0, 999, (2, 3, SIZE)))
    found = gather_by(positions.astype(np.int64), memory.device)(memory)
    np.testing.assert_array_equal(found.numpy(), memory.numpy()[:, :, positions])


def test_part_of_a_larger_memory_is_left_alone() -> None:
    memory = torch.arange(100).view(2, 50)[:, None, 5:29]
    turned = np.arange(SIZE).reshape(4, 6).T.ravel()
    found = gather_by(turned, memory.device)(memory)
    np.testing.assert_array_equal(found.numpy(), memory.numpy()[:, :, turned])
