"""Kernels: a directed scorer, asked about anchors, from look-up to logit in one go.

Compiled for the CPU, by numba, for inference. Knows the arithmetic of `tinynovo.evidence` and of
`tinynovo.scorer`, which define it: tests hold them against each other. Does not know what weights
mean, nor where anchors come from.

Most cuts hit few peaks, so that most of their features are zero. Only the rows of weights whose
features are not are added up, nothing between look-up and logit leaves the processor's cache, and
no question is answered twice.

Axes: B spectra, P peaks, Q anchors, V tokens, H hidden features, E features of an embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.cuts import CUT_FEATURES, ERRORS, FEW, GLOBALS, HIGH_IONS, IONS, MAIN_IONS, NODE_BIN
from tinynovo.lookups import MASSES, PLAIN, Bits, Floats, Ground, Ints, jit, may_hit, nearest
from tinynovo.masses import PROTON, WATER, residue_table, udalton

_PROTON, _WATER = udalton(PROTON), udalton(WATER)
_MAIN, _HIGH, _ALL = len(MAIN_IONS), len(HIGH_IONS), len(IONS)
_SEEN = CUT_FEATURES - _MAIN
_CHARGES = np.array([charge for _, charge, _ in IONS])
_LOST = np.array([udalton(lost) for _, _, lost in IONS])
_FROM_C = np.array([series == "y" for series, _, _ in IONS])
MODIFIES = np.array([False, *(row.n_terminal for row in residue_table().values())])
_MODIFICATIONS = np.flatnonzero(MODIFIES)
_TOKENS = len(MASSES)
_PLAIN_CELLS, _PLAIN_REST = PLAIN // NODE_BIN, PLAIN % NODE_BIN

_P0, _P1, _P2 = np.float32(1.12838151), np.float32(0.369416205), np.float32(0.0732323338)
_P3, _P4, _P5 = np.float32(0.0104415678), np.float32(0.000262807691), np.float32(-1.49488217e-06)
_Q1, _Q2 = np.float32(0.660727349), np.float32(0.185155119)
_Q3, _Q4 = np.float32(0.0286481663), np.float32(0.00244950918)
_HALF, _ONE = np.float32(0.5), np.float32(1)
_ROOT_HALF, _END = np.float32(0.5**0.5), np.float32(3.9)

_FEW = 8
"""Anchors whose contexts are made together: few enough that the matrices stay on one thread."""

UNFIT = -1e4
"""Logit of what does not fit."""

SIDE = 10
"""Features of a candidate beside those of its cut."""


class Weights(NamedTuple):
    """A directed scorer: its weights, input by input, and what it is asked about.

    Attributes
    ----------
    forwards : bool
    lightest : int
        Mass of the lightest residue, micro-dalton.
    around, around_bias : float32 [inputs, H], [H]
        First layer of what is known of an anchor.
    beyond, beyond_bias : float32 [H, H], [H]
        Second layer of it.
    past : float32 [2 V, H]
        The two tokens passed last, the nearer first.
    named : float32 [V, H]
        Tokens, and the bias of the first layer.
    first : float32 [inputs, H]
    second, second_bias : float32 [H, H / 2], [H / 2]
    third, third_bias : float32 [H / 2, E], [E]
    score, score_bias : float32 [E, 1], [1]
    """

    forwards: bool
    lightest: int
    around: Floats
    around_bias: Floats
    beyond: Floats
    beyond_bias: Floats
    past: Floats
    named: Floats
    first: Floats
    second: Floats
    second_bias: Floats
    third: Floats
    third_bias: Floats
    score: Floats
    score_bias: Floats


@jit
def gelu(rows: Floats, bias: Floats) -> None:
    """Put x (1 + erf(x / sqrt 2)) / 2, x with its bias [H] added, in the place of rows [N, H].

    The error function is a rational function of its argument, clamped to where it is 1 in
    float32, fitted by least squares at Chebyshev's nodes: off by 1e-6 at most.
    """
    for n in range(rows.shape[0]):
        for h in range(rows.shape[1]):
            x = rows[n, h] + bias[h]
            u = min(max(x * _ROOT_HALF, -_END), _END)
            t = u * u
            above = ((((_P5 * t + _P4) * t + _P3) * t + _P2) * t + _P1) * t + _P0
            below = (((_Q4 * t + _Q3) * t + _Q2) * t + _Q1) * t + _ONE
            rows[n, h] = x * (_HALF + _HALF * u * above / below)


@jit
def _add(out: Floats, weights: Floats, row: int, factor: np.float32) -> None:
    """Add a row of weights [I, H], times a factor, to [H]."""
    for h in range(out.shape[0]):
        out[h] += factor * weights[row, h]


@jit
def _add_peak(
    out: Floats,
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
            _add(out, weights, first + feature, value)
    if ion < _MAIN + _HIGH:
        _add(out, weights, first + told, error)
        _add(out, weights, first + told + 1, abs(error))
        _add(out, weights, first + told + 2, np.float32(1))


@jit
def _add_cut(out: Floats, weights: Floats, ground: Ground, row: int, cut: int) -> None:
    """Add the features of a cut, times their weights, to [H]."""
    window = ground.window
    mz, features, starts, facts = ground.mz, ground.features, ground.starts, ground.facts
    total, charge, top = facts[row, 0], facts[row, 1], facts[row, 2]
    inside = 0 < cut < total
    seen = np.zeros(_MAIN, np.float32)
    for ion in range(_ALL):
        neutral = (total - cut + _WATER if _FROM_C[ion] else cut) + _LOST[ion]
        if _CHARGES[ion] == 2:
            neutral >>= 1
        elif _CHARGES[ion] == 3:
            neutral //= 3
        query = max(neutral + _PROTON, 0)
        if ion < _MAIN:
            seen[ion] = np.float32(mz[row, 0] <= query <= top)
        asked = charge > 2 or ion < _MAIN or ion >= _MAIN + _HIGH
        if inside and asked and may_hit(ground.near, row, query):
            place = nearest(mz, starts, row, query)
            distance = mz[row, place] - query
            width = np.int64(np.float32(query) * np.float32(window[0])) + window[1]
            if abs(distance) <= width:
                error = np.float32(distance) / np.float32(width)
                _add_peak(out, weights, features, row, place, ion, error)
    s0, s1, s2, s3 = seen[0], seen[1], seen[2], seen[3]
    w, at = weights, _SEEN
    for h in range(out.shape[0]):
        out[h] += s0 * w[at, h] + s1 * w[at + 1, h] + s2 * w[at + 2, h] + s3 * w[at + 3, h]


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
def _begin(out: Floats, w: Floats, context: Floats, named: Floats, side: Floats) -> None:
    """Write what is never zero: an anchor's context, a token's name, the side features."""
    c = CUT_FEATURES
    a0, a1, a2, a3, a4 = side[0], side[1], side[2], side[3], side[4]
    a5, a6, a7, a8, a9 = side[5], side[6], side[7], side[8], side[9]
    for h in range(out.shape[0]):
        one = a0 * w[c, h] + a1 * w[c + 1, h] + a2 * w[c + 2, h] + a3 * w[c + 3, h]
        two = a4 * w[c + 4, h] + a5 * w[c + 5, h] + a6 * w[c + 6, h]
        three = a7 * w[c + 7, h] + a8 * w[c + 8, h] + a9 * w[c + 9, h]
        out[h] = context[h] + named[h] + one + two + three


@jit
def _contexts(
    out: Floats, weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints
) -> None:
    """Write what is known of anchors [Q], for all their candidates, to [Q, H]."""
    around, known, first = weights.around, ground.known, CUT_FEATURES + GLOBALS
    hidden = np.zeros_like(out)
    for q in range(row.shape[0]):
        b = row[q]
        _add_cut(hidden[q], around, ground, b, anchor[q])
        for place in range(GLOBALS):
            if known[b, place] != 0:
                _add(hidden[q], around, CUT_FEATURES + place, known[b, place])
        at = np.float32(anchor[q]) * np.float32(1e-9)
        whole = max(np.float32(ground.facts[b, 0]) * np.float32(1e-9), np.float32(0.05))
        _add(hidden[q], around, first, at)
        _add(hidden[q], around, first + 1, whole - at)
        _add(hidden[q], around, first + 2, at / whole)
    gelu(hidden, weights.around_bias)
    np.dot(hidden, weights.beyond, out)
    for q in range(row.shape[0]):
        out[q] += weights.beyond_bias
        _add(out[q], weights.past, past[q, 0], _ONE)
        _add(out[q], weights.past, _TOKENS + past[q, 1], _ONE)


@jit
def _fits(
    forwards: bool, lightest: int, token: int, anchor: int, remaining: int, slack: int
) -> bool:
    """Whether a token fits the precursor and its place, as `DirectedScorer` defines it."""
    closes = abs(remaining) <= slack
    if MODIFIES[token]:
        return anchor == 0 if forwards else closes
    fits = closes or remaining >= lightest - slack
    if not forwards:
        for modification in _MODIFICATIONS:
            fits = fits or abs(remaining - MASSES[modification]) <= slack
    return fits


@jit
def _candidates(
    out: Floats,
    tokens: Ints,
    weights: Weights,
    ground: Ground,
    context: Floats,
    row: int,
    anchor: int,
) -> int:
    """Write the first layer of those of some tokens that fit an anchor to [N, H]; how many do.

    They are moved to the front of ``tokens``.
    """
    total, slack, forwards = ground.facts[row, 0], ground.facts[row, 3], weights.forwards
    nodes, proven, first = ground.nodes, ground.proven, weights.first
    side = np.empty(SIDE, np.float32)
    count = 0
    for token in tokens:
        cut = anchor + (MASSES[token] if forwards else -MASSES[token])
        remaining = total - cut if forwards else cut
        if _fits(forwards, weights.lightest, token, anchor, remaining, slack):
            side[0] = nodes[row, cut // NODE_BIN] if NODE_BIN < cut < total else np.float32(0)
            side[1], side[2] = _ahead(nodes, proven, row, total, cut, forwards)
            side[3] = ground.immonium[row, token]
            _tell(side, remaining, slack, weights.lightest)
            _begin(out[count], first, context, weights.named[token], side)
            _add_cut(out[count], first, ground, row, cut)
            tokens[count] = token
            count += 1
    return count


@jit
def _embeddings(hidden: Floats, weights: Weights, nothing: Floats) -> Floats:
    """First layer [N, H] to embeddings [N, E]."""
    gelu(hidden, nothing)
    half = np.dot(hidden, weights.second)
    gelu(half, weights.second_bias)
    found: Floats = np.dot(half, weights.third) + weights.third_bias
    return found


@jit
def logits(
    weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints, embeddings: Floats
) -> Floats:
    """Logits [Q, V] of the candidates of anchors [Q]; `UNFIT` for those that do not fit.

    Their embeddings are written to ``embeddings``, zeros of [Q, V, E], unless Q is 0 there.
    """
    count, width = row.shape[0], weights.first.shape[1]
    out = np.full((count, _TOKENS), np.float32(UNFIT))
    context, nothing = np.empty((_FEW, width), np.float32), np.zeros(width, np.float32)
    hidden, tokens = np.empty((_TOKENS, width), np.float32), np.empty(_TOKENS, np.int64)
    for begin in range(0, count, _FEW):
        end = min(begin + _FEW, count)
        few = slice(begin, end)
        _contexts(context[: end - begin], weights, ground, row[few], anchor[few], past[few])
        for q in range(begin, end):
            tokens[:] = np.arange(_TOKENS)
            about = (context[q - begin], row[q], anchor[q])
            fit = _candidates(hidden, tokens[1:], weights, ground, *about)
            found = _embeddings(hidden[:fit], weights, nothing)
            if embeddings.shape[0]:
                for n in range(fit):
                    embeddings[q, tokens[1 + n]] = found[n]
            gelu(found, nothing)
            logit = np.dot(found, weights.score)
            for n in range(fit):
                out[q, tokens[1 + n]] = logit[n, 0] + weights.score_bias[0]
    return out


@jit
def embeddings(
    weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints, tokens: Ints
) -> Floats:
    """Embeddings [Q, E] of one token at each anchor [Q]; zero where it does not fit."""
    count, (width, _) = row.shape[0], weights.beyond.shape
    out = np.zeros((count, weights.third.shape[1]), np.float32)
    context, nothing = np.empty((_FEW, width), np.float32), np.zeros(width, np.float32)
    hidden = np.empty((_FEW, width), np.float32)
    asked = np.empty(_FEW, np.int64)
    for begin in range(0, count, _FEW):
        end = min(begin + _FEW, count)
        few = slice(begin, end)
        _contexts(context[: end - begin], weights, ground, row[few], anchor[few], past[few])
        fit = 0
        for q in range(begin, end):
            about = (context[q - begin], row[q], anchor[q])
            one = tokens[q : q + 1].copy()
            if tokens[q] and _candidates(hidden[fit:], one, weights, ground, *about):
                asked[fit] = q
                fit += 1
        found = _embeddings(hidden[:fit], weights, nothing)
        for n in range(fit):
            out[asked[n]] = found[n]
    return out
