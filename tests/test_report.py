from __future__ import annotations

import base64
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinynovo.errors import InputError
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.report import BEST, SAMPLE, Findings, write_report
from tinynovo.spectrum import Spectrum

# GAK, by hand: b1 58.02874, b2 129.06585, y1 147.11280, y2 218.14992; 500 is nobody's.
GAK_MZ = [58.02874, 129.06585, 147.11280, 218.14992, 500.0]


def spectrum(index: int, label: str = "GAK", mz: list[float] | None = None) -> Spectrum:
    peaks = np.array(GAK_MZ if mz is None else mz)
    high = np.arange(1.0, peaks.size + 1)
    return Spectrum(peaks, high, 138.092, 2, f"index={index}", index, "a.mgf", peptide=label)


def psm(index: int, peptide: str | None = "GAK", score: float = 0.5, reason: str = "") -> PSM:
    found = None if peptide is None else Peptide.parse(peptide)
    each = () if found is None else (score,) * len(found)
    return PSM(
        *("a.mgf", index, f"index={index}", found),
        score=score if found else None,
        residue_scores=each,
        precursor_charge=2,
        error_ppm=1.4,
        reason=reason,
    )


def noted(pairs: list[tuple[Spectrum, PSM]]) -> Findings:
    findings = Findings()
    assert len(list(findings.watch(pair[0] for pair in pairs))) == len(pairs)
    findings.add(pair[1] for pair in pairs)
    return findings


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<style>.*</style>", "", page)).split())


def test_findings_count_what_passes() -> None:
    findings = noted(
        [
            (spectrum(0), psm(0)),
            (spectrum(1, "AGK"), psm(1)),
            (spectrum(2, ""), psm(2, "GAKK", score=1.0)),
            (spectrum(3, "GA?K"), psm(3)),
            (spectrum(4), psm(4, None, reason="no precursor charge")),
            # N and GG weigh the same: right by the published rule only if the residues align.
            (spectrum(5, "GGAK"), psm(5, "NAK")),
            # K and Q differ by 0.036 Da: the same residue for the published rule alone.
            (spectrum(6, "GAQ"), psm(6, "GAK")),
        ]
    )
    assert (findings.spectra, findings.answered, findings.labelled) == (7, 6, 5)
    assert (findings.exact, findings.published) == (1, 2)
    assert findings.lengths == Counter({3: 5, 4: 1})
    assert findings.errors == Counter({1: 6})
    assert findings.expected == 3.5
    assert findings.judged == [(0.5, True), (0.5, False), (0.5, False), (0.5, True)]
    # Bins of 1/25: 0.5 is in the thirteenth, 1.0 in the last.
    assert findings.scores == Counter({12: 5, 24: 1})


def test_findings_hold_few_spectra_however_many_pass() -> None:
    findings = Findings()
    for index in range(2000):
        list(findings.watch([spectrum(index)]))
        findings.add([psm(index, score=(index * 7 % 2000) / 2000)])
    held = {e.psm.index for e in [*findings.best, *findings.sample]}
    assert len(held) <= BEST + SAMPLE
    assert findings._waiting == {}
    assert [e.score for e in findings.best] == [0.9995, 0.999, 0.9985, 0.998]
    assert 600 < np.mean([e.psm.index for e in findings.sample]) < 1400
    assert all(0.2 < e.score < 0.8 for e in findings.middling)
    assert len(findings.middling) == BEST


def test_findings_of_parts_come_to_those_of_the_whole_in_any_order() -> None:
    def pair(index: int) -> tuple[Spectrum, PSM]:
        score, label = index * 7 % 50 / 50, ("GAK", "AGK", "")[index % 3]
        return spectrum(index, label), psm(index, "GAKK" if index % 5 else None, score)

    whole = noted([pair(index) for index in range(200)])
    parts = [noted([pair(index) for index in range(first, 200, 3)]) for first in (2, 0, 1)]
    merged = Findings()
    for part in parts:
        merged.merge(part)
    assert [e.psm for e in merged.best] == [e.psm for e in whole.best]
    assert [e.psm for e in merged.sample] == [e.psm for e in whole.sample]
    assert len(whole.sample) == SAMPLE
    assert sorted(merged.judged) == sorted(whole.judged)
    assert merged.expected == pytest.approx(whole.expected)
    for name in ("spectra", "answered", "labelled"):
        assert getattr(merged, name) == getattr(whole, name) > 0
    for name in ("scores", "lengths", "errors"):
        assert getattr(merged, name) == getattr(whole, name)


def test_the_page_says_what_was_run_and_found(tmp_path: Path) -> None:
    findings = noted([(spectrum(0), psm(0, score=0.9)), (spectrum(1, "AGK"), psm(1, score=0.2))])
    path = tmp_path / "r.html"
    reasons = Counter({"no_charge": 3})
    write_report(path, findings, reasons, ["a.mgf"], {"n_beams": "8", "strategy": "full"})
    page = path.read_text("utf-8")
    words = text(page)
    expected = "1 of these expected to be right: the sum of their scores"
    begin = f"2 spectra read 2 given a peptide {expected} 3 not: no_charge 2 have a label"
    assert begin in words
    assert "1 of these right: the same residues and modifications, I = L (50.0 %)" in words
    assert "n_beams 8 strategy full" in words
    assert "score true predicted 0.900 GAK GAK 0.200 AGK GAK" in words
    assert "G A K score 0.900, 2+, 2 of 2 bonds seen, right" in words
    assert "wrong; the label is AGK" in words
    drawings = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page)
    assert len(drawings) == 4 + 2
    drawn = [base64.b64decode(d).decode() for d in drawings]
    assert all(ET.fromstring(svg).tag.endswith("svg") for svg in drawn)
    assert all(f">{name}<" in drawn[4] for name in ("b1", "b2", "y1", "y2"))


def test_the_page_says_how_many_met_a_false_discovery_rate(tmp_path: Path) -> None:
    findings = noted([(spectrum(i), psm(i)) for i in range(3)])
    path = tmp_path / "r.html"
    reasons = Counter({"above_fdr": 2, "no_charge": 1})
    write_report(path, findings, reasons, ["a.mgf"], {"fdr": "0.05"})
    words = text(path.read_text("utf-8"))
    assert "3 given a peptide 2 of these expected to be right" in words
    assert "1 of these kept at a false discovery rate of 0.05;" in words
    assert "1 not: no_charge" in words
    assert "above_fdr" not in words
    write_report(path, findings, Counter(), ["a.mgf"], {})
    assert "kept at" not in text(path.read_text("utf-8"))


def test_the_page_needs_no_network_and_runs_nothing(tmp_path: Path) -> None:
    evil = "<script src='https://example.org/x.js'></script> $\\frac{$"
    one = Spectrum(np.array(GAK_MZ), np.ones(5), 138.1, 2, "index=0", 0, "a.mgf", title=evil)
    answer = PSM("a.mgf", 0, "index=0", Peptide.parse("GAK"), 0.5, (0.5,) * 3, title=evil)
    path = tmp_path / "r.html"
    write_report(path, noted([(one, answer)]), Counter({evil: 1}), [evil], {"key": evil})
    page = path.read_text("utf-8")
    assert "<script" not in page
    assert page.count("&lt;script") == 4
    assert "default-src 'none'" in page
    assert set(re.findall(r"""\b(?:src|href)=["']([^"'&]{5})""", page)) == {"data:"}


def test_the_page_is_the_same_every_time(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        path = tmp_path / name
        write_report(path, noted([(spectrum(0), psm(0))]), Counter(), ["a.mgf"], {})
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def test_a_page_about_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    findings = noted([(spectrum(0), psm(0, None, reason="no precursor charge"))])
    write_report(path, findings, Counter({"no_charge": 1}), ["a.mgf"], {})
    assert "1 spectra read 0 given a peptide 1 not: no_charge" in text(path.read_text())


def test_odd_peaks_are_drawn(tmp_path: Path) -> None:
    mz = np.concatenate([np.linspace(100, 1500, 5000), [np.nan, 147.1128]])
    intensity = np.concatenate([np.ones(4998), [np.inf, -5.0, np.nan, 0.0]])
    odd = Spectrum(mz, intensity, 138.1, 2, "index=0", 0, "a.mgf")
    path = tmp_path / "r.html"
    write_report(path, noted([(odd, psm(0))]), Counter(), ["a.mgf"], {})
    assert path.stat().st_size < 400_000


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"a report needs jinja2") as failure:
        Findings()
    assert failure.value.remedy == "pip install tinynovo[report]"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path, noted([(spectrum(0), psm(0))]), Counter(), [], {})
