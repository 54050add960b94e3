"""Every number here is worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinynovo.losses import (
    cross_entropy,
    halt_loss,
    precursor_loss,
    ranking_loss,
    residue_loss,
    same_mass,
    same_place,
    spectrum_loss,
    step_weights,
)
from tinynovo.tokens import PAD, VOCABULARY, token_ids

G, A, S, D, E, F, K = token_ids(["G", "A", "S", "D", "E", "F", "K"])
(DEAMIDATED, OXIDISED) = token_ids(["N[Deamidated]", "M[Oxidation]"])


def logits_of(*probabilities: dict[int, float]) -> Tensor:
    """One answer's logits [1, S, V] from the probabilities of some tokens; the others get none."""
    out = torch.full((1, len(probabilities), VOCABULARY), -1e4)
    for slot, known in enumerate(probabilities):
        for token, probability in known.items():
            out[0, slot, token] = math.log(probability)
    return out


def test_step_weights_are_literal():
    assert step_weights("uniform", 4) == [0.25] * 4
    assert step_weights("linear", 3) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert step_weights("exponential", 3) == pytest.approx([1 / 7, 2 / 7, 4 / 7])


@given(st.sampled_from(["uniform", "linear", "exponential"]), st.integers(1, 30))
def test_step_weights_sum_to_one_and_never_fall(kind: str, steps: int):
    weights = step_weights(kind, steps)  # type: ignore[arg-type]
    assert len(weights) == steps
    assert math.isclose(sum(weights), 1.0)
    assert weights == sorted(weights)
    assert min(weights) > 0


def test_same_mass_sees_what_a_spectrum_can_tell():
    answer = torch.tensor([D, F, PAD, G])
    target = torch.tensor([DEAMIDATED, OXIDISED, PAD, A])
    assert same_mass(answer, target).tolist() == [True, False, True, False]


def test_cross_entropy_weighs_all_padding_as_one_slot():
    target = torch.tensor([[G, A, PAD, PAD]])
    logits = logits_of({G: 0.5, A: 0.5}, {A: 0.25, S: 0.75}, {PAD: 1.0}, {PAD: 0.125, S: 0.875})
    by_hand = (math.log(2) + math.log(4) + (0 + math.log(8)) / 2) / 3
    assert cross_entropy(logits, target).item() == pytest.approx(by_hand, rel=1e-5)


def test_cross_entropy_is_the_mean_over_answers_not_residues():
    target = torch.tensor([[G, PAD], [G, A]])
    logits = torch.cat(
        [logits_of({G: 0.5, S: 0.5}, {PAD: 1.0}), logits_of({G: 1.0}, {A: 0.25, S: 0.75})]
    )
    by_hand = (math.log(2) / 2 + math.log(4) / 2) / 2
    assert cross_entropy(logits, target).item() == pytest.approx(by_hand, rel=1e-5)


def test_more_padding_costs_nothing():
    short = cross_entropy(logits_of({G: 0.5, A: 0.5}, {PAD: 0.5, G: 0.5}), torch.tensor([[G, PAD]]))
    slots = [{G: 0.5, A: 0.5}, *[{PAD: 0.5, G: 0.5}] * 5]
    long = cross_entropy(logits_of(*slots), torch.tensor([[G, *[PAD] * 5]]))
    assert short.item() == pytest.approx(math.log(2), rel=1e-5)
    assert long.item() == pytest.approx(short.item(), rel=1e-5)


def test_halt_loss_asks_whether_the_whole_answer_is_right():
    right = torch.tensor([True, False, False, False])
    asked = torch.tensor([True, True, True, False])
    halt = torch.tensor([0.0, math.log(3), math.log(3), 99.0])
    by_hand = (math.log(2) + math.log(4) + math.log(4)) / 3
    assert halt_loss(halt, right, asked).item() == pytest.approx(by_hand, rel=1e-5)
    sure = torch.tensor([50.0, -50.0, -50.0, 50.0])
    assert halt_loss(sure, right, asked).item() == pytest.approx(0.0, abs=1e-6)
    assert halt_loss(sure, right, torch.zeros(4, dtype=torch.bool)).item() == 0


def test_ranking_loss_asks_whether_a_right_answer_is_the_surest():
    halt = torch.tensor([[0.0, math.log(3), 99.0], [1.0, 1.0, 1.0], [5.0, 5.0, 5.0]])
    right = torch.tensor([[False, True, True], [False, False, False], [True, True, True]])
    asked = torch.tensor([[True, True, False], [True] * 3, [True] * 3])
    by_hand = -math.log(3 / 4) / 3
    assert ranking_loss(halt, right, asked).item() == pytest.approx(by_hand, rel=1e-5)
    moved = halt + torch.tensor([[7.0], [-3.0], [2.0]])
    assert ranking_loss(moved, right, asked).item() == pytest.approx(by_hand, rel=1e-4)


def test_ranking_loss_has_gradients_where_nothing_is_decided():
    halt = torch.zeros(2, 2, requires_grad=True)
    right = torch.tensor([[False, False], [True, False]])
    ranking_loss(halt, right, torch.tensor([[True, True], [True, False]])).backward()
    assert halt.grad is not None
    assert torch.equal(halt.grad, torch.zeros(2, 2))


def test_residue_loss_masks_the_padding_of_the_answer_judged():
    target = torch.tensor([[G, A, S]] * 2)
    judged = torch.tensor([[G, S, PAD], [G, S, S]])
    residues = torch.tensor([[math.log(3), 0.0, 77.0], [9.0, 9.0, 9.0]])
    asked = torch.tensor([True, False])
    by_hand = (-math.log(0.75) + math.log(2)) / 2
    assert residue_loss(residues, judged, target, asked).item() == pytest.approx(by_hand, rel=1e-5)


def test_residue_loss_of_an_empty_answer_is_zero():
    nothing = torch.zeros(1, 3, dtype=torch.int64)
    asked = torch.tensor([True])
    assert residue_loss(torch.ones(1, 3), nothing, torch.tensor([[G, A, S]]), asked).item() == 0


def support_of(*intensities: dict[int, float]) -> Tensor:
    out = torch.zeros(1, len(intensities), VOCABULARY)
    for slot, known in enumerate(intensities):
        for token, intensity in known.items():
            out[0, slot, token] = intensity
    return out


def test_spectrum_loss_is_the_share_of_intensity_not_gone_for():
    target = torch.tensor([[G, A, PAD]])
    logits = logits_of({G: 0.5, S: 0.5}, {A: 0.25, S: 0.25, D: 0.5}, {G: 1.0})
    support = support_of({G: 2.0, S: 1.0}, {A: 0.8}, {A: 1.0})
    by_hand = ((1 - (0.5 * 2 + 0.5 * 1) / 2) + (1 - 0.25)) / 2
    assert by_hand == 0.5
    assert spectrum_loss(logits, support, target).item() == pytest.approx(by_hand, rel=1e-5)


def test_spectrum_loss_is_zero_for_the_best_supported_residues():
    target = torch.tensor([[G, A, S]])
    support = support_of({G: 2.0, S: 1.0}, {D: 0.1, A: 0.05}, {})
    logits = logits_of({G: 1.0}, {D: 1.0}, {E: 1.0})
    assert spectrum_loss(logits, support, target).item() == pytest.approx(0.0, abs=1e-6)
    worst = logits_of({E: 1.0}, {E: 1.0}, {E: 1.0})
    assert spectrum_loss(worst, support, target).item() == pytest.approx(1.0)


def test_spectrum_loss_without_any_support_is_zero():
    target = torch.tensor([[G, A, PAD]])
    assert spectrum_loss(logits_of({G: 1.0}, {A: 1.0}, {}), support_of({}, {}, {}), target) == 0


def test_spectrum_loss_pulls_towards_support_and_leaves_padding_alone():
    logits = torch.zeros(1, 2, VOCABULARY, requires_grad=True)
    support = support_of({G: 1.0}, {A: 1.0})
    spectrum_loss(logits, support, torch.tensor([[G, PAD]])).backward()
    gradient = logits.grad
    assert gradient[0, 0, G] < 0
    assert (gradient[0, 0].sign() > 0).sum() == VOCABULARY - 1
    assert gradient[0, 1].count_nonzero() == 0


def test_precursor_loss_of_hand_weighed_answers():
    exact = logits_of({G: 1.0}, {A: 1.0}, {PAD: 1.0})
    mass = torch.tensor([57_021_464 + 71_037_114])
    assert precursor_loss(exact, mass).item() == pytest.approx(0.0, abs=1e-9)
    heavier = mass + 50_000_000
    assert precursor_loss(exact, heavier).item() == pytest.approx(0.5 * 0.5**2, rel=1e-4)
    far = mass + 300_000_000
    assert precursor_loss(exact, far).item() == pytest.approx(3 - 0.5, rel=1e-4)


def test_precursor_loss_weighs_by_probability():
    half = logits_of({G: 0.5, A: 0.5})
    wanted = torch.tensor([(57_021_464 + 71_037_114) // 2 + 20_000_000])
    assert precursor_loss(half, wanted).item() == pytest.approx(0.5 * 0.2**2, rel=1e-4)


def test_a_residue_is_right_where_it_stands_between_the_same_masses():
    """GG weighs what N does: behind it the residues are right, one slot further."""
    n = token_ids(["N"])[0]
    truth = torch.tensor([[n, A, S, K, 0], [n, A, S, K, 0], [D, A, S, 0, 0]])
    judged = torch.tensor([[G, G, A, S, K], [n, S, A, K, 0], [DEAMIDATED, A, S, 0, 0]])
    right = [[0, 0, 1, 1, 1], [1, 0, 0, 1, 0], [1, 1, 1, 0, 0]]
    assert same_place(judged, truth).int().tolist() == right
