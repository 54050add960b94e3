"""False discovery rates: from scores that are probabilities, or from decoys.

Knows how many wrong answers to expect among those kept. Does not know where scores come from.

Without decoys a score is taken for the probability that the peptide is right, and the rates are as
good as that holds. The posterior error probability of an answer is one minus its score. The
expected share of wrong answers among those that score at least as high, its q-value (Storey &
Tibshirani 2003), is then the mean of their posterior errors (Käll, Storey, MacCoss & Noble 2008,
"Posterior error probabilities and false discovery rates: two sides of the same coin").

With decoys, the best of targets and decoys together for each spectrum, the share of wrong targets
is that of decoys to targets (Elias & Gygi 2007), one decoy more being counted (He et al. 2015).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinynovo.psm import PSM
from tinynovo.reasons import Reason, ReasonCode


def q_values(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """q-value of every answer: the mean posterior error of all that score at least as high.

    Parameters
    ----------
    scores : float64 array, shape (answers,)
        Probability in 0..1 that an answer is right, in any order.

    Returns
    -------
    float64 array, shape (answers,)
        In 0..1. The higher the score, the lower; the same for the same score.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    error = 1 - falling
    mean = np.cumsum(error) / np.arange(1, error.size + 1)
    mean = mean[np.searchsorted(-falling, -falling, side="right") - 1]
    found = np.empty_like(error)
    # The mean of rising errors rises and stays among them; rounding must not change that.
    found[order] = np.clip(np.maximum.accumulate(mean), error[:1], error)
    return found


def decoy_q_values(scores: NDArray[np.float64], decoys: NDArray[np.bool_]) -> NDArray[np.float64]:
    """q-value of every answer from the decoys among them.

    Parameters
    ----------
    scores : float64 array, shape (answers,)
        The higher the better, in any order.
    decoys : bool array, shape (answers,)

    Returns
    -------
    float64 array, shape (answers,)
        In 0..1; the least share of wrong targets among those of a score at most as high, and all
        higher ones.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    wrong = np.cumsum(decoys[order]) + 1
    share = np.minimum(wrong / np.maximum(np.cumsum(~decoys[order]), 1), 1.0)
    share = share[np.searchsorted(-falling, -falling, side="right") - 1]
    found = np.empty_like(share)
    found[order] = np.minimum.accumulate(share[::-1])[::-1]
    return found


def controlled(psms: Iterable[PSM], q: Iterable[float], fdr: float) -> Iterator[PSM]:
    """Keep the peptides that meet a false discovery rate; every spectrum keeps a row.

    Parameters
    ----------
    psms : iterable of PSM
        Rank 1 first within each spectrum.
    q : iterable of float
        The q-values of their peptides of rank 1, in the same order; no more of it is taken.
    fdr : float
        The highest q-value to keep, in 0..1.

    Yields
    ------
    PSM
        With its q-value at rank 1, as it was at lower ranks. A spectrum whose peptide of rank 1 is
        not kept, or is a decoy, has one row, without peptide.
    """
    values = iter(q)
    kept = True
    for psm in psms:
        if psm.rank == 1 and psm.peptide is not None:
            value = float(next(values))
            kept = value <= fdr and not psm.decoy
            yield replace(psm, q_value=value) if kept else psm.unanswered(_why(psm, value, fdr))
        elif psm.rank == 1 or kept:
            yield psm


def _why(psm: PSM, value: float, fdr: float) -> Reason:
    """Why a peptide is not kept."""
    if psm.decoy:
        return Reason(ReasonCode.DECOY, "the best candidate is a decoy")
    return Reason(ReasonCode.ABOVE_FDR, f"q-value {value:.5f} is above {fdr:g}")
