"""What the prepared arrays of Taskonomy are: their types, and what stands for "no label"."""

from __future__ import annotations

import numpy as np

from dmtg_lite.data.ranges import Range, measure_range

FORMAT = "dmtg-taskonomy/1"
NO_NORMAL = -128
NO_CLASS = -1
LIMITS = {  # lowest and highest number of each array of labels, "no label" included
    "depth.npy": (0, 16),
    "normal.npy": (-128, 127),
    "segmentation.npy": (-1, 17),
    "keypoints.npy": (0, 1),
    "edges.npy": (0, 1),
}


def row_types(size: int) -> dict[str, np.dtype]:
    """Every array file and the type of one of its rows, which is one view.

    rgb 0 to 255; depth in metres, NaN without a label; normal 127 times the unit vector, or -128 in
    all three; segmentation the class id 1 to 17, or -1; keypoints and edges as a fraction of 65535.
    """
    return {
        "rgb.npy": np.dtype(("u1", (size, size, 3))),
        "depth.npy": np.dtype(("<f2", (size, size))),
        "normal.npy": np.dtype(("i1", (size, size, 3))),
        "segmentation.npy": np.dtype(("i1", (size, size))),
        "keypoints.npy": np.dtype(("<f2", (size, size))),
        "edges.npy": np.dtype(("<f2", (size, size))),
    }


def measure_ranges(arrays: dict[str, np.ndarray]) -> dict[str, Range]:
    """The range of every target over its labelled pixels, see `ranges.measure_range`."""
    depth, normal, ids = (arrays[f"{name}.npy"] for name in ("depth", "normal", "segmentation"))
    counts = {name: arrays[f"{name}.npy"] for name in ("keypoints", "edges")}
    return {
        "depth": measure_range(depth[..., None], ~np.isnan(depth)),
        "normal": measure_range(normal, normal[..., 0] != NO_NORMAL),
        "segmentation": measure_range(ids[..., None], ids != NO_CLASS),
        **{n: measure_range(array[..., None], ~np.isnan(array)) for n, array in counts.items()},
    }
