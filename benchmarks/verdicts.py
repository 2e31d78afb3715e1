"""What does `experiments.report` say of tables with groups, and of tables with nothing to find?

Each table has a seed of its own, so that its verdicts are independent. "planted": the tasks of a
group ask about one factor. "own": each task has a factor that no other has. "noise": labels are
coins. "one": all tasks ask about one factor. Finished runs are kept below ``--out``, and not run
again.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from dmtg_lite import Task, TaskData, data, experiments

KINDS = ("planted", "own", "noise", "one")
N_FEATURES, N_GROUPS = 30, 3


def make_table(kind: str, seed: int, *, n_tasks: int, n_rows: tuple[int, int, int]) -> TaskData:
    """Yes/no tasks about a table of normal numbers; 2 % of the labels are flipped.

    A factor is one direction of the features or its absolute value; each task cuts it at 30, 50
    or 70 %.
    """
    rng = np.random.default_rng(seed)
    n = sum(n_rows)
    features = rng.standard_normal((n, N_FEATURES)).astype(np.float32)

    def draw_factor() -> np.ndarray:
        direction = rng.standard_normal(N_FEATURES)
        factor = features @ (direction / np.linalg.norm(direction))
        return np.abs(factor) if rng.random() < 0.5 else factor

    shared = [draw_factor() for _ in range(N_GROUPS)]
    targets = {}
    for t in range(n_tasks):
        factor = {"planted": shared[t % N_GROUPS], "one": shared[0]}.get(kind)
        if factor is None:
            factor = draw_factor() if kind == "own" else rng.standard_normal(n)
        answer = factor > np.quantile(factor, (0.5, 0.3, 0.7)[t // N_GROUPS % 3])
        targets[f"task{t}"] = torch.from_numpy(answer ^ (rng.random(n) < 0.02))
    whole = data.Split(features, targets)
    ends = np.cumsum(n_rows).tolist()
    parts = [whole.subset(slice(a, b)) for a, b in zip([0, *ends], ends, strict=False)]
    groups = [[f"task{t}" for t in range(k, n_tasks, N_GROUPS)] for k in range(N_GROUPS)]
    tasks = tuple(Task(name) for name in targets)
    return TaskData(f"{kind} {seed}", tasks, *parts, groups if kind == "planted" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--tables", type=int, default=5, help="of each kind (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first (%(default)s)")
    parser.add_argument("--tasks", type=int, default=6, help="of each table (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="of each table (%(default)s)")
    parser.add_argument("--groups", default="auto", help="K (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("verdicts"))
    args = parser.parse_args()
    k = args.groups if args.groups == "auto" else int(args.groups)
    for kind in args.kinds:
        words: Counter[str] = Counter()
        for seed in range(args.first, args.first + args.tables):
            start = time.perf_counter()
            table = make_table(kind, seed, n_tasks=args.tasks, n_rows=(1000, 300, 1000))
            report = experiments.report(
                table, k, seeds=range(args.seeds), jobs=args.jobs, folder=args.out / "cells"
            )
            page = report.save(args.out / f"{kind}{seed}.html")
            words[report.verdict] += 1
            spent = sum(one["seconds"]["cpu"] for one in report.runs if "failed" not in one)
            took = f"{time.perf_counter() - start:.0f} s, {spent:.0f} s CPU in runs"
            print(f"{kind} {seed}: {report.verdict} ({took}; {page})")
            for reason in report.reasons:
                print(f"    {reason}")
        print(f"{kind}: {dict(words)}", flush=True)


if __name__ == "__main__":
    main()
