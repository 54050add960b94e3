"""Files sequenced by workers: by Ray where it is installed, and by a stand-in for it anyway."""

from __future__ import annotations

import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import test_journeys
import test_resume
from test_journeys import mgf
from test_resume import SCORES, Killed, Windowed, inputs, run

from tinynovo import cli, cluster
from tinynovo.cluster import MAX_DEATHS, Cluster
from tinynovo.errors import InputError
from tinynovo.gathering import Outcome, gather_files
from tinynovo.options import SequencingOptions
from tinynovo.psm import PSM
from tinynovo.spectrum import Spectrum
from tinynovo.worker import Load, Worker
from tinynovo.writers import WRITERS


@dataclass
class Mortal(Windowed):
    """Dies at some spectrum, so many times in all the lives of all workers.

    Begins when there are so many workers that want to.
    """

    marks: Path | None = None
    crowd: int = 0
    dies_at: tuple[str, int] | None = None
    lives: int = 0

    def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        self._wait()
        for rows in super().rows(spectra):
            if (Path(rows[0].file).name, rows[0].index) == self.dies_at:
                self._die()
            yield rows

    def _die(self) -> None:
        assert self.marks
        deaths = self.marks.stat().st_size if self.marks.exists() else 0
        if deaths < self.lives:
            with self.marks.open("a") as marks:
                marks.write("x")
            if self.signal:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed

    def _wait(self) -> None:
        if self.crowd:
            assert self.marks
            (self.marks / str(os.getpid())).touch()
            while len(list(self.marks.iterdir())) < self.crowd:
                time.sleep(0.01)
            self.crowd = 0


@dataclass
class Loads:
    """What workers load."""

    fake: dict[str, Any] = field(default_factory=dict)
    problem: BaseException | None = None

    def __call__(self, device: str) -> Windowed:
        if self.problem:
            raise self.problem
        return Mortal(top_match=2, **self.fake)


class StandIn:
    """As much of Ray as is used, in this process; calls end in any order."""

    def __init__(self, **resources: float) -> None:
        self.exceptions = SimpleNamespace(RayError=self.RayError, RayTaskError=self.RayTaskError)
        self.resources = resources or {"CPU": 3.0}
        self.asked: dict[str, float] = {}
        self.actors = 0
        self.most = 0
        self.room = 99
        self.init = self.shutdown = lambda *_, **__: None
        self._random = random.Random(0)

    class RayError(Exception):
        """A worker died."""

    class RayTaskError(RayError):
        """A call failed."""

        cause: BaseException

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **asked: float) -> Callable[[type], Any]:
        self.asked = asked
        return lambda kind: SimpleNamespace(remote=lambda *given: self._actor(kind, given))

    def _actor(self, kind: type, given: tuple[Any, ...]) -> Any:
        made = kind(*given)
        made.number = self.actors
        self.actors += 1

        def method(name: str) -> Any:
            return SimpleNamespace(remote=lambda *a: (getattr(made, name), pickle.dumps(a)))

        return SimpleNamespace(**{name: method(name) for name in ("about", "begin", "more")})

    def kill(self, actor: Any) -> None:
        assert actor.about

    def wait(self, calls: list[Any], num_returns: int, timeout: float | None) -> tuple[list, list]:
        assert num_returns == 1
        self.most = max(self.most, len(calls))
        ready = [call for call in calls if call[0].__self__.number < self.room]
        if not ready:
            assert timeout is not None
            return [], calls
        return [self._random.choice(ready)], []

    def get(self, call: tuple[Callable[..., Any], bytes]) -> Any:
        try:
            return pickle.loads(pickle.dumps(call[0](*pickle.loads(call[1]))))
        except Killed:
            raise self.RayError("killed") from None
        except Exception as error:
            failure = self.RayTaskError()
            failure.cause = error
            raise failure from None


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    ray = StandIn()
    monkeypatch.setattr(cluster, "_library", lambda: ray)
    monkeypatch.setattr(cluster, "_connect", lambda *_: None)
    return ray


@dataclass
class Nodes:
    """A cluster of several nodes; of none with the stand-in."""

    address: str = "nowhere:1"
    real: Any = None


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Nodes]:
    """A real cluster of three nodes of a CPU each."""
    pytest.importorskip("ray")
    ray = cluster._library()
    from ray.cluster_utils import Cluster as RealNodes

    for module in (test_journeys, test_resume, sys.modules[__name__]):
        ray.cloudpickle.register_pickle_by_value(module)
    nodes = RealNodes(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    yield Nodes(nodes.address, nodes)
    nodes.shutdown()


@pytest.fixture(params=["stand-in", "ray"])
def nodes(request: pytest.FixtureRequest) -> Nodes:
    if request.param == "ray":
        return request.getfixturevalue("three_nodes")
    request.getfixturevalue("stand_in")
    return Nodes()


def gather(
    nodes: Nodes,
    files: list[Path],
    output: Path,
    fdr: float | None = None,
    *,
    resume: bool = False,
    report: bool = False,
    problem: BaseException | None = None,
    advance: Callable[[int], None] = lambda _: None,
    **fake: object,
) -> Outcome:
    load = Loads({"signal": nodes.real is not None, **fake}, problem)
    page = output.with_suffix(".html") if report else None
    with Cluster(load, nodes.address) as workers:
        return gather_files(workers, files, output, None, advance, page, fdr, resume=resume)


@pytest.mark.parametrize("fdr", [None, 0.5])
@pytest.mark.parametrize("suffix", WRITERS)
def test_workers_write_what_one_process_writes(
    tmp_path: Path, stand_in: StandIn, suffix: str, fdr: float | None
) -> None:
    files, output = inputs(tmp_path), tmp_path / f"out.{suffix}"
    files.append(tmp_path / "none.mgf")
    alone, _ = run(files, output, fdr, resume=False)
    expected = output.read_bytes()
    told: list[int] = []
    outcome = gather(Nodes(), files, output, fdr, advance=told.append)
    assert output.read_bytes() == expected
    assert [str(c) for c in outcome.complaints] == [str(c) for c in alone.complaints]
    assert len(outcome.complaints) == 2
    assert replace(outcome, complaints=[]) == replace(alone, complaints=[])
    assert sum(told) == outcome.spectra
    assert not output.with_name(f"{output.name}.rows").exists()
    assert stand_in.actors == stand_in.most == 3


def test_a_dead_worker_loses_nothing(tmp_path: Path, nodes: Nodes) -> None:
    pytest.importorskip("matplotlib")
    files, output = inputs(tmp_path), tmp_path / "out.parquet"
    run(files, output, 0.5, resume=False, report=True)
    page = output.with_suffix(".html")
    expected = output.read_bytes(), page.read_text("utf-8")
    told: list[int] = []
    mortal = {"marks": tmp_path / "marks", "dies_at": ("b.mgf", 17), "lives": MAX_DEATHS - 1}
    outcome = gather(nodes, files, output, 0.5, report=True, advance=told.append, **mortal)
    assert mortal["marks"].read_text() == "xx"
    assert (output.read_bytes(), page.read_text("utf-8")) == expected
    assert sum(told) == outcome.spectra == sum(map(len, SCORES))


def test_a_file_that_kills_every_worker_is_a_complaint(tmp_path: Path, stand_in: StandIn) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.csv"
    mortal = {"marks": tmp_path / "marks", "dies_at": ("b.mgf", 17), "lives": 99}
    outcome = gather(Nodes(), files, output, **mortal)
    assert outcome.spectra == len(SCORES[0]) + 16 + len(SCORES[2])
    (complaint,) = outcome.complaints
    problem = f"{MAX_DEATHS} workers died over it: their machines may be short of memory"
    assert str(complaint) == f"{files[1]}: {problem}"


@pytest.mark.parametrize("report", [False, True])
def test_what_one_process_or_a_cluster_left_a_cluster_goes_on_with(
    tmp_path: Path, stand_in: StandIn, report: bool
) -> None:
    pytest.importorskip("matplotlib")
    files, output = inputs(tmp_path), tmp_path / "out.mztab"
    run(files, output, resume=False, report=report)
    page = output.with_suffix(".html")
    expected = output.read_bytes(), report and page.read_text("utf-8")
    with pytest.raises(Killed):
        run(files, output, killed_at=("b.mgf", 12))
    with pytest.raises(InputError, match="odd"):
        gather(Nodes(), files, output, resume=True, fail_at=26, failure=InputError("odd"))
    outcome = gather(Nodes(), files, output, resume=True, report=report)
    assert (output.read_bytes(), report and page.read_text("utf-8")) == expected
    assert len(SCORES[0]) + 24 <= outcome.kept < outcome.spectra
    assert len(outcome.complaints) == 1


def test_what_fails_in_a_worker_is_told_and_loses_nothing(tmp_path: Path, nodes: Nodes) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.csv"
    with pytest.raises(InputError, match=r"^odd$") as caught:
        gather(nodes, files[:1], output, fail_at=26, failure=InputError("odd"))
    assert type(caught.value) is InputError
    # With its header.
    assert output.read_text().count("\n") > 26


def test_a_file_that_a_worker_does_not_see(tmp_path: Path) -> None:
    file = tmp_path / "a.mgf"
    worker = Worker(Loads(), "cpu", str(tmp_path))
    worker.about()
    problem = r"a\.mgf: cannot be found by the worker on \S+ \(files must lie on storage that all"
    with pytest.raises(InputError, match=problem):
        worker.begin(file, True, [], None)
    assert str(worker.begin(file, False, [], None).complaint) == f"{file}: does not exist"
    with pytest.raises(InputError, match=problem):
        Load(file, SequencingOptions(), 1)("cpu")


def test_relative_paths_are_of_the_folder_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs(tmp_path)
    # To be put back.
    monkeypatch.chdir(".")
    worker = Worker(Loads(), "cpu", str(tmp_path))
    worker.about()
    share = worker.begin(Path("a.mgf"), True, [], None)
    assert set(share.rows["file"].to_pylist()) == {"a.mgf"}
    Worker(Loads(), "cpu", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("resources", "given", "workers", "asked", "device"),
    [
        ({"CPU": 8.0}, {}, 8, (1, 0), "cpu"),
        ({"CPU": 8.0}, {"threads": 3}, 2, (3, 0), "cpu"),
        ({"CPU": 8.0}, {"workers": 5}, 5, (1, 0), "cpu"),
        ({"CPU": 8.0, "GPU": 2.0}, {"threads": 2}, 2, (2, 1), "cuda"),
        ({"CPU": 8.0, "GPU": 2.0}, {"device": "cuda", "workers": 1}, 1, (1, 1), "cuda"),
        ({"CPU": 8.0, "GPU": 2.0}, {"device": "cpu"}, 8, (1, 0), "cpu"),
        ({}, {}, 1, (1, 0), "cpu"),
    ],
)
def test_how_many_workers_there_are_and_what_they_have(
    tmp_path: Path,
    stand_in: StandIn,
    resources: dict[str, float],
    given: dict[str, Any],
    workers: int,
    asked: tuple[int, int],
    device: str,
) -> None:
    stand_in.resources = resources
    devices: list[str] = []

    def load(device: str) -> Windowed:
        devices.append(device)
        return Windowed()

    files = [mgf(tmp_path / f"{number}.mgf", SCORES[2]) for number in range(9)]
    with Cluster(load, **given) as workers_:
        gather_files(workers_, files, tmp_path / "out.csv", None, lambda _: None)
    assert stand_in.actors == workers
    assert stand_in.asked == {"num_cpus": asked[0], "num_gpus": asked[1]}
    assert set(devices) == {device}


def test_no_more_workers_than_files(tmp_path: Path, stand_in: StandIn) -> None:
    stand_in.resources = {"CPU": 100.0}
    gather(Nodes(), inputs(tmp_path), tmp_path / "out.csv")
    assert stand_in.actors == 3


@pytest.mark.parametrize(
    ("device", "problem"), [("mps", "cannot use mps"), ("cuda", "the Ray cluster has no GPU")]
)
def test_a_device_that_workers_have_not(stand_in: StandIn, device: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Cluster(Loads(), device=device)


def test_a_cluster_without_room(stand_in: StandIn) -> None:
    stand_in.room = 0
    with pytest.raises(InputError, match="no worker of the Ray cluster started within 600 s"):
        Cluster(Loads())


def test_workers_that_find_no_room_any_more_are_not_waited_for(
    tmp_path: Path, stand_in: StandIn
) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.csv"
    run(files, output, resume=False)
    expected = output.read_bytes()
    stand_in.room = 3
    mortal = {"marks": tmp_path / "marks", "dies_at": ("b.mgf", 17), "lives": 2}
    gather(Nodes(), files, output, **mortal)
    assert output.read_bytes() == expected
    assert stand_in.actors > 3


def test_workers_that_die_as_they_start(stand_in: StandIn) -> None:
    with pytest.raises(InputError, match="die as they start: killed"):
        Cluster(Loads(problem=Killed()))
    assert stand_in.actors == MAX_DEATHS


def test_a_model_that_cannot_be_loaded(nodes: Nodes) -> None:
    with pytest.raises(InputError, match=r"^is no checkpoint$"):
        Cluster(Loads(problem=InputError("is no checkpoint")), nodes.address)


def test_workers_of_another_version_or_model(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = iter(range(1, 99))

    def load(device: str) -> Windowed:
        loaded = Windowed()
        loaded.window = next(windows)
        return loaded

    with (
        Cluster(load) as workers,
        pytest.raises(InputError, match="workers of the Ray cluster do not have the same model"),
    ):
        gather_files(workers, inputs(tmp_path), tmp_path / "out.csv", None, lambda _: None)
    monkeypatch.setattr(cluster, "__version__", "99")
    with pytest.raises(InputError, match=r"a worker has tinynovo \S+, not 99 \(install the same"):
        Cluster(Loads())


def test_where_no_cluster_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:port"):
        with pytest.raises(InputError, match=f"no Ray cluster can be used at {address}: "):
            cluster._connect(None, address, None)


def test_what_ray_writes_past_python_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    with cluster._hushed():
        os.write(2, b"noise")
        warnings.warn("noise", stacklevel=1)
    os.write(2, b"told")
    assert capfd.readouterr().err == "told"


def test_ray_is_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    files = [str(file) for file in inputs(tmp_path)]
    assert cli.main(["sequence", *files, "-o", str(tmp_path / "out.csv"), "--ray"]) == 1
    told = "tinynovo: error: Ray is not installed (pip install 'tinynovo[ray]')\n"
    assert capsys.readouterr().err == told
    assert cli.main(["sequence", *files, "-o", str(tmp_path / "o.csv"), "--ray-workers", "2"]) == 1
    assert capsys.readouterr().err == "tinynovo: error: --ray-workers is given without --ray\n"
    with pytest.raises(SystemExit) as left:
        cli.main(["sequence", "--ray", *files, "-o", str(tmp_path / "out.csv")])
    assert left.value.code == 2
    assert "files go before --ray, or say --ray local" in capsys.readouterr().err


SILENT = """
import sys
from pathlib import Path
import test_cluster, test_journeys, test_resume
for module in (test_cluster, test_journeys, test_resume):
    test_cluster.cluster._library().cloudpickle.register_pickle_by_value(module)
files, output, marks = map(Path, sys.argv[1:-2]), *map(Path, sys.argv[-2:])
loads = test_cluster.Loads(dict(marks=marks, dies_at=("b.mgf", 17), lives=1, signal=True))
with test_cluster.Cluster(loads, workers=2) as workers:
    assert workers._ray.cluster_resources()["CPU"] == 2
    test_cluster.gather_files(workers, list(files), output, None, lambda _: None)
"""


def test_a_cluster_of_this_machine_alone_is_silent_though_a_worker_dies(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    files, output, marks = inputs(tmp_path), tmp_path / "out.mztab", tmp_path / "marks"
    run(files, output, resume=False)
    expected = output.read_bytes()
    paths = [str(Path(__file__).parent), *sys.path]
    ended = subprocess.run(
        [sys.executable, "-c", SILENT, *map(str, [*files, output, marks])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert output.read_bytes() == expected
    assert marks.read_text() == "x"


def test_a_node_that_is_lost(tmp_path: Path, three_nodes: Nodes) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.mztab"
    run(files, output, resume=False)
    expected = output.read_bytes()
    lost: list[object] = []
    marks = tmp_path / "marks"
    marks.mkdir()

    def advance(spectra: int) -> None:
        if spectra and not lost:
            lost.append(three_nodes.real.worker_nodes.copy().pop())
            three_nodes.real.remove_node(lost[0], allow_graceful=False)

    outcome = gather(three_nodes, files, output, advance=advance, marks=marks, crowd=3)
    assert len(list(marks.iterdir())) >= 3
    assert lost
    assert output.read_bytes() == expected
    assert outcome.spectra == sum(map(len, SCORES))
