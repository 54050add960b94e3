"""Labelled spectra to MGF and Parquet.

Knows how spectra are written with the peptide they are of. Does not know where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tinynovo.errors import InputError
from tinynovo.rows import complaints
from tinynovo.spectrum import Spectrum

_COLUMNS = pa.schema(
    [
        ("spectrum_id", pa.string()),
        ("proforma", pa.string()),
        ("precursor_charge", pa.int32()),
        ("precursor_mz", pa.float64()),
        ("mz", pa.list_(pa.float64())),
        ("intensity", pa.list_(pa.float32())),
    ]
)


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
    with complaints(path), path.open("wb") as file:
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
    return pa.Table.from_pylist(rows, _COLUMNS)
