"""Annotation: which peaks are fragments of a peptide, and which residues that settles.

Knows peaks and a peptide. Does not know how the peptide was found, files or drawings.

A bond between two residues is seen where a b or a y ion of it has a peak. Residues between two
neighbouring seen bonds are a block: its mass is settled, the order of its residues is not, nor
whether others of the same mass stand there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, pairwise

import numpy as np
from numpy.typing import NDArray

from tinynovo.masses import MICRO, PROTON, WATER, residue_table, udalton
from tinynovo.peptide import Fragment, Peptide

TOLERANCE_PPM, TOLERANCE_TH = 20.0, 0.01
"""A peak is a fragment's within the wider of the two."""

EQUAL = 0.005
"""Residues whose masses differ by no more, in Da, are told to be alternatives."""

_LARGEST = 2
"""Residues of the blocks whose alternatives are listed."""


@dataclass(frozen=True, eq=False)
class _Ions:
    """b and y ions of a peptide, of lower charge first, as arrays of equal length.

    `mz` in Th; `bond` that the ion speaks for, counted from the N-terminus; `from_c`, whether it is
    a y ion; `charge`.
    """

    mz: NDArray[np.float64]
    bond: NDArray[np.int64]
    from_c: NDArray[np.bool_]
    charge: NDArray[np.int64]


def _ions(peptide: Peptide, charge: int) -> _Ions:
    """Of charge 1 and 2, 3 too for precursors above charge 3."""
    table = residue_table()
    residues = np.cumsum([table[token].total for token in peptide.residues])
    ahead = peptide.mass_udalton - udalton(WATER) - residues[-1]
    b = residues[:-1] + ahead
    neutral = np.concatenate([b, peptide.mass_udalton - b])
    bond = np.tile(np.arange(1, len(peptide)), 2)
    charges = np.arange(1, (3 if charge > 3 else min(max(charge, 1), 2)) + 1)
    mz = neutral / MICRO / charges[:, None] + PROTON
    from_c, times = np.arange(neutral.size) >= b.size, charges.size
    return _Ions(
        mz.ravel(), np.tile(bond, times), np.tile(from_c, times), charges.repeat(neutral.size)
    )


def _claims(
    mz: NDArray[np.float64], intensity: NDArray[np.floating], ions: _Ions
) -> dict[int, int]:
    """Which ion each peak is that is one, by its place.

    Each ion claims the most intense peak within its tolerance; of two ions of one peak the one of
    lower charge keeps it.
    """
    width = np.maximum(TOLERANCE_PPM * 1e-6 * ions.mz, TOLERANCE_TH)
    order = np.argsort(mz)
    first = np.searchsorted(mz, ions.mz - width, "left", order)
    last = np.searchsorted(mz, ions.mz + width, "right", order)
    found: dict[int, int] = {}
    for ion in np.flatnonzero(last > first).tolist():
        near = order[first[ion] : last[ion]]
        found.setdefault(int(near[np.argmax(intensity[near])]), ion)
    return found


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
    ions = _ions(peptide, charge)
    found: list[Fragment | None] = [None] * mz.size
    for peak, ion in _claims(mz, intensity, ions).items():
        bond = int(ions.bond[ion])
        kind, ordinal = ("y", len(peptide) - bond) if ions.from_c[ion] else ("b", bond)
        found[peak] = Fragment(kind, ordinal, int(ions.charge[ion]), "", float(ions.mz[ion]))
    return found


def bond(ion: Fragment, length: int) -> int:
    """The peptide bond, counted from the N-terminus, that an ion of a peptide speaks for."""
    return ion.ordinal if ion.series == "b" else length - ion.ordinal


def blocks(
    mz: NDArray[np.float64], intensity: NDArray[np.floating], peptide: Peptide, charge: int
) -> list[tuple[int, int]]:
    """First residue, and the one after the last, of every block, N to C.

    Of a peptide and peaks as `annotate` takes them.
    """
    ions = _ions(peptide, charge)
    seen = {int(ions.bond[ion]) for ion in _claims(mz, intensity, ions).values()}
    return list(pairwise([0, *sorted(seen), len(peptide)]))


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
    told = []
    for begin, end in found:
        tokens = tuple(peptide.residues[begin:end])
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
