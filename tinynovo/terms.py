"""Terms: what a cut and a candidate add to the first layer of a directed scorer.

Compiled for the CPU, by numba. Knows the features that `tinynovo.evidence`, `tinynovo.middle` and
`tinynovo.scorer` define, in their order: tests hold them against each other. Does not know what
weights mean, nor what becomes of the layer.

Most cuts hit few peaks, so that most of their features are zero: only the rows of weights whose
features are not are added up. What is seldom zero is left to a product of matrices.

Axes: B spectra, P peaks, N rows of a layer, H its width, I features.
"""

from __future__ import annotations

import numpy as np

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
from tinynovo.lookups import (
    MASSES,
    MODIFIES,
    PLAIN,
    Bits,
    Floats,
    Ground,
    Ints,
    jit,
    may_hit,
    nearest,
    part,
)
from tinynovo.masses import CARBON_MONOXIDE, PROTON, WATER, udalton

_PROTON, _WATER, _CO = udalton(PROTON), udalton(WATER), udalton(CARBON_MONOXIDE)
_MAIN, _HIGH, _ALL = len(MAIN_IONS), len(HIGH_IONS), len(IONS)
_SEEN = CUT_FEATURES - _MAIN
_CHARGES = np.array([charge for _, charge, _ in IONS])
_LOST = np.array([udalton(lost) for _, _, lost in IONS])
_FROM_C = np.array([series == "y" for series, _, _ in IONS])
_HEADS = np.array([0, *MASSES[MODIFIES]])
_PLAIN_CELLS, _PLAIN_REST = PLAIN // NODE_BIN, PLAIN % NODE_BIN

PLAIN_AT = _MAIN
DENSE = PLAIN_AT + 10
"""Features that are seldom zero: which ions lie in the range recorded, then what is known of a
candidate beside its cut. They stand side by side."""

DENSE_AT = _SEEN
"""Where they begin."""

_BETWEEN = DENSE_AT + DENSE
_ASKED = _BETWEEN + MIDDLE_FEATURES - 2


@jit
def add(out: Floats, at: int, weights: Floats, row: int, factor: np.float32) -> None:
    """Add a row of weights [I, H], times a factor, to a row of [N, H]."""
    for h in range(out.shape[1]):
        out[at, h] += factor * weights[row, h]


@jit
def _window(ground: Ground, query: int) -> int:
    """Micro-Th by which an ion may miss its peak."""
    share = np.int64(np.float32(query) * np.float32(ground.window[0]))
    return share + ground.window[1]  # type: ignore[return-value]


@jit
def _add_error(out: Floats, at: int, weights: Floats, first: int, error: np.float32) -> None:
    """Add an error, its size and that there is a peak."""
    size = abs(error)
    for h in range(out.shape[1]):
        told = error * weights[first, h] + size * weights[first + 1, h]
        out[at, h] += told + weights[first + 2, h]


@jit
def _add_peak(
    out: Floats,
    at: int,
    weights: Floats,
    features: Floats,
    row: int,
    place: int,
    ion: int,
    error: np.float32,
) -> None:
    """Add what a peak says that is the ion of a cut."""
    rich = features.shape[2]
    if ion < _MAIN:
        first, told = ion * (rich + ERRORS), rich
    elif ion < _MAIN + _HIGH:
        first, told = _MAIN * (rich + ERRORS) + (ion - _MAIN) * (FEW + ERRORS), FEW
    else:
        first, told = _SEEN - (_ALL - ion) * FEW, FEW
    for feature in range(told):
        value = features[row, place, feature]
        if value != 0:
            add(out, at, weights, first + feature, value)
    if ion < _MAIN + _HIGH:
        _add_error(out, at, weights, first + told, error)


@jit
def _query(total: int, cut: int, ion: int) -> int:
    """m/z of an ion of a cut, micro-Th, as `tinynovo.evidence.ion_mz` defines it; not below 0."""
    neutral = (total - cut + _WATER if _FROM_C[ion] else cut) + _LOST[ion]
    if _CHARGES[ion] == 2:
        neutral >>= 1
    elif _CHARGES[ion] == 3:
        neutral //= 3
    query: int = max(neutral + _PROTON, 0)
    return query


@part
def seen(out: Floats, at: int, ground: Ground, row: int, cut: int) -> None:
    """Write whether each main ion lies in the range recorded to the first of a row of [N, ...]."""
    for ion in range(_MAIN):
        query = _query(ground.facts[row, 0], cut, ion)
        out[at, ion] = np.float32(ground.mz[row, 0] <= query <= ground.facts[row, 2])


@part
def add_cut(out: Floats, at: int, weights: Floats, ground: Ground, row: int, cut: int) -> None:
    """Add what is found at a cut, times its weights, to a row of [N, H]."""
    near, total, charge = ground.near, ground.facts[row, 0], ground.facts[row, 1]
    if not 0 < cut < total:
        return
    for ion in range(_ALL):
        if _MAIN <= ion < _MAIN + _HIGH and charge <= 2:
            continue
        query = _query(total, cut, ion)
        if may_hit(near, row, query):
            mz = ground.mz
            place = nearest(mz, ground.starts, row, query)
            distance, width = mz[row, place] - query, _window(ground, query)
            if abs(distance) <= width:
                error = np.float32(distance) / np.float32(width)
                _add_peak(out, at, weights, ground.features, row, place, ion, error)


@jit
def _beside_head(cut: int, slack: int) -> bool:
    """Whether nothing, or only what stands before the residues, is left of a cut."""
    for head in _HEADS:
        if abs(cut - head) <= slack:
            return True
    return cut <= 0


@jit
def far_ends(ground: Ground, row: int, anchor: int, past: Ints, forwards: bool) -> tuple[int, int]:
    """Where fragments of the middle with one and with two tokens passed end; -1: nowhere."""
    total, slack = ground.facts[row, 0], ground.facts[row, 3]
    one = anchor + (-MASSES[past[0]] if forwards else MASSES[past[0]])
    two = one + (-MASSES[past[1]] if forwards else MASSES[past[1]])
    if forwards:
        first, second = not _beside_head(one, slack), not _beside_head(two, slack)
    else:
        first, second = total - one > slack, total - two > slack
    return (one if past[0] and first else -1), (two if past[1] and second else -1)


@part
def add_middle(
    out: Floats,
    at: int,
    weights: Floats,
    ground: Ground,
    row: int,
    cut: int,
    ends: tuple[int, int],
    forwards: bool,
) -> None:
    """Add the fragments of the middle that a candidate makes, times their weights."""
    mz, near, facts = ground.mz, ground.near, ground.facts
    slack, top = facts[row, 3], facts[row, 2]
    if facts[row, 0] - cut <= slack if forwards else _beside_head(cut, slack):
        return
    for fragment in range(2):
        end = ends[fragment]
        if end < 0:
            continue
        b = abs(cut - end) + _PROTON
        if mz[row, 0] <= b <= top:
            add(out, at, weights, _ASKED + fragment, np.float32(1))
        for ion in range(2):
            query = b - ion * _CO
            if may_hit(near, row, query):
                place = nearest(mz, ground.starts, row, query)
                distance, width = mz[row, place] - query, _window(ground, query)
                if abs(distance) <= width:
                    first = _BETWEEN + (2 * fragment + ion) * (FEW + ERRORS)
                    for feature in range(FEW):
                        value = ground.features[row, place, feature]
                        add(out, at, weights, first + feature, value)
                    error = np.float32(distance) / np.float32(width)
                    _add_error(out, at, weights, first + FEW, error)


@jit
def ahead_of(
    nodes: Floats, proven: Bits, row: int, total: int, cut: int, forwards: bool
) -> tuple[np.float32, np.float32]:
    """The best two supports of the cuts one plain residue beyond a cut."""
    cell, rest = cut // NODE_BIN, cut % NODE_BIN
    best = second = np.float32(0)
    for residue in range(PLAIN.shape[0]):
        if forwards:
            ahead = cut + PLAIN[residue]
            at = cell + _PLAIN_CELLS[residue] + (rest + _PLAIN_REST[residue] >= NODE_BIN)
        else:
            ahead = cut - PLAIN[residue]
            at = cell - _PLAIN_CELLS[residue] - (rest < _PLAIN_REST[residue])
        if NODE_BIN < ahead < total and proven[row, at]:
            value = nodes[row, at]
            if value > best:
                best, second = value, best
            elif value > second:
                second = value
    return best, second


@jit
def tell(told: Floats, at: int, remaining: int, slack: int, lightest: int) -> None:
    """Write what remaining micro-dalton say of a candidate: the last six of a row of [N, DENSE]."""
    told[at, PLAIN_AT + 4] = np.float32(abs(remaining) <= slack)
    told[at, PLAIN_AT + 5] = np.float32(remaining < -slack)
    told[at, PLAIN_AT + 6] = np.float32(slack < remaining < lightest - slack)
    left = np.float32(remaining) * np.float32(1e-6)
    told[at, PLAIN_AT + 7] = min(max(left / np.float32(0.03), np.float32(-3)), np.float32(3))
    told[at, PLAIN_AT + 8] = min(max(left / np.float32(100), np.float32(-3)), np.float32(3))
    told[at, PLAIN_AT + 9] = min(max(left / np.float32(1000), np.float32(-3)), np.float32(3))
