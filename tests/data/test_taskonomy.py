"""What preparing and opening Taskonomy promise, on generated files in its formats; none is its own.

Kills, full disks and damaged folders are `test_prepared_folder`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

from PIL import Image, PngImagePlugin

from dmtg_lite.data import prepared_folder
from dmtg_lite.data.taskonomy import prepare as taskonomy_prepare
from dmtg_lite.data.taskonomy.arrays import measure_ranges, row_types
from dmtg_lite.data.taskonomy.files import DOMAINS
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

SIDE = 32
CLASSES = "segment_semantic"
BUILDINGS = ("allensville", "beechwood", "darden", "ihlen")  # tiny: train, train, val, test
VIEWS = [(0, 0), (0, 1), (2, 0), (10, 3)]  # point, view; 10 follows 2 as a number, not as a word
FOLDERS = {
    "omnitools": "{domain}/taskonomy/{building}",
    "buildings": "{domain}/{building}",
    "unpacked": "{building}_{domain}/{domain}",
    "unpacked by building": "{building}/{domain}/taskonomy/{building}",
}
TARS = {  # folders in them, and their names
    "tars": ("{domain}", "{building}_{domain}.tar"),
    "tars with buildings": ("{domain}/{building}", "{building}_{domain}.tar"),
    "omnitools' tars": ("{domain}", "{domain}__taskonomy__{building}.tar"),
}


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


def png(array: np.ndarray, text: str = "") -> bytes:
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    if text:
        info.add_text("Comment", text)
    Image.fromarray(array).save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def prepare_drawn(drawn: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    return prepare_view({domain: (domain, png(a)) for domain, a in drawn.items()}, SIDE, size)


def file_name(domain: str, point: int, view: int) -> str:
    return f"point_{point}_view_{view}_domain_{DOMAINS[domain][0]}.png"


def make_root(
    root: Path, layout: str = "buildings", *, buildings=BUILDINGS, text: str = ""
) -> Path:
    """Write the pictures of some buildings in one of the layouts of the real files."""
    for building in buildings:
        drawn = {view: draw(building, *view) for view in VIEWS}
        for domain in DOMAINS:
            pictures = {file_name(domain, *v): png(drawn[v][domain], text) for v in VIEWS}
            names = {"domain": domain, "building": building}
            if layout in TARS:
                inside, tar = (name.format(**names) for name in TARS[layout])
                members = {f"{inside}/{name}": data for name, data in pictures.items()}
                write_tar(root / tar.format(**names), members)
                continue
            place = {**FOLDERS, "one": "{domain}"}[layout].format(**names)
            (root / place).mkdir(parents=True, exist_ok=True)
            for name, data in pictures.items():
                (root / place / name).write_bytes(data)
    return root


def write_tar(path: Path, content: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> None:
    """Append to a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "a") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(data), kind, "../../etc/passwd"
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
    names = [*row_types(1), "split.npy", "left_out.csv"]
    return {name: (folder / name).read_bytes() for name in names}


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


# ---- shrinking, by hand --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "metres"),
    [
        ([[512, 1024], [1536, 65535]], 2.0),  # (1 + 2 + 3) / 3
        ([[512, 65535], [65535, 1536]], 2.0),  # half of the weight is enough
        ([[512, 65535], [65535, 65535]], np.nan),
        ([[512, 1024], [1536, 8191]], 5.499512),  # (1 + 2 + 3 + 15.998) / 4
        ([[512, 1024], [1536, 8192]], 2.0),  # 16 m and more is no label
    ],
)
def test_depth_averages_the_valid_pixels_only(raw, metres) -> None:
    """Two by two pixels to one: "no depth" never enters the mean, and is left if it prevails."""
    got = shrink_depth(np.array(raw, np.uint16), 1)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, [[np.float16(metres)]])


X, Y, OPPOSITE, GREY = [255, 127.5, 127.5], [127.5, 255, 127.5], [0, 127.5, 127.5], [128] * 3


@pytest.mark.parametrize(
    ("colours", "valid", "expected"),
    [
        ([[X, Y], [Y, X]], [[1, 1], [1, 1]], [90, 90, 0]),  # 127 / sqrt 2 = 89.8
        ([[X, GREY], [X, OPPOSITE]], [[1, 0], [1, 0]], [127, 0, 0]),
        ([[X, Y], [Y, X]], [[1, 0], [0, 0]], [-128] * 3),
        ([[X, OPPOSITE], [OPPOSITE, X]], [[1, 1], [1, 1]], [-128] * 3),  # they cancel
    ],
)
def test_normals_average_to_a_unit_vector_under_the_depth_mask(colours, valid, expected) -> None:
    """x and y in equal parts give (1, 1, 0) / sqrt 2; an invalid pixel adds nothing."""
    got = shrink_normals(np.array(colours), np.array(valid, bool), 1)
    assert got[0, 0].tolist() == expected


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
    metres = torch.from_numpy(raw.astype(np.float32))[None, None] / 512
    expected = torch.nn.functional.interpolate(metres, (10, 10), mode="bilinear", antialias=True)
    # half a step of float16 between 8 and 16 m is 0.004
    np.testing.assert_allclose(shrink_depth(raw, 10), expected[0, 0].numpy(), atol=0.005)


def test_the_size_of_the_files_is_not_resampled() -> None:
    """Every number of the files is found again, in its unit."""
    drawn = draw("a", 1, 2)
    got = prepare_drawn(drawn, SIDE)
    valid = drawn["depth_zbuffer"] < 8192
    metres = np.where(valid, drawn["depth_zbuffer"] / 512, np.nan).astype(np.float16)
    ids = drawn["segment_semantic"].astype(int)
    assert np.array_equal(got["rgb.npy"], drawn["rgb"])
    assert np.array_equal(got["depth.npy"], metres, equal_nan=True)
    assert np.array_equal(got["segmentation.npy"], np.where(ids == 0, -1, ids))
    for name, domain in (("keypoints.npy", "keypoints2d"), ("edges.npy", "edge_texture")):
        assert np.array_equal(got[name], (drawn[domain] / 65535).astype(np.float16))
    assert (got["normal.npy"][~valid] == -128).all()
    decoded = drawn["normal"][valid] / 127.5 - 1  # to 1: rounding, and the unit length
    assert np.abs(got["normal.npy"][valid] - 127 * decoded).max() <= 1


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
    rows = [0, 7, 15, 22, 30, 37, 45, 52, 60, 62, 65, 67, 70, 72, 75, 77, 80, 85, 90, 95]
    assert choose_views(split, building, 20).tolist() == rows
    # 20 of the small building, the rest of the large one
    assert np.bincount(building[choose_views(split, building, 70)]).tolist() == [36, 20, 7, 7]
    assert np.bincount(split[choose_views(split, building, 3)]).tolist() == [1, 1, 1]
    assert np.array_equal(choose_views(split, building, 100), np.arange(100))


# ---- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [*FOLDERS, *TARS])
def test_every_layout_gives_the_same_arrays(layout, prepared, tmp_path) -> None:
    """Also where the path itself contains "rgb", which the published loaders replace."""
    root = make_root(tmp_path / "my_rgb" / "rgb_depth", layout)
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_what_does_not_disturb(root, prepared, tmp_path) -> None:
    """Names made for Standley's loader; a tar kept beside the folder unpacked from it."""
    for path in (root / CLASSES).glob("*/*.png"):
        path.rename(path.with_name(path.name.replace("segmentsemantic", CLASSES)))
    (root / "allensville_rgb.tar").write_bytes(b"half a tar")
    shutil.copytree(root / "rgb", root / ".Trash" / "rgb")
    (root / "lost+found").mkdir(mode=0o000)
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


RENAMED = {  # what people do to the folders, by layout
    "buildings": [
        {"depth_zbuffer": "depth", "normal": "normals", CLASSES: "segmentsemantic"},
        {"depth_zbuffer": "depthzbuffer", "keypoints2d": "keypoint2d", "edge_texture": "Edge"},
        {"rgb": "RGB", "edge_texture": "edge texture", CLASSES: "Segment-Semantic"},
        {"rgb/darden": "rgb/Darden", "normal/ihlen": "normal/IHLEN"},
    ],
    "unpacked": [
        {"ihlen_depth_zbuffer": "ihlen_depth", "darden_normal": "Darden-Normals"},
        {"ihlen_depth_zbuffer/depth_zbuffer": "ihlen_depth_zbuffer/zbuffer"},
    ],
    "omnitools": [{"rgb/taskonomy": "rgb/Taskonomy", "depth_zbuffer": "depth"}],
    "tars": [
        {"ihlen_rgb.tar": "IHLEN_RGB.tar", "darden_depth_zbuffer.tar": "darden_depth.tar"},
        {"ihlen_keypoints2d.tar": "ihlen_keypoints.tar", "darden_rgb.tar": "darden-rgb.tar"},
    ],
}


@pytest.mark.parametrize(
    ("layout", "renamed"), [(layout, one) for layout, many in RENAMED.items() for one in many]
)
def test_names_that_people_give_are_understood(layout, renamed, prepared, tmp_path) -> None:
    """What the pictures are called decides which domain a folder is; the rest is spelling."""
    root = make_root(tmp_path / "root", layout)
    for old, new in renamed.items():
        (root / old).rename(root / new)
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_suffixes_may_be_spelled_otherwise(root, prepared, tmp_path) -> None:
    """Capitals and missing underscores in the names of pictures."""
    for domain, suffix in (("depth_zbuffer", "depthzbuffer"), ("edge_texture", "Edge_Texture")):
        for path in (root / domain).glob("*/*.png"):
            path.rename(path.with_name(path.name.replace(domain, suffix)))
    assert content(prepare(root, tmp_path / "out")) == content(prepared)


def test_one_building_needs_to_be_called_that(tmp_path) -> None:
    """Layout <domain>/point_...: refused by name, divided by point with --split one."""
    root = make_root(tmp_path / "root", "one", buildings=("ihlen",))
    with pytest.raises(ValueError, match=r"one building without its name.*--split one"):
        prepare(root, tmp_path / "out")
    out = prepare(root, tmp_path / "out", split="one")
    named = make_root(tmp_path / "named", "omnitools", buildings=("ihlen",))
    assert content(prepare(named, tmp_path / "out_named", split="one")) == content(out)
    assert manifest_of(out)["settings"]["split"] == "one"
    assert manifest_of(out)["counts"] == {"train": 2, "val": 1, "test": 1}
    assert "One building" in taskonomy(out).note
    make_root(named, "omnitools", buildings=("darden",))
    with pytest.raises(ValueError, match="a single building, but 2 are there: darden, ihlen"):
        prepare(named, tmp_path / "out_two", split="one")


def test_a_few_buildings_may_be_divided_by_point(made, tmp_path) -> None:
    """A sample that holds no building of one split: the message names the way."""
    root = tmp_path / "root"
    for building in ("allensville", "beechwood"):
        make_root(root, buildings=(building,))
    with pytest.raises(ValueError, match=r"for the split `val`.*instead of --split tiny.*'points'"):
        prepare(root, tmp_path / "out")
    out = prepare(root, tmp_path / "out", split="points")
    each = {"allensville": 1, "beechwood": 1}
    assert manifest_of(out)["buildings"] == {
        "train": {"allensville": 2, "beechwood": 2}, "val": each, "test": each
    }  # fmt: skip
    assert "the rooms of each building are in all three splits" in taskonomy(out).note
    drawn = [prepare_drawn(draw(b, 2, 0), SIDE // 2) for b in ("allensville", "beechwood")]
    expected = np.stack([view["rgb.npy"] for view in drawn])
    assert np.array_equal(taskonomy(out).val.images.permute(0, 2, 3, 1), expected)


def test_a_split_csv_decides(made, tmp_path) -> None:
    """Each building where the list wants it."""
    rows = ["id,train,val,test", "allensville,0,0,1", "beechwood,0,1,0", "ihlen,1,0,0"]
    (tmp_path / "split.csv").write_text("\n".join([*rows, "darden,0,0,0"]))
    manifest = manifest_of(prepare(made, tmp_path / "out", split=tmp_path / "split.csv"))
    names = {"train": {"ihlen": 4}, "val": {"beechwood": 4}, "test": {"allensville": 4}}
    assert manifest["buildings"] == names
    assert manifest["buildings_without_split"] == ["darden"]


def test_what_is_left_out_is_said(root, tmp_path, run_script) -> None:
    """Views without all six pictures, buildings of no split, buildings that are not there."""
    make_root(root, buildings=("cauthron",))
    (root / "normal" / "allensville" / file_name("normal", 2, 0)).unlink()
    (root / "normal" / "darden" / file_name("normal", 0, 1)).unlink()
    (root / "rgb" / "darden" / file_name("rgb", 0, 1)).unlink()
    (root / "rgb" / "darden" / "Thumbs.db").write_bytes(b"x")
    out = tmp_path / "out"
    code, said, _ = run_script("prepare_taskonomy", "--root", root, "--out", out, "--size", "16")
    assert code == 0
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
    for text in ("2 views left out", "in no split: cauthron", "woodbine", f"prepared {out}"):
        assert text in said


def test_a_limit_keeps_views_of_every_building(made, tmp_path) -> None:
    """8 of 16 views: two of each of the four buildings."""
    manifest = manifest_of(prepare(made, tmp_path / "out", limit=8))
    names = {"train": {"allensville": 2, "beechwood": 2}, "val": {"darden": 2}}
    assert manifest["buildings"] == {**names, "test": {"ihlen": 2}}


# ---- refusals ------------------------------------------------------------------------------------

DRAWN = draw("beechwood", 2, 0)
GREY16, RGB = DRAWN["depth_zbuffer"], DRAWN["rgb"]
GREY8 = (GREY16 >> 8).astype(np.uint8)
WITH_18 = np.where(DRAWN[CLASSES] == DRAWN[CLASSES].max(), 18, DRAWN[CLASSES]).astype(np.uint8)
Damage = Callable[[Path], object]


def picture(root: Path, domain: str) -> Path:
    """A picture that is not the first."""
    return root / domain / "beechwood" / file_name(domain, 2, 0)


def put(domain: str, array: np.ndarray) -> Damage:
    return lambda root: picture(root, domain).write_bytes(png(array))


def change(domain: str, by: Callable[[bytes], bytes]) -> Damage:
    return lambda root: picture(root, domain).write_bytes(by(picture(root, domain).read_bytes()))


def cut(share: float) -> Damage:
    return change("depth_zbuffer", lambda data: data[: int(share * len(data))])


def flip(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]


def pipe(domain: str) -> Damage:
    def damage(root: Path) -> None:
        picture(root, domain).unlink()
        os.mkfifo(picture(root, domain))

    return damage


html = change("rgb", lambda _: b"<html><title>403 Forbidden</title></html>")


def first_html(root: Path) -> None:
    (root / "rgb" / "allensville" / file_name("rgb", 0, 0)).write_text("<html></html>")


def palette(root: Path) -> None:
    Image.fromarray(DRAWN[CLASSES]).convert("P").save(picture(root, CLASSES))


def all_of(domain: str, array: np.ndarray) -> Damage:
    def damage(root: Path) -> None:
        for path in (root / domain).glob("*/*.png"):
            path.write_bytes(png(array))

    return damage


def without(*folders: str) -> Damage:
    return lambda root: [shutil.rmtree(root / folder) for folder in folders]


def copy(folder: str, to: str) -> Damage:
    return lambda root: shutil.copytree(root / folder, root / to)


def other_depth(root: Path) -> None:
    """A folder called depth, which holds the other of Taskonomy's two."""
    (root / "depth_zbuffer").rename(root / "depth")
    for path in (root / "depth").glob("*/*.png"):
        path.rename(path.with_name(path.name.replace("zbuffer", "euclidean")))


def two_spellings(root: Path) -> None:
    path = picture(root, CLASSES)
    shutil.copy(path, path.with_name(path.name.replace("segmentsemantic", "segment_semantic")))


def tar_with(
    name: str = "", *, kind: bytes = tarfile.REGTYPE, by: Callable[[Path], object] | None = None
) -> Damage:
    """The colour pictures of darden as a tar, with a member more or something wrong in it."""

    def damage(root: Path) -> None:
        folder, path = root / "rgb" / "darden", root / "darden_rgb.tar"
        write_tar(path, {f"rgb/{p.name}": p.read_bytes() for p in sorted(folder.iterdir())})
        if name:
            write_tar(path, {name: b"" if kind != tarfile.REGTYPE else b"x"}, kind)
        if by:
            by(path)
        shutil.rmtree(folder)

    return damage


def cut_after_a_member(path: Path) -> None:
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2].offset
    os.truncate(path, third)


def damage_a_header(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"rgb/point_0_view_1", b"sgb/point_0_view_1", 1))


def punch_a_hole(path: Path) -> None:
    """As aria2 leaves it, which makes the file first and fills it from several places."""
    with tarfile.open(path) as archive:
        third, size = archive.getmembers()[2].offset, path.stat().st_size
    data = path.read_bytes()
    path.write_bytes(data[:third] + bytes(1024) + data[third + 1024 :])
    assert path.stat().st_size == size


REFUSALS: dict[str, Damage] = {  # by what the error says
    r"beechwood/point_2_view_0\S* has the class id 18, expected 0 to 17": put(CLASSES, WITH_18),
    "depth_zbuffer.png is 8-bit grey, expected 16-bit grey": put("depth_zbuffer", GREY8),
    "keypoints2d.png is 8-bit grey, expected 16-bit grey": put("keypoints2d", GREY8),
    "edge_texture.png is 8-bit grey, expected 16-bit grey": put("edge_texture", GREY8),
    "semantic.png is 16-bit grey, expected 8-bit grey": put(CLASSES, GREY16),
    "semantic.png is 8-bit palette, expected 8-bit grey": palette,
    "domain_rgb.png is 8-bit grey, expected 8-bit RGB": put("rgb", GREY8),
    "domain_rgb.png is 8-bit RGB with alpha, expected": put("rgb", np.dstack([RGB, GREY8])),
    r"domain_normal.png has normals of median length \S+, expected 1: the": put("normal", RGB // 3),
    "median length 0.01, expected 1": put("normal", 0 * RGB + 128),
    "no pictures of rgb, depth_zbuffer, normal": without(*DOMAINS),
    "point_2_view_0_domain_rgb.png is an HTML page": html,
    "point_0_view_0_domain_rgb.png is an HTML page": first_html,
    r"depth_zbuffer.png is no PNG \(0 bytes\)": cut(0),
    "depth_zbuffer.png is no complete PNG": cut(0.6),
    "depth_zbuffer.png is no complete PNG .*": cut(0.99),
    "domain_rgb.png is no complete PNG .*checksum": change("rgb", flip),
    "domain_rgb.png has more than 16 MB": change("rgb", lambda data: data + bytes(16 << 20)),
    "is 16 x 16 pixels, expected 32 x 32": put("rgb", RGB[:16, :16]),
    "is 32 x 16 pixels, expected 32 x 32": put("rgb", RGB[:16]),
    "is 32 x 16 pixels, expected a square": all_of("rgb", RGB[:16]),
    "`keypoints` is the same": all_of("keypoints2d", 0 * GREY16),
    "`edges` is the same": all_of("edge_texture", 0 * GREY16),
    r"`segmentation` is the same, \[1.0\]": all_of(CLASSES, 0 * GREY8 + 1),
    "`segmentation` has no labelled pixel": all_of(CLASSES, 0 * GREY8),
    "`depth` has no labelled pixel": all_of("depth_zbuffer", 0 * GREY16 + 65535),
    "`normal` is the same": all_of("normal", 0 * RGB + np.array([128, 128, 255], "u1")),
    "no pictures of edge_texture in .* Fetch all": without("edge_texture"),
    "split `val`: .*lacking edge_texture 4 times": without("edge_texture/darden"),
    "split `val`: 12 complete views": without(*(f"{domain}/darden" for domain in DOMAINS)),
    r"no pictures of depth_zbuffer in .*expected .* named point_0_view_0_domain_depth_zbuffer.png; "
    r"found depth, edge_texture.*depth/\w+ holds files named ..._domain_depth_eucl": other_depth,
    "should be of one building, is of allensville and my. .*by its name .rgb": lambda root: (
        root / "rgb"
    ).rename(root / "my_rgb"),
    "rgb/beechwood/point_2_view_0_domain_rgb.png is no regular file": pipe("rgb"),
    "rgb of darden is in .* and in .* Keep one": copy("rgb/darden", "darden_rgb/rgb"),
    "ihlen/rgb/darden should be of one building": copy("rgb/darden", "ihlen/rgb/darden"),
    "files that end segment_semantic and segmentsemantic": two_spellings,
    "darden_rgb.tar member .*evil.png' points outside": tar_with("rgb/../../evil.png"),
    "darden_rgb.tar member '/etc/evil.png' points outside": tar_with("/etc/evil.png"),
    "member 'rgb/a.png' is a link": tar_with("rgb/a.png", kind=tarfile.SYMTYPE),
    "member 'rgb/b.png' is a link": tar_with("rgb/b.png", kind=tarfile.LNKTYPE),
    "rgb.tar has point_0_view_0 more than once": tar_with(f"rgb/darden/{file_name('rgb', 0, 0)}"),
    "darden_rgb.tar is no complete tar": tar_with(by=lambda path: os.truncate(path, 3000)),
    "darden_rgb.tar is no complete tar .*no end mark": tar_with(by=cut_after_a_member),
    "rgb.tar is no complete tar file .*no end mark": tar_with(by=damage_a_header),
    "_rgb.tar is no complete tar file .*no end mark": tar_with(by=punch_a_hole),
    "n_rgb.tar is no complete tar file .*no end mark": tar_with(
        by=lambda path: path.write_bytes(path.read_bytes() + bytes(2 << 20))
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_refused_with_one_line(message, root, tmp_path, run_script) -> None:
    """Each broken download ends in exit code 2 and one line that names it; nothing is prepared."""
    REFUSALS[message](root)
    arguments = ("--root", root, "--out", tmp_path / "out", "--size", 16)
    code, _, error = run_script("prepare_taskonomy", *arguments)
    assert code == 2
    assert re.match(f"prepare_taskonomy: .*{message}", error)
    assert not (tmp_path / "out").exists()


def test_a_refused_picture_is_fetched_again_and_the_work_goes_on(
    root, prepared, tmp_path, monkeypatch
) -> None:
    """What was done is kept: preparing takes hours, and one broken file is soon replaced."""
    monkeypatch.setattr(taskonomy_prepare, "CHUNK", 1)
    monkeypatch.setattr(prepared_folder, "SAVE_EVERY", 0)
    good = picture(root, "rgb").read_bytes()
    html(root)
    with pytest.raises(ValueError, match="HTML page"):
        prepare(root, tmp_path / "out")
    assert json.loads((tmp_path / "out.partial" / "progress.json").read_text())["n_done"] == 6
    picture(root, "rgb").write_bytes(good)
    out = prepare(root, tmp_path / "out")
    assert content(out) == content(prepared)
    assert manifest_of(out) == manifest_of(prepared)


def damage_in_tar(root: Path) -> None:
    """The same picture in a tar."""
    folder = root / "rgb" / "beechwood"
    content = {f"rgb/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
    name = f"rgb/{file_name('rgb', 2, 0)}"
    write_tar(root / "beechwood_rgb.tar", {**content, name: flip(content[name])})
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [change("rgb", flip), html, cut(0.5), damage_in_tar])
def test_a_broken_view_is_left_out_and_told(damage, root, prepared, tmp_path, run_script) -> None:
    """The official files have some, and fetching them again gives the same bytes."""
    damage(root)
    out = tmp_path / "out"
    arguments = ("--root", root, "--out", out, "--size", SIDE // 2)
    code, _, error = run_script("prepare_taskonomy", *arguments)
    assert code == 2
    assert re.search("--max-broken: it now allows 0 of 16 views, and 1 are broken", error)
    code, said, _ = run_script("prepare_taskonomy", *arguments, "--max-broken", 10)
    assert code == 0
    assert (
        "1 views left out (manifest.json says why), for a picture is broken: beechwood 2/0" in said
    )
    manifest = manifest_of(out)
    assert manifest["counts"] == {"train": 7, "val": 4, "test": 4}
    assert manifest["buildings"]["train"] == {"allensville": 4, "beechwood": 3}
    (broken,) = manifest["broken"]
    assert (broken["building"], broken["point"], broken["view"]) == ("beechwood", 2, 0)
    assert re.match(r"(rgb|depth_zbuffer)/beechwood|beechwood_rgb.tar member", broken["why"])
    for name in row_types(1):
        whole, part = np.load(prepared / name), np.load(out / name)
        assert np.array_equal(part, np.delete(whole, 6, 0), equal_nan=True)
    assert len(taskonomy(out).train) == 7
    assert prepare(root, out) == out  # nothing to do, although the plan has a view more


def test_the_first_picture_may_be_broken(root, tmp_path) -> None:
    """Which tells size and origin for all."""
    first_html(root)
    out = prepare(root, tmp_path / "out", max_broken=7)
    assert manifest_of(out)["counts"]["train"] == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_broken": -1}, "`max_broken` must be 0 to 100 percent, got -1"),
        ({"max_broken": float("nan")}, "`max_broken` must be 0 to 100 percent, got nan"),
        ({"limit": 2}, "`limit` must be a whole number >= 3, one for each split, got 2"),
        ({"limit": 9.5}, "`limit` must be a whole number >= 3, one for each split, got 9.5"),
        ({"jobs": 0}, "`jobs` must be a whole number >= 1, got 0"),
        ({"size": 33}, "`size` must be 1 to 32"),
        ({"size": 0}, "`size` must be a whole number >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message, made, tmp_path) -> None:
    """Each argument says what it may be; pictures are never enlarged."""
    with pytest.raises(ValueError, match=message):
        prepare(made, tmp_path / "out", **options)


# ---- opening -------------------------------------------------------------------------------------


def test_round_trip(prepared) -> None:
    """What is opened is what the files say: rows by split, building, point and view."""
    data = taskonomy(prepared, verify=True)
    assert data.train.images[[3, 1]].is_contiguous(memory_format=torch.channels_last)
    arrays = {name: np.load(prepared / name) for name in row_types(1)}
    assert manifest_of(prepared)["ranges"] == measure_ranges(arrays)
    assert manifest_of(prepared)["ranges"]["depth"]["lowest"] == [np.nanmin(arrays["depth.npy"])]
    assert data.name == "taskonomy5"
    assert data.task_names == ["depth", "normal", "segmentation", "keypoints", "edges"]
    drawn = [draw(building, *view) for building in BUILDINGS for view in VIEWS]
    expected = [prepare_drawn(pictures, SIDE // 2) for pictures in drawn]
    start = 0
    for split, n in ((data.train, 8), (data.val, 4), (data.test, 4)):
        rows = expected[start : start + n]
        want = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        assert torch.equal(split.images.permute(0, 2, 3, 1), want["rgb.npy"])
        assert torch.equal(split.targets["normal"].permute(0, 2, 3, 1), want["normal.npy"])
        assert torch.equal(split.targets["segmentation"], want["segmentation.npy"])
        for name in ("depth", "keypoints", "edges"):
            got, wanted = split.targets[name], want[f"{name}.npy"][:, None]
            torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)
        start += n


def put_numbers(name: str, number: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        array = np.load(folder / name, mmap_mode="r+")
        array[:] = number if np.isnan(number) else array
        array[3, 2, 1] = number
        array.flush()

    return damage


def swap_files(folder: Path) -> None:
    (folder / "edges.npy").rename(folder / "x.npy")
    (folder / "keypoints.npy").rename(folder / "edges.npy")
    (folder / "x.npy").rename(folder / "keypoints.npy")


@pytest.mark.parametrize(
    ("damage", "name", "lie"),
    [
        (put_numbers("segmentation.npy", 99), "segmentation.npy", "holds -1.0 to 99.0"),
        (put_numbers("segmentation.npy", -7), "segmentation.npy", "holds -7.0 to 17.0"),
        (put_numbers("depth.npy", np.nan), "depth.npy", "holds no number at all"),
        (put_numbers("depth.npy", np.inf), "depth.npy", "to inf, expected 0 to 16"),
        (put_numbers("edges.npy", 2), "edges.npy", "to 2.0, expected 0 to 1"),
        (swap_files, "edges.npy", "the checksum of keypoints.npy"),
    ],
)
def test_labels_that_are_none_are_refused(damage, name, lie, prepared, tmp_path) -> None:
    """By their checksum, and where that was made to fit by what they can be; at every start."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    damage(folder)
    with pytest.raises(ValueError, match=r"copy is damaged .*checksum of \w+.npy is not"):
        taskonomy(folder)
    manifest = manifest_of(folder)
    manifest["files"][name]["sha256"] = prepared_folder.sha256(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=lie):
        taskonomy(folder)


@pytest.mark.parametrize("buildings", [[], {"train": ["a"]}, {"train": {"a": "b"}}, "rgb"])
def test_a_manifest_of_a_wrong_form_is_refused(buildings, prepared, tmp_path) -> None:
    """File and field, before anything is made of it."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    manifest = manifest_of(folder) | {"buildings": buildings}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"copy is damaged .*`buildings.* must be|is missing"):
        taskonomy(folder)


def test_normals_are_labelled_where_depth_is(prepared) -> None:
    """One mask for both, and it is neither empty nor everything."""
    targets = taskonomy(prepared).train.targets
    is_labelled = ~targets["depth"][:, 0].isnan()
    assert torch.equal(is_labelled, (targets["normal"] != -128).all(1))
    assert 0.5 < is_labelled.float().mean() < 0.99
    length = targets["normal"].permute(0, 2, 3, 1)[is_labelled].float().norm(dim=-1) / 127
    assert (length - 1).abs().max() < 0.007  # three roundings of half a step: sqrt(3) / 2 / 127


def test_a_limit_when_opening_takes_every_kth(prepared) -> None:
    """Images and targets stay together, and both training buildings are there."""
    whole, part = taskonomy(prepared), taskonomy(prepared, limit=8)
    assert [len(part.train), len(part.val), len(part.test)] == [4, 2, 2]
    assert torch.equal(part.train.images, whole.train.images[::2])
    assert torch.equal(part.test.targets["segmentation"], whole.test.targets["segmentation"][::2])


def test_drawn_rooms_say_so(tmp_path, run_script) -> None:
    """A text chunk in the pictures marks them as drawn, and the name of the data set follows."""
    root = make_root(tmp_path / "root", text="FAKE: dmtg_lite toy rooms")
    arguments = ("--root", root, "--out", tmp_path / "out", "--size", 8)
    assert run_script("prepare_taskonomy", *arguments)[1].startswith("FAKE (drawn) rooms: 8 train")
    data = taskonomy(tmp_path / "out")
    assert data.name == "fake_taskonomy5"
    assert "Fake" in data.note


def test_other_processes_are_sent_the_place_of_pictures_and_targets(prepared) -> None:
    """All that is dense is mapped: not a row of any of it is sent."""
    whole = taskonomy(prepared)
    sent = pickle.dumps(whole)
    rgb, depth = whole.val.features, whole.val.targets["depth"]
    for tensor, row in ((rgb, rgb[0].permute(1, 2, 0)), (depth, depth[0])):
        assert row.numpy().tobytes() in pickle.dumps(tensor)
        assert row.numpy().tobytes() not in sent
    there = pickle.loads(sent)
    assert there.fingerprint() == whole.fingerprint()
    for name in whole.task_names:
        own, other = whole.val.targets[name], there.val.targets[name]
        assert own.nan_to_num().equal(other.nan_to_num())
