"""What the packaged weights answer: known peptides, the same twice, no worse than the draft."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from make_golden import GOLDEN, answers

from tinynovo.evaluation import evaluate
from tinynovo.modifications import Switch
from tinynovo.options import SequencingOptions
from tinynovo.peptide import Peptide
from tinynovo.readers import read_spectra
from tinynovo.rendering import SimulationOptions
from tinynovo.sequencing import Sequencer
from tinynovo.simulation import simulate

REAL = Path(__file__).parents[2] / "shared" / "data" / "labelfree_hcd_valid.parquet"
DEMO = Path(__file__).parents[1] / "examples" / "demo.mgf"


@pytest.fixture(scope="module")
def found() -> list[dict[str, object]]:
    return answers()


def right(rows: list[dict[str, object]]) -> int:
    return sum(
        row["peptide"] is not None
        and Peptide.parse(str(row["peptide"])) == Peptide.parse(str(row["label"]))
        for row in rows
    )


def test_the_packaged_weights_give_the_golden_answers(found: list[dict[str, object]]) -> None:
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert [row["peptide"] for row in found] == [row["peptide"] for row in golden]
    assert [row["score"] for row in found] == pytest.approx(
        [row["score"] for row in golden], abs=1e-3
    )


def test_a_second_run_gives_the_same_answers(found: list[dict[str, object]]) -> None:
    assert answers() == found


def test_judged_answers_hardly_lose_to_the_draft(found: list[dict[str, object]]) -> None:
    """Spectra are few and simulated, and the judge is one for real ones: he may be wrong once."""
    assert right(found) >= right(answers("draft")) - 1
    assert right(found) > 0


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL.name} is not here")
def test_judged_answers_to_real_spectra_do_not_lose_to_the_draft() -> None:
    spectra = list(read_spectra(REAL))[::4]
    labels = [Peptide.parse(spectrum.peptide) for spectrum in spectra]

    def recall(strategy: Literal["full", "draft"]) -> float:
        tested = Sequencer.load(None, SequencingOptions(strategy=strategy), device="cpu")
        return evaluate(labels, list(tested.sequence(spectra))).published.peptide_recall or 0.0

    assert recall("full") >= recall("draft") > 0


@pytest.mark.parametrize(
    ("switch", "first", "last"),
    [
        ("on", "[TMT6plex]-", "K[TMT6plex]"),
        ("fixed", "[TMT6plex]-", "K[TMT6plex]"),
        ("off", "", ""),
    ],
)
def test_tags_are_read_where_they_may_be(switch: Switch, first: str, last: str) -> None:
    options = SequencingOptions(mods={"TMT6plex": switch}, top_match=3)
    tagged = Peptide.parse("[TMT6plex]-SAMPLEK[TMT6plex]")
    (spectrum,) = simulate([tagged], [2], SimulationOptions(), np.random.default_rng(0))
    found = [
        psm.peptide.tokens
        for psm in Sequencer.load(None, options, device="cpu").sequence([spectrum])
        if psm.peptide
    ]
    assert found
    if switch == "off":
        assert not any("TMT6plex" in token for tokens in found for token in tokens)
    else:
        assert found[0] == (first, *"SAMPLE", last)
    if switch == "fixed":
        assert all(tokens[0] == first and "K" not in tokens for tokens in found)


MADE_READY = """
import sys
from pathlib import Path
from numba.core.registry import CPUDispatcher
from tinynovo.options import SequencingOptions
from tinynovo.readers import read_spectra
from tinynovo.sequencing import Sequencer

def compiled():
    rooms = [vars(m) for name, m in list(sys.modules.items()) if name.startswith("tinynovo.")]
    found = {id(f): f for r in rooms for f in r.values() if isinstance(f, CPUDispatcher)}
    return sorted((f.py_func.__name__, str(s)) for f in found.values() for s in f.signatures)

sequencer = Sequencer.load(None, SequencingOptions(), "cpu")
sequencer.make_ready()
before = compiled()
list(sequencer.sequence(read_spectra(Path(sys.argv[1]))))
assert len(before) > 9
assert compiled() == before, set(compiled()) - set(before)
"""


def test_nothing_is_compiled_once_all_is_made_ready() -> None:
    """Nobody waits for it among the spectra, then, without being told."""
    command = [sys.executable, "-c", MADE_READY, str(DEMO)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
