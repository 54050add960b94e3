"""The run this project started from, its own repairs, and tinynovo, on the same task.

Run ``python benchmarks/arms.py``; with ``--steps 10000`` it goes on from what is there. Writes
``results/arms.json``, ``../docs/figures/arms.png`` and a page on the runs in their folder.

Three configurations (configs/baseline.yaml, fixed.yaml, evidence.yaml), three seeds each, on random
peptides of 7 to 10 residues with clean b and y ions. Figures are of 512 peptides that were not
trained on, started from nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, RESULTS, Results, processor
from experiments import ROOT, Wanted, carry_out, runs_of

from tinynovo import __version__
from tinynovo.drawing import panels
from tinynovo.layers import MassEncoding
from tinynovo.review import Group, refinement, spread, write_review
from tinynovo.runs import Run
from tinynovo.stages import TrainingOptions

FIGURE = HERE.parent / "docs" / "figures" / "arms.png"
ARMS = ("baseline", "fixed", "evidence")
SEEDS = 3
STEPS = 120
NAMES = (
    "cross_entropy",
    "token_accuracy",
    "sequence_accuracy",
    "mean_error_ppm",
    "median_error_ppm",
    "length_accuracy",
    "halt_accuracy",
)


def main() -> None:
    """Train what is missing, count, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training; default: {STEPS}")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "arms", help="of the runs")
    parser.add_argument("--workers", type=int, default=2, help="runs at once; default: 2")
    parser.add_argument("--output", type=Path, default=RESULTS / "arms.json")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="default: docs/figures")
    given = parser.parse_args()
    wanted = {
        arm: [
            Wanted(f"{arm}-{seed}", arm, given.steps, (f"seed={seed}",), given.folder)
            for seed in range(SEEDS)
        ]
        for arm in ARMS
    }
    carry_out([one[seed] for seed in range(SEEDS) for one in wanted.values()], given.workers)
    runs = {arm: runs_of(several) for arm, several in wanted.items()}
    values = {
        "about": {"version": __version__, "machine": processor(), "steps": given.steps},
        "definitions": " ".join(__doc__.split("\n\n", 2)[2].split()),
        "arms": {arm: counted(several) for arm, several in runs.items()},
    }
    Results(given.output, values).finish()
    groups = [Group(arm, several) for arm, several in runs.items()]
    given.figure.parent.mkdir(parents=True, exist_ok=True)
    panels(refinement(groups)).savefig(given.figure, dpi=110, metadata={"Software": None})
    print(f"wrote {given.figure}")
    page, _ = write_review(given.folder / "arms.html", [r for some in runs.values() for r in some])
    print(f"wrote {page}")


def counted(runs: list[Run]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of what one arm came to."""
    trials = [run.trials[0] for run in runs]
    trained = trials[0].trained_steps
    steps = [trial.steps[:trained] for trial in trials]
    options = TrainingOptions.model_validate(runs[0].options)
    masses = MassEncoding(options.model)
    pair = masses(masses.waves.new_tensor([113_084_064, 114_042_927]))
    return {
        "seeds": len(runs),
        "spectra": len(trials[0].samples),
        "trained_steps": trained,
        "parameters": runs[0].parameters,
        "seconds": float(np.mean([run.curve("seconds")[1][-1] for run in runs])),
        "distance_of_leucine_and_asparagine": float((pair[1] - pair[0]).norm()),
        "end": {name: spread([s[-1][name] for s in steps]) for name in NAMES},
        "by_step": {
            name: [spread([s[step][name] for s in steps]) for step in range(trained)]
            for name in ("cross_entropy", "token_accuracy", "flip_rate")
        },
        "entropy_bits": spread([float(np.mean(trial.entropy)) for trial in trials]),
        "most_entropy_bits": trials[0].most_entropy,
    }


if __name__ == "__main__":
    main()
