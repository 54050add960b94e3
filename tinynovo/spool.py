"""Spools: rows put by on disk until all of them are known, and a killed run can be gone on with.

Knows how the rows of many files lie on disk, and which of them outlive a run. Does not know what
the rows wait for, nor who answers.

``OUTPUT.rows`` is a folder. ``1.arrow`` holds the rows of the first file as an Arrow IPC stream, a
batch for spectra that were sequenced together; what a killed run leaves is read as far as it was
written. ``run.jsonl`` says in its first line what was asked, and in the others which files ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tinynovo import __version__
from tinynovo.errors import InputError
from tinynovo.psm import PSM, is_decoy
from tinynovo.rows import COLUMNS, complaints, from_row, schema, to_row

JOURNAL = "run.jsonl"
_REMEDY = "delete the folder, or leave --resume out"


def spools_path(output: Path) -> Path:
    """Where the rows of an output wait: ``OUTPUT.rows``, beside it."""
    return output.with_name(f"{output.name}.rows")


def pack(psms: Iterable[PSM]) -> pa.RecordBatch:
    """PSMs as a batch of rows."""
    return pa.RecordBatch.from_pylist([to_row(psm) for psm in psms], COLUMNS)


def unpack(batch: pa.RecordBatch) -> list[PSM]:
    """The PSMs that were packed; exactly those."""
    return [from_row(row) for row in batch.to_pylist()]


def spectra_in(batch: pa.RecordBatch) -> int:
    """How many spectra the rows of a batch are of."""
    return int(_first(batch).sum())


def _first(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which rows are of rank 1."""
    return np.asarray(batch["rank"].to_numpy(zero_copy_only=False) == 1)


class Spools:
    """Rows of files, on disk and read back exactly; close them or use a ``with`` statement.

    Parameters
    ----------
    output : Path
        They lie beside it.
    files : sequence of Path
        The files of spectra. A place is a position in it, from 0.
    settings : mapping of str to str
        What the rows follow from.
    window : int
        Spectra that are sequenced together. A file that did not end is gone on with behind whole
        windows, so that rows do not depend on where a run was cut.
    resume : bool
        Whether to keep what an earlier run left, if there was one.

    Attributes
    ----------
    files
        As given.
    kept : int
        Spectra whose rows an earlier run left.

    Raises
    ------
    InputError
        When the folder cannot be written or read; with `resume`, also where the earlier run was of
        other files, settings or version, or the files have changed.
    """

    def __init__(
        self,
        output: Path,
        files: Sequence[Path],
        settings: Mapping[str, str],
        window: int,
        *,
        resume: bool = False,
    ) -> None:
        self.files = files
        self._folder = spools_path(output)
        self._schema = schema(settings)
        self._window = window
        self._open: dict[int, BinaryIO] = {}
        self._batches = [0] * len(files)
        self._spectra = [0] * len(files)
        self._ended: dict[int, InputError | None] = {}
        run = {
            "tinynovo": __version__,
            "settings": dict(settings),
            "files": {str(file): _stamp(file) for file in files},
        }
        with complaints(self._folder):
            if not (resume and self._goes_on(run)):
                self._begin(run)
        self.kept = sum(self._spectra)

    def ended(self, place: int) -> bool:
        """Whether all of a file is known."""
        return place in self._ended

    @property
    def complaints(self) -> list[InputError]:
        """What stopped the reading of files."""
        found = (self._ended.get(place) for place in range(len(self.files)))
        return [complaint for complaint in found if complaint]

    def put(self, place: int, batch: pa.RecordBatch) -> None:
        """Write rows of a file behind its others; they are on disk when this returns.

        Raises
        ------
        InputError
            When the disk is full or gone.
        """
        if not batch.num_rows:
            return
        with complaints(self._path(place)):
            if place not in self._open:
                self._open[place] = self._path(place).open("ab" if self._batches[place] else "wb")
            file = self._open[place]
            try:
                if not self._batches[place]:
                    file.write(self._schema.serialize())
                file.write(batch.serialize())
                file.flush()
            except OSError:
                with suppress(OSError):
                    self._open.pop(place).close()
                raise
        self._batches[place] += 1
        self._spectra[place] += spectra_in(batch)

    def end(self, place: int, complaint: InputError | None) -> None:
        """Note that all of a file is known, and what stopped its reading; errors as `put`."""
        if self.ended(place):
            return
        self._ended[place] = complaint
        with complaints(self._folder):
            if place in self._open:
                self._open.pop(place).close()
            told = complaint and vars(complaint)
            self._note({"ended": place, "spectra": self._spectra[place], "complaint": told})

    def batches(self, place: int) -> Iterator[pa.RecordBatch]:
        """The rows of a file that were written, a batch in memory at a time.

        Raises
        ------
        InputError
            When what was written cannot be read.
        """
        found = _read(self._path(place)) if self._batches[place] else iter(())
        for _ in range(self._batches[place]):
            try:
                yield next(found)[0]
            except StopIteration:
                raise InputError("is damaged or cut off", file=self._path(place)) from None

    def psms(self, place: int) -> Iterator[PSM]:
        """The PSMs of a file; errors as `batches`."""
        for batch in self.batches(place):
            yield from unpack(batch)

    def best(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Scores of the peptides of rank 1, and which are decoys, in the order of their rows.

        Raises
        ------
        InputError
            When what was written cannot be read.
        """
        parts = [np.zeros(0)]
        decoys: list[bool] = []
        for batch in (one for place in range(len(self.files)) for one in self.batches(place)):
            there = np.asarray(batch["sequence"].is_valid())
            best = pa.array(_first(batch) & there)
            parts.append(batch["score"].filter(best).to_numpy(zero_copy_only=False))
            decoys += map(is_decoy, batch["accessions"].filter(best).to_pylist())
        return np.concatenate(parts), np.array(decoys, dtype=bool)

    def close(self) -> None:
        """Let go of the files; what was put can still be read."""
        for place in list(self._open):
            with complaints(self._path(place)):
                self._open.pop(place).close()

    def remove(self) -> None:
        """Delete the rows, and the folder unless others have put something there."""
        self.close()
        for path in self._folder.iterdir():
            if path.name == JOURNAL or (path.suffix == ".arrow" and path.stem.isdigit()):
                path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _path(self, place: int) -> Path:
        return self._folder / f"{place + 1}.arrow"

    def _begin(self, run: Mapping[str, Any]) -> None:
        if self._folder.is_dir():
            self.remove()
        self._folder.mkdir(exist_ok=True)
        self._note(run)

    def _note(self, line: Mapping[str, Any]) -> None:
        with (self._folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")

    def _goes_on(self, run: Mapping[str, Any]) -> bool:
        """Take up what an earlier run left, if there was one."""
        path = self._folder / JOURNAL
        if not path.exists():
            return False
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            if lines:
                self._refuse_another(lines[0], run)
                os.truncate(path, len(whole))
                self._take_up(lines[1:])
        except (ValueError, KeyError, TypeError):
            raise InputError("is damaged", file=path, remedy=_REMEDY) from None
        return bool(lines)

    def _refuse_another(self, begun: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        """Compare what an earlier run was asked with what is asked now."""
        old = {"tinynovo": begun["tinynovo"], **begun["settings"]}
        new = {"tinynovo": run["tinynovo"], **run["settings"]}
        for name in {**old, **new}:
            was, now = old.get(name, "nothing"), new.get(name, "nothing")
            if was != now:
                problem = f"was begun with {name} = {was}, not {now}"
                raise InputError(problem, file=self._folder, remedy=_REMEDY)
        if list(begun["files"]) != list(run["files"]):
            raise InputError("was begun with other files", file=self._folder, remedy=_REMEDY)
        for file, stamp in run["files"].items():
            if begun["files"][file] != stamp:
                problem = f"has changed since {self._folder} was begun"
                raise InputError(problem, file=file, remedy=_REMEDY)

    def _take_up(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Find what an earlier run left, and drop what is no whole window."""
        ends = {line["ended"]: line for line in lines}
        for place in range(len(self.files)):
            path, end = self._path(place), ends.get(place)
            left = [(spectra_in(b), at) for b, at in _read(path)] if path.exists() else []
            if end and end["spectra"] == sum(spectra for spectra, _ in left):
                told = end["complaint"]
                self._ended[place] = told and InputError(**told)
            else:
                whole = next((i for i, one in enumerate(left) if one[0] != self._window), len(left))
                left = left[:whole]
                if left:
                    os.truncate(path, left[-1][1])
            self._batches[place] = len(left)
            self._spectra[place] = sum(spectra for spectra, _ in left)


def _stamp(file: Path) -> list[int] | None:
    """What tells that a file has changed: its size in bytes and its time in ns."""
    try:
        known = file.stat()
    except OSError:
        return None
    return [known.st_size, known.st_mtime_ns]


def _read(path: Path) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The batches of a stream that are whole, and where in the file each ends."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            while True:
                batch = stream.read_next_batch()
                yield batch, file.tell()
    except (OSError, StopIteration, pa.ArrowException):
        return
