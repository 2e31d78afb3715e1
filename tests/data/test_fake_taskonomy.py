"""What the fake Taskonomy promises: Taskonomy's byte formats and folders, marked as fake."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

from PIL import Image

from dmtg_lite.data.stand_ins import taskonomy_files as fake_taskonomy_files
from dmtg_lite.data.stand_ins.taskonomy_files import (
    BUILDINGS,
    LAYOUTS,
    encode_view,
    make_fake_taskonomy,
)
from dmtg_lite.data.toys.rooms import render_rooms

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "make_toy_taskonomy.py"
SIZE = 40
# domain: (suffix in file names, mode and dtype as Pillow 10 and later read it, bits of the PNG)
FORMATS = {
    "rgb": ("rgb", "RGB", np.uint8, 8),
    "depth_zbuffer": ("depth_zbuffer", "I;16", np.uint16, 16),
    "normal": ("normal", "RGB", np.uint8, 8),
    "segment_semantic": ("segmentsemantic", "L", np.uint8, 8),
    "keypoints2d": ("keypoints2d", "I;16", np.uint16, 16),
    "edge_texture": ("edge_texture", "I;16", np.uint16, 16),
}
EXACT = ("rgb", "segment_semantic", "keypoints2d", "edge_texture")


def read_pictures(root: Path) -> dict[str, bytes]:
    """Every PNG below a folder, also inside tars: {path, with a tar's name as a folder: bytes}."""
    pictures = {
        str(path.relative_to(root).as_posix()): path.read_bytes() for path in root.rglob("*.png")
    }
    for path in root.rglob("*.tar"):
        with tarfile.open(path) as archive:
            for entry in archive:
                pictures[f"{path.name}/{entry.name}"] = archive.extractfile(entry).read()
    return pictures


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fake") / "taskonomy"
    return make_fake_taskonomy(out, layout="standley", buildings=3, views=3, size=SIZE, seed=4)


@pytest.fixture(scope="module")
def pictures(folder) -> dict[str, bytes]:
    return read_pictures(folder)


# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", FORMATS)
def test_each_domain_has_its_png_format(pictures, domain: str) -> None:
    """Mode, type and shape as Pillow reads them, and the bits that the PNG itself declares."""
    _, mode, dtype, bits = FORMATS[domain]
    own = [data for name, data in pictures.items() if name.startswith(f"{domain}/")]
    assert len(own) == 9
    for data in own:
        assert Image.open(io.BytesIO(data)).mode == mode
        assert data[24] == bits  # IHDR: width, height, bits, colour type
        assert pixels_of(data).dtype == dtype
        assert pixels_of(data).shape == (SIZE, SIZE, 3)[: 3 if mode == "RGB" else 2]
        if bits == 16:  # not 8 bits in two bytes
            assert len(np.unique(pixels_of(data) & 0xFF)) > 64


def test_values_lie_in_the_range_of_their_domain(pictures) -> None:
    """Depth below 16 m or 65535, classes 0 to 17, a black ring around edges, unit normals."""
    for name, data in pictures.items():
        domain, pixels = name.split("/")[0], pixels_of(data).astype(int)
        if domain == "depth_zbuffer":
            assert ((pixels == 65535) | ((pixels > 100) & (pixels < 8192))).all()
        elif domain == "segment_semantic":
            assert 0 <= pixels.min() <= pixels.max() <= 17
        elif domain == "edge_texture":
            assert pixels[[0, -1]].max() == pixels[:, [0, -1]].max() == 0
            assert pixels.max() < 30_000
        elif domain == "normal":
            is_valid = (pixels != 128).any(2)
            length = np.linalg.norm(pixels[is_valid] / 255 * 2 - 1, axis=1)
            np.testing.assert_allclose(length, 1, atol=np.sqrt(3) / 255)  # half a step each


def test_pixels_without_geometry_carry_the_codes_of_taskonomy(pictures) -> None:
    """Depth 65535, normal (128, 128, 128) and class 0 at the very same pixels; there are some."""
    n_open = 0
    for place in {name.split("/", 1)[1].rsplit("_domain_")[0] for name in pictures}:
        depth, normal, classes = (
            pixels_of(pictures[f"{domain}/{place}_domain_{FORMATS[domain][0]}.png"])
            for domain in ("depth_zbuffer", "normal", "segment_semantic")
        )
        is_open = depth == 65535
        np.testing.assert_array_equal((normal == 128).all(2), is_open)
        np.testing.assert_array_equal(classes == 0, is_open)
        n_open += is_open.sum()
    assert n_open > 0


def test_files_hold_what_was_rendered(pictures) -> None:
    """Read back: depth to 1/1024 m, normals to 1/255, others exactly; one stream per building."""
    streams = np.random.default_rng(4).spawn(len(BUILDINGS))
    for building, rng in zip(BUILDINGS[:3], streams, strict=False):
        rooms = render_rooms(3, size=SIZE, seed=rng)
        for i, view in enumerate(("point_0_view_0", "point_0_view_1", "point_1_view_0")):
            read = {
                domain: pixels_of(pictures[f"{domain}/{building}/{view}_domain_{form[0]}.png"])
                for domain, form in FORMATS.items()
            }
            depth = np.where(read["depth_zbuffer"] == 65535, np.nan, read["depth_zbuffer"] / 512)
            np.testing.assert_allclose(depth, rooms["depth"][i], atol=1 / 1024 + 1e-6, rtol=0)
            normal = np.where(np.isnan(depth)[..., None], np.nan, read["normal"] / 255 * 2 - 1)
            np.testing.assert_allclose(normal, rooms["normal"][i], atol=1 / 255 + 1e-6, rtol=0)
            for domain, name in zip(
                EXACT, ("rgb", "segmentation", "keypoints", "edges"), strict=True
            ):
                np.testing.assert_array_equal(read[domain], rooms[name][i])


def test_encoding_by_hand() -> None:
    """2 m is 1024; (1, -1, 0) is (255, 0, 128); nothing is 65535 and (128, 128, 128)."""
    room = {
        "rgb": np.zeros((1, 2, 3), np.uint8),
        "depth": np.float32([[2.0, np.nan]]),
        "normal": np.float32([[[1, -1, 0], [np.nan] * 3]]),
        "segmentation": np.uint8([[4, 0]]),
        "keypoints": np.uint16([[300, 0]]),
        "edges": np.uint16([[9000, 1]]),
    }
    files = encode_view(room)
    assert files["depth_zbuffer"].tolist() == [[1024, 65535]]
    assert files["normal"].tolist() == [[[255, 0, 128], [128, 128, 128]]]
    assert files["keypoints2d"].tolist() == [[300, 0]]


# ---- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "place"),
    [
        ("omnitools", "segment_semantic/taskonomy/hanson"),
        ("standley", "segment_semantic/hanson"),
        ("raw", "hanson_segment_semantic/segment_semantic"),
        ("tars", "hanson_segment_semantic.tar/segment_semantic"),
        ("compressed", "segment_semantic__taskonomy__hanson.tar/segment_semantic"),
        ("single", "segment_semantic"),
    ],
)
def test_layouts_hold_the_same_bytes_in_their_folders(tmp_path, layout: str, place: str) -> None:
    """All six, one building of two views: 12 files; only the place differs."""
    out = make_fake_taskonomy(tmp_path / "t", layout=layout, buildings=1, views=2, size=16)
    same = make_fake_taskonomy(tmp_path / "s", layout="standley", buildings=1, views=2, size=16)
    found, expected = read_pictures(out), read_pictures(same)
    assert f"{place}/point_0_view_0_domain_segmentsemantic.png" in found
    assert sorted(found.values()) == sorted(expected.values())
    assert {Path(name).name for name in found} == {Path(name).name for name in expected}
    assert len(found) == 12


def test_default_buildings_cover_the_splits() -> None:
    """The first three are in the official tiny train, val and test part; names differ."""
    assert BUILDINGS[:3] == ("hanson", "wiconisco", "ihlen")
    assert len(set(BUILDINGS)) == len(BUILDINGS) == 25
    assert set(LAYOUTS) == {"omnitools", "standley", "raw", "tars", "compressed", "single"}


def test_more_buildings_change_no_other_building(pictures, tmp_path) -> None:
    """The first of three buildings is the only one of one, byte for byte; another seed differs."""
    same = {"layout": "standley", "buildings": 1, "views": 3, "size": SIZE}
    one, other = (
        read_pictures(make_fake_taskonomy(tmp_path / str(seed), seed=seed, **same))
        for seed in (4, 5)
    )
    assert one == {name: data for name, data in pictures.items() if "/hanson/" in name}
    assert all(one[name] != other[name] for name in one if name.startswith("rgb/"))


# ---- honesty and safety --------------------------------------------------------------------------


def test_everything_says_that_it_is_fake(folder, pictures) -> None:
    """A README that begins with FAKE, and a text chunk in each picture."""
    assert (folder / "README.txt").read_text().startswith("FAKE (drawn rooms, not Taskonomy)")
    for data in pictures.values():
        assert Image.open(io.BytesIO(data)).text == {"Comment": "dmtg_lite toy rooms"}


def test_an_empty_folder_is_used_and_a_full_one_is_refused(tmp_path) -> None:
    """What lies there already is never touched."""
    out = tmp_path / "out"
    out.mkdir()
    make_fake_taskonomy(out, layout="single", views=1, size=16)
    before = read_pictures(out)
    with pytest.raises(ValueError, match="exists already and is no empty folder"):
        make_fake_taskonomy(out, layout="single", views=1, size=16, seed=1)
    assert read_pictures(out) == before


def test_a_folder_that_is_in_the_way_is_not_touched(tmp_path) -> None:
    """A person's folder of the name that the work would have."""
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").touch()
    with pytest.raises(ValueError, match=r"out.partial, where the work would be, is there already"):
        make_fake_taskonomy(tmp_path / "out", views=1, size=16)
    assert [path.name for path in tmp_path.rglob("*")] == ["out.partial", "thesis.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    """The folder appears when it is complete, or not at all."""

    def fail(pixels: np.ndarray) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(fake_taskonomy_files, "encode_png", fail)
    with pytest.raises(OSError, match="disk full"):
        make_fake_taskonomy(tmp_path / "out", views=1, size=16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "zip"}, "`layout` must be one of"),
        ({"buildings": 0}, "`buildings` must be 1 to 25, got 0"),
        ({"buildings": 26}, "`buildings` must be 1 to 25, got 26"),
        ({"buildings": 2, "layout": "single"}, "`buildings` must be 1 for layout 'single', got 2"),
        ({"seed": -3}, "`seed` must be a whole number >= 0, got -3"),
        ({"views": 0}, "`views` must be >= 1, got 0"),
        ({"size": 4}, "`size` must be 16 to 512 pixels, got 4"),
    ],
)
def test_bad_input_is_refused_with_the_reason(tmp_path, arguments, message: str) -> None:
    """The error names the argument; nothing is written."""
    with pytest.raises(ValueError, match=message):
        make_fake_taskonomy(tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_script_writes_and_says_so(tmp_path, capsys) -> None:
    """0 and a line with FAKE; then, since the folder is there, 2 and one line of error."""
    spec = importlib.util.spec_from_file_location("make_toy_taskonomy", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    options = {"--layout": "tars", "--buildings": "1", "--views": "1", "--size": "16"}
    arguments = [f"{name}={value}" for name, value in options.items()] + [f"--out={tmp_path}/out"]
    assert script.main(arguments) == 0
    assert "FAKE" in capsys.readouterr().out
    assert script.main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("make_toy_taskonomy: ")
    assert "exists already" in error
