"""What it is worth to know the charge and the modifications: recall with more and less said.

The same spectra are sequenced as they are, with their charges taken away, and with the
modifications switched as docs/modifications.md advises. Run ``python benchmarks/hypotheses.py``
(a quarter of an hour). Writes ``results/hypotheses.json``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from common import DATA, FILES, Labelled, Results, about, arguments, told

from tinynovo import config
from tinynovo.evaluation import evaluate
from tinynovo.options import SequencingOptions
from tinynovo.sequencing import Sequencer

SWITCHED = {
    FILES[0]: ("mods.TMT6plex=off", "mods.Phospho=off"),
    FILES[1]: ("mods.TMT6plex=fixed", "mods.Phospho=off"),
}


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__.splitlines()[0], "hypotheses.json")
    parser.add_argument("--limit", type=int, default=276, help="spectra a file; default: 276")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    values: dict[str, Any] = {"about": about(given.model), "limit": given.limit, "files": {}}
    results = Results(given.output, values)
    for file in FILES:
        labelled = Labelled(DATA / file, given.limit)
        uncharged = [replace(spectrum, precursor_charge=None) for spectrum in labelled.spectra]
        ways = {
            "as_it_is": (labelled.spectra, ()),
            "charge_unknown": (uncharged, ()),
            "modifications_said": (labelled.spectra, SWITCHED[file]),
        }
        values["files"][file] = found = {}
        for way, (spectra, overrides) in ways.items():
            options = config.load(SequencingOptions, None, overrides)
            sequencer = Sequencer.load(given.model, options, device="cpu")
            begin = time.monotonic()
            psms = (psm for psm in sequencer.sequence(spectra) if psm.rank == 1)
            answers = list(told(psms, len(spectra), f"{file} {way}"))
            metrics = evaluate(labelled.peptides, answers, charges=labelled.charges).published
            right = sum(
                psm.precursor_charge == charge
                for psm, charge in zip(answers, labelled.charges, strict=True)
            )
            found[way] = {
                "spectra": len(spectra),
                "options": list(overrides),
                "peptide_recall": metrics.peptide_recall,
                "interval": metrics.intervals["peptide_recall"],
                "auc": metrics.auc,
                "charge_right": right / len(spectra),
                "seconds": time.monotonic() - begin,
            }
            print(file, way, found[way], flush=True)
            results.save()
    results.finish()


if __name__ == "__main__":
    main()
