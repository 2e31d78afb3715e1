"""Whatever trains with a folder writes the same form, can be steered there, and ends the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import CONFIG, DATA, assert_same_run, run

from dmtg_lite import methods
from dmtg_lite.core.config import Restarts, Spare
from dmtg_lite.runs import folder_writer
from dmtg_lite.runs.folder import RunFolder, find_runs
from dmtg_lite.runs.history import History
from dmtg_lite.runs.load import load_result
from dmtg_lite.runs.saving import Saving
from dmtg_lite.studies.cells import Cell, run_cells

TURNS = [{"step": 5, "tau": 0.5}, {"step": 9, "tau": None, "lr_assignment": 0.5}]


def assert_in_folder(path: Path, history: History) -> None:
    """What a reader finds is the run's history; probabilities are two bytes each there."""
    found = RunFolder(path).history
    for name in {*History.ARRAYS, *History.VALIDATION} - {"probabilities"}:
        np.testing.assert_array_equal(getattr(found, name), getattr(history, name), err_msg=name)
    np.testing.assert_allclose(found.probabilities, history.probabilities, atol=1e-5)
    assert (found.closings, found.elbow) == (history.closings, history.elbow)


def test_fit_in_a_folder_is_the_same_fit(tmp_path: Path) -> None:
    """Bit for bit, whether it is watched, validated, stopped on the way, or none of it."""
    whole = run()
    for stop in (1, 7, None):
        watched = run(stop_at=stop, folder=tmp_path, validate_every=3)
        assert_in_folder(tmp_path, watched[0])
        assert RunFolder(tmp_path).state == ("finished" if stop is None else "stopped")
    assert watched[0].validation_steps.tolist() == [3, 6, 9, 12]
    assert (watched[0].validation_losses > 0).all()
    assert_same_run(whole, watched)
    reader = RunFolder(tmp_path)
    assert (reader.run["method"], reader.run["n_steps"], reader.step) == ("fit", 12, 12)
    assert (tmp_path / "checkpoints" / "main.safetensors").exists()


@pytest.mark.parametrize("schedule", ["plateau", "multistep"])
def test_what_a_plateau_decides_on_is_kept(schedule: str) -> None:
    """Losses and errors of each epoch's end, of all tasks; nothing where nothing looks."""
    history, _ = run(replace(CONFIG, schedule=schedule, batch_size=20))
    assert history.validation_steps.tolist() == ([3, 6, 9] if schedule == "plateau" else [])
    assert history.validation_losses.shape == history.validation_errors.shape
    assert np.isfinite(history.validation_errors).all()


def test_turns_are_part_of_the_run(tmp_path: Path) -> None:
    """With the same turns the same run, in one go or stopped before and after each of them."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "turns.json").write_text(json.dumps(TURNS))
    whole = run(folder=tmp_path / "whole")
    np.testing.assert_allclose(whole[0].tau, [2.5] * 4 + [0.5] * 4 + [2.5] * 4)
    assert not np.array_equal(whole[0].task_losses, run()[0].task_losses)
    for stop in (4, 5, 10, None):
        parts = run(stop_at=stop, folder=tmp_path / "parts")
    assert_same_run(whole, parts)


def test_a_run_elsewhere_is_steered_by_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused after two steps, tau turned, started: all in the history."""
    monkeypatch.setattr(folder_writer, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(folder_writer, "FLUSH_EVERY", 0.01)
    ended: list[tuple] = []
    begin = folder_writer.FolderWriter.begin

    def begin_paused(self: folder_writer.FolderWriter, *arguments: object) -> None:
        begin(self, *arguments)
        self._inbox.append({"command": "step", "n": 2})

    monkeypatch.setattr(folder_writer.FolderWriter, "begin", begin_paused)
    thread = threading.Thread(target=lambda: ended.append(run(folder=tmp_path)))
    thread.start()
    wait_for(lambda: (tmp_path / "run.json").exists())
    reader = RunFolder(tmp_path)
    wait_for(lambda: reader.update() and reader.state == "paused" and len(reader.history) == 2)
    reader.leave_note(tau=0.5, command="start")
    thread.join(20)
    reader.update()
    assert reader.history.tau.tolist() == [2.5] * 2 + [0.5] * 10
    assert reader.turns == [{"step": 3, "tau": 0.5}]
    assert reader.state == "finished"
    assert_in_folder(tmp_path, ended[0][0])


def wait_for(is_so: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if is_so():
            return
        pause.wait(0.01)
    pytest.fail("waited ten seconds")


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    """In heartbeat and log."""
    with pytest.raises(FloatingPointError, match="is nan at step"):
        run(replace(CONFIG, lr=1e30, lr_assignment=0.1), folder=tmp_path)
    reader = RunFolder(tmp_path)
    assert (reader.state, reader.is_alive) == ("failed", False)
    assert reader.error.startswith("FloatingPointError: the loss of task")
    assert "failed at step" in (tmp_path / "log.txt").read_text()


def test_a_method_with_a_folder_is_a_run_folder_with_its_result(tmp_path: Path) -> None:
    """Of one run its own; of restarts one each below. Resumed it is the same result."""
    config = replace(CONFIG, pretrain=4, spare=Spare(branches=1, close_from=6, close_every=2))
    result = methods.dmtg(DATA, 2, config, saving=Saving(tmp_path, every=5))
    own = tmp_path / "dmtg"
    assert find_runs(tmp_path) == [own]
    reader = RunFolder(own)
    assert (reader.state, reader.pretrained, reader.run["n_branches"]) == ("finished", 4, 3)
    assert reader.history.about.groups == result.groups
    assert_in_folder(own, result.history)
    assert load_result(own).groups == result.groups
    again = methods.dmtg(DATA, 2, config, saving=Saving(tmp_path, every=5))
    assert again.task_losses == result.task_losses
    assert_in_folder(own, result.history)

    several = replace(config, restarts=Restarts(n=4, halve_every=8))
    methods.dmtg(DATA, 2, several, saving=Saving(tmp_path / "several"))
    names = [path.name for path in find_runs(tmp_path / "several")]
    assert names == [f"restart{n}" for n in range(4)]
    states = [RunFolder(path).state for path in find_runs(tmp_path / "several")]
    assert sorted(states) == ["finished", "stopped", "stopped", "stopped"]
    assert load_result(tmp_path / "several" / "dmtg").method == "dmtg"


def test_runs_on_the_way_have_folders_below(tmp_path: Path) -> None:
    """HOA's pairs, and what two-shot learns its groups from."""
    two = DATA.select(DATA.task_names[:3])
    methods.hoa(two, 2, CONFIG, saving=Saving(tmp_path))
    methods.two_shot(two, 2, CONFIG, saving=Saving(tmp_path, runs=tmp_path / "out"))
    names = [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)]
    assert names == ["hoa", "hoa/pairs0", "out", "out/dmtg"]
    assert RunFolder(tmp_path / "out").run["method"] == "two_shot"
    assert load_result(tmp_path / "out" / "dmtg").method == "dmtg"


def test_cells_that_are_kept_are_run_folders(tmp_path: Path) -> None:
    """Each where its checkpoints are, however many runs its method made on the way."""
    cells = [Cell("naive", None, CONFIG), Cell("dmtg", 2, CONFIG)]
    run_cells(cells, DATA, folder=tmp_path, keep_checkpoints=True)
    names = [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)]
    wanted = [f"checkpoints/{cell.name(DATA.fingerprint())}" for cell in cells]
    assert names == sorted(wanted)
    assert all(RunFolder(tmp_path / name).state == "finished" for name in names)
