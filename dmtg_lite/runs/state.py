"""Everything a run is between two steps, and how that becomes a checkpoint and back.

Taking the steps is `train`'s business, writing files `checkpoint`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dmtg_lite.core.assignment import drop_column
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.network import GroupedNetwork


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

    def __init__(
        self, network: GroupedNetwork, config: TrainConfig, *, seed: int | None = None
    ) -> None:
        self.network = network
        self.config = config
        self.seed = config.seed if seed is None else seed
        self.step = 0
        self.encoder_macs = 0  # multiply-adds of encoder forward passes so far
        self.noise = torch.Generator(network.device)
        self.noise.manual_seed(derive_seed(self.seed, 1))
        logits = network.assignment.logits
        weights = [p for p in network.parameters() if p is not logits]
        # by what they train; two, since S may have another rule than the weights
        self.optimizers = {"weights": _build_optimizer(config.optimiser, weights, config.lr)}
        if logits is not None:
            kind = config.optimiser_assignment or config.optimiser
            self.optimizers["assignment"] = _build_optimizer(kind, [logits], self.lr_assignment())
        self.lr_scale = 1.0  # what the schedule has made of both rates
        self.best_val_loss, self.bad_epochs = float("inf"), 0
        self.closings: list[
            dict[str, Any]
        ] = []  # one entry a closed branch, see `train.StepRecord`
        self.elbow: dict[str, Any] | None = None  # `closing.Elbow`, as JSON
        self._heads_at_start = [[task.name for task in head.tasks] for head in network.heads]
        self._spare_at_start = network.n_spare

    def lr_assignment(self) -> float:
        """Configured learning rate of S before any schedule."""
        own = self.config.lr_assignment
        return self.config.lr if own is None else own

    def set_lr(self, lr: float, lr_assignment: float) -> None:
        """Rates of the coming step, before the schedule."""
        for optimizer, rate in zip(self.optimizers.values(), (lr, lr_assignment), strict=False):
            optimizer.param_groups[0]["lr"] = rate * self.lr_scale

    def close_branch(self, index: int, next_best: Tensor) -> None:
        """Take a branch out of the network, and out of the optimisers with all they remember of it.

        What they remember of everything else stays: no average starts afresh.

        Args:
            index, next_best: See `GroupedNetwork.close_branch`.
        """
        old = self.network.assignment.logits
        self._forget(self.network.close_branch(index, next_best))
        if old is None:
            return
        new, assignment = self.network.assignment.logits, self.optimizers["assignment"]
        assignment.param_groups[0]["params"] = [new]
        averages = assignment.state.pop(old, {})
        assignment.state[new] = {
            name: drop_column(value, index)
            if value.shape == old.shape
            else value  # Adam also counts steps
            for name, value in averages.items()
        }

    def drop_pruned(self) -> bool:
        """Let go of what `Assignment.prune_below` has left unused: decoders, and branches without a
        head.

        Asks the device which heads are left. Nothing else changes: no average of a weight that
            stays
        starts afresh. True if anything left.
        """
        network = self.network
        gone = network.drop_pruned()
        self._forget(gone)
        anywhere = torch.zeros(len(network.tasks), dtype=torch.long)  # no task has to move
        empty = [k for k, used in enumerate(network.assignment.active.any(0).tolist()) if not used]
        for k in reversed(empty):
            self.close_branch(k, anywhere)
        return bool(gone or empty)

    def _forget(self, gone: Sequence[nn.Parameter]) -> None:
        """Take weights that left the network out of the optimiser, with all it remembers of them."""
        weights, left = self.optimizers["weights"], {id(weight) for weight in gone}
        group = weights.param_groups[0]
        for weight in gone:
            weights.state.pop(weight, None)
        group["params"] = [weight for weight in group["params"] if id(weight) not in left]

    def to_tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, for a checkpoint."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for trains, optimizer in self.optimizers.items():
            for index, entry in optimizer.state_dict()["state"].items():
                tensors |= {
                    f"optimizer.{trains}.{index}.{name}": torch.as_tensor(value)
                    for name, value in entry.items()
                    if value is not None
                }
        tensors["noise"] = self.noise.get_state()
        return tensors

    def to_meta(self) -> dict[str, Any]:
        """The state's plain numbers, for a checkpoint."""
        return {
            "settings": self._settings(),
            "step": self.step,
            "encoder_macs": self.encoder_macs,
            "lr_scale": self.lr_scale,
            # infinity has no JSON
            "best_val_loss": None if self.best_val_loss == float("inf") else self.best_val_loss,
            "bad_epochs": self.bad_epochs,
            "branches": self.network.branch_ids,
            "n_spare": self.network.n_spare,
            "heads": [self.network.served_by(k) for k in range(self.network.n_groups)],
            "closings": self.closings,
            "elbow": self.elbow,
        }

    def _settings(self) -> dict[str, Any]:
        """What a run must have in common with the one it continues, as JSON gives it back."""
        start = {"heads": self._heads_at_start, "branches to close": self._spare_at_start}
        settings = {**asdict(self.config), "seed": self.seed, **start}
        return json.loads(json.dumps(settings))

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Continue where `to_tensors` and `to_meta` left off.

        Raises:
            ValueError: If the checkpoint belongs to another config, seed, suite or grouping.
        """
        own, found = self._settings(), meta.get("settings", {})
        if own != found:
            other = [key for key in own | found if own.get(key) != found.get(key)]
            was, now = (
                ", ".join(_show(key, one.get(key)) for key in other) for one in (found, own)
            )
            raise ValueError(
                f"the checkpoint was made with {was}; this run has {now}. "
                "Resume with the same settings, or start in a new folder."
            )

        def named(prefix: str) -> dict[str, Tensor]:
            return {
                key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)
            }

        network = self.network
        for branch in [number for number in network.branch_ids if number not in meta["branches"]]:
            index = network.branch_ids.index(branch)
            anywhere = torch.full((len(network.tasks),), int(index == 0))  # S is read next
            self.close_branch(index, anywhere)
        network.n_spare = meta["n_spare"]
        for k, served in enumerate(meta["heads"]):
            network.assignment.active[[n for n in network.served_by(k) if n not in served], k] = (
                False
            )
        self._forget(network.drop_pruned())
        network.load_state_dict(named("network."))
        for trains, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            for key, value in named(f"optimizer.{trains}.").items():
                index, name = key.split(".")
                state["state"].setdefault(int(index), {})[name] = value
            optimizer.load_state_dict(state)
            # fused Adam walks raw memory: an average must lie there as its channels_last weight
            # does
            for weight, entry in optimizer.state.items():
                for name, value in entry.items():
                    if value.shape == weight.shape:
                        entry[name] = torch.empty_like(weight).copy_(value)
        self.noise.set_state(tensors["noise"])
        self.step, self.encoder_macs = meta["step"], meta["encoder_macs"]
        self.lr_scale, self.bad_epochs = meta["lr_scale"], meta["bad_epochs"]
        self.best_val_loss = (
            float("inf") if meta["best_val_loss"] is None else meta["best_val_loss"]
        )
        self.closings, self.elbow = meta["closings"], meta["elbow"]


def _build_optimizer(kind: str, weights: list[Tensor], lr: float) -> torch.optim.Optimizer:
    if kind == "adam":
        return torch.optim.Adam(weights, lr=lr, fused=True)
    return torch.optim.SGD(weights, lr=lr, momentum=0.9, fused=True)


def _show(key: str, value: Any) -> str:
    """One differing setting, short enough for a line: heads by their number in each branch."""
    if key == "heads" and value is not None:
        return f"K={len(value)} with {[len(tasks) for tasks in value]} heads ({', '.join(value[0][:3])}, ...)"
    return f"{key}={value!r}"
