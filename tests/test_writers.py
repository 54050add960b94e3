from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyteomics import mztab

from tinynovo import __version__
from tinynovo.errors import InputError
from tinynovo.peptide import PSM, Peptide
from tinynovo.readers import read_predictions, read_spectra
from tinynovo.spectrum import Spectrum
from tinynovo.writers import COLUMNS, WRITERS, open_writer, write_labelled

FILES = ["/data/my run.mgf", "/data/b.mzML", "/data/c.parquet", "/data/d.mgf.gz"]
SETTINGS = {"device": "cpu", "top_match": "1"}

ANSWER = PSM(
    file=FILES[0],
    index=4,
    identifier="index=4",
    peptide=Peptide.parse("[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K"),
    score=0.912345,
    residue_scores=(0.1, 0.2, 0.3, 0.4, 0.5, 0.987654),
    rank=1,
    precursor_mz=412.6789012345,
    precursor_charge=2,
    calculated_mz=412.1762,
    error_ppm=-3.25,
    isotope_error=1,
    title='a "title", with a comma',
    scan=17,
    retention_time=65.5,
    ion_mobility=0.875,
)
SILENT = PSM(
    file=FILES[1],
    index=0,
    identifier="controllerType=0 controllerNumber=1 scan=9",
    peptide=None,
    scan=9,
    precursor_mz=500.25,
    reason="no precursor charge",
)
NATIVE = PSM(
    FILES[1], 1, "function=2 process=0 scan=3", Peptide.parse("PEK"), 0.5, (0.5, 0.25, 1.0)
)
PLAIN = PSM(FILES[2], 0, "index=0", Peptide.parse("GK"), 0.0, (0.0, 1.0), rank=2)
ROWS = [ANSWER, SILENT, NATIVE, PLAIN]


@pytest.fixture(params=list(WRITERS))
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"out.{request.param}"


def write(path: Path, rows: list[PSM]) -> Path:
    with open_writer(path, files=FILES, settings=SETTINGS) as writer:
        writer.write(rows)
    return path


def lines(path: Path, kind: str) -> list[list[str]]:
    rows = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return [row[1:] for row in rows if row[0] == kind]


# ---- all formats --------------------------------------------------------------------------------


def test_what_is_written_is_read_back(output: Path) -> None:
    found = list(read_predictions(write(output, ROWS)))
    assert [psm.peptide for psm in found] == [psm.peptide for psm in ROWS]
    assert [psm.file for psm in found] == [psm.file for psm in ROWS]
    assert [psm.rank for psm in found] == [1, 1, 1, 2]
    assert [psm.reason for psm in found] == ["", "no precursor charge", "", ""]
    assert [psm.score for psm in found] == [pytest.approx(0.912345, abs=1e-5), None, 0.5, 0.0]
    first = found[0]
    assert (first.index, first.identifier, first.title) == (4, "index=4", ANSWER.title)
    assert (first.precursor_mz, first.calculated_mz) == (412.6789012345, 412.1762)
    assert (first.precursor_charge, first.isotope_error, first.scan) == (2, 1, 17)
    assert (first.error_ppm, first.retention_time, first.ion_mobility) == (-3.25, 65.5, 0.875)
    assert first.residue_scores == pytest.approx(ANSWER.residue_scores, abs=1e-5)
    assert (found[1].precursor_charge, found[1].precursor_mz, found[1].scan) == (None, 500.25, 9)
    assert found[2].identifier == NATIVE.identifier


names = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)
psms = st.builds(
    lambda index, tokens, scores, title: PSM(
        FILES[0],
        index,
        f"index={index}",
        Peptide(tuple(tokens)),
        0.5,
        tuple(scores[: len(tokens)]),
        title=" ".join(title.split()),
    ),
    st.integers(0, 10**9),
    st.lists(st.sampled_from(["G", "M[Oxidation]", "K[TMT6plex]", "L"]), min_size=1, max_size=8),
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
    names,
)


@pytest.mark.parametrize("suffix", WRITERS)
@given(rows=st.lists(psms, max_size=5, unique_by=lambda psm: psm.index))
def test_any_rows_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[PSM]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    found = list(read_predictions(write(path, rows)))
    assert len(found) == len(rows)
    for psm, row in zip(found, rows, strict=True):
        assert (psm.index, psm.peptide) == (row.index, row.peptide)
        assert psm.title == ("" if row.title == "null" and suffix == "mztab" else row.title)
        assert psm.residue_scores == pytest.approx(row.residue_scores, abs=1e-5)


@pytest.mark.parametrize("suffix", ["mztab", "csv"])
def test_rows_are_on_disk_after_every_write(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with open_writer(path, files=FILES, settings=SETTINGS) as writer:
        assert list(read_predictions(path)) == []
        for count in (1, 2, 3):
            writer.write([PLAIN])
            assert len(list(read_predictions(path))) == count


def test_parquet_puts_a_row_group_on_disk_at_every_write(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    sizes = [0]
    with open_writer(path, files=FILES, settings=SETTINGS) as writer:
        for _ in range(3):
            writer.write([PLAIN])
            sizes.append(path.stat().st_size)
        writer.write([])
    assert sizes == sorted(set(sizes))
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 3


def test_rows_before_an_error_are_kept(output: Path) -> None:
    def failing() -> Iterator[PSM]:
        yield PLAIN
        raise RuntimeError

    def journey() -> None:
        with open_writer(output, files=FILES, settings=SETTINGS) as writer:
            writer.write([ANSWER])
            writer.write(failing())

    with pytest.raises(RuntimeError):
        journey()
    assert [psm.peptide for psm in read_predictions(output)] == [ANSWER.peptide]


def test_an_output_is_overwritten(output: Path) -> None:
    output.write_text("old" * 1000)
    write(output, [PLAIN])
    assert len(list(read_predictions(output))) == 1


def test_the_same_rows_give_the_same_file(output: Path, tmp_path: Path) -> None:
    again = tmp_path / f"again{output.suffix}"
    assert write(output, ROWS).read_bytes() == write(again, ROWS).read_bytes()


def test_the_format_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with open_writer(path, "csv", files=FILES, settings=SETTINGS) as writer:
        writer.write([PLAIN])
    assert path.read_text().startswith("spectrum_id,sequence,score,aa_scores,")


@pytest.mark.parametrize(
    ("name", "format", "problem"),
    [
        ("out.txt", None, "is of no known output format: 'txt'"),
        ("out", None, "is of no known output format: ''"),
        ("out.csv", "pepxml", "is of no known output format: 'pepxml'"),
        ("none/out.csv", None, "cannot be written: No such file or directory"),
        ("folder.csv", None, "cannot be written: Is a directory"),
    ],
)
def test_outputs_that_cannot_be(
    tmp_path: Path, name: str, format: str | None, problem: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError) as caught:
        open_writer(tmp_path / name, format, files=FILES, settings=SETTINGS)
    assert caught.value.problem == problem
    assert caught.value.file == str(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is full")
@pytest.mark.parametrize("format", WRITERS)
def test_a_full_disk_is_a_complaint(format: str) -> None:
    with (
        pytest.raises(InputError, match="cannot be written: No space left on device"),
        open_writer("/dev/full", format, files=FILES, settings=SETTINGS) as writer,
    ):
        writer.write(ROWS)


# ---- mzTab --------------------------------------------------------------------------------------


def test_mztab_is_read_by_pyteomics(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mztab", ROWS)
    with path.open(encoding="utf-8") as file:
        found = mztab.MzTab(file, table_format="dict")
    assert found.version == "1.0.0"
    assert found.mode == "Summary"
    assert found.type == "Identification"
    rows = found["PSM"]["rows"]
    assert len(rows) == 4
    assert rows[0]["sequence"] == "PEPMCK"
    assert rows[0]["search_engine_score[1]"] == pytest.approx(0.912345, abs=1e-5)
    assert rows[0]["charge"] == 2
    assert rows[0]["exp_mass_to_charge"] == 412.6789012345
    assert rows[1]["sequence"] is None


def test_mztab_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mztab", ROWS)
    (header,) = lines(path, "PSH")
    # The columns of the specification, in its order.
    assert header[:17] == [
        *("sequence", "PSM_ID", "accession", "unique", "database", "database_version"),
        *("search_engine", "search_engine_score[1]", "modifications", "retention_time"),
        *("charge", "exp_mass_to_charge", "calc_mass_to_charge", "spectra_ref"),
        *("pre", "post", "start", "end")[:3],
    ]
    assert header[17] == "end"
    assert all(column.startswith("opt_") for column in header[18:])
    assert len(set(header)) == len(header)
    rows = [dict(zip(header, row, strict=True)) for row in lines(path, "PSM")]
    first = rows[0]
    assert first["PSM_ID"] == "1"
    assert first["modifications"] == "0-UNIMOD:1,4-UNIMOD:35,5-UNIMOD:4"
    assert first["opt_global_cv_MS:1003169_proforma_peptidoform_sequence"] == (
        "[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K"
    )
    assert first["opt_ms_run[1]_aa_scores"] == "0.10000,0.20000,0.30000,0.40000,0.50000,0.98765"
    assert first["retention_time"] == "65.5"
    assert first["search_engine"] == f"[MS, MS:1001456, analysis software, tinynovo {__version__}]"
    assert [row["spectra_ref"] for row in rows] == [
        "ms_run[1]:index=4",
        "ms_run[2]:scan=9",
        "ms_run[2]:function=2 process=0 scan=3",
        "ms_run[3]:index=0",
    ]
    silent = rows[1]
    assert silent["opt_global_reason"] == "no precursor charge"
    for column in ("sequence", "search_engine_score[1]", "modifications", "charge", "accession"):
        assert silent[column] == "null"
    assert {row["opt_global_rank"] for row in rows} == {"1", "2"}
    assert [row["modifications"] for row in rows[2:]] == ["null", "null"]


def test_mztab_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mztab", [])
    rows = lines(path, "MTD")
    metadata = dict(rows)  # type: ignore[arg-type]
    assert len(metadata) == len(rows)
    assert metadata["mzTab-version"] == "1.0.0"
    assert metadata["mzTab-mode"] == "Summary"
    assert metadata["mzTab-type"] == "Identification"
    assert metadata["description"]
    assert metadata["software[1]-setting[1]"] == "device = cpu"
    assert metadata["software[1]-setting[2]"] == "top_match = 1"
    assert metadata["ms_run[1]-location"] == "file:///data/my%20run.mgf"
    assert metadata["ms_run[1]-format"] == "[MS, MS:1001062, Mascot MGF format, ]"
    assert metadata["ms_run[2]-format"] == "[MS, MS:1000584, mzML format, ]"
    assert metadata["ms_run[4]-format"] == "[MS, MS:1001062, Mascot MGF format, ]"
    assert metadata["ms_run[1]-id_format"].startswith("[MS, MS:1000774,")
    assert metadata["ms_run[2]-id_format"].startswith("[MS, MS:1000776,")
    assert "MS:1002453" in metadata["fixed_mod[1]"]
    assert metadata["variable_mod[2]"] == "[UNIMOD, UNIMOD:35, Oxidation, ]"
    assert metadata["variable_mod[2]-site"] == "M"
    sites = {v for k, v in metadata.items() if k.startswith("variable") and k.endswith("-site")}
    assert sites == {"C", "M", "N", "Q", "S", "T", "Y", "K", "N-term"}
    assert metadata["psm_search_engine_score[1]"].startswith("[MS, MS:1001143,")


def test_mztab_cells_hold_no_tabs_or_line_ends(tmp_path: Path) -> None:
    odd = PSM(FILES[0], 0, "index=0", None, title="a\tb\nc", reason="x\ty")
    path = tmp_path / "out.mztab"
    with open_writer(path, files=FILES, settings={"a": "b\nMTD\tc"}) as writer:
        writer.write([odd])
    (found,) = read_predictions(path)
    assert (found.title, found.reason) == ("a b c", "x y")
    assert ["software[1]-setting[1]", "a = b MTD c"] in lines(path, "MTD")


def test_locations_of_relative_files_are_absolute(tmp_path: Path) -> None:
    path = tmp_path / "out.mztab"
    with open_writer(path, files=["a.mgf"], settings={}) as writer:
        writer.write([PSM("a.mgf", 0, "index=0", None, reason="none")])
    (found,) = read_predictions(path)
    assert found.file == str(Path("a.mgf").absolute())


# ---- CSV and Parquet ----------------------------------------------------------------------------


def test_csv_is_clean(tmp_path: Path) -> None:
    path = write(tmp_path / "out.csv", ROWS)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == COLUMNS.names
    assert header[:4] == ["spectrum_id", "sequence", "score", "aa_scores"]
    assert len(rows) == 4
    first, silent = (dict(zip(header, row, strict=True)) for row in rows[:2])
    assert first["sequence"] == "[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K"
    assert first["score"] in ("0.91234", "0.91235")
    assert first["title"] == 'a "title", with a comma'
    assert silent["sequence"] == silent["score"] == silent["aa_scores"] == ""
    assert silent["reason"] == "no precursor charge"


def test_parquet_has_the_columns_of_the_csv_and_the_settings(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "out.parquet", ROWS))
    assert table.schema.names == COLUMNS.names
    assert table.schema.metadata[b"device"] == b"cpu"
    assert table.schema.metadata[b"tinynovo"] == __version__.encode()
    first, silent = table.slice(0, 2).to_pylist()
    assert first["aa_scores"] == list(ANSWER.residue_scores)
    assert first["score"] == 0.912345
    assert silent["sequence"] is None
    assert silent["isotope_error"] is None


# ---- labelled spectra ---------------------------------------------------------------------------


def labelled(number: int) -> list[Spectrum]:
    mz, intensity = np.array([100.123456, 200.5]), np.array([1.0, 0.25])
    return [
        Spectrum(mz, intensity, 450.123456, 2, f"index={i}", i, title=f"s {i}", peptide="PEK")
        for i in range(number)
    ]


@pytest.mark.parametrize("name", ["a.mgf", "a.parquet", "A.MGF"])
def test_labelled_spectra_are_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_labelled(path, iter(labelled(3)))
    found = list(read_spectra(path))
    assert [s.title for s in found] == ["s 0", "s 1", "s 2"]
    for spectrum in found:
        assert spectrum.mz.tolist() == [100.123456, 200.5]
        assert spectrum.intensity.tolist() == [1.0, 0.25]
        assert (spectrum.precursor_mz, spectrum.precursor_charge) == (450.123456, 2)
        assert spectrum.peptide == "PEK"


@pytest.mark.parametrize("name", ["a.mgf", "a.parquet"])
def test_labelled_spectra_without_precursor(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_labelled(path, [Spectrum(np.zeros(0), np.zeros(0), None, None, peptide="PEK")])
    (found,) = read_spectra(path)
    assert (found.precursor_mz, found.precursor_charge, found.mz.size) == (None, None, 0)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("a.mzML", "cannot hold labelled spectra"), ("none/a.mgf", "cannot be written")],
)
def test_labelled_outputs_that_cannot_be(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        write_labelled(tmp_path / name, labelled(1))
