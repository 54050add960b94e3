from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from answers import ANSWER, FILES, ROWS, SETTINGS, SILENT, write
from pyteomics import mztab

from tinynovo import __version__
from tinynovo.masses import residue_table
from tinynovo.mztab import COUNTS
from tinynovo.psm import PSM
from tinynovo.readers import read_predictions
from tinynovo.writers import open_writer


def lines(path: Path, kind: str) -> list[list[str]]:
    rows = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return [row[1:] for row in rows if row[0] == kind]


def test_mztab_is_read_by_pyteomics(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mztab", ROWS)
    with path.open(encoding="utf-8") as file:
        found = mztab.MzTab(file, table_format="dict")
    assert found.version == "1.0.0"
    assert found.mode == "Summary"
    assert found.type == "Identification"
    rows = found["PSM"]["rows"]
    assert len(rows) == 4
    assert rows[0]["sequence"] == "PEPMCK"
    assert rows[0]["search_engine_score[1]"] == pytest.approx(0.912324, abs=1e-5)
    assert rows[0]["charge"] == 2
    assert rows[0]["exp_mass_to_charge"] == 412.6789012345
    assert rows[1]["sequence"] is None


def test_mztab_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mztab", ROWS)
    (header,) = lines(path, "PSH")
    # The columns of the specification, in its order.
    assert header[:17] == [
        *("sequence", "PSM_ID", "accession", "unique", "database", "database_version"),
        *("search_engine", "search_engine_score[1]", "modifications", "retention_time"),
        *("charge", "exp_mass_to_charge", "calc_mass_to_charge", "spectra_ref"),
        *("pre", "post", "start", "end")[:3],
    ]
    assert header[17] == "end"
    assert all(column.startswith("opt_") for column in header[18:])
    assert len(set(header)) == len(header)
    rows = [dict(zip(header, row, strict=True)) for row in lines(path, "PSM")]
    first = rows[0]
    assert first["PSM_ID"] == "1"
    assert first["modifications"] == "0-UNIMOD:1,4-UNIMOD:35,5-UNIMOD:4"
    assert first["opt_global_cv_MS:1003169_proforma_peptidoform_sequence"] == (
        "[Acetyl]-PEPM[Oxidation]C[Carbamidomethyl]K"
    )
    assert first["opt_ms_run[1]_aa_scores"] == "0.10000,0.20000,0.30000,0.40000,0.50000,0.98765"
    assert first["retention_time"] == "65.5"
    assert first["search_engine"] == f"[MS, MS:1001456, analysis software, tinynovo {__version__}]"
    assert [row["spectra_ref"] for row in rows] == [
        "ms_run[1]:index=4",
        "ms_run[2]:scan=9",
        "ms_run[2]:function=2 process=0 scan=3",
        "ms_run[3]:index=0",
    ]
    silent = rows[1]
    assert silent["opt_global_reason_code"] == "no_charge"
    assert silent["opt_global_reason"] == "no precursor charge"
    assert silent["opt_global_posterior_error"] == "null"
    assert first["opt_global_posterior_error"] == "0.08768"
    assert first["opt_global_cv_MS:1002354_PSM-level_q-value"] == "0.01235"
    for column in ("sequence", "search_engine_score[1]", "modifications", "charge", "accession"):
        assert silent[column] == "null"
    assert {row["opt_global_rank"] for row in rows} == {"1", "2"}
    assert [row["modifications"] for row in rows[2:]] == ["null", "null"]


def test_mztab_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mztab", [])
    rows = lines(path, "MTD")
    metadata = dict(rows)  # type: ignore[arg-type]
    assert len(metadata) == len(rows)
    assert metadata["mzTab-version"] == "1.0.0"
    assert metadata["mzTab-mode"] == "Summary"
    assert metadata["mzTab-type"] == "Identification"
    assert metadata["description"]
    assert metadata["software[1]-setting[1]"] == "device = cpu"
    assert metadata["software[1]-setting[2]"] == "top_match = 1"
    assert metadata["ms_run[1]-location"] == "file:///data/my%20run.mgf"
    assert metadata["ms_run[1]-format"] == "[MS, MS:1001062, Mascot MGF format, ]"
    assert metadata["ms_run[2]-format"] == "[MS, MS:1000584, mzML format, ]"
    assert metadata["ms_run[4]-format"] == "[MS, MS:1001062, Mascot MGF format, ]"
    assert metadata["ms_run[1]-id_format"].startswith("[MS, MS:1000774,")
    assert metadata["ms_run[2]-id_format"].startswith("[MS, MS:1000776,")
    assert "MS:1002453" in metadata["fixed_mod[1]"]
    assert metadata["variable_mod[2]"] == "[UNIMOD, UNIMOD:35, Oxidation, ]"
    assert metadata["variable_mod[2]-site"] == "M"
    sites = {v for k, v in metadata.items() if k.startswith("variable") and k.endswith("-site")}
    assert sites == {"C", "M", "N", "Q", "S", "T", "Y", "K", "N-term"}
    assert metadata["psm_search_engine_score[1]"].startswith("[MS, MS:1001143,")


def test_mztab_cells_hold_no_tabs_or_line_ends(tmp_path: Path) -> None:
    odd = PSM(FILES[0], 0, "index=0", None, title="a\tb\nc", reason="x\ty")
    path = tmp_path / "out.mztab"
    with open_writer(path, files=FILES, settings={"a": "b\nMTD\tc"}) as writer:
        writer.write([odd])
    (found,) = read_predictions(path)
    assert (found.title, found.reason) == ("a b c", "x y")
    assert ["software[1]-setting[1]", "a = b MTD c"] in lines(path, "MTD")


def test_locations_of_relative_files_are_absolute(tmp_path: Path) -> None:
    path = tmp_path / "out.mztab"
    with open_writer(path, files=["a.mgf"], settings={}) as writer:
        writer.write([PSM("a.mgf", 0, "index=0", None, reason="none")])
    (found,) = read_predictions(path)
    assert found.file == str(Path("a.mgf").absolute())


def counts(path: Path) -> dict[str, int]:
    """Name and number of every line ``custom[n]``; they are numbered from 1."""
    found = [row for row in lines(path, "MTD") if row[0].startswith("custom")]
    assert [name for name, _ in found] == [f"custom[{n}]" for n in range(1, len(found) + 1)]
    cells = [value.removeprefix("[").removesuffix("]").split(",") for _, value in found]
    assert {tuple(cell[:2]) for cell in cells} <= {("", " ")}
    return {name.strip(): int(number) for _, _, name, number in cells}


def test_the_counts_above_are_those_of_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.mztab"
    rows: list[PSM] = []
    with open_writer(path, files=FILES, settings=SETTINGS) as writer:
        assert counts(path) == dict.fromkeys(COUNTS, 0)
        size = path.read_text().index("PSH")
        for number in range(40):
            code = (*COUNTS[2:],)[number % (len(COUNTS) - 2)]
            handful = [ANSWER, replace(ANSWER, rank=2), replace(SILENT, reason_code=code)]
            writer.write(handful)
            rows += handful
            # True after every write, whatever becomes of the run, and always as wide.
            expected = Counter({"spectra": 2 * (number + 1), "answered": number + 1})
            expected.update(psm.reason_code for psm in rows if psm.peptide is None)
            assert counts(path) == dict.fromkeys(COUNTS, 0) | expected
            assert path.read_text().index("PSH") == size
    found = list(read_predictions(path))
    assert len(found) == 120
    assert counts(path)["answered"] == sum(p.rank == 1 and p.peptide is not None for p in found)


def test_metadata_follow_the_switched_modifications(tmp_path: Path) -> None:
    path = tmp_path / "out.mztab"
    mods = {"TMT6plex": "fixed", "Phospho": "off", "N[Deamidated]": "off"}
    with open_writer(path, files=FILES, settings={"mods": str(mods)}):
        pass
    metadata = dict(lines(path, "MTD"))  # type: ignore[arg-type]
    fixed = {key: value for key, value in metadata.items() if key.startswith("fixed_mod")}
    assert fixed == {
        "fixed_mod[1]": "[UNIMOD, UNIMOD:737, TMT6plex, ]",
        "fixed_mod[1]-site": "K",
        "fixed_mod[1]-position": "Anywhere",
        "fixed_mod[2]": "[UNIMOD, UNIMOD:737, TMT6plex, ]",
        "fixed_mod[2]-site": "N-term",
        "fixed_mod[2]-position": "Any N-term",
    }
    variable = [v for k, v in metadata.items() if re.fullmatch(r"variable_mod\[\d+\]-site", k)]
    assert variable == ["C", "M", "Q", "N-term", "N-term", "N-term"]


def test_without_variable_modifications_says_so(tmp_path: Path) -> None:
    path = tmp_path / "out.mztab"
    mods = {row.modification: "off" for row in residue_table().values() if row.modification}
    with open_writer(path, files=FILES, settings={"mods": str(mods)}):
        pass
    metadata = dict(lines(path, "MTD"))  # type: ignore[arg-type]
    assert metadata["fixed_mod[1]"] == "[MS, MS:1002453, No fixed modifications searched, ]"
    assert metadata["variable_mod[1]"] == "[MS, MS:1002454, No variable modifications searched, ]"
    assert "variable_mod[1]-site" not in metadata


def test_counts_and_rate_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "out.mztab"
    with open_writer(path, files=FILES, settings={"fdr": "0.01"}) as writer:
        writer.write(ROWS)
    text = path.read_text("utf-8")
    assert (
        "MTD\tpsm_search_engine_score[1]\t[MS, MS:1001143, search engine specific score for PSMs, ]"
        "\nMTD\tfalse_discovery_rate\t[MS, MS:1002350, PSM-level global FDR, 0.01]\n"
        "MTD\tfixed_mod[1]\t"
    ) in text
    assert (
        "MTD\tcustom[1]\t[, , spectra,               3]\n"
        "MTD\tcustom[2]\t[, , answered,               2]\n"
        "MTD\tcustom[3]\t[, , no_precursor_mz,               0]\n"
        "MTD\tcustom[4]\t[, , no_charge,               1]\n"
        "MTD\tcustom[5]\t[, , charge_out_of_range,               0]\n"
        "MTD\tcustom[6]\t[, , mass_out_of_range,               0]\n"
        "MTD\tcustom[7]\t[, , too_few_peaks,               0]\n"
        "MTD\tcustom[8]\t[, , no_peptide_fits,               0]\n"
        "MTD\tcustom[9]\t[, , above_fdr,               0]\n"
        "MTD\tcustom[10]\t[, , no_candidate,               0]\n"
        "MTD\tcustom[11]\t[, , unfit_candidate,               0]\n"
        "MTD\tcustom[12]\t[, , decoy,               0]\n"
        "\nPSH\tsequence\tPSM_ID\t"
    ) in text
    assert text.splitlines()[-4].split("\t")[:12] == [
        *("PSM", "PEPMCK", "1", "sp|P1|A", "null", "null", "null"),
        f"[MS, MS:1001456, analysis software, tinynovo {__version__}]",
        *("0.91232", "0-UNIMOD:1,4-UNIMOD:35,5-UNIMOD:4", "65.5", "2"),
    ]


def test_mztab_is_read_and_written_again_by_openms(tmp_path: Path) -> None:
    """Its reader refuses a file that breaks the format."""
    openms = pytest.importorskip("pyopenms", reason="pyopenms is not installed")
    ours = write(tmp_path / "ours.mzTab", [ANSWER, SILENT])
    again = tmp_path / "again.mzTab"
    openms.MzTabFile().store(str(again), openms.MzTabFile().load(str(ours)))
    for column in ("sequence", "modifications", "charge", "spectra_ref"):
        both = (ours, again)
        place = [lines(file, "PSH")[0].index(column) for file in both]
        one, other = (
            [row[at] for row in lines(f, "PSM")] for f, at in zip(both, place, strict=True)
        )
        assert one == other
    broken = tmp_path / "broken.mzTab"
    broken.write_text(ours.read_text("utf-8").replace("[MS, MS:1001456", "[MS; MS:1001456"))
    with pytest.raises(RuntimeError):
        openms.MzTabFile().load(str(broken))


def test_counts_are_read_by_pyteomics(tmp_path: Path) -> None:
    path = tmp_path / "out.mztab"
    with open_writer(path, files=FILES, settings={"fdr": "0.05"}) as writer:
        writer.write(ROWS)
    with path.open(encoding="utf-8") as file:
        found = mztab.MzTab(file, table_format="dict")
    assert found.metadata["custom[1]"] == ("spectra", "3")
    assert found.metadata["custom[4]"] == ("no_charge", "1")
    assert found.metadata["false_discovery_rate"] == ("PSM-level global FDR", "0.05")
    (row, *_) = found["PSM"]["rows"]
    assert row["opt_global_cv_MS:1002354_PSM-level_q-value"] == pytest.approx(0.01235)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_has_rows_but_no_counts(tmp_path: Path) -> None:
    path, taken = tmp_path / "out.mztab", tmp_path / "taken.mztab"
    os.mkfifo(path)
    reader = Thread(target=lambda: taken.write_bytes(path.read_bytes()))
    reader.start()
    write(path, ROWS)
    reader.join()
    assert len(list(read_predictions(taken))) == len(ROWS)
    assert counts(taken) == {}
