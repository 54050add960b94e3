"""Spectra a second and peak memory of ``tinynovo sequence``, and of other tools' networks.

Run ``python benchmarks/speed.py --environments FOLDER`` on a machine that does nothing else (a
quarter of an hour); writes ``results/speed.json`` and ``../docs/figures/speed.png``. The spectra
are simulated; figures are medians of a few runs, all commands in turn. ``first_row_seconds`` is the
command with one spectrum: start-up, imports, weights, answer. ``spectra_per_second`` leaves that
out, ``whole_seconds`` does not.

Casanovo and InstaNovo, each in its own environment as for ``peers.py``, are timed on the first few
of the same spectra by ``peer_speed.py``: their networks alone, of default shape, with random
weights and as many steps as right answers have residues, one thread. Each time is a pair with one
of tinynovo right before it; the ratio is the median of the pairs, between least and greatest.
Without the option only tinynovo is timed, and what is known of the others is kept.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from common import HERE, Results, about, arguments

from tinynovo.cli import main as tinynovo
from tinynovo.drawing import COLOURS
from tinynovo.options import EFFORTS

FIGURE = HERE.parent / "docs" / "figures" / "speed.png"
UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what the system calls the size of a process."""

_SOME = 8
"""Spectra of the effort max, for each that other tools are given."""

PEERS = ("casanovo", "instanovo")


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__.splitlines()[0], "speed.json")
    parser.add_argument("-n", "--number", type=int, default=2000, help="spectra; default: 2000")
    parser.add_argument("--few", type=int, default=16, help="spectra of other tools; default: 16")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each; default: 5")
    parser.add_argument("--environments", type=Path, help="folder of the other tools'")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    before = json.loads(given.output.read_text("utf-8")) if given.output.exists() else {}
    values: dict[str, Any] = {
        "about": about(given.model) | {"system": platform.system(), "load_before": load},
        "spectra": given.number,
        "threads": {},
        "efforts": {},
        "peers": before.get("peers", {}),
    }
    del values["about"]["threads"]
    results = Results(given.output, values)
    with TemporaryDirectory() as folder:
        some = given.few * _SOME
        one, few, part, many = (Path(folder, f"{number}.mgf") for number in range(4))
        for path, number in ((one, 1), (few, given.few), (part, some), (many, given.number)):
            tinynovo(["simulate", "-n", str(number), "--seed", "1", "-o", str(path)])
        model = ["-m", str(given.model)] if given.model else []
        ways = {"1": ["--threads", "1"], "2": ["--threads", "2"]}
        others = [effort for effort in EFFORTS if effort != "default"]
        ways |= {effort: [*ways["2"], "--effort", effort] for effort in others}
        rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, options in ways.items():
                number, spectra = (some, part) if way == "max" else (given.number, many)
                command = [*options, "--device", "cpu", *model]
                rounds[way].append(timed(one, spectra, number, command))
        found = {way: summary(each) for way, each in rounds.items()}
        values["threads"] = {way: found[way] for way in ("1", "2")}
        values["efforts"] = {effort: found.get(effort, found["2"]) for effort in EFFORTS}
        results.save()
        if given.environments:
            for peer in PEERS:
                program = given.environments / peer / "bin" / "python"
                values["peers"][peer] = pairs(program, peer, (one, few, many), given, model)
                print(f"{peer}: {values['peers'][peer]}", flush=True)
                results.save()
    results.finish()
    draw(values)


def timed(one: Path, many: Path, number: int, command: list[str]) -> dict[str, float]:
    """Figures of a command, from runs with one spectrum and with many."""
    first, _ = measured(one, command)
    whole, memory = measured(many, command)
    found = {
        "spectra_per_second": (number - 1) / (whole - first),
        "first_row_seconds": first,
        "whole_seconds": whole,
        "peak_memory_mb": memory,
    }
    print(f"{' '.join(command)}: {found}", flush=True)
    return found


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """The median of every figure, and the speed of each run."""
    each = [found["spectra_per_second"] for found in rounds]
    return {name: median(found[name] for found in rounds) for name in rounds[0]} | {"runs": each}


def pairs(
    program: Path, peer: str, files: tuple[Path, Path, Path], given: Any, model: list[str]
) -> dict[str, Any]:
    """Spectra a second of tinynovo and of another tool in turn, on one thread each."""
    one, few, many = files
    rounds = []
    command = ["--threads", "1", "--device", "cpu", *model]
    for _ in range(given.rounds):
        own = timed(one, many, given.number, command)["spectra_per_second"]
        told = subprocess.run(
            [program, HERE / "peer_speed.py", peer, few, "1"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        found = json.loads(told.stdout.splitlines()[-1])
        rounds.append([own, found["spectra"] / found["seconds"]])
    ratios = [own / other for own, other in rounds]
    return {
        "rounds": rounds,
        "spectra_per_second": median(other for _, other in rounds),
        "ratio": median(ratios),
        "ratio_interval": [min(ratios), max(ratios)],
    }


def measured(spectra: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of one run of the command."""
    out = spectra.with_suffix(".csv")
    command = [sys.executable, "-m", "tinynovo", "sequence", str(spectra), "-o", str(out)]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    begin = time.monotonic()
    process = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"tinynovo sequence ended with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * UNIT / 1e6


def draw(values: dict[str, Any]) -> None:
    """Bars of spectra a second, and a line from the slowest run to the fastest."""
    from matplotlib.figure import Figure

    own = {f"tinynovo {effort}, 2 threads": found for effort, found in values["efforts"].items()}
    own["tinynovo default, 1 thread"] = values["threads"]["1"]
    rows = [(name, found["runs"], COLOURS[0]) for name, found in own.items()]
    for peer, found in values["peers"].items():
        each = [other for _, other in found["rounds"]]
        rows.append((f"{peer}'s network, 1 thread", each, COLOURS[1]))
    rows.sort(key=lambda row: median(row[1]))
    figure = Figure(figsize=(7, 0.5 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names, runs, colours = zip(*rows, strict=True)
    rates = [median(each) for each in runs]
    axes.barh(names, rates, color=colours)
    for place, each in enumerate(runs):
        axes.plot([min(each), max(each)], [place, place], color="black", lw=1)
    axes.bar_label(axes.containers[0], fmt="%.2g", padding=3, fontsize=8)
    axes.set(xscale="log", xlabel="spectra a second")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=120)
    print(f"wrote {FIGURE}")


if __name__ == "__main__":
    main()
