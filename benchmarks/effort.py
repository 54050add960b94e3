"""What more effort costs and brings: ``tinynovo sequence --effort fast|default|max``.

Run ``python benchmarks/effort.py`` (some minutes on one core, and best on a machine that does
nothing else). Writes ``results/effort.json`` and ``../docs/figures/effort.png``.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from accuracy import best, compared, figures
from common import DATA, FILES, HERE, Labelled, Results, about, arguments

from tinynovo import config
from tinynovo.drawing import COLOURS, figure
from tinynovo.evaluation import DEFINITIONS
from tinynovo.options import EFFORTS, SequencingOptions
from tinynovo.sequencing import Sequencer

FIGURE = HERE.parent / "docs" / "figures" / "effort.png"


def main() -> None:
    """Measure, write and draw."""
    parser = arguments(__doc__.splitlines()[0], "effort.json")
    parser.add_argument("--limit", type=int, default=200, help="spectra a file; default: 200")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    values: dict[str, Any] = {
        "about": about(given.model),
        "limit": given.limit,
        "definitions": DEFINITIONS,
        "efforts": {name: list(overrides) for name, overrides in EFFORTS.items()},
        "files": {},
    }
    results = Results(given.output, values)
    for file in FILES:
        labelled = Labelled(DATA / file, given.limit)
        values["files"][file] = found = {}
        for name, overrides in EFFORTS.items():
            options = config.load(SequencingOptions, None, overrides)
            sequencer = Sequencer.load(given.model, options, device="cpu")
            begin = time.monotonic()
            answers = best(sequencer, labelled, f"{file} {name}")
            seconds = (time.monotonic() - begin) / len(labelled.spectra)
            found[name] = figures(compared(labelled, answers))
            found[name] |= {"seconds_a_spectrum": seconds}
            results.save()
    results.finish()
    draw(values)


def draw(values: dict[str, Any]) -> None:
    """Peptide recall over time a spectrum."""
    drawn, axes = figure(4.6, 3.2)
    for (file, found), colour in zip(values["files"].items(), COLOURS, strict=False):
        seconds = [row["seconds_a_spectrum"] for row in found.values()]
        recall = [row["published"]["peptide_recall"] for row in found.values()]
        ends = [row["published"]["intervals"]["peptide_recall"] for row in found.values()]
        error = [
            [r - low for r, (low, _) in zip(recall, ends, strict=True)],
            [high - r for r, (_, high) in zip(recall, ends, strict=True)],
        ]
        label = file.partition("_valid")[0]
        axes.errorbar(seconds, recall, yerr=error, fmt="o-", ms=4, color=colour, label=label)
        for x, y, name in zip(seconds, recall, found, strict=True):
            axes.annotate(name, (x, y), (4, 4), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set(xlabel="seconds a spectrum, one core", ylabel="peptide recall (95 %)")
    axes.legend(frameon=False, fontsize=8)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(FIGURE, dpi=110, metadata={"Software": None})
    print(f"wrote {FIGURE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
