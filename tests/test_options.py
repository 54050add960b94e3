"""Options that users may change, and the efforts that set several of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinynovo import config
from tinynovo.cli import parser
from tinynovo.errors import InputError
from tinynovo.options import EFFORTS, SequencingOptions


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_sets_options_that_there_are(effort: str) -> None:
    options = config.load(SequencingOptions, None, EFFORTS[effort])
    assert (options == SequencingOptions()) == (effort == "default")


def test_an_option_set_by_hand_wins_over_the_effort() -> None:
    options = config.load(SequencingOptions, None, [*EFFORTS["max"], "n_beams=5"])
    assert options.n_beams == 5
    assert options.candidates == 16


@pytest.mark.parametrize("effort", EFFORTS)
def test_the_command_line_knows_every_effort(effort: str) -> None:
    command = ["sequence", "a.mgf", "-o", "a.csv", "--effort", effort]
    assert parser().parse_args(command).effort == effort
    with pytest.raises(SystemExit):
        parser().parse_args([*command[:-1], "most"])


@pytest.mark.parametrize("off", ["off", "'off'", "Off", "no", "false"])
def test_modifications_are_switched_by_yaml_and_then_by_hand(tmp_path: Path, off: str) -> None:
    """YAML takes a bare off for false."""
    path = tmp_path / "options.yaml"
    path.write_text(f"mods:\n  phospho: {off}\n  Carbamidomethyl: fixed\n", "utf-8")
    assert config.load(SequencingOptions, path).mods == {
        "Phospho": "off",
        "Carbamidomethyl": "fixed",
    }
    options = config.load(SequencingOptions, path, ["mods.PHOSPHO=on", "mods.[TMT6plex]-=fixed"])
    assert options.mods == {"Phospho": "on", "Carbamidomethyl": "fixed", "[TMT6plex]-": "fixed"}
    path.write_text(config.dump(options), "utf-8")
    assert config.load(SequencingOptions, path) == options


@pytest.mark.parametrize(
    ("overrides", "start", "part"),
    [
        (["mods.Fosfo=off"], "--set mods.Fosfo=off: mods.Fosfo = 'Fosfo'", "(known are Carba"),
        (["mods.K=off"], "--set mods.K=off: ", "unknown modification 'K'"),
        (["mods.Phospho=of"], "--set mods.Phospho=of: mods.Phospho = 'of'", "'off' or 'fixed'"),
        (["mods.Phospho=1"], "--set mods.Phospho=1: mods.Phospho = 1", "'off' or 'fixed'"),
        (["mods=Phospho"], "--set mods=Phospho: mods = 'Phospho'", "valid dictionary"),
        (
            ["mods.Acetyl=fixed", "mods.TMT6plex=fixed"],
            "mods = {'Acetyl': 'fixed', 'TMT6plex': 'fixed'}",
            "the N-terminus has more than one fixed modification: [Acetyl]-, [TMT6plex]-",
        ),
    ],
)
def test_switches_that_cannot_be(overrides: list[str], start: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        config.load(SequencingOptions, None, overrides)
    line = str(caught.value)
    assert line.startswith(start)
    assert part in line
    assert "\n" not in line
