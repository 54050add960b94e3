"""What is given to clusters: every command is known to the parser, every version to the package."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tinynovo import __version__
from tinynovo.cli import parser

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MODULE = DEPLOY / "nextflow" / "tinynovo" / "sequence"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def commands() -> list[str]:
    """Lines that call ``tinynovo sequence``, with words for what a shell or Nextflow fills in."""
    found = []
    for path in (DEPLOY / "sequence.sbatch", MODULE / "main.nf", ROOT / "docs" / "scaling.md"):
        for line in path.read_text("utf-8").splitlines():
            if line.strip().startswith("tinynovo sequence "):
                line = re.sub(r"\$\{args\}", "--fdr 0.05", line.partition("#")[0])
                line = re.sub(r'"?\$(SLURM_CPUS_PER_TASK|\{task.cpus\})"?', "4", line)
                found.append(re.sub(r"\$\{?\w+\}?", "name", line).strip())
    return found


@pytest.mark.parametrize("command", commands())
def test_commands_are_known(command: str) -> None:
    arguments = parser().parse_args(shlex.split(command)[1:])
    assert arguments.files
    assert arguments.output.suffix in (".mztab", ".parquet")


def test_there_are_commands_of_each_kind() -> None:
    assert sum("--threads 4" in command for command in commands()) == 2
    assert any("--ray" in command for command in commands())


def test_the_options_that_nextflow_is_shown_are_known() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    (options,) = re.findall(r"ext\.args = '(.*)'", text)
    parser().parse_args(["sequence", "a.mgf", "-o", "a.csv", *shlex.split(options)])


def test_the_image_installs_what_there_is() -> None:
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE)
    least = PROJECT["requires-python"].removeprefix(">=")
    assert tuple(map(int, python.split("."))) >= tuple(map(int, least.split(".")))
    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"$', DOCKERFILE, re.MULTILINE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    assert DOCKERFILE.index("USER tinynovo") > DOCKERFILE.index("RUN pip install")


def test_images_are_of_this_version() -> None:
    texts = (DOCKERFILE, (MODULE / "main.nf").read_text("utf-8"))
    for text in texts:
        assert set(re.findall(r"tinynovo:(\d[\d.]*)", text)) == {__version__}


def test_the_module_says_what_comes_in_and_out() -> None:
    meta = yaml.safe_load((MODULE / "meta.yml").read_text("utf-8"))
    told = set(re.findall(r"emit: (\w+)", (MODULE / "main.nf").read_text("utf-8")))
    assert set(meta["output"]) == told == {"mztab", "report", "versions"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_batch_file_takes_the_line_of_its_task(tmp_path: Path) -> None:
    names = tmp_path / "files.txt"
    names.write_text("/data/one.mzML\n/data/the second.mzML\n")
    fake = tmp_path / "tinynovo"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", DEPLOY / "sequence.sbatch", names, "/out"],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "SLURM_ARRAY_TASK_ID": "2",
            "SLURM_CPUS_PER_TASK": "3",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    words = ["sequence", "/data/the second.mzML", "-o", "/out/the second.mzML.parquet"]
    assert done.stdout.splitlines() == [*words, "--threads", "3", "--resume"]


def test_the_page_on_scaling_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = runpy.run_path(str(ROOT / "benchmarks" / "scaling.py"))["page"]()
    assert (ROOT / "docs" / "scaling.md").read_text("utf-8") == page, "stale: run make card"
