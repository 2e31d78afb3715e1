"""Which groups to train when the budget does not pay for all of them: an exact choice.

Candidates with a score for each of their tasks come in, the best affordable set comes out. Where
scores come from is the methods' business; nothing here needs torch. `columns` chooses where there
are too many candidates to list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import gcd, isfinite
from typing import Any, Literal

import numpy as np

from dmtg_lite.core.checks import as_whole

MAX_TASKS = 15  # 3^15 is 14 million splits of a task set in two
_COST_STEPS = 1_000_000  # costs are added as whole numbers of this fraction
_TIE = 1e-12  # totals this close, relative to the scores, differ by rounding only
_NEVER = -1e6  # TAG's score of a task on its own
MILP_SECONDS = 60.0  # for one call of HiGHS
_MILP_SCALE = 1e6  # the largest regret as HiGHS sees it


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group that could be trained: its tasks, how well each would do in it, and its price."""

    tasks: tuple[str, ...]  # names, each once
    scores: Mapping[str, float]  # of exactly these tasks: losses, errors, affinities or gains
    cost: float = 1.0  # in the unit of the budget: 1 for a whole encoder, 0.5 for one of half size

    def __post_init__(self) -> None:
        names = self.tasks
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise ValueError(
                f'`tasks` must be one or more names, each once, as in ("a", "b"), got {names!r}.'
            )
        object.__setattr__(self, "tasks", tuple(names))
        object.__setattr__(self, "scores", dict(self.scores))
        if set(self.scores) != set(self.tasks):
            raise ValueError(
                f"`scores` must have one score for each task of the group {self.tasks} and no "
                f"other, got scores for {tuple(self.scores)}."
            )
        if not all(map(isfinite, self.scores.values())):
            raise ValueError(f"`scores` must be finite, got {self.scores}.")
        if not (isfinite(self.cost) and self.cost * _COST_STEPS >= 1):
            raise ValueError(f"`cost` must be a number above 0, 0.000001 or more, got {self.cost}.")


@dataclass(frozen=True, slots=True)
class Selection:
    """The groups that were chosen, and who is served by which."""

    groups: list[tuple[str, ...]]  # in the order of the candidates; a task may be in several
    total: float  # sum over tasks of the score in the group that serves the task
    served_by: dict[str, tuple[str, ...]]  # the best of the groups that the task is in
    # no other set of candidates that gets worse whichever is left out reaches this total
    is_unique: bool
    is_exact: (
        bool  # proven best; where it is False, so is `is_unique`, and `gap` says what is known
    )
    candidates: list[Candidate] = field(repr=False)  # group by group
    gap: float = 0.0  # no choice has a total that is better by more than this


def select_groups(
    candidates: Iterable[Candidate], budget: float, *, maximise: bool = False
) -> Selection:
    """Choose the groups that serve all tasks best for at most ``budget``.

    Groups may overlap; a task is served by the best chosen group that contains it, and a group that
    serves nobody is not chosen. Among equally good choices: the fewest groups, then the cheapest,
    then early candidates.

    Up to 15 tasks at equal costs this is a dynamic programme over subsets of tasks; else the solver
    HiGHS finds the best choice, to eight digits, and proves it.

    Args:
        candidates: What can be trained; their tasks are the tasks.
        budget: Largest sum of costs. Budget and costs are read to six decimals.
        maximise: Scores are better when larger (affinities, gains), not smaller (losses, errors).

    Raises:
        ValueError: Also if a task cannot be served.
        RuntimeError: If HiGHS ran out of time before it found any choice.

    Source:
        The objective of Standley et al. 2020 (HOA) and Fifty et al. 2021 (TAG), who search all sets
        of networks by branching. Here each task is given to the group that serves it, which splits
        the tasks into disjoint blocks: the best split into affordable blocks is the best choice.

    Example:
        >>> both = Candidate(("a", "b"), {"a": 1.0, "b": 5.0})
        >>> select_groups([both, Candidate(("b",), {"b": 2.0}, cost=0.5)], budget=1.5).groups
        [('a', 'b'), ('b',)]
    """
    candidates = list(candidates)
    if not candidates:
        raise ValueError("`candidates` is empty: there is nothing to choose from.")
    if not (isfinite(budget) and budget > 0):
        raise ValueError(f"`budget` must be a number above 0, got {budget}.")
    tasks = list(dict.fromkeys(task for candidate in candidates for task in candidate.tasks))
    sign = -1.0 if maximise else 1.0
    losses = np.array(
        [[sign * c.scores.get(task, sign * np.inf) for c in candidates] for task in tasks]
    )  # (N, candidates), inf where the task is not in the group
    best = losses.min(axis=1, keepdims=True)
    regrets = losses - best  # what a task loses against its best candidate
    costs = np.array([round(candidate.cost * _COST_STEPS) for candidate in candidates])
    spendable = round(budget * _COST_STEPS)
    scale = float(np.abs(best).sum())

    def solve(columns: np.ndarray) -> tuple[np.ndarray, float, float] | None:
        """Chosen candidates among these, their total regret, and what of it may be too much."""
        few = regrets[:, columns]
        if not np.isfinite(few).any(axis=1).all():
            return None
        if len(tasks) <= MAX_TASKS and len(set(costs)) == 1:
            most = min(spendable // costs[0], len(tasks))
            picked, gap = _solve_by_subsets(few, most, scale), 0.0
        else:
            picked, gap = _solve_by_milp(few, costs[columns], spendable)
        if picked is None:
            return None
        return columns[picked], float(few[:, picked].min(axis=1).sum()), gap

    affordable = np.flatnonzero(costs <= spendable)
    found = solve(affordable)
    if found is None:
        has_any = np.isfinite(regrets[:, affordable]).any(axis=1)
        lacking = [task for task, has in zip(tasks, has_any, strict=True) if not has]
        raise ValueError(
            f"`budget` = {budget} cannot serve the tasks {', '.join(lacking or tasks)}: no group "
            "that it pays for has them, or not all at once. Raise it, or offer larger groups."
        )
    chosen, regret, gap = found
    # any other minimal set lacks one of the chosen: with all of them it would not be minimal
    others = (solve(affordable[affordable != index]) for index in chosen)
    is_unique = not gap and all(
        other is None or (not other[2] and other[1] > regret + _TIE * (scale + regret))
        for other in others
    )
    groups = [candidates[index] for index in chosen]
    servers = losses[:, chosen].argmin(axis=1)
    return Selection(
        groups=[group.tasks for group in groups],
        total=float(sum(groups[k].scores[task] for task, k in zip(tasks, servers, strict=True))),
        served_by={task: groups[k].tasks for task, k in zip(tasks, servers, strict=True)},
        is_unique=is_unique,
        is_exact=not gap,
        candidates=groups,
        gap=gap,
    )


def check_selectable(tasks: Sequence[str], n_groups: int) -> None:
    """Refuse before any training what a selection would refuse after it."""
    as_whole("n_groups", n_groups, 1)
    if len(tasks) > MAX_TASKS:
        load_scipy()


def pairwise_candidates(
    values: np.ndarray, tasks: Sequence[str], singles: Literal["diagonal", "never"]
) -> list[Candidate]:
    """All 2^N - 1 groups of N tasks at cost 1, small ones first, scored by what pairs said.

    The score of a task in a group is the mean effect of the other members on it.

    Args:
        values: Shape (N, N): ``values[a, b]`` is the effect of task b on task a.
        tasks: N names, in the order of the rows.
        singles: ``"diagonal"``: a task on its own scores ``values[a, a]`` (HOA). ``"never"``: -1e6,
            so that with ``maximise=True`` no task is left on its own unless nothing else serves it
            (TAG); the diagonal is not read.

    Source:
        Standley et al. 2020 for losses and Fifty et al. 2021 for affinities; -1e6 is from TAG's
        notebook.
    """
    effects, alone = check_pairs(values, tasks, singles)
    n_tasks = len(tasks)
    if n_tasks > MAX_TASKS:
        raise ValueError(
            f"`tasks` may have {MAX_TASKS} names at most, got {n_tasks}, which is "
            f"{2**n_tasks - 1} groups. `select_by_pairs` chooses without a list of them."
        )
    return [
        make_candidate(effects, alone, group, tasks)
        for size in range(1, n_tasks + 1)
        for group in map(list, combinations(range(n_tasks), size))
    ]


def check_pairs(
    values: np.ndarray, tasks: Sequence[str], singles: str
) -> tuple[np.ndarray, np.ndarray]:
    """What `pairwise_candidates` takes, refused or split: (N, N) with a diagonal of 0, and (N,)."""
    values = np.array(values, dtype=float)  # a copy: its diagonal changes below
    n_tasks = len(tasks)
    if values.shape != (n_tasks, n_tasks) or not n_tasks:
        raise ValueError(
            f"`values` must have shape ({n_tasks}, {n_tasks}), one row and column per task, "
            f"got {values.shape}."
        )
    if len(set(tasks)) < n_tasks:
        raise ValueError(f"`tasks` must name each task once, got {list(tasks)}.")
    if singles not in ("diagonal", "never"):
        raise ValueError(f'`singles` must be "diagonal" or "never", got {singles!r}.')
    alone = values.diagonal().copy() if singles == "diagonal" else np.full(n_tasks, _NEVER)
    np.fill_diagonal(values, 0.0)  # so that a sum over a group leaves out the task itself
    is_finite = np.isfinite(alone) & np.isfinite(values).all(axis=1)
    if not is_finite.all():
        wrong = ", ".join(task for task, fine in zip(tasks, is_finite, strict=True) if not fine)
        raise ValueError(f"`values` must be finite, but the rows of {wrong} are not.")
    return values, alone


def make_candidate(
    effects: np.ndarray, alone: np.ndarray, group: Sequence[int], tasks: Sequence[str]
) -> Candidate:
    """A group of these rows of `check_pairs`, scored."""
    means = effects[np.ix_(group, group)].sum(axis=1) / max(len(group) - 1, 1)
    scores = alone[list(group)] if len(group) == 1 else means
    names = tuple(tasks[n] for n in group)
    return Candidate(names, dict(zip(names, scores.tolist(), strict=True)))


def _solve_by_subsets(regrets: np.ndarray, most: int, scale: float) -> np.ndarray | None:
    """At most so many candidates with the least regret; None if they cannot serve all.

    ``regrets`` is (N, candidates), >= 0, inf where a task is not in a group; sums of scores are
    about ``scale`` in size. A dynamic programme over sets of tasks, written as bit masks: bit n is
    task n. ``totals[k][A]`` is the least regret of serving just the tasks A by k groups. The group
    that serves the lowest task of A serves a block of A, k - 1 others serve the rest.
    """
    n_tasks, n_sets = len(regrets), 2 ** len(regrets)
    best = np.full(n_sets, np.inf)  # of serving a block by one candidate
    for block, regret in _list_offers(regrets):
        np.minimum.at(best, block, regret)
    members, blocks = _list_blocks(n_tasks)
    starts = np.flatnonzero(np.diff(members, prepend=np.int32(0)))
    totals = [np.where(np.arange(n_sets), np.inf, 0.0)]
    for _ in range(most):
        reached = np.minimum.reduceat(best[blocks] + totals[-1][members ^ blocks], starts)
        totals.append(np.append(np.inf, reached))
    least = min(total[-1] for total in totals)
    if not isfinite(least):
        return None
    slack = _TIE * (scale + least)
    k = next(k for k, total in enumerate(totals) if total[-1] <= least + slack)
    chosen, left = [], n_sets - 1
    while left:  # and back again: who serves the lowest task that is left?
        own = blocks[members == left]
        ends = own[best[own] + totals[k - 1][left ^ own] <= totals[k][left] + slack]
        offers = []
        for block in ends.tolist():
            regret = regrets[[n for n in range(n_tasks) if block >> n & 1]].sum(axis=0)
            offers.append((int((regret <= regret.min() + slack).argmax()), block))
        index, block = min(offers)
        chosen.append(index)
        left, k = left ^ block, k - 1
    return np.unique(chosen)


def _list_offers(regrets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(set of tasks, regret of serving just these), a thousand candidates a time."""
    n_candidates = regrets.shape[1]
    for candidate in np.array_split(np.arange(n_candidates), n_candidates // 1000 + 1):
        block, regret = np.zeros_like(candidate), np.zeros(len(candidate))
        for task, row in enumerate(regrets):
            has = np.isfinite(row[candidate])
            block = np.append(block, block[has] | 1 << task)
            regret = np.append(regret, regret[has] + row[candidate[has]])
            candidate = np.append(candidate, candidate[has])
        yield block, regret


def _list_blocks(n_tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (set A, block of A that has its lowest task), in the order of A."""
    members = blocks = np.empty(0, dtype=np.int32)
    for top in (1 << np.arange(n_tasks, dtype=np.int32))[:, None]:
        members = np.concatenate([members, top, np.repeat(members | top, 2)])
        blocks = np.concatenate([blocks, top, np.stack([blocks, blocks | top], axis=1).ravel()])
    return members, blocks


def _solve_by_milp(
    regrets: np.ndarray, costs: np.ndarray, budget: int
) -> tuple[np.ndarray | None, float]:
    """The same as an integer programme: who is chosen, or None; and how far from the best at most.

    HiGHS is content within 1e-6 of the best, so regrets are scaled up; and it is asked again
    without the services that alone cost more than all it found, because one score of -1e6 would set
    the scale.
    """
    worst, chosen = regrets[np.isfinite(regrets)].max(), np.arange(0)
    while True:
        result, bound = _ask_highs(regrets, costs, budget, worst)
        if result.status == 2:  # infeasible
            return None, 0.0
        if result.x is not None:
            chosen = np.flatnonzero(result.x[: len(costs)] > 0.5)
        elif not len(chosen):
            raise RuntimeError(f"HiGHS found no choice of groups: {result.message}")
        regret = float(regrets[:, chosen].min(axis=1).sum())
        if result.status != 0 or worst <= 100 * regret or regret == 0:
            gap = 0.0 if result.status == 0 else max(regret - bound, 0.0)
            return chosen[np.unique(regrets[:, chosen].argmin(axis=1))], gap
        worst = regret


def _ask_highs(
    regrets: np.ndarray, costs: np.ndarray, budget: int, worst: float
) -> tuple[Any, float]:
    """scipy's result for services of regret ``worst`` at most, and the least regret that there is.

    ``x`` of the result begins with who is chosen.
    """
    scipy = load_scipy()
    task, server = np.nonzero(regrets <= worst)
    service, one = np.arange(len(task)), np.ones(len(task))
    coo_array, hstack = scipy.sparse.coo_array, scipy.sparse.hstack
    serves = coo_array((one, (task, service)))  # (N, services)
    is_paid = coo_array((one, (service, server)), shape=(len(task), len(costs)))
    unit = gcd(budget, *costs.tolist())  # small whole numbers are safe from HiGHS's tolerances
    # of equally good ones the fewest, the cheapest, the first: 1e-8 of the largest regret at most
    ties = 1e-2 + 1e-3 * costs / budget + 1e-4 * np.linspace(0, 1, len(costs))
    scale = _MILP_SCALE / (worst or 1.0)
    limit = scipy.optimize.LinearConstraint
    result = scipy.optimize.milp(
        np.append(ties, regrets[task, server] * scale),
        integrality=np.append(np.ones(len(costs)), 0 * one),
        bounds=(0, 1),
        constraints=[
            limit(hstack([coo_array((len(regrets), len(costs))), serves]), lb=1),
            limit(hstack([is_paid, -coo_array((one, (service, service)))]), lb=0),
            limit(np.append(costs / unit, 0 * one)[None], ub=budget / unit),
        ],
        options={"time_limit": MILP_SECONDS, "mip_rel_gap": 0.0},
    )
    proven = result.mip_dual_bound or 0.0  # None where time was up too early
    return result, max(0.0, (proven - len(regrets) * ties.max()) / scale)


def load_scipy() -> Any:
    """The module, with its solvers; loaded where it is needed."""
    try:
        import scipy.optimize
        import scipy.sparse
    except ImportError as error:
        raise ImportError(
            f"Choosing groups of more than {MAX_TASKS} tasks, or of different costs, needs scipy, "
            'which is not installed. Run: pip install "dmtg-lite[data]"'
        ) from error
    return scipy
