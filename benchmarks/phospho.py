"""Phosphopeptides on rendered spectra: no measured ones are held back, so validation peptides are.

Every label-free validation peptide with a serine, threonine or tyrosine is rendered twice, with
heuristic intensities and the noise of measured training spectra: as it is, and with a phosphate on
one of them, drawn by chance. What this says of measured phosphopeptides is how far the phosphate
disturbs, not how many are read. Run ``python benchmarks/phospho.py`` (some minutes). Writes
``results/phospho.json``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import DATA, FILES, Labelled, Results, about, arguments, told

from tinynovo import config
from tinynovo.evaluation import evaluate
from tinynovo.noise import NoiseBank
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.readers import read_spectra
from tinynovo.rendering import SimulationOptions
from tinynovo.sequencing import Sequencer
from tinynovo.simulation import simulate

SEED = 0


def with_phosphate(peptide: Peptide, rng: np.random.Generator) -> Peptide:
    """The same with a phosphate on one of its residues that can have it."""
    sites = [n for n, token in enumerate(peptide.tokens) if token in ("S", "T", "Y")]
    site = int(rng.choice(sites))
    tokens = [f"{t}[Phospho]" if n == site else t for n, t in enumerate(peptide.tokens)]
    return Peptide(tuple(tokens))


def main() -> None:
    """Render, sequence and count."""
    parser = arguments(__doc__.splitlines()[0], "phospho.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    labelled = Labelled(DATA / FILES[0], None)
    charges = dict(zip(labelled.peptides, labelled.charges, strict=True))
    plain = [p for p in charges if {"S", "T", "Y"} & set(p.tokens)]
    rng = np.random.default_rng(SEED)
    kinds = {"as it is": plain, "phosphorylated": [with_phosphate(p, rng) for p in plain]}
    noise = NoiseBank.build(read_spectra(DATA / "labelfree_hcd_train.parquet"))
    sequencer = Sequencer.load(given.model, config.load(SequencingOptions, None, []), device="cpu")
    values: dict[str, Any] = {"about": about(given.model), "peptides": {}}
    results = Results(given.output, values)
    for kind, peptides in kinds.items():
        known = [charges[p] or 2 for p in plain]
        options = SimulationOptions()
        spectra = simulate(peptides, known, options, np.random.default_rng(SEED), noise)
        answers = (psm for psm in sequencer.sequence(spectra) if psm.rank == 1)
        psms = list(told(answers, len(spectra), kind))
        values["peptides"][kind] = found = evaluate(peptides, psms).as_dict()
        found["placed"] = sum(
            psm.peptide is not None and psm.peptide.sequence == peptide.sequence
            for psm, peptide in zip(psms, peptides, strict=True)
        )
        print(kind, found["published"]["peptide_recall"], found["placed"], flush=True)
        results.save()
    results.finish()


if __name__ == "__main__":
    main()
