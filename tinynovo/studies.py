"""Studies: spectra simulated, training runs drawn.

Knows which rooms they pass through and in which order. Does not know argv, the terminal, nor how
spectra are sequenced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinynovo.digestion import Forms, cleaved, digest
from tinynovo.errors import InputError
from tinynovo.journeys import check_output
from tinynovo.labelled import write_labelled
from tinynovo.peptide import Peptide
from tinynovo.rendering import SimulationOptions
from tinynovo.review import write_review
from tinynovo.runs import read_run
from tinynovo.simulation import random_peptides, simulate


def review_runs(output: Path, directories: Sequence[Path]) -> tuple[Path, Path]:
    """Draw training runs on a page, and write the same in Markdown beside it.

    Raises
    ------
    InputError
        For an output that is not named as a page, and a directory that holds no run.
    """
    if output.suffix != ".html":
        raise InputError("is no page", file=output, remedy="name it .html")
    check_output(output, [])
    return write_review(output, [read_run(directory) for directory in directories])


def simulate_file(
    output: Path, number: int, fasta: Path | None, options: SimulationOptions, *, seed: int
) -> None:
    """Write labelled spectra, the same ones for the same seed.

    Parameters
    ----------
    output : Path
        A name in ``.mgf`` or ``.parquet``.
    number : int
        Spectra.
    fasta : Path, optional
        Its tryptic peptides are drawn, each once before any is drawn again; else random peptides.
    options : SimulationOptions
    seed : int

    Raises
    ------
    InputError
        For a FASTA that gives no peptide and an output of another format.
    """
    rng = np.random.default_rng(seed)
    if fasta is None:
        peptides = random_peptides(number, rng, options)
    else:
        pieces = cleaved(fasta, min_length=options.min_length, max_length=options.max_length)
        pool = digest(list(pieces), Forms())
        rounds = [rng.permutation(len(pool)) for _ in range(-(-number // len(pool)))]
        peptides = [pool[i] for i in np.concatenate(rounds)[:number]]
    write_labelled(output, simulate(peptides, [_charge(p) for p in peptides], options, rng))


def _charge(peptide: Peptide) -> int:
    """A proton at the N-terminus and at each basic residue, but 2 to 4 of them."""
    return min(max(1 + sum(residue in "KRH" for residue in peptide.sequence), 2), 4)
