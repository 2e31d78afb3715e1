"""How often does each way of training find the planted groups, at what cost, and where does none?

Every seed has its own images, weights, batches and noise, shared by all runs of that seed. Costs
are the encoder passes that the library counted. Prints a table; finished runs are kept in a file of
JSON lines and not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import StringIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest, t
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "methods"))

from planted_tables import make_table

from dmtg_lite import data, methods
from dmtg_lite.core.config import HeadOptions, Restarts, Spare, TrainConfig
from dmtg_lite.core.macs import count_macs
from dmtg_lite.data import TaskData
from dmtg_lite.experiments import TOY
from dmtg_lite.methods import MethodResult
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.methods.search.affinity import (
    cluster_affinity,
    gradient_cosine,
    label_correlation,
    tag_affinity,
)
from dmtg_lite.runs.fit import build_network

N_TEST = 4000  # the best errors are a few percent: 600 faces would measure chance


@dataclass(frozen=True)
class Case:
    """Data and the recipe they are trained with; the spare branches of the recipe are on."""

    about: str
    n_groups: int
    config: TrainConfig | None = None  # None: the recipe that the library chooses for these data
    faces: dict = field(default_factory=dict)  # arguments of `toy_faces`; digits have none
    table: str = ""  # a kind of planted table in place of faces

    @property
    def recipe(self) -> str:
        """What kept rows must agree in to be used again."""
        made_of = self.table or f"{self.faces}, {N_TEST} test images"
        return f"{self.configure(self.build(0))}, {made_of}"

    def configure(self, made: TaskData) -> TrainConfig:
        return self.config or methods.choose_recipe(made, self.n_groups)

    def build(self, seed: int) -> TaskData:
        if self.table:
            with redirect_stdout(StringIO()):  # what it understood would break the bar
                return make_table(self.table, seed)
        if not self.faces:
            return data.digits(seed=seed)
        return data.toy_faces(seed=seed, n_test=N_TEST, **self.faces)


FACES = TOY["faces"]
OURS = ("spare", "heads", "optimiser_assignment", "lr_assignment")  # what PLAIN undoes
CASES = {
    "faces9": Case("9 tasks, 3 groups", 3, FACES, {"n_tasks": 9, "n_groups": 3}),
    "faces40": Case("40 tasks, 5 groups", 5, FACES, {"n_tasks": 40, "n_groups": 5}),
    "noise10": Case("10 % of the training labels flipped", 3, FACES, {"label_noise": 0.10}),
    "noise20": Case("20 % of the training labels flipped", 3, FACES, {"label_noise": 0.20}),
    "independent": Case(
        "labels of a group are independent coins", 3, TOY["independent"], {"labels": "independent"}
    ),
    "separate": Case(
        "each task is observed on images of its own",
        3,
        TOY["separate"],
        {"labels_per_image": 1, "n_train": 4000},
    ),
    "planes9": Case("two factors a group, 9 tasks", 3, TOY["planes"], {"labels": "planes"}),
    "planes24": Case(
        "two factors a group, 24 tasks", 3, TOY["planes"], {"labels": "planes", "n_tasks": 24}
    ),
    "digits": Case(
        "real digits, no planted truth",
        3,
        replace(
            TOY["digits"],
            **{name: getattr(FACES, name) for name in OURS}
            | {"spare": replace(FACES.spare, close_from=300)},
        ),
    ),
    "table": Case("tables, factors are linear in the features", 3, table="linear"),
    "table_nonlinear": Case("tables, factors are curved", 3, table="nonlinear"),
    "table_numbers": Case("tables, tasks are numbers, factors of either kind", 3, table="numbers"),
}

PLAIN = {
    "spare": Spare(branches=0),
    "heads": HeadOptions(train_all=False),
    "optimiser_assignment": "adam",
    "lr_assignment": 3e-2,
}


def count_passes(config: TrainConfig, n_groups: int, n_tasks: int) -> int:
    """Encoder passes of a run after pretraining; looks at the loss matrix included."""
    n_branches, n_spare = config.count_branches(n_groups, n_tasks)
    closings = [config.spare.close_from + i * config.spare.close_every for i in range(n_spare)]
    looks = sum(1024 // config.batch_size * (n_branches - i) for i in range(n_spare)) // 3
    return config.steps * n_branches - sum(config.steps - step for step in closings) + looks


def run_plain(
    faces: TaskData, n_groups: int, config: TrainConfig, **changes: object
) -> MethodResult:
    """The paper's optimiser, with one learning rate of its own for S."""
    return methods.dmtg(faces, n_groups, replace(config, **(PLAIN | changes)))


def without_spare(config: TrainConfig) -> TrainConfig:
    return replace(config, spare=Spare())


def run_more_steps(faces: TaskData, n_groups: int, config: TrainConfig) -> MethodResult:
    """Plain training for as many steps as spare branches cost."""
    return run_plain(
        faces, n_groups, config, steps=count_passes(config, n_groups, len(faces.tasks)) // n_groups
    )


def cluster(affinity: Callable) -> Callable:
    """Cluster an affinity matrix, then train its groups as given."""

    def run(faces: TaskData, n_groups: int, config: TrainConfig) -> tuple[MethodResult, int]:
        config = replace(config, **PLAIN)
        measured = affinity(faces) if affinity is label_correlation else affinity(faces, config)
        matrix = measured if isinstance(measured, torch.Tensor) else measured.matrix
        macs = 0 if isinstance(measured, torch.Tensor) else measured.encoder_macs
        groups = cluster_affinity(matrix, n_groups, faces.task_names)
        return train_groups(faces, groups, config), macs

    return run


def run_fixed(method: Callable) -> Callable:
    return lambda faces, n_groups, config: method(faces, n_groups, replace(config, **PLAIN))


RUNS: dict[str, Callable] = {
    "spare branches": methods.dmtg,
    "spare branches, 3 K": lambda faces, k, config: methods.dmtg(
        faces, k, replace(config, spare=replace(config.spare, branches=2 * k))
    ),
    "plain, S by Adam": run_plain,
    "plain, S by SGD": lambda faces, k, config: run_plain(
        faces, k, config, optimiser_assignment=config.optimiser_assignment,
        lr_assignment=config.lr_assignment,
    ),
    "plain, more steps": run_more_steps,
    "random branch closes": lambda faces, k, config: methods.dmtg(
        faces, k, replace(config, spare=replace(config.spare, rule="random"))
    ),
    "none closes": lambda faces, k, config: methods.dmtg(
        faces, config.count_branches(k, len(faces.tasks))[0], without_spare(config)
    ),
    "no spare branch, all else": lambda faces, k, config: methods.dmtg(
        faces, k, without_spare(config)
    ),
    "heads not all trained": lambda faces, k, config: methods.dmtg(
        faces, k, replace(config, heads=HeadOptions(train_all=False))
    ),
    "spare, 300 pretraining steps": lambda faces, k, config: methods.dmtg(
        faces, k, replace(config, pretrain=300)
    ),
    "plain, 300 pretraining steps": lambda faces, k, config: run_plain(
        faces, k, config, pretrain=300
    ),
    "spare, 600 steps": lambda faces, k, config: methods.dmtg(
        faces, k, replace(config, steps=600, spare=replace(config.spare, close_every=20))
    ),
    "spare, 1,400 steps": lambda faces, k, config: methods.dmtg(
        faces, k, replace(config, steps=1400)
    ),
    "planted, 1,400 steps": lambda faces, k, config: methods.planted(
        faces, k, replace(config, **PLAIN, steps=1400)
    ),
    "best of 4": lambda faces, k, config: run_plain(faces, k, config, restarts=Restarts(n=4)),
    "best of 8, halved": lambda faces, k, config: run_plain(
        faces, k, config, restarts=Restarts(n=8, halve_every=250)
    ),
    "K by closing costs": lambda faces, k, config: methods.dmtg(faces, "auto", config),
    "label correlation": cluster(label_correlation),
    "gradient cosine": cluster(gradient_cosine),
    "TAG's lookahead": cluster(tag_affinity),
    "random groups": run_fixed(methods.random_groups),
    "STL": run_fixed(methods.stl),
    "planted groups": run_fixed(methods.planted),
}  # fmt: skip


@lru_cache(maxsize=2)
def prepare(case_name: str, seed: int) -> tuple[TaskData, MethodResult]:
    """Images and Naive MTL of a seed: one for all the runs of that seed in a process."""
    case = CASES[case_name]
    faces = case.build(seed)
    return faces, methods.naive(faces, 1, replace(case.configure(faces), seed=seed, **PLAIN))


def run_cell(case_name: str, run: str, seed: int) -> dict:
    """One run of one seed, its gains relative to Naive MTL's."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", methods.UnlearnedWarning)  # Naive MTL is too narrow by design
    case, (faces, naive) = CASES[case_name], prepare(case_name, seed)
    config = replace(case.configure(faces), seed=seed)
    row = {"case": case_name, "run": run, "seed": seed, "recipe": case.recipe}
    before = time.process_time()
    try:
        result, macs = RUNS[run](faces, case.n_groups, config), 0
    except ValueError as error:
        if run != "label correlation":
            raise
        # no two labels were ever seen together: there is nothing to cluster, and that is the result
        return row | {"agreement": 0.0, "nothing": str(error)}
    if isinstance(result, tuple):
        result, macs = result
    one_step = (
        count_macs(build_network(faces, config), faces.feature_shape)["encoder"] * config.batch_size
    )
    elbow = result.elbow
    return row | {
        "agreement": result.agreement,
        "groups": result.groups,
        "norm_gain_error": result.norm_gain_error(naive),
        "norm_gain_loss": result.norm_gain_loss(naive),
        "passes": result.encoder_passes + macs / one_step,
        "cpu_seconds": time.process_time() - before,
        "train_loss": result.train_loss,
        "elbow": elbow and elbow["costs"],
        "n_groups_read": elbow and elbow["n_groups"],
    }


def describe(rows: Sequence[dict], run: str, plain_passes: float) -> str:
    """One line of the table: exact recoveries with their 95 % interval, means with theirs."""
    own = [row for row in rows if row["run"] == run]
    cells = [f"{run:28}"]
    if own[0]["agreement"] is None:
        cells.append(f"{'-':>20}")
    else:
        exact = sum(row["agreement"] == 1 for row in own)
        interval = binomtest(exact, len(own)).proportion_ci(0.95)
        cells.append(f"{exact:3}/{len(own):2} ({interval.low:.2f}-{interval.high:.2f})".rjust(20))
    for name, digits in (("agreement", 2), ("norm_gain_error", 1), ("norm_gain_loss", 1)):
        values = [row[name] for row in own if row.get(name) is not None]
        if len(values) < 2:
            cells.append(f"{'-':>14}")
            continue
        half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
        cells.append(f"{np.mean(values):+.{digits}f} ±{half:.{digits}f}".rjust(14))
    passes = [row["passes"] / plain_passes for row in own if "passes" in row]
    cells.append(f"{np.mean(passes):6.2f}" if passes else "     -")
    seconds = [row["cpu_seconds"] for row in own if "cpu_seconds" in row]
    cells.append(f"{np.mean(seconds):6.1f}" if seconds else "     -")
    return " ".join(cells)


def report(case_name: str, rows: Sequence[dict]) -> str:
    """The table of one case."""
    case = CASES[case_name]
    plain = [row["passes"] for row in rows if row["run"] == "plain, S by Adam"]
    seeds = sorted({row["seed"] for row in rows})
    first = case.build(seeds[0])
    n_tasks, config = len(first.tasks), case.configure(first)
    plain_passes = plain[0] if plain else config.pretrain + config.steps * case.n_groups
    lines = [
        f"{case_name}: {case.about}; N={n_tasks}, K={case.n_groups}, seeds {seeds[0]}..{seeds[-1]}",
        str(config),
        f"{'run':28} {'exact (95 %)':>20} {'ARI':>14} {'NormGain_E %':>14} {'NormGain_L %':>14} "
        f"{'cost':>6} {'CPU s':>6}",
    ]
    lines += [
        describe(rows, run, plain_passes) for run in RUNS if any(row["run"] == run for row in rows)
    ]
    lines.append(
        "±: half of the 95 % interval of the mean; cost: encoder passes relative to a plain run"
    )
    for run in ("spare branches", "K by closing costs"):
        read = [
            row["n_groups_read"] for row in rows if row["run"] == run and row.get("n_groups_read")
        ]
        if read and rows[0]["agreement"] is not None:
            right = sum(k == case.n_groups for k in read)
            interval = binomtest(right, len(read)).proportion_ci(0.95)
            lines.append(
                f"K read off the closing costs of {run!r}: right in {right}/{len(read)} "
                f"({interval.low:.2f}-{interval.high:.2f})"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, default="faces9", help="; ".join(CASES))
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (at least 2)")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/recovery.jsonl"))
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    case = CASES[args.case]
    truth = case.build(0).planted_groups is not None
    runs = [run for run in args.runs if truth or run != "planted groups"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    kept = (
        [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
        if args.out.exists()
        else []
    )
    rows = [
        row
        for row in kept
        if row["case"] == args.case
        and row["run"] in runs
        and row["seed"] in seeds
        and row["recipe"] == case.recipe
    ]
    finished = {(row["run"], row["seed"]) for row in rows}
    cells = [
        (args.case, run, seed) for seed in seeds for run in runs if (run, seed) not in finished
    ]
    with (
        ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool,
        args.out.open("a", encoding="utf-8") as out,
    ):
        jobs = [pool.submit(run_cell, *cell) for cell in cells]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc=args.case, leave=False):
            rows.append(job.result())
            print(json.dumps(rows[-1]), file=out, flush=True)
    print(report(args.case, rows))


if __name__ == "__main__":
    main()
