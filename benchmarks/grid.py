"""What makes the loop learn: a grid of small experiments, each with several seeds.

Run ``python benchmarks/grid.py`` (the small grid: hours on a laptop) or ``--size full`` (a GPU);
what is finished is kept, so it may be interrupted. Writes ``results/grid.json`` and
``../docs/figures/grid-*.png``.

The task is that of configs/grid.yaml: random peptides of 7 to 20 residues, noise, missing ions. The
scorer is trained first and stays as it is; the loop is trained from empty answers. Figures are of
peptides that were not trained on, at the last supervision step of training (trained) and after 16
steps (more). The standard deviation is over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, RESULTS, Results, processor
from experiments import ROOT, Wanted, carry_out, runs_of
from scipy.stats import spearmanr

from tinynovo import __version__, checkpoint, config
from tinynovo.drawing import COLOURS, Curve, Panel, figure, panels
from tinynovo.mixture import held_out, mix
from tinynovo.review import spread
from tinynovo.runs import Run, Sample, Trial
from tinynovo.stages import TrainingOptions
from tinynovo.trials import try_loop

FIGURES = HERE.parent / "docs" / "figures"
SIZES: dict[str, dict[str, Any]] = {
    "small": {"steps": 100, "seeds": 3, "scorer": 400, "set": ()},
    "full": {"steps": 5000, "seeds": 5, "scorer": 4000, "set": ("batch_size=64", "held_out=512")},
}

VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "supervision steps": {
        "1": ("recursion.supervision_steps=1",),
        "4": (),
        "8": ("recursion.supervision_steps=8",),
        "16": ("recursion.supervision_steps=16",),
    },
    "latent updates": {
        "1": ("recursion.latent_updates=1",),
        "2": (),
        "4": ("recursion.latent_updates=4",),
        "6": ("recursion.latent_updates=6",),
    },
    "cycles": {"1": (), "2": ("recursion.cycles=2",), "3": ("recursion.cycles=3",)},
    "weights of the steps": {
        "uniform": (),
        "linear": ("losses.steps=linear",),
        "exponential": ("losses.steps=exponential",),
    },
    "spectrum-matching loss, evidence shared": {
        "0": ("losses.spectrum=0",),
        "0.1": (),
        "0.3": ("losses.spectrum=0.3",),
    },
    "spectrum-matching loss, no evidence": {
        "0": ("model.evidence=off", "losses.spectrum=0"),
        "0.1": ("model.evidence=off",),
        "0.3": ("model.evidence=off", "losses.spectrum=0.3"),
    },
    "evidence": {
        "off": ("model.evidence=off",),
        "flat": ("model.evidence=flat",),
        "shared": (),
    },
    "longest training peptide": {
        "20": (),
        "12": ("mixture.simulation.max_length=12", "cache=runs/grid/cache-12"),
    },
}
"""Question, then answer, then the options set; the same options are the same runs."""

NAMES = ("token_accuracy", "sequence_accuracy", "flip_rate", "length_accuracy", "median_error_ppm")


def main() -> None:
    """Train what is missing, count, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small", help="default: small")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "grid", help="of the runs")
    parser.add_argument("--workers", type=int, default=2, help="runs at once; default: 2")
    parser.add_argument("--output", type=Path, default=RESULTS / "grid.json")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="default: docs/figures")
    given = parser.parse_args()
    size = SIZES[given.size]
    scorer = ("stage=scorer", "scorer=null", "batch_size=32")
    first = Wanted("scorer", "grid", size["scorer"], scorer, given.folder)
    carry_out([first], 1)
    wanted = {
        (settings, seed): Wanted(
            f"{named(settings)}-{seed}",
            "grid",
            size["steps"],
            (*size["set"], *settings, f"seed={seed}"),
            given.folder,
        )
        for settings in all_settings()
        for seed in range(size["seeds"])
    }
    order = sorted(wanted, key=lambda key: key[1])
    carry_out([wanted[key] for key in order], given.workers)
    runs = {
        settings: runs_of([wanted[settings, seed] for seed in range(size["seeds"])])
        for settings in all_settings()
    }
    results = Results(given.output, counted(given.size, size, runs))
    results.finish()
    draw(results.values, given.figures)


def all_settings() -> list[tuple[str, ...]]:
    """Every set of options once, the plain one first."""
    return sorted({settings for answers in VARIANTS.values() for settings in answers.values()})


def named(settings: Sequence[str]) -> str:
    """A directory name for a set of options."""
    kept = [s for s in settings if not s.startswith("cache=")]
    pairs = [s.partition("=") for s in kept]
    return "_".join(f"{name.split('.')[-1]}-{value}" for name, _, value in pairs) or "base"


def counted(
    name: str, size: dict[str, Any], runs: dict[tuple[str, ...], list[Run]]
) -> dict[str, Any]:
    """Everything that is reported."""
    questions = {
        question: {answer: summary(runs[settings]) for answer, settings in answers.items()}
        for question, answers in VARIANTS.items()
    }
    lengths = {
        answer: by_length([on_all_lengths(run) for run in runs[settings]])
        for answer, settings in VARIANTS["longest training peptide"].items()
    }
    everything = [run for same in runs.values() for run in same]
    return {
        "about": {"version": __version__, "machine": processor(), "size": name, **size},
        "definitions": " ".join(__doc__.split("\n\n", 2)[2].split()),
        "spectra": len(everything[0].trials[0].samples),
        "runs": len(everything),
        "questions": questions,
        "lengths": lengths,
        "early_flips": early_flips(everything),
    }


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, by step and at the two places that are reported."""
    trials = [run.trials[0] for run in runs]
    steps = {name: [[step[name] for step in trial.steps] for trial in trials] for name in NAMES}
    trained = trials[0].trained_steps
    return {
        "seeds": len(runs),
        "trained_steps": trained,
        "seconds": float(np.mean([run.curve("seconds")[1][-1] for run in runs])),
        "by_step": {
            name: {"mean": np.mean(v, 0).tolist(), "sd": np.std(v, 0, ddof=1).tolist()}
            for name, v in steps.items()
        },
        "trained": {name: spread([row[trained - 1] for row in v]) for name, v in steps.items()},
        "more": {name: spread([row[-1] for row in v]) for name, v in steps.items()},
    }


def on_all_lengths(run: Run) -> Trial:
    """The trial of a run on peptides of every length of the base configuration."""
    base = config.load(TrainingOptions, ROOT / "configs" / "grid.yaml")
    loaded = checkpoint.load(run.directory / "model.safetensors")
    corpus = mix(base.mixture, base.preprocessing, ROOT / base.cache, base.data_seed).corpus
    unseen = held_out(base.mixture, base.preprocessing, corpus, 512, base.data_seed)
    steps = loaded.frozen.recursion.model_copy(update={"supervision_steps": 16})
    return try_loop(
        loaded.model,
        unseen,
        steps,
        name="7 to 20 residues",
        trained_steps=loaded.frozen.recursion.supervision_steps,
        slots=base.starts.slots or 22,
        noise_ppm=base.precursor_ppm,
    )


def by_length(trials: Sequence[Trial]) -> dict[str, Any]:
    """Token accuracy after 16 steps by true length, mean and standard deviation over seeds."""

    def accuracies(samples: Sequence[Sample], length: int) -> float:
        return float(np.mean([s.token_accuracy for s in samples if len(s.true) == length]))

    lengths = sorted({len(sample.true) for trial in trials for sample in trial.samples})
    found = [[accuracies(trial.samples, length) for length in lengths] for trial in trials]
    return {
        "lengths": lengths,
        "spectra": len(trials[0].samples),
        "mean": np.mean(found, 0).tolist(),
        "sd": np.std(found, 0, ddof=1).tolist(),
    }


def early_flips(runs: Sequence[Run]) -> dict[str, Any]:
    """Flip rate of the last supervision step over the first third of training, and the outcome."""
    early, final, shared, alike = [], [], [], []
    for run in runs:
        last = run.trials[0].trained_steps - 1
        steps, rates = run.curve(f"step{last}_flip_rate")
        third = [rate for step, rate in zip(steps, rates, strict=True) if 3 * step <= run.steps]
        early.append(float(np.mean(third)))
        final.append(run.trials[0].steps[last]["token_accuracy"])
        shared.append(run.options["model"]["evidence"] == "shared")
        rounds = [run.options["recursion"][name] for name in ("supervision_steps", "cycles")]
        alike.append(shared[-1] and rounds == [4, 1])
    found = {"flip_rate": early, "token_accuracy": final, "shared": shared}
    subsets = {
        "all": [True] * len(runs),
        "with shared evidence": shared,
        "with shared evidence, four steps of one cycle": alike,
    }
    for name, kept in subsets.items():
        pairs = [p for p, keep in zip(zip(early, final, strict=True), kept, strict=True) if keep]
        rank = spearmanr(*zip(*pairs, strict=True))
        found[name] = {"n": len(pairs), "spearman": rank.statistic, "p": rank.pvalue}
    return found


def draw(values: dict[str, Any], folder: Path) -> None:
    """One figure a question that has curves, one of all outcomes, lengths, flips."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = values["questions"]
    for question, name in (("supervision steps", "steps"), ("evidence", "evidence")):
        content = [
            Panel(text.replace("_", " "), "supervision step", curves(questions[question], text))
            for text in ("token_accuracy", "sequence_accuracy", "flip_rate")
        ]
        save(panels(content), folder / f"grid-{name}.png")
    save(outcomes(questions), folder / "grid-outcomes.png")
    lengths = [
        Curve(f"trained to {answer}", f["lengths"], f["mean"], *band(f["mean"], f["sd"]))
        for answer, f in values["lengths"].items()
    ]
    panel = Panel("token accuracy after 16 steps", "residues", lengths, mark=12, share=True)
    save(panels([panel]), folder / "grid-lengths.png")
    save(scatter(values["early_flips"]), folder / "grid-flips.png")


def curves(answers: dict[str, Any], name: str) -> list[Curve]:
    """One curve an answer."""
    found = []
    for answer, result in answers.items():
        mean, sd = (result["by_step"][name][part] for part in ("mean", "sd"))
        found.append(Curve(answer, list(range(1, len(mean) + 1)), mean, *band(mean, sd)))
    return found


def band(mean: Sequence[float], sd: Sequence[float]) -> tuple[list[float], list[float]]:
    """Mean less and plus the standard deviation."""
    pairs = list(zip(mean, sd, strict=True))
    return [m - s for m, s in pairs], [m + s for m, s in pairs]


def outcomes(questions: dict[str, Any]) -> Any:
    """Token accuracy of every answer to every question."""
    same_task = {q: a for q, a in questions.items() if q != "longest training peptide"}
    rows = [(q, a, r) for q, answers in same_task.items() for a, r in answers.items()]
    drawn, axes = figure(7.5, 0.24 * len(rows) + 0.8)
    for place, (_, _, result) in enumerate(rows):
        for name, colour in (("trained", COLOURS[0]), ("more", COLOURS[1])):
            mean, sd = result[name]["token_accuracy"]
            axes.errorbar(mean, -place, xerr=sd, fmt="o", ms=4, color=colour, label=name)
    axes.set_yticks([-i for i in range(len(rows))], [f"{q}: {a}" for q, a, _ in rows], fontsize=8)
    axes.set_xlabel("token accuracy of peptides not trained on")
    handles, labels = axes.get_legend_handles_labels()
    texts = {"trained": "as many steps as in training", "more": "16 steps"}
    axes.legend(handles[:2], [texts[label] for label in labels[:2]], frameon=False, fontsize=8)
    return drawn


def scatter(found: dict[str, Any]) -> Any:
    """Early flip rate against final accuracy."""
    drawn, axes = figure(4.6, 3.4)
    for shared, colour, text in ((True, COLOURS[0], "shared"), (False, COLOURS[1], "flat or off")):
        rows = [i for i, own in enumerate(found["shared"]) if own == shared]
        x, y = ([found[name][i] for i in rows] for name in ("flip_rate", "token_accuracy"))
        axes.scatter(x, y, 14, color=colour, label=f"evidence {text}")
    axes.set(xlabel="flip rate, first third of training", ylabel="final token accuracy")
    axes.legend(frameon=False, fontsize=8)
    return drawn


def save(drawn: Any, path: Path) -> None:
    """Write a figure as PNG."""
    drawn.savefig(path, dpi=110, metadata={"Software": None})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
