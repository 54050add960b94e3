from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch
from handmade import EVIDENCE, banned, batch_of, network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinynovo.decoding import (
    BeamOptions,
    Candidates,
    answer_scores,
    beam_search,
    best_of,
    both_ways,
    composable,
    draft,
    exact_answers,
    squeezed,
    without_repeats,
)
from tinynovo.evidence import PeakTable, peak_table
from tinynovo.peptide import Peptide
from tinynovo.scorer import DirectedScorer, EvidenceScorer, closing_slack
from tinynovo.tokens import (
    PAD,
    VOCABULARY,
    answer_batch,
    decode,
    encode,
    n_terminal_tokens,
    token_ids,
    token_masses,
)

MASSES = token_masses()
TERMINAL = n_terminal_tokens()
RESIDUES = [
    token for token in range(1, VOCABULARY) if not TERMINAL[token]
]  # ids of what a peptide is made of
LETTERS = "GASPVTLNDQKEMHFRYW"
PEPTIDES = st.text(LETTERS, min_size=2, max_size=14)


class Oracle:
    """A directed scorer that knows the answers; elsewhere it finds every token equally likely."""

    def __init__(self, *peptides: str, forwards: bool) -> None:
        self.forwards = forwards
        self.known: dict[int, dict[int, int]] = {}
        for peptide in peptides:
            ids = encode(Peptide.parse(peptide))
            own = MASSES[ids].tolist()
            total = sum(own)
            sums = [sum(own[:i]) for i in range(len(ids) + 1)]
            starts = sums[:-1] if forwards else sums[1:]
            self.known[total] = dict(zip(starts, ids, strict=True))

    def __call__(self, table: PeakTable, anchor: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.zeros(*anchor.shape, VOCABULARY)
        logits[..., PAD] = -1e4
        for row, total in enumerate(table.batch.residue_mass.tolist()):
            known = min(self.known, key=lambda mass: abs(mass - total))
            assert abs(known - total) < 1000
            for beam, place in enumerate(anchor[row].tolist()):
                at = [t for start, t in self.known[known].items() if abs(start - place) < 1000]
                if at:
                    logits[row, beam, at[0]] = 10.0
                if place != 0 or not self.forwards:
                    rest = place - MASSES[TERMINAL]
                    closes = rest.abs() < 1000
                    for token, ends in zip(TERMINAL.nonzero().flatten(), closes, strict=True):
                        if self.forwards or not ends:
                            logits[row, beam, token] = -1e4
        return torch.zeros(1), logits


def table_of(*peptides: str) -> PeakTable:
    return peak_table(batch_of(*peptides), EVIDENCE)


def names(tokens: Tensor) -> str:
    return decode(tokens.tolist()).proforma


def search(
    scorer: DirectedScorer | Oracle, table: PeakTable, options: BeamOptions, *forbidden: str
) -> Candidates:
    window = closing_slack(table.batch.residue_mass)
    return beam_search(scorer, table, options, banned(*forbidden), window)  # type: ignore[arg-type]


def drafted(scorer: EvidenceScorer, table: PeakTable, options: BeamOptions) -> Candidates:
    return draft(scorer, table, options, banned(), closing_slack(table.batch.residue_mass))


TRUTHS = (
    "GASPVTK",
    "[Acetyl]-M[Oxidation]DEK",
    "[TMT6plex]-LNK[TMT6plex]",
    "WYFHRWYFHRWYFHRWYFHR",
    "[Ammonia-loss]-QPEPTLDER",
    "[Carbamyl]-GK",
    "S[Phospho]C[Carbamidomethyl]N[Deamidated]R",
)


@pytest.mark.parametrize("forwards", [True, False])
def test_with_an_oracle_the_truth_comes_first(forwards: bool):
    options = BeamOptions(n_beams=3, candidates=3, max_slots=24)
    oracle = Oracle(*TRUTHS, forwards=forwards)
    found = search(oracle, table_of(*TRUTHS), options)
    assert [names(row[0]) for row in found.tokens] == list(TRUTHS)
    assert bool((found.score[:, 0] > -0.1).all())


@pytest.mark.parametrize("forwards", [True, False])
def test_a_banned_token_hides_the_truth(forwards: bool):
    options = BeamOptions(n_beams=4, candidates=4, max_slots=12)
    oracle = Oracle("EQK", forwards=forwards)
    found = search(oracle, table_of("EQK"), options, "Q", "E")
    assert not (found.tokens[..., None] == torch.tensor(token_ids(["Q", "E"]))).any()
    assert torch.isfinite(found.score[0, 0])


@pytest.mark.parametrize("forwards", [True, False])
def test_an_answer_longer_than_the_slots_is_not_found(forwards: bool):
    oracle = Oracle("GASPVTK", forwards=forwards)
    for slots, within in ((7, True), (6, False)):
        options = BeamOptions(n_beams=4, candidates=4, max_slots=slots)
        found = search(oracle, table_of("GASPVTK"), options)
        assert found.tokens.shape == (1, 4, slots)
        assert ("GASPVTK" in {names(t) for t in found.tokens[0]}) is within


def check_answers(found: Candidates, table: PeakTable, forbidden: Tensor, window: Tensor) -> None:
    """Whatever was found is in order, weighs what it must and is built as peptides are."""
    whole = table.batch.residue_mass
    for row in range(found.tokens.shape[0]):
        scores = found.score[row].tolist()
        assert scores == sorted(scores, reverse=True)
        for tokens, score in zip(found.tokens[row], scores, strict=True):
            if score == float("-inf"):
                assert not tokens.any()
                continue
            assert abs(int(MASSES[tokens].sum()) - int(whole[row])) <= int(window[row])
            length = int((tokens != PAD).sum())
            assert tokens[length:].tolist() == [PAD] * (len(tokens) - length)
            assert not forbidden[tokens[:length]].any()
            assert not TERMINAL[tokens[1:length]].any()
            assert not (length == 1 and TERMINAL[tokens[0]])


@settings(max_examples=8, deadline=None)
@given(
    st.lists(PEPTIDES, min_size=1, max_size=2),
    st.integers(0, 99),
    st.sets(st.sampled_from(LETTERS), max_size=3),
    st.sampled_from([2, 20]),
)
def test_beam_answers_of_any_scorer_are_peptides_of_the_precursors_mass(
    peptides: list[str], seed: int, forbidden: set[str], ppm: int
):
    table = table_of(*peptides)
    mask = banned(*forbidden)
    window = torch.div(table.batch.residue_mass * ppm, 1_000_000, rounding_mode="floor")
    scorer = network(seed).scorer
    options = BeamOptions(n_beams=4, candidates=4, max_slots=16)
    with torch.inference_mode():
        for one in (scorer.forwards, scorer.backwards):
            check_answers(beam_search(one, table, options, mask, window), table, mask, window)
        both = both_ways(scorer, table, options, mask, window)
        check_answers(both, table, mask, window)
        judged = draft(scorer, table, options, mask, window)
        check_answers(judged, table, mask, window)
    for row in range(len(peptides)):
        found = [tuple(t.tolist()) for t in both.tokens[row] if t.any()]
        assert len(found) == len(set(found))
        assert {tuple(t.tolist()) for t in judged.tokens[row] if t.any()} <= set(found)


def test_some_answers_are_found_at_all():
    table = table_of("GASPVTK", "SAMPLER")
    scorer = network().scorer
    with torch.inference_mode():
        found = drafted(scorer, table, BeamOptions(n_beams=8, candidates=4, max_slots=12))
    assert torch.isfinite(found.score).all()


def test_beams_do_not_depend_on_their_company():
    peptides = ("GK", "SAMPLER", "WYFHRWYFHRWYFHR")
    scorer = network(3).scorer
    options = BeamOptions(n_beams=6, candidates=4, max_slots=20)
    with torch.inference_mode():
        together = drafted(scorer, table_of(*peptides), options)
        for row, peptide in enumerate(peptides):
            alone = drafted(scorer, table_of(peptide), options)
            most = min(alone.score.shape[1], together.score.shape[1])
            assert torch.equal(alone.tokens[0, :most], together.tokens[row, :most])
            assert torch.allclose(alone.score[0, :most], together.score[row, :most], atol=1e-4)
            assert not torch.isfinite(together.score[row, most:]).any()


def test_a_beam_scores_what_its_scorer_says():
    """The score of the beam is the sum of the log-probabilities along the answer."""
    table = table_of("GASK")
    scorer = network(1).scorer
    options = BeamOptions(n_beams=50, candidates=5, max_slots=8)
    with torch.inference_mode():
        for one, order in ((scorer.forwards, 1), (scorer.backwards, -1)):
            found = search(one, table, options)
            for tokens, score in zip(found.tokens[0], found.score[0].tolist(), strict=True):
                ids = [t for t in tokens.tolist() if t][::order]
                total, place = 0.0, 0 if order == 1 else int(table.batch.residue_mass)
                past = [PAD, PAD]
                for token in ids:
                    _, logits = one(table, torch.tensor([[place]]), torch.tensor([[past]]))
                    total += float(logits.masked_fill(banned(), -1e4).log_softmax(-1)[0, 0, token])
                    place += order * int(MASSES[token])
                    past = [token, past[0]]
                assert total == pytest.approx(score, abs=1e-4)


def test_answer_scores_are_the_mean_of_both_directions():
    table = table_of("GASK", "SAMPLER")
    scorer = network(1).scorer
    texts = (("GASK", "SGAK"), ("SAMPLER", "ASMPLER"))
    answers = torch.stack(
        [answer_batch([encode(Peptide.parse(t)) for t in pair] + [[]] * 3, 9) for pair in texts]
    )
    with torch.inference_mode():
        scores = answer_scores(scorer, table, answers)
        assert scores.shape == (2, 5)
        assert torch.isinf(scores[:, 2:]).all()
        for row, pair in enumerate(texts):
            for number, text in enumerate(pair):
                ids = answer_batch([encode(Peptide.parse(text))], 9)
                _, one, _, two = scorer(table.select(torch.tensor([row])), ids)
                real = ids[0] != PAD
                parts = [
                    logits[0].log_softmax(-1).gather(-1, ids[0, :, None])[real].sum()
                    for logits in (one, two)
                ]
                assert scores[row, number] == pytest.approx(float(sum(parts)) / 2, abs=1e-4)


ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=2, max_size=2), st.integers(0, 9)),
    min_size=1,
    max_size=6,
)


def candidates_of(rows: list[tuple[list[int], int]]) -> Candidates:
    return Candidates(
        torch.tensor([[tokens for tokens, _ in rows]]),
        torch.tensor([[float(score) for _, score in rows]]),
    )


@given(ROWS, st.integers(1, 8))
def test_best_of_is_sorting(rows: list[tuple[list[int], int]], count: int):
    given_rows = candidates_of(rows)
    best = best_of(given_rows.tokens, given_rows.score, count)
    expected = sorted((score for _, score in rows), reverse=True)[:count]
    assert best.score[0].tolist() == expected
    for tokens, score in zip(best.tokens[0].tolist(), best.score[0].tolist(), strict=True):
        assert (tokens, score) in rows


@given(ROWS)
def test_without_repeats_strikes_later_copies_out(rows: list[tuple[list[int], int]]):
    left = without_repeats(candidates_of(rows))
    seen: list[list[int]] = []
    for (tokens, score), kept, kept_score in zip(
        rows, left.tokens[0].tolist(), left.score[0].tolist(), strict=True
    ):
        if tokens in seen:
            assert (kept, kept_score) == ([0, 0], float("-inf"))
        else:
            assert (kept, kept_score) == (tokens, score)
        seen.append(tokens)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_squeezing_moves_padding_behind(answer: list[int]):
    out = squeezed(torch.tensor([answer]))[0].tolist()
    kept = [t for t in answer if t]
    assert out == kept + [0] * (len(answer) - len(kept))


@cache
def _sums(limit: int) -> frozenset[int]:
    """Masses up to a limit that residues add up to: brute force."""
    masses = [int(MASSES[t]) for t in RESIDUES]
    found, fresh = {0}, {0}
    while fresh:
        fresh = {a + m for a in fresh for m in masses if a + m <= limit} - found
        found |= fresh
    return frozenset(found)


def test_every_sum_of_residues_is_composable():
    sums = torch.tensor(sorted(_sums(430_000_000)))
    assert len(sums) > 2_000
    assert composable(sums, torch.zeros_like(sums)).all()


@given(st.lists(st.sampled_from(RESIDUES[:8]), min_size=1, max_size=10))
def test_every_peptide_is_composable(tokens: list[int]):
    mass = MASSES[tokens].sum()
    assert bool(composable(mass, torch.tensor(0)))


@settings(max_examples=300)
@given(st.integers(-100_000_000, 300_000_000), st.sampled_from([0, 10_000, 30_000]))
def test_what_is_far_from_every_sum_is_not_composable(mass: int, slack: int):
    """The table is off by 11 mDa at most."""
    nearest = min(abs(mass - known) for known in _sums(430_000_000))
    answer = bool(composable(torch.tensor(mass), torch.tensor(slack)))
    if nearest <= slack:
        assert answer
    if nearest > slack + 11_000:
        assert not answer


def test_large_masses_are_always_composable():
    mass = torch.tensor([[600_000_000, 5_000_000_000]])
    assert composable(mass, torch.tensor(0)).tolist() == [[True, True]]


def test_exact_answers_against_brute_force():
    """Four slots of a handful of likely tokens: every answer can be counted."""
    torch.manual_seed(5)
    likely = [PAD, *token_ids(["G", "A", "K", "[Acetyl]-"])]
    for row in range(8):
        logits = torch.full((1, 4, VOCABULARY), -50.0)
        logits[0, :, likely] = torch.randn(4, 5)
        truth = torch.tensor([likely[i] for i in torch.randint(1, 4, (3,)).tolist()])
        mass = MASSES[truth].sum()[None]
        forbidden = banned(*(["A"] if row % 2 else []))
        allowed = [t for t in likely if t == PAD or not forbidden[t]]
        first = logits.clone()
        first[0, :, forbidden & (torch.arange(VOCABULARY) != PAD)] = -torch.inf
        first[0, 1:, TERMINAL] = -torch.inf
        logp = first.log_softmax(-1)[0]
        by_hand = sorted(
            (
                (sum(float(logp[s, t]) for s, t in enumerate(row_tokens)), row_tokens)
                for row_tokens in product(allowed, repeat=4)
                if abs(int(MASSES[list(row_tokens)].sum()) - int(mass)) <= int(closing_slack(mass))
                and not any(TERMINAL[t] for t in row_tokens[1:])
            ),
            reverse=True,
        )
        found = exact_answers(logits, mass, forbidden, closing_slack(mass), 3)
        wanted = by_hand[:3]
        scores = [s for s in found.score[0].tolist() if s > -40]
        assert scores == pytest.approx([s for s, _ in wanted], abs=1e-4)
        for tokens, (_, right) in zip(found.tokens[0], wanted, strict=False):
            kept = [t for t in right if t != PAD]
            assert tokens.tolist() == kept + [PAD] * (4 - len(kept))


def test_no_exact_answer_is_all_padding():
    logits = torch.zeros(1, 3, VOCABULARY)
    heavy = torch.tensor([5_000_000_000])
    found = exact_answers(logits, heavy, banned(), closing_slack(heavy), 2)
    assert found.score.tolist() == [[float("-inf")] * 2]
    assert found.tokens.tolist() == [[[PAD] * 3] * 2]
