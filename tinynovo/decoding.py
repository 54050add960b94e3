"""Decoding: from the scorer to ranked peptides of exact precursor mass.

Knows how the searches along the peptide in either direction become drafts. Does not know how these
search, nor files, nor what the scores that it adds up mean.

Axes: B spectra, K candidates, S slots, V tokens.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from tinynovo import beams
from tinynovo.beams import FALLBACK, UNLIMITED, narrowed
from tinynovo.evidence import PeakTable, compiled
from tinynovo.launches import launchable
from tinynovo.partials import NOTHING, stretches
from tinynovo.permitted import Permitted
from tinynovo.scorer import DirectedScorer, EvidenceScorer
from tinynovo.searching import BeamOptions, Candidates, Search, best_of
from tinynovo.tokens import PAD
from tinynovo.waves import Wave

S = TypeVar("S", Search, Wave)


def directed_scores(
    scorer: DirectedScorer, table: PeakTable, row: Tensor, answers: Tensor, permitted: Permitted
) -> Tensor:
    """Log-probability [N] of answers [N, S] to spectra [N] in one direction."""
    answers = answers[:, : int((answers != PAD).sum(-1).max())] if row.numel() else answers
    mass = table.batch.residue_mass[row]
    places = scorer.places(table, row, answers)
    mask = permitted.at(places[1], mass, forwards=scorer.forwards)
    logits = scorer.logits(table, *places).masked_fill(~mask, -1e4)
    each = torch.log_softmax(logits, -1).gather(-1, answers[..., None]).squeeze(-1)
    return (each * (answers != PAD)).sum(-1)


def _any(window: Tensor) -> Tensor:
    """What every answer exceeds: [B]."""
    return torch.full(window.shape, -torch.inf, device=window.device)


def searched(
    scorer: EvidenceScorer,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted,
    window: Tensor,
    least: Tensor,
) -> tuple[Candidates, Candidates]:
    """What the beam searches from both ends find, with their own direction's scores.

    The first is guided by a narrow one from the other end, the second by the first.
    """
    asked = (table, options, permitted, window, least)
    ways, guided = (scorer.forwards, scorer.backwards), options.guide_margin < UNLIMITED
    if launchable(window):
        return _both_run(*(Wave(way, *asked) for way in ways), guided=guided)
    return _both_run(*(Search(way, *asked) for way in ways), guided=guided)


def _both_run(first: S, second: S, *, guided: bool) -> tuple[Candidates, Candidates]:
    """Run two searches, guided by one another."""
    if guided:
        second.follow(first)
        second.narrow()
        first.follow(second)
    one = first.run()
    if guided:
        second.follow(first)
    return one, second.run()


def _mean(
    scorer: EvidenceScorer,
    table: PeakTable,
    first: Candidates,
    second: Candidates,
    permitted: Permitted,
) -> Tensor:
    """Scores of what both searches found [B, 2 K], mean of both directions.

    What both found is not asked again, and counts once; minus infinity for what is not there.
    """
    same = (first.tokens[:, :, None] == second.tokens[:, None]).all(-1)
    same &= first.score.isfinite()[:, :, None] & second.score.isfinite()[:, None]
    told = second.score[:, None].masked_fill(~same, -torch.inf).amax(-1)
    score = torch.cat([first.score, second.score.masked_fill(same.any(1), -torch.inf)], 1)
    other = torch.cat([told, torch.full_like(second.score, -torch.inf)], 1)
    count, ways = first.score.shape[1], (scorer.backwards, scorer.forwards)
    for part, found, way in ((slice(count), first, ways[0]), (slice(count, None), second, ways[1])):
        unknown = score[:, part].isfinite() & other[:, part].isinf()
        row = unknown.nonzero()[:, 0]
        other[:, part][unknown] = directed_scores(way, table, row, found.tokens[unknown], permitted)
    return (score + other) / 2


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
    first, second = searched(scorer, table, options, permitted, window, least)
    tokens = torch.cat([first.tokens, second.tokens], 1)
    score = _mean(scorer, table, first, second, permitted)
    found = best_of(tokens, score, options.candidates)
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
    slots, few = options.max_slots, options.candidates
    one, two = scorer.forwards.memo(table), scorer.backwards.memo(table)
    width = options.n_beams + max(options.n_beams, FALLBACK) + narrowed(options.n_beams)
    most = stretches(int(table.batch.residue_mass.max())) * width + slots * few
    first, second = (memo.reserve(most * window.numel()) for memo in (one, two))
    least = least.clamp(min=float(NOTHING))
    known = (window.numpy(), least.numpy())
    found = beams.drafts(first, second, table.ground, permitted.rules(), options.limits, *known)
    tokens, score = (torch.from_numpy(part) for part in found)
    return Candidates(tokens, score.masked_fill(score <= float(NOTHING), -torch.inf))
