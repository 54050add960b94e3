"""What is known of an answer, and how it becomes a probability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from handmade import cleaned, ladder
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.calibration import (
    PEPTIDE_FACTS,
    RESIDUE_FACTS,
    Answer,
    Calibration,
    Facts,
    Logistic,
    facts,
    fit,
    uncalibrated,
)
from tinynovo.checkpoint import default_path, load_frozen
from tinynovo.cli import main
from tinynovo.errors import InputError
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.reasons import Reason
from tinynovo.spectrum import NO_CHARGE, Spectrum

PEAKS = cleaned(ladder("GASPVTK"))


def answer(text: str, order: float, certainty: float = 0.0) -> Answer:
    peptide = Peptide.parse(text)
    return Answer(
        peptide, PEAKS, 0, order, order, certainty, tuple(float(i) for i in range(len(peptide)))
    )


def fact(known: Facts, name: str) -> float:
    return float(known.peptide[PEPTIDE_FACTS.index(name)])


def test_the_facts_of_an_answer_among_its_rivals() -> None:
    # exp(0) : exp(0) : exp(log 2) = 1 : 1 : 2, so the first has a quarter, log-odds -log 3.
    rivals = [answer(text, order) for text, order in (("GASPVTK", 0.0), ("AGSPVTK", 0.0))]
    rivals.append(answer("GASPTVK", np.log(2)))
    known = facts(rivals[0], rivals)
    assert fact(known, "share") == pytest.approx(-np.log(3))
    assert fact(known, "length") == 7
    assert fact(known, "charge") == 2
    assert fact(known, "order") == 0.0
    assert fact(facts(rivals[2], rivals), "opinion") == pytest.approx(np.log(2))
    assert fact(known, "seen") == 1.0
    assert fact(facts(rivals[2], rivals), "order") == pytest.approx(np.log(2) / 7)
    # Rivals worth three quarters agree with G and A, two with V and T, all with the others.
    agreement = known.residues[:, RESIDUE_FACTS.index("agreement")]
    agreed = 1 / (1 + np.exp(-agreement))
    assert agreed == pytest.approx([0.75, 0.75, 1, 1, 0.5, 0.5, 1], abs=1e-5)
    assert known.residues[:, 0].tolist() == list(range(7))
    assert known.residues[:, 2].tolist() == [1] * 7


def test_rivals_agree_where_masses_do_whatever_stands_before() -> None:
    rivals = [answer("NVK", 0.0), answer("GGVK", 0.0), answer("[Acetyl]-VNK", -50.0)]
    agreed = 1 / (1 + np.exp(-facts(rivals[0], rivals).residues[:, 1]))
    assert agreed == pytest.approx([0.5, 1, 1], abs=1e-5)


def test_a_model_without_calibration_says_what_its_judge_says() -> None:
    score, each = uncalibrated(answer("GA", 0.0, certainty=np.log(3)))
    assert score == pytest.approx(0.75)
    assert each == pytest.approx((0.5, 1 / (1 + np.exp(-1))))


def known_answers(count: int, seed: int) -> tuple[list[Facts], list[list[bool]], np.ndarray]:
    """Answers of two residues, right with a probability that their facts tell."""
    rng = np.random.default_rng(seed)
    peptide = rng.normal(size=(count, len(PEPTIDE_FACTS))) * 2
    true = 1 / (1 + np.exp(-(peptide[:, 0] - 0.5 * peptide[:, 1] + 0.3)))
    whole = rng.random(count) < true
    first = whole | (rng.random(count) < 0.5)
    residues = rng.normal(size=(count, 2, len(RESIDUE_FACTS) - 1))
    known = [Facts(p, r, []) for p, r in zip(peptide, residues, strict=True)]
    return known, [[bool(f), bool(w)] for f, w in zip(first, whole, strict=True)], true


def test_a_fit_finds_the_probabilities_that_made_the_answers() -> None:
    calibration = fit(*known_answers(4000, 0)[:2])
    known, right, true = known_answers(2000, 1)
    scores = [calibration.scores(one) for one in known]
    assert np.abs(np.array([s for s, _ in scores]) - true).mean() < 0.03
    assert np.abs(np.array([s for s, _ in scores]).mean() - np.mean([r[1] for r in right])) < 0.03
    assert np.mean([e for _, e in scores]) == pytest.approx(np.mean(right), abs=0.03)


def test_a_fact_that_never_changes_is_no_obstacle() -> None:
    known, right, _ = known_answers(200, 2)
    for one in known:
        one.peptide[5] = 2.0
    assert np.isfinite(fit(known, right).scores(known[0])[0])


@pytest.mark.parametrize("right", [[True, True], [False, True]])
def test_too_few_answers_of_a_kind_are_refused(right: list[bool]) -> None:
    known, _, _ = known_answers(50, 3)
    with pytest.raises(InputError, match=r"50 right and 0|0 right and 50"):
        fit(known, [right] * 50)


@given(
    st.lists(st.floats(-40, 40), min_size=len(PEPTIDE_FACTS), max_size=len(PEPTIDE_FACTS)),
    st.floats(0.1, 5),
)
def test_scores_are_probabilities_that_rise_with_what_speaks_for_an_answer(row, step) -> None:
    weights = dict.fromkeys(PEPTIDE_FACTS, 0.1)
    calibration = Calibration(
        peptide=Logistic(intercept=0.5, weights=weights),
        residue=Logistic(intercept=0.0, weights=dict.fromkeys(RESIDUE_FACTS, 0.1)),
    )
    low = calibration.scores(Facts(np.array(row), np.zeros((3, 3)), []))
    high = calibration.scores(Facts(np.array(row) + step, np.zeros((3, 3)), []))
    assert 0 <= low[0] <= high[0] <= 1
    assert all(0 <= a <= b <= 1 for a, b in zip(low[1], high[1], strict=True))
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


class Explorer:
    """Answers every third spectrum wrongly, and every tenth not at all."""

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy

    @classmethod
    def load(cls, path: Path | None, options: SequencingOptions) -> Explorer:
        return cls(options.strategy)

    def explore(
        self, spectra: Iterable[Spectrum]
    ) -> Iterator[tuple[Spectrum, list[Answer] | Reason]]:
        for place, spectrum in enumerate(spectra):
            if place % 10 == 0:
                yield spectrum, NO_CHARGE
            else:
                wrong = place % 3 == 0
                yield spectrum, [answer("GASPTVK" if wrong else "GASPVTK", 0.0, -1.0 * wrong)]


def labelled(path: Path, count: int) -> Path:
    block = "BEGIN IONS\nSEQ=GASPVTK\nPEPMASS=330.2\nCHARGE=2+\n147.1 10\nEND IONS\n"
    path.write_text(block * count)
    return path


def test_calibrate_writes_the_weights_anew(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("tinynovo.sequencing.Sequencer", Explorer)
    out = tmp_path / "own.safetensors"
    assert main(["calibrate", str(labelled(tmp_path / "a.mgf", 100)), "-o", str(out)]) == 0
    calibration = load_frozen(out).calibration
    assert set(calibration) == {"full", "draft", "database"}
    assert calibration["database"] == load_frozen(default_path()).calibration["database"]
    assert calibration["full"].peptide.weights["certainty"] > 0
    assert "full: fitted to 90 answers" in capsys.readouterr().err


def test_calibrate_wants_enough_spectra(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("tinynovo.sequencing.Sequencer", Explorer)
    out = tmp_path / "own.safetensors"
    assert main(["calibrate", str(labelled(tmp_path / "a.mgf", 30)), "-o", str(out)]) == 1
    assert "too few to calibrate" in capsys.readouterr().err
    assert not out.exists()
