"""Waves: one direction's beam search along the peptides of a batch, a thread for each spectrum.

Knows how the fronts of all spectra go on together, stretch by stretch, so that the scorer is asked
about all of them at once; it is `tinynovo.searching.Search` on a GPU. Does not know how a front
goes on.

Axes: B spectra, K candidates, S slots, T stretches, W beams, Q questions.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tinynovo.beams import FALLBACK, narrowed
from tinynovo.evidence import PeakTable
from tinynovo.fronts import (
    Front,
    Queue,
    Shared,
    end,
    enqueue,
    give,
    go_on,
    normalize,
    start,
    take,
    weigh,
)
from tinynovo.launches import Replays, launch, seen
from tinynovo.partials import NOTHING, Chosen, Partials, stretches
from tinynovo.permitted import Permitted
from tinynovo.questions import Anchors, ground
from tinynovo.scorer import DirectedScorer
from tinynovo.searching import BeamOptions, Candidates, turned
from tinynovo.tokens import PAD, VOCABULARY

_PARTS = tuple(1 << power for power in range(14, 7, -1))
"""How many questions are asked together: each such number is recorded once."""


def _part(left: int) -> int:
    """How many are asked next of so many: those and a few more, or a part of them."""
    enough = [part for part in _PARTS if part >= left]
    if enough and (enough[-1] == _PARTS[-1] or 4 * left >= 3 * enough[-1]):
        return enough[-1]
    return next(part for part in _PARTS if part <= left)


class _Questions:
    """Room for so many questions."""

    def __init__(self, count: int, device: torch.device) -> None:
        row, anchor, node = torch.zeros(3, count, dtype=torch.int64, device=device)
        self.asked = Anchors(row, anchor, row.new_zeros(count, 2))
        self.values, wholes = torch.zeros(2, count, VOCABULARY, device=device)
        known = (*vars(self.asked).values(), node, torch.zeros(count, device=device))
        self.seen = Queue(*map(seen, (*known, self.values, wholes)))


class Wave:
    """The state of one search of B spectra.

    Parameters
    ----------
    scorer : DirectedScorer
    table : PeakTable
    options : BeamOptions
    permitted : Permitted
    window : int64 [B]
        Micro-dalton by which an answer may miss the precursor.
    least : float32 [B]
        Log-probability that an answer must exceed; minus infinity: any will do.
    """

    def __init__(
        self,
        scorer: DirectedScorer,
        table: PeakTable,
        options: BeamOptions,
        permitted: Permitted,
        window: Tensor,
        least: Tensor,
    ) -> None:
        self.scorer, self.table, self.options = scorer, table, options
        self.device, self.rows = window.device, window.shape[0]
        self.least = least.clamp(min=float(NOTHING))
        self.stretches = stretches(int(table.batch.residue_mass.max()))
        self.beams = max(options.n_beams, FALLBACK)
        few, slots = options.candidates, options.max_slots
        self.place = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.width, self.margin = self._whole(), self._real()
        self.tokens, self.score = self._whole(few, slots), self._real(few).fill_(float(NOTHING))
        self.best = self._real().fill_(float(NOTHING))
        self.count, self.first, self.ends = self._whole(), self._whole(), self._whole()
        self.begin, self.parts = torch.zeros_like(self.place), dict[int, _Questions]()
        # The last part may reach beyond the last question.
        most = self.rows * self.beams + _PARTS[0]
        self.front, self.queue = self._front(), _Questions(most, self.device)
        self.begin_seen = seen(self.begin)
        known = (seen(window), seen(self.least), permitted.rules(), options.limits)
        self.shared = Shared(ground(table).facts, *known)
        self.guide = self.front.tree
        self.replays = Replays(self.device)

    def _whole(self, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.zeros(self.rows, *shape, dtype=dtype, device=self.device)

    def _real(self, *shape: int) -> Tensor:
        return torch.zeros(self.rows, *shape, device=self.device)

    def _front(self) -> Front:
        count, width = self.stretches, self.beams
        nodes, small = count * width * VOCABULARY + 1, torch.uint8
        tree = [self._whole(nodes, dtype=torch.int32)]
        tree += [self._whole(nodes, dtype=small), self._whole(nodes, dtype=small)]
        tree += [self._whole(nodes, dtype=torch.bool), self._whole(1)]
        tree += [self._whole(count), self._real(count, width), self._whole(count, width)]
        tree += [self._whole(count, width), self._real(count)]
        chosen = (self._whole(width), self._whole(width), self._whole(width, 2))
        return Front(
            self.scorer.forwards,
            seen(self.place),
            seen(self.width),
            seen(self.margin),
            seen(self.tokens),
            seen(self.score),
            seen(self.best),
            Partials(*map(seen, tree)),
            Chosen(*map(seen, chosen)),
            seen(self._real()),
            seen(self.count),
            seen(self.first),
        )

    def narrow(self) -> Candidates:
        """Search with few beams, to guide another search."""
        self._sweep(torch.full_like(self.width, narrowed(self.options.n_beams)))
        return self.done

    def follow(self, other: Wave) -> None:
        """Be guided by a search from the other end."""
        if self.guide is not other.front.tree:
            self.guide, self.replays = other.front.tree, Replays(self.device)
        self.best.copy_(other.score[:, 0])

    def run(self) -> Candidates:
        """Search; where all that might have come to an end was given up, once more, more widely.

        Where there is something to exceed, half the beams are enough.
        """
        any_will_do, many = self.least <= float(NOTHING), self.options.n_beams
        self._sweep(torch.where(any_will_do, many, (many + 1) // 2))
        lost = (self.score[:, 0] == float(NOTHING)) & any_will_do
        if bool(lost.any()):
            self._sweep(torch.where(lost, self.beams, 0), -float(NOTHING))
        return self.done

    @property
    def done(self) -> Candidates:
        """The best answers so far."""
        tokens, nothing = self.tokens, self.score == float(NOTHING)
        if not self.scorer.forwards:
            tokens = turned(tokens, (tokens != PAD).sum(-1))
        return Candidates(tokens.clone(), self.score.masked_fill(nothing, -torch.inf))

    def _sweep(self, width: Tensor, margin: float | None = None) -> None:
        """Search the stretches one after the other, with so many beams [B]; 0: not at all."""
        self.width.copy_(width)
        self.margin.fill_(self.options.margin if margin is None else margin)
        launch(self.device, start, self.rows, self.front, self.shared)
        for _ in range(self.stretches):
            self.replays.do("go on", self._go_on)
            left = int(self.ends[-1])
            while left > 0:
                part = _part(left)
                self.replays.do(part, partial(self._ask, part))
                left -= part
        self._go_on()
        launch(self.device, end, self.rows, self.front)

    def _go_on(self) -> None:
        """Go on with the next stretch, up to questions about it."""
        queue = self.queue.seen
        launch(self.device, go_on, self.rows, self.front, self.shared, self.guide, queue)
        torch.cumsum(self.count, 0, out=self.ends)
        torch.sub(self.ends, self.count, out=self.first)
        self.place += 1
        self.begin.zero_()
        launch(self.device, enqueue, self.rows, self.front, queue)

    def _ask(self, count: int) -> None:
        """Ask the next so many questions: those that are queued, and others that do no harm."""
        if count not in self.parts:
            self.parts[count] = _Questions(count, self.device)
        part, device = self.parts[count], self.device
        between = (self.begin_seen, self.queue.seen, part.seen)
        launch(device, take, count, *between)
        part.values.copy_(self.scorer.ask(self.table, part.asked))
        about = (self.front, self.shared)
        launch(device, normalize, count, *about, part.seen)
        launch(device, weigh, part.values.numel(), *about, self.guide, part.seen)
        launch(device, give, part.values.numel(), *between)
        self.begin += count
