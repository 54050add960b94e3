"""Fronts: the searches of many spectra, each gone on with by a stretch at a time.

Compiled, by numba. Knows which part of the arrays of a batch belongs to a spectrum, and what
threads of a GPU do of `tinynovo.steps` between two questions to the scorer. Does not know the
scorer.

Axes: B spectra, K answers, S slots, T stretches, V tokens, W beams, Q questions: anchors that the
scorer is asked about.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.compiling import Floats, Ints, jit
from tinynovo.kernels import UNFIT
from tinynovo.lookups import MASSES
from tinynovo.partials import (
    NOTHING,
    Chosen,
    Partials,
    begin,
    look_ahead,
    put,
    rest,
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
    stretch_of,
    with_token,
)


class Shared(NamedTuple):
    """What both directions of a batch share.

    Attributes
    ----------
    facts : int64 [B, 4]
        Of `tinynovo.lookups.Ground`.
    window : int64 [B]
        Micro-dalton by which an answer may miss the precursor.
    least : float32 [B]
        Log-probability that an answer must exceed.
    rules : Rules
    limits : Limits
    """

    facts: Ints
    window: Ints
    least: Floats
    rules: Rules
    limits: Limits


class Front(NamedTuple):
    """One direction's searches of a batch: the arrays of `Partials` and the others, by spectrum.

    Attributes
    ----------
    forwards : bool
    place : int64 [1]
        The stretch that all are at.
    width, margin : int64 [B], float32 [B]
        Beams of the search that is on, 0 for none, and nats by which they may be worse.
    done, scores : int64 [B, K, S], float32 [B, K]
        The best answers so far, in the order that the search goes.
    best : float32 [B]
        As in `tinynovo.steps.Task`.
    tree : Partials
    chosen : Chosen
        Of that stretch.
    low : float32 [B]
        Score below which what is made of them is dropped.
    many, first : int64 [B]
        How many they are, and the number of the first question about them.
    """

    forwards: bool
    place: Ints
    width: Ints
    margin: Floats
    done: Ints
    scores: Floats
    best: Floats
    tree: Partials
    chosen: Chosen
    low: Floats
    many: Ints
    first: Ints


class Queue(NamedTuple):
    """Questions to a scorer, and what comes of them: all, or a part that is asked together.

    Attributes
    ----------
    row, anchor, past : int64 [Q], [Q], [Q, 2]
        As a scorer is asked.
    node : int64 [Q]
        The partial answer that each is about, and
    base : float32 [Q]
        its score.
    values : float32 [Q, V]
        Logits, then the scores of what is made of each partial answer with one token more:
        `NOTHING` where it is dropped.
    wholes : float32 [Q, V]
        What these promise.
    """

    row: Ints
    anchor: Ints
    past: Ints
    node: Ints
    base: Floats
    values: Floats
    wholes: Floats


@jit
def _tree(all_of: Partials, row: int) -> Partials:
    """What of the arrays belongs to a spectrum."""
    return Partials(
        all_of.parent[row],
        all_of.token[row],
        all_of.length[row],
        all_of.begun[row],
        all_of.used[row],
        all_of.held[row],
        all_of.score[row],
        all_of.anchor[row],
        all_of.node[row],
        all_of.ahead[row],
    )


@jit
def _task(front: Front, shared: Shared, other: Partials, row: int) -> Task:
    """The search of a spectrum."""
    return Task(
        front.done[row],
        front.scores[row],
        front.forwards,
        shared.facts[row, 0],
        shared.facts[row, 3],
        shared.rules,
        shared.limits,
        shared.window[row],
        _tree(other, row),
        front.best[row : row + 1],
    )


@jit
def start(row: int, front: Front, shared: Shared) -> None:
    """Begin the search of a spectrum anew."""
    front.many[row] = 0
    if row == 0:
        front.place[0] = -1
    if front.width[row]:
        begin(_tree(front.tree, row), 0 if front.forwards else shared.facts[row, 0])
        for answer in range(front.scores.shape[1]):
            front.scores[row, answer] = NOTHING
            for slot in range(front.done.shape[2]):
                front.done[row, answer, slot] = 0


@jit
def weigh(k: int, front: Front, shared: Shared, other: Partials, queue: Queue) -> None:
    """Weigh a partial answer with a token more: its score, and what it promises as a whole.

    That is `NOTHING` where it cannot go on, or promises too little beside the best; where no search
    from the other end guides this one, it is the score. The candidates are those of all questions,
    V of each.
    """
    q, token = k // queue.values.shape[1], k % queue.values.shape[1]
    row, node, reached = queue.row[q], queue.node[q], queue.base[q] + queue.values[q, token]
    passable = queue.values[q, token] > UNFIT / 2 and reached >= front.low[row]
    passable = passable and reached > front.scores[row, -1] and reached > shared.least[row]
    queue.values[q, token] = reached if passable else NOTHING
    if passable:
        forwards, total, slack = front.forwards, shared.facts[row, 0], shared.facts[row, 3]
        cut = queue.anchor[q] + (MASSES[token] if forwards else -MASSES[token])
        remaining, window = total - cut if forwards else cut, min(shared.window[row], slack)
        length = front.tree.length[row, node]
        residues = with_token(length, front.tree.begun[row, node], token)
        whole = NOTHING
        may = opens(shared.limits, length, residues, remaining, slack)
        if may and composable(shared.rules, forwards, remaining, window):
            whole = reached
            if front.best[row] > NOTHING:
                whole += rest(_tree(other, row), cut, remaining, window, shared.limits.margin)
                if whole < front.best[row] - np.float32(shared.limits.guide):
                    whole = NOTHING
        queue.wholes[q, token] = whole


@jit
def normalize(q: int, front: Front, shared: Shared, queue: Queue) -> None:
    """Make log-probabilities of the logits of a question."""
    row, values = queue.row[q], queue.values
    slack = shared.facts[row, 3]
    log_softmax(values[q], values, q, shared.rules, front.forwards, queue.anchor[q], slack)


@jit
def _settle_all(front: Front, tree: Partials, task: Task, row: int, queue: Queue) -> None:
    """Put what was made of all that was chosen of a spectrum where it belongs."""
    width, best, window = front.width[row], task.best[0], min(task.window, task.slack)
    step = 1 if front.forwards else -1
    for q in range(front.first[row], front.first[row] + front.many[row]):
        node, anchor = queue.node[q], queue.anchor[q]
        length, begun = tree.length[node], tree.begun[node]
        for token in range(queue.values.shape[1]):
            reached = queue.values[q, token]
            if reached > task.scores[-1]:
                cut, whole = anchor + step * MASSES[token], queue.wholes[q, token]
                remaining = task.total - cut if task.forwards else cut
                residues = with_token(length, begun, token)
                if closes(task.limits, residues, remaining, window):
                    finish(task, tree, node, token, reached)
                at = stretch_of(task.total, remaining)
                belongs = whole > NOTHING
                if belongs and (tree.held[at] < width or reached > tree.score[at, width - 1]):
                    put(tree, width, at, node, token, cut, reached)
                best = max(best, whole)
    if task.best[0] > NOTHING:
        task.best[0] = best


@jit
def go_on(row: int, front: Front, shared: Shared, other: Partials, queue: Queue) -> None:
    """Settle what was asked about, and choose what of the next stretch is asked about."""
    if not front.width[row]:
        return
    place, tree, task = front.place[0] + 1, _tree(front.tree, row), _task(front, shared, other, row)
    if front.many[row]:
        _settle_all(front, tree, task, row, queue)
    front.many[row] = 0
    if place < stretches(task.total) and tree.held[place]:
        all_of = front.chosen
        some = Chosen(all_of.beam[row], all_of.anchor[row], all_of.past[row])
        low = low_at(task, tree, place, front.margin[row])
        front.low[row] = low
        front.many[row] = choose(some, task, tree, place, low, shared.least[row])


@jit
def enqueue(row: int, front: Front, queue: Queue) -> None:
    """Ask about what was chosen of a spectrum."""
    place, chosen = front.place[0], front.chosen
    for n in range(front.many[row]):
        q, beam = front.first[row] + n, chosen.beam[row, n]
        queue.row[q], queue.anchor[q] = row, chosen.anchor[row, n]
        queue.past[q, 0], queue.past[q, 1] = chosen.past[row, n, 0], chosen.past[row, n, 1]
        queue.node[q] = front.tree.node[row, place, beam]
        queue.base[q] = front.tree.score[row, place, beam]


@jit
def take(q: int, begin: Ints, queue: Queue, part: Queue) -> None:
    """Take a question out of the queue, from a place on."""
    at = begin[0] + q
    part.row[q], part.anchor[q] = queue.row[at], queue.anchor[at]
    part.past[q, 0], part.past[q, 1] = queue.past[at, 0], queue.past[at, 1]
    part.node[q], part.base[q] = queue.node[at], queue.base[at]


@jit
def give(k: int, begin: Ints, queue: Queue, part: Queue) -> None:
    """Put back what came of it for one of V tokens."""
    q, token = k // part.values.shape[1], k % part.values.shape[1]
    queue.values[begin[0] + q, token] = part.values[q, token]
    queue.wholes[begin[0] + q, token] = part.wholes[q, token]


@jit
def end(row: int, front: Front) -> None:
    """Find `Partials.ahead` of a spectrum that was searched."""
    if front.width[row]:
        look_ahead(_tree(front.tree, row))
