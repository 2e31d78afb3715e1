"""What a long run leaves behind on its way, and whether it shows how far it is: the same for every
method."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isnan
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dmtg_lite.files import write_atomically
from dmtg_lite.runs.jobs import Workers
from dmtg_lite.runs.loggers import Log, Logger
from dmtg_lite.runs.parallel import world
from dmtg_lite.schema import AnyFloat, FieldError, read_json

Matrix = list[list[float]]
_REMEMBERED = {"settings": str, "value": tuple[list[list[AnyFloat]], int]}


@dataclass(frozen=True, slots=True)
class Saving:
    """Checkpoints of a method, its run folder, its progress bar, its workers and loggers.

    Args:
        folder: Where checkpoints go, in a folder a method; a run found there is continued, a
            finished one not run again. ``None``: none are kept, nor is a run folder.
        every: Steps between checkpoints; there is always one at the end.
        progress: Show a progress bar (needs tqdm).
        validate_every: As in `fit`.
        runs: The run folder itself (see `runs.folder`), and result in the end; runs that a method
            makes on the way have theirs below. ``None``: the method's own in ``folder``.
        jobs: Workers for the runs that a method is made of, restarts and trial networks, where they
            do not wait for each other: processes, or `Workers`. The result is the same; of restarts
            of a small network, which one process trains at once, but for rounding.
        loggers: Functions that hear of records as they reach a history; see `runs.loggers`. Of a
            worker a copy hears, so that they must be of a file that it can import.
    """

    folder: str | Path | None = None
    every: int = 500
    progress: bool = False
    validate_every: int = 0
    runs: str | Path | None = None
    jobs: int | Workers = 1
    loggers: Sequence[Logger] = ()

    def below(self, name: str) -> Saving:
        """The same with the checkpoints in a folder of their own."""
        return self if self.folder is None else replace(self, folder=Path(self.folder) / name)

    def aside(self, name: str = "") -> Saving:
        """The same for a run on the way, in a run folder below; without a name in this one,
        wherever its checkpoints go."""
        return self if self.run_folder is None else replace(self, runs=self.run_folder / name)

    @property
    def run_folder(self) -> Path | None:
        """What a reader opens."""
        if self.folder is None:
            return None
        return Path(self.folder if self.runs is None else self.runs)

    def path(self, name: str) -> Path | None:
        """A file in the folder, if there is one."""
        return None if self.folder is None else Path(self.folder) / name

    def apart(self) -> Saving:
        """The same for a worker: it has none of its own, and shows nothing."""
        try:
            ForkingPickler.dumps(self.loggers)
        except Exception as error:  # noqa: BLE001  it may be of any class
            raise ValueError(
                f"`loggers` cannot be sent to other processes: {error}. Define them in a file and "
                "import them from there, at the file's top level; or take jobs=1."
            ) from None
        # absolute, since it may stand elsewhere
        folder, runs = (one and Path(one).absolute() for one in (self.folder, self.runs))
        return replace(self, folder=folder, runs=runs, progress=False, jobs=1)

    @contextmanager
    def kept(self) -> Iterator[Saving]:
        """The same with a folder; where there is none, with one that goes with the block.

        What workers do of a run that goes on elsewhere is in its checkpoints.

        Raises:
            ValueError: If there is none, and workers may be on other machines.
        """
        if self.folder is not None:
            yield self
        elif isinstance(self.jobs, Workers) and self.jobs.address is not None:
            raise ValueError(
                "`saving` must have a folder that all machines of the cluster see: its workers "
                "leave their checkpoints there."
            )
        else:
            with TemporaryDirectory() as folder:
                yield replace(self, folder=folder)

    def remember(
        self,
        name: str,
        settings: str,
        compute: Callable[[], tuple[Matrix, int]],
        is_known: Sequence[Sequence[bool]],
    ) -> tuple[Matrix, int]:
        """The matrix and the cost that ``compute`` gave the first time, read back from the folder.

        So a search that is resumed chooses what it has chosen, on whatever machine.

        Args:
            name: Of the file.
            settings: What else the matrix depends on, as one line.
            is_known: Where the matrix holds a number; nan elsewhere.

        Raises:
            ValueError: If what is there was computed with other settings, or is no such matrix; or
                if several processes share the run, which no search is made for.
        """
        if world().size > 1:
            raise ValueError(
                "a search is many small runs, which processes do not share: start it without "
                "torchrun, several at a time with `compare --jobs`."
            )
        path = self.path(f"{name}.json")
        if path is None:
            return compute()
        if not path.exists():
            write_atomically(path, json.dumps({"settings": settings, "value": compute()}).encode())
        try:
            found = read_json(path, _REMEMBERED)
            if found["settings"] != settings:
                raise ValueError(
                    f"{path} was made with {found['settings']}; this run has {settings}. Resume "
                    "with the same data and settings, or start in a new folder."
                )
            matrix, spent = found["value"]
            if [[not isnan(one) for one in row] for row in matrix] != list(map(list, is_known)):
                raise FieldError(
                    f"{path}: `value[0]` must be {len(is_known)} x {len(is_known[0])} numbers, nan "
                    "only where nothing was to be measured."
                )
        except FieldError as error:
            raise ValueError(f"{error} Delete it, and it is measured again.") from None
        return matrix, spent

    def discard(self, name: str) -> None:
        """Remove the checkpoint of a run whose outcome is kept."""
        if checkpoint := self.path(f"{name}.safetensors"):
            checkpoint.unlink(missing_ok=True)

    def label(self, of_bar: str) -> str | None:
        """What a progress bar is called, ``None`` where there is to be none."""
        return of_bar if self.progress and world().is_first else None

    def of(self, name: str, label: str) -> dict[str, Any]:
        """What `fit` wants to know: keyword arguments for one run, in a run folder below."""
        folder = self.aside(name).run_folder
        return self.part(name, label) | {
            "folder": folder,
            "loggers": Log(self.loggers, name, folder),
        }

    def part(self, name: str, label: str) -> dict[str, Any]:
        """The same for a part of the run that this run folder is about."""
        return {
            "checkpoint": self.path(f"{name}.safetensors"),
            "checkpoint_every": self.every,
            "validate_every": self.validate_every,
            "progress": self.label(label),
            "loggers": Log(self.loggers, name, self.run_folder),
        }


UNSAVED = Saving()
