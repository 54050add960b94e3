"""Decoding: from the scorer to ranked peptides of exact precursor mass.

Knows how the searches along the peptide in either direction become drafts. Does not know how these
search, nor files, nor what the scores that it adds up mean.

Axes: B spectra, K candidates, S slots, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinynovo import beams
from tinynovo.beams import FALLBACK, UNLIMITED, narrowed
from tinynovo.compositions import compositions
from tinynovo.evidence import PeakTable, compiled
from tinynovo.partials import NOTHING, stretches
from tinynovo.permitted import Permitted
from tinynovo.rules import Rules
from tinynovo.scorer import EvidenceScorer
from tinynovo.searching import BeamOptions, Candidates, Search, best_of
from tinynovo.tokens import PAD


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


def _any(window: Tensor) -> Tensor:
    """What every answer exceeds: [B]."""
    return torch.full(window.shape, -torch.inf, device=window.device)


def both_ways(
    scorer: EvidenceScorer,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted,
    window: Tensor,
    least: Tensor | None = None,
) -> Candidates:
    """What the beam searches from both ends find, each answer once, with its own direction's score.

    At most ``options.candidates`` from each end; missing ones are all padding. The first search is
    guided by a narrow one from the other end, the second by the first.
    """
    least = _any(window) if least is None else least
    asked = (table, options, permitted, window, least)
    first, second = Search(scorer.forwards, *asked), Search(scorer.backwards, *asked)
    guided = options.guide_margin < UNLIMITED
    if guided:
        second.narrow()
        first.follow(second)
    found = [first.run()]
    if guided:
        second.follow(first)
    found.append(second.run())
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

    ``least`` is float32 [B], a log-probability that an answer must exceed; left out: any will do.
    One of the two directions exceeds what their mean exceeds.
    """
    least = _any(window) if least is None else least
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
    nats = (options.margin, options.guide_margin, options.behind)
    limits = beams.Limits(options.n_beams, few, *nats, *lengths)
    one, two = scorer.forwards.memo(table), scorer.backwards.memo(table)
    width = options.n_beams + max(options.n_beams, FALLBACK) + narrowed(options.n_beams)
    most = stretches(int(table.batch.residue_mass.max())) * width + slots * few
    first, second = (memo.reserve(most * window.numel()) for memo in (one, two))
    least = least.clamp(min=float(NOTHING))
    known = (window.numpy(), least.numpy())
    found = beams.drafts(first, second, table.ground, rules, limits, *known)
    tokens, score = (torch.from_numpy(part) for part in found)
    return Candidates(tokens, score.masked_fill(score <= float(NOTHING), -torch.inf))
