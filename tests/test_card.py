"""The model card and the figures of the README: what the committed results say, nothing else."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from tinynovo.checkpoint import Frozen
from tinynovo.evaluation import DEFINITIONS, evaluate
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM

ROOT = Path(__file__).parents[1]
ABOUT = {
    "tensors_sha256": "abc",
    "version": "0.1.0",
    "torch": "2.0",
    "python": "3.11",
    "machine": "abacus",
    "cpus": 2,
    "system": "Linux",
}


PEER = {
    "spectra": 4,
    "published": {
        "peptide_recall": 0.25,
        "auc": 0.125,
        "aa_precision": 0.375,
        "intervals": {"peptide_recall": [0.1, 0.5]},
    },
}


@pytest.fixture
def card() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "card.py"))


def compared(*answers: str) -> dict[str, Any]:
    truths = [Peptide.parse(text) for text in ("GASPVTK", "SAMPLER", "PEPTLDEK", "LNDEMHFR")]
    psms = [
        PSM("a", i, f"index={i}", Peptide.parse(text), 0.5 + i / 10)
        for i, text in enumerate(answers)
    ]
    values = evaluate(truths, psms, charges=[2, 2, 2, 3], sources=["here"] * 4).as_dict()
    del values["definitions"]
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]


@pytest.fixture
def results() -> dict[str, Any]:
    """Results made up by hand: one of four right by the draft, none from nothing, three by all."""
    steps = [{"token_accuracy": 0.25, "sequence_accuracy": 0.125, "peptide_recall": 0.0625}]
    steps += [{**steps[0], "flip_rate": 0.375}]
    found = {
        "draft": compared("GASPVTK", "GGGGG", "GGGGG", "GGGGG"),
        "empty": compared("GGGGG", "GGGGG", "GGGGG", "GGGGG"),
        "full": compared("GASPVTK", "SAMPLER", "PEPTLDEK", "GGGGG"),
        "draft_against_full": {"both": 1, "draft_only": 0, "full_only": 2, "neither": 1},
    }
    speeds = {
        "spectra_per_second": 12.345,
        "first_row_seconds": 1.5,
        "whole_seconds": 9.0,
        "peak_memory_mb": 1234.0,
        "runs": [9.1, 12.345, 14.8],
    }
    return {
        "accuracy": {
            "about": ABOUT,
            "limit": None,
            "definitions": DEFINITIONS,
            "files": {"labelfree_hcd_valid.parquet": found},
        },
        "effort": {
            "about": ABOUT,
            "limit": 200,
            "efforts": {"fast": ["strategy=draft"], "default": []},
            "files": {
                "labelfree_hcd_valid.parquet": {
                    "fast": found["draft"] | {"seconds_a_spectrum": 0.125},
                    "default": found["full"] | {"seconds_a_spectrum": 0.5},
                }
            },
        },
        "refinement": {
            "about": ABOUT,
            "limit": 256,
            "trained_steps": 5,
            "definitions": "flip_rate: so many.",
            "files": {
                "labelfree_hcd_valid.parquet": {"sequenced": 4, "draft": steps, "empty": steps}
            },
        },
        "phospho": {"about": ABOUT, "peptides": {"phosphorylated": found["full"] | {"placed": 3}}},
        "speed": {
            "about": ABOUT,
            "spectra": 400,
            "threads": {"1": speeds, "2": speeds},
            "efforts": {"fast": speeds, "default": speeds},
            "peers": {
                "novor": {"spectra_per_second": 0.5, "ratio": 20, "ratio_interval": [19, 21.4]}
            },
        },
    }


def frozen() -> Frozen:
    notes: dict[str, str | int | float | list[str]] = {
        "stage": "loop",
        "steps": 3800,
        "history": ["scorer: 10 of 10 steps", "loop: 3,800 of 4,000 steps of 16 spectra"],
        "training_data": ["untagged: tmt6_hcd_train.parquet", "random: random"],
        "parameters": 1234567,
    }
    return Frozen(notes=notes)


def test_the_pages_are_current(card: dict[str, Any]) -> None:
    pages = card["pages"]()
    for path, text in pages.items():
        assert path.read_text("utf-8") == text, f"{path.name} is stale: run make card"
    assert (ROOT / "model-card.md").exists() == (ROOT / "model-card.md" in pages)


def test_the_summary_holds_the_figures(card: dict[str, Any], results: dict[str, Any]) -> None:
    text = card["summary"](results)
    lines = text.splitlines()
    assert [line.split(" | ")[3].split(" (")[0] for line in lines[2:5]] == [
        "0.250",
        "0.000",
        "0.750",
    ]
    assert "12 spectra a second on 1 thread and" in text
    assert "at most 1,234 MB" in text


def test_the_card_holds_the_figures(card: dict[str, Any], results: dict[str, Any]) -> None:
    peer = {"processor_seconds": 1500, "labelfree_hcd_valid.parquet": PEER}
    text = card["model_card"](results, frozen(), 4_900_000, {"tools": {"novor": peer}})
    for part in (
        "| parameters | 1,234,567 |",
        "4.9 MB",
        "- scorer: 10 of 10 steps\n- loop: 3,800 of 4,000 steps of 16 spectra",
        "| `tmt6_hcd_train.parquet` | with the mass tags taken off |",
        "by the default alone 2, by neither 1",
        "| charge | 2+ | 3 | 1.000 | 1.000 | 1.000 |",
        "| charge | 3+ | 1 | 0.000 | 0.000 | 0.000 |",
        "| source | here | 4 | 0.750 |",
        "| label-free | 4 | draft | 1 | 0.062 | 0.250 | 0.125 | 0.375 |",
        "marks the 5 steps",
        "| default | 2 | 12 (9-15) | 1.5 | 1,234 |",
        "| fast | 2 | 12 (9-15) | 1.5 | 1,234 |",
        "- novor's network alone: 0.5 spectra a second; the whole of tinynovo 20 times as many (19",
        "| novor | 1,500 | label-free | 4 | 0.250 (0.100-0.500) | 0.125 | 0.375 |",
        "python benchmarks/refinement.py --limit 256  #",
        "python benchmarks/accuracy.py  #",
        "| phosphorylated | 4 | 0.750",
        f"- peptide_recall: {DEFINITIONS['peptide_recall']}",
    ):
        assert part in text, part
    # An interval stands behind the recall: of four spectra it is wide, and holds the figure.
    row = next(line for line in text.splitlines() if line.startswith("| the best drafts"))
    low, high = map(float, row.split("|")[2].split("(")[1].rstrip(") ").split("-"))
    assert low < 0.75 <= high <= 1


def test_results_of_other_weights_are_refused(
    card: dict[str, Any], results: dict[str, Any]
) -> None:
    card["check_weights"](results, "abc")
    other = {**results, "speed": {"about": {**ABOUT, "tensors_sha256": "def"}}}
    with pytest.raises(ValueError, match="other weights: speed: run make figures"):
        card["check_weights"](other, "abc")


def test_without_results_there_is_no_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: dict[str, Any]
) -> None:
    pages = card["pages"]
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- figures:start -->\nold\n<!-- figures:end -->\nb\n")
    monkeypatch.setitem(pages.__globals__, "RESULTS", tmp_path)
    monkeypatch.setitem(pages.__globals__, "README", readme)
    assert pages() == {readme: "a\n<!-- figures:start -->\n<!-- figures:end -->\nb\n"}
    (tmp_path / "speed.json").write_text("{}")
    with pytest.raises(
        ValueError, match="no results of accuracy, effort, refinement, phospho: run make figures"
    ):
        pages()
