"""Write the tables of ``docs/confidence.md`` from the results of the benchmarks.

Run ``python benchmarks/trust.py`` (part of ``make card``) after ``confidence.py``,
``hypotheses.py`` and ``search.py``; a test fails when the page is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from card import BLOCK, RESULTS, ROOT, check_weights, commands, described, number, table
from scipy.stats import binomtest

from tinynovo import checkpoint

PAGE = ROOT / "docs" / "confidence.md"
NAMES = ("confidence", "hypotheses", "search")
LEARNED = {
    "other peptides": "other peptides (five folds)",
    "other sources": "the other laboratories",
    "the other file": "the other label chemistry",
}
WAYS = {
    "as_it_is": "as the file says",
    "charge_unknown": "the charge taken away",
    "modifications_said": "modifications switched",
}


def page() -> str:
    """What the page must say.

    Raises
    ------
    ValueError
        When results are of other weights.
    """
    results = {name: json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in NAMES}
    check_weights(results, checkpoint.fingerprint(checkpoint.default_path()))
    parts = (reliability, discoveries, hypotheses, search)
    lines = [line for part in parts for line in (*part(results), "")]
    block = "\n".join(lines)
    return BLOCK.sub(lambda m: m[1] + block + m[2], PAGE.read_text("utf-8"))


def reliability(results: Mapping[str, Any]) -> Iterator[str]:
    """How far scores are from being probabilities."""
    yield "![Reliability, and false discoveries over the rate asked for](figures/confidence.png)"
    yield ""
    yield (
        "Scores of labelled spectra, from regressions fitted to others: the expected calibration "
        "error in ten bins with its 95 % interval (probabilities that are exactly right show the "
        "error in the last column but one, by chance), and how well scores tell right from wrong."
    )
    yield ""
    rows = []
    for effort, ways in results["confidence"]["efforts"].items():
        for learned, what in LEARNED.items():
            for file, found in ways[learned].items():
                rows.append(
                    [
                        described(file),
                        str(found["answers"]),
                        effort,
                        what,
                        number(found["calibration_error"])
                        + between(found["calibration_error_interval"]),
                        number(found["residue_calibration_error"]),
                        number(found["calibration_error_of_true_probabilities"]),
                        number(found["roc_auc"]),
                    ]
                )
    header = ["spectra", "n", "effort", "fitted to", "error", "of residues", "by chance", "ROC"]
    yield from table(header, rows)
    yield ""
    yield from commands("confidence", "", results["confidence"]["about"])


def discoveries(results: Mapping[str, Any]) -> Iterator[str]:
    """What a rate that is asked for keeps, and how much of it is wrong."""
    yield (
        "Wrong ones among those that a false discovery rate keeps (fitted to other peptides), with "
        "the wider of a bootstrap over peptides and the exact binomial interval, 95 %:"
    )
    yield ""
    rows = []
    for effort, ways in results["confidence"]["efforts"].items():
        for file, found in ways["other peptides"].items():
            for rate, kept in found["discoveries"].items():
                share = number(kept["proportion"]) + between(widened(kept))
                cells = [described(file), effort, f"{100 * float(rate):g} %"]
                rows.append([*cells, str(kept["kept"]), str(kept["wrong"]), share])
    header = ["spectra", "effort", "rate asked for", "kept", "wrong", "share wrong"]
    yield from table(header, rows)


def widened(kept: Mapping[str, Any]) -> list[float]:
    """The bootstrap interval of a share, or the binomial one (Clopper & Pearson) where wider."""
    low, high = kept["interval"]
    exact = binomtest(kept["wrong"], kept["kept"]).proportion_ci(0.95) if kept["kept"] else (0, 1)
    return [min(low, exact[0]), max(high, exact[1])]


def hypotheses(results: Mapping[str, Any]) -> Iterator[str]:
    """What knowing the charge and the modifications is worth."""
    found = results["hypotheses"]
    yield "The charge is tried where the file does not say it; modifications can be said:"
    yield ""
    rows = []
    for file, ways in found["files"].items():
        for way, figures in ways.items():
            recall = number(figures["peptide_recall"]) + between(figures["interval"])
            cells = [described(file), str(figures["spectra"]), WAYS[way], recall]
            cells += [number(figures["auc"]), number(figures["charge_right"])]
            rows.append([*cells, f"{figures['seconds'] / figures['spectra']:.2f}"])
    header = ["spectra", "n", "", "peptide recall", "AUC", "charge right", "seconds each"]
    yield from table(header, rows)
    yield ""
    yield from commands("hypotheses", f" --limit {found['limit']}", found["about"])


def search(results: Mapping[str, Any]) -> Iterator[str]:
    """The judge as a search engine beside Comet."""
    found = results["search"]
    yield (
        "The judge against Comet on the same spectra and FASTA, at 1 % FDR by decoys. Half of the "
        "labelled peptides are not in the FASTA: what is identified of their spectra is wrong. The "
        "labels are Comet's, so that no spectrum is among them that Comet does not find."
    )
    yield ""
    rows = []
    for file, tools in found["files"].items():
        for tool in ("comet", "tinynovo"):
            one = tools[tool]
            cells = [described(file), str(tools["spectra"]), str(tools["in_database"]), tool]
            cells += [str(one[n]) for n in ("identified", "as_labelled")]
            cells += [number(one["false_discovery_proportion"])]
            rows.append([*cells, str(one["best_candidate_as_labelled"])])
    header = ["spectra", "n", "in the FASTA", "", "identified", "as labelled", "share wrong"]
    yield from table([*header, "best target as labelled"], rows)
    yield ""
    yield from commands("search", f" --limit {found['limit']}", found["about"])


def between(ends: list[float]) -> str:
    """An interval behind a figure."""
    return f" ({ends[0]:.3f}-{ends[1]:.3f})"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {Path(PAGE).name}")
