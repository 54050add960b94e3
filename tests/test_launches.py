"""What threads of a GPU do, done by a loop on the CPU; and that a GPU could be made to do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from handmade import EVIDENCE, batch_of, network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import gelu

from tinynovo import decoding, evidence, explained, launches, questions, scorer, sequencing, waves
from tinynovo.compiling import Floats, jit
from tinynovo.decoding import draft
from tinynovo.errors import InputError
from tinynovo.evidence import PeakTable, closing_slack, look_up
from tinynovo.explained import explained_peaks, inner_ions
from tinynovo.launches import Replays, launch, seen
from tinynovo.peptide import Peptide
from tinynovo.permitted import Permitted
from tinynovo.questions import Anchors, all_candidates, anchors_told, candidates_told
from tinynovo.scorer import neighbours
from tinynovo.searching import BeamOptions
from tinynovo.sequencing import Sequencer
from tinynovo.tellings import PART, bend
from tinynovo.tokens import VOCABULARY, answer_batch, encode

PEPTIDES = ("AGSSTVLK", "[TMT6plex]-MNKWYAR", "LHHHEDC[Carbamidomethyl]K")
ANSWERS = answer_batch([encode(Peptide.parse(peptide)) for peptide in PEPTIDES], 12)
ROOMS = (decoding, evidence, explained, questions, scorer, waves)


@contextmanager
def threads() -> Iterator[None]:
    """As on a GPU, but that a loop stands in for its threads."""
    with pytest.MonkeyPatch.context() as patch:
        for room in ROOMS:
            for name, answer in (("launchable", True), ("compiled", False)):
                if hasattr(room, name):
                    patch.setattr(room, name, lambda _, answer=answer: answer)
        yield


@jit
def _doubled(row: int, out: Floats, given: tuple[Floats, int]) -> None:
    values, factor = given
    out[row] = values[row] * factor


def test_every_row_is_worked_on_and_no_more() -> None:
    out, values = torch.zeros(5), torch.arange(5.0) + 1
    launch(out.device, _doubled, 3, seen(out), (seen(values), 2))
    assert out.tolist() == [2, 4, 6, 0, 0]
    launch(out.device, _doubled, 0, seen(out), (seen(values), 9))
    assert out.tolist() == [2, 4, 6, 0, 0]


def test_what_is_done_again_and_again_is_done_as_often() -> None:
    done: list[str] = []
    replays = Replays(torch.device("cpu"))
    for name in "abaa":
        replays.do(name, lambda name=name: done.append(name))
    assert done == list("abaa")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 9), st.booleans())
def test_candidates_and_anchors_are_told_what_is_defined(seed: int, forwards: bool) -> None:
    batch, own = batch_of(*PEPTIDES), network(seed).scorer
    way = own.forwards if forwards else own.backwards
    answers = ANSWERS
    rows, anchor, past = way.places(PeakTable(batch, EVIDENCE), torch.arange(3), answers)
    asked = Anchors(rows.flatten(), anchor.flatten(), past.flatten(0, 1))
    table = PeakTable(batch, EVIDENCE)
    query, token = all_candidates(asked)
    assert sorted(set(token.tolist())) == list(range(1, VOCABULARY))
    told, fit = candidates_told(table, asked, query, token, forwards)
    fits = way._fits(table, asked, query, token)
    assert torch.equal(fit, fits)
    defined = way._told(table, asked, query[fits], token[fits])
    assert torch.allclose(told[fits], defined, atol=1e-5)
    assert not told[~fits].any()
    of_anchors = way._told_of_anchors(table, asked)
    assert torch.allclose(anchors_told(table, asked, forwards), of_anchors, atol=1e-5)
    with torch.no_grad():
        logits = way.ask(table, asked)
        again = way.logits(PeakTable(batch, EVIDENCE), asked.row, asked.anchor, asked.past)
    assert torch.allclose(logits, again, atol=1e-3)


@pytest.mark.parametrize("width", [PART, 3 * PART, 3 * PART + 1])
def test_bending_is_a_sum_and_gelu(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    context, named = (torch.randn(n, width, generator=generator) for n in (2, 4))
    hidden = torch.randn(6, width, generator=generator)
    expected = gelu(hidden + context.repeat_interleave(3, 0) + named[1:].repeat(2, 1))
    parts = -(-width // PART) * 6
    launch(hidden.device, bend, parts, seen(hidden), seen(context), seen(named))
    assert torch.allclose(hidden, expected, atol=1e-6)


def test_hits_are_those_that_are_defined() -> None:
    batch, answers = batch_of(*PEPTIDES), ANSWERS
    row = torch.arange(3)
    found = []
    for how in (threads, torch.enable_grad):
        table = PeakTable(batch, EVIDENCE)
        with how():
            _, anchor, _ = network().scorer.forwards.places(table, row, answers)
            hits = look_up(table, row.repeat_interleave(answers.shape[1]), anchor.flatten())
            known = explained_peaks(table, row, hits)
            inner = inner_ions(table, row, answers, known)
        found.append([*vars(hits).values(), inner.intensity, inner.asked, inner.taken])
    assert found[0][2].sum() > 20
    assert found[0][5].any()
    hit = found[0][2]
    for one, two in zip(*found, strict=True):
        if one.shape == hit.shape and one.dtype != torch.bool:
            one, two = one[hit], two[hit]
        assert torch.allclose(one.float(), two.float(), atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200_000))
def test_parts_are_all_of_the_questions_and_few_more(questions_left: int) -> None:
    asked, left = [], questions_left
    while left > 0:
        asked.append(waves._part(left))
        left -= asked[-1]
    assert set(asked) <= set(waves._PARTS)
    assert sum(asked) <= max(4 / 3 * questions_left, questions_left + waves._PARTS[-1] - 1)
    assert len(asked) <= questions_left // waves._PARTS[0] + len(waves._PARTS)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 99),
    st.sampled_from([1.0, 20.0]),
    st.sampled_from([1e9, 2.0]),
    st.sampled_from([1e9, 3.0]),
    st.sampled_from([-float("inf"), -25.0]),
)
def test_waves_find_the_drafts_that_beams_find(
    seed: int, margin: float, guide: float, behind: float, least: float
) -> None:
    batch, own = batch_of(*PEPTIDES), network(seed).scorer
    nats = {"margin": margin, "guide_margin": guide, "behind": behind}
    options = BeamOptions(n_beams=5, candidates=4, **nats, max_slots=16)
    window = closing_slack(batch.residue_mass)
    beaten = torch.full((3,), least)
    asked = (options, Permitted.by({"Oxidation": "off"}), window, beaten)
    with torch.no_grad():
        beams = draft(own, PeakTable(batch, EVIDENCE), *asked)
        with threads():
            waved = draft(own, PeakTable(batch, EVIDENCE), *asked)
    for row in range(3):
        assert torch.allclose(waved.score[row], beams.score[row], atol=1e-3)
        if bool((beams.score[row].diff().abs() > 1e-3).all()):
            assert torch.equal(waved.tokens[row], beams.tokens[row])


def _launched(patch: pytest.MonkeyPatch) -> dict[Callable[..., None], tuple[Any, ...]]:
    """What is launched, with what, while three spectra are drafted and their answers looked up."""
    met: dict[Callable[..., None], tuple[Any, ...]] = {}

    def noted(device: torch.device, work: Any, count: int, *arguments: Any, **how: Any) -> None:
        met.setdefault(work, arguments)
        launch(device, work, count, *arguments, **how)

    for room in ROOMS:
        if hasattr(room, "launch"):
            patch.setattr(room, "launch", noted)
    test_hits_are_those_that_are_defined()
    test_waves_find_the_drafts_that_beams_find.hypothesis.inner_test(  # type: ignore[attr-defined]
        0, 20.0, 2.0, 3.0, -25.0
    )
    return met


def test_all_that_is_launched_compiles_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba_cuda", reason="the extra gpu is not installed")
    import numba
    from numba import cuda
    from numba.cuda import dispatcher

    card = type("Card", (), {"compute_capability": (8, 0)})()
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: card)
    met = _launched(monkeypatch)
    assert len(met) >= 15
    for work, arguments in met.items():
        kernel, types = launches.by_threads(work, cuda), (numba.int64, numba.typeof(arguments))
        text, _ = cuda.compile_ptx(kernel, types, cc=(8, 0), fastmath=True)
        assert ".entry" in text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_finds_what_a_cpu_finds() -> None:
    batch, own = batch_of(*PEPTIDES), network().scorer
    window = closing_slack(batch.residue_mass)
    options = BeamOptions(n_beams=5, candidates=4, guide_margin=4.0, max_slots=16)
    with torch.no_grad():
        found = draft(own, PeakTable(batch, EVIDENCE), options, Permitted.by({}), window)
        own, there = own.cuda(), PeakTable(batch.to("cuda"), EVIDENCE)
        permitted = Permitted.by({}, torch.device("cuda"))
        again = draft(own, there, options, permitted, window.cuda())
    assert torch.allclose(again.score.cpu(), found.score, atol=1e-3)


def test_neighbours_of_places_are_those_passed() -> None:
    answers, own = ANSWERS, network().scorer
    table, row = PeakTable(batch_of(*PEPTIDES), EVIDENCE), torch.arange(3)
    for way, step in ((own.forwards, -1), (own.backwards, 1)):
        rows, anchor, past = way.places(table, row, answers)
        assert np.array_equal(rows[:, 0], row)
        assert torch.equal(past, neighbours(answers, step))
        assert anchor.shape == answers.shape


def test_a_compiler_that_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("module 'numpy' has no attribute 'row_stack'\nand more")

    launches.check(torch.device("cpu"))
    monkeypatch.setattr(launches, "threads_on", lambda _: True)
    monkeypatch.setattr(launches, "launch", broken)
    with pytest.raises(InputError, match=r"numba-cuda does not work here: module 'numpy' .*stack'"):
        launches.check(torch.device("cpu"))


def test_a_gpu_without_the_extra_is_said_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(solver=SimpleNamespace(device=torch.device("cuda")))
    advice = Sequencer.advice.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(sequencing, "threads_on", lambda _: False)
    assert "tinynovo[gpu]" in advice(fake)
    monkeypatch.setattr(sequencing, "threads_on", lambda _: True)
    assert not advice(fake)
