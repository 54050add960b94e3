"""Simulation: peptides, and annotated ions, to labelled spectra.

Knows where peptides come from (chance, a table of annotated ions) and how intense their fragments
are. Does not know how ions become peaks (rendering), nor torch.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tinynovo.errors import InputError
from tinynovo.ions import (
    NO_TOKEN,
    TOKEN_IDS,
    TOKENS,
    B,
    Floats,
    Ints,
    Ions,
    Precursors,
    Y,
    modified,
    tmt_tagged,
)
from tinynovo.noise import NoiseBank, invented_noise
from tinynovo.peptide import Peptide
from tinynovo.rendering import SimulationOptions, ion_peaks, record
from tinynovo.spectrum import Spectrum

_CHUNK = 1024
_COLUMNS = ("series", "ordinal", "ion_charge", "loss", "intensity")

_FREQUENCIES = {
    "A": 8.25, "R": 5.53, "N": 4.06, "D": 5.46, "C": 1.38, "Q": 3.93, "E": 6.72, "G": 7.07,
    "H": 2.27, "L": 15.56, "K": 5.80, "M": 2.41, "F": 3.86, "P": 4.74, "S": 6.65, "T": 5.36,
    "W": 1.10, "Y": 2.92, "V": 6.86,
}  # fmt: skip
"""Percent of each residue in UniProtKB/Swiss-Prot; L stands for I and L."""

_MISSED = 0.15
"""How much rarer K and R are inside a random tryptic peptide than in proteins."""


def random_peptides(
    count: int, rng: np.random.Generator, options: SimulationOptions
) -> list[Peptide]:
    """Peptides by chance: lengths uniform, residues by frequency, then modified.

    Parameters
    ----------
    count : int
    rng : numpy.random.Generator
    options : SimulationOptions
        Lengths, tryptic ends, frequencies and modifications.
    """
    letters = [TOKEN_IDS[residue] for residue in _FREQUENCIES]
    weights = np.array(list(_FREQUENCIES.values())) if options.natural else np.ones(len(letters))
    cleaved = np.isin(letters, [TOKEN_IDS["K"], TOKEN_IDS["R"]])
    rare = np.where(cleaved, weights * _MISSED, weights)
    tryptic = rng.random(count) < options.tryptic
    shape = (count, options.max_length)
    anywhere = rng.choice(letters, shape, p=weights / weights.sum())
    inside = rng.choice(letters, shape, p=rare / rare.sum())
    ids = np.where(tryptic[:, None], inside, anywhere)
    length = rng.integers(options.min_length, options.max_length + 1, count)
    ids[np.arange(options.max_length) >= length[:, None]] = NO_TOKEN
    last = rng.choice([TOKEN_IDS["K"], TOKEN_IDS["R"]], count)
    ids[np.flatnonzero(tryptic), length[tryptic] - 1] = last[tryptic]
    rows = modified(ids, options.modifications, rng).tolist()
    return [Peptide(tuple(TOKENS[i] for i in row if i < NO_TOKEN)) for row in rows]


def simulate(
    peptides: Sequence[Peptide],
    charges: Sequence[int],
    options: SimulationOptions,
    rng: np.random.Generator,
    noise: NoiseBank | None = None,
) -> list[Spectrum]:
    """Labelled spectra of peptides with plausible intensities, from no model and no data.

    Parameters
    ----------
    peptides : sequence of Peptide
        Of at least two residues.
    charges : sequence of int
        Of the precursors, one a peptide.
    options : SimulationOptions
    rng : numpy.random.Generator
        The same state gives the same spectra.
    noise : NoiseBank, optional
        Real noise; else invented.
    """
    spectra: list[Spectrum] = []
    for begin in range(0, len(peptides), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        precursors = Precursors.of(peptides[part], charges[part])
        ions = _plausible_ions(precursors, options)
        spectra += _spectra(precursors, ions, options, rng, noise, begin)
    return spectra


def _plausible_ions(precursors: Precursors, options: SimulationOptions) -> Ions:
    """All b and y ions with heuristic intensities.

    Heuristics, each a well-known tendency of collisional dissociation rather than a fit: bonds in
    the middle break most; before proline more, after it less; after D and E somewhat more; y ions
    are stronger than b ions, b ions fade with length, b1 is hardly seen unless the N-terminus is
    modified; an ion is doubly charged by its own basic sites, its size and the precursor's charge.
    """
    slots = np.arange(1, precursors.ids.shape[1])
    row, bond = np.nonzero(slots < precursors.length[:, None])
    bond = slots[bond]
    length, start = precursors.length[row], precursors.modified[row]
    before, after = precursors.ids[row, bond + start - 1], precursors.ids[row, bond + start]
    weight = np.exp(-(((bond / length - 0.45) / 0.4) ** 2))
    weight *= np.where(after == TOKEN_IDS["P"], 3.0, 1.0)
    weight *= np.where(before == TOKEN_IDS["P"], 0.3, 1.0)
    weight *= np.where(np.isin(before, [TOKEN_IDS["D"], TOKEN_IDS["E"]]), 1.3, 1.0)
    first = np.where(start == 1, 0.5, 0.02)
    b = weight * 0.6 * np.exp(-bond / 8) * np.where(bond == 1, first, 1.0)
    size, zero = row.size, np.zeros(2 * row.size, np.int64)
    ions = Ions(
        np.tile(row, 2),
        np.repeat([B, Y], size),
        np.concatenate([bond, length - bond]),
        zero + 1,
        zero,
        np.concatenate([b, weight]),
    )
    if not options.doubly_charged:
        return ions
    share = _doubly_charged(ions, precursors)
    double = Ions(ions.row, ions.series, ions.ordinal, zero + 2, zero, ions.intensity * share)
    single = Ions(ions.row, ions.series, ions.ordinal, zero + 1, zero, ions.intensity * (1 - share))
    return Ions.join([single, double.select(precursors.charge[ions.row] > 1)])


def _doubly_charged(ions: Ions, precursors: Precursors) -> Floats:
    """Plausible share of each ion that carries two protons."""
    basic = np.isin(np.arange(NO_TOKEN + 1), [TOKEN_IDS[residue] for residue in "KRH"])
    counts = precursors.counts(basic.astype(np.int64))
    held = counts[ions.row, precursors.cut(ions.row, ions.series, ions.ordinal)]
    held = np.where(ions.series == Y, counts[ions.row, -1] - held, held + 1)
    charge = precursors.charge[ions.row]
    part = ions.mass(precursors) / precursors.mass[ions.row]
    tendency = 1.5 * (held - 2) + 6 * (part - 0.9) + 2 * (charge - 2)
    return np.where(charge > 1, 1 / (1 + np.exp(-tendency)), 0.0)


def _spectra(
    precursors: Precursors,
    ions: Ions,
    options: SimulationOptions,
    rng: np.random.Generator,
    noise: NoiseBank | None,
    first: int,
) -> list[Spectrum]:
    """Labelled spectra of one batch; ``first`` is the index of the first of them."""
    peaks = ion_peaks(precursors, ions, options, rng)
    mass = np.asarray(precursors.mass * 1e-6, np.float64)
    if noise is None:
        drawn = invented_noise(mass, options.noise_peaks, rng)
        floor = np.full(len(precursors), options.floor)
    else:
        drawn, floor = noise.draw(mass, rng)
    return record(precursors, peaks, drawn, floor, options, rng, first)


@contextmanager
def _ion_file(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise InputError(f"no table of annotated ions: {error}", file=path) from error


def ion_rows(path: Path) -> int:
    """Peptides in a Parquet file of annotated ions, or `InputError`."""
    with _ion_file(path):
        return int(pq.read_metadata(path).num_rows)


@dataclass(frozen=True, eq=False)
class IonTable:
    """Peptides with annotated fragment intensities.

    Attributes
    ----------
    ids : uint8, shape (rows, slots)
        Padded places in the residue table.
    charge : uint8, shape (rows,)
    ions : int64, shape (rows + 1,)
        Where the ions of each row begin.
    series, ordinal, ion_charge, loss, intensity : uint8, shape (all ions,)
        Intensity is 255 times the square root of the relative one.
    """

    ids: NDArray[np.uint8]
    charge: NDArray[np.uint8]
    ions: Ints
    series: NDArray[np.uint8]
    ordinal: NDArray[np.uint8]
    ion_charge: NDArray[np.uint8]
    loss: NDArray[np.uint8]
    intensity: NDArray[np.uint8]

    def __len__(self) -> int:
        return int(self.charge.size)

    @classmethod
    def load(cls, path: Path, exclude: Container[str] = ()) -> IonTable:
        """Read a Parquet file of annotated ions.

        Parameters
        ----------
        path : Path
            Columns ``proforma, precursor_charge`` and the lists ``series`` (0 b, 1 y),
            ``ordinal, ion_charge, loss, intensity``.
        exclude : container of str
            Bare sequences (I spelled L) that must never be rendered: validation peptides.

        Raises
        ------
        InputError
            When the file is not such a table or nothing is left of it.
        """
        with _ion_file(path):
            table = pq.read_table(path, columns=["proforma", "precursor_charge", *_COLUMNS])
        peptides = [Peptide.parse(text) for text in table["proforma"].to_pylist()]
        kept = np.array([peptide.sequence not in exclude for peptide in peptides], bool)
        if not kept.any():
            raise InputError("no peptide left in the table of annotated ions", file=path)
        lists = {name: table[name].combine_chunks() for name in _COLUMNS}
        bounds = lists["series"].offsets.to_numpy().astype(np.int64)
        size = np.diff(bounds)
        keep_ions = np.repeat(kept, size)
        flat = {
            name: column.flatten().to_numpy().astype(np.uint8)[keep_ions]
            for name, column in lists.items()
        }
        charge = table["precursor_charge"].to_numpy().astype(np.uint8)[kept]
        some = [peptide for peptide, keep in zip(peptides, kept, strict=True) if keep]
        ids = Precursors.of(some, charge).ids.astype(np.uint8)
        return cls(ids, charge, np.concatenate([[0], np.cumsum(size[kept])]), **flat)

    def render(
        self,
        indices: Sequence[int] | Ints,
        options: SimulationOptions,
        rng: np.random.Generator,
        noise: NoiseBank | None = None,
    ) -> list[Spectrum]:
        """Labelled spectra of some rows: exact m/z, jittered intensities, satellites, noise.

        Parameters
        ----------
        indices : sequence of int
            Rows of the table, in any order, also repeatedly.
        options : SimulationOptions
        rng : numpy.random.Generator
            The same state gives the same spectra.
        noise : NoiseBank, optional
            Real noise and detection floors; else invented ones.
        """
        indices = np.asarray(indices, np.int64)
        spectra: list[Spectrum] = []
        for begin in range(0, indices.size, _CHUNK):
            precursors, ions = self._batch(indices[begin : begin + _CHUNK], options, rng)
            spectra += _spectra(precursors, ions, options, rng, noise, begin)
        return spectra

    def _batch(
        self, rows: Ints, options: SimulationOptions, rng: np.random.Generator
    ) -> tuple[Precursors, Ions]:
        """Peptides, converted and tagged as the options say, and ions of some rows."""
        ids = self.ids[rows].astype(np.int64)
        ids = ids[:, : int((ids < NO_TOKEN).sum(1).max())]
        ids = modified(ids, options.conversions, rng)
        if options.tmt:
            ids = tmt_tagged(ids, rng.random(rows.size) < options.tmt)
        size = self.ions[rows + 1] - self.ions[rows]
        row = np.repeat(np.arange(rows.size), size)
        place = self.ions[rows][row] + np.arange(row.size) - (np.cumsum(size) - size)[row]
        precursors = Precursors(ids, self.charge[rows].astype(np.int64))
        return precursors, Ions(
            row,
            self.series[place].astype(np.int64),
            self.ordinal[place].astype(np.int64),
            self.ion_charge[place].astype(np.int64),
            self.loss[place].astype(np.int64),
            (self.intensity[place] / 255.0) ** 2,
        )
