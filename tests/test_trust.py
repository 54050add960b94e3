"""The tables of docs/confidence.md: what the committed results say, nothing else."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield runpy.run_path(str(ROOT / "benchmarks" / "trust.py"))
    sys.modules.pop("card", None)


def test_the_page_is_current(trust: dict[str, Any]) -> None:
    page = ROOT / "docs" / "confidence.md"
    assert page.read_text("utf-8") == trust["page"](), "stale: run make card"


def test_the_tables_hold_the_figures(trust: dict[str, Any]) -> None:
    about = {"version": "0.1.0", "torch": "2.0", "python": "3.11"}
    file = "labelfree_hcd_valid.parquet"
    one = {
        "answers": 552,
        "calibration_error": 0.0242,
        "calibration_error_interval": [0.01, 0.05],
        "residue_calibration_error": 0.0311,
        "calibration_error_of_true_probabilities": 0.036,
        "roc_auc": 0.925,
        "discoveries": {
            "0.05": {"kept": 131, "wrong": 8, "proportion": 0.061, "interval": [0.016, 0.121]}
        },
    }
    ways = {key: {file: one} for key in ("other peptides", "other sources", "the other file")}
    results = {"confidence": {"about": about, "efforts": {"fast": ways}}}
    text = "\n".join(trust["reliability"](results))
    assert text.count("| label-free | 552 | fast |") == 3
    assert "| 0.024 (0.010-0.050) | 0.031 | 0.036 | 0.925 |" in text
    text = "\n".join(trust["discoveries"](results))
    # Clopper & Pearson of 8 in 131: 0.0267 to 0.1168; the bootstrap is wider.
    assert "| label-free | fast | 5 % | 131 | 8 | 0.061 (0.016-0.121) |" in text
    none = {"kept": 26, "wrong": 0, "interval": [0.0, 0.0]}
    assert trust["widened"](none) == pytest.approx([0, 1 - 0.025 ** (1 / 26)])
    assert trust["widened"]({"kept": 0, "wrong": 0, "interval": [0.0, 0.0]}) == [0, 1]
    way = {
        "spectra": 4,
        "peptide_recall": 0.5,
        "interval": [0.25, 0.75],
        "auc": 0.4,
        "charge_right": 0.75,
        "seconds": 2.0,
    }
    files = {file: {"charge_unknown": way}}
    text = "\n".join(
        trust["hypotheses"]({"hypotheses": {"about": about, "limit": 4, "files": files}})
    )
    assert "| the charge taken away | 0.500 (0.250-0.750) | 0.400 | 0.750 | 0.50 |" in text
    tool = {
        "identified": 30,
        "as_labelled": 29,
        "false_discovery_proportion": 1 / 30,
        "best_candidate_as_labelled": 31,
    }
    both = {"spectra": 60, "in_database": 33, "comet": tool, "tinynovo": tool}
    text = "\n".join(
        trust["search"]({"search": {"about": about, "limit": 60, "files": {file: both}}})
    )
    assert "| label-free | 60 | 33 | comet | 30 | 29 | 0.033 | 31 |" in text
