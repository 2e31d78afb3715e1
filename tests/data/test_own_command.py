"""What `train --csv` and `compare --csv` promise, and what of the page on own data runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from own_rows import ask, make_frame

from dmtg_lite import Spare, cli, load_result
from dmtg_lite.methods import recipe

PAGE = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
FEW = ["--steps", "6", "--pretrain", "2", "--batch-size", "16"]
CLOSING = ["--spare-close-from", "2", "--spare-close-every", "1"]


@pytest.fixture
def people(tmp_path: Path) -> str:
    """A file with two tasks of each kind, and two columns that are neither."""
    frame = make_frame().assign(**ask(), happy=ask(5)["ill"], income=ask(6)["weight"])
    frame["fold"] = np.repeat(["train", "val", "test"], len(frame) // 3)
    frame["home"] = np.arange(len(frame)) // 4
    frame.loc[3, "height"] = None
    frame.to_csv(tmp_path / "people.csv", index=False)
    return str(tmp_path / "people.csv")


def run(*arguments: str, capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    """Exit code, what was printed, and complaints."""
    try:
        code = cli.main(list(arguments))
    except SystemExit as exit_:
        code = exit_.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_train_on_a_file(people: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The recipe for such data, with what is said changed; a result that predicts on new rows."""
    out = tmp_path / "run"
    options = ["--targets", "ill,weight, happy", "--features", "age,height,colour"]
    more = ["--impute", "mean", "--splits", "fold", "--groups", "auto", *CLOSING]
    command = ["train", "--csv", people, *options, *more, *FEW, "--out", str(out)]
    code, said, complaint = run(*command, capsys=capsys)
    assert code == 0, complaint
    assert "people: 20 train, 20 val, 20 test; a table of 3 columns" in said
    result = load_result(out)
    assert set(result.task_errors) == {"ill", "weight", "happy"}
    assert json.loads((out / "result.json").read_text())["config"]["steps"] == 6
    told = result.predict(pandas.read_csv(people).head(4))
    assert set(told["ill"]) <= {"yes", "no"}
    again = run(*command, "--resume", capsys=capsys)
    assert again[0] == 0, again[2]


def test_compare_on_a_file(people: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two methods, one seed; the same command goes on."""
    options = ["--targets", "ill,happy", "--features", "age,smoker", "--together", "home"]
    command = ["compare", "--csv", people, *options, "--methods", "naive", "stl", *FEW]
    command += ["--groups", "2", "--seeds", "1", "--out", str(tmp_path / "out")]
    for _ in range(2):
        code, _, complaint = run(*command, capsys=capsys)
        assert code == 0, complaint
    table = pandas.read_csv(tmp_path / "out" / "table.csv")
    assert table["method"].tolist() == ["naive", "stl"]


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a suite (toy_faces"),
        (["toy_faces", "--csv", "FILE", "--targets", "ill"], "got toy_faces and"),
        (["toy_faces", "--targets", "ill"], "--targets is for a CSV file"),
        (["--csv", "FILE"], "--targets is missing"),
        (["--csv", "FILE", "--targets", ""], "--targets is missing"),
        (["--csv", "FILE", "--targets", "sick"], "no column 'sick'; it has"),
        (["--csv", "FILE", "--targets", "ill", "--features", "aeg"], "no column 'aeg'"),
        (["--csv", "FILE", "--targets", "ill", "--splits", "part"], "no column 'part'"),
        (["--csv", "FILE", "--targets", "ill", "--data", "x"], "--data is for a suite"),
        (["--csv", "FILE", "--targets", "ill", "--tolerant"], "--tolerant is for a suite"),
        (["--csv", "FILE", "--targets", "ill"], 'Say impute="mean"'),
        (["--csv", "none.csv", "--targets", "ill"], "no CSV file at none.csv"),
        (["--csv", "FILE", "--targets", "ill", "--impute", "zero"], "invalid choice: 'zero'"),
    ],
)
def test_a_misuse_is_one_line_and_2(
    command: str,
    arguments: list[str],
    words: str,
    people: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """No traceback, and no folder is made."""
    given = [people if one == "FILE" else one for one in arguments]
    code, _, complaint = run(command, *given, "--out", str(tmp_path / "out"), capsys=capsys)
    assert code == 2
    assert words in complaint.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture) -> None:
    """Its first block runs as it stands, and prints the line below it."""
    code, line = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.M | re.S)[:2]
    exec(compile(code, "own_data.md", "exec"), {})
    assert capsys.readouterr().out == line


@pytest.mark.filterwarnings("ignore:.*constant")  # four steps teach nothing
def test_the_pages_encoder_fits_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block and the last one, by the recipe but for its length."""
    choose = recipe.choose_recipe
    short = {"steps": 4, "pretrain": 2, "spare": Spare()}
    monkeypatch.setattr(recipe, "choose_recipe", lambda *of: replace(choose(*of), **short))
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    names: dict[str, Any] = {}
    for code in (blocks[0], blocks[-1]):
        exec(compile(code, "own_data.md", "exec"), names)
    assert set(names["result"].task_errors) == {"old", "tall", "sum"}
