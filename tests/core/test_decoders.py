"""What the dense decoder promises."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dmtg_lite.core.dense import Decoder


@pytest.mark.parametrize(
    ("n_outputs", "parameters", "gmacs"),
    [(1, 520_225, 0.912), (3, 520_803, 0.950), (18, 525_138, 1.233)],
)
def test_sizes_of_the_paper_decoder(n_outputs: int, parameters: int, gmacs: float) -> None:
    """A Taskonomy head, from 512 channels at 16x16 to 256x256, counted by hand."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        decoder = Decoder(512, (128, 64, 48, 32), n_outputs).eval()
        output = decoder(torch.zeros(1, 512, 16, 16))
    assert output.shape == (1, n_outputs, 256, 256)
    assert sum(weight.numel() for weight in decoder.parameters()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=0.0005)


def plain(decoder: Decoder, x: Tensor, n_widths: int) -> Tensor:
    """The layer table with torch's functions, weights in the table's order; nothing in place."""
    weights = iter(decoder.parameters())

    def norm_relu(x: Tensor) -> Tensor:
        return F.relu(F.batch_norm(x, None, None, next(weights), next(weights), training=True))

    for n in range(n_widths):
        x = norm_relu(F.conv_transpose2d(x, next(weights), next(weights), stride=2))
        if n < n_widths - 1:
            x = norm_relu(F.conv2d(x, next(weights), next(weights), padding=1))
    return F.conv2d(x, next(weights), next(weights), padding=1)


@pytest.mark.parametrize("widths", [(5,), (6, 5, 4)])
def test_the_decoder_is_its_layer_table(widths: tuple[int, ...]) -> None:
    """Values and gradients; every width doubles the resolution; the input stays as it was."""
    torch.manual_seed(0)
    decoder, features = Decoder(7, widths, 2), torch.randn(3, 7, 4, 6)
    before = features.clone()
    output = decoder(features)
    assert torch.equal(features, before)  # though ReLUs work in place: other tasks read it too
    assert output.shape == (3, 2, 4 * 2 ** len(widths), 6 * 2 ** len(widths))
    assert (output < 0).any()  # no ReLU at the end
    expected = plain(decoder, features, len(widths))
    torch.testing.assert_close(output, expected)
    pull, weights = torch.randn(output.shape), list(decoder.parameters())
    own, other = (torch.autograd.grad((y * pull).sum(), weights) for y in (output, expected))
    torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_a_decoder_needs_a_width() -> None:
    with pytest.raises(ValueError, match="`widths` is empty"):
        Decoder(4, (), 1)
