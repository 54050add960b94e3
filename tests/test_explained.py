"""Fragment m/z of PEPTIDE are the published ones: b1 98.0600, y6 703.3145 ..."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade import batch_of, cleaned, ladder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evidence import PE, PEPTIDE, P, table_of
from test_model import answers_of

from tinynovo.evidence import EvidenceOptions, PeakTable, look_up
from tinynovo.explained import (
    EXPLAINED,
    INNER,
    INNER_SUMMED,
    Inner,
    explained_peaks,
    explained_shares,
    inner_ions,
    real_cuts,
)
from tinynovo.tokens import TOKENS, VOCABULARY, peak_batch, token_masses

ROW = torch.tensor([0])


def explained(table: PeakTable, cuts: torch.Tensor) -> torch.Tensor:
    row = torch.zeros(cuts.numel(), dtype=torch.int64)
    found = look_up(table, row, cuts.flatten())
    known = explained_peaks(table, ROW, found)
    return explained_shares(table, ROW, cuts, found, known)


def test_explained_shares_of_a_hand_counted_spectrum():
    table = table_of((98.0600, 0.5), (250.0, 0.5), (703.3145, 1.0), (720.0, 1.0))
    cuts = torch.tensor([[P, PE, PEPTIDE, PEPTIDE]])
    shares = explained(table, cuts)
    assert shares.shape == (1, EXPLAINED)
    above_precursor = 0.5
    assert shares[0].tolist() == pytest.approx(
        [1.5 / 3, 1.25 / 2.5, 0.5, 0.5, 0.5, above_precursor, 0.5]
    )


def test_an_answer_explains_its_own_ladder_and_nothing_explains_nothing():
    table = PeakTable(batch_of("PEPTLDE"), EvidenceOptions())
    mass = dict(zip(TOKENS, token_masses().tolist(), strict=True))
    right = torch.tensor([[mass[r] for r in "PEPTLDE"]]).cumsum(-1)
    shares = explained(table, right)
    assert shares[0].tolist() == pytest.approx([1.0] * EXPLAINED)
    nothing = torch.zeros_like(right)
    assert explained(table, nothing).count_nonzero() == 0


SPECTRA = [("PEPTLDEGGASK", 2), ("SAMPLERVGTK", 3), ("WFHK", 1)]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), noise=st.integers(0, 120))
def test_compiled_hits_are_those_of_the_definition(seed: int, noise: int):
    chance = np.random.default_rng(seed)
    peaks = []
    for peptide, charge in SPECTRA:
        true = ladder(peptide, charge)
        mz = np.append(true.mz, chance.uniform(100, 1500, noise))
        keep = chance.random(mz.size) < 0.6
        keep[0] = True
        mz = (mz * (1 + chance.normal(0, 1e-5, mz.size)))[keep]
        some = replace(true, mz=mz, intensity=chance.random(mz.size) + 0.1)
        peaks.append(cleaned(some))
    table = PeakTable(peak_batch(peaks), EvidenceOptions())
    answer = answers_of(*(peptide for peptide, _ in SPECTRA), "PEPTLDEGGASK", slots=14)
    wild = torch.from_numpy(chance.integers(0, VOCABULARY, answer.shape))
    answer = torch.where(torch.from_numpy(chance.random(answer.shape) < 0.2), wild, answer)
    row = torch.tensor([0, 1, 2, 0])
    mass = token_masses()[answer]
    about = (row.repeat_interleave(14), (mass.cumsum(-1) - mass).flatten())
    told = look_up(table, *about)
    known = explained_peaks(table, row, told)
    inner = inner_ions(table, row, answer, known)
    with torch.no_grad():
        again = PeakTable(table.batch, table.options)
        compiled = look_up(again, *about)
        between = inner_ions(again, row, answer, known)
    for name, value in vars(told).items():
        if name == "error":
            assert torch.allclose(value, compiled.error, rtol=1e-6)
        else:
            assert torch.equal(value, getattr(compiled, name)), name
    for name in ("real", "intensity", "asked", "taken"):
        assert torch.equal(getattr(inner, name), getattr(between, name)), name


def inner_of(table: PeakTable, answer: torch.Tensor) -> Inner:
    mass = token_masses()[answer]
    found = look_up(table, ROW.repeat(answer.shape[1]), mass.cumsum(-1)[0] - mass[0])
    return inner_ions(table, ROW, answer, explained_peaks(table, ROW, found))


def test_fragments_of_the_middle_are_found_where_they_begin_and_end():
    """EPT: 129.042593 + 97.052764 + 101.047679 + 1.007276 = 328.150312; less CO 300.155397."""
    table = table_of((90.0, 0.1), (300.1554, 0.3), (328.1503, 0.5), (800.0, 0.2))
    inner = inner_of(table, answers_of("PEPTLDE", slots=9))
    assert inner.real[0].tolist() == [False, *[True] * 6, False, False]
    assert inner.begins[0, 1].tolist() == pytest.approx([0.5, 0.3])
    assert inner.ends[0, 4].item() == pytest.approx(0.8)
    assert inner.begins.sum().item() == inner.ends.sum().item() == pytest.approx(0.8)
    assert inner.hits[0].tolist() == [0, 2, 0, 0, 2, 0, 0, 0, 0]


def test_they_tell_in_which_order_the_first_residues_stand():
    table = table_of((90.0, 0.1), (328.1503, 0.5), (800.0, 0.2))
    proven = torch.zeros(1, 9, dtype=torch.bool)
    right, swapped = (
        inner_of(table, answers_of(p, slots=9)).summary(proven)[0] for p in ("PEPTLDE", "EPPTLDE")
    )
    assert right[0] == 0.5
    assert swapped[0] == 0


def test_a_peak_that_is_an_ion_of_a_cut_is_not_one_of_the_middle():
    """EP weighs what PE does: the peak is b2."""
    table = table_of((90.0, 0.1), (227.1026, 0.5), (800.0, 0.2))
    answer = answers_of("PEPTLDE", slots=8)
    assert inner_of(table, answer).hits.sum() == 0
    nothing = torch.zeros(1, table.batch.mz.shape[1], dtype=torch.bool)
    assert inner_ions(table, ROW, answer, nothing).hits.sum() == 2


def test_only_what_lies_in_the_range_recorded_is_asked_for():
    wide = inner_of(table_of((50.0, 0.1), (800.0, 0.2)), answers_of("PEPTLDE", slots=8))
    narrow = inner_of(table_of((250.0, 0.1), (800.0, 0.2)), answers_of("PEPTLDE", slots=8))
    assert wide.asked[0, 1].sum() == 8  # EP, EPT, EPTL, EPTLD; each with and without CO
    assert 0 < narrow.asked[0, 1].sum() < 8
    assert wide.asked[0, 0].sum() == wide.asked[0, 7].sum() == 0


def test_no_cut_lies_behind_a_modification_of_the_terminus():
    table = PeakTable(batch_of("[Acetyl]-SAMPLER"), EvidenceOptions())
    real = real_cuts(table, ROW, answers_of("[Acetyl]-SAMPLER", slots=9))
    assert real[0].tolist() == [False, False, *[True] * 6, False]


def test_features_and_summary_have_the_size_they_say():
    inner = inner_of(PeakTable(batch_of("SAMPLER"), EvidenceOptions()), answers_of("SAMPLER"))
    assert inner.features().shape == (1, 18, INNER)
    assert inner.summary(inner.real).shape == (1, INNER_SUMMED)
    assert inner.summary(inner.real)[0, -2:].tolist() == [0, 0]


def test_an_answer_of_two_residues_has_no_middle():
    inner = inner_of(PeakTable(batch_of("SAMPLER"), EvidenceOptions()), answers_of("GK", slots=2))
    assert inner.asked.sum() == 0
    assert inner.summary(inner.real).isfinite().all()
