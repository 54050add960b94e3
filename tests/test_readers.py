from __future__ import annotations

import base64
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyteomics.mgf
import pyteomics.mzxml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.errors import InputError
from tinynovo.mzml import _elements, read_mzml
from tinynovo.psm import PSM
from tinynovo.readers import READERS, read_predictions, read_spectra
from tinynovo.spectrum import Spectrum

MZ = [100.5, 200.25, 300.125]
INTENSITY = [10.0, 30.0, 20.0]


def block(*lines: str, peaks: Sequence[str] = ("100.5 10", "200.25 30", "300.125 20")) -> str:
    return "\n".join(["BEGIN IONS", *lines, *peaks, "END IONS", ""])


def read(path: Path, text: str) -> list[Spectrum]:
    path.write_text(text, "utf-8")
    return list(read_spectra(path))


def until_damage(path: Path) -> tuple[list[Spectrum], InputError]:
    """What is read before the complaint, and the complaint."""
    found: list[Spectrum] = []
    spectra = read_spectra(path)
    with pytest.raises(InputError) as caught:  # noqa: PT012
        for spectrum in spectra:
            found.append(spectrum)
    return found, caught.value


# ---- a minimal mzML and mzXML -------------------------------------------------------------------


def cv(accession: str, name: str, value: object = "", unit: str = "") -> str:
    units = f' unitCvRef="UO" unitAccession="{unit}"' if unit else ""
    return f'<cvParam cvRef="MS" accession="{accession}" name="{name}" value="{value}"{units}/>'


def binary(values: Sequence[float], kind: str, array: str, packed: bool) -> str:
    data = np.array(values, kind).tobytes()
    data = zlib.compress(data) if packed else data
    types = {"<f4": "MS:1000521", "<f8": "MS:1000523", "<i4": "MS:1000519"}
    packing = cv("MS:1000574", "zlib compression") if packed else cv("MS:1000576", "no compression")
    return (
        f'<binaryDataArray encodedLength="0">{cv(types[kind], "number")}{packing}{array}'
        f"<binary>{base64.b64encode(data).decode()}</binary></binaryDataArray>"
    )


def mzml_spectrum(
    number: int,
    level: int = 2,
    *,
    native: str | None = None,
    ion: str | None = None,
    target: float | None = None,
    start: str = cv("MS:1000016", "scan start time", 2.5, "UO:0000031"),
    mz: Sequence[float] = MZ,
    intensity: Sequence[float] = INTENSITY,
    kind: str = "<f8",
    packed: bool = True,
    terms: str = "",
) -> str:
    if ion is None:
        ion = cv("MS:1000744", "selected ion m/z", 450.5) + cv("MS:1000041", "charge state", 2)
    window = "" if target is None else cv("MS:1000827", "isolation window target m/z", target)
    precursor = (
        f'<precursorList count="1"><precursor><isolationWindow>{window}</isolationWindow>'
        f'<selectedIonList count="1"><selectedIon>{ion}</selectedIon></selectedIonList>'
        f"<activation/></precursor></precursorList>"
    )
    native = native or f"controllerType=0 controllerNumber=1 scan={number}"
    return (
        f'<spectrum index="0" id="{native}" defaultArrayLength="{len(mz)}">'
        f"{cv('MS:1000511', 'ms level', level)}{terms}"
        f'<scanList count="1"><scan>{start}</scan></scanList>{precursor if level > 1 else ""}'
        f'<binaryDataArrayList count="2">'
        f"{binary(mz, kind, cv('MS:1000514', 'm/z array'), packed)}"
        f"{binary(intensity, '<f4', cv('MS:1000515', 'intensity array'), packed)}"
        f"</binaryDataArrayList></spectrum>"
    )


def mzml(*spectra: str, groups: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<indexedmzML xmlns="http://psi.hupo.org/ms/mzml"><mzML version="1.1.0">'
        f"<referenceableParamGroupList>{groups}</referenceableParamGroupList>"
        f'<run id="r"><spectrumList count="{len(spectra)}">{"".join(spectra)}</spectrumList></run>'
        "</mzML><indexList/></indexedmzML>"
    )


def mzxml_scan(
    number: int, level: int = 2, inner: str = "", precision: int = 32, packed: bool = False
) -> str:
    values = np.array([MZ, INTENSITY]).T.ravel().astype(">f8" if precision == 64 else ">f4")
    data = zlib.compress(values.tobytes()) if packed else values.tobytes()
    precursor = '<precursorMz precursorIntensity="9" precursorCharge="3">512.25</precursorMz>'
    return (
        f'<scan num="{number}" msLevel="{level}" peaksCount="3" retentionTime="PT1M2.5S">'
        f"{precursor if level > 1 else ''}"
        f'<peaks precision="{precision}" byteOrder="network" contentType="m/z-int" '
        f'compressionType="{"zlib" if packed else "none"}" compressedLen="0">'
        f"{base64.b64encode(data).decode()}</peaks>{inner}</scan>"
    )


def mzxml(*scans: str) -> str:
    return (
        '<?xml version="1.0"?><mzXML xmlns="http://sashimi.sourceforge.net/schema_revision/'
        f'mzXML_3.2"><msRun scanCount="{len(scans)}">{"".join(scans)}</msRun></mzXML>'
    )


# ---- MGF ----------------------------------------------------------------------------------------


def test_mgf(tmp_path: Path) -> None:
    path = tmp_path / "a.mgf"
    text = "# a comment\nCOM=a run\n\n" + block(
        "TITLE=run.7.7.2 = first",
        "PEPMASS=450.5 1234.5",
        "CHARGE=2+",
        "RTINSECONDS=12.5",
        "SCANS=7",
        "ION_MOBILITY=ook0 0.95",
        "SEQ=PEPTIDEK",
    )
    (found,) = read(path, text)
    assert found.mz.tolist() == MZ
    assert found.intensity.tolist() == INTENSITY
    assert found.mz.dtype == found.intensity.dtype == np.float64
    assert (found.precursor_mz, found.precursor_charge) == (450.5, 2)
    assert (found.identifier, found.index, found.file) == ("index=0", 0, str(path))
    assert (found.title, found.scan, found.retention_time) == ("run.7.7.2 = first", 7, 12.5)
    assert (found.ion_mobility, found.peptide) == (0.95, "PEPTIDEK")


def test_mgf_against_pyteomics(tmp_path: Path) -> None:
    text = block("TITLE=a = b", "PEPMASS=450.5 9", "CHARGE=2+", "RTINSECONDS=1.5", "SCANS=4")
    path = tmp_path / "a.mgf"
    found = read(path, text + block("PEPMASS=7e2", "CHARGE=3+", peaks=("1.5e2\t7 1+",)))
    with pyteomics.mgf.read(str(path), use_index=False) as others:
        for spectrum, other in zip(found, others, strict=True):
            assert spectrum.mz.tolist() == other["m/z array"].tolist()
            assert spectrum.intensity.tolist() == other["intensity array"].tolist()
            assert spectrum.precursor_mz == other["params"]["pepmass"][0]
            assert spectrum.precursor_charge == other["params"]["charge"][0]
            assert spectrum.title == other["params"].get("title", "")
            assert spectrum.retention_time == other["params"].get("rtinseconds")


@pytest.mark.parametrize(
    ("lines", "charge"),
    [
        ((), None),
        (("CHARGE=0",), None),
        (("CHARGE=0+",), None),
        (("CHARGE=",), None),
        (("CHARGE=2+ and 3+",), None),
        (("CHARGE=2+,3+",), None),
        (("CHARGE=3",), 3),
        (("CHARGE=+3",), 3),
        (("CHARGE=20+",), 20),
        (("CHARGE=2-",), -2),
        (("PEPMASS=450.5 10 3+",), 3),
        (("PEPMASS=450.5 10 3+", "CHARGE=2+"), 2),
    ],
)
def test_mgf_charges(tmp_path: Path, lines: tuple[str, ...], charge: int | None) -> None:
    (found,) = read(tmp_path / "a.mgf", block("PEPMASS=450.5", *lines))
    assert found.precursor_charge == charge


def test_mgf_charge_of_the_header_holds_where_there_is_no_other(tmp_path: Path) -> None:
    text = "CHARGE=3+\n" + block() + block("CHARGE=2+") + block()
    assert [s.precursor_charge for s in read(tmp_path / "a.mgf", text)] == [3, 2, 3]


def test_mgf_says_only_what_stands_there(tmp_path: Path) -> None:
    (found,) = read(tmp_path / "a.mgf", block("TITLE=file scan=12 x", peaks=()))
    assert found.precursor_mz is None
    assert found.retention_time is None
    assert found.ion_mobility is None
    assert found.peptide == ""
    assert found.scan == 12
    assert found.mz.shape == found.intensity.shape == (0,)


def test_mgf_peaks_are_passed_on_as_they_are(tmp_path: Path) -> None:
    peaks = ("300 1", "nan 5 1+", "100\t-2.5", "1e2 inf")
    (found,) = read(tmp_path / "a.mgf", block("PEPMASS=nan", peaks=peaks))
    assert found.mz.tolist() == pytest.approx([300, math.nan, 100, 100], nan_ok=True)
    assert found.intensity.tolist() == [1, 5, -2.5, math.inf]
    assert found.precursor_mz is not None
    assert math.isnan(found.precursor_mz)


@pytest.mark.parametrize("odd", ["", "7 8 1+", "7\xa08", "7 1_0", "nan 8", "7 8 9 10"])
def test_mgf_peaks_are_the_numbers_that_python_reads(tmp_path: Path, odd: str) -> None:
    lines = ["100.123456789 1e-3", "0.1\t  3.4028235e38", *filter(None, [odd])]
    (found,) = read(tmp_path / "a.mgf", block("PEPMASS=450.5", peaks=lines))
    fields = [line.split() for line in lines]
    assert found.mz.tolist() == pytest.approx([float(f[0]) for f in fields], rel=0, nan_ok=True)
    assert found.intensity.tolist() == [float(f[1]) for f in fields]


@pytest.mark.parametrize("lines", [("100", "200 3 4"), ("1 2", "3"), ("1 2", "3 x"), ("5", "6")])
def test_mgf_numbers_that_are_no_pairs_are_not_paired(tmp_path: Path, lines) -> None:
    with pytest.raises(InputError, match="is no peak"):
        read(tmp_path / "a.mgf", block("PEPMASS=450.5", peaks=lines))


def test_mgf_of_windows_and_of_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "A.MGF"
    text = "\ufeff" + block("TITLE=µ", "PEPMASS=450.5").replace("\n", "\r\n")
    path.write_bytes(text.encode() + block("TITLE=µ").encode("latin-1"))
    found = list(read_spectra(path))
    assert [s.mz.tolist() for s in found] == [MZ, MZ]
    assert found[0].title == "µ"


@pytest.mark.parametrize(
    ("bad", "place", "problem"),
    [
        (block(peaks=("100 1", "abc def")), "index=1", "line 10: 'abc def' is no peak"),
        (block(peaks=("100.5",)), "index=1", "line 9: '100.5' is no peak"),
        (block("PEPMASS=4x"), "index=1", "could not convert string to float: '4x'"),
        (block("CHARGE=two"), "index=1", "'two' is no charge"),
        (block(f"CHARGE={2**63}+"), "index=1", f"charge {2**63} is beyond 64 bits"),
        (block(f"SCANS={2**63}"), "index=1", f"scan {2**63} is beyond 64 bits"),
        (
            "BEGIN IONS\n100 1\n" + block(),
            "index=1",
            "line 10: END IONS is missing before BEGIN IONS",
        ),
        ("100.5 1\n", None, "stands outside of BEGIN IONS and END IONS"),
        ("END IONS\n", None, "stands outside of BEGIN IONS and END IONS"),
    ],
)
def test_a_broken_mgf_spectrum_is_named(
    tmp_path: Path, bad: str, place: str | None, problem: str
) -> None:
    path = tmp_path / "a.mgf"
    path.write_text(block("TITLE=good", "PEPMASS=450.5") + bad + block("TITLE=never read"))
    found, error = until_damage(path)
    assert [s.title for s in found] == ["good"]
    assert error.file == str(path)
    assert error.spectrum == place
    assert problem in error.problem


# ---- mzML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_mzml(tmp_path: Path, kind: str, packed: bool) -> None:
    path = tmp_path / "a.mzML"
    mobility = cv("MS:1002815", "inverse reduced ion mobility", 0.875)
    start = cv("MS:1000016", "scan start time", 2.5, "UO:0000031") + mobility
    title = cv("MS:1000796", "spectrum title", "run 5")
    text = mzml(
        mzml_spectrum(4, level=1),
        mzml_spectrum(5, kind=kind, packed=packed, start=start, terms=title),
        mzml_spectrum(6, level=1),
        mzml_spectrum(7, level=3),
    )
    first, second = read(path, text)
    assert first.mz.tolist() == MZ
    assert first.intensity.tolist() == INTENSITY
    assert first.mz.dtype == np.float64
    assert (first.precursor_mz, first.precursor_charge) == (450.5, 2)
    assert first.identifier == "controllerType=0 controllerNumber=1 scan=5"
    assert (first.index, first.scan, first.file) == (0, 5, str(path))
    assert (first.retention_time, first.ion_mobility) == (150.0, 0.875)
    assert first.title == "run 5"
    assert (second.index, second.scan) == (1, 7)


@pytest.mark.parametrize(
    ("native", "scan"),
    [
        ("scan=12", 12),
        ("controllerType=0 controllerNumber=1 scan=12", 12),
        ("function=2 process=0 scan=12", None),
        ("merged=3 frame=1 scanStart=2 scanEnd=9", None),
        ("index=12", None),
    ],
)
def test_mzml_native_ids(tmp_path: Path, native: str, scan: int | None) -> None:
    (found,) = read(tmp_path / "a.mzML", mzml(mzml_spectrum(1, native=native)))
    assert (found.identifier, found.scan) == (native, scan)


@pytest.mark.parametrize(
    ("ion", "charge"),
    [
        ("", None),
        (cv("MS:1000041", "charge state", 0), None),
        (cv("MS:1000041", "charge state", 20), 20),
        (cv("MS:1000633", "possible charge state", 3), 3),
        (cv("MS:1000633", "possible", 2) + cv("MS:1000633", "possible", 3), None),
        (cv("MS:1000633", "possible", 2) + cv("MS:1000041", "charge state", 4), 4),
    ],
)
def test_mzml_charges(tmp_path: Path, ion: str, charge: int | None) -> None:
    (found,) = read(tmp_path / "a.mzML", mzml(mzml_spectrum(1, ion=ion, target=600.5)))
    assert found.precursor_charge == charge
    assert found.precursor_mz == 600.5


@pytest.mark.parametrize(
    ("ion", "target", "expected"),
    [
        (cv("MS:1000744", "selected ion m/z", 450.5), 451.0, 450.5),
        (cv("MS:1000744", "selected ion m/z", 0), 451.0, 451.0),
        ("", None, None),
    ],
)
def test_mzml_precursors(
    tmp_path: Path, ion: str, target: float | None, expected: float | None
) -> None:
    (found,) = read(tmp_path / "a.mzML", mzml(mzml_spectrum(1, ion=ion, target=target)))
    assert found.precursor_mz == expected


@pytest.mark.parametrize(
    ("start", "seconds"),
    [
        (cv("MS:1000016", "scan start time", 2.5, "UO:0000031"), 150.0),
        (cv("MS:1000016", "scan start time", 2.5, "UO:0000010"), 2.5),
        (cv("MS:1000016", "scan start time", 2.5), 150.0),
        ("", None),
    ],
)
def test_mzml_times(tmp_path: Path, start: str, seconds: float | None) -> None:
    (found,) = read(tmp_path / "a.mzML", mzml(mzml_spectrum(1, start=start)))
    assert found.retention_time == seconds


def test_mzml_groups_of_terms(tmp_path: Path) -> None:
    group = f'<referenceableParamGroup id="g">{cv("MS:1000511", "ms level", 2)}'
    reference = '<referenceableParamGroupRef ref="g"/>'
    spectrum = mzml_spectrum(1).replace(cv("MS:1000511", "ms level", 2), reference)
    assert reference in spectrum
    text = mzml(spectrum, groups=group + "</referenceableParamGroup>")
    assert len(read(tmp_path / "a.mzML", text)) == 1


def test_mzml_peaks_are_passed_on_as_they_are(tmp_path: Path) -> None:
    spectra = mzml(
        mzml_spectrum(1, mz=[3.0, math.nan], intensity=[-1.0, math.inf]),
        mzml_spectrum(2, mz=[], intensity=[]),
    )
    odd, empty = read(tmp_path / "a.mzML", spectra)
    assert odd.mz.tolist() == pytest.approx([3.0, math.nan], nan_ok=True)
    assert odd.intensity.tolist() == [-1.0, math.inf]
    assert empty.mz.shape == empty.intensity.shape == (0,)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("MS:1000574", "MS:1002312", "packed in an unknown way; convert with zlib"),  # numpress
        ("MS:1000523", "MS:1001479", "packed in an unknown way"),
        ("<binary>", "<binary>AAA", "damaged peaks"),
        ('"450.5"', '"much"', "could not convert"),
    ],
)
def test_a_broken_mzml_spectrum_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "a.mzML"
    bad = mzml_spectrum(2).replace(old, new)
    path.write_text(mzml(mzml_spectrum(1), bad))
    found, error = until_damage(path)
    assert len(found) == 1
    assert error.spectrum == "controllerType=0 controllerNumber=1 scan=2"
    assert problem in error.problem


def test_mzml_arrays_of_different_length(tmp_path: Path) -> None:
    path = tmp_path / "a.mzML"
    path.write_text(mzml(mzml_spectrum(1, intensity=[1.0])))
    _, error = until_damage(path)
    assert "differ in length" in error.problem


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("42")
    text = mzml(mzml_spectrum(1, native="scan=&x;"))
    doctype = f'<!DOCTYPE mzML [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    path = tmp_path / "a.mzML"
    path.write_text(text.replace("<indexedmzML", doctype + "<indexedmzML", 1))
    with pytest.raises(InputError):
        list(read_spectra(path))


class Counting(io.BytesIO):
    """Bytes that are handed out in small pieces."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(1024)


def test_mzml_is_a_stream() -> None:
    content = Counting(mzml(*(mzml_spectrum(i) for i in range(200))).encode())
    spectra = read_mzml(content, "a.mzML")
    assert next(spectra).scan == 0
    assert content.tell() < 5_000
    assert len(content.getvalue()) > 100_000


def test_elements_are_forgotten() -> None:
    content = io.BytesIO(mzml(*(mzml_spectrum(i) for i in range(50))).encode())
    kept = [
        len(list(element.itersiblings(preceding=True)))
        for element in _elements(content, "a.mzML", "spectrum")
    ]
    assert len(kept) == 50
    assert max(kept) == 1


# ---- mzXML --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("precision", [32, 64])
def test_mzxml(tmp_path: Path, precision: int, packed: bool) -> None:
    inner = mzxml_scan(2, precision=precision, packed=packed) + mzxml_scan(3)
    text = mzxml(mzxml_scan(1, level=1, inner=inner), mzxml_scan(4))
    path = tmp_path / "a.mzXML"
    found = read(path, text)
    assert [s.identifier for s in found] == ["scan=2", "scan=3", "scan=4"]
    assert [s.index for s in found] == [0, 1, 2]
    for spectrum in found:
        assert spectrum.mz.tolist() == MZ
        assert spectrum.intensity.tolist() == INTENSITY
        assert (spectrum.precursor_mz, spectrum.precursor_charge) == (512.25, 3)
        assert spectrum.retention_time == 62.5
        assert spectrum.file == str(path)
    assert found[2].scan == 4


def test_mzxml_keeps_a_scan_around_others(tmp_path: Path) -> None:
    nested = mzxml_scan(1, inner=mzxml_scan(2, level=3) + mzxml_scan(3, level=3))
    # Peaks of the outer scan come before the inner scans, precursor too.
    found = read(tmp_path / "a.mzXML", mzxml(nested))
    assert sorted(s.identifier for s in found) == ["scan=1", "scan=2", "scan=3"]
    assert all(s.mz.tolist() == MZ and s.precursor_mz == 512.25 for s in found)


def test_mzxml_against_pyteomics(tmp_path: Path) -> None:
    path = tmp_path / "a.mzXML"
    found = read(path, mzxml(mzxml_scan(1), mzxml_scan(2, precision=64, packed=True)))
    with pyteomics.mzxml.read(str(path)) as others:
        for spectrum, other in zip(found, others, strict=True):
            assert spectrum.mz.tolist() == other["m/z array"].tolist()
            assert spectrum.intensity.tolist() == other["intensity array"].tolist()
            assert spectrum.retention_time == pytest.approx(other["retentionTime"] * 60)
            assert spectrum.precursor_mz == other["precursorMz"][0]["precursorMz"]


def test_mzxml_without_charge(tmp_path: Path) -> None:
    text = mzxml(mzxml_scan(1).replace(' precursorCharge="3"', ""))
    (found,) = read(tmp_path / "a.mzXML", text)
    assert found.precursor_charge is None
    assert found.precursor_mz == 512.25


def test_a_broken_mzxml_scan_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mzXML"
    path.write_text(mzxml(mzxml_scan(1), mzxml_scan(2).replace("</peaks>", "A</peaks>")))
    found, error = until_damage(path)
    assert [s.scan for s in found] == [1]
    assert error.spectrum == "scan=2"


# ---- Parquet ------------------------------------------------------------------------------------


def table(**changes: object) -> pa.Table:
    columns: dict[str, object] = {
        "spectrum_id": ["first", "second"],
        "source": ["x", "x"],
        "proforma": ["PEK", None],
        "precursor_charge": [2, None],
        "precursor_mz": [450.5, None],
        "mz": pa.array([MZ, []], pa.list_(pa.float32())),
        "intensity": pa.array([INTENSITY, None], pa.list_(pa.float32())),
    }
    columns |= changes
    return pa.table({name: column for name, column in columns.items() if column is not None})


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(retention_time=[12.5, None], scan=[7, None]), path)
    first, second = read_spectra(path)
    assert first.mz.tolist() == MZ
    assert first.intensity.tolist() == INTENSITY
    assert first.mz.dtype == np.float64
    assert (first.precursor_mz, first.precursor_charge, first.peptide) == (450.5, 2, "PEK")
    assert (first.identifier, first.index, first.title) == ("index=0", 0, "first")
    assert (first.retention_time, first.scan, first.ion_mobility) == (12.5, 7, None)
    assert (second.precursor_mz, second.precursor_charge, second.peptide) == (None, None, "")
    assert second.mz.shape == second.intensity.shape == (0,)
    assert second.identifier == "index=1"


@pytest.mark.parametrize("column", ["mz", "intensity", "precursor_mz", "precursor_charge"])
def test_parquet_without_a_column(tmp_path: Path, column: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(**{column: None}), path)
    _, error = until_damage(path)
    assert f"lacks the columns {column} " in error.problem


def test_parquet_with_columns_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(mz=["100 200", "300"]), path)
    _, error = until_damage(path)
    assert "lacks the columns mz " in error.problem
    pq.write_table(table(precursor_mz=["450.5", "much"]), path)
    found, error = until_damage(path)
    assert len(found) == 1
    assert error.spectrum == "index=1"


def test_parquet_lists_of_different_length(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(intensity=[[1.0], []]), path)
    _, error = until_damage(path)
    assert (error.spectrum, "differ in length" in error.problem) == ("index=0", True)


# ---- files that are not what they should be -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none.mgf", "does not exist"),
        ("folder.mgf", "is a folder"),
        ("empty.mgf", "is empty"),
        ("empty.mzML", "is empty"),
        ("empty.parquet", "is empty"),
        ("a.fasta", "FASTA"),
        ("a.fasta.gz", "FASTA"),
        ("a.raw", "no known format"),
        ("a.txt", "no known format"),
        ("noname", "no known format"),
        ("a.parquet.gz", "no known format"),
    ],
)
def test_files_that_cannot_be_read_at_all(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "folder.mgf").mkdir()
    for other in ("a.fasta", "a.fasta.gz", "a.raw", "a.txt", "noname", "a.parquet.gz"):
        (tmp_path / other).write_text("something")
    for suffix in READERS:
        (tmp_path / f"empty.{suffix}").touch()
    (tmp_path / "empty.mzML").touch()
    with pytest.raises(InputError, match=problem) as caught:
        read_spectra(tmp_path / name)
    assert caught.value.file == str(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a.mgf", "a.mzML", "a.mzXML", "a.parquet", "a.mgf.gz", "a.mzML.gz"]
)
@pytest.mark.parametrize("content", [b">sp|P1\nPEPTIDEK\n", b"\x00\xff\x1f\x8b noise", b"\x1f\x8b"])
def test_files_of_another_content(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found, error = until_damage(path)
    assert found == []
    assert error.file == str(path)
    assert "\n" not in str(error)


def test_fasta_in_a_file_of_spectra(tmp_path: Path) -> None:
    path = tmp_path / "a.mgf"
    path.write_text(">sp|P1|A protein\nPEPTIDEK\n")
    _, error = until_damage(path)
    assert "FASTA" in error.problem


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mgf", "COM=nothing here\n\n"),
        ("a.mzML", mzml(mzml_spectrum(1, level=1))),
        ("a.mzXML", mzxml(mzxml_scan(1, level=1))),
    ],
)
def test_files_without_a_spectrum(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    _, error = until_damage(path)
    assert error.problem == "holds no tandem mass spectrum"


TEXTS = {
    "mgf": "".join(block(f"TITLE={i}", "PEPMASS=450.5") for i in range(40)),
    "mzML": mzml(*(mzml_spectrum(i) for i in range(40))),
    "mzXML": mzxml(*(mzxml_scan(i) for i in range(40))),
}


def test_an_mgf_file_that_ends_within_a_spectrum(tmp_path: Path) -> None:
    path = tmp_path / "a.mgf"
    path.write_text(block() + "BEGIN IONS\n100 1\n")
    found, error = until_damage(path)
    assert len(found) == 1
    assert (error.problem, error.spectrum) == ("is cut off: END IONS is missing", "index=1")


@pytest.mark.parametrize("suffix", TEXTS)
def test_packed_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}.gz"
    path.write_bytes(gzip.compress(TEXTS[suffix].encode()))
    assert len(list(read_spectra(path))) == 40


@pytest.mark.parametrize("suffix", TEXTS)
@pytest.mark.parametrize("packed", [False, True])
def test_files_cut_in_the_middle(tmp_path: Path, suffix: str, packed: bool) -> None:
    path = tmp_path / f"a.{suffix}{'.gz' if packed else ''}"
    content = TEXTS[suffix].encode()
    # Stored, not compressed: as much of the packed text is left as of the plain one.
    content = gzip.compress(content, compresslevel=0) if packed else content
    path.write_bytes(content[: round(len(content) * 0.76)])
    found, error = until_damage(path)
    assert 25 <= len(found) < 40
    assert "cut off" in error.problem
    assert all(s.mz.tolist() == MZ for s in found)


def test_a_parquet_file_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(), path)
    path.write_bytes(path.read_bytes()[:-20])
    _, error = until_damage(path)
    assert "damaged or cut off" in error.problem


@given(st.binary(max_size=60), st.sampled_from(["mgf", "mzML", "mzXML", "parquet", "mgf.gz"]))
def test_any_bytes_are_spectra_or_a_complaint(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError):
        list(read_spectra(path))


# ---- predictions --------------------------------------------------------------------------------

HEADER = (
    "PSH\tsequence\tPSM_ID\tsearch_engine_score[1]\tmodifications\tcharge\texp_mass_to_charge"
    "\tcalc_mass_to_charge\tspectra_ref\topt_ms_run[1]_aa_scores"
)
PROFORMA = "opt_global_cv_MS:1003169_proforma_peptidoform_sequence"


def predictions(path: Path, text: str) -> list[PSM]:
    path.write_text(text, "utf-8")
    return list(read_predictions(path))


def test_mztab_of_another_tool(tmp_path: Path) -> None:
    text = (
        "MTD\tmzTab-version\t1.0.0\nMTD\tms_run[1]-location\tfile:///data/my%20run.mgf\n"
        "MTD\tms_run[2]-location\tfile:///data/b.mzML\n"
        f"{HEADER}\t{PROFORMA}\n"
        "PSM\tPEPMK\t1\t0.9\tnull\t2.0\t450.5\t450.4\tms_run[1]:index=4\t0.1,0.2,0.3,0.4,0.5"
        "\tPEPM[Oxidation]K\n"
        "PSM\tPEPIK\t2\t-0.5\tnull\t3\t450.5\t450.4\tms_run[2]:scan=17\tnull\tnull\n"
        "PSM\tnull\t3\tnull\tnull\tnull\tnull\tnull\tms_run[2]:scan=18\tnull\tnull\n"
    )
    first, second, third = predictions(tmp_path / "a.mztab", text)
    assert str(first.peptide) == "PEPM[Oxidation]K"
    assert (first.file, first.identifier, first.index) == ("/data/my run.mgf", "index=4", 4)
    assert (first.score, first.residue_scores) == (0.9, (0.1, 0.2, 0.3, 0.4, 0.5))
    assert (first.precursor_charge, first.precursor_mz, first.calculated_mz) == (2, 450.5, 450.4)
    assert str(second.peptide) == "PEPLK"
    assert (second.file, second.identifier, second.scan) == ("/data/b.mzML", "scan=17", 17)
    assert (second.score, second.residue_scores, second.index) == (-0.5, (), -1)
    assert (third.peptide, third.score, third.precursor_mz) == (None, None, None)


@pytest.mark.parametrize("peptide", ["+43.006-17.027PEPTIDEK", "PEPTK[+99.9]DEK", "PEPTXDEK"])
def test_a_prediction_of_unknown_residues_keeps_its_score(tmp_path: Path, peptide: str) -> None:
    text = f"spectrum_id,sequence,score\n0,{peptide},0.75\n1,PEPTIDEK,0.5\n"
    first, second = predictions(tmp_path / "a.csv", text)
    assert (first.peptide, first.score) == (None, 0.75)
    assert first.reason
    assert (str(second.peptide), second.reason) == ("PEPTLDEK", "")


@pytest.mark.parametrize(
    ("sequence", "modifications", "proforma"),
    [
        ("M+15.995PEK", "null", "M[Oxidation]PEK"),
        ("MPEK", "1-UNIMOD:35", "M[Oxidation]PEK"),
        ("CPEM", "0-UNIMOD:1,1-UNIMOD:4,4-UNIMOD:35", "[Acetyl]-C[Carbamidomethyl]PEM[Oxidation]"),
        ("MPEK", "1-CHEMMOD:+15.9949", "M[Oxidation]PEK"),
    ],
)
def test_mztab_without_proforma(
    tmp_path: Path, sequence: str, modifications: str, proforma: str
) -> None:
    row = f"PSM\t{sequence}\t1\t0.9\t{modifications}\t2\t450.5\t450.4\tms_run[1]:index=0\tnull\n"
    (found,) = predictions(tmp_path / "a.mztab", f"{HEADER}\n{row}")
    assert str(found.peptide) == proforma


@pytest.mark.parametrize(
    ("sequence", "modifications", "scores", "problem"),
    [
        ("PEK", "2-Oxidation (M)", "null", "cannot read"),
        ("PEK", "9-UNIMOD:35", "null", "cannot read"),
        ("PEK", "null", "0.1,0.2", "2 residue scores for 3 residues"),
        ("PEK", "null", "0.1,x,0.2", "could not convert"),
    ],
)
def test_mztab_rows_that_are_no_psm(
    tmp_path: Path, sequence: str, modifications: str, scores: str, problem: str
) -> None:
    path = tmp_path / "a.mztab"
    row = "PSM\t{}\t1\t0.9\t{}\t2\t450.5\t450.4\tms_run[1]:index={}\t{}\n"
    text = row.format("PEK", "null", 0, "null") + row.format(sequence, modifications, 7, scores)
    with pytest.raises(InputError) as caught:
        predictions(path, f"{HEADER}\n{text}")
    assert problem in caught.value.problem
    assert caught.value.spectrum == "row 2 (index=7)"
    assert caught.value.file == str(path)


def test_mztab_that_is_cut_off(tmp_path: Path) -> None:
    row = "PSM\tPEK\t1\t0.9\tnull\t2\t450.5\t450.4\tms_run[1]:index=0\tnull\n"
    for text, problem in (
        (f"{HEADER}\n{row}{row[:-20]}", "line 3 is cut off"),
        (f"{HEADER}\n{row}{row[:-1]}", "line 3 is cut off"),
        (row, "line 1 is cut off or has no header"),
        ("MTD\tmzTab-version\t1.0.0\n", "has no PSM section"),
    ):
        with pytest.raises(InputError, match=problem):
            predictions(tmp_path / "a.mztab", text)


def test_csv_of_another_tool(tmp_path: Path) -> None:
    text = (
        "spectrum_id,sequence,score,aa_scores\n"
        '3,PEPM(ox)K,0.75,"0.1,0.2,0.3,0.4,0.5"\n'
        "index=5,,,\n"
        "scan=9,+42.011PEK,nan,\n"
    )
    first, second, third = predictions(tmp_path / "a.csv", text)
    assert (first.identifier, first.index, str(first.peptide)) == ("index=3", 3, "PEPM[Oxidation]K")
    assert (first.score, first.residue_scores) == (0.75, (0.1, 0.2, 0.3, 0.4, 0.5))
    assert (second.identifier, second.peptide, second.score) == ("index=5", None, None)
    assert (third.scan, str(third.peptide), third.score) == (9, "[Acetyl]-PEK", None)
    (found,) = predictions(tmp_path / "a.tsv", "sequence\tspectrum_id\nPEK\t1\n")
    assert (found.identifier, str(found.peptide)) == ("index=1", "PEK")


def test_rows_without_rank_are_ranked_as_they_stand(tmp_path: Path) -> None:
    text = "spectrum_id,sequence\n0,PEK\n1,PEK\n0,PKE\n"
    assert [psm.rank for psm in predictions(tmp_path / "a.csv", text)] == [1, 1, 2]
    text = "spectrum_id,sequence,rank\n0,PEK,2\n0,PKE,1\n"
    assert [psm.rank for psm in predictions(tmp_path / "a.csv", text)] == [2, 1]


def test_a_score_of_the_n_terminal_modification_is_left_out(tmp_path: Path) -> None:
    text = 'spectrum_id,sequence,aa_scores\n0,[Acetyl]-PEK,"0.9,0.1,0.2,0.3"\n'
    (found,) = predictions(tmp_path / "a.csv", text)
    assert found.residue_scores == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"spectrum_id,peptide\n0,PEK\n", "lacks the columns sequence"),
        ("a.csv", b"", "lacks the columns spectrum_id, sequence"),
        ("a.csv", b"spectrum_id,sequence\n0,P\xff\n", "cannot be read as predictions"),
        ("a.csv", b"spectrum_id,sequence,charge,score\n0,PEK,2,high\n", "could not convert"),
        ("a.parquet", b"PAR1", "cannot be read as predictions"),
        ("none.csv", None, "cannot be read as predictions"),
    ],
)
def test_predictions_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        list(read_predictions(path))
    assert caught.value.file == str(path)
