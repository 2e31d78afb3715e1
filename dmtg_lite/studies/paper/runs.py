"""Which runs give the numbers of a table: the data and configs they have, and the run that each row
of the paper asks for. Nothing here trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dmtg_lite import data as data_sets
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods import METHODS
from dmtg_lite.runs.presets import PAPER, TOY
from dmtg_lite.studies.cells import Cell, Numbers
from dmtg_lite.studies.paper.costs import count_costs
from dmtg_lite.studies.paper.specs import METHOD_OF, TASKS, TAU_OF, TOY_SHARED, Spec
from dmtg_lite.studies.suites import name_folder, open_suite

# Table 1 is 17 runs, some of 31 networks: fewer steps than the preset's, to end within minutes
_ROOMS = replace(TOY["rooms"], pretrain=40, steps=80)
TOY_CONFIGS = {
    "celeba9": TOY["faces_plain"],
    "celeba40": TOY["faces_plain"],
    "taskonomy5": _ROOMS,
    "taskonomy5_vit": replace(_ROOMS, encoder="vit_small"),
}
N_CELEBA = 162_770  # training images of the official split


@dataclass(frozen=True, slots=True)
class Setting:
    """Where data and configs come from; small, so that other processes can be handed it."""

    folder: str | None = None  # that a script of data_scripts prepared
    is_toy: bool = False  # drawn data of the library instead, and small networks
    is_quick: bool = False  # a few steps on a few images: to see that a table can be made
    device: str = "cpu"

    def check(self, suite: str) -> None:
        """Refuse a table without data (ValueError) before anything else."""
        if not self.is_toy and self.folder is None:
            raise ValueError(
                f"`--data` is missing: this table needs {name_folder(suite)}. "
                "With --toy the same experiment runs on drawn data, with numbers of its own."
            )

    def config(self, suite: str) -> TrainConfig:
        """The paper's preset or the toy one, or a few steps of it."""
        config = (TOY_CONFIGS if self.is_toy else PAPER)[suite]
        few = {"pretrain": 1, "steps": 2, "epochs": None, "batch_size": 4}
        return replace(config, **few) if self.is_quick else config

    def image_shape(self, suite: str) -> tuple[int, int, int]:
        size = 32 if self.is_toy else 256 if TASKS[suite][0].is_dense else 64
        return 3, size, size

    def open(self, suite: str) -> TaskData:
        """The data of a suite; toy images are the same for every seed."""
        if not self.is_toy:
            opened = open_suite(suite.removesuffix("_vit"), self.folder, device=self.device)
            if not self.is_quick:
                return opened
            few = [split.subset(slice(64)) for split in (opened.train, opened.val, opened.test)]
            return replace(opened, train=few[0], val=few[1], test=few[2])
        if TASKS[suite][0].is_dense:
            n_train, n_val, n_test = (12, 4, 6) if self.is_quick else (400, 50, 100)
            drawn = data_sets.toy_rooms(n_train=n_train, n_val=n_val, n_test=n_test, size=32)
        else:
            n_train, n_val, n_test = (200, 50, 80) if self.is_quick else (2000, 300, 600)
            n, k = (40, 5) if suite == "celeba40" else (9, 3)
            drawn = data_sets.toy_faces(n, k, n_train=n_train, n_val=n_val, n_test=n_test)
        return drawn.to(self.device)

    def doubts(self, suite: str, opened: TaskData | None) -> list[str]:
        """Why our numbers cannot be compared with the paper's; empty if they can."""
        doubts = ["a few steps on a few images (--quick)"] if self.is_quick else []
        if self.is_toy:
            doubts.insert(0, "drawn toy data and a small network instead of the paper's")
        elif opened is not None and opened.name not in PAPER:
            doubts.insert(0, f"not the paper's data ({opened.note})")
        elif opened is not None and "celeba" in suite and len(opened.train) != N_CELEBA:
            doubts.insert(0, f"{len(opened.train):,} training images instead of {N_CELEBA:,}")
        return doubts


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what the paper says in it, and the run that gives our numbers."""

    label: str  # the paper's name of the line
    cell: Cell  # the run, with a seed that `at` replaces
    paper: dict[str, Any]  # the paper's row
    known: dict[str, float] = field(default_factory=dict)  # numbers of ours that need no run

    def at(self, seed: int) -> Cell:
        return replace(self.cell, config=replace(self.cell.config, seed=seed))


def plan_row(paper: dict[str, Any], spec: Spec, setting: Setting) -> Row:
    """The run that a row of the paper asks for."""
    suite, k = paper.get("experiment", spec.suite), paper.get("groups", spec.k)
    label, config = paper.get("method", "DMTG"), setting.config(suite)
    method, known = METHOD_OF[label], {}
    if "strategy" in paper:
        label = paper["strategy"]
        config = replace(config, tau=TAU_OF[label])
    elif "shared_blocks" in paper:
        shared = paper["shared_blocks"]
        label = f"{shared} shared"
        config = replace(config, shared=TOY_SHARED[shared] if setting.is_toy else shared)
        known["gmacs"] = count_costs(TASKS[suite], setting.image_shape(suite), config).dmtg(k) / 1e9
    elif "experiment" in paper:
        label = suite
    k = k if METHODS[method].needs_k else None
    return Row(label, Cell(method, k, config, data=suite), paper, known)


Results = dict[Cell, Numbers]


def list_cells(
    rows: Sequence[Row], spec: Spec, setting: Setting, seeds: Sequence[int]
) -> list[Cell]:
    """Each run once, Naive MTL first where gains are relative to it: one for all rows of a seed."""
    cells: dict[Cell, None] = {}
    for seed in seeds:
        if spec.needs_reference:
            own = replace(setting.config(spec.suite), seed=seed)
            cells[Cell("naive", None, own, data=spec.suite)] = None
        cells |= dict.fromkeys(row.at(seed) for row in rows)
    return list(cells)


def find_runs(row: Row, results: Results) -> list[tuple[Numbers, Numbers | None]]:
    """The runs of a row that did not fail, each with Naive MTL of its seed where that was run."""
    references = {cell.seed: run for cell, run in results.items() if cell.method == "naive"}
    own = [(cell.seed, run) for cell, run in results.items() if cell == row.at(cell.seed)]
    return [(run, references.get(seed)) for seed, run in own if "failed" not in run]
