"""The README's call on an idle machine and on a busy one: other processes loop on all its cores.

A share of 2 cores among 7 processes is 3.5 times less than a core alone; more than that is threads
that wait for each other. Torch's own number of threads is asked for, as in a notebook.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import time
from pathlib import Path

import torch

from dmtg_lite import data, methods
from dmtg_lite.bench.run import describe_machine
from dmtg_lite.experiments import TOY
from dmtg_lite.files import write_atomically


def loop() -> None:
    """One process's worth of somebody else's work."""
    while True:
        sum(range(10_000))


def measure() -> dict[str, float]:
    """Seconds of the README's call: on the clock and on the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    methods.dmtg(data.toy_faces(n_tasks=9, n_groups=3, seed=0), 3, TOY["faces"])
    return {
        "wall": round(time.perf_counter() - wall, 2),
        "cpu": round(time.process_time() - cpu, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="About two minutes with the defaults on two idle cores.",
    )
    parser.add_argument("--loops", type=int, default=6, help="busy processes beside the call")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", help="JSON file to write")
    args = parser.parse_args()
    print(f"{describe_machine()}\n{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    measure()  # the first call of a process is not like the others
    rows = []
    for _ in range(args.rounds):
        idle = measure()
        others = [mp.Process(target=loop, daemon=True) for _ in range(args.loops)]
        for one in others:
            one.start()
        busy = measure()
        for one in others:
            one.kill()
        rows.append({"idle": idle, "busy": busy, "ratio": round(busy["wall"] / idle["wall"], 2)})
        print(f"idle {idle}, beside {args.loops} loops {busy}: {rows[-1]['ratio']} times as long")
    if args.out:
        found = {"machine": describe_machine(), "loops": args.loops, "rounds": rows}
        write_atomically(Path(args.out), json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
