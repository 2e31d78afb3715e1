"""A run's own torch settings: the same numbers, whatever the caller's are.

What decides on numbers is set for as long as a call lasts and given back: default dtype and device,
autocast, inference mode. What trades exactness for speed (TF32, deterministic kernels) stays with
the caller, and is told (`devices.describe_device`). How many threads a network's steps take is
decided here too, and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache

import torch

from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork

_log = logging.getLogger("dmtg_lite")
_MANY = 10e9  # multiply-adds of a step, forwards and backwards, from which a second thread pays


@contextmanager
def sealed(n_threads: int | None = None) -> Iterator[None]:
    """Run a block, or a decorated function, with torch's own defaults and gradients on.

    Args:
        n_threads: Of this block; ``None``: as many as the caller's.
    """
    with ExitStack() as undo:
        before = torch.get_num_threads()
        if n_threads is not None and n_threads != before:
            torch.set_num_threads(n_threads)
            undo.callback(torch.set_num_threads, before)
        if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
            undo.enter_context(torch.inference_mode(False))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            undo.callback(torch.set_default_dtype, dtype)
        if torch.get_default_device().type != "cpu":
            undo.enter_context(torch.device("cpu"))
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda", "mps")):
            undo.enter_context(torch.autocast(device, enabled=False))
        yield


@sealed()
def is_small(network: GroupedNetwork, feature_shape: Sequence[int], batch_size: int) -> bool:
    """Whether a step's work is so little that it is mostly the cost of asking for it."""
    # a backward pass costs two forward ones
    return 3 * count_macs(network, feature_shape)["total"] * batch_size < _MANY


def choose_threads(network: GroupedNetwork, feature_shape: Sequence[int], batch_size: int) -> int:
    """How many of the caller's threads a network's steps are worth: one, or all.

    Many threads on little work wait for each other at every kernel: a quiet machine gains nothing
    by them, and a busy one loses a factor of ten and more.

    Args:
        network: On a device other than the CPU threads matter to loading alone: all.
        feature_shape: Of one row.
        batch_size: B, rows of a step.
    """
    there = torch.get_num_threads()
    if there == 1 or network.device.type != "cpu":
        return there
    chosen = 1 if is_small(network, feature_shape, batch_size) else there
    _say(chosen, there)
    return chosen


@lru_cache  # once a process, not once a network
def _say(chosen: int, there: int) -> None:
    size = "small" if chosen < there else "large"
    _log.info("steps of this network are %s: they take %d of %d threads", size, chosen, there)
