"""Rows: PSMs as rows of a table and back, and files of rows that grow.

Knows the columns that all tables of answers share. Does not know the formats, nor where scores come
from.

Every spectrum has a row: without a peptide it has a reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from tinynovo import __version__
from tinynovo.errors import InputError
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM

COLUMNS = pa.schema(
    [
        ("spectrum_id", pa.string()),
        ("sequence", pa.string()),
        ("score", pa.float64()),
        ("aa_scores", pa.list_(pa.float64())),
        ("aa_support", pa.list_(pa.int8())),
        ("ambiguity", pa.string()),
        ("alternatives", pa.string()),
        ("posterior_error", pa.float64()),
        ("q_value", pa.float64()),
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
        ("accessions", pa.list_(pa.string())),
        ("reason_code", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Columns of a table of answers; docs/output.md says what each means."""

_LISTS = {"aa_support": ",", "accessions": ";"}
_FIVE_DECIMALS = ("score", "posterior_error", "q_value", "error_ppm")


def schema(settings: Mapping[str, str]) -> pa.Schema:
    """The columns, with the resolved configuration and our version as metadata."""
    return COLUMNS.with_metadata({"tinynovo": __version__, **settings})


def to_row(psm: PSM) -> dict[str, Any]:
    """A PSM by the names of `COLUMNS`, None where there is nothing to say."""
    return {
        "spectrum_id": psm.identifier,
        "sequence": psm.peptide.proforma if psm.peptide else None,
        "score": psm.score,
        "aa_scores": list(psm.residue_scores) or None,
        "aa_support": list(psm.support) or None,
        "ambiguity": psm.ambiguous or None,
        "alternatives": psm.alternatives or None,
        "posterior_error": psm.posterior_error,
        "q_value": psm.q_value,
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
        "accessions": list(psm.accessions) or None,
        "reason_code": psm.reason_code or None,
        "reason": psm.reason or None,
    }


def from_row(row: Mapping[str, Any]) -> PSM:
    """The PSM that `to_row` made a row of; exactly that one."""
    return PSM(
        file=row["file"],
        index=row["index"],
        identifier=row["spectrum_id"],
        peptide=Peptide.parse(row["sequence"]) if row["sequence"] else None,
        score=row["score"],
        residue_scores=tuple(row["aa_scores"] or ()),
        support=tuple(row["aa_support"] or ()),
        ambiguous=row["ambiguity"] or "",
        alternatives=row["alternatives"] or "",
        accessions=tuple(row["accessions"] or ()),
        q_value=row["q_value"],
        rank=row["rank"],
        precursor_mz=row["precursor_mz"],
        precursor_charge=row["precursor_charge"],
        calculated_mz=row["calculated_mz"],
        error_ppm=row["error_ppm"],
        isotope_error=row["isotope_error"] or 0,
        title=row["title"] or "",
        scan=row["scan"],
        retention_time=row["retention_time"],
        ion_mobility=row["ion_mobility"],
        reason_code=row["reason_code"] or "",
        reason=row["reason"] or "",
    )


def to_texts(psm: PSM, absent: str) -> dict[str, str]:
    """A PSM as texts: numbers as short as they are exact, shares and errors to five decimals."""
    texts = {}
    for name, value in to_row(psm).items():
        if value is None:
            texts[name] = absent
        elif name == "aa_scores":
            texts[name] = ",".join(f"{score:.5f}" for score in value)
        elif name in _LISTS:
            texts[name] = _LISTS[name].join(map(str, value))
        elif name in _FIVE_DECIMALS:
            texts[name] = f"{value:.5f}"
        else:
            texts[name] = str(value)
    return texts


class Writer(ABC):
    """Puts rows on disk as they come; close it or use it in a ``with`` statement.

    Parameters
    ----------
    path : Path
        Overwritten where it exists.
    files : sequence of str
        All input files as `PSM.file` will name them.
    settings : mapping of str to str
        The resolved configuration, for the formats that can keep it.

    Raises
    ------
    InputError
        When the file cannot be written.
    """

    def __init__(self, path: Path, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._path = path
        with complaints(path):
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
        with complaints(self._path):
            self._rows(rows)
            self._file.flush()

    def close(self) -> None:
        """End the file.

        Raises
        ------
        InputError
            When the disk is full or gone.
        """
        with complaints(self._path), self._file:
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
def complaints(path: Path) -> Iterator[None]:
    """What the operating system refuses becomes a complaint about the file.

    Raises
    ------
    InputError
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=path) from None
