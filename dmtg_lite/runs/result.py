"""What every method returns: one `MethodResult`, whatever trained it.

Methods share the signature ``(data, n_groups, config) -> MethodResult``; how groups are found is
theirs.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.groups import Groups, compute_agreement
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.reading import Reader
from dmtg_lite.core.record import Closing, Elbow
from dmtg_lite.core.tasks import Task
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.evaluate import evaluate, evaluate_constant
from dmtg_lite.runs.fit import build_network
from dmtg_lite.runs.history import About, History
from dmtg_lite.runs.metrics import find_unlearned, pair_gains, relative_error, sum_errors, total
from dmtg_lite.runs.parallel import world
from dmtg_lite.runs.predict import predict
from dmtg_lite.runs.report import Report
from dmtg_lite.runs.saving import UNSAVED, Saving
from dmtg_lite.runs.tensors import save_tensors
from dmtg_lite.schema import AnyFloat

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS, RUN, NUMBERS = "network.safetensors", "run.npz", "result.json"
NETWORK_FORMAT = "dmtg-network/1"
Numbers = dict[str, Any]
"""What `MethodResult.to_json` gives; `load.read_numbers` reads it back."""


_JUDGED = (
    "metrics", "n_test", "task_errors", "task_losses", "constant_errors", "constant_losses"
)  # fmt: skip


class UnlearnedWarning(UserWarning):
    """A run ended with tasks that it answers no better than a constant would."""


@dataclass(frozen=True, slots=True)
class MethodResult:
    """A trained grouping and how it did on the test split.

    Args:
        method: Short name, e.g. ``"dmtg"``.
        groups: Task names by group; empty groups are dropped.
        task_losses, task_errors: ``{task: value}`` on test; errors in the unit of each task's
            metric, percent for classifications.
        train_loss: Total loss of the final network on the training rows.
        history: The recorded run (of the kept restart).
        network: Pruned: N heads; ``network(features)`` gives ``{task: prediction}``.
        encoder_macs: Encoder multiply-adds spent in training, everything included; a training step
            counts as its forward pass.
        encoder_cost: Encoder multiply-adds spent in training, relative to Naive MTL over the same
            number of steps: the tables' "relative complexity", counted over everything that was
            trained, pretraining and restarts included.
        encoder_passes: The same in batches through one whole encoder (a training step of Naive MTL
            is 1), for runs of unequal length.
        seconds: ``{"wall": ..., "cpu": ...}`` of the whole call.
        data, note, n_test: Name of the data, a sentence on them, and rows tested on.
        agreement: Adjusted Rand index with the planted groups, or None where they are unknown.
        restarts: One entry per restart: seed, train_loss, groups.
        trained_groups: The groups that were trained, where they overlap; ``groups`` says who serves
            whom in the end.
        affinity: What HOA, TAG or cosine chose by, (N, N) numbers.
        n_trials: Combinations that MTG-Net trained.
        feature_shape: Of one row that it was trained on: (C, H, W) of pictures, (D,) of tables.
        reader: How such features come from the data as they are, see `TaskData`.
        world_size: Processes that shared the training, see `runs.parallel`.
        constant_losses, constant_errors: ``{task: value}`` on test of the best constant answer, see
            `evaluate_constant`; empty for dense tasks.
    """

    method: str
    groups: list[list[str]]
    task_losses: dict[str, AnyFloat]
    task_errors: dict[str, AnyFloat]
    train_loss: AnyFloat
    history: History
    network: GroupedNetwork
    encoder_macs: int
    encoder_cost: float
    encoder_passes: float
    seconds: dict[str, float]
    config: TrainConfig
    data: str
    note: str
    n_test: int
    agreement: float | None = None
    restarts: list[dict[str, Any]] = field(default_factory=list)
    trained_groups: Groups = field(default_factory=list)
    affinity: list[list[AnyFloat]] | None = None
    n_trials: int | None = None
    feature_shape: tuple[int, ...] | None = None
    reader: Reader | None = None
    world_size: int = 1
    constant_losses: dict[str, AnyFloat] = field(default_factory=dict)
    constant_errors: dict[str, AnyFloat] = field(default_factory=dict)

    def __repr__(self) -> str:
        groups = " | ".join(", ".join(group) for group in self.groups)
        error = f"total error {self.total_error:.1f} points, " if isfinite(self.total_error) else ""
        if not error and isfinite(self.relative_error):
            error = f"error {self.relative_error:.0f} % of the constant answers', "
        return (
            f"MethodResult({self.method}: {groups}; {error}total loss "
            f"{total(self.task_losses):.3f}, encoder cost {self.encoder_cost:.2f})"
        )

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.network.tasks

    @property
    def unlearned(self) -> list[str]:
        """Tasks that are answered no better than by a constant, see `metrics.find_unlearned`."""
        return find_unlearned({name: getattr(self, name) for name in _JUDGED})

    def warn_unlearned(self, stacklevel: int = 2) -> None:
        """Say which tasks those are: groups of what was not learned mean nothing.

        Not of data with planted groups, which are drawn so that one narrow network fails.
        """
        if (names := self.unlearned) and self.agreement is None:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            warnings.warn(
                f"{self.method} answers {len(names)} of {len(self.tasks)} tasks no better than a "
                f"constant would ({shown}): what is grouped of them means nothing yet. Look at "
                "encoder, capacity, lr and steps, and at the labels.",
                UnlearnedWarning,
                stacklevel=stacklevel + 1,
            )

    @property
    def total_error(self) -> float:
        """Errors in percent, summed over tasks; nan where metrics differ."""
        return sum_errors(self.task_errors, self.metrics)

    @property
    def relative_error(self) -> float:
        """Total error in percent of the constant answers', whatever the metrics; see
        `metrics.relative_error`."""
        return relative_error(self.task_errors, self.metrics, self.constant_errors)

    @property
    def metrics(self) -> dict[str, str]:
        """``{task: metric}``: the units of ``task_errors``."""
        return {task.name: task.metric for task in self.tasks}

    @property
    def closings(self) -> list[Closing]:
        """The spare branches in the order in which they closed."""
        return self.history.closings

    @property
    def elbow(self) -> Elbow | None:
        """What closing on down to one branch would have cost, and the K that this says.

        As read when the first branch closed; None without spare branches.
        """
        return self.history.elbow

    def norm_gain_error(self, reference: MethodResult) -> float:
        """NormGain_E in percent against a reference, Naive MTL in the paper (equation 8).

        nan if the reference has no error on a task; see `error_gains`.
        """
        return fmean(self.error_gains(reference).values())

    def norm_gain_loss(self, reference: MethodResult) -> float:
        """NormGain_L in percent against a reference (equation 7)."""
        return fmean(self.loss_gains(reference).values())

    def error_gains(self, reference: MethodResult) -> dict[str, float]:
        """The terms of NormGain_E, ``{task: percent}``; of a score, its relative change (Table
        A2)."""
        return pair_gains(self.task_errors, reference.task_errors, self.metrics)

    def loss_gains(self, reference: MethodResult) -> dict[str, float]:
        """The terms of NormGain_L, ``{task: percent}``."""
        return pair_gains(self.task_losses, reference.task_losses)

    def predict(self, features: Any, *, probabilities: bool = False) -> pd.DataFrame:
        """What the network says of new rows, in the words and units of the data; needs pandas.

        Args:
            features: As the data were given: `TaskData.reader` is kept with the result and reads
                them. Without one, a tensor or an array as in a `Split`.
            probabilities: Of every class, columns (task, class), in place of the most probable one.

        Returns:
            A row for each of ``features``, under the index of a table of pandas; a column a task:
            the class's name, or its number where no names are known; a number in its own unit.

        Raises:
            ValueError: If the features are of another form than in the training, or a task is
                dense: ``network(features)`` gives its pictures.
        """
        return predict(self, features, probabilities=probabilities)

    def report(self, *, beside: Sequence[MethodResult] = ()) -> Report:
        """One page: groups, every task beside the constant answer, closing costs, a verdict.

        Args:
            beside: Other results on the same data, of other seeds or methods: without Naive MTL and
                random groups, three seeds of each, the verdict is "undecided".
                `experiments.report` trains them all.
        """
        return Report([one.to_json() for one in (self, *beside)])

    def to_json(self) -> Numbers:
        """Everything but network and history, as JSON-able data."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        del plain["history"], plain["network"]
        return plain | {
            "config": asdict(self.config),
            "tasks": [asdict(task) | {"classes": list(task.classes)} for task in self.tasks],
            "feature_shape": self.feature_shape and list(self.feature_shape),
            "reader": self.reader and asdict(self.reader),
            "metrics": self.metrics,
            "closings": self.closings,
            "elbow": self.elbow,
            "final_probabilities": self.history.probabilities[-1].tolist(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``network.safetensors``, ``run.npz`` and ``result.json`` into a folder.

        `load.load_result` reads them back. Of the processes of a shared run the first one writes.
        """
        folder = Path(folder)
        if not world().is_first:
            return folder
        weights = self.network.state_dict()
        checksum = save_tensors(folder / WEIGHTS, weights, {}, format=NETWORK_FORMAT)
        self.history.save(folder / RUN)
        numbers = self.to_json() | {"network": checksum}  # last: it says that the others are there
        write_atomically(folder / NUMBERS, json.dumps(numbers, indent=1).encode())
        return folder


class Stopwatch:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"wall": round(wall, 3), "cpu": round(cpu, 3)}


def make_result(
    method: str,
    data: TaskData,
    config: TrainConfig,
    network: GroupedNetwork,
    history: History,
    *,
    encoder_macs: int,
    stopwatch: Stopwatch,
    restarts: list[dict[str, Any]] | None = None,
    trained_groups: Groups | None = None,
    saving: Saving = UNSAVED,
) -> MethodResult:
    """Prune, evaluate on test, and tell the history what came of it.

    The training rows take longest: minutes for CelebA on a CPU, so there is a bar where the
    training had one.
    """
    network = network.prune()
    on_test = evaluate(network, data.test, progress=saving.label(f"{method}: test"))
    told = saving.label(f"{method}: training rows, once more")
    train_loss = total(evaluate(network, data.train, with_errors=False, progress=told).losses)
    constant = evaluate_constant(data)
    groups, planted = network.assignment.groups(data.task_names), data.planted_groups
    rows = min(config.batch_size, len(data.train))
    one_pass = rows * count_macs(build_network(data, config), data.feature_shape)["encoder"]
    passes = encoder_macs / one_pass
    result = MethodResult(
        method=method,
        groups=groups,
        task_losses=on_test.losses,
        task_errors=on_test.errors,
        train_loss=train_loss,
        history=history,
        network=network.eval(),
        encoder_macs=encoder_macs,
        # Naive MTL over the same number of steps is the unit of the cost
        encoder_cost=passes / sum(config.count_steps(len(data.train))),
        encoder_passes=passes,
        seconds=stopwatch.read(),
        config=config,
        data=data.name,
        note=data.note,
        n_test=len(data.test),
        agreement=None if planted is None else compute_agreement(groups, planted),
        restarts=restarts or [],
        trained_groups=trained_groups or groups,
        feature_shape=data.feature_shape,
        reader=data.reader,
        world_size=world().size,
        constant_losses=constant.losses,
        constant_errors=constant.errors,
    )
    history.about = About(
        title=history.about.title,
        note=data.note,
        method=method,
        data=data.name,
        seed=config.seed,
        config=str(config),
        planted_groups=planted,
        groups=groups,
        task_losses=on_test.losses,
        task_errors=on_test.errors,
        encoder_cost=result.encoder_cost,
        agreement=result.agreement,
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )
    return result
