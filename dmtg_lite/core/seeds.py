"""Named streams of random numbers: one seed in, an independent one out for every purpose of a
run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What a seed is for. The numbers are part of what a seed means: never give one away again."""

    WEIGHTS = 0  # first weights of a network
    NOISE = 1  # Gumbel noise of the draws
    ORDER = 2  # shuffling of an epoch
    PRETRAINING = 3  # all of the pretraining
    TRAINING = 4  # all of the training after it
    GROUPS = 5  # random groups
    RESTART = 6  # all of one restart
    JITTER = 7  # noise on the copied branches
    CLOSING = 8  # which branch closes, where that is random
    PROBE = 9  # rows that say which branch is missed least
    FINETUNING = 11  # training a group on by itself
    BALANCE = 12  # orders and masks that an aggregator draws
    LAYERS = 13  # what layers draw in a step, as dropout does
    AFFINITY = 20  # batches of an affinity measurement


def derive_seed(seed: int, stream: Stream, *path: int) -> int:
    """An independent seed for one purpose of a run, e.g. ``(seed, Stream.ORDER, epoch)``.

    Stable across machines and versions of numpy, whose `SeedSequence` it is.
    """
    return int(np.random.SeedSequence([seed, int(stream), *path]).generate_state(1)[0])


_alone = threading.RLock()  # torch's own generators are the same for all threads of a process


@contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """A block whose draws from torch's own generators come from a seed; the caller's go on after.

    Two threads that train take turns, a step or a network each: at the same time each would draw
    from the other's seed.

    Args:
        seed: See `derive_seed`.
        device: Of a network that draws too, besides the CPU.
    """
    # the generators themselves: torch.random.fork_rng takes a good part of a small step
    generators = [torch.default_generator]
    if device is not None and device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    with _alone:
        before = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)
