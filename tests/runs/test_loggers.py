"""What loggers promise: every record once, nothing of a run changed, and no run lost to one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from dmtg_lite import cli, data, methods
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.methods import Saving
from dmtg_lite.runs.fit import branch_out, build_network, fit
from dmtg_lite.runs.history import History
from dmtg_lite.runs.loggers import LoggerWarning, News, TensorBoard
from dmtg_lite.views.live import LiveSession

FACES = data.toy_faces(n_tasks=4, n_groups=2, n_train=64, n_val=16, n_test=16)
CONFIG = TrainConfig(encoder="toy", steps=30, pretrain=4, batch_size=16)


def train(loggers=(), **how) -> tuple[History, int]:
    network = branch_out(build_network(FACES, CONFIG), 2, CONFIG)
    history, state = fit(network, FACES, CONFIG, loggers=loggers, checkpoint_every=10, **how)
    return history, state.encoder_macs


def test_every_record_is_told_of_once_and_not_a_step_at_a_time(tmp_path: Path) -> None:
    """At each checkpoint, ten steps at a time, with the cost so far; and where the run lives."""
    told: list[News] = []
    history, macs = train([told.append], checkpoint=tmp_path / "main.safetensors")
    assert [news.history.steps.tolist() for news in told] == [
        list(range(first + 1, first + 11)) for first in (0, 10, 20)
    ]
    for name in ("probabilities", "task_losses", "loss_matrices", "tau"):
        parts = [getattr(news.history, name) for news in told]
        assert np.array_equal(np.concatenate(parts), getattr(history, name), equal_nan=True)
    assert told[-1].encoder_macs == macs > told[0].encoder_macs > 0
    assert train()[0].task_losses.tobytes() == history.task_losses.tobytes()


def test_every_run_of_a_method_is_told_of(tmp_path: Path) -> None:
    """DMTG's pretraining and training; HOA's trial networks, in their folder."""
    told: list[News] = []
    saving = Saving(tmp_path, loggers=[told.append])
    methods.dmtg(FACES, 2, CONFIG, saving=saving)
    assert {news.run: int(news.history.steps[-1]) for news in told} == {"pretrain": 4, "main": 30}
    told.clear()
    methods.hoa(FACES, 2, CONFIG, saving=saving)
    assert [news.run for news in told if news.history.steps[-1] == 34] == ["pairs0", "main"]
    assert all(news.folder and news.folder.is_relative_to(tmp_path) for news in told)


def test_a_logger_that_fails_later_is_left_out_once() -> None:
    """With a warning that names it; the run is what it would have been."""
    called = []

    def flaky(news: News) -> None:
        called.append(news)
        if len(called) == 2:
            raise OSError("the disk is full")

    words = "the logger flaky failed at step 20 and is left out, the run goes on: OSError: the disk"
    with pytest.warns(LoggerWarning, match=words):
        history, _ = train([flaky])
    assert len(called) == 2
    assert history.task_losses.tobytes() == train()[0].task_losses.tobytes()


def test_a_logger_that_never_worked_ends_the_run_at_once() -> None:
    """At the first records, not after the hours."""
    with pytest.raises(ZeroDivisionError):
        train([lambda _: 1 / 0])
    with pytest.raises(ValueError, match=r"`loggers` must be functions of `News`, got 'wandb'"):
        train(["wandb"])


def test_a_logger_that_cannot_go_to_workers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`loggers` cannot be sent to other processes: .*jobs=1"):
        Saving(jobs=2, loggers=[lambda _: None]).apart()


def test_a_live_session_tells_too() -> None:
    """Also after a reset, from the first step on."""
    told: list[News] = []
    config = TrainConfig(encoder="toy", steps=8, pretrain=2, batch_size=16)
    session = LiveSession(
        FACES, 2, config=config, name="told", steps_per_second=None, loggers=[told.append]
    )
    try:
        for _ in range(2):
            session.start()
            assert session.wait(60) == "finished"
            session.reset()
            session.wait(60)
    finally:
        session.close()
    steps = [step for news in told for step in news.history.steps.tolist()]
    assert steps == [*range(1, 9)] * 2


# ---------------------------------------------------------------------- TensorBoard


def read_events(folder: Path):
    """Scalars by tag as {step: value}, and all that TensorBoard itself reads."""
    pytest.importorskip("tensorboard", reason='needs the extra "tensorboard"')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    scalars = {}
    for tag in found.Tags()["scalars"]:
        events = found.Scalars(tag)
        assert len({event.step for event in events}) == len(events), f"{tag} has steps twice"
        scalars[tag] = {event.step: event.value for event in events}
    return scalars, found


def check_events(folder: Path, history: History, macs: int) -> None:
    scalars, found = read_events(folder)
    steps = history.steps.tolist()
    for n, name in enumerate(history.task_names):
        expected = dict(zip(steps, history.task_losses[:, n].tolist(), strict=True))
        assert scalars[f"loss/{name}"] == expected
    assert list(scalars["assignment/entropy"]) == steps
    entropy = list(scalars["assignment/entropy"].values())
    assert entropy == pytest.approx(history.entropy.tolist(), rel=1e-6)
    assert scalars["cost/encoder_gmacs"][steps[-1]] == pytest.approx(macs / 1e9)
    picture = found.Images("assignment/probabilities")[-1]
    assert picture.step == steps[-1]
    assert (picture.height, picture.width) == (16 * 4, 16 * 2)  # a row a task, a column a group


def test_tensorboard_reads_the_numbers_of_the_history(tmp_path: Path) -> None:
    """Losses and validation losses, entropy, cost and the picture, by its own reader."""
    pytest.importorskip("tensorboard", reason='needs the extra "tensorboard"')
    history, macs = train([TensorBoard()], folder=tmp_path, validate_every=15)
    folder = tmp_path / "tensorboard" / "main"
    check_events(folder, history, macs)
    seen = read_events(folder)[0][f"validation_loss/{history.task_names[1]}"]
    assert list(seen) == history.validation_steps.tolist() == [15, 30]
    assert list(seen.values()) == history.validation_losses[:, 1].tolist()


def test_steps_that_are_taken_again_after_a_kill_are_there_once(tmp_path: Path) -> None:
    """Killed between telling of step 20 and its checkpoint: 11 to 20 are told of anew."""
    pytest.importorskip("tensorboard", reason='needs the extra "tensorboard"')

    def kill(news: News) -> None:
        if news.history.steps[-1] == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([TensorBoard(), kill], folder=tmp_path)
    folder = tmp_path / "tensorboard" / "main"
    assert max(read_events(folder)[0]["assignment/tau"]) == 20
    history, macs = train([TensorBoard()], folder=tmp_path)
    check_events(folder, history, macs)


def test_tensorboard_needs_a_folder_and_its_package(monkeypatch, tmp_path, capsys) -> None:
    """Said before anything is lost: at the first records, and before any training."""
    pytest.importorskip("tensorboard", reason='needs the extra "tensorboard"')
    with pytest.raises(ValueError, match="TensorBoard has nowhere to write"):
        train([TensorBoard()])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    command = ["train", "toy_faces", "--log", "tensorboard", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.endswith('not installed. Run: pip install "dmtg-lite[tensorboard]"')


def test_the_command_logs_into_its_folder(tmp_path: Path) -> None:
    """Pretraining and training, below --out."""
    pytest.importorskip("tensorboard", reason='needs the extra "tensorboard"')
    command = ["train", "toy_faces", "--steps", "4", "--pretrain", "2", "--spare-branches", "0"]
    assert cli.main([*command, "--log", "tensorboard", "--out", str(tmp_path)]) == 0
    scalars, _ = read_events(tmp_path / "tensorboard" / "main")
    assert list(scalars["assignment/entropy"]) == [1, 2, 3, 4]
    assert list(read_events(tmp_path / "tensorboard" / "pretrain")[0]["assignment/tau"]) == [1, 2]


@pytest.mark.filterwarnings("ignore::dmtg_lite.methods.UnlearnedWarning")
def test_the_logger_of_the_docs_runs(tmp_path: Path, monkeypatch) -> None:
    """As it stands there, in about ten lines; what it wrote is every step of the run."""
    page = (Path(__file__).parents[2] / "docs" / "many_runs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    (code,) = [block for block in blocks if "def write_lines" in block]
    assert len(code.partition("\n\nfaces =")[0].partition("def ")[2].splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "many_runs.md", "exec"), {})
    lines = [json.loads(line) for line in (tmp_path / "main.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert len(lines[0]) == 10  # the step and nine tasks
