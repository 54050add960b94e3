"""Percolator's table: what is written to the letter, and what others write of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from answers import ANSWER, FILES, PLAIN, SETTINGS, SILENT

from tinynovo.errors import InputError
from tinynovo.pin import HEADER, PinWriter
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions


def written(path: Path, *rows: PSM) -> list[list[str]]:
    with PinWriter(path, FILES, SETTINGS) as writer:
        writer.write(rows)
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()]


def test_rows_to_the_letter(tmp_path: Path) -> None:
    header, first, last = written(tmp_path / "a.pin", ANSWER, SILENT, PLAIN)
    assert tuple(header) == HEADER
    # (412.6789012345 - 1.00727646662) * 2; P 97.052764 twice, E 129.042593, oxidised M 147.035400,
    # carbamidomethylated C 160.030649, K 128.094963, acetyl 42.010565, water 18.010565.
    mass = 2 * 97.052764 + 129.042593 + 147.035400 + 160.030649 + 128.094963 + 42.010565 + 18.010565
    odds = math.log(0.912324 / (1 - 0.912324))
    assert first[:3] == ["my run.mgf:index=4:2:1", "1", "17"]
    assert [float(cell) for cell in first[3:12]] == pytest.approx(
        [823.343250, mass, odds, sum(ANSWER.residue_scores) / 6, 0.1, 4 / 6, 6, 3.25, 1], abs=2e-5
    )
    assert first[12:18] == ["0", "1", "0", "0", "0", "0"]
    assert first[18:] == [
        "-.[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K.-",
        "sp|P1|A",
        "B",
    ]
    assert last[5] == "-30.00000"  # a score of nothing
    assert last[18:] == ["-.GK.-", "unknown"]


def test_decoys_are_labelled(tmp_path: Path) -> None:
    _, row = written(tmp_path / "a.pin", replace(ANSWER, accessions=("DECOY_A", "DECOY_B")))
    assert row[1] == "-1"
    assert row[-2:] == ["DECOY_A", "DECOY_B"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pin"
    written(path, ANSWER, replace(PLAIN, accessions=("DECOY_A",)))
    first, last = read_predictions(path)
    assert (first.peptide, first.identifier, first.accessions) == (
        ANSWER.peptide,
        "scan=17",
        ANSWER.accessions,
    )
    assert (last.peptide, last.decoy) == (PLAIN.peptide, True)


def table(path: Path, *rows: str, header: str = "") -> Path:
    header = header or "SpecId Label ScanNr ExpMass CalcMass Xcorr Peptide Proteins"
    path.write_text("\n".join("\t".join(row.split()) for row in (header, *rows)) + "\n")
    return path


@pytest.mark.parametrize(
    ("text", "mass", "proforma"),
    [
        # MH+, as Comet has it: C 103.009185 + 57.021464 and so on.
        ("K.ACDK.R", "493.2075", "AC[Carbamidomethyl]DK"),
        ("K.ACDK.R", "436.1860", "ACDK"),
        # Neutral; TMT6plex 229.162932 on both amines.
        ("R.AGK.-", "732.4900", "[TMT6plex]-AGK[TMT6plex]"),
        ("-.n[42.0106]AM[15.9949]K.L", "407.1958", "[Acetyl]-AM[Oxidation]K"),
        ("-.[Acetyl]-AMK.L", "0", "[Acetyl]-AMK"),
    ],
)
def test_fixed_modifications_are_told_by_the_mass(
    tmp_path: Path, text: str, mass: str, proforma: str
) -> None:
    path = table(tmp_path / "a.pin", f"x 1 5 0 {mass} 2.5 {text} P1")
    (row,) = read_predictions(path)
    assert row.peptide is not None
    assert row.peptide.proforma == proforma


def test_the_line_of_directions_is_no_row_and_labels_make_decoys(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.pin", "DefaultDirection - - 0 0 1 - -", "x -1 5 0 0 2.5 K.AGK.R P1 rev_P2"
    )
    (row,) = read_predictions(path)
    assert row.accessions == ("DECOY_P1", "rev_P2")
    assert row.decoy


def test_damaged_tables_are_complaints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks the columns Label, Proteins"):
        list(read_predictions(table(tmp_path / "a.pin", header="ScanNr Peptide")))
    with pytest.raises(InputError, match="line 2 is cut off"):
        list(read_predictions(table(tmp_path / "b.pin", "x 1 5")))
