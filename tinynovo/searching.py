"""Searching: one direction's beam search along peptides.

Knows how partial answers grow, compete and come to an end, and how a search from the other end
guides one. Does not know how the two are brought together.

Axes: B spectra, W beams, K candidates, S slots, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from tinynovo.beams import FALLBACK, narrowed
from tinynovo.compositions import CELL, REACH, ROUNDING, compositions
from tinynovo.evidence import PeakTable, closing_slack
from tinynovo.partials import NOTHING, STRETCH
from tinynovo.permitted import Permitted
from tinynovo.scorer import DirectedScorer
from tinynovo.steps import LOST, Limits
from tinynovo.tokens import PAD, VOCABULARY, n_terminal_tokens, token_masses


class BeamOptions(BaseModel):
    """How wide and how long the beam search looks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_beams: int = Field(
        16, ge=1, description="beams kept in each direction, of those that weigh about as much"
    )
    candidates: int = Field(16, ge=1, description="finished peptides kept a spectrum")
    margin: float = Field(
        20.0, gt=0, description="nats by which a beam may be worse than the best as far, or further"
    )
    guide_margin: float = Field(
        1e9,
        gt=0,
        description="nats by which an answer may promise to be worse than the best, by what the "
        "search from the other end has found of its rest",
    )
    behind: float = Field(
        1e9, ge=0, description="nats by which a draft may be worse than the best and be kept"
    )
    shortest: int = Field(1, ge=1, description="residues of the shortest answer")
    longest: int = Field(60, ge=1, description="residues of the longest answer")
    max_slots: int = Field(40, ge=2, description="longest answer, in tokens")

    @property
    def limits(self) -> Limits:
        """The same for compiled functions."""
        nats = (self.margin, self.guide_margin, self.behind)
        lengths = (self.shortest, self.longest, self.max_slots)
        return Limits(self.n_beams, self.candidates, *nats, *lengths)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Ranked answers, best first.

    Attributes
    ----------
    tokens : int64 [B, K, S]
        Padded; a missing candidate is all padding.
    score : float32 [B, K]
        Log-probability, minus infinity for a missing candidate.
    """

    tokens: Tensor
    score: Tensor

    def where(self, chosen: Tensor, other: Candidates) -> Candidates:
        """These for chosen spectra, bool [B], and others for the rest."""
        tokens = _where(chosen, self.tokens, other.tokens)
        return Candidates(tokens, _where(chosen, self.score, other.score))


@cache
def _compositions() -> Tensor:
    """Of `tinynovo.compositions.compositions`."""
    return torch.from_numpy(compositions())


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """One for chosen spectra, bool [B], and the other for the rest: [B, ...]."""
    return torch.where(chosen.view(-1, *[1] * (one.dim() - 1)), one, other)


def _stretch(mass: Tensor) -> Tensor:
    """The stretch in which answers that weigh so much compete: int64, shape of the mass."""
    return torch.div(mass + STRETCH, STRETCH, rounding_mode="floor")


def composable(remaining: Tensor, slack: Tensor) -> Tensor:
    """Whether residues can add up to what remains, within the slack; always true when it is large.

    Both int64 micro-dalton, broadcastable; returns bool of the shape of ``remaining``.
    """
    table = _compositions().to(remaining.device)
    cells = table.numel() - 1
    room = slack + ROUNDING
    low = torch.div(remaining - room, CELL, rounding_mode="floor").clamp(0, cells)
    high = torch.div(remaining + room, CELL, rounding_mode="floor").clamp(-1, cells - 1)
    return (table[high + 1] > table[low]) | (remaining + room >= REACH)


@dataclass(frozen=True, eq=False)
class _Partial:
    """Partial answers: their log-probability and anchor [B, W], tokens [B, W, S], how many [B, W].

    Where there is none the score is minus infinity.
    """

    score: Tensor
    anchor: Tensor
    tokens: Tensor
    length: Tensor

    @property
    def past(self) -> Tensor:
        """The two tokens passed last, nearest first: [B, W, 2]."""
        padded = torch.nn.functional.pad(self.tokens, (2, 0), value=PAD)
        return padded.gather(-1, torch.stack([self.length + 1, self.length], -1))

    def longer(self, cell: Tensor, cut: Tensor, score: Tensor) -> _Partial:
        """Those with a token more that cells [B, N] of W times V mean; cuts are [B, W, V]."""
        parent, token = cell // VOCABULARY, cell % VOCABULARY
        slots = self.tokens.shape[-1]
        length = self.length.gather(1, parent).clamp(max=slots - 1)
        tokens = self.tokens.gather(1, parent[..., None].expand(-1, -1, slots))
        tokens = tokens.scatter(-1, length[..., None], token[..., None])
        return _Partial(score, cut.flatten(1).gather(1, cell), tokens, length + 1)

    def where(self, chosen: Tensor, other: _Partial) -> _Partial:
        """These for chosen spectra, bool [B], and others for the rest."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Partial(*(_where(chosen, one, two) for one, two in pairs))

    def best(self, other: _Partial, count: int) -> _Partial:
        """The best of these and others."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        score, anchor, tokens, length = (torch.cat(pair, 1) for pair in pairs)
        score, place = score.topk(count, -1)
        slots = place[..., None].expand(-1, -1, tokens.shape[-1])
        return _Partial(
            score, anchor.gather(1, place), tokens.gather(1, slots), length.gather(1, place)
        )


class Search:
    """The state of one search of B spectra: W partial answers in each stretch of mass.

    A stretch is hardly narrower than the lightest residue, so that an answer with a residue more
    lies in a later one, and only answers that weigh about as much compete. None is kept that is
    less likely, by more than the margin, than one that is further; nor one that promises, with what
    another search has found of the rest from the other end, to be less likely by more than the
    guide's margin than the best answer or promise.

    Parameters
    ----------
    scorer : DirectedScorer
    table : PeakTable
    options : BeamOptions
    permitted : Permitted
    window : int64 [B]
        Micro-dalton by which an answer may miss the precursor; `closing_slack` at most.
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
        self.table, self.scorer, self.options = table, scorer, options
        self.permitted, self.window, self.least = permitted, window, least
        self.mass = table.batch.residue_mass
        self.width = max(options.n_beams, FALLBACK)
        count, device, slots = self.mass.numel(), self.mass.device, options.max_slots
        start = torch.zeros_like(self.mass) if scorer.forwards else self.mass
        none = torch.zeros(count, self.width, dtype=torch.int64, device=device)
        score = torch.full(none.shape, -torch.inf, device=device)
        self.empty = _Partial(score, none, none[..., None].expand(-1, -1, slots), none)
        self.root = _Partial(
            torch.zeros(count, 1, device=device),
            start[:, None],
            self.empty.tokens[:, :1],
            none[:, :1],
        )
        self.other: Search | None = None
        self.best = torch.full((count,), -torch.inf, device=device)
        self._begin()

    def _begin(self) -> None:
        """Nothing is found yet."""
        count, slots, few = self.mass.numel(), self.options.max_slots, self.options.candidates
        self.stretches = [self.empty] * (int(self.mass.max()) // STRETCH + 3)
        self.done = Candidates(
            torch.zeros(count, few, slots, dtype=torch.int64, device=self.mass.device),
            torch.full((count, few), -torch.inf, device=self.mass.device),
        )

    def run(self) -> Candidates:
        """Search; where all that might have come to an end was given up, once more, more widely.

        Where there is something to exceed, half the beams are enough.
        """
        any_will_do = self.least.isneginf()
        few, many = (self.options.n_beams + 1) // 2, self.options.n_beams
        margin = torch.full_like(self.least, self.options.margin)
        self.sweep(torch.where(any_will_do, many, few), margin)
        lost = self.done.score[:, 0].isneginf() & any_will_do
        if bool(lost.any()):
            stretches, done = self.stretches, self.done
            breadth = torch.where(lost, max(many, FALLBACK), 0)
            self.sweep(breadth, margin.masked_fill(lost, -float(NOTHING)))
            pairs = zip(self.stretches, stretches, strict=True)
            self.stretches = [new.where(lost, old) for new, old in pairs]
            self.done = self.done.where(lost, done)
        return self.done

    def narrow(self) -> Candidates:
        """Search with few beams, to guide another search."""
        breadth = torch.full_like(self.mass, narrowed(self.options.n_beams))
        self.sweep(breadth, torch.full_like(self.least, self.options.margin))
        return self.done

    def follow(self, other: Search) -> None:
        """Be guided by a search from the other end."""
        self.other, self.best = other, other.done.score[:, 0]

    def sweep(self, breadth: Tensor, margin: Tensor) -> None:
        """Search the stretches one after the other, with so many beams [B] within a margin [B]."""
        self._begin()
        self.breadth, self.margin, root = breadth, margin, self.root
        score = root.score.masked_fill(breadth[:, None] == 0, -torch.inf)
        self._lengthen(replace(root, score=score), 0, score[:, 0])
        for place, partial in enumerate(self.stretches):
            ahead = torch.stack([one.score[:, 0] for one in self.stretches[place:]]).amax(0)
            if bool(torch.isfinite(partial.score).any()):
                self._lengthen(partial, place + 1, ahead)

    def _lengthen(self, partial: _Partial, later: int, ahead: Tensor) -> None:
        """Give partial answers one token more; what is open goes to a stretch from ``later`` on."""
        scorer, options, score = self.scorer, self.options, partial.score
        behind = self.done.score[:, 0] - options.behind
        low = torch.maximum(ahead - self.margin, behind)
        over = torch.maximum(self.least, self.done.score[:, -1])[:, None]
        alive = (score >= low[:, None]) & (score > over)
        row, _ = alive.nonzero(as_tuple=True)
        asked = scorer.logits(self.table, row, partial.anchor[alive], partial.past[alive])
        logits = asked.new_full((*score.shape, VOCABULARY), -1e4)
        logits[alive] = asked
        permitted = self.permitted.at(partial.anchor, self.mass, forwards=scorer.forwards)
        logits = logits.masked_fill(~permitted, -1e4)
        total = score[..., None] + torch.log_softmax(logits, -1)
        poor = (total < low[:, None, None]) | (total <= over[..., None])
        total = total.masked_fill((logits <= -1e4) | poor, -torch.inf)
        mass = token_masses(total.device)
        cut = partial.anchor[..., None] + (mass if scorer.forwards else -mass)
        whole = self.mass[:, None, None]
        remaining = whole - cut if scorer.forwards else cut
        slack = closing_slack(whole)
        window = torch.minimum(self.window[:, None, None], slack)
        residues = self._residues(partial)
        told = (residues >= options.shortest) & (residues <= options.longest)
        closes = (remaining.abs() <= window) & told
        self._finish(partial, cut, total.masked_fill(~closes, -torch.inf))
        open_ends = (remaining.abs() > slack) & self._possible(remaining, window)
        open_ends &= partial.length[..., None] + 1 < options.max_slots
        open_ends &= (options.shortest - residues) * STRETCH <= remaining + LOST
        total = self._promising(total.masked_fill(~open_ends, -torch.inf), cut, remaining, window)
        self._spread(partial, cut, total, _stretch(whole - remaining), later)

    def _promising(self, total: Tensor, cut: Tensor, remaining: Tensor, window: Tensor) -> Tensor:
        """Scores of what has a promise, minus infinity for the others: all [B, W, V] but windows.

        A promise is the score, and what the other search says of the rest: the score of what it has
        at the cut; where it has nothing, less by the margin than the best that it has as far.
        """
        row, *there = total.isfinite().nonzero(as_tuple=True)
        guided = self.best[row].isfinite()
        row, there = row[guided], [index[guided] for index in there]
        if self.other is None or not row.numel():
            return total
        place, other = (row, *there), self.other
        best = [other.root.score[:, 0], *(one.score[:, 0] for one in other.stretches)]
        ahead = torch.stack(best).flip(0).cummax(0).values.flip(0)
        first = _stretch(remaining[place]).clamp(min=0)
        rest = ahead[first, row] - self.options.margin
        anchors = torch.cat([one.anchor for one in other.stretches], 1)[row]
        scores = torch.cat([one.score for one in other.stretches], 1)[row]
        met = (anchors - cut[place][:, None]).abs() <= window[row, 0]
        rest = torch.maximum(rest, scores.masked_fill(~met, -torch.inf).amax(-1))
        promise = total[place] + rest
        total = total.clone()
        poor = promise < self.best[row] - self.options.guide_margin
        total[place] = total[place].masked_fill(poor, -torch.inf)
        self.best = self.best.scatter_reduce(0, row, promise, "amax")
        return total

    def _spread(
        self, partial: _Partial, cut: Tensor, total: Tensor, stretch: Tensor, later: int
    ) -> None:
        """Put answers with a token more where they belong."""
        width, place = self.width, torch.arange(self.width, device=cut.device)
        for number in range(later, len(self.stretches)):
            own = total.masked_fill(stretch != number, -torch.inf).flatten(1)
            if torch.isfinite(own).any():
                score, cell = own.topk(min(width, own.shape[1]), -1)
                fresh = partial.longer(cell, cut, score)
                best = self.stretches[number].best(fresh, width)
                score = best.score.masked_fill(place >= self.breadth[:, None], -torch.inf)
                self.stretches[number] = replace(best, score=score)

    def _possible(self, remaining: Tensor, window: Tensor) -> Tensor:
        """Where residues, and backwards what may stand before them, can make up the rest.

        Residues that are not permitted are counted in: it is no promise.
        """
        if self.scorer.forwards:
            return composable(remaining, window)
        possible = torch.zeros_like(remaining, dtype=torch.bool)
        for mass in self.permitted.heads():
            possible |= composable(remaining - mass, window)
        return possible

    def _residues(self, partial: _Partial) -> Tensor:
        """Residues of every answer that one more token would make: int64 [B, W, V]."""
        modifies = n_terminal_tokens(self.mass.device)
        begun = modifies[partial.tokens[..., 0]]
        return (partial.length + 1 - begun.long())[..., None] - modifies.long()

    def _finish(self, partial: _Partial, cut: Tensor, total: Tensor) -> None:
        """Merge the answers that close now into the finished ones."""
        best, cell = total.flatten(1).topk(min(self.options.candidates, total[0].numel()), -1)
        if not torch.isfinite(best).any():
            return
        fresh = partial.longer(cell, cut, best)
        tokens = fresh.tokens if self.scorer.forwards else turned(fresh.tokens, fresh.length)
        tokens = tokens.masked_fill(~torch.isfinite(best)[..., None], PAD)
        self.done = best_of(
            torch.cat([self.done.tokens, tokens], 1),
            torch.cat([self.done.score, best], 1),
            self.options.candidates,
        )


def turned(tokens: Tensor, length: Tensor) -> Tensor:
    """Tokens [..., S], the first so many of them [...] in reverse."""
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    last = length[..., None] - 1
    return tokens.gather(-1, torch.where(place <= last, last - place, place))


def best_of(tokens: Tensor, score: Tensor, count: int) -> Candidates:
    """The ``count`` best of [B, K, S] answers by [B, K] scores, in order."""
    best, row = score.topk(min(count, score.shape[1]), -1)
    return Candidates(tokens.gather(1, row[..., None].expand(-1, -1, tokens.shape[-1])), best)
