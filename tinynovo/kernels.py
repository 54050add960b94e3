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

_FEW = 4
"""Anchors that are asked about together, at most: few enough that all stays in the cache."""

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
        for h in range(width):
            x = rows[n, h] + bias[h]
            u = min(max(x, -_END), _END)
            t = u * u * _SCALE - _ONE
            p = (((((_C10 * t + _C9) * t + _C8) * t + _C7) * t + _C6) * t + _C5) * t + _C4
            p = (((p * t + _C3) * t + _C2) * t + _C1) * t + _C0
            rows[n, h] = x * (_HALF + u * p)


@inlined
def _contexts(
    out: Floats, weights: Weights, ground: Ground, row: int, anchor: Ints, past: Ints
) -> None:
    """Write what is known of anchors [Q], for all their candidates, to [Q, H]."""
    hidden, told = np.empty_like(out), np.empty((anchor.shape[0], _AROUND), np.float32)
    tell_seen(told, ground, row, anchor)
    tell_place(told[:, MAIN:], ground, row, anchor)
    np.dot(told, weights.around[SEEN_AT:], hidden)
    add_cuts(hidden, weights.around, ground, row, anchor)
    gelu(hidden, weights.around_bias)
    np.dot(hidden, weights.beyond, out)
    bias, passed = weights.beyond_bias, weights.past
    for q in range(out.shape[0]):
        one, two = past[q, 0], _TOKENS + past[q, 1]
        for h in range(out.shape[1]):
            out[q, h] += bias[h] + passed[one, h] + passed[two, h]


@inlined
def _fitting(
    of: Ints,
    tokens: Ints,
    cuts: Ints,
    ends: Ints,
    weights: Weights,
    ground: Ground,
    row: int,
    anchor: Ints,
    past: Ints,
    wanted: Ints,
) -> int:
    """Write which candidates of anchors [Q] fit: their anchors, tokens, cuts; how many they are.

    ``wanted`` [Q] are the tokens that are asked about, 0 for all; ``ends`` [N, 2] are those of
    `far_ends`.
    """
    total, slack, count = ground.facts[row, 0], ground.facts[row, 3], 0
    forwards, lightest, masses = weights.forwards, weights.lightest, MASSES
    step = 1 if forwards else -1
    for q in range(anchor.shape[0]):
        one, two = far_ends(ground, row, anchor[q], past[q, 0], past[q, 1], forwards)
        only = wanted[q]
        for token in range(only or 1, only + 1 if only else _TOKENS):
            cut = anchor[q] + step * masses[token]
            remaining = total - cut if forwards else cut
            if fits(forwards, lightest, token, anchor[q], remaining, slack):
                of[count], tokens[count], cuts[count] = q, token, cut
                ends[count, 0], ends[count, 1] = one, two
                count += 1
    return count


@inlined
def _first(
    out: Floats,
    of: Ints,
    tokens: Ints,
    cuts: Ints,
    ends: Ints,
    weights: Weights,
    ground: Ground,
    row: int,
    context: Floats,
) -> None:
    """Write the first layer of candidates [N], given the contexts of their anchors, to [N, H]."""
    forwards, named = weights.forwards, weights.named
    told = np.empty((out.shape[0], DENSE.shape[0]), np.float32)
    tell_seen(told, ground, row, cuts)
    tell_side(told[:, MAIN:], ground, row, cuts, tokens, weights.lightest, forwards)
    tell_middle(told[:, DENSE.shape[0] - 2 :], ground, row, cuts, ends, forwards)
    np.dot(told, weights.beside, out)
    for n in range(out.shape[0]):
        q, token = of[n], tokens[n]
        for h in range(out.shape[1]):
            out[n, h] += context[q, h] + named[token, h]
    add_cuts(out, weights.first, ground, row, cuts)
    add_middle(out, weights.first, ground, row, cuts, ends, forwards)


@inlined
def _embedded(
    found: Floats,
    of: Ints,
    tokens: Ints,
    weights: Weights,
    ground: Ground,
    row: int,
    anchor: Ints,
    past: Ints,
    wanted: Ints,
) -> int:
    """Write the embeddings of the candidates of anchors [Q] that fit to [N, E]; how many they are.

    Also the anchor and the token of each, to [N]. The others are as for `_fitting`.
    """
    width, less = weights.second.shape
    room, count = of.shape[0], anchor.shape[0]
    cuts, ends = np.empty(room, np.int64), np.empty((room, 2), np.int64)
    fit = _fitting(of, tokens, cuts, ends, weights, ground, row, anchor, past, wanted)
    context = np.empty((count, width), np.float32)
    _contexts(context, weights, ground, row, anchor, past)
    hidden, half = np.empty((fit, width), np.float32), np.empty((fit, less), np.float32)
    _first(hidden, of[:fit], tokens[:fit], cuts[:fit], ends[:fit], weights, ground, row, context)
    gelu(hidden, np.zeros(width, np.float32))
    np.dot(hidden, weights.second, half)
    gelu(half, weights.second_bias)
    np.dot(half, weights.third, found[:fit])
    bias = weights.third_bias
    for n in range(fit):
        for place in range(bias.shape[0]):
            found[n, place] += bias[place]
    return fit


@inlined
def _together(row: Ints, begin: int, most: int) -> int:
    """Where a handful of anchors of one spectrum ends that begins here."""
    end, last = begin + 1, min(begin + most, row.shape[0])
    while end < last and row[end] == row[begin]:
        end += 1
    return end


@jit
def logits(
    weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints, embeddings: Floats
) -> Floats:
    """Logits [Q, V] of the candidates of anchors [Q]; `UNFIT` for those that do not fit.

    Their embeddings are written to ``embeddings``, zeros of [Q, V, E], unless Q is 0 there.
    """
    count, room = row.shape[0], min(row.shape[0], _FEW) * (_TOKENS - 1)
    out = np.full((count, _TOKENS), np.float32(UNFIT))
    of, tokens = np.empty(room, np.int64), np.empty(room, np.int64)
    found = np.empty((room, weights.third.shape[1]), np.float32)
    score, bias, wanted = weights.score, weights.score_bias[0], np.zeros(_FEW, np.int64)
    end = 0
    while end < count:
        begin, end = end, _together(row, end, _FEW)
        few, own = slice(begin, end), row[begin]
        fit = _embedded(found, of, tokens, weights, ground, own, anchor[few], past[few], wanted)
        if embeddings.shape[0]:
            for n in range(fit):
                embeddings[begin + of[n], tokens[n]] = found[n]
        gelu(found[:fit], np.zeros(found.shape[1], np.float32))
        for n in range(fit):
            total = bias
            for place in range(score.shape[0]):
                total += found[n, place] * score[place, 0]
            out[begin + of[n], tokens[n]] = total
    return out


@jit
def embeddings(
    weights: Weights, ground: Ground, row: Ints, anchor: Ints, past: Ints, tokens: Ints
) -> Floats:
    """Embeddings [Q, E] of one token at each anchor [Q]; zero where it does not fit."""
    out = np.zeros((row.shape[0], weights.third.shape[1]), np.float32)
    of, told, found = np.empty(_FEW, np.int64), np.empty(_FEW, np.int64), np.empty_like(out[:_FEW])
    asked = np.flatnonzero(tokens)
    rows, end = row[asked], 0
    while end < asked.shape[0]:
        begin, end = end, _together(rows, end, _FEW)
        few, own = asked[begin:end], rows[begin]
        fit = _embedded(found, of, told, weights, ground, own, anchor[few], past[few], tokens[few])
        for n in range(fit):
            out[few[of[n]]] = found[n]
    return out
