"""What `from_csv` promises: a table as it was saved by whatever program, or what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from mutators import mutate_bytes
from own_rows import N, ask, make_frame

from dmtg_lite import data

TARGETS = ["ill", "grade", "weight"]


def make_table() -> pandas.DataFrame:
    return pandas.concat([make_frame(), pandas.DataFrame(ask())], axis=1)


def save(path: Path, **how: Any) -> Path:
    make_table().to_csv(path, **{"index": False, **how})
    return path


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"encoding": "utf-8-sig"},  # with a mark at its beginning, as Excel writes it
        {"sep": ";"},
        {"sep": "\t"},
        {"sep": "|"},
        {"lineterminator": "\r\n"},
        {"quoting": 1},
    ],
    ids=str,
)
def test_a_file_is_the_frame_it_was_saved_from(how: dict[str, Any], tmp_path: Path) -> None:
    """Same features, same targets, same splits; the data have the file's name."""
    made = data.from_csv(save(tmp_path / "people.csv", **how), TARGETS)
    frame = make_table()
    same = data.from_arrays(frame.drop(columns=TARGETS).astype({"size": str}), frame[TARGETS])
    assert made.name == "people"
    assert made.task_names == TARGETS
    assert torch.equal(made.train.features, same.train.features)
    assert made.tasks == same.tasks


def test_columns_are_chosen(tmp_path: Path) -> None:
    """Some features, a column of splits, one of groups, one task as text."""
    frame = make_table().assign(
        fold=np.repeat(["train", "val", "test"], N // 3), home=np.arange(N) // 5
    )
    frame.to_csv(tmp_path / "a.csv")  # with the index, which is no feature here
    made = data.from_csv(
        tmp_path / "a.csv", "ill", features=["age", "colour"], splits="fold", groups="home"
    )
    assert made.reader is not None
    assert made.reader.feature_names == ["age", "colour=blue", "colour=green", "colour=red"]
    assert made.task_names == ["ill"]
    assert len(made.val) == 20


def test_blanks_quotes_and_holes(tmp_path: Path) -> None:
    """Blanks after commas, commas in quotes, empty fields, words for missing."""
    rows = [f'{k}, "a, b", {k % 2}' if k % 3 else f"NA, c, {k % 2}" for k in range(30)]
    rows[4] = "7, c,"
    (tmp_path / "a.csv").write_text("\n".join(["x, text, y", *rows, ""]))
    made = data.from_csv(tmp_path / "a.csv", "y", impute="mean")
    assert made.reader is not None
    assert made.reader.feature_names == ["x", "text=a, b", "text=c"]
    labels = torch.cat([getattr(made, split).targets["y"] for split in ("train", "val", "test")])
    assert (labels < 0).sum() == 1


def check_refusal(error: Exception, path: Path) -> None:
    """One line, with the file's name."""
    assert "\n" not in str(error)
    assert str(path) in str(error)


HEAD, BODY = "a,b,y\n", "1,2,0\n2,1,1\n" * 10
REFUSED = {
    "empty": (b"", "is empty, where a CSV file is due"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "is a PNG"),
    "Excel's own": (b"PK\x03\x04" + b"\0" * 20, "is a zip archive"),
    "a web page": (b"<!doctype html><html>", "is an HTML page"),
    "UTF-16": ((HEAD + BODY).encode("utf-16"), "is UTF-16 text"),
    "Latin-1": (HEAD.encode() + "1,gr\u00fcn,0\n".encode("latin-1"), "line 2 is no UTF-8"),
    "one column": (b"y\n" + b"1\n" * 10, "has one column"),
    "no header": (BODY.encode(), "its first line holds numbers"),
    "two of a name": (b"a,a,y\n" + BODY.encode(), "more than one column 'a'"),
    "no name": (b",a,y\n" + BODY.encode(), "column 1 has no name. .* index=False"),
    "a field too many": (
        (HEAD + BODY + "1,2,3,4\n" + BODY).encode(),
        "line 22 has 4 fields, the first has 3",
    ),
    "cut off": ((HEAD + BODY + "1,2").encode(), "line 22 has 2 fields"),
    "all too many": (b"a,y\n" + BODY.encode(), "line 2 has 3 fields, the first has 2"),
    "an open quote": (
        (HEAD + BODY + '1,"2,0\n').encode(),
        "line 22 cannot be read: unexpected end",
    ),
    "no rows": (HEAD.encode(), "is empty"),
    "another target": ((HEAD + BODY).replace("y", "z").encode(), "no column 'y'; it has"),
    "a hole": ((HEAD + "1,,0\n" + BODY).encode(), 'Say impute="mean"'),
    "decimal commas": (b"a;y\n" + b"1,5;0\n2,5;1\n" * 10, "text where numbers are due"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_of_another_kind_is_refused(case: str, tmp_path: Path) -> None:
    """One line, with the file's name and what to do."""
    content, words = REFUSED[case]
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        data.from_csv(path, "y")
    check_refusal(error.value, path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    """Both are named."""
    with pytest.raises(FileNotFoundError, match="no CSV file at"):
        data.from_csv(tmp_path / "none.csv", "y")
    with pytest.raises(ValueError, match="is a folder"):
        data.from_csv(tmp_path, "y")


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_a_damaged_file_is_refused_or_read(first: int, tmp_path: Path) -> None:
    """Bytes changed, cut, doubled: one line with the file's name, or three splits of numbers."""
    path = save(tmp_path / "own.csv")
    good = path.read_bytes()
    for seed in range(first, first + 30):
        path.write_bytes(mutate_bytes(good, seed))
        try:
            made = data.from_csv(path, TARGETS)
        except ValueError as error:
            check_refusal(error, path)
        else:
            assert made.train.features.isfinite().all(), seed
            assert made.task_names == TARGETS


def test_without_pandas_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing package: the message is the command to run."""
    path = save(tmp_path / "own.csv")
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"dmtg-lite\[data\]"):
        data.from_csv(path, TARGETS)
