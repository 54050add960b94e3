"""Sequencing: spectra and a checkpoint to peptide-spectrum matches.

Knows which charges and isotopes are tried, what is kept of the answers and what a row says. Does
not know argv, files of spectra, output formats nor tensors.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from tinynovo import checkpoint
from tinynovo.annotation import alternatives, ambiguous, support
from tinynovo.calibration import DATABASE, Answer, Facts, facts, uncalibrated
from tinynovo.checkpoint import Checkpoint
from tinynovo.errors import InputError
from tinynovo.launches import threads_on
from tinynovo.masses import ISOTOPE_SPACING, MICRO, error_ppm, ion_mz
from tinynovo.matching import Proposer
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide, fragments
from tinynovo.psm import PSM
from tinynovo.reasons import Reason, ReasonCode
from tinynovo.solving import Hypothesis, Solver, find_device
from tinynovo.spectrum import NO_CHARGE, Spectrum, preprocess

T = TypeVar("T")

_PARTS, _FEWEST = 4, 8
"""Batches that the last window is divided into, and the fewest spectra of one."""

_NO_FIT = Reason(ReasonCode.NO_PEPTIDE_FITS, "no peptide fits the precursor mass")


class Sequencer:
    """A loaded model that turns spectra into PSMs.

    Parameters
    ----------
    loaded : Checkpoint
    options : SequencingOptions
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(
        self, loaded: Checkpoint, options: SequencingOptions, device: str = "auto"
    ) -> None:
        self.frozen = loaded.frozen
        self.weights = loaded.digest
        found = find_device(device)
        size = {"predict_batch_size": options.together(found.type, threads=threads_on(found))}
        self.options = options.model_copy(update=size)
        self.solver = Solver(loaded, self.options, found)

    @classmethod
    def load(cls, path: Path | None, options: SequencingOptions, device: str = "auto") -> Sequencer:
        """The packaged weights, or those of a file."""
        return cls(checkpoint.load(path), options, device)

    def make_ready(self) -> None:
        """Sequence a spectrum: what is compiled is compiled then, or read from disk."""
        peptide = Peptide.parse("SAMPLEK")
        mz = np.array(sorted(ion.mz for ion in fragments(peptide)))
        precursor = ion_mz(peptide.mass_udalton / MICRO, 2)
        list(self.sequence([Spectrum(mz, np.ones_like(mz), precursor, 2)]))

    @property
    def advice(self) -> str:
        """What would make the device faster; empty where nothing is known to."""
        slow = self.solver.device.type == "cuda" and not threads_on(self.solver.device)
        return "a GPU is several times as fast with: pip install 'tinynovo[gpu]'" if slow else ""

    @property
    def window(self) -> int:
        """Spectra that are sequenced together: cut between windows, a run answers the same."""
        return 4 * self.options.together(self.solver.device.type)

    @property
    def settings(self) -> dict[str, str]:
        """The resolved configuration, for the results."""
        frozen = self.frozen.model_dump(mode="json", exclude={"residues", "notes", "calibration"})
        return {
            **{name: str(value) for name, value in frozen.items()},
            **{name: str(value) for name, value in self.options.model_dump(mode="json").items()},
            "device": str(self.solver.device),
            "weights": self.weights,
        }

    def sequence(self, spectra: Iterable[Spectrum]) -> Iterator[PSM]:
        """At least one PSM a spectrum, in input order; rank 1 first."""
        for rows in self.rows(spectra):
            yield from rows

    def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        """The PSMs of each spectrum, as `sequence` yields them."""
        for _, rows in self._each(spectra, self._best):
            yield rows

    def judge(
        self, spectra: Iterable[Spectrum], propose: Proposer, *, closed: bool = False
    ) -> Iterator[tuple[Spectrum, list[PSM]]]:
        """Proposed peptides of every spectrum by falling score, or one row that says why not.

        Parameters
        ----------
        spectra : iterable of Spectrum
        propose : callable
            Asked for every charge and isotope that is tried.
        closed : bool
            Whether spectra are of what is proposed or of nothing, as in the search of a proteome.
            Proposals then have only each other as rivals, and a calibration of their own. Else they
            are scored beside the peptides that the model finds itself, so that scores mean what
            they do in `sequence`.

        Raises
        ------
        InputError
            Where the strategy is not ``full``: only the judge can judge what it did not find.
        """
        if self.options.strategy != "full":
            problem = f"strategy {self.options.strategy} judges no candidates"
            raise InputError(problem, remedy="use the strategy full")

        def proposed(spectrum: Spectrum, found: list[Answer] | Reason) -> list[PSM]:
            told = [a for a in found if a.proposed] if isinstance(found, list) else []
            return self._psms(spectrum, found, told, len(told), closed)

        return self._each(spectra, proposed, propose, closed=closed)

    def explore(
        self,
        spectra: Iterable[Spectrum],
        propose: Proposer | None = None,
        *,
        closed: bool = False,
    ) -> Iterator[tuple[Spectrum, list[Answer] | Reason]]:
        """All different answers to each spectrum, best first, or why there are none.

        Where there is someone to propose peptides, charges and isotopes without any are not tried,
        and nothing but proposals where `closed`.
        """
        return self._each(spectra, lambda _, found: found, propose, closed=closed)

    def _each(
        self,
        spectra: Iterable[Spectrum],
        tell: Callable[[Spectrum, list[Answer] | Reason], T],
        propose: Proposer | None = None,
        *,
        closed: bool = False,
    ) -> Iterator[tuple[Spectrum, T]]:
        """What is made of each spectrum and its answers, in input order.

        Spectra of a `window` are sequenced together, those of similar mass in a batch, the
        heaviest, which take longest, first. The next window is read, and its batches wait, before
        the rows of one are asked for: threads then have something to do at any time.
        """

        def some(batch: list[tuple[Spectrum, list[Hypothesis] | Reason]]) -> list[T]:
            answers = self._answers([found for _, found in batch], propose, closed)
            pairs = zip(batch, answers, strict=True)
            return [tell(spectrum, found) for (spectrum, _), found in pairs]

        device, source = self.solver.device.type, iter(spectra)
        size = self.options.together(device)
        begun: Iterator[tuple[Spectrum, T]] = iter(())
        with self.solver.workers() as work:
            while window := list(islice(source, self.window)):
                tried = [(spectrum, self._hypotheses(spectrum)) for spectrum in window]
                order = sorted(range(len(tried)), key=lambda index: -_mass(tried[index][1]))
                last = device == "cpu" and len(window) < self.window
                many = _few(len(window), size) if last else size
                heaps = [order[begin : begin + many] for begin in range(0, len(order), many)]
                told = work(some, [[tried[index] for index in heap] for heap in heaps])
                before, begun = begun, _ordered(window, heaps, told)
                yield from before
            yield from begun

    def _answers(
        self, found: Sequence[list[Hypothesis] | Reason], propose: Proposer | None, closed: bool
    ) -> list[list[Answer] | Reason]:
        """Answers to spectra of which it is said how they may be read."""
        hypotheses = [
            replace(hypothesis, number=number)
            for number, each in enumerate(found)
            if isinstance(each, list)
            for hypothesis in each
        ]
        answers: list[list[Answer]] = [[] for _ in found]
        first, last = self.options.isotope_error_range
        for isotopes in range(first, last + 1):
            tried = [h.shifted(isotopes) for h in hypotheses]
            if propose:
                tried = [replace(h, proposals=self._fitting(h, propose)) for h in tried]
                tried = [h for h in tried if h.proposals]
            else:
                pairs = zip(hypotheses, tried, strict=True)
                tried = [h for p, h in pairs if not answers[h.number] or self._may_be(p, h)]
                sure = {h.number for h in tried if self._sure(answers[h.number])}
                tried = [h for h in tried if h.number not in sure]
            best = [max((a.opinion for a in known), default=-math.inf) for known in answers]
            tried = [replace(h, least=best[h.number]) for h in tried]
            for number, answer in self.solver.solve(tried, closed=closed):
                answers[number].append(answer)
        return [
            each if isinstance(each, Reason) else _distinct(known) or _NO_FIT
            for each, known in zip(found, answers, strict=True)
        ]

    def _fitting(self, tried: Hypothesis, propose: Proposer) -> tuple[Peptide, ...]:
        """The proposals that fit the precursor mass and are not too long."""
        mass = tried.peaks.precursor_mass
        width = self.solver.tolerance.window(mass)
        return tuple(
            peptide
            for peptide in propose(tried.spectrum, tried.peaks)
            if abs(peptide.mass_udalton - mass) <= width
            and len(peptide) <= self.options.max_peptide_len
        )

    def _sure(self, known: Sequence[Answer]) -> bool:
        """Whether no further isotope need be tried."""
        if not known:
            return False
        known = _distinct(known)
        best = known[0]
        return self._scores(best, facts(best, known))[0] >= self.options.isotope_retry_below

    def _may_be(self, plain: Hypothesis, tried: Hypothesis) -> bool:
        """Whether the fragments speak no more against this isotope than they may."""
        least = self.options.isotope_retry_pairs
        if tried.isotopes == plain.isotopes or not least:
            return True
        return tried.peaks.complements > least * plain.peaks.complements

    def _hypotheses(self, spectrum: Spectrum) -> list[Hypothesis] | Reason:
        charges: Sequence[int | None] = (spectrum.precursor_charge,)
        if spectrum.precursor_charge is None:
            charges = self.options.default_charges
        found: list[Hypothesis] = []
        reason = NO_CHARGE
        for charge in charges:
            peaks = preprocess(spectrum, self.frozen.preprocessing, charge)
            if isinstance(peaks, Reason):
                reason = peaks
            else:
                found.append(Hypothesis(spectrum, peaks))
        return found or reason

    def _best(self, spectrum: Spectrum, found: list[Answer] | Reason) -> list[PSM]:
        """Rows of the best answers."""
        told = self._chosen(found) if isinstance(found, list) else ()
        return self._psms(spectrum, found, told, self.options.top_match)

    def _psms(
        self,
        spectrum: Spectrum,
        found: list[Answer] | Reason,
        told: Iterable[Answer],
        most: int,
        closed: bool = False,
    ) -> list[PSM]:
        """Rows of the best of some answers among all that were found."""
        reason = found if isinstance(found, Reason) else _NO_FIT
        blank = PSM(
            file=spectrum.file,
            index=spectrum.index,
            identifier=spectrum.identifier,
            peptide=None,
            precursor_mz=spectrum.precursor_mz,
            precursor_charge=spectrum.precursor_charge,
            title=spectrum.title,
            scan=spectrum.scan,
            retention_time=spectrum.retention_time,
            ion_mobility=spectrum.ion_mobility,
            reason_code=reason.code,
            reason=reason.text,
        )
        rivals = found if isinstance(found, list) else []
        rows = [self._psm(blank, answer, rivals, closed) for answer in told]
        rows.sort(key=lambda psm: -(psm.score or 0.0))
        ranked = enumerate(rows[:most], 1)
        return [p if p.rank == rank else replace(p, rank=rank) for rank, p in ranked] or [blank]

    def _chosen(self, found: Sequence[Answer]) -> Iterator[Answer]:
        """The first few answers of each charge."""
        told: Counter[int] = Counter()
        for answer in found:
            told[answer.peaks.precursor_charge] += 1
            if told[answer.peaks.precursor_charge] <= self.options.top_match:
                yield answer

    def _psm(self, blank: PSM, answer: Answer, rivals: Sequence[Answer], closed: bool) -> PSM:
        peptide, charge = answer.peptide, answer.peaks.precursor_charge
        known = facts(answer, rivals)
        score, residue_scores = self._scores(answer, known, closed)
        calculated = ion_mz(peptide.mass_udalton / MICRO, charge)
        observed = (blank.precursor_mz or 0.0) - answer.isotopes * ISOTOPE_SPACING / charge
        return replace(
            blank,
            peptide=peptide,
            score=score,
            residue_scores=residue_scores,
            support=support(known.blocks),
            ambiguous=ambiguous(peptide, known.blocks),
            alternatives=alternatives(peptide, known.blocks),
            precursor_charge=charge,
            calculated_mz=calculated,
            error_ppm=error_ppm(observed, calculated),
            isotope_error=answer.isotopes,
            reason_code="",
            reason="",
        )

    def _scores(
        self, answer: Answer, known: Facts, closed: bool = False
    ) -> tuple[float, tuple[float, ...]]:
        """Probability that a peptide is right, and that each residue is."""
        calibration = self.frozen.calibration.get(DATABASE if closed else self.options.strategy)
        return calibration.scores(known) if calibration else uncalibrated(answer)


def _few(count: int, size: int) -> int:
    """Spectra of each batch of the last window: of few spectra, all threads are given some."""
    return min(size, max(_FEWEST, -(-count // _PARTS)))


def _ordered(
    window: Sequence[Spectrum], heaps: Sequence[Sequence[int]], told: Iterable[Sequence[T]]
) -> Iterator[tuple[Spectrum, T]]:
    """Spectra, and what is told of each heap of them, in their order."""
    of: dict[int, T] = {}
    for heap, each in zip(heaps, told, strict=True):
        of.update(zip(heap, each, strict=True))
    yield from ((spectrum, of[index]) for index, spectrum in enumerate(window))


def _mass(found: list[Hypothesis] | Reason) -> int:
    """Of the heaviest reading of a spectrum."""
    if isinstance(found, Reason):
        return 0
    return max(hypothesis.peaks.precursor_mass for hypothesis in found)


def _distinct(answers: Iterable[Answer]) -> list[Answer]:
    """The answers by falling order, each peptide once, as it was proposed if it was."""
    best: dict[Peptide, Answer] = {}
    for answer in sorted(answers, key=lambda answer: (not answer.proposed, -answer.order)):
        best.setdefault(answer.peptide, answer)
    return sorted(best.values(), key=lambda answer: -answer.order)
