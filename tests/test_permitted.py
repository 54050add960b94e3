from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tinynovo.errors import InputError
from tinynovo.modifications import Switch
from tinynovo.peptide import Peptide
from tinynovo.permitted import Permitted
from tinynovo.scorer import anchors
from tinynovo.tokens import PAD, TOKENS, answer_batch, encode, token_ids, token_masses

MASSES = token_masses()


def missing(mask: Tensor) -> set[str]:
    return {token for token, there in zip(TOKENS, mask.tolist(), strict=True) if not there}


def held(mask: Tensor) -> set[str]:
    return set(TOKENS) - missing(mask)


def test_nothing_is_switched_and_nothing_is_missing():
    everything = Permitted.by({})
    assert everything.first.all()
    assert everything.others.all()


@pytest.mark.parametrize(
    ("mods", "others"),
    [
        ({"Phospho": "off"}, {"S[Phospho]", "T[Phospho]", "Y[Phospho]"}),
        ({"M[Oxidation]": "off", "[Acetyl]-": "off"}, {"M[Oxidation]", "[Acetyl]-"}),
        ({"Carbamidomethyl": "fixed"}, {"C"}),
        ({"Deamidated": "fixed", "N[Deamidated]": "off"}, {"Q", "N[Deamidated]"}),
        ({"TMT6plex": "fixed", "[TMT6plex]-": "off"}, {"K", "[TMT6plex]-"}),
    ],
)
def test_masks_without_a_required_start_are_the_same_everywhere(
    mods: dict[str, Switch], others: set[str]
):
    permitted = Permitted.by(mods)
    assert missing(permitted.first) == missing(permitted.others) == others


def test_a_fixed_start_is_all_that_the_first_slot_may_hold():
    permitted = Permitted.by({"TMT6plex": "fixed", "Phospho": "off"})
    assert held(permitted.first) == {"[TMT6plex]-"}
    assert missing(permitted.others) == {"K", "S[Phospho]", "T[Phospho]", "Y[Phospho]"}


def test_what_cannot_be_switched_is_refused():
    with pytest.raises(InputError, match="unknown modification 'K'"):
        Permitted.by({"K": "off"})


@pytest.mark.parametrize(
    ("mods", "heads"),
    [
        ({}, ["$", "[Acetyl]-", "[Carbamyl]-", "[Ammonia-loss]-", "[TMT6plex]-"]),
        ({"TMT6plex": "off", "Acetyl": "off"}, ["$", "[Carbamyl]-", "[Ammonia-loss]-"]),
        ({"Acetyl": "fixed"}, ["[Acetyl]-"]),
    ],
)
def test_what_may_stand_before_the_residues(mods: dict[str, Switch], heads: list[str]):
    expected = [int(MASSES[TOKENS.index(token)]) for token in heads]
    assert sorted(Permitted.by(mods).heads().tolist()) == sorted(expected)


def test_along_an_answer_the_first_slot_is_known_from_either_end():
    permitted = Permitted.by({"Acetyl": "fixed", "Oxidation": "off"})
    answer = answer_batch([encode(Peptide.parse("[Acetyl]-GMK"))], 5)
    mass = MASSES[answer].sum(-1)
    forwards, backwards = permitted.along(answer, mass)
    assert held(forwards[0, 0]) == {"[Acetyl]-"}
    assert all(missing(slot) == {"M[Oxidation]"} for slot in forwards[0, 1:])
    acetyl, g, m = token_ids(["[Acetyl]-", "G", "M"])
    # Reading backwards at G, 42 + 57 Da are left: V (99) ends there, and V cannot be the first.
    left = anchors(answer, mass)[1][0].tolist()
    assert left[:2] == [int(MASSES[acetyl]), int(MASSES[acetyl] + MASSES[g])]
    assert missing(backwards[0, 2]) == {"M[Oxidation]"}
    assert missing(backwards[0, 1]) == {"M[Oxidation]"}
    assert backwards[0, 0, acetyl]
    at_v = torch.tensor([[int(MASSES[TOKENS.index("V")])]])
    assert missing(permitted.at(at_v, mass, forwards=False)[0, 0]) == {"M[Oxidation]", "V"}
    assert not permitted.at(at_v * 0, mass, forwards=True)[0, 0, [PAD, m]].any()
