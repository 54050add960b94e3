from __future__ import annotations

import numpy as np
import pytest
import torch
from handmade import batch_of, network
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.evidence import PeakTable
from tinynovo.losses import LossOptions
from tinynovo.objectives import (
    LoopObjective,
    RankObjective,
    ScorerObjective,
    StartOptions,
    answer_figures,
    corrupted,
    starts,
)
from tinynovo.peptide import Peptide
from tinynovo.recursion import RecursionOptions
from tinynovo.tokens import PAD, VOCABULARY, answer_batch, encode, token_ids, token_masses

PEPTIDES = ("GASPVTK", "SAMPLER")
G, A, S, K, Q = token_ids(list("GASKQ"))
DEAMIDATED, D = token_ids(["N[Deamidated]", "D"])
IDS = st.lists(st.integers(1, 19), min_size=1, max_size=15)


def targets(*peptides: str, slots: int = 9) -> torch.Tensor:
    return answer_batch([encode(Peptide.parse(p)) for p in peptides], slots)


def test_the_scorer_is_asked_for_the_next_residue_at_the_true_anchors():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    loss, figures = ScorerObjective(model)(batch, target)
    table = PeakTable(batch, model.scorer.options)
    forwards, backwards = model.scorer.logits(table, torch.arange(len(target)), target)
    real = target != PAD
    parts = [
        -logits.log_softmax(-1).gather(-1, target[..., None]).squeeze(-1)[real].mean().item()
        for logits in (forwards, backwards)
    ]
    assert loss.item() == pytest.approx(sum(parts), rel=1e-5)
    assert figures["forwards_loss"] == pytest.approx(parts[0], rel=1e-5)
    assert figures["backwards_loss"] == pytest.approx(parts[1], rel=1e-5)
    assert 0 <= figures["forwards_token_accuracy"] <= 1


def test_the_scorer_learns_two_spectra_by_heart():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    objective = ScorerObjective(model)
    adam = torch.optim.Adam(model.scorer.parameters(), 0.02)
    first, _ = objective(batch, target)
    for _ in range(60):
        loss, figures = objective(batch, target)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 0.1 * first.item()
    assert figures["forwards_token_accuracy"] == figures["backwards_token_accuracy"] == 1.0


def test_padding_of_the_target_changes_no_loss():
    model, batch = network(), batch_of(*PEPTIDES)
    losses = [
        ScorerObjective(model)(batch, targets(*PEPTIDES, slots=slots))[0].item()
        for slots in (7, 12)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def loop(model: torch.nn.Module, judged: int = 1, **losses: object) -> LoopObjective:
    recursion = RecursionOptions(latent_updates=1, supervision_steps=2)
    return LoopObjective(model, recursion, LossOptions(**losses), judged=judged)


def test_every_supervision_step_has_its_loss_and_the_total_weighs_them():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    first = target[:, None].repeat(1, 2, 1)
    for kind, weights in (("uniform", [0.5, 0.5]), ("linear", [1 / 3, 2 / 3])):
        loss, figures = loop(model, 0, steps=kind, scorer=0)(batch, target, first)
        by_step = [figures[f"step{number}_loss"] for number in (0, 1)]
        expected = sum(w * part for w, part in zip(weights, by_step, strict=True))
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_steps_loss_is_the_weighted_sum_of_its_parts():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    weights = {"halt": 0.7, "ranking": 0.4, "residue": 0.3, "spectrum": 0.2, "precursor": 0.05}
    first = torch.stack([target, target.flip(-1), target], 1)
    _, figures = loop(model, 0, **weights)(batch, target, first)
    parts = {name: figures[f"step0_{name}_loss"] for name in weights}
    total = figures["step0_cross_entropy"] + sum(weights[n] * parts[n] for n in weights)
    assert all(part > 0 for part in parts.values())
    assert figures["step0_loss"] == pytest.approx(total, rel=1e-5)


def test_the_loop_trains_all_of_the_network():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    loss, _ = loop(model)(batch, target, target[:, None].flip(-1).repeat(1, 2, 1))
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_scorer_that_learns_with_the_loop_is_taught_too():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    first = target[:, None].repeat(1, 2, 1)
    alone, _ = ScorerObjective(model)(batch, target)
    without, plain = loop(model, scorer=0)(batch, target, first)
    taught, figures = loop(model, scorer=0.5)(batch, target, first)
    assert (taught - without).item() == pytest.approx(0.5 * alone.item(), rel=1e-4)
    assert set(figures) - set(plain) == {
        f"{way}_{what}" for way in ("forwards", "backwards") for what in ("loss", "token_accuracy")
    }
    model.scorer.requires_grad_(False)
    frozen, _ = loop(model, scorer=0.5)(batch, target, first)
    assert frozen.item() == pytest.approx(without.item(), rel=1e-6)


def test_all_answers_are_judged_where_none_is_left_out():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    torch.nn.init.constant_(model.keep.bias, -40.0)  # so that an empty answer is filled at once
    torch.nn.init.zeros_(model.lean)  # so that the judge is never so sure that no loss is left
    recursion = RecursionOptions(latent_updates=1, supervision_steps=2)
    objective = LoopObjective(model, recursion, LossOptions(), judged=0)
    wrong = objective(batch, target, target.flip(-1)[:, None])[1]
    empty = objective(batch, target, torch.zeros_like(target)[:, None])[1]
    assert wrong["step0_halt_loss"] > 0
    assert empty["step0_halt_loss"] == 0
    assert empty["step1_halt_loss"] > 0
    apart = loop(model)(batch, target, target.flip(-1)[:, None].repeat(1, 2, 1))[1]
    assert apart["halt_loss"] > 0
    assert "step0_halt_loss" not in apart


@pytest.mark.parametrize("taught", [{"ranker"}, {"ranker", "expectation"}])
def test_what_ranks_learns_which_draft_is_right_and_nothing_else_moves(taught: set[str]):
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    wrong = target.clone()
    wrong[:, :2] = target[:, :2].flip(-1)
    drafts = torch.stack([wrong, target, target.flip(-1), torch.zeros_like(target)], 1)
    for name, part in model.named_children():
        part.requires_grad_(name in taught)
    objective = RankObjective(model, LossOptions())
    before = objective(batch, target, drafts)[1]
    adam = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        loss, figures = objective(batch, target, drafts)
        adam.zero_grad()
        loss.backward()
        adam.step()
    learned = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learned == taught
    assert figures["first"] == 1.0
    if "expectation" in taught:
        assert figures["nats"] < before["nats"] / 2
    else:
        assert loss.item() < 0.1


def test_figures_of_a_hand_made_step():
    truth = torch.tensor([[D, G, PAD], [A, S, K]])
    judged = torch.tensor([[D, A, PAD], [A, S, K]])
    answer = torch.tensor([[DEAMIDATED, G, PAD], [A, G, PAD]])
    mass = token_masses()[truth].sum(-1)
    figures = answer_figures(answer, judged, truth, mass)
    assert figures["token_accuracy"] == pytest.approx(3 / 5)
    assert figures["sequence_accuracy"] == 0.5
    assert figures["length_accuracy"] == 0.5
    assert figures["flip_rate"] == pytest.approx(4 / 5)
    assert figures["median_error_ppm"] == pytest.approx(0.0)


def test_the_mass_error_is_relative_to_the_precursor():
    answer = torch.tensor([[G], [G], [G]])
    mass = torch.tensor([57_021_464 + 570, 57_021_464 - 1140, 57_021_464])
    figures = answer_figures(answer, answer, answer, mass)
    assert figures["median_error_ppm"] == pytest.approx(10.0, rel=1e-2)
    assert figures["mean_error_ppm"] == pytest.approx(10.0, rel=1e-2)


@given(IDS, st.integers(0, 10**6))
def test_corruption_spoils_one_stretch_only(answer: list[int], seed: int):
    out = corrupted(list(answer), np.random.default_rng(seed))
    kept_before = next(
        (i for i, (a, b) in enumerate(zip(answer, out, strict=False)) if a != b), len(answer)
    )
    behind = list(zip(reversed(answer), reversed(out), strict=False))
    kept_behind = next((i for i, (a, b) in enumerate(behind) if a != b), len(answer))
    assert len(answer) - kept_before - kept_behind <= 5
    assert len(answer) - 1 <= len(out) <= len(answer)
    assert all(0 < token < VOCABULARY for token in out)


def test_corruption_does_not_touch_the_truth_and_often_changes_it():
    truth = encode(Peptide.parse("GASPVTLNDEK"))
    copy = list(truth)
    rng = np.random.default_rng(0)
    outs = [corrupted(copy, rng) for _ in range(300)]
    assert copy == truth
    changed = [out for out in outs if out != truth]
    assert len(changed) > 150
    masses = token_masses()
    nominal = {round(int(masses[out].sum()) / 1e6) for out in changed}
    same = sum(
        round(int(masses[out].sum()) / 1e6) == round(int(masses[truth].sum()) / 1e6)
        for out in changed
    )
    assert same > len(changed) / 2
    assert len(nominal) > 1


def test_a_short_answer_is_not_corrupted():
    assert corrupted([G, A], np.random.default_rng(0)) == [G, A]


DRAFTS = np.zeros((2, 3, 6), np.uint8)
DRAFTS[0, 0, :3] = [G, A, S]
DRAFTS[0, 1, :2] = [K, Q]
DRAFTS[0, 2, :6] = [S, S, S, S, S, S]


def test_the_last_answer_and_empty_ones_are_not_judged():
    model, batch, target = network(), batch_of(*PEPTIDES), targets(*PEPTIDES)
    wrong = target.flip(-1)
    blank = torch.zeros_like(target)

    def figures(*answers: torch.Tensor) -> dict[str, float]:
        objective = loop(model, len(answers) - 1)
        found = objective(batch, target, torch.stack(answers, 1))[1]
        return {name: found[f"{name}_loss"] for name in ("halt", "ranking", "residue")}

    alone = figures(wrong, target, blank)
    assert alone == pytest.approx(figures(wrong, target, wrong), rel=1e-4)
    assert figures(wrong, blank, target) == pytest.approx(figures(wrong, target), rel=1e-4)
    assert alone["ranking"] > 0
    assert figures(wrong, target)["ranking"] == 0


def test_starts_are_the_best_draft_others_and_one_of_another_kind():
    target = torch.tensor([[K, Q, G, A, PAD], [A, A, PAD, PAD, PAD]])
    options = StartOptions(drafts=2)
    seen = set()
    for seed in range(30):
        out = starts(target, DRAFTS, options, np.random.default_rng(seed))
        assert out.shape == (2, 3, 5)
        assert out.dtype == torch.int64
        assert out[0, 0].tolist() == [G, A, S, PAD, PAD]
        assert out[0, 1].tolist() in ([K, Q, PAD, PAD, PAD], [S] * 5)
        assert out[1, :2].count_nonzero() == 0
        seen.add(tuple(out[0, 1].tolist()))
    assert len(seen) == 2


def test_no_draft_is_taken_twice_and_missing_ones_stay_empty():
    target = torch.tensor([[K, Q, G, A, PAD]] * 2)
    out = starts(target, DRAFTS, StartOptions(drafts=4), np.random.default_rng(0))[0, :4]
    assert {tuple(row) for row in out.tolist()} == {
        (G, A, S, PAD, PAD),
        (K, Q, PAD, PAD, PAD),
        (S,) * 5,
        (PAD,) * 5,
    }


@pytest.mark.parametrize("kind", ["truth", "empty", "draft", "corrupted"])
def test_the_last_start_is_of_the_kind_asked_for(kind: str):
    shares = dict.fromkeys(["truth", "empty", "draft", "corrupted"], 0.0)
    options = StartOptions(drafts=1, **{**shares, kind: 1.0})
    target = torch.tensor([[K, Q, G, A, PAD]] * 2)
    outs = [
        starts(target, DRAFTS, options, np.random.default_rng(seed))[0, -1].tolist()
        for seed in range(25)
    ]
    if kind == "truth":
        assert outs == [[K, Q, G, A, PAD]] * 25
    elif kind == "empty":
        assert outs == [[PAD] * 5] * 25
    elif kind == "draft":
        assert outs == [[G, A, S, PAD, PAD]] * 25
    else:
        assert len({tuple(out) for out in outs}) > 5
        assert all(PAD not in out[:3] for out in outs)


def test_start_shares_are_kept():
    options = StartOptions(draft=0.0, corrupted=0.25, truth=0.5, empty=0.25)
    target = torch.tensor([[A, A, A, PAD, PAD]] * 4000)
    drafts = np.repeat(DRAFTS[:1], 4000, 0)
    last = starts(target, drafts, options, np.random.default_rng(1))[:, -1]
    assert (last == PAD).all(-1).float().mean().item() == pytest.approx(0.25, abs=0.04)
    whole = (last == target).all(-1).float().mean().item()
    assert 0.46 < whole < 0.75
