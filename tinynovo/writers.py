"""Writers: PSMs to mzTab, CSV and Parquet as they come; labelled spectra to MGF and Parquet.

Knows the formats. Does not know where scores come from.

Every spectrum has a row: without a peptide it has a reason. mzTab is version 1.0.0, in the columns
of its specification and ``opt_global_`` ones of our own; CSV and Parquet share `COLUMNS`.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tinynovo import __version__
from tinynovo.errors import InputError
from tinynovo.masses import residue_table
from tinynovo.peptide import PSM, Peptide
from tinynovo.readers import MZTAB_COLUMNS
from tinynovo.spectrum import Spectrum

COLUMNS = pa.schema(
    [
        ("spectrum_id", pa.string()),
        ("sequence", pa.string()),
        ("score", pa.float64()),
        ("aa_scores", pa.list_(pa.float64())),
        ("rank", pa.int64()),
        ("precursor_mz", pa.float64()),
        ("precursor_charge", pa.int64()),
        ("calculated_mz", pa.float64()),
        ("error_ppm", pa.float64()),
        ("isotope_error", pa.int64()),
        ("retention_time", pa.float64()),
        ("ion_mobility", pa.float64()),
        ("scan", pa.int64()),
        ("title", pa.string()),
        ("file", pa.string()),
        ("index", pa.int64()),
        ("reason", pa.string()),
    ]
)
"""Columns of CSV and Parquet: ProForma sequence, one ``aa_scores`` a residue, N to C, time in s."""

_LABELLED = pa.schema(
    [
        ("spectrum_id", pa.string()),
        ("proforma", pa.string()),
        ("precursor_charge", pa.int32()),
        ("precursor_mz", pa.float64()),
        ("mz", pa.list_(pa.float64())),
        ("intensity", pa.list_(pa.float32())),
    ]
)

_SOFTWARE = f"[MS, MS:1001456, analysis software, tinynovo {__version__}]"
_RUN_FORMATS = {
    ".mgf": "[MS, MS:1001062, Mascot MGF format, ]",
    ".mzml": "[MS, MS:1000584, mzML format, ]",
    ".mzxml": "[MS, MS:1000566, ISB mzXML format, ]",
    ".parquet": "[, , Apache Parquet, ]",
}
_BY_INDEX = "[MS, MS:1000774, multiple peak list nativeID format, ]"
_BY_SCAN = "[MS, MS:1000776, scan number only nativeID format, ]"
_MZTAB_HEADER = (
    *("sequence", "PSM_ID", "accession", "unique", "database", "database_version"),
    *("search_engine", "search_engine_score[1]", "modifications", "retention_time", "charge"),
    *("exp_mass_to_charge", "calc_mass_to_charge", "spectra_ref", "pre", "post", "start", "end"),
)
_MZTAB_OWN = tuple(column for column in MZTAB_COLUMNS.values() if column.startswith("opt_"))


class Writer(ABC):
    """Puts rows on disk as they come; close it or use it in a ``with`` statement."""

    def __init__(self, path: Path, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._path = path
        with _complaints(path):
            self._file = path.open("wb")
            try:
                self._start(files, settings)
                self._file.flush()
            except OSError:
                with suppress(InputError):
                    self.close()
                raise

    def write(self, psms: Iterable[PSM]) -> None:
        """Write rows; they are on disk when this returns.

        Raises
        ------
        InputError
            When the disk is full or gone.
        """
        rows = list(psms)
        with _complaints(self._path):
            self._rows(rows)
            self._file.flush()

    def close(self) -> None:
        """End the file.

        Raises
        ------
        InputError
            When the disk is full or gone.
        """
        with _complaints(self._path), self._file:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        """Write what stands above the rows."""

    @abstractmethod
    def _rows(self, psms: Sequence[PSM]) -> None:
        """Write rows."""

    def _end(self) -> None:
        """Write what stands below the rows; by default nothing."""
        self._file.flush()


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """What the operating system refuses becomes a complaint about the file."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=path) from None


def _values(psm: PSM) -> dict[str, Any]:
    """A row by the names of `COLUMNS`, None where there is nothing to say."""
    return {
        "spectrum_id": psm.identifier,
        "sequence": psm.peptide.proforma if psm.peptide else None,
        "score": psm.score,
        "aa_scores": list(psm.residue_scores) or None,
        "rank": psm.rank,
        "precursor_mz": psm.precursor_mz,
        "precursor_charge": psm.precursor_charge,
        "calculated_mz": psm.calculated_mz,
        "error_ppm": psm.error_ppm,
        "isotope_error": psm.isotope_error if psm.peptide else None,
        "retention_time": psm.retention_time,
        "ion_mobility": psm.ion_mobility,
        "scan": psm.scan,
        "title": psm.title or None,
        "file": psm.file,
        "index": psm.index,
        "reason": psm.reason or None,
    }


def _texts(psm: PSM, absent: str) -> dict[str, str]:
    """A row as text: numbers as short as they are exact, scores to five decimals."""
    texts = {}
    for name, value in _values(psm).items():
        if value is None:
            texts[name] = absent
        elif name == "aa_scores":
            texts[name] = ",".join(f"{score:.5f}" for score in value)
        elif name in ("score", "error_ppm"):
            texts[name] = f"{value:.5f}"
        else:
            texts[name] = str(value)
    return texts


class CsvWriter(Writer):
    """Comma-separated values with a header and nothing else."""

    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._line(COLUMNS.names)

    def _rows(self, psms: Sequence[PSM]) -> None:
        for psm in psms:
            self._line(list(_texts(psm, "").values()))

    def _line(self, cells: Sequence[str]) -> None:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._file.write(text.getvalue().encode())


class ParquetWriter(Writer):
    """The columns of the CSV with their types; a row group a write, settings in the metadata."""

    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        schema = COLUMNS.with_metadata({"tinynovo": __version__, **settings})
        self._table = pq.ParquetWriter(self._file, schema, compression="zstd")

    def _rows(self, psms: Sequence[PSM]) -> None:
        if psms:
            self._table.write_table(pa.Table.from_pylist([_values(p) for p in psms], COLUMNS))

    def _end(self) -> None:
        self._table.close()


class MzTabWriter(Writer):
    """mzTab 1.0.0, summary of an identification."""

    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._runs = {file: f"ms_run[{number}]" for number, file in enumerate(files, 1)}
        self._count = 0
        for name, value in self._metadata(settings):
            self._line("MTD", name, value)
        self._file.write(b"\n")
        self._line("PSH", *_MZTAB_HEADER, *_MZTAB_OWN)

    def _metadata(self, settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        yield "mzTab-version", "1.0.0"
        yield "mzTab-mode", "Summary"
        yield "mzTab-type", "Identification"
        yield "description", "De novo peptide sequencing; one row for every spectrum"
        yield "software[1]", _SOFTWARE
        for number, (name, value) in enumerate(settings.items(), 1):
            yield f"software[1]-setting[{number}]", f"{name} = {value}"
        yield (
            "psm_search_engine_score[1]",
            "[MS, MS:1001143, search engine specific score for PSMs, ]",
        )
        yield "fixed_mod[1]", "[MS, MS:1002453, No fixed modifications searched, ]"
        modified = (row for row in residue_table().values() if row.modification)
        for number, row in enumerate(modified, 1):
            name = f"variable_mod[{number}]"
            yield name, f"[UNIMOD, UNIMOD:{row.unimod}, {row.modification}, ]"
            yield f"{name}-site", row.residue or "N-term"
            yield f"{name}-position", "Any N-term" if row.n_terminal else "Anywhere"
        for file, run in self._runs.items():
            path = Path(file[:-3] if file.lower().endswith(".gz") else file)
            kind = path.suffix.lower()
            if kind in _RUN_FORMATS:
                yield f"{run}-format", _RUN_FORMATS[kind]
            yield f"{run}-location", Path(file).absolute().as_uri()
            yield f"{run}-id_format", _BY_SCAN if kind in (".mzml", ".mzxml") else _BY_INDEX

    def _rows(self, psms: Sequence[PSM]) -> None:
        for psm in psms:
            self._count += 1
            texts = _texts(psm, "null")
            cells = {column: texts[name] for name, column in MZTAB_COLUMNS.items()} | {
                "sequence": psm.peptide.sequence if psm.peptide else "null",
                "PSM_ID": str(self._count),
                "search_engine": _SOFTWARE,
                "modifications": _modifications(psm.peptide),
                "spectra_ref": f"{self._runs[psm.file]}:{_reference(psm)}",
            }
            self._line("PSM", *(cells.get(c, "null") for c in (*_MZTAB_HEADER, *_MZTAB_OWN)))

    def _line(self, *cells: str) -> None:
        self._file.write(("\t".join(" ".join(c.split()) for c in cells) + "\n").encode())


def _reference(psm: PSM) -> str:
    """What mzTab calls a spectrum within its run."""
    if psm.scan is None or psm.identifier.startswith("index="):
        return psm.identifier
    return f"scan={psm.scan}"


def _modifications(peptide: Peptide | None) -> str:
    """Positions and accessions, ``0-UNIMOD:1,4-UNIMOD:35``; 0 is the N-terminus."""
    if peptide is None:
        return "null"
    table = residue_table()
    first = len(peptide) + 1 - len(peptide.tokens)
    rows = [(place, table[token]) for place, token in enumerate(peptide.tokens, first)]
    return ",".join(f"{p}-UNIMOD:{row.unimod}" for p, row in rows if row.modification) or "null"


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
    name = path.suffix[1:].lower() if format is None else format
    if name not in WRITERS:
        raise InputError(
            f"is of no known output format: {name!r}",
            file=path,
            remedy=f"known are {', '.join(WRITERS)}",
        )
    return WRITERS[name](path, files, settings)


def write_labelled(path: str | Path, spectra: Iterable[Spectrum]) -> None:
    """Write spectra with their labels as ``.mgf`` or ``.parquet``.

    Raises
    ------
    InputError
        For another suffix and an output that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".mgf", ".parquet"):
        raise InputError("cannot hold labelled spectra", file=path, remedy="name .mgf or .parquet")
    with _complaints(path), path.open("wb") as file:
        if suffix == ".mgf":
            file.writelines(_mgf_block(spectrum).encode() for spectrum in spectra)
        else:
            pq.write_table(_labelled_table(spectra), file, compression="zstd")


def _mgf_block(spectrum: Spectrum) -> str:
    lines = ["BEGIN IONS", f"TITLE={' '.join(spectrum.title.split())}", f"SEQ={spectrum.peptide}"]
    if spectrum.precursor_mz is not None:
        lines.append(f"PEPMASS={spectrum.precursor_mz:.6f}")
    if spectrum.precursor_charge is not None:
        lines.append(f"CHARGE={spectrum.precursor_charge}+")
    if spectrum.retention_time is not None:
        lines.append(f"RTINSECONDS={spectrum.retention_time:g}")
    peaks = zip(spectrum.mz.tolist(), spectrum.intensity.tolist(), strict=True)
    lines += [f"{mz:.6f} {intensity:.6g}" for mz, intensity in peaks]
    return "\n".join([*lines, "END IONS", "", ""])


def _labelled_table(spectra: Iterable[Spectrum]) -> pa.Table:
    rows = [
        {
            "spectrum_id": spectrum.title or spectrum.identifier,
            "proforma": spectrum.peptide,
            "precursor_charge": spectrum.precursor_charge,
            "precursor_mz": spectrum.precursor_mz,
            "mz": spectrum.mz,
            "intensity": spectrum.intensity,
        }
        for spectrum in spectra
    ]
    return pa.Table.from_pylist(rows, _LABELLED)
