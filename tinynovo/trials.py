"""Trials: the loop on labelled spectra, looked at step by step.

Knows what is counted of every supervision step and every answer. Does not know training nor how
the findings are drawn.

Axes: N spectra, one answer each, S slots, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tinynovo.corpus import Corpus
from tinynovo.decoding import draft
from tinynovo.evidence import closing_slack
from tinynovo.losses import cross_entropy, same_mass
from tinynovo.model import Memory, Tinynovo
from tinynovo.objectives import Figures, answer_figures, mass_error
from tinynovo.permitted import Permitted
from tinynovo.recursion import RecursionOptions, solve
from tinynovo.runs import Sample, Trial
from tinynovo.searching import BeamOptions
from tinynovo.tokens import PAD, VOCABULARY, PeakBatch, decode

_BATCH = 32
_BEAM = BeamOptions(n_beams=5, candidates=1)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one supervision step left, of all spectra.

    `judged` and `answer` are int64 [N, S], `halt` float32 [N]; `entropy`, float32 [N, S], is that
    of the logits in bits, and `loss` the mean cross-entropy.
    """

    judged: Tensor
    halt: Tensor
    answer: Tensor
    entropy: Tensor
    loss: float


def try_loop(
    model: Tinynovo,
    corpus: Corpus,
    recursion: RecursionOptions,
    *,
    name: str,
    trained_steps: int,
    slots: int,
    noise_ppm: float = 0.0,
    drafted: bool = False,
) -> Trial:
    """Run the loop on all spectra of a corpus.

    Parameters
    ----------
    model : Tinynovo
    corpus : Corpus
    recursion : RecursionOptions
        One step more is run, to judge what the last one answers; the loop never stops early.
    name : str
        Of the spectra.
    trained_steps : int
        Supervision steps in training, for the record.
    slots : int
        Of every answer; at least as many as the longest label has tokens.
    noise_ppm : float
        Standard deviation of the noise on precursor masses, the same at every call.
    drafted : bool
        Start from the best draft of the scorer, else from nothing.
    """
    run = recursion.model_copy(
        update={"supervision_steps": recursion.supervision_steps + 1, "halt_probability": 1.0}
    )
    order = np.argsort(corpus.mass, kind="stable")
    rng = np.random.default_rng(0)
    truths, masses, parts = [], [], []
    for begin in range(0, order.size, _BATCH):
        batch, target = corpus.batch(order[begin : begin + _BATCH], noise_ppm, rng)
        device = next(model.parameters()).device
        batch = batch.to(device)
        target = torch.nn.functional.pad(target, (0, slots - target.shape[1])).to(device)
        parts.append(list(_solved(model, batch, target, run, drafted)))
        truths.append(target)
        masses.append(batch.residue_mass)
    truth, mass = torch.cat(truths), torch.cat(masses)
    sizes = [target.shape[0] for target in truths]
    steps = [_joined(step, sizes) for step in zip(*parts, strict=True)]
    figures = [_figures(step, after, truth, mass) for step, after in pairwise(steps)]
    last, after = steps[-2], steps[-1]
    return Trial(
        name=name,
        start="the best draft" if drafted else "nothing",
        trained_steps=trained_steps,
        steps=figures,
        entropy=_entropy(last.entropy, truth),
        most_entropy=math.log2(VOCABULARY),
        samples=_samples(last.answer, after.halt.sigmoid(), truth, mass),
    )


@torch.inference_mode()
def _solved(
    model: Tinynovo, batch: PeakBatch, target: Tensor, run: RecursionOptions, drafted: bool
) -> Iterator[_Seen]:
    """Every step of one batch."""
    memory = model.remember(batch)
    first = _drafts(model, memory, target.shape[1]) if drafted else torch.zeros_like(target)
    for step in solve(model, first, memory, run):
        chances = step.logits.softmax(-1)
        entropy = torch.special.entr(chances).sum(-1) / math.log(2)
        loss = cross_entropy(step.logits, target).item()
        yield _Seen(step.judged, step.halt, step.state.answer, entropy, loss)


def _drafts(model: Tinynovo, memory: Memory, slots: int) -> Tensor:
    permitted = Permitted.by({}, memory.table.batch.mz.device)
    window = closing_slack(memory.table.batch.residue_mass)
    beam = _BEAM.model_copy(update={"max_slots": slots})
    return draft(model.scorer, memory.table, beam, permitted, window).tokens[:, 0]


def _joined(parts: tuple[_Seen, ...], sizes: list[int]) -> _Seen:
    judged, halt, answer, entropy = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("judged", "halt", "answer", "entropy")
    )
    loss = sum(part.loss * size for part, size in zip(parts, sizes, strict=True)) / sum(sizes)
    return _Seen(judged, halt, answer, entropy, loss)


def _figures(step: _Seen, after: _Seen, truth: Tensor, mass: Tensor) -> Figures:
    """Of one step; how sure the judge is of its answer is known one step later."""
    right = same_mass(step.answer, truth).all(-1)
    return {
        "cross_entropy": step.loss,
        **answer_figures(step.answer, step.judged, truth, mass),
        "halt_accuracy": ((after.halt > 0) == right).float().mean().item(),
    }


def _entropy(entropy: Tensor, truth: Tensor) -> list[float]:
    """Mean over the spectra that have a residue at each place."""
    real = truth != PAD
    held = real.sum(0)
    mean = (entropy * real).sum(0) / held.clamp(min=1)
    return [float(value) for value in mean[held > 0]]


def _samples(answer: Tensor, sure: Tensor, truth: Tensor, mass: Tensor) -> list[Sample]:
    right = same_mass(answer, truth)
    real = truth != PAD
    share = (right & real).sum(-1) / real.sum(-1).clamp(min=1)
    columns = (truth, answer, right.all(-1), sure, share, mass_error(answer, mass))
    return [
        Sample(
            true=list(decode(true).tokens),
            predicted=list(decode(found).tokens),
            right=whole,
            probability=probability,
            token_accuracy=accuracy,
            error_ppm=error,
        )
        for true, found, whole, probability, accuracy, error in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]
