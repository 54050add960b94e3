"""Calibration: what is known of an answer to the probability that it is right.

Knows the facts of an answer that tell right from wrong, logistic regressions over them, and how
those are fitted to answers that are known to be right or wrong (Platt 1999, with several facts).
Does not know networks, files, or how answers are found.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from tinynovo.annotation import blocks, support
from tinynovo.errors import InputError
from tinynovo.masses import MICRO, residue_table
from tinynovo.peptide import Peptide
from tinynovo.spectrum import Peaks

PEPTIDE_FACTS = ("certainty", "share", "order", "opinion", "seen", "length", "charge")
"""Of an answer: the judge's logit; the logit of its share among the rivals; its order a residue;
the scorer's log-probability; the share of its bonds that are seen; residues; charge of the
precursor."""

RESIDUE_FACTS = ("certainty", "agreement", "support", "peptide")
"""Of a residue: the judge's logit; the logit of the share of the rivals that have a residue at the
same masses; whether both its bonds are seen; the calibrated logit of its peptide."""

SAME_CUT = 50_000
"""Micro-dalton by which cuts of two answers may differ and be the same."""

DATABASE = "database"
"""Name of the calibration of a database's peptides, beside those of the strategies."""

FEWEST = 20
"""Right answers, and wrong ones, that a fit needs."""

_SMALL = 1 / (1 + math.exp(12.0))
"""Probabilities are not told from 0 or 1 beyond this."""

_PENALTY = 0.3


@dataclass(frozen=True, eq=False)
class Answer:
    """One peptide for one spectrum, as the model sees it.

    Attributes
    ----------
    peptide : Peptide
    peaks : Peaks
        The spectrum as it was read: with which charge and precursor mass.
    isotopes : int
        By which the precursor is taken to be too heavy.
    opinion : float
        The scorer's log-probability of the peptide, mean of both directions.
    order : float
        Ranks the answers of a spectrum; differences are log-odds, roughly.
    certainty : float
        Logit of the judge's probability that the peptide is right, uncalibrated.
    residues : tuple of float
        The same of each residue, N to C.
    proposed : bool
        Whether it was proposed, rather than found.
    """

    peptide: Peptide
    peaks: Peaks
    isotopes: int
    opinion: float
    order: float
    certainty: float
    residues: tuple[float, ...]
    proposed: bool = False

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """Of `tinynovo.annotation.blocks`: what the spectrum settles."""
        peaks = self.peaks
        return blocks(peaks.mz / MICRO, peaks.intensity, self.peptide, peaks.precursor_charge)

    @cached_property
    def cuts(self) -> list[int]:
        """Masses before, between and after the residues, one more than these, micro-dalton.

        An N-terminal modification counts with the first residue.
        """
        table, tokens = residue_table(), self.peptide.tokens
        total = list(accumulate((table[token].total for token in tokens), initial=0))
        return [0, *total[2:]] if len(tokens) > len(self.peptide) else total


@dataclass(frozen=True, eq=False)
class Facts:
    """What tells whether an answer is right.

    Attributes
    ----------
    peptide : float array, shape (PEPTIDE_FACTS,)
    residues : float array, shape (residues, RESIDUE_FACTS - 1)
        All of `RESIDUE_FACTS` but the last, which is only known once the peptide is calibrated.
    blocks : list of (int, int)
        Of `tinynovo.annotation.blocks`.
    """

    peptide: NDArray[np.float64]
    residues: NDArray[np.float64]
    blocks: list[tuple[int, int]]


def facts(answer: Answer, rivals: Sequence[Answer]) -> Facts:
    """The facts of an answer among all answers to its spectrum, itself included."""
    peptide, peaks = answer.peptide, answer.peaks
    most = max(rival.order for rival in rivals)
    weights = [math.exp(rival.order - most) for rival in rivals]
    total = sum(weights)
    share = [weight / total for weight in weights]
    own = share[next(row for row, rival in enumerate(rivals) if rival is answer)]
    settled = answer.blocks
    seen = (len(settled) - 1) / max(1, len(peptide) - 1)
    agreed = [_logit(part) for part in _agreement(answer, rivals, share)]
    return Facts(
        np.array(
            [
                answer.certainty,
                _logit(own),
                answer.order / len(peptide),
                answer.opinion,
                seen,
                len(peptide),
                peaks.precursor_charge,
            ]
        ),
        np.array([answer.residues, agreed, support(settled)], np.float64).T,
        settled,
    )


def _agreement(answer: Answer, rivals: Sequence[Answer], share: Sequence[float]) -> list[float]:
    """Share of the rivals that have a residue between the same two cuts, of each residue."""
    agreed = [0.0] * (len(answer.cuts) - 1)
    for rival, part in zip(rivals, share, strict=True):
        if rival.cuts == answer.cuts:
            agreed = [own + part for own in agreed]
            continue
        before = -2
        for residue, cut in enumerate(answer.cuts, -1):
            place = bisect_left(rival.cuts, cut - SAME_CUT)
            if place == len(rival.cuts) or rival.cuts[place] > cut + SAME_CUT:
                place = -2
            elif place == before + 1:
                agreed[residue] += part
            before = place
    return agreed


def _logit(probability: float) -> float:
    inside = min(max(probability, _SMALL), 1 - _SMALL)
    return math.log(inside / (1 - inside))


class Logistic(BaseModel):
    """A logistic regression: log-odds = intercept + weights * facts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: float
    weights: dict[str, float]

    def logit(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds [N] of facts [N, weights]."""
        weights = np.array(list(self.weights.values()))
        return np.asarray(rows @ weights + self.intercept, dtype=np.float64)


class Calibration(BaseModel):
    """How facts become probabilities, of whole peptides and of residues."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    peptide: Logistic
    residue: Logistic

    @model_validator(mode="after")
    def _of_known_facts(self) -> Calibration:
        for fitted, facts in ((self.peptide, PEPTIDE_FACTS), (self.residue, RESIDUE_FACTS)):
            if tuple(fitted.weights) != facts:
                raise ValueError(f"calibrated by {list(fitted.weights)}, not by {list(facts)}")
        return self

    def scores(self, known: Facts) -> tuple[float, tuple[float, ...]]:
        """Probability that the peptide is right, and that each residue is."""
        logit = self.peptide.logit(known.peptide)
        each = np.column_stack([known.residues, np.full(len(known.residues), logit)])
        return float(_sigmoid(logit)), tuple(_sigmoid(self.residue.logit(each)).tolist())


def uncalibrated(answer: Answer) -> tuple[float, tuple[float, ...]]:
    """What the judge says, for a model without calibration."""
    each = _sigmoid(np.array(answer.residues))
    return float(_sigmoid(np.array(answer.certainty))), tuple(each.tolist())


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logit))


def fit(known: Sequence[Facts], right: Sequence[Sequence[bool]]) -> Calibration:
    """Fit to answers whose residues are known to be right or wrong.

    Parameters
    ----------
    known : sequence of Facts, one an answer
    right : sequence of sequence of bool, one an answer
        Of each residue; a peptide is right when all its residues are.

    Raises
    ------
    InputError
        For fewer than `FEWEST` right or wrong answers.
    """
    whole = np.array([all(each) for each in right], dtype=bool)
    if min(whole.sum(), (~whole).sum()) < FEWEST:
        counts = f"{whole.sum()} right and {(~whole).sum()} wrong answers"
        raise InputError(f"{counts} are too few to calibrate", remedy="give more labelled spectra")
    peptide = _logistic(np.stack([one.peptide for one in known]), whole, PEPTIDE_FACTS)
    rows = [
        np.column_stack([one.residues, np.full(len(one.residues), peptide.logit(one.peptide))])
        for one in known
    ]
    residue = _logistic(np.concatenate(rows), np.concatenate(right), RESIDUE_FACTS)
    return Calibration(peptide=peptide, residue=residue)


def _logistic(
    rows: NDArray[np.float64], right: NDArray[np.bool_], names: Sequence[str]
) -> Logistic:
    from sklearn.linear_model import LogisticRegression

    mean, spread = rows.mean(0), rows.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    fitted = LogisticRegression(C=_PENALTY).fit((rows - mean) / spread, right)
    weights = fitted.coef_[0] / spread
    intercept = float(fitted.intercept_[0] - weights @ mean)
    return Logistic(intercept=intercept, weights=dict(zip(names, map(float, weights), strict=True)))
