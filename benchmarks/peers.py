"""Architectures of the field, trained from nothing on the corpus that tinynovo is trained on.

The weights of other tools are no part of this: what is compared is what an architecture learns from
the same spectra in the same processor time on one core. Each tool has its own environment:

    python -m venv casanovo  && casanovo/bin/pip install casanovo==5.2.1 'pyarrow<19'
    python -m venv instanovo && instanovo/bin/pip install instanovo==1.2.2 'datasets<4'

Run ``python benchmarks/peers.py --environments FOLDER`` (hours; what is finished is kept in
``runs/peers``). Writes ``results/peers.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import DATA, FILES, HERE, RESULTS, Labelled, rounded

from tinynovo import config
from tinynovo.comparing import evaluate_files
from tinynovo.evaluation import DEFINITIONS
from tinynovo.masses import MICRO, PROTON, residue_table
from tinynovo.mixture import mix
from tinynovo.stages import TrainingOptions

ROOT = HERE.parent
WORK = ROOT / "runs" / "peers"
UNIMOD = {row.modification: row.unimod for row in residue_table().values() if row.modification}
SMALL = {"dim_model": 128, "n_head": 4, "dim_feedforward": 256, "dropout": 0.0}
"""A shape of about a million parameters: the tools' own, of 48 million, take ninety steps of
32 spectra in the time."""


def export(count: int) -> None:
    """Training and validation spectra as labelled MGF, ProForma and with UNIMOD accessions."""
    if (WORK / "train.mgf").exists():
        return
    options = config.load(TrainingOptions, ROOT / "configs" / "scorer.yaml")
    mixture = mix(options.mixture, options.preprocessing, ROOT / options.cache, options.data_seed)
    corpus = mixture.corpus

    def drawn() -> Iterator[str]:
        for number, row in enumerate(mixture.draw(count, np.random.default_rng(0))):
            first, last = corpus.peaks[row], corpus.peaks[row + 1]
            charge = int(corpus.charge[row])
            yield block(
                number,
                corpus.mz[first:last] / MICRO,
                corpus.intensity[first:last].astype(np.float64) ** 2,
                corpus.mass[row] / MICRO / charge + PROTON,
                charge,
                corpus.peptide(row).proforma,
            )

    def valid(name: str) -> Iterator[str]:
        labelled = Labelled(DATA / name, None)
        for number, (s, peptide) in enumerate(
            zip(labelled.spectra, labelled.peptides, strict=True)
        ):
            assert s.precursor_mz is not None
            assert s.precursor_charge is not None
            precursor = (s.precursor_mz, s.precursor_charge)
            yield block(number, s.mz, s.intensity, *precursor, peptide.proforma)

    blocks = {Path(name).stem: list(valid(name)) for name in FILES}
    few = [text for texts in blocks.values() for text in texts[:: max(1, len(texts) // 48)][:48]]
    for name, texts in (*blocks.items(), ("few", few), ("train", drawn())):
        written(name, texts)


def block(number: int, mz: Any, intensity: Any, precursor: float, charge: int, label: str) -> str:
    """One spectrum of an MGF file."""
    head = f"TITLE=index={number}\nPEPMASS={precursor:.6f}\nCHARGE={charge}+\nSEQ={label}\n"
    peaks = "".join(f"{m:.5f} {i:.6f}\n" for m, i in zip(mz, intensity, strict=True))
    return f"BEGIN IONS\n{head}{peaks}END IONS\n\n"


def accessions(text: str) -> str:
    """ProForma names as accessions, without the dash of the N-terminus, as InstaNovo writes."""
    return re.sub(r"\[(\w+)\]-?", lambda m: f"[UNIMOD:{UNIMOD[m[1]]}]", text)


def written(name: str, texts: Iterable[str]) -> None:
    """An MGF file in both spellings."""
    with (WORK / f"{name}.part").open("w") as one, (WORK / f"{name}-unimod.mgf").open("w") as two:
        for text in texts:
            one.write(text)
            two.write(re.sub(r"(?<=SEQ=).*", lambda m: accessions(m[0]), text))
    os.replace(WORK / f"{name}.part", WORK / f"{name}.mgf")


@dataclass(frozen=True)
class Tool:
    """A network to train: how it is configured, trained for some seconds of processor time, asked.

    Attributes
    ----------
    name : str
    rate : float
        Of learning.
    """

    name: str
    rate: float

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return WORK / self.name


TOOLS = (Tool("casanovo", 1e-3), Tool("instanovo", 1e-3), Tool("tinynovo", 2e-3))
WARMUP, VALIDATED = 100, 500
"""Steps of warming up, and between validations, after which weights are kept."""


STEPS = 1500
"""Of tinynovo's scorer, whose rate falls to nothing at the last: ten minutes; others have more."""


def residues(spelled: Any) -> dict[str, float]:
    """Residue masses, Da, N-terminal modifications as spelled last; I as L."""
    table = {spelled(name): row.total / MICRO for name, row in residue_table().items()}
    return table | {"I": table["L"]}


def casanovo(tool: Tool, environment: Path) -> tuple[list[str], list[str]]:
    """Commands that train and that predict, without the file to predict."""
    own = next(environment.glob("lib/python*/site-packages/casanovo/config.yaml"))
    options = yaml.safe_load(own.read_text()) | {
        "accelerator": "cpu",
        "devices": 1,
        "warmup_iters": WARMUP,
        "cosine_schedule_period_iters": 100_000,
        "learning_rate": tool.rate,
        "train_batch_size": 32,
        "predict_batch_size": 64,
        "val_check_interval": VALIDATED,
        "max_epochs": 1000,
        "shuffle_buffer_size": 1000,
        "precursor_mass_tol": 20,
        "residues": residues(str),
    }
    options |= SMALL | {"n_layers": 3}
    configured = tool.folder / "config.yaml"
    configured.write_text(yaml.safe_dump(options, sort_keys=False))
    program, shared = str(environment / "bin" / "casanovo"), ["-c", str(configured), "-f"]
    train = [program, "train", str(WORK / "train.mgf"), "-p", str(WORK / "few.mgf"), *shared]
    kept = ["-d", str(tool.folder), "-o", "trained"]
    weights = str(tool.folder / "trained.best.ckpt")
    ask = [program, "sequence", "-m", weights, *shared, "-d", str(tool.folder), "-o", "answers"]
    return [*train, *kept], ask


PLAIN = """
import builtins, collections, json, omegaconf, sys, torch, typing
base, safe = omegaconf.base, [omegaconf.DictConfig, omegaconf.ListConfig, omegaconf.AnyNode]
safe += [base.Metadata, base.ContainerMetadata, collections.defaultdict, typing.Any]
safe += [builtins.dict, builtins.list, builtins.int, builtins.float, builtins.str, builtins.bool]
with torch.serialization.safe_globals(safe):
    kept = torch.load(sys.argv[1], weights_only=True)
told = {n: json.loads(json.dumps(dict(kept[n]), default=dict)) for n in ("config", "residues")}
torch.save({"state_dict": kept["state_dict"], **told}, sys.argv[2])
"""
"""InstaNovo refuses to read the checkpoints that its own training wrote; this makes one plain.

Nothing is unpickled but tensors and the few classes that its configuration consists of.
"""


def instanovo(tool: Tool, environment: Path) -> tuple[list[str], list[str]]:
    """Commands that train and that predict, without the file to predict."""
    own = next(environment.glob("lib/python*/site-packages/instanovo/configs"))
    named = residues(lambda name: accessions(name) if "Ammonia" not in name else "")
    named.pop("", None)
    shape = {**SMALL, "encoder_layers": 3, "decoder_layers": 3}
    parts = {
        "residues": {"residues": named, "residue_remapping": {}},
        "model": yaml.safe_load((own / "model" / "instanovo_base.yaml").read_text()) | shape,
        "dataset": yaml.safe_load((own / "dataset" / "default.yaml").read_text())
        | {
            "train_path": str(WORK / "train-unimod.mgf"),
            "valid_path": str(WORK / "few-unimod.mgf"),
            "lazy_loading": True,
            "blacklist": None,
        },
    }
    name = "peer"
    for part, values in parts.items():
        (own / part / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    options = yaml.safe_load((own / "instanovo.yaml").read_text()) | {
        "defaults": ["_self_", *({part: name} for part in parts)],
        "tb_summarywriter": str(tool.folder / "tensorboard"),
        "warmup_iters": WARMUP,
        "learning_rate": tool.rate,
        "train_batch_size": 32,
        "predict_batch_size": 32,
        "num_workers": 0,
        "compile_model": False,
        "force_cpu": True,
        "fp16": False,
        "force_fp32": True,
        "training_steps": 100_000,
        "validate_before_training": False,
        "console_logging_steps": 50,
        "use_neptune": False,
        "validation_interval": VALIDATED,
        "checkpoint_interval": VALIDATED,
        "save_accelerator_state": False,
        "model_save_folder_path": str(tool.folder),
    }
    (own / f"{name}.yaml").write_text(yaml.safe_dump(options, sort_keys=False))
    program = [str(environment / "bin" / "instanovo"), "transformer"]
    weights = str(tool.folder / "plain.ckpt")
    ask = [*program, "predict", "-i", weights, "-o", str(tool.folder / "answers.csv")]
    fixed = ["num_beams=1", "force_cpu=True", "fp16=False", "num_workers=0", "batch_size=64"]
    return [*program, "train", "--config-name", name], [*ask, *fixed, "-d"]


def tinynovo(tool: Tool, _: Path) -> tuple[list[str], list[str]]:
    """Commands that train the scorer alone, and that draft with it."""
    program, weights = [sys.executable, "-m", "tinynovo"], tool.folder / "model.safetensors"
    sets = {
        "output": tool.folder,
        "steps": STEPS,
        "optimizer.learning_rate": tool.rate,
        "optimizer.warmup": WARMUP,
        "validate_every": STEPS,
    }
    given = [text for key, value in sets.items() for text in ("--set", f"{key}={value}")]
    train = [*program, "train", "-c", str(ROOT / "configs" / "scorer.yaml"), *given]
    ask = [*program, "sequence", "-m", str(weights), "--set", "strategy=draft"]
    return train, [*ask, "-o", str(tool.folder / "answers.csv")]


COMMANDS = {"casanovo": casanovo, "instanovo": instanovo, "tinynovo": tinynovo}


def trained(tool: Tool, command: list[str], seconds: int) -> dict[str, Any]:
    """Train for so many seconds of processor time on one thread; what that took."""
    note = tool.folder / "trained.json"
    if note.exists():
        return dict(json.loads(note.read_text()))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 60))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (tool.folder / "log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, env=alone(), preexec_fn=limited, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = (tool.folder / "log").read_text(errors="replace")
    note.write_text(json.dumps(took := {"processor_seconds": round(spent), **progress(text)}))
    return took


def alone() -> dict[str, str]:
    """The environment of a command on one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def progress(log: str) -> dict[str, Any]:
    """Steps and validation losses that a log tells of, as far as it tells them."""
    rows = re.findall(r"INFO: (\d+)\t\S+\t([\d.]+)", log)
    return {"validation_loss": {step: float(loss) for step, loss in rows}} if rows else {}


def answers(tool: Tool, command: list[str], file: str) -> Path:
    """Predictions of one file in our columns."""
    out = tool.folder / f"{Path(file).stem}.{'mztab' if tool.name == 'casanovo' else 'csv'}"
    if out.exists():
        return out
    spelling = "-unimod" if tool.name == "instanovo" else ""
    if tool.name == "instanovo":
        kept = [str(tool.folder / f"{name}.ckpt") for name in ("model_latest", "plain")]
        subprocess.run([Path(command[0]).with_name("python"), "-c", PLAIN, *kept], check=True)
    asked = [*command, str(WORK / f"{Path(file).stem}{spelling}.mgf")]
    with (tool.folder / "log").open("a") as log:
        subprocess.run(asked, stdout=log, stderr=log, env=alone(), check=True, cwd=ROOT)
    if tool.name == "casanovo":
        os.replace(tool.folder / "answers.mztab", out)
        return out
    if tool.name == "tinynovo":
        os.replace(tool.folder / "answers.csv", out)
        return out
    with (tool.folder / "answers.csv").open() as given, out.open("w", newline="") as file_out:
        rows = csv.writer(file_out)
        rows.writerow(["spectrum_id", "sequence", "score"])
        for row in csv.DictReader(given):
            number = row["spectrum_id"].rpartition(":")[2]
            rows.writerow([f"index={number}", row["predictions"], row["log_probs"]])
    return out


def main() -> None:
    """Train, ask and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=Path, required=True, help="folder of the tools'")
    parser.add_argument("--spectra", type=int, default=100_000, help="drawn; default: 100000")
    parser.add_argument("--seconds", type=int, default=1500, help="of processor; default: 1500")
    parser.add_argument("--only", choices=COMMANDS, help="one tool")
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    export(given.spectra)
    output = RESULTS / "peers.json"
    values = json.loads(output.read_text()) if output.exists() else {"tools": {}}
    values["definitions"] = DEFINITIONS
    for tool in TOOLS:
        name = tool.name
        if given.only not in (None, name):
            continue
        tool.folder.mkdir(exist_ok=True)
        train, ask = COMMANDS[tool.name](tool, given.environments / tool.name)
        values["tools"][name] = found = trained(tool, train, given.seconds)
        for file in FILES:
            begin = time.monotonic()
            predictions = answers(tool, ask, file)
            print(f"{name} {file}: {time.monotonic() - begin:.0f} s", flush=True)
            labelled = WORK / f"{Path(file).stem}.mgf"
            metrics = evaluate_files(predictions, [labelled], None, lambda _: None)
            found[file] = {"spectra": metrics.spectra, "predicted": metrics.predicted}
            found[file] |= {"published": metrics.as_dict()["published"]}
        output.write_text(json.dumps(rounded(values), indent=1) + "\n")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
