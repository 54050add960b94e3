"""Reports: what was found in spectra, on one HTML page that needs no network.

Knows what to note of spectra and PSMs while they go by, in memory that does not grow with the
files, and what to show of it. Does not know where scores come from, nor files of spectra.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinynovo import __version__
from tinynovo.annotation import TOLERANCE_PPM, TOLERANCE_TH, annotate, blocks
from tinynovo.drawing import (
    COLOURS,
    QUIET,
    bars,
    figure,
    image,
    need_libraries,
    reliability,
    write_page,
)
from tinynovo.errors import InputError
from tinynovo.evaluation import match
from tinynovo.peptide import Fragment, Peptide
from tinynovo.psm import PSM
from tinynovo.spectrum import Spectrum

BEST = 4
"""Spectra of the highest scores that are drawn, and as many of middling ones."""

SAMPLE = 60
"""Answered spectra kept by chance, for the table and the middling ones."""

SCORE_BINS = 25
DRAWN_PEAKS = 250
_COLOURS = dict(zip("by", COLOURS, strict=False))


@dataclass(frozen=True, eq=False)
class Example:
    """An answered spectrum; `right` says whether the answer is the label, None without a label."""

    psm: PSM
    spectrum: Spectrum
    truth: Peptide | None
    right: bool | None

    @property
    def score(self) -> float:
        """The score, 0 where the PSM has none."""
        return self.psm.score or 0.0

    @cached_property
    def lot(self) -> bytes:
        """A hash of the spectrum's place: who is drawn does not depend on the order."""
        return blake2b(f"{self.psm.file}\n{self.psm.index}".encode(), digest_size=8).digest()


@dataclass(eq=False)
class Findings:
    """What is noted of a run.

    Attributes
    ----------
    spectra, answered : int
    scores, lengths, errors : Counter
        Answers by score bin, residues, and precursor error in whole ppm.
    labelled, exact, published : int
        Spectra with a readable label, and answers that are it: the same residues, I = L, or all
        residues matching by the published rule.
    expected : float
        Answers expected to be right: the sum of their scores.
    judged : list of (float, bool)
        Score of each answer to a labelled spectrum, and whether it is right by the published rule.
    best, sample : list of Example
        Those of the highest scores, and some by chance: those whose lots are lowest.

    Raises
    ------
    InputError
        When the libraries that will draw the report are not installed.
    """

    spectra: int = 0
    answered: int = 0
    scores: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    errors: Counter[int] = field(default_factory=Counter)
    labelled: int = 0
    exact: int = 0
    published: int = 0
    expected: float = 0.0
    judged: list[tuple[float, bool]] = field(default_factory=list)
    best: list[Example] = field(default_factory=list)
    sample: list[Example] = field(default_factory=list)

    def __post_init__(self) -> None:
        need_libraries()
        self._waiting: dict[tuple[str, int], Spectrum] = {}

    def watch(self, spectra: Iterable[Spectrum]) -> Iterator[Spectrum]:
        """Let spectra pass, and hold each until its answer is added."""
        for spectrum in spectra:
            self._waiting[spectrum.file, spectrum.index] = spectrum
            yield spectrum

    def add(self, psms: Iterable[PSM]) -> None:
        """Note the best answer of each spectrum watched before."""
        for psm in psms:
            if psm.rank == 1:
                self._add(psm, self._waiting.pop((psm.file, psm.index)))

    def _add(self, psm: PSM, spectrum: Spectrum) -> None:
        self.spectra += 1
        truth = _truth(spectrum)
        self.labelled += truth is not None
        if psm.peptide is None:
            return
        self.answered += 1
        right = None if truth is None else truth == psm.peptide
        self.exact += right is True
        published = truth is not None and all(match(truth, psm.peptide))
        self.published += published
        self.lengths[len(psm.peptide)] += 1
        if psm.score is not None:
            self.expected += psm.score
            if truth is not None:
                self.judged.append((psm.score, published))
            self.scores[min(int(psm.score * SCORE_BINS), SCORE_BINS - 1)] += 1
        if psm.error_ppm is not None:
            self.errors[round(psm.error_ppm)] += 1
        example = Example(psm, spectrum, truth, right)
        self._keep([example], [example])

    def merge(self, other: Findings) -> None:
        """Take over what was noted of other spectra; in any order, the same comes out."""
        self.spectra += other.spectra
        self.answered += other.answered
        self.scores += other.scores
        self.lengths += other.lengths
        self.errors += other.errors
        self.labelled += other.labelled
        self.exact += other.exact
        self.published += other.published
        self.expected += other.expected
        self.judged += other.judged
        self._keep(other.best, other.sample)

    def _keep(self, best: Sequence[Example], sample: Sequence[Example]) -> None:
        """Keep examples if they are among the best, and by lot."""
        self.best = sorted([*self.best, *best], key=lambda e: (-e.score, e.lot))[:BEST]
        self.sample = sorted([*self.sample, *sample], key=lambda e: e.lot)[:SAMPLE]

    @property
    def middling(self) -> list[Example]:
        """Examples around the median score that are not among the best."""
        ranked = sorted(self.sample, key=lambda e: -e.score)
        rest = [e for e in ranked if not any(e is other for other in self.best)]
        first = max(0, (len(rest) - BEST) // 2)
        return rest[first : first + BEST]


def _truth(spectrum: Spectrum) -> Peptide | None:
    """The label, None where there is none that can be read."""
    try:
        return Peptide.parse(spectrum.peptide) if spectrum.peptide else None
    except InputError:
        return None


def write_report(
    path: Path,
    findings: Findings,
    reasons: Counter[str],
    files: Sequence[str],
    settings: Mapping[str, str],
) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
    findings : Findings
    reasons : Counter
        How many spectra have no peptide in the output, by `ReasonCode`.
    files : sequence of str
        The files that were sequenced.
    settings : mapping
        The resolved configuration; with ``fdr`` among it, the page says how many peptides met it.

    Raises
    ------
    InputError
        When the page cannot be written.
    """
    content = {
        "version": __version__,
        "files": files,
        "settings": settings,
        "findings": findings,
        "reasons": reasons,
        "histograms": _histograms(findings),
        "groups": [
            ("Highest scores", [_card(e) for e in findings.best]),
            ("Middling scores", [_card(e) for e in findings.middling]),
        ],
        "sample": sorted(findings.sample, key=lambda e: -e.score),
        "tolerance": f"{TOLERANCE_PPM:g} ppm or {TOLERANCE_TH:g} Th, whichever is wider",
        "drawn_peaks": DRAWN_PEAKS,
    }
    write_page(path, "report.html", content)


def _histograms(findings: Findings) -> list[dict[str, str]]:
    """The distributions, and how true scores are, as images with a title and a description."""
    scores = {(bin + 0.5) / SCORE_BINS: n for bin, n in findings.scores.items()}
    drawn = []
    for title, axis, counts, width in (
        ("Score", "score", scores, 1 / SCORE_BINS),
        ("Precursor error", "error, ppm (isotope removed)", findings.errors, 1.0),
        ("Length", "residues", findings.lengths, 1.0),
    ):
        if counts:
            drawing = image(bars(axis, dict(sorted(counts.items())), width))
            drawn.append({"title": title, "image": drawing, "about": f"{title} of all answers"})
    if findings.judged:
        sure, right = np.array(sorted(findings.judged)).T
        drawing = image(reliability(sure, right.astype(bool)))
        about = "Share of right answers over the score, by label"
        drawn.append({"title": "Reliability", "image": drawing, "about": about})
    return drawn


def _card(example: Example) -> dict[str, object]:
    """What the page says of one drawn spectrum."""
    psm = example.psm
    assert psm.peptide is not None
    mz, intensity = example.spectrum.mz, np.nan_to_num(example.spectrum.intensity)
    about = (mz, intensity, psm.peptide, psm.precursor_charge or 2)
    scores = psm.residue_scores or (1.0,) * len(psm.peptide)
    ahead = [(token, 1.0) for token in psm.peptide.tokens[: -len(psm.peptide)]]
    return {
        "example": example,
        "tokens": [*ahead, *zip(psm.peptide.residues, scores, strict=True)],
        "bonds": len(blocks(*about)) - 1,
        "image": _spectrum_image(example.spectrum, annotate(*about)),
        "about": f"Annotated spectrum of {psm.peptide.proforma}",
    }


def _spectrum_image(spectrum: Spectrum, ions: Sequence[Fragment | None]) -> str:
    """The most intense peaks as sticks, those of ions coloured and named."""
    intensity: NDArray[np.float64] = np.nan_to_num(spectrum.intensity, posinf=0.0).clip(0)
    intensity = intensity / max(intensity.max(initial=0.0), 1e-12)
    drawn = set(np.argsort(-intensity, kind="stable")[:DRAWN_PEAKS].tolist())
    kinds = [ion.series if ion else "" for ion in ions]
    drawn_on, axes = figure(9.0, 3.0)
    for kind, colour, width in (
        ("", QUIET, 0.7),
        ("b", _COLOURS["b"], 1.4),
        ("y", _COLOURS["y"], 1.4),
    ):
        rows = [p for p, own in enumerate(kinds) if own == kind and (kind or p in drawn)]
        axes.vlines(spectrum.mz[rows], 0, intensity[rows], color=colour, linewidth=width)
    for mz, height, ion in zip(spectrum.mz, intensity, ions, strict=True):
        if ion is not None:
            text = f"{ion.series}{ion.ordinal}" + (f"({ion.charge}+)" if ion.charge > 1 else "")
            colour = _COLOURS[ion.series]
            axes.text(mz, height + 0.02, text, color=colour, rotation=90, ha="center", fontsize=7)
    axes.set_xlabel("m/z")
    axes.set_ylabel("relative intensity")
    axes.set_ylim(0, 1.18)
    return image(drawn_on)
