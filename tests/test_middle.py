"""Masses of fragments are sums of the published residue masses of P, E, T and a proton."""

from __future__ import annotations

import pytest
import torch
from test_evidence import PE, PEPTIDE, P, table_of

from tinynovo.cuts import MIDDLE_FEATURES
from tinynovo.evidence import PeakTable
from tinynovo.middle import middle_features
from tinynovo.tokens import PAD, token_ids, token_masses

PEP = PE + P

TABLE = table_of((90.0, 0.1), (199.1077, 0.3), (300.1554, 0.2), (328.1503, 0.5), (800.0, 0.2))
"""PT, and EPT without CO and with it: 199.107719, 300.155397 and 328.150312 Th."""


def told(
    table: PeakTable, anchor: int, token: str, past: tuple[str, str], *, forwards: bool
) -> list[list[float]]:
    """Numbers of four ions, five each, then whether the two b ions were asked for."""
    (id_,) = token_ids([token])
    mass = int(token_masses()[id_])
    ids = [PAD if name == "" else token_ids([name])[0] for name in past]
    cut = anchor + (mass if forwards else -mass)
    row = torch.tensor([0])
    columns = (torch.tensor([anchor]), torch.tensor([cut]), torch.tensor([ids]))
    numbers = middle_features(table, row, *columns, forwards)
    assert numbers.shape == (1, MIDDLE_FEATURES)
    flat = numbers[0].tolist()
    return [flat[:5], flat[5:10], flat[10:15], flat[15:20], flat[20:]]


@pytest.mark.parametrize("forwards", [True, False])
def test_a_candidate_and_its_neighbours_make_fragments_of_the_middle(forwards: bool) -> None:
    """Forwards T behind E and P; backwards E before P and T."""
    place, token, past = (PEP, "T", ("P", "E")) if forwards else (PE, "E", ("P", "T"))
    pair_b, pair_a, three_b, three_a, asked = told(TABLE, place, token, past, forwards=forwards)
    seen, missing = (pair_b, pair_a) if forwards else (pair_a, pair_b)  # EP less CO weighs PT
    assert seen[0] == pytest.approx(0.3)
    assert seen[4] == 1
    assert missing == [0] * 5
    assert three_b[0] == pytest.approx(0.5)
    assert three_b[1] == 1  # the strongest
    assert abs(three_b[2]) < 0.1
    assert three_a[0] == pytest.approx(0.2)
    assert asked == [1, 1]


def test_what_begins_or_ends_with_the_peptide_is_no_fragment_of_the_middle() -> None:
    first = told(TABLE, P, "E", ("P", ""), forwards=True)
    assert first == [[0] * 5] * 4 + [[0, 0]]
    third = told(TABLE, PE, "P", ("E", "P"), forwards=True)
    assert third[4] == [1, 0]  # EP, but not PEP
    last = told(TABLE, PEPTIDE - 115_026_943 - 129_042_593, "D", ("E", ""), forwards=True)
    assert last[4] == [1, 0]  # nothing is known of what stands before E
    closing = told(TABLE, PEPTIDE - 129_042_593, "E", ("D", "L"), forwards=True)
    assert closing[4] == [0, 0]
    backwards = told(TABLE, P, "P", ("E", "P"), forwards=False)
    assert backwards[4] == [0, 0]


def test_what_stands_behind_a_modification_of_the_terminus_is_no_middle() -> None:
    table = table_of((90.0, 0.1), (800.0, 0.2), mass=PEPTIDE + 42_010_565)
    acetyl, start = "[Acetyl]-", 42_010_565
    assert told(table, start + P, "E", ("P", acetyl), forwards=True)[4] == [0, 0]
    assert told(table, start + PE, "P", ("E", "P"), forwards=True)[4] == [1, 0]
    assert told(table, start + P, "P", ("E", "P"), forwards=False)[4] == [0, 0]


def test_only_what_lies_in_the_range_recorded_is_asked_for() -> None:
    table = table_of((250.0, 0.1), (320.0, 0.2))
    assert told(table, PEP, "T", ("P", "E"), forwards=True)[4] == [0, 0]
    wider = table_of((250.0, 0.1), (330.0, 0.2))
    assert told(wider, PEP, "T", ("P", "E"), forwards=True)[4] == [0, 1]
