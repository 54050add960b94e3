"""Kernels: what a scorer asks of cuts, looked up and put through its first layer in one go.

Compiled for the CPU, by numba, for inference. Knows the arithmetic of `tinynovo.evidence` and of
the first layers of `tinynovo.scorer`, which define it: tests hold them against each other. Does
not know what weights mean, nor where cuts come from.

Most cuts hit few peaks, so that most of their features are zero. Only the rows of weights whose
features are not are added up, and no question is answered twice.

Axes: B spectra, P peaks, Q anchors, K candidates that fit, V tokens, H features of the layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.cuts import CUT_FEATURES, ERRORS, FEW, GLOBALS, HIGH_IONS, IONS, MAIN_IONS, NODE_BIN
from tinynovo.lookups import MASSES, PLAIN, Bits, Floats, Ground, Ints, jit, nearest
from tinynovo.masses import PROTON, WATER, residue_table, udalton

_PROTON, _WATER = udalton(PROTON), udalton(WATER)
_MAIN, _HIGH, _ALL = len(MAIN_IONS), len(HIGH_IONS), len(IONS)
_SEEN = CUT_FEATURES - _MAIN
_CHARGES = np.array([charge for _, charge, _ in IONS])
_LOST = np.array([udalton(lost) for _, _, lost in IONS])
_FROM_C = np.array([series == "y" for series, _, _ in IONS])
_MODIFIES = np.array([False, *(row.n_terminal for row in residue_table().values())])
_MODIFICATIONS = np.flatnonzero(_MODIFIES)
_PLAIN_CELLS, _PLAIN_REST = PLAIN // NODE_BIN, PLAIN % NODE_BIN

SIDE = 10
"""Features of a candidate beside those of its cut."""


class Layer(NamedTuple):
    """A first layer, and what it is asked about.

    Attributes
    ----------
    weights : float32 [inputs, H]
    forwards : bool
    window : (float, int)
        Within which an ion has a peak: a share of its m/z, and micro-Th beside that.
    lightest : int
        Mass of the lightest residue, micro-dalton.
    """

    weights: Floats
    forwards: bool
    window: tuple[float, int]
    lightest: int


@jit
def _add(out: Floats, to: int, weights: Floats, row: int, factor: np.float32) -> None:
    """Add a row of weights [F, H], times a factor, to a row of [.., H]."""
    for h in range(out.shape[1]):
        out[to, h] += factor * weights[row, h]


@jit
def _add_peak(
    out: Floats,
    to: int,
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
            _add(out, to, weights, first + feature, value)
    if ion < _MAIN + _HIGH:
        _add(out, to, weights, first + told, error)
        _add(out, to, weights, first + told + 1, abs(error))
        _add(out, to, weights, first + told + 2, np.float32(1))


@jit
def _add_cut(
    out: Floats,
    to: int,
    weights: Floats,
    mz: Ints,
    features: Floats,
    starts: Ints,
    row: int,
    facts: tuple[int, int, int],
    cut: int,
    window: tuple[float, int],
) -> None:
    """Add the features of a cut, times their weights, to a row of [.., H].

    ``facts`` are the residue mass of the spectrum, its charge and its highest m/z.
    """
    total, charge, top = facts
    inside = 0 < cut < total
    for ion in range(_ALL):
        neutral = (total - cut + _WATER if _FROM_C[ion] else cut) + _LOST[ion]
        if _CHARGES[ion] == 2:
            neutral >>= 1
        elif _CHARGES[ion] == 3:
            neutral //= 3
        query = max(neutral + _PROTON, 0)
        if ion < _MAIN and mz[row, 0] <= query <= top:
            _add(out, to, weights, _SEEN + ion, np.float32(1))
        if inside and (charge > 2 or ion < _MAIN or ion >= _MAIN + _HIGH):
            place = nearest(mz, starts, row, query)
            distance = mz[row, place] - query
            width = np.int64(np.float32(query) * np.float32(window[0])) + window[1]
            if abs(distance) <= width:
                error = np.float32(distance) / np.float32(width)
                _add_peak(out, to, weights, features, row, place, ion, error)


@jit
def _ahead(
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
def _tell(side: Floats, remaining: int, slack: int, lightest: int) -> None:
    """Fill in what remaining micro-dalton say of a candidate: the last six of [SIDE]."""
    side[4] = np.float32(abs(remaining) <= slack)
    side[5] = np.float32(remaining < -slack)
    side[6] = np.float32(slack < remaining < lightest - slack)
    left = np.float32(remaining) * np.float32(1e-6)
    side[7] = min(max(left / np.float32(0.03), np.float32(-3)), np.float32(3))
    side[8] = min(max(left / np.float32(100), np.float32(-3)), np.float32(3))
    side[9] = min(max(left / np.float32(1000), np.float32(-3)), np.float32(3))


@jit
def _begin(
    out: Floats,
    to: int,
    weights: Floats,
    context: Floats,
    query: int,
    named: Floats,
    token: int,
    side: Floats,
) -> None:
    """Write what is never zero: an anchor's context, a token's name, the side features."""
    w, c = weights, CUT_FEATURES
    a0, a1, a2, a3, a4 = side[0], side[1], side[2], side[3], side[4]
    a5, a6, a7, a8, a9 = side[5], side[6], side[7], side[8], side[9]
    for h in range(out.shape[1]):
        one = a0 * w[c, h] + a1 * w[c + 1, h] + a2 * w[c + 2, h] + a3 * w[c + 3, h]
        two = a4 * w[c + 4, h] + a5 * w[c + 5, h] + a6 * w[c + 6, h]
        three = a7 * w[c + 7, h] + a8 * w[c + 8, h] + a9 * w[c + 9, h]
        out[to, h] = context[query, h] + named[token, h] + one + two + three


@jit
def anchor_rows(out: Floats, layer: Layer, ground: Ground, row: Ints, anchor: Ints) -> None:
    """Add the first layer of the context of anchors [Q] to [Q, H]."""
    weights, window = layer.weights, layer.window
    mz, features, starts = ground.mz, ground.features, ground.starts
    known, facts = ground.known, ground.facts
    for q in range(row.shape[0]):
        b = row[q]
        told = (facts[b, 0], facts[b, 1], facts[b, 2])
        _add_cut(out, q, weights, mz, features, starts, b, told, anchor[q], window)
        for place in range(GLOBALS):
            if known[b, place] != 0:
                _add(out, q, weights, CUT_FEATURES + place, known[b, place])
        at = np.float32(anchor[q]) * np.float32(1e-9)
        whole = max(np.float32(told[0]) * np.float32(1e-9), np.float32(0.05))
        first = CUT_FEATURES + GLOBALS
        _add(out, q, weights, first, at)
        _add(out, q, weights, first + 1, whole - at)
        _add(out, q, weights, first + 2, at / whole)


@jit
def _fits(
    forwards: bool, lightest: int, token: int, anchor: int, remaining: int, slack: int
) -> bool:
    """Whether a token fits the precursor and its place, as `DirectedScorer` defines it."""
    closes = abs(remaining) <= slack
    if _MODIFIES[token]:
        return anchor == 0 if forwards else closes
    fits = closes or remaining >= lightest - slack
    if not forwards:
        for modification in _MODIFICATIONS:
            fits = fits or abs(remaining - MASSES[modification]) <= slack
    return fits


@jit
def fitting(layer: Layer, ground: Ground, row: Ints, anchor: Ints) -> tuple[Ints, Ints]:
    """Anchor and token of every candidate that fits, both [K], of anchors [Q]."""
    forwards, lightest, facts = layer.forwards, layer.lightest, ground.facts
    room = row.shape[0] * MASSES.shape[0]
    query, tokens = np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    for q in range(row.shape[0]):
        total, slack = facts[row[q], 0], facts[row[q], 3]
        for token in range(1, MASSES.shape[0]):
            cut = anchor[q] + (MASSES[token] if forwards else -MASSES[token])
            remaining = total - cut if forwards else cut
            if _fits(forwards, lightest, token, anchor[q], remaining, slack):
                query[count], tokens[count] = q, token
                count += 1
    return query[:count], tokens[:count]


@jit
def candidate_rows(
    out: Floats,
    layer: Layer,
    context: Floats,
    named: Floats,
    ground: Ground,
    row: Ints,
    anchor: Ints,
    query: Ints,
    tokens: Ints,
) -> None:
    """Write the first layer of candidates to [K, H].

    ``context`` [Q, H] is of the anchors ``row`` and ``anchor`` [Q], ``named`` [V, H] of the tokens;
    ``query`` and ``tokens`` [K] say which token is put to which anchor.
    """
    weights, forwards, window = layer.weights, layer.forwards, layer.window
    mz, features, starts = ground.mz, ground.features, ground.starts
    nodes, proven, immonium, facts = ground.nodes, ground.proven, ground.immonium, ground.facts
    side = np.empty(SIDE, np.float32)
    for k in range(query.shape[0]):
        q, token = query[k], tokens[k]
        b = row[q]
        told = (facts[b, 0], facts[b, 1], facts[b, 2])
        cut = anchor[q] + (MASSES[token] if forwards else -MASSES[token])
        side[0] = nodes[b, cut // NODE_BIN] if NODE_BIN < cut < told[0] else np.float32(0)
        side[1], side[2] = _ahead(nodes, proven, b, told[0], cut, forwards)
        side[3] = immonium[b, token]
        _tell(side, told[0] - cut if forwards else cut, facts[b, 3], layer.lightest)
        _begin(out, k, weights, context, q, named, token, side)
        _add_cut(out, k, weights, mz, features, starts, b, told, cut, window)


@jit
def _slot(keys: Ints, key: int) -> int:
    """Where a key stands in a table of open addresses, or where it may be put."""
    mask = keys.shape[0] - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
    at: int = np.int64((mixed >> np.uint64(32)) & np.uint64(mask))  # type: ignore[assignment]
    while keys[at] != -1 and keys[at] != key:
        at = (at + 1) & mask
    return at


@jit
def numbered(keys: Ints, numbers: Ints, asked: Ints, known: int) -> tuple[Ints, Ints]:
    """Number the keys [Q] that are asked for, those not seen before from ``known`` on.

    ``keys`` and ``numbers`` are a table whose size is a power of two, -1 where a key is free. The
    numbers come back [Q], and where among those asked the new ones are.
    """
    where, fresh = np.empty(asked.shape[0], np.int64), np.empty(asked.shape[0], np.int64)
    count = 0
    for q in range(asked.shape[0]):
        at = _slot(keys, asked[q])
        if keys[at] == -1:
            keys[at], numbers[at] = asked[q], known + count
            fresh[count] = q
            count += 1
        where[q] = numbers[at]
    return where, fresh[:count].copy()


@jit
def roomier(keys: Ints, numbers: Ints, size: int) -> tuple[Ints, Ints]:
    """The same table in a larger size."""
    more, kept = np.full(size, -1), np.zeros(size, np.int64)
    for at in range(keys.shape[0]):
        if keys[at] != -1:
            to = _slot(more, keys[at])
            more[to], kept[to] = keys[at], numbers[at]
    return more, kept
