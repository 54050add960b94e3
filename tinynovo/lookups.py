"""Look-ups: spectra made ready for the kernels, and peaks found in them.

Compiled, by numba. Knows the arithmetic of `tinynovo.evidence`, which defines it: tests
hold the two against each other. Does not know candidates, nor weights.

Axes: B spectra, P peaks, V tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinynovo.compiling import Bits, Flags, Floats, Ints, jit
from tinynovo.cuts import FAR, HIGH_IONS, IONS, MAIN_IONS
from tinynovo.masses import PROTON, WATER, residue_table, udalton

MASSES = np.array([0, *(row.total for row in residue_table().values())])
"""Of all tokens, micro-dalton, int64 [V]."""

PLAIN = MASSES[1:20].copy()
"""Of the residues without modification."""

MODIFIES = np.array([False, *(row.n_terminal for row in residue_table().values())])
"""Which tokens stand before the residues: bool [V]."""

_PROTON, _WATER = udalton(PROTON), udalton(WATER)
_MAIN, _HIGH, _ALL = len(MAIN_IONS), len(HIGH_IONS), len(IONS)
CHARGES = np.array([charge for _, charge, _ in IONS])
_LOST = np.array([udalton(lost) for _, _, lost in IONS])
FROM_C = np.array([series == "y" for series, _, _ in IONS])
CELL_BITS = 21
"""A cell of the index of peaks is 2^21 micro-Th wide."""

HIT_BITS = 16
"""A cell of the map of hits is 2^16 micro-Th wide."""

CUT_BITS = 16
"""A cell of the map of cuts is 2^16 micro-dalton wide."""


class Cells(NamedTuple):
    """A grid of cuts most of which have no value: which have one, and the values of these.

    Attributes
    ----------
    bits : uint32 [B, words]
        Of 32 cells each, from the lowest bit: whether they are marked.
    before : int64 [B, words]
        Marked cells before these.
    values : float32 [B, room]
        Of marked cells, in their order.
    """

    bits: NDArray[np.uint32]
    before: Ints
    values: Floats


class Placed(NamedTuple):
    """Peaks and where to find them, of spectra of which nothing else is made ready.

    ``intensity`` is float32 [B, P]; the others are those of `Ground`.
    """

    mz: Ints
    intensity: Floats
    facts: Ints
    starts: Ints
    near: Bits
    window: tuple[float, int]


class Ground(NamedTuple):
    """Spectra made ready: arrays of a `tinynovo.evidence.PeakTable`, and an index of the peaks.

    Attributes
    ----------
    mz : int64 [B, P]
    features : float32 [B, P, F]
    known : float32 [B, GLOBALS]
    nodes : Cells
        Evidence of cuts, in cells of `tinynovo.cuts.NODE_BIN`.
    immonium : float32 [B, V]
    facts : int64 [B, 4]
        Residue mass, charge, highest m/z, and the slack within which an answer closes.
    starts : int64 [B, cells of m/z]
        The first peak at or above the beginning of each cell.
    near : bool [B, cells of m/z]
        Where a peak may be within the window: a smaller array to ask first.
    ions : uint16 [B, cells of mass]
        At which cuts a peak may be within the window, by the bit of each ion in
        `tinynovo.cuts.IONS`.
    window : (float, int)
        Within which an ion has a peak: a share of its m/z, and micro-Th beside that.
    """

    mz: Ints
    features: Floats
    known: Floats
    nodes: Cells
    immonium: Floats
    facts: Ints
    starts: Ints
    near: Bits
    ions: Flags
    window: tuple[float, int]


def cells_up_to(top: int) -> int:
    """Cells of the index of peaks up to the highest m/z, micro-Th."""
    return (top >> CELL_BITS) + 2


@jit
def index_own(row: int, starts: Ints, mz: Ints) -> None:
    """Write `Ground.starts` of the peaks [B, P] of a spectrum to its row of [B, cells of m/z]."""
    peak = 0
    for cell in range(starts.shape[1]):
        while peak < mz.shape[1] and mz[row, peak] < cell << CELL_BITS:
            peak += 1
        starts[row, cell] = peak


@jit
def index(count: int, arrays: tuple[Ints, Ints]) -> None:
    """Do as `index_own` does of so many rows."""
    for row in range(count):
        index_own(row, *arrays)


def near(mz: Ints, window: tuple[float, int]) -> Bits:
    """`Ground.near` of peaks [B, P] padded with `FAR`."""
    top = int(mz[mz < FAR].max(initial=0))
    cells = ((top + _reach(window, top)) >> HIT_BITS) + 2
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
                for cell in range(max(at - reach, 0) >> HIT_BITS, ((at + reach) >> HIT_BITS) + 1):
                    out[row, cell] = True


@jit
def ion_of(total: int, cut: int, ion: int) -> int:
    """m/z of an ion of a cut, micro-Th, as `tinynovo.evidence.ion_mz` defines it; not below 0."""
    neutral = (total - cut + _WATER if FROM_C[ion] else cut) + _LOST[ion]
    if CHARGES[ion] == 2:
        neutral >>= 1
    elif CHARGES[ion] == 3:
        neutral //= 3
    query: int = max(neutral + _PROTON, 0)
    return query


@jit
def borne(ion: int, charge: int) -> bool:
    """Whether an ion of a cut is looked for where the precursor has a charge: 3+ takes more."""
    return charge > 2 or not _MAIN <= ion < _MAIN + _HIGH


def ions(mz: Ints, counts: Ints, facts: Ints, window: tuple[float, int]) -> Flags:
    """`Ground.ions` of peaks [B, P], the first few [B] of which are real."""
    out = np.zeros((mz.shape[0], (int(facts[:, 0].max()) >> CUT_BITS) + 1), np.uint16)
    _mark_cuts(out, mz, counts, facts, window)
    return out


@jit
def _mark_cuts(out: Flags, mz: Ints, counts: Ints, facts: Ints, window: tuple[float, int]) -> None:
    """Mark the cells of the cuts whose ions may be within reach of peaks."""
    for row in range(mz.shape[0]):
        whole, marks = facts[row, 0] + _WATER, out[row]
        for ion in range(_ALL):
            if not borne(ion, facts[row, 1]):
                continue
            flag, charge = np.uint16(1 << ion), CHARGES[ion]
            for peak in range(counts[row]):
                reach = _reach(window, mz[row, peak])
                low = (mz[row, peak] - reach - _PROTON) * charge - _LOST[ion]
                high = (mz[row, peak] + reach - _PROTON + 1) * charge - _LOST[ion]
                if FROM_C[ion]:
                    low, high = whole - high, whole - low
                last = min(high >> CUT_BITS, out.shape[1] - 1)
                for cell in range(max(low, 0) >> CUT_BITS, last + 1):
                    marks[cell] |= flag


@jit
def nearest(mz: Ints, starts: Ints, row: int, query: int) -> int:
    """Place of the peak nearest to a query, the upper of two that are as near."""
    last = mz.shape[1] - 1
    above = starts[row, min(query >> CELL_BITS, starts.shape[1] - 1)]
    while above < last and mz[row, above] < query:
        above += 1
    above = min(above, last)
    below = max(above - 1, 0)
    nearer = abs(mz[row, below] - query) < abs(mz[row, above] - query)
    place: int = below if nearer else above
    return place


@jit
def width_of(window: tuple[float, int], query: int) -> int:
    """Micro-Th by which an ion may miss its peak."""
    share = np.int64(np.float32(query) * np.float32(window[0]))
    return share + window[1]  # type: ignore[return-value]


@jit
def _strength(
    mz: Ints, intensity: Floats, starts: Ints, row: int, query: int, window: tuple[float, int]
) -> np.float32:
    """Intensity of the peak within half a window of a query, else 0."""
    place = nearest(mz, starts, row, query)
    close = abs(mz[row, place] - query) <= width_of(window, query) // 2
    return intensity[row, place] if close else np.float32(0)


def _away(shifts: Ints) -> tuple[Ints, Ints]:
    """How far all partners of a peak are, and as which of them each counts; see `partners`."""
    single, residues = shifts.shape[0], PLAIN.shape[0]
    away, kinds = np.empty(single + 4 * residues, np.int64), np.arange(single + 4 * residues)
    away[:single] = shifts
    for kind in range(4):
        some = slice(single + kind * residues, single + (kind + 1) * residues)
        away[some] = PLAIN // (1 + kind // 2) * (1 - 2 * (kind % 2))
        kinds[some] = single + kind
    return away, kinds


def partners(out: Floats, placed: Placed, counts: Ints, shifts: Ints) -> None:
    """Write the intensities of the partners of each peak to zeros [B, P, shifts + 4].

    ``shifts`` are distances of single partners; the last four are the best of those one plain
    residue above and below, for 1+ and 2+. ``counts`` [B] are the peaks of each spectrum.
    """
    _pair(out, placed, counts, *_away(shifts))


@jit
def _pair(out: Floats, placed: Placed, counts: Ints, away: Ints, kinds: Ints) -> None:
    """Look for the partners of each peak, so far away, each of its kind."""
    mz, intensity, _, starts, near, window = placed
    last = near.shape[1] - 1
    for row in range(mz.shape[0]):
        close = near[row]
        for peak in range(counts[row]):
            at = mz[row, peak]
            for place in range(away.shape[0]):
                query = max(at + away[place], 0)
                if close[min(query >> HIT_BITS, last)]:
                    kind = kinds[place]
                    found = _strength(mz, intensity, starts, row, query, window)
                    out[row, peak, kind] = max(out[row, peak, kind], found)


@jit
def stronger(out: Floats, mz: Ints, intensity: Floats, counts: Ints, near: int) -> None:
    """Count the peaks stronger than each, among all and among the near: to zeros [2, B, P]."""
    for row in range(mz.shape[0]):
        count, first = counts[row], 0
        ranked = np.sort(intensity[row, :count])
        for one in range(count):
            at, own = mz[row, one], intensity[row, one]
            out[0, row, one] = count - np.searchsorted(ranked, own, side="right")
            while mz[row, first] <= at - near:
                first += 1
            for other in range(first, count):
                if mz[row, other] >= at + near:
                    break
                out[1, row, one] += intensity[row, other] > own
