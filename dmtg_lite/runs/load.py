"""A result back from its folder, with a network that predicts; no data are needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from math import prod
from pathlib import Path
from typing import Any, get_type_hints

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.groups import labels_from_groups
from dmtg_lite.core.reading import Reader
from dmtg_lite.core.record import Closing, Elbow
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import METRICS, Task
from dmtg_lite.runs.fit import build_naive
from dmtg_lite.runs.history import History
from dmtg_lite.runs.result import NETWORK_FORMAT, NUMBERS, RUN, WEIGHTS, MethodResult, Numbers
from dmtg_lite.runs.tensors import check_tensors, load_tensors
from dmtg_lite.schema import AnyFloat, FieldError, check_value, read_json

_HINTS = get_type_hints(MethodResult, include_extras=True)
_NEWER = {  # not in what older versions wrote
    "affinity": _HINTS["affinity"],
    "n_trials": _HINTS["n_trials"],
    "feature_shape": _HINTS["feature_shape"],
    "reader": _HINTS["reader"],
    "world_size": _HINTS["world_size"],
    "constant_losses": _HINTS["constant_losses"],
    "constant_errors": _HINTS["constant_errors"],
    "tasks": list[Task],
    "network": str,
}
_ALWAYS = {name: _HINTS[name] for name in _HINTS if name not in ("history", "network", *_NEWER)} | {
    "seconds": {"wall": float, "cpu": float},
    "config": dict[str, Any],
    "metrics": dict[str, str],
    "closings": list[Closing],
    "elbow": Elbow | None,
    "final_probabilities": list[list[AnyFloat]],
}


def read_numbers(path: str | Path) -> Numbers:
    """The numbers of a result as `MethodResult.to_json` gave them, checked.

    Raises:
        FileNotFoundError: If there is no such file.
        FieldError: If a value is missing or of another form; the message names file and field.
    """
    numbers = read_json(path, _ALWAYS)
    if "image_shape" in numbers:  # its name when all features were pictures
        numbers["feature_shape"] = numbers.pop("image_shape")
    try:
        check_value(numbers, {name: hint for name, hint in _NEWER.items() if name in numbers})
        _check_names(numbers)
    except FieldError as error:
        raise FieldError(f"{path}: {error}") from None
    return numbers


def _check_names(numbers: Numbers) -> None:
    """Refuse numbers that are not of one and the same list of tasks."""
    names = sorted(numbers["metrics"])
    grouped = {
        "task_losses": list(numbers["task_losses"]),
        "task_errors": list(numbers["task_errors"]),
        "groups": [name for group in numbers["groups"] for name in group],
        "trained_groups": list({name for group in numbers["trained_groups"] for name in group}),
    }
    for part, found in grouped.items():
        if sorted(found) != names:
            raise FieldError(f"`{part}` must name each task of `metrics`, {names}, once.")
    if unknown := set(numbers["metrics"].values()) - set(METRICS):
        raise FieldError(f"`metrics` has unknown ones: {sorted(unknown)}.")
    rows = numbers["final_probabilities"]
    if len(rows) != len(names) or len({len(row) for row in rows}) != 1:
        raise FieldError(f"`final_probabilities` must have {len(names)} rows of one length.")


@sealed()
def load_result(folder: str | Path) -> MethodResult:
    """Read what `MethodResult.save` or ``dmtg-lite train`` wrote, onto the CPU.

    ``load_result(folder).network(features)`` predicts what the saved network predicted, bit for bit
    where that was on a CPU too.

    Raises:
        FileNotFoundError: If a file of the three is missing.
        ValueError: If one is damaged, belongs to another result, or was written by a version that
            did not keep what a network is rebuilt from.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise FileNotFoundError(
            f"{folder} is {what}: pass the folder that a result was saved into."
        )
    numbers = read_numbers(folder / NUMBERS)
    if not numbers.get("feature_shape") or not {"tasks", "network"} <= numbers.keys():
        raise ValueError(
            f"{folder / NUMBERS} was written by a version that did not keep what a network is "
            f"rebuilt from. Its numbers are there to read, and `History.load` opens {RUN}; to have "
            "the network, train again."
        )
    history = History.load(folder / RUN)
    tensors, _, checksum = load_tensors(folder / WEIGHTS, format=NETWORK_FORMAT, what="network")
    if checksum != numbers["network"]:
        raise ValueError(f"{folder / WEIGHTS} belongs to another result than {NUMBERS} beside it.")
    try:
        rebuilt = _rebuild(numbers)
        network = rebuilt["network"]
        check_tensors(tensors, network.state_dict())
    except (ValueError, TypeError, RuntimeError) as error:  # torch's own, of sizes beyond memory
        raise ValueError(f"{folder / NUMBERS} describes no network: {error}") from error
    if history.task_names != [task.name for task in network.tasks]:
        raise ValueError(f"{folder / RUN} belongs to another result than {NUMBERS} beside it.")
    network.load_state_dict(tensors)
    whole = {f.name: numbers[f.name] for f in fields(MethodResult) if f.name in numbers}
    whole |= rebuilt
    whole["history"] = history
    return MethodResult(**whole)


def _rebuild(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result's JSON what is not plain: config, shape, reader, and the form of the network."""
    tasks = tuple(Task(**task) for task in numbers["tasks"])
    shape = tuple(numbers["feature_shape"])
    if not 1 <= len(shape) <= 3 or not prod(shape):
        raise FieldError(f"`feature_shape` must be one to three sizes above 0, got {list(shape)}")
    config = TrainConfig.from_json(numbers["config"])
    # the encoder's first weights are of no use: its last ones are in the file
    plain = replace(config, pretrained=None)
    naive = build_naive(tasks, shape, plain)
    groups = numbers["groups"]
    labels = labels_from_groups(groups, [task.name for task in tasks])
    network = naive.branch_out(len(groups), group_of=labels)
    reader = numbers.get("reader")
    return {
        "config": config,
        "feature_shape": shape,
        "network": network.eval(),
        "reader": None if reader is None else Reader.from_json(reader),
    }
