"""Hits: peaks at the ions of whole answers.

Compiled, by numba. Knows the arithmetic of `tinynovo.evidence.look_up` and of
`tinynovo.explained.inner_ions`, which define it: tests hold them against each other. Does not know
what answers are, nor what becomes of the hits.

Axes: Q cuts, N answers, S slots, P peaks, L lengths of fragments of the middle.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynovo.compiling import Bits, Floats, Ints, jit
from tinynovo.cuts import FAR, IONS
from tinynovo.lookups import borne, ion_of, nearest, width_of
from tinynovo.masses import PROTON, udalton

_PROTON, _ALL = udalton(PROTON), len(IONS)


@jit
def at_cut(
    q: int,
    index: Ints,
    error: Floats,
    hit: Bits,
    seen: Bits,
    mz: Ints,
    facts: Ints,
    starts: Ints,
    window: tuple[float, int],
    row: Ints,
    cut: Ints,
) -> None:
    """Write what `tinynovo.evidence.Found` tells of one of cuts [Q] in spectra [Q], each [Q, ions].

    ``mz``, ``facts``, ``starts`` and ``window`` are those of `Placed`.
    """
    at, total = row[q], facts[row[q], 0]
    for ion in range(_ALL):
        query = min(ion_of(total, cut[q], ion), FAR)
        place, width = nearest(mz, starts, at, query), width_of(window, query)
        distance = mz[at, place] - query
        index[q, ion] = at * mz.shape[1] + place
        error[q, ion] = np.float32(distance) / np.float32(width)
        may = 0 < cut[q] < total and borne(ion, facts[at, 1])
        hit[q, ion] = may and abs(distance) <= width
        seen[q, ion] = mz[at, 0] <= query <= facts[at, 2]


@jit
def at_cuts(count: int, arrays: tuple[Any, ...]) -> None:
    """Do as `at_cut` does of so many cuts."""
    for q in range(count):
        at_cut(q, *arrays)


@jit
def between(
    n: int,
    intensity: Floats,
    asked: Bits,
    taken: Bits,
    mz: Ints,
    strength: Floats,
    facts: Ints,
    starts: Ints,
    window: tuple[float, int],
    row: Ints,
    left: Ints,
    real: Bits,
    known: Bits,
    lengths: Ints,
    lost: Ints,
) -> None:
    """Write what `tinynovo.explained.Inner` tells of one of answers to zeros [N, S, L, ions].

    Parameters
    ----------
    n : int
    intensity, asked, taken : written to
    mz, strength, facts, starts, window : those of `Placed`
    row : int64 [N]
    left : int64 [N, S]
        The cut where each slot begins.
    real : bool [N, S]
        Whether it is between two residues.
    known : bool [N, P]
        Peaks that are explained otherwise.
    lengths : int64 [L]
        Slots of the fragments.
    lost : int64 [ions]
        What they lose, micro-dalton.
    """
    at, slots = row[n], left.shape[1]
    low, top = mz[at, 0], facts[at, 2]
    for slot in range(slots):
        for place in range(lengths.shape[0]):
            end = slot + lengths[place]
            if end >= slots or not (real[n, slot] and real[n, end]):
                continue
            for ion in range(lost.shape[0]):
                neutral = left[n, end] - left[n, slot] - lost[ion]
                query = min(max(neutral + _PROTON, 0), FAR)
                if not low <= query <= top:
                    continue
                asked[n, slot, place, ion] = True
                peak = nearest(mz, starts, at, query)
                if abs(mz[at, peak] - query) <= width_of(window, query) // 2:
                    taken[n, slot, place, ion] = known[n, peak]
                    if not known[n, peak]:
                        intensity[n, slot, place, ion] = strength[at, peak]


@jit
def between_cuts(count: int, arrays: tuple[Any, ...]) -> None:
    """Do as `between` does of so many answers."""
    for n in range(count):
        between(n, *arrays)
