"""Which views of Taskonomy are prepared, in which order, and which are left out and why."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmtg_lite.data.taskonomy.files import (
    DOMAINS,
    UNNAMED,
    Location,
    Pictures,
    Place,
    list_pictures,
    point_and_view,
)
from dmtg_lite.data.taskonomy.splits import SPLITS, choose_views, divide_points, read_split

_MOST_LISTED = 5000  # views left out that left_out.csv names


@dataclass(frozen=True)
class Plan:
    """Every row that is to be written: its split, its building (a place in ``names``) and its view."""

    names: list[str]
    pictures: list[dict[str, Pictures]]  # of each building, by domain
    split: np.ndarray  # uint8 (n,)
    building: np.ndarray  # int64 (n,)
    view: np.ndarray  # int64 (n,)
    layouts: list[str]
    absent: list[str]
    unused: list[str]
    n_left_out: int
    lacking: dict[str, int]
    left_out: list[tuple]

    def locate(self, row: int) -> dict[str, Location]:
        """Where the six pictures of a row are."""
        pictures = self.pictures[self.building[row]]
        return {domain: pictures[domain].locate(int(self.view[row])) for domain in DOMAINS}

    def digest(self) -> str:
        """A checksum of what each row shows, so that no other rows are taken for these."""
        content = "\n".join(self.names).encode()
        for column in (self.split, self.building, self.view):
            content += column.astype("<i8").tobytes()
        return hashlib.sha256(content).hexdigest()

    def count_buildings(self) -> dict[str, dict[str, int]]:
        """Views of every building in every split."""
        return {
            name: {
                self.names[b]: int(count)
                for b, count in zip(
                    *np.unique(self.building[self.split == k], return_counts=True), strict=True
                )
            }
            for k, name in enumerate(SPLITS)
        }

    def left_out_csv(self) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["building", "point", "view", "missing"])
        writer.writerows(self.left_out)
        return text.getvalue().encode()


def make_plan(places: dict[str, dict[str, Place]], split: str | Path, limit: int | None) -> Plan:
    """List the pictures of the buildings of a split and choose the views to prepare."""
    if split == "one":
        if len(places) > 1:
            raise ValueError(
                f"`split` is 'one', which divides a single building, but {len(places)} are there: "
                f"{', '.join(sorted(places)[:5])}. Pass 'tiny' or a split CSV."
            )
        part_of = dict.fromkeys(places, 0)
    elif UNNAMED in places:
        raise ValueError(
            f"{next(iter(places[UNNAMED].values())).path} holds pictures of one building without "
            "its name, "
            "and `split` goes by names. Move them into a folder of that name, or pass --split one."
        )
    else:
        part_of = read_split(split)
    names = sorted(set(part_of) & set(places), key=lambda name: (part_of[name], name))
    pictures = [{d: list_pictures(place) for d, place in places[name].items()} for name in names]
    complete, left_out = [], []
    lacking: Counter[str] = Counter()
    n_left_out = 0
    for name, domains in zip(names, pictures, strict=True):
        views, missing = _match(domains)
        complete.append(views)
        n_left_out += len(missing)
        for view, lacks in missing:
            lacking.update(lacks)
            if len(left_out) < _MOST_LISTED:
                left_out.append((name, *point_and_view(view), " ".join(lacks)))
    counts = [len(views) for views in complete]
    view = np.concatenate([*complete, np.zeros(0, np.int64)])
    building = np.repeat(np.arange(len(names)), counts)
    part = np.repeat(np.array([part_of[name] for name in names], np.uint8), counts)
    if split == "one" and len(view):
        part = divide_points(view)  # ascending, as points are
    for k, name in enumerate(SPLITS):
        if not (part == k).any():
            raise ValueError(
                f"no complete view for the split `{name}`: {len(view)} complete views in "
                f"{len(names)} "
                f"buildings of the split, {n_left_out} incomplete{_lacks(lacking)}. "
                f"There are {_some(sorted(places))}; the split wants {_some(sorted(part_of))}."
            )
    rows = choose_views(part, building, limit)
    return Plan(
        names=names,
        pictures=pictures,
        split=part[rows],
        building=building[rows],
        view=view[rows],
        layouts=sorted({place.layout for name in names for place in places[name].values()}),
        absent=sorted(set(part_of) - set(places)),
        unused=sorted(set(places) - set(part_of)),
        n_left_out=n_left_out,
        lacking={domain: lacking[domain] for domain in DOMAINS if lacking[domain]},
        left_out=left_out,
    )


def _match(domains: dict[str, Pictures]) -> tuple[np.ndarray, list[tuple[int, list[str]]]]:
    """The views that have all six pictures, and the others with the domains they lack."""
    none = np.zeros(0, np.int64)
    views = {domain: domains[domain].views if domain in domains else none for domain in DOMAINS}
    anywhere, n_domains = np.unique(np.concatenate(list(views.values())), return_counts=True)
    missing = anywhere[n_domains < len(DOMAINS)]
    lacks = {domain: ~np.isin(missing, there) for domain, there in views.items()}
    listed = [(int(view), [d for d in DOMAINS if lacks[d][i]]) for i, view in enumerate(missing)]
    return anywhere[n_domains == len(DOMAINS)], listed


def _lacks(lacking: Counter[str]) -> str:
    return (
        f" (lacking {', '.join(f'{d} {lacking[d]} times' for d in DOMAINS if lacking[d])})"
        if lacking
        else ""
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
