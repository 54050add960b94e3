"""Compositions: which masses residues can add up to.

Knows a grid of masses. Does not know peptides, spectra, nor how they are searched.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tinynovo.compiling import Ints
from tinynovo.lookups import MASSES, MODIFIES

CELL = 1_000
"""Micro-dalton of a cell of the grid of masses that residues can add up to."""

REACH = 600_000_000
"""Micro-dalton from which on every mass counts as one that they can."""

ROUNDING = 5 * CELL
"""What ten residues, each off by half a cell, can be off together."""


@cache
def compositions() -> Ints:
    """How many cells before each one hold a mass that residues can add up to: int64 [cells + 1]."""
    plain = MASSES[1:][~MODIFIES[1:]].tolist()
    reach = np.zeros(REACH // CELL, np.bool_)
    reach[0] = True
    for width in {round(mass / CELL) for mass in plain} - {0}:
        for _ in range(len(reach) // width):
            reach[width:] |= reach[:-width].copy()
    return np.concatenate([[0], np.cumsum(reach)])
