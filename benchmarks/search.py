"""A database searched by tinynovo's judge and by Comet: identifications at 1 % FDR, and how true.

The database holds the peptides of the annotated ions, and every second one of the labelled
peptides: a spectrum of any other can only be identified wrongly, which both tools are told nothing
of. Both take trypsin, one missed cleavage, 20 ppm, precursors up to one isotope off,
carbamidomethyl (and TMT6plex) fixed and oxidation variable; both compete with reversed decoys. The
labels are Comet's own, of searches of other databases: what Comet does not find is not among the
spectra.

Our scores are from a regression fitted to the other file; ``--calibrated FILE`` writes the weights
with one fitted to both. Wants ``comet`` or ``comet-ms`` on the path. Run
``python benchmarks/search.py`` (some minutes). Writes ``results/search.json``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from common import DATA, FILES, HERE, Labelled, about, arguments, rounded, told
from numpy.typing import NDArray

from tinynovo import checkpoint, config
from tinynovo.calibration import DATABASE, Calibration, Facts, facts, fit
from tinynovo.database import Database, Search
from tinynovo.digestion import Forms, cleaved
from tinynovo.evaluation import right_residues
from tinynovo.fdr import decoy_q_values
from tinynovo.masses import Tolerance
from tinynovo.options import SequencingOptions
from tinynovo.psm import is_decoy
from tinynovo.sequencing import Sequencer

WORK = HERE.parent / "runs" / "search"
RATE = 0.01
DECOY, NOMINATED = "DECOY_", 8
TMT = 229.162932


def plain(proforma: str) -> str:
    """Letters of a peptide without modifications, I as L."""
    return re.sub(r"\[[^\]]*\]-?", "", proforma).replace("I", "L")


def held(peptide: str) -> bool:
    """Whether the database holds a labelled peptide: every second one."""
    return hashlib.sha256(peptide.encode()).digest()[0] % 2 == 0


def products(protein: str) -> set[str]:
    """What trypsin makes of a protein, one cleavage missed at most."""
    pieces = re.findall(r".*?(?:[KR](?!P)|$)", protein)
    return {*pieces, *map("".join, pairwise(pieces))}


def database(labels: list[str]) -> Path:
    """A FASTA of one protein a peptide."""
    known = pq.read_table(DATA / "annotated_ions_ms2pip.parquet", columns=["proforma"])
    missing = {peptide for peptide in labels if not held(peptide)}
    peptides = {plain(text) for text in known["proforma"].to_pylist()}
    peptides |= {peptide for peptide in labels if held(peptide)}
    peptides = {peptide for peptide in peptides if missing.isdisjoint(products(peptide))}
    path = WORK / "peptides.fasta"
    entries = (f">P{number}\n{peptide}\n" for number, peptide in enumerate(sorted(peptides)))
    path.write_text("".join(entries))
    return path


def spectra(name: str, labelled: Labelled) -> Path:
    """The spectra as MGF; the scan is the position and one."""
    path = WORK / f"{Path(name).stem}.mgf"
    with path.open("w") as file:
        for scan, spectrum in enumerate(labelled.spectra, 1):
            head = f"TITLE={scan}\nSCANS={scan}\nPEPMASS={spectrum.precursor_mz:.6f}\n"
            file.write(f"BEGIN IONS\n{head}CHARGE={spectrum.precursor_charge}+\n")
            peaks = zip(spectrum.mz, spectrum.intensity, strict=True)
            file.writelines(f"{mz:.5f} {1e6 * intensity:.3f}\n" for mz, intensity in peaks)
            file.write("END IONS\n\n")
    return path


Found = list[tuple[int, str, float, bool]]
"""Scan, letters, score (the higher the better) and whether it is a decoy, one a spectrum."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A peptide of the database for the spectrum of a scan."""

    scan: int
    letters: str
    known: Facts
    right: list[bool]
    decoy: bool


Judged = list[list[Candidate]]
"""Of each spectrum that has any, candidates by falling order."""


def ours(labelled: Labelled, fasta: Path, tagged: bool, model: Path | None) -> Judged:
    """What tinynovo makes of the candidates for every spectrum."""
    switched = ["mods.TMT6plex=fixed"] if tagged else []
    options = config.load(SequencingOptions, None, switched)
    sequencer = Sequencer.load(model, options, device="cpu")
    database = Database(
        cleaved(fasta, min_length=options.min_peptide_len, max_length=options.max_peptide_len),
        Forms.by(options.mods),
    )
    tolerance = Tolerance.parse(options.precursor_mass_tol)
    search = Search(database, tolerance, NOMINATED, 1)
    judged: Judged = []
    explored = sequencer.explore(labelled.spectra, search.propose, closed=True)
    found = told(explored, len(labelled.spectra), fasta.name)
    for scan, ((_, answers), truth) in enumerate(zip(found, labelled.peptides, strict=True), 1):
        if not isinstance(answers, list):
            continue
        judged.append(
            [
                Candidate(
                    scan,
                    plain(answer.peptide.proforma),
                    facts(answer, answers),
                    right_residues(truth, answer.peptide),
                    is_decoy(database.accessions_of(answer.peptide)),
                )
                for answer in answers
            ]
        )
    return judged


def learned(judged: Judged) -> Calibration:
    """The calibration that the best candidates teach."""
    return fit([each[0].known for each in judged], [each[0].right for each in judged])


def scored(judged: Judged, calibration: Calibration) -> Found:
    """The best candidate for each spectrum by a calibration."""
    found: Found = []
    for each in judged:
        scores = [calibration.peptide.logit(one.known.peptide) for one in each]
        best = int(np.argmax(scores))
        found.append((each[best].scan, each[best].letters, float(scores[best]), each[best].decoy))
    return found


def comets(mgf: Path, fasta: Path, tagged: bool) -> Found:
    """What Comet finds, by its E-value."""
    program = shutil.which("comet-ms") or shutil.which("comet")
    if program is None:
        raise SystemExit("there is no comet on the path")
    subprocess.run([program, "-p"], cwd=WORK, check=True, capture_output=True)
    text = (WORK / "comet.params.new").read_text()
    options = {
        "decoy_search": 1,
        "num_threads": 1,
        "peptide_mass_tolerance": 20.0,
        "peptide_mass_units": 2,
        "isotope_error": 1,
        "allowed_missed_cleavage": 1,
        "fragment_bin_tol": 0.02,
        "fragment_bin_offset": 0.0,
        "variable_mod01": "15.994915 M 0 2 -1 0 0 0.0",
        "output_pepxmlfile": 0,
        "output_txtfile": 1,
        "num_output_lines": 1,
        "peptide_length_range": "5 38",
        "digest_mass_range": "300.0 8000.0",
        "clip_nterm_methionine": 0,
        "decoy_prefix": DECOY,
    }
    if tagged:
        options |= {"add_Nterm_peptide": TMT, "add_K_lysine": TMT}
        options |= {"clear_mz_range": "126.0 131.3"}
    for name, value in options.items():
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        if count != 1:
            raise SystemExit(f"comet has no option {name}")
    (WORK / "comet.params").write_text(text)
    command = [program, f"-P{WORK / 'comet.params'}", f"-D{fasta}", str(mgf)]
    subprocess.run(command, cwd=WORK, check=True, capture_output=True)
    found: Found = []
    with mgf.with_suffix(".txt").open() as lines:
        next(lines)
        for row in csv.DictReader(lines, delimiter="\t"):
            if row["num"] == "1":
                score = -np.log10(float(row["e-value"]))
                decoy = all(p.startswith(DECOY) for p in row["protein"].split(","))
                letters = plain(row["plain_peptide"])
                found.append((int(row["scan"]), letters, float(score), decoy))
    best = {scan: (scan, *rest) for scan, *rest in reversed(found)}
    return list(best.values())


def counted(found: Found, labels: list[str]) -> dict[str, Any]:
    """Identifications at the rate, and what they are."""
    scores = np.array([score for _, _, score, _ in found])
    decoys: NDArray[np.bool_] = np.array([decoy for *_, decoy in found])
    q = decoy_q_values(scores, decoys)
    kept = [row for row, value in zip(found, q, strict=True) if value <= RATE and not row[3]]
    right = sum(labels[scan - 1] == letters for scan, letters, *_ in kept)
    known = {scan for scan, *_ in kept if held(labels[scan - 1])}
    best = [(scan, letters) for scan, letters, _, decoy in found if not decoy]
    return {
        "identified": len(kept),
        "as_labelled": right,
        "otherwise_though_the_database_holds_the_label": len(known) - right,
        "of_peptides_not_in_the_database": len(kept) - len(known),
        "false_discovery_proportion": 1 - right / max(1, len(kept)),
        "best_candidate_as_labelled": sum(labels[scan - 1] == text for scan, text in best),
        "targets": len(best),
        "decoys": int(decoys.sum()),
    }


def main() -> None:
    """Search with both and compare with the labels."""
    parser = arguments(__doc__.splitlines()[0], "search.json")
    parser.add_argument("--limit", type=int, default=1898, help="spectra a file; default: 1898")
    parser.add_argument("--calibrated", type=Path, help="write the weights, calibrated, here")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    WORK.mkdir(parents=True, exist_ok=True)
    files = {name: Labelled(DATA / name, given.limit) for name in FILES}
    labels = {name: [plain(p.proforma) for p in one.peptides] for name, one in files.items()}
    fasta = database(sorted({text for texts in labels.values() for text in texts}))
    values: dict[str, Any] = {"about": about(given.model), "limit": given.limit, "files": {}}
    ways: dict[str, Judged] = {}
    for name, labelled in files.items():
        tagged = "tmt" in name
        held_ones = sum(map(held, labels[name]))
        values["files"][name] = row = {"spectra": len(labelled.spectra), "in_database": held_ones}
        begin = time.monotonic()
        found = comets(spectra(name, labelled), fasta, tagged)
        row["comet"] = counted(found, labels[name]) | {"seconds": time.monotonic() - begin}
        begin = time.monotonic()
        ways[name] = ours(labelled, fasta, tagged, given.model)
        row["tinynovo"] = {"seconds": time.monotonic() - begin}
    for name, judged in ways.items():
        others = [each for other, each in ways.items() if other != name]
        calibration = learned([each for other in others for each in other])
        row = values["files"][name]
        row["tinynovo"] |= counted(scored(judged, calibration), labels[name])
        print(name, row, flush=True)
    given.output.write_text(json.dumps(rounded(values), indent=1) + "\n")
    if given.calibrated:
        calibration = learned([each for judged in ways.values() for each in judged])
        checkpoint.calibrated(given.model, given.calibrated, {DATABASE: calibration})
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
