"""Which peaks are fragments of a peptide, and which residues that settles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.annotation import alternatives, ambiguous, annotate, blocks, support
from tinynovo.masses import residue_table
from tinynovo.peptide import Peptide, fragments

# GAK, by hand: b1 58.02874, b2 129.06585, y1 147.11280, y2 218.14992; 500 is nobody's.
GAK_MZ = np.array([58.02874, 129.06585, 147.11280, 218.14992, 500.0])


def test_peaks_are_named_by_hand_computed_ions() -> None:
    ions = annotate(GAK_MZ, np.arange(1.0, 6.0), Peptide.parse("GAK"), 2)
    assert [ion and (ion.series, ion.ordinal, ion.charge) for ion in ions] == [
        ("b", 1, 1),
        ("b", 2, 1),
        ("y", 1, 1),
        ("y", 2, 1),
        None,
    ]


@pytest.mark.parametrize(
    ("mz", "named"),
    [
        # 0.01 Th is the wider tolerance here; of two near peaks the more intense is the ion's.
        ([147.1028, 147.1040, 147.1128, 147.1232], [False, False, True, False]),
        ([147.1040, 147.1128, 147.1200], [False, False, True]),
        ([500.0, 147.1128, np.nan, 58.0287], [False, True, False, True]),
    ],
)
def test_the_most_intense_peak_within_the_tolerance_is_the_ions(mz, named) -> None:
    ions = annotate(np.array(mz), np.arange(1.0, len(mz) + 1), Peptide.parse("GAK"), 2)
    assert [ion is not None for ion in ions] == named


def only(peptide: Peptide, ions: set[tuple[str, int]]) -> list[tuple[int, int]]:
    """Blocks when only these ions of charge 1 have a peak."""
    mz = np.array([f.mz for f in fragments(peptide) if (f.series, f.ordinal) in ions])
    return blocks(mz, np.ones(mz.size), peptide, 1)


@pytest.mark.parametrize(
    ("text", "ions", "marked", "supported", "other"),
    [
        ("SEQK", {("b", 1), ("y", 2), ("y", 1)}, "SEQK", (1, 1, 1, 1), "3:Q=AG"),
        ("SEHK", {("y", 2), ("y", 1)}, "(?SE)HK", (0, 0, 1, 1), "1-2:SE=DT"),
        ("LNK", {("b", 1), ("b", 2)}, "JNK", (1, 1, 1), "2:N=GG"),
        ("GGK", {("y", 1)}, "(?GG)K", (0, 0, 1), "1-2:GG=N"),
        ("N[Deamidated]K", {("y", 1)}, "N[Deamidated]K", (1, 1), "1:N[Deamidated]=D"),
        ("[Acetyl]-SLM[Oxidation]K", set(), "[Acetyl]-(?SJM[Oxidation]K)", (0, 0, 0, 0), ""),
    ],
)
def test_what_a_spectrum_leaves_open_is_told(text, ions, marked, supported, other) -> None:
    peptide = Peptide.parse(text)
    found = only(peptide, ions)
    assert ambiguous(peptide, found) == marked
    assert support(found) == supported
    assert alternatives(peptide, found) == other


RESIDUES = [token for token, row in residue_table().items() if not row.n_terminal]


@given(st.lists(st.sampled_from(RESIDUES), min_size=2, max_size=12), st.data())
def test_blocks_tile_the_peptide_and_alternatives_weigh_the_same(tokens, data) -> None:
    peptide = Peptide(tuple(tokens))
    every = [(f.series, f.ordinal) for f in fragments(peptide)]
    found = only(peptide, set(data.draw(st.lists(st.sampled_from(every)))))
    assert [row for begin, end in found for row in range(begin, end)] == list(range(len(tokens)))
    assert len(support(found)) == len(tokens)
    for part in filter(None, alternatives(peptide, found).split(";")):
        own, others = part.partition(":")[2].split("=", 1)
        for other in others.split("|"):
            difference = Peptide.parse(own).mass_udalton - Peptide.parse(other).mass_udalton
            assert abs(difference) <= 5_000
