"""TMT6plex weighs 229.162932 Da; m/z here are worked out from it and the residues by hand."""

from __future__ import annotations

import numpy as np
import pytest
from handmade import ladder
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.peptide import Peptide, fragments
from tinynovo.spectrum import Spectrum
from tinynovo.transfer import TAG, remove_tags, untagged

TAGGED = "[TMT6plex]-GAK[TMT6plex]"


def spectrum_of(*peaks: tuple[float, float], peptide: str = TAGGED, charge: int = 2) -> Spectrum:
    mz, intensity = (np.array(column) for column in zip(*peaks, strict=True))
    return Spectrum(mz, intensity, 500.0, charge, peptide=peptide, title="kept", index=7)


def test_the_tag_weighs_what_unimod_says():
    assert pytest.approx(229.162932, abs=1e-6) == TAG


def test_untagged_takes_only_tags():
    text = "[TMT6plex]-GM[Oxidation]K[TMT6plex]C[Carbamidomethyl]K[TMT6plex]"
    assert untagged(Peptide.parse(text)).proforma == "GM[Oxidation]KC[Carbamidomethyl]K"
    assert untagged(Peptide.parse("[Acetyl]-GAK")).proforma == "[Acetyl]-GAK"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (287.191672, 58.028740),  # b1: one tag
        (358.228786, 129.065854),  # b2: one tag
        (376.275736, 147.112804),  # y1: the tag of lysine
        (447.312850, 218.149918),  # y2
        (188.641506, 74.060040),  # y1, 2+: half a tag
        (358.249187, 129.086255),  # y1 without ammonia
        (377.279091, 148.116159),  # y1, first isotope
    ],
)
def test_an_explained_peak_moves_by_its_tags(before: float, after: float):
    out = remove_tags(spectrum_of((before, 2.0)))
    assert out.mz.tolist() == pytest.approx([after], abs=2e-5)
    assert out.intensity.tolist() == [2.0]


def test_a_fragment_with_two_tags_moves_by_two():
    """b3 of K[TMT] in the middle: the N-terminal tag and that of the lysine."""
    peptide = "[TMT6plex]-GAK[TMT6plex]G"
    b3 = next(i.mz for i in fragments(Peptide.parse(peptide), series="b") if i.ordinal == 3)
    (mz,) = remove_tags(spectrum_of((b3, 1.0), peptide=peptide)).mz
    assert b3 == pytest.approx(715.486681, abs=1e-5)
    assert mz == pytest.approx(715.486681 - 2 * 229.162932, abs=1e-5)


def test_what_the_label_does_not_explain_stays():
    out = remove_tags(spectrum_of((333.333, 1.0), (444.444, 3.0)))
    assert out.mz.tolist() == [333.333, 444.444]
    assert out.intensity.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("reporter", [126.1277, 127.1248, 129.1378, 131.1382, 230.1702])
def test_reporter_ions_go(reporter: float):
    out = remove_tags(spectrum_of((reporter, 9.0), (300.0, 1.0)))
    assert out.mz.tolist() == [300.0]


def test_peaks_are_ascending_again_and_the_rest_is_kept():
    out = remove_tags(spectrum_of((250.0, 1.0), (376.275736, 2.0)))
    assert out.mz.tolist() == pytest.approx([147.112804, 250.0], abs=2e-5)
    assert out.intensity.tolist() == [2.0, 1.0]
    assert (out.title, out.index, out.precursor_charge) == ("kept", 7, 2)
    assert out.peptide == "GAK"
    assert out.precursor_mz == pytest.approx(274.164104 / 2 + 1.007276, abs=1e-5)


def test_a_spectrum_without_tags_keeps_its_peaks():
    given_spectrum = ladder("SAMPLER")
    out = remove_tags(given_spectrum)
    assert out.mz.tolist() == given_spectrum.mz.tolist()
    assert out.peptide == "SAMPLER"


@given(st.text("GASPVTLNDEMHFRYWK", min_size=2, max_size=12))
def test_the_ladder_of_a_tagged_peptide_becomes_that_of_the_bare_one(sequence: str):
    """Peaks that ions of both ends explain at once, or that look like reporters, are left out."""
    tagged = "[TMT6plex]-" + sequence.replace("K", "K[TMT6plex]")
    ions = fragments(Peptide.parse(tagged), charges=(1, 2))
    bare = fragments(Peptide.parse(sequence), charges=(1, 2))
    out = remove_tags(
        spectrum_of(*[(ion.mz, 1.0) for ion in sorted(ions, key=lambda i: i.mz)], peptide=tagged)
    )
    wanted = np.array([ion.mz for ion in bare])
    hit = [np.abs(wanted - mz).min() < 0.02 for mz in out.mz]
    assert np.mean(hit) >= 0.8
    assert out.peptide == Peptide.parse(sequence).proforma
