"""What a recorded run promises: nothing lost, nothing torn, nothing executed when it is opened."""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dmtg_lite.runs.history import (
    About,
    History,
    compute_entropy,
    compute_is_open,
    compute_mean_assignment,
)

NAMES = ["a", "b"]
HALF = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])


def make_history(n_records: int) -> History:
    """A run of random numbers; record t carries step t + 1, b lost a head at half time."""
    rng = np.random.default_rng(0)
    history = History(NAMES, 3, about=About(method="dmtg", seed=0))
    if n_records:
        matrices = rng.random((n_records, 2, 3)).astype(np.float16)
        matrices[n_records // 2 :, 1, 1] = np.nan
        history.append(
            np.arange(1, n_records + 1),
            rng.dirichlet(np.ones(3), size=(n_records, 2)),
            rng.random((n_records, 2)),
            rng.random(n_records) + 0.1,
            rng.random(n_records),
            matrices,
        )
    return history


def add(history: History, step: int, probabilities: np.ndarray, loss: float = 1.0) -> None:
    history.append(step, probabilities, np.full(len(probabilities), loss), 1.0, 1.0)


def assert_same(one: History, other: History, *, but: str = "") -> None:
    assert (one.task_names, one.n_groups, one.about) == (
        other.task_names,
        other.n_groups,
        other.about,
    )
    for name in set(History.ARRAYS) - {but}:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_one_at_a_time_is_the_same_as_all_at_once() -> None:
    """1,000 single records, through several growths, equal one append of 1,000."""
    whole, single = make_history(1000), make_history(0)
    for t in range(1000):
        single.append(*(getattr(whole, name)[t] for name in History.ARRAYS))
    assert_same(single, whole)
    assert "1000 records" in repr(single)
    assert "last step 1000" in repr(single)


def test_readers_cannot_change_a_record() -> None:
    """What a plot gets is read-only."""
    with pytest.raises(ValueError, match="read-only"):
        make_history(3).steps[0] = 7


def test_a_slice_is_a_copy_of_some_records() -> None:
    """start, stop and every mean what they mean for a list, and the original stays."""
    history = make_history(100)
    part = history.slice(10, 50, 7)
    for name in History.ARRAYS:
        expected = getattr(history, name)[10:50:7]
        np.testing.assert_array_equal(getattr(part, name), expected, err_msg=name)
    assert (part.about, part.task_names) == (history.about, NAMES)
    assert len(history.slice(5, 5)) == 0
    add(part, 999, np.ones((2, 3)) / 3)
    assert len(history) == 100


def test_saved_and_loaded_it_is_the_same_run(tmp_path: Path) -> None:
    """Everything exactly, probabilities to half a 65535th; also a run without a step."""
    history, path = make_history(300), tmp_path / "deep" / "run.npz"
    loaded = History.load(history.save(path))
    assert_same(loaded, history, but="probabilities")
    assert loaded.has_loss_matrices
    # half a quantum, and float32 rounding on top of it
    difference = np.abs(loaded.probabilities - history.probabilities)
    assert difference.max() <= 0.5 / 65535 + 1e-7
    assert list(path.parent.iterdir()) == [path]
    assert len(History.load(make_history(0).save(path))) == 0


def test_a_recording_of_the_first_format_has_no_loss_matrices(tmp_path: Path) -> None:
    """It opens, says so, and reads nan; saved and sliced, it still says so."""
    meta = {"format": "dmtg-run/1", "task_names": NAMES, "n_groups": 3, "title": "old", "rate": 1}
    arrays = {
        "steps": np.array([1, 2], np.int32), "tau": np.ones(2, np.float32),
        "probabilities": np.full((2, 2, 3), 21845, np.uint16),
        "task_losses": np.ones((2, 2), np.float32), "lr_assignment": np.ones(2, np.float32),
    }  # fmt: skip
    np.savez(tmp_path / "old.npz", meta=np.array(json.dumps(meta)), **arrays)
    old = History.load(tmp_path / "old.npz")
    assert (old.about.title, old.steps.tolist()) == ("old", [1, 2])
    np.testing.assert_allclose(old.probabilities, 1 / 3, rtol=1e-6)
    for run in (old, old.slice(), History.load(old.save(tmp_path / "new.npz"))):
        assert not run.has_loss_matrices
        assert run.loss_matrices.shape == (2, 2, 3)
        assert np.isnan(run.loss_matrices).all()


def test_only_pruned_heads_read_exactly_zero(tmp_path: Path) -> None:
    """0 is how a pruned head is told from an unlikely one, also after a round trip."""
    history = History(["a"], 3)
    add(history, 1, np.array([[1 - 1e-9, 1e-9, 0.0]]))
    stored = History.load(history.save(tmp_path / "run.npz")).probabilities[0, 0]
    assert (stored > 0).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "truncated", "pickle", "objects", "foreign", "format", "lengths"]
)
def test_what_is_no_recording_is_refused(tmp_path: Path, kind: str) -> None:
    """Garbage, half a file, pickles, another program's npz: one clear error, nothing executed."""
    path, executed = tmp_path / "run.npz", tmp_path / "executed"
    good = make_history(50).save(tmp_path / "good.npz").read_bytes()
    with np.load(tmp_path / "good.npz") as file:
        arrays = dict(file)

    class Evil:
        def __reduce__(self) -> tuple:
            return executed.touch, ()

    saved = {
        "objects": {**arrays, "task_losses": np.array([Evil()], dtype=object)},
        "foreign": {"weights": np.ones(3)},
        "format": {"meta": np.array('{"format": "dmtg-run/99"}')},
        "lengths": {**arrays, "tau": arrays["tau"][:-1]},
    }
    written = {
        "garbage": b"\x00garbage" * 99,
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "pickle": pickle.dumps(Evil()),
    }
    if kind in saved:
        np.savez(path, **saved[kind])
    else:
        path.write_bytes(written[kind])
    with pytest.raises(ValueError, match=r"run\.npz is not a recorded run"):
        History.load(path)
    assert not executed.exists()


CLOSING = {"step": 2, "branch": 1, "cost": 0.1, "branches": [0, 1], "costs": [1, 0.1], "moved": {}}
ELBOW = {"n_branches": [2], "branches": [1], "costs": [0.1], "n_groups": 2}


def save_with(path: Path, **change: object) -> Path:
    """A good recording with another value in its description, or another array."""
    with np.load(make_history(9).save(path)) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"])) | {
        name: value for name, value in change.items() if not isinstance(value, np.ndarray)
    }
    arrays |= {name: value for name, value in change.items() if isinstance(value, np.ndarray)}
    np.savez(path, **arrays | {"meta": np.array(json.dumps(meta))})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"closings": [{"step": "x"}]}, r"`closings\[0\]\.step` must be a whole number >= 0, got"),
        ({"closings": [{"step": 1, "branch": 0}]}, r"`closings\[0\]\.cost` is missing"),
        ({"closings": [CLOSING | {"branch": 7}]}, "names a branch or task that is not there"),
        ({"elbow": {"n_branches": [1]}}, r"`elbow\.branches` is missing"),
        ({"elbow": ELBOW | {"costs": [0.1, 2.0]}}, "as many costs as branches"),
        ({"elbow": ELBOW | {"n_groups": float("nan")}}, r"`elbow\.n_groups` must be a whole"),
        ({"planted_groups": 5}, "`planted_groups` must be a list, got 5"),
        ({"seed": "7"}, "`seed` must be a whole number >= 0, got '7'"),
        ({"task_names": [1, 2]}, r"`task_names\[0\]` must be text, got 1"),
        ({"n_groups": 2}, r"`probabilities` must be float32 of shape \(9, 2, 2\), got"),
        ({"task_losses": np.full((9, 2), np.nan, np.float32)}, "`task_losses` must be finite"),
        ({"steps": np.arange(9, 0, -1, np.int32)}, "`steps` must be >= 0 and never go back"),
        ({"steps": np.array(3, np.int32)}, r"`steps` must be int32 of shape \(1,\), got"),
        ({"tau": np.full(9, np.nan, np.float32)}, "`tau` must be finite"),
    ],
)
def test_a_recording_with_a_wrong_field_is_refused_by_its_name(
    change: dict, words: str, tmp_path: Path
) -> None:
    """One line: the file, the field, what was expected and what is there."""
    path = save_with(tmp_path / "run.npz", **change)
    with pytest.raises(ValueError, match=rf"run\.npz is not a recorded run .*{words}"):
        History.load(path)


def test_a_run_that_blew_up_is_no_damage(tmp_path: Path) -> None:
    """Losses and probabilities may end in nan, so that one can look at how it came to that."""
    history = make_history(9)
    history.append(10, np.full((2, 3), np.nan), [np.nan, 1.0], 1.0, 1.0)
    back = History.load(history.save(tmp_path / "run.npz"))
    assert np.isnan(back.task_losses[-1]).tolist() == [True, False]
    assert back.closed_branches() == []


def test_neither_a_folder_nor_a_pipe_is_opened(tmp_path: Path) -> None:
    """A pipe would be waited for until the end of days."""
    os.mkfifo(tmp_path / "pipe.npz")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe.npz", "no regular file")):
        with pytest.raises(ValueError, match=f"{path} is {kind}, where a recorded run is due"):
            History.load(path)


def test_a_missing_file_and_a_wrong_ending_say_so(tmp_path: Path) -> None:
    """Each error names the path."""
    with pytest.raises(FileNotFoundError, match=r"no recorded run at .*missing\.npz"):
        History.load(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        make_history(1).save(tmp_path / "run.json")


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (([1, 2], np.ones((2, 2, 3)), np.ones((2, 2)), [1.0], [1.0, 1.0]), "of unequal length"),
        ((1, np.ones((3, 2)), np.ones(2), 1.0, 1.0), r"`probabilities` must have shape \(2, 3\)"),
        ((1, np.ones((2, 3)), np.ones(4), 1.0, 1.0), r"`task_losses` must have shape \(2,\)"),
    ],
)
def test_a_bad_record_is_refused(record: tuple, complaint: str) -> None:
    """Arrays of unequal length, a transposed matrix, another number of tasks; no groups at all."""
    history = make_history(0)
    with pytest.raises(ValueError, match=complaint):
        history.append(*record)
    assert len(history) == 0
    with pytest.raises(ValueError, match="`n_groups` must be >= 1"):
        History(NAMES, 0)


def test_one_thread_writes_while_others_read_and_save(tmp_path: Path) -> None:
    """Nobody ever sees half a record: every record carries its step everywhere."""
    history, done, wrong = History(NAMES, 2), threading.Event(), []

    def write() -> None:
        for step in range(1, 200_000):
            if done.is_set():
                break
            add(history, step, np.full((2, 2), 0.5), loss=step)

    def read() -> None:
        losses, steps = history.task_losses, history.steps  # the later one may be longer
        if not (losses == steps[: len(losses), None]).all():
            wrong.append("torn")
        try:
            views = History.load(history.save(tmp_path / "run.npz")), history.slice(-50)
        except ValueError as error:
            wrong.append(str(error))
        else:
            if not all((view.task_losses == view.steps[:, None]).all() for view in views):
                wrong.append("mixed")

    writer, interval = threading.Thread(target=write), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # let the threads interrupt each other everywhere
    try:
        writer.start()
        for _ in range(15):
            read()
    finally:
        done.set()
        writer.join()
        sys.setswitchinterval(interval)
    assert wrong == []
    assert (history.steps == np.arange(1, len(history) + 1)).all()


def test_a_run_comes_back_from_another_process() -> None:
    """Pickled and unpickled it is the same run, and still safe to append to."""
    history = make_history(20)
    back = pickle.loads(pickle.dumps(history))
    assert_same(back, history)
    add(back, 21, np.full((2, 3), 1 / 3))
    assert (len(back), len(history)) == (21, 20)


def test_groups_of_a_record() -> None:
    """Tasks by most probable group at any record; empty groups are dropped."""
    history = make_history(0)
    with pytest.raises(ValueError, match="no records yet"):
        history.groups()
    add(history, 1, np.array([[0.1, 0.2, 0.7], [0.0, 0.4, 0.6]]))
    add(history, 2, np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]))
    assert history.groups(0) == [["a", "b"]]
    assert history.groups() == [["b"], ["a"]]


def test_entropy_by_hand() -> None:
    """1 for a uniform row, 0 for a decided one, pruned heads included; their mean over tasks.

    The unit is the log of all columns, so that closing an unused branch leaves the curve as it was.
    """
    assert compute_entropy(np.full((4, 3), 1 / 3)) == pytest.approx(1.0)
    assert compute_entropy(np.eye(3)) == compute_entropy(np.ones((2, 1))) == 0.0
    half = log(2) / log(3)
    assert compute_entropy(HALF) == pytest.approx(half / 2)
    assert compute_entropy(np.array([[0.5, 0.5, 1e-12]])) == pytest.approx(half, abs=1e-6)
    history = make_history(0)
    add(history, 1, HALF)
    np.testing.assert_allclose(history.entropy, [half / 2], rtol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 2.5])
def test_mean_assignment_agrees_with_drawing_in_torch(tau: float) -> None:
    """Oracle: 40,000 draws of torch's gumbel_softmax; both standard errors are below 0.005."""
    logits = torch.tensor([[3.0, 0.0, -1.0], [0.0, 0.0, -torch.inf]])
    torch.manual_seed(0)
    expected = F.gumbel_softmax(logits.expand(40_000, 2, 3), tau).mean(0).numpy()
    mean = compute_mean_assignment(logits.softmax(-1).numpy(), tau, n_draws=15_000)
    np.testing.assert_allclose(mean, expected, atol=0.02)
    np.testing.assert_allclose(mean.sum(-1), 1.0, rtol=1e-5)
    assert mean[1, 2] == 0.0


def test_mean_assignment_of_a_whole_run_is_that_of_each_record() -> None:
    """Same noise for every record, so a view does not flicker; a tau of 0 is refused."""
    p = make_history(4).probabilities
    whole = compute_mean_assignment(p, 1.0, n_draws=300)
    np.testing.assert_allclose(whole[2], compute_mean_assignment(p[2], 1.0, n_draws=300), rtol=1e-5)
    with pytest.raises(ValueError, match="`tau` must be > 0"):
        compute_mean_assignment(p, 0.0)


def make_closing_run() -> History:
    """Ten steps of three branches; branch 1 closes at step 6 and its tasks move to branch 0."""
    closing = {
        "step": 6, "branch": 1, "branches": [0, 1, 2], "cost": 0.01, "costs": [0.5, 0.01, 0.4],
        "moved": {"a": 0},
    }  # fmt: skip
    history = History(NAMES, 3)
    history.tell(closing, None)
    for step in range(1, 11):
        before = np.array([[0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
        after = np.array([[0.9, 0.0, 0.1], [0.2, 0.0, 0.8]])
        add(history, step, before if step < 6 else after)
    return history


def test_a_closed_branch_is_one_without_any_task_and_only_from_its_closing_on() -> None:
    """Exact zeros are closed; a small column, an empty group and a run of NaN are not."""
    history = make_closing_run()
    assert (history.closed_branches(4), history.closed_branches(5)) == ([], [1])
    assert history.groups() == [["a"], ["b"]]
    assert History(NAMES, 3).closed_branches() == []
    assert compute_is_open(np.full((2, 3), np.nan)).all()


def test_closings_survive_save_and_slice(tmp_path: Path) -> None:
    """A saved run tells of its closings; a slice of the past does not know what is to come."""
    history = make_closing_run()
    elbow = {"n_branches": [3, 2], "branches": [1, 0], "costs": [0.01, 0.6], "n_groups": 2}
    history.tell(None, elbow)
    back = History.load(history.save(tmp_path / "run.npz"))
    assert back.closings == history.closings != []
    assert back.elbow == history.elbow == elbow
    assert (back.closed_branches(4), back.closed_branches(5)) == ([], [1])
    assert history.slice(stop=5).closings == []
    assert len(history.slice(start=2).closings) == 1
