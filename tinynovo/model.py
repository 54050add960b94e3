"""The network: peak encoder, the tiny network, answer and judging heads.

Knows the shapes of everything that is learned, and the evidence that it is fed. Does not know the
recursion that calls it nor the losses.

Axes: B spectra, A answers a spectrum, N = B * A, P peaks, S slots, V tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from tinynovo.errors import InputError
from tinynovo.evidence import (
    ANNOTATIONS,
    EXPLAINED,
    GLOBALS,
    EvidenceOptions,
    PeakTable,
    cut_support,
    explained_shares,
    peak_table,
)
from tinynovo.masses import udalton
from tinynovo.scorer import EvidenceScorer, anchors, closing_slack
from tinynovo.tokens import PAD, VOCABULARY, PeakBatch, token_masses

_LOW = -12.0
_PEAK_FEATURES = 2 + ANNOTATIONS
SEPARATION = 0.5
"""Smallest L2 distance that the mass encoding must give masses that mean different residues."""

SEPARATED = (1.0, 0.98402, 0.03638, 0.03301)
"""Mass differences in Da it must tell apart: 1 Da, I/N, K/Q, F/M[Oxidation]."""


class ModelOptions(BaseModel):
    """Shape of the network; frozen in the checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(128, ge=16, description="features of every vector")
    blocks: int = Field(2, ge=1, description="blocks of the tiny network")
    encoder_blocks: int = Field(1, ge=1, description="blocks of the peak encoder")
    heads: int = Field(4, ge=1, description="attention heads")
    expansion: int = Field(2, ge=1, description="hidden features of SwiGLU, in widths")
    shortest_wavelength: float = Field(0.02, gt=0, description="of the mass encoding, Da")
    longest_wavelength: float = Field(4000.0, gt=0, description="of the mass encoding, Da")
    wavelengths: int = Field(24, ge=2, description="sinusoids of the mass encoding")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelOptions:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")
        return self


class MassEncoding(nn.Module):
    """Sinusoids of a mass: the integer modulo the wavelength, then float32.

    Raises
    ------
    InputError
        When the encoding cannot tell residues of different mass apart.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        ratio = options.longest_wavelength / options.shortest_wavelength
        powers = [i / (options.wavelengths - 1) for i in range(options.wavelengths)]
        waves = [udalton(options.shortest_wavelength * ratio**power) for power in powers]
        self.register_buffer("waves", torch.tensor(waves, dtype=torch.int64), persistent=False)
        self.waves: Tensor
        self.features = 2 * options.wavelengths
        self._refuse_blindness()

    def forward(self, mass: Tensor) -> Tensor:
        """int64 micro-dalton of any shape [...] to float32 [..., features]."""
        phase = torch.remainder(mass[..., None], self.waves).to(torch.float32)
        angle = phase / self.waves.to(torch.float32) * (2 * torch.pi)
        return torch.cat([angle.sin(), angle.cos()], -1)

    def _refuse_blindness(self) -> None:
        here = torch.tensor([100_000_000, 1_000_000_000])
        for difference in SEPARATED:
            distance = (self(here + udalton(difference)) - self(here)).norm(dim=-1).min()
            if distance < SEPARATION:
                raise InputError(
                    f"the mass encoding cannot see {difference:g} Da (L2 {float(distance):.4f})",
                    remedy="set model.shortest_wavelength to 0.02 or less",
                )


class Attention(nn.Module):
    """Multi-head attention of queries [N, S, D] to a memory [N, M, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.memory = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def keys(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory, each [N, heads, M, D / heads]."""
        key, value = self.memory(memory).chunk(2, -1)
        return self._split(key), self._split(value)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Attend; ``mask`` is bool [N, M], true where the memory is real."""
        found = nn.functional.scaled_dot_product_attention(
            self._split(self.query(x)), *keys, attn_mask=mask[:, None, None, :]
        )
        out: Tensor = self.out(found.transpose(1, 2).flatten(-2))
        return out


class SwiGLU(nn.Module):
    """Gated feed-forward layer."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * expansion * width, bias=False)
        self.down = nn.Linear(expansion * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        gate, value = self.up(x).chunk(2, -1)
        out: Tensor = self.down(nn.functional.silu(gate) * value)
        return out


class EncoderBlock(nn.Module):
    """Self-attention and SwiGLU over peaks."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.attention = Attention(options.width, options.heads)
        self.gate = SwiGLU(options.width, options.expansion)
        self.norms = nn.ModuleList(nn.RMSNorm(options.width) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, P, D] to [B, P, D]."""
        normed = self.norms[0](x)
        x = x + self.attention(normed, self.attention.keys(normed), mask)
        out: Tensor = x + self.gate(self.norms[1](x))
        return out


class PeakEncoder(nn.Module):
    """Peaks to vectors: [B, P, D]."""

    def __init__(self, options: ModelOptions, masses: MassEncoding) -> None:
        super().__init__()
        self.masses = masses
        self.embed = nn.Linear(2 * masses.features + _PEAK_FEATURES + GLOBALS, options.width)
        self.blocks = nn.ModuleList(EncoderBlock(options) for _ in range(options.encoder_blocks))
        self.norm = nn.RMSNorm(options.width)

    def forward(self, table: PeakTable) -> Tensor:
        """Encode the peaks of every spectrum, seen from both ends of the precursor."""
        mz, mask = table.batch.mz, table.batch.mask
        mirrored = table.batch.residue_mass[:, None] - mz
        known = table.globals[:, None, :].expand(-1, mz.shape[1], -1)
        parts = [self.masses(mz), self.masses(mirrored), table.features, known]
        x = self.embed(torch.cat(parts, -1))
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x)
        return out


class TinyBlock(nn.Module):
    """Self-attention over slots, cross-attention to peaks, SwiGLU; RMSNorm after each."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.own = Attention(options.width, options.heads)
        self.cross = Attention(options.width, options.heads)
        self.gate = SwiGLU(options.width, options.expansion)
        self.norms = nn.ModuleList(nn.RMSNorm(options.width) for _ in range(3))

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """[N, S, D] to [N, S, D]; the peaks of a spectrum serve all its answers."""
        everywhere = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        x = self.norms[0](x + self.own(x, self.own.keys(x), everywhere))
        rows = mask.shape[0]
        seen = self.cross(x.view(rows, -1, x.shape[-1]), keys, mask)
        x = self.norms[1](x + seen.view_as(x))
        out: Tensor = self.norms[2](x + self.gate(x))
        return out


@dataclass(frozen=True, eq=False)
class Memory:
    """What is computed once a spectrum: its table and the encoded peaks, ready for attention."""

    table: PeakTable
    keys: list[tuple[Tensor, Tensor]]

    def select(self, rows: Tensor) -> Memory:
        """Some spectra of the memory; ``rows`` is int64 or bool [B']."""
        keys = [(key[rows], value[rows]) for key, value in self.keys]
        return Memory(self.table.select(rows), keys)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the spectrum says of one answer, and of every other residue at its slots.

    Attributes
    ----------
    x : float32 [N, S, D]
    answer : int64 [N, S]
        The answer that was laid on the spectrum.
    embedding : float32 [N, S, V, 2E]
    prior : float32 [N, S, V, 2]
        Log-probabilities of the scorer, forwards and backwards.
    support : float32 [N, S, V]
        Summed intensity of the b and y ions of each candidate, seen from the left anchor.
    """

    x: Tensor
    answer: Tensor
    embedding: Tensor
    prior: Tensor
    support: Tensor


def _of_answer(values: Tensor, answer: Tensor) -> Tensor:
    """What stands for the tokens of an answer [N, S] among values of all tokens [N, S, V, F]."""
    index = answer[..., None, None].expand(-1, -1, 1, values.shape[-1])
    return values.gather(2, index).squeeze(2)


class Tinynovo(nn.Module):
    """The whole network: evidence scorer, peak encoder, tiny network, heads."""

    def __init__(self, options: ModelOptions, evidence: EvidenceOptions) -> None:
        super().__init__()
        width, pair = options.width, 2 * evidence.embedding
        self.options = options
        self.scorer = EvidenceScorer(evidence)
        self.masses = MassEncoding(options)
        self.encoder = PeakEncoder(options, self.masses)
        self.blocks = nn.ModuleList(TinyBlock(options) for _ in range(options.blocks))
        self.token = nn.Embedding(VOCABULARY, width)
        self.scratch = nn.Parameter(torch.zeros(width))
        self.explain = nn.Linear(
            pair + 2 * VOCABULARY + 2 * self.masses.features + 8 + EXPLAINED, width
        )
        self.answer = nn.Linear(width, VOCABULARY)
        self.trust = nn.Linear(width, 2)
        self.keep = nn.Linear(width, 1)
        self.ask = nn.Linear(width, pair)
        self.judge = nn.Sequential(nn.Linear(3 * width + 4, width), nn.SiLU(), nn.Linear(width, 1))
        self.residue = nn.Linear(width, 1)
        self.lean = nn.Parameter(torch.tensor([2.0, 0.5, 1.5, 0.5]))
        nn.init.constant_(self.trust.bias, 0.2)
        for head in (self.judge[2], self.residue):
            nn.init.zeros_(head.get_parameter("weight"))
            nn.init.zeros_(head.get_parameter("bias"))
        nn.init.constant_(self.keep.bias, 4.0)

    def remember(self, batch: PeakBatch) -> Memory:
        """Annotate and encode the peaks of a batch of spectra."""
        table = peak_table(batch, self.scorer.options)
        peaks = self.encoder(table)
        crosses = [block.get_submodule("cross") for block in self.blocks]
        return Memory(table, [c.keys(peaks) for c in crosses if isinstance(c, Attention)])

    def start(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Y and z, both [N, S, D], for an answer int64 [N, S]."""
        y = self.token(answer)
        return y, self.scratch.expand_as(y)

    def network(self, x: Tensor, memory: Memory) -> Tensor:
        """The tiny network f: [N, S, D] to [N, S, D]."""
        for block, keys in zip(self.blocks, memory.keys, strict=True):
            x = block(x, keys, memory.table.batch.mask)
        return x

    def evidence(self, answer: Tensor, memory: Memory) -> Evidence:
        """Lay an answer, int64 [N, S], on the spectrum."""
        table = memory.table
        rows, count, slots = table.batch.mz.shape[0], answer.shape[0], answer.shape[1]
        mass = table.batch.residue_mass.repeat_interleave(count // rows)
        left, right = anchors(answer, mass)
        with torch.no_grad():
            one, forwards, two, backwards = self.scorer(table, answer)
        embedding = torch.cat([one, two], -1)
        prior = torch.stack([torch.log_softmax(part, -1) for part in (forwards, backwards)], -1)
        prior = prior.clamp(min=_LOW)
        own = _of_answer(embedding, answer) * (answer != PAD)[..., None]
        facts = self._facts(answer, left, right, mass, prior)
        places = torch.cat([self.masses(left), self.masses(right)], -1)
        spectrum = torch.arange(rows, device=left.device).repeat_interleave(count // rows)
        whole = explained_shares(table, spectrum, left, self.scorer.options)
        whole = whole[:, None, :].expand(-1, slots, -1)
        x = self.explain(torch.cat([own, prior.flatten(-2) / 4, places, facts, whole], -1))
        cut = left.flatten()[:, None] + token_masses(left.device)
        support = cut_support(table, spectrum.repeat_interleave(slots), cut).view(
            count, slots, VOCABULARY
        )
        return Evidence(x, answer, embedding, prior, support)

    def _facts(
        self, answer: Tensor, left: Tensor, right: Tensor, mass: Tensor, prior: Tensor
    ) -> Tensor:
        """Plain numbers about each slot: [N, S, 8]."""
        slack = closing_slack(mass)[:, None]
        gap = (right - left).to(torch.float32) * 1e-6
        own = _of_answer(prior, answer)
        whole = mass[:, None].to(torch.float32) * 1e-6
        return torch.stack(
            [
                (answer == PAD).to(torch.float32),
                ((left - mass[:, None]).abs() <= slack).to(torch.float32),
                (right.abs() <= slack).to(torch.float32),
                left.to(torch.float32) * 1e-6 / whole,
                (gap / 200).clamp(-5, 5),
                (gap / 0.05).clamp(-5, 5),
                own[..., 0] / 4,
                own[..., 1] / 4,
            ],
            -1,
        )

    def read(self, y: Tensor, evidence: Evidence) -> Tensor:
        """Logits [N, S, V]: the answer y, the evidence of every candidate, what was held."""
        asked = torch.einsum("nse,nsve->nsv", self.ask(y), evidence.embedding)
        trusted = torch.einsum("nst,nsvt->nsv", self.trust(y), evidence.prior)
        asked = asked / evidence.embedding.shape[-1] ** 0.5
        logits: Tensor = self.answer(y) + asked + trusted
        held: Tensor = self.keep(y) * functional.one_hot(evidence.answer, VOCABULARY)
        return logits + held

    @staticmethod
    def opinion(evidence: Evidence) -> Tensor:
        """Log-probability of each residue [N, S], mean of both directions; 0 for padding."""
        own = _of_answer(evidence.prior, evidence.answer).mean(-1)
        return own * (evidence.answer != PAD)

    def verdict(self, z: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Halt logit [N] and residue logits [N, S] of the answer that the evidence is about.

        Both start from what the scorer thinks of the answer, so that an untrained judge ranks as
        the draft does.
        """
        real = evidence.answer != PAD
        each = self.opinion(evidence)
        count = real.sum(1).clamp(min=1)
        total = each.sum(1)
        kept = z * real[..., None]
        mean = kept.sum(1) / count[:, None]
        lowest = z.masked_fill(~real[..., None], torch.inf).amin(1).nan_to_num(posinf=0.0)
        highest = z.masked_fill(~real[..., None], -torch.inf).amax(1).nan_to_num(neginf=0.0)
        about = torch.stack([total / 10, total / count, (total / 4).exp(), each.amin(1) / 4], -1)
        halt = self.judge(torch.cat([mean, lowest, highest, about], -1)).squeeze(-1)
        halt = halt + self.lean[0] + self.lean[1] * total
        residues = self.residue(z).squeeze(-1) + self.lean[2] + self.lean[3] * each
        return halt, residues
