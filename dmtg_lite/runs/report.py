"""Does grouping help? What the runs of a method and of its controls say about one set of tasks.

Only numbers of finished runs are read, nothing trains: `studies.report` does. How it looks is in
`runs.report_page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dmtg_lite.core.groups import Groups
from dmtg_lite.runs.metrics import (
    compute_chance,
    compute_interval,
    compute_mutual_agreement,
    find_unlearned,
    weigh_errors,
)

Numbers = dict[str, Any]  # of a run, as `MethodResult.to_json` or `studies.cells` gives them
Word = Literal["helps", "does not help", "undecided"]
CONTROLS = {"naive": "Naive MTL", "stl": "STL", "random": "random groups"}
_SAME = ("data", "metrics", "n_test", "constant_errors", "fingerprint")
MARGIN = 1.0  # percent of the error: less is called no difference
FEWEST = 3  # seeds for a verdict: the interval of two says nothing
MUCH = 10.0  # percent by which STL, at the price of N encoders, must be better to count
CHANCE = 0.025  # of random groups that may agree as much as those of the seeds
RULE = (
    f"Grouping helps if over {FEWEST} seeds or more the 95 % intervals of two gains lie above 0, "
    "over Naive MTL and over as many random groups (branches alone are capacity), if the seeds "
    f"agree on the groups as fewer than {100 * CHANCE:g} % of random groups of their sizes would, "
    f"and if STL, an encoder for each task, is not better still by more than {MUCH:g} % (then the "
    "tasks want encoders, not each other). It does not help if the whole interval of either gain "
    f"lies below {MARGIN:g} %. Else it is undecided. A gain is by how many percent the total error "
    "is lower, seed by seed; in that total a class task counts by its error rate, a number by its "
    "error relative to the constant answer's."
)


class Interval(NamedTuple):
    """Mean over seeds and its 95 % interval, nan of one seed."""

    mean: float
    low: float
    high: float
    n_seeds: int

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Report:
    """The runs of a method beside those of its controls, and a verdict by `RULE`.

    ``print(report)`` is the page as text, a notebook shows it as HTML, `save` writes either.

    Args:
        runs: Of one set of data: the method of interest, Naive MTL, random groups, STL; of each as
            many seeds as there are. A run that failed is ``{"method", "seed", "failed"}``.

    Attributes:
        method: The one that is judged: the first that is no control.
        constant: ``{task: error}`` of the best constant answer; None where there is no such thing.

    Raises:
        ValueError: If no run is finished, two are of one method and seed, or not all are of the
            same tasks and data.
    """

    runs: Sequence[Numbers]

    def __post_init__(self) -> None:
        done = self._done
        if not done:
            failed = [one["failed"] for one in self.runs]
            raise ValueError(f"there is no finished run to report on: {(failed or ['none'])[0]}")
        for one in done[1:]:
            for field in _SAME:  # as far as both tell
                own, first = one.get(field), done[0].get(field)
                if own and first and own != first:
                    raise ValueError(
                        f"a report is on one set of tasks and data, but {_name(done[0])} and "
                        f"{_name(one)} differ in `{field}`."
                    )
        keys = [(one["method"], _seed(one)) for one in done]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(
                f"a report has one run a method and seed, got several of {twice[0][0]!r} with seed "
                f"{twice[0][1]}."
            )

    # ------------------------------------------------------------------ what was run
    @property
    def _done(self) -> list[Numbers]:
        return [one for one in self.runs if "failed" not in one]

    @property
    def failed(self) -> list[str]:
        """Of each run that did not finish: method, seed and why."""
        return [f"{_name(one)}: {one['failed']}" for one in self.runs if "failed" in one]

    @cached_property
    def method(self) -> str:
        methods = [one["method"] for one in self._done]
        return next((name for name in methods if name not in CONTROLS), methods[0])

    @cached_property
    def methods(self) -> list[str]:
        """All that ran: controls first, then the one that is judged, then others."""
        there = {one["method"] for one in self._done}
        order = [*CONTROLS, self.method, *sorted(there)]
        return [name for name in dict.fromkeys(order) if name in there]

    def select(self, method: str) -> dict[int, Numbers]:
        """The finished runs of a method, by seed."""
        return {_seed(one): one for one in self._done if one["method"] == method}

    @property
    def own(self) -> list[Numbers]:
        """The finished runs of the method that is judged."""
        return list(self.select(self.method).values())

    # ------------------------------------------------------------------ groups
    @cached_property
    def _agreements(self) -> np.ndarray:
        return compute_mutual_agreement([one["groups"] for one in self.own])

    @property
    def agreement(self) -> float:
        """Mean over pairs of seeds, adjusted Rand index: 1 the same groups; nan of one seed."""
        return float(self._agreements.mean()) if len(self.own) > 1 else nan

    @cached_property
    def chance(self) -> float:
        """How often random groups of the same sizes agree as much."""
        return compute_chance([one["groups"] for one in self.own])

    @cached_property
    def typical(self) -> Numbers:
        """The run whose groups agree best with those of the other seeds."""
        return self.own[int(self._agreements.argmax())]

    @property
    def groups(self) -> Groups:
        """Those of the typical seed."""
        return self.typical["groups"]

    @cached_property
    def n_same(self) -> int:
        """Seeds that found exactly these groups."""
        own, every = _as_sets(self.groups), [_as_sets(one["groups"]) for one in self.own]
        return every.count(own)

    @cached_property
    def together(self) -> np.ndarray:
        """How often two tasks are in one group, share of seeds, (N, N), tasks as in `groups`."""
        order = [name for group in self.groups for name in group]
        group_of = [{n: k for k, g in enumerate(one["groups"]) for n in g} for one in self.own]
        labels = np.array([[of[name] for name in order] for of in group_of])  # (seeds, N)
        return (labels[:, :, None] == labels[:, None]).mean(0)

    # ------------------------------------------------------------------ errors
    @property
    def metrics(self) -> dict[str, str]:
        return self._done[0]["metrics"]

    @cached_property
    def constant(self) -> dict[str, float | None]:
        return self._find_constant("constant_errors")

    def _find_constant(self, field: str) -> dict[str, float | None]:
        known = next((c for one in self._done if (c := one.get(field))), {})
        return {name: known.get(name) for name in self.metrics}

    def errors(self, method: str, task: str) -> Interval:
        """Of a task on test over the seeds of a method, in the unit of its metric."""
        return self._over_seeds(method, task, "task_errors")

    def _over_seeds(self, method: str, task: str, field: str) -> Interval:
        values = [one[field][task] for one in self.select(method).values()]
        return Interval(*compute_interval(np.array(values, float)), len(values))

    @cached_property
    def unlearned(self) -> list[str]:
        """Tasks that are answered not clearly better than by a constant, in neither error nor
        loss: of a rare class the loss alone may tell."""
        if len(self.own) == 1:
            return find_unlearned(self.own[0])
        losses = self._find_constant("constant_losses")
        return [
            task
            for task, error in self.constant.items()
            if error is not None
            and not self._is_below(task, "task_errors", error)
            and not self._is_below(task, "task_losses", losses[task])
        ]

    def _is_below(self, task: str, field: str, constant: float | None) -> bool:
        """Whether the method is clearly below a constant answer: all of the interval."""
        return constant is not None and self._over_seeds(self.method, task, field).high < constant

    @cached_property
    def _units(self) -> dict[str, float]:
        """Constant answers' errors; Naive MTL's where there are none, as of pictures."""
        known = "naive" if "naive" in self.methods else self.method
        return {
            task: self.errors(known, task).mean if constant is None else constant
            for task, constant in self.constant.items()
        }

    def totals(self, method: str) -> dict[int, float]:
        """Total error by seed, as `RULE` counts it."""
        return {
            seed: weigh_errors(one["task_errors"], self.metrics, self._units)
            for seed, one in self.select(method).items()
        }

    def gain(self, reference: str) -> Interval:
        """By how many percent the method's total error is below a reference's, paired by seed."""
        own, other = self.totals(self.method), self.totals(reference)
        seeds = sorted(own.keys() & other.keys())
        if not seeds or reference == self.method:
            return Interval(nan, nan, nan, 0)
        difference = np.array([other[seed] - own[seed] for seed in seeds])
        scale = max(float(np.mean([other[seed] for seed in seeds])), 1e-9)
        return Interval(*compute_interval(100 * difference / scale), len(seeds))

    # ------------------------------------------------------------------ the verdict
    @property
    def verdict(self) -> Word:
        """See `RULE`."""
        return self._judged[0]

    @property
    def reasons(self) -> list[str]:
        """What the verdict rests on, a sentence each."""
        return self._judged[1]

    @cached_property
    def _judged(self) -> tuple[Word, list[str]]:
        if hurdle := self._find_hurdle():
            return "undecided", [hurdle]
        gains = [self.gain(name) for name in ("naive", "random")]
        reasons = [
            f"gain over one network for all tasks (Naive MTL): {_say_gain(gains[0])}",
            f"gain over as many random groups: {_say_gain(gains[1])}",
            f"the seeds agree on the groups by {self.agreement:.2f} (1 the same, 0 chance), as "
            f"random groups of these sizes do in {100 * self.chance:.1f} % of all draws",
        ]
        if (stl := self.gain("stl")).n_seeds:
            reasons.append(f"gain over an encoder for each task (STL): {_say_gain(stl)}")
        if all(gain.low > 0 for gain in gains) and self.chance < CHANCE and not stl.high < -MUCH:
            return "helps", reasons
        if any(gain.high < MARGIN for gain in gains):
            return "does not help", reasons
        return "undecided", reasons

    def _find_hurdle(self) -> str:
        """Why there can be no verdict at all, if so."""
        if missing := [CONTROLS[name] for name in ("naive", "random") if name not in self.methods]:
            kind = "one run" if len(self._done) == 1 else f"{len(self._done)} runs"
            return (
                f"{kind}, and no {' and no '.join(missing)} to compare with. To decide: "
                f"experiments.report(data, n_groups={len(self.groups)}, seeds=range(5))"
            )
        if self.method in CONTROLS:
            return "no method that looks for groups is among the runs"
        if (n_seeds := min(self.gain(name).n_seeds for name in ("naive", "random"))) < FEWEST:
            return (
                f"{n_seeds} seed{'s' * (n_seeds != 1)} of {self.method} and its controls, and "
                f"chance needs {FEWEST} or more to be told from a gain: seeds=range(5)"
            )
        if len(self.unlearned) == len(self.metrics):
            return (
                "no task is predicted better than by a constant answer, so there is nothing to "
                "group yet: look at encoder, capacity, lr and steps, or at the labels"
            )
        return ""

    # ------------------------------------------------------------------ the page
    def __str__(self) -> str:
        from dmtg_lite.runs.report_page import render_text

        return render_text(self)

    def __repr__(self) -> str:
        n_seeds = len(self.own)
        seeds = f"{n_seeds} seed{'s' * (n_seeds != 1)}"
        return f"Report({self._done[0]['data']}, {self.method}, {seeds}: {self.verdict})"

    def _repr_html_(self) -> str:
        from dmtg_lite.runs.report_page import render_html

        return render_html(self)

    def save(self, path: str | Path) -> Path:
        """Write the page, atomically: ``.html``, which needs nothing else, or ``.txt``."""
        from dmtg_lite.runs.report_page import write_report

        return write_report(self, path)


def _seed(run: Numbers) -> int:
    return run["seed"] if "seed" in run else run["config"]["seed"]


def _name(run: Numbers) -> str:
    return f"{run['method']} (seed {_seed(run)})"


def _as_sets(groups: Groups) -> set[frozenset[str]]:
    return {frozenset(group) for group in groups}


def _say_gain(gain: Interval) -> str:
    """ "+12.3 % (+8.1 to +16.5 over 5 seeds)"; below 0 the error is higher."""
    return f"{gain.mean:+.1f} % ({gain.low:+.1f} to {gain.high:+.1f} over {gain.n_seeds} seeds)"
