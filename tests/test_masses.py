from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyteomics import mass as independent

from tinynovo.errors import InputError
from tinynovo.masses import (
    AMMONIA,
    CARBON_MONOXIDE,
    ELEMENTS,
    ISOTOPE_SPACING,
    PHOSPHORIC_ACID,
    PROTON,
    WATER,
    Tolerance,
    error_ppm,
    formula_mass,
    ion_mz,
    neutral_mass,
    residue_table,
    to_udalton,
    udalton,
)

# Monoisotopic residue masses of ExPASy (FindMod), to five decimals.
EXPASY = {
    "G": 57.02146,
    "A": 71.03711,
    "S": 87.03203,
    "P": 97.05276,
    "V": 99.06841,
    "T": 101.04768,
    "C": 103.00919,
    "L": 113.08406,
    "N": 114.04293,
    "D": 115.02694,
    "Q": 128.05858,
    "K": 128.09496,
    "E": 129.04259,
    "M": 131.04049,
    "H": 137.05891,
    "F": 147.06841,
    "R": 156.10111,
    "Y": 163.06333,
    "W": 186.07931,
}

# Accession and monoisotopic mass as UNIMOD lists them.
UNIMOD = {
    "Acetyl": (1, 42.010565),
    "Carbamidomethyl": (4, 57.021464),
    "Carbamyl": (5, 43.005814),
    "Deamidated": (7, 0.984016),
    "Phospho": (21, 79.966331),
    "Oxidation": (35, 15.994915),
    "Ammonia-loss": (385, -17.026549),
    "TMT6plex": (737, 229.162932),
}

ROWS = list(residue_table().values())


def test_constants_against_literature() -> None:
    assert pytest.approx(1.007276466621, abs=1e-12) == PROTON  # CODATA 2018
    assert pytest.approx(18.010565, abs=1e-6) == WATER
    assert pytest.approx(17.026549, abs=1e-6) == AMMONIA
    assert pytest.approx(27.994915, abs=1e-6) == CARBON_MONOXIDE
    assert pytest.approx(97.976896, abs=1e-6) == PHOSPHORIC_ACID  # UNIMOD, neutral loss of Phospho
    assert pytest.approx(1.0033548, abs=1e-7) == ISOTOPE_SPACING


@pytest.mark.parametrize("element", ELEMENTS)
def test_elements_against_pyteomics(element: str) -> None:
    isotope = int(element[1:3]) if element[0] == "[" else 0
    name = element.strip("[]0123456789")
    assert ELEMENTS[element] == pytest.approx(independent.nist_mass[name][isotope][0], abs=2e-6)


@pytest.mark.parametrize("letter", EXPASY)
def test_residues_against_expasy_and_pyteomics(letter: str) -> None:
    row = residue_table()[letter]
    assert row.total / 1e6 == pytest.approx(EXPASY[letter], abs=6e-6)
    assert row.total / 1e6 == pytest.approx(independent.std_aa_mass[letter], abs=2e-6)
    assert not row.n_terminal


@pytest.mark.parametrize("row", [r for r in ROWS if r.modification], ids=lambda r: str(r.token))
def test_modifications_against_unimod(row: object) -> None:
    residue = residue_table()[row.token]  # type: ignore[attr-defined]
    assert (residue.unimod, residue.mass) == UNIMOD[residue.modification]
    plain = EXPASY[residue.residue] if residue.residue else 0.0
    assert residue.total / 1e6 == pytest.approx(plain + residue.mass, abs=6e-6)
    assert residue.n_terminal == (residue.residue == "")


@pytest.mark.parametrize("row", ROWS, ids=lambda r: str(r.token))
def test_every_mass_is_the_mass_of_its_formula(row: object) -> None:
    residue = residue_table()[row.token]  # type: ignore[attr-defined]
    assert udalton(formula_mass(residue.composition)) == udalton(residue.mass)
    # The same formula in pyteomics' notation: C[13]4 for [13C]4.
    other = residue.composition.replace("[13C]", "C[13]").replace("[15N]", "N[15]")
    assert residue.mass == pytest.approx(independent.calculate_mass(formula=other), abs=2e-6)


def test_the_table_holds_each_token_once_and_isoleucine_never() -> None:
    assert len(ROWS) == 31
    assert "I" not in residue_table()
    assert list(residue_table()) == [row.token for row in ROWS]
    assert len({row.token for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("formula", ["", "C2Xx", "2C", "C2-", "C 2", "(CH2)3"])
def test_formulas_that_are_none(formula: str) -> None:
    with pytest.raises(InputError, match="cannot read the formula"):
        formula_mass(formula)


def test_formulas() -> None:
    assert formula_mass("C6H12O6") == pytest.approx(180.063388, abs=1e-6)  # glucose
    assert formula_mass("H-3N-1") == pytest.approx(-AMMONIA, abs=1e-12)


def test_protonation() -> None:
    # Glucose, [M+H]+ 181.0707 and [M+2H]2+.
    assert ion_mz(180.063388, 1) == pytest.approx(181.070664, abs=1e-6)
    assert ion_mz(180.063388, 2) == pytest.approx(91.038970, abs=1e-6)


@given(st.floats(50, 3000), st.integers(1, 8))
def test_neutral_mass_undoes_protonation(mz: float, charge: int) -> None:
    assert ion_mz(neutral_mass(mz, charge), charge) == pytest.approx(mz, rel=1e-12)


@given(st.lists(st.integers(-(10**10), 10**10), max_size=8))
def test_micro_dalton_are_exact(values: list[int]) -> None:
    found = to_udalton([value / 1e6 for value in values])
    assert found.dtype == np.int64
    assert found.tolist() == values
    assert [udalton(value / 1e6) for value in values] == values


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [("20 ppm", 20.0, "ppm"), ("0.02 Da", 0.02, "Da"), (".5da", 0.5, "Da"), (" 5PPM ", 5.0, "ppm")],
)
def test_tolerances_are_read(text: str, value: float, unit: str) -> None:
    found = Tolerance.parse(text)
    assert (found.value, found.unit) == (value, unit)
    assert Tolerance.parse(str(found)) == found


@pytest.mark.parametrize("text", ["20", "ppm", "-1 ppm", "1 Th", "", "1e3 ppm", "1 2 ppm"])
def test_tolerances_without_number_or_unit(text: str) -> None:
    with pytest.raises(InputError, match="cannot read the tolerance"):
        Tolerance.parse(text)


def test_windows() -> None:
    assert Tolerance(20, "ppm").window(1_000_000_000) == 20_000
    assert Tolerance(0.02, "Da").window(1_000_000_000) == 20_000
    assert Tolerance(20, "ppm").accepts(500_010_000, 500_000_000)
    assert not Tolerance(20, "ppm").accepts(500_010_001, 500_000_000)
    assert Tolerance(0.5, "Da").accepts(0, 500_000)
    assert not Tolerance(0.5, "Da").accepts(0, 500_001)


def test_error_ppm() -> None:
    assert error_ppm(1000.01, 1000.0) == pytest.approx(10.0)
    assert error_ppm(999.99, 1000.0) == pytest.approx(-10.0)
