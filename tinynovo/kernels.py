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

from tinynovo.cuts import CUT_FEATURES, GLOBALS, NODE_BIN
from tinynovo.lookups import MASSES, MODIFIES, Floats, Ground, Ints, jit
from tinynovo.terms import (
    DENSE,
    DENSE_AT,
    PLAIN_AT,
    add,
    add_cut,
    add_middle,
    ahead_of,
    far_ends,
    seen,
    tell,
)

_MODIFICATIONS = np.flatnonzero(MODIFIES)
_TOKENS = len(MASSES)

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
def _contexts(
    out: Floats, weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints
) -> None:
    """Write what is known of anchors [Q], for all their candidates, to [Q, H]."""
    around, known, first = weights.around, ground.known, CUT_FEATURES + GLOBALS
    hidden, dense = np.zeros_like(out), np.empty((row.shape[0], PLAIN_AT), np.float32)
    for q in range(row.shape[0]):
        b = row[q]
        add_cut(hidden, q, around, ground, b, anchor[q])
        seen(dense, q, ground, b, anchor[q])
        for ion in range(PLAIN_AT):
            add(hidden, q, around, DENSE_AT + ion, dense[q, ion])
        for place in range(GLOBALS):
            if known[b, place] != 0:
                add(hidden, q, around, CUT_FEATURES + place, known[b, place])
        at = np.float32(anchor[q]) * np.float32(1e-9)
        whole = max(np.float32(ground.facts[b, 0]) * np.float32(1e-9), np.float32(0.05))
        add(hidden, q, around, first, at)
        add(hidden, q, around, first + 1, whole - at)
        add(hidden, q, around, first + 2, at / whole)
    gelu(hidden, weights.around_bias)
    np.dot(hidden, weights.beyond, out)
    for q in range(row.shape[0]):
        out[q] += weights.beyond_bias
        add(out, q, weights.past, past[q, 0], _ONE)
        add(out, q, weights.past, _TOKENS + past[q, 1], _ONE)


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
    dense: Floats,
    tokens: Ints,
    weights: Weights,
    ground: Ground,
    context: Floats,
    row: int,
    anchor: int,
    past: Ints,
) -> int:
    """Write the first layer of those of some tokens that fit an anchor to [N, H]; how many do.

    They are moved to the front of ``tokens``. There must be as many rows of ``dense``, [N, DENSE].
    """
    total, slack, forwards = ground.facts[row, 0], ground.facts[row, 3], weights.forwards
    nodes, proven, first = ground.nodes, ground.proven, weights.first
    ends = far_ends(ground, row, anchor, past, forwards)
    count, step = 0, 1 if forwards else -1
    for token in tokens:
        cut = anchor + step * MASSES[token]
        remaining = total - cut if forwards else cut
        if _fits(forwards, weights.lightest, token, anchor, remaining, slack):
            supported = NODE_BIN < cut < total
            seen(dense, count, ground, row, cut)
            dense[count, PLAIN_AT] = nodes[row, cut // NODE_BIN] if supported else np.float32(0)
            best, second = ahead_of(nodes, proven, row, total, cut, forwards)
            dense[count, PLAIN_AT + 1], dense[count, PLAIN_AT + 2] = best, second
            dense[count, PLAIN_AT + 3] = ground.immonium[row, token]
            tell(dense, count, remaining, slack, weights.lightest)
            tokens[count] = token
            count += 1
    np.dot(dense[:count], first[DENSE_AT : DENSE_AT + DENSE], out[:count])
    for n in range(count):
        for h in range(context.shape[0]):
            out[n, h] += context[h] + weights.named[tokens[n], h]
        cut = anchor + step * MASSES[tokens[n]]
        add_cut(out, n, first, ground, row, cut)
        add_middle(out, n, first, ground, row, cut, ends, forwards)
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
    dense = np.empty((_TOKENS, DENSE), np.float32)
    for begin in range(0, count, _FEW):
        end = min(begin + _FEW, count)
        few = slice(begin, end)
        _contexts(context[: end - begin], weights, ground, row[few], anchor[few], past[few])
        for q in range(begin, end):
            tokens[:] = np.arange(_TOKENS)
            about = (context[q - begin], row[q], anchor[q], past[q])
            fit = _candidates(hidden, dense, tokens[1:], weights, ground, *about)
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
    asked, dense = np.empty(_FEW, np.int64), np.empty((1, DENSE), np.float32)
    for begin in range(0, count, _FEW):
        end = min(begin + _FEW, count)
        few = slice(begin, end)
        _contexts(context[: end - begin], weights, ground, row[few], anchor[few], past[few])
        fit = 0
        for q in range(begin, end):
            about = (context[q - begin], row[q], anchor[q], past[q])
            one = tokens[q : q + 1].copy()
            if tokens[q] and _candidates(hidden[fit:], dense, one, weights, ground, *about):
                asked[fit] = q
                fit += 1
        found = _embeddings(hidden[:fit], weights, nothing)
        for n in range(fit):
            out[asked[n]] = found[n]
    return out
