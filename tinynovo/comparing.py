"""Comparing: labelled files against what is found in them, or was predicted.

Knows how labels, answers and predictions meet. Does not know what is right, nor argv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tinynovo.calibration import Answer, Facts, facts
from tinynovo.evaluation import Metrics, evaluate, right_residues
from tinynovo.matching import Labels
from tinynovo.psm import PSM
from tinynovo.reasons import Reason
from tinynovo.spectrum import Spectrum


class Sequences(Protocol):
    """What turns spectra into PSMs: a `tinynovo.sequencing.Sequencer`."""

    @property
    def settings(self) -> dict[str, str]:
        """The resolved configuration."""

    @property
    def window(self) -> int:
        """Spectra that are sequenced together: cut between windows, a run answers the same."""

    def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        """At least one PSM of each spectrum, in input order; rank 1 first."""


class Explores(Protocol):
    """What finds all answers to spectra: a `tinynovo.sequencing.Sequencer`."""

    def explore(
        self, spectra: Iterable[Spectrum]
    ) -> Iterator[tuple[Spectrum, list[Answer] | Reason]]:
        """Different answers to each spectrum, best first, or why there are none."""


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
    labels = Labels(files, limit)
    psms: list[PSM | None] = []
    if isinstance(source, Path):
        for _ in labels.spectra():
            advance(1)
        psms = labels.joined(source)
    else:
        for best, *_ in source.rows(labels.spectra()):
            psms.append(best)
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
    labels = Labels(files, limit)
    for place, (_, found) in enumerate(source.explore(labels.spectra())):
        advance(1)
        if isinstance(found, list):
            right = right_residues(labels.peptides[place], found[0].peptide)
            yield place, facts(found[0], found), right
