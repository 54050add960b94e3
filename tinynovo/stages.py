"""Stages: what a training run is asked for, and what differs between its stages.

Knows which weights of the scorer, of the expectation, of the loop on drafts, and of the loop from
nothing are trained on which batches towards which objective, and how the result is validated. Does
not know the optimizer nor how a run is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from tinynovo.checkpoint import Checkpoint
from tinynovo.corpus import Corpus
from tinynovo.drafting import DraftOptions, DraftPlan
from tinynovo.errors import InputError
from tinynovo.evaluation import evaluate
from tinynovo.evidence import EvidenceOptions
from tinynovo.layers import ModelOptions
from tinynovo.logbook import LogOptions
from tinynovo.losses import LossOptions
from tinynovo.mixture import Mixture, MixtureOptions, held_out
from tinynovo.model import Tinynovo
from tinynovo.objectives import (
    ROOM,
    ExpectationObjective,
    Figures,
    LoopObjective,
    RankObjective,
    ScorerObjective,
    StartOptions,
    padded,
    starts,
)
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.readers import read_spectra
from tinynovo.recursion import RecursionOptions
from tinynovo.runs import Trial
from tinynovo.sequencing import Sequencer
from tinynovo.spectrum import Preprocessing, Spectrum
from tinynovo.tokens import PeakBatch
from tinynovo.trials import try_loop

_TRIED = 16
"""Supervision steps of a trial: more than in training, to see where the loop goes."""

Rows = NDArray[np.int64]


class OptimizerOptions(BaseModel):
    """AdamW with warm-up and cosine decay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(1e-3, gt=0)
    final: float = Field(
        0.02, ge=0, le=1, description="share of the rate left at the end; 1: all of it, always"
    )
    warmup: int = Field(100, ge=0, description="steps")
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights")


class TrainingOptions(BaseModel):
    """One training run: one reproducible result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["scorer", "expectation", "loop", "rank", "whole"] = Field(
        description="the scorer; the expectation of spectra; the loop, on drafts of the one and "
        "with the other; the order of drafts alone; or all at once, from nothing"
    )
    output: Path = Field(description="directory of the run")
    cache: Path = Field(description="directory of packed corpora and drafts; runs may share it")
    scorer: Path | None = Field(
        None,
        description="checkpoint of the scorer, trained on in its own stage only; a loop needs one",
    )
    expectation: Path | None = Field(
        None, description="checkpoint of the expectation, trained on in its own stage only"
    )
    loop: Path | None = Field(None, description="checkpoint that all the rest comes from")
    seed: int = Field(0, description="of the first weights and the batches")
    data_seed: int = Field(0, description="of spectra that are simulated, rendered or held out")
    steps: int = Field(4000, ge=1)
    batch_size: int = Field(32, ge=1, description="spectra a step, of all processes together")
    precursor_ppm: float = Field(5.0, ge=0, description="sd of the noise on precursor masses")
    mixture: MixtureOptions
    preprocessing: Preprocessing = Preprocessing()
    evidence: EvidenceOptions = EvidenceOptions()
    model: ModelOptions = ModelOptions()
    recursion: RecursionOptions = RecursionOptions()
    losses: LossOptions = LossOptions()
    starts: StartOptions = StartOptions()
    drafts: DraftOptions = DraftOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    validation: list[Path] = Field([], description="labelled files, never trained on")
    validation_limit: int = Field(64, ge=1, description="spectra of each, during training")
    held_out: int = Field(
        0, ge=0, description="random peptides, never trained on, that the loop is tried on"
    )
    validate_every: int = Field(2000, ge=1, description="steps")
    save_every: int = Field(500, ge=1, description="steps")
    log_every: int = Field(50, ge=1, description="steps")
    device: str = Field("auto", description="auto, cpu, cuda or mps")
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    threads: int = Field(1, ge=1, description="of torch on the CPU")
    workers: int = Field(2, ge=1, description="processes that pack corpora and draft")
    log: LogOptions = LogOptions()


class Stage:
    """What the stages share: batches of the mixture, and validation through sequencing.

    Parameters
    ----------
    options : TrainingOptions
    mixture : Mixture
    model : Tinynovo
        Weights that the stage does not train are frozen.
    tell : callable
        Given a line on anything that takes long.
    """

    strategy: Literal["full", "draft", "empty"]

    def __init__(
        self,
        options: TrainingOptions,
        mixture: Mixture,
        model: Tinynovo,
        tell: Callable[[str], None],
    ) -> None:
        self.options = options
        self.mixture = mixture
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.trains(name))
        for part in model.children():
            part.train(any(parameter.requires_grad for parameter in part.parameters()))
        self.objective = self.aim(model)
        self.gather(tell)

    def aim(self, model: Tinynovo) -> nn.Module:
        """The objective."""
        raise NotImplementedError

    def gather(self, tell: Callable[[str], None]) -> None:
        """Make or read what the stage needs beside the mixture."""

    def trains(self, name: str) -> bool:
        """Whether weights of this name are trained."""
        raise NotImplementedError

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """So many samples, and how many tokens the answer of each has."""
        rows = self.mixture.draw(size, rng)
        return rows, self.mixture.corpus.lengths[rows]

    def batch(self, drawn: Rows, rng: np.random.Generator) -> tuple[PeakBatch | Tensor, ...]:
        """What the objective is given of some samples."""
        return self.mixture.corpus.batch(drawn, self.options.precursor_ppm, rng)

    def validate(self, loaded: Checkpoint) -> Figures:
        """Figures of validation files, through what users get."""
        options = self.options
        sequencer = Sequencer(
            loaded,
            SequencingOptions(strategy=self.strategy, isotope_error_range=(0, 0)),
            device=options.device,
        )
        figures: Figures = {}
        for file in options.validation:
            spectra = _sample(list(read_spectra(file)), options.validation_limit)
            metrics = evaluate(
                [Peptide.parse(s.peptide) for s in spectra], list(sequencer.sequence(spectra))
            )
            figures[f"{file.stem}_peptide_recall"] = metrics.published.peptide_recall or 0.0
            figures[f"{file.stem}_aa_precision"] = metrics.published.aa_precision or 0.0
        return figures

    def trials(self, loaded: Checkpoint) -> Iterator[Trial]:
        """The loop, step by step, on spectra that it was not trained on."""
        yield from ()


class ScorerStage(Stage):
    """The evidence scorer, by teacher forcing."""

    strategy = "draft"

    def aim(self, model: Tinynovo) -> nn.Module:
        """Teacher forcing."""
        return ScorerObjective(model)

    def trains(self, name: str) -> bool:
        """Only the scorer."""
        return name.startswith("scorer.")


class ExpectationStage(Stage):
    """The expectation, from true peptides alone."""

    def aim(self, model: Tinynovo) -> nn.Module:
        """Likelihood of the ions that are found."""
        if model.expectation is None:
            raise InputError(
                "this network expects nothing", remedy="set model.expectation_blocks to 3"
            )
        return ExpectationObjective(model)

    def trains(self, name: str) -> bool:
        """Only the expectation."""
        return name.startswith("expectation.")

    @torch.inference_mode()
    def validate(self, loaded: Checkpoint) -> Figures:
        """Nats an ion of validation files."""
        objective, figures = ExpectationObjective(loaded.model), Figures()
        device = next(loaded.model.parameters()).device
        for file in self.options.validation:
            corpus = _validation(file, self.options)
            batch, target = corpus.batch(range(len(corpus)), 0.0, np.random.default_rng(0))
            _, told = objective(batch.to(device), target.to(device))
            figures |= {f"{file.stem}_{name}": value for name, value in told.items()}
        return figures


class LoopStage(Stage):
    """The loop, on the drafts of a scorer that stays as it is."""

    strategy = "full"

    def aim(self, model: Tinynovo) -> nn.Module:
        """Drafts are judged, and what stands behind them is refined."""
        options = self.options
        judged = options.starts.drafts
        return LoopObjective(model, options.recursion, options.losses, judged=judged)

    def gather(self, tell: Callable[[str], None]) -> None:
        """The drafts, which are made once."""
        options = self.options
        if options.scorer is None:
            raise InputError("the loop needs a trained scorer", remedy="set scorer")
        made_with = (options.drafts, options.cache, options.data_seed, options.precursor_ppm)
        plan = DraftPlan(self.mixture, options.scorer, *made_with, options.workers)
        for done in plan.make():
            tell(f"drafts: {done} of {options.drafts.count}")
        self.drafts = plan.read()

    def trains(self, name: str) -> bool:
        """All but the scorer, and but the expectation where it comes from a checkpoint."""
        kept = name.startswith(("scorer.", "expectation."))
        return not kept or self.learns_to_expect(name)

    def learns_to_expect(self, name: str) -> bool:
        """Whether weights of this name are of an expectation that is trained."""
        return name.startswith("expectation.") and self.options.expectation is None

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Places among the drafts."""
        places = rng.integers(0, self.drafts.rows.size, size)
        return places, self.mixture.corpus.lengths[self.drafts.rows[places]]

    def batch(self, drawn: Rows, rng: np.random.Generator) -> tuple[PeakBatch | Tensor, ...]:
        """Spectra, their answers and several first answers of each."""
        batch, target = super().batch(self.drafts.rows[drawn], rng)
        assert isinstance(target, Tensor)
        target = padded(target, self.options.starts.slots, rng)
        first = starts(target, self.drafts.tokens[drawn], self.options.starts, rng)
        return batch, target, first

    def trials(self, loaded: Checkpoint) -> Iterator[Trial]:
        """On validation files, from the best draft."""
        options = self.options
        for file in options.validation:
            corpus = _validation(file, options)
            yield try_loop(
                loaded.model,
                corpus,
                options.recursion.model_copy(update={"supervision_steps": _TRIED}),
                name=file.stem,
                trained_steps=options.recursion.supervision_steps,
                slots=int(corpus.lengths.max()) + ROOM[0],
                drafted=True,
            )


class RankStage(LoopStage):
    """The order of drafts, where all else is trained: of spectra that it decides about."""

    def gather(self, tell: Callable[[str], None]) -> None:
        """The drafts among which some are right and some are wrong; all where none is right."""
        super().gather(tell)
        some = self.drafts.open(self.mixture.corpus)
        tell(f"drafts: right and wrong ones of {some.rows.size} spectra")
        self.drafts = some if some.rows.size else self.drafts

    def aim(self, model: Tinynovo) -> nn.Module:
        """The right draft first."""
        return RankObjective(model, self.options.losses)

    def trains(self, name: str) -> bool:
        """What ranks, and the expectation unless it comes from a checkpoint."""
        return name.startswith("ranker.") or self.learns_to_expect(name)

    def batch(self, drawn: Rows, rng: np.random.Generator) -> tuple[PeakBatch | Tensor, ...]:
        """Spectra, their answers and drafts of each."""
        *spectra, first = super().batch(drawn, rng)
        assert isinstance(first, Tensor)
        return *spectra, first[:, :-1]


class WholeStage(Stage):
    """The loop from empty answers, and the scorer with it unless it comes from a checkpoint."""

    strategy = "empty"

    def aim(self, model: Tinynovo) -> nn.Module:
        """Deep supervision."""
        options = self.options
        return LoopObjective(model, options.recursion, options.losses, judged=0)

    def gather(self, tell: Callable[[str], None]) -> None:
        """The peptides that are held out."""
        options = self.options
        self.unseen: Corpus | None = None
        if options.held_out:
            self.unseen = held_out(
                options.mixture,
                options.preprocessing,
                self.mixture.corpus,
                options.held_out,
                options.data_seed,
            )

    def trains(self, name: str) -> bool:
        """All but what is not asked, or comes from a checkpoint."""
        options, asked = self.options, self.options.model.evidence == "shared"
        taught = {
            "scorer": asked and options.scorer is None,
            "expectation": asked and options.expectation is None,
        }
        return taught.get(name.partition(".")[0], True)

    def batch(self, drawn: Rows, rng: np.random.Generator) -> tuple[PeakBatch | Tensor, ...]:
        """Spectra, their answers and an empty answer of each."""
        batch, target = super().batch(drawn, rng)
        assert isinstance(target, Tensor)
        target = padded(target, self.options.starts.slots, rng)
        return batch, target, torch.zeros_like(target)[:, None]

    def trials(self, loaded: Checkpoint) -> Iterator[Trial]:
        """On random peptides, from nothing, for more steps than in training."""
        options = self.options
        if self.unseen is not None:
            steps = options.recursion.supervision_steps
            yield try_loop(
                loaded.model,
                self.unseen,
                options.recursion.model_copy(update={"supervision_steps": max(_TRIED, steps)}),
                name="random peptides",
                trained_steps=steps,
                slots=options.starts.slots or int(self.unseen.lengths.max()) + ROOM[0],
                noise_ppm=options.precursor_ppm,
            )


STAGES: dict[str, type[Stage]] = {
    "scorer": ScorerStage,
    "expectation": ExpectationStage,
    "loop": LoopStage,
    "rank": RankStage,
    "whole": WholeStage,
}


def _validation(file: Path, options: TrainingOptions) -> Corpus:
    """Evenly spread spectra of a validation file, as they are trained on."""
    few = _sample(list(read_spectra(file)), options.validation_limit)
    return Corpus.pack(few, options.preprocessing, max_tokens=options.mixture.max_tokens)[0]


def _sample(spectra: list[Spectrum], count: int) -> list[Spectrum]:
    """Evenly spread spectra of a file."""
    step = max(1, len(spectra) // count)
    return spectra[::step][:count]
