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
from torch.nn.functional import pad

from tinynovo import checkpoint
from tinynovo.corpus import Corpus
from tinynovo.decoding import draft
from tinynovo.evidence import PeakTable, closing_slack
from tinynovo.losses import same_mass
from tinynovo.mixture import Mixture
from tinynovo.permitted import Permitted
from tinynovo.scorer import EvidenceScorer
from tinynovo.searching import BeamOptions
from tinynovo.tokens import PAD

_SHARD = 512
_BATCH = 16


class DraftOptions(BaseModel):
    """How many training spectra are drafted, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(
        32_768, ge=512, multiple_of=512, description="spectra, drawn from the mixture"
    )
    beam: BeamOptions = BeamOptions(n_beams=5, candidates=8, max_slots=41)


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

    def open(self, corpus: Corpus) -> Drafts:
        """Those of spectra that have right drafts and wrong ones."""
        tokens, truth = torch.from_numpy(self.tokens.astype(np.int64)), corpus.labels(self.rows)
        truth = pad(truth, (0, tokens.shape[2] - truth.shape[1]), value=PAD)
        right = same_mass(tokens, truth[:, None].expand_as(tokens)).all(2)
        wrong = (tokens[:, :, 0] != PAD) & ~right
        kept = (right.any(1) & wrong.any(1)).numpy()
        return Drafts(self.rows[kept], self.tokens[kept])


@dataclass(frozen=True, eq=False)
class DraftPlan:
    """What drafts are made with, and where they are kept.

    Attributes
    ----------
    mixture : Mixture
    source : Path
        Checkpoint of the scorer.
    options : DraftOptions
    cache : Path
    seed : int
    noise_ppm : float
        Standard deviation of the noise on precursor masses.
    workers : int
        Processes.
    """

    mixture: Mixture
    source: Path
    options: DraftOptions
    cache: Path
    seed: int
    noise_ppm: float
    workers: int

    @property
    def folder(self) -> Path:
        """Named by the digest of all that the drafts are made with."""
        facts = hashlib.sha256(self.source.read_bytes())
        facts.update(self.mixture.cumulative.tobytes())
        facts.update(f"{self.options.beam.model_dump_json()} {self.seed} {self.noise_ppm}".encode())
        return self.cache / f"drafts-{facts.hexdigest()[:12]}"

    def make(self) -> Iterator[int]:
        """Draft what is not drafted yet; yields the number of spectra done after each shard.

        Raises
        ------
        InputError
            When the scorer cannot be read.
        """
        scorer, folder = checkpoint.load_scorer(self.source), self.folder
        folder.mkdir(parents=True, exist_ok=True)
        shards = range(self.options.count // _SHARD)
        todo = [shard for shard in shards if not _file(folder, shard).is_file()]
        context = get_context("spawn")
        with ProcessPoolExecutor(self.workers, context, _share, (self, scorer, folder)) as pool:
            for done, _ in enumerate(pool.map(_shard, todo), len(shards) - len(todo) + 1):
                yield done * _SHARD

    def read(self) -> Drafts:
        """All drafts, in the order of their shards."""
        folder, shards = self.folder, range(self.options.count // _SHARD)
        parts = [load_file(_file(folder, shard)) for shard in shards]
        return Drafts(
            np.concatenate([part["rows"] for part in parts]),
            np.concatenate([part["tokens"] for part in parts]),
        )


_SHARED: list[tuple[DraftPlan, EvidenceScorer, Path]] = []


def _share(plan: DraftPlan, scorer: EvidenceScorer, folder: Path) -> None:
    """Give a process what all of its shards need."""
    _SHARED[:] = [(plan, scorer, folder)]
    torch.set_num_threads(1)


def _file(folder: Path, shard: int) -> Path:
    return folder / f"drafts-{shard:05d}.safetensors"


def _shard(shard: int) -> None:
    plan, scorer, folder = _SHARED[0]
    mixture, beam = plan.mixture, plan.options.beam
    rng = np.random.default_rng([plan.seed, shard])
    rows = mixture.draw(_SHARD, rng)
    rows = rows[np.argsort(mixture.corpus.mass[rows], kind="stable")]
    parts = []
    for begin in range(0, _SHARD, _BATCH):
        batch, _ = mixture.corpus.batch(rows[begin : begin + _BATCH], plan.noise_ppm, rng)
        with torch.inference_mode():
            table = PeakTable(batch, scorer.options)
            window = closing_slack(batch.residue_mass)
            found = draft(scorer, table, beam, Permitted.by({}), window).tokens
            missing = beam.candidates - found.shape[1]
            parts.append(pad(found, (0, 0, 0, missing), value=PAD).numpy())
    order = rng.permutation(_SHARD)
    tokens = np.concatenate(parts).astype(np.uint8)[order]
    part = _file(folder, shard).with_suffix(".part")
    save_file({"rows": rows[order], "tokens": np.ascontiguousarray(tokens)}, part)
    part.replace(_file(folder, shard))
