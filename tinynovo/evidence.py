"""Evidence: what a spectrum says for a cut of the peptide.

Knows how a cut becomes fragment ions and how these are looked up among the peaks. Does not know
networks, the recursion, losses or files.

A *cut* is the summed residue mass left of a peptide bond, in micro-dalton. Going forwards from an
anchor at ``left`` the candidate c makes the cut ``left + m(c)``; going backwards from ``right`` it
makes the cut ``right - m(c)``.

Axes: B spectra, P peaks, S slots (or beams), V candidate tokens, I ions, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from tinynovo.masses import (
    AMMONIA,
    CARBON_MONOXIDE,
    ISOTOPE_SPACING,
    PHOSPHORIC_ACID,
    PROTON,
    WATER,
    udalton,
)
from tinynovo.tokens import PeakBatch, token_masses

MAIN_IONS = (("b", 1), ("y", 1), ("b", 2), ("y", 2))
HIGH_IONS = (("b", 3), ("y", 3))
MINOR_IONS = (
    ("b", 1, -CARBON_MONOXIDE),
    ("b", 1, -WATER),
    ("b", 1, -AMMONIA),
    ("y", 1, -WATER),
    ("y", 1, -AMMONIA),
    ("b", 1, -PHOSPHORIC_ACID),
    ("y", 1, -PHOSPHORIC_ACID),
    ("y", 2, -PHOSPHORIC_ACID),
)
"""Series, charge and, for the last, what is lost (Da): a-ions are b without CO."""

_IONS = (*((s, z, 0.0) for s, z in MAIN_IONS), *((s, z, 0.0) for s, z in HIGH_IONS), *MINOR_IONS)
_PARTNERS = tuple(
    udalton(delta)
    for delta in (
        ISOTOPE_SPACING,
        ISOTOPE_SPACING / 2,
        ISOTOPE_SPACING / 3,
        -ISOTOPE_SPACING,
        -ISOTOPE_SPACING / 2,
        -WATER,
        -AMMONIA,
        -CARBON_MONOXIDE,
        WATER,
        AMMONIA,
        CARBON_MONOXIDE,
    )
)
ANNOTATIONS = len(_PARTNERS) + 6
_BASIC = 5
CUT_FEATURES = (
    len(MAIN_IONS) * (_BASIC + ANNOTATIONS) + len(HIGH_IONS) * _BASIC + 2 * len(MINOR_IONS) + 4
)
GLOBALS = 8 + 3 + 1


class EvidenceOptions(BaseModel):
    """Shape of the evidence and its scorer; frozen in the checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance_ppm: float = Field(12.0, gt=0, description="relative part of the peak window")
    tolerance_da: float = Field(0.008, ge=0, description="absolute part of the peak window, Da")
    hidden: int = Field(96, ge=8, description="width of the shared per-candidate network")
    embedding: int = Field(24, ge=4, description="width of a candidate's embedding")


def ion_mz(cut: Tensor, residue_mass: Tensor, series: str, charge: int, offset: int) -> Tensor:
    """m/z in micro-Th (int64, shape of ``cut``) of one ion of a cut.

    ``residue_mass`` broadcasts against ``cut``; ``offset`` is what is lost, in micro-dalton.
    """
    neutral = cut if series == "b" else residue_mass - cut + udalton(WATER)
    return torch.div(neutral + offset, charge, rounding_mode="floor") + udalton(PROTON)


@dataclass(frozen=True, eq=False)
class PeakTable:
    """A batch of spectra made ready for look-ups.

    Attributes
    ----------
    batch : PeakBatch
    features : float32 [B, P, 2 + ANNOTATIONS]
        Intensity, rank, then the annotations of each peak.
    globals : float32 [B, F]
        Charge, mass, peak count and grid of the m/z values.
    nodes : float32 [B, bins]
        Summed intensity of the ions of a cut, on a grid of cuts, for looking ahead.
    immonium : float32 [B, V]
        Intensity of the immonium ion of each token.
    """

    batch: PeakBatch
    features: Tensor
    globals: Tensor
    nodes: Tensor
    immonium: Tensor

    def select(self, rows: Tensor) -> PeakTable:
        """Some spectra of the table; ``rows`` is int64 or bool [B']."""
        return PeakTable(
            self.batch.select(rows),
            self.features[rows],
            self.globals[rows],
            self.nodes[rows],
            self.immonium[rows],
        )


def nearest_peak(mz: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the peak nearest to each query and its signed distance.

    Parameters
    ----------
    mz : int64 [B, P]
        Ascending micro-Th.
    query : int64 [B, Q]

    Returns
    -------
    index : int64 [B, Q]
    distance : int64 [B, Q]
        Peak minus query, micro-Th.
    """
    above = torch.searchsorted(mz, query).clamp(max=mz.shape[1] - 1)
    below = (above - 1).clamp(min=0)
    far = mz.gather(1, above) - query
    near = mz.gather(1, below) - query
    closer = near.abs() < far.abs()
    return torch.where(closer, below, above), torch.where(closer, near, far)


def _window(query: Tensor, options: EvidenceOptions) -> Tensor:
    relative = (query.to(torch.float32) * (options.tolerance_ppm * 1e-6)).to(torch.int64)
    return relative + udalton(options.tolerance_da)


def _partners(batch: PeakBatch, options: EvidenceOptions) -> Tensor:
    """Intensity of the peaks that stand in a known distance to each peak: [B, P, partners]."""
    shifts = torch.tensor(_PARTNERS, dtype=torch.int64, device=batch.mz.device)
    query = (batch.mz[:, :, None] + shifts).flatten(1)
    index, distance = nearest_peak(batch.mz, query)
    hit = distance.abs() <= _window(query.clamp(max=1 << 32), options) // 2
    found = batch.intensity.gather(1, index) * hit
    return found.view(*batch.mz.shape, len(_PARTNERS))


def _ladder(batch: PeakBatch, options: EvidenceOptions) -> Tensor:
    """Best intensity one plain residue above and below each peak, for 1+ and 2+: [B, P, 4]."""
    mass = token_masses(batch.mz.device)[1:20]
    columns = []
    for charge in (1, 2):
        for sign in (1, -1):
            query = (batch.mz[:, :, None] + sign * mass // charge).flatten(1)
            index, distance = nearest_peak(batch.mz, query)
            hit = distance.abs() <= _window(query.clamp(max=1 << 32), options) // 2
            found = batch.intensity.gather(1, index) * hit
            columns.append(found.view(*batch.mz.shape, -1).amax(-1))
    return torch.stack(columns, -1)


def _ranks(batch: PeakBatch) -> tuple[Tensor, Tensor]:
    """Rank of each peak among all, and among those within 50 Th: float32 [B, P] in 0..1."""
    stronger = batch.intensity[:, None, :] > batch.intensity[:, :, None]
    near = (batch.mz[:, None, :] - batch.mz[:, :, None]).abs() < 50_000_000
    overall = stronger.sum(-1).to(torch.float32)
    local = (stronger & near).sum(-1).to(torch.float32)
    return 1 / (1 + overall / 10), 1 / (1 + local / 2)


NODE_BIN = 20_000
"""Width in micro-dalton of a cell of the grid of cuts."""


def _nodes(batch: PeakBatch) -> Tensor:
    """Evidence of every cut on a grid: [B, bins], the summed intensity of b and y, 1+ and 2+."""
    bins = int(batch.residue_mass.max()) // NODE_BIN + 4
    rows = batch.mz.shape[0]
    total = torch.zeros(rows, bins, device=batch.mz.device)
    for series, charge in MAIN_IONS:
        neutral = (batch.mz - udalton(PROTON)) * charge
        cut = neutral
        if series == "y":
            cut = batch.residue_mass[:, None] + udalton(WATER) - neutral
        cell = torch.div(cut, NODE_BIN, rounding_mode="floor")
        valid = batch.mask & (cell > 0) & (cell < bins - 1)
        cell = torch.where(valid, cell, 0)
        found = batch.intensity * valid * (1.0 if charge == 1 else 0.5)
        half = torch.where(cut % NODE_BIN * 2 < NODE_BIN, -1, 1)
        layer = torch.zeros(rows, bins, device=batch.mz.device)
        layer.scatter_reduce_(1, cell, found, "amax")
        layer.scatter_reduce_(1, (cell + half).clamp(0, bins - 1), found, "amax")
        layer[:, 0] = 0
        total += layer
    return total


def peak_table(batch: PeakBatch, options: EvidenceOptions) -> PeakTable:
    """Annotate every peak once, before any candidate is asked for."""
    overall, local = _ranks(batch)
    mask = batch.mask
    features = torch.cat(
        [
            batch.intensity[..., None],
            overall[..., None],
            local[..., None],
            (batch.mz.clamp(max=1 << 32).to(torch.float32) * 1e-9)[..., None],
            _partners(batch, options),
            _ladder(batch, options),
        ],
        -1,
    )
    features = features * mask[..., None]
    charge = nn.functional.one_hot(batch.charge.clamp(1, 8) - 1, 8)
    remainder = torch.remainder(batch.mz, 10_000)
    off_grid = (torch.minimum(remainder, 10_000 - remainder) > 150) & mask
    count = mask.sum(-1)
    rounded = 1 - off_grid.sum(-1) / count.clamp(min=1)
    mass = batch.residue_mass.to(torch.float32) * 1e-9
    facts = torch.stack([mass, 1 / (mass + 0.2), count / 150, rounded], -1)
    query = token_masses(batch.mz.device) + udalton(PROTON - CARBON_MONOXIDE)
    query = query.expand(batch.mz.shape[0], -1).contiguous()
    index, distance = nearest_peak(batch.mz, query)
    immonium = batch.intensity.gather(1, index) * (distance.abs() <= _window(query, options))
    spectrum = torch.cat([charge, facts], -1).to(torch.float32)
    return PeakTable(batch, features, spectrum, _nodes(batch), immonium)


def cut_features(table: PeakTable, cut: Tensor, options: EvidenceOptions) -> Tensor:
    """Look the ions of every cut up.

    Parameters
    ----------
    table : PeakTable
    cut : int64 [B, Q]
        Micro-dalton.

    Returns
    -------
    float32 [B, Q, CUT_FEATURES]
        For each main ion intensity, rank, signed and absolute error and the annotations of its
        peak; less for the others; whether b and y lie within the range recorded.
    """
    batch = table.batch
    total = batch.residue_mass[:, None]
    ions = [ion_mz(cut, total, s, z, udalton(d)) for s, z, d in _IONS]
    query = torch.stack(ions, -1).clamp(min=0)
    window = _window(query, options)
    index, distance = nearest_peak(batch.mz, query.flatten(1))
    distance = distance.view_as(query)
    high = (batch.charge > 2)[:, None, None]
    inside = (cut > 0) & (cut < total)
    hit = (distance.abs() <= window) & inside[..., None]
    hit[..., len(MAIN_IONS) : len(MAIN_IONS) + len(HIGH_IONS)] &= high
    rich = len(MAIN_IONS)
    rows = torch.arange(batch.mz.shape[0], device=cut.device)[:, None, None]
    index = index.view_as(query)
    features = table.features[rows, index[..., :rich]] * hit[..., :rich, None]
    plain = table.features[..., :2][rows, index[..., rich:]] * hit[..., rich:, None]
    error = (distance / window) * hit
    main = torch.cat([features, error[..., :rich, None], error[..., :rich, None].abs()], -1)
    flag = hit[..., : rich + len(HIGH_IONS), None].to(torch.float32)
    main = torch.cat([main, flag[..., :rich, :]], -1)
    middle = plain[..., : len(HIGH_IONS), :]
    span = slice(rich, rich + len(HIGH_IONS))
    middle = torch.cat(
        [middle, error[..., span, None], error[..., span, None].abs(), flag[..., rich:, :]], -1
    )
    minor = plain[..., len(HIGH_IONS) :, :]
    low, top = batch.mz[:, :1], batch.mz.masked_fill(~batch.mask, 0).amax(-1, keepdim=True)
    seen = [(ion >= low) & (ion <= top) for ion in ions[: len(MAIN_IONS)]]
    return torch.cat(
        [
            main.flatten(-2),
            middle.flatten(-2),
            minor.flatten(-2),
            torch.stack(seen, -1).to(torch.float32),
        ],
        -1,
    )


def cut_support(table: PeakTable, cut: Tensor) -> Tensor:
    """Summed intensity of the b and y ions of cuts, read off the grid.

    ``cut`` is int64 [B, ...], micro-dalton; returns float32 of the same shape, 0 outside.
    """
    cell = torch.div(cut.flatten(1), NODE_BIN, rounding_mode="floor")
    inside = (cell > 0) & (cell < table.nodes.shape[1])
    found = table.nodes.gather(1, torch.where(inside, cell, 0))
    return (found * inside).view(cut.shape)
