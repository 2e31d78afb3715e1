"""MTG-Net: learn the gains of all task combinations from a few measured ones, chosen on the way.

Plain tensors only: to measure, which means training networks, is the caller's business. The gain of
a task in a group is (L_single - L_group) / L_single, the share of its loss when trained alone that
the group saves: 0 for a task alone, negative for harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from dmtg_lite.core.checks import as_whole
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.seeds import drawing

MAX_TASKS = 12
_EPOCHS = 200  # steps of Adam for one learner
_N_LEARNERS = 4  # a prediction is their mean


@dataclass(frozen=True, slots=True)
class GainTable:
    """The gain of every task in every combination of tasks; see `learn_gains`."""

    masks: Tensor  # bool, (2^N - 1, N): who is in a combination, as `list_combinations` has them
    gains: Tensor  # float64, (2^N - 1, N), no unit; nan for a task that is not in the combination
    is_measured: Tensor  # bool, (2^N - 1,); of the others, singles gain 0 and all else is predicted


class MetaLearner(nn.Module):
    """A small transformer whose words are tasks: who trains together -> what each one gains.

    In each layer the tasks of a combination attend to one another's embeddings of ``width``
    numbers; one linear map, the same for all, reads a task's gain in the end.

    Source:
        Song et al., Efficient and Effective Multi-task Grouping via Meta Learning on Task
        Combinations (NeurIPS 2022), without the dropout that has no effect in the released code,
        whose embeddings are 64 to 128 wide.
    """

    def __init__(self, n_tasks: int, *, width: int = 32) -> None:
        super().__init__()
        self.tasks = nn.Embedding(n_tasks, width)
        # a tenth of the released start: tasks part only as gains demand it; far apart, a handful of
        # combinations can be learnt by heart and the predictions of all others are chance
        nn.init.normal_(self.tasks.weight, std=0.1)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(2))
        self.read_gain = nn.Linear(width, 1)

    def forward(self, masks: Tensor) -> Tensor:
        """Who is there, bool (B, N), a task or more a row -> gains (B, N), nan for the absent."""
        tokens = self.tasks.weight.expand(len(masks), -1, -1)  # (B, N, d)
        for layer in self.layers:
            tokens = layer(tokens, masks)
        return self.read_gain(tokens)[..., 0].where(masks, torch.nan)


class _Layer(nn.Module):
    """Single-head attention among those present, a feed-forward map; both residual, then normed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, masks: Tensor) -> Tensor:
        """(B, N, d), bool (B, N) -> (B, N, d). What becomes of an absent task is never read."""
        scores = self.query(tokens) @ self.key(tokens).mT / tokens.shape[-1] ** 0.5  # (B, N, N)
        scores = scores.masked_fill(~masks[:, None, :], -torch.inf)  # nobody heeds an absent task
        # 0.2 is the temperature of the released code
        heard = (scores / 0.2).softmax(-1) @ self.value(tokens)
        tokens = self.norm_attention(tokens + self.mix(heard))
        return self.norm_feed_forward(tokens + self.feed_forward(tokens))


@sealed(1)
def fit_meta_learner(masks: Tensor, gains: Tensor, *, seed: int) -> MetaLearner:
    """Train a meta-learner on known combinations: mean absolute error, all rows at once.

    Gains are learnt in units of their mean size: ten times the gains, ten times the predictions.
    ``masks`` are bool (M, N), one task or more in each row; gains (M, N) are read there only.

    Source:
        Song et al. (2022). Their code takes gains as they are, keeps the rate, stops after 5 epochs
        without a lower error (far from a fit when we tried it) and averages two snapshots. With a
        rate that falls the last weights will do.
    """
    known = gains.double()[masks]
    unit = known[known != 0].abs().mean().nan_to_num(1.0)  # singles, 0 by definition, do not count
    with drawing(seed):
        # double costs little in a network this small, and machines then agree far better
        learner = MetaLearner(masks.shape[1]).double()
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.007, weight_decay=5e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / _EPOCHS)
    for _ in range(_EPOCHS):
        optimizer.zero_grad(set_to_none=True)
        (learner(masks)[masks] - known / unit).abs().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        learner.read_gain.weight.mul_(unit)
        learner.read_gain.bias.mul_(unit)
    return learner


def choose_next(masks: Tensor, gains: Tensor, is_known: Tensor, round_: int) -> int:
    """The combination to measure next: where the task whose turn it is expects most, good or bad.

    Tasks take turns, one a round. One of which every combination is known passes its turn on. So
    it is the row with the largest absolute gain, as predicted, of task ``round_ mod N`` among those
    that are not known; of equals the first. Masks and gains are (M, N).

    Source:
        Song et al. (2022); in their code only the strategy "activeper" does it.

    Example:
        >>> masks = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
        >>> gains = torch.tensor([[0.1, 0.3, 0.0], [-0.2, 0.0, 0.1], [0.1, 0.1, 0.2]])
        >>> choose_next(masks, gains, torch.tensor([False, False, True]), 0)
        1
    """
    n_tasks = masks.shape[1]
    for turn in range(round_, round_ + n_tasks):
        task = turn % n_tasks
        is_open = masks[:, task] & ~is_known
        if is_open.any():
            return int(gains[:, task].abs().where(is_open, -1.0).argmax())
    raise ValueError("`is_known` leaves no combination to choose: all are known.")


def list_combinations(n_tasks: int) -> Tensor:
    """All combinations of N tasks: singles, pairs, and so on; bool, shape (2^N - 1, N)."""
    n_tasks = as_whole("n_tasks", n_tasks, 1)
    if n_tasks > MAX_TASKS:
        raise ValueError(
            f"`n_tasks` must be a whole number from 1 to {MAX_TASKS}, got {n_tasks!r}. N tasks "
            "have 2^N - 1 combinations, and of more the few that are measured say too little."
        )
    tasks = range(n_tasks)
    groups = [group for size in tasks for group in combinations(tasks, size + 1)]
    return torch.tensor([[task in group for task in tasks] for group in groups])


@sealed(1)
def learn_gains(
    measure: Callable[[tuple[int, ...]], Sequence[float]],
    n_tasks: int,
    n_rounds: int | None = None,
    *,
    seed: int,
) -> GainTable:
    """Measure all tasks together, then what new learners point to each round; predict the rest.

    Args:
        measure: Called with the tasks of a combination, two or more, in rising order; returns one
            gain for each. No combination is asked for twice, and the same answers lead to the same
            questions, so that a caller who keeps the answers can take up an interrupted run.
        n_tasks: N, from 2 to 12.
        n_rounds: Combinations to measure beside that of all tasks; at most all there are. ``None``:
            N(N-1)/2, as many networks as HOA trains for pairs.
        seed: Of the meta-learners, which start anew each round.

    Source:
        Song et al. (2022), who average two snapshots of one learner. A few measurements leave much
        open, and learners from different starts fill it in differently; the mean of four keeps what
        they agree on.
    """
    masks = list_combinations(n_tasks)
    if n_tasks == 1:
        raise ValueError("`n_tasks` is 1: one task has nobody to gain from.")
    n_rounds = n_tasks * (n_tasks - 1) // 2 if n_rounds is None else n_rounds
    n_rounds = as_whole("n_rounds", n_rounds, 0, " or None")
    is_single = masks.sum(1) == 1
    known = torch.where(masks & is_single[:, None], 0.0, torch.nan).double()
    is_measured = torch.zeros_like(is_single)
    rng = torch.Generator().manual_seed(seed)
    row = len(masks) - 1  # all tasks
    while True:
        group = tuple(masks[row].nonzero()[:, 0].tolist())
        found = torch.as_tensor(measure(group), dtype=torch.float64)
        if found.shape != (len(group),) or not found.isfinite().all():
            raise ValueError(
                f"`measure` must return a finite gain for each of the tasks {group}, got "
                f"{found.tolist()}."
            )
        known[row, masks[row]] = found
        is_measured[row] = True
        is_known = is_single | is_measured
        seeds = torch.randint(2**31, (_N_LEARNERS,), generator=rng).tolist()
        learners = [fit_meta_learner(masks[is_known], known[is_known], seed=one) for one in seeds]
        with torch.no_grad():
            predicted = torch.stack([learner(masks) for learner in learners]).mean(0)
        n_measured = int(is_measured.sum())
        if n_measured > n_rounds or is_known.all():
            return GainTable(masks, known.where(is_known[:, None], predicted), is_measured)
        row = choose_next(masks, predicted, is_known, n_measured - 1)
