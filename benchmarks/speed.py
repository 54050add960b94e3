"""Spectra a second and peak memory of the whole ``tinynovo sequence`` command, by threads.

Run ``python benchmarks/speed.py`` on a machine that does nothing else; writes
``results/speed.json``. The spectra are simulated. ``first_row_seconds`` is the command with one
spectrum: start-up, imports, weights, answer. ``spectra_per_second`` leaves that out,
``whole_seconds`` does not.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import Results, about, arguments

from tinynovo.cli import main as tinynovo

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what the system calls the size of a process."""


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__.splitlines()[0], "speed.json")
    parser.add_argument("-n", "--number", type=int, default=400, help="spectra; default: 400")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    values: dict[str, Any] = {
        "about": about(given.model) | {"system": platform.system(), "load_before": load},
        "spectra": given.number,
        "threads": {},
    }
    del values["about"]["threads"]
    results = Results(given.output, values)
    with TemporaryDirectory() as folder:
        one, many = Path(folder, "one.mgf"), Path(folder, "many.mgf")
        for path, number in ((one, 1), (many, given.number)):
            tinynovo(["simulate", "-n", str(number), "--seed", "1", "-o", str(path)])
        for threads in (1, 2):
            command = ["--threads", str(threads), "--device", "cpu"]
            command += ["-m", str(given.model)] if given.model else []
            first, _ = measured(one, command)
            whole, memory = measured(many, command)
            values["threads"][str(threads)] = found = {
                "spectra_per_second": (given.number - 1) / (whole - first),
                "first_row_seconds": first,
                "whole_seconds": whole,
                "peak_memory_mb": memory,
            }
            print(f"{threads} threads: {found}", flush=True)
            results.save()
    results.finish()


def measured(spectra: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of one run of the command."""
    out = spectra.with_suffix(".csv")
    command = [sys.executable, "-m", "tinynovo", "sequence", str(spectra), "-o", str(out)]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    begin = time.monotonic()
    process = subprocess.Popen([*command, *arguments], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"tinynovo sequence ended with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * UNIT / 1e6


if __name__ == "__main__":
    main()
