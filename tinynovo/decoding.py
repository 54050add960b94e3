"""Decoding: from the scorer to ranked peptides of exact precursor mass.

Knows how to search: a beam along the peptide in either direction. Does not know files, nor what the
scores that it adds up mean.

Axes: B spectra, W beams, K candidates, S slots, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from tinynovo import beams
from tinynovo.beams import CELL, REACH, ROUNDING, compositions
from tinynovo.evidence import PeakTable, closing_slack, compiled
from tinynovo.permitted import Permitted
from tinynovo.scorer import DirectedScorer, EvidenceScorer
from tinynovo.tokens import PAD, VOCABULARY, n_terminal_tokens, token_masses


class BeamOptions(BaseModel):
    """How wide and how long the beam search looks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_beams: int = Field(16, ge=1, description="beams kept in each direction")
    candidates: int = Field(16, ge=1, description="finished peptides kept a spectrum")
    margin: float = Field(20.0, gt=0, description="nats by which a beam may be worse than the best")
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
    """Of `tinynovo.beams.compositions`."""
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


class _Beam:
    """The state of one search: B spectra times W partial answers."""

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
        count, device = table.batch.mz.shape[0], table.batch.mz.device
        self.mass = table.batch.residue_mass
        start = torch.zeros_like(self.mass) if scorer.forwards else self.mass
        self.anchor = start[:, None]
        self.score = torch.zeros(count, 1, device=device)
        self.tokens = torch.zeros(count, 1, options.max_slots, dtype=torch.int64, device=device)
        self.length = 0
        self.rows = torch.arange(count, device=device)
        shape = (count, options.candidates)
        self.done = Candidates(
            torch.zeros(*shape, options.max_slots, dtype=torch.int64, device=device),
            torch.full(shape, -torch.inf, device=device),
        )

    def _past(self) -> Tensor:
        padded = torch.nn.functional.pad(self.tokens, (2, 0), value=PAD)
        return torch.stack([padded[..., self.length + 1], padded[..., self.length]], -1)

    def step(self) -> bool:
        """Lengthen every beam by one residue; whether any beam is still alive."""
        scorer, options = self.scorer, self.options
        mass = token_masses(self.anchor.device)
        rows = self.rows[:, None].expand_as(self.anchor)
        logits = scorer.logits(self.table, rows, self.anchor, self._past())
        permitted = self.permitted.at(self.anchor, self.mass, forwards=scorer.forwards)
        logits = logits.masked_fill(~permitted, -1e4)
        total = self.score[..., None] + torch.log_softmax(logits, -1)
        unlikely = total <= self.least[:, None, None]
        total = total.masked_fill((logits <= -1e4) | unlikely, -torch.inf)
        cut = self.anchor[..., None] + (mass if scorer.forwards else -mass)
        whole = self.mass[:, None, None]
        remaining = whole - cut if scorer.forwards else cut
        slack = closing_slack(whole)
        window = torch.minimum(self.window[:, None, None], slack)
        residues = self._residues()
        asked = (residues >= options.shortest) & (residues <= options.longest)
        closes = (remaining.abs() <= window) & asked
        self._finish(total.masked_fill(~closes, -torch.inf))
        open_ends = (remaining.abs() > slack) & self._possible(remaining, window)
        total = total.masked_fill(~open_ends, -torch.inf)
        worst = self.done.score[self.rows, -1]
        total = total.masked_fill(total <= worst[:, None, None], -torch.inf)
        least = total.flatten(1).amax(-1) - options.margin
        total = total.masked_fill(total < least[:, None, None], -torch.inf)
        width = min(options.n_beams, total[0].numel())
        best, cell = total.flatten(1).topk(width, -1)
        place = torch.arange(width, device=best.device)
        best = best.masked_fill(place >= self.breadth[:, None], -torch.inf)
        cell = torch.where(torch.isfinite(best), cell, cell[:, :1])
        parent, token = cell // VOCABULARY, cell % VOCABULARY
        self.tokens = self.tokens.gather(1, parent[..., None].expand(-1, -1, options.max_slots))
        self.tokens = self.tokens.clone()
        self.tokens[..., self.length] = token
        self.anchor = cut.flatten(1).gather(1, cell)
        self.score = best
        self.length += 1
        self._forget_finished()
        return bool(torch.isfinite(best).any()) and self.length < options.max_slots

    def _forget_finished(self) -> None:
        """Drop spectra without a living beam, once they are many enough to pay for the copy."""
        alive = torch.isfinite(self.score).any(-1)
        if alive.sum() > 0.75 * alive.numel() and bool(alive.any()):
            return
        self.mass, self.window = self.mass[alive], self.window[alive]
        self.least, self.breadth = self.least[alive], self.breadth[alive]
        self.rows, self.anchor = self.rows[alive], self.anchor[alive]
        self.score, self.tokens = self.score[alive], self.tokens[alive]

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

    def _residues(self) -> Tensor:
        """Residues of every answer that one more token would make: int64 [B, W, V]."""
        modifies = n_terminal_tokens(self.anchor.device)
        begun = modifies[self.tokens[..., 0]] if self.length else torch.zeros_like(self.anchor)
        return self.length + 1 - begun[..., None].long() - modifies.long()

    def _finish(self, total: Tensor) -> None:
        """Merge the answers that close now into the finished ones."""
        count = min(self.options.candidates, total[0].numel())
        best, cell = total.flatten(1).topk(count, -1)
        if not torch.isfinite(best).any():
            return
        parent, token = cell // VOCABULARY, cell % VOCABULARY
        slots = self.options.max_slots
        fresh = self.tokens.gather(1, parent[..., None].expand(-1, -1, slots)).clone()
        fresh[..., self.length] = token
        if not self.scorer.forwards:
            fresh[..., : self.length + 1] = fresh[..., : self.length + 1].flip(-1)
        fresh = fresh.masked_fill(~torch.isfinite(best)[..., None], PAD)
        merged = best_of(
            torch.cat([self.done.tokens[self.rows], fresh], 1),
            torch.cat([self.done.score[self.rows], best], 1),
            self.options.candidates,
        )
        self.done.tokens[self.rows] = merged.tokens
        self.done.score[self.rows] = merged.score


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
        Where there is one to exceed, half the beams are enough.
    """
    if least is None:
        least = torch.full(window.shape, -torch.inf, device=window.device)
    beam = _Beam(table, scorer, options, permitted, window, least)
    alive = True
    while alive:
        alive = beam.step()
    return beam.done


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
    rules = beams.Rules(*masks, beams.compositions())
    slots, few = options.max_slots, options.candidates
    limits = beams.Limits(
        options.n_beams,
        few,
        options.margin,
        options.behind,
        options.shortest,
        options.longest,
        slots,
    )
    count = window.numel()
    tokens = torch.zeros(count, few, slots, dtype=torch.int64)
    score = torch.full((count, few), -torch.inf)
    one, two = scorer.forwards.memo(table), scorer.backwards.memo(table)
    most = slots * (options.n_beams + few)
    least = least.clamp(min=float(beams.NOTHING))
    for row, known in enumerate(zip(window.tolist(), least.tolist(), strict=True)):
        stores = (one.reserve(most), two.reserve(most))
        found = beams.draft(stores[0], stores[1], table.ground, row, rules, limits, *known)
        tokens[row], score[row] = (torch.from_numpy(part) for part in found)
    return Candidates(tokens, score.masked_fill(score <= float(beams.NOTHING), -torch.inf))
