"""Terms: what cuts and candidates add to the first layer of a directed scorer.

Compiled, by numba. Knows the features that `tinynovo.evidence`, `tinynovo.middle` and
`tinynovo.scorer` define, in their order: tests hold them against each other. Does not know what
weights mean, nor what becomes of the layer.

Most cuts hit few peaks, so that most of their features are zero: only the rows of weights whose
features are not are added up. What is seldom zero is left to a product of matrices. All candidates
of an anchor are told of together, as handing the arrays over costs more than a candidate does.

Axes: B spectra, P peaks, N candidates of an anchor, H width of a layer, I features.
"""

from __future__ import annotations

import numpy as np

from tinynovo.compiling import Floats, Ints, inlined, jit
from tinynovo.cuts import (
    CUT_FEATURES,
    ERRORS,
    FEW,
    HIGH_IONS,
    IONS,
    MAIN_IONS,
    MIDDLE_FEATURES,
    NODE_BIN,
)
from tinynovo.grids import value_at
from tinynovo.lookups import (
    CUT_BITS,
    HIT_BITS,
    MASSES,
    MODIFIES,
    PLAIN,
    Ground,
    ion_of,
    nearest,
    width_of,
)
from tinynovo.masses import CARBON_MONOXIDE, PROTON, udalton

_PROTON, _CO = udalton(PROTON), udalton(CARBON_MONOXIDE)
MAIN = len(MAIN_IONS)
_HIGH, _ALL = len(HIGH_IONS), len(IONS)
_HEADS = np.array([0, *MASSES[MODIFIES]])
_PLAIN_CELLS, _PLAIN_REST = PLAIN // NODE_BIN, PLAIN % NODE_BIN

SEEN_AT = CUT_FEATURES - MAIN
"""Where the features of a cut that are seldom zero begin."""

BETWEEN = CUT_FEATURES + 10
"""Where those of the fragments of the middle do."""

ASKED = BETWEEN + MIDDLE_FEATURES - 2
"""Where it says which of these may be."""

DENSE = np.array([*range(SEEN_AT, BETWEEN), ASKED, ASKED + 1])
"""Features of a candidate that are seldom zero, as they stand in the first layer: which ions lie in
the range recorded, what is known of it beside its cut, which fragments of the middle may be."""


@jit
def add(out: Floats, n: int, weights: Floats, first: int, told: Floats, count: int) -> None:
    """Add so many rows of weights [I, H], from the first on, times what is told, to row n [H]."""
    for place in range(count):
        factor = told[place]
        for h in range(out.shape[1]):
            out[n, h] += factor * weights[first + place, h]


@jit
def of_ion(ion: int, rich: int) -> tuple[int, int, int]:
    """Where the features of an ion of a cut begin, how many a peak has, and how many its error."""
    if ion < MAIN:
        return ion * (rich + ERRORS), rich, ERRORS
    if ion < MAIN + _HIGH:
        return MAIN * (rich + ERRORS) + (ion - MAIN) * (FEW + ERRORS), FEW, ERRORS
    return SEEN_AT - (_ALL - ion) * FEW, FEW, 0


@jit
def tell_peak(
    told: Floats,
    features: Floats,
    row: int,
    place: int,
    count: int,
    errors: int,
    error: np.float32,
) -> None:
    """Write so many features of a peak, then, where asked, its error, its size and a 1."""
    for feature in range(count):
        told[feature] = features[row, place, feature]
    if errors:
        told[count], told[count + 1], told[count + 2] = error, abs(error), np.float32(1)


@inlined
def met(
    mz: Ints, starts: Ints, row: int, query: int, window: tuple[float, int]
) -> tuple[int, np.float32]:
    """The peak within the window of an ion, -1 for none, and by how many windows it is off."""
    place, width = nearest(mz, starts, row, query), width_of(window, query)
    distance = mz[row, place] - query
    error = np.float32(distance) / np.float32(width)
    return place if abs(distance) <= width else -1, error


@jit
def tell_seen(told: Floats, ground: Ground, row: int, cuts: Ints) -> None:
    """Write whether each main ion of cuts [N] lies in the range recorded to [N, ...]."""
    low, total, top = ground.mz[row, 0], ground.facts[row, 0], ground.facts[row, 2]
    for n in range(cuts.shape[0]):
        for ion in range(MAIN):
            told[n, ion] = np.float32(low <= ion_of(total, cuts[n], ion) <= top)


@jit
def add_cuts(out: Floats, weights: Floats, ground: Ground, row: int, cuts: Ints) -> None:
    """Add what is found at cuts [N], times its weights, to rows [N, H]."""
    mz, features, starts, ions = ground.mz, ground.features, ground.starts, ground.ions
    total, rich, window = ground.facts[row, 0], features.shape[2], ground.window
    told = np.empty(rich + ERRORS, np.float32)
    for n in range(cuts.shape[0]):
        cut = cuts[n]
        maybe = ions[row, cut >> CUT_BITS] if 0 < cut < total else 0
        ion = 0
        while maybe:
            if maybe & 1:
                query = ion_of(total, cut, ion)
                place, error = met(mz, starts, row, query, window)
                if place >= 0:
                    first, count, errors = of_ion(ion, rich)
                    tell_peak(told, features, row, place, count, errors, error)
                    add(out, n, weights, first, told, count + errors)
            maybe >>= 1
            ion += 1


@jit
def _beside_head(cut: int, slack: int) -> bool:
    """Whether nothing, or only what stands before the residues, is left of a cut."""
    for head in _HEADS:
        if abs(cut - head) <= slack:
            return True
    return cut <= 0


@jit
def far_ends(
    ground: Ground, row: int, anchor: int, last: int, before: int, forwards: bool
) -> tuple[int, int]:
    """Where fragments of the middle with one and with two tokens passed end; -1: nowhere."""
    total, slack = ground.facts[row, 0], ground.facts[row, 3]
    one = anchor + (-MASSES[last] if forwards else MASSES[last])
    two = one + (-MASSES[before] if forwards else MASSES[before])
    if forwards:
        first, second = not _beside_head(one, slack), not _beside_head(two, slack)
    else:
        first, second = total - one > slack, total - two > slack
    return (one if last and first else -1), (two if before and second else -1)


@jit
def ends_inside(total: int, cut: int, slack: int, forwards: bool) -> bool:
    """Whether a fragment that ends with a candidate lacks something at that end of the peptide."""
    return total - cut > slack if forwards else not _beside_head(cut, slack)


@jit
def tell_middle(
    told: Floats, ground: Ground, row: int, cuts: Ints, ends: Ints, forwards: bool
) -> None:
    """Write which b fragments of the middle can be, in the range recorded, to [N, 2].

    ``ends`` [N, 2] are those of `far_ends`.
    """
    low, total = ground.mz[row, 0], ground.facts[row, 0]
    top, slack = ground.facts[row, 2], ground.facts[row, 3]
    for n in range(cuts.shape[0]):
        may = ends_inside(total, cuts[n], slack, forwards)
        for fragment in range(2):
            end = ends[n, fragment]
            inside = may and end >= 0 and low <= abs(cuts[n] - end) + _PROTON <= top
            told[n, fragment] = np.float32(inside)


@jit
def add_middle(
    out: Floats,
    weights: Floats,
    ground: Ground,
    row: int,
    cuts: Ints,
    ends: Ints,
    forwards: bool,
) -> None:
    """Add what is found of the fragments of the middle that candidates make to rows [N, H].

    ``ends`` [N, 2] are those of `far_ends`.
    """
    mz, features, starts, near = ground.mz, ground.features, ground.starts, ground.near
    total, slack, window = ground.facts[row, 0], ground.facts[row, 3], ground.window
    last, told = near.shape[1] - 1, np.empty(FEW + ERRORS, np.float32)
    for n in range(cuts.shape[0]):
        for fragment in range(2):
            end = ends[n, fragment]
            if end < 0:
                continue
            for ion in range(2):
                query = abs(cuts[n] - end) + _PROTON - ion * _CO
                if not near[row, min(query >> HIT_BITS, last)]:
                    continue
                place, error = met(mz, starts, row, query, window)
                if place >= 0 and ends_inside(total, cuts[n], slack, forwards):
                    first = BETWEEN + (2 * fragment + ion) * (FEW + ERRORS)
                    tell_peak(told, features, row, place, FEW, ERRORS, error)
                    add(out, n, weights, first, told, FEW + ERRORS)


@jit
def tell_ahead(told: Floats, ground: Ground, row: int, cuts: Ints, forwards: bool) -> None:
    """Write the best two supports of the cuts one plain residue beyond each of [N] to [N, 2]."""
    nodes, bits, total = ground.nodes, ground.nodes.bits, ground.facts[row, 0]
    last = (bits.shape[1] << 5) - 1
    for n in range(cuts.shape[0]):
        cut = cuts[n]
        cell, rest = cut // NODE_BIN, cut % NODE_BIN
        best = second = np.float32(0)
        some = 0
        for residue in range(PLAIN.shape[0]):
            if forwards:
                at = cell + _PLAIN_CELLS[residue] + (rest + _PLAIN_REST[residue] >= NODE_BIN)
            else:
                at = cell - _PLAIN_CELLS[residue] - (rest < _PLAIN_REST[residue])
            at = min(max(at, 0), last)
            some |= ((np.int64(bits[row, at >> 5]) >> (at & 31)) & 1) << residue
        residue = 0
        while some:
            if some & 1:
                ahead = cut + PLAIN[residue] if forwards else cut - PLAIN[residue]
                if NODE_BIN < ahead < total:
                    value = value_at(nodes, row, ahead // NODE_BIN)
                    second = max(second, min(best, value))
                    best = max(best, value)
            some >>= 1
            residue += 1
        told[n, 0], told[n, 1] = best, second


@jit
def tell_side(
    told: Floats, ground: Ground, row: int, cuts: Ints, tokens: Ints, lightest: int, forwards: bool
) -> None:
    """Write what is known of candidates [N] beside their cuts to [N, 10]."""
    nodes, immonium = ground.nodes, ground.immonium
    total, slack = ground.facts[row, 0], ground.facts[row, 3]
    tell_ahead(told[:, 1:3], ground, row, cuts, forwards)
    for n in range(cuts.shape[0]):
        cut = cuts[n]
        remaining = total - cut if forwards else cut
        inside = NODE_BIN < cut < total
        told[n, 0] = value_at(nodes, row, cut // NODE_BIN) if inside else np.float32(0)
        told[n, 3] = immonium[row, tokens[n]]
        told[n, 4] = np.float32(abs(remaining) <= slack)
        told[n, 5] = np.float32(remaining < -slack)
        told[n, 6] = np.float32(slack < remaining < lightest - slack)
        left = np.float32(remaining) * np.float32(1e-6)
        told[n, 7] = min(max(left / np.float32(0.03), np.float32(-3)), np.float32(3))
        told[n, 8] = min(max(left / np.float32(100), np.float32(-3)), np.float32(3))
        told[n, 9] = min(max(left / np.float32(1000), np.float32(-3)), np.float32(3))
