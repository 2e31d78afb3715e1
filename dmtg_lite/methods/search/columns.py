"""The choice among groups of more than 15 tasks, which are too many to list: column generation.

A linear programme chooses among the groups it knows, its prices say which others would help, those
are looked for and join; an integer programme makes the choice in the end. Branch and bound over all
groups then proves it best, or says how far from the best it may be at most.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy import ndarray

from dmtg_lite.core.checks import as_whole
from dmtg_lite.methods.search.selection import (
    MAX_TASKS,
    MILP_SECONDS,
    Selection,
    check_pairs,
    load_scipy,
    make_candidate,
    pairwise_candidates,
    select_groups,
)

_ROUNDS, _STALLED = 150, 15  # of the linear programme; rounds without a gain before it is left
_JOIN = 60  # groups that join it in a round
_GROWN = 4_000_000  # groups are grown from all tasks up to 44, from four of 100
_NODES, _AT_ONCE = 300_000, 3_000  # partial groups of one branch and bound; so many side by side
_MOST = 500  # groups in the last choice
_SLACK = 1e-6  # regrets are about 1: what the rounding of a solver may hide
_TIE = 1e-9  # of the scores
_log = logging.getLogger("dmtg_lite")


def select_by_pairs(
    values: ndarray,
    tasks: Sequence[str],
    n_groups: int,
    *,
    singles: Literal["diagonal", "never"],
    maximise: bool = False,
) -> Selection:
    """Choose at most ``n_groups`` groups of any number of tasks, scored by what pairs said.

    Up to 15 tasks: `select_groups` of all `pairwise_candidates`. Of more, the same choice where it
    can be proven best (`Selection.is_exact`; groups that stand out, of 40 tasks in seconds), and
    else a good one with `Selection.gap`: what better there may be at most. Work is limited by
    counts, not by the clock: the same matrix, the same choice.

    Args:
        values, tasks, singles: See `pairwise_candidates`.
        n_groups: Largest number of groups; each costs 1.
        maximise: See `select_groups`.

    Source:
        Column generation with Lagrangian bounds, as in Desaulniers, Desrosiers and Solomon, Column
        Generation (2005); the objective is that of Standley et al. 2020 and Fifty et al. 2021.
    """
    n_groups = as_whole("n_groups", n_groups, 1)
    if len(tasks) <= MAX_TASKS:
        candidates = pairwise_candidates(values, tasks, singles)
        return select_groups(candidates, n_groups, maximise=maximise)
    return _select(values, tasks, n_groups, singles, maximise)


def _select(
    values: ndarray, tasks: Sequence[str], n_groups: int, singles: str, maximise: bool
) -> Selection:
    effects, alone = check_pairs(values, tasks, singles)
    pairs = _Pairs.of(effects, alone, n_groups, -1.0 if maximise else 1.0)
    sets, bound, is_complete = _find_candidates(pairs)
    listed = {tuple(np.flatnonzero(one).tolist()) for one in [*np.eye(len(tasks)), *sets]}
    groups = sorted(listed, key=lambda group: (len(group), group))  # as all would be listed
    candidates = [make_candidate(effects, alone, group, tasks) for group in groups]
    chosen = select_groups(candidates, n_groups, maximise=maximise)
    if is_complete:
        return chosen
    best = pairs.unit * bound + pairs.best.sum()  # no total is below that, or above its negative
    gap = (-chosen.total if maximise else chosen.total) - float(best)
    if gap <= _TIE * (abs(best) + np.abs(pairs.best).sum()):
        return replace(chosen, gap=0.0, is_exact=True, is_unique=False)
    _log.warning(
        "%d groups of %d tasks: a total of %.6g, not proven best: another may be better by %.2g.",
        n_groups, len(tasks), chosen.total, gap,
    )  # fmt: skip
    return replace(chosen, gap=gap, is_exact=False, is_unique=False)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What each task loses beside each other against its best: >= 0, about 1, to be small."""

    regrets: ndarray  # (N, N), [a, b]: of task a beside b; 0 on the diagonal
    alone: ndarray  # (N,)
    n_groups: int
    best: ndarray = field(repr=False)  # (N,), in the unit of the scores
    unit: float  # of a regret

    @classmethod
    def of(cls, effects: ndarray, alone: ndarray, n_groups: int, sign: float) -> _Pairs:
        is_other = ~np.eye(len(effects), dtype=bool)
        best = np.minimum((sign * effects).min(1, where=is_other, initial=np.inf), sign * alone)
        regrets = np.where(is_other, sign * effects - best[:, None], 0.0)
        unit = regrets.mean() or 1.0
        return cls(regrets / unit, (sign * alone - best) / unit, n_groups, best, unit)

    def score(self, sets: ndarray) -> ndarray:
        """Who is in it, bool (G, N) -> each one's regret there, inf for the others."""
        return np.where(sets, self._means(sets.astype(float)), np.inf)

    def _means(self, members: ndarray) -> ndarray:
        size = members.sum(1, keepdims=True)
        means = members @ self.regrets.T / np.maximum(size - 1, 1)
        return np.where(size == 1, self.alone, means)

    def value(self, sets: ndarray, prices: ndarray) -> ndarray:
        """Bool (..., N) -> what it costs beyond the prices (N,) of those worth serving: <= 0."""
        members = sets.reshape(-1, len(prices)).astype(float)
        values = np.einsum("gn,gn->g", np.minimum(self._means(members) - prices, 0.0), members)
        return values.reshape(sets.shape[:-1])


class _Master:
    """The linear programme over columns: a group, and the tasks that it serves.

    Its dual: a price for each task, and one for a group; a column that costs less than those it
    serves and a group is missing.
    """

    def __init__(self, pairs: _Pairs) -> None:
        self.pairs = pairs
        self.sets, self.served = np.zeros((2, 0, len(pairs.alone)), dtype=bool)
        self.costs = np.zeros(0)
        everybody = np.ones((1, len(pairs.alone)), dtype=bool)
        means = pairs.score(everybody)[0]
        self.add(everybody, means + 1, 0.0)
        self.add(_look_for(pairs, means, 0), means, 0.0)

    def add(self, sets: ndarray, prices: ndarray, price_of_group: float) -> int:
        """Let those join that help at these prices, the best of them; how many."""
        scores = self.pairs.score(sets)
        gains = np.minimum(scores - prices, 0.0).sum(1)
        order = np.argsort(gains, kind="stable")[:_JOIN]
        order = order[gains[order] < -price_of_group - _SLACK]
        served = scores[order] < prices
        self.sets = np.concatenate([self.sets, sets[order]])
        self.served = np.concatenate([self.served, served])
        self.costs = np.append(self.costs, np.where(served, scores[order], 0.0).sum(1))
        return len(order)

    def solve(self) -> tuple[float, ndarray, float]:
        """Least total, prices (N,) of the tasks, price of a group; all >= 0."""
        n_tasks, one = self.served.shape[1], np.ones(len(self.costs))
        result = load_scipy().optimize.linprog(
            self.costs,
            A_ub=np.vstack([-self.served.T.astype(float), one]),
            b_ub=np.append(-np.ones(n_tasks), self.pairs.n_groups),
            method="highs",
        )
        prices = np.maximum(-result.ineqlin.marginals, 0.0)
        return result.fun, prices[:n_tasks], prices[n_tasks]

    def choose(self, prices: ndarray) -> tuple[ndarray, float]:
        """Groups that together are best among the columns, and the total; or all tasks at once."""
        scipy = load_scipy()
        near = np.argsort(self.costs - self.served @ prices, kind="stable")[: 4 * _MOST]
        near = np.union1d(near, 0)  # all tasks in one group are always a choice
        served = self.served[near].T.astype(float)
        found = scipy.optimize.milp(
            self.costs[near],
            integrality=np.ones(len(near)),
            bounds=(0, 1),
            constraints=[
                scipy.optimize.LinearConstraint(served, lb=1),
                scipy.optimize.LinearConstraint(np.ones((1, len(near))), ub=self.pairs.n_groups),
            ],
            options={"time_limit": MILP_SECONDS},
        )
        picked = near[:1] * 0 if found.x is None else near[found.x > 0.5]
        sets = self.sets[picked]
        return sets, float(self.pairs.score(sets).min(0).sum())


def _generate(pairs: _Pairs) -> tuple[_Master, ndarray]:
    """A programme that knows the groups which matter, and prices near the best."""
    master, most, stalled = _Master(pairs), -np.inf, 0
    centre = master.solve()[1]
    for round_ in range(_ROUNDS):
        _, prices, price_of_group = master.solve()
        # half way to the best prices so far: the programme's own jump to and fro
        for asked in ((prices + centre) / 2, prices):
            sets = _look_for(pairs, asked, round_)
            least = pairs.value(sets, asked).min()
            value = asked.sum() + pairs.n_groups * least
            stalled = 0 if value > most + 1e-4 * abs(most) else stalled + 1
            if value > most:
                most, centre = value, asked
            if master.add(sets, prices, price_of_group):
                break
        else:
            return master, prices
        if stalled > _STALLED:
            break
    return master, centre


def _look_for(pairs: _Pairs, prices: ndarray, round_: int) -> ndarray:
    """Groups worth having at these prices, (G, N): grown from each task, the best then mended.

    Of many tasks, from some of them: others in the next round.
    """
    n_tasks = len(prices)
    eye = np.eye(n_tasks, dtype=bool)
    n_starts = min(n_tasks, max(4, int(_GROWN / n_tasks**3)))
    sets = eye[(round_ * n_starts + np.arange(n_starts)) % n_tasks]
    grown = [eye]
    for _ in range(n_tasks - 1):
        values = pairs.value(sets[:, None] | eye, prices)  # (G, N): with one more
        values[sets] = np.inf
        sets = sets | eye[values.argmin(1)]
        grown.append(sets)
    found = np.unique(np.concatenate(grown), axis=0)
    sets = found[np.argsort(pairs.value(found, prices), kind="stable")[:_JOIN]]
    for _ in range(n_tasks):  # one in or out, whatever helps most
        others = sets[:, None] ^ eye  # (G, N, N)
        values = np.where(others.any(-1), pairs.value(others, prices), np.inf)
        helps = values.min(1) < pairs.value(sets, prices) - _SLACK
        if not helps.any():
            break
        sets = np.where(helps[:, None], sets ^ eye[values.argmin(1)], sets)
    return np.unique(np.concatenate([found, sets]), axis=0)


def _find_candidates(pairs: _Pairs) -> tuple[ndarray, float, bool]:
    """Groups (G, N) to choose from, a bound on any choice, and whether they hold the best one.

    A choice of total U at most has no group whose value exceeds U - (sum of all prices) - (K - 1)
    times the least value of any group: for the others are no better than that least.
    """
    master, prices = _generate(pairs)
    least = 0.0
    chosen, total = master.choose(prices)
    for _ in range(_STALLED):
        least = min(least, pairs.value(master.sets, prices).min())
        reach = total - prices.sum() - (pairs.n_groups - 1) * least + _SLACK
        found, low, is_complete = _branch(pairs, prices, reach)
        if not is_complete:
            break
        if low >= least - _TIE:  # far below the slack in reach, K times over
            return found, total, True
        _, new_prices, price_of_group = master.solve()  # nobody had thought of these
        prices = new_prices if master.add(found, new_prices, price_of_group) else prices
        least = low if prices is not new_prices else 0.0
        chosen, total = master.choose(prices)
    bounds = [0.0]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        asked = (1 - share) * prices + share * _relax(pairs)
        low = _branch(pairs, asked, 0.0)[1]
        bounds.append(asked.sum() + pairs.n_groups * low)
    return chosen, max(bounds), False


def _relax(pairs: _Pairs) -> ndarray:
    """Prices (N,) for which it is known at once that no group is worth much.

    They are the duals of a programme in which tasks choose a size of group, everyone thinks his
    best partners are there, and there are seats for all who come.
    """
    scipy, n_tasks = load_scipy(), len(pairs.alone)
    sparse = scipy.sparse
    others = np.sort(pairs.regrets + np.diag(np.full(n_tasks, np.inf)), axis=1)[:, :-1]
    means = others.cumsum(1) / np.arange(1, n_tasks)
    costs = np.column_stack([pairs.alone, means])  # (N, sizes from 1 to N)
    sizes, eye = np.arange(1, n_tasks + 1), sparse.eye_array(n_tasks)
    one = np.ones((n_tasks, 1))
    seats = sparse.hstack([sparse.kron(one.T, eye), -sparse.diags_array(sizes.astype(float))])
    one_each = sparse.hstack([sparse.eye_array(n_tasks**2), -sparse.kron(one, eye)])
    come = sparse.hstack([-sparse.kron(eye, one.T), sparse.coo_array((n_tasks, n_tasks))])
    n_groups = np.append(np.zeros(n_tasks**2), np.ones(n_tasks))[None]
    result = scipy.optimize.linprog(
        np.append(costs.ravel(), np.zeros(n_tasks)),
        A_ub=sparse.vstack([come, seats, one_each, n_groups]),
        b_ub=np.concatenate([-one[:, 0], np.zeros(n_tasks + n_tasks**2), [pairs.n_groups]]),
        method="highs",
    )
    return np.maximum(-result.ineqlin.marginals[:n_tasks], 0.0)


def _branch(pairs: _Pairs, prices: ndarray, reach: float) -> tuple[ndarray, float, bool]:
    """All groups (G, N) of a value below ``reach``, the least value, and whether that is so.

    If not, there were too many to look at: then the least value is a bound, no group is below it.
    """
    n_tasks = len(prices)
    order = np.argsort(-prices, kind="stable")
    bound = _Bound(pairs.regrets[np.ix_(order, order)], prices[order])
    found = np.eye(n_tasks, dtype=bool)[np.minimum(pairs.alone - prices, 0.0) < reach]
    # partial groups: who is in of the first `decided`, and how many of the rest are to join
    left = np.arange(2, n_tasks + 1)
    sets = np.zeros((len(left), n_tasks), dtype=bool)
    decided, lows = np.zeros_like(left), np.full(len(left), -np.inf)
    for _ in range(_NODES // _AT_ONCE):
        if not len(sets) or len(found) > _MOST:
            break
        order_of = np.argsort(lows, kind="stable")
        now, later = order_of[:_AT_ONCE], order_of[_AT_ONCE:]
        joined = sets[now]
        joined[np.arange(len(now)), decided[now]] = True
        new = np.concatenate([sets[now], joined])
        new_decided = np.tile(decided[now] + 1, 2)
        new_left = np.concatenate([left[now], left[now] - 1])
        fits = (new_left >= 0) & (new_left <= n_tasks - new_decided)
        new, new_decided, new_left = new[fits], new_decided[fits], new_left[fits]
        new_lows = bound(new, new_decided, new_left)
        is_done = (new_left == 0) & (new_lows < reach)
        whole = np.zeros((is_done.sum(), n_tasks), dtype=bool)
        whole[:, order] = new[is_done]
        found = np.concatenate([found, whole])
        stays = (new_left > 0) & (new_lows < reach)
        sets = np.concatenate([sets[later], new[stays]])
        decided = np.append(decided[later], new_decided[stays])
        left = np.append(left[later], new_left[stays])
        lows = np.append(lows[later], new_lows[stays])
    least = min([reach, 0.0, *lows, *pairs.value(found, prices)])
    return found, least, not len(sets)


class _Bound:
    """The least value that a partial group can come to have, whoever joins."""

    def __init__(self, regrets: ndarray, prices: ndarray) -> None:
        n_tasks = len(prices)
        self.regrets, self.prices = regrets, prices
        # [t, a, j]: what the best, or the worst, j partners of a from t on add up to
        self.best, self.worst = np.zeros((2, n_tasks + 1, n_tasks, n_tasks + 1))
        for t in range(n_tasks):
            rest = regrets[:, t:] + np.where(np.eye(n_tasks, dtype=bool)[:, t:], np.inf, 0.0)
            rest = np.sort(rest, axis=1)
            self.best[t, :, 1 : n_tasks - t + 1] = rest.cumsum(1)
            self.worst[t, :t, 1 : n_tasks - t + 1] = rest[:t, ::-1].cumsum(1)

    def __call__(self, sets: ndarray, decided: ndarray, left: ndarray) -> ndarray:
        """Bool (G, N), tasks in or out of it (G,), and to come (G,) -> (G,)."""
        tasks = np.arange(len(self.prices))
        is_open = tasks >= decided[:, None]
        others = (sets.sum(1) + left - 1)[:, None]
        known = sets.astype(float) @ self.regrets.T
        joining = np.maximum(left[:, None] - is_open, 0)
        at = decided[:, None], tasks, joining
        lowest = np.minimum((known + self.best[at]) / others - self.prices, 0.0)
        highest = np.maximum((known + self.worst[at]) / others - self.prices, 0.0)
        # each member for himself: his best partners join
        own = np.where(is_open, lowest, np.inf)
        alone = np.where(sets, lowest, 0.0).sum(1) + _add_smallest(own, left)
        # all members at once: the same partners join for all. min(0, x) is above its chord
        slope = np.where(highest > 0, -lowest / np.maximum(highest - lowest, 1e-300), 1.0) * sets
        start = (slope * (known / others - self.prices - highest)).sum(1)
        together = start + _add_smallest(own + slope / others @ self.regrets, left)
        return np.maximum(alone, together)


def _add_smallest(values: ndarray, counts: ndarray) -> ndarray:
    """The sum of so many smallest numbers of each row; (G, N), (G,) -> (G,)."""
    sums = np.sort(values, axis=1).cumsum(1)
    return np.where(counts > 0, sums[np.arange(len(sums)), counts - 1], 0.0)
