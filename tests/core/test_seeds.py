"""Old seeds keep their meaning."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import dmtg_lite
from dmtg_lite.core.seeds import Stream, derive_seed, drawing

NUMBERS = {
    "WEIGHTS": 0, "NOISE": 1, "ORDER": 2, "PRETRAINING": 3, "TRAINING": 4, "GROUPS": 5,
    "RESTART": 6, "JITTER": 7, "CLOSING": 8, "PROBE": 9, "FINETUNING": 11, "AFFINITY": 20,
}  # fmt: skip


def test_streams_keep_their_numbers_and_share_none() -> None:
    """New ones may come; a number given away twice would be an alias here."""
    numbers = {name: int(stream) for name, stream in Stream.__members__.items()}
    assert numbers | NUMBERS == numbers
    assert len(set(numbers.values())) == len(numbers)


def test_nobody_seeds_all_devices_at_once() -> None:
    """`torch.manual_seed` seeds the caller's GPUs too, and `fork_rng(devices=[])` leaves it so."""
    for path in Path(dmtg_lite.__file__).parent.rglob("*.py"):
        assert "torch.manual_seed(" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("path", [(), (0,), (3, 1)])
def test_a_derived_seed_is_numpys(stream: Stream, path: tuple[int, ...]) -> None:
    """Oracle: SeedSequence of seed, number and path, whose stability numpy promises."""
    sequence = np.random.SeedSequence([5, int(stream), *path])
    assert derive_seed(5, stream, *path) == int(sequence.generate_state(1)[0])


def test_threads_that_draw_at_the_same_time_draw_what_each_draws_alone() -> None:
    """Two runs in one process, as side by side in the playground, are those of their seeds."""

    def draw(seed: int) -> list[float]:
        with drawing(seed):
            return [(time.sleep(1e-4), torch.rand(()).item())[1] for _ in range(50)]

    alone = [draw(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(draw, range(4))) == alone
