"""Decoding: from the scorer to ranked peptides of exact precursor mass.

Knows how to search: a beam along the peptide in either direction. Does not know files, nor what the
scores that it adds up mean.

Axes: B spectra, W beams, K candidates, S slots, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from tinynovo import beams
from tinynovo.beams import FALLBACK, LOST, NOTHING, STRETCH
from tinynovo.compositions import CELL, REACH, ROUNDING, compositions
from tinynovo.evidence import PeakTable, closing_slack, compiled
from tinynovo.permitted import Permitted
from tinynovo.rules import Rules
from tinynovo.scorer import DirectedScorer, EvidenceScorer
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
    behind: float = Field(
        1e9, ge=0, description="nats by which a draft may be worse than the best and be kept"
    )
    shortest: int = Field(1, ge=1, description="residues of the shortest answer")
    longest: int = Field(60, ge=1, description="residues of the longest answer")
    max_slots: int = Field(40, ge=2, description="longest answer, in tokens")


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


@cache
def _compositions() -> Tensor:
    """Of `tinynovo.compositions.compositions`."""
    return torch.from_numpy(compositions())


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

    def best(self, other: _Partial, count: int) -> _Partial:
        """The best of these and others."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        score, anchor, tokens, length = (torch.cat(pair, 1) for pair in pairs)
        score, place = score.topk(count, -1)
        slots = place[..., None].expand(-1, -1, tokens.shape[-1])
        return _Partial(
            score, anchor.gather(1, place), tokens.gather(1, slots), length.gather(1, place)
        )


class _Beam:
    """The state of one search of B spectra: W partial answers in each stretch of mass.

    A stretch is hardly narrower than the lightest residue, so that an answer with a residue more
    lies in a later one, and only answers that weigh about as much compete. None is kept that is
    less likely, by more than the margin, than one that is further.
    """

    def __init__(
        self,
        table: PeakTable,
        scorer: DirectedScorer,
        options: BeamOptions,
        permitted: Permitted,
        window: Tensor,
        least: Tensor,
    ) -> None:
        self.table, self.scorer, self.options = table, scorer, options
        self.permitted, self.window, self.least = permitted, window, least
        few, many = (options.n_beams + 1) // 2, options.n_beams
        self.breadth = torch.where(least.isfinite(), few, many)
        self.mass = table.batch.residue_mass
        count, device, slots = self.mass.numel(), self.mass.device, options.max_slots
        start = torch.zeros_like(self.mass) if scorer.forwards else self.mass
        none = torch.zeros(count, many, dtype=torch.int64, device=device)
        score = torch.full(none.shape, -torch.inf, device=device)
        empty = _Partial(score, none, none[..., None].expand(-1, -1, slots), none)
        self.root = _Partial(
            torch.zeros(count, 1, device=device), start[:, None], empty.tokens[:, :1], none[:, :1]
        )
        self.stretches = [empty] * (int(self.mass.max()) // STRETCH + 3)
        self.done = Candidates(
            torch.zeros(count, options.candidates, slots, dtype=torch.int64, device=device),
            torch.full((count, options.candidates), -torch.inf, device=device),
        )

    def run(self) -> Candidates:
        """Search the stretches one after the other."""
        self._lengthen(self.root, 0, self.root.score[:, 0])
        for place, partial in enumerate(self.stretches):
            ahead = torch.stack([one.score[:, 0] for one in self.stretches[place:]]).amax(0)
            if bool(torch.isfinite(partial.score).any()):
                self._lengthen(partial, place + 1, ahead)
        return self.done

    def _lengthen(self, partial: _Partial, later: int, ahead: Tensor) -> None:
        """Give partial answers one token more; what is open goes to a stretch from ``later`` on."""
        scorer, options, score = self.scorer, self.options, partial.score
        behind = self.done.score[:, 0] - options.behind
        low = torch.maximum(ahead - options.margin, behind)
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
        stretch = torch.div(whole - remaining + STRETCH, STRETCH, rounding_mode="floor")
        self._spread(partial, cut, total.masked_fill(~open_ends, -torch.inf), stretch, later)

    def _spread(
        self, partial: _Partial, cut: Tensor, total: Tensor, stretch: Tensor, later: int
    ) -> None:
        """Put answers with a token more where they belong."""
        width, place = self.options.n_beams, torch.arange(self.options.n_beams, device=cut.device)
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
        tokens = fresh.tokens if self.scorer.forwards else _reversed(fresh.tokens, fresh.length)
        tokens = tokens.masked_fill(~torch.isfinite(best)[..., None], PAD)
        self.done = best_of(
            torch.cat([self.done.tokens, tokens], 1),
            torch.cat([self.done.score, best], 1),
            self.options.candidates,
        )


def _reversed(tokens: Tensor, length: Tensor) -> Tensor:
    """Tokens [..., S], the first so many of them [...] in reverse."""
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    last = length[..., None] - 1
    return tokens.gather(-1, torch.where(place <= last, last - place, place))


def best_of(tokens: Tensor, score: Tensor, count: int) -> Candidates:
    """The ``count`` best of [B, K, S] answers by [B, K] scores, in order."""
    best, row = score.topk(min(count, score.shape[1]), -1)
    return Candidates(tokens.gather(1, row[..., None].expand(-1, -1, tokens.shape[-1])), best)


def beam_search(
    scorer: DirectedScorer,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted,
    window: Tensor,
    least: Tensor | None = None,
) -> Candidates:
    """The best mass-exact answers that a beam along the peptide finds.

    Parameters
    ----------
    scorer : DirectedScorer
    table : PeakTable
    options : BeamOptions
    permitted : Permitted
    window : int64 [B]
        Micro-dalton by which an answer may miss the precursor; `closing_slack` at most.
    least : float32 [B], optional
        Log-probability that an answer must exceed; minus infinity, or left out: any will do.
        Where there is one to exceed, half the beams are enough; where there is none, and all that
        might have come to an end was given up, it is searched again, more widely.
    """
    if least is None:
        least = torch.full(window.shape, -torch.inf, device=window.device)
    found = _Beam(table, scorer, options, permitted, window, least).run()
    lost = ~torch.isfinite(found.score[:, 0]) & ~torch.isfinite(least)
    if bool(lost.any()):
        more = max(options.n_beams, FALLBACK)
        wide = options.model_copy(update={"margin": -float(NOTHING), "n_beams": more})
        again = _Beam(table, scorer, wide, permitted, window, least).run()
        found.tokens[lost], found.score[lost] = again.tokens[lost], again.score[lost]
    return found


def answer_scores(
    scorer: EvidenceScorer, table: PeakTable, answers: Tensor, permitted: Permitted
) -> Tensor:
    """Log-probability of whole answers among those permitted, mean of both directions.

    ``answers`` is int64 [B, K, S]; a missing answer (all padding) gets minus infinity. Returns
    float32 [B, K].
    """
    used = int((answers != PAD).sum(-1).max().clamp(min=1))
    flat = answers[..., :used].flatten(0, 1)
    rows = torch.arange(answers.shape[0], device=answers.device).repeat_interleave(answers.shape[1])
    total = torch.zeros(flat.shape[0], device=answers.device)
    mass = table.batch.residue_mass[rows]
    told = zip(scorer.logits(table, rows, flat), permitted.along(flat, mass), strict=True)
    for logits, mask in told:
        logp = torch.log_softmax(logits.masked_fill(~mask, -1e4), -1)
        total += (logp.gather(-1, flat[..., None]).squeeze(-1) * (flat != PAD)).sum(-1)
    total = (total / 2).view(answers.shape[:2])
    return total.masked_fill((answers == PAD).all(-1), -torch.inf)


def without_repeats(candidates: Candidates) -> Candidates:
    """The same candidates with later copies of an answer struck out."""
    same = (candidates.tokens[:, :, None, :] == candidates.tokens[:, None, :, :]).all(-1)
    earlier = torch.ones(same.shape[1:], dtype=torch.bool, device=same.device).tril(-1)
    repeated = (same & earlier).any(-1)
    return Candidates(
        candidates.tokens.masked_fill(repeated[..., None], PAD),
        candidates.score.masked_fill(repeated, -torch.inf),
    )


def both_ways(
    scorer: EvidenceScorer,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted,
    window: Tensor,
    least: Tensor | None = None,
) -> Candidates:
    """What the beam searches from both ends find, each answer once, with its own direction's score.

    At most ``options.candidates`` from each end; missing ones are all padding.
    """
    found = [
        beam_search(one, table, options, permitted, window, least)
        for one in (scorer.forwards, scorer.backwards)
    ]
    merged = without_repeats(
        Candidates(
            torch.cat([part.tokens for part in found], 1),
            torch.cat([part.score for part in found], 1),
        )
    )
    most = int(torch.isfinite(merged.score).sum(-1).max().clamp(min=1))
    return best_of(merged.tokens, merged.score, most)


def draft(
    scorer: EvidenceScorer,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted,
    window: Tensor,
    least: Tensor | None = None,
) -> Candidates:
    """Beam search from both ends, merged and scored by both directions together.

    ``least`` is as in `beam_search`: one of the two directions exceeds what their mean exceeds.
    """
    if least is None:
        least = torch.full(window.shape, -torch.inf, device=window.device)
    if compiled(table.features):
        return _compiled_drafts(scorer, table, options, permitted, window, least)
    merged = both_ways(scorer, table, options, permitted, window, least)
    score = answer_scores(scorer, table, merged.tokens, permitted)
    found = best_of(merged.tokens, score, options.candidates)
    poor = (found.score <= least[:, None]) | (found.score < found.score[:, :1] - options.behind)
    tokens = found.tokens.masked_fill(poor[..., None], PAD)
    return Candidates(tokens, found.score.masked_fill(poor, -torch.inf))


def _compiled_drafts(
    scorer: EvidenceScorer,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted,
    window: Tensor,
    least: Tensor,
) -> Candidates:
    """The same, spectrum by spectrum."""
    masks = (permitted.first.numpy(), permitted.others.numpy(), permitted.heads().numpy())
    rules = Rules(*masks, compositions())
    slots, few = options.max_slots, options.candidates
    lengths = (options.shortest, options.longest, slots)
    limits = beams.Limits(options.n_beams, few, options.margin, options.behind, *lengths)
    one, two = scorer.forwards.memo(table), scorer.backwards.memo(table)
    width = options.n_beams + max(options.n_beams, FALLBACK)
    most = beams.stretches(int(table.batch.residue_mass.max())) * width + slots * few
    first, second = (memo.reserve(most * window.numel()) for memo in (one, two))
    least = least.clamp(min=float(beams.NOTHING))
    known = (window.numpy(), least.numpy())
    found = beams.drafts(first, second, table.ground, rules, limits, *known)
    tokens, score = (torch.from_numpy(part) for part in found)
    return Candidates(tokens, score.masked_fill(score <= float(beams.NOTHING), -torch.inf))
