"""Two processes share a run, and it is the run of one: losses, groups, closings, checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import two_ranks
from small_runs import CONFIG, DATA, start
from torch import nn

from dmtg_lite import cli
from dmtg_lite.core.batches import Batches, Order
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.step import take_steps
from dmtg_lite.runs import parallel
from dmtg_lite.runs.batch_norm import share_batch_norm
from dmtg_lite.runs.folder import RunFolder
from dmtg_lite.runs.history import History
from dmtg_lite.runs.parallel import World
from dmtg_lite.runs.saving import Saving

FIRST, SECOND = World(0, 2), World(1, 2)


@pytest.fixture
def group_of_one() -> Iterator[None]:
    """What torch needs for DistributedDataParallel, without another process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# ---------------------------------------------------------------------- without another process


@pytest.mark.parametrize("n_ranks", [2, 3, 5])
def test_ranks_have_every_row_of_a_batch_once(n_ranks: int) -> None:
    whole = Order(70, CONFIG, 3, torch.device("cpu"))
    parts = [Order(70, CONFIG, 3, torch.device("cpu"), share=(i, n_ranks)) for i in range(n_ranks)]
    for step in (0, 1, 4, 9):
        shares = [part(step) for part in parts]
        assert sorted(torch.cat(shares).tolist()) == sorted(whole(step).tolist())
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("n_rows", [0, 1, 7, 64])
def test_what_is_looked_at_once_is_cut_without_gap_or_overlap(n_rows: int) -> None:
    parts = [World(rank, 3).cut(n_rows) for rank in range(3)]
    assert [row for part in parts for row in part] == list(range(n_rows))


def test_a_process_by_itself_takes_its_steps_as_ever() -> None:
    state = TrainState(start(), CONFIG)
    parallel.world().share(state, len(DATA.train))
    assert (state.program, state.share) == (state.network, (0, 1))


def test_a_batch_that_is_too_small_for_the_ranks_is_refused() -> None:
    state = TrainState(start(), replace(CONFIG, batch_size=1))
    with pytest.raises(ValueError, match="a batch of 1 rows cannot be shared by 2 processes"):
        FIRST.share(state, len(DATA.train))


def test_what_is_no_single_gradient_is_refused() -> None:
    state = TrainState(start(), CONFIG)
    state.backward = lambda total, loss_matrix: None
    with pytest.raises(ValueError, match="start it without torchrun"):
        FIRST.share(state, len(DATA.train))


def test_a_search_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_world", SECOND)
    with pytest.raises(ValueError, match="search is many small runs"):
        Saving().remember("affinity", "", lambda: ([[0.0]], 0), [[True]])


def test_only_the_first_rank_has_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_world", SECOND)
    assert Saving(progress=True).of("main", "dmtg")["progress"] is None


def test_only_train_is_known_under_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert cli.main(["doctor"]) == 0  # of one process: as ever
    monkeypatch.setattr(parallel, "_world", FIRST)
    assert cli.main(["doctor"]) == 2
    assert "under torchrun there is only train" in capsys.readouterr().err


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (3, 4, 5, 2)])
def test_batch_norm_of_all_ranks_is_torchs(group_of_one, shape, momentum) -> None:
    """Of one rank: output, gradients and running statistics; then as torch's when evaluated."""
    torch.manual_seed(0)
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    plain, shared = (nn.Sequential(kind(4, momentum=momentum)) for _ in range(2))
    share_batch_norm(shared)
    assert type(shared[0]) is not kind
    for _ in range(2):
        x = (torch.randn(shape) * 3 + 5).requires_grad_()
        y = x.detach().clone().requires_grad_()
        direction = torch.randn(shape)
        (plain(x) * direction).sum().backward()
        (shared(y) * direction).sum().backward()
        torch.testing.assert_close(shared(y), plain(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared.state_dict(), plain.state_dict())
    assert plain[0].weight.grad is not None
    torch.testing.assert_close(shared[0].weight.grad, plain[0].weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared.eval()(x), plain.eval()(x))


def test_a_weight_without_a_gradient_is_named(group_of_one) -> None:
    """DistributedDataParallel would wait for it for ever, or say its number."""
    network = start()
    network.heads[1].idle = nn.Parameter(torch.zeros(2))
    state = TrainState(network, CONFIG)
    state.program = parallel.SharedProgram(World(), state)
    steps = take_steps(state, DATA, 3)
    next(steps)
    with pytest.raises(ValueError, match=r"1 weights .* \(heads.1.idle, ...\)"):
        next(steps)


def test_values_are_those_of_all_rows_and_gradients_are_parts(group_of_one) -> None:
    """Two ranks by hand: L of all is on both, and the mean of their gradients is its gradient."""
    batches = Batches(DATA.train, DATA.tasks, torch.device("cpu"))
    rows = torch.arange(20)
    batches._stored[0][rows[:13:2], 1] = -1  # the first rank has no label of this task
    network = start()
    whole = network.compute_loss_matrix(*batches.take(rows))
    weight = next(network.branches[0].parameters())
    (expected,) = torch.autograd.grad(whole.sum(), weight)
    shares = [rows[:13:2], torch.tensor([n for n in rows.tolist() if n not in range(0, 13, 2)])]
    sums: list[torch.Tensor] = []

    class ByHand(World):
        def add(self, *own: torch.Tensor) -> None:
            sums.append(own[0].clone())
            if len(sums) > 2:
                own[0].copy_(sums[0] + sums[1])

    gradients = []
    for part in [*shares, *shares]:  # once to know the sums, once with them
        state = TrainState(network, CONFIG)
        state.program = parallel.SharedProgram(ByHand(0, 2), state)
        together = state.program.compute_loss_matrix(*batches.take(part))
        if len(sums) > 2:
            torch.testing.assert_close(together, whole)
            network.zero_grad()
            together.sum().backward()
            gradients.append(weight.grad.clone())
    torch.testing.assert_close(sum(gradients) / 2, expected)


# ---------------------------------------------------------------------- with one


in_one_process = pytest.mark.xdist_group("ranks")  # so that the ranks run once


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one process told of each scene, and what two did."""
    folder = tmp_path_factory.mktemp("scenes")
    two_ranks.play(folder, two_ranks.SCENES)
    command = [sys.executable, two_ranks.__file__, str(folder)]
    subprocess.run(command, check=True, timeout=500, env=os.environ | {"PYTHONPATH": "."})
    two_ranks.play(folder, {"resume": two_ranks.resume})
    return folder


def read(folder: Path, scene: str, n_ranks: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"{scene}_{n_ranks}.npz") as file:
        return dict(file)


@in_one_process
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", ["learn_faces", "learn_table", "learn_rooms"])
def test_two_ranks_are_one_process_with_the_whole_batch(told: Path, scene: str) -> None:
    """In double precision: spare branches that close; batch norm, sparse labels, a plateau and
    losses divided by their means; dense heads that are pruned."""
    one, two = read(told, scene, 1), read(told, scene, 2)
    for name in ("steps", "branches", "heads", "groups", "macs", "lr_scale"):
        np.testing.assert_array_equal(two[name], one[name], err_msg=name)
    for name in ("losses", "probabilities", "test_losses", "test_errors"):
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)
    assert len(set(one["groups"].tolist())) > 1
    happened = {
        "learn_faces": len(one["steps"]) == 50 and len(one["branches"]) == 3,
        "learn_table": float(one["lr_scale"]) < 1,
        "learn_rooms": one["heads"].sum() < one["heads"].size,
    }
    assert happened[scene]


@in_one_process
@pytest.mark.slow
def test_what_a_reader_turns_reaches_all_ranks(told: Path) -> None:
    one, two = read(told, "obey", 1), read(told, "obey", 2)
    assert two["tau"].tolist() == [2.5] * 4 + [0.5] * 4
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=0, atol=1e-5)
    assert RunFolder(told / "run_by_2").run["world_size"] == 2


@in_one_process
@pytest.mark.slow
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_checkpoint_moves_between_numbers_of_ranks(told: Path, n_ranks: int) -> None:
    """Saved by two and resumed by one, and the other way round, after a branch has closed."""
    whole, resumed = read(told, "learn_faces", 1), read(told, "resume", n_ranks)
    assert (told / f"saved_by_{3 - n_ranks}.safetensors").exists()
    np.testing.assert_array_equal(resumed["steps"], whole["steps"])
    np.testing.assert_array_equal(resumed["groups"], whole["groups"])
    np.testing.assert_allclose(resumed["losses"], whole["losses"], rtol=0, atol=1e-5)


RUN = [
    "train", "toy_faces", "--steps", "150", "--pretrain", "20", "--spare-branches", "0", "--seed",
    "3", "--checkpoint-every", "20",
]  # fmt: skip


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [*command, "-m", "dmtg_lite", *RUN, *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def find_children(parent: int) -> list[int]:
    """Processes of a parent, in the order in which they began."""
    there = (Path("/proc") / name for name in os.listdir("/proc") if name.isdecimal())
    stats = {path.name: (path / "stat").read_text().rpartition(")")[2].split() for path in there}
    return sorted(int(name) for name, stat in stats.items() if int(stat[1]) == parent)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_killed_rank_ends_the_others_and_the_run_goes_on(tmp_path: Path) -> None:
    """On two ranks, then from the same folder on one: what was asked for is done in the end."""
    out = tmp_path / "run"
    first = torchrun("--out", str(out))
    checkpoint = out / "checkpoints/dmtg/restart0/main.safetensors"
    while not checkpoint.exists():
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.1)
    killed_at = time.monotonic()
    os.kill(find_children(first.pid)[0], signal.SIGKILL)
    _, said = first.communicate(timeout=60)
    assert time.monotonic() - killed_at < 30
    assert first.returncode != 0
    assert "dmtg-lite: " in said
    assert "another" in said
    assert "--resume" in said
    copy = shutil.copytree(out, tmp_path / "copy")

    second = torchrun("--out", str(out), "--resume")
    _, said = second.communicate(timeout=500)
    assert second.returncode == 0, said
    assert cli.main([*RUN, "--out", str(copy), "--resume"]) == 0
    for folder, n_ranks in ((out, 2), (copy, 1)):
        assert json.loads((folder / "result.json").read_text())["world_size"] == n_ranks
        assert History.load(folder / "run.npz").steps[-1] == 150
