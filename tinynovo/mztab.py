"""mzTab: PSMs as mzTab 1.0.0, summary of an identification.

Knows the format as the specification words it (Griss et al. 2014). Does not know where rows come
from, nor other formats.

The rows stand in the columns of the specification and ``opt_global_`` ones of our own. How many
spectra have a peptide, and why the others have none, stands above the rows, in lines of fixed width
that are written over as rows come.
"""

from __future__ import annotations

from ast import literal_eval
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tinynovo import __version__
from tinynovo.masses import residue_table
from tinynovo.modifications import Switch, switched
from tinynovo.peptide import Peptide
from tinynovo.psm import PSM
from tinynovo.readers import MZTAB_COLUMNS
from tinynovo.reasons import ReasonCode
from tinynovo.rows import Writer, to_texts

COUNTS = ("spectra", "answered", *ReasonCode)
"""What is counted, in the order of the lines ``custom[1]``, ``custom[2]``, ..."""

_DIGITS = 15
_SOFTWARE = f"[MS, MS:1001456, analysis software, tinynovo {__version__}]"
_SCORE = "[MS, MS:1001143, search engine specific score for PSMs, ]"
_RUN_FORMATS = {
    ".mgf": "[MS, MS:1001062, Mascot MGF format, ]",
    ".mzml": "[MS, MS:1000584, mzML format, ]",
    ".mzxml": "[MS, MS:1000566, ISB mzXML format, ]",
    ".parquet": "[, , Apache Parquet, ]",
}
_BY_INDEX = "[MS, MS:1000774, multiple peak list nativeID format, ]"
_BY_SCAN = "[MS, MS:1000776, scan number only nativeID format, ]"
_HEADER = (
    *("sequence", "PSM_ID", "accession", "unique", "database", "database_version"),
    *("search_engine", "search_engine_score[1]", "modifications", "retention_time", "charge"),
    *("exp_mass_to_charge", "calc_mass_to_charge", "spectra_ref", "pre", "post", "start", "end"),
)
_OWN = tuple(column for column in MZTAB_COLUMNS.values() if column.startswith("opt_"))


class MzTabWriter(Writer):
    """mzTab 1.0.0. A setting ``fdr`` is also said in the words of the format.

    A file that cannot be written over, such as a pipe, has no lines with counts.
    """

    def _start(self, files: Sequence[str], settings: Mapping[str, str]) -> None:
        self._runs = {file: f"ms_run[{number}]" for number, file in enumerate(files, 1)}
        self._written = 0
        self._counts = Counter[str]()
        for name, value in self._metadata(settings):
            self._line("MTD", name, value)
        self._counted = self._file.tell() if self._file.seekable() else None
        self._write_counts()
        self._file.write(b"\n")
        self._line("PSH", *_HEADER, *_OWN)

    def _metadata(self, settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        yield "mzTab-version", "1.0.0"
        yield "mzTab-mode", "Summary"
        yield "mzTab-type", "Identification"
        yield "description", "De novo peptide sequencing; one row for every spectrum"
        yield "software[1]", _SOFTWARE
        for number, (name, value) in enumerate(settings.items(), 1):
            yield f"software[1]-setting[{number}]", f"{name} = {value}"
        yield "psm_search_engine_score[1]", _SCORE
        if "fdr" in settings:
            rate = f"[MS, MS:1002350, PSM-level global FDR, {settings['fdr']}]"
            yield "false_discovery_rate", rate
        yield from _searched(literal_eval(settings.get("mods", "{}")))
        for file, run in self._runs.items():
            path = Path(file[:-3] if file.lower().endswith(".gz") else file)
            kind = path.suffix.lower()
            if kind in _RUN_FORMATS:
                yield f"{run}-format", _RUN_FORMATS[kind]
            yield f"{run}-location", Path(file).absolute().as_uri()
            yield f"{run}-id_format", _BY_SCAN if kind in (".mzml", ".mzxml") else _BY_INDEX

    def _rows(self, psms: Sequence[PSM]) -> None:
        for psm in psms:
            self._written += 1
            texts = to_texts(psm, "null")
            cells = {column: texts[name] for name, column in MZTAB_COLUMNS.items()} | {
                "sequence": psm.peptide.sequence if psm.peptide else "null",
                "PSM_ID": str(self._written),
                "accession": psm.accessions[0] if psm.accessions else "null",
                "search_engine": _SOFTWARE,
                "modifications": _modifications(psm.peptide),
                "spectra_ref": f"{self._runs[psm.file]}:{_reference(psm)}",
            }
            self._line("PSM", *(cells.get(c, "null") for c in (*_HEADER, *_OWN)))
            if psm.rank == 1:
                self._counts.update(("spectra", "answered" if psm.peptide else psm.reason_code))
        if self._counted is not None:
            end = self._file.tell()
            self._file.seek(self._counted)
            self._write_counts()
            self._file.seek(end)

    def _write_counts(self) -> None:
        """Write the lines with counts, as many bytes every time."""
        if self._counted is not None:
            for number, name in enumerate(COUNTS, 1):
                line = f"MTD\tcustom[{number}]\t[, , {name}, {self._counts[name]:>{_DIGITS}}]\n"
                self._file.write(line.encode())

    def _line(self, *cells: str) -> None:
        self._file.write(("\t".join(" ".join(c.split()) for c in cells) + "\n").encode())


def _searched(mods: Mapping[str, Switch]) -> Iterator[tuple[str, str]]:
    """What modifications, switched as in `switched`, are looked for, each with its place."""
    switches = switched(mods)
    for kind, switch, none in (("fixed", "fixed", 1002453), ("variable", "on", 1002454)):
        rows = [row for row in switches if switches[row] == switch]
        if not rows:
            yield f"{kind}_mod[1]", f"[MS, MS:{none}, No {kind} modifications searched, ]"
        for number, row in enumerate(rows, 1):
            name = f"{kind}_mod[{number}]"
            yield name, f"[UNIMOD, UNIMOD:{row.unimod}, {row.modification}, ]"
            yield f"{name}-site", row.residue or "N-term"
            yield f"{name}-position", "Any N-term" if row.n_terminal else "Anywhere"


def _reference(psm: PSM) -> str:
    """What mzTab calls a spectrum within its run."""
    if psm.scan is None or psm.identifier.startswith("index="):
        return psm.identifier
    return f"scan={psm.scan}"


def _modifications(peptide: Peptide | None) -> str:
    """Positions and accessions, ``0-UNIMOD:1,4-UNIMOD:35``; 0 is the N-terminus."""
    if peptide is None:
        return "null"
    table = residue_table()
    first = len(peptide) + 1 - len(peptide.tokens)
    rows = [(place, table[token]) for place, token in enumerate(peptide.tokens, first)]
    return ",".join(f"{p}-UNIMOD:{row.unimod}" for p, row in rows if row.modification) or "null"
