"""The training step against a plain formulation of the same step: time, memory, kernels, host
waits. As `dmtg-lite bench`, for any numbers of tasks and groups, on one thread of a CPU.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import torch

from dmtg_lite.bench.cases import CASES
from dmtg_lite.bench.measure import measure_rates
from dmtg_lite.bench.run import describe_machine, measure_case
from dmtg_lite.core.tasks import Task
from dmtg_lite.files import write_atomically

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=9)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--quick", action="store_true", help="batch 8, 2 rounds: does it run at all?"
    )
    parser.add_argument("--out", help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        args.batch_size, args.rounds = 8, 2
    case = CASES["celeba9_k3"]
    case = replace(
        case,
        name="resnet",
        tasks=tuple(Task(f"t{n}") for n in range(args.tasks)),
        n_groups=args.groups,
        config=replace(case.config, batch_size=args.batch_size),
    )
    machine = describe_machine()
    print(machine)
    rates = {precision: measure_rates(CPU, precision) for precision in ("float32", "bfloat16")}
    rows = measure_case(case, CPU, args.rounds, rates, print)
    if args.out:
        found = {"machine": machine, "rates": rates, "rounds": args.rounds, "rows": rows}
        write_atomically(args.out, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
