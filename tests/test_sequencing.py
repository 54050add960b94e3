"""The network here was never trained: what it answers does not matter, how it answers does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade import ladder, loaded
from pydantic import ValidationError

from tinynovo import solving
from tinynovo.calibration import PEPTIDE_FACTS, RESIDUE_FACTS, Calibration, Logistic
from tinynovo.checkpoint import Checkpoint
from tinynovo.errors import InputError
from tinynovo.masses import ISOTOPE_SPACING, MICRO, Tolerance, ion_mz, neutral_mass, udalton
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.sequencing import Sequencer
from tinynovo.solving import Hypothesis, Solver, find_device
from tinynovo.spectrum import Spectrum

PEPTIDES = ("GASPVTK", "[Acetyl]-SAMPLER", "GGSSAAPPVVTK", "WYFHR")
STRATEGIES = ("full", "draft", "empty")
SMALL = {
    "n_beams": 8,
    "candidates": 3,
    "max_peptide_len": 14,
    "isotope_error_range": (0, 0),
}


def spectra() -> list[Spectrum]:
    return [
        ladder(peptide, index=index, file="hand.mgf", title=f"number {index}", scan=100 + index)
        for index, peptide in enumerate(PEPTIDES)
    ]


def sequencer(seed: int = 0, **options: object) -> Sequencer:
    return Sequencer(loaded(seed), SequencingOptions(**{**SMALL, **options}), device="cpu")


def rows(given: Sequence[Spectrum], seed: int = 0, **options: object) -> list[PSM]:
    return list(sequencer(seed, **options).sequence(given))


def firsts(psms: Sequence[PSM]) -> list[PSM]:
    return [psm for psm in psms if psm.rank == 1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_row_a_spectrum_in_input_order(strategy: str):
    given = spectra()[::-1]
    psms = rows(given, strategy=strategy, predict_batch_size=2)
    assert [psm.index for psm in psms] == [s.index for s in given] == [3, 2, 1, 0]
    for psm, spectrum in zip(psms, given, strict=True):
        assert psm.file == "hand.mgf"
        assert psm.title == spectrum.title
        assert psm.scan == spectrum.scan
        assert psm.identifier == spectrum.identifier
        assert psm.precursor_mz == spectrum.precursor_mz
        assert (psm.peptide is None) == bool(psm.reason)


@pytest.mark.parametrize(
    ("strategy", "tolerance"), [("full", "20 ppm"), ("draft", "8 ppm"), ("empty", "150 Da")]
)
def test_answers_are_what_rows_promise(strategy: str, tolerance: str):
    """Without a draft a network that was never trained needs a wide window to hit anything.

    So wide a one is no option that users have.
    """
    options: dict[str, object] = {"strategy": strategy, "top_match": 3}
    if strategy == "empty":
        options |= {"max_peptide_len": 6, "min_peptide_len": 2}
    tested = sequencer(4, **options)
    tested.solver.tolerance = Tolerance.parse(tolerance)
    psms = list(tested.sequence(spectra()))
    answered = [psm for psm in psms if psm.peptide is not None]
    found = {psm.index for psm in answered}
    assert found if strategy == "empty" else found == set(range(len(PEPTIDES)))
    for psm in answered:
        assert 0 <= psm.score <= 1
        assert len(psm.residue_scores) == len(psm.peptide)
        assert all(0 <= each <= 1 for each in psm.residue_scores)
        assert psm.precursor_charge == 2
        observed = udalton(neutral_mass(psm.precursor_mz, 2))
        assert Tolerance.parse(tolerance).accepts(psm.peptide.mass_udalton, observed)
        mass = psm.peptide.mass_udalton / MICRO
        assert psm.calculated_mz == pytest.approx(ion_mz(mass, 2), abs=1e-9)
        error = (psm.precursor_mz - psm.calculated_mz) / psm.calculated_mz * 1e6
        assert psm.error_ppm == pytest.approx(error, abs=1e-6)


def test_ranks_begin_at_one_and_follow_the_score():
    psms = rows(spectra(), top_match=3, judge_weight=1.0)
    assert max(psm.rank for psm in psms) == 3
    for index in range(len(PEPTIDES)):
        own = [psm for psm in psms if psm.index == index]
        assert [psm.rank for psm in own] == list(range(1, len(own) + 1))
        scores = [psm.score for psm in own]
        assert scores == sorted(scores, reverse=True)
        assert len({psm.peptide for psm in own}) == len(own)
    for single in rows(spectra(), top_match=1, judge_weight=1.0):
        assert single.peptide in {psm.peptide for psm in psms if psm.index == single.index}


UNUSABLE = {
    "no_precursor_mz": ({"precursor_mz": None}, "no precursor m/z"),
    "charge_out_of_range": ({"precursor_charge": 20}, "precursor charge 20 outside 1..8"),
    "mass_out_of_range": ({"precursor_mz": 30.0}, "precursor mass 58.0 Da is no peptide's"),
    "too_few_peaks": (
        {"mz": np.array([100.0, 200.0, 300.0]), "intensity": np.ones(3)},
        "3 usable peaks, fewer than 5",
    ),
    "no_peptide_fits": (
        {"precursor_mz": 150.3, "precursor_charge": 1},
        "no peptide fits the precursor mass",
    ),
}


@pytest.mark.parametrize("code", UNUSABLE)
def test_a_spectrum_without_an_answer_has_a_row_with_the_reason(code: str):
    good, bad = ladder("GASPVTK", index=0), ladder("SAMPLER", index=1)
    changes, text = UNUSABLE[code]
    psms = rows([good, replace(bad, **changes), good])
    assert [psm.index for psm in psms] == [0, 1, 0]
    assert psms[1].peptide is None
    assert psms[1].score is None
    assert psms[1].residue_scores == ()
    assert (psms[1].reason_code, psms[1].reason) == (code, text)
    assert psms[0].peptide is not None
    assert (psms[0].reason_code, psms[0].reason) == ("", "")


def test_only_unusable_spectra_and_none_at_all():
    bad = replace(ladder("SAMPLER"), precursor_mz=None)
    assert [psm.reason for psm in rows([bad, bad])] == ["no precursor m/z"] * 2
    assert rows([]) == []


def test_a_missing_charge_is_tried_at_the_default_ones():
    given = replace(ladder("GASPVTK", charge=2), precursor_charge=None)
    psms = rows([given], top_match=60, default_charges=(2, 3), min_peptide_len=1)
    assert {psm.precursor_charge for psm in psms} == {2, 3}
    (second,) = rows([given], default_charges=(2,))
    (told,) = rows([ladder("GASPVTK", charge=2)])
    assert (second.peptide, second.precursor_charge) == (told.peptide, 2)
    assert second.score == pytest.approx(told.score, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "device", "size"),
    [(None, "cpu", 128), (None, "cuda", 1024), (None, "mps", 1024), (7, "cpu", 7), (7, "cuda", 7)],
)
def test_a_gpu_is_given_larger_batches(given: int | None, device: str, size: int) -> None:
    options = SequencingOptions(predict_batch_size=given)
    assert options.together(device) == size
    assert options.together(device, threads=True) == (given or 4096)


def test_the_size_of_batches_is_among_the_settings() -> None:
    tested = sequencer()
    assert tested.settings["predict_batch_size"] == "128"
    assert tested.window == 4 * 128


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, [3]), (9, [8, 1]), (17, [8, 8, 1]), (45, [12, 12, 12, 9]), (64, [16] * 4)],
)
def test_few_spectra_are_divided_among_threads(
    count: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def nothing(self: Sequencer, found: list[object], *_: object) -> list[list[object]]:
        given.append(len(found))
        return [[] for _ in found]

    monkeypatch.setattr(Sequencer, "_answers", nothing)
    told = list(sequencer(predict_batch_size=16).explore(ladder("GASPVTK") for _ in range(count)))
    assert len(told) == count
    assert sorted(given, reverse=True) == sizes


def calibrated(**weights: float) -> Sequencer:
    """A sequencer whose scores are logistic in one fact or other."""
    one = loaded()
    known = Logistic(
        intercept=0.0, weights={name: weights.get(name, 0.0) for name in PEPTIDE_FACTS}
    )
    own = Logistic(intercept=0.0, weights={n: weights.get(n, 0.0) for n in RESIDUE_FACTS})
    calibration = {"full": Calibration(peptide=known, residue=own)}
    frozen = one.frozen.model_copy(update={"calibration": calibration})
    options = SequencingOptions(
        **{
            **SMALL,
            "min_peptide_len": 1,
            "top_match": 3,
            "default_charges": (2, 3),
        }
    )
    return Sequencer(Checkpoint(one.model, frozen), options, device="cpu")


def test_scores_are_calibrated_with_what_the_checkpoint_holds():
    (psm, *_) = calibrated(length=-0.1, support=1.0).sequence([ladder("GASPVTK")])
    assert psm.score == pytest.approx(1 / (1 + np.exp(0.1 * len(psm.peptide))))
    assert psm.residue_scores == pytest.approx([1 / (1 + np.exp(-s)) for s in psm.support])


@pytest.mark.parametrize(("weight", "charge"), [(1.0, 3), (-1.0, 2)])
def test_of_several_charges_the_one_of_the_best_score_comes_first(weight: float, charge: int):
    given = replace(ladder("GASPVTK", charge=2), precursor_charge=None)
    psms = list(calibrated(charge=weight).sequence([given]))
    assert [psm.precursor_charge for psm in psms] == [charge] * 3
    assert [psm.rank for psm in psms] == [1, 2, 3]


def test_rows_say_what_the_spectrum_settles():
    (psm,) = rows([ladder("GASPVTK")])
    assert len(psm.support) == len(psm.residue_scores) == len(psm.peptide)
    assert psm.ambiguous.replace("(?", "").replace(")", "").replace("J", "L") == str(psm.peptide)


def test_without_default_charges_a_missing_charge_is_the_reason():
    given = replace(ladder("GASPVTK"), precursor_charge=None)
    (psm,) = rows([given], default_charges=())
    assert (psm.reason_code, psm.reason) == ("no_charge", "no precursor charge")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_running_twice_gives_the_same(strategy: str):
    one = sequencer(strategy=strategy, top_match=2)
    first = list(one.sequence(spectra()))
    assert list(one.sequence(spectra())) == first


@pytest.mark.parametrize("strategy", ["full", "draft"])
def test_threads_change_nothing(strategy: str):
    one = sequencer(strategy=strategy, predict_batch_size=1, top_match=2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = list(one.sequence(spectra()))
        torch.set_num_threads(3)
        assert list(one.sequence(spectra())) == alone
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_what_the_judge_is_sure_of_is_not_refined(monkeypatch: pytest.MonkeyPatch):
    refined: list[int] = []
    true = Solver._refine

    def counting(self, table, spectra, answers):
        refined.append(spectra.numel())
        return true(self, table, spectra, answers)

    monkeypatch.setattr(Solver, "_refine", counting)
    for halt in (0.0, 1.0):
        found = rows(spectra(), refined=1, halt_probability=halt)
        assert [psm.index for psm in found] == [0, 1, 2, 3]
    assert refined == [len(PEPTIDES)]
    sure = [p.certainty for _, told in sequencer().explore(spectra()) for p in told[:1]]
    middle = float(1 / (1 + np.exp(-np.median(sure))))
    rows(spectra(), refined=1, halt_probability=middle)
    assert 0 < refined[1] < len(PEPTIDES)


@pytest.mark.parametrize(
    ("strategy", "size"), [("full", 3), ("full", 16), ("draft", 16), ("empty", 3)]
)
def test_the_batch_size_changes_nothing(strategy: str, size: int):
    options = {"strategy": strategy, "top_match": 4}
    alone = rows(spectra(), predict_batch_size=1, **options)
    together = rows(spectra(), predict_batch_size=size, **options)
    assert [p.peptide for p in alone] == [p.peptide for p in together]
    for one, other in zip(alone, together, strict=True):
        if one.peptide is not None:
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert one.residue_scores == pytest.approx(other.residue_scores, abs=1e-4)


def test_a_spectrum_with_few_drafts_is_refined_alike_beside_one_with_many():
    """The light one has a single mass-exact answer, the others fill all places."""
    light = ladder("GGG", charge=1, index=9)
    options = {"min_peptide_len": 2, "top_match": 9}
    alone = rows([light], **options)
    together = rows([*spectra(), light], **options)[-len(alone) :]
    assert [p.peptide for p in alone] == [p.peptide for p in together]
    assert [p.score for p in alone] == pytest.approx([p.score for p in together], abs=1e-4)


def test_one_window_is_read_ahead():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield ladder("GASPVTK", index=taken)

    told = sequencer(predict_batch_size=1, strategy="draft").sequence(endless())
    next(told)
    assert taken == 2 * 4
    for _ in range(4):
        next(told)
    assert taken == 3 * 4


def test_a_run_that_is_cut_between_windows_answers_the_same():
    given = [replace(s, index=4 * r + s.index) for r in range(5) for s in spectra()]
    tested = sequencer(predict_batch_size=1)
    assert tested.window == 4
    pieces = [given[at : at + tested.window] for at in range(0, len(given), tested.window)]
    assert [psm for piece in pieces for psm in tested.sequence(piece)] == rows(
        given, predict_batch_size=1
    )


def test_a_precursor_an_isotope_too_heavy_is_read_at_its_own_mass():
    true = ladder("GASPVTK")
    heavy = replace(true, precursor_mz=true.precursor_mz + ISOTOPE_SPACING / 2)
    (there,) = rows([heavy], isotope_error_range=(1, 1))
    (here,) = rows([true], isotope_error_range=(0, 0))
    assert there.isotope_error == 1
    assert there.peptide == here.peptide
    assert there.error_ppm == pytest.approx(here.error_ppm, abs=0.01)
    assert {p.isotope_error for p in rows([heavy], isotope_error_range=(0, 0))} == {0}


def test_further_isotopes_are_tried_unless_an_answer_is_sure(monkeypatch: pytest.MonkeyPatch):
    """And what is found with them must be drafted better than the first answer."""
    tried: list[tuple[int, float]] = []
    true = Solver.solve

    def noting(self: Solver, hypotheses: Sequence[Hypothesis], **options: bool):
        tried.extend((h.isotopes, h.least) for h in hypotheses)
        yield from true(self, hypotheses, **options)

    monkeypatch.setattr(Solver, "solve", noting)
    options = {"isotope_error_range": (0, 1)}
    rows([ladder("GASPVTK")], isotope_retry_below=0.0, **options)
    assert tried == [(0, -np.inf)]
    tried.clear()
    rows([ladder("GASPVTK")], isotope_retry_below=1.0, **options)
    assert tried == [(0, -np.inf)]  # no two peaks weigh what the precursor does then
    tried.clear()
    rows([ladder("GASPVTK")], isotope_retry_below=1.0, min_peptide_len=14, **options)
    assert tried == [(0, -np.inf), (1, -np.inf)]  # but there was no answer
    tried.clear()
    rows([ladder("GASPVTK")], isotope_retry_below=1.0, isotope_retry_pairs=0.0, **options)
    assert [isotopes for isotopes, _ in tried] == [0, 1]
    assert np.isfinite(tried[1][1])
    tried.clear()
    true_mass = ladder("GASPVTK")
    heavy = replace(true_mass, precursor_mz=true_mass.precursor_mz + ISOTOPE_SPACING / 2)
    rows([heavy], isotope_retry_below=1.0, **options)
    assert [isotopes for isotopes, _ in tried] == [0, 1]


@pytest.mark.parametrize("top_match", [1, 2])
def test_only_answers_that_are_reported_are_judged_in_full(
    monkeypatch: pytest.MonkeyPatch, top_match: int
):
    judged: list[int] = []
    true = solving.judge

    def noting(model, evidence, *others):
        judged.append(evidence.answer.shape[0])
        return true(model, evidence, *others)

    monkeypatch.setattr(solving, "judge", noting)
    nats = {"guide_margin": 50.0, "judge_margin": 50.0}
    tested = sequencer(top_match=top_match, isotope_error_range=(0, 0), **nats)
    given = spectra()
    found = [answers for _, answers in tested.explore(given) if isinstance(answers, list)]
    assert min(map(len, found)) > 2
    assert sum(judged) == top_match * len(found)
    for answers in found:
        behind = [answers[0].order - answer.order for answer in answers]
        less = [answers[0].certainty - answer.certainty for answer in answers]
        assert less[top_match:] == pytest.approx(behind[top_match:], abs=1e-3)
        assert not any(any(answer.residues) for answer in answers[top_match:])


def test_making_ready_changes_nothing():
    tested, given = sequencer(), spectra()
    tested.make_ready()
    assert list(tested.sequence(given)) == list(sequencer().sequence(given))


def test_the_tolerance_of_the_precursor_is_kept():
    given = ladder("GASPVTK")
    off = replace(given, precursor_mz=given.precursor_mz * (1 + 15e-6))
    options = {
        "top_match": 99,
        "n_beams": 200,
        "candidates": 100,
        "margin": 1e9,
        "min_peptide_len": 1,
    }
    wide = rows([off], **options)
    assert any(10 < abs(p.error_ppm) <= 20 for p in wide)
    tight = rows([off], precursor_mass_tol="10 ppm", **options)
    assert all(abs(p.error_ppm) <= 10 for p in tight)


def test_lengths_are_kept():
    for psm in rows(spectra(), top_match=5, min_peptide_len=6, max_peptide_len=9):
        assert psm.peptide is None or 6 <= len(psm.peptide) <= 9


@pytest.mark.parametrize("strategy", ["full", "draft"])
def test_switched_modifications_are_kept(strategy: str):
    mods = {"Acetyl": "off", "Phospho": "off", "Carbamidomethyl": "fixed"}
    switched = rows(spectra(), strategy=strategy, top_match=9, mods=mods)
    gone = {"[Acetyl]-", "S[Phospho]", "T[Phospho]", "Y[Phospho]", "C"}
    assert {psm.index for psm in switched if psm.peptide} == set(range(len(PEPTIDES)))
    assert not any(gone & set(psm.peptide.tokens) for psm in switched if psm.peptide)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fixed_start_begins_every_answer(strategy: str):
    """Three slots are few enough for a loop that was never trained to hit a mass from nothing."""
    options: dict[str, object] = {"strategy": strategy, "mods": {"Acetyl": "fixed"}}
    given = [ladder("[Acetyl]-SAMPLER"), ladder("GASPVTK", index=1)]
    tested = sequencer(5, top_match=9, max_peptide_len=12, min_peptide_len=2, **options)
    if strategy == "empty":
        tested.solver.tolerance = Tolerance.parse("150 Da")
    psms = [psm for psm in tested.sequence(given) if psm.peptide]
    assert {psm.index for psm in psms} == {0, 1}
    assert {psm.peptide.tokens[0] for psm in psms} == {"[Acetyl]-"}


def test_what_is_switched_as_it_was_changes_nothing():
    mods = {"Phospho": "on", "TMT6plex": "on"}
    assert rows(spectra(), top_match=3, mods=mods) == rows(spectra(), top_match=3)


def test_drafts_score_by_their_mean_probability():
    for psm in rows(spectra(), strategy="draft"):
        assert len(set(psm.residue_scores)) == 1
        assert psm.residue_scores[0] == pytest.approx(psm.score)


def test_without_refinement_the_drafts_are_only_judged():
    judged = rows(spectra(), refined=0, top_match=30, judge_weight=1.0)
    full = rows(spectra(), refined=2, top_match=30, judge_weight=1.0)
    for index in range(len(PEPTIDES)):
        known = {p.peptide: p.score for p in full if p.index == index}
        for psm in judged:
            if psm.index == index:
                assert known[psm.peptide] == pytest.approx(psm.score, abs=1e-4)
    best = {p.index: p.score for p in firsts(judged)}
    assert all(p.score >= best[p.index] - 1e-5 for p in firsts(full))


def test_the_scorer_alone_ranks_by_what_the_drafts_promise():
    """Without the judge the best judged draft is the best draft of both directions together."""
    given = spectra()
    alone = rows(given, refined=0, judge_weight=0.0)
    drafts = rows(given, strategy="draft")
    assert [p.peptide for p in alone] == [p.peptide for p in drafts]


def test_the_steps_of_the_loop_can_be_overridden(monkeypatch: pytest.MonkeyPatch):
    import tinynovo.solving as room

    taken: list[int] = []
    true = room.solve

    def counting(model, answer, memory, options):
        taken.append(options.supervision_steps)
        return true(model, answer, memory, options)

    monkeypatch.setattr(room, "solve", counting)
    rows(spectra()[:1], strategy="empty", supervision_steps=5, isotope_error_range=(0, 0))
    rows(spectra()[:1], strategy="empty", isotope_error_range=(0, 0))
    assert taken == [5, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"isotope_error_range": (1, 0)},
        {"precursor_mass_tol": "20"},
        {"precursor_mass_tol": "26 ppm"},
        {"precursor_mass_tol": "0.5 Da"},
        {"strategy": "guess"},
        {"n_beams": 0},
        {"top_match": 0},
        {"beams": 3},
        {"isotope_retry_below": 2.0},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        SequencingOptions(**wrong)


def test_settings_hold_every_option():
    settings = sequencer(n_beams=7).settings
    assert settings["n_beams"] == "7"
    assert settings["device"] == "cpu"
    assert sequencer(mods={"tmt6plex": "off"}).settings["mods"] == "{'TMT6plex': 'off'}"
    assert set(SequencingOptions.model_fields) <= set(settings)
    assert "supervision_steps" in settings["recursion"]
    assert all(isinstance(value, str) for value in settings.values())


@pytest.mark.parametrize("name", ["quantum", "mps", "cuda"])
def test_a_device_that_is_not_here_is_refused(name: str):
    import torch

    present = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if present.get(name):
        assert find_device(name).type == name
    else:
        with pytest.raises(InputError, match=f"no {name} device here"):
            find_device(name)
    assert find_device("cpu").type == "cpu"
    assert Peptide.parse("GK").mass_udalton > 0


def judged(proposals: dict[int, list[str]], **options: object) -> list[tuple[Spectrum, list[PSM]]]:
    def propose(spectrum: Spectrum, _: object) -> list[Peptide]:
        return [Peptide.parse(text) for text in proposals.get(spectrum.index, [])]

    return list(sequencer(**options).judge(spectra(), propose))


def test_proposals_are_judged_and_ranked_and_nothing_else_is_told():
    given = {0: ["GASPVTK", "AGSPVTK", "WWWK"], 1: ["[Acetyl]-SAMPLER"], 2: ["WK"]}
    found = judged(given)
    assert [spectrum.index for spectrum, _ in found] == [0, 1, 2, 3]
    told = [[str(psm.peptide) for psm in rows] for _, rows in found]
    assert sorted(told[0]) == ["AGSPVTK", "GASPVTK"]
    assert told[1:] == [["[Acetyl]-SAMPLER"], ["None"], ["None"]]
    scores = [psm.score for psm in found[0][1]]
    assert scores == sorted(scores, reverse=True)
    assert [psm.rank for psm in found[0][1]] == [1, 2]
    assert [rows[0].reason_code for _, rows in found[2:]] == ["no_peptide_fits"] * 2


def test_a_proposal_that_is_found_anyway_scores_the_same():
    best = rows(spectra()[:1], judge_weight=1.0)[0]
    ((_, (told,)), *_) = judged({0: [str(best.peptide)]}, judge_weight=1.0)
    assert told.peptide == best.peptide
    assert told.score == pytest.approx(best.score, abs=1e-5)
    assert told.residue_scores == pytest.approx(best.residue_scores, abs=1e-5)
    assert told.ambiguous == best.ambiguous


def test_proposals_may_be_an_isotope_off_but_not_longer_than_allowed():
    heavy = replace(
        ladder("GASPVTK"), precursor_mz=ladder("GASPVTK").precursor_mz + ISOTOPE_SPACING / 2
    )
    offered = [Peptide.parse("GASPVTK")]
    tested = sequencer(isotope_error_range=(0, 1))
    ((_, (psm,)),) = tested.judge([heavy], lambda *_: offered)
    assert (psm.peptide, psm.isotope_error) == (offered[0], 1)
    assert abs(psm.error_ppm) < 2
    short = sequencer(isotope_error_range=(0, 1), max_peptide_len=6)
    ((_, (psm,)),) = short.judge([heavy], lambda *_: offered)
    assert psm.peptide is None


def test_charges_without_a_proposal_are_not_tried():
    unknown = replace(ladder("GASPVTK"), precursor_charge=None)
    asked = []

    def propose(spectrum: Spectrum, peaks) -> list[Peptide]:
        asked.append(peaks.precursor_charge)
        return [Peptide.parse("GASPVTK")]

    tested = sequencer(default_charges=(1, 2, 3))
    ((_, (psm,)),) = tested.judge([unknown], propose)
    assert asked == [1, 2, 3]
    assert psm.precursor_charge == 2


def test_drafts_alone_judge_nothing():
    with pytest.raises(InputError, match="strategy draft judges no candidates"):
        judged({}, strategy="draft")


def test_a_closed_search_looks_for_nothing_else(monkeypatch: pytest.MonkeyPatch):
    import tinynovo.solving as room

    def never(*_: object) -> None:
        raise AssertionError("nothing is drafted")

    monkeypatch.setattr(room, "draft", never)
    offered = [Peptide.parse("GASPVTK"), Peptide.parse("AGSPVTK")]
    tested = sequencer()
    ((_, found),) = tested.explore([ladder("GASPVTK")], lambda *_: offered, closed=True)
    assert {answer.peptide for answer in found} == set(offered)
    ((_, rows),) = tested.judge([ladder("GASPVTK")], lambda *_: offered, closed=True)
    assert {psm.peptide for psm in rows} == set(offered)


def test_a_closed_search_has_its_own_calibration():
    known = {name: 0.0 for name in PEPTIDE_FACTS}
    own = Logistic(intercept=2.0, weights={name: 0.0 for name in RESIDUE_FACTS})
    calibration = {
        name: Calibration(peptide=Logistic(intercept=intercept, weights=known), residue=own)
        for name, intercept in (("full", 0.0), ("database", 1.0))
    }
    one = loaded()
    frozen = one.frozen.model_copy(update={"calibration": calibration})
    options = SequencingOptions(**SMALL)
    tested = Sequencer(Checkpoint(one.model, frozen), options, device="cpu")
    offered = [Peptide.parse("GASPVTK")]
    scores = [
        rows[0].score
        for closed in (False, True)
        for _, rows in tested.judge([ladder("GASPVTK")], lambda *_: offered, closed=closed)
    ]
    assert scores == pytest.approx([0.5, 0.7310586])
