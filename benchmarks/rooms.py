"""Five dense tasks on drawn rooms: DMTG beside Naive MTL, STL and random groups, over seeds.

Every seed has its own rooms, weights, batches and noise, shared by the methods of that seed. Nobody
planted groups here, so there is no agreement to report: only losses, errors and which groups came
out. A finished seed is kept in a table of its own and not run again.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import t

from dmtg_lite import data
from dmtg_lite.experiments import TOY, run_all, tabulate, tabulate_tasks
from dmtg_lite.files import write_atomically

METHODS = ("naive", "stl", "random", "dmtg")
N_GROUPS = 3


def run_seed(seed: int, encoder: str, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables by run and by task of one seed, from disk if they are there."""
    paths = [out / f"{encoder}_{seed}_{name}.csv" for name in ("runs", "tasks")]
    if not all(path.exists() for path in paths):
        torch.set_num_threads(1)
        rooms = data.toy_rooms(seed=seed)
        results = run_all(rooms, METHODS, N_GROUPS, replace(TOY["rooms"], encoder=encoder), [seed])
        for path, table in zip(paths, (tabulate(results), tabulate_tasks(results)), strict=True):
            write_atomically(path, table.to_csv(index=False).encode())
    return tuple(pd.read_csv(path) for path in paths)


def show(values: pd.Series, digits: int) -> str:
    """Mean and half of its 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{values.mean():.{digits}f} ±{half:.{digits}f}"


def report(runs: pd.DataFrame, tasks: pd.DataFrame) -> None:
    heads = ("total loss", "NormGain_L %", "NormGain_E %")
    print(
        f"{'method':8} "
        + " ".join(f"{head:>15}" for head in heads)
        + f" {'encoder cost':>13} {'CPU s':>7}"
    )
    for method in METHODS:
        own = runs[runs["method"] == method]
        cells = (
            show(own["total_loss"], 3),
            show(own["norm_gain_loss"], 1),
            show(own["norm_gain_error"], 1),
        )
        rest = f"{own['encoder_cost'].mean():13.2f} {own['cpu_seconds'].mean():7.0f}"
        print(f"{method:8} " + " ".join(f"{cell:>15}" for cell in cells) + f" {rest}")
    print(f"\n{'task':14} {'method':8} {'loss':>16} {'gain %':>14} {'metric':>17} {'value':>14}")
    for (task, method), own in tasks.groupby(["task", "method"], sort=False):
        print(
            f"{task:14} {method:8} {show(own['loss'], 4):>16} {show(own['gain_loss'], 1):>14} "
            f"{own['metric'].iloc[0]:>17} {show(own['error'], 2):>14}"
        )
    print("\n± is half of the 95 % interval of the mean over seeds. Groups that DMTG found:")
    for _, run in runs[runs["method"] == "dmtg"].iterrows():
        print(f"  seed {run['seed']}: {run['groups']}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="About six minutes a seed on one core.",
    )
    parser.add_argument("--seeds", type=int, default=4, help="number of seeds (at least 2)")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--encoder", default=TOY["rooms"].encoder)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/rooms"), help="folder for a table a seed"
    )
    args = parser.parse_args()
    begin, seeds = time.perf_counter(), range(args.first, args.first + args.seeds)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(run_seed, seed, args.encoder, args.out) for seed in seeds]
        tables = [job.result() for job in jobs]
    print(f"toy rooms, N=5, K={N_GROUPS}, seeds {seeds[0]}..{seeds[-1]}, {args.encoder}")
    print(f"{replace(TOY['rooms'], encoder=args.encoder)}\n")
    report(*(pd.concat(parts) for parts in zip(*tables, strict=True)))
    print(f"\n{time.perf_counter() - begin:.0f} s, {args.jobs} processes")


if __name__ == "__main__":
    main()
