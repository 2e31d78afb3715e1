"""DMTG itself: learn the grouping while training the encoders (Gao et al., ICML 2024)."""

from __future__ import annotations

import json
from math import ceil
from typing import Any

from dmtg_lite.core.assignment import compute_agreement
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.files import write_atomically
from dmtg_lite.methods.result import MethodResult, Stopwatch, make_result
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.history import History
from dmtg_lite.runs.metrics import total
from dmtg_lite.runs.saving import UNSAVED, Saving
from dmtg_lite.runs.spare import check_closings
from dmtg_lite.runs.state import TrainState, derive_seed
from dmtg_lite.runs.train import branch_out, fit, pretrain

_KEEP_ONE_OF = 4  # successive halving, with quarters: 8 restarts become 2, then 1


def dmtg(
    data: TaskData, n_groups: int | str, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """Learn which tasks share an encoder, in one run from a pretrained Naive MTL network.

    With ``config.spare_branches`` more branches are opened than K and closed again while training,
    each
    time the one that is missed least on the training images: see `dmtg_lite.runs.closing`. What the
        closings
    cost is in ``result.closings`` and ``result.elbow`` (`plots.plot_closing_costs` draws it).

    With ``config.restarts`` > 1 everything is repeated, pretraining included, and the run with the
    lowest total loss on the *training* images is kept: neither test images nor planted groups take
    part in the choice. ``config.halve_every`` ends the worse restarts early. The cost of all of
    them is in ``encoder_cost``.

    Args:
        data: The tasks and their images.
        n_groups: K, the largest number of groups; some may end empty. ``"auto"``: read K off the
            closing costs; see `dmtg_lite.runs.closing` and `TrainConfig.count_branches`.
        config: See `TrainConfig`; presets in `dmtg_lite.experiments`.
        saving: Checkpoints and progress bar.

    Raises:
        ValueError: If ``n_groups`` is below 1, or the run is too short to close all spare branches.
        FloatingPointError: If a loss stops being finite.

    Source:
        Section 3 and "Optimization" of section 4.1. Spare branches and restarts are ours, and off
        in the paper's preset.
    """
    # what will be refused is refused before the pretraining, not after it
    n_steps = config.count_steps(len(data.train))[1]
    check_closings(config, *config.count_branches(n_groups, len(data.tasks)), n_steps)
    if n_groups == "auto" and config.restarts > 1:
        raise ValueError(
            f'`n_groups="auto"` and `restarts={config.restarts}` do not go together: restarts are '
            "kept by "
            "training loss, which favours the run that kept most branches. Find K with one run "
            "first."
        )
    stopwatch = Stopwatch()
    runs = [
        _Run(data, n_groups, config, restart, saving.below("dmtg"))
        for restart in range(config.restarts)
    ]
    every = config.halve_every or n_steps
    running = runs
    for stop_at in [*range(every, n_steps, every), n_steps]:
        for run in running:
            run.train_until(stop_at)
        running = sorted(running, key=lambda run: run.train_loss)[
            : ceil(len(running) / _KEEP_ONE_OF)
        ]
    best = running[0]  # sorted by training loss
    restarts = [run.describe() for run in runs]
    best.history.meta["restarts"] = restarts
    return make_result(
        "dmtg", data, config, best.network, best.history,
        encoder_macs=sum(run.encoder_macs for run in runs), stopwatch=stopwatch, restarts=restarts,
    )  # fmt: skip


class _Run:
    """One restart: its own pretraining, network and checkpoints."""

    def __init__(
        self, data: TaskData, n_groups: int | str, config: TrainConfig, restart: int, saving: Saving
    ) -> None:
        self.data, self.config = data, config
        self.seed = derive_seed(config.seed, 6, restart)
        self.saving = saving.below(f"restart{restart}")
        self.label = f"dmtg {restart + 1}/{config.restarts}"
        naive, self.pretrained = pretrain(
            data, config, seed=self.seed, **self.saving.of("pretrain", f"{self.label} pretraining")
        )
        self.network = branch_out(naive, n_groups, config, seed=self.seed)
        self.run: tuple[History, TrainState] | None = None
        self.train_loss = float("inf")

    @property
    def history(self) -> History:
        return self.run[0]

    @property
    def encoder_macs(self) -> int:
        return self.pretrained.encoder_macs + self.run[1].encoder_macs

    def train_until(self, step: int) -> None:
        """Train up to a step and take the training loss there, or read both from the checkpoints."""
        self.run = fit(
            self.network, self.data, self.config, stop_at=step, seed=derive_seed(self.seed, 4), run=self.run,
            **self.saving.of("main", self.label),
        )  # fmt: skip
        # a resumed run may stand at a later step by now: what it scored here is on file
        score = self.saving.path(f"train_loss_{step}.json")
        if score is not None and score.exists():
            self.train_loss = json.loads(score.read_text())
            return
        self.train_loss = total(evaluate(self.network, self.data.train, with_errors=False).losses)
        if score is not None:
            write_atomically(score, json.dumps(self.train_loss).encode())

    def describe(self) -> dict[str, Any]:
        groups = self.network.assignment.groups(self.data.task_names)
        entry = {
            "steps": int(self.history.steps[-1]),
            "train_loss": self.train_loss,
            "groups": groups,
        }
        if self.data.planted_groups is not None:  # reported, never used
            entry["agreement"] = compute_agreement(groups, self.data.planted_groups)
        return entry
