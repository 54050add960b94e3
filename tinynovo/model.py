"""The network: peak encoder, the tiny network, feedback of the answer, answer and judging heads.

Knows how the learned parts are put together and offers the recursion the six calls it needs. Does
not know the recursion that calls it nor the losses.

Axes: B spectra, A answers a spectrum, N = B * A, P peaks, S slots, V tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinynovo.evidence import EvidenceOptions, PeakTable
from tinynovo.expectation import Expectation
from tinynovo.feedback import FEEDBACK, SUMMARY, Evidence, Feedback, Knowledge, Laid, of_answer
from tinynovo.layers import Attention, MassEncoding, ModelOptions, PeakEncoder, TinyBlock
from tinynovo.scorer import EvidenceScorer
from tinynovo.tokens import PAD, VOCABULARY, PeakBatch


@dataclass(frozen=True, eq=False)
class Memory:
    """What is computed once a spectrum: its table and the encoded peaks, ready for attention.

    Attributes
    ----------
    table : PeakTable
    rows : int64 [B]
        The rows of the table that are meant.
    keys : list of (Tensor, Tensor) or None
        Keys and values of these, for each block; None without an encoder.
    """

    table: PeakTable
    rows: Tensor
    keys: list[tuple[Tensor, Tensor] | None]

    def select(self, chosen: Tensor) -> Memory:
        """Some spectra of the memory; ``chosen`` is int64 or bool [B]."""
        keys = [pair and (pair[0][chosen], pair[1][chosen]) for pair in self.keys]
        return Memory(self.table, self.rows[chosen], keys)


_ABOUT = 4
"""What the scorer says of an answer as a whole."""


def _head(known: int, width: int) -> nn.Sequential:
    """Two hidden layers, and one number."""
    layers = (nn.Linear(known, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
    return nn.Sequential(*layers, nn.Linear(width, 1))


class Tinynovo(nn.Module):
    """The whole network: evidence scorer, peak encoder, tiny network, heads."""

    def __init__(self, options: ModelOptions, evidence: EvidenceOptions) -> None:
        super().__init__()
        width = options.width
        self.options = options
        self.scorer = EvidenceScorer(evidence)
        self.masses = MassEncoding(options)
        self.encoder = PeakEncoder(options, self.masses) if options.encoder_blocks else None
        self.expectation = Expectation(options) if options.expectation_blocks else None
        self.blocks = nn.ModuleList(TinyBlock(options) for _ in range(options.blocks))
        self.token = nn.Embedding(VOCABULARY, width)
        self.scratch = nn.Parameter(torch.zeros(width))
        self.feedback: Feedback = FEEDBACK[options.evidence](options, self.scorer, self.masses)
        self.answer = nn.Linear(width, VOCABULARY)
        self.keep = nn.Linear(width, 1)
        self.judge = _head(3 * width + _ABOUT + SUMMARY, width)
        self.ranker = _head(_ABOUT + SUMMARY, width)
        self.residue = nn.Linear(width, 1)
        self.lean = nn.Parameter(torch.tensor([2.0, 0.5, 1.5, 0.5, 0.15]))
        for head in (self.judge[-1], self.ranker[-1], self.residue):
            nn.init.zeros_(head.get_parameter("weight"))
            nn.init.zeros_(head.get_parameter("bias"))
        nn.init.constant_(self.keep.bias, options.hold)

    def remember(self, batch: PeakBatch) -> Memory:
        """Annotate and encode the peaks of a batch of spectra."""
        rows = torch.arange(batch.mz.shape[0], device=batch.mz.device)
        return self.encode(PeakTable(batch, self.scorer.options), rows)

    def encode(self, table: PeakTable, rows: Tensor) -> Memory:
        """Encode the peaks of some rows, int64 [B], of a table."""
        keys: list[tuple[Tensor, Tensor] | None] = [None] * len(self.blocks)
        if self.encoder:
            peaks = self.encoder(table, rows)
            crosses = [block.get_submodule("cross") for block in self.blocks]
            keys = [c.keys(peaks) for c in crosses if isinstance(c, Attention)]
        return Memory(table, rows, keys)

    def start(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Y and z, both [N, S, D], for an answer int64 [N, S]."""
        y = self.token(answer)
        return y, self.scratch.expand_as(y)

    def network(self, x: Tensor, memory: Memory) -> Tensor:
        """The tiny network f: [N, S, D] to [N, S, D]."""
        mask = memory.table.batch.mask[memory.rows]
        for block, keys in zip(self.blocks, memory.keys, strict=True):
            x = block(x, keys, mask)
        return x

    def evidence(self, answer: Tensor, memory: Memory, *, judged: bool = False) -> Evidence:
        """Lay an answer, int64 [N, S], on the spectrum, to refine it or only to judge it."""
        laid = Laid(memory.table, memory.rows, answer, judged=judged)
        return self.feedback(laid, Knowledge(self.scorer, self.masses, self.expectation))

    def read(self, y: Tensor, evidence: Evidence) -> Tensor:
        """Logits [N, S, V]: the answer y, the evidence of every candidate, what was held."""
        logits: Tensor = self.answer(y) + self.feedback.bias(y, evidence)
        held: Tensor = self.keep(y) * functional.one_hot(evidence.answer, VOCABULARY)
        return logits + held

    @staticmethod
    def settle(logits: Tensor) -> Tensor:
        """The likeliest token of every slot, int64 [N, S], gaps closed: padding weighs nothing."""
        answer = logits.argmax(-1)
        order = torch.argsort((answer == PAD).int(), dim=-1, stable=True)
        return answer.gather(-1, order)

    @staticmethod
    def opinion(evidence: Evidence, permitted: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Log-probability of each residue [N, S], mean of both directions; 0 for padding.

        ``permitted``, bool [N, S, V] forwards and backwards, says among which tokens; left out,
        among all.
        """
        own = of_answer(evidence.prior, evidence.answer)
        if permitted is not None:
            left = evidence.prior.masked_fill(~torch.stack(permitted, -1), -torch.inf)
            own = own - (left.logsumexp(2) - evidence.prior.logsumexp(2))
        return own.mean(-1) * (evidence.answer != PAD)

    def rank(self, evidence: Evidence) -> Tensor:
        """Orders the answers of a spectrum: float32 [N], differences are log-odds, roughly.

        Told of the answer as a whole only: what the loop's scratchpad adds is learned by heart.
        """
        known, total = self._whole(evidence, self.opinion(evidence))
        ranked: Tensor = self.ranker(known).squeeze(-1)
        return ranked + total + 2 * self.lean[4].detach() * evidence.summary[:, 0]

    @staticmethod
    def _whole(evidence: Evidence, each: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of answers as a whole [N, _ABOUT + SUMMARY], and their opinions [N].

        ``each``, [N, S], is the opinion of each residue.
        """
        count = (evidence.answer != PAD).sum(1).clamp(min=1)
        total = each.sum(1)
        about = torch.stack([total / 10, total / count, (total / 4).exp(), each.amin(1) / 4], -1)
        likely, known = evidence.summary[:, :1], evidence.summary[:, 1:]
        return torch.cat([about, likely / 20, known], -1), total

    def verdict(self, z: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Halt logit [N] and residue logits [N, S] of the answer that the evidence is about.

        Both start from what the scorer thinks of the answer, the first also from how likely the
        answer makes its ions.
        """
        real = evidence.answer != PAD
        each = self.opinion(evidence)
        known, total = self._whole(evidence, each)
        kept = z * real[..., None]
        mean = kept.sum(1) / real.sum(1).clamp(min=1)[:, None]
        lowest = z.masked_fill(~real[..., None], torch.inf).amin(1).nan_to_num(posinf=0.0)
        highest = z.masked_fill(~real[..., None], -torch.inf).amax(1).nan_to_num(neginf=0.0)
        halt = self.judge(torch.cat([mean, lowest, highest, known], -1)).squeeze(-1)
        likely = evidence.summary[:, 0]
        halt = halt + self.lean[0] + self.lean[1] * total + self.lean[4] * likely
        residues = self.residue(z).squeeze(-1) + self.lean[2] + self.lean[3] * each
        return halt, residues
