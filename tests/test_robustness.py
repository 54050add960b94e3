"""Bad input, end to end: one clear line or a reasoned row, the right exit code, never a traceback.

The model is a small one with random weights: what it answers does not matter here.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from tinynovo import checkpoint
from tinynovo.checkpoint import Frozen
from tinynovo.cli import main
from tinynovo.evidence import EvidenceOptions
from tinynovo.layers import ModelOptions
from tinynovo.model import Tinynovo
from tinynovo.peptide import Peptide, fragments
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions

PEPTIDES = ("GASPVTK", "SAMPLER", "PEPTLDEK", "LNDEMHFR")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network that was never trained."""
    torch.manual_seed(1)
    shape = ModelOptions(width=16, blocks=1, heads=2)
    evidence = EvidenceOptions(hidden=8, embedding=4)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    tensors = Tinynovo(shape, evidence).state_dict()
    checkpoint.save(path, tensors, Frozen(model=shape, evidence=evidence))
    return path


Run = Callable[..., tuple[int, list[str], list[PSM]]]


@pytest.fixture
def run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Sequence files; give the exit code, the complaints and the rows that were written."""

    def sequence(
        *arguments: object, output: Path | None = None
    ) -> tuple[int, list[str], list[PSM]]:
        out = output or tmp_path / "out.csv"
        command = [*map(str, arguments), "-o", str(out), "--device", "cpu"]
        if "-m" not in command:
            command += ["-m", str(model)]
        code = main(["sequence", *command, "--set", "n_beams=2", "--set", "candidates=2"])
        screen = capsys.readouterr()
        assert screen.out == ""
        assert "Traceback" not in screen.err
        lines = screen.err.splitlines()
        assert all(line.startswith("tinynovo: ") for line in lines)
        complaints = [line for line in lines if line.startswith("tinynovo: error: ")]
        assert bool(complaints) == bool(code)
        return (
            code,
            complaints,
            list(read_predictions(out)) if out.suffix == ".csv" and out.exists() else [],
        )

    return sequence


def precursor(peptide: Peptide, charge: int = 2) -> float:
    return peptide.mass_udalton / 1e6 / charge + 1.00727646662


def block(name: str = "GASPVTK", charge: str = "CHARGE=2+", peaks: str = "", mz: str = "") -> str:
    """One spectrum of MGF: all b and y ions of a peptide, or the peaks given."""
    peptide = Peptide.parse(name)
    ions = sorted(ion.mz for ion in fragments(peptide))
    peaks = peaks or "".join(f"{ion:.5f} {100 + i}\n" for i, ion in enumerate(ions))
    charge = f"{charge}\n" if charge else ""
    mass = mz or f"{precursor(peptide):.5f}"
    return f"BEGIN IONS\nTITLE={name}\nPEPMASS={mass}\n{charge}{peaks}END IONS\n"


def mgf(path: Path, *blocks: str) -> Path:
    path.write_text("".join(blocks), "utf-8")
    return path


def mzml(path: Path, count: int = 4) -> Path:
    """A small mzML of 64-bit arrays without compression."""

    def array(values: list[float], kind: str) -> str:
        data = base64.b64encode(np.array(values, "<f8").tobytes()).decode()
        return (
            f'<binaryDataArray encodedLength="{len(data)}">'
            '<cvParam cvRef="MS" accession="MS:1000523" name="64-bit float" value=""/>'
            '<cvParam cvRef="MS" accession="MS:1000576" name="no compression" value=""/>'
            f'<cvParam cvRef="MS" accession="{kind}" name="array" value=""/>'
            f"<binary>{data}</binary></binaryDataArray>"
        )

    spectra = []
    for index in range(count):
        peptide = Peptide.parse(PEPTIDES[index % len(PEPTIDES)])
        mz = sorted(ion.mz for ion in fragments(peptide))
        spectra.append(
            f'<spectrum index="{index}" id="scan={index + 1}" defaultArrayLength="{len(mz)}">'
            '<cvParam cvRef="MS" accession="MS:1000511" name="ms level" value="2"/>'
            '<precursorList count="1"><precursor><selectedIonList count="1"><selectedIon>'
            '<cvParam cvRef="MS" accession="MS:1000744" name="selected ion m/z" '
            f'value="{precursor(peptide)}"/>'
            '<cvParam cvRef="MS" accession="MS:1000041" name="charge state" value="2"/>'
            "</selectedIon></selectedIonList></precursor></precursorList>"
            f'<binaryDataArrayList count="2">{array(mz, "MS:1000514")}'
            f"{array([1.0] * len(mz), 'MS:1000515')}</binaryDataArrayList></spectrum>\n"
        )
    path.write_text(
        '<?xml version="1.0"?>\n<mzML xmlns="http://psi.hupo.org/ms/mzml"><run id="r">'
        f'<spectrumList count="{count}">\n{"".join(spectra)}</spectrumList></run></mzML>\n'
    )
    return path


def test_good_input_is_answered(run: Run, tmp_path: Path) -> None:
    code, _, rows = run(mgf(tmp_path / "a.mgf", *map(block, PEPTIDES)), mzml(tmp_path / "b.mzML"))
    assert code == 0
    assert [row.index for row in rows] == [0, 1, 2, 3] * 2
    assert [row.identifier for row in rows[4:]] == [f"scan={n}" for n in (1, 2, 3, 4)]
    for row, name in zip(rows, PEPTIDES * 2, strict=True):
        assert row.peptide is not None, row.reason
        assert row.score is not None
        assert 0 <= row.score <= 1
        # Right or wrong, it weighs what the precursor weighs, but for whole isotopes.
        isotopes = row.isotope_error * 1.00335483507
        weight = row.peptide.mass_udalton / 1e6 + isotopes
        assert weight == pytest.approx(Peptide.parse(name).mass_udalton / 1e6, rel=20e-6)


@pytest.mark.parametrize("name", ["a.mgf", "a.mzML", "a.mzXML", "a.parquet", "a.mgf.gz"])
def test_an_empty_file(run: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    code, complaints, rows = run(path)
    assert (code, rows) == (1, [])
    assert complaints == [f"tinynovo: error: {path}: is empty"]


@pytest.mark.parametrize("text", ["\n \n", "# only a comment\n", "MASS=Monoisotopic\n"])
def test_a_file_without_spectra(run: Run, tmp_path: Path, text: str) -> None:
    path = mgf(tmp_path / "a.mgf", text)
    code, complaints, rows = run(path)
    assert (code, rows) == (1, [])
    assert complaints == [f"tinynovo: error: {path}: holds no tandem mass spectrum"]


def test_a_truncated_gzip_keeps_what_stands_before(run: Run, tmp_path: Path) -> None:
    blocks = [block(PEPTIDES[i % 4]).replace("END", f"{900 + i}.5 {i + 1}\nEND") for i in range(40)]
    packed = gzip.compress("".join(blocks).encode(), compresslevel=1)
    path = tmp_path / "a.mgf.gz"
    path.write_bytes(packed[: len(packed) * 3 // 4])
    code, complaints, rows = run(path)
    assert code == 1
    assert len(complaints) == 1
    assert "a.mgf.gz: is damaged or cut off" in complaints[0]
    assert 5 < len(rows) < 40
    assert [row.index for row in rows] == list(range(len(rows)))


def test_an_mzml_cut_in_the_middle_keeps_what_stands_before(run: Run, tmp_path: Path) -> None:
    path = mzml(tmp_path / "a.mzML")
    text = path.read_text()
    path.write_text(text[: text.index('id="scan=3"') + 400])
    good = mgf(tmp_path / "good.mgf", block())
    code, complaints, rows = run(path, good)
    assert code == 1
    assert len(complaints) == 1
    assert f"{path}: " in complaints[0]
    # The spectra before the damage, and all of the file after it.
    assert [row.identifier for row in rows] == ["scan=1", "scan=2", "index=0"]


def test_an_mgf_cut_in_the_middle_keeps_what_stands_before(run: Run, tmp_path: Path) -> None:
    path = mgf(tmp_path / "a.mgf", block(), block().removesuffix("END IONS\n"))
    code, complaints, rows = run(path)
    assert (code, len(rows)) == (1, 1)
    assert complaints[0].endswith("a.mgf: index=1: is cut off: END IONS is missing")


def test_without_a_charge_the_usual_ones_are_tried(run: Run, tmp_path: Path) -> None:
    path = mgf(tmp_path / "a.mgf", block(charge=""), block(charge="CHARGE=2+ and 3+"))
    code, _, rows = run(path)
    assert code == 0
    assert all(row.peptide is not None for row in rows)
    assert {row.precursor_charge for row in rows} <= {2, 3}


@pytest.mark.parametrize(
    ("charge", "reason"),
    [("CHARGE=20+", "precursor charge 20 outside 1..8"), ("CHARGE=2-", "precursor charge -2 ")],
)
def test_a_charge_that_no_peptide_has(run: Run, tmp_path: Path, charge: str, reason: str) -> None:
    code, _, rows = run(mgf(tmp_path / "a.mgf", block(charge=charge), block()))
    assert code == 0
    assert rows[0].peptide is None
    assert rows[0].reason.startswith(reason)
    assert rows[1].peptide is not None


def test_charge_0_means_unknown(run: Run, tmp_path: Path) -> None:
    code, _, rows = run(mgf(tmp_path / "a.mgf", block(charge="CHARGE=0")))
    assert code == 0
    assert rows[0].peptide is not None


@pytest.mark.parametrize(
    ("mz", "reason"),
    [
        ("nan", "no precursor m/z"),
        ("inf", "no precursor m/z"),
        ("-500.2", "precursor mass -1002.4 Da is no peptide's"),
        ("0", "precursor mass -2.0 Da is no peptide's"),
        ("1e9", "precursor mass 1999999998.0 Da is no peptide's"),
    ],
)
def test_a_precursor_that_is_no_peptide(run: Run, tmp_path: Path, mz: str, reason: str) -> None:
    code, _, rows = run(mgf(tmp_path / "a.mgf", block(mz=mz), block()))
    assert code == 0
    assert (rows[0].peptide, rows[0].reason) == (None, reason)
    assert rows[1].peptide is not None


def test_no_precursor_at_all(run: Run, tmp_path: Path) -> None:
    bare = re.sub("PEPMASS=.*\n", "", block())
    code, _, rows = run(mgf(tmp_path / "a.mgf", bare, block()))
    assert code == 0
    assert (rows[0].peptide, rows[0].reason) == (None, "no precursor m/z")
    assert rows[1].peptide is not None


@pytest.mark.parametrize(
    "peaks", ["nan 5\n", "inf 5\n", "300.1 nan\n", "300.1 -7\n", "300.1 inf\n", "-300.1 7\n"]
)
def test_odd_peaks_among_good_ones_are_passed_over(run: Run, tmp_path: Path, peaks: str) -> None:
    odd = block().replace("END IONS", f"{peaks}END IONS")
    code, _, rows = run(mgf(tmp_path / "a.mgf", odd, block()))
    assert code == 0
    assert rows[0].peptide == rows[1].peptide
    assert rows[0].score == pytest.approx(rows[1].score, abs=1e-4)


@pytest.mark.parametrize("peaks", ["nan nan\n" * 9, "300.1 -5\n" * 9, "300.1 0\n" * 9, "# none\n"])
def test_no_usable_peak(run: Run, tmp_path: Path, peaks: str) -> None:
    code, _, rows = run(mgf(tmp_path / "a.mgf", block(peaks=peaks), block()))
    assert code == 0
    assert (rows[0].peptide, rows[0].reason) == (None, "0 usable peaks, fewer than 5")
    assert rows[1].peptide is not None


def test_5000_peaks(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    places, heights = rng.uniform(60, 2000, 5000), rng.exponential(1.0, 5000)
    noise = "".join(f"{mz:.4f} {h:.4f}\n" for mz, h in zip(places, heights, strict=True))
    code, _, rows = run(mgf(tmp_path / "a.mgf", block(peaks=noise)))
    assert (code, len(rows)) == (0, 1)
    assert rows[0].peptide is not None


def test_peaks_of_one_place(run: Run, tmp_path: Path) -> None:
    code, _, rows = run(mgf(tmp_path / "a.mgf", block(peaks="300.1 5\n" * 50)))
    assert (code, len(rows)) == (0, 1)


def test_numbers_beyond_all_instruments(run: Run, tmp_path: Path) -> None:
    peaks = "".join(f"{100 + i} 1e308\n" for i in range(20)) + "1e300 1e300\n300 1e-320\n"
    code, _, rows = run(mgf(tmp_path / "a.mgf", block(peaks=peaks)))
    assert (code, len(rows)) == (0, 1)
    assert rows[0].peptide is not None


@pytest.mark.parametrize("name", ["p.fasta", "p.mgf", "p.mzML", "p.txt", "p"])
def test_a_fasta_is_no_spectrum_file(run: Run, tmp_path: Path, name: str) -> None:
    path = mgf(tmp_path / name, ">sp|P1|A_HUMAN\nMKWVTFISLLFLFSSAYSRGVFRR\n")
    code, complaints, rows = run(path)
    assert (code, rows, len(complaints)) == (1, [], 1)
    assert f"{path}: " in complaints[0]
    if name in ("p.fasta", "p.mgf"):
        assert "is a FASTA file: it holds proteins, not spectra" in complaints[0]


@pytest.mark.parametrize("kind", ["text", "zip", "cut", "foreign", "state", "residues", "shape"])
def test_a_checkpoint_of_another_kind(run: Run, model: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other.safetensors"
    one = {"a": torch.zeros(2)}
    if kind == "text":
        path.write_text("epoch: 3\n")
    elif kind == "zip":
        torch.save(one, path)
    elif kind == "cut":
        path.write_bytes(model.read_bytes()[:5000])
    elif kind == "foreign":
        save_file(one, path)
    elif kind == "state":
        save_file(one, path, {"format": "tinynovo-training-1"})
    elif kind == "residues":
        checkpoint.save(path, one, Frozen(residues={"$": 0, "G": 57_021_464}))
    else:
        checkpoint.save(path, one, Frozen())
    code, complaints, rows = run(mgf(tmp_path / "a.mgf", block()), "-m", path)
    assert (code, rows, len(complaints)) == (1, [], 1)
    assert complaints[0].startswith(f"tinynovo: error: {path}: ")
    assert not (tmp_path / "out.csv").exists()


def test_a_checkpoint_that_is_not_there(run: Run, tmp_path: Path) -> None:
    code, complaints, _ = run(mgf(tmp_path / "a.mgf", block()), "-m", tmp_path / "no.safetensors")
    assert code == 1
    assert "no.safetensors: no such checkpoint" in complaints[0]


def test_an_output_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    spectra = mgf(tmp_path / "a.mgf", block())
    before = spectra.read_bytes()
    for output, problem in (
        (tmp_path / "nowhere" / "out.csv", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (spectra, "is an input and would be lost"),
        (tmp_path / "out.txt", "out.txt"),
    ):
        code, complaints, _ = run(spectra, output=output)
        assert (code, len(complaints)) == (1, 1)
        assert problem in complaints[0]
    assert spectra.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mgf"]


def test_options_that_do_not_exist_or_fit(run: Run, tmp_path: Path) -> None:
    spectra = mgf(tmp_path / "a.mgf", block())
    config = tmp_path / "options.yaml"
    for text, problem in (
        ("n_beam: 3\n", "unknown key 'n_beam' (did you mean 'n_beams'?)"),
        ("top_match: many\n", "top_match = 'many'"),
        ("precursor_mass_tol: 20\n", "precursor_mass_tol = 20"),
        ("precursor_mass_tol: 20 pm\n", "precursor_mass_tol = '20 pm'"),
        ("mods: {Fosfo: off}\n", "unknown modification 'Fosfo' (known are Carbamidomethyl, "),
        ("mods: {Phospho: maybe}\n", "mods.Phospho = 'maybe'"),
        ("mods: {Acetyl: fixed, Carbamyl: fixed}\n", "the N-terminus has more than one fixed"),
        ("n_beams: [\n", "is no valid YAML"),
    ):
        config.write_text(text)
        code, complaints, rows = run(spectra, "-c", config)
        assert (code, rows, len(complaints)) == (1, [], 1), text
        assert problem in complaints[0]
    code, complaints, _ = run(spectra, "--set", "beams=3")
    assert code == 1
    assert "--set beams=3: unknown key 'beams' (did you mean 'n_beams'?)" in complaints[0]


def test_modifications_switched_at_the_command_line(run: Run, tmp_path: Path) -> None:
    spectra = mgf(tmp_path / "a.mgf", block("[TMT6plex]-GASPVTK[TMT6plex]"), block("SAMPLER"))
    out = tmp_path / "out.mztab"
    switches = ("--mods", "tmt6plex=fixed,Phospho=off", "--mods", "M[Oxidation]=off")
    code, complaints, _ = run(spectra, *switches, "--set", "top_match=4", output=out)
    assert (code, complaints) == (0, [])
    tokens = [psm.peptide.tokens for psm in read_predictions(out) if psm.peptide]
    assert tokens
    assert all(answer[0] == "[TMT6plex]-" for answer in tokens)
    assert not {"K", "M[Oxidation]", "S[Phospho]"} & {
        token for answer in tokens for token in answer
    }
    text = out.read_text("utf-8")
    assert "MTD\tfixed_mod[2]\t[UNIMOD, UNIMOD:737, TMT6plex, ]\n" in text
    assert "UNIMOD:21" not in text
    code, complaints, _ = run(spectra, "--mods", "TMT=fixed")
    assert (code, len(complaints)) == (1, 1)
    assert "mods.TMT=fixed" in complaints[0]
    assert "unknown modification 'TMT' (known are " in complaints[0]


LADDER = sorted(ion.mz for ion in fragments(Peptide.parse("GASPVTK")))
PRECURSOR = precursor(Peptide.parse("GASPVTK"))
CHARGES = (2, 20)
"""Of two spectra: one that has an answer and one that has none."""


def packed(values: list[float], kind: str) -> str:
    return base64.b64encode(np.array(values, kind).tobytes()).decode()


def mgf_said(path: Path) -> None:
    said = "PEPMASS={}\nCHARGE={}+\nTITLE=run 7\nSCANS=7\nRTINSECONDS=62.5\nION_MOBILITY=0.875\n"
    peaks = "".join(f"{mz} 1\n" for mz in LADDER)
    blocks = [f"BEGIN IONS\n{said.format(PRECURSOR, c)}{peaks}END IONS\n" for c in CHARGES]
    path.write_text("".join(blocks))


def mzml_said(path: Path) -> None:
    def term(accession: str, value: object, unit: str = "") -> str:
        return f'<cvParam accession="MS:{accession}" value="{value}" unitAccession="{unit}"/>'

    arrays = "".join(
        f"<binaryDataArray>{term('1000523', '')}{term('1000576', '')}{term(kind, '')}"
        f"<binary>{packed(values, '<f8')}</binary></binaryDataArray>"
        for kind, values in (("1000514", LADDER), ("1000515", [1.0] * len(LADDER)))
    )
    spectra = "".join(
        f'<spectrum id="scan=7">{term("1000511", 2)}{term("1000796", "run 7")}<scanList><scan>'
        f"{term('1000016', 62.5, 'UO:0000010')}{term('1002815', 0.875)}</scan></scanList>"
        f"<precursorList><precursor><selectedIonList><selectedIon>{term('1000744', PRECURSOR)}"
        f"{term('1000041', charge)}</selectedIon></selectedIonList></precursor></precursorList>"
        f"<binaryDataArrayList>{arrays}</binaryDataArrayList></spectrum>"
        for charge in CHARGES
    )
    path.write_text(f"<mzML><run><spectrumList>{spectra}</spectrumList></run></mzML>")


def mzxml_said(path: Path) -> None:
    peaks = packed([value for mz in LADDER for value in (mz, 1.0)], ">f4")
    scans = "".join(
        f'<scan num="7" msLevel="2" retentionTime="PT62.5S">'
        f'<precursorMz precursorCharge="{charge}">{PRECURSOR}</precursorMz>'
        f'<peaks precision="32">{peaks}</peaks></scan>'
        for charge in CHARGES
    )
    path.write_text(f"<mzXML><msRun>{scans}</msRun></mzXML>")


def parquet_said(path: Path) -> None:
    row = {"title": "run 7", "scan": 7, "retention_time": 62.5, "ion_mobility": 0.875}
    row |= {"precursor_mz": PRECURSOR, "mz": LADDER, "intensity": [1.0] * len(LADDER)}
    pq.write_table(pa.Table.from_pylist([{**row, "precursor_charge": c} for c in CHARGES]), path)


@pytest.mark.parametrize(
    ("said", "name", "identifiers", "title", "mobility"),
    [
        (mgf_said, "a.mgf", ["index=0", "index=1"], "run 7", 0.875),
        (mzml_said, "a.mzML", ["scan=7", "scan=7"], "run 7", 0.875),
        (mzxml_said, "a.mzXML", ["scan=7", "scan=7"], "", None),  # the format says neither
        (parquet_said, "a.parquet", ["index=0", "index=1"], "run 7", 0.875),
    ],
)
@pytest.mark.parametrize("fdr", ["1", "1e-9"])
def test_every_row_says_what_the_file_says_of_its_spectrum(
    run: Run,
    tmp_path: Path,
    said: Callable[[Path], None],
    name: str,
    identifiers: list[str],
    title: str,
    mobility: float | None,
    fdr: str,
) -> None:
    said(tmp_path / name)
    code, _, rows = run(tmp_path / name, "--top-match", "2", "--fdr", fdr)
    assert code == 0
    codes = {"1": ["", "", "charge_out_of_range"], "1e-9": ["above_fdr", "charge_out_of_range"]}
    assert [row.reason_code for row in rows] == codes[fdr]
    assert [row.identifier for row in rows[-2:]] == identifiers
    for row in rows:
        assert (row.title, row.scan, row.ion_mobility) == (title, 7, mobility)
        assert (row.retention_time, row.precursor_mz) == (62.5, pytest.approx(PRECURSOR))
        assert (row.file, row.precursor_charge) == (str(tmp_path / name), CHARGES[row is rows[-1]])


def test_a_report_beside_the_rows(run: Run, tmp_path: Path) -> None:
    path = mgf(tmp_path / "a.mgf", block(), block(charge="CHARGE=20+"), block("SAMPLER")[:-20])
    page = tmp_path / "page.html"
    code, _, rows = run(path, "--report", page)
    assert (code, len(rows)) == (1, 2)
    words = " ".join(re.sub(r"<[^>]*>", " ", page.read_text("utf-8")).split())
    assert "2 spectra read 1 given a peptide 0 of these expected to be right" in words
    assert " 1 not: charge_out_of_range " in words
    out = tmp_path / "out.csv"
    out.unlink()
    code, complaints, _ = run(path, "--report", out)
    assert code == 1
    assert "out.csv: is an input and would be lost" in complaints[0]
