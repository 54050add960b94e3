"""The evidence scorer: the draft, the prior and the safety net.

Knows the small network, shared over candidates, that turns what was found at a cut into an
embedding and a score of every candidate residue. Does not know the recursion, losses or files.

Axes: B spectra, S slots (or beams), V candidate tokens, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tinynovo import kernels, stores
from tinynovo.compiling import Floats
from tinynovo.cuts import CUT_FEATURES, GLOBALS, MIDDLE_FEATURES
from tinynovo.evidence import (
    EvidenceOptions,
    PeakTable,
    closing_slack,
    compiled,
    cut_features,
    cut_support,
)
from tinynovo.kernels import UNFIT, Weights
from tinynovo.launches import launch, launchable, seen
from tinynovo.lookups import Ground
from tinynovo.middle import middle_features
from tinynovo.questions import LIGHTEST, Anchors, all_candidates, anchors_told, candidates_told
from tinynovo.tellings import PART, bend
from tinynovo.terms import DENSE
from tinynovo.tokens import PAD, VOCABULARY, n_terminal_tokens, token_masses

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
            ((remaining > slack) & (remaining < LIGHTEST - slack)).to(torch.float32),
            (left / 0.03).clamp(-3, 3),
            (left / 100).clamp(-3, 3),
            (left / 1000).clamp(-3, 3),
        ],
        -1,
    )


def _key(row: Tensor, anchor: Tensor, past: Tensor) -> Tensor:
    """One number for all that an anchor is: int64 [Q]."""
    place = (row << 36) | (anchor.clamp(-_OFFSET, _OFFSET - 1) + _OFFSET)
    return ((((place << 5) | past[..., 0]) << 5) | past[..., 1]).flatten()


def _unlike(row: Tensor, anchor: Tensor, past: Tensor) -> tuple[Anchors, Tensor]:
    """Each anchor once, and where each of those given stands among them."""
    key, where = torch.unique(_key(row, anchor, past), return_inverse=True)
    past = torch.stack([(key >> 5) & 31, key & 31], -1)
    unlike = Anchors(key >> 46, ((key >> 10) & ((1 << 36) - 1)) - _OFFSET, past)
    return unlike, where.view(anchor.shape)


@dataclass(frozen=True, eq=False)
class _Cut:
    """Cuts [K] of candidates: their spectra, micro-dalton, and micro-dalton beyond them."""

    row: Tensor
    cut: Tensor
    remaining: Tensor


@dataclass(frozen=True, eq=False)
class _Found:
    """Candidates [K]: anchor, token, embedding [K, E] and logit."""

    query: Tensor
    token: Tensor
    embedding: Tensor
    logit: Tensor

    def logits(self, anchors: int) -> Tensor:
        """Logits [Q, V] of as many anchors, `UNFIT` for what was not asked."""
        out = self.logit.new_full((anchors, VOCABULARY), UNFIT)
        return out.index_put((self.query, self.token), self.logit)


class Memo:
    """What a scorer said of the anchors of a table: it is not asked again."""

    def __init__(self, scorer: DirectedScorer) -> None:
        self.store = stores.opened(scorer.weights())

    def reserve(self, more: int) -> stores.Store:
        """The store, with room for so many more anchors."""
        self.store = stores.roomier(self.store, more)
        return self.store

    def logits(self, ground: Ground, asked: Anchors) -> Tensor:
        """Logits [Q, V] of anchors."""
        store = self.reserve(asked.row.numel())
        return torch.from_numpy(store.values[stores.ask(store, ground, *asked.arrays())])


def _arrays(layer: nn.Module) -> tuple[Floats, Floats]:
    """Weights of a layer, input by input, and its bias."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return weight.detach().T.contiguous().numpy(), bias.detach().numpy()


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
        self.first = nn.Linear(CUT_FEATURES + _SIDE_FEATURES + MIDDLE_FEATURES, width)
        self.second = nn.Linear(width, width // 2)
        self.third = nn.Linear(width // 2, options.embedding)
        self.score = nn.Linear(options.embedding, 1)

    def forward(
        self, table: PeakTable, row: Tensor, anchor: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embedding and logit of every candidate.

        Parameters
        ----------
        table : PeakTable
        row : int64 [...]
            The spectrum of each anchor.
        anchor : int64 [...]
            Cut where the candidate begins (forwards) or ends (backwards), micro-dalton.
        past : int64 [..., 2]
            The two tokens passed last, nearest first; PAD where there is none.

        Returns
        -------
        embedding : float32 [..., V, E]
            Zero for candidates that do not fit.
        logits : float32 [..., V]
            Candidates that do not fit are at a large negative number.
        """
        asked, where = _unlike(row, anchor, past)
        if compiled(table.features):
            embedding = anchor.new_zeros(
                asked.row.shape[0], VOCABULARY, self.options.embedding, dtype=torch.float32
            )
            weights, ground = self.memo(table).store.weights, table.ground
            told = kernels.logits(weights, ground, *asked.arrays(), embedding.numpy())
            return embedding[where], torch.from_numpy(told)[where]
        found = self._found(table, asked, *self._fitting(table, asked))
        logits = found.logits(asked.row.shape[0])
        embedding = found.embedding.new_zeros(*logits.shape, found.embedding.shape[-1])
        embedding = embedding.index_put((found.query, found.token), found.embedding)
        return embedding[where], logits[where]

    def logits(self, table: PeakTable, row: Tensor, anchor: Tensor, past: Tensor) -> Tensor:
        """The logits alone: float32 [..., V].

        Where the kernels work, what was asked of a table before is remembered.
        """
        if launchable(row) and not torch.is_grad_enabled():
            asked, where = _unlike(row, anchor, past)
            return self.ask(table, asked)[where]
        if not compiled(table.features):
            asked, where = _unlike(row, anchor, past)
            found = self._found(table, asked, *self._fitting(table, asked))
            return found.logits(asked.row.shape[0])[where]
        asked = Anchors(row.flatten(), anchor.flatten(), past.view(-1, 2))
        return self.memo(table).logits(table.ground, asked).view(*anchor.shape, VOCABULARY)

    def embedding(
        self, table: PeakTable, row: Tensor, anchor: Tensor, past: Tensor, token: Tensor
    ) -> Tensor:
        """Embedding of one token at each anchor, float32 [..., E]; zero where it does not fit."""
        asked = Anchors(row.flatten(), anchor.flatten(), past.view(-1, 2))
        if compiled(table.features):
            weights, ground = self.memo(table).store.weights, table.ground
            rows = kernels.embeddings(weights, ground, *asked.arrays(), token.flatten().numpy())
            return torch.from_numpy(rows).view(*token.shape, -1)
        query, tokens = torch.arange(token.numel(), device=token.device), token.flatten()
        fits = self._fits(table, asked, query, tokens)
        found = self._found(table, asked, query[fits], tokens[fits]).embedding
        out = found.new_zeros(token.numel(), found.shape[-1]).index_put((query[fits],), found)
        return out.view(*token.shape, -1)

    def ask(self, table: PeakTable, asked: Anchors) -> Tensor:
        """Logits [Q, V] of anchors, found by a thread for each candidate."""
        out = torch.full((asked.row.shape[0], VOCABULARY), UNFIT, device=asked.row.device)
        for some, few in asked.handfuls():
            query, token = all_candidates(few)
            told, fit = candidates_told(table, few, query, token, self.forwards)
            hidden, context = self.first(told), self._context(table, few)
            arrays = (seen(part.detach()) for part in (hidden, context, self.candidate.weight))
            parts = -(-hidden.shape[1] // PART) * hidden.shape[0]
            launch(hidden.device, bend, parts, *arrays)
            logit = self._network(hidden)[1].masked_fill(~fit, UNFIT)
            out[some, 1:] = logit.view(-1, VOCABULARY - 1)
        return out

    def places(
        self, table: PeakTable, row: Tensor, answer: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, anchors and tokens passed at every slot of answers [N, S] to spectra [N]."""
        left, right = anchors(answer, table.batch.residue_mass[row])
        rows, step = row[:, None].expand_as(answer), -1 if self.forwards else 1
        return rows, left if self.forwards else right, neighbours(answer, step)

    def _cut(self, table: PeakTable, asked: Anchors, query: Tensor, token: Tensor) -> _Cut:
        """The cuts of candidates [K], and what then remains."""
        mass = token_masses(query.device)[token]
        row = asked.row[query]
        cut = asked.anchor[query] + (mass if self.forwards else -mass)
        remaining = table.batch.residue_mass[row] - cut if self.forwards else cut
        return _Cut(row, cut, remaining)

    def memo(self, table: PeakTable) -> Memo:
        """What was said of a table before."""
        if self not in table.memos:
            table.memos[self] = Memo(self)
        return cast(Memo, table.memos[self])

    def weights(self) -> Weights:
        """The scorer, for the kernels."""
        first = self.first.weight.detach().T.contiguous().numpy()
        named = self.candidate.weight.detach() + self.first.bias.detach()
        return Weights(
            self.forwards,
            LIGHTEST,
            *_arrays(self.context[0]),
            *_arrays(self.context[2]),
            self.past.weight.detach().numpy(),
            named.numpy(),
            first,
            first[DENSE],
            *_arrays(self.second),
            *_arrays(self.third),
            *_arrays(self.score),
        )

    def _fitting(self, table: PeakTable, asked: Anchors) -> tuple[Tensor, Tensor]:
        """Anchor and token of all candidates that fit: int64 [K] each."""
        every = torch.ones(
            asked.row.shape[0], VOCABULARY, dtype=torch.bool, device=asked.row.device
        )
        query, token = every.nonzero(as_tuple=True)
        fits = self._fits(table, asked, query, token)
        return query[fits], token[fits]

    def _found(self, table: PeakTable, asked: Anchors, query: Tensor, token: Tensor) -> _Found:
        """Embedding and logit of candidates [K]."""
        hidden = nn.functional.gelu(self._first(table, asked, query, token))
        return _Found(query, token, *self._network(hidden))

    def _network(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [K, E] and logits [K] of first layers [K, hidden]."""
        hidden = nn.functional.gelu(self.second(hidden))
        found: Tensor = self.third(hidden)
        return found, self.score(nn.functional.gelu(found)).squeeze(-1)

    def _first(self, table: PeakTable, asked: Anchors, query: Tensor, token: Tensor) -> Tensor:
        """The first layer of candidates: [K, hidden]."""
        context = self._context(table, asked)
        first: Tensor = self.first(self._told(table, asked, query, token))
        named: Tensor = self.candidate(token)
        return first + context[query] + named

    def _told(self, table: PeakTable, asked: Anchors, query: Tensor, token: Tensor) -> Tensor:
        """What is known of candidates that fit: [K, CANDIDATE_FEATURES]."""
        if launchable(query):
            return candidates_told(table, asked, query, token, self.forwards)[0]
        at = self._cut(table, asked, query, token)
        at_cut = cut_features(table, at.row, at.cut)
        side = _side_features(table, at.row, token, at.cut, at.remaining, self.forwards)
        between = (at.row, asked.anchor[query], at.cut, asked.past[query])
        return torch.cat([at_cut, side, middle_features(table, *between, self.forwards)], -1)

    def _context(self, table: PeakTable, asked: Anchors) -> Tensor:
        """What is known of anchors, for all their candidates: [Q, hidden]."""
        context: Tensor = self.context(self._told_of_anchors(table, asked))
        offset = torch.arange(0, 2 * VOCABULARY, VOCABULARY, device=asked.row.device)
        history: Tensor = self.past(asked.past + offset).sum(-2)
        return context + history

    def _told_of_anchors(self, table: PeakTable, asked: Anchors) -> Tensor:
        """What is known of anchors: [Q, ANCHOR_FEATURES]."""
        row, anchor = asked.row, asked.anchor
        if launchable(row):
            return anchors_told(table, asked, self.forwards)
        place = anchor.to(torch.float32) * 1e-9
        whole = (table.batch.residue_mass[row].to(torch.float32) * 1e-9).clamp(min=0.05)
        where = torch.stack([place, whole - place, place / whole], -1)
        return torch.cat([cut_features(table, row, anchor), table.globals[row], where], -1)

    def _fits(self, table: PeakTable, asked: Anchors, query: Tensor, token: Tensor) -> Tensor:
        """Which candidates fit the precursor and their place: bool [K]."""
        at = self._cut(table, asked, query, token)
        slack = closing_slack(table.batch.residue_mass[at.row])
        modifications = n_terminal_tokens(query.device)
        closes = at.remaining.abs() <= slack
        fits = closes | (at.remaining >= LIGHTEST - slack)
        if self.forwards:
            first = asked.anchor[query] == 0
        else:
            for mass in token_masses(query.device)[modifications].tolist():
                fits |= (at.remaining - mass).abs() <= slack
            first = closes
        return torch.where(modifications[token], first, fits) & (token != PAD)


class EvidenceScorer(nn.Module):
    """The scorer in both directions: the draft, the prior and the safety net."""

    def __init__(self, options: EvidenceOptions) -> None:
        super().__init__()
        self.options = options
        self.forwards = DirectedScorer(options, forwards=True)
        self.backwards = DirectedScorer(options, forwards=False)

    def forward(
        self, table: PeakTable, row: Tensor, answer: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both scorers at the anchors that an answer gives.

        Parameters
        ----------
        table : PeakTable
        row : int64 [N]
            The spectrum of each answer.
        answer : int64 [N, S]
            Token ids, padded.

        Returns
        -------
        embedding, logits, embedding, logits
            Forwards, then backwards: [N, S, V, E] and [N, S, V].
        """
        one, two = (way.places(table, row, answer) for way in (self.forwards, self.backwards))
        return *self.forwards(table, *one), *self.backwards(table, *two)

    def own(self, table: PeakTable, row: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of both of the answer's own tokens: [N, S, E]."""
        one, two = (way.places(table, row, answer) for way in (self.forwards, self.backwards))
        first = self.forwards.embedding(table, *one, answer)
        return first, self.backwards.embedding(table, *two, answer)

    def logits(self, table: PeakTable, row: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of both alone: [N, S, V]."""
        one, two = (way.places(table, row, answer) for way in (self.forwards, self.backwards))
        return self.forwards.logits(table, *one), self.backwards.logits(table, *two)


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
