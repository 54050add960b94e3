from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from answers import ANSWER, NATIVE, PLAIN, ROWS, SETTINGS, SILENT, any_psm
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynovo.errors import InputError
from tinynovo.psm import PSM
from tinynovo.rows import COLUMNS
from tinynovo.spool import Spools, pack, spectra_in, spools_path, unpack

WINDOW = 2


def spools(folder: Path, *names: str, resume: bool = False, **settings: str) -> Spools:
    """Rows of some files, which need not exist."""
    files = [folder / name for name in names or ("a.mgf", "b.mgf")]
    return Spools(folder / "out.csv", files, SETTINGS | settings, WINDOW, resume=resume)


def put(into: Spools, place: int, *handfuls: list[PSM]) -> None:
    for rows in handfuls:
        into.put(place, pack(rows))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(any_psm(), max_size=4), max_size=4))
def test_rows_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, handfuls: list[list[PSM]]
) -> None:
    with spools(tmp_path_factory.getbasetemp()) as kept:
        for place in (0, 1):
            put(kept, place, *handfuls)
        rows = [psm for rows in handfuls for psm in rows]
        assert list(kept.psms(0)) == list(kept.psms(1)) == rows
        best = [psm.score for psm in rows if psm.rank == 1 and psm.peptide is not None]
        assert kept.best()[0].tolist() == 2 * best
        assert kept.best()[0].dtype == np.float64
        assert [unpack(pack(rows)) for rows in handfuls] == handfuls
        assert spectra_in(pack(rows)) == sum(psm.rank == 1 for psm in rows)


def test_any_reader_of_arrow_reads_them(tmp_path: Path) -> None:
    assert spools_path(tmp_path / "out.csv") == tmp_path / "out.csv.rows"
    with spools(tmp_path) as kept:
        put(kept, 1, ROWS[:2], ROWS[2:])
    path = tmp_path / "out.csv.rows" / "2.arrow"
    with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    assert table.schema.names == COLUMNS.names
    assert table.schema.metadata[b"device"] == b"cpu"
    assert table["spectrum_id"].to_pylist() == [psm.identifier for psm in ROWS]
    assert table["score"].to_pylist() == [0.912324, None, 0.5, 0.0]
    kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_rows_are_on_disk_after_every_write(tmp_path: Path) -> None:
    with spools(tmp_path) as kept:
        for count in (1, 2, 3):
            put(kept, 0, [NATIVE, SILENT])
            # What a run that is killed now would leave.
            with (tmp_path / "out.csv.rows" / "1.arrow").open("rb") as left:
                assert pa.ipc.open_stream(left.read()).read_all().num_rows == 2 * count


def test_what_was_written_well_is_read_though_the_rest_is_cut_off(tmp_path: Path) -> None:
    with spools(tmp_path) as kept:
        put(kept, 0, [ANSWER], [NATIVE])
        path = tmp_path / "out.csv.rows" / "1.arrow"
        with path.open("ab") as file:
            file.write(b"\xff\xff\xff\xff half a batch")
        assert list(kept.psms(0)) == [ANSWER, NATIVE]
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(InputError, match=r"1\.arrow: is damaged or cut off"):
            list(kept.psms(0))
        path.unlink()
        with pytest.raises(InputError, match="is damaged or cut off"):
            kept.best()


def test_no_rows_at_all(tmp_path: Path) -> None:
    with spools(tmp_path) as kept:
        put(kept, 0, [])
        assert list(kept.psms(0)) == []
        assert kept.best()[0].shape == (0,)


def test_a_killed_run_keeps_whole_windows_and_what_ended(tmp_path: Path) -> None:
    complaint = InputError("is cut off", file="a.mgf", spectrum="index=3", remedy="copy it again")
    with spools(tmp_path) as first:
        put(first, 0, [ANSWER, NATIVE], [SILENT])
        first.end(0, complaint)
        put(first, 1, [ANSWER, NATIVE], [SILENT, NATIVE, PLAIN], [SILENT])
    # At once, and once more after the next was killed too.
    for _ in range(2):
        with spools(tmp_path, resume=True) as kept:
            assert kept.kept == 3 + 4
            assert [kept.ended(0), kept.ended(1)] == [True, False]
            assert [str(c) for c in kept.complaints] == [str(complaint)]
            assert list(kept.psms(0)) == [ANSWER, NATIVE, SILENT]
            assert list(kept.psms(1)) == [ANSWER, NATIVE, SILENT, NATIVE, PLAIN]
            put(kept, 1, [NATIVE])
            assert list(kept.psms(1))[-1] == NATIVE
    with spools(tmp_path) as fresh:
        assert (fresh.kept, list(fresh.psms(0)), fresh.ended(0)) == (0, [], False)


ROUNDS = [[ANSWER, NATIVE], [SILENT, NATIVE], [ANSWER, PLAIN, NATIVE]]


def test_wherever_the_rows_are_cut_off_whole_windows_are_kept(tmp_path: Path) -> None:
    with spools(tmp_path, "a.mgf") as first:
        put(first, 0, *ROUNDS)
    path = tmp_path / "out.csv.rows" / "1.arrow"
    whole = path.read_bytes()
    found = set()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with spools(tmp_path, "a.mgf", resume=True) as kept:
            windows = kept.kept // WINDOW
            assert list(kept.psms(0)) == [psm for rows in ROUNDS[:windows] for psm in rows]
            put(kept, 0, *ROUNDS[windows:])
            assert path.read_bytes() == whole
        found.add(windows)
    assert found == {0, 1, 2}


def test_wherever_the_journal_is_cut_off_what_ended_is_known(tmp_path: Path) -> None:
    with spools(tmp_path) as first:
        for place in (0, 1):
            put(first, place, [ANSWER])
            first.end(place, None)
    path = tmp_path / "out.csv.rows" / "run.jsonl"
    whole = path.read_bytes()
    rows = {at: at.read_bytes() for at in path.parent.glob("*.arrow")}
    found = []
    for size in range(len(whole), -1, -13):
        path.write_bytes(whole[:size])
        for at, content in rows.items():
            at.write_bytes(content)
        with spools(tmp_path, resume=True) as kept:
            found.append(sum(kept.ended(place) for place in (0, 1)))
            assert kept.kept == found[-1]
            put(kept, 1, [ANSWER])
            kept.end(1, None)
        assert json.loads(path.read_text("utf-8").splitlines()[-1])["ended"] == 1
    assert [ended for ended, _ in groupby(found)] == [2, 1, 0]


def test_rows_that_were_lost_of_a_file_that_ended_are_wanted_again(tmp_path: Path) -> None:
    with spools(tmp_path) as first:
        put(first, 0, *ROUNDS)
        first.end(0, None)
    path = tmp_path / "out.csv.rows" / "1.arrow"
    path.write_bytes(path.read_bytes()[:-8])
    with spools(tmp_path, resume=True) as kept:
        assert (kept.ended(0), kept.kept) == (False, 4)


def test_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.mgf"
    file.write_text("1")
    os.utime(file, (1, 1))
    spools(tmp_path).close()
    remedy = r"\(delete the folder, or leave --resume out\)$"
    with pytest.raises(InputError, match=rf"rows: was begun with top_match = 1, not 2 {remedy}"):
        spools(tmp_path, resume=True, top_match="2")
    with pytest.raises(InputError, match="was begun with mods = nothing, not on"):
        spools(tmp_path, resume=True, mods="on")
    for names in (["a.mgf"], ["b.mgf", "a.mgf"]):
        with pytest.raises(InputError, match=rf"rows: was begun with other files {remedy}"):
            spools(tmp_path, *names, resume=True)
    spools(tmp_path, resume=True).close()
    for text, time in (("1", 2), ("12", 1)):
        file.write_text(text)
        os.utime(file, (time, time))
        with pytest.raises(InputError, match=r"a\.mgf: has changed since .*rows was begun"):
            spools(tmp_path, resume=True)
    monkeypatch.setattr("tinynovo.spool.__version__", "99")
    with pytest.raises(InputError, match=r"was begun with tinynovo = .*, not 99"):
        spools(tmp_path, resume=True)


@pytest.mark.parametrize("text", ["no journal", "{}", "[]"])
def test_a_journal_that_is_none_is_a_complaint(tmp_path: Path, text: str) -> None:
    spools(tmp_path).close()
    (tmp_path / "out.csv.rows" / "run.jsonl").write_text(f"{text}\n")
    with pytest.raises(InputError, match=r"run\.jsonl: is damaged"):
        spools(tmp_path, resume=True)


def test_what_others_put_in_the_folder_stays(tmp_path: Path) -> None:
    folder = tmp_path / "out.csv.rows"
    folder.mkdir()
    notes = folder / "notes.arrow"
    notes.write_text("mine")
    with spools(tmp_path) as kept:
        put(kept, 0, [ANSWER])
    spools(tmp_path).remove()
    assert list(folder.iterdir()) == [notes]
    notes.unlink()
    folder.rmdir()
    folder.touch()
    with pytest.raises(InputError, match=r"rows: cannot be written: File exists"):
        spools(tmp_path)


def test_many_files_are_not_all_open(tmp_path: Path) -> None:
    names = [f"{number}.mgf" for number in range(300)]
    with spools(tmp_path, *names) as kept:
        for place in range(len(names)):
            put(kept, place, [ANSWER])
            kept.end(place, None)
        assert kept._open == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is full")
def test_a_full_disk_is_a_complaint(tmp_path: Path) -> None:
    with spools(tmp_path) as kept:
        (tmp_path / "out.csv.rows" / "1.arrow").symlink_to("/dev/full")
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            put(kept, 0, ROWS)
