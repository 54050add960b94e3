from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tinynovo.drawing import confusion, image, panels, reliability
from tinynovo.errors import InputError
from tinynovo.review import (
    figure_table,
    flip_table,
    grouped,
    refinement,
    spread,
    told,
    training_curves,
    write_review,
)
from tinynovo.runs import Run, Sample, Trial, read_run, write_trials


def sample(true: str, predicted: str, probability: float = 0.5) -> Sample:
    right = true == predicted
    return Sample(
        true=list(true),
        predicted=list(predicted),
        right=right,
        probability=probability,
        token_accuracy=sum(a == b for a, b in zip(true, predicted, strict=False)) / len(true),
        error_ppm=0.0 if right else 4321.0,
    )


def trial(accuracy: float, steps: int = 3) -> Trial:
    figures = [
        {
            "cross_entropy": 2.0 - step / 4,
            "token_accuracy": accuracy + step / 100,
            "sequence_accuracy": accuracy / 2,
            "length_accuracy": 0.9,
            "flip_rate": 1 / (1 + step),
            "mean_error_ppm": 59_000.0,
            "median_error_ppm": 7.5,
            "halt_accuracy": 0.8,
        }
        for step in range(steps)
    ]
    samples = [sample("GASP", "GASP", 0.9), sample("LNDEK", "LNDQK", 0.7), sample("AW", "<b>")]
    return Trial(
        name="random peptides",
        start="nothing",
        trained_steps=2,
        steps=figures,
        entropy=[0.5, 1.5],
        most_entropy=5.0,
        samples=samples,
    )


def run(directory: Path, seed: int = 0, accuracy: float = 0.5, **options: object) -> Run:
    directory.mkdir()
    mixture = {"ingredients": [{"kind": "random", "path": None, "limit": 1000, "weight": 1.0}]}
    known = {"stage": "whole", "steps": 10, "mixture": mixture, "losses": {"spectrum": 0.1}}
    facts = {**known, "seed": seed, "output": str(directory), **options}
    (directory / "options.json").write_text(json.dumps(facts))
    rows = [{"step": step, "loss": 3.0 - step / 10} for step in range(1, 11)]
    rows.append({"step": 10, "held_out_token_accuracy": accuracy})
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_trials(directory, [trial(accuracy)])
    return read_run(directory)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two configurations, one of them with two seeds."""
    return [
        run(tmp_path / "fixed-0", 0, 0.5),
        run(tmp_path / "fixed-1", 1, 0.7),
        run(tmp_path / "baseline", 0, 0.25, losses={"spectrum": 0.0}),
    ]


def test_seeds_are_taken_together(runs: list[Run]):
    groups = grouped(runs)
    assert [(group.name, len(group.runs)) for group in groups] == [("fixed", 2), ("baseline", 1)]


def test_the_table_is_of_the_last_step_of_training(runs: list[Run]):
    header, *rows = figure_table(grouped(runs))
    assert header == ["figure", "fixed (2 seeds)", "baseline"]
    found = {row[0]: row[1:] for row in rows}
    assert found["token accuracy"] == ["0.610 ± 0.141", "0.260"]
    assert found["cross-entropy"] == ["1.75 ± 0.000", "1.75"]
    assert found["mean mass error, ppm"] == ["59,000 ± 0.000", "59,000"]


def test_the_flip_rates_are_of_the_steps_of_training(runs: list[Run]):
    header, *rows = flip_table(grouped(runs))
    assert header == ["supervision step", "1", "2"]
    assert rows[1] == ["fixed: flip rate", "1 ± 0.000", "0.500 ± 0.000"]
    assert rows[3] == ["baseline: flip rate", "1", "0.500"]


def test_curves_hold_all_groups_and_mark_the_steps_of_training(runs: list[Run]):
    content = {panel.title: panel for panel in refinement(grouped(runs))}
    accuracy = content["token accuracy"]
    assert accuracy.mark == 2
    fixed, baseline = accuracy.curves
    assert fixed.y == pytest.approx([0.6, 0.61, 0.62])
    assert fixed.low == pytest.approx([0.5, 0.51, 0.52])
    assert (baseline.y[0], baseline.low) == (0.25, None)
    titles = [panel.title for panel in training_curves(grouped(runs))]
    assert titles == ["loss", "held out token accuracy"]


def test_numbers_are_told_as_people_write_them():
    assert told([0.5]) == "0.500"
    assert told([12345.6]) == "12,346"
    assert told(spread([1.0, 3.0])) == "2 ± 1.41"
    assert spread([0.25]) == [0.25]


def test_the_page_needs_no_network_and_tells_what_was_run(runs: list[Run], tmp_path: Path):
    html, markdown = write_review(tmp_path / "out.html", runs)
    page, text = html.read_text("utf-8"), markdown.read_text("utf-8")
    assert (html.name, markdown.name) == ("out.html", "out.md")
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("data:image/svg+xml") == 2 + 4 * 2
    for both in (page, text):
        assert "0.610 ± 0.141" in both
        assert "random peptides (random, weight 1, at most 1,000)" in both
        assert "losses.spectrum" in both
        assert "10 of 10 steps" in both
    assert '<span class="wrong">&lt;</span>' in page
    assert 'LND<span class="wrong">Q</span>K' in page
    assert "| `LNDEK` | `LNDQK` |" in text
    assert "{{" not in text + page


def test_wrong_answers_stand_by_how_sure_the_judge_was(runs: list[Run], tmp_path: Path):
    _, markdown = write_review(tmp_path / "out.html", runs[2:])
    worst = markdown.read_text("utf-8").split("surest of:")[1]
    assert worst.index("LNDEK") < worst.index("AW")
    assert "GASP" not in worst.split("Resolved")[0]


def test_a_run_without_trials_has_a_page(tmp_path: Path):
    made = run(tmp_path / "scorer")
    (tmp_path / "scorer" / "trials.json").unlink()
    html, _ = write_review(tmp_path / "out.html", [read_run(made.directory)])
    assert "Training" in html.read_text("utf-8")


def test_the_same_runs_give_the_same_page(runs: list[Run], tmp_path: Path):
    first, _ = write_review(tmp_path / "a.html", runs)
    second, _ = write_review(tmp_path / "b.html", runs)
    assert first.read_bytes() == second.read_bytes()


def test_without_its_libraries_a_review_is_refused(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"needs jinja2 \(pip install tinynovo\[report\]\)"):
        write_review(tmp_path / "out.html", runs)


def test_a_page_that_cannot_be_written_is_one_line(runs: list[Run], tmp_path: Path):
    with pytest.raises(InputError, match="cannot be written"):
        write_review(tmp_path / "none" / "out.html", runs)


def test_reliability_is_share_right_against_mean_probability():
    axes = reliability(np.array([0.05, 0.15, 0.15, 0.95]), np.array([False, True, False, True]))
    line = axes.axes[0].get_lines()[1]
    assert line.get_xdata().tolist() == pytest.approx([0.05, 0.15, 0.95])
    assert line.get_ydata().tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_confusion_has_a_row_for_each_true_length():
    drawn = confusion([2, 2, 3], [2, 3, 3])
    (shown,) = drawn.axes[0].get_images()
    assert np.asarray(shown.get_array()).tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_figures_are_the_same_every_time(runs: list[Run]):
    one, other = (image(panels(refinement(grouped(runs)))) for _ in range(2))
    assert one == other
