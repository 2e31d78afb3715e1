"""What `experiments.report` promises: it trains what the verdict needs, once, and goes on from a
folder; K of the random groups is that which was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from methods.planted_tables import draw_factor

from dmtg_lite import data, experiments
from dmtg_lite.core.config import Spare, TrainConfig
from dmtg_lite.methods import choose_recipe
from dmtg_lite.runs.report import Report
from dmtg_lite.studies import report as study

FACES = data.toy_faces(6, 2, n_train=100, n_val=40, n_test=60)
CONFIG = TrainConfig(
    encoder="toy",
    steps=20,
    pretrain=5,
    batch_size=32,
    spare=Spare(branches="double", close_from=8, close_every=2),
)


def test_a_report_trains_what_it_needs_and_goes_on(tmp_path: Path) -> None:
    """Four methods a seed, each kept; asked again, nothing trains; one seed more, one seed runs."""
    ask = {"config": CONFIG, "folder": tmp_path}
    report = experiments.report(FACES, 2, seeds=[0], **ask)
    assert report.methods == ["naive", "stl", "random", "dmtg"]
    assert report.verdict == "undecided"
    assert "1 seed of dmtg" in report.reasons[0]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(kept) == 4
    assert str(experiments.report(FACES, 2, seeds=[0], **ask)) == str(report)
    both = experiments.report(FACES, 2, seeds=[0, 1], **ask)
    assert len(both.own) == 2
    files = set(tmp_path.glob("*.json"))
    assert len(files) == 8
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_as_many_random_groups_as_were_found(tmp_path: Path) -> None:
    """K is left to the costs, which say another one with each seed, perhaps."""
    report = experiments.report(
        FACES, seeds=[0, 1], config=CONFIG, methods=["random"], folder=tmp_path
    )
    assert report.methods == ["naive", "random", "dmtg"]  # Naive MTL is the reference
    found = {seed: len(one["groups"]) for seed, one in report.select("dmtg").items()}
    asked = {seed: one["k"] for seed, one in report.select("random").items()}
    assert asked == found
    told = [json.loads(path.read_text()) for path in tmp_path.glob("dmtg*.json")]
    assert {one["k"] for one in told} == {"auto"}
    assert str(Report(told).groups[0][0]) in str(report)


def test_what_has_no_answer_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"`data` has one task, .*: there is nothing to group"):
        experiments.report(FACES.select(FACES.task_names[:1]), config=CONFIG)
    with pytest.raises(ValueError, match="unknown methods"):
        experiments.report(FACES, 2, config=CONFIG, methods=["tga"])
    short = replace(CONFIG, spare=Spare(close_from=500))
    with pytest.raises(ValueError, match="the run has 20 steps"):
        experiments.report(FACES, seeds=[0], config=short, methods=["random"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a factor each", "coins"])
def test_where_there_is_nothing_to_find_the_verdict_is_not_that_it_helps(kind: str) -> None:
    """With a third of the recipe's steps; benchmarks/verdicts.py counts, with all of them."""
    rng = np.random.default_rng(5)
    features, targets = rng.standard_normal((1200, 20)), {}
    for n in range(5):
        asked = draw_factor(features, n % 2 == 0, rng)
        targets[f"task{n}"] = (asked if kind == "a factor each" else rng.normal(size=1200)) > 0
    mine = data.from_arrays(features, targets, name=kind)
    config = choose_recipe(mine, 2)
    spare = replace(config.spare, close_from=100, close_every=50)
    report = experiments.report(
        mine, 2, seeds=range(3), config=replace(config, steps=300, spare=spare)
    )
    assert report.verdict != "helps", report.reasons
    if kind == "coins":  # one task in twenty looks learned by chance: two of five in 2 % of tables
        assert len(report.unlearned) >= 4


def test_without_a_config_naive_mtl_has_room_for_all_tasks(monkeypatch) -> None:
    """Else groups would win because every encoder is small."""
    rows = np.random.default_rng(0).normal(size=(90, 4))
    answers = {f"t{k}": rows[:, k] > 0 for k in range(4)}
    mine = data.from_arrays(rows, answers)
    seen = {}

    def run_cells(cells, *_, **__):
        seen.update({cell.method: cell.config.capacity for cell in cells})
        return []

    monkeypatch.setattr(study, "run_cells", run_cells)
    with pytest.raises(ValueError, match="no finished run"):
        experiments.report(mine, 2, seeds=[0])
    assert seen == {"naive": 4, "stl": 1, "dmtg": 1}
    with pytest.raises(ValueError, match="`seeds` must be several"):
        experiments.report(mine, 2, seeds=3)  # pyright: ignore[reportArgumentType]
