"""What the benchmarks share: labelled spectra, the circumstances of a run, results that grow."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
import torch

from tinynovo import __version__
from tinynovo.checkpoint import default_path, fingerprint
from tinynovo.peptide import Peptide
from tinynovo.readers import read_spectra
from tinynovo.spectrum import Spectrum

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DATA = HERE.parents[1] / "shared" / "data"
FILES = ("labelfree_hcd_valid.parquet", "tmt6_hcd_valid.parquet")
"""The labelled files: no peptide of theirs was trained on."""

T = TypeVar("T")


def arguments(text: str, name: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark of a model has."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--model", type=Path, help="checkpoint; default: the packaged weights")
    parser.add_argument("--threads", type=int, default=1, help="of torch; default: 1")
    parser.add_argument(
        "--output", type=Path, default=RESULTS / name, help=f"default: benchmarks/results/{name}"
    )
    return parser


class Labelled:
    """Labelled spectra of a file, evenly spread over it where there is a limit."""

    def __init__(self, path: Path, limit: int | None) -> None:
        spectra = list(read_spectra(path))
        step = max(1, len(spectra) // limit) if limit else 1
        self.spectra: list[Spectrum] = spectra[::step][:limit]
        self.peptides = [Peptide.parse(spectrum.peptide) for spectrum in self.spectra]
        self.charges = [spectrum.precursor_charge for spectrum in self.spectra]
        sources = pq.read_table(path, columns=["source"])["source"].to_pylist()
        self.sources = [str(sources[spectrum.index]) for spectrum in self.spectra]


def about(model: Path | None) -> dict[str, Any]:
    """The circumstances: versions, machine, and which weights."""
    path = model or default_path()
    return {
        "version": __version__,
        "tensors_sha256": fingerprint(path),
        "machine": processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def processor() -> str:
    """Name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def told(items: Iterable[T], total: int, what: str, every: int = 100) -> Iterator[T]:
    """Pass items on and print how far and how fast it goes."""
    begin = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0 or count == total:
            rate = count / max(time.monotonic() - begin, 1e-9)
            print(f"{what}: {count} of {total}, {rate:.1f} a second", flush=True)


class Results:
    """A JSON file that grows beside its final place (``.part``) and moves there when complete."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values
        self.part = path.with_name(path.name + ".part")

    def save(self) -> None:
        """Write what there is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.part.write_text(json.dumps(rounded(self.values), indent=1) + "\n", "utf-8")

    def finish(self) -> None:
        """Write everything to its final place."""
        self.save()
        os.replace(self.part, self.path)
        print(f"wrote {self.path}")


def rounded(value: Any) -> Any:
    """The same with every number to five decimals."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return value
