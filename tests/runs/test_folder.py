"""A run folder: whoever looks sees whole records at any moment, and notices one flipped bit."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmtg_lite.runs import folder, folder_writer
from dmtg_lite.runs.folder import RunFolder, find_runs
from dmtg_lite.runs.folder_writer import FolderWriter
from dmtg_lite.runs.history import History
from dmtg_lite.runs.pieces import list_pieces

TASKS, K = ["a", "b", "c"], 2


def make_facts(**changes: Any) -> dict[str, Any]:
    return {
        "format": folder.FORMAT, "id": "first", "method": "dmtg", "n_groups": 2, "n_branches": K,
        "n_steps": 40, "n_pretraining": 5, "task_names": TASKS, "config": {"lr": 0.1},
        "config_line": "TrainConfig(lr=0.1)", "seed": 0, "data": "drawn", "fingerprint": "f",
        "note": "", "planted_groups": None, "versions": {}, "machine": "here",
        "started": "2026-01-01T00:00:00+00:00", "world_size": 1,
    } | changes  # fmt: skip


def add_records(history: History, first: int, last: int) -> None:
    """Records of steps first to last; what is in them depends on the step alone."""
    for step in range(first, last + 1):
        rng = np.random.default_rng(step)
        p = rng.dirichlet(np.ones(K), len(TASKS))
        if step % 10 == 0:
            history.tell_validation(step, rng.random(3), rng.random(3))
        history.append(step, p, rng.random(3), 2.5, 0.1, rng.random((3, K)))


def make_history(last: int) -> History:
    history = History(TASKS, K)
    add_records(history, 1, last)
    return history


def assert_same_history(one: History, other: History) -> None:
    for name in (*History.ARRAYS, *History.VALIDATION):
        got, wanted = getattr(one, name), getattr(other, name)
        if name == "probabilities":  # two bytes each
            np.testing.assert_allclose(got, wanted, atol=1e-5)
        else:
            np.testing.assert_array_equal(got, wanted, err_msg=name)


@pytest.fixture(autouse=True)
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small thread is asked by hand, so that nothing here waits."""
    monkeypatch.setattr(folder_writer._pulse, "add", lambda writer: None)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[FolderWriter]:
    with FolderWriter(tmp_path / "run", make_facts()) as writer:
        yield writer


def flush(writer: FolderWriter) -> None:
    writer._save_due = writer._beat_due = 0
    writer.tick()


def test_a_reader_sees_the_run_grow(writer: FolderWriter) -> None:
    """Pretraining, then records and what validation gave, appended to the same history."""
    with pytest.raises(FileNotFoundError, match=r"run is no run folder: it has no run\.json"):
        RunFolder(writer.path)
    writer.begin(None, 0)
    reader = RunFolder(writer.path)
    assert (reader.state, reader.is_alive, len(reader.history)) == ("pretraining", True, 0)
    writer.count(3)
    flush(writer)
    assert reader.update()
    assert reader.pretrained == 3
    history = History(TASKS, K)
    writer.begin(history, 0)
    own = reader.history
    for last in (1, 4, 15, 16, 40):
        add_records(history, len(history) + 1, last)
        writer.count(last)
        flush(writer)
        assert reader.update()
        assert not reader.update()
        assert_same_history(reader.history, history)
    assert reader.history is own
    assert (reader.state, reader.step, reader.pretrained) == ("running", 40, 5)
    assert own.about.config == "TrainConfig(lr=0.1)"
    assert own.validation_steps.tolist() == [10, 20, 30, 40]
    assert_same_history(RunFolder(writer.path).history, history)


def test_a_thinned_run_shows_its_newest_record(
    writer: FolderWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows sees it at once; of what is kept nothing is missed; memory is bounded."""
    monkeypatch.setattr(folder, "_MOST_SHOWN", 2)
    writer.begin(history := make_history(10), 10)
    reader, whole, seen = RunFolder(writer.path), make_history(40), []
    for step, kept in ((13, 10), (17, 10), (24, 20), (36, 30)):
        if kept > len(history):
            history.append(*(getattr(whole, name)[kept - 1] for name in History.ARRAYS))
        shown = history.slice(stop=0)
        shown.append(*(getattr(whole, name)[step - 1] for name in History.ARRAYS))
        writer.show(shown)
        flush(writer)
        assert reader.update()
        seen.append(reader.history.steps.tolist()[10:])
    assert seen == [[13], [13, 17], [13, 17, 20, 24], [20, 30, 36]]
    first = list(range(1, 11))
    assert RunFolder(writer.path).history.steps.tolist() == [*first, 20, 30, 36]


def test_pieces_stay_few_and_small(writer: FolderWriter) -> None:
    """Merged as they grow, to 512 records at most: about ten beside the full ones."""
    history = History(TASKS, K)
    writer.begin(history, 0)
    for step in range(1, 600):
        history.append(step, np.ones((3, K)) / K, np.zeros(3), 1.0, 1.0)
        if step % 3 == 0 or step > 570:
            writer._save_history()
    chain, others = list_pieces(writer.path)
    assert not others
    assert len(chain) <= 12
    assert RunFolder(writer.path).history.steps.tolist() == list(range(1, 600))


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    """The reader starts over with the records up to the checkpoint; without it, it goes on."""
    with FolderWriter(tmp_path, make_facts()) as writer:
        writer.begin(history := History(TASKS, K), 0)
        for last in (8, 12, 13):
            add_records(history, len(history) + 1, last)
            flush(writer)
    reader = RunFolder(tmp_path)
    assert (len(reader.history), reader.state, reader.is_alive) == (13, "stopped", False)
    (tmp_path / "history" / "00000000-00000099.0000000000000000.npz.9.part").touch()
    with FolderWriter(tmp_path, make_facts(id="second")) as writer:
        history = make_history(10)  # as the checkpoint has it
        writer.begin(history, 10)
        before = reader.history
        assert reader.update()
        assert reader.history is not before
        assert_same_history(reader.history, history)
        assert reader.run["id"] == "first"
        add_records(history, 11, 20)
        flush(writer)
        reader.update()
        assert_same_history(reader.history, history)
    assert all(path.suffix == ".npz" for path in (tmp_path / "history").iterdir())


def test_another_run_is_refused_and_one_trains_at_a_time(writer: FolderWriter) -> None:
    """In one line that names the file and what differs."""
    writer.begin(History(TASKS, K), 0)
    with pytest.raises(ValueError, match="is being trained by another process"):
        FolderWriter(writer.path, make_facts()).__enter__()
    writer.__exit__(None, None, None)
    other = make_facts(config={"lr": 0.2})
    complaint = r"run\.json was made with lr=0\.1; this run has lr=0\.2\. Resume with the same"
    with pytest.raises(ValueError, match=complaint):
        FolderWriter(writer.path, other).__enter__()


def test_notes_act_between_two_steps(writer: FolderWriter) -> None:
    """Pause, step, start and knobs, in the order in which they were left; bad ones are refused."""
    writer.begin(History(TASKS, K), 0)
    reader = RunFolder(writer.path)
    assert writer.may_step(1)
    for bad in ({"tau": 0}, {"lr_assignment": -1}, {"tau": float("nan")}, {"lr": 1}, {}):
        with pytest.raises(ValueError, match=r"tau|lr|command"):
            reader.leave_note(**bad)
    with pytest.raises(ValueError, match="`command` must be one of"):
        reader.leave_note(command="reset")
    reader.leave_note(command="pause")
    reader.leave_note(tau=0.5)
    (writer.path / "notes" / "0.json").write_text('{"command": "rm"}')
    (writer.path / "notes" / "1.json").write_text("[")
    flush(writer)
    assert not writer.may_step(2)
    reader.update()
    assert writer.state == "paused"
    assert not (writer.path / "turns.json").exists()  # no step has used it yet
    reader.leave_note(command="step", n=2)
    flush(writer)
    assert [writer.may_step(step) for step in (2, 3, 4)] == [True, True, False]
    assert (writer.knobs.tau, writer.knobs.lr_assignment) == (0.5, None)
    reader.leave_note(command="start", tau=None, lr_assignment=0)
    flush(writer)
    assert writer.may_step(4)
    assert (writer.knobs.tau, writer.knobs.lr_assignment) == (None, 0)
    reader.update()
    assert reader.turns == [{"step": 2, "tau": 0.5}, {"step": 4, "tau": None, "lr_assignment": 0}]
    assert not list((writer.path / "notes").iterdir())
    log = (writer.path / "log.txt").read_text()
    assert "step 2: tau turned to 0.5" in log
    assert log.count("a note was refused") == 2


def test_turns_are_replayed_and_a_new_one_ends_a_future(tmp_path: Path) -> None:
    """Resumed before a turn, it comes again at its step; turned earlier, it does not."""
    turns = [{"step": 3, "tau": 0.5}, {"step": 9, "tau": 1.0, "lr_assignment": 0.2}]
    (tmp_path / "turns.json").write_text(json.dumps(turns))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "0.json").write_text('{"command": "pause"}')  # when nobody trained
    with FolderWriter(tmp_path, make_facts()) as writer:
        writer.begin(make_history(5), 5)
        assert writer.knobs.tau == 0.5
        reader = RunFolder(tmp_path)
        assert writer.may_step(6)
        reader.leave_note(tau=4.0)
        flush(writer)
        seen = []
        for step in range(7, 11):
            assert writer.may_step(step)
            seen.append((writer.knobs.tau, writer.knobs.lr_assignment))
        assert seen == [(4.0, None), (4.0, None), (4.0, 0.2), (4.0, 0.2)]
        reader.update()
    assert reader.turns == [
        {"step": 3, "tau": 0.5},
        {"step": 7, "tau": 4.0},
        {"step": 9, "lr_assignment": 0.2},
    ]


def test_a_silent_run_has_stopped_responding(
    writer: FolderWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the reader's own clock, six seconds after the last beat it saw; then beats again."""
    writer.begin(History(TASKS, K), 0)
    reader, now = RunFolder(writer.path), time.monotonic()
    monkeypatch.setattr(folder.time, "monotonic", lambda: now + 6.5)
    reader.update()
    assert (reader.state, reader.is_alive) == ("stopped responding", False)
    flush(writer)
    reader.update()
    assert reader.state == "running"
    writer.__exit__(ValueError, ValueError("no"), None)
    reader.update()
    assert (reader.state, reader.error) == ("failed", "ValueError: no")


def test_another_beginning_is_another_history(writer: FolderWriter) -> None:
    """A reset in the same folder: nothing of the old run is left in the reader."""
    writer.begin(make_history(12), 0)
    reader = RunFolder(writer.path)
    assert len(reader.history) == 12
    writer.turn(13, {"tau": 1.0})
    writer.renew(make_facts(id="other", n_branches=4), History(TASKS, 4))
    assert reader.update()
    assert (len(reader.history), reader.history.n_groups, reader.turns) == (0, 4, [])


def test_one_flipped_byte_of_a_piece_is_named(writer: FolderWriter) -> None:
    """Anywhere in content or name: at a hundred seeded places."""
    writer.begin(make_history(40), 40)
    ((piece,), _), rng = list_pieces(writer.path), random.Random(0)
    path = writer.path / "history" / piece.name
    content = path.read_bytes()
    for place in rng.sample(range(len(content)), 100):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(flipped))
        with pytest.raises(ValueError, match=rf"{piece.name} is damaged: .* Resume the run"):
            RunFolder(writer.path)
    path.write_bytes(content)
    for place in (0, 7, 16, 20, 33):
        name = piece.name[:place] + chr(ord(piece.name[place]) ^ 1) + piece.name[place + 1 :]
        renamed = path.rename(path.with_name(name))
        with pytest.raises(ValueError, match="history"):
            RunFolder(writer.path)
        renamed.rename(path)
    assert len(RunFolder(writer.path).history) == 40


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("run.json", "{", r"run\.json: this is no JSON"),
        ("run.json", "{}", r"run\.json: `format` is missing"),
        ("heartbeat.json", '{"counter": -1}', r"heartbeat\.json: `counter` must be a whole"),
        ("turns.json", '[{"tau": 1}]', r"turns\.json: `\[0\]\.step` is missing"),
    ],
)
def test_a_damaged_file_is_named(
    writer: FolderWriter, name: str, content: str, complaint: str
) -> None:
    """With the field."""
    writer.begin(make_history(3), 3)
    (writer.path / name).write_text(content)
    with pytest.raises(ValueError, match=complaint):
        RunFolder(writer.path)


def test_a_reader_never_sees_a_moment_in_between(writer: FolderWriter) -> None:
    """One thread writes and merges and goes back, another reads all the time."""
    writer.begin(history := History(TASKS, K), 0)
    failures: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        try:
            reader = RunFolder(writer.path)
            while not done.is_set():
                reader.update()
                steps = reader.history.steps.tolist()
                assert steps == list(range(1, len(steps) + 1))
                RunFolder(writer.path)
        except Exception as error:  # noqa: BLE001  told to the other thread
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for last in range(1, 120):
        add_records(history, last, last)
        writer._save_history()
        if last == 60:
            history = make_history(55)
            writer.begin(history, 55)
            add_records(history, 56, 60)
    done.set()
    thread.join()
    assert not failures


def test_runs_are_found_in_order(tmp_path: Path) -> None:
    """In a folder and below it."""
    for name in ("", "restart1", "restart0", "deep/er"):
        path = tmp_path / name / "run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "nothing").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)]
    assert names == [".", "deep/er", "restart0", "restart1"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_runs(tmp_path / "none")


def test_the_page_on_run_folders_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Its blocks run as they stand: one follows a run to its end, one reads it with numpy alone,
    one steers it."""
    page = (Path(__file__).parents[2] / "docs" / "run_folder.md").read_text(encoding="utf-8")
    follow, read, steer = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with FolderWriter(Path("runs/mine"), make_facts()) as writer:
        writer.begin(history := History(TASKS, K), 0)
        for last in (9, 10, 40):
            add_records(history, len(history) + 1, last)
            writer._save_history()
        writer.count(40)
        (tmp_path / "runs" / "mine" / "history" / "00000000-00000009.0.npz").touch()  # merged
    exec(follow, found := {"time": time})
    assert len(found["run"].history) == 40
    exec(read, found)
    np.testing.assert_allclose(found["probabilities"], history.probabilities, atol=1e-5)
    exec(steer, found)
    assert len(list((writer.path / "notes").iterdir())) == 2
