"""What loading weights promises: all of a local file, or nothing and the reason; no pickle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dmtg_lite.encoders import (
    Encoder,
    build_encoder,
    load_pretrained,
    save_encoder,
    vit_base,
    vit_small,
    xception_small,
)

SHAPE = (3, 32, 32)


def make(
    name: str = "vit_small", *, seed: int = 0, image_shape: tuple[int, int, int] = SHAPE
) -> Encoder:
    torch.manual_seed(seed)
    return build_encoder(name, image_shape, capacity=2)


def values(encoder: Encoder) -> dict[str, Tensor]:
    return {
        name: value.clone() for name, value in nn.ModuleList(encoder.stages).state_dict().items()
    }


def write_timm(
    path: Path, *, grid: int = 4, width: int = 64, n_blocks: int = 4, patch: int = 8
) -> Path:
    """A file as timm names the weights of a ViT with a classifier of 10 classes; random numbers."""
    rng = torch.Generator().manual_seed(0)
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid**2, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (10, width),
        "head.bias": (10,),
    }
    layers = {
        "norm1": (width,),
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "norm2": (width,),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
    }
    for block in range(n_blocks):
        for layer, shape in layers.items():
            shapes[f"blocks.{block}.{layer}.weight"] = shape
            shapes[f"blocks.{block}.{layer}.bias"] = shape[:1]
    save_file({name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize("name", ["vit_small", "xception_small", "resnet", "toy"])
def test_what_was_saved_comes_back(tmp_path: Path, name: str) -> None:
    """Weights and statistics, bit for bit, also through `build_encoder`; no other file is left."""
    first, path = make(name), tmp_path / "encoder.safetensors"
    nn.Sequential(*first.stages)(
        torch.rand(4, *SHAPE)
    )  # batch norm statistics that are not 0 and 1
    save_encoder(first, path)
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.safetensors"]
    assert all(key.startswith("stages.") for key in load_file(path))
    second = make(name, seed=1)
    report = load_pretrained(second, path)
    assert (report.missing, report.unused, report.resized) == ((), (), False)
    third = build_encoder(name, SHAPE, capacity=2, pretrained=path)
    for key, value in values(first).items():
        assert torch.equal(values(second)[key], value)
        assert torch.equal(values(third)[key], value)


def test_weights_with_the_names_of_timm(tmp_path: Path) -> None:
    """Every weight goes to its place; our 1x1 convolution keeps its values; no head."""
    path, encoder = write_timm(tmp_path / "vit.safetensors"), make()
    before, theirs = values(encoder), load_file(path)
    report = load_pretrained(encoder, path)
    assert report.missing == ("stages.5.project.bias", "stages.5.project.weight")
    assert report.unused == ("head.bias", "head.weight")
    assert not report.resized
    after = values(encoder)
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        assert torch.equal(after.pop(f"0.{name}"), theirs[name])
    for name in ("norm.weight", "norm.bias"):
        assert torch.equal(after.pop(f"5.{name}"), theirs[name])
    for name in ("project.weight", "project.bias"):
        assert torch.equal(after.pop(f"5.{name}"), before[f"5.{name}"])
    for name, value in after.items():
        stage, _, rest = name.partition(".")
        assert torch.equal(value, theirs[f"blocks.{int(stage) - 1}.{rest}"])


def test_the_names_of_vit_base_are_timms(tmp_path: Path) -> None:
    """Names and shapes of vit_base_patch16_224, at 224x224; on meta, where only they exist."""
    with torch.device("meta"):
        encoder = vit_base((3, 224, 224))
    path = write_timm(tmp_path / "vit.safetensors", grid=14, width=768, n_blocks=12, patch=16)
    report = load_pretrained(encoder, path)
    assert report.missing == ("stages.13.project.bias", "stages.13.project.weight")
    assert not report.resized


def test_positions_of_another_grid_are_resized(tmp_path: Path) -> None:
    """A ramp over the picture stays that ramp inside it, both ways; the class token's is kept.

    Row r of n lies at (r + 1/2) / n of the height. Away from the border a cubic keeps a straight
    line: enlarged up to rounding, shrunk within a hundredth of the distance of two patches, 0.1.
    """
    encoder, path = (
        make(image_shape=(3, 64, 128)),
        write_timm(tmp_path / "vit.safetensors", grid=10),
    )
    content = load_file(path)
    places = (torch.arange(10) + 0.5) / 10
    content["pos_embed"][0, 1:, 0] = places.repeat_interleave(10)  # number 0: down
    content["pos_embed"][0, 1:, 1] = places.repeat(10)  # number 1: to the right
    save_file(content, path)
    assert load_pretrained(encoder, path).resized
    positions = encoder.stages[0].pos_embed[0].detach()
    assert torch.equal(positions[0], content["pos_embed"][0, 0])
    down, right = positions[1:, :2].unflatten(0, (8, 16)).unbind(-1)
    rows, columns = ((torch.arange(n) + 0.5) / n for n in (8, 16))
    torch.testing.assert_close(down[2:-2], rows[2:-2, None].expand(-1, 16), rtol=0, atol=1e-3)
    torch.testing.assert_close(right[:, 4:-4], columns[None, 4:-4].expand(8, -1), rtol=0, atol=1e-6)


def test_our_own_file_may_come_from_another_image_size(tmp_path: Path) -> None:
    """Positions are resized there too; an Xception has none and fits every size."""
    for name, is_resized in (("vit_small", True), ("xception_small", False)):
        save_encoder(make(name), tmp_path / "encoder.safetensors")
        other = make(name, image_shape=(3, 64, 64))
        assert load_pretrained(other, tmp_path / "encoder.safetensors").resized is is_resized


def test_half_precision_is_read(tmp_path: Path) -> None:
    """The encoder keeps float32, also where positions are resized."""
    path = write_timm(tmp_path / "vit.safetensors", grid=5)
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    encoder = make()
    load_pretrained(encoder, path)
    assert all(value.dtype == torch.float32 for value in values(encoder).values())


# ---------------------------------------------------------------- refusals


def change(path: Path, *, drop: str = "", add: dict[str, Tensor] | None = None) -> Path:
    content = {name: value for name, value in load_file(path).items() if name != drop}
    save_file(content | (add or {}), path)
    return path


@pytest.mark.parametrize("names", ["own", "timm"])
@pytest.mark.parametrize(
    ("own", "timm"),
    [
        ("stages.1.attn.qkv.bias", "blocks.0.attn.qkv.bias"),
        ("stages.0.pos_embed", "pos_embed"),
        ("stages.5.norm.weight", "norm.weight"),
    ],
)
def test_a_missing_weight_is_refused(tmp_path: Path, names: str, own: str, timm: str) -> None:
    """Named, together with the file, and the encoder stays as it was."""
    path, encoder = tmp_path / "vit.safetensors", make()
    if names == "own":
        save_encoder(make(seed=1), path)
    else:
        write_timm(path)
    before = values(encoder)
    with pytest.raises(
        ValueError, match=rf"vit\.safetensors is not .* expected but not there: {own};"
    ):
        load_pretrained(encoder, change(path, drop=own if names == "own" else timm))
    assert all(torch.equal(value, before[name]) for name, value in values(encoder).items())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Weights without a place, other shapes, other architectures: what was expected and found."""
    timm, own = tmp_path / "timm.safetensors", tmp_path / "own.safetensors"
    encoder = make()
    before = values(encoder)

    def refuse(path: Path, message: str, encoder: Encoder = encoder) -> None:
        with pytest.raises(ValueError, match=message):
            load_pretrained(encoder, path)

    refuse(write_timm(timm, n_blocks=6), r"not there: none; names found .*: stages\.5\..* 21 more")
    refuse(
        write_timm(timm, n_blocks=3), r"not there: stages\.4\.attn.* 9 more; names found .*: none"
    )
    refuse(
        change(write_timm(timm), add={"fc_norm.bias": torch.zeros(64)}),
        r"without a place: fc_norm\.bias",
    )
    refuse(write_timm(timm, width=32), r"cls_token of shape \(1, 1, 64\), found \(1, 1, 32\)")
    refuse(
        write_timm(timm, patch=16),
        r"proj\.weight of shape \(64, 3, 8, 8\), found \(64, 3, 16, 16\)",
    )
    for wrong in (
        torch.zeros(1, 13, 64),
        torch.zeros(1, 1, 64),
        torch.zeros(17),
    ):  # no square, none, no grid
        path = change(write_timm(timm), add={"pos_embed": wrong})
        refuse(path, r"pos_embed of shape \(1, 17, 64\), found")
    refuse(write_timm(timm), r"not there: stages\.0\.0\.weight", make("xception_small"))
    save_encoder(make("xception_small"), own)
    refuse(own, r"not there: stages\.0\.cls_token")
    save_encoder(make(), own)
    refuse(change(own, drop="stages.5.project.bias"), r"not there: stages\.5\.project\.bias;")
    assert all(torch.equal(value, before[name]) for name, value in values(encoder).items())


def test_pickles_and_other_files_are_refused(tmp_path: Path) -> None:
    """Whatever their name: a pickle can run code when it is read."""
    path = tmp_path / "weights.safetensors"
    torch.save(values(make()), path)
    with pytest.raises(
        ValueError, match=r"weights\.safetensors: expected a safetensors file, .* Pickles"
    ):
        load_pretrained(make(), path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        load_pretrained(make(), path)


def test_a_missing_file_says_that_nothing_is_downloaded(tmp_path: Path) -> None:
    """And where such a file comes from; a folder is not a file either."""
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"no weights at .*Nothing is downloaded: .*vit_base"
        ):
            build_encoder("vit_small", SHAPE, capacity=0, pretrained=path)


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file never takes the old one's name, and none is left behind."""
    path = tmp_path / "encoder.safetensors"
    save_encoder(xception_small(SHAPE), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save_encoder(vit_small(SHAPE), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.safetensors"]
