"""Results as tidy tables: a row per run, or per run and task; their summary over seeds; and the
same as words for a screen. Needs pandas."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dmtg_lite.core.tasks import IN_THEIR_UNIT, METRIC_LABELS
from dmtg_lite.files import write_atomically
from dmtg_lite.methods import MethodResult
from dmtg_lite.runs.metrics import find_unlearned, pair_gains, relative_error, sum_errors, total
from dmtg_lite.runs.report_page import align as align_rows
from dmtg_lite.runs.report_page import count_digits, tell

if TYPE_CHECKING:
    import pandas as pd

Numbers = dict[str, Any]  # of a run, as `MethodResult.to_json` or `cells.run_cells` gives them


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
        total_error (points; nan where tasks have different metrics), relative_error (percent of
        the constant answers' errors; nan of pictures), total_loss, norm_gain_error
        and norm_gain_loss (percent), n_groups (found), agreement, encoder_cost, cpu_seconds,
        wall_seconds, groups, note. Where the reference has no error on a task (or a score of 0),
        norm_gain_error is nan and ``note`` names the task; where a run failed all numbers are, and
        ``note`` says why.

    Raises:
        ValueError: If a seed has no run of the reference method. Where that run failed, there are
            no gains.
    """
    import pandas as pd

    rows = []
    for run, other in _pair(results, reference):
        row = {"method": run["method"], "k": run.get("k"), "seed": run["seed"]}
        if "failed" in run:
            rows.append(row | {"note": f"failed: {run['failed']}"})
            continue
        error_gains, loss_gains = compute_gains(run, other)
        row |= {
            "total_error": sum_errors(run["task_errors"], run["metrics"]),
            "relative_error": relative_error(
                run["task_errors"], run["metrics"], run.get("constant_errors")
            ),
            "total_loss": total(run["task_losses"]),
            "norm_gain_error": fmean(error_gains.values()),
            "norm_gain_loss": fmean(loss_gains.values()),
            "n_groups": len(run["groups"]),
            "agreement": run["agreement"],
            "encoder_cost": run["encoder_cost"],
            "cpu_seconds": run["seconds"]["cpu"],
            "wall_seconds": run["seconds"]["wall"],
            "groups": " | ".join(", ".join(group) for group in run["trained_groups"]),
            "note": "",
        }
        if "failed" in other:
            row["note"] = f"no gains: {reference} failed with this seed"
        elif at_zero := ", ".join(name for name, gain in error_gains.items() if isnan(gain)):
            row["note"] = f"no relative gain: {reference} is at 0 on {at_zero}"
        notes = (row["note"], _tell_unlearned(run), run.get("set_aside"))
        rows.append(row | {"note": "; ".join(filter(None, notes))})
    return pd.DataFrame(rows)


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table as CSV, atomically.

    A text that a spreadsheet would take for a formula, as a task's name may be, gets a quote mark
    before it (OWASP, CSV injection); numbers stay as they are.
    """
    text = table.map(_disarm).to_csv(index=False)
    return write_atomically(path, text.encode(errors="replace"))  # half a character is "?"


def _disarm(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r")) else cell


def tabulate_tasks(
    results: Sequence[MethodResult | Numbers], *, reference: str = "naive"
) -> pd.DataFrame:
    """One tidy row per run and task, with the terms of both NormGains (Tables 2, 3, A2).

    Returns:
        Columns method, k, seed, task, loss, error (in the unit of ``metric``), metric, gain_loss
        and gain_error (percent; nan where the reference has no error or a score of 0), group: the
        tasks it is served with by one encoder. Runs that failed have no rows.

    Raises:
        ValueError: If a seed has no run of the reference method.
    """
    import pandas as pd

    rows = []
    for run, other in _pair(results, reference):
        if "failed" in run:
            continue
        error_gains, loss_gains = compute_gains(run, other)
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


def compute_gains(run: Numbers, other: Numbers) -> tuple[dict[str, float], dict[str, float]]:
    """Terms of NormGain_E and NormGain_L over another run; nan throughout where that failed."""
    if "failed" in other:
        nothing = dict.fromkeys(run["task_errors"], nan)
        return nothing, nothing
    errors = pair_gains(run["task_errors"], other["task_errors"], run["metrics"])
    return errors, pair_gains(run["task_losses"], other["task_losses"])


def _pair(
    results: Sequence[MethodResult | Numbers], reference: str
) -> list[tuple[Numbers, Numbers]]:
    """Every run's numbers beside those of its seed's reference, failed or not."""
    runs = [one if isinstance(one, dict) else one.to_json() for one in results]
    runs = [one if "failed" in one else one | {"seed": one["config"]["seed"]} for one in runs]
    by_seed = {run["seed"]: run for run in runs if run["method"] == reference}
    for run in runs:
        if run["seed"] not in by_seed and "failed" not in run:
            raise ValueError(
                f"no {reference!r} run with seed {run['seed']} to compare {run['method']!r} with."
            )
    return [(run, by_seed.get(run["seed"], {})) for run in runs]


SPREADS = ["total_error", "relative_error", "total_loss", "norm_gain_error", "norm_gain_loss"]
MEANS = [*SPREADS, "agreement", "encoder_cost", "cpu_seconds"]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread (standard deviation) over seeds, one row per method in order of appearance.

    With several numbers of groups, one row per method and k. With one seed there is no spread and
    the column says nan. ``seeds`` counts the runs behind a mean: those that did not fail.
    """
    import pandas as pd

    keys = ["method"] if len(set(table["k"].dropna())) <= 1 else ["method", "k"]
    grouped = table.astype({"agreement": float}).groupby(keys, sort=False, dropna=False)
    means, spreads = pd.DataFrame(grouped[MEANS].mean()), pd.DataFrame(grouped[SPREADS].std())
    summary = means.join(spreads.add_suffix("_std"))
    return summary.assign(seeds=grouped["total_loss"].count())


# ---------------------------------------------------------------------- words


_IN_THEIR_UNIT = {METRIC_LABELS[metric] for metric in IN_THEIR_UNIT}
NAMES = ("K", "method", "strategy", "task")  # first columns, to the left; numbers to the right


def align(words: pd.DataFrame) -> str:
    """A table of words for a screen."""
    n_names = sum(name in NAMES for name in words.columns)
    return align_rows([list(words.columns), *words.to_numpy().tolist()], n_names)


def show(mean: float, spread: float = nan, digits: int = 1) -> str:
    """A mean and its spread over seeds; no spread of one seed, a dash for what does not exist."""
    return tell(mean, digits) + ("" if isnan(spread) else f" ± {tell(spread, digits)}")


def _tell_unlearned(run: Numbers) -> str:
    """Of data whose groups are not planted, where a narrow network is meant to fail."""
    names = find_unlearned(run) if run["agreement"] is None else []
    return f"no better than a constant answer: {', '.join(names)}" if names else ""


def render_result(result: MethodResult) -> str:
    """One run for a screen: groups, closing costs if there are any, and every task."""
    lines = [repr(result)]
    if result.elbow is not None:
        costs = ", ".join(f"{cost:.2f}" for cost in result.elbow["costs"])
        lines.append(
            f"closing costs, {result.elbow['n_branches'][0]} branches to 1: {costs}; "
            f"the largest rise says K = {result.elbow['n_groups']}"
        )
    for name, metric in result.metrics.items():
        label, value = METRIC_LABELS[metric], result.task_errors[name]
        error = f"{label} {tell(value, _count_digits(label, value)):>6}"
        if (constant := result.constant_errors.get(name)) is not None:
            error += f"  (a constant answer {tell(constant, _count_digits(label, constant))})"
        lines.append(f"  {name:24} loss {result.task_losses[name]:.4f}  {error}")
    return "\n".join(lines)


def _count_digits(label: str, value: float) -> int:
    """Two decimals, unless the unit is the target's own: a salary, a wavelength."""
    return count_digits([value]) if label in _IN_THEIR_UNIT else 2


def render_summary(table: pd.DataFrame) -> str:
    """What `summarise` says of a table of runs, for a screen."""
    import pandas as pd

    summary = summarise(table)
    column, error = "total_error", "total error"
    is_there = summary[[column, "relative_error"]].notna().to_numpy().any(0).tolist()
    if is_there == [False, True]:  # metrics differ
        column, error = "relative_error", "error %"
    rows = []
    for row in summary.reset_index().to_dict("records"):
        k = row.get("k", nan)  # only there with several numbers of groups
        k = "" if pd.isna(k) else f" K={k}" if isinstance(k, str) else f" K={k:.0f}"
        rows.append(
            {
                "method": row["method"] + k,
                error: show(row[column], row[f"{column}_std"]),
                "NormGain_E %": show(row["norm_gain_error"], row["norm_gain_error_std"]),
                "NormGain_L %": show(row["norm_gain_loss"], row["norm_gain_loss_std"]),
                "ARI": show(row["agreement"], digits=2),
                "cost": show(row["encoder_cost"], digits=2),
                "CPU s": show(row["cpu_seconds"], digits=0),
            }
        )
    n_seeds = int(summary["seeds"].iloc[0])
    of_constant = "\nerror %: of the constant answers' error, all tasks together."
    return (
        f"{align(pd.DataFrame(rows))}\n"
        f"mean ± standard deviation over {n_seeds} seed{'s' * (n_seeds > 1)}; NormGain against "
        "Naive MTL\nof the same seed; ARI: agreement with the planted groups (1 exact, about 0 "
        "chance); cost: encoder\nmultiply-adds spent in training relative to Naive MTL, spare "
        "branches and restarts included." + of_constant * (column == "relative_error")
    )


def render_tasks(table: pd.DataFrame) -> str:
    """Losses and errors of every task over seeds, for a screen: one line a task and method."""
    import pandas as pd

    digits = {"loss": 4, "gain_loss": 1, "gain_error": 1}
    grouped = table.groupby(["task", "method", "metric"], sort=False)[[*digits, "error"]]
    means, spreads = pd.DataFrame(grouped.mean()), pd.DataFrame(grouped.std())
    words = {
        name: [show(*pair, n) for pair in zip(means[name], spreads[name], strict=True)]
        for name, n in digits.items()
    }
    task, method, metric = (means.index.get_level_values(name) for name in means.index.names)
    errors = zip(means["error"], spreads["error"], metric, strict=True)
    words["error"] = [
        show(mean, spread, _count_digits(label, mean)) for mean, spread, label in errors
    ]
    names = ["task", "method", "loss", "gain %", "metric", "value", "gain %"]
    columns = [task, method, words["loss"], words["gain_loss"], metric]
    columns += [words["error"], words["gain_error"]]
    return align(pd.DataFrame(dict(enumerate(columns))).set_axis(names, axis=1))
