"""What the pictures promise: the right numbers, fixed scales, few points, names as written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plotly.colors import sample_colorscale, unlabel_rgb

from dmtg_lite.runs.history import History, compute_mean_assignment
from dmtg_lite.views import plots
from dmtg_lite.views.plots import pages
from dmtg_lite.views.plots.curves import decimate, pace, running_mean
from dmtg_lite.views.plots.matrix import (
    LOSS_COLOURS,
    compute_loss_range,
    compute_movement,
    find_changed,
)
from dmtg_lite.views.plots.style import GROUP_COLOURS, compute_contrast, ink_on

NAMES = ["hair", "<b>beard</b>", "hat", "nose"]


def test_lines_have_at_most_400_points_and_both_ends() -> None:
    """However long a run; a running mean is over fewer values at the start."""
    for size in (1, 2, 399, 400, 401, 100_000):
        rows = decimate(size)
        assert (rows[0], rows[-1], len(rows)) == (0, size - 1, min(size, 400))
    np.testing.assert_allclose(running_mean(np.array([1.0, 3.0, 5.0]), 2), [1.0, 2.0, 4.0])
    assert running_mean(np.empty(0), 2).shape == (0,)


def test_a_film_is_slow_where_rows_move() -> None:
    """Settled within a sixth of the run, that takes more than half of the frames, not a sixth."""
    settling = np.clip(np.arange(900) / 150, 0, 1)[:, None, None]
    p = 1 / 3 + settling * (np.eye(3)[[0, 2]] - 1 / 3)  # (T, 2, 3)
    history = History(["a", "b"], 3)
    history.append(np.arange(1, 901), p, np.ones((900, 2)), np.ones(900), np.ones(900))
    rows = pace(history, 60)
    assert (rows[0], rows[-1]) == (0, 899)
    assert (np.diff(rows) > 0).all()
    assert 0.5 < (rows < 150).mean() < 0.9
    assert pace(history.slice(stop=40), 60).tolist() == list(range(40))
    still = History(["a"], 2)
    still.append(
        np.arange(90), np.full((90, 1, 2), 0.5), np.ones((90, 1)), np.ones(90), np.ones(90)
    )
    assert np.diff(pace(still, 10)).max() == 10  # nothing moves: evenly


def test_new_winners_and_the_movement_of_s() -> None:
    """By hand: S of the first task rises in group 1 by 0.1 a record, and wins there at 40."""
    s = np.zeros((60, 2, 3))
    s[:, 0, 1] = 0.1 * np.arange(60) - 3.95
    s[:, 0] -= s[:, 0].mean(-1, keepdims=True)  # as under a gradient, which sums to 0
    p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    history = History(["a", "b"], 3)
    history.append(np.arange(60), p, np.ones((60, 2)), np.ones(60), np.ones(60))
    assert [find_changed(history, index) for index in (39, 40, 58, 59, -1)] == [
        [],
        [0],
        [0],
        [],
        [],
    ]
    moved = compute_movement(history)
    np.testing.assert_allclose(moved[0] / moved[0, 1], [-0.5, 1, -0.5], atol=1e-4)
    assert moved[0, 1] == pytest.approx(1, abs=1e-3)
    assert (moved[1] == 0).all()
    assert not compute_movement(History(["a"], 2)).any()
    assert find_changed(History(["a"], 2)) == []


def test_every_number_in_a_cell_can_be_read() -> None:
    """Over both scales and on the colour of every group: 4.5 : 1 or more; textbook values hold."""
    assert compute_contrast((255, 255, 255), (0, 0, 0)) == pytest.approx(21)
    assert compute_contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)
    shades = np.linspace(0, 1, 1001)
    colours = [*sample_colorscale("Cividis", shades), *sample_colorscale(LOSS_COLOURS, shades)]
    for colour in [unlabel_rgb(one) for one in colours] + [
        [int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in GROUP_COLOURS
    ]:
        ink = 255 if ink_on(colour) == "#fff" else 0
        assert compute_contrast(colour, (ink,) * 3) >= 4.5


def test_numbers_on_pale_cells_are_black_in_a_trace_above() -> None:
    """Each cell has one ink, and a cell that is not there has none."""
    numbers = np.array([[0.0, 0.6], [0.6, 0.0], [1.0, 0.0]])
    white, black = plots.plot_assignment(numbers, ["a", "b", "c"]).data
    assert (white.textfont.color, black.textfont.color) == ("#fff", "#000")
    assert [list(row) for row in black.z] == [[None, 0.6], [0.6, None], [1.0, None]]
    assert (black.showscale, black.hoverongaps) == (False, False)
    assert len(plots.plot_assignment(numbers * 0.1, ["a", "b", "c"]).data) == 1


def test_heat_map_shows_the_matrix_on_a_fixed_scale() -> None:
    """Tasks are rows, groups are columns, colours always mean 0 to 1; every row has its name."""
    heat = plots.plot_assignment(np.array([[0.25, 0.75], [1.0, 0.0]]), ["a", "b"]).data[0]
    assert heat.z.tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert (list(heat.x), list(heat.y)) == (["0", "1"], ["a", "b"])
    assert (heat.zmin, heat.zmax) == (0, 1)
    with pytest.raises(ValueError, match="one row per task name"):
        plots.plot_assignment(np.ones((2, 3)), ["a"])


def test_matrix_is_softmax_or_mean_weight_or_loss(run: History) -> None:
    """The first two differ at tau 2.5; losses are means of 20 records; at first 1/K or none."""
    p = run.probabilities[-1]
    np.testing.assert_array_equal(plots.compute_matrix(run), p)
    expected = compute_mean_assignment(p, 2.5, n_draws=500)
    np.testing.assert_array_equal(plots.compute_matrix(run, matrix="E[Z]"), expected)
    assert expected[0, 0] < p[0, 0] - 0.1
    losses = run.loss_matrices.astype(float)
    for index, first in ((-1, 980), (30, 11), (3, 0)):
        mean = losses[first : range(1000)[index] + 1].mean(0)
        np.testing.assert_allclose(plots.compute_matrix(run, index, "loss"), mean, rtol=1e-5)
    fresh = History(NAMES, 4)
    assert (plots.compute_matrix(fresh) == 0.25).all()
    assert np.isnan(plots.compute_matrix(fresh, matrix="loss")).all()
    with pytest.raises(ValueError, match="`matrix` must be one of"):
        plots.compute_matrix(run, matrix="mean")


def test_losses_are_shaded_by_what_a_row_could_win(run: History) -> None:
    """Pale and bold is the row's best, the darkest is fixed for the run; cells hold the losses."""
    assert compute_loss_range(run) == pytest.approx(0.92, abs=0.03)  # 95 % of 2/3 * U(0, 1)
    early, late = (plots.plot_history(run, index=i, matrix="loss").data[0] for i in (99, 999))
    np.testing.assert_array_equal(late.z, 1 - np.eye(3)[[0, 0, 1, 2]])
    assert late.text[0] == ["<b>0.50</b>", "1.49", "1.49"]
    assert early.text[0][1] == "0.59"
    assert 0.2 < early.z[0][1] < 0.4  # the root of 0.09 / 0.92: small differences are seen
    assert early.colorscale == late.colorscale
    assert [colour for _, colour in late.colorscale] == LOSS_COLOURS
    assert (late.zmin, late.zmax) == (0, 1)


def test_losses_that_are_not_there_or_beyond_float16(run: History) -> None:
    """An infinite loss is the darkest, without a warning; an old recording is refused in words."""
    wild = History(NAMES, 3)
    losses = run.loss_matrices[0] + [0, 1, np.inf]
    wild.append(1, run.probabilities[0], np.ones(4), 1.0, 0.1, losses)
    assert plots.plot_history(wild, matrix="loss").data[0].z[0][2] == 1
    run.has_loss_matrices = False
    with pytest.raises(ValueError, match="this recording holds no losses"):
        plots.plot_dashboard(run, matrix="loss")


def test_every_picture_of_a_run_is_small_and_escaped(run: History) -> None:
    """No line has more than 400 points, and a task's name never becomes markup."""
    for fig in (
        plots.plot_history(run),
        plots.plot_history(run, matrix="loss"),
        plots.plot_probabilities(run, NAMES[1]),
        plots.plot_task_losses(run),
        plots.plot_entropy(run),
        plots.plot_dashboard(run, task=NAMES[1]),
    ):
        assert all(len(trace.y) <= 400 for trace in fig.data if trace.y is not None)
        assert "<b>beard" not in fig.to_json()
        assert fig.layout.paper_bgcolor == "rgba(0,0,0,0)"
    with pytest.raises(ValueError, match="unknown `task` 'x'"):
        plots.plot_probabilities(run, "x")
    with pytest.raises(ValueError, match="no records"):
        plots.plot_history(History(NAMES, 3))


def test_dashboard_shows_the_record_asked_for(run: History) -> None:
    """Heat map, title and the line through the curves belong to the same step."""
    fig = plots.plot_dashboard(run, index=99, task="hat")
    np.testing.assert_allclose(fig.data[0].z, run.probabilities[99], atol=1e-4)
    assert fig.layout.shapes[0].x0 == 100
    assert "step 100" in fig.layout.annotations[0].text
    assert [trace.visible for trace in fig.data[7:15]] == [True] * 3 + [False] * 5
    plots.update_dashboard(fig, run, index=99, matrix="loss")
    np.testing.assert_array_equal(
        fig.data[0].z, plots.plot_history(run, index=99, matrix="loss").data[0].z
    )
    assert fig.layout.annotations[0].text == "loss · step 100"


def test_one_dashboard_serves_runs_of_any_k(run: History) -> None:
    """After a reset with another K, even before its first step, the same figure shows it."""
    fig = plots.make_dashboard()
    plots.update_dashboard(fig, run, matrix="loss")
    plots.update_dashboard(fig, History(NAMES, 5), n_steps=900)
    assert np.shape(fig.data[0].z) == (4, 5)
    np.testing.assert_allclose(fig.data[0].z, 0.2)
    assert fig.data[0].text is None
    assert sum(bool(trace.visible) for trace in fig.data[6:14]) == 5
    assert fig.layout.xaxis4.range == (0, 900)


def test_norm_gain_bars_are_means_over_seeds() -> None:
    """One bar per method in the table's order; its runs are dots."""
    table = pd.DataFrame({"method": ["stl", "dmtg", "dmtg"], "norm_gain_error": [30.0, 40.0, 50.0]})
    bars, dots = plots.plot_norm_gain(table).data
    assert (list(bars.y), list(bars.x)) == (["stl", "dmtg"], [30.0, 45.0])
    assert list(dots.x) == [30.0, 40.0, 50.0]
    with pytest.raises(ValueError, match="no column"):
        plots.plot_norm_gain(table, value="gain")


def test_temperature_changes_the_draw_but_not_who_wins() -> None:
    """Same noise at every tau: the largest entry of each row stays where it is."""
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    taus = (0.1, 1.0, 10.0)
    draws = {tau: plots.compute_temperature_views(logits, tau, seed=3)[0] for tau in taus}
    assert len({tuple(draw.argmax(-1)) for draw in draws.values()}) == 1
    assert draws[0.1].max() > 0.99 > draws[10.0].max()
    assert {trace.xaxis for trace in plots.plot_temperature(logits, 1.0).data} == {"x", "x2", "x3"}


@pytest.mark.parametrize(
    ("logits", "tau", "names", "message"),
    [
        (np.zeros((2, 2)), 0.0, None, "`tau` must be > 0"),
        (np.zeros((2, 2)), -1.0, None, "`tau` must be > 0"),
        (np.zeros((2, 2)), float("nan"), None, "`tau` must be > 0"),
        (np.zeros(2), 1.0, None, r"`logits` must have shape \(N, K\)"),
        (np.zeros((2, 2)), 1.0, ["a"], "`task_names` must hold 2 names"),
    ],
)
def test_bad_temperatures_and_shapes_are_refused(logits, tau, names, message) -> None:
    """tau must be positive, and NaN is not; S is a matrix with a name per row."""
    with pytest.raises(ValueError, match=message):
        plots.plot_temperature(logits, tau, task_names=names)


@pytest.mark.parametrize("matrix", ["probabilities", "loss"])
def test_a_closed_branch_is_hatched_and_an_empty_one_shows_its_numbers(closing_run, matrix) -> None:
    """No cell and a stroke per task for the closed; before the closing it is as any other."""
    heat, hatch, *_ = plots.plot_history(closing_run, index=45, matrix=matrix).data
    assert [row[4] for row in heat.z] == [None] * 4
    assert all(row[3] is not None and row[1] is not None for row in heat.z)
    assert (set(hatch.x), len(hatch.x)) == ({"4"}, 4)
    heat, *above = plots.plot_history(closing_run, index=30, matrix=matrix).data
    assert heat.z.dtype.kind == "f"
    above += plots.plot_assignment(np.eye(3)[[0, 0, 1, 1]], NAMES).data  # empty, not closed
    assert {trace.type for trace in above} == {"heatmap"}


def test_the_line_of_a_closed_branch_ends_there(closing_run: History) -> None:
    """Its probability is not drawn as 0 from then on; a dotted line with its number says why."""
    fig = plots.plot_probabilities(closing_run, "hair")
    assert np.isnan(fig.data[4].y[39:]).all()
    assert not np.isnan(fig.data[4].y[:39]).any()
    assert not np.isnan(fig.data[3].y).any()
    assert fig.data[4].name == "group 4, closed at 40"
    for other in (fig, plots.plot_task_losses(closing_run), plots.plot_entropy(closing_run)):
        assert [shape.x0 for shape in other.layout.shapes] == [40, 60]
        assert [note.text for note in other.layout.annotations] == ["4", "1"]
    most = plots.plot_entropy(closing_run).data[1].y
    np.testing.assert_allclose(most[[0, 50, 99]], np.log([5, 4, 3]) / np.log(5), rtol=1e-6)


def test_dashboard_before_and_after_a_closing(closing_run: History) -> None:
    """Scrubbed back, the branch is open again; lines mark only closings already recorded."""
    fig = plots.make_dashboard(5)
    plots.update_dashboard(fig, closing_run, index=70)
    assert [row[1] for row in fig.data[0].z] == [row[4] for row in fig.data[0].z] == [None] * 4
    assert "closed" in fig.layout.xaxis.title.text
    assert sorted({shape.x0 for shape in fig.layout.shapes}) == [40, 60, 71]
    plots.update_dashboard(fig, closing_run, index=10)
    assert None not in np.ravel(fig.data[0].z).tolist()
    assert fig.layout.xaxis.title.text == "group"
    assert len(fig.data[1].x) == 0
    for early in (closing_run.slice(stop=30), History(NAMES, 2)):
        plots.update_dashboard(fig, early)
        assert len(fig.layout.shapes) == 3


def test_closing_costs_done_and_imagined(closing_run: History) -> None:
    """Bars in the branch's colour for what was closed, grey for the rest; the K of the rise."""
    fig = plots.plot_closing_costs(closing_run)
    done, imagined = fig.data
    assert (list(done.x), list(done.y)) == ([5, 4], [0.4, 0.1])
    assert list(done.marker.color) == [plots.group_style(k)[0] for k in (4, 1)]
    assert (list(imagined.x), list(imagined.y)) == ([3, 2], [1.5, 1.7])
    assert fig.layout.xaxis.range[0] > fig.layout.xaxis.range[1]  # time runs to the right
    assert "K = 3" in fig.layout.annotations[0].text
    assert fig.layout.shapes[0].x0 == 3.5


def test_closing_costs_of_half_a_story(closing_run: History) -> None:
    """A run may have imagined costs alone, an old one closings alone; one of them must be."""
    elbow, closing_run.elbow = closing_run.elbow, None
    assert len(plots.plot_closing_costs(closing_run).data) == 1
    imagined = History(NAMES, 5)
    with pytest.raises(ValueError, match="Spare"):
        plots.plot_closing_costs(imagined)
    imagined.elbow = elbow
    assert list(plots.plot_closing_costs(imagined).data[0].x) == [5, 4, 3, 2]


def test_groups_beyond_eight_are_told_apart_and_the_head_graph_draws_them_alike() -> None:
    """64 groups have different pairs of colour and dash; common.js holds the same table."""
    assert len({plots.group_style(k) for k in range(64)}) == 64
    assert tuple(plots.group_style(k)[0] for k in range(8)) == plots.GROUP_COLOURS
    folder = Path(plots.__file__).parents[1] / "widgets"
    script = (folder / "common.js").read_text(encoding="utf-8")
    table = script[script.index("const STYLE") :]
    assert tuple(re.findall(r'\["(#\w{6})"', table[: table.index("];\n")])) == plots.GROUP_COLOURS
    assert "(k + 5 * Math.floor(k / 8)) % 8" in script
    losses = (folder / "matrix.js").read_text(encoding="utf-8").split("const LOSSES = ")[1]
    assert re.findall(r"#\w{6}", losses.splitlines()[0]) == LOSS_COLOURS


def test_a_figure_carries_its_picture_and_the_first_of_a_notebook_the_library(
    run: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the first cell is run again; nothing is fetched, and no name ends the script."""
    run.task_names[0] = "</script><script>alert(1)</script>"
    figure = plots.plot_assignment(run.probabilities[-1], run.task_names).to_dict()
    monkeypatch.setattr(pages.PageRenderer, "holder", None)
    holds = []
    for cell in (("a", 1), ("b", 2), (None, 3), ("b", 4), ("a", 5), ("a", 5)):
        monkeypatch.setattr(pages, "_find_cell", lambda cell=cell: cell)
        page = pages.PageRenderer().to_mimebundle(figure)["text/html"]
        holds.append("DecompressionStream" in page)
        assert page.count("</script>") == 1 + holds[-1]
        assert not re.search("(src|href)=", page)
    assert holds == [True, False, False, False, True, False]
    assert len(page) < 20_000


def test_forty_tasks_and_five_groups_fit_a_screen() -> None:
    """Every name is written, in letters lower than its row; no figure is higher than 640 pixels."""
    history = History([f"task {n}" for n in range(40)], 5)
    history.append(1, np.full((40, 5), 0.2), np.ones(40), 1.0, 0.1)
    for fig, around in ((plots.plot_history(history), 120), (plots.plot_dashboard(history), 90)):
        assert fig.layout.height <= 640
        assert fig.layout.yaxis.dtick == 1
        assert 10 <= fig.layout.yaxis.tickfont.size < (fig.layout.height - around) / 40
