"""Spectra a second on one core, Spectrum objects included: clean, noisy, rendered with a bank.

Needs no data: annotated ions and labelled spectra for the noise bank are made here.
Run ``OMP_NUM_THREADS=1 python benchmarks/simulation.py``; writes ``results/simulation.json``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tinynovo import __version__
from tinynovo.noise import NoiseBank
from tinynovo.peptide import Peptide
from tinynovo.rendering import SimulationOptions
from tinynovo.simulation import IonTable, random_peptides, simulate
from tinynovo.spectrum import Spectrum

COUNT = 8000
REPEATS = 3
RESULTS = Path(__file__).parent / "results" / "simulation.json"


def annotated(peptides: list[Peptide], path: Path) -> IonTable:
    """A table of annotated ions: every b and y, intensities by chance."""
    rng = np.random.default_rng(2)
    rows = []
    for peptide in peptides:
        bonds = len(peptide) - 1
        size = 2 * bonds
        rows.append(
            {
                "proforma": peptide.proforma,
                "precursor_charge": int(rng.integers(2, 4)),
                "series": [0] * bonds + [1] * bonds,
                "ordinal": [*range(1, bonds + 1)] * 2,
                "ion_charge": [1] * size,
                "loss": [0] * size,
                "intensity": rng.integers(5, 256, size).tolist(),
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return IonTable.load(path)


def measured(work: Callable[[], list[Spectrum]]) -> dict[str, float]:
    """Best of some runs: spectra a second, and mean peaks a spectrum."""
    best, spectra = float("inf"), []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        spectra = work()
        best = min(best, time.perf_counter() - begin)
    return {
        "spectra_per_second": round(len(spectra) / best),
        "mean_peaks": round(float(np.mean([s.mz.size for s in spectra])), 1),
    }


def main() -> None:
    """Measure and write."""
    rng = np.random.default_rng(1)
    noisy, clean = SimulationOptions(), SimulationOptions.clean()
    peptides = random_peptides(COUNT, rng, noisy)
    charges = rng.integers(2, 4, COUNT).tolist()
    bank = NoiseBank.build(simulate(peptides[:1000], charges[:1000], noisy, rng))
    path = RESULTS.with_suffix(".parquet")
    try:
        table = annotated(peptides, path)
    finally:
        path.unlink(missing_ok=True)
    rows = np.arange(COUNT)
    results = {
        "clean": measured(lambda: simulate(peptides, charges, clean, rng)),
        "noisy": measured(lambda: simulate(peptides, charges, noisy, rng)),
        "rendered_with_bank": measured(lambda: table.render(rows, noisy, rng, bank)),
    }
    about = {"version": __version__, "count": COUNT, "repeats": REPEATS, "cores": 1,
             "machine": platform.machine(), "python": platform.python_version(),
             "numpy": np.__version__}  # fmt: skip
    RESULTS.write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
