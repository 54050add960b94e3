"""Peptides: ProForma in and out, fragment ions.

Knows what a peptide is, how people spell one and what it breaks into. Does not know files, spectra
or torch.

Spellings: ProForma 2.0 (LeDuc et al. 2022) as far as the residue table reaches, and those of
Casanovo (``M+15.995``), PEAKS (``M(+15.99)``), MSFragger (``M[15.9949]``), the TPP (``M[147]``,
``n[43]``), MaxQuant (``_(ac)PEPM(ox)K_``) and InstaNovo (``S(p)``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import NamedTuple

from tinynovo.errors import InputError
from tinynovo.masses import (
    CARBON_MONOXIDE,
    ELEMENTS,
    MICRO,
    WATER,
    Residue,
    formula_mass,
    ion_mz,
    residue_table,
    udalton,
)

_PIECE = re.compile(r"\[[^\]]*\]-|[A-Z](?:\[[^\]]*\])?")
_FLANKED = re.compile(r"(?:\[[A-Z*_-]+\]|[A-Z*_-])\.(.+)\.(?:\[[A-Z*_-]+\]|[A-Z*_-])")
_ITEM = re.compile(
    r"(?P<letter>[A-Za-z])"
    r"|\[(?P<square>[^\]]*)\]"
    r"|\((?P<round>(?:[^()]|\([^()]*\))*)\)"
    r"|(?P<mass>[+-](?:\d+\.?\d*|\.\d+))"
    r"|(?P<dash>-)"
)
_NUMBER = re.compile(r"(?P<sign>[+-]?)(?:\d+\.?(?P<decimals>\d*)|\.(?P<fraction>\d+))")

_SAME_RESIDUE = {"I": "L", "J": "L"}
_ALIASES = {
    "ac": "acetyl",
    "acetylation": "acetyl",
    "carbamidomethylation": "carbamidomethyl",
    "cam": "carbamidomethyl",
    "carbamylation": "carbamyl",
    "de": "deamidated",
    "deamidation": "deamidated",
    "gln->pyro-glu": "ammonia-loss",
    "ox": "oxidation",
    "p": "phospho",
    "ph": "phospho",
    "phosphorylation": "phospho",
}
_ALIAS_ACCESSIONS = {28: 385}
"""Gln->pyro-Glu loses the ammonia that the table calls Ammonia-loss."""

LOSES = {
    "H2O": frozenset({"S", "T", "E", "D"}),
    "NH3": frozenset({"R", "K", "N", "Q"}),
    "H3PO4": frozenset({"S[Phospho]", "T[Phospho]", "Y[Phospho]"}),
}
"""Neutral losses, and the tokens a fragment needs for one."""

_SERIES = {"a": -CARBON_MONOXIDE, "b": 0.0, "y": WATER}


class UnknownResidueError(InputError):
    """A peptide can be read, but holds what the residue table lacks."""


@dataclass(frozen=True)
class Peptide:
    """A peptide as a tuple of tokens of the residue table, N to C.

    Attributes
    ----------
    tokens : tuple of str
        Names of the residue table; an N-terminal modification (``[Acetyl]-``) comes first.
        Isoleucine is spelled ``L``.
    """

    tokens: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Peptide:
        """Read a peptide in ProForma or in a spelling met in the wild.

        Flanking residues (``K.PEPTIDE.R``) and a charge (``/2``) are dropped; I becomes L. A bare
        C is unmodified. Masses stand for the one modification of the residue table that rounds to
        them; without a sign they may be the mass of residue and modification together.

        Raises
        ------
        UnknownResidueError
            For a peptide with a residue or modification that the residue table lacks.
        InputError
            For anything else that is not a peptide.
        """
        pieces = _PIECE.findall(text)
        known = _canonical()
        tokens = tuple(known.get(piece, "") for piece in pieces)
        plain = all(tokens) and "".join(pieces) == text
        if plain and len(tokens) > (text[:1] == "[") and not any("]-" in t for t in tokens[1:]):
            return cls(tokens)
        return cls(_parse_wild(text))

    @property
    def proforma(self) -> str:
        """The peptide in ProForma, L for I or L: ``[Acetyl]-PEPTLDEC[Carbamidomethyl]``."""
        return "".join(self.tokens)

    @property
    def residues(self) -> tuple[str, ...]:
        """The tokens without the N-terminal modification."""
        return self.tokens[1:] if self.tokens and self.tokens[0].endswith("-") else self.tokens

    @property
    def sequence(self) -> str:
        """One-letter codes without modifications."""
        return "".join(token[0] for token in self.residues)

    @property
    def mass_udalton(self) -> int:
        """Neutral monoisotopic mass in micro-dalton."""
        table = residue_table()
        return sum(table[token].total for token in self.tokens) + udalton(WATER)

    def __len__(self) -> int:
        return len(self.residues)

    def __str__(self) -> str:
        return self.proforma


class Fragment(NamedTuple):
    """A fragment ion.

    Attributes
    ----------
    series : {"a", "b", "y"}
    ordinal : int
        Residues in the fragment.
    charge : int
    loss : str
        Neutral loss, ``H2O`` or ``H2O+NH3``; empty for none.
    mz : float
        In Th.
    """

    series: str
    ordinal: int
    charge: int
    loss: str
    mz: float


def fragments(
    peptide: Peptide,
    charges: Sequence[int] = (1,),
    series: str = "by",
    losses: Sequence[str] = ("",),
) -> list[Fragment]:
    """Fragment ions of a peptide, by series, ordinal, charge and loss.

    Parameters
    ----------
    peptide : Peptide
    charges : sequence of int
    series : str
        Any of ``a`` (b less CO), ``b`` and ``y``.
    losses : sequence of str
        ``""`` for none; names of `LOSES`, joined by ``+`` when several are lost together. A loss
        is left out for a fragment without the residues for it.

    Returns
    -------
    list of Fragment
        An N-terminal modification is part of every a and b ion.
    """
    residues = peptide.residues
    wanted = [(loss, Counter(loss.split("+")) if loss else Counter()) for loss in losses]
    ions = []
    for kind in series:
        for ordinal, mass in enumerate(fragment_masses(peptide, kind), 1):
            part = residues[len(residues) - ordinal :] if kind == "y" else residues[:ordinal]
            for charge in charges:
                for loss, parts in wanted:
                    if parts and not _can_lose(part, parts):
                        continue
                    lost = sum(formula_mass(name) * count for name, count in parts.items())
                    ions.append(Fragment(kind, ordinal, charge, loss, ion_mz(mass - lost, charge)))
    return ions


def fragment_masses(peptide: Peptide, series: str) -> list[float]:
    """Neutral masses in Da of the fragments of one series, a, b or y, by their ordinals from 1."""
    table = residue_table()
    masses = [table[token].total for token in peptide.residues]
    start = sum(table[token].total for token in peptide.tokens) - sum(masses)
    if series == "y":
        masses, start = masses[::-1], 0
    sums = accumulate(masses, initial=start)
    return [mass / MICRO + _SERIES[series] for mass in list(sums)[1:-1]]


def _can_lose(residues: Sequence[str], parts: Counter[str]) -> bool:
    return all(
        sum(residue in LOSES[name] for residue in residues) >= count
        for name, count in parts.items()
    )


@cache
def _canonical() -> dict[str, str]:
    """The table's own spelling of every token, and I for L."""
    return {token: token for token in residue_table()} | _SAME_RESIDUE


def _parse_wild(text: str) -> tuple[str, ...]:
    """Tokens of any spelling."""
    body = re.sub(r"/\d+$", "", text.strip())
    flanked = _FLANKED.fullmatch(body)
    body = (flanked.group(1) if flanked else body).strip("_")
    terminal, residues = _split(text, body.removeprefix("n") if body[:2] == "n[" else body)
    case = {letter.isupper() for letter, _ in residues}
    if not residues:
        raise InputError(f"no residues in peptide {text!r}")
    if len(case) > 1:
        raise InputError(
            f"lower and upper case in peptide {text!r}", remedy="name the modifications"
        )
    before = [_known(text, f"[{tag}]-", _modified("", tag)) for tag in terminal]
    tokens = []
    for place, (letter, tags) in enumerate(residues):
        plain = _SAME_RESIDUE.get(letter.upper(), letter.upper())
        token = _known(text, letter, plain if plain in residue_table() else None)
        for tag in tags:
            modified = _modified(plain, tag) if token == plain else None
            ahead = _modified("", tag) if modified is None and place == 0 else None
            if ahead is not None:
                before.append(ahead)
            else:
                token = _known(text, f"{token}[{tag}]", modified)
        tokens.append(token)
    if len(before) > 1:
        raise UnknownResidueError(f"several N-terminal modifications in peptide {text!r}")
    return (*before, *tokens)


def _split(text: str, body: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Tags before the first residue, and every residue with the tags behind it."""
    terminal: list[str] = []
    residues: list[tuple[str, list[str]]] = []
    end = 0
    while match := _ITEM.match(body, end):
        end = match.end()
        if match["letter"]:
            residues.append((match["letter"], []))
        elif not match["dash"]:
            tag = match["square"] or match["round"] or match["mass"] or ""
            (residues[-1][1] if residues else terminal).append(tag)
        elif residues or not terminal:
            break
    else:
        if end == len(body):
            return terminal, residues
    what = body[match.start() if match else end :]
    raise InputError(
        f"cannot read {what!r} in peptide {text!r}",
        remedy="write ProForma, such as [Acetyl]-PEPTIDEM[Oxidation]K",
    )


def _known(text: str, spelled: str, token: str | None) -> str:
    """The token, or the complaint that there is none."""
    if token is None:
        raise UnknownResidueError(
            f"residue {spelled!r} of peptide {text!r} is not in the residue table",
            remedy=f"known are {', '.join(residue_table())}",
        )
    return token


@cache
def _modified(residue: str, tag: str) -> str | None:
    """Token of a residue (empty: the N-terminus) with a tag as written behind it, if any."""
    rows = [row for row in residue_table().values() if row.residue == residue]
    for part in tag.split("|"):
        name = part.strip().lower()
        accession = re.fullmatch(r"(?:unimod|u):(\d+)", name)
        name = re.sub(r"^(?:unimod|u|obs):", "", name)
        if accession:
            number = int(accession[1])
            number = _ALIAS_ACCESSIONS.get(number, number)
            found = [row for row in rows if row.unimod == number]
        elif match := _NUMBER.fullmatch(name):
            found = _by_mass(rows, match)
        else:
            name = re.sub(r"\s*\(.*\)$", "", name)
            name = _ALIASES.get(name, name)
            found = [row for row in rows if row.modification and row.modification.lower() == name]
        if len(found) == 1:
            return found[0].token
    return None


def _by_mass(rows: Sequence[Residue], number: re.Match[str]) -> list[Residue]:
    """Rows that a written mass can mean, given the decimals it is written with."""
    value = float(number[0])
    decimals = len(number["decimals"] or number["fraction"] or "")
    tolerance = max(0.501 * 10.0**-decimals, 0.002)
    added = [row for row in rows if row.modification and abs(row.mass - value) <= tolerance]
    if number["sign"]:
        return added
    hydrogen = ELEMENTS["H"]
    whole = [
        row
        for row in rows
        if abs(row.total / MICRO + row.n_terminal * hydrogen - value) <= tolerance
    ]
    return whole + added if decimals else whole or added
