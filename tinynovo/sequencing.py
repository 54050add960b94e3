"""Sequencing: spectra and a checkpoint to peptide-spectrum matches.

Knows the recipe: clean, draft, refine, judge, rank. Does not know argv, files of spectra nor
output formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from tinynovo import checkpoint
from tinynovo.annotation import alternatives, ambiguous, support
from tinynovo.calibration import Answer, Facts, facts, uncalibrated
from tinynovo.checkpoint import Checkpoint, Frozen
from tinynovo.decoding import (
    BeamOptions,
    best_of,
    both_ways,
    draft,
    exact_answers,
)
from tinynovo.errors import InputError
from tinynovo.masses import (
    ISOTOPE_SPACING,
    MICRO,
    WATER,
    Tolerance,
    error_ppm,
    ion_mz,
    udalton,
)
from tinynovo.model import Memory, Tinynovo
from tinynovo.options import SequencingOptions
from tinynovo.peptide import PSM, Peptide
from tinynovo.recursion import solve
from tinynovo.spectrum import Peaks, Spectrum, preprocess
from tinynovo.tokens import PAD, VOCABULARY, decode, peak_batch, token_ids

_ROOM = 3
"""Slots by which a refined answer may be longer than the one it began as."""

_STRIDE = 4
"""Slots are counted in multiples of so many: spectra that need as many are solved together."""

_FEW = 2
"""Mass-exact answers taken from the logits at the end of a refinement."""


def _alike(answers: Tensor, room: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of [B, K, S] answers that need as many slots, and how many.

    Empty slots have their say in the network, so they must not depend on what else is in a batch.
    """
    slots = answers.shape[-1]
    longest = (answers != PAD).sum(-1).amax(-1)
    used = torch.div(longest + room + _STRIDE - 1, _STRIDE, rounding_mode="floor") * _STRIDE
    used = used.clamp(max=slots).masked_fill(longest == 0, slots)
    for size in sorted(set(used.tolist())):
        yield (used == size).nonzero().flatten(), size


def find_device(name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises
    ------
    InputError
        When this machine has no such device.
    """
    try:
        accelerator = "gpu" if name == "cuda" else name
        device: torch.device = Fabric(accelerator=accelerator, devices=1).device
    except (RuntimeError, ValueError) as error:
        raise InputError(f"no {name} device here", remedy="use --device cpu") from error
    return device


@dataclass(frozen=True)
class _Hypothesis:
    """One way to read one spectrum: its charge and how many isotopes its precursor is off."""

    spectrum: int
    peaks: Peaks
    isotopes: int

    def shifted(self, isotopes: int) -> _Hypothesis:
        """The same with the precursor taken to be so many isotopes too heavy."""
        return replace(self, peaks=self.peaks.shifted(isotopes), isotopes=isotopes)


@dataclass(frozen=True, eq=False)
class _Judged:
    """Answers of some spectra.

    `tokens` is int64 [B, K, S]; `order`, which ranks the answers of a spectrum (minus infinity: no
    answer), and `certainty`, the logit of one being right, are [B, K]; `residues`, the same of each
    residue, is [B, K, S].
    """

    tokens: Tensor
    order: Tensor
    certainty: Tensor
    residues: Tensor


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
        self.device = find_device(device)
        self.frozen: Frozen = loaded.frozen
        self.calibration = loaded.frozen.calibration.get(options.strategy)
        self.model: Tinynovo = loaded.model.to(self.device).eval()
        self.options = options
        self.tolerance = Tolerance.parse(options.precursor_mass_tol)
        self.banned = torch.zeros(VOCABULARY, dtype=torch.bool, device=self.device)
        self.banned[[PAD, *token_ids(options.exclude_residues)]] = True

    @classmethod
    def load(cls, path: Path | None, options: SequencingOptions, device: str = "auto") -> Sequencer:
        """The packaged weights, or those of a file."""
        return cls(checkpoint.load(path), options, device)

    @property
    def settings(self) -> dict[str, str]:
        """The resolved configuration, for the results."""
        frozen = self.frozen.model_dump(mode="json", exclude={"residues", "notes", "calibration"})
        return {
            **{name: str(value) for name, value in frozen.items()},
            **{name: str(value) for name, value in self.options.model_dump(mode="json").items()},
            "device": str(self.device),
        }

    def sequence(self, spectra: Iterable[Spectrum]) -> Iterator[PSM]:
        """At least one PSM a spectrum, in input order; rank 1 first.

        Spectra of a window of eight batches are sorted by mass to be sequenced together.
        """
        for spectrum, found in self.explore(spectra):
            yield from self._psms(spectrum, found)

    def explore(self, spectra: Iterable[Spectrum]) -> Iterator[tuple[Spectrum, list[Answer] | str]]:
        """All different answers to each spectrum, best first, or why there are none."""
        source = iter(spectra)
        while window := list(islice(source, 8 * self.options.predict_batch_size)):
            yield from zip(window, self._window(window), strict=True)

    def _window(self, window: Sequence[Spectrum]) -> list[list[Answer] | str]:
        reasons: dict[int, str] = {}
        hypotheses: list[_Hypothesis] = []
        for index, spectrum in enumerate(window):
            found = self._hypotheses(index, spectrum)
            if isinstance(found, str):
                reasons[index] = found
            else:
                hypotheses += found
        answers: list[list[Answer]] = [[] for _ in window]
        first, last = self.options.isotope_error_range
        for isotopes in range(first, last + 1):
            sure = {index for index, known in enumerate(answers) if self._sure(known)}
            open_ones = [h.shifted(isotopes) for h in hypotheses if h.spectrum not in sure]
            for index, answer in self._solve_all(open_ones):
                answers[index].append(answer)
        return [reasons.get(index) or _distinct(known) for index, known in enumerate(answers)]

    def _sure(self, known: Sequence[Answer]) -> bool:
        """Whether no further isotope need be tried."""
        if not known:
            return False
        known = _distinct(known)
        best = known[0]
        return self._scores(best, facts(best, known))[0] >= self.options.isotope_retry_below

    def _hypotheses(self, index: int, spectrum: Spectrum) -> list[_Hypothesis] | str:
        charges: Sequence[int | None] = (spectrum.precursor_charge,)
        if spectrum.precursor_charge is None:
            charges = self.options.default_charges
        found: list[_Hypothesis] = []
        reason = "no precursor charge"
        for charge in charges:
            peaks = preprocess(spectrum, self.frozen.preprocessing, charge)
            if isinstance(peaks, str):
                reason = peaks
            else:
                found.append(_Hypothesis(index, peaks, 0))
        return found or reason

    def _solve_all(self, hypotheses: list[_Hypothesis]) -> Iterator[tuple[int, Answer]]:
        """Answers of any number of hypotheses, those of similar mass together."""
        hypotheses.sort(key=lambda h: h.peaks.precursor_mass)
        size = self.options.predict_batch_size
        for begin in range(0, len(hypotheses), size):
            yield from self._solve(hypotheses[begin : begin + size])

    @torch.inference_mode()
    def _solve(self, hypotheses: Sequence[_Hypothesis]) -> Iterator[tuple[int, Answer]]:
        """Answers of one batch of hypotheses."""
        batch = peak_batch([h.peaks for h in hypotheses]).to(self.device)
        memory = self.model.remember(batch)
        slots = self.options.max_peptide_len + 2
        if self.options.strategy == "empty":
            blank = torch.zeros(len(hypotheses), 1, slots, dtype=torch.int64, device=self.device)
            found = self._judge(memory, self._refine(memory, blank))
        else:
            found = self._from_drafts(memory, slots)
        shortest, longest = self.options.min_peptide_len, self.options.max_peptide_len
        parts = (found.order, found.tokens, found.certainty, found.residues)
        for hypothesis, *row in zip(hypotheses, *(part.tolist() for part in parts), strict=True):
            for order, tokens, certainty, residues in zip(*row, strict=True):
                peptide = decode(tokens)
                if order > float("-inf") and shortest <= len(peptide) <= longest:
                    last = len(peptide.tokens)
                    each = tuple(residues[last - len(peptide) : last])
                    peaks, isotopes = hypothesis.peaks, hypothesis.isotopes
                    answer = Answer(peptide, peaks, isotopes, order, certainty, each)
                    yield hypothesis.spectrum, answer

    def _from_drafts(self, memory: Memory, slots: int) -> _Judged:
        options = self.options
        beam = BeamOptions(n_beams=options.n_beams, candidates=options.candidates, max_slots=slots)
        window = self.window(memory.table.batch.residue_mass)
        if options.strategy == "draft":
            drafts = draft(self.model.scorer, memory.table, beam, self.banned, window)
            length = (drafts.tokens != PAD).sum(-1).clamp(min=1)
            certainty = torch.logit((drafts.score / length).exp(), 1e-6)
            residues = certainty[..., None].expand(drafts.tokens.shape)
            return _Judged(drafts.tokens, drafts.score, certainty, residues)
        drafts = both_ways(self.model.scorer, memory.table, beam, self.banned, window)
        judged = self._judge(memory, drafts.tokens)
        if not options.refined:
            return judged
        best = best_of(judged.tokens, judged.order, options.refined).tokens
        best = functional.pad(best, (0, 0, 0, options.refined - best.shape[1]))
        refined = self._judge(memory, self._refine(memory, best))
        tokens, order, certainty, residues = (
            torch.cat([getattr(part, name) for part in (judged, refined)], 1)
            for name in ("tokens", "order", "certainty", "residues")
        )
        return _Judged(tokens, order, certainty, residues)

    def _refine(self, memory: Memory, answers: Tensor) -> Tensor:
        """Run the loop from answers [B, K, S]; mass-exact answers of its end, [B, K * few, S]."""
        recursion = self.frozen.recursion
        if self.options.supervision_steps:
            steps = {"supervision_steps": self.options.supervision_steps}
            recursion = recursion.model_copy(update=steps)
        shape = (answers.shape[0], answers.shape[1] * _FEW, answers.shape[2])
        ended = torch.zeros(shape, dtype=torch.int64, device=answers.device)
        for rows, used in _alike(answers, _ROOM):
            part = memory.select(rows)
            *_, last = solve(self.model, answers[rows, :, :used].flatten(0, 1), part, recursion)
            mass = part.table.batch.residue_mass.repeat_interleave(answers.shape[1])
            exact = exact_answers(last.logits, mass, self.banned, self.window(mass), _FEW)
            ended[rows, :, :used] = exact.tokens.view(rows.numel(), -1, used)
        return ended

    def _judge(self, memory: Memory, answers: Tensor) -> _Judged:
        """Order answers [B, K, S] by scorer and judge; how sure the judge is of each."""
        single = {"supervision_steps": 1, "cycles": 1}  # a second cycle would judge its own answer
        once = self.frozen.recursion.model_copy(update=single)
        weight = self.options.judge_weight
        order = torch.zeros(answers.shape[:2], device=answers.device)
        certainty = torch.zeros_like(order)
        residues = torch.zeros(answers.shape, device=answers.device)
        for rows, used in _alike(answers, 1):
            part = answers[rows, :, :used]
            (step,) = solve(self.model, part.flatten(0, 1), memory.select(rows), once)
            opinion = self.model.opinion(step.evidence).sum(-1)
            mixed = (1 - weight) * opinion + weight * step.halt
            order[rows] = mixed.view(part.shape[:2])
            certainty[rows] = step.halt.view(part.shape[:2])
            residues[rows, :, :used] = step.residues.view(part.shape)
        order = order.masked_fill((answers == PAD).all(-1), -torch.inf)
        return _Judged(answers, order, certainty, residues)

    def window(self, residue_mass: Tensor) -> Tensor:
        """Micro-dalton by which answers may miss the precursor: int64, shape of the input."""
        water = udalton(WATER)
        windows = [self.tolerance.window(mass + water) for mass in residue_mass.tolist()]
        return torch.tensor(windows, dtype=torch.int64, device=residue_mass.device)

    def _psms(self, spectrum: Spectrum, found: list[Answer] | str) -> Iterator[PSM]:
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
            reason=found if isinstance(found, str) else "no peptide fits the precursor mass",
        )
        if isinstance(found, str) or not found:
            yield blank
            return
        best = sorted(
            (self._psm(blank, answer, found) for answer in self._chosen(found)),
            key=lambda psm: -(psm.score or 0.0),
        )
        for rank, psm in enumerate(best[: self.options.top_match], 1):
            yield replace(psm, rank=rank)

    def _chosen(self, found: Sequence[Answer]) -> Iterator[Answer]:
        """The first few answers of each charge."""
        told: Counter[int] = Counter()
        for answer in found:
            told[answer.peaks.precursor_charge] += 1
            if told[answer.peaks.precursor_charge] <= self.options.top_match:
                yield answer

    def _psm(self, blank: PSM, answer: Answer, rivals: Sequence[Answer]) -> PSM:
        peptide, charge = answer.peptide, answer.peaks.precursor_charge
        known = facts(answer, rivals)
        score, residue_scores = self._scores(answer, known)
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
            reason="",
        )

    def _scores(self, answer: Answer, known: Facts) -> tuple[float, tuple[float, ...]]:
        """Probability that a peptide is right, and that each residue is."""
        if self.calibration is None:
            return uncalibrated(answer)
        return self.calibration.scores(known)


def _distinct(answers: Iterable[Answer]) -> list[Answer]:
    """The answers by falling order, each peptide once."""
    best: dict[Peptide, Answer] = {}
    for answer in sorted(answers, key=lambda answer: -answer.order):
        best.setdefault(answer.peptide, answer)
    return list(best.values())
