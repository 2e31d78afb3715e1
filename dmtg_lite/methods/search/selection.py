"""Which groups to train when the budget does not pay for all of them: an exact choice.

Candidates with a score for each of their tasks come in, the best affordable set of groups comes
out. Where the scores come from (pairs trained, affinities measured, gains predicted) is the
business of the methods; nothing is trained here, and nothing needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import gcd, isfinite

import numpy as np

MAX_TASKS = 15  # 3^15 is 14 million splits of a task set in two
_MAX_LAYERS = 200  # pairs (number of groups, cost) that the dynamic programme keeps apart
_COST_STEPS = 1_000_000  # costs are added as whole numbers of this fraction
_TIE = 1e-12  # totals this close, relative to the scores, differ by rounding only
_NEVER = -1e6  # TAG's score of a task on its own
_MILP_SECONDS = 60.0  # for one call of HiGHS
_MILP_SCALE = 1e6  # the largest regret as HiGHS sees it


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group that could be trained: its tasks, how well each would do in it, and its price.

    Args:
        tasks: Names, each once.
        scores: ``{task: score}`` for exactly these tasks: losses, errors, affinities or gains.
        cost: Price in the unit of the budget, e.g. 1 for a whole encoder and 0.5 for one of half
            size.

    Raises:
        ValueError: If a name is missing or there twice, a score is not finite, or the cost is not
            above 0.
    """

    tasks: tuple[str, ...]
    scores: Mapping[str, float]
    cost: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.tasks, str) or not self.tasks:
            raise ValueError(
                f'`tasks` must be one or more names, as in ("a", "b"), got {self.tasks!r}.'
            )
        object.__setattr__(self, "tasks", tuple(self.tasks))
        object.__setattr__(self, "scores", dict(self.scores))
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"`tasks` must name each task once, got {self.tasks}.")
        if unknown := sorted(set(self.scores) - set(self.tasks)):
            raise ValueError(
                f"`scores` has tasks that are not in the group {self.tasks}: {unknown}."
            )
        if missing := sorted(set(self.tasks) - set(self.scores)):
            raise ValueError(f"`scores` lacks tasks of the group {self.tasks}: {missing}.")
        if wrong := {task: score for task, score in self.scores.items() if not isfinite(score)}:
            raise ValueError(
                f"`scores` must be finite, got {wrong}. Leave out groups that nobody scored."
            )
        if not (isfinite(self.cost) and self.cost * _COST_STEPS >= 1):
            raise ValueError(f"`cost` must be a number above 0, 0.000001 or more, got {self.cost}.")


@dataclass(frozen=True, slots=True)
class Selection:
    """The groups that were chosen, and who is served by which.

    Args:
        groups: The chosen groups in the order of the candidates; a task may be in several.
        total: Sum over tasks of the score in the group that serves the task.
        served_by: ``{task: group}``, the best of the groups that the task is in.
        is_unique: No other minimal set of candidates reaches this total. A set is minimal if its
            total gets worse whichever candidate is left out.
        is_exact: The total is proven best. False only where HiGHS ran out of time; ``is_unique`` is
            then False too.
        candidates: The chosen candidates, group by group, with scores and costs.
    """

    groups: list[tuple[str, ...]]
    total: float
    served_by: dict[str, tuple[str, ...]]
    is_unique: bool
    is_exact: bool
    candidates: list[Candidate] = field(repr=False)


def select_groups(
    candidates: Iterable[Candidate], budget: float, *, maximise: bool = False
) -> Selection:
    """Choose the groups that serve all tasks best for at most ``budget``.

    Groups may overlap, and a task is served by the best chosen group that contains it. A group that
    serves
    nobody is not chosen. Among equally good choices: the fewest groups, then the cheapest, then the
        one
    that serves the first task by the earliest candidate, and so on down the tasks.

    Up to 15 tasks this is a dynamic programme over subsets of tasks. Beyond, or where costs are so
    varied that too many sums of costs occur, the solver HiGHS finds the best choice and proves it,
    but among equally good ones takes any.

    Args:
        candidates: What can be trained. Their tasks, in the order in which they first occur, are
            the tasks.
        budget: Largest sum of costs. Budget and costs are read to six decimals.
        maximise: Scores are better when larger (affinities, gains), not smaller (losses, errors).

    Raises:
        ValueError: If there is no candidate, the budget is not above 0, or no choice serves every
            task.
        ImportError: If HiGHS is needed and scipy is not installed.
        RuntimeError: If HiGHS ran out of time before it found any choice.

    Source:
        The objective is that of Standley et al. 2020 (HOA) and Fifty et al. 2021 (TAG), who search
        all sets of networks by branching. Here every task is given to the group that serves it,
        which splits the
        tasks into disjoint blocks: the best split into affordable blocks is the best choice.

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

    def solve(indices: np.ndarray) -> tuple[np.ndarray, float, bool] | None:
        """Chosen candidates among these, their total regret, and whether it is proven best."""
        found = _solve(regrets[:, indices], costs[indices], spendable, scale)
        if found is None:
            return None
        chosen = indices[found[0]]
        return chosen, float(regrets[:, chosen].min(axis=1).sum()), found[1]

    affordable = np.flatnonzero(costs <= spendable)
    served = np.isfinite(regrets[:, affordable]).any(axis=1)
    if not served.all():
        names = ", ".join(
            task for task, is_served in zip(tasks, served, strict=True) if not is_served
        )
        raise ValueError(
            f"`budget` = {budget} pays for no group with the tasks {names}. Raise the budget."
        )
    solution = solve(affordable)
    if solution is None:
        raise ValueError(
            f"`budget` = {budget} cannot serve all of the tasks {', '.join(tasks)}: no affordable "
            f"choice of the {len(candidates)} candidates has each of them. Raise the budget or "
            "offer larger groups."
        )
    chosen, regret, is_exact = solution
    # any other minimal set lacks one of the chosen: with all of them it would not be minimal
    others = (solve(affordable[affordable != index]) for index in chosen)
    is_unique = is_exact and all(
        other is None or (other[2] and other[1] > regret + _TIE * (scale + regret))
        for other in others
    )
    groups = [candidates[index] for index in chosen]
    servers = losses[:, chosen].argmin(axis=1)
    return Selection(
        groups=[group.tasks for group in groups],
        total=float(sum(groups[k].scores[task] for task, k in zip(tasks, servers, strict=True))),
        served_by={task: groups[k].tasks for task, k in zip(tasks, servers, strict=True)},
        is_unique=is_unique,
        is_exact=is_exact,
        candidates=groups,
    )


def check_selectable(tasks: Sequence[str], n_groups: int, *, most: int = MAX_TASKS) -> None:
    """Refuse before any training what a selection would refuse after it.

    Raises:
        ValueError: If there are more than ``most`` tasks, or ``n_groups`` is no whole number >= 1.
    """
    if isinstance(n_groups, bool) or not isinstance(n_groups, int) or n_groups < 1:
        raise ValueError(f"`n_groups` must be >= 1, got {n_groups!r}.")
    if len(tasks) > most:
        raise ValueError(
            f"there are {len(tasks)} tasks, and all their groups are looked at: 2^N - 1, up to N = "
            f"{most}. Select fewer tasks, or use `dmtg`, whose cost does not grow with N."
        )


def pairwise_candidates(values: np.ndarray, tasks: Sequence[str], singles: str) -> list[Candidate]:
    """All groups of the tasks at cost 1, scored by what was measured on pairs.

    The score of a task in a group is the mean effect of the other members on it. Of a pair it is
    the measured value itself.

    Args:
        values: Shape (N, N): ``values[a, b]`` is the effect of task b on task a.
        tasks: N names, in the order of the rows.
        singles: ``"diagonal"``: a task on its own scores ``values[a, a]`` (HOA). ``"never"``: -1e6,
            so that with ``maximise=True`` no task is left on its own unless nothing else serves it
            (TAG); the diagonal is not read.

    Returns:
        2^N - 1 candidates, small groups first, then in the order of the tasks.

    Raises:
        ValueError: If shapes do not fit, a name is there twice, a value that is read is not finite,
            or there are more than 15 tasks.

    Source:
        Standley et al. 2020 for losses and Fifty et al. 2021 for affinities; -1e6 is from TAG's
        notebook.
    """
    values = np.array(values, dtype=float)  # a copy: its diagonal changes below
    n_tasks = len(tasks)
    if values.shape != (n_tasks, n_tasks) or not n_tasks:
        raise ValueError(
            f"`values` must have shape ({n_tasks}, {n_tasks}), one row and column per task, got "
            f"{values.shape}."
        )
    if len(set(tasks)) < n_tasks:
        raise ValueError(f"`tasks` must name each task once, got {list(tasks)}.")
    if n_tasks > MAX_TASKS:
        raise ValueError(
            f"`tasks` may have {MAX_TASKS} names at most, got {n_tasks}, which is {2**n_tasks - 1} "
            "groups. Make the candidates that matter yourself."
        )
    if singles not in ("diagonal", "never"):
        raise ValueError(f'`singles` must be "diagonal" or "never", got {singles!r}.')
    alone = values.diagonal().copy() if singles == "diagonal" else np.full(n_tasks, _NEVER)
    np.fill_diagonal(values, 0.0)  # so that a sum over a group leaves out the task itself
    if wrong := [
        task
        for task, *row in zip(tasks, alone, *values.T, strict=True)
        if not np.isfinite(row).all()
    ]:
        raise ValueError(f"`values` must be finite, but the rows of {', '.join(wrong)} are not.")
    candidates = []
    for size in range(1, n_tasks + 1):
        for group in map(list, combinations(range(n_tasks), size)):
            scores = (
                alone[group] if size == 1 else values[np.ix_(group, group)].sum(axis=1) / (size - 1)
            )
            names = tuple(tasks[n] for n in group)
            candidates.append(Candidate(names, dict(zip(names, scores.tolist(), strict=True))))
    return candidates


def _solve(
    regrets: np.ndarray, costs: np.ndarray, budget: int, scale: float
) -> tuple[list[int], bool] | None:
    """Indices of the chosen candidates and whether they are proven best; None if none serve all
    tasks.

    ``regrets`` is (N, candidates), >= 0, inf where a task is not in a group; ``costs`` are
    integers.
    """
    if not np.isfinite(regrets).any(axis=1).all():
        return None
    layers = _list_layers(sorted(set(costs.tolist())), budget, len(regrets))
    if len(regrets) > MAX_TASKS or layers is None:
        return _solve_by_milp(regrets, costs, budget, scale)
    chosen = _solve_by_subsets(regrets, costs, layers, scale)
    return None if chosen is None else (chosen, True)


def _list_layers(costs: list[int], budget: int, n_tasks: int) -> list[tuple[int, int]] | None:
    """All (number of groups, their cost) within the budget, sorted; None if they are too many."""
    layers = last = [(0, 0)]
    for k in range(1, n_tasks + 1):
        last = sorted(
            {(k, spent + cost) for _, spent in last for cost in costs if spent + cost <= budget}
        )
        layers = layers + last
        if len(layers) > _MAX_LAYERS:
            return None
    return layers


def _solve_by_subsets(
    regrets: np.ndarray, costs: np.ndarray, layers: list[tuple[int, int]], scale: float
) -> list[int] | None:
    """Dynamic programme over task sets, written as bit masks: bit n is task n.

    ``totals[layer, A]`` is the least regret of serving just the tasks of A with that many groups at
    that cost. The group that serves the lowest task of A serves a block of A; the rest of A is a
    smaller set.
    """
    n_tasks = len(regrets)
    everyone = 2**n_tasks - 1
    best = {cost: _best_blocks(regrets[:, costs == cost]) for cost in sorted(set(costs.tolist()))}
    place = {layer: index for index, layer in enumerate(layers)}
    steps = []  # per cost: from which layers to which, and the blocks that are added
    for cost, block_regrets in best.items():
        pairs = [
            (place[k, spent], place[k + 1, spent + cost])
            for k, spent in layers
            if (k + 1, spent + cost) in place
        ]
        if pairs:
            before, after = np.array(pairs).T
            steps.append((before[:, None], after, block_regrets))
    totals = np.full((len(layers), everyone + 1), np.inf)
    totals[0, 0] = 0.0
    for members in range(1, everyone + 1):
        lowest = members & -members
        rests = _sum_subsets(
            [1 << n for n in _bits(members ^ lowest)]
        )  # what the group may leave to others
        blocks = members ^ rests
        for before, after, block_regrets in steps:
            reached = (totals[before, rests] + block_regrets[blocks]).min(axis=1)
            totals[after, members] = np.minimum(totals[after, members], reached)
    regret = totals[:, everyone].min()
    if not isfinite(regret):
        return None
    slack = _TIE * (scale + regret)
    layer = int(
        np.argmax(totals[:, everyone] <= regret + slack)
    )  # sorted: fewest groups, then cheapest
    # and back again: who serves the lowest task that is left?
    chosen, members = [], everyone
    while members:
        k, spent = layers[layer]
        lowest = _bits(members)[0]
        for index in np.flatnonzero(np.isfinite(regrets[lowest])):
            before = place.get((k - 1, spent - int(costs[index])))
            if before is None:
                continue
            others = [n for n in _bits(members)[1:] if isfinite(regrets[n, index])]
            rests = members ^ (1 << lowest) ^ _sum_subsets([1 << n for n in others])
            reached = (
                regrets[lowest, index]
                + _sum_subsets(regrets[others, index])
                + totals[before, rests]
            )
            if reached.min() <= totals[layer, members] + slack:
                chosen.append(int(index))
                layer, members = before, int(rests[reached.argmin()])
                break
    return sorted(chosen)


def _best_blocks(regrets: np.ndarray) -> np.ndarray:
    """Least regret of serving a set of tasks by one of these candidates, (2^N,); inf where none has all."""
    best = np.full(2 ** len(regrets), np.inf)
    for column in regrets.T:
        members = np.flatnonzero(np.isfinite(column))
        blocks = _sum_subsets(1 << members)
        best[blocks] = np.minimum(best[blocks], _sum_subsets(column[members]))
    return best


def _sum_subsets(terms: Sequence[float] | np.ndarray) -> np.ndarray:
    """The sum over each subset of the terms, (2^terms,): of powers of two, the subsets as bit masks."""
    sums = np.zeros(1, dtype=np.asarray(terms).dtype if len(terms) else np.int64)
    for term in terms:
        sums = np.concatenate([sums, sums + term])
    return sums


def _bits(mask: int) -> list[int]:
    return [n for n in range(mask.bit_length()) if mask >> n & 1]


def _solve_by_milp(
    regrets: np.ndarray, costs: np.ndarray, budget: int, scale: float
) -> tuple[list[int], bool] | None:
    """The same choice as an integer programme: which candidates are chosen, and whom does each
    serve?

    HiGHS is content within 1e-6 of the best, so regrets are scaled up; and it is asked again
    without the services that alone cost more than all it found, because one score of -1e6 would set
    the scale.
    """
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array
    except ImportError as error:
        raise ImportError(
            f"Choosing groups of more than {MAX_TASKS} tasks, or of many different costs, needs "
            "scipy, "
            'which is not installed. Run: pip install "dmtg-lite[data]"'
        ) from error
    n_tasks, n_candidates = regrets.shape
    unit = gcd(budget, *costs.tolist())  # small whole numbers are safe from HiGHS's tolerances
    worst = regrets[np.isfinite(regrets)].max()
    chosen = np.arange(0)
    while True:
        task, server = np.nonzero(regrets <= worst)
        service, ones = np.arange(len(task)), np.ones(len(task))
        columns = n_candidates + len(task)  # first "is it chosen?", then "does it serve this task?"
        serves = csr_array((ones, (task, n_candidates + service)), shape=(n_tasks, columns))
        unpaid = csr_array((ones, (service, n_candidates + service)), shape=(len(task), columns))
        unpaid = unpaid - csr_array((ones, (service, server)), shape=(len(task), columns))
        result = milp(
            np.concatenate(
                [np.zeros(n_candidates), regrets[task, server] * (_MILP_SCALE / (worst or 1.0))]
            ),
            integrality=np.arange(columns) < n_candidates,
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(serves, 1, 1),
                LinearConstraint(unpaid, -np.inf, 0),
                LinearConstraint(
                    np.concatenate([costs / unit, 0 * ones])[None], -np.inf, budget / unit
                ),
            ],
            options={"time_limit": _MILP_SECONDS, "mip_rel_gap": 0.0},
        )
        if result.status == 2:  # infeasible
            return None
        if result.x is not None:
            chosen = np.flatnonzero(result.x[:n_candidates] > 0.5)
        elif not len(chosen):
            raise RuntimeError(f"HiGHS found no choice of groups: {result.message}")
        regret = regrets[:, chosen].min(axis=1).sum()
        if result.status != 0 or worst <= 100 * regret or regret == 0:
            break
        worst = regret
    for index in chosen[::-1]:  # HiGHS may choose what serves nobody
        fewer = chosen[chosen != index]
        if regrets[:, fewer].min(axis=1, initial=np.inf).sum() <= regret + _TIE * (scale + regret):
            chosen = fewer
    return chosen.tolist(), result.status == 0
