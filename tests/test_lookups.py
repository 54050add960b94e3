from __future__ import annotations

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from tinynovo.compiling import jit
from tinynovo.cuts import FAR
from tinynovo.lookups import CELL_BITS, cells_up_to, index, nearest


def test_where_nothing_can_be_kept_functions_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("no locator available")

    monkeypatch.setattr(CPUDispatcher, "enable_caching", refuse)

    @jit
    def doubled(number: int) -> int:
        return 2 * number

    assert doubled(21) == 42


def test_the_nearest_peak_is_found_from_everywhere() -> None:
    mz = np.array([[100, 300, 5_000_000, 2_500_000_000], [70, 80, FAR, FAR]])
    starts = np.empty((2, cells_up_to(2_500_000_000)), np.int64)
    index(2, (starts, mz))
    cells = np.arange(starts.shape[1]) << CELL_BITS
    assert starts.tolist() == [np.searchsorted(row, cells).tolist() for row in mz]
    for row, query, place in [
        (0, 0, 0),
        (0, 199, 0),
        (0, 200, 1),  # as near to both: the upper one
        (0, 2_500_151, 2),
        (0, 1_252_500_001, 3),
        (0, FAR, 3),
        (1, 75, 1),
        (1, 3_000_000_000, 1),
    ]:
        assert nearest(mz, starts, row, query) == place, (row, query)
