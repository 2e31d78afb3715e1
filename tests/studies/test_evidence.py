"""What verdicts promise: the rule decides, never the mean alone, nor a run that is not there."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dmtg_lite import data
from dmtg_lite.core.groups import compute_agreement
from dmtg_lite.methods import METHODS
from dmtg_lite.runs.presets import TOY
from dmtg_lite.studies.evidence import RUNS, Verdict, judge, run_evidence, write_verdicts

NAMES = list("abcdefghi")
PLANTED = [NAMES[:3], NAMES[3:6], NAMES[6:]]


def numbers(error: float, *, groups: list[list[str]] = PLANTED, certainty: float = 1.0) -> dict:
    """What a run with this total error would leave."""
    return {
        "task_errors": dict.fromkeys(NAMES, error / 9),
        "metrics": dict.fromkeys(NAMES, "error_percent"),
        "groups": groups,
        "agreement": 1.0 if groups == PLANTED else 0.5,
        "final_probabilities": [[certainty, 1 - certainty, 0.0]] * 9,
    }


def runs(**errors: list[float]) -> dict[str, list[dict]]:
    """Ten seeds of every run: 40 points with a little scatter, unless said otherwise."""
    scatter = np.random.default_rng(0).normal(0, 1, 10)
    return {label: [numbers(e) for e in errors.get(label, 40 + scatter)] for label in RUNS}


def verdict_on(word: str, found: dict[str, list[dict]]) -> Verdict:
    every = judge(found, [1.0] * 10, TOY["faces_plain"])
    return next(one for one in every if word in one.question)


@pytest.mark.parametrize(
    ("shift", "scatter", "verdict"),
    [(-20, 1, "holds"), (20, 1, "does not hold"), (-1, 30, "undecided"), (0, 1, "undecided")],
)
def test_a_gain_needs_an_interval_below_zero(shift: float, scatter: float, verdict: str) -> None:
    """Paired by seed; the interval is Student's, as scipy's own test of the same numbers has it."""
    noise = np.random.default_rng(1).normal(0, scatter, 10)
    noise -= noise.mean()
    found = runs(dmtg=list(60 + noise + shift), hoa=[60.0] * 10)
    one = verdict_on("HOA", found)
    assert one.verdict == verdict
    oracle = stats.ttest_1samp(noise + shift, 0).confidence_interval(0.95)
    assert (one.value, one.low, one.high) == pytest.approx((shift, oracle.low, oracle.high))


@pytest.mark.parametrize(
    ("shift", "equal", "no_worse"),
    [
        (0, "holds", "holds"),
        (-20, "does not hold", "holds"),
        (20, "does not hold", "does not hold"),
        (5, "undecided", "undecided"),
    ],
)
def test_no_difference_is_more_than_no_proof_of_one(
    shift: float, equal: str, no_worse: str
) -> None:
    """Within five points either way; for sharing and a large K only worse counts."""
    noise = np.random.default_rng(2).normal(0, 1, 10)
    noise -= noise.mean()
    changed = list(40 + shift + noise)
    found = runs(dmtg=[40.0] * 10) | runs(
        **{"tau 1": changed, "K = 6": changed, "dmtg": [40.0] * 10}
    )
    assert verdict_on("temperature", found).verdict == equal
    assert verdict_on("too large", found).verdict == no_worse


def test_shares_of_seeds_have_exact_intervals() -> None:
    """Ten of ten is 0.69 to 1.00: it holds. Six of ten is undecided, none does not hold."""
    other = [NAMES[:4], NAMES[4:]]
    for n_right, verdict in ((10, "holds"), (6, "undecided"), (0, "does not hold")):
        found = runs()
        found["dmtg"] = [numbers(40, groups=PLANTED if i < n_right else other) for i in range(10)]
        one = verdict_on("recover the planted", found)
        oracle = stats.binomtest(n_right, 10).proportion_ci(0.95)
        assert one.verdict == verdict
        assert (one.low, one.high) == pytest.approx((oracle.low, oracle.high))


def test_stability_is_every_seed_against_the_others() -> None:
    """Nine alike and one apart: the nine agree 1 with eight others and less with the tenth."""
    found = runs()
    found["same images"][0] = numbers(40, groups=[NAMES])
    one = verdict_on("every seed", found)
    assert one.value == pytest.approx(0.8)  # nine at 8/9, one at 0
    assert one.verdict == "undecided"


def test_undecided_probabilities_are_seen() -> None:
    found = runs()
    assert verdict_on("one-hot", found).verdict == "holds"
    found["dmtg"] = [numbers(40, certainty=0.6) for _ in range(10)]
    assert verdict_on("one-hot", found).verdict == "does not hold"


def test_means_that_share_pairs_have_the_jackknifes_error() -> None:
    """Oracle: leave each seed out in turn, and look how far the mean of all pairs moves."""
    other = [NAMES[:4], NAMES[4:]]
    each = [numbers(40, groups=PLANTED if i < 6 else other) for i in range(10)]

    def mean_of_pairs(some: list[dict]) -> float:
        pairs = combinations([one["groups"] for one in some], 2)
        return float(np.mean([compute_agreement(a, b) for a, b in pairs]))

    left_out = [mean_of_pairs(each[:i] + each[i + 1 :]) for i in range(10)]
    error = (9 / 10 * ((left_out - np.mean(left_out)) ** 2).sum()) ** 0.5
    one = verdict_on("every seed", runs() | {"same images": each})
    assert one.value == pytest.approx(mean_of_pairs(each))
    assert (one.high - one.low) / 2 == pytest.approx(stats.t.ppf(0.975, 9) * error)


def test_fewer_than_five_seeds_decide_nothing() -> None:
    """Four seeds without any scatter are still four; what is counted needs none."""
    found = {label: each[:4] for label, each in runs(dmtg=[10.0] * 10).items()}
    verdicts = judge(found, [1.0] * 4, TOY["faces_plain"])
    assert {one.verdict for one in verdicts if one.n_seeds} == {"undecided"}
    assert {one.verdict for one in verdicts if not one.n_seeds} == {"holds"}


def test_cost_is_counted_not_measured() -> None:
    """Twice the branches cost twice, four times the tasks next to nothing, heads included."""
    one = verdict_on("cost", runs())
    assert (one.verdict, one.n_seeds) == ("holds", 0)
    assert "2.00 times for twice the groups, 1.0" in one.measured


def few_faces(key: int):
    """The images of a seed, few."""
    return data.toy_faces(n_train=96, n_val=32, n_test=64, seed=key)


def test_everything_runs_and_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds, few steps: a verdict for every claim, both files, and nothing run twice."""

    def pretend(*arguments, own: str, **options):
        return replace(METHODS["random"](*arguments, **options), method=own)

    for name, method in METHODS.items():  # searches take minutes, and are tested elsewhere
        if method.searches:
            monkeypatch.setitem(METHODS, name, replace(method, train=partial(pretend, own=name)))
    config = replace(TOY["faces_plain"], pretrain=5, steps=5)
    verdicts = run_evidence([0, 1], folder=tmp_path / "cells", config=config, make_data=few_faces)
    assert len(verdicts) == len({one.question for one in verdicts}) >= 14
    assert {one.verdict for one in verdicts} <= {"holds", "does not hold", "undecided"}
    monkeypatch.setattr("dmtg_lite.studies.cells.METHODS", {})  # a second look needs no run
    again = run_evidence([0, 1], folder=tmp_path / "cells", config=config, make_data=few_faces)
    assert again == verdicts
    page = write_verdicts(verdicts, tmp_path, heading="# Evidence")
    assert page.read_text().startswith("# Evidence\n\n| question |")
    assert len(json.loads((tmp_path / "evidence.json").read_text())) == len(verdicts)


def test_one_seed_is_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`seeds` must be at least 2"):
        run_evidence([0], folder=tmp_path)
