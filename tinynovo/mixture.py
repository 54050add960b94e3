"""Mixtures: files of labelled spectra and annotated ions to one packed corpus.

Knows how each kind of training file becomes labelled spectra and how often each is drawn. Does not
know the network nor the optimizer.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinynovo.corpus import Corpus, concatenate
from tinynovo.errors import InputError
from tinynovo.noise import NoiseBank
from tinynovo.peptide import Peptide
from tinynovo.readers import read_spectra
from tinynovo.rendering import SimulationOptions
from tinynovo.simulation import IonTable, ion_rows, random_peptides, simulate
from tinynovo.spectrum import Preprocessing, Spectrum
from tinynovo.transfer import remove_tags

_AT_ONCE = 2000

_PART = 25_000
"""Annotated peptides are rendered in parts of about so many, of which processes take one each."""


class Ingredient(BaseModel):
    """One source of training spectra."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["spectra", "untagged", "ions", "random"] = Field(
        "spectra",
        description="labelled spectra; TMT spectra with their tags taken off; annotated ions to "
        "render; random peptides",
    )
    path: Path | None = Field(None, description="the file; none for random peptides")
    weight: float = Field(1.0, gt=0, description="share of the training samples")
    limit: int | None = Field(None, ge=1, description="at most so many spectra")

    @model_validator(mode="after")
    def _has_an_end(self) -> Ingredient:
        if self.kind == "random" and self.limit is None:
            raise ValueError("random peptides never end: set limit")
        if (self.kind == "random") != (self.path is None):
            raise ValueError(f"path must be {'left out' if self.path else 'set'} for {self.kind}")
        return self


class MixtureOptions(BaseModel):
    """What a model is trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ingredients: list[Ingredient] = Field(min_length=1, description="sources of training spectra")
    exclude: list[Path] = Field([], description="labelled files whose peptides are never used")
    noise: list[Path] = Field([], description="labelled spectra whose unexplained peaks are noise")
    untagged_noise: list[Path] = Field([], description="TMT spectra for noise, tags taken off")
    noise_limit: int = Field(3000, ge=1, description="spectra of each file for the noise bank")
    simulation: SimulationOptions = SimulationOptions()
    max_tokens: int = Field(40, ge=2, description="longer labels are left out")


@dataclass(frozen=True, eq=False)
class Mixture:
    """A corpus and how likely each of its spectra is drawn.

    Attributes
    ----------
    corpus : Corpus
    cumulative : float64, shape (spectra,)
        Running sum of the probabilities.
    """

    corpus: Corpus
    cumulative: NDArray[np.float64]

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of the corpus, with replacement."""
        spot = rng.random(count) * self.cumulative[-1]
        return np.asarray(np.searchsorted(self.cumulative, spot), np.int64)


def excluded_sequences(files: Sequence[Path]) -> frozenset[str]:
    """Bare sequences (I = L) of all labels of some files."""
    return frozenset(
        Peptide.parse(spectrum.peptide).sequence
        for file in files
        for spectrum in read_spectra(file)
    )


def _claim(cache: Path, facts: dict[str, str | int]) -> None:
    """Write down what a cache is made with.

    Raises
    ------
    InputError
        When it was made with something else, or cannot be written.
    """
    note = cache / "made-with.json"
    text = json.dumps(facts, indent=1)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not note.is_file():
            note.write_text(text, "utf-8")
        known = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be used as a cache: {error}", file=cache) from error
    other = [name for name in facts if known.get(name) != facts[name]]
    if other:
        raise InputError(
            f"this cache was made with another {other[0]}", file=cache, remedy="set another cache"
        )


def mix(
    options: MixtureOptions,
    preprocessing: Preprocessing,
    cache: Path,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
    workers: int = 1,
) -> Mixture:
    """Build the corpora, or read them back from ``cache`` (one file an ingredient).

    ``tell`` is given a line on every corpus built: how many spectra, how many left out and why.
    ``workers`` is the number of processes that build them; the corpora are the same with any.

    Raises
    ------
    InputError
        When a file cannot be used, or the cache was made with other options.
    """
    made_of = options.model_dump_json(exclude={"ingredients": {"__all__": {"weight"}}})
    _claim(
        cache, {"mixture": made_of, "preprocessing": preprocessing.model_dump_json(), "seed": seed}
    )
    files = [cache / f"corpus-{number}.safetensors" for number in range(len(options.ingredients))]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    if missing:
        exclude = excluded_sequences(options.exclude)
        recipe = _Recipe(options, preprocessing, exclude, _noise_bank(options, exclude), seed)
        with _shared(recipe, workers) as work:
            parts = {number: recipe.parts(number) for number in missing}
            packs = work([(n, slice(k, None, parts[n])) for n in missing for k in range(parts[n])])
            for number in missing:
                packed = list(islice(packs, parts[number]))
                tell(_keep(files[number], options.ingredients[number], packed))
    corpora = [Corpus.load(file) for file in files]
    weights = [
        np.full(len(corpus), ingredient.weight / len(corpus))
        for corpus, ingredient in zip(corpora, options.ingredients, strict=True)
    ]
    return Mixture(concatenate(corpora), np.cumsum(np.concatenate(weights)))


def _keep(file: Path, ingredient: Ingredient, parts: list[tuple[Corpus, Counter[str]]]) -> str:
    """Write the corpus of an ingredient, whole or not at all; what there is to say of it."""
    corpus = concatenate([corpus for corpus, _ in parts])
    left_out = sum((counts for _, counts in parts), Counter[str]())
    part = file.with_suffix(".part")
    corpus.save(part)
    part.replace(file)
    why = "".join(f", {count:,} left out: {reason}" for reason, count in left_out.items())
    name = ingredient.path.name if ingredient.path else "random peptides"
    return f"{name} ({ingredient.kind}): {len(corpus):,} spectra{why}"


@dataclass(frozen=True, eq=False)
class _Recipe:
    """What corpora are packed with: peptides that are left out, noise, seed."""

    options: MixtureOptions
    preprocessing: Preprocessing
    exclude: frozenset[str]
    bank: NoiseBank | None
    seed: int

    def parts(self, number: int) -> int:
        """In how many parts an ingredient is packed."""
        ingredient = self.options.ingredients[number]
        if ingredient.kind != "ions" or ingredient.path is None:
            return 1
        rows = min(ion_rows(ingredient.path), ingredient.limit or sys.maxsize)
        return max(1, rows // _PART)

    def pack(self, number: int, some: slice) -> tuple[Corpus, Counter[str]]:
        """Some of an ingredient, and how many of its spectra are left out, by reason."""
        return Corpus.pack(
            self._spectra(number, some),
            self.preprocessing,
            max_tokens=self.options.max_tokens,
            exclude=self.exclude,
        )

    def _spectra(self, number: int, some: slice) -> Iterator[Spectrum]:
        ingredient, seed = self.options.ingredients[number], self.seed + number
        simulation, limit = self.options.simulation, ingredient.limit
        if ingredient.kind == "random":
            yield from islice(_random(simulation, np.random.default_rng(seed)), limit)
            return
        assert ingredient.path is not None
        if ingredient.kind == "ions":
            table = IonTable.load(ingredient.path, exclude=self.exclude)
            order = np.random.default_rng(seed).permutation(len(table))[:limit][some]
            rng = np.random.default_rng([seed, some.start])
            for begin in range(0, len(order), _AT_ONCE):
                yield from table.render(order[begin : begin + _AT_ONCE], simulation, rng, self.bank)
        elif ingredient.kind == "untagged":
            yield from islice(map(remove_tags, read_spectra(ingredient.path)), limit)
        else:
            yield from islice(read_spectra(ingredient.path), limit)


_SHARED: list[_Recipe] = []


def _share(recipe: _Recipe) -> None:
    """Give a process what all of its parts need."""
    _SHARED[:] = [recipe]


Place = tuple[int, slice]
Packed = Iterator[tuple[Corpus, Counter[str]]]


def _pack(place: Place) -> tuple[Corpus, Counter[str]]:
    return _SHARED[0].pack(*place)


@contextmanager
def _shared(recipe: _Recipe, workers: int) -> Iterator[Callable[[Sequence[Place]], Packed]]:
    """What packs parts of ingredients, in their order: here, or in as many processes."""
    if workers == 1:
        yield lambda places: (recipe.pack(*place) for place in places)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _share, (recipe,)) as pool:
        yield lambda places: iter(pool.map(_pack, places))


def held_out(
    options: MixtureOptions, preprocessing: Preprocessing, trained: Corpus, count: int, seed: int
) -> Corpus:
    """Spectra of ``count`` random peptides, none of which is in a corpus that is trained on.

    ``seed`` is that of the corpus; the peptides are drawn with another. Spectra that cannot be used
    are left out.
    """
    known = {trained.peptide(row).sequence for row in range(len(trained))}
    spectra = _random(options.simulation, np.random.default_rng([seed, 1]))
    unseen = (s for s in spectra if Peptide.parse(s.peptide).sequence not in known)
    corpus, _ = Corpus.pack(islice(unseen, count), preprocessing, max_tokens=options.max_tokens)
    return corpus


def _noise_bank(options: MixtureOptions, exclude: frozenset[str]) -> NoiseBank | None:
    if not options.noise and not options.untagged_noise:
        return None

    def spectra() -> Iterator[Spectrum]:
        for file in options.noise:
            yield from islice(_labelled(file, exclude), options.noise_limit)
        for file in options.untagged_noise:
            yield from map(remove_tags, islice(_labelled(file, exclude), options.noise_limit))

    return NoiseBank.build(spectra())


def _labelled(file: Path, exclude: frozenset[str]) -> Iterator[Spectrum]:
    return (s for s in read_spectra(file) if Peptide.parse(s.peptide).sequence not in exclude)


def _random(simulation: SimulationOptions, rng: np.random.Generator) -> Iterator[Spectrum]:
    while True:
        peptides = random_peptides(_AT_ONCE, rng, simulation)
        charges = rng.choice([2, 3], _AT_ONCE, p=[0.7, 0.3]).tolist()
        yield from simulate(peptides, charges, simulation, rng)
