"""Partials: answers that are not at their end, by the mass of what they have.

Compiled, by numba. Knows which of them compete, and what they tell a search from the
other end. Does not know how they grow.

Axes: N nodes, T stretches, W beams.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.compiling import Bits, Floats, Ints, jit
from tinynovo.lookups import MASSES, MODIFIES

STRETCH = 57_000_000
"""Micro-dalton of mass within which beams compete: hardly less than the lightest residue weighs."""

NOTHING = np.float32(-1e30)
"""Score of what is not there: compiled arithmetic is not meant for infinity."""


class Partials(NamedTuple):
    """Partial answers: a tree of N nodes, and in each of T stretches of mass the best W.

    Attributes
    ----------
    parent, token, length : int64 [N]
        What a node adds a token to, which, and how many there are then. Node 0 is nothing.
    begun : bool [N]
        Whether the first token stands before the residues.
    used : int64 [1]
        Nodes that there are.
    held : int64 [T]
        How many partial answers a stretch has.
    score, anchor, node : [T, W]
    ahead : float32 [T]
        Once all stretches are searched: the best score in each, or in those further on.
    """

    parent: Ints
    token: Ints
    length: Ints
    begun: Bits
    used: Ints
    held: Ints
    score: Floats
    anchor: Ints
    node: Ints
    ahead: Floats


@jit
def stretches(residue_mass: int) -> int:
    """How many there are where residues weigh so much, micro-dalton, that of nothing included."""
    return residue_mass // STRETCH + 4


@jit
def partials(count: int, width: int) -> Partials:
    """Room for so many stretches of so many partial answers."""
    shape, room = (count, width), count * width * MASSES.shape[0] + 1
    held, score = np.zeros(count, np.int64), np.full(shape, NOTHING)
    anchor, node = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    parent, token = np.empty(room, np.int64), np.empty(room, np.int64)
    length, begun = np.empty(room, np.int64), np.empty(room, np.bool_)
    parent[0], token[0], length[0], begun[0] = 0, 0, 0, False
    used = np.ones(1, np.int64)
    ahead = np.full(count, NOTHING)
    return Partials(parent, token, length, begun, used, held, score, anchor, node, ahead)


class Chosen(NamedTuple):
    """Partial answers of a stretch that are given a token more: up to W.

    Attributes
    ----------
    beam, anchor : int64 [W]
        Which of the stretch, and what they weigh.
    past : int64 [W, 2]
        The two tokens passed last, the nearer first.
    """

    beam: Ints
    anchor: Ints
    past: Ints


@jit
def room_for(width: int) -> Chosen:
    """Room for so many chosen ones."""
    beam, anchor = np.zeros(width, np.int64), np.zeros(width, np.int64)
    return Chosen(beam, anchor, np.zeros((width, 2), np.int64))


@jit
def begin(tree: Partials, anchor: int) -> None:
    """Nothing is there but an answer of no token, in the first stretch, at its anchor."""
    for place in range(tree.held.shape[0]):
        tree.held[place], tree.score[place, 0] = 0, NOTHING
    tree.held[0], tree.score[0, 0], tree.used[0] = 1, 0, 1
    tree.anchor[0, 0], tree.node[0, 0] = anchor, 0


@jit
def best_from(score: Floats, place: int) -> np.float32:
    """The best score [T, W] in a stretch, or in those further on."""
    best: np.float32 = score[place, 0]
    for further in range(place + 1, score.shape[0]):
        best = max(best, score[further, 0])
    return best


@jit
def put(
    tree: Partials,
    width: int,
    at: int,
    parent: int,
    token: int,
    cut: int,
    score: np.float32,
) -> None:
    """Put a partial answer with a token more where it stands among so many of a stretch.

    It must be better than the worst of those, where there are as many.
    """
    held, scores, anchors, nodes = tree.held, tree.score, tree.anchor, tree.node
    held[at] = min(held[at] + 1, width)
    n = held[at] - 1
    while n > 0 and scores[at, n - 1] < score:
        scores[at, n], anchors[at, n] = scores[at, n - 1], anchors[at, n - 1]
        nodes[at, n] = nodes[at, n - 1]
        n -= 1
    node, length = tree.used[0], tree.length[parent]
    scores[at, n], anchors[at, n], nodes[at, n] = score, cut, node
    tree.parent[node], tree.token[node] = parent, token
    tree.length[node] = length + 1
    tree.begun[node] = MODIFIES[token] if length == 0 else tree.begun[parent]
    tree.used[0] += 1


@jit
def look_ahead(tree: Partials) -> None:
    """Find `Partials.ahead`."""
    ahead, score = tree.ahead, tree.score
    ahead[-1] = score[-1, 0]
    for place in range(ahead.shape[0] - 2, -1, -1):
        ahead[place] = max(ahead[place + 1], score[place, 0])


@jit
def rest(other: Partials, cut: int, remaining: int, window: int, margin: float) -> np.float32:
    """What a search from the other end says of the rest of an answer, from a cut on.

    That is the score of what it has there, within the window; where it has nothing, less by the
    margin than the best that it has as far.
    """
    held, anchors, scores = other.held, other.anchor, other.score
    first = max((remaining + STRETCH) // STRETCH, 0)
    best: np.float32 = other.ahead[first] - np.float32(margin)
    for place in range(first, min(first + 3, held.shape[0])):
        for beam in range(held[place]):
            if abs(anchors[place, beam] - cut) <= window:
                best = max(best, scores[place, beam])
    return best
