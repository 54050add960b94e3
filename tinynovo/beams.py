"""Beams: drafts of one spectrum, searched from both ends and scored in both directions.

Compiled for the CPU, by numba. Knows the search that `tinynovo.searching` and `tinynovo.decoding`
define: tests hold them against each other. Does not know what the scorer rests on, nor what becomes
of drafts.

Axes: Q anchors, V tokens, S slots, W beams, K answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.kernels import UNFIT
from tinynovo.lookups import MASSES, MODIFIES, Floats, Ground, Ints, inlined, jit
from tinynovo.partials import (
    NOTHING,
    STRETCH,
    Partials,
    look_ahead,
    partials,
    put,
    rest,
    stretches,
)
from tinynovo.rules import Rules, composable, log_softmax
from tinynovo.stores import Store, ask

LOST = 18_000_000
"""Micro-dalton, more than a terminus may have lost."""

FALLBACK = 16
"""Beams, at least, where fewer found nothing; without a margin."""

UNLIMITED = 1e6
"""Nats from which on a limit is none."""

_NARROW = 6
"""What the number of beams is divided by in the first, narrow search."""

_UNKNOWN = np.float32(1e30)


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
def narrowed(beams: int) -> int:
    """Beams of the first, narrow search."""
    return beams // _NARROW + 1


@jit
def _room(tokens: Ints, scores: Floats, score: np.float32) -> int:
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
    store : Store
    ground : Ground
    row : int
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
    store: Store
    ground: Ground
    row: int
    rules: Rules
    limits: Limits
    window: int
    other: Partials
    best: Floats


@inlined
def _finish(task: Task, tree: Partials, parent: int, token: int, score: np.float32) -> None:
    """Put a partial answer with a last token among the best, if it is one of them."""
    at = _room(task.done, task.scores, score)
    if at >= 0:
        length = tree.length[parent]
        task.done[at, length:] = 0
        task.done[at, length] = token
        for place in range(length - 1, -1, -1):
            task.done[at, place] = tree.token[parent]
            parent = tree.parent[parent]


@inlined
def _lengthen(
    tree: Partials, width: int, place: int, task: Task, low: np.float32, least: float
) -> None:
    """Give the partial answers of a stretch one token more: they are done, or go further.

    Those below the low one are dropped.
    """
    scores, store, ground, row, rules, limits = task[1:7]
    other = task.other
    guided, least_whole = task.best[0] > NOTHING, task.best[0] - np.float32(limits.guide)
    forwards, total = store.weights.forwards, ground.facts[row, 0]
    slack, step = ground.facts[row, 3], 1 if forwards else -1
    window, held, ranked = min(task.window, slack), tree.held, tree.score
    alive, anchor = np.empty(held[place], np.int64), np.empty(held[place], np.int64)
    past, count = np.zeros((held[place], 2), np.int64), 0
    for beam in range(held[place]):
        score, node = tree.score[place, beam], tree.node[place, beam]
        if score >= low and score > scores[-1] and score > least:
            alive[count], anchor[count] = beam, tree.anchor[place, beam]
            past[count, 0] = tree.token[node]
            past[count, 1] = tree.token[tree.parent[node]]
            count += 1
    where = ask(store, ground, np.full(count, row), anchor[:count], past[:count])
    value, values = np.empty(MASSES.shape[0], np.float32), store.values
    for n in range(count):
        base, node = tree.score[place, alive[n]], tree.node[place, alive[n]]
        length, begun = tree.length[node], tree.begun[node]
        log_softmax(value, values, where[n], rules, forwards, anchor[n], slack)
        for token in range(value.shape[0]):
            reached = base + value[token]
            if value[token] <= UNFIT / 2 or reached < low:
                continue
            if reached <= scores[-1] or reached <= least:
                continue
            cut = anchor[n] + step * MASSES[token]
            remaining = total - cut if forwards else cut
            residues = length + 1 - np.int64(begun) - np.int64(MODIFIES[token])
            asked = limits.shortest <= residues <= limits.longest
            if asked and abs(remaining) <= window:
                _finish(task, tree, node, token, reached)
            opens = abs(remaining) > slack and length + 1 < limits.slots
            opens = opens and (limits.shortest - residues) * STRETCH <= remaining + LOST
            if opens and composable(rules, forwards, remaining, window):
                at = (total - remaining + STRETCH) // STRETCH + 1
                if guided:
                    whole = reached + rest(other, cut, remaining, window, limits.margin)
                    if whole < least_whole:
                        continue
                    task.best[0] = max(task.best[0], whole)
                if held[at] < width or reached > ranked[at, width - 1]:
                    put(tree, width, at, node, token, cut, reached)


@jit
def _sweep(task: Task, tree: Partials, width: int, margin: np.float32, least: float) -> None:
    """Search all stretches, one after the other, with so many beams in each.

    The first is that of nothing alone.
    """
    scores, total = task.scores, task.ground.facts[task.row, 0]
    held, score = tree.held, tree.score
    held[:] = 0
    score[:, 0] = NOTHING
    held[0], score[0, 0], tree.used[0] = 1, 0, 1
    tree.anchor[0, 0] = 0 if task.store.weights.forwards else total
    tree.node[0, 0] = 0
    for place in range(stretches(total)):
        if held[place]:
            ahead = score[place:, 0].max() - margin
            low = max(ahead, scores[0] - np.float32(task.limits.behind))
            _lengthen(tree, width, place, task, low, least)
    look_ahead(tree)


@inlined
def _search(task: Task, tree: Partials, least: float) -> None:
    """Search for what exceeds a log-probability.

    Where all that might have come to an end was given up, it is searched again, more widely.
    """
    width, margin = task.limits.beams, np.float32(task.limits.margin)
    if least > NOTHING:
        width = (width + 1) // 2
    _sweep(task, tree, width, margin, least)
    if task.scores[0] == NOTHING and least <= NOTHING:
        _sweep(task, tree, max(width, FALLBACK), -NOTHING, least)


@jit
def _length(tokens: Ints) -> int:
    return np.count_nonzero(tokens)  # type: ignore[return-value]


@inlined
def _along(
    store: Store, ground: Ground, row: int, rules: Rules, tokens: Ints, bound: float
) -> np.float32:
    """Log-probability of an answer [S] in one direction; given up when not above the bound."""
    forwards = store.weights.forwards
    slack, length = ground.facts[row, 3], _length(tokens)
    anchor = np.array([0 if forwards else ground.facts[row, 0]])
    past, rows = np.zeros((1, 2), np.int64), np.array([row])
    value, total = np.empty(MASSES.shape[0], np.float32), np.float32(0)
    for place in range(length):
        token = tokens[place if forwards else length - 1 - place]
        where = ask(store, ground, rows, anchor, past)
        log_softmax(value, store.values, where[0], rules, forwards, anchor[0], slack)
        total += value[token]
        if total <= bound:
            return NOTHING
        anchor[0] += MASSES[token] if forwards else -MASSES[token]
        past[0, 1], past[0, 0] = past[0, 0], token
    return total


@inlined
def _found(
    trees: tuple[Partials, Partials],
    one: Store,
    two: Store,
    ground: Ground,
    row: int,
    rules: Rules,
    limits: Limits,
    window: int,
    least: float,
) -> tuple[Ints, Floats]:
    """Different answers of both searches [2 K, S], and what each direction says, [2 K, 2].

    What a direction was not asked is `_UNKNOWN`. Where what is to be expected of answers limits the
    searches, the first is guided by a narrow one from the other end, the second by the first.
    """
    few = limits.candidates
    tokens = np.zeros((2 * few, limits.slots), np.int64)
    told, best = np.full((2 * few, 2), NOTHING), np.full(1, NOTHING)
    about = (ground, row, rules, limits, window)
    first = Task(tokens[:few], told[:few, 0], one, *about, trees[1], best)
    second = Task(tokens[few:], told[few:, 1], two, *about, trees[0], best)
    if limits.guide < UNLIMITED:
        _sweep(second, trees[1], narrowed(limits.beams), np.float32(limits.margin), least)
        best[0], second.scores[:], second.done[:] = second.scores[0], NOTHING, 0
    _search(first, trees[0], least)
    if limits.guide < UNLIMITED:
        best[0] = first.scores[0]
    _search(second, trees[1], least)
    for n in range(2 * few):
        if n >= few:
            length = _length(tokens[n])
            tokens[n, :length] = tokens[n, :length][::-1].copy()
        own = 0 if n < few else 1
        told[n, 1 - own] = _UNKNOWN if told[n, own] > NOTHING else NOTHING
    for n in range(few):
        for m in range(few, 2 * few):
            if told[m, 1] > NOTHING and (tokens[n] == tokens[m]).all():
                told[n, 1], told[m, :] = told[m, 1], NOTHING
    return tokens, told


@inlined
def _draft(
    best: Ints,
    scores: Floats,
    trees: tuple[Partials, Partials],
    one: Store,
    two: Store,
    ground: Ground,
    row: int,
    rules: Rules,
    limits: Limits,
    window: int,
    least: float,
) -> None:
    """Write the best answers to a spectrum to [K, S], in order, and their scores to [K]."""
    tokens, told = _found(trees, one, two, ground, row, rules, limits, window, least)
    own = np.empty(told.shape[0], np.float32)
    for n in range(own.shape[0]):
        own[n] = told[n, 1] if told[n, 0] == _UNKNOWN else told[n, 0]
    while own.max() > NOTHING:
        at = own.argmax()
        score, own[at] = own[at], NOTHING
        bound = max(least, scores[0] - limits.behind, scores[-1])
        for side in range(2):
            if told[at, side] == _UNKNOWN:
                store = one if side == 0 else two
                told[at, side] = _along(store, ground, row, rules, tokens[at], 2 * bound - score)
        mean = (told[at, 0] + told[at, 1]) / np.float32(2)
        if mean > bound:
            best[_room(best, scores, mean)] = tokens[at]
    for n in range(1, limits.candidates):
        if scores[n] < scores[0] - limits.behind:
            best[n], scores[n] = 0, NOTHING


@jit
def drafts(
    one: Store,
    two: Store,
    ground: Ground,
    rules: Rules,
    limits: Limits,
    window: Ints,
    least: Floats,
) -> tuple[Ints, Floats]:
    """The best answers to spectra [B, K, S], in order, and their scores [B, K].

    Parameters
    ----------
    one, two : Store
        Forwards and backwards, with room for all that may be asked.
    ground : Ground
    rules : Rules
    limits : Limits
    window : int64 [B]
        Micro-dalton by which an answer may miss the precursor.
    least : float32 [B]
        Log-probability, mean of both directions, that an answer must exceed.
    """
    shape = (window.shape[0], limits.candidates)
    best, scores = np.zeros((*shape, limits.slots), np.int64), np.full(shape, NOTHING)
    count = stretches(ground.facts[:, 0].max())
    width = max(limits.beams, FALLBACK)
    trees = (partials(count, width), partials(count, width))
    for row in range(shape[0]):
        own, told = best[row], scores[row]
        _draft(own, told, trees, one, two, ground, row, rules, limits, window[row], least[row])
    return best, scores
