"""The command line: arguments to a journey to an exit code.

Knows how a user asks and is answered; the only room that prints. Does not know mathematics. The
rooms that a verb needs are imported when it runs, so that ``tinynovo --help`` is quick.

Exit codes: 0, everything was read and answered; 1, something given cannot be used; 2, the command
itself is wrong; 130, interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tinynovo import __version__
from tinynovo.errors import InputError

if TYPE_CHECKING:
    from tinynovo.calibration import Calibration
    from tinynovo.evaluation import Figures, Metrics
    from tinynovo.journeys import Outcome
    from tinynovo.sequencing import Sequencer


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; those of the process when left out.

    Returns
    -------
    int
        The exit code.
    """
    # Before torch is imported: threads that spin while they wait for one another make a run on a
    # busy machine ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        arguments = parser().parse_args(argv)
        complaints: list[InputError] = arguments.run(arguments)
    except InputError as failure:
        complaints = [failure]
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except OSError as failure:
        complaints = [InputError(failure.strerror or str(failure), file=failure.filename)]
    for complaint in complaints:
        _say(f"error: {complaint}")
    return 1 if complaints else 0


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line; ``docs/cli.md`` is generated from it."""
    top = argparse.ArgumentParser(
        prog="tinynovo", description="De novo peptide sequencing with a tiny recursive model."
    )
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    _sequence_parser(verbs)
    _train_parser(verbs)
    _evaluate_parser(verbs)
    _calibrate_parser(verbs)
    _simulate_parser(verbs)
    _report_parser(verbs)
    text = "write the options of sequence, each explained, as YAML"
    configure = _verb(verbs, "configure", _configure, text)
    configure.add_argument("-o", "--output", type=Path, help="new file; default: the screen")
    _verb(verbs, "version", _version, "print the versions of tinynovo and what it stands on")
    return top


if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]
    Run = Callable[[argparse.Namespace], list[InputError]]


def _verb(verbs: Verbs, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(run=run)
    return verb


def _sequence_parser(verbs: Verbs) -> None:
    text = "read peptides off the spectra of MGF, mzML, mzXML or Parquet files"
    verb = _verb(verbs, "sequence", _sequence, text)
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="spectra; .gz too")
    verb.add_argument("-o", "--output", type=Path, required=True, help="where the rows go")
    formats = ("mztab", "csv", "parquet")
    verb.add_argument("-f", "--format", choices=formats, help="default: by the output's name")
    _model_arguments(verb)
    verb.add_argument("--top-match", type=_count, help="answers a spectrum at most")
    verb.add_argument("--report", type=Path, help="also draw what was found, on an HTML page")
    verb.add_argument("-v", "--verbose", action="store_true", help="print the settings in force")


def _train_parser(verbs: Verbs) -> None:
    verb = _verb(verbs, "train", _train, "train a model as a configuration says")
    verb.add_argument("--config", "-c", type=Path, required=True, help="YAML, as in configs/")
    _set_argument(verb)
    verb.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def _evaluate_parser(verbs: Verbs) -> None:
    text = "count how many peptides and residues are right"
    verb = _verb(verbs, "evaluate", _evaluate, text)
    verb.add_argument(
        "files", nargs="+", type=Path, metavar="LABELLED", help="MGF with SEQ=, or Parquet"
    )
    verb.add_argument(
        "--predictions", type=Path, help="mzTab or CSV of any tool; default: sequence now"
    )
    verb.add_argument("--json", type=Path, help="write everything counted to this file")
    verb.add_argument("--limit", type=_count, help="only the first so many spectra of each file")
    _model_arguments(verb)


def _calibrate_parser(verbs: Verbs) -> None:
    text = "fit scores to labelled spectra, so that they are probabilities"
    verb = _verb(verbs, "calibrate", _calibrate, text)
    verb.add_argument(
        "files", nargs="+", type=Path, metavar="LABELLED", help="not trained on; MGF or Parquet"
    )
    verb.add_argument("-o", "--output", type=Path, required=True, help="the calibrated checkpoint")
    verb.add_argument("-m", "--model", type=Path, help="checkpoint; default: the packaged weights")
    verb.add_argument("--limit", type=_count, help="only the first so many spectra of each file")
    verb.add_argument("--threads", type=_count, help="CPU threads; default: as torch finds")


def _simulate_parser(verbs: Verbs) -> None:
    text = "write labelled spectra of random peptides or of a digested FASTA"
    verb = _verb(verbs, "simulate", _simulate, text)
    verb.add_argument("-o", "--output", type=Path, required=True, help="an .mgf or .parquet file")
    verb.add_argument("-n", "--number", type=_count, default=1000, help="spectra; default: 1000")
    verb.add_argument("--fasta", type=Path, help="proteins to digest; default: random peptides")
    verb.add_argument("--seed", type=int, default=0, help="same seed, same file; default: 0")
    _set_argument(verb)


def _report_parser(verbs: Verbs) -> None:
    text = "draw training runs, alone or compared, on an HTML page and in Markdown"
    verb = _verb(verbs, "report", _report, text)
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="output directory of train")
    verb.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), help="default: report.html"
    )


def _model_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-m", "--model", type=Path, help="checkpoint; default: the packaged weights")
    verb.add_argument("-c", "--config", type=Path, help="YAML as written by configure")
    efforts = ("fast", "default", "max")
    text = "speed or accuracy: sets several options, which --set may set again; default: default"
    verb.add_argument("--effort", choices=efforts, default="default", help=text)
    _set_argument(verb)
    devices = ("auto", "cpu", "cuda", "mps")
    verb.add_argument("--device", choices=devices, default="auto", help="default: auto")
    verb.add_argument("--threads", type=_count, help="CPU threads; default: as torch finds")
    verb.add_argument("--batch-size", type=_count, help="spectra that go through the model at once")


def _set_argument(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one option, as in --set a.b=1; may be given again",
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _sequence(arguments: argparse.Namespace) -> list[InputError]:
    from tinynovo.journeys import check_output, sequence_files

    check_output(arguments.output, arguments.files)
    if arguments.report:
        check_output(arguments.report, [*arguments.files, arguments.output])
    sequencer = _sequencer(arguments)
    if arguments.verbose:
        for key, value in sequencer.settings.items():
            _say(f"{key} = {value}")
    start = time.monotonic()
    with _progress() as advance:
        outcome = sequence_files(
            sequencer,
            arguments.files,
            arguments.output,
            arguments.format,
            advance,
            arguments.report,
        )
    _say(_summary(outcome, len(arguments.files), time.monotonic() - start))
    return outcome.complaints


def _summary(outcome: Outcome, files: int, seconds: float) -> str:
    parts = [f"{outcome.answered} answered"]
    parts += [f"{count} not: {reason}" for reason, count in outcome.reasons.most_common()]
    of = "1 file" if files == 1 else f"{files} files"
    return f"{outcome.spectra} spectra of {of} in {seconds:.1f} s: {'; '.join(parts)}"


def _train(arguments: argparse.Namespace) -> list[InputError]:
    from tinynovo import config
    from tinynovo.stages import TrainingOptions
    from tinynovo.training import train

    options = config.load(TrainingOptions, arguments.config, arguments.set)
    print(train(options, resume=arguments.resume))
    return []


def _evaluate(arguments: argparse.Namespace) -> list[InputError]:
    from tinynovo.journeys import check_output, evaluate_files

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


def _calibrate(arguments: argparse.Namespace) -> list[InputError]:
    from tinynovo import checkpoint, config
    from tinynovo.calibration import fit
    from tinynovo.journeys import check_output, learned_answers
    from tinynovo.options import EFFORTS, SequencingOptions
    from tinynovo.sequencing import Sequencer

    check_output(arguments.output, [*arguments.files, arguments.model])
    _use_threads(arguments.threads)
    fitted: dict[str, Calibration] = {}
    for effort in ("default", "fast"):
        options = config.load(SequencingOptions, None, EFFORTS[effort])
        sequencer = Sequencer.load(arguments.model, options)
        with _progress() as advance:
            known = list(learned_answers(sequencer, arguments.files, arguments.limit, advance))
        fitted[options.strategy] = fit([row[1] for row in known], [row[2] for row in known])
        _say(f"{options.strategy}: fitted to {len(known)} answers")
    checkpoint.calibrated(arguments.model, arguments.output, fitted)
    return []


def _use_threads(count: int | None) -> None:
    if count:
        import torch

        torch.set_num_threads(count)


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


def _simulate(arguments: argparse.Namespace) -> list[InputError]:
    from tinynovo import config
    from tinynovo.journeys import check_output, simulate_file
    from tinynovo.rendering import SimulationOptions

    check_output(arguments.output, [arguments.fasta])
    options = config.load(SimulationOptions, None, arguments.set)
    simulate_file(arguments.output, arguments.number, arguments.fasta, options, seed=arguments.seed)
    return []


def _report(arguments: argparse.Namespace) -> list[InputError]:
    from tinynovo.journeys import review_runs

    for page in review_runs(arguments.output, arguments.runs):
        print(page)
    return []


def _configure(arguments: argparse.Namespace) -> list[InputError]:
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


def _version(_: argparse.Namespace) -> list[InputError]:
    from importlib.metadata import version

    print(f"tinynovo {__version__}")
    for name in ("torch", "numpy", "pyteomics"):
        print(f"{name} {version(name)}")
    return []


def _sequencer(arguments: argparse.Namespace) -> Sequencer:
    from tinynovo import config
    from tinynovo.options import EFFORTS, SequencingOptions
    from tinynovo.sequencing import Sequencer

    overrides = [*EFFORTS[arguments.effort], *arguments.set]
    if arguments.batch_size:
        overrides.append(f"predict_batch_size={arguments.batch_size}")
    if getattr(arguments, "top_match", None):
        overrides.append(f"top_match={arguments.top_match}")
    options = config.load(SequencingOptions, arguments.config, overrides)
    _use_threads(arguments.threads)
    return Sequencer.load(arguments.model, options, device=arguments.device)


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


def _say(text: str) -> None:
    print(f"tinynovo: {text}", file=sys.stderr)
