"""What encoders of pictures promise: the paper's sizes, layer by layer; stages to be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dmtg_lite.core.dense import Decoder
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.tasks import TASKONOMY_5, Task
from dmtg_lite.encoders import (
    ENCODERS,
    Encoder,
    build_encoder,
    vit_base,
    vit_small,
    xception,
    xception_small,
)
from dmtg_lite.encoders.vit import Block, Embedding, ToMap

SMALL = {"xception_small": (3, 32, 48), "vit_small": (3, 32, 48)}
DENSE = {"xception": (3, 32, 48), "vit_base": (3, 32, 48), **SMALL}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(build: Callable[..., Encoder], image_shape: tuple[int, int, int]) -> Encoder:
    """Shapes without numbers: counting takes no time."""
    with torch.device("meta"):
        return build(image_shape)


def count_stages(
    encoder: Encoder, image_shape: tuple[int, int, int]
) -> tuple[list[tuple], list[int]]:
    """Shape after every stage and multiply-adds of every stage, for one image."""
    x, shapes, macs = torch.zeros(1, *image_shape, device="meta"), [], []
    for stage in encoder.stages:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            x = stage.eval()(x)
        shapes.append(tuple(x.shape[1:]))
        macs.append(counter.get_total_flops() // 2)
    return shapes, macs


def count_heads(encoder: Encoder, features: tuple[int, ...]) -> int:
    """Multiply-adds of one decoder for each task of Taskonomy-5."""
    x = torch.zeros(1, *features, device="meta")
    with torch.device("meta"):
        decoders = [
            Decoder(encoder.out_features, encoder.decoder, task.n_outputs) for task in TASKONOMY_5
        ]
    with FlopCounterMode(display=False) as counter:
        for decoder in decoders:
            decoder.eval()(x)
    return counter.get_total_flops() // 2


# ---------------------------------------------------------------- the paper's Xception


def separable(c: int, d: int, pixels: int) -> tuple[int, int]:
    """Parameters (with batch norm) and multiply-adds of a separable convolution."""
    return 9 * c + c * d + 2 * d, (9 * c + c * d) * pixels


def down(c: int, d: int, side: int) -> tuple[int, int]:
    """Two separable convolutions at full size; 2x2 with bias and 1x1 with batch norm at half."""
    first, second, quarter = separable(c, d, side**2), separable(d, d, side**2), side**2 // 4
    return (
        first[0] + second[0] + (4 * d * d + d) + (c * d + 2 * d),
        first[1] + second[1] + 4 * d * d * quarter + c * d * quarter,
    )


def test_xception_layer_by_layer() -> None:
    """Parameters and multiply-adds at 256x256: formulas by hand, numbers of the layer table."""
    encoder = on_meta(xception, (3, 256, 256))
    middle = tuple(3 * value for value in separable(728, 728, 16**2))
    expected = [
        (27 * 32 + 64, 27 * 32 * 128**2),
        (9 * 32 * 64 + 128, 9 * 32 * 64 * 128**2),
        down(64, 128, 128),
        down(128, 256, 64),
        down(256, 728, 32),
        *[middle] * 8,
        separable(728, 512, 16**2),
    ]
    shapes, macs = count_stages(encoder, (3, 256, 256))
    assert list(zip(map(count, encoder.stages), macs, strict=True)) == expected
    assert shapes == [(32, 128, 128), (64, 128, 128), (128, 64, 64), (256, 32, 32)] + [
        (728, 16, 16)
    ] * 9 + [(512, 16, 16)]
    table = [928, 18_560, 100_928, 398_464, 3_036_608, *[1_613_976] * 8, 380_312]
    assert [count(stage) for stage in encoder.stages] == table
    assert sum(table) == 16_847_608
    assert sum(macs) / 1e9 == pytest.approx(6.4945, abs=0.00005)


def test_naive_mtl_on_taskonomy() -> None:
    """19,454,224 parameters, 11.41 thousand million multiply-adds, 43.1 % of them in the heads."""
    encoder = on_meta(xception, (3, 256, 256))
    with torch.device("meta"):
        heads = [Decoder(512, encoder.decoder, task.n_outputs) for task in TASKONOMY_5]
    assert sum(map(count, [*encoder.stages, *heads])) == 19_454_224
    shapes, macs = count_stages(encoder, (3, 256, 256))
    dense = count_heads(encoder, shapes[-1])
    assert (sum(macs) + dense) / 1e9 == pytest.approx(11.41, abs=0.005)
    assert dense / (sum(macs) + dense) == pytest.approx(0.431, abs=0.0005)


@pytest.mark.parametrize(
    ("n_groups", "shared", "gmacs"),
    [(3, 0, 34.2), (3, 3, 32.1), (3, 6, 27.2), (3, 9, 24.7), (4, 6, 35.1), (5, 6, 43.0)],
)
def test_cost_of_the_paper_settings(n_groups: int, shared: int, gmacs: float) -> None:
    """K groups behind the first m stages, each with all five heads.

    The paper prints other numbers, 56.89, 49.68, 42.67 and 33.36 for the first four (Table 6) and
    38.90, 50.68, 62.47 for K = 3, 4, 5 (Table A1), which differ from each other where they mean the
    same.
    """
    encoder = on_meta(xception, (3, 256, 256))
    shapes, macs = count_stages(encoder, (3, 256, 256))
    branch = sum(macs[shared:]) + count_heads(encoder, shapes[-1])
    assert (sum(macs[:shared]) + n_groups * branch) / 1e9 == pytest.approx(gmacs, abs=0.05)


def test_xception_starts_as_the_release_starts_it() -> None:
    """Convolutions normal with variance 2 / (k * k * outputs), batch norm 1 and 0.

    Layers of over 100,000 weights: the standard error of a standard deviation is below 0.3 %.
    """
    torch.manual_seed(0)
    for stage in xception((3, 32, 32)).stages[3:6]:
        for layer in stage.modules():
            if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 100_000:
                fan_out = layer.kernel_size[0] ** 2 * layer.out_channels
                assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
            if isinstance(layer, nn.BatchNorm2d):
                assert (layer.weight == 1).all()
                assert (layer.bias == 0).all()


def plain_xception(weights: Iterator[Tensor], x: Tensor, n_down: int, n_middle: int) -> Tensor:
    """The layer table with torch's functions, weights in its order; nothing in place."""

    def norm(x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, next(weights), next(weights), training=True)

    def sep(x: Tensor) -> Tensor:
        x = F.conv2d(x, next(weights), padding=1, groups=x.shape[1])
        return norm(F.conv2d(x, next(weights)))

    for stride in (2, 1):
        x = F.relu(norm(F.conv2d(x, next(weights), stride=stride, padding=1)))
    for block in range(n_down):
        y = sep(x if block == 0 else F.relu(x))
        y = F.conv2d(sep(F.relu(y)), next(weights), next(weights), stride=2)
        x = y + norm(F.conv2d(x, next(weights), stride=2))
    for _ in range(n_middle):
        x = x + sep(F.relu(sep(F.relu(sep(F.relu(x))))))
    return sep(F.relu(x))


def test_the_small_xception_is_its_layer_table() -> None:
    """Values and gradients of the table written plainly; a block's first ReLU spares its skip."""
    torch.manual_seed(0)
    whole, images = nn.Sequential(*xception_small((3, 32, 48)).stages), torch.rand(3, 3, 32, 48)
    features = whole(images)
    expected = plain_xception(iter(whole.parameters()), images, n_down=2, n_middle=2)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    pull, weights = torch.randn(expected.shape), list(whole.parameters())
    own, other = (torch.autograd.grad((y * pull).sum(), weights) for y in (features, expected))
    for mine, theirs in zip(own, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("build", [xception, xception_small])
def test_only_the_block_behind_the_convolutions_skips_its_first_relu(
    build: Callable[..., Encoder],
) -> None:
    """Its input is a ReLU's output already; all others have their own, wherever a branch starts."""
    blocks = on_meta(build, (3, 32, 32)).stages[2:-1]
    firsts = [type(block.body[0]) for block in blocks]
    assert firsts == [nn.Identity, *[nn.ReLU] * (len(blocks) - 1)]
    assert not any(block.body[0].inplace for block in blocks[1:])  # the skip reads the input too


# ---------------------------------------------------------------- ViT


def test_vit_base_layer_by_layer() -> None:
    """By hand at 256x256: 257 tokens; a block has 12 products of 768 x 768, two of 257 x 257."""
    encoder = on_meta(vit_base, (3, 256, 256))
    shapes, macs = count_stages(encoder, (3, 256, 256))
    block = 257 * 12 * 768**2 + 2 * 257**2 * 768
    assert macs == [256 * 768 * 768, *[block] * 12, 256 * 768 * 512]
    assert sum(macs[:-1]) / 1e9 == pytest.approx(23.2, abs=0.05)
    assert shapes == [(257, 768)] * 13 + [(512, 16, 16)]
    assert [count(stage) for stage in encoder.stages][1:13] == [
        12 * 768**2 + 9 * 768 + 4 * 768
    ] * 12


def test_parameters_of_vit_base() -> None:
    """At 224x224 without our 1x1 convolution: 85,798,656, the known number without classifier."""
    encoder = on_meta(vit_base, (3, 224, 224))
    assert sum(map(count, encoder.stages)) - count(encoder.stages[-1].project) == 85_798_656
    assert (
        sum(map(count, on_meta(vit_base, (3, 256, 256)).stages))
        == 85_798_656 + 60 * 768 + 769 * 512
    )


def test_a_block_is_torchs_own() -> None:
    """Oracle: TransformerEncoderLayer, norm first, with copied weights; values and gradients."""
    torch.manual_seed(0)
    block, x = Block(24, 4), torch.randn(3, 7, 24)
    other = nn.TransformerEncoderLayer(
        24, 4, 96, dropout=0.0, activation="gelu", layer_norm_eps=1e-6,
        batch_first=True, norm_first=True,
    )  # fmt: skip
    for weight in block.parameters():
        nn.init.normal_(weight, std=0.3)  # also norms and biases, so that each has a part
    pairs = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    for mine, theirs in pairs.items():
        other.get_submodule(theirs).load_state_dict(block.get_submodule(mine).state_dict())
    with torch.no_grad():
        other.self_attn.in_proj_weight.copy_(block.attn.qkv.weight)
        other.self_attn.in_proj_bias.copy_(block.attn.qkv.bias)
    own, expected = block(x), other(x)
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    pull = torch.randn(x.shape)
    (own * pull).sum().backward()
    (expected * pull).sum().backward()
    torch.testing.assert_close(
        block.attn.qkv.weight.grad, other.self_attn.in_proj_weight.grad, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(
        block.norm1.weight.grad, other.norm1.weight.grad, rtol=1e-3, atol=1e-4
    )


def test_tokens_are_patches_in_reading_order_behind_the_class_token() -> None:
    """Oracle: cut patch (row, column) out by hand, multiply, add the position."""
    torch.manual_seed(0)
    embedding, x = Embedding(3, (2, 3), 4, 5), torch.rand(2, 3, 8, 12)
    nn.init.normal_(embedding.cls_token)
    tokens, projection = embedding(x), embedding.patch_embed.proj
    assert tokens.shape == (2, 7, 5)
    positions = embedding.pos_embed[0]
    torch.testing.assert_close(
        tokens[:, 0], (embedding.cls_token[0, 0] + positions[0]).expand(2, 5)
    )
    for row in range(2):
        for column in range(3):
            patch = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            place = 1 + 3 * row + column
            value = torch.einsum("bchw,dchw->bd", patch, projection.weight) + projection.bias
            torch.testing.assert_close(tokens[:, place], value + positions[place])


def test_the_map_has_every_patch_in_its_place() -> None:
    """Pixel (row, column) is that patch's token, normed and projected; the class token drops."""
    torch.manual_seed(0)
    to_map, x = ToMap((2, 3), 8, 5), torch.randn(2, 7, 8)
    features, project = to_map(x), to_map.project
    assert features.shape == (2, 5, 2, 3)
    for row in range(2):
        for column in range(3):
            token = F.layer_norm(x[:, 1 + 3 * row + column], (8,), eps=1e-6)
            expected = token @ project.weight[:, :, 0, 0].T + project.bias
            torch.testing.assert_close(features[:, :, row, column], expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    ("build", "n_stages", "most", "out"),
    [
        (xception_small, 7, 12e6, 48),
        (vit_small, 6, 16e6, 48),
        (xception, 14, 7e9, 512),
        (vit_base, 14, 24e9, 512),
    ],
)
def test_shapes_and_cost(
    build: Callable[..., Encoder], n_stages: int, most: float, out: int
) -> None:
    """Features of the stated width; the decoder's doublings lead back to the image, also wide."""
    side = 64 if most < 1e9 else 256
    encoder = on_meta(build, (3, side, side))
    shapes, macs = count_stages(encoder, (3, side, side))
    stride = 2 ** len(encoder.decoder)
    assert len(encoder.stages) == n_stages
    assert (encoder.out_features, shapes[-1]) == (out, (out, side // stride, side // stride))
    assert sum(macs) < most
    wide, _ = count_stages(on_meta(build, (3, side, 2 * side)), (3, side, 2 * side))
    assert wide[-1] == (out, side // stride, 2 * side // stride)


@pytest.mark.parametrize(("name", "image_shape"), SMALL.items())
def test_sharing_the_first_stages_changes_no_value(
    name: str, image_shape: tuple[int, int, int]
) -> None:
    """Whatever m: two branches behind one stem each give what the whole encoder gives, bit for bit.

    Also in training mode and for the second branch: no stage writes into what it was given.
    """
    torch.manual_seed(0)
    stages, images = (
        build_encoder(name, image_shape, capacity=0).stages,
        torch.rand(3, *image_shape),
    )
    before, expected = images.clone(), nn.Sequential(*stages)(images)
    for m in range(len(stages)):
        stem, branch = nn.Sequential(*stages[:m]), nn.Sequential(*stages[m:])
        shared = stem(images)
        for own in (branch, deepcopy(branch)):
            assert torch.equal(own(shared), expected)
    assert torch.equal(images, before)


@pytest.mark.parametrize(("name", "image_shape"), DENSE.items())
def test_a_training_step_reaches_every_weight(name: str, image_shape: tuple[int, int, int]) -> None:
    """Encoder and decoder together: an output as large as the image, finite gradients."""
    torch.manual_seed(0)
    encoder = build_encoder(name, image_shape, capacity=0)
    network = nn.Sequential(*encoder.stages, Decoder(encoder.out_features, encoder.decoder, 2))
    output = network(torch.rand(2, *image_shape))
    assert output.shape == (2, 2, *image_shape[1:])
    output.square().mean().backward()
    for weight in network.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_the_small_ones_learn(name: str) -> None:
    """Forty steps on one batch: which half of the picture is brighter, pixel by pixel."""
    torch.manual_seed(0)
    encoder = build_encoder(name, (3, 32, 32), capacity=0)
    network = nn.Sequential(*encoder.stages, Decoder(encoder.out_features, encoder.decoder, 1))
    images = torch.rand(8, 3, 32, 32) * 0.2
    images[:4, :, :, :16] += 0.8
    images[4:, :, 16:] += 0.8
    targets = images.mean(1, keepdim=True).round() * 2 - 1
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=4e-3), []
    for _ in range(40):
        loss = F.l1_loss(network(images), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_attention_is_counted_on_a_cpu() -> None:
    """Multiply-adds of the small ViT at 64x64 by hand: 65 tokens, 64 wide."""
    network = GroupedNetwork.naive((Task("depth", 1, "l1", "rmse", is_dense=True),), vit_small())
    block = 65 * 12 * 64**2 + 2 * 65**2 * 64
    assert count_macs(network, (3, 64, 64))["encoder"] == 64 * 192 * 64 + 4 * block + 64 * 64 * 48


def test_sizes_that_do_not_fit_are_refused() -> None:
    """A decoder could not give the image's size back."""
    for name, side in (("xception", 16), ("vit_base", 16), ("xception_small", 8), ("vit_small", 8)):
        with pytest.raises(
            ValueError, match=f"needs H and W divisible by {side}, got {side}x{side + 4}"
        ):
            ENCODERS[name]((3, side, side + 4))
