"""Corpora: labelled spectra packed into flat arrays, and batches drawn from them.

Knows how labelled spectra are kept small in memory and on disk. Does not know the network, losses
or the optimizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from tinynovo.cuts import FAR
from tinynovo.errors import InputError
from tinynovo.masses import WATER, udalton
from tinynovo.peptide import Peptide
from tinynovo.reasons import Reason
from tinynovo.spectrum import Peaks, Preprocessing, Spectrum, preprocess
from tinynovo.tokens import PAD, PeakBatch, decode, encode


@dataclass(frozen=True, eq=False)
class Corpus:
    """Labelled, preprocessed spectra.

    Attributes
    ----------
    mz : uint32, shape (all peaks,)
        Micro-Th, ascending within a spectrum.
    intensity : float16, shape (all peaks,)
    peaks : int64, shape (spectra + 1,)
        Where each spectrum begins.
    tokens : uint8, shape (all tokens,)
    answers : int64, shape (spectra + 1,)
        Where each label begins.
    mass : int64, shape (spectra,)
        Neutral mass of the label, micro-dalton.
    charge : uint8, shape (spectra,)
    """

    mz: NDArray[np.uint32]
    intensity: NDArray[np.float16]
    peaks: NDArray[np.int64]
    tokens: NDArray[np.uint8]
    answers: NDArray[np.int64]
    mass: NDArray[np.int64]
    charge: NDArray[np.uint8]

    def __len__(self) -> int:
        return int(self.mass.size)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each label."""
        return np.diff(self.answers)

    def peptide(self, row: int) -> Peptide:
        """The label of one spectrum."""
        return decode(self.tokens[self.answers[row] : self.answers[row + 1]].tolist())

    @classmethod
    def pack(
        cls,
        spectra: Iterable[Spectrum],
        preprocessing: Preprocessing,
        *,
        max_tokens: int,
        exclude: frozenset[str] = frozenset(),
    ) -> tuple[Corpus, Counter[str]]:
        """Preprocess and pack labelled spectra; how many are left out, by reason.

        Parameters
        ----------
        spectra : iterable of Spectrum
        preprocessing : Preprocessing
        max_tokens : int
            Longer labels are left out.
        exclude : frozenset of str
            Bare sequences (I = L) that must not be in the corpus: validation peptides.
        """
        rows: list[tuple[Peaks, list[int], int]] = []
        left_out: Counter[str] = Counter()
        for spectrum in spectra:
            peptide = Peptide.parse(spectrum.peptide)
            if peptide.sequence in exclude:
                left_out["of a validation peptide"] += 1
            elif len(peptide.tokens) > max_tokens:
                left_out["too long"] += 1
            elif isinstance(peaks := preprocess(spectrum, preprocessing), Reason):
                left_out[peaks.code] += 1
            else:
                rows.append((peaks, encode(peptide), peptide.mass_udalton))
        if not rows:
            raise InputError("no usable labelled spectrum", remedy="check the labels and limits")
        corpus = cls(
            mz=np.concatenate([peaks.mz for peaks, _, _ in rows]).astype(np.uint32),
            intensity=np.concatenate([p.intensity for p, _, _ in rows]).astype(np.float16),
            peaks=_offsets([peaks.mz.size for peaks, _, _ in rows]),
            tokens=np.concatenate([np.array(answer, np.uint8) for _, answer, _ in rows]),
            answers=_offsets([len(answer) for _, answer, _ in rows]),
            mass=np.array([mass for _, _, mass in rows], np.int64),
            charge=np.array([peaks.precursor_charge for peaks, _, _ in rows], np.uint8),
        )
        return corpus, left_out

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        save_file(vars(self), path)

    @classmethod
    def load(cls, path: Path) -> Corpus:
        """Read what `save` wrote."""
        return cls(**load_file(path))

    def batch(
        self, rows: Sequence[int] | NDArray[np.int64], noise_ppm: float, rng: np.random.Generator
    ) -> tuple[PeakBatch, Tensor]:
        """Padded spectra with noisy precursors, and their answers: int64 [B, S]."""
        rows = np.asarray(rows)
        count = self.peaks[rows + 1] - self.peaks[rows]
        mz = _padded(self.mz, self.peaks[rows], count, FAR, np.int64)
        intensity = _padded(self.intensity, self.peaks[rows], count, 0, np.float32)
        error = rng.normal(0, noise_ppm, rows.size) * 1e-6 if noise_ppm else np.zeros(rows.size)
        mass = self.mass[rows] + np.rint(self.mass[rows] * error).astype(np.int64)
        peaks = PeakBatch(
            torch.from_numpy(mz),
            torch.from_numpy(intensity),
            torch.from_numpy(mass - udalton(WATER)),
            torch.from_numpy(self.charge[rows].astype(np.int64)),
        )
        return peaks, self.labels(rows)

    def labels(self, rows: NDArray[np.int64]) -> Tensor:
        """Answers of spectra, padded to the longest: int64 [B, S]."""
        begin, length = self.answers[rows], self.lengths[rows]
        return torch.from_numpy(_padded(self.tokens, begin, length, PAD, np.int64))


def _offsets(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _padded(
    flat: NDArray[np.generic],
    start: NDArray[np.int64],
    count: NDArray[np.int64],
    fill: int,
    dtype: type,
) -> NDArray[np.generic]:
    """Rows of a flat array, padded to the longest."""
    place = np.arange(int(count.max()))
    real = place < count[:, None]
    cells = np.where(real, start[:, None] + place, 0)
    return np.where(real, flat[cells].astype(dtype), dtype(fill))


def concatenate(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus out of several."""
    return Corpus(
        mz=np.concatenate([c.mz for c in corpora]),
        intensity=np.concatenate([c.intensity for c in corpora]),
        peaks=_offsets(np.concatenate([np.diff(c.peaks) for c in corpora]).tolist()),
        tokens=np.concatenate([c.tokens for c in corpora]),
        answers=_offsets(np.concatenate([c.lengths for c in corpora]).tolist()),
        mass=np.concatenate([c.mass for c in corpora]),
        charge=np.concatenate([c.charge for c in corpora]),
    )
