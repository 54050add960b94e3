"""What the loop does step by step, started from the draft and from an empty answer.

Run ``python benchmarks/refinement.py``; writes ``results/refinement.json`` and
``../docs/figures/refinement.png``. Step 0 is what the loop starts from.

token_accuracy, sequence_accuracy: residues and whole answers that are right among the argmax of the
logits, residues of equal mass counting as the same. flip_rate: residues that differ from the step
before. peptide_recall: the best answer of exact precursor mass that the logits hold, by the
published rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from common import DATA, FILES, HERE, Labelled, Results, about, arguments, told
from torch import Tensor

from tinynovo.decoding import draft
from tinynovo.evaluation import match
from tinynovo.exact import exact_answers
from tinynovo.losses import same_mass
from tinynovo.model import Memory
from tinynovo.objectives import answer_figures
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.recursion import solve
from tinynovo.searching import BeamOptions
from tinynovo.sequencing import Sequencer
from tinynovo.spectrum import Peaks, preprocess
from tinynovo.tokens import PAD, answer_batch, decode, encode, peak_batch

FIGURE = HERE.parent / "docs" / "figures" / "refinement.png"
STARTS = ("draft", "empty")
ROOM = 2
"""Padded slots beyond the longest answer of a batch."""

Figures = dict[str, float]


def main() -> None:
    """Measure, write and draw."""
    parser = arguments(__doc__.splitlines()[0], "refinement.json")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled files")
    parser.add_argument("--limit", type=int, default=256, help="spectra a file; default: 256")
    parser.add_argument("--steps", type=int, default=16, help="supervision steps; default: 16")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="default: docs/figures")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sequencer = Sequencer.load(given.model, SequencingOptions(), device="cpu")
    values: dict[str, Any] = {
        "about": about(given.model),
        "limit": given.limit,
        "trained_steps": sequencer.frozen.recursion.supervision_steps,
        "definitions": " ".join(__doc__.split("\n\n", 2)[2].split()),
        "files": {},
    }
    results = Results(given.output, values)
    for file in FILES:
        found = curves(sequencer, Labelled(given.data / file, given.limit), given.steps, file)
        values["files"][file] = found
        results.save()
        for start in STARTS:
            recall = " ".join(f"{step['peptide_recall']:.3f}" for step in found[start])
            print(f"{file} from {start}: recall {recall}", flush=True)
    results.finish()
    draw(values, given.figure)


@torch.inference_mode()
def curves(sequencer: Sequencer, labelled: Labelled, steps: int, what: str) -> dict[str, Any]:
    """Figures of every step from either start, over spectra that can be sequenced."""
    usable = list(cleaned(sequencer, labelled))
    usable.sort(key=lambda pair: pair[0].precursor_mass)
    size = sequencer.options.predict_batch_size
    batches = [usable[i : i + size] for i in range(0, len(usable), size)]
    sums: dict[str, list[Figures]] = {start: [{} for _ in range(steps + 1)] for start in STARTS}
    for batch in told(batches, len(batches), f"{what} batches", every=4):
        memory = sequencer.solver.model.remember(peak_batch([peaks for peaks, _ in batch]))
        truths = [truth for _, truth in batch]
        for start in STARTS:
            first = drafts(sequencer, memory) if start == "draft" else None
            found = solved(sequencer, memory, truths, first, steps)
            for total, figures in zip(sums[start], found, strict=True):
                for name, value in figures.items():
                    total[name] = total.get(name, 0.0) + value * len(batch)
    means = {
        start: [{name: value / len(usable) for name, value in total.items()} for total in totals]
        for start, totals in sums.items()
    }
    return {"spectra": len(labelled.spectra), "sequenced": len(usable), **means}


def cleaned(sequencer: Sequencer, labelled: Labelled) -> Iterator[tuple[Peaks, Peptide]]:
    """Cleaned spectra with their labels; those that no answer can fit are left out."""
    for spectrum, peptide in zip(labelled.spectra, labelled.peptides, strict=True):
        peaks = preprocess(spectrum, sequencer.frozen.preprocessing)
        if isinstance(peaks, Peaks) and len(peptide) <= sequencer.options.max_peptide_len:
            yield peaks, peptide


def drafts(sequencer: Sequencer, memory: Memory) -> Tensor:
    """The best draft of every spectrum: int64 [B, S]."""
    options = sequencer.options
    beam = BeamOptions(
        n_beams=options.n_beams,
        candidates=options.candidates,
        max_slots=options.max_peptide_len + ROOM,
    )
    window = sequencer.solver.window(memory.table.batch.residue_mass)
    found = draft(
        sequencer.solver.model.scorer, memory.table, beam, sequencer.solver.permitted, window
    )
    return found.tokens[:, 0]


def solved(
    sequencer: Sequencer, memory: Memory, truths: list[Peptide], first: Tensor | None, steps: int
) -> Iterator[Figures]:
    """Figures of the start, then of every step."""
    answers = [encode(truth) for truth in truths]
    slots = max(len(answer) for answer in answers) + ROOM
    if first is None:
        first = torch.zeros(len(truths), sequencer.options.max_peptide_len + ROOM).long()
    else:
        slots = max(slots, int((first != PAD).sum(-1).max()) + ROOM)
        first = first[:, :slots]
    target = answer_batch(answers, first.shape[1])
    mass = memory.table.batch.residue_mass
    right = same_mass(first, target)
    real = target != PAD
    yield {
        "token_accuracy": float((right & real).sum() / real.sum()),
        "sequence_accuracy": float(right.all(-1).float().mean()),
        "peptide_recall": recall(first, truths),
    }
    options = sequencer.frozen.recursion.model_copy(
        update={"supervision_steps": steps, "halt_probability": 1.0}
    )
    for step in solve(sequencer.solver.model, first, memory, options):
        window = sequencer.solver.window(mass)
        exact = exact_answers(step.logits, mass, sequencer.solver.permitted, window, 1).tokens[:, 0]
        figures = answer_figures(step.state.answer, step.judged, target, mass)
        yield {
            **{
                name: figures[name] for name in ("token_accuracy", "sequence_accuracy", "flip_rate")
            },
            "peptide_recall": recall(exact, truths),
        }


def recall(answers: Tensor, truths: list[Peptide]) -> float:
    """Share of answers [B, S] that match by the published rule."""
    found = [decode(answer) for answer in answers.tolist()]
    pairs = zip(truths, found, strict=True)
    return sum(bool(len(f)) and all(match(t, f)) for t, f in pairs) / len(truths)


def draw(values: dict[str, Any], path: Path) -> None:
    """The curves, a row a file."""
    from matplotlib.figure import Figure

    panels = (
        ("peptide_recall", "peptide recall"),
        ("token_accuracy", "token accuracy"),
        ("flip_rate", "flip rate"),
    )
    files = values["files"]
    figure = Figure(figsize=(10, 2.9 * len(files)), layout="constrained")
    grid = figure.subplots(len(files), len(panels), squeeze=False)
    for row, (file, found) in zip(grid, files.items(), strict=True):
        for axes, (name, label) in zip(row, panels, strict=True):
            for start, colour in zip(STARTS, ("#0072b2", "#d55e00"), strict=True):
                points = [(i, s[name]) for i, s in enumerate(found[start]) if name in s]
                axes.plot(*zip(*points, strict=True), "o-", ms=3, color=colour, label=start)
            axes.axvline(values["trained_steps"], color="#9aa0a6", lw=0.8, ls="--")
            axes.set(xlabel="supervision step", ylabel=label, ylim=(0, None))
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_title(
            f"{file.removesuffix('.parquet')}, {found['sequenced']} spectra", loc="left"
        )
        row[0].legend(title="started from", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
