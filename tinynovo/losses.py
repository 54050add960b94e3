"""Losses: cross-entropy, halting, ranking, spectrum matching, precursor mass.

Knows what a good answer is; means are over the answers of all processes that share a step. Does not
know the optimizer nor files.

Axes: N answers (A of each of B spectra), S slots, V tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from tinynovo.ranks import average
from tinynovo.tokens import PAD, token_masses


class LossOptions(BaseModel):
    """Weights of the losses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    halt: float = Field(1.0, ge=0, description="is the whole answer right")
    ranking: float = Field(1.0, ge=0, description="is the right answer of a spectrum the surest")
    expectation: float = Field(
        1.0, ge=0, description="ions of true peptides, where the order of drafts teaches them"
    )
    residue: float = Field(0.5, ge=0, description="is each residue right")
    spectrum: float = Field(0.1, ge=0, description="probability on residues whose ions are there")
    precursor: float = Field(0.01, ge=0, description="expected mass against the precursor")
    scorer: float = Field(
        1.0, ge=0, description="teacher forcing of the scorer, where it is trained with the loop"
    )
    steps: Literal["uniform", "linear", "exponential"] = Field(
        "uniform", description="weights of the supervision steps"
    )


def mean(each: Tensor, counted: Tensor) -> Tensor:
    """Sum of what is counted, zero elsewhere, over how much that is; scalar."""
    return each.sum() / average(counted.sum()).clamp(min=1)


def token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy a token: logits [T, V] against target int64 [T]; scalar."""
    each = functional.cross_entropy(logits, target, reduction="none")
    return mean(each, torch.ones_like(target))


def step_weights(kind: Literal["uniform", "linear", "exponential"], steps: int) -> list[float]:
    """Weights of the supervision steps, summing to one: flat, 1 2 3 ..., or 1 2 4 ..."""
    raw = {
        "uniform": [1.0] * steps,
        "linear": [float(i + 1) for i in range(steps)],
        "exponential": [2.0**i for i in range(steps)],
    }[kind]
    return [weight / sum(raw) for weight in raw]


def same_mass(answer: Tensor, target: Tensor) -> Tensor:
    """Which tokens weigh the same: bool [N, S]; D and N[Deamidated] cannot be told apart."""
    masses = token_masses(answer.device)
    return masses[answer] == masses[target]


_SAME = 1_000
"""Micro-dalton below which masses are the same: what GG and N differ by is rounding."""


def same_place(judged: Tensor, target: Tensor) -> Tensor:
    """Which residues of answers stand between the same two masses in the target: bool [N, S].

    Whatever stands before them: after GG for N the residues are right, one slot further.
    """
    masses = token_masses(judged.device)
    there = target != PAD
    (mine, ends), (begins, wanted) = (
        (masses[a].cumsum(-1) - masses[a], masses[a].cumsum(-1)) for a in (judged, target)
    )
    begun = (mine[:, :, None] - begins[:, None]).abs() < _SAME
    ended = (ends[:, :, None] - wanted[:, None]).abs() < _SAME
    return (begun & ended & there[:, None]).any(-1) & (judged != PAD)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over answers of the mean over the residues and one padding slot of each: scalar."""
    real = target != PAD
    weight = (real | (real.cumsum(-1) == real.sum(-1, keepdim=True))).to(logits.dtype)
    weight = torch.where(real, weight, weight / (~real).sum(-1, keepdim=True).clamp(min=1))
    each = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return ((each.view_as(target) * weight).sum(-1) / weight.sum(-1)).mean()


def halt_loss(halt: Tensor, right: Tensor, asked: Tensor) -> Tensor:
    """Binary cross-entropy: is the whole answer right; scalar.

    Parameters
    ----------
    halt : float32 [N]
        Logits that an answer is right.
    right, asked : bool [N]
        Whether it is, and which answers count.
    """
    each = functional.binary_cross_entropy_with_logits(halt, right.to(halt.dtype), reduction="none")
    return mean(each * asked, asked)


def ranking_loss(halt: Tensor, right: Tensor, asked: Tensor) -> Tensor:
    """Cross-entropy over the answers of a spectrum: is a right one surer than the others; scalar.

    All are [B, A], as for `halt_loss`. Mean over all spectra, though only those count that have
    right and wrong answers. The list-wise loss of Cao et al. (ICML 2007) with one winner.
    """
    decided = (right & asked).any(1) & (~right & asked).any(1)
    scores = halt[decided].masked_fill(~asked[decided], -torch.inf)
    won = scores.masked_fill(~right[decided], -torch.inf)
    return (scores.logsumexp(1) - won.logsumexp(1)).sum() / halt.shape[0]


def residue_loss(residues: Tensor, judged: Tensor, target: Tensor, asked: Tensor) -> Tensor:
    """Binary cross-entropy a residue of the answers asked, bool [N]; padding masked; scalar."""
    real = (judged != PAD) & asked[:, None]
    right = same_place(judged, target).to(residues.dtype)
    each = functional.binary_cross_entropy_with_logits(residues, right, reduction="none")
    return mean(each * real, real)


def spectrum_loss(logits: Tensor, support: Tensor, target: Tensor) -> Tensor:
    """One minus the share of attainable fragment intensity that the answer goes for; scalar.

    Parameters
    ----------
    logits : float32 [N, S, V]
    support : float32 [N, S, V]
        Summed intensity of the protonated b and y ions of each candidate.
    target : int64 [N, S]
        Only tells which slots are padding.
    """
    best = support.amax(-1)
    seen = (best > 0) & (target != PAD)
    won = (logits.softmax(-1) * support).sum(-1) / best.clamp(min=1e-6)
    return mean((1 - won) * seen, seen)


def precursor_loss(logits: Tensor, residue_mass: Tensor) -> Tensor:
    """Smooth L1 of the expected mass against the precursor, in units of 100 Da; scalar."""
    mass = token_masses(logits.device).to(torch.float32) * 1e-6
    expected = (logits.softmax(-1) @ mass).sum(-1)
    wanted = residue_mass.to(torch.float32) * 1e-6
    return functional.smooth_l1_loss(expected / 100, wanted / 100)
