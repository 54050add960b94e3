"""The recursion: cycle, supervision step, solve.

Knows how an answer is laid out, refined and laid out again, on any model that offers the six
calls of `Recursive`. Does not know peaks, residues or losses.

Axes: N answers, S slots, V tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class RecursionOptions(BaseModel):
    """How long the loop runs; a default in the checkpoint that users may override."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_updates: int = Field(2, ge=1, description="n: updates of z a cycle")
    cycles: int = Field(1, ge=1, description="T: cycles a supervision step")
    supervision_steps: int = Field(3, ge=1, description="N_sup: steps of a solve")
    halt_probability: float = Field(1.0, gt=0, le=1, description="stop once this sure; 1: never")


class Laid(Protocol):
    """Evidence of an answer laid on what is known: offers the input x of the network."""

    @property
    def answer(self) -> Tensor:
        """int64 [N, S]."""

    @property
    def x(self) -> Tensor:
        """float32 [N, S, D]."""


E = TypeVar("E", bound=Laid)
M = TypeVar("M", contravariant=True)


class Recursive(Protocol[M, E]):
    """What the recursion needs of a model; M is its memory of the input, E its evidence."""

    def start(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """First y and z of an answer."""

    def evidence(self, answer: Tensor, memory: M, *, judged: bool = False) -> E:
        """Lay an answer on what is known, to refine it or only to judge it."""

    def network(self, x: Tensor, memory: M) -> Tensor:
        """The tiny network f."""

    def read(self, y: Tensor, evidence: E) -> Tensor:
        """Logits [N, S, V] of a new answer."""

    def settle(self, logits: Tensor) -> Tensor:
        """The new answer itself, int64 [N, S]."""

    def verdict(self, z: Tensor, evidence: E) -> tuple[Tensor, Tensor]:
        """Halt logit [N] and residue logits [N, S] of the answer laid out."""


@dataclass(frozen=True, eq=False)
class State:
    """Answer int64 [N, S]; y and z float32 [N, S, D]."""

    answer: Tensor
    y: Tensor
    z: Tensor


@dataclass(frozen=True, eq=False)
class Step(Generic[E]):
    """One supervision step: what was judged, and what came out.

    Attributes
    ----------
    judged : int64 [N, S]
        The answer that lay on the spectrum in the last cycle.
    halt : float32 [N]
        Logit that `judged` is right.
    residues : float32 [N, S]
        Logits that its residues are right.
    logits : float32 [N, S, V]
        Of the new answer.
    evidence
        Of `judged`.
    state : State
        Where the next step begins, detached.
    """

    judged: Tensor
    halt: Tensor
    residues: Tensor
    logits: Tensor
    evidence: E
    state: State


def cycle(model: Recursive[M, E], state: State, memory: M, latent_updates: int) -> Step[E]:
    """N times z = f(x + y + z), then y = f(y + z)."""
    evidence = model.evidence(state.answer, memory)
    z = state.z
    for _ in range(latent_updates):
        z = model.network(evidence.x + state.y + z, memory)
    y = model.network(state.y + z, memory)
    logits = model.read(y, evidence)
    halt, residues = model.verdict(z, evidence)
    new = State(model.settle(logits), y.detach(), z.detach())
    return Step(state.answer, halt, residues, logits, evidence, new)


@dataclass(frozen=True, eq=False)
class Verdict(Generic[E]):
    """What `judge` says: halt logit [N], residue logits [N, S], evidence of the answer."""

    halt: Tensor
    residues: Tensor
    evidence: E


def judge(model: Recursive[M, E], evidence: E, memory: M, latent_updates: int) -> Verdict[E]:
    """Whether the answer laid out is right: a cycle that ends before a new answer is read."""
    y, z = model.start(evidence.answer)
    for _ in range(latent_updates):
        z = model.network(evidence.x + y + z, memory)
    return Verdict(*model.verdict(z, evidence), evidence)


def supervision_step(
    model: Recursive[M, E], state: State, memory: M, options: RecursionOptions
) -> Step[E]:
    """T cycles, only the last with gradient."""
    for last in range(options.cycles - 1, -1, -1):
        with nullcontext() if last == 0 else torch.no_grad():
            step = cycle(model, state, memory, options.latent_updates)
        state = step.state
    return step


def solve(
    model: Recursive[M, E], answer: Tensor, memory: M, options: RecursionOptions
) -> Iterator[Step[E]]:
    """Supervision steps from a first answer, one after another.

    Stops early when every answer judged is right with `halt_probability`.
    """
    state = State(answer, *model.start(answer))
    for _ in range(options.supervision_steps):
        step = supervision_step(model, state, memory, options)
        yield step
        if options.halt_probability < 1 and bool(
            (step.halt.sigmoid() >= options.halt_probability).all()
        ):
            return
        state = step.state
