"""The grid of recorded runs: made once, gone on with, refused when damaged, shown as one page."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_scripts import make_what_if
from data_scripts.make_what_if import (
    PAGE,
    STORE,
    Setting,
    Suite,
    choose_frames,
    describe_suites,
    name_cell,
    pack_film,
    plan_cells,
    read_store,
    record_runs,
    write_page,
)
from dmtg_lite import data
from dmtg_lite.core.config import Spare
from dmtg_lite.core.record import Closing
from dmtg_lite.experiments import TOY
from dmtg_lite.runs.history import History

_SHORT = replace(TOY["faces_plain"], steps=6, pretrain=2)
_SPARE = replace(_SHORT, spare=Spare(branches="double", close_from=2, close_every=1))
TINY = {
    "faces": Suite(
        lambda seed: data.toy_faces(4, 2, size=16, n_train=64, n_val=8, n_test=8, seed=seed),
        {"none": _SHORT, "double": _SPARE},
    )
}
CELLS = [(Setting(k=2), 0), (Setting(k=2, spare="double"), 1)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("what_if") / "runs.jsonl"
    assert record_runs(path, 1, suites=TINY, cells=CELLS[:1], commit="abc") == 1
    assert record_runs(path, 1, suites=TINY, cells=CELLS, commit="abc") == 1  # what was missing
    return path


def test_what_is_there_is_not_trained_again(store: Path) -> None:
    """The same command goes on; with no time left it trains nothing."""
    before = store.read_bytes()
    assert record_runs(store, 1, suites=TINY, cells=CELLS) == 0
    assert record_runs(store, 0, suites=TINY, cells=[(Setting(k=1), 0)]) == 0
    assert store.read_bytes() == before
    _, runs = read_store(store, describe_suites(TINY))
    assert [name_cell(run) for run in runs] == CELLS
    assert runs[1]["closings"] == [2, 3]
    assert runs[1]["n_branches"] == 4


def spoil(line: str, **changes: Any) -> str:
    return json.dumps(json.loads(line) | changes)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (1, lambda line: spoil(line, format="x"), "another format"),
        (1, lambda line: line.replace("steps=6", "steps=7"), "another recipe"),
        (2, lambda line: line[:-20], "no JSON"),
        (2, lambda line: spoil(line, seed="x"), "`seed` must be a whole number"),
        (3, lambda line: spoil(line, film="QUJD"), "`film` cannot be unpacked"),
        (3, lambda line: spoil(line, n_frames=2), "`film` must have"),
        (3, lambda line: spoil(line, data="cats"), "`data` 'cats' is not in the first line"),
    ],
)
def test_a_damaged_store_is_refused_by_name(
    store: Path, tmp_path: Path, number: int, change: Any, message: str
) -> None:
    """File and line are named, and nothing is written over it."""
    lines = store.read_text("utf-8").splitlines()
    lines[number - 1] = change(lines[number - 1])
    path = tmp_path / "spoiled.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=rf"spoiled\.jsonl, line {number}: .*{message}"):
        record_runs(path, 1, suites=TINY, cells=[(Setting(k=1), 0)])
    assert path.read_text("utf-8") == "\n".join(lines)


def read_grid(page: str) -> dict[str, Any]:
    return json.loads(page.split('id="grid">')[1].split("</script>")[0])


def test_the_page_holds_the_runs_and_needs_nothing_else(store: Path, tmp_path: Path) -> None:
    """Seeds and commit are named, and so is what was not run."""
    head, runs = read_store(store)
    path = write_page(tmp_path / "page.html", head, runs, suites=TINY)
    page = path.read_text("utf-8")
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert "@@" not in page
    for words in ("2 runs in 2 of 504 settings", "commit abc", "the others were not run"):
        assert words in page
    grid = read_grid(page)
    assert [run["film"] for run in grid["runs"]] == [run["film"] for run in runs]
    assert list(grid["cells"]) == ["faces none 2 2.5 1", "faces double 2 2.5 1"]


def test_a_page_that_is_too_large_is_not_written(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that is there stays."""
    monkeypatch.setattr(make_what_if, "MAX_PAGE", 10_000)
    with pytest.raises(ValueError, match=r"page\.html would have .* 2 runs are too many"):
        write_page(tmp_path / "page.html", *read_store(store), suites=TINY)
    assert not list(tmp_path.iterdir())


def test_a_film_keeps_what_moves() -> None:
    """At most 56 of 900 frames; both ends, the closing and the record before it among them."""
    logits = np.linspace(0, 6, 900).clip(2, 3)[:, None, None] * np.eye(3)[[2, 0, 1, 2]]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)  # moves from record 300 to 450
    p[700:, :, 1] = 0
    history = History(["hair", "hat", "beard", "nose"], 3)
    flat = np.ones(900)
    history.append(np.arange(1, 901), p, np.linspace(2, 1, 900)[:, None] * np.ones(4), flat, flat)
    costs = {"cost": 0.1, "costs": [2.0, 0.1, 1.0], "branches": [0, 1, 2]}
    history.tell(Closing(step=701, branch=1, moved={}, **costs), None)
    rows = choose_frames(history)
    assert len(rows) <= 56
    assert {0, 699, 700, 899} <= set(rows.tolist())
    assert np.sum((rows > 300) & (rows < 450)) > np.sum(rows < 300)  # in half the time

    losses = history.task_losses[rows].mean(1)
    raw = zlib.decompress(base64.b64decode(pack_film(history, rows, losses)))
    steps = np.frombuffer(raw, "<u2", len(rows))
    codes = np.frombuffer(raw, np.uint8, offset=5 * len(rows)).reshape(len(rows), 4, 3)
    np.testing.assert_array_equal(steps, rows + 1)
    shown = np.cumsum(codes, 0, dtype=np.uint8) / 255  # modulo 256, as they were subtracted
    np.testing.assert_allclose(shown, p[rows], atol=1 / 255)
    assert (shown[-1][:, 1] == 0).all()


def test_the_plan_has_every_cell_once_and_the_recipes_first() -> None:
    """Any prefix of it is of use."""
    cells = list(plan_cells())
    assert len(set(cells)) == len(cells)
    assert [setting for setting, _ in cells[:20:10]] == [Setting(), Setting(spare="double")]
    assert len({setting for setting, _ in cells}) == 504


def test_the_committed_page_shows_the_committed_runs() -> None:
    """Every run on the page exists in the store, under 3 MB; so nothing on it is made up."""
    _, runs = read_store(STORE)
    page = PAGE.read_text("utf-8")
    shown = {(name_cell(run), run["film"]) for run in read_grid(page)["runs"]}
    assert shown == {(name_cell(run), run["film"]) for run in runs}
    assert len(runs) == len(shown)
    assert PAGE.stat().st_size < 3_000_000


def test_the_committed_page_draws_as_the_live_view_does_now(tmp_path: Path) -> None:
    """After a change to it: python data_scripts/make_what_if.py --minutes 0."""
    written = write_page(tmp_path / "page.html", *read_store(STORE)).read_text("utf-8")
    picture = re.compile(r'data:image/png;base64,[^"]*')  # other versions pack it otherwise
    assert picture.sub("", written) == picture.sub("", PAGE.read_text("utf-8"))
