"""The peptides of a proteome by mass, their decoys, and which of them a spectrum may be of."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from handmade import cleaned, ladder
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.database import DECOY, Database, Search, hyperscores
from tinynovo.digestion import Forms
from tinynovo.ions import TOKEN_IDS
from tinynovo.masses import Tolerance
from tinynovo.peptide import Peptide, fragments
from tinynovo.psm import PSM

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


def test_proteins_of_a_peptide() -> None:
    database = Database({"GASPVTK": ["P1", "P2"], "AGSPVTK": ["P3"]}, PLAIN)
    assert database.accessions_of(Peptide.parse("GASPVTK")) == ("P1", "P2")
    assert database.accessions_of(Peptide.parse("TVPSAGK")) == (f"{DECOY}P1", f"{DECOY}P2")
    assert database.accessions_of(Peptide.parse("SAGPVTK")) == ()
    assert database.accessions_of(Peptide.parse("WWK")) == ()


def test_a_search_proposes_and_tells_the_best() -> None:
    database = Database({"GASPVTK": ["P1"], "AGSPVTK": ["P3"]}, PLAIN)
    search = Search(database, Tolerance.parse("20 ppm"), count=3, most=1)
    spectrum = ladder("GASPVTK")
    proposed = search.propose(spectrum, cleaned(spectrum))
    assert len(proposed) == 3
    assert proposed[0] == Peptide.parse("GASPVTK")
    blank = PSM("a.mgf", 0, "index=0", None)
    rows = [replace(blank, peptide=peptide, rank=r) for r, peptide in enumerate(proposed, 1)]
    (told,) = search.told(spectrum, rows)
    assert (told.peptide, told.accessions) == (proposed[0], ("P1",))
    (none,) = search.told(spectrum, [replace(blank, reason_code="no_peptide_fits")])
    assert none.reason_code == "no_candidate"
    (bad,) = search.told(spectrum, [replace(blank, reason_code="no_charge")])
    assert bad.reason_code == "no_charge"
    assert search.complaint() is None
