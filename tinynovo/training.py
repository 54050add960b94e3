"""Training: the steps of a run, of whatever stage.

Knows the optimizer, the moving average of the weights, metrics, how to continue an interrupted run,
and how processes share one: each makes every batch and takes its part, and the first one writes.
Does not know argv, what differs between stages nor how the losses come about.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tinynovo import checkpoint
from tinynovo.checkpoint import Checkpoint, Frozen
from tinynovo.errors import InputError
from tinynovo.logbook import Logbook
from tinynovo.mixture import mix
from tinynovo.model import Tinynovo
from tinynovo.objectives import Figures
from tinynovo.ranks import averages, leave, started
from tinynovo.runs import OPTIONS, WEIGHTS, write_trials
from tinynovo.solving import find_device
from tinynovo.stages import STAGES, Stage, TrainingOptions
from tinynovo.tokens import PeakBatch

STATE = "tinynovo-training-1"

Given = list[PeakBatch | Tensor]
"""What the objective is given."""

_AHEAD = 2
"""Batches that wait."""

_POOL = 32
"""Batches drawn together and sorted by length, so that little is padded."""


def train(options: TrainingOptions, *, resume: bool) -> Path:
    """Run a training stage to its end; returns the checkpoint.

    Raises
    ------
    InputError
        When data, checkpoint or output cannot be used, or the output already holds a run and
        ``resume`` is not asked for.
    """
    run = _Run(options, resume=resume)
    with closing(run.book) if run.book else nullcontext():
        path = run.run()
    leave()
    return path


def _fabric(options: TrainingOptions) -> Fabric:
    """The devices of a run: one, or one of each process that `torchrun` has started.

    Raises
    ------
    InputError
        When the processes cannot share a batch evenly.
    """
    here, hosts = started()
    if options.batch_size % (here * hosts):
        raise InputError(
            f"a batch of {options.batch_size} cannot be shared by {here * hosts} processes",
            remedy="set batch_size to a multiple",
        )
    fabric = Fabric(
        accelerator="gpu" if options.device == "cuda" else options.device,
        devices=here,
        num_nodes=hosts,
        strategy=DDPStrategy(find_unused_parameters=True) if here * hosts > 1 else "auto",
    )
    fabric.launch()
    return fabric


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """How attention is computed: on a CPU the gradient of the fused kernel takes most of a step."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


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
        torch.backends.cuda.matmul.allow_tf32 = True
        self.fabric = _fabric(options)
        self.first = self.fabric.is_global_zero
        self.console.quiet = not self.first
        torch.manual_seed(options.seed)
        self.model = self._model()
        self.past = self._past()
        with self.fabric.rank_zero_first():  # the others find what it has packed
            self.stage = self._stage()
        self.step = 0
        self._prepare()
        if resume and self.state_file.exists():
            self._restore()
        options.output.mkdir(parents=True, exist_ok=True)
        self.fabric.barrier()
        self.book = self._logbook()

    def _stage(self) -> Stage:
        options, tell = self.options, self.console.print
        data = (options.mixture, options.preprocessing, options.cache, options.data_seed)
        mixture = mix(*data, tell=tell, workers=options.workers)
        return STAGES[options.stage](options, mixture, self.model, tell)

    def _logbook(self) -> Logbook | None:
        options = self.options
        if not self.first:
            return None
        settings = options.model_dump(mode="json")
        return Logbook(options.output, self.step, options.log, settings)

    def _model(self) -> Tinynovo:
        options = self.options
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
        if options.expectation is not None and model.expectation:
            checkpoint.fill_expectation(options.expectation, model.expectation)
        return model

    def _prepare(self) -> None:
        options = self.options
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        adam = torch.optim.AdamW(
            self.trained.values(),
            lr=options.optimizer.learning_rate,
            weight_decay=options.optimizer.weight_decay,
            betas=(0.9, 0.98),
        )
        self.objective, self.adam = self.fabric.setup(self.stage.objective, adam)
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
        if self.first:
            (options.output / OPTIONS).write_text(options.model_dump_json(indent=1), "utf-8")
        begin = time.monotonic()
        total, given = options.steps - self.step, self._given()
        for batch in track(given, "training", total, console=self.console, disable=not self.first):
            figures = self._train_step(batch)
            if self.step % options.log_every == 0:
                told = averages(figures, self.fabric.device)
                self._write({**told, "seconds": time.monotonic() - begin})
            if self.step % options.validate_every == 0 and self.step < options.steps:
                self._validate()
            if self.step % options.save_every == 0:
                self._save()
        self._save()
        path = self._export()
        self._validate()
        return path

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Rows of every batch from the present step on; the same whenever a run is resumed."""
        options = self.options
        for pool in range(self.step // _POOL, math.ceil(options.steps / _POOL)):
            rng = np.random.default_rng([options.seed, pool])
            rows, lengths = self.stage.draw(_POOL * options.batch_size, rng)
            order = np.argsort(lengths, kind="stable")
            batches = rows[order].reshape(_POOL, options.batch_size)[rng.permutation(_POOL)]
            first = pool * _POOL
            yield from batches[max(0, self.step - first) : options.steps - first]

    def _given(self) -> Iterator[Given]:
        """Batches from the present step on: each is made while the one before is learned from."""
        made = deque[Future[Given]]()
        with ThreadPoolExecutor(1) as pool:
            for step, rows in enumerate(self._batches(), self.step):
                made.append(pool.submit(self._make, step, rows))
                if len(made) > _AHEAD:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()

    def _make(self, step: int, rows: NDArray[np.int64]) -> Given:
        """What this process is given of the samples of a step."""
        rng = np.random.default_rng([self.options.seed, 1 << 20, step])
        return [self._own(part) for part in self.stage.batch(rows, rng)]

    def _train_step(self, given: Given) -> Figures:
        options = self.options
        rate = self._rate()
        for group in self.adam.param_groups:
            group["lr"] = rate
        device, mixed = self.fabric.device, options.precision == "bf16-mixed"
        torch.manual_seed((options.seed << 32) + self.step)  # of what is forgotten
        with _attention(device):
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                loss, figures = self.objective(*given)
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

    def _own(self, part: PeakBatch | Tensor) -> PeakBatch | Tensor:
        """The samples of a batch that this process takes: every so-manieth."""
        ranks, rank = self.fabric.world_size, self.fabric.global_rank
        if ranks > 1:
            rows = torch.arange(rank, self.options.batch_size, ranks)
            part = part.select(rows) if isinstance(part, PeakBatch) else part[rows]
        return part.to(self.fabric.device)

    def _write(self, figures: Figures) -> None:
        if self.book:
            self.book.write(self.step, figures)

    def _rate(self) -> float:
        options = self.options.optimizer
        progress = self.step / self.options.steps
        cosine = options.final + (1 - options.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return options.learning_rate * cosine * min(1.0, (self.step + 1) / (options.warmup + 1))

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
        """Earlier runs that the scorer, the expectation and the loop come from."""
        found: dict[str, None] = {}
        options = self.options
        sources = {
            ("scorer", "whole"): options.scorer,
            ("expectation", "whole"): options.expectation or options.loop,
            ("loop", "whole", "rank"): options.loop,
        }
        for stages, source in sources.items():
            lines = checkpoint.load_frozen(source).notes.get("history") if source else None
            if isinstance(lines, list):
                found.update((line, None) for line in lines if line.startswith(stages))
        return list(found)

    def _export(self) -> Path:
        path = self.options.output / WEIGHTS
        if not self.first:
            return path
        checkpoint.save(path, self.weights(), self._frozen())
        return path

    def _save(self) -> None:
        if not self.first:
            return
        tensors = {f"model.{n}": p.detach() for n, p in self.trained.items()}
        tensors |= {f"ema.{n}": p for n, p in self.ema.items()}
        for number, state in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": value for name, value in state.items()}
        metadata = {"format": STATE, "step": str(self.step)}
        checkpoint.write_atomically(self.state_file, tensors, metadata)
        self._export()

    def _validate(self) -> None:
        """Write down figures of the averaged weights, and trials of them."""
        if not self.first:
            return
        model = Tinynovo(self.model.options, self.model.scorer.options)
        model.load_state_dict(self.weights())
        loaded = Checkpoint(model.to(self.fabric.device).eval(), self._frozen())
        figures = self.stage.validate(loaded)
        trials = list(self.stage.trials(loaded))
        for trial in trials:
            last = trial.steps[trial.trained_steps - 1]
            figures |= {f"held_out_{name}": value for name, value in last.items()}
        self._write(figures)
        write_trials(self.options.output, trials)
