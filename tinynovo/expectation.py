"""Expectation: what spectrum a peptide should give, and how far the real one is from that.

Knows the network that says how intense each ion of an answer should be, seen in a spectrum of this
charge, mass and manner of breaking, and how likely that makes what is found there. Candidates that
the evidence cannot tell apart often differ in this: ranking by expected intensities is the idea of
pNovo 3 (Yang et al. 2019, Bioinformatics 35, i183). Does not know the recursion, losses or files.

Axes: B spectra, N answers, S slots, I ions of a cut, C classes of intensity, L lengths of fragments
of the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinynovo.cuts import GLOBALS, IONS, MAIN_IONS
from tinynovo.evidence import Found, PeakTable
from tinynovo.explained import INNER_IONS, INNER_LENGTHS, Inner, real_cuts
from tinynovo.layers import EncoderBlock, ModelOptions, Norm
from tinynovo.masses import PROTON, WATER, udalton
from tinynovo.tokens import PAD, VOCABULARY, numbers, token_masses

_EDGES = (1e-6, 0.07, 0.11, 0.16, 0.23, 0.33, 0.5)
"""Root intensities, base peak 1, at which a class begins; class 0 has no peak."""

_CENTRES = (0.0, 0.06, 0.09, 0.135, 0.195, 0.28, 0.41, 0.7)
"""Typical root intensity of each class."""

CLASSES = len(_CENTRES)
SAID = 6 * len(IONS) + 2
"""Features of a cut that `Expected.features` gives."""

_MAIN, _CHARGES = len(MAIN_IONS), tuple(charge for _, charge, _ in IONS)
SUMMED = 2 * len(IONS) + _MAIN + 8 + 6
"""Features of an answer that `Expected.summary` gives."""

_BANDS = 8
_RANKS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120)
"""The peaks, counted from the strongest as 0, whose intensities tell how they fall off."""

MANNER = GLOBALS + 7 + 2 * _BANDS + len(_RANKS)
_MOST = 47
"""Place from either end from which on all are alike."""

_HEAVIEST = 1 << 33
_NEAR = udalton(2.0)
_UNLIKELY = -6.0


def manner(table: PeakTable) -> Tensor:
    """How spectra came about, found out once: float32 [B, MANNER]."""
    if manner not in table.memos:
        table.memos[manner] = _manner(table)
    found: Tensor = table.memos[manner]
    return found


def _manner(table: PeakTable) -> Tensor:
    """How a spectrum came about, whatever peptide it is of: float32 [B, MANNER].

    Charge, mass, number of peaks and grid of the m/z; weakest, mean and median intensity; range
    recorded; where on the way to the precursor's mass intensities and peaks lie; what lies above
    and at the precursor's m/z; how intensities fall off.
    """
    batch, mask = table.batch, table.batch.mask
    count, mz = mask.sum(-1).clamp(min=1), batch.mz.clamp(max=_HEAVIEST)
    root, square = batch.intensity * mask, batch.intensity.square() * mask
    neutral = batch.residue_mass[:, None] + udalton(WATER)
    band = torch.div(mz * _BANDS, neutral, rounding_mode="floor").clamp(0, _BANDS - 1)
    bands = root.new_zeros(root.shape[0], _BANDS)
    total = square.sum(-1, keepdim=True).clamp(min=1e-6)
    precursor = torch.div(neutral, batch.charge[:, None], rounding_mode="floor") + udalton(PROTON)
    remnant = root * ((mz - precursor).abs() < _NEAR)
    facts = [
        batch.intensity.masked_fill(~mask, 1.0).amin(-1) * 5,
        root.sum(-1) / count * 3,
        batch.intensity.masked_fill(~mask, torch.nan).nanmedian(-1).values.nan_to_num() * 5,
        batch.mz[:, 0].clamp(max=_HEAVIEST).to(torch.float32) * 1e-8,
        table.top.to(torch.float32) * 1e-9,
        (square * (mz > precursor)).sum(-1) / total.squeeze(-1),
        remnant.amax(-1),
    ]
    shares = bands.scatter_add(1, band, square) / total
    peaks = bands.scatter_add(1, band, mask.to(torch.float32)) / 50
    falling = functional.pad(root.sort(-1, descending=True).values, (0, _RANKS[-1]))
    parts = [table.globals, torch.stack(facts, -1), shares, peaks, falling[:, _RANKS]]
    return torch.cat(parts, -1)


@dataclass(frozen=True, eq=False)
class Expected:
    """What is expected of the ions of answers, and what is found.

    The cut of a slot is the one before it.

    Attributes
    ----------
    log_shares : float32 [N, S, I, C]
        Log-probability of each class of intensity.
    asked : bool [N, S, I]
        Ions that exist and lie in the range recorded.
    intensity : float32 [N, S, I]
        Root of what is found; 0 where there is no peak.
    error : float32 [N, S, I]
        Signed, in windows.
    inner : Inner
        What is found of the middle.
    inner_shares : float32 [N, S, L, 2, C]
        As the first, of the fragments that begin at the cut.
    """

    log_shares: Tensor
    asked: Tensor
    intensity: Tensor
    error: Tensor
    inner: Inner
    inner_shares: Tensor

    @cached_property
    def each(self) -> Tensor:
        """Log-probability of what is found, by ion: float32 [N, S, I], 0 where nothing is asked."""
        return _likely(self.log_shares, self.intensity) * self.asked

    @cached_property
    def inner_asked(self) -> Tensor:
        """Fragments of the middle that count, as nothing else explains their peak: [N, S, L, 2]."""
        return self.inner.asked & ~self.inner.taken

    @cached_property
    def inner_each(self) -> Tensor:
        """As `each`, of the middle: float32 [N, S, L, 2]."""
        return _likely(self.inner_shares, self.inner.intensity) * self.inner_asked

    @property
    def likelihood(self) -> Tensor:
        """Log-probability of the main ions of each answer: float32 [N]."""
        return self.each[..., :_MAIN].sum((1, 2))

    def summary(self) -> Tensor:
        """What the judge is told of each answer as a whole, about as large as 1: [N, SUMMED].

        By ion, how likely what is found is and how intense; how sure the expectation was; how
        likely what is missing is, and what is there; by how much less than was to be expected; the
        worst cut; cuts without a main ion; the error of the main ions, and its size; of the middle,
        and of what begins there at the first cut, and at cuts that no main ion proves, how likely
        what is there is, and what is missing.
        """
        each, main = self.each, self.intensity[..., :_MAIN]
        unsure = -(self.log_shares.exp() * self.log_shares).sum(-1) * self.asked
        hit, cuts = self.intensity > 0, self.asked[..., :_MAIN].any(-1)
        unproven = cuts & ~(main > 0).any(-1)
        hits = hit[..., :_MAIN].sum((1, 2)).clamp(min=1)
        error = self.error[..., :_MAIN]
        whole = [
            (each * ~hit).sum((1, 2)) / 10,
            (each * hit).sum((1, 2)) / 10,
            (each + unsure).sum((1, 2)) / 5,
            (each + unsure)[..., :_MAIN].sum((1, 2)) / 5,
            each[..., :_MAIN].sum(-1).amin(-1) / 4,
            unproven.sum(-1) / 5,
            error.sum((1, 2)) / hits,
            error.abs().sum((1, 2)) / hits,
        ]
        by_ion = [each.sum(1) / 5, self.intensity.sum(1) / 2, unsure.sum(1)[:, :_MAIN] / 10]
        there, gone = self._inner
        for scale, part in ((10, cuts), (5, unproven)):
            whole += [(there * part).sum(1) / scale, (gone * part).sum(1) / scale]
        first = self.inner.first(torch.stack([there, gone], -1)) / 5
        return torch.cat([*by_ion, torch.stack(whole, -1), first], -1)

    @cached_property
    def _inner(self) -> tuple[Tensor, Tensor]:
        """By the cut where they begin, how likely fragments are that are there, and that are not.

        float32 [N, S] each.
        """
        hit = self.inner.intensity > 0
        return (self.inner_each * hit).sum((2, 3)), (self.inner_each * ~hit).sum((2, 3))

    def features(self) -> Tensor:
        """What the network is told of each cut: float32 [N, S, SAID]."""
        shares = self.log_shares.exp()
        centres = numbers(_CENTRES, shares.device)
        parts = [
            self.intensity,
            self.asked.to(torch.float32),
            self.error,
            (1 - shares[..., 0]) * self.asked,
            (shares * centres).sum(-1) * self.asked,
            self.each.clamp(min=_UNLIKELY) / 2,
            torch.stack(self._inner, -1) / 5,
        ]
        return torch.cat(parts, -1)


def _log_shares(logits: Tensor) -> Tensor:
    """Log-probabilities [..., C] of classes, which lie far apart in memory.

    All that is done of each class is several times as fast so.
    """
    return torch.log_softmax(logits.float().movedim(-1, 0), 0).movedim(0, -1)


def _likely(log_shares: Tensor, intensity: Tensor) -> Tensor:
    """Log-probability [...] of what is found, by that of its class [..., C]."""
    edges = numbers(_EDGES, intensity.device)
    found = torch.bucketize(intensity, edges, right=False)
    return log_shares.gather(-1, found[..., None]).squeeze(-1)


class Expectation(nn.Module):
    """A small transformer over the residues of an answer."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        width = options.expectation_width
        options = options.model_copy(update={"width": width})
        self.token = nn.Embedding(VOCABULARY, width)
        self.from_n = nn.Embedding(_MOST + 1, width)
        self.from_c = nn.Embedding(_MOST + 1, width)
        self.manner = nn.Linear(MANNER, width)
        self.place = nn.Linear(4, width)
        blocks = range(options.expectation_blocks)
        self.blocks = nn.ModuleList(EncoderBlock(options) for _ in blocks)
        self.norm = Norm(width)
        out = len(IONS) * CLASSES
        self.cut = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, out))
        self.begin = nn.Linear(2 * width, width)
        self.end = nn.Linear(2 * width, width, bias=False)
        self.length = nn.Embedding(len(INNER_LENGTHS), width)
        self.middle = nn.Linear(width, INNER_IONS * CLASSES)

    def forward(
        self, table: PeakTable, row: Tensor, answer: Tensor, found: Found, inner: Inner
    ) -> Expected:
        """Expect the spectra of answers, and look at the real ones.

        Parameters
        ----------
        table : PeakTable
        row : int64 [N]
            The spectrum of each answer.
        answer : int64 [N, S]
        found : Found
            Of the cut before every slot, [N * S, I].
        inner : Inner
        """
        shape = (*answer.shape, len(IONS))
        both_sides = self._cuts(table, row, answer)
        logits = self.cut(both_sides).view(*shape, CLASSES)
        middle = _log_shares(self._middle(both_sides))
        asked = found.seen.view(shape) & real_cuts(table, row, answer)[..., None]
        charge = numbers(_CHARGES, answer.device)
        possible = (charge <= table.batch.charge[row, None]) | (charge == 1)
        asked = asked & possible[:, None, :]
        hit = found.hit.view(shape) & asked
        intensity = table.batch.intensity.flatten()[found.index].view(shape) * hit
        error = found.error.view(shape) * hit
        return Expected(_log_shares(logits), asked, intensity, error, inner, middle)

    def _middle(self, both_sides: Tensor) -> Tensor:
        """Of the classes of fragments that begin at every cut: [N, S, L, 2, C]."""
        begin, end = self.begin(both_sides), self.end(both_sides)
        slots = end.shape[1]
        ends = functional.pad(end, (0, 0, 0, INNER_LENGTHS[-1]))
        each = [
            self.middle(functional.silu(begin + ends[:, length : length + slots] + own))
            for length, own in zip(INNER_LENGTHS, self.length.weight, strict=True)
        ]
        logits = torch.stack(each, 2)
        return logits.view(*logits.shape[:-1], INNER_IONS, CLASSES)

    def _cuts(self, table: PeakTable, row: Tensor, answer: Tensor) -> Tensor:
        """What stands on both sides of the cut before every slot: [N, S, 2 D]."""
        real = answer != PAD
        mass = token_masses(answer.device)[answer]
        whole = table.batch.residue_mass[row, None].to(torch.float32) * 1e-9
        left = (mass.cumsum(-1) - mass).to(torch.float32) * 1e-9
        right, charge = whole - left, table.batch.charge[row, None]
        place = torch.stack([left, right, left / whole.clamp(min=0.05), right / charge], -1)
        slot = torch.arange(answer.shape[1], device=answer.device)
        behind = (real.sum(-1, keepdim=True) - 1 - slot).clamp(0, _MOST)
        x = self.token(answer) + self.from_n(slot.clamp(max=_MOST)) + self.from_c(behind)
        x = x + self.place(place) + self.manner(manner(table))[row, None]
        for block in self.blocks:
            x = block(x, real)
        x = self.norm(x)
        before = functional.pad(x[:, :-1], (0, 0, 1, 0))
        return torch.cat([before, x], -1)
