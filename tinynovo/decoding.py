"""Decoding: from the scorer or from slot logits to ranked peptides of exact precursor mass.

Knows how to search: a beam along the peptide in either direction, a k-best search over slots. Does
not know files, nor what the scores that it adds up mean.

Axes: B spectra, W beams, K candidates, S slots, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from tinynovo.evidence import PeakTable, closing_slack
from tinynovo.permitted import Permitted
from tinynovo.scorer import DirectedScorer, EvidenceScorer
from tinynovo.tokens import PAD, VOCABULARY, n_terminal_tokens, token_masses

_CELL = 1_000
"""Micro-dalton of a cell of the grid of masses that residues can add up to."""

_REACH = 600_000_000
"""Micro-dalton from which on every mass counts as one that they can."""

_ROUNDING = 5 * _CELL
"""What ten residues, each off by half a cell, can be off together."""


class BeamOptions(BaseModel):
    """How wide and how long the beam search looks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_beams: int = Field(16, ge=1, description="beams kept in each direction")
    candidates: int = Field(16, ge=1, description="finished peptides kept a spectrum")
    margin: float = Field(20.0, gt=0, description="nats by which a beam may be worse than the best")
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
    """How many cells before each one hold a mass that residues can add up to: int64 [cells + 1]."""
    plain = token_masses()[~n_terminal_tokens()].tolist()
    reach = torch.zeros(_REACH // _CELL, dtype=torch.bool)
    reach[0] = True
    for width in {round(mass / _CELL) for mass in plain} - {0}:
        for _ in range(len(reach) // width):
            reach[width:] |= reach[:-width].clone()
    return torch.nn.functional.pad(reach.cumsum(0), (1, 0))


def composable(remaining: Tensor, slack: Tensor) -> Tensor:
    """Whether residues can add up to what remains, within the slack; always true when it is large.

    Both int64 micro-dalton, broadcastable; returns bool of the shape of ``remaining``.
    """
    table = _compositions().to(remaining.device)
    cells = table.numel() - 1
    room = slack + _ROUNDING
    low = torch.div(remaining - room, _CELL, rounding_mode="floor").clamp(0, cells)
    high = torch.div(remaining + room, _CELL, rounding_mode="floor").clamp(-1, cells - 1)
    return (table[high + 1] > table[low]) | (remaining + room >= _REACH)


class _Beam:
    """The state of one search: B spectra times W partial answers."""

    def __init__(
        self,
        table: PeakTable,
        scorer: DirectedScorer,
        options: BeamOptions,
        permitted: Permitted,
        window: Tensor,
    ) -> None:
        self.table, self.scorer, self.options = table, scorer, options
        self.permitted, self.window = permitted, window
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
        total = total.masked_fill(logits <= -1e4, -torch.inf)
        cut = self.anchor[..., None] + (mass if scorer.forwards else -mass)
        whole = self.mass[:, None, None]
        remaining = whole - cut if scorer.forwards else cut
        slack = closing_slack(whole)
        window = torch.minimum(self.window[:, None, None], slack)
        closes = (remaining.abs() <= window) & ~self._lone_modification()
        self._finish(total.masked_fill(~closes, -torch.inf))
        open_ends = (remaining.abs() > slack) & self._possible(remaining, window)
        total = total.masked_fill(~open_ends, -torch.inf)
        worst = self.done.score[self.rows, -1]
        total = total.masked_fill(total <= worst[:, None, None], -torch.inf)
        least = total.flatten(1).amax(-1) - options.margin
        total = total.masked_fill(total < least[:, None, None], -torch.inf)
        width = min(options.n_beams, total[0].numel())
        best, cell = total.flatten(1).topk(width, -1)
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

    def _lone_modification(self) -> Tensor:
        """A peptide must hold a residue: what cannot close at the first slot, bool [V]."""
        modification = n_terminal_tokens(self.anchor.device)
        return modification if self.length == 0 else torch.zeros_like(modification)

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
    """
    beam = _Beam(table, scorer, options, permitted, window)
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


_HALF = 128
_CHOICES = 5


def exact_answers(
    logits: Tensor, residue_mass: Tensor, permitted: Permitted, window: Tensor, count: int
) -> Candidates:
    """The best answers from slot logits that weigh what the precursor weighs.

    The better halves of either side are enumerated, at most `_HALF` of each, and joined where
    their integer masses add up.

    Parameters
    ----------
    logits : float32 [N, S, V]
    residue_mass : int64 [N]
        Micro-dalton.
    permitted : Permitted
    window : int64 [N]
        Micro-dalton by which an answer may miss the precursor.
    count : int
        Answers wanted.

    Returns
    -------
    Candidates
        [N, count, S]: padding between residues is moved to the end.
    """
    slots = logits.shape[1]
    inner = permitted.others & ~n_terminal_tokens(logits.device)
    mask = torch.stack([permitted.first, *[inner] * (slots - 1)])
    logp = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), -1)
    left = _half(logp[:, : slots // 2])
    right = _half(logp[:, slots // 2 :])
    gap = left[1][:, :, None] + right[1][:, None, :] - residue_mass[:, None, None]
    fits = gap.abs() <= window[:, None, None]
    score = (left[2][:, :, None] + right[2][:, None, :]).masked_fill(~fits, -torch.inf)
    best, cell = score.flatten(1).topk(min(count, score[0].numel()), -1)
    one, two = cell // score.shape[2], cell % score.shape[2]
    first = left[0].gather(1, one[..., None].expand(-1, -1, left[0].shape[-1]))
    second = right[0].gather(1, two[..., None].expand(-1, -1, right[0].shape[-1]))
    tokens = squeezed(torch.cat([first, second], -1))
    return Candidates(tokens.masked_fill(~torch.isfinite(best)[..., None], PAD), best)


def _half(logp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best token rows of some slots [N, s, V]: tokens [N, H, s], mass and score [N, H]."""
    count, slots, _ = logp.shape
    masses = token_masses(logp.device)
    tokens = torch.zeros(count, 1, 0, dtype=torch.int64, device=logp.device)
    mass = torch.zeros(count, 1, dtype=torch.int64, device=logp.device)
    score = torch.zeros(count, 1, device=logp.device)
    for slot in range(slots):
        value, token = logp[:, slot].topk(_CHOICES, -1)
        total = (score[:, :, None] + value[:, None, :]).flatten(1)
        score, cell = total.topk(min(_HALF, total.shape[1]), -1)
        parent, chosen = cell // _CHOICES, token.gather(1, cell % _CHOICES)
        mass = mass.gather(1, parent) + masses[chosen]
        tokens = tokens.gather(1, parent[..., None].expand(-1, -1, slot))
        tokens = torch.cat([tokens, chosen[..., None]], -1)
    return tokens, mass, score


def squeezed(answers: Tensor) -> Tensor:
    """Answers [..., S] with padding between residues moved to the end."""
    order = torch.argsort((answers == PAD).to(torch.int8), dim=-1, stable=True)
    return answers.gather(-1, order)


def both_ways(
    scorer: EvidenceScorer,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted,
    window: Tensor,
) -> Candidates:
    """What the beam searches from both ends find, each answer once, with its own direction's score.

    At most ``options.candidates`` from each end; missing ones are all padding.
    """
    found = [
        beam_search(one, table, options, permitted, window)
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
) -> Candidates:
    """Beam search from both ends, merged and judged by both directions together."""
    merged = both_ways(scorer, table, options, permitted, window)
    score = answer_scores(scorer, table, merged.tokens, permitted)
    return best_of(merged.tokens, score, options.candidates)
