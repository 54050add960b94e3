"""How far rendered training spectra are from real ones, and what gives them away.

Run ``python benchmarks/realism.py`` (two minutes). Writes ``results/realism.json`` and
``../docs/figures/realism.png``.

Real are the label-free training spectra; rendered are the annotated ions of configs/scorer.yaml,
rendered as there, and TMT spectra with their tags taken off. Each real spectrum is compared with a
rendered one of the same charge and of the nearest length. A gradient-boosted classifier
(scikit-learn's, five-fold) tells them apart by 20 figures of the cleaned spectrum and its label: an
AUC of 0.5 is no better than guessing, 1 is always right. "Weight" is the fall of that AUC when one
figure is shuffled. The noise of rendered spectra was taken from the same real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from common import HERE, RESULTS, Results, processor
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from tinynovo import __version__, config
from tinynovo.drawing import COLOURS
from tinynovo.noise import NoiseBank
from tinynovo.peptide import Peptide, fragments
from tinynovo.readers import read_spectra
from tinynovo.simulation import IonTable
from tinynovo.spectrum import Peaks, Preprocessing, Spectrum, preprocess
from tinynovo.stages import TrainingOptions
from tinynovo.transfer import remove_tags

ROOT = HERE.parent
FIGURE = ROOT / "docs" / "figures" / "realism.png"
POOL = 8000
"""Rendered spectra of each kind to choose partners from."""

FIGURES = (
    "peaks",
    "b cuts seen",
    "y cuts seen",
    "intensity explained by b, y",
    "b of b and y intensity",
    "2+ of b and y intensity",
    "base peak explained",
    "explained of the 10 strongest",
    "explained of the 50 strongest",
    "median intensity, explained",
    "median intensity, others",
    "lowest intensity",
    "peaks with an isotope above",
    "peaks with water or ammonia below",
    "intensity above the precursor",
    "lowest m/z over precursor's",
    "highest m/z over precursor's",
    "entropy of the intensities",
    "median error of b, y (ppm)",
    "spread of errors of b, y (ppm)",
)


def main() -> None:
    """Render, compare, draw."""
    options = config.load(TrainingOptions, ROOT / "configs" / "scorer.yaml")
    real_file = ROOT / options.mixture.noise[0]
    real = [described(s, options.preprocessing) for s in read_spectra(real_file)]
    reals = [row for row in real if row is not None]
    values: dict[str, Any] = {
        "about": {"version": __version__, "machine": processor()},
        "definitions": " ".join(__doc__.split("\n\n", 2)[2].split()),
        "kinds": {},
    }
    shown: dict[str, NDArray[np.float64]] = {"real": np.array([row[1] for row in reals])}
    for name, spectra in pools(options).items():
        rows = [row for s in spectra if (row := described(s, options.preprocessing)) is not None]
        chosen = partners(reals, rows)
        shown[name] = chosen
        values["kinds"][name] = judged(shown["real"], chosen)
        print(name, values["kinds"][name]["auc"], flush=True)
    results = Results(RESULTS / "realism.json", values)
    results.finish()
    draw(shown)


def pools(options: TrainingOptions) -> dict[str, list[Spectrum]]:
    """Rendered spectra by kind."""
    rng = np.random.default_rng(0)
    mixture = options.mixture
    bank = NoiseBank.build(s for file in mixture.noise for s in read_spectra(ROOT / file))
    found = {}
    for ingredient in mixture.ingredients:
        assert ingredient.path is not None
        if ingredient.kind == "ions":
            table = IonTable.load(ROOT / ingredient.path)
            rows = rng.permutation(len(table))[:POOL]
            name = ingredient.path.stem.replace("annotated_ions_", "rendered, ")
            found[name] = table.render(rows, mixture.simulation, rng, bank)
        elif ingredient.kind == "untagged":
            every = [s for i, s in enumerate(read_spectra(ROOT / ingredient.path)) if i % 8 == 0]
            found["tags taken off"] = [remove_tags(spectrum) for spectrum in every]
    return found


def described(
    spectrum: Spectrum, preprocessing: Preprocessing
) -> tuple[tuple[int, int], list[float]] | None:
    """Charge and length, and `FIGURES`, of a labelled spectrum; None where it is not usable."""
    peaks = preprocess(spectrum, preprocessing, spectrum.precursor_charge)
    if not isinstance(peaks, Peaks) or not spectrum.peptide:
        return None
    peptide = Peptide.parse(spectrum.peptide)
    mz, intensity = peaks.mz * 1e-6, peaks.intensity.astype(np.float64)
    ions = fragments(peptide, charges=(1, 2))
    error = np.full(mz.size, np.inf)
    kind = np.zeros((3, mz.size), bool)
    seen: dict[str, set[int]] = {"b": set(), "y": set()}
    for ion in ions:
        distance = (mz - ion.mz) / ion.mz * 1e6
        hit = np.abs(distance) <= 15
        if hit.any():
            seen[ion.series].add(ion.ordinal)
            kind[0] |= hit & (ion.series == "b")
            kind[1] |= hit & (ion.series == "y")
            kind[2] |= hit & (ion.charge == 2)
            error = np.where(hit & (np.abs(distance) < np.abs(error)), distance, error)
    known = kind[0] | kind[1]
    if not known.any() or known.all():
        return None
    return (peaks.precursor_charge, len(peptide)), [
        float(mz.size),
        len(seen["b"]) / (len(peptide) - 1),
        len(seen["y"]) / (len(peptide) - 1),
        *shares(intensity, kind, known),
        float(np.median(intensity[known])),
        float(np.median(intensity[~known])),
        float(intensity.min()),
        neighbours(mz, 1.00335),
        neighbours(mz, 17.0265) + neighbours(mz, 18.0106),
        float(intensity[mz > spectrum.precursor_mz].sum() / intensity.sum()),
        float(mz[0] / spectrum.precursor_mz),
        float(mz[-1] / spectrum.precursor_mz),
        float(-np.sum(part(intensity) * np.log(part(intensity)))),
        float(np.median(error[known])),
        float(np.subtract(*np.percentile(error[known], (75, 25)))),
    ]


def shares(
    intensity: NDArray[np.float64], kind: NDArray[np.bool_], known: NDArray[np.bool_]
) -> list[float]:
    """What b and y ions, of either series and of 2+, explain."""
    order = np.argsort(-intensity)
    own = intensity[known].sum()
    return [
        float(own / intensity.sum()),
        float(intensity[kind[0]].sum() / own),
        float(intensity[kind[2]].sum() / own),
        float(known[order[0]]),
        float(known[order[:10]].mean()),
        float(known[order[:50]].mean()),
    ]


def part(intensity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intensities, squared back, as shares."""
    return intensity**2 / np.sum(intensity**2)


def neighbours(mz: NDArray[np.float64], distance: float) -> float:
    """Share of the peaks with another that far above, within 0.01 Th."""
    place = np.clip(np.searchsorted(mz, mz + distance), 1, mz.size - 1)
    gap = np.minimum(np.abs(mz[place] - mz - distance), np.abs(mz[place - 1] - mz - distance))
    return float((gap < 0.01).mean())


Row = tuple[tuple[int, int], list[float]]


def partners(reals: Sequence[Row], others: Sequence[Row]) -> NDArray[np.float64]:
    """For each real spectrum another of the same charge and of the nearest length, unused yet."""
    charge, length = (np.array([key[i] for key, _ in others]) for i in (0, 1))
    free = np.ones(len(others), bool)
    chosen = []
    for key, _ in reals:
        cost = np.abs(length - key[1]) + 1000 * (charge != key[0]) + 10_000 * ~free
        best = int(np.argmin(cost))
        free[best] = False
        chosen.append(others[best][1])
    return np.array(chosen)


def judged(real: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
    """AUC of the classifier over five folds, and what it goes by."""
    x = np.concatenate([real, other])
    y = np.repeat([1, 0], [len(real), len(other)])
    aucs, weights = [], []
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
        model = HistGradientBoostingClassifier(random_state=0).fit(x[train], y[train])
        aucs.append(roc_auc_score(y[test], model.predict_proba(x[test])[:, 1]))
        found = permutation_importance(
            model, x[test], y[test], scoring="roc_auc", n_repeats=3, random_state=0
        )
        weights.append(found.importances_mean)
    ranked = sorted(zip(np.mean(weights, 0), FIGURES, strict=True), reverse=True)
    return {
        "spectra": len(real),
        "auc": float(np.mean(aucs)),
        "sd": float(np.std(aucs, ddof=1)),
        "weight": {name: float(weight) for weight, name in ranked},
        "medians": {
            name: [float(np.median(real[:, i])), float(np.median(other[:, i]))]
            for i, name in enumerate(FIGURES)
        },
    }


def draw(shown: dict[str, NDArray[np.float64]]) -> None:
    """Distribution of every figure."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(11, 8), layout="constrained")
    axes = drawn.subplots(4, 5).flatten()
    for place, name in enumerate(FIGURES):
        values = np.concatenate([rows[:, place] for rows in shown.values()])
        low, high = np.percentile(values, (0.5, 99.5))
        bins = np.linspace(low, high if high > low else low + 1, 30)
        for (kind, rows), colour in zip(shown.items(), COLOURS, strict=False):
            axes[place].hist(rows[:, place], bins, histtype="step", color=colour, label=kind)
        axes[place].set_title(name, fontsize=8)
        axes[place].tick_params(labelsize=7)
        axes[place].set_yticks([])
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    drawn.savefig(FIGURE, dpi=100, metadata={"Software": None})
    print(f"wrote {FIGURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
