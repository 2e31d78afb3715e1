"""DMTG itself: learn the grouping while training the encoders (Gao et al., ICML 2024)."""

from __future__ import annotations

import json
from contextlib import nullcontext
from math import ceil
from typing import Any

from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.groups import compute_agreement
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.files import write_atomically
from dmtg_lite.methods.door import method
from dmtg_lite.runs.jobs import Workers, as_workers, held, run_jobs
from dmtg_lite.runs.parallel import world
from dmtg_lite.runs.result import MethodResult, Stopwatch, make_result
from dmtg_lite.runs.run import Run
from dmtg_lite.runs.saving import UNSAVED, Saving
from dmtg_lite.runs.together import train_together
from dmtg_lite.schema import AnyFloat, read_json

_KEEP_ONE_OF = 4  # successive halving, with quarters: 8 restarts become 2, then 1


@method
def dmtg(
    data: TaskData, n_groups: NGroups, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """Learn which tasks share an encoder, in one run from a pretrained Naive MTL network.

    With ``config.spare`` more branches are opened than K and closed again while training, each time
    the one that is missed least on the training rows: see `runs.spare`. What the closings cost is
    in ``result.closings`` and ``result.elbow`` (`views.plots.plot_closing_costs` draws it).

    With ``config.restarts.n`` > 1 all is repeated, pretraining included, and the run with the
    lowest total loss on the *training* rows is kept: neither test rows nor planted groups take
    part in the choice. ``halve_every`` ends the worse restarts early. The cost of all of
    them is in ``encoder_cost``. Where nothing is saved on the way, restarts of a small network
    train as one program (`runs.together`): what each gives alone, but for rounding.

    Args:
        data: The tasks and their data.
        n_groups: K, the largest number of groups; some may end empty. ``"auto"``: read K off the
            closing costs; see `runs.spare` and `TrainConfig.count_branches`.
        config: See `TrainConfig`; presets in `dmtg_lite.experiments`. ``None``, in every method:
            `recipe.choose_recipe`.
        saving: Checkpoints and progress bar.
        encoder: Of every method: a name, a module or a list of stages in place of the config's; see
            `encoders.register`.

    Raises:
        ValueError: Also if the run is too short to close all spare branches.
        FloatingPointError: If a loss stops being finite.

    Source:
        Section 3 and "Optimization" of section 4.1. Spare branches and restarts are ours, and off
        in the paper's preset.
    """
    _check_restarts(n_groups, config)
    stopwatch, workers = Stopwatch(), as_workers(saving.jobs).on_device(data.device)
    is_spread = config.restarts.n > 1 and not workers.is_here
    with saving.kept() if is_spread else nullcontext(saving) as kept, held(workers):
        restarts = [
            _Restart(data, n_groups, config, i, kept.below("dmtg"))
            for i in range(config.restarts.n)
        ]
        n_steps = restarts[0].run.n_steps
        every = config.restarts.halve_every or n_steps
        running = restarts
        for stop_at in [*range(every, n_steps, every), n_steps]:
            if is_spread:
                _spread(running, stop_at, workers, saving.progress)
            else:
                train_together([restart.run for restart in running], stop_at)
            for restart in running:
                restart.train_until(stop_at)
            running = sorted(running, key=lambda restart: restart.train_loss)
            running = running[: ceil(len(running) / _KEEP_ONE_OF)]
    best = running[0].run
    macs = sum(restart.run.encoder_macs for restart in restarts)
    return make_result(
        "dmtg", data, config, best.network, best.history, encoder_macs=macs,
        stopwatch=stopwatch, restarts=[restart.describe() for restart in restarts],
        saving=saving,
    )  # fmt: skip


def _spread(restarts: list[_Restart], step: int, workers: Workers, progress: bool) -> None:
    """Let workers train restarts up to a step; what they did is read from the checkpoints."""
    work = [(step, *what, saving.apart()) for *what, saving in (one.asked for one in restarts)]
    run_jobs(_train_elsewhere, work, jobs=workers, progress=progress, label="restarts")
    for restart in restarts:
        restart.begin()


def _train_elsewhere(
    step: int, data: TaskData, n_groups: NGroups, config: TrainConfig, index: int, saving: Saving
) -> None:
    _Restart(data, n_groups, config, index, saving).train_until(step)


def _check_restarts(n_groups: NGroups, config: TrainConfig) -> None:
    if config.restarts.n > 1 and n_groups == "auto":
        raise ValueError(
            f'`n_groups="auto"` and `restarts.n={config.restarts.n}` do not go together: restarts '
            "are kept by training loss, which favours the run that kept most branches. Find K with "
            "one run first."
        )


class _Restart:
    """A run with a seed of its own, pretraining included, and the training loss it is kept by."""

    def __init__(
        self, data: TaskData, n_groups: NGroups, config: TrainConfig, index: int, saving: Saving
    ) -> None:
        self.asked = data, n_groups, config, index, saving
        self.train_loss = float("inf")
        self.begin()

    def begin(self) -> None:
        """From the start, or from where its checkpoints are."""
        data, n_groups, config, index, saving = self.asked
        name = f"restart{index}"
        self.run = Run(
            data,
            config,
            n_groups,
            seed=derive_seed(config.seed, Stream.RESTART, index),
            saving=saving.aside(name if config.restarts.n > 1 else "").below(name),
            label=f"dmtg {index + 1}/{config.restarts.n}",
        )

    def train_until(self, step: int) -> None:
        """Train up to a step and take the training loss there, or read both from the
        checkpoints."""
        self.run.train_until(step)
        # a resumed run may stand at a later step by now: what it scored here is on file
        score = self.run.saving.path(f"train_loss_{step}.json")
        if score is not None and world().first(score.exists):
            self.train_loss = float(world().first(lambda: read_json(score, AnyFloat)))
            return
        self.train_loss = self.run.measure_train_loss()
        if score is not None and world().is_first:
            write_atomically(score, json.dumps(self.train_loss).encode())

    def describe(self) -> dict[str, Any]:
        run, data = self.run, self.run.data
        groups = run.network.assignment.groups(data.task_names)
        steps = int(run.history.steps[-1])
        entry = {"steps": steps, "train_loss": self.train_loss, "groups": groups}
        if data.planted_groups is not None:  # reported, never used
            entry["agreement"] = compute_agreement(groups, data.planted_groups)
        return entry
