"""Results as tidy tables: one row per run, or per run and task, and their summary over seeds. Needs
pandas.

A result is a `MethodResult`, or its numbers as `MethodResult.to_json` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dmtg_lite.core.tasks import METRIC_LABELS
from dmtg_lite.methods import MethodResult
from dmtg_lite.runs.metrics import pair_gains, sum_errors, total

if TYPE_CHECKING:
    import pandas as pd

Numbers = dict[str, Any]


def tabulate(
    results: Sequence[MethodResult | Numbers], *, reference: str = "naive"
) -> pd.DataFrame:
    """One tidy row per run, with NormGain against the reference run of the same seed.

    Args:
        results: Of any methods, seeds and numbers of groups, the reference among them. A run that
            failed is ``{"method", "seed", "k", "failed": message}``.
        reference: Method every gain is relative to.

    Returns:
        Columns method, k (groups asked for; empty where the method was not asked), seed,
        total_error (points; nan where tasks have different metrics), total_loss, norm_gain_error
        and norm_gain_loss (percent), n_groups (found), agreement, encoder_cost, cpu_seconds,
        wall_seconds, groups, note. Where the reference has no error on a task (or a score of 0),
        norm_gain_error is nan and ``note`` names the task; where a run failed all numbers are, and
        ``note`` says why.

    Raises:
        ValueError: If a seed has no run of the reference method. Where that run failed, there are
            no gains.
    """
    import pandas as pd

    runs = [_to_numbers(result) for result in results]
    by_seed = _find_reference(runs, reference)
    rows = []
    for run in runs:
        row = {"method": run["method"], "k": run.get("k"), "seed": run["seed"]}
        if "failed" in run:
            rows.append(row | {"note": f"failed: {run['failed']}"})
            continue
        error_gains, loss_gains = _compute_gains(run, by_seed[run["seed"]])
        at_zero = [name for name, gain in error_gains.items() if np.isnan(gain)]
        rows.append(
            row
            | {
                "total_error": sum_errors(run["task_errors"], run["metrics"]),
                "total_loss": total(run["task_losses"]),
                "norm_gain_error": float(np.mean(list(error_gains.values()))),
                "norm_gain_loss": float(np.mean(list(loss_gains.values()))),
                "n_groups": len(run["groups"]),
                "agreement": run["agreement"],
                "encoder_cost": run["encoder_cost"],
                "cpu_seconds": run["seconds"]["cpu"],
                "wall_seconds": run["seconds"]["wall"],
                "groups": _show_groups(run["trained_groups"]),
                "note": _explain(at_zero, by_seed[run["seed"]]),
            }
        )
    return pd.DataFrame(rows)


def tabulate_tasks(
    results: Sequence[MethodResult | Numbers], *, reference: str = "naive"
) -> pd.DataFrame:
    """One tidy row per run and task, with the terms of both NormGains (Tables 2, 3 and A2, Figure
    A2).

    Returns:
        Columns method, k, seed, task, loss, error (in the unit of ``metric``), metric, gain_loss
        and gain_error (percent; nan where the reference has no error or a score of 0), group: the
        tasks it is served with by one encoder. Runs that failed have no rows.

    Raises:
        ValueError: If a seed has no run of the reference method.
    """
    import pandas as pd

    runs = [_to_numbers(result) for result in results]
    by_seed = _find_reference(runs, reference)
    rows = []
    for run in runs:
        if "failed" in run:
            continue
        error_gains, loss_gains = _compute_gains(run, by_seed[run["seed"]])
        group_of = {name: ", ".join(group) for group in run["groups"] for name in group}
        rows += [
            {
                "method": run["method"], "k": run.get("k"), "seed": run["seed"], "task": name,
                "loss": run["task_losses"][name], "error": run["task_errors"][name],
                "metric": METRIC_LABELS[metric], "gain_loss": loss_gains[name],
                "gain_error": error_gains[name], "group": group_of[name],
            }
            for name, metric in run["metrics"].items()
        ]  # fmt: skip
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread (standard deviation) over seeds, one row per method in order of appearance.

    With several numbers of groups, one row per method and k. With one seed there is no spread and
    the column says nan.
    """
    keys = ["method"] if table["k"].nunique() <= 1 else ["method", "k"]
    columns = [
        "total_error", "total_loss", "norm_gain_error", "norm_gain_loss", "agreement", "encoder_cost",
        "cpu_seconds",
    ]  # fmt: skip
    grouped = table.groupby(keys, sort=False, dropna=False)
    means, spreads = grouped[columns].mean(), grouped[columns].std()
    spread_of = ["total_error", "total_loss", "norm_gain_error", "norm_gain_loss"]
    summary = means.join(spreads[spread_of].add_suffix("_std"))
    summary["agreement"] = summary["agreement"].where(grouped["agreement"].count() > 0)
    summary["seeds"] = grouped["total_loss"].count()  # runs that failed are behind no mean
    return summary


def _explain(without_gain: Sequence[str], reference: Numbers) -> str:
    if "failed" in reference:
        return f"no gains: {reference['method']} failed with this seed"
    at_zero = ", ".join(without_gain)
    return f"no relative gain: {reference['method']} is at 0 on {at_zero}" if at_zero else ""


def _to_numbers(result: MethodResult | Numbers) -> Numbers:
    numbers = result if isinstance(result, dict) else result.to_json()
    return numbers if "failed" in numbers else {**numbers, "seed": numbers["config"]["seed"]}


def _find_reference(runs: Sequence[Numbers], reference: str) -> dict[int, Numbers]:
    """The reference's run of every seed, failed or not."""
    by_seed = {run["seed"]: run for run in runs if run["method"] == reference}
    for run in runs:
        if run["seed"] not in by_seed and "failed" not in run:
            raise ValueError(
                f"no {reference!r} run with seed {run['seed']} to compare {run['method']!r} with."
            )
    return by_seed


def _compute_gains(run: Numbers, other: Numbers) -> tuple[dict[str, float], dict[str, float]]:
    """Terms of NormGain_E and NormGain_L; nan throughout where the reference failed."""
    if "failed" in other:
        nothing = dict.fromkeys(run["task_errors"], float("nan"))
        return nothing, nothing
    errors = pair_gains(run["task_errors"], other["task_errors"], run["metrics"])
    return errors, pair_gains(run["task_losses"], other["task_losses"])


def _show_groups(groups: Sequence[Sequence[str]]) -> str:
    return " | ".join(", ".join(group) for group in groups)
