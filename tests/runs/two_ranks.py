"""Runs that one process takes, or two: what they share in double precision, where rounding does
not grow. `python two_ranks.py FOLDER` takes them in two, forked from one that has loaded torch."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from dmtg_lite import data as data_sets
from dmtg_lite.core.config import HeadOptions, Pruning, Spare, TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import drawing
from dmtg_lite.core.tasks import Task
from dmtg_lite.encoders.plain import mlp
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import branch_out, build_network, fit
from dmtg_lite.runs.parallel import joined, world

# 63 rows a batch: two ranks do not have the same number of them
FACES = TrainConfig(
    encoder="toy", steps=50, batch_size=63, lr=3e-3, optimiser_assignment="sgd", lr_assignment=6.0,
    heads=HeadOptions(train_all=True),
    spare=Spare(branches="double", close_from=20, close_every=10),
)  # fmt: skip
TABLE = TrainConfig(
    encoder="mlp", epochs=12, batch_size=16, lr=0.3, lr_assignment=0.1, normalise_losses=True,
    estimator="straight_through", schedule="plateau",
)  # fmt: skip
ROOMS = TrainConfig(
    encoder="xception_small", shared=5, steps=8, batch_size=4, lr=1e-3, lr_assignment=0.3,
    pruning=Pruning(below=0.4, start=4),
)  # fmt: skip
STOP = 25  # where a run goes over to another number of ranks


@contextmanager
def doubled() -> Iterator[None]:
    """All in double precision: in single a run parts from itself when the rows of a batch are
    added up in another order, by 1e-5 to 1e-1 within 50 steps."""

    def scale(inputs: Tensor) -> Tensor:
        return inputs.double() / 255 if inputs.dtype == torch.uint8 else inputs.double()

    with ExitStack() as undo:
        torch.set_default_dtype(torch.float64)
        undo.callback(torch.set_default_dtype, torch.float32)
        for target, name, new in [
            (torch, "set_default_dtype", lambda dtype: None),
            (torch.Tensor, "float", torch.Tensor.double),
            (sys.modules["dmtg_lite.core.network"], "scale_inputs", scale),
            (sys.modules["dmtg_lite.core.stacked"], "scale_inputs", scale),
            (sys.modules["dmtg_lite.runs.between"], "_PRUNE_EVERY", 4),
            (sys.modules["dmtg_lite.runs.checkpoint"], "check_tensors", lambda *_: None),
        ]:
            undo.enter_context(mock.patch.object(target, name, new))
        yield


def make_table() -> TaskData:
    """Numbers and classes, many rows without a label: a rank may have a batch with none."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        features = rng.normal(size=(n, 5))
        targets = {"size": features[:, 0] * 3 + 7, "is_big": (features[:, 1] > 0).astype(int)}
        targets["size"][rng.random(n) < 0.8] = np.nan
        targets["is_big"][rng.random(n) < 0.8] = -1
        return Split(features, targets | {"is_old": (features[:, 2] > 0).astype(int)})

    tasks = Task("size", loss="l1", metric="mae", n_outputs=1), Task("is_big"), Task("is_old")
    return TaskData("table", tasks, split(80), split(40), split(40))


def learn_faces(folder: Path) -> dict:
    faces = data_sets.toy_faces(n_train=400, n_val=50, n_test=50)
    return describe(start(FACES, faces), faces, FACES)


def learn_table(folder: Path) -> dict:
    """With batch norm, which sees the rows of all ranks, and without dropout, which does not."""
    table = make_table()
    with drawing(0):
        naive = GroupedNetwork.naive(table.tasks, mlp((5,), capacity=2, width=8, dropout=0.0))
    return describe(branch_out(naive, 2, TABLE), table, TABLE)


def learn_rooms(folder: Path) -> dict:
    from small_runs import make_pictures

    rooms = make_pictures()
    return describe(start(ROOMS, rooms, 2), rooms, ROOMS)


def obey(folder: Path) -> dict:
    """A run folder whose reader has turned tau: the first rank reads it, all ranks draw by it."""
    faces = data_sets.toy_faces(n_train=400, n_val=50, n_test=50)
    config, own = replace(FACES, steps=8, spare=Spare()), folder / f"run_by_{world().size}"
    if world().is_first:
        own.mkdir()
        (own / "turns.json").write_text('[{"step": 5, "tau": 0.5}]')
    return describe(start(config, faces), faces, config, folder=own)


def save(folder: Path) -> dict:
    return _resume(folder / f"saved_by_{world().size}.safetensors", stop_at=STOP)


def resume(folder: Path) -> dict:
    """What the other number of ranks has saved."""
    return _resume(folder / f"saved_by_{3 - world().size}.safetensors")


def _resume(checkpoint: Path, **options) -> dict:
    faces = data_sets.toy_faces(n_train=400, n_val=50, n_test=50)
    return describe(start(FACES, faces), faces, FACES, checkpoint=checkpoint, **options)


def start(config: TrainConfig, data: TaskData, n_groups: int = 3) -> GroupedNetwork:
    return branch_out(build_network(data, config), n_groups, config)


def describe(network: GroupedNetwork, data: TaskData, config: TrainConfig, **options) -> dict:
    """Train, and say what came of it in arrays."""
    history, state = fit(network, data, config, **options)
    on_test = evaluate(state.network, data.test)
    return {
        "steps": history.steps,
        "losses": history.task_losses,
        "tau": history.tau,
        "probabilities": history.probabilities,
        "branches": np.array(network.branch_ids),
        "heads": network.assignment.active.numpy(),
        "groups": network.assignment.group_of().numpy(),
        "test_losses": np.array(list(on_test.losses.values())),
        "test_errors": np.array(list(on_test.errors.values())),
        "macs": np.array(state.encoder_macs),
        "lr_scale": np.array(state.lr_scale),
        "rows": np.array([len(data.train)]),
    }


SCENES: dict[str, Callable[[Path], dict]] = {
    scene.__name__: scene for scene in (learn_faces, learn_table, learn_rooms, obey, save)
}


def play(folder: Path, scenes: dict[str, Callable[[Path], dict]]) -> None:
    """Each scene into a file of its own."""
    with doubled():
        for name, scene in scenes.items():
            told = scene(folder)
            if world().is_first:
                np.savez(folder / f"{name}_{world().size}.npz", **told)


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def take_part(rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none",
    }  # fmt: skip
    with joined():
        play(folder, {**SCENES, "resume": resume})


def main() -> int:
    folder, port = Path(sys.argv[1]), find_port()
    torch.set_num_threads(1)
    children = []
    for rank in range(2):
        child = os.fork()
        if not child:
            take_part(rank, port, folder)
            return 0
        children.append(child)
    return max(os.waitpid(child, 0)[1] for child in children) and 1


if __name__ == "__main__":
    sys.exit(main())
