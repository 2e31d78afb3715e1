"""What the toy faces promise: planted groups, true labels, independent draws, a seed for all."""

import itertools
import zlib
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtg_lite.data import toy_faces
from dmtg_lite.data.toys.faces import (
    PARTS,
    Cut,
    apply_cuts,
    draw_faces,
    plan_bits,
    plan_cuts,
    plan_planes,
)


def label_matrix(split, names):
    return torch.stack([split.targets[name] for name in names], 1)  # (n, N)


def small(**changes):
    return toy_faces(**{"size": 16, "n_train": 40, "n_val": 20, "n_test": 20, **changes})


def latents_of_test(n_latents: int, seed: int) -> np.ndarray:
    """The first numbers of the test split's generator."""
    return np.random.default_rng(seed).spawn(3)[2].standard_normal((20, n_latents))


@pytest.fixture(scope="module")
def faces():
    return toy_faces(size=16, n_train=4000, n_test=4000)


def test_labels_follow_the_latents_by_hand() -> None:
    """u = (1, -1): above 0.5 in column 0, below -0.5 in column 1; equal to a cut is not above."""
    cuts = [
        Cut("a", 0, (0.5,), True),
        Cut("b", 1, (-0.5,), False),
        Cut("c", 1, (-0.5,), True),
        Cut("d", 0, (1.0,), True),
    ]
    labels = apply_cuts(np.array([[1.0, -1.0], [0.0, 0.0]]), cuts)
    assert labels.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]


SUITES = {
    "cuts": [
        ["dark_hair", "light_hair", "very_light_hair"],
        ["thin_moustache", "very_thin_moustache", "full_moustache"],
        ["pale_cheeks", "red_cheeks", "very_red_cheeks"],
    ],
    "independent": [
        ["light_hair", "medium_hair", "in_between_hair"],
        ["full_moustache", "medium_moustache", "in_between_moustache"],
        ["red_cheeks", "medium_cheeks", "in_between_cheeks"],
    ],
    "planes": [
        ["light_hair_full_moustache_1", "light_hair_full_moustache_2", "dark_hair_full_moustache"],
        ["red_cheeks_tall_hat_1", "red_cheeks_tall_hat_2", "pale_cheeks_tall_hat"],
        ["bright_shirt_open_mouth_1", "bright_shirt_open_mouth_2", "dark_shirt_open_mouth"],
    ],
}


@pytest.mark.parametrize(
    ("labels", "plan", "note"),
    [
        ("cuts", plan_cuts, "not photographs"),
        ("independent", plan_bits, "independent coins"),
        ("planes", plan_planes, "two parts"),
    ],
)
def test_the_suites_are_named_planted_and_true(labels, plan, note) -> None:
    """Names as lectures show them; test labels are the cuts of the seed's latents, unflipped."""
    data = small(labels=labels, seed=5)
    assert data.planted_groups == SUITES[labels]
    assert note in data.note
    expected = apply_cuts(latents_of_test(6 if labels == "planes" else 3, seed=5), plan(9, 3))
    assert label_matrix(data.test, data.task_names).tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_tasks_split_evenly_over_any_groups(data) -> None:
    """Any N, any G: unique names, sizes differ by at most one, cuts of a group differ."""
    n_tasks = data.draw(st.integers(1, 60))
    n_groups = data.draw(st.integers(1, min(n_tasks, len(PARTS))))
    cuts = plan_cuts(n_tasks, n_groups)
    sizes = np.bincount([cut.group for cut in cuts])
    assert len({cut.name for cut in cuts}) == len(cuts) == n_tasks
    assert len(sizes) == n_groups
    assert sizes.max() - sizes.min() <= 1
    assert len({(cut.group, round(cut.thresholds[0], 9)) for cut in cuts}) == n_tasks


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 24), st.integers(1, len(PARTS)), st.sampled_from([16, 32, 64]))
def test_any_suite_is_valid_data(n_tasks: int, n_groups: int, size: int) -> None:
    """The whole function works for uneven N / G and every size."""
    n_groups = min(n_groups, n_tasks)
    data = toy_faces(n_tasks, n_groups, size=size, n_train=3, n_val=2, n_test=1)
    assert data.feature_shape == (3, size, size)
    assert data.train.images.dtype == torch.uint8
    assert [len(data.train), len(data.val), len(data.test)] == [3, 2, 1]
    assert len(data.planted_groups) == n_groups


def test_rates_are_gaussian_tails_and_groups_are_independent(faces) -> None:
    """27 % or 50 % positives: 4,000 draws, standard error 0.8 points, tolerance 4 of them.

    Between groups |correlation| < 0.08, five standard errors; within a group > 0.3.
    """
    labels = label_matrix(faces.test, faces.task_names).double()
    tail = 0.27425  # P(u > 0.6)
    expected = [0.5 if cut.thresholds == (0,) else tail for cut in plan_cuts(9, 3)]
    np.testing.assert_allclose(labels.mean(0), expected, atol=0.032, rtol=0)
    correlation = np.abs(np.corrcoef(labels.T))
    same = np.kron(np.eye(3), np.ones((3, 3))) > 0
    assert correlation[~same].max() < 0.08
    assert correlation[same].min() > 0.3  # the two outer cuts: p / (1 - p) with p = 0.274 is 0.38


def assert_same_labels(first, second, names=("val", "test")) -> None:
    for name in names:
        for task, target in getattr(first, name).targets.items():
            assert torch.equal(target, getattr(second, name).targets[task])


def test_label_noise_flips_training_labels_only() -> None:
    """Noise 10 % flips 10 % of 36,000 training labels (error 0.16 points), none elsewhere."""
    clean, noisy = (toy_faces(size=16, n_train=4000, label_noise=noise) for noise in (0, 0.1))
    assert_same_labels(clean, noisy)
    first, second = (label_matrix(data.train, clean.task_names) for data in (clean, noisy))
    assert (first != second).double().mean().item() == pytest.approx(0.1, abs=0.007)
    assert torch.equal(clean.train.images, noisy.train.images)


def test_same_seed_same_data_other_seed_other_data() -> None:
    """Deterministic bit for bit, three splits are different draws, sizes ask the same questions."""
    first, again, other = small(seed=1), small(seed=1), small(seed=2)
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(first, name).images, getattr(again, name).images)
        assert not torch.equal(getattr(first, name).images, getattr(other, name).images)
    assert not torch.equal(first.val.images, first.test.images)
    assert not torch.equal(first.val.images, first.train.images[:20])
    for size in (32, 64):
        assert_same_labels(first, small(seed=1, size=size), ("train", "val", "test"))


@pytest.mark.parametrize("size", [16, 32])
def test_each_latent_changes_its_part_and_parts_are_balanced(size: int) -> None:
    """Moving u from -0.8 to 0.8 changes the picture about equally for every part: 3 times."""
    change = {}
    for part, noun in enumerate(part.noun for part in PARTS):
        low, high = np.zeros((2, 60, len(PARTS)))
        low[:, part], high[:, part] = -0.8, 0.8
        difference = draw_faces(high, size=size).float() - draw_faces(low, size=size).float()
        change[noun] = difference.square().sum((1, 2, 3)).mean().sqrt().item()
    assert max(change.values()) < 3 * min(change.values()), change


def test_a_linear_reading_of_the_pixels_finds_each_default_latent() -> None:
    """Ridge regression on 16 x 16 pixels explains over 60 % of each u on fresh faces."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((2600, 3))
    pixels = draw_faces(latents, size=16, seed=rng).flatten(1).numpy() / 255.0
    pixels = np.hstack([pixels - pixels[:2000].mean(0), np.ones((2600, 1))])
    fit, test = pixels[:2000], pixels[2000:]
    weights = np.linalg.solve(fit.T @ fit + 3 * np.eye(fit.shape[1]), fit.T @ latents[:2000])
    for read, true in zip((test @ weights).T, latents[2000:].T, strict=True):
        assert np.corrcoef(read, true)[0, 1] ** 2 > 0.6


def test_the_default_faces_are_frozen() -> None:
    """Recordings and lectures: a checksum of all targets, and the mean colours of training images.

    Brightness is rounded to bytes after exp and cos, whose last bit is the machine's: pixels may
    differ by one elsewhere.
    """
    data, checksum = small(), 0
    for split in (data.train, data.val, data.test):
        for task in data.task_names:
            checksum = zlib.crc32(split.targets[task].numpy().tobytes(), checksum)
    assert hex(checksum) == "0x4f92e0ff"
    means = data.train.images.double().mean((0, 2, 3)).tolist()
    assert means == pytest.approx([158.385, 147.650, 137.215], abs=0.01)


# ---- only the images tell the groups -------------------------------------------------------------


def test_gray_bits_are_independent_exactly() -> None:
    """In the middle of 8 equal bins of t, three bits take each of the 8 patterns once."""
    latents = np.array([[NormalDist().inv_cdf((i + 0.5) / 8)] for i in range(8)])
    assert apply_cuts(latents, plan_bits(3, 1)).T.tolist() == [
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 1, 1, 0],
    ]


def test_independent_labels_hide_the_groups_in_pairs_and_triples() -> None:
    """40,000 latents: products of signs of up to three labels average 0, within five errors."""
    latents = np.random.default_rng(0).standard_normal((40_000, 3))
    signs = 2.0 * apply_cuts(latents, plan_bits(9, 3)) - 1
    for size in (1, 2, 3):
        for chosen in itertools.combinations(range(9), size):
            assert abs(signs[:, chosen].prod(1).mean()) < 5 / 200, chosen


# ---- groups that need two numbers ----------------------------------------------------------------


def test_planes_ask_on_which_side_of_a_line() -> None:
    """Latents (u0, v0, u1, v1) and the lines at 45 degrees of two groups, by hand."""
    latents = [[1, -0.5, 0, 0], [1, -1.1, -2, 1], [-1, 0.5, 0.1, 0]]
    assert apply_cuts(np.array(latents), plan_planes(2, 2)).tolist() == [[1, 0], [0, 0], [0, 1]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_planes_spread_evenly_and_away_from_the_axes(data) -> None:
    """Any N and G: unique names, steps of 180/m degrees, every line a quarter step off the axes."""
    n_groups = data.draw(st.integers(1, len(PARTS) // 2))
    cuts = plan_planes(data.draw(st.integers(n_groups, 60)), n_groups)
    assert len({cut.name for cut in cuts}) == len(cuts)
    for group in range(n_groups):
        weights = np.array([cut.weights for cut in cuts if cut.group == group])
        angles = np.degrees(np.arctan2(weights[:, 1], weights[:, 0]))
        step = 180 / len(angles)
        np.testing.assert_allclose(np.diff(angles), step)
        assert np.abs(angles[:, None] - [0, 90, 180]).min() > 0.249 * step


def test_planes_are_fair_and_correlated_by_their_angle() -> None:
    """40,000 latents, five standard errors: half positive; correlated by angle, within groups."""
    truth = apply_cuts(np.random.default_rng(0).standard_normal((40_000, 6)), plan_planes(9, 3))
    assert np.abs(truth.mean(0) - 0.5).max() < 5 * 0.5 / 200
    third = 1 / 3  # lines 60 degrees apart agree on 2/3 of the plane
    within = np.array([[1, third, -third], [third, 1, third], [-third, third, 1]])
    assert np.abs(np.corrcoef(truth.T) - np.kron(np.eye(3), within)).max() < 5 / 200


# ---- variants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"labels": "independent"}, {"labels_per_image": 1}])
def test_variants_change_no_image(change) -> None:
    """The same seed draws the same faces, whatever is asked about them, and another data set."""
    plain, other = small(n_train=90), small(n_train=90, **change)
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(plain, name).images, getattr(other, name).images)
    assert plain.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("labels_per_image", [1, 4, 9])
def test_training_images_carry_so_many_labels(labels_per_image: int) -> None:
    """So many in each training image, unchanged, in about equal shares; others keep all."""
    plain, masked = small(n_train=900), small(n_train=900, labels_per_image=labels_per_image)
    truth, seen = (label_matrix(data.train, plain.task_names) for data in (plain, masked))
    assert ((seen >= 0).sum(1) == labels_per_image).all()
    assert torch.equal(seen[seen >= 0], truth[seen >= 0])
    off = (seen >= 0).double().mean(0) - labels_per_image / 9
    assert off.abs().max() < 5 * 0.5 / 30  # five standard errors at most
    assert_same_labels(plain, masked)
    assert f"{labels_per_image} of 9 labels" in masked.note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tasks": 0}, "`n_tasks` must be >= 1, got 0"),
        ({"n_groups": 0}, "`n_groups` must be 1 to 10"),
        ({"n_tasks": 40, "n_groups": 11}, "got 11: a face has 10 parts and a group drives 1"),
        ({"n_tasks": 2, "n_groups": 3}, "3 groups for 2 tasks"),
        ({"size": 28}, r"`size` must be one of \(16, 32, 64\) pixels, got 28"),
        ({"n_val": 0}, "`n_val` must be >= 1"),
        ({"labels": "random"}, r"must be one of \('cuts', 'independent', 'planes'\), got 'random'"),
        ({"labels": "independent", "n_tasks": 10}, "at most 3 tasks, 10 tasks in 3 groups make 4"),
        ({"labels": "planes", "n_groups": 0}, "`n_groups` must be 1 to 5"),
        ({"labels": "planes", "n_groups": 6}, "got 6: a face has 10 parts and a group drives 2"),
        ({"labels_per_image": 0}, "`labels_per_image` must be 1 to 9"),
        ({"labels_per_image": 10}, "`labels_per_image` must be 1 to 9"),
        ({"labels_per_image": 1, "n_train": 3}, "not one row carries a label"),
        ({"label_noise": -0.1}, "`label_noise` must be a share"),
        ({"label_noise": float("nan")}, "`label_noise` must be a share"),
    ],
)
def test_bad_input_is_refused_with_the_reason(arguments, message: str) -> None:
    """The error names the argument, what was expected and what was given."""
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_draw_faces_refuses_latents_of_another_shape() -> None:
    """One face needs a row (1, G), not a vector."""
    with pytest.raises(ValueError, match="`latents` must have shape"):
        draw_faces(np.zeros(3))
