"""Satellites: what fragment ions come with in spectra of peptides.

Knows how intense neutral losses, a ions, isotopes, fragments of the middle and what is left of the
precursor are beside the ions they come from: medians and spread of label-free Orbitrap HCD spectra
(`benchmarks/LOG.md` has them side by side with rendered ones). Does not know where the intensities
of ions come from, what an instrument makes of peaks, nor torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinynovo.ions import (
    A_AMMONIA,
    A_ION,
    A_WATER,
    AMMONIA_LOSS,
    NO_LOSS,
    NO_TOKEN,
    PHOSPHO_LOSS,
    PRECURSOR,
    RENDERED_LENGTHS,
    TOKEN_IDS,
    TWO_WATERS,
    WATER_AMMONIA,
    WATER_LOSS,
    B,
    Floats,
    Ints,
    Ions,
    PeakList,
    Precursors,
    Y,
    inner_fragments,
    inner_mz,
)
from tinynovo.masses import AMMONIA, CARBON_MONOXIDE, ISOTOPE_SPACING, PROTON, WATER

_AVERAGINE = 5.5e-4
"""First isotope over monoisotopic peak, per Da: averagine (Senko 1995), near-linear."""

_WATER, _AMMONIA = ("S", "T", "E", "D"), ("K", "R", "N", "Q")
"""Residues that lose it."""

_PHOSPHATE = ("S[Phospho]", "T[Phospho]")

_LOSSES = (
    (WATER_LOSS, (_WATER,), (0.45, 0.2, 0.045, 0.1)),
    (AMMONIA_LOSS, (_AMMONIA,), (0.06, 0.04, 0.03, 0.06)),
    (PHOSPHO_LOSS, (_PHOSPHATE,), (0.6, 0.6, 0.6, 0.6)),
    (TWO_WATERS, (_WATER, _WATER), (0.06, 0.06, 0.004, 0.02)),
    (WATER_AMMONIA, (_WATER, _AMMONIA), (0.04, 0.01, 0.007, 0.015)),
    (A_WATER, (_WATER,), (0.07, 0.03, 0.0, 0.0)),
    (A_AMMONIA, (), (0.056, 0.03, 0.0, 0.0)),
)
"""Loss code, residues of which an ion must hold one each, and the median share of the parent's
intensity: of b ions, of those of higher charge, and of y ions likewise."""

_LOSS_SPREAD = 1.2

_A_SHARE = np.array([0.0, 0.3, 0.8, 0.03, 0.1])
"""Median intensity of the a-ion over its b-ion, by residues held (the last: 4 and more)."""

_HIGH_A_SHARE = 0.15
"""The same of higher charge."""

_REMNANT_SHARE = {NO_LOSS: 0.03, WATER_LOSS: 0.01, AMMONIA_LOSS: 0.008}
"""Loss code: median intensity of what is left of the precursor; widely spread."""

_INNER = np.array([0.0112, 0.0076, 0.0052, 0.0036, 0.0031, 0.0024])
"""Median intensity of a b ion of the middle by `RENDERED_LENGTHS`, where its end gives no b ion."""

_INNER_A = np.array([0.5, 0.05, 0.13, 0.12, 0.11, 0.1])
"""Median intensity of the a ion beside it."""

_INNER_LOSSES = (
    (WATER, _WATER, 0.1),
    (AMMONIA, _AMMONIA, 0.06),
    (WATER + CARBON_MONOXIDE, _WATER, 0.05),
    (AMMONIA + CARBON_MONOXIDE, (), 0.05),
)
"""Da, residues that lose it, and the median share of the b ion of the middle: for each such
residue, up to three, and one more; the last whatever it holds."""

_ONE_ISOTOPE, _TWO_ISOTOPES = 0.2, 0.75
"""Quantiles of the isolation's width from which on the first and the second isotope pass."""


def lognormal(rng: np.random.Generator, count: int, sigma: float) -> Floats:
    """Factors of median 1, shape (count,)."""
    return np.exp(rng.normal(0.0, sigma, count)) if sigma else np.ones(count)


def _held(precursors: Precursors, tokens: tuple[str, ...]) -> Ints:
    """How many of some tokens are among the first k: shape (peptides, slots + 1)."""
    ids = [TOKEN_IDS[token] for token in tokens]
    return precursors.counts(np.isin(np.arange(NO_TOKEN + 1), ids).astype(np.int64))


def losses(
    ions: Ions, precursors: Precursors, scale: float, rng: np.random.Generator
) -> list[Ions]:
    """Neutral losses of the peptides whose ions are annotated without any."""
    annotated = np.zeros(len(precursors), bool)
    annotated[ions.row[ions.loss > 0]] = True
    whole = (ions.loss == NO_LOSS) & (ions.series != PRECURSOR) & ~annotated[ions.row]
    cut = precursors.cut(ions.row, ions.series, ions.ordinal)
    kind = 2 * (ions.series == Y) + (ions.charge > 1)
    parts = []
    for loss, needed, shares in _LOSSES:
        share = np.array(shares)[kind]
        keep = whole & (share > 0)
        for tokens in set(needed):
            counts = _held(precursors, tokens)
            held = counts[ions.row, cut]
            held = np.where(ions.series == Y, counts[ions.row, -1] - held, held)
            keep &= held >= needed.count(tokens)
        factor = scale * share * lognormal(rng, ions.row.size, _LOSS_SPREAD)
        parts.append(ions.changed(keep, loss, ions.intensity * factor))
    return parts


def a_ions(
    ions: Ions, precursors: Precursors, scale: float, rng: np.random.Generator
) -> list[Ions]:
    """B ions without carbon monoxide."""
    keep = (ions.loss == NO_LOSS) & (ions.series == B)
    share = np.where(ions.charge == 1, _A_SHARE[np.minimum(ions.ordinal, 4)], _HIGH_A_SHARE)
    factor = scale * share * lognormal(rng, ions.row.size, 0.9)
    return [ions.changed(keep, A_ION, ions.intensity * factor)]


def remnants(precursors: Precursors, scale: float, rng: np.random.Generator) -> Ions:
    """What is left of the precursor, whole or without water or ammonia."""
    count = len(precursors)
    lost = np.repeat(list(_REMNANT_SHARE), count)
    share = np.repeat(list(_REMNANT_SHARE.values()), count) * scale
    row = np.tile(np.arange(count), len(_REMNANT_SHARE))
    series = np.full(row.size, PRECURSOR)
    intensity = share * lognormal(rng, row.size, 1.8)
    return Ions(row, series, np.zeros_like(row), precursors.charge[row], lost, intensity)


def middle(
    ions: Ions, precursors: Precursors, scale: float, losses: float, rng: np.random.Generator
) -> PeakList:
    """Fragments that lost residues at both ends, with their own losses, scaled by ``losses``.

    Stronger where their end yields a b ion, and four times as strong where they begin with
    proline.
    """
    row, begin, length = inner_fragments(precursors)
    kind = length - RENDERED_LENGTHS[0]
    strongest = np.zeros(precursors.ids.shape)
    is_b = (ions.series == B) & (ions.loss == NO_LOSS)
    cut = precursors.cut(ions.row, ions.series, ions.ordinal)
    np.maximum.at(strongest, (ions.row[is_b], cut[is_b]), ions.intensity[is_b])
    ending = strongest[row, begin + length]
    energy = lognormal(rng, len(precursors), 0.8)[row]
    b = scale * energy * _INNER[kind] * lognormal(rng, row.size, 1.2)
    b *= 0.7 * (1 + 4 * ending / (ending + 0.06))
    b *= np.where(precursors.ids[row, begin] == TOKEN_IDS["P"], 4.0, 1.0)
    a = b * _INNER_A[kind] * lognormal(rng, row.size, 0.9)
    mz = inner_mz(precursors, row, begin, length)
    parts = [PeakList(row, mz, b), PeakList(row, mz - CARBON_MONOXIDE, a)]
    for lost, tokens, each in _INNER_LOSSES:
        counts = _held(precursors, tokens)
        held = np.minimum(counts[row, begin + length] - counts[row, begin], 3)
        share = losses * each * (held + 1) * lognormal(rng, row.size, 1.1)
        less = PeakList(row, mz - lost, b * share)
        parts.append(less.select((share > 0) & ((held > 0) | (not tokens))))
    return PeakList.join(parts)


def isotopes(
    peaks: PeakList, charge: Ints, count: int, scale: float, rng: np.random.Generator
) -> list[PeakList]:
    """First and second isotopes of peaks of ``count`` spectra, as far as they were isolated."""
    width, passed = rng.random(count), scale * rng.uniform(0.5, 1.1, count)
    ratio = (peaks.mz - PROTON) * charge * _AVERAGINE * passed[peaks.row]
    step = ISOTOPE_SPACING / charge
    first = PeakList(peaks.row, peaks.mz + step, peaks.intensity * ratio)
    second = PeakList(peaks.row, peaks.mz + 2 * step, peaks.intensity * ratio**2 / 2)
    isolated: tuple[NDArray[np.bool_], ...] = (width > _ONE_ISOTOPE, width > _TWO_ISOTOPES)
    return [each.select(own[each.row]) for each, own in zip((first, second), isolated, strict=True)]
