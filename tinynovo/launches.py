"""Launches: compiled functions run for every row of arrays, on a GPU by a thread each.

Knows how numba-cuda (extra `gpu`) is made to compile for a GPU what `tinynovo.compiling.jit`
compiles for the CPU, so that nothing is written twice; on the CPU a loop stands in for the threads.
What is launched again and again over the same arrays is recorded as a CUDA graph, since handing it
over takes the interpreter longer than the GPU works on it. Does not know what the functions do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from numba import njit
from torch import Tensor

from tinynovo.compiling import Floats, jit
from tinynovo.errors import InputError

_FEW, _MANY = 32, 128
"""Threads of a block: few rows spread over all processors only if blocks are small."""

_ROWS = 1 << 16
"""Rows from which on they are many."""

_KERNELS: dict[Hashable, Any] = {}
"""By function, and by the types of its arguments."""


@cache
def _compiler() -> Any:
    """Numba's CUDA target; None where it is not installed."""
    if find_spec("numba_cuda") is None:
        return None
    from numba import cuda
    from numba.cuda.core import config  # type: ignore[import-not-found]

    config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
    return cuda


def threads_on(device: torch.device) -> bool:
    """Whether a device has threads that compiled functions can run by."""
    return device.type == "cuda" and _compiler() is not None


def launchable(tensor: Tensor) -> bool:
    """Whether they can run over tensors where this one is."""
    return threads_on(tensor.device)


@jit
def _touch(row: int, out: Floats) -> None:
    out[row] = 1


def check(device: torch.device) -> None:
    """Compile a function for a device that has threads.

    Raises
    ------
    InputError
        Where that fails: versions of numba-cuda, of what it builds on and of the driver must match.
    """
    try:
        if threads_on(device):
            launch(device, _touch, 1, seen(torch.zeros(1, device=device)))
    except Exception as error:  # whatever a compiler that does not fit runs into
        problem = f"numba-cuda does not work here: {str(error).strip().partition(chr(10))[0]}"
        remedy = "pip install 'tinynovo[gpu]' in a fresh environment, or use --device cpu"
        raise InputError(problem, remedy=remedy) from error


def seen(tensor: Tensor) -> Any:
    """A tensor as compiled functions see it, on its device; it shares the memory."""
    if tensor.device.type == "cpu":
        return tensor.numpy()
    return _compiler().as_cuda_array(tensor)


def by_threads(work: Callable[..., None], cuda: Any) -> Callable[..., None]:
    """What a thread does of it; to be compiled for a GPU."""

    def kernel(count, arguments):  # type: ignore[no-untyped-def]
        row = cuda.grid(1)
        if row < count:
            work(row, *arguments)

    return kernel


@cache
def _looping(work: Callable[..., None]) -> Callable[..., None]:
    """What runs a function over rows one after the other."""

    @njit(nogil=True)
    def loop(count, arguments):  # type: ignore[no-untyped-def]
        for row in range(count):
            work(row, *arguments)

    return loop


def _types(arguments: tuple[Any, ...]) -> Hashable:
    """What tells apart arguments that a kernel is compiled for anew.

    numba has each type once, and a kernel keeps those of its arguments.
    """
    return tuple(
        _types(one) if isinstance(one, tuple) else id(getattr(one, "_numba_type_", type(one)))
        for one in arguments
    )


def _kernel(work: Callable[..., None], count: int, arguments: tuple[Any, ...]) -> Any:
    """A function compiled for such arguments; numba itself takes milliseconds to find it."""
    key = (work, _types(arguments))
    if key not in _KERNELS:
        cuda = _compiler()
        kernel = cuda.jit(fastmath=True)(by_threads(work, cuda))
        _KERNELS[key] = kernel.specialize(count, arguments)
    return _KERNELS[key]


def launch(
    device: torch.device,
    work: Callable[..., None],
    count: int,
    *arguments: Any,
    loop: Callable[[int, tuple[Any, ...]], None] | None = None,
) -> None:
    """Run ``work(row, *arguments)`` for so many rows, on the current stream of a device.

    Arguments are numbers, arrays of `seen`, and tuples of these. ``loop`` does so on the CPU; one
    that is not given is compiled anew in every process.
    """
    if not count:
        return
    if device.type == "cpu":
        (loop or _looping(work))(count, arguments)
        return
    handle = torch.cuda.current_stream(device).cuda_stream
    stream = _compiler().external_stream(handle) if handle else 0
    threads = _FEW if count < _ROWS else _MANY
    blocks = (count + threads - 1) // threads
    _kernel(work, count, arguments)[blocks, threads, stream](count, arguments)


class Replays:
    """Work that is done again and again over the same memory.

    On a GPU it is recorded when it is asked for a second time, and replayed from then on. It must
    not wait for the GPU, nor take anything from the CPU but what is the same every time.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[Hashable, torch.cuda.CUDAGraph | None] = {}

    def do(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do the work of a name."""
        if self.device.type == "cpu" or key not in self.known:
            self.known[key] = None
            work()
            return
        graph = self.known[key]
        if graph is None:
            graph = self.known[key] = recorded(self.device, work, _pool(self.device))
        graph.replay()


def recorded(
    device: torch.device, work: Callable[[], object], pool: Any = None
) -> torch.cuda.CUDAGraph:
    """A graph of work, not done yet; what it needs in between is taken from a pool of memory."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        graph.capture_begin(pool, capture_error_mode="thread_local")
        try:
            work()
        finally:
            graph.capture_end()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph


@cache
def _keeper(device: torch.device, stream: int) -> torch.cuda.CUDAGraph:
    """A graph of hardly anything, whose memory outlives all graphs that share it."""
    return recorded(device, partial(torch.zeros, 1, device=device))


def _pool(device: torch.device) -> Any:
    """The memory that the graphs of a stream share, as they follow one another."""
    return _keeper(device, torch.cuda.current_stream(device).cuda_stream).pool()
