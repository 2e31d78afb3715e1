"""What preparing and opening CelebA promise, on generated files in its formats; no CelebA here.

Kills, full disks and damaged folders are `test_prepared_folder`.
"""

from __future__ import annotations

import io
import json
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
    shard.unlink()  # train-00001-of-00002 without its sibling is half a training split
    with pytest.raises(ValueError, match="1 of 2 shards"):
        find_celeba(root)
    pq.write_table(pa.table({"x": [1]}), root / "half.parquet")
    with pytest.raises(ValueError, match=r"should be named train-\*"):
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
    "lacks 1 images of the list, 000007.jpg": lambda root: (root / IMAGE).unlink(),
    "000007.jpg is no complete JPEG .*bytes": cut(IMAGE, 0.6),
    "000007.jpg is no complete JPEG .*no end": cut(IMAGE, 0.99),
    "000007.jpg is no complete JPEG .*; no end marker": cut(IMAGE, -2),
    "000007.jpg is no complete JPEG .0 bytes": cut(IMAGE, 0),
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
    [({"attributes": 10}, "be 9 or 40"), ({"limit": 2}, "least 3"), ({"jobs": 0}, "least 1")],
)
def test_wrong_arguments_are_refused(arguments, message, roots, tmp_path) -> None:
    """Each argument says what it may be."""
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must .*{message}"):
        prepare(roots("torchvision"), tmp_path / "out", **arguments)


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
