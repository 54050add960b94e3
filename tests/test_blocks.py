"""Compiled blocks against the layers that define them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynovo import blocks
from tinynovo.layers import EncoderBlock, ModelOptions, TinyBlock

SHAPE = ModelOptions(width=32, heads=4, expansion=2, encoder_blocks=0, dropout=0.3)


def alike(block: torch.nn.Module, x: torch.Tensor, *others: object) -> bool:
    """Whether a block says the same where it could learn, and where it is compiled."""
    before = x.clone()
    expected = block(x, *others)
    assert expected.requires_grad
    with torch.inference_mode():
        found = block(x, *others)
    assert torch.equal(x, before)
    return torch.allclose(found, expected, rtol=1e-4, atol=5e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 9), st.integers(1, 30), st.integers(1, 24), st.sampled_from([0.01, 1.0, 5.0]))
def test_compiled_blocks_say_what_the_layers_say(
    seed: int, answers: int, slots: int, scale: float
) -> None:
    torch.manual_seed(seed)
    x = scale * torch.randn(answers, slots, SHAPE.width)
    real = torch.rand(answers, slots) < 0.7
    real[:, 0] = True
    encoder, tiny = EncoderBlock(SHAPE).eval(), TinyBlock(SHAPE).eval()
    for weights in (*encoder.parameters(), *tiny.parameters()):
        weights.data *= 1 + torch.rand_like(weights)  # those of norms are all alike before
    assert alike(encoder, x, real)
    assert alike(tiny, x, None, real)


def test_what_is_compiled_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(blocks, "run", refuse)
    x, real = torch.randn(2, 5, SHAPE.width), torch.ones(2, 5, dtype=torch.bool)
    encoder = EncoderBlock(SHAPE)
    with torch.inference_mode():
        encoder.train()(x, real)  # forgets features: not compiled
        encoder.eval().bfloat16()(x.bfloat16(), real)
        with pytest.raises(AssertionError, match="compiled"):
            encoder.float()(x, real)
        with pytest.raises(AssertionError, match="compiled"):
            TinyBlock(SHAPE)(x, None, real)


def test_a_row_that_attends_to_nothing_is_finite() -> None:
    x, real = torch.randn(3, 4, SHAPE.width), torch.zeros(3, 4, dtype=torch.bool)
    with torch.inference_mode():
        assert EncoderBlock(SHAPE).eval()(x, real).isfinite().all()
