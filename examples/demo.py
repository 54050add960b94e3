"""Sequence the spectra of ``demo.mgf`` and count the right answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tinynovo.cli import main

SPECTRA = Path(__file__).with_name("demo.mgf")
OUT = Path("demo-out")


def demo() -> int:
    """Run the two commands a user would; return the exit code."""
    OUT.mkdir(exist_ok=True)
    rows, result, report = OUT / "demo.mztab", OUT / "demo.json", OUT / "report.html"
    code = main(["sequence", str(SPECTRA), "-o", str(rows), "--report", str(report)])
    if code:
        return code
    code = main(["evaluate", str(SPECTRA), "--predictions", str(rows), "--json", str(result)])
    if code:
        return code
    found = json.loads(result.read_text("utf-8"))
    right = round(found["exact"]["peptide_recall"] * found["spectra"])
    print(f"{right} of {found['spectra']} simulated peptides are right")
    print(f"see {rows}, {result} and, in a browser, {report}")
    return 0


if __name__ == "__main__":
    sys.exit(demo())
