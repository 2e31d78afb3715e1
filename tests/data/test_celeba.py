"""What preparing and opening CelebA promise, on generated files in its formats; no CelebA here.

Kills, full disks and damaged folders are `test_prepared_folder`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

from PIL import Image

from dmtg_lite import cli
from dmtg_lite.data import prepared_folder
from dmtg_lite.data.celeba import prepare as celeba_prepare
from dmtg_lite.data.celeba.files import find_celeba
from dmtg_lite.data.celeba.images import decode, resize_bilinear
from dmtg_lite.data.celeba.lists import NAMES, read_attributes
from dmtg_lite.data.celeba.load import celeba
from dmtg_lite.data.celeba.prepare import prepare_celeba
from dmtg_lite.data.stand_ins.attribute_copula import sample_attributes
from dmtg_lite.data.stand_ins.celeba_files import LAYOUTS, attribute_text, make_fake_celeba

N = 40
ARRAYS = ("images.npy", "labels.npy", "split.npy")


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> Callable[[str], Path]:
    """The same fake CelebA in each layout, made when asked for."""
    folder = tmp_path_factory.mktemp("fake")

    def make(layout: str) -> Path:
        if layout == "parquet":
            pytest.importorskip("pyarrow")
        out = folder / layout
        return out if out.exists() else make_fake_celeba(out, n=N, n_drawn=13, layout=layout)

    return make


@pytest.fixture(scope="module")
def prepared(roots, tmp_path_factory) -> Path:
    """All 40 attributes of the torchvision layout."""
    return prepare(roots("torchvision"), tmp_path_factory.mktemp("prepared") / "out")


@pytest.fixture
def root(roots, tmp_path) -> Path:
    """A copy of the torchvision layout to be damaged."""
    return Path(shutil.copytree(roots("torchvision"), tmp_path / "root"))


def prepare(root: Path, out: Path, *, attributes: int = 40, **options) -> Path:
    return prepare_celeba(root, out, attributes=attributes, progress=False, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ARRAYS}


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


# ---- pixels --------------------------------------------------------------------------------------


def test_resize_is_torchs_bilinear_without_antialiasing() -> None:
    """Oracle: every pixel equals F.interpolate's, rounded half to even; weights are exact."""
    images = np.random.default_rng(0).integers(0, 256, (8, 218, 178, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    expected = F.interpolate(pixels, (64, 64), mode="bilinear", align_corners=False).round()
    got = np.stack([resize_bilinear(image) for image in images])
    assert np.array_equal(got, expected.permute(0, 2, 3, 1).byte().numpy())


def test_antialias_is_pillows_bilinear(roots) -> None:
    """With antialias an image is what Pillow's resize makes of it, and differs from the plain."""
    data = (roots("torchvision") / "celeba" / "img_align_celeba" / "000001.jpg").read_bytes()
    expected = np.asarray(Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(decode("x", data, antialias=True), expected)
    assert not np.array_equal(decode("x", data), expected)


def test_a_jpeg_cut_anywhere_is_refused(roots) -> None:
    """Pillow makes up the rest, silently; with the bytes that fill up a marker it is whole."""
    data = (roots("torchvision") / "celeba" / "img_align_celeba" / "000001.jpg").read_bytes()
    assert np.array_equal(decode("x", data[:-2] + b"\xff\xff\xff\xd9"), decode("x", data))
    escaped = [match.start() + 1 for match in re.finditer(b"\xff\0", data)]
    for end in [*escaped, *range(700, len(data) - 20, 211)]:
        with pytest.raises(ValueError, match="image x is no complete JPEG"):
            decode("x", data[:end] + b"\xff\xd9")


# ---- lists and layouts ---------------------------------------------------------------------------


def test_the_official_list_is_read_whatever_its_blanks(tmp_path) -> None:
    """Rows that start with a positive have one blank less, and are read all the same."""
    labels = sample_attributes(300, seed=1)
    assert 0 < labels[:, 0].sum() < 300
    (tmp_path / "list_attr_celeba.txt").write_bytes(attribute_text(labels))
    ids, got = read_attributes(tmp_path / "list_attr_celeba.txt")
    assert np.array_equal(got, labels)
    assert (ids[0], ids[-1]) == ("000001.jpg", "000300.jpg")


def test_columns_are_taken_by_name(tmp_path) -> None:
    """A copy with its columns in another order gives the same labels."""
    labels = sample_attributes(5)
    order = np.random.default_rng(0).permutation(40)
    rows = [",".join([f"{k + 1:06d}.jpg", *map(str, labels[k, order])]) for k in range(5)]
    header = ",".join(["image_id", *np.array(NAMES)[order]])
    (tmp_path / "a.csv").write_text("\n".join([header, *rows, ""]))
    assert np.array_equal(read_attributes(tmp_path / "a.csv")[1], labels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_arrays(layout, roots, prepared, tmp_path, monkeypatch) -> None:
    """torchvision, authors' tree, Kaggle CSV, unopened zip and parquet end in the same bytes, also
    after an interruption, and no image is decoded twice."""
    calls = []

    def stop(*arguments, **options) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return decode(*arguments, **options)

    monkeypatch.setattr(celeba_prepare, "CHUNK", 8)
    monkeypatch.setattr(prepared_folder, "SAVE_EVERY", 0)
    monkeypatch.setattr(celeba_prepare, "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(roots(layout), tmp_path / "out")
    out = prepare(roots(layout), tmp_path / "out")
    assert len(calls) == 30 + N - 24
    assert content(out) == content(prepared)
    assert manifest_of(out)["source"]["layout"] == layout


def test_zeros_are_accepted_in_a_csv_only(roots, prepared, tmp_path) -> None:
    """Copies with 0/1 exist as CSV; in the text list a 0 means that something is broken."""
    root = shutil.copytree(roots("kaggle"), tmp_path / "root")
    path = root / "list_attr_celeba.csv"
    path.write_text(path.read_text().replace(",-1", ",0"))
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_a_limit_keeps_the_proportions_of_the_splits(roots, tmp_path) -> None:
    """The splits lie one after the other in the list: the first n alone would all be train."""
    out = prepare(roots("torchvision"), tmp_path / "out", limit=20)
    assert manifest_of(out)["counts"] == {"train": 16, "val": 2, "test": 2}


def test_parquet_copies_are_read_by_name_and_value(tmp_path) -> None:
    """Other copies hold -1/1, or one struct of strings; the rest is refused by name."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    root = make_fake_celeba(tmp_path / "fake", n=N, layout="parquet", n_drawn=2)
    expected = find_celeba(root).labels
    tables = {shard: pq.read_table(shard) for shard in root.glob("*/*.parquet")}

    def rewrite(change: Callable[[dict], dict]) -> None:
        for shard, table in tables.items():
            values = {name: np.where(table[name].to_pylist(), 1, -1) for name in NAMES}
            pq.write_table(pa.table({"image": table["image"], **change(values)}), shard)

    def as_struct(values: dict) -> dict:
        rows = zip(*values.values(), strict=True)
        return {"attributes": [dict(zip(values, map(str, row), strict=True)) for row in rows]}

    for change in (dict, as_struct):
        rewrite(change)
        assert np.array_equal(find_celeba(root).labels, expected)
    rewrite(lambda values: {**values, "Bald": values["Bald"] + 3})
    with pytest.raises(ValueError, match=r"column Bald has the value [24];"):
        find_celeba(root)
    rewrite(lambda values: {name: values[name] for name in NAMES[1:]})
    with pytest.raises(ValueError, match="lacks 1 of the 40 attributes, 5_o_Clock_Shadow"):
        find_celeba(root)
    shard = next(root.glob("*/train-00000*"))
    shard.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="is no complete parquet file"):
        find_celeba(root)
    shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match=r"parquet file \(a Git LFS pointer, which stands for"):
        find_celeba(root)


HUB_NAMES = {
    "as flwrlabs has it": "img_align+identity+attr/{split}-{shard:05d}-of-{n:05d}.parquet",
    "with a hash": "data/{split}-{shard:05d}-of-{n:05d}-a1b2c3d4e5f60718.parquet",
    "as the Hub converts": "img_align+identity+attr/{split}/{shard:04d}.parquet",
    "one a split": "{split}{shard}.parquet",
    "validation, beside another configuration": "data/{split}_{shard}.parquet",
    "a column": "anything/{shard}.parquet",
}


@pytest.mark.parametrize("names", HUB_NAMES)
def test_shards_may_be_called_as_the_hubs_do(names, roots, prepared, tmp_path) -> None:
    """Split by the name of file or folder, or by a column; the images are PNG, as on the Hub."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "root").mkdir()
    tables = [pq.read_table(shard) for shard in sorted(roots("parquet").glob("*/*.parquet"))]
    assert tables[0]["image"][0].as_py()["bytes"].startswith(b"\x89PNG")
    test, train, more, valid = tables
    parts = [("train", train), ("train", more), ("valid", valid), ("test", test)]
    if names == "a column":
        whole = pa.concat_tables(table for _, table in parts)
        splits = np.repeat([name for name, _ in parts], [len(table) for _, table in parts])
        parts = [("", whole.append_column("split", pa.array(splits.tolist())))]
    for row, (split, table) in enumerate(parts):
        shard, n = (row, 2) if split == "train" else (0, 1)
        split = split.replace("valid", "validation") if "validation" in names else split
        path = tmp_path / "root" / HUB_NAMES[names].format(split=split, shard=shard, n=n)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=7)
    if "beside" in names:
        (tmp_path / "root" / "boxes").mkdir()
        pq.write_table(pa.table({"x": [1]}), tmp_path / "root" / "boxes" / "train.parquet")
    assert content(prepare(tmp_path / "root", tmp_path / "out")) == content(prepared)


def test_a_column_may_mix_the_splits(roots, tmp_path) -> None:
    """Rows of the three splits in turn: images and labels stay together."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    shards = sorted(roots("parquet").glob("*/*.parquet"))
    table = pa.concat_tables(pq.read_table(shard) for shard in shards)
    (tmp_path / "root").mkdir()
    table = table.append_column("partition", pa.array(np.arange(N) % 3))
    pq.write_table(table, tmp_path / "root" / "all.parquet", row_group_size=7)
    data = celeba(prepare(tmp_path / "root", tmp_path / "out"), "celeba40")
    for k, split in enumerate((data.train, data.val, data.test)):
        for row, image in zip(range(k, N, 3), split.images, strict=True):
            expected = decode("x", table["image"][row].as_py()["bytes"])
            assert np.array_equal(image.permute(1, 2, 0), expected)
        assert split.targets["Male"].tolist() == [
            int(table["Male"][r].as_py()) for r in range(k, N, 3)
        ]


def test_shards_that_are_wrong_together_are_refused(roots, tmp_path) -> None:
    """Twice in two folders, more than their names say, or of no split; the way out is named."""
    pytest.importorskip("pyarrow")
    root = Path(shutil.copytree(roots("parquet"), tmp_path / "root"))
    folder = root / "img_align+identity+attr"
    shutil.copytree(folder, root / "copy")
    with pytest.raises(
        ValueError, match=r"train-00000-of-00002.parquet is in .* and in .*Keep one"
    ):
        find_celeba(root)
    shutil.rmtree(root / "copy")
    shutil.copy(folder / "train-00000-of-00002.parquet", folder / "train.parquet")
    with pytest.raises(ValueError, match="says that it is one of 2, and 3 are there"):
        find_celeba(root)
    (folder / "train.parquet").rename(folder / "half.parquet")
    with pytest.raises(ValueError, match=r"has images of no split .*--split-fractions"):
        prepare(root, tmp_path / "out")


def test_images_may_be_png_or_webp(roots, prepared, tmp_path) -> None:
    """By content, whatever the names say: the authors' PNG folder, WebP that kept the name .jpg."""
    root = Path(shutil.copytree(roots("torchvision"), tmp_path / "root"))
    folder = root / "celeba" / "img_align_celeba"
    for row, path in enumerate(sorted(folder.iterdir())):
        image = Image.open(path)
        if row % 2:
            path.unlink()
            image.save(path.with_suffix(".PNG"), "png")
        else:
            image.save(path, "WEBP", lossless=True, method=0, quality=0)
    folder.rename(folder.with_name("img_align_celeba_png"))
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


# ---- samples and partial downloads ---------------------------------------------------------------


def lose(root: Path, *numbers: int) -> None:
    for number in numbers:
        (root / "celeba" / "img_align_celeba" / f"{number:06d}.jpg").unlink()


def test_a_partial_download_is_used_with_a_limit(root, prepared, tmp_path, run_script) -> None:
    """What is there is taken, in proportion; manifest and screen say what is missing."""
    lose(root, 3, 5, 34)  # two of train, one of val
    arguments = ("--root", root, "--out", tmp_path / "out", "--attributes", 40)
    code, _, error = run_script("prepare_celeba", *arguments)
    assert code == 2
    assert re.search(r"lacks 3 images of the list, 000003.jpg first\. .*--limit N .* the 37", error)
    code, said, _ = run_script("prepare_celeba", *arguments, "--limit", 1000)
    assert code == 0
    assert re.search("lacks 3 images of the list, 000003.jpg first: 37 of 37 images taken", said)
    partial = manifest_of(tmp_path / "out")["source"]["partial"]
    assert partial["images_there"] == 37
    assert "000003.jpg first" in partial["lacks"]
    rows = np.delete(np.arange(N), [2, 4, 33])
    for name in ("images.npy", "labels.npy"):
        whole, part = (np.load(folder / name) for folder in (prepared, tmp_path / "out"))
        assert np.array_equal(part, whole[rows])


def test_what_came_meanwhile_is_not_mixed_in(root, tmp_path, monkeypatch) -> None:
    """An interrupted run of a partial download goes on only with the same images."""
    monkeypatch.setattr(celeba_prepare, "CHUNK", 8)
    monkeypatch.setattr(prepared_folder, "SAVE_EVERY", 0)
    image = root / IMAGE
    good = image.read_bytes()
    image.unlink()
    (root / "celeba" / "img_align_celeba" / "000020.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"000020.jpg is empty"):
        prepare(root, tmp_path / "out", limit=39)
    image.write_bytes(good)
    lose(root, 20)
    with pytest.raises(ValueError, match="interrupted work of other settings, 16 rows"):
        prepare(root, tmp_path / "out", limit=39)


def test_missing_shards_are_a_partial_download(roots, tmp_path) -> None:
    """Without a limit half of a training split is refused, with one it is a sample."""
    pytest.importorskip("pyarrow")
    root = Path(shutil.copytree(roots("parquet"), tmp_path / "root"))
    next(root.glob("*/train-00000*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"has 1 of 2 shards of train-00001.*--limit N"):
        prepare(root, tmp_path / "out")
    out = prepare(root, tmp_path / "out", limit=100)
    assert manifest_of(out)["counts"] == {"train": 16, "val": 4, "test": 4}


def test_a_sample_without_a_split_is_divided_anew(root, prepared, tmp_path, run_script) -> None:
    """The first images are all of train; the message names the option, and the manifest has it."""
    lose(root, *range(21, N + 1))
    arguments = ("--root", root, "--out", tmp_path / "out", "--limit", 20, "--attributes", 40)
    code, _, error = run_script("prepare_celeba", *arguments)
    assert code == 2
    assert re.search(r"img_align_celeba has no image of the split `val` \(20 .*--split-fr", error)
    fractions = ("--split-fractions", 0.5, 0.3, 0.2)
    assert run_script("prepare_celeba", *arguments, *fractions)[0] == 0
    manifest = manifest_of(tmp_path / "out")
    assert manifest["counts"] == {"train": 10, "val": 6, "test": 4}
    assert manifest["settings"]["split_fractions"] == [0.5, 0.3, 0.2]
    assert "people may be in two splits" in celeba(tmp_path / "out").note
    assert np.array_equal(
        np.load(tmp_path / "out" / "images.npy"), np.load(prepared / "images.npy")[:20]
    )
    with pytest.raises(ValueError, match="holds something else"):
        prepare(root, tmp_path / "out", limit=20, split_fractions=[0.8, 0.1, 0.1])


@pytest.mark.parametrize("wrong", [(0.8, 0.2), (0.8, 0.3, -0.1), (0.5, 0.1, 0.1), (1, 0, 0)])
def test_wrong_fractions_are_refused(wrong, roots, tmp_path) -> None:
    """Three shares that sum to 1."""
    with pytest.raises(ValueError, match="`split_fractions` must be three shares > 0"):
        prepare(roots("torchvision"), tmp_path / "out", split_fractions=wrong)


def test_blank_lines_and_a_spreadsheets_commas_are_passed_over(root, prepared, tmp_path) -> None:
    """They are in no list's way; line numbers in errors are those of the file."""
    for name in (ATTRIBUTES, PARTITION):
        change(name, lambda data: data.replace(b"000004", b"\r\n\r\n000004", 1) + b"\r\n")(root)
    assert content(prepare(root, tmp_path / "out")) == content(prepared)
    swap(PARTITION, b"5.jpg 0", b"5.jpg 3")(root)
    with pytest.raises(ValueError, match=r"partition.txt line 7 should be"):
        find_celeba(root)


# ---- refusals ------------------------------------------------------------------------------------

ATTRIBUTES = "celeba/list_attr_celeba.txt"
PARTITION = "celeba/list_eval_partition.txt"
IMAGE = "celeba/img_align_celeba/000007.jpg"
Damage = Callable[[Path], object]


def change(name: str, by: Callable[[bytes], bytes]) -> Damage:
    return lambda root: (root / name).write_bytes(by((root / name).read_bytes()))


def swap(name: str, old: bytes, new: bytes) -> Damage:
    return change(name, lambda data: data.replace(old, new, 1))


def cut(name: str, end: float) -> Damage:
    """Keep a share of a file, or all but a few bytes."""
    return change(name, lambda data: data[: int(end * len(data)) if end >= 0 else int(end)])


def lines(data: bytes, stop: int | None = None) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:stop])


def without_an_id(data: bytes) -> bytes:
    """One row less, count line and all."""
    rows = [row for row in data.splitlines(keepends=True) if not row.startswith(b"000011")]
    return b"".join(rows).replace(b"%d\r\n" % N, b"%d\r\n" % (N - 1), 1)


def row_with_39(data: bytes) -> bytes:
    return re.sub(rb"(000004.jpg.*?) +-?1\r", rb"\1\r", data)


def image_of(size: tuple[int, int], mode: str) -> Damage:
    return lambda root: Image.new(mode, size).save(root / IMAGE)


def zip_with(member: str = "", data: bytes = b"x", by: Callable[[bytes], bytes] = bytes) -> Damage:
    def damage(root: Path) -> None:
        folder = root / "celeba" / "img_align_celeba"
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"img_align_celeba/{path.name}")
            if member:
                archive.writestr(member, data)
        shutil.rmtree(folder)
        change("celeba/img_align_celeba.zip", by)(root)

    return damage


def flip(data: bytes) -> bytes:
    return data[:2000] + bytes([data[2000] ^ 0xFF]) + data[2001:]


def drop_bytes(data: bytes) -> bytes:
    return data[:2000] + data[2200:]


def double_bytes(data: bytes) -> bytes:
    return data[:2000] + data[1800:]


def to_utf16(data: bytes) -> bytes:
    return data.decode().encode("utf-16")


def save_as(root: Path, form: str, by: Callable[[bytes], bytes]) -> None:
    file = io.BytesIO()
    Image.open(root / IMAGE).save(file, form)
    (root / IMAGE).write_bytes(by(file.getvalue()))


def pipe(name: str) -> Damage:
    def damage(root: Path) -> None:
        (root / name).unlink()
        os.mkfifo(root / name)

    return damage


def as_archive(root: Path) -> None:
    with zipfile.ZipFile(root / "archive.zip", "w") as archive:
        archive.write(root / ATTRIBUTES, "list_attr_celeba.csv")
    shutil.rmtree(root / "celeba")


REFUSALS: dict[str, Damage] = {  # by what the error says
    "list_attr_celeba.txt is an HTML page": change(ATTRIBUTES, lambda _: b"<!DOCTYPE html>"),
    "announces 40 images but lists 33": change(ATTRIBUTES, lambda data: lines(data, stop=-7)),
    "celeba.txt announces images but lists -1": cut(ATTRIBUTES, 0),
    "line 42 .* found 2[0-9] values": cut(ATTRIBUTES, -50),
    "line 6 .* found 39 values": change(ATTRIBUTES, row_with_39),
    "line 3 has the value '0'": swap(ATTRIBUTES, b" -1 ", b"  0 "),
    "has the value '2'": swap(ATTRIBUTES, b"  1 ", b"  2 "),
    "found 39 names; missing \\['Bald'\\]": swap(ATTRIBUTES, b"Bald ", b""),
    "image id '../../4.jpg'": swap(ATTRIBUTES, b"000004.jpg", b"../../4.jpg"),
    "celeba.txt lists 000005.jpg more than once": swap(ATTRIBUTES, b"000004.jpg", b"000005.jpg"),
    "line 4 should be an id and 0, 1 or 2": swap(PARTITION, b"4.jpg 0", b"4.jpg 3"),
    "attr_celeba.txt lacks 1 ids .* 000011.jpg": change(ATTRIBUTES, without_an_id),
    "partition.txt lacks 1 ids .* 000011.jpg": change(PARTITION, without_an_id),
    "lacks 1 images of the list, 000007.jpg first. .*--limit N": lambda root: (
        root / IMAGE
    ).unlink(),
    "000007.jpg is no complete JPEG .*bytes": cut(IMAGE, 0.6),
    "000007.jpg is no complete JPEG .*no end": cut(IMAGE, 0.99),
    "000007.jpg is no complete JPEG .*; no end marker": cut(IMAGE, -2),
    "000007.jpg is empty .0 bytes.*, expected JPEG or PNG or WEBP": cut(IMAGE, 0),
    "000007.jpg is no complete JPEG .*truncated": change(IMAGE, lambda d: d[:2500] + b"\xff\xd9"),
    "000007.jpg is no complete JPEG .*image file is trunc": change(IMAGE, drop_bytes),
    "000007.jpg is no complete JPEG .*more data than pixels": change(IMAGE, double_bytes),
    "000007.jpg is an HTML page .12 bytes": change(IMAGE, lambda _: b"<html></html"),
    "000007.jpg is no complete PNG .*checksum": lambda root: save_as(root, "PNG", flip),
    "000007.jpg is no complete PNG": lambda root: save_as(root, "PNG", lambda d: d[:-100]),
    "000007.jpg is no complete WEBP": lambda root: save_as(root, "WEBP", lambda d: d[:1000]),
    "000007.jpg has more than 1 MB .6,000,000,000 bytes": lambda r: os.truncate(
        r / IMAGE, 6 * 10**9
    ),
    "000007.jpg is no regular file": pipe(IMAGE),
    "list_attr_celeba.txt is no regular file": pipe(ATTRIBUTES),
    "list_eval_partition.txt is UTF-16 text, expected .*UTF-8": change(PARTITION, to_utf16),
    "list_attr_celeba.txt is UTF-16 text, expected": change(ATTRIBUTES, to_utf16),
    "list_attr_celeba.txt is a zip archive, expected": change(ATTRIBUTES, lambda d: b"PK\3\4" + d),
    "list_attr_celeba.txt is no text, expected": change(
        ATTRIBUTES, lambda d: d.replace(b"r", b"\0")
    ),
    "celeba.txt announces \xb2\xb9 images but lists 40": swap(
        ATTRIBUTES, b"40\r", "\xb2\xb9\r".encode()
    ),
    "celeba.txt announces 39 images but lists 40": swap(ATTRIBUTES, b"40\r", b"39\r"),
    "celeba.txt announces 9{40} images": swap(ATTRIBUTES, b"40\r", b"9" * 5000 + b"\r"),
    "no list_attr_celeba.txt.* There is archive.zip, unopened .Kaggle": as_archive,
    "7.jpg is 218 x 178 RGB, expected 178 x 218 RGB": image_of((218, 178), "RGB"),
    "000007.jpg is 178 x 218 L, expected": image_of((178, 218), "L"),
    "'img_align_celeba/../../evil.jpg' points out": zip_with("img_align_celeba/../../evil.jpg"),
    "'/etc/evil.jpg' points outside": zip_with("/etc/evil.jpg"),
    "celeba.zip has 000007.jpg more than once": zip_with("other/000007.jpg"),
    "'000099.jpg' is encrypted, too large": zip_with("000099.jpg", bytes(2 << 20)),
    "celeba.zip is no complete zip": zip_with(by=lambda data: data[:50_000]),
    "member 000001.jpg is damaged": zip_with(by=flip),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_refused_with_one_line_and_nothing_left_behind(message, root, tmp_path, run_script) -> None:
    """Each broken download ends in exit code 2 and one line that names it; nothing is left."""
    REFUSALS[message](root)
    code, _, error = run_script("prepare_celeba", "--root", root, "--out", tmp_path / "out")
    assert code == 2
    assert re.match(f"prepare_celeba: .*{message}", error)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"attributes": 10}, "be 9 or 40"), ({"limit": 2}, ">= 3"), ({"jobs": 0}, ">= 1")],
)
def test_wrong_arguments_are_refused(arguments, message, roots, tmp_path) -> None:
    """Each argument says what it may be."""
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must .*{message}"):
        prepare(roots("torchvision"), tmp_path / "out", **arguments)


@pytest.mark.parametrize("name", ["prepare_celeba", "prepare_taskonomy"])
@pytest.mark.parametrize("empty", ["--root", "--out"])
def test_an_empty_path_is_not_the_current_folder(name, empty, tmp_path, run_script) -> None:
    """As a shell passes on a variable that was never set."""
    paths = {"--root": tmp_path, "--out": tmp_path / "out", empty: ""}
    code, _, error = run_script(name, *(word for pair in paths.items() for word in pair))
    assert (code, error) == (2, f"{name}: `{empty}` is empty. Name the folder.")


def test_an_archive_as_root_is_to_be_unpacked(tmp_path) -> None:
    """The download itself instead of what is in it."""
    (tmp_path / "archive.zip").touch()
    with pytest.raises(
        FileNotFoundError, match=r"is no folder: .*archive.zip. It is a file: unpack"
    ):
        find_celeba(tmp_path / "archive.zip")


def test_a_folder_without_celeba_says_what_is_missing(tmp_path) -> None:
    """Nothing there, no partition, no images: each names the file that was looked for."""
    with pytest.raises(FileNotFoundError, match=r"no list_attr_celeba\.txt"):
        find_celeba(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_bytes(attribute_text(sample_attributes(10)))
    with pytest.raises(FileNotFoundError, match=r"no list_eval_partition\.txt"):
        find_celeba(tmp_path)
    (tmp_path / "list_eval_partition.csv").touch()
    with pytest.raises(FileNotFoundError, match="no img_align_celeba/img_align_celeba or "):
        find_celeba(tmp_path)


# ---- opening -------------------------------------------------------------------------------------


def test_round_trip(prepared, roots) -> None:
    """What is opened is what the files say: pixels, labels, order, splits, and that it is drawn."""
    data = celeba(prepared, "celeba40", verify=True)
    assert data.train.images[[3, 1]].is_contiguous(memory_format=torch.channels_last)
    folder = roots("torchvision") / "celeba"
    _, labels = read_attributes(folder / "list_attr_celeba.txt")
    assert [len(data.train), len(data.val), len(data.test)] == [32, 4, 4]
    assert data.task_names == list(NAMES)
    for split, first in ((data.train, 0), (data.val, 32), (data.test, 36)):
        rows = range(first, first + len(split))
        names = [f"{row + 1:06d}.jpg" for row in rows]
        faces = [decode(name, (folder / "img_align_celeba" / name).read_bytes()) for name in names]
        assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), np.stack(faces))
        for column, name in enumerate(NAMES):
            assert split.targets[name].dtype == torch.int64
            assert split.targets[name].tolist() == labels[rows, column].tolist()
    assert data.name == "fake_celeba40"
    assert "Fake" in data.note


def test_forty_attributes_serve_nine_but_not_the_reverse(prepared, roots, tmp_path) -> None:
    """The nine of a 40-attribute folder are the nine of a 9-attribute folder."""
    nine = prepare(roots("torchvision"), tmp_path / "nine", attributes=9)
    a, b = celeba(nine), celeba(prepared, "celeba9")
    assert a.task_names == b.task_names
    assert len(a.tasks) == 9
    for name in a.task_names:
        assert torch.equal(a.train.targets[name], b.train.targets[name])
    with pytest.raises(ValueError, match="prepared with 9 attributes, 'celeba40' needs 40"):
        celeba(nine, "celeba40")


def test_a_limit_when_opening_takes_the_first_of_each_split(prepared) -> None:
    """Labels and images stay together."""
    whole, part = celeba(prepared), celeba(prepared, limit=20)
    assert [len(part.train), len(part.val), len(part.test)] == [16, 2, 2]
    assert torch.equal(part.test.images, whole.test.images[:2])
    assert torch.equal(part.test.targets["Goatee"], whole.test.targets["Goatee"][:2])


@pytest.mark.parametrize("command", ["train", "compare"])
def test_commands_notice_labels_that_were_changed(command, prepared, tmp_path, capsys) -> None:
    """Inverted in place, as a script gone wrong does: nothing is trained on them."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    labels = np.load(folder / "labels.npy", mmap_mode="r+")
    labels[:] = 1 - labels
    labels.flush()
    arguments = ["celeba9", "--data", str(folder), "--out", str(tmp_path / "out"), "--groups", "2"]
    assert cli.main([command, *arguments]) == 2
    assert "copy is damaged or was not written by this version: the checksum of labels.npy" in (
        capsys.readouterr().err
    )


def test_opened_in_inference_mode_it_can_be_trained_on(prepared) -> None:
    """A notebook's cell may have it on; tensors made in it cannot be saved for a gradient."""
    with torch.inference_mode():
        train = celeba(prepared, limit=np.int64(3)).train
    assert not train.images.is_inference()
    assert not train.targets["Goatee"].is_inference()


def test_an_unknown_suite_is_refused(prepared) -> None:
    """There are two."""
    with pytest.raises(ValueError, match="`suite` must be one of"):
        celeba(prepared, "celeba10")


def test_the_toy_script_writes_what_the_other_one_reads(tmp_path, run_script) -> None:
    """Two commands, from nothing to a data set; a folder that exists is refused with one line."""
    toy = ("make_toy_celeba", "--out", tmp_path / "toy", "--n", "12")
    assert "FAKE" in run_script(*toy)[1]
    out = tmp_path / "out"
    code, said, _ = run_script("prepare_celeba", "--root", tmp_path / "toy", "--out", out)
    assert (code, said) == (0, f"prepared {out}\n")
    assert celeba(out).name == "fake_celeba9"
    code, _, error = run_script(*toy)
    assert code == 2
    assert "exists already" in error


def test_other_processes_are_sent_the_place_of_its_pictures(prepared) -> None:
    """Not one of them, and not a byte of what all are; the same data arrive."""
    whole = celeba(prepared)
    sent = pickle.dumps(whole)
    picture = whole.test.features[0].permute(1, 2, 0).numpy().tobytes()  # as it lies in the file
    assert picture in pickle.dumps(whole.test.features)
    assert picture not in sent
    there = pickle.loads(sent)
    assert there.fingerprint() == whole.fingerprint()
    assert there.test.features.equal(whole.test.features)
