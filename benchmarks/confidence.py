"""Whether the score is a probability, and whether a false-discovery rate asked for holds.

Run ``python benchmarks/confidence.py`` (half an hour on two cores). Peptides are calibrated by
regressions fitted to other peptides (five folds; all spectra of a peptide in one), to the other
sources, and to the other file. Writes ``results/confidence.json`` and
``../docs/figures/confidence.png``; ``--calibrated FILE`` writes the weights, calibrated on all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import DATA, FILES, HERE, Labelled, Results, about, arguments
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

from tinynovo import checkpoint, config
from tinynovo.calibration import Calibration, Facts, fit
from tinynovo.comparing import learned_answers
from tinynovo.drawing import COLOURS, QUIET
from tinynovo.options import EFFORTS, SequencingOptions
from tinynovo.sequencing import Sequencer

FIGURE = HERE.parent / "docs" / "figures" / "confidence.png"
TASKS = [(effort, file) for effort in ("default", "fast") for file in FILES]
RATES = (0.01, 0.05, 0.1)
BINS, FOLDS, RESAMPLES = 10, 5, 1000
TOGETHER = "all files"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answers:
    """The best answers to the labelled spectra of a file; columns have one row an answer."""

    spectra: int
    known: list[Facts]
    right: list[list[bool]]
    peptide: NDArray[np.int64]
    source: NDArray[np.str_]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which peptides are right."""
        return np.array([all(each) for each in self.right])

    def fitted(self, rows: NDArray[np.int64]) -> Calibration:
        """A calibration learned from some rows."""
        return fit([self.known[row] for row in rows], [self.right[row] for row in rows])


def answers(task: tuple[str, str], model: Path | None, limit: int | None) -> Answers:
    """Sequence one file with one effort."""
    torch.set_num_threads(1)
    effort, file = task
    labelled = Labelled(DATA / file, None)
    options = config.load(SequencingOptions, None, EFFORTS[effort])
    sequencer = Sequencer.load(model, options, device="cpu")
    rows = list(learned_answers(sequencer, [DATA / file], limit, lambda _: None))
    places = [place for place, _, _ in rows]
    numbers = {p.tokens: n for n, p in enumerate({p.tokens: p for p in labelled.peptides}.values())}
    return Answers(
        min(limit or len(labelled.spectra), len(labelled.spectra)),
        [row[1] for row in rows],
        [row[2] for row in rows],
        np.array([numbers[labelled.peptides[place].tokens] for place in places]),
        np.array([labelled.sources[place] for place in places]),
    )


def out_of_fold(
    found: Answers, folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> tuple[Floats, list[Floats]]:
    """Probability of each peptide and of its residues, from calibrations fitted to other rows."""
    peptide = np.full(len(found.known), np.nan)
    residues: list[Floats] = [np.zeros(0)] * len(found.known)
    for learned, asked in folds:
        calibration = found.fitted(learned)
        for row in asked:
            peptide[row], each = calibration.scores(found.known[row])
            residues[row] = np.array(each)
    return peptide, residues


def calibration_error(probability: Floats, right: NDArray[np.bool_]) -> float:
    """Expected calibration error in ten bins of equal width (Naeini et al. 2015)."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, probability - right, BINS)
    return float(np.abs(gap).sum() / len(right))


def floor(probability: Floats, rng: np.random.Generator) -> float:
    """What the error would be, on average, if the probabilities were true."""
    drawn = [rng.random(len(probability)) < probability for _ in range(200)]
    return float(np.mean([calibration_error(probability, right) for right in drawn]))


def discoveries(probability: Floats, right: NDArray[np.bool_], rate: float) -> tuple[int, int]:
    """Answers that a false-discovery rate keeps, and how many of them are wrong."""
    order = np.argsort(-probability, kind="stable")
    error = np.cumsum(1 - probability[order]) / np.arange(1, len(order) + 1)
    kept = int((error <= rate).sum())
    return kept, int((~right[order[:kept]]).sum())


def interval(found: Answers, figure: Callable[[NDArray[np.int64]], float]) -> tuple[float, float]:
    """95 % bootstrap interval of a figure of rows, all spectra of a peptide drawn together."""
    rng = np.random.default_rng(0)
    _, cluster = np.unique(found.peptide, return_inverse=True)
    members = np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster))[:-1])
    drawn = [
        figure(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
        for _ in range(RESAMPLES)
    ]
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def figures(found: Answers, probability: Floats, residues: list[Floats]) -> dict[str, Any]:
    """Everything counted of the answers to one file."""
    rng = np.random.default_rng(0)
    right, each, flat = found.whole, np.concatenate(residues), np.concatenate(found.right)
    raw = 1 / (1 + np.exp(-np.array([known.peptide[0] for known in found.known])))
    values: dict[str, Any] = {
        "spectra": found.spectra,
        "answers": len(right),
        "right": float(right.mean()),
        "said": float(probability.mean()),
        "calibration_error": calibration_error(probability, right),
        "calibration_error_interval": interval(
            found, lambda rows: calibration_error(probability[rows], right[rows])
        ),
        "calibration_error_of_true_probabilities": floor(probability, rng),
        "uncalibrated_error": calibration_error(raw, right),
        "brier": float(brier_score_loss(right, probability)),
        "roc_auc": float(roc_auc_score(right, probability)),
        "uncalibrated_roc_auc": float(roc_auc_score(right, raw)),
        "residues": len(flat),
        "residue_calibration_error": calibration_error(each, flat),
        "residue_roc_auc": float(roc_auc_score(flat, each)),
        "discoveries": {},
    }
    for rate in RATES:
        kept, wrong = discoveries(probability, right, rate)

        def proportion(rows: NDArray[np.int64], rate: float = rate) -> float:
            kept, wrong = discoveries(probability[rows], right[rows], rate)
            return wrong / max(kept, 1)

        values["discoveries"][str(rate)] = {
            "kept": kept,
            "wrong": wrong,
            "proportion": wrong / max(kept, 1),
            "interval": interval(found, proportion),
        }
    return values


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers to all files; peptides of different files are different."""
    shift = np.cumsum([0, *(part.peptide.max() + 1 for part in parts)])
    return Answers(
        sum(part.spectra for part in parts),
        [known for part in parts for known in part.known],
        [right for part in parts for right in part.right],
        np.concatenate([part.peptide + s for part, s in zip(parts, shift, strict=False)]),
        np.concatenate([part.source for part in parts]),
    )


def part_of(found: Answers, rows: NDArray[np.int64]) -> Answers:
    """Some rows."""
    return Answers(
        len(rows),
        [found.known[row] for row in rows],
        [found.right[row] for row in rows],
        found.peptide[rows],
        found.source[rows],
    )


def judged(parts: dict[str, Answers], values: dict[str, Any]) -> tuple[Floats, NDArray[np.str_]]:
    """Figures of one effort, by file and by what the calibration was fitted to."""
    found = joined(list(parts.values()))
    file = np.concatenate([[name] * len(part.known) for name, part in parts.items()])
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    apart = {
        "other peptides": list(folds.split(found.peptide, groups=found.peptide)),
        "other sources": left_out(found.source),
        "the other file": left_out(file),
    }
    kept: list[Floats] = []
    for name, how in apart.items():
        probability, residues = out_of_fold(found, how)
        kept.append(probability)
        values[name] = {
            one: figures(part_of(found, rows), probability[rows], [residues[r] for r in rows])
            for one in parts
            for rows in [np.flatnonzero(file == one)]
        }
        values[name][TOGETHER] = figures(found, probability, residues)
    values["sources"] = {
        str(source): {
            "answers": int(rows.sum()),
            "right": float(found.whole[rows].mean()),
            "said": float(kept[1][rows].mean()),
        }
        for source in np.unique(found.source)
        for rows in [found.source == source]
    }
    return kept[0], file


def left_out(group: NDArray[np.str_]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Each group asked about with what the others taught."""
    return [(np.flatnonzero(group != g), np.flatnonzero(group == g)) for g in np.unique(group)]


def draw(drawn: dict[str, tuple[Floats, NDArray[np.bool_], NDArray[np.str_]]]) -> None:
    """Reliability, and the proportion of false discoveries against the rate asked for."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(8.4, 3.6), layout="constrained")
    reliable, false = page.subplots(1, 2)
    grid = np.linspace(0.005, 0.2, 40)
    for effort, style in zip(drawn, ("-", ":"), strict=True):
        probability, right, file = drawn[effort]
        for name, colour in zip(FILES, COLOURS, strict=False):
            rows = file == name
            said, is_right = probability[rows], right[rows]
            place = np.minimum((said * BINS).astype(int), BINS - 1)
            count = np.maximum(np.bincount(place, minlength=BINS), 1)
            x, y = (np.bincount(place, values, BINS) / count for values in (said, is_right))
            label = f"{name.partition('_valid')[0]}, {effort}"
            reliable.plot(x[x > 0], y[x > 0], style, marker="o", ms=3, color=colour, label=label)
            found = [discoveries(said, is_right, rate) for rate in grid]
            false.plot(grid, [w / max(k, 1) for k, w in found], style, color=colour)
    reliable.plot([0, 1], [0, 1], color=QUIET, lw=0.8)
    reliable.set(xlabel="score", ylabel="share right")
    false.plot([0, 0.2], [0, 0.2], color=QUIET, lw=0.8)
    false.set(xlabel="false-discovery rate asked for", ylabel="wrong among those kept")
    reliable.legend(frameon=False, fontsize=8)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(FIGURE, dpi=110, metadata={"Software": None})
    print(f"wrote {FIGURE.relative_to(HERE.parent)}")


def main() -> None:
    """Sequence, calibrate, count, write and draw."""
    parser = arguments(__doc__.splitlines()[0], "confidence.json")
    parser.add_argument("--limit", type=int, help="only the first so many spectra of each file")
    parser.add_argument("--workers", type=int, default=2, help="files at once; default: 2")
    parser.add_argument("--calibrated", type=Path, help="write the weights, calibrated, here")
    given = parser.parse_args()
    count = len(TASKS)
    with ProcessPoolExecutor(given.workers, get_context("spawn")) as pool:
        columns = (TASKS, [given.model] * count, [given.limit] * count)
        found = dict(zip(TASKS, pool.map(answers, *columns), strict=True))
    values: dict[str, Any] = {"about": about(given.model), "limit": given.limit, "efforts": {}}
    results = Results(given.output, values)
    drawn, fitted = {}, {}
    for effort in dict.fromkeys(effort for effort, _ in TASKS):
        parts = {file: found[effort, file] for file in FILES}
        values["efforts"][effort] = {}
        probability, file = judged(parts, values["efforts"][effort])
        whole = joined(list(parts.values()))
        drawn[effort] = probability, whole.whole, file
        strategy = config.load(SequencingOptions, None, EFFORTS[effort]).strategy
        fitted[strategy] = whole.fitted(np.arange(len(whole.known)))
    if given.calibrated:
        checkpoint.calibrated(given.model, given.calibrated, dict(fitted))
    results.finish()
    draw(drawn)


if __name__ == "__main__":
    main()
