"""From a reader's own features to answers in their own words, without the data of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.data import Split
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.sealed import choose_threads, sealed
from dmtg_lite.core.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from dmtg_lite.runs.result import MethodResult

_BATCH_SIZE = 512  # as in `runs.evaluate`


def predict(result: MethodResult, features: Any, *, probabilities: bool = False) -> pd.DataFrame:
    """What `MethodResult.predict` promises; see there."""
    import pandas as pd

    if dense := [task.name for task in result.tasks if task.is_dense]:
        raise ValueError(
            f"task {dense[0]!r} predicts a picture a row, for which a table has no place: "
            "`result.network(features)` gives {task: tensor}."
        )
    told = run_network(result.network, read_features(result, features))
    columns = {}
    for task in result.tasks:
        if probabilities and not task.is_number:
            shares = told[task.name].softmax(1).numpy().T
            columns |= {
                (task.name, name): own for name, own in zip(_name(task), shares, strict=True)
            }
        elif not probabilities:
            columns[task.name] = _tell(task, told[task.name])
    if not columns:
        raise ValueError("`probabilities=True` is for tasks of classes, and here all are numbers.")
    is_table = isinstance(features, (pd.DataFrame, pd.Series))
    return pd.DataFrame(columns, index=features.index if is_table else None)


def read_features(result: MethodResult, features: Any) -> Tensor:
    """Raw features as the network takes them, read as those of the training were.

    Raises:
        ValueError: If they are of another shape, or cannot be read.
    """
    read = features if result.reader is None else result.reader.read(features)
    tensor = Split(read, {}).features
    expected, shape = result.feature_shape, tuple(tensor.shape[1:])
    if expected is not None and shape != tuple(expected):
        raise ValueError(
            f"`features` must be rows of shape {tuple(expected)}, as in the training on "
            f"{result.data!r}, got {len(tensor)} of {shape}."
        )
    return tensor


def run_network(network: GroupedNetwork, features: Tensor) -> dict[str, Tensor]:
    """Outputs of every task on the CPU, in batches, by a network in evaluation mode."""
    with sealed(choose_threads(network, features.shape[1:], _BATCH_SIZE)), torch.no_grad():
        network.eval()
        parts = [network(part.to(network.device)) for part in features.split(_BATCH_SIZE)]
        return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def _name(task: Task) -> tuple[Any, ...]:
    """The classes as the data call them, or their numbers."""
    return task.classes or tuple(range(task.n_outputs))


def _tell(task: Task, outputs: Tensor) -> np.ndarray:
    """Numbers in the task's unit (n,); or the most probable class of each row, by its name."""
    if task.is_number:
        return outputs[:, 0].numpy()
    names = np.array(_name(task))
    if len({type(name) for name in task.classes}) > 1:  # numpy would turn 1 and "1" into one
        names = np.array(task.classes, dtype=object)
    return names[outputs.argmax(1).numpy()]
