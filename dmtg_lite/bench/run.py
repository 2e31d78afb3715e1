"""All rows of a benchmark, as a table on the screen and as JSON."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dmtg_lite.bench.cases import (
    CASES,
    PLAIN,
    VARIANTS,
    Case,
    compare_losses,
    make_data,
    make_network,
    make_steps,
)
from dmtg_lite.bench.measure import (
    count_kernels,
    estimate_memory,
    measure_memory,
    measure_rates,
    measure_time,
)
from dmtg_lite.core.devices import GIB, describe_device, measure_free_memory
from dmtg_lite.core.macs import count_macs

Row = dict[str, Any]
HEAD = (
    f"{'':14} {'ms a step':>9} {'images/s':>9} {'x plain':>7} {'peak MiB':>8} {'kernels':>7} "
    f"{'waits':>5} {'of rate':>7}"
)
_SAME = 1e-4  # relative difference of losses, from the order of additions in float32


def run_bench(
    names: Sequence[str] = (),
    *,
    device: torch.device,
    is_quick: bool = False,
    n_rounds: int | None = None,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Measure some of `CASES`, or all, on a device; told line by line.

    Returns:
        ``{"machine", "rates", "rows"}``, as JSON.

    Raises:
        ValueError: If the two formulations give different losses.
    """
    n_rounds = n_rounds or (2 if is_quick else 7)
    machine = describe_machine(device)
    say("\n".join(f"{key}: {value}" for key, value in machine.items()))
    rates = {precision: measure_rates(device, precision) for precision in ("float32", "bfloat16")}
    for precision, own in rates.items():
        told = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in own.items())
        say(f"rate in {precision}: {told}")
    rows: list[Row] = []
    for name in names or list(CASES):
        case = CASES[name].settle(device, is_quick=is_quick)
        rows += measure_case(case, device, n_rounds, rates, say)
    return {"machine": machine, "rates": rates, "n_rounds": n_rounds, "rows": rows}


def measure_case(
    case: Case,
    device: torch.device,
    n_rounds: int,
    rates: dict[str, dict[str, float]],
    say: Callable[[str], object],
) -> list[Row]:
    """A row a variant; none where memory is short."""
    needed, free = estimate_memory(case), measure_free_memory(device)
    about = f"{case.name}: N={len(case.tasks)} K={case.n_groups} B={case.config.batch_size}"
    if free is not None and needed > 0.9 * free:
        found = f"needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free"
        say(f"\n{about}: left out, {found}")
        return []
    difference = compare_losses(case)
    if difference > _SAME:
        raise ValueError(
            f"{case.name}: the two formulations are not the same step, their losses differ by "
            f"{difference:.1e} of their value."
        )
    say(f"\n{about}, {case.side}x{case.side}; losses differ by {difference:.0e}\n{HEAD}")
    data = make_data(case)
    macs = count_macs(make_network(case, data), data.feature_shape)["total"]
    data = data.to(device)
    variants = _choose_variants(device, rates)
    times = measure_time(
        {name: make_steps(case, name, data) for name in variants}, n_rounds, device
    )
    rows = []
    for variant, own in times.items():
        precision = "bfloat16" if "bfloat16" in variant else "float32"
        per_second = 1000 / own["ms"]
        flops = 2 * 3 * macs * case.config.batch_size * per_second / 1e9
        row = {
            "case": case.name, "variant": variant, "n_tasks": len(case.tasks),
            "n_groups": case.n_groups, "batch_size": case.config.batch_size, "side": case.side,
            **own, "images_per_second": case.config.batch_size * per_second,
            "peak_mib": measure_memory(case, variant, device), **_count(case, variant),
            "share_of_rate": flops / max(rates[precision].values()), "loss_difference": difference,
        }  # fmt: skip
        say(render_row(row))
        rows.append(row)
    return rows


def _choose_variants(device: torch.device, rates: dict[str, dict[str, float]]) -> list[str]:
    """Those that make sense here: a graph on a GPU, bfloat16 where it is no slower."""
    left_out = set() if device.type == "cuda" else {"ours graph"}
    if max(rates["bfloat16"].values()) < max(rates["float32"].values()):
        left_out.add("ours bfloat16")
    return [name for name in VARIANTS if name not in left_out]


def _count(case: Case, variant: str) -> dict[str, int]:
    """Kernels and waits; a graph is the same kernels in one launch."""
    return count_kernels(case, "ours" if variant == "ours graph" else variant)


def render_row(row: Row) -> str:
    """One line of the table."""
    speed = "1.00" if row["variant"] == PLAIN else f"{row['speed']:.2f}"
    return (
        f"{row['variant']:14} {row['ms']:9.1f} {row['images_per_second']:9,.0f} {speed:>7} "
        f"{row['peak_mib']:8.0f} {row['kernels']:7} {row['waits']:5} {row['share_of_rate']:7.0%}"
    )


def describe_machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Processor, device, versions, date and how busy it is."""
    cpu, flags = platform.processor(), ""
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        found = dict(line.split("\t: ", 1) for line in text.splitlines() if "\t: " in line)
        cpu, flags = found.get("model name", cpu), found.get("flags", "")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in flags.split(),
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "date": time.strftime("%Y-%m-%d"),
    }
