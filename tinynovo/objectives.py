"""Objectives: a batch to a loss and to what is worth writing down about it.

Knows teacher forcing of the scorer and deep supervision of the loop, and what answers the loop is
started from. Does not know the optimizer nor files.

Axes: B spectra, A answers a spectrum, N = B * A, S slots, V tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from tinynovo.errors import InputError
from tinynovo.evidence import PeakTable, look_up
from tinynovo.expectation import Expectation
from tinynovo.explained import explained_peaks, inner_ions
from tinynovo.feedback import MOST_SLOTS, Evidence
from tinynovo.losses import (
    LossOptions,
    cross_entropy,
    halt_loss,
    mean,
    precursor_loss,
    ranking_loss,
    residue_loss,
    same_mass,
    spectrum_loss,
    step_weights,
    token_loss,
)
from tinynovo.model import Memory, Tinynovo
from tinynovo.recursion import RecursionOptions, Step, Verdict, judge, solve
from tinynovo.scorer import EvidenceScorer, anchors
from tinynovo.tokens import PAD, PeakBatch, n_terminal_tokens, token_masses

ROOM = (2, 13)
"""Slots beyond the longest true answer of a batch, drawn anew each time: a fixed number would tell
the network how long the answer is. Longer drafts are cut off.
"""

Figures = dict[str, float]


class StartOptions(BaseModel):
    """What the loop is started from in training.

    The best draft of a spectrum first, then others, and last one of the kinds whose shares are
    given here. The drafts are judged, the last is refined and not judged: the judge is asked about
    what a search has found, and a truth that no search has found would teach it that unlikely
    answers are right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    drafts: int = Field(6, ge=1, description="drafts of each spectrum")
    draft: float = Field(0.4, ge=0, description="the best draft")
    corrupted: float = Field(0.3, ge=0, description="the truth with a stretch spoilt")
    truth: float = Field(0.1, ge=0, description="the truth itself")
    empty: float = Field(0.2, ge=0, description="nothing")
    slots: int | None = Field(
        None, ge=2, le=MOST_SLOTS, description="of every answer; none: by chance, more than needed"
    )


class ScorerObjective(nn.Module):
    """Teacher forcing in both directions: the true next residue at every true anchor."""

    def __init__(self, model: Tinynovo) -> None:
        super().__init__()
        self.scorer = model.scorer

    def forward(self, batch: PeakBatch, target: Tensor) -> tuple[Tensor, Figures]:
        """Loss of spectra and their answers int64 [B, S]."""
        return teacher_forced(self.scorer, PeakTable(batch, self.scorer.options), target)


def teacher_forced(
    scorer: EvidenceScorer, table: PeakTable, target: Tensor
) -> tuple[Tensor, Figures]:
    """Loss of a scorer that is put to the true anchors of answers int64 [B, S]."""
    rows = torch.arange(target.shape[0], device=target.device)
    forwards, backwards = scorer.logits(table, rows, target)
    real = target != PAD
    truth = target[real]
    parts = [token_loss(logits[real], truth) for logits in (forwards, backwards)]
    right = [
        same_mass(logits[real].argmax(-1), truth).float().mean() for logits in (forwards, backwards)
    ]
    return parts[0] + parts[1], {
        "forwards_loss": parts[0].item(),
        "backwards_loss": parts[1].item(),
        "forwards_token_accuracy": right[0].item(),
        "backwards_token_accuracy": right[1].item(),
    }


class ExpectationObjective(nn.Module):
    """What ions true peptides give: the log-probability of those that are found."""

    def __init__(self, model: Tinynovo) -> None:
        super().__init__()
        assert model.expectation is not None
        self.expectation = model.expectation
        self.evidence = model.scorer.options

    def forward(self, batch: PeakBatch, target: Tensor) -> tuple[Tensor, Figures]:
        """Loss of spectra and their answers int64 [B, S]: nats an ion, and one of the middle."""
        return true_nats(self.expectation, PeakTable(batch, self.evidence), target)


def true_nats(expectation: Expectation, table: PeakTable, target: Tensor) -> tuple[Tensor, Figures]:
    """Loss of an expectation of true answers int64 [B, S]: nats an ion, and one of the middle."""
    with torch.no_grad():
        row = torch.arange(target.shape[0], device=target.device)
        left, _ = anchors(target, table.batch.residue_mass)
        spectrum = row.repeat_interleave(target.shape[1])
        found = look_up(table, spectrum, left.flatten())
        inner = inner_ions(table, row, target, explained_peaks(table, row, found))
    expected = expectation(table, row, target, found, inner)
    seen = expected.asked & (expected.intensity > 0)
    loss = -mean(expected.each, expected.asked)
    middle = -mean(expected.inner_each, expected.inner_asked)
    return loss + middle, {
        "nats": loss.item(),
        "middle_nats": middle.item(),
        "found": seen.sum().item() / max(1, int(expected.asked.sum())),
    }


class LoopObjective(nn.Module):
    """Answers judged as they are, others refined: every step of a solve has its own loss.

    Parameters
    ----------
    model : Tinynovo
    recursion : RecursionOptions
    losses : LossOptions
    judged : int
        So many of the first answers of each spectrum are judged and not refined. Those that are
        refined are judged, step by step, only where this is 0. Empty answers are never judged.
    """

    def __init__(
        self, model: Tinynovo, recursion: RecursionOptions, losses: LossOptions, *, judged: int
    ) -> None:
        super().__init__()
        self.model = model
        self.recursion = recursion
        self.losses = losses
        self.judged = judged
        learns = any(p.requires_grad for p in model.scorer.parameters())
        self.teaches = learns and losses.scorer > 0

    def forward(self, batch: PeakBatch, target: Tensor, starts: Tensor) -> tuple[Tensor, Figures]:
        """Loss of spectra, their answers int64 [B, S], and first answers int64 [B, A, S]."""
        memory = self.model.remember(batch)
        total = torch.zeros((), device=target.device)
        figures: Figures = {}
        if self.teaches:
            forced, figures = teacher_forced(self.model.scorer, memory.table, target)
            total = self.losses.scorer * forced
        if self.judged:
            loss, figure = self._judging(memory, target, starts[:, : self.judged])
            total, figures = total + loss, figures | figure
        begun = starts[:, self.judged :]
        answers = begun.shape[1]
        truth = target.repeat_interleave(answers, 0)
        mass = batch.residue_mass.repeat_interleave(answers)
        weights = step_weights(self.losses.steps, self.recursion.supervision_steps)
        steps = solve(self.model, begun.flatten(0, 1), memory, self.recursion)
        for number, (weight, step) in enumerate(zip(weights, steps, strict=True)):
            loss, figure = self._step_loss(step, truth, mass)
            if not self.judged:
                more, told = self._verdict_loss(step, step.judged, truth, answers)
                loss = loss + more
                figure |= {**told, "loss": loss.item()}
            total = total + weight * loss
            figures |= {f"step{number}_{name}": value for name, value in figure.items()}
        return total, figures

    def _judging(self, memory: Memory, target: Tensor, answers: Tensor) -> tuple[Tensor, Figures]:
        """Loss of the verdicts on answers int64 [B, A, S]."""
        flat, count = answers.flatten(0, 1), answers.shape[1]
        evidence = self.model.evidence(flat, memory, judged=True)
        told = judge(self.model, evidence, memory, self.recursion.latent_updates)
        truth = target.repeat_interleave(count, 0)
        return self._verdict_loss(told, flat, truth, count)

    def _verdict_loss(
        self, told: Verdict[Evidence] | Step[Evidence], judged: Tensor, truth: Tensor, answers: int
    ) -> tuple[Tensor, Figures]:
        """Loss of verdicts on answers int64 [N, S], so many a spectrum."""
        options, halt, residues = self.losses, told.halt, told.residues
        right = same_mass(judged, truth).all(-1)
        asked = (judged != PAD).any(-1)
        rank = self.model.rank(told.evidence)
        lists = [each.view(-1, answers) for each in (rank, right, asked)]
        each = (
            halt_loss(halt, right, asked),
            ranking_loss(*lists),
            residue_loss(residues, judged, truth, asked),
        )
        loss = options.halt * each[0] + options.ranking * each[1] + options.residue * each[2]
        accuracy = ((halt > 0) == right).float().mean().item()
        names = ("halt_loss", "ranking_loss", "residue_loss")
        figures = {name: value.item() for name, value in zip(names, each, strict=True)}
        return loss, figures | {"halt_accuracy": accuracy}

    def _step_loss(
        self, step: Step[Evidence], truth: Tensor, mass: Tensor
    ) -> tuple[Tensor, Figures]:
        """Loss of the answer that comes out of a step."""
        options = self.losses
        entropy = cross_entropy(step.logits, truth)
        matching = spectrum_loss(step.logits, step.evidence.support, truth)
        precursor = precursor_loss(step.logits, mass)
        loss = entropy + options.spectrum * matching + options.precursor * precursor
        figures = {
            "loss": loss.item(),
            "cross_entropy": entropy.item(),
            "spectrum_loss": matching.item(),
            "precursor_loss": precursor.item(),
        }
        return loss, figures | answer_figures(step.state.answer, step.judged, truth, mass)


class RankObjective(nn.Module):
    """The order of drafts, from what is known of each as a whole.

    Where the expectation learns, it is also held to what true peptides give.
    """

    def __init__(self, model: Tinynovo, losses: LossOptions) -> None:
        super().__init__()
        self.model = model
        self.nats = losses.expectation
        expectation = model.expectation
        self.learns = expectation is not None and any(
            parameter.requires_grad for parameter in expectation.parameters()
        )

    def forward(self, batch: PeakBatch, target: Tensor, answers: Tensor) -> tuple[Tensor, Figures]:
        """Loss of spectra, their answers int64 [B, S], and drafts int64 [B, A, S]."""
        memory = self.model.remember(batch)
        with torch.set_grad_enabled(self.learns and torch.is_grad_enabled()):
            evidence = self.model.evidence(answers.flatten(0, 1), memory, judged=True)
        rank = self.model.rank(evidence).view(answers.shape[:2])
        right = same_mass(answers, target[:, None].expand_as(answers)).all(-1)
        asked = (answers != PAD).any(-1)
        best = rank.masked_fill(~asked, -torch.inf).argmax(1, keepdim=True)
        first = (right & asked).gather(1, best).float().mean().item()
        loss, figures = ranking_loss(rank, right, asked), {"first": first}
        if self.learns and self.model.expectation:
            nats, told = true_nats(self.model.expectation, memory.table, target)
            loss, figures = loss + self.nats * nats, figures | told
        return loss, figures


def mass_error(answer: Tensor, mass: Tensor) -> Tensor:
    """By how many ppm of the precursor an answer misses its mass: float32 [N], never negative."""
    weight = token_masses(answer.device)[answer].sum(-1)
    return (weight - mass).abs().to(torch.float32) / mass.to(torch.float32) * 1e6


def answer_figures(answer: Tensor, before: Tensor, truth: Tensor, mass: Tensor) -> Figures:
    """What one step made of answers; padding masked.

    Parameters
    ----------
    answer, before, truth : int64 [N, S]
        After the step, before it, and true. The flip rate is the share of true residues at whose
        slots the first two differ.
    mass : int64 [N]
        Residue mass of the precursor, micro-dalton.
    """
    real = truth != PAD
    residues = max(1, int(real.sum()))
    right = same_mass(answer, truth)
    lengths = (answer != PAD).sum(-1) == real.sum(-1)
    error = mass_error(answer, mass)
    return {
        "token_accuracy": (right & real).sum().item() / residues,
        "sequence_accuracy": right.all(-1).float().mean().item(),
        "length_accuracy": lengths.float().mean().item(),
        "flip_rate": ((answer != before) & real).sum().item() / residues,
        "mean_error_ppm": error.mean().item(),
        "median_error_ppm": error.median().item(),
    }


def corrupted(answer: list[int], rng: np.random.Generator) -> list[int]:
    """An answer with one stretch spoilt: shuffled, replaced by an equal mass, or at random."""
    if len(answer) < 3:
        return answer
    length = int(rng.integers(2, min(5, len(answer)) + 1))
    begin = int(rng.integers(0, len(answer) - length + 1))
    stretch = answer[begin : begin + length]
    kind = rng.random()
    if kind < 0.4:
        rng.shuffle(stretch)
    elif kind < 0.8:
        begin, stretch, length = begin, _equal_mass(answer[begin : begin + 2], rng), 2
    else:
        stretch = rng.integers(1, 20, length).tolist()
    return [*answer[:begin], *stretch, *answer[begin + length :]]


def _pairs() -> dict[int, list[list[int]]]:
    """Residues and pairs of residues by nominal mass."""
    masses = token_masses().tolist()
    modified = n_terminal_tokens().tolist()
    plain = [token for token in range(1, len(masses)) if not modified[token]]
    found: dict[int, list[list[int]]] = {}
    for a in plain:
        found.setdefault(round(masses[a] / 1e6), []).append([a])
        for b in plain:
            found.setdefault(round((masses[a] + masses[b]) / 1e6), []).append([a, b])
    return found


_BY_MASS = _pairs()


def _equal_mass(stretch: list[int], rng: np.random.Generator) -> list[int]:
    masses = token_masses().tolist()
    choices = _BY_MASS.get(round(sum(masses[token] for token in stretch) / 1e6), [stretch])
    return list(choices[int(rng.integers(len(choices)))])


def padded(target: Tensor, slots: int | None, rng: np.random.Generator) -> Tensor:
    """Answers int64 [B, S] with more slots, as many as asked for or by chance."""
    room = int(rng.integers(*ROOM)) if slots is None else slots - target.shape[1]
    if room < 0:
        longest = target.shape[1]
        raise InputError(f"starts.slots = {slots}: a training peptide has {longest} tokens")
    return functional.pad(target, (0, room))


def starts(
    target: Tensor,
    drafts: NDArray[np.uint8],
    options: StartOptions,
    rng: np.random.Generator,
) -> Tensor:
    """First answers of the loop: int64 [B, A, S], A - 1 drafts and one of another kind.

    Parameters
    ----------
    target : int64 [B, S]
        Longer drafts are cut off at S.
    drafts : uint8 [B, K, S']
        Drafts of every spectrum, best first, all padding where missing. The best is always taken,
        the others are drawn; what is missing stays empty.
    """
    rows, slots = target.shape
    answers = np.zeros((rows, options.drafts + 1, slots), np.int64)
    shares = np.array([options.draft, options.corrupted, options.truth, options.empty])
    kinds = rng.choice(shares.size, rows, p=shares / shares.sum())
    for row in range(rows):
        found = [d.tolist() for d in drafts[row] if d[0] != PAD]
        others = rng.permutation(np.arange(1, max(1, len(found))))[: options.drafts - 1]
        chosen = [*found[:1], *(found[other] for other in others)]
        truth = [token for token in target[row].tolist() if token != PAD]
        best = found[0] if found else []
        last = (best, corrupted(truth, rng), truth, [])[kinds[row]]
        for place, answer in [*enumerate(chosen), (options.drafts, last)]:
            kept = [token for token in answer if token != PAD][:slots]
            answers[row, place, : len(kept)] = kept
    return torch.from_numpy(answers)
