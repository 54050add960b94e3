"""Layers: what the network is built of.

Knows the mass encoding, attention, the peak encoder and the block of the tiny network, each of the
shape that `ModelOptions` gives; `tinynovo.blocks` stands in for blocks where nothing is learned on
a CPU. Does not know answers, evidence of candidates nor the recursion.

Axes: B spectra, A answers a spectrum, N = B * A, P peaks, S slots, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from tinynovo import blocks
from tinynovo.cuts import ANNOTATIONS, GLOBALS
from tinynovo.errors import InputError
from tinynovo.evidence import PeakTable, compiled
from tinynovo.masses import udalton

SEPARATION = 0.5
"""Smallest L2 distance that the mass encoding must give masses that mean different residues."""

SEPARATED = (1.0, 0.98402, 0.03638, 0.03301)
"""Mass differences in Da it must tell apart: 1 Da, I/N, K/Q, F/M[Oxidation]."""


class ModelOptions(BaseModel):
    """Shape of the network; frozen in the checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(128, ge=16, description="features of every vector")
    blocks: int = Field(2, ge=1, description="blocks of the tiny network")
    encoder_blocks: int = Field(
        1, ge=0, description="blocks of the peak encoder; 0: no attention to peaks"
    )
    expectation_blocks: int = Field(
        0, ge=0, description="blocks of the network that expects spectra; 0: nothing is expected"
    )
    expectation_width: int = Field(128, ge=16, description="features of its vectors")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="features that encoders forget while they are trained"
    )
    heads: int = Field(4, ge=1, description="attention heads")
    expansion: int = Field(2, ge=1, description="hidden features of SwiGLU, in widths")
    shortest_wavelength: float = Field(0.02, gt=0, description="of the mass encoding, Da")
    longest_wavelength: float = Field(4000.0, gt=0, description="of the mass encoding, Da")
    wavelengths: int = Field(24, ge=2, description="sinusoids of the mass encoding")
    allow_blind: bool = Field(
        False,
        description="build the network even where its mass encoding cannot tell residues "
        "apart: only to repeat a failure",
    )
    evidence: Literal["shared", "flat", "off"] = Field(
        "shared",
        description="what the spectrum says of every candidate residue: by one network shared over "
        "candidates, to the input and the logits; as one flat vector to the input; not at all",
    )
    hold: float = Field(
        4.0, description="logit by which an untrained network holds on to the answer laid out"
    )

    @field_validator("evidence", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # what YAML makes of a bare off

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelOptions:
        for width in (self.width, self.expectation_width):
            if width % self.heads:
                raise ValueError(f"{self.heads} heads do not divide a width of {width}")
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
        if not options.allow_blind:
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


class Norm(nn.RMSNorm):
    """RMSNorm in the precision of what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=blocks.EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        weight = self.get_parameter("weight").to(x.dtype)
        return nn.functional.rms_norm(x, self.normalized_shape, weight, self.eps)


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
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """Attend; ``mask`` is bool [N, M], true where the memory is real: left out, everywhere."""
        told = None if mask is None else mask[:, None, None, :]
        found = nn.functional.scaled_dot_product_attention(
            self._split(self.query(x)), *keys, attn_mask=told
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


def _compiles(x: Tensor) -> bool:
    """Whether a compiled block can stand in for one that is told x."""
    return compiled(x) and x.dtype == torch.float32


def _run(
    x: Tensor,
    real: Tensor,
    attention: Attention,
    gate: SwiGLU,
    norms: nn.ModuleList,
    *,
    before: bool,
) -> Tensor:
    """What a block of these layers makes of x [N, S, D], compiled; real is bool [N, S]."""
    layers = (attention.query, attention.memory, attention.out, gate.up, gate.down, *norms)
    weights = [layer.get_parameter("weight").detach().numpy().T for layer in layers]
    out = x.clone(memory_format=torch.contiguous_format)
    block = blocks.Block(before, attention.heads, *weights)
    blocks.run(out.view(-1, x.shape[-1]).numpy(), real.numpy(), block)
    return out


class EncoderBlock(nn.Module):
    """Self-attention and SwiGLU over peaks."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.attention = Attention(options.width, options.heads)
        self.gate = SwiGLU(options.width, options.expansion)
        self.norms = nn.ModuleList(Norm(options.width) for _ in range(2))
        self.forget = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, P, D] to [B, P, D]."""
        if _compiles(x) and not self.training:
            return _run(x, mask, self.attention, self.gate, self.norms, before=True)
        normed = self.norms[0](x)
        x = x + self.forget(self.attention(normed, self.attention.keys(normed), mask))
        out: Tensor = x + self.forget(self.gate(self.norms[1](x)))
        return out


class PeakEncoder(nn.Module):
    """Peaks to vectors: [B, P, D].

    Without evidence it is told the intensity and rank of a peak, not what stands around it.
    """

    def __init__(self, options: ModelOptions, masses: MassEncoding) -> None:
        super().__init__()
        self.masses = masses
        self.told = 2 if options.evidence == "off" else 2 + ANNOTATIONS
        self.embed = nn.Linear(2 * masses.features + self.told + GLOBALS, options.width)
        self.blocks = nn.ModuleList(EncoderBlock(options) for _ in range(options.encoder_blocks))
        self.norm = Norm(options.width)

    def forward(self, table: PeakTable, rows: Tensor) -> Tensor:
        """Encode the peaks of some spectra, seen from both ends of the precursor."""
        mz, mask = table.batch.mz[rows], table.batch.mask[rows]
        mirrored = table.batch.residue_mass[rows, None] - mz
        known = table.globals[rows, None, :].expand(-1, mz.shape[1], -1)
        told = table.features[rows, :, : self.told]
        parts = [self.masses(mz), self.masses(mirrored), told, known]
        x = self.embed(torch.cat(parts, -1))
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x)
        return out


class TinyBlock(nn.Module):
    """Self-attention over slots, cross-attention to peaks if any, SwiGLU; RMSNorm after each."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        peaks = options.encoder_blocks > 0
        self.own = Attention(options.width, options.heads)
        self.cross = Attention(options.width, options.heads) if peaks else None
        self.gate = SwiGLU(options.width, options.expansion)
        self.norms = nn.ModuleList(Norm(options.width) for _ in range(2 + peaks))

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor] | None, mask: Tensor) -> Tensor:
        """[N, S, D] to [N, S, D]; the peaks of a spectrum serve all its answers."""
        if _compiles(x) and not self.cross:
            real = torch.ones(x.shape[:2], dtype=torch.bool)
            return _run(x, real, self.own, self.gate, self.norms, before=False)
        x = self.norms[0](x + self.own(x, self.own.keys(x)))
        if self.cross and keys:
            rows = mask.shape[0]
            seen = self.cross(x.view(rows, -1, x.shape[-1]), keys, mask)
            x = self.norms[1](x + seen.view_as(x))
        out: Tensor = self.norms[-1](x + self.gate(x))
        return out
