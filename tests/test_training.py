"""Runs of a handful of steps on random peptides: what matters here is that they can be continued.

Peptides are short and networks tiny, so a run takes about a second.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import EVIDENCE, SHAPE, ladder, network
from pydantic import ValidationError
from safetensors.torch import load_file

from tinynovo import checkpoint, objectives, training
from tinynovo.checkpoint import Frozen
from tinynovo.drafting import DraftOptions
from tinynovo.errors import InputError
from tinynovo.labelled import write_labelled
from tinynovo.layers import ModelOptions
from tinynovo.logbook import Logbook, LogOptions
from tinynovo.mixture import Ingredient, MixtureOptions
from tinynovo.objectives import StartOptions
from tinynovo.recursion import RecursionOptions
from tinynovo.rendering import SimulationOptions
from tinynovo.runs import read_run
from tinynovo.searching import BeamOptions
from tinynovo.stages import OptimizerOptions, TrainingOptions
from tinynovo.training import train

RANDOM = MixtureOptions(
    ingredients=[Ingredient(kind="random", limit=300)],
    simulation=SimulationOptions(min_length=5, max_length=7, noise_peaks=3, losses=0, isotopes=0),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One corpus, and one set of drafts, for all runs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scorer to draft with."""
    path = tmp_path_factory.mktemp("scorer") / "model.safetensors"
    frozen = Frozen(model=SHAPE, evidence=EVIDENCE)
    checkpoint.save(path, network(1).state_dict(), frozen)
    return path


Options = Callable[..., TrainingOptions]


@pytest.fixture(params=["scorer", "expectation", "loop", "rank", "whole"])
def options(request: pytest.FixtureRequest, cache: Path, scorer: Path, tmp_path: Path) -> Options:
    """Options of a run of seven steps that saves and logs every second one."""

    def made(**changed: object) -> TrainingOptions:
        values: dict[str, Any] = {
            "stage": request.param,
            "output": tmp_path / "run",
            "cache": cache,
            "scorer": scorer if request.param in ("loop", "rank") else None,
            "steps": 7,
            "batch_size": 4,
            "mixture": RANDOM,
            "evidence": EVIDENCE,
            "model": SHAPE,
            "recursion": RecursionOptions(latent_updates=1, supervision_steps=2),
            "drafts": DraftOptions(
                count=512, beam=BeamOptions(n_beams=1, candidates=2, max_slots=9)
            ),
            "workers": 1,
            "optimizer": OptimizerOptions(warmup=2),
            "save_every": 2,
            "log_every": 1,
            "device": "cpu",
        }
        return TrainingOptions(**{**values, **changed})

    return made


def lines(run: Path) -> list[dict[str, float]]:
    """What was logged, without the time it took."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


class Killed(BaseException):
    """Stands for a signal: nothing that the run may catch."""


def killed_at(
    step: int, monkeypatch: pytest.MonkeyPatch, options: TrainingOptions, *, resume: bool = False
) -> None:
    """Train, and be killed when so many steps are done."""
    true = training._Run._train_step

    def dying(self: Any, rows: Any) -> Any:
        if self.step == step:
            raise Killed
        return true(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_train_step", dying)
        with pytest.raises(Killed):
            train(options, resume=resume)


def test_a_run_leaves_weights_figures_and_its_options(options: Options):
    chosen = options()
    path = train(chosen, resume=False)
    assert path == chosen.output / "model.safetensors"
    loaded = checkpoint.load(path)
    notes = loaded.frozen.notes
    assert notes["stage"] == chosen.stage
    assert notes["steps"] == 7
    assert notes["history"] == [f"{chosen.stage}: 7 of 7 steps of 4 spectra, rate 0.001"]
    assert notes["training_data"] == ["random: random"]
    assert (loaded.frozen.model, loaded.frozen.evidence) == (SHAPE, EVIDENCE)
    assert loaded.frozen.recursion == chosen.recursion
    kept = TrainingOptions.model_validate_json((chosen.output / "options.json").read_text())
    assert kept == chosen
    figures = [row for row in lines(chosen.output) if "loss" in row]
    assert [row["step"] for row in figures] == list(range(1, 8))
    steps = {"step0_loss", "step1_flip_rate", "step1_sequence_accuracy"}
    scorer = {"forwards_loss", "backwards_token_accuracy"}
    wanted = {
        "scorer": scorer,
        "expectation": {"found"},
        "loop": {*steps, "halt_accuracy"},
        "rank": {"first"},
        "whole": {*steps, *scorer, "step0_halt_accuracy"},
    }[chosen.stage]
    assert wanted | {"loss", "rate", "gradient"} <= set(figures[0])
    assert all(math.isfinite(value) for row in figures for value in row.values())
    assert not list(chosen.output.rglob("*.part"))


def test_only_its_own_stage_is_trained(options: Options, scorer: Path):
    chosen = options()
    after = load_file(train(chosen, resume=False))
    if chosen.stage in ("loop", "rank"):
        before = load_file(scorer)
        moved = {n for n in after if not n.startswith("scorer.")}
        assert all(torch.equal(after[n], before[n]) for n in after if n.startswith("scorer."))
        assert any(not torch.equal(after[n], before[n]) for n in moved)
    else:
        torch.manual_seed(chosen.seed)
        before = training.Tinynovo(SHAPE, EVIDENCE).state_dict()
        changed = {n for n in after if not torch.equal(after[n], before[n])}
        own = {n.partition(".")[0] for n in changed}
        assert own == {chosen.stage} or (
            chosen.stage == "whole" and own > {"scorer", "expectation"}
        )


def test_a_run_that_was_killed_continues_to_the_same_result(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shape = SHAPE.model_copy(update={"dropout": 0.2})
    whole = options(output=tmp_path / "whole", model=shape)
    train(whole, resume=False)
    broken = options(output=tmp_path / "broken", model=shape)
    for number, step in enumerate((1, 4, 5)):
        killed_at(step, monkeypatch, broken, resume=number > 0)
    train(broken, resume=True)
    assert lines(broken.output) == lines(whole.output)
    for name in ("model", "state"):
        one, other = (load_file(o.output / f"{name}.safetensors") for o in (whole, broken))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name


def test_a_killed_run_has_lost_only_the_steps_since_it_last_saved(
    options: Options, monkeypatch: pytest.MonkeyPatch
):
    chosen = options()
    killed_at(5, monkeypatch, chosen)
    _, metadata = checkpoint.read(chosen.output / "state.safetensors", training.STATE)
    assert metadata["step"] == "4"
    assert checkpoint.load(chosen.output / "model.safetensors").frozen.notes["steps"] == 4
    assert [row["step"] for row in lines(chosen.output)] == [1, 2, 3, 4, 5]


def test_a_run_is_not_overwritten(options: Options):
    chosen = options()
    path = train(chosen, resume=False)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"already holds a run \(add --resume\)") as caught:
        train(chosen, resume=False)
    assert str(chosen.output) in str(caught.value)
    assert path.read_bytes() == before


def test_resuming_what_is_finished_changes_nothing(options: Options):
    chosen = options()
    path = train(chosen, resume=False)
    before = load_file(path)
    steps = [row["step"] for row in lines(chosen.output)]
    train(chosen, resume=True)
    after = load_file(path)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [row["step"] for row in lines(chosen.output)][: len(steps)] == steps


def test_resuming_nothing_begins(options: Options):
    assert train(options(), resume=True).is_file()


def test_a_run_cannot_be_continued_with_another_network(
    options: Options, monkeypatch: pytest.MonkeyPatch
):
    chosen = options()
    killed_at(3, monkeypatch, chosen)
    wider = {"model": SHAPE.model_copy(update={"width": 64, "expectation_width": 64})}
    if chosen.stage == "scorer":
        wider = {"evidence": EVIDENCE.model_copy(update={"hidden": 24})}
    with pytest.raises(InputError, match="another network") as caught:
        train(options(**wider), resume=True)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_stage_is_refused(options: Options, scorer: Path):
    chosen = options()
    train(chosen, resume=False)
    other = {"stage": "loop"} if chosen.stage == "scorer" else {"stage": "scorer"}
    with pytest.raises(InputError, match="another network"):
        train(options(**{"scorer": scorer, **other}), resume=True)


def test_a_damaged_state_is_refused(options: Options):
    chosen = options()
    chosen.output.mkdir()
    (chosen.output / "state.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        train(chosen, resume=True)


def test_scorer_and_loop_may_come_from_two_checkpoints(
    options: Options, scorer: Path, tmp_path: Path
):
    """One step at a rate of nearly zero moves nothing far."""
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, network(2).state_dict(), Frozen(model=SHAPE, evidence=EVIDENCE))
    still = OptimizerOptions(learning_rate=1e-12, weight_decay=0.0)
    path = train(options(scorer=scorer, loop=other, steps=1, optimizer=still), resume=False)
    after, first, second = load_file(path), load_file(scorer), load_file(other)
    for name, tensor in after.items():
        source = first if name.startswith("scorer.") else second
        assert torch.allclose(tensor, source[name], atol=1e-6), name


def test_the_history_of_the_weights_is_kept(options: Options, tmp_path: Path):
    chosen = options(steps=2)
    first = train(chosen, resume=False)
    more = {"scorer": first}
    if chosen.stage != "scorer":
        more[chosen.stage if chosen.stage == "expectation" else "loop"] = first
    again = train(
        options(**more, output=tmp_path / "again", cache=tmp_path / "cache"), resume=False
    )
    assert checkpoint.load_frozen(again).notes["history"] == [
        f"{chosen.stage}: 2 of 2 steps of 4 spectra, rate 0.001",
        f"{chosen.stage}: 7 of 7 steps of 4 spectra, rate 0.001",
    ]


def test_a_loop_of_another_shape_is_refused(options: Options, scorer: Path):
    with pytest.raises(InputError, match="another shape"):
        train(options(loop=scorer, model=ModelOptions()), resume=False)


def test_validation_goes_through_sequencing(options: Options, tmp_path: Path):
    file = tmp_path / "small.mgf"
    write_labelled(file, [ladder("GASPV", index=0), ladder("LNDEK", index=1)])
    chosen = options(validation=[file], validate_every=3, steps=4)
    train(chosen, resume=False)
    name = "small_nats" if chosen.stage == "expectation" else "small_peptide_recall"
    found = [row for row in lines(chosen.output) if name in row]
    assert [row["step"] for row in found] == [3, 4]
    if chosen.stage == "expectation":
        assert all(row["small_nats"] > 0 for row in found)
        return
    assert all(0 <= row["small_peptide_recall"] <= 1 for row in found)
    assert all(0 <= row["small_aa_precision"] <= 1 for row in found)


@pytest.mark.parametrize("options", ["loop", "whole"], indirect=True)
def test_an_expectation_from_a_checkpoint_stays_as_it_is(options: Options, scorer: Path):
    before, after = load_file(scorer), load_file(train(options(expectation=scorer), resume=False))
    own = [n for n in after if n.startswith("expectation.")]
    assert own
    assert all(torch.equal(after[n], before[n]) for n in own)


@pytest.mark.parametrize("options", ["rank"], indirect=True)
@pytest.mark.parametrize("given", [True, False])
def test_the_order_of_drafts_teaches_an_expectation_of_its_own(
    options: Options, scorer: Path, given: bool
):
    chosen = options(loop=scorer, expectation=scorer if given else None)
    before, after = load_file(scorer), load_file(train(chosen, resume=False))
    changed = {n.partition(".")[0] for n in after if not torch.equal(after[n], before[n])}
    assert changed == ({"ranker"} if given else {"ranker", "expectation"})
    assert ("nats" in lines(chosen.output)[0]) is not given


@pytest.mark.parametrize("options", ["expectation", "loop"], indirect=True)
def test_only_what_is_trained_forgets(options: Options, scorer: Path, tmp_path: Path):
    losses = []
    for dropout in (0.0, 0.5):
        shape = SHAPE.model_copy(update={"dropout": dropout, "encoder_blocks": 0})
        given = {"model": shape, "output": tmp_path / str(dropout), "steps": 1}
        chosen = options(**given, expectation=None if options().stage == "expectation" else scorer)
        train(chosen, resume=False)
        losses.append(lines(chosen.output)[0]["loss"])
    assert (losses[0] == losses[1]) == (options().stage == "loop")


@pytest.mark.parametrize("options", ["loop"], indirect=True)
def test_an_expectation_of_another_shape_is_refused(options: Options, scorer: Path):
    shape = SHAPE.model_copy(update={"expectation_blocks": 2})
    with pytest.raises(InputError, match="does not fit"):
        train(options(expectation=scorer, model=shape), resume=False)


@pytest.mark.parametrize("options", ["expectation"], indirect=True)
def test_what_expects_nothing_cannot_learn_to(options: Options):
    shape = SHAPE.model_copy(update={"expectation_blocks": 0})
    with pytest.raises(InputError, match=r"expects nothing \(set model.expectation_blocks"):
        train(options(model=shape), resume=False)


@pytest.mark.parametrize("options", ["loop"], indirect=True)
def test_half_precision_learns_much_the_same(options: Options, tmp_path: Path):
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        chosen = options(precision=precision, output=tmp_path / precision)
        train(chosen, resume=False)
        losses.append([row["loss"] for row in lines(chosen.output) if "loss" in row])
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("options", ["whole"], indirect=True)
def test_a_scorer_from_a_checkpoint_stays_as_it_is_beside_a_loop(options: Options, scorer: Path):
    before, after = load_file(scorer), load_file(train(options(scorer=scorer), resume=False))
    assert all(torch.equal(after[n], before[n]) for n in after if n.startswith("scorer."))


@pytest.mark.parametrize("options", ["whole"], indirect=True)
@pytest.mark.parametrize("evidence", ["flat", "off"])
def test_a_scorer_that_is_not_asked_is_not_trained(options: Options, evidence: str):
    shape = SHAPE.model_copy(update={"evidence": evidence})
    chosen = options(model=shape)
    after = load_file(train(chosen, resume=False))
    torch.manual_seed(chosen.seed)
    before = training.Tinynovo(shape, EVIDENCE).state_dict()
    same = {n for n in after if torch.equal(after[n], before[n])}
    assert {n for n in after if n.startswith("scorer.")} <= same
    assert set(after) - same


@pytest.mark.parametrize("options", ["whole"], indirect=True)
def test_the_loop_is_tried_on_peptides_that_were_held_out(options: Options):
    chosen = options(held_out=5, starts=StartOptions(slots=9))
    train(chosen, resume=False)
    run = read_run(chosen.output)
    (trial,) = run.trials
    assert len(trial.samples) == 5
    assert trial.trained_steps == 2
    assert len(trial.steps) == 16
    assert run.metrics[-1]["held_out_token_accuracy"] == pytest.approx(
        trial.steps[1]["token_accuracy"], abs=1e-6
    )


@pytest.mark.parametrize("options", ["whole"], indirect=True)
def test_too_few_slots_are_refused(options: Options):
    with pytest.raises(InputError, match=r"starts.slots = 4: a training peptide has \d tokens"):
        train(options(starts=StartOptions(slots=4)), resume=False)


@pytest.mark.parametrize("options", ["whole"], indirect=True)
def test_seeds_share_their_data(options: Options, tmp_path: Path):
    first = train(options(steps=1), resume=False)
    second = train(options(steps=1, seed=5, output=tmp_path / "other"), resume=False)
    one, other = load_file(first), load_file(second)
    assert not torch.equal(one["token.weight"], other["token.weight"])


@pytest.mark.parametrize("options", ["loop"], indirect=True)
def test_the_loop_is_tried_on_validation_files_from_drafts(options: Options, tmp_path: Path):
    file = tmp_path / "small.mgf"
    write_labelled(file, [ladder("GASPV", index=0), ladder("LNDEK", index=1)])
    chosen = options(validation=[file], steps=1)
    train(chosen, resume=False)
    (trial,) = read_run(chosen.output).trials
    assert (trial.name, trial.start) == ("small", "the best draft")
    assert sorted("".join(s.true) for s in trial.samples) == ["GASPV", "LNDEK"]


@pytest.mark.parametrize("options", ["loop"], indirect=True)
def test_the_loop_needs_a_scorer(options: Options, tmp_path: Path):
    with pytest.raises(InputError, match=r"needs a trained scorer \(set scorer\)"):
        train(options(scorer=None), resume=False)
    with pytest.raises(InputError, match="no such checkpoint"):
        train(options(scorer=tmp_path / "none.safetensors"), resume=False)


@pytest.mark.parametrize("options", ["loop"], indirect=True)
def test_drafts_are_kept_apart_by_scorer(options: Options, tmp_path: Path):
    chosen = options()
    train(chosen, resume=False)
    before = set(chosen.cache.glob("drafts-*"))
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, network(2).state_dict(), Frozen(model=SHAPE, evidence=EVIDENCE))
    train(options(scorer=other, output=tmp_path / "second"), resume=False)
    after = set(chosen.cache.glob("drafts-*"))
    assert before
    assert len(after - before) == 1
    train(options(output=tmp_path / "third"), resume=False)
    assert set(chosen.cache.glob("drafts-*")) == after


@pytest.mark.parametrize("options", ["scorer"], indirect=True)
def test_the_scorer_learns(options: Options):
    chosen = options(steps=70, batch_size=12, optimizer=OptimizerOptions(learning_rate=0.02))
    train(chosen, resume=False)
    loss = [row["loss"] for row in lines(chosen.output) if "loss" in row]
    assert sum(loss[-5:]) < 0.9 * sum(loss[:5])


@pytest.mark.parametrize("options", ["scorer"], indirect=True)
def test_a_loss_that_is_no_number_ends_the_run_and_is_not_saved(
    options: Options, monkeypatch: pytest.MonkeyPatch
):
    chosen = options()
    true = objectives.ScorerObjective.forward

    def broken(self: Any, batch: Any, target: Any) -> Any:
        loss, figures = true(self, batch, target)
        return (loss * math.nan if broken.calls == 4 else loss), figures  # type: ignore[attr-defined]

    def counting(self: Any, batch: Any, target: Any) -> Any:
        broken.calls += 1  # type: ignore[attr-defined]
        return broken(self, batch, target)

    broken.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(objectives.ScorerObjective, "forward", counting)
    with pytest.raises(InputError, match="the loss is nan at step 4"):
        train(chosen, resume=False)
    weights = load_file(chosen.output / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize("options", ["scorer"], indirect=True)
def test_the_rate_warms_up_and_falls_as_a_cosine(options: Options):
    optimizer = OptimizerOptions(learning_rate=0.01, final=0.1, warmup=3)
    chosen = options(steps=10, optimizer=optimizer)
    train(chosen, resume=False)
    rates = [row["rate"] for row in lines(chosen.output) if "rate" in row]

    def by_hand(step: int) -> float:
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 10))
        return 0.01 * cosine * min(1, (step + 1) / 4)

    assert rates == pytest.approx([by_hand(step) for step in range(10)], abs=1e-6)


@pytest.mark.parametrize("options", ["scorer"], indirect=True)
def test_a_device_that_is_not_here_is_refused(options: Options):
    name = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(InputError, match=f"no {name} device here"):
        train(options(device=name), resume=False)


@pytest.mark.parametrize("options", ["scorer"], indirect=True)
@pytest.mark.parametrize(
    "wrong", [{"stage": "both"}, {"steps": 0}, {"precision": "16"}, {"epochs": 3}, {"mixture": {}}]
)
def test_options_that_mean_nothing_are_refused(options: Options, wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        options(**wrong)


def test_the_logbook_strikes_out_abandoned_steps_and_half_a_line(tmp_path: Path):
    book = Logbook(tmp_path, 0, LogOptions(), {})
    for step in (1, 2, 3):
        book.write(step, {"loss": 1 / step})
    book.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    book = Logbook(tmp_path, 2, LogOptions(), {})
    book.write(3, {"loss": 0.25})
    book.close()
    assert lines(tmp_path) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 0.25},
    ]
    Logbook(tmp_path, 0, LogOptions(), {}).close()
    assert lines(tmp_path) == []


def shared(options: TrainingOptions, folder: Path) -> subprocess.CompletedProcess[str]:
    """A run that two processes share."""
    config = folder / "shared.yaml"
    config.write_text(options.model_dump_json(), "utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    train = ["-m", "tinynovo", "train", "-c", str(config)]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *train]
    return subprocess.run(command, capture_output=True, text=True, env=here, check=False)


@pytest.mark.parametrize("options", ["scorer", "loop"], indirect=True)
def test_two_processes_learn_what_one_does_from_the_same_batches(options: Options, tmp_path: Path):
    """Each takes half of a batch: the losses of every step, and the weights, are the same."""
    alone, together = options(output=tmp_path / "alone"), options(output=tmp_path / "together")
    train(alone, resume=False)
    done = shared(together, tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = ([r["loss"] for r in lines(o.output) if "loss" in r] for o in (alone, together))
    assert len(one) == 7
    assert two == pytest.approx(one, rel=1e-3)
    first, second = (load_file(o.output / "model.safetensors") for o in (alone, together))
    parted = sum(float((first[name] - second[name]).square().sum()) for name in first)
    assert parted < 1e-6 * sum(float(values.square().sum()) for values in first.values())


def test_processes_that_cannot_share_a_batch_say_so(
    options: Options, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="batch of 5 cannot be shared by 2 processes"):
        train(options(batch_size=5), resume=False)
