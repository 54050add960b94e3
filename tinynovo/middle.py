"""Middle: fragments that a candidate would make with the tokens passed last.

Knows the fragments that lost residues at both ends and hold the candidate and one or two of its
neighbours: they say that residues stand side by side, also where the cut between them or before
them gives no ion. Does not know networks, nor fragments of whole answers.

Axes: K candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinynovo.cuts import FAR
from tinynovo.evidence import PeakTable, closing_slack, nearest_peak, widths
from tinynovo.masses import CARBON_MONOXIDE, PROTON, udalton
from tinynovo.tokens import PAD, n_terminal_tokens, token_masses


def _bounds(anchor: Tensor, cut: Tensor, past: Tensor, forwards: bool) -> tuple[Tensor, Tensor]:
    """Where fragments of two and of three residues begin and end: int64 [K, 2] each."""
    passed = token_masses(past.device)[past].cumsum(-1)
    one = cut[:, None].expand_as(passed)
    other = anchor[:, None] - passed if forwards else anchor[:, None] + passed
    return (other, one) if forwards else (one, other)


def middle_features(
    table: PeakTable,
    row: Tensor,
    anchor: Tensor,
    cut: Tensor,
    past: Tensor,
    forwards: bool,
) -> Tensor:
    """What is found of the fragments of the middle that candidates make.

    Parameters
    ----------
    table : PeakTable
    row : int64 [K]
        The spectrum of each candidate.
    anchor, cut : int64 [K]
        Where it begins and ends, in the order that the scorer goes, micro-dalton.
    past : int64 [K, 2]
        The two tokens passed last, nearest first.
    forwards : bool

    Returns
    -------
    float32 [K, MIDDLE_FEATURES]
        Of the b and the a ion of the candidate and one neighbour, then of it and two, intensity,
        rank, signed and absolute error and whether there is one; then whether the two b ions can
        be, and lie in the range recorded.
    """
    begin, end = _bounds(anchor, cut, past, forwards)
    total = table.batch.residue_mass[row]
    slack = closing_slack(total)
    masses = token_masses(row.device)
    possible = (past != PAD) & (total[:, None] - end > slack[:, None])
    for head in (0, *masses[n_terminal_tokens(row.device)].tolist()):
        possible &= (begin - head).abs() > slack[:, None]
    possible &= begin > 0
    lost = torch.tensor([0, udalton(CARBON_MONOXIDE)], device=row.device)
    query = ((end - begin + udalton(PROTON))[..., None] - lost).clamp(0, FAR)
    index, distance = nearest_peak(table.batch.mz, row, query)
    width = widths(query, table.options)
    hit = (distance.abs() <= width) & possible[..., None]
    flag = hit.to(torch.float32)
    error = distance / width * flag
    peak = table.features.flatten(0, 1)[:, :2][index] * flag[..., None]
    told = torch.cat([peak, torch.stack([error, error.abs(), flag], -1)], -1)
    low, top = table.batch.mz[row, 0], table.top[row]
    b = query[..., 0]
    asked = possible & (b >= low[:, None]) & (b <= top[:, None])
    return torch.cat([told.flatten(1), asked.to(torch.float32)], -1)
