"""Solving: cleaned spectra to peptides that the model has drafted, refined and judged.

Knows how drafts, the loop and the judge follow one another, in batches of tensors. Does not know
files, charges and isotopes that are not certain, nor probabilities.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from tinynovo.calibration import Answer
from tinynovo.checkpoint import Checkpoint
from tinynovo.decoding import draft
from tinynovo.errors import InputError
from tinynovo.evidence import PeakTable
from tinynovo.exact import exact_answers
from tinynovo.launches import check
from tinynovo.masses import WATER, Tolerance, udalton
from tinynovo.model import Tinynovo
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.permitted import Permitted
from tinynovo.recursion import judge, solve
from tinynovo.searching import BeamOptions, Candidates
from tinynovo.spectrum import Peaks, Spectrum
from tinynovo.tokens import PAD, decode, encode, peak_batch

_ROOM = 3
"""Slots by which a refined answer may be longer than the one it began as."""

_STRIDE = 4
"""Slots are counted in multiples of so many: spectra that need as many are solved together."""

_BEHIND = 5.0
"""Nats behind the best from which on a draft has no say in how sure that is."""

_TURN = 0.0005
"""Seconds for which a thread that works on a batch may keep the interpreter from the others."""

_FEW = 2
"""Mass-exact answers taken from the logits at the end of a refinement."""


def _alike(answers: Tensor, room: int) -> Iterator[tuple[Tensor, int]]:
    """Those of answers [N, S] that need as many slots, and how many.

    Empty slots have their say in the network, so they must not depend on what else is in a batch.
    """
    slots = answers.shape[-1]
    length = (answers != PAD).sum(-1)
    used = torch.div(length + room + _STRIDE - 1, _STRIDE, rounding_mode="floor") * _STRIDE
    used = used.clamp(max=slots).masked_fill(length == 0, slots)
    for size in sorted(set(used.tolist())):
        yield (used == size).nonzero().flatten(), size


def _numbered(group: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """How many of its group, 0, 1 and so on, stand before each [N]; and which is its group's best.

    ``group`` is int64 [N], ``order`` float32 [N].
    """
    ranked = order.argsort(descending=True)
    ranked = ranked[group[ranked].argsort(stable=True)]
    count = torch.bincount(group)
    first = count.cumsum(0) - count
    number = torch.empty_like(group)
    number[ranked] = torch.arange(group.numel(), device=group.device) - first[group[ranked]]
    return number, ranked[first[group]]


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
        When this machine has no such device, or what is compiled for it cannot be.
    """
    here = [kind for kind, found in _DEVICES.items() if found()]
    if name != "auto" and name not in here:
        raise InputError(f"no {name} device here", remedy="use --device cpu")
    device = torch.device(here[0] if name == "auto" else name)
    check(device)
    return device


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way to read one spectrum: its charge and how many isotopes its precursor is off.

    Attributes
    ----------
    spectrum : Spectrum
    peaks : Peaks
    isotopes : int
    proposals : tuple of Peptide
        Peptides to judge beside those that are found.
    least : float
        The scorer's log-probability that what is found must exceed.
    number : int
        That answers are given back with.
    """

    spectrum: Spectrum
    peaks: Peaks
    isotopes: int = 0
    proposals: tuple[Peptide, ...] = ()
    least: float = float("-inf")
    number: int = 0

    def shifted(self, isotopes: int) -> Hypothesis:
        """The same with the precursor taken to be so many isotopes too heavy."""
        return replace(self, peaks=self.peaks.shifted(isotopes), isotopes=isotopes)


@dataclass(frozen=True, eq=False)
class Judged:
    """Answers [N] to the spectra of a batch, in any order.

    `row`, the spectrum of each in the batch, `order`, which ranks the answers of a spectrum,
    `opinion`, the scorer's log-probability, and `certainty`, the logit of being right, are [N];
    `tokens` is int64 [N, S], and `residues`, the logit of each residue being right, [N, S].
    """

    row: Tensor
    tokens: Tensor
    opinion: Tensor
    order: Tensor
    certainty: Tensor
    residues: Tensor

    def beside(self, other: Judged) -> Judged:
        """These and others."""
        columns = zip(vars(self).values(), vars(other).values(), strict=True)
        return Judged(*(torch.cat(column) for column in columns))


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
            `Hypothesis.number` and an answer to it, in any order.
        """
        ordered = sorted(hypotheses, key=lambda h: -h.peaks.precursor_mass)
        size = self.options.together(self.device.type)
        for begin in range(0, len(ordered), size):
            yield from self._batch(ordered[begin : begin + size], closed)

    @contextmanager
    def workers(self) -> Iterator[Callable[..., Iterable[Any]]]:
        """A `map` over batches: on the CPU one a thread, which wastes less than several a batch."""
        threads = torch.get_num_threads()
        if self.device.type != "cpu":
            yield map
            return
        before = sys.getswitchinterval()
        torch.set_num_threads(1)
        sys.setswitchinterval(_TURN)
        pool = ThreadPoolExecutor(threads)
        try:
            with threadpool_limits(1, "blas"):
                yield pool.map if threads > 1 else map
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
            sys.setswitchinterval(before)

    @torch.inference_mode()
    def _batch(
        self, hypotheses: Sequence[Hypothesis], closed: bool
    ) -> Iterator[tuple[int, Answer]]:
        """Answers of one batch of hypotheses."""
        batch = peak_batch([h.peaks for h in hypotheses]).to(self.device)
        table = PeakTable(batch, self.model.scorer.options)
        slots = self.options.max_peptide_len + 2
        least = torch.tensor([h.least for h in hypotheses], device=self.device)
        if not closed:
            yield from self._told(hypotheses, self.find(table, least, slots))
        if any(h.proposals for h in hypotheses):
            rows, answers = self._proposed(hypotheses, slots)
            asked = self._judge(table, rows, answers, max(1, rows.numel()))
            yield from self._told(hypotheses, asked, proposed=True)

    def _told(
        self, hypotheses: Sequence[Hypothesis], found: Judged, *, proposed: bool = False
    ) -> Iterator[tuple[int, Answer]]:
        """Answers out of numbers, but for those whose length is not asked for."""
        shortest, longest = self.options.min_peptide_len, self.options.max_peptide_len
        parts = (found.row, found.tokens, found.opinion, found.order, found.certainty)
        columns = [part.tolist() for part in (*parts, found.residues)]
        for row, tokens, opinion, order, certainty, residues in zip(*columns, strict=True):
            peptide, of = decode(tokens), hypotheses[row]
            if proposed or shortest <= len(peptide) <= longest:
                last = len(peptide.tokens)
                each = tuple(residues[last - len(peptide) : last])
                told = (opinion, order, certainty, each, proposed)
                yield of.number, Answer(peptide, of.peaks, of.isotopes, *told)

    def _proposed(self, hypotheses: Sequence[Hypothesis], slots: int) -> tuple[Tensor, Tensor]:
        """Rows and tokens of the proposals of a batch: [N] and [N, S]."""
        pairs = [(row, encode(p)) for row, h in enumerate(hypotheses) for p in h.proposals]
        tokens = torch.zeros(len(pairs), slots, dtype=torch.int64)
        for place, (_, ids) in enumerate(pairs):
            tokens[place, : len(ids)] = torch.as_tensor(ids)
        rows = torch.tensor([row for row, _ in pairs], device=self.device)
        return rows, tokens.to(self.device)

    def find(self, table: PeakTable, least: Tensor, slots: int) -> Judged:
        """What the model finds by itself, of so many slots; ``least`` as for `draft`."""
        options = self.options
        if options.strategy == "empty":
            rows = torch.arange(least.numel(), device=self.device)
            blank = torch.zeros(rows.numel(), slots, dtype=torch.int64, device=self.device)
            return self._judge(table, *self._refine(table, rows, blank))
        drafts = self._drafts(table, least, slots)
        if options.strategy == "draft":
            return self._guessed(drafts)
        best, there = drafts.score[:, :1], drafts.score.isfinite()
        margin = options.judge_margin * (1 - best / options.judge_above).clamp(min=0)
        worth = there & ((best - drafts.score <= margin) | (options.top_match > 1))
        row, rank = worth.nonzero(as_tuple=True)
        judged = self._judge(table, row, drafts.tokens[worth])
        others = self._others(drafts, there & ~worth, judged, rank == 0)
        if options.refined:
            judged = self._with_refined(table, judged)
        return judged.beside(others)

    @staticmethod
    def _others(drafts: Candidates, there: Tensor, judged: Judged, best: Tensor) -> Judged:
        """Drafts [B, K] that nobody judges: so far behind the best as the scorer thinks.

        ``best`` says which of those judged is the best draft of its spectrum.
        """
        row, rank = there.nonzero(as_tuple=True)
        known = torch.zeros(2, drafts.score.shape[0], device=row.device)
        known[:, judged.row[best]] = torch.stack([judged.order, judged.certainty])[:, best]
        score = drafts.score[row, rank]
        order, certainty = known[:, row] - (drafts.score[row, 0] - score)
        tokens = drafts.tokens[row, rank]
        return Judged(
            row, tokens, score, order, certainty, torch.zeros(tokens.shape, device=row.device)
        )

    def _drafts(self, table: PeakTable, least: Tensor, slots: int) -> Candidates:
        """The best answers of the scorer alone."""
        options = self.options
        beam = BeamOptions(
            n_beams=options.n_beams,
            candidates=options.candidates,
            margin=options.margin,
            guide_margin=options.guide_margin,
            shortest=options.min_peptide_len,
            longest=options.max_peptide_len,
            behind=_BEHIND,
            max_slots=slots,
        )
        window = self.window(table.batch.residue_mass)
        return draft(self.model.scorer, table, beam, self.permitted, window, least)

    @staticmethod
    def _guessed(drafts: Candidates) -> Judged:
        """Drafts that no judge has seen: the scorer is as sure of each residue as of the mean."""
        there = drafts.score.isfinite()
        tokens, score = drafts.tokens[there], drafts.score[there]
        length = (tokens != PAD).sum(-1).clamp(min=1)
        certainty = torch.logit((score / length).exp(), 1e-6)
        residues = certainty[:, None].expand(tokens.shape)
        return Judged(there.nonzero()[:, 0], tokens, score, score, certainty, residues)

    def _with_refined(self, table: PeakTable, judged: Judged) -> Judged:
        """Answers, and beside them what the loop makes of the best of each spectrum."""
        few, chosen = self.options.refined, []
        for row in torch.unique(judged.row).tolist():
            own = (judged.row == row).nonzero().flatten()
            best = own[judged.order[own].argsort(descending=True)[:few]]
            if judged.certainty[own].max().sigmoid() < self.options.halt_probability:
                chosen.append(best)
        if not chosen:
            return judged
        begun = torch.cat(chosen)
        ended = self._refine(table, judged.row[begun], judged.tokens[begun])
        return judged.beside(self._judge(table, *ended))

    def _refine(self, table: PeakTable, rows: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Run the loop from answers [N, S]; rows and tokens of the mass-exact ones of its end."""
        needed, place = torch.unique(rows, return_inverse=True)
        memory = self.model.encode(table, needed)
        ended = answers.new_zeros(answers.shape[0], _FEW, answers.shape[1])
        for chosen, used in _alike(answers, _ROOM):
            part = memory.select(place[chosen])
            *_, last = solve(self.model, answers[chosen, :used], part, self.recursion)
            mass = table.batch.residue_mass[part.rows]
            exact = exact_answers(last.logits, mass, self.permitted, self.window(mass), _FEW)
            ended[chosen, :, :used] = exact.tokens
        there = (ended != PAD).any(-1)
        return rows[there.nonzero()[:, 0]], ended[there]

    def _judge(
        self, table: PeakTable, rows: Tensor, answers: Tensor, most: int | None = None
    ) -> Judged:
        """Order answers [N, S] to spectra of some rows by scorer and ranker; how sure it is.

        Only so many of the best of each spectrum, as many as are reported if left out, are judged
        in full: the others are as much less certain as they come behind.
        """
        weight, updates = self.options.judge_weight, self.recursion.latent_updates
        each = []
        opinion, order, certainty = torch.zeros(3, rows.numel(), device=rows.device)
        residues = torch.zeros(answers.shape, device=rows.device)
        needed, place = torch.unique(rows, return_inverse=True)
        memory = self.model.encode(table, needed)
        for chosen, used in _alike(answers, 1):
            part, known = answers[chosen, :used], memory.select(place[chosen])
            evidence = self.model.evidence(part, known, judged=True)
            permitted = self.permitted.along(part, table.batch.residue_mass[known.rows])
            opinion[chosen] = self.model.opinion(evidence, permitted).sum(-1)
            rank = self.model.rank(evidence)
            order[chosen] = (1 - weight) * opinion[chosen] + weight * rank
            each.append((chosen, known, evidence))
        number, best = _numbered(place, order)
        asked = number < (most or self.options.top_match)
        for chosen, known, evidence in each:
            few = asked[chosen].nonzero().flatten()
            if few.numel():
                told = judge(self.model, evidence.select(few), known.select(few), updates)
                certainty[chosen[few]] = told.halt
                residues[chosen[few], : told.residues.shape[1]] = told.residues
        behind = certainty[best] - (order[best] - order)
        return Judged(
            rows, answers, opinion, order, torch.where(asked, certainty, behind), residues
        )

    def window(self, residue_mass: Tensor) -> Tensor:
        """Micro-dalton by which answers may miss the precursor: int64, shape of the input."""
        water = udalton(WATER)
        windows = [self.tolerance.window(mass + water) for mass in residue_mass.tolist()]
        return torch.tensor(windows, dtype=torch.int64, device=residue_mass.device)
