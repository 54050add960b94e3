"""Protein databases to peptides in all their forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinynovo.digestion import Forms, cleaved, digest
from tinynovo.errors import InputError
from tinynovo.peptide import Peptide


def fasta(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "proteins.fasta"
    path.write_text(text)
    return path


def peptides(path: Path, forms: Forms | None = None, **limits: int) -> list[Peptide]:
    return digest(list(cleaved(path, **limits)), forms or Forms())


def test_digest_of_a_hand_worked_protein(tmp_path: Path) -> None:
    # MAGIK | CPEPR | KPLM... : R|K is cut, KP is not.
    path = fasta(tmp_path, ">p1 by hand\nMAGIKCPEPR\nKPLMDER\n")
    found = [p.proforma for p in peptides(path, missed_cleavages=0, min_length=2)]
    assert found == ["MAGLK", "C[Carbamidomethyl]PEPR", "KPLMDER"]
    found = [p.proforma for p in peptides(path, missed_cleavages=1, min_length=6)]
    assert sorted(found) == sorted(
        ["MAGLKC[Carbamidomethyl]PEPR", "C[Carbamidomethyl]PEPRKPLMDER", "KPLMDER"]
    )
    bare = peptides(path, Forms(fixed=()), missed_cleavages=0, min_length=2)
    assert bare[1].proforma == "CPEPR"


def test_digest_limits_length_and_repeats_nothing(tmp_path: Path) -> None:
    path = fasta(tmp_path, ">a\nAAAAKGGGGGGKAAAAK\n>b\nAAAAKLLLK\n>c\nAAAAKIIIK*\n")
    found = [p.proforma for p in peptides(path, missed_cleavages=0, min_length=4, max_length=5)]
    assert found == ["AAAAK", "LLLK"]


def test_digest_oxidises_in_every_combination(tmp_path: Path) -> None:
    path = fasta(tmp_path, ">a\nMAMAK\n")
    found = [p.proforma for p in peptides(path, Forms(variable=("M[Oxidation]",)), min_length=2)]
    ox = "M[Oxidation]"
    assert found == ["MAMAK", f"{ox}AMAK", f"MA{ox}AK", f"{ox}A{ox}AK"]
    assert len(peptides(path, Forms(variable=("M[Oxidation]",), most=1), min_length=2)) == 3


def test_digest_leaves_out_unknown_residues(tmp_path: Path) -> None:
    path = fasta(tmp_path, ">a\nAAXAK" + "".join(f"AA{c}AK" for c in "BZUOJ") + "GG*GKSSSSK\n")
    assert [p.proforma for p in peptides(path, missed_cleavages=0, min_length=2)] == ["SSSSK"]


@pytest.mark.parametrize(
    "text", ["", "hello\n", "BEGIN IONS\nTITLE=a\n100 1\nEND IONS\n", ">a\n123 456\n", ">a\nGG\n"]
)
def test_digest_complains_of_what_is_no_fasta(tmp_path: Path, text: str) -> None:
    path = fasta(tmp_path, text)
    with pytest.raises(InputError) as caught:
        cleaved(path)
    assert str(path) in str(caught.value)


def test_digest_complains_of_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        cleaved(tmp_path / "missing.fasta")
    binary = tmp_path / "binary.fasta"
    binary.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(InputError):
        cleaved(binary)


def test_pieces_know_their_proteins(tmp_path: Path) -> None:
    path = fasta(tmp_path, ">sp|P1|A first\nAAAAKGGGGK\n>P2\nAAAAKAAAAK\n")
    found = cleaved(path, missed_cleavages=0, min_length=5)
    assert found == {"AAAAK": ["sp|P1|A", "P2"], "GGGGK": ["sp|P1|A"]}


def test_forms_hold_fixed_and_variable_modifications_of_residues_and_of_the_start() -> None:
    forms = Forms(
        fixed=("K[TMT6plex]", "[TMT6plex]-"), variable=("S[Phospho]", "M[Oxidation]"), most=1
    )
    tag = "[TMT6plex]-"
    assert [p.proforma for p in forms.of("MSIK")] == [
        f"{tag}MSLK[TMT6plex]",
        f"{tag}M[Oxidation]SLK[TMT6plex]",
        f"{tag}MS[Phospho]LK[TMT6plex]",
    ]
    # Two that want the same place are never on it together.
    several = Forms(fixed=(), variable=("[Acetyl]-", "[Carbamyl]-"), most=2)
    assert [p.proforma for p in several.of("GK")] == ["GK", "[Acetyl]-GK", "[Carbamyl]-GK"]


def test_forms_of_switched_modifications() -> None:
    assert Forms.by({}) == Forms(("C[Carbamidomethyl]",), ("M[Oxidation]",), 2)
    given = Forms.by({"TMT6plex": "fixed", "Oxidation": "off", "S[Phospho]": "on"}, most=1)
    assert set(given.fixed) == {"C[Carbamidomethyl]", "K[TMT6plex]", "[TMT6plex]-"}
    assert given.variable == ("S[Phospho]",)
    assert [str(p) for p in given.of("SK")] == [
        "[TMT6plex]-SK[TMT6plex]",
        "[TMT6plex]-S[Phospho]K[TMT6plex]",
    ]
