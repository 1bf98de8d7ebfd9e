"""Where a worker holds a KV block, and how blocks are listed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

# 64-bit block keys (proto/block_key.py); 0 is none.
BlockKeys = NDArray[np.uint64]


class Tier(IntEnum):
    DEVICE = 0
    HOST = 1
    DISK = 2
    EXPECTED = 3  # on its device soon: a request was routed there
