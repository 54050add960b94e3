"""Writers: PSMs to mzTab, CSV and Parquet as they come.

Knows which format is written how. Does not know where scores come from.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tinynovo.errors import InputError
from tinynovo.mztab import MzTabWriter
from tinynovo.psm import PSM
from tinynovo.rows import COLUMNS, Writer, schema, to_row, to_texts


class CsvWriter(Writer):
    """Comma-separated values with a header and nothing else."""

    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._line(COLUMNS.names)

    def _rows(self, psms: Sequence[PSM]) -> None:
        for psm in psms:
            self._line(list(to_texts(psm, "").values()))

    def _line(self, cells: Sequence[str]) -> None:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._file.write(text.getvalue().encode())


class ParquetWriter(Writer):
    """The columns of the CSV with their types; a row group a write, settings in the metadata."""

    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._table = pq.ParquetWriter(self._file, schema(settings), compression="zstd")

    def _rows(self, psms: Sequence[PSM]) -> None:
        if psms:
            self._table.write_table(pa.Table.from_pylist([to_row(p) for p in psms], COLUMNS))

    def _end(self) -> None:
        self._table.close()


WRITERS: dict[str, type[Writer]] = {
    "mztab": MzTabWriter,
    "csv": CsvWriter,
    "parquet": ParquetWriter,
}
"""Writer of each format."""


def open_writer(
    path: str | Path,
    format: str | None = None,
    *,
    files: Sequence[str],
    settings: Mapping[str, str],
) -> Writer:
    """Open an output and write its header.

    Parameters
    ----------
    path : str or Path
        Overwritten where it exists.
    format : str, optional
        Name of `WRITERS`; left out, the suffix says it.
    files : sequence of str
        All input files as `PSM.file` will name them.
    settings : mapping of str to str
        The resolved configuration; mzTab and Parquet keep it.

    Raises
    ------
    InputError
        For an unknown format and an output that cannot be written.
    """
    path = Path(path)
    return find_writer(path, format)(path, files, settings)


def find_writer(path: Path, format: str | None) -> type[Writer]:
    """The writer of a format, which the suffix says where it is left out.

    Raises
    ------
    InputError
        For an unknown format.
    """
    name = path.suffix[1:].lower() if format is None else format
    if name not in WRITERS:
        raise InputError(
            f"is of no known output format: {name!r}",
            file=path,
            remedy=f"known are {', '.join(WRITERS)}",
        )
    return WRITERS[name]
