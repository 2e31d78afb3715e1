"""From the paper's rows to the runs that give our numbers, and back to the runs of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.methods import METHODS
from dmtg_lite.studies.cells import ONCE, Cell
from dmtg_lite.studies.paper.costs import count_costs
from dmtg_lite.studies.paper.setting import Setting
from dmtg_lite.studies.paper.specs import METHOD_OF, TASKS, TAU_OF, Spec

TOY_SHARED = {0: 0, 3: 1, 6: 2, 9: 3}  # the small encoder has 7 stages


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what the paper says in it, and the run that gives our numbers.

    Args:
        label: The paper's name of the line.
        k: Number of groups, None where the method is not asked.
        method: A name of `methods.METHODS`, or one that is not there (yet).
        config: Of the run, without its seed.
        suite: Key of the data.
        paper: The paper's row.
        known: Numbers of ours that need no run.
    """

    label: str
    k: int | None
    method: str
    config: TrainConfig
    suite: str
    paper: dict[str, Any]
    known: dict[str, float] = field(default_factory=dict)

    @property
    def is_available(self) -> bool:
        return self.method in METHODS

    def cell(self, seed: int) -> Cell:
        return Cell(self.method, self.k, replace(self.config, seed=seed), data=self.suite)


def plan_row(paper: dict[str, Any], spec: Spec, setting: Setting) -> Row:
    """The run that a row of the paper asks for."""
    suite = paper.get("experiment", spec.suite)
    config = setting.config(suite)
    label = paper.get("method", "DMTG")
    method, k = METHOD_OF[label], paper.get("groups", spec.k)
    known: dict[str, float] = {}
    if "strategy" in paper:
        label = paper["strategy"]
        config = replace(config, tau=TAU_OF[label])
    elif "shared_blocks" in paper:
        shared = paper["shared_blocks"]
        label, shared = f"{shared} shared", TOY_SHARED[shared] if setting.is_toy else shared
        config = replace(config, shared=shared)
        known["gmacs"] = count_costs(TASKS[suite], setting.image_shape(suite), config).dmtg(k) / 1e9
    elif "experiment" in paper:
        label = suite
    return Row(label, None if method in ONCE else k, method, config, suite, paper, known)


Results = dict[Cell, dict[str, Any]]


def list_cells(
    planned: Sequence[Row], spec: Spec, setting: Setting, seeds: Sequence[int]
) -> list[Cell]:
    """Each run once, Naive MTL first where gains are relative to it: one for all rows of a seed."""
    cells: dict[Cell, None] = {}
    for seed in seeds:
        if spec.needs_reference:
            own = replace(setting.config(spec.suite), seed=seed)
            cells[Cell("naive", None, own, data=spec.suite)] = None
        cells |= dict.fromkeys(row.cell(seed) for row in planned if row.is_available)
    return list(cells)


def find_runs(row: Row, results: Results, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The runs of a row that there are, with their seed's reference as ``reference``."""
    references = {cell.seed: run for cell, run in results.items() if cell.method == "naive"}
    runs = [results[row.cell(seed)] for seed in seeds] if row.is_available else []
    return [
        run | {"reference": references.get(run["config"]["seed"]), "seed": run["config"]["seed"]}
        for run in runs
        if "failed" not in run
    ]
