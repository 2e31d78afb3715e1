"""Writing the prepared Taskonomy: one array for images and each target, in bounded memory.

The work happens in OUT.partial, which an interrupted run or a broken picture leaves behind and the
next run continues; OUT itself appears only when everything is there. Reading it back is
`taskonomy`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from dmtg_lite.data.prepared_folder import already_there, partial_folder, sha256
from dmtg_lite.data.taskonomy.arrays import (
    FORMAT,
    check_ranges,
    join_ranges,
    measure_ranges,
    row_types,
)
from dmtg_lite.data.taskonomy.files import Location, find_taskonomy, read
from dmtg_lite.data.taskonomy.images import is_fake, prepare_view, side_of
from dmtg_lite.data.taskonomy.plan import make_plan
from dmtg_lite.data.taskonomy.splits import SPLITS
from dmtg_lite.data.workers import in_order
from dmtg_lite.files import write_atomically

CHUNK = 4  # views a worker does at a time: 3.4 MB of results at 256 pixels
SAVE_EVERY = 5.0  # seconds between records of how far the work got
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
    """Turn Taskonomy's PNGs into a folder that `dmtg_lite.data.taskonomy.load` maps into memory.

    Writes the arrays of `taskonomy_arrays.row_types`, ``split.npy`` uint8 (n,), ``manifest.json``
    with
    sha256 checksums and the range of every target, and ``left_out.csv``: views that lack one of
        their six
    pictures. Rows are sorted by split, building, point and view. Killed at any moment and run
    again, it continues and ends with the same bytes.

    Args:
        root: Folder in any of the layouts of `taskonomy_files.find_taskonomy`.
        out: Folder to make. ``out`` + ``.partial`` holds the work until it is complete.
        split: ``"tiny"``, the official 25, 5 and 5 buildings; a split CSV; or ``"one"``, which
            divides the points of a single building 80 / 10 / 10.
        size: Pixels a side. The pictures have 512; a size they have already is not resampled.
        limit: Take about this many views, shared between the splits as in the whole set and evenly
            between the buildings of a split.
        jobs: Worker processes; default all cores, or none at all for fewer than 200 views. A script
            that calls this needs its ``if __name__ == "__main__":``, as always with workers.
        progress: Show a progress bar.

    Returns:
        ``out``. If it is there already and was made with the same settings, nothing is done.

    Raises:
        ValueError: If an argument, a split list, a tar or a picture is refused, or a target is the
            same number everywhere. A refused picture leaves the work done so far, to be continued.
        FileNotFoundError: If there is no Taskonomy in ``root``.
        OSError: If the disk is full; nothing is left behind.
        ImportError: If Pillow or tqdm is missing (extra ``data``).
    """
    try:
        import PIL
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(f'{error.name} is missing. Run: pip install "dmtg-lite[data]"') from None
    if limit is not None and limit < len(SPLITS):
        raise ValueError(f"`limit` must be at least {len(SPLITS)}, one view a split, got {limit}.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"`jobs` must be at least 1, got {jobs}.")
    out = Path(out).absolute()
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
        "source": {"layouts": plan.layouts, "views": plan.digest(), "size": source_size},
        "settings": {
            "split": _name_split(split),
            "limit": limit,
            "size": size,
            "resize": _RESIZE if size != source_size else "none",
        },
        "counts": {name: int((plan.split == k).sum()) for k, name in enumerate(SPLITS)},
        "buildings": plan.count_buildings(),
        "buildings_without_pictures": plan.absent,
        "buildings_without_split": plan.unused,
        "views_left_out": {"total": plan.n_left_out, "lacking": plan.lacking},
        "pillow": PIL.__version__,
    }
    if out.exists():
        return already_there(out, manifest)
    rows, n = row_types(size), len(plan.split)
    with (
        partial_folder(out, manifest, rows, n, save_every=SAVE_EVERY) as work,
        tqdm(total=n, initial=work.n_done, unit="view", disable=not progress) as bar,
    ):
        starts = range(work.n_done, n, CHUNK)
        jobs = jobs or (1 if n < 200 else os.cpu_count() or 1)
        arguments = (
            ([plan.locate(row) for row in range(start, min(start + CHUNK, n))], source_size, size)
            for start in starts
        )
        ranges = work.notes
        for arrays, more in in_order(_prepare_chunk, arguments, n_workers=min(jobs, len(starts))):
            ranges = join_ranges(ranges, more) if ranges else more
            work.append(arrays, ranges)
            bar.update(len(arrays["rgb.npy"]))
        try:
            check_ranges(ranges)
        except ValueError as error:
            work.drop()
            raise ValueError(f"{error} {out} was not written.") from None
        write_atomically(work.path / "left_out.csv", plan.left_out_csv())
        work.finish({"split.npy": plan.split}, {"ranges": ranges})
    return out


def _name_split(split: str | Path) -> str | dict[str, str]:
    return (
        split
        if split in ("tiny", "one")
        else {"file": Path(split).name, "sha256": sha256(Path(split))}
    )


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
    if manifest["views_left_out"]["total"]:
        lacking = ", ".join(
            f"{count} {domain}" for domain, count in manifest["views_left_out"]["lacking"].items()
        )
        lines.append(
            f"{manifest['views_left_out']['total']} views left out (left_out.csv), for they lack "
            f"{lacking}"
        )
    return lines


def _prepare_chunk(
    views: list[dict[str, Location]], source_size: int, size: int
) -> tuple[dict, dict]:
    """The arrays of a few views, (m, ...) each, and the range of their targets."""
    done = [
        prepare_view({domain: read(place) for domain, place in view.items()}, source_size, size)
        for view in views
    ]
    arrays = {name: np.stack([view[name] for view in done]) for name in done[0]}
    return arrays, measure_ranges(arrays)
