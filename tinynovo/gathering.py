"""Gathering: rows of many files, by whoever answers, to one output.

Knows that rows wait for those before them, and for q-values, and what becomes of them when a run is
cut short. Does not know how spectra are read and answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from tinynovo.errors import InputError
from tinynovo.fdr import controlled, decoy_q_values, q_values
from tinynovo.psm import PSM
from tinynovo.report import Findings, write_report
from tinynovo.rows import Writer
from tinynovo.spool import Spools
from tinynovo.writers import find_writer, open_writer

T = TypeVar("T")

ROWS_A_WRITE = 64
"""So many rows are held back at most before they go to disk."""


@dataclass
class Outcome:
    """What became of the spectra.

    Attributes
    ----------
    spectra, answered : int
        How many were read, and how many of them have a peptide in the output.
    reasons : Counter
        Why the others have none, by `tinynovo.reasons.ReasonCode`.
    kept : int
        How many of them an earlier run answered.
    complaints : list of InputError
        What stopped the reading of files.
    """

    spectra: int = 0
    answered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    complaints: list[InputError] = field(default_factory=list)

    def add(self, rows: Iterable[PSM]) -> None:
        """Count the spectra of rows."""
        for psm in rows:
            if psm.rank == 1:
                self.spectra += 1
                self.answered += psm.peptide is not None
                if psm.peptide is None:
                    self.reasons[psm.reason_code] += 1


class Workers(Protocol):
    """What answers the spectra of files: this process, or a `tinynovo.cluster.Cluster`."""

    @property
    def settings(self) -> dict[str, str]:
        """The resolved configuration."""

    @property
    def window(self) -> int:
        """Spectra that are sequenced together: cut between windows, a run answers the same."""

    def fill(
        self, spools: Spools, findings: Findings | None, advance: Callable[[int], None]
    ) -> None:
        """Put by the rows of all files, each window of spectra as it is known.

        What the spools hold already is not sequenced again, but findings are told of it.
        """


def gather_files(
    workers: Workers,
    files: Sequence[Path],
    output: Path,
    format: str | None,
    advance: Callable[[int], None],
    report: Path | None = None,
    fdr: float | None = None,
    *,
    resume: bool = False,
) -> Outcome:
    """Let workers sequence every spectrum of every file; the output is written when all are known.

    Parameters
    ----------
    workers : Workers
    files, output, format, advance, report, fdr, resume
        As of `sequence_files`.
    """
    findings = Findings() if report else None
    settings = workers.settings | ({} if fdr is None else {"fdr": f"{fdr:g}"})
    find_writer(output, format)
    with Spools(output, files, workers.settings, workers.window, resume=resume) as spools:
        advance(spools.kept)
        fill = partial(workers.fill, spools, findings, advance)
        names = [str(file) for file in files]
        writer = open_writer(output, format, files=names, settings=settings)
        outcome = gathered(fill, spools, writer, fdr, keep=resume)
    if report and findings:
        write_report(report, findings, outcome.reasons, names, settings)
    return outcome


def gathered(
    fill: Callable[[], None],
    spools: Spools,
    writer: Writer,
    fdr: float | None,
    *,
    decoys: bool = False,
    keep: bool = False,
) -> Outcome:
    """Write what is put by, once all is, or what was before an interrupt.

    Parameters
    ----------
    fill : callable
        Puts rows into the spools.
    spools : Spools
        Removed when all of it is written.
    writer : Writer
        Closed at the end.
    fdr : float, optional
        Keep only the peptides that meet this false discovery rate, in 0..1.
    decoys : bool
        Whether there are decoys to tell it by.
    keep : bool
        Whether the spools stay where an interrupt ends the filling.
    """
    outcome = Outcome(kept=spools.kept)
    failure: BaseException | None = None
    with writer:
        try:
            fill()
        except (Exception, KeyboardInterrupt) as error:
            failure = error
        for rows in _released(spools, fdr, decoys):
            writer.write(rows)
            outcome.add(rows)
    if failure is None or not keep:
        spools.remove()
    if failure is not None:
        raise failure
    outcome.complaints = spools.complaints
    return outcome


def _released(spools: Spools, fdr: float | None, decoys: bool) -> Iterator[list[PSM]]:
    """What was put by, with q-values where there is a rate to meet."""
    scores, wrong = spools.best() if fdr is not None else (np.zeros(0), np.zeros(0, bool))
    q = iter(decoy_q_values(scores, wrong) if decoys else q_values(scores))
    for place in range(len(spools.files)):
        psms = spools.psms(place)
        yield from handfuls(psms if fdr is None else controlled(psms, q, fdr))


def handfuls(answers: Iterator[T], most: int = ROWS_A_WRITE) -> Iterator[list[T]]:
    """So many answers at a time; those already known come out before an error or an interrupt."""
    known: list[T] = []
    try:
        for answer in answers:
            known.append(answer)
            if len(known) == most:
                full, known = known, []
                yield full
    except (Exception, KeyboardInterrupt):
        yield known
        raise
    yield known


def spectra_of(rows: Iterable[PSM]) -> int:
    """How many spectra rows are of."""
    return sum(psm.rank == 1 for psm in rows)
