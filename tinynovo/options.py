"""Options: how spectra are sequenced, all that users may change at run time.

Knows what may be chosen, its defaults, and how much to choose for little, usual and much effort.
Does not know what the choices do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
)

from tinynovo.errors import InputError
from tinynovo.masses import Tolerance
from tinynovo.modifications import Switch, known_name, switched

_WIDEST = {"ppm": 25.0, "Da": 0.02}
"""Widest tolerance of the precursor mass: `closing_slack` is what the scorer is trained with."""


@contextmanager
def _complaints() -> Iterator[None]:
    """What is refused elsewhere becomes a complaint about an option."""
    try:
        yield
    except InputError as complaint:
        raise ValueError(str(complaint)) from None


def _known(name: str) -> str:
    with _complaints():
        return known_name(name)


def _spelled(switch: object) -> object:
    """To YAML a bare on or off is a truth value."""
    return ("off", "on")[switch] if isinstance(switch, bool) else switch


Modifications = dict[
    Annotated[str, AfterValidator(_known)], Annotated[Switch, BeforeValidator(_spelled)]
]


class SequencingOptions(BaseModel):
    """How spectra are sequenced: everything that users may change at run time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Literal["full", "draft", "empty"] = Field(
        "full",
        description="full: draft, refine, judge; draft: the beam search alone; empty: the loop "
        "from an empty answer",
    )
    n_beams: int = Field(
        12,
        ge=1,
        description="beams of the draft, in each direction, of those that weigh about as much",
    )
    candidates: int = Field(8, ge=1, description="drafts kept")
    margin: float = Field(
        5.0,
        gt=0,
        description="beams so many nats worse than the best as far, or further, are given up",
    )
    guide_margin: float = Field(
        7.0,
        gt=0,
        description="beams that promise to become so many nats worse than the best are given up as "
        "well, by what the search from the other end has found of the rest",
    )
    judge_margin: float = Field(
        3.3,
        ge=0,
        description="drafts that are so many nats worse than the best are not judged, unless they "
        "are to be reported; fewer nats the less likely the best is itself",
    )
    judge_above: float = Field(
        -10.0,
        lt=0,
        description="a best draft that is not likelier, log-probability in nats, is judged alone",
    )
    judge_weight: float = Field(
        0.7, ge=0, le=1, description="of the judge, beside the scorer, in ordering candidates"
    )
    refined: int = Field(0, ge=0, description="best drafts that the loop refines")
    halt_probability: float = Field(
        0.9, ge=0, le=1, description="nothing is refined where the judge is as sure of a draft"
    )
    top_match: int = Field(1, ge=1, description="peptides reported a spectrum")
    predict_batch_size: int | None = Field(
        None,
        ge=1,
        description="spectra sequenced together; none: 128 on a CPU, 1024 on a GPU, "
        "4096 with the extra gpu",
    )
    precursor_mass_tol: str = Field(
        "20 ppm", description="tolerance of the precursor mass, at most 25 ppm or 0.02 Da"
    )
    isotope_error_range: tuple[int, int] = Field(
        (0, 1), description="isotopes by which a precursor may be too heavy, first and last"
    )
    isotope_retry_below: float = Field(
        0.5, ge=0, le=1, description="further isotopes are tried unless the answer scores as much"
    )
    isotope_retry_pairs: float = Field(
        0.4,
        ge=0,
        description="nor where pairs of fragments that weigh together what the precursor then does "
        "are so much less intense than those without further isotopes; 0: always",
    )
    default_charges: tuple[int, ...] = Field(
        (2, 3, 4), description="charges tried where the file gives none"
    )
    min_peptide_len: int = Field(5, ge=1, description="residues of the shortest answer")
    max_peptide_len: int = Field(38, ge=2, le=60, description="residues of the longest answer")
    mods: Modifications = Field(
        {},
        description="modifications switched on, off or fixed, as in {Phospho: off, TMT6plex: "
        "fixed}, by their names or by those of single tokens (M[Oxidation]); the others are on",
    )
    supervision_steps: int | None = Field(None, ge=1, description="steps of the loop; none: frozen")

    def together(self, device: str, *, threads: bool = False) -> int:
        """Spectra sequenced together on a device of this type, which small batches leave idle.

        ``threads`` says whether what is compiled runs there by a thread for each spectrum.
        """
        idle_below = 4096 if threads else 128 if device == "cpu" else 1024
        return self.predict_batch_size or idle_below

    @field_validator("isotope_error_range")
    @classmethod
    def _ascending(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the first isotope must not be above the last")
        return value

    @field_validator("mods")
    @classmethod
    def _compatible(cls, value: Modifications) -> Modifications:
        with _complaints():
            switched(value)
        return value

    @field_validator("precursor_mass_tol")
    @classmethod
    def _readable(cls, value: str) -> str:
        with _complaints():
            tolerance = Tolerance.parse(value)
        if tolerance.value > _WIDEST[tolerance.unit]:
            raise ValueError("the model looks no further than 25 ppm or 0.02 Da")
        return str(tolerance)


EFFORTS: dict[str, tuple[str, ...]] = {
    "fast": ("strategy=draft", "n_beams=4", "margin=3", "candidates=2"),
    "default": (),
    "max": (
        "n_beams=32",
        "candidates=16",
        "margin=8",
        "guide_margin=20",
        "judge_margin=20",
        "judge_above=-1000",
        "refined=4",
        "halt_probability=1",
        "isotope_error_range=[0, 2]",
        "isotope_retry_below=1",
        "isotope_retry_pairs=0",
    ),
}
"""What each effort sets; benchmarks/effort.py measures what it costs and brings."""
