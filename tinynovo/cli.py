"""The command line: arguments to a verb to an exit code.

Knows how a user asks. Does not know what is done then.

Exit codes: 0, everything was read and answered; 1, something given cannot be used; 2, the command
itself is wrong; 130, interrupted.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tinynovo import verbs
from tinynovo.errors import InputError

FORMATS = ("mztab", "csv", "parquet")


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
        verbs.say("interrupted")
        return 130
    except OSError as failure:
        complaints = [InputError(failure.strerror or str(failure), file=failure.filename)]
    for complaint in complaints:
        verbs.say(f"error: {complaint}")
    return 1 if complaints else 0


def run() -> NoReturn:
    """Run the command of this process, and leave without a last search for garbage.

    In all that torch and numba have loaded that takes longer than many a command.
    """
    code = main()
    gc.freeze()
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line; ``docs/cli.md`` is generated from it."""
    top = argparse.ArgumentParser(
        prog="tinynovo", description="De novo peptide sequencing with a tiny recursive model."
    )
    grammar = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    _sequence_parser(grammar)
    _score_parser(grammar)
    _train_parser(grammar)
    _evaluate_parser(grammar)
    _calibrate_parser(grammar)
    _simulate_parser(grammar)
    _report_parser(grammar)
    text = "write the options of sequence, each explained, as YAML"
    configure = _verb(grammar, "configure", verbs.configure, text)
    configure.add_argument("-o", "--output", type=Path, help="new file; default: the screen")
    _verb(grammar, "version", verbs.version, "print the versions of tinynovo and what it stands on")
    return top


if TYPE_CHECKING:
    Grammar = argparse._SubParsersAction[argparse.ArgumentParser]
    Run = Callable[[argparse.Namespace], list[InputError]]


def _verb(grammar: Grammar, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    verb = grammar.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(run=run)
    return verb


def _sequence_parser(grammar: Grammar) -> None:
    text = "read peptides off the spectra of MGF, mzML, mzXML or Parquet files"
    verb = _verb(grammar, "sequence", verbs.sequence, text)
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="spectra; .gz too")
    verb.add_argument("-o", "--output", type=Path, required=True, help="where the rows go")
    verb.add_argument("-f", "--format", choices=FORMATS, help="default: by the output's name")
    _effort_argument(verb)
    _model_arguments(verb)
    verb.add_argument("--top-match", type=_count, help="answers a spectrum at most")
    text = "keep only peptides that meet this false discovery rate; 1 keeps all, with q-values"
    verb.add_argument("--fdr", type=_rate, help=text)
    verb.add_argument("--report", type=Path, help="also draw what was found, on an HTML page")
    text = "go on where an earlier run with --resume was cut short; rows wait in OUTPUT.rows"
    verb.add_argument("--resume", action="store_true", help=text)
    text = "let workers of a Ray cluster do it, by default of one of this machine alone"
    verb.add_argument(
        "--ray", nargs="?", const="local", type=_address, metavar="ADDRESS", help=text
    )
    text = "workers of the cluster; default: a GPU each, or as many CPUs as --threads, which is 1"
    verb.add_argument("--ray-workers", type=_count, metavar="N", help=text)
    verb.add_argument("-v", "--verbose", action="store_true", help="print the settings in force")


def _score_parser(grammar: Grammar) -> None:
    text = "score the candidates of any tool, or of a proteome, as the model sees them"
    verb = _verb(grammar, "score", verbs.score, text)
    verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="spectra; .gz too")
    source = verb.add_mutually_exclusive_group(required=True)
    text = "peptides to score: mzTab, CSV, TSV, Parquet or pin of any tool"
    source.add_argument("--candidates", type=Path, help=text)
    text = "proteins to search: their tryptic peptides, and reversed ones as decoys"
    source.add_argument("--fasta", type=Path, help=text)
    verb.add_argument("-o", "--output", type=Path, required=True, help="where the rows go")
    verb.add_argument("-f", "--format", choices=FORMATS, help="default: by the output's name")
    text = "also write what was judged, decoys too, as a table for Percolator and mokapot"
    verb.add_argument("--pin", type=Path, help=text)
    text = "keep only peptides that meet this false discovery rate; default: 1, all"
    verb.add_argument("--fdr", type=_rate, default=1.0, help=text)
    text = "of a peptide of the proteome, at most; default: 1"
    verb.add_argument("--missed-cleavages", type=int, choices=range(6), default=1, help=text)
    text = "variable modifications of a peptide of the proteome, at most; default: 2"
    verb.add_argument("--max-mods", type=int, choices=range(6), default=2, help=text)
    text = "peptides of the proteome that are judged for a precursor mass; default: 8"
    verb.add_argument("--nominated", type=_count, default=8, help=text)
    _model_arguments(verb)
    verb.add_argument("--top-match", type=_count, help="peptides of the proteome told a spectrum")


def _train_parser(grammar: Grammar) -> None:
    verb = _verb(grammar, "train", verbs.train, "train a model as a configuration says")
    verb.add_argument("--config", "-c", type=Path, required=True, help="YAML, as in configs/")
    _set_argument(verb)
    verb.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def _evaluate_parser(grammar: Grammar) -> None:
    text = "count how many peptides and residues are right"
    verb = _verb(grammar, "evaluate", verbs.evaluate, text)
    verb.add_argument(
        "files", nargs="+", type=Path, metavar="LABELLED", help="MGF with SEQ=, or Parquet"
    )
    verb.add_argument(
        "--predictions", type=Path, help="mzTab or CSV of any tool; default: sequence now"
    )
    _effort_argument(verb)
    verb.add_argument("--json", type=Path, help="write everything counted to this file")
    verb.add_argument("--limit", type=_count, help="only the first so many spectra of each file")
    _model_arguments(verb)


def _calibrate_parser(grammar: Grammar) -> None:
    text = "fit scores to labelled spectra, so that they are probabilities"
    verb = _verb(grammar, "calibrate", verbs.calibrate, text)
    verb.add_argument(
        "files", nargs="+", type=Path, metavar="LABELLED", help="not trained on; MGF or Parquet"
    )
    verb.add_argument("-o", "--output", type=Path, required=True, help="the calibrated checkpoint")
    verb.add_argument("-m", "--model", type=Path, help="checkpoint; default: the packaged weights")
    verb.add_argument("--limit", type=_count, help="only the first so many spectra of each file")
    verb.add_argument("--threads", type=_count, help="CPU threads; default: as torch finds")


def _simulate_parser(grammar: Grammar) -> None:
    text = "write labelled spectra of random peptides or of a digested FASTA"
    verb = _verb(grammar, "simulate", verbs.simulate, text)
    verb.add_argument("-o", "--output", type=Path, required=True, help="an .mgf or .parquet file")
    verb.add_argument("-n", "--number", type=_count, default=1000, help="spectra; default: 1000")
    verb.add_argument("--fasta", type=Path, help="proteins to digest; default: random peptides")
    verb.add_argument("--seed", type=int, default=0, help="same seed, same file; default: 0")
    _set_argument(verb)


def _report_parser(grammar: Grammar) -> None:
    text = "draw training runs, alone or compared, on an HTML page and in Markdown"
    verb = _verb(grammar, "report", verbs.report, text)
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="output directory of train")
    verb.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), help="default: report.html"
    )


def _effort_argument(verb: argparse.ArgumentParser) -> None:
    efforts = ("fast", "default", "max")
    text = "speed or accuracy: sets several options, which --set may set again; default: default"
    verb.add_argument("--effort", choices=efforts, default="default", help=text)


def _model_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-m", "--model", type=Path, help="checkpoint; default: the packaged weights")
    verb.add_argument("-c", "--config", type=Path, help="YAML as written by configure")
    text = "modifications on, off or fixed, as in Phospho=off,TMT6plex=fixed; default: all on"
    kind = "NAME=STATE,..."
    verb.add_argument(
        "--mods", type=_switches, action="extend", default=[], metavar=kind, help=text
    )
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


def _address(text: str) -> str:
    """An address of a cluster, and no file that stands behind the option by mistake."""
    if text not in ("auto", "local") and ":" not in text:
        problem = f"{text!r} is not auto, local, HOST:PORT or ray://HOST:PORT"
        raise argparse.ArgumentTypeError(f"{problem}; files go before --ray, or say --ray local")
    return text


def _switches(text: str) -> list[str]:
    """Switched modifications as overrides of the option `mods`."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not all(part.partition("=")):
            raise argparse.ArgumentTypeError(f"{part!r} is no NAME=on, NAME=off or NAME=fixed")
    return [f"mods.{part}" for part in parts]


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return rate
