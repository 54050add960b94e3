from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import KEEP_ALL, cleaned, ladder

from tinynovo.corpus import Corpus, concatenate
from tinynovo.errors import InputError
from tinynovo.peptide import Peptide
from tinynovo.spectrum import Preprocessing
from tinynovo.tokens import FAR, PAD, encode, peak_batch

PEPTIDES = ("GASPVTK", "[Acetyl]-SAMPLER", "PEPTLDEKPEPTLDEK")


def packed(*peptides: str, max_tokens: int = 40, **fields: frozenset[str]) -> Corpus:
    spectra = [ladder(p, index=i, charge=2 + i % 2) for i, p in enumerate(peptides)]
    return Corpus.pack(spectra, KEEP_ALL, max_tokens=max_tokens, **fields)[0]


def test_what_is_packed_comes_out():
    corpus = packed(*PEPTIDES)
    assert len(corpus) == 3
    assert [corpus.peptide(row).proforma for row in range(3)] == list(PEPTIDES)
    assert corpus.lengths.tolist() == [7, 8, 16]
    assert corpus.charge.tolist() == [2, 3, 2]
    assert corpus.mass.tolist() == [Peptide.parse(p).mass_udalton for p in PEPTIDES]


def test_a_batch_is_what_sequencing_would_be_given():
    corpus = packed(*PEPTIDES)
    batch, answer = corpus.batch([2, 0], 0.0, np.random.default_rng(0))
    expected = peak_batch([cleaned(ladder(PEPTIDES[2])), cleaned(ladder(PEPTIDES[0]))])
    assert torch.equal(batch.mz, expected.mz)
    assert torch.equal(batch.charge, expected.charge)
    assert torch.allclose(batch.intensity, expected.intensity, atol=1e-3)
    assert ((batch.residue_mass - expected.residue_mass).abs() <= 2).all()
    assert {batch.mz.dtype, batch.residue_mass.dtype, answer.dtype} == {torch.int64}
    assert batch.intensity.dtype == torch.float32
    assert answer[0].tolist() == encode(Peptide.parse(PEPTIDES[2]))
    assert answer[1].tolist() == encode(Peptide.parse(PEPTIDES[0])) + [PAD] * 9
    assert (batch.mz[1, 25:] == FAR).all()


def test_the_noise_on_precursors_has_the_width_asked_for_and_the_rng_decides():
    corpus = packed(PEPTIDES[0])
    rows = np.zeros(4000, np.int64)
    first, _ = corpus.batch(rows, 5.0, np.random.default_rng(1))
    again, _ = corpus.batch(rows, 5.0, np.random.default_rng(1))
    assert torch.equal(first.residue_mass, again.residue_mass)
    exact, _ = corpus.batch(rows[:1], 0.0, np.random.default_rng(1))
    error = (first.residue_mass - exact.residue_mass).numpy() / corpus.mass[0] * 1e6
    assert error.std() == pytest.approx(5.0, rel=0.1)
    assert abs(error.mean()) < 0.5


def test_the_precursor_of_the_label_counts_not_the_recorded_one():
    off = replace(ladder("GASPVTK"), precursor_mz=500.0)
    corpus, _ = Corpus.pack([off], KEEP_ALL, max_tokens=40)
    assert corpus.mass.tolist() == [Peptide.parse("GASPVTK").mass_udalton]


def test_excluded_peptides_are_left_out_whatever_their_modifications():
    corpus = packed(*PEPTIDES, "SAMPLER", exclude=frozenset({"SAMPLER"}))
    assert [corpus.peptide(row).proforma for row in range(len(corpus))] == [
        "GASPVTK",
        "PEPTLDEKPEPTLDEK",
    ]


def test_isoleucine_does_not_hide_an_excluded_peptide():
    spectra = [replace(ladder("SAMPLER"), peptide="SAMPIER"), ladder("GASPVTK")]
    corpus, _ = Corpus.pack(spectra, KEEP_ALL, max_tokens=40, exclude=frozenset({"SAMPLER"}))
    assert [corpus.peptide(row).sequence for row in range(len(corpus))] == ["GASPVTK"]


def test_long_labels_and_unusable_spectra_are_left_out():
    assert packed(*PEPTIDES, max_tokens=8).lengths.tolist() == [7, 8]
    long, nameless = ladder("PEPTLDEK"), replace(ladder("SAMPLER"), precursor_charge=None)
    spectra = [ladder("GASPVTK"), nameless, nameless, long, ladder("EEELK")]
    corpus, left_out = Corpus.pack(
        spectra, Preprocessing(), max_tokens=7, exclude=frozenset({"EEELK"})
    )
    assert len(corpus) == 1
    assert left_out == {"no_charge": 2, "too long": 1, "of a validation peptide": 1}


def test_nothing_to_pack_is_an_error():
    with pytest.raises(InputError, match="no usable labelled spectrum"):
        packed("GASPVTK", max_tokens=3)


def test_saving_and_loading(tmp_path: Path):
    corpus = packed(*PEPTIDES)
    corpus.save(tmp_path / "c.safetensors")
    back = Corpus.load(tmp_path / "c.safetensors")
    for name, value in vars(corpus).items():
        assert getattr(back, name).dtype == value.dtype
        assert np.array_equal(getattr(back, name), value)


def test_concatenation_keeps_every_spectrum():
    parts = packed(*PEPTIDES[:2]), packed(PEPTIDES[2])
    both, whole = concatenate(parts), packed(*PEPTIDES)
    for name in ("mz", "intensity", "peaks", "tokens", "answers", "mass"):
        assert np.array_equal(getattr(both, name), getattr(whole, name)), name
    batch, answer = both.batch([2], 0.0, np.random.default_rng(0))
    assert answer[0].tolist() == encode(Peptide.parse(PEPTIDES[2]))
    assert batch.mz.shape[1] == len(cleaned(ladder(PEPTIDES[2])).mz)


def test_an_m_z_beyond_the_packed_numbers_is_refused_by_the_options():
    """Packed m/z are 32-bit micro-Th: 4294 Th at most."""
    with pytest.raises(ValueError, match="max_mz"):
        Preprocessing(max_mz=4300.0)
    far = replace(ladder("GASPVTK"), mz=np.array([3999.5]), intensity=np.ones(1))
    options = Preprocessing(max_mz=4000.0, min_peaks=1)
    assert Corpus.pack([far], options, max_tokens=40)[0].mz.tolist() == [3_999_500_000]
