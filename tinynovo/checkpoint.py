"""Checkpoints: one safetensors file <-> the model and all that is frozen with it.

Knows the layout of that file. Does not know training nor the command line. Nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tinynovo import __version__
from tinynovo.calibration import Calibration
from tinynovo.errors import InputError
from tinynovo.evidence import EvidenceOptions
from tinynovo.expectation import Expectation
from tinynovo.layers import ModelOptions
from tinynovo.model import Tinynovo
from tinynovo.recursion import RecursionOptions
from tinynovo.scorer import EvidenceScorer
from tinynovo.spectrum import Preprocessing
from tinynovo.tokens import TOKENS, token_masses

FORMAT = "tinynovo-1"


class Frozen(BaseModel):
    """What a checkpoint fixes.

    Attributes
    ----------
    notes : dict
        Free facts: training data, steps, headline figures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    preprocessing: Preprocessing = Preprocessing()
    evidence: EvidenceOptions = EvidenceOptions()
    model: ModelOptions = ModelOptions()
    recursion: RecursionOptions = RecursionOptions()
    residues: dict[str, int] = Field(
        default_factory=lambda: dict(zip(TOKENS, token_masses().tolist(), strict=True)),
        description="token -> micro-dalton",
    )
    calibration: dict[str, Calibration] = Field(
        {}, description="what makes scores probabilities, by strategy of sequencing"
    )
    code_version: str = __version__
    notes: dict[str, str | int | float | list[str]] = {}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model and what is frozen with it; the digest tells which file it is of."""

    model: Tinynovo
    frozen: Frozen
    digest: str = ""


def default_path() -> Path:
    """The packaged weights."""
    return Path(str(resources.files("tinynovo").joinpath("weights/default.safetensors")))


def fingerprint(path: Path) -> str:
    """SHA-256 of a checkpoint's tensors: calibrations, which change scores alone, are not in it."""
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    return hashlib.sha256(content[8 + header :]).hexdigest()


def save(path: Path, tensors: dict[str, Tensor], frozen: Frozen) -> None:
    """Write a checkpoint; the file appears whole or not at all."""
    metadata = {"format": FORMAT, "frozen": frozen.model_dump_json()}
    write_atomically(path, tensors, metadata)


def write_atomically(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write safetensors beside the place and move it there.

    Raises
    ------
    InputError
        When the place cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in tensors.items()}, part, metadata)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write: {error}", file=path) from error


def read(path: Path, format_name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file of ours.

    Raises
    ------
    InputError
        When it is missing, damaged, or of another format.
    """
    remedy = "give a .safetensors file that tinynovo train wrote"
    if not path.is_file():
        raise InputError("no such checkpoint", file=path, remedy=remedy)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError("not a readable checkpoint", file=path, remedy=remedy) from error
    if metadata.get("format") != format_name:
        found = metadata.get("format", "no format")
        raise InputError(f"not a {format_name} file ({found})", file=path, remedy=remedy)
    return tensors, metadata


def load(path: Path | None = None) -> Checkpoint:
    """The model of a checkpoint, by default of the packaged weights.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another format, or made with other residues.
    """
    path = path or default_path()
    with _fitting(path):
        tensors, frozen = _thawed(path)
        model = Tinynovo(frozen.model, frozen.evidence)
        model.load_state_dict(tensors)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Checkpoint(model.eval(), frozen, digest)


def calibrated(path: Path | None, output: Path, calibration: dict[str, Calibration]) -> None:
    """Write a checkpoint, by default the packaged weights, anew with these calibrations.

    Raises
    ------
    InputError
        As `load` does, and when the output cannot be written.
    """
    path = path or default_path()
    with _fitting(path):
        tensors, frozen = _thawed(path)
    merged = {**frozen.calibration, **calibration}
    save(output, tensors, frozen.model_copy(update={"calibration": merged}))


def load_scorer(path: Path) -> EvidenceScorer:
    """The evidence scorer of a checkpoint, whatever the rest of its network is like.

    Raises
    ------
    InputError
        As `load` does.
    """
    with _fitting(path):
        tensors, frozen = _thawed(path)
        scorer = EvidenceScorer(frozen.evidence)
        _fill(scorer, "scorer.", tensors)
    return scorer.eval()


def fill_expectation(path: Path, expectation: Expectation) -> None:
    """Give an expectation the weights of that of a checkpoint.

    Raises
    ------
    InputError
        As `load` does, and when it is of another shape.
    """
    with _fitting(path):
        _fill(expectation, "expectation.", _thawed(path)[0])


def _fill(part: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    part.load_state_dict(own)


def load_frozen(path: Path) -> Frozen:
    """What is frozen in a checkpoint, without its network.

    Raises
    ------
    InputError
        As `load` does.
    """
    with _fitting(path):
        return _thawed(path)[1]


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, ValidationError, RuntimeError) as error:
        raise InputError(
            "does not fit this version of tinynovo", file=path, remedy="train or fetch a new one"
        ) from error


def _thawed(path: Path) -> tuple[dict[str, Tensor], Frozen]:
    tensors, metadata = read(path, FORMAT)
    frozen = Frozen.model_validate(json.loads(metadata["frozen"]))
    if list(frozen.residues.items()) != list(Frozen().residues.items()):
        raise InputError("made with another residue table", file=path)
    return tensors, frozen
