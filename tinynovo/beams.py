"""Beams: drafts of one spectrum, searched from both ends and scored in both directions.

Compiled for the CPU, by numba. Knows the search that `tinynovo.decoding` defines: tests hold the
two against each other. Does not know what the scorer rests on, nor what becomes of drafts.

Axes: Q anchors, V tokens, S slots, W beams, K answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynovo.compositions import CELL, REACH, ROUNDING
from tinynovo.kernels import UNFIT
from tinynovo.lookups import MASSES, MODIFIES, Bits, Floats, Ground, Ints, jit
from tinynovo.stores import Store, ask

STRETCH = 57_000_000
"""Micro-dalton of mass within which beams compete: hardly less than the lightest residue weighs."""

LOST = 18_000_000
"""Micro-dalton, more than a terminus may have lost."""

FALLBACK = 16
"""Beams, at least, where fewer found nothing; without a margin."""

NOTHING = np.float32(-1e30)
"""Score of what is not there: compiled arithmetic is not meant for infinity."""

_UNKNOWN = np.float32(1e30)


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


class Limits(NamedTuple):
    """How wide and how long is searched, as in `tinynovo.decoding.BeamOptions`."""

    beams: int
    candidates: int
    margin: float
    behind: float
    shortest: int
    longest: int
    slots: int


@jit
def _log_softmax(
    out: Floats, logits: Floats, rules: Rules, forwards: bool, anchor: int, slack: int
) -> None:
    """Write the log-probability of each token among those that fit and are permitted to [V].

    That of the others is hardly above `UNFIT`.
    """
    most = np.float32(UNFIT)
    for token in range(out.shape[0]):
        begins = anchor == 0 if forwards else abs(anchor - MASSES[token]) <= slack
        may = rules.first[token] if begins else rules.others[token]
        out[token] = logits[token] if may else np.float32(UNFIT)
        most = max(most, out[token])
    total = np.float32(0)
    for token in range(out.shape[0]):
        if out[token] > UNFIT:
            total += np.exp(out[token] - most)
    if total > 0:
        out -= most + np.log(total)


@jit
def _composable(rules: Rules, forwards: bool, remaining: int, window: int) -> bool:
    """Whether residues, and backwards what may stand before them, can make up the rest."""
    cells, room = rules.sums.shape[0] - 1, window + ROUNDING
    for head in range(1 if forwards else rules.heads.shape[0]):
        left = remaining if forwards else remaining - rules.heads[head]
        low = min(max((left - room) // CELL, 0), cells)
        high = min(max((left + room) // CELL, -1), cells - 1)
        if left + room >= REACH or rules.sums[high + 1] > rules.sums[low]:
            return True
    return False


@jit
def _keep(
    tokens: Ints, scores: Floats, before: Ints, length: int, token: int, score: np.float32
) -> None:
    """Put an answer where it stands among the best [K, S]; the worst falls out."""
    at = scores.shape[0] - 1
    if score <= scores[at]:
        return
    while at > 0 and scores[at - 1] < score:
        scores[at] = scores[at - 1]
        tokens[at] = tokens[at - 1]
        at -= 1
    scores[at] = score
    tokens[at, :length] = before[:length]
    tokens[at, length] = token
    tokens[at, length + 1 :] = 0


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
        As `draft` takes them.
    """

    done: Ints
    scores: Floats
    store: Store
    ground: Ground
    row: int
    rules: Rules
    limits: Limits
    window: int


class Stretches(NamedTuple):
    """Partial answers, in each of T stretches of mass the best W.

    Attributes
    ----------
    held : int64 [T]
        How many there are.
    score, anchor, length : [T, W]
    tokens : int64 [T, W, S]
    """

    held: Ints
    score: Floats
    anchor: Ints
    length: Ints
    tokens: Ints


@jit
def _put(
    into: Stretches, at: int, source: Stretches, place: int, beam: int, token: int, cut: int,
    score: np.float32,
) -> None:  # fmt: skip
    """Put a partial answer with a token more where it stands in a stretch; the worst falls out."""
    width, length = into.score.shape[1], source.length[place, beam]
    if into.held[at] == width and score <= into.score[at, width - 1]:
        return
    into.held[at] = min(into.held[at] + 1, width)
    n = into.held[at] - 1
    while n > 0 and into.score[at, n - 1] < score:
        into.score[at, n], into.anchor[at, n] = into.score[at, n - 1], into.anchor[at, n - 1]
        into.length[at, n], into.tokens[at, n] = into.length[at, n - 1], into.tokens[at, n - 1]
        n -= 1
    into.score[at, n], into.anchor[at, n], into.length[at, n] = score, cut, length + 1
    into.tokens[at, n, :length] = source.tokens[place, beam, :length]
    into.tokens[at, n, length] = token
    into.tokens[at, n, length + 1 :] = 0


@jit
def _stretches(count: int, width: int, slots: int) -> Stretches:
    shape = (count, width)
    held, tokens = np.zeros(count, np.int64), np.zeros((count, width, slots), np.int64)
    anchor, length = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    return Stretches(held, np.full(shape, NOTHING), anchor, length, tokens)


@jit
def _lengthen(
    into: Stretches, source: Stretches, place: int, task: Task, low: np.float32, least: float
) -> None:
    """Give the partial answers of a stretch one token more: they are done, or go further.

    Those below the low one are dropped.
    """
    done, scores, store, ground, row, rules, limits, window = task
    forwards, total = store.weights.forwards, ground.facts[row, 0]
    slack, step = ground.facts[row, 3], 1 if forwards else -1
    width = source.score.shape[1]
    alive, anchor = np.empty(width, np.int64), np.empty(width, np.int64)
    past, count = np.zeros((width, 2), np.int64), 0
    for beam in range(source.held[place]):
        score, length = source.score[place, beam], source.length[place, beam]
        if score >= low and score > scores[-1] and score > least:
            alive[count], anchor[count] = beam, source.anchor[place, beam]
            for back in range(min(length, 2)):
                past[count, back] = source.tokens[place, beam, length - 1 - back]
            count += 1
    where = ask(store, ground, np.full(count, row), anchor[:count], past[:count])
    value = np.empty(MASSES.shape[0], np.float32)
    for n in range(count):
        beam, length = alive[n], source.length[place, alive[n]]
        tokens, base = source.tokens[place, beam], source.score[place, beam]
        _log_softmax(value, store.values[where[n]], rules, forwards, anchor[n], slack)
        for token in range(value.shape[0]):
            reached = base + value[token]
            fits = value[token] > UNFIT / 2 and reached >= low
            if not fits or reached <= scores[-1] or reached <= least:
                continue
            cut = anchor[n] + step * MASSES[token]
            remaining = total - cut if forwards else cut
            begun = length > 0 and MODIFIES[tokens[0]]
            residues = length + 1 - np.int64(begun) - np.int64(MODIFIES[token])
            asked = limits.shortest <= residues <= limits.longest
            if asked and abs(remaining) <= min(window, slack):
                _keep(done, scores, tokens, length, token, reached)
            opens = abs(remaining) > slack and length + 1 < limits.slots
            opens = opens and (limits.shortest - residues) * STRETCH <= remaining + LOST
            if opens and _composable(rules, forwards, remaining, min(window, slack)):
                at = (total - remaining + STRETCH) // STRETCH
                _put(into, at, source, place, beam, token, cut, reached)


@jit
def _sweep(task: Task, width: int, margin: np.float32, least: float) -> None:
    """Search all stretches, one after the other, with so many beams in each."""
    _, scores, store, ground, row, _, limits, _ = task
    total = ground.facts[row, 0]
    count = total // STRETCH + 3
    found, root = _stretches(count, width, limits.slots), _stretches(1, 1, limits.slots)
    root.held[0], root.score[0, 0] = 1, 0
    root.anchor[0, 0] = 0 if store.weights.forwards else total
    _lengthen(found, root, 0, task, -margin, least)
    for place in range(count):
        if found.held[place]:
            ahead = found.score[place:, 0].max() - margin
            low = max(ahead, scores[0] - np.float32(limits.behind))
            _lengthen(found, found, place, task, low, least)


@jit
def _search(task: Task, least: float) -> None:
    """Search for what exceeds a log-probability.

    Where all that might have come to an end was given up, it is searched again, more widely.
    """
    width, margin = task.limits.beams, np.float32(task.limits.margin)
    if least > NOTHING:
        width = (width + 1) // 2
    _sweep(task, width, margin, least)
    if task.scores[0] == NOTHING and least <= NOTHING:
        _sweep(task, max(width, FALLBACK), -NOTHING, least)


@jit
def _length(tokens: Ints) -> int:
    return np.count_nonzero(tokens)  # type: ignore[return-value]


@jit
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
        _log_softmax(value, store.values[where[0]], rules, forwards, anchor[0], slack)
        total += value[token]
        if total <= bound:
            return NOTHING
        anchor[0] += MASSES[token] if forwards else -MASSES[token]
        past[0, 1], past[0, 0] = past[0, 0], token
    return total


@jit
def _found(
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

    What a direction was not asked is `_UNKNOWN`.
    """
    few = limits.candidates
    tokens = np.zeros((2 * few, limits.slots), np.int64)
    told = np.full((2 * few, 2), NOTHING)
    about = (ground, row, rules, limits, window)
    _search(Task(tokens[:few], told[:few, 0], one, *about), least)
    _search(Task(tokens[few:], told[few:, 1], two, *about), least)
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


@jit
def draft(
    one: Store,
    two: Store,
    ground: Ground,
    row: int,
    rules: Rules,
    limits: Limits,
    window: int,
    least: float,
) -> tuple[Ints, Floats]:
    """The best answers to a spectrum [K, S], in order, and their scores [K].

    Parameters
    ----------
    one, two : Store
        Forwards and backwards, with room for all that may be asked.
    ground : Ground
    row : int
        Of the spectrum.
    rules : Rules
    limits : Limits
    window : int
        Micro-dalton by which an answer may miss the precursor.
    least : float
        Log-probability, mean of both directions, that an answer must exceed.
    """
    tokens, told = _found(one, two, ground, row, rules, limits, window, least)
    own = np.empty(told.shape[0], np.float32)
    for n in range(own.shape[0]):
        own[n] = told[n, 1] if told[n, 0] == _UNKNOWN else told[n, 0]
    best, scores = (
        np.zeros((limits.candidates, limits.slots), np.int64),
        np.full(limits.candidates, NOTHING),
    )
    for n in np.argsort(-own, kind="mergesort"):
        if own[n] == NOTHING:
            break
        bound = max(least, scores[0] - limits.behind, scores[-1])
        for side in range(2):
            if told[n, side] == _UNKNOWN:
                store = one if side == 0 else two
                told[n, side] = _along(store, ground, row, rules, tokens[n], 2 * bound - own[n])
        mean = (told[n, 0] + told[n, 1]) / np.float32(2)
        if mean > bound:
            length = _length(tokens[n])
            _keep(best, scores, tokens[n], length - 1, tokens[n, length - 1], mean)
    for n in range(1, limits.candidates):
        if scores[n] < scores[0] - limits.behind:
            best[n], scores[n] = 0, NOTHING
    return best, scores
