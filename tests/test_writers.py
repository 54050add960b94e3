from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from answers import ANSWER, FILES, NATIVE, PLAIN, ROWS, SETTINGS, write
from hypothesis import given
from hypothesis import strategies as st

from tinynovo import __version__
from tinynovo.errors import InputError
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions
from tinynovo.rows import COLUMNS
from tinynovo.writers import WRITERS, open_writer


@pytest.fixture(params=list(WRITERS))
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"out.{request.param}"


# ---- all formats --------------------------------------------------------------------------------


def test_what_is_written_is_read_back(output: Path) -> None:
    found = list(read_predictions(write(output, ROWS)))
    assert [psm.peptide for psm in found] == [psm.peptide for psm in ROWS]
    assert [psm.file for psm in found] == [psm.file for psm in ROWS]
    assert [psm.rank for psm in found] == [1, 1, 1, 2]
    assert [psm.reason_code for psm in found] == ["", "no_charge", "", ""]
    assert [psm.reason for psm in found] == ["", "no precursor charge", "", ""]
    assert [psm.score for psm in found] == [pytest.approx(0.912324, abs=1e-5), None, 0.5, 0.0]
    first = found[0]
    assert (first.index, first.identifier, first.title) == (4, "index=4", ANSWER.title)
    assert (first.precursor_mz, first.calculated_mz) == (412.6789012345, 412.1762)
    assert (first.precursor_charge, first.isotope_error, first.scan) == (2, 1, 17)
    assert (first.error_ppm, first.retention_time, first.ion_mobility) == (-3.25, 65.5, 0.875)
    assert first.residue_scores == pytest.approx(ANSWER.residue_scores, abs=1e-5)
    assert first.q_value == pytest.approx(0.0123456, abs=1e-5)
    assert found[2].q_value is None
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
    assert first["score"] == "0.91232"
    assert (first["posterior_error"], first["q_value"]) == ("0.08768", "0.01235")
    assert silent["posterior_error"] == silent["q_value"] == ""
    assert first["title"] == 'a "title", with a comma'
    assert silent["sequence"] == silent["score"] == silent["aa_scores"] == ""
    assert (silent["reason_code"], silent["reason"]) == ("no_charge", "no precursor charge")


def test_csv_to_the_letter(tmp_path: Path) -> None:
    assert write(tmp_path / "out.csv", ROWS).read_text("utf-8").splitlines() == [
        "spectrum_id,sequence,score,aa_scores,aa_support,ambiguity,alternatives,"
        "posterior_error,q_value,rank,precursor_mz,"
        "precursor_charge,calculated_mz,error_ppm,isotope_error,retention_time,ion_mobility,"
        "scan,title,file,index,accessions,reason_code,reason",
        "index=4,[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K,0.91232,"
        '"0.10000,0.20000,0.30000,0.40000,0.50000,0.98765","1,1,0,0,1,1",'
        "[Acetyl]-PE(?PM[Oxidation])C[Carbamidomethyl]K,1:P=AG,"
        "0.08768,0.01235,1,412.6789012345,2,412.1762,-3.25000,1,65.5,0.875,17,"
        '"a ""title"", with a comma",/data/my run.mgf,4,sp|P1|A;B,,',
        "controllerType=0 controllerNumber=1 scan=9,,,,,,,,,1,500.25,,,,,,,9,,/data/b.mzML,0,"
        ",no_charge,no precursor charge",
        "function=2 process=0 scan=3,PEK,0.50000,"
        '"0.50000,0.25000,1.00000",,,,0.50000,,1,,,,,0,,,,,/data/b.mzML,1,,,',
        'index=0,GK,0.00000,"0.00000,1.00000",,,,1.00000,,2,,,,,0,,,,,/data/c.parquet,0,,,',
    ]


def test_parquet_has_the_columns_of_the_csv_and_the_settings(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "out.parquet", ROWS))
    assert table.schema.names == COLUMNS.names
    assert table.schema.metadata[b"device"] == b"cpu"
    assert table.schema.metadata[b"tinynovo"] == __version__.encode()
    first, silent = table.slice(0, 2).to_pylist()
    assert first["aa_scores"] == list(ANSWER.residue_scores)
    assert first["score"] == 0.912324
    assert (first["posterior_error"], first["q_value"]) == (1 - 0.912324, 0.0123456)
    assert silent["sequence"] is None
    assert silent["isotope_error"] is None
