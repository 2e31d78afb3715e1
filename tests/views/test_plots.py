"""What the pictures promise: the right numbers, fixed scales, few points, names shown as written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmtg_lite.runs.history import History, compute_mean_assignment
from dmtg_lite.views import plots
from dmtg_lite.views.plots import (
    GROUP_COLOURS,
    compute_matrix,
    compute_temperature_views,
    group_style,
    make_dashboard,
    plot_assignment,
    plot_closing_costs,
    plot_dashboard,
    plot_entropy,
    plot_history,
    plot_norm_gain,
    plot_probabilities,
    plot_task_losses,
    plot_temperature,
    update_dashboard,
)
from dmtg_lite.views.plots.curves import decimate, running_mean

NAMES = ["hair", "<b>beard</b>", "hat", "nose"]


@pytest.fixture
def history() -> History:
    """1000 steps in which four tasks settle into three groups."""
    rng = np.random.default_rng(0)
    logits = np.linspace(0, 5, 1000)[:, None, None] * np.eye(3)[[0, 0, 1, 2]]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    history = History(NAMES, 3)
    history.append(
        np.arange(1, 1001), p, rng.random((1000, 4)), np.full(1000, 2.5), np.full(1000, 0.03)
    )
    return history


def test_decimate_keeps_both_ends_and_at_most_400() -> None:
    """However long a run, a line has at most 400 points, the first and the last among them."""
    for size in (1, 2, 399, 400, 401, 100_000):
        rows = decimate(size)
        assert (rows[0], rows[-1]) == (0, size - 1)
        assert len(rows) == min(size, 400)


def test_running_mean_by_hand() -> None:
    """The mean of the last two values, of one at the start."""
    np.testing.assert_allclose(running_mean(np.array([1.0, 3.0, 5.0]), 2), [1.0, 2.0, 4.0])
    assert running_mean(np.empty(0), 2).shape == (0,)


def test_heat_map_shows_the_matrix_on_a_fixed_scale() -> None:
    """Tasks are rows, groups are columns, colours always mean 0 to 1."""
    heat = plot_assignment(np.array([[0.25, 0.75], [1.0, 0.0]]), ["a", "b"]).data[0]
    assert heat.z.tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert (list(heat.x), list(heat.y)) == (["0", "1"], ["a", "b"])
    assert (heat.zmin, heat.zmax) == (0, 1)


def test_heat_map_refuses_wrong_names() -> None:
    """One name per row, or the error says so."""
    with pytest.raises(ValueError, match="one row per task name"):
        plot_assignment(np.ones((2, 3)), ["a"])


def test_weights_are_softmax_or_mean_weight(history: History) -> None:
    """The two differ at tau 2.5, and E[Z] is what `compute_mean_assignment` says."""
    p = history.probabilities[-1]
    np.testing.assert_array_equal(compute_matrix(history), p)
    expected = compute_mean_assignment(p, 2.5, n_draws=500)
    np.testing.assert_array_equal(compute_matrix(history, matrix="E[Z]"), expected)
    assert compute_matrix(history, matrix="E[Z]")[0, 0] < p[0, 0] - 0.1
    with pytest.raises(ValueError, match="`matrix` must be one of"):
        compute_matrix(history, matrix="mean")


def test_every_picture_of_a_run_is_small_and_escaped(history: History) -> None:
    """No line has more than 400 points, and a task's name never becomes markup."""
    figures = [
        plot_history(history),
        plot_probabilities(history, NAMES[1]),
        plot_task_losses(history),
        plot_entropy(history),
        plot_dashboard(history, task=NAMES[1]),
    ]
    for fig in figures:
        assert all(len(trace.y) <= 400 for trace in fig.data if trace.y is not None)
        assert "<b>beard" not in fig.to_json()
        assert fig.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_dashboard_shows_the_record_asked_for(history: History) -> None:
    """Heat map, title and the line through the curves belong to the same step."""
    fig = plot_dashboard(history, index=99, task="hat")
    np.testing.assert_allclose(fig.data[0].z, history.probabilities[99], atol=1e-4)
    assert fig.layout.shapes[0].x0 == 100
    assert "step 100" in fig.layout.annotations[0].text
    assert [trace.visible for trace in fig.data[6:14]] == [True] * 3 + [False] * 5


def test_one_dashboard_serves_runs_of_any_k(history: History) -> None:
    """After a reset with another K, even before its first step, the same figure shows it."""
    fig = make_dashboard()
    update_dashboard(fig, history)
    update_dashboard(fig, History(NAMES, 5), n_steps=900)
    assert np.shape(fig.data[0].z) == (4, 5)
    np.testing.assert_allclose(fig.data[0].z, 0.2)
    assert sum(bool(trace.visible) for trace in fig.data[6:14]) == 5
    assert fig.layout.xaxis4.range == (0, 900)


def test_unknown_task_is_refused(history: History) -> None:
    """The error lists the tasks there are."""
    with pytest.raises(ValueError, match="unknown `task` 'x'"):
        plot_probabilities(history, "x")


def test_norm_gain_bars_are_means_over_seeds() -> None:
    """One bar per method in the table's order; its runs are dots."""
    table = pd.DataFrame({"method": ["stl", "dmtg", "dmtg"], "norm_gain_error": [30.0, 40.0, 50.0]})
    bars, dots = plot_norm_gain(table).data
    assert (list(bars.y), list(bars.x)) == (["stl", "dmtg"], [30.0, 45.0])
    assert list(dots.x) == [30.0, 40.0, 50.0]
    with pytest.raises(ValueError, match="no column"):
        plot_norm_gain(table, value="gain")


def test_temperature_changes_the_draw_but_not_who_wins() -> None:
    """Same noise at every tau: the largest entry of each row stays where it is."""
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    draws = {tau: compute_temperature_views(logits, tau, seed=3)[0] for tau in (0.1, 1.0, 10.0)}
    assert len({tuple(draw.argmax(-1)) for draw in draws.values()}) == 1
    assert draws[0.1].max() > 0.99 > draws[10.0].max()
    assert len(plot_temperature(logits, 1.0).data) == 3


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_bad_temperature_is_refused(tau: float) -> None:
    """tau must be positive, and NaN is not."""
    with pytest.raises(ValueError, match="`tau` must be > 0"):
        plot_temperature(np.zeros((2, 2)), tau)


@pytest.fixture
def closing_run() -> History:
    """Five branches for three groups: 4 closes at step 40, 1 at step 60; branch 3 is open, but empty."""
    p = np.full((100, 4, 5), 0.02)
    for n, k in enumerate([0, 4, 1, 2]):
        p[:, n, k] = 0.92
    p[39:, :, 4] = 0
    p[59:, :, 1] = 0
    p /= p.sum(-1, keepdims=True)
    closings = [
        {
            "step": 40,
            "branch": 4,
            "branches": [0, 1, 2, 3, 4],
            "cost": 0.1,
            "costs": [2, 1, 2, 1, 0.1],
            "moved": {},
        },
        {
            "step": 60,
            "branch": 1,
            "branches": [0, 1, 2, 3],
            "cost": 0.2,
            "costs": [2, 0.2, 2, 1],
            "moved": {},
        },
    ]
    elbow = {"n_branches": [5, 4, 3, 2], "costs": [0.1, 0.3, 1.5, 1.7], "n_groups": 3}
    history = History(NAMES, 5, meta={"closings": closings, "elbow": elbow})
    history.append(np.arange(1, 101), p, np.ones((100, 4)), np.ones(100), np.full(100, 0.03))
    return history


def test_a_closed_branch_is_hatched_and_an_empty_one_shows_its_numbers(
    closing_run: History,
) -> None:
    """No cell and a stroke per task for the closed; before the closing the branch is as any other."""
    heat, hatch = plot_history(closing_run, index=45).data
    assert [row[4] for row in heat.z] == [None] * 4
    assert all(row[3] is not None and row[1] is not None for row in heat.z)
    assert set(hatch.x) == {"4"}
    assert len(hatch.x) == 4
    (heat,) = plot_history(closing_run, index=30).data
    assert heat.z.dtype == float
    assert len(plot_assignment(np.eye(3)[[0, 0, 1, 1]], NAMES).data) == 1  # empty, not closed


def test_the_line_of_a_closed_branch_ends_there(closing_run: History) -> None:
    """Its probability is not drawn as 0 from then on; a dotted line with its number says why."""
    fig = plot_probabilities(closing_run, "hair")
    assert np.isnan(fig.data[4].y[39:]).all()
    assert not np.isnan(fig.data[4].y[:39]).any()
    assert not np.isnan(fig.data[3].y).any()
    assert fig.data[4].name == "group 4, closed at 40"
    for other in (fig, plot_task_losses(closing_run), plot_entropy(closing_run)):
        assert [shape.x0 for shape in other.layout.shapes] == [40, 60]
        assert [note.text for note in other.layout.annotations] == ["4", "1"]
    most = plot_entropy(closing_run).data[1].y
    np.testing.assert_allclose(most[[0, 50, 99]], np.log([5, 4, 3]) / np.log(5), rtol=1e-6)


def test_dashboard_before_and_after_a_closing(closing_run: History) -> None:
    """Scrubbed back, the figure shows the branch open again; lines mark only closings already recorded."""
    fig = make_dashboard(5)
    update_dashboard(fig, closing_run, index=70)
    assert [row[1] for row in fig.data[0].z] == [row[4] for row in fig.data[0].z] == [None] * 4
    assert "closed" in fig.layout.xaxis.title.text
    assert sorted({shape.x0 for shape in fig.layout.shapes}) == [40, 60, 71]
    update_dashboard(fig, closing_run, index=10)
    assert None not in np.ravel(fig.data[0].z).tolist()
    assert fig.layout.xaxis.title.text == "group"
    assert len(fig.data[1].x) == 0
    update_dashboard(fig, closing_run.slice(stop=30))
    assert len(fig.layout.shapes) == 3
    update_dashboard(fig, History(NAMES, 2))
    assert len(fig.layout.shapes) == 3


def test_closing_costs_done_and_imagined(closing_run: History) -> None:
    """Bars in the branch's colour for what was closed, grey ones for the rest, and the K of the rise."""
    fig = plot_closing_costs(closing_run)
    done, imagined = fig.data
    assert (list(done.x), list(done.y)) == ([5, 4], [0.1, 0.2])
    assert list(done.marker.color) == [group_style(4)[0], group_style(1)[0]]
    assert (list(imagined.x), list(imagined.y)) == ([3, 2], [1.5, 1.7])
    assert fig.layout.xaxis.range[0] > fig.layout.xaxis.range[1]  # time runs to the right
    assert "K = 3" in fig.layout.annotations[0].text
    assert fig.layout.shapes[0].x0 == 3.5


def test_closing_costs_of_half_a_story(closing_run: History) -> None:
    """A run without spare branches may still have imagined costs, an old one closings alone; one must be."""
    elbow = closing_run.meta.pop("elbow")
    assert len(plot_closing_costs(closing_run).data) == 1
    closing_run.meta = {"elbow": elbow}
    assert list(plot_closing_costs(closing_run).data[0].x) == [5, 4, 3, 2]
    closing_run.meta = {}
    with pytest.raises(ValueError, match="spare_branches"):
        plot_closing_costs(closing_run)


def test_groups_beyond_eight_are_told_apart_and_the_head_graph_draws_them_alike() -> None:
    """64 groups have different pairs of colour and dash; head_graph.js holds the same table."""
    assert len({group_style(k) for k in range(64)}) == 64
    assert [group_style(k)[0] for k in range(8)] == list(GROUP_COLOURS)
    script = (Path(plots.__file__).parents[1] / "widgets" / "head_graph.js").read_text(
        encoding="utf-8"
    )
    table = script[script.index("const STYLE") :]
    assert tuple(re.findall(r'\["(#\w{6})"', table[: table.index("];\n")])) == GROUP_COLOURS
    assert "(k + 5 * Math.floor(k / 8)) % 8" in script


def test_forty_tasks_and_five_groups_fit_a_screen() -> None:
    """Every name is written, in letters lower than its row; the figures are no higher than 640 pixels."""
    names = [f"task {n}" for n in range(40)]
    history = History(names, 5)
    history.append(1, np.full((40, 5), 0.2), np.ones(40), 1.0, 0.1)
    for fig, around in ((plot_history(history), 120), (plot_dashboard(history), 90)):
        assert fig.layout.height <= 640
        assert fig.layout.yaxis.dtick == 1
        assert 10 <= fig.layout.yaxis.tickfont.size < (fig.layout.height - around) / 40
