"""Annotation: which peaks are fragments of a peptide, and which residues that settles.

Knows peaks and a peptide. Does not know how the peptide was found, files or drawings.

A bond between two residues is seen where a b or a y ion of it has a peak. Residues between two
neighbouring seen bonds are a block: its mass is settled, the order of its residues is not, nor
whether others of the same mass stand there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinynovo.compiling import Ints, jit
from tinynovo.masses import PROTON, residue_table, udalton
from tinynovo.peptide import Fragment, Peptide, fragment_masses

TOLERANCE_PPM, TOLERANCE_TH = 20.0, 0.01
"""A peak is a fragment's within the wider of the two."""

EQUAL = 0.005
"""Residues whose masses differ by no more, in Da, are told to be alternatives."""

_SERIES = "by"

_LARGEST = 2
"""Residues of the blocks whose alternatives are listed."""


class _Ions(NamedTuple):
    """Ions of a peptide that have peaks, each [ions].

    ``peak`` is the place of the peak, ``series`` 0 for b and 1 for y, ``mz`` in Th.
    """

    peak: NDArray[np.int64]
    charge: NDArray[np.int64]
    series: NDArray[np.int64]
    ordinal: NDArray[np.int64]
    mz: NDArray[np.float64]


def _ions(
    mz: NDArray[np.float64], intensity: NDArray[np.floating], peptide: Peptide, charge: int
) -> _Ions:
    """What `annotate` tells, peak by peak."""
    most = 3 if charge > 3 else 2 if charge > 1 else 1
    neutral = np.array([fragment_masses(peptide, series) for series in _SERIES])
    order = np.argsort(mz)
    told = (mz[order], intensity[order].astype(np.float64), neutral, most)
    peak, of, series, ordinal, own = _claim(*told, TOLERANCE_PPM * 1e-6, TOLERANCE_TH)
    return _Ions(order[peak], of, series, ordinal, own)


@jit
def _claim(
    mz: NDArray[np.float64],
    intensity: NDArray[np.float64],
    neutral: NDArray[np.float64],
    most: int,
    share: float,
    least: float,
) -> tuple[Ints, Ints, Ints, Ints, NDArray[np.float64]]:
    """Which of the peaks [P], ascending, are ions: as `_Ions`, of up to so many charges.

    Each ion, ``neutral`` [2, bonds] in Da, takes the most intense peak within its tolerance, unless
    an ion before has taken it.
    """
    bonds, owner = neutral.shape[1], np.full(mz.shape[0], -1)
    for ion in range(most * 2 * bonds):
        kind, bond = ion // bonds, ion % bonds
        at = neutral[kind % 2, bond] / (kind // 2 + 1) + PROTON
        width, best = max(share * at, least), -1
        for peak in range(np.searchsorted(mz, at - width), mz.shape[0]):
            if mz[peak] > at + width:
                break
            if best < 0 or intensity[peak] > intensity[best]:
                best = peak
        if best >= 0 and owner[best] < 0:
            owner[best] = ion
    peaks = np.flatnonzero(owner >= 0)
    charge, series, ordinal = np.empty_like(peaks), np.empty_like(peaks), np.empty_like(peaks)
    own = np.empty(peaks.shape[0], np.float64)
    for n in range(peaks.shape[0]):
        kind, bond = owner[peaks[n]] // bonds, owner[peaks[n]] % bonds
        charge[n], series[n], ordinal[n] = kind // 2 + 1, kind % 2, bond + 1
        own[n] = neutral[kind % 2, bond] / charge[n] + PROTON
    return peaks, charge, series, ordinal, own


def annotate(
    mz: NDArray[np.float64], intensity: NDArray[np.floating], peptide: Peptide, charge: int
) -> list[Fragment | None]:
    """The b or y ion of every peak, None for peaks that are none.

    Each ion is given the most intense peak within its tolerance; of two ions of one peak the one
    of lower charge keeps it. Ions have charge 1 and 2, 3 too for precursors above charge 3.

    Parameters
    ----------
    mz : float array, shape (peaks,)
        Th, in any order.
    intensity : float array, shape (peaks,)
    peptide : Peptide
    charge : int
        Of the precursor.
    """
    found: list[Fragment | None] = [None] * mz.size
    ions = (each.tolist() for each in _ions(mz, intensity, peptide, charge))
    for peak, of, series, ordinal, ion_mz in zip(*ions, strict=True):
        found[peak] = Fragment(_SERIES[series], ordinal, of, loss="", mz=ion_mz)
    return found


def blocks(
    mz: NDArray[np.float64], intensity: NDArray[np.floating], peptide: Peptide, charge: int
) -> list[tuple[int, int]]:
    """First residue, and the one after the last, of every block of a peptide, N to C.

    Takes what `annotate` does. A b ion speaks for the bond, counted from the N-terminus, of its
    ordinal, a y ion for that counted from the C-terminus.
    """
    length, ions = len(peptide), _ions(mz, intensity, peptide, charge)
    seen = set(np.where(ions.series, length - ions.ordinal, ions.ordinal).tolist())
    return list(pairwise([0, *sorted(seen), length]))


def support(found: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """1 for each residue that is a block of its own, 0 for the others, N to C."""
    return tuple(int(end - begin == 1) for begin, end in found for _ in range(begin, end))


def ambiguous(peptide: Peptide, found: Sequence[tuple[int, int]]) -> str:
    """The peptide in ProForma with what the spectrum leaves open marked.

    ``(?AV)`` for residues of unknown order (ProForma 2.0, section 4.4.2), J for leucine or
    isoleucine, which have the same mass.
    """
    residues = ["J" + token[1:] if token[0] == "L" else token for token in peptide.residues]
    parts = ["".join(residues[begin:end]) for begin, end in found]
    ahead = peptide.tokens[: -len(peptide)]
    marked = (f"(?{p})" if e - b > 1 else p for p, (b, e) in zip(parts, found, strict=True))
    return "".join((*ahead, *marked))


def alternatives(peptide: Peptide, found: Sequence[tuple[int, int]]) -> str:
    """Other residues, one or two, that weigh as much as blocks of one or two.

    ``5:N=GG;7-8:AV=GL``: residue five may as well be GG, residues seven and eight G and L in any
    order; several are parted by ``|``. Empty where there are none.
    """
    told, residues = [], peptide.residues
    for begin, end in found:
        tokens = residues[begin:end]
        others = _equals(tuple(sorted(tokens))) if len(tokens) <= _LARGEST else ()
        if others:
            place = str(end) if end - begin == 1 else f"{begin + 1}-{end}"
            told.append(f"{place}:{''.join(tokens)}={'|'.join(others)}")
    return ";".join(told)


@cache
def _equals(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Other compositions of at most two residues, none deamidated, that weigh the same."""
    table = residue_table()
    mass, equal = sum(table[token].total for token in tokens), udalton(EQUAL)
    others = sorted(t for t, r in table.items() if r.residue and r.modification != "Deamidated")
    sets = [c for n in (1, 2) for c in combinations_with_replacement(others, n)]
    return tuple(
        "".join(c)
        for c in sets
        if c != tokens and abs(sum(table[token].total for token in c) - mass) <= equal
    )
