"""Hand-worked cases; the arithmetic stands beside each.

Monoisotopic residue masses used (Da): G 57.021, A 71.037, S 87.032, P 97.053, V 99.068,
T 101.048, L 113.084, N 114.043, D 115.027, Q 128.059, K 128.095, E 129.043, F 147.068, R 156.101,
M[Oxidation] 147.035, N[Deamidated] 115.027, acetyl 42.011.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.evaluation import PUBLISHED, STRICT, Metrics, evaluate, match, right_residues
from tinynovo.masses import residue_table
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM

T, F = True, False


def psm(text: str | None, score: float | None = 0.5) -> PSM:
    return PSM("a.mgf", 0, "index=0", Peptide.parse(text) if text else None, score)


def measured(truth: list[str], predicted: list[PSM | None], **more: object) -> Metrics:
    return evaluate([Peptide.parse(t) for t in truth], predicted, resamples=50, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("truth", "prediction", "published", "strict"),
    [
        # Identical, and I for L: one token, the same mass.
        ("PEPTIDEK", "PEPTIDEK", [T] * 8, [T] * 8),
        ("PEPTIDEK", "PEPTLDEK", [T] * 8, [T] * 8),
        # First two swapped. Sums: A 71.037, AG 128.059; G 57.021, GA 128.059. The firsts are 14
        # apart and not aligned; then AG is aligned with GA but G is not A; LK matches.
        ("AGLK", "GALK", [F, F, T, T], [F, F, T, T]),
        # GG weighs 114.043 as N does (same atoms). Sums: G 57, GG 114 against N 114: aligned at
        # (1, 0), 57 is not 114. L and K are aligned and match at places 2 and 3 of the longer.
        ("GGLK", "NLK", [F, F, T, T], [F, F, T, T]),
        ("NLK", "GGLK", [F, F, T, T], [F, F, T, T]),
        # Wrong at the end. Sums after PEP agree; T 101.048 is not V 99.068 and from there the sums
        # are 1.98 off; from the C-terminus S 87 is not E 129 and the sums never meet again.
        ("PEPTE", "PEPVS", [T, T, T, F, F], [T, T, T, F, F]),
        # Wrong at the start: from the N-terminus V 99.068 against T 101.048, all sums 1.98 off;
        # from the C-terminus K, P, E match, back to the first place.
        ("VEPK", "TEPK", [F, T, T, T], [F, T, T, T]),
        # K for Q in the middle: 0.036 apart, so within 0.1 and 0.5 Da but 284 ppm. Strict: from the
        # N-terminus the sums after AK, AQ are 0.036 / 199.1 = 183 ppm off, after E 111 ppm, after R
        # 0.036 / 484.3 = 75 ppm; from the C-terminus R and E match and K does not.
        ("AKER", "AQER", [T, T, T, T], [T, F, T, T]),
        # Oxidised M 147.035 against F 147.068: 0.033 apart, the same story.
        ("AFER", "AM[Oxidation]ER", [T, T, T, T], [T, F, T, T]),
        # Deamidated N weighs what D weighs: the mass rules cannot tell.
        ("AN[Deamidated]K", "ADK", [T, T, T], [T, T, T]),
        # N against its deamidated self: 0.984 apart, more than 0.5.
        ("ANK", "AN[Deamidated]K", [T, F, T], [T, F, T]),
        # Two short of the truth: AL matches; from the C-terminus K is not L.
        ("ALEK", "AL", [T, T, F, F], [T, T, F, F]),
        # Acetyl counts with the first residue: A 71.037 against 113.048 = 71.037 + 42.011.
        ("ALK", "[Acetyl]-ALK", [F, T, T], [F, T, T]),
        ("[Acetyl]-ALK", "[Acetyl]-ALK", [T, T, T], [T, T, T]),
        # 113.048 is 0.036 from L 113.084: published cannot tell, strict can (321 ppm).
        ("[Acetyl]-AEK", "LEK", [T, T, T], [F, T, T]),
    ],
)
def test_match(truth: str, prediction: str, published: list[bool], strict: list[bool]) -> None:
    a, b = Peptide.parse(truth), Peptide.parse(prediction)
    assert match(a, b, PUBLISHED) == published
    assert match(a, b, STRICT) == strict


@pytest.mark.parametrize(
    ("truth", "prediction", "right"),
    [
        ("GASK", "GASK", [T, T, T, T]),
        ("GGASK", "NASK", [F, T, T, T]),
        ("NASK", "GGASK", [F, F, T, T, T]),
        ("VKASK", "ASAGK", [F, F, F, F, T]),
        ("[Acetyl]-GASK", "GASK", [F, T, T, T]),
    ],
)
def test_right_residues_are_those_of_the_prediction(truth, prediction, right) -> None:
    assert right_residues(Peptide.parse(truth), Peptide.parse(prediction)) == right


def test_the_prefix_walk_goes_on_beyond_a_mismatch() -> None:
    # A(GV)E(TS)K against A(VG)E(ST)K: the sums meet again after each swapped pair: A, E, K match.
    truth, prediction = Peptide.parse("AGVETSK"), Peptide.parse("AVGESTK")
    assert match(truth, prediction) == [T, F, F, T, F, F, T]


def test_the_three_definitions() -> None:
    # 1 exact; 2 K for Q: published only; 3 D for deamidated N: by mass under both rules; 4 missing.
    metrics = measured(
        ["PEPTIDEK", "AKER", "AN[Deamidated]K", "GGLK"],
        [psm("PEPTLDEK", 0.9), psm("AQER", 0.8), psm("ADK", 0.7), psm(None, None)],
    )
    assert (metrics.spectra, metrics.predicted, metrics.coverage) == (4, 3, 0.75)
    # Residues: true 8 + 4 + 3 + 4 = 19, predicted 15.
    published = metrics.published
    assert published.aa_precision == 15 / 15
    assert published.aa_recall == 15 / 19
    assert published.peptide_recall == 3 / 4
    assert published.peptide_precision == 3 / 3
    assert published.auc == pytest.approx((1 + 1 + 1) / 4)
    strict = metrics.strict
    assert strict.aa_precision == 14 / 15
    assert strict.aa_recall == 14 / 19
    assert strict.peptide_recall == 2 / 4
    assert strict.peptide_precision == 2 / 3
    # By falling score right, wrong, right: precision 1, 1/2, 2/3, each over a quarter of coverage.
    assert strict.auc == pytest.approx((1 + 1 / 2 + 2 / 3) / 4)
    exact = metrics.exact
    assert (exact.aa_precision, exact.aa_recall) == (None, None)
    assert exact.peptide_recall == 1 / 4
    assert exact.peptide_precision == 1 / 3
    assert exact.auc == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)


def test_a_modification_at_the_terminus_is_not_one_on_the_residue() -> None:
    # The same mass on the first residue, so the mass rules match; it is not the same peptide.
    metrics = measured(["[TMT6plex]-KLK"], [psm("K[TMT6plex]LK")])
    assert metrics.strict.peptide_recall == 1
    assert metrics.exact.peptide_recall == 0


def test_auc_by_hand() -> None:
    # Falling scores 0.9 right, 0.8 wrong, 0.7 right; 0.6 is a tie of a right and a wrong one, which
    # enter together; the sixth spectrum is missing.
    truth = ["GAK", "GVK", "GLK", "GSK", "GTK", "GPK"]
    predicted = [psm("GAK", 0.9), psm("GAK", 0.8), psm("GLK", 0.7), psm("GSK", 0.6)]
    predicted += [psm("GAK", 0.6), None]
    expected = (1 / 1 + 1 / 2 + 2 / 3 + 2 * (3 / 5)) / 6
    assert measured(truth, predicted).published.auc == pytest.approx(expected)


def test_scores_rank_whatever_their_scale_and_their_absence_ranks_last() -> None:
    # Wrong without a score, wrong with NaN, right with -3: right first, the other two tied.
    predicted = [psm("GGGG", None), psm("GGGG", math.nan), psm("GLK", -3.0)]
    metrics = measured(["GAK", "GVK", "GLK"], predicted)
    assert metrics.published.auc == pytest.approx((1 + 2 * (1 / 3)) / 3)


def test_an_answer_of_unknown_residues_is_wrong() -> None:
    """GAK is right, three residues; the other counts as the three of its truth."""
    predicted = [psm("GAK", 0.9), replace(psm("GAK", 0.8), peptide=None)]
    metrics = measured(["GAK", "GVK"], predicted)
    assert (metrics.predicted, metrics.unknown, metrics.coverage) == (2, 1, 1.0)
    figures = metrics.published
    assert (figures.peptide_recall, figures.peptide_precision) == (0.5, 0.5)
    assert figures.aa_precision == 3 / 6


def test_nothing_predicted_and_nothing_at_all() -> None:
    nothing = measured(["GAK"], [None])
    assert nothing.published.peptide_recall == 0
    assert nothing.published.auc == 0
    assert nothing.published.aa_recall == 0
    assert nothing.published.aa_precision is None
    assert nothing.published.peptide_precision is None
    empty = measured([], [])
    assert empty.coverage is None
    assert empty.published.peptide_recall is None
    assert empty.published.auc is None
    assert empty.published.intervals == {}


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        measured(["GAK"], [])
    with pytest.raises(ValueError, match="differ in length"):
        measured(["GAK"], [None], charges=[])


def test_groups() -> None:
    metrics = measured(
        ["M[Oxidation]AK", "M[Oxidation]N[Deamidated]K", "PEPTIDEPEPTK"],
        [psm("M[Oxidation]AK"), psm("GGG"), psm("PEPTIDEPEPTK")],
        charges=[2, 2, None],
        sources=["a", "b", "b"],
    )
    groups = metrics.groups
    assert list(groups) == ["length", "modification", "charge", "source"]
    assert groups["length"]["1-9"]["spectra"] == 2
    assert groups["length"]["1-9"]["peptide_recall"] == 0.5
    assert groups["length"]["10-12"]["peptide_recall"] == 1
    assert groups["modification"]["Oxidation"]["peptide_recall"] == 0.5
    assert groups["modification"]["Deamidated"]["peptide_recall"] == 0
    assert groups["modification"]["none"]["spectra"] == 1
    assert groups["charge"]["2+"]["spectra"] == 2
    assert groups["charge"]["unknown"]["peptide_recall"] == 1
    assert groups["source"]["b"]["peptide_recall"] == 0.5


def test_json_holds_everything_and_no_nan() -> None:
    metrics = measured(["PEPTIDEK", "GAK"], [psm("PEPTIDEK"), None], charges=[2, 3])
    text = json.dumps(metrics.as_dict(), allow_nan=False)
    back = json.loads(text)
    assert back["published"]["peptide_recall"] == 0.5
    assert back["groups"]["charge"]["3+"]["peptide_recall"] == 0
    assert "missing prediction is wrong" in back["definitions"]["peptide_recall"]


def test_intervals_are_repeatable_and_about_right() -> None:
    # 400 different peptides, 100 right: 0.25 with standard error sqrt(0.25 * 0.75 / 400) = 0.0217,
    # so the interval is about 0.25 -+ 1.96 * 0.0217 = (0.208, 0.292).
    letters = "GASPVTLNDQKEMHFRYW"
    truth = [f"{a}{b}{c}K" for a in letters for b in letters for c in "GAS"][:400]
    predicted = [psm(t if i % 4 == 0 else "GGGGGGG", i / 400) for i, t in enumerate(truth)]
    peptides = [Peptide.parse(t) for t in truth]
    first = evaluate(peptides, predicted)
    assert first == evaluate(peptides, predicted)
    low, high = first.exact.intervals["peptide_recall"]
    assert low == pytest.approx(0.208, abs=0.008)
    assert high == pytest.approx(0.292, abs=0.008)
    assert evaluate(peptides, predicted, seed=1).exact.intervals != first.exact.intervals


def test_spectra_of_one_peptide_are_drawn_together() -> None:
    # Two peptides, one always right and one always wrong: a resample holds 0, 1 or 2 of the right
    # one, so the interval spans everything although there are 200 spectra.
    metrics = measured(["GAK"] * 100 + ["GVK"] * 100, [psm("GAK")] * 200)
    assert metrics.published.peptide_recall == 0.5
    assert metrics.published.intervals["peptide_recall"] == (0.0, 1.0)


TOKENS = [token for token, row in residue_table().items() if not row.n_terminal]
PEPTIDES = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=12).map(
    lambda tokens: Peptide(tuple(tokens))
)


@given(PEPTIDES, PEPTIDES)
def test_matching_is_symmetric_bounded_and_strict_is_stricter_at_whole_peptides(
    a: Peptide, b: Peptide
) -> None:
    matches = match(a, b)
    assert len(matches) == max(len(a), len(b))
    assert matches == match(b, a)
    assert sum(matches) <= min(len(a), len(b))
    assert all(match(a, a, STRICT))
    if all(match(a, b, STRICT)):
        assert all(matches)


@given(
    st.lists(st.tuples(PEPTIDES, st.none() | PEPTIDES, st.floats(0, 1)), max_size=8), st.randoms()
)
def test_the_order_of_spectra_does_not_matter(
    rows: list[tuple[Peptide, Peptide | None, float]], random: object
) -> None:
    def figures(rows: list[tuple[Peptide, Peptide | None, float]]) -> list[float]:
        predicted = [None if p is None else PSM("", 0, "", p, score) for _, p, score in rows]
        metrics = evaluate([t for t, _, _ in rows], predicted, resamples=0)
        both = (metrics.published, metrics.strict)
        values = [(f.aa_precision, f.aa_recall, f.peptide_recall, f.auc) for f in both]
        return [np.nan if v is None else v for pair in values for v in pair]

    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_allclose(figures(shuffled), figures(rows))
