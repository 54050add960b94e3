"""Evidence: what a spectrum says for a cut of the peptide.

Knows how a cut becomes fragment ions and how these are looked up among the peaks. Does not know
networks, the recursion, losses or files.

A *cut* is the summed residue mass left of a peptide bond, in micro-dalton. Going forwards from an
anchor at ``left`` the candidate c makes the cut ``left + m(c)``; going backwards from ``right`` it
makes the cut ``right - m(c)``.

Axes: B spectra, P peaks, Q queries (each put to one spectrum, its row), V tokens, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from tinynovo import grids, hits, lookups
from tinynovo.cuts import FAR, HIGH_IONS, IONS, MAIN_IONS, NODE_BIN
from tinynovo.launches import launch, launchable, seen
from tinynovo.lookups import Cells, Ground, Placed
from tinynovo.masses import AMMONIA, CARBON_MONOXIDE, ISOTOPE_SPACING, PROTON, WATER, udalton
from tinynovo.tokens import PeakBatch, token_masses

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


_NEAR = 50_000_000
"""Micro-Th within which peaks are ranked among their neighbours."""


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


CLOSED = 10_000
"""Micro-dalton within which a remaining mass counts as none, beside 25 ppm of the whole."""


def closing_slack(residue_mass: Tensor) -> Tensor:
    """Micro-dalton by which the last cut may miss the precursor: int64, shape of the input."""
    return (residue_mass.to(torch.float32) * 25e-6).to(torch.int64) + CLOSED


@dataclass(frozen=True, eq=False)
class PeakTable:
    """A batch of spectra made ready for look-ups: every peak annotated once, when first asked for.

    Attributes
    ----------
    batch : PeakBatch
    options : EvidenceOptions
    memos : dict
        What scorers were asked of these spectra, by scorer.
    """

    batch: PeakBatch
    options: EvidenceOptions
    memos: dict[object, Any] = field(default_factory=dict)

    @cached_property
    @torch.no_grad()
    def features(self) -> Tensor:
        """Intensity, rank, then the annotations of each peak: float32 [B, P, 2 + ANNOTATIONS]."""
        batch = self.batch
        place = batch.mz.clamp(max=1 << 32).to(torch.float32) * 1e-9
        parts = [
            torch.stack([batch.intensity, *_ranks(batch), place], -1),
            _partners(self),
        ]
        return torch.cat(parts, -1) * batch.mask[..., None]

    @cached_property
    def globals(self) -> Tensor:
        """Charge, mass, peak count and grid of the m/z values: float32 [B, GLOBALS]."""
        batch, mask = self.batch, self.batch.mask
        charge = nn.functional.one_hot(batch.charge.clamp(1, 8) - 1, 8)
        remainder = torch.remainder(batch.mz, 10_000)
        off_grid = (torch.minimum(remainder, 10_000 - remainder) > 150) & mask
        count = mask.sum(-1)
        rounded = 1 - off_grid.sum(-1) / count.clamp(min=1)
        mass = batch.residue_mass.to(torch.float32) * 1e-9
        facts = torch.stack([mass, 1 / (mass + 0.2), count / 150, rounded], -1)
        return torch.cat([charge, facts], -1).to(torch.float32)

    @cached_property
    @torch.no_grad()
    def nodes(self) -> Tensor:
        """Evidence of cuts on a grid, for looking ahead: float32 [B, cells]."""
        return _nodes(self.batch)

    @cached_property
    def immonium(self) -> Tensor:
        """Intensity of the immonium ion of each token: float32 [B, V]."""
        batch, device = self.batch, self.batch.mz.device
        query = token_masses(device) + udalton(PROTON - CARBON_MONOXIDE)
        rows = torch.arange(batch.mz.shape[0], device=device)
        index, distance = nearest_peak(batch.mz, rows, query.expand(rows.numel(), -1))
        return batch.intensity.flatten()[index] * (distance.abs() <= widths(query, self.options))

    @cached_property
    def top(self) -> Tensor:
        """Highest m/z recorded, micro-Th: int64 [B]."""
        return self.batch.mz.masked_fill(~self.batch.mask, 0).amax(-1)

    @cached_property
    def placed(self) -> Placed:
        """The peaks for the lookups."""
        batch, near = self.batch, window(self.options)
        known = (batch.residue_mass, batch.charge, self.top, closing_slack(batch.residue_mass))
        starts = batch.mz.new_empty(len(batch.mz), lookups.cells_up_to(int(self.top.max())))
        parts = (batch.mz.contiguous(), batch.intensity.contiguous(), torch.stack(known, -1))
        mz, intensity, facts = (seen(part) for part in parts)
        device, begins = starts.device, seen(starts)
        launch(device, lookups.index_own, len(starts), begins, mz, loop=lookups.index)
        nowhere = seen(starts.new_zeros(1, 1).bool())
        close = lookups.near(mz, near) if device.type == "cpu" else nowhere
        return Placed(mz, intensity, facts, begins, close, near)

    @cached_property
    def ground(self) -> Ground:
        """All of it for the lookups."""
        placed, counts = self.placed, self.batch.mask.sum(-1).numpy()
        return Ground(
            placed.mz,
            self.features.numpy(),
            self.globals.numpy(),
            _cells(self.batch),
            self.immonium.numpy(),
            placed.facts,
            placed.starts,
            placed.near,
            lookups.ions(placed.mz, counts, placed.facts, placed.window),
            placed.window,
        )


def compiled(tensor: Tensor) -> bool:
    """Whether kernels can stand in for what defines them: on the CPU, where nothing is learned."""
    return tensor.device.type == "cpu" and not torch.is_grad_enabled()


def nearest_peak(mz: Tensor, row: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Where the peak nearest to each query is, and its signed distance.

    Parameters
    ----------
    mz : int64 [B, P]
        Ascending micro-Th.
    row : int64 [Q]
        The spectrum that each query is put to.
    query : int64 [Q, ...]
        Micro-Th, 0 to `FAR`.

    Returns
    -------
    index : int64 [Q, ...]
        Into the peaks of the whole batch, flattened.
    distance : int64 [Q, ...]
        Peak minus query, micro-Th.
    """
    count, width = mz.shape
    flat = mz.flatten()
    spectra = torch.arange(count, device=mz.device)[:, None]
    keys = (mz + spectra * (2 * FAR)).flatten()
    row = row.view(-1, *[1] * (query.dim() - 1))
    first = row * width
    above = torch.searchsorted(keys, query + row * (2 * FAR))
    above = torch.minimum(torch.maximum(above, first), first + width - 1)
    below = torch.maximum(above - 1, first)
    far, near = flat[above] - query, flat[below] - query
    closer = near.abs() < far.abs()
    return torch.where(closer, below, above), torch.where(closer, near, far)


def window(options: EvidenceOptions) -> tuple[float, int]:
    """Share of its m/z, and micro-Th beside that, by which an ion may miss its peak."""
    return options.tolerance_ppm * 1e-6, udalton(options.tolerance_da)


def widths(query: Tensor, options: EvidenceOptions) -> Tensor:
    """Micro-Th by which ions at m/z may miss their peaks: int64, shape of ``query``."""
    share, more = window(options)
    return (query.to(torch.float32) * share).to(torch.int64) + more


def _found(batch: PeakBatch, row: Tensor, query: Tensor, options: EvidenceOptions) -> Tensor:
    """Intensity of the peaks within half a window of each query, else 0."""
    index, distance = nearest_peak(batch.mz, row, query.clamp(0, FAR))
    hit = distance.abs() <= widths(query, options) // 2
    return batch.intensity.flatten()[index] * hit


def _partners(table: PeakTable) -> Tensor:
    """Intensity of the peaks in known distances from each peak: float32 [B, P, partners + 4].

    The last four are the best of those one plain residue above and below, for 1+ and 2+.
    """
    batch, width = table.batch, len(_PARTNERS) + 4
    found = torch.zeros(*batch.mz.shape, width, device=batch.mz.device)
    if compiled(batch.mz):
        counts = batch.mask.sum(-1).numpy()
        lookups.partners(found.numpy(), table.placed, counts, np.array(_PARTNERS))
        return found
    mz, row = batch.mz[batch.mask], batch.mask.nonzero()[:, 0]
    shifts = torch.tensor(_PARTNERS, dtype=torch.int64, device=mz.device)
    columns = [_found(batch, row, mz[:, None] + shifts, table.options)]
    residues = token_masses(mz.device)[1:20]
    for charge in (1, 2):
        for sign in (1, -1):
            query = mz[:, None] + sign * torch.div(residues, charge, rounding_mode="floor")
            columns.append(_found(batch, row, query, table.options).amax(-1, keepdim=True))
    found[batch.mask] = torch.cat(columns, -1)
    return found


def _ranks(batch: PeakBatch) -> tuple[Tensor, Tensor]:
    """Rank of each peak among all, and among those within 50 Th: float32 [B, P] in 0..1."""
    if compiled(batch.mz):
        counted = torch.zeros(2, *batch.mz.shape)
        counts = batch.mask.sum(-1).numpy()
        lookups.stronger(counted.numpy(), batch.mz.numpy(), batch.intensity.numpy(), counts, _NEAR)
        return 1 / (1 + counted[0] / 10), 1 / (1 + counted[1] / 2)
    stronger = batch.intensity[:, None, :] > batch.intensity[:, :, None]
    near = (batch.mz[:, None, :] - batch.mz[:, :, None]).abs() < _NEAR
    overall = stronger.sum(-1).to(torch.float32)
    local = (stronger & near).sum(-1).to(torch.float32)
    return 1 / (1 + overall / 10), 1 / (1 + local / 2)


def _cells(batch: PeakBatch) -> Cells:
    """The same as `_nodes`, of a batch on the CPU."""
    counts, mass = batch.mask.sum(-1).numpy(), batch.residue_mass.numpy()
    return grids.nodes(batch.mz.numpy(), batch.intensity.numpy(), counts, mass)


def _nodes(batch: PeakBatch) -> Tensor:
    """Evidence of every cut on a grid: [B, bins], the summed intensity of b and y, 1+ and 2+."""
    bins = int(batch.residue_mass.max()) // NODE_BIN + 4
    rows = batch.mz.shape[0]
    total = torch.zeros(rows, bins, device=batch.mz.device)
    if compiled(batch.mz):
        grids.spread(total.numpy(), _cells(batch))
        return total
    layer = torch.zeros_like(total)
    for series, charge, _ in MAIN_IONS:
        neutral = (batch.mz - udalton(PROTON)) * charge
        cut = neutral
        if series == "y":
            cut = batch.residue_mass[:, None] + udalton(WATER) - neutral
        cell = torch.div(cut, NODE_BIN, rounding_mode="floor")
        valid = batch.mask & (cell > 0) & (cell < bins - 1)
        cell = torch.where(valid, cell, 0)
        found = batch.intensity * valid * (1.0 if charge == 1 else 0.5)
        half = torch.where(cut % NODE_BIN * 2 < NODE_BIN, -1, 1)
        layer.zero_()
        layer.scatter_reduce_(1, cell, found, "amax")
        layer.scatter_reduce_(1, (cell + half).clamp(0, bins - 1), found, "amax")
        layer[:, 0] = 0
        total += layer
    return total


@dataclass(frozen=True, eq=False)
class Found:
    """What is found at all ions of cuts, each [Q, ions].

    Attributes
    ----------
    index : int64
        The nearest peak, into the peaks of the whole batch, flattened.
    error : float32
        Its signed distance, in windows.
    hit : bool
        Whether it is near enough. No ion of a cut outside the peptide has a peak, nor one of 3+
        where the precursor has fewer charges.
    seen : bool
        Whether the ion lies in the range recorded.
    """

    index: Tensor
    error: Tensor
    hit: Tensor
    seen: Tensor


def look_up(table: PeakTable, row: Tensor, cut: Tensor) -> Found:
    """Look for the ions of cuts int64 [Q], micro-dalton, in spectra int64 [Q]."""
    if compiled(cut) or launchable(cut):
        return _hits(table, row, cut)
    total = table.batch.residue_mass[row]
    query = torch.stack([ion_mz(cut, total, s, z, udalton(d)) for s, z, d in IONS], -1)
    query = query.clamp(0, FAR)
    width = widths(query, table.options)
    index, distance = nearest_peak(table.batch.mz, row, query)
    hit = (distance.abs() <= width) & ((cut > 0) & (cut < total))[:, None]
    hit[:, len(MAIN_IONS) : len(MAIN_IONS) + len(HIGH_IONS)] &= (table.batch.charge[row] > 2)[
        :, None
    ]
    low, top = table.batch.mz[row, 0], table.top[row]
    seen = (query >= low[:, None]) & (query <= top[:, None])
    return Found(index, distance / width, hit, seen)


def _hits(table: PeakTable, row: Tensor, cut: Tensor) -> Found:
    """The same as `look_up`, by compiled functions."""
    shape, like = (row.numel(), len(IONS)), (torch.int64, torch.float32, torch.bool, torch.bool)
    found = Found(*(torch.empty(shape, dtype=dtype, device=row.device) for dtype in like))
    mz, _, facts, starts, _, near = table.placed
    parts, asked = map(seen, vars(found).values()), (seen(row.contiguous()), seen(cut.contiguous()))
    arrays: tuple[Any, ...] = (*parts, mz, facts, starts, near, *asked)
    launch(row.device, hits.at_cut, row.numel(), *arrays, loop=hits.at_cuts)
    return found


def cut_features(table: PeakTable, row: Tensor, cut: Tensor) -> Tensor:
    """Look the ions of every cut up.

    Parameters
    ----------
    table : PeakTable
    row : int64 [Q]
        The spectrum of each cut.
    cut : int64 [Q]
        Micro-dalton.

    Returns
    -------
    float32 [Q, CUT_FEATURES]
        For each main ion intensity, rank, annotations of its peak, signed and absolute error and
        whether there is one; less for the others; whether b and y lie in the range recorded.
    """
    found = look_up(table, row, cut)
    rich, middle = len(MAIN_IONS), len(MAIN_IONS) + len(HIGH_IONS)
    index, flag = found.index, found.hit.to(torch.float32)
    error = found.error * flag
    errors = torch.stack([error, error.abs(), flag], -1)
    features = table.features.flatten(0, 1)
    main = features[index[:, :rich]] * flag[:, :rich, None]
    rest = features[:, :2][index[:, rich:]] * flag[:, rich:, None]
    return torch.cat(
        [
            torch.cat([main, errors[:, :rich]], -1).flatten(1),
            torch.cat([rest[:, : len(HIGH_IONS)], errors[:, rich:middle]], -1).flatten(1),
            rest[:, len(HIGH_IONS) :].flatten(1),
            found.seen[:, :rich].to(torch.float32),
        ],
        -1,
    )


def cut_support(table: PeakTable, row: Tensor, cut: Tensor) -> Tensor:
    """Summed intensity of the b and y ions of cuts, read off the grid.

    ``row`` is int64 [Q]; ``cut`` is int64 [Q, ...], micro-dalton; returns float32 of the shape of
    ``cut``, 0 outside the peptide.
    """
    bins = table.nodes.shape[1]
    row = row.view(-1, *[1] * (cut.dim() - 1))
    inside = (cut > NODE_BIN) & (cut < table.batch.residue_mass[row])
    cell = torch.where(inside, torch.div(cut, NODE_BIN, rounding_mode="floor"), 0)
    return table.nodes.flatten()[row * bins + cell] * inside
