"""Cluster: files sequenced by the workers of a Ray cluster.

Knows which worker has which file, and what to do when one dies. Does not know models nor what
becomes of rows.

A worker is asked for one window of spectra after another, so that no more than a window a worker
waits to be put by. Ray is an extra, imported for a cluster alone.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tinynovo import __version__
from tinynovo.comparing import Sequences
from tinynovo.errors import InputError
from tinynovo.report import Findings
from tinynovo.spool import Spools, spectra_in
from tinynovo.worker import About, Share, Worker

LOCAL = "local"
"""The address of a cluster of this machine alone, which ends with the run."""

MAX_DEATHS = 3
"""A file whose workers died so often is given up, and so is a cluster where none starts."""

START_LIMIT_S = 600
"""How long to wait for a first worker: clusters may have to grow."""

CONNECT_LIMIT_S = 10
"""How long to wait for a cluster to answer."""

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What keeps Ray from telling users of its own affairs, and others of its users."""


@dataclass(eq=False)
class _Hand:
    """A worker as seen from here, and the place of the file it has."""

    actor: Any
    place: int | None = None


@dataclass
class _Work:
    """What is to be done and by whom.

    Attributes
    ----------
    todo : deque of int
        Places of the files that no worker has.
    left : int
        Files that did not end.
    idle : list of _Hand
        Workers without a file.
    deaths : Counter
        Workers that died, by the place of their file.
    """

    spools: Spools
    findings: Findings | None
    advance: Callable[[int], None]
    todo: deque[int]
    left: int
    idle: list[_Hand] = field(default_factory=list)
    deaths: Counter[int | None] = field(default_factory=Counter)


class Cluster:
    """The workers of a Ray cluster; a `tinynovo.gathering.Workers`, to be used in a ``with``.

    Parameters
    ----------
    load : callable
        Gives, told the device, what sequences; it is pickled, and every worker calls it.
    address : str
        Of the cluster: `LOCAL`, ``auto``, ``host:port`` or ``ray://host:port``.
    workers : int, optional
        By default as many as the cluster has GPUs, or CPUs for as many threads.
    threads : int
        CPUs of a worker.
    device : str
        ``auto``, ``cpu`` or ``cuda``; auto is cuda, a GPU a worker, where the cluster has GPUs.

    Attributes
    ----------
    settings, window
        As the workers say.

    Raises
    ------
    InputError
        When Ray is not installed, no cluster answers, or no worker can start.
    """

    def __init__(
        self,
        load: Callable[[str], Sequences],
        address: str = LOCAL,
        workers: int | None = None,
        threads: int = 1,
        device: str = "auto",
    ) -> None:
        self._ray = _library()
        cpus = workers * threads if workers and address == LOCAL else None
        _connect(self._ray, address, cpus)
        self._load = load
        self._busy: dict[Any, _Hand] = {}
        try:
            known = self._ray.cluster_resources()
            gpus, cpus = int(known.get("GPU", 0)), int(known.get("CPU", 0))
            self._device = _device(device, gpus)
            own = 1 if self._device == "cuda" else 0
            self._workers = workers or max(1, gpus if own else cpus // threads)
            self._actor = self._ray.remote(num_cpus=threads, num_gpus=own)(Worker)
            self._about: About | None = None
            self._first = self._start()
        except BaseException:
            self.close()
            raise
        assert self._about
        self.settings: dict[str, str] = self._about.settings
        self.window: int = self._about.window

    def fill(
        self, spools: Spools, findings: Findings | None, advance: Callable[[int], None]
    ) -> None:
        """Put by the rows of all files; see `tinynovo.gathering.Workers`.

        Raises
        ------
        InputError
            When a worker cannot find a file, cannot sequence, or no worker starts.
        """
        places = [p for p in range(len(spools.files)) if findings or not spools.ended(p)]
        work = _Work(spools, findings, advance, deque(places), len(places), [self._first])
        while work.left:
            while len(self._busy) + len(work.idle) < min(self._workers, work.left):
                self._hire()
            while work.todo and work.idle:
                self._give(work.idle.pop(), work.todo.popleft(), work)
            hand, told = self._next(work.deaths)
            if told is None:
                self._mourn(hand, work)
            elif isinstance(told, Share):
                self._take(hand, told, work)
            else:
                self._welcome(told)
                work.idle.append(hand)

    def close(self) -> None:
        """Let the workers go, and leave the cluster."""
        self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> _Hand:
        """Wait for a first worker, which says what the others must be like."""
        deaths: Counter[int | None] = Counter()
        told = None
        while not isinstance(told, About):
            self._hire()
            hand, told = self._next(deaths)
        self._welcome(told)
        return hand

    def _hire(self) -> None:
        actor = self._actor.remote(self._load, self._device, os.getcwd())
        self._busy[actor.about.remote()] = _Hand(actor)

    def _give(self, hand: _Hand, place: int, work: _Work) -> None:
        """Give a file to a worker, with its rows that are known."""
        file, kept = work.spools.files[place], list(work.spools.batches(place))
        findings = Findings() if work.findings else None
        hand.place = place
        self._busy[hand.actor.begin.remote(file, file.exists(), kept, findings)] = hand

    def _next(self, deaths: Counter[int | None]) -> tuple[_Hand, About | Share | None]:
        """The first worker that has something to tell, and what; None: it died."""
        working = any(hand.place is not None for hand in self._busy.values())
        limit = None if working else START_LIMIT_S
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=limit)
        if not ready:
            problem = f"no worker of the Ray cluster started within {START_LIMIT_S} s"
            raise InputError(problem, remedy="ask for fewer --threads, or for another --device")
        hand = self._busy.pop(ready[0])
        try:
            told: About | Share = self._ray.get(ready[0])
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            deaths[hand.place] += 1
            if hand.place is None and deaths[None] == MAX_DEATHS:
                remedy = "have the same tinynovo installed on all its machines"
                problem = f"workers of the Ray cluster die as they start: {error}"
                raise InputError(problem, remedy=remedy) from None
            return hand, None
        return hand, told

    def _welcome(self, told: About) -> None:
        """Look whether a worker is like the first.

        Raises
        ------
        InputError
            When it is of another version, or has another model.
        """
        self._about = self._about or told
        if told.version != __version__:
            problem = f"a worker has tinynovo {told.version}, not {__version__}"
            raise InputError(problem, remedy="install the same on all machines of the cluster")
        if told != self._about:
            raise InputError("the workers of the Ray cluster do not have the same model")

    def _take(self, hand: _Hand, share: Share, work: _Work) -> None:
        """Put by what a worker has, and ask for more."""
        assert hand.place is not None
        if share.rows is not None:
            work.spools.put(hand.place, share.rows)
            work.advance(spectra_in(share.rows))
            self._busy[hand.actor.more.remote()] = hand
            return
        work.spools.end(hand.place, share.complaint)
        if work.findings and share.findings:
            work.findings.merge(share.findings)
        hand.place = None
        work.left -= 1
        work.idle.append(hand)

    def _mourn(self, hand: _Hand, work: _Work) -> None:
        """A worker died: its file is for another, behind the rows that are known."""
        self._ray.kill(hand.actor)
        if hand.place is None:
            return
        if work.deaths[hand.place] < MAX_DEATHS:
            work.todo.appendleft(hand.place)
            return
        problem = f"{MAX_DEATHS} workers died over it: their machines may be short of memory"
        complaint = InputError(problem, file=work.spools.files[hand.place])
        work.spools.end(hand.place, complaint)
        work.left -= 1


def _device(name: str, gpus: int) -> str:
    """The device of every worker: cpu or cuda."""
    if name == "mps":
        raise InputError("workers of a Ray cluster cannot use mps", remedy="leave --device out")
    if name == "cuda" and not gpus:
        raise InputError("the Ray cluster has no GPU", remedy="leave --device out")
    return "cuda" if gpus and name != "cpu" else "cpu"


def _library() -> Any:
    """Ray, silenced.

    Raises
    ------
    InputError
        When it is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with _hushed():
            import ray
    except ImportError:
        raise InputError("Ray is not installed", remedy="pip install 'tinynovo[ray]'") from None
    return ray


def _connect(ray: Any, address: str, cpus: int | None) -> None:
    """Join a cluster, or start one of this machine alone.

    Raises
    ------
    InputError
        When no cluster answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    local = {"num_cpus": cpus, "include_dashboard": False} if address == LOCAL else {}
    try:
        if host:
            # Ray itself would try for minutes, and complain at length.
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_LIMIT_S).close()
        with _hushed():
            ray.init(address, logging_level=logging.CRITICAL, log_to_driver=False, **local)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        problem = f"no Ray cluster can be used at {address}: {reason}"
        remedy = "start one, see to Ray's token authentication, or leave the address out"
        raise InputError(problem, remedy=remedy) from None


@contextmanager
def _hushed() -> Iterator[None]:
    """Let Ray, parts of which write to the file of stderr whatever it is told, say nothing."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
