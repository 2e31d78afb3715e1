"""Loss and error of every task on a split, each served by its most probable group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from dmtg_lite.core.batches import Batches, count_labels, look_ahead, pick_target
from dmtg_lite.core.config import Precision
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.devices import place_sums
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.sealed import choose_threads, sealed
from dmtg_lite.core.tasks import Task
from dmtg_lite.runs.dense_metrics import Metric, build_metric
from dmtg_lite.runs.parallel import world
from dmtg_lite.runs.progress import with_progress


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean loss and error of each task on a split: ``{task name: value}``.

    An error is in the unit of the task's metric: percent of rows; the target's own of numbers; or
    mIoU, RMSE, ... of dense tasks, where more may be better (`Task.higher_is_better`).
    """

    losses: dict[str, float]
    errors: dict[str, float]


@torch.no_grad()
def evaluate_heads(
    network: GroupedNetwork, batches: Batches, parts: Iterable[Tensor | slice] | None = None
) -> Tensor:
    """Mean loss of every head: the loss matrix (N, K) over many batches, each counted by its
    labels.

    Leaves the network in evaluation mode. 0 where a branch has no head for a task.

    Args:
        network: Any grouped network.
        batches: Of the split to look at.
        parts: Rows of each batch; ``None``: the whole split.
    """
    size = 16 if batches.is_dense else 512
    parts = parts or [slice(start, start + size) for start in range(0, len(batches), size)]
    network.eval()
    place = place_sums(network.device)
    total = torch.zeros(network.assignment.active.shape, dtype=torch.float64, device=place)
    n_labels = total.new_zeros(len(network.tasks), 1)
    for features, targets in look_ahead(batches, list(parts)[world().rank :: world().size]):
        own = count_labels(targets, batches.tasks)[:, None]  # of each task in this batch, (N, 1)
        total = total + (network.compute_loss_matrix(features, targets) * own).to(place)
        n_labels = n_labels + own.to(place)
    world().add(total, n_labels)
    return (total / n_labels.clamp_min(1)).float().to(network.device)


def evaluate(
    network: GroupedNetwork,
    split: Split,
    *,
    batch_size: int | None = None,
    with_errors: bool = True,
    precision: Precision = "float32",
    allow_unlabelled: bool = False,
    progress: str | None = None,
) -> Evaluation:
    """Loss and error of every task, each served by its most probable group.

    Leaves the network in evaluation mode. Over all labels of the split, however they fall into
    batches.

    Args:
        network: Any grouped network.
        split: On its device, or elsewhere: batches are copied.
        batch_size: Images at a time; ``None``: 512, or 16 of dense tasks.
        with_errors: False leaves ``errors`` empty and saves their time.
        precision: Of the network's layers. What is reported of a run is ``"float32"``, however it
            was trained; what it looks at on its way is as the training.
        progress: Label of a progress bar.
    """
    batches = Batches(split, network.tasks, network.device)
    size = batch_size or (16 if batches.is_dense else 512)
    with sealed(choose_threads(network, split.features.shape[1:], size)), torch.no_grad():
        pruned = network.prune().eval()  # only the N heads that count
        network.eval()
        sums, metrics = _add_up(pruned, batches, size, with_errors, precision, progress)
        losses = (sums[:, 0] / sums[:, 1]).tolist()
        pairs = zip(metrics, sums[:, 1].tolist(), strict=False)
        errors = [m.compute() if n or not allow_unlabelled else nan for m, n in pairs]
    names = [task.name for task in network.tasks]
    return Evaluation(dict(zip(names, losses, strict=True)), dict(zip(names, errors, strict=False)))


def _add_up(
    network: GroupedNetwork,
    batches: Batches,
    size: int,
    with_errors: bool,
    precision: Precision,
    progress: str | None,
) -> tuple[Tensor, list[Metric]]:
    """Of each task the sum of its losses and how many labels it is over, (N, 2); and its metric."""
    device, tasks = network.device, network.tasks
    sums = torch.zeros(len(tasks), 2, dtype=torch.float64, device=place_sums(device))
    metrics = [build_metric(task, device) for task in tasks] if with_errors else []
    rows = world().cut(len(batches))
    parts = [slice(start, min(start + size, rows.stop)) for start in rows[::size]]
    taken = with_progress(look_ahead(batches, parts), progress, len(parts))
    for features, targets in taken:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            predictions = network(features)
        for n, task in enumerate(tasks):
            target = pick_target(targets, n, task)
            sums[n] += torch.stack(sum_loss(task, predictions[task.name], target)).to(sums.device)
            if metrics:
                metrics[n].update(predictions[task.name], target)
    world().add(sums, *(metric.sums for metric in metrics))
    return sums, metrics


@sealed()
def evaluate_constant(data: TaskData) -> Evaluation:
    """Loss and error on test of the best answer that is the same for every row of train.

    The shares of the classes (each with half a row more, so that no loss is infinite) and the most
    frequent one; of numbers the median, or the mean under a squared loss. A network that does no
    better has learnt nothing of the task. Empty for dense tasks.
    """
    losses: dict[str, float] = {}
    errors: dict[str, float] = {}
    for task in data.tasks:
        if not task.is_dense:
            target = data.test.targets[task.name].cpu()
            answer = _answer_constantly(data.train.targets[task.name].cpu(), task)
            answers = answer.expand(len(target), -1)
            total, count = sum_loss(task, answers.float(), target)
            metric = build_metric(task)
            metric.update(answers, target)
            losses[task.name] = float(total / count)
            errors[task.name] = metric.compute()
    return Evaluation(losses, errors)


def _answer_constantly(target: Tensor, task: Task) -> Tensor:
    """Logits (n_outputs,), or a number (1,)."""
    if task.is_number:
        known = target[~target.isnan()].double()
        return (known.mean() if task.loss == "squared" else known.quantile(0.5))[None]
    counts = torch.bincount(target[target >= 0], minlength=task.n_outputs)
    return torch.log((counts + 0.5) / (counts + 0.5).sum())
