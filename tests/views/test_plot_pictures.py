"""What pictures with captions, dense tasks, gains and labels promise: the right pixels, lightly."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from math import nan

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from dmtg_lite.core.tasks import CELEBA_40, TASKONOMY_5, Task
from dmtg_lite.views.plots import (
    CLASS_COLOURS,
    GREY,
    group_style,
    plot_affinity,
    plot_images,
    plot_label_correlation,
    plot_predictions,
    plot_task_gains,
)
from dmtg_lite.views.plots.pictures import MAX_SIDE

DEPTH, NORMAL, SEGMENTATION, KEYPOINTS, EDGES = TASKONOMY_5


def draw(n: int = 3, size: int = 64) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Random images, targets as a split holds them and predictions as a network gives them."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, size, size), generator=rng, dtype=torch.uint8)
    truths = {
        task.name: torch.rand(n, 1, size, size, generator=rng).half()
        for task in (DEPTH, KEYPOINTS, EDGES)
    }
    truths["normal"] = torch.randint(-127, 128, (n, 3, size, size), generator=rng, dtype=torch.int8)
    truths["segmentation"] = torch.randint(1, 18, (n, size, size), generator=rng, dtype=torch.int8)
    truths["depth"][:, :, 0, 0] = nan
    truths["normal"][:, :, 0, 0] = -128
    truths["segmentation"][:, 0, 0] = -1
    predictions = {
        task.name: torch.randn(n, task.n_outputs, size, size, generator=rng, requires_grad=True)
        for task in TASKONOMY_5
    }
    return images, truths, predictions


def pixels(trace: object) -> np.ndarray:
    """The picture in a PNG, (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.split(",")[1]))))


def test_three_images_of_five_tasks_are_a_light_page() -> None:
    """Random pictures, which compress worst: 33 of them stay under 1.5 MB."""
    images, truths, predictions = draw()
    fig = plot_predictions(images, truths, predictions, TASKONOMY_5)
    pictures = [trace for trace in fig.data if trace.type != "scatter"]
    assert len(pictures) == 3 * (1 + 2 * 5)
    assert len(fig.to_json()) < 1_500_000


def test_truth_and_prediction_of_depth_share_the_truths_range() -> None:
    """Equal colours are equal depths; where there is no label, no cell hides the grey behind."""
    images, truths, predictions = draw(1)
    _, truth, guess = plot_predictions(images, truths, predictions, [DEPTH]).data
    known = truths["depth"][0, 0].flatten()[1:].float()
    assert (
        (truth.zmin, truth.zmax)
        == (guess.zmin, guess.zmax)
        == (known.min().item(), known.max().item())
    )
    np.testing.assert_array_equal(truth.z, truths["depth"][0, 0].float())
    assert np.isnan(truth.z[0, 0])
    np.testing.assert_array_equal(guess.z, predictions["depth"][0, 0].detach())


def test_normals_have_taskonomys_colours() -> None:
    """Towards +x is (255, 128, 128), as in its files; length plays no part; unknown is grey."""
    truth = torch.zeros(1, 3, 2, 2, dtype=torch.int8)
    truth[:, 0] = 127
    truth[:, :, 1, 1] = -128
    guess = torch.zeros(1, 3, 2, 2)
    guess[:, 2] = -0.1
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    fig = plot_predictions(images, {"normal": truth}, {"normal": guess}, [NORMAL])
    assert pixels(fig.data[1])[0, 0].tolist() == [255, 128, 128]
    assert pixels(fig.data[2])[0, 0].tolist() == [128, 128, 0]
    assert pixels(fig.data[1])[1, 1].tolist() == [int(GREY[i : i + 2], 16) for i in (1, 3, 5)]


def test_classes_are_named_where_the_pointer_is_and_in_the_legend() -> None:
    """The largest logit is the class; only classes that are shown stand in the legend."""
    truth = torch.tensor([[[3, 17], [1, -1]]], dtype=torch.int8)
    logits = torch.zeros(1, 18, 2, 2)
    logits[:, 6] = 1.0
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    fig = plot_predictions(
        images, {"segmentation": truth}, {"segmentation": logits}, [SEGMENTATION]
    )
    _, shown, guess, *legend = fig.data
    assert [list(row) for row in shown.text] == [["chair", "vase"], ["background", ""]]
    assert [list(row) for row in guess.text] == [["bed", "bed"], ["bed", "bed"]]
    assert [trace.name for trace in legend] == ["background", "chair", "bed", "vase"]
    assert [trace.marker.color for trace in legend][1] == CLASS_COLOURS["chair"]


def test_every_class_has_its_colour() -> None:
    """At a class's number the scale has its colour on both sides; all 18 differ."""
    images, truths, predictions = draw(1, 4)
    heat = plot_predictions(images, truths, predictions, [SEGMENTATION]).data[1]
    for k, colour in enumerate(CLASS_COLOURS.values()):
        at = (k - heat.zmin) / (heat.zmax - heat.zmin)
        below = [c for stop, c in heat.colorscale if stop < at][-1]
        above = next(c for stop, c in heat.colorscale if stop > at)
        assert below == above == colour
    assert len(set(CLASS_COLOURS.values())) == 18


def test_class_names_are_those_of_the_drawn_rooms() -> None:
    """Two places know Taskonomy's classes, because pictures import no data."""
    from dmtg_lite.data.toys.room_parts import CLASSES

    assert tuple(CLASS_COLOURS) == CLASSES


def test_titles_carry_the_groups_colour() -> None:
    """Each task is marked with the colour and the number of its group; names are never markup."""
    images, truths, predictions = draw(1, 4)
    odd = replace(DEPTH, name="<b>depth")
    truths["<b>depth"], predictions["<b>depth"] = truths["depth"], predictions["depth"]
    groups = [["normal"], ["<b>depth", "edges"]]
    fig = plot_predictions(images, truths, predictions, [odd, NORMAL, KEYPOINTS], groups=groups)
    titles = [
        note.text for note in fig.layout.annotations if note.text not in ("truth", "predicted")
    ]
    assert group_style(1)[0] in titles[0]
    assert titles[0].endswith("1 &lt;b&gt;depth")
    assert group_style(0)[0] in titles[1]
    assert titles[2] == "keypoints"


def test_large_pictures_are_thinned_out() -> None:
    """No picture has more than 128 pixels a side, and numpy arrays do as well as tensors."""
    images, truths, predictions = draw(1, 300)
    arrays = {name: target.numpy() for name, target in truths.items()}
    predictions = {name: guess.detach().numpy() for name, guess in predictions.items()}
    fig = plot_predictions(images.numpy(), arrays, predictions, [DEPTH, NORMAL])
    assert fig.data[1].z.shape == (100, 100)
    assert pixels(fig.data[3]).shape == (100, 100, 3)
    assert MAX_SIDE == 128


def test_a_picture_without_any_label_is_drawn() -> None:
    """Grey beside a prediction in its own range, and no warning."""
    images, truths, predictions = draw(1, 4)
    for name in ("depth", "edges"):
        truths[name].fill_(nan)
    truths["segmentation"].fill_(-1)
    fig = plot_predictions(images, truths, predictions, [DEPTH, EDGES, SEGMENTATION])
    assert fig.data[2].zmin == predictions["depth"].min().item()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": [Task("smile")]}, "is not dense"),
        (
            {"tasks": [replace(SEGMENTATION, n_outputs=40)]},
            "has 40 classes; there are colours for 18",
        ),
        ({"truths": {}}, "`truths` has no task 'depth'"),
        ({"predictions": {"depth": torch.zeros(1, 1, 4, 4)}}, "must be 2 pictures of 1 outputs"),
        ({"predictions": {"depth": torch.zeros(2, 3, 4, 4)}}, "must be 2 pictures of 1 outputs"),
        ({"images": torch.zeros(2, 3, 4, 4)}, "`images` must be uint8"),
    ],
)
def test_bad_pictures_are_refused(change: dict, message: str) -> None:
    """The error says which task, and what was expected."""
    images, truths, predictions = draw(2, 4)
    arguments = {
        "images": images,
        "truths": truths,
        "predictions": predictions,
        "tasks": [DEPTH],
    } | change
    with pytest.raises(ValueError, match=message):
        plot_predictions(**arguments)


TABLE = pd.DataFrame(
    [
        ("naive", 0, "depth", 0.0), ("naive", 0, "edges", 0.0), ("naive", 1, "depth", 0.0),
        ("dmtg", 0, "depth", 1.0), ("dmtg", 1, "depth", 3.0), ("dmtg", 0, "edges", 10.0),
        ("dmtg", 1, "edges", nan), ("random", 0, "depth", -4.0), ("random", 0, "edges", 2.0),
    ],
    columns=["method", "seed", "task", "gain_error"],
)  # fmt: skip


def test_gains_are_means_over_seeds_with_their_spread() -> None:
    """The reference is not drawn; what has no gain is left out; NormGain is the mean over tasks."""
    dmtg, random = plot_task_gains(TABLE).data
    assert (list(dmtg.y), list(dmtg.x)) == (["edges", "depth"], [10.0, 2.0])  # sorted
    assert dmtg.error_x.array[1] == pytest.approx(2**0.5)
    assert (dmtg.name, random.name) == ("dmtg: +6.0 %", "random: -1.0 %")
    assert list(plot_task_gains(TABLE, is_sorted=False).data[0].y) == ["depth", "edges"]
    assert [shape.x0 for shape in plot_task_gains(TABLE).layout.shapes] == [6.0, -1.0, 0]


def test_gains_may_be_plain_numbers() -> None:
    """As after `MethodResult.error_gains`; a task that one method lacks stays empty there."""
    fig = plot_task_gains({"a": {"x": 1.0, "<b>": 2.0}, "b": {"x": 3.0}}, is_sorted=False)
    assert [list(bar.x) for bar in fig.data] == [[1.0, 2.0], [3.0, None]]
    assert list(fig.data[0].y) == ["x", "&lt;b&gt;"]


def test_forty_tasks_fit_a_screen() -> None:
    """Every name is there, in rows of 12 pixels or more, on a figure no higher than 640."""
    gains = {task.name: float(n) for n, task in enumerate(CELEBA_40)}
    for methods, kind in (({"dmtg": gains}, "bar"), ({"dmtg": gains, "stl": gains}, "scatter")):
        fig = plot_task_gains(methods)
        assert {trace.type for trace in fig.data} == {kind}
        assert fig.layout.yaxis.dtick == 1
        assert 40 * 12 + 100 <= fig.layout.height <= 640
        assert fig.layout.yaxis.tickfont.size >= 10


def test_bad_gains_are_refused() -> None:
    """A column that is not there; nothing but the reference."""
    with pytest.raises(ValueError, match=r"no column \['gain_loss'\]"):
        plot_task_gains(TABLE, value="gain_loss")
    with pytest.raises(ValueError, match="no method with a gain"):
        plot_task_gains(TABLE[TABLE.method == "naive"])


def test_each_picture_has_its_caption_and_text_is_escaped() -> None:
    """n pictures, n captions, a line break starts a line, and a name from a file is no markup."""
    images = np.zeros((3, 3, 8, 8), np.uint8)
    fig = plot_images(images, ["a\nb", "none", "<i>x</i>"], columns=2)
    assert len(fig.data) == 3
    texts = [note.text for note in fig.layout.annotations]
    assert texts == ["a<br>b", "none", "&lt;i&gt;x&lt;/i&gt;"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 8, 8)), "must be uint8"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"must be uint8 \(n, 3, H, W\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), "one text per image: 1 for 2"),
    ],
)
def test_pictures_of_another_kind_are_refused(images: np.ndarray, message: str) -> None:
    """The error says what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        plot_images(images, ["a"])


def test_label_correlation_is_numpys_and_leaves_missing_labels_out() -> None:
    """Oracle: corrcoef where both have a label; empty if one never changes or they never meet."""
    rng = np.random.default_rng(1)
    a, b, c = rng.integers(0, 2, (3, 60))
    a[:20], b[40:] = -1, -1
    apart = np.where(np.arange(60) < 20, c, -1)
    targets = {"a": a, "b": b, "c": c, "not_c": 1 - c, "always": np.ones(60, int), "apart": apart}
    z = np.asarray(plot_label_correlation(targets).data[0].z, float)
    assert z[0, 1] == pytest.approx(np.corrcoef(a[20:40], b[20:40])[0, 1], abs=0.005)
    assert z[2, 3] == -1
    assert np.isnan(z[4]).all()
    assert np.isnan(z[0, 5])


def test_a_task_beside_itself_has_no_say_in_the_colours_of_company() -> None:
    """Help and harm are equally far from white; losses, alone or not, are all compared."""
    names = ["a", "b", "c"]
    values = np.array([[90.0, 2.0, -1.0], [0.5, 80.0, 1.0], [-4.0, 0.0, 70.0]])
    heat, alone, *_ = plot_affinity(values, names).data
    assert (heat.zmin, heat.zmax) == (-4, 4)
    assert np.equal(heat.z, None).tolist() == np.eye(3, dtype=bool).tolist()
    assert alone.text == ("90.00", "80.00", "70.00")
    heat, *_ = plot_affinity(abs(values), names).data
    assert (heat.zmin, heat.zmax) == (0, 4)
    heat, *_ = plot_affinity(abs(values), names, is_loss=True).data
    assert (heat.zmin, heat.zmax) == (0, 90)
    with pytest.raises(ValueError, match=r"`matrix` must be \(3, 3\)"):
        plot_affinity(values[:2], names)


def test_numbers_correlate_beside_classes() -> None:
    """A price and a class have a row each, whatever the unit; -1 is no class, and a fine number."""
    rng = np.random.default_rng(2)
    yes, price = rng.integers(0, 2, 80), rng.normal(size=80)
    price += 3.0 * yes - 1
    known, priced = yes.copy(), price.copy()
    known[:10], priced[70:] = -1, np.nan
    oracle = np.corrcoef(yes[10:70], price[10:70])[0, 1]
    for unit, zero in ((1.0, 0.0), (1e-6, 0.0), (1.0, 1e6)):
        numbers = torch.from_numpy(zero + unit * priced)
        z = plot_label_correlation({"yes": torch.from_numpy(known), "price": numbers}).data[0].z
        assert z[0, 1] == pytest.approx(oracle, abs=0.005)


def test_grey_pictures_are_shown_in_grey() -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4) * 16
    shown = pixels(plot_images(grey, ["a"]).data[0])
    np.testing.assert_array_equal(shown, np.repeat(grey[0].transpose(1, 2, 0), 3, axis=2))
    with pytest.raises(ValueError, match=r"choose three channels, images\[:, :3\]"):
        plot_images(np.zeros((1, 5, 4, 4), np.uint8), ["a"])
