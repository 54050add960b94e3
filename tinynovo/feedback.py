"""Feedback: an answer laid on its spectrum, and how the network is told what that shows.

Knows three ways: by one network shared over candidates, to the input and to the logits, which is
what tinynovo is; as one flat vector to the input; and not at all. The last two are there to be
measured against. Does not know the recursion nor losses.

Axes: B spectra, A answers a spectrum, N = B * A, S slots, V tokens, E embedding, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinynovo.cuts import MAIN_IONS
from tinynovo.evidence import PeakTable, closing_slack, cut_support, look_up
from tinynovo.expectation import SAID, SUMMED, Expectation
from tinynovo.explained import (
    EXPLAINED,
    INNER,
    INNER_SUMMED,
    explained_peaks,
    explained_shares,
    inner_ions,
)
from tinynovo.layers import MassEncoding, ModelOptions
from tinynovo.scorer import EvidenceScorer, anchors
from tinynovo.tokens import PAD, VOCABULARY, token_masses

MOST_SLOTS = 64
"""Slots that a network without evidence can tell apart."""

SUMMARY = 1 + SUMMED + 2 + EXPLAINED + INNER_SUMMED
"""Numbers about an answer as a whole."""

_LOW = -12.0
_PLACES = 6


class Laid:
    """An answer, int64 [N, S], laid on the spectra of a table.

    Attributes
    ----------
    spectrum : int64 [N]
        The row of each answer's spectrum.
    judged : bool
        Whether it is only to be judged, so that nobody asks for other candidates' embeddings.
    mass : int64 [N]
        Residue mass of each precursor, micro-dalton.
    left, right : int64 [N, S]
        Anchors of every slot.
    """

    def __init__(
        self, table: PeakTable, rows: Tensor, answer: Tensor, *, judged: bool = False
    ) -> None:
        self.table, self.answer, self.judged = table, answer, judged
        self.spectrum = rows.repeat_interleave(answer.shape[0] // rows.shape[0])
        self.mass = table.batch.residue_mass[self.spectrum]
        self.left, self.right = anchors(answer, self.mass)

    def select(self, chosen: Tensor) -> Laid:
        """Some of the answers, bool or int64 [N]."""
        rows, answer = self.spectrum[chosen], self.answer[chosen]
        return Laid(self.table, rows, answer, judged=self.judged)

    @cached_property
    def support(self) -> Tensor:
        """Of every candidate that begins at the left anchor: float32 [N, S, V]."""
        return self.supported(self.left[..., None] + token_masses(self.answer.device))

    def supported(self, cuts: Tensor) -> Tensor:
        """Summed intensity of the ions of cuts int64 [N, S, V], micro-dalton."""
        row = self.spectrum.repeat_interleave(cuts.shape[1])
        return cut_support(self.table, row, cuts.flatten(0, 1)).view(cuts.shape)

    def places(self) -> Tensor:
        """Plain numbers about where each slot stands: [N, S, 6]."""
        slack, mass = closing_slack(self.mass)[:, None], self.mass[:, None]
        gap = (self.right - self.left).to(torch.float32) * 1e-6
        return torch.stack(
            [
                (self.answer == PAD).to(torch.float32),
                ((self.left - mass).abs() <= slack).to(torch.float32),
                (self.right.abs() <= slack).to(torch.float32),
                self.left.to(torch.float32) / mass.to(torch.float32),
                (gap / 200).clamp(-5, 5),
                (gap / 0.05).clamp(-5, 5),
            ],
            -1,
        )

    def nothing(self, x: Tensor) -> Evidence:
        """Evidence, with this input, of an answer whose candidates are not looked at."""
        none = x.new_zeros(*self.answer.shape, VOCABULARY, 2)
        summary, others = x.new_zeros(x.shape[0], SUMMARY), (none[..., :0], self.support)
        return Evidence(self, x, none, summary, lambda evidence: evidence.known, *others)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the spectrum says of one answer, and of every other residue at its slots.

    Attributes
    ----------
    laid : Laid
        The answer that was laid on the spectrum.
    known : float32 [N, S, K]
        What the input of the network is made of, in the way of each feedback.
    prior : float32 [N, S, V, 2]
        Log-probabilities of the scorer, forwards and backwards; 0 where it is not asked.
    summary : float32 [N, SUMMARY]
        What is known of each answer as a whole; 0 where nobody is asked. The first is the
        log-probability of the ions found, by what is expected of the answer.
    explain : callable
        This evidence to the input of the network.
    embedding : float32 [N, S, V, 2E]
        Left empty, [N, S, V, 0], where the answer is only judged.
    support : float32 [N, S, V]
        Summed intensity of the b and y ions of each candidate, seen from the left anchor;
        likewise [N, S, 0].
    """

    laid: Laid
    known: Tensor
    prior: Tensor
    summary: Tensor
    explain: Callable[[Evidence], Tensor]
    embedding: Tensor
    support: Tensor

    @property
    def answer(self) -> Tensor:
        """int64 [N, S]."""
        return self.laid.answer

    @cached_property
    def x(self) -> Tensor:
        """Input of the network, made when first asked for: float32 [N, S, D]."""
        return self.explain(self)

    def select(self, chosen: Tensor) -> Evidence:
        """That of some of the answers, bool or int64 [N]."""
        laid, others = self.laid.select(chosen), (self.embedding[chosen], self.support[chosen])
        parts = (self.known[chosen], self.prior[chosen], self.summary[chosen])
        return Evidence(laid, *parts, self.explain, *others)


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Whom the feedback asks: parts of the network that others use as well."""

    scorer: EvidenceScorer
    masses: MassEncoding
    expectation: Expectation | None


class Feedback(Protocol):
    """A way to tell the network."""

    def __call__(self, laid: Laid, knows: Knowledge) -> Evidence:
        """What the spectrum says of an answer."""

    def bias(self, y: Tensor, evidence: Evidence) -> Tensor:
        """What it adds to the logits: [N, S, V], or one number for all."""


class Shared(nn.Module):
    """One network shared over candidates; its embeddings reach the input and the logits."""

    def __init__(self, options: ModelOptions, scorer: EvidenceScorer, masses: MassEncoding) -> None:
        super().__init__()
        width, pair = options.width, 2 * scorer.options.embedding
        known = pair + 2 * VOCABULARY + 2 * masses.features + _PLACES + 2 + EXPLAINED
        known += 2 * (INNER + (SAID if options.expectation_blocks else 0))
        self.explain = nn.Sequential(
            nn.Linear(known, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.trust = nn.Linear(width, 2)
        self.ask = nn.Linear(width, pair)
        nn.init.constant_(self.trust.bias, 0.2)

    def forward(self, laid: Laid, knows: Knowledge) -> Evidence:
        """Ask the scorer about every candidate at both anchors, and what ions are expected."""
        answer, slots = laid.answer, laid.answer.shape[1]
        embedding, prior = self._asked(laid, knows.scorer)
        row, cut = laid.spectrum.repeat_interleave(slots), laid.left.flatten()
        found = look_up(laid.table, row, cut)
        explained = explained_peaks(laid.table, laid.spectrum, found)
        whole = explained_shares(laid.table, laid.spectrum, laid.left, found, explained)
        inner = inner_ions(laid.table, laid.spectrum, answer, explained)
        proven = found.hit[:, : len(MAIN_IONS)].any(-1).view(answer.shape)
        weight = token_masses(answer.device)[answer].sum(-1)
        error = (laid.mass - weight).abs().to(torch.float32) / laid.mass.to(torch.float32) * 1e5
        residues = (answer != PAD).sum(-1) / 15
        plain = torch.stack([error.clamp(max=9), residues], -1)
        rest = torch.cat([plain, whole, inner.summary(proven)], -1)
        summary = functional.pad(rest, (SUMMARY - rest.shape[-1], 0))
        said = inner.features()
        if knows.expectation:
            expected = knows.expectation(laid.table, laid.spectrum, answer, found, inner)
            summary = torch.cat([expected.likelihood[:, None], expected.summary(), rest], -1)
            said = torch.cat([said, expected.features()], -1)
        each = whole[:, None, :].expand(-1, slots, -1)
        known = torch.cat([each, said, functional.pad(said[:, 1:], (0, 0, 0, 1))], -1)
        others = (embedding, embedding[:, :, 0] if laid.judged else laid.support)
        explain = partial(self._explained, knows)
        return Evidence(laid, known, prior, summary, explain, *others)

    def _explained(self, knows: Knowledge, evidence: Evidence) -> Tensor:
        """Input of the network: [N, S, D]."""
        laid, prior = evidence.laid, evidence.prior
        answer = laid.answer
        if laid.judged:
            with self._asking(knows.scorer):
                own = torch.cat(knows.scorer.own(laid.table, laid.spectrum, answer), -1)
        else:
            own = of_answer(evidence.embedding, answer)
        own = own * (answer != PAD)[..., None]
        parts = [own, prior.flatten(-2) / 4, knows.masses(laid.left), knows.masses(laid.right)]
        parts += [laid.places(), of_answer(prior, answer) / 4, evidence.known]
        x: Tensor = self.explain(torch.cat(parts, -1))
        return x

    def _asked(self, laid: Laid, scorer: EvidenceScorer) -> tuple[Tensor, Tensor]:
        """Embeddings of candidates, none where the answer is judged, and priors of all."""
        about = (laid.table, laid.spectrum, laid.answer)
        with self._asking(scorer):
            if laid.judged:
                forwards, backwards = scorer.logits(*about)
                embedding = forwards.new_zeros(*forwards.shape, 0)
            else:
                one, forwards, two, backwards = scorer(*about)
                embedding = torch.cat([one, two], -1)
            each = [logits.log_softmax(-1).clamp(min=_LOW) for logits in (forwards, backwards)]
            prior = torch.stack(each, -1)
        return embedding, prior

    @staticmethod
    def _asking(scorer: EvidenceScorer) -> AbstractContextManager[object]:
        """Whether gradients of the scorer are wanted."""
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in scorer.parameters())
        return torch.set_grad_enabled(learns)

    def bias(self, y: Tensor, evidence: Evidence) -> Tensor:
        """What y asks of the embeddings, and how far it trusts the scorer."""
        asked: Tensor = torch.einsum("nse,nsve->nsv", self.ask(y), evidence.embedding)
        trusted: Tensor = torch.einsum("nst,nsvt->nsv", self.trust(y), evidence.prior)
        return asked / math.sqrt(evidence.embedding.shape[-1]) + trusted


class Flat(nn.Module):
    """The support of every candidate at both anchors, side by side, to the input only."""

    def __init__(self, options: ModelOptions, scorer: EvidenceScorer, masses: MassEncoding) -> None:
        super().__init__()
        known = 2 * VOCABULARY + 2 * masses.features + _PLACES
        self.explain = nn.Linear(known, options.width)

    def forward(self, laid: Laid, knows: Knowledge) -> Evidence:
        """Look the candidates up; the scorer is not asked."""
        behind = laid.supported(laid.right[..., None] - token_masses(laid.answer.device))
        places = [knows.masses(laid.left), knows.masses(laid.right), laid.places()]
        return laid.nothing(self.explain(torch.cat([laid.support, behind, *places], -1)))

    def bias(self, y: Tensor, evidence: Evidence) -> Tensor:
        """Nothing."""
        return y.new_zeros(())


class Off(nn.Module):
    """The number of the slot and the mass of the precursor, whatever the answer is."""

    def __init__(self, options: ModelOptions, scorer: EvidenceScorer, masses: MassEncoding) -> None:
        super().__init__()
        self.slot = nn.Embedding(MOST_SLOTS, options.width)
        self.explain = nn.Linear(masses.features, options.width)

    def forward(self, laid: Laid, knows: Knowledge) -> Evidence:
        """Look nothing up."""
        slots = torch.arange(laid.answer.shape[1], device=laid.answer.device)
        return laid.nothing(self.slot(slots) + self.explain(knows.masses(laid.mass))[:, None])

    def bias(self, y: Tensor, evidence: Evidence) -> Tensor:
        """Nothing."""
        return y.new_zeros(())


FEEDBACK: dict[str, Callable[[ModelOptions, EvidenceScorer, MassEncoding], Feedback]] = {
    "shared": Shared,
    "flat": Flat,
    "off": Off,
}


def of_answer(values: Tensor, answer: Tensor) -> Tensor:
    """What stands for the tokens of an answer [N, S] among values of all tokens [N, S, V, F]."""
    index = answer[..., None, None].expand(-1, -1, 1, values.shape[-1])
    return values.gather(2, index).squeeze(2)
