"""Look-ups: spectra made ready for the kernels, and peaks found in them.

Compiled for the CPU, by numba. Knows the arithmetic of `tinynovo.evidence`, which defines it: tests
hold the two against each other. Does not know candidates, nor weights.

Axes: B spectra, P peaks, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tinynovo.cuts import FAR, MAIN_IONS, NODE_BIN
from tinynovo.masses import PROTON, WATER, residue_table, udalton

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bits = NDArray[np.bool_]

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Compile a function, which then lets other threads run.

    What was compiled is kept beside the package or with the user, for the next run; where neither
    can be written to, nothing is kept.
    """
    compiling = njit(nogil=True, fastmath=True, error_model="numpy")
    compiled = compiling(function)
    with suppress(RuntimeError):
        compiled.enable_caching()
    return cast(F, compiled)


def part(function: F) -> F:
    """Compile a function into those that call it: passing many arrays costs more than it does."""
    return cast(F, njit(inline="always", fastmath=True, error_model="numpy")(function))


MASSES = np.array([0, *(row.total for row in residue_table().values())])
"""Of all tokens, micro-dalton, int64 [V]."""

PLAIN = MASSES[1:20].copy()
"""Of the residues without modification."""

MODIFIES = np.array([False, *(row.n_terminal for row in residue_table().values())])
"""Which tokens stand before the residues: bool [V]."""

_PROTON, _WATER = udalton(PROTON), udalton(WATER)
_CHARGES = np.array([charge for _, charge, _ in MAIN_IONS])
_FROM_C = np.array([series == "y" for series, _, _ in MAIN_IONS])
_CELL_BITS = 21
"""A cell of the index of peaks is 2^21 micro-Th wide."""

_HIT_BITS = 16
"""A cell of the map of hits is 2^16 micro-Th wide."""


class Ground(NamedTuple):
    """Spectra made ready: arrays of a `tinynovo.evidence.PeakTable`, and an index of the peaks.

    Attributes
    ----------
    mz : int64 [B, P]
    features : float32 [B, P, F]
    known : float32 [B, GLOBALS]
    nodes : float32 [B, cells]
    immonium : float32 [B, V]
    facts : int64 [B, 4]
        Residue mass, charge, highest m/z, and the slack within which an answer closes.
    starts : int64 [B, cells of m/z]
        The first peak at or above the beginning of each cell.
    proven : bool [B, cells]
        Where the nodes are not zero: a smaller array to ask first.
    near : bool [B, cells of m/z]
        Where a peak may be within the window: likewise.
    window : (float, int)
        Within which an ion has a peak: a share of its m/z, and micro-Th beside that.
    """

    mz: Ints
    features: Floats
    known: Floats
    nodes: Floats
    immonium: Floats
    facts: Ints
    starts: Ints
    proven: Bits
    near: Bits
    window: tuple[float, int]


def index(mz: Ints) -> Ints:
    """`Ground.starts` of peaks [B, P] padded with `FAR`."""
    top = mz[mz < FAR].max(initial=0)
    cells = np.arange((int(top) >> _CELL_BITS) + 2) << _CELL_BITS
    return np.stack([np.searchsorted(row, cells) for row in mz])


def near(mz: Ints, window: tuple[float, int]) -> Bits:
    """`Ground.near` of peaks [B, P] padded with `FAR`."""
    top = int(mz[mz < FAR].max(initial=0))
    cells = ((top + _reach(window, top)) >> _HIT_BITS) + 2
    out = np.zeros((mz.shape[0], cells), np.bool_)
    _mark(out, mz, window)
    return out


@jit
def _reach(window: tuple[float, int], mz: int) -> int:
    """Micro-Th from a peak to where the window of an ion ends that still has it."""
    return int((window[0] * mz + window[1]) / (1 - window[0])) + 2


@jit
def _mark(out: Bits, mz: Ints, window: tuple[float, int]) -> None:
    """Mark the cells within reach of peaks."""
    for row in range(mz.shape[0]):
        for peak in range(mz.shape[1]):
            at = mz[row, peak]
            if at < FAR:
                reach = _reach(window, at)
                for cell in range(max(at - reach, 0) >> _HIT_BITS, ((at + reach) >> _HIT_BITS) + 1):
                    out[row, cell] = True


@jit
def may_hit(near: Bits, row: int, query: int) -> bool:
    """Whether a peak may be within the window of an ion, whose m/z is not below 0."""
    found: bool = near[row, min(query >> _HIT_BITS, near.shape[1] - 1)]
    return found


@jit
def nearest(mz: Ints, starts: Ints, row: int, query: int) -> int:
    """Place of the peak nearest to a query, the upper of two that are as near."""
    last = mz.shape[1] - 1
    above = starts[row, min(query >> _CELL_BITS, starts.shape[1] - 1)]
    while above < last and mz[row, above] < query:
        above += 1
    above = min(above, last)
    below = max(above - 1, 0)
    nearer = abs(mz[row, below] - query) < abs(mz[row, above] - query)
    place: int = below if nearer else above
    return place


@jit
def _strength(
    mz: Ints, intensity: Floats, starts: Ints, row: int, query: int, window: tuple[float, int]
) -> np.float32:
    """Intensity of the peak within half a window of a query, else 0."""
    query = max(query, 0)
    place = nearest(mz, starts, row, query)
    width = np.int64(np.float32(query) * np.float32(window[0])) + window[1]
    near = abs(mz[row, place] - query) <= width // 2
    return intensity[row, place] if near else np.float32(0)


@jit
def partners(
    out: Floats,
    mz: Ints,
    intensity: Floats,
    starts: Ints,
    counts: Ints,
    shifts: Ints,
    window: tuple[float, int],
) -> None:
    """Write the intensities of the partners of each peak to [B, P, shifts + 4].

    ``shifts`` are distances of single partners; the last four are the best of those one plain
    residue above and below, for 1+ and 2+. ``counts`` [B] are the peaks of each spectrum.
    """
    for row in range(mz.shape[0]):
        for peak in range(counts[row]):
            at = mz[row, peak]
            for place in range(shifts.shape[0]):
                query = at + shifts[place]
                out[row, peak, place] = _strength(mz, intensity, starts, row, query, window)
            for kind in range(4):
                charge, sign = 1 + kind // 2, 1 - 2 * (kind % 2)
                best = np.float32(0)
                for residue in range(PLAIN.shape[0]):
                    query = at + sign * (PLAIN[residue] // charge)
                    best = max(best, _strength(mz, intensity, starts, row, query, window))
                out[row, peak, shifts.shape[0] + kind] = best


@jit
def nodes(out: Floats, mz: Ints, intensity: Floats, counts: Ints, residue_mass: Ints) -> None:
    """Write the evidence of every cut on a grid to zeros [B, cells]."""
    cells = out.shape[1]
    layer = np.zeros(cells, np.float32)
    for row in range(mz.shape[0]):
        for ion in range(_CHARGES.shape[0]):
            charge = _CHARGES[ion]
            for peak in range(counts[row]):
                neutral = (mz[row, peak] - _PROTON) * charge
                cut = residue_mass[row] + _WATER - neutral if _FROM_C[ion] else neutral
                cell = cut // NODE_BIN
                if 0 < cell < cells - 1:
                    found = intensity[row, peak] * np.float32(1 if charge == 1 else 0.5)
                    beside = cell + (-1 if cut % NODE_BIN * 2 < NODE_BIN else 1)
                    layer[cell] = max(layer[cell], found)
                    layer[beside] = max(layer[beside], found)
            layer[0] = 0
            for cell in range(cells):
                out[row, cell] += layer[cell]
                layer[cell] = 0


@jit
def stronger(out: Floats, mz: Ints, intensity: Floats, counts: Ints, near: int) -> None:
    """Count the peaks stronger than each, among all and among the near: to zeros [2, B, P]."""
    for row in range(mz.shape[0]):
        for one in range(counts[row]):
            for other in range(counts[row]):
                if intensity[row, other] > intensity[row, one]:
                    out[0, row, one] += 1
                    out[1, row, one] += abs(mz[row, other] - mz[row, one]) < near
