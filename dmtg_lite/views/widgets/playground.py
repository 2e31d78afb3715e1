"""The playground: two runs side by side, all their settings, and what happens if one changes one.

One painter thread is the only writer of widgets and the only one to make sessions; what a person
does only leaves a note for it. It paints at most 5 times a second, always the newest state.
"""

from __future__ import annotations

import atexit
import html
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets

from dmtg_lite.core.checks import check_kind
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.groups import compute_agreement
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.history import compute_entropy
from dmtg_lite.views.live import LiveSession
from dmtg_lite.views.playground import CONTROLS, OWN, PRESETS, RUNS, Preset, Settings
from dmtg_lite.views.playground_text import from_line, from_link, to_line, to_link
from dmtg_lite.views.plots import compute_matrix
from dmtg_lite.views.plots.curves import decimate, running_mean
from dmtg_lite.views.widgets.anywidgets import HERE, Matrix, Status
from dmtg_lite.views.widgets.shown import Shown, draw_table

PAINT_EVERY = 0.2  # seconds
BEAT_EVERY = 2.5  # seconds; a view that hears none for 12 says that the kernel is gone
CSS = (HERE / "playground.css").read_text(encoding="utf-8")


def _module(name: str) -> str:
    texts = ("common.js", "playground_common.js", name)
    return "".join((HERE / text).read_text(encoding="utf-8") for text in texts)


class Form(anywidget.AnyWidget):
    """The settings of two runs as a table.

    Args:
        rows: Name, label, explanation and choices of each control.
        values: By run: ``{name: value}``.
        locked: By run: names of the controls that mean nothing there.
        said: ``values`` as a browser says them ahead of a click, see `Slider.newest`.
    """

    _esm = _module("playground_form.js")
    _css = CSS

    rows = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    locked = traitlets.Dict().tag(sync=True)
    said = traitlets.Dict()

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(lambda _widget, content, _buffers: self.set_trait("said", content["values"]))

    def show(self, settings: Mapping[str, Settings], own: TaskData | None) -> None:
        """Show settings; a value that no list has is added to its list."""
        values = {run: one.form for run, one in settings.items()}
        rows = []
        for control in CONTROLS:
            choices = list(control.choices)
            if control.name == "data" and own is not None:
                choices.append((OWN, own.name))
            for run in RUNS if choices else ():
                value = values[run][control.name]
                if value not in (known for known, _ in choices):
                    choices.append((value, control.say(value)))
            row = {"name": control.name, "label": control.label, "help": control.help}
            rows.append(row | {"choices": [list(choice) for choice in choices]})
        locked = {run: _list_locked(one) for run, one in settings.items()}
        with self.hold_sync():  # one message: a value must not come before its choice
            self.rows, self.values, self.locked = rows, values, locked


def _list_locked(settings: Settings) -> list[str]:
    locked = [] if settings.has_noise else ["label_noise"]
    is_free = settings.config.encoder in ("toy", "convnet", "mlp", "attention_pool")
    return locked if is_free else [*locked, "capacity"]


class Lines(anywidget.AnyWidget):
    """Loss and entropy of two runs on the same axes; set ``shown`` with `show`."""

    _esm = _module("playground_lines.js")
    _css = CSS

    shown = traitlets.Dict().tag(sync=True)

    def show(self, runs: Mapping[str, LiveSession]) -> None:
        """Over the steps of the longer one; a loss is a mean over the tasks, weights undone."""
        losses, entropies = [], []
        for run, session in runs.items():
            history = session.history
            rows = decimate(len(history), 200)
            weights = np.array([task.weight for task in session.data.tasks])
            loss = running_mean(history.task_losses / weights, rows=rows).mean(1)
            steps = history.steps[rows]
            losses.append(_line(run, steps, loss))
            entropies.append(_line(run, steps, compute_entropy(history.probabilities[rows])))
        highest = max((y for line in losses for y in line["y"]), default=1.0)
        charts = [
            {"title": "mean loss of all tasks", "lines": losses, "top": 1.05 * highest or 1.0},
            {"title": "entropy: 0 settled", "lines": entropies, "top": 1.05},
        ]
        end = max(session.n_steps for session in runs.values())
        self.shown = {"charts": charts, "end": end}


def _line(run: str, steps: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    known = np.isfinite(values)
    y = values[known].astype(np.float64).round(4)
    return {"run": run, "x": steps[known].tolist(), "y": y.tolist()}


class Playground(Shown):
    """Two runs with all their settings: choose, predict, Start; show it as a cell's last line.

    Every control is an attribute, so a test or a script can use it without a browser.
    Another playground of the same name takes this one's place.

    Args:
        own: Data of the reader's, in the list of data beside the drawn ones.
        name: Of the playground, see above.

    Attributes:
        settings: Of run A and run B, as they are in the form.
        sessions: Of both runs, as they were when Start was last pressed.
        message: What could not be done, for people; empty otherwise.
    """

    def __init__(self, own: TaskData | None = None, *, name: str = "playground") -> None:
        if own is not None:
            check_kind("own", own, TaskData, "e.g. data.from_arrays(features, targets)")
        super().__init__(name)
        self.own, self.message, self._preset = own, "", PRESETS[0]
        self.settings = PRESETS[0].settings
        self.sessions: dict[str, LiveSession] = {}
        self._made: dict[str, Settings] = {}  # what the sessions are of
        self._errors: dict[str, float | None] = {}  # of finished runs, in percent
        self._todo: deque[Callable[[], object]] = deque()
        self._heard: Mapping[str, Any] = {}  # the newest values of the form that are somebody's
        self._wake, self._closed, self._beaten = threading.Event(), threading.Event(), 0.0
        self._thread = threading.Thread(target=self._paint_forever, name="dmtg-paint", daemon=True)
        for run in RUNS:
            self._renew(run)
            self.sessions[run].run_if_headless()
        self._make_controls()
        self._make_views()
        self._paint()
        self._show(self._lay_out())
        atexit.register(self.stop)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Playground: {self.state.value}>"

    # ------------------------------------------------------------------ for the caller's thread
    def read(self, text: str) -> None:
        """Restore settings from what was pasted: a line of Python for a run or for each, or a link.

        A line may begin with ``a =`` or ``b =``; without, the first is run A's.

        Raises:
            ValueError: If it is neither; the message says what in it.
        """
        self._change(self.understand(text))

    def understand(self, text: str) -> dict[str, Settings]:
        """What `read` would restore, by run."""
        if "methods.dmtg" not in text:
            return from_link(text)
        found: dict[str, Settings] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            target = line.partition("=")[0].strip().upper()
            run = target if target in RUNS else RUNS[min(len(found), 1)]
            found[run] = from_line(line, self.settings[run], self.own)
        return found

    def tell(self) -> dict[str, dict[str, Any]]:
        """What one sees below the pictures, by run: a table's columns by name."""
        return {f"run {run}": self._describe(run) for run in RUNS}

    def draw_still(self) -> str:
        tables = "".join(draw_table(matrix.shown) for matrix in self.matrices.values())
        return f"<p><b>{html.escape(self.state.value)}</b></p>{tables}{self.outcome.value}"

    def stop(self) -> None:
        """End the painter; the sessions train on."""
        super().stop()
        atexit.unregister(self.stop)
        self._closed.set()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def close(self) -> None:
        super().close()
        for session in self.sessions.values():
            session.close()

    # ------------------------------------------------------------------ what a person does
    def _do(self, act: Callable[[], object]) -> None:
        """Leave it to the painter."""
        self._todo.append(act)
        self._wake.set()

    def _start(self) -> None:
        for run in RUNS:
            self._renew(run)
        for session in self.sessions.values():
            session.start()

    def _reset(self) -> None:
        for run in RUNS:
            self._renew(run)
            self.sessions[run].reset()

    def _pause(self) -> None:
        for session in self.sessions.values():
            session.pause()

    def _renew(self, run: str) -> None:
        """A session for the settings as they stand; one that is over goes back to step 0."""
        wanted = self.settings[run]
        if self._made.get(run) == wanted:
            if self.sessions[run].state in ("finished", "failed"):
                self.sessions[run].reset()
            return
        try:
            session = LiveSession(
                wanted.open(self.own),
                wanted.n_groups,
                config=wanted.config,
                name=f"{self.name} {run}",
                steps_per_second=None,
            )
        except ValueError as error:
            raise ValueError(f"run {run}: {error}") from error
        session.listeners.add(self._wake.set)
        self.sessions[run], self._made[run] = session, wanted

    def _change(self, settings: Mapping[str, Settings]) -> None:
        self.settings = {**self.settings, **settings}
        self._write()

    def _hear(self, change: Mapping[str, Any]) -> None:
        if threading.current_thread() is not self._thread:  # the painter says what it was told
            self._heard = change["new"]
            self._do(self._take_form)

    def _take_form(self) -> None:
        values = self._heard  # the newest: writing an older one would take it back
        self._change({run: self.settings[run].change(values[run], self.own) for run in RUNS})

    def _take_preset(self, preset: Preset) -> None:
        self._preset = preset
        self._change(preset.settings)

    # ------------------------------------------------------------------ made once
    def _make_controls(self) -> None:
        options = [(preset.title, preset) for preset in PRESETS]
        wide = {"description": "what happens if", "layout": {"flex": "1 1 330px"}}
        wide["style"] = {"description_width": "initial"}
        self.preset = self._make("preset", widgets.Dropdown, options=options, **wide)
        self._observe(self.preset, lambda c: self._do(lambda: self._take_preset(c["new"])))
        self.start = self._button("Start both", "play", "train both with the settings", self._start)
        self.start.button_style = "success"
        self.pause = self._button("Pause", "pause", "after the step in progress", self._pause)
        self.reset = self._button("Reset", "undo", "both to step 0", self._reset)
        self.form = self._make("form", Form, layout={"flex": "1 1 380px", "max_width": "480px"})
        for name in ("values", "said"):
            self._observe(self.form, self._hear, name)
        wide = {"layout": {"width": "99%"}, "style": {"description_width": "90px"}}
        late = {"continuous_update": False}
        self.lines = self._make("lines", widgets.Textarea, description="as Python", **late, **wide)
        self.link = self._make("link", widgets.Text, description="as a link", **late, **wide)
        self.lines.rows = 3  # one for the bar below two long lines
        self.lines.add_class("dmtg-line")
        for field in (self.lines, self.link):
            self._observe(field, lambda c: self._do(lambda: self._take_text(c["new"])))

    def _button(self, text: str, icon: str, tooltip: str, act: Callable[[], object]) -> Any:
        words = {"description": text, "icon": icon, "tooltip": tooltip}
        button = self._make(text, widgets.Button, layout={"width": "auto"}, **words)
        self._on_click(button, lambda _: self._do(act))
        return button

    def _make_views(self) -> None:
        self.matrices = {
            run: self._make(
                f"matrix {run}", Matrix, has_choice=False, sorted=False, layout={"min_width": "0"}
            )
            for run in RUNS
        }
        self.curves = self._make("curves", Lines, layout={"width": "100%"})
        self.state = self._make("state", Status, still=self._still)
        self.question, self.outcome, self.error, self.lacking = (
            self._make(role, widgets.HTML) for role in ("question", "outcome", "error", "lacking")
        )
        self._write()

    def _lay_out(self) -> widgets.VBox:
        # visible: else a box that could scroll wants the keyboard
        wrap = {"width": "100%", "flex_flow": "row wrap", "grid_gap": "2px 16px"}
        wrap["overflow"] = "visible"

        def box(role: str, children: list[Any], layout: dict[str, str]) -> Any:
            return self._make(role, widgets.Box, children=children, layout=layout)

        commands = [self.preset, self.start, self.pause, self.reset, self.state]
        top = box("top", commands, wrap | {"align_items": "center"})
        matrices = box("matrices", list(self.matrices.values()), wrap)
        matrices.add_class("dmtg-pair")
        stacked = {"flex": "2 1 600px", "flex_flow": "column", "min_width": "0"}
        stacked["overflow"] = "visible"
        right = box("right", [matrices, self.curves, self.outcome], stacked)
        middle = box("middle", [self.form, right], wrap | {"align_items": "flex-start"})
        below = [self.lines, self.link, self.lacking]
        parts = [top, self.question, self.error, middle, *below]
        whole = {"overflow": "visible"}
        return self._make("all", widgets.VBox, children=parts, layout=whole)

    # ------------------------------------------------------------------ painting
    def _write(self) -> None:
        """The settings in the form, as lines and as a link."""
        self.form.show(self.settings, self.own)
        lines = [f"{run.lower()} = {to_line(self.settings[run], self.own)}" for run in RUNS]
        self._written = {"\n".join(lines)}
        self.lines.value = "\n".join(lines)
        self.link.value, lacking = to_link(self.settings)
        self._written.add(self.link.value)
        words = "; ".join(lacking)
        said = f"What the link's page does not have: {words}." if words else ""
        self.lacking.value = f"<small>{html.escape(said)}</small>"

    def _take_text(self, text: str) -> None:
        if text not in self._written:  # by the painter: that is nobody pasting
            self.read(text)

    def _paint_forever(self) -> None:
        while True:
            self._wake.wait(BEAT_EVERY)
            if self._closed.is_set():
                return
            self._wake.clear()
            started = time.monotonic()
            try:
                self._act()
                if started - self._beaten >= BEAT_EVERY:
                    self._beaten, self.state.beat = started, self.state.beat + 1
                self._paint()
            except Exception as error:  # noqa: BLE001  a thread's traceback is seen by nobody
                self.error.value = _alert(f"drawing failed: {type(error).__name__}: {error}")
            self._closed.wait(max(0.02, PAINT_EVERY - (time.monotonic() - started)))

    def _act(self) -> None:
        while self._todo:
            try:
                self.message = ""
                self._todo.popleft()()
            except (ValueError, ImportError) as error:  # said, and nothing changed
                self.message = str(error)
                self.form.show(self.settings, self.own)
            except Exception as error:  # noqa: BLE001  as above
                self.message = f"{type(error).__name__}: {error}"

    def _paint(self) -> None:
        for run, session in self.sessions.items():
            history = session.history
            is_over = session.state == "finished"
            if is_over and run not in self._errors:
                self._errors[run] = _measure(session)
            elif not is_over:
                self._errors.pop(run, None)
            index = max(len(history) - 1, 0)
            title = f"run {run} · probabilities · step {len(history)} of {session.n_steps}"
            closed = history.closed_branches(index)
            matrix = compute_matrix(history, index)
            self.matrices[run].show(matrix, history.task_names, closed, title=title)
        self.curves.show(self.sessions)
        self.outcome.value = _draw_outcome({run: self._describe(run) for run in RUNS})
        self.question.value = self._ask()
        errors = [self.message] if self.message else []
        errors += [f"run {run}: {one.error}" for run, one in self.sessions.items() if one.error]
        self.error.value = _alert(" ".join(errors)) if errors else ""
        words = [f"{run}: {self._tell_state(run)}" for run in RUNS]
        self.state.value = " · ".join(words)
        if all(
            session.state in ("finished", "paused", "idle") for session in self.sessions.values()
        ):
            self._renew_still()

    def _tell_state(self, run: str) -> str:
        is_other = self._made[run] != self.settings[run]
        return self.sessions[run].state + (", Start takes the new settings" if is_other else "")

    def _ask(self) -> str:
        """The preset's question, and what we saw, once both runs are over and were the preset's."""
        preset = self._preset
        words = f"<b>What happens if {html.escape(preset.title)}?</b> "
        if not preset.is_meant(self.settings):
            return words + "You have changed more than the seed: predict, then press Start."
        states = {session.state for session in self.sessions.values()}
        if states == {"finished"} and preset.is_meant(self._made):
            return f"{words}<b>What we saw:</b> {html.escape(preset.seen)}"
        return f"{words}<b>Predict:</b> {html.escape(preset.expect)}"

    def _describe(self, run: str) -> dict[str, Any]:
        session = self.sessions[run]
        history, planted = session.history, session.data.planted_groups
        groups = history.groups() if len(history) else []
        settled = int((compute_matrix(history).max(-1) > 0.9).sum())
        agreement = compute_agreement(groups, planted) if groups and planted else None
        error = self._errors.get(run)
        return {
            "tasks settled": f"{settled} of {history.n_tasks}",
            "agreement with the planted groups": "-" if agreement is None else f"{agreement:.2f}",
            "mean error, %": "-" if error is None else f"{error:.1f}",
            "groups": "; ".join(", ".join(group) for group in groups) or "no step yet",
        }


def _measure(session: LiveSession) -> float | None:
    """Mean error over the tasks on the test split, where all errors are percent of rows."""
    if session.network is None or {t.metric for t in session.data.tasks} != {"error_percent"}:
        return None
    errors = evaluate(session.network, session.data.test).errors
    return sum(errors.values()) / len(errors)


def _draw_outcome(described: Mapping[str, Mapping[str, Any]]) -> str:
    names = [*next(iter(described.values()))]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">run {run}</th>'
        + "".join(f"<td>{html.escape(str(value))}</td>" for value in own.values())
        + "</tr>"
        for run, own in described.items()
    )
    caption = 'class="dmtg-outcome" aria-label="what came out of both runs"'
    return f"<table {caption}><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _alert(text: str) -> str:
    return f'<div role="alert" class="dmtg-alert">&#9888; {html.escape(text)}</div>'
