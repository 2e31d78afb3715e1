"""What the choice among more groups than can be listed promises: the best, or a bound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dmtg_lite.methods import pairwise_candidates, select_by_pairs, select_groups
from dmtg_lite.methods.search import columns

FILE = json.loads((Path(__file__).parent / "selection_cases.json").read_text())
CASES = {case["name"]: case for case in FILE["cases"]}
PAIRS = {"error": ("diagonal", False), "affinity": ("never", True)}
BY_PAIRS = [name for name in CASES if FILE["tables"][CASES[name]["table"]]["kind"] in PAIRS]


def names(n_tasks: int) -> list[str]:
    return [f"t{n}" for n in range(n_tasks)]


def plant(n_tasks: int, n_groups: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Losses 0 beside one's own, 1 beside strangers, and noise; uneven groups."""
    rng = np.random.default_rng(0)
    group = np.sort(np.minimum((rng.random(n_tasks) ** 1.3 * n_groups).astype(int), n_groups - 1))
    group[: 2 * n_groups] = np.repeat(range(n_groups), 2)  # two tasks or more in each
    values = (group[:, None] != group) + noise * rng.standard_normal((n_tasks, n_tasks))
    return values + np.diag(np.full(n_tasks, 2.0)), group  # alone: worse than beside a stranger


@pytest.mark.parametrize("name", BY_PAIRS)
def test_published_choices_are_found(name: str) -> None:
    """HOA's and TAG's notebooks: the same groups, proven, without listing the others."""
    case, table = CASES[name], FILE["tables"][CASES[name]["table"]]
    (singles, maximise), values = PAIRS[table["kind"]], np.array(table["values"])
    chosen = columns._select(values, table["tasks"], case["budget"], singles, maximise)
    listed = select_by_pairs(
        values, table["tasks"], case["budget"], singles=singles, maximise=maximise
    )
    assert sorted(map(sorted, chosen.groups)) == sorted(map(sorted, case["expected_groups"]))
    assert chosen == listed


@pytest.mark.parametrize("maximise", [False, True])
@pytest.mark.parametrize("singles", ["diagonal", "never"])
@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_the_exact_method(seed: int, singles: str, maximise: bool) -> None:
    """Noise, few values with many ties, planted groups: proven totals are the best ones."""
    rng = np.random.default_rng(seed)
    n_tasks, n_groups = int(rng.integers(2, 10)), int(rng.integers(1, 5))
    values = [
        rng.standard_normal((n_tasks, n_tasks)),
        rng.integers(0, 3, (n_tasks, n_tasks)) / 4,
        1e-3 * rng.random((n_tasks, n_tasks)) + 7,
        100.0 * (rng.integers(0, 3, n_tasks)[:, None] != rng.integers(0, 3, n_tasks)),
    ][seed % 4]
    exact = select_groups(
        pairwise_candidates(values, names(n_tasks), singles), n_groups, maximise=maximise
    )
    chosen = columns._select(values, names(n_tasks), n_groups, singles, maximise)
    assert len(chosen.groups) <= n_groups
    assert chosen.gap >= abs(chosen.total - exact.total) - 1e-9 * abs(exact.total)
    assert chosen.is_exact == (chosen.gap == 0)
    if chosen.is_exact:
        assert chosen.total == pytest.approx(exact.total, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("maximise", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_gap_is_a_true_bound(
    seed: int, maximise: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With hardly any work allowed: the best total lies within the gap, and the log says so."""
    for name, few in {"_NODES": 200, "_AT_ONCE": 50, "_ROUNDS": 2}.items():
        monkeypatch.setattr(columns, name, few)
    values = np.random.default_rng(seed).random((11, 11))
    listed = pairwise_candidates(values, names(11), "diagonal")
    exact = select_groups(listed, 3, maximise=maximise)
    chosen = columns._select(values, names(11), 3, "diagonal", maximise)
    worse = exact.total - chosen.total if maximise else chosen.total - exact.total
    assert -1e-9 <= worse <= chosen.gap
    assert not chosen.is_exact
    assert not chosen.is_unique
    assert "not proven best" in caplog.text


def test_planted_groups_of_twenty_tasks_are_proven() -> None:
    """Uneven groups in noise a fifth of what parts them; tasks permuted, the same groups."""
    values, group = plant(20, 4, noise=0.2)
    order = np.random.default_rng(1).permutation(20)
    planted = sorted(tuple(f"t{n}" for n in np.flatnonzero(group == k)) for k in range(4))
    for rows in (np.arange(20), order):
        own = [f"t{n}" for n in rows]
        chosen = select_by_pairs(values[np.ix_(rows, rows)], own, 4, singles="diagonal")
        assert chosen.is_exact
        assert chosen.is_unique
        assert sorted(tuple(sorted(g, key=lambda t: int(t[1:]))) for g in chosen.groups) == planted


@pytest.mark.slow
@pytest.mark.parametrize("maximise", [False, True])
def test_planted_groups_of_forty_tasks_are_proven(maximise: bool) -> None:
    values, group = plant(40, 5, noise=0.3)
    sign = -1 if maximise else 1
    chosen = select_by_pairs(sign * values, names(40), 5, singles="diagonal", maximise=maximise)
    assert chosen.is_exact
    planted = [{f"t{n}" for n in np.flatnonzero(group == k)} for k in range(5)]
    assert sorted(map(sorted, chosen.groups)) == sorted(map(sorted, planted))


def test_bad_pairs_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match=r"`values` must have shape \(20, 20\)"):
        select_by_pairs(np.ones((20, 3)), names(20), 2, singles="never")
    values = np.ones((20, 20))
    values[3, 5] = np.nan
    with pytest.raises(ValueError, match="the rows of t3 are not"):
        select_by_pairs(values, names(20), 2, singles="never")
    with pytest.raises(ValueError, match="`n_groups` must be a whole number >= 1, got 0"):
        select_by_pairs(np.ones((20, 20)), names(20), 0, singles="never")
