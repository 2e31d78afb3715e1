"""Writing the prepared Taskonomy: one array for the images and one for each target.

Continuing, checksums and workers are `prepared_folder`; reading it back is `load`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dmtg_lite.core.checks import as_number, as_whole
from dmtg_lite.data.foreign_files import BrokenFile
from dmtg_lite.data.prepared_folder import (
    SPLITS,
    Broken,
    Converted,
    check_request,
    sha256,
    write_prepared,
)
from dmtg_lite.data.taskonomy.arrays import FORMAT, measure_ranges, row_types
from dmtg_lite.data.taskonomy.files import Location, find_taskonomy, read
from dmtg_lite.data.taskonomy.images import is_fake, prepare_view, side_of
from dmtg_lite.data.taskonomy.plan import Plan, make_plan

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
    max_broken: float = 1.0,
    jobs: int | None = None,
    restart: bool = False,
    progress: bool = True,
) -> Path:
    """Turn Taskonomy's PNGs into a folder that `dmtg_lite.data.taskonomy` maps into memory.

    Writes the arrays of `arrays.row_types`, ``split.npy`` uint8 (n,), ``manifest.json`` with sha256
    checksums and the range of every target, and ``left_out.csv``: views that lack one of their six
    pictures. Views with a picture that is damaged (the official files have some) are left out too,
    and listed in the manifest. Rows are sorted by split, building, point and view. Killed at any
    moment and run again, it continues and ends with the same bytes.

    Args:
        root: Folder in any of the layouts of `files.find_taskonomy`.
        out: Folder to make; if it is there with the same settings, nothing is done.
        split: ``"tiny"``, the official 25, 5 and 5 buildings; a split CSV; ``"one"``, which divides
            the points of a single building 80 / 10 / 10; or ``"points"``, which does so with each
            building that is there.
        size: Pixels a side. The pictures have 512; a size they have already is not resampled.
        limit: Take about this many views, shared between the splits as in the whole set and evenly
            between the buildings of a split.
        max_broken: Percent of the views that may be damaged; more is refused. Not part of the
            settings: a run that was refused goes on with a higher one.
        jobs: Worker processes; default all cores, or none at all for fewer than 200 views. With
            workers a script needs its ``if __name__ == "__main__":``.
        restart: Delete what an interrupted run with other settings left.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument, a split list, a tar or a picture is refused, too many are
            damaged, ``out`` is in use, or a target is the same number everywhere.
        FileNotFoundError: If there is no Taskonomy in ``root``.
        OSError: If the disk is full. Work that was done is kept by all of these, to be continued,
            but for a constant target.
        ImportError: If Pillow or tqdm is missing (extra ``data``).
    """
    limit, jobs = check_request(limit, jobs)
    size = as_whole("size", size, 1)
    percent = as_number(max_broken)
    if percent is None or not 0 <= percent < 100:
        raise ValueError(f"`max_broken` must be 0 to 100 percent, got {max_broken}.")
    plan = make_plan(find_taskonomy(root), split, limit)
    n_tolerated = int(len(plan.split) * percent / 100)
    first, source_size = _read_first(plan, n_tolerated)
    if size > source_size:
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
            if split in ("tiny", "one", "points")
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
        restart=restart,
        n_tolerated=n_tolerated,
        report_broken=partial(_report, plan, Path(root)),
    )


def _report(plan: Plan, root: Path, broken: Sequence[Broken]) -> dict:
    """The views left out, and the views of each building without them."""
    counts = {name: Counter(of) for name, of in plan.report["buildings"].items()}
    listed = []
    for row, why in broken:
        building, point, view = plan.name_view(row)
        counts[SPLITS[plan.split[row]]][building] -= 1
        why = why.replace(f"{root}{os.sep}", "")
        listed.append({"building": building, "point": point, "view": view, "why": why})
    return {"buildings": {name: dict(+of) for name, of in counts.items()}, "broken": listed}


def _read_first(plan: Plan, n_tolerated: int) -> tuple[tuple[str, bytes], int]:
    """The first photograph that is whole, and its pixels a side."""
    for row in range(n_tolerated + 1):
        try:
            first = read(plan.locate(row)["rgb"])
            return first, side_of(*first)
        except BrokenFile:
            if row == n_tolerated:
                raise
    raise AssertionError


def _prepare_views(views: list[dict[str, Location]], *, source_size: int, size: int) -> Converted:
    """The arrays of a few views, (m, ...) each, and the range of their targets."""
    done, broken = [], []
    for place, view in enumerate(views):
        try:
            pictures = {domain: read(location) for domain, location in view.items()}
            done.append(prepare_view(pictures, source_size, size))
        except BrokenFile as error:
            broken.append((place, str(error)))
    if not done:
        return Converted({}, {}, broken)
    arrays = {name: np.stack([view[name] for view in done]) for name in done[0]}
    return Converted(arrays, measure_ranges(arrays), broken)


def describe(out: Path) -> list[str]:
    """What was prepared and what was not, in a few lines."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    counts = ", ".join(f"{count} {name}" for name, count in manifest["counts"].items())
    lines = [f"{'FAKE (drawn) rooms' if manifest['is_fake'] else 'Taskonomy'}: {counts} views"]
    if manifest["settings"]["split"] == "one":
        lines.append("one building: its rooms are in all three splits")
    if manifest["settings"]["split"] == "points":
        lines.append("divided by points: each building's rooms are in all three splits")
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
    if broken := manifest.get("broken", []):
        names = [f"{one['building']} {one['point']}/{one['view']}" for one in broken]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        lines.append(
            f"{len(names)} views left out (manifest.json says why), for a picture is broken: "
            f"{', '.join(names[:5])}{more}"
        )
    return lines
