"""Write ``golden.json``: what the packaged weights answer to some bundled spectra.

Run ``python tests/make_golden.py`` after new weights or a change that is meant to change answers.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import torch

from tinynovo.options import SequencingOptions
from tinynovo.readers import read_spectra
from tinynovo.sequencing import Sequencer

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
SPECTRA = HERE.parent / "examples" / "demo.mgf"
COUNT = 16


def answers(strategy: str = "full") -> list[dict[str, object]]:
    """Best peptide, score and label of the first bundled spectra."""
    torch.set_num_threads(1)
    options = SequencingOptions.model_validate({"strategy": strategy})
    sequencer = Sequencer.load(None, options, device="cpu")
    spectra = list(islice(read_spectra(SPECTRA), COUNT))
    return [
        {
            "label": spectrum.peptide,
            "peptide": psm.peptide.proforma if psm.peptide else None,
            "score": psm.score,
        }
        for spectrum, psm in zip(spectra, sequencer.sequence(spectra), strict=True)
    ]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(answers(), indent=1) + "\n", "utf-8")
