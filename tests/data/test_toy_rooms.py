"""What the toy rooms promise: exact geometry, labels never blurred, a seed for every room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage

from dmtg_lite.core.tasks import TASKONOMY_5
from dmtg_lite.data.toys.image_cues import (
    EDGE_COUNTS,
    KEYPOINT_COUNTS,
    compute_edges,
    compute_keypoints,
)
from dmtg_lite.data.toys.room_parts import (
    BALL,
    BOX,
    CLASSES,
    CONE,
    Camera,
    Part,
    Room,
    Window,
    bounds,
    place_shell,
    solid,
)
from dmtg_lite.data.toys.room_render import camera_axes, camera_rays, render_room
from dmtg_lite.data.toys.room_scene import draw_room
from dmtg_lite.data.toys.rooms import render_rooms, toy_rooms

GRAY = (0.5, 0.5, 0.5)
CLASS = {name: number for number, name in enumerate(CLASSES)}


def hand_made(*parts: Part, windows: Sequence[Window] = ()) -> Room:
    """4 m wide, 6 m deep, 3 m high; seen from (2, 1, 1.5) along +y, 90 degrees wide."""
    shell = [solid(BOX, *place, GRAY) for place in place_shell((4, 6, 3))]
    camera = Camera((2.0, 1.0, 1.5), np.pi / 2, 0.0, np.pi / 2)
    return Room((4.0, 6.0, 3.0), [*shell, *parts], list(windows), (2.0, 3.0, 3.0), camera)


def room_of(seed: int) -> Room:
    return draw_room(np.random.default_rng(seed))


@pytest.fixture(scope="module")
def rooms():
    return render_rooms(60, size=48, seed=0)


# ---- geometry by hand ----------------------------------------------------------------------------


def test_an_empty_room_by_hand() -> None:
    """The wall across is 5 m away; floor and sides follow from 1.5 m, 2 m and slopes of rays."""
    view = render_room(hand_made(), size=10)
    slope = (np.arange(10) + 0.5 - 5) / 5  # of the ray to the right, or down
    across, down = np.meshgrid(slope, slope)
    expected = np.minimum(5, np.minimum(1.5 / np.abs(down), 2 / np.abs(across)))
    np.testing.assert_allclose(view["depth"], expected, rtol=1e-5)
    assert (view["segmentation"] == CLASS["background"]).all()


def test_normals_of_an_empty_room_by_hand() -> None:
    """x right, y down, z to the camera: what is on the left looks right, the floor looks up."""
    normal = render_room(hand_made(), size=11)["normal"]
    found = normal[[5, 5, 5, 10, 0], [5, 0, 10, 5, 5]]
    expected = [(0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 1, 0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "taper", "depth", "normal"),
    [
        (BOX, 1.0, 2.3, (0, 0, 1)),
        (BALL, 1.0, 2.3, (0, 0, 1)),
        (CONE, 1.0, 2.3, (0, 0, 1)),
        # Radius 0.7 at the bottom and 0.35 at 1 m above: 0.525 in the middle, leaning back.
        (CONE, 0.5, 3 - 0.525, np.array((0, -0.35, 1)) / np.hypot(0.35, 1)),
    ],
)
def test_a_solid_in_front_of_the_camera_by_hand(shape, taper, depth, normal) -> None:
    """3 m ahead, 0.7 m to its front: the middle ray of 11 x 11 hits it there, squarely."""
    part = solid(shape, (2, 4, 1.0), (1.0, 1.4, 1.0), (0, 0, 1), "couch", taper=taper)
    view = render_room(hand_made(part), size=11)
    assert view["depth"][5, 5] == pytest.approx(depth, abs=1e-5)
    np.testing.assert_allclose(view["normal"][5, 5], normal, atol=1e-5)
    assert view["segmentation"][5, 5] == CLASS["couch"]


def test_a_turned_box_by_hand() -> None:
    """A pillar of 2 m at 45 degrees shows an edge sqrt(2) m before its middle, and two sides."""
    pillar = solid(BOX, (2, 4, 0), (2, 2, 3), (0, 0, 1), "bed", yaw=np.pi / 4)
    view = render_room(hand_made(pillar), size=101)
    assert view["depth"][50, 50] == pytest.approx(3 - np.sqrt(2), abs=0.02)
    half = np.sqrt(0.5)
    expected = [(-half, 0, half), (half, 0, half)]
    np.testing.assert_allclose(view["normal"][50, [45, 55]], expected, atol=1e-5)


def test_a_window_has_no_depth_no_normal_and_no_class() -> None:
    """1 m to 3 m along the wall across and 1 m to 2 m up: these pixels and no others."""
    view = render_room(hand_made(windows=(Window(3, (1, 1), (3, 2)),)), size=50)
    at = 5 * (np.arange(50) + 0.5 - 25) / 25  # metres from the middle of the wall
    expected = (np.abs(at) < 0.5)[:, None] & (np.abs(at) < 1)
    np.testing.assert_array_equal(np.isnan(view["depth"]), expected)
    np.testing.assert_array_equal(np.isnan(view["normal"]).all(2), expected)
    np.testing.assert_array_equal(view["segmentation"] == 0, expected)


def test_a_table_casts_a_shadow() -> None:
    """The floor below a board under the lamp is darker than without it; beside it it is not."""
    board = solid(BOX, (2, 3, 0.7), (1.0, 1.0, 0.06), (1, 1, 1))
    with_board, without = (
        render_room(room, size=60)["rgb"].astype(int) for room in (hand_made(board), hand_made())
    )
    row = round(30 + 30 * 1.5 / 2.0)  # the floor 2 m ahead, seen below the board
    assert with_board[row, 30].mean() < 0.85 * without[row, 30].mean()
    np.testing.assert_array_equal(with_board[row, [2, 57]], without[row, [2, 57]])


def test_camera_axes_are_an_orthonormal_frame() -> None:
    """Right is horizontal, down points down, back is against the view."""
    axes = camera_axes(Camera((0, 0, 0), 0.3, -0.2, 1.0))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert axes[0, 2] == 0
    assert axes[1, 2] < 0
    forward = [np.cos(0.3) * np.cos(0.2), np.sin(0.3) * np.cos(0.2), -np.sin(0.2)]
    np.testing.assert_allclose(-axes[2], forward)


# ---- geometry by independent oracles -------------------------------------------------------------


def slopes(fov: float, size: int) -> np.ndarray:
    """Rays of depth 1 m: (H, W, 3) in the axes right, down, back."""
    slope = (np.arange(size) + 0.5 - size / 2) * 2 * np.tan(fov / 2) / size
    across, down = np.meshgrid(slope, slope)
    return np.stack([across, down, -np.ones_like(across)], -1)


@pytest.mark.parametrize("seed", range(4))
def test_normals_are_those_of_depth_and_face_the_camera(seed: int) -> None:
    """Where the planes through a point and its neighbours on either side agree, that is its normal.

    To 0.1 degrees; one in a thousand may be an accident of four neighbours at different depths.
    """
    room = room_of(seed)
    view, rays = render_room(room, size=96), slopes(room.camera.fov, 96)
    is_solid = ~np.isnan(view["depth"])
    np.testing.assert_allclose(np.linalg.norm(view["normal"][is_solid], axis=1), 1, atol=1e-5)
    assert ((view["normal"] * rays).sum(2)[is_solid] < 0).all()
    points = view["depth"][..., None] * rays
    middle = points[1:-1, 1:-1]

    def plane(below: np.ndarray, beside: np.ndarray) -> np.ndarray:
        normal = np.cross(beside - middle, below - middle)
        return normal / np.linalg.norm(normal, axis=2, keepdims=True)

    first = plane(points[2:, 1:-1], points[1:-1, 2:])
    second = plane(points[:-2, 1:-1], points[1:-1, :-2])
    limit = np.cos(np.radians(0.1))
    is_flat = (first * second).sum(2) > limit
    assert is_flat.mean() > 0.55
    assert np.mean((first * view["normal"][1:-1, 1:-1]).sum(2)[is_flat] > limit - 1e-6) > 0.999


def test_points_of_round_solids_lie_on_them() -> None:
    """Every hit of a ball fulfils its equation, and of a cone one of its three."""
    parts = {
        "vase": solid(BALL, (1.3, 4, 0.5), (1.0, 1.4, 1.2), GRAY, "vase", yaw=0.4),
        "bottle": solid(CONE, (2.9, 3.5, 0.3), (0.8, 1.0, 1.5), GRAY, "bottle", yaw=0.7, taper=0.4),
        # So flat that rays through it are steeper than its side.
        "sink": solid(CONE, (2.2, 3.0, 0.1), (1.2, 1.2, 0.04), GRAY, "sink", taper=0.3),
    }
    room = hand_made(*parts.values())
    view = render_room(room, size=120)
    rows, columns = np.indices((120, 120)).reshape(2, -1)
    rays = camera_rays(room.camera, np.stack([columns, rows]) + 0.5, 120)
    points = np.array(room.camera.position)[:, None] + view["depth"].ravel() * rays
    for name, part in parts.items():
        seen = view["segmentation"].ravel() == CLASS[name]
        assert seen.sum() > 200
        x, y, z = points[:, seen] - np.array(part.centre)[:, None]
        cos, sin = np.cos(part.yaw), np.sin(part.yaw)
        x, y = (cos * x + sin * y) / part.half[0], (cos * y - sin * x) / part.half[1]
        z = z / part.half[2]
        if name == "vase":
            np.testing.assert_allclose(x**2 + y**2 + z**2, 1, atol=1e-4)
        else:
            radius = (1 + part.taper) / 2 + (part.taper - 1) / 2 * z
            off_side = np.abs(np.hypot(x, y) - radius)
            off_lid = np.where(np.hypot(x, y) < radius + 1e-3, np.abs(np.abs(z) - 1), np.inf)
            assert np.minimum(off_side, off_lid).max() < 1e-3


def test_labels_are_those_of_the_middle_ray_and_the_picture_is_smooth() -> None:
    """The middle of every 3 x 3 block of a picture three times as large carries the same labels.

    Up to 0.1 % of the rays run so close to an edge that rounding decides. Colours are much closer
    to the average of a large picture than to its single rays.
    """
    small, large, huge = (render_room(room_of(3), size=size) for size in (48, 144, 432))
    for name in ("depth", "normal", "segmentation"):
        same = np.isclose(small[name], large[name][1::3, 1::3], atol=1e-3, equal_nan=True)
        assert same.mean() > 0.999, name
    pixels, fine = small["rgb"].astype(float), huge["rgb"].astype(float)
    average, single = fine.reshape(48, 9, 48, 9, 3).mean((1, 3)), fine[4::9, 4::9]
    assert np.abs(pixels - average).mean() < 0.65 * np.abs(single - average).mean()


# ---- rooms ---------------------------------------------------------------------------------------


def test_furniture_stays_in_the_room_and_away_from_the_camera() -> None:
    """100 rooms: no solid sticks out by more than 5 cm, none stands within 0.5 m of the camera."""
    for seed in range(100):
        room = room_of(seed)
        x, y, _ = room.camera.position
        assert 3 <= min(room.size[:2]) <= max(room.size[:2]) <= 7
        for part in room.parts[6:]:
            (x0, y0, low), (x1, y1, high) = bounds([part])
            assert min(x0, y0, low) > -0.05
            assert (np.array([x1, y1, high]) < np.array(room.size) + 0.05).all()
            is_near = max(x0 - x, x - x1, y0 - y, y - y1) < 0.5
            assert not (is_near and 0.02 < high < 1.4), part


def test_all_classes_of_taskonomy_occur() -> None:
    """In 250 rooms every one of the 18 numbers is seen, background most of the time."""
    seen = np.bincount(render_rooms(250, size=32, seed=1)["segmentation"].ravel(), minlength=18)
    assert len(seen) == len(CLASSES) == TASKONOMY_5[2].n_outputs
    assert (seen > 0).all(), [CLASSES[k] for k in np.flatnonzero(seen == 0)]
    assert 0.5 < seen[CLASS["background"]] / seen.sum() < 0.9


def test_every_target_has_spread(rooms) -> None:
    """Nothing is constant, within or between pictures; windows take 0.2 to 10 % of the pixels."""
    for name in ("depth", "keypoints", "edges"):
        values = rooms[name].astype(float)
        assert np.nanstd(values, (1, 2)).min() > 0.02 * np.nanmean(values), name
    assert 0.2 < np.nanmin(rooms["depth"]) < np.nanmax(rooms["depth"]) < 16  # valid in Taskonomy
    assert np.nanstd(rooms["normal"], (0, 1, 2)).min() > 0.2
    assert len(np.unique(rooms["segmentation"])) >= 8
    assert 0.002 < np.isnan(rooms["depth"]).mean() < 0.1


@pytest.mark.parametrize(
    ("name", "mean", "deviation", "highest"),
    [("keypoints", 71, 96, 1120), ("edges", 1099, 1345, 8901)],
)
def test_cues_have_the_range_of_the_true_files(rooms, name, mean, deviation, highest) -> None:
    """Mean, deviation and maximum of Taskonomy's files: within 2.5 times."""
    found = np.array([rooms[name].mean(), rooms[name].std(), rooms[name].max()])
    assert (np.abs(np.log(found / [mean, deviation, highest])) < np.log(2.5)).all(), found


# ---- cues ----------------------------------------------------------------------------------------


def test_a_ramp_is_an_even_edge_and_no_keypoint() -> None:
    """Slope 0.005 a pixel at 64 pixels, scale 0.7: 0.0035 of the counts; the outer ring is 0."""
    ramp = np.tile(0.005 * np.arange(64), (64, 1))
    edges = compute_edges(ramp)
    assert (edges[5:-5, 5:-5] == round(EDGE_COUNTS * 0.7 * 0.005)).all()
    assert edges[[0, -1]].max() == edges[:, [0, -1]].max() == 0
    assert (compute_keypoints(ramp)[8:-8, 8:-8] == 0).all()
    assert edges.dtype == compute_keypoints(ramp).dtype == np.uint16


def test_a_straight_edge_is_no_keypoint_and_a_corner_is() -> None:
    """A step bends one way only; where two steps meet brightness bends both ways."""
    step, corner = np.zeros((2, 80, 80))
    step[:, 40:] = 0.5
    corner[40:, 40:] = 0.5
    assert compute_keypoints(step).max() == 0
    row, column = np.unravel_index(compute_keypoints(corner).argmax(), (80, 80))
    assert max(abs(row - 40), abs(column - 40)) <= 2


@pytest.mark.parametrize("size", [80, 160])
def test_a_spot_answers_as_its_formula_says(size: int) -> None:
    """A Gaussian spot as wide as the scale answers 1/4 of the counts in its middle, at any size.

    Smoothing makes its variance 2 sigma^2 and its height 1/2; each second derivative is height over
    variance, and the scale multiplies by sigma^2. 3 %: the sampled kernel is not the continuous
    one.
    """
    sigma, x = size / 40, np.arange(size) - size // 2
    spot = np.exp(-(x[:, None] ** 2 + x**2) / (2 * sigma**2))
    found = compute_keypoints(spot)[size // 2, size // 2]
    assert found == pytest.approx(KEYPOINT_COUNTS / 4, rel=0.03)


def test_cues_agree_with_scipy() -> None:
    """Oracle: scipy's Gaussian derivatives. 2 % of the highest: its kernels are normalised else."""
    gray, sigma = np.random.default_rng(0).random((2, 200, 200)), 2.0  # 200 / 100
    across, down = (
        ndimage.gaussian_filter(gray, (0, sigma, sigma), order=o) for o in ((0, 0, 1), (0, 1, 0))
    )
    expected = EDGE_COUNTS * sigma * np.hypot(across, down)
    inner = np.s_[:, 10:-10, 10:-10]
    assert np.abs(compute_edges(gray) - expected)[inner].max() < 0.02 * expected.max()


def test_cues_of_a_scene_look_alike_at_any_size() -> None:
    """Edges at 384 pixels, averaged to 96 pixels, correlate with those at 96 by more than 0.9."""
    weights = np.array([0.299, 0.587, 0.114]) / 255
    small, large = (
        compute_edges(render_room(room_of(0), size=size)["rgb"] @ weights) for size in (96, 384)
    )
    average = large.reshape(96, 4, 96, 4).mean((1, 3))
    assert np.corrcoef(average.ravel(), small.ravel())[0, 1] > 0.9
    assert average.mean() == pytest.approx(small.mean(), rel=0.2)


# ---- data ----------------------------------------------------------------------------------------


def small(**changes):
    return toy_rooms(**{"n_train": 4, "n_val": 3, "n_test": 3, "size": 32, **changes})


def test_targets_have_the_types_of_dense_tasks() -> None:
    """Natural units, small types; one mask for what a window hides."""
    data = small(n_test=12)
    assert (data.name, data.tasks, data.planted_groups) == ("toy_rooms", TASKONOMY_5, None)
    assert "not Taskonomy" in data.note
    split, raw = data.test, render_rooms(12, size=32, seed=np.random.default_rng(0).spawn(3)[2])
    types = {name: (target.dtype, tuple(target.shape)) for name, target in split.targets.items()}
    assert types == {
        "depth": (torch.float16, (12, 1, 32, 32)),
        "normal": (torch.int8, (12, 3, 32, 32)),
        "segmentation": (torch.int8, (12, 32, 32)),
        "keypoints": (torch.float16, (12, 1, 32, 32)),
        "edges": (torch.float16, (12, 1, 32, 32)),
    }
    assert torch.equal(split.images, torch.from_numpy(raw["rgb"]).permute(0, 3, 1, 2))
    is_open = torch.from_numpy(np.isnan(raw["depth"]))
    assert 0 < is_open.sum() < 0.2 * is_open.numel()
    normal = split.targets["normal"].permute(0, 2, 3, 1)
    assert torch.equal(split.targets["depth"][:, 0].isnan(), is_open)
    assert torch.equal((normal == -128).all(-1), is_open)
    assert torch.equal(split.targets["segmentation"] == -1, is_open)
    close = {"atol": 1e-6, "rtol": 2**-11}  # of float16
    depth = split.targets["depth"][:, 0][~is_open].float()
    torch.testing.assert_close(depth, torch.from_numpy(raw["depth"])[~is_open], **close)
    error = normal[~is_open].numpy() / 127 - raw["normal"][~is_open.numpy()]
    assert np.abs(error).max() <= 0.5 / 127 + 1e-6
    assert normal[~is_open].min() >= -127
    for name in ("keypoints", "edges"):
        share = torch.from_numpy(raw[name] / 65535).float()
        torch.testing.assert_close(split.targets[name][:, 0].float(), share, **close)


def test_same_seed_same_data_other_seed_other_data() -> None:
    """Deterministic bit for bit; splits are different draws."""
    first, again, other = small(seed=1), small(seed=1), small(seed=2)
    for name in ("train", "val", "test"):
        one, two, three = (getattr(data, name) for data in (first, again, other))
        assert torch.equal(one.images, two.images)
        assert not torch.equal(one.images, three.images)
        for task in first.task_names:  # bytes, since NaN equals nothing
            assert one.targets[task].numpy().tobytes() == two.targets[task].numpy().tobytes()
    assert not torch.equal(first.val.images, first.test.images)
    assert not torch.equal(first.val.images, first.train.images[:3])


def test_more_rooms_change_no_other_room() -> None:
    """A longer split begins with the shorter one; others stay; one by one is as all at once."""
    few, many = small(n_train=2), small(n_train=5)
    assert torch.equal(few.train.images, many.train.images[:2])
    assert torch.equal(few.val.images, many.val.images)
    assert torch.equal(few.test.images, many.test.images)
    rng = np.random.default_rng(5)
    singles = [render_rooms(1, size=16, seed=rng)["depth"][0] for _ in range(3)]
    np.testing.assert_array_equal(np.stack(singles), render_rooms(3, size=16, seed=5)["depth"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 0}, "`n_train` must be >= 1, got 0"),
        ({"n_val": 0}, "`n_val` must be >= 1"),
        ({"n_test": -1}, "`n_test` must be >= 1"),
        ({"size": 8}, "`size` must be 16 to 512 pixels, got 8"),
        ({"size": 1024}, "`size` must be 16 to 512 pixels, got 1024"),
    ],
)
def test_bad_input_is_refused_with_the_reason(arguments, message: str) -> None:
    """The error names the argument, what was expected and what was given."""
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_render_rooms_refuses_no_rooms() -> None:
    """At least one."""
    with pytest.raises(ValueError, match="`n` must be >= 1 room, got 0"):
        render_rooms(0, size=32, seed=0)
