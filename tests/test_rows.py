from __future__ import annotations

import pytest
from answers import ANSWER, ROWS, SILENT, any_psm
from hypothesis import given

from tinynovo.psm import PSM
from tinynovo.rows import COLUMNS, from_row, to_row, to_texts


@given(any_psm())
def test_a_row_is_the_psm_again(psm: PSM) -> None:
    assert from_row(to_row(psm)) == psm


@pytest.mark.parametrize("psm", ROWS)
def test_a_row_has_every_column_in_order(psm: PSM) -> None:
    assert list(to_row(psm)) == list(to_texts(psm, "")) == COLUMNS.names


def test_texts_by_hand() -> None:
    texts = to_texts(ANSWER, "-")
    assert (texts["score"], texts["posterior_error"]) == ("0.91232", "0.08768")
    assert (texts["q_value"], texts["error_ppm"]) == ("0.01235", "-3.25000")
    assert texts["precursor_mz"] == "412.6789012345"
    assert (texts["reason_code"], texts["reason"]) == ("-", "-")
    assert to_texts(SILENT, "-")["score"] == "-"
    assert to_texts(SILENT, "-")["reason_code"] == "no_charge"
