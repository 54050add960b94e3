"""Reasons: why a spectrum has no peptide.

Knows every reason there is, as a code for machines and in words for people. Does not know how one
is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """Why a spectrum has no peptide; counts and filters may rely on these names."""

    NO_PRECURSOR_MZ = "no_precursor_mz"
    NO_CHARGE = "no_charge"
    CHARGE_OUT_OF_RANGE = "charge_out_of_range"
    MASS_OUT_OF_RANGE = "mass_out_of_range"
    TOO_FEW_PEAKS = "too_few_peaks"
    NO_PEPTIDE_FITS = "no_peptide_fits"
    ABOVE_FDR = "above_fdr"
    NO_CANDIDATE = "no_candidate"
    UNFIT_CANDIDATE = "unfit_candidate"
    DECOY = "decoy"


@dataclass(frozen=True)
class Reason:
    """Why one spectrum has no peptide.

    Attributes
    ----------
    code : ReasonCode
    text : str
        The same in a few words, with this spectrum's numbers.
    """

    code: ReasonCode
    text: str
