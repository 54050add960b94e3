"""Questions: anchors and candidates that a scorer is asked about, and what a GPU finds to tell it.

Knows how `tinynovo.tellings` is run for all of them at once. Does not know weights.

Axes: B spectra, P peaks, Q anchors, K candidates, V tokens, I features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tinynovo.compiling import Ints
from tinynovo.cuts import MAIN_IONS, NODE_BIN
from tinynovo.evidence import PeakTable
from tinynovo.grids import fill
from tinynovo.launches import launch, seen
from tinynovo.lookups import Cells, Ground
from tinynovo.masses import residue_table
from tinynovo.tellings import (
    ANCHOR_FEATURES,
    CANDIDATE_FEATURES,
    Asked,
    tell_anchor,
    tell_candidate,
)
from tinynovo.tokens import VOCABULARY

LIGHTEST = min(row.total for row in residue_table().values() if row.total > 50 * 1_000_000)
"""Mass of the lightest residue, micro-dalton."""

_TOGETHER = 1 << 14
"""Anchors about which a scorer is asked at a time: so many that a GPU is busy."""


@dataclass(frozen=True, eq=False)
class Anchors:
    """Anchors [Q]: the spectrum of each, its cut, and the two tokens [Q, 2] passed before it."""

    row: Tensor
    anchor: Tensor
    past: Tensor

    def arrays(self) -> tuple[Ints, Ints, Ints]:
        """The same for the kernels of the CPU."""
        row, anchor, past = (part.contiguous() for part in vars(self).values())
        return row.numpy(), anchor.numpy(), past.numpy()

    def handfuls(self) -> Iterator[tuple[slice, Anchors]]:
        """So many at a time that what they are told takes little room, and where they stand."""
        for begin in range(0, self.row.shape[0], _TOGETHER):
            some = slice(begin, begin + _TOGETHER)
            yield some, Anchors(self.row[some], self.anchor[some], self.past[some])


def _cells(table: PeakTable) -> Cells:
    """The grid of cuts of `tinynovo.grids.nodes`, made on the table's device."""
    batch = table.batch
    device, (rows, peaks) = batch.mz.device, batch.mz.shape
    last, room = int(batch.residue_mass.max()) // NODE_BIN + 3, 2 * len(MAIN_IONS) * peaks + 1
    bits = torch.zeros(rows, (last >> 5) + 1, dtype=torch.int64, device=device)
    values, layer = torch.zeros(2, rows, room, device=device)
    between = torch.empty(rows, len(MAIN_IONS), peaks, dtype=torch.int64, device=device)
    cells = Cells(seen(bits), seen(torch.zeros_like(bits)), seen(values))
    known = (batch.mz, batch.intensity, batch.mask.sum(-1), batch.residue_mass)
    arrays = (seen(part.contiguous()) for part in (layer, between, *known))
    launch(device, fill, rows, cells, *arrays, last)
    return cells


def ground(table: PeakTable) -> Ground:
    """What `PeakTable.ground` is on the CPU, on the table's device; found once.

    Two maps that only the CPU asks are left empty.
    """
    if ground not in table.memos:
        table.memos[ground] = _ground(table)
    found: Ground = table.memos[ground]
    return found


def _ground(table: PeakTable) -> Ground:
    placed, nowhere = table.placed, torch.zeros(1, 1, dtype=torch.int16, device=table.top.device)
    return Ground(
        placed.mz,
        seen(table.features.contiguous()),
        seen(table.globals.contiguous()),
        _cells(table),
        seen(table.immonium.contiguous()),
        placed.facts,
        placed.starts,
        placed.near,
        seen(nowhere),
        placed.window,
    )


def candidates_told(
    table: PeakTable, asked: Anchors, query: Tensor, token: Tensor, forwards: bool
) -> tuple[Tensor, Tensor]:
    """What is known of candidates: float32 [K, CANDIDATE_FEATURES]; whether they fit: bool [K].

    ``query`` and ``token`` are int64 [K], the anchor and the token of each. Those that do not fit
    have zeros.
    """
    device, count = query.device, query.numel()
    told = torch.empty(CANDIDATE_FEATURES, count, device=device).T
    fit = torch.empty(count, dtype=torch.bool, device=device)
    cuts, ends = query.new_empty(count), query.new_empty(count, 2)
    known = (asked.row, asked.anchor, asked.past, query, token, cuts, ends, fit)
    arrays = Asked(forwards, LIGHTEST, *(seen(part.contiguous()) for part in known))
    launch(device, tell_candidate, count, seen(told), ground(table), arrays)
    return told, fit


def anchors_told(table: PeakTable, asked: Anchors, forwards: bool) -> Tensor:
    """What is known of anchors: float32 [Q, ANCHOR_FEATURES]."""
    device, count = asked.row.device, asked.row.numel()
    told = torch.empty(ANCHOR_FEATURES, count, device=device).T
    none = torch.empty(0, dtype=torch.int64, device=device)
    known = (asked.row, asked.anchor, asked.past, none, none, none, none[:, None], none.bool())
    arrays = Asked(forwards, LIGHTEST, *(seen(part.contiguous()) for part in known))
    launch(device, tell_anchor, count, seen(told), ground(table), arrays)
    return told


def all_candidates(asked: Anchors) -> tuple[Tensor, Tensor]:
    """Anchor and token of every token but padding at every anchor: int64 [Q (V - 1)] each."""
    each = torch.arange(asked.row.shape[0] * (VOCABULARY - 1), device=asked.row.device)
    query = torch.div(each, VOCABULARY - 1, rounding_mode="floor")
    return query, each % (VOCABULARY - 1) + 1
