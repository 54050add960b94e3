"""Tokens: residue <-> id, id -> micro-dalton, and padded batches of peaks and answers.

Knows the vocabulary (the residue table plus one padding token) and how lists of different length
become tensors. Does not know the network.

Axes: B spectra, P peaks, S slots, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tinynovo.cuts import FAR
from tinynovo.errors import InputError
from tinynovo.masses import residue_table
from tinynovo.peptide import Peptide
from tinynovo.spectrum import Peaks

PAD = 0
"""Id of the padding token, which also marks the end of the peptide."""

TOKENS: tuple[str, ...] = ("$", *residue_table())
"""Name of every id."""

VOCABULARY = len(TOKENS)
_IDS = {token: index for index, token in enumerate(TOKENS)}
_TOTALS = [0, *(residue.total for residue in residue_table().values())]
_N_TERMINAL = [False, *(residue.n_terminal for residue in residue_table().values())]


@cache
def numbers(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers on a device, put there once, and fit to learn with whenever that was."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def token_masses(device: torch.device | None = None) -> Tensor:
    """Masses of all tokens: int64 [V], micro-dalton, 0 for padding."""
    return torch.tensor(_TOTALS, dtype=torch.int64, device=device)


def n_terminal_tokens(device: torch.device | None = None) -> Tensor:
    """Which tokens are N-terminal modifications: bool [V]."""
    return torch.tensor(_N_TERMINAL, dtype=torch.bool, device=device)


def encode(peptide: Peptide) -> list[int]:
    """Ids of a peptide, N to C, without padding."""
    return [_IDS[token] for token in peptide.tokens]


def decode(ids: Sequence[int]) -> Peptide:
    """The peptide of a row of ids, up to the first padding."""
    ids = list(ids)
    end = ids.index(PAD) if PAD in ids else len(ids)
    return Peptide(tuple(TOKENS[i] for i in ids[:end]))


def token_ids(names: Sequence[str]) -> list[int]:
    """Ids of token names.

    Raises
    ------
    InputError
        For a name the table does not hold; lists the known ones.
    """
    for name in names:
        if name not in _IDS:
            raise InputError(
                f"unknown residue {name!r}", remedy=f"known are {', '.join(TOKENS[1:])}"
            )
    return [_IDS[name] for name in names]


@dataclass(frozen=True, eq=False)
class PeakBatch:
    """Padded spectra.

    Attributes
    ----------
    mz : int64 [B, P]
        Micro-Th, ascending; padded with `FAR`.
    intensity : float32 [B, P]
        Square root, base peak 1; padded with 0.
    residue_mass : int64 [B]
        Micro-dalton: the precursor without water.
    charge : int64 [B]
        Of the precursor.
    """

    mz: Tensor
    intensity: Tensor
    residue_mass: Tensor
    charge: Tensor

    @property
    def mask(self) -> Tensor:
        """Which peaks are real: bool [B, P]."""
        return self.mz < FAR

    def to(self, device: torch.device | str) -> PeakBatch:
        """The batch on another device."""
        return PeakBatch(
            self.mz.to(device),
            self.intensity.to(device),
            self.residue_mass.to(device),
            self.charge.to(device),
        )

    def select(self, rows: Tensor) -> PeakBatch:
        """Some spectra of the batch; ``rows`` is int64 or bool [B']."""
        return PeakBatch(
            self.mz[rows], self.intensity[rows], self.residue_mass[rows], self.charge[rows]
        )


def peak_batch(spectra: Sequence[Peaks]) -> PeakBatch:
    """Pad cleaned spectra to the longest of them."""
    longest = max([1, *(peaks.mz.size for peaks in spectra)])
    mz = np.full((len(spectra), longest), FAR, dtype=np.int64)
    intensity = np.zeros((len(spectra), longest), dtype=np.float32)
    for row, peaks in enumerate(spectra):
        mz[row, : peaks.mz.size] = peaks.mz
        intensity[row, : peaks.mz.size] = peaks.intensity
    return PeakBatch(
        torch.from_numpy(mz),
        torch.from_numpy(intensity),
        torch.tensor([peaks.residue_mass for peaks in spectra], dtype=torch.int64),
        torch.tensor([peaks.precursor_charge for peaks in spectra], dtype=torch.int64),
    )


def answer_batch(answers: Sequence[Sequence[int]], slots: int) -> Tensor:
    """Pad rows of ids: int64 [B, S]; an answer longer than ``slots`` is an error of the caller."""
    batch = torch.full((len(answers), slots), PAD, dtype=torch.int64)
    for row, answer in enumerate(answers):
        batch[row, : len(answer)] = torch.tensor(answer, dtype=torch.int64)
    return batch
