"""Tables whose tasks have true groups: those of a group ask about one factor of the features.

Factors of different groups are independent, or nearly so. What a task asks of its factor is a cut
at a level of its own (yes/no), or a monotone function of it, in a unit of its own (numbers).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dmtg_lite import TaskData, data

N_GROUPS = 3
LEVELS = (0.5, 0.3, 0.7, 0.4)  # share of "no", so that no two tasks of a group are the same
CURVES = (np.asarray, np.tanh, np.cbrt, lambda z: z + 0.2 * z**3)
KINDS = ("linear", "nonlinear", "numbers")


def draw_factor(features: np.ndarray, is_linear: bool, rng: np.random.Generator) -> np.ndarray:
    """One number a row, of mean 0 and deviation 1: a direction, or something curved in two."""
    directions = rng.standard_normal((2, features.shape[1]))
    u, v = directions / np.linalg.norm(directions, axis=1, keepdims=True) @ features.T
    curved = (np.abs(u), u * v, np.sin(2 * u))[rng.integers(3)]
    factor = u if is_linear else curved
    return (factor - factor.mean()) / factor.std()


def make_table(kind: str, seed: int) -> TaskData:
    """A table with three planted groups; its size, tasks and factors depend on the seed.

    1,000 to 3,000 rows to train on, 20 to 60 features, 6 to 12 tasks in groups of 2 to 4, in a
    random order. Of ``"linear"`` and ``"nonlinear"`` tables 2 % of the labels are flipped; those of
    ``"numbers"`` have factors of either kind, and noise of 0.3 of each factor's deviation.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    n_rows = round(rng.integers(1000, 3001) / 0.6)  # 60 % of them train
    features = rng.standard_normal((n_rows, rng.integers(20, 61)))
    n_tasks = rng.integers(6, 13)
    linear = rng.random(N_GROUPS) < {"linear": 1, "nonlinear": 0, "numbers": 0.5}[kind]
    factors = [draw_factor(features, is_linear, rng) for is_linear in linear]
    columns, group_of = {}, {}
    for t in range(n_tasks):
        name, factor = f"task{t}", factors[t % N_GROUPS]
        group_of[name] = t % N_GROUPS
        if kind == "numbers":
            noisy = factor + 0.3 * rng.standard_normal(n_rows)
            unit = rng.choice([-1, 1]) * 10 ** rng.uniform(-3, 3)
            columns[name] = unit * (CURVES[t // N_GROUPS](noisy) + rng.normal())
        else:
            answer = factor > np.quantile(factor, LEVELS[t // N_GROUPS])
            columns[name] = answer ^ (rng.random(n_rows) < 0.02) ^ (rng.random() < 0.5)
    order = [f"task{t}" for t in rng.permutation(n_tasks)]
    made = data.from_arrays(features, {name: columns[name] for name in order}, seed=seed, name=kind)
    groups = [[name for name in order if group_of[name] == k] for k in range(N_GROUPS)]
    return replace(made, planted_groups=groups)
