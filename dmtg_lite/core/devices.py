"""Which device, how much room it has, and what of its arithmetic is its own.

A name becomes a device here, and nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

_WITHOUT_FLOAT64 = {"mps"}  # Apple's
GIB = 2**30


def as_device(device: torch.device | str) -> torch.device:
    """A device that holds numbers here, by its whole name: "cuda" is "cuda:0".

    "auto" is an NVIDIA or AMD GPU that torch can use, else Apple's, else the CPU.

    Raises:
        ValueError: If torch has none of that name, or cannot use it on this machine.
    """
    if isinstance(device, str) and device == "auto":
        names = ("cuda", "mps")
        return next(filter(None, map(_find, names)), torch.device("cpu"))
    try:
        return _try(device)
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ValueError(
            f"`device` {device!r} cannot be used here: {reason}. Try 'auto', 'cpu', 'cuda' or "
            "'mps'."
        ) from None


def _try(device: torch.device | str) -> torch.device:
    there = torch.zeros(1, device=torch.device(device))
    there.cpu()  # and back, which "meta" cannot
    return there.device


def _find(name: str) -> torch.device | None:
    """The device of a kind, if it is there and works: drivers may be older than torch."""
    backend = torch.cuda if name == "cuda" else torch.backends.mps
    if not backend.is_available():
        return None
    try:
        return _try(name)
    except (RuntimeError, AssertionError):
        return None


def place_sums(device: torch.device | str) -> torch.device:
    """Where sums over many rows are kept, which are float64: there, or on the CPU where a device
    has no such numbers."""
    device = torch.device(device)
    return torch.device("cpu") if device.type in _WITHOUT_FLOAT64 else device


def measure_free_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that may still be had; None where the system does not tell."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    about = Path("/proc/meminfo")  # what caches would give back counts as free
    if about.exists():
        lines = dict(line.split(":", 1) for line in about.read_text(encoding="utf-8").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 2**10
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def describe_device(device: torch.device | str) -> str:
    """A device in words: name, free memory, and how exact its float32 is, which is the caller's."""
    device = torch.device(device)
    if device.type == "mps":
        return f"{device} (Apple's GPU; sums over many rows are made on the CPU)"
    if device.type != "cuda":
        return f"{device} ({torch.get_num_threads()} threads)"
    free, total = (size / GIB for size in torch.cuda.mem_get_info(device))
    name = torch.cuda.get_device_name(device)
    return f"{device} ({name}, {free:.1f} of {total:.1f} GiB free; {describe_arithmetic()})"


def describe_arithmetic() -> str:
    """What torch does on a GPU where "float32" is asked for. The settings are the process's, and
    left alone: docs/one_gpu.md says how to change them."""
    # the newer names of torch first: asking for the older ones may be refused beside them
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(backends[0], "conv"):
        conv, product = backends[0].conv.fp32_precision, backends[1].fp32_precision
    else:
        conv, product = ("tf32" if backend.allow_tf32 else "ieee" for backend in backends)
    words: dict[Any, str] = {"tf32": "TF32", "ieee": "float32", "none": "float32"}
    settings = {
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    parts = [
        f"convolutions in {words.get(conv, conv)}",
        f"products in {words.get(product, product)}",
    ]
    return ", ".join(
        [*parts, *(f"{name} {'on' if on else 'off'}" for name, on in settings.items())]
    )
