"""The evidence scorer: the draft, the prior and the safety net.

Knows the small network, shared over candidates, that turns what was found at a cut into an
embedding and a score of every candidate residue. Does not know the recursion, losses or files.

Axes: B spectra, S slots (or beams), V candidate tokens, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinynovo.evidence import (
    CUT_FEATURES,
    GLOBALS,
    EvidenceOptions,
    PeakTable,
    cut_features,
    cut_support,
)
from tinynovo.tokens import PAD, VOCABULARY, n_terminal_tokens, token_masses

CLOSED = 10_000
"""Micro-dalton within which a remaining mass counts as none, beside 25 ppm of the whole."""

_LIGHTEST = min(mass for mass in token_masses().tolist() if mass > 50 * 1_000_000)
_SIDE_FEATURES = 10
_OFFSET = 1 << 35
"""Added to an anchor so that it is positive: answers of the loop may weigh too much."""


def _side_features(
    table: PeakTable, row: Tensor, token: Tensor, cut: Tensor, remaining: Tensor, forwards: bool
) -> Tensor:
    """What is known of a candidate beside its ions; all int64 [K], returns [K, _SIDE_FEATURES]."""
    residues = token_masses(cut.device)[1:20]
    ahead = cut[:, None] + (residues if forwards else -residues)
    best = cut_support(table, row, ahead).topk(2, -1).values
    slack = closing_slack(table.batch.residue_mass[row])
    left = remaining.to(torch.float32) * 1e-6
    return torch.stack(
        [
            cut_support(table, row, cut),
            best[:, 0],
            best[:, 1],
            table.immonium[row, token],
            (remaining.abs() <= slack).to(torch.float32),
            (remaining < -slack).to(torch.float32),
            ((remaining > slack) & (remaining < _LIGHTEST - slack)).to(torch.float32),
            (left / 0.03).clamp(-3, 3),
            (left / 100).clamp(-3, 3),
            (left / 1000).clamp(-3, 3),
        ],
        -1,
    )


def closing_slack(residue_mass: Tensor) -> Tensor:
    """Micro-dalton by which the last cut may miss the precursor: int64, shape of the input."""
    return (residue_mass.to(torch.float32) * 25e-6).to(torch.int64) + CLOSED


class DirectedScorer(nn.Module):
    """Scores every candidate residue at an anchor, going one way along the peptide.

    One small network is shared over all candidates; what is known of the anchor enters its first
    layer as a bias.
    """

    def __init__(self, options: EvidenceOptions, *, forwards: bool) -> None:
        super().__init__()
        self.options = options
        self.forwards = forwards
        width = options.hidden
        self.past = nn.Embedding(2 * VOCABULARY, width)
        self.context = nn.Sequential(
            nn.Linear(CUT_FEATURES + GLOBALS + 3, width), nn.GELU(), nn.Linear(width, width)
        )
        self.candidate = nn.Embedding(VOCABULARY, width)
        self.first = nn.Linear(CUT_FEATURES + _SIDE_FEATURES, width)
        self.second = nn.Linear(width, width // 2)
        self.third = nn.Linear(width // 2, options.embedding)
        self.score = nn.Linear(options.embedding, 1)

    def forward(self, table: PeakTable, anchor: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and logit of every candidate.

        Parameters
        ----------
        table : PeakTable
        anchor : int64 [B, S]
            Cut where the candidate begins (forwards) or ends (backwards), micro-dalton.
        past : int64 [B, S, 2]
            The two tokens passed last, nearest first; PAD where there is none.

        Returns
        -------
        embedding : float32 [B, S, V, E]
        logits : float32 [B, S, V]
            Candidates that do not fit are at a large negative number.
        """
        rows = torch.arange(anchor.shape[0], device=anchor.device)[:, None].expand_as(anchor)
        place = (rows << 36) | (anchor.clamp(-_OFFSET, _OFFSET - 1) + _OFFSET)
        key = (((place << 5) | past[..., 0]) << 5) | past[..., 1]
        key, where = torch.unique(key, return_inverse=True)
        past = torch.stack([(key >> 5) & 31, key & 31], -1)
        row, anchor = key >> 46, ((key >> 10) & ((1 << 36) - 1)) - _OFFSET
        embedding, logits = self.candidates(table, row, anchor, past)
        return embedding[where], logits[where]

    def candidates(
        self, table: PeakTable, row: Tensor, anchor: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same for a flat list of anchors, each put to one spectrum.

        ``row`` and ``anchor`` are int64 [Q], ``past`` int64 [Q, 2]; returns [Q, V, E] and [Q, V].
        Only candidates that fit are looked up: the embedding of all others is zero.
        """
        mass = token_masses(anchor.device)
        cut = anchor[:, None] + (mass if self.forwards else -mass)
        total = table.batch.residue_mass[row]
        remaining = (total[:, None] - cut) if self.forwards else cut
        fits = self.allowed(table, row, anchor, remaining)
        query, token = fits.nonzero(as_tuple=True)
        spectrum, cut, remaining = row[query], cut[fits], remaining[fits]
        at_cut = cut_features(table, spectrum, cut, self.options)
        side = _side_features(table, spectrum, token, cut, remaining, self.forwards)
        hidden = self.first(torch.cat([at_cut, side], -1))
        hidden = hidden + self._context(table, row, anchor, past)[query]
        hidden = nn.functional.gelu(hidden + self.candidate(token))
        hidden = nn.functional.gelu(self.second(hidden))
        found = self.third(hidden)
        logit = self.score(nn.functional.gelu(found)).squeeze(-1)
        place = (query, token)
        embedding = found.new_zeros(*fits.shape, found.shape[-1]).index_put(place, found)
        logits = logit.new_full(fits.shape, -1e4).index_put(place, logit)
        return embedding, logits

    def _context(self, table: PeakTable, row: Tensor, anchor: Tensor, past: Tensor) -> Tensor:
        """What is known of an anchor, for all its candidates: [Q, hidden]."""
        place = anchor.to(torch.float32) * 1e-9
        whole = (table.batch.residue_mass[row].to(torch.float32) * 1e-9).clamp(min=0.05)
        where = torch.stack([place, whole - place, place / whole], -1)
        at_anchor = cut_features(table, row, anchor, self.options)
        context: Tensor = self.context(torch.cat([at_anchor, table.globals[row], where], -1))
        offset = torch.tensor([0, VOCABULARY], device=past.device)
        history: Tensor = self.past(past + offset).sum(-2)
        return context + history

    def allowed(self, table: PeakTable, row: Tensor, anchor: Tensor, remaining: Tensor) -> Tensor:
        """Which candidates fit the precursor and their place: bool [Q, V]."""
        slack = closing_slack(table.batch.residue_mass[row])[:, None]
        modification = n_terminal_tokens(anchor.device)
        closes = remaining.abs() <= slack
        fits = closes | (remaining >= _LIGHTEST - slack)
        if self.forwards:
            fits = torch.where(modification, (anchor == 0)[:, None], fits)
        else:
            for token in modification.nonzero().flatten().tolist():
                fits |= (remaining - token_masses(anchor.device)[token]).abs() <= slack
            fits = torch.where(modification, closes, fits)
        fits[:, PAD] = False
        return fits


class EvidenceScorer(nn.Module):
    """The scorer in both directions: the draft, the prior and the safety net."""

    def __init__(self, options: EvidenceOptions) -> None:
        super().__init__()
        self.options = options
        self.forwards = DirectedScorer(options, forwards=True)
        self.backwards = DirectedScorer(options, forwards=False)

    def forward(self, table: PeakTable, answer: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both scorers at the anchors that an answer gives.

        Parameters
        ----------
        table : PeakTable
        answer : int64 [N, S]
            Token ids, padded; N a multiple of B, the answers of a spectrum one after another.

        Returns
        -------
        embedding, logits, embedding, logits
            Forwards, then backwards: [N, S, V, E] and [N, S, V].
        """
        rows, shape = table.batch.mz.shape[0], answer.shape
        mass = table.batch.residue_mass.repeat_interleave(shape[0] // rows)
        found: list[Tensor] = []
        left, right = anchors(answer, mass)
        for one, anchor, side in ((self.forwards, left, -1), (self.backwards, right, 1)):
            past = neighbours(answer, side).view(rows, -1, 2)
            embedding, logits = one(table, anchor.view(rows, -1), past)
            found += [embedding.view(*shape, VOCABULARY, -1), logits.view(*shape, VOCABULARY)]
        return found[0], found[1], found[2], found[3]


def anchors(answer: Tensor, residue_mass: Tensor) -> tuple[Tensor, Tensor]:
    """Left and right anchors of every slot of an answer: int64 [B, S], micro-dalton.

    Left is counted from the N-terminus, right from the C-terminus; they meet where the answer
    weighs what the precursor weighs.
    """
    mass = token_masses(answer.device)[answer]
    sums = mass.cumsum(-1)
    return sums - mass, residue_mass[:, None] - (sums[:, -1:] - sums)


def neighbours(answer: Tensor, direction: int) -> Tensor:
    """The two tokens before (-1) or behind (+1) every slot, nearest first: int64 [B, S, 2]."""
    if direction < 0:
        padded = nn.functional.pad(answer, (2, 0), value=PAD)
        return torch.stack([padded[:, 1:-1], padded[:, :-2]], -1)
    padded = nn.functional.pad(answer, (0, 2), value=PAD)
    return torch.stack([padded[:, 1:-1], padded[:, 2:]], -1)
