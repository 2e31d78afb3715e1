"""A spare branch closes in the middle of a run: look at the losses, choose, move its tasks, let go
of it.

By which rule is `closing`'s business, after which step the training loop's.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.runs.closing import compute_closing_costs, find_next_best, imagine_closings
from dmtg_lite.runs.evaluate import evaluate_heads
from dmtg_lite.runs.state import TrainState, derive_seed

_PROBE_IMAGES = 1024  # that say which branch is missed least


def check_closings(config: TrainConfig, n_branches: int, n_spare: int | None, n_steps: int) -> None:
    """Refuse a run that would end with spare branches still open.

    Args:
        config: Says when branches close.
        n_branches, n_spare: As `TrainConfig.count_branches` gives them; None: perhaps all but one.
        n_steps: Of the run, without pretraining.

    Raises:
        ValueError: With the step at which the last one would close.
    """
    n_closings = n_branches - 1 if n_spare is None else n_spare
    last = config.close_from + (n_closings - 1) * config.close_every
    if n_closings and last > n_steps:
        raise ValueError(
            f"{n_closings} branches are to close, the last after step {last} (`close_from` "
            f"{config.close_from}, one every {config.close_every}), but the run has {n_steps} "
            "steps. "
            "Train longer, close earlier or more often, or open fewer `spare_branches`."
        )


def close_branch(state: TrainState, batches: Batches, batch_macs: int) -> dict[str, Any] | None:
    """Close one spare branch of a run, and settle K first where that was left to the costs.

    Asks the device for values, which no ordinary step does.

    Args:
        state: Between two steps; its network, optimisers, closings and cost change.
        batches: The training images, which tell which branch is missed least.
        batch_macs: Encoder multiply-adds of one batch's forward pass, for the cost.

    Returns:
        What `train.StepRecord` tells of a closing; None if K branches were open already.

    Raises:
        FloatingPointError: If a loss is not finite, so that no branch can be called missed least.

    Source:
        Ours; the rule is `closing.compute_closing_costs`.
    """
    network, config = state.network, state.config
    loss_matrix = _probe(state, batches, batch_macs)
    if not loss_matrix.isfinite().all():
        bad = network.tasks[int((~loss_matrix.isfinite()).any(1).nonzero()[0])].name
        raise FloatingPointError(
            f"the loss of task {bad!r} is not finite at step {state.step}, where a branch is to "
            "close. "
            "Lower `lr`, or check the images and labels."
        )
    group_of = network.assignment.group_of().cpu()
    if state.elbow is None:
        state.elbow = asdict(imagine_closings(loss_matrix, group_of))
    if network.n_spare is None:
        network.n_spare = network.n_groups - state.elbow["n_groups"]
        if not network.n_spare:
            return None
    costs = compute_closing_costs(loss_matrix, group_of)
    if config.close_rule == "random":
        rng = np.random.default_rng(derive_seed(state.seed, 8, state.step))
        index = int(rng.integers(network.n_groups))
    else:
        index = int(costs.argmin())
    next_best, open_ = find_next_best(loss_matrix, index), list(network.branch_ids)
    closing = {
        "step": state.step,
        "branch": open_[index],
        "cost": float(costs[index]),
        "branches": open_,
        "costs": costs.tolist(),
        "moved": {
            task.name: open_[int(next_best[n])]
            for n, task in enumerate(network.tasks)
            if group_of[n] == index
        },
    }
    state.close_branch(index, next_best)
    state.closings.append(closing)
    return closing


@torch.no_grad()
def _probe(state: TrainState, batches: Batches, batch_macs: int) -> Tensor:
    """Mean loss matrix over about a thousand training images, always the same ones: (N, K), on the CPU."""
    network, config = state.network, state.config
    size = min(config.batch_size, len(batches))
    n_batches = max(1, min(_PROBE_IMAGES, len(batches)) // size)
    shuffle = torch.Generator().manual_seed(derive_seed(state.seed, 9))
    rows = torch.randperm(len(batches), generator=shuffle)[: n_batches * size].to(
        batches.split.images.device
    )
    with torch.autocast(
        network.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
    ):
        matrix = evaluate_heads(network, batches, rows.split(size))
    network.train()
    state.encoder_macs += n_batches * batch_macs // 3  # forward only: a third of a training step
    if config.normalise_losses:  # as the loss that is trained
        matrix = matrix / matrix.mean(1, keepdim=True).clamp_min(1e-12)
    return matrix.cpu()
