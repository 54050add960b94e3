"""Runs that are cut short and gone on with: the same comes out as of a run in one piece."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from test_journeys import Fake, mgf

from tinynovo import cli
from tinynovo.errors import InputError
from tinynovo.gathering import Outcome
from tinynovo.journeys import sequence_files
from tinynovo.psm import PSM
from tinynovo.spectrum import Spectrum
from tinynovo.writers import WRITERS

SCORES = [[0.9, None, 0.4, 0.8, 0.1] * 7, [0.95, 0.5] * 15, [0.3] * 5]
IN_ALL = sum(map(len, SCORES))


class Killed(BaseException):
    """Nobody catches this."""


@dataclass
class Windowed(Fake):
    """Answers depend on which spectra are sequenced together; it may be killed at some spectrum."""

    killed_at: tuple[str, int] | None = None
    signal: bool = False
    asked: Counter[str] = field(default_factory=Counter)

    def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        for place, spectrum in enumerate(spectra):
            here = Path(spectrum.file).name
            self.asked[here] += 1
            if (here, spectrum.index) == self.killed_at:
                if self.signal:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Killed
            (rows,) = super().rows([spectrum])
            share = 1 + place % self.window
            yield [
                replace(psm, score=psm.score and psm.score / share, error_ppm=1.5) for psm in rows
            ]


def inputs(folder: Path) -> list[Path]:
    """Three files; the second is cut off."""
    files = [mgf(folder / f"{n}.mgf", scores) for n, scores in zip("abc", SCORES, strict=True)]
    files[1].write_text(files[1].read_text("utf-8") + "BEGIN IONS\n100 1\n", "utf-8")
    return files


def run(
    files: Sequence[Path],
    output: Path,
    fdr: float | None = None,
    *,
    resume: bool = True,
    report: bool = False,
    **fake: object,
) -> tuple[Outcome, Windowed]:
    sequencer = Windowed(top_match=2, **fake)
    page = output.with_suffix(".html") if report else None
    told = sequence_files(sequencer, files, output, None, lambda _: None, page, fdr, resume=resume)
    return told, sequencer


CUTS = [("a.mgf", 0), ("a.mgf", 11), ("a.mgf", 34), ("b.mgf", 16), ("b.mgf", 29), ("c.mgf", 4)]


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("fdr", [None, 0.5])
@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_gone_on_with_comes_out_as_in_one_piece(
    tmp_path: Path, suffix: str, fdr: float | None, cut: tuple[str, int]
) -> None:
    files, output = inputs(tmp_path), tmp_path / f"out.{suffix}"
    whole, _ = run(files, output, fdr, resume=False)
    expected = output.read_bytes()
    output.unlink()
    with pytest.raises(Killed):
        run(files, output, fdr, killed_at=cut)
    outcome, sequencer = run(files, output, fdr)
    assert output.read_bytes() == expected
    done = sum(len(s) for n, s in zip("abc", SCORES, strict=True) if n < cut[0][0])
    assert outcome.kept == done + cut[1] // Fake.window * Fake.window
    assert sequencer.asked.total() == IN_ALL - outcome.kept
    assert [str(c) for c in outcome.complaints] == [str(c) for c in whole.complaints]
    assert len(outcome.complaints) == 1
    assert replace(outcome, kept=0, complaints=[]) == replace(whole, complaints=[])
    assert not output.with_name(f"{output.name}.rows").exists()


def test_the_report_is_the_same_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files, output = inputs(tmp_path), tmp_path / "out.csv"
    run(files, output, resume=False, report=True)
    page = output.with_suffix(".html")
    expected = page.read_text("utf-8")
    page.unlink()
    with pytest.raises(Killed):
        run(files, output, report=True, killed_at=("b.mgf", 16))
    run(files, output, report=True)
    assert page.read_text("utf-8") == expected


def test_runs_that_are_cut_short_again_and_again_come_to_an_end(tmp_path: Path) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.parquet"
    run(files, output, resume=False)
    expected = output.read_bytes()
    for cut in CUTS:
        with pytest.raises(Killed):
            run(files, output, killed_at=cut)
    run(files, output)
    assert output.read_bytes() == expected


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), InputError("odd")])
def test_an_interrupt_leaves_an_output_and_what_is_needed_to_go_on(
    tmp_path: Path, failure: BaseException
) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.csv"
    run(files, output, resume=False)
    expected = output.read_bytes()
    with pytest.raises(type(failure)):
        run(files, output, fail_at=30, failure=failure)
    left = output.read_bytes()
    assert expected.startswith(left)
    assert left.count(b"\n") > 30
    assert run(files, output)[0].kept == 24
    assert output.read_bytes() == expected


def test_the_rate_may_be_another(tmp_path: Path) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.mztab"
    run(files, output, 0.3, resume=False)
    expected = output.read_bytes()
    with pytest.raises(Killed):
        run(files, output, 0.01, killed_at=("b.mgf", 3))
    assert run(files, output, 0.3)[0].kept == len(SCORES[0])
    assert output.read_bytes() == expected


def test_without_resume_nothing_is_kept(tmp_path: Path) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.csv"
    with pytest.raises(Killed):
        run(files, output, killed_at=("b.mgf", 16))
    for fdr in (None, 0.5):
        assert run(files, output, fdr, resume=False)[1].asked.total() == IN_ALL
    assert not output.with_name("out.csv.rows").exists()


def test_a_refusal_leaves_the_output_of_before(tmp_path: Path) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.csv"
    with pytest.raises(Killed):
        run(files, output, killed_at=("b.mgf", 16))
    output.write_text("precious")
    files[2].write_text("")
    with pytest.raises(InputError, match="has changed since"):
        run(files, output)
    assert output.read_text() == "precious"


def test_an_output_of_no_format_leaves_nothing(tmp_path: Path) -> None:
    files = inputs(tmp_path)
    with pytest.raises(InputError, match="is of no known output format"):
        run(files, tmp_path / "out.xls")
    assert sorted(tmp_path.iterdir()) == files


KILL = """
from pathlib import Path
import sys
from test_resume import run
*files, output, name, index, fdr = sys.argv[1:]
cut = (name, int(index))
run([Path(f) for f in files], Path(output), float(fdr), killed_at=cut, signal=True)
"""


def test_a_run_that_is_killed_can_be_gone_on_with(tmp_path: Path) -> None:
    files, output = inputs(tmp_path), tmp_path / "out.mztab"
    run(files, output, 0.5, resume=False)
    expected = output.read_bytes()
    arguments = [*map(str, files), str(output), "b.mgf", "19", "0.5"]
    paths = [str(Path(__file__).parent), str(Path(cli.__file__).parents[1])]
    killed = subprocess.run(
        [sys.executable, "-c", KILL, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    outcome, _ = run(files, output, 0.5)
    assert outcome.kept == len(SCORES[0]) + 16
    assert output.read_bytes() == expected
