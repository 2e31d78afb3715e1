"""Train the comparisons that notebooks 6 and 7 show as tables, and write them as JSON.

The settings are named here as the notebooks name them. A run takes seconds, all of them five
minutes on one core. What a table has already is not trained again, so the same command goes on
after a kill, and one more setting or seed costs only itself. Notebook 4's table comes from
`benchmarks/rooms.py`.

Run: python data_scripts/make_tables.py ablations baselines
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dmtg_lite import Restarts, TrainConfig, data, methods
from dmtg_lite.experiments import TOY, run_method
from dmtg_lite.files import write_atomically
from dmtg_lite.methods import MethodResult, affinity
from dmtg_lite.views import recordings

Row = dict[str, Any]
Run = Callable[[], list[Row]]  # trains, and gives the rows of one setting and seed


def tell(setting: str, result: MethodResult) -> Row:
    """A run as one row: how good, how close to the planted groups, how dear."""
    told = {name: getattr(result, name) for name in ("total_error", "agreement", "encoder_passes")}
    cost = result.encoder_cost
    return {"method": setting, "seed": result.config.seed, **told, "encoder_cost": cost}


def plan_ablations(seeds: range) -> Iterator[tuple[str, int, Run]]:
    """Notebook 7: one choice changed at a time; nine tasks about three parts of a face."""
    faces = data.toy_faces(n_tasks=9, n_groups=3, size=16, seed=0)
    quick = replace(TOY["faces_plain"], pretrain=100, steps=400)

    def run(setting: str, method: str, config: TrainConfig) -> list[Row]:
        result = run_method(faces, method, 1 if method == "naive" else 3, config)
        tries = [[one["train_loss"], one["agreement"]] for one in result.restarts]
        return [tell(setting, result) | ({"restarts": tries} if tries else {})]

    for seed in seeds:
        for setting, (method, changes) in ABLATIONS.items():
            config = replace(quick, seed=seed, **changes)
            yield setting, seed, partial(run, setting, method, config)


ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Naive MTL": ("naive", {}),
    "DMTG": ("dmtg", {}),
    "planted groups": ("planted", {}),
    "retrained from scratch": ("two_shot", {}),
    "retrained, pretrained": ("two_shot_pretrained", {}),
    "fine-tuned branches": ("prune_finetune", {}),
    "DMTG, longer": ("dmtg", {"steps": 900}),  # as many passes as retraining from scratch
    "1 stage shared": ("dmtg", {"shared": 1}),
    "2 stages shared": ("dmtg", {"shared": 2}),
    "tau 0.5": ("dmtg", {"tau": 0.5}),
    "tau 10": ("dmtg", {"tau": 10.0}),
    "tau 10 to 0.5": ("dmtg", {"tau": (10.0, 0.5)}),
    "straight-through": ("dmtg", {"estimator": "straight_through"}),
    "softmax": ("dmtg", {"estimator": "softmax"}),
    "softmax, jitter": ("dmtg", {"estimator": "softmax", "jitter": 0.1}),
    "Naive MTL, capacity 2": ("naive", {"capacity": 2}),
    "DMTG, capacity 2": ("dmtg", {"capacity": 2}),
    "Naive MTL, capacity 4": ("naive", {"capacity": 4}),
    "DMTG, capacity 4": ("dmtg", {"capacity": 4}),
    "normalised losses": ("dmtg", {"normalise_losses": True}),
    "4 restarts": ("dmtg", {"restarts": Restarts(n=4)}),
}


def plan_baselines(seeds: range) -> Iterator[tuple[str, int, Run]]:
    """Notebook 6: methods that measure first, and DMTG; six tasks about three parts of a face."""
    faces = data.toy_faces(n_tasks=6, n_groups=3, size=16, seed=0)
    config = replace(TOY["faces_plain"], pretrain=100, steps=300)
    linked = affinity.label_correlation(faces).numpy()
    pairs = methods.pairwise_candidates(linked, faces.task_names, singles="never")
    label_groups = methods.select_groups(pairs, 3, maximise=True).groups

    def run(name: str, own: TrainConfig) -> list[Row]:
        if name == "labels":
            return [tell(name, methods.train_groups(faces, label_groups, own, method=name))]
        if name == "mtg_net":  # each task asks once
            return [tell(name, methods.mtg_net(faces, 3, own, n_rounds=6))]
        return [tell(name, run_method(faces, name, 1 if name == "naive" else 3, own))]

    for seed in seeds:
        for name in ("naive", "stl", "random", "labels", "tag", "cosine", "dmtg", "mtg_net", "hoa"):
            yield name, seed, partial(run, name, replace(config, seed=seed))


PLANS = {"ablations": (plan_ablations, range(3)), "baselines": (plan_baselines, range(2))}


def make_table(name: str, folder: Path) -> None:
    """Train what is missing, and write after every run."""
    plan, seeds = PLANS[name]
    path = folder / f"{name}.json"
    table = json.loads(path.read_text("utf-8")) if path.exists() else {"done": [], "rows": []}
    table |= {
        "about": " ".join((plan.__doc__ or "").split()),
        "command": f"python data_scripts/make_tables.py {name}",
        "versions": {"torch": torch.__version__},
    }
    for setting, seed, run in plan(seeds):
        if [setting, seed] not in table["done"]:
            table["rows"] += [json.loads(json.dumps(row), parse_float=_shorten) for row in run()]
            table["done"].append([setting, seed])
            rows = ",\n".join(json.dumps(row) for row in table["rows"])
            rest = json.dumps({key: value for key, value in table.items() if key != "rows"})
            write_atomically(path, f'{rest[:-1]}, "rows": [\n{rows}\n]}}\n'.encode())
            print(f"{name}: {setting}, seed {seed}", flush=True)


def _shorten(number: str) -> float:
    return round(float(number), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", choices=PLANS)
    parser.add_argument("--out", type=Path, default=recordings.FOLDER)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.tables:
        make_table(name, asked.out)


if __name__ == "__main__":
    main()
