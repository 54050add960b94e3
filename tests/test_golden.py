"""What the packaged weights answer: known peptides, the same twice, never worse than the draft."""

from __future__ import annotations

import json

import pytest
from make_golden import GOLDEN, answers

from tinynovo.peptide import Peptide


@pytest.fixture(scope="module")
def found() -> list[dict[str, object]]:
    return answers()


def right(rows: list[dict[str, object]]) -> int:
    return sum(
        row["peptide"] is not None
        and Peptide.parse(str(row["peptide"])) == Peptide.parse(str(row["label"]))
        for row in rows
    )


def test_the_packaged_weights_give_the_golden_answers(found: list[dict[str, object]]) -> None:
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert [row["peptide"] for row in found] == [row["peptide"] for row in golden]
    assert [row["score"] for row in found] == pytest.approx(
        [row["score"] for row in golden], abs=1e-3
    )


def test_a_second_run_gives_the_same_answers(found: list[dict[str, object]]) -> None:
    assert answers() == found


def test_the_loop_does_not_lose_to_its_draft(found: list[dict[str, object]]) -> None:
    assert right(found) >= right(answers("draft"))
    assert right(found) > 0
