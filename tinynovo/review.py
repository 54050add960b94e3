"""Reviews: training runs, alone or compared, on one HTML page and in Markdown.

Knows what is worth looking at in a run and how runs of different seeds are taken together. Does not
know training internals: it reads what runs left on the disk.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynovo import __version__
from tinynovo.drawing import (
    Curve,
    Panel,
    confusion,
    image,
    need_libraries,
    pairs,
    panels,
    reliability,
    write_page,
)
from tinynovo.runs import Run, Sample, Trial

SHOWN = 20
"""Samples in a table, evenly spread from the best to the worst."""

WORST = 8
"""Wrong answers that the judge was surest of."""

_SEEDS = {"seed", "output", "cache"}
"""Options in which runs of one group may differ."""

_STEPS = {
    "cross_entropy": "cross-entropy",
    "token_accuracy": "token accuracy",
    "sequence_accuracy": "sequence accuracy",
    "flip_rate": "flip rate",
    "median_error_ppm": "median mass error, ppm",
    "length_accuracy": "length accuracy",
}
_FIGURES = {
    "cross_entropy": "cross-entropy",
    "token_accuracy": "token accuracy",
    "sequence_accuracy": "sequence accuracy",
    "mean_error_ppm": "mean mass error, ppm",
    "median_error_ppm": "median mass error, ppm",
    "length_accuracy": "length accuracy",
    "halt_accuracy": "halt accuracy",
}


@dataclass(frozen=True)
class Group:
    """Runs that differ by nothing but their seed."""

    name: str
    runs: list[Run]

    @property
    def first(self) -> Run:
        """The run that is looked at in detail."""
        return self.runs[0]

    @property
    def trials(self) -> list[list[Trial]]:
        """Trials of the same spectra, one a run."""
        return [list(same) for same in zip(*(run.trials for run in self.runs), strict=False)]


def write_review(path: Path, runs: Sequence[Run]) -> tuple[Path, Path]:
    """Write the page, and the same in Markdown beside it.

    Parameters
    ----------
    path : Path
        Of the HTML page; the other ends in ``.md``.
    runs : sequence of Run
        Runs that differ only by their seed are taken together.

    Raises
    ------
    InputError
        When the libraries for drawing are not installed or the pages cannot be written.
    """
    need_libraries()
    groups = grouped(runs)
    content = {
        "version": __version__,
        "groups": [_section(group) for group in groups],
        "differences": _differences(groups),
        "overlays": list(_overlays(groups)),
        "table": figure_table(groups),
        "flips": flip_table(groups),
    }
    pages = path, path.with_suffix(".md")
    for page in pages:
        write_page(page, f"review{page.suffix}", content)
    return pages


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs with the same options but for seed and directories, in the order given."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        kept = {key: value for key, value in run.options.items() if key not in _SEEDS}
        found.setdefault(json.dumps(kept, sort_keys=True), []).append(run)
    return [Group(_name(members), members) for members in found.values()]


def _name(runs: Sequence[Run]) -> str:
    """The directory's name; of several runs without the seed at its end."""
    name = runs[0].directory.resolve().name
    return re.sub(r"[-_](seed)?\d+$", "", name) if len(runs) > 1 else name


def spread(values: Sequence[float]) -> list[float]:
    """Mean and standard deviation; only the mean of a single value."""
    mean = float(np.mean(values))
    return [mean, float(np.std(values, ddof=1))] if len(values) > 1 else [mean]


def told(found: Sequence[float]) -> str:
    """A mean, and a standard deviation where there is one, in words."""
    return " ± ".join(number(value) for value in found)


def number(value: float) -> str:
    """Three digits, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def figure_table(groups: Sequence[Group]) -> list[list[str]]:
    """Figures at the last step of training, a column a group; the first row is the header."""
    shown = [group for group in groups if group.trials]
    if not shown:
        return []
    rows = [["figure", *(_column(group) for group in shown)]]
    for name, text in _FIGURES.items():
        cells = [told(spread([_end(t[0])[name] for t in _by_run(group)])) for group in shown]
        rows.append([text, *cells])
    return rows


def _by_run(group: Group) -> Iterator[list[Trial]]:
    return (run.trials for run in group.runs if run.trials)


def _column(group: Group) -> str:
    seeds = len(group.runs)
    return group.name if seeds == 1 else f"{group.name} ({seeds} seeds)"


def _end(trial: Trial) -> dict[str, float]:
    """Figures of the last supervision step of training."""
    return trial.steps[trial.trained_steps - 1]


def flip_table(groups: Sequence[Group]) -> list[list[str]]:
    """Loss and flip rate of every supervision step of training; the first row is the header."""
    shown = [group for group in groups if group.trials]
    if not shown:
        return []
    most = max(trial.trained_steps for group in shown for trial in group.first.trials[:1])
    rows = [["supervision step", *(str(step + 1) for step in range(most))]]
    for group in shown:
        for name in ("cross_entropy", "flip_rate"):
            cells = [
                told(spread([trials[0].steps[step][name] for trials in _by_run(group)]))
                for step in range(group.first.trials[0].trained_steps)
            ]
            rows.append([f"{group.name}: {_STEPS[name]}", *cells, *[""] * (most - len(cells))])
    return rows


def _differences(groups: Sequence[Group]) -> list[list[str]]:
    """Options in which groups differ; the first row is the header."""
    flat = [_flat(group.first.options) for group in groups]
    names = dict.fromkeys(name for options in flat for name in options)
    rows = []
    for name in names:
        values = [options.get(name, "") for options in flat]
        if name.split(".")[0] not in _SEEDS and len(set(values)) > 1:
            rows.append([name, *values])
    return [["option", *(group.name for group in groups)], *rows] if rows else []


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value) if not isinstance(value, str) else value
    return found


def refinement(groups: Sequence[Group], place: int = 0) -> list[Panel]:
    """Figures by supervision step, mean and standard deviation over seeds."""
    shown = [group for group in groups if len(group.trials) > place]
    trained = {group.first.trials[place].trained_steps for group in shown}
    mark = float(trained.pop()) if len(trained) == 1 else None
    found = []
    for name, title in _STEPS.items():
        curves = [_step_curve(group, place, name) for group in shown]
        share = "accuracy" in name or "rate" in name
        log = name == "median_error_ppm"
        found.append(Panel(title, "supervision step", curves, mark, log, share))
    return found


def _step_curve(group: Group, place: int, name: str) -> Curve:
    values = np.array([[step[name] for step in trial.steps] for trial in group.trials[place]])
    if name == "median_error_ppm":
        values = np.maximum(values, 0.01)
    mean, off = values.mean(0), values.std(0)
    x = list(range(1, values.shape[1] + 1))
    if len(values) == 1:
        return Curve(group.name, x, mean.tolist())
    return Curve(group.name, x, mean.tolist(), (mean - off).tolist(), (mean + off).tolist())


def training_curves(groups: Sequence[Group]) -> list[Panel]:
    """Loss and whatever was validated, by training step; the first run of each group."""
    names = dict.fromkeys(
        name
        for group in groups
        for row in group.first.metrics
        for name in row
        if re.search(r"^loss$|^held_out_(token|sequence)|_recall$|wards_token_accuracy$", name)
    )
    found = []
    for name in names:
        curves = [
            Curve(group.name, *group.first.curve(name))
            for group in groups
            if group.first.curve(name)[0]
        ]
        title = name.replace("_", " ")
        found.append(Panel(title, "training step", curves, share=name != "loss"))
    return found


def _overlays(groups: Sequence[Group]) -> Iterator[dict[str, str]]:
    """Figures that compare all groups."""
    if content := training_curves(groups):
        yield {"title": "Training", "image": image(panels(content))}
    names = dict.fromkeys(trial.name for group in groups for trial in group.first.trials)
    for place, name in enumerate(names):
        if content := refinement(groups, place):
            start = next(g.first.trials[place].start for g in groups if len(g.trials) > place)
            title = f"Step by step on {name}, from {start}"
            yield {"title": title, "image": image(panels(content))}


def _section(group: Group) -> dict[str, object]:
    """What is said of one group: of its first run."""
    run = group.first
    return {
        "name": _column(group),
        "stage": run.options.get("stage", ""),
        "steps": run.steps,
        "asked": run.options.get("steps", ""),
        "made": f"tinynovo {run.version}, {run.parameters:,} parameters" if run.version else "",
        "data": list(_data(run.options)),
        "trials": [_trial(trial) for trial in run.trials],
        "options": _flat(run.options),
    }


def _data(options: Mapping[str, Any]) -> Iterator[str]:
    for ingredient in options.get("mixture", {}).get("ingredients", []):
        name = Path(ingredient["path"]).name if ingredient.get("path") else "random peptides"
        limit = f", at most {ingredient['limit']:,}" if ingredient.get("limit") else ""
        yield f"{name} ({ingredient['kind']}, weight {ingredient['weight']:g}{limit})"


def _trial(trial: Trial) -> dict[str, object]:
    samples = sorted(trial.samples, key=lambda s: (-s.token_accuracy, -s.probability))
    step = max(1, len(samples) // SHOWN)
    wrong = sorted((s for s in samples if not s.right), key=lambda s: -s.probability)
    return {
        "name": trial.name,
        "start": trial.start,
        "spectra": len(samples),
        "last": len(trial.steps),
        "images": [{"title": title, "image": image(draw(trial))} for title, draw in _DRAWN.items()],
        "sample": [_row(sample) for sample in samples[::step][:SHOWN]],
        "worst": [_row(sample) for sample in wrong[:WORST]],
    }


def _row(sample: Sample) -> dict[str, object]:
    """A sample for a table; each predicted token with whether it stands in its place."""
    true = [*sample.true, *[""] * len(sample.predicted)]
    marked = [(p, p == t) for p, t in zip(sample.predicted, true, strict=False)]
    return {
        "true": "".join(sample.true),
        "predicted": marked,
        "text": "".join(token for token, _ in marked),
        "accuracy": f"{sample.token_accuracy:.2f}",
        "error": number(sample.error_ppm),
        "probability": f"{sample.probability:.2f}",
        "right": sample.right,
    }


def _reliability(trial: Trial) -> Any:
    sure = np.array([sample.probability for sample in trial.samples])
    return reliability(sure, np.array([sample.right for sample in trial.samples]))


def _usage(trial: Trial) -> Any:
    true = Counter(token for sample in trial.samples for token in sample.true)
    found = Counter(token for sample in trial.samples for token in sample.predicted)
    names = sorted({*true, *found}, key=lambda token: (-true[token], token))
    shares = [[c[name] / max(1, c.total()) for name in names] for c in (true, found)]
    return pairs(names, shares[0], shares[1])


def _entropy(trial: Trial) -> Any:
    x = list(range(1, len(trial.entropy) + 1))
    most = Curve("all tokens alike", [1, len(x)], [trial.most_entropy] * 2)
    curves = [Curve("logits of the last step", x, trial.entropy), most]
    return panels([Panel("entropy, bits", "residue, from the N-terminus", curves)], across=1)


def _lengths(trial: Trial) -> Any:
    true = [len(sample.true) for sample in trial.samples]
    return confusion(true, [len(sample.predicted) for sample in trial.samples])


_DRAWN: dict[str, Callable[[Trial], Any]] = {
    "Is the judge as right as it is sure? Area: share of the answers": _reliability,
    "Lengths": _lengths,
    "How undecided the logits are": _entropy,
    "Tokens used, padding left out": _usage,
}
