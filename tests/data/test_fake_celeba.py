"""What the fake CelebA promises: CelebA's statistics and byte formats, and labels one can see."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

from PIL import Image

from dmtg_lite.core.tasks import CELEBA_9
from dmtg_lite.data.celeba.images import is_fake, resize_bilinear
from dmtg_lite.data.celeba.lists import NAMES
from dmtg_lite.data.stand_ins.attribute_copula import load_statistics, sample_attributes
from dmtg_lite.data.stand_ins.celeba import draw_face
from dmtg_lite.data.stand_ins.celeba_files import attribute_text, encode_face, make_fake_celeba

# ---- statistics ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solve():
    pytest.importorskip("scipy")
    path = Path(__file__).parents[2] / "data_scripts" / "solve_attributes.py"
    spec = importlib.util.spec_from_file_location("solve_attributes", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.solve_latent_correlation


@pytest.mark.parametrize("wanted", [-0.7, 0.0, 0.4])
def test_latent_correlation_by_hand(solve, wanted: float) -> None:
    """With both rates 1/2 the 0/1 correlation is 2/pi asin(latent), whatever its sign."""
    latent = solve(np.array([0.5, 0.5]), np.array([[1.0, wanted], [wanted, 1.0]]))[0, 1]
    assert latent == pytest.approx(np.sin(np.pi / 2 * wanted), abs=1e-4)


def test_latent_correlation_of_unequal_rates(solve) -> None:
    """A million draws from the solved Gaussian have the correlation asked for (error 0.001)."""
    latent = solve(np.array([0.1, 0.6]), np.array([[1.0, -0.25], [-0.25, 1.0]]))
    draws = np.random.default_rng(0).standard_normal((1_000_000, 2)) @ np.linalg.cholesky(latent).T
    positive = draws < [-1.281552, 0.253347]  # the normal's 10 % and 60 % points
    assert np.corrcoef(positive.T)[0, 1] == pytest.approx(-0.25, abs=0.005)


def test_rates_and_correlations_are_celebas() -> None:
    """Rates within sampling noise; 780 correlations within 0.013 on average, 0.14 at worst.

    The worst ones are pairs that exclude each other (black and brown hair): the 780 latent
    correlations are no positive definite matrix together, and the nearest one gives a little there.
    """
    n = 100_000
    statistics, labels = load_statistics(), sample_attributes(n)
    rate = statistics["positive_rate"]
    assert np.all(np.abs(labels.mean(0) - rate) < 4.5 * np.sqrt(rate * (1 - rate) / n) + 5e-5)
    error = np.abs(np.corrcoef(labels.T) - statistics["correlation"])[np.triu_indices(40, 1)]
    assert error.mean() < 0.016
    assert error.max() < 0.15


# ---- bytes ---------------------------------------------------------------------------------------


def test_the_list_has_the_official_quirks() -> None:
    """CRLF, a blank after the last name, rows of 130 characters, 129 where the first value is 1."""
    labels = sample_attributes(200, seed=1)
    lines = attribute_text(labels).decode("ascii").split("\r\n")
    assert lines[0] == "200"
    assert lines[1].endswith(" Young ")
    assert lines[-1] == ""
    rows = lines[2:-1]
    assert [len(row) for row in rows] == [130 - first for first in labels[:, 0].tolist()]
    assert rows[0].startswith("000001.jpg")


def test_images_are_official_jpegs_that_say_they_are_fake() -> None:
    """178 x 218 RGB, baseline, density 72, no EXIF, a few kB; a comment marks them."""
    for row, labels in enumerate(sample_attributes(5)):
        data = encode_face(labels, np.random.default_rng(row))
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (178, 218))
        assert "progressive" not in image.info
        assert "exif" not in image.info
        assert image.info["dpi"] == (72, 72)
        assert [sum(table) for table in image.quantization.values()] == [1858, 2780]  # CelebA's
        assert 2_500 < len(data) < 12_500
        assert is_fake(data)


def test_splits_are_contiguous_and_in_proportion(tmp_path) -> None:
    """80 / 10 / 10 like CelebA's, train first; the folder says that it is fake."""
    root = make_fake_celeba(tmp_path / "fake", n=100, n_drawn=2)
    rows = (root / "celeba" / "list_eval_partition.txt").read_bytes().split(b"\r\n")[:-1]
    assert [int(row.split()[1]) for row in rows] == [0] * 80 + [1] * 10 + [2] * 10
    assert (root / "FAKE.txt").read_text().startswith("FAKE")


def test_same_seed_same_files(tmp_path) -> None:
    """Two runs write the same bytes; another seed does not."""
    content = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        root = make_fake_celeba(tmp_path / name, n=10, n_drawn=2, seed=seed)
        content.append([path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()])
    assert content[0] == content[1] != content[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 9}, "between 10 and"),
        ({"seed": -3}, "`seed` must be a whole number >= 0, got -3"),
        ({"layout": "tfds"}, "`layout` must be one of"),
        ({}, "exists already and is no empty folder"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path) -> None:
    """Each argument says what it may be; a folder with something in it is not touched."""
    (tmp_path / "kept").touch()
    with pytest.raises(ValueError, match=message):
        make_fake_celeba(tmp_path, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


# ---- pictures ------------------------------------------------------------------------------------


def shrunk(labels: np.ndarray, seed: int) -> np.ndarray:
    return resize_bilinear(np.asarray(draw_face(labels, np.random.default_rng(seed)))).astype(int)


@pytest.mark.parametrize("name", NAMES)
def test_each_attribute_shows(name) -> None:
    """Its label changed, 5 pixels of 64 x 64 change by 20 levels; Attractive is not drawn."""
    neutral = np.zeros(40, np.uint8)
    neutral[[NAMES.index("No_Beard"), NAMES.index("Young"), NAMES.index("Brown_Hair")]] = 1
    if name in ("Black_Hair", "Blond_Hair", "Gray_Hair"):
        neutral[NAMES.index("Brown_Hair")] = 0
    changed = neutral.copy()
    changed[NAMES.index(name)] ^= 1
    for seed in range(3):
        difference = np.abs(shrunk(neutral, seed) - shrunk(changed, seed)).max(-1)
        if name == "Attractive":
            assert difference.max() == 0
        else:
            assert (difference > 20).sum() >= 5, f"{name} changes {(difference > 20).sum()} pixels"


def test_the_nine_can_be_learned() -> None:
    """Ridge regression on 16 x 16 pixels ranks unseen faces by each of CelebA-9, AUC > 0.7.

    Brown hair is the hardest for a linear score: it lies between black and blond.
    """
    labels = sample_attributes(700, seed=3)
    pixels = np.stack([shrunk(values, 1000 + row) for row, values in enumerate(labels)])
    x = pixels.reshape(700, 16, 4, 16, 4, 3).mean((2, 4)).reshape(700, -1) / 255 - 0.5
    x = np.concatenate([x, np.ones((700, 1))], 1)
    train, test = slice(0, 550), slice(550, 700)
    weights = np.linalg.solve(
        x[train].T @ x[train] + 0.3 * np.eye(x.shape[1]), x[train].T @ labels[train]
    )
    scores = x[test] @ weights
    for task in CELEBA_9:
        column = NAMES.index(task.name)
        positive = labels[test, column] == 1
        better = scores[positive, column][:, None] > scores[~positive, column][None]
        assert better.mean() > 0.7, f"{task.name}: AUC {better.mean():.2f}"
