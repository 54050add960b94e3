"""Spectra and networks small enough to be known by heart, for the tests of the core rooms."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tinynovo.checkpoint import Checkpoint, Frozen
from tinynovo.decoding import directed_scores
from tinynovo.evidence import EvidenceOptions, PeakTable
from tinynovo.layers import ModelOptions
from tinynovo.masses import MICRO, ion_mz
from tinynovo.model import Tinynovo
from tinynovo.peptide import Peptide, fragments
from tinynovo.permitted import Permitted
from tinynovo.recursion import RecursionOptions
from tinynovo.scorer import EvidenceScorer
from tinynovo.spectrum import Peaks, Preprocessing, Spectrum, preprocess
from tinynovo.tokens import PAD, VOCABULARY, PeakBatch, peak_batch, token_ids

EVIDENCE = EvidenceOptions(hidden=16, embedding=4)
SHAPE = ModelOptions(width=32, blocks=1, heads=2, expectation_blocks=1, expectation_width=32)
KEEP_ALL = Preprocessing(min_peaks=1)


def ladder(peptide: str, charge: int = 2, index: int = 0, **fields: object) -> Spectrum:
    """All b and y ions, 1+ and 2+, of a peptide; intensities that differ; labelled."""
    parsed = Peptide.parse(peptide)
    mz = np.array(sorted(ion.mz for ion in fragments(parsed, charges=(1, 2))))
    known = {
        "precursor_mz": ion_mz(parsed.mass_udalton / MICRO, charge),
        "precursor_charge": charge,
        "identifier": f"index={index}",
        "index": index,
        "peptide": peptide,
    }
    intensity = 1.0 + np.arange(mz.size) % 7
    return Spectrum(mz=mz, intensity=intensity, **{**known, **fields})


def cleaned(spectrum: Spectrum) -> Peaks:
    """A spectrum that is known to be usable."""
    peaks = preprocess(spectrum, KEEP_ALL)
    assert isinstance(peaks, Peaks)
    return peaks


def batch_of(*peptides: str) -> PeakBatch:
    """The ladders of some peptides."""
    return peak_batch([cleaned(ladder(peptide)) for peptide in peptides])


def without(*tokens: str) -> Permitted:
    """Every token but some is permitted, plain residues too."""
    mask = torch.ones(VOCABULARY, dtype=torch.bool)
    mask[token_ids(tokens)] = False
    return Permitted(mask, mask)


def network(seed: int = 0) -> Tinynovo:
    """A tiny network that was never trained."""
    torch.manual_seed(seed)
    return Tinynovo(SHAPE, EVIDENCE).eval()


def loaded(seed: int = 0) -> Checkpoint:
    """That network as a checkpoint holds it; it has opinions and can be brief."""
    model = network(seed)
    for head in (model.judge[-1], model.ranker[-1], model.residue):
        torch.nn.init.normal_(head.weight)
    torch.nn.init.zeros_(model.keep.bias)
    with torch.no_grad():
        model.answer.bias[PAD] += 1.0
    recursion = RecursionOptions(latent_updates=1, cycles=2, supervision_steps=2)
    return Checkpoint(model, Frozen(model=SHAPE, evidence=EVIDENCE, recursion=recursion))


def answer_scores(
    scorer: EvidenceScorer, table: PeakTable, answers: Tensor, permitted: Permitted
) -> Tensor:
    """Log-probability [B, K] of answers [B, K, S], mean of both directions."""
    row = torch.arange(answers.shape[0]).repeat_interleave(answers.shape[1])
    asked = (table, row, answers.flatten(0, 1), permitted)
    both = [directed_scores(way, *asked) for way in (scorer.forwards, scorer.backwards)]
    score = (sum(both) / 2).view(answers.shape[:2])
    return score.masked_fill((answers == PAD).all(-1), -torch.inf)
