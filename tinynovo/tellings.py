"""Tellings: all that a directed scorer is told of an anchor, or of a candidate, in one row.

Compiled, by numba. Knows the features that `tinynovo.terms` adds up, written out: what a thread of
a GPU does for one row of a matrix. Does not know weights.

Axes: B spectra, Q anchors, K candidates, V tokens, I features, H hidden features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinynovo.compiling import Bits, Floats, Ints, jit
from tinynovo.cuts import CUT_FEATURES, ERRORS, FEW, GLOBALS, IONS, MIDDLE_FEATURES
from tinynovo.lookups import MASSES, MODIFIES, Ground, borne, ion_of
from tinynovo.masses import CARBON_MONOXIDE, PROTON, udalton
from tinynovo.terms import (
    ASKED,
    BETWEEN,
    SEEN_AT,
    ends_inside,
    far_ends,
    met,
    of_ion,
    tell_middle,
    tell_peak,
    tell_seen,
    tell_side,
)

_PROTON, _CO = udalton(PROTON), udalton(CARBON_MONOXIDE)
_MODIFICATIONS = np.flatnonzero(MODIFIES)

_ROOT = np.float32(math.sqrt(0.5))

PART = 4
"""Hidden features that a thread is given: few enough that neighbours read neighbours."""

ANCHOR_FEATURES = CUT_FEATURES + GLOBALS + 3
CANDIDATE_FEATURES = CUT_FEATURES + 10 + MIDDLE_FEATURES


class Asked(NamedTuple):
    """Anchors [Q] and candidates [K] of a scorer that goes one way.

    Attributes
    ----------
    forwards : bool
    lightest : int
        Mass of the lightest residue, micro-dalton.
    row, anchor, past : int64 [Q], [Q], [Q, 2]
        Spectra, cuts in micro-dalton, and the two tokens passed last, the nearer first.
    query, token : int64 [K]
        Anchors and tokens of candidates.
    cuts, ends : int64 [K], [K, 2]
        Written to: where they lead, and where fragments of the middle that they make begin.
    fit : bool [K]
        Written to: whether they fit the precursor and their place.
    """

    forwards: bool
    lightest: int
    row: Ints
    anchor: Ints
    past: Ints
    query: Ints
    token: Ints
    cuts: Ints
    ends: Ints
    fit: Bits


@jit
def fits(
    forwards: bool, lightest: int, token: int, anchor: int, remaining: int, slack: int
) -> bool:
    """Whether a token fits the precursor and its place, as `DirectedScorer` defines it."""
    closes = abs(remaining) <= slack
    if MODIFIES[token]:
        return anchor == 0 if forwards else closes
    fit = closes or remaining >= lightest - slack
    if not forwards:
        for modification in _MODIFICATIONS:
            fit = fit or abs(remaining - MASSES[modification]) <= slack
    return fit


@jit
def tell_place(told: Floats, ground: Ground, row: int, anchors: Ints) -> None:
    """Write what is known of the spectrum, and where in it anchors [N] lie, to [N, GLOBALS + 3]."""
    whole = max(np.float32(ground.facts[row, 0]) * np.float32(1e-9), np.float32(0.05))
    for n in range(anchors.shape[0]):
        for place in range(GLOBALS):
            told[n, place] = ground.known[row, place]
        at = np.float32(anchors[n]) * np.float32(1e-9)
        told[n, GLOBALS], told[n, GLOBALS + 1], told[n, GLOBALS + 2] = at, whole - at, at / whole


@jit
def _tell_cut(told: Floats, ground: Ground, row: int, cut: int) -> None:
    """Write what is found at a cut to zeros [I], its features first."""
    total, charge, rich = ground.facts[row, 0], ground.facts[row, 1], ground.features.shape[2]
    if not 0 < cut < total:
        return
    for ion in range(len(IONS)):
        if borne(ion, charge):
            query = ion_of(total, cut, ion)
            place, error = met(ground.mz, ground.starts, row, query, ground.window)
            if place >= 0:
                first, count, errors = of_ion(ion, rich)
                tell_peak(told[first:], ground.features, row, place, count, errors, error)


@jit
def _tell_fragments(
    told: Floats, ground: Ground, row: int, cut: int, ends: Ints, forwards: bool
) -> None:
    """Write what is found of the fragments of the middle that a candidate makes to zeros [I]."""
    if not ends_inside(ground.facts[row, 0], cut, ground.facts[row, 3], forwards):
        return
    for fragment in range(2):
        end = ends[fragment]
        for ion in range(2):
            query = max(abs(cut - end) + _PROTON - ion * _CO, 0)
            place, error = met(ground.mz, ground.starts, row, query, ground.window)
            if end >= 0 and place >= 0:
                first = BETWEEN + (2 * fragment + ion) * (FEW + ERRORS)
                tell_peak(told[first:], ground.features, row, place, FEW, ERRORS, error)


@jit
def tell_anchor(q: int, told: Floats, ground: Ground, asked: Asked) -> None:
    """Write what is known of an anchor to its row of [Q, ANCHOR_FEATURES]."""
    row, own, anchors = asked.row[q], told[q : q + 1], asked.anchor[q : q + 1]
    for place in range(ANCHOR_FEATURES):
        told[q, place] = 0
    _tell_cut(told[q], ground, row, anchors[0])
    tell_seen(own[:, SEEN_AT:], ground, row, anchors)
    tell_place(own[:, CUT_FEATURES:], ground, row, anchors)


@jit
def tell_candidate(k: int, told: Floats, ground: Ground, asked: Asked) -> None:
    """Write what is known of a candidate to its row of [K, CANDIDATE_FEATURES], if it fits."""
    q, token, forwards = asked.query[k], asked.token[k], asked.forwards
    row, anchor, own = asked.row[q], asked.anchor[q], told[k : k + 1]
    cut = anchor + (MASSES[token] if forwards else -MASSES[token])
    remaining = ground.facts[row, 0] - cut if forwards else cut
    fit = fits(forwards, asked.lightest, token, anchor, remaining, ground.facts[row, 3])
    asked.cuts[k], asked.fit[k] = cut, fit
    for place in range(CANDIDATE_FEATURES):
        told[k, place] = 0
    if not fit:
        return
    cuts, tokens = asked.cuts[k : k + 1], asked.token[k : k + 1]
    _tell_cut(told[k], ground, row, cut)
    tell_seen(own[:, SEEN_AT:], ground, row, cuts)
    tell_side(own[:, CUT_FEATURES:], ground, row, cuts, tokens, asked.lightest, forwards)
    ends, past = asked.ends, asked.past
    ends[k, 0], ends[k, 1] = far_ends(ground, row, anchor, past[q, 0], past[q, 1], forwards)
    _tell_fragments(told[k], ground, row, cut, ends[k], forwards)
    tell_middle(own[:, ASKED:], ground, row, cuts, ends[k : k + 1], forwards)


@jit
def bend(i: int, hidden: Floats, context: Floats, named: Floats) -> None:
    """Add what is known of anchors [Q, H] and tokens [V, H] to a part of [Q (V - 1), H]; then GELU.

    The candidates are all tokens but padding at every anchor; a part is `PART` of a row.
    """
    width, tokens = hidden.shape[1], named.shape[0] - 1
    parts = (width + PART - 1) // PART
    k = i // parts
    q, first = k // tokens, (i - k * parts) * PART
    token = k - q * tokens + 1
    for h in range(first, min(first + PART, width)):
        x = hidden[k, h] + context[q, h] + named[token, h]
        hidden[k, h] = x * np.float32(0.5) * (np.float32(1) + math.erf(x * _ROOT))
