"""Grids: the evidence of cuts in cells most of which are empty.

Compiled, by numba. Knows how peaks become the evidence of cuts, as `tinynovo.evidence` defines it,
and how it is read off. Does not know candidates, nor weights.

Axes: B spectra, P peaks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynovo.compiling import Floats, Ints, jit
from tinynovo.cuts import MAIN_IONS, NODE_BIN
from tinynovo.lookups import CHARGES, FROM_C, Cells
from tinynovo.masses import PROTON, WATER, udalton

_PROTON, _WATER = udalton(PROTON), udalton(WATER)
_MAIN = len(MAIN_IONS)


@jit
def _set_bits(word: np.signedinteger) -> int:
    """How many bits of a word of 32 are set, all of them added up side by side."""
    word -= (word >> 1) & 0x55555555
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    count: int = ((word * 0x01010101) >> 24) & 0xFF  # type: ignore[assignment]
    return count


@jit
def _rank(cells: Cells, row: int, cell: int) -> int:
    """Where the value of a cell stands, -1 for one that is not marked."""
    word, bit = np.int64(cells.bits[row, cell >> 5]), cell & 31
    if not (word >> bit) & 1:
        return -1
    place: int = cells.before[row, cell >> 5] + _set_bits(word & ((1 << bit) - 1))
    return place


@jit
def value_at(cells: Cells, row: int, cell: int) -> np.float32:
    """The value of a cell, 0 of one that is not marked."""
    place = _rank(cells, row, cell)
    return cells.values[row, place] if place >= 0 else np.float32(0)


@jit
def _beside(cut: int) -> tuple[int, int]:
    """The cell of the grid that a cut lies in, and the one that it is nearest to beside that."""
    cell = cut // NODE_BIN
    return cell, cell + (-1 if cut % NODE_BIN * 2 < NODE_BIN else 1)


def nodes(mz: Ints, intensity: Floats, counts: Ints, residue_mass: Ints) -> Cells:
    """The evidence of every cut on a grid: of peaks [B, P], the first few [B] of which are real."""
    rows, last = mz.shape[0], int(residue_mass.max()) // NODE_BIN + 3
    bits = np.zeros((rows, (last >> 5) + 1), np.uint32)
    values = np.zeros((rows, 2 * _MAIN * mz.shape[1] + 1), np.float32)
    cells = Cells(bits, np.zeros(bits.shape, np.int64), values)
    between = np.zeros(values.shape, np.float32), np.empty((rows, _MAIN, mz.shape[1]), np.int64)
    _fill(rows, (cells, *between, mz, intensity, counts, residue_mass, last))
    return cells


@jit
def _fill(count: int, arrays: tuple[Any, ...]) -> None:
    """Do as `fill` does of so many rows."""
    for row in range(count):
        fill(row, *arrays)


@jit
def fill(
    row: int,
    cells: Cells,
    layers: Floats,
    all_cuts: Ints,
    mz: Ints,
    intensity: Floats,
    counts: Ints,
    residue_mass: Ints,
    last: int,
) -> None:
    """Mark the cells beside which a peak may make a cut, up to the last, and sum up what does.

    ``layers``, zeros of as many as there are values, and ``all_cuts``, int64 [B, 4, P], are for
    between.
    """
    layer, cuts = layers[row], all_cuts[row]
    bits, before, values = cells.bits, cells.before, cells.values
    for ion in range(_MAIN):
        for peak in range(counts[row]):
            neutral = (mz[row, peak] - _PROTON) * CHARGES[ion]
            cut = residue_mass[row] + _WATER - neutral if FROM_C[ion] else neutral
            inside = 0 < cut // NODE_BIN < last
            cuts[ion, peak] = cut if inside else -1
            for cell in _beside(cut):
                if inside and cell:
                    bits[row, cell >> 5] |= np.uint32(1 << (cell & 31))
    marked = 0
    for word in range(bits.shape[1]):
        before[row, word] = marked
        marked += _set_bits(np.int64(bits[row, word]))
    for ion in range(_MAIN):
        share = np.float32(1 if CHARGES[ion] == 1 else 0.5)
        for peak in range(counts[row]):
            for cell in _beside(cuts[ion, peak]):
                if cell > 0:
                    place = _rank(cells, row, cell)
                    layer[place] = max(layer[place], intensity[row, peak] * share)
        for peak in range(counts[row]):
            for cell in _beside(cuts[ion, peak]):
                if cell > 0:
                    place = _rank(cells, row, cell)
                    values[row, place] += layer[place]
                    layer[place] = 0


@jit
def spread(out: Floats, cells: Cells) -> None:
    """Write the values of the first cells to [B, cells]."""
    for row in range(out.shape[0]):
        for cell in range(out.shape[1]):
            out[row, cell] = value_at(cells, row, cell)
