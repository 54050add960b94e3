"""Verbs: what each verb of the command line does, from its arguments to what it prints.

Knows what users are told, and which journey a verb is. Does not know the grammar, nor mathematics.
The rooms that a verb needs are imported when it runs, so that ``tinynovo --help`` is quick.

Each takes its arguments and returns what was wrong with single files; the others were done.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from tinynovo import __version__
from tinynovo.errors import InputError

if TYPE_CHECKING:
    from tinynovo.calibration import Calibration
    from tinynovo.cluster import Cluster
    from tinynovo.database import Search
    from tinynovo.evaluation import Figures, Metrics
    from tinynovo.gathering import Outcome
    from tinynovo.options import SequencingOptions
    from tinynovo.sequencing import Sequencer


def sequence(arguments: Namespace) -> list[InputError]:
    """Write a row for every spectrum, and a page."""
    from tinynovo.journeys import check_output

    check_output(arguments.output, arguments.files)
    if arguments.report:
        check_output(arguments.report, [*arguments.files, arguments.output])
    with ExitStack() as stack:
        settings, journey = _journey(arguments, stack)
        if arguments.verbose:
            for key, value in settings.items():
                say(f"{key} = {value}")
        start = time.monotonic()
        outcome = journey(
            arguments.files,
            arguments.output,
            arguments.format,
            stack.enter_context(_progress()),
            arguments.report,
            arguments.fdr,
            resume=arguments.resume,
        )
    return _told(outcome, arguments, start)


def _journey(
    arguments: Namespace, stack: ExitStack
) -> tuple[Mapping[str, str], Callable[..., Outcome]]:
    """Sequencing by this process, or by a cluster that is left with the stack, and its settings."""
    if arguments.ray is None:
        from tinynovo.journeys import sequence_files

        if arguments.ray_workers:
            raise InputError("--ray-workers is given without --ray")
        sequencer = _sequencer(arguments)
        return sequencer.settings, partial(sequence_files, sequencer)
    from tinynovo.gathering import gather_files

    cluster = stack.enter_context(_cluster(arguments))
    return cluster.settings, partial(gather_files, cluster)


def _told(outcome: Outcome, arguments: Namespace, start: float) -> list[InputError]:
    """Say what became of the spectra; what was wrong."""
    fdr, files = arguments.fdr, len(arguments.files)
    kept = "answered" if fdr in (None, 1.0) else f"kept at {fdr:g} FDR"
    parts = [f"{outcome.answered} {kept}"]
    parts += [f"{count} not: {code}" for code, count in outcome.reasons.most_common()]
    of = "1 file" if files == 1 else f"{files} files"
    seconds = time.monotonic() - start
    kept_so = f" ({outcome.kept} kept of an earlier run)" if outcome.kept else ""
    say(f"{outcome.spectra} spectra of {of} in {seconds:.1f} s{kept_so}: {'; '.join(parts)}")
    return outcome.complaints


def score(arguments: Namespace) -> list[InputError]:
    """Write a row for every candidate, or the best of a proteome for every spectrum."""
    from tinynovo.journeys import check_output, score_files
    from tinynovo.matching import Candidates

    given = [*arguments.files, arguments.candidates or arguments.fasta]
    check_output(arguments.output, given)
    if arguments.pin:
        check_output(arguments.pin, [*given, arguments.output])
    sequencer = _sequencer(arguments)
    proposals = (
        Candidates(arguments.candidates, several=len(arguments.files) > 1)
        if arguments.candidates
        else _search(arguments, sequencer.options)
    )
    start = time.monotonic()
    with _progress() as advance:
        outcome = score_files(
            sequencer,
            arguments.files,
            proposals,
            arguments.output,
            arguments.format,
            advance,
            arguments.fdr,
            arguments.pin,
        )
    return _told(outcome, arguments, start)


def _search(arguments: Namespace, options: SequencingOptions) -> Search:
    from tinynovo.database import Database, Search
    from tinynovo.digestion import Forms, cleaved
    from tinynovo.masses import Tolerance

    with _waiting(f"digesting {arguments.fasta}"):
        pieces = cleaved(
            arguments.fasta,
            missed_cleavages=arguments.missed_cleavages,
            min_length=options.min_peptide_len,
            max_length=options.max_peptide_len,
        )
        database = Database(pieces, Forms.by(options.mods, arguments.max_mods))
    say(f"{len(database)} peptides and decoys of {arguments.fasta}")
    tolerance = Tolerance.parse(options.precursor_mass_tol)
    return Search(database, tolerance, arguments.nominated, options.top_match)


def train(arguments: Namespace) -> list[InputError]:
    """Train as a configuration says."""
    from tinynovo import config
    from tinynovo.stages import TrainingOptions
    from tinynovo.training import train

    options = config.load(TrainingOptions, arguments.config, arguments.set)
    print(train(options, resume=arguments.resume))
    return []


def evaluate(arguments: Namespace) -> list[InputError]:
    """Count what is right."""
    from tinynovo.comparing import evaluate_files
    from tinynovo.journeys import check_output

    if arguments.json:
        check_output(arguments.json, [*arguments.files, arguments.predictions])
    sequencer = None if arguments.predictions else _sequencer(arguments)
    with _progress() as advance:
        metrics = evaluate_files(
            sequencer or arguments.predictions, arguments.files, arguments.limit, advance
        )
    if arguments.json:
        result = {
            "tinynovo": __version__,
            "files": [str(file) for file in arguments.files],
            "predictions": arguments.predictions and str(arguments.predictions),
            "settings": sequencer.settings if sequencer else {},
            **metrics.as_dict(),
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    _print_metrics(metrics)
    return []


def calibrate(arguments: Namespace) -> list[InputError]:
    """Write a checkpoint whose scores are probabilities."""
    from tinynovo import checkpoint, config
    from tinynovo.calibration import fit
    from tinynovo.comparing import learned_answers
    from tinynovo.journeys import check_output
    from tinynovo.options import EFFORTS, SequencingOptions
    from tinynovo.sequencing import Sequencer
    from tinynovo.solving import use_threads

    check_output(arguments.output, [*arguments.files, arguments.model])
    use_threads(arguments.threads)
    fitted: dict[str, Calibration] = {}
    for effort in ("default", "fast"):
        options = config.load(SequencingOptions, None, EFFORTS[effort])
        sequencer = Sequencer.load(arguments.model, options)
        with _progress() as advance:
            known = list(learned_answers(sequencer, arguments.files, arguments.limit, advance))
        fitted[options.strategy] = fit([row[1] for row in known], [row[2] for row in known])
        say(f"{options.strategy}: fitted to {len(known)} answers")
    checkpoint.calibrated(arguments.model, arguments.output, fitted)
    return []


def _print_metrics(metrics: Metrics) -> None:
    from rich.console import Console
    from rich.table import Table

    from tinynovo.evaluation import DEFINITIONS

    def show(*header: str, rows: Iterable[list[str]]) -> None:
        table = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*row)
        console.print(table, "")

    def cell(figures: Figures, name: str) -> str:
        ends = figures.intervals.get(name)
        interval = f" {ends[0]:.3f}-{ends[1]:.3f}" if ends else ""
        return _number(getattr(figures, name)) + interval

    console = Console(highlight=False)
    console.print(f"{metrics.spectra} spectra, {metrics.predicted} predicted")
    if metrics.unknown:
        console.print(f"{metrics.unknown} predictions hold unknown residues and count as wrong")
    console.print()
    columns = (metrics.published, metrics.strict, metrics.exact)
    names = ("peptide_recall", "peptide_precision", "auc", "aa_precision", "aa_recall")
    rows = [[name, *(cell(column, name) for column in columns)] for name in names]
    show("figure", "published", "strict", "exact", rows=rows)
    short = ("peptide_recall", "peptide_precision", "aa_precision")
    for kind, groups in metrics.groups.items():
        rows = [
            [group, str(row["spectra"]), *(_number(row[name]) for name in short)]
            for group, row in groups.items()
        ]
        show(kind, "spectra", *short, rows=rows)
    for name, text in DEFINITIONS.items():
        console.print(f"{name}: {text}", style="dim")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def simulate(arguments: Namespace) -> list[InputError]:
    """Write labelled spectra."""
    from tinynovo import config
    from tinynovo.journeys import check_output
    from tinynovo.rendering import SimulationOptions
    from tinynovo.studies import simulate_file

    check_output(arguments.output, [arguments.fasta])
    options = config.load(SimulationOptions, None, arguments.set)
    simulate_file(arguments.output, arguments.number, arguments.fasta, options, seed=arguments.seed)
    return []


def report(arguments: Namespace) -> list[InputError]:
    """Draw training runs."""
    from tinynovo.studies import review_runs

    for page in review_runs(arguments.output, arguments.runs):
        print(page)
    return []


def configure(arguments: Namespace) -> list[InputError]:
    """Write the options of sequencing."""
    from tinynovo import config
    from tinynovo.options import SequencingOptions

    text = f"# Options of tinynovo sequence, for its -c.\n{config.dump(SequencingOptions())}"
    if arguments.output is None:
        print(text, end="")
        return []
    if arguments.output.exists():
        raise InputError("exists already", file=arguments.output, remedy="name a new file")
    arguments.output.write_text(text, "utf-8")
    return []


def version(_: Namespace) -> list[InputError]:
    """Print versions."""
    from importlib.metadata import version

    print(f"tinynovo {__version__}")
    for name in ("torch", "numpy", "pyteomics"):
        print(f"{name} {version(name)}")
    return []


def _sequencer(arguments: Namespace) -> Sequencer:
    options = _options(arguments)
    with _loading():
        from tinynovo.sequencing import Sequencer
        from tinynovo.solving import use_threads

        use_threads(arguments.threads)
        sequencer = Sequencer.load(arguments.model, options, device=arguments.device)
        with _waiting("making ready for this machine: once that takes a minute"):
            sequencer.make_ready()
    if advice := sequencer.advice:
        print(f"tinynovo: {advice}", file=sys.stderr)
    return sequencer


@contextmanager
def _loading() -> Iterator[None]:
    """What is loaded meanwhile stays: nobody looks for garbage in it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _cluster(arguments: Namespace) -> Cluster:
    options = _options(arguments)
    from tinynovo.cluster import Cluster
    from tinynovo.worker import Load

    threads = arguments.threads or 1
    load = Load(arguments.model, options, threads)
    with _waiting("starting workers"):
        return Cluster(load, arguments.ray, arguments.ray_workers, threads, arguments.device)


def _options(arguments: Namespace) -> SequencingOptions:
    from tinynovo import config
    from tinynovo.options import EFFORTS, SequencingOptions

    effort = EFFORTS[getattr(arguments, "effort", "default")]
    overrides = [*effort, *arguments.set, *arguments.mods]
    if arguments.batch_size:
        overrides.append(f"predict_batch_size={arguments.batch_size}")
    if getattr(arguments, "top_match", None):
        overrides.append(f"top_match={arguments.top_match}")
    return config.load(SequencingOptions, arguments.config, overrides)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A counter on stderr where that is a terminal; yields what moves it on."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} spectra"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)
        yield lambda count: progress.advance(task, count)


def _waiting(what: str) -> AbstractContextManager[object]:
    """Something that moves on stderr, where that is a terminal."""
    from rich.console import Console

    return Console(stderr=True).status(what) if sys.stderr.isatty() else nullcontext()


def say(text: str) -> None:
    """Tell the user something beside the output."""
    print(f"tinynovo: {text}", file=sys.stderr)
