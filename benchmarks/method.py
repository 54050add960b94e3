"""Write ``docs/method.md`` from its template and the committed results.

Run ``python benchmarks/method.py`` (``make method``) after ``arms.py``, ``grid.py`` and the
benchmarks of the packaged weights; a test fails when the page is stale. Every number of the page
that is a result comes from ``results/*.json``; the words stand in ``method.template.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from tinynovo.review import told

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATE = ROOT / "benchmarks" / "method.template.md"
PAGE = ROOT / "docs" / "method.md"
ARMS = {
    "baseline": "as it was",
    "fixed": "with its own repairs",
    "evidence": "with evidence",
}
FIGURES = {
    "cross_entropy": ("cross-entropy", "2.48 → 1.65", "< 1.2"),
    "token_accuracy": ("token accuracy", "0.438", "> 0.70"),
    "sequence_accuracy": ("sequence accuracy", "0", "> 0.05"),
    "mean_error_ppm": ("mean mass error, ppm", "59,000", "< 10,000"),
    "median_error_ppm": ("median mass error, ppm", "", ""),
    "length_accuracy": ("length accuracy", "0.9 (± 1)", ""),
}
"""Of the run of December 2025, after 10,000 steps, and what its author expected of the repairs."""

RECORDED_LOSS = (1.701, 1.661, 1.642, 1.651, 1.642)
"""Of that run, by supervision step; the rest about 1.65."""


def page() -> str:
    """The whole page."""
    names = ("arms", "grid", "accuracy", "realism", "refinement")
    results = {name: json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in names}
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        **results,
        arms_table=arms_table(results["arms"]),
        steps_table=steps_table(results["arms"]),
        question=lambda name: question(results["grid"], name),
        told=told,
        strategies=strategies(results["accuracy"]),
        told_apart=told_apart(results["realism"]),
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arms_table(arms: dict[str, Any]) -> str:
    """Every figure of the three arms beside the recorded and the expected ones."""
    found = arms["arms"]
    header = ["figure", "recorded, 10,000 steps", "expected once repaired", *ARMS.values()]
    rows = [
        [text, recorded, expected, *(told(found[arm]["end"][name]) for arm in ARMS)]
        for name, (text, recorded, expected) in FIGURES.items()
    ]
    bits = [told(found[arm]["entropy_bits"]) for arm in ARMS]
    rows.append(["entropy of the logits, bits", "1.77 of 4.58", "", *bits])
    apart = [f"{found[arm]['distance_of_leucine_and_asparagine']:.4f}" for arm in ARMS]
    rows.append(["encoding: I and N apart", "0.0082", "> 0.5", *apart])
    return table(header, rows)


def steps_table(arms: dict[str, Any]) -> str:
    """Loss and flip rate by supervision step."""
    most = max(found["trained_steps"] for found in arms["arms"].values())
    header = ["supervision step", *(str(step + 1) for step in range(most))]
    recorded = [f"{loss:.3f}" for loss in RECORDED_LOSS]
    rows = [["recorded: loss", *recorded, *["~1.65"] * (most - len(recorded))]]
    for arm, text in ARMS.items():
        for name, what in (("cross_entropy", "cross-entropy"), ("flip_rate", "flip rate")):
            cells = [told(pair) for pair in arms["arms"][arm]["by_step"][name]]
            rows.append([f"{text}: {what}", *cells])
    return table(header, rows)


def question(grid: dict[str, Any], name: str) -> str:
    """What each answer to a question of the grid came to."""
    rows = []
    for answer, found in grid["questions"][name].items():
        cells = [
            told(found[place][what])
            for place, what in (
                ("trained", "token_accuracy"),
                ("trained", "sequence_accuracy"),
                ("more", "token_accuracy"),
                ("more", "sequence_accuracy"),
            )
        ]
        rows.append([answer, str(found["trained_steps"]), *cells, f"{found['seconds']:.0f}"])
    header = [name, "trained with", "token accuracy", "sequence accuracy"]
    header += ["token accuracy, 16 steps", "sequence accuracy, 16 steps", "seconds"]
    return table(header, rows)


def strategies(accuracy: dict[str, Any]) -> str:
    """Peptide recall of draft, loop alone and everything on real spectra."""
    rows = []
    for file, found in accuracy["files"].items():
        cells = []
        for name in ("draft", "empty", "full"):
            low, high = found[name]["published"]["intervals"]["peptide_recall"]
            recall = found[name]["published"]["peptide_recall"]
            cells.append(f"{recall:.3f} ({low:.3f}-{high:.3f})")
        rows.append([file.removesuffix(".parquet"), str(found["full"]["spectra"]), *cells])
    return table(["spectra", "n", "draft alone", "loop from nothing", "drafts, judged"], rows)


def told_apart(results: dict[str, Any]) -> str:
    """AUC of the classifier by kind."""
    return ", ".join(
        f"{kind}: AUC {found['auc']:.3f} ± {found['sd']:.3f}"
        for kind, found in results["kinds"].items()
    )


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE}")
