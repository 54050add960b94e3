"""Journeys: files in, files or figures out.

Knows which rooms a journey passes through and in which order. Does not know argv, the terminal or
mathematics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from tinynovo.comparing import Sequences
from tinynovo.errors import InputError
from tinynovo.gathering import Outcome, gather_files, gathered, handfuls, spectra_of
from tinynovo.matching import Proposals, Proposer
from tinynovo.pin import PinWriter
from tinynovo.psm import PSM
from tinynovo.readers import read_spectra
from tinynovo.report import Findings, write_report
from tinynovo.rows import Writer
from tinynovo.spectrum import Spectrum
from tinynovo.spool import Spools, pack, spectra_in, unpack
from tinynovo.writers import find_writer, open_writer

Answer = Callable[[Iterable[Spectrum]], Iterator[list[PSM]]]
"""What makes rows of each spectrum, in their order."""


class Judges(Protocol):
    """What judges proposed peptides: a `tinynovo.sequencing.Sequencer`."""

    @property
    def settings(self) -> dict[str, str]:
        """The resolved configuration."""

    @property
    def window(self) -> int:
        """Spectra that are judged together."""

    def judge(
        self, spectra: Iterable[Spectrum], propose: Proposer, *, closed: bool
    ) -> Iterator[tuple[Spectrum, list[PSM]]]:
        """Rows of each spectrum, by rank; at least one."""


def check_output(output: Path, inputs: Sequence[Path | None]) -> None:
    """Refuse, before the work, an output that is an input or cannot be written.

    So is a file given twice, whose rows could not be told apart.

    Raises
    ------
    InputError
    """
    twice = next((file for file in inputs if file and inputs.count(file) > 1), None)
    if twice is not None:
        raise InputError("is given twice", file=twice)
    for file in inputs:
        if file == output or (file and file.exists() and output.exists() and output.samefile(file)):
            raise InputError("is an input and would be lost", file=output)
    existed = output.exists()
    try:
        output.open("ab").close()
    except OSError as failure:
        problem = f"cannot be written: {failure.strerror}"
        raise InputError(problem, file=output, remedy="name another output") from None
    if not existed:
        output.unlink()


def sequence_files(
    sequencer: Sequences,
    files: Sequence[Path],
    output: Path,
    format: str | None,
    advance: Callable[[int], None],
    report: Path | None = None,
    fdr: float | None = None,
    *,
    resume: bool = False,
) -> Outcome:
    """Sequence every spectrum of every file.

    A file that breaks off is noted in the outcome; its spectra up to there, and the other files,
    are sequenced. What is answered is written, also when an error or an interrupt ends the journey.

    Parameters
    ----------
    sequencer : Sequences
    files : sequence of Path
    output : Path
    format : str, optional
        One of `tinynovo.writers.WRITERS`; left out, the output's name says it.
    advance : callable
        Told the number of spectra of each batch that is done.
    report : Path, optional
        Where to draw what was found, once all is done.
    fdr : float, optional
        Keep only the peptides that meet this false discovery rate, in 0..1. The rows then wait in
        `Spools` beside the output until all are known.
    resume : bool
        Go on with what an earlier run left in its spools, and leave them to a later one where an
        error or an interrupt ends this one.
    """
    alone = Alone(sequencer.rows, sequencer.window, sequencer.settings)
    if resume or fdr is not None:
        return gather_files(alone, files, output, format, advance, report, fdr, resume=resume)
    outcome = Outcome()
    findings = Findings() if report else None
    names = [str(file) for file in files]
    with open_writer(output, format, files=names, settings=alone.settings) as writer:
        for rows in alone.answers(files, outcome.complaints, findings):
            writer.write(rows)
            outcome.add(rows)
            advance(spectra_of(rows))
    if report and findings:
        write_report(report, findings, outcome.reasons, names, alone.settings)
    return outcome


def score_files(
    sequencer: Judges,
    files: Sequence[Path],
    proposals: Proposals,
    output: Path,
    format: str | None,
    advance: Callable[[int], None],
    fdr: float = 1.0,
    pin: Path | None = None,
) -> Outcome:
    """Judge proposed peptides for every spectrum of every file.

    Parameters
    ----------
    sequencer : Judges
    files, output, format, advance
        As of `sequence_files`.
    proposals : Proposals
    fdr : float
        Keep only the peptides that meet this false discovery rate, in 0..1.
    pin : Path, optional
        Where to write all that was judged, decoys too, for Percolator.
    """
    names = [str(file) for file in files]
    settings = sequencer.settings | {"fdr": f"{fdr:g}"}

    def judged(spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        for spectrum, rows in sequencer.judge(spectra, proposals.propose, closed=proposals.closed):
            yield proposals.told(spectrum, rows)

    find_writer(output, format)
    with ExitStack() as stack:
        copy = stack.enter_context(PinWriter(pin, names, settings)) if pin else None
        alone = Alone(judged, sequencer.window, sequencer.settings, copy)
        spools = stack.enter_context(Spools(output, files, alone.settings, alone.window))
        writer = open_writer(output, format, files=names, settings=settings)
        fill = partial(alone.fill, spools, None, advance)
        outcome = gathered(fill, spools, writer, fdr, decoys=proposals.decoys)
    if complaint := proposals.complaint():
        outcome.complaints.append(complaint)
    return outcome


@dataclass(frozen=True)
class Alone:
    """The process itself, which answers one file after another; `copy` is given all rows too."""

    answer: Answer
    window: int
    settings: dict[str, str]
    copy: Writer | None = None

    def answers(
        self, files: Sequence[Path], complaints: list[InputError], findings: Findings | None
    ) -> Iterator[list[PSM]]:
        """Handfuls of rows of all files; a file's complaint is noted."""
        for file in files:
            found = answered(self.answer, self.window, file, complaints, findings)
            yield from handfuls(chain.from_iterable(found))

    def fill(
        self, spools: Spools, findings: Findings | None, advance: Callable[[int], None]
    ) -> None:
        """Put by the rows of all files; see `Workers`."""
        for place, file in enumerate(spools.files):
            if spools.ended(place) and not findings:
                continue
            noted: list[InputError] = []
            kept = spools.batches(place)
            for rows in answered(self.answer, self.window, file, noted, findings, kept):
                if self.copy:
                    self.copy.write(rows)
                spools.put(place, pack(rows))
                advance(spectra_of(rows))
            spools.end(place, next(iter(noted), None))


def answered(
    answer: Answer,
    window: int,
    file: Path,
    complaints: list[InputError],
    findings: Findings | None,
    kept: Iterable[pa.RecordBatch] = (),
) -> Iterator[list[PSM]]:
    """Rows of the spectra of a file, a window at a time.

    Parameters
    ----------
    answer : callable
        Spectra to rows; may read on while the rows of a window are waited for.
    window : int
        Spectra that are answered together.
    file : Path
    complaints : list of InputError
        What stops the reading of the file is noted here.
    findings : Findings, optional
        Told of all rows.
    kept : iterable of RecordBatch
        Rows of the first spectra that are known; they are not answered again.

    Yields
    ------
    list of PSM
        Fewer where an error or an interrupt ends the answering; it is raised then.
    """
    spectra = _up_to_damage(file, complaints)
    spectra = findings.watch(spectra) if findings else spectra
    for batch in kept:
        deque(islice(spectra, spectra_in(batch)), maxlen=0)
        if findings:
            findings.add(unpack(batch))
    for together in handfuls(answer(spectra), window):
        rows = list(chain.from_iterable(together))
        if findings:
            findings.add(rows)
        if rows:
            yield rows


def _up_to_damage(file: Path, complaints: list[InputError]) -> Iterator[Spectrum]:
    """Yield what can be read of a file and note what stopped it."""
    try:
        yield from read_spectra(file)
    except InputError as complaint:
        complaints.append(complaint)
