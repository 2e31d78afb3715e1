"""What the widgets promise, without a browser: their traits are the truth a browser draws."""

from __future__ import annotations

import html
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ipywidgets
import numpy as np
import pytest

from dmtg_lite.core.config import Spare, TrainConfig
from dmtg_lite.core.record import Closing
from dmtg_lite.data.toys.faces import toy_faces
from dmtg_lite.runs.history import About, History
from dmtg_lite.views.live import LiveSession
from dmtg_lite.views.widgets import Dashboard, HeadGraph, TauExplorer
from dmtg_lite.views.widgets.anywidgets import Slider
from dmtg_lite.views.widgets.dashboard import CONTROLS
from dmtg_lite.views.widgets.words import WORDS

CONFIG = TrainConfig(
    encoder="toy", tau=1.0, lr=3e-3, lr_assignment=3e-2, pretrain=10, steps=40, batch_size=16
)
FACES = toy_faces(n_tasks=6, n_groups=3, size=16, n_train=100, n_val=20, n_test=20)
EVIL = "<img src=x onerror=alert(1)>"


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for the painter, which paints at its own pace."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the painter did not get there"
        time.sleep(0.02)


def numbers(dashboard: Dashboard) -> list[list[float | None]]:
    """What stands in the matrix, None where there is no head."""
    return dashboard.matrix.shown["numbers"]


def _walk(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """It and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child)


@contextmanager
def live(
    config: TrainConfig = CONFIG, n_groups: int = 3, name: str = "test"
) -> Iterator[tuple[LiveSession, Dashboard]]:
    session = LiveSession(FACES, n_groups, config=config, name=name, steps_per_second=None)
    dashboard = Dashboard(session, name=name)
    yield session, dashboard
    dashboard.close()
    session.close()


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with live() as (_, dashboard):
        yield dashboard


@pytest.fixture
def history() -> History:
    """20 steps of two tasks in two groups; task 1 loses a head at step 11."""
    p = np.full((20, 2, 2), 0.5)
    p[:, 0] = np.stack([np.linspace(0.5, 0.99, 20), np.linspace(0.5, 0.01, 20)], -1)
    p[10:, 1] = [1.0, 0.0]
    history = History(["a", EVIL], 2, about=About(config=EVIL))
    losses = np.where(p > 0, [[0.2, 0.8], [0.5, 0.6]], np.nan)
    ones = np.ones((20, 2))
    history.append(np.arange(1, 21), p, ones, np.full(20, 2.5), np.full(20, 0.1), losses)
    return history


@pytest.fixture
def replayed(history: History) -> Iterator[Dashboard]:
    dashboard = Dashboard(history, name="test")
    yield dashboard
    dashboard.close()


def test_before_the_first_step_everything_is_undecided(dashboard: Dashboard) -> None:
    """A fresh dashboard shows 1/K everywhere and says that nothing has happened."""
    assert dashboard.head_graph.probabilities[0] == [0.333] * 3
    assert "idle" in dashboard.state.value
    assert "no groups" in dashboard.numbers.value


def test_start_trains_to_the_end(dashboard: Dashboard) -> None:
    """Start; at the end the graph can be pruned and the words name the planted groups found."""
    dashboard.start.click()
    eventually(lambda: "finished" in dashboard.state.value)
    eventually(lambda: "planted groups found" in dashboard.numbers.value)
    last = dashboard.history.probabilities[-1]
    assert dashboard.head_graph.finished
    np.testing.assert_allclose(dashboard.head_graph.probabilities, last, atol=1e-3)
    assert dashboard.scrub.value == CONFIG.steps - 1
    np.testing.assert_allclose(numbers(dashboard), last, atol=1e-4)
    dashboard.start.click()  # again: from the beginning, without pretraining
    eventually(
        lambda: "finished" in dashboard.state.value and len(dashboard.history) == CONFIG.steps
    )


def test_speed_goes_up_to_full(dashboard: Dashboard) -> None:
    """The list shows what the session was made with, and sets it."""
    assert dashboard.speed.label == "full speed"
    dashboard.speed.label = "10 steps/s"
    assert dashboard.session.steps_per_second == 10
    dashboard.speed.label = "full speed"
    assert dashboard.session.steps_per_second is None


def test_knobs_reach_the_session_at_once(dashboard: Dashboard) -> None:
    """Moving tau or the learning rate of S while paused changes the next step."""
    dashboard.tau.value, dashboard.lr_assignment.value = 4.0, 0.3
    dashboard.step.click()
    dashboard.session.wait(20)
    assert dashboard.history.tau.tolist() == [4.0]
    np.testing.assert_allclose(dashboard.history.lr_assignment, [0.3])
    eventually(lambda: "tau=4.0" in dashboard.config_line.value)


def test_scrub_shows_the_past_and_the_end_follows_again(dashboard: Dashboard) -> None:
    """Scrubbing moves the pictures, not the run; back at the end the newest step is shown."""
    dashboard.session.step(30)
    dashboard.session.wait(20)
    eventually(lambda: dashboard.scrub.value == 29)
    dashboard.scrub.value = 4
    eventually(lambda: "step 5 of 30" in dashboard.numbers.value)
    np.testing.assert_allclose(numbers(dashboard), dashboard.history.probabilities[4], atol=1e-4)
    dashboard.session.step(2)
    dashboard.session.wait(20)
    eventually(lambda: "step 5 of 32" in dashboard.numbers.value)
    dashboard.scrub.value = 39
    eventually(lambda: "step 32 of 32" in dashboard.numbers.value)
    dashboard.step.click()
    eventually(lambda: "step 33 of 33" in dashboard.numbers.value)


def test_reset_takes_k_and_seed_from_the_controls(dashboard: Dashboard) -> None:
    """K and seed wait for Reset; then every picture has the new shape."""
    dashboard.step.click()
    dashboard.n_groups.value, dashboard.seed.value = 5, 2
    assert dashboard.session.n_groups == 3
    dashboard.reset.click()
    eventually(
        lambda: "idle" in dashboard.state.value and len(dashboard.head_graph.probabilities[0]) == 5
    )
    eventually(lambda: np.shape(numbers(dashboard)) == (6, 5))  # painted after the graph
    assert (dashboard.session.n_groups, dashboard.session.seed) == (5, 2)


def test_a_click_does_not_overtake_the_keys_before_it() -> None:
    """A browser says a choice at once; its trait may follow after the click on Reset."""
    slider = Slider(options=[(str(k), k) for k in (3, 4, 5)], value=3)
    assert slider.newest == 3
    slider.set_state({"value": 4})
    for said in (4, 5):
        slider._handle_custom_msg({"value": said}, [])
    assert (slider.value, slider.newest) == (4, 5)
    slider.set_state({"value": 5})
    slider.value = 3  # a program's word is newer than what was said before
    assert slider.newest == 3


def test_the_toggle_shows_mean_weights_and_losses(replayed: Dashboard, history: History) -> None:
    """E[Z] at tau 2.5 is far from one-hot although softmax(S) is not; losses leave the graph be."""
    graph, matrix = replayed.head_graph, replayed.matrix
    assert graph.probabilities[0] == [0.99, 0.01]
    replayed.matrix.value = "E[Z]"
    eventually(lambda: graph.probabilities[0][0] < 0.9)
    assert graph.probabilities[1] == [1.0, 0.0]  # a pruned head gets nothing either way
    replayed.matrix.value = "loss"
    eventually(lambda: matrix.shown["is_loss"] and graph.probabilities[0] == [0.99, 0.01])
    shown = np.array(numbers(replayed), np.float64)  # None becomes NaN
    np.testing.assert_allclose(shown, [[0.2, 0.8], [0.5, np.nan]], atol=1e-3)
    assert matrix.shown["loss_range"] == pytest.approx(0.6, abs=1e-3)
    replayed.matrix.value = "probabilities"
    eventually(lambda: not matrix.shown["is_loss"])
    assert replayed.matrix.has_losses
    history.has_loss_matrices = False
    old = Dashboard(history, name="test")
    assert not old.matrix.has_losses  # the browser cannot choose "loss" then
    old.close()


def test_play_goes_through_the_past_and_stops_at_the_end(replayed: Dashboard) -> None:
    """Play starts at the first record and ends, released, at the last."""
    seen: set[int] = set()
    replayed.scrub.observe(lambda change: seen.add(change["new"]), names="value")
    replayed.play.value = True
    eventually(lambda: not replayed.play.value)
    assert {1, 10, 19} <= seen


def test_a_question_mark_is_beside_every_control(dashboard: Dashboard) -> None:
    """Each has words of at most 25, in a button with a name; a teacher can take all away."""
    assert all(len(words.split()) <= 25 for words in WORDS.values())
    shown = [part for part in _walk(dashboard.widget) if part.layout.display != "none"]
    helped = {part.help for part in shown if hasattr(part, "help")}
    asked = " ".join(part.value for part in shown if isinstance(part, ipywidgets.HTML))
    for name in {*CONTROLS, "sorted", "arrows", "curves"} - {
        "figure",
        "help",
        "config_line",
        "runs",
    }:
        words = WORDS[name]
        assert words in {*helped, dashboard.matrix.help_sorted, dashboard.matrix.help_arrows} or (
            html.escape(words) in asked
        ), name
    assert asked.count("popovertarget") == asked.count('aria-label="what is ')
    bare = Dashboard(dashboard.session, hide=("help",), name="bare")
    assert not any(getattr(part, "help", "") for part in _walk(bare.widget))
    assert not any("popover" in str(getattr(part, "value", "")) for part in _walk(bare.widget))
    bare.close()


def test_the_matrix_comes_first_and_rules_the_order(replayed: Dashboard) -> None:
    """Its toggle moves the rows of the head graph too; marks and arrows reach the table."""
    pictures = next(part for part in _walk(replayed.widget) if "dmtg-pictures" in part._dom_classes)
    assert pictures.children[0] is replayed.matrix
    assert replayed.head_graph.sorted
    replayed.matrix.sorted = False
    eventually(lambda: not replayed.head_graph.sorted)
    assert "movement" not in replayed.matrix.shown
    replayed.matrix.arrows = True
    eventually(lambda: "movement" in replayed.matrix.shown)
    moved = replayed.matrix.shown["movement"]
    assert moved[0][0] == 1
    assert moved[0][1] == -1
    assert moved[1] == [0, 0]  # of a row with one head left nothing is known


def test_two_numbers_say_what_is_left(replayed: Dashboard) -> None:
    """Heads alive and encoders a step, at the step in view."""
    assert "3 of 4 heads alive · 2 encoders a step" in replayed.numbers.value
    replayed.scrub.value = 3
    eventually(lambda: "4 of 4 heads alive · 2 encoders a step" in replayed.numbers.value)


def test_paths_are_there_for_three_groups_alone(dashboard: Dashboard, history: History) -> None:
    """From the middle to the record in view, for each task; two groups have no triangle."""
    dashboard.session.step(30)
    dashboard.session.wait(20)
    eventually(lambda: len(dashboard.triangle.shown["tasks"][0]["path"]) == 31)
    assert dashboard.triangle.layout.display is None
    path = np.array(dashboard.triangle.shown["tasks"][2]["path"])
    np.testing.assert_allclose(path[0], 1 / 3, atol=1e-3)
    np.testing.assert_allclose(path[-1], dashboard.history.probabilities[-1, 2], atol=1e-3)
    dashboard.n_groups.value = 4
    dashboard.reset.click()
    eventually(lambda: dashboard.triangle.layout.display == "none")


def test_there_is_a_loss_to_watch_while_pretraining() -> None:
    """A few of its steps, not all, then the run; the step axis grows with that."""
    with live(replace(CONFIG, pretrain=150, steps=400)) as (session, dashboard):
        seen = []
        dashboard.curves.observe(lambda change: seen.append(change["new"]), "shown")
        session.step(10)
        session.wait(60)
        assert 0 < len(session.pretraining) < 150
        eventually(lambda: dashboard.curves.shown["charts"][0]["title"].startswith("probability"))
        first = [one for one in seen if one["charts"][0]["title"].startswith("loss of one encoder")]
        assert first
        steps, losses = zip(*session.pretraining, strict=True)
        assert set(first[-1]["steps"]) <= set(steps)
        assert all(0 < loss < 5 for loss in losses)
        assert dashboard.curves.shown["end"] == 50
        session.step(40)
        session.wait(60)
        eventually(lambda: dashboard.curves.shown["end"] == 60)
        session.reset()
        session.wait(20)
        assert session.pretraining == []


def test_an_annealed_temperature_can_be_watched_and_overruled() -> None:
    """The slider starts at the schedule; another value holds, and the first follows it again."""
    with live(replace(CONFIG, tau=(4.0, 0.5))) as (session, dashboard):
        slider = dashboard.tau
        assert slider.options[slider.index] == ("4 to 0.5", 0.0)
        for index, tau in ((0, 4.0), (len(slider.options) - 1, 10.0)):
            slider.index = index
            dashboard.step.click()
            session.wait(20)
            assert dashboard.history.tau[-1] == tau
        slider.index = 0
        assert session.knobs.tau is None


def test_a_failed_run_is_said_in_the_dashboard() -> None:
    """Errors of the training thread appear as an alert, in words."""
    with live(TrainConfig(encoder="toy", tau=1.0, lr=1e30, steps=50, pretrain=0)) as (_, dashboard):
        dashboard.start.click()
        eventually(lambda: "loss of task" in dashboard.error.value)
        assert 'role="alert"' in dashboard.error.value
        assert "failed" in dashboard.state.value


def test_names_from_data_are_escaped(replayed: Dashboard) -> None:
    """A task name or config that looks like markup stays text wherever HTML is shown."""
    shown = replayed.config_line.value + replayed.numbers.value + replayed.draw_still()
    assert "<img" not in shown
    assert html.escape(EVIL) in replayed.draw_still()


def test_a_cell_run_again_leaves_one_painter_and_no_widget_more() -> None:
    """Three dashboards of a name: one thread each that paints and trains, the same widgets."""
    alive, counts, boxes = ipywidgets.widgets.widget._instances, [], []
    before = set(alive)
    for n_groups in (3, 5, 3):
        session = LiveSession(FACES, n_groups, config=CONFIG, name="again", steps_per_second=20)
        dashboard = Dashboard(session, name="again")
        counts.append(len(alive))
        boxes.append(dashboard.widget)
        assert np.shape(numbers(dashboard)) == (6, n_groups)
        assert dashboard.n_groups.value == n_groups
        session.start()
    names = [thread.name for thread in threading.enumerate()]
    assert (names.count("dmtg-train"), names.count("dmtg-paint")) == (1, 1)
    assert counts[0] == counts[1] == counts[2]
    assert boxes[0] is boxes[2]
    dashboard.matrix.value = "E[Z]"
    dashboard.head_graph.pruned = True
    dashboard = Dashboard(session.history, name="again")  # without buttons
    assert len(alive) < counts[0]
    assert (dashboard.matrix.value, dashboard.head_graph.pruned) == ("probabilities", False)
    dashboard.close()
    session.close()
    assert set(alive) == before


def test_the_one_before_has_no_hand_in_it_any_more(history: History) -> None:
    """Closed late, or clicked while it was alive, an old dashboard changes nothing."""
    with live(name="again") as (session, old):
        new = Dashboard(session, name="again")
        old.close()
        assert new.widget.comm is not None
        new.step.click()
        session.wait(20)
        assert len(session.history) == 1
        new.close()


def test_a_teacher_can_hide_controls(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """hide=, and DMTG_HIDE of a lecture; a recording has nothing to steer in the first place."""
    monkeypatch.setenv("DMTG_HIDE", "figure,config_line")
    dashboard = Dashboard(history, hide=("task",), name="test")
    visible = [widget.model_id for widget in _walk(dashboard.widget)]
    assert dashboard.scrub.model_id in visible
    assert dashboard.task.model_id not in visible
    assert dashboard.config_line.model_id not in visible
    assert not hasattr(dashboard, "start")
    with pytest.raises(ValueError, match="unknown controls"):
        Dashboard(history, hide=("taks",), name="test")
    dashboard.close()


def test_headless_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """With DMTG_HEADLESS set, making the dashboard trains to the end: nobody presses Start."""
    monkeypatch.setenv("DMTG_HEADLESS", "1")
    with live() as (session, dashboard):
        assert session.state == "finished"
        assert "finished" in dashboard.state.value


def test_head_graph_keeps_pruned_and_tiny_apart() -> None:
    """Exactly 0 is a pruned head; a head that is there never rounds to 0."""
    graph = HeadGraph(tasks=["a"])
    graph.show(np.array([[1e-6, 0.0, 0.999999]]))
    assert graph.probabilities == [[0.001, 0.0, 1.0]]
    graph.show(np.array([[1.0, 0.0, 0.0]]), [2])  # group 1 is empty, branch 2 is closed
    assert graph.closed == [2]
    graph.show(np.full((1, 3), np.nan))  # a run that has just blown up
    assert graph.closed == []
    assert graph.probabilities == [[0.0, 0.0, 0.0]]


def test_tau_explorer_moves_the_draw_and_leaves_softmax_alone() -> None:
    """The slider changes the first two pictures; the button draws new noise."""
    explorer = TauExplorer(np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]]))
    before = [np.array(matrix.shown["numbers"]) for matrix in explorer.matrices]
    assert isinstance(explorer.tau, Slider)  # with a name, which a slider of ipywidgets has not
    explorer.tau.value = 0.1
    after = [np.array(matrix.shown["numbers"]) for matrix in explorer.matrices]
    assert not np.allclose(before[0], after[0])
    assert not np.allclose(before[1], after[1])
    np.testing.assert_array_equal(before[2], after[2])
    explorer.noise.click()
    assert not np.allclose(after[0], explorer.matrices[0].shown["numbers"])
    n_widgets = len(ipywidgets.widgets.widget._instances)
    again = TauExplorer(np.zeros((3, 2)))  # its cell run again
    assert len(ipywidgets.widgets.widget._instances) == n_widgets
    assert again.widget is explorer.widget
    again.close()
    with pytest.raises(ValueError, match="`tau` must be one of"):
        TauExplorer(np.zeros((2, 2)), tau=3.0)


def test_a_recorded_run_is_shown_without_torch(tmp_path: Path, history: History) -> None:
    """Dashboard over a saved History, with torch made impossible to import."""
    path = history.save(tmp_path / "run.npz")
    program = f"""
import sys
sys.modules["torch"] = None
from dmtg_lite.runs.history import About, History
from dmtg_lite.views.widgets import Dashboard
assert Dashboard(History.load({str(path)!r})).head_graph.probabilities
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_extra_is_named() -> None:
    """Without ipywidgets the error says what to install."""
    program = """
import sys
sys.modules["ipywidgets"] = None
from dmtg_lite.views import widgets
try:
    widgets.Dashboard
except ImportError as error:
    assert "dmtg-lite[notebook]" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_spare_branches_in_the_dashboard() -> None:
    """K is the target, words count open branches, closed ones are ghosts; in the past, open."""
    config = replace(CONFIG, spare=Spare(branches="double", close_from=20, close_every=10))
    with live(config, 2, "spare") as (session, dashboard):
        graph, words = dashboard.head_graph, dashboard.numbers
        assert (dashboard.n_groups.value, dashboard.spare.label) == (2, "as many as K")
        assert "K=2, 4 of 4 branches open" in words.value
        assert graph.closed == []
        session.step(25)
        session.wait(60)
        branch = session.history.closings[0]["branch"]
        eventually(lambda: "K=2, 3 of 4 branches open" in words.value)
        assert graph.closed == [branch]
        eventually(lambda: numbers(dashboard)[0][branch] is None)
        assert "branches=&#x27;double&#x27;" in dashboard.config_line.value
        dashboard.scrub.value = 10
        eventually(lambda: "K=2, 4 of 4 branches open" in words.value)
        assert graph.closed == []
        assert 0 not in graph.probabilities[0]
        session.start()
        session.wait(60)
        dashboard.scrub.value = config.steps - 1
        eventually(lambda: "K=2, 2 of 4 branches open" in words.value)
        assert len(graph.closed) == 2
        assert graph.finished
        dashboard.spare.label, dashboard.n_groups.value = "none", 3
        dashboard.reset.click()
        eventually(lambda: len(graph.probabilities[0]) == 3)
        eventually(lambda: words.value == "no groups yet")
        assert graph.closed == []
        dashboard.n_groups.value, dashboard.spare.label = 8, "as many as K"
        dashboard.reset.click()
        eventually(lambda: "K=8, 8 of 8" in words.value or len(graph.probabilities[0]) == 8)


def test_a_recorded_closing_is_counted_from_the_first_record(history: History) -> None:
    """A replay knows that branches will close: it counts the open ones before and after."""
    p = np.full((20, 2, 3), 1 / 3)
    p[10:] = [0.5, 0.0, 0.5]
    run = History(["a", "b"], 3)
    costs = {"cost": 0.0, "costs": [1.0, 0.0, 1.0], "branches": [0, 1, 2]}
    run.tell(Closing(step=11, branch=1, moved={}, **costs), None)
    run.append(history.steps, p, history.task_losses, history.tau, history.lr_assignment)
    dashboard = Dashboard(run, name="test")
    assert "2 of 3 branches open" in dashboard.numbers.value
    dashboard.scrub.value = 3
    eventually(lambda: "3 of 3 branches open" in dashboard.numbers.value)
    assert dashboard.head_graph.closed == []
    dashboard.close()
    dashboard = Dashboard(history, name="test")
    assert "branches open" not in dashboard.numbers.value
    dashboard.close()


def test_k_may_be_left_to_the_costs() -> None:
    """The slider has "auto", the words count branches and, once it is known, say K."""
    config = replace(CONFIG, spare=Spare(close_from=10, close_every=5))
    with live(config, 2, "auto") as (session, dashboard):
        dashboard.n_groups.value = "auto"
        dashboard.reset.click()
        eventually(lambda: "K=auto, 6 of 6" in dashboard.numbers.value or session.state == "idle")
        session.step(12)
        session.wait(60)
        said = session.history.elbow["n_groups"]
        n_open = 6 - len(session.history.closings)
        eventually(lambda: f"K=auto ({said}), {n_open} of 6" in dashboard.numbers.value)
        assert "n_groups=&#x27;auto&#x27;" in dashboard.config_line.value
