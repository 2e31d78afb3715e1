"""Yeast genes: every method beside the constant answer, a logistic regression and a random forest.

Every seed has its own deal of the genes, weights, batches and noise, shared by all methods of that
seed; all have the recipe that ``config=None`` means. Finished runs are kept below ``--out``, and
not run again. Prints mean errors in percent over the fourteen tasks with 95 % intervals over seeds,
the paired difference from Naive MTL, and the error of each task.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dmtg_lite import TaskData, data
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.methods.recipe import choose_recipe
from dmtg_lite.runs.metrics import compute_interval
from dmtg_lite.studies.cells import make_cells, run_cells

METHODS = ("naive", "stl", "random", "dmtg", "balance", "balance_pcgrad", "balance_mgda")
Errors = dict[str, np.ndarray]
"""By method: percent, or another unit of one's own, of each seed and task, (seeds, N)."""


def ask_constant(table: TaskData) -> list[float]:
    """Errors in percent of the majority class of the training split."""
    majority = [table.train.targets[name].bincount().argmax() for name in table.task_names]
    return _compare(np.array(majority)[None], table, table.test)


def ask_logistic_regression(table: TaskData) -> list[float]:
    """One for each task; the strength of its ridge is the best of five on validation."""
    from sklearn.linear_model import LogisticRegression

    def ask(strength: float, split: data.Split) -> list[float]:
        answers = [
            LogisticRegression(C=strength, max_iter=2000)
            .fit(table.train.features.numpy(), table.train.targets[name].numpy())
            .predict(split.features.numpy())
            for name in table.task_names
        ]
        return _compare(np.stack(answers, 1), table, split)

    strengths = (1e-3, 3e-3, 1e-2, 1e-1, 1.0)
    return ask(min(strengths, key=lambda one: sum(ask(one, table.val))), table.test)


def ask_random_forest(table: TaskData) -> list[float]:
    """One of 300 trees for all tasks at once, else as scikit-learn has it."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(300, random_state=0)
    forest.fit(table.train.features.numpy(), np.stack(list(table.train.targets.values()), 1))
    answers = forest.predict(table.test.features.numpy())  # (n, N)
    return _compare(answers, table, table.test)


def _compare(answers: np.ndarray, table: TaskData, split: data.Split) -> list[float]:
    labels = np.stack([split.targets[name].numpy() for name in table.task_names], 1)
    return (100 * (answers != labels).mean(0)).tolist()


OPPONENTS: dict[str, Callable[[TaskData], list[float]]] = {
    "constant": ask_constant,
    "logistic regression": ask_logistic_regression,
    "random forest": ask_random_forest,
}


def run(
    methods: Iterable[str],
    n_groups: int,
    seeds: range,
    config: TrainConfig,
    make_data: Callable[[int], TaskData],
    folder: Path,
) -> tuple[Errors, dict[str, list[float]]]:
    """Errors on test and encoder costs of each method, a seed a row; as tasks have them in order.

    Raises:
        RuntimeError: If a run failed.
    """
    cells = [
        replace(cell, data=cell.seed) for cell in make_cells(methods, [n_groups], seeds, config)
    ]
    found: dict[str, list[list[float]]] = {}
    costs: dict[str, list[float]] = {}
    for one in run_cells(cells, make_data, folder=folder, progress=True):
        if "failed" in one:
            raise RuntimeError(f"{one['method']}, seed {one['seed']}: {one['failed']}")
        found.setdefault(one["method"], []).append(list(one["task_errors"].values()))
        costs.setdefault(one["method"], []).append(one["encoder_cost"])
    return {name: np.array(rows) for name, rows in found.items()}, costs


def show(errors: Mapping[str, np.ndarray], costs: Mapping[str, Sequence[float]]) -> None:
    """The table: mean over tasks, its interval over seeds, the difference from Naive MTL, cost."""
    print("| method | mean error, % | minus Naive MTL | encoder cost |\n|---|---|---|---|")
    for name, rows in errors.items():
        mean, low, high = compute_interval(rows.mean(1))
        apart = ""
        if name != "naive":
            gap, least, most = compute_interval(rows.mean(1) - errors["naive"].mean(1))
            apart = f"{gap:+.2f} ({least:+.2f} to {most:+.2f})"
        cost = f"{np.mean(costs[name]):.2f}" if name in costs else ""
        print(f"| {name} | {mean:.2f} ({low:.2f} to {high:.2f}) | {apart} | {cost} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--groups", type=int, default=3, help="K (%(default)s)")
    parser.add_argument("--capacity", type=int, help="of the encoder (that of the recipe)")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path("runs/yeast"))
    args = parser.parse_args()
    seeds = range(args.seeds)
    tables = {seed: data.yeast(seed=seed) for seed in seeds}
    config = choose_recipe(tables[0], args.groups)
    if args.capacity:
        config = replace(config, capacity=args.capacity)
    print(f"K = {args.groups}, {config}\n")
    start = time.perf_counter()
    errors: Errors = {
        name: np.array([ask(table) for table in tables.values()]) for name, ask in OPPONENTS.items()
    }
    print(f"opponents: {time.perf_counter() - start:.0f} s")
    trained, costs = run(args.methods, args.groups, seeds, config, tables.__getitem__, args.out)
    errors |= trained
    print(f"all: {time.perf_counter() - start:.0f} s\n")
    show(errors, costs)
    names = tables[0].task_names
    print(f"\n| method | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, rows in errors.items():
        print(f"| {name} | {' | '.join(f'{one:.1f}' for one in rows.mean(0))} |")


if __name__ == "__main__":
    main()
