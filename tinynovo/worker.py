"""Worker: what sequences files in another process, one after another.

Knows what it is handed and what it hands back. Does not know what runs it, nor other workers.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from tinynovo import __version__
from tinynovo.comparing import Sequences
from tinynovo.errors import InputError
from tinynovo.journeys import answered
from tinynovo.report import Findings
from tinynovo.spool import pack

if TYPE_CHECKING:
    from tinynovo.options import SequencingOptions


@dataclass(frozen=True)
class Load:
    """What a worker loads: the checkpoint of a path, or the packaged weights."""

    path: Path | None
    options: SequencingOptions
    threads: int

    def __call__(self, device: str) -> Sequences:
        """Load it, in the worker."""
        from tinynovo.sequencing import Sequencer
        from tinynovo.solving import use_threads

        if self.path and not self.path.exists():
            raise _unseen(self.path)
        use_threads(self.threads)
        return Sequencer.load(self.path, self.options, device)


@dataclass(frozen=True)
class About:
    """What a worker says of itself when it has loaded its model."""

    version: str
    settings: dict[str, str]
    window: int


@dataclass(frozen=True)
class Share:
    """Rows of a window, or, behind the last, how the file ended and what was found in it."""

    rows: pa.RecordBatch | None = None
    complaint: InputError | None = None
    findings: Findings | None = None


class Worker:
    """One model and one file at a time; lives in a process of the cluster.

    Parameters
    ----------
    load : callable
        Gives, told the device, what sequences.
    device : str
    folder : str
        What relative paths are relative to, where the worker's machine has it.
    """

    def __init__(self, load: Callable[[str], Sequences], device: str, folder: str) -> None:
        # As in `tinynovo.cli`, before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        with suppress(OSError):
            os.chdir(folder)
        self._load = load
        self._device = device

    def about(self) -> About:
        """Load the model."""
        self._sequencer = self._load(self._device)
        return About(__version__, dict(self._sequencer.settings), self._sequencer.window)

    def begin(
        self, file: Path, exists: bool, kept: list[pa.RecordBatch], findings: Findings | None
    ) -> Share:
        """Take up a file behind the rows that are known; its first share.

        Raises
        ------
        InputError
            When the file exists, but not here.
        """
        if exists and not file.exists():
            raise _unseen(file)
        self._findings = findings
        self._noted: list[InputError] = []
        answer, window = self._sequencer.rows, self._sequencer.window
        self._rows = answered(answer, window, file, self._noted, findings, kept)
        return self.more()

    def more(self) -> Share:
        """The next share."""
        rows = next(self._rows, None)
        if rows is not None:
            return Share(pack(rows))
        return Share(complaint=next(iter(self._noted), None), findings=self._findings)


def _unseen(file: Path) -> InputError:
    remedy = "files must lie on storage that all workers see"
    where = socket.gethostname()
    return InputError(f"cannot be found by the worker on {where}", file=file, remedy=remedy)
