from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinynovo.errors import InputError
from tinynovo.runs import Sample, Trial, read_run, write_trials

TRIAL = Trial(
    name="random peptides",
    start="nothing",
    trained_steps=1,
    steps=[{"token_accuracy": 0.5}, {"token_accuracy": 0.75}],
    entropy=[1.0, 2.0],
    most_entropy=5.0,
    samples=[
        Sample(
            true=["G", "A"],
            predicted=["G", "S", "A"],
            right=False,
            probability=0.25,
            token_accuracy=0.5,
            error_ppm=0.0,
        )
    ],
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "options.json").write_text(json.dumps({"stage": "whole", "seed": 3}))
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "rate": 0.1}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 3, "lo')
    write_trials(tmp_path, [TRIAL])
    return tmp_path


def test_a_run_is_read_back(directory: Path):
    run = read_run(directory)
    assert run.options == {"stage": "whole", "seed": 3}
    assert run.steps == 2
    assert run.curve("loss") == ([1, 2], [2.0, 1.0])
    assert run.curve("rate") == ([2], [0.1])
    assert run.curve("none") == ([], [])
    assert run.trials == [TRIAL]
    assert not list(directory.glob("*.part"))


def test_a_run_that_has_just_begun_has_no_figures(directory: Path):
    for name in ("metrics.jsonl", "trials.json"):
        (directory / name).unlink()
    run = read_run(directory)
    assert (run.steps, run.metrics, run.trials) == (0, [], [])


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="holds no training run") as caught:
        read_run(tmp_path / "none")
    assert "none" in str(caught.value)


def test_the_code_and_size_of_the_weights_are_read_without_them(directory: Path):
    assert (read_run(directory).version, read_run(directory).parameters) == ("", 0)
    frozen = {"code_version": "1.2.3", "notes": {"parameters": 42}}
    tensors = {"a": np.zeros(3)}
    save_file(tensors, directory / "model.safetensors", {"frozen": json.dumps(frozen)})
    run = read_run(directory)
    assert (run.version, run.parameters) == ("1.2.3", 42)


@pytest.mark.parametrize(
    "name", ["options.json", "metrics.jsonl", "trials.json", "model.safetensors"]
)
@pytest.mark.parametrize("damage", [b'{"a": }', b"\xff\xfe{}"])
def test_a_damaged_run_is_refused_in_one_line(directory: Path, name: str, damage: bytes):
    (directory / name).write_bytes(damage)
    with pytest.raises(InputError, match="cannot be read as part of a run") as caught:
        read_run(directory)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trials_of_another_make_are_refused(directory: Path):
    (directory / "trials.json").write_text('[{"name": "x"}]')
    with pytest.raises(InputError, match="cannot be read as part of a run"):
        read_run(directory)
