"""The paper's tables beside ours: which runs a table needs, and what they say. Needs pandas.

What the paper printed is in `paper_tables.json`. How a table looks, on a screen and as a page, is in
`reproduce_page`; multiply-adds are counted in `costs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from math import isnan, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from dmtg_lite import data as data_sets
from dmtg_lite.cells import ONCE, Cell, run_cells
from dmtg_lite.config import TrainConfig
from dmtg_lite.costs import Costs, count_costs
from dmtg_lite.data.task_data import TaskData
from dmtg_lite.methods import METHODS
from dmtg_lite.metrics import pair_gains, sum_errors, total
from dmtg_lite.presets import PAPER, TOY
from dmtg_lite.tables import tabulate_tasks
from dmtg_lite.tasks import CELEBA_9, CELEBA_40, METRIC_LABELS, TASKONOMY_5, Task

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
METHOD_OF = {
    "Naive MTL": "naive", "STL": "stl", "RG": "random", "HOA": "hoa", "TAG": "tag", "MTG-Net": "mtg_net",
    "DMTG": "dmtg", "DMTG (one-shot)": "dmtg", "Retrain from scratch": "two_shot",
    "Retrain from Naive MTL init": "two_shot_pretrained",
}  # fmt: skip
"""The paper's names of methods -> ours."""
TAU_OF = {
    "anneal 100 -> 4, factor 1/2": (100.0, 4.0), "anneal 100 -> 4, factor 1/4": (100.0, 4.0),
    "anneal 50 -> 4, factor 1/2": (50.0, 4.0), "anneal 10 -> 0.01, factor 1/2": (10.0, 0.01), "fixed 4": 4.0,
}  # fmt: skip
TOY_SHARED = {0: 0, 3: 1, 6: 2, 9: 3}  # the small encoder has 7 stages
SUITE_OF = {"ResNet variant": "celeba9", "Xception variant": "taskonomy5", "ViT-Base": "taskonomy5_vit"}
TASKS: dict[str, tuple[Task, ...]] = {
    "celeba9": CELEBA_9, "celeba40": CELEBA_40, "taskonomy5": TASKONOMY_5, "taskonomy5_vit": TASKONOMY_5,
}  # fmt: skip
TOY_CONFIGS = {
    "celeba9": TOY["faces_plain"], "celeba40": TOY["faces_plain"], "taskonomy5": TOY["rooms"],
    "taskonomy5_vit": replace(TOY["rooms"], encoder="vit_small"),
}  # fmt: skip
N_CELEBA = 162_770  # training images of the official split


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a table is made of.

    Args:
        suite: Preset and tasks: a key of `presets.PAPER`.
        kind: ``"numbers"``; ``"groups"``: who is with whom; ``"gains"``: of every task; ``"costs"``: nothing
            is trained for it.
        quantities: Of a run as a whole.
        by_task: Of every task of a run.
        k: K of rows that do not say theirs.
        notes: Beside every such table.
    """

    suite: str
    kind: str = "numbers"
    quantities: tuple[str, ...] = ()
    by_task: tuple[str, ...] = ()
    k: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def needs_reference(self) -> bool:
        return self.kind == "gains" or any("gain" in name for name in (*self.quantities, *self.by_task))


_NO_TARGET = (
    "The paper's absolute numbers on Taskonomy are no target: printed digits suggest that three of the five "
    "labels were nearly constant. docs/taskonomy.md has the evidence."
)
_LOSS = ("total_loss", "norm_gain_loss")
SPECS: dict[str, Spec] = {
    "table1": Spec(suite="taskonomy5", quantities=_LOSS, notes=(_NO_TARGET,)),
    "table2": Spec(suite="taskonomy5", by_task=("loss", "norm_gain_loss"), notes=(_NO_TARGET,)),
    "table3": Spec(suite="celeba9", quantities=("total_error", "norm_gain_error")),
    "table4": Spec(suite="taskonomy5", quantities=_LOSS, notes=(_NO_TARGET,)),
    "table5": Spec(
        suite="taskonomy5_vit", quantities=_LOSS,
        notes=(
            _NO_TARGET,
            "The paper reuses the groups of Table 1 for HOA, TAG and MTG-Net; here they search with the ViT.",
            "The paper prints the same gain for STL and TAG, with different losses.",
        ),
    ),
    "table6": Spec(
        suite="taskonomy5", quantities=(*_LOSS, "gmacs"), k=3,
        notes=(
            _NO_TARGET,
            "The paper's GFLOPs beside our counted multiply-adds; no counting we found gives the paper's.",
        ),
    ),
    "tableA1": Spec(
        suite="celeba9", kind="costs",
        notes=(
            "The paper's GFLOPs beside our counted multiply-adds of one image through all that is trained: "
            "HOA all pairs and K groups, TAG one network and K groups, each group an encoder of its own.",
            "DMTG on CelebA-9 is counted with one shared stage, which gives the paper's figures; our preset "
            "shares none (K = 2, 3, 4: 0.16, 0.23, 0.31).",
            "Hours are wall time of finished runs in this folder, on whatever machine made them; the paper's "
            "are of one RTX 4090. Nothing is trained for this table.",
        ),
    ),
    "tableA2": Spec(
        suite="taskonomy5", by_task=("metric", "norm_gain_error"), quantities=("avg_norm_gain_error",),
        notes=(_NO_TARGET, "The paper names its metrics without recipes; ours are in docs/taskonomy.md."),
    ),
    "tableA3": Spec(
        suite="taskonomy5", quantities=("total_loss",), k=5,
        notes=(
            _NO_TARGET,
            "The paper multiplies the temperature by a factor now and then, and does not say when. Ours "
            "falls geometrically over the whole run, from the same start to the same end, so that its two "
            "rows from 100 to 4 are one run here.",
        ),
    ),
    "tableA4": Spec(suite="taskonomy5", kind="groups"),
    "tableA5": Spec(suite="celeba9", kind="groups"),
    "figureA2": Spec(suite="celeba40", kind="gains"),
    "appendixD": Spec(
        suite="celeba9", quantities=("hours",),
        notes=(
            "Hours are wall time of a run in one go, pretraining and evaluation included; with several "
            "--jobs runs slow each other down. The ratio says more than the hours.",
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a number is shown: its name, its format, and which way is better (None: neither)."""

    label: str
    format: str
    higher_is_better: bool | None


_QUANTITIES = {
    "total_loss": Quantity("total loss", ".3f", False),
    "total_error": Quantity("total error", ".2f", False),
    "loss": Quantity("loss", ".3g", False),
    "norm_gain_loss": Quantity("NormGain_L %", ".2f", True),
    "norm_gain_error": Quantity("NormGain_E %", ".2f", True),
    "avg_norm_gain_error": Quantity("NormGain_E %", ".2f", True),
    "gmacs": Quantity("GMACs", ".4g", None),
    "hours": Quantity("hours", ".3g", None),
    "ratio": Quantity("ratio", ".3g", None),
    "percent": Quantity("% of Naive MTL", ".2f", None),
}


def describe(quantity: str, part: str = "") -> Quantity:
    """The `Quantity` of a column; a metric's name and direction are its task's."""
    if quantity != "metric":
        return _QUANTITIES[quantity]
    task = next(task for task in TASKONOMY_5 if task.name == part)
    return Quantity(
        METRIC_LABELS[task.metric], ".3g" if task.metric == "rmse" else ".2f", task.higher_is_better
    )


@cache
def load_paper() -> dict[str, Any]:
    """What the paper printed: ``{"source": ..., "tables": {name: {"title", "rows", ...}}}``."""
    return json.loads((HERE / "paper_tables.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Setting:
    """Where data and configs come from; small, so that other processes can be handed it.

    Args:
        folder: What a script of ``data_scripts`` prepared; None: nothing.
        is_toy: Drawn data of the library instead, and small networks.
        is_quick: A few steps on a few images: to see that a table can be made.
        device: Where to train.
    """

    folder: str | None = None
    is_toy: bool = False
    is_quick: bool = False
    device: str = "cpu"

    def check(self, suites: Iterable[str]) -> None:
        """Refuse a table without data before anything else.

        Raises:
            ValueError: Names the script that prepares the data, and ``--toy``.
        """
        if self.is_toy or self.folder is not None:
            return
        name = "celeba" if "celeba" in next(iter(suites)) else "taskonomy"
        raise ValueError(
            f"`--data` is missing: this table needs the folder that data_scripts/prepare_{name}.py wrote. "
            "With --toy the same experiment runs on drawn data, with numbers of its own."
        )

    def config(self, suite: str) -> TrainConfig:
        """The paper's preset or the toy one, or a few steps of it."""
        config = (TOY_CONFIGS if self.is_toy else PAPER)[suite]
        if not self.is_quick:
            return config
        is_dense = TASKS[suite][0].is_dense
        few = (
            {"pretrain": 1, "steps": 2, "batch_size": 4}
            if is_dense
            else {"pretrain": 5, "steps": 10, "batch_size": 32}
        )
        return replace(config, **few, epochs=None)

    def image_shape(self, suite: str) -> tuple[int, int, int]:
        size = 32 if self.is_toy else 256 if TASKS[suite][0].is_dense else 64
        return 3, size, size

    def open(self, suite: str) -> TaskData:
        """The data of a suite; toy images are the same for every seed."""
        if not self.is_toy:
            return self._open_prepared(suite)
        if TASKS[suite][0].is_dense:  # half the size of the default: a quarter of the time
            few = {"n_train": 12, "n_val": 4, "n_test": 6} if self.is_quick else {}
            return data_sets.toy_rooms(size=32, **few).to(self.device)
        few = {"n_train": 200, "n_val": 50, "n_test": 80} if self.is_quick else {}
        n_tasks, n_groups = (40, 5) if suite == "celeba40" else (9, 3)
        return data_sets.toy_faces(n_tasks, n_groups, **few).to(self.device)

    def _open_prepared(self, suite: str) -> TaskData:
        if TASKS[suite][0].is_dense:
            opened = data_sets.taskonomy(self.folder).stream_to(self.device)  # too large to move as a whole
        else:
            opened = data_sets.celeba(self.folder, suite=suite).to(self.device)
        if not self.is_quick:
            return opened
        few = {name: getattr(opened, name).subset(slice(64)) for name in ("train", "val", "test")}
        return replace(opened, **few)

    def doubts(self, suite: str, opened: TaskData | None) -> list[str]:
        """Why our numbers cannot be compared with the paper's; empty if they can."""
        doubts = []
        if self.is_toy:
            doubts.append("drawn toy data and a small network instead of the paper's")
        elif opened is not None:
            if opened.name not in PAPER:
                doubts.append(f"not the paper's data ({opened.note})")
            elif "celeba" in suite and len(opened.train) != N_CELEBA:
                doubts.append(f"{len(opened.train):,} training images instead of {N_CELEBA:,}")
        if self.is_quick and opened is not None:
            doubts.append("a few steps on a few images (--quick)")
        return doubts


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


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A table of the paper beside ours.

    Args:
        table: Its name, e.g. ``"table3"``.
        title: What it is about.
        kind: See `Spec`.
        doubts: Why the two must not be compared; empty if they may.
        notes: What a reader has to know.
        frame: Tidy rows; the first column, ``comparable``, is in every one of them.
    """

    table: str
    title: str
    kind: str
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    frame: pd.DataFrame

    @property
    def is_comparable(self) -> bool:
        return not self.doubts


def reproduce_table(
    table: str,
    folder: str | Path,
    *,
    setting: Setting = Setting(),
    seeds: Sequence[int] = (0,),
    jobs: int = 1,
    progress: bool = False,
) -> Reproduction:
    """Run what a table of the paper needs, and put our numbers beside the paper's.

    Args:
        table: A key of `SPECS`.
        folder: Where finished runs are kept, a JSON file each, and on real data their checkpoints: a
            reproduction that was killed continues, and tables share runs.
        setting: Data and configs.
        seeds: One run per row and seed. Toy images stay the same.
        jobs: Processes of one thread each.
        progress: Show a progress bar (needs tqdm).

    Raises:
        ValueError: If there are no data, the table is unknown, or the reference of every gain failed.
    """
    if table not in SPECS:
        raise ValueError(f"`table` must be one of {tuple(SPECS)}, got {table!r}.")
    spec, paper = SPECS[table], load_paper()["tables"][table]
    notes = [*spec.notes, *([paper["note"]] if "note" in paper else [])]
    if spec.kind == "costs":
        rows, opened = _tabulate_costs(paper["rows"], setting, Path(folder)), None
    else:
        planned = [_plan(row, spec, setting) for row in paper["rows"]]
        setting.check(row.suite for row in planned)
        opened = setting.open(spec.suite)
        notes += [_count_seeds(seeds), f"Our data: {opened!r}"]
        cells = _list_cells(planned, spec, setting, seeds)
        # this process has the data already; others, and rows on other data, open theirs
        is_one = jobs == 1 and {cell.data for cell in cells} == {spec.suite}
        numbers = run_cells(
            cells, opened if is_one else setting.open, folder=folder, jobs=jobs, progress=progress,
            keep_checkpoints=not setting.is_toy,
        )  # fmt: skip
        results = dict(zip(cells, numbers, strict=True))
        notes += _report(planned, results)
        tabulator = {"numbers": _tabulate_numbers, "groups": _tabulate_groups, "gains": _tabulate_gains}
        rows = tabulator[spec.kind](planned, spec, results, seeds)
        if table == "appendixD":
            rows.append(_ratio(rows))
        if table == "table6" and setting.is_toy:
            notes.append(f"Shared stages of the small encoder's 7 for the paper's: {TOY_SHARED}.")
    doubts = tuple(setting.doubts(spec.suite, opened))
    return Reproduction(
        table, paper["title"], spec.kind, doubts, tuple(notes), _frame(table, rows, not doubts)
    )


def _count_seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"One seed, {seeds[0]}: no spread is known. --seeds asks for more."
    return f"Ours: mean ± standard deviation over seeds {', '.join(map(str, seeds))}."


# ---------------------------------------------------------------------- runs


def _plan(paper: dict[str, Any], spec: Spec, setting: Setting) -> Row:
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


def _list_cells(planned: Sequence[Row], spec: Spec, setting: Setting, seeds: Sequence[int]) -> list[Cell]:
    """Each run once, Naive MTL first where gains are relative to it: one for all rows of a seed."""
    cells: dict[Cell, None] = {}
    for seed in seeds:
        if spec.needs_reference:
            own = replace(setting.config(spec.suite), seed=seed)
            cells[Cell("naive", None, own, data=spec.suite)] = None
        cells |= dict.fromkeys(row.cell(seed) for row in planned if row.is_available)
    return list(cells)


def _report(planned: Sequence[Row], results: Results) -> list[str]:
    """Rows that have no run, or one that failed."""
    lines = [f"{row.label}: not available." for row in planned if not row.is_available]
    failed = {cell: run["failed"] for cell, run in results.items() if "failed" in run}
    lines += [f"{cell.method}, K={cell.k}, seed {cell.seed} failed: {why}" for cell, why in failed.items()]
    if any(cell.method == "naive" for cell in failed):
        raise ValueError("; ".join(lines))
    return list(dict.fromkeys(lines))


def _finished(row: Row, results: Results, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The runs of a row that there are, with their seed's reference as ``reference``."""
    references = {cell.seed: run for cell, run in results.items() if cell.method == "naive"}
    runs = [results[row.cell(seed)] for seed in seeds] if row.is_available else []
    return [
        run | {"reference": references.get(run["config"]["seed"]), "seed": run["config"]["seed"]}
        for run in runs
        if "failed" not in run
    ]


# ---------------------------------------------------------------------- numbers


def _measure(run: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Every quantity of a run, by task (or "" for the whole) and name."""
    values = {
        ("", "total_loss"): total(run["task_losses"]),
        ("", "total_error"): sum_errors(run["task_errors"], run["metrics"]),
        ("", "hours"): run["seconds"]["wall"] / 3600,
    }
    values |= {(name, "loss"): loss for name, loss in run["task_losses"].items()}
    values |= {(name, "metric"): error for name, error in run["task_errors"].items()}
    reference = run["reference"]
    if reference is None or run["method"] == "naive":  # nothing to gain over itself
        return values
    loss_gains = pair_gains(run["task_losses"], reference["task_losses"])
    error_gains = pair_gains(run["task_errors"], reference["task_errors"], run["metrics"])
    for quantity, gains in (("norm_gain_loss", loss_gains), ("norm_gain_error", error_gains)):
        values |= {(name, quantity): gain for name, gain in gains.items()}
        values[("", quantity)] = fmean(gains.values())
    values[("", "avg_norm_gain_error")] = values[("", "norm_gain_error")]
    return values


def _tabulate_numbers(
    planned: Sequence[Row], spec: Spec, results: Results, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    names = [task.name for task in TASKS[spec.suite]]
    wanted = [(name, quantity) for name in names for quantity in spec.by_task]
    wanted += [("", quantity) for quantity in spec.quantities]
    rows = []
    for row in planned:
        measured = [_measure(run) for run in _finished(row, results, seeds)]
        note = "" if row.is_available else "not available"
        for part, quantity in wanted:
            printed = row.paper.get(part, row.paper).get("gflops" if quantity == "gmacs" else quantity)
            ours = [values.get((part, quantity), nan) for values in measured]
            ours = [row.known[quantity]] if quantity in row.known else ours
            rows.append(
                _line(row.paper.get("groups", spec.k), row.label, part, quantity, printed, ours, note)
            )
    return rows


def _line(
    groups: int | None, label: str, part: str, quantity: str, printed: float | None, ours: Sequence[float],
    note: str = "",
) -> dict[str, Any]:  # fmt: skip
    return {
        "groups": groups, "method": label, "part": part, "quantity": quantity,
        "paper": nan if printed is None else printed, "ours": fmean(ours) if ours else nan,
        "spread": stdev(ours) if len(ours) > 1 else nan, "seeds": len(ours), "note": note,
    }  # fmt: skip


def _ratio(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """CelebA-40 over CelebA-9."""
    hours = {row["method"]: row for row in rows}
    printed, ours = (hours["celeba40"][name] / hours["celeba9"][name] for name in ("paper", "ours"))
    return _line(5, "celeba40 / celeba9", "", "ratio", printed, [ours])


def _frame(table: str, rows: Sequence[dict[str, Any]], is_comparable: bool) -> pd.DataFrame:
    """Tidy rows with what is the same in all; a difference only where it means something."""
    import pandas as pd

    frame = pd.DataFrame([{"comparable": is_comparable, "table": table, **row} for row in rows])
    if "ours" not in frame:
        return frame
    frame["groups"] = frame["groups"].astype("Int64")
    differences = frame["ours"] - frame["paper"] if is_comparable else frame["ours"] * nan
    marks = [_mark(row, difference) for row, difference in zip(rows, differences, strict=True)]
    frame.insert(frame.columns.get_loc("note"), "difference", differences)
    frame.insert(frame.columns.get_loc("note"), "mark", marks)
    return frame


def _mark(row: dict[str, Any], difference: float) -> str:
    """Ours against the paper's: "same" if they agree in the digits shown, else "better" or "worse"."""
    quantity = describe(row["quantity"], row["part"])
    if isnan(difference) or quantity.higher_is_better is None:
        return ""
    if format(row["ours"], quantity.format) == format(row["paper"], quantity.format):
        return "same"
    return "better" if (difference > 0) == quantity.higher_is_better else "worse"


# ---------------------------------------------------------------------- groups and gains

SERVED, ELSEWHERE = (
    "■",
    "□",
)  # the paper's marks: in this group and served by it; in it, and served by another


def mark_groups(trained: Sequence[Sequence[str]], served: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """The paper's marks: for each trained group ``{task: mark}``.

    Args:
        trained: The groups that were trained; they may overlap.
        served: Who is served by one of them in the end: a partition of the tasks, in the order of
            ``trained``, without groups that serve nobody.
    """
    waiting = [list(group) for group in served]
    marks = []
    for group in trained:
        own = waiting.pop(0) if waiting and set(waiting[0]) <= set(group) else []
        marks.append({name: SERVED if name in own else ELSEWHERE for name in group})
    return marks


def _tabulate_groups(
    planned: Sequence[Row], spec: Spec, results: Results, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One line a mark: the paper's cells without a group, the groups inferred from them, and ours."""
    rows = []
    for row in planned:
        line = {"groups": row.k, "method": row.label}
        for task, marks in row.paper["marks"].items():
            rows.append(line | {"source": "paper", "seed": None, "group": None, "task": task, "mark": marks})
        for group, tasks in enumerate(row.paper["inferred_groups"] or (), start=1):
            for task in tasks:
                rows.append(
                    line | {"source": "inferred", "seed": None, "group": group, "task": task, "mark": SERVED}
                )
        for run in _finished(row, results, seeds):
            for group, marks in enumerate(mark_groups(run["trained_groups"], run["groups"]), start=1):
                for task, mark in marks.items():
                    rows.append(
                        line
                        | {"source": "ours", "seed": run["seed"], "group": group, "task": task, "mark": mark}
                    )
    return rows


def _tabulate_gains(
    planned: Sequence[Row], spec: Spec, results: Results, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One line a run and task."""
    runs = [run for row in planned for run in _finished(row, results, seeds)]
    if not runs:
        return []
    table = tabulate_tasks([run["reference"] for run in runs] + runs)
    return table[table["method"] != "naive"].to_dict("records")


# ---------------------------------------------------------------------- costs


def _tabulate_costs(
    printed: Sequence[dict[str, Any]], setting: Setting, folder: Path
) -> list[dict[str, Any]]:
    """Table A1: multiply-adds by counting, hours of the finished runs that a folder holds."""
    finished = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    counted: dict[str, Costs] = {}
    rows = []
    for paper in printed:
        suite, k = SUITE_OF[paper["backbone"]], paper["groups"]
        config = setting.config(suite)
        if suite not in counted:
            shared = 1 if suite == "celeba9" else config.shared
            counted[suite] = count_costs(
                TASKS[suite], setting.image_shape(suite), replace(config, shared=shared)
            )
        costs, label = counted[suite], f"{paper['experiment']}, {config.encoder}"
        for part, method, count in (
            ("HOA", "hoa", costs.hoa), ("TAG", "tag", costs.tag), ("DMTG", "dmtg", costs.dmtg)
        ):  # fmt: skip
            hours = _find_hours(finished, setting, suite, method, k)
            rows += [
                _line(k, label, part, "gmacs", paper[f"{method}_gflops"], [count(k) / 1e9]),
                _line(k, label, part, "hours", paper[f"{method}_hours"], hours),
            ]
        share = paper["heads_flops_portion_percent"]
        rows.append(_line(k, label, "heads", "percent", share, [costs.heads_percent]))
    return rows


def _find_hours(
    finished: Sequence[dict[str, Any]], setting: Setting, suite: str, method: str, k: int
) -> list[float]:
    """Wall hours of the runs of this method, K and config, one per seed."""
    dense = TASKS[suite][0].is_dense
    name = ("toy_rooms" if dense else "toy_faces") if setting.is_toy else suite.removesuffix("_vit")
    wanted = json.loads(json.dumps(asdict(setting.config(suite)) | {"seed": None}))  # tuples are lists there
    return [
        run["seconds"]["wall"] / 3600
        for run in finished
        if (run["method"], run["k"], run["data"]) == (method, k, name)
        and run["config"] | {"seed": None} == wanted
    ]
