"""Percolator's input: its table of candidates with features, read and written.

Knows the columns ``.pin`` has (Käll et al. 2007; https://github.com/percolator/percolator/wiki).
Does not know spectra, nor what learns from the features.

A table is read by its columns ``ScanNr``, ``Peptide``, ``Label`` and ``Proteins``; those who write
them leave fixed modifications unsaid, but say the mass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, TextIO

from tinynovo.errors import InputError
from tinynovo.masses import MICRO, PROTON, neutral_mass
from tinynovo.peptide import Peptide
from tinynovo.psm import DECOYS, PSM
from tinynovo.rows import Writer

_CHARGES = range(1, 7)
HEADER = (
    *("SpecId", "Label", "ScanNr", "ExpMass", "CalcMass", "LogOdds", "MeanResidue", "LeastResidue"),
    *("Support", "PepLen", "AbsErrorPpm", "IsotopeError", *(f"Charge{z}" for z in _CHARGES)),
    *("Peptide", "Proteins"),
)
"""Features are what stands between ``CalcMass`` and ``Peptide``."""

_MOST_LOG_ODDS = 30.0
_UNSAID = (
    {"C": "C[Carbamidomethyl]"},
    {"K": "K[TMT6plex]", "": "[TMT6plex]-"},
)
_SAME_MASS = 0.02


class PinWriter(Writer):
    """Rows with a peptide; a table to learn from, not one of all spectra."""

    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._line(HEADER)

    def _rows(self, psms: Sequence[PSM]) -> None:
        for psm in psms:
            if psm.peptide is not None:
                self._line(_cells(psm, psm.peptide))

    def _line(self, cells: Sequence[str]) -> None:
        self._file.write(("\t".join(" ".join(c.split()) for c in cells) + "\n").encode())


def _cells(psm: PSM, peptide: Peptide) -> list[str]:
    charge = psm.precursor_charge or 0
    measured = neutral_mass(psm.precursor_mz or 0.0, charge)
    score = min(max(psm.score or 0.0, 1e-300), 1 - 1e-15)
    odds = max(-_MOST_LOG_ODDS, math.log(score / (1 - score)))
    residues = psm.residue_scores or (0.0,)
    features = (
        odds,
        sum(residues) / len(residues),
        min(residues),
        sum(psm.support) / len(peptide),
        len(peptide),
        abs(psm.error_ppm or 0.0),
        psm.isotope_error,
        *(int(charge == z) for z in _CHARGES),
    )
    scan = psm.index if psm.scan is None else psm.scan
    proteins = psm.accessions or ("unknown",)
    return [
        f"{Path(psm.file).name}:{psm.identifier}:{charge}:{psm.rank}",
        "-1" if psm.decoy else "1",
        str(scan),
        f"{measured:.6f}",
        f"{peptide.mass_udalton / MICRO:.6f}",
        *(f"{value:.5f}" if isinstance(value, float) else str(value) for value in features),
        f"-.{peptide.proforma}.-",
        *proteins,
    ]


def pin_rows(path: Path, lines: TextIO) -> Iterator[dict[str, Any]]:
    """The rows of a table, under the names of our columns.

    Parameters
    ----------
    path : Path
        For complaints.
    lines : file
        Tab-separated; more than one protein are more than one cell.

    Raises
    ------
    InputError
        When columns are missing or a line is cut off.
    """
    header = next(lines, "").rstrip("\r\n").split("\t")
    columns = {name.lower(): place for place, name in enumerate(header)}
    missing = [n for n in ("ScanNr", "Peptide", "Label", "Proteins") if n.lower() not in columns]
    if missing:
        raise InputError(f"lacks the columns {', '.join(missing)}", file=path)
    for count, line in enumerate(lines, 2):
        cells = line.rstrip("\r\n").split("\t")
        if cells[0] == "DefaultDirection":
            continue
        if len(cells) < len(header):
            raise InputError(f"line {count} is cut off", file=path)
        row = {name: cells[place] for name, place in columns.items()}
        proteins = cells[columns["proteins"] :]
        if row["label"] == "-1":
            proteins = [p if p.lower().startswith(DECOYS) else f"DECOY_{p}" for p in proteins]
        yield {
            "spectrum_id": f"scan={row['scannr']}",
            "sequence": _as_heavy(row["peptide"], row.get("calcmass", "")),
            "accessions": ";".join(proteins),
        }


def _as_heavy(text: str, mass: str) -> str:
    """A peptide with the fixed modifications that the mass said of it, neutral or MH+, tells of."""
    try:
        peptide, said = Peptide.parse(text), float(mass)
    except (InputError, ValueError):
        return text
    for count in range(len(_UNSAID) + 1):
        for unsaid in combinations(_UNSAID, count):
            names = {key: name for part in unsaid for key, name in part.items()}
            modified = _with(peptide, names)
            heavy = modified.mass_udalton / MICRO
            if min(abs(said - heavy), abs(said - heavy - PROTON)) < _SAME_MASS:
                return modified.proforma
    return text


def _with(peptide: Peptide, names: Mapping[str, str]) -> Peptide:
    """A peptide with its bare residues, and a bare N-terminus under "", replaced."""
    ahead = peptide.tokens[: -len(peptide)] or ((names[""],) if "" in names else ())
    return Peptide((*ahead, *(names.get(residue, residue) for residue in peptide.residues)))
