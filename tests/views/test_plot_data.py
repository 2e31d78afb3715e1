"""What the figures about data promise: pictures with captions, and labels that go together."""

from __future__ import annotations

import numpy as np
import pytest

from dmtg_lite.views import plots


def test_each_picture_has_its_caption_and_text_is_escaped() -> None:
    """n pictures, n captions, a line break starts a line, and a name from a file is no markup."""
    images = np.zeros((3, 3, 8, 8), np.uint8)
    fig = plots.plot_images(images, ["a\nb", "none", "<i>x</i>"], columns=2)
    assert len(fig.data) == 3
    assert [note.text for note in fig.layout.annotations] == [
        "a<br>b",
        "none",
        "&lt;i&gt;x&lt;/i&gt;",
    ]


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (np.zeros((1, 3, 8, 8)), ["a"], "must be uint8"),
        (np.zeros((1, 8, 8, 3), np.uint8), ["a"], r"must be uint8 \(n, 3, H, W\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), ["a"], "one text per image: 1 for 2"),
    ],
)
def test_pictures_of_another_kind_are_refused(
    images: np.ndarray, captions: list[str], message: str
) -> None:
    """The error says what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        plots.plot_images(images, captions)


def test_label_correlation_is_numpys() -> None:
    """Oracle: numpy's corrcoef; a label that never changes leaves its row empty."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 50)
    targets = {"a": a, "not_a": 1 - a, "b": rng.integers(0, 2, 50), "always": np.ones(50, int)}
    z = np.asarray(plots.plot_label_correlation(targets).data[0].z, float)
    np.testing.assert_allclose(
        z[:3, :3], np.corrcoef([targets[n] for n in ("a", "not_a", "b")]), atol=0.005
    )
    assert np.isnan(z[3]).all()


def test_labels_that_are_missing_are_left_out_of_the_correlation() -> None:
    """Pairs are compared on the images where both have a label; a pair never seen together is empty."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    a[:20], b[40:] = -1, -1
    apart = np.where(np.arange(60) < 20, rng.integers(0, 2, 60), -1)
    z = np.asarray(plots.plot_label_correlation({"a": a, "b": b, "apart": apart}).data[0].z, float)
    assert z[0, 1] == pytest.approx(np.corrcoef(a[20:40], b[20:40])[0, 1], abs=0.005)
    assert np.isnan(z[0, 2])
