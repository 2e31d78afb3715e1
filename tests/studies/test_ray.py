"""What Ray promises: the same numbers, no run lost or done twice, nobody listening outside.

One Ray of this machine for the whole file, since it takes seconds to start.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import torch
from torch import nn

pytest.importorskip("ray", reason='needs the extra "cluster"')

from dmtg_lite import data, methods
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.encoders import ENCODERS, register
from dmtg_lite.experiments import Workers, compare, tabulate
from dmtg_lite.methods import Saving
from dmtg_lite.runs import jobs
from dmtg_lite.runs.jobs import held, run_jobs
from dmtg_lite.studies.cells import make_cells, run_cells

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    # of the processes that it started, when it forgets them
    pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning"),
]

TWO = Workers(on="ray", jobs=2)
FACES = data.toy_faces(n_tasks=6, n_groups=2, n_train=120, n_val=40, n_test=40)
CONFIG = TrainConfig(encoder="toy", steps=6, pretrain=3, batch_size=16)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator:
    with held(TWO):
        import ray

        yield ray


def divide(a: int, b: int) -> tuple[int, int]:
    return divmod(a, b)


class Deadly(nn.Module):
    """An encoder that kills its process in the fifth batch, unless that was done before."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark, self.n_calls = mark, 0
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.n_calls += 1
        if self.n_calls == 5 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(images)


def test_a_killed_worker_costs_a_retry_not_a_run(tmp_path: Path) -> None:
    """Twelve runs, a worker killed in one of them: each is there once, in the table of one process
    without Ray."""
    mark, folder = tmp_path / "killed", tmp_path / "cells"
    config = replace(CONFIG, encoder=register("deadly", Deadly(mark)))
    ask = {"methods": ["naive", "random", "dmtg"], "n_groups": 2, "seeds": range(4)}
    try:
        table = compare(FACES, **ask, config=config, folder=folder, jobs=TWO)
        assert mark.exists()
        alone = compare(FACES, **ask, config=config)
    finally:
        del ENCODERS["deadly"]
    times = ["cpu_seconds", "wall_seconds"]
    pandas.testing.assert_frame_equal(table.drop(columns=times), alone.drop(columns=times))
    assert len(table) == 12
    assert not table["total_loss"].isna().any()
    assert len(list(folder.iterdir())) == 12


def test_hoa_over_ray_is_hoa() -> None:
    """21 networks in two walks, a worker each: affinities and final weights bit for bit."""
    alone = methods.hoa(FACES, 2, CONFIG)
    spread = methods.hoa(FACES, 2, CONFIG, saving=Saving(jobs=TWO))
    assert spread.affinity == alone.affinity
    assert spread.to_json() | {"seconds": 0} == alone.to_json() | {"seconds": 0}
    for own, other in zip(spread.network.parameters(), alone.network.parameters(), strict=True):
        assert own.equal(other)


def test_a_run_that_raises_is_reported_and_not_tried_again() -> None:
    """As in processes: its row says why, the others go on."""
    cells = make_cells(["naive"], [2], [0], CONFIG)
    cells += make_cells(["stl"], [2], [0], replace(CONFIG, shared=9))
    table = tabulate(run_cells(cells, FACES, jobs=TWO))
    assert "`shared` must be in" in table["note"].iloc[1]
    assert table["total_loss"].notna().tolist() == [True, False]
    with pytest.raises(ZeroDivisionError, match=r"^integer division or modulo by zero$"):
        run_jobs(divide, [(1, 0)], jobs=TWO)


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_piece_that_takes_its_workers_with_it_is_given_up(monkeypatch) -> None:
    """Reported where the caller can, an error of one line where not."""
    monkeypatch.setattr(jobs, "_RETRIES", 0)  # or it takes four workers
    found = run_jobs(die, [(7,)], jobs=TWO, lost=lambda n, reason: (n, reason))
    assert found[0][0] == 7
    assert found[0][1].startswith("its workers were lost 1 times: ")
    with pytest.raises(ChildProcessError, match="a piece of work failed; its workers were lost"):
        run_jobs(die, [(7,)], jobs=TWO)


def interrupt_or_sleep(parent: int, n: int) -> None:
    if n == 0:
        os.kill(parent, signal.SIGINT)
    time.sleep(600)


def test_an_interrupt_ends_all_pieces_at_once() -> None:
    """Within seconds, and their workers are free for the next."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_jobs(divide, [(7, 2), (9, 4)], jobs=TWO)  # workers take seconds to start
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(interrupt_or_sleep, [(os.getpid(), n) for n in range(4)], jobs=TWO)
    assert time.monotonic() - begin < 30
    assert run_jobs(divide, [(7, 2), (9, 4)], jobs=TWO) == [(3, 1), (2, 1)]


def test_it_listens_to_this_machine_only(ray) -> None:
    """No socket of Ray's processes, workers included, can be reached from another machine."""
    psutil = pytest.importorskip("psutil")
    run_jobs(divide, [(7, 2), (9, 4)], jobs=TWO)
    me = psutil.Process()
    listening = [
        (process.name(), one.laddr.ip)
        for process in [me, *me.children(recursive=True)]
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 3
    assert [one for one in listening if one[1].removeprefix("::ffff:") != "127.0.0.1"] == []
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_an_address_where_nobody_listens_is_said_at_once(ray, monkeypatch) -> None:
    """Within seconds and in one line."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ValueError, match=r"`address` '127.0.0.1:1': no Ray answers there: "):
        run_jobs(divide, [(7, 2)], jobs=Workers(on="ray", address="127.0.0.1:1"))


def test_more_than_there_is_would_never_begin() -> None:
    """Of a Ray that is connected already too: said, not waited for."""
    with pytest.raises(ValueError, match=r"`gpus=1` of each job: .* has 0 to give"):
        run_jobs(divide, [(7, 2)], jobs=replace(TWO, gpus=1))
