"""What the digits promise: real scans, true yes/no labels, a fixed pool split by the seed."""

import builtins

import pytest
import torch

from dmtg_lite.data import digits

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
