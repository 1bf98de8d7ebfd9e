"""How often Python looks for garbage in cycles.

Nearly all that a request makes is freed at once, by counts of references. With Python's own
settings a gateway with 3,000 open streams spent a fifth of its time on looking for cycles, and
stopped for up to 0.7 s when it looked at everything. So that is rare here. The youngest are looked
at in small portions: one of 20,000 objects takes several milliseconds.
"""

from __future__ import annotations

import gc

# Of the youngest, after so many more were made than freed; of the next, after so many times that.
MORE_MADE, TIMES, TIMES_AGAIN = 2_000, 50, 40


def settle() -> None:
    """Once all is imported and made that stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MORE_MADE, TIMES, TIMES_AGAIN)
