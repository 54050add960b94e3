"""Training: the scorer, its drafts, then the loop on top of it.

Knows batches, the optimizer, the moving average of the weights, validation, metrics and how to
continue an interrupted run. Does not know argv nor how the losses come about.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track
from torch import Tensor

from tinynovo import checkpoint
from tinynovo.checkpoint import Checkpoint, Frozen
from tinynovo.drafting import DraftOptions, DraftPlan, Drafts
from tinynovo.errors import InputError
from tinynovo.evaluation import evaluate
from tinynovo.evidence import EvidenceOptions
from tinynovo.logbook import Logbook, LogOptions
from tinynovo.losses import LossOptions
from tinynovo.mixture import MixtureOptions, mix
from tinynovo.model import ModelOptions, Tinynovo
from tinynovo.objectives import (
    Figures,
    LoopObjective,
    ScorerObjective,
    StartOptions,
    starts,
)
from tinynovo.peptide import Peptide
from tinynovo.readers import read_spectra
from tinynovo.recursion import RecursionOptions
from tinynovo.sequencing import Sequencer, SequencingOptions, find_device
from tinynovo.spectrum import Preprocessing, Spectrum

STATE = "tinynovo-training-1"
_ROOM = (2, 13)
"""Slots beyond the longest true answer of a batch, drawn anew each time: a fixed number would tell
the network how long the answer is. Longer drafts are cut off.
"""

_POOL = 32
"""Batches drawn together and sorted by length, so that little is padded."""


class OptimizerOptions(BaseModel):
    """AdamW with warm-up and cosine decay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(1e-3, gt=0)
    final: float = Field(0.02, ge=0, le=1, description="share of the rate left at the end")
    warmup: int = Field(100, ge=0, description="steps")
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights")


class TrainingOptions(BaseModel):
    """One training run: one reproducible result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["scorer", "loop"] = Field(description="what is trained")
    output: Path = Field(description="directory of the run")
    cache: Path = Field(description="directory of packed corpora and drafts; runs may share it")
    scorer: Path | None = Field(
        None, description="checkpoint that the scorer comes from; a loop needs one"
    )
    loop: Path | None = Field(None, description="checkpoint that all the rest comes from")
    seed: int = 0
    steps: int = Field(4000, ge=1)
    batch_size: int = Field(32, ge=1)
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
    validate_every: int = Field(2000, ge=1, description="steps")
    save_every: int = Field(500, ge=1, description="steps")
    log_every: int = Field(50, ge=1, description="steps")
    device: str = Field("auto", description="auto, cpu, cuda or mps")
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    threads: int = Field(1, ge=1, description="of torch on the CPU")
    log: LogOptions = LogOptions()


def train(options: TrainingOptions, *, resume: bool) -> Path:
    """Run a training stage to its end; returns the checkpoint.

    Raises
    ------
    InputError
        When data, checkpoint or output cannot be used, or the output already holds a run and
        ``resume`` is not asked for.
    """
    run = _Run(options, resume=resume)
    with closing(run.book):
        return run.run()


class _Run:
    """One run: everything that changes from step to step."""

    def __init__(self, options: TrainingOptions, *, resume: bool) -> None:
        self.options = options
        self.console = Console(stderr=True)
        self.state_file = options.output / "state.safetensors"
        if self.state_file.exists() and not resume:
            raise InputError(
                "this directory already holds a run", file=options.output, remedy="add --resume"
            )
        find_device(options.device)
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        accelerator = "gpu" if options.device == "cuda" else options.device
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=options.precision)
        self.mixture = mix(
            options.mixture,
            options.preprocessing,
            options.cache,
            options.seed,
            tell=self.console.print,
        )
        self.model = self._model()
        self.past = self._past()
        self.drafts = self._drafts() if options.stage == "loop" else None
        self.step = 0
        self._prepare()
        if resume and self.state_file.exists():
            self._restore()
        options.output.mkdir(parents=True, exist_ok=True)
        settings = options.model_dump(mode="json")
        self.book = Logbook(options.output, self.step, options.log, settings)

    def _model(self) -> Tinynovo:
        options = self.options
        if options.stage == "loop" and options.scorer is None:
            raise InputError("the loop needs a trained scorer", remedy="set scorer")
        shape, evidence = options.model, options.evidence
        if options.scorer is not None:
            scorer = checkpoint.load_scorer(options.scorer)
            evidence = scorer.options
        if options.loop is None:
            model = Tinynovo(shape, evidence)
        else:
            model = checkpoint.load(options.loop).model
            if (model.options, model.scorer.options) != (shape, evidence):
                raise InputError("is of another shape than this run", file=options.loop)
        if options.scorer is not None:
            model.scorer = scorer
        return model

    def _drafts(self) -> Drafts:
        options = self.options
        assert options.scorer is not None
        plan = DraftPlan(
            self.mixture,
            options.scorer,
            options.drafts,
            options.cache,
            options.seed,
            options.precursor_ppm,
        )
        for done in plan.make():
            self.console.print(f"drafts: {done} of {options.drafts.count}")
        return plan.read()

    def _prepare(self) -> None:
        options = self.options
        if options.stage == "scorer":
            objective: torch.nn.Module = ScorerObjective(self.model)
        else:
            self.model.scorer.requires_grad_(False)
            objective = LoopObjective(self.model, options.recursion, options.losses)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        if options.stage == "scorer":
            self.trained = {n: p for n, p in self.trained.items() if n.startswith("scorer.")}
        adam = torch.optim.AdamW(
            self.trained.values(),
            lr=options.optimizer.learning_rate,
            weight_decay=options.optimizer.weight_decay,
            betas=(0.9, 0.98),
        )
        self.objective, self.adam = self.fabric.setup(objective, adam)
        self.ema = {name: p.detach().clone() for name, p in self.trained.items()}

    def _restore(self) -> None:
        tensors, metadata = checkpoint.read(self.state_file, STATE)
        known = {n: t.shape for n, t in tensors.items() if n.startswith("model.")}
        if known != {f"model.{n}": p.shape for n, p in self.trained.items()}:
            raise InputError("holds the state of another network", file=self.state_file)
        self.step = int(metadata["step"])
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(tensors[f"model.{name}"])
                self.ema[name].copy_(tensors[f"ema.{name}"])
        state = self.adam.state_dict()
        state["state"] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "adam":
                number, _, name = rest.partition(".")
                state["state"].setdefault(int(number), {})[name] = value
        self.adam.load_state_dict(state)

    def run(self) -> Path:
        """Train, validate, save."""
        options = self.options
        (options.output / "options.json").write_text(options.model_dump_json(indent=1), "utf-8")
        batches = self._batches()
        begin = time.monotonic()
        total = options.steps - self.step
        for rows in track(batches, "training", total=total, console=self.console):
            figures = self._train_step(rows)
            if self.step % options.log_every == 0:
                self.book.write(self.step, {**figures, "seconds": time.monotonic() - begin})
            if self.step % options.validate_every == 0 and self.step < options.steps:
                self.book.write(self.step, self.validate(options.validation_limit))
            if self.step % options.save_every == 0:
                self._save()
        self._save()
        path = self._export()
        self.book.write(self.step, self.validate(options.validation_limit))
        return path

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Rows of every batch from the present step on; the same whenever a run is resumed."""
        options = self.options
        lengths = self.mixture.corpus.lengths
        for pool in range(self.step // _POOL, math.ceil(options.steps / _POOL)):
            rng = np.random.default_rng([options.seed, pool])
            size = _POOL * options.batch_size
            if self.drafts is None:
                rows = self.mixture.draw(size, rng)
                order = np.argsort(lengths[rows], kind="stable")
            else:
                rows = rng.integers(0, self.drafts.rows.size, size)
                order = np.argsort(lengths[self.drafts.rows[rows]], kind="stable")
            batches = rows[order].reshape(_POOL, options.batch_size)[rng.permutation(_POOL)]
            first = pool * _POOL
            yield from batches[max(0, self.step - first) : options.steps - first]

    def _train_step(self, rows: NDArray[np.int64]) -> Figures:
        options = self.options
        rate = self._rate()
        for group in self.adam.param_groups:
            group["lr"] = rate
        loss, figures = self.objective(*self._batch(rows))
        self.adam.zero_grad()
        self.fabric.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), options.optimizer.clip)
        self.adam.step()
        self.step += 1
        decay = min(options.optimizer.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, parameter in self.trained.items():
                self.ema[name].lerp_(parameter, 1 - decay)
        if not math.isfinite(loss.item()):
            raise InputError(f"the loss is {loss.item()} at step {self.step}")
        return {"loss": loss.item(), "rate": rate, "gradient": float(norm), **figures}

    def _rate(self) -> float:
        options = self.options.optimizer
        progress = self.step / self.options.steps
        cosine = options.final + (1 - options.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return options.learning_rate * cosine * min(1.0, (self.step + 1) / (options.warmup + 1))

    def _batch(self, rows: NDArray[np.int64]) -> tuple[object, ...]:
        options, device = self.options, self.fabric.device
        rng = np.random.default_rng([options.seed, 1 << 20, self.step])
        drawn = rows if self.drafts is None else self.drafts.rows[rows]
        batch, target = self.mixture.corpus.batch(drawn, options.precursor_ppm, rng)
        if self.drafts is None:
            return batch.to(device), target.to(device)
        drafts = self.drafts.tokens[rows]
        target = torch.nn.functional.pad(target, (0, int(rng.integers(*_ROOM))))
        first = starts(target, drafts, options.starts, rng)
        return batch.to(device), target.to(device), first.to(device)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, and those that are not trained."""
        return {**self.model.state_dict(), **self.ema}

    def _frozen(self) -> Frozen:
        options = self.options
        own = f"{self.step:,} of {options.steps:,} steps of {options.batch_size} spectra"
        own += f", rate {options.optimizer.learning_rate:g}"
        notes: dict[str, str | int | float | list[str]] = {
            "stage": options.stage,
            "steps": self.step,
            "history": [*self.past, f"{options.stage}: {own}"],
            "training_data": [
                f"{i.kind}: {i.path.name if i.path else 'random'}"
                for i in options.mixture.ingredients
            ],
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }
        return Frozen(
            preprocessing=options.preprocessing,
            evidence=self.model.scorer.options,
            model=self.model.options,
            recursion=options.recursion,
            notes=notes,
        )

    def _past(self) -> list[str]:
        """Earlier runs that the scorer and the loop come from."""
        found: list[str] = []
        for stage, source in (("scorer", self.options.scorer), ("loop", self.options.loop)):
            lines = checkpoint.load_frozen(source).notes.get("history") if source else None
            if isinstance(lines, list):
                found += [line for line in lines if line.startswith(stage)]
        return found

    def _export(self) -> Path:
        path = self.options.output / "model.safetensors"
        checkpoint.save(path, self.weights(), self._frozen())
        return path

    def _save(self) -> None:
        tensors = {f"model.{n}": p.detach() for n, p in self.trained.items()}
        tensors |= {f"ema.{n}": p for n, p in self.ema.items()}
        for number, state in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": value for name, value in state.items()}
        metadata = {"format": STATE, "step": str(self.step)}
        checkpoint.write_atomically(self.state_file, tensors, metadata)
        self._export()

    def validate(self, limit: int) -> Figures:
        """Figures of the averaged weights, through what users get."""
        options = self.options
        model = Tinynovo(self.model.options, self.model.scorer.options)
        model.load_state_dict(self.weights())
        strategy: Literal["draft", "full"] = "draft" if options.stage == "scorer" else "full"
        sequencer = Sequencer(
            Checkpoint(model, self._frozen()),
            SequencingOptions(strategy=strategy, isotope_error_range=(0, 0)),
            device=options.device,
        )
        figures: Figures = {}
        for file in options.validation:
            spectra = _sample(list(read_spectra(file)), limit)
            metrics = evaluate(
                [Peptide.parse(s.peptide) for s in spectra], list(sequencer.sequence(spectra))
            )
            figures[f"{file.stem}_peptide_recall"] = metrics.published.peptide_recall or 0.0
            figures[f"{file.stem}_aa_precision"] = metrics.published.aa_precision or 0.0
        return figures


def _sample(spectra: list[Spectrum], count: int) -> list[Spectrum]:
    """Evenly spread spectra of a file."""
    step = max(1, len(spectra) // count)
    return spectra[::step][:count]
