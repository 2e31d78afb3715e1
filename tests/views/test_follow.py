"""A dashboard on a run that trains elsewhere: all it knows and all it does is in the run's folder.

The trainer here trains nothing: it writes a run folder as `fit` does, a step at a time.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmtg_lite.cli import main
from dmtg_lite.runs import folder, folder_writer
from dmtg_lite.runs.history import About, History
from dmtg_lite.views import background, follow, watch
from dmtg_lite.views.background import train_in_background
from dmtg_lite.views.widgets import Dashboard
from dmtg_lite.views.widgets import dashboard as dashboards
from dmtg_lite.views.widgets.anywidgets import Curves

TASKS = ["hair", "<b>hat</b>"]
FACTS = {
    "format": folder.FORMAT, "id": "0", "method": "dmtg", "n_groups": 2, "n_branches": 2,
    "n_steps": 100, "n_pretraining": 0, "task_names": TASKS,
    "config": {"tau": 2.5, "lr": 0.01, "lr_assignment": None}, "config_line": "TrainConfig()",
    "seed": 0, "data": "none", "fingerprint": "", "note": "", "planted_groups": None,
    "versions": {}, "machine": "", "started": "", "world_size": 1,
}  # fmt: skip


class Trainer:
    """Writes a run folder from where it stands, and may die without a word."""

    def __init__(self, path: Path, history: History | None = None, **facts: object) -> None:
        self.history = history or History(TASKS, 2)
        self.writer = folder_writer.FolderWriter(path, {**FACTS, **facts}).__enter__()
        self.writer.begin(self.history, len(self.history))

    def take(self, n: int) -> int:
        """Up to so many steps, as far as it may; the last one taken."""
        for step in range(len(self.history) + 1, len(self.history) + n + 1):
            if not self.writer.may_step(step):
                break
            share = 0.5 + step / 250
            p = [[share, 1 - share], [1 - share, share]]
            tau = self.writer.knobs.tau or 2.5
            self.history.append(step, p, [1 / step] * 2, tau, 0.01, [[1, 2], [3, 4]])
            self.writer.count(step)
        return len(self.history)

    def die(self) -> None:
        """As by SIGKILL: no beat any more, and no word of farewell."""
        folder_writer._pulse.remove(self.writer)
        self.writer._open.close()

    def finish(self) -> None:
        self.writer.__exit__(None, None, None)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for another thread, which looks at its own pace."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats, looks and pictures ten times as often as for people."""
    for module, name, seconds in (
        (folder_writer, "_BEAT_EVERY", 0.1), (folder_writer, "FLUSH_EVERY", 0.05),
        (folder_writer, "_LOOK_EVERY", 0.02), (follow, "LOOK_EVERY", 0.02),
        (follow, "FIND_EVERY", 0.1), (dashboards, "PAINT_EVERY", 0.02),
        (dashboards, "COMPARE_EVERY", 0.1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    dashboard = Dashboard.follow(tmp_path / "runs", name="test")
    yield dashboard
    dashboard.close()


def shows_step(dashboard: Dashboard, step: int) -> bool:
    return f"step {step} of" in dashboard.numbers.value


def is_shown(widget: Any, within: Any) -> bool:
    """Whether nothing that it lies in is hidden."""
    if within.layout.display == "none":
        return False
    parts = getattr(within, "children", ())
    return within is widget or any(is_shown(widget, part) for part in parts)


def test_it_waits_for_a_run_follows_it_and_is_its_replay(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    """Before: words alone. While it trains: the newest record. After: no buttons, but the past."""
    assert dashboard.state.value == f"waiting for a run in {tmp_path / 'runs'}"
    assert (dashboard.numbers.value, is_shown(dashboard.task, dashboard.widget)) == ("", False)
    assert dashboard.start.disabled
    trainer = Trainer(tmp_path / "runs" / "one")
    trainer.take(30)
    eventually(lambda: shows_step(dashboard, 30))
    assert (dashboard.state.value, dashboard.task.options) == ("running", tuple(TASKS))
    assert dashboard.scrub.max == FACTS["n_steps"] - 1
    assert dashboard.matrix.shown["numbers"][0] == pytest.approx([0.62, 0.38], abs=1e-4)
    trainer.take(70)
    trainer.finish()
    eventually(lambda: dashboard.state.value == "finished" and shows_step(dashboard, 100))
    assert dashboard.start.disabled
    dashboard.scrub.value = 9
    eventually(lambda: "step 10 of 100" in dashboard.numbers.value)
    assert "<b>hat" not in dashboard.draw_still()


def test_what_a_person_does_reaches_the_run(dashboard: Dashboard, tmp_path: Path) -> None:
    """Pause, Step, Start and tau: each is a note that acts between two steps."""
    trainer = Trainer(tmp_path / "runs")
    trainer.take(5)
    eventually(lambda: shows_step(dashboard, 5))
    assert dashboard.tau.value == 2.5
    dashboard.pause.click()
    eventually(lambda: trainer.take(1) and dashboard.state.value == "paused")
    rested = trainer.take(1)
    dashboard.step.click()
    eventually(lambda: trainer.take(1) == rested + 1)
    assert trainer.take(1) == rested + 1
    dashboard.tau.value = 4.0
    dashboard.start.click()
    eventually(lambda: trainer.take(1) and trainer.history.tau[-1] == 4.0)
    (turn,) = trainer.writer.turns
    taus = trainer.history.tau.tolist()
    assert taus == [2.5] * (turn["step"] - 1) + [4.0] * (len(taus) - turn["step"] + 1)
    eventually(lambda: f"tau turned to 4 at step {turn['step']}" in dashboard.config_line.value)
    another = Dashboard.follow(tmp_path / "runs", name="another")  # of a second person
    assert another.tau.value == 4.0
    assert len(trainer.writer.turns) == 1
    another.close()
    trainer.finish()
    eventually(lambda: not dashboard.source.is_steerable)
    with pytest.raises(ValueError, match="nobody is there to act on this: stopped"):
        dashboard.session.pause()


def test_a_killed_run_is_said_to_be_silent_and_a_resumed_one_is_followed_on(
    dashboard: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that a resumed run does not have any more leave the view too."""
    monkeypatch.setattr(folder, "SILENT_AFTER", 0.5)
    trainer = Trainer(tmp_path / "runs")
    trainer.take(20)
    eventually(lambda: shows_step(dashboard, 20))
    trainer.die()
    eventually(lambda: dashboard.state.value == "stopped responding")
    assert "--resume goes on" in dashboard.error.value
    assert dashboard.pause.disabled
    again = Trainer(tmp_path / "runs", trainer.history.slice(stop=10))  # of its checkpoint
    again.take(2)
    eventually(lambda: dashboard.state.value == "running" and shows_step(dashboard, 12))
    assert dashboard.error.value == ""
    assert not dashboard.pause.disabled
    again.finish()


def test_several_runs_stand_side_by_side_and_a_click_opens_one(tmp_path: Path) -> None:
    """One picture for each that is chosen, all to one scale; below, the one that was opened."""
    trainers = {name: Trainer(tmp_path / "runs" / name) for name in "abc"}
    for n, trainer in enumerate(trainers.values()):
        trainer.take(10 * n + 10)
    dashboard = Dashboard.follow(tmp_path / "runs", name="test")
    runs = dashboard.runs
    eventually(lambda: runs.names == ["a", "b", "c"] and len(runs.shown["plots"]) == 3)
    assert not is_shown(dashboard.task, dashboard.widget)
    assert dashboard.state.value.startswith("3 runs in")
    eventually(lambda: runs.shown["plots"]["c"]["words"] == "running, step 30")
    runs.chosen = ["a", "b"]
    runs.what = "loss"
    eventually(lambda: set(runs.shown["plots"]) == {"a", "b"} and "y" in runs.shown["plots"]["a"])
    assert runs.shown["end"] == FACTS["n_steps"]
    assert runs.shown["top"] == pytest.approx(1.05)
    runs.opened = "b"
    eventually(lambda: shows_step(dashboard, 20) and is_shown(dashboard.task, dashboard.widget))
    assert "<b>b</b>" in dashboard.numbers.value
    runs.opened = ""
    eventually(lambda: not is_shown(dashboard.task, dashboard.widget))
    dashboard.close()
    for trainer in trainers.values():
        trainer.finish()


def test_a_damaged_piece_is_named_in_the_view(dashboard: Dashboard, tmp_path: Path) -> None:
    """And the view lives on: what was read before stays."""
    trainer = Trainer(tmp_path / "runs")
    trainer.take(8)
    eventually(lambda: shows_step(dashboard, 8))
    trainer.die()
    (path,) = (tmp_path / "runs" / folder.HISTORY).iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.with_name(f"00000008-00000009.{path.name.split('.')[1]}.npz").write_bytes(content)
    eventually(lambda: "00000008-00000009" in dashboard.error.value)
    assert shows_step(dashboard, 8)


def test_what_travels_to_the_browser_does_not_grow_with_the_run() -> None:
    """As many points of 50,000 records as of 500, validation included, and in the same time."""
    sizes, seconds = [], []
    for n_steps in (500, 50_000):
        history = History([f"task {n}" for n in range(8)], 4)
        steps, ones = np.arange(1, n_steps + 1), np.ones(n_steps)
        p = np.full((n_steps, 8, 4), 0.25)
        history.append(steps, p, np.ones((n_steps, 8)), ones, ones, p)
        history._validation = dict(
            zip(
                History.VALIDATION, (steps.astype(np.int32), *np.ones((2, n_steps, 8))), strict=True
            )
        )
        curves, started = Curves(), time.thread_time()
        assert curves.show(history, -1, "task 0")
        seconds.append(time.thread_time() - started)
        charts = curves.shown["charts"]
        sizes.append({len(line["y"]) for chart in charts for line in chart["lines"]})
    assert sizes == [{400}, {400}]
    assert seconds[1] < 5 * seconds[0] + 0.05


def test_validation_is_drawn_where_the_run_looked_at_it() -> None:
    """Its loss beside the training loss, its error below; an old recording has neither."""
    history = History(TASKS, 2, about=About(title="x"))
    halves, ones = np.full((10, 2, 2), 0.5), np.ones(10)
    history.append(np.arange(1, 11), halves, np.ones((10, 2)), ones, ones)
    curves = Curves()
    curves.show(history, -1, "hair")
    assert len(curves.shown["charts"]) == 3
    history.tell_validation(5, [0.5, 9.0], [12.0, 9.0])
    history.tell_validation(10, [0.25, 9.0], [8.0, 9.0])
    curves.show(history, -1, "hair")
    losses, error = curves.shown["charts"][1]["lines"], curves.shown["charts"][3]
    assert (losses[-1]["steps"], losses[-1]["y"]) == ([5, 10], [0.5, 0.25])
    assert error["lines"][0]["y"] == [12.0, 8.0]
    assert error["top"] == pytest.approx(1.05 * 12)
    json.dumps(curves.shown, allow_nan=False)


def test_watch_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, a port that is taken, voila that is not there: exit code 2 and what to do. A lecture
    neither shows what is no notebook nor hides what is no control."""
    (tmp_path / "file").touch()
    assert main(["watch", str(tmp_path / "file")]) == 2
    assert "is a file, where a folder of runs is due" in capsys.readouterr().err
    for arguments, words in (
        ([str(tmp_path / "file")], "is no notebook: give .ipynb files"),
        ([str(tmp_path / "none.ipynb")], "no notebook at"),
        (["--hide", "seed,sed", str(tmp_path / "file")], "unknown controls ['sed']"),
    ):
        assert main(["present", *arguments]) == 2
        assert words in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind((watch.HOST, 0))
        taken.listen()
        for port in (taken.getsockname()[1], 70_000):
            assert main(["watch", str(tmp_path), "--port", str(port)]) == 2
            assert f"port {port} cannot be had" in capsys.readouterr().err
    monkeypatch.setattr(watch, "find_spec", lambda name: None)
    assert main(["watch", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == 'dmtg-lite: watching needs voila: pip install "dmtg-lite[notebook,watch]"'


def test_training_in_the_background_starts_resumes_or_leaves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call before and after a restart: arguments as a list, and always with --resume."""
    started = []

    class Process:
        pid = 7

        def __init__(self, command: list[str], **how: object) -> None:
            started.append((command, how))

    monkeypatch.setattr(background.subprocess, "Popen", Process)
    path = tmp_path / "of; 'mine'"
    assert "process 7 trains" in train_in_background(path, "toy_faces", "--steps", "9")
    ((command, how),) = started
    assert command[1:] == [
        "-m", "dmtg_lite", "train", "toy_faces", "--steps", "9", "--out", str(path), "--resume",
    ]  # fmt: skip
    assert how["start_new_session"]
    trainer = Trainer(path)
    assert "goes on in another process" in train_in_background(path, "toy_faces")
    trainer.finish()
    (path / "result.json").write_text("{}")
    assert "is over" in train_in_background(path, "toy_faces")
    assert len(started) == 1
