"""The peptides of a proteome by mass, their decoys, and which of them a spectrum may be of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from handmade import cleaned, ladder
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.database import DECOY, Database, hyperscores
from tinynovo.digestion import Forms
from tinynovo.ions import TOKEN_IDS
from tinynovo.peptide import Peptide, fragments

PLAIN = Forms(fixed=())


def ids(text: str) -> np.ndarray:
    return np.array([[TOKEN_IDS[token] for token in Peptide.parse(text).tokens]], np.uint8)


def test_a_database_holds_targets_and_reversed_decoys_by_mass() -> None:
    pieces = {"GASPVTK": ["P1", "P2"], "MGK": ["P3"], "AGK": ["P4"], "GAK": ["P5"]}
    forms = Forms(fixed=("[TMT6plex]-",), variable=("M[Oxidation]",))
    database = Database(pieces, forms)
    found = {
        str(entry.peptide): entry.accessions for entry in map(database.entry, range(len(database)))
    }
    tag = "[TMT6plex]-"
    # AGK reversed is GAK, a target: neither has a decoy.
    assert found == {
        f"{tag}GASPVTK": ("P1", "P2"),
        f"{tag}TVPSAGK": (f"{DECOY}P1", f"{DECOY}P2"),
        f"{tag}MGK": ("P3",),
        f"{tag}GMK": (f"{DECOY}P3",),
        f"{tag}M[Oxidation]GK": ("P3",),
        f"{tag}GM[Oxidation]K": (f"{DECOY}P3",),
        f"{tag}AGK": ("P4",),
        f"{tag}GAK": ("P5",),
    }
    assert (np.diff(database.mass) >= 0).all()
    masses = [database.entry(row).peptide.mass_udalton for row in range(len(database))]
    assert masses == database.mass.tolist()
    decoys = [database.entry(row).decoy for row in range(len(database))]
    assert decoys == database.decoy.tolist()


def test_only_peptides_of_the_mass_are_nominated_best_first() -> None:
    pieces = {piece: ["P"] for piece in ("GASPVTK", "AGSPVTK", "TSAPVGK", "WWWWK")}
    database = Database(pieces, PLAIN)
    peaks = cleaned(ladder("GASPVTK"))
    nominated = [database.entry(row).peptide.sequence for row in database.nominate(peaks, 100, 3)]
    assert nominated[0] == "GASPVTK"
    assert len(nominated) == 3
    assert "WWWWK" not in nominated
    assert database.nominate(peaks.shifted(1), 100, 3) == []


@pytest.mark.parametrize("text", ["GASPVTK", "[TMT6plex]-GASPVTK[TMT6plex]"])
@pytest.mark.parametrize("charge", [2, 3])
def test_hyperscore_counts_every_b_and_y_ion(text: str, charge: int) -> None:
    peaks = cleaned(ladder(text, charge=charge))
    ions = fragments(Peptide.parse(text), (1, 2) if charge > 2 else (1,))
    seen: dict[str, int] = {"b": 0, "y": 0}
    total = 0.0
    for ion in ions:
        near = np.abs(peaks.mz - ion.mz * 1e6) <= ion.mz * 20
        seen[ion.series] += bool(near.any())
        total += float(peaks.intensity[near][:1].sum())
    expected = math.lgamma(seen["b"] + 1) + math.lgamma(seen["y"] + 1) + math.log(total + 1e-3)
    assert hyperscores(ids(text), peaks)[0] == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.text("GASPVTMK", min_size=2, max_size=9), min_size=1, max_size=8, unique=True))
def test_no_decoy_is_a_target_and_each_weighs_what_its_target_does(names: list[str]) -> None:
    database = Database({name: ["P"] for name in names}, PLAIN)
    entries = [database.entry(row) for row in range(len(database))]
    targets = {entry.peptide for entry in entries if not entry.decoy}
    decoys = {entry.peptide for entry in entries if entry.decoy}
    assert targets == {Peptide.parse(name) for name in names}
    assert not targets & decoys
    assert {d.mass_udalton for d in decoys} <= {t.mass_udalton for t in targets}
