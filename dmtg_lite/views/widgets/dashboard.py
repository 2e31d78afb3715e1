"""The dashboard: watch a run while it trains, here or elsewhere, turn its knobs, replay it.

One painter thread is the only writer of widgets; what a person does only leaves a value or a
command and wakes it. It paints at most 5 times a second and always the newest state, because a
browser that is sent more than it can draw falls behind for minutes.
"""

from __future__ import annotations

import atexit
import html
import os
import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import ipywidgets as widgets
from comm import DummyComm

from dmtg_lite.runs.history import History
from dmtg_lite.views.follow import FollowedRun
from dmtg_lite.views.plots import MATRICES, compute_matrix
from dmtg_lite.views.plots.curves import pace
from dmtg_lite.views.plots.matrix import compute_loss_range, compute_movement, find_changed
from dmtg_lite.views.source import Knob, Recorded, Source, Steered
from dmtg_lite.views.widgets.anywidgets import (
    Curves,
    HeadGraph,
    Matrix,
    Present,
    Runs,
    Slider,
    Status,
    Triangle,
)
from dmtg_lite.views.widgets.shown import Shown, draw_table
from dmtg_lite.views.widgets.words import WORDS, draw_help

if TYPE_CHECKING:  # a recorded run is shown without torch
    from dmtg_lite.views.live import LiveSession

CHOICES = {  # few and log-spaced: a class can compare notes
    "tau": (0.1, 0.25, 0.5, 1.0, 2.5, 4.0, 10.0),
    "lr_assignment": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
}
UNSET = 0.0  # full speed, or a knob that follows the config: a list cannot have None chosen
SPEEDS = {f"{n} steps/s": float(n) for n in (2, 10, 30, 100)} | {"full speed": UNSET}
SPARE = {"none": 0, "as many as K": "double"}
PAINT_EVERY = 0.2  # seconds
ANSWER_WITHIN = 1.0  # seconds that a frame may take in the browser before another is sent
BEAT_EVERY = 2.5  # seconds; a view that hears none for 12 says that the kernel is gone
RENEW_STILL_EVERY = 10.0  # seconds, and whenever the run comes to rest
LABELS = {"seed": "the seed", "task": "the task of the curves"}  # where its own is no name
STEERING = ("start", "pause", "step", *CHOICES)  # what somebody must be there to act on
COMMANDS = "start pause step reset n_groups spare seed speed".split()
PICTURES = "matrix task play scrub head_graph triangle figure present help config_line runs".split()
CONTROLS = (*COMMANDS, *CHOICES, *PICTURES)
FILM_FRAMES = 60  # of "Play the past": twelve seconds, more of them where rows move
COMPARE_EVERY = 1.0  # seconds between pictures of several runs

STILL_WORDS = (
    "A still picture, saved with the notebook. For the live view run this cell again; "
    "if the kernel still has the session, <code>Dashboard(session)</code> in a new cell."
)


def check_hidden(hide: Sequence[str]) -> None:
    if unknown := sorted(set(hide) - set(CONTROLS)):
        raise ValueError(f"`hide` names unknown controls {unknown}; there are {CONTROLS}.")


class Dashboard(Shown):
    """Head graph, matrix and curves of a run, with its controls; show it as a cell's last line.

    Every control is an attribute (``dashboard.start``, ``dashboard.tau``, ...), so a test or a
    script can use it without a browser. Another dashboard of the same name takes this one's place.

    Args:
        source: A `LiveSession` to steer, or a `History` to replay: then commands and knobs are not
            there. For a run that trains elsewhere see `follow`.
        hide: Controls to leave out, by attribute name, e.g. ``("seed", "lr_assignment")``.
        name: Of the dashboard, see above.

    Raises:
        ValueError: If ``hide`` names an unknown control.
    """

    def __init__(
        self, source: Steered | History, *, hide: Sequence[str] = (), name: str = "default"
    ) -> None:
        hide = (hide,) if isinstance(hide, str) else tuple(hide)
        hide += tuple(filter(None, os.environ.get("DMTG_HIDE", "").split(",")))  # a lecture's
        check_hidden(hide)
        super().__init__(name)
        self._has_help = "help" not in hide
        self.session = None if isinstance(source, History) else source
        self.source: Source = Recorded(source) if isinstance(source, History) else source
        self._painted: History | None = None
        self._shown, self._following = 0, True  # the record in view; whether it is the newest one
        self._written = 0  # by the painter into the slider
        self._film: list[int] = []  # records still to play
        self._error, self._beaten, self._renewed, self._compared = "", -inf, -inf, -inf
        self._wake, self._closed = threading.Event(), threading.Event()
        self._is_meeting = False  # the knobs are set to what is, and not turned
        if self.session is not None:
            self.session.run_if_headless()
            self._make_commands(self.session)
            self._make_knobs(self.session)
        if "reset" in self.source.controls:
            self._make_structure(cast("LiveSession", source))
        self._followed = source if isinstance(source, FollowedRun) else None
        if self._followed:
            self._make_runs(self._followed)
        self.source.listeners.add(self._wake.set)
        self._make_views(has_choice="matrix" not in hide)
        whole = self._lay_out(hide)
        self._paint()
        self._thread = threading.Thread(target=self._paint_forever, name="dmtg-paint", daemon=True)
        self._show(whole)
        atexit.register(self.stop)  # a painter that outlives the interpreter takes it down
        self._thread.start()

    @classmethod
    def follow(
        cls, folder: str | Path, *, hide: Sequence[str] = (), name: str = "default"
    ) -> Dashboard:
        """The dashboard of a run that trains elsewhere, from the folder it lives in.

        It shows what `dmtg-lite train`, a method or a live session of another process, or of
        another machine on a shared disk, has written a second ago. Commands and knobs reach that
        run as notes in its folder. When the run is over, this is its replay.

        Args:
            folder: Of one run, or of several: then they are there side by side, and a click opens
                one. There may be none yet.
            hide, name: As for the dashboard itself.
        """
        source = FollowedRun(folder)
        dashboard = cls(source, hide=hide, name=name)
        dashboard._undo.append(source.close)
        return dashboard

    @property
    def history(self) -> History:
        """The run in view."""
        return self.source.history

    def __repr__(self) -> str:
        return f"<Dashboard: {self.state.value}, {html.unescape(self.numbers.value)}>"

    def draw_still(self) -> str:
        """State, numbers and matrix of the picture painted last."""
        words = f"<b>{html.escape(self.state.value)}</b> &middot; {self.numbers.value}"
        table = draw_table(self.matrix.shown) if self.head_graph.tasks else ""
        return f"<p>{words}</p>{table}<p><small>{STILL_WORDS}</small></p>"

    def stop(self) -> None:
        """End the painter; a session trains on, and the view stays as it is."""
        super().stop()
        atexit.unregister(self.stop)
        self._closed.set()
        self._wake.set()
        self.source.listeners.discard(self._wake.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    # ------------------------------------------------------------------ made once
    def _on(self, widget: Any, act: Callable[[Any], object] = lambda _: None) -> Any:
        """The widget, which from now on acts at a click or on a new value, and wakes the painter.

        What people do only leaves a value or a command; an error is shown, not lost in a log.
        """

        def guarded(change: Any) -> None:
            try:
                self._error = ""
                act(change["new"] if isinstance(change, dict) else None)
            except Exception as error:  # noqa: BLE001  would vanish in the browser's log otherwise
                self._error = str(error)
            self._wake.set()

        if isinstance(widget, widgets.Button):
            self._on_click(widget, guarded)
        else:
            self._observe(widget, guarded)
        return widget

    def _button(self, text: str, icon: str, tooltip: str, act: Callable[[Any], object]) -> Any:
        layout = {"width": "auto", "min_width": "84px"}
        words = {"description": text, "icon": icon, "tooltip": tooltip}
        return self._on(self._make(text, widgets.Button, layout=layout, **words), act)

    def _make_commands(self, session: Steered) -> None:
        def start(_: object) -> None:
            self._following = True
            if session.state in ("finished", "failed"):
                self.reset.click()
            session.start()

        def step(_: object) -> None:
            self._following = True
            session.step()

        again = "; after a finished run: reset, train" if "reset" in session.controls else ""
        self.start = self._button("Start", "play", f"train{again}", start)
        self.start.button_style = "success"
        self.pause = self._button(
            "Pause", "pause", "after the step in progress", lambda _: session.pause()
        )
        self.step = self._button("Step", "step-forward", "exactly one training step", step)

    def _make_knobs(self, session: Steered) -> None:
        """The two that act at the next step."""

        def turn(**knobs: float | None) -> None:
            if not self._is_meeting:
                session.turn(**knobs)

        self.tau = self._on(
            self._slider("tau", "temperature tau", **_choice("tau", session.configured)),
            lambda value: turn(tau=value or None),
        )
        self.lr_assignment = self._on(
            self._slider(
                "lr_assignment",
                "learning rate of S",
                **_choice("lr_assignment", session.configured),
            ),
            lambda value: turn(lr_assignment=value or None),
        )

    def _slider(self, name: str, description: str, **traits: Any) -> Any:
        words = {"description": description, "help": WORDS[name] if self._has_help else ""}
        return self._make(name, Slider, **words, **traits)

    def _make_structure(self, session: LiveSession) -> None:
        """What acts at Reset, and the speed: of a run that trains in this process."""

        def reset(_: object) -> None:
            session.reset(self.n_groups.newest, self.seed.value, self.spare.value)

        config, k = session.config, session.n_groups
        self.reset = self._button(
            "Reset", "undo", "to step 0, with the K, spare and seed chosen", reset
        )
        most = max(8, k) if isinstance(k, int) else 8
        options = [("auto", "auto"), *((str(n), n) for n in range(1, most + 1))]
        self.n_groups = self._slider("n_groups", "at Reset: groups K", options=options, value=k)
        spare, wide = config.spare.branches, _labelled("spare branches", "215px")
        wide["tooltip"] = "branches opened beyond K and closed while training; acts at Reset"
        spares = SPARE if spare in SPARE.values() else {**SPARE, str(spare): spare}
        self.spare = self._make("spare", widgets.Dropdown, options=spares, value=spare, **wide)
        limits = {"max": 2**31 - 1, "min": 0, "value": session.seed}
        self.seed = self._make(
            "seed", widgets.BoundedIntText, **limits, **_labelled("seed", "110px")
        )
        speed, wide = session.steps_per_second or UNSET, _labelled("speed", "160px")
        speeds = SPEEDS if speed in SPEEDS.values() else {f"{speed:g} steps/s": speed, **SPEEDS}
        self.speed = self._on(
            self._make("speed", widgets.Dropdown, options=speeds, value=speed, **wide),
            lambda value: setattr(session, "steps_per_second", value or None),
        )

    def _make_runs(self, source: FollowedRun) -> None:
        """Side by side, where there are several in the folder."""
        self.runs = self._make("runs", Runs, names=[], chosen=[], opened="", shown={})

        def again(_: object) -> None:
            self._compared = -inf
            self._wake.set()

        self._observe(self.runs, lambda change: source.choose(change["new"]), "chosen")
        self._observe(self.runs, lambda change: source.open(change["new"]), "opened")
        for name in ("chosen", "opened", "what"):
            self._observe(self.runs, again, name)

    def _make_views(self, has_choice: bool) -> None:
        """What chooses the record, the pictures of it, and the words around them; see `_meet`."""
        traits = {"value": MATRICES[0], "has_choice": has_choice, "sorted": True, "arrows": False}
        self.matrix = self._on(self._make("matrix", Matrix, **traits))
        for name in ("sorted", "arrows"):
            self._observe(self.matrix, lambda _: self._wake.set(), name)
        self.task = self._on(self._make("task", widgets.Dropdown, **_labelled("curves of", "auto")))
        wide = {"description": "Play the past", "layout": {"width": "auto"}, "icon": "film"}
        self.play = self._make("play", widgets.ToggleButton, value=False, **wide)
        self._on(self.play, self._on_play)
        self.scrub = self._slider("scrub", "scrub", max=1, value=0)
        self._on(self.scrub, self._on_scrub)
        self.present, self.triangle = (
            self._make("present", Present),
            self._make("triangle", Triangle),
        )
        self.state = self._make("state", Status, still=self._still)
        self.numbers, self.error, self.config_line = (
            self._make(role, widgets.HTML) for role in ("numbers", "error", "config_line")
        )
        self.head_graph = self._make("head_graph", HeadGraph, pruned=False)
        self.curves = self._make("curves", Curves)
        if not self._has_help:
            for picture in (self.matrix, self.head_graph, self.triangle, self.curves, self.present):
                picture.help = ""
            self.matrix.help_sorted = self.matrix.help_arrows = ""
        self._observe(self.curves, self._on_drawn, "drawn")
        self._sent = -inf  # when the frame went out that the browser has not answered yet

    def _lay_out(self, hide: tuple[str, ...]) -> widgets.VBox:
        """Controls in two rows, words, pictures, time: the style sheet says how wide and high."""
        hide = tuple(name for name in hide if name != "matrix")  # it says itself what it offers
        hide += ("triangle", "task", "curves") if "figure" in hide else ()

        def box(role: str, *names: str, kind: Any = widgets.Box) -> Any:
            parts = [self._with_help(name) for name in names if name not in hide]
            children = [part for pair in parts for part in pair]
            return self._make(f"box of {role}", kind, children=children).add_class(f"dmtg-{role}")

        commands = self.source.controls
        first = [name for name in commands if name in STEERING or name == "reset"]
        second = [name for name in commands if name not in first]
        above = [self.runs] if self._followed and "runs" not in hide else []
        rows = [box(f"controls-{n}", *row) for n, row in enumerate((first, second)) if row]
        for row in rows:
            row.add_class("dmtg-row")
        self.matrix.add_class("dmtg-matrix")
        graph = box("graph", "head_graph", "triangle", kind=widgets.VBox)
        figure = box("figure", "task", "curves", kind=widgets.VBox)
        pictures = box("pictures", *(() if "figure" in hide else ("matrix",)))
        pictures.children += (graph, figure)
        words = [box("words", "state", "numbers", "present").add_class("dmtg-row"), self.error]
        below = [pictures, box("time", "play", "scrub").add_class("dmtg-row")]
        below += [] if "config_line" in hide else [self.config_line]
        self._of_run = [*rows, *below]  # not there as long as there is no run
        whole = self._make("all", widgets.VBox, children=[*above, *rows, *words, *below])
        return whole.add_class("dmtg-dashboard")

    def _with_help(self, name: str) -> tuple[Any, ...]:
        """The control, and a "?" beside it where it does not draw one itself."""
        control = getattr(self, name)
        if not self._has_help or name not in WORDS or hasattr(control, "help"):
            return (control,)
        label = LABELS.get(name, control.description or name)
        ask = self._make(f"help {name}", widgets.HTML, value=draw_help(name, label, self._still))
        return control, ask.add_class("dmtg-help")

    # ------------------------------------------------------------------ scrubbing
    def _on_scrub(self, index: int) -> None:
        if index == self._written:  # the painter, and nobody who scrubs
            return
        self._shown, self._following = index, index >= len(self.history) - 1

    def _on_play(self, playing: bool) -> None:
        self._film = []
        if playing:
            start = 0 if self._following or self._shown >= len(self.history) - 1 else self._shown
            film = pace(self.history, FILM_FRAMES).tolist()
            self._film = [row for row in film if row >= start]
        self._following = False

    # ------------------------------------------------------------------ painting
    def _paint_forever(self) -> None:
        while True:
            is_due = self._wake.wait(BEAT_EVERY)
            if self._closed.is_set():
                return
            self._wake.clear()
            started = time.monotonic()
            try:
                self._beat(started)
                if not is_due:
                    continue
                if time.monotonic() - self._sent < ANSWER_WITHIN:  # a busy browser: when it asks
                    self._wake.set()
                else:
                    self._advance()
                    self._paint()
            except Exception as error:  # noqa: BLE001  a thread's traceback is seen by nobody
                self.error.value = _alert(f"drawing failed: {type(error).__name__}: {error}")
            self._closed.wait(max(0.02, PAINT_EVERY - (time.monotonic() - started)))

    def _advance(self) -> None:
        """Play the past: a dozen seconds for a whole run, most of them where rows move."""
        if not self.play.value:
            return
        if self._film:
            self._shown = self._film.pop(0)
        if not self._film:
            self.play.value = False
        self._wake.set()

    def _on_drawn(self, _change: object) -> None:
        self._sent = -inf

    def _beat(self, now: float) -> None:
        if now - self._beaten >= BEAT_EVERY:
            self._beaten, self.state.beat = now, self.state.beat + 1

    def _meet(self, history: History) -> None:
        """Another run than before, or the same one from its beginning: what is said of it once."""
        names = history.task_names
        if self._painted is None or self.task.options != tuple(names):
            self.task.options = self.head_graph.tasks = names
            self.task.value = names[0] if names else None
        self._painted, self._following = history, True
        self.matrix.has_losses = history.has_loss_matrices
        if self.session is None:
            return
        self._is_meeting = True
        for name, configured in self.session.configured.items():
            knob, now = getattr(self, name), getattr(self.session.knobs, name)
            traits = _choice(name, {name: configured}, now)
            knob.options, knob.value = traits["options"], traits["value"]
        self._is_meeting = False

    def _paint(self) -> None:
        history, source = self.history, self.source
        if history is not self._painted:
            self._meet(history)
        last = max(len(history) - 1, 0)
        if self._following:
            self._shown = last
        index = min(self._shown, last)
        # the range is the whole run's from the start: a browser clamps a value to the old range
        self.scrub.max = max(_count_records(history, source.n_steps) - 1, 1)
        self.scrub.text = f"step {history.steps[index]}" if len(history) else "no step yet"
        self._written = self.scrub.value = index
        for part in self._of_run:
            part.layout.display = None if history.task_names else "none"
        if history.task_names:
            self._paint_pictures(history, index)
        if self._followed:
            self._paint_runs(self._followed)
        self._paint_words(history, index)
        moving = source.state in ("running", "pretraining") or self.play.value
        if not moving or time.monotonic() - self._renewed > RENEW_STILL_EVERY:
            self._renewed = time.monotonic()
            self._renew_still()

    def _paint_pictures(self, history: History, index: int) -> None:
        choice, closed = self.matrix.value, history.closed_branches(index)
        weights = compute_matrix(history, index, "E[Z]" if choice == "E[Z]" else "probabilities")
        is_over = history.about.groups is not None and index == max(len(history) - 1, 0)
        self.head_graph.sorted = self.matrix.sorted
        self.head_graph.show(weights, closed, is_over)
        numbers, most = weights, None
        if choice == "loss":
            numbers, most = compute_matrix(history, index, choice), compute_loss_range(history)
        self.matrix.show(
            numbers,
            history.task_names,
            closed,
            title=f"{choice} · step {history.steps[index] if len(history) else 0}",
            loss_range=most,
            weights=weights,
            changed=find_changed(history, index),
            movement=compute_movement(history, index) if self.matrix.arrows else None,
        )
        self.triangle.layout.display = None if history.n_groups == 3 else "none"
        if history.n_groups == 3:
            self.triangle.show(history, index, self.task.value)
        source = self.source
        is_new = self.curves.show(
            history, index, self.task.value, source.n_steps, source.pretraining
        )
        if is_new and not isinstance(self.curves.comm, DummyComm):  # without a browser none answers
            self._sent = time.monotonic()

    def _paint_runs(self, source: FollowedRun) -> None:
        """Several runs side by side, less often than the one that is opened."""
        if time.monotonic() - self._compared < COMPARE_EVERY:
            self._wake.set()
            return
        self._compared = time.monotonic()
        if self.runs.names != list(source.names):
            self.runs.names, self.runs.chosen = list(source.names), list(source.chosen)
        self.runs.layout.display = None if len(source.names) > 1 else "none"
        if len(source.names) < 2:
            return
        self.runs.opened = source.opened
        runs = {name: source.runs[name] for name in source.chosen if name in source.runs}
        histories = {name: run.history for name, run in runs.items()}
        words = {name: f"{run.state}, step {run.step:,}" for name, run in runs.items()}
        self.runs.show(
            histories, words, max((run.run["n_steps"] for run in runs.values()), default=1)
        )

    def _paint_words(self, history: History, index: int) -> None:
        source = self.source
        state, error = source.state, self._error or source.error
        has_run = bool(history.task_names)
        numbers = _describe(history, index, source.n_groups) if has_run else ""
        if state == "pretraining":  # the number is not in the state, which is spoken
            state, numbers = "pretraining Naive MTL", f"step {source.pretrained} &middot; {numbers}"
        self.state.value = state
        if self._followed and has_run and len(self._followed.names) > 1:
            numbers = f"<b>{html.escape(self._followed.opened)}</b> &middot; {numbers}"
        self.numbers.value = numbers
        for name in {*STEERING} & {*source.controls}:
            getattr(self, name).disabled = not source.is_steerable
        self.error.value = _alert(error) if error else ""
        hint = 'title="the run as one line: click and copy" style="user-select:all"'
        self.config_line.value = f"<code {hint}>{html.escape(source.config_line)}</code>"


def _count_records(history: History, n_steps: int | None) -> int:
    """As many as a whole run will have: of a long one every so manieth step is kept."""
    if n_steps is None or history.about.groups is not None:
        return len(history)
    every = int(history.steps[1] - history.steps[0]) if len(history) > 1 else 1
    return max(len(history), n_steps // max(every, 1))


def _labelled(description: str, width: str) -> dict[str, Any]:
    style = {"description_width": "initial"}
    return {"description": description, "layout": {"width": width}, "style": style}


def _choice(name: str, configured: dict[str, Knob], now: float | None = None) -> dict[str, Any]:
    """Options and value of a few log-spaced numbers and the configured one, perhaps a schedule.

    ``now`` is where the knob stands; None: as configured.
    """
    value, numbers = configured[name], {*CHOICES[name]} | ({now} if now is not None else set())
    if isinstance(value, tuple):
        options = [(f"{value[0]:g} to {value[1]:g}", UNSET)]
        value = UNSET
    else:
        options, numbers = [], numbers | {float(value)}
    options += [(f"{v:g}", v) for v in sorted(numbers)]
    return {"options": options, "value": float(value if now is None else now)}


def _alert(text: str) -> str:
    style = "border-left:6px solid #D55E00;padding-left:8px;font-weight:600"
    return f'<div role="alert" style="{style}">&#9888; {html.escape(text)}</div>'


def _describe(history: History, index: int, n_groups: int | Literal["auto"] | None) -> str:
    """Step, temperature, tasks settled; branches open, where spare ones were opened."""
    facts = ["no groups yet"]  # idle, or pretraining
    if len(history):
        settled = int((history.probabilities[index].max(-1) > 0.9).sum())
        facts = [
            f"step {history.steps[index]} of {history.steps[-1]}",
            f"tau {history.tau[index]:.3g}",
            f"{settled} of {history.n_tasks} tasks settled (p > 0.9)",
        ]
    closed = history.closed_branches(index)
    is_wider = n_groups == "auto" or history.n_groups > (n_groups or history.n_groups)
    if closed or history.closings or is_wider:
        said = f" ({history.elbow['n_groups']})" if n_groups == "auto" and history.elbow else ""
        k = "" if n_groups is None else f"K={n_groups}{said}, "
        facts.append(f"{k}{history.n_groups - len(closed)} of {history.n_groups} branches open")
    facts += _count_costs(history, index)
    planted = history.about.planted_groups
    if planted and history.about.groups is not None and index == len(history) - 1:
        found = {frozenset(g) for g in history.groups()} & {frozenset(g) for g in planted}
        facts.append(f"{len(found)} of {len(planted)} planted groups found")
    return html.escape(" · ".join(facts))


def _count_costs(history: History, index: int) -> list[str]:
    """Two numbers: heads alive, and what the encoders cost beside the one of Naive MTL."""
    if not len(history):
        return []
    alive = history.probabilities[index] > 0  # (N, K)
    facts = [f"{alive.sum()} of {alive.size} heads alive"]
    about = history.about
    if about.encoder_cost is not None and index == len(history) - 1:
        return [*facts, f"encoder cost {about.encoder_cost:.2f}"]
    return [*facts, f"{alive.any(0).sum()} encoders a step, Naive MTL 1"]
