"""What the digits promise: real scans, true yes/no labels, a fixed pool split by the seed."""

import builtins

import numpy as np
import pytest
import torch

from dmtg_lite.data import digit_questions, digits

pytest.importorskip("sklearn", reason="scikit-learn carries the scans")


def test_labels_are_facts_about_the_digit() -> None:
    """Spot checks by arithmetic: the tasks are what their names say."""
    from dmtg_lite.data.toys.digits import DIGIT_TASKS

    everything = set(range(10))
    assert DIGIT_TASKS["even"] == {d for d in everything if d % 2 == 0}
    assert DIGIT_TASKS["prime"] == {
        d for d in everything if d > 1 and all(d % k for k in range(2, d))
    }
    assert DIGIT_TASKS["multiple_of_3"] == {d for d in everything if d % 3 == 0}
    assert DIGIT_TASKS["at_least_5"] == {d for d in everything if d >= 5}
    assert len({frozenset(yes) for yes in DIGIT_TASKS.values()}) == 9


def test_labels_are_consistent_with_one_digit_per_image() -> None:
    """Each image's nine answers are the answers of one of the ten digits; all ten occur."""
    from dmtg_lite.data.toys.digits import DIGIT_TASKS

    data = digits()
    answers = {tuple(int(d in yes) for yes in DIGIT_TASKS.values()) for d in range(10)}
    seen = set(zip(*(data.train.targets[name].tolist() for name in data.task_names), strict=True))
    assert seen == answers
    assert len(answers) == 10


def test_sizes_and_form() -> None:
    """1,000 / 200 / 597 grey images of 16 x 16, ink in full range, nothing planted."""
    data = digits()
    assert [len(split) for split in (data.train, data.val, data.test)] == [1000, 200, 597]
    assert data.feature_shape == (3, 16, 16)
    assert len(data.tasks) == 9
    assert data.planted_groups is None
    assert data.train.images.min() == 0
    assert data.train.images.max() == 255
    assert torch.equal(data.train.images[:, 0], data.train.images[:, 2])
    assert "Real handwritten" in data.note


def test_images_are_the_scans_of_scikit_learn() -> None:
    """Averaging 2 x 2 pixels gives the scan back but for smoothing: correlation > 0.95."""
    from sklearn.datasets import load_digits

    data = digits()
    images = torch.cat([s.images for s in (data.train, data.val, data.test)])[:, 0].float()
    small = torch.nn.functional.avg_pool2d(images[:, None], 2)
    total = torch.from_numpy(load_digits().images).float().mean(0) * 255 / 16
    assert torch.corrcoef(torch.stack([small.mean(0).flatten(), total.flatten()]))[0, 1] > 0.95


def test_seed_deals_the_same_images_differently() -> None:
    """Same seed, same split; another seed, another split of the same images."""
    first, again, other = digits(seed=1), digits(seed=1), digits(seed=2)
    assert torch.equal(first.test.images, again.test.images)
    assert not torch.equal(first.test.images, other.test.images)
    pools = [
        torch.cat([s.images for s in (d.train, d.val, d.test)]).long().sum() for d in (first, other)
    ]
    assert pools[0] == pools[1]


def test_questions_are_thirteen_facts_and_two_measures() -> None:
    """One digit an image, parity, loop and size that follow from it, and what the pen did."""
    data = digit_questions()
    targets = data.test.targets
    assert [task.loss for task in data.tasks] == ["cross_entropy"] * 13 + ["l1"] * 2
    shown = torch.stack([targets[f"is_{digit}"] for digit in range(10)], 1)
    assert torch.equal(shown.sum(1), torch.ones(597, dtype=torch.int64))
    digit = shown.argmax(1)
    assert torch.equal(targets["even"], (digit % 2 == 0).long())
    assert torch.equal(targets["at_least_5"], (digit >= 5).long())
    assert torch.equal(targets["closed_loop"], torch.isin(digit, torch.tensor([0, 6, 8, 9])).long())
    pictures = data.test.features
    assert pictures.shape == (597, 1, 8, 8)
    # rounding to 255 steps moves a mean by less than half a step
    ink = 100 * pictures.float().mean((1, 2, 3)) / 255
    torch.testing.assert_close(targets["ink"], ink, atol=0.2, rtol=0)
    same = digits().test.targets  # the same deal, in the order of the scans
    for name in ("even", "at_least_5", "closed_loop"):
        assert int(same[name].sum()) == int(targets[name].sum())


def test_slant_is_the_angle_of_a_stroke() -> None:
    """A stroke drawn at an angle has it; mirrored, minus that; upright or flipped about, none."""
    from dmtg_lite.data.toys.digits import _measure_slant

    y = np.arange(8)
    strokes = np.zeros((3, 8, 8))
    strokes[0, y, 7 - y] = 1  # one pixel right for each pixel up: 45 degrees
    strokes[1, :, 3] = 1
    strokes[2, y, 5 - y // 2] = 0.5  # about one for two: atan(1/2), up to the staircase
    right, upright, half = _measure_slant(strokes)
    assert right == pytest.approx(45)
    assert upright == pytest.approx(0)
    assert half == pytest.approx(np.degrees(np.arctan(0.5)), abs=1.5)
    np.testing.assert_allclose(_measure_slant(strokes[:, :, ::-1]), [-right, 0, -half], atol=1e-9)
    np.testing.assert_allclose(_measure_slant(3 * strokes), [right, 0, half], atol=1e-9)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch) -> None:
    """Missing package: the message is the command to run."""
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"dmtg-lite\[data\]"):
        digits()
    with pytest.raises(ImportError, match=r"dmtg-lite\[data\]"):
        digit_questions()
