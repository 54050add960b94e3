"""Peptide-spectrum matches: all that is said of one spectrum.

Knows the fields of a row. Does not know where they come from, nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinynovo.peptide import Peptide
from tinynovo.reasons import Reason

DECOYS = ("decoy_", "rev_", "reverse_", "xxx_")
"""How the accessions of decoys begin, in lower case, as the search engines of the field have it."""


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
        None when there is no answer; then `reason_code` and `reason` say why.
    score : float or None
        Probability in 0..1 that the whole peptide is right.
    residue_scores : tuple of float
        One for each residue (not for an N-terminal modification), N to C, in 0..1.
    support : tuple of int
        1 for each residue whose bonds both have a fragment, or are ends, 0 for the others, N to C.
    ambiguous : str
        The peptide in ProForma with what the spectrum leaves open marked.
    alternatives : str
        Other residues that weigh the same; see `tinynovo.annotation`.
    accessions : tuple of str
        Proteins that hold the peptide, where a database was searched; see `is_decoy`.
    q_value : float or None
        Share in 0..1 of wrong peptides to expect among those of the run that score as high or
        higher; None where it was not asked for, and below rank 1.
    rank : int
        1 for the best answer of a spectrum, 2.. with ``top_match`` above one.
    precursor_mz, precursor_charge, calculated_mz, error_ppm, isotope_error
        Of the precursor; `error_ppm` after removal of `isotope_error` isotopes.
    title, scan, retention_time (s), ion_mobility
        Carried through from the file.
    reason_code : str
        Empty, or why there is no peptide: one of `tinynovo.reasons.ReasonCode`.
    reason : str
        The same in words.
    """

    file: str
    index: int
    identifier: str
    peptide: Peptide | None
    score: float | None = None
    residue_scores: tuple[float, ...] = ()
    support: tuple[int, ...] = ()
    ambiguous: str = ""
    alternatives: str = ""
    accessions: tuple[str, ...] = ()
    q_value: float | None = None
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
    reason_code: str = ""
    reason: str = ""

    @property
    def posterior_error(self) -> float | None:
        """Probability in 0..1 that the peptide is wrong."""
        return None if self.score is None else 1 - self.score

    @property
    def decoy(self) -> bool:
        """Whether the peptide is a decoy."""
        return is_decoy(self.accessions)

    def unanswered(self, reason: Reason) -> PSM:
        """The row of the same spectrum without a peptide."""
        return replace(
            self,
            peptide=None,
            score=None,
            residue_scores=(),
            support=(),
            ambiguous="",
            alternatives="",
            accessions=(),
            q_value=None,
            calculated_mz=None,
            error_ppm=None,
            isotope_error=0,
            reason_code=reason.code,
            reason=reason.text,
        )


def is_decoy(accessions: Sequence[str] | None) -> bool:
    """Whether no protein holds a peptide: all accessions begin with one of `DECOYS`."""
    return bool(accessions) and all(name.lower().startswith(DECOYS) for name in accessions or ())
