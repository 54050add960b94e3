"""Runs: what the directory of a training run holds, and how it is read back.

Knows the options, the figures by step and the trials of a run. Does not know how they came about,
nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from tinynovo.errors import InputError

OPTIONS, METRICS, TRIALS = "options.json", "metrics.jsonl", "trials.json"
WEIGHTS = "model.safetensors"


class Sample(BaseModel):
    """One spectrum of a trial: tokens that are true, and those that stood at the last step.

    `probability` is the judge's that all of it is right; `error_ppm` by how much it misses the
    precursor mass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    true: list[str]
    predicted: list[str]
    right: bool
    probability: float
    token_accuracy: float
    error_ppm: float


class Trial(BaseModel):
    """The loop tried on labelled spectra that it was not trained on.

    Attributes
    ----------
    name : str
        Of the spectra.
    start : str
        What the loop was started from.
    trained_steps : int
        Supervision steps in training.
    steps : list of dict
        Figures of every supervision step.
    entropy : list of float
        Bits of the logits of the last step, by residue from the N-terminus.
    most_entropy : float
        Bits if all tokens were alike.
    samples : list of Sample
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    start: str
    trained_steps: int
    steps: list[dict[str, float]]
    entropy: list[float]
    most_entropy: float
    samples: list[Sample]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes
    ----------
    directory : Path
    options : dict
        The resolved configuration.
    metrics : list of dict
        Figures, each with its step.
    trials : list of Trial
    version : str
        Of the code that wrote the weights, empty before there are any.
    parameters : int
        Numbers that the network has learned, 0 before there are any.
    """

    directory: Path
    options: dict[str, Any]
    metrics: list[dict[str, float]]
    trials: list[Trial]
    version: str = ""
    parameters: int = 0

    @property
    def steps(self) -> int:
        """Training steps done."""
        return max((int(row["step"]) for row in self.metrics), default=0)

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one figure."""
        rows = [row for row in self.metrics if name in row]
        return [int(row["step"]) for row in rows], [row[name] for row in rows]


_TRIALS = TypeAdapter(list[Trial])


def write_trials(directory: Path, trials: Iterable[Trial]) -> None:
    """Write trials beside the other files of a run; the file appears whole or not at all."""
    part = directory / f"{TRIALS}.part"
    part.write_bytes(_TRIALS.dump_json(list(trials)))
    part.replace(directory / TRIALS)


def read_run(directory: Path) -> Run:
    """Read what a run has left so far.

    Raises
    ------
    InputError
        When the directory holds no run, or a damaged one.
    """
    if not (directory / OPTIONS).is_file():
        remedy = "give the output directory of tinynovo train"
        raise InputError("holds no training run", file=directory, remedy=remedy)
    file = directory / OPTIONS
    try:
        options = json.loads(file.read_text("utf-8"))
        file = directory / METRICS
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        metrics = [json.loads(line) for line in lines if line.endswith("}")]
        file = directory / TRIALS
        trials = _TRIALS.validate_json(file.read_bytes()) if file.exists() else []
        file = directory / WEIGHTS
        version, parameters = _made(file) if file.exists() else ("", 0)
    except (OSError, ValueError, KeyError, ValidationError, SafetensorError) as error:
        raise InputError("cannot be read as part of a run", file=file) from error
    return Run(directory, options, metrics, trials, version, parameters)


def _made(path: Path) -> tuple[str, int]:
    """Version of the code that wrote a checkpoint and size of its network."""
    with safe_open(path, "numpy") as file:
        frozen = json.loads((file.metadata() or {})["frozen"])
    return str(frozen["code_version"]), int(frozen["notes"].get("parameters", 0))
