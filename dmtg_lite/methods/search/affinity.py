"""How well do tasks go together? (N, N) affinities from labels or a Naive MTL run, and clusters.

Groups of a clustering do not overlap; the overlapping choice of groups is `selection`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.arrays import as_floats
from dmtg_lite.core.batches import Batches, Targets, stack_targets
from dmtg_lite.core.checks import as_whole
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.groups import groups_from_labels
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.sealed import choose_threads, sealed
from dmtg_lite.core.seeds import Stream, derive_seed, drawing
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.fit import build_network, continue_steps
from dmtg_lite.runs.metrics import correlate_labels


@dataclass(frozen=True, slots=True)
class Affinity:
    """What was measured along one Naive MTL run, and what it cost."""

    matrix: Tensor  # (N, N), on the CPU: the mean over all measurements
    network: GroupedNetwork  # after the run; measuring has not changed it
    # of training and measuring, in the unit of `TrainState.encoder_macs`, which counts a step as
    # its forward pass: a forward pass alone is a third of it, a backward pass two thirds
    encoder_macs: int


def label_correlation(data: TaskData) -> Tensor:
    """|Pearson correlation| of the training labels: no image, no network.

    A pair is compared on the images where both tasks are observed (target >= 0). Class numbers are
    taken as numbers, which says little about a task of more than two unordered classes.

    Returns:
        Shape (N, N), float64; diagonal 1, and 0 for a pair that is never observed together or of
        which one label is constant where they are.
    """
    if data.tasks[0].is_dense:
        raise ValueError(
            f"{data.name!r} has a picture for each task, and labels are correlated image by image. "
            "`gradient_cosine` and `tag_affinity` serve dense tasks too."
        )
    labels = stack_targets([data.train.targets[name] for name in data.task_names]).T.cpu()  # (N, n)
    correlation = torch.from_numpy(np.abs(np.nan_to_num(correlate_labels(labels.numpy()))))
    return correlation.fill_diagonal_(1.0)


def compute_gradient_cosine(network: GroupedNetwork, images: Tensor, targets: Targets) -> Tensor:
    """Cosine of the angle between two tasks' gradients in the encoder, on one batch.

    Gradients are those of each task's loss by all parameters of stem and branch, batch norm's
    included and heads not. Positive: the two pull the encoder in like directions.

    Args:
        network: With one branch, in training mode; it stays as it is.
        images, targets: As `Batches.take` gives them.

    Returns:
        Shape (N, N); nan for a task without gradient: not observed in this batch, or its loss is 0.

    Source:
        The cosine baseline of Fifty et al. (2021), whose code leaves biases and batch norm out.
    """
    probe, losses, gradients = _probe(network, images, targets)
    size = sum(weight.numel() for weight in list_encoder_weights(probe))
    units = losses.new_empty(len(losses), size)  # N encoders, once: cosines need all of them
    for row, gradient in zip(units, gradients, strict=True):
        torch.cat([part.flatten() for part in gradient], out=row)
    norms = units.norm(dim=1)  # (N,)
    units /= torch.where(norms > 0, norms, torch.nan)[:, None]
    return units @ units.T


def compute_lookahead(
    network: GroupedNetwork, images: Tensor, targets: Targets, *, lr: float
) -> Tensor:
    """TAG's affinity on one batch: Z[i, j] = 1 - L_j(after a step on task i alone) / L_j(before).

    The step is plain gradient descent on the parameters of stem and branch; heads stay, and the
    loss after it is read on the same batch. Row i is whose step it was, column j whose loss;
    positive: the step of i helps j.

    Args:
        network, images, targets: See `compute_gradient_cosine`; batch norm uses the batch.
        lr: Size of the step. For a small one Z[i, j] is lr * (gradient i . gradient j) / L_j.

    Returns:
        Shape (N, N); nan in row and column of a task that is not observed in this batch or whose
        loss is 0.

    Source:
        Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning (2021),
        section 3.
    """
    probe, losses, gradients = _probe(network, images, targets)
    before = torch.where(losses > 0, losses, torch.nan)  # (N,)
    ahead = deepcopy(network)  # the probe's own weights must stay: its graph gives N gradients
    start, moved = list_encoder_weights(probe), list_encoder_weights(ahead)
    rows = []
    for gradient in gradients:
        with torch.no_grad():
            for weight, origin, slope in zip(moved, start, gradient, strict=True):
                weight.copy_(origin - lr * slope)
            after = ahead.compute_loss_matrix(images, targets)[:, 0]
            after = after.where(~after.isnan(), torch.inf)  # an overflow is no gap
            rows.append(1 - after / before)
    return torch.where(before.isnan()[:, None], torch.nan, torch.stack(rows))


def list_encoder_weights(network: GroupedNetwork) -> list[Tensor]:
    """The parameters that all tasks share, but those that an encoder of one's own holds still."""
    every = [weight for part in (network.stem, *network.branches) for weight in part.parameters()]
    return [weight for weight in every if weight.requires_grad]


def _probe(
    network: GroupedNetwork, images: Tensor, targets: Targets
) -> tuple[GroupedNetwork, Tensor, Iterator[tuple[Tensor, ...]]]:
    """A copy to measure on, its losses (N,) and each one's gradient by the copy's encoder.

    Gradients come one at a time: forty of a large encoder are more than a machine may hold.
    """
    if network.n_groups != 1:
        raise ValueError(
            f"affinities are measured in a network with one branch, this has {network.n_groups}: "
            "tasks in different branches share no encoder to compare them in."
        )
    probe = deepcopy(network)  # batch norm counts every forward pass: not in the network itself
    with torch.enable_grad():
        losses = probe.compute_loss_matrix(images, targets)[:, 0]
    encoder = list_encoder_weights(probe)
    gradients = (torch.autograd.grad(loss, encoder, retain_graph=True) for loss in losses)
    return probe, losses.detach(), gradients


def gradient_cosine(data: TaskData, config: TrainConfig, *, every: int = 10) -> Affinity:
    """Mean of `compute_gradient_cosine` along one Naive MTL run; see `tag_affinity`."""

    def measure(network: GroupedNetwork, images: Tensor, targets: Targets, lr: float) -> Tensor:
        return compute_gradient_cosine(network, images, targets)

    # one forward pass, N backward passes
    return _measure(data, config, every, measure, passes=(1 + 2 * len(data.tasks)) / 3)


def tag_affinity(
    data: TaskData, config: TrainConfig, *, every: int = 10, divide_by_lr: bool = False
) -> Affinity:
    """Mean of `compute_lookahead` along one Naive MTL run, at the learning rate of the run.

    Args:
        config: As for `methods.naive`, whose run this is. Whatever its optimiser, the step ahead is
            plain gradient descent.
        every: Steps from one measurement to the next, the first before the first step. Each is on a
            random batch of its own.
        divide_by_lr: Divide each measurement by its learning rate, as the released code does and
            the paper's formula does not; late ones then weigh more if a schedule lowers the rate.

    Raises:
        FloatingPointError: If training or a step ahead diverged, or no batch had labels of two
            tasks.
    """
    if not config.lr:
        raise ValueError("`lr` is 0: a step ahead would go nowhere. Give the config a rate > 0.")

    def measure(network: GroupedNetwork, images: Tensor, targets: Targets, lr: float) -> Tensor:
        return compute_lookahead(network, images, targets, lr=lr) / (lr if divide_by_lr else 1)

    # one forward pass, then for each task a backward pass and the forward pass after its step
    return _measure(data, config, every, measure, passes=(1 + 3 * len(data.tasks)) / 3)


@sealed()
def _measure(
    data: TaskData,
    config: TrainConfig,
    every: int,
    measure: Callable[[GroupedNetwork, Tensor, Targets, float], Tensor],
    passes: float,
) -> Affinity:
    """Train as Naive MTL does and average the measurements, each as dear as so many steps."""
    every = as_whole("every", every, 1)
    split, n_steps = data.train, sum(config.count_steps(len(data.train)))
    batch_size = min(config.batch_size, len(split))
    network = build_network(data, config)
    # the run of `methods.naive`; measurements draw from none of its streams
    state = TrainState(network, config, seed=derive_seed(config.seed, Stream.TRAINING))
    steps = continue_steps(state, data, n_steps)
    n_threads = choose_threads(network, data.feature_shape, batch_size)
    batches = Batches(split, data.tasks, network.device)
    rng = torch.Generator().manual_seed(derive_seed(config.seed, Stream.AFFINITY))
    total = torch.zeros(len(data.tasks), len(data.tasks), device=network.device)
    count, n_measured = torch.zeros_like(total), 0
    diverged = torch.zeros((), dtype=torch.bool, device=network.device)
    while state.step < n_steps:
        rows = torch.randperm(len(split), generator=rng)[:batch_size].to(split.features.device)
        seed = derive_seed(config.seed, Stream.AFFINITY, n_measured)
        with sealed(n_threads), drawing(seed, network.device):
            one = measure(network, *batches.take(rows), config.lr * state.lr_scale)  # (N, N)
        total += one.where(~one.isnan(), 0.0)
        count += ~one.isnan()
        n_measured += 1
        for record in islice(steps, every):
            diverged |= ~record.task_losses.isfinite().all()
    matrix = (total / count).cpu()
    if diverged:
        raise FloatingPointError("training diverged: a loss is not finite. Lower `lr`.")
    if not matrix.isfinite().all():
        i, j = (~matrix.isfinite()).nonzero()[0].tolist()
        raise FloatingPointError(
            f"the affinity of {data.task_names[i]!r} to {data.task_names[j]!r} is {matrix[i, j]} "
            f"after {n_measured} measurements. nan: no batch had labels of both; raise "
            "`batch_size`, or measure more often. Infinite: the step ahead is too long; lower `lr`."
        )
    batch_macs = count_macs(network, data.feature_shape)["encoder"] * batch_size
    return Affinity(matrix, network, state.encoder_macs + round(batch_macs * passes * n_measured))


def cluster_affinity(matrix: Tensor, n_groups: int, task_names: Sequence[str]) -> list[list[str]]:
    """K clusters of N tasks by their affinities (N, N), larger is better together; deterministic.

    A pair's affinity is the mean of its two directions. A negative one is read as 0: the tasks harm
    each other, so nothing ties them. (Shifting all values up until none is negative would turn
    strangers into friends.) Neither the scale of the matrix nor its diagonal matters.

    Raises:
        ValueError: Also if no affinity between two tasks is positive: any grouping is as good.

    Source:
        scikit-learn's ``SpectralClustering``: k-means on eigenvectors of the normalised Laplacian.
    """
    n_tasks, matrix = len(task_names), as_floats("matrix", matrix)
    n_groups = as_whole("n_groups", n_groups, 1)
    if tuple(matrix.shape) != (n_tasks, n_tasks) or not torch.isfinite(matrix).all():
        raise ValueError(
            f"`matrix` must be finite and of shape ({n_tasks}, {n_tasks}) for {n_tasks} tasks, got "
            f"shape {tuple(matrix.shape)} with {int((~torch.isfinite(matrix)).sum())} entries not "
            "finite."
        )
    if n_groups > n_tasks:
        raise ValueError(
            f"`n_groups` must be a whole number from 1 to {n_tasks}, got {n_groups!r}."
        )
    if n_groups in (1, n_tasks):  # nothing to choose
        return groups_from_labels([n % n_groups for n in range(n_tasks)], task_names)
    ties = matrix.detach().cpu().double()
    ties = ((ties + ties.T) / 2).clamp_min(0).fill_diagonal_(0)
    if not ties.any():
        raise ValueError(
            "`matrix` holds no positive affinity between two tasks: nothing to cluster by."
        )
    try:
        from sklearn.cluster import SpectralClustering
    except ImportError as error:
        raise ImportError(
            "Clustering needs scikit-learn, which is not installed. "
            'Run: pip install "dmtg-lite[data]"'
        ) from error
    # a thread between all keeps the graph in one piece, as the eigenvectors want it
    ties = ties.clamp_min(1e-6 * float(ties.max())).fill_diagonal_(0)
    clustering = SpectralClustering(n_groups, affinity="precomputed", random_state=0)
    return groups_from_labels(clustering.fit_predict(ties.numpy()).tolist(), task_names)
