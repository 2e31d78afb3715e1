"""What a step costs when there are more tasks, and when there are more groups: CelebA's network on
a CPU.

Tasks add a row to one product per branch, groups a whole encoder each. Every ratio is against N=9,
K=3 in the same run.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from dmtg_lite.bench.cases import CASES, make_data, make_network
from dmtg_lite.bench.run import describe_machine
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.tasks import Task
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.fit import train_steps

BASE = (9, 3)
SHAPES = ((9, 3), (20, 3), (40, 3), (9, 1), (9, 2), (9, 4), (9, 5), (40, 5))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="About three minutes with the defaults.",
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    machine, base = describe_machine(), CASES["celeba9_k3"]
    config = replace(base.config, batch_size=args.batch_size)
    print(
        f"{machine}\nResNet variant, 64x64, B={args.batch_size}, {args.rounds} rounds, one thread\n"
    )
    steps, rows = {}, {}
    for n_tasks, n_groups in SHAPES:
        tasks = tuple(Task(f"t{n}") for n in range(n_tasks))
        case = replace(base, tasks=tasks, n_groups=n_groups, config=config)
        data = make_data(case)
        network = make_network(case, data)
        rows[n_tasks, n_groups] = {"gmacs": count_macs(network, data.feature_shape)["total"] / 1e9}
        steps[n_tasks, n_groups] = train_steps(network, data, config)
    cpu = {shape: [] for shape in SHAPES}
    for _ in range(args.rounds + 2):
        for shape, each in steps.items():  # alternating, so that a slow minute hits all alike
            begin = time.process_time()
            float(next(each).task_losses.sum())
            cpu[shape].append(time.process_time() - begin)
    cpu = {
        shape: seconds[2:] for shape, seconds in cpu.items()
    }  # the first steps are not like the others
    print(f"{'N':>3} {'K':>2} {'CPU ms':>7} {'of 9x3':>7} {'GMACs':>6} {'of 9x3':>7}")
    for (n_tasks, n_groups), row in rows.items():
        own = cpu[n_tasks, n_groups]
        row["cpu_ms"] = 1000 * median(own)
        row["ratio"] = median(a / b for a, b in zip(own, cpu[BASE], strict=True))
        row["ratio_by_macs"] = row["gmacs"] / rows[BASE]["gmacs"]
        print(
            f"{n_tasks:3} {n_groups:2} {row['cpu_ms']:7.0f} {row['ratio']:7.2f} "
            f"{row['gmacs']:6.3f} {row['ratio_by_macs']:7.2f}"
        )
    if args.out:
        named = {f"{n}x{k}": row for (n, k), row in rows.items()}
        content = {"machine": machine, "settings": vars(args), "rows": named}
        write_atomically(Path(args.out), json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
