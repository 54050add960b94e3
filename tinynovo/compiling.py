"""Compiling: functions that loop over numbers, compiled for the CPU by numba.

Knows how they are compiled and kept. Does not know what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bits = NDArray[np.bool_]
Flags = NDArray[np.uint16]

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Compile a function, which then lets other threads run.

    What was compiled is kept beside the package or with the user, for the next run; where neither
    can be written to, nothing is kept.
    """
    return _compiled(function, "never")


def inlined(function: F) -> F:
    """As `jit`, but compiled functions that call it have a copy of it compiled as a part of them.

    So nothing is handed over, and there is one function less to be optimized with all below it.
    """
    return _compiled(function, "always")


def _compiled(function: F, inline: Literal["never", "always"]) -> F:
    compiling = njit(nogil=True, fastmath=True, error_model="numpy", inline=inline)
    compiled = compiling(function)
    with suppress(RuntimeError):
        compiled.enable_caching()
    return cast(F, compiled)
