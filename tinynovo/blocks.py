"""Blocks: attention and gated layers over the slots of answers.

Compiled for the CPU, by numba, for inference. Knows the arithmetic of `tinynovo.layers`, which
defines it: tests hold the two against each other. Does not know what stands in slots, nor what
becomes of it.

Products of matrices are left to the BLAS of scipy. A few answers go through a whole block before
the next do, so that what lies between the products does not leave the processor's cache.

Axes: N answers, S slots, R rows: slots of answers, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.compiling import Bits, Floats, jit

EPS = 1e-6
"""What a norm adds to the mean of squares."""

_ROWS = 160
"""So many are gone through together: enough for the products, few enough for the cache."""

_LOG2_E, _LEAST, _MOST = np.float32(1.44269504), np.float32(-100), np.float32(100)
_HALF, _ONE, _NONE = np.float32(0.5), np.float32(1), np.float32(-1e30)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)  # of IEEE 754
_C0, _C1, _C2 = np.float32(1.00000012), np.float32(0.693147182), np.float32(0.240221068)
_C3, _C4, _C5 = np.float32(0.0555032715), np.float32(0.00967603736), np.float32(0.00134004327)


class Block(NamedTuple):
    """The weights of a block; matrices as they multiply rows from the right.

    Attributes
    ----------
    before : bool
        Whether layers are told normed rows and their answer is added to the rows, as encoders do;
        else the sum is normed.
    heads : int
    query, out : float32 [D, D]
    memory : float32 [D, 2 D]
        Keys, then values.
    up : float32 [D, 2 X]
        Gates, then what passes them.
    down : float32 [X, D]
    first, second : float32 [D]
        Of the norms.
    """

    before: bool
    heads: int
    query: Floats
    memory: Floats
    out: Floats
    up: Floats
    down: Floats
    first: Floats
    second: Floats


@jit
def _power(t: np.float32) -> np.float32:
    """2^t, off by 3e-7 of it at most; t lies in -100..100.

    The whole part of t becomes the exponent; of the rest it is a polynomial, fitted by least
    squares at Chebyshev's nodes.
    """
    whole = np.floor(t + _HALF)
    f = t - whole
    p = ((((_C5 * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + _C0
    bits = np.int32((np.int32(whole) + _BIAS) << _MANTISSA)
    power: np.float32 = p * bits.view(np.float32)
    return power


@jit
def _norm(out: Floats, rows: Floats, weight: Floats) -> None:
    """Write rows [R, D] over the root of the mean of their squares, times weights."""
    width = rows.shape[1]
    for r in range(rows.shape[0]):
        total = np.float32(0)
        for h in range(width):
            total += rows[r, h] * rows[r, h]
        scale = _ONE / np.sqrt(total / np.float32(width) + np.float32(EPS))
        for h in range(width):
            out[r, h] = rows[r, h] * scale * weight[h]


@jit
def _gate(out: Floats, rows: Floats) -> None:
    """Write x y / (1 + e^-x), x and y being the halves of rows [R, 2 X], to [R, X]."""
    width = out.shape[1]
    for r in range(out.shape[0]):
        for h in range(width):
            x = rows[r, h]
            t = max(min(-x * _LOG2_E, _MOST), _LEAST)
            out[r, h] = x / (_ONE + _power(t)) * rows[r, width + h]


@jit
def _weigh(scores: Floats, sums: Floats, real: Bits) -> None:
    """Put 2^score, less the most of its row and 0 where not real [S], in its place [S, S].

    What the rows sum up to is written to [S].
    """
    slots = scores.shape[0]
    for j in range(slots):
        if not real[j]:
            for i in range(slots):
                scores[i, j] = _NONE
    for i in range(slots):
        most = _NONE
        for j in range(slots):
            most = max(most, scores[i, j])
        for j in range(slots):
            scores[i, j] = max(scores[i, j] - most, _LEAST)
    flat = scores.reshape(-1)
    for place in range(flat.shape[0]):
        flat[place] = _power(flat[place])
    for i in range(slots):
        total = np.float32(0)
        for j in range(slots):
            total += scores[i, j]
        sums[i] = total


@jit
def _attend(out: Floats, query: Floats, memory: Floats, heads: int, real: Bits) -> None:
    """Write what the slots of answers [N, S] attend to in those that are real to [R, D]."""
    slots, width = real.shape[1], query.shape[1]
    part = width // heads
    scale = _LOG2_E / np.sqrt(np.float32(part))
    shape = (slots, part)
    asked, keys = np.empty(shape, np.float32), np.empty(shape, np.float32)
    values, found = np.empty(shape, np.float32), np.empty(shape, np.float32)
    scores, sums = np.empty((slots, slots), np.float32), np.empty(slots, np.float32)
    for n in range(real.shape[0]):
        own, first = n * slots, 0
        for _ in range(heads):
            for slot in range(slots):
                for h in range(part):
                    asked[slot, h] = query[own + slot, first + h] * scale
                    keys[slot, h] = memory[own + slot, first + h]
                    values[slot, h] = memory[own + slot, width + first + h]
            np.dot(asked, keys.T, scores)
            _weigh(scores, sums, real[n])
            np.dot(scores, values, found)
            for slot in range(slots):
                share = _ONE / sums[slot]
                for h in range(part):
                    out[own + slot, first + h] = found[slot, h] * share
            first += part


@jit
def _add(rows: Floats, more: Floats) -> None:
    for r in range(rows.shape[0]):
        for h in range(rows.shape[1]):
            rows[r, h] += more[r, h]


@jit
def run(rows: Floats, real: Bits, block: Block) -> None:
    """Put what a block makes of rows [R, D] in their place.

    They are the slots of answers, which attend to those that are real, bool [N, S].
    """
    before, heads, query, memory, out, up, down, first, second = block
    slots, width = real.shape[1], rows.shape[1]
    few = max(_ROWS // slots, 1)
    shape = (few * slots, width)
    told, asked, more = (
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
    )
    kept = np.empty((shape[0], 2 * width), np.float32)
    wide = np.empty((shape[0], up.shape[1]), np.float32)
    passed = np.empty((shape[0], down.shape[0]), np.float32)
    for begin in range(0, real.shape[0], few):
        some = real[begin : begin + few]
        x = rows[begin * slots : (begin + some.shape[0]) * slots]
        count = x.shape[0]
        to = told[:count]
        if before:
            _norm(to, x, first)
        else:
            to[:] = x
        np.dot(to, query, asked[:count])
        np.dot(to, memory, kept[:count])
        _attend(to, asked[:count], kept[:count], heads, some)
        np.dot(to, out, more[:count])
        _add(x, more[:count])
        if before:
            _norm(to, x, second)
        else:
            _norm(x, x, first)
            to[:] = x
        np.dot(to, up, wide[:count])
        _gate(passed[:count], wide[:count])
        np.dot(passed[:count], down, more[:count])
        _add(x, more[:count])
        if not before:
            _norm(x, x, second)
