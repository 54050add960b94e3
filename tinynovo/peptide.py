"""Peptides: ProForma in and out, fragment ions, peptide-spectrum matches.

Knows what a peptide is and what it breaks into. Does not know files, spectra or torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinynovo.masses import WATER, residue_table, udalton


@dataclass(frozen=True)
class Peptide:
    """A peptide as a tuple of tokens of the residue table, N to C.

    Attributes
    ----------
    tokens : tuple of str
        Names of the residue table; an N-terminal modification (``[Acetyl]-``) comes first.
        Isoleucine is spelled ``L``.
    """

    tokens: tuple[str, ...]

    @property
    def mass_udalton(self) -> int:
        """Neutral monoisotopic mass in micro-dalton."""
        table = residue_table()
        return sum(table[token].total for token in self.tokens) + udalton(WATER)


@dataclass(frozen=True)
class PSM:
    """One row of the answer: what tinynovo says of one spectrum.

    Attributes
    ----------
    file : str
        Path of the input file, as given.
    index : int
        Zero-based position of the spectrum in its file.
    identifier : str
        Native id (``scan=17``, ``controllerType=0 ... scan=17``) or ``index=N``.
    peptide : Peptide or None
        None when there is no answer; then `reason` says why.
    score : float or None
        Probability in 0..1 that the whole peptide is right.
    residue_scores : tuple of float
        One for each residue (not for an N-terminal modification), N to C, in 0..1.
    rank : int
        1 for the best answer of a spectrum, 2.. with ``top_match`` above one.
    precursor_mz, precursor_charge, calculated_mz, error_ppm, isotope_error
        Of the precursor; `error_ppm` after removal of `isotope_error` isotopes.
    title, scan, retention_time (s), ion_mobility
        Carried through from the file.
    reason : str
        Empty, or why there is no peptide.
    """

    file: str
    index: int
    identifier: str
    peptide: Peptide | None
    score: float | None = None
    residue_scores: tuple[float, ...] = ()
    rank: int = 1
    precursor_mz: float | None = None
    precursor_charge: int | None = None
    calculated_mz: float | None = None
    error_ppm: float | None = None
    isotope_error: int = 0
    title: str = ""
    scan: int | None = None
    retention_time: float | None = None
    ion_mobility: float | None = None
    reason: str = ""
