"""What each table of the paper is made of: suite, quantities, and how they are shown. The printed
numbers are in `paper_tables.json`; nothing here runs anything."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dmtg_lite.core.tasks import CELEBA_9, CELEBA_40, METRIC_LABELS, TASKONOMY_5, Task
from dmtg_lite.methods import METHODS

PRINTED = Path(__file__).with_name("paper_tables.json")
METHOD_OF = {method.label: name for name, method in METHODS.items()} | {"DMTG (one-shot)": "dmtg"}
"""The paper's names of methods -> ours."""
TAU_OF: dict[str, float | tuple[float, float]] = {
    "anneal 100 -> 4, factor 1/2": (100.0, 4.0),
    "anneal 100 -> 4, factor 1/4": (100.0, 4.0),
    "anneal 50 -> 4, factor 1/2": (50.0, 4.0),
    "anneal 10 -> 0.01, factor 1/2": (10.0, 0.01),
    "fixed 4": 4.0,
}
TOY_SHARED = {0: 0, 3: 1, 6: 2, 9: 3}  # the small encoder has 7 stages
SUITE_OF = {
    "ResNet variant": "celeba9",
    "Xception variant": "taskonomy5",
    "ViT-Base": "taskonomy5_vit",
}
TASKS: dict[str, tuple[Task, ...]] = {
    "celeba9": CELEBA_9,
    "celeba40": CELEBA_40,
    "taskonomy5": TASKONOMY_5,
    "taskonomy5_vit": TASKONOMY_5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a table is made of."""

    suite: str  # preset and tasks: a key of `presets.PAPER`
    kind: Literal["numbers", "groups", "gains", "costs"] = "numbers"  # of rows; costs: no runs
    quantities: tuple[str, ...] = ()  # of a run as a whole
    by_task: tuple[str, ...] = ()  # of every task of a run
    k: int | None = None  # of rows that do not say theirs
    printed: str = ""  # format of the paper's numbers, where it is not the usual one

    @property
    def needs_reference(self) -> bool:
        names = (*self.quantities, *self.by_task)
        return self.kind == "gains" or any("gain" in name for name in names)


_LOSS = ("total_loss", "norm_gain_loss")
SPECS: dict[str, Spec] = {
    "table1": Spec(suite="taskonomy5", quantities=_LOSS),
    "table2": Spec(suite="taskonomy5", by_task=("loss", "norm_gain_loss")),
    "table3": Spec(suite="celeba9", quantities=("total_error", "norm_gain_error")),
    "table4": Spec(suite="taskonomy5", quantities=_LOSS),
    "table5": Spec(suite="taskonomy5_vit", quantities=_LOSS),
    "table6": Spec(suite="taskonomy5", quantities=(*_LOSS, "gmacs"), k=3),
    "tableA1": Spec(suite="celeba9", kind="costs"),
    "tableA2": Spec(
        suite="taskonomy5",
        by_task=("metric", "norm_gain_error"),
        quantities=("avg_norm_gain_error",),
    ),
    "tableA3": Spec(suite="taskonomy5", quantities=("total_loss",), k=5, printed=".4f"),
    "tableA4": Spec(suite="taskonomy5", kind="groups"),
    "tableA5": Spec(suite="celeba9", kind="groups"),
    "figureA2": Spec(suite="celeba40", kind="gains"),
    "appendixD": Spec(suite="celeba9", quantities=("hours",)),
}


def list_notes(table: str) -> list[str]:
    """What a reader of a table has to know, whoever ran it."""
    notes = load_paper()["tables"][table].get("notes", [])
    if SPECS[table].kind == "numbers" and "taskonomy" in SPECS[table].suite:
        notes = [
            "The paper's absolute numbers on Taskonomy are no target: printed digits suggest that "
            "three of the five labels were nearly constant. docs/taskonomy.md has the evidence.",
            *notes,
        ]
    return list(notes)


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a number is shown: name, format, which way is better (None: neither), format in print."""

    label: str
    format: str
    higher_is_better: bool | None
    paper_format: str


_GAIN_E = Quantity("NormGain_E %", ".2f", True, ".2f")
_QUANTITIES = {
    "total_loss": Quantity("total loss", ".4f", False, ".3f"),
    "total_error": Quantity("total error", ".2f", False, ".2f"),
    "loss": Quantity("loss", ".3g", False, ".3g"),
    "norm_gain_loss": Quantity("NormGain_L %", ".2f", True, ".2f"),
    "norm_gain_error": _GAIN_E,
    "avg_norm_gain_error": _GAIN_E,
    "gmacs": Quantity("GMACs", ".4g", None, ".2f"),
    "hours": Quantity("hours", ".3g", None, ".2f"),
    "ratio": Quantity("ratio", ".2f", None, ".2f"),
    "percent": Quantity("% of Naive MTL", ".2f", None, ".2f"),
}


def describe(table: str, quantity: str, part: str = "") -> Quantity:
    """The `Quantity` of a column; a metric's name and direction are its task's."""
    if quantity != "metric":
        how = _QUANTITIES[quantity]
        return replace(how, paper_format=SPECS[table].printed or how.paper_format)
    task = next(task for task in TASKONOMY_5 if task.name == part)
    digits = ".3g" if task.metric == "rmse" else ".2f"
    return Quantity(METRIC_LABELS[task.metric], digits, task.higher_is_better, digits)


@cache
def load_paper() -> dict[str, Any]:
    """What the paper printed: ``{"source": ..., "tables": {name: {"title", "rows", ...}}}``."""
    return json.loads(PRINTED.read_text(encoding="utf-8"))
