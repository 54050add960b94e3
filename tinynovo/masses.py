"""Masses: constants, the residue table, tolerances, micro-dalton integers.

Knows the monoisotopic masses of residues and modifications (``data/residues.tsv``) and how a
mass in dalton becomes an exact integer. Does not know peptides, spectra or torch.

Sources: proton mass from CODATA 2018; element masses from the AME2016/NIST tables; modification
names and compositions from UNIMOD.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinynovo.errors import InputError

MICRO = 1_000_000
"""Micro-dalton in a dalton."""

PROTON = 1.007276466621
"""Mass of a proton in Da (CODATA 2018)."""

ELEMENTS = {
    "H": 1.00782503223,
    "C": 12.0,
    "N": 14.00307400443,
    "O": 15.99491461957,
    "P": 30.97376199842,
    "S": 31.9720711744,
    "[13C]": 13.00335483507,
    "[15N]": 15.00010889888,
}
"""Monoisotopic element masses in Da (NIST)."""

ISOTOPE_SPACING = ELEMENTS["[13C]"] - ELEMENTS["C"]
"""Distance in Da between the isotope peaks of a peptide."""

_ELEMENT = re.compile(r"(\[\d+[A-Z][a-z]?\]|[A-Z][a-z]?)(-?\d+)?")


def formula_mass(formula: str) -> float:
    """Monoisotopic mass in Da of an elemental formula such as ``C2H3NO`` or ``H-1N-1O``.

    Raises
    ------
    InputError
        When the formula holds anything but known elements and counts.
    """
    total, end = 0.0, 0
    for match in _ELEMENT.finditer(formula):
        element, count = match.groups()
        if match.start() != end or element not in ELEMENTS:
            break
        total += ELEMENTS[element] * int(count or 1)
        end = match.end()
    if end != len(formula) or not formula:
        raise InputError(f"cannot read the formula {formula!r}", remedy="write it as C2H3NO")
    return total


WATER = formula_mass("H2O")
AMMONIA = formula_mass("H3N")
CARBON_MONOXIDE = formula_mass("CO")
PHOSPHORIC_ACID = formula_mass("H3PO4")


def to_udalton(mass: ArrayLike) -> NDArray[np.int64]:
    """Dalton (any float array) to exact int64 micro-dalton, rounded to nearest."""
    return np.rint(np.asarray(mass, dtype=np.float64) * MICRO).astype(np.int64)


def udalton(mass: float) -> int:
    """Dalton to micro-dalton, one number."""
    return round(mass * MICRO)


def neutral_mass(mz: float, charge: int) -> float:
    """Neutral mass in Da of an ion at ``mz`` with ``charge`` protons."""
    return (mz - PROTON) * charge


def ion_mz(mass: float, charge: int) -> float:
    """m/z of a neutral mass in Da carrying ``charge`` protons."""
    return mass / charge + PROTON


@dataclass(frozen=True)
class Residue:
    """One line of the residue table.

    Attributes
    ----------
    token : str
        Name in ProForma: ``A``, ``M[Oxidation]``, ``[Acetyl]-``.
    residue : str
        One-letter code, empty for an N-terminal modification.
    modification : str
        UNIMOD name, empty for a plain residue.
    unimod : int or None
        UNIMOD accession.
    composition : str
        Formula of the residue, or of what the modification adds to it.
    mass : float
        Monoisotopic mass in Da of that formula.
    total : int
        Mass in micro-dalton of the whole token: residue and modification.
    """

    token: str
    residue: str
    modification: str
    unimod: int | None
    composition: str
    mass: float
    total: int

    @property
    def n_terminal(self) -> bool:
        """Whether this is an N-terminal modification rather than a residue."""
        return not self.residue


@cache
def residue_table() -> dict[str, Residue]:
    """The residue table, token -> `Residue`, in file order (``I`` is spelled ``L``)."""
    text = resources.files("tinynovo").joinpath("data/residues.tsv").read_text("utf-8")
    table: dict[str, Residue] = {}
    for row in csv.DictReader(text.splitlines(), delimiter="\t"):
        own = udalton(float(row["mass"]))
        plain = table[row["residue"]].total if row["modification"] and row["residue"] else 0
        table[row["token"]] = Residue(
            token=row["token"],
            residue=row["residue"],
            modification=row["modification"],
            unimod=int(row["unimod"]) if row["unimod"] else None,
            composition=row["composition"],
            mass=float(row["mass"]),
            total=plain + own,
        )
    return table


@dataclass(frozen=True)
class Tolerance:
    """A mass tolerance that carries its unit.

    Parameters
    ----------
    value : float
        Half width of the window.
    unit : {"ppm", "Da"}
    """

    value: float
    unit: Literal["ppm", "Da"]

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """Read ``"20 ppm"`` or ``"0.02 Da"``.

        Raises
        ------
        InputError
            When the number or the unit is missing or unknown.
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ppm|da)\s*", text, re.IGNORECASE)
        if match is None:
            raise InputError(
                f"cannot read the tolerance {text!r}", remedy="write 20 ppm or 0.02 Da"
            )
        return cls(float(match.group(1)), "ppm" if match.group(2).lower() == "ppm" else "Da")

    def window(self, mass: int) -> int:
        """Half width in micro-dalton at a mass in micro-dalton."""
        if self.unit == "ppm":
            return round(mass * self.value / MICRO)
        return udalton(self.value)

    def accepts(self, mass: int, reference: int) -> bool:
        """Whether two masses in micro-dalton agree."""
        return abs(mass - reference) <= self.window(reference)

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


def error_ppm(mass: float, reference: float) -> float:
    """Relative error of ``mass`` against ``reference`` in parts per million."""
    return (mass - reference) / reference * 1e6
