"""Which views of Taskonomy are prepared, in which order, and which are left out and why."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmtg_lite.data.prepared_folder import SPLITS, share_limit
from dmtg_lite.data.taskonomy.files import (
    DOMAINS,
    POINT,
    UNNAMED,
    Location,
    Pictures,
    Place,
    list_pictures,
    point_and_view,
)
from dmtg_lite.data.taskonomy.splits import read_split

_MOST_LISTED = 5000  # views left out that left_out.csv names


@dataclass(frozen=True)
class Plan:
    """Every row that is to be written: its split, its building and its view."""

    names: list[str]  # of the buildings
    pictures: list[dict[str, Pictures]]  # of each building, by domain
    split: np.ndarray  # uint8 (n,)
    building: np.ndarray  # int64 (n,), places in ``pictures``
    view: np.ndarray  # int64 (n,)
    report: dict  # what the manifest says of the choice
    left_out: bytes  # CSV of views that lack a picture

    def locate(self, row: int) -> dict[str, Location]:
        """Where the six pictures of a row are."""
        pictures = self.pictures[self.building[row]]
        return {domain: pictures[domain].locate(int(self.view[row])) for domain in DOMAINS}

    def name_view(self, row: int) -> tuple[str, int, int]:
        """Building, point and view of a row."""
        return self.names[self.building[row]], *point_and_view(int(self.view[row]))


def make_plan(places: dict[str, dict[str, Place]], split: str | Path, limit: int | None) -> Plan:
    """List the pictures of the buildings of a split and choose the views to prepare.

    Raises:
        ValueError: If the buildings do not fit the split, or a split has no complete view.
    """
    part_of = _divide_buildings(places, split)
    names = sorted(set(part_of) & set(places), key=lambda name: (part_of[name], name))
    pictures = [
        {domain: list_pictures(place, name, domain) for domain, place in places[name].items()}
        for name in names
    ]
    complete, lacking, left_out = [], Counter(), ["building,point,view,missing"]
    n_left_out = 0
    for name, domains in zip(names, pictures, strict=True):
        views, missing = _match(domains)
        complete.append(views)
        n_left_out += len(missing)
        for view, lacks in missing:
            lacking.update(lacks)
            point, number = point_and_view(view)
            left_out.append(f"{name},{point},{number},{' '.join(lacks)}")
        del left_out[1 + _MOST_LISTED :]
    counts = [len(views) for views in complete]
    view = np.concatenate([*complete, np.zeros(0, np.int64)])
    building = np.repeat(np.arange(len(names)), counts)
    part = np.repeat(np.array([part_of[name] for name in names], np.uint8), counts)
    if split in ("one", "points") and len(view):
        part = np.concatenate([divide_points(v, n) for n, v in zip(names, complete, strict=True)])
        order = np.argsort(part, kind="stable")  # as it is for one: ascending, as points are
        part, building, view = part[order], building[order], view[order]
    lacking = {domain: lacking[domain] for domain in DOMAINS if lacking[domain]}
    for k, name in enumerate(SPLITS):
        if not (part == k).any():
            lacks = ", ".join(f"lacking {domain} {n} times" for domain, n in lacking.items())
            raise ValueError(
                f"no complete view for the split `{name}`: {len(view)} complete views in "
                f"{len(names)} buildings of the split, {n_left_out} incomplete ({lacks}). "
                f"There are {_some(sorted(places))}; the split wants {_some(sorted(part_of))}. "
                f"Fetch more, or pass instead of --split {split} a CSV that divides these "
                "buildings otherwise, or 'points'."
            )
    rows = choose_views(part, building, limit)
    part, building, view = part[rows], building[rows], view[rows]
    digest = hashlib.sha256("\n".join(names).encode())  # so that no other rows are taken for these
    for column in (part, building, view):
        digest.update(column.astype("<i8").tobytes())
    layouts = sorted({place.layout for name in names for place in places[name].values()})
    named = np.array(names)[building]
    report = {
        "source": {"layouts": layouts, "views": digest.hexdigest()},
        "buildings": {n: dict(Counter(named[part == k].tolist())) for k, n in enumerate(SPLITS)},
        "buildings_without_pictures": sorted(set(part_of) - set(places)),
        "buildings_without_split": sorted(set(places) - set(part_of)),
        "views_left_out": {"total": n_left_out, "lacking": lacking},
    }
    return Plan(names, pictures, part, building, view, report, "\n".join([*left_out, ""]).encode())


def _divide_buildings(places: dict[str, dict[str, Place]], split: str | Path) -> dict[str, int]:
    """The split of each building that is wanted."""
    if split == "one":
        if len(places) > 1:
            raise ValueError(
                f"`split` is 'one', which divides a single building, but {len(places)} are there: "
                f"{', '.join(sorted(places)[:5])}. Pass 'tiny', a split CSV, or 'points' to divide "
                "the points of each."
            )
        return dict.fromkeys(places, 0)
    if split == "points":
        return dict.fromkeys(places, 0)
    if UNNAMED in places:
        raise ValueError(
            f"{next(iter(places[UNNAMED].values())).path} holds pictures of one building without "
            "its name, and `split` goes by names. Move them into a folder of that name, or pass "
            "--split one."
        )
    return read_split(split)


def _match(domains: dict[str, Pictures]) -> tuple[np.ndarray, list[tuple[int, list[str]]]]:
    """The views that have all six pictures, and the others with the domains they lack."""
    none = np.zeros(0, np.int64)
    views = {domain: domains[domain].views if domain in domains else none for domain in DOMAINS}
    anywhere, n_domains = np.unique(np.concatenate(list(views.values())), return_counts=True)
    missing = anywhere[n_domains < len(DOMAINS)]
    lacks = {domain: ~np.isin(missing, there) for domain, there in views.items()}
    listed = [(int(view), [d for d in DOMAINS if lacks[d][i]]) for i, view in enumerate(missing)]
    return anywhere[n_domains == len(DOMAINS)], listed


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def divide_points(views: np.ndarray, building: str = "the building") -> np.ndarray:
    """Divide the views of one building 80 / 10 / 10 by point, in the order of the points.

    The cameras of a point look at the same spot, so its views stay together.

    Args:
        views: int64 (m,), ascending.
        building: Its name, for an error.

    Returns:
        uint8 (m,): 0 train, 1 val, 2 test.

    Raises:
        ValueError: If there are fewer than three points.
    """
    points, place = np.unique(views // POINT, return_inverse=True)
    if len(points) < 3:
        raise ValueError(
            f"{building} has complete views of {len(points)} points, three splits need three. Take "
            "it away or fetch more of it."
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
    if limit is None or limit >= len(split):
        return np.arange(len(split))
    rows = []
    for k, share in enumerate(share_limit(limit, split)):
        there = np.flatnonzero(split == k)
        groups = np.split(there, np.flatnonzero(np.diff(building[there])) + 1)
        taken = _share_out(share, np.array([len(group) for group in groups]))
        rows += [g[np.arange(t) * len(g) // t] for g, t in zip(groups, taken, strict=True) if t]
    return np.concatenate(rows)


def _share_out(total: int, counts: np.ndarray) -> np.ndarray:
    """As equal shares of ``total`` as possible, none above its count."""
    levels = np.arange(counts.max() + 1)
    level = levels[np.minimum(counts, levels[:, None]).sum(1) <= total][-1]
    taken = np.minimum(counts, level)
    taken[np.flatnonzero(counts > level)[: total - taken.sum()]] += 1
    return taken
