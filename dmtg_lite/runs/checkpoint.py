"""A run as one atomic file and back.

All of a file is checked against the run before any of it is loaded: a fused optimiser reads raw
memory, where an average one element short is a crash, or other numbers. What a run is, is
`core.state`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from dmtg_lite.core.config import list_decisive
from dmtg_lite.core.record import Closing, Elbow
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.cutting import close_branch, drop_heads
from dmtg_lite.runs.history import History
from dmtg_lite.runs.parallel import world
from dmtg_lite.runs.tensors import check_tensors, load_tensors, save_tensors
from dmtg_lite.schema import FieldError, check_value

FORMAT = "dmtg-checkpoint/6"
_HISTORY = (*History.ARRAYS, *History.VALIDATION)


class Settings(TypedDict):
    """What a run must have in common with the one it continues, beside its config."""

    served: list[list[str]]  # names of the tasks with a head in each branch, at the start


class Meta(TypedDict):
    """The numbers of a run that are no tensors."""

    settings: Settings
    step: int
    encoder_macs: int
    lr_scale: float
    best_val_loss: float | None
    bad_epochs: int
    branches: list[int]
    n_spare: int | None
    heads: list[list[int]]
    remembered: dict[str, list[int]]  # by what it trains, the weights an optimiser has averages of
    data: str
    closings: list[Closing]
    elbow: Elbow | None


def save_run(path: str | Path, state: TrainState, history: History, data: str) -> None:
    """Write a run between two steps; ``data`` is the fingerprint of what it trains on."""
    tensors, meta = pack(state)
    tensors |= {f"history.{name}": torch.tensor(getattr(history, name)) for name in _HISTORY}
    meta |= {"data": data, "closings": history.closings, "elbow": history.elbow}
    save_checkpoint(path, tensors, meta)


def restore_run(
    path: str | Path, state: TrainState, history: History, data: str, n_steps: int
) -> None:
    """Bring a fresh state and an empty history to where `save_run` left them.

    Raises:
        ValueError: If the checkpoint belongs to other data, config, seed, suite or grouping, or
            holds what this run cannot have left. No tensor is loaded then.
    """
    tensors, meta = world().first(lambda: load_checkpoint(path))
    try:
        check_value(meta, Meta)
        _check_origin(state, meta, data, path)
        _check_numbers(state, meta, n_steps)
        _cut_to_size(state, meta)
        check_tensors(tensors, _list_tensors(state, history, tensors, meta["remembered"]))
        _check_values(state, tensors, meta["step"])
        arrays = {name: tensors[f"history.{name}"].numpy() for name in _HISTORY}
        history.restore(arrays, meta["closings"], meta["elbow"])
    except FieldError as error:
        raise ValueError(
            f"{path} is not a checkpoint that this run can have left ({error}). Delete it, or "
            "start in a new folder."
        ) from None
    unpack(state, tensors, meta)


def pack(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A run between two steps as named tensors and plain numbers, the same of either form."""
    state.unstack()
    network = state.network
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for trains, optimizer in state.optimizers.items():
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{trains}.{index}.{name}": torch.as_tensor(value)
                for name, value in entry.items()
                if value is not None
            }
    tensors["noise"] = state.noise.get_state()
    meta = {
        "settings": _settings(state),
        "step": state.step,
        "encoder_macs": state.encoder_macs,
        "lr_scale": state.lr_scale,
        "best_val_loss": None if state.best_val_loss == inf else state.best_val_loss,
        "bad_epochs": state.bad_epochs,
        "branches": list(network.branch_ids),
        "n_spare": network.n_spare,
        "heads": [head.served for head in network.heads],
        "remembered": {
            trains: sorted(optimizer.state_dict()["state"])
            for trains, optimizer in state.optimizers.items()
        },
    }
    return tensors, meta


def unpack(state: TrainState, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Continue where `pack` left off, in a state of the same size that has not taken a step."""
    state.network.load_state_dict(_below("network.", tensors))
    for trains, optimizer in state.optimizers.items():
        _load_optimizer(optimizer, _below(f"optimizer.{trains}.", tensors))
    state.noise.set_state(tensors["noise"])
    state.step, state.encoder_macs = meta["step"], meta["encoder_macs"]
    state.lr_scale, state.bad_epochs = meta["lr_scale"], meta["bad_epochs"]
    state.best_val_loss = inf if meta["best_val_loss"] is None else meta["best_val_loss"]


def _check_origin(state: TrainState, meta: dict[str, Any], data: str, path: str | Path) -> None:
    """Refuse what another run left, whatever its numbers."""
    if meta["data"] != data:
        raise ValueError(
            f"the checkpoint {path} was made on {meta['data']}; this run has {data}. Resume with "
            "the same data, or start in a new folder."
        )
    own, found = _settings(state), meta["settings"]
    if own != found:
        other = [key for key in own | found if own.get(key) != found.get(key)]
        was, now = (", ".join(_show(key, one.get(key)) for key in other) for one in (found, own))
        raise ValueError(
            f"the checkpoint {path} was made with {was}; this run has {now}. Resume with the same "
            "settings, or start in a new folder."
        )


def _check_numbers(state: TrainState, meta: dict[str, Any], n_steps: int) -> None:
    """Refuse what the numbers of this run cannot be, closed branches and dropped heads included.

    Raises:
        FieldError: With the field's name.
    """
    network, branches, heads = state.network, meta["branches"], meta["heads"]
    if not 1 <= meta["step"] <= n_steps:
        raise FieldError(f"`step` must be from 1 to {n_steps}, got {meta['step']}")
    if not 0 < meta["lr_scale"] <= 1:
        raise FieldError(f"`lr_scale` must be above 0 and at most 1, got {meta['lr_scale']}")
    own = network.branch_ids
    left = [branch for branch in own if branch in branches]
    if not left or left != branches or (network.assignment.is_fixed and left != own):
        raise FieldError(f"`branches` must be of {own}, got {branches}")
    served = [network.heads[own.index(branch)].served for branch in branches]
    kept = [[n for n in all_ if n in some] for all_, some in zip(served, heads, strict=False)]
    if heads != (served if network.heads[0].is_fused else kept) or len(heads) != len(served):
        raise FieldError(f"`heads` must be of {served}, got {heads}")
    spare, most = meta["n_spare"], len(branches) - 1
    if network.n_spare is not None:
        most = min(most, network.n_spare)
    if (spare is None and network.n_spare is not None) or (spare or 0) > most:
        raise FieldError(f"`n_spare` must be at most {most}, got {spare}")


def _list_tensors(
    state: TrainState,
    history: History,
    tensors: Mapping[str, Tensor],
    remembered: Mapping[str, list[int]],
) -> dict[str, Tensor]:
    """Names, types and shapes of all that `save_run` writes of this run, by example."""
    wanted = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    if remembered.keys() != state.optimizers.keys():
        raise FieldError(f"`remembered` must be of {list(state.optimizers)}, got {remembered}")
    for trains, optimizer in state.optimizers.items():
        is_adam = isinstance(optimizer, torch.optim.Adam)
        weights = optimizer.param_groups[0]["params"]
        if unknown := set(remembered[trains]) - set(range(len(weights))):
            raise FieldError(f"`remembered.{trains}` has no weights {sorted(unknown)}")
        for index in remembered[trains]:
            below = f"optimizer.{trains}.{index}."
            names = ("exp_avg", "exp_avg_sq") if is_adam else ("momentum_buffer",)
            wanted |= {below + name: weights[index] for name in names}
            wanted |= {below + "step": torch.tensor(0.0)} if is_adam else {}
    for names in (History.ARRAYS, History.VALIDATION):
        steps = tensors.get(f"history.{names[0]}")
        for name in names:
            empty = torch.tensor(getattr(history, name), device="meta")
            length = 0 if steps is None else steps.numel()
            wanted[f"history.{name}"] = empty.new_empty((length, *empty.shape[1:]))
    return wanted | {"noise": state.noise.get_state()}


def _check_values(state: TrainState, tensors: Mapping[str, Tensor], step: int) -> None:
    """Refuse values, of the right type and shape, that no run could have left."""
    for name, tensor in tensors.items():
        if name.startswith("optimizer.") and name.endswith(".step") and not 1 <= tensor <= step:
            raise FieldError(f"`{name}` must be from 1 to {step}, got {float(tensor)}")
    if not tensors["network.assignment.active"].any(1).all():
        raise FieldError("`network.assignment.active` leaves a task without a head")
    for name in (History.ARRAYS[0], History.VALIDATION[0]):
        if (tensors[f"history.{name}"] > step).any():
            raise FieldError(f"`history.{name}` must end at step {step}")
    try:
        torch.Generator(state.noise.device).set_state(tensors["noise"])
    except RuntimeError as error:  # torch's own check of what it is given
        raise FieldError(f"`noise` is no state of a generator: {error}") from None


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def _cut_to_size(state: TrainState, meta: dict[str, Any]) -> None:
    """Close the branches and drop the heads that the saved run no longer had."""
    network = state.network
    for branch in [number for number in network.branch_ids if number not in meta["branches"]]:
        index = network.branch_ids.index(branch)
        anywhere = torch.full((len(network.tasks),), int(index == 0))  # S is read next
        close_branch(state, index, anywhere)
    network.n_spare = meta["n_spare"]
    for k, served in enumerate(meta["heads"]):
        gone = [n for n in network.heads[k].served if n not in served]
        network.assignment.active[gone, k] = False
    drop_heads(state)


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state = optimizer.state_dict()
    for key, value in tensors.items():
        index, name = key.split(".")
        state["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(state)
    # fused Adam walks raw memory: an average must lie there as its channels_last weight does
    for weight, entry in optimizer.state.items():
        for name, value in entry.items():
            if value.shape == weight.shape:
                entry[name] = torch.empty_like(weight).copy_(value)


def _settings(state: TrainState) -> dict[str, Any]:
    """What a run must have in common with the one it continues, as JSON gives it back."""
    start = {"served": state.heads_at_start, "branches to close": state.spare_at_start}
    config = list_decisive(asdict(state.config))
    return json.loads(json.dumps({**config, "seed": state.seed, **start}))


def _show(key: str, value: Any) -> str:
    """One differing setting, short enough for a line: heads by their number in each branch."""
    if key == "served" and value:
        first = ", ".join(value[0][:3])
        return f"K={len(value)} with {[len(tasks) for tasks in value]} heads ({first}, ...)"
    return f"{key}={value!r}"


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and meta to ``path``, in this version's format; see `save_tensors`."""
    save_tensors(path, tensors, meta, format=FORMAT)


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote, onto the CPU; see `load_tensors`."""
    return load_tensors(path, format=FORMAT, what="checkpoint")[:2]
