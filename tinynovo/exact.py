"""Exact: from the logits of slots to answers of exact precursor mass.

Knows how the better halves of either side are joined where their masses add up. Does not know
where the logits come from, nor how answers are ranked after that.

Axes: N answers, S slots, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinynovo.permitted import Permitted
from tinynovo.searching import Candidates
from tinynovo.tokens import PAD, n_terminal_tokens, token_masses

_HALF = 128
_CHOICES = 5


def exact_answers(
    logits: Tensor, residue_mass: Tensor, permitted: Permitted, window: Tensor, count: int
) -> Candidates:
    """The best answers from slot logits that weigh what the precursor weighs.

    The better halves of either side are enumerated, at most `_HALF` of each, and joined where
    their integer masses add up.

    Parameters
    ----------
    logits : float32 [N, S, V]
    residue_mass : int64 [N]
        Micro-dalton.
    permitted : Permitted
    window : int64 [N]
        Micro-dalton by which an answer may miss the precursor.
    count : int
        Answers wanted.

    Returns
    -------
    Candidates
        [N, count, S]: padding between residues is moved to the end.
    """
    slots = logits.shape[1]
    inner = permitted.others & ~n_terminal_tokens(logits.device)
    mask = torch.stack([permitted.first, *[inner] * (slots - 1)])
    logp = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), -1)
    left = _half(logp[:, : slots // 2])
    right = _half(logp[:, slots // 2 :])
    gap = left[1][:, :, None] + right[1][:, None, :] - residue_mass[:, None, None]
    fits = gap.abs() <= window[:, None, None]
    score = (left[2][:, :, None] + right[2][:, None, :]).masked_fill(~fits, -torch.inf)
    best, cell = score.flatten(1).topk(min(count, score[0].numel()), -1)
    one, two = cell // score.shape[2], cell % score.shape[2]
    first = left[0].gather(1, one[..., None].expand(-1, -1, left[0].shape[-1]))
    second = right[0].gather(1, two[..., None].expand(-1, -1, right[0].shape[-1]))
    tokens = squeezed(torch.cat([first, second], -1))
    return Candidates(tokens.masked_fill(~torch.isfinite(best)[..., None], PAD), best)


def _half(logp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best token rows of some slots [N, s, V]: tokens [N, H, s], mass and score [N, H]."""
    count, slots, _ = logp.shape
    masses = token_masses(logp.device)
    tokens = torch.zeros(count, 1, 0, dtype=torch.int64, device=logp.device)
    mass = torch.zeros(count, 1, dtype=torch.int64, device=logp.device)
    score = torch.zeros(count, 1, device=logp.device)
    for slot in range(slots):
        value, token = logp[:, slot].topk(_CHOICES, -1)
        total = (score[:, :, None] + value[:, None, :]).flatten(1)
        score, cell = total.topk(min(_HALF, total.shape[1]), -1)
        parent, chosen = cell // _CHOICES, token.gather(1, cell % _CHOICES)
        mass = mass.gather(1, parent) + masses[chosen]
        tokens = tokens.gather(1, parent[..., None].expand(-1, -1, slot))
        tokens = torch.cat([tokens, chosen[..., None]], -1)
    return tokens, mass, score


def squeezed(answers: Tensor) -> Tensor:
    """Answers [..., S] with padding between residues moved to the end."""
    order = torch.argsort((answers == PAD).to(torch.int8), dim=-1, stable=True)
    return answers.gather(-1, order)
