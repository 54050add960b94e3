"""Options that users may change, and the efforts that set several of them."""

from __future__ import annotations

import pytest

from tinynovo import config
from tinynovo.cli import parser
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
