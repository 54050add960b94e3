from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tinynovo.config import dump, load
from tinynovo.errors import InputError


class Corpus(BaseModel):
    path: str = Field("x.mgf", description="where the spectra are")
    weight: float = Field(1.0, gt=0)


class Peaks(BaseModel):
    max_peaks: int = Field(150, ge=1, le=9000, description="the most intense ones")
    mirrored: bool = False


class Options(BaseModel):
    rate: float = Field(1e-3, gt=0, description="learning rate")
    loss: Literal["uniform", "linear"] = "uniform"
    peaks: Peaks = Field(Peaks(), description="what is done to a spectrum")
    corpora: list[Corpus] = [Corpus(), Corpus(path="y.mgf", weight=2.5)]
    masks: dict[str, float] = {"a": 1e-9}
    note: str | None = None


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "options.yaml"
    path.write_text(text, "utf-8")
    return path


def complaint(path: Path | None, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load(Options, path, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_defaults_and_an_empty_file(tmp_path: Path) -> None:
    assert load(Options) == Options()
    assert load(Options, written(tmp_path, "# nothing but a comment\n")) == Options()


def test_file_then_overrides_and_the_last_one_wins(tmp_path: Path) -> None:
    path = written(tmp_path, "rate: 5e-4\npeaks:\n  max_peaks: 100\n")
    options = load(Options, path, ["peaks.max_peaks=7", "peaks.mirrored=true", "rate=1", "rate=2"])
    assert options.peaks == Peaks(max_peaks=7, mirrored=True)
    assert options.rate == 2.0
    assert load(Options, path).rate == 0.0005


def test_overrides_reach_into_lists(tmp_path: Path) -> None:
    path = written(tmp_path, "corpora: [{path: a}, {path: b}]")
    options = load(Options, path, ["corpora.1.weight=4"])
    assert options.corpora == [Corpus(path="a"), Corpus(path="b", weight=4)]


def test_unknown_key_names_file_place_and_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "peaks: {max_peeks: 3}")
    assert complaint(path) == f"{path}: unknown key 'peaks.max_peeks' (did you mean 'max_peaks'?)"
    assert complaint(None, "lose=linear") == (
        "--set lose=linear: unknown key 'lose' (did you mean 'loss'?)"
    )
    path = written(tmp_path, "corpora: [{path: a, wieght: 3}]")
    assert "'corpora.0.wieght' (did you mean 'weight'?)" in complaint(path)


def test_unknown_key_without_a_near_one_lists_the_known() -> None:
    assert complaint(None, "peaks.xyz=1").endswith("(known here: max_peaks, mirrored)")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("peaks.max_peaks=many", "peaks.max_peaks = 'many'"),
        ("peaks.max_peaks=0", "greater than or equal to 1"),
        ("loss=cubic", "'uniform' or 'linear'"),
        ("rate=.nan", "rate = nan"),
        ("rate", "no key=value"),
        ("=1", "no key=value"),
        ("peaks..x=1", "no key=value"),
        ("rate=[1", "no YAML"),
        ("masks={a: 1, a: 2}", "'a' stands twice"),
        ("peaks=3", "valid dictionary"),
    ],
)
def test_an_override_that_does_not_fit(override: str, part: str) -> None:
    line = complaint(None, override)
    assert line.startswith(f"--set {override}: ")
    assert part in line


def test_an_override_into_what_is_no_section(tmp_path: Path) -> None:
    path = written(tmp_path, "rate: 1\ncorpora: [{path: a}]")
    assert "there is no 'x'" in complaint(path, "rate.x=1")
    assert "there is no '1'" in complaint(path, "corpora.1.path=b")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rate: 1\nrate: 2", "line 2: the key 'rate' stands twice"),
        ("peaks:\n  mirrored: yes\n  mirrored: no", "line 3: the key 'mirrored' stands twice"),
        ("- 1", "holds no keys and values"),
        ("BEGIN IONS\nTITLE=x\nEND IONS", "holds no keys and values"),
        ("rate: [", "no valid YAML: line 1"),
        ("note: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("note: 2001-99-99", "month must be in 1..12"),
        ("? [a]\n: 1", "unhashable key"),
        ("\x00", "special characters"),
        ("note: " + "[" * 5000, "nested too deeply"),
        ("1: 2", "keys should be strings"),
        ("rate: 0\nloss: 1", "and 1 more"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, part: str) -> None:
    path = written(tmp_path, text)
    line = complaint(path)
    assert line.startswith(f"{path}: ")
    assert part in line


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert (
        complaint(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: No such file or directory"
    )
    binary = tmp_path / "model.safetensors"
    binary.write_bytes(b"\xff\xfe\x00\x9c")
    assert "no text in UTF-8" in complaint(binary)


def test_a_missing_key(tmp_path: Path) -> None:
    class Needs(BaseModel):
        path: str

    with pytest.raises(InputError, match="'path' is missing"):
        load(Needs)


def test_dump_is_a_manual() -> None:
    lines = dump(Options()).splitlines()
    assert lines[:2] == ["# learning rate; > 0", "rate: 0.001"]
    assert lines[2:4] == ["# one of uniform, linear", "loss: uniform"]
    assert lines[4:8] == [
        "# what is done to a spectrum",
        "peaks:",
        "  # the most intense ones; >= 1, <= 9000",
        "  max_peaks: 150",
    ]


@given(
    st.builds(
        Options,
        rate=st.floats(1e-300, 1e300),
        peaks=st.builds(Peaks, max_peaks=st.integers(1, 9000), mirrored=st.booleans()),
        corpora=st.lists(st.builds(Corpus, path=st.text(max_size=8)), max_size=3),
        masks=st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False), max_size=3),
        note=st.none()
        | st.text()
        | st.sampled_from(["1e-3", "yes", "~", "2001-01-01", "a: b # c", "a\nb", "\n"]),
    )
)
def test_what_is_dumped_loads_again(options: Options) -> None:
    text = dump(options)
    assert isinstance(yaml.safe_load(text), dict)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_: text)
        assert load(Options, Path("options.yaml")) == options
