from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from tinynovo import __version__
from tinynovo.cli import main
from tinynovo.errors import InputError
from tinynovo.gathering import ROWS_A_WRITE
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions, read_spectra
from tinynovo.spectrum import Spectrum


class FakeOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    predict_batch_size: int = Field(32, ge=1)
    top_match: int = Field(1, ge=1, description="answers a spectrum")
    mods: dict[str, str | bool] = {}


class FakeSequencer:
    """Answers its label, or PEPTLDEK where there is none; nothing where there is no charge."""

    fail_at: tuple[int, BaseException] | None = None

    def __init__(self, options: FakeOptions, device: str) -> None:
        self.options = options
        self.window = 8 * options.predict_batch_size
        self.settings = {
            "device": device,
            "top_match": str(options.top_match),
            "mods": str(options.mods),
        }

    @classmethod
    def load(cls, path: Path | None, options: FakeOptions, device: str = "auto") -> FakeSequencer:
        if path is not None:
            raise InputError("is no checkpoint of tinynovo", file=path)
        return cls(options, device)

    advice = ""

    def make_ready(self) -> None:
        pass

    def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        for place, spectrum in enumerate(spectra):
            if self.fail_at and place == self.fail_at[0]:
                raise self.fail_at[1]
            where = (spectrum.file, spectrum.index, spectrum.identifier)
            known = {
                "precursor_mz": spectrum.precursor_mz,
                "precursor_charge": spectrum.precursor_charge,
                "title": spectrum.title,
            }
            if spectrum.precursor_charge is None:
                why = {"reason_code": "too_few_peaks", "reason": "3 usable peaks, fewer than 5"}
                yield [PSM(*where, None, **why, **known)]
                continue
            peptide = Peptide.parse(spectrum.peptide or "PEPTLDEK")
            scores = (0.5,) * len(peptide)
            yield [
                PSM(*where, peptide, 1 / rank, scores, rank=rank, **known)
                for rank in range(1, self.options.top_match + 1)
            ]


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Stand-ins for the rooms that need torch; the list tells what train was asked."""
    asked: list[object] = []

    class TrainingOptions(BaseModel):
        steps: int = 10

    def train(options: TrainingOptions, *, resume: bool) -> Path:
        asked.extend((options.steps, resume))
        return Path("runs/last.safetensors")

    sequencing, training = ModuleType("sequencing"), ModuleType("training")
    stages = ModuleType("stages")
    sequencing.__dict__.update(Sequencer=FakeSequencer)
    monkeypatch.setattr("tinynovo.options.SequencingOptions", FakeOptions)
    training.__dict__.update(train=train)
    stages.__dict__.update(TrainingOptions=TrainingOptions)
    monkeypatch.setitem(sys.modules, "tinynovo.sequencing", sequencing)
    monkeypatch.setitem(sys.modules, "tinynovo.training", training)
    monkeypatch.setitem(sys.modules, "tinynovo.stages", stages)
    monkeypatch.setattr(FakeSequencer, "fail_at", None)
    return asked


def mgf(path: Path, labels: list[str], charge: str = "CHARGE=2+") -> Path:
    blocks = [
        f"BEGIN IONS\nTITLE=spectrum {i}\nSEQ={label}\nPEPMASS=465.2\n{charge}\n"
        "147.1 10\n276.2 20\n391.2 30\n504.3 40\n605.3 50\nEND IONS\n"
        for i, label in enumerate(labels)
    ]
    path.write_text("".join(blocks), "utf-8")
    return path


def rows(path: Path) -> list[PSM]:
    return list(read_predictions(path))


def test_sequence_writes_a_row_a_spectrum_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = mgf(tmp_path / "a.mgf", ["GAK", "GVK"])
    second = mgf(tmp_path / "b.mgf", ["GLK"], charge="")
    out = tmp_path / "out.csv"
    assert main(["sequence", str(first), str(second), "-o", str(out)]) == 0
    found = rows(out)
    assert [(Path(psm.file).name, psm.index) for psm in found] == [
        ("a.mgf", 0),
        ("a.mgf", 1),
        ("b.mgf", 0),
    ]
    assert [str(psm.peptide) for psm in found[:2]] == ["GAK", "GVK"]
    assert found[2].peptide is None
    screen = capsys.readouterr()
    assert screen.out == ""
    summary = screen.err.splitlines()[-1]
    assert summary.startswith("tinynovo: 3 spectra of 2 files in ")
    assert summary.endswith(": 2 answered; 1 not: too_few_peaks")


@pytest.mark.parametrize("suffix", ["mztab", "csv", "parquet"])
def test_the_formats_by_name_and_by_option(tmp_path: Path, suffix: str) -> None:
    spectra = mgf(tmp_path / "a.mgf", ["GAK"])
    by_name, by_option = tmp_path / f"x.{suffix}", tmp_path / "x.out"
    assert main(["sequence", str(spectra), "-o", str(by_name)]) == 0
    assert main(["sequence", str(spectra), "-o", str(by_option), "-f", suffix]) == 0
    assert by_name.read_bytes()[:3] == by_option.read_bytes()[:3]
    assert by_name.stat().st_size > 0


def test_options_reach_the_sequencer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spectra = mgf(tmp_path / "a.mgf", ["GAK"])
    config = tmp_path / "options.yaml"
    config.write_text("top_match: 2\n", "utf-8")
    out = tmp_path / "out.csv"
    command = ["sequence", str(spectra), "-o", str(out), "-c", str(config), "--device", "cpu", "-v"]
    assert main(command) == 0
    assert [psm.rank for psm in rows(out)] == [1, 2]
    assert "tinynovo: device = cpu" in capsys.readouterr().err
    assert main([*command, "--top-match", "3"]) == 0
    assert [psm.rank for psm in rows(out)] == [1, 2, 3]
    assert main([*command, "--set", "top_mach=3"]) == 1
    assert "did you mean 'top_match'?" in capsys.readouterr().err


def test_modifications_reach_the_sequencer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spectra, out = mgf(tmp_path / "a.mgf", ["GAK"]), tmp_path / "out.csv"
    config = tmp_path / "options.yaml"
    config.write_text("mods: {Acetyl: fixed, Phospho: fixed}\n", "utf-8")
    command = ["sequence", str(spectra), "-o", str(out), "-c", str(config), "-v"]
    switches = ["--mods", "Phospho=off, TMT6plex=fixed", "--mods", "[Acetyl]-=on"]
    assert main([*command, *switches]) == 0
    expected = {"Acetyl": "fixed", "Phospho": False, "TMT6plex": "fixed", "[Acetyl]-": True}
    assert f"tinynovo: mods = {expected}\n" in capsys.readouterr().err


def test_a_bad_file_does_not_stop_the_others_but_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = mgf(tmp_path / "good.mgf", ["GAK"])
    empty = tmp_path / "empty.mgf"
    empty.write_text("")
    cut = mgf(tmp_path / "cut.mgf", ["GVK", "GLK"])
    cut.write_text(cut.read_text()[:-40])
    out = tmp_path / "out.csv"
    files = [str(empty), str(cut), str(tmp_path / "none.mgf"), str(good)]
    assert main(["sequence", *files, "-o", str(out)]) == 1
    assert [str(psm.peptide) for psm in rows(out)] == ["GVK", "GAK"]
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 3
    for line, name in zip(errors, ("empty.mgf", "cut.mgf", "none.mgf"), strict=True):
        assert line.startswith("tinynovo: error: ")
        assert name in line


def test_an_interrupt_keeps_the_rows_and_gives_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["GAK"] * (ROWS_A_WRITE + 9)
    out = tmp_path / "out.csv"
    monkeypatch.setattr(FakeSequencer, "fail_at", (ROWS_A_WRITE + 5, KeyboardInterrupt()))
    spectra = mgf(tmp_path / "a.mgf", labels)
    assert main(["sequence", str(spectra), "-o", str(out)]) == 130
    assert len(rows(out)) == ROWS_A_WRITE + 5
    assert capsys.readouterr().err == "tinynovo: interrupted\n"


def test_a_false_discovery_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Doubtful(FakeSequencer):
        def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
            for (psm,) in super().rows(spectra):
                yield [replace(psm, score=0.75) if psm.index == 1 else psm]

    sys.modules["tinynovo.sequencing"].__dict__.update(Sequencer=Doubtful)
    spectra = mgf(tmp_path / "a.mgf", ["GAK", "GVK", "GLK"])
    out = tmp_path / "out.mztab"
    command = ["sequence", str(spectra), "-o", str(out), "--fdr"]
    # Errors 0, 0 and 0.25: the third has the q-value 0.0833.
    assert main([*command, "0.05"]) == 0
    assert [str(psm.peptide) for psm in rows(out)] == ["GAK", "None", "GLK"]
    summary = capsys.readouterr().err.splitlines()[-1]
    assert summary.endswith(": 2 kept at 0.05 FDR; 1 not: above_fdr")
    assert "PSM-level global FDR, 0.05]" in out.read_text("utf-8")
    assert main([*command, "1"]) == 0
    assert [psm.q_value for psm in rows(out)] == [0, pytest.approx(0.0833, abs=1e-4), 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mgf", "out.mztab"]


def test_an_input_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spectra = mgf(tmp_path / "a.mgf", ["GAK"])
    before = spectra.read_bytes()
    link = tmp_path / "link.csv"
    link.symlink_to(spectra)
    assert main(["sequence", str(spectra), "-o", str(link)]) == 1
    assert spectra.read_bytes() == before
    assert "is an input" in capsys.readouterr().err
    assert main(["sequence", str(spectra), str(spectra), "-o", str(tmp_path / "out.csv")]) == 1
    assert "is given twice" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["none/out.csv", "."])
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(FakeSequencer, "load", never)
    spectra = mgf(tmp_path / "a.mgf", ["GAK"])
    assert main(["sequence", str(spectra), "-o", str(tmp_path / name)]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_checkpoint_that_is_none_leaves_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spectra = mgf(tmp_path / "a.mgf", ["GAK"])
    out = tmp_path / "out.csv"
    assert main(["sequence", str(spectra), "-o", str(out), "-m", str(spectra)]) == 1
    assert not out.exists()
    assert capsys.readouterr().err == f"tinynovo: error: {spectra}: is no checkpoint of tinynovo\n"


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["sequence"],
        ["sequence", "a.mgf"],
        ["sequence", "a.mgf", "-o", "b.csv", "-f", "xls"],
        ["sequence", "a.mgf", "-o", "b.csv", "--threads", "0"],
        ["sequence", "a.mgf", "-o", "b.csv", "--mods", "Phospho"],
        ["sequence", "a.mgf", "-o", "b.csv", "--mods", "Phospho=off,"],
        ["sequence", "a.mgf", "-o", "b.csv", "--fdr", "0"],
        ["sequence", "a.mgf", "-o", "b.csv", "--fdr", "1.01"],
        ["sequence", "a.mgf", "-o", "b.csv", "--fdr", "nan"],
        ["sequence", "a.mgf", "-o", "b.csv", "--batch-size", "many"],
        ["evaluate"],
        ["train"],
        ["sing"],
    ],
)
def test_a_wrong_command_is_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tinynovo")


def test_evaluate_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = mgf(tmp_path / "a.mgf", ["GAK", "GVK", "PEPTIDEK"])
    result = tmp_path / "result.json"
    assert main(["evaluate", str(labelled), "--json", str(result), "--limit", "2"]) == 0
    found = json.loads(result.read_text())
    assert found["spectra"] == 2
    assert found["exact"]["peptide_recall"] == 1
    assert found["tinynovo"] == __version__
    assert found["settings"]["device"] == "auto"
    assert "missing prediction is wrong" in found["definitions"]["peptide_recall"]
    screen = capsys.readouterr().out
    assert "2 spectra, 2 predicted" in screen
    assert "peptide_recall" in screen


def test_evaluate_predictions(tmp_path: Path) -> None:
    a = mgf(tmp_path / "a.mgf", ["GAK", "GVK", "GLK", "GSK"])
    b = mgf(tmp_path / "b.mgf", ["GTK"])
    out, result = tmp_path / "out.mztab", tmp_path / "result.json"
    assert main(["sequence", str(a), str(b), "-o", str(out), "--top-match", "2"]) == 0
    command = ["evaluate", str(a), str(b), "--predictions", str(out), "--json", str(result)]
    assert main(command) == 0
    found = json.loads(result.read_text())
    assert (found["spectra"], found["predicted"]) == (5, 5)
    assert found["exact"]["peptide_recall"] == 1
    assert found["groups"]["source"]["b.mgf"]["spectra"] == 1
    # Other labels, the same predictions: one of four is right.
    mgf(a, ["GAK", "GAK", "GAK", "GAK"])
    assert main(command) == 0
    found = json.loads(result.read_text())
    assert found["groups"]["source"]["a.mgf"]["peptide_recall"] == 0.25


def test_evaluate_counts_a_missing_prediction_as_wrong(tmp_path: Path) -> None:
    short = mgf(tmp_path / "a.mgf", ["GAK"])
    out, result = tmp_path / "out.mztab", tmp_path / "result.json"
    assert main(["sequence", str(short), "-o", str(out)]) == 0
    whole = mgf(tmp_path / "a.mgf", ["GAK", "GVK"])
    command = ["evaluate", str(whole), "--predictions", str(out), "--json", str(result)]
    assert main(command) == 0
    found = json.loads(result.read_text())
    assert (found["spectra"], found["predicted"]) == (2, 1)
    assert found["exact"]["peptide_recall"] == 0.5


def test_evaluate_knows_spectra_by_title_scan_and_number(tmp_path: Path) -> None:
    labelled = mgf(tmp_path / "a.mgf", ["GAK", "GVK", "GLK", "GSK"])
    text = labelled.read_text().replace("TITLE=spectrum 2", "TITLE=twice\nSCANS=812")
    labelled.write_text(text.replace("TITLE=spectrum 3", "TITLE=twice"))
    table, result = tmp_path / "other.csv", tmp_path / "result.json"
    table.write_text("spectrum_id,sequence\nspectrum 0,GAK\n1,GVK\nscan=812,GIK\n")
    command = ["evaluate", str(labelled), "--predictions", str(table), "--json", str(result)]
    assert main(command) == 0
    found = json.loads(result.read_text())
    assert (found["predicted"], found["exact"]["peptide_recall"]) == (3, 0.75)
    table.write_text("spectrum_id,sequence\ntwice,GLK\n")
    assert main(command) == 1


def test_evaluate_refuses_strangers_and_unlabelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = mgf(tmp_path / "a.mgf", ["GAK", "GVK"])
    out = tmp_path / "out.mztab"
    assert main(["sequence", str(whole), "-o", str(out)]) == 0
    short = mgf(tmp_path / "short.mgf", ["GAK"])
    capsys.readouterr()
    assert main(["evaluate", str(short), "--predictions", str(out)]) == 1
    assert "names no spectrum of the labelled files" in capsys.readouterr().err
    bare = mgf(tmp_path / "bare.mgf", ["GAK"])
    bare.write_text(bare.read_text().replace("SEQ=GAK\n", ""))
    assert main(["evaluate", str(bare)]) == 1
    error = capsys.readouterr().err
    assert "bare.mgf" in error
    assert "has no label" in error
    odd = mgf(tmp_path / "odd.mgf", ["GA(+9999)K"])
    assert main(["evaluate", str(odd)]) == 1
    assert "odd.mgf: index=0" in capsys.readouterr().err


def test_train(tmp_path: Path, fakes: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("steps: 3\n")
    assert main(["train", "--config", str(config), "--resume"]) == 0
    assert main(["train", "--config", str(config), "--set", "steps=4"]) == 0
    assert fakes == [3, True, 4, False]
    assert capsys.readouterr().out.splitlines() == ["runs/last.safetensors"] * 2


def test_configure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configure"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text) == {"predict_batch_size": 32, "top_match": 1, "mods": {}}
    assert "# answers a spectrum; >= 1\ntop_match: 1" in text
    path = tmp_path / "options.yaml"
    assert main(["configure", "-o", str(path)]) == 0
    assert path.read_text() == text
    assert main(["configure", "-o", str(path)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.mgf", "x.parquet"])
def test_simulate_is_repeatable_and_readable(tmp_path: Path, name: str) -> None:
    first, again, other = tmp_path / name, tmp_path / f"again-{name}", tmp_path / f"other-{name}"
    assert main(["simulate", "-n", "20", "--seed", "7", "-o", str(first)]) == 0
    assert main(["simulate", "-n", "20", "--seed", "7", "-o", str(again)]) == 0
    assert main(["simulate", "-n", "20", "--seed", "8", "-o", str(other)]) == 0
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    spectra = list(read_spectra(first))
    assert len(spectra) == 20
    for spectrum in spectra:
        mass = Peptide.parse(spectrum.peptide).mass_udalton / 1e6
        assert spectrum.precursor_mz is not None
        assert spectrum.precursor_charge is not None
        measured = (spectrum.precursor_mz - 1.00727646662) * spectrum.precursor_charge
        # Up to two isotopes of 1.00336 Da too heavy, and some ppm of error.
        isotopes = round((measured - mass) / 1.00335483507)
        assert isotopes in (0, 1, 2)
        assert abs(measured - isotopes * 1.00335483507 - mass) < 40e-6 * mass


def test_simulate_from_fasta(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = tmp_path / "p.fasta"
    fasta.write_text(">a\nGASPVTKLNDEMHFR\n")
    out = tmp_path / "x.mgf"
    command = ["simulate", "-n", "30", "--fasta", str(fasta), "-o", str(out)]
    assert main(command) == 0
    found = {Peptide.parse(s.peptide).sequence for s in read_spectra(out)}
    assert found == {"GASPVTK", "LNDEMHFR", "GASPVTKLNDEMHFR"}
    assert main(["simulate", "-o", str(tmp_path / "x.txt")]) == 1
    assert main(["simulate", "--fasta", str(fasta), "-o", str(fasta)]) == 1
    assert main(["simulate", "-o", str(out), "--set", "dropuot=0.1"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "x.txt" in errors[0]
    assert "is an input" in errors[1]
    assert "did you mean 'dropout'?" in errors[2]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"tinynovo {__version__}"


def test_the_module_runs_too() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tinynovo", "version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith(f"tinynovo {__version__}\n")


def test_report_names_the_pages_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "options.json").write_text('{"stage": "scorer", "steps": 5}')
    monkeypatch.chdir(tmp_path)
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out.splitlines() == ["report.html", "report.md"]
    assert "scorer" in (tmp_path / "report.md").read_text("utf-8")


def test_report_complains_of_what_is_no_run_and_what_is_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "out.html")]) == 1
    assert "holds no training run (give the output directory" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "out.pdf")]) == 1
    assert "is no page (name it .html)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_resume_says_how_many_spectra_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = mgf(tmp_path / "a.mgf", ["GAK"] * 3), mgf(tmp_path / "b.mgf", ["GVK"] * 9)
    first.write_text(first.read_text() + "BEGIN IONS\n", "utf-8")
    out = tmp_path / "out.mztab"
    command = ["sequence", str(first), str(second), "-o", str(out), "--batch-size", "1"]
    assert main(command) == 1
    whole, complaint = out.read_bytes(), capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(FakeSequencer, "fail_at", (3, KeyboardInterrupt()))
    assert main([*command, "--resume"]) == 130
    assert main([*command, "--resume", "--top-match", "2"]) == 1
    capsys.readouterr()
    monkeypatch.setattr(FakeSequencer, "fail_at", (9, KeyboardInterrupt()))
    assert main([*command, "--resume"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"tinynovo: 12 spectra of 2 files in \S+ s \(3 kept of an earlier run\): 12 answered",
        told[-2],
    )
    assert told[-1] == complaint
    assert out.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mgf", "b.mgf", "out.mztab"]
