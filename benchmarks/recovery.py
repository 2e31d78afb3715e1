"""How often are the planted groups of the toy faces found, and what is it worth?

One default call per seed, on images, weights and noise of that seed; single runs without restarts
and clustering of the label correlations stand beside it. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.cluster import SpectralClustering

from dmtg_lite import data, methods
from dmtg_lite.data import TaskData
from dmtg_lite.experiments import TOY
from dmtg_lite.files import write_atomically
from dmtg_lite.grouping import compute_agreement, groups_from_labels

CONFIG = TOY["faces"]
SINGLE = replace(CONFIG, restarts=1, halve_every=0)


def cluster_label_correlation(faces: TaskData, n_groups: int) -> list[list[str]]:
    """Spectral clustering of |correlation| of the training labels: no image, no network."""
    labels = torch.stack([faces.train.targets[name] for name in faces.task_names]).numpy()
    affinity = np.abs(np.corrcoef(labels))  # (N, N)
    clustering = SpectralClustering(n_groups, affinity="precomputed", random_state=0)
    return groups_from_labels(clustering.fit_predict(affinity).tolist(), faces.task_names)


def run_seed(seed: int) -> list[dict]:
    """All rows of one seed."""
    torch.set_num_threads(1)
    faces = data.toy_faces(seed=seed)
    naive = methods.naive(faces, 3, replace(CONFIG, seed=seed))
    runs = {
        "default": methods.dmtg(faces, n_groups=3, config=replace(CONFIG, seed=seed)),
        "single": methods.dmtg(faces, n_groups=3, config=replace(SINGLE, seed=seed)),
        "planted": methods.planted(faces, 3, replace(CONFIG, seed=seed)),
        "stl": methods.stl(faces, 3, replace(CONFIG, seed=seed)),
        "random": methods.random_groups(faces, 3, replace(CONFIG, seed=seed)),
    }
    rows = [
        {
            "seed": seed, "run": name, "agreement": result.agreement,
            "norm_gain_error": result.norm_gain_error(naive), "norm_gain_loss": result.norm_gain_loss(naive),
            "encoder_cost": result.encoder_cost, "cpu_seconds": result.seconds["cpu"],
            "train_loss": result.train_loss, "groups": result.groups,
        }
        for name, result in runs.items()
    ]  # fmt: skip
    groups = cluster_label_correlation(faces, 3)
    agreement = compute_agreement(groups, faces.planted_groups)
    return [*rows, {"seed": seed, "run": "label correlation", "agreement": agreement, "groups": groups}]


def describe(rows: Sequence[dict], run: str) -> str:
    """One line of the table: exact recoveries with their 95 % interval, means and spreads."""
    own = [row for row in rows if row["run"] == run]
    exact = sum(row["agreement"] == 1 for row in own)
    interval = binomtest(exact, len(own)).proportion_ci(0.95)
    cells = [f"{run:18}", f"{exact:3}/{len(own)} ({interval.low:.2f}-{interval.high:.2f})"]
    for name, digits in (("agreement", 2), ("norm_gain_error", 1), ("norm_gain_loss", 1)):
        values = [row[name] for row in own if name in row]
        text = f"{np.mean(values):+.{digits}f} ±{np.std(values, ddof=1):.{digits}f}" if values else "-"
        cells.append(f"{text:>14}")
    for name in ("encoder_cost", "cpu_seconds"):
        values = [row[name] for row in own if name in row]
        cells.append(f"{np.mean(values):6.2f}" if values else "     -")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (at least 2)")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes; about a minute of one core per seed")
    parser.add_argument("--out", type=Path, default=Path("runs/recovery.json"))
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        rows = [row for rows in pool.map(run_seed, seeds) for row in rows]
    print(f"toy faces, N=9, K=3, seeds {seeds[0]}..{seeds[-1]}; default: {CONFIG}")
    print(
        f"{'run':18}  {'exact (95 %)':>17}  {'ARI':>14}  {'NormGain_E %':>14}  {'NormGain_L %':>14}"
        f"  {'cost':>6}  {'CPU s':>6}"
    )
    for run in dict.fromkeys(row["run"] for row in rows):
        print(describe(rows, run))
    gains = {
        run: np.mean([row["norm_gain_error"] for row in rows if row["run"] == run])
        for run in ("default", "planted")
    }
    print(f"NormGain_E of default over planted: {gains['default'] / gains['planted']:.2f}")
    write_atomically(args.out, json.dumps({"config": str(CONFIG), "rows": rows}, indent=1).encode())
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
