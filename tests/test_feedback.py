from __future__ import annotations

import pytest
import torch
from handmade import EVIDENCE, SHAPE, batch_of
from test_model import answers_of

from tinynovo.feedback import FEEDBACK
from tinynovo.layers import ModelOptions
from tinynovo.model import Tinynovo
from tinynovo.recursion import RecursionOptions, solve
from tinynovo.tokens import VOCABULARY, token_ids

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
