"""How a grouping is judged: sums over tasks, and NormGain against Naive MTL (section 4.1).

Plain numbers in and out; the loop that collects losses and errors is `runs.evaluate.evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np

from dmtg_lite.core.groups import Groups, compute_agreement
from dmtg_lite.core.tasks import HIGHER_IS_BETTER


def norm_gains(
    error: Sequence[float],
    reference_error: Sequence[float],
    *,
    higher_is_better: Sequence[bool] | bool = False,
) -> np.ndarray:
    """Relative improvement of every task over its reference, in percent, shape (N,).

    Args:
        error: Loss or error of each task, shape (N,).
        reference_error: The same for the reference, Naive MTL in the paper, shape (N,), not 0.
        higher_is_better: Tasks whose number is a score such as mIoU: the gain is then the relative
            change of the score, as in Table A2.

    Returns:
        Percent, shape (N,); positive is better than the reference.

    Raises:
        ValueError: If the lengths differ, a value is not finite, or a reference is 0.

    Source:
        The terms of equations (7) and (8).
    """
    own, reference = np.asarray(error, np.float64), np.asarray(reference_error, np.float64)
    if own.shape != reference.shape or own.ndim != 1 or not own.size:
        raise ValueError(
            f"`error` and `reference_error` must be of one shape (N,), got {own.shape} and "
            f"{reference.shape}."
        )
    if not (np.isfinite(own).all() and np.isfinite(reference).all()):
        raise ValueError(f"errors must be finite, got {own.tolist()} and {reference.tolist()}.")
    if (reference == 0).any():
        raise ValueError(
            f"`reference_error` is 0 at task {int((reference == 0).argmax())}: a relative gain "
            "does not exist there. Evaluate on more rows, or compare the errors themselves."
        )
    gains = 100.0 * (reference - own) / reference
    return np.where(np.broadcast_to(higher_is_better, gains.shape), -gains, gains)


def norm_gain(
    error: Sequence[float],
    reference_error: Sequence[float],
    *,
    higher_is_better: Sequence[bool] | bool = False,
) -> float:
    """NormGain in percent: the mean over tasks of the relative improvement (equations 7 and 8).

    ``error`` may hold losses (NormGain_L) or errors (NormGain_E). See `norm_gains` for arguments.

    Example:
        >>> norm_gain([1.0, 3.0], [2.0, 4.0])
        37.5
    """
    return float(norm_gains(error, reference_error, higher_is_better=higher_is_better).mean())


def pair_gains(
    own: Mapping[str, float],
    reference: Mapping[str, float],
    metrics: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """The terms of a NormGain by task, paired by name: ``{task: percent}``.

    Args:
        own, reference: Losses or errors, ``{task: value}``.
        metrics: ``{task: metric}`` of errors; scores such as mIoU gain by relative change.
            ``None``: losses.

    Returns:
        In the order of ``own``; nan where the reference is 0, so that no relative gain exists.

    Raises:
        ValueError: If the two are of different tasks, or a value is not finite.
    """
    if sorted(own) != sorted(reference):
        raise ValueError(
            f"the results are of different tasks: {sorted(own)} and {sorted(reference)}."
        )
    gains = dict.fromkeys(own, float("nan"))
    names = [name for name in own if reference[name] != 0]
    if names:
        scores = [bool(metrics) and metrics[name] in HIGHER_IS_BETTER for name in names]
        values = norm_gains(
            [own[name] for name in names],
            [reference[name] for name in names],
            higher_is_better=scores,
        )
        gains |= dict(zip(names, values.tolist(), strict=True))
    return gains


def sum_errors(errors: Mapping[str, float], metrics: Mapping[str, str]) -> float:
    """Total error in points; nan where tasks have different metrics and no sum means anything."""
    return total(errors) if set(metrics.values()) == {"error_percent"} else float("nan")


def weigh_errors(
    errors: Mapping[str, float], metrics: Mapping[str, str], units: Mapping[str, float]
) -> float:
    """Errors of different metrics as one sum: of classes the error rate, so that rare ones do not
    decide; of anything else the error in ``units``; of a score such as mIoU what it lacks.

    Args:
        errors: ``{task: value}``.
        metrics: ``{task: metric}``.
        units: ``{task: error}`` that counts as 1, e.g. the constant answer's; 0 counts as 1 too.
    """
    parts = []
    for task, error in errors.items():
        part = error / (100 if metrics[task] == "error_percent" else units[task] or 1.0)
        parts.append(2 - part if metrics[task] in HIGHER_IS_BETTER else part)
    return float(sum(parts))


def relative_error(
    errors: Mapping[str, float], metrics: Mapping[str, str], constant: Mapping[str, float] | None
) -> float:
    """Total error in percent of the constant answers': 100 is no better than looking at nothing.

    nan where there are no constant answers, as in pictures, or these have no error; see
    `weigh_errors` for how tasks of different metrics count.
    """
    if not constant or sorted(constant) != sorted(errors):
        return float("nan")
    scale = weigh_errors(constant, metrics, constant)
    return 100 * weigh_errors(errors, metrics, constant) / scale if scale else float("nan")


def find_unlearned(run: Mapping[str, Any]) -> list[str]:
    """Tasks that are answered no better than by a constant, in neither error nor loss.

    Better is a loss below 98 % of the constant answer's; an error too, and of classes by more than
    tests of so many rows differ by chance (one-sided, 95 %).

    Args:
        run: Numbers of a run by the names that `MethodResult` gives them.

    Returns:
        Names in the order of the tasks; none where constant answers are not known.
    """
    errors, losses = run.get("constant_errors") or {}, run.get("constant_losses") or {}

    def is_better(name: str) -> bool:
        constant, margin = errors[name], 0.02 * errors[name]
        if run["metrics"][name] == "error_percent":
            margin = 1.64 * sqrt(constant * (100 - constant) / run["n_test"])
        is_less = run["task_errors"][name] < constant - margin
        return is_less or run["task_losses"][name] < 0.98 * losses[name]

    return [name for name in errors if not is_better(name)]


def total(per_task: Mapping[str, float]) -> float:
    """Total loss or total error: the plain sum over tasks, as the paper's tables report it."""
    return float(sum(per_task.values()))


def compute_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval: Student's, or of yes and no Clopper and Pearson's.

    Args:
        values: Shape (n,), numbers or booleans; a single number has no interval: nan.

    Raises:
        ImportError: If scipy is not there, and there is an interval to compute.
    """
    mean, n = float(values.mean()), len(values)
    if values.dtype == bool:
        found = load_scipy_stats().binomtest(int(values.sum()), n).proportion_ci(0.95)
        return mean, float(found.low), float(found.high)
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(load_scipy_stats().t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5)
    return mean, mean - half, mean + half


def load_scipy_stats() -> Any:
    """Scipy's statistics, or a word on how to have them."""
    try:
        import scipy.stats
    except ImportError as error:
        raise ImportError(
            'intervals over seeds need scipy: pip install "dmtg-lite[data]"'
        ) from error
    return scipy.stats


def compute_mutual_agreement(groupings: Sequence[Groups]) -> np.ndarray:
    """For each of n seeds the mean agreement of its groups with every other seed's, shape (n,).

    Two seeds share each pair, so these means hang together: they are spread out here about their
    own mean until their standard error is the jackknife's, 2 (n - 1) / (n - 2) times as large.
    """
    n, sums = len(groupings), np.zeros(len(groupings))
    for (i, one), (j, other) in combinations(enumerate(groupings), 2):
        sums[[i, j]] += compute_agreement(one, other)
    means = sums / max(n - 1, 1)
    return means.mean() + (means - means.mean()) * 2 * (n - 1) / max(n - 2, 1)


def compute_chance(groupings: Sequence[Groups], *, n_draws: int = 999) -> float:
    """How often groups of the same sizes, with their tasks drawn at random, agree as these do.

    A permutation test of "each seed finds other groups": the share of draws, this one included,
    whose mean mutual agreement is no lower. 1 where sizes leave no choice, as of one group.
    """
    names = sorted(name for group in groupings[0] for name in group)
    labels = [{n: k for k, group in enumerate(one) for n in group} for one in groupings]
    label_of = np.array([[own[name] for name in names] for own in labels])  # (seeds, N)
    n_seeds, n_tasks = label_of.shape
    rng = np.random.default_rng(0)
    draws = [label_of, *(rng.permuted(label_of, axis=1) for _ in range(n_draws))]
    pairs = np.triu_indices(n_tasks, 1)
    scores = []
    for drawn in draws:
        together = (drawn[:, :, None] == drawn[:, None])[:, *pairs].astype(np.float64)
        both, sizes = together @ together.T, together.sum(1)  # (seeds, seeds), (seeds,)
        expected = np.outer(sizes, sizes) / max(len(pairs[0]), 1)
        room = (sizes[:, None] + sizes) / 2 - expected  # as in `groups.compute_agreement`
        ratios = (both - expected) / np.where(room > 0, room, 1)
        scores.append(ratios[np.triu_indices(n_seeds, 1)].sum())
    return float(np.mean(np.array(scores) >= scores[0] - 1e-9))


def correlate_labels(labels: np.ndarray) -> np.ndarray:
    """Pearson correlation of every two tasks' labels, on the rows that carry both.

    Args:
        labels: Class numbers, shape (N, n), -1 where a row carries no label; or floats, nan where
            it carries none.

    Returns:
        Shape (N, N), from -1 to 1; nan for a pair never seen together, or of which one label is
        constant where both are.
    """
    labels = np.asarray(labels)
    is_seen = ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0
    seen = is_seen.astype(np.float64)
    values = np.where(is_seen, labels, 0).astype(np.float64)
    # about 0, or of large numbers the last digits, in which they differ, would be lost
    middle = np.round(values.sum(1, keepdims=True) / seen.sum(1, keepdims=True).clip(1))
    values -= middle * seen
    n_both, sums = seen @ seen.T, values @ seen.T  # rows with both labels; their sums
    # times n_both squared: exact whole numbers where the labels are
    covariance = n_both * (values @ values.T) - sums * sums.T
    variance = n_both * (values**2 @ seen.T) - sums**2
    with np.errstate(invalid="ignore"):  # 0 / 0
        return covariance / np.sqrt(variance * variance.T)
