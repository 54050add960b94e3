from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from handmade import EVIDENCE, batch_of, cleaned, ladder, network
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evidence import annotations

from tinynovo.evidence import PeakTable, closing_slack
from tinynovo.peptide import Peptide
from tinynovo.scorer import (
    DirectedScorer,
    EvidenceScorer,
    anchors,
    neighbours,
)
from tinynovo.tokens import (
    PAD,
    TOKENS,
    VOCABULARY,
    answer_batch,
    encode,
    peak_batch,
    token_ids,
    token_masses,
)

G, A, S, P, K = token_ids(list("GASPK"))
MASS = dict(zip(TOKENS, token_masses().tolist(), strict=True))
WHOLE = sum(MASS[residue] for residue in "PEPTLDEK")
IMPOSSIBLE = -1e4
ROW = torch.zeros(1, 1, dtype=torch.int64)
ANSWERS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12)


def table_of(*peptides: str) -> PeakTable:
    return PeakTable(batch_of(*peptides), EVIDENCE)


def fitting(scorer: DirectedScorer, table: PeakTable, anchor: int) -> set[str]:
    """Names of the candidates that are not ruled out at an anchor."""
    past = torch.zeros(1, 1, 2, dtype=torch.int64)
    _, logits = scorer(table, ROW, torch.tensor([[anchor]]), past)
    return {TOKENS[i] for i in (logits[0, 0] > IMPOSSIBLE).nonzero().flatten().tolist()}


def test_the_slack_is_25_ppm_and_10_millidalton():
    mass = torch.tensor([0, 1_000_000_000, 2_000_000_000])
    assert closing_slack(mass).tolist() == [10_000, 35_000, 60_000]
    assert closing_slack(mass).dtype == torch.int64


def test_anchors_of_a_hand_weighed_answer():
    answer = torch.tensor([[G, A, S, PAD]])
    g, a, s = 57_021_464, 71_037_114, 87_032_028
    left, right = anchors(answer, torch.tensor([g + a + s]))
    assert left.tolist() == [[0, g, g + a, g + a + s]]
    assert right.tolist() == [[g, g + a, g + a + s, g + a + s]]
    _, heavier = anchors(answer, torch.tensor([g + a + s + 1_000_000]))
    assert (heavier - right).tolist() == [[1_000_000] * 4]


@given(ANSWERS, st.integers(0, 6_000_000_000))
def test_right_anchors_mirror_left_ones(answer: list[int], mass: int):
    tokens = torch.tensor([answer])
    left, right = anchors(tokens, torch.tensor([mass]))
    mirrored, _ = anchors(tokens.flip(-1), torch.tensor([mass]))
    assert torch.equal(right, mass - mirrored.flip(-1))
    assert left.dtype == right.dtype == torch.int64


@given(ANSWERS)
def test_anchors_meet_where_the_answer_weighs_what_the_precursor_weighs(answer: list[int]):
    tokens = torch.tensor([answer])
    own = token_masses()[tokens]
    left, right = anchors(tokens, own.sum(-1))
    assert torch.equal(left + own, right)
    _, off = anchors(tokens, own.sum(-1) + 17)
    assert torch.equal(left + own + 17, off)


def test_neighbours_are_nearest_first():
    answer = torch.tensor([[G, A, S, P]])
    assert neighbours(answer, -1).tolist() == [[[PAD, PAD], [G, PAD], [A, G], [S, A]]]
    assert neighbours(answer, 1).tolist() == [[[A, S], [S, P], [P, PAD], [PAD, PAD]]]


@given(ANSWERS)
def test_neighbours_behind_are_those_before_the_other_way_round(answer: list[int]):
    tokens = torch.tensor([answer])
    mirrored = neighbours(tokens.flip(-1), -1).flip(1)
    assert torch.equal(neighbours(tokens, 1), mirrored)


def test_only_what_leaves_room_for_the_rest_fits_forwards():
    scorer = EvidenceScorer(EVIDENCE).forwards
    table = table_of("AKG")
    rest = MASS["K"] + MASS["G"]
    assert fitting(scorer, table, MASS["A"]) == {
        name
        for name, mass in MASS.items()
        if name != "$" and not name.endswith("-") and (mass <= rest - MASS["G"] or mass == rest)
    }
    assert fitting(scorer, table, MASS["A"] + MASS["K"]) == {"G"}


def test_n_terminal_modifications_fit_only_the_first_slot_forwards():
    scorer = EvidenceScorer(EVIDENCE).forwards
    table = table_of("[Acetyl]-PEPTLDEK")
    assert {n for n in fitting(scorer, table, 0) if n.endswith("-")} == {
        "[Acetyl]-", "[Carbamyl]-", "[Ammonia-loss]-", "[TMT6plex]-",
    }  # fmt: skip
    assert not {n for n in fitting(scorer, table, MASS["[Acetyl]-"]) if n.endswith("-")}


def test_backwards_a_modification_fits_only_where_nothing_else_remains():
    scorer = EvidenceScorer(EVIDENCE).backwards
    table = table_of("[Acetyl]-PEPTLDEK")
    assert fitting(scorer, table, MASS["[Acetyl]-"]) == {"[Acetyl]-"}
    at_start = fitting(scorer, table, MASS["[Acetyl]-"] + MASS["P"])
    assert "P" in at_start
    assert not {n for n in at_start if n.endswith("-")}
    loss = fitting(scorer, table, MASS["[Ammonia-loss]-"])
    assert loss == {"[Ammonia-loss]-"}


def test_padding_never_fits():
    for scorer in (EvidenceScorer(EVIDENCE).forwards, EvidenceScorer(EVIDENCE).backwards):
        table = table_of("GAK")
        for anchor in (0, 50_000_000, int(table.batch.residue_mass)):
            assert "$" not in fitting(scorer, table, anchor)


def test_shapes_and_types():
    table = table_of("PEPTLDEK", "SAMPLER")
    answer = answer_batch([encode(Peptide.parse(p)) for p in ("PEPTLDEK", "SAMPLER")], 9)
    one, logits, two, others = network().scorer(table, torch.arange(len(answer)), answer)
    assert one.shape == two.shape == (2, 9, VOCABULARY, EVIDENCE.embedding)
    assert logits.shape == others.shape == (2, 9, VOCABULARY)
    assert {t.dtype for t in (one, logits, two, others)} == {torch.float32}


def test_questions_asked_twice_are_answered_alike():
    table = table_of("PEPTLDEK", "SAMPLER")
    scorer = network().scorer.forwards
    anchor = torch.tensor([[0, MASS["P"], 0, MASS["P"]], [0, 0, MASS["P"], -5_000_000]])
    past = torch.tensor([[[0, 0], [P, 0], [0, 0], [G, 0]], [[0, 0], [0, 0], [P, 0], [K, S]]])
    rows = torch.tensor([[0] * 4, [1] * 4])
    _, logits = scorer(table, rows, anchor, past)
    assert torch.equal(logits[0, 0], logits[0, 2])
    assert torch.equal(logits[1, 0], logits[1, 1])
    assert not torch.allclose(logits[0, 1], logits[0, 3])
    for row in (0, 1):
        _, flat = scorer(table, rows[row], anchor[row], past[row])
        assert torch.allclose(logits[row], flat, atol=1e-5)


ASKED = st.tuples(
    st.integers(0, 1),
    st.one_of(
        st.sampled_from([0, MASS["P"], WHOLE, WHOLE - MASS["K"], 9_000_000_000, -9_000_000_000]),
        st.integers(-1_000_000, WHOLE + 1_000_000),
        st.integers(19_000_000_000, 19_000_000_100),
    ),
    st.tuples(*[st.integers(0, VOCABULARY - 1)] * 2),
)


@pytest.mark.parametrize("charge", [2, 3])
@given(st.lists(ASKED, min_size=1, max_size=40))
@settings(deadline=None, max_examples=25)
def test_compiled_is_what_is_defined(
    charge: int, asked: list[tuple[int, int, tuple[int, int]]]
) -> None:
    """Kernels against the definition, which is what learns; also asked twice, in another order."""
    both = [replace(ladder(p), precursor_charge=charge) for p in ("PEPTLDEK", "GASPVTK")]
    batch = peak_batch([cleaned(spectrum) for spectrum in both])
    row, anchor, past = (torch.tensor(column) for column in zip(*asked, strict=True))
    token = (anchor % VOCABULARY).clamp(min=1)
    for one in (network().scorer.forwards, network().scorer.backwards):
        with torch.enable_grad():
            slow = PeakTable(batch, EVIDENCE)
            embedding, logits = one(slow, row, anchor, past)
        own = embedding[torch.arange(len(asked)), token]
        with torch.no_grad():
            fast = PeakTable(batch, EVIDENCE)
            again = one(fast, row, anchor, past)
            assert torch.allclose(again[0], embedding, atol=1e-4)
            assert torch.allclose(again[1], logits, atol=1e-4)
            assert torch.allclose(one.embedding(fast, row, anchor, past, token), own, atol=1e-4)
            for order in (slice(None), slice(None, None, 3), torch.arange(len(asked)).flip(0)):
                told = one.logits(fast, row[order], anchor[order], past[order])
                assert torch.allclose(told, logits[order], atol=1e-4)
    with torch.enable_grad():
        by_tensors = annotations(batch, EVIDENCE)
    with torch.no_grad():
        by_kernels = annotations(batch, EVIDENCE)
    for one, other in zip(by_kernels, by_tensors, strict=True):
        assert torch.equal(one, other)


def test_a_store_outgrows_its_room():
    """What was asked before is still known, and not asked again."""
    scorer = network().scorer.forwards
    table = table_of("SAMPLER")
    places = torch.arange(2000) * 300_001
    with torch.no_grad():
        past, rows = torch.zeros(2000, 2, dtype=torch.int64), torch.zeros(2000, dtype=torch.int64)
        first = scorer.logits(table, rows[:10], places[:10], past[:10])
        for part in (slice(5, 900), slice(0, 2000)):
            told = scorer.logits(table, rows[part], places[part], past[part])
            assert torch.equal(told, scorer(table, rows[part], places[part], past[part])[1])
        assert torch.equal(told[:10], first)
        assert int(scorer.memo(table).store.used[0]) == 2000


def test_a_question_has_room_for_every_token():
    """Two tokens are packed into five bits each."""
    assert VOCABULARY <= 32


def test_evidence_reaches_the_score():
    """The same question, put to the right spectrum and to one without its ions."""
    full, batch = PeakTable(batch_of("PEPTLDEK"), EVIDENCE), batch_of("PEPTLDEK")
    batch.intensity.zero_()
    batch.mz[:] = torch.arange(batch.mz.shape[1]) + 60_000_000
    empty = PeakTable(batch, EVIDENCE)
    scorer = network().scorer.forwards
    past = torch.zeros(1, 1, 2, dtype=torch.int64)
    logits = [scorer(table, ROW, torch.tensor([[0]]), past)[1] for table in (full, empty)]
    assert not torch.allclose(*logits)


def test_a_batch_changes_nothing():
    answer = answer_batch([encode(Peptide.parse("SAMPLER"))], 7)
    alone = network().scorer(table_of("SAMPLER"), ROW[0], answer)
    pair = network().scorer(
        table_of("SAMPLER", "PEPTLDEKPEPTLDEK"), torch.arange(2), answer.expand(2, -1)
    )
    for one, both in zip(alone, pair, strict=True):
        assert torch.allclose(one[0], both[0], atol=1e-5)
