"""Readers: files to spectra, files of predictions to PSMs.

Knows which file is read how, and how files go wrong. Does not know what becomes of a spectrum, nor
how good a prediction is.

A file of spectra is read as a stream; those before a damage are yielded, then `InputError` is
raised. What a spectrum says is passed on as it stands: odd peaks and charges are for
preprocessing.

Predictions: the PSM section of mzTab 1.0, where the peptidoform in ProForma is preferred over
``sequence``; Percolator's ``.pin``; CSV, TSV or Parquet with the columns ``spectrum_id`` and
``sequence`` and any other of `tinynovo.rows`. A plain number as spectrum id is an index.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from tinynovo.errors import InputError
from tinynovo.mzml import read_mzml, read_mzxml
from tinynovo.peaklists import number, read_mgf, read_parquet
from tinynovo.peptide import Peptide, UnknownResidueError
from tinynovo.pin import pin_rows
from tinynovo.psm import PSM
from tinynovo.spectrum import Spectrum

MZTAB_COLUMNS = {
    "sequence": "opt_global_cv_MS:1003169_proforma_peptidoform_sequence",
    "score": "search_engine_score[1]",
    "aa_scores": "opt_ms_run[1]_aa_scores",
    "aa_support": "opt_global_aa_support",
    "ambiguity": "opt_global_ambiguity",
    "alternatives": "opt_global_alternatives",
    "posterior_error": "opt_global_posterior_error",
    "q_value": "opt_global_cv_MS:1002354_PSM-level_q-value",
    "rank": "opt_global_rank",
    "precursor_mz": "exp_mass_to_charge",
    "precursor_charge": "charge",
    "calculated_mz": "calc_mass_to_charge",
    "error_ppm": "opt_global_error_ppm",
    "isotope_error": "opt_global_isotope_error",
    "retention_time": "retention_time",
    "ion_mobility": "opt_global_ion_mobility",
    "scan": "opt_global_scan",
    "title": "opt_global_title",
    "accessions": "opt_global_accessions",
    "reason_code": "opt_global_reason_code",
    "reason": "opt_global_reason",
}
"""What mzTab calls the columns of our tables."""

_DAMAGES = (EOFError, gzip.BadGzipFile, zlib.error, OSError, pa.ArrowException)
_Row = Mapping[str, Any]


def read_spectra(path: str | Path) -> Iterator[Spectrum]:
    """Spectra of a file, by its suffix.

    Known are ``.mgf``, ``.mzML``, ``.mzXML``, each also packed with ``.gz``, and ``.parquet``.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        At once when the file is missing, empty, a folder or of no known format; after the spectra
        read so far where it is damaged or cut off; at the end when it held no spectrum.
    """
    path = Path(path)
    return _guarded(path, READERS[_format(path)])


def _format(path: Path) -> str:
    """Name of the reader for a file that can be read."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix]
    packed = suffixes[-1:] == [".gz"]
    suffix = ("", *suffixes[: -1 if packed else None])[-1]
    if path.is_dir():
        remedy = "convert vendor folders to mzML" if suffix == ".d" else "name the files in it"
        raise InputError("is a folder", file=path, remedy=remedy)
    if not path.exists():
        raise InputError("does not exist", file=path)
    if suffix in (".fasta", ".fa", ".faa"):
        raise InputError("is a FASTA file: it holds proteins, not spectra", file=path)
    if suffix[1:] not in READERS or (packed and suffix == ".parquet"):
        known = ", ".join(f".{name}" for name in READERS)
        remedy = (
            "convert raw files to mzML" if suffix in (".raw", ".wiff") else f"known are {known}"
        )
        raise InputError(f"is of no known format: {path.name!r}", file=path, remedy=remedy)
    if not path.stat().st_size:
        raise InputError("is empty", file=path)
    return suffix[1:]


def _guarded(path: Path, reader: Callable[[Path], Iterator[Spectrum]]) -> Iterator[Spectrum]:
    """The spectra of a reader; damages of the file become complaints."""
    spectrum = None
    try:
        for spectrum in reader(path):
            yield spectrum
    except _DAMAGES as error:
        raise InputError(f"is damaged or cut off: {error}", file=path) from None
    if spectrum is None:
        raise InputError("holds no tandem mass spectrum", file=path)


class _Direct:
    """A binary file that gives out what it has before it fails."""

    def __init__(self, file: BufferedIOBase) -> None:
        self.read = file.read1


def _xml(read: Callable[[BinaryIO, str], Iterator[Spectrum]], path: Path) -> Iterator[Spectrum]:
    unpack = gzip.open if path.suffix.lower() == ".gz" else open
    with unpack(path, "rb") as file:
        yield from read(cast(BinaryIO, _Direct(cast(BufferedIOBase, file))), str(path))


READERS: dict[str, Callable[[Path], Iterator[Spectrum]]] = {
    "mgf": read_mgf,
    "mzml": lambda path: _xml(read_mzml, path),
    "mzxml": lambda path: _xml(read_mzxml, path),
    "parquet": read_parquet,
}
"""Reader of each format, by the suffix of its files."""


def read_predictions(path: str | Path) -> Iterator[PSM]:
    """PSMs of a file of predictions of this or another tool: mzTab, CSV, TSV, Parquet or pin.

    A row without a peptide, or with a reason for having none, is a PSM without one. One whose
    peptide holds a residue that the residue table lacks has a score, but no peptide. Where rows
    have no rank, those of a spectrum are ranked in the order of the file. The index is -1 where
    the file does not say it.

    Raises
    ------
    InputError
        When the file cannot be read or lacks a column, or for a row that is no PSM.
    """
    path = Path(path)
    seen: Counter[tuple[str, str]] = Counter()
    try:
        for count, row in enumerate(_rows(path), 1):
            spectrum = (row.get("file") or "", str(row["spectrum_id"]))
            seen[spectrum] += 1
            try:
                yield _psm(row, seen[spectrum])
            except (InputError, TypeError, ValueError) as error:
                problem = error.problem if isinstance(error, InputError) else str(error)
                remedy = error.remedy if isinstance(error, InputError) else None
                where = f"row {count} ({spectrum[1]})"
                raise InputError(problem, file=path, spectrum=where, remedy=remedy) from None
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"cannot be read as predictions: {error}", file=path) from None


def _rows(path: Path) -> Iterator[_Row]:
    """The rows of a file of predictions under the names of our columns."""
    if path.suffix.lower() == ".parquet":
        with pq.ParquetFile(path) as table:
            _check_columns(path, table.schema_arrow.names)
            for batch in table.iter_batches():
                yield from batch.to_pylist()
        return
    with path.open(encoding="utf-8-sig", newline="") as lines:
        first = lines.readline()
        lines.seek(0)
        if path.suffix.lower() == ".pin":
            yield from pin_rows(path, lines)
            return
        if path.suffix.lower() == ".mztab" or first[:4] in ("MTD\t", "COM\t"):
            yield from _mztab_rows(path, lines)
            return
        table = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        _check_columns(path, table.fieldnames or ())
        yield from table


def _check_columns(path: Path, names: Collection[str]) -> None:
    missing = [name for name in ("spectrum_id", "sequence") if name not in names]
    if missing:
        raise InputError(f"lacks the columns {', '.join(missing)}", file=path)


def _mztab_rows(path: Path, lines: TextIO) -> Iterator[_Row]:
    files: dict[str, str] = {}
    header: list[str] | None = None
    for count, line in enumerate(lines, 1):
        kind, *cells = line.rstrip("\r\n").split("\t")
        if kind == "MTD" and (run := re.fullmatch(r"(ms_run\[\d+\])-location", cells[0])):
            files[run[1]] = _local(cells[1])
        elif kind == "PSH":
            header = cells
        elif kind == "PSM":
            if header is None or len(cells) != len(header) or not line.endswith("\n"):
                raise InputError(f"line {count} is cut off or has no header", file=path)
            row = dict(zip(header, cells, strict=True))
            yield _mztab_row({k: v for k, v in row.items() if v != "null"}, files)
    if header is None:
        raise InputError("has no PSM section of mzTab", file=path)


def _local(uri: str) -> str:
    """Path of a file URI; others as they stand."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri


def _mztab_row(cells: Mapping[str, str], files: Mapping[str, str]) -> _Row:
    row = {name: cells.get(column) for name, column in MZTAB_COLUMNS.items()}
    run, _, name = cells.get("spectra_ref", "").split("|")[0].partition(":")
    row |= {"file": files.get(run, ""), "spectrum_id": name or "no spectra_ref"}
    row["aa_scores"] = row["aa_scores"] or cells.get("opt_global_aa_scores")
    row["accessions"] = row["accessions"] or cells.get("accession")
    if not row["sequence"] and cells.get("sequence"):
        row["sequence"] = _modified(cells["sequence"], cells.get("modifications", ""))
    return row


def _modified(sequence: str, modifications: str) -> str:
    """A sequence with the modifications of mzTab, ``0-UNIMOD:1,4-UNIMOD:35``, as ProForma."""
    if not sequence.isalpha() or not modifications:
        return sequence
    pieces = ["", *sequence]
    for text in modifications.split(","):
        match = re.fullmatch(r"(\d+)-(?:CHEMMOD:)?(UNIMOD:\d+|[+-][\d.]+)", text.strip())
        if match is None or int(match[1]) > len(sequence):
            return f"{sequence} with {modifications}"
        pieces[int(match[1])] += f"[{match[2]}]" + "-" * (match[1] == "0")
    return "".join(pieces)


def _psm(row: _Row, rank: int) -> PSM:
    """One row as PSM; ``rank`` is for a row without one."""
    name = str(row["spectrum_id"])
    name = f"index={name}" if name.isdigit() else name
    place = re.fullmatch(r"index=(\d+)", name)
    scan = re.search(r"(?:^|\s)scan=(\d+)$", name)
    index = int(place[1]) if place else _whole(row, "index")
    reason = row.get("reason") or ""
    text = "" if reason else row.get("sequence") or ""
    try:
        peptide = Peptide.parse(text) if text else None
    except UnknownResidueError as complaint:
        peptide, reason = None, complaint.problem
    isotopes = _whole(row, "isotope_error")
    return PSM(
        file=row.get("file") or "",
        index=-1 if index is None else index,
        identifier=name,
        peptide=peptide,
        score=number(row, "score") if text else None,
        residue_scores=_residue_scores(row.get("aa_scores"), peptide) if peptide else (),
        support=tuple(int(one) for one in _listed(row.get("aa_support"), ",")),
        ambiguous=row.get("ambiguity") or "",
        alternatives=row.get("alternatives") or "",
        accessions=tuple(_listed(row.get("accessions"), ";")),
        q_value=number(row, "q_value"),
        rank=_whole(row, "rank") or rank,
        precursor_mz=number(row, "precursor_mz"),
        precursor_charge=_whole(row, "precursor_charge"),
        calculated_mz=number(row, "calculated_mz"),
        error_ppm=number(row, "error_ppm"),
        isotope_error=isotopes or 0,
        title=row.get("title") or "",
        scan=int(scan[1]) if scan else _whole(row, "scan"),
        retention_time=number(row, "retention_time"),
        ion_mobility=number(row, "ion_mobility"),
        reason_code=row.get("reason_code") or "",
        reason=reason,
    )


def _whole(row: _Row, name: str) -> int | None:
    value = number(row, name)
    return None if value is None else int(value)


def _listed(cell: Any, comma: str) -> Sequence[Any]:
    """The items of a list that may be spelled as a text."""
    return cell.split(comma) if isinstance(cell, str) and cell else cell or ()


def _residue_scores(cell: Any, peptide: Peptide) -> tuple[float, ...]:
    """One score a residue; that of an N-terminal modification is left out."""
    scores = tuple(float(part) for part in _listed(cell, ","))
    if len(scores) == len(peptide.tokens):
        scores = scores[len(peptide.tokens) - len(peptide) :]
    if scores and len(scores) != len(peptide):
        raise ValueError(f"{len(scores)} residue scores for {len(peptide)} residues")
    return scores
