"""Time the network of another tool in its own environment; run by ``speed.py``.

``python benchmarks/peer_speed.py casanovo FILE.mgf THREADS`` prints spectra and seconds as JSON.
The network has the tool's default shape and random weights, since the tools download theirs; it is
given spectra of one length at a time and stopped there, so that it takes as many steps as right
answers would. Decoding is greedy. Only the network is timed, not start-up, reading or writing: this
favours the tool.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch

Spectrum = tuple[list[float], list[float], float, int]
PROTON, BATCH = 1.007276, 32


def read(path: Path) -> dict[int, list[Spectrum]]:
    """Spectra of an MGF file by the residues of their labels."""
    found: dict[int, list[Spectrum]] = defaultdict(list)
    for block in path.read_text().split("BEGIN IONS")[1:]:
        known = dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE))
        peaks = [tuple(map(float, row)) for row in re.findall(r"^([\d.]+) (\S+)$", block, re.M)]
        length = len(re.sub(r"\[.*?\]-?", "", known["SEQ"]))
        charge = int(known["CHARGE"].rstrip("+"))
        mz, intensity = zip(*peaks, strict=True)
        found[length].append(
            (list(mz), list(intensity), float(known["PEPMASS"].split()[0]), charge)
        )
    return found


def padded(rows: list[list[float]], peaks: int) -> torch.Tensor:
    """Rows of unlike length, cut to so many: float32 [B, P]."""
    longest = min(peaks, max(map(len, rows)))
    return torch.tensor([(row + [0.0] * longest)[:longest] for row in rows])


def casanovo() -> Callable[[list[Spectrum], int], None]:
    """Casanovo as its ``config.yaml`` has it: greedy."""
    from casanovo.denovo.model import Spec2Pep

    model = Spec2Pep().eval()

    def run(spectra: list[Spectrum], length: int) -> None:
        mz, intensity = (padded([s[i] for s in spectra], 150) for i in (0, 1))
        precursors = torch.tensor([[(s[2] - PROTON) * s[3], s[3], s[2]] for s in spectra])
        model.max_peptide_len = length
        model.beam_search_decode(mz, intensity, precursors)

    return run


def instanovo() -> Callable[[list[Spectrum], int], None]:
    """InstaNovo as its ``instanovo_base.yaml`` has it: greedy."""
    from importlib.resources import files

    import yaml
    from instanovo.inference.greedy_search import GreedyDecoder
    from instanovo.transformer.model import InstaNovo
    from instanovo.utils.residues import ResidueSet

    configs = files("instanovo") / "configs"
    shape = yaml.safe_load((configs / "model" / "instanovo_base.yaml").read_text())
    residues = yaml.safe_load((configs / "residues" / "default.yaml").read_text())
    known = ResidueSet(residues["residues"], residues.get("residue_remapping"))
    names = ("dim_model", "n_head", "dim_feedforward", "encoder_layers", "decoder_layers")
    model = InstaNovo(known, **{name: shape[name] for name in names}, max_charge=10).eval()
    decoder = GreedyDecoder(model)

    def run(spectra: list[Spectrum], length: int) -> None:
        mz, intensity = (padded([s[i] for s in spectra], shape["n_peaks"]) for i in (0, 1))
        precursors = torch.tensor([[(s[2] - PROTON) * s[3], s[3], s[2]] for s in spectra])
        decoder.decode(torch.stack([mz, intensity], -1), precursors, max_length=length)

    return run


def main() -> None:
    """Load, warm up, time."""
    tool, path, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    groups = read(Path(path))
    with torch.inference_mode():
        run = {"casanovo": casanovo, "instanovo": instanovo}[tool]()
        length, first = next(iter(groups.items()))
        run(first[:1], 2)
        begin = time.monotonic()
        for length, spectra in groups.items():
            for start in range(0, len(spectra), BATCH):
                run(spectra[start : start + BATCH], length)
        seconds = time.monotonic() - begin
    spectra_read = sum(map(len, groups.values()))
    print(json.dumps({"spectra": spectra_read, "seconds": seconds}))


if __name__ == "__main__":
    main()
