"""Digestion: protein databases to tryptic peptides, in the forms that modifications give them.

Knows FASTA, trypsin, and fixed and variable modifications. Does not know masses nor spectra.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from pyteomics import fasta
from pyteomics.parser import xcleave

from tinynovo.errors import InputError
from tinynovo.masses import residue_table
from tinynovo.modifications import Switch, switched
from tinynovo.peptide import Peptide

_CLEAVAGE = r"(?<=[KR])(?!P)"
_RESIDUES = frozenset({*(r.residue for r in residue_table().values() if r.residue), "I"})


USUAL: dict[str, Switch] = {"C[Carbamidomethyl]": "fixed", "M[Oxidation]": "on"}
"""Modifications of a database search that is told of none."""


@dataclass(frozen=True)
class Forms:
    """The modified forms that peptides are looked for in.

    Attributes
    ----------
    fixed, variable : tuple of str
        Tokens of the residue table that every residue of theirs, or any, is. A fixed N-terminal
        modification is on every peptide.
    most : int
        Variable modifications of one peptide.
    """

    fixed: tuple[str, ...] = ("C[Carbamidomethyl]",)
    variable: tuple[str, ...] = ()
    most: int = 2

    @classmethod
    def by(cls, mods: Mapping[str, Switch], most: int = 2) -> Forms:
        """The forms that switched modifications ask for; what is not named is as `USUAL` says."""
        switches = switched(mods, USUAL)
        fixed = tuple(row.token for row, switch in switches.items() if switch == "fixed")
        variable = tuple(row.token for row, switch in switches.items() if switch == "on")
        return cls(fixed, variable, most)

    @cached_property
    def _always(self) -> dict[str, str]:
        table = residue_table()
        return {"I": "L"} | {table[token].residue: token for token in self.fixed}

    @cached_property
    def _sometimes(self) -> dict[str, list[str]]:
        table = residue_table()
        found: dict[str, list[str]] = {}
        for token in self.variable:
            found.setdefault(table[token].residue, []).append(token)
        return found

    def of(self, residues: str) -> Iterator[Peptide]:
        """Every form of a peptide, of fewer variable modifications first."""
        start = self._always.get("", "")
        base = [start, *(self._always.get(residue, residue) for residue in residues)]
        sites = [
            (place, token)
            for place, residue in enumerate(["", *residues])
            for token in self._sometimes.get(residue, ())
        ]
        for count in range(min(self.most, len(sites)) + 1):
            for chosen in combinations(sites, count):
                if len({place for place, _ in chosen}) == count:
                    changed = dict(chosen)
                    tokens = (changed.get(place, token) for place, token in enumerate(base))
                    yield Peptide(tuple(token for token in tokens if token))


def proteins(path: Path) -> Iterator[tuple[str, str]]:
    """Accessions (the first word after ``>``) and sequences of a FASTA file.

    Sequences are upper case, stop marks at their end removed.

    Raises
    ------
    InputError
        When the file cannot be read or is no FASTA.
    """
    try:
        with path.open(encoding="utf-8") as file:
            begin = next((line for line in file if line.strip()), "")
        if not begin.startswith(">"):
            raise InputError("not a FASTA file", file=path, remedy="it must begin with >")
        with fasta.FASTA(str(path), encoding="utf-8") as file:
            entries = list(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the FASTA file: {error}", file=path) from error
    for description, sequence in entries:
        clean = sequence.upper().rstrip("*")
        if re.fullmatch(r"[A-Z*-]*", clean) is None:
            raise InputError(f"no protein sequence after >{description[:40]}", file=path)
        yield (description.split() or [""])[0], clean


def cleaved(
    path: Path, *, missed_cleavages: int = 1, min_length: int = 7, max_length: int = 30
) -> dict[str, list[str]]:
    """Tryptic pieces of a protein database (cut after K and R, not before P) and their accessions.

    Parameters
    ----------
    path : Path
        FASTA.
    missed_cleavages : int
        At most so many inner cleavage sites.
    min_length, max_length : int
        Residues.

    Returns
    -------
    dict of str to list of str
        In the order of the file; those that hold an unknown residue (B, J, O, U, X, Z, ``*``) are
        left out.

    Raises
    ------
    InputError
        When the file cannot be read, is no FASTA, or gives no peptide.
    """
    found: dict[str, list[str]] = {}
    for accession, sequence in proteins(path):
        pieces = xcleave(sequence, _CLEAVAGE, missed_cleavages, min_length, max_length, regex=True)
        for piece in dict.fromkeys(piece for _, piece in pieces):
            if set(piece) <= _RESIDUES:
                found.setdefault(piece, []).append(accession)
    if not found:
        problem = f"no tryptic peptide of {min_length} to {max_length} residues"
        raise InputError(problem, file=path)
    return found


def digest(pieces: Sequence[str], forms: Forms) -> list[Peptide]:
    """Peptides of cleaved pieces in all forms, each once, I spelled L."""
    return list(dict.fromkeys(form for piece in pieces for form in forms.of(piece)))
