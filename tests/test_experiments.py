"""What tables promise: every run in its row, gains against the right seed, whatever the processes."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import pytest

from dmtg_lite import data
from dmtg_lite.config import TrainConfig
from dmtg_lite.experiments import (
    PAPER,
    TOY,
    compare,
    run_all,
    run_method,
    summarise,
    tabulate,
    tabulate_tasks,
)

FACES = data.toy_faces(n_train=200, n_val=50, n_test=80)
CONFIG = TrainConfig(steps=20, pretrain=10, batch_size=32)
METHODS = ("naive", "random", "dmtg")


@pytest.fixture(scope="module")
def results() -> list:
    return run_all(FACES, METHODS, 3, CONFIG, [0, 1])


def test_runs_come_in_order_each_with_its_seed(results: list) -> None:
    """Seeds outside, methods inside; a run alone is the same run."""
    assert [(r.config.seed, r.method) for r in results] == [(s, m) for s in (0, 1) for m in METHODS]
    alone = run_method(FACES, "dmtg", 3, CONFIG, seed=1)
    assert alone.task_losses == results[5].task_losses


@pytest.mark.slow
def test_two_processes_give_what_one_gives(results: list) -> None:
    """Numbers and weights, bit for bit, when the one process has one thread like theirs."""
    for own, other in zip(results, run_all(FACES, METHODS, 3, CONFIG, [0, 1], jobs=2), strict=True):
        assert {**own.to_json(), "seconds": None} == {**other.to_json(), "seconds": None}
        for first, second in zip(own.network.parameters(), other.network.parameters(), strict=True):
            assert first.equal(second)


def test_the_table_by_hand(results: list) -> None:
    """One row a run: sums over tasks, gains against Naive MTL of the same seed."""
    table = tabulate(results)
    assert list(table["method"]) == [*METHODS, *METHODS]
    for row, result in zip(table.to_dict("records"), results, strict=True):
        naive = results[3 * row["seed"]]
        assert row["total_error"] == pytest.approx(sum(result.task_errors.values()))
        gains = [(naive.task_errors[n] - e) / naive.task_errors[n] for n, e in result.task_errors.items()]
        assert row["norm_gain_error"] == pytest.approx(100 * sum(gains) / 9)
        assert row["n_groups"] == len(result.groups) == row["groups"].count("|") + 1
    assert (table.loc[table["method"] == "naive", ["norm_gain_error", "norm_gain_loss"]] == 0).all(axis=None)


def test_the_table_by_task_by_hand(results: list) -> None:
    """One row a run and task; the gains are the terms whose mean the table by run reports."""
    by_run, by_task = tabulate(results), tabulate_tasks(results)
    assert len(by_task) == len(results) * 9
    for row, result in zip(by_run.to_dict("records"), results, strict=True):
        own = by_task[(by_task["method"] == row["method"]) & (by_task["seed"] == row["seed"])]
        assert list(own["task"]) == FACES.task_names
        assert list(own["error"]) == list(result.task_errors.values())
        assert own["gain_error"].mean() == pytest.approx(row["norm_gain_error"])
        assert own["gain_loss"].mean() == pytest.approx(row["norm_gain_loss"])
        assert set(own["group"]) == {", ".join(group) for group in result.groups}
    with pytest.raises(ValueError, match="no 'naive' run with seed 0"):
        tabulate_tasks(results[1:3])


def test_the_summary_by_hand(results: list) -> None:
    """Mean and standard deviation over two seeds: half the sum, and the difference over the root of two."""
    table = tabulate(results)
    summary = summarise(table)
    assert list(summary.index) == list(METHODS)
    a, b = table.loc[table["method"] == "dmtg", "total_error"]
    assert summary.loc["dmtg", "total_error"] == pytest.approx((a + b) / 2)
    assert summary.loc["dmtg", "total_error_std"] == pytest.approx(abs(a - b) / 2**0.5)
    assert (summary["seeds"] == 2).all()


def test_one_seed_has_no_spread(results: list) -> None:
    """nan, not a 0 that looks like certainty."""
    assert summarise(tabulate(results[:3]))["total_error_std"].isna().all()


def test_data_without_planted_groups_have_no_agreement() -> None:
    """The column is empty, and the table still works."""
    hidden = replace(FACES, planted_groups=None)
    summary = summarise(compare(hidden, methods=["random"], seeds=[0], config=CONFIG))
    assert list(summary.index) == ["naive", "random"]  # the reference is added
    assert summary["agreement"].isna().all()


def test_bad_requests_are_refused(results: list) -> None:
    """An unknown method before anything is trained, and a gain without its reference."""
    with pytest.raises(ValueError, match=r"unknown methods \['tga'\]"):
        run_all(FACES, ["naive", "tga"], 3, CONFIG, [0])
    with pytest.raises(ValueError, match="unknown method 'tga'"):
        run_method(FACES, "tga", 3, CONFIG)
    with pytest.raises(ValueError, match='`random` needs a number of groups; "auto" is for `dmtg`'):
        run_all(FACES, ["naive", "random"], "auto", CONFIG, [0])
    with pytest.raises(ValueError, match="`n_groups` must be >= 1"):
        run_all(FACES, ["naive", "dmtg"], 0, CONFIG, [0])
    with pytest.raises(ValueError, match="no 'naive' run with seed 0"):
        tabulate(results[1:3])


def test_presets_can_be_run() -> None:
    """Each says how long it trains and names an encoder that fits its suite."""
    for preset in (*PAPER.values(), *TOY.values()):
        assert preset.count_steps(1000)[1] > 0


def test_a_flawless_reference_costs_one_column_not_the_table(results: list) -> None:
    """Naive MTL without an error on a task has no NormGain_E: the row says so and keeps the rest."""
    naive = next(result for result in results if result.method == "naive")
    first = next(iter(naive.task_errors))
    flawless = replace(naive, task_errors={**naive.task_errors, first: 0.0})
    row = tabulate([flawless]).iloc[0]
    assert isnan(row["norm_gain_error"])
    assert row["norm_gain_loss"] == 0
    assert first in row["note"]
