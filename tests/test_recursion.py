from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from tinynovo.recursion import RecursionOptions, State, cycle, solve, supervision_step

SLOTS, TOKENS, WIDTH = 3, 5, 4


@dataclass(frozen=True)
class Laid:
    x: Tensor
    answer: Tensor


class Fake(nn.Module):
    """Counts its calls. Its network adds one; its answer moves on by one token a cycle."""

    def __init__(self, halts: list[list[float]] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))
        self.calls: Counter[str] = Counter()
        self.inputs: list[Tensor] = []
        self.laid: list[Tensor] = []
        self.halts = halts or []

    def start(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*answer.shape, WIDTH)
        return 10 * torch.ones(shape), 100 * torch.ones(shape)

    def evidence(self, answer: Tensor, memory: str, *, judged: bool = False) -> Laid:
        assert memory == "memory"
        self.laid.append(answer)
        return Laid(1000 * torch.ones(*answer.shape, WIDTH), answer)

    def network(self, x: Tensor, memory: str) -> Tensor:
        assert memory == "memory"
        self.calls["gradient" if torch.is_grad_enabled() else "none"] += 1
        self.inputs.append(x.detach())
        return x * self.weight + 1

    def read(self, y: Tensor, evidence: Laid) -> Tensor:
        moved = (evidence.answer + 1) % TOKENS
        return nn.functional.one_hot(moved, TOKENS) + 0 * y.sum(-1, keepdim=True)

    def settle(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def verdict(self, z: Tensor, evidence: Laid) -> tuple[Tensor, Tensor]:
        number = len(self.laid) - 1
        halt = torch.tensor(self.halts[number]) if self.halts else torch.zeros(len(z))
        return halt, z.sum(-1)


def first(answers: int = 2) -> Tensor:
    return torch.zeros(answers, SLOTS, dtype=torch.int64)


@given(n=st.integers(1, 4), t=st.integers(1, 4), steps=st.integers(1, 4))
def test_a_supervision_step_calls_the_network_t_times_n_plus_one(n: int, t: int, steps: int):
    model = Fake()
    options = RecursionOptions(latent_updates=n, cycles=t, supervision_steps=steps)
    for done, _ in enumerate(solve(model, first(), "memory", options), 1):
        assert model.calls.total() == done * t * (n + 1)
        assert model.calls["gradient"] == done * (n + 1)
    assert done == steps
    assert len(model.laid) == steps * t


def test_without_gradient_no_call_has_one():
    model = Fake()
    with torch.no_grad():
        list(solve(model, first(), "memory", RecursionOptions(cycles=2)))
    assert model.calls["gradient"] == 0
    assert model.calls.total() == 3 * 2 * 3


def test_a_cycle_updates_z_from_everything_then_y_from_y_and_z():
    model = Fake()
    state = State(first(), *model.start(first()))
    step = cycle(model, state, "memory", 2)
    z1 = 1000 + 10 + 100 + 1
    z2 = 1000 + 10 + z1 + 1
    y = 10 + z2 + 1
    values = [x.unique().item() for x in model.inputs]
    assert values == [1110, 1000 + 10 + z1, 10 + z2]
    assert step.state.z.unique().item() == z2
    assert step.state.y.unique().item() == y


def test_the_answer_is_laid_out_again_before_every_cycle():
    model = Fake()
    options = RecursionOptions(latent_updates=1, cycles=3, supervision_steps=2)
    steps = list(solve(model, first(), "memory", options))
    assert [laid.unique().item() for laid in model.laid] == [0, 1, 2, 3, 4, 0]
    assert [step.judged.unique().item() for step in steps] == [2, 0]
    assert [step.evidence.answer.unique().item() for step in steps] == [2, 0]
    assert [step.state.answer.unique().item() for step in steps] == [3, 1]


def test_y_and_z_are_carried_from_cycle_to_cycle():
    model = Fake()
    state = State(first(), *model.start(first()))
    once = cycle(model, state, "memory", 1).state
    twice = cycle(model, once, "memory", 1).state
    options = RecursionOptions(latent_updates=1, cycles=2)
    step = supervision_step(Fake(), state, "memory", options)
    assert torch.equal(step.state.z, twice.z)
    assert torch.equal(step.state.y, twice.y)


def test_the_state_is_detached_and_the_outputs_are_not():
    model = Fake()
    for step in solve(model, first(), "memory", RecursionOptions(cycles=2)):
        assert not step.state.y.requires_grad
        assert not step.state.z.requires_grad
        assert not step.state.answer.requires_grad
        assert step.logits.requires_grad
        assert step.residues.requires_grad


def test_the_gradient_of_a_step_is_that_of_its_last_cycle_alone():
    model = Fake()
    state = State(first(1), *model.start(first(1)))
    options = RecursionOptions(latent_updates=1, cycles=3)
    supervision_step(model, state, "memory", options).residues.sum().backward()
    long = model.weight.grad.clone()
    model.weight.grad = None
    with torch.no_grad():
        for _ in range(2):
            state = cycle(model, state, "memory", 1).state
    cycle(model, state, "memory", 1).residues.sum().backward()
    assert torch.equal(long, model.weight.grad)


SURE, UNSURE = 3.0, 0.0
"""Logits: 0.95 and 0.5."""


@pytest.mark.parametrize(("probability", "steps"), [(0.9, 2), (0.96, 4), (1.0, 4), (0.5, 1)])
def test_a_solve_stops_once_every_answer_is_sure_enough(probability: float, steps: int):
    halts = [[SURE, UNSURE], [SURE, SURE], [UNSURE, SURE], [SURE, SURE]]
    options = RecursionOptions(supervision_steps=4, halt_probability=probability)
    assert len(list(solve(Fake(halts), first(), "memory", options))) == steps


def test_a_halt_probability_of_one_never_halts():
    options = RecursionOptions(supervision_steps=3, halt_probability=1.0)
    assert len(list(solve(Fake([[200.0]] * 3), first(1), "memory", options))) == 3


def test_a_solve_is_lazy():
    model = Fake()
    steps = solve(model, first(), "memory", RecursionOptions(supervision_steps=5))
    assert model.calls.total() == 0
    next(steps)
    assert model.calls.total() == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent_updates": 0},
        {"cycles": 0},
        {"supervision_steps": 0},
        {"halt_probability": 0.0},
        {"halt_probability": 1.1},
        {"cycle": 2},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValidationError):
        RecursionOptions(**wrong)
