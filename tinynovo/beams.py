"""Beams: drafts of one spectrum, searched from both ends and scored in both directions.

Compiled for the CPU, by numba. Knows the search that `tinynovo.searching` and `tinynovo.decoding`
define: tests hold them against each other. Does not know what the scorer rests on, nor what becomes
of drafts.

Axes: Q anchors, V tokens, S slots, W beams, K answers.
"""

from __future__ import annotations

import numpy as np

from tinynovo.compiling import Floats, Ints, inlined, jit
from tinynovo.kernels import UNFIT
from tinynovo.lookups import MASSES, Ground
from tinynovo.partials import (
    NOTHING,
    Chosen,
    Partials,
    begin,
    look_ahead,
    partials,
    put,
    rest,
    room_for,
    stretches,
)
from tinynovo.rules import Rules, composable, log_softmax
from tinynovo.steps import (
    Limits,
    Task,
    choose,
    closes,
    finish,
    low_at,
    opens,
    room,
    stretch_of,
    with_token,
)
from tinynovo.stores import Store, ask

FALLBACK = 16
"""Beams, at least, where fewer found nothing; without a margin."""

UNLIMITED = 1e6
"""Nats from which on a limit is none."""

_NARROW = 6
"""What the number of beams is divided by in the first, narrow search."""

_UNKNOWN = np.float32(1e30)


@jit
def narrowed(beams: int) -> int:
    """Beams of the first, narrow search."""
    return beams // _NARROW + 1


@inlined
def _lengthen(
    task: Task,
    tree: Partials,
    width: int,
    place: int,
    low: np.float32,
    least: float,
    some: Chosen,
    count: int,
    value: Floats,
    values: Floats,
    where: Ints,
) -> None:
    """Give so many chosen ones of a stretch one token more.

    Those below the low one are dropped. The logits are rows ``where`` of ``values``; ``value`` [V]
    is for between.
    """
    scores, rules, limits, other = task.scores, task.rules, task.limits, task.other
    forwards, total, slack, best = task.forwards, task.total, task.slack, task.best[0]
    window, step = min(task.window, slack), 1 if forwards else -1
    held, ranked, beams = tree.held, tree.score, some.beam
    for n in range(count):
        base, node = ranked[place, beams[n]], tree.node[place, beams[n]]
        length, begun, anchor = tree.length[node], tree.begun[node], some.anchor[n]
        log_softmax(value, values, where[n], rules, forwards, anchor, slack)
        for token in range(value.shape[0]):
            reached = base + value[token]
            if value[token] <= UNFIT / 2 or reached < low:
                continue
            if reached <= scores[-1] or reached <= least:
                continue
            cut, residues = anchor + step * MASSES[token], with_token(length, begun, token)
            remaining = total - cut if forwards else cut
            if closes(limits, residues, remaining, window):
                finish(task, tree, node, token, reached)
            may = opens(limits, length, residues, remaining, slack)
            if may and composable(rules, forwards, remaining, window):
                if best > NOTHING:
                    whole = reached + rest(other, cut, remaining, window, limits.margin)
                    if whole < best - np.float32(limits.guide):
                        continue
                    task.best[0] = max(task.best[0], whole)
                at = stretch_of(total, remaining)
                if held[at] < width or reached > ranked[at, width - 1]:
                    put(tree, width, at, node, token, cut, reached)


@jit
def _sweep(
    task: Task,
    tree: Partials,
    store: Store,
    ground: Ground,
    row: int,
    width: int,
    margin: np.float32,
    least: float,
) -> None:
    """Search all stretches, one after the other, with so many beams in each."""
    some, value = room_for(width), np.empty(MASSES.shape[0], np.float32)
    begin(tree, 0 if task.forwards else task.total)
    for place in range(stretches(task.total)):
        if tree.held[place]:
            low = low_at(task, tree, place, margin)
            count = choose(some, task, tree, place, low, least)
            rows, past = np.full(count, row), some.past[:count]
            where = ask(store, ground, rows, some.anchor[:count], past)
            _lengthen(task, tree, width, place, low, least, some, count, value, store.values, where)
    look_ahead(tree)


@inlined
def _search(
    task: Task, tree: Partials, store: Store, ground: Ground, row: int, least: float
) -> None:
    """Search for what exceeds a log-probability.

    Where all that might have come to an end was given up, it is searched again, more widely.
    """
    width, margin = task.limits.beams, np.float32(task.limits.margin)
    if least > NOTHING:
        width = (width + 1) // 2
    _sweep(task, tree, store, ground, row, width, margin, least)
    if task.scores[0] == NOTHING and least <= NOTHING:
        _sweep(task, tree, store, ground, row, max(width, FALLBACK), -NOTHING, least)


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
    about = (ground.facts[row, 0], ground.facts[row, 3], rules, limits, window)
    first = Task(tokens[:few], told[:few, 0], True, *about, trees[1], best)
    second = Task(tokens[few:], told[few:, 1], False, *about, trees[0], best)
    if limits.guide < UNLIMITED:
        width, margin = narrowed(limits.beams), np.float32(limits.margin)
        _sweep(second, trees[1], two, ground, row, width, margin, least)
        best[0], second.scores[:], second.done[:] = second.scores[0], NOTHING, 0
    _search(first, trees[0], one, ground, row, least)
    if limits.guide < UNLIMITED:
        best[0] = first.scores[0]
    _search(second, trees[1], two, ground, row, least)
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
            best[room(best, scores, mean)] = tokens[at]
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
