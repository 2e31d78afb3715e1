"""Record the grid of runs behind `docs/what_if.html`, as many as time allows, and write that page.

Every run is `methods.dmtg` with one of the two recipes and the knobs of its setting. A finished run
is a line of the store; what is there is not trained again, so the same command goes on. Runs come
in an order of which any prefix is of use: the recipes first, then one knob at a time, then two.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, product
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypedDict

import numpy as np

from dmtg_lite import data, methods
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.experiments import TOY
from dmtg_lite.files import check_is_file, write_atomically
from dmtg_lite.runs.history import History, compute_entropy
from dmtg_lite.schema import FieldError, parse_json
from dmtg_lite.views.plots.curves import running_mean

ROOT = Path(__file__).parents[1]
STORE, PAGE = ROOT / "docs" / "what_if_runs.jsonl", ROOT / "docs" / "what_if.html"
FORMAT = "dmtg-what-if/1"
MAX_FRAMES = 56  # of a run: four seconds of film
MAX_PAGE = 3_000_000  # bytes

KNOBS: dict[str, tuple[Any, ...]] = {
    "k": (1, 2, 3, 4, 5, 6),
    "tau": (0.25, 0.5, 1.0, 2.5, 10.0),
    "rate": (0.1, 0.3, 1.0, 3.0, 10.0),
}
"""Groups, temperature, and the rate of S in units of the recipe's."""

Spares = Literal["none", "double"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A cell of the grid, but for its seed; the defaults are the recipes'."""

    data: str = "faces"
    spare: Spares = "none"
    k: int = 3
    tau: float = 2.5
    rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Suite:
    """Data by seed, and the recipe without and with spare branches."""

    make: Callable[[int], TaskData]
    recipes: Mapping[Spares, TrainConfig]


_FACES, _DIGITS = TOY["faces"], TOY["digits"]
_OURS = "spare heads optimiser_assignment lr_assignment pretrain steps".split()
SUITES = {
    "faces": Suite(  # half the usual size, which the labels do not depend on: twice as many runs
        lambda seed: data.toy_faces(size=16, seed=seed),
        {"none": TOY["faces_plain"], "double": _FACES},
    ),
    "digits": Suite(
        lambda seed: data.digits(seed=seed),
        {
            "none": _DIGITS,
            "double": replace(_DIGITS, **{name: getattr(_FACES, name) for name in _OURS}),
        },
    ),
}


class Recorded(TypedDict):
    """One finished run: a line of the store.

    ``group_of`` numbers the group of each task, ``error`` is the mean test error in percent,
    ``film`` what `pack_film` gives.
    """

    data: str
    spare: Spares
    k: int
    tau: float
    rate: float
    seed: int
    commit: str
    group_of: list[int]
    agreement: float | None
    train_loss: float
    error: float
    n_branches: int
    n_frames: int
    most_loss: float
    closings: list[int]
    film: str


class Head(TypedDict):
    """First line of the store: what its runs are runs of."""

    format: str
    suites: dict[str, Any]


def plan_cells() -> Iterator[tuple[Setting, int]]:
    """Every cell of the grid once, the most telling ones first."""
    seen = set()
    for name, n_knobs, n_seeds in (
        ("faces", 0, 10), ("faces", 1, 3), ("digits", 0, 5), ("digits", 1, 3), ("faces", 1, 5),
        ("faces", 2, 3), ("digits", 1, 5), ("faces", 1, 10), ("faces", 2, 5), ("digits", 0, 10),
        ("digits", 2, 5), ("faces", 3, 5), ("digits", 3, 5),
    ):  # fmt: skip
        for setting, seed in product(_list_settings(name, n_knobs), range(n_seeds)):
            if (setting, seed) not in seen:
                seen.add((setting, seed))
                yield setting, seed


def _list_settings(name: str, n_knobs: int) -> list[Setting]:
    """Those that differ from the recipe in so many knobs, with and without spare branches."""
    recipe = asdict(Setting())
    return [
        Setting(data=name, spare=spare, **dict(zip(knobs, values, strict=True)))
        for knobs in combinations(KNOBS, n_knobs)
        for values in product(*([v for v in KNOBS[knob] if v != recipe[knob]] for knob in knobs))
        for spare in ("none", "double")
    ]


# ------------------------------------------------------------------------------ one run
def record_run(suite: Suite, setting: Setting, seed: int, commit: str) -> Recorded:
    """Train one cell of the grid."""
    faces, config = suite.make(seed), _configure(suite, setting, seed)
    result = methods.dmtg(faces, setting.k, config)
    history = result.history
    rows = choose_frames(history)
    group_of = {name: k for k, group in enumerate(result.groups) for name in group}
    losses = running_mean(history.task_losses, rows=rows).mean(1)
    return {
        **asdict(setting),
        "seed": seed,
        "commit": commit,
        "group_of": [group_of[name] for name in faces.task_names],
        "agreement": result.agreement,
        "train_loss": _shorten(result.train_loss),
        "error": _shorten(fmean(result.task_errors.values())),
        "n_branches": history.n_groups,
        "n_frames": len(rows),
        "most_loss": _shorten(float(losses.max()) * 1.001),
        "closings": [closing["step"] for closing in result.closings],
        "film": pack_film(history, rows, losses),
    }


def _configure(suite: Suite, setting: Setting, seed: int) -> TrainConfig:
    recipe = suite.recipes[setting.spare]
    rate = recipe.lr if recipe.lr_assignment is None else recipe.lr_assignment
    return replace(recipe, tau=setting.tau, lr_assignment=rate * setting.rate, seed=seed)


def _shorten(value: float) -> float:
    return float(f"{value:.4g}")


def choose_frames(history: History, most: int = MAX_FRAMES) -> np.ndarray:
    """Numbers of the records to keep: close together where probabilities move, first and last too.

    Half of the way is time, so that a run at rest passes in time as well. The record before a
    closing is kept, and the closing.
    """
    p, n = history.probabilities, len(history)
    moved = np.abs(np.diff(p, axis=0, prepend=p[:1])).max((1, 2))  # (T,)
    way = np.cumsum(moved / max(moved.sum(), 1e-9) + 1 / n)
    at = np.searchsorted(history.steps, [closing["step"] for closing in history.closings])
    kept = np.unique([0, n - 1, *at, *(at - 1).clip(0)])
    even = np.searchsorted(way, np.linspace(way[0], way[-1], max(2, most - len(kept))))
    return np.union1d(kept, even.clip(0, n - 1)).astype(np.int64)


def pack_film(history: History, rows: np.ndarray, losses: np.ndarray) -> str:
    """T frames as base64 of deflated bytes: steps and losses (T,) uint16, entropy (T,) uint8, and
    probabilities (T, N, B) uint8 as differences from frame to frame, of which most are 0.

    Losses are in units of ``most_loss`` / 65535; a head that is there never rounds to 0.
    """
    p = history.probabilities[rows]
    codes = np.maximum(np.round(p * 255), p > 0).astype(np.uint8)  # (T, N, B)
    codes[1:] -= codes[:-1].copy()  # modulo 256
    most = _shorten(float(losses.max()) * 1.001)
    raw = (
        history.steps[rows].astype("<u2").tobytes()
        + np.round(losses / most * 65535).astype("<u2").tobytes()
        + np.round(compute_entropy(p) * 255).astype(np.uint8).tobytes()
        + codes.tobytes()
    )
    return base64.b64encode(zlib.compress(raw, 9)).decode()


# ------------------------------------------------------------------------------ the store
def describe_suites(suites: Mapping[str, Suite]) -> Head:
    """What a store must have been made of for its runs to count."""
    described = {}
    for name, suite in suites.items():
        one = suite.make(0)
        described[name] = {
            "tasks": one.task_names,
            "planted": one.planted_groups,
            "recipes": {spare: str(config) for spare, config in suite.recipes.items()},
            "rates": {spare: _configure(suite, Setting(spare=spare), 0).lr_assignment
                      for spare in suite.recipes},
        }  # fmt: skip
    return {"format": FORMAT, "suites": described}


def read_store(path: Path, head: Head | None = None) -> tuple[Head, list[Recorded]]:
    """The runs in a store, checked.

    Args:
        head: What they must be runs of; ``None``: whatever it says.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a line is damaged, or they are runs of other recipes; file and line are
            named.
    """
    first, *lines = check_is_file(path, "store of runs").read_text("utf-8").splitlines() or [""]
    runs: list[Recorded] = []
    try:
        number, found = 1, parse_json(first, Head)
        if found["format"] != FORMAT or (head is not None and found != head):
            raise FieldError("these are runs of another format, other data or another recipe.")
        for number, line in enumerate(lines, 2):  # noqa: B007  the message says which
            runs.append(parse_json(line, Recorded))
            _check_film(runs[-1], found)
    except FieldError as error:
        raise ValueError(
            f"{path}, line {number}: {error} Take the file back from git, or give another --store."
        ) from None
    return found, runs


def _check_film(run: Recorded, head: Head) -> None:
    if run["data"] not in head["suites"]:
        raise FieldError(f"`data` {run['data']!r} is not in the first line.")
    n_tasks = len(head["suites"][run["data"]]["tasks"])
    try:
        length = len(zlib.decompress(base64.b64decode(run["film"], validate=True)))
    except (ValueError, zlib.error) as error:
        raise FieldError(f"`film` cannot be unpacked ({error}).") from None
    due = run["n_frames"] * (5 + n_tasks * run["n_branches"])
    if length != due or len(run["group_of"]) != n_tasks:
        raise FieldError(f"`film` must have {due} bytes for {n_tasks} tasks, got {length}.")


def name_cell(run: Recorded) -> tuple[Setting, int]:
    return Setting(**{name: run[name] for name in asdict(Setting())}), run["seed"]


def record_runs(
    store: Path,
    minutes: float,
    *,
    suites: Mapping[str, Suite] = SUITES,
    cells: Sequence[tuple[Setting, int]] | None = None,
    commit: str = "",
) -> int:
    """Train what is missing, in order, until the time is over; how many runs that were."""
    head = describe_suites(suites)
    runs = read_store(store, head)[1] if store.exists() else []
    is_there, begun, n_new = set(map(name_cell, runs)), time.monotonic(), 0
    lines = [json.dumps(line) for line in (head, *runs)]
    for setting, seed in plan_cells() if cells is None else cells:
        if time.monotonic() - begun >= 60 * minutes:
            break
        if (setting, seed) in is_there:
            continue
        run = record_run(suites[setting.data], setting, seed, commit)
        lines.append(json.dumps(run))
        write_atomically(store, ("\n".join(lines) + "\n").encode(), is_durable=False)
        n_new += 1
        print(f"{len(lines) - 1}: {setting}, seed {seed}: {run['agreement']}", flush=True)
    return n_new


def find_commit() -> str:
    """The last commit that touched what trains: what a run depends on beside its setting."""
    rooms = [f"dmtg_lite/{room}" for room in "core runs encoders methods data".split()]
    command = ["git", "log", "-1", "--format=%h", "--", *rooms]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="0: only write the page")
    parser.add_argument("--store", type=Path, default=STORE)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record_runs(args.store, args.minutes, commit=find_commit())


if __name__ == "__main__":
    main()
