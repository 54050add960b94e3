"""The experiments behind docs/method.md: that they are what the page says, without training any."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import ladder

from tinynovo import config
from tinynovo.layers import MassEncoding
from tinynovo.peptide import Peptide, fragments
from tinynovo.runs import Run, Sample, Trial
from tinynovo.stages import TrainingOptions

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def _neighbours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The benchmarks import what they share from their own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("accuracy", "common", "experiments"):
        sys.modules.pop(name, None)


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / f"{name}.py"))


def options(name: str) -> TrainingOptions:
    return config.load(TrainingOptions, ROOT / "configs" / f"{name}.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_is_one(path: Path):
    assert config.load(TrainingOptions, path).steps > 0


def test_the_arms_share_task_steps_and_batch():
    arms = [options(arm) for arm in script("arms")["ARMS"]]
    assert {(o.steps, o.batch_size, o.held_out, o.starts.slots) for o in arms} == {
        (10_000, 64, 512, 12)
    }
    assert {o.recursion.supervision_steps for o in arms} == {8}
    assert len({o.optimizer.model_dump_json() for o in arms}) == 1
    tasks = [o.mixture.simulation.model_copy(update={"neutral": False}) for o in arms]
    assert tasks[0] == tasks[1] == tasks[2]
    assert (tasks[0].min_length, tasks[0].max_length, tasks[0].noise_peaks) == (7, 10, 0)


def test_the_first_arm_is_the_recorded_run():
    old = options("baseline")
    assert old.mixture.simulation.neutral
    assert old.model.allow_blind
    assert (old.model.width, old.model.heads, old.recursion.latent_updates) == (256, 4, 4)
    assert (old.model.shortest_wavelength, old.losses.spectrum, old.precursor_ppm) == (2000, 0, 0)
    masses = MassEncoding(old.model)
    pair = masses(masses.waves.new_tensor([113_084_064, 114_042_927]))
    assert (pair[1] - pair[0]).norm().item() == pytest.approx(0.0082, abs=0.0002)


def test_the_second_arm_differs_by_its_repairs_only():
    old, new = (options(name).model_dump() for name in ("baseline", "fixed"))
    assert not new["mixture"]["simulation"].pop("neutral")
    old["mixture"]["simulation"].pop("neutral")
    changed = {key for key in old if old[key] != new[key]} - {"output", "cache"}
    assert changed == {"model", "losses", "precursor_ppm"}
    shape = {key for key in old["model"] if old["model"][key] != new["model"][key]}
    waves = {"shortest_wavelength", "longest_wavelength", "wavelengths", "allow_blind"}
    assert shape == waves
    assert (new["losses"]["spectrum"], new["model"]["evidence"]) == (0.1, "off")


def test_the_grid_asks_what_was_open():
    grid = script("grid")
    questions = grid["VARIANTS"]
    assert set(questions["supervision steps"]) == {"1", "4", "8", "16"}
    assert set(questions["latent updates"]) == {"1", "2", "4", "6"}
    assert set(questions["evidence"]) == {"off", "flat", "shared"}
    names = [grid["named"](settings) for settings in grid["all_settings"]()]
    assert len(set(names)) == len(names) == 18
    for settings in grid["all_settings"]():
        config.load(TrainingOptions, ROOT / "configs" / "grid.yaml", settings)


def a_run(final: float, early: float, evidence: str = "shared") -> Run:
    """Thirty steps; the last of two supervision steps flips a lot early and little later."""
    metrics = [
        {"step": s, "step1_flip_rate": early if s <= 10 else 0.0, "seconds": 2.0 * s}
        for s in range(5, 31, 5)
    ]
    step = {
        "token_accuracy": final,
        "sequence_accuracy": 0.5,
        "flip_rate": 0.25,
        "length_accuracy": 0.75,
        "median_error_ppm": 3.0,
    }
    samples = [
        Sample(
            true=["G"] * length,
            predicted=["G"],
            right=False,
            probability=0.5,
            token_accuracy=final / length,
            error_ppm=1.0,
        )
        for length in (2, 2, 4)
    ]
    trial = Trial(
        name="x",
        start="nothing",
        trained_steps=2,
        steps=[{**step, "token_accuracy": 0.0}, step, {**step, "token_accuracy": final / 2}],
        entropy=[1.0],
        most_entropy=5.0,
        samples=samples,
    )
    rounds = {"supervision_steps": 4, "cycles": 1 + (final == 0.7)}
    options = {"model": {"evidence": evidence}, "recursion": rounds}
    return Run(Path("x"), options, metrics, [trial])


def test_runs_of_one_answer_are_summed_up():
    found = script("grid")["summary"]([a_run(0.5, 0.1), a_run(0.7, 0.1)])
    assert found["trained"]["token_accuracy"] == pytest.approx([0.6, 0.1414], abs=1e-4)
    assert found["more"]["token_accuracy"] == pytest.approx([0.3, 0.0707], abs=1e-4)
    assert found["by_step"]["token_accuracy"]["mean"] == pytest.approx([0.0, 0.6, 0.3])
    assert (found["seeds"], found["trained_steps"], found["seconds"]) == (2, 2, 60.0)


def test_accuracy_is_broken_down_by_length():
    trials = [a_run(final, 0.1).trials[0] for final in (0.4, 0.8)]
    found = script("grid")["by_length"](trials)
    assert found["lengths"] == [2, 4]
    assert found["mean"] == pytest.approx([0.3, 0.15])


def test_early_flips_are_ranked_against_the_outcome():
    runs = [a_run(0.9, 0.1), a_run(0.8, 0.2), a_run(0.1, 0.3, "off"), a_run(0.7, 0.4)]
    found = script("grid")["early_flips"](runs)
    assert found["flip_rate"] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert found["all"]["spearman"] == pytest.approx(-0.8)
    shared = found["with shared evidence"]
    assert (shared["n"], shared["spearman"]) == (3, pytest.approx(-1.0))
    assert found["with shared evidence, four steps of one cycle"]["n"] == 2


def test_what_is_finished_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    experiments = script("experiments")
    trained: list[str] = []
    monkeypatch.setattr(experiments["Wanted"], "train", lambda self: trained.append(self.name))
    for name, rows in {
        "finished": [{"step": 5, "loss": 1.0}, {"step": 5}],
        "stopped": [{"step": 3, "loss": 1.0}],
        "untried": [{"step": 5, "loss": 1.0}],
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "options.json").write_text("{}")
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "metrics.jsonl").write_text(lines)
    names = ("finished", "stopped", "untried", "new")
    wanted = [experiments["Wanted"](name, "grid", 5, (), tmp_path) for name in names]
    experiments["carry_out"](wanted, 1)
    assert trained == ["stopped", "untried", "new"]


def test_the_page_on_the_method_is_current():
    page = script("method")["page"]()
    assert (ROOT / "docs" / "method.md").read_text("utf-8") == page, "stale: run make method"


@pytest.mark.parametrize(
    ("peptide", "left_out", "expected"),
    [
        ("PEPTLDEK", (), "0 unseen, the first seen"),
        ("PEPTLDEK", (1,), "0 unseen, the first unseen"),
        ("PEPTLDEK", (1, 2, 4), "2 unseen, the first unseen"),
        ("PEPTLDEK", (2, 3, 4, 5, 6), "3 or more unseen, the first seen"),
    ],
)
def test_cuts_without_an_ion_are_counted(
    peptide: str, left_out: tuple[int, ...], expected: str
) -> None:
    """A cut at bond n shows b n and y (length - n); both are left out."""
    whole = Peptide.parse(peptide)
    kept = [
        ion.mz
        for ion in fragments(whole, charges=(1,))
        if (ion.ordinal if ion.series == "b" else len(whole) - ion.ordinal) not in left_out
    ]
    mz = np.array(sorted(kept))
    spectrum = replace(ladder(peptide), mz=mz, intensity=np.ones(mz.size))
    assert script("accuracy")["cuts_unseen"](spectrum, whole) == expected


def test_partners_are_of_the_same_charge_and_near_in_length() -> None:
    reals = [((2, 10), [0.0]), ((3, 10), [0.0]), ((2, 10), [0.0])]
    others = [((3, 12), [1.0]), ((2, 14), [2.0]), ((2, 9), [3.0]), ((3, 30), [4.0])]
    assert script("realism")["partners"](reals, others).tolist() == [[3.0], [1.0], [2.0]]
