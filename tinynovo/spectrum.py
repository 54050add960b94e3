"""Spectra and their preprocessing.

Knows a spectrum and the fixed order in which it is cleaned before the network sees it. Does not
know files or torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tinynovo.compiling import Floats, Ints, jit
from tinynovo.masses import ISOTOPE_SPACING, PROTON, WATER, neutral_mass, to_udalton, udalton
from tinynovo.reasons import Reason, ReasonCode

_LIGHTEST, _HEAVIEST = 100.0, 20_000.0
"""Da: beyond these a precursor is no peptide's, and would cost memory without end."""

_WHOLE = 2**63
"""What the whole numbers of tables end before."""

_PROTON = udalton(PROTON)
_PAIR_WINDOW, _PAIR_SHARE = udalton(0.01), 12e-6
"""By how much a pair of peaks may miss the precursor: micro-dalton, and a share of the m/z."""

NO_CHARGE = Reason(ReasonCode.NO_CHARGE, "no precursor charge")


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One tandem mass spectrum as it stands in its file.

    Attributes
    ----------
    mz : float64 array, shape (peaks,)
        In Th, any order as read.
    intensity : float64 array, shape (peaks,)
    precursor_mz : float or None
        In Th.
    precursor_charge : int or None
        None where the file does not say.
    identifier : str
        Native id, or ``index=N``.
    index : int
        Zero-based position in the file.
    file : str
        Path as given.
    title, scan, retention_time (s), ion_mobility
        As far as the file says.
    peptide : str
        The label of a labelled file as written there (ProForma in our Parquet), else empty.

    Raises
    ------
    ValueError
        For a charge or scan that no table can hold.
    """

    mz: NDArray[np.float64]
    intensity: NDArray[np.float64]
    precursor_mz: float | None
    precursor_charge: int | None
    identifier: str = ""
    index: int = 0
    file: str = ""
    title: str = ""
    scan: int | None = None
    retention_time: float | None = None
    ion_mobility: float | None = None
    peptide: str = ""

    def __post_init__(self) -> None:
        for name, value in (("charge", self.precursor_charge), ("scan", self.scan)):
            if value is not None and abs(value) >= _WHOLE:
                raise ValueError(f"{name} {value} is beyond 64 bits")


class Preprocessing(BaseModel):
    """What is done to a spectrum; frozen in the checkpoint. m/z in Th."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_mz: float = Field(50.0, ge=0)
    max_mz: float = Field(2500.0, gt=0, le=4000)
    min_intensity: float = Field(0.0, ge=0, lt=1, description="relative to the base peak")
    remove_precursor_tol: float = Field(0.0, ge=0, description="Th around the precursor; 0: keep")
    max_peaks: int = Field(250, ge=1)
    min_peaks: int = Field(5, ge=1)
    max_charge: int = Field(8, ge=1)


@dataclass(frozen=True, eq=False)
class Peaks:
    """A cleaned spectrum: what the network is given.

    Attributes
    ----------
    mz : int64 array, shape (peaks,)
        Micro-Th, ascending.
    intensity : float32 array, shape (peaks,)
        Square root of the intensity, base peak 1.
    precursor_mass : int
        Neutral mass in micro-dalton.
    precursor_charge : int
    """

    mz: NDArray[np.int64]
    intensity: NDArray[np.float32]
    precursor_mass: int
    precursor_charge: int

    @property
    def residue_mass(self) -> int:
        """What the residues must weigh: the precursor without water, micro-dalton."""
        return self.precursor_mass - udalton(WATER)

    def shifted(self, isotopes: int) -> Peaks:
        """The same peaks with the precursor taken to be ``isotopes`` isotopes too heavy."""
        mass = self.precursor_mass - udalton(isotopes * ISOTOPE_SPACING)
        return Peaks(self.mz, self.intensity, mass, self.precursor_charge)

    @cached_property
    def complements(self) -> float:
        """How intense pairs of peaks are that weigh together what the precursor does.

        A b and a y ion of one cut do so, the one 1+ and the other 1+ or 2+. Summed over pairs, the
        root of the product of both intensities; 0 where there are none.
        """
        return _paired(self.mz, self.intensity, self.precursor_mass)


@jit
def _paired(mz: Ints, intensity: Floats, mass: int) -> float:
    """Of `Peaks.complements`."""
    last, total = mz.shape[0] - 1, 0.0
    for charge in (1, 2):
        first = mz.shape[0]
        for peak in range(mz.shape[0]):
            other = mass + _PROTON - charge * (mz[peak] - _PROTON)
            while first > 0 and mz[first - 1] >= other:
                first -= 1
            above = min(first, last)
            below = max(above - 1, 0)
            place = below if other - mz[below] < mz[above] - other else above
            if abs(mz[place] - other) <= _PAIR_WINDOW + _PAIR_SHARE * other:
                total += math.sqrt(intensity[peak] * intensity[place])
    return total


def preprocess(
    spectrum: Spectrum, options: Preprocessing, charge: int | None = None
) -> Peaks | Reason:
    """Clean one spectrum, or say why it cannot be sequenced.

    The order: finite m/z and positive finite intensity; m/z range; precursor removed; relative
    intensity; most intense peaks; square root, base peak to 1; ascending micro-Th.

    Parameters
    ----------
    spectrum : Spectrum
    options : Preprocessing
    charge : int, optional
        A charge hypothesis that replaces what the file says.

    Returns
    -------
    Peaks or Reason
        Bad input is never an exception here.
    """
    charge = charge or spectrum.precursor_charge
    if spectrum.precursor_mz is None or not np.isfinite(spectrum.precursor_mz):
        return Reason(ReasonCode.NO_PRECURSOR_MZ, "no precursor m/z")
    if charge is None:
        return NO_CHARGE
    if not 1 <= charge <= options.max_charge:
        text = f"precursor charge {charge} outside 1..{options.max_charge}"
        return Reason(ReasonCode.CHARGE_OUT_OF_RANGE, text)
    mass = neutral_mass(spectrum.precursor_mz, charge)
    if not _LIGHTEST <= mass <= _HEAVIEST:
        text = f"precursor mass {mass:.1f} Da is no peptide's"
        return Reason(ReasonCode.MASS_OUT_OF_RANGE, text)
    mz, intensity = np.asarray(spectrum.mz, np.float64), np.asarray(spectrum.intensity, np.float64)
    keep = np.isfinite(mz) & np.isfinite(intensity) & (intensity > 0)
    keep &= (mz >= options.min_mz) & (mz <= options.max_mz)
    if options.remove_precursor_tol > 0:
        keep &= np.abs(mz - spectrum.precursor_mz) > options.remove_precursor_tol
    mz, intensity = mz[keep], intensity[keep]
    if intensity.size:
        keep = intensity >= options.min_intensity * intensity.max()
        mz, intensity = mz[keep], intensity[keep]
    if mz.size < options.min_peaks:
        text = f"{mz.size} usable peaks, fewer than {options.min_peaks}"
        return Reason(ReasonCode.TOO_FEW_PEAKS, text)
    strongest = np.sort(np.argsort(-intensity, kind="stable")[: options.max_peaks])
    mz, intensity = mz[strongest], intensity[strongest]
    order = np.argsort(mz, kind="stable")
    root = np.sqrt(intensity[order] / intensity.max()).astype(np.float32)
    return Peaks(to_udalton(mz[order]), root, udalton(mass), charge)
