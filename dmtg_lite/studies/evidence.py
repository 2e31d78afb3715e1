"""Each claim of the paper as a question, answered on drawn faces over seeds, with an interval and a
verdict. On toy faces grouping matters by construction: a claim that fails here is in doubt, one
that holds here may still fail on photographs."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.groups import compute_agreement
from dmtg_lite.core.macs import count_macs
from dmtg_lite.data import TaskData, toy_faces
from dmtg_lite.files import write_atomically
from dmtg_lite.methods import METHODS
from dmtg_lite.methods.search.affinity import cluster_affinity, label_correlation
from dmtg_lite.runs.fit import branch_out, build_network
from dmtg_lite.runs.jobs import Workers
from dmtg_lite.runs.metrics import compute_interval, compute_mutual_agreement, sum_errors
from dmtg_lite.runs.presets import TOY
from dmtg_lite.runs.report_page import draw_table, make_page
from dmtg_lite.studies.cells import Cell, Numbers, run_cells

N_TASKS, K = 9, 3
MARGIN = 5.0  # points of total error, of Naive MTL's 200 or so: less is called no difference
SETTLED = 0.95  # a task is settled from this probability on
_FEWEST = 5  # seeds for a verdict: two can agree by luck, and then their interval has no width
_SAME_IMAGES = 10_000  # key of the one set of images that all seeds share, for stability

# label -> (method, K, changes to the config)
RUNS: dict[str, tuple[str, int | None, dict[str, Any]]] = {
    name: (name, K if METHODS[name].needs_k else None, {})
    for name in ("naive", "stl", "random", "planted", "hoa", "tag", "mtg_net", "dmtg", "two_shot")
} | {
    "tau 1": ("dmtg", K, {"tau": 1.0}),
    "tau 10 to 0.5": ("dmtg", K, {"tau": (10.0, 0.5)}),
    "1 shared stage": ("dmtg", K, {"shared": 1}),
    "K = 6": ("dmtg", 2 * K, {}),
    "same images": ("dmtg", K, {}),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out for one claim."""

    question: str  # the claim as a question
    source: str  # where the paper says so
    measured: str  # what was measured and its unit
    value: float  # mean over seeds
    low: float  # 95 % interval of the mean; equal to `value` where nothing was left to chance
    high: float
    verdict: Literal["holds", "does not hold", "undecided"]
    rule: str  # what had to be so for the claim to hold
    n_seeds: int  # behind it

    def __str__(self) -> str:
        """Two lines for a screen."""
        return f"{self.verdict:14} {self.question}\n{'':14} {self.measured}: {self.mean}"

    @property
    def mean(self) -> str:
        """Value and interval in words."""
        spread = f" ({self.low:.2f} to {self.high:.2f})" if self.n_seeds else ", counted"
        return f"{self.value:.2f}{spread}"


def make_faces(key: int) -> TaskData:
    """The images of a seed; 2,000 to test on, or chance in the test set would hide differences."""
    return toy_faces(n_tasks=N_TASKS, n_groups=K, n_test=2000, seed=key)


def run_evidence(
    seeds: Sequence[int],
    *,
    folder: str | Path,
    config: TrainConfig = TOY["faces_plain"],
    jobs: int | Workers = 1,
    progress: bool = False,
    keep_checkpoints: bool = False,
    make_data: Callable[[int], TaskData] = make_faces,
) -> list[Verdict]:
    """Run everything the claims need and judge them: one verdict a claim.

    Args:
        seeds: At least 2; 10 or more for a verdict worth quoting, below 5 chance decides nothing.
            Each has its own images, weights, batches and noise.
        folder, jobs, progress, keep_checkpoints: As in `run_cells`.
        config: The paper's optimiser, with a rate of its own for S, as a short run needs.
        make_data: Images of a seed; a function of a module, since processes call it.
    """
    seeds = list(seeds)
    if len(seeds) < 2:
        raise ValueError(f"`seeds` must be at least 2, for an interval; got {seeds}.")
    cells = {}
    for seed in seeds:  # a seed's runs follow one another: its images are drawn once
        for label, (method, k, changes) in RUNS.items():
            own, key = replace(config, seed=seed, **changes), (label, seed)
            cells[key] = Cell(method, k, own, _SAME_IMAGES if label == "same images" else seed)
    how: dict[str, Any] = {"folder": folder, "jobs": jobs, "progress": progress}
    how |= {"keep_checkpoints": keep_checkpoints}
    runs = dict(zip(cells, run_cells(list(cells.values()), make_data, **how), strict=True))
    failed = [(key, one["failed"]) for key, one in runs.items() if "failed" in one]
    if failed:
        (label, seed), why = failed[0]
        raise ValueError(
            f"{len(failed)} of {len(runs)} runs failed, the first: {label} (seed {seed}): {why}"
        )
    trivial = []
    for data in map(make_data, seeds):
        groups = cluster_affinity(label_correlation(data), K, data.task_names)
        trivial.append(compute_agreement(groups, data.planted_groups or []))
    return judge({label: [runs[label, seed] for seed in seeds] for label in RUNS}, trivial, config)


# ---------------------------------------------------------------------- claims

# the whole 95 % interval must lie between these two: points of total error
_LOWER = ("interval below 0", -np.inf, 0.0)
_NO_WORSE = (f"interval below {MARGIN:g} points", -np.inf, MARGIN)
_EQUAL = (f"interval within {MARGIN:g} points of 0", -MARGIN, MARGIN)


def _above(least: float) -> tuple[str, float, float]:
    return f"interval above {least:g}", least, np.inf


# question, source, runs whose total error is compared (first minus second), rule
DIFFERENCES = [
    ("Does it gain over Naive MTL?", "Tables 1 and 3", "dmtg", "naive", _LOWER),
    ("Over random groups?", "Tables 1 and 3", "dmtg", "random", _LOWER),
    ("Over STL, an encoder for every task?", "Tables 1 and 3", "dmtg", "stl", _LOWER),
    ("Over HOA?", "Tables 1 and 3", "dmtg", "hoa", _LOWER),
    ("Over TAG?", "Tables 1 and 3", "dmtg", "tag", _LOWER),
    ("Over MTG-Net?", "Table 1", "dmtg", "mtg_net", _LOWER),
    ("Is one shot better than training the same groups again?", "Table 4", "dmtg", "two_shot",
     _LOWER),
    ("Does the temperature not matter? (1 instead of 2.5)", "Table A3", "tau 1", "dmtg", _EQUAL),
    ("Nor annealing? (10 to 0.5 instead of 2.5)", "Table A3", "tau 10 to 0.5", "dmtg", _EQUAL),
    ("Does sharing a stage not hurt?", "Table 6", "1 shared stage", "dmtg", _NO_WORSE),
    ("Is a K that is too large harmless? (6 instead of 3)", "Section 3.1: K is a maximum", "K = 6",
     "dmtg", _NO_WORSE),
]  # fmt: skip


def judge(
    runs: dict[str, list[Numbers]], trivial: Sequence[float], config: TrainConfig
) -> list[Verdict]:
    """Verdicts from the numbers of each run of `RUNS`, seed by seed.

    ``trivial`` are agreements of the clustered labels with the planted groups; costs are counted.
    """
    settled = [np.max(one["final_probabilities"], axis=1) > SETTLED for one in runs["dmtg"]]
    error = {
        label: np.array([sum_errors(one["task_errors"], one["metrics"]) for one in each])
        for label, each in runs.items()
    }
    planted = "share of seeds with exactly the planted groups"
    claims: list[Any] = [
        ("Do the probabilities converge to one-hot?", "Section 3.3",
         f"share of tasks that end above {SETTLED:.0%}", np.mean(settled, axis=1), _above(0.9)),
    ]  # fmt: skip
    for question, source, first, second, rule in DIFFERENCES:
        than = "retraining them" if second == "two_shot" else second
        than = f"DMTG minus {than}" if first == "dmtg" else "changed minus plain"
        measured = f"total error, {than}, points"
        claims.append((question, source, measured, error[first] - error[second], rule))
    claims += [
        ("Are the groups the same for every seed? (one set of images)",
         "not claimed: one seed is shown", "agreement (ARI) of a seed with the others",
         compute_mutual_agreement([one["groups"] for one in runs["same images"]]), _above(0.8)),
        ("Does it recover the planted groups, more often than not?",
         "ours: the paper has no truth", planted,
         np.array([one["agreement"] == 1 for one in runs["dmtg"]]), _above(0.5)),
        ("Does clustering the correlations of the labels find them, without any network?",
         "ours: the trivial baseline", planted, np.array(trivial) == 1, _above(0.5)),
    ]  # fmt: skip
    verdicts = [_judge(*claim) for claim in claims]
    return [*verdicts[:-3], _judge_cost(config), *verdicts[-3:]]


def _judge(
    question: str, source: str, measured: str, values: np.ndarray, rule: tuple[str, float, float]
) -> Verdict:
    """Holds if the whole interval lies between two bounds, does not if it lies outside."""
    text, least, most = rule
    mean, low, high = compute_interval(values)
    verdict = "undecided"
    if len(values) >= _FEWEST and least < low and high < most:
        verdict = "holds"
    elif len(values) >= _FEWEST and (high < least or most < low):
        verdict = "does not hold"
    return Verdict(question, source, measured, mean, low, high, verdict, text, len(values))


def _judge_cost(config: TrainConfig) -> Verdict:
    """Multiply-adds of an image, heads included, counted: nothing here is left to chance."""

    def count(n_tasks: int, n_groups: int) -> int:
        data = toy_faces(n_tasks=n_tasks, n_groups=K, n_train=8, n_val=8, n_test=8)
        network = branch_out(build_network(data, config), n_groups, config)
        return count_macs(network, data.feature_shape)["total"]

    by_k, by_n = count(N_TASKS, 2 * K) / count(N_TASKS, K), count(36, K) / count(N_TASKS, K)
    both = f"{by_k:.2f} times for twice the groups, {by_n:.2f} times for four times the tasks"
    verdict = "holds" if by_k > 1.5 and by_n < 1.1 else "does not hold"
    return Verdict(
        "Does the cost grow with K, not with N?", "Table A1", f"multiply-adds: {both}",
        by_n, by_n, by_n, verdict, "above 1.5 for K, below 1.1 for N", 0,
    )  # fmt: skip


_HEADS = ("question", "the paper", "measured", "mean (95 % interval)", "verdict", "holds if")
_TITLE = "Evidence: the claims of the paper as questions, on drawn faces"
_STYLE = "tr :is(th, td) { text-align: left; white-space: normal; min-width: 8rem; }"


def write_verdicts(verdicts: Sequence[Verdict], out: str | Path, *, heading: str = "") -> Path:
    """Write ``evidence.md``, a table, and the same as ``evidence.html`` and ``evidence.json``."""
    rows = [[v.question, v.source, v.measured, v.mean, v.verdict, v.rule] for v in verdicts]
    bold = [[*row[:4], f"**{row[4]}**", *row[5:]] for row in rows]
    lines = [heading, ""] if heading else []
    lines += [f"| {' | '.join(row)} |" for row in (_HEADS, ["---"] * len(_HEADS), *bold)]
    table = draw_table([_HEADS, *rows], len(_HEADS), _TITLE)
    body = f"<h1>{_TITLE}</h1><p>{html.escape(heading.lstrip('# '))}</p>{table}"
    page = make_page(_TITLE, body, style=_STYLE)
    numbers = json.dumps([asdict(one) for one in verdicts], indent=1)
    write_atomically(Path(out) / "evidence.html", page.encode())
    write_atomically(Path(out) / "evidence.json", numbers.encode())
    return write_atomically(Path(out) / "evidence.md", ("\n".join(lines) + "\n").encode())
