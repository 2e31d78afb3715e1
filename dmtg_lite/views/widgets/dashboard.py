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
from dmtg_lite.views.plots import compute_matrix, make_dashboard, update_dashboard
from dmtg_lite.views.widgets.head_graph import HeadGraph, MatrixToggle

if TYPE_CHECKING:  # a recorded run is shown without torch
    from dmtg_lite.views.live import LiveSession

TAUS = (0.1, 0.25, 0.5, 1.0, 2.5, 4.0, 10.0)  # few and log-spaced: a class can compare notes
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
UNSET = 0.0  # full speed, or a knob that follows the config: a list cannot have None chosen
SPEEDS = {f"{n} steps/s": float(n) for n in (2, 10, 30, 100)} | {"full speed": UNSET}
SPARE = {"none": 0, "as many as K": "double"}
PAINT_EVERY = 0.2  # seconds
ANSWER_WITHIN = 1.0  # seconds that a frame may take in the browser before another is sent
COMMANDS = "start pause step reset n_groups spare seed speed".split()
KNOBS = "tau lr_assignment".split()
CONTROLS = (*COMMANDS, *KNOBS, *"matrix task play scrub head_graph figure config_line".split())

_dashboards: dict[str, Dashboard] = {}  # by name, so that a cell run again replaces its dashboard


class Dashboard:
    """Head graph, heat map and curves of a run, with its controls; show it as a cell's last line.

    Every control is an attribute (``dashboard.start``, ``dashboard.tau``, ...), so a test or a
    script can use it without a browser. Another dashboard of the same name closes this one.

    Args:
        source: A `LiveSession` to steer, or a `History` to replay: then commands and knobs are not
            there.
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
        self.name, self._source = name, source
        self.session = None if isinstance(source, History) else source
        self._painted: History | None = None
        self._shown, self._following = 0, True  # the record in view; whether it is the newest one
        self._written = deque([0], maxlen=20)  # what the painter wrote into the scrub slider
        self._error = ""
        self._wake, self._closed = threading.Event(), threading.Event()
        if self.session is not None:
            self.session.run_if_headless()
            self._make_commands(self.session)
            self._make_knobs(self.session)
            self.session.listeners.add(self._wake.set)
        self._make_views(self.history)
        self._make_figure(self.history)
        self.widget = self._lay_out(hide)
        self._paint()
        self._thread = threading.Thread(target=self._paint_forever, name="dmtg-paint", daemon=True)
        _dashboards[name] = self
        self._thread.start()

    @property
    def history(self) -> History:
        """The run in view."""
        return self._source if isinstance(self._source, History) else self._source.history

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
            widget.on_click(guarded)
        else:
            widget.observe(guarded, names="value")
        return widget

    def _make_commands(self, session: LiveSession) -> None:
        def reset(_: object = None) -> None:
            session.reset(self.n_groups.value, self.seed.value, self.spare.value)

        def start(_: object) -> None:
            self._following = True
            if session.state in ("finished", "failed"):
                reset()
            session.start()

        def step(_: object) -> None:
            self._following = True
            session.step()

        def button(text: str, icon: str, tooltip: str, act: Callable[[Any], object]) -> Any:
            layout = widgets.Layout(width="auto", min_width="84px")
            words = {"description": text, "icon": icon, "tooltip": tooltip}
            return self._on(widgets.Button(layout=layout, **words), act)

        self.start = button("Start", "play", "train; after a finished run: reset, train", start)
        self.start.button_style = "success"
        self.pause = button(
            "Pause", "pause", "after the step in progress", lambda _: session.pause()
        )
        self.step = button("Step", "step-forward", "exactly one training step", step)
        self.reset = button("Reset", "undo", "to step 0, with the K, spare and seed chosen", reset)

    def _make_knobs(self, session: LiveSession) -> None:
        """What acts at Reset, the speed, and the two knobs that act at the next step."""
        config, k = session.config, session.n_groups
        wide = _labelled("at Reset: groups K", "272px")
        self.n_groups = widgets.IntSlider(k, 1, max(8, k), continuous_update=False, **wide)
        spare, wide = config.spare.branches, _labelled("spare branches", "222px")
        wide["tooltip"] = "branches opened beyond K and closed while training; acts at Reset"
        spares = SPARE if spare in SPARE.values() else {**SPARE, str(spare): spare}
        self.spare = widgets.Dropdown(options=spares, value=spare, **wide)
        self.seed = widgets.BoundedIntText(session.seed, 0, 2**31 - 1, **_labelled("seed", "110px"))
        speed, wide = session.steps_per_second or UNSET, _labelled("speed", "170px")
        speeds = SPEEDS if speed in SPEEDS.values() else {f"{speed:g} steps/s": speed, **SPEEDS}
        self.speed = self._on(
            widgets.Dropdown(options=speeds, value=speed, **wide),
            lambda value: setattr(session, "steps_per_second", value or None),
        )
        rate = config.lr if config.lr_assignment is None else config.lr_assignment
        self.tau = self._on(
            _choice(config.tau, TAUS, "temperature tau"),
            lambda value: session.turn(tau=value or None),
        )
        self.lr_assignment = self._on(
            _choice(rate, RATES, "learning rate of S"),
            lambda value: session.turn(lr_assignment=value or None),
        )

    def _make_views(self, history: History) -> None:
        """What chooses the record and the pictures of it, and the words around them."""
        layout, has_losses = widgets.Layout(width="460px"), history.has_loss_matrices
        self.matrix = self._on(MatrixToggle(has_losses=has_losses, layout=layout))
        names, wide = history.task_names, _labelled("curves of", "240px")
        self.task = self._on(widgets.Dropdown(options=names, **wide))
        wide = {"description": "Play the past", "layout": widgets.Layout(width="140px")}
        self.play = self._on(widgets.ToggleButton(icon="film", **wide), self._on_play)
        # The range is the whole run's from the start: a browser clamps a value to the old range.
        n_records = len(history) if self.session is None else self.session.n_steps
        wide = _labelled("scrub", "auto") | {"readout": False}
        self.scrub = self._on(
            widgets.IntSlider(0, 0, max(n_records - 1, 1), **wide), self._on_scrub
        )
        self.scrub.layout.flex = "1 1 300px"
        self.state, self.numbers, self.error, self.config_line = (widgets.HTML() for _ in range(4))
        self.head_graph = HeadGraph(tasks=names, layout=widgets.Layout(width="100%"))

    def _make_figure(self, history: History) -> None:
        most = max(history.n_groups, 2 * self.n_groups.max if self.session is not None else 0)
        figure = make_dashboard(most)
        self._update_figure(figure, len(history) - 1)  # filled before it travels
        self.figure = go.FigureWidget(figure)
        # A figure forgets what reaches it before its first drawing and complains of what comes
        # after its last, so updates wait for the browser's word. Without a browser (a script, a
        # test) nothing waits.
        self._drawn = isinstance(self.figure.comm, DummyComm)
        self._patience = time.monotonic() + 20.0
        self._sent = -inf  # when the frame went out that the browser has not answered yet
        self.figure.observe(self._on_drawn, names="_js2py_traceDeltas")
        self.figure.observe(self._on_views, names="_view_count")
        self.figure._config = {**self.figure._config, "responsive": True, "displaylogo": False}

    def _lay_out(self, hide: tuple[str, ...]) -> widgets.VBox:
        def flow(children: list[widgets.Widget]) -> widgets.Box:
            wrap = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 12px"}
            return widgets.Box(children, layout=widgets.Layout(width="100%", **wrap))

        def row(*names: str) -> widgets.Box:
            return flow([getattr(self, name) for name in names if name not in hide])

        views = []
        for name, grow, least in (("head_graph", "1 1 430px", 380), ("figure", "1.4 1 600px", 520)):
            layout = widgets.Layout(flex=grow, min_width=f"{least}px")
            box = widgets.Box([getattr(self, name)], layout=layout)
            box.add_class(f"dmtg-{name}")  # head_graph.css makes the figure fill its box
            views += [] if name in hide else [box]
        commands, knobs = (COMMANDS, KNOBS) if self.session is not None else ((), ())
        words, past = row("task", "state", "numbers"), row("play", "scrub")
        rows = [row(*commands), row(*knobs, "matrix"), words, self.error, flow(views)]
        return widgets.VBox([*rows, past, row("config_line")])

    # ------------------------------------------------------------------ scrubbing
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
                if time.monotonic() - self._sent < ANSWER_WITHIN:  # a busy browser: when it asks
                    self._wake.set()
                else:
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
            self._drawn, self._sent = True, -inf
            self._wake.set()

    def _on_views(self, change: Any) -> None:
        if not change["new"]:  # taken off the page, e.g. because its cell is run again
            self._drawn, self._patience = False, inf
        elif not self._drawn:
            self._patience = time.monotonic() + 20.0
        self._wake.set()

    def _update_figure(self, figure: go.Figure | go.FigureWidget, index: int) -> None:
        n_steps = None if self.session is None else self.session.n_steps
        choice = {"task": self.task.value, "matrix": self.matrix.value}
        update_dashboard(figure, self.history, index=index, n_steps=n_steps, **choice)

    def _paint(self) -> None:
        history, session = self.history, self.session
        if history is not self._painted:  # the first time, and after a reset
            self._painted, self._following = history, True
        last = max(len(history) - 1, 0)
        if self._following:
            self._shown = last
        index = min(self._shown, last)
        self._written.append(index)
        self.scrub.value = index

        weights = "E[Z]" if self.matrix.value == "E[Z]" else "probabilities"
        edges = compute_matrix(history, index, weights)
        if (
            history.about.groups is not None and index == last
        ):  # training is over: the N best heads are kept
            edges = np.eye(history.n_groups)[history.probabilities[-1].argmax(-1)]
        self.head_graph.show(edges, history.closed_branches(index))
        # a closed session was replaced by its cell, and its figure is on its way off the page
        is_shown = session is None or session.state != "closed"
        if is_shown and (self._drawn or time.monotonic() > self._patience):
            self._update_figure(self.figure, index)
            if not isinstance(self.figure.comm, DummyComm):
                self._sent = time.monotonic()

        state, error, n_groups, line = "recorded", "", None, history.about.config
        if session is not None:
            state, error, line = session.state, session.error, session.config_line
            n_groups = session.n_groups
            if state == "pretraining":
                state = f"pretraining Naive MTL, step {session.pretrained}"
        error = self._error or error
        self.state.value = f'<b role="status">{html.escape(str(state))}</b>'
        self.numbers.value = _describe(history, index, n_groups)
        self.error.value = _alert(error) if error else ""
        hint = 'title="the run as one line: click and copy" style="user-select:all"'
        self.config_line.value = f"<code {hint}>{html.escape(line)}</code>"


def _close_all() -> None:
    for dashboard in tuple(_dashboards.values()):
        dashboard.close()


atexit.register(_close_all)  # a painter that outlives the interpreter takes it down


def _labelled(description: str, width: str) -> dict[str, Any]:
    style, layout = {"description_width": "initial"}, widgets.Layout(width=width)
    return {"description": description, "style": style, "layout": layout}


def _choice(
    value: float | tuple[float, float], choices: tuple[float, ...], description: str
) -> widgets.SelectionSlider:
    """A slider over a few log-spaced numbers and the configured one, which may be a schedule."""
    if isinstance(value, tuple):
        options = [(f"{value[0]:g} to {value[1]:g}", UNSET), *((f"{v:g}", v) for v in choices)]
        value = UNSET
    else:
        options = [(f"{v:g}", v) for v in sorted({*choices, float(value)})]
    wide = _labelled(description, "330px")
    return widgets.SelectionSlider(options=options, value=float(value), **wide)


def _alert(text: str) -> str:
    style = "color:#D55E00;font-weight:600"
    return f'<div role="alert" style="{style}">&#9888; {html.escape(text)}</div>'


def _describe(history: History, index: int, n_groups: int | None) -> str:
    """Step, temperature, tasks settled; branches open, where spare ones were opened."""
    facts = ["no step yet"]
    if len(history):
        settled = int((history.probabilities[index].max(-1) > 0.9).sum())
        facts = [
            f"step {history.steps[index]} of {history.steps[-1]}",
            f"tau {history.tau[index]:.3g}",
            f"{settled} of {history.n_tasks} tasks settled (p > 0.9)",
        ]
    closed = history.closed_branches(index)
    if closed or history.closings or history.n_groups > (n_groups or history.n_groups):
        k = "" if n_groups is None else f"K={n_groups}, "
        facts.append(f"{k}{history.n_groups - len(closed)} of {history.n_groups} branches open")
    planted = history.about.planted_groups
    if planted and history.about.groups is not None and index == len(history) - 1:
        found = {frozenset(g) for g in history.groups()} & {frozenset(g) for g in planted}
        facts.append(f"{len(found)} of {len(planted)} planted groups found")
    return html.escape(" · ".join(facts))
