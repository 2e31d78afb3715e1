"""What the metrics promise: cases by hand, and the arithmetic of the paper's own tables.

The package's `paper_tables.json` holds the printed figures. They test arithmetic only: per-task
CelebA errors are not printed anywhere, so Table 3 cannot be recomputed.
"""

from __future__ import annotations

from math import floor, log10
from typing import Any

import numpy as np
import pytest

from dmtg_lite.core.tasks import TASKONOMY_5
from dmtg_lite.runs.metrics import compute_chance, find_unlearned, norm_gain, norm_gains, total
from dmtg_lite.studies.paper.specs import load_paper

TABLES = load_paper()["tables"]
TASKS = TABLES["table2"]["tasks"]


def read_rows(
    by_task: str, key: str, gain: str, means: str, mean: str
) -> dict[str, dict[str, Any]]:
    """Rows of a table by task, with the mean that another column or table prints."""
    rows = {}
    for row, whole in zip(TABLES[by_task]["rows"], TABLES[means]["rows"], strict=True):
        assert (row["method"], row["groups"]) == (whole["method"], whole["groups"])
        name = row["method"] + (f" K={row['groups']}" if row["groups"] else "")
        rows[name] = {
            key: [row[task][key] for task in TASKS],
            "gain": [row[task][gain] for task in TASKS],
            "norm_gain": whole[mean],
            "total_loss": whole.get("total_loss"),
        }
    return rows


PAPER = {
    "losses": read_rows("table2", "loss", "norm_gain_loss", "table1", "norm_gain_loss"),
    "metrics": read_rows("tableA2", "metric", "norm_gain_error", "tableA2", "avg_norm_gain_error"),
}
ROWS = [
    (table, key, method)
    for table, key in (("losses", "loss"), ("metrics", "metric"))
    for method in PAPER[table]
    if method != "Naive MTL"
]
HIGHER = {"losses": False, "metrics": [task.higher_is_better for task in TASKONOMY_5]}


def half_digit(value: float, digits: int) -> float:
    """Largest error of a number printed with so many significant digits."""
    return 0.5 * 10.0 ** (floor(log10(value)) - digits + 1)


def test_norm_gain_by_hand() -> None:
    """One task halves its error, one loses a quarter of it: the mean is 37.5 %."""
    np.testing.assert_allclose(norm_gains([1.0, 3.0], [2.0, 4.0]), [50.0, 25.0])
    assert norm_gain([1.0, 3.0], [2.0, 4.0]) == 37.5
    assert norm_gain([3.0], [2.0]) == -50.0
    assert norm_gain([10.0, 300.0], [20.0, 400.0]) == 37.5  # whatever the units


def test_a_score_gains_when_it_rises() -> None:
    """mIoU from 50 to 60 is +20 %; mixed suites say which tasks are scores."""
    assert norm_gain([60.0], [50.0], higher_is_better=True) == pytest.approx(20.0)
    gains = norm_gains([60.0, 60.0], [50.0, 50.0], higher_is_better=[True, False])
    np.testing.assert_allclose(gains, [20.0, -20.0])


@pytest.mark.parametrize(("table", "key", "method"), ROWS)
def test_norm_gain_reproduces_the_papers_tables(table: str, key: str, method: str) -> None:
    """Tables 1 and A2 from the losses and metrics printed per task, within their rounding.

    A printed number stands for an interval of half a digit either way, which bounds every gain;
    over five tasks the means then agree to 0.16 points (Table 2 has 3 digits, Table A2 mostly 4).
    """
    row, reference = PAPER[table][method], PAPER[table]["Naive MTL"]
    assert np.mean(row["gain"]) == pytest.approx(row["norm_gain"], abs=0.01)  # both are printed
    gains = norm_gains(row[key], reference[key], higher_is_better=HIGHER[table])
    for n, gain in enumerate(gains):
        digits = 4 if table == "metrics" and n else 3
        ours, theirs = row[key][n], reference[key][n]
        bound = half_digit(ours, digits) / theirs + ours * half_digit(theirs, digits) / theirs**2
        assert gain == pytest.approx(row["gain"][n], abs=100 * bound + 0.01), TASKS[n]
    mean = norm_gain(row[key], reference[key], higher_is_better=HIGHER[table])
    assert mean == pytest.approx(row["norm_gain"], abs=0.16)


def test_printed_totals_are_sums_of_printed_losses() -> None:
    """To half a thousandth; two rows of random groups are cut off rather than rounded."""
    cut = {"RG K=3", "RG K=5"}
    for method, row in PAPER["losses"].items():
        summed = total(dict(zip(TASKS, row["loss"], strict=True)))
        # five losses of up to half a thousandth each lie behind the sum
        tolerance = 0.00125 if method in cut else 0.00085
        assert summed == pytest.approx(row["total_loss"], abs=tolerance), method


@pytest.mark.parametrize(
    ("error", "reference", "message"),
    [
        ([1.0], [1.0, 2.0], "must be of one shape"),
        ([], [], "must be of one shape"),
        ([[1.0]], [[1.0]], "must be of one shape"),
        ([float("nan")], [1.0], "must be finite"),
        ([1.0], [float("inf")], "must be finite"),
        ([1.0, 1.0], [1.0, 0.0], "`reference_error` is 0 at task 1"),
    ],
)
def test_bad_errors_are_refused(error: list, reference: list, message: str) -> None:
    """Lengths that differ, numbers that are none, and a reference without any error."""
    with pytest.raises(ValueError, match=message):
        norm_gain(error, reference)


def test_agreement_by_chance_by_hand() -> None:
    """Three tasks in groups of two and one: three seeds find the same ones in 1 of 9 draws."""
    same = [["a", "b"], ["c"]]
    assert compute_chance([same] * 3, n_draws=4000) == pytest.approx(1 / 9, abs=0.02)
    assert compute_chance([same] * 6) < 0.02
    assert compute_chance([[["a", "b", "c"]]] * 6) == 1  # one group says nothing
    assert compute_chance([same, [["a", "c"], ["b"]], [["b", "c"], ["a"]]]) == 1


def test_agreement_by_chance_is_uniform_where_nothing_agrees() -> None:
    """So that 2.5 % of groupings without any structure pass for agreement, not more."""
    rng, names = np.random.default_rng(0), list("abcdefghi")
    found = []
    for _ in range(100):
        draws = [rng.permutation(names).tolist() for _ in range(4)]
        found.append(compute_chance([[d[:4], d[4:7], d[7:]] for d in draws], n_draws=99))
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) < 0.1) < 0.2


def test_a_task_is_learned_if_it_is_clearly_better_than_a_constant() -> None:
    """Of 100 rows a half of them wrong is 50 +- 8 %; a loss must fall by 2 %, a distance too."""
    run = {
        "n_test": 100,
        "metrics": dict.fromkeys("abcd", "error_percent") | dict.fromkeys("ef", "mae"),
        "constant_errors": dict.fromkeys("abcd", 50.0) | dict.fromkeys("ef", 10.0),
        "constant_losses": dict.fromkeys("abcdef", 1.0),
        "task_errors": {"a": 50.0, "b": 43.0, "c": 41.0, "d": 50.0, "e": 9.9, "f": 9.7},
        "task_losses": {"a": 1.2, "b": 0.99, "c": 1.2, "d": 0.97, "e": 0.99, "f": 0.99},
    }
    assert find_unlearned(run) == ["a", "b", "e"]
    assert find_unlearned(run | {"constant_errors": {}}) == []
