"""The suites a command can name: opening their data, and the preset that goes with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dmtg_lite import data as data_sets
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.devices import GIB, as_device, measure_free_memory
from dmtg_lite.core.tasks import make_tolerant
from dmtg_lite.runs.presets import PAPER, TOY
from dmtg_lite.studies.config_options import change_config

_log = logging.getLogger("dmtg_lite")
EMBEDDED = ("toy_faces", "toy_rooms", "digits", "digit_questions", "yeast")
SUITES = (*EMBEDDED, "celeba9", "celeba40", "taskonomy5")
CSV_OPTIONS = {  # of a command: what they say of a CSV file
    "targets": "names of its columns to predict, with commas between",
    "features": "names of those to predict from (all others)",
    "splits": "name of the column that says train, val or test",
    "together": "name of the column whose equal values stay in one split",
    "impute": "mean: a missing feature becomes the mean over the training split",
}


def open_suite(
    suite: str,
    folder: str | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
    is_tolerant: bool = False,
) -> TaskData:
    """The data of one of `SUITES`, on a device.

    Args:
        folder: What a script of ``data_scripts`` prepared; the embedded suites need none.
        seed: Of drawn images.
        is_tolerant: See `make_tolerant`: for tasks with an l1 loss.
    """
    if is_tolerant and suite not in ("toy_rooms", "taskonomy5"):
        raise ValueError(f"`--tolerant` is for tasks with an l1 loss, and {suite} has none.")
    if suite in EMBEDDED:
        opened = getattr(data_sets, suite)(seed=seed).to(device)
    elif folder is None:
        raise ValueError(f"`--data` is missing: {suite} needs {name_folder(suite)}.")
    elif suite == "taskonomy5":
        opened = data_sets.taskonomy(folder).stream_to(device)  # too large to move as a whole
    else:
        opened = _place(data_sets.celeba(folder, suite=suite), as_device(device))
    return replace(opened, tasks=make_tolerant(opened.tasks)) if is_tolerant else opened


def _place(opened: TaskData, device: torch.device) -> TaskData:
    """Data on a device as a whole, or streamed to it where a GPU has no room for them."""
    free, needed = measure_free_memory(device), opened.count_bytes(device)
    if device.type == "cuda" and free is not None and needed > free / 2:  # the other: the network's
        _log.info("%.1f GiB of data are too many for %s: they are streamed", needed / GIB, device)
        return opened.stream_to(device)
    if device.type != "cpu":
        _log.info("%.1f GiB of data go to %s", needed / GIB, device)
    return opened.to(device)


@dataclass(frozen=True, slots=True)
class Opener:
    """`open_suite` with its arguments: what workers are handed, who then open the data themselves.

    Called with the ``data`` of a cell, which says nothing here.
    """

    suite: str
    folder: str | None = None
    device: str = "cpu"
    seed: int = 0
    is_tolerant: bool = False

    def __post_init__(self) -> None:
        if self.folder is not None:  # workers may stand elsewhere
            object.__setattr__(self, "folder", str(Path(self.folder).absolute()))

    def __call__(self, _: object = None) -> TaskData:
        return open_suite(
            self.suite, self.folder, device=self.device, seed=self.seed,
            is_tolerant=self.is_tolerant,
        )  # fmt: skip


def name_folder(suite: str) -> str:
    """What a suite needs besides the library, in words."""
    script = "prepare_celeba.py" if "celeba" in suite else "prepare_taskonomy.py"
    return f"the folder that data_scripts/{script} wrote"


def find_preset(suite: str) -> TrainConfig | None:
    """What goes with a suite; None: the recipe for its data."""
    return PAPER.get(suite) or TOY.get(suite.removeprefix("toy_"))


def change_preset(config: TrainConfig, changes: Mapping[str, Any], of: str) -> TrainConfig:
    """A config with some fields changed, as `change_config` has them.

    Refuses ``steps`` or ``epochs`` that would give the preset's ``pretrain`` another unit.
    """
    units = [unit for unit in ("steps", "epochs") if changes.get(unit) is not None]
    if len(units) == 2:
        raise ValueError("give --steps or --epochs, not both.")
    for unit in units:
        other = "epochs" if unit == "steps" else "steps"
        if "pretrain" not in changes and config.pretrain and getattr(config, unit) is None:
            raise ValueError(
                f"the preset of {of} counts in {other}, {config.pretrain} of them before "
                f"branching out: say --pretrain in {unit} too."
            )
        changes = {**changes, other: None}
    return change_config(config, changes)
