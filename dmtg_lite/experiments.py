"""The front door to running methods side by side: presets, `compare` and the tables made of it."""

from dmtg_lite.runs.jobs import Workers
from dmtg_lite.runs.presets import PAPER, TOY
from dmtg_lite.studies.compare import (
    BASICS,
    choose_methods,
    compare,
    plan_comparison,
    run_all,
    run_method,
)
from dmtg_lite.studies.report import report
from dmtg_lite.studies.tables import summarise, tabulate, tabulate_tasks

__all__ = [
    "BASICS", "PAPER", "TOY", "Workers", "choose_methods", "compare", "plan_comparison",
    "report", "run_all", "run_method", "summarise", "tabulate", "tabulate_tasks",
]  # fmt: skip
