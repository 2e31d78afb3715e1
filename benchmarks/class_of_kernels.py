"""A class on one server: many kernels run a notebook at once, then all press Start at once.

Each kernel is a process of its own with one thread, as on a server that is shared. Measured are
memory (PSS: a page that several share is counted once in all), how long until every kernel has run
all cells, and how many steps a second the slowest and the median live run then takes. The browsers
of a class are elsewhere and not part of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import psutil
from jupyter_client import BlockingKernelClient, KernelManager
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
MB = 2**20


def start_kernel() -> tuple[KernelManager, BlockingKernelClient]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(
        cwd=str(ROOT / "notebooks"),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=600)
    return manager, client


def ask(client: BlockingKernelClient, expression: str) -> str:
    """The text of a value in the kernel."""
    client.execute("", silent=True, user_expressions={"value": expression})
    while True:
        content = client.get_shell_msg(timeout=600)["content"]
        if value := content.get("user_expressions", {}).get("value"):
            return value["data"]["text/plain"]


def count_steps(client: BlockingKernelClient) -> tuple[int, float]:
    """How many the live run has, and when that was."""
    return int(ask(client, "len(session.history)")), time.perf_counter()


def measure_memory(pids: Sequence[int]) -> tuple[float, float]:
    """MB of all kernels together, and of the largest; see the title."""
    sizes = [psutil.Process(one).memory_full_info().pss for one in pids]
    return sum(sizes) / MB, max(sizes) / MB


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernels", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=30, help="how long all train")
    parser.add_argument("--notebook", default="00_start_here.ipynb", help="one with a `session`")
    chosen = parser.parse_args(arguments)
    notebook = nbformat.read(ROOT / "notebooks" / chosen.notebook, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    pairs = [start_kernel() for _ in tqdm(range(chosen.kernels), "kernels started")]
    managers, clients = zip(*pairs, strict=True)
    try:
        pids = [int(ask(client, "__import__('os').getpid()")) for client in clients]
        total, _ = measure_memory(pids)
        print(f"{chosen.kernels} kernels, {os.cpu_count()} cores; just started: {total:,.0f} MB")
        began = time.perf_counter()
        for client in clients:
            for cell in cells:
                client.execute(cell, stop_on_error=False)
        taken = []
        for client in tqdm(clients, "all cells run"):
            replies = [client.get_shell_msg(timeout=3600)["content"] for _ in cells]
            taken.append(time.perf_counter() - began)
            assert all(one["status"] == "ok" for one in replies), replies
        total, most = measure_memory(pids)
        print(
            f"Run All: {max(taken):.0f} s until the last; {total:,.0f} MB, the largest {most:.0f}"
        )
        for client in clients:
            client.execute("session.start()")
        while not all(count_steps(client)[0] for client in clients):
            time.sleep(1)  # pretraining
        before = [count_steps(client) for client in clients]
        time.sleep(chosen.seconds)
        after = [count_steps(client) for client in clients]
        rates = [(m - n) / (t - s) for (n, s), (m, t) in zip(before, after, strict=True)]
        total, most = measure_memory(pids)
        print(
            f"all train: steps a second {min(rates):.1f} the slowest, "
            f"{statistics.median(rates):.1f} the median; {total:,.0f} MB, the largest {most:.0f}"
        )
    finally:
        for manager in managers:
            manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main(sys.argv[1:])
