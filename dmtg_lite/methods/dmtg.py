"""DMTG itself: learn the grouping while training the encoders (Gao et al., ICML 2024)."""

from __future__ import annotations

from pathlib import Path

from dmtg_lite.config import TrainConfig
from dmtg_lite.data.task_data import TaskData
from dmtg_lite.grouping import compute_agreement
from dmtg_lite.metrics import total
from dmtg_lite.methods.result import MethodResult, Stopwatch, make_result
from dmtg_lite.train import branch_out, derive_seed, evaluate, fit, pretrain


def dmtg(
    data: TaskData,
    n_groups: int,
    config: TrainConfig,
    *,
    checkpoints: str | Path | None = None,
    progress: bool = False,
) -> MethodResult:
    """Learn which tasks share an encoder, in one run from a pretrained Naive MTL network.

    With ``config.restarts`` > 1 everything is repeated, pretraining included, and the run with the
    lowest total loss on the *training* images is kept: neither test images nor planted groups take
    part in the choice. The cost of all restarts is in ``encoder_cost``.

    Args:
        data: The tasks and their images.
        n_groups: K, the largest number of groups; some may end empty.
        config: See `TrainConfig`; presets in `dmtg_lite.experiments`.
        checkpoints: Folder for checkpoints; a run found there is continued.
        progress: Show a progress bar.

    Raises:
        ValueError: If ``n_groups`` is below 1.
        FloatingPointError: If a loss stops being finite.

    Source:
        Section 3 and "Optimization" of section 4.1. Restarts are ours, and off in the paper's preset.
    """
    stopwatch, encoder_macs, restarts, best = Stopwatch(), 0, [], None
    for restart in range(config.restarts):
        seed = derive_seed(config.seed, 6, restart)
        folder = None if checkpoints is None else Path(checkpoints) / f"restart{restart}"
        label = f" {restart + 1}/{config.restarts}" if config.restarts > 1 else ""
        naive, state = pretrain(
            data, config, seed=seed, checkpoint=folder and folder / "pretrain.safetensors",
            progress=f"pretraining{label}" if progress else None,
        )  # fmt: skip
        encoder_macs += state.encoder_macs
        network = branch_out(naive, n_groups, config, seed=seed)
        history, state = fit(
            network, data, config, seed=derive_seed(seed, 4),
            checkpoint=folder and folder / "main.safetensors", progress=f"dmtg{label}" if progress else None,
        )  # fmt: skip
        encoder_macs += state.encoder_macs
        train_loss = total(evaluate(network, data.train).losses)
        groups = network.assignment.groups(data.task_names)
        entry = {"seed": seed, "train_loss": train_loss, "groups": groups}
        if data.planted_groups is not None:  # reported, never used
            entry["agreement"] = compute_agreement(groups, data.planted_groups)
        restarts.append(entry)
        if best is None or train_loss < best[0]:
            best = (train_loss, network, history)
    _, network, history = best
    history.meta["restarts"] = restarts
    return make_result(
        "dmtg", data, config, network, history,
        encoder_macs=encoder_macs, stopwatch=stopwatch, restarts=restarts,
    )  # fmt: skip
