"""Rules: what an answer may be built of.

Compiled, by numba. Knows which tokens may stand where, how likely the permitted ones
are among themselves, and whether the rest of a peptide can be made up at all. Does not know
searches, nor what logits rest on.

Axes: V tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinynovo.compiling import Bits, Floats, Ints, jit
from tinynovo.compositions import CELL, REACH, ROUNDING
from tinynovo.kernels import UNFIT
from tinynovo.lookups import MASSES

_NEGLIGIBLE = np.float32(20)
"""Nats behind the likeliest token from which on one does not count."""


class Rules(NamedTuple):
    """What a peptide may be built of.

    Attributes
    ----------
    first, others : bool [V]
        As in `tinynovo.permitted.Permitted`.
    heads : int64 [heads]
        Micro-dalton of what may stand before the residues.
    sums : int64 [cells + 1]
        Of `tinynovo.compositions.compositions`.
    """

    first: Bits
    others: Bits
    heads: Ints
    sums: Ints


@jit
def log_softmax(
    out: Floats, logits: Floats, at: int, rules: Rules, forwards: bool, anchor: int, slack: int
) -> None:
    """Write the log-probability of each token among those that fit and are permitted to [V].

    That of the others is hardly above `UNFIT`. The logits are a row of [..., V].
    """
    first, others, most = rules.first, rules.others, np.float32(UNFIT)
    for token in range(out.shape[0]):
        begins = anchor == 0 if forwards else abs(anchor - MASSES[token]) <= slack
        may = first[token] if begins else others[token]
        out[token] = logits[at, token] if may else np.float32(UNFIT)
        most = max(most, out[token])
    total = np.float32(0)
    for token in range(out.shape[0]):
        if out[token] > most - _NEGLIGIBLE:
            total += math.exp(out[token] - most)
    if most > UNFIT:
        most += math.log(total)
        for token in range(out.shape[0]):
            out[token] -= most


@jit
def composable(rules: Rules, forwards: bool, remaining: int, window: int) -> bool:
    """Whether residues, and backwards what may stand before them, can make up the rest."""
    sums, heads, room = rules.sums, rules.heads, window + ROUNDING
    cells = sums.shape[0] - 1
    for head in range(1 if forwards else heads.shape[0]):
        left = remaining if forwards else remaining - heads[head]
        if left + room >= REACH:
            return True
        low, high = max((left - room) // CELL, 0), (left + room) // CELL
        if high >= low and sums[min(high, cells - 1) + 1] > sums[min(low, cells)]:
            return True
    return False
