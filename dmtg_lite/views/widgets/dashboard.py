"""The dashboard: watch a run while it trains and turn its knobs, or replay a recorded one.

One painter thread is the only writer of widgets; what a person does only leaves a value or a
command and wakes it. It paints at most 5 times a second and always the newest state, because a
browser that is sent more than it can draw falls behind for minutes.
"""

from __future__ import annotations

import atexit
import html
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from comm import DummyComm

from dmtg_lite.runs.history import History
from dmtg_lite.views.plots import compute_weights, make_dashboard, update_dashboard
from dmtg_lite.views.widgets.head_graph import HeadGraph

if TYPE_CHECKING:  # a recorded run is shown without torch
    from dmtg_lite.views.live import LiveSession

TAUS = (0.1, 0.25, 0.5, 1.0, 2.5, 4.0, 10.0)  # few and log-spaced: a class can compare notes
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
FULL_SPEED = 0.0  # a list cannot have None chosen
SPEEDS = {f"{n} steps/s": float(n) for n in (2, 10, 30, 100)} | {"full speed": FULL_SPEED}
PAINT_EVERY = 0.2  # seconds
SPARE = {"none": 0, "as many as K": "double"}
CONTROLS = (
    "start", "pause", "step", "reset", "n_groups", "spare", "seed", "speed", "tau", "lr_assignment",
    "weights", "task", "play", "scrub", "head_graph", "figure", "config_line",
)  # fmt: skip

_dashboards: dict[str, Dashboard] = {}  # by name, so that a cell run again replaces its dashboard


class Dashboard:
    """Head graph, heat map and curves of a run, with its controls; show it as a cell's last line.

    Every control is an attribute (``dashboard.start``, ``dashboard.tau``, ...), so a test or a
    script can use it without a browser. Another dashboard of the same name closes this one.

    Args:
        source: A `LiveSession` to steer, or a `History` to replay (then only play and scrub
            remain).
        hide: Controls to leave out, by attribute name, e.g. ``("seed", "lr_assignment")``.
        name: Of the dashboard, see above.

    Raises:
        ValueError: If ``hide`` names an unknown control.
    """

    def __init__(
        self, source: LiveSession | History, *, hide: Sequence[str] = (), name: str = "default"
    ) -> None:
        hide = (hide,) if isinstance(hide, str) else tuple(hide)
        if unknown := sorted(set(hide) - set(CONTROLS)):
            raise ValueError(f"`hide` names unknown controls {unknown}; there are {CONTROLS}.")
        if previous := _dashboards.pop(name, None):
            previous.close()
        self.name = name
        self.session = None if isinstance(source, History) else source
        self._recorded = source if isinstance(source, History) else None
        self._painted: History | None = None
        self._shown = 0  # record shown when not following
        self._following = True  # show the newest record
        self._written: deque[int] = deque(
            [0], maxlen=20
        )  # what the painter wrote into the scrub slider
        self._error = ""
        self._wake, self._closed = threading.Event(), threading.Event()
        if self.session is not None:
            self.session.run_if_headless()
        self._make_widgets(self.history)
        self.widget = self._lay_out(hide)
        self._connect()
        if self.session is not None:
            self.session.listeners.add(self._wake.set)
        self._paint()
        self._thread = threading.Thread(target=self._paint_forever, name="dmtg-paint", daemon=True)
        _dashboards[name] = self
        self._thread.start()

    @property
    def history(self) -> History:
        """The run in view."""
        return self.session.history if self.session is not None else self._recorded

    def _repr_mimebundle_(self, **arguments: Any) -> Any:
        return self.widget._repr_mimebundle_(**arguments)

    def close(self) -> None:
        """End the painter and remove the widgets; a session trains on."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._wake.set()
        if self.session is not None:
            self.session.listeners.discard(self._wake.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)
        todo: list[widgets.Widget] = [self.widget]
        while todo:
            widget = todo.pop()
            todo += getattr(widget, "children", ())
            widget.close()
        if _dashboards.get(self.name) is self:
            del _dashboards[self.name]

    # ------------------------------------------------------------------ made once
    def _make_widgets(self, history: History) -> None:
        def button(text: str, icon: str, tooltip: str, **more: Any) -> widgets.Button:
            layout = widgets.Layout(width="auto", min_width="84px")
            return widgets.Button(
                description=text, icon=icon, tooltip=tooltip, layout=layout, **more
            )

        def wide(description: str, width: str) -> dict[str, Any]:
            style = {"description_width": "initial"}
            return {
                "description": description,
                "style": style,
                "layout": widgets.Layout(width=width),
            }

        config = getattr(self.session, "config", None)
        self.start = button(
            "Start", "play", "train; after a finished run: reset and train", button_style="success"
        )
        self.pause = button("Pause", "pause", "stop after the step in progress")
        self.step = button("Step", "step-forward", "exactly one training step")
        self.reset = button(
            "Reset", "undo", "back to step 0, with the K, spare branches and seed chosen here"
        )
        n_groups = getattr(self.session, "n_groups", history.n_groups)
        self.n_groups = widgets.IntSlider(
            n_groups,
            1,
            max(8, n_groups),
            continuous_update=False,
            **wide("at Reset: groups K", "272px"),
        )
        spare = config.spare.branches if config is not None else 0
        self.spare = widgets.Dropdown(
            options={**SPARE, **({} if spare in SPARE.values() else {str(spare): spare})},
            value=spare,
            tooltip="branches opened beyond K and closed while training; acts at Reset",
            **wide("spare branches", "222px"),
        )
        self.seed = widgets.BoundedIntText(
            getattr(self.session, "seed", 0), 0, 2**31 - 1, **wide("seed", "110px")
        )
        speed = getattr(self.session, "steps_per_second", None) or FULL_SPEED
        speeds = SPEEDS if speed in SPEEDS.values() else {f"{speed:g} steps/s": speed, **SPEEDS}
        self.speed = widgets.Dropdown(options=speeds, value=speed, **wide("speed", "170px"))
        self.tau = _choice(getattr(config, "tau", 1.0), TAUS, **wide("temperature tau", "330px"))
        rate = getattr(config, "lr_assignment", None)
        rate = getattr(config, "lr", 0.03) if rate is None else rate
        self.lr_assignment = _choice(rate, RATES, **wide("learning rate of S", "330px"))
        self.weights = widgets.ToggleButtons(
            options=[("softmax(S)", "softmax(S)"), ("mean E[Z]", "E[Z]")],
            tooltips=[
                "which group wins a draw",
                "what a task really sends to each branch at this tau",
            ],
            style={"button_width": "100px"},
            layout=widgets.Layout(width="224px"),
        )
        self.task = widgets.Dropdown(options=history.task_names, **wide("curves of", "240px"))
        self.play = widgets.ToggleButton(
            description="Play the past", icon="film", layout=widgets.Layout(width="140px")
        )
        # The range is that of the whole run from the start: a browser clamps a value to the old
        # range.
        n_records = len(history) if self.session is None else self.session.n_steps
        self.scrub = widgets.IntSlider(
            0,
            0,
            max(n_records - 1, 1),
            description="scrub",
            readout=False,
            layout=widgets.Layout(flex="1 1 300px"),
            style={"description_width": "initial"},
        )
        self.state = widgets.HTML()
        self.numbers = widgets.HTML()
        self.error = widgets.HTML()
        self.config_line = widgets.HTML()
        self.head_graph = HeadGraph(tasks=history.task_names, layout=widgets.Layout(width="100%"))
        figure = make_dashboard(max(history.n_groups, 2 * self.n_groups.max if self.session else 0))
        self._update_figure(
            figure, len(history) - 1
        )  # filled before it travels: nothing to catch up
        self.figure = go.FigureWidget(figure)
        # A figure forgets what reaches it before its first drawing and complains of what comes
        # after its last, so updates wait for the browser's word. Without a browser (a script, a
        # test) nothing waits.
        self._drawn = isinstance(self.figure.comm, DummyComm)
        self._patience = time.monotonic() + 20.0
        self.figure.observe(self._on_drawn, names="_js2py_traceDeltas")
        self.figure.observe(self._on_views, names="_view_count")
        self.figure._config = {**self.figure._config, "responsive": True, "displaylogo": False}

    def _lay_out(self, hide: tuple[str, ...]) -> widgets.VBox:
        def flow(children: list[widgets.Widget]) -> widgets.Box:
            layout = widgets.Layout(
                flex_flow="row wrap", align_items="center", width="100%", grid_gap="2px 12px"
            )
            return widgets.Box(children, layout=layout)

        def row(*names: str) -> widgets.Box:
            return flow([getattr(self, name) for name in names if name not in hide])

        left = widgets.Box(
            [self.head_graph], layout=widgets.Layout(flex="1 1 430px", min_width="380px")
        )
        right = widgets.Box(
            [self.figure], layout=widgets.Layout(flex="1.4 1 600px", min_width="520px")
        )
        right.add_class("dmtg-figure")  # head_graph.css makes the figure fill it
        views = [box for box, name in ((left, "head_graph"), (right, "figure")) if name not in hide]
        commands = ("start", "pause", "step", "reset", "n_groups", "spare", "seed", "speed")
        knobs = ("tau", "lr_assignment")
        if self.session is None:  # nothing to steer in a recording
            hide = (*hide, *commands, *knobs)
        return widgets.VBox(
            [
                row(*commands),
                row(*knobs, "weights", "task"),
                row("state", "numbers"),
                self.error,
                flow(views),
                row("play", "scrub"),
                row("config_line"),
            ]
        )

    def _connect(self) -> None:
        """What people do leaves a value or a command here; only the painter writes to widgets."""
        session = self.session

        def on(widget: widgets.Widget, act: Callable[[Any], None]) -> None:
            def guarded(change: Any) -> None:
                try:
                    self._error = ""
                    act(change if isinstance(change, widgets.Button) else change["new"])
                except Exception as error:  # noqa: BLE001  would vanish in the browser's log otherwise
                    self._error = str(error)
                self._wake.set()

            if isinstance(widget, widgets.Button):
                widget.on_click(guarded)
            else:
                widget.observe(guarded, names="value")

        on(self.scrub, self._on_scrub)
        on(self.play, self._on_play)
        on(self.weights, lambda _: None)
        on(self.task, lambda _: None)
        if session is None:
            return

        def reset(_: object) -> None:
            session.reset(self.n_groups.value, self.seed.value, self.spare.value)

        def start(_: object) -> None:
            self._follow()
            if session.state in ("finished", "failed"):
                reset(_)
            session.start()

        def step(_: object) -> None:
            self._follow()
            session.step()

        on(self.start, start)
        on(self.pause, lambda _: session.pause())
        on(self.step, step)
        on(self.reset, reset)
        on(self.speed, lambda value: setattr(session, "steps_per_second", value or None))
        for knob in ("tau", "lr_assignment"):
            on(getattr(self, knob), lambda value, knob=knob: session.turn(**{knob: value}))

    # ------------------------------------------------------------------ scrubbing
    def _follow(self) -> None:
        self._following = True

    def _on_scrub(self, index: int) -> None:
        # The browser repeats what the painter wrote, sometimes late: that is no person scrubbing.
        if index == self._written[-1] or (self._following and index in self._written):
            return
        self._shown, self._following = index, index >= len(self.history) - 1

    def _on_play(self, playing: bool) -> None:
        if playing and (self._following or self._shown >= len(self.history) - 1):
            self._shown = 0
        self._following = False

    # ------------------------------------------------------------------ painting
    def _paint_forever(self) -> None:
        while True:
            self._wake.wait()
            if self._closed.is_set():
                return
            self._wake.clear()
            started = time.monotonic()
            try:
                self._advance()
                self._paint()
            except Exception as error:  # noqa: BLE001  a thread's traceback is seen by nobody
                self.error.value = _alert(f"drawing failed: {type(error).__name__}: {error}")
            self._closed.wait(max(0.02, PAINT_EVERY - (time.monotonic() - started)))

    def _advance(self) -> None:
        """Play the past: about a tenth of a minute for a whole run, whatever its length."""
        if not self.play.value:
            return
        last = len(self.history) - 1
        self._shown = min(last, self._shown + max(1, last // 50))
        if self._shown >= last:
            self.play.value = False
        self._wake.set()

    def _on_drawn(self, change: Any) -> None:
        if change["new"]:
            self._drawn = True
            self._wake.set()

    def _on_views(self, change: Any) -> None:
        if not change["new"]:  # taken off the page, e.g. because its cell is run again
            self._drawn, self._patience = False, inf
        elif not self._drawn:
            self._patience = time.monotonic() + 20.0
        self._wake.set()

    def _update_figure(self, figure: go.Figure, index: int) -> None:
        update_dashboard(
            figure,
            self.history,
            index=index,
            task=self.task.value,
            weights=self.weights.value,
            n_steps=self.session.n_steps if self.session is not None else None,
        )

    def _paint(self) -> None:
        history, session = self.history, self.session
        if history is not self._painted:  # the first time, and after a reset
            self._painted, self._following = history, True
        size = len(history)
        last = max(size - 1, 0)
        if self._following:
            self._shown = last
        index = min(self._shown, last)
        self._written.append(index)
        self.scrub.value = index

        weights, is_finished = self.weights.value, history.about.groups is not None
        matrix = compute_weights(history, index, weights)
        if is_finished and index == last:  # training is over: only the N best heads are kept
            matrix = np.eye(history.n_groups)[history.probabilities[-1].argmax(-1)]
        self.head_graph.show(matrix, history.closed_branches(index))
        # a closed session was replaced by its cell, and its figure is on its way off the page
        is_shown = session is None or session.state != "closed"
        if is_shown and (self._drawn or time.monotonic() > self._patience):
            self._update_figure(self.figure, index)

        state = "recorded" if session is None else session.state
        if state == "pretraining":
            state = f"pretraining Naive MTL, step {session.pretrained}"
        _write(self.state, f'<b role="status">{html.escape(state)}</b>')
        _write(self.numbers, _describe(history, index, getattr(session, "n_groups", None)))
        error = self._error or (session.error if session is not None else "")
        _write(self.error, _alert(error) if error else "")
        line = session.config_line if session is not None else history.about.config
        _write(
            self.config_line,
            '<code title="the run as one line: click and copy" style="user-select:all">'
            f"{html.escape(line)}</code>",
        )


def _close_all() -> None:
    for dashboard in tuple(_dashboards.values()):
        dashboard.close()


atexit.register(_close_all)  # a painter that outlives the interpreter takes it down


def _choice(value: Any, choices: tuple[float, ...], **arguments: Any) -> widgets.SelectionSlider:
    """A slider over a few log-spaced numbers and the configured one, which may also be a schedule."""
    if isinstance(value, tuple):
        options = [(f"{value[0]:g} to {value[1]:g}", None), *((f"{v:g}", v) for v in choices)]
        return widgets.SelectionSlider(options=options, value=None, **arguments)
    options = [(f"{v:g}", v) for v in sorted({*choices, float(value)})]
    return widgets.SelectionSlider(options=options, value=float(value), **arguments)


def _write(widget: widgets.HTML, text: str) -> None:
    if widget.value != text:
        widget.value = text


def _alert(text: str) -> str:
    return (
        f'<div role="alert" style="color:#D55E00;font-weight:600">&#9888; {html.escape(text)}</div>'
    )


def _describe(history: History, index: int, n_groups: int | None) -> str:
    closed, branches = history.closed_branches(index), ""  # said only where spare ones were opened
    if closed or history.closings or history.n_groups > (n_groups or history.n_groups):
        branches = f"{history.n_groups - len(closed)} of {history.n_groups} branches open"
        branches = branches if n_groups is None else f"K={n_groups}, {branches}"
    if not len(history):
        return f"no step yet · {branches}" if branches else "no step yet"
    settled = int((history.probabilities[index].max(-1) > 0.9).sum())
    text = (
        f"step {history.steps[index]} of {history.steps[-1]} · tau {history.tau[index]:.3g} · "
        f"{settled} of {history.n_tasks} tasks settled (p > 0.9)"
    )
    text += f" · {branches}" if branches else ""
    planted = history.about.planted_groups
    if planted and history.about.groups is not None and index == len(history) - 1:
        found = {frozenset(g) for g in history.groups()} & {frozenset(g) for g in planted}
        text += f" · {len(found)} of {len(planted)} planted groups found"
    return html.escape(text)
