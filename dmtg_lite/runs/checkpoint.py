"""A run as one atomic file and back: tensors and a JSON description in safetensors, no pickle.

A reader never sees half of one. What a run is, is `core.state`'s business.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dmtg_lite.core.state import TrainState
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.cutting import close_branch, drop_heads
from dmtg_lite.runs.history import History

FORMAT = "dmtg-checkpoint/4"


def save_run(path: str | Path, state: TrainState, history: History, data: str) -> None:
    """Write a run between two steps; ``data`` is the fingerprint of what it trains on."""
    tensors, meta = pack(state)
    tensors |= {f"history.{name}": torch.tensor(getattr(history, name)) for name in History.ARRAYS}
    meta |= {"data": data, "closings": history.closings, "elbow": history.elbow}
    save_checkpoint(path, tensors, meta)


def restore_run(path: str | Path, state: TrainState, history: History, data: str) -> None:
    """Bring a fresh state and an empty history to where `save_run` left them.

    Raises:
        ValueError: If the checkpoint belongs to other data, config, seed, suite or grouping.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("data") != data:
        raise ValueError(
            f"the checkpoint {path} was made on {meta.get('data')}; this run has {data}. Resume "
            "with the same data, or start in a new folder."
        )
    unpack(state, tensors, meta)
    history.append(*(tensors[f"history.{name}"].numpy() for name in History.ARRAYS))
    history.tell(None, meta["elbow"])
    for closing in meta["closings"]:
        history.tell(closing, None)


def pack(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A run between two steps as named tensors and plain numbers."""
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
    }
    return tensors, meta


def unpack(state: TrainState, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Continue where `pack` left off, in a state that has not taken a step.

    Raises:
        ValueError: If the checkpoint belongs to another config, seed, suite or grouping.
    """
    own, found = _settings(state), meta.get("settings", {})
    if own != found:
        other = [key for key in own | found if own.get(key) != found.get(key)]
        was, now = (", ".join(_show(key, one.get(key)) for key in other) for one in (found, own))
        raise ValueError(
            f"the checkpoint was made with {was}; this run has {now}. Resume with the same "
            "settings, or start in a new folder."
        )
    _cut_to_size(state, meta)
    state.network.load_state_dict(_below("network.", tensors))
    for trains, optimizer in state.optimizers.items():
        _load_optimizer(optimizer, _below(f"optimizer.{trains}.", tensors))
    state.noise.set_state(tensors["noise"])
    state.step, state.encoder_macs = meta["step"], meta["encoder_macs"]
    state.lr_scale, state.bad_epochs = meta["lr_scale"], meta["bad_epochs"]
    state.best_val_loss = inf if meta["best_val_loss"] is None else meta["best_val_loss"]


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
    return json.loads(json.dumps({**asdict(state.config), "seed": state.seed, **start}))


def _show(key: str, value: Any) -> str:
    """One differing setting, short enough for a line: heads by their number in each branch."""
    if key == "served" and isinstance(value, list):
        first = ", ".join(value[0][:3])
        return f"K={len(value)} with {[len(tasks) for tasks in value]} heads ({first}, ...)"
    return f"{key}={value!r}"


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and meta to ``path``: temporary file, fsync, rename.

    Killed at any moment, ``path`` holds the previous checkpoint or the new one.
    """
    content = save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        metadata={"format": FORMAT, "meta": json.dumps(meta)},
    )
    write_atomically(path, content)


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote, onto the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of this format.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(f"format {header.get('format')!r}, expected {FORMAT!r}")
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(header["meta"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is not a checkpoint of this version ({error}). Delete it, or start in a new "
            "folder."
        ) from error
