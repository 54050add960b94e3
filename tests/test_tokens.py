from __future__ import annotations

import numpy as np
import pytest
import torch
from handmade import batch_of, cleaned, ladder
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.errors import InputError
from tinynovo.peptide import Peptide
from tinynovo.spectrum import Peaks
from tinynovo.tokens import (
    FAR,
    PAD,
    TOKENS,
    VOCABULARY,
    answer_batch,
    decode,
    encode,
    n_terminal_tokens,
    peak_batch,
    token_ids,
    token_masses,
)

IDS = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=40)


def test_vocabulary_is_the_padding_and_the_residue_table():
    assert TOKENS[PAD] == "$"
    assert len(set(TOKENS)) == VOCABULARY == len(TOKENS)
    assert set("GASPVTCLNDQKEMHFRYW") < set(TOKENS)
    assert "I" not in TOKENS


def test_token_masses_are_micro_dalton_integers_with_the_modification_included():
    mass = dict(zip(TOKENS, token_masses().tolist(), strict=True))
    assert token_masses().dtype == torch.int64
    assert mass["$"] == 0
    assert mass["G"] == 57_021_464
    assert mass["W"] == 186_079_313
    assert mass["C[Carbamidomethyl]"] == 160_030_649
    assert mass["M[Oxidation]"] == 147_035_400
    assert mass["S[Phospho]"] == 166_998_359
    assert mass["K[TMT6plex]"] == 357_257_895
    assert mass["[Acetyl]-"] == 42_010_565
    assert mass["[Ammonia-loss]-"] == -17_026_549


def test_n_terminal_tokens_are_those_written_with_a_dash():
    marked = {
        t for t, terminal in zip(TOKENS, n_terminal_tokens().tolist(), strict=True) if terminal
    }
    assert marked == {"[Acetyl]-", "[Carbamyl]-", "[Ammonia-loss]-", "[TMT6plex]-"}


@given(st.lists(IDS, min_size=1, max_size=5))
def test_sums_of_masses_are_exact(answers: list[list[int]]):
    masses = token_masses()
    sums = masses[answer_batch(answers, 40)].sum(-1)
    known = masses.tolist()
    assert sums.tolist() == [sum(known[token] for token in answer) for answer in answers]


def test_a_sum_that_float32_would_round_is_exact():
    answer = answer_batch([encode(Peptide.parse("W" * 32))], 40)
    assert int(token_masses()[answer].sum()) == 32 * 186_079_313 == 5_954_538_016


@pytest.mark.parametrize(
    "text", ["GASP", "[Acetyl]-M[Oxidation]K", "[TMT6plex]-PEPTLDEK[TMT6plex]"]
)
def test_encode_and_decode_are_inverse(text: str):
    ids = encode(Peptide.parse(text))
    assert [TOKENS[i] for i in ids] == list(Peptide.parse(text).tokens)
    assert decode(ids).proforma == text


@given(IDS)
def test_decode_stops_at_the_first_padding(ids: list[int]):
    assert decode([*ids, PAD, 3, PAD, 5]).tokens == tuple(TOKENS[i] for i in ids)


def test_token_ids_name_the_unknown_and_list_the_known():
    assert [TOKENS[i] for i in token_ids(["K", "M[Oxidation]"])] == ["K", "M[Oxidation]"]
    with pytest.raises(InputError, match=r"unknown residue 'X'.*G, A, S") as caught:
        token_ids(["K", "X"])
    assert "\n" not in str(caught.value)


def test_peak_batch_pads_with_far_and_subtracts_water():
    long, short = cleaned(ladder("PEPTLDEK")), cleaned(ladder("GAK", charge=1))
    batch = peak_batch([long, short])
    assert batch.mz.dtype == batch.residue_mass.dtype == batch.charge.dtype == torch.int64
    assert batch.intensity.dtype == torch.float32
    assert batch.mz.shape == (2, 27)
    assert batch.mask.sum(-1).tolist() == [27, 7]
    assert batch.mz[1, 7:].tolist() == [FAR] * 20
    assert batch.intensity[1, 7:].tolist() == [0.0] * 20
    assert batch.charge.tolist() == [2, 1]
    glycine_alanine_lysine = 57_021_464 + 71_037_114 + 128_094_963
    assert batch.residue_mass[1] == pytest.approx(glycine_alanine_lysine, abs=2)
    assert bool((batch.mz.diff(dim=-1)[0] >= 0).all())


def test_peak_batch_takes_a_spectrum_without_peaks():
    nothing = Peaks(np.zeros(0, np.int64), np.zeros(0, np.float32), 500_000_000, 2)
    batch = peak_batch([nothing, cleaned(ladder("GAK"))])
    assert batch.mask.sum(-1).tolist() == [0, 7]


def test_select_keeps_what_belongs_together():
    batch = batch_of("PEPTLDEK", "GAK", "SAMPLER")
    for rows in (torch.tensor([2, 0]), torch.tensor([True, False, True])):
        part = batch.select(rows)
        for name in ("mz", "intensity", "residue_mass", "charge"):
            assert torch.equal(getattr(part, name), getattr(batch, name)[rows])
    moved = batch.to("cpu")
    assert torch.equal(moved.mz, batch.mz)
    assert torch.equal(moved.charge, batch.charge)


def test_answer_batch_pads_behind():
    assert answer_batch([[3, 4], [], [5]], 3).tolist() == [[3, 4, 0], [0, 0, 0], [5, 0, 0]]
