from __future__ import annotations

from pathlib import Path

import pytest

from tinynovo.errors import InputError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("is empty"), "is empty"),
        (InputError("is empty", file="a.mgf"), "a.mgf: is empty"),
        (InputError("no charge", spectrum="scan=7"), "scan=7: no charge"),
        (
            InputError("no charge", file=Path("a.mgf"), spectrum="scan=7", remedy="give one"),
            "a.mgf: scan=7: no charge (give one)",
        ),
        (InputError("two\n  lines", remedy="one\tline"), "two lines (one line)"),
    ],
)
def test_a_complaint_is_one_line(error: InputError, text: str) -> None:
    assert str(error) == text


def test_the_parts_stay_apart() -> None:
    error = InputError("bad", file=Path("a.mgf"), spectrum="index=0", remedy="mend it")
    assert (error.problem, error.file, error.spectrum, error.remedy) == (
        "bad",
        "a.mgf",
        "index=0",
        "mend it",
    )
    assert InputError("bad").file is None
