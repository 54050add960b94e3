"""Fragment m/z of PEPTIDE are the published ones: b1 98.0600, y6 703.3145, y6 2+ 352.1609 ..."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from handmade import batch_of, ladder
from hypothesis import given
from hypothesis import strategies as st

from tinynovo.cuts import ANNOTATIONS, CUT_FEATURES, GLOBALS, MAIN_IONS, NODE_BIN
from tinynovo.evidence import (
    EvidenceOptions,
    PeakTable,
    _nodes,
    _partners,
    _ranks,
    compiled,
    cut_features,
    cut_support,
    ion_mz,
    nearest_peak,
)
from tinynovo.spectrum import Peaks
from tinynovo.tokens import FAR, TOKENS, PeakBatch, peak_batch

OPTIONS = EvidenceOptions()
PEPTIDE = 781_349_399
"""Residue mass of PEPTIDE in micro-dalton: 799.35996 - 18.01056 Da."""

P, PE, PEP = 97_052_764, 226_095_357, 323_148_121
"""Its first cuts."""

_ION = 2 + ANNOTATIONS + 3
"""Numbers of each main ion: intensity, rank, annotations; error, absolute error, whether found."""


def table_of(*peaks: tuple[float, float], charge: int = 2, mass: int = PEPTIDE) -> PeakTable:
    mz = np.array([round(m * 1e6) for m, _ in peaks], np.int64)
    intensity = np.array([i for _, i in peaks], np.float32)
    return PeakTable(peak_batch([Peaks(mz, intensity, mass + 18_010_565, charge)]), OPTIONS)


def looked_up(table: PeakTable, *cuts: int) -> torch.Tensor:
    return cut_features(table, torch.zeros(len(cuts), dtype=torch.int64), torch.tensor(cuts))


def main_ions(features: torch.Tensor) -> torch.Tensor:
    """The part about the main ions: [Q, ions, numbers]."""
    return features[:, : len(MAIN_IONS) * _ION].view(-1, len(MAIN_IONS), _ION)


def found(features: torch.Tensor) -> list[list[str]]:
    names = [f"{series}{charge}+" for series, charge, _ in MAIN_IONS]
    return [
        [name for name, ion in zip(names, row, strict=True) if ion[-1] == 1]
        for row in main_ions(features)
    ]


@pytest.mark.parametrize(
    ("cut", "series", "charge", "published"),
    [
        (P, "b", 1, 98.0600),
        (PE, "b", 1, 227.1026),
        (PEP, "b", 1, 324.1554),
        (P, "y", 1, 703.3145),
        (PE, "y", 1, 574.2719),
        (PEP, "y", 1, 477.2191),
        (PEPTIDE - 129_042_593, "y", 1, 148.0604),
        (P, "y", 2, 352.1609),
        (PE, "b", 2, 114.0550),
    ],
)
def test_ions_of_a_cut_stand_where_they_are_published(
    cut: int, series: str, charge: int, published: float
):
    mz = ion_mz(torch.tensor([cut]), torch.tensor([PEPTIDE]), series, charge, 0)
    assert mz.dtype == torch.int64
    assert mz.item() / 1e6 == pytest.approx(published, abs=1e-4)


def test_both_ions_of_a_cut_are_found_and_no_others():
    table = table_of((98.0600, 0.5), (703.3145, 1.0))
    features = looked_up(table, P, PE, PEP)
    assert features.shape == (3, CUT_FEATURES)
    assert features.dtype == torch.float32
    assert found(features) == [["b1+", "y1+"], [], []]
    assert main_ions(features)[0, :, 0].tolist() == [0.5, 1.0, 0.0, 0.0]
    rank = main_ions(features)[0, :, 1].tolist()
    assert rank == pytest.approx([1 / 1.1, 1.0, 0.0, 0.0])


def test_doubly_charged_ions_are_found():
    assert found(looked_up(table_of((352.1609, 1.0)), P, PE)) == [["y2+"], []]
    assert found(looked_up(table_of((114.0550, 1.0)), P, PE)) == [[], ["b2+"]]


def test_triply_charged_ions_count_for_high_charge_only():
    triple = (PEPTIDE - P + 18_010_565) / 3e6 + 1.007276
    begin = len(MAIN_IONS) * _ION
    high = slice(begin, begin + 2 * 5)
    assert looked_up(table_of((triple, 1.0), charge=2), P)[0, high].tolist() == [0.0] * 10
    flags = looked_up(table_of((triple, 1.0), charge=3), P)[0, high].view(2, 5)[:, -1]
    assert flags.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("mz", "place"),
    [
        (98.0600 - 27.9949, 0),
        (98.0600 - 18.0106, 1),
        (98.0600 - 17.0265, 2),
        (703.3145 - 18.0106, 3),
        (703.3145 - 17.0265, 4),
        (703.3145 - 97.9769, 6),
        (352.1609 - 97.9769 / 2, 7),
    ],
)
def test_neutral_losses_are_found_in_their_place(mz: float, place: int):
    begin = len(MAIN_IONS) * _ION + 2 * 5
    minor = looked_up(table_of((mz, 0.7)), P)[0, begin : begin + 2 * 8].view(8, 2)
    assert minor[:, 0].nonzero().flatten().tolist() == [place]
    assert minor[place, 0] == pytest.approx(0.7)


def test_nothing_is_found_in_an_empty_spectrum():
    features = looked_up(table_of(), 0, P, PE, PEP, PEPTIDE, -P, PEPTIDE + P)
    assert torch.count_nonzero(features) == 0


def test_ends_and_cuts_outside_the_peptide_have_no_ions():
    water_y = 18.010565 + 1.007276
    table = table_of((1.007276, 1.0), (water_y, 1.0), (PEPTIDE / 1e6 + 1.007276, 1.0))
    assert found(looked_up(table, 0, PEPTIDE, -P, PEPTIDE + P)) == [[], [], [], []]


def test_the_error_is_signed_and_relative_to_the_window():
    window = 0.008 + 703.3145 * 12e-6
    for shift in (0.004, -0.004):
        ion = main_ions(looked_up(table_of((703.314484 + shift, 1.0)), P))[0, 1]
        assert ion[-3] == pytest.approx(shift / window, abs=0.01)
        assert ion[-2] == pytest.approx(abs(shift) / window, abs=0.01)
    for shift, within in ((window - 0.001, True), (window + 0.001, False)):
        assert bool(found(looked_up(table_of((703.314484 + shift, 1.0)), P))[0]) is within


def test_whether_the_recorded_range_holds_an_ion_is_told():
    features = looked_up(table_of((300.0, 1.0), (650.0, 1.0)), P, PEP)
    assert features[:, -4:].tolist() == [[0, 0, 0, 1], [1, 1, 0, 0]]


def test_isotopes_and_losses_of_a_peak_are_annotated():
    table = table_of((481.9894, 0.2), (500.0, 1.0), (501.003355, 0.5))
    partners = table.features[0, :, -ANNOTATIONS:]
    plus, minus, water_loss, water_gain = 0, 3, 5, 8
    offset = 2
    assert partners[1, offset + plus] == pytest.approx(0.5)
    assert partners[2, offset + minus] == pytest.approx(1.0)
    assert partners[1, offset + water_loss] == pytest.approx(0.2)
    assert partners[0, offset + water_gain] == pytest.approx(1.0)
    assert partners[0, offset + plus] == 0
    assert partners[2, offset + plus] == 0


def test_a_peak_one_residue_away_is_annotated():
    table = table_of((300.0, 0.3), (357.021464, 1.0), (420.0, 0.6))
    assert table.features[0, :, -4:-2].tolist() == pytest.approx(
        np.array([[1.0, 0.0], [0.0, 0.3], [0.0, 0.0]]), abs=1e-6
    )


@pytest.mark.parametrize(
    ("residue", "mz"), [("F", 120.0808), ("Y", 136.0757), ("H", 110.0713), ("W", 159.0917)]
)
def test_immonium_ions_stand_where_they_are_published(residue: str, mz: float):
    table = table_of((mz, 0.4), (700.0, 1.0))
    assert {TOKENS[i] for i in table.immonium[0].nonzero().flatten().tolist()} == {residue}
    assert table.immonium[0].max() == pytest.approx(0.4)


def test_support_sums_b_and_y_of_a_cut():
    table = table_of((98.0600, 0.5), (352.1609, 0.8), (703.3145, 1.0))
    cuts = torch.tensor([[P, PE, 0, -P, PEPTIDE, PEPTIDE + P]])
    support = cut_support(table, torch.tensor([0]), cuts)
    assert support[0].tolist() == pytest.approx([0.5 + 1.0 + 0.8 / 2, 0, 0, 0, 0, 0])


def test_support_reaches_over_the_edge_of_a_cell():
    edge = P // NODE_BIN * NODE_BIN
    table = table_of((98.0600, 0.5))
    near = torch.tensor([[edge + 100, edge - 100, edge - 2 * NODE_BIN]])
    for shift in (-200, 200):
        table = table_of(((edge + shift) / 1e6 + 1.007276, 0.5))
        assert cut_support(table, torch.tensor([0]), near)[0].tolist() == [0.5, 0.5, 0.0]


def test_support_of_a_cut_is_that_of_its_own_spectrum():
    batch = batch_of("PEPTLDE", "WWWWWWWWK")
    table = PeakTable(batch, OPTIONS)
    support = cut_support(table, torch.tensor([0, 1]), torch.tensor([P, P]))
    assert support[0] > 0
    assert support[1] == 0


def test_annotations_do_not_depend_on_the_company():
    alone = PeakTable(batch_of("PEPTLDE"), OPTIONS)
    both = PeakTable(batch_of("PEPTLDE", "SAMPLERSAMPLER"), OPTIONS)
    peaks = alone.features.shape[1]
    assert both.features.shape[1] > peaks
    assert torch.equal(both.features[0, :peaks], alone.features[0])
    assert torch.count_nonzero(both.features[0, peaks:]) == 0
    assert torch.equal(both.globals[0], alone.globals[0])
    assert torch.equal(both.immonium[0], alone.immonium[0])
    assert torch.equal(both.top[0], alone.top[0])
    assert torch.equal(looked_up(both, P, PE), looked_up(alone, P, PE))


def test_globals_tell_charge_and_grid():
    plain = PeakTable(batch_of("PEPTLDE"), OPTIONS).globals
    assert plain.shape == (1, GLOBALS)
    assert plain[0, :8].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    exact = table_of((100.1234, 1.0), (200.4567, 1.0)).globals[0, -1]
    rounded = table_of((100.12, 1.0), (200.46, 1.0)).globals[0, -1]
    assert (exact, rounded) == (0.0, 1.0)
    assert ladder("PEPTLDE").precursor_charge == 2


SPECTRA = st.lists(st.lists(st.integers(0, 3_000_000_000), max_size=12), min_size=1, max_size=3)


@given(SPECTRA, st.data())
def test_the_nearest_peak_is_that_of_brute_force(spectra: list[list[int]], data: st.DataObject):
    width = max(1, *(len(s) for s in spectra), 1)
    mz = torch.tensor([sorted(s) + [FAR] * (width - len(s)) for s in spectra], dtype=torch.int64)
    row = data.draw(st.lists(st.integers(0, len(spectra) - 1), min_size=1, max_size=6))
    near = st.sampled_from([0, FAR, *mz.flatten().tolist()])
    query = [data.draw(near | st.integers(0, FAR)) for _ in row]
    index, distance = nearest_peak(mz, torch.tensor(row), torch.tensor(query))
    for r, q, i, d in zip(row, query, index.tolist(), distance.tolist(), strict=True):
        assert i // width == r
        assert d == mz.flatten()[i].item() - q
        assert abs(d) == min(abs(peak - q) for peak in mz[r].tolist())


def test_nearest_peaks_of_queries_with_several_axes():
    mz = torch.tensor([[10, 20, 30], [12, 22, FAR]])
    index, distance = nearest_peak(mz, torch.tensor([1, 0]), torch.tensor([[11, 21], [26, 9]]))
    assert index.tolist() == [[3, 4], [2, 0]]
    assert distance.tolist() == [[1, 1], [4, 1]]


def annotations(batch: PeakBatch, options: EvidenceOptions) -> list[torch.Tensor]:
    """What is known of every real peak, and of every cut on the grid."""
    about = [*_ranks(batch), _partners(PeakTable(batch, options))]
    return [*(each[batch.mask] for each in about), _nodes(batch)]


def test_annotations_are_the_same_compiled_or_not():
    """Where something is learned tensors do what kernels do elsewhere."""
    batch = batch_of("PEPTLDE", "SAMPLERSAMPLER", "WWWWWWWWK")
    with torch.enable_grad():
        assert not compiled(batch.mz)
        by_tensors = annotations(batch, OPTIONS)
    with torch.no_grad():
        assert compiled(batch.mz)
        by_kernels = annotations(batch, OPTIONS)
    for one, other in zip(by_kernels, by_tensors, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
