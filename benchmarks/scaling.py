"""Write the table of ``docs/scaling.md`` from ``results/speed.json``: what archives would take.

Run ``python benchmarks/scaling.py`` (or ``make card``); a test fails when the page is stale.
"""

from __future__ import annotations

import json
import re
from typing import Any

from common import HERE, RESULTS

PAGE = HERE.parent / "docs" / "scaling.md"
BLOCK = re.compile(r"(?<=<!-- figures:start -->\n).*?(?=<!-- figures:end -->)", re.DOTALL)
PRICE = 0.04
"""Of a core for an hour, US dollars: an assumption, about what clouds ask for one on demand."""

SIZES = {
    "a run of an hour": 50_000,
    "a project of 200 runs": 10_000_000,
    "PRIDE Archive as of April 2015": 256_000_000,
    "a billion spectra": 1_000_000_000,
}


def lines(speed: dict[str, Any]) -> list[str]:
    """The table, and what it rests on."""
    rates = {effort: found["spectra_per_second"] / 2 for effort, found in speed["efforts"].items()}
    header = ["", "spectra", *(f"{e}: core hours" for e in rates), "default: US dollars"]
    rows = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for name, number in SIZES.items():
        hours = {effort: number / rate / 3600 for effort, rate in rates.items()}
        cells = [name, f"{number:,}", *(f"{h:,.1f}" for h in hours.values())]
        cells.append(f"{hours['default'] * PRICE:,.2f}")
        rows.append(f"| {' | '.join(cells)} |")
    told = ", ".join(f"{effort} {rate:.1f}" for effort, rate in rates.items())
    return [
        *rows,
        "",
        f"Spectra a second and core, as measured with two threads of an "
        f"{speed['about']['machine']}: {told}. A core hour is taken to cost {PRICE} US dollars.",
        "",
    ]


def page() -> str:
    """The page as it must be."""
    speed = json.loads((RESULTS / "speed.json").read_text("utf-8"))
    text = "\n".join(lines(speed))
    return BLOCK.sub(lambda _: text, PAGE.read_text("utf-8"))


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
