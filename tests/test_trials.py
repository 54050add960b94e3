from __future__ import annotations

import math

import pytest
import torch
from handmade import EVIDENCE, KEEP_ALL, SHAPE, ladder, loaded
from torch import Tensor

from tinynovo.corpus import Corpus
from tinynovo.model import Tinynovo
from tinynovo.recursion import RecursionOptions
from tinynovo.tokens import PAD, VOCABULARY, token_ids
from tinynovo.trials import try_loop

PEPTIDES = ("GASPV", "SAMPLER", "LNDEK")
CORPUS, _ = Corpus.pack(
    [ladder(p, index=i) for i, p in enumerate(PEPTIDES)], KEEP_ALL, max_tokens=12
)


class Scripted(Tinynovo):
    """Answers what it is told to, step by step, and is as sure as it is told."""

    def __init__(self, answers: list[Tensor], halt: list[float]) -> None:
        super().__init__(SHAPE, EVIDENCE)
        self.answers, self.halts, self.calls = answers, halt, 0

    def read(self, y: Tensor, evidence: object) -> Tensor:
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        return 100.0 * torch.nn.functional.one_hot(answer, VOCABULARY)

    def verdict(self, z: Tensor, evidence: object) -> tuple[Tensor, Tensor]:
        halt = torch.full((z.shape[0],), self.halts[min(self.calls, len(self.halts) - 1)])
        self.calls += 1
        return halt, torch.zeros(z.shape[:2])


def ids(*peptides: str) -> Tensor:
    rows = [token_ids(list(peptide)) for peptide in peptides]
    return torch.tensor([row + [PAD] * (9 - len(row)) for row in rows])


def trial_of(model: Tinynovo, steps: int, **options: object):  # type: ignore[no-untyped-def]
    recursion = RecursionOptions(latent_updates=1, supervision_steps=steps, halt_probability=0.5)
    known = {"name": "ladders", "trained_steps": 1, "slots": 9, **options}
    return try_loop(model.eval(), CORPUS, recursion, **known)


def by_mass(*peptides: str) -> list[str]:
    order = sorted(range(len(PEPTIDES)), key=lambda i: CORPUS.mass[i])
    return [peptides[i] for i in order]


def test_every_step_is_counted():
    """Right in one of three, then in two; the judge is sure of all from the third step on."""
    first = ids(*by_mass("GASPV", "SAMPLEK", "LNDE"))
    second = ids(*by_mass("GASPV", "SAMPLER", "LNDE"))
    model = Scripted([first, second], [-5.0, -5.0, 5.0])
    trial = trial_of(model, 2)
    assert [step["sequence_accuracy"] for step in trial.steps] == pytest.approx([1 / 3, 2 / 3])
    assert [step["token_accuracy"] for step in trial.steps] == pytest.approx([15 / 17, 16 / 17])
    assert [step["flip_rate"] for step in trial.steps] == pytest.approx([16 / 17, 1 / 17])
    assert [step["length_accuracy"] for step in trial.steps] == pytest.approx([2 / 3, 2 / 3])
    assert [step["halt_accuracy"] for step in trial.steps] == pytest.approx([2 / 3, 2 / 3])
    assert trial.steps[1]["cross_entropy"] > 0.1
    assert trial.entropy == pytest.approx([0.0] * 7, abs=1e-4)
    assert trial.most_entropy == pytest.approx(math.log2(VOCABULARY))


def test_samples_are_what_stood_at_the_last_step():
    model = Scripted([ids(*by_mass("GASPV", "SAMPLER", "LNDE"))], [-5.0, 0.0])
    samples = {"".join(sample.true): sample for sample in trial_of(model, 1).samples}
    assert set(samples) == set(PEPTIDES)
    assert {peptide: sample.right for peptide, sample in samples.items()} == {
        "GASPV": True,
        "SAMPLER": True,
        "LNDEK": False,
    }
    assert samples["LNDEK"].predicted == list("LNDE")
    assert samples["LNDEK"].token_accuracy == pytest.approx(4 / 5)
    assert samples["LNDEK"].error_ppm > 1e5
    assert samples["SAMPLER"].error_ppm == pytest.approx(0.0, abs=0.01)
    assert all(sample.probability == pytest.approx(0.5) for sample in samples.values())


@pytest.mark.parametrize("drafted", [False, True])
def test_a_trial_is_the_same_every_time_and_starts_where_it_says(drafted: bool):
    model = loaded().model
    one, other = (trial_of(model, 2, drafted=drafted, noise_ppm=3.0) for _ in range(2))
    assert one == other
    assert one.start == ("the best draft" if drafted else "nothing")
    assert len(one.steps) == 2


def test_the_loop_never_stops_early_in_a_trial():
    model = Scripted([ids(*by_mass(*PEPTIDES))], [50.0])
    assert len(trial_of(model, 4).steps) == 4
