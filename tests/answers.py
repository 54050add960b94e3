"""Rows small enough to be known by heart, and any rows, for the tests of the rooms that write."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from tinynovo.masses import residue_table
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.reasons import ReasonCode
from tinynovo.writers import open_writer

FILES = ["/data/my run.mgf", "/data/b.mzML", "/data/c.parquet", "/data/d.mgf.gz"]
SETTINGS = {"device": "cpu", "top_match": "1"}

ANSWER = PSM(
    file=FILES[0],
    index=4,
    identifier="index=4",
    peptide=Peptide.parse("[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K"),
    score=0.912324,
    residue_scores=(0.1, 0.2, 0.3, 0.4, 0.5, 0.987654),
    support=(1, 1, 0, 0, 1, 1),
    ambiguous="[Acetyl]-PE(?PM[Oxidation])C[Carbamidomethyl]K",
    alternatives="1:P=AG",
    accessions=("sp|P1|A", "B"),
    q_value=0.0123456,
    rank=1,
    precursor_mz=412.6789012345,
    precursor_charge=2,
    calculated_mz=412.1762,
    error_ppm=-3.25,
    isotope_error=1,
    title='a "title", with a comma',
    scan=17,
    retention_time=65.5,
    ion_mobility=0.875,
)
SILENT = PSM(
    file=FILES[1],
    index=0,
    identifier="controllerType=0 controllerNumber=1 scan=9",
    peptide=None,
    scan=9,
    precursor_mz=500.25,
    reason_code=ReasonCode.NO_CHARGE,
    reason="no precursor charge",
)
NATIVE = PSM(
    FILES[1], 1, "function=2 process=0 scan=3", Peptide.parse("PEK"), 0.5, (0.5, 0.25, 1.0)
)
PLAIN = PSM(FILES[2], 0, "index=0", Peptide.parse("GK"), 0.0, (0.0, 1.0), rank=2)
ROWS = [ANSWER, SILENT, NATIVE, PLAIN]


def write(path: Path, rows: list[PSM]) -> Path:
    """A file of rows, in the format its name says."""
    with open_writer(path, files=FILES, settings=SETTINGS) as writer:
        writer.write(rows)
    return path


_residues = st.sampled_from([name for name in residue_table() if not name.endswith("-")])
_termini = st.sampled_from([(), *((name,) for name in residue_table() if name.endswith("-"))])
_shares = st.floats(0, 1)
_numbers = st.none() | st.floats(allow_nan=False)
_whole = st.integers(-(2**63), 2**63 - 1)

peptides = st.builds(
    lambda terminus, residues: Peptide((*terminus, *residues)),
    _termini,
    st.lists(_residues, min_size=1, max_size=12),
)


@st.composite
def any_psm(draw: st.DrawFn) -> PSM:
    """A PSM with or without a peptide, whatever its other fields."""
    peptide = draw(st.none() | peptides)
    about: dict[str, object] = {
        "precursor_mz": draw(_numbers),
        "precursor_charge": draw(st.none() | _whole),
        "title": draw(st.text(max_size=20)),
        "scan": draw(st.none() | _whole),
        "retention_time": draw(_numbers),
        "ion_mobility": draw(_numbers),
    }
    if peptide is None:
        about["reason_code"] = draw(st.sampled_from(ReasonCode))
        about["reason"] = draw(st.text(min_size=1, max_size=20))
    else:
        scores = st.lists(_shares, min_size=len(peptide), max_size=len(peptide))
        about["score"] = draw(_shares)
        about["residue_scores"] = tuple(draw(scores))
        marks = st.lists(st.integers(0, 1), min_size=len(peptide), max_size=len(peptide))
        about["support"] = tuple(draw(marks))
        about["ambiguous"] = draw(st.sampled_from(["", "(?AV)K"]))
        about["alternatives"] = draw(st.sampled_from(["", "1:N=GG;2-3:AV=GL"]))
        about["accessions"] = draw(st.sampled_from([(), ("sp|P1|A",), ("A", "DECOY_B")]))
        about["q_value"] = draw(st.none() | _shares)
        about["rank"] = draw(st.integers(1, 9))
        about["calculated_mz"] = draw(_numbers)
        about["error_ppm"] = draw(_numbers)
        about["isotope_error"] = draw(st.integers(-1, 3))
    name = draw(st.text(min_size=1, max_size=20))
    return PSM(draw(st.sampled_from(FILES)), draw(_whole), name, peptide, **about)
