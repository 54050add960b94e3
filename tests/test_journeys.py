"""Sequencing with a false discovery rate: what is kept, and what an interrupt leaves."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tinynovo.errors import InputError
from tinynovo.fdr import controlled, q_values
from tinynovo.gathering import ROWS_A_WRITE, Outcome
from tinynovo.journeys import sequence_files
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions
from tinynovo.rows import from_row
from tinynovo.spectrum import Spectrum
from tinynovo.spool import Spools
from tinynovo.writers import WRITERS, CsvWriter


@dataclass
class Fake:
    """Scores a spectrum with its retention time; no answer without one; may fail at some index."""

    top_match: int = 1
    fail_at: int | None = None
    failure: BaseException | None = None

    window = 8

    @property
    def settings(self) -> dict[str, str]:
        return {"device": "none"}

    def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        for spectrum in spectra:
            if self.failure and spectrum.index == self.fail_at:
                raise self.failure
            psm = PSM(spectrum.file, spectrum.index, spectrum.identifier, None)
            score = spectrum.retention_time
            if score is None:
                yield [replace(psm, reason_code="too_few_peaks", reason="3 usable peaks")]
                continue
            scores = [score / rank for rank in range(1, self.top_match + 1)]
            known = {"peptide": Peptide.parse("GAK")}
            yield [
                replace(psm, score=each, residue_scores=(each,) * 3, rank=rank, **known)
                for rank, each in enumerate(scores, 1)
            ]


def mgf(path: Path, scores: Sequence[float | None]) -> Path:
    """A file of spectra that the fake sequencer scores so."""
    times = ["" if score is None else f"RTINSECONDS={score:.6f}\n" for score in scores]
    path.write_text("".join(f"BEGIN IONS\n{t}100 1\nEND IONS\n" for t in times), "utf-8")
    return path


def run(files: Sequence[Path], output: Path, fdr: float | None, **fake: object) -> Outcome:
    return sequence_files(Fake(**fake), files, output, None, lambda _: None, None, fdr)


def rows(path: Path) -> list[PSM]:
    return [from_row(row) for row in pq.read_table(path).to_pylist()]


SCORES = [0.9, None, 0.4, 0.8, 0.1]


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_meets_the_rate_is_kept(tmp_path: Path, suffix: str) -> None:
    first = mgf(tmp_path / "a.mgf", SCORES)
    second = mgf(tmp_path / "b.mgf", [0.95])
    output = tmp_path / f"out.{suffix}"
    outcome = run([first, second], output, 0.12)
    # By score, with the mean error so far: 0.95 0.05, 0.9 0.075, 0.8 0.1167, 0.4 0.2375, ...
    found = list(read_predictions(output))
    assert [Path(psm.file).name for psm in found] == ["a.mgf"] * 5 + ["b.mgf"]
    assert [psm.q_value for psm in found] == [
        *(pytest.approx(0.075, abs=1e-5), None, None, pytest.approx(0.11667, abs=1e-5), None),
        pytest.approx(0.05, abs=1e-5),
    ]
    codes = ["", "too_few_peaks", "above_fdr", "", "above_fdr", ""]
    assert [psm.reason_code for psm in found] == codes
    assert [psm.peptide is None for psm in found] == [bool(code) for code in codes]
    assert found[2].reason == "q-value 0.23750 is above 0.12"
    assert (outcome.spectra, outcome.answered) == (6, 3)
    assert outcome.reasons == {"above_fdr": 2, "too_few_peaks": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mgf", "b.mgf", output.name]


def test_without_a_rate_there_are_no_q_values(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    outcome = run([mgf(tmp_path / "a.mgf", SCORES)], output, None)
    assert {psm.q_value for psm in rows(output)} == {None}
    assert (outcome.answered, outcome.reasons) == (4, {"too_few_peaks": 1})
    assert b"fdr" not in pq.read_schema(output).metadata


def test_a_rate_of_one_adds_q_values_and_nothing_else(tmp_path: Path) -> None:
    spectra = mgf(tmp_path / "a.mgf", SCORES * 40)
    plain, whole = tmp_path / "plain.parquet", tmp_path / "whole.parquet"
    assert run([spectra], plain, None, top_match=3) == run([spectra], whole, 1.0, top_match=3)
    found = rows(whole)
    assert [replace(psm, q_value=None) for psm in found] == rows(plain)
    for psm in found:
        assert (psm.q_value is not None) == (psm.rank == 1 and psm.peptide is not None)
    assert pq.read_schema(whole).metadata[b"fdr"] == b"1"


def test_lower_ranks_go_with_their_spectrum(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    run([mgf(tmp_path / "a.mgf", SCORES)], output, 0.2, top_match=2)
    found = [(psm.index, psm.rank, psm.reason_code) for psm in rows(output)]
    assert found == [
        *((0, 1, ""), (0, 2, ""), (1, 1, "too_few_peaks")),
        *((2, 1, "above_fdr"), (3, 1, ""), (3, 2, ""), (4, 1, "above_fdr")),
    ]


def test_a_file_is_handed_over_as_one_stream(tmp_path: Path) -> None:
    """What answers can then work on the next window while the rows of one are written."""

    class Ahead(Fake):
        def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
            given = list(spectra)
            taken.append(len(given))
            yield from super().rows(given)

    taken: list[int] = []
    spectra, output = mgf(tmp_path / "a.mgf", SCORES * 5), tmp_path / "out.parquet"
    sequence_files(Ahead(), [spectra], output, None, lambda _: None, fdr=1.0)
    assert taken == [5 * len(SCORES)]
    assert taken[0] > 2 * Fake.window
    assert len(rows(output)) == taken[0]


def test_no_spectrum_at_all(tmp_path: Path) -> None:
    empty = tmp_path / "a.mgf"
    empty.touch()
    output = tmp_path / "out.csv"
    outcome = run([empty], output, 0.01)
    assert (outcome.spectra, len(outcome.complaints)) == (0, 1)
    assert list(read_predictions(output)) == []
    assert len(list(tmp_path.iterdir())) == 2


LONG = np.random.default_rng(0).uniform(0, 1, 3 * ROWS_A_WRITE).round(6).tolist()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("bug"), InputError("odd")])
def test_what_was_answered_before_an_interrupt_is_written(
    tmp_path: Path, failure: BaseException
) -> None:
    spectra, output = mgf(tmp_path / "a.mgf", LONG), tmp_path / "out.parquet"
    answered = 2 * ROWS_A_WRITE + 5
    with pytest.raises(type(failure)) as caught:
        run([spectra], output, 0.3, fail_at=answered, failure=failure)
    assert caught.value is failure
    plain = tmp_path / "plain.parquet"
    run([spectra], plain, None)
    before = rows(plain)[:answered]
    assert rows(output) == list(controlled(before, q_values(np.array(LONG[:answered])), 0.3))
    assert not output.with_name("out.parquet.rows").exists()


def test_a_disk_that_fills_up_loses_nothing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = Spools.put, [0]

    def failing(spools: Spools, place: int, batch: pa.RecordBatch) -> None:
        calls[0] += 1
        if calls[0] == 3:
            spools._open[place].write(b"half a batch")
            raise InputError("cannot be written: No space left on device")
        put(spools, place, batch)

    monkeypatch.setattr(Spools, "put", failing)
    output = tmp_path / "out.parquet"
    with pytest.raises(InputError, match="No space left"):
        run([mgf(tmp_path / "a.mgf", LONG)], output, 1.0)
    assert [psm.score for psm in rows(output)] == LONG[: 2 * Fake.window]


def test_the_rows_stay_until_all_of_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = CsvWriter.write, [0]

    def failing(writer: CsvWriter, psms: Iterable[PSM]) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        write(writer, psms)

    monkeypatch.setattr(CsvWriter, "write", failing)
    output = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        run([mgf(tmp_path / "a.mgf", LONG)], output, 1.0)
    assert len(list(read_predictions(output))) == 2 * ROWS_A_WRITE
    with (
        (tmp_path / "out.csv.rows" / "1.arrow").open("rb") as file,
        pa.ipc.open_stream(file) as stream,
    ):
        assert stream.read_all()["score"].to_pylist() == LONG


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(spectra: int) -> int:
        path = mgf(tmp_path / "a.mgf", [0.5] * spectra)
        tracemalloc.start()
        run([path], tmp_path / "out.csv", 0.6)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(100)
    # The scores take some arrays of 8 bytes a spectrum, the rows would take a thousand and more.
    assert peak(8000) - peak(1000) < 7000 * 100
    assert pa.total_allocated_bytes() < 1_000_000
