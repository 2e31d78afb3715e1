"""What the command line promises: files where asked, 0 or one line and 2, runs that continue."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas
import pytest

from dmtg_lite import cli, data
from dmtg_lite.methods import METHODS
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
    """Exit code 0, a line to paste, a table of tasks, three files and the checkpoints."""
    out = tmp_path / "out"
    printed = works("train", "toy_faces", *QUICK, "--seed", 3, "--out", out, capsys=capsys)
    assert "dmtg on toy_faces, K=3: TrainConfig(" in printed
    assert "pale_cheeks" in printed
    names = {path.name for path in out.iterdir()}
    assert names == {"checkpoints", "network.safetensors", "result.json", "run.npz"}
    assert json.loads((out / "result.json").read_text())["config"]["seed"] == 3
    assert len(History.load(out / "run.npz")) == 20


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
        (["train", "toy_faces", *QUICK, "--groups", "0"], "must be >= 1"),
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
        (["compare", "toy_faces", *QUICK, "--groups", "auto"], "random needs a number of groups"),
        (["train", "toy_faces", *AUTO, "--method", "hoa"], '"auto" is for dmtg, two_shot'),
        (["train", "toy_faces", "--groups", "many"], "whole number or 'auto', got 'many'"),
        (["train", "toy_faces", "--steps", "20"], "branches are to close, the last after step 500"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[:2] + value[-2:]),
)
def test_a_bad_command_is_one_line_and_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What was wrong, and nothing that looks like a finished run."""
    assert message in fails([*arguments, "--out", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out" / "result.json").exists()


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


def test_a_page_of_a_recorded_run_needs_no_torch(tmp_path: Path) -> None:
    """`replay` opens runs where nothing can be trained."""
    code = (
        "import sys; sys.modules['torch'] = None; from dmtg_lite.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "replay", tmp_path / "none.npz", "--html", "page.html"],
        capture_output=True,
        text=True,
        cwd=Path(cli.__file__).parents[1],
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dmtg-lite: no recorded run at")
