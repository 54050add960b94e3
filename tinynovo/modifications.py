"""Modifications: which of the residue table are looked for, and which are always there.

Knows what they are called and what it means to switch one on, off or fixed. Does not know
peptides, spectra or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import groupby
from typing import Literal

from tinynovo.errors import InputError
from tinynovo.masses import Residue, residue_table

Switch = Literal["on", "off", "fixed"]
"""May be there, is never there, is there wherever it could be."""


@cache
def _modified() -> list[Residue]:
    """The tokens that can be switched, in the order of the table."""
    return [row for row in residue_table().values() if row.modification]


@cache
def _names() -> dict[str, str]:
    """What can be switched, lower case -> as it is written: modifications, then tokens."""
    modifications = [row.modification for row in _modified()]
    return {name.lower(): name for name in (*modifications, *(row.token for row in _modified()))}


def known_name(text: str) -> str:
    """A modification (``Phospho``) or a token (``S[Phospho]``) as it is written, from any case.

    Raises
    ------
    InputError
        For a name the residue table does not hold; lists the known ones.
    """
    if text.lower() not in _names():
        known = ", ".join(_names().values())
        raise InputError(f"unknown modification {text!r}", remedy=f"known are {known}")
    return _names()[text.lower()]


def switched(
    mods: Mapping[str, Switch], others: Mapping[str, Switch] | None = None
) -> dict[Residue, Switch]:
    """What is said of every token that holds a modification, in the order of the residue table.

    Parameters
    ----------
    mods : mapping of str to {"on", "off", "fixed"}
        By the name of a modification, which means all its tokens, or of one token, which counts
        more.
    others : mapping of str to {"on", "off", "fixed"}, optional
        What tokens are that are not named, off where they are not here either. Left out, all that
        is not named is on.

    Raises
    ------
    InputError
        For an unknown name, and for two fixed modifications of one residue or of the N-terminus.
    """
    given = {known_name(name): switch for name, switch in mods.items()}
    usual: dict[str, Switch] = {
        row.token: "on" if others is None else others.get(row.token, "off") for row in _modified()
    }
    found: dict[Residue, Switch] = {
        row: given.get(row.token, given.get(row.modification, usual[row.token]))
        for row in _modified()
    }
    fixed = sorted((row for row in found if found[row] == "fixed"), key=lambda row: row.residue)
    for place, rows in groupby(fixed, key=lambda row: row.residue):
        tokens = [row.token for row in rows]
        if len(tokens) > 1:
            raise InputError(
                f"{place or 'the N-terminus'} has more than one fixed modification: "
                f"{', '.join(tokens)}",
                remedy="fix one of them",
            )
    return found
