from __future__ import annotations

import numpy as np
import pytest

from kvtransfer.conversion import conversion
from kvtransfer.cut import Cut
from kvtransfer.errors import LayoutUnsupported
from kvtransfer.incoming import Place
from kvtransfer.numpy_cache import NumpyPagedCache
from kvtransfer.wire import WireFormat
from tests.kvtransfer.builders import LAYOUT, layer_bytes


def test_blocks_of_some_heads_are_copied_and_nothing_else() -> None:
    cache = NumpyPagedCache(LAYOUT, 6)
    cache.blocks[:] = np.random.default_rng(0).integers(0, 256, cache.blocks.shape, np.uint8)
    expected = cache.blocks.copy()
    cut = Cut(2, range(1, 2), (5, 0), conversion(LAYOUT, LAYOUT), 0, 2, 8, LAYOUT)
    wire = np.zeros(layer_bytes(8) // 2, np.uint8)
    cache.pack(cut, wire)
    np.testing.assert_array_equal(cache.blocks, expected)
    cache.unpack(Place(0, range(1), (3, 4)), WireFormat.RAW, wire)
    expected[0, [3, 4], 0] = expected[2, [5, 0], 1]
    np.testing.assert_array_equal(cache.blocks, expected)


@pytest.mark.parametrize("wire", [WireFormat.FP8, WireFormat.INT8])
def test_a_cache_of_bytes_knows_no_numbers(wire: WireFormat) -> None:
    cache, slot = NumpyPagedCache(LAYOUT, 2), np.zeros(64, np.uint8)
    with pytest.raises(LayoutUnsupported, match=f"wire format {wire}"):
        cache.unpack(Place(0, range(2), (0,)), wire, slot)
    cut = Cut(0, range(2), (0,), conversion(LAYOUT, LAYOUT), 0, 1, 4, LAYOUT, wire)
    with pytest.raises(LayoutUnsupported, match=f"wire format {wire}"):
        cache.pack(cut, slot)
