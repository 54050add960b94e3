"""mzML and mzXML to spectra.

Knows the two XML formats, read one element at a time with lxml. Does not know other formats, nor
what becomes of a spectrum.

Controlled vocabulary terms are known by their accessions in PSI-MS and the unit ontology, so no
ontology has to be at hand. Only spectra of MS level 2 and above are yielded, and counted.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from tinynovo.errors import InputError
from tinynovo.spectrum import Spectrum

_MS_LEVEL = "MS:1000511"
_TITLE = "MS:1000796"
_SCAN_START = "MS:1000016"
_MOBILITY = ("MS:1002815", "MS:1002476")  # inverse reduced, drift time
_SELECTED_MZ = "MS:1000744"
_CHARGE = "MS:1000041"
_POSSIBLE_CHARGE = "MS:1000633"
_ISOLATION_TARGET = "MS:1000827"
_ARRAYS = {"MS:1000514": "mz", "MS:1000515": "intensity"}
_TYPES = {"MS:1000519": "<i4", "MS:1000521": "<f4", "MS:1000522": "<i8", "MS:1000523": "<f8"}
_PLAIN, _ZLIB = "MS:1000576", "MS:1000574"
_SECONDS = {"UO:0000010": 1.0, "UO:0000028": 1e-3, "UO:0000031": 60.0}
_SCAN = re.compile(r"(?:controllerType=0 controllerNumber=1 )?scan=(\d+)")
_DURATION = re.compile(r"P?T?(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S?)?")

_Params = dict[str, tuple[str, str]]
"""Accession -> value and accession of its unit."""

_NUMBER_ERRORS = (ValueError, OverflowError)


def read_mzml(stream: BinaryIO, file: str) -> Iterator[Spectrum]:
    """Spectra of an mzML stream.

    The identifier is the native id. The scan number is given where the native id is nothing but
    one; other instruments count scans per function or frame.

    Parameters
    ----------
    stream : binary file
    file : str
        Name for `Spectrum.file` and complaints.

    Raises
    ------
    InputError
        Where a spectrum cannot be decoded, or the XML is damaged, after the spectra before.
    """
    groups: dict[str, _Params] = {}
    index = 0
    for element in _elements(stream, file, "spectrum", "referenceableParamGroup"):
        if etree.QName(element).localname == "referenceableParamGroup":
            groups[element.get("id", "")] = _params(element, groups)
            continue
        params = _params(element, groups)
        precursor = element.find("{*}precursorList/{*}precursor")
        level = params.get(_MS_LEVEL, ("1" if precursor is None else "2", ""))[0]
        if level not in ("", "0", "1"):
            native = element.get("id") or f"index={index}"
            try:
                yield _mzml_spectrum(element, params, precursor, groups, native, index, file)
            except _NUMBER_ERRORS as error:
                raise InputError(f"cannot be read: {error}", file=file, spectrum=native) from None
            index += 1


def read_mzxml(stream: BinaryIO, file: str) -> Iterator[Spectrum]:
    """Spectra of an mzXML stream; parameters and errors as `read_mzml`."""
    index = 0
    for element in _elements(stream, file, "scan"):
        if element.get("msLevel", "1") not in ("0", "1"):
            try:
                yield _mzxml_spectrum(element, index, file)
            except _NUMBER_ERRORS as error:
                native = f"scan={element.get('num')}"
                raise InputError(f"cannot be read: {error}", file=file, spectrum=native) from None
            index += 1


def _elements(stream: BinaryIO, file: str, *names: str) -> Iterator[etree._Element]:
    """Elements of these names as their ends are met; those before are forgotten.

    So are those of the index at the end, which has one for every spectrum.
    """
    tags = [f"{{*}}{name}" for name in (*names, "offset")]
    parser = etree.iterparse(
        stream, events=("end",), tag=tags, huge_tree=True, resolve_entities=False
    )
    try:
        for _, element in parser:
            if etree.QName(element).localname != "offset":
                yield element
            element.clear()
            before, parent = element.getprevious(), element.getparent()
            if before is not None and parent is not None and before.tag == element.tag:
                parent.remove(before)
    except etree.XMLSyntaxError as error:
        raise InputError(f"is damaged or cut off: {error.msg}", file=file) from None


def _params(element: etree._Element, groups: dict[str, _Params]) -> _Params:
    """Controlled vocabulary terms right under an element and in the groups it refers to."""
    params: _Params = {}
    for reference in element.iterfind("{*}referenceableParamGroupRef"):
        params |= groups.get(reference.get("ref", ""), {})
    for term in element.iterfind("{*}cvParam"):
        params[term.get("accession", "")] = (
            term.get("value", ""),
            term.get("unitAccession", ""),
        )
    return params


def _mzml_spectrum(
    element: etree._Element,
    params: _Params,
    precursor: etree._Element | None,
    groups: dict[str, _Params],
    native: str,
    index: int,
    file: str,
) -> Spectrum:
    scan = element.find("{*}scanList/{*}scan")
    time = {} if scan is None else _params(scan, groups)
    ion: _Params = {}
    target: _Params = {}
    charges: list[str] = []
    if precursor is not None:
        selected = precursor.find("{*}selectedIonList/{*}selectedIon")
        window = precursor.find("{*}isolationWindow")
        target = {} if window is None else _params(window, groups)
        if selected is not None:
            ion = _params(selected, groups)
            terms = selected.iterfind("{*}cvParam")
            charges = [t.get("value", "") for t in terms if t.get("accession") == _POSSIBLE_CHARGE]
    if _CHARGE in ion:
        charges = [ion[_CHARGE][0]]
    arrays = _arrays(element, groups)
    start, unit = time.get(_SCAN_START, ("", ""))
    number = _SCAN.fullmatch(native)
    mobility = (_float(terms, name) for terms in (time, params, ion) for name in _MOBILITY)
    return Spectrum(
        mz=arrays["mz"],
        intensity=arrays["intensity"],
        precursor_mz=_float(ion, _SELECTED_MZ) or _float(target, _ISOLATION_TARGET),
        precursor_charge=(int(charges[0]) or None) if len(charges) == 1 else None,
        identifier=native,
        index=index,
        file=file,
        title=params.get(_TITLE, ("", ""))[0],
        scan=int(number[1]) if number else None,
        retention_time=float(start) * _SECONDS.get(unit, 60.0) if start else None,
        ion_mobility=next((value for value in mobility if value is not None), None),
    )


def _float(params: _Params, accession: str) -> float | None:
    value = params.get(accession, ("", ""))[0]
    return float(value) if value else None


def _arrays(element: etree._Element, groups: dict[str, _Params]) -> dict[str, NDArray[np.float64]]:
    """The m/z and intensity arrays, as long as each other."""
    arrays = {"mz": np.zeros(0), "intensity": np.zeros(0)}
    for part in element.iterfind("{*}binaryDataArrayList/{*}binaryDataArray"):
        params = _params(part, groups)
        name = next((_ARRAYS[term] for term in params if term in _ARRAYS), None)
        if name is None:
            continue
        kind = next((_TYPES[term] for term in params if term in _TYPES), None)
        if kind is None or not params.keys() & {_PLAIN, _ZLIB}:
            raise ValueError(f"the {name} array is packed in an unknown way; convert with zlib")
        arrays[name] = _decode(part.findtext("{*}binary"), kind, _ZLIB in params)
    if arrays["mz"].size != arrays["intensity"].size:
        raise ValueError("m/z and intensity arrays differ in length")
    return arrays


def _decode(text: str | None, kind: str, compressed: bool) -> NDArray[np.float64]:
    """Numbers of a base64 text."""
    try:
        data = base64.b64decode(text or "")
        data = zlib.decompress(data) if compressed and data else data
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"damaged peaks: {error}") from None
    return np.frombuffer(data, dtype=kind).astype(np.float64)


def _mzxml_spectrum(element: etree._Element, index: int, file: str) -> Spectrum:
    peaks, precursor = element.find("{*}peaks"), element.find("{*}precursorMz")
    values = np.zeros(0)
    if peaks is not None:
        kind = ">f8" if peaks.get("precision") == "64" else ">f4"
        values = _decode(peaks.text, kind, peaks.get("compressionType") == "zlib")
    if values.size % 2:
        raise ValueError("m/z and intensity arrays differ in length")
    number = element.get("num", "")
    duration = _DURATION.fullmatch(element.get("retentionTime", ""))
    hours, minutes, seconds = duration.groups() if duration else (None, None, None)
    known = hours or minutes or seconds
    charge = None if precursor is None else precursor.get("precursorCharge")
    time = 3600 * float(hours or 0) + 60 * float(minutes or 0) + float(seconds or 0)
    return Spectrum(
        mz=values[::2],
        intensity=values[1::2],
        precursor_mz=None if precursor is None else float(precursor.text or "nan"),
        precursor_charge=int(charge or 0) or None,
        identifier=f"scan={number}" if number else f"index={index}",
        index=index,
        file=file,
        scan=int(number) if number else None,
        retention_time=time if known else None,
    )
