"""Which building of Taskonomy is for training, validation or test, and which views a small set
takes.

The official lists divide buildings, so that a test room was never seen in training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmtg_lite.data.taskonomy.files import points_of

SPLITS = ("train", "val", "test")
# The official split "tiny" (StanfordVL/taskonomy, train_val_test_tiny.csv), which DMTG trains on
TINY = {
    "train": (
        "allensville", "beechwood", "benevolence", "coffeen", "cosmos", "forkland", "hanson", "hiteman",
        "klickitat", "lakeville", "leonardo", "lindenwood", "marstons", "merom", "mifflinburg", "newfields",
        "onaga", "pinesdale", "pomaria", "ranchester", "shelbyville", "stockman", "tolstoy", "wainscott",
        "woodbine",
    ),
    "val": ("collierville", "corozal", "darden", "markleeville", "wiconisco"),
    "test": ("ihlen", "mcdade", "muleshoe", "noxapater", "uvalda"),
}  # fmt: skip


def read_split(split: str | Path) -> dict[str, int]:
    """Buildings and their split: 0 train, 1 val, 2 test.

    Args:
        split: ``"tiny"``, or a CSV file as the official ones: ``id,train,val,test`` with 0 and 1. A
            building with three zeros is in no split.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no split list; says which line is wrong.
    """
    if str(split) == "tiny":
        return {building: k for k, name in enumerate(SPLITS) for building in TINY[name]}
    path = Path(split)
    if not path.is_file():
        raise FileNotFoundError(
            f"`split` must be 'tiny', 'one' or a split CSV, and there is no file {path}."
        )
    # The official files end lines with a bare CR
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").strip().splitlines()
    header = lines[0].strip() if lines else ""
    if header.replace(" ", "") != "id,train,val,test":
        kind = "an HTML page" if header.startswith("<") else f"headed {header[:60]!r}"
        raise ValueError(
            f"{path} is {kind}, expected a split CSV headed 'id,train,val,test'. Fetch it again."
        )
    part_of: dict[str, int] = {}
    seen = set()
    for number, line in enumerate(lines[1:], start=2):
        building, *flags = (field.strip() for field in line.split(","))
        if not building or len(flags) != 3 or not set(flags) <= {"0", "1"} or flags.count("1") > 1:
            raise ValueError(
                f"{path} line {number} should be a building and three flags 0 or 1, at most one "
                "of them 1, "
                f"found {line[:60]!r}."
            )
        if building in seen:
            raise ValueError(f"{path} line {number} names {building} once more. Keep one line.")
        seen.add(building)
        if "1" in flags:
            part_of[building] = flags.index("1")
    if not part_of:
        raise ValueError(f"{path} puts no building into a split.")
    return part_of


def divide_points(views: np.ndarray) -> np.ndarray:
    """Divide the views of one building 80 / 10 / 10 by point, in the order of the points.

    The cameras of a point look at the same spot, so its views stay together.

    Args:
        views: int64 (m,), ascending.

    Returns:
        uint8 (m,): 0 train, 1 val, 2 test.

    Raises:
        ValueError: If there are fewer than three points.
    """
    points, place = np.unique(points_of(views), return_inverse=True)
    if len(points) < 3:
        raise ValueError(
            f"the building has complete views of {len(points)} points, three splits need three."
        )
    n_test = max(1, len(points) // 10)
    part = np.zeros(len(points), np.uint8)
    part[-2 * n_test : -n_test], part[-n_test:] = 1, 2
    return part[place]


def choose_views(split: np.ndarray, building: np.ndarray, limit: int | None) -> np.ndarray:
    """Row numbers of about ``limit`` views: splits in proportion, buildings of a split alike.

    Within a building the views taken lie evenly over all of its views.

    Args:
        split, building: Integers (n,), sorted by split, then by building.
        limit: Views to take; None takes all.

    Returns:
        int64 (m,), ascending.
    """
    n = len(split)
    if limit is None or limit >= n:
        return np.arange(n)
    shares = [max(1, round(limit * (split == k).sum() / n)) for k in range(len(SPLITS))]
    shares[0] = max(1, limit - sum(shares[1:]))  # rounding is settled in train, the largest
    rows = []
    for k, share in enumerate(shares):
        there = np.flatnonzero(split == k)
        groups = [there[building[there] == b] for b in np.unique(building[there])]
        taken = _share_out(share, np.array([len(group) for group in groups]))
        rows += [g[np.arange(t) * len(g) // t] for g, t in zip(groups, taken, strict=True) if t]
    return np.concatenate(rows)


def _share_out(total: int, counts: np.ndarray) -> np.ndarray:
    """As equal shares of ``total`` as possible, none above its count."""
    taken = np.zeros_like(counts)
    while (left := min(total, counts.sum()) - taken.sum()) > 0:
        open_ones = np.flatnonzero(taken < counts)
        each = max(1, left // len(open_ones))
        for b in open_ones[:left]:
            taken[b] = min(counts[b], taken[b] + each)
    return taken
