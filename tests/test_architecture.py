"""The house as ARCHITECTURE.md maps it: who may import whom, who may know torch, how large."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinynovo

HOUSE = Path(tinynovo.__file__).parent
MAP = (HOUSE.parent / "ARCHITECTURE.md").read_text("utf-8")
ROWS = re.findall(r"^\| (\w+) \|.*\| (yes|no) \|$", MAP, re.MULTILINE)
ROOMS = [room for room, _ in ROWS]
TORCH = {room for room, torch in ROWS if torch == "yes"}
OUTSIDE = {"__init__", "__main__"}
MAX_LINES = 400
FILES = sorted(path.stem for path in HOUSE.glob("*.py") if path.stem not in OUTSIDE)


def source(room: str) -> str:
    return (HOUSE / f"{room}.py").read_text("utf-8")


def imports(text: str) -> Iterator[str]:
    """Dotted names a module imports, at once or later."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = f"tinynovo.{base}".rstrip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def neighbours(text: str) -> set[str]:
    """Rooms a module imports."""
    parts = (name.split(".") for name in imports(text))
    return {part[1] for part in parts if part[0] == "tinynovo" and len(part) > 1} & set(ROOMS)


def knows_torch(text: str) -> bool:
    heavy = ("torch", "lightning", "lightning_fabric", "safetensors.torch")
    return any(n == h or n.startswith(f"{h}.") for n in imports(text) for h in heavy)


def test_every_file_is_a_room_with_a_place() -> None:
    assert ROOMS[0] == "errors"
    assert ROOMS[-1] == "cli"
    assert len(set(ROOMS)) == len(ROOMS)
    assert set(FILES) <= set(ROOMS)
    assert sorted(path.name for path in HOUSE.rglob("*.py") if path.parent != HOUSE) == []


@pytest.mark.parametrize("room", FILES)
def test_imports_go_down_only(room: str) -> None:
    below = set(ROOMS[: ROOMS.index(room)])
    assert neighbours(source(room)) <= below | {"errors"}


@pytest.mark.parametrize("room", FILES)
def test_torch_only_where_it_belongs(room: str) -> None:
    if room not in TORCH:
        assert not knows_torch(source(room))


@pytest.mark.parametrize("room", FILES)
def test_rooms_are_small_and_say_what_they_know(room: str) -> None:
    assert len(source(room).splitlines()) <= MAX_LINES
    docstring = ast.get_docstring(ast.parse(source(room)))
    assert docstring
    words = docstring.lower().split()
    assert "knows" in words
    assert "not" in words


@pytest.mark.parametrize("room", [room for room in FILES if room != "verbs"])
def test_only_the_verbs_print(room: str) -> None:
    names = {
        node.func.id
        for node in ast.walk(ast.parse(source(room)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in names


def test_the_checks_can_fail() -> None:
    assert neighbours("from tinynovo import cli, errors") == {"cli", "errors"}
    assert neighbours("def f():\n    from tinynovo.cli import main") == {"cli"}
    assert neighbours("from .training import train") == {"training"}
    assert knows_torch("from torch import nn")
    assert knows_torch("def f():\n    import torch.nn.functional as F")
    assert knows_torch("if True:\n    import torch")
    assert not knows_torch("import numpy")


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after a program."""
    program = f"{code}\nimport sys; print('loaded', *{{m.split('.')[0] for m in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(run.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy() -> None:
    code = "from tinynovo.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"
    loaded = loaded_by(code)
    assert "tinynovo" in loaded
    assert not loaded & {"torch", "numpy", "pyarrow", "pyteomics", "pydantic", "sklearn", "rich"}


def test_rooms_without_torch_do_not_bring_it_in() -> None:
    rooms = [room for room in FILES if room not in TORCH]
    loaded = loaded_by("\n".join(f"import tinynovo.{room}" for room in rooms))
    assert "numpy" in loaded
    assert "torch" not in loaded
