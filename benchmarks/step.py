"""The training step against a plain formulation of the same step: time, memory, kernels, host
syncs.

The plain one is written from the paper's and the released code's description: K x N separate heads
and losses, `.item()` on each, ReLU before pooling, NCHW, Adam as it comes. Same weights, same
noise, same loss.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.tasks import Task
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.fit import branch_out, build_network, train_steps

CONFIG = TrainConfig(
    encoder="resnet", jitter=0.1, steps=10**6
)  # jitter: branches that differ from step 1
VARIANTS = {"plain": "float32", "ours": "float32", "ours bfloat16": "bfloat16"}


class PlainEncoder(nn.Module):
    """conv-BN-ReLU-maxpool, one residual block, avgpool, flatten: 3x64x64 -> 14,400."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, 64, 3, padding=1, bias=False) for i in (3, 64, 64))
        self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norms[0](self.convs[0](x))), 3, 2)
        y = F.relu(self.norms[1](self.convs[1](x)))
        y = self.norms[2](self.convs[2](y))
        return F.avg_pool2d(F.relu(x + y), 2, 2).flatten(1)


class PlainModel(nn.Module):
    """K encoders, K x N separate heads, S; the weights are copied from our network."""

    def __init__(self, network: GroupedNetwork) -> None:
        super().__init__()
        n_groups, n_tasks = network.n_groups, len(network.tasks)
        self.encoders = nn.ModuleList(PlainEncoder() for _ in range(n_groups))
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Linear(14_400, 2) for _ in range(n_tasks)) for _ in range(n_groups)
        )
        self.logits = nn.Parameter(network.assignment.logits.detach().clone())
        with torch.no_grad():
            for k, (encoder, head) in enumerate(zip(network.branches, network.heads, strict=True)):
                convs = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
                for own, other in zip(self.encoders[k].convs, convs, strict=True):
                    own.weight.copy_(other.weight)
                for n in range(n_tasks):
                    self.heads[k][n].weight.copy_(head.linear.weight[2 * n : 2 * n + 2])
                    self.heads[k][n].bias.copy_(head.linear.bias[2 * n : 2 * n + 2])

    def forward(
        self, images: Tensor, targets: Tensor, noise: torch.Generator
    ) -> tuple[Tensor, dict[tuple[int, int], float]]:
        """The total loss of one step, and all K x N losses read on the host, as the released loop
        does."""
        features = [encoder(images) for encoder in self.encoders]
        gumbel = -torch.empty_like(self.logits).exponential_(generator=noise).log()
        z = torch.softmax((self.logits + gumbel) / CONFIG.tau, dim=-1)
        total, shown = 0.0, {}
        for n in range(targets.shape[1]):
            for k, feature in enumerate(features):
                loss = F.cross_entropy(self.heads[k][n](feature), targets[:, n])
                shown[n, k] = loss.item()
                total = total + z[n, k] * loss
        return total, shown


def plain_steps(
    model: PlainModel, images: Tensor, targets: Tensor, *, seed: int
) -> Iterator[float]:
    """Train step by step: Adam on weights and S together, and a look at every loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=CONFIG.lr)
    noise = torch.Generator().manual_seed(seed)
    model.train()
    while True:
        total, _ = model(images, targets, noise)
        if torch.isnan(total):
            raise FloatingPointError("the loss is not a number")
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield total.item()


def make_data(n_tasks: int, batch_size: int) -> TaskData:
    """As many random images as one batch holds, so that both formulations see the same ones."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, 3, 64, 64), dtype=torch.uint8, generator=rng)
    targets = {f"t{n}": torch.randint(0, 2, (batch_size,), generator=rng) for n in range(n_tasks)}
    split = Split(images, targets)
    return TaskData("random pixels", tuple(Task(name) for name in targets), split, split, split)


def make_steps(
    variant: str, n_tasks: int, n_groups: int, batch_size: int
) -> Iterator[float | Tensor]:
    """One optimisation step per `next()`, giving the total loss, as a number or still on its
    device."""
    config = replace(CONFIG, batch_size=batch_size, precision=VARIANTS[variant])
    data = make_data(n_tasks, batch_size)
    network = branch_out(build_network(data, config), n_groups, config)
    if variant == "plain":
        images = data.train.images.float() / 255  # as a loader hands them over
        targets = torch.stack([data.train.targets[task.name] for task in data.tasks], 1)
        return plain_steps(
            PlainModel(network), images, targets, seed=derive_seed(config.seed, Stream.NOISE)
        )
    return (record.task_losses.sum() for record in train_steps(network, data, config))


def compare_losses(n_tasks: int, n_groups: int, batch_size: int) -> float:
    """Relative difference of the first step's total loss, both computed in double precision."""
    data = make_data(n_tasks, batch_size)
    network = branch_out(build_network(data, CONFIG), n_groups, CONFIG).double()
    plain = PlainModel(network).double()
    images, targets = (
        data.train.images.double() / 255,
        torch.stack(list(data.train.targets.values()), 1),
    )
    with torch.no_grad():
        z = network.assignment.sample(CONFIG.tau, generator=torch.Generator().manual_seed(1))
        ours = (network.compute_loss_matrix(images, targets) * z).sum()
        theirs, _ = plain.forward(images, targets, torch.Generator().manual_seed(1))
    return abs(float(ours / theirs) - 1)


class Counter(TorchDispatchMode):
    """Counts kernels (neither views nor bare allocations) and values that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.syncs = 0
        self.in_optimizer = False
        register_optimizer_step_pre_hook(lambda *_: setattr(self, "in_optimizer", True))
        register_optimizer_step_post_hook(lambda *_: setattr(self, "in_optimizer", False))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if self.in_optimizer:
            pass  # one fused kernel, or a few per tensor, depending on the device
        elif name == "aten::_local_scalar_dense":
            self.syncs += 1
        elif not func.is_view and name not in (
            "aten::empty",
            "aten::empty_like",
            "aten::empty_strided",
        ):
            self.kernels += 1
        return func(*args, **(kwargs or {}))


def count_kernels(variant: str, n_tasks: int, n_groups: int) -> dict[str, int]:
    """Kernels and host syncs of one step's forward and backward pass; the batch does not matter."""
    steps = make_steps(variant, n_tasks, n_groups, 4)
    next(steps)
    with Counter() as counter:
        next(steps)
    return {"kernels": counter.kernels, "syncs": counter.syncs}


def peak_memory(variant: str, n_tasks: int, n_groups: int, batch_size: int) -> float:
    """MiB that three steps need on top of the loaded model, in a process of its own."""
    command = [
        sys.executable, __file__, "--memory-of", variant,
        "--tasks", str(n_tasks), "--groups", str(n_groups),
        "--batch-size", str(batch_size),
    ]  # fmt: skip
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def read_peak() -> float:
    """Most MiB this process has had in memory."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin at what the parent process had
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    unit = 2**20 if platform.system() == "Darwin" else 2**10  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def print_own_memory(args: argparse.Namespace) -> None:
    steps = make_steps(args.memory_of, args.tasks, args.groups, args.batch_size)
    before = read_peak()
    for _ in range(3):
        next(steps)
    print(read_peak() - before)


def measure_time(
    n_tasks: int, n_groups: int, batch_size: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Median CPU and wall seconds of a step; speeds are medians of the ratios within each round."""
    steps = {name: make_steps(name, n_tasks, n_groups, batch_size) for name in VARIANTS}
    losses = {name: float(next(each)) for name, each in steps.items()}
    cpu, wall = ({name: [] for name in VARIANTS} for _ in range(2))
    for each in steps.values():  # Adam's and the allocator's first step is not like the others
        next(each)
    for _ in range(rounds):
        for name, each in steps.items():  # alternating, so that a slow minute hits all alike
            begin = time.process_time(), time.perf_counter()
            float(next(each))
            cpu[name].append(time.process_time() - begin[0])
            wall[name].append(time.perf_counter() - begin[1])
    return {
        name: {
            "cpu_ms": 1000 * median(cpu[name]),
            "wall_ms": 1000 * median(wall[name]),
            "speed_cpu": median(a / b for a, b in zip(cpu["plain"], cpu[name], strict=True)),
            "speed_wall": median(a / b for a, b in zip(wall["plain"], wall[name], strict=True)),
            "first_loss": losses[name],
        }
        for name in VARIANTS
    }


def describe_machine() -> dict[str, object]:
    cpu, flags = platform.processor(), ""
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text()
        found = dict(line.split("\t: ", 1) for line in text.splitlines() if "\t: " in line)
        cpu, flags = found.get("model name", cpu), found.get("flags", "")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in flags.split(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d"),
    }


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
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory_of:
        print_own_memory(args)
        return
    if args.quick:
        args.batch_size, args.rounds = 8, 2

    shape = (args.tasks, args.groups, args.batch_size)
    machine = describe_machine()
    print(
        f"{machine}\nN={args.tasks} K={args.groups} B={args.batch_size}, {args.rounds} rounds, one "
        "thread\n"
    )
    difference = compare_losses(*shape)
    print(f"same weights, images and noise: losses differ by {difference:.1e} of their value\n")
    if difference > 1e-6:
        raise SystemExit("the two formulations are not the same step")
    rows = measure_time(*shape, args.rounds)
    print(
        f"{'step':14} {'CPU ms':>8} {'wall ms':>8} {'x CPU':>6} {'x wall':>6} {'peak MiB':>9} "
        f"{'of plain':>8}"
    )
    for name, row in rows.items():
        row["peak_mib"] = peak_memory(name, *shape)
        row["peak_of_plain"] = row["peak_mib"] / rows["plain"]["peak_mib"]
        print(
            f"{name:14} {row['cpu_ms']:8.0f} {row['wall_ms']:8.0f} {row['speed_cpu']:6.2f} "
            f"{row['speed_wall']:6.2f} {row['peak_mib']:9.0f} {row['peak_of_plain']:8.2f}"
        )
    print(
        f"\n{'kernels a step':16} {'plain':>12} {'ours':>12}   (in brackets: values the host waits "
        "for)"
    )
    counts = {}
    for n_tasks, n_groups in ((9, 3), (40, 5)):
        counts[f"{n_tasks}x{n_groups}"] = both = {
            name: count_kernels(name, n_tasks, n_groups) for name in ("plain", "ours")
        }
        cells = [f"{row['kernels']} ({row['syncs']})" for row in both.values()]
        print(f"N={n_tasks:<3} K={n_groups:<8} {cells[0]:>12} {cells[1]:>12}")
    print(f"\nload average after: {os.getloadavg()}")
    if args.out:
        result = {
            "machine": machine,
            "shape": shape,
            "rounds": args.rounds,
            "loss_difference": difference,
            "time": rows,
            "kernels": counts,
        }
        write_atomically(args.out, json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    main()
