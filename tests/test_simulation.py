"""Simulation, rendering, noise and the ions they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tinynovo.errors import InputError
from tinynovo.ions import NO_TOKEN, TOKENS, B, Ions, Precursors, Y, markers, mz_of
from tinynovo.noise import NoiseBank, explained, invented_noise
from tinynovo.peptide import Peptide, fragments
from tinynovo.rendering import SimulationOptions
from tinynovo.simulation import IonTable, random_peptides, simulate
from tinynovo.spectrum import Spectrum

CLEAN = SimulationOptions.clean()

# PEPTIDE, from the fragment tables that every textbook and calculator prints.
PEPTIDE_B = [98.0600, 227.1026, 324.1554, 425.2031, 538.2871, 653.3141]
PEPTIDE_Y = [148.0604, 263.0874, 376.1714, 477.2191, 574.2719, 703.3145]


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def one(text: str, charge: int = 2, options: SimulationOptions = CLEAN, seed: int = 7) -> Spectrum:
    return simulate([Peptide.parse(text)], [charge], options, rng(seed))[0]


def but(**changes: object) -> SimulationOptions:
    """The clean settings with some of them changed."""
    return SimulationOptions.model_validate(CLEAN.model_dump() | changes)


def ion_mz(text: str, series: int, ordinal: int, charge: int = 1, loss: int = 0) -> float:
    precursors = Precursors.of([Peptide.parse(text)], [3])
    numbers = (np.array([value]) for value in (0, series, ordinal, charge, loss))
    ions = Ions(*numbers, np.ones(1))
    return float(mz_of(ions.mass(precursors), ions.charge)[0])


def has(spectrum: Spectrum, mz: float, tolerance: float = 5e-4) -> bool:
    return bool(np.abs(spectrum.mz - mz).min() < tolerance)


# ---- physics


def test_fragments_are_protonated() -> None:
    assert ion_mz("PEPTIDE", B, 2) == pytest.approx(227.1026, abs=1e-4)
    assert ion_mz("PEPTIDE", Y, 1) == pytest.approx(148.0604, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "series", "ordinal", "charge", "loss", "expected"),
    [
        ("PEPTIDE", Y, 6, 2, 0, 352.1609),
        ("PEPTIDE", B, 2, 1, 7, 199.1077),  # a2: b2 - CO
        ("PEPTIDE", Y, 1, 1, 1, 130.0499),  # y1 - H2O
        ("SAMPLEK", Y, 1, 1, 0, 147.1128),
        ("SAMPLEK", Y, 1, 1, 2, 130.0863),  # y1 - NH3
        ("SAMPLER", Y, 1, 1, 0, 175.1190),
        ("[Acetyl]-SAMPLER", B, 1, 1, 0, 130.0499),
        ("[TMT6plex]-SAMPLEK[TMT6plex]", Y, 1, 1, 0, 376.2757),
        ("[TMT6plex]-GK[TMT6plex]", B, 1, 1, 0, 287.1917),
        ("S[Phospho]K", B, 1, 1, 3, 70.0287),  # phosphoserine less phosphoric acid
    ],
)
def test_ions_have_literal_mz(
    text: str, series: int, ordinal: int, charge: int, loss: int, expected: float
) -> None:
    assert ion_mz(text, series, ordinal, charge, loss) == pytest.approx(expected, abs=1.5e-4)


def test_markers_have_literal_mz() -> None:
    peptides = [Peptide.parse(text) for text in ("FK", "YR", "HK", "WK", "[TMT6plex]-FF")]
    row, mz, _ = markers(Precursors.of(peptides, [2] * 5))
    found = [set(np.round(mz[row == i], 3)) for i in range(5)]
    assert {120.081, 129.102, 101.107} == found[0]
    assert {136.076, 129.113, 112.087} == found[1]
    assert 110.071 in found[2]
    assert 159.092 in found[3]
    assert {126.128, 131.138, 230.170} <= found[4]


# ---- simulate


def test_clean_spectrum_of_a_known_peptide() -> None:
    spectrum = one("PEPTIDE")
    assert spectrum.mz == pytest.approx(sorted(PEPTIDE_B + PEPTIDE_Y), abs=1e-4)
    assert spectrum.precursor_mz == pytest.approx(400.6872, abs=1e-4)
    assert spectrum.precursor_charge == 2
    assert spectrum.peptide == "PEPTLDE"
    assert spectrum.intensity.max() == 1.0


residues = st.sampled_from([token for token in TOKENS if not token.endswith("]-")])
starts = st.sampled_from(["", *(token for token in TOKENS if token.endswith("]-"))])


@given(starts, st.lists(residues, min_size=2, max_size=32), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_every_clean_peak_is_a_b_or_y_of_the_label(
    start: str, tokens: list[str], charge: int
) -> None:
    peptide = Peptide((*([start] if start else []), *tokens))
    (spectrum,) = simulate([peptide], [charge], CLEAN, rng())
    exact = sorted(ion.mz for ion in fragments(Peptide.parse(spectrum.peptide)))
    assert spectrum.mz.size == 2 * (len(tokens) - 1)
    assert spectrum.mz == pytest.approx(exact, abs=1e-5)


def test_random_peptides_and_their_clean_spectra_agree() -> None:
    options = SimulationOptions(min_length=6, max_length=12, tryptic=1.0)
    peptides = random_peptides(1500, rng(), options)
    spectra = simulate(peptides, [2] * 1500, CLEAN, rng())
    assert [s.index for s in spectra] == list(range(1500))
    for peptide, spectrum in zip(peptides, spectra, strict=True):
        assert 6 <= len(peptide) <= 12
        assert peptide.residues[-1] in "KR"
        assert "C" not in peptide.tokens
        assert spectrum.peptide == peptide.proforma
        assert spectrum.mz.size == 2 * (len(peptide) - 1)


def test_frequencies_are_natural_or_uniform() -> None:
    def share(letter: str, natural: bool) -> float:
        options = SimulationOptions(tryptic=0.0, natural=natural, modifications={})
        peptides = random_peptides(2000, rng(), options)
        text = "".join(peptide.sequence for peptide in peptides)
        return text.count(letter) / len(text)

    assert share("W", True) == pytest.approx(0.011, abs=0.003)
    assert share("L", True) == pytest.approx(0.156, abs=0.008)
    assert share("W", False) == pytest.approx(1 / 19, abs=0.005)


def test_modifications_come_as_often_as_asked() -> None:
    odds = {"M[Oxidation]": 0.5, "[Acetyl]-": 0.2, "[Ammonia-loss]-": 1.0}
    peptides = random_peptides(4000, rng(), SimulationOptions(modifications=odds, tryptic=0.0))
    met = [token for peptide in peptides for token in peptide.residues if token[0] == "M"]
    assert np.mean([token == "M[Oxidation]" for token in met]) == pytest.approx(0.5, abs=0.04)
    starts = [peptide.tokens[0] for peptide in peptides]
    assert starts.count("[Acetyl]-") / 4000 == pytest.approx(0.2, abs=0.03)
    lost = [peptide for peptide in peptides if peptide.tokens[0] == "[Ammonia-loss]-"]
    assert {peptide.residues[0] for peptide in lost} == {"Q"}


@pytest.mark.parametrize("options", [CLEAN, SimulationOptions()])
def test_same_seed_gives_identical_spectra(options: SimulationOptions) -> None:
    def twice() -> list[Spectrum]:
        source = rng(3)
        return simulate(random_peptides(50, source, options), [2] * 50, options, source)

    for first, second in zip(twice(), twice(), strict=True):
        assert first.peptide == second.peptide
        assert first.precursor_mz == second.precursor_mz
        assert np.array_equal(first.mz, second.mz)
        assert np.array_equal(first.intensity, second.intensity)


def test_another_seed_gives_another_spectrum() -> None:
    noisy = SimulationOptions()
    first, second = (one("SAMPLEPEPTIDEK", options=noisy, seed=seed) for seed in (1, 2))
    assert not np.array_equal(first.mz, second.mz)


def test_dropout_drops_its_share() -> None:
    peptides = random_peptides(500, rng(), SimulationOptions())
    kept = sum(s.mz.size for s in simulate(peptides, [2] * 500, but(dropout=0.3), rng()))
    whole = sum(2 * (len(peptide) - 1) for peptide in peptides)
    assert kept / whole == pytest.approx(0.7, abs=0.02)


def test_noise_peaks_are_as_many_as_asked() -> None:
    peptides = [Peptide.parse("SAMPLEPEPTIDEK")] * 400
    spectra = simulate(peptides, [2] * 400, but(noise_peaks=40.0), rng())
    assert np.mean([s.mz.size for s in spectra]) == pytest.approx(26 + 40, abs=1.5)


def test_two_protons_need_a_precursor_with_two() -> None:
    double = but(doubly_charged=True)
    assert one("PEPTIDE", 1, double).mz.size == 12
    spectrum = one("PEPTIDE", 2, double)
    assert spectrum.mz.size == 24
    assert has(spectrum, 352.1609)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"isotopes": 1.0}, 148.0604 + 1.00335),
        ({"losses": 1.0}, 148.0604 - 18.0106),
        ({"a_ions": 1.0}, 227.1026 - 27.9949),
        ({"inner": 1.0}, 328.1503),  # EPT
        ({"inner": 1.0}, 199.1077 - 27.9949),  # PT without CO
        ({"inner": 1.0, "losses": 1.0}, 328.1503 - 18.0106),
        ({"losses": 1.0}, 425.2031 - 2 * 18.0106),  # PEPT, of whose residues two lose water
        ({"losses": 1.0}, 227.1026 - 27.9949 - 17.0265),
        ({"losses": 1.0}, 227.1026 - 27.9949 - 18.0106),
        ({"precursor": 1.0}, 400.6872),
    ],
)
def test_each_satellite_has_its_switch(change: dict[str, float], expected: float) -> None:
    assert not has(one("PEPTIDE"), expected)
    assert has(one("PEPTIDE", options=but(**change)), expected)


@pytest.mark.parametrize("mz", [148.0604, 328.1503])  # E as y ion, EPT of the middle
def test_isotopes_pass_as_far_as_a_precursor_is_isolated(mz: float) -> None:
    peptides = [Peptide.parse("PEPTIDE")] * 500
    spectra = simulate(peptides, [2] * 500, but(isotopes=1.0, inner=1.0), rng())
    for isotope, share in ((1, 0.8), (2, 0.25)):
        seen = np.mean([has(spectrum, mz + isotope * 1.00335) for spectrum in spectra])
        assert seen == pytest.approx(share, abs=0.06)


def test_only_residues_that_can_lose_it_do() -> None:
    """EK loses water and ammonia, EE has no ammonia to lose, and LK no water."""
    losing = but(losses=1.0)
    assert has(one("AAEK", options=losing), 276.1554 - 18.0106 - 17.0265)
    assert not has(one("AAEE", options=losing), 277.1030 - 18.0106 - 17.0265)
    assert not has(one("AALK", options=losing), 260.1969 - 18.0106)


def test_immonium_ions_have_their_switch() -> None:
    assert not has(one("SAFPLEK"), 120.0808)
    assert has(one("SAFPLEK", options=but(immonium=1.0)), 120.0808)


def test_phosphopeptides_lose_phosphoric_acid_and_others_do_not() -> None:
    losing = but(losses=1.0)
    assert has(one("AAS[Phospho]AAK", options=losing), ion_mz("AAS[Phospho]AAK", B, 3, 1, 3))
    assert not has(one("AASAAK", options=losing), ion_mz("AASAAK", B, 3, 1, 3))


def test_errors_have_the_size_that_was_asked() -> None:
    peptides = [Peptide.parse("SAMPLEPEPTIDEK")] * 600
    exact = one("SAMPLEPEPTIDEK")
    assert exact.precursor_mz is not None
    options = but(shift_ppm=4.0, peak_ppm=2.0, precursor_ppm=5.0)
    spectra = simulate(peptides, [2] * 600, options, rng())
    error = np.array([(s.mz / exact.mz - 1) * 1e6 for s in spectra])
    assert error.mean(1).std() == pytest.approx(4.0, rel=0.1)
    assert (error - error.mean(1)[:, None]).std() == pytest.approx(2.0, rel=0.1)
    precursor = np.array([(s.precursor_mz or 0) / exact.precursor_mz - 1 for s in spectra]) * 1e6
    assert precursor.std() == pytest.approx(5.0, rel=0.1)


def test_precursors_are_one_or_two_isotopes_off_as_often_as_asked() -> None:
    peptides = [Peptide.parse("PEPTIDE")] * 2000
    spectra = simulate(peptides, [2] * 2000, but(isotope_error=0.5), rng())
    off = np.array([(s.precursor_mz or 0) - 400.6872 for s in spectra]) * 2 / 1.00335
    assert np.abs(off - np.rint(off)).max() < 1e-3
    assert set(np.rint(off)) == {0, 1, 2}
    assert (off > 0.5).mean() == pytest.approx(0.5, abs=0.04)


def test_rounding_is_to_a_hundredth() -> None:
    spectrum = one("PEPTIDE", options=but(rounded=1.0))
    assert spectrum.mz * 100 == pytest.approx(np.rint(spectrum.mz * 100), abs=1e-6)
    assert not np.allclose(one("PEPTIDE").mz * 100, np.rint(one("PEPTIDE").mz * 100), atol=1e-6)


def test_close_peaks_merge_into_their_sum() -> None:
    merged = one("GAAG", options=but(resolution_ppm=10.0))  # b2 and y's differ; all stay
    assert merged.mz.size == 6
    peptides = [Peptide.parse("SAMPLEPEPTIDEK")]
    (spectrum,) = simulate(peptides, [2], SimulationOptions(resolution_ppm=20.0, rounded=0), rng())
    assert (np.diff(spectrum.mz) > 0).all()
    assert (np.diff(spectrum.mz) / spectrum.mz[1:] * 1e6 > 19.0).mean() > 0.98


def test_only_the_most_intense_peaks_are_kept() -> None:
    whole, few = one("PEPTIDE"), one("PEPTIDE", options=but(max_peaks=5))
    strongest = np.sort(np.argsort(-whole.intensity)[:5])
    assert np.array_equal(few.mz, whole.mz[strongest])


def test_proline_effect_and_y_over_b() -> None:
    spectrum = one("AAAAAPAAAAAK")
    assert spectrum.mz[spectrum.intensity.argmax()] == pytest.approx(
        ion_mz("AAAAAPAAAAAK", Y, 7), abs=1e-4
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"modifications": {"M[Oxydation]": 0.1}},
        {"modifications": {"M": 0.1}},
        {"conversions": {"M[Oxidation]": 1.5}},
        {"min_length": 9, "max_length": 8},
        {"noise": 3},
    ],
)
def test_options_refuse_nonsense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulationOptions.model_validate(wrong)


# ---- annotated ions


def table(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    path = tmp_path / "ions.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def row(
    proforma: str, charge: int, ions: list[tuple[int, int, int, int, int]]
) -> dict[str, object]:
    names = ("series", "ordinal", "ion_charge", "loss", "intensity")
    lists = {name: [ion[place] for ion in ions] for place, name in enumerate(names)}
    return {"source": "test", "proforma": proforma, "precursor_charge": charge, **lists}


ROWS = [
    row("PEPTIDE", 2, [(0, 2, 1, 0, 255), (1, 1, 1, 0, 102), (1, 6, 2, 0, 51)]),
    row("SAMPLEK", 3, [(1, 1, 1, 0, 255), (1, 1, 1, 2, 128)]),
    row("M[Oxidation]AKR", 2, [(0, 3, 1, 0, 255), (1, 3, 1, 0, 200)]),
]


def test_annotated_ions_are_rendered_at_exact_mz(tmp_path: Path) -> None:
    ions = IonTable.load(table(tmp_path, ROWS))
    second, first = ions.render([1, 0], CLEAN, rng())
    assert first.mz == pytest.approx([148.0604, 227.1026, 352.1609], abs=1e-4)
    assert first.intensity == pytest.approx([0.16, 1.0, 0.04], abs=1e-6)  # (stored / 255)^2
    assert (first.peptide, first.precursor_charge, first.index) == ("PEPTLDE", 2, 1)
    assert second.mz == pytest.approx([130.0863, 147.1128], abs=1e-4)


def test_excluded_peptides_never_appear(tmp_path: Path) -> None:
    path = table(tmp_path, [*ROWS, row("MAKR", 3, [(0, 1, 1, 0, 255)])])
    ions = IonTable.load(path, exclude={"MAKR", "PEPTLDE"})
    labels = {s.peptide for s in ions.render(range(len(ions)), CLEAN, rng())}
    assert labels == {"SAMPLEK"}
    with pytest.raises(InputError, match="no peptide left"):
        IonTable.load(path, exclude={"MAKR", "PEPTLDE", "SAMPLEK"})


def test_annotated_losses_are_not_invented_again(tmp_path: Path) -> None:
    ions = IonTable.load(table(tmp_path, ROWS))
    plain, annotated = ions.render([0, 1], but(losses=1.0), rng())
    assert plain.mz.size > 3
    assert annotated.mz.size == 2


def test_tmt_tags_the_start_and_every_lysine(tmp_path: Path) -> None:
    ions = IonTable.load(table(tmp_path, ROWS))
    (tagged,) = ions.render([1], but(tmt=1.0, immonium=1.0), rng())
    assert tagged.peptide == "[TMT6plex]-SAMPLEK[TMT6plex]"
    assert has(tagged, 147.1128 + 229.1629)
    for reporter in (126.1277, 127.1248, 128.1344, 129.1315, 130.1411, 131.1382):
        assert has(tagged, reporter)
    (tagged,) = ions.render([1], but(tmt=1.0, precursor=1.0), rng())
    complements = (
        3 * (tagged.precursor_mz or 0) - np.array([126.127726, 131.138180]) - 27.9949
    ) / 2
    assert all(has(tagged, mz, 2e-3) for mz in complements)


def test_conversions_modify_annotated_peptides(tmp_path: Path) -> None:
    ions = IonTable.load(table(tmp_path, ROWS))
    odds = {"M[Oxidation]": 1.0, "[Acetyl]-": 1.0}
    labels = [s.peptide for s in ions.render([1, 2], but(conversions=odds), rng())]
    assert labels == ["[Acetyl]-SAM[Oxidation]PLEK", "[Acetyl]-M[Oxidation]AKR"]


def test_rendering_twice_from_one_seed_is_identical(tmp_path: Path) -> None:
    ions = IonTable.load(table(tmp_path, ROWS))
    bank = NoiseBank.build(ions.render([0, 1, 2], SimulationOptions(), rng()))
    twice = [ions.render([0, 1, 2] * 20, SimulationOptions(), rng(5), bank) for _ in range(2)]
    for first, second in zip(*twice, strict=True):
        assert np.array_equal(first.mz, second.mz)
        assert np.array_equal(first.intensity, second.intensity)


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InputError, match="annotated ions"):
        IonTable.load(path)
    path.write_text("no parquet")
    with pytest.raises(InputError, match="annotated ions"):
        IonTable.load(path)
    with pytest.raises(InputError, match="annotated ions"):
        IonTable.load(tmp_path / "missing.parquet")


# ---- noise


def labelled(text: str, extra: list[float], strength: float = 0.1) -> Spectrum:
    clean = one(text)
    mz = np.concatenate([clean.mz, extra])
    intensity = np.concatenate([clean.intensity, np.full(len(extra), strength)])
    order = np.argsort(mz)
    return Spectrum(mz[order], 5 * intensity[order], 400.0, 2, peptide=text)


@pytest.mark.parametrize(
    ("mz", "known"),
    [
        (148.0604 + 0.01, True),
        (148.0604 + 1.0034, True),
        (148.0604 - 18.0106, True),
        (227.1026 - 27.9949, True),
        (227.1026 - 27.9949 - 17.0265, True),
        (425.2031 - 2 * 18.0106, True),
        (328.1503, True),
        (328.1503 - 18.0106, True),
        (400.6872, True),
        (352.1609, True),
        (150.5, False),
        (148.0604 + 0.04, False),
        (600.9, False),
    ],
)
def test_what_a_label_explains(mz: float, known: bool) -> None:
    spectrum = Spectrum(np.array([mz]), np.ones(1), 400.6872, 2, peptide="PEPTIDE")
    precursors = Precursors.of([Peptide.parse("PEPTIDE")], [2])
    assert explained([spectrum], precursors)[0].tolist() == [known]


def test_bank_holds_only_what_the_label_does_not_explain() -> None:
    extra = [150.5, 299.9, 600.9]
    bank = NoiseBank.build([labelled("PEPTIDE", extra), labelled("SAMPLEK", [])])
    assert len(bank) == 2
    assert bank.mass == pytest.approx([774.3946, 799.3600], abs=1e-3)
    assert bank.mz == pytest.approx(extra)
    assert bank.intensity == pytest.approx([0.1] * 3)
    assert np.diff(bank.sets).tolist() == [0, 3]


def test_noise_sets_are_drawn_whole_and_moved_by_nucleons() -> None:
    extra = [150.5, 299.9, 600.9]
    bank = NoiseBank.build([labelled("PEPTIDE", extra)])
    mass = np.linspace(700.0, 1600.0, 50)
    drawn, floor = bank.draw(mass, rng())
    assert np.bincount(drawn.row).tolist() == [3] * 50
    assert drawn.intensity == pytest.approx(np.full(150, 0.1))
    assert floor == pytest.approx(np.full(50, bank.floor[0]))
    moved = (drawn.mz - np.tile(extra, 50)) / 1.000495
    assert np.abs(moved - np.rint(moved)).max() < 1e-6
    assert (moved.reshape(50, 3)[:, 0] == 0).all()  # below 260 Th: stays
    assert drawn.mz[-1] == pytest.approx(600.9 * 1600 / 799.36, rel=0.08)


def test_rendered_spectra_carry_the_bank_s_noise(tmp_path: Path) -> None:
    ions = IonTable.load(table(tmp_path, ROWS[:1]))
    bank = NoiseBank.build([labelled("PEPTIDE", [150.5, 600.9])])
    (spectrum,) = ions.render([0], but(min_mz=100.0), rng(), bank)
    assert has(spectrum, 150.5)
    assert spectrum.intensity[np.abs(spectrum.mz - 150.5).argmin()] == pytest.approx(0.1)
    assert spectrum.mz.size == 5


def test_a_bank_needs_labelled_spectra() -> None:
    with pytest.raises(InputError, match="no labelled spectrum"):
        NoiseBank.build([Spectrum(np.ones(1), np.ones(1), 400.0, 2)])


def test_invented_noise_may_be_none() -> None:
    assert invented_noise(np.array([900.0, 1200.0]), 0.0, rng()).mz.size == 0


# ---- ions


def test_padding_changes_nothing() -> None:
    short = Precursors.of([Peptide.parse("PEPTIDE")], [2])
    both = Precursors.of(
        [Peptide.parse("PEPTIDE"), Peptide.parse("[Acetyl]-SAMPLEPEPTIDEK")], [2, 2]
    )
    assert (both.ids[0, 7:] == NO_TOKEN).all()
    assert both.mass[0] == short.mass[0] == Peptide.parse("PEPTIDE").mass_udalton
    assert both.length.tolist() == [7, 14]
    assert both.modified.tolist() == [0, 1]
    assert both.labels == ["PEPTLDE", "[Acetyl]-SAMPLEPEPTLDEK"]


def test_neutral_fragments_weigh_a_proton_less() -> None:
    """The mistake of an old run, on request: everything at its neutral mass."""
    right, wrong = one("PEPTIDE"), one("PEPTIDE", options=but(neutral=True))
    assert wrong.mz == pytest.approx(right.mz - 1.00728, abs=1e-4)
    assert wrong.precursor_mz == right.precursor_mz
