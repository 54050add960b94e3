"""Options: how spectra are sequenced, all that users may change at run time.

Knows what may be chosen, its defaults, and how much to choose for little, usual and much effort.
Does not know what the choices do.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tinynovo.errors import InputError
from tinynovo.masses import Tolerance

_WIDEST = {"ppm": 25.0, "Da": 0.02}
"""Widest tolerance of the precursor mass: `closing_slack` is what the scorer is trained with."""


class SequencingOptions(BaseModel):
    """How spectra are sequenced: everything that users may change at run time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Literal["full", "draft", "empty"] = Field(
        "full",
        description="full: draft, refine, judge; draft: the beam search alone; empty: the loop "
        "from an empty answer",
    )
    n_beams: int = Field(8, ge=1, description="beams of the draft, in each direction")
    candidates: int = Field(8, ge=1, description="drafts of each direction that are judged")
    judge_weight: float = Field(
        0.3, ge=0, le=1, description="of the judge, beside the scorer, in ordering candidates"
    )
    refined: int = Field(2, ge=0, description="best drafts that are refined")
    top_match: int = Field(1, ge=1, description="peptides reported a spectrum")
    predict_batch_size: int = Field(16, ge=1, description="spectra sequenced together")
    precursor_mass_tol: str = Field(
        "20 ppm", description="tolerance of the precursor mass, at most 25 ppm or 0.02 Da"
    )
    isotope_error_range: tuple[int, int] = Field(
        (0, 1), description="isotopes by which a precursor may be too heavy, first and last"
    )
    isotope_retry_below: float = Field(
        0.9, ge=0, le=1, description="further isotopes are tried unless the answer scores as much"
    )
    default_charges: tuple[int, ...] = Field(
        (2, 3), description="charges tried where the file gives none"
    )
    min_peptide_len: int = Field(5, ge=1, description="residues of the shortest answer")
    max_peptide_len: int = Field(38, ge=2, le=60, description="residues of the longest answer")
    exclude_residues: list[str] = Field([], description="residues that must not be used")
    supervision_steps: int | None = Field(None, ge=1, description="steps of the loop; none: frozen")

    @field_validator("isotope_error_range")
    @classmethod
    def _ascending(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the first isotope must not be above the last")
        return value

    @field_validator("precursor_mass_tol")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            tolerance = Tolerance.parse(value)
        except InputError as complaint:
            raise ValueError(str(complaint)) from None
        if tolerance.value > _WIDEST[tolerance.unit]:
            raise ValueError("the model looks no further than 25 ppm or 0.02 Da")
        return str(tolerance)


EFFORTS: dict[str, tuple[str, ...]] = {
    "fast": ("strategy=draft", "n_beams=3", "candidates=3"),
    "default": (),
    "max": (
        "n_beams=24",
        "candidates=16",
        "refined=4",
        "isotope_error_range=[0, 2]",
        "isotope_retry_below=1",
    ),
}
"""What each effort sets; benchmarks/effort.py measures what it costs and brings."""
