"""MGF and Parquet to spectra.

Knows the two formats, read as streams. Does not know other formats, nor what becomes of a
spectrum.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tinynovo.errors import InputError
from tinynovo.spectrum import Spectrum

_REQUIRED = ("mz", "intensity", "precursor_mz", "precursor_charge")
_OPTIONAL = ("spectrum_id", "title", "proforma", "scan", "retention_time", "ion_mobility")
_PAIRS = re.compile(r"(?:\S+[ \t]+\S+(?:\n|\Z))+")
_CHARGE = re.compile(r"([+-]?)(\d+)([+-]?)")


def read_mgf(path: Path) -> Iterator[Spectrum]:
    """Spectra of a Mascot Generic Format file; a label stands in ``SEQ=``.

    A ``CHARGE`` above the spectra holds for those without their own; several charges are none.
    """
    defaults: dict[str, str] = {}
    params: dict[str, str] | None = None
    peaks: dict[int, str] = {}
    index = 0
    unpack = gzip.open if path.suffix.lower() == ".gz" else open
    with unpack(path, "rt", encoding="utf-8-sig", errors="replace") as lines:
        for count, line in enumerate(map(str.strip, lines), 1):
            try:
                if params is not None and line[:1].isdigit():
                    peaks[count] = line
                elif not line or line[0] in "#;!/":
                    continue
                elif line.upper() == "BEGIN IONS":
                    if params is not None:
                        raise ValueError("END IONS is missing before BEGIN IONS")
                    params, peaks = dict(defaults), {}
                elif line.upper() == "END IONS" and params is not None:
                    pairs = _mgf_pairs(peaks.values())
                    if pairs is None:
                        count, line = next(filter(_no_pair, peaks.items()))
                        raise ValueError(f"{line[:60]!r} is no peak")
                    spectrum = _mgf_spectrum(params, pairs, index, str(path))
                    params, index = None, index + 1
                    yield spectrum
                elif "=" in line and not line[0].isdigit():
                    key, _, value = line.partition("=")
                    (defaults if params is None else params)[key.strip().upper()] = value.strip()
                elif params is not None:
                    peaks[count] = line
                else:
                    raise ValueError(_outside(line, index))
            except ValueError as error:
                where = None if params is None else f"index={index}"
                raise InputError(f"line {count}: {error}", file=path, spectrum=where) from None
    if params is not None:
        raise InputError("is cut off: END IONS is missing", file=path, spectrum=f"index={index}")


def _mgf_pairs(lines: Collection[str]) -> NDArray[np.float64] | None:
    """m/z and intensity of lines, float64 [lines, 2]; None where one has not both."""
    text = "\n".join(lines)
    if _PAIRS.fullmatch(text):
        with suppress(ValueError):
            pairs = np.fromstring(text, sep=" ")
            if pairs.size == 2 * len(lines):
                return pairs.reshape(-1, 2)
    try:
        pairs = np.array([tuple(map(float, line.split()[:2])) for line in lines], np.float64)
        return pairs.reshape(len(lines), 2)
    except ValueError:
        return None


def _no_pair(numbered: tuple[int, str]) -> bool:
    """Whether a numbered line is no peak."""
    return _mgf_pairs(numbered[1:]) is None


def _outside(line: str, index: int) -> str:
    """What is wrong with a line that no spectrum holds, after so many spectra."""
    if line.startswith(">") and not index:
        return "this is a FASTA file: it holds proteins, not spectra"
    return f"{line[:60]!r} stands outside of BEGIN IONS and END IONS"


def _mgf_spectrum(
    params: Mapping[str, str], peaks: NDArray[np.float64], index: int, file: str
) -> Spectrum:
    pepmass = params.get("PEPMASS", "").split()
    charge = params.get("CHARGE") or "".join(pepmass[2:3])
    title = params.get("TITLE", "")
    scan = re.match(r"\d+", params.get("SCANS", "")) or re.search(r"(?<=\bscan=)\d+", title)
    time = re.match(r"[\d.]+(?:[eE][+-]?\d+)?", params.get("RTINSECONDS", ""))
    mobility = params.get("ION_MOBILITY", params.get("MOBILITY", "")).split()
    return Spectrum(
        mz=peaks[:, 0],
        intensity=peaks[:, 1],
        precursor_mz=float(pepmass[0]) if pepmass else None,
        precursor_charge=_mgf_charge(charge),
        identifier=f"index={index}",
        index=index,
        file=file,
        title=title,
        scan=int(scan[0]) if scan else None,
        retention_time=float(time[0]) if time else None,
        ion_mobility=float(mobility[-1]) if mobility else None,
        peptide=params.get("SEQ", ""),
    )


def _mgf_charge(text: str) -> int | None:
    """The one charge that a line states; 0 and several state none."""
    charges = [_CHARGE.fullmatch(part) for part in re.split(r"[\s,]+|and|or", text) if part]
    if not all(charges):
        raise ValueError(f"{text!r} is no charge")
    if len(charges) != 1 or charges[0] is None:
        return None
    before, value, after = charges[0].groups()
    return (-int(value) if "-" in before + after else int(value)) or None


def read_parquet(path: Path) -> Iterator[Spectrum]:
    """Spectra of a Parquet table, one a row.

    Columns: lists ``mz`` and ``intensity``, ``precursor_mz`` and ``precursor_charge``; if wanted
    ``proforma`` (the label), ``title`` or ``spectrum_id``, ``scan``, ``retention_time`` in s and
    ``ion_mobility``.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        missing = [name for name in _REQUIRED if name not in schema.names]
        missing += [n for n in _REQUIRED[:2] if n not in missing and not _numbers(schema.field(n))]
        if missing:
            raise InputError(
                f"lacks the columns {', '.join(missing)} or they hold no numbers",
                file=path,
                remedy="wanted are lists mz and intensity, precursor_mz and precursor_charge",
            )
        names = [name for name in (*_REQUIRED, *_OPTIONAL) if name in schema.names]
        index = 0
        for batch in file.iter_batches(batch_size=256, columns=names):
            scalars = batch.select([n for n in names if n not in _REQUIRED[:2]]).to_pylist()
            for row, values in enumerate(scalars):
                peaks = [_peaks(batch.column(name)[row]) for name in _REQUIRED[:2]]
                try:
                    yield _parquet_spectrum(peaks, values, index, str(path))
                except (TypeError, ValueError) as error:
                    where = f"index={index}"
                    raise InputError(
                        f"cannot be read: {error}", file=path, spectrum=where
                    ) from None
                index += 1


def _numbers(field: pa.Field) -> bool:
    """Whether a column holds lists of numbers."""
    kind = getattr(field.type, "value_type", None)
    return kind is not None and (pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _peaks(scalar: Any) -> NDArray[np.float64]:
    values = scalar.values
    return np.zeros(0) if values is None else np.asarray(values.to_numpy(False), np.float64)


def _parquet_spectrum(
    peaks: list[NDArray[np.float64]], values: Mapping[str, Any], index: int, file: str
) -> Spectrum:
    mz, intensity = peaks
    if mz.size != intensity.size:
        raise ValueError("m/z and intensity arrays differ in length")
    title = values.get("title") or values.get("spectrum_id")
    charge = number(values, "precursor_charge")
    scan = number(values, "scan")
    return Spectrum(
        mz=mz,
        intensity=intensity,
        precursor_mz=number(values, "precursor_mz"),
        precursor_charge=int(charge) if charge else None,
        identifier=f"index={index}",
        index=index,
        file=file,
        title="" if title is None else str(title),
        scan=None if scan is None else int(scan),
        retention_time=number(values, "retention_time"),
        ion_mobility=number(values, "ion_mobility"),
        peptide=values.get("proforma") or "",
    )


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A number of a row of a table, None where the cell is empty."""
    value = values.get(name)
    number = None if value is None or value == "" else float(value)
    return None if number is not None and math.isnan(number) else number
