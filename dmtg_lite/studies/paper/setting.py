"""Where the runs of a table get data and configs: the paper's, toys, or a few steps of either."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dmtg_lite import data as data_sets
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.runs.presets import PAPER, TOY
from dmtg_lite.studies.paper.specs import TASKS

# Table 1 is 17 runs, some of them of 31 networks: fewer steps than the preset's, to end within
# minutes
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

    def check(self, suite: str) -> None:
        """Refuse a table without data before anything else.

        Raises:
            ValueError: Names the script that prepares the data, and ``--toy``.
        """
        if self.is_toy or self.folder is not None:
            return
        name = "celeba" if "celeba" in suite else "taskonomy"
        raise ValueError(
            "`--data` is missing: this table needs the folder that "
            f"data_scripts/prepare_{name}.py wrote. "
            "With --toy the same experiment runs on drawn data, with numbers of its own."
        )

    def config(self, suite: str) -> TrainConfig:
        """The paper's preset or the toy one, or a few steps of it."""
        config = (TOY_CONFIGS if self.is_toy else PAPER)[suite]
        if not self.is_quick:
            return config
        return replace(config, pretrain=1, steps=2, epochs=None, batch_size=4)

    def image_shape(self, suite: str) -> tuple[int, int, int]:
        size = 32 if self.is_toy else 256 if TASKS[suite][0].is_dense else 64
        return 3, size, size

    def open(self, suite: str) -> TaskData:
        """The data of a suite; toy images are the same for every seed."""
        if not self.is_toy:
            return self._open_prepared(suite)
        if TASKS[suite][0].is_dense:
            n_train, n_val, n_test = (12, 4, 6) if self.is_quick else (400, 50, 100)
            rooms = data_sets.toy_rooms(n_train=n_train, n_val=n_val, n_test=n_test, size=32)
            return rooms.to(self.device)
        few = {"n_train": 200, "n_val": 50, "n_test": 80} if self.is_quick else {}
        n_tasks, n_groups = (40, 5) if suite == "celeba40" else (9, 3)
        return data_sets.toy_faces(n_tasks, n_groups, **few).to(self.device)

    def _open_prepared(self, suite: str) -> TaskData:
        if TASKS[suite][0].is_dense:
            opened = data_sets.taskonomy(self.folder).stream_to(
                self.device
            )  # too large to move as a whole
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
        if self.is_quick:
            doubts.append("a few steps on a few images (--quick)")
        return doubts
