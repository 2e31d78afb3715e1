"""What dropping decoders saves: the training step with 0, 60 and 100 % of the tasks settled.

The Xception variant with its decoders, N=5 tasks, K=3 groups, separate branches and 6 shared
stages. A settled task keeps one decoder, an unsettled one all three; every branch stays in use.
Against the unpruned step of the same network in the same run, optimiser included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from dmtg_lite.bench.cases import CASES, make_data
from dmtg_lite.bench.measure import read_peak
from dmtg_lite.bench.run import describe_machine
from dmtg_lite.core.config import Pruning, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.record import StepRecord
from dmtg_lite.core.state import TrainState
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.cutting import drop_pruned, prune_below
from dmtg_lite.runs.fit import branch_out, build_network, continue_steps, train_steps

CONFIG = TrainConfig(encoder="xception", tau=4.0, lr=1e-4, batch_size=2, steps=10**6)
GROUP_OF = [0, 0, 1, 2, 2]  # where settled tasks are: no branch is empty
SETTLED = {0: 0, 60: 3, 100: 5}  # percent -> tasks
SHARED = (0, 6)


def make_pictures(size: int, batch_size: int) -> TaskData:
    """One batch of random pixels and targets."""
    return make_data(replace(CASES["taskonomy5_k3"], side=size), batch_size)


def make_state(data: TaskData, config: TrainConfig, n_settled: int) -> TrainState:
    """A run in which the first tasks are sure of their group, and their other decoders are gone."""
    network = branch_out(build_network(data, config), 3, config)
    with torch.no_grad():
        for n in range(n_settled):
            network.assignment.logits[n, GROUP_OF[n]] = 20.0
    state = TrainState(network, config)
    prune_below(network.assignment, 1e-3)
    drop_pruned(state)
    return state


def count_heads(network: GroupedNetwork) -> int:
    return sum(len(head.tasks) for head in network.heads)


def measure(shared: int, args: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Median seconds of a step by percent settled; speeds are medians of the ratios within each
    round."""
    data, config = make_pictures(args.size, args.batch_size), replace(CONFIG, shared=shared)
    config = replace(config, batch_size=args.batch_size)
    steps: dict[int, Iterator[StepRecord]] = {}
    rows: dict[int, dict[str, float]] = {}
    for percent, n_settled in SETTLED.items():
        state = make_state(data, config, n_settled)
        macs = count_macs(state.network, data.feature_shape)["total"]
        rows[percent] = {"heads": count_heads(state.network), "gmacs": macs / 1e9}
        steps[percent] = continue_steps(state, data, config.count_steps(len(data.train))[1])
    for _ in range(2):  # the optimiser's and the allocator's first steps are not like the others
        for each in steps.values():
            next(each)
    cpu: dict[int, list[float]] = {percent: [] for percent in SETTLED}
    for _ in range(args.rounds):
        for percent, each in steps.items():  # alternating, so that a slow minute hits all alike
            begin = time.process_time()
            float(next(each).task_losses.sum())
            cpu[percent].append(time.process_time() - begin)
    for percent, row in rows.items():
        row["cpu_ms"] = 1000 * median(cpu[percent])
        row["speed"] = median(a / b for a, b in zip(cpu[0], cpu[percent], strict=True))
        row["speed_by_macs"] = rows[0]["gmacs"] / row["gmacs"]
        command = [sys.executable, __file__, "--memory-of", str(percent), "--shared", str(shared)]
        command += ["--size", str(args.size), "--batch-size", str(args.batch_size)]
        row["peak_mib"] = float(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
    return rows


def print_own_memory(args: argparse.Namespace) -> None:
    """MiB that three steps need on top of the loaded network and its optimiser."""
    data = make_pictures(args.size, args.batch_size)
    config = replace(CONFIG, shared=args.shared, batch_size=args.batch_size)
    state = make_state(data, config, SETTLED[args.memory_of])
    steps, before = continue_steps(state, data, config.count_steps(len(data.train))[1]), read_peak()
    for _ in range(3):
        next(steps)
    print(read_peak() - before)


def compare_unpruned(args: argparse.Namespace) -> bool:
    """Whether a run that looks for heads to drop and finds none ends as the one that does not
    look."""
    data = make_pictures(32, 2)
    config = replace(CONFIG, encoder="xception_small", pruning=Pruning(start=1), steps=30)
    ends = []
    for below in (0.0, 1e-6):
        one = replace(config, pruning=replace(config.pruning, below=below))
        network = branch_out(build_network(data, one), 3, one)
        losses = [record.task_losses for record in train_steps(network, data, one)]
        ends.append(torch.stack(losses))
    return bool(torch.equal(*ends))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="About five minutes and 3 GB of memory with the defaults.",
    )
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--memory-of", type=int, choices=SETTLED, help=argparse.SUPPRESS)
    parser.add_argument("--shared", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory_of is not None:
        print_own_memory(args)
        return
    machine = describe_machine()
    print(
        f"{machine}\nXception, N=5 K=3 B={args.batch_size}, {args.size}x{args.size}, {args.rounds} "
        "rounds\n"
    )
    same = compare_unpruned(args)
    print(
        "30 steps that look for heads to drop and find none: "
        f"{'the same bits' if same else 'DIFFERENT'}\n"
    )
    results = {}
    print(
        f"{'shared':>6} {'settled':>8} {'heads':>6} {'GMACs':>6} {'CPU ms':>7} {'speed':>6} "
        f"{'by MACs':>8} {'peak MiB':>9}"
    )
    for shared in SHARED:
        results[shared] = measure(shared, args)
        for percent, row in results[shared].items():
            print(
                f"{shared:6} {percent:7}% {row['heads']:6} {row['gmacs']:6.2f} "
                f"{row['cpu_ms']:7.0f} {row['speed']:6.2f} {row['speed_by_macs']:8.2f} "
                f"{row['peak_mib']:9.0f}"
            )
    if args.out:
        content = {
            "machine": machine,
            "settings": vars(args),
            "same_when_unpruned": same,
            "rows": results,
        }
        write_atomically(Path(args.out), json.dumps(content, indent=1).encode())
    if not same:
        raise SystemExit("a run that prunes nothing must be the run that does not prune")


if __name__ == "__main__":
    main()
