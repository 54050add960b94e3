"""The logbook of a run: figures by step, as JSONL always, to TensorBoard and W&B where asked.

Knows how lines of abandoned steps are struck out when a run is resumed. Does not know what the
figures mean.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tinynovo.errors import InputError


class LogOptions(BaseModel):
    """Where figures go beside ``metrics.jsonl``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensorboard: bool = Field(False, description="also to TensorBoard, in the run's directory")
    wandb: str | None = Field(
        None, description="also to this Weights & Biases project; WANDB_MODE=offline works"
    )


class Logbook:
    """Figures of one run.

    Parameters
    ----------
    directory : Path
        Of the run.
    step : int
        Where the run stands; lines of later steps are struck out.
    options : LogOptions
    settings : mapping
        The resolved configuration.

    Raises
    ------
    InputError
        When a logger is asked for that is not installed.
    """

    def __init__(
        self, directory: Path, step: int, options: LogOptions, settings: Mapping[str, Any]
    ) -> None:
        path = directory / "metrics.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() and step else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in kept), "utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._board: Any = None
        self._run: Any = None
        if options.tensorboard:
            board = _installed("torch.utils.tensorboard")
            self._board = board.SummaryWriter(directory / "tensorboard")
        if options.wandb:
            self._run = _installed("wandb").init(
                project=options.wandb, dir=str(directory), config=dict(settings)
            )

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """One line of figures; it is on the disk when this returns."""
        row = {"step": step, **{name: round(value, 6) for name, value in figures.items()}}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        if self._run is not None:
            self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Close all loggers."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._run is not None:
            self._run.finish()


def _installed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module} is not installed", remedy="pip install 'tinynovo[logging]'"
        ) from error
