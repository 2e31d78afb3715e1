"""What a live session promises, without a browser: it does what the buttons say, and no more."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from dmtg_lite import Task, TaskData, methods
from dmtg_lite.core.config import Spare, TrainConfig
from dmtg_lite.data import Split
from dmtg_lite.data.toys.faces import toy_faces
from dmtg_lite.methods.recipe import choose_recipe
from dmtg_lite.runs.history import History
from dmtg_lite.views.live import LiveSession

CONFIG = TrainConfig(
    encoder="toy", tau=1.0, lr=3e-3, lr_assignment=3e-2, pretrain=20, steps=60, batch_size=16
)
FACES = toy_faces(n_tasks=6, n_groups=3, size=16, n_train=200, n_val=50, n_test=50)


SPARE = replace(CONFIG, spare=Spare(branches="double", close_from=20, close_every=10))


@contextmanager
def opened(config: TrainConfig = CONFIG, n_groups: int = 3, **options) -> Iterator[LiveSession]:
    """A session of its own name, as fast as it can be, closed in the end."""
    options = {"name": "test", "steps_per_second": None} | options
    session = LiveSession(FACES, n_groups, config=config, **options)
    yield session
    session.close()


@pytest.fixture
def session() -> Iterator[LiveSession]:
    with opened() as session:
        yield session


@pytest.fixture
def spare_session() -> Iterator[LiveSession]:
    with opened(SPARE, 2) as session:
        yield session


def threads() -> int:
    return sum(thread.name == "dmtg-train" for thread in threading.enumerate())


def paste(line: str) -> tuple[int, TrainConfig]:
    """K and config of such a line as ``methods.dmtg(data, n_groups=3, config=...)``."""
    kinds = {kind.__name__: kind for kind in (TrainConfig, Spare)}

    def read(node: ast.expr) -> object:
        if not isinstance(node, ast.Call):
            return ast.literal_eval(node)
        return kinds[node.func.id](**{entry.arg: read(entry.value) for entry in node.keywords})

    given = {entry.arg: read(entry.value) for entry in ast.parse(line, mode="eval").body.keywords}
    return given["n_groups"], given["config"]


@pytest.mark.parametrize(("config", "n_groups"), [(CONFIG, 3), (SPARE, 2)], ids=["plain", "spare"])
def test_a_live_run_is_the_run_its_line_says(config: TrainConfig, n_groups: int) -> None:
    """Watched, with pauses and single steps: still `methods.dmtg`, closings and result included."""
    with opened(config, n_groups) as session:
        with pytest.raises(RuntimeError, match="the live run is idle"):
            session.result()
        session.step(21)
        assert session.wait(60) == "paused"
        with pytest.raises(RuntimeError, match="the live run is paused"):
            session.result()
        session.start()
        assert session.wait(60) == "finished"
        line, history, found = session.config_line, session.history, session.result()
    assert line == f"methods.dmtg(data, n_groups={n_groups}, config={config})"
    expected = methods.dmtg(FACES, *paste(line))
    assert history.steps.tolist() == list(range(1, 61))
    for name in History.ARRAYS:
        own, other = getattr(history, name), getattr(expected.history, name)
        np.testing.assert_array_equal(own, other, err_msg=name)
    assert (history.closings, history.elbow) == (expected.closings, expected.elbow)
    assert history.about.groups == expected.groups
    for name in ("method", "groups", "task_losses", "task_errors", "encoder_macs", "encoder_cost"):
        assert getattr(found, name) == getattr(expected, name), name


def test_step_is_exactly_one_step(session: LiveSession) -> None:
    """Step takes one step and rests; two clicks in a row take two."""
    session.step()
    assert session.wait(60) == "paused"
    assert len(session.history) == 1
    session.step()
    session.step()
    assert session.wait(60) == "paused"
    assert len(session.history) == 3


def test_pause_stops_within_half_a_second() -> None:
    """Pause acts between two steps, also while the speed limit makes the loop wait."""
    with opened(steps_per_second=0.5) as session:
        session.start()
        while not len(session.history):
            time.sleep(0.01)
        start = time.monotonic()
        session.pause()
        assert session.wait(5) == "paused"
        assert time.monotonic() - start < 0.5
        done = len(session.history)
        time.sleep(0.05)
        assert len(session.history) == done


def test_pause_and_go_on_while_pretraining(session: LiveSession) -> None:
    """Pretraining can be paused and continued; it is not done twice."""
    session.start()
    session.pause()
    assert session.wait(60) == "paused"
    session.start()
    assert session.wait(60) == "finished"
    assert session.pretrained == CONFIG.pretrain


def test_knobs_reach_the_loop_and_the_recording(session: LiveSession) -> None:
    """tau and the learning rate of S act at the next step and are recorded with it."""
    session.step(2)
    session.wait(60)
    session.turn(tau=4.0, lr_assignment=0.5)
    session.step()
    session.wait(60)
    np.testing.assert_allclose(session.history.tau, [1.0, 1.0, 4.0])
    np.testing.assert_allclose(session.history.lr_assignment, [0.03, 0.03, 0.5])


def test_the_line_is_that_of_the_start_and_names_what_was_turned(session: LiveSession) -> None:
    """Turned before step 1: in the line. Turned later: behind it, with the step, as a comment."""
    session.turn(tau=4.0)
    session.step(2)
    session.wait(60)
    plain = f"methods.dmtg(data, n_groups=3, config={replace(CONFIG, tau=4.0)})"
    assert session.config_line == plain
    session.turn(tau=10.0, lr_assignment=0.5)
    assert session.config_line == plain  # no step has used them yet
    session.step()
    session.wait(60)
    session.turn(tau=None)
    session.start()
    assert session.wait(60) == "finished"
    assert session.config_line == (
        f"{plain}  # tau turned to 10 at step 3, lr_assignment turned to 0.5 at step 3,"
        " tau as configured from step 4"
    )
    assert session.history.about.config == session.config_line
    assert paste(session.config_line) == (3, replace(CONFIG, tau=4.0))
    assert session.result().config == replace(CONFIG, tau=4.0)
    session.reset()
    assert session.wait(60) == "idle"
    assert paste(session.config_line) == (3, replace(CONFIG, lr_assignment=0.5))


def test_reset_with_another_k_is_at_once(session: LiveSession) -> None:
    """Reset keeps the Naive MTL weights of the seed, so another K starts without pretraining."""
    session.step()
    session.wait(60)
    before = session.history
    session.reset(n_groups=5)
    assert session.wait(60) == "idle"
    assert session.history is not before
    assert len(session.history) == 0
    assert (session.history.n_groups, len(before)) == (5, 1)
    states: list[str] = []
    session.listeners.add(lambda: states.append(session.state))
    session.step()
    assert session.wait(60) == "paused"
    assert "pretraining" not in states
    assert session.history.probabilities.shape == (1, 6, 5)


def test_reset_with_another_seed_is_another_run(session: LiveSession) -> None:
    """The seed is the run: the same one repeats it exactly, another one does not."""
    runs = []
    for seed in (1, 2, 1):
        session.reset(seed=seed)
        session.step(5)
        session.wait(60)
        runs.append(session.history.probabilities.copy())
    np.testing.assert_array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], runs[1])


def test_a_cell_run_again_leaves_one_thread() -> None:
    """A new session of the same name closes the old one, even while it trains."""
    for _ in range(3):
        session = LiveSession(FACES, config=CONFIG, name="again", steps_per_second=20)
        session.start()
    assert threads() == 1
    session.close()
    assert threads() == 0
    assert session.state == "closed"
    session.start()  # a closed session ignores its buttons
    assert session.wait(1) == "closed"


def test_a_loss_that_blows_up_stops_with_words_and_reset_revives() -> None:
    """A NaN loss ends in the state failed, names task, step and tau; Reset makes it idle again."""
    with opened(TrainConfig(encoder="toy", tau=1.0, lr=1e30, steps=50)) as session:
        for _ in range(2):
            session.start()
            assert session.wait(60) == "failed"
        assert "loss of task" in session.error
        assert "tau" in session.error
        session.reset()
        assert session.wait(60) == "idle"
        assert not session.error


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda s: s.turn(tau=0.0), "tau"),
        (lambda s: s.turn(tau=float("nan")), "tau"),
        (lambda s: s.turn(lr_assignment=-1.0), "lr_assignment"),
        (lambda s: s.reset(n_groups=0), "n_groups"),
        (lambda s: s.reset(seed=-1), "seed"),
    ],
)
def test_bad_settings_are_refused_by_name(session: LiveSession, call, name: str) -> None:
    """A wrong value is refused where it is given, not later in the thread."""
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        call(session)


def test_wait_times_out_with_the_state() -> None:
    """wait(timeout) returns what the session is doing, so that a caller can look and decide."""
    with opened(steps_per_second=1) as session:
        session.start()
        assert session.wait(0.3) in ("pretraining", "running")


def test_spare_branches_close_while_one_watches(spare_session: LiveSession) -> None:
    """Four columns from the start; each closing at its step, and two branches are left."""
    assert spare_session.history.n_groups == 4
    spare_session.step(25)
    spare_session.wait(60)
    history = spare_session.history
    (closing,) = history.closings
    assert closing["step"] == 20
    assert (history.closed_branches(18), history.closed_branches(19)) == ([], [closing["branch"]])
    spare_session.start()
    assert spare_session.wait(60) == "finished"
    assert [closing["step"] for closing in history.closings] == [20, 30]
    assert len(history.closed_branches()) == 2
    assert len(history.groups()) <= 2


def test_reset_opens_or_saves_the_spare_branches(spare_session: LiveSession) -> None:
    """Reset takes another setting, keeps it until the next, and forgets the closings before."""
    spare_session.step(21)
    spare_session.wait(60)
    assert spare_session.history.closings
    for spare, n_columns in ((0, 2), (None, 2), (1, 3), ("double", 4)):
        spare_session.reset(spare_branches=spare)
        assert spare_session.wait(60) == "idle"
        assert spare_session.history.n_groups == n_columns
        assert spare_session.history.closings == []
        spare_session.step()
        assert spare_session.wait(60) == "paused"
        assert spare_session.history.probabilities.shape == (1, 6, n_columns)
    assert "spare=Spare(branches='double'" in spare_session.config_line
    with pytest.raises(ValueError, match=r"`spare\.branches` must be"):
        spare_session.reset(spare_branches="triple")
    with pytest.raises(ValueError, match="`n_groups` must be"):
        LiveSession(FACES, n_groups="many", config=SPARE, name="spare")


def test_closings_that_do_not_fit_the_run_are_said() -> None:
    """A run too short for its closings fails with words; Reset without them revives it."""
    config = replace(SPARE, steps=25, spare=replace(SPARE.spare, branches=1))
    with opened(config, 2) as session:
        for branches, outcome in ((2, "failed"), (0, "finished")):
            session.reset(spare_branches=branches)
            session.start()
            assert session.wait(60) == outcome
            assert ("`spare.close_from`" in session.error) == (outcome == "failed")


def make_rows(n: int, seed: int) -> Split:
    """A table: is the first number above 0, what does it cost, and which kind is it?"""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 5)).astype(np.float32)
    price = 9000 + 800 * rows[:, 0] + 50 * rows[:, 1]
    price[::9] = np.nan
    kind = np.digitize(rows[:, 2], [-0.5, 0.5])
    return Split(rows, {"up": rows[:, 0] > 0, "price": price, "kind": kind})


TABLE = TaskData(
    "table",
    (
        Task("up", classes=("no", "yes")),
        Task("price", 1, "l1", "mae", center=9000.0, spread=800.0),
        Task("kind", 3),
    ),
    make_rows(200, 0),
    make_rows(50, 1),
    make_rows(60, 2),
)
LINEAR = nn.Sequential(nn.Linear(5, 8), nn.ReLU())


@pytest.mark.parametrize("n_groups", [None, 2, "auto"])
def test_a_table_with_a_price_trains_live(n_groups: int | str | None) -> None:
    """Classes and numbers side by side, an encoder of one's own, K open: still `methods.dmtg`."""
    config = replace(CONFIG, spare=Spare(close_from=20, close_every=10))
    session = LiveSession(
        TABLE, n_groups, config=config, encoder=LINEAR, name="test", steps_per_second=None
    )
    session.start()
    assert session.wait(60) == "finished", session.error
    found, k = session.result(), session.n_groups
    session.close()
    assert k == (n_groups or 3)
    assert f"n_groups={k!r}, " in session.config_line
    expected = methods.dmtg(TABLE, k, config, encoder=LINEAR)
    assert found.task_errors == expected.task_errors
    assert found.groups == expected.groups
    assert (found.elbow is None) == (k != "auto")
    assert 0 < found.task_errors["price"] < found.constant_errors["price"]  # in its own unit


def test_without_a_config_it_is_the_recipe(capsys: pytest.CaptureFixture) -> None:
    """One for these data and this K, said as a line to paste; other things are refused."""
    for n_groups in (None, 2):
        session = LiveSession(TABLE, n_groups, name="test", steps_per_second=None)
        recipe = choose_recipe(TABLE, n_groups or 3)
        assert f"config = {recipe}" in capsys.readouterr().out
        assert session.config == recipe
        session.step(2)
        assert session.wait(60) == "paused", session.error
        session.close()
    with pytest.raises(ValueError, match=r"`data` must be a TaskData, .*got"):
        LiveSession({"up": [1, 0]})
