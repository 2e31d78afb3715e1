"""A table of the paper beside ours: run what it needs, and gather what its runs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dmtg_lite.runs.jobs import Workers, as_workers
from dmtg_lite.studies.cells import run_cells
from dmtg_lite.studies.paper import measure
from dmtg_lite.studies.paper.runs import Results, Row, Setting, find_runs, list_cells, plan_row
from dmtg_lite.studies.paper.specs import SPECS, TOY_SHARED, list_notes, load_paper

if TYPE_CHECKING:
    import pandas as pd

TABULATORS = {
    "numbers": measure.tabulate_numbers,
    "groups": measure.tabulate_groups,
    "gains": measure.tabulate_gains,
}


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A table of the paper beside ours."""

    table: str  # its name, "table3"
    title: str
    kind: str  # see `Spec`
    doubts: tuple[str, ...]  # why the two must not be compared; empty if they may
    notes: tuple[str, ...]  # what a reader has to know
    frame: pd.DataFrame  # tidy rows; the first column is ``comparable``

    @property
    def is_comparable(self) -> bool:
        return not self.doubts

    @property
    def banner(self) -> str:
        """Empty where numbers may be compared."""
        doubts = "; ".join(self.doubts)
        return doubts and f"NOT COMPARABLE with the paper's numbers: {doubts}."


def reproduce_table(
    table: str,
    folder: str | Path,
    *,
    setting: Setting,
    seeds: Sequence[int] = (0,),
    jobs: int | Workers = 1,
    progress: bool = False,
    keep_checkpoints: bool = False,
) -> Reproduction:
    """Run what a table of the paper needs, and put our numbers beside the paper's.

    Args:
        table: A key of `SPECS`.
        folder, jobs, progress, keep_checkpoints: As in `run_cells`; tables share the runs of a
            folder. On real data checkpoints are always kept.
        setting: Data and configs.
        seeds: One run per row and seed. Toy images stay the same.
    """
    if table not in SPECS:
        raise ValueError(f"`table` must be one of {tuple(SPECS)}, got {table!r}.")
    spec, paper = SPECS[table], load_paper()["tables"][table]
    notes, opened = list_notes(table), None
    if spec.kind == "costs":
        lines = measure.tabulate_costs(paper["rows"], setting, Path(folder))
    else:
        setting.check(spec.suite)
        rows = [plan_row(row, spec, setting) for row in paper["rows"]]
        workers = as_workers(jobs).on_device(setting.device)
        # what workers open, this process only looks at: a GPU is theirs
        opened = (setting if workers.is_here else replace(setting, device="cpu")).open(spec.suite)
        cells = list_cells(rows, spec, setting, seeds)
        # this process has the data already; others, and rows on other data, open theirs
        is_one = workers.is_here and {cell.data for cell in cells} == {spec.suite}
        numbers = run_cells(
            cells, opened if is_one else setting.open, folder=folder, jobs=workers,
            progress=progress, keep_checkpoints=keep_checkpoints or not setting.is_toy,
        )  # fmt: skip
        results = dict(zip(cells, numbers, strict=True))
        notes += [
            f"Ours: mean ± standard deviation over seeds {', '.join(map(str, seeds))}."
            if len(seeds) > 1
            else f"One seed, {seeds[0]}: no spread is known. --seeds asks for more.",
            f"Our data: {opened!r}",
            f"Our preset: {setting.config(spec.suite)}",
            *_list_failures(rows, results),
        ]
        lines = TABULATORS[spec.kind](rows, spec, results)
    if table == "appendixD":
        lines.append(measure.add_ratio(lines))
    if table == "table6" and setting.is_toy:
        pairs = ", ".join(f"{own} for {papers}" for papers, own in TOY_SHARED.items())
        notes.append(f"Shared here, of the small encoder's 7 stages: {pairs}.")
    doubts = tuple(setting.doubts(spec.suite, opened))
    frame = measure.make_frame(table, lines, not doubts)
    return Reproduction(table, paper["title"], spec.kind, doubts, tuple(notes), frame)


def _list_failures(rows: Sequence[Row], results: Results) -> list[str]:
    """The runs that failed; refuse a table without any run, or without its reference."""
    failed = {cell: run["failed"] for cell, run in results.items() if "failed" in run}
    lines = [f"{c.method}, K={c.k}, seed {c.seed} failed: {why}" for c, why in failed.items()]
    has_runs = any(find_runs(row, results) for row in rows)
    if not has_runs or any(cell.method == "naive" for cell in failed):
        raise ValueError("; ".join(lines))
    return lines
