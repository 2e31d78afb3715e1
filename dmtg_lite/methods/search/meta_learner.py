"""MTG-Net: learn the gains of task combinations from a few measured ones, chosen on the way.

Of up to 12 tasks all combinations are looked at, of more a sample that grows towards good ones.
Plain tensors only: to measure, which means training networks, is the caller's business. The gain of
a task in a group is (L_single - L_group) / L_single, the share of its loss when trained alone that
the group saves: 0 for a task alone, negative for harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from dmtg_lite.core.checks import as_whole
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.seeds import drawing

MAX_TASKS = 12  # of which all combinations are listed
_EPOCHS = 200  # steps of Adam
_N_LEARNERS = 4  # a prediction is their mean
_ROWS = 1_000  # combinations that are predicted at once
_DRAWN = 50  # combinations a task that are looked at where they are too many to list
_GROWTH = 1.2  # learners start anew when so much more is known


@dataclass(frozen=True, slots=True)
class GainTable:
    """The gain of every task in combinations of tasks; see `learn_gains`."""

    masks: Tensor  # bool, (M, N): who is in a combination; up to 12 tasks all M = 2^N - 1
    gains: Tensor  # float64, (M, N), no unit; nan for a task that is not in the combination
    is_measured: Tensor  # bool, (M,); of the others, singles gain 0 and all else is predicted


class MetaLearners(nn.Module):
    """Small transformers whose words are tasks: who trains together -> what each one gains.

    In each layer the tasks of a combination attend to one another's embeddings of ``width``
    numbers; one linear map, the same for all, reads a task's gain in the end. ``n_learners`` of
    them, G, differ by their first weights alone and are computed side by side.

    Source:
        Song et al., Efficient and Effective Multi-task Grouping via Meta Learning on Task
        Combinations (NeurIPS 2022), without the dropout that has no effect in the released code,
        whose embeddings are 64 to 128 wide. Of the maps to query and key only the product matters,
        and of those to value and output: here each is one map.
    """

    def __init__(self, n_tasks: int, n_learners: int = 1, *, width: int = 32) -> None:
        super().__init__()
        # a tenth of the released start: tasks part only as gains demand it; far apart, a handful of
        # combinations can be learnt by heart and the predictions of all others are chance
        self.tasks = nn.Parameter(0.1 * torch.randn(n_learners, n_tasks, width))
        self.layers = nn.ModuleList(_Layer(n_learners, width) for _ in range(2))
        self.read_gain = _Linear(n_learners, width, 1)

    def forward(self, masks: Tensor) -> Tensor:
        """Who is there, bool (B, N), a task or more a row -> gains (G, B, N), nan for absent."""
        return self.compute(masks).where(masks, torch.nan)

    def compute(self, masks: Tensor) -> Tensor:
        """The same with any number for the absent, which costs less."""
        tokens = self.tasks[:, None]  # (G, 1, N, d): at first the same in every combination
        for layer in self.layers:
            tokens = layer(tokens, masks)
        return self.read_gain(tokens)[..., 0]

    @sealed(1)
    def predict(self, masks: Tensor) -> Tensor:
        """The mean of all learners, (B, N)."""
        with torch.no_grad():
            return torch.cat([self(some).mean(0) for some in masks.split(_ROWS)])


class _Layer(nn.Module):
    """Single-head attention among those present, a feed-forward map; both residual, then normed."""

    def __init__(self, n_learners: int, width: int) -> None:
        super().__init__()
        self.ask, self.hear, self.think, self.say = (
            _Linear(n_learners, width, width) for _ in range(4)
        )
        self.norm_attention, self.norm_feed_forward = (_Norm(n_learners, width) for _ in range(2))

    def forward(self, tokens: Tensor, masks: Tensor) -> Tensor:
        """(G, B or 1, N, d), bool (B, N) -> (G, B, N, d). An absent task's token is never read."""
        scores = self.ask(tokens) @ tokens.mT / tokens.shape[-1] ** 0.5  # (G, B or 1, N, N)
        scores = scores.masked_fill(~masks[:, None, :], -torch.inf)  # nobody heeds an absent task
        # 0.2 is the temperature of the released code
        tokens = self.norm_attention(tokens + (scores / 0.2).softmax(-1) @ self.hear(tokens))
        return self.norm_feed_forward(tokens + self.say(self.think(tokens).relu()))


class _Linear(nn.Module):
    """`nn.Linear` with its usual start, G of them: (G, ..., n_in) -> (G, ..., n_out)."""

    def __init__(self, n_learners: int, n_in: int, n_out: int) -> None:
        super().__init__()
        start = torch.empty(n_learners, n_in + 1, n_out).uniform_(-(n_in**-0.5), n_in**-0.5)
        self.weight, self.bias = nn.Parameter(start[:, 1:]), nn.Parameter(start[:, :1])

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1, -2)
        return torch.baddbmm(self.bias, flat, self.weight).view(*inputs.shape[:-1], -1)


class _Norm(nn.Module):
    """`nn.LayerNorm`, G of them."""

    def __init__(self, n_learners: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_learners, 1, 1, width))
        self.bias = nn.Parameter(torch.zeros(n_learners, 1, 1, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = nn.functional.layer_norm(tokens, tokens.shape[-1:])
        return torch.addcmul(self.bias, normed, self.weight)


@sealed(1)
def fit_meta_learners(
    masks: Tensor, gains: Tensor, *, seed: int, n_learners: int = 1
) -> MetaLearners:
    """Train meta-learners on known combinations: mean absolute error, all rows at once.

    Gains are learnt in units of their mean size: ten times the gains, ten times the predictions.
    ``masks`` are bool (M, N), one task or more in each row; gains (M, N) are read there only.

    Source:
        Song et al. (2022). Their code takes gains as they are, keeps the rate, stops after 5 epochs
        without a lower error (far from a fit when we tried it) and averages two snapshots. With a
        rate that falls the last weights will do.
    """
    known = gains.double()[masks]
    unit = known[known != 0].abs().mean().nan_to_num(1.0)  # singles, 0 by definition, do not count
    with drawing(seed):  # leaves the caller's random streams alone, also those of GPUs
        # in single precision they learn less from the same (friends and foes: 0.70, not 0.57)
        learners = MetaLearners(masks.shape[1], n_learners).double()
    optimizer = torch.optim.Adam(learners.parameters(), lr=0.007, weight_decay=5e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / _EPOCHS)
    wanted = (gains.double() / unit).where(masks, 0.0)
    weights = masks.double() / masks.sum()
    for _ in range(_EPOCHS):
        optimizer.zero_grad(set_to_none=True)
        errors = (learners.compute(masks) - wanted).abs() * weights  # (G, M, N)
        errors.sum().backward()  # none knows of the others
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        learners.read_gain.weight.mul_(unit)
        learners.read_gain.bias.mul_(unit)
    return learners


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
            f"`n_tasks` must be a whole number from 1 to {MAX_TASKS}, got {n_tasks!r}: N tasks "
            "have 2^N - 1 combinations. `sample_combinations` draws some."
        )
    return _as_masks(range(1, n_tasks + 1), n_tasks)


def sample_combinations(n_tasks: int, *, seed: int) -> Tensor:
    """Singles, pairs, fifty combinations a task of any size, and all tasks: bool, (M, N)."""
    n_tasks = as_whole("n_tasks", n_tasks, 3)
    rng = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, n_tasks + 1, (_DRAWN * n_tasks, 1), generator=rng)
    drawn = torch.rand(len(sizes), n_tasks, generator=rng).argsort(1) < sizes
    drawn = torch.unique(drawn[drawn.sum(1) < n_tasks], dim=0)
    everybody = torch.ones(1, n_tasks, dtype=torch.bool)
    return torch.cat([_as_masks((1, 2), n_tasks), drawn, everybody])


def _as_masks(sizes: Iterable[int], n_tasks: int) -> Tensor:
    """All combinations of these sizes, bool (M, N)."""
    groups = [torch.tensor(g) for size in sizes for g in combinations(range(n_tasks), size)]
    masks = torch.zeros(len(groups), n_tasks, dtype=torch.bool)
    for mask, group in zip(masks, groups, strict=True):
        mask[group] = True
    return masks


def _grow(learners: MetaLearners) -> Tensor:
    """Combinations that promise much, (M, N): from each task on, the one joins who adds most."""
    n_tasks = learners.tasks.shape[1]
    eye = torch.eye(n_tasks, dtype=torch.bool)
    sets, grown = eye, []
    for _ in range(n_tasks - 2):
        joined = sets[:, None] | eye  # (N, N, N): each with each
        promise = learners.predict(joined.flatten(0, 1)).nansum(1).view(n_tasks, n_tasks)
        sets = sets | eye[promise.masked_fill(sets, -torch.inf).argmax(1)]
        grown.append(sets)
    return torch.unique(torch.cat(grown), dim=0)


def _widen(table: GainTable, learners: MetaLearners) -> GainTable:
    """The same with the combinations that were grown and are not in it yet."""
    grown = _grow(learners)
    known = set(map(tuple, table.masks.tolist()))
    new = grown[[tuple(mask) not in known for mask in grown.tolist()]]
    return GainTable(
        torch.cat([table.masks, new]),
        torch.cat([table.gains, learners.predict(new)]),
        torch.cat([table.is_measured, torch.zeros(len(new), dtype=torch.bool)]),
    )


@sealed(1)
def learn_gains(
    measure: Callable[[tuple[int, ...]], Sequence[float]],
    n_tasks: int,
    n_rounds: int | None = None,
    *,
    seed: int,
    announce: Callable[[list[tuple[int, ...]]], None] | None = None,
) -> GainTable:
    """Measure all tasks together, then what new learners point to each round; predict the rest.

    Args:
        measure: Called with the tasks of a combination, two or more, in rising order; returns one
            gain for each. No combination is asked for twice, and the same answers lead to the same
            questions, so that a caller who keeps the answers can take up an interrupted run.
        n_tasks: N, 2 or more. Of more than 12 the table holds a sample of combinations, and those
            grown from each task by what the learners promise: a heuristic, where the best may lack.
        n_rounds: Combinations to measure beside that of all tasks; at most all there are. ``None``:
            N(N-1)/2, as many networks as HOA trains for pairs.
        seed: Of the meta-learners, which start anew whenever a fifth more is known.
        announce: Called with all combinations that are measured before that, one after another:
            they do not depend on each other's gains, so that they may be trained side by side.

    Source:
        Song et al. (2022), who average two snapshots of one learner, trained anew each round. A few
        measurements leave much open, and learners from different starts fill it in differently; the
        mean of four keeps what they agree on.
    """
    n_tasks, is_listed = as_whole("n_tasks", n_tasks, 1), n_tasks <= MAX_TASKS
    if n_tasks == 1:
        raise ValueError("`n_tasks` is 1: one task has nobody to gain from.")
    masks = list_combinations(n_tasks) if is_listed else sample_combinations(n_tasks, seed=seed)
    n_rounds = n_tasks * (n_tasks - 1) // 2 if n_rounds is None else n_rounds
    n_rounds = as_whole("n_rounds", n_rounds, 0, " or None")
    is_single = masks.sum(1) == 1
    known = torch.where(masks & is_single[:, None], 0.0, torch.nan).double()
    is_measured = torch.zeros_like(is_single)
    rng = torch.Generator().manual_seed(seed)
    batch, n_measured = [len(masks) - 1], 0  # all tasks
    while True:
        groups = [tuple(masks[row].nonzero()[:, 0].tolist()) for row in batch]
        if announce is not None:
            announce(groups)
        for row, group in zip(batch, groups, strict=True):
            known[row, masks[row]] = _check_gains(group, measure(group))
            is_measured[row] = True
        n_measured += len(batch)
        is_known = is_single | is_measured
        own = int(torch.randint(2**31, (), generator=rng))
        learners = fit_meta_learners(
            masks[is_known], known[is_known], seed=own, n_learners=_N_LEARNERS
        )
        predicted = learners.predict(masks)
        if n_measured > n_rounds or bool(is_known.all()):
            table = GainTable(masks, known.where(is_known[:, None], predicted), is_measured)
            return table if is_listed else _widen(table, learners)
        n_left = n_rounds + 1 - n_measured
        batch = _choose_batch(masks, predicted, is_known, n_measured, n_left)


def _choose_batch(
    masks: Tensor, gains: Tensor, is_known: Tensor, n_measured: int, n_left: int
) -> list[int]:
    """What is measured before learners start anew: until a fifth more is known than they know."""
    is_known, n_fitted, batch = is_known.clone(), int(is_known.sum()), []
    while len(batch) < n_left and n_fitted + len(batch) < min(_GROWTH * n_fitted, len(masks)):
        row = choose_next(masks, gains, is_known, n_measured + len(batch) - 1)
        is_known[row] = True
        batch.append(row)
    return batch


def _check_gains(group: tuple[int, ...], gains: Sequence[float]) -> Tensor:
    found = torch.as_tensor(gains, dtype=torch.float64)
    if found.shape != (len(group),) or not found.isfinite().all():
        raise ValueError(
            f"`measure` must return a finite gain for each of the tasks {group}, got "
            f"{found.tolist()}."
        )
    return found
