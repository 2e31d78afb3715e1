"""What the command line promises: files where asked, 0 or one line and 2, runs that continue."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest

from dmtg_lite import cli, data
from dmtg_lite.methods import METHODS
from dmtg_lite.runs.folder import RunFolder, find_runs
from dmtg_lite.runs.history import History

CLOSING = ["--spare-branches", "3", "--close-from", "8", "--close-every", "4"]
AUTO = ["--groups", "auto"]
QUICK = ["--steps", "20", "--pretrain", "10", "--batch-size", "32", "--spare-branches", "0"]


@pytest.fixture(autouse=True)
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commands on a tenth of the images, and on rooms of a quarter of the pixels."""
    faces = partial(data.toy_faces, n_train=200, n_val=50, n_test=80)
    rooms = partial(data.toy_rooms, n_train=12, n_val=4, n_test=6, size=32)
    monkeypatch.setattr(data, "toy_faces", faces)
    monkeypatch.setattr(data, "toy_rooms", rooms)


def fails(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """The one line that a refused command prints; its exit code is 2."""
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:  # argparse's own
        code = exit_.code
    assert code == 2
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if "error:" in line or line.startswith("dmtg-lite: ")]
    assert len(said) == 1, said
    return said[0]


def works(*arguments: object, capsys: pytest.CaptureFixture) -> str:
    """What a command prints that ends with 0."""
    assert cli.main([str(one) for one in arguments]) == 0
    return capsys.readouterr().out


def test_train_writes_result_run_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Exit code 0, a line to paste, a table of tasks, a run folder with result and checkpoints."""
    out = tmp_path / "out"
    printed = works("train", "toy_faces", *QUICK, "--seed", 3, "--out", out, capsys=capsys)
    assert "dmtg on toy_faces, K=3: TrainConfig(" in printed
    assert "pale_cheeks" in printed
    names = {path.name for path in out.iterdir()}
    assert names == {"network.safetensors", "result.json", "run.npz"} | {
        "checkpoints", "heartbeat.json", "history", "log.txt", "run.json"
    }  # fmt: skip
    assert find_runs(out) == [out]
    assert len(RunFolder(out).history.validation_steps)
    assert json.loads((out / "result.json").read_text())["config"]["seed"] == 3
    assert len(History.load(out / "run.npz")) == 20


@pytest.mark.parametrize(("suite", "encoder"), [("yeast", "mlp"), ("digit_questions", "convnet")])
def test_suites_without_a_preset_have_the_recipe(
    suite: str, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Tables and pictures that come with an installed package, by their names."""
    if suite == "yeast" and find_spec("river") is None:
        pytest.skip("river carries the table")
    out = tmp_path / "out"
    few = ("--steps", 2, "--pretrain", 1, "--groups", 2, "--spare-branches", 0)
    works("train", suite, *few, "--out", out, capsys=capsys)
    numbers = json.loads((out / "result.json").read_text())
    assert (numbers["data"], numbers["config"]["encoder"]) == (suite, encoder)
    assert numbers["config"]["steps"] == 2


def test_resume_continues_and_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The same files again; without --resume, or with other settings, the folder is not touched."""
    train = ["train", "toy_faces", *QUICK, "--out", str(tmp_path)]
    assert cli.main([*train, "--resume"]) == 0  # nothing there yet: a fresh start
    before = (tmp_path / "network.safetensors").read_bytes()
    assert "pass --resume to continue it" in fails(train, capsys)
    assert "lr=0.003" in fails([*train, "--resume", "--lr", "0.1"], capsys)
    assert "made with K=3" in fails([*train, "--resume", "--groups", "4"], capsys)
    assert cli.main([*train, "--resume"]) == 0
    assert (tmp_path / "network.safetensors").read_bytes() == before


def test_compare_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Methods x groups x seeds as CSV, and their summary on the screen; no run is done twice."""
    command = ["compare", "toy_faces", *QUICK, "--methods", "random", "--out", tmp_path]
    assert "over 2 seeds" in works(*command, "--seeds", 2, capsys=capsys)
    table = pandas.read_csv(tmp_path / "table.csv")
    assert list(table["method"]) == ["naive", "random"] * 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert len(before) == 4
    printed = works(*command, "--seeds", 2, "--groups", 2, 3, capsys=capsys)
    assert "random K=2" in printed  # K=3 is there; Naive MTL knows no K
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert len(after) == 6
    assert before.items() <= after.items()


def test_compare_reports_a_run_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have their numbers; what went wrong is said. Only if all failed it ends with 2."""

    def fail(*_, **__):
        raise FloatingPointError("the loss is not finite")

    command = ["compare", "toy_faces", *QUICK, "--methods", "random", "--seeds", "1"]
    command += ["--out", str(tmp_path)]
    monkeypatch.setitem(METHODS, "random", replace(METHODS["random"], train=fail))
    printed = works(*command, capsys=capsys)
    assert "random with seed 0 failed, the others went on: FloatingPointError: the loss" in printed
    monkeypatch.setitem(METHODS, "naive", replace(METHODS["naive"], train=fail))
    assert "all runs failed, the first: Floating" in fails([*command, "--lr", "0.1"], capsys)


def test_compare_takes_k_auto_where_it_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Beside a number; each has its row."""
    groups = ["--methods", "dmtg", "--groups", 2, "auto", "--seeds", 1, *CLOSING, "--out", tmp_path]
    printed = works("compare", "toy_faces", *QUICK[:-2], *groups, capsys=capsys)
    assert "dmtg K=2" in printed
    assert "dmtg K=auto" in printed


def test_compare_on_rooms_adds_a_table_by_task(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Five tasks with four metrics: no total error, no planted groups, but each task's numbers."""
    quick = ["--steps", 2, "--pretrain", 1, "--batch-size", 4, "--seeds", 1, "--tolerant"]
    printed = works("compare", "toy_rooms", *quick, "--out", tmp_path, capsys=capsys)
    assert "nan" not in printed
    assert "aligned RMSE" in printed
    table = pandas.read_csv(tmp_path / "tasks.csv")
    assert set(table["method"]) == {"naive", "stl", "random", "dmtg"}
    assert len(table) == 4 * 5
    assert pandas.read_csv(tmp_path / "table.csv")["total_error"].isna().all()


def test_train_prunes_decoders_on_the_way(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The options of heavy heads reach the config; the line to paste shows them."""
    options = ["--encoder", "vit_small", "--prune-below", 0.1, "--prune-from", 5, "--shared", 2]
    quick = ["--steps", 2, "--pretrain", 0, "--batch-size", 4, "--out", tmp_path / "out"]
    printed = works("train", "toy_rooms", *quick, *options, capsys=capsys)
    assert "pruning=Pruning(below=0.1, start=5)" in printed
    assert "normals < 30°, %" in printed


def test_replay_turns_a_run_into_a_page(tmp_path: Path) -> None:
    """A recording in, one HTML page out."""
    history = History(["a", "b"], 2)
    for step in range(1, 4):
        history.append(step, [[0.5, 0.5]] * 2, [1.0, 2.0], 2.5, 0.1)
    run = history.save(tmp_path / "run.npz")
    assert cli.main(["replay", str(run), "--html", str(tmp_path / "page.html")]) == 0
    assert "<html" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "toy_faces", *QUICK, "--tau", "0"], "`tau` must be"),
        (["train", "toy_faces", *QUICK, "--groups", "0"], "must be a whole number >= 1"),
        (["train", "toy_faces", *QUICK, "--shared", "9"], "`shared` must be in"),
        (["train", "toy_faces", *QUICK, "--checkpoint-every", "0"], "must be >= 1"),
        (["train", "toy_faces", *QUICK, "--device", "nonsense"], "'nonsense' cannot be used here"),
        (["train", "toy_faces", "--steps", "1", "--epochs", "1"], "--steps or --epochs"),
        (["train", "toy_faces", "--epochs", "1"], "say --pretrain in epochs"),
        (["train", "celeba9", "--steps", "1"], "say --pretrain in steps"),
        (["train", "celeba9"], "needs the folder that data_scripts/prepare_celeba.py wrote"),
        (["train", "taskonomy5"], "needs the folder that data_scripts/prepare_taskonomy.py wrote"),
        (["train", "toy_faces", *QUICK, "--tolerant"], "`--tolerant` is for tasks with an l1 loss"),
        (["train", "toy_rooms", "--encoder", "toy"], "cannot be served"),
        (["train", "toy_rooms", "--pretrained", "none.safetensors"], "none.safetensors"),
        (["train", "digits", *QUICK, "--method", "planted"], "no planted groups"),
        (["train", "imagenet"], "invalid choice: 'imagenet'"),
        (["compare", "toy_faces", *QUICK, "--seeds", "0"], "at least 1"),
        (
            ["compare", "toy_faces", *QUICK, "--methods", "random", "--groups", "auto"],
            "random needs a number of groups",
        ),
        (["train", "toy_faces", *AUTO, "--method", "hoa"], '"auto" is for dmtg, two_shot'),
        (["train", "toy_faces", "--groups", "many"], "whole number or 'auto', got 'many'"),
        (["train", "toy_faces", "--steps", "20"], "branches are to close, the last after step 500"),
        (["demo", "--seed=-3"], "argument --seed: must be a whole number, at least 0"),
        (["train", "toy_faces", "--seed", "9" * 20], "argument --seed: must be a whole number"),
        (["compare", "toy_faces", "--seeds", "\u00b2"], "argument --seeds: must be a whole number"),
        (["train", "toy_faces", *QUICK, "--groups", "9" * 20], "`n_groups` must be at most 1000"),
        (["train", "toy_faces", *QUICK, "--capacity", "9" * 20], "`capacity` must be at most"),
        (["train", "toy_faces", *QUICK, "--batch-size", "9" * 20], "`batch_size` must be at most"),
        (["train", "toy_faces", *QUICK, "--device", "meta"], "'meta' cannot be used here"),
        (["compare", "toy_faces", *QUICK, "--device", "privateuseone"], "cannot be used here"),
        (["train", "celeba9", "--data", ""], "argument --data: must be a path, got ''"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[:2] + value[-2:]),
)
def test_a_bad_command_is_one_line_and_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What was wrong, and nothing that looks like a finished run."""
    assert message in fails([*arguments, "--out", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("command", ["demo", "train toy_faces", "compare toy_faces", "evidence"])
def test_an_empty_folder_name_is_not_the_folder_one_stands_in(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an unset variable of a shell gives it."""
    monkeypatch.chdir(tmp_path)
    message = fails([*command.split(), "--out", ""], capsys)
    assert "argument --out: must be a path, got ''" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["demo", "train toy_faces", "compare toy_faces", "evidence"])
def test_a_folder_that_cannot_be_written_to_is_found_out_before_any_training(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the hours of a pretraining; the message names it."""
    monkeypatch.setattr("dmtg_lite.runs.fit.continue_steps", None)
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        quick = QUICK if "toy" in command else []
        message = fails([*command.split(), *quick, "--out", str(tmp_path / out)], capsys)
        assert "Not a directory" in message or "where a folder is due" in message
        assert out in message


def test_train_replaces_nothing_of_another_method(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Neither with --resume nor where a result has lost its checkpoints, nor by a demonstration."""
    train = ["train", "toy_faces", *QUICK, "--out", str(tmp_path)]
    assert cli.main(train) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    message = fails([*train, "--resume", "--method", "naive"], capsys)
    assert f"{tmp_path} holds a run of dmtg, which naive would replace" in message
    assert "holds a trained run" in fails(["demo", "--out", str(tmp_path)], capsys)
    gone = tmp_path / "checkpoints"
    shutil.rmtree(gone)
    assert "result.json holds an earlier run" in fails(train, capsys)
    assert "finished run without the checkpoints" in fails([*train, "--resume"], capsys)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == {path: own for path, own in before.items() if gone not in path.parents}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", "steps are kept in {}/checkpoints: the same command with --resume goes on."),
        ("compare", "runs are kept in {}/cells: the same command goes on."),
    ],
)
def test_an_interrupt_says_how_to_go_on(
    command: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C: one line and exit code 130, the shell's word for it."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    for name in ("naive", "dmtg"):
        monkeypatch.setitem(METHODS, name, replace(METHODS[name], train=interrupt))
    assert cli.main([command, "toy_faces", *QUICK, "--out", str(tmp_path)]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"dmtg-lite: interrupted; finished {words.format(tmp_path)}"


def _wait_for(folder: Path, pattern: str, timeout: float = 120.0) -> None:
    """Until there is a file of this kind somewhere below."""
    end = time.monotonic() + timeout
    while not any(folder.rglob(pattern)):
        assert time.monotonic() < end, f"no {pattern} in {timeout:g} s"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs a group of processes")
@pytest.mark.parametrize(("to_all", "trains"), [(True, True), (False, True), (False, False)])
def test_an_interrupt_ends_worker_processes_too(to_all: bool, trains: bool, tmp_path: Path) -> None:
    """At once and without a traceback, whether the workers hear of it themselves or not."""
    command = [*"compare toy_faces --steps 50000 --pretrain 1 --seeds 4 --jobs 2".split()]
    command += [*"--keep-runs --spare-branches 0 --out".split(), tmp_path]
    # a shell that runs tests in the background has them ignore it, and their children too
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "dmtg_lite", *command],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    _wait_for(tmp_path, "*-*.npz" if trains else "cells")  # until steps are recorded
    time.sleep(0.5)  # or while the workers begin
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:  # whatever went wrong leaves nobody at work
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1].endswith("the same command goes on.")


def test_a_full_disk_is_said_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What writing itself says has no name in it."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dmtg_lite.cli.check_writable", Path)
    monkeypatch.setattr(os, "fsync", full)
    message = fails(["train", "toy_faces", *QUICK, "--out", str(tmp_path)], capsys)
    assert "No space left on device" in message
    assert str(tmp_path / "run.json") in message


COMPARE = ["compare", "toy_faces", *QUICK, "--methods", "random", "--seeds", "2", "--out"]


@pytest.mark.parametrize("screen", ["ascii", "gone"])
def test_no_screen_is_a_reason_to_lose_a_table(
    screen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASCII (LC_ALL=C), or a reader who has left (| head -1): files first, 0 in the end."""
    if screen == "ascii":
        stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    else:
        reader, writer = os.pipe()
        os.close(reader)
        stdout = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert cli.main([*COMPARE, str(tmp_path)]) == 0
    assert {"table.csv", "tasks.csv"} <= {path.name for path in tmp_path.iterdir()}
    if screen == "ascii":
        text = stdout.buffer.getvalue().decode("ascii")
        assert "mean +- standard deviation over 2 seeds" in text
    stdout.close()


def test_help_can_be_read_on_any_screen(capsys: pytest.CaptureFixture) -> None:
    for command in ("demo", "train", "compare", "evidence", "reproduce", "replay"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    assert capsys.readouterr().out.isascii()


def test_compare_leaves_out_what_a_method_cannot_have(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """And says so before and after, and in the table; the others run."""
    groups = ["--methods", "random", "stl", "--groups", 3, 12]
    printed = works(*COMPARE, tmp_path, *groups, "--seeds", 1, capsys=capsys)
    reason = "`n_groups` must be in 1..9 for random, got 12."
    assert printed.startswith(f"random is left out, the others go on: {reason}")
    assert f"random with seed 0 failed, the others went on: ValueError: {reason}" in printed
    table = pandas.read_csv(tmp_path / "table.csv").set_index(["method", "k"])
    assert table.loc[("random", 12), "note"] == f"failed: ValueError: {reason}"
    assert table["total_loss"].notna().tolist() == [True, True, False, True]


def test_a_damaged_cell_is_set_aside_and_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The others' hours are not lost, nor is the file; the screen and the table tell of it."""
    works(*COMPARE, tmp_path, capsys=capsys)
    first = pandas.read_csv(tmp_path / "table.csv")
    naive, again, copied, whole = sorted((tmp_path / "cells").iterdir())
    before = whole.stat().st_mtime_ns
    naive.write_text("[]")
    again.write_text('{"method": "naive"}')
    copied.write_bytes(whole.read_bytes())
    assert cli.main([*COMPARE, str(tmp_path)]) == 0
    printed = capsys.readouterr().err
    assert f"{naive}: this must be an object, got []. Kept as {naive.name}.damaged1" in printed
    assert f"{again}: `groups` is missing. Kept as" in printed
    assert f"{copied}: `config` is that of another run. Kept as" in printed
    assert naive.with_name(f"{naive.name}.damaged1").read_text() == "[]"
    assert whole.stat().st_mtime_ns == before
    second = pandas.read_csv(tmp_path / "table.csv")
    assert second["note"].str.contains("damaged1", na=False).sum() == 3
    numbers = ["total_loss", "total_error", "norm_gain_loss"]
    pandas.testing.assert_frame_equal(first[numbers], second[numbers])


def test_train_finds_k_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The costs it was read off stand beside it, and in the result."""
    options = [*QUICK[:-2], *AUTO, *CLOSING, "--out", tmp_path / "run"]
    said = works("train", "toy_faces", *options, capsys=capsys)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["elbow"]["n_branches"] == [4, 3, 2]
    assert f"the largest rise says K = {result['elbow']['n_groups']}" in said
    assert "closing costs, 4 branches to 1: " in said


def test_a_bad_recording_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Missing, and not a recording at all."""
    page = ["--html", str(tmp_path / "page.html")]
    assert "no recorded run at" in fails(["replay", str(tmp_path / "none.npz"), *page], capsys)
    (tmp_path / "text.npz").write_text("hello")
    assert "is not a recorded run" in fails(["replay", str(tmp_path / "text.npz"), *page], capsys)


@pytest.mark.parametrize("command", ["demo", "train", "compare", "evidence", "reproduce", "replay"])
def test_help_says_what_it_costs(command: str, capsys: pytest.CaptureFixture) -> None:
    """Each command's help names time, and ends with 0."""
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split()).lower()  # help wraps its lines
    assert any(word in text for word in ("second", "minute", "10 s"))


def run_apart(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Lines of Python in a process whose arguments are those of a `replay` of nothing."""
    return subprocess.run(
        [sys.executable, "-c", code, "replay", tmp_path / "none.npz", "--html", "page.html"],
        capture_output=True,
        text=True,
        cwd=Path(cli.__file__).parents[1],
    )


def test_a_page_of_a_recorded_run_needs_no_torch(tmp_path: Path) -> None:
    """`replay` opens runs where nothing can be trained."""
    code = "import sys; sys.modules['torch'] = None; from dmtg_lite.cli import main; "
    done = run_apart(code + "sys.exit(main())", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dmtg-lite: no recorded run at")


def test_a_log_gets_a_word_of_the_bars_now_and_then(tmp_path: Path) -> None:
    """Ten lines a second of a run of days would fill the disk of whoever keeps a log."""
    code = "from dmtg_lite.cli import main; main(); "
    done = run_apart(code + "from tqdm import tqdm; print(tqdm(range(3)).mininterval)", tmp_path)
    assert float(done.stdout) == 30
