"""Matching: which spectrum a row of predictions speaks of, and what is proposed for one.

Knows the names that spectra go by. Does not know formats, nor how good a prediction is.

A prediction names its spectrum by native id, index, scan or title; a name that several spectra bear
is none. File names are compared, without their folders, only where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from tinynovo.errors import InputError
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions, read_spectra
from tinynovo.reasons import Reason, ReasonCode
from tinynovo.spectrum import Peaks, Spectrum

Proposer = Callable[[Spectrum, Peaks], Sequence[Peptide]]
"""Peptides to judge for a spectrum as it is read, of its charge and precursor mass."""


def names(spectrum: Spectrum) -> list[str]:
    """What a prediction may call a spectrum."""
    found = [spectrum.identifier, f"index={spectrum.index}"]
    found += [f"scan={spectrum.scan}"] if spectrum.scan is not None else []
    return found + ([spectrum.title] if spectrum.title else [])


class Labels:
    """What labelled files say of their spectra, noted while the spectra go by.

    Parameters
    ----------
    files : sequence of Path
    limit : int, optional
        Only the first so many spectra of each file.

    Attributes
    ----------
    peptides : list of Peptide
    charges : list of int or None
    sources : list of str
        Name of the file of each.
    """

    def __init__(self, files: Sequence[Path], limit: int | None) -> None:
        self.files = files
        self.limit = limit
        self.peptides: list[Peptide] = []
        self.charges: list[int | None] = []
        self.sources: list[str] = []
        self._names: list[list[str]] = []

    def spectra(self) -> Iterator[Spectrum]:
        """The spectra of all files.

        Raises
        ------
        InputError
            For a spectrum without a readable label, and as `read_spectra`.
        """
        for file in self.files:
            for spectrum in islice(read_spectra(file), self.limit):
                self.peptides.append(_label(spectrum))
                self.charges.append(spectrum.precursor_charge)
                self.sources.append(file.name)
                self._names.append(names(spectrum))
                yield spectrum

    def joined(self, predictions: Path) -> list[PSM | None]:
        """The best prediction of every spectrum that went by.

        Raises
        ------
        InputError
            For a prediction without a spectrum, unless there is a limit.
        """
        several = len(self.files) > 1
        places: dict[tuple[str, str], int | None] = {}
        for place, known in enumerate(self._names):
            file = self.sources[place] if several else ""
            for key in {(file, name) for name in known}:
                places[key] = None if key in places else place
        psms: list[PSM | None] = [None] * len(self._names)
        for psm in read_predictions(predictions):
            file = Path(psm.file).name if several else ""
            found = places.get((file, psm.identifier))
            if found is None and self.limit is None:
                raise InputError(
                    "names no spectrum of the labelled files, or several",
                    file=predictions,
                    spectrum=psm.identifier,
                    remedy="evaluate the files that were sequenced",
                )
            if found is not None and psm.rank == 1:
                psms[found] = psm
        return psms


def _label(spectrum: Spectrum) -> Peptide:
    place = {"file": spectrum.file, "spectrum": spectrum.identifier}
    if not spectrum.peptide:
        remedy = "MGF wants a line SEQ=, Parquet a column proforma"
        raise InputError("has no label", remedy=remedy, **place)
    try:
        return Peptide.parse(spectrum.peptide)
    except InputError as complaint:
        raise InputError(complaint.problem, remedy=complaint.remedy, **place) from None


class Proposals(Protocol):
    """Where peptides to judge come from: `Candidates`, or `tinynovo.database.Search`."""

    closed: bool
    """Whether a spectrum is of what is proposed or of nothing."""

    @property
    def decoys(self) -> bool:
        """Whether false discovery rates can be told from decoys among them."""

    def propose(self, spectrum: Spectrum, peaks: Peaks) -> Sequence[Peptide]:
        """Peptides to judge."""

    def told(self, spectrum: Spectrum, rows: Sequence[PSM]) -> list[PSM]:
        """The rows to tell of those judged; at least one."""

    def complaint(self) -> InputError | None:
        """What is wrong with the proposals, once all spectra are done."""


class Candidates:
    """Peptides that another tool, or this one, proposed for spectra.

    Parameters
    ----------
    predictions : Path
        As of `read_predictions`; a row without a peptide proposes none.
    several : bool
        Whether spectra come from more than one file.

    Raises
    ------
    InputError
        As `read_predictions`.
    """

    closed = False

    def __init__(self, predictions: Path, *, several: bool) -> None:
        self.path = predictions
        self._several = several
        self._rows: dict[tuple[str, str], list[PSM]] = {}
        for psm in read_predictions(predictions):
            key = (Path(psm.file).name if several else "", psm.identifier)
            self._rows.setdefault(key, []).append(psm)
        self._named: set[tuple[str, str]] = set()

    @property
    def decoys(self) -> bool:
        """Whether there are any among the candidates."""
        return any(psm.decoy for rows in self._rows.values() for psm in rows)

    def propose(self, spectrum: Spectrum, _: Peaks) -> list[Peptide]:
        """Candidates for a spectrum, of any mass."""
        return [psm.peptide for psm in self._of(spectrum) if psm.peptide]

    def told(self, spectrum: Spectrum, rows: Sequence[PSM]) -> list[PSM]:
        """The rows of the candidates for a spectrum, with their proteins; then one of each unfit.

        Parameters
        ----------
        spectrum : Spectrum
        rows : sequence of PSM
            What was judged, by rank, or one row without a peptide.
        """
        proteins: dict[Peptide | None, dict[str, None]] = {}
        for psm in self._of(spectrum):
            proteins.setdefault(psm.peptide, {}).update(dict.fromkeys(psm.accessions))
        judged = [
            replace(psm, accessions=tuple(proteins.pop(psm.peptide))) for psm in rows if psm.peptide
        ]
        if not judged and rows[0].reason_code != ReasonCode.NO_PEPTIDE_FITS:
            return list(rows)
        if not judged and not proteins:
            return [rows[0].unanswered(Reason(ReasonCode.NO_CANDIDATE, "no candidate was given"))]
        unfit = [
            replace(rows[0].unanswered(_unfit(peptide)), rank=rank)
            for rank, peptide in enumerate(proteins, len(judged) + 1)
        ]
        return judged + unfit

    def _of(self, spectrum: Spectrum) -> list[PSM]:
        """The rows that name a spectrum."""
        file = Path(spectrum.file).name if self._several else ""
        keys = [key for key in {(file, n): 0 for n in names(spectrum)} if key in self._rows]
        self._named.update(keys)
        return [psm for key in keys for psm in self._rows[key]]

    def complaint(self) -> InputError | None:
        """What is wrong with rows that no spectrum has asked for."""
        lost = [key for key in self._rows if key not in self._named]
        if not lost:
            return None
        return InputError(
            f"names {len(lost)} spectra that the files do not hold, such as {lost[0][1]!r}",
            file=self.path,
            remedy="score the files that were searched",
        )


def _unfit(peptide: Peptide | None) -> Reason:
    """Why a candidate has no score."""
    text = "the candidate holds residues that are not known"
    if peptide:
        text = f"{peptide} misses the precursor mass, is too long, or was switched off"
    return Reason(ReasonCode.UNFIT_CANDIDATE, text)
