from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import KEEP_ALL, ladder
from pydantic import ValidationError

from tinynovo import mixture
from tinynovo.corpus import Corpus
from tinynovo.errors import InputError
from tinynovo.labelled import write_labelled
from tinynovo.mixture import (
    Ingredient,
    Mixture,
    MixtureOptions,
    excluded_sequences,
    held_out,
    mix,
)
from tinynovo.rendering import SimulationOptions

SHORT = SimulationOptions(min_length=5, max_length=8, noise_peaks=3)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.mgf"
    write_labelled(
        path, [ladder(p, index=i) for i, p in enumerate(("GASPVTK", "SAMPLER", "LNDEK"))]
    )
    return path


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    path = tmp_path / "tagged.mgf"
    write_labelled(path, [ladder("[TMT6plex]-GASPVTK[TMT6plex]")])
    return path


def sequences(mixture: Mixture) -> list[str]:
    corpus = mixture.corpus
    return [corpus.peptide(row).proforma for row in range(len(corpus))]


def random_options(limit: int = 20, **fields: object) -> MixtureOptions:
    return MixtureOptions(
        ingredients=[Ingredient(kind="random", limit=limit)], simulation=SHORT, **fields
    )


def test_files_become_one_corpus(plain: Path, tagged: Path, tmp_path: Path):
    options = MixtureOptions(
        ingredients=[
            Ingredient(path=plain, limit=2),
            Ingredient(kind="untagged", path=tagged),
            Ingredient(path=tagged),
            Ingredient(kind="random", limit=5),
        ],
        simulation=SHORT,
    )
    mixture = mix(options, KEEP_ALL, tmp_path / "cache", seed=3)
    known = ["GASPVTK", "SAMPLER", "GASPVTK", "[TMT6plex]-GASPVTK[TMT6plex]"]
    assert sequences(mixture)[:4] == known
    assert len(mixture.corpus) == 9
    assert all(5 <= len(mixture.corpus.peptide(row)) <= 8 for row in range(4, 9))


def test_weights_are_shares_of_the_draws(plain: Path, tagged: Path, tmp_path: Path):
    options = MixtureOptions(
        ingredients=[Ingredient(path=plain, weight=3.0), Ingredient(path=tagged, weight=1.0)]
    )
    mixture = mix(options, KEEP_ALL, tmp_path / "cache", seed=0)
    rows = mixture.draw(20_000, np.random.default_rng(0))
    counts = np.bincount(rows, minlength=4) / rows.size
    assert counts == pytest.approx([0.25] * 4, abs=0.02)
    only = Mixture(mixture.corpus, np.cumsum([0.0, 0.0, 2.0, 0.0]))
    assert set(only.draw(50, np.random.default_rng(0)).tolist()) == {2}


def test_a_validation_peptide_is_never_in_the_corpus(plain: Path, tagged: Path, tmp_path: Path):
    assert excluded_sequences([plain, tagged]) == {"GASPVTK", "SAMPLER", "LNDEK"}
    validation = tmp_path / "validation.mgf"
    write_labelled(validation, [ladder("[Acetyl]-GASPVTK")])
    ingredients = [Ingredient(path=plain), Ingredient(kind="untagged", path=tagged)]
    options = MixtureOptions(ingredients=ingredients[:1], exclude=[validation])
    assert sequences(mix(options, KEEP_ALL, tmp_path / "a", seed=0)) == ["SAMPLER", "LNDEK"]
    options = MixtureOptions(ingredients=ingredients, exclude=[validation])
    with pytest.raises(InputError, match="no usable labelled spectrum"):
        mix(options, KEEP_ALL, tmp_path / "b", seed=0)


def test_random_peptides_that_validate_are_left_out_too(tmp_path: Path):
    everything = mix(random_options(), KEEP_ALL, tmp_path / "a", seed=1)
    first = everything.corpus.peptide(0)
    validation = tmp_path / "validation.mgf"
    write_labelled(validation, [ladder(first.proforma)])
    rest = mix(random_options(exclude=[validation]), KEEP_ALL, tmp_path / "b", seed=1)
    assert first.proforma in sequences(everything)
    assert sequences(rest) == [s for s in sequences(everything) if s != first.proforma]


def test_the_seed_decides(tmp_path: Path):
    one, two, other = (
        mix(random_options(), KEEP_ALL, tmp_path / name, seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert np.array_equal(one.corpus.mz, two.corpus.mz)
    assert sequences(one) == sequences(two) != sequences(other)


def test_the_cache_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = tmp_path / "cache"
    first = mix(random_options(), KEEP_ALL, cache, seed=1)

    def never(*_: object, **__: object) -> Corpus:
        raise AssertionError("packed again")

    monkeypatch.setattr(Corpus, "pack", never)
    again = mix(random_options(), KEEP_ALL, cache, seed=1)
    assert np.array_equal(first.corpus.mz, again.corpus.mz)
    assert np.array_equal(first.cumulative, again.cumulative)


def test_a_cache_made_with_other_options_is_refused(tmp_path: Path):
    cache = tmp_path / "cache"
    mix(random_options(20), KEEP_ALL, cache, seed=1)
    for options, preprocessing, seed, other in (
        (random_options(19), KEEP_ALL, 1, "mixture"),
        (random_options(20), KEEP_ALL.model_copy(update={"max_peaks": 9}), 1, "preprocessing"),
        (random_options(20), KEEP_ALL, 2, "seed"),
    ):
        with pytest.raises(InputError, match=f"made with another {other}") as caught:
            mix(options, preprocessing, cache, seed)
        assert "\n" not in str(caught.value)
        assert str(cache) in str(caught.value)


def test_the_weights_alone_may_change(plain: Path, tmp_path: Path):
    for weight in (1.0, 2.0):
        options = MixtureOptions(ingredients=[Ingredient(path=plain, weight=weight)])
        assert len(mix(options, KEEP_ALL, tmp_path / "cache", seed=1).corpus) == 3


def test_an_interrupted_packing_leaves_no_corpus(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = MixtureOptions(ingredients=[Ingredient(path=plain)])

    def half(self: Corpus, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Corpus, "save", half)
        with pytest.raises(KeyboardInterrupt):
            mix(options, KEEP_ALL, tmp_path / "cache", seed=1)
    assert len(mix(options, KEEP_ALL, tmp_path / "cache", seed=1).corpus) == 3


def test_a_place_that_is_no_directory_is_no_cache(plain: Path):
    options = MixtureOptions(ingredients=[Ingredient(path=plain)])
    with pytest.raises(InputError, match="cannot be used as a cache"):
        mix(options, KEEP_ALL, plain / "below", seed=1)


def test_a_missing_file_is_named(tmp_path: Path):
    options = MixtureOptions(ingredients=[Ingredient(path=tmp_path / "none.mgf")])
    with pytest.raises(InputError, match=r"none\.mgf"):
        mix(options, KEEP_ALL, tmp_path / "cache", seed=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "random"},
        {"kind": "random", "limit": 5, "path": "a.mgf"},
        {"kind": "spectra"},
        {"kind": "ions"},
        {"path": "a.mgf", "weight": 0},
        {"path": "a.mgf", "limit": 0},
        {"path": "a.mgf", "wait": 1},
    ],
)
def test_ingredients_that_mean_nothing_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        Ingredient(**wrong)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValidationError):
        MixtureOptions(ingredients=[])


def test_processes_build_what_one_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mixture, "_PART", 3)
    ions = {"series": [0, 1], "ordinal": [1, 2], "ion_charge": [1, 1], "loss": [0, 0]}
    peptides = [f"GASPVT{last}{first}K" for last in "LNDEQ" for first in "AVF"]
    rows = [
        {"proforma": p, "precursor_charge": 2, **ions, "intensity": [99, 255]} for p in peptides
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ions.parquet")
    options = MixtureOptions(
        ingredients=[
            Ingredient(kind="ions", path=tmp_path / "ions.parquet", limit=12),
            Ingredient(kind="random", limit=5),
        ],
        simulation=SHORT,
    )
    told: list[str] = []
    alone = mix(options, KEEP_ALL, tmp_path / "a", seed=1, tell=told.append)
    assert [line.split(",")[0] for line in told] == [
        "ions.parquet (ions): 12 spectra",
        "random peptides (random): 5 spectra",
    ]
    shared = mix(options, KEEP_ALL, tmp_path / "b", seed=1, workers=2)
    assert len(set(sequences(alone)[:12])) == 12
    for name, values in vars(alone.corpus).items():
        np.testing.assert_array_equal(values, getattr(shared.corpus, name))


def test_held_out_peptides_are_not_among_those_trained_on(tmp_path: Path):
    """Of peptides of two residues there are so few that most are known."""
    few = SimulationOptions(min_length=2, max_length=2, noise_peaks=3, tryptic=0)
    options = MixtureOptions(ingredients=[Ingredient(kind="random", limit=200)], simulation=few)
    corpus = mix(options, KEEP_ALL, tmp_path / "cache", seed=4).corpus
    known = {corpus.peptide(row).sequence for row in range(len(corpus))}
    unseen = held_out(options, KEEP_ALL, corpus, 60, seed=4)
    found = [unseen.peptide(row).sequence for row in range(len(unseen))]
    assert 50 < len(found) <= 60  # some have no peak left
    assert not known & set(found)
    again = held_out(options, KEEP_ALL, corpus, 60, seed=4)
    assert [again.peptide(row).sequence for row in range(len(again))] == found
