"""Spectra a second of the network and of training steps on a GPU; whether answers are the CPU's.

Run ``python benchmarks/gpu.py`` where there is a CUDA device and the extra ``gpu`` (two minutes);
writes ``results/gpu.json``. Spectra are simulated, two thousand over and over, sorted by mass as
they are in use, and cleaned before the clock starts.

``found`` is from peaks in the CPU's memory to ranked and judged answers on the GPU, by the size of
batches; ``sequenced`` is what users get of the same spectra without files, rows made by one thread
of the interpreter included. ``same`` is the share of spectra whose first answer is the CPU's. A
step of training, forwards, backwards and AdamW, is compared with its products of matrices alone, of
the same sizes and numbers: ``share``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import Results, about, arguments
from torch import Tensor, nn

from tinynovo import checkpoint
from tinynovo.cli import main as tinynovo
from tinynovo.evidence import PeakTable
from tinynovo.objectives import ExpectationObjective, ScorerObjective
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.readers import read_spectra
from tinynovo.sequencing import Sequencer
from tinynovo.solving import Solver
from tinynovo.spectrum import Peaks, Spectrum, preprocess
from tinynovo.tokens import PeakBatch, answer_batch, encode, peak_batch

CHECKED, LEARNED, RUNS = 512, 1024, 10


def main() -> None:
    """Measure and write."""
    parser = arguments(__doc__.splitlines()[0], "gpu.json")
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("-n", "--number", type=int, default=65536, help="default: 65536")
    parser.add_argument("--distinct", type=int, default=2000, help="simulated; default: 2000")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 16384, 32768])
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder, "spectra.mgf")
        tinynovo(["simulate", "-n", str(given.distinct), "--seed", "1", "-o", str(path)])
        spectra = list(read_spectra(path))
    sequencer, cpu = (
        Sequencer.load(given.model, SequencingOptions(), device) for device in (given.device, "cpu")
    )
    values: dict[str, Any] = {
        "about": about(given.model) | {"gpu": named(given.device)},
        "spectra": given.number,
        "found": {},
    }
    results = Results(given.output, values)
    batch, _ = batch_of(spectra, cpu)
    few = torch.arange(CHECKED).clamp(max=batch.mz.shape[0] - 1)
    values["same"] = same(sequencer.solver, cpu.solver, batch.select(few))
    every = torch.arange(given.number) % batch.mz.shape[0]
    batch = batch.select(every[batch.residue_mass[every].argsort(descending=True)])
    for size in given.sizes:
        values["found"][str(size)] = rate(sequencer.solver, batch, size)
        print(f"batches of {size}: {values['found'][str(size)]}", flush=True)
        results.save()
    many = (spectra * (given.number // len(spectra) + 1))[: given.number // 4]
    begin = time.perf_counter()
    rows = sum(1 for _ in sequencer.sequence(many))
    values["sequenced"] = rows / (time.perf_counter() - begin)
    results.save()
    values["training"] = training(given.model, batch_of(spectra[:LEARNED], cpu), given.device)
    results.finish()


def named(device: str) -> str:
    """What a device is called."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def batch_of(spectra: Sequence[Spectrum], cpu: Sequencer) -> tuple[PeakBatch, Tensor]:
    """Cleaned spectra, and the answers they were simulated from."""
    cleaned = [(preprocess(one, cpu.frozen.preprocessing), one.peptide) for one in spectra]
    kept = [(peaks, told) for peaks, told in cleaned if isinstance(peaks, Peaks)]
    ids = [encode(Peptide.parse(told)) for _, told in kept]
    return peak_batch([peaks for peaks, _ in kept]), answer_batch(ids, max(map(len, ids)))


def waited(device: torch.device) -> float:
    """Seconds on a clock, once the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def found(solver: Solver, batch: PeakBatch) -> Any:
    """What the model finds."""
    table = PeakTable(batch.to(solver.device), solver.model.scorer.options)
    least = torch.full((batch.mz.shape[0],), -torch.inf, device=solver.device)
    return solver.find(table, least, solver.options.max_peptide_len + 2)


def rate(solver: Solver, batch: PeakBatch, size: int) -> float:
    """Spectra a second in batches of a size."""
    parts = [batch.select(rows) for rows in torch.arange(batch.mz.shape[0]).split(size)]
    found(solver, parts[0])
    begin = waited(solver.device)
    for part in parts:
        found(solver, part)
    return batch.mz.shape[0] / (waited(solver.device) - begin)


def same(one: Solver, two: Solver, batch: PeakBatch) -> float:
    """Share of spectra whose first answers agree."""
    firsts = []
    for solver in (one, two):
        told = found(solver, batch)
        order, answers = told.order.cpu(), told.tokens.cpu()
        rows = told.row.cpu()[order.argsort()]  # of equal rows the last, the best, is written last
        best = torch.zeros(batch.mz.shape[0], answers.shape[1], dtype=answers.dtype)
        for row, answer in zip(rows.tolist(), answers[order.argsort()], strict=True):
            best[row] = answer
        firsts.append(best)
    return (firsts[0] == firsts[1]).all(-1).float().mean().item()


def training(
    model: Path | None, labelled: tuple[PeakBatch, Tensor], name: str
) -> dict[str, dict[str, float]]:
    """Milliseconds of steps, and of their products alone."""
    device = torch.device(name)
    network = checkpoint.load(model).model.to(device).train().requires_grad_(True)
    batch, target = labelled[0].to(device), labelled[1].to(device)
    assert network.expectation is not None
    stages: dict[str, tuple[nn.Module, nn.Module, bool]] = {
        "scorer": (ScorerObjective(network), network.scorer, False),
        "expectation": (ExpectationObjective(network), network.expectation, True),
    }
    told = {}
    for stage, (objective, part, half) in stages.items():
        learned = list(part.parameters())
        optimizer = torch.optim.AdamW(learned, lr=1e-5, fused=device.type == "cuda")

        def loss(objective: nn.Module = objective, half: bool = half) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                worth: Tensor = objective(batch, target)[0]
            return worth

        def step(optimizer: torch.optim.Optimizer = optimizer, loss: Any = loss) -> None:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        alone = milliseconds(products(loss, half), device)
        whole = milliseconds(step, device)
        told[stage] = {"step": whole, "products": alone, "share": alone / whole}
        print(f"{stage}: {told[stage]}", flush=True)
    return told


def products(loss: Callable[[], Tensor], half: bool) -> Callable[[], None]:
    """What makes the products of matrices of a step and nothing else, on random numbers."""
    sizes, linear = list[tuple[int, int, int, bool]](), nn.functional.linear

    def noting(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rows = x.numel() // x.shape[-1]
        sizes.append((rows, weight.shape[1], weight.shape[0], x.requires_grad))
        return linear(x, weight, bias)

    nn.functional.linear = noting
    try:
        device = loss().device
    finally:
        nn.functional.linear = linear
    about = {"device": device, "dtype": torch.bfloat16 if half else torch.float32}
    made = [
        (torch.randn(n, i, **about), torch.randn(o, i, **about), torch.randn(n, o, **about), learns)
        for n, i, o, learns in sizes
    ]

    def work() -> None:
        for x, weight, gradient, learns in made:
            linear(x, weight)
            gradient.T @ x
            if learns:
                gradient @ weight

    return work


def milliseconds(work: Callable[[], None], device: torch.device) -> float:
    """Median of a few runs, after as many that do not count."""
    taken = []
    for _ in range(2 * RUNS):
        begin = waited(device)
        work()
        taken.append(waited(device) - begin)
    return 1e3 * median(taken[RUNS:])


if __name__ == "__main__":
    main()
