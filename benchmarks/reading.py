"""Reading, and the whole way of a file without the network, over files of a thousand to a million.

Run ``python benchmarks/reading.py``: half an hour, and 5 GB of disk. The files are
written for it: simulated spectra, a thousand of them over and over with other ids and times, as
indexed mzML with zlib, and as MGF. Each run is a process of its own on one core: reading alone, by
tinynovo and by those of pyteomics (with psims), pymzML and pyOpenMS that are installed; and
``tinynovo sequence`` with a stand-in for the model that cleans every
spectrum and answers with the same peptide, to CSV and to mzTab, with a false discovery rate (which
waits for all rows) and with a report. Writes ``results/reading.json`` and
``../docs/figures/reading.png``.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import HERE, RESULTS, Results, processor

from tinynovo.drawing import COLOURS, QUIET
from tinynovo.journeys import sequence_files
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.readers import read_spectra
from tinynovo.rendering import SimulationOptions
from tinynovo.simulation import random_peptides, simulate
from tinynovo.spectrum import Peaks, Preprocessing, Spectrum, preprocess

FIGURE = HERE.parent / "docs" / "figures" / "reading.png"
UNLIKE = 1000


class StandIn:
    """In place of the model: cleans a spectrum and always answers the same."""

    settings = {"model": "stand-in"}  # noqa: RUF012
    window = 256

    def rows(self, spectra: Iterable[Spectrum]) -> Iterator[list[PSM]]:
        """One row of each spectrum."""
        peptide, options = Peptide.parse("PEPTLDEK"), Preprocessing()
        for s in spectra:
            usable = isinstance(preprocess(s, options), Peaks)
            row = PSM(
                s.file,
                s.index,
                s.identifier,
                peptide if usable else None,
                0.5 if usable else None,
                (0.5,) * 8,
                precursor_mz=s.precursor_mz,
                precursor_charge=s.precursor_charge,
                calculated_mz=s.precursor_mz,
                retention_time=s.retention_time,
                scan=s.scan,
            )
            yield [row]


def read_tinynovo(path: Path) -> int:
    """Spectra that our reader yields."""
    return sum(1 for _ in read_spectra(path))


def read_pyteomics(path: Path) -> int:
    """Spectra that pyteomics yields; for mzML it wants psims."""
    from pyteomics import mgf, mzml

    reader = mgf.read if path.suffix == ".mgf" else mzml.MzML
    with reader(str(path), use_index=False) as spectra:
        return sum(1 for _ in spectra)


def read_pymzml(path: Path) -> int:
    """Spectra that pymzML yields, with their peaks."""
    from pymzml.run import Reader

    return sum(spectrum.peaks("raw") is not None for spectrum in Reader(str(path)))


def read_pyopenms(path: Path) -> int:
    """Spectra that pyOpenMS loads, all at once."""
    from pyopenms import MSExperiment, MzMLFile

    everything = MSExperiment()
    MzMLFile().load(str(path), everything)
    return sum(spectrum.get_peaks() is not None for spectrum in everything)


def whole(name: str, **options: Any) -> Callable[[Path], int]:
    """The way of a file through everything but the network, to an output of this name."""

    def run(path: Path) -> int:
        output = path.with_name(name)
        given = {k: path.with_name(v) if k == "report" else v for k, v in options.items()}
        outcome = sequence_files(StandIn(), [path], output, None, lambda _: None, **given)
        output.unlink()
        return outcome.spectra

    return run


WAYS: dict[str, Callable[[Path], int]] = {
    "read": read_tinynovo,
    "pyteomics": read_pyteomics,
    "pymzml": read_pymzml,
    "pyopenms": read_pyopenms,
    "to csv": whole("out.csv"),
    "to mztab": whole("out.mztab"),
    "with fdr": whole("out.csv", fdr=0.5),
    "with report": whole("out.csv", report="out.html"),
}


def term(accession: str, name: str, value: object = "", unit: str = "") -> str:
    """A term of the controlled vocabulary."""
    measured = f' unitCvRef="UO" unitAccession="{unit}" unitName="minute"' if unit else ""
    return f'<cvParam cvRef="MS" accession="{accession}" name="{name}" value="{value}"{measured}/>'


def mzml_array(values: np.ndarray[Any, Any], kind: str, name: str) -> str:
    """Numbers with what they are."""
    text = base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()
    bits = term(kind, f"{8 * values.itemsize}-bit float")
    return (
        f'<binaryDataArray encodedLength="{len(text)}">{bits}'
        f"{term('MS:1000574', 'zlib compression')}{name}<binary>{text}</binary></binaryDataArray>"
    )


def mzml_body(spectrum: Spectrum) -> str:
    """One element, with places for index and time; m/z in 64 bits, intensities in 32."""
    start = term("MS:1000016", "scan start time", "%.4f", "UO:0000031")
    ion = term("MS:1000744", "selected ion m/z", spectrum.precursor_mz)
    ion += term("MS:1000041", "charge state", spectrum.precursor_charge)
    arrays = mzml_array(spectrum.mz, "MS:1000523", term("MS:1000514", "m/z array"))
    strengths = spectrum.intensity.astype("<f4")
    arrays += mzml_array(strengths, "MS:1000521", term("MS:1000515", "intensity array"))
    return (
        '<spectrum index="%d" id="controllerType=0 controllerNumber=1 scan=%d" '
        f'defaultArrayLength="{spectrum.mz.size}">{term("MS:1000511", "ms level", 2)}'
        f'<scanList count="1"><scan>{start}</scan></scanList><precursorList count="1"><precursor>'
        f'<selectedIonList count="1"><selectedIon>{ion}</selectedIon></selectedIonList>'
        "</precursor></precursorList>"
        f'<binaryDataArrayList count="2">{arrays}</binaryDataArrayList></spectrum>\n'
    )


def write_mzml(path: Path, spectra: list[Spectrum], number: int) -> None:
    """So many spectra, with the index of offsets at the end."""
    bodies = [mzml_body(spectrum) for spectrum in spectra]
    offsets = []
    with path.open("wb") as file:
        file.write(
            b'<?xml version="1.0" encoding="utf-8"?>\n'
            b'<indexedmzML xmlns="http://psi.hupo.org/ms/mzml"><mzML version="1.1.0">'
            b'<run id="run" defaultInstrumentConfigurationRef="IC"><spectrumList count="%d" '
            b'defaultDataProcessingRef="DP">\n' % number
        )
        for index in range(number):
            offsets.append(file.tell())
            text = bodies[index % len(bodies)] % (index, index + 1, index * 0.002)
            file.write(text.encode())
        file.write(b'</spectrumList></run></mzML><indexList count="1"><index name="spectrum">\n')
        for index, place in enumerate(offsets):
            file.write(b'<offset idRef="scan=%d">%d</offset>\n' % (index + 1, place))
        file.write(b"</index></indexList></indexedmzML>\n")


def write_mgf(path: Path, spectra: list[Spectrum], number: int) -> None:
    """So many spectra."""
    bodies = []
    for s in spectra:
        rows = zip(s.mz, s.intensity, strict=True)
        peaks = "".join(f"{mz:.5f} {intensity:.1f}\n" for mz, intensity in rows)
        head = f"PEPMASS={s.precursor_mz:.5f}\nCHARGE={s.precursor_charge}+\n"
        bodies.append(f"BEGIN IONS\nTITLE=run.%d\nRTINSECONDS=%.2f\n{head}{peaks}END IONS\n\n")
    with path.open("w") as file:
        for index in range(number):
            file.write(bodies[index % len(bodies)] % (index, index * 0.12))


OTHERS = {"pyteomics": "psims", "pymzml": "pymzml", "pyopenms": "pyopenms"}
"""Other readers, and what must be installed for them to read mzML."""

LARGE, FOR_LARGE = 100_000, ("read", "to csv")
"""Files of more spectra go only these ways."""


def ways(kind: str, size: int) -> Iterator[str]:
    """The ways that a file goes."""
    for way in WAYS:
        library = OTHERS.get(way)
        there = library is None or (kind == "mzml" and find_spec(library) is not None)
        if there and (size <= LARGE or way in FOR_LARGE):
            yield way


def measured(way: str, path: Path) -> dict[str, float]:
    """Spectra, seconds without start-up, and peak memory of one way in a process of its own."""
    command = [sys.executable, __file__, "--one", way, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one(way: str, path: Path) -> None:
    """Go one way, and print how long that took and, on Linux, how much memory."""
    begin = time.monotonic()
    spectra = WAYS[way](path)
    seconds = time.monotonic() - begin
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    memory = int(peak[1]) * 1024 / 1e6 if peak else None
    print(json.dumps({"spectra": spectra, "seconds": seconds, "peak_memory_mb": memory}))


def draw(files: dict[str, Any]) -> None:
    """Seconds and memory over spectra."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for number, way in enumerate(WAYS):
        rows = [r[way] for r in files["mzml"].values() if way in r]
        colour, line = COLOURS[number % len(COLOURS)], "o:" if way in OTHERS else "o-"
        x = [row["spectra"] for row in rows]
        time_axes.loglog(x, [row["seconds"] for row in rows], line, color=colour, label=way)
        memory = [row["peak_memory_mb"] for row in rows]
        memory_axes.semilogx(x, memory, line, color=colour, label=way)
    sizes = sorted(int(size) for size in files["mzml"])
    time_axes.loglog(sizes, [n / 2000 for n in sizes], "--", color=QUIET, label="2,000 a second")
    time_axes.set(xlabel="spectra", ylabel="seconds on one core", title="mzML, without the network")
    memory_axes.set(xlabel="spectra", ylabel="peak memory, MB", ylim=(0, None), title="memory")
    time_axes.legend(fontsize=7, frameon=False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=120)
    print(f"wrote {FIGURE}")


def main() -> None:
    """Write files, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", choices=WAYS, help="only this way, of the file behind it")
    parser.add_argument("path", type=Path, nargs="?", help="a file, with --one")
    sizes = [1000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="spectra of the files")
    parser.add_argument("--output", type=Path, default=RESULTS / "reading.json")
    given = parser.parse_args()
    if given.one:
        one(given.one, given.path)
        return
    libraries = {name: version(name) for name in ("lxml", "pyteomics", "pyarrow", "numpy")}
    about = {"machine": processor(), "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    files: dict[str, Any] = {"mzml": {}, "mgf": {}}
    results = Results(given.output, {"about": {**about, **libraries}, "files": files})
    rng = np.random.default_rng(1)
    peptides = random_peptides(UNLIKE, rng, SimulationOptions())
    spectra = list(simulate(peptides, [2] * UNLIKE, SimulationOptions(), rng))
    for kind, write in (("mzml", write_mzml), ("mgf", write_mgf)):
        for size in given.sizes if kind == "mzml" else given.sizes[:2]:
            with TemporaryDirectory() as folder:
                path = Path(folder, f"run.{kind}")
                write(path, spectra, size)
                files[kind][str(size)] = found = {"megabytes": path.stat().st_size / 1e6}
                for way in ways(kind, size):
                    found[way] = row = measured(way, path)
                    rate = row["spectra"] / row["seconds"]
                    print(f"{size} {kind} {way}: {rate:.0f} a second, {row}", flush=True)
                    results.save()
    results.finish()
    draw(files)


if __name__ == "__main__":
    main()
