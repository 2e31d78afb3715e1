"""What the replay page promises: small, self-contained, safe to open, and needing no torch."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmtg_lite.core.record import Closing
from dmtg_lite.runs.history import About, History
from dmtg_lite.views import recordings
from dmtg_lite.views.plots import compute_matrix
from dmtg_lite.views.plots.curves import pace
from dmtg_lite.views.replay import render_replay, write_replay

EVIL = "</script><script>alert(1)</script>"


def make_history(n_tasks: int = 9, n_groups: int = 3, n_steps: int = 500) -> History:
    """Noise, which compresses badly; the last head has no loss in the second half."""
    rng = np.random.default_rng(0)
    logits = np.cumsum(rng.normal(size=(n_steps, n_tasks, n_groups)), 0) / 10
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = rng.random(p.shape)
    losses[n_steps // 2 :, -1, -1] = np.nan
    names = [f"A_rather_long_task_name_{n}" for n in range(n_tasks)]
    history = History(names, n_groups, about=About(title="A run", method="DMTG", seed=3))
    tau, rate = np.full(n_steps, 2.5), np.full(n_steps, 0.03)
    history.append(np.arange(1, n_steps + 1), p, rng.random((n_steps, n_tasks)), tau, rate, losses)
    history.about.groups = history.groups()
    return history


def read_film(page: str) -> dict[str, Any]:
    return json.loads(page.split('id="run">')[1].split("</script>")[0])


@pytest.mark.parametrize(
    ("n_tasks", "n_groups", "n_steps"),
    [(9, 3, 900), (40, 5, 2000), (1, 1, 1), (9, 12, 900), (40, 12, 900)],
)
def test_page_is_under_200_kb(tmp_path: Path, n_tasks: int, n_groups: int, n_steps: int) -> None:
    """Also for 40 tasks, 12 branches and a long run, losses included."""
    path = write_replay(make_history(n_tasks, n_groups, n_steps), tmp_path / "run.html")
    assert path.stat().st_size < 200_000
    assert [file.name for file in tmp_path.iterdir()] == ["run.html"]


def test_page_holds_the_losses_that_the_plots_show() -> None:
    """Two bytes each, error below 1/65534 of the largest; a head that is gone has none."""
    history = make_history()
    film = read_film(render_replay(history))
    codes = np.frombuffer(base64.b64decode(film["losses"]), "<u2").reshape(-1, 9, 3)
    shown = np.where(codes == 65535, np.nan, codes / 65534 * film["most_loss"])
    expected = [compute_matrix(history, row, "loss") for row in pace(history, 200)]
    np.testing.assert_allclose(shown, expected, atol=film["most_loss"] / 65534)
    history.has_loss_matrices = False
    assert "losses" not in read_film(render_replay(history))


def test_page_loads_nothing_from_elsewhere() -> None:
    """No address but the name of the SVG language, and a policy that forbids the rest."""
    page = render_replay(make_history())
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert "@@" not in page
    assert "import " not in page
    assert "export " not in page


def test_names_and_descriptions_are_text_never_markup() -> None:
    """A task, title, note or config that looks like a script is shown, not run."""
    history = make_history()
    history.task_names[0] = EVIL
    history.about = About(title=EVIL, method=EVIL, note=EVIL, config=EVIL, groups=history.groups())
    history.about.planted_groups = [[EVIL], history.task_names[1:]]
    page = render_replay(history)
    assert "<script>alert" not in page
    assert page.count("</script>") == 2  # the data and the program


def test_half_a_character_in_a_name_breaks_no_page(tmp_path: Path) -> None:
    """A lone surrogate, as a file name of another encoding leaves: UTF-8 has no bytes for it."""
    history = make_history(4, 2)
    history.task_names[0] = "hair\udc80"
    history.about.groups = [history.task_names]
    page = write_replay(history, tmp_path / "run.html").read_text("utf-8")
    assert "<li>hair?, " in page
    assert read_film(page)["tasks"][0] == "hair\udc80"


def test_a_run_that_blew_up_is_shown_up_to_there() -> None:
    """With a word on where that was; the page's program sees finite numbers only."""
    history = make_history(4, 2, 20)
    for step in (21, 22):
        history.append(step, np.full((4, 2), np.nan), [1.0, np.nan, 1.0, 1.0], 2.5, 0.03)
    page = render_replay(history)
    assert "before 21, from which on a loss is not finite." in page
    assert read_film(page)["steps"][-1] == 20


def test_page_says_what_was_found_of_what_was_planted() -> None:
    """Groups found and planted stand in the page as text, so they need no JavaScript."""
    history = make_history(4, 2)
    history.about.groups = [["x", "y"], ["z"]]
    history.about.planted_groups, history.about.config = [["x", "y"], ["z", "w"]], "the line"
    page = render_replay(history)
    for words in ("Planted groups: 1 of 2 found", "the line", "DMTG · seed 3"):
        assert words in page


def test_closings_and_elbow_stand_in_the_page_as_text() -> None:
    """Which branch closed when, at what cost, who moved where; names are escaped."""
    history = make_history(4, 3)
    assert "Branches closed" not in render_replay(history)
    first = history.task_names[0]
    costs = {"cost": 0.2, "costs": [1.0, 1.0, 0.2], "branches": [0, 1, 2]}
    history.tell(Closing(step=40, branch=2, moved={first: 1, EVIL: 0}, **costs), None)
    history.elbow = {"n_branches": [3, 2], "branches": [], "costs": [0.25, 1.5], "n_groups": 2}
    page = render_replay(history)
    assert f"step 40: branch 2 at a cost of 0.20, {first} to 1; &lt;/script&gt;" in page
    assert "3 to 2: 0.25, 2 to 1: 1.50" in page
    assert "The largest rise says K = 2" in page
    assert "<script>alert" not in page


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    """An empty run has nothing to show; a page is an .html file; a name is a recording's."""
    with pytest.raises(ValueError, match="no records"):
        write_replay(History(["a"], 2), tmp_path / "run.html")
    with pytest.raises(ValueError, match=r"must end in \.html"):
        write_replay(make_history(), tmp_path / "run.txt")
    with pytest.raises(ValueError, match="no recording named 'x'"):
        recordings.load("x", tmp_path)


def test_a_recorded_run_becomes_a_page_without_torch(tmp_path: Path) -> None:
    """Save, load by name, write the page: with torch, plotly and widgets out of reach."""
    make_history().save(tmp_path / "good_seed.npz")
    assert recordings.names(tmp_path) == ["good_seed"]
    program = f"""
import sys
for name in ("torch", "plotly", "ipywidgets", "anywidget"):
    sys.modules[name] = None
from dmtg_lite.views import recordings
from dmtg_lite.views.widgets import write_replay
write_replay(recordings.load("good_seed", {str(tmp_path)!r}), {str(tmp_path / "run.html")!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "run.html").exists()


@pytest.mark.parametrize("name", recordings.names())
def test_shipped_recordings_tell_what_they_are(name: str) -> None:
    """Every recording that ships has the facts a page shows, and fits a page."""
    history = recordings.load(name)
    facts = "title method config data planted_groups groups note".split()
    assert all(getattr(history.about, fact) for fact in facts)
    assert history.about.seed is not None
    assert len(render_replay(history).encode()) < 200_000
