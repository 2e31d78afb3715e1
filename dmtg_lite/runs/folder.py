"""A run as a folder that one process writes and others read, while it trains or years later.

Here is its form, and the reader: numpy and the standard library, no torch. `folder_writer` writes.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, TypeVar, get_args

from dmtg_lite.core.groups import Groups
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.history import About, History
from dmtg_lite.runs.pieces import HISTORY, Piece, list_pieces, read_piece
from dmtg_lite.schema import FieldError, check_value, read_json

T = TypeVar("T")
FORMAT = "dmtg-folder/1"
RUN, HEARTBEAT, TURNS, LOG, RESULT = (
    "run.json", "heartbeat.json", "turns.json", "log.txt", "result.json"
)  # fmt: skip
NOTES, CHECKPOINTS = "notes", "checkpoints"
NEWEST = "newest.npz"  # one record, of a thinned run between two that are kept
SILENT_AFTER = 6.0  # seconds without a beat, of which there is one a second
_MOST_SHOWN = 5000  # records that are in no piece, of a reader that stays for days
_LOOKS = 3  # at a folder that seems to have lost something, before that is believed

State = Literal["pretraining", "running", "paused", "stopped", "finished", "failed"]
ENDED = frozenset({"stopped", "finished", "failed"})
Command = Literal["pause", "start", "step"]
KNOBS = ("tau", "lr_assignment")


class RunFacts(TypedDict):
    """``run.json``: what is trained, on what, by whom."""

    format: str
    id: str  # another one when the run begins anew in this folder, the same when it is resumed
    method: str
    n_groups: int | str  # K as asked for, also "auto"
    n_branches: int
    n_steps: int
    n_pretraining: int
    task_names: list[str]
    config: dict[str, Any]  # as fields
    config_line: str
    seed: int
    data: str
    fingerprint: str
    note: str
    planted_groups: Groups | None
    versions: dict[str, str]
    machine: str
    started: str  # ISO 8601, UTC
    world_size: int
    asked: NotRequired[dict[str, Any]]  # of a live session, which may have been reset since


class Heartbeat(TypedDict):
    """``heartbeat.json``, rewritten every second while the process lives."""

    counter: int
    state: State
    pretrained: int
    step: int
    error: str


class Turn(TypedDict):
    """An entry of ``turns.json``: from this step on a knob stands so; None: as configured."""

    step: int
    tau: NotRequired[float | None]
    lr_assignment: NotRequired[float | None]


def check_knobs(knobs: dict[str, float | None]) -> None:
    """Refuse knobs that no run has and values that no step could use.

    Raises:
        ValueError: If ``tau`` <= 0, ``lr_assignment`` < 0, or there is no such knob.
    """
    for name, value in knobs.items():
        if name not in KNOBS:
            raise ValueError(f"unknown knob {name!r}; a live run has `tau` and `lr_assignment`.")
        if value is None:
            continue
        if not (isfinite(value) and (value >= 0 if name == "lr_assignment" else value > 0)):
            least = "> 0" if name == "tau" else ">= 0"
            raise ValueError(f"`{name}` must be a finite number {least}, got {value}.")


def check_note(note: dict[str, Any]) -> None:
    """Refuse what is neither a command nor a turn of knobs.

    Raises:
        ValueError: With what was found.
    """
    command, turn = note.get("command"), note.get("turn", {})
    if command is not None and command not in get_args(Command):
        raise ValueError(f"`command` must be one of {get_args(Command)}, got {command!r}.")
    if command is None and not turn:
        raise ValueError("a note needs a `command`, or a knob to turn.")
    check_value(note, {"turn": dict[str, float | None]} if "turn" in note else {})
    check_knobs(turn)
    if (n := note.get("n", 1)) < 1 or type(n) is not int:
        raise ValueError(f"`n` must be a whole number >= 1, got {n!r}.")


# ---------------------------------------------------------------------- the reader
def read_facts(folder: Path) -> RunFacts:
    """``run.json`` of a folder, checked.

    Raises:
        FileNotFoundError: If there is none.
        FieldError: If it is damaged, or of another format.
    """
    facts: RunFacts = read_json(folder / RUN, RunFacts)
    if facts["format"] != FORMAT:
        raise FieldError(
            f"{folder / RUN}: format {facts['format']!r}, expected {FORMAT!r}: read it with the "
            "version that wrote it."
        )
    return facts


class RunFolder:
    """One run, read from its folder: what there is now, and with each `update` what is new.

    Args:
        path: A folder with a ``run.json``, also one that another machine writes to.

    Attributes:
        run: ``run.json``, see `RunFacts`.
        history: All records so far; grows in `update`. Another object if the run began anew, or
            went back to a checkpoint. ``history.about`` says what ``run.json`` and, at the end,
            ``result.json`` say.
        pretrained, step: Naive MTL steps, and steps after them, taken by the last beat.
        error: Why it failed, for people; empty otherwise.
        turns: The knobs as they were turned, see `Turn`.

    Raises:
        FileNotFoundError: If there is no such folder, or no run in it.
        ValueError: If a file is damaged or no such file; file and field are named.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / RUN).exists():
            what = "there is no such folder" if not self.path.is_dir() else f"it has no {RUN}"
            raise FileNotFoundError(f"{self.path} is no run folder: {what}.")
        self._seen: dict[str, tuple[int, ...]] = {}  # by file, what `stat` said when it was read
        self._pieces: list[Piece] = []  # read
        self._n_shown = 0  # records in the history that are in none of them
        self._beat: Heartbeat = {
            "counter": -1, "state": "pretraining", "pretrained": 0, "step": 0, "error": ""
        }  # fmt: skip
        self._moved = time.monotonic()  # when the counter did, on our own clock
        self.turns: list[dict[str, Any]] = []
        self.run: RunFacts
        self.history: History
        self.update()

    def __repr__(self) -> str:
        return f"RunFolder({self.path}: {self.state}, step {self.step} of {self.run['n_steps']})"

    def update(self) -> bool:
        """Read what is new, and say whether anything was. A few calls of `stat` where nothing is.

        Raises:
            ValueError: If a file is damaged, see above.
        """
        try:
            return self._update()
        except ValueError:
            if self._look(RUN) == self._seen.get(RUN):
                raise
            return self._update()  # it began anew: files of both runs had been read

    def _update(self) -> bool:
        is_new = False
        if (facts := self._read(RUN, lambda path: read_facts(path.parent))) is not None:
            is_new = True
            self._begin(facts)
        if (beat := self._read_json(HEARTBEAT, Heartbeat)) is not None:
            is_new = True
            if beat["counter"] != self._beat["counter"]:
                self._moved = time.monotonic()
            self._beat = beat
        if (turns := self._read_json(TURNS, list[Turn])) is not None:
            is_new, self.turns = True, turns
        newest = self._read(
            NEWEST, History.load
        )  # before the pieces, which have all that came before it
        if self._n_shown > _MOST_SHOWN:  # the pieces alone are as many as ever
            self._pieces, self.history = [], self._new_history(self.history.about)
        is_new |= self._read_history()
        if newest is not None:
            is_new = True
            self._append(newest)
            self._n_shown += 1
        if (result := self._read_json(RESULT, dict[str, Any])) is not None:
            is_new = True
            self._tell_result(result)
        return is_new

    @property
    def state(self) -> str:
        """As in the heartbeat; "stopped responding" after 6 s without a beat, or "finished" if the
        result is there by then."""
        state, silent = self._beat["state"], time.monotonic() - self._moved > SILENT_AFTER
        if state not in ENDED and not silent:
            return state
        if RESULT in self._seen:
            return "finished"
        return state if state in ENDED else "stopped responding"

    @property
    def is_alive(self) -> bool:
        """Whether somebody trains it."""
        return self.state not in ENDED | {"stopped responding"}

    @property
    def pretrained(self) -> int:
        return self._beat["pretrained"]

    @property
    def step(self) -> int:
        return self._beat["step"]

    @property
    def error(self) -> str:
        return self._beat["error"]

    def leave_note(
        self, *, command: Command | None = None, n: int = 1, **knobs: float | None
    ) -> None:
        """Ask whoever trains the run for something; it acts between two steps.

        Args:
            command: ``"pause"``, ``"start"`` or ``"step"``.
            n: Steps to take, of ``"step"``.
            knobs: ``tau`` or ``lr_assignment``; None: as configured.

        Raises:
            ValueError: If it is nothing that can be asked for.
            OSError: If the folder cannot be written to.
        """
        note: dict[str, Any] = {} if command is None else {"command": command}
        note |= {"n": n} if command == "step" else {}
        note |= {"turn": knobs} if knobs else {}
        check_note(note)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"  # in the order of leaving
        write_atomically(self.path / NOTES / name, json.dumps(note).encode())

    def _read(self, name: str, read: Callable[[Path], T]) -> T | None:
        """The content of a file that has changed since it was read; None where it has not."""
        try:
            seen = self._look(name)
            if self._seen.get(name) == seen:
                return None
            value = read(self.path / name)
        except FileNotFoundError:  # not yet, or not any more
            self._seen.pop(name, None)
            return None
        self._seen[name] = seen
        return value

    def _look(self, name: str) -> tuple[int, ...]:
        stat = os.stat(self.path / name)
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _read_json(self, name: str, hint: Any) -> Any:
        return self._read(name, lambda path: read_json(path, hint))

    def _begin(self, facts: RunFacts) -> None:
        if "run" not in self.__dict__ or facts["id"] != self.run["id"]:
            self._pieces, self.turns, self.run = [], [], facts
            self._seen = {RUN: self._seen[RUN]}  # the others are of another run now
            self.history = self._new_history()
        self.run = facts
        self._seen.pop(RESULT, None)  # what it says goes into `about` again
        self.history.about = About(
            title=f"{facts['data']}, seed {facts['seed']}",
            note=facts["note"],
            method=facts["method"],
            data=facts["data"],
            seed=facts["seed"],
            config=facts["config_line"],
            planted_groups=facts["planted_groups"],
            versions=facts["versions"],
        )

    def _tell_result(self, result: dict[str, Any]) -> None:
        about = self.history.about
        told = {f.name: result[f.name] for f in fields(About) if result.get(f.name) is not None}
        told["config"] = about.config  # there it is fields, here a line
        try:
            check_value(told, About)
        except FieldError as error:
            raise FieldError(f"{self.path / RESULT}: {error}") from None
        for name, value in told.items():
            setattr(about, name, value)

    def _read_history(self) -> bool:
        """Append the records of pieces that were not there; True if there were any."""
        last = self._pieces[-1].last if self._pieces else 0
        chain = self._find_pieces(last)
        if chain == self._pieces:
            return False
        if last > (chain[-1].last if chain else 0):  # resumed from a checkpoint before it
            last, self.history = 0, self._new_history(self.history.about)
        self._pieces = []
        try:
            for piece in chain:
                if piece.last > last:
                    self._append(read_piece(self.path / HISTORY / piece.name))
                self._pieces.append(piece)
        except FileNotFoundError:  # merged a moment ago: the rest is read next time
            pass
        return True

    def _find_pieces(self, last: int) -> list[Piece]:
        """The pieces there are, up to step ``last`` at least unless the run went back.

        A folder that is listed while pieces are being merged may seem to lack some: so what seems
        to be lost is looked for again.
        """
        for _ in range(_LOOKS - 1):
            chain, others = list_pieces(self.path)
            end = chain[-1].last if chain else 0
            if end >= last and all(piece.last <= end for piece in others):
                return chain
            time.sleep(0.02)
        chain, others = list_pieces(self.path)
        end = chain[-1].last if chain else 0
        if any(piece.last > end for piece in others):
            raise ValueError(
                f"{self.path / HISTORY} lacks the piece after step {end}. Resume the run, which "
                "writes its history anew from the checkpoint; of a finished one run.npz has all."
            )
        return chain

    def _new_history(self, about: About | None = None) -> History:
        self._n_shown = 0
        return History(self.run["task_names"], self.run["n_branches"], about=about)

    def _append(self, piece: History) -> None:
        same = (piece.task_names, piece.n_groups) == (
            self.history.task_names,
            self.history.n_groups,
        )
        if not same:
            raise ValueError(f"{self.path / HISTORY} holds pieces of another run than {RUN} says.")
        self.history.extend(piece)


def find_runs(path: str | Path) -> list[Path]:
    """Every run folder in or below a folder, in the order of their names.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}.")
    return sorted(found.parent for found in path.rglob(RUN))
