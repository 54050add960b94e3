from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import EVIDENCE, SHAPE, batch_of, loaded, network
from safetensors import safe_open
from safetensors.torch import save_file

from tinynovo import __version__, checkpoint
from tinynovo.calibration import PEPTIDE_FACTS, RESIDUE_FACTS, Calibration, Logistic
from tinynovo.checkpoint import FORMAT, Checkpoint, Frozen, fingerprint
from tinynovo.errors import InputError
from tinynovo.evidence import EvidenceOptions
from tinynovo.layers import ModelOptions
from tinynovo.options import SequencingOptions
from tinynovo.recursion import RecursionOptions
from tinynovo.sequencing import Sequencer
from tinynovo.spectrum import Preprocessing
from tinynovo.tokens import TOKENS


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    one = loaded()
    checkpoint.save(path, one.model.state_dict(), one.frozen)
    return path


def complaint(path: Path, load: Any = checkpoint.load) -> str:
    """The one line that loading ends with; it names the file."""
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def rewritten(path: Path, **changed: object) -> Path:
    """The file with other values in its frozen part."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    frozen = json.loads(metadata["frozen"]) | changed
    save_file(tensors, path, metadata | {"frozen": json.dumps(frozen)})
    return path


def test_a_model_and_all_that_is_frozen_come_back(tmp_path: Path):
    path = tmp_path / "deep" / "er" / "model.safetensors"
    frozen = Frozen(
        preprocessing=Preprocessing(max_peaks=77, min_mz=60.5),
        evidence=EVIDENCE,
        model=SHAPE,
        recursion=RecursionOptions(cycles=3, halt_probability=0.9),
        notes={"steps": 12, "recall": 0.5, "stage": "loop", "training_data": ["a", "b"]},
    )
    model = network(5)
    checkpoint.save(path, model.state_dict(), frozen)
    back = checkpoint.load(path)
    assert back.frozen == frozen
    assert back.frozen.code_version == __version__
    assert back.frozen.residues["M[Oxidation]"] == 147_035_400
    assert list(back.frozen.residues) == list(TOKENS)
    assert not back.model.training
    here, there = model.state_dict(), back.model.state_dict()
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    batch = batch_of("GASPVTK")
    answer = torch.ones(1, 8, dtype=torch.int64)
    x = [m.evidence(answer, m.remember(batch)).x for m in (model, back.model)]
    assert torch.equal(*x)
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_the_scorer_comes_back_whatever_the_rest_is_like(saved: Path):
    with safe_open(saved, "pt") as file:
        tensors = {n: file.get_tensor(n) for n in file.keys() if n.startswith("scorer.")}  # noqa: SIM118
    save_file(tensors, saved, metadata_of(saved))
    scorer = checkpoint.load_scorer(saved)
    own = loaded().model.scorer.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in scorer.state_dict().items())
    assert not scorer.training
    assert "does not fit" in complaint(saved)


def flat(intercept: float) -> Calibration:
    """Every fact says as much."""
    peptide, residue = (
        Logistic(intercept=intercept, weights=dict.fromkeys(facts, 1.0))
        for facts in (PEPTIDE_FACTS, RESIDUE_FACTS)
    )
    return Calibration(peptide=peptide, residue=residue)


def test_settings_tell_checkpoints_apart_though_only_calibrations_differ(saved: Path):
    weights = Sequencer.load(saved, SequencingOptions(), "cpu").settings["weights"]
    assert weights == hashlib.sha256(saved.read_bytes()).hexdigest()[:12]
    other = saved.with_name("other.safetensors")
    checkpoint.calibrated(saved, other, {"full": flat(0.5)})
    assert fingerprint(other) == fingerprint(saved)
    assert Sequencer.load(other, SequencingOptions(), "cpu").settings["weights"] != weights


def test_a_calibration_joins_those_of_other_strategies(saved: Path):
    other = saved.with_name("calibrated.safetensors")
    checkpoint.calibrated(saved, other, {"full": flat(0.0)})
    checkpoint.calibrated(other, other, {"full": flat(1.0), "draft": flat(2.0)})
    found, before = checkpoint.load(other), checkpoint.load(saved)
    assert found.frozen.calibration == {"full": flat(1.0), "draft": flat(2.0)}
    assert before.frozen.calibration == {}
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)


def test_a_calibration_of_other_facts_does_not_fit(saved: Path):
    few = Logistic(intercept=0.0, weights={"certainty": 1.0})
    older = Calibration.model_construct(peptide=few, residue=few)
    checkpoint.calibrated(saved, saved, {"full": older})
    with pytest.raises(InputError, match="does not fit") as caught:
        checkpoint.load(saved)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path):
    for load in (checkpoint.load, checkpoint.load_scorer):
        assert "no such checkpoint" in complaint(tmp_path / "none.safetensors", load)
    assert "no such checkpoint" in complaint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"BEGIN IONS\n", b"\xff" * 4096])
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes):
    path = tmp_path / "garbage.safetensors"
    path.write_bytes(content)
    assert "not a readable checkpoint" in complaint(path)


def test_a_checkpoint_that_is_cut_off(saved: Path):
    saved.write_bytes(saved.read_bytes()[:-100])
    assert "not a readable checkpoint" in complaint(saved)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_refused_and_never_unpickled(tmp_path: Path, kind: str):
    path, proof = tmp_path / "model.safetensors", tmp_path / "exploded"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(proof)))
    else:
        torch.save({"bomb": Bomb(proof)}, path)
    assert "not a readable checkpoint" in complaint(path)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Bomb(proof)))
    assert proof.exists(), "the bomb must be live, or this proves nothing"


def test_a_file_of_another_format(saved: Path):
    tensors = {"weight": torch.ones(2)}
    save_file(tensors, saved, {"format": "other-9"})
    assert re.search(rf"not a {FORMAT} file \(other-9\)", complaint(saved))
    save_file(tensors, saved)
    assert "no format" in complaint(saved)


def test_another_residue_table(saved: Path):
    residues = json.loads(metadata_of(saved)["frozen"])["residues"]
    path = rewritten(saved, residues={**residues, "G": residues["G"] + 1})
    assert "another residue table" in complaint(path)
    assert "another residue table" in complaint(path, checkpoint.load_scorer)


def test_the_same_residues_in_another_order_are_another_table(saved: Path):
    residues = json.loads(metadata_of(saved)["frozen"])["residues"]
    path = rewritten(saved, residues=dict(reversed(residues.items())))
    assert "another residue table" in complaint(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {"width": 64}},
        {"model": {"colour": "green"}},
        {"evidence": {"hidden": 32, "embedding": 4}},
        {"unknown": 1},
    ],
)
def test_what_does_not_fit_this_version(saved: Path, changed: dict[str, object]):
    assert "does not fit this version" in complaint(rewritten(saved, **changed))


def test_metadata_that_cannot_be_read(saved: Path):
    with safe_open(saved, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for metadata in ({"format": FORMAT}, {"format": FORMAT, "frozen": "{"}):
        save_file(tensors, saved, metadata)
        assert "does not fit this version" in complaint(saved)


def test_a_blind_checkpoint_is_refused(saved: Path):
    shape = {**SHAPE.model_dump(), "shortest_wavelength": 2000.0}
    with pytest.raises(InputError, match="cannot see"):
        checkpoint.load(rewritten(saved, model=shape))


def test_a_write_that_fails_leaves_the_old_file(saved: Path):
    before = saved.read_bytes()
    (saved.parent / f"{saved.name}.part").mkdir()
    one = loaded(1)
    with pytest.raises(InputError, match="cannot write") as caught:
        checkpoint.save(saved, one.model.state_dict(), one.frozen)
    assert "\n" not in str(caught.value)
    assert saved.read_bytes() == before


def test_a_write_that_is_interrupted_leaves_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch
):
    before = saved.read_bytes()

    def half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half)
    one = loaded(1)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, one.model.state_dict(), one.frozen)
    assert saved.read_bytes() == before
    monkeypatch.undo()
    checkpoint.save(saved, one.model.state_dict(), one.frozen)
    assert torch.equal(checkpoint.load(saved).model.scratch, one.model.scratch)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_place_that_cannot_be_written(saved: Path):
    one = loaded()
    with pytest.raises(InputError, match="cannot write"):
        checkpoint.save(saved / "below" / "a.safetensors", one.model.state_dict(), one.frozen)


def test_views_can_be_saved(tmp_path: Path):
    path = tmp_path / "views.safetensors"
    whole = torch.arange(12.0).view(3, 4)
    checkpoint.write_atomically(path, {"turned": whole.T}, {"format": "x"})
    tensors, metadata = checkpoint.read(path, "x")
    assert torch.equal(tensors["turned"], whole.T)
    assert metadata == {"format": "x"}


def test_the_packaged_weights_are_in_the_package():
    place = checkpoint.default_path()
    assert place.parts[-3:] == ("tinynovo", "weights", "default.safetensors")


def test_defaults_agree():
    frozen = Frozen()
    assert (frozen.model, frozen.evidence) == (ModelOptions(), EvidenceOptions())
    assert isinstance(loaded(), Checkpoint)


def test_the_fingerprint_is_that_of_the_tensors_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    tensors = {"weight": torch.arange(4.0)}
    save_file(tensors, first, {"said": "one"})
    save_file(tensors, second, {"said": "something else"})
    assert fingerprint(first) == fingerprint(second)
    save_file({"weight": torch.arange(1.0, 5.0)}, second, {"said": "one"})
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(first) == hashlib.sha256(torch.arange(4.0).numpy().tobytes()).hexdigest()
