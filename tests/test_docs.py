from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*.md")])


def test_the_command_line_page_is_current() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "cli.py"))["page"]
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == page(), "stale: run make docs"


def commands() -> list[str]:
    """Lines of the README's blocks that are marked to be run."""
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"<!-- run -->\n```sh\n(.*?)```", readme, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    assert len(commands()) >= 4
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = "\n".join(["set -e", *commands()])
    run = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    made = {"spectra.mgf", "options.yaml", "peptides.mztab", "result.json"}
    made |= {"scored.csv", "scored.pin"}
    assert {p.name for p in tmp_path.iterdir()} == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8"))
    gone = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert gone == []


def test_the_readme_has_room_for_figures() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.search(r"<!-- figures:start -->\n(.*\n)?<!-- figures:end -->", readme, re.DOTALL)


def test_every_dependency_is_justified_and_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}  # type: ignore[index]
    optional = {re.match(r"[\w-]+", line)[0] for e in extras.values() for line in e}  # type: ignore[index]
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("## Dependencies")[1]
    named = set(re.findall(r"[\w-]+", text))
    assert wanted | optional <= named
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    installed = {name.lower() for name in (wanted | optional) - {"tensorboard", "wandb"}}
    assert installed <= set(pins)


def test_versions_agree_with_the_changelog() -> None:
    from tinynovo import __version__

    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == __version__  # type: ignore[index]


def test_the_pages_speak_of_the_project_alone() -> None:
    own_paths = re.compile(r"(?<![\w.])/(?:root|home|tmp|mnt|Users)/")
    assert [page.name for page in PAGES if own_paths.search(page.read_text("utf-8"))] == []
