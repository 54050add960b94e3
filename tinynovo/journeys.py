"""Journeys: files in, files or figures out.

Knows which rooms a journey passes through and in which order. Does not know argv, the terminal or
mathematics.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from tinynovo.calibration import Answer, Facts, facts
from tinynovo.digestion import Forms, cleaved, digest
from tinynovo.errors import InputError
from tinynovo.evaluation import Metrics, evaluate, right_residues
from tinynovo.peptide import PSM, Peptide
from tinynovo.readers import read_predictions, read_spectra
from tinynovo.rendering import SimulationOptions
from tinynovo.report import Findings, write_report
from tinynovo.review import write_review
from tinynovo.runs import read_run
from tinynovo.simulation import random_peptides, simulate
from tinynovo.spectrum import Spectrum
from tinynovo.writers import open_writer, write_labelled

ROWS_A_WRITE = 64
"""So many rows are held back at most before they go to disk."""


class Sequences(Protocol):
    """What turns spectra into PSMs: a `tinynovo.sequencing.Sequencer`."""

    @property
    def settings(self) -> dict[str, str]:
        """The resolved configuration."""

    def sequence(self, spectra: Iterable[Spectrum]) -> Iterator[PSM]:
        """At least one PSM a spectrum, in input order, rank 1 first."""


class Explores(Protocol):
    """What finds all answers to spectra: a `tinynovo.sequencing.Sequencer`."""

    def explore(self, spectra: Iterable[Spectrum]) -> Iterator[tuple[Spectrum, list[Answer] | str]]:
        """Different answers to each spectrum, best first, or why there are none."""


@dataclass
class Outcome:
    """What became of the spectra.

    Attributes
    ----------
    spectra, answered : int
        How many were read, and how many of them were given a peptide.
    reasons : Counter
        Why the others were not, with every number written N.
    complaints : list of InputError
        What stopped the reading of files.
    """

    spectra: int = 0
    answered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    complaints: list[InputError] = field(default_factory=list)


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
        Told the number of spectra of each batch written.
    report : Path, optional
        Where to draw what was found, once all is done.
    """
    outcome = Outcome()
    findings = Findings() if report else None
    names = [str(file) for file in files]
    with open_writer(output, format, files=names, settings=sequencer.settings) as writer:
        for file in files:
            spectra = _up_to_damage(file, outcome.complaints)
            spectra = findings.watch(spectra) if findings else spectra
            for rows in _handfuls(sequencer.sequence(spectra)):
                writer.write(rows)
                advance(_count(outcome, rows))
                if findings:
                    findings.add(rows)
    if report and findings:
        write_report(report, findings, outcome.reasons, names, sequencer.settings)
    return outcome


def _up_to_damage(file: Path, complaints: list[InputError]) -> Iterator[Spectrum]:
    """Yield what can be read of a file and note what stopped it."""
    try:
        yield from read_spectra(file)
    except InputError as complaint:
        complaints.append(complaint)


def _handfuls(psms: Iterator[PSM]) -> Iterator[list[PSM]]:
    """Handfuls of rows; those already answered come out before an error or an interrupt."""
    rows: list[PSM] = []
    try:
        for psm in psms:
            rows.append(psm)
            if len(rows) == ROWS_A_WRITE:
                full, rows = rows, []
                yield full
    except (Exception, KeyboardInterrupt):
        yield rows
        raise
    yield rows


def _count(outcome: Outcome, rows: Iterable[PSM]) -> int:
    """Add rows to the outcome; return how many spectra they speak of."""
    best = [psm for psm in rows if psm.rank == 1]
    for psm in best:
        outcome.spectra += 1
        if psm.peptide is None:
            outcome.reasons[re.sub(r"-?\d+(\.\d+)?", "N", psm.reason)] += 1
        else:
            outcome.answered += 1
    return len(best)


def evaluate_files(
    source: Sequences | Path,
    files: Sequence[Path],
    limit: int | None,
    advance: Callable[[int], None],
) -> Metrics:
    """Compare predictions with the labels of labelled files.

    Parameters
    ----------
    source : Sequences or Path
        What sequences the files now, or a file of predictions.
    files : sequence of Path
        Labelled MGF or Parquet; more than one are broken down by file.
    limit : int, optional
        Only the first so many spectra of each file.
    advance : callable
        Told the number of spectra done.

    Raises
    ------
    InputError
        For a spectrum without a readable label and a prediction without a spectrum.
    """
    labels = _Labels(files, limit)
    psms: list[PSM | None] = []
    if isinstance(source, Path):
        for _ in labels.spectra():
            advance(1)
        psms = _joined(labels, source)
    else:
        for psm in source.sequence(labels.spectra()):
            if psm.rank == 1:
                psms.append(psm)
                advance(1)
    sources = labels.sources if len(files) > 1 else None
    return evaluate(labels.peptides, psms, charges=labels.charges, sources=sources)


def learned_answers(
    source: Explores, files: Sequence[Path], limit: int | None, advance: Callable[[int], None]
) -> Iterator[tuple[int, Facts, list[bool]]]:
    """Facts of the best answers to labelled spectra, and which of their residues are right.

    Parameters
    ----------
    source : Explores
    files, limit, advance
        As of `evaluate_files`.

    Yields
    ------
    (int, Facts, list of bool)
        Position among all the labelled spectra; those without an answer are passed over.
    """
    labels = _Labels(files, limit)
    for place, (_, found) in enumerate(source.explore(labels.spectra())):
        advance(1)
        if not isinstance(found, str) and found:
            right = right_residues(labels.peptides[place], found[0].peptide)
            yield place, facts(found[0], found), right


class _Labels:
    """What labelled files say of their spectra, noted while the spectra go by."""

    def __init__(self, files: Sequence[Path], limit: int | None) -> None:
        self.files = files
        self.limit = limit
        self.peptides: list[Peptide] = []
        self.charges: list[int | None] = []
        self.sources: list[str] = []
        self.names: list[list[str]] = []

    def spectra(self) -> Iterator[Spectrum]:
        for file in self.files:
            for spectrum in islice(read_spectra(file), self.limit):
                self.peptides.append(_label(spectrum))
                self.charges.append(spectrum.precursor_charge)
                self.sources.append(file.name)
                self.names.append(_names(spectrum))
                yield spectrum


def _names(spectrum: Spectrum) -> list[str]:
    """What a prediction may call a spectrum."""
    names = [spectrum.identifier, f"index={spectrum.index}"]
    names += [f"scan={spectrum.scan}"] if spectrum.scan is not None else []
    return names + ([spectrum.title] if spectrum.title else [])


def _label(spectrum: Spectrum) -> Peptide:
    place = {"file": spectrum.file, "spectrum": spectrum.identifier}
    if not spectrum.peptide:
        remedy = "MGF wants a line SEQ=, Parquet a column proforma"
        raise InputError("has no label", remedy=remedy, **place)
    try:
        return Peptide.parse(spectrum.peptide)
    except InputError as complaint:
        raise InputError(complaint.problem, remedy=complaint.remedy, **place) from None


def _joined(labels: _Labels, predictions: Path) -> list[PSM | None]:
    """The best prediction of every labelled spectrum.

    A prediction names its spectrum by native id, index, scan or title; a name that several spectra
    bear is none. File names are compared, without their folders, only where there are several.
    """
    several = len(labels.files) > 1
    places: dict[tuple[str, str], int | None] = {}
    for place, names in enumerate(labels.names):
        file = labels.sources[place] if several else ""
        for key in {(file, name) for name in names}:
            places[key] = None if key in places else place
    psms: list[PSM | None] = [None] * len(labels.names)
    for psm in read_predictions(predictions):
        file = Path(psm.file).name if several else ""
        found = places.get((file, psm.identifier))
        if found is None and labels.limit is None:
            raise InputError(
                "names no spectrum of the labelled files, or several",
                file=predictions,
                spectrum=psm.identifier,
                remedy="evaluate the files that were sequenced",
            )
        if found is not None and psm.rank == 1:
            psms[found] = psm
    return psms


def review_runs(output: Path, directories: Sequence[Path]) -> tuple[Path, Path]:
    """Draw training runs on a page, and write the same in Markdown beside it.

    Raises
    ------
    InputError
        For an output that is not named as a page, and a directory that holds no run.
    """
    if output.suffix != ".html":
        raise InputError("is no page", file=output, remedy="name it .html")
    check_output(output, [])
    return write_review(output, [read_run(directory) for directory in directories])


def simulate_file(
    output: Path, number: int, fasta: Path | None, options: SimulationOptions, *, seed: int
) -> None:
    """Write labelled spectra, the same ones for the same seed.

    Parameters
    ----------
    output : Path
        A name in ``.mgf`` or ``.parquet``.
    number : int
        Spectra.
    fasta : Path, optional
        Its tryptic peptides are drawn, each once before any is drawn again; else random peptides.
    options : SimulationOptions
    seed : int

    Raises
    ------
    InputError
        For a FASTA that gives no peptide and an output of another format.
    """
    rng = np.random.default_rng(seed)
    if fasta is None:
        peptides = random_peptides(number, rng, options)
    else:
        pieces = cleaved(fasta, min_length=options.min_length, max_length=options.max_length)
        pool = digest(list(pieces), Forms())
        rounds = [rng.permutation(len(pool)) for _ in range(-(-number // len(pool)))]
        peptides = [pool[i] for i in np.concatenate(rounds)[:number]]
    write_labelled(output, simulate(peptides, [_charge(p) for p in peptides], options, rng))


def _charge(peptide: Peptide) -> int:
    """A proton at the N-terminus and at each basic residue, but 2 to 4 of them."""
    return min(max(1 + sum(residue in "KRH" for residue in peptide.sequence), 2), 4)
