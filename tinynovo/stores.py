"""Stores: what a scorer was asked about a batch of spectra, so that it is not asked again.

Compiled for the CPU, by numba. Knows how anchors become keys. Does not know what asks, nor what
the answers rest on.

Axes: Q anchors, V tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo import kernels
from tinynovo.compiling import Floats, Ints, inlined, jit
from tinynovo.kernels import Weights
from tinynovo.lookups import MASSES, Ground

_ANCHOR_BITS = 36


class Store(NamedTuple):
    """A directed scorer and what it was asked: a table of open addresses.

    Attributes
    ----------
    weights : Weights
    keys, numbers : int64 [size]
        What anchors are, -1 for nothing, and the row of the values of each; the size is a power
        of two.
    values : float32 [room, V]
        Logits.
    used : int64 [1]
        Rows that are taken.
    """

    weights: Weights
    keys: Ints
    numbers: Ints
    values: Floats
    used: Ints


def opened(weights: Weights) -> Store:
    """A store in which nothing is known."""
    nothing = np.empty(0, np.int64)
    return roomier(Store(weights, nothing, nothing, _values(0), np.zeros(1, np.int64)), 512)


def roomier(store: Store, more: int) -> Store:
    """A store that has room for so many more anchors: the same where it has."""
    known = int(store.used[0])
    if known + more <= len(store.values):
        return store
    room = 1 << (known + more).bit_length()
    keys, numbers = np.full(2 * room, -1), np.zeros(2 * room, np.int64)
    _move(store.keys, store.numbers, keys, numbers)
    values = _values(room)
    values[:known] = store.values[:known]
    return Store(store.weights, keys, numbers, values, store.used)


def _values(room: int) -> Floats:
    return np.empty((room, len(MASSES)), np.float32)


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
def _move(keys: Ints, numbers: Ints, to_keys: Ints, to_numbers: Ints) -> None:
    """Put what is in one table into another."""
    for at in range(keys.shape[0]):
        if keys[at] != -1:
            to = _slot(to_keys, keys[at])
            to_keys[to], to_numbers[to] = keys[at], numbers[at]


@inlined
def ask(store: Store, ground: Ground, row: Ints, anchor: Ints, past: Ints) -> Ints:
    """Rows of the values of anchors [Q], tokens passed [Q, 2]; there must be room for as many."""
    count, half = row.shape[0], 1 << (_ANCHOR_BITS - 1)
    where, new = np.empty(count, np.int64), np.empty(count, np.int64)
    fresh = 0
    for q in range(count):
        place = min(max(anchor[q], -half), half - 1) + half
        key = (((((row[q] << _ANCHOR_BITS) | place) << 5) | past[q, 0]) << 5) | past[q, 1]
        at = _slot(store.keys, key)
        if store.keys[at] == -1:
            store.keys[at], store.numbers[at] = key, store.used[0] + fresh
            new[fresh] = q
            fresh += 1
        where[q] = store.numbers[at]
    if fresh:
        new = new[:fresh]
        nothing = np.empty((0, 0, 0), np.float32)
        told = kernels.logits(store.weights, ground, row[new], anchor[new], past[new], nothing)
        store.values[store.used[0] : store.used[0] + fresh] = told
        store.used[0] += fresh
    return where
