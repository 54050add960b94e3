"""Solving: cleaned spectra to peptides that the model has drafted, refined and judged.

Knows how drafts, the loop and the judge follow one another, in batches of tensors. Does not know
files, charges and isotopes that are not certain, nor probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tinynovo.calibration import Answer
from tinynovo.checkpoint import Checkpoint
from tinynovo.decoding import BeamOptions, Candidates, best_of, draft, exact_answers
from tinynovo.errors import InputError
from tinynovo.evidence import PeakTable, peak_table
from tinynovo.masses import WATER, Tolerance, udalton
from tinynovo.model import Memory, Tinynovo
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.permitted import Permitted
from tinynovo.recursion import judge, solve
from tinynovo.spectrum import Peaks
from tinynovo.tokens import PAD, decode, encode, peak_batch

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


def use_threads(count: int | None) -> None:
    """Let the CPU work with so many threads; None: with as many as torch finds."""
    if count:
        torch.set_num_threads(count)


_DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}
"""What says whether this machine has a device; the best first."""


def find_device(name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises
    ------
    InputError
        When this machine has no such device.
    """
    here = [kind for kind, found in _DEVICES.items() if found()]
    if name != "auto" and name not in here:
        raise InputError(f"no {name} device here", remedy="use --device cpu")
    return torch.device(here[0] if name == "auto" else name)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way to read one spectrum: its charge and how many isotopes its precursor is off.

    Attributes
    ----------
    spectrum : int
        Number that its answers are given back with.
    peaks : Peaks
    isotopes : int
    proposals : tuple of Peptide
        Peptides to judge beside those that are found.
    """

    spectrum: int
    peaks: Peaks
    isotopes: int = 0
    proposals: tuple[Peptide, ...] = ()

    def shifted(self, isotopes: int) -> Hypothesis:
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

    def among(self, rows: Tensor, spectra: int) -> _Judged:
        """The same answers as those of some rows of so many spectra; the others have none."""
        blank = torch.full((spectra, self.order.shape[1]), -torch.inf, device=rows.device)
        wide = torch.zeros(spectra, *self.tokens.shape[1:], device=rows.device)
        return _Judged(
            wide.long().index_copy(0, rows, self.tokens),
            blank.index_copy(0, rows, self.order),
            torch.zeros_like(blank).index_copy(0, rows, self.certainty),
            wide.index_copy(0, rows, self.residues),
        )


def _beside(parts: Sequence[_Judged]) -> _Judged:
    """Answers of several kinds to the same spectra."""
    names = ("tokens", "order", "certainty", "residues")
    return _Judged(*(torch.cat([getattr(part, n) for part in parts], 1) for n in names))


class Solver:
    """A loaded model that answers spectra, a batch at a time.

    Parameters
    ----------
    loaded : Checkpoint
    options : SequencingOptions
    device : torch.device
    """

    def __init__(
        self, loaded: Checkpoint, options: SequencingOptions, device: torch.device
    ) -> None:
        self.device = device
        self.recursion = loaded.frozen.recursion
        if options.supervision_steps:
            steps = {"supervision_steps": options.supervision_steps}
            self.recursion = self.recursion.model_copy(update=steps)
        self.model: Tinynovo = loaded.model.to(device).eval()
        self.options = options
        self.tolerance = Tolerance.parse(options.precursor_mass_tol)
        self.permitted = Permitted.by(options.mods, device)

    def solve(
        self, hypotheses: Sequence[Hypothesis], *, closed: bool = False
    ) -> Iterator[tuple[int, Answer]]:
        """Answers of any number of hypotheses, those of similar mass together.

        Parameters
        ----------
        hypotheses : sequence of Hypothesis
        closed : bool
            Whether only what is proposed is judged, and nothing else looked for.

        Yields
        ------
        (int, Answer)
            `Hypothesis.spectrum` and an answer to it, in any order.
        """
        ordered = sorted(hypotheses, key=lambda h: h.peaks.precursor_mass)
        size = self.options.predict_batch_size
        batches = [ordered[begin : begin + size] for begin in range(0, len(ordered), size)]
        with self._workers() as work:
            for answers in work(lambda batch: list(self._batch(batch, closed)), batches):
                yield from answers

    @contextmanager
    def _workers(self) -> Iterator[Callable[..., Iterable[list[tuple[int, Answer]]]]]:
        """A `map` over batches: on the CPU one a thread, which wastes less than several a batch."""
        threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1:
            yield map
            return
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                yield pool.map
        finally:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def _batch(
        self, hypotheses: Sequence[Hypothesis], closed: bool
    ) -> Iterator[tuple[int, Answer]]:
        """Answers of one batch of hypotheses."""
        batch = peak_batch([h.peaks for h in hypotheses]).to(self.device)
        table = peak_table(batch, self.model.scorer.options)
        slots = self.options.max_peptide_len + 2
        if self.options.strategy == "draft":
            found = self._guessed(self._drafts(table, slots))
            yield from self._told(hypotheses, found, found.order.shape[1])
            return
        memory = self.model.encode(table)
        own, parts = 0, []
        if not closed:
            parts.append(self._found(memory, slots))
            own = parts[0].order.shape[1]
        if any(h.proposals for h in hypotheses):
            parts.append(self._judge(memory, self._proposed(hypotheses, slots)))
        yield from self._told(hypotheses, _beside(parts), own)

    def _told(
        self, hypotheses: Sequence[Hypothesis], found: _Judged, own: int
    ) -> Iterator[tuple[int, Answer]]:
        """Answers out of numbers; those behind the first few of each spectrum were proposed."""
        parts = (found.order, found.tokens, found.certainty, found.residues)
        for hypothesis, *row in zip(hypotheses, *(part.tolist() for part in parts), strict=True):
            for place, told in enumerate(zip(*row, strict=True)):
                answer = self._answer(hypothesis, told, place >= own)
                if answer is not None:
                    yield hypothesis.spectrum, answer

    def _answer(self, hypothesis: Hypothesis, told: Sequence[Any], proposed: bool) -> Answer | None:
        """One answer out of numbers; none where there is none or its length is not asked for."""
        order, tokens, certainty, residues = told
        peptide = decode(tokens)
        shortest, longest = self.options.min_peptide_len, self.options.max_peptide_len
        if order == float("-inf") or not (proposed or shortest <= len(peptide) <= longest):
            return None
        last = len(peptide.tokens)
        each = tuple(residues[last - len(peptide) : last])
        peaks, isotopes = hypothesis.peaks, hypothesis.isotopes
        return Answer(peptide, peaks, isotopes, order, certainty, each, proposed)

    def _proposed(self, hypotheses: Sequence[Hypothesis], slots: int) -> Tensor:
        """The proposals of a batch as answers [B, most proposals, S]."""
        most = max(len(h.proposals) for h in hypotheses)
        tokens = torch.zeros(len(hypotheses), most, slots, dtype=torch.int64)
        for row, hypothesis in enumerate(hypotheses):
            for place, peptide in enumerate(hypothesis.proposals):
                ids = encode(peptide)
                tokens[row, place, : len(ids)] = torch.as_tensor(ids)
        return tokens.to(self.device)

    def _found(self, memory: Memory, slots: int) -> _Judged:
        """What the model finds by itself."""
        if self.options.strategy == "empty":
            size = memory.table.batch.residue_mass.shape[0]
            blank = torch.zeros(size, 1, slots, dtype=torch.int64, device=self.device)
            return self._judge(memory, self._refine(memory, blank))
        judged = self._judge(memory, self._drafts(memory.table, slots).tokens)
        sure = judged.certainty.masked_fill(~judged.order.isfinite(), -torch.inf).amax(1).sigmoid()
        unsure = (sure < self.options.halt_probability).nonzero().flatten()
        if not self.options.refined or not unsure.numel():
            return judged
        best = best_of(judged.tokens, judged.order, self.options.refined).tokens
        best = functional.pad(best, (0, 0, 0, self.options.refined - best.shape[1]))
        part = memory.select(unsure)
        refined = self._judge(part, self._refine(part, best[unsure]))
        return _beside([judged, refined.among(unsure, sure.numel())])

    def _drafts(self, table: PeakTable, slots: int) -> Candidates:
        """The best answers of the scorer alone."""
        options = self.options
        beam = BeamOptions(
            n_beams=options.n_beams,
            candidates=options.candidates,
            margin=options.margin,
            max_slots=slots,
        )
        window = self.window(table.batch.residue_mass)
        return draft(self.model.scorer, table, beam, self.permitted, window)

    @staticmethod
    def _guessed(drafts: Candidates) -> _Judged:
        """Drafts that no judge has seen: the scorer is as sure of each residue as of the mean."""
        length = (drafts.tokens != PAD).sum(-1).clamp(min=1)
        certainty = torch.logit((drafts.score / length).exp(), 1e-6)
        residues = certainty[..., None].expand(drafts.tokens.shape)
        return _Judged(drafts.tokens, drafts.score, certainty, residues)

    def _refine(self, memory: Memory, answers: Tensor) -> Tensor:
        """Run the loop from answers [B, K, S]; mass-exact answers of its end, [B, K * few, S]."""
        shape = (answers.shape[0], answers.shape[1] * _FEW, answers.shape[2])
        ended = torch.zeros(shape, dtype=torch.int64, device=answers.device)
        for rows, used in _alike(answers, _ROOM):
            part = memory.select(rows)
            *_, last = solve(
                self.model, answers[rows, :, :used].flatten(0, 1), part, self.recursion
            )
            mass = part.table.batch.residue_mass[part.rows].repeat_interleave(answers.shape[1])
            exact = exact_answers(last.logits, mass, self.permitted, self.window(mass), _FEW)
            ended[rows, :, :used] = exact.tokens.view(rows.numel(), -1, used)
        return ended

    def _judge(self, memory: Memory, answers: Tensor) -> _Judged:
        """Order answers [B, K, S] by scorer and judge; how sure the judge is of each."""
        weight = self.options.judge_weight
        order = torch.zeros(answers.shape[:2], device=answers.device)
        certainty = torch.zeros_like(order)
        residues = torch.zeros(answers.shape, device=answers.device)
        for rows, used in _alike(answers, 1):
            part, known = answers[rows, :, :used], memory.select(rows)
            flat, updates = part.flatten(0, 1), self.recursion.latent_updates
            told = judge(self.model, flat, known, updates)
            mass = known.table.batch.residue_mass[known.rows].repeat_interleave(part.shape[1])
            permitted = self.permitted.along(flat, mass)
            opinion = self.model.opinion(told.evidence, permitted).sum(-1)
            mixed = (1 - weight) * opinion + weight * told.halt
            order[rows] = mixed.view(part.shape[:2])
            certainty[rows] = told.halt.view(part.shape[:2])
            residues[rows, :, :used] = told.residues.view(part.shape)
        order = order.masked_fill((answers == PAD).all(-1), -torch.inf)
        return _Judged(answers, order, certainty, residues)

    def window(self, residue_mass: Tensor) -> Tensor:
        """Micro-dalton by which answers may miss the precursor: int64, shape of the input."""
        water = udalton(WATER)
        windows = [self.tolerance.window(mass + water) for mass in residue_mass.tolist()]
        return torch.tensor(windows, dtype=torch.int64, device=residue_mass.device)
