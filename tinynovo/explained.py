"""Explained: how much of a spectrum the ions of an answer explain, those of its middle too.

Knows which peaks the ions of an answer's cuts are, and the fragments that lie between two cuts:
they are weak, but tell of cuts whose own ions are missing, as that behind the first residue mostly
is. Does not know the scorer, what is expected nor the recursion.

Axes: N answers, S slots, P peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from tinynovo import hits
from tinynovo.cuts import FAR, MAIN_IONS
from tinynovo.evidence import Found, PeakTable, compiled, nearest_peak, widths
from tinynovo.launches import launch, launchable, seen
from tinynovo.masses import CARBON_MONOXIDE, PROTON, WATER, udalton
from tinynovo.tokens import PAD, n_terminal_tokens, numbers, token_masses

EXPLAINED = 7
"""Numbers that `explained_shares` gives."""

INNER_LENGTHS = (2, 3, 4, 5, 6)
"""Slots of the fragments of the middle that are looked for."""

_LOST = (0, udalton(CARBON_MONOXIDE))
"""What they lose, as b and a ions do."""

INNER_IONS = len(_LOST)

INNER = 4
"""Features of a cut that `Inner.features` gives."""

INNER_SUMMED = 9
"""Features of an answer that `Inner.summary` gives."""


def real_cuts(table: PeakTable, row: Tensor, answer: Tensor) -> Tensor:
    """Whether a slot begins with a cut between two residues: bool [N, S].

    ``row`` is int64 [N], the spectrum of each answer, int64 [N, S].
    """
    mass = token_masses(answer.device)[answer]
    left = mass.cumsum(-1) - mass
    before = functional.pad(answer[:, :-1], (1, 0), value=PAD)
    modifies = n_terminal_tokens(answer.device)[before]
    inside = (left > 0) & (left < table.batch.residue_mass[row, None])
    return inside & (answer != PAD) & ~modifies


def explained_peaks(table: PeakTable, row: Tensor, found: Found) -> Tensor:
    """Which peaks the ions of answers are: bool [N, P].

    ``row`` is int64 [N]; ``found`` is what is found at all cuts, [N * S, ions].
    """
    peaks = table.batch.mz.shape[1]
    place = (found.index.view(row.shape[0], -1) - (row * peaks)[:, None]).clamp(min=0)
    known = torch.zeros(row.shape[0], peaks, device=row.device)
    hit = found.hit.view(row.shape[0], -1).to(torch.float32)
    return known.scatter_reduce(1, place, hit, "amax") > 0


@dataclass(frozen=True, eq=False)
class Inner:
    """What is found of the fragments between two cuts, among peaks not explained otherwise.

    Attributes
    ----------
    real : bool [N, S]
        Of `real_cuts`.
    intensity : float32 [N, S, L, 2]
        Root intensity of the b and the a ion that begins at a slot's cut, by `INNER_LENGTHS`; 0
        where there is no peak, or one that is explained otherwise.
    asked : bool [N, S, L, 2]
        Whether there can be such an ion, and it lies in the range recorded.
    taken : bool [N, S, L, 2]
        Whether its peak is explained otherwise.
    """

    real: Tensor
    intensity: Tensor
    asked: Tensor
    taken: Tensor

    @cached_property
    def begins(self) -> Tensor:
        """Summed intensity of those that begin at a slot's cut: b ions, a ions; [N, S, 2]."""
        return self.intensity.sum(2)

    @cached_property
    def ends(self) -> Tensor:
        """Of those that end there: [N, S]."""
        return self.ended(self.intensity.sum(-1))

    @cached_property
    def hits(self) -> Tensor:
        """How many begin or end there and have a peak: float32 [N, S]."""
        hit = (self.intensity > 0).to(torch.float32)
        return hit.sum((2, 3)) + self.ended(hit.sum(-1))

    @staticmethod
    def ended(each: Tensor) -> Tensor:
        """Sums [N, S] at the cuts where fragments end, of what each has [N, S, L]."""
        slots = each.shape[1]
        total = each.new_zeros(each.shape[:2])
        for place, length in enumerate(INNER_LENGTHS):
            if length < slots:
                total[:, length:] += each[:, :-length, place]
        return total

    def features(self) -> Tensor:
        """What the network is told of each cut: float32 [N, S, INNER]."""
        rest = torch.stack([self.ends, self._count() / 5], -1)
        return torch.cat([self.begins, rest], -1)

    def summary(self, proven: Tensor) -> Tensor:
        """What the judge is told of each answer: float32 [N, INNER_SUMMED].

        Of the first cut what begins there, how often, of how many; of the last what ends there; of
        all the intensity and how often; of those that no main ion proves the intensity, and how
        many have none of these either. ``proven`` is bool [N, S].
        """
        counts = torch.stack([self.hits / 5, self._count() / 10], -1)
        first = self.first(torch.cat([self.begins, counts], -1))
        last = self.real.shape[1] - 1 - self.real.flip(-1).to(torch.float32).argmax(-1)
        open_cuts = self.real & ~proven
        all_of = self.begins.sum(-1) + self.ends
        rest = [
            self.ends.gather(-1, last[:, None]).squeeze(-1),
            self.begins.sum((1, 2)) / 3,
            self.hits.sum(-1) / 40,
            (all_of * open_cuts).sum(-1) / 2,
            (open_cuts & (self.hits == 0)).sum(-1) / 5,
        ]
        return torch.cat([first, torch.stack(rest, -1)], -1)

    def _count(self) -> Tensor:
        """How many begin at each cut and lie in the range recorded: float32 [N, S]."""
        return self.asked.sum((2, 3)).to(torch.float32)

    def first(self, each: Tensor) -> Tensor:
        """What stands at the first cut of each answer, of [N, S, F]: [N, F]."""
        slot = self.real.to(torch.float32).argmax(-1)
        return each.gather(1, slot[:, None, None].expand(-1, 1, each.shape[-1])).squeeze(1)


def inner_ions(table: PeakTable, row: Tensor, answer: Tensor, known: Tensor) -> Inner:
    """Look for the fragments between two cuts of answers.

    Parameters
    ----------
    table : PeakTable
    row : int64 [N]
        The spectrum of each answer.
    answer : int64 [N, S]
    known : bool [N, P]
        Peaks that are explained otherwise.
    """
    real = real_cuts(table, row, answer)
    mass = token_masses(answer.device)[answer]
    left, slots = mass.cumsum(-1) - mass, answer.shape[1]
    shape = (*answer.shape, len(INNER_LENGTHS), INNER_IONS)
    if compiled(left) or launchable(left):
        return _between(table, row, left, real, known)
    query, asked = left.new_zeros(shape), torch.zeros(shape, dtype=torch.bool, device=left.device)
    for place, length in enumerate(INNER_LENGTHS):
        if length < slots:
            neutral = left[:, length:] - left[:, :-length]
            both = (real[:, length:] & real[:, :-length])[..., None].expand(-1, -1, INNER_IONS)
            for kind, lost in enumerate(_LOST):
                query[:, :-length, place, kind] = neutral - lost + udalton(PROTON)
            asked[:, :-length, place] = both
    peaks = table.batch.mz.shape[1]
    query = query.clamp(0, FAR)
    asked &= (query >= table.batch.mz[row, 0].view(-1, 1, 1, 1)) & (
        query <= table.top[row].view(-1, 1, 1, 1)
    )
    index, distance = nearest_peak(
        table.batch.mz, row.repeat_interleave(slots), query.flatten(0, 1)
    )
    half = widths(query, table.options) // 2
    peak = (index.view(shape) - (row * peaks).view(-1, 1, 1, 1)).clamp(min=0)
    near = asked & (distance.view(shape).abs() <= half)
    taken = near & known.gather(1, peak.flatten(1)).view(shape)
    found = table.batch.intensity.flatten()[index].view(shape) * (near & ~taken)
    return Inner(real, found, asked, taken)


def _between(table: PeakTable, row: Tensor, left: Tensor, real: Tensor, known: Tensor) -> Inner:
    """The same as `inner_ions`, by compiled functions; slots begin at cuts ``left`` [N, S]."""
    shape, device = (*left.shape, len(INNER_LENGTHS), INNER_IONS), left.device
    like = (torch.float32, torch.bool, torch.bool)
    found = Inner(real, *(torch.zeros(shape, dtype=dtype, device=device) for dtype in like))
    mz, strength, facts, starts, _, near = table.placed
    parts = (found.intensity, found.asked, found.taken)
    given = (row, left, real, known, numbers(INNER_LENGTHS, device), numbers(_LOST, device))
    placed = (mz, strength, facts, starts, near)
    arrays = (*map(seen, parts), *placed, *(seen(one.contiguous()) for one in given))
    launch(device, hits.between, left.shape[0], *arrays, loop=hits.between_cuts)
    return found


def explained_shares(
    table: PeakTable, row: Tensor, cuts: Tensor, found: Found, known: Tensor
) -> Tensor:
    """How much of a spectrum the ions of an answer explain.

    Parameters
    ----------
    table : PeakTable
    row : int64 [N]
        The spectrum of each answer.
    cuts : int64 [N, S]
        All cuts of each answer, micro-dalton; those outside the peptide explain nothing.
    found : Found
        What is found at them, [N * S, ions].
    known : bool [N, P]
        Of `explained_peaks`.

    Returns
    -------
    float32 [N, EXPLAINED]
        Shares of summed root intensity, of summed intensity, of the 10, 20 and 50 strongest peaks,
        of what lies above the precursor's m/z, and of the cuts that any main ion proves.
    """
    batch = table.batch
    answers, slots = cuts.shape
    total = batch.residue_mass[row][:, None]
    hit = found.hit.view(answers, slots, -1)
    root, rank = batch.intensity[row], table.features[row][..., 1]
    neutral = total + udalton(WATER)
    precursor = torch.div(neutral, batch.charge[row][:, None], rounding_mode="floor")
    precursor = precursor + udalton(PROTON)
    weights = [root, root.square()]
    weights += [(rank >= 1 / (1 + top / 10)).to(torch.float32) for top in (9.5, 19.5, 49.5)]
    weights.append(root * (batch.mz[row] > precursor))
    shares = [(known * w).sum(-1) / w.sum(-1).clamp(min=1e-3) for w in weights]
    real = ((cuts > 0) & (cuts < total)).to(torch.float32)
    proven = hit[..., : len(MAIN_IONS)].any(-1).to(torch.float32)
    return torch.stack([*shares, (proven * real).sum(-1) / real.sum(-1).clamp(min=1)], -1)
