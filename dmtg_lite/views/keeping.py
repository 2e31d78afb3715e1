"""What a live session leaves in a run folder and takes up again in another kernel; nothing where no
folder was given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmtg_lite.core.data import TaskData
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.checkpoint import restore_run, save_run
from dmtg_lite.runs.fit import Unwatched
from dmtg_lite.runs.folder import CHECKPOINTS, RUN, RunFacts, read_facts
from dmtg_lite.runs.folder_writer import FolderWriter
from dmtg_lite.runs.history import History


class Keeper:
    """Checkpoints and run folder of one live session.

    Args:
        folder: ``None``: nothing is kept, and every method does nothing.
        data: What is trained on.
        every: Steps between checkpoints.
        asked: What the session was made with: only the same call goes on with what is there.

    Attributes:
        watch: The open folder, or its stand-in.
    """

    def __init__(
        self, folder: str | Path | None, data: TaskData, every: int, asked: dict[str, Any]
    ) -> None:
        if every < 1:
            raise ValueError(f"`checkpoint_every` must be >= 1, got {every}.")
        self.folder = None if folder is None else Path(folder)
        self.watch: FolderWriter | Unwatched = Unwatched()
        self._data, self._every, self._asked = data, every, asked
        self._fingerprint = "" if folder is None else data.fingerprint()
        self._saved: dict[str, int] = {}
        self._is_anew = False

    def find(self) -> RunFacts | None:
        """The run that the same call has left; another one is refused by `open`."""
        if self.folder is None or not (self.folder / RUN).exists():
            return None
        found = read_facts(self.folder)
        return found if found.get("asked") == self._asked else None

    def open(
        self, facts: Callable[[], RunFacts], receive: Callable[[dict[str, Any]], None]
    ) -> None:
        """Take the folder; see `FolderWriter`.

        Raises:
            ValueError: If it holds another run, or another process has it.
        """
        if self.folder is not None:
            writer = FolderWriter(self.folder, self._mark(facts()), receive=receive)
            self.watch = writer.__enter__()

    def begin(self, facts: Callable[[], RunFacts], history: History, step: int) -> None:
        """What readers see is this run from now on, after this step."""
        if isinstance(self.watch, FolderWriter) and self._is_anew:
            self.watch.renew(self._mark(facts()), history)
        else:
            self.watch.begin(history, step)
        self._is_anew = False

    def forget(self) -> None:
        """The run is reset: `begin` comes next. Naive MTL weights stay."""
        self._is_anew = True
        self._saved.pop("main", None)
        if self.folder is not None:
            self._path("main").unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Whether there is a checkpoint of this part."""
        return self.folder is not None and self._path(name).exists()

    def restore(self, name: str, state: TrainState, history: History, n_steps: int) -> TrainState:
        """Bring a fresh state and an empty history to where they were saved."""
        restore_run(self._path(name), state, history, self._fingerprint, n_steps)
        self._saved[name] = state.step
        return state

    def is_due(self, step: int) -> bool:
        return self.folder is not None and step % self._every == 0

    def save(self, name: str, state: TrainState | None, history: History) -> None:
        """Keep a part as it stands, if it has moved since."""
        if self.folder is None or state is None or not state.step:
            return
        if self._saved.get(name) != state.step:
            save_run(self._path(name), state, history, self._fingerprint)
            self._saved[name] = state.step

    def close(self) -> None:
        """Let the folder go."""
        if isinstance(self.watch, FolderWriter):
            self.watch.__exit__(None, None, None)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / CHECKPOINTS / f"{name}.safetensors"

    def _mark(self, facts: RunFacts) -> RunFacts:
        return {**facts, "asked": self._asked}
