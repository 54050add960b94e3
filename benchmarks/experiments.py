"""Many training runs of one question: started, resumed, and read back.

A run is a configuration of ``configs/`` with some options set. Those that are not finished are
trained, several at once, each in its own process; so a batch that was interrupted goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from common import HERE

from tinynovo.errors import InputError
from tinynovo.runs import Run, read_run

ROOT = HERE.parent


@dataclass(frozen=True)
class Wanted:
    """One run: its name, its configuration and the options that are set beside it."""

    name: str
    config: str
    steps: int
    settings: tuple[str, ...]
    folder: Path

    @property
    def directory(self) -> Path:
        """Where the run is kept."""
        return self.folder / self.name

    def done(self) -> bool:
        """Whether it has been trained and tried."""
        try:
            run = read_run(self.directory)
        except InputError:
            return False
        return run.steps >= self.steps and bool(run.metrics) and "loss" not in run.metrics[-1]

    def train(self) -> None:
        """Train it in a process of its own."""
        settings = [f"output={self.directory}", f"steps={self.steps}", *self.settings]
        command = [sys.executable, "-m", "tinynovo", "train", "--resume"]
        command += ["--config", f"configs/{self.config}.yaml"]
        for setting in settings:
            command += ["--set", setting]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def carry_out(wanted: Sequence[Wanted], workers: int) -> None:
    """Train what is not done, so many at once."""
    todo = [one for one in wanted if not one.done()]
    print(f"{len(wanted) - len(todo)} of {len(wanted)} runs are done", flush=True)

    def carried(one: Wanted) -> None:
        one.train()
        print(f"done: {one.name}", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(carried, todo))


def runs_of(wanted: Sequence[Wanted]) -> list[Run]:
    """What the runs left, in the same order."""
    return [read_run(one.directory) for one in wanted]
