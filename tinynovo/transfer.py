"""Transfer of TMT spectra to label-free ones: take the tag off every peak that carries it.

Knows which peaks of a labelled TMT spectrum its own label explains, how many tags each of these
ions bears, and where it would stand without them. Intensities and unexplained peaks stay as they
were measured, so the noise is real; that a tag also changes how a peptide breaks is ignored. Does
not know files or torch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinynovo.masses import (
    AMMONIA,
    CARBON_MONOXIDE,
    ISOTOPE_SPACING,
    MICRO,
    PROTON,
    WATER,
    ion_mz,
    residue_table,
)
from tinynovo.peptide import Peptide
from tinynovo.spectrum import Spectrum

TAG = residue_table()["[TMT6plex]-"].mass
"""Mass of a TMT6plex tag in Da."""

REPORTERS = (
    126.1277,
    127.1248,
    127.1311,
    128.1281,
    128.1344,
    129.1315,
    129.1378,
    130.1348,
    130.1411,
    131.1382,
    230.1702,
)
"""m/z of the TMT6plex reporter ions and of the whole tag."""

_TOLERANCE = 0.02
_CHARGES = (1, 2, 3)
_LOSSES = {"b": (0.0, -WATER, -AMMONIA, -CARBON_MONOXIDE), "y": (0.0, -WATER, -AMMONIA)}


def untagged(peptide: Peptide) -> Peptide:
    """The peptide without its TMT tags."""
    tokens = (t.replace("K[TMT6plex]", "K") for t in peptide.tokens if t != "[TMT6plex]-")
    return Peptide(tuple(tokens))


def _ladder(peptide: Peptide) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """m/z of the explained ions, ascending, and what each loses with its tags (Th)."""
    table = residue_table()
    mass = np.array([table[token].total for token in peptide.tokens]) / MICRO
    tags = np.array(["TMT6plex" in token for token in peptide.tokens], dtype=np.int64)
    mz, shift = [], []
    for series in "by":
        order = slice(None) if series == "b" else slice(None, None, -1)
        neutral = np.cumsum(mass[order]) + (WATER if series == "y" else 0.0)
        carried = np.cumsum(tags[order])
        for charge in _CHARGES:
            for loss in _LOSSES[series]:
                for isotope in (0, 1, 2):
                    ion = (neutral + loss + isotope * ISOTOPE_SPACING) / charge + PROTON
                    mz.append(ion)
                    shift.append(carried * TAG / charge)
    flat = np.concatenate(mz)
    ascending = np.argsort(flat)
    return flat[ascending], np.concatenate(shift)[ascending]


def remove_tags(spectrum: Spectrum) -> Spectrum:
    """A labelled TMT spectrum as it would look without tags.

    Reporter ions and peaks that would fall below zero are left out; peaks that the label does not
    explain stay where they are.

    Parameters
    ----------
    spectrum : Spectrum
        Labelled, with precursor m/z and charge.

    Returns
    -------
    Spectrum
        With the untagged label and precursor.
    """
    peptide = Peptide.parse(spectrum.peptide)
    bare = untagged(peptide)
    ions, shifts = _ladder(peptide)
    after = np.searchsorted(ions, spectrum.mz).clip(1, ions.size - 1)
    nearest = np.where(spectrum.mz - ions[after - 1] < ions[after] - spectrum.mz, after - 1, after)
    explained = np.abs(ions[nearest] - spectrum.mz) <= _TOLERANCE
    mz = spectrum.mz - np.where(explained, shifts[nearest], 0.0)
    reporter = (np.abs(spectrum.mz[:, None] - np.array(REPORTERS)) < _TOLERANCE).any(-1)
    keep = (mz > 0) & ~reporter
    order = np.argsort(mz[keep], kind="stable")
    charge = spectrum.precursor_charge or 1
    return replace(
        spectrum,
        mz=mz[keep][order],
        intensity=spectrum.intensity[keep][order],
        precursor_mz=ion_mz(bare.mass_udalton / MICRO, charge),
        peptide=bare.proforma,
    )
