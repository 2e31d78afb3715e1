"""The stacked form of small networks, and kept memory, against what they replace: CPU time.

    python benchmarks/engine.py                # steps and whole methods, plain beside stacked
    python benchmarks/engine.py --restarts     # eight runs as one program beside one
    python benchmarks/engine.py --recovery 20  # planted groups found in as many seeds, both forms

Both forms take turns within one process, so that a slow minute hits both alike; ratios are medians
over the rounds. One thread. "plain" is what DMTG_PLAIN=1 gives.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median

import torch

from dmtg_lite import data, methods
from dmtg_lite.bench.cases import CASES, make_data, make_steps
from dmtg_lite.bench.run import describe_machine
from dmtg_lite.core.config import Restarts, Spare
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.fit import branch_out, build_network, continue_steps
from dmtg_lite.runs.presets import TOY
from dmtg_lite.runs.run import Run
from dmtg_lite.runs.together import train_together

FACES, CONFIG = data.toy_faces(), TOY["faces"]
FORMS = ("plain", "stacked")
Steps = Iterator[object]


def choose_form(form: str) -> None:
    os.environ["DMTG_PLAIN"] = "1" if form == "plain" else ""


def start_steps(members: Sequence[Sequence[int]] | None, n_groups: int) -> Steps:
    """Steps of a network on the toy faces, in the form that is chosen."""
    config = replace(CONFIG, spare=Spare(), steps=10**6, jitter=0.05)
    network = build_network(FACES, config)
    if members is None:
        network = branch_out(network, n_groups, config)
    else:
        network = network.branch_out(len(members), members=members)
    return continue_steps(TrainState(network, config), FACES, 10**6)


def take(steps: Steps, count: int) -> float:
    """CPU milliseconds a step."""
    begin = time.process_time()
    for _ in range(count):
        next(steps)
    return 1000 * (time.process_time() - begin) / count


def compare_steps(rounds: int) -> None:
    singles, pairs = [[n] for n in range(9)], [[0, 1], [1, 2], [2, 3]]
    rows = {
        "6 branches": (None, 6),
        "3 branches": (None, 3),
        "1 branch": (None, 1),
        "STL, 9 branches": (singles, 9),
        "walk of 12": (singles + pairs, 12),
    }
    print(f"{'a step, CPU ms':20} {'plain':>8} {'stacked':>8} {'ratio':>6}")
    for name, (members, n_groups) in rows.items():
        steps = {}
        for form in FORMS:
            choose_form(form)
            steps[form] = start_steps(members, n_groups)
            take(steps[form], 3)
        spent = {form: [] for form in FORMS}
        for _ in range(rounds):
            for form in FORMS:
                spent[form].append(take(steps[form], 5))
        show(name, spent)


def show(name: str, spent: dict[str, list[float]]) -> None:
    first, second = spent.values()
    ratio = median(b / a for a, b in zip(first, second, strict=True))
    print(f"{name:20} {median(first):8.2f} {median(second):8.2f} {ratio:6.2f}", flush=True)


def compare_restarts(rounds: int, n: int = 8) -> None:
    """A whole run by itself, plain and stacked, and ``n`` of them as one program: CPU seconds."""

    def alone() -> None:
        Run(FACES, CONFIG, 3, seed=100).train_until()

    def together() -> None:
        runs = [Run(FACES, CONFIG, 3, seed=100 + i) for i in range(n)]
        assert train_together(runs, runs[0].n_steps)

    rows = {"one, plain": alone, "one, stacked": alone, f"{n} together": together}
    spent = {name: [] for name in rows}
    for _ in range(rounds):
        for name, train in rows.items():
            choose_form("plain" if "plain" in name else "stacked")
            begin = time.process_time()
            train()
            spent[name].append(time.process_time() - begin)
    for name, seconds in spent.items():
        ratios = [
            median(b / a for a, b in zip(spent[other], seconds, strict=True))
            for other in ("one, plain", "one, stacked")
        ]
        print(f"{name:20} {median(seconds):8.2f} s: {ratios[0]:.2f} plain, {ratios[1]:.2f} stacked")


def compare_methods(rounds: int) -> None:
    """Whole methods, CPU seconds."""
    eight = replace(CONFIG, restarts=Restarts(n=8))
    rows: dict[str, Callable[[], object]] = {
        "dmtg": lambda: methods.dmtg(FACES, 3, CONFIG),
        "stl": lambda: methods.stl(FACES, 9, CONFIG),
        "best of 8": lambda: methods.dmtg(FACES, 3, eight),
        "mtg_net": lambda: methods.mtg_net(FACES, 3, CONFIG),
    }
    print(f"{'whole, CPU s':20} {'plain':>8} {'stacked':>8} {'ratio':>6}")
    for name, train in rows.items():
        spent = {form: [] for form in FORMS}
        for _ in range(rounds):
            for form in FORMS:
                choose_form(form)
                begin = time.process_time()
                train()
                spent[form].append(time.process_time() - begin)
        show(name, spent)


def compare_memory(rounds: int) -> None:
    """A step of the paper's network with freed memory given back, glibc's default, and kept."""
    mallopt = ctypes.CDLL(None).mallopt
    settings = {"given back": ((-1, 128 * 2**10), (-4, 65536)), "kept": ((-1, 2**30), (-4, 0))}
    os.environ["DMTG_KEEP_MEMORY"] = "0"
    case = CASES["celeba9_k3"].settle(torch.device("cpu"), is_quick=False)
    steps = make_steps(case, "ours", make_data(case))
    next(steps)
    spent = {name: [] for name in settings}
    print(f"{'a step, CPU ms':20} {'default':>8} {'kept':>8} {'ratio':>6}")
    for _ in range(rounds):
        for name, calls in settings.items():
            for key, value in calls:
                mallopt(key, value)
            next(steps)
            spent[name].append(take(steps, 1))
    show("ResNet, N=9 K=3 B=64", spent)


def compare_recovery(n_seeds: int, first: int) -> None:
    """Agreement with the planted groups, seed by seed."""
    found = {form: [] for form in FORMS}
    for seed in range(first, first + n_seeds):
        faces = data.toy_faces(seed=seed)
        for form in FORMS:
            choose_form(form)
            result = methods.dmtg(faces, 3, replace(CONFIG, seed=seed))
            found[form].append(result.agreement)
        print(seed, [f"{found[form][-1]:.2f}" for form in FORMS], flush=True)
    for form in FORMS:
        whole, mean = sum(one == 1.0 for one in found[form]), sum(found[form]) / n_seeds
        print(f"{form}: all groups found in {whole} of {n_seeds}, mean {mean:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--whole", type=int, default=1, help="rounds of whole methods; 0: none")
    parser.add_argument("--restarts", action="store_true", help="eight at once, and no more")
    parser.add_argument("--recovery", type=int, default=0, help="seeds to compare, and no more")
    parser.add_argument("--first", type=int, default=100, help="the first of them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(), flush=True)
    if args.recovery:
        compare_recovery(args.recovery, args.first)
        return
    if args.restarts:
        compare_restarts(args.rounds)
        return
    compare_steps(args.rounds)
    compare_memory(args.rounds)
    if args.whole:
        compare_methods(args.whole)


if __name__ == "__main__":
    main()
