"""Drafting for training: what the scorer's beam search answers to training spectra.

Knows how drafts are made once, in shards that survive an interruption, and read back. Does not
know the loop that learns from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load_file, save_file

from tinynovo import checkpoint
from tinynovo.decoding import BeamOptions, draft
from tinynovo.evidence import peak_table
from tinynovo.mixture import Mixture, claim
from tinynovo.scorer import EvidenceScorer, closing_slack
from tinynovo.tokens import PAD, VOCABULARY

_SHARD = 512
_BATCH = 16


class DraftOptions(BaseModel):
    """How many training spectra are drafted, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(
        32_768, ge=512, multiple_of=512, description="spectra, drawn from the mixture"
    )
    beam: BeamOptions = BeamOptions(n_beams=5, candidates=8, max_slots=41)
    workers: int = Field(2, ge=1, description="processes")


@dataclass(frozen=True, eq=False)
class Drafts:
    """Drafts of some rows of a corpus.

    Attributes
    ----------
    rows : int64, shape (drafted,)
    tokens : uint8, shape (drafted, candidates, slots)
        Best first, padded.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.uint8]


_Shared = tuple[Mixture, EvidenceScorer, DraftOptions, int, Path, float]
_SHARED: list[_Shared] = []


def make_drafts(
    mixture: Mixture, source: Path, options: DraftOptions, cache: Path, seed: int, noise_ppm: float
) -> Iterator[int]:
    """Draft what is not drafted yet; yields the number of spectra done after each shard.

    Raises
    ------
    InputError
        When the cache holds drafts of another scorer or made in another way.
    """
    scorer = checkpoint.load_scorer(source)
    facts: dict[str, str | int | float] = {
        "scorer": hashlib.sha256(source.read_bytes()).hexdigest(),
        "mixture": hashlib.sha256(mixture.cumulative.tobytes()).hexdigest(),
        "beam": options.beam.model_dump_json(),
        "seed": seed,
        "precursor noise": noise_ppm,
    }
    claim(cache, facts)
    shards = range(options.count // _SHARD)
    todo = [shard for shard in shards if not _file(cache, shard).is_file()]
    shared = (mixture, scorer, options, seed, cache, noise_ppm)
    with ProcessPoolExecutor(options.workers, get_context("spawn"), _share, shared) as pool:
        for done, _ in enumerate(pool.map(_shard, todo), len(shards) - len(todo) + 1):
            yield done * _SHARD


def _share(*shared: *_Shared) -> None:
    """Give a process what all of its shards need."""
    _SHARED[:] = [shared]
    torch.set_num_threads(1)


def read_drafts(cache: Path, count: int) -> Drafts:
    """All drafts of a cache, in the order of their shards."""
    parts = [load_file(_file(cache, shard)) for shard in range(count // _SHARD)]
    return Drafts(
        np.concatenate([part["rows"] for part in parts]),
        np.concatenate([part["tokens"] for part in parts]),
    )


def _file(cache: Path, shard: int) -> Path:
    return cache / f"drafts-{shard:05d}.safetensors"


def _shard(shard: int) -> None:
    mixture, scorer, options, seed, cache, noise_ppm = _SHARED[0]
    rng = np.random.default_rng([seed, shard])
    rows = mixture.draw(_SHARD, rng)
    rows = rows[np.argsort(mixture.corpus.mass[rows], kind="stable")]
    banned = torch.zeros(VOCABULARY, dtype=torch.bool)
    banned[PAD] = True
    parts = []
    for begin in range(0, _SHARD, _BATCH):
        batch, _ = mixture.corpus.batch(rows[begin : begin + _BATCH], noise_ppm, rng)
        with torch.inference_mode():
            table = peak_table(batch, scorer.options)
            window = closing_slack(batch.residue_mass)
            parts.append(draft(scorer, table, options.beam, banned, window).tokens.numpy())
    order = rng.permutation(_SHARD)
    tokens = np.concatenate(parts).astype(np.uint8)[order]
    part = _file(cache, shard).with_suffix(".part")
    save_file({"rows": rows[order], "tokens": np.ascontiguousarray(tokens)}, part)
    part.replace(_file(cache, shard))
