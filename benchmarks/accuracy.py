"""How many peptides are right: the draft alone, the loop from nothing, and both together.

Run ``python benchmarks/accuracy.py``; writes ``results/accuracy.json``. Predictions of any tool are
scored by the same evaluator with ``--predictions FILE --labelled FILE --output FILE``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import DATA, FILES, Labelled, Results, about, arguments, told

from tinynovo import __version__, config
from tinynovo.comparing import evaluate_files
from tinynovo.evaluation import DEFINITIONS, Metrics, evaluate
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide, fragments
from tinynovo.psm import PSM
from tinynovo.sequencing import Sequencer
from tinynovo.spectrum import Peaks, Preprocessing, Spectrum, preprocess

STRATEGIES = ("draft", "empty", "full")


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__.splitlines()[0], "accuracy.json")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled files")
    parser.add_argument("--limit", type=int, help="so many spectra of each file, evenly spread")
    parser.add_argument("--set", action="append", default=[], help="option of sequence, KEY=VALUE")
    parser.add_argument("--predictions", type=Path, help="score this file instead")
    parser.add_argument("--labelled", type=Path, help="the spectra that it predicts")
    given = parser.parse_args()
    if given.predictions:
        if given.labelled is None or given.output == parser.get_default("output"):
            parser.error("--predictions needs --labelled and --output")
        score(given.predictions, given.labelled, given.output)
        return
    torch.set_num_threads(given.threads)
    values: dict[str, Any] = {
        "about": about(given.model),
        "limit": given.limit,
        "options": {},
        "definitions": DEFINITIONS,
        "files": {},
    }
    results = Results(given.output, values)
    for file in FILES:
        labelled = Labelled(given.data / file, given.limit)
        values["files"][file] = found = {}
        answers: dict[str, list[PSM]] = {}
        for strategy in STRATEGIES:
            overrides = [*given.set, f"strategy={strategy}"]
            options = config.load(SequencingOptions, None, overrides)
            values["options"] = options.model_dump(mode="json", exclude={"strategy"})
            sequencer = Sequencer.load(given.model, options, device="cpu")
            begin = time.monotonic()
            answers[strategy] = best(sequencer, labelled, f"{file} {strategy}")
            seconds = time.monotonic() - begin
            metrics = compared(labelled, answers[strategy])
            found[strategy] = figures(metrics) | {"seconds": seconds}
            recall = metrics.published.peptide_recall
            print(f"{file} {strategy}: peptide recall {recall:.4f}", flush=True)
            results.save()
        found["draft_against_full"] = paired(labelled.peptides, answers["draft"], answers["full"])
        unseen = [
            cuts_unseen(s, p) for s, p in zip(labelled.spectra, labelled.peptides, strict=True)
        ]
        groups = evaluate(labelled.peptides, answers["full"], sources=unseen, resamples=0).groups
        found["full_by_cuts"] = {name: groups["source"][name] for name in sorted(groups["source"])}
    results.finish()


def best(sequencer: Sequencer, labelled: Labelled, what: str) -> list[PSM]:
    """The best answer to every spectrum."""
    psms = (psm for psm in sequencer.sequence(labelled.spectra) if psm.rank == 1)
    return list(told(psms, len(labelled.spectra), what))


def compared(labelled: Labelled, psms: list[PSM]) -> Metrics:
    """Figures, broken down by length, modification, charge and source."""
    return evaluate(labelled.peptides, psms, charges=labelled.charges, sources=labelled.sources)


def cuts_unseen(spectrum: Spectrum, peptide: Peptide) -> str:
    """How many bonds of the true peptide, beside the first, show no b or y ion, 1+ or 2+."""
    peaks = preprocess(spectrum, Preprocessing(min_peaks=1), spectrum.precursor_charge)
    mz = peaks.mz * 1e-6 if isinstance(peaks, Peaks) else np.array([-1e3, 1e6])
    seen = np.zeros(len(peptide) + 1, bool)
    for ion in fragments(peptide, charges=(1, 2)):
        found = np.abs(mz - ion.mz).min() <= ion.mz * 12e-6 + 0.008
        seen[ion.ordinal if ion.series == "b" else len(peptide) - ion.ordinal] |= found
    others = int((~seen[2 : len(peptide)]).sum())
    kinds = ("0", "1", "2", "3 or more")
    return f"{kinds[min(others, 3)]} unseen, the first {'' if seen[1] else 'un'}seen"


def figures(metrics: Metrics) -> dict[str, Any]:
    """Everything counted; the definitions stand once above."""
    values = metrics.as_dict()
    del values["definitions"]
    return values


def paired(truths: list[Peptide], one: list[PSM], two: list[PSM]) -> dict[str, int]:
    """Spectra by which of two answers is exactly right."""
    rights = [(a.peptide == t, b.peptide == t) for t, a, b in zip(truths, one, two, strict=True)]
    return {
        "both": rights.count((True, True)),
        "draft_only": rights.count((True, False)),
        "full_only": rights.count((False, True)),
        "neither": rights.count((False, False)),
    }


def score(predictions: Path, labelled: Path, output: Path) -> None:
    """Evaluate a file of predictions of any tool."""
    metrics = evaluate_files(predictions, [labelled], None, lambda _: None)
    print(f"peptide recall {metrics.published.peptide_recall:.4f}")
    values = {
        "about": {"version": __version__, "predictions": predictions.name},
        "definitions": DEFINITIONS,
        "files": {labelled.name: {"predictions": figures(metrics)}},
    }
    Results(output, values).finish()


if __name__ == "__main__":
    main()
