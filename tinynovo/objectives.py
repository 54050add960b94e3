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

from tinynovo.evidence import PeakTable, peak_table
from tinynovo.feedback import MOST_SLOTS, Evidence
from tinynovo.losses import (
    LossOptions,
    cross_entropy,
    halt_loss,
    precursor_loss,
    ranking_loss,
    residue_loss,
    same_mass,
    spectrum_loss,
    step_weights,
    token_loss,
)
from tinynovo.model import Tinynovo
from tinynovo.recursion import RecursionOptions, Step, solve
from tinynovo.scorer import EvidenceScorer
from tinynovo.tokens import PAD, PeakBatch, n_terminal_tokens, token_masses

Figures = dict[str, float]


class StartOptions(BaseModel):
    """What the loop is started from in training.

    The best draft of a spectrum first, then others, and last one of the kinds whose shares are
    given here. The last is refined, not judged: the judge is asked about what a search has found,
    and a truth that no search has found would teach it that unlikely answers are right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    drafts: int = Field(4, ge=1, description="drafts of each spectrum")
    corrupted: float = Field(0.5, ge=0, description="the truth with a stretch spoilt")
    truth: float = Field(0.2, ge=0, description="the truth itself")
    empty: float = Field(0.3, ge=0, description="nothing")
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
        return teacher_forced(self.scorer, peak_table(batch, self.scorer.options), target)


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


class LoopObjective(nn.Module):
    """Deep supervision: every step of a solve has its own loss.

    Parameters
    ----------
    model : Tinynovo
    recursion : RecursionOptions
    losses : LossOptions
    unjudged : int
        So many of the last answers of each spectrum are refined only, not judged. Empty answers
        are never judged.
    """

    def __init__(
        self,
        model: Tinynovo,
        recursion: RecursionOptions,
        losses: LossOptions,
        *,
        unjudged: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.recursion = recursion
        self.losses = losses
        self.unjudged = unjudged
        learns = any(p.requires_grad for p in model.scorer.parameters())
        self.teaches = learns and losses.scorer > 0

    def forward(self, batch: PeakBatch, target: Tensor, starts: Tensor) -> tuple[Tensor, Figures]:
        """Loss of spectra, their answers int64 [B, S], and first answers int64 [B, A, S]."""
        memory = self.model.remember(batch)
        answers = starts.shape[1]
        truth = target.repeat_interleave(answers, 0)
        mass = batch.residue_mass.repeat_interleave(answers)
        total = torch.zeros((), device=target.device)
        figures: Figures = {}
        if self.teaches:
            forced, figures = teacher_forced(self.model.scorer, memory.table, target)
            total = self.losses.scorer * forced
        weights = step_weights(self.losses.steps, self.recursion.supervision_steps)
        steps = solve(self.model, starts.flatten(0, 1), memory, self.recursion)
        for number, (weight, step) in enumerate(zip(weights, steps, strict=True)):
            asked = (step.judged != PAD).any(-1).view(-1, answers)
            asked[:, answers - self.unjudged :] = False
            loss, figure = self._step_loss(step, truth, mass, asked)
            total = total + weight * loss
            figures |= {f"step{number}_{name}": value for name, value in figure.items()}
        return total, figures

    def _step_loss(
        self, step: Step[Evidence], truth: Tensor, mass: Tensor, asked: Tensor
    ) -> tuple[Tensor, Figures]:
        options = self.losses
        right = same_mass(step.judged, truth).all(-1)
        entropy = cross_entropy(step.logits, truth)
        halt = halt_loss(step.halt, right, asked.flatten())
        ranking = ranking_loss(step.halt.view_as(asked), right.view_as(asked), asked)
        residue = residue_loss(step.residues, step.judged, truth, asked.flatten())
        matching = spectrum_loss(step.logits, step.evidence.support, truth)
        precursor = precursor_loss(step.logits, mass)
        loss = (
            entropy
            + options.halt * halt
            + options.ranking * ranking
            + options.residue * residue
            + options.spectrum * matching
            + options.precursor * precursor
        )
        figures = {
            "loss": loss.item(),
            "cross_entropy": entropy.item(),
            "halt_loss": halt.item(),
            "ranking_loss": ranking.item(),
            "residue_loss": residue.item(),
            "spectrum_loss": matching.item(),
            "precursor_loss": precursor.item(),
        }
        figures |= answer_figures(step.state.answer, step.judged, truth, mass)
        return loss, figures | {"halt_accuracy": ((step.halt > 0) == right).float().mean().item()}


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
    shares = np.array([options.corrupted, options.truth, options.empty])
    kinds = rng.choice(3, rows, p=shares / shares.sum())
    for row in range(rows):
        found = [d.tolist() for d in drafts[row] if d[0] != PAD]
        others = rng.permutation(np.arange(1, max(1, len(found))))[: options.drafts - 1]
        chosen = [*found[:1], *(found[other] for other in others)]
        truth = [token for token in target[row].tolist() if token != PAD]
        last = (corrupted(truth, rng), truth, [])[kinds[row]]
        for place, answer in [*enumerate(chosen), (options.drafts, last)]:
            kept = [token for token in answer if token != PAD][:slots]
            answers[row, place, : len(kept)] = kept
    return torch.from_numpy(answers)
