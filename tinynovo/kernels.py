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

from tinynovo.compiling import Floats, Ints, inlined, jit
from tinynovo.cuts import GLOBALS
from tinynovo.lookups import MASSES, Ground
from tinynovo.tellings import fits, tell_place
from tinynovo.terms import (
    DENSE,
    MAIN,
    SEEN_AT,
    add_cuts,
    add_middle,
    far_ends,
    tell_middle,
    tell_seen,
    tell_side,
)

_TOKENS = len(MASSES)
_AROUND = MAIN + GLOBALS + 3

_C0, _C1, _C2 = np.float32(0.156905115), np.float32(-0.0771921575), np.float32(0.054690212)
_C3, _C4, _C5 = np.float32(-0.0401360877), np.float32(0.0283849332), np.float32(-0.018909758)
_C6, _C7, _C8 = np.float32(0.0111206658), np.float32(-0.00541841285), np.float32(0.00311995111)
_C9, _C10 = np.float32(-0.0022578456), np.float32(0.000803874398)
_HALF, _ONE, _END = np.float32(0.5), np.float32(1), np.float32(4.5)
_SCALE = np.float32(2 / 4.5**2)

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
    beside : float32 [DENSE, H]
        The rows of the last that `tinynovo.terms.DENSE` names.
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
    beside: Floats
    second: Floats
    second_bias: Floats
    third: Floats
    third_bias: Floats
    score: Floats
    score_bias: Floats


@jit
def gelu(rows: Floats, bias: Floats) -> None:
    """Put x (1 + erf(x / sqrt 2)) / 2, x with its bias [H] added, in the place of rows [N, H].

    Less x / 2 that is x times an odd function of x, here a polynomial of its square, clamped to
    where it hardly differs from 1 / 2, fitted by least squares at Chebyshev's nodes: off by 4e-6 at
    most, by 3e-6 of x beyond 4.5.
    """
    width = rows.shape[1]
    for n in range(rows.shape[0]):
        row = rows[n]
        for h in range(width):
            x = row[h] + bias[h]
            u = min(max(x, -_END), _END)
            t = u * u * _SCALE - _ONE
            p = (((((_C10 * t + _C9) * t + _C8) * t + _C7) * t + _C6) * t + _C5) * t + _C4
            p = (((p * t + _C3) * t + _C2) * t + _C1) * t + _C0
            row[h] = x * (_HALF + u * p)


@inlined
def _contexts(
    out: Floats, weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints
) -> None:
    """Write what is known of anchors [Q], for all their candidates, to [Q, H]."""
    count, around = row.shape[0], weights.around
    hidden, told = np.empty_like(out), np.empty((count, _AROUND), np.float32)
    for q in range(count):
        b, cut = row[q], anchor[q : q + 1]
        tell_seen(told[q : q + 1], ground, b, cut)
        tell_place(told[q, MAIN:], ground, b, anchor[q])
    np.dot(told, around[SEEN_AT:], hidden)
    for q in range(count):
        add_cuts(hidden[q : q + 1], around, ground, row[q], anchor[q : q + 1])
    gelu(hidden, weights.around_bias)
    np.dot(hidden, weights.beyond, out)
    bias, passed = weights.beyond_bias, weights.past
    for q in range(count):
        one, two = past[q, 0], _TOKENS + past[q, 1]
        for h in range(out.shape[1]):
            out[q, h] += bias[h] + passed[one, h] + passed[two, h]


@inlined
def _candidates(
    out: Floats,
    tokens: Ints,
    weights: Weights,
    ground: Ground,
    context: Floats,
    row: int,
    anchor: int,
    past: Ints,
) -> int:
    """Write the first layer of those of some tokens that fit an anchor to [N, H]; how many do.

    They are moved to the front of ``tokens``.
    """
    total, slack, forwards = ground.facts[row, 0], ground.facts[row, 3], weights.forwards
    cuts, count, step = np.empty_like(tokens), 0, 1 if forwards else -1
    for token in tokens:
        cut = anchor + step * MASSES[token]
        remaining = total - cut if forwards else cut
        if fits(forwards, weights.lightest, token, anchor, remaining, slack):
            tokens[count], cuts[count] = token, cut
            count += 1
    rows, cuts, told = out[:count], cuts[:count], np.empty((count, DENSE.shape[0]), np.float32)
    ends = far_ends(ground, row, anchor, past, forwards)
    tell_seen(told, ground, row, cuts)
    tell_side(told[:, MAIN:], ground, row, cuts, tokens, weights.lightest, forwards)
    tell_middle(told[:, DENSE.shape[0] - 2 :], ground, row, cuts, ends, forwards)
    np.dot(told, weights.beside, rows)
    named = weights.named
    for n in range(count):
        first, own = rows[n], named[tokens[n]]
        for h in range(context.shape[0]):
            first[h] += context[h] + own[h]
    add_cuts(rows, weights.first, ground, row, cuts)
    add_middle(rows, weights.first, ground, row, cuts, ends, forwards)
    return count


@inlined
def _embeddings(found: Floats, half: Floats, hidden: Floats, weights: Weights) -> None:
    """Write the embeddings [N, E] of first layers [N, H]; ``half`` [N, H / 2] is for between."""
    gelu(hidden, np.zeros(hidden.shape[1], np.float32))
    np.dot(hidden, weights.second, half)
    gelu(half, weights.second_bias)
    np.dot(half, weights.third, found)
    bias = weights.third_bias
    for n in range(found.shape[0]):
        row = found[n]
        for place in range(bias.shape[0]):
            row[place] += bias[place]


@inlined
def _scores(out: Floats, found: Floats, tokens: Ints, weights: Weights) -> None:
    """Write the logits of tokens [N], given their embeddings [N, E], to [V]."""
    gelu(found, np.zeros(found.shape[1], np.float32))
    score, bias = weights.score.reshape(-1), weights.score_bias[0]
    for n in range(found.shape[0]):
        total, row = bias, found[n]
        for place in range(score.shape[0]):
            total += row[place] * score[place]
        out[tokens[n]] = total


@jit
def logits(
    weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints, embeddings: Floats
) -> Floats:
    """Logits [Q, V] of the candidates of anchors [Q]; `UNFIT` for those that do not fit.

    Their embeddings are written to ``embeddings``, zeros of [Q, V, E], unless Q is 0 there.
    """
    count, (width, less) = row.shape[0], weights.second.shape
    out = np.full((count, _TOKENS), np.float32(UNFIT))
    context, tokens = np.empty((_FEW, width), np.float32), np.empty(_TOKENS, np.int64)
    hidden, half = np.empty((_TOKENS, width), np.float32), np.empty((_TOKENS, less), np.float32)
    found = np.empty((_TOKENS, weights.third.shape[1]), np.float32)
    for begin in range(0, count, _FEW):
        end = min(begin + _FEW, count)
        few = slice(begin, end)
        _contexts(context[: end - begin], weights, ground, row[few], anchor[few], past[few])
        for q in range(begin, end):
            for token in range(_TOKENS):
                tokens[token] = token
            known, past_of = context[q - begin], past[q]
            fit = _candidates(
                hidden, tokens[1:], weights, ground, known, row[q], anchor[q], past_of
            )
            _embeddings(found[:fit], half[:fit], hidden[:fit], weights)
            if embeddings.shape[0]:
                for n in range(fit):
                    embeddings[q, tokens[1 + n]] = found[n]
            _scores(out[q], found[:fit], tokens[1:], weights)
    return out


@jit
def embeddings(
    weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints, tokens: Ints
) -> Floats:
    """Embeddings [Q, E] of one token at each anchor [Q]; zero where it does not fit."""
    count, (width, less) = row.shape[0], weights.second.shape
    out = np.zeros((count, weights.third.shape[1]), np.float32)
    context, fits = np.empty((_FEW, width), np.float32), np.empty(_FEW, np.int64)
    hidden, half = np.empty((_FEW, width), np.float32), np.empty((_FEW, less), np.float32)
    found, asked = np.empty((_FEW, out.shape[1]), np.float32), np.flatnonzero(tokens)
    for begin in range(0, asked.shape[0], _FEW):
        few = asked[begin : begin + _FEW]
        _contexts(context[: few.shape[0]], weights, ground, row[few], anchor[few], past[few])
        fit = 0
        for n in range(few.shape[0]):
            q = few[n]
            one = tokens[q : q + 1].copy()
            some = hidden[fit:]
            if _candidates(some, one, weights, ground, context[n], row[q], anchor[q], past[q]):
                fits[fit] = q
                fit += 1
        _embeddings(found[:fit], half[:fit], hidden[:fit], weights)
        for n in range(fit):
            out[fits[n]] = found[n]
    return out
