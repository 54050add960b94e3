"""Permitted: which tokens an answer may hold, and where, as the modifications are switched.

Knows how switched modifications become masks, and where along a peptide each mask holds. Does not
know how peptides are built beyond that, nor what searches or ranks them.

Axes: B spectra or answers, S slots (or beams), V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tinynovo.compositions import compositions
from tinynovo.evidence import closing_slack
from tinynovo.launches import seen
from tinynovo.modifications import Switch, switched
from tinynovo.rules import Rules
from tinynovo.scorer import anchors
from tinynovo.tokens import PAD, VOCABULARY, n_terminal_tokens, token_ids, token_masses


@dataclass(frozen=True, eq=False)
class Permitted:
    """Which tokens may stand where; padding is permitted where a slot may stay empty.

    That an N-terminal modification stands in the first slot only goes without saying: it holds of
    every peptide and is not part of the masks.

    Attributes
    ----------
    first : bool [V]
        In the first slot.
    others : bool [V]
        In every other slot.
    """

    first: Tensor
    others: Tensor

    @classmethod
    def by(cls, mods: Mapping[str, Switch], device: torch.device | None = None) -> Permitted:
        """What modifications, switched as in `switched`, leave.

        One that is off is not there. One that is fixed leaves no residue without it, and at the
        N-terminus no answer that begins otherwise.

        Raises
        ------
        InputError
            For an unknown name, and for two fixed modifications of one residue or of the
            N-terminus.
        """
        switches = switched(mods)
        off = [row.token for row, switch in switches.items() if switch == "off"]
        fixed = [row for row, switch in switches.items() if switch == "fixed"]
        others = torch.ones(VOCABULARY, dtype=torch.bool, device=device)
        others[token_ids([*off, *(row.residue for row in fixed if row.residue)])] = False
        first = others.clone()
        if required := [row.token for row in fixed if row.n_terminal]:
            first[:] = False
            first[token_ids(required)] = True
        return cls(first, others)

    def heads(self) -> Tensor:
        """Masses in micro-dalton of what may stand before the residues: int64, 0 for nothing."""
        place = n_terminal_tokens(self.first.device)
        place[PAD] = True
        return token_masses(self.first.device)[self.first & place]

    def rules(self) -> Rules:
        """The same for compiled functions, on the device that it is on."""
        sums = torch.from_numpy(compositions()).to(self.first.device)
        return Rules(seen(self.first), seen(self.others), seen(self.heads()), seen(sums))

    def at(self, anchor: Tensor, residue_mass: Tensor, *, forwards: bool) -> Tensor:
        """What may be put to an anchor: bool [B, S, V].

        Going backwards the first slot is wherever a token leaves nothing to be read.

        Parameters
        ----------
        anchor : int64 [B, S]
            Cut where the token begins (forwards) or ends (backwards), micro-dalton.
        residue_mass : int64 [B]
            Of the precursors, micro-dalton.
        """
        if forwards:
            begins = (anchor == 0)[..., None]
        else:
            remaining = anchor[..., None] - token_masses(anchor.device)
            begins = remaining.abs() <= closing_slack(residue_mass)[:, None, None]
        return torch.where(begins, self.first, self.others)

    def along(self, answer: Tensor, residue_mass: Tensor) -> tuple[Tensor, Tensor]:
        """The same at every slot of answers int64 [B, S], forwards and backwards."""
        left, right = anchors(answer, residue_mass)
        return (
            self.at(left, residue_mass, forwards=True),
            self.at(right, residue_mass, forwards=False),
        )
