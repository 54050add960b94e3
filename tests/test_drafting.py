from __future__ import annotations

import numpy as np
from handmade import KEEP_ALL, ladder

from tinynovo.corpus import Corpus
from tinynovo.drafting import Drafts
from tinynovo.peptide import Peptide
from tinynovo.tokens import encode


def drafts(*lists: list[str]) -> Drafts:
    """Drafts of as many spectra, two of each."""
    tokens = np.zeros((len(lists), 2, 12), np.uint8)
    for row, peptides in enumerate(lists):
        for place, peptide in enumerate(peptides):
            ids = encode(Peptide.parse(peptide))
            tokens[row, place, : len(ids)] = ids
    return Drafts(np.arange(len(lists)), tokens)


def test_open_are_spectra_with_right_and_wrong_drafts():
    labels = ("GASPVTK", "GASPVTK", "SAMPLER", "LNDEK", "LNDEK", "LNDEK")
    corpus, _ = Corpus.pack([ladder(label) for label in labels], KEEP_ALL, max_tokens=12)
    made = drafts(
        ["AGSPVTK", "GASPVTK"],
        ["GASPVTK"],
        ["SAMPLE", "SAMPLERK"],
        [],
        ["LNN[Deamidated]EK", "NLDEK"],  # weighs what the truth weighs
        ["LDNEK", "NLDEK"],
    )
    found = made.open(corpus)
    assert found.rows.tolist() == [0, 4]
    np.testing.assert_array_equal(found.tokens, made.tokens[[0, 4]])
