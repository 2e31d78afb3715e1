"""The writer of a run folder: history and heartbeat by a small thread of the process, turns and
commands between two steps. `folder` has the form.

The training thread only appends to its `History` and asks `may_step`; files are written beside it.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, Self

import numpy as np

from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.record import Knobs
from dmtg_lite.files import hold, write_atomically
from dmtg_lite.runs.folder import (
    ENDED,
    FORMAT,
    HEARTBEAT,
    KNOBS,
    LOG,
    NEWEST,
    NOTES,
    RESULT,
    RUN,
    TURNS,
    RunFacts,
    State,
    Turn,
    check_note,
    read_facts,
)
from dmtg_lite.runs.history import History
from dmtg_lite.runs.pieces import PieceWriter
from dmtg_lite.schema import FieldError, read_json

FLUSH_EVERY = 0.5  # seconds between pieces of history, and between transfers from the device
_BEAT_EVERY = 1.0
_LOOK_EVERY = 0.1  # for notes
_log = logging.getLogger("dmtg_lite")

# what may differ between a run and the one it continues
_OF_THE_PROCESS = {
    "id", "started", "machine", "versions", "world_size", "config_line", "note", "asked"
}  # fmt: skip


def describe_run(
    data: TaskData,
    config: TrainConfig,
    *,
    method: str,
    n_groups: NGroups,
    n_branches: int,
    n_steps: int,
    n_pretraining: int,
    seed: int | None = None,
    world_size: int = 1,
) -> RunFacts:
    """What ``run.json`` says of a run that is about to begin."""
    torch = sys.modules.get("torch")
    versions = {"torch": torch.__version__} if torch else {}
    return {
        "format": FORMAT,
        "id": secrets.token_hex(8),
        "method": method,
        "n_groups": n_groups,
        "n_branches": n_branches,
        "n_steps": n_steps,
        "n_pretraining": n_pretraining,
        "task_names": data.task_names,
        "config": json.loads(json.dumps(asdict(config))),  # tuples are lists there
        "config_line": str(config),
        "seed": config.seed if seed is None else seed,
        "data": data.name,
        "fingerprint": data.fingerprint(),
        "note": data.note,
        "planted_groups": data.planted_groups,
        "versions": versions | {"numpy": np.__version__, "python": platform.python_version()},
        "machine": f"{platform.node()}, {platform.machine()}, {os.cpu_count()} cores",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "world_size": world_size,
    }


class FolderWriter:
    """A run folder while it is written: ``with FolderWriter(path, facts) as folder: ...``.

    The block ends with the state "finished", "stopped" (before the last step, or interrupted) or
    "failed". Notes that readers leave come to `may_step`, which the training thread asks before
    each step.

    Args:
        path: The folder; made if it is missing.
        facts: See `describe_run`.
        receive: Called, from another thread, with each note, for who has commands of its own, says
            by `tell` how things stand, and does not ask `may_step`.

    Attributes:
        knobs: Hand them to `continue_steps`: what `may_step` says of the coming step is there.
        state, step, pretrained, error: What the heartbeat tells.

    Raises:
        ValueError: If the folder holds another run, or another process trains it.
    """

    def __init__(
        self,
        path: str | Path,
        facts: RunFacts,
        *,
        receive: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.path, self.facts, self.knobs = Path(path), facts, Knobs()
        self.state: State = "pretraining" if facts["n_pretraining"] else "running"
        self.step = self.pretrained = 0
        self.error = ""
        self._counter, self._is_closed = 0, False
        self._beat_due = self._save_due = self._flush_due = 0.0  # by time.monotonic()
        self._inbox: deque[dict[str, Any]] = deque()
        self._receive = receive or self._inbox.append
        self._keeps_account = receive is None  # of its state: or `tell` does
        self._credit: float = inf  # steps that may be taken: 0 paused
        self._asked: dict[str, float | None] = {}  # knobs to turn at the next step
        self.turns: list[dict[str, Any]] = []  # as `Turn`
        self._replay: dict[int, dict[str, Any]] = {}
        self._history: History | None = None
        self._newest: History | None = None  # a record that is only shown
        self._pieces = PieceWriter(self.path)
        self._lock = threading.Lock()  # of what the small thread touches
        self._open = ExitStack()

    # ------------------------------------------------------------------ for the training thread
    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._open.enter_context(hold(self.path / ".lock")):
            self._open.close()
            raise ValueError(
                f"{self.path} is being trained by another process: wait for it, or start in a new "
                "folder."
            )
        try:
            self._settle_facts()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        _pulse.remove(self)
        try:
            if isinstance(error, Exception):
                self.state, self.error = "failed", f"{type(error).__name__}: {error}"
            elif self.state not in ENDED:
                is_over = error is None and self.step >= self.facts["n_steps"]
                self.state = "finished" if is_over else "stopped"
            with self._lock:
                self._is_closed = True
                self._save_history()
                self._beat()
            self.log(f"{self.state} at step {self.step}. {self.error}".rstrip())
        except OSError:
            if error is None:  # what went wrong before is the better message
                raise
        finally:
            self._open.close()

    def begin(self, history: History | None, step: int) -> None:
        """Tell of the part that begins, fresh or from a checkpoint: what readers see follows it.

        Args:
            history: Of the training; None while pretraining.
            step: Steps of this part that are done. Records of later ones, which a process wrote
                before it was killed, are dropped, and its turns will be replayed.
        """
        whole = self.facts["n_pretraining"]
        with self._lock:
            if not self._counter:
                self._drop_old_notes()
                write_atomically(self.path / RUN, json.dumps(self.facts, indent=1).encode())
            self._history = history
            if history is not None:
                self.step = step
                self._load_turns(step)
            if self._keeps_account:
                self.state = "pretraining" if history is None else "running"
                self.pretrained = step if history is None else whole
            if history is not None or step < whole:
                self._drop_later(step if history is not None else 0)
            self._save_history()
            self._beat()
        part = "pretraining" if history is None else "training"
        self.log(f"{part} begins" if not step else f"{part} goes on after step {step}")
        _pulse.add(self)

    def may_step(self, step: int) -> bool:
        """Act on the notes that came, and say whether this step may be taken; sets `knobs`.

        No file is touched but where a knob was turned: ``turns.json`` says so before the step.
        """
        while self._inbox:
            self._obey(self._inbox.popleft())
        if self._credit <= 0:
            self._set_state("paused")
            return False
        is_training = self._history is not None
        if is_training and (self._asked or step in self._replay):
            asked, self._asked = self._asked, {}
            self.turn(step, asked)
        self._set_state("running" if is_training else "pretraining")
        self._credit -= is_training
        return True

    def wait(self) -> None:
        """Of a paused run: until the next look for notes."""
        time.sleep(_LOOK_EVERY)

    def count(self, step: int) -> bool:
        """A step was taken; True if its record, and those before it, are due in the history."""
        if self._history is None:
            self.pretrained = step
        else:
            self.step = step
        now = time.monotonic()
        if now < self._flush_due:
            return False
        self._flush_due = now + FLUSH_EVERY
        return True

    def turn(self, step: int, asked: Mapping[str, float | None]) -> None:
        """Set the knobs of a step: as asked for now, or as at that step before a resume.

        What is new is written down first.
        """
        again = {name: own for name, own in self._replay.pop(step, {}).items() if name in KNOBS}
        new = {name: own for name, own in asked.items() if own != getattr(self.knobs, name)}
        if new:
            self._record_turn(step, again | new)
            self._replay = {turn["step"]: turn for turn in self.turns if turn["step"] > step}
        for name, value in (again | new).items():
            setattr(self.knobs, name, value)

    def tell(self, state: State, pretrained: int, error: str) -> None:
        """How it stands, from who keeps account of it without `may_step`."""
        self.pretrained, self.error = pretrained, error
        self._set_state(state)

    def _record_turn(self, step: int, knobs: Mapping[str, float | None]) -> None:
        """Write down how knobs stand from a step on, before it is taken."""
        kept: list[dict[str, Any]] = []
        for turn in self.turns:  # a later one of the same knob belongs to a future that is no more
            is_later = turn["step"] >= step
            left = {k: v for k, v in turn.items() if not (is_later and k in knobs)}
            kept += [left] if len(left) > 1 else []
        kept.append({"step": step, **knobs})
        self.turns = sorted(kept, key=lambda turn: turn["step"])
        write_atomically(self.path / TURNS, json.dumps(self.turns).encode())
        for name, value in knobs.items():
            to = "as configured" if value is None else f"turned to {value:g}"
            self.log(f"step {step}: {name} {to}")

    def show(self, newest: History) -> None:
        """The newest record, of a run that is thinned, for who reads now: a history of it alone."""
        self._newest = newest

    def log(self, event: str) -> None:
        """A line in ``log.txt``."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            with open(self.path / LOG, "a", encoding="utf-8", errors="replace") as file:
                file.write(f"{now} {' '.join(event.split())}\n")
        except OSError as error:  # a disk that is away for a while must not end a training
            _log.warning("%s cannot be written to: %s", self.path / LOG, error)

    # ------------------------------------------------------------------ between two steps
    def _set_state(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.log(f"{state} at step {self.step}")

    def _obey(self, note: dict[str, Any]) -> None:
        command = note.get("command")
        if command == "pause":
            self._credit = 0
        elif command == "start":
            self._credit = inf
        elif command == "step":
            self._credit = note.get("n", 1) + (0 if self._credit == inf else self._credit)
        turned = note.get("turn", {}).items()
        self._asked |= {name: None if own is None else float(own) for name, own in turned}

    # ------------------------------------------------------------------ at the beginning
    def _settle_facts(self) -> None:
        """Take over the name of the run that is to be continued; refuse another one."""
        path = self.path / RUN
        if not path.exists():
            return
        found = read_facts(self.path)
        own: dict[str, Any] = dict(self.facts)
        for name in [name for name in found if name not in _OF_THE_PROCESS]:
            was, now = found.get(name), own.get(name)
            if was == now:
                continue
            if isinstance(was, dict) and isinstance(now, dict):
                name = next(key for key in was | now if was.get(key) != now.get(key))
                was, now = was.get(name), now.get(name)
            name = "K" if name == "n_groups" else name
            raise ValueError(
                f"{path} was made with {name}={was!r}; this run has {name}={now!r}. Resume with "
                "the same data and settings, or start in a new folder."
            )
        self.facts = {**self.facts, "id": found["id"], "started": found["started"]}

    def _drop_old_notes(self) -> None:
        """A Pause that was pressed when nobody trained would look like a run that hangs."""
        receive, self._receive = self._receive, lambda note: self.log(f"came too late: {note}")
        self._take_notes()
        self._receive = receive

    def _drop_later(self, step: int) -> None:
        self._pieces.begin(self._history, step)
        (self.path / NEWEST).unlink(missing_ok=True)
        self._newest = None

    def _load_turns(self, step: int) -> None:
        path = self.path / TURNS
        self.turns = read_json(path, list[Turn]) if path.exists() else []
        self._replay = {turn["step"]: turn for turn in self.turns if turn["step"] > step}
        for name in KNOBS:
            past = [turn[name] for turn in self.turns if name in turn and turn["step"] <= step]
            setattr(self.knobs, name, past[-1] if past else None)

    def renew(self, facts: RunFacts, history: History) -> None:
        """Begin anew in the same folder, with another name: what is there of the run goes."""
        with self._lock:
            self.facts, self._history, self._counter = facts, None, 0
            self.step, self._asked = 0, {}
            for name in (TURNS, RESULT):
                (self.path / name).unlink(missing_ok=True)
            self._drop_later(0)
        self.begin(history, 0)

    # ------------------------------------------------------------------ in the small thread
    def tick(self) -> None:
        """Take notes, save what is new, and beat, each at its time."""
        with self._lock:
            if self._is_closed:
                return
            now = time.monotonic()
            self._take_notes()
            if now >= self._save_due:
                self._save_due = now + FLUSH_EVERY
                self._save_history()
                self._save_newest()
            if now >= self._beat_due:
                self._beat()

    def _take_notes(self) -> None:
        try:
            names = sorted(os.listdir(self.path / NOTES))
        except FileNotFoundError:
            return
        for name in names:
            path = self.path / NOTES / name
            if path.suffix != ".json":  # half of one, or nothing of ours
                continue
            try:
                note = read_json(path, dict[str, Any])
                check_note(note)
            except FileNotFoundError:
                continue
            except (FieldError, ValueError) as error:
                self.log(f"a note was refused: {error}")
                note = None
            path.unlink(missing_ok=True)
            if note is not None:
                self._receive(note)

    def _beat(self) -> None:
        self._counter += 1
        self._beat_due = time.monotonic() + _BEAT_EVERY
        beat = {
            "counter": self._counter,
            "state": self.state,
            "pretrained": self.pretrained,
            "step": self.step,
            "error": self.error,
        }
        # every second, and of no use after a power failure: not worth waiting for the disk
        write_atomically(self.path / HEARTBEAT, json.dumps(beat).encode(), is_durable=False)

    def _save_history(self) -> None:
        if self._history is not None:
            self._pieces.save(self._history)

    def _save_newest(self) -> None:
        newest, self._newest = self._newest, None
        if newest is not None:
            write_atomically(self.path / NEWEST, newest.to_bytes(), is_durable=False)


class _Pulse:
    """The one small thread of a process: it lives while a folder is open."""

    def __init__(self) -> None:
        self._folders: list[FolderWriter] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, folder: FolderWriter) -> None:
        with self._lock:
            if folder not in self._folders:
                self._folders.append(folder)
            if self._thread is None or not self._thread.is_alive():  # also in a forked child
                self._thread = threading.Thread(target=self._beat, name="dmtg-folder", daemon=True)
                self._thread.start()

    def remove(self, folder: FolderWriter) -> None:
        with self._lock, suppress(ValueError):
            self._folders.remove(folder)

    def _beat(self) -> None:
        while True:
            with self._lock:
                folders = tuple(self._folders)
                if not folders:
                    self._thread = None
                    return
            for folder in folders:
                try:
                    folder.tick()
                except OSError as error:  # a disk that is away for a while must not end a training
                    _log.warning("the run folder cannot be written to: %s", error)
            time.sleep(_LOOK_EVERY)


_pulse = _Pulse()
