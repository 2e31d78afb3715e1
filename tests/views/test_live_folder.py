"""A live session with a folder: steered from elsewhere, and gone on with where a kernel died."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_live import CONFIG, FACES, SPARE, opened

from dmtg_lite import methods
from dmtg_lite.runs.folder import RunFolder
from dmtg_lite.runs.history import History
from dmtg_lite.runs.load import load_result


def assert_same(one: History, other: History) -> None:
    for name in (*History.ARRAYS, *History.VALIDATION):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.closings, one.elbow) == (other.closings, other.elbow)


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until, "waited twenty seconds"
        time.sleep(0.02)


def test_another_kernel_goes_on_where_the_first_was(tmp_path: Path) -> None:
    """Paused at the checkpoint's step with its history, knobs and line; then bit for bit."""
    with opened(SPARE, 2, folder=tmp_path / "run") as session:
        session.turn(tau=4.0)
        session.step(25)
        assert session.wait(60) == "paused"
        shutil.copytree(tmp_path / "run", tmp_path / "died")  # as a killed kernel leaves it
        session.turn(tau=0.5, lr_assignment=0.1)
        session.start()
        assert session.wait(60) == "finished"
        whole, line, result = session.history, session.config_line, session.result()
    assert load_result(tmp_path / "run").task_losses == result.task_losses
    reader = RunFolder(tmp_path / "run")
    assert (reader.state, reader.pretrained, reader.step) == ("finished", 20, 60)
    np.testing.assert_array_equal(reader.history.task_losses, whole.task_losses)

    # later turns were written down before the kernel died
    shutil.copy(tmp_path / "run" / "turns.json", tmp_path / "died" / "turns.json")
    with opened(SPARE, 2, folder=tmp_path / "died") as again:
        assert (again.state, len(again.history), again.pretrained) == ("paused", 25, 20)
        assert (again.knobs.tau, again.knobs.lr_assignment) == (4.0, None)
        assert again.config_line.endswith(f"config={replace(SPARE, tau=4.0)})")
        again.start()
        assert again.wait(60) == "finished"
        assert_same(again.history, whole)
        assert again.config_line == line
        assert again.result().task_losses == result.task_losses
    with opened(SPARE, 2, folder=tmp_path / "died") as over:
        assert over.wait(60) == "finished"
        assert_same(over.history, whole)


def test_a_folder_changes_nothing(tmp_path: Path) -> None:
    """Stopped while pretraining and while training, in three kernels: still `methods.dmtg`."""
    plain = methods.dmtg(FACES, 3, CONFIG)
    with opened(folder=tmp_path, checkpoint_every=7, steps_per_second=40) as session:
        session.start()
        wait_for(lambda: session.pretrained > 3)
    with opened(folder=tmp_path, checkpoint_every=7) as session:
        assert session.state == "paused"
        assert session.pretrained > 3
        session.step(10)
        session.wait(60)
    with opened(folder=tmp_path, checkpoint_every=7) as session:
        assert len(session.history) == 10
        session.start()
        assert session.wait(60) == "finished"
        for name in History.ARRAYS:
            own, other = getattr(session.history, name), getattr(plain.history, name)
            np.testing.assert_array_equal(own, other, err_msg=name)
        assert session.result().task_losses == plain.task_losses
        assert len(session.history.validation_steps)


def test_a_session_is_steered_from_its_folder(tmp_path: Path) -> None:
    """What a reader leaves acts as a button here does."""
    with opened(folder=tmp_path) as session:
        reader = RunFolder(tmp_path)
        assert (reader.state, reader.is_alive) == ("paused", True)
        reader.leave_note(tau=4.0)
        reader.leave_note(command="step", n=3)
        wait_for(lambda: session.state == "paused" and len(session.history) == 3)
        assert session.knobs.tau == 4.0
        wait_for(lambda: reader.update() and len(reader.history) == 3)
        assert reader.history.tau.tolist() == [4.0] * 3
        assert reader.turns == [{"step": 1, "tau": 4.0}]
    reader.update()
    assert reader.state == "stopped"


def test_a_reset_begins_anew_in_the_folder(tmp_path: Path) -> None:
    """With another K, seen by a reader; another kernel takes up the run as it was reset."""
    with opened(folder=tmp_path) as session:
        session.step(4)
        session.wait(60)
        reader = RunFolder(tmp_path)
        session.reset(n_groups=5, seed=7)
        session.step(2)
        session.wait(60)
        wait_for(lambda: reader.update() and len(reader.history) == 2)
        assert (reader.run["n_groups"], reader.run["seed"], reader.history.n_groups) == (5, 7, 5)
    with opened(folder=tmp_path) as again:
        assert (again.n_groups, again.seed, len(again.history)) == (5, 7, 2)
    with pytest.raises(ValueError, match=r"was made with K=5; this run has K=4"):
        opened(n_groups=4, folder=tmp_path).__enter__()
