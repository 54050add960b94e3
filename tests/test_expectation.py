"""Fragment m/z of PEPTIDE are the published ones: b1 98.0600, y6 703.3145, b3 324.1554 ..."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from handmade import EVIDENCE, SHAPE, batch_of
from test_evidence import table_of
from test_model import answers_of

from tinynovo.cuts import IONS, MAIN_IONS
from tinynovo.evidence import PeakTable, look_up
from tinynovo.expectation import CLASSES, MANNER, SAID, SUMMED, Expectation, Expected, manner
from tinynovo.explained import INNER_LENGTHS, explained_peaks, inner_ions
from tinynovo.model import Tinynovo
from tinynovo.objectives import ExpectationObjective
from tinynovo.scorer import anchors
from tinynovo.tokens import PAD, numbers

PEPTIDES = ("GASPVTK", "SAMPLER")
B, Y = (IONS.index((series, 1, 0.0)) for series in "by")


def expected(
    table: PeakTable, answer: torch.Tensor, network: Expectation | None = None
) -> Expected:
    torch.manual_seed(0)
    network = network or Expectation(SHAPE)
    row = torch.arange(answer.shape[0])
    left, _ = anchors(answer, table.batch.residue_mass)
    found = look_up(table, row.repeat_interleave(answer.shape[1]), left.flatten())
    inner = inner_ions(table, row, answer, explained_peaks(table, row, found))
    return network(table, row, answer, found, inner)


def test_what_is_found_is_what_the_spectrum_holds():
    table = table_of((98.0600, 0.5), (250.0, 0.3), (703.3145, 1.0), (800.0, 0.1))
    told = expected(table, answers_of("PEPTLDE", slots=9))
    assert told.log_shares.shape == (1, 9, len(IONS), CLASSES)
    assert told.intensity[0, 1, B].item() == 0.5
    assert told.intensity[0, 1, Y].item() == 1.0
    assert told.intensity.sum().item() == pytest.approx(1.5)
    assert told.asked[0, :, B].tolist() == [False, *[True] * 6, False, False]


def test_ions_outside_the_range_recorded_are_not_asked():
    """b1 lies below 200 Th, y6 above 700 Th."""
    table = table_of((200.0, 0.5), (324.1554, 1.0), (700.0, 0.3))
    told = expected(table, answers_of("PEPTLDE", slots=8))
    assert not told.asked[0, 1, [B, Y]].any()
    assert told.asked[0, 3, [B, Y]].all()
    assert told.intensity[0, 3, B].item() == 1.0


def test_ions_of_more_charges_than_the_precursor_has_are_not_asked():
    table = table_of((50.0, 0.5), (324.1554, 1.0), (2000.0, 0.3), charge=2)
    asked = expected(table, answers_of("PEPTLDE", slots=8)).asked[0, 3]
    assert [bool(a) for a in asked] == [charge <= 2 for _, charge, _ in IONS]


def test_behind_a_modification_of_the_terminus_there_is_no_cut():
    batch = batch_of("[Acetyl]-SAMPLER")
    told = expected(PeakTable(batch, EVIDENCE), answers_of("[Acetyl]-SAMPLER", slots=9))
    assert told.asked[0].any(-1).tolist() == [False, False, *[True] * 6, False]


def test_likelihoods_are_those_of_the_classes_found():
    table = table_of((98.0600, 0.5), (250.0, 0.3), (703.3145, 1.0), (800.0, 0.1))
    told = expected(table, answers_of("PEPTLDE", slots=8))
    assert told.each[0, 1, B] == told.log_shares[0, 1, B, 6]  # 0.33 to 0.5
    assert told.each[0, 1, Y] == told.log_shares[0, 1, Y, 7]  # above 0.5
    assert told.each[0, 2, B] == told.log_shares[0, 2, B, 0]  # no peak
    assert torch.equal(told.each[~told.asked], torch.zeros_like(told.each[~told.asked]))
    main = told.each[..., : len(MAIN_IONS)].sum()
    assert told.likelihood.item() == pytest.approx(main.item())
    assert told.log_shares.exp().sum(-1).allclose(torch.ones(()), atol=1e-5)


def test_fragments_of_the_middle_are_expected_too():
    """EPT lies at 328.1503, EP at 227.1026, where the b ion of PE is as well."""
    table = table_of((90.0, 0.1), (227.1026, 0.4), (328.1503, 0.5), (800.0, 0.2))
    told = expected(table, answers_of("PEPTLDE", slots=9))
    assert told.inner_shares.shape == (1, 9, len(INNER_LENGTHS), 2, CLASSES)
    assert told.inner_each[0, 1, 1, 0] == told.inner_shares[0, 1, 1, 0, 6]  # 0.33 to 0.5
    assert told.inner_each[0, 2, 0, 0] == told.inner_shares[0, 2, 0, 0, 0]  # PT: no peak
    assert told.inner.asked[0, 1, 0, 0]
    assert not told.inner_asked[0, 1, 0, 0]
    assert told.inner_each[0, 1, 0, 0] == 0
    assert told.inner_asked[0].sum((-1, -2)).tolist() == [0, 7, 6, 4, 2, 0, 0, 0, 0]


def test_features_and_summary_have_the_size_they_say():
    told = expected(PeakTable(batch_of(*PEPTIDES), EVIDENCE), answers_of(*PEPTIDES, slots=9))
    assert told.features().shape == (2, 9, SAID)
    assert told.summary().shape == (2, SUMMED)
    assert told.summary().isfinite().all()


def test_the_summary_counts_cuts_without_a_main_ion():
    table = table_of((90.0, 0.1), (98.0600, 0.5), (324.1554, 1.0), (800.0, 0.1))
    told = expected(table, answers_of("PEPTLDE", slots=8))
    assert told.summary()[0, -9].item() == pytest.approx(4 / 5)


def test_an_empty_answer_expects_nothing():
    told = expected(PeakTable(batch_of("SAMPLER"), EVIDENCE), torch.zeros(1, 6, dtype=torch.int64))
    assert not told.asked.any()
    assert told.likelihood.item() == 0
    assert told.summary().isfinite().all()


def test_neither_padding_nor_company_changes_what_is_expected():
    both = PeakTable(batch_of(*PEPTIDES), EVIDENCE)
    alone = PeakTable(batch_of(PEPTIDES[0]), EVIDENCE)
    network = Expectation(SHAPE)
    one = expected(alone, answers_of(PEPTIDES[0], slots=8), network)
    two = expected(both, answers_of(*PEPTIDES, slots=12), network)
    assert torch.equal(two.asked[0, :8], one.asked[0])
    here = one.log_shares[one.asked]
    there = two.log_shares[0, :8][one.asked[0]]
    assert torch.allclose(there, here, atol=1e-5)


def test_the_manner_of_a_spectrum_does_not_depend_on_the_company():
    alone = manner(PeakTable(batch_of(PEPTIDES[0]), EVIDENCE))
    both = manner(PeakTable(batch_of(*PEPTIDES, "WWWWWWWWWWWWK"), EVIDENCE))
    assert alone.shape == (1, MANNER)
    assert torch.allclose(both[0], alone[0])
    assert both.isfinite().all()


def test_it_learns_two_spectra_by_heart_and_then_tells_swapped_residues_apart():
    """Peaks of 1+ and 2+ everywhere: what it has seen is likelier than what it has not."""
    torch.manual_seed(0)
    model = Tinynovo(SHAPE, EVIDENCE)
    batch, target = batch_of(*PEPTIDES), answers_of(*PEPTIDES, slots=8)
    objective = ExpectationObjective(model)
    adam = torch.optim.Adam(model.expectation.parameters(), 0.01)
    first, _ = objective(batch, target)
    for _ in range(120):
        loss, figures = objective(batch, target)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 0.1 * first.item()
    assert 0.2 < figures["found"] < 0.9
    swapped = target.clone()
    swapped[:, 2:4] = target[:, 2:4].flip(-1)
    table = PeakTable(batch, EVIDENCE)
    with torch.inference_mode():
        right, wrong = (expected(table, a, model.expectation) for a in (target, swapped))
    assert (right.likelihood > wrong.likelihood + 5).all()


def test_a_loss_is_the_mean_over_the_ions_asked_and_that_over_the_middle():
    torch.manual_seed(0)
    model = Tinynovo(SHAPE, EVIDENCE)
    batch, target = batch_of(*PEPTIDES), answers_of(*PEPTIDES, slots=8)
    loss, _ = ExpectationObjective(model)(batch, target)
    told = expected(PeakTable(batch, EVIDENCE), target, model.expectation)
    by_hand = -np.mean(told.each[told.asked].detach().numpy())
    by_hand -= np.mean(told.inner_each[told.inner_asked].detach().numpy())
    assert loss.item() == pytest.approx(float(by_hand), rel=1e-5)
    assert (target == PAD).any()


def test_what_was_first_asked_for_without_gradients_can_be_learned_with() -> None:
    values, device = (0.25, 4.0), torch.device("cpu")
    with torch.inference_mode():
        assert numbers(values, device).tolist() == list(values)
    factor = torch.ones(2, requires_grad=True)
    (factor * numbers(values, device)).sum().backward()
    assert factor.grad is not None
    assert factor.grad.tolist() == list(values)
