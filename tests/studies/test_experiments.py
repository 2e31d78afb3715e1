"""What tables promise: every run in its row, gains against the right seed, in any processes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from math import isnan
from pathlib import Path

import pandas
import pytest

from dmtg_lite import data
from dmtg_lite.core.config import TrainConfig
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
from dmtg_lite.methods import METHODS
from dmtg_lite.studies.cells import make_cells, run_cells
from dmtg_lite.studies.tables import render_summary, render_tasks, write_table

FACES = data.toy_faces(n_train=200, n_val=50, n_test=80)
CONFIG = TrainConfig(encoder="toy", steps=20, pretrain=10, batch_size=32)
NAMES = ("naive", "random", "dmtg")


@pytest.fixture(scope="module")
def results() -> list:
    return run_all(FACES, NAMES, 3, CONFIG, [0, 1])


def test_runs_come_in_order_each_with_its_seed(results: list) -> None:
    """Seeds outside, methods inside; a run alone is the same run."""
    assert [(r.config.seed, r.method) for r in results] == [(s, m) for s in (0, 1) for m in NAMES]
    alone = run_method(FACES, "dmtg", 3, CONFIG, seed=1)
    assert alone.task_losses == results[5].task_losses


@pytest.mark.slow
def test_two_processes_give_what_one_gives(results: list) -> None:
    """Numbers and weights, bit for bit, when the one process has one thread like theirs."""
    for own, other in zip(results, run_all(FACES, NAMES, 3, CONFIG, [0, 1], jobs=2), strict=True):
        assert {**own.to_json(), "seconds": None} == {**other.to_json(), "seconds": None}
        for first, second in zip(own.network.parameters(), other.network.parameters(), strict=True):
            assert first.equal(second)


@pytest.mark.filterwarnings("error::dmtg_lite.methods.UnlearnedWarning")
def test_of_many_runs_the_table_says_what_was_not_learned(capfd) -> None:
    """Not a warning each, in whatever process; and not of faces whose groups are planted."""
    unknown = replace(FACES, planted_groups=None)
    for jobs in (1, 2):
        cells = make_cells(["naive"], [3], [0, 1], CONFIG)
        table = tabulate(run_cells(cells, unknown, jobs=jobs))
        assert table["note"].str.startswith("no better than a constant answer: ").all()
        assert "UnlearnedWarning" not in capfd.readouterr().err
    assert not tabulate(run_cells(cells, FACES))["note"].any()


def test_the_table_by_hand(results: list) -> None:
    """One row a run: sums over tasks, gains against Naive MTL of the same seed."""
    table = tabulate(results)
    assert list(table["method"]) == [*NAMES, *NAMES]
    for row, result in zip(table.to_dict("records"), results, strict=True):
        naive = results[3 * row["seed"]]
        assert row["total_error"] == pytest.approx(sum(result.task_errors.values()))
        gains = [
            (naive.task_errors[n] - e) / naive.task_errors[n] for n, e in result.task_errors.items()
        ]
        assert row["norm_gain_error"] == pytest.approx(100 * sum(gains) / 9)
        assert row["n_groups"] == len(result.groups) == row["groups"].count("|") + 1
    assert (table.loc[table["method"] == "naive", ["norm_gain_error", "norm_gain_loss"]] == 0).all(
        axis=None
    )


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
    """Mean and spread over two seeds: half the sum, and the difference over the root of two."""
    table = tabulate(results)
    summary = summarise(table)
    assert list(summary.index) == list(NAMES)
    a, b = table.loc[table["method"] == "dmtg", "total_error"]
    assert summary.loc["dmtg", "total_error"] == pytest.approx((a + b) / 2)
    assert summary.loc["dmtg", "total_error_std"] == pytest.approx(abs(a - b) / 2**0.5)
    assert (summary["seeds"] == 2).all()
    # of one seed nan, not a 0 that looks like certainty
    assert summarise(tabulate(results[:3]))["total_error_std"].isna().all()


def test_data_without_planted_groups_have_no_agreement() -> None:
    """The column is empty, and the table still works."""
    hidden = replace(FACES, planted_groups=None)
    summary = summarise(compare(hidden, methods=["random"], seeds=[0], config=CONFIG))
    assert list(summary.index) == ["naive", "random"]  # the reference is added
    assert summary["agreement"].isna().all()


@pytest.mark.parametrize(
    ("methods", "n_groups", "message"),
    [
        (["naive", "tga"], 3, r"unknown methods \['tga'\]"),
        (["naive", "random"], "auto", 'random needs a number of groups; "auto" is for dmtg, two_'),
        (["naive", "dmtg"], 0, "`n_groups` must be a whole number >= 1"),
        (["naive", "random"], 10, "`n_groups` must be in 1..9 for random, got 10"),
    ],
)
def test_bad_requests_are_refused_before_any_training(
    methods: list[str], n_groups: int | str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmtg_lite.studies.compare.run_jobs", None)
    with pytest.raises(ValueError, match=message):
        run_all(FACES, methods, n_groups, CONFIG, [0])


def test_the_table_of_methods_says_who_may_have_k_auto() -> None:
    """Those that find K, and those that ask for none; each is found under its own name."""
    allowed = set()
    for name, method in METHODS.items():
        assert method.name == name
        try:
            method.check(FACES, "auto", CONFIG)
        except ValueError:
            continue
        allowed.add(name)
    finders = {"dmtg", "two_shot", "two_shot_pretrained", "prune_finetune"}
    balanced = {"balance", "balance_pcgrad", "balance_mgda"}
    assert allowed == {"naive", "stl", "planted"} | balanced | finders
    with pytest.raises(ValueError, match="unknown method 'tga'"):
        run_method(FACES, "tga", 3, CONFIG)
    with pytest.raises(ValueError, match="no planted groups"):
        METHODS["planted"].check(replace(FACES, planted_groups=None), 3, CONFIG)


def test_presets_can_be_run() -> None:
    """Each says how long it trains and names an encoder that fits its suite."""
    for preset in (*PAPER.values(), *TOY.values()):
        assert preset.count_steps(1000)[1] > 0


def test_a_flawless_reference_costs_one_column_not_the_table(results: list) -> None:
    """Naive MTL without an error on a task has no NormGain_E: the row says so, the rest is kept."""
    naive = next(result for result in results if result.method == "naive")
    first = next(iter(naive.task_errors))
    flawless = replace(naive, task_errors={**naive.task_errors, first: 0.0})
    row = tabulate([flawless]).iloc[0]
    assert isnan(row["norm_gain_error"])
    assert row["norm_gain_loss"] == 0
    assert first in row["note"]


# ---------------------------------------------------------------------- cells that are kept


def test_a_comparison_continues_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Methods x groups x seeds; interrupted and asked again: the same table, and no run twice."""
    ask = {"methods": ["random", "dmtg"], "n_groups": [2, 3], "seeds": [0, 1], "config": CONFIG}
    ran = []

    def count(method, data, n_groups, config, **kwargs):
        if len(ran) == 4 and None not in ran:
            ran.append(None)
            raise KeyboardInterrupt
        ran.append((method.name, n_groups, config.seed))
        return method.train(data, n_groups, config, **kwargs)

    for name in NAMES:
        own = METHODS[name]
        monkeypatch.setitem(METHODS, name, replace(own, train=partial(count, own)))
    with pytest.raises(KeyboardInterrupt):
        compare(FACES, folder=tmp_path, **ask)
    assert len(list(tmp_path.glob("*.json"))) == 4
    table = compare(FACES, folder=tmp_path, **ask)
    done = [entry for entry in ran if entry]
    assert len(done) == len(set(done)) == 2 * (1 + 2 * 2)  # Naive MTL asks for no K: once a seed
    whole = compare(FACES, **ask)
    times = ["cpu_seconds", "wall_seconds"]
    pandas.testing.assert_frame_equal(table.drop(columns=times), whole.drop(columns=times))
    nan = pytest.approx(float("nan"), nan_ok=True)
    rows = [("naive", nan), ("random", 2), ("random", 3), ("dmtg", 2), ("dmtg", 3)]
    assert list(summarise(table).index) == rows


def test_other_settings_are_other_cells(tmp_path: Path) -> None:
    """Another config, K or data in the same folder neither reuse nor overwrite what is there."""
    compare(FACES, methods=["naive"], seeds=[0], config=CONFIG, folder=tmp_path)
    compare(FACES, methods=["naive"], seeds=[0], config=replace(CONFIG, lr=0.01), folder=tmp_path)
    other = data.toy_faces(n_train=200, n_val=50, n_test=80, seed=1)
    compare(other, methods=["naive"], seeds=[0], config=CONFIG, folder=tmp_path)
    assert len(list(tmp_path.glob("naive_K_seed0_*.json"))) == 3


def test_a_cell_that_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    """Its row says why and has no numbers; it is not kept, so that it is tried again."""
    broken = make_cells(["naive", "dmtg"], [2], [0], CONFIG) + make_cells(
        ["stl"], [2], [0], replace(CONFIG, shared=9)
    )
    table = tabulate(run_cells(broken, FACES, folder=tmp_path))
    assert list(table["method"]) == ["naive", "dmtg", "stl"]
    last = table.iloc[2]
    assert "`shared` must be in" in last["note"]
    assert isnan(last["total_loss"])
    assert table["total_loss"].notna().sum() == 2
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert set(tabulate_tasks(run_cells(broken, FACES, folder=tmp_path))["method"]) == {
        "naive",
        "dmtg",
    }


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    """A task may be called =cmd(...), and a spreadsheet would run that; numbers stay numbers."""
    words = ["=1+1", "+1", "-x", "@x", "\tx", "fine", ""]
    table = pandas.DataFrame({"task": words, "gain": [-1.5] * 7})
    back = pandas.read_csv(write_table(table, tmp_path / "t.csv"), keep_default_na=False)
    assert back["task"].tolist() == [*(f"'{word}" for word in words[:5]), "fine", ""]
    assert back["gain"].tolist() == [-1.5] * 7


def make_faces(seed: int):
    """Data of a cell, made where it runs."""
    return data.toy_faces(n_train=100, n_val=40, n_test=40, seed=seed)


@pytest.mark.slow
def test_cells_with_data_of_their_own_in_two_processes(tmp_path: Path) -> None:
    """Numbers are those of one process; finished cells are read, not run."""
    work = [
        replace(cell, data=cell.seed)
        for cell in make_cells(["naive", "random"], [3], [0, 1], CONFIG)
    ]
    alone = run_cells(work, make_faces)
    beside = run_cells(work, make_faces, jobs=2, folder=tmp_path)
    assert [{**one, "seconds": 0} for one in alone] == [{**one, "seconds": 0} for one in beside]
    assert run_cells(work, make_faces, folder=tmp_path) == beside


def test_a_reference_that_failed_leaves_the_numbers_without_gains(results: list) -> None:
    """The table is there, gains are not, the note says why; a mean counts the runs behind it."""
    naive, _, dmtg = (result.to_json() for result in results[:3])
    failed = {"method": "naive", "k": None, "seed": 1, "failed": "out of memory"}
    other = {**dmtg, "config": {**dmtg["config"], "seed": 1}}
    table = tabulate([naive, dmtg, failed, other])
    assert table["note"].iloc[3] == "no gains: naive failed with this seed"
    assert isnan(table["norm_gain_loss"].iloc[3])
    assert table["total_loss"].iloc[3] == table["total_loss"].iloc[1]
    assert summarise(table)["seeds"].to_dict() == {"naive": 1, "dmtg": 2}


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_what_to_write(tmp_path: Path) -> None:
    """Each worker reads the script anew: no storm of processes, and one error that says so."""
    script = tmp_path / "script.py"
    script.write_text(
        "from dmtg_lite import data, experiments\n"
        "from dmtg_lite.core.config import TrainConfig\n"
        "faces = data.toy_faces(n_train=48, n_val=8, n_test=8)\n"
        "config = TrainConfig(encoder='toy', steps=2, batch_size=16)\n"
        "experiments.compare(faces, methods=['stl'], seeds=[0], config=config, jobs=2)\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1
    assert ran.stderr.count("Traceback") == 1, ran.stderr
    assert 'put the call below `if __name__ == "__main__":`' in ran.stderr


def test_tasks_of_different_units_are_summed_as_shares_of_the_constant_answers(
    results: list,
) -> None:
    """By hand: a class task counts by its rate, a salary by its share; a sum of both is none."""
    run = results[0].to_json()
    change = {
        "metrics": {"up": "error_percent", "pay": "mae"},
        "task_errors": {"up": 10.0, "pay": 0.004},
        "task_losses": {"up": 0.5, "pay": 0.5},
        "constant_errors": {"up": 40.0, "pay": 0.01},
        "groups": [["up", "pay"]],
        "trained_groups": [["up", "pay"]],
    }
    runs = [run | change, run | change | {"method": "dmtg"}]
    row = tabulate(runs).iloc[1]
    assert isnan(row["total_error"])
    assert row["relative_error"] == pytest.approx(100 * (0.1 + 0.4) / (0.4 + 1))
    text = render_summary(tabulate(runs))
    assert "total error" not in text
    assert "35.7" in text
    assert "0.00400" in render_tasks(tabulate_tasks(runs))  # three digits, whatever the unit
    assert "total error" in render_summary(tabulate(results))
