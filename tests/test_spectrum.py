from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.reasons import Reason, ReasonCode
from tinynovo.spectrum import Peaks, Preprocessing, Spectrum, preprocess

PLAIN = Preprocessing(min_peaks=1)


def spectrum(
    mz: list[float],
    intensity: list[float],
    precursor_mz: float | None = 400.687,
    precursor_charge: int | None = 2,
) -> Spectrum:
    return Spectrum(np.array(mz), np.array(intensity), precursor_mz, precursor_charge)


def peaks(spectrum: Spectrum, options: Preprocessing = PLAIN) -> Peaks:
    found = preprocess(spectrum, options)
    assert isinstance(found, Peaks)
    return found


def test_peaks_are_sorted_rooted_and_scaled() -> None:
    found = peaks(spectrum([300.25, 100.1, 200.000001], [25.0, 100.0, 4.0]))
    assert found.mz.dtype == np.int64
    assert found.mz.tolist() == [100_100_000, 200_000_001, 300_250_000]
    assert found.intensity.dtype == np.float32
    assert found.intensity.tolist() == pytest.approx([1.0, 0.2, 0.5])
    assert found.precursor_charge == 2


def test_the_precursor_mass() -> None:
    # PEPTIDE: [M+2H]2+ 400.68726, M 799.35997; without water 781.34940.
    found = peaks(spectrum([100.0], [1.0], 400.687258))
    assert found.precursor_mass == pytest.approx(799_359_964, abs=5)
    assert found.residue_mass == pytest.approx(781_349_399, abs=5)
    shifted = found.shifted(1)
    assert found.precursor_mass - shifted.precursor_mass == 1_003_355
    assert shifted.mz is found.mz


def test_complements_weigh_together_what_the_precursor_does() -> None:
    """b2 and y5 of PEPTIDE, 227.1026 and 574.2719, and y5 with two protons, 287.6396."""
    one = peaks(spectrum([227.1026, 500.0, 574.2719], [100.0, 50.0, 25.0], 400.687258))
    assert one.complements == pytest.approx(2 * math.sqrt(0.5), abs=1e-4)
    two = peaks(spectrum([227.1026, 287.6396, 500.0], [100.0, 25.0, 50.0], 400.687258))
    assert two.complements == pytest.approx(math.sqrt(0.5), abs=1e-4)
    assert one.shifted(1).complements == two.shifted(1).complements == 0
    alone = peaks(spectrum([227.1026], [1.0], 400.687258))
    assert alone.complements == 0


def test_what_is_no_peak_is_dropped() -> None:
    mz = [100.0, math.nan, 300.0, 400.0, 500.0, math.inf, 700.0]
    intensity = [1.0, 1.0, 0.0, -5.0, math.nan, 1.0, math.inf]
    found = peaks(spectrum(mz, intensity))
    assert found.mz.tolist() == [100_000_000]


def test_the_range_of_mz_includes_its_ends() -> None:
    options = Preprocessing(min_peaks=1, min_mz=100, max_mz=200)
    found = peaks(spectrum([99.9, 100.0, 200.0, 200.1], [1.0] * 4), options)
    assert found.mz.tolist() == [100_000_000, 200_000_000]


def test_the_precursor_is_removed_before_intensities_are_compared() -> None:
    mz, intensity = [100.0, 200.0, 400.7], [10.0, 1.0, 1000.0]
    options = Preprocessing(min_peaks=1, min_intensity=0.1, remove_precursor_tol=1.0)
    assert peaks(spectrum(mz, intensity), options).mz.tolist() == [100_000_000, 200_000_000]
    options = Preprocessing(min_peaks=1, min_intensity=0.1)
    assert peaks(spectrum(mz, intensity), options).mz.tolist() == [400_700_000]


def test_peaks_out_of_range_set_no_base_peak() -> None:
    options = Preprocessing(min_peaks=1, max_mz=500, min_intensity=0.1)
    found = peaks(spectrum([100.0, 200.0, 600.0], [10.0, 5.0, 1000.0]), options)
    assert found.intensity.tolist() == pytest.approx([1.0, math.sqrt(0.5)])


def test_the_most_intense_peaks_stay() -> None:
    options = Preprocessing(min_peaks=1, max_peaks=2)
    found = peaks(spectrum([100.0, 200.0, 300.0, 400.0], [1.0, 4.0, 3.0, 2.0]), options)
    assert found.mz.tolist() == [200_000_000, 300_000_000]
    equal = peaks(spectrum([300.0, 100.0, 200.0], [1.0, 1.0, 1.0]), options)
    assert equal.mz.tolist() == [100_000_000, 300_000_000]


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"precursor_mz": None}, "no_precursor_mz", "no precursor m/z"),
        ({"precursor_mz": math.nan}, "no_precursor_mz", "no precursor m/z"),
        ({"precursor_charge": None}, "no_charge", "no precursor charge"),
        ({"precursor_charge": 0}, "charge_out_of_range", "precursor charge 0 outside 1..8"),
        ({"precursor_charge": -2}, "charge_out_of_range", "precursor charge -2 outside 1..8"),
        ({"precursor_charge": 20}, "charge_out_of_range", "precursor charge 20 outside 1..8"),
        ({"precursor_mz": 40.0}, "mass_out_of_range", "precursor mass 78.0 Da is no peptide's"),
        ({"precursor_mz": -400.0}, "mass_out_of_range", "precursor mass -802.0 Da is no peptide's"),
        (
            {"mz": np.zeros(0), "intensity": np.zeros(0)},
            "too_few_peaks",
            "0 usable peaks, fewer than 5",
        ),
        (
            {"mz": np.arange(4) + 100.0, "intensity": np.ones(4)},
            "too_few_peaks",
            "4 usable peaks, fewer than 5",
        ),
    ],
)
def test_reasons(changes: dict[str, object], code: str, text: str) -> None:
    good = spectrum([100.0 * i for i in range(1, 7)], [1.0] * 6)
    assert isinstance(preprocess(good, Preprocessing()), Peaks)
    bad = dataclasses.replace(good, **changes)  # type: ignore[arg-type]
    assert preprocess(bad, Preprocessing()) == Reason(ReasonCode(code), text)


def test_a_charge_hypothesis_replaces_the_file() -> None:
    unknown = spectrum([100.0], [1.0], precursor_charge=None)
    found = preprocess(unknown, PLAIN, charge=3)
    assert isinstance(found, Peaks)
    assert found.precursor_charge == 3
    assert found.precursor_mass == pytest.approx((400.687 - 1.007276466621) * 3e6, abs=1)


def test_the_spectrum_stays_as_it_was() -> None:
    given_mz = np.array([300.0, 100.0, 200.0])
    given_intensity = np.array([1.0, 2.0, -3.0])
    preprocess(Spectrum(given_mz, given_intensity, 400.0, 2), PLAIN)
    assert given_mz.tolist() == [300.0, 100.0, 200.0]
    assert given_intensity.tolist() == [1.0, 2.0, -3.0]


numbers = st.floats(-10, 3000) | st.sampled_from([math.nan, math.inf])


@given(
    st.lists(st.tuples(numbers, numbers), max_size=30),
    st.integers(1, 10),
    st.integers(1, 10),
    st.floats(0, 0.5),
)
def test_peaks_keep_their_promises(
    rows: list[tuple[float, float]], max_peaks: int, min_peaks: int, floor: float
) -> None:
    options = Preprocessing(max_peaks=max_peaks, min_peaks=min_peaks, min_intensity=floor)
    mz, intensity = ([row[side] for row in rows] for side in (0, 1))
    found = preprocess(spectrum(mz, intensity), options)
    if isinstance(found, Reason):
        assert found.code == "too_few_peaks"
        return
    assert 1 <= found.mz.size <= max_peaks
    assert found.mz.shape == found.intensity.shape
    assert np.all(np.diff(found.mz) >= 0)
    assert found.mz.min() >= 50_000_000
    assert found.intensity.max() == 1.0
    assert found.intensity.min() ** 2 >= floor - 1e-6
