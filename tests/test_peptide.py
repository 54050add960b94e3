from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyteomics import mass as independent

from tinynovo.errors import InputError
from tinynovo.masses import PROTON, residue_table
from tinynovo.peptide import Peptide, fragments

TABLE = residue_table()
RESIDUES = [token for token, row in TABLE.items() if not row.n_terminal]
N_TERMINAL = [token for token, row in TABLE.items() if row.n_terminal]

peptides = st.builds(
    lambda before, residues: Peptide((*before, *residues)),
    st.lists(st.sampled_from(N_TERMINAL), max_size=1),
    st.lists(st.sampled_from(RESIDUES), min_size=1, max_size=32),
)


def protonated(text: str, charge: int = 1) -> float:
    return Peptide.parse(text).mass_udalton / 1e6 / charge + PROTON


def mz(text: str, series: str, charge: int = 1, loss: str = "") -> list[float]:
    ions = fragments(Peptide.parse(text), (charge,), series, (loss,))
    return [ion.mz for ion in ions]


# ---- masses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # [M+H]+ of the calibration standards of MALDI instruments; makers differ by half a mDa.
        ("RPPGFSP", 757.3997),  # bradykinin 1-7
        ("DRVYIHPF", 1046.5423),  # angiotensin II
        ("DRVYIHPFHL", 1296.6853),  # angiotensin I
        ("EGVNDNEEGFFSAR", 1570.6774),  # [Glu1]-fibrinopeptide B
        ("DRVYIHPFHLLVYS", 1758.9332),  # renin substrate
        ("SYSMEHFRWGKPVGKKR", 2093.0868),  # ACTH 1-17
        ("RPVKVYPNGAEDESAEAFPLEF", 2465.1990),  # ACTH 18-39
    ],
)
def test_calibration_standards(text: str, expected: float) -> None:
    assert protonated(text) == pytest.approx(expected, abs=7e-4)


def test_the_lock_mass_of_glu_fibrinopeptide() -> None:
    # [M+2H]2+ 785.8421, in use as lock mass.
    assert protonated("EGVNDNEEGFFSAR", 2) == pytest.approx(785.8421, abs=1e-4)


@given(peptides)
def test_masses_against_pyteomics(peptide: Peptide) -> None:
    added = sum(TABLE[token].mass for token in peptide.tokens if TABLE[token].modification)
    expected = independent.fast_mass(peptide.sequence) + added
    assert peptide.mass_udalton / 1e6 == pytest.approx(expected, abs=1e-4)
    assert isinstance(peptide.mass_udalton, int)


# ---- fragments ----------------------------------------------------------------------------------


def test_fragments_of_peptide() -> None:
    # PEPTIDE, the example of every fragment ion calculator (Protein Prospector MS-Product).
    b = [98.0600, 227.1026, 324.1554, 425.2031, 538.2871, 653.3141]
    y = [148.0604, 263.0874, 376.1714, 477.2191, 574.2719, 703.3145]
    assert mz("PEPTIDE", "b") == pytest.approx(b, abs=1e-4)
    assert mz("PEPTIDE", "y") == pytest.approx(y, abs=1e-4)
    assert mz("PEPTIDE", "a")[:2] == pytest.approx([70.0651, 199.1077], abs=1e-4)


def test_fragments_of_glu_fibrinopeptide() -> None:
    # The y series by which time-of-flight instruments are calibrated.
    y = [
        *(175.1190, 246.1561, 333.1881, 480.2565, 627.3249, 684.3464, 813.3890),
        *(942.4316, 1056.4745, 1171.5014, 1285.5444, 1384.6128, 1441.6343),
    ]
    assert mz("EGVNDNEEGFFSAR", "y") == pytest.approx(y, abs=2e-4)


@pytest.mark.parametrize(
    ("text", "series", "ordinal", "charge", "expected"),
    [
        # By hand from residue masses: sum + 18.010565 (y) + modifications + z * 1.007276, over z.
        # K 128.094963 + 229.162932 + 18.010565 + 1.007276
        ("AK[TMT6plex]", "y", 1, 1, 376.2757),
        # TMT 229.162932 + A 71.037114 + 1.007276
        ("[TMT6plex]-AK", "b", 1, 1, 301.2073),
        # Acetyl 42.010565 + S 87.032028 + 1.007276
        ("[Acetyl]-SK", "b", 1, 1, 130.0499),
        # G 57.021464 + C 103.009185 + 57.021464 + 1.007276
        ("GC[Carbamidomethyl]K", "b", 2, 1, 218.0594),
        # A 71.037114 + M 131.040485 + 15.994915 + 1.007276
        ("AM[Oxidation]K", "b", 2, 1, 219.0798),
        # S 87.032028 + 79.966331 + K 128.094963 + 18.010565 + 2 * 1.007276, over 2
        ("GS[Phospho]K", "y", 2, 2, 157.5592),
        # N 114.042927 + 0.984016 + 1.007276
        ("N[Deamidated]K", "b", 1, 1, 116.0342),
        # Q 128.058578 - 17.026549 + 1.007276
        ("[Ammonia-loss]-QK", "b", 1, 1, 112.0393),
        # R 156.101111 + 18.010565 + 2 * 1.007276, over 2
        ("GR", "y", 1, 2, 88.0631),
    ],
)
def test_fragments_by_hand(
    text: str, series: str, ordinal: int, charge: int, expected: float
) -> None:
    ions = fragments(Peptide.parse(text), (1, 2), series)
    (ion,) = [ion for ion in ions if ion.ordinal == ordinal and ion.charge == charge]
    assert ion.series == series
    assert ion.mz == pytest.approx(expected, abs=1e-4)


@given(peptides, st.integers(1, 4))
def test_fragments_against_pyteomics(peptide: Peptide, charge: int) -> None:
    ions = fragments(peptide, (charge,), "aby")
    assert len(ions) == 3 * (len(peptide) - 1)
    for ion in ions:
        ends = -ion.ordinal if ion.series == "y" else ion.ordinal
        tokens = peptide.residues[ends:] if ion.series == "y" else peptide.residues[:ends]
        tokens += peptide.tokens[: len(peptide.tokens) - len(peptide)] if ion.series != "y" else ()
        part = "".join(token[0] for token in tokens if token[0] != "[")
        added = sum(TABLE[token].mass for token in tokens if TABLE[token].modification)
        expected = independent.fast_mass(part, ion_type=ion.series, charge=charge)
        assert ion.mz == pytest.approx(expected + added / charge, abs=1e-4)


@given(peptides)
def test_complementary_fragments_add_up(peptide: Peptide) -> None:
    b, y = (
        [ion.mz for ion in fragments(peptide, series="b")],
        [ion.mz for ion in fragments(peptide, series="y")],
    )
    for first, second in zip(b, reversed(y), strict=True):
        whole = peptide.mass_udalton / 1e6 + 2 * PROTON
        assert first + second == pytest.approx(whole, abs=1e-5)


def test_the_order_of_fragments() -> None:
    ions = fragments(Peptide.parse("PEK"), (1, 2), "by", ("", "H2O"))
    assert [(i.series, i.ordinal, i.charge, i.loss) for i in ions] == [
        ("b", 1, 1, ""),
        ("b", 1, 2, ""),
        ("b", 2, 1, ""),
        ("b", 2, 1, "H2O"),
        ("b", 2, 2, ""),
        ("b", 2, 2, "H2O"),
        ("y", 1, 1, ""),
        ("y", 1, 2, ""),
        ("y", 2, 1, ""),
        ("y", 2, 1, "H2O"),
        ("y", 2, 2, ""),
        ("y", 2, 2, "H2O"),
    ]


def test_neutral_losses() -> None:
    # MS-Product: b2-H2O of PEPTIDE 209.0921; y1-NH3 of K 130.0863.
    assert mz("PEPTIDE", "b", loss="H2O")[0] == pytest.approx(209.0921, abs=1e-4)
    assert mz("GK", "y", loss="NH3") == pytest.approx([130.0863], abs=1e-4)
    # b2 of AS[Phospho]: 71.037114 + 166.998359 + 1.007276 - 97.976896
    assert mz("AS[Phospho]G", "b", loss="H3PO4") == pytest.approx([141.0659], abs=1e-4)
    assert mz("ASG", "b", loss="H3PO4") == []
    # Two losses need two sites: b2 (one site) has none, b3 has both.
    both = mz("GSTG", "b", loss="H2O+H2O")
    assert both == pytest.approx([mz("GSTG", "b")[2] - 2 * 18.010565], abs=1e-4)


# ---- spelling -----------------------------------------------------------------------------------


@given(peptides)
def test_proforma_round_trip(peptide: Peptide) -> None:
    again = Peptide.parse(peptide.proforma)
    assert again == peptide
    assert str(again) == peptide.proforma


def by_accession(token: str) -> str:
    row = TABLE[token]
    tag = f"[UNIMOD:{row.unimod}]" if row.modification else ""
    return f"{tag}-" if row.n_terminal else row.residue + tag


def by_mass(token: str) -> str:
    row = TABLE[token]
    tag = f"{row.mass:+.3f}" if row.modification else ""
    return tag if row.n_terminal else row.residue + tag


def by_peaks_mass(token: str) -> str:
    row = TABLE[token]
    tag = f"({row.mass:+.2f})" if row.modification else ""
    return row.residue + tag


@pytest.mark.parametrize("spell", [by_accession, by_mass, by_peaks_mass])
@given(peptide=peptides)
def test_other_spellings_of_the_same(spell: object, peptide: Peptide) -> None:
    assert callable(spell)
    text = "".join(spell(token) for token in peptide.tokens)
    assert Peptide.parse(text) == peptide


@pytest.mark.parametrize(
    ("text", "proforma"),
    [
        ("PEPTIDE", "PEPTLDE"),
        ("peptide", "PEPTLDE"),
        (" PEPTIDE\n", "PEPTLDE"),
        ("PEPTIDE/2", "PEPTLDE"),
        ("JK", "LK"),
        # flanking residues
        ("K.PEPTIDE.R", "PEPTLDE"),
        ("-.PEPTIDEM+15.995.K", "PEPTLDEM[Oxidation]"),
        ("[K].PEPTIDE.[R]", "PEPTLDE"),
        # ProForma
        ("M[U:Oxidation]K", "M[Oxidation]K"),
        ("M[UNIMOD:35]K", "M[Oxidation]K"),
        ("M[U:35]K", "M[Oxidation]K"),
        ("M[+15.9949]K", "M[Oxidation]K"),
        ("M[U:+15.9949]K", "M[Oxidation]K"),
        ("M[Oxidation|+15.9949]K", "M[Oxidation]K"),
        ("[UNIMOD:1]-PEP", "[Acetyl]-PEP"),
        ("[+42.0106]-PEP", "[Acetyl]-PEP"),
        ("[Gln->pyro-Glu]-QPEP", "[Ammonia-loss]-QPEP"),
        # Casanovo
        ("M+15.995K", "M[Oxidation]K"),
        ("C+57.021K", "C[Carbamidomethyl]K"),
        ("+42.011PEPTIDE", "[Acetyl]-PEPTLDE"),
        ("+43.006PEPTIDE", "[Carbamyl]-PEPTLDE"),
        ("-17.027QPEPN+0.984", "[Ammonia-loss]-QPEPN[Deamidated]"),
        ("+229.163PEPTIDEK+229.163", "[TMT6plex]-PEPTLDEK[TMT6plex]"),
        # PEAKS, Novor, DeepNovo
        ("M(+15.99)K", "M[Oxidation]K"),
        ("C(+57.02)K", "C[Carbamidomethyl]K"),
        ("N(+.98)G", "N[Deamidated]G"),
        ("(+42.01)PEPTIDE", "[Acetyl]-PEPTLDE"),
        ("A(+42.01)PEPTIDE", "[Acetyl]-APEPTLDE"),
        ("K(+229.16)(+229.16)PEP", "[TMT6plex]-K[TMT6plex]PEP"),
        ("M(Oxidation)C(Carbamidomethylation)", "M[Oxidation]C[Carbamidomethyl]"),
        # MSFragger, Comet, TPP
        ("M[15.9949]K", "M[Oxidation]K"),
        ("n[42.0106]PEPTIDE", "[Acetyl]-PEPTLDE"),
        ("n[43.0058]PEPTIDE", "[Carbamyl]-PEPTLDE"),
        ("n[43]PEPTIDE", "[Acetyl]-PEPTLDE"),
        ("n[44]PEPTIDE", "[Carbamyl]-PEPTLDE"),
        ("n[230]PEK[357]", "[TMT6plex]-PEK[TMT6plex]"),
        ("M[147]C[160]S[167]", "M[Oxidation]C[Carbamidomethyl]S[Phospho]"),
        ("M[147.0354]K", "M[Oxidation]K"),
        ("C[103]K", "CK"),
        # MaxQuant, InstaNovo
        ("_(ac)PEPM(ox)K_", "[Acetyl]-PEPM[Oxidation]K"),
        ("_(Acetyl (Protein N-term))M(Oxidation (M))K_", "[Acetyl]-M[Oxidation]K"),
        ("S(ph)T(p)K", "S[Phospho]T[Phospho]K"),
    ],
)
def test_spellings_of_the_wild(text: str, proforma: str) -> None:
    assert Peptide.parse(text).proforma == proforma


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no residues"),
        ("[Acetyl]-", "no residues"),
        ("PEPTXDE", "residue 'X' of peptide 'PEPTXDE' is not in the residue table"),
        ("PEPK[Methyl]", "residue 'K[Methyl]'"),
        ("[Methyl]-PEP", r"residue '[Methyl]-'"),
        ("M[+16.5]K", "residue 'M[+16.5]'"),
        # Sulfation weighs 79.9568, phosphorylation 79.9663.
        ("S[+79.9568]K", "residue 'S[+79.9568]'"),
        ("M[]K", "residue 'M[]'"),
        ("M[Oxidation][Oxidation]", "residue 'M[Oxidation][Oxidation]'"),
        ("PEPM(+42.01)", "residue 'M[+42.01]'"),
        ("PEPTIDE-[Amidated]", "cannot read '-[Amidated]'"),
        ("PE[Acetyl]-P", "cannot read '-P'"),
        ("PEP[Acetyl]-", "cannot read '-'"),
        ("-PEP", "cannot read '-PEP'"),
        ("PEP TIDE", "cannot read ' TIDE'"),
        ("M(", "cannot read '('"),
        ("[Phospho]?PEPS", "cannot read '?PEPS'"),
        ("PEPm", "lower and upper case"),
        ("+43.006-17.027PEP", "several N-terminal modifications"),
        ("[Acetyl]-[Acetyl]-PEP", "several N-terminal modifications"),
    ],
)
def test_what_is_no_peptide(text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        Peptide.parse(text)
    assert problem in caught.value.problem


def test_an_unknown_residue_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        Peptide.parse("PEPTUDE")
    for token in TABLE:
        assert token in (caught.value.remedy or "")


@given(st.text(alphabet="PEKM[]()+-.19nOxidation:_/ ", max_size=14))
def test_any_text_is_a_peptide_or_a_complaint(text: str) -> None:
    try:
        peptide = Peptide.parse(text)
    except InputError:
        return
    assert Peptide.parse(peptide.proforma) == peptide
    assert len(peptide) >= 1


def test_the_parts_of_a_peptide() -> None:
    peptide = Peptide.parse("[Acetyl]-PEPM[Oxidation]IK")
    assert peptide.tokens == ("[Acetyl]-", "P", "E", "P", "M[Oxidation]", "L", "K")
    assert peptide.residues == ("P", "E", "P", "M[Oxidation]", "L", "K")
    assert peptide.sequence == "PEPMLK"
    assert len(peptide) == 6
    assert Peptide.parse("PEK").residues == Peptide.parse("PEK").tokens
