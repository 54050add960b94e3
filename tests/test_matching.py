"""Candidates of other tools: whose they are, what becomes of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from handmade import ladder

from tinynovo.errors import InputError
from tinynovo.matching import Candidates
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.spectrum import Spectrum


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["spectrum_id,sequence,accessions,file", *rows]) + "\n")
    return path


def spectrum(index: int = 0, **about: object) -> Spectrum:
    return replace(ladder("GASPVTK", index=index, file="run/a.mgf"), **about)


def judged(given: Spectrum, *peptides: str) -> list[PSM]:
    blank = PSM(given.file, given.index, given.identifier, None, title=given.title)
    return [
        replace(blank, peptide=Peptide.parse(text), score=1 / rank, rank=rank)
        for rank, text in enumerate(peptides, 1)
    ]


def silent(given: Spectrum, code: str) -> list[PSM]:
    return [PSM(given.file, given.index, given.identifier, None, reason_code=code, reason="so")]


def test_rows_name_spectra_by_index_scan_native_id_or_title(tmp_path: Path) -> None:
    names = {
        "0": "GAK",
        "index=1": "GSK",
        "scan=17": "GVK",
        "function=2 scan=3": "GLK",
        "b, c": "K",
    }
    rows = [f'"{name}",{text},,' for name, text in names.items()]
    candidates = Candidates(table(tmp_path / "c.csv", *rows), several=False)
    found = [
        spectrum(0, scan=99),
        spectrum(1),
        spectrum(2, scan=17),
        spectrum(3, identifier="function=2 scan=3"),
        spectrum(4, title="b, c"),
    ]
    proposed = [candidates.propose(one, None) for one in found]  # type: ignore[arg-type]
    assert [[str(p) for p in one] for one in proposed] == [
        ["GAK"],
        ["GSK"],
        ["GVK"],
        ["GLK"],
        ["K"],
    ]
    assert candidates.complaint() is None


def test_files_tell_spectra_apart_only_where_there_are_several(tmp_path: Path) -> None:
    path = table(tmp_path / "c.csv", "0,GAK,,a.mgf", "0,GSK,,/elsewhere/b.mgf")
    both = Candidates(path, several=True)
    assert both.propose(spectrum(file="b.mgf"), None) == [Peptide.parse("GSK")]  # type: ignore[arg-type]
    alone = Candidates(path, several=False)
    assert len(alone.propose(spectrum(file="c.mgf"), None)) == 2  # type: ignore[arg-type]


def test_candidates_no_spectrum_asked_for_are_a_complaint(tmp_path: Path) -> None:
    path = table(tmp_path / "c.csv", "0,GAK,,", "7,GSK,,", "8,GSK,,")
    candidates = Candidates(path, several=False)
    candidates.told(spectrum(0), judged(spectrum(0), "GAK"))
    complaint = candidates.complaint()
    assert complaint is not None
    assert "names 2 spectra that the files do not hold, such as 'index=7'" in str(complaint)


def test_every_candidate_has_a_row_the_unfit_ones_last(tmp_path: Path) -> None:
    path = table(tmp_path / "c.csv", "0,WWWK,P9,", "0,GASPVTK,P1,", "0,GASPVTK,P2;P1,", "0,GABXK,,")
    given = spectrum(0, title="t")
    told = Candidates(path, several=False).told(given, judged(given, "GASPVTK"))
    assert [(str(psm.peptide), psm.rank, psm.reason_code) for psm in told] == [
        ("GASPVTK", 1, ""),
        ("None", 2, "unfit_candidate"),
        ("None", 3, "unfit_candidate"),
    ]
    assert told[0].accessions == ("P1", "P2")
    assert told[1].reason == "WWWK misses the precursor mass, is too long, or was switched off"
    assert "not known" in told[2].reason
    assert {psm.title for psm in told} == {"t"}


def test_reasons_of_spectra_without_a_judged_candidate(tmp_path: Path) -> None:
    candidates = Candidates(table(tmp_path / "c.csv", "0,GAK,,"), several=False)
    (none,) = candidates.told(spectrum(1), silent(spectrum(1), "no_peptide_fits"))
    assert (none.reason_code, none.reason, none.rank) == (
        "no_candidate",
        "no candidate was given",
        1,
    )
    (bad,) = candidates.told(spectrum(0), silent(spectrum(0), "too_few_peaks"))
    assert bad.reason_code == "too_few_peaks"
    (unfit,) = candidates.told(spectrum(0), silent(spectrum(0), "no_peptide_fits"))
    assert (unfit.reason_code, unfit.rank) == ("unfit_candidate", 1)


def test_decoys_are_known_by_their_accessions(tmp_path: Path) -> None:
    plain = Candidates(table(tmp_path / "c.csv", "0,GAK,P1,", "0,GSK,,"), several=False)
    assert not plain.decoys
    mixed = Candidates(
        table(tmp_path / "d.csv", "0,GAK,P1,", "0,GSK,rev_P1;XXX_P2,"), several=False
    )
    assert mixed.decoys
    shared = Candidates(table(tmp_path / "e.csv", "0,GAK,DECOY_P1;P2,"), several=False)
    assert not shared.decoys


def test_a_file_that_cannot_be_read_is_a_complaint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.csv"):
        Candidates(tmp_path / "nothing.csv", several=False)
