"""Ranks: what the processes that share a training step have to agree on.

Knows how many there are and how they count together. Does not know what is counted, nor how the
processes were started: that is `torchrun`'s business.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, distributed


def started() -> tuple[int, int]:
    """Processes that share the run on this host, and hosts, as `torchrun` says; 1 and 1 without."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return here, int(os.environ.get("WORLD_SIZE", "1")) // here


def leave() -> None:
    """End a process that shared a run, at once; nothing where there is only one.

    Taken down in the order that Python happens to choose, the threads of the backend abort the
    process or wait for each other now and then, though all work is done.
    """
    if _shared() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _shared() -> int:
    """Processes that share a step."""
    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1


def average(count: Tensor) -> Tensor:
    """Mean of a count over the processes, without gradient: float32, shape of the input.

    Gradients of the processes are averaged. A loss that is a sum over a count must be divided by
    this instead of by the process's own count to be what one process would make of all samples.
    """
    count = count.detach().to(torch.float32)
    if _shared() > 1:
        count = count.clone()
        distributed.all_reduce(count)
        count /= _shared()
    return count


def averages(figures: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Means of figures over the processes, all of which must ask."""
    values = torch.tensor(list(figures.values()), dtype=torch.float32, device=device)
    if _shared() == 1:
        return dict(figures)
    return dict(zip(figures, average(values).tolist(), strict=True))
