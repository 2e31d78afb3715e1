"""What the prepared arrays of Taskonomy are: their types, what stands for "no label", and their range."""

from __future__ import annotations

import numpy as np

FORMAT = "dmtg-taskonomy/1"
NO_NORMAL = -128
NO_CLASS = -1


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


def measure_ranges(arrays: dict[str, np.ndarray]) -> dict[str, dict]:
    """Lowest and highest value of every channel of every target, labelled pixels and all pixels."""
    has_label = {
        "depth": ~np.isnan(arrays["depth.npy"]),
        "normal": arrays["normal.npy"][..., 0] != NO_NORMAL,
        "segmentation": arrays["segmentation.npy"] != NO_CLASS,
        "keypoints": ~np.isnan(arrays["keypoints.npy"]),
        "edges": ~np.isnan(arrays["edges.npy"]),
    }
    ranges = {}
    for name, where in has_label.items():
        labelled = arrays[f"{name}.npy"][where].reshape(-1, 3 if name == "normal" else 1)
        ranges[name] = {
            "lowest": labelled.min(0).tolist() if len(labelled) else None,
            "highest": labelled.max(0).tolist() if len(labelled) else None,
            "n_labelled": len(labelled),
            "n_pixels": where.size,
        }
    return ranges


def join_ranges(a: dict[str, dict], b: dict[str, dict]) -> dict[str, dict]:
    """The ranges of two parts taken together."""

    def join(one: dict, other: dict) -> dict:
        lowest = [part["lowest"] for part in (one, other) if part["n_labelled"]]
        highest = [part["highest"] for part in (one, other) if part["n_labelled"]]
        return {
            "lowest": np.min(lowest, 0).tolist() if lowest else None,
            "highest": np.max(highest, 0).tolist() if highest else None,
            "n_labelled": one["n_labelled"] + other["n_labelled"],
            "n_pixels": one["n_pixels"] + other["n_pixels"],
        }

    return {name: join(a[name], b[name]) for name in a}


def check_ranges(ranges: dict[str, dict]) -> None:
    """Refuse a target without a label, or the same everywhere: nothing can be learned from it."""
    for name, found in ranges.items():
        if not found["n_labelled"]:
            raise ValueError(
                f"`{name}` has no labelled pixel in the whole set. Fetch its pictures again."
            )
        if found["lowest"] == found["highest"]:
            raise ValueError(
                f"`{name}` is the same, {found['lowest']}, at every labelled pixel of the whole "
                "set. "
                "Fetch its pictures again."
            )
