from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from handmade import EVIDENCE, answer_scores, batch_of, network, without
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinynovo.decoding import draft, searched
from tinynovo.evidence import PeakTable, closing_slack
from tinynovo.exact import exact_answers, squeezed
from tinynovo.modifications import Switch
from tinynovo.peptide import Peptide
from tinynovo.permitted import Permitted
from tinynovo.scorer import DirectedScorer, EvidenceScorer
from tinynovo.searching import BeamOptions, Candidates, Search, best_of, composable
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
(GLYCINE,) = token_ids(["G"])
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

    def logits(self, table: PeakTable, row: Tensor, anchor: Tensor, past: Tensor) -> Tensor:
        logits = torch.zeros(*anchor.shape, VOCABULARY)
        logits[..., PAD] = -1e4
        totals = table.batch.residue_mass[row].tolist()
        for query, (total, place) in enumerate(zip(totals, anchor.tolist(), strict=True)):
            known = min(self.known, key=lambda mass: abs(mass - total))
            assert abs(known - total) < 1000
            at = [t for start, t in self.known[known].items() if abs(start - place) < 1000]
            if at:
                logits[query, at[0]] = 10.0
            if place != 0 or not self.forwards:
                closes = (place - MASSES[TERMINAL]).abs() < 1000
                for token, ends in zip(TERMINAL.nonzero().flatten(), closes, strict=True):
                    if self.forwards or not ends:
                        logits[query, token] = -1e4
        return logits


def table_of(*peptides: str) -> PeakTable:
    return PeakTable(batch_of(*peptides), EVIDENCE)


def names(tokens: Tensor) -> str:
    return decode(tokens.tolist()).proforma


EVERYTHING = Permitted.by({})
ROW = torch.zeros(1, 1, dtype=torch.int64)


def search(
    scorer: DirectedScorer | Oracle,
    table: PeakTable,
    options: BeamOptions,
    permitted: Permitted = EVERYTHING,
    window: Tensor | None = None,
) -> Candidates:
    window = closing_slack(table.batch.residue_mass) if window is None else window
    least = torch.full(window.shape, -torch.inf)
    return Search(scorer, table, options, permitted, window, least).run()  # type: ignore[arg-type]


def drafted(scorer: EvidenceScorer, table: PeakTable, options: BeamOptions) -> Candidates:
    return draft(scorer, table, options, EVERYTHING, closing_slack(table.batch.residue_mass))


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
def test_a_token_that_is_not_permitted_hides_the_truth(forwards: bool):
    options = BeamOptions(n_beams=4, candidates=4, max_slots=12)
    oracle = Oracle("EQK", forwards=forwards)
    found = search(oracle, table_of("EQK"), options, without("Q", "E"))
    assert not (found.tokens[..., None] == torch.tensor(token_ids(["Q", "E"]))).any()
    assert torch.isfinite(found.score[0, 0])


@pytest.mark.parametrize("forwards", [True, False])
@pytest.mark.parametrize(
    ("truth", "mods", "there"),
    [
        ("[TMT6plex]-LNK[TMT6plex]", {"TMT6plex": "fixed"}, True),
        ("[TMT6plex]-LNK[TMT6plex]", {"TMT6plex": "off"}, False),
        ("[TMT6plex]-LNK[TMT6plex]", {"TMT6plex": "off", "[TMT6plex]-": "on"}, False),
        ("[TMT6plex]-LNK", {"TMT6plex": "fixed"}, False),
        ("LNK[TMT6plex]", {"TMT6plex": "fixed"}, False),
        ("LNK[TMT6plex]", {"TMT6plex": "fixed", "[TMT6plex]-": "on"}, True),
        ("[Acetyl]-LNK[TMT6plex]", {"TMT6plex": "fixed"}, False),
        ("[Acetyl]-LNK[TMT6plex]", {"TMT6plex": "fixed", "[TMT6plex]-": "off"}, True),
        ("LC[Carbamidomethyl]R", {"Carbamidomethyl": "fixed"}, True),
        ("LCR", {"Carbamidomethyl": "fixed"}, False),
        ("LCR", {"Carbamidomethyl": "off"}, True),
        ("LN[Deamidated]Q[Deamidated]R", {"N[Deamidated]": "off"}, False),
        ("LNQ[Deamidated]R", {"N[Deamidated]": "off"}, True),
    ],
)
def test_modifications_show_and_hide_the_truth(
    forwards: bool, truth: str, mods: dict[str, Switch], there: bool
):
    options = BeamOptions(n_beams=9, candidates=30, max_slots=12)
    oracle = Oracle(truth, forwards=forwards)
    found = search(oracle, table_of(truth), options, Permitted.by(mods))
    assert (truth in {names(tokens) for tokens in found.tokens[0]}) is there
    if there:
        assert names(found.tokens[0, 0]) == truth


@pytest.mark.parametrize("forwards", [True, False])
def test_a_required_modification_alone_is_no_answer(forwards: bool):
    """One precursor weighs what the modification does, the other has a G more."""
    permitted = Permitted.by({"TMT6plex": "fixed"})
    options = BeamOptions(n_beams=9, candidates=9, max_slots=9)
    tmt = MASSES[token_ids(["[TMT6plex]-"])]
    batch = replace(
        batch_of("GASPVTK", "SAMPLER"), residue_mass=torch.cat([tmt, tmt + MASSES[GLYCINE]])
    )
    with torch.inference_mode():
        scorer = network().scorer
        one = scorer.forwards if forwards else scorer.backwards
        found = search(one, PeakTable(batch, EVIDENCE), options, permitted)
    assert {names(tokens) for tokens in found.tokens[0]} == {""}
    assert names(found.tokens[1, 0]) == "[TMT6plex]-G"


@pytest.mark.parametrize("forwards", [True, False])
def test_an_answer_longer_than_the_slots_is_not_found(forwards: bool):
    oracle = Oracle("GASPVTK", forwards=forwards)
    for slots, within in ((7, True), (6, False)):
        options = BeamOptions(n_beams=4, candidates=4, max_slots=slots)
        found = search(oracle, table_of("GASPVTK"), options)
        assert found.tokens.shape == (1, 4, slots)
        assert ("GASPVTK" in {names(t) for t in found.tokens[0]}) is within


def check_answers(found: Candidates, whole: Tensor, permitted: Permitted, window: Tensor) -> None:
    """Whatever was found is in order, weighs what it must and is built as peptides are."""
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
            assert permitted.first[tokens[0]]
            assert permitted.others[tokens[1:length]].all()
            assert not TERMINAL[tokens[1:length]].any()
            assert not (length == 1 and TERMINAL[tokens[0]])


STARTS = ("", "[Acetyl]-", "[TMT6plex]-", "[Ammonia-loss]-")
SWITCHES = st.dictionaries(
    st.sampled_from(
        ["TMT6plex", "Acetyl", "Phospho", "Carbamidomethyl", "M[Oxidation]", "[Carbamyl]-"]
    ),
    st.sampled_from(["on", "off", "fixed"]),
)


@st.composite
def permissions(draw: st.DrawFn) -> Permitted:
    """Modifications switched at random, at most one of them fixed at the N-terminus."""
    mods = draw(SWITCHES)
    fixed = [name for name in ("TMT6plex", "Acetyl", "[Carbamyl]-") if mods.get(name) == "fixed"]
    return Permitted.by({name: switch for name, switch in mods.items() if name not in fixed[1:]})


@settings(max_examples=16, deadline=None)
@given(
    st.sampled_from(STARTS),
    st.lists(PEPTIDES, min_size=1, max_size=2),
    st.integers(0, 99),
    permissions() | st.sets(st.sampled_from(LETTERS), max_size=3).map(lambda s: without(*s)),
    st.sampled_from([2, 20]),
)
def test_beam_answers_of_any_scorer_are_permitted_and_of_the_precursors_mass(
    start: str, peptides: list[str], seed: int, permitted: Permitted, ppm: int
):
    table = table_of(*(start + peptide for peptide in peptides))
    whole = table.batch.residue_mass
    window = torch.div(whole * ppm, 1_000_000, rounding_mode="floor")
    scorer = network(seed).scorer
    options = BeamOptions(n_beams=4, candidates=4, max_slots=16)
    with torch.inference_mode():
        for one in (scorer.forwards, scorer.backwards):
            found = search(one, table, options, permitted, window)
            check_answers(found, whole, permitted, window)
        least = torch.full(whole.shape, -math.inf)
        both = searched(scorer, table, options, permitted, window, least)
        for found in both:
            check_answers(found, whole, permitted, window)
        judged = draft(scorer, table, options, permitted, window)
        check_answers(judged, whole, permitted, window)
    for row in range(len(peptides)):
        drafts = [tuple(t.tolist()) for t in judged.tokens[row] if t.any()]
        assert len(drafts) == len(set(drafts))
        assert set(drafts) <= {tuple(t.tolist()) for found in both for t in found.tokens[row]}


@settings(max_examples=24, deadline=None)
@given(
    st.sampled_from(STARTS),
    st.lists(PEPTIDES, min_size=1, max_size=3),
    st.integers(0, 99),
    permissions(),
    st.sampled_from([1.0, 4.0, 20.0]),
    st.sampled_from([1e9, 0.5, 2.0, 6.0]),
    st.sampled_from([1e9, 0.5, 3.0]),
    st.sampled_from([-math.inf, -25.0, -12.0]),
)
def test_compiled_drafts_are_those_that_are_defined(
    start: str,
    peptides: list[str],
    seed: int,
    permitted: Permitted,
    margin: float,
    guide: float,
    behind: float,
    least: float,
):
    batch = batch_of(*(start + peptide for peptide in peptides))
    scorer = network(seed).scorer
    nats = {"margin": margin, "guide_margin": guide, "behind": behind}
    options = BeamOptions(n_beams=5, candidates=4, **nats, max_slots=16)
    beaten = torch.full((len(peptides),), least)
    with torch.no_grad():
        fast = PeakTable(batch, EVIDENCE)
        window = closing_slack(batch.residue_mass)
        found = draft(scorer, fast, options, permitted, window, beaten)
    slow = PeakTable(batch, EVIDENCE)
    again = draft(scorer, slow, options, permitted, window, beaten)
    check_answers(found, batch.residue_mass, permitted, window)
    for row in range(len(peptides)):
        most = min(found.score.shape[1], again.score.shape[1])
        assert torch.allclose(found.score[row, :most], again.score[row, :most], atol=1e-3)
        assert not torch.isfinite(found.score[row, most:]).any()
        clear = again.score[row, :most].diff().abs() > 1e-3
        if bool(clear.all()):
            assert torch.equal(found.tokens[row, :most], again.tokens[row, :most])


def test_searches_that_guide_one_another_find_the_truth_and_ask_less():
    """What no search from the other end leads to is given up."""
    asked = {1e9: 0, 4.0: 0}

    class Noting(Oracle):
        def logits(self, table: PeakTable, row: Tensor, anchor: Tensor, past: Tensor) -> Tensor:
            asked[guide] += row.numel()
            return super().logits(table, row, anchor, past)

    pair = SimpleNamespace(
        forwards=Noting(*TRUTHS, forwards=True), backwards=Noting(*TRUTHS, forwards=False)
    )
    table = table_of(*TRUTHS)
    window = closing_slack(table.batch.residue_mass)
    for guide in asked:
        options = BeamOptions(n_beams=6, candidates=2, max_slots=24, guide_margin=guide)
        asked_so = (table, options, EVERYTHING, window, torch.full(window.shape, -math.inf))
        for found in searched(pair, *asked_so):  # type: ignore[arg-type]
            assert [names(row[0]) for row in found.tokens] == list(TRUTHS)
    assert asked[4.0] < 0.7 * asked[1e9], asked


def test_some_answers_are_found_at_all():
    table = table_of("GASPVTK", "SAMPLER")
    scorer = network().scorer
    with torch.inference_mode():
        found = drafted(scorer, table, BeamOptions(n_beams=8, candidates=4, max_slots=12))
    assert torch.isfinite(found.score).all()


def test_there_is_room_for_all_that_a_heavy_precursor_asks():
    """Far more stretches of mass than slots."""
    options = BeamOptions(n_beams=30, candidates=1, margin=1e6, max_slots=24)
    with torch.inference_mode():
        found = drafted(network(3).scorer, table_of("WRWRWRWRWRWRWRWRWRWR"), options)
    assert found.tokens.shape == (1, 1, 24)


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


def score_by_hand(
    one: DirectedScorer, table: PeakTable, ids: list[int], permitted: Permitted
) -> float:
    """The log-probabilities along an answer, each among what may stand there, summed."""
    whole = int(table.batch.residue_mass)
    slack = int(closing_slack(table.batch.residue_mass))
    order = 1 if one.forwards else -1
    place, past, total = 0 if one.forwards else whole, [PAD, PAD], 0.0
    for token in ids[::order]:
        _, logits = one(table, ROW, torch.tensor([[place]]), torch.tensor([[past]]))
        may = [
            bool((permitted.first if first else permitted.others)[other])
            for other in range(VOCABULARY)
            for first in [place == 0 if one.forwards else abs(place - int(MASSES[other])) <= slack]
        ]
        total += float(logits[0, 0, token] - logits[0, 0, may].logsumexp(0))
        place += order * int(MASSES[token])
        past = [token, past[0]]
    return total


SWITCHED = [
    ("GASK", {}),
    ("GASK", {"Phospho": "off", "Acetyl": "off"}),
    ("[Acetyl]-GASK", {"Acetyl": "fixed"}),
    ("[TMT6plex]-GASK[TMT6plex]", {"TMT6plex": "fixed", "Acetyl": "off"}),
]


@pytest.mark.parametrize(("peptide", "mods"), SWITCHED)
def test_a_beam_scores_what_its_scorer_says(peptide: str, mods: dict[str, Switch]):
    """The score of the beam is the sum of the log-probabilities along the answer."""
    table, permitted = table_of(peptide), Permitted.by(mods)
    scorer = network(1).scorer
    options = BeamOptions(n_beams=50, candidates=5, max_slots=8)
    with torch.inference_mode():
        for one in (scorer.forwards, scorer.backwards):
            found = search(one, table, options, permitted)
            assert torch.isfinite(found.score[0]).any()
            for tokens, score in zip(found.tokens[0], found.score[0].tolist(), strict=True):
                if score > float("-inf"):
                    ids = [t for t in tokens.tolist() if t]
                    by_hand = score_by_hand(one, table, ids, permitted)
                    assert by_hand == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(("peptide", "mods"), SWITCHED)
def test_answer_scores_are_the_mean_of_both_beams(peptide: str, mods: dict[str, Switch]):
    table, permitted = table_of(peptide), Permitted.by(mods)
    scorer = network(1).scorer
    with torch.inference_mode():
        answers = search(scorer.forwards, table, BeamOptions(max_slots=9), permitted).tokens
        scores = answer_scores(scorer, table, answers, permitted)
        for tokens, score in zip(answers[0], scores[0].tolist(), strict=True):
            ids = [t for t in tokens.tolist() if t]
            ways = (scorer.forwards, scorer.backwards)
            by_hand = sum(score_by_hand(one, table, ids, permitted) for one in ways) / 2
            assert score == (pytest.approx(by_hand, abs=1e-4) if ids else float("-inf"))


def test_answer_scores_are_the_mean_of_both_directions():
    table = table_of("GASK", "SAMPLER")
    scorer = network(1).scorer
    texts = (("GASK", "SGAK"), ("SAMPLER", "ASMPLER"))
    answers = torch.stack(
        [answer_batch([encode(Peptide.parse(t)) for t in pair] + [[]] * 3, 9) for pair in texts]
    )
    with torch.inference_mode():
        scores = answer_scores(scorer, table, answers, EVERYTHING)
        assert scores.shape == (2, 5)
        assert torch.isinf(scores[:, 2:]).all()
        for row, pair in enumerate(texts):
            for number, text in enumerate(pair):
                ids = answer_batch([encode(Peptide.parse(text))], 9)
                _, one, _, two = scorer(table, torch.tensor([row]), ids)
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
    every = (EVERYTHING, without("A"), Permitted.by({"Acetyl": "fixed"}))
    for row, permitted in enumerate([*every, *every, *every]):
        logits = torch.full((1, 4, VOCABULARY), -50.0)
        logits[0, :, likely] = torch.randn(4, 5)
        truth = torch.tensor([likely[i] for i in torch.randint(1, 4, (3,)).tolist()])
        if row % 3 == 2:
            truth[0] = likely[-1]
        mass = MASSES[truth].sum()[None]
        masked = logits.clone()
        masked[0, 0, ~permitted.first] = -torch.inf
        masked[0, 1:, ~permitted.others | TERMINAL] = -torch.inf
        logp = masked.log_softmax(-1)[0]
        by_hand = sorted(
            (
                (sum(float(logp[s, t]) for s, t in enumerate(row_tokens)), row_tokens)
                for row_tokens in product(likely, repeat=4)
                if abs(int(MASSES[list(row_tokens)].sum()) - int(mass)) <= int(closing_slack(mass))
                and not any(TERMINAL[t] for t in row_tokens[1:])
                and permitted.first[row_tokens[0]]
                and all(permitted.others[t] for t in row_tokens[1:])
            ),
            reverse=True,
        )
        found = exact_answers(logits, mass, permitted, closing_slack(mass), 3)
        assert by_hand or not permitted.others[likely[2]]
        wanted = by_hand[:3]
        scores = [s for s in found.score[0].tolist() if s > -40]
        assert scores == pytest.approx([s for s, _ in wanted], abs=1e-4)
        for tokens, (_, right) in zip(found.tokens[0], wanted, strict=False):
            kept = [t for t in right if t != PAD]
            assert tokens.tolist() == kept + [PAD] * (4 - len(kept))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), permissions(), st.integers(300, 700), st.sampled_from([1_000, 400_000]))
def test_exact_answers_of_any_logits_are_permitted_and_of_the_precursors_mass(
    seed: int, permitted: Permitted, dalton: int, slack: int
):
    torch.manual_seed(seed)
    logits = 3 * torch.randn(2, 6, VOCABULARY)
    whole = torch.tensor([dalton * 1_000_500, (dalton + 1) * 1_000_500])
    window = torch.full_like(whole, slack)
    found = exact_answers(logits, whole, permitted, window, 4)
    check_answers(found, whole, permitted, window)


def test_exact_answers_begin_as_they_must():
    """Logits that would rather begin with G: 57 Da less than what the modification asks for."""
    permitted = Permitted.by({"TMT6plex": "fixed"})
    logits = torch.full((1, 5, VOCABULARY), -9.0)
    logits[0, range(5), [GLYCINE, GLYCINE, GLYCINE, PAD, PAD]] = 5.0
    mass = MASSES[[*token_ids(["[TMT6plex]-"]), GLYCINE, GLYCINE]].sum()[None]
    found = exact_answers(logits, mass, permitted, closing_slack(mass), 1)
    assert names(found.tokens[0, 0]) == "[TMT6plex]-GG"


def test_no_exact_answer_is_all_padding():
    logits = torch.zeros(1, 3, VOCABULARY)
    heavy = torch.tensor([5_000_000_000])
    found = exact_answers(logits, heavy, EVERYTHING, closing_slack(heavy), 2)
    assert found.score.tolist() == [[float("-inf")] * 2]
    assert found.tokens.tolist() == [[[PAD] * 3] * 2]
