"""Steps: how the search of one spectrum from one end goes on from partial answers.

Compiled, by numba. Knows what `tinynovo.searching` does of a stretch, put into parts between which
a scorer is asked: which partial answers are gone on with, which are whole with a token more, which
may go on, and where they belong. Does not know the scorer, nor the order of things.

Axes: V tokens, S slots, W beams, K answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.compiling import Floats, Ints, inlined, jit
from tinynovo.lookups import MODIFIES
from tinynovo.partials import STRETCH, Chosen, Partials, best_from
from tinynovo.rules import Rules

LOST = 18_000_000
"""Micro-dalton, more than a terminus may have lost."""


class Limits(NamedTuple):
    """How wide and how long is searched, as in `tinynovo.searching.BeamOptions`."""

    beams: int
    candidates: int
    margin: float
    guide: float
    behind: float
    shortest: int
    longest: int
    slots: int


@jit
def room(tokens: Ints, scores: Floats, score: np.float32) -> int:
    """Make room for an answer among the best [K, S], where the worst falls out; -1: none."""
    at: int = scores.shape[0] - 1
    if score <= scores[at]:
        return -1
    while at > 0 and scores[at - 1] < score:
        scores[at] = scores[at - 1]
        for place in range(tokens.shape[1]):
            tokens[at, place] = tokens[at - 1, place]
        at -= 1
    scores[at] = score
    return at


class Task(NamedTuple):
    """One direction's search of a spectrum, and what is done of it.

    Attributes
    ----------
    done, scores : int64 [K, S], float32 [K]
        The best answers so far, in the order that the search goes.
    forwards : bool
    total, slack : int
        Residue mass, and the slack within which an answer closes: micro-dalton.
    rules : Rules
    limits : Limits
    window : int
        As `drafts` takes them.
    other : Partials
        What a search from the other end has found, where there was one.
    best : float32 [1]
        The best that is to be expected of an answer; `NOTHING` where the other end is not known.
    """

    done: Ints
    scores: Floats
    forwards: bool
    total: int
    slack: int
    rules: Rules
    limits: Limits
    window: int
    other: Partials
    best: Floats


@inlined
def finish(task: Task, tree: Partials, parent: int, token: int, score: np.float32) -> None:
    """Put a partial answer with a last token among the best, if it is one of them."""
    at = room(task.done, task.scores, score)
    if at >= 0:
        length = tree.length[parent]
        task.done[at, length:] = 0
        task.done[at, length] = token
        for place in range(length - 1, -1, -1):
            task.done[at, place] = tree.token[parent]
            parent = tree.parent[parent]


@jit
def with_token(length: int, begun: bool, token: int) -> int:
    """Residues of an answer of so many tokens that goes on with one."""
    return length + 1 - np.int64(begun) - np.int64(MODIFIES[token])  # type: ignore[return-value]


@inlined
def low_at(task: Task, tree: Partials, place: int, margin: np.float32) -> np.float32:
    """Score below which a partial answer of a stretch, or one made of it, is dropped."""
    ahead = best_from(tree.score, place) - margin
    low: np.float32 = max(ahead, task.scores[0] - np.float32(task.limits.behind))
    return low


@inlined
def choose(
    some: Chosen, task: Task, tree: Partials, place: int, low: np.float32, least: float
) -> int:
    """Choose the partial answers of a stretch that are given a token more; how many they are."""
    ranked, nodes, anchors, tokens = tree.score, tree.node, tree.anchor, tree.token
    scores, parents, count = task.scores, tree.parent, 0
    beams, begins, past = some.beam, some.anchor, some.past
    for beam in range(tree.held[place]):
        score, node = ranked[place, beam], nodes[place, beam]
        if score >= low and score > scores[-1] and score > least:
            beams[count], begins[count] = beam, anchors[place, beam]
            past[count, 0], past[count, 1] = tokens[node], tokens[parents[node]]
            count += 1
    return count


@jit
def opens(limits: Limits, length: int, residues: int, remaining: int, slack: int) -> bool:
    """Whether an answer of so many tokens may go on with one more, which leaves so much."""
    open_end = abs(remaining) > slack and length + 1 < limits.slots
    return open_end and (limits.shortest - residues) * STRETCH <= remaining + LOST


@jit
def closes(limits: Limits, residues: int, remaining: int, window: int) -> bool:
    """Whether an answer of so many residues that leaves so much is whole."""
    return limits.shortest <= residues <= limits.longest and abs(remaining) <= window


@jit
def stretch_of(total: int, remaining: int) -> int:
    """The stretch that a partial answer belongs to which leaves so much."""
    return (total - remaining + STRETCH) // STRETCH + 1
