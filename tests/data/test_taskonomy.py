"""What preparing and opening Taskonomy promise, on generated files in its formats; no Taskonomy here."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

from PIL import Image, PngImagePlugin

from dmtg_lite.data import prepared_folder
from dmtg_lite.data.ranges import join_ranges
from dmtg_lite.data.taskonomy import prepare as taskonomy_prepare
from dmtg_lite.data.taskonomy.arrays import measure_ranges, row_types
from dmtg_lite.data.taskonomy.files import DOMAINS, find_taskonomy
from dmtg_lite.data.taskonomy.images import (
    prepare_view,
    shrink_classes,
    shrink_counts,
    shrink_depth,
    shrink_normals,
)
from dmtg_lite.data.taskonomy.load import taskonomy
from dmtg_lite.data.taskonomy.plan import choose_views, divide_points
from dmtg_lite.data.taskonomy.prepare import prepare_taskonomy
from dmtg_lite.data.taskonomy.splits import TINY, read_split

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
SIDE = 32
BUILDINGS = (
    "allensville",
    "beechwood",
    "darden",
    "ihlen",
)  # train, train, val, test of the tiny split
VIEWS = [(0, 0), (0, 1), (2, 0), (10, 3)]  # point, view; 10 follows 2 as a number, not as a word
LAYOUTS = (
    "omnitools",
    "buildings",
    "unpacked",
    "unpacked by building",
    "tars",
    "tars with buildings",
)


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(building: str, point: int, view: int) -> dict[str, np.ndarray]:
    """The six pictures of a view, in the numbers of the files; smooth, with a window in depth."""
    phase = zlib.crc32(f"{building} {point} {view}".encode()) % 1000 / 100
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = [np.sin(phase + a * x + b * y) for a, b in ((3, 1), (1, 4), (5, 2), (2, 2))]
    depth = (1500 + 900 * waves[0]).astype(np.uint16)
    depth[4:11, 5:14] = 65535
    vector = np.stack([waves[1], waves[2], 1.5 + 0 * x], -1)
    normal = np.rint((vector / np.linalg.norm(vector, axis=-1, keepdims=True) + 1) * 127.5)
    normal[4:11, 5:14] = 128
    return {
        "rgb": np.stack([127 + 120 * wave for wave in waves[:3]], -1).astype(np.uint8),
        "depth_zbuffer": depth,
        "normal": normal.astype(np.uint8),
        "segment_semantic": ((waves[3] + 1) * 8.9).astype(np.uint8),
        "keypoints2d": (500 + 400 * waves[1]).astype(np.uint16),
        "edge_texture": (3000 + 2900 * waves[2]).astype(np.uint16),
    }


def png(array: np.ndarray, text: str | None = None) -> bytes:
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text("Comment", text)
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def file_name(domain: str, point: int, view: int) -> str:
    return f"point_{point}_view_{view}_domain_{DOMAINS[domain][0]}.png"


def make_root(
    root: Path,
    layout: str = "buildings",
    *,
    buildings=BUILDINGS,
    views=VIEWS,
    text: str | None = None,
) -> Path:
    """Write the pictures of some buildings in one of the layouts of the real files."""
    for building in buildings:
        pictures = {view: draw(building, *view) for view in views}
        for domain in DOMAINS:
            content = {
                file_name(domain, *view): png(pictures[view][domain], text) for view in views
            }
            folder = {
                "omnitools": root / domain / "taskonomy" / building,
                "buildings": root / domain / building,
                "unpacked": root / f"{building}_{domain}" / domain,
                "unpacked by building": root / building / domain / "taskonomy" / building,
                "one": root / domain,
            }.get(layout)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                for name, data in content.items():
                    (folder / name).write_bytes(data)
            else:
                inner = f"{domain}/{building}" if layout == "tars with buildings" else domain
                write_tar(
                    root / f"{building}_{domain}.tar",
                    {f"{inner}/{name}": d for name, d in content.items()},
                )
    return root


def write_tar(path: Path, content: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Four buildings in the layout of Standley's and DMTG's loaders."""
    return make_root(tmp_path_factory.mktemp("made") / "root")


@pytest.fixture(scope="module")
def prepared(made, tmp_path_factory) -> Path:
    """The same, at half the size."""
    return prepare(made, tmp_path_factory.mktemp("prepared") / "out")


@pytest.fixture
def root(made, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "root"))


def prepare(root: Path, out: Path, *, size: int = SIDE // 2, **options) -> Path:
    return prepare_taskonomy(root, out, size=size, progress=False, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes() for name in [*row_types(1), "split.npy", "left_out.csv"]
    }


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


# ---- shrinking, by hand --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "metres"),
    [
        ([[512, 1024], [1536, 65535]], 2.0),  # (1 + 2 + 3) / 3
        ([[512, 65535], [65535, 1536]], 2.0),  # half of the weight is enough
        ([[512, 65535], [65535, 65535]], None),
        ([[512, 1024], [1536, 8191]], 5.499512),  # (1 + 2 + 3 + 15.998) / 4
        ([[512, 1024], [1536, 8192]], 2.0),  # 16 m and more is no label
    ],
)
def test_depth_averages_the_valid_pixels_only(raw, metres) -> None:
    """Two by two pixels to one: "no depth" never enters the mean, and is what is left if it prevails."""
    got = shrink_depth(np.array(raw, np.uint16), 1)
    assert got.dtype == np.float16
    if metres is None:
        assert np.isnan(got).all()
    else:
        assert got[0, 0] == np.float16(metres)


def test_normals_average_to_a_unit_vector_under_the_depth_mask() -> None:
    """x and y in equal parts give (1, 1, 0) / sqrt 2; an invalid pixel adds nothing; opposites cancel."""
    x, y, opposite, grey = (
        [255, 127.5, 127.5],
        [127.5, 255, 127.5],
        [0, 127.5, 127.5],
        [128, 128, 128],
    )
    colours = np.array([[x, y], [y, x]])
    valid = np.ones((2, 2), bool)
    assert shrink_normals(colours, valid, 1)[0, 0].tolist() == [90, 90, 0]  # 127 / sqrt 2 = 89.8
    some = np.array([[True, False], [True, False]])
    assert shrink_normals(np.array([[x, grey], [x, opposite]]), some, 1)[0, 0].tolist() == [
        127,
        0,
        0,
    ]
    assert (
        shrink_normals(colours, np.array([[True, False], [False, False]]), 1)[0, 0].tolist()
        == [-128] * 3
    )
    assert (
        shrink_normals(np.array([[x, opposite], [opposite, x]]), valid, 1)[0, 0].tolist()
        == [-128] * 3
    )


def test_classes_are_taken_never_averaged() -> None:
    """Four to two: the pixel at or after the centre of each block of two; 0 becomes -1."""
    ids = np.array([[9, 9, 9, 9], [9, 2, 9, 17], [9, 9, 9, 9], [9, 0, 9, 1]], np.uint8)
    assert shrink_classes(ids, 2).tolist() == [[2, 17], [-1, 1]]
    picture = np.random.default_rng(0).integers(1, 18, (30, 30), dtype=np.uint8)
    oracle = np.asarray(Image.fromarray(picture).resize((7, 7), Image.Resampling.NEAREST))
    assert np.array_equal(shrink_classes(picture, 7), oracle)


def test_counts_are_averaged_as_numbers() -> None:
    """16-bit numbers keep their precision: no way through 8 bits."""
    got = shrink_counts(np.array([[0, 1], [2, 65]], np.uint16), 1)
    assert got[0, 0] == np.float16(17 / 65535)


def test_a_plain_mean_where_everything_is_valid() -> None:
    """Oracle: without invalid pixels the mean over valid ones is torch's antialiased bilinear."""
    raw = np.random.default_rng(0).integers(0, 8192, (24, 24)).astype(np.uint16)
    tensor = torch.from_numpy(raw.astype(np.float32))[None, None] / 512
    expected = torch.nn.functional.interpolate(tensor, (10, 10), mode="bilinear", antialias=True)[
        0, 0
    ]
    # half a step of float16 between 8 and 16 m is 0.004
    np.testing.assert_allclose(shrink_depth(raw, 10), expected.numpy(), atol=0.005)


def test_the_size_of_the_files_is_not_resampled() -> None:
    """Every number of the files is found again, in its unit."""
    drawn = draw("a", 1, 2)
    got = prepare_view({d: (d, png(a)) for d, a in drawn.items()}, SIDE, SIDE)
    valid = drawn["depth_zbuffer"] < 8192
    assert np.array_equal(got["rgb.npy"], drawn["rgb"])
    assert np.array_equal(
        got["depth.npy"],
        np.where(valid, drawn["depth_zbuffer"] / 512, np.nan).astype(np.float16),
        equal_nan=True,
    )
    ids = drawn["segment_semantic"].astype(int)
    assert np.array_equal(got["segmentation.npy"], np.where(ids == 0, -1, ids))
    assert np.array_equal(got["keypoints.npy"], (drawn["keypoints2d"] / 65535).astype(np.float16))
    assert np.array_equal(got["edges.npy"], (drawn["edge_texture"] / 65535).astype(np.float16))
    assert (got["normal.npy"][~valid] == -128).all()
    decoded = drawn["normal"][valid] / 127.5 - 1
    assert (
        np.abs(got["normal.npy"][valid] - 127 * decoded).max() <= 1
    )  # rounding, and the unit length


# ---- splits --------------------------------------------------------------------------------------


def test_the_tiny_split_has_25_5_and_5_buildings() -> None:
    """No building is in two splits."""
    assert [len(set(TINY[name])) for name in ("train", "val", "test")] == [25, 5, 5]
    assert len(read_split("tiny")) == 35


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"], ids=repr)
def test_a_split_csv_may_end_its_lines_as_it_likes(end, tmp_path) -> None:
    """The official lists have a bare CR and none at the end."""
    rows = ["id,train,val,test", "a,1,0,0", "b,0,0,1", "c,0,0,0", "d,0,1,0"]
    (tmp_path / "split.csv").write_bytes(end.join(rows).encode())
    assert read_split(tmp_path / "split.csv") == {"a": 0, "b": 2, "d": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!DOCTYPE html>\n<html>", "an HTML page"),
        ("", "headed ''"),
        ("building,split\na,train", "headed 'building,split'"),
        ("id,train,val,test\na,1,0", "line 2 should be a building and three flags"),
        ("id,train,val,test\na,1,0,0\nb,1,1,0", "line 3 should be"),
        ("id,train,val,test\na,2,0,0", "found 'a,2,0,0'"),
        ("id,train,val,test\na,1,0,0\na,1,0,0", "line 3 names a once more"),
        ("id,train,val,test\na,0,0,0", "puts no building into a split"),
    ],
)
def test_a_broken_split_csv_is_refused(text, message, tmp_path) -> None:
    """The file, the line and what was found."""
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path / "split.csv")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_split(tmp_path / "other.csv")


def test_one_building_is_divided_by_point() -> None:
    """80 / 10 / 10 of the points, and all views of a point in one part."""
    views = np.array([point * 10**9 + view for point in range(20) for view in range(3)])
    part = divide_points(views).reshape(20, 3)
    assert part[:, 0].tolist() == [0] * 16 + [1] * 2 + [2] * 2
    assert (part == part[:, :1]).all()
    with pytest.raises(ValueError, match="2 points, three splits need three"):
        divide_points(views[:6])


def test_a_limit_is_shared_evenly() -> None:
    """Splits in proportion, buildings alike, and views from all over a building."""
    split = np.repeat([0, 1, 2], [80, 10, 10])
    building = np.repeat([0, 1, 2, 3], [60, 20, 10, 10])
    rows = choose_views(split, building, 20)
    assert rows.tolist() == [
        0,
        7,
        15,
        22,
        30,
        37,
        45,
        52,
        60,
        62,
        65,
        67,
        70,
        72,
        75,
        77,
        80,
        85,
        90,
        95,
    ]
    assert (
        len(choose_views(split, building, 70)) == 70
    )  # 20 of the small building, the rest of the large
    assert np.bincount(building[choose_views(split, building, 70)]).tolist() == [36, 20, 7, 7]
    assert np.bincount(split[choose_views(split, building, 3)]).tolist() == [1, 1, 1]
    assert np.array_equal(choose_views(split, building, 100), np.arange(100))


# ---- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_arrays(layout, prepared, tmp_path) -> None:
    """Also where the path itself contains "rgb", which the published loaders replace."""
    root = make_root(tmp_path / "my_rgb" / "rgb_depth", layout)
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_files_of_segmentation_may_be_named_as_their_folder(root, prepared, tmp_path) -> None:
    """domain_segment_semantic.png, as some copies are named for Standley's loader."""
    for path in (root / "segment_semantic").glob("*/*.png"):
        path.rename(path.with_name(path.name.replace("segmentsemantic", "segment_semantic")))
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_a_folder_counts_before_the_tar_it_was_unpacked_from(root, prepared, tmp_path) -> None:
    """Tars that were kept beside the folders do not disturb, not even broken ones."""
    (root / "allensville_rgb.tar").write_bytes(b"half a tar")
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_one_building_needs_to_be_called_that(tmp_path) -> None:
    """Layout <domain>/point_...: refused by name, divided by point with --split one, and said so."""
    root = make_root(tmp_path / "root", "one", buildings=("ihlen",))
    with pytest.raises(ValueError, match=r"one building without its name.*--split one"):
        prepare(root, tmp_path / "out")
    out = prepare(root, tmp_path / "out", split="one")
    named = make_root(tmp_path / "named", "omnitools", buildings=("ihlen",))
    assert content(prepare(named, tmp_path / "out_named", split="one")) == content(out)
    assert manifest_of(out)["settings"]["split"] == "one"
    assert manifest_of(out)["counts"] == {"train": 2, "val": 1, "test": 1}
    assert "One building" in taskonomy(out).note
    two = make_root(tmp_path / "two", buildings=("ihlen", "darden"))
    with pytest.raises(
        ValueError, match="divides a single building, but 2 are there: darden, ihlen"
    ):
        prepare(two, tmp_path / "out_two", split="one")


def test_a_split_csv_decides(made, tmp_path) -> None:
    """Each building where the list wants it."""
    path = tmp_path / "split.csv"
    path.write_bytes(
        b"id,train,val,test\rallensville,0,0,1\rbeechwood,0,1,0\rihlen,1,0,0\rdarden,0,0,0"
    )
    manifest = manifest_of(prepare(made, tmp_path / "out", split=path))
    assert manifest["buildings"] == {
        "train": {"ihlen": 4},
        "val": {"beechwood": 4},
        "test": {"allensville": 4},
    }
    assert manifest["buildings_without_split"] == ["darden"]


def test_what_is_left_out_is_said(root, tmp_path, capsys) -> None:
    """Views without all six pictures, buildings of no split, buildings of the split that are not there."""
    make_root(root, buildings=("cauthron",))
    (root / "normal" / "allensville" / file_name("normal", 2, 0)).unlink()
    (root / "normal" / "darden" / file_name("normal", 0, 1)).unlink()
    (root / "rgb" / "darden" / file_name("rgb", 0, 1)).unlink()
    (root / "rgb" / "darden" / "Thumbs.db").write_bytes(b"x")
    out = tmp_path / "out"
    main = load_script("prepare_taskonomy").main
    assert main(["--root", str(root), "--out", str(out), "--size", "16"]) == 0
    assert (out / "left_out.csv").read_text().splitlines() == [
        "building,point,view,missing",
        "allensville,2,0,normal",
        "darden,0,1,rgb normal",
    ]
    manifest = manifest_of(out)
    assert manifest["views_left_out"] == {"total": 2, "lacking": {"rgb": 1, "normal": 2}}
    assert manifest["counts"] == {"train": 7, "val": 3, "test": 4}
    assert manifest["buildings_without_split"] == ["cauthron"]
    assert len(manifest["buildings_without_pictures"]) == 31
    said = capsys.readouterr().out
    assert "2 views left out" in said
    assert "in no split: cauthron" in said
    assert "woodbine" in said


def test_a_limit_keeps_views_of_every_building(made, tmp_path) -> None:
    """8 of 16 views: two of each of the four buildings."""
    manifest = manifest_of(prepare(made, tmp_path / "out", limit=8))
    assert manifest["buildings"] == {
        "train": {"allensville": 2, "beechwood": 2},
        "val": {"darden": 2},
        "test": {"ihlen": 2},
    }


# ---- refusals ------------------------------------------------------------------------------------


def picture(root: Path, domain: str) -> Path:
    """A picture that is not the first."""
    return root / domain / "beechwood" / file_name(domain, 2, 0)


def replace_by(domain: str, array: np.ndarray):
    return lambda root: picture(root, domain).write_bytes(png(array))


def with_class_18(root: Path) -> None:
    ids = draw("beechwood", 2, 0)["segment_semantic"]
    ids[7, 9] = 18
    picture(root, "segment_semantic").write_bytes(png(ids))


def cut(share: float):
    def damage(root: Path) -> None:
        path = picture(root, "depth_zbuffer")
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return damage


def flip(root: Path) -> None:
    path = picture(root, "rgb")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def html(root: Path) -> None:
    picture(root, "rgb").write_text("<html><title>403 Forbidden</title></html>")


def first_html(root: Path) -> None:
    (root / "rgb" / "allensville" / file_name("rgb", 0, 0)).write_text("<html></html>")


def palette(root: Path) -> None:
    image = Image.fromarray(draw("beechwood", 2, 0)["segment_semantic"]).convert("P")
    image.save(picture(root, "segment_semantic"))


def same_everywhere(domain: str, array: np.ndarray):
    def damage(root: Path) -> None:
        for path in (root / domain).glob("*/*.png"):
            path.write_bytes(png(array))

    return damage


def no_domain(root: Path) -> None:
    shutil.rmtree(root / "edge_texture")


def no_domain_in_val(root: Path) -> None:
    shutil.rmtree(root / "edge_texture" / "darden")


def old_sample(root: Path) -> None:
    (root / "depth_zbuffer").rename(root / "depth")
    (root / "keypoints2d").rename(root / "keypoint2d")


def no_val(root: Path) -> None:
    for domain in DOMAINS:
        shutil.rmtree(root / domain / "darden")


def two_places(root: Path) -> None:
    shutil.copytree(root / "rgb" / "darden", root / "darden_rgb" / "rgb")


def two_spellings(root: Path) -> None:
    path = picture(root, "segment_semantic")
    shutil.copy(path, path.with_name(path.name.replace("segmentsemantic", "segment_semantic")))


def tar_of(members: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE, keep: int | None = None):
    def damage(root: Path) -> None:
        """The colour pictures of darden as a tar, with something wrong in it."""
        folder = root / "rgb" / "darden"
        path = root / "darden_rgb.tar"
        write_tar(path, {f"rgb/{p.name}": p.read_bytes() for p in sorted(folder.iterdir())})
        with tarfile.open(path, "a") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size, member.type, member.linkname = len(data), kind, "../../etc/passwd"
                archive.addfile(member, io.BytesIO(data))
        if keep is not None:
            path.write_bytes(path.read_bytes()[:keep])
        shutil.rmtree(folder)

    return damage


def tar_cut_after_a_member(root: Path) -> None:
    tar_of({})(root)
    path = root / "darden_rgb.tar"
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2].offset
    os.truncate(path, third)


def damaged_tar(root: Path) -> None:
    tar_of({})(root)
    path = root / "darden_rgb.tar"
    data = bytearray(path.read_bytes())
    second = data.index(b"rgb/point_0_view_1")
    data[second] ^= 1
    path.write_bytes(data)


GREY16 = draw("beechwood", 2, 0)["depth_zbuffer"]
GREY8 = (GREY16 >> 8).astype(np.uint8)
RGB = draw("beechwood", 2, 0)["rgb"]
REFUSALS = {
    "a class above 17": (
        with_class_18,
        r"beechwood/point_2_view_0\S* has the class id 18, expected 0 to 17",
    ),
    "8-bit depth": (
        replace_by("depth_zbuffer", GREY8),
        "depth_zbuffer.png is 8-bit grey, expected 16-bit",
    ),
    "8-bit keypoints": (
        replace_by("keypoints2d", GREY8),
        "keypoints2d.png is 8-bit grey, expected 16-bit",
    ),
    "8-bit edges": (
        replace_by("edge_texture", GREY8),
        "edge_texture.png is 8-bit grey, expected 16-bit",
    ),
    "16-bit classes": (
        replace_by("segment_semantic", GREY16),
        "is 16-bit grey, expected 8-bit grey",
    ),
    "a palette": (palette, "is 8-bit palette, expected 8-bit grey"),
    "a grey image": (replace_by("rgb", GREY8), "domain_rgb.png is 8-bit grey, expected 8-bit RGB"),
    "an image with alpha": (
        replace_by("rgb", np.dstack([RGB, GREY8])),
        "is 8-bit RGB with alpha, expected",
    ),
    "colours that are no normals": (
        replace_by("normal", RGB // 3),
        "domain_normal.png has normals of median",
    ),
    "grey for normals": (replace_by("normal", 0 * RGB + 128), "median length 0.01, expected 1"),
    "an HTML page": (html, "point_2_view_0_domain_rgb.png is an HTML page"),
    "an HTML page first": (first_html, "point_0_view_0_domain_rgb.png is an HTML page"),
    "an empty file": (cut(0), r"depth_zbuffer.png is no PNG \(0 bytes\)"),
    "a file cut short": (cut(0.6), "depth_zbuffer.png is no complete PNG"),
    "a file cut near its end": (cut(0.99), "depth_zbuffer.png is no complete PNG"),
    "a damaged file": (flip, "domain_rgb.png is no complete PNG .*checksum"),
    "another size": (replace_by("rgb", RGB[:16, :16]), "is 16 x 16 pixels, expected 32 x 32"),
    "no square": (replace_by("rgb", RGB[:16]), "is 32 x 16 pixels, expected 32 x 32"),
    "constant keypoints": (same_everywhere("keypoints2d", 0 * GREY16), "`keypoints` is the same"),
    "constant classes": (
        same_everywhere("segment_semantic", 0 * GREY8 + 1),
        r"`segmentation` is .* \[1.0\]",
    ),
    "no classes": (
        same_everywhere("segment_semantic", 0 * GREY8),
        "`segmentation` has no labelled pixel",
    ),
    "no depth": (
        same_everywhere("depth_zbuffer", 0 * GREY16 + 65535),
        "`depth` has no labelled pixel",
    ),
    "constant normals": (
        same_everywhere("normal", 0 * RGB + np.array([128, 128, 255], "u1")),
        "`normal` is",
    ),
    "a missing domain": (no_domain, "no pictures in a folder or tar of the domain edge_texture"),
    "a domain missing in a split": (
        no_domain_in_val,
        "for the split `val`.*lacking edge_texture 4 times",
    ),
    "names of the old sample": (
        old_sample,
        "has no depth_zbuffer, keypoints2d, but depth, keypoint2d: folder",
    ),
    "a split without a building": (no_val, "no complete view for the split `val`"),
    "a building in two places": (two_places, "rgb of darden is in .* and in .* Keep one"),
    "two spellings": (two_spellings, "has files that end segment_semantic and segmentsemantic"),
    "a tar that climbs out": (
        tar_of({"rgb/../../evil.png": b"x"}),
        "darden_rgb.tar member .* points outside",
    ),
    "a tar with absolute paths": (tar_of({"/etc/evil.png": b"x"}), "points outside"),
    "a tar with a link": (
        tar_of({"rgb/a.png": b""}, kind=tarfile.SYMTYPE),
        "is a link, a device or too",
    ),
    "a tar with a hard link": (
        tar_of({"rgb/a.png": b""}, kind=tarfile.LNKTYPE),
        "is a link, a device or too",
    ),
    "a tar with a picture twice": (
        tar_of({f"rgb/darden/{file_name('rgb', 0, 0)}": b"x"}),
        "darden_rgb.tar has point_0_view_0 more than once",
    ),
    "a tar cut short": (tar_of({}, keep=3000), "darden_rgb.tar is no complete tar"),
    "a tar cut after a member": (tar_cut_after_a_member, "no complete tar file .*no end mark"),
    "a damaged tar": (damaged_tar, "darden_rgb.tar is no complete tar file .*no end mark"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_with_one_line(case, root, tmp_path, capsys) -> None:
    """Each broken download ends in exit code 2 and one line that names it; nothing is prepared."""
    damage, message = REFUSALS[case]
    damage(root)
    main = load_script("prepare_taskonomy").main
    assert main(["--root", str(root), "--out", str(tmp_path / "out"), "--size", "16"]) == 2
    error = (
        capsys.readouterr().err.split("\r")[-1].strip().splitlines()[-1]
    )  # after the progress bar
    assert error.startswith("prepare_taskonomy: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(error)
    assert not (tmp_path / "out").exists()


def test_a_refused_picture_is_fetched_again_and_the_work_goes_on(
    root, prepared, tmp_path, monkeypatch
) -> None:
    """What was done is kept: preparing everything takes hours, and one broken file is soon replaced."""
    monkeypatch.setattr(taskonomy_prepare, "CHUNK", 1)
    monkeypatch.setattr(prepared_folder, "SAVE_EVERY", 0)
    good = picture(root, "rgb").read_bytes()
    html(root)
    with pytest.raises(ValueError, match="HTML page"):
        prepare(root, tmp_path / "out")
    assert json.loads((tmp_path / "out.partial" / "progress.json").read_text())["n_done"] == 6
    picture(root, "rgb").write_bytes(good)
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_refused_in_a_worker_process_too(root, tmp_path) -> None:
    """The same error, in one piece, when the picture is read by another process."""
    html(root)
    with pytest.raises(ValueError, match=r"point_2_view_0_domain_rgb\.png is an HTML page"):
        prepare(root, tmp_path / "out", jobs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 2}, "`limit` must be at least 3"),
        ({"jobs": 0}, "`jobs` must be at least 1"),
        ({"size": 33}, "`size` must be 1 to 32"),
        ({"size": 0}, "`size` must be 1 to 32"),
    ],
)
def test_wrong_arguments_are_refused(options, message, made, tmp_path) -> None:
    """Each argument says what it may be; pictures are never enlarged."""
    with pytest.raises(ValueError, match=message):
        prepare(made, tmp_path / "out", **options)


def test_a_folder_without_taskonomy_says_what_is_missing(tmp_path) -> None:
    """Nothing there, or no folder: what was looked for is named."""
    with pytest.raises(FileNotFoundError, match=r"no Taskonomy in .* rgb, depth_zbuffer"):
        find_taskonomy(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_taskonomy(tmp_path / "nowhere")


def test_an_existing_folder_is_never_overwritten(prepared, made) -> None:
    """Same settings: nothing to do. Anything else under that name is refused and stays."""
    before = content(prepared)
    assert prepare(made, prepared) == prepared
    with pytest.raises(ValueError, match="holds something else"):
        prepare(made, prepared, size=8)
    assert content(prepared) == before


# ---- interruption --------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_and_run_again_gives_the_same_bytes(tmp_path) -> None:
    """SIGKILL in the middle, alone and with workers: the last run ends where an undisturbed one does."""
    views = [(point, view) for point in range(10) for view in range(2)]
    root = make_root(tmp_path / "root", "tars", views=views)
    whole = prepare(root, tmp_path / "whole", jobs=1)
    code = (
        "import sys; from dmtg_lite.data.taskonomy import prepare as p; from dmtg_lite.data import prepared_folder as f; f.SAVE_EVERY, p.CHUNK = "
        "0, 1;"
        "p.prepare_taskonomy(sys.argv[1], sys.argv[2], size=16, jobs=int(sys.argv[3]), "
        "progress=False)"
    )
    out, state = tmp_path / "out", tmp_path / "out.partial" / "progress.json"
    done = 0
    for jobs, until in ((1, 10), (2, 35)):
        command = [sys.executable, "-c", code, root, out, str(jobs)]
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 60
        while done < until and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)
            done = json.loads(state.read_text())["n_done"] if state.exists() else 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert until <= done < 80
        assert not out.exists()
        file_number = (state.parent / "depth.npy").stat().st_ino
    (state.parent / "progress.json.1.part").write_bytes(b"half a record")  # a kill may leave one
    prepare(root, out, jobs=1)
    assert content(out) == content(whole)
    assert (out / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert (out / "depth.npy").stat().st_ino == file_number  # continued, not begun again
    assert not state.parent.exists()
    assert not list(out.glob("*.part"))


def test_an_interruption_keeps_the_work(made, prepared, tmp_path, monkeypatch) -> None:
    """Ctrl-C leaves what is done, and only the rest is done again; other settings begin anew."""
    calls = []

    def stop(*arguments) -> dict[str, np.ndarray]:
        calls.append(arguments)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return prepare_view(*arguments)

    monkeypatch.setattr(prepared_folder, "SAVE_EVERY", 0)
    monkeypatch.setattr(taskonomy_prepare, "prepare_view", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(made, tmp_path / "out")
    assert json.loads((tmp_path / "out.partial" / "progress.json").read_text())["n_done"] == 8
    shutil.copytree(tmp_path / "out.partial", tmp_path / "other.partial")
    assert content(prepare(made, tmp_path / "out")) == content(prepared)
    assert len(calls) == 11 + 8
    prepare(made, tmp_path / "other", size=8)
    assert len(calls) == 11 + 8 + 16


# ---- opening -------------------------------------------------------------------------------------


def test_round_trip(prepared, made) -> None:
    """What is opened is what the files say: rows by split, building, point and view; every target."""
    data = taskonomy(prepared, verify=True)
    assert data.name == "taskonomy5"
    assert data.task_names == ["depth", "normal", "segmentation", "keypoints", "edges"]
    rows = [(building, view) for building in BUILDINGS for view in VIEWS]
    start = 0
    for split, n in ((data.train, 8), (data.val, 4), (data.test, 4)):
        assert len(split) == n
        for row in range(n):
            building, view = rows[start + row]
            drawn = draw(building, *view)
            expected = prepare_view({d: (d, png(a)) for d, a in drawn.items()}, SIDE, SIDE // 2)
            got = {name: split.targets[name][row].numpy() for name in data.task_names}
            assert np.array_equal(split.images[row].permute(1, 2, 0).numpy(), expected["rgb.npy"])
            for name in ("depth", "keypoints", "edges"):
                assert got[name].shape == (1, SIDE // 2, SIDE // 2)
                assert np.array_equal(got[name][0], expected[f"{name}.npy"], equal_nan=True)
            assert np.array_equal(got["normal"].transpose(1, 2, 0), expected["normal.npy"])
            assert np.array_equal(got["segmentation"], expected["segmentation.npy"])
        start += n
    assert {name: target.dtype for name, target in data.val.targets.items()} == {
        "depth": torch.float16,
        "normal": torch.int8,
        "segmentation": torch.int8,
        "keypoints": torch.float16,
        "edges": torch.float16,
    }


def test_normals_are_labelled_where_depth_is(prepared) -> None:
    """One mask for both, and it is neither empty nor everything."""
    targets = taskonomy(prepared).train.targets
    is_labelled = ~targets["depth"][:, 0].isnan()
    assert torch.equal(is_labelled, (targets["normal"] != -128).all(1))
    assert 0.5 < is_labelled.float().mean() < 0.99
    length = targets["normal"].permute(0, 2, 3, 1)[is_labelled].float().norm(dim=-1) / 127
    assert (length - 1).abs().max() < 0.007  # three roundings of half a step: sqrt(3) / 2 / 127


def test_the_manifest_knows_the_range_of_every_target(prepared) -> None:
    """Joined from parts, it is the range of the whole arrays."""
    arrays = {name: np.load(prepared / name) for name in row_types(1)}
    whole = measure_ranges(arrays)
    assert manifest_of(prepared)["ranges"] == whole
    parts = [
        measure_ranges({name: a[rows] for name, a in arrays.items()})
        for rows in np.split(np.arange(16), 4)
    ]
    joined = parts[0]
    for part in parts[1:]:
        joined = join_ranges(joined, part)
    assert joined == whole
    assert whole["depth"]["lowest"][0] == np.nanmin(arrays["depth.npy"])


def test_opening_loads_nothing_and_changes_stay_in_memory(prepared) -> None:
    """Batches come from the mapped files, channels last; writing to a tensor never reaches the file."""
    before = content(prepared)
    data = taskonomy(prepared)
    assert data.train.images[torch.tensor([3, 1])].is_contiguous(memory_format=torch.channels_last)
    data.train.images[0] = 7
    data.train.targets["depth"][0] = 7
    assert (taskonomy(prepared).train.targets["depth"][0] != 7).any()
    assert content(prepared) == before


def test_a_limit_when_opening_takes_every_kth(prepared) -> None:
    """Images and targets stay together, and both training buildings are there."""
    whole, part = taskonomy(prepared), taskonomy(prepared, limit=8)
    assert [len(part.train), len(part.val), len(part.test)] == [4, 2, 2]
    assert torch.equal(part.train.images, whole.train.images[::2])
    assert torch.equal(part.test.targets["segmentation"], whole.test.targets["segmentation"][::2])


def test_drawn_rooms_say_so(tmp_path) -> None:
    """A text chunk in the pictures marks them as drawn, and the name of the data set follows."""
    root = make_root(tmp_path / "root", text="FAKE: dmtg_lite toy rooms")
    data = taskonomy(prepare(root, tmp_path / "out"))
    assert data.name == "fake_taskonomy5"
    assert "Fake" in data.note


def test_a_missing_folder_names_the_command(tmp_path) -> None:
    """Whoever has not prepared Taskonomy is told how."""
    with pytest.raises(
        FileNotFoundError, match=r"python data_scripts/prepare_taskonomy\.py --root"
    ):
        taskonomy(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["shorter", "flipped", "other manifest", "no depth", "constant"])
def test_a_damaged_folder_is_refused(damage, prepared, tmp_path) -> None:
    """A short file is seen at once, a changed byte with verify=True; both say what to do."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    if damage == "shorter":
        os.truncate(folder / "rgb.npy", 1000)
    elif damage == "flipped":
        data = bytearray((folder / "edges.npy").read_bytes())
        data[-1] ^= 1
        (folder / "edges.npy").write_bytes(data)
        taskonomy(folder)
    elif damage == "other manifest":
        (folder / "manifest.json").write_text('{"format": "something else"}')
    elif damage == "constant":
        manifest = manifest_of(folder)
        manifest["ranges"]["edges"]["highest"] = manifest["ranges"]["edges"]["lowest"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    else:
        (folder / "depth.npy").unlink()
    with pytest.raises(ValueError, match="is damaged or was not written by this version"):
        taskonomy(folder, verify=True)


def test_the_script_runs_from_a_checkout(made, tmp_path) -> None:
    """`python data_scripts/prepare_taskonomy.py` prepares, and exits with 0."""
    command = [
        sys.executable,
        SCRIPTS / "prepare_taskonomy.py",
        "--root",
        made,
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run([*command, "--size", "8", "--limit", "8"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prepared" in done.stdout
    assert len(taskonomy(tmp_path / "out").train) == 4


def test_help_says_time_and_disk(capsys) -> None:
    """Before anybody starts a long job."""
    with pytest.raises(SystemExit) as end:
        load_script("prepare_taskonomy").main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "Time:" in text
    assert "Disk:" in text
