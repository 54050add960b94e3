"""Noise: what real spectra hold that their own peptide does not explain.

Knows which peaks a label explains and how the rest is lent to other spectra. Does not know where
spectra come from, nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tinynovo.errors import InputError
from tinynovo.ions import (
    LOSSES,
    OF_B,
    OF_PHOSPHO,
    B,
    Floats,
    Ints,
    Ions,
    PeakList,
    Precursors,
    Y,
    inner_fragments,
    inner_mz,
    markers,
    mz_of,
    tmt_complements,
)
from tinynovo.masses import AMMONIA, CARBON_MONOXIDE, ISOTOPE_SPACING, PROTON, WATER
from tinynovo.peptide import Peptide
from tinynovo.spectrum import Spectrum

NUCLEON = 1.000495
"""Distance in Da between the mass clusters of peptides (averagine mass per nucleon)."""

_FIXED_MZ = 260.0
"""Noise below this m/z stays where it is: immonium and dipeptide ions of other peptides."""

_CHUNK = 256
_NEIGHBOURS = 0.05
_SCALE_JITTER = 0.02
_DALTON, _PPM = 0.02, 20.0
_FAR = 1e5
"""More than any m/z in Th: rows times this plus m/z sorts a batch at once."""


def theoretical_peaks(precursors: Precursors) -> PeakList:
    """Every m/z at which a peptide may leave a peak; intensities are all 1.

    b, y and a ions of charge 1 to 3 (at most the precursor's), with losses of water, ammonia and,
    for phosphopeptides, phosphoric acid; the precursor with two water or ammonia losses and
    after losing a TMT reporter; two isotopes of all these; fragments of the middle, and
    without carbon monoxide, water or ammonia; immonium and reporter ions.
    """
    count, slots = precursors.ids.shape
    phospho = np.array(["Phospho" in p for p in precursors.labels])
    codes = range(len(LOSSES))
    grid = np.meshgrid(
        np.arange(count), [B, Y], np.arange(1, slots + 1), [1, 2, 3], list(codes), indexing="ij"
    )
    row, series, ordinal, charge, loss = (axis.ravel() for axis in grid)
    keep = ordinal < precursors.length[row]
    keep &= charge <= precursors.charge[row]
    keep &= (series == B) | ~np.isin(loss, OF_B)
    keep &= phospho[row] | ~np.isin(loss, OF_PHOSPHO)
    fragments = Ions(row, series, ordinal, charge, loss, np.ones(row.size)).select(keep)
    mz = mz_of(fragments.mass(precursors), fragments.charge)
    main = [PeakList(fragments.row, mz, fragments.intensity), *_whole(precursors)]
    charge = np.concatenate([fragments.charge, *(precursors.charge[p.row] for p in main[1:])])
    ions = PeakList.join(main)
    later = [PeakList(ions.row, ions.mz + i * ISOTOPE_SPACING / charge, ions.intensity)
             for i in (1, 2)]  # fmt: skip
    inner = inner_fragments(precursors)
    middle = inner_mz(precursors, *inner)
    less = (0.0, CARBON_MONOXIDE, WATER, AMMONIA)
    lost = [PeakList(inner[0], middle - each, np.ones(middle.size)) for each in less]
    return PeakList.join([ions, *later, *lost, PeakList(*markers(precursors))])


def _whole(precursors: Precursors) -> list[PeakList]:
    """The precursor, after losses, and what a TMT reporter leaves behind."""
    rows, one = np.arange(len(precursors)), np.ones(len(precursors))
    mass, charge = precursors.mass * 1e-6, precursors.charge
    lost = (0.0, WATER, AMMONIA, 2 * WATER, WATER + AMMONIA)
    parts = [PeakList(rows, (mass - loss) / charge + PROTON, one) for loss in lost]
    row, mz = tmt_complements(precursors)
    return [*parts, PeakList(row, mz, np.ones(row.size))]


def explained(spectra: Sequence[Spectrum], precursors: Precursors) -> list[NDArray[np.bool_]]:
    """Which peaks of each spectrum its label explains within 0.02 Da or 20 ppm."""
    theory = theoretical_peaks(precursors)
    key = np.sort(theory.row * _FAR + theory.mz)
    row = np.repeat(np.arange(len(spectra)), [s.mz.size for s in spectra])
    mz = np.concatenate([np.asarray(s.mz, np.float64) for s in spectra])
    wanted = row * _FAR + mz
    place = np.searchsorted(key, wanted)
    key = np.concatenate([[-_FAR], key, [np.inf]])
    distance = np.minimum(wanted - key[place], key[place + 1] - wanted)
    known = distance <= np.maximum(_DALTON, mz * _PPM * 1e-6)
    bounds = np.cumsum([s.mz.size for s in spectra])[:-1]
    return np.split(known, bounds)


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """Unexplained peaks of real spectra, one set a spectrum, sorted by precursor mass.

    Attributes
    ----------
    mz, intensity : float64, shape (all peaks,)
        Th; relative to the base peak of the spectrum they come from.
    sets : int64, shape (sets + 1,)
        Where each set begins.
    mass : float64, shape (sets,)
        Neutral precursor mass of the spectrum, Da, ascending.
    floor : float64, shape (sets,)
        Weakest relative intensity that the spectrum recorded.
    """

    mz: Floats
    intensity: Floats
    sets: Ints
    mass: Floats
    floor: Floats

    def __len__(self) -> int:
        return int(self.mass.size)

    @classmethod
    def build(cls, spectra: Iterable[Spectrum]) -> NoiseBank:
        """Collect the peaks of labelled spectra that their own labels do not explain.

        Raises
        ------
        InputError
            When no spectrum has a label, peaks and a precursor charge.
        """
        usable = (s for s in spectra if s.peptide and s.precursor_charge and s.mz.size)
        found: list[tuple[float, Floats, Floats, float]] = []
        while chunk := list(islice(usable, _CHUNK)):
            peptides = [Peptide.parse(s.peptide) for s in chunk]
            precursors = Precursors.of(peptides, [s.precursor_charge or 1 for s in chunk])
            masses = (precursors.mass * 1e-6).tolist()
            for spectrum, mass, known in zip(
                chunk, masses, explained(chunk, precursors), strict=True
            ):
                relative = spectrum.intensity / spectrum.intensity.max()
                found.append((mass, spectrum.mz[~known], relative[~known], float(relative.min())))
        if not found:
            raise InputError("no labelled spectrum for the noise bank", remedy="give labelled ones")
        found.sort(key=lambda entry: entry[0])
        mass, mz, intensity, floor = zip(*found, strict=True)
        return cls(
            mz=np.concatenate(mz).astype(np.float64),
            intensity=np.concatenate(intensity).astype(np.float64),
            sets=np.concatenate([[0], np.cumsum([peaks.size for peaks in mz])]).astype(np.int64),
            mass=np.array(mass, np.float64),
            floor=np.array(floor, np.float64),
        )

    def draw(self, mass: Floats, rng: np.random.Generator) -> tuple[PeakList, Floats]:
        """One whole noise set for every precursor, moved in relative mass.

        A set comes from a spectrum of neighbouring precursor mass. Its peaks above 260 Th are
        scaled to the new mass (and by some percent at random), each then moved by the nearest
        whole number of nucleons, so that mass defects and isotope spacings stay real.

        Parameters
        ----------
        mass : float64 array, shape (count,)
            Neutral precursor masses in Da.

        Returns
        -------
        PeakList
            With the place in ``mass`` as row.
        float64 array, shape (count,)
            The weakest relative intensity recorded beside each set.
        """
        reach = max(1, round(_NEIGHBOURS * len(self)))
        place = np.searchsorted(self.mass, mass) + rng.integers(-reach, reach + 1, mass.size)
        chosen = np.clip(place, 0, len(self) - 1)
        size = self.sets[chosen + 1] - self.sets[chosen]
        row = np.repeat(np.arange(mass.size), size)
        within = np.arange(row.size) - np.repeat(np.cumsum(size) - size, size)
        peak = self.sets[chosen][row] + within
        old = self.mz[peak]
        scale = mass / self.mass[chosen] * (1 + rng.normal(0.0, _SCALE_JITTER, mass.size))
        nucleons = np.rint(old * (scale[row] - 1) / NUCLEON)
        mz = np.where(old < _FIXED_MZ, old, old + nucleons * NUCLEON)
        return PeakList(row, mz, self.intensity[peak]), self.floor[chosen]


def invented_noise(mass: Floats, mean: float, rng: np.random.Generator) -> PeakList:
    """Noise without a bank: a Poisson count of peaks, on peptides' mass clusters, weak."""
    size = rng.poisson(mean, mass.size)
    row = np.repeat(np.arange(mass.size), size)
    whole = np.rint(rng.uniform(100.0, np.maximum(mass[row], 200.0)))
    mz = whole * NUCLEON + rng.normal(0.0, 0.03, row.size)
    return PeakList(row, mz, 0.03 * rng.lognormal(0.0, 0.8, row.size))
