from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinynovo.errors import InputError
from tinynovo.labelled import write_labelled
from tinynovo.readers import read_spectra
from tinynovo.spectrum import Spectrum


def labelled(number: int) -> list[Spectrum]:
    mz, intensity = np.array([100.123456, 200.5]), np.array([1.0, 0.25])
    return [
        Spectrum(mz, intensity, 450.123456, 2, f"index={i}", i, title=f"s {i}", peptide="PEK")
        for i in range(number)
    ]


@pytest.mark.parametrize("name", ["a.mgf", "a.parquet", "A.MGF"])
def test_labelled_spectra_are_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_labelled(path, iter(labelled(3)))
    found = list(read_spectra(path))
    assert [s.title for s in found] == ["s 0", "s 1", "s 2"]
    for spectrum in found:
        assert spectrum.mz.tolist() == [100.123456, 200.5]
        assert spectrum.intensity.tolist() == [1.0, 0.25]
        assert (spectrum.precursor_mz, spectrum.precursor_charge) == (450.123456, 2)
        assert spectrum.peptide == "PEK"


@pytest.mark.parametrize("name", ["a.mgf", "a.parquet"])
def test_labelled_spectra_without_precursor(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_labelled(path, [Spectrum(np.zeros(0), np.zeros(0), None, None, peptide="PEK")])
    (found,) = read_spectra(path)
    assert (found.precursor_mz, found.precursor_charge, found.mz.size) == (None, None, 0)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("a.mzML", "cannot hold labelled spectra"), ("none/a.mgf", "cannot be written")],
)
def test_labelled_outputs_that_cannot_be(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        write_labelled(tmp_path / name, labelled(1))
