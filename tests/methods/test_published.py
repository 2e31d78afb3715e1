"""What the published losses promise: all groups, and the choices that were published with them."""

from __future__ import annotations

from itertools import combinations

import pytest
from test_selection import CASES, FILE, make_candidates

from dmtg_lite.methods import published_losses, select_groups

LETTERS = {"segmentation": "s", "depth": "d", "normal": "n", "keypoints": "k", "edges": "t"}


def test_all_groups_are_there() -> None:
    """Five singles of half the size, then each of 31 groups once, with the losses of the source."""
    val, test = published_losses(), published_losses("test")
    groups = [g for size in range(1, 6) for g in combinations(LETTERS, size)]
    assert sorted(c.tasks for c in val[5:]) == sorted(groups)
    assert [(c.tasks, c.cost) for c in val[:5]] == [((name,), 0.5) for name in LETTERS]
    assert {c.cost for c in val[5:]} == {1.0}
    assert [(c.tasks, c.cost) for c in test] == [(c.tasks, c.cost) for c in val]
    source = make_candidates(FILE["tables"]["standley_setting1_optimal"])
    for own, theirs in zip(val, source, strict=True):
        assert {LETTERS[name]: loss for name, loss in own.scores.items()} == theirs.scores
    with pytest.raises(ValueError, match="got 'train'"):
        published_losses("train")


@pytest.mark.parametrize("name", [name for name in CASES if "setting1_optimal" in name])
def test_the_published_choices_follow(name: str) -> None:
    """Groups, prices and totals of the paper's optimum at four budgets."""
    case = CASES[name]
    chosen = select_groups(published_losses(), case["budget"])
    found = sorted((sorted(map(LETTERS.get, c.tasks)), c.cost) for c in chosen.candidates)
    expected = zip(map(sorted, case["expected_groups"]), case["expected_costs"], strict=True)
    assert found == sorted(expected)
    assert chosen.total == pytest.approx(case["expected_total"], abs=1e-9)
    networks = list(zip(published_losses(), published_losses("test"), strict=True))
    tested = [test for val, test in networks if val in chosen.candidates]
    least = [min(one.scores.get(task, 9.0) for one in tested) for task in LETTERS]
    assert sum(least) == pytest.approx(case["expected_test_total"], abs=1e-9)
