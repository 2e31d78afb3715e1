"""A run one can start, pause, step and turn knobs on while it trains, in one background thread.

No widgets and no drawing: the dashboard, a test and a script are callers alike. Its
steps take as many of the process's threads as their work is worth; see `core.sealed`.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

from dmtg_lite.core.checks import as_whole, check_kind
from dmtg_lite.core.config import NGroups, Restarts, TrainConfig, as_n_groups
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.record import Knobs
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.encoders import Own
from dmtg_lite.methods.recipe import settle_config
from dmtg_lite.runs.between import choose_validation
from dmtg_lite.runs.fit import Recorder, continue_steps, count_record_every, record_to_history
from dmtg_lite.runs.folder import RunFacts, State, check_knobs
from dmtg_lite.runs.folder_writer import describe_run
from dmtg_lite.runs.history import About, History
from dmtg_lite.runs.loggers import Log, Logger
from dmtg_lite.runs.result import MethodResult, Stopwatch, make_result
from dmtg_lite.runs.run import Run
from dmtg_lite.views.keeping import Keeper
from dmtg_lite.views.source import Knob, tell_turn

# of notebook 0: toy faces settle within a minute at the default speed
WATCHABLE = TrainConfig(
    encoder="toy", tau=1.0, lr=3e-3, lr_assignment=3e-2, pretrain=300, steps=900
)
SpareBranches = int | Literal["double"]
# in a folder: what only this process knows, that nobody has pressed Start, is a pause to others
_STATES: dict[str, State] = {
    "idle": "paused",
    "pretraining": "pretraining",
    "running": "running",
    "paused": "paused",
    "finished": "finished",
    "failed": "failed",
}
AT_REST = frozenset({"idle", "paused", "finished", "failed", "closed"})
_FLUSH_EVERY = 0.1  # seconds between transfers from device to history

_sessions: dict[str, LiveSession] = {}  # by name, so that a cell run again replaces its session


class _Reset(BaseException):
    """Leaves a run wherever it stands; no `except Exception` on the way may swallow it."""


class _Close(BaseException):
    """The same, for good."""


class LiveSession:
    """One DMTG run under remote control.

    Every method only leaves a command for the training thread and returns at once; commands act
    between two optimisation steps, in order. Making another session of the same name closes this
    one, so running a notebook cell twice leaves one training thread.

    Args:
        data: What to train on.
        n_groups: K; or ``"auto"``: as many branches as tasks, and one closes after another, until
            the costs say K. ``None``: 3, or as many as there are tasks.
        config: Spare branches are opened, and close while one watches. ``restarts`` is ignored: a
            live run is a single run. ``None``: the recipe for these data and K, which is printed.
        encoder: In place of the config's: a name, a module or a list of stages.
        name: Of the session, see above.
        steps_per_second: So that a class can watch; ``None``: as fast as the machine can.
        folder: Run folder (see `runs.folder`): the same call in another kernel goes on, paused,
            from the last checkpoint; others watch and steer from there; the result comes to lie
            there.
        checkpoint_every: Steps between checkpoints; there is one at each pause too.
        loggers: Functions that hear of records as they reach the history; see `runs.loggers`.

    Raises:
        ValueError: If the folder holds another run, or another process trains it.

    Attributes:
        pretrained: Naive MTL steps taken for this seed.
        pretraining: Step and mean task loss of Naive MTL, a few times a second: something to watch.
        state: ``idle``, ``pretraining``, ``running``, ``paused``, ``finished``, ``failed`` or
            ``closed``.
        error: Why it failed, for people; empty otherwise.
        history: The recorded steps; a new object after each reset.
        network: The network in training, or None before the first step. Touch it only at rest.
        knobs: Temperature and learning rate of S in use; see `turn`.
        listeners: Called with no argument, from the training thread, when anything above changed.
    """

    controls = tuple("start pause step reset n_groups spare seed speed tau lr_assignment".split())
    is_steerable = True

    def __init__(
        self,
        data: TaskData,
        n_groups: NGroups | None = None,
        *,
        config: TrainConfig | None = None,
        encoder: str | Own | None = None,
        name: str = "default",
        steps_per_second: float | None = 30.0,
        folder: str | Path | None = None,
        checkpoint_every: int = 500,
        loggers: Sequence[Logger] = (),
    ) -> None:
        check_kind("data", data, TaskData, "e.g. data.toy_faces()")
        n_groups = min(3, len(data.tasks)) if n_groups is None else as_n_groups(n_groups)
        config = settle_config(data, n_groups, config, encoder)
        Run(data, config, n_groups)  # complains here, not in the thread
        if previous := _sessions.pop(name, None):
            previous.close()
        self.data, self.config, self.name = data, config, name
        self.n_groups: NGroups = n_groups
        self.seed = config.seed
        asked = {"n_groups": n_groups, "seed": config.seed, "spare": config.spare.branches}
        self._keeper = Keeper(folder, data, checkpoint_every, asked)
        if found := self._keeper.find():  # perhaps reset since it was made
            self.n_groups, self.seed = as_n_groups(found["n_groups"]), found["seed"]
            self.config = _set_spare(config, found["config"]["spare"]["branches"])
        self._keeper.open(self._facts, self._take_note)
        self._log = Log(loggers, folder=folder)
        self.knobs = Knobs()
        self._used = self._keeper.watch.knobs  # by the last step; a turn acts between two
        self._first: Knobs | None = None  # used by step 1
        self._turns: list[str] = []  # since then, in words
        self.steps_per_second = steps_per_second
        self.state: str = "idle"
        self.error, self.pretrained = "", 0
        self.pretraining: list[tuple[int, float]] = []
        self.network: GroupedNetwork | None = None
        self._run: Run | None = None
        self._pretraining: TrainState | None = None  # where it has begun and is not done
        self._stopwatch = Stopwatch()
        self.history = self._new_history()
        self.listeners: set[Callable[[], None]] = set()
        self._pretrained: dict[int, TrainState] = {}  # by seed: kept, so that Reset is at once
        self._recorder: Recorder | None = None  # has the steps that are not yet in the history
        self._commands: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._changed = threading.Condition()
        self._waiting = 0  # commands given and not yet acted on
        self._credit: float = 0  # steps the loop may take: 0 paused, inf running
        self._due = self._flushed = 0.0  # next step not before, last flush at; time.monotonic()
        self._is_begun = threading.Event()  # what the folder holds is taken up
        self._thread = threading.Thread(target=self._loop, name="dmtg-train", daemon=True)
        _sessions[name] = self
        self._thread.start()
        self._is_begun.wait()

    def __repr__(self) -> str:
        return f"<{self.config_line}: {self.state}, {len(self.history)} steps>"

    @property
    def config_line(self) -> str:
        """The run as one line to paste, as it began; knobs turned on the way stand in a comment.

        Without such a comment, the line gives this run again, number by number.
        """
        line = f"methods.dmtg(data, n_groups={self.n_groups!r}, config={self._first_config()})"
        return f"{line}  # {', '.join(self._turns)}" if self._turns else line

    @property
    def n_steps(self) -> int:
        """Steps of a whole run, after pretraining."""
        return self.config.count_steps(len(self.data.train))[1]

    @property
    def configured(self) -> dict[str, Knob]:
        """Temperature and learning rate of S where no knob is turned."""
        config = self.config
        rate = config.lr if config.lr_assignment is None else config.lr_assignment
        return {"tau": config.tau, "lr_assignment": rate}

    # ------------------------------------------------------------------ for the caller's thread
    def start(self) -> None:
        """Train until paused or finished; pretrains first if this seed has not been."""
        self._command("start")

    def pause(self) -> None:
        """Stop after the step in progress."""
        self._command("pause")

    def step(self, n: int = 1) -> None:
        """Take exactly ``n`` steps and pause (after pretraining, if that is still to do)."""
        self._command("step", n=n)

    def reset(
        self,
        n_groups: NGroups | None = None,
        seed: int | None = None,
        spare_branches: SpareBranches | None = None,
    ) -> None:
        """Back to step 0, with another K, seed or setting of spare branches if given.

        Naive MTL weights of a seed are kept.

        Raises:
            ValueError: If ``n_groups`` is no K, ``seed`` < 0, or ``spare_branches`` is nothing that
                `Spare` takes.
        """
        if n_groups is not None:
            n_groups = as_n_groups(n_groups)
        if seed is not None:
            seed = as_whole("seed", seed, 0)
        if spare_branches is not None:
            _set_spare(self.config, spare_branches)
        self._command("reset", n_groups=n_groups, seed=seed, spare_branches=spare_branches)

    def turn(self, **knobs: float | None) -> None:
        """Turn ``tau`` or ``lr_assignment``; it acts at the next step and survives a reset.

        ``None`` follows the config again. The value used is recorded with each step.

        Raises:
            ValueError: If ``tau`` <= 0, ``lr_assignment`` < 0, or there is no such knob.
        """
        check_knobs(knobs)
        for name, value in knobs.items():
            setattr(self.knobs, name, None if value is None else float(value))
        self._tell()

    def close(self, timeout: float = 5.0) -> None:
        """End the training thread; the history stays readable."""
        self._command("close")
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        if _sessions.get(self.name) is self:
            del _sessions[self.name]

    def wait(self, timeout: float | None = None) -> str:
        """Block until every command given so far is done and the session rests; return the state.

        Not for a cell above a live view: it would keep the buttons waiting. Interrupting it
        pauses the run.

        Args:
            timeout: Seconds; after them the state is returned as it is, e.g. ``"running"``.
        """
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._waiting and self.state in AT_REST, timeout)
        except KeyboardInterrupt:
            self.pause()
            return self.wait(5.0)
        return self.state

    def result(self) -> MethodResult:
        """What `methods.dmtg` would have returned for this run, as it was steered.

        Raises:
            RuntimeError: If it is not finished.
        """
        if self.state != "finished" or self._run is None:
            raise RuntimeError(f"the live run is {self.state}: a result is there when it finished.")
        result = self._make_result(self._run)
        result.warn_unlearned()
        return result

    def _make_result(self, run: Run) -> MethodResult:
        return make_result(
            "dmtg",
            self.data,
            self._first_config(),
            run.network,
            self.history,
            encoder_macs=run.encoder_macs,
            stopwatch=self._stopwatch,
        )

    def run_if_headless(self, timeout: float = 600.0) -> None:
        """Train to the end and wait, if the environment variable DMTG_HEADLESS is set.

        For a notebook that is executed with nobody there to press Start.

        Raises:
            RuntimeError: If the run failed or did not end in time, so that the notebook fails too.
        """
        if not os.environ.get("DMTG_HEADLESS"):
            return
        self.steps_per_second = None
        self.start()
        if self.wait(timeout) != "finished":
            raise RuntimeError(
                f"the live run is {self.state} after {len(self.history)} steps. {self.error}"
            )

    # ------------------------------------------------------------------ in the training thread
    def _command(self, name: str, **arguments: Any) -> None:
        with self._changed:
            if self.state != "closed":
                self._waiting += 1
                self._commands.put((name, arguments))

    def _take_note(self, note: dict[str, Any]) -> None:
        """What a reader of the folder asks for, as if a button here had been pressed."""
        if "turn" in note:
            self.turn(**note["turn"])
        if command := note.get("command"):
            self._command(command, **({"n": note.get("n", 1)} if command == "step" else {}))

    def _facts(self) -> RunFacts:
        config = replace(self.config, seed=self.seed, restarts=Restarts())
        return describe_run(self.data, config, **Run(self.data, config, self.n_groups).facts)

    def _tell(self) -> None:
        if state := _STATES.get(self.state):
            self._keeper.watch.tell(state, self.pretrained, self.error)
        with self._changed:
            self._changed.notify_all()
        for listener in tuple(self.listeners):
            listener()

    def _first_config(self) -> TrainConfig:
        """The config of step 1; before it, with the knobs as they stand."""
        knobs = asdict(self._first or self.knobs).items()
        turned = {name: value for name, value in knobs if value is not None}
        return replace(self.config, seed=self.seed, restarts=Restarts(), **turned)

    def _take_knobs(self, step: int) -> None:
        """What the step is going to use; a change since the step before is noted."""
        wanted, before = asdict(self.knobs), asdict(self._used)
        asked = {name: value for name, value in wanted.items() if value != before[name]}
        self._keeper.watch.turn(step, asked)
        if step == 1:
            self._first = replace(self._used)
        for name, value in asdict(self._used).items():
            if step > 1 and value != before[name]:
                self._turns.append(tell_turn(name, value, step))
            if name not in asked:  # turned again as it was before a resume
                setattr(self.knobs, name, value)

    def _take_up_knobs(self, step: int) -> None:
        """Of a run that goes on after a step: how they stand, and how that came."""
        for turn in self._keeper.watch.turns:
            for name in turn.keys() & asdict(self.knobs).keys():
                if 1 < turn["step"] <= step:
                    self._turns.append(tell_turn(name, turn[name], turn["step"]))
                elif turn["step"] == 1:
                    self._first = replace(self._first or Knobs(), **{name: turn[name]})
        self.knobs = replace(self._used)
        self._first = self._first or Knobs()

    def _new_history(self) -> History:
        n_branches, _ = self.config.count_branches(self.n_groups, len(self.data.tasks))
        about = About(
            title=f"{self.data.name}, seed {self.seed}",
            method="DMTG",
            seed=self.seed,
            data=self.data.name,
            planted_groups=self.data.planted_groups,
        )
        return History(self.data.task_names, n_branches, about=about)

    def _loop(self) -> None:
        while True:
            try:
                try:
                    self._train()
                    self.state = "finished"
                except Exception as error:  # noqa: BLE001  shown to people instead of dying unseen
                    self.state, self.error = "failed", f"{type(error).__name__}: {error}"
                self._is_begun.set()
                self._credit = 0
                self._gate(None)
            except _Reset:
                continue
            except _Close:
                break
        try:
            self._flush()
            self._save()
            self._log.close()
            self._keeper.close()
        except Exception as error:  # noqa: BLE001  as above
            self.error = f"{type(error).__name__}: {error}"
        self._tell()

    def _train(self) -> None:
        data = self.data
        seed = derive_seed(self.seed, Stream.RESTART, 0)  # of the first restart of `methods.dmtg`
        run = self._run = Run(data, self.config, self.n_groups, seed=seed)
        run.history, self._pretraining = self.history, None
        state = self._take_up(run)
        self._tell()
        self._keeper.begin(self._facts, self.history, 0 if state is None else state.step)
        if state is not None:
            self._take_up_knobs(state.step)
        self._log.begin(self.history)
        self._is_begun.set()
        if state is None:
            if self.seed not in self._pretrained:
                self._gate("pretraining")
                self._pretrain(run)
            self._gate("running")
            state = run.start_training(self._pretrained[self.seed])
        self.network = state.network
        self._take_steps(run, state)
        self.history.about.groups = self.history.groups()
        if self._keeper.folder is not None:
            self._save()
            self._make_result(run).save(self._keeper.folder)
        self.history.about.config = self.config_line

    def _take_steps(self, run: Run, state: TrainState) -> None:
        looks = choose_validation(self.data, self.config, run.n_steps)
        steps = continue_steps(
            state, self.data, run.n_steps, knobs=self._used, validate_every=looks
        )
        self._recorder = recorder = Recorder(
            self.history, count_record_every(run.n_steps), self._keeper.watch
        )
        for step in range(state.step + 1, run.n_steps + 1):
            self._gate("running", cost=1)
            self._take_knobs(step)
            # before a pause that was asked for with Step, the record is always kept
            recorder.take(next(steps), is_kept=step == run.n_steps or not self._credit)
            self._keeper.watch.count(step)
            if self._keeper.is_due(step):
                self._flush()
                self._save()
        self._flush()

    def _take_up(self, run: Run) -> TrainState | None:
        """What the folder holds of this run, its pretraining, and its history; None where the
        training has not begun."""
        if self.seed not in self._pretrained and self._keeper.has(self._naive_name):
            state, scratch = run.start_pretraining(), History(self.data.task_names, 1)
            self._keeper.restore(self._naive_name, state, scratch, run.n_pretraining)
            self.pretrained, self._pretraining, self.state = state.step, state, "paused"
            if state.step == run.n_pretraining:
                self._pretrained[self.seed], self._pretraining = state, None
        if not self._keeper.has("main"):
            return None
        if not run.n_pretraining:
            self._pretrained[self.seed] = run.start_pretraining()
        state = run.start_training(self._pretrained[self.seed])
        self._keeper.restore("main", state, self.history, run.n_steps)
        self.state = "paused" if state.step < run.n_steps else "running"
        return state

    @property
    def _naive_name(self) -> str:
        return f"pretrain{self.seed}"

    def _save(self) -> None:
        """Keep the part that is being trained as it stands."""
        scratch, run = History(self.data.task_names, 1), self._run
        self._keeper.save(self._naive_name, self._pretraining, scratch)
        self._keeper.save("main", run and run.state, self.history)

    def _pretrain(self, run: Run) -> None:
        state, record = self._pretraining or run.start_pretraining(), None
        self._pretraining = state
        for record in continue_steps(state, self.data, run.n_pretraining):
            self.pretrained = record.step
            if time.monotonic() - self._flushed > _FLUSH_EVERY:  # no transfer at every step
                self.pretraining.append((record.step, float(record.task_losses.mean())))
            if self._keeper.is_due(record.step):
                self._save()
            self._gate("pretraining")
        if record is not None:  # raises here if the loss has stopped being finite
            record_to_history(History(self.data.task_names, 1), [record])
        self._save()
        self._pretrained[self.seed], self._pretraining = state, None

    def _gate(self, active: str | None, *, cost: int = 0) -> None:
        """Return when the loop may go on as ``active``; commands act here and nowhere else."""
        while True:
            now = time.monotonic()
            if not self._credit:
                if active:
                    self._flush()
                    self._save()
                if self.state in ("pretraining", "running"):
                    self.state = "paused"
                self._tell()
            elif now - self._flushed > _FLUSH_EVERY:
                self._flush()
                self._tell()
            wait = self._due - now if cost and self._credit == inf else 0
            try:
                command = self._commands.get(timeout=max(0, wait) if self._credit else None)
            except queue.Empty:
                if active and self.state != active:
                    self.state = active
                    self._tell()
                if cost and self.steps_per_second:
                    self._due = time.monotonic() + 1 / self.steps_per_second
                self._credit -= cost
                return
            with self._changed:  # one piece: nobody sees the command gone and the state as before
                self._waiting -= 1
                self._obey(active, *command)

    def _obey(self, active: str | None, name: str, arguments: dict[str, Any]) -> None:
        if name == "close":
            self.state = "closed"
            raise _Close
        if name == "reset":
            self.n_groups = arguments["n_groups"] or self.n_groups
            self.seed = self.seed if arguments["seed"] is None else arguments["seed"]
            if arguments["spare_branches"] is not None:
                self.config = _set_spare(self.config, arguments["spare_branches"])
            self.history, self.network, self._recorder = self._new_history(), None, None
            self._first, self._turns = None, []
            self._keeper.forget()
            self.state, self.error, self.pretrained, self._credit = "idle", "", 0, 0
            self.pretraining = []
            raise _Reset
        if active is None:  # finished or failed: only the two above lead on
            return
        if name == "pause":
            self._credit = 0
        elif name == "start":
            self._credit = inf
        elif name == "step":
            self._credit = arguments["n"] + (0 if self._credit == inf else self._credit)
        if self._credit:
            self.state = active

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if self._recorder is not None:
            self._recorder.flush()
        if self._run and self._run.state:
            self._log.tell(self.history, self._run.state.encoder_macs)


def _set_spare(config: TrainConfig, branches: SpareBranches) -> TrainConfig:
    return replace(config, spare=replace(config.spare, branches=branches))


def close_all() -> None:
    """Close every session: called at exit, since a thread inside torch must not outlive it."""
    for session in tuple(_sessions.values()):
        session.close()


atexit.register(close_all)
