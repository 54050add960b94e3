"""psm_utils on our rows: it reads no mzTab, but takes ours as docs/output.md shows."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from answers import ANSWER, FILES, SETTINGS, peptides, write
from hypothesis import given, settings

from tinynovo.peptide import Peptide
from tinynovo.pin import PinWriter

psm_utils = pytest.importorskip("psm_utils", reason="psm_utils is not installed")


# It reads its table of modifications when it first needs one, and leaves the file open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@settings(deadline=None)
@given(peptides)
def test_peptides_weigh_the_same(peptide: Peptide) -> None:
    found = psm_utils.Peptidoform(peptide.proforma)
    assert found.theoretical_mass == pytest.approx(peptide.mass_udalton / 1e6, abs=1e-4)
    assert found.sequence == peptide.sequence


def test_a_row_becomes_a_psm(tmp_path: Path) -> None:
    with write(tmp_path / "out.csv", [ANSWER]).open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    psm = psm_utils.PSM(
        peptidoform=f"{row['sequence']}/{row['precursor_charge']}",
        spectrum_id=row["spectrum_id"],
        run=row["file"],
        score=row["score"],
        pep=row["posterior_error"],
        qvalue=row["q_value"],
        rank=row["rank"],
    )
    assert str(psm.peptidoform) == "[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K/2"
    assert (psm.spectrum_id, psm.get_precursor_charge()) == ("index=4", 2)
    assert (psm.score, psm.pep, psm.qvalue) == (0.91232, 0.08768, 0.01235)


def test_our_table_for_percolator_is_read(tmp_path: Path) -> None:
    from psm_utils.io import read_file

    decoy = replace(ANSWER, accessions=("DECOY_A",), rank=2)
    with PinWriter(tmp_path / "a.pin", FILES, SETTINGS) as writer:
        writer.write([ANSWER, decoy])
    first, second = read_file(tmp_path / "a.pin", filetype="percolator")
    assert first.peptidoform.proforma.startswith("[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K")
    assert first.protein_list == ["sp|P1|A", "B"]
    assert (first.is_decoy, second.is_decoy) == (False, True)
