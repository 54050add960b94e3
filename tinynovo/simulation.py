"""Simulation: peptides, and annotated ions, to labelled spectra.

Knows where peptides come from (chance, a FASTA file, a table of annotated ions) and how intense
their fragments are. Does not know how ions become peaks (rendering), nor torch.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tinynovo.errors import InputError
from tinynovo.ions import TOKENS, Ints, Ions, Precursors
from tinynovo.noise import NoiseBank, invented_noise
from tinynovo.peptide import Peptide
from tinynovo.rendering import SimulationOptions, ion_peaks, record
from tinynovo.spectrum import Spectrum

_CHUNK = 1024
_COLUMNS = ("series", "ordinal", "ion_charge", "loss", "intensity")


def spectra_of(
    precursors: Precursors,
    ions: Ions,
    options: SimulationOptions,
    rng: np.random.Generator,
    noise: NoiseBank | None = None,
) -> list[Spectrum]:
    """Labelled spectra of one batch of precursors and their ions."""
    peaks = ion_peaks(precursors, ions, options, rng)
    mass = np.asarray(precursors.mass * 1e-6, np.float64)
    if noise is None:
        floor = np.full(len(precursors), options.floor)
        return record(
            precursors, peaks, invented_noise(mass, options.noise_peaks, rng), floor, options, rng
        )
    drawn, floor = noise.draw(mass, rng)
    return record(precursors, peaks, drawn, floor, options, rng)


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
        try:
            table = pq.read_table(path, columns=["proforma", "precursor_charge", *_COLUMNS])
        except (OSError, ValueError) as error:
            raise InputError(f"no table of annotated ions: {error}", file=path) from error
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
            precursors, ions = self._batch(indices[begin : begin + _CHUNK])
            spectra += spectra_of(precursors, ions, options, rng, noise)
        return spectra

    def _batch(self, rows: Ints) -> tuple[Precursors, Ions]:
        """Peptides and ions of some rows."""
        ids = self.ids[rows].astype(np.int64)
        width = int((ids < len(TOKENS)).sum(1).max())
        size = self.ions[rows + 1] - self.ions[rows]
        row = np.repeat(np.arange(rows.size), size)
        place = self.ions[rows][row] + np.arange(row.size) - (np.cumsum(size) - size)[row]
        precursors = Precursors(ids[:, :width], self.charge[rows].astype(np.int64))
        return precursors, Ions(
            row,
            self.series[place].astype(np.int64),
            self.ordinal[place].astype(np.int64),
            self.ion_charge[place].astype(np.int64),
            self.loss[place].astype(np.int64),
            (self.intensity[place] / 255.0) ** 2,
        )
