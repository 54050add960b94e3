from __future__ import annotations

import pytest
import torch
from handmade import EVIDENCE, SHAPE, batch_of
from test_evidence import PE, PEPTIDE, P, table_of
from test_model import answers_of

from tinynovo.evidence import EvidenceOptions, PeakTable, look_up
from tinynovo.feedback import EXPLAINED, FEEDBACK, explained_shares
from tinynovo.layers import ModelOptions
from tinynovo.model import Tinynovo
from tinynovo.recursion import RecursionOptions, solve
from tinynovo.tokens import TOKENS, VOCABULARY, token_ids, token_masses

PEPTIDES = ("GASPVTK", "SAMPLER")


def network(evidence: str) -> Tinynovo:
    torch.manual_seed(0)
    return Tinynovo(SHAPE.model_copy(update={"evidence": evidence}), EVIDENCE).eval()


def x_of(model: Tinynovo, answer: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.evidence(answer, model.remember(batch_of(*PEPTIDES))).x


def test_every_way_of_the_options_exists():
    assert set(FEEDBACK) == {"shared", "flat", "off"}
    assert ModelOptions(evidence=False).evidence == "off"  # what YAML makes of a bare off


def test_without_evidence_the_answer_does_not_reach_the_input():
    model = network("off")
    truth = answers_of(*PEPTIDES)
    assert torch.equal(x_of(model, truth), x_of(model, truth.flip(-1)))
    assert torch.equal(x_of(model, truth), x_of(model, torch.zeros_like(truth)))


def test_without_evidence_slots_and_precursors_are_told_apart():
    x = x_of(network("off"), torch.zeros(2, 6, dtype=torch.int64))
    assert (x[0, 0] - x[0, 1]).abs().max() > 0.01
    assert (x[0, 0] - x[1, 0]).abs().max() > 0.01


@pytest.mark.parametrize("evidence", ["flat", "shared"])
def test_with_evidence_each_slot_sees_what_its_neighbours_explain(evidence: str):
    model, truth = network(evidence), answers_of(*PEPTIDES)
    other = truth.clone()
    other[0, 2] = token_ids(["W"])[0]
    before, after = x_of(model, truth), x_of(model, other)
    assert torch.equal(before[1], after[1])
    others = torch.arange(truth.shape[1]) != 2
    assert (before[0] - after[0]).abs().amax(-1)[others].gt(1e-3).all()


def test_flat_evidence_is_the_support_from_both_anchors():
    """At the true answer every inner true residue is supported from the left and from the right."""
    model, truth = network("flat"), answers_of(*PEPTIDES)
    seen: list[torch.Tensor] = []
    model.feedback.explain.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x_of(model, truth)
    left, right = seen[0][..., :VOCABULARY], seen[0][..., VOCABULARY : 2 * VOCABULARY]
    own = [side.gather(-1, truth[..., None]).squeeze(-1) for side in (left, right)]
    assert (own[0][0, 0:6] > 0).all()
    assert (own[1][0, 1:7] > 0).all()


@pytest.mark.parametrize("evidence", ["flat", "off"])
def test_where_the_scorer_is_not_asked_it_adds_nothing(evidence: str):
    model, answer = network(evidence), answers_of(*PEPTIDES)
    with torch.inference_mode():
        memory = model.remember(batch_of(*PEPTIDES))
        laid = model.evidence(answer, memory)
        assert laid.prior.count_nonzero() == 0
        assert laid.embedding.shape[-1] == 0
        assert model.opinion(laid).count_nonzero() == 0
        for parameter in model.scorer.parameters():
            parameter.fill_(torch.nan)
        *_, step = solve(model, answer, memory, RecursionOptions(supervision_steps=2))
    assert step.logits.isfinite().all()
    assert step.halt.isfinite().all()


def test_an_encoder_without_evidence_is_not_told_what_stands_around_a_peak():
    assert network("off").encoder.told == 2
    assert network("flat").encoder.told > 10


def test_a_network_that_holds_on_to_nothing_starts_with_no_bonus():
    plain = Tinynovo(SHAPE.model_copy(update={"hold": 0.0}), EVIDENCE)
    assert plain.keep.bias.item() == 0.0
    assert network("shared").keep.bias.item() == 4.0


def explained(table: PeakTable, cuts: torch.Tensor) -> torch.Tensor:
    row = torch.zeros(cuts.numel(), dtype=torch.int64)
    found = look_up(table, row, cuts.flatten(), table.options)
    return explained_shares(table, torch.tensor([0]), cuts, found)


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
