"""Rendering: fragment ions with intensities become spectra.

Knows which satellites ions are given, immonium and reporter ions, and the errors of an instrument.
Does not know how intense satellites are, where peptides and intensities come from, nor torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tinynovo.ions import (
    Floats,
    Ints,
    Ions,
    PeakList,
    Precursors,
    markers,
    mz_of,
    tmt_complements,
)
from tinynovo.masses import ISOTOPE_SPACING, PROTON, residue_table
from tinynovo.satellites import a_ions, isotopes, lognormal, losses, middle, remnants
from tinynovo.spectrum import Spectrum


class SimulationOptions(BaseModel):
    """How peptides are drawn and spectra rendered. Intensities are relative to the base peak."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_length: int = Field(default=7, ge=2, description="fewest residues of a random peptide")
    max_length: int = Field(default=30, ge=2, description="most residues of a random peptide")
    tryptic: float = Field(
        default=0.9, ge=0, le=1, description="random peptides that end in K or R"
    )
    natural: bool = Field(default=True, description="natural amino-acid frequencies, else uniform")
    modifications: dict[str, float] = Field(
        default={"C[Carbamidomethyl]": 1.0, "M[Oxidation]": 0.2, "[Acetyl]-": 0.02},
        description="token of the residue table: how often a random peptide's residue carries it",
    )
    conversions: dict[str, float] = Field(
        default={}, description="the same, laid on the plain residues of annotated peptides"
    )
    tmt: float = Field(default=0.0, ge=0, le=1, description="peptides turned into TMT6plex ones")

    doubly_charged: bool = Field(default=True, description="2+ fragments in heuristic intensities")
    neutral: bool = Field(
        default=False,
        description="fragments at their neutral mass, without protons: wrong, only to repeat a "
        "failure",
    )
    losses: float = Field(default=1.0, ge=0, description="scale of neutral-loss satellites")
    a_ions: float = Field(default=1.0, ge=0, description="scale of a-ions")
    immonium: float = Field(default=1.0, ge=0, description="scale of immonium and reporter ions")
    inner: float = Field(default=1.0, ge=0, description="scale of fragments of the middle")
    precursor: float = Field(default=1.0, ge=0, description="scale of the precursor remnant")
    isotopes: float = Field(default=1.0, ge=0, description="scale of isotope satellites")
    noise_peaks: float = Field(
        default=90.0, ge=0, description="mean count of noise peaks without a bank"
    )
    dropout: float = Field(
        default=0.05, ge=0, lt=1, description="ions lost whatever their intensity"
    )
    floor: float = Field(default=0.012, ge=0, lt=1, description="weakest peak seen, without a bank")
    jitter: float = Field(default=0.4, ge=0, description="sd of the natural log of intensities")
    shift_ppm: float = Field(
        default=3.0, ge=0, description="sd of a spectrum's common fragment error"
    )
    peak_ppm: float = Field(default=3.0, ge=0, description="sd of each peak's own error")
    precursor_ppm: float = Field(default=4.0, ge=0, description="sd of the precursor's error")
    isotope_error: float = Field(
        default=0.1, ge=0, le=1, description="precursors 1 or 2 isotopes off"
    )
    rounded: float = Field(default=0.3, ge=0, le=1, description="spectra with m/z rounded to 0.01")
    resolution_ppm: float = Field(
        default=12.0, ge=0, description="closer peaks become one; 0: never"
    )
    min_mz: float = Field(default=100.0, ge=0, description="lowest m/z recorded")
    max_mz: float = Field(default=2000.0, gt=0, description="highest m/z recorded")
    max_peaks: int = Field(default=250, ge=1, description="most intense peaks kept")

    @field_validator("modifications", "conversions")
    @classmethod
    def _known_modifications(cls, odds: dict[str, float]) -> dict[str, float]:
        for token, probability in odds.items():
            if token not in residue_table() or not residue_table()[token].modification:
                raise ValueError(f"{token} is no modification of the residue table")
            if not 0 <= probability <= 1:
                raise ValueError(f"probability {probability:g} of {token} lies outside 0..1")
        return odds

    @model_validator(mode="after")
    def _lengths_in_order(self) -> SimulationOptions:
        if self.min_length > self.max_length:
            raise ValueError("min_length exceeds max_length")
        return self

    @classmethod
    def clean(cls) -> SimulationOptions:
        """B and y ions of charge 1 and nothing else, at their exact m/z."""
        zero: dict[str, Any] = dict.fromkeys(
            (
                *("losses", "a_ions", "immonium", "inner", "precursor", "isotopes"),
                *("noise_peaks", "dropout", "floor", "jitter", "shift_ppm", "peak_ppm"),
                *("precursor_ppm", "isotope_error", "rounded", "resolution_ppm", "min_mz"),
            ),
            0.0,
        )
        return cls(**zero, doubly_charged=False, max_mz=1e5, max_peaks=1000)


_COMPLEMENT_SHARE = 0.01
"""Median intensity of what a TMT precursor leaves beside each reporter."""


def ion_peaks(
    precursors: Precursors, ions: Ions, options: SimulationOptions, rng: np.random.Generator
) -> PeakList:
    """Peaks of ions and all their satellites, at exact m/z."""
    kept = ions.select(rng.random(ions.row.size) >= options.dropout)
    jittered = kept.intensity * lognormal(rng, kept.row.size, options.jitter)
    kept = Ions(kept.row, kept.series, kept.ordinal, kept.charge, kept.loss, jittered)
    parts = [kept]
    if options.losses:
        parts += losses(kept, precursors, options.losses, rng)
    if options.a_ions:
        parts += a_ions(kept, precursors, options.a_ions, rng)
    if options.precursor:
        parts.append(remnants(precursors, options.precursor, rng))
    every = Ions.join(parts)
    mass = every.mass(precursors)
    mz = mz_of(mass, every.charge) - PROTON * options.neutral
    peaks, charge = PeakList(every.row, mz, every.intensity), every.charge
    if options.inner:
        inner = middle(kept, precursors, options.inner, options.losses, rng)
        peaks = PeakList.join([peaks, inner])
        charge = np.concatenate([charge, np.ones_like(inner.row)])
    found = [peaks]
    if options.isotopes:
        found += isotopes(peaks, charge, len(precursors), options.isotopes, rng)
    if options.precursor:
        row, mz = tmt_complements(precursors)
        left = options.precursor * _COMPLEMENT_SHARE * lognormal(rng, row.size, 1.2)
        found.append(PeakList(row, mz, left))
    if options.immonium:
        row, mz, typical = markers(precursors)
        energy = lognormal(rng, len(precursors), 0.9)[row]
        intensity = options.immonium * typical * energy * lognormal(rng, row.size, 0.6)
        found.append(PeakList(row, mz, intensity))
    return PeakList.join(found)


def record(
    precursors: Precursors,
    peaks: PeakList,
    noise: PeakList,
    floor: Floats,
    options: SimulationOptions,
    rng: np.random.Generator,
    first: int = 0,
) -> list[Spectrum]:
    """Let an instrument record peaks: errors, resolution, detection floor, most intense peaks.

    Parameters
    ----------
    precursors : Precursors
    peaks : peaks of ions, m/z exact
    noise : peaks that already carry errors
    floor : float64 array, shape (peptides,)
        Weakest relative intensity seen.
    first : int
        Index of the first spectrum.

    Returns
    -------
    list of Spectrum
        Labelled, one a peptide, peaks ascending in m/z, base peak 1.
    """
    count = len(precursors)
    shift = rng.normal(0.0, options.shift_ppm, count) if options.shift_ppm else np.zeros(count)
    error = shift[peaks.row]
    if options.peak_ppm:
        error = error + rng.normal(0.0, options.peak_ppm, error.size)
    relative = peaks.intensity / _row_maximum(peaks, count)[peaks.row]
    peaks = PeakList(peaks.row, peaks.mz * (1 + error * 1e-6), relative)
    peaks = PeakList.join([peaks, noise])
    seen = (peaks.mz >= options.min_mz) & (peaks.mz <= options.max_mz)
    peaks = peaks.select(seen & (peaks.intensity >= floor[peaks.row]))
    rounded = rng.random(count) < options.rounded
    mz = np.where(rounded[peaks.row], np.rint(peaks.mz * 100) / 100, peaks.mz)
    peaks = PeakList(peaks.row, mz, peaks.intensity)
    order = np.lexsort((peaks.mz, peaks.row))
    peaks = _strongest(_merged(peaks.select(order), options.resolution_ppm), options.max_peaks)
    intensity = peaks.intensity / _row_maximum(peaks, count)[peaks.row]
    return _spectra(precursors, peaks.row, peaks.mz, intensity, options, rng, first)


def _row_maximum(peaks: PeakList, count: int) -> Floats:
    """Base peak of every row."""
    base = np.zeros(count)
    np.maximum.at(base, peaks.row, peaks.intensity)
    return base


def _merged(peaks: PeakList, ppm: float) -> PeakList:
    """Sorted peaks, those closer than the resolution summed at their centre of intensity."""
    if not ppm or peaks.row.size == 0:
        return peaks
    new = np.ones(peaks.row.size, bool)
    close = np.diff(peaks.mz) <= peaks.mz[1:] * ppm * 1e-6
    new[1:] = ~(close & (np.diff(peaks.row) == 0))
    begin = np.flatnonzero(new)
    intensity = np.add.reduceat(peaks.intensity, begin)
    moment = np.add.reduceat(peaks.intensity * peaks.mz, begin)
    single = np.diff(np.append(begin, peaks.row.size)) == 1
    mz = np.where(single, peaks.mz[begin], moment / intensity)
    return PeakList(peaks.row[begin], mz, intensity)


def _strongest(peaks: PeakList, count: int) -> PeakList:
    """The most intense peaks of every row, order kept."""
    order = np.lexsort((-peaks.intensity, peaks.row))
    row = peaks.row[order]
    rank = np.arange(row.size) - np.searchsorted(row, row)
    keep = np.zeros(row.size, bool)
    keep[order[rank < count]] = True
    return peaks.select(keep)


def _spectra(
    precursors: Precursors, row: Ints, mz: Floats, intensity: Floats,
    options: SimulationOptions, rng: np.random.Generator, first: int,
) -> list[Spectrum]:  # fmt: skip
    """Spectrum objects, with the precursor as an instrument records it."""
    count = len(precursors)
    exact = mz_of(precursors.mass, precursors.charge)
    ppm = (
        rng.normal(0.0, options.precursor_ppm, count) if options.precursor_ppm else np.zeros(count)
    )
    late = rng.choice(3, count, p=_isotope_odds(options.isotope_error))
    recorded = exact * (1 + ppm * 1e-6) + late * ISOTOPE_SPACING / precursors.charge
    bounds = np.searchsorted(row, np.arange(count + 1)).tolist()
    charges = precursors.charge.tolist()
    labels = precursors.labels
    return [
        Spectrum(
            mz[bounds[i] : bounds[i + 1]],
            intensity[bounds[i] : bounds[i + 1]],
            precursor,
            charges[i],
            identifier=f"index={first + i}",
            index=first + i,
            peptide=labels[i],
        )
        for i, precursor in enumerate(recorded.tolist())
    ]


def _isotope_odds(wrong: float) -> list[float]:
    """Probabilities that the precursor is recorded 0, 1 or 2 isotopes too heavy."""
    return [1 - wrong, 0.8 * wrong, 0.2 * wrong]
