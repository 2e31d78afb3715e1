"""Everything a run is between two steps, and how that becomes a checkpoint and back.

Taking the steps is `train`'s business, writing files `checkpoint`'s.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.config import TrainConfig
from dmtg_lite.network import GroupedNetwork


def derive_seed(seed: int, *path: int) -> int:
    """An independent seed for one purpose of a run: (restart, phase, ...), stable across machines."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0])


class TrainState:
    """Everything a run is between two steps, and so everything a checkpoint holds.

    Args:
        network: Trained in place.
        config: As given by the user.
        seed: Seed of batches and noise; ``None``: the config's.
    """

    def __init__(self, network: GroupedNetwork, config: TrainConfig, *, seed: int | None = None) -> None:
        self.network = network
        self.config = config
        self.seed = config.seed if seed is None else seed
        self.step = 0
        self.encoder_macs = 0  # multiply-adds of encoder forward passes so far
        self.noise = torch.Generator(network.device)
        self.noise.manual_seed(derive_seed(self.seed, 1))
        logits = network.assignment.logits
        weights = [p for p in network.parameters() if p is not logits]
        groups = [{"params": weights, "lr": config.lr}]
        if logits is not None:
            groups.append({"params": [logits], "lr": self.lr_assignment()})
        self.optimizer = (
            torch.optim.Adam(groups, lr=config.lr, fused=True)
            if config.optimiser == "adam"
            else torch.optim.SGD(groups, lr=config.lr, momentum=0.9, fused=True)
        )
        self.lr_scale = 1.0  # what the schedule has made of both rates
        self.best_val_loss, self.bad_epochs = float("inf"), 0

    def lr_assignment(self) -> float:
        """Configured learning rate of S before any schedule."""
        own = self.config.lr_assignment
        return self.config.lr if own is None else own

    def to_tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, for a checkpoint."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{name}": torch.as_tensor(value)
                for name, value in entry.items()
                if value is not None
            }
        tensors["noise"] = self.noise.get_state()
        return tensors

    def to_meta(self) -> dict[str, Any]:
        """The state's plain numbers, for a checkpoint."""
        return {
            "settings": self._settings(), "step": self.step,
            "encoder_macs": self.encoder_macs, "lr_scale": self.lr_scale,
            # infinity has no JSON
            "best_val_loss": None if self.best_val_loss == float("inf") else self.best_val_loss,
            "bad_epochs": self.bad_epochs,
        }  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        """What a run must have in common with the one it continues, as JSON gives it back."""
        heads = [[task.name for task in head.tasks] for head in self.network.heads]
        return json.loads(json.dumps({**asdict(self.config), "seed": self.seed, "heads": heads}))

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Continue where `to_tensors` and `to_meta` left off.

        Raises:
            ValueError: If the checkpoint belongs to another config, seed, suite or grouping.
        """
        own, found = self._settings(), meta.get("settings", {})
        if own != found:
            other = [key for key in own | found if own.get(key) != found.get(key)]
            was, now = (", ".join(_show(key, one.get(key)) for key in other) for one in (found, own))
            raise ValueError(
                f"the checkpoint was made with {was}; this run has {now}. "
                "Resume with the same settings, or start in a new folder."
            )

        def named(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}

        self.network.load_state_dict(named("network."))
        state = self.optimizer.state_dict()
        for key, value in named("optimizer.").items():
            index, name = key.split(".")
            state["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(state)
        # fused Adam walks raw memory: an average must lie there as its channels_last weight does
        for weight, entry in self.optimizer.state.items():
            for name, value in entry.items():
                if value.shape == weight.shape:
                    entry[name] = torch.empty_like(weight).copy_(value)
        self.noise.set_state(tensors["noise"])
        self.step, self.encoder_macs = meta["step"], meta["encoder_macs"]
        self.lr_scale, self.bad_epochs = meta["lr_scale"], meta["bad_epochs"]
        self.best_val_loss = float("inf") if meta["best_val_loss"] is None else meta["best_val_loss"]


def _show(key: str, value: Any) -> str:
    """One differing setting, short enough for a line: heads by their number in each branch."""
    if key == "heads" and value is not None:
        return f"K={len(value)} with {[len(tasks) for tasks in value]} heads ({', '.join(value[0][:3])}, ...)"
    return f"{key}={value!r}"
