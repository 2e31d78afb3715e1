"""What a recorded run promises: nothing lost, nothing torn, nothing executed when it is opened."""

from __future__ import annotations

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


def make_history(n_records: int, *, n_groups: int = 3, seed: int = 0) -> History:
    """A run of random numbers; record t carries step t + 1."""
    rng = np.random.default_rng(seed)
    history = History(NAMES, n_groups, about=About(method="dmtg", seed=seed))
    if n_records:
        history.append(
            np.arange(1, n_records + 1),
            rng.dirichlet(np.ones(n_groups), size=(n_records, 2)),
            rng.random((n_records, 2)),
            rng.random(n_records) + 0.1,
            rng.random(n_records),
        )
    return history


def assert_same(one: History, other: History) -> None:
    for name in History.ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_one_at_a_time_is_the_same_as_all_at_once() -> None:
    """1,000 single records, through several growths, equal one append of 1,000."""
    whole, single = make_history(1000), History(NAMES, 3)
    for t in range(1000):
        single.append(*(getattr(whole, name)[t] for name in History.ARRAYS))
    assert len(single) == 1000
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
    np.testing.assert_array_equal(part.steps, np.arange(1, 101)[10:50:7])
    np.testing.assert_array_equal(part.probabilities, history.probabilities[10:50:7])
    assert part.about == history.about
    assert part.task_names == NAMES
    assert len(history.slice(5, 5)) == 0
    part.append(999, np.ones((2, 3)) / 3, np.ones(2), 1.0, 1.0)
    assert len(history) == 100


def test_saved_and_loaded_it_is_the_same_run(tmp_path: Path) -> None:
    """Everything exactly, probabilities to half a 65535th; the meta data too."""
    history = make_history(300)
    loaded = History.load(history.save(tmp_path / "deep" / "run.npz"))
    for name in set(History.ARRAYS) - {"probabilities"}:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name), err_msg=name)
    # half a quantum, and float32 rounding on top of it
    np.testing.assert_allclose(
        loaded.probabilities, history.probabilities, atol=0.5 / 65535 + 1e-7, rtol=0
    )
    assert loaded.about == history.about
    assert (loaded.task_names, loaded.n_groups) == (NAMES, 3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run.npz"]


def test_an_empty_run_survives_too(tmp_path: Path) -> None:
    """A run that was stopped before its first step can be saved and opened."""
    assert len(History.load(make_history(0).save(tmp_path / "run.npz"))) == 0


def test_only_pruned_heads_read_exactly_zero(tmp_path: Path) -> None:
    """0 is how a pruned head is told from one that is merely unlikely, also after a round trip."""
    history = History(["a"], 3)
    history.append(1, np.array([[1 - 1e-9, 1e-9, 0.0]]), np.ones(1), 1.0, 1.0)
    stored = History.load(history.save(tmp_path / "run.npz")).probabilities[0, 0]
    assert stored[1] > 0
    assert stored[2] == 0


@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "truncated", "pickle", "objects", "foreign", "format", "lengths"]
)
def test_what_is_no_recording_is_refused(tmp_path: Path, kind: str) -> None:
    """Garbage, half a file, pickled content and another program's npz: one clear error, nothing executed."""
    path = tmp_path / "run.npz"
    good = make_history(50).save(tmp_path / "good.npz").read_bytes()
    executed = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple:
            return executed.touch, ()

    if kind == "objects":
        with np.load(tmp_path / "good.npz") as file:
            np.savez(path, **{**file, "task_losses": np.array([Evil()], dtype=object)})
    elif kind == "foreign":
        np.savez(path, weights=np.ones(3))
    elif kind == "format":
        np.savez(path, meta=np.array('{"format": "dmtg-run/99"}'))
    elif kind == "lengths":
        with np.load(tmp_path / "good.npz") as file:
            np.savez(path, **{**file, "tau": file["tau"][:-1]})
    else:
        path.write_bytes(
            {
                "garbage": b"\x00garbage" * 99,
                "empty": b"",
                "truncated": good[: len(good) // 2],
                "pickle": pickle.dumps(Evil()),
            }[kind]
        )
    with pytest.raises(ValueError, match=r"run\.npz is not a recorded run"):
        History.load(path)
    assert not executed.exists()


def test_a_missing_file_and_a_wrong_ending_say_so(tmp_path: Path) -> None:
    """Each error names the path."""
    with pytest.raises(FileNotFoundError, match=r"no recorded run at .*missing\.npz"):
        History.load(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        make_history(1).save(tmp_path / "run.json")


def test_bad_records_are_refused() -> None:
    """Arrays of unequal length, a transposed matrix, another number of tasks."""
    history = History(NAMES, 3)
    with pytest.raises(ValueError, match="records of unequal length"):
        history.append([1, 2], np.ones((2, 2, 3)), np.ones((2, 2)), [1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"`probabilities` must have shape \(2, 3\)"):
        history.append(1, np.ones((3, 2)), np.ones(2), 1.0, 1.0)
    with pytest.raises(ValueError, match=r"`task_losses` must have shape \(2,\)"):
        history.append(1, np.ones((2, 3)), np.ones(4), 1.0, 1.0)
    with pytest.raises(ValueError, match="`n_groups` must be >= 1"):
        History(NAMES, 0)
    assert len(history) == 0


def test_one_thread_writes_while_others_read_and_save(tmp_path: Path) -> None:
    """No reader and no saved file ever sees half a record: every record carries its step everywhere."""
    history, done, wrong = History(NAMES, 2), threading.Event(), []

    def write() -> None:
        step = 0
        while not done.is_set() and step < 200_000:
            step += 1
            history.append(step, np.full((2, 2), 0.5), np.full(2, step), 1.0, 1.0)

    def read() -> None:
        for _ in range(15):
            losses, steps = (
                history.task_losses,
                history.steps,
            )  # the later one may be longer, never torn
            if not (losses == steps[: len(losses), None]).all():
                wrong.append("torn")
            try:
                views = History.load(history.save(tmp_path / "run.npz")), history.slice(-50)
            except ValueError as error:
                wrong.append(str(error))
                continue
            if not all((view.task_losses == view.steps[:, None]).all() for view in views):
                wrong.append("mixed")

    writer = threading.Thread(target=write)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # let the threads interrupt each other everywhere
    try:
        writer.start()
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
    back.append(21, np.full((2, 3), 1 / 3), np.ones(2), 1.0, 1.0)
    assert (len(back), len(history), back.about) == (21, 20, history.about)


def test_groups_of_a_record() -> None:
    """Tasks by most probable group at any record; empty groups are dropped."""
    history = History(NAMES, 3)
    with pytest.raises(ValueError, match="no records yet"):
        history.groups()
    history.append(1, np.array([[0.1, 0.2, 0.7], [0.0, 0.4, 0.6]]), np.ones(2), 1.0, 1.0)
    history.append(2, np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]), np.ones(2), 1.0, 1.0)
    assert history.groups(0) == [["a", "b"]]
    assert history.groups() == [["b"], ["a"]]


def test_entropy_by_hand() -> None:
    """1 for a uniform row, 0 for a decided one, pruned heads included; their mean over tasks."""
    assert compute_entropy(np.full((4, 3), 1 / 3)) == pytest.approx(1.0)
    assert compute_entropy(np.eye(3)) == 0.0
    half = -(0.5 * log(0.5) * 2) / log(3)
    assert compute_entropy(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])) == pytest.approx(half / 2)
    history = History(NAMES, 3)
    history.append(1, np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), np.ones(2), 1.0, 1.0)
    np.testing.assert_allclose(history.entropy, [half / 2], rtol=1e-6)
    assert compute_entropy(np.ones((2, 1))) == 0.0  # one group: nothing to be unsure about


@pytest.mark.parametrize("tau", [0.5, 2.5])
def test_mean_assignment_agrees_with_drawing_in_torch(tau: float) -> None:
    """Oracle: the mean of 40,000 draws of torch's gumbel_softmax; both standard errors are below 0.005."""
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
    """Ten steps of three branches; the tasks of branch 1 move to branch 0 when it closes at step 6."""
    p = np.tile(np.array([[0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]), (10, 1, 1))
    p[5:] = [[0.9, 0.0, 0.1], [0.2, 0.0, 0.8]]
    closing = {
        "step": 6,
        "branch": 1,
        "branches": [0, 1, 2],
        "cost": 0.01,
        "costs": [0.5, 0.01, 0.4],
        "moved": {"a": 0},
    }
    history = History(NAMES, 3)
    history.tell(closing, None)
    history.append(np.arange(1, 11), p, np.ones((10, 2)), np.ones(10), np.ones(10))
    return history


def test_a_closed_branch_is_one_without_any_task_and_only_from_its_closing_on() -> None:
    """A column of exact zeros is closed; a small one, an empty group and a run of NaN are not."""
    history = make_closing_run()
    assert (history.closed_branches(4), history.closed_branches(5)) == ([], [1])
    assert history.groups() == [["a"], ["b"]]
    assert History(NAMES, 3).closed_branches() == []
    assert compute_is_open(np.full((2, 3), np.nan)).all()


def test_closings_survive_save_and_slice(tmp_path: Path) -> None:
    """A saved run tells of its closings; a slice of the past does not know what is still to come."""
    history = make_closing_run()
    elbow = {"n_branches": [3, 2], "branches": [1, 0], "costs": [0.01, 0.6], "n_groups": 2}
    history.tell(None, elbow)
    back = History.load(history.save(tmp_path / "run.npz"))
    assert back.closings == history.closings != []
    assert back.elbow == history.elbow == elbow
    assert (back.closed_branches(4), back.closed_branches(5)) == ([], [1])
    past = history.slice(stop=5)
    assert past.closings == []
    assert len(history.slice(start=2).closings) == 1


def test_entropy_keeps_its_unit_when_a_branch_closes() -> None:
    """Closing a branch that nobody used leaves the curve where it was: the unit is the log of all columns."""
    before, after = np.array([[0.5, 0.5, 1e-12]]), np.array([[0.5, 0.5, 0.0]])
    assert compute_entropy(after) == pytest.approx(float(compute_entropy(before)), abs=1e-6)
    assert compute_entropy(after) == pytest.approx(log(2) / log(3))
