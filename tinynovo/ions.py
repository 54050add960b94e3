"""Ions: the fragment ions of many peptides at once, as flat arrays.

Knows a batch of peptides as padded token ids, how modifications are laid on them, and the exact
m/z of every ion. Does not know how intense ions are, how an instrument records them, nor torch.

Fragments are protonated: an ion of neutral mass M and charge z lies at M / z + proton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinynovo.masses import (
    AMMONIA,
    CARBON_MONOXIDE,
    PHOSPHORIC_ACID,
    PROTON,
    WATER,
    residue_table,
    to_udalton,
    udalton,
)
from tinynovo.peptide import Peptide

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOKENS = tuple(residue_table())
"""Names of the token ids used here: places in the residue table."""

TOKEN_IDS = {token: index for index, token in enumerate(TOKENS)}
_MASSES = np.array([residue.total for residue in residue_table().values()] + [0], np.int64)
NO_TOKEN = len(TOKENS)
"""Padding of token ids."""
N_TERMINAL = np.array([r.n_terminal for r in residue_table().values()] + [False])

B, Y, PRECURSOR = 0, 1, 2
"""Ion series."""

LOSSES = (
    0.0,
    WATER,
    AMMONIA,
    PHOSPHORIC_ACID,
    WATER + PHOSPHORIC_ACID,
    AMMONIA + PHOSPHORIC_ACID,
    2 * PHOSPHORIC_ACID,
    CARBON_MONOXIDE,
    2 * WATER,
    WATER + AMMONIA,
    CARBON_MONOXIDE + WATER,
    CARBON_MONOXIDE + AMMONIA,
)
"""What an ion may have lost, Da; the place in this tuple is its code."""

NO_LOSS, WATER_LOSS, AMMONIA_LOSS, PHOSPHO_LOSS = 0, 1, 2, 3
A_ION, TWO_WATERS, WATER_AMMONIA, A_WATER, A_AMMONIA = 7, 8, 9, 10, 11
OF_B, OF_PHOSPHO = (A_ION, A_WATER, A_AMMONIA), (3, 4, 5, 6)
"""Codes of what only b ions, and only phosphopeptides, lose."""

_LOSS_MASSES = to_udalton(LOSSES)

TMT_REPORTERS = (126.127726, 127.124761, 128.134436, 129.131471, 130.141145, 131.138180)
"""m/z of the TMT 6-plex reporter ions."""


@dataclass(frozen=True, eq=False)
class PeakList:
    """Peaks of a batch as flat arrays: row, m/z in Th, relative intensity."""

    row: Ints
    mz: Floats
    intensity: Floats

    @classmethod
    def join(cls, parts: Sequence[PeakList]) -> PeakList:
        """Several lists of peaks as one."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def select(self, keep: NDArray[np.bool_] | Ints) -> PeakList:
        """Some of the peaks."""
        return PeakList(self.row[keep], self.mz[keep], self.intensity[keep])


@dataclass(frozen=True, eq=False)
class Precursors:
    """Peptides of a batch as padded token ids, each with a charge.

    Attributes
    ----------
    ids : int64 array, shape (peptides, slots)
        Place in the residue table, padded at the end.
    charge : int64 array, shape (peptides,)
    """

    ids: Ints
    charge: Ints

    @classmethod
    def of(cls, peptides: Sequence[Peptide], charges: Sequence[int] | Ints) -> Precursors:
        """Pad peptides to the longest of them."""
        flat = [[TOKEN_IDS[token] for token in peptide.tokens] for peptide in peptides]
        ids = np.full((len(flat), max(map(len, flat), default=1)), NO_TOKEN, np.int64)
        for row, tokens in enumerate(flat):
            ids[row, : len(tokens)] = tokens
        return cls(ids, np.asarray(charges, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def real(self) -> NDArray[np.bool_]:
        """Which slots hold a token."""
        return np.asarray(self.ids < NO_TOKEN)

    @property
    def modified(self) -> Ints:
        """1 where the peptide begins with an N-terminal modification, else 0."""
        return N_TERMINAL[self.ids[:, 0]].astype(np.int64)

    @property
    def length(self) -> Ints:
        """Residues of each peptide."""
        return np.asarray(self.real.sum(1) - self.modified)

    @property
    def left(self) -> Ints:
        """Mass of the first k tokens, micro-dalton, shape (peptides, slots + 1)."""
        return self.counts(_MASSES)

    @property
    def mass(self) -> Ints:
        """Neutral mass, micro-dalton."""
        return np.asarray(_MASSES[self.ids].sum(1) + udalton(WATER))

    def counts(self, weights: Ints) -> Ints:
        """Sums of a weight per token over the first k tokens, shape (peptides, slots + 1)."""
        sums = np.cumsum(weights[self.ids], axis=1)
        return np.concatenate([np.zeros((len(self), 1), np.int64), sums], 1)

    @property
    def labels(self) -> list[str]:
        """ProForma of every peptide."""
        names = (*TOKENS, "")
        return ["".join([names[i] for i in row]) for row in self.ids.tolist()]

    def cut(self, row: Ints, series: Ints, ordinal: Ints) -> Ints:
        """Tokens left of the bond that gives an ion (all of them for the precursor)."""
        tokens = self.length + self.modified
        cut = np.where(series == Y, tokens[row] - ordinal, ordinal + self.modified[row])
        return np.where(series == PRECURSOR, tokens[row], cut)


@dataclass(frozen=True, eq=False)
class Ions:
    """Fragment ions of a batch as flat arrays of equal length.

    Attributes
    ----------
    row, series, ordinal, charge, loss : int64
        Which peptide of the batch; `B`, `Y` or `PRECURSOR`; residues held; protons; loss code.
    intensity : float64
        Relative to the peptide's strongest ion.
    """

    row: Ints
    series: Ints
    ordinal: Ints
    charge: Ints
    loss: Ints
    intensity: Floats

    def select(self, keep: NDArray[np.bool_] | Ints) -> Ions:
        """Some of the ions."""
        return Ions(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    def changed(self, keep: NDArray[np.bool_], loss: int, intensity: Floats) -> Ions:
        """Some of the ions, after a loss."""
        ions = self.select(keep)
        code = np.full(ions.row.size, loss)
        return Ions(ions.row, ions.series, ions.ordinal, ions.charge, code, intensity[keep])

    @classmethod
    def join(cls, parts: Sequence[Ions]) -> Ions:
        """Several lists of ions as one."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def mass(self, precursors: Precursors) -> Ints:
        """Neutral masses, micro-dalton."""
        left = precursors.left[self.row, precursors.cut(self.row, self.series, self.ordinal)]
        whole = precursors.mass[self.row]
        mass = np.where(self.series == Y, whole - left, left)
        mass = np.where(self.series == PRECURSOR, whole, mass)
        return np.asarray(mass - _LOSS_MASSES[self.loss])


RENDERED_LENGTHS = (2, 3, 4, 5, 6, 7)
"""Residues of the fragments of the middle that are rendered, and are no noise."""


def inner_fragments(precursors: Precursors) -> tuple[Ints, Ints, Ints]:
    """Fragments that lost residues at both ends: row, tokens left of them, residues they hold.

    They are b ions, charged once, of what stands between two cuts, and a ions likewise.
    """
    cuts = np.arange(precursors.ids.shape[1])
    row, begin, length = np.meshgrid(
        np.arange(len(precursors)), cuts, np.array(RENDERED_LENGTHS), indexing="ij"
    )
    row, begin, length = row.ravel(), begin.ravel(), length.ravel()
    start, tokens = precursors.modified[row], precursors.real.sum(1)[row]
    keep = (begin > start) & (begin + length < tokens)
    return row[keep], begin[keep], length[keep]


def inner_mz(precursors: Precursors, row: Ints, begin: Ints, length: Ints) -> Floats:
    """m/z in Th of the b ions of `inner_fragments`."""
    left = precursors.left
    return mz_of(left[row, begin + length] - left[row, begin], np.ones_like(row))


def modified(ids: Ints, odds: Mapping[str, float], rng: np.random.Generator) -> Ints:
    """Token ids with modifications laid on plain residues and free N-termini.

    Ammonia is only lost by N-terminal Q and carbamidomethylated C, as in nature.
    """
    ids = ids.copy()
    for token, probability in odds.items():
        residue = residue_table()[token]
        if residue.residue:
            plain = ids == TOKEN_IDS[residue.residue]
            ids[plain & (rng.random(ids.shape) < probability)] = TOKEN_IDS[token]
            continue
        chosen = rng.random(len(ids)) < probability
        if token == "[Ammonia-loss]-":
            chosen &= np.isin(ids[:, 0], [TOKEN_IDS[name] for name in ("Q", "C[Carbamidomethyl]")])
        ids = _begun(ids, chosen, token)
    return ids


def _begun(ids: Ints, chosen: NDArray[np.bool_], token: str) -> Ints:
    """Token ids with an N-terminal modification put before the chosen rows that have none."""
    chosen = chosen & ~N_TERMINAL[ids[:, 0]]
    padding = np.full((len(ids), 1), NO_TOKEN)
    shifted = np.concatenate([np.full((len(ids), 1), TOKEN_IDS[token]), ids], 1)
    return np.where(chosen[:, None], shifted, np.concatenate([ids, padding], 1))


def tmt_tagged(ids: Ints, chosen: NDArray[np.bool_]) -> Ints:
    """Token ids of the chosen rows as TMT labelling leaves them: every K and a free N-terminus."""
    lysine = (ids == TOKEN_IDS["K"]) & chosen[:, None]
    tagged = np.where(lysine, TOKEN_IDS["K[TMT6plex]"], ids)
    return _begun(tagged, chosen, "[TMT6plex]-")


def mz_of(mass: Ints, charge: Ints) -> Floats:
    """m/z in Th of neutral masses in micro-dalton."""
    return np.asarray(mass * 1e-6 / charge + PROTON)


def immonium_mz(token: str) -> float:
    """m/z of the immonium ion of a residue: the residue without CO, protonated."""
    return residue_table()[token].total * 1e-6 - CARBON_MONOXIDE + PROTON


def _marker_table() -> tuple[Ints, Floats, Floats]:
    """Token, m/z and typical relative intensity of ions that tell a residue is there.

    The intensities are medians of Orbitrap HCD spectra, 0 where the ion is not seen included.
    """
    weights = {
        "F": 0.16, "Y": 0.15, "H": 0.15, "W": 0.09, "Q": 0.05, "E": 0.04, "M": 0.04, "R": 0.04,
        "K": 0.006, "C[Carbamidomethyl]": 0.04, "Y[Phospho]": 0.15,
    }  # fmt: skip
    rows = [(token, immonium_mz(token), weight) for token, weight in weights.items()]
    rows += [
        ("K", residue_table()["K"].total * 1e-6 + PROTON, 0.10),
        ("Q", residue_table()["Q"].total * 1e-6 + PROTON, 0.015),
        ("R", immonium_mz("R") - AMMONIA, 0.01),
    ]
    for token in ("[TMT6plex]-", "K[TMT6plex]"):
        rows += [(token, mz, 0.09) for mz in TMT_REPORTERS]
    tag = residue_table()["[TMT6plex]-"].total * 1e-6 + PROTON
    rows += [("[TMT6plex]-", tag, 0.08)]
    tokens, mz, weight = zip(*rows, strict=True)
    return np.array([TOKEN_IDS[token] for token in tokens]), np.array(mz), np.array(weight)


_MARKER_TOKENS, _MARKER_MZ, _MARKER_WEIGHT = _marker_table()


def markers(precursors: Precursors) -> tuple[Ints, Floats, Floats]:
    """Row, m/z and typical intensity of immonium, related and reporter ions."""
    present = np.zeros((len(precursors), NO_TOKEN + 1), bool)
    np.put_along_axis(present, precursors.ids, True, axis=1)
    present[present[:, TOKEN_IDS["[TMT6plex]-"]], TOKEN_IDS["K[TMT6plex]"]] = False
    row, marker = np.nonzero(present[:, _MARKER_TOKENS])
    return row, _MARKER_MZ[marker], _MARKER_WEIGHT[marker]


def tmt_complements(precursors: Precursors) -> tuple[Ints, Floats]:
    """Row and m/z of what a TMT precursor leaves: less a charged reporter and its carbonyl."""
    tagged = np.isin(precursors.ids, [TOKEN_IDS["[TMT6plex]-"], TOKEN_IDS["K[TMT6plex]"]]).any(1)
    row = np.repeat(np.flatnonzero(tagged & (precursors.charge > 1)), len(TMT_REPORTERS))
    reporter = np.tile(TMT_REPORTERS, row.size // len(TMT_REPORTERS))
    charge = precursors.charge[row]
    whole = precursors.mass[row] * 1e-6 + charge * PROTON
    return row, (whole - reporter - CARBON_MONOXIDE) / (charge - 1)
