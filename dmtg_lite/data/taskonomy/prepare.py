"""Writing the prepared Taskonomy: one array for the images and one for each target.

Continuing, checksums and workers are `prepared_folder`; reading it back is `load`.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from dmtg_lite.data.prepared_folder import check_request, sha256, write_prepared
from dmtg_lite.data.taskonomy.arrays import FORMAT, measure_ranges, row_types
from dmtg_lite.data.taskonomy.files import Location, find_taskonomy, read
from dmtg_lite.data.taskonomy.images import is_fake, prepare_view, side_of
from dmtg_lite.data.taskonomy.plan import make_plan

CHUNK = 4  # views a worker does at a time: 3.4 MB of results at 256 pixels
_RESIZE = {
    "rgb": "Pillow bilinear, antialiased",
    "depth": "the same over pixels nearer than 16 m; labelled where they have half of the weight",
    "normal": "the same over the same pixels, then to unit length",
    "segmentation": "nearest",
    "keypoints": "Pillow bilinear, antialiased",
    "edges": "Pillow bilinear, antialiased",
}


def prepare_taskonomy(
    root: str | Path,
    out: str | Path,
    *,
    split: str | Path = "tiny",
    size: int = 256,
    limit: int | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Turn Taskonomy's PNGs into a folder that `dmtg_lite.data.taskonomy` maps into memory.

    Writes the arrays of `arrays.row_types`, ``split.npy`` uint8 (n,), ``manifest.json`` with sha256
    checksums and the range of every target, and ``left_out.csv``: views that lack one of their six
    pictures. Rows are sorted by split, building, point and view. Killed at any moment and run
    again, it continues and ends with the same bytes.

    Args:
        root: Folder in any of the layouts of `files.find_taskonomy`.
        out: Folder to make; if it is there with the same settings, nothing is done.
        split: ``"tiny"``, the official 25, 5 and 5 buildings; a split CSV; or ``"one"``, which
            divides the points of a single building 80 / 10 / 10.
        size: Pixels a side. The pictures have 512; a size they have already is not resampled.
        limit: Take about this many views, shared between the splits as in the whole set and evenly
            between the buildings of a split.
        jobs: Worker processes; default all cores, or none at all for fewer than 200 views. With
            workers a script needs its ``if __name__ == "__main__":``.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument, a split list, a tar or a picture is refused, or a target is the
            same number everywhere. A refused picture leaves the work done so far, to be continued.
        FileNotFoundError: If there is no Taskonomy in ``root``.
        OSError: If the disk is full; nothing is left behind.
        ImportError: If Pillow or tqdm is missing (extra ``data``).
    """
    check_request(limit, jobs)
    plan = make_plan(find_taskonomy(root), split, limit)
    first = read(plan.locate(0)["rgb"])
    source_size = side_of(*first)
    if not 1 <= size <= source_size:
        raise ValueError(
            f"`size` must be 1 to {source_size}, which is what {first[0]} has, got {size}."
        )
    manifest = {
        "format": FORMAT,
        "is_fake": is_fake(first[1]),
        **plan.report,
        "source": {**plan.report["source"], "size": source_size},
        "settings": {
            "split": split
            if split in ("tiny", "one")
            else {"file": Path(split).name, "sha256": sha256(Path(split))},
            "limit": limit,
            "size": size,
            "resize": _RESIZE if size != source_size else "none",
        },
    }
    n = len(plan.split)
    return write_prepared(
        out,
        manifest,
        plan.split,
        row_types(size),
        partial(_prepare_views, source_size=source_size, size=size),
        lambda row: map(plan.locate, range(row, n)),
        {"left_out.csv": plan.left_out},
        chunk=CHUNK,
        jobs=jobs or (1 if n < 200 else os.cpu_count() or 1),
        progress=progress,
        keep_refused=True,
    )


def _prepare_views(
    views: list[dict[str, Location]], *, source_size: int, size: int
) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """The arrays of a few views, (m, ...) each, and the range of their targets."""
    done = [
        prepare_view({domain: read(place) for domain, place in view.items()}, source_size, size)
        for view in views
    ]
    arrays = {name: np.stack([view[name] for view in done]) for name in done[0]}
    return arrays, measure_ranges(arrays)


def describe(out: Path) -> list[str]:
    """What was prepared and what was not, in a few lines."""
    manifest = json.loads((out / "manifest.json").read_text())
    counts = ", ".join(f"{count} {name}" for name, count in manifest["counts"].items())
    lines = [f"{'FAKE (drawn) rooms' if manifest['is_fake'] else 'Taskonomy'}: {counts} views"]
    if manifest["settings"]["split"] == "one":
        lines.append("one building: its rooms are in all three splits")
    for key, text in (
        ("buildings_without_pictures", "buildings of the split that are not there"),
        ("buildings_without_split", "buildings left out, for they are in no split"),
    ):
        if manifest[key]:
            lines.append(f"{len(manifest[key])} {text}: {', '.join(manifest[key])}")
    left_out = manifest["views_left_out"]
    if left_out["total"]:
        lacking = ", ".join(f"{count} {domain}" for domain, count in left_out["lacking"].items())
        lines.append(f"{left_out['total']} views left out (left_out.csv), for they lack {lacking}")
    return lines
