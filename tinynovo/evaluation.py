"""Evaluation: how many peptides and residues are right, by the published definitions.

Knows true peptides and the PSMs of any tool. Does not know torch, models or files.

Two peptides are compared residue by residue (DeepNovo, Tran et al. 2017; Casanovo, Yilmaz et al.
2022): walk both from the N-terminus; two residues are aligned where the masses up to and with them
agree within one tolerance, and match where their own masses agree within another. Then walk from
the C-terminus back to the first residue that did not match. A peptide matches when all its residues
do. An N-terminal modification is no residue: its mass counts with the first residue. A spectrum
without a prediction counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynovo.masses import Tolerance, residue_table
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM

LENGTHS = ((1, 9), (10, 12), (13, 16), (17, 22), (23, None))
"""Length bins of the breakdown, first and last residue count of each."""

BOUNDED = ("peptide_recall", "aa_precision", "auc")
"""The figures that are given a 95 % interval."""


@dataclass(frozen=True)
class Rule:
    """When residues match: own masses and the masses up to them agree within a tolerance each."""

    residue: Tolerance
    cumulative: Tolerance


PUBLISHED = Rule(residue=Tolerance(0.1, "Da"), cumulative=Tolerance(0.5, "Da"))
"""The rule of DeepNovo and Casanovo."""

STRICT = Rule(residue=Tolerance(20.0, "ppm"), cumulative=Tolerance(50.0, "ppm"))
"""The same walk with tolerances relative to the true mass, which tell K from Q."""

DEFINITIONS = {
    "published": "residues within 0.1 Da, masses up to them within 0.5 Da (DeepNovo, Casanovo)",
    "strict": "residues within 20 ppm, masses up to them within 50 ppm",
    "exact": "the same residues and modifications at the same places, I = L",
    "aa_precision": "matching residues / predicted residues",
    "aa_recall": "matching residues / true residues of all spectra",
    "unknown": "answers with a residue that the residue table lacks: wrong, and so are as many "
    "residues as the true peptide has",
    "peptide_recall": "matching peptides / all spectra; a missing prediction is wrong",
    "peptide_precision": "matching peptides / predicted peptides",
    "coverage": "predicted peptides / all spectra",
    "auc": "area under peptide precision over coverage of all spectra, by falling score",
    "intervals": "95 % bootstrap intervals, all spectra of a peptide drawn together",
}
"""What each figure means; it stands in every result."""


@dataclass(frozen=True)
class Figures:
    """The figures of one definition; None where nothing was predicted or it does not apply.

    `intervals` maps a figure's name to the ends of its 95 % interval.
    """

    aa_precision: float | None
    aa_recall: float | None
    peptide_recall: float | None
    peptide_precision: float | None
    auc: float | None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Metrics:
    """The result of `evaluate`.

    Attributes
    ----------
    spectra, predicted : int
        All spectra, and those with a prediction.
    unknown : int
        Predictions with a residue that the residue table lacks; they count as wrong.
    coverage : float or None
        Predicted over all spectra.
    published, strict, exact : Figures
        By the three definitions of a match; `exact` has no residue figures.
    groups : dict
        Kind of group -> group -> {"spectra": count, and figures by the published rule}.
    """

    spectra: int
    predicted: int
    unknown: int
    coverage: float | None
    published: Figures
    strict: Figures
    exact: Figures
    groups: dict[str, dict[str, dict[str, float | None]]]

    def as_dict(self) -> dict[str, Any]:
        """Everything, with the definitions, ready for JSON."""
        return {**asdict(self), "definitions": DEFINITIONS}


def match(truth: Peptide, prediction: Peptide, rule: Rule = PUBLISHED) -> list[bool]:
    """Which residues match, N to C.

    Parameters
    ----------
    truth, prediction : Peptide
    rule : Rule

    Returns
    -------
    list of bool
        As long as the longer peptide; the peptides match when all are True.
    """
    a, b = _residue_masses(truth), _residue_masses(prediction)
    matches = [False] * max(len(a), len(b))
    for i, j in _matching(a, b, rule):
        matches[max(i, j)] = True
    return matches


def right_residues(truth: Peptide, prediction: Peptide, rule: Rule = PUBLISHED) -> list[bool]:
    """Which residues of a prediction match one of the truth, N to C, as long as the prediction."""
    a, b = _residue_masses(truth), _residue_masses(prediction)
    right = [False] * len(b)
    for _, j in _matching(a, b, rule):
        right[j] = True
    return right


def _matching(a: list[int], b: list[int], rule: Rule) -> Iterator[tuple[int, int]]:
    """Positions of matching residues: from the start, then from the end back to the first gap."""
    stop = 0
    for i, j in _aligned(a, b, rule.cumulative):
        if rule.residue.accepts(b[j], a[i]):
            yield i, j
            stop += i == j == stop
    if stop == len(a) == len(b):
        return
    for i, j in _aligned(a[stop:][::-1], b[stop:][::-1], rule.cumulative):
        i, j = len(a) - 1 - i, len(b) - 1 - j
        if rule.residue.accepts(b[j], a[i]):
            yield i, j


def evaluate(
    truths: Sequence[Peptide],
    predictions: Sequence[PSM | None],
    *,
    charges: Sequence[int | None] | None = None,
    sources: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Compare predictions with the truth.

    Parameters
    ----------
    truths : sequence of Peptide, one a spectrum
    predictions : sequence of PSM or None, one a spectrum
        The best prediction; None or a PSM without peptide and score where there is none. One
        with a score but no peptide is a prediction of residues that the residue table lacks.
    charges, sources : sequence, optional, one a spectrum
        Groups to break the figures down by, beside length and modification.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Metrics
        The order of the spectra matters to nothing but the last digits of the intervals.
    """
    columns = {len(truths), len(predictions)} | {
        len(c) for c in (charges, sources) if c is not None
    }
    if len(columns) > 1:
        raise ValueError("truths, predictions, charges and sources differ in length")
    answers = [None if psm is None else psm.peptide for psm in predictions]
    scores = np.array(
        [-np.inf if psm is None or psm.score is None else psm.score for psm in predictions]
    )
    unknown = [p is not None and p.peptide is None and p.score is not None for p in predictions]
    rules: dict[str, Callable[[Peptide, Peptide], list[bool]]] = {
        "published": lambda t, p: match(t, p, PUBLISHED),
        "strict": lambda t, p: match(t, p, STRICT),
        "exact": lambda t, p: [t.tokens == p.tokens],
    }
    tables = {name: _table(truths, answers, unknown, scores, r) for name, r in rules.items()}
    peptides = {tokens: number for number, tokens in enumerate({t.tokens: None for t in truths})}
    clusters = np.array([peptides[t.tokens] for t in truths], dtype=np.int64)
    figures = {
        name: _with_intervals(table, clusters, resamples, seed) for name, table in tables.items()
    }
    exact = {**figures["exact"], "aa_precision": None, "aa_recall": None}
    exact["intervals"] = {k: v for k, v in exact["intervals"].items() if k != "aa_precision"}
    predicted = sum(answer is not None for answer in answers) + sum(unknown)
    return Metrics(
        spectra=len(truths),
        predicted=predicted,
        unknown=sum(unknown),
        coverage=_ratio(predicted, len(truths)),
        published=Figures(**figures["published"]),
        strict=Figures(**figures["strict"]),
        exact=Figures(**exact),
        groups=_groups(tables["published"], truths, charges, sources),
    )


def _residue_masses(peptide: Peptide) -> list[int]:
    """Masses in micro-dalton, N to C, the N-terminal modification within the first."""
    table = residue_table()
    masses = [table[token].total for token in peptide.tokens]
    if len(masses) > 1 and table[peptide.tokens[0]].n_terminal:
        masses[:2] = [masses[0] + masses[1]]
    return masses


def _aligned(a: list[int], b: list[int], tolerance: Tolerance) -> Iterator[tuple[int, int]]:
    """Positions whose masses from the start up to and with them agree; a is the reference."""
    i = j = 0
    sum_a, sum_b = np.cumsum(a).tolist(), np.cumsum(b).tolist()
    while i < len(a) and j < len(b):
        if tolerance.accepts(sum_b[j], sum_a[i]):
            yield i, j
            i, j = i + 1, j + 1
        elif sum_a[i] < sum_b[j]:
            i += 1
        else:
            j += 1


@dataclass(frozen=True, eq=False)
class _Table:
    """What the comparison found, one row a spectrum, by falling score, unanswered ones last.

    `order` is the place of each row in what was handed in; the columns of `counts` are answers,
    matching peptides, matching residues, true residues and predicted residues.
    """

    order: NDArray[np.int64]
    score: NDArray[np.float64]
    counts: NDArray[np.int64]


def _table(
    truths: Sequence[Peptide],
    answers: Sequence[Peptide | None],
    unknown: Sequence[bool],
    scores: NDArray[np.float64],
    compare: Callable[[Peptide, Peptide], list[bool]],
) -> _Table:
    counts = np.zeros((len(truths), 5), dtype=np.int64)
    for row, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        counts[row, 3] = len(_residue_masses(truth))
        if answer is not None:
            matches = compare(truth, answer)
            size = len(_residue_masses(answer))
            counts[row, [0, 1, 2, 4]] = 1, all(matches), sum(matches), size
        elif unknown[row]:
            counts[row, [0, 4]] = 1, counts[row, 3]
    score = np.where((counts[:, 0] > 0) & ~np.isnan(scores), scores, -np.inf)
    order = np.lexsort((-score, -counts[:, 0]))
    return _Table(order, score[order], counts[order])


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _figures(table: _Table, weight: NDArray[np.int64]) -> dict[str, float | None]:
    """The figures of a sample that holds row i ``weight[i]`` times."""
    answered, whole, matching, true, predicted = (weight @ table.counts).tolist()
    return {
        "aa_precision": _ratio(matching, predicted),
        "aa_recall": _ratio(matching, true),
        "peptide_recall": _ratio(whole, int(weight.sum())),
        "peptide_precision": _ratio(whole, answered),
        "auc": _auc(table, weight),
    }


def _auc(table: _Table, weight: NDArray[np.int64]) -> float | None:
    """Sum over score thresholds of precision times the coverage gained; ties go together."""
    total, answered = weight.sum(), int(table.counts[:, 0].sum())
    if not total or not answered:
        return 0.0 if total else None
    score = table.score[:answered]
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    covered = np.cumsum(weight[:answered])[ends]
    right = np.cumsum((weight * table.counts[:, 1])[:answered])[ends]
    gained = np.diff(covered, prepend=0)
    return float(np.sum(gained * right / np.maximum(covered, 1)) / total)


def _with_intervals(
    table: _Table, clusters: NDArray[np.int64], resamples: int, seed: int
) -> dict[str, Any]:
    """The figures, and percentile intervals over peptides drawn with replacement."""
    figures: dict[str, Any] = dict(_figures(table, np.ones(clusters.size, dtype=np.int64)))
    random = np.random.default_rng(seed)
    cluster, count = clusters[table.order], int(clusters.max(initial=-1)) + 1
    drawn: dict[str, list[float]] = {name: [] for name in BOUNDED}
    for _ in range(resamples if count else 0):
        times = np.bincount(random.integers(0, count, count), minlength=count)
        sample = _figures(table, times[cluster])
        for name, values in drawn.items():
            value = sample[name]
            if value is not None:
                values.append(value)
    figures["intervals"] = {
        name: tuple(np.percentile(values, (2.5, 97.5)).tolist())
        for name, values in drawn.items()
        if values
    }
    return figures


def _groups(
    table: _Table,
    truths: Sequence[Peptide],
    charges: Sequence[int | None] | None,
    sources: Sequence[str] | None,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Break the figures down; a spectrum is in every group of a kind that it belongs to."""
    kinds: dict[str, Sequence[Iterable[str]]] = {
        "length": [[_length_bin(truth)] for truth in truths],
        "modification": [_modifications(truth) for truth in truths],
    }
    if charges is not None:
        kinds["charge"] = [["unknown" if c is None else f"{c}+"] for c in charges]
    if sources is not None:
        kinds["source"] = [[source or "unknown"] for source in sources]
    return {kind: _by_group(table, members) for kind, members in kinds.items()}


def _by_group(
    table: _Table, members: Sequence[Iterable[str]]
) -> dict[str, dict[str, float | None]]:
    rows: dict[str, list[int]] = {}
    for row, place in enumerate(table.order.tolist()):
        for name in members[place]:
            rows.setdefault(name, []).append(row)
    groups = {}
    for name in sorted(rows, key=lambda name: (len(name.split("-")[0]), name)):
        weight = np.zeros(len(members), dtype=np.int64)
        weight[rows[name]] = 1
        groups[name] = {"spectra": len(rows[name]), **_figures(table, weight)}
    return groups


def _length_bin(peptide: Peptide) -> str:
    length = len(_residue_masses(peptide))
    first, last = next(b for b in LENGTHS if b[1] is None or length <= b[1])
    return f"{first}-{last}" if last else f"{first}+"


def _modifications(peptide: Peptide) -> list[str]:
    table = residue_table()
    names = {table[token].modification for token in peptide.tokens} - {""}
    return sorted(names) or ["none"]
