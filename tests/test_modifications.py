"""Names and switches of modifications; the residue table is read here as it is shipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynovo import modifications
from tinynovo.errors import InputError
from tinynovo.masses import Residue, residue_table
from tinynovo.modifications import Switch, known_name, switched

TOKENS = [row.token for row in residue_table().values() if row.modification]


def states(mods: dict[str, Switch]) -> dict[str, Switch]:
    return {row.token: switch for row, switch in switched(mods).items()}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Phospho", "Phospho"),
        ("tmt6PLEX", "TMT6plex"),
        ("m[oxidation]", "M[Oxidation]"),
        ("[ACETYL]-", "[Acetyl]-"),
        ("Ammonia-loss", "Ammonia-loss"),
    ],
)
def test_names_in_any_case(text: str, name: str):
    assert known_name(text) == name


@pytest.mark.parametrize("text", ["Fosfo", "K", "", "[Oxidation]", "Oxidation ", "P[Phospho]"])
def test_an_unknown_name_is_told_the_known_ones(text: str):
    with pytest.raises(InputError) as caught:
        known_name(text)
    line = str(caught.value)
    assert line.startswith(f"unknown modification {text!r} (known are Carbamidomethyl, Oxidation, ")
    assert all(token in line for token in TOKENS)
    assert "\n" not in line


def test_all_are_on_unless_they_are_named():
    assert list(states({}).items()) == [(token, "on") for token in TOKENS]


def test_a_modification_means_all_its_tokens():
    phospho = {"S[Phospho]", "T[Phospho]", "Y[Phospho]"}
    assert states({"Phospho": "off"}) == {t: "off" if t in phospho else "on" for t in TOKENS}
    labelled = states({"TMT6plex": "fixed"})
    assert {t for t in TOKENS if labelled[t] == "fixed"} == {"K[TMT6plex]", "[TMT6plex]-"}


@pytest.mark.parametrize("backwards", [False, True])
def test_a_token_counts_more_than_its_modification(backwards: bool):
    pairs: list[tuple[str, Switch]] = [("TMT6plex", "fixed"), ("[TMT6plex]-", "on")]
    found = states(dict(pairs[::-1] if backwards else pairs))
    assert (found["K[TMT6plex]"], found["[TMT6plex]-"]) == ("fixed", "on")


@pytest.mark.parametrize(
    ("mods", "tokens"),
    [
        ({"Acetyl": "fixed", "TMT6plex": "fixed"}, "[Acetyl]-, [TMT6plex]-"),
        ({"[Carbamyl]-": "fixed", "ammonia-loss": "fixed"}, "[Carbamyl]-, [Ammonia-loss]-"),
    ],
)
def test_two_fixed_modifications_of_the_terminus_are_refused(mods: dict[str, Switch], tokens: str):
    with pytest.raises(InputError) as caught:
        switched(mods)
    assert str(caught.value) == (
        f"the N-terminus has more than one fixed modification: {tokens} (fix one of them)"
    )


def test_two_fixed_modifications_of_a_residue_are_refused(monkeypatch: pytest.MonkeyPatch):
    """The shipped table has no residue with two; one more phosphorylated one makes a second."""
    table = residue_table()
    other = Residue("S[Acetyl]", "S", "Acetyl", 1, "C2H2O", 42.010565, 129_042_593)
    monkeypatch.setattr(modifications, "_modified", lambda: [table["S[Phospho]"], other])
    monkeypatch.setattr(modifications, "_names", lambda: {"phospho": "Phospho", "acetyl": "Acetyl"})
    assert states({"Phospho": "fixed", "Acetyl": "off"})["S[Acetyl]"] == "off"
    with pytest.raises(InputError, match=r"^S has more than one .*: S\[Phospho\], S\[Acetyl\] "):
        switched({"Phospho": "fixed", "Acetyl": "fixed"})


NAMES = sorted(
    {row.modification for row in residue_table().values() if row.modification} | {*TOKENS}
)


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["on", "off", "fixed"])))
def test_every_token_is_what_is_said_of_it(mods: dict[str, Switch]):
    try:
        found = states(mods)
    except InputError:
        assert list(mods.values()).count("fixed") > 1
        return
    assert list(found) == TOKENS
    for token, switch in found.items():
        said = mods.get(token, mods.get(residue_table()[token].modification))
        assert switch == (said or "on")


def test_what_is_not_named_may_be_as_others_say() -> None:
    found = {row.token: switch for row, switch in switched({}, {"M[Oxidation]": "on"}).items()}
    assert found.pop("M[Oxidation]") == "on"
    assert set(found.values()) == {"off"}
    named = {
        row.token: s for row, s in switched({"Oxidation": "off"}, {"M[Oxidation]": "on"}).items()
    }
    assert set(named.values()) == {"off"}
