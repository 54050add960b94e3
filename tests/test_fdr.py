from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.fdr import controlled, decoy_q_values, q_values
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM

probabilities = st.lists(
    st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.9, 1.0]), min_size=1, max_size=40
)


def test_by_hand() -> None:
    # Errors 0.1, 0.2, 0.2, 0.6, 0.6: the first alone 0.1; the first three 0.5 / 3; all 1.7 / 5.
    found = q_values(np.array([0.4, 0.9, 0.8, 0.4, 0.8]))
    assert found == pytest.approx([0.34, 0.1, 0.5 / 3, 0.34, 0.5 / 3])
    assert q_values(np.zeros(0)).shape == (0,)
    assert q_values(np.array([1.0])).tolist() == [0.0]


@given(probabilities)
def test_it_is_the_mean_error_of_all_that_score_as_high(scores: list[float]) -> None:
    array = np.array(scores)
    by_force = [float(np.mean(1 - array[array >= score])) for score in scores]
    assert q_values(array) == pytest.approx(by_force, abs=1e-12)


@given(probabilities)
def test_it_falls_with_the_score_and_stays_among_the_errors(scores: list[float]) -> None:
    array = np.array(scores)
    found = q_values(array)
    order = np.argsort(array, kind="stable")
    assert np.all(np.diff(found[order]) <= 0)
    for score in set(scores):
        assert len(set(found[array == score].tolist())) == 1
    assert found.min() >= (1 - array).min()
    assert np.all(found <= 1 - array)


@given(probabilities, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(scores: list[float], chance: object) -> None:
    places = list(range(len(scores)))
    chance.shuffle(places)  # type: ignore[attr-defined]
    array = np.array(scores)
    assert q_values(array[places]).tolist() == q_values(array)[places].tolist()


def psm(index: int, score: float | None, rank: int = 1) -> PSM:
    peptide = None if score is None else Peptide.parse("GAK")
    each = () if score is None else (score,) * 3
    answer = PSM("a.mgf", index, f"index={index}", peptide, score, each, rank=rank, title="t")
    if score is None:
        return replace(answer, reason_code="no_charge", reason="no precursor charge")
    return replace(answer, calculated_mz=138.1, error_ppm=1.5, isotope_error=1, precursor_charge=2)


PSMS = [
    psm(0, 0.9),
    psm(0, 0.3, rank=2),
    psm(1, None),
    psm(2, 0.4),
    psm(2, 0.35, rank=2),
    psm(2, 0.3, rank=3),
    psm(3, 0.8),
]
Q = q_values(np.array([0.9, 0.4, 0.8]))


def test_what_meets_the_rate_is_kept_and_every_spectrum_has_a_row() -> None:
    # q-values by hand: 0.1, 0.3, 0.15.
    first, second, silent, dropped, last = controlled(PSMS, Q, 0.15)
    assert first == replace(PSMS[0], q_value=pytest.approx(0.1))
    assert second == PSMS[1]
    assert silent == PSMS[2]
    assert last == replace(PSMS[6], q_value=pytest.approx(0.15))
    assert (dropped.index, dropped.rank, dropped.title, dropped.precursor_charge) == (2, 1, "t", 2)
    assert (dropped.peptide, dropped.score, dropped.residue_scores) == (None, None, ())
    assert (dropped.q_value, dropped.calculated_mz, dropped.error_ppm) == (None, None, None)
    assert dropped.isotope_error == 0
    assert dropped.reason_code == "above_fdr"
    assert dropped.reason == "q-value 0.30000 is above 0.15"


def test_a_rate_of_one_keeps_all() -> None:
    found = list(controlled(PSMS, Q, 1.0))
    assert [replace(row, q_value=None) for row in found] == PSMS
    assert [row.q_value is not None for row in found] == [
        row.rank == 1 and row.peptide is not None for row in PSMS
    ]


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.001, 1))
def test_the_expected_share_of_wrong_answers_kept_meets_the_rate(
    scores: list[float], fdr: float
) -> None:
    q = q_values(np.array(scores))
    found = list(controlled([psm(i, score) for i, score in enumerate(scores)], q, fdr))
    assert [row.index for row in found] == list(range(len(scores)))
    kept = [row.posterior_error for row in found if row.peptide]
    assert not kept or np.mean(kept) <= fdr + 1e-12  # type: ignore[arg-type]


def test_decoys_by_hand() -> None:
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 5.0])
    decoys = np.array([False, False, True, False, False, True])
    # (decoys + 1) / targets: 1/1, 1/2, 2/2, 2/3, 3/4 for both of the last; then the least below.
    expected = [0.5, 0.5, 2 / 3, 2 / 3, 0.75, 0.75]
    assert decoy_q_values(scores, decoys) == pytest.approx(expected)
    assert decoy_q_values(scores[::-1], decoys[::-1]) == pytest.approx(expected[::-1])
    assert decoy_q_values(np.array([1.0]), np.array([True])).tolist() == [1.0]
    assert decoy_q_values(np.zeros(0), np.zeros(0, bool)).shape == (0,)


def test_without_decoys_the_rate_is_that_of_one_decoy() -> None:
    found = decoy_q_values(np.arange(200.0), np.zeros(200, bool))
    assert found == pytest.approx(np.full(200, 1 / 200))


@given(probabilities, st.randoms(use_true_random=False))
def test_decoy_rates_are_shares_that_fall_with_the_score(
    scores: list[float], chance: object
) -> None:
    array = np.array(scores)
    decoys = np.array([chance.random() < 0.4 for _ in scores])  # type: ignore[attr-defined]
    found = decoy_q_values(array, decoys)
    assert np.all((found >= 0) & (found <= 1))
    assert np.all(np.diff(found[np.argsort(array, kind="stable")]) <= 1e-15)


def test_a_decoy_is_no_answer_whatever_its_rate() -> None:
    rows = [replace(psm(0, 0.9), accessions=("DECOY_P1",)), psm(1, 0.8)]
    first, second = controlled(rows, np.array([0.0, 0.01]), 1.0)
    assert (first.peptide, first.reason_code, first.accessions) == (None, "decoy", ())
    assert first.title == "t"
    assert (second.peptide, second.q_value) == (rows[1].peptide, 0.01)
