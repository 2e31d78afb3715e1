"""A run that trains elsewhere, as a dashboard reads it: from its folder, with no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from dmtg_lite.core.record import Knobs
from dmtg_lite.runs.folder import KNOBS, SILENT_AFTER, RunFolder, check_knobs, find_runs
from dmtg_lite.runs.history import History
from dmtg_lite.views.source import Knob, tell_turn

LOOK_EVERY = 0.2  # seconds
FIND_EVERY = 2.0  # seconds between looks for further runs
SILENT = "stopped responding"
SILENT_WORDS = (
    f"Nothing has been heard of the process that trains this for {SILENT_AFTER:.0f} seconds. If it "
    "is gone, the same command with --resume goes on, and so will this view."
)
BESIDE = 6  # runs that are side by side unless somebody chooses others


class FollowedRun:
    """The run in a folder, or the one that is opened of several.

    One thread looks into the folder five times a second. What cannot be done from outside (another
    K, another seed, the speed) is not there; the rest is left as a note that the run acts on
    between two of its steps.

    Args:
        folder: Of one run or of several; there may be none yet.

    Attributes:
        names: Of all runs in the folder, by their folders.
        chosen: Of those that are side by side.
        opened: Of the one that all else is about; empty: none, as of several nobody has chosen yet.
        runs: What was read of the chosen and the opened ones, by name.
        listeners: Called with no argument, from the thread, when something has changed.
    """

    controls = ("start", "pause", "step", *KNOBS)
    pretraining = ()  # its losses are not written down

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.listeners: set[Callable[[], None]] = set()
        self.names: tuple[str, ...] = ()
        self.chosen: tuple[str, ...] = ()
        self.opened = ""
        self.runs: dict[str, RunFolder] = {}
        self._nothing = History([], 1)
        self._errors: dict[str, str] = {}  # by name: why it cannot be read
        self._find_at = 0.0
        self._told: list[object] = []  # see `_list_states`
        self._wake, self._closed = threading.Event(), threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._look_forever, name="dmtg-follow", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<FollowedRun {self.folder}: {self.state}, {len(self.history)} records>"

    # ------------------------------------------------------------------ what a dashboard reads
    @property
    def run(self) -> RunFolder | None:
        """The opened one."""
        return self.runs.get(self.opened)

    @property
    def is_steerable(self) -> bool:
        return self.run is not None and self.run.is_alive

    @property
    def history(self) -> History:
        return self.run.history if self.run else self._nothing

    @property
    def state(self) -> str:
        if self.run:
            return self.run.state
        if len(self.names) > 1:
            return f"{len(self.names)} runs in {self.folder}: open one by its name"
        return f"waiting for a run in {self.folder}"

    @property
    def error(self) -> str:
        if words := self._errors.get(self.opened, ""):
            return words
        if self.run and self.run.state == SILENT:
            return SILENT_WORDS
        return self.run.error if self.run else ""

    @property
    def pretrained(self) -> int:
        return self.run.pretrained if self.run else 0

    @property
    def n_groups(self) -> int | Literal["auto"] | None:
        return cast("int | Literal['auto']", self.run.run["n_groups"]) if self.run else None

    @property
    def n_steps(self) -> int | None:
        return self.run.run["n_steps"] if self.run else None

    @property
    def config_line(self) -> str:
        """As the run began, with the knobs that were turned on the way in a comment."""
        if not self.run:
            return ""
        words = [
            tell_turn(name, turn[name], turn["step"])
            for turn in self.run.turns
            for name in KNOBS
            if name in turn
        ]
        line = self.run.run["config_line"]
        return f"{line}  # {', '.join(words)}" if words else line

    @property
    def configured(self) -> dict[str, Knob]:
        config = self.run.run["config"] if self.run else {"tau": 1.0, "lr": 1e-3}
        tau, rate = config["tau"], config.get("lr_assignment")
        tau = (tau[0], tau[1]) if isinstance(tau, list) else tau
        return {"tau": tau, "lr_assignment": config["lr"] if rate is None else rate}

    @property
    def knobs(self) -> Knobs:
        """As they were turned last."""
        knobs = Knobs()
        for turn in self.run.turns if self.run else []:
            knobs = replace(knobs, **{name: turn[name] for name in KNOBS if name in turn})
        return knobs

    # ------------------------------------------------------------------ what is left as a note
    def start(self) -> None:
        """Go on after a pause."""
        self._living().leave_note(command="start")

    def pause(self) -> None:
        """Rest after the step in progress."""
        self._living().leave_note(command="pause")

    def step(self, n: int = 1) -> None:
        """Take ``n`` steps and rest."""
        self._living().leave_note(command="step", n=n)

    def turn(self, **knobs: float | None) -> None:
        """Turn ``tau`` or ``lr_assignment`` from a next step on; None: as configured."""
        check_knobs(knobs)
        note: dict[str, Any] = {**knobs}
        self._living().leave_note(**note)

    def run_if_headless(self) -> None:
        """Nothing: it trains with nobody there to press Start."""

    def _living(self) -> RunFolder:
        if self.run and self.run.is_alive:
            return self.run
        raise ValueError(f"nobody is there to act on this: {self.state}.")

    # ------------------------------------------------------------------ several runs
    def open(self, name: str) -> None:
        """Make one of `names` the run that all else is about; empty: none of them."""
        self.opened = name
        self._wake.set()

    def choose(self, names: Sequence[str]) -> None:
        """Have these side by side."""
        self.chosen = tuple(names)
        self._wake.set()

    # ------------------------------------------------------------------ the thread
    def close(self) -> None:
        """End the thread; what was read stays."""
        self._closed.set()
        self._wake.set()
        self._thread.join(5.0)

    def _look_forever(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(LOOK_EVERY)
            self._wake.clear()
            if self._look():
                for listener in tuple(self.listeners):
                    listener()

    def _look(self) -> bool:
        """Read what is new; whether there was anything to tell."""
        if time.monotonic() >= self._find_at:
            self._find()
        runs, is_new = {}, False
        for name in {*self.chosen, self.opened} - {""}:
            run = self.runs.get(name)
            try:
                run = run or RunFolder(self.folder / name)
                is_new |= run.update()
                self._errors.pop(name, None)
            except (ValueError, OSError) as error:
                self._errors[name] = str(error)
            if run:
                runs[name] = run
        self.runs = runs
        before, self._told = self._told, self._list_states()
        return is_new or self._told != before

    def _list_states(self) -> list[object]:
        """What changes with no new file: runs come and go, and fall silent."""
        states = {name: run.state for name, run in self.runs.items()}
        return [self.names, self.opened, states, dict(self._errors)]

    def _find(self) -> None:
        try:
            found = find_runs(self.folder)
        except OSError:  # there is no such folder yet, or the disk is away
            found = []
        names = tuple(path.relative_to(self.folder).as_posix() for path in found)
        new = [name for name in names if name not in self.names]
        chosen = [name for name in self.chosen if name in names]
        self.names, self.chosen = names, (*chosen, *new[: max(0, BESIDE - len(chosen))])
        if len(names) == 1:
            self.opened = names[0]
        self._find_at = time.monotonic() + FIND_EVERY
