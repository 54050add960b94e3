"""``tinynovo score``, end to end, with a network that was never trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import loaded

from tinynovo import checkpoint
from tinynovo.cli import main
from tinynovo.peptide import Peptide, fragments
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions

PEPTIDES = ("GASPVTK", "SAMPLER", "LNDEMHFR", "VVTEGAR")
Score = Callable[..., tuple[int, list[str], list[PSM]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    found = loaded(0)
    checkpoint.save(path, found.model.state_dict(), found.frozen)
    return path


@pytest.fixture
def spectra(tmp_path: Path) -> Path:
    """All b and y ions of four peptides, scans 11 to 14."""
    blocks = []
    for place, text in enumerate(PEPTIDES):
        peptide = Peptide.parse(text)
        mass = peptide.mass_udalton / 2e6 + 1.00727646662
        peaks = sorted(ion.mz for ion in fragments(peptide))
        ions = "".join(f"{mz:.5f} {100 + i}\n" for i, mz in enumerate(peaks))
        head = f"SCANS={11 + place}\nPEPMASS={mass:.5f}\nCHARGE=2+\n"
        blocks.append(f"BEGIN IONS\n{head}{ions}END IONS\n")
    path = tmp_path / "a.mgf"
    path.write_text("".join(blocks))
    return path


@pytest.fixture
def score(model: Path, spectra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Score:
    """Score the spectra; the exit code, what was said and the rows."""

    def run(*arguments: object) -> tuple[int, list[str], list[PSM]]:
        out = tmp_path / "out.csv"
        out.unlink(missing_ok=True)
        small = ("--set", "n_beams=2", "--set", "candidates=2", "--device", "cpu")
        code = main(
            ["score", str(spectra), *map(str, arguments), "-o", str(out), "-m", str(model), *small]
        )
        said = capsys.readouterr().err.splitlines()
        assert all(line.startswith("tinynovo: ") for line in said)
        return code, said, list(read_predictions(out)) if out.exists() else []

    return run


def fasta(path: Path) -> Path:
    path.write_text(">P1 first\nGASPVTKSAMPLER\n>P2 second\nVVTEGARGASPVTK\n")
    return path


def test_a_proteome_is_searched(score: Score, tmp_path: Path) -> None:
    pin = tmp_path / "all.pin"
    code, said, rows = score("--fasta", fasta(tmp_path / "p.fasta"), "--pin", pin)
    assert code == 0
    # Three peptides with their decoys of two proteins, and the two of one missed cleavage.
    assert said[0].startswith("tinynovo: ")
    assert " peptides and decoys of " in said[0]
    assert [psm.index for psm in rows] == [0, 1, 2, 3]
    assert rows[2].reason_code == "no_candidate"
    table = [line.split("\t") for line in pin.read_text().splitlines()[1:]]
    assert {row[2] for row in table} == {"11", "12", "14"}
    for place in (0, 1, 3):
        (best,) = (row for row in table if row[2] == str(11 + place))
        if best[1] == "1":
            assert str(rows[place].peptide) == PEPTIDES[place]
            assert rows[place].accessions == tuple(best[-2:] if place == 0 else best[-1:])
        else:
            assert (rows[place].reason_code, rows[place].peptide) == ("decoy", None)
        assert rows[place].q_value is None or 0 < rows[place].q_value <= 1


def test_candidates_of_a_table_are_scored(score: Score, tmp_path: Path) -> None:
    table = tmp_path / "c.csv"
    lines = ["scan=11,GASPVTK", "scan=11,AGSPVTK", "scan=12,SAMPLER", "scan=12,WWWWK"]
    table.write_text("\n".join(["spectrum_id,sequence", *lines]) + "\n")
    code, said, rows = score("--candidates", table)
    assert code == 0
    assert said[-1].endswith(": 2 answered; 2 not: no_candidate")
    found = [(psm.index, psm.rank, str(psm.peptide), psm.reason_code) for psm in rows]
    assert {row[:3] for row in found[:2]} in (
        {(0, 1, "GASPVTK"), (0, 2, "AGSPVTK")},
        {(0, 1, "AGSPVTK"), (0, 2, "GASPVTK")},
    )
    assert found[2:] == [
        (1, 1, "SAMPLER", ""),
        (1, 2, "None", "unfit_candidate"),
        (2, 1, "None", "no_candidate"),
        (3, 1, "None", "no_candidate"),
    ]
    assert rows[0].score >= rows[1].score
    assert rows[0].q_value is not None


def test_our_own_pin_goes_round(score: Score, tmp_path: Path) -> None:
    pin = tmp_path / "all.pin"
    score("--fasta", fasta(tmp_path / "p.fasta"), "--pin", pin)
    before = pin.read_text()
    code, _, _ = score("--candidates", pin, "--pin", tmp_path / "again.pin")
    assert code == 0
    assert (tmp_path / "again.pin").read_text() == before


def test_candidates_of_other_spectra_are_a_complaint_and_nothing_is_lost(
    score: Score, tmp_path: Path
) -> None:
    table = tmp_path / "c.csv"
    table.write_text("spectrum_id,sequence\nscan=11,GASPVTK\nscan=99,GAK\n")
    code, said, rows = score("--candidates", table)
    assert code == 1
    assert "names 1 spectra that the files do not hold, such as 'scan=99'" in said[-1]
    assert len(rows) == 4
    assert str(rows[0].peptide) == "GASPVTK"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--candidates", "{}/none.csv"), "No such file"),
        (("--candidates", "{}/peaks.mgf"), "lacks the columns"),
        (("--fasta", "{}/peaks.mgf"), "not a FASTA file"),
        (("--fasta", "{}/p.fasta", "--set", "strategy=draft"), "judges no candidates"),
        (("--fasta", "{}/p.fasta", "--mods", "Oxidized=on"), "unknown modification"),
        (("--fasta", "{}/p.fasta", "--pin", "{}/a.mgf"), "is an input and would be lost"),
        (("--fasta", "{}/p.fasta", "--pin", "{}/no/x.pin"), "cannot be written"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    score: Score, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    fasta(tmp_path / "p.fasta")
    shutil.copy(tmp_path / "a.mgf", tmp_path / "peaks.mgf")
    code, said, rows = score(*(text.format(tmp_path) for text in arguments))
    assert code == 1
    assert problem in said[-1]
    assert rows == []
    assert not list(tmp_path.glob("*.arrow"))


@pytest.mark.parametrize("given", [[], ["--fasta", "a", "--candidates", "b"], ["--fdr", "0"]])
def test_a_wrong_command(given: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["score", "a.mgf", "-o", "b.csv", *given])
    assert stopped.value.code == 2
