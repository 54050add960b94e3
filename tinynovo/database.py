"""Databases: the peptides of a proteome and their decoys by mass, and which a spectrum may be of.

Knows masses, decoys and a preliminary score. Does not know the network that judges what is
nominated, nor files of spectra.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinynovo.digestion import Forms
from tinynovo.ions import NO_TOKEN, TOKEN_IDS, TOKENS, Floats, Ints, Precursors
from tinynovo.masses import MICRO, PROTON, Tolerance, residue_table, udalton
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.reasons import Reason, ReasonCode
from tinynovo.spectrum import Peaks, Spectrum

DECOY = "DECOY_"
"""Before the accession of the protein whose peptide a decoy is made of; see `tinynovo.psm`."""

FRAGMENT_PPM = 20.0
"""Within which a peak is a fragment's for the preliminary score."""

_CHUNK = 100_000
_LOG_FACTORIALS = np.array([math.lgamma(n + 1) for n in range(512)])


@dataclass(frozen=True)
class Entry:
    """A peptide of a database.

    Attributes
    ----------
    peptide : Peptide
    accessions : tuple of str
        Proteins that hold it; those of decoys begin with `DECOY`.
    """

    peptide: Peptide
    accessions: tuple[str, ...]

    @property
    def decoy(self) -> bool:
        """Whether no protein holds it."""
        return self.accessions[0].startswith(DECOY)


class Database:
    """Peptides and decoys by ascending mass.

    A decoy is its target with all residues but the last reversed, modifications with their
    residues (Elias & Gygi 2010, pseudo-reversed); one that is a target too is left out.

    Parameters
    ----------
    pieces : mapping of str to sequence of str
        Of `tinynovo.digestion.cleaved`.
    forms : Forms
    """

    def __init__(self, pieces: Mapping[str, Sequence[str]], forms: Forms) -> None:
        self.accessions = [tuple(names) for names in pieces.values()]
        rows: dict[bytes, int] = {}
        for number, piece in enumerate(pieces):
            for peptide in forms.of(piece):
                rows.setdefault(_packed(peptide), number)
        targets = len(rows)
        for packed, number in list(rows.items()):
            rows.setdefault(_reversed(packed), number)
        ids = np.full((len(rows), max(map(len, rows))), NO_TOKEN, np.uint8)
        for row, packed in enumerate(rows):
            ids[row, : len(packed)] = np.frombuffer(packed, np.uint8)
        chunks = [_precursors(ids[n : n + _CHUNK]).mass for n in range(0, len(ids), _CHUNK)]
        mass = np.concatenate(chunks)
        order = np.argsort(mass, kind="stable")
        self.ids, self.mass = ids[order], mass[order]
        self.piece = np.fromiter(rows.values(), np.int64, len(rows))[order]
        self.decoy: NDArray[np.bool_] = order >= targets

    def __len__(self) -> int:
        return len(self.mass)

    def entry(self, row: int) -> Entry:
        """A peptide and its proteins."""
        names = self.accessions[self.piece[row]]
        if self.decoy[row]:
            names = tuple(DECOY + name for name in names)
        ids = self.ids[row]
        return Entry(Peptide(tuple(TOKENS[i] for i in ids[ids < NO_TOKEN])), names)

    def accessions_of(self, peptide: Peptide) -> tuple[str, ...]:
        """The proteins of one of its peptides; none of another."""
        mass = peptide.mass_udalton
        first = int(np.searchsorted(self.mass, mass))
        last = int(np.searchsorted(self.mass, mass, "right"))
        rows = (self.entry(row) for row in range(first, last))
        return next((row.accessions for row in rows if row.peptide == peptide), ())

    def nominate(self, peaks: Peaks, window: int, count: int) -> list[int]:
        """Rows of the likeliest peptides of a spectrum's mass, best first.

        Parameters
        ----------
        peaks : Peaks
        window : int
            Micro-dalton by which they may miss the precursor.
        count : int
            At most so many.
        """
        mass = peaks.precursor_mass
        first = int(np.searchsorted(self.mass, mass - window))
        last = int(np.searchsorted(self.mass, mass + window, "right"))
        if first == last:
            return []
        score = hyperscores(self.ids[first:last], peaks)
        best = np.argsort(-score, kind="stable")[:count]
        return [first + int(row) for row in best]


class Search:
    """Proposes the peptides of a database that a spectrum may be of.

    Parameters
    ----------
    database : Database
    tolerance : Tolerance
        Of the precursor mass.
    count : int
        Peptides proposed for a spectrum of one charge and mass, at most.
    most : int
        Rows told of a spectrum, at most.
    """

    decoys, closed = True, True

    def __init__(self, database: Database, tolerance: Tolerance, count: int, most: int) -> None:
        self.database, self.tolerance, self.count, self.most = database, tolerance, count, most

    def propose(self, _: Spectrum, peaks: Peaks) -> list[Peptide]:
        """Peptides that fit a spectrum as it is read."""
        window = self.tolerance.window(peaks.precursor_mass)
        rows = self.database.nominate(peaks, window, self.count)
        return [self.database.entry(row).peptide for row in rows]

    def told(self, _: Spectrum, rows: Sequence[PSM]) -> list[PSM]:
        """The first rows of the proposals for a spectrum, with their proteins."""
        return [
            replace(psm, accessions=self.database.accessions_of(psm.peptide))
            if psm.peptide
            else _told_why(psm)
            for psm in rows[: self.most]
        ]

    def complaint(self) -> None:
        """What is wrong with the proposals: nothing."""


def _told_why(psm: PSM) -> PSM:
    """A row without a peptide, in the words of a search."""
    if psm.reason_code != ReasonCode.NO_PEPTIDE_FITS:
        return psm
    return psm.unanswered(
        Reason(ReasonCode.NO_CANDIDATE, "no peptide of the database fits the precursor mass")
    )


def _precursors(ids: NDArray[np.uint8]) -> Precursors:
    return Precursors(ids.astype(np.int64), np.zeros(len(ids), np.int64))


def _packed(peptide: Peptide) -> bytes:
    return bytes(TOKEN_IDS[token] for token in peptide.tokens)


def _reversed(packed: bytes) -> bytes:
    """The decoy: an N-terminal modification and the last residue stay where they are."""
    begin = 1 if residue_table()[TOKENS[packed[0]]].n_terminal else 0
    return packed[:begin] + packed[begin:-1][::-1] + packed[-1:]


def hyperscores(ids: NDArray[np.uint8], peaks: Peaks) -> Floats:
    """How well b and y ions of charge 1, and 2 above charge 2, are seen: X!Tandem's hyperscore.

    log(Nb! Ny! sum of intensities), Fenyö & Beavis 2003, with the square roots that `Peaks` holds.

    Parameters
    ----------
    ids : uint8 array, shape (peptides, slots)
        Padded with `NO_TOKEN`.
    peaks : Peaks
    """
    peptides = _precursors(ids)
    begun, begin = peptides.left, peptides.modified[:, None]
    cut = np.arange(begun.shape[1])
    inner = (cut > begin) & (cut < peptides.length[:, None] + begin)
    ended = peptides.mass[:, None] - begun
    total = np.zeros(len(ids))
    counts = []
    for neutral in (begun, ended):
        seen = np.zeros(len(ids), np.int64)
        for charge in (1, 2) if peaks.precursor_charge > 2 else (1,):
            found = np.where(inner, _intensity(neutral // charge + udalton(PROTON), peaks), 0.0)
            seen += (found > 0).sum(1)
            total += found.sum(1)
        counts.append(_LOG_FACTORIALS[seen])
    return np.asarray(counts[0] + counts[1] + np.log(total + 1e-3), dtype=np.float64)


def _intensity(mz: Ints, peaks: Peaks) -> Floats:
    """Intensity of the nearest peak of each ion, 0 where there is none."""
    place = np.searchsorted(peaks.mz, mz)
    below, above = np.maximum(place - 1, 0), np.minimum(place, len(peaks.mz) - 1)
    nearer = np.abs(peaks.mz[below] - mz) < np.abs(peaks.mz[above] - mz)
    nearest = np.where(nearer, below, above)
    near = np.abs(peaks.mz[nearest] - mz) <= mz * (FRAGMENT_PPM / MICRO)
    return np.where(near, peaks.intensity[nearest], 0.0)
