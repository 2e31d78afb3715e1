"""What a run folder costs: its size, opening it, following it, and a step beside a step without.

    python benchmarks/run_folder.py --size     # 50,000 steps of 40 tasks in 10 groups
    python benchmarks/run_folder.py --steps    # the toy step with and without, by turns

How often a trainer may be killed: ``DMTG_KILLS=50 pytest -s tests/runs/test_kill_resume.py``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from dmtg_lite import History, TrainConfig, data
from dmtg_lite.runs.fit import branch_out, build_network, count_record_every
from dmtg_lite.runs.fit import fit as train
from dmtg_lite.runs.folder import RunFolder
from dmtg_lite.runs.folder_writer import FolderWriter, describe_run
from dmtg_lite.runs.pieces import list_pieces

N_STEPS, N, K = 50_000, 40, 10


def draw_records(steps: np.ndarray) -> dict[str, np.ndarray]:
    """A run that settles: S drifts apart under noise, losses fall; as rough as real ones."""
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.normal(size=(len(steps), N, K)).astype(np.float32), 0)
    logits = drift * (4 / np.sqrt(len(steps)))
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    falls = 0.2 + 0.5 * np.exp(-steps / 10_000)[:, None, None]
    losses = (falls * rng.lognormal(0, 0.3, (len(steps), N, K))).astype(np.float32)
    return {"probabilities": p, "loss_matrices": losses, "task_losses": (p * losses).sum(-1)}


def measure_size(every: int) -> None:
    faces = data.toy_faces(N, K, n_train=64, n_val=8, n_test=8)
    config = TrainConfig(encoder="toy", steps=N_STEPS)
    kinds: dict[str, Any] = {"method": "dmtg", "n_groups": K, "n_branches": K}
    facts = describe_run(faces, config, n_steps=N_STEPS, n_pretraining=0, **kinds)
    steps = np.arange(every, N_STEPS + 1, every)
    drawn = draw_records(steps)
    with tempfile.TemporaryDirectory() as folder:
        history, most, begin = History(faces.task_names, K), 0.0, time.perf_counter()
        with FolderWriter(folder, facts) as writer:
            writer.begin(history, 0)
            follower, updates = RunFolder(folder), []
            for start in range(0, len(steps), 50):
                rows = slice(start, start + 50)
                some = steps[rows]
                history.append(
                    some, drawn["probabilities"][rows], drawn["task_losses"][rows],
                    np.full(len(some), 2.5), np.full(len(some), 0.1), drawn["loss_matrices"][rows],
                )  # fmt: skip
                one = time.perf_counter()
                with writer._lock:  # as its thread does every half second
                    writer._save_history()
                most = max(most, time.perf_counter() - one)
                if start % 500 == 0:
                    one = time.perf_counter()
                    follower.update()
                    updates.append(time.perf_counter() - one)
            wrote = time.perf_counter() - begin
        history.save(Path(folder) / "run.npz")
        sizes = {
            name: sum(p.stat().st_size for p in Path(folder).rglob(name)) / 1e6
            for name in ("*-*.npz", "run.npz")
        }
        one, work = time.perf_counter(), time.process_time()
        reader = RunFolder(folder)
        opened, work = time.perf_counter() - one, time.process_time() - work
        one = time.perf_counter()
        reader.update()
        idle = time.perf_counter() - one
        assert len(reader.history) == len(steps)
        parts = [
            f"a record every {every} steps: {len(steps)} records",
            f"{len(list_pieces(Path(folder))[0])} pieces of {sizes['*-*.npz']:.1f} MB",
            f"run.npz {sizes['run.npz']:.1f} MB",
            f"opens in {opened:.2f} s ({work:.2f} s of CPU)",
            f"update() with 500 new records {statistics.median(updates) * 1e3:.0f} ms",
            f"at most {max(updates) * 1e3:.0f} ms, with nothing new {idle * 1e3:.2f} ms",
            f"writing a piece took {most * 1e3:.0f} ms at most, all of it {wrote:.1f} s",
        ]
        print("; ".join(parts), flush=True)


def measure_steps(rounds: int, n_steps: int) -> None:
    """Pairs of short runs in turn, each with a checkpoint; the ratio of each pair, so that a busy
    machine hits both."""
    torch.set_num_threads(1)
    faces = data.toy_faces(n_train=2000, n_val=100, n_test=100)
    config = TrainConfig(encoder="toy", steps=n_steps, lr=3e-3, lr_assignment=3e-2)
    naive = build_network(faces, config)
    ratios, cpu = [], []
    for _ in range(rounds):
        seconds, spent = [], []
        with tempfile.TemporaryDirectory() as folder:
            for path in (None, folder):
                saved = Path(folder) / f"{path is None}.safetensors"
                wall, work = time.perf_counter(), time.thread_time()
                network = branch_out(naive, 3, config)
                train(network, faces, config, checkpoint=saved, folder=path)
                seconds.append(time.perf_counter() - wall)
                spent.append(time.thread_time() - work)
        ratios.append(seconds[1] / seconds[0])
        cpu.append(spent[1] / spent[0])
        print(
            f"{seconds[0] / n_steps * 1e3:.2f} ms a step without a folder, "
            f"{seconds[1] / n_steps * 1e3:.2f} with; CPU of the training thread "
            f"{spent[0] / n_steps * 1e3:.2f} and {spent[1] / n_steps * 1e3:.2f}",
            flush=True,
        )
    print(
        f"with a folder / without: {statistics.median(ratios):.3f} of the time, "
        f"{statistics.median(cpu):.3f} of the training thread's CPU (medians of {rounds})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", action="store_true")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--length", type=int, default=600, help="steps of each run")
    args = parser.parse_args()
    if args.size:
        measure_size(count_record_every(N_STEPS))
        measure_size(1)
    if args.steps:
        measure_steps(args.rounds, args.length)


if __name__ == "__main__":
    main()
