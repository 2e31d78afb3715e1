"""What the choice of groups promises: published cases, brute force, hand-made instances.

`selection_cases.json` holds the scores of published code and the groups that follow from them.
"""

from __future__ import annotations

import builtins
import json
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from dmtg_lite.methods import selection
from dmtg_lite.methods.search.selection import (
    Candidate,
    Selection,
    pairwise_candidates,
    select_groups,
)

FILE = json.loads((Path(__file__).parent / "selection_cases.json").read_text())
CASES = {case["name"]: case for case in FILE["cases"]}
NAMES = "abcdefghijklmnopqrst"


def make_candidates(table: dict) -> list[Candidate]:
    """The candidates of a published table."""
    tasks = table["tasks"]
    if table["kind"] == "error":  # HOA's notebook: a task on its own has its single-task error
        return pairwise_candidates(np.array(table["values"]), tasks, singles="diagonal")
    if table["kind"] == "affinity":  # TAG's notebook: a task on its own scores -1e6
        return pairwise_candidates(np.array(table["values"]), tasks, singles="never")
    if table["kind"] == "networks":  # one row a network: its cost, then a loss per task or nothing.
        # The first five are single-task networks of half size, at cost 0.5, beside full ones at
        # cost 1.
        rows = [
            (cost, {t: s for t, s in zip(tasks, row, strict=True) if s is not None})
            for cost, *row in table["values"]
        ]
        return [Candidate(tuple(scores), scores, cost) for cost, scores in rows]
    # MTG-Net: an exact 0 means that the task is not in the group, which hides the singles, whose
    # gain over themselves is 0. They can be chosen with the true gains and not with those predicted
    # by HOA.
    rows = [{t: s for t, s in zip(tasks, row, strict=True) if s} for row in table["values"]]
    singles = [{task: 0.0} for task in tasks] if table["singles"] == 0.0 else []
    return [Candidate(tuple(scores), scores) for scores in [*singles, *rows] if scores]


def choose(case: dict) -> Selection:
    table = FILE["tables"][case["table"]]
    maximise = table["kind"] in ("affinity", "gain")
    return select_groups(make_candidates(table), case["budget"], maximise=maximise)


def as_sets(groups: list) -> list[tuple[str, ...]]:
    return sorted(tuple(sorted(group)) for group in groups)


@pytest.mark.parametrize("name", CASES)
def test_a_published_case_has_its_groups_and_total(name: str) -> None:
    """The one best choice, proven and the only one; sums and means as published, to 1e-9."""
    case, chosen = CASES[name], choose(CASES[name])
    assert case["n_optimal_minimal_solutions"] == 1
    assert as_sets(chosen.groups) == as_sets(case["expected_groups"])
    assert chosen.is_unique
    assert chosen.is_exact
    if "expected_costs" in case:  # of a task on its own there are two networks
        costs = dict(zip(map(tuple, case["expected_groups"]), case["expected_costs"], strict=True))
        assert {candidate.tasks: candidate.cost for candidate in chosen.candidates} == costs
    table = FILE["tables"][case["table"]]
    tasks = table["tasks"]
    if "expected_mean" in case:
        assert chosen.total / len(tasks) == pytest.approx(case["expected_mean"], abs=1e-9)
    elif "expected_total" in case:
        assert chosen.total == pytest.approx(case["expected_total"], abs=1e-9)
        # the published curve: per task the least test loss among the chosen networks
        networks = make_candidates(table)
        losses = [table["test_values"][networks.index(own)] for own in chosen.candidates]
        least = np.nanmin(np.array(losses, dtype=float), axis=0)
        assert least.sum() == pytest.approx(case["expected_test_total"], abs=1e-9)
    else:  # the gain that was true in the group that was predicted to be best
        rows = dict(zip(table["groups"], table["true_values"], strict=True))
        gains = [
            rows["".join(sorted(chosen.served_by[task], key=tasks.index))][n]
            for n, task in enumerate(tasks)
        ]
        assert np.mean(gains) == pytest.approx(case["expected_mean_true_gain"], abs=1e-9)


def search_all(
    candidates: list[Candidate], budget: float, maximise: bool
) -> tuple[float, list[tuple[int, ...]]]:
    """Oracle: every set of candidates. The best total, and the minimal sets that reach it."""
    tasks = {task for candidate in candidates for task in candidate.tasks}
    sign = -1 if maximise else 1
    best, optima = np.inf, []
    for size in range(1, len(candidates) + 1):
        for chosen in combinations(range(len(candidates)), size):
            groups = [candidates[index] for index in chosen]
            if sum(group.cost for group in groups) > budget:
                continue
            served = [[sign * g.scores[task] for g in groups if task in g.tasks] for task in tasks]
            if not all(served):
                continue
            total = sum(map(min, served))
            if total < best:
                best, optima = total, []
            if total == best and not any(set(smaller) < set(chosen) for smaller in optima):
                optima.append(chosen)
    return sign * best, optima


# quarters add up without rounding, and few values mean many ties
SCORES = st.integers(-3, 3).map(lambda quarters: quarters / 4)


@st.composite
def instances(draw: st.DrawFn) -> tuple[list[Candidate], float, bool]:
    """Up to 6 tasks, up to 8 overlapping groups, most of all groups missing, a price or three."""
    tasks, prices = (
        NAMES[: draw(st.integers(1, 6))],
        draw(st.sampled_from([[1.0], [0.5, 1.0, 1.5]])),
    )
    groups = draw(st.lists(st.sets(st.sampled_from(tasks), min_size=1), min_size=1, max_size=8))
    candidates = [
        Candidate(tuple(sorted(g)), {t: draw(SCORES) for t in g}, draw(st.sampled_from(prices)))
        for g in groups
    ]
    return candidates, draw(st.integers(1, 10)) / 2, draw(st.booleans())


@given(instances())
@settings(deadline=None, max_examples=120)
def test_no_set_of_candidates_is_better(instance: tuple[list[Candidate], float, bool]) -> None:
    """Oracle: brute force agrees on the total, who may be chosen, and whether there is a choice.

    At one price for the dynamic programme, at three for the solver.
    """
    candidates, budget, maximise = instance
    total, optima = search_all(candidates, budget, maximise)
    if not optima:
        with pytest.raises(ValueError, match="`budget` = "):
            select_groups(candidates, budget, maximise=maximise)
        return
    chosen = select_groups(candidates, budget, maximise=maximise)
    indices = tuple(
        next(i for i, c in enumerate(candidates) if c is own) for own in chosen.candidates
    )
    assert chosen.total == total
    assert indices in optima  # so it is affordable, serves everybody, and no group is idle
    assert len(indices) == len(optima[0])
    assert chosen.is_unique == (len(optima) == 1)
    assert chosen.is_exact
    own = dict(zip(chosen.groups, chosen.candidates, strict=True))
    if len(own) == len(chosen.groups):  # else two networks of one group
        assert sum(own[group].scores[task] for task, group in chosen.served_by.items()) == total


@pytest.mark.parametrize("name", ["tag_taskonomy_tag_k3", "hoa_taskonomy_k3"])
def test_both_solvers_choose_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores as they are measured, those of -1e6 among them, do not disturb HiGHS."""
    case = CASES[name]
    candidates, expected = make_candidates(FILE["tables"][case["table"]]), choose(case)
    monkeypatch.setattr(selection, "MAX_TASKS", 0)
    maximise = name.startswith("tag")
    assert select_groups(candidates, case["budget"], maximise=maximise) == expected


def test_twenty_tasks_find_their_planted_groups() -> None:
    """Four groups of five score 1, any other 2: more tasks than the dynamic programme takes."""
    planted = [NAMES[k : k + 5] for k in range(0, 20, 5)]
    others = [NAMES[k : k + 5] for k in range(2, 17, 5)] + [NAMES]
    chosen = select_groups(
        [Candidate(tuple(g), dict.fromkeys(g, 2.0 - (g in planted))) for g in others + planted],
        budget=4,
    )
    assert chosen.groups == [tuple(group) for group in planted]
    assert chosen.total == 20.0
    assert chosen.is_exact
    assert chosen.is_unique


def test_many_prices_are_no_obstacle() -> None:
    """Twelve networks of twelve prices: the answer of brute force."""
    rng = np.random.default_rng(0)
    groups = [group for size in (1, 2, 4) for group in combinations("abcd", size)] + [tuple("abc")]
    candidates = [
        Candidate(g, {t: float(rng.integers(0, 64)) for t in g}, 0.5 + k / 7)
        for k, g in enumerate(groups)
    ]
    total, optima = search_all(candidates, 6.0, maximise=False)
    chosen = select_groups(candidates, 6.0)
    assert chosen.total == total
    assert chosen.candidates == [candidates[index] for index in optima[0]]


def test_out_of_time_is_not_called_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HiGHS had when its time was up is handed over with the gap that is known by then.

    By hand: twenty tasks at 1 each alone, or all in one group at 2 each, which is what it had.
    Nothing at all is an error.
    """
    candidates = [
        *(Candidate((task,), {task: 1.0}) for task in NAMES),
        Candidate(tuple(NAMES), dict.fromkeys(NAMES, 2.0)),
    ]
    only_the_last, all_services = np.eye(21)[-1], np.zeros(40)
    for bound, gap in ((None, 20.0), (0.25e7, 17.5)):  # of a scale of 1e6 for a regret of 1
        late = SimpleNamespace(
            status=1, x=np.append(only_the_last, all_services), mip_dual_bound=bound
        )
        monkeypatch.setattr(scipy.optimize, "milp", lambda *_, late=late, **__: late)
        chosen = select_groups(candidates, 20)
        assert chosen.total == 40.0
        assert not chosen.is_exact
        assert not chosen.is_unique
        assert chosen.gap == pytest.approx(gap, abs=1e-5)
    nothing = SimpleNamespace(status=1, x=None, message="Time limit reached.", mip_dual_bound=None)
    monkeypatch.setattr(scipy.optimize, "milp", lambda *_, **__: nothing)
    with pytest.raises(
        RuntimeError, match=r"HiGHS found no choice of groups: Time limit reached\."
    ):
        select_groups(candidates, 20)


def test_a_task_in_two_groups_is_served_by_the_better() -> None:
    """By hand: b is in both groups; 1 + 2 + 3 is the sum."""
    candidates = [Candidate(("a", "b"), {"a": 1, "b": 5}), Candidate(("b", "c"), {"b": 2, "c": 3})]
    chosen = select_groups(candidates, budget=2)
    assert chosen.groups == [("a", "b"), ("b", "c")]
    assert chosen.served_by == {"a": ("a", "b"), "b": ("b", "c"), "c": ("b", "c")}
    assert chosen.total == 6.0


def test_a_half_size_network_fits_where_a_whole_one_does_not() -> None:
    """Budget 1 buys the pair, 1.5 a half-size network too, 2 the better whole one."""
    pair = Candidate(("a", "b"), {"a": 4, "b": 4})
    half, whole = Candidate(("b",), {"b": 3}, cost=0.5), Candidate(("b",), {"b": 2})
    chosen = {budget: select_groups([pair, half, whole], budget) for budget in (1, 1.5, 2)}
    assert {budget: c.total for budget, c in chosen.items()} == {1: 8.0, 1.5: 7.0, 2: 6.0}
    assert chosen[1.5].candidates == [pair, half]


def test_tenths_add_up() -> None:
    """Three times 0.1 fits into 0.3, though not in binary fractions."""
    candidates = [Candidate((task,), {task: 1.0}, cost=0.1) for task in "abc"]
    assert select_groups(candidates, budget=0.3).total == 3.0


def test_ties_go_to_the_fewest_then_the_cheapest_then_the_first() -> None:
    """Four ways to reach 0: one group beats two, the cheaper the dearer, the first the second."""
    singles = [Candidate((task,), {task: 0}, cost=0.1) for task in "ab"]
    dear, first, second = (
        Candidate(("a", "b"), {"a": 0, "b": 0}, cost) for cost in (2.0, 1.0, 1.0)
    )
    chosen = select_groups([*singles, dear, first, second], budget=3)
    assert chosen.candidates[0] is first
    assert len(chosen.candidates) == 1
    assert not chosen.is_unique
    assert not select_groups([*singles, dear], budget=3).is_unique
    assert select_groups([dear], budget=3).is_unique


def test_means_of_equal_values_tie_in_spite_of_rounding() -> None:
    """The mean of three times 0.1 is not quite 0.1; one group is still enough."""
    chosen = select_groups(
        pairwise_candidates(np.full((4, 4), 0.1), NAMES[:4], singles="diagonal"), 4
    )
    assert chosen.groups == [("a", "b", "c", "d")]


@given(st.permutations(range(5)), st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_the_order_of_tasks_does_not_matter(order: list[int], budget: int) -> None:
    """Tasks permuted, the same groups: where the best choice is the only one, it is the same."""
    values = np.random.default_rng(1).random((5, 5))
    expected = select_groups(pairwise_candidates(values, NAMES[:5], singles="diagonal"), budget)
    permuted = pairwise_candidates(
        values[np.ix_(order, order)], [NAMES[n] for n in order], singles="diagonal"
    )
    chosen = select_groups(permuted, budget)
    assert expected.is_unique
    assert chosen.is_unique
    assert as_sets(chosen.groups) == as_sets(expected.groups)


def test_groups_are_scored_by_their_pairs() -> None:
    """By hand: of three, the mean of two; of two, the value; of one, the diagonal or never."""
    values = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 6.0], [7.0, 9.0, 8.0]])
    scores = {
        c.tasks: c.scores for c in pairwise_candidates(values, ["a", "b", "c"], singles="diagonal")
    }
    assert list(scores)[:4] == [("a",), ("b",), ("c",), ("a", "b")]
    assert len(scores) == 7
    assert scores["a",] == {"a": 1.0}
    assert scores["a", "c"] == {"a": 4.0, "c": 7.0}
    assert scores["a", "b", "c"] == {"a": 3.0, "b": 4.5, "c": 8.0}
    assert values[0, 0] == 1.0  # the caller's matrix is left alone


def test_never_is_for_a_task_that_nobody_helps() -> None:
    """The diagonal may be unknown; a group that harms is better than none."""
    values = np.array([[np.nan, -5.0], [-7.0, np.nan]])
    candidates = pairwise_candidates(values, ["a", "b"], singles="never")
    assert candidates[0].scores == {"a": -1e6}
    assert select_groups(candidates, 2, maximise=True).groups == [("a", "b")]
    assert select_groups(candidates[:2], 2, maximise=True).groups == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), {}), "`tasks` must be one or more names"),
        (("ab", {"ab": 1.0}), "`tasks` must be one or more names"),
        ((("a", "a"), {"a": 1.0}), "`tasks` must be one or more names, each once"),
        ((("a",), {"a": 1.0, "z": 2.0}), r"group \('a',\) and no other, .* for \('a', 'z'\)"),
        ((("a", "b"), {"a": 1.0}), r"of the group \('a', 'b'\) .* for \('a',\)"),
        *(((("a",), {"a": score}), "`scores` must be finite") for score in (np.nan, np.inf)),
        *(((("a",), {"a": 1.0}, c), "`cost` must be a number above 0") for c in (0.0, -1, np.nan)),
    ],
)
def test_a_bad_candidate_is_refused(arguments: tuple, message: str) -> None:
    """A candidate that exists can be chosen."""
    with pytest.raises(ValueError, match=message):
        Candidate(*arguments)


def test_a_choice_that_cannot_be_made_is_refused() -> None:
    """No candidates, no budget, a task out of reach, tasks that are out of reach together."""
    cheap, dear = (
        Candidate(("a",), {"a": 1.0}),
        Candidate(("b", "c"), {"b": 1.0, "c": 1.0}, cost=3.0),
    )
    with pytest.raises(ValueError, match="`candidates` is empty"):
        select_groups([], 1)
    for budget in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`budget` must be a number above 0"):
            select_groups([cheap], budget)
    with pytest.raises(ValueError, match="`budget` = 2 cannot serve the tasks b, c: no group"):
        select_groups([cheap, dear], 2)
    with pytest.raises(ValueError, match="`budget` = 3 cannot serve the tasks a, b, c: no group"):
        select_groups([cheap, dear], 3)


@pytest.mark.parametrize(
    ("values", "tasks", "singles", "message"),
    [
        (np.ones((2, 3)), "ab", "never", r"`values` must have shape \(2, 2\)"),
        (np.ones((0, 0)), "", "never", "`values` must have shape"),
        (np.ones((2, 2)), "aa", "never", "`tasks` must name each task once"),
        (np.ones((2, 2)), "ab", "always", '`singles` must be "diagonal" or "never"'),
        (np.array([[1.0, np.nan], [1.0, 1.0]]), "ab", "never", "the rows of a are not"),
        (np.array([[1.0, 1.0], [1.0, np.nan]]), "ab", "diagonal", "the rows of b are not"),
        (np.ones((16, 16)), NAMES[:16], "never", "16, which is 65535 groups"),
    ],
)
def test_bad_pairs_are_refused(values: np.ndarray, tasks: str, singles: str, message: str) -> None:
    """What does not fit, what is not there, and what would be too much."""
    with pytest.raises(ValueError, match=message):
        pairwise_candidates(values, tasks, singles)


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few tasks of one price nothing is needed; else the message is the command."""
    load = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("scipy"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    candidates = [Candidate((task,), {task: 1.0}) for task in NAMES[:16]]
    assert select_groups(candidates[:9], 9).total == 9.0
    with pytest.raises(ImportError, match=r'pip install "dmtg-lite\[data\]"'):
        select_groups(candidates, 16)
