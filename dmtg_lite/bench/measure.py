"""Time, memory, kernels and rates of a step. Nothing here prints."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from math import nan
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from dmtg_lite.bench.cases import PLAIN, Case, make_data, make_network, make_steps

MIB = 2**20
_IN_A_ROW = 10  # steps of a GPU between two looks at the clock, which wait for it
_BARE = ("aten::empty", "aten::empty_like", "aten::empty_strided")


class Counter(TorchDispatchMode):
    """Counts kernels (neither views nor bare allocations) and values that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.syncs = 0
        self._in_optimizer = False
        self._hooks = [
            register_optimizer_step_pre_hook(lambda *_: setattr(self, "_in_optimizer", True)),
            register_optimizer_step_post_hook(lambda *_: setattr(self, "_in_optimizer", False)),
        ]

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if self._in_optimizer:
            pass  # one fused kernel, or a few per tensor, depending on the device
        elif name == "aten::_local_scalar_dense":
            self.syncs += 1
        elif not func.is_view and name not in _BARE:
            self.kernels += 1
        return func(*args, **(kwargs or {}))


def count_kernels(case: Case, variant: str) -> dict[str, int]:
    """Kernels and host waits of one step's forward and backward pass; the batch does not matter."""
    steps = make_steps(case, variant, make_data(case, 2))
    next(steps)
    with Counter() as counter:
        next(steps)
    return {"kernels": counter.kernels, "waits": counter.syncs}


def measure_time(
    steps: dict[str, Iterator[float | Tensor]], n_rounds: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Median milliseconds of a step, on the clock and of the CPU; speeds are medians of the ratios
    to the plain one within each round."""
    n = 1 if device.type == "cpu" else _IN_A_ROW
    for each in steps.values():  # Adam's and the allocator's first steps are not like the others
        for _ in range(2 if n == 1 else 2 * _IN_A_ROW):
            next(each)
    cpu, wall = ({name: [] for name in steps} for _ in range(2))
    for _ in range(n_rounds):
        for name, each in steps.items():  # alternating, so that a slow minute hits all alike
            begin = time.process_time(), time.perf_counter()
            loss: float | Tensor = 0.0
            for _ in range(n):
                loss = next(each)
            float(loss)  # waits for all of them
            cpu[name].append(1000 * (time.process_time() - begin[0]) / n)
            wall[name].append(1000 * (time.perf_counter() - begin[1]) / n)
    return {
        name: {
            "ms": median(wall[name]),
            "cpu_ms": median(cpu[name]),
            "speed": median(a / b for a, b in zip(wall[PLAIN], wall[name], strict=True)),
            "speed_cpu": median(a / b for a, b in zip(cpu[PLAIN], cpu[name], strict=True)),
        }
        for name in steps
    }


def measure_memory(case: Case, variant: str, device: torch.device) -> float:
    """MiB that three steps take beyond the model; on a CPU in a process of its own."""
    if device.type == "cuda":
        return _fill_gpu(case, variant, device)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_fill_memory, case, variant, torch.get_num_threads()).result()


def _fill_memory(case: Case, variant: str, n_threads: int) -> float:
    torch.set_num_threads(n_threads)
    steps = make_steps(case, variant, make_data(case))
    before = read_peak()
    for _ in range(3):
        next(steps)
    return read_peak() - before


def _fill_gpu(case: Case, variant: str, device: torch.device) -> float:
    steps = make_steps(case, variant, make_data(case).to(device))
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(6):  # a graph is made after some
        next(steps)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def read_peak() -> float:
    """Most MiB this process has had in memory; nan on Windows, which does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin at what the parent process had
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    if platform.system() == "Windows":  # which has no `resource`
        return nan
    import resource

    unit = MIB if platform.system() == "Darwin" else 2**10  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def estimate_memory(case: Case) -> int:
    """Bytes that measuring a case takes at most: what the backward pass keeps of a few pictures,
    times the batch and half as much again for what comes and goes; and every variant's model."""
    few, kept = 2, {}
    data = make_data(case, few)
    network = make_network(case, data)

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        steps = make_steps(case, PLAIN, data)
        next(steps)
    weights = {one.data_ptr() for one in network.parameters()}
    n_kept = sum(one.untyped_storage().nbytes() for at, one in kept.items() if at not in weights)
    model = sum(one.nbytes for one in network.parameters())
    return int(1.5 * n_kept / few * case.config.batch_size + 4 * 4 * model)


def measure_rates(device: torch.device, precision: str) -> dict[str, float]:
    """GFLOP a second of a 3x3 convolution and of a matrix product, forwards and backwards."""
    big = device.type != "cpu"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    batch, side, width = (256 if big else 16), 31, (8192 if big else 768)
    x = torch.randn(batch, 64, side, side, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(64, 64, 3, 3, device=device, dtype=dtype)
    weight = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
    a, b = (
        torch.randn(width, width, device=device, dtype=dtype, requires_grad=True) for _ in range(2)
    )
    return {
        "conv": 6 * batch * side**2 * 64 * 64 * 9 / _time(lambda: F.conv2d(x, weight, padding=1)),
        "matmul": 6 * width**3 / _time(lambda: a @ b),
    }


def _time(call: Callable[[], Tensor]) -> float:
    """Nanoseconds of a call and its backward pass: the best of a few."""
    best, gradient, first, n = float("inf"), torch.ones_like(call()), time.perf_counter(), 0
    while n < 3 or time.perf_counter() - first < 0.5:
        n, begin = n + 1, time.perf_counter()
        made = call()
        made.backward(gradient)
        float(made.detach().flatten()[0])  # waits
        best = min(best, time.perf_counter() - begin)
    return 1e9 * best
