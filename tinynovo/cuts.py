"""Cuts: at which ions a cut of the peptide is looked for, and how what is found is laid out.

Knows the ions and the order of a cut's features. Does not know spectra, nor what is done with the
features.

The features of a cut are, in this order: for each main ion the features of its peak, its error,
signed and absolute, and whether there is one; for each ion of 3+ the first two of these and the
same three; for each minor ion the first two; whether each main ion lies in the range recorded.
"""

from __future__ import annotations

from tinynovo.masses import AMMONIA, CARBON_MONOXIDE, PHOSPHORIC_ACID, WATER

MAIN_IONS = (("b", 1, 0.0), ("y", 1, 0.0), ("b", 2, 0.0), ("y", 2, 0.0))
HIGH_IONS = (("b", 3, 0.0), ("y", 3, 0.0))
MINOR_IONS = (
    ("b", 1, -CARBON_MONOXIDE),
    ("b", 1, -WATER),
    ("b", 1, -AMMONIA),
    ("y", 1, -WATER),
    ("y", 1, -AMMONIA),
    ("b", 1, -PHOSPHORIC_ACID),
    ("y", 1, -PHOSPHORIC_ACID),
    ("y", 2, -PHOSPHORIC_ACID),
)
"""Series, charge and, for the last, what is lost (Da): a-ions are b without CO."""

IONS = (*MAIN_IONS, *HIGH_IONS, *MINOR_IONS)

ANNOTATIONS = 17
"""Features of a peak beside its intensity and its rank."""

ERRORS = 3
FEW = 2
CUT_FEATURES = (
    len(MAIN_IONS) * (2 + ANNOTATIONS + ERRORS + 1)
    + len(HIGH_IONS) * (FEW + ERRORS)
    + len(MINOR_IONS) * FEW
)

MIDDLE_FEATURES = 2 * 2 * (FEW + ERRORS) + 2
"""Of two fragments of the middle that a candidate makes, of b and a ions each."""

GLOBALS = 8 + 3 + 1
"""Facts of a spectrum: its charge one-hot, its mass, its reciprocal, peaks, grid of the m/z."""

NODE_BIN = 20_000
"""Width in micro-dalton of a cell of the grid of cuts."""

FAR = 1 << 40
"""m/z in micro-Th of the padding of the peak axis: beyond every ion."""
