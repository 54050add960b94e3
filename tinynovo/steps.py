"""Steps: how the search of one spectrum from one end goes on from partial answers.

Compiled, by numba. Knows what `tinynovo.searching` does of a stretch, put into parts between which
a scorer is asked: which partial answers are gone on with, what each promises with a token more, and
where it belongs. Does not know the scorer, nor the order of things.

Axes: V tokens, S slots, W beams, K answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.compiling import Floats, Ints, inlined, jit
from tinynovo.lookups import MODIFIES
from tinynovo.partials import NOTHING, STRETCH, Chosen, Partials, best_from, put, rest
from tinynovo.rules import Rules, composable

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
def _finish(task: Task, tree: Partials, parent: int, token: int, score: np.float32) -> None:
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
    ahead = best_from(tree, place) - margin
    low: np.float32 = max(ahead, task.scores[0] - np.float32(task.limits.behind))
    return low


@inlined
def choose(
    some: Chosen, task: Task, tree: Partials, place: int, low: np.float32, least: float
) -> int:
    """Choose the partial answers of a stretch that are given a token more; how many they are."""
    scores, count = task.scores, 0
    for beam in range(tree.held[place]):
        score, node = tree.score[place, beam], tree.node[place, beam]
        if score >= low and score > scores[-1] and score > least:
            some.beam[count], some.anchor[count] = beam, tree.anchor[place, beam]
            some.past[count, 0] = tree.token[node]
            some.past[count, 1] = tree.token[tree.parent[node]]
            count += 1
    return count


@inlined
def promise(
    rules: Rules,
    limits: Limits,
    other: Partials,
    forwards: bool,
    slack: int,
    window: int,
    length: int,
    residues: int,
    cut: int,
    remaining: int,
    reached: np.float32,
    best: np.float32,
) -> np.float32:
    """What a partial answer of so many tokens promises that goes on with one, up to a cut.

    `NOTHING` where it cannot go on, or promises too little beside the best. Where no search from
    the other end guides this one, it promises what it has.
    """
    opens = abs(remaining) > slack and length + 1 < limits.slots
    opens = opens and (limits.shortest - residues) * STRETCH <= remaining + LOST
    if not opens or not composable(rules, forwards, remaining, window):
        whole = NOTHING
    elif best == NOTHING:
        whole = reached
    else:
        whole = reached + rest(other, cut, remaining, window, limits.margin)
        whole = whole if whole >= best - np.float32(limits.guide) else NOTHING
    return whole


@inlined
def settle(
    task: Task,
    tree: Partials,
    width: int,
    window: int,
    node: int,
    token: int,
    residues: int,
    cut: int,
    remaining: int,
    reached: np.float32,
    whole: np.float32,
) -> None:
    """Put an answer with a token more where it belongs: it is done, or goes further."""
    asked = task.limits.shortest <= residues <= task.limits.longest
    if asked and abs(remaining) <= window:
        _finish(task, tree, node, token, reached)
    if whole > NOTHING:
        at = (task.total - remaining + STRETCH) // STRETCH + 1
        if tree.held[at] < width or reached > tree.score[at, width - 1]:
            put(tree, width, at, node, token, cut, reached)
