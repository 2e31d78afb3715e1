"""Record the grid of runs behind `docs/what_if.html`, as many as time allows, and write that page.

Every run is `methods.dmtg` with one of the two recipes and the knobs of its setting. A finished run
is a line of the store; what is there is not trained again, so the same command goes on. Runs come
in an order of which any prefix is of use: the recipes first, then one knob at a time, then two.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import combinations, product
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypedDict

import numpy as np

from dmtg_lite import data, methods
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.groups import groups_from_labels
from dmtg_lite.experiments import TOY
from dmtg_lite.files import check_is_file, write_atomically
from dmtg_lite.runs.history import History, compute_entropy
from dmtg_lite.runs.metrics import compute_interval, compute_mutual_agreement
from dmtg_lite.schema import FieldError, parse_json
from dmtg_lite.views.page import fill_page
from dmtg_lite.views.plots.curves import pace, running_mean

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
        cache(lambda seed: data.toy_faces(size=16, seed=seed)),
        {"none": TOY["faces_plain"], "double": _FACES},
    ),
    "digits": Suite(
        cache(lambda seed: data.digits(seed=seed)),
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
        ("faces", 0, 10), ("digits", 0, 3), ("faces", 1, 1), ("digits", 1, 1), ("faces", 1, 3),
        ("digits", 1, 3), ("faces", 1, 5), ("faces", 2, 3), ("digits", 1, 5), ("faces", 1, 10),
        ("faces", 2, 5), ("digits", 0, 10), ("digits", 2, 5), ("faces", 3, 5), ("digits", 3, 5),
    ):  # fmt: skip
        for setting, seed in product(_list_settings(name, n_knobs), range(n_seeds)):
            if (setting, seed) not in seen:
                seen.add((setting, seed))
                yield setting, seed


def _list_settings(name: str, n_knobs: int) -> list[Setting]:
    """Those that differ from the recipe in so many knobs, with and without spare branches.

    With K = 1 there is nothing to choose, so the other knobs are left alone.
    """
    recipe = asdict(Setting())
    return [
        Setting(data=name, spare=spare, **dict(zip(knobs, values, strict=True)))
        for knobs in combinations(KNOBS, n_knobs)
        for values in product(*([v for v in KNOBS[knob] if v != recipe[knob]] for knob in knobs))
        for spare in ("none", "double")
        if n_knobs < 2 or (knobs[0], values[0]) != ("k", 1)
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
        "data": setting.data,
        "spare": setting.spare,
        "k": setting.k,
        "tau": setting.tau,
        "rate": setting.rate,
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
    """Numbers of the records to keep: a film's (`pace`), each closing and the record before it."""
    at = np.searchsorted(history.steps, [closing["step"] for closing in history.closings])
    kept = np.union1d(at, (at - 1).clip(0)).astype(np.int64)
    return np.union1d(kept, pace(history, max(2, most - len(kept))))


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
    number = 1
    try:
        found = parse_json(first, Head)
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


# ------------------------------------------------------------------------------ the page
def write_page(
    path: Path, head: Head, runs: Sequence[Recorded], *, suites: Mapping[str, Suite] = SUITES
) -> Path:
    """Write all recorded runs as one page, atomically.

    Raises:
        ValueError: If it would be larger than `MAX_PAGE`.
    """
    here, described = Path(__file__).parent, {}
    for name, suite in head["suites"].items():
        images = suites[name].make(0).test.features[:6]
        size = f"{images.shape[-1]} x {images.shape[-2]} pixels"
        described[name] = suite | {"picture": _draw_strip(images), "seen": f"as seen: {size}"}
    grid = {
        "knobs": {"data": list(head["suites"]), "spare": ["none", "double"]} | KNOBS,
        "suites": described,
        "cells": {_name(s): _sum_up(own) for s, own in _gather(runs).items()},
        "runs": [{k: v for k, v in r.items() if k not in ("group_of", "commit")} for r in runs],
    }
    parts = {
        "ABOUT": _describe_grid(head, runs),
        # "<" would let text end the script element
        "GRID": json.dumps(grid, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "PROGRAM": (here / "what_if.js").read_text("utf-8"),
    }
    page = fill_page((here / "what_if_template.html").read_text("utf-8"), parts).encode()
    if len(page) > MAX_PAGE:
        raise ValueError(
            f"{path} would have {len(page):,} bytes, and {MAX_PAGE:,} are the most that a page may "
            f"have: {len(runs)} runs are too many. Give fewer frames or fewer seeds."
        )
    return write_atomically(path, page)


def _gather(runs: Sequence[Recorded]) -> dict[Setting, list[Recorded]]:
    gathered: dict[Setting, list[Recorded]] = {}
    for run in runs:
        gathered.setdefault(name_cell(run)[0], []).append(run)
    return gathered


def _name(setting: Setting) -> str:
    """As `nameOf` in what_if.js."""
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in asdict(setting).values())


def _sum_up(runs: Sequence[Recorded]) -> dict[str, float | None]:
    """The outcome over all seeds: how many found the groups, and how alike their groups are."""
    found = np.array([run["agreement"] == 1 for run in runs])
    groupings = [groups_from_labels(r["group_of"], [f"{n}" for n in range(len(r["group_of"]))])
                 for r in runs]  # fmt: skip
    _, low, high = compute_interval(found)
    alike = float(compute_mutual_agreement(groupings).mean()) if len(runs) > 1 else None
    error = fmean(run["error"] for run in runs)
    return {"found": int(found.sum()), "low": low, "high": high, "alike": alike, "error": error}


def _draw_strip(images: Any) -> str:
    """Pictures uint8 (n, 3, H, W) side by side, as an address that holds them."""
    from PIL import Image

    content = io.BytesIO()
    strip = np.concatenate(list(np.asarray(images.cpu()).transpose(0, 2, 3, 1)), axis=1)
    Image.fromarray(strip).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _describe_grid(head: Head, runs: Sequence[Recorded]) -> str:
    """What was run and what was not, as HTML."""
    settings = _gather(runs)
    n_all = sum(len(_list_settings("faces", n)) for n in range(len(KNOBS) + 1)) // 2
    lines = []
    for name, spare in product(head["suites"], ("none", "double")):
        own = {s: r for s, r in settings.items() if (s.data, s.spare) == (name, spare)}
        seeds = sorted({run["seed"] for one in own.values() for run in one})
        cells = (
            name, "as many as K" if spare == "double" else "none", f"{len(own)} of {n_all}",
            sum(map(len, own.values())), f"{seeds[0]} to {seeds[-1]}" if seeds else "none",
            f"<code>{html.escape(head['suites'][name]['recipes'][spare])}</code>",
        )  # fmt: skip
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    titles = "data,spare branches,settings run,runs,seeds,recipe".split(",")
    heads = "".join(f'<th scope="col">{title}</th>' for title in titles)
    commits = ", ".join(sorted({html.escape(run["commit"]) for run in runs})) or "none"
    return f"""<p>{len(runs)} runs in {len(settings)} of {4 * n_all} settings (K x tau x rate of S x
spare branches x data); the others were not run, and the page says so where you choose one. Each run
is <code>methods.dmtg(data, K, replace(recipe, tau=tau, lr_assignment=rate, seed=seed))</code> on
<code>data.toy_faces(size=16, seed=seed)</code> or <code>data.digits(seed=seed)</code>: the seed
draws the pictures, too. Code of commit {commits}.</p>
<p>A film keeps {MAX_FRAMES} steps of a run or so, more of them where probabilities move: it is slow
where something happens. The groups are found if they are exactly the planted ones; the interval is
Clopper and Pearson's. In the digits nothing is planted: their groups are compared with those of the
other seeds (mean adjusted Rand index). Errors are of the 600 test pictures.</p>
<div class="scroll" tabindex="0" role="region" aria-label="what was run"><table>
<thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>
<p>More: <code>python data_scripts/make_what_if.py --minutes 60</code> goes on where the last one
ended.</p>"""


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
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record_runs(args.store, args.minutes, commit=find_commit())
    head, runs = read_store(args.store, describe_suites(SUITES))
    path = write_page(args.page, head, runs)
    print(f"{path}: {len(runs)} runs, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
