"""Taskonomy as it comes: finding the pictures in the known layouts, and reading PNG bytes from
them.

Who belongs to which split is `taskonomy_splits`, decoding `taskonomy_images`, writing the prepared
folder `taskonomy_prepare`.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

# Domain, which is the folder's name, and what its files end with: one of them differs.
DOMAINS = {
    "rgb": ("rgb",),
    "depth_zbuffer": ("depth_zbuffer",),
    "normal": ("normal",),
    "segment_semantic": ("segmentsemantic", "segment_semantic"),
    "keypoints2d": ("keypoints2d",),
    "edge_texture": ("edge_texture",),
}
UNNAMED = "unnamed"  # the building of a folder that holds pictures and no building
_POINT = 10**9  # a view is one number: point * _POINT + view
_NUMBER = r"(0|[1-9]\d{0,8})"
_NAMES = {
    domain: re.compile(rf"point_{_NUMBER}_view_{_NUMBER}_domain_({'|'.join(suffixes)})\.png")
    for domain, suffixes in DOMAINS.items()
}
# Folder names of the first sample model, which is another version of the data
_OLD_NAMES = {"depth", "edge", "edge2d", "keypoint", "keypoint2d", "segmentsemantic"}
_MOST_BYTES = 16 << 20  # a picture has 0.05 to 1 MB; a file of another kind may have gigabytes

Location = tuple[
    str, str, int, int
]  # what to call it in an error, file, offset, size (-1: all of it)


@dataclass(frozen=True)
class Place:
    """Where the pictures of one domain of one building are: a folder or an unopened tar."""

    layout: str
    path: Path
    domain: str
    building: str


@dataclass(frozen=True)
class Pictures:
    """The pictures of one domain of one building.

    Args:
        path: Their folder, or the tar.
        suffix: What their names end with.
        views: int64 (m,), ascending; see `point_and_view`.
        extents: Offset and size in the tar, int64 (m, 2); None in a folder.
    """

    path: Path
    suffix: str
    views: np.ndarray
    extents: np.ndarray | None = None

    def locate(self, view: int) -> Location:
        """Where the picture of a view is."""
        point, number = point_and_view(view)
        name = f"point_{point}_view_{number}_domain_{self.suffix}.png"
        if self.extents is None:
            return str(self.path / name), str(self.path / name), 0, -1
        offset, size = self.extents[np.searchsorted(self.views, view)].tolist()
        return f"{self.path} member {name}", str(self.path), offset, size


def point_and_view(view: int) -> tuple[int, int]:
    """Number of the point and of the view, from the one number that stands for both."""
    return divmod(view, _POINT)


def points_of(views: np.ndarray) -> np.ndarray:
    """The point of each view: a place in a building, seen from several cameras."""
    return views // _POINT


def read(location: Location) -> tuple[str, bytes]:
    """Name and bytes of one picture."""
    name, path, offset, size = location
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(_MOST_BYTES + 1 if size < 0 else size)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{name} has more than {_MOST_BYTES >> 20} MB: no picture of Taskonomy.")
    return name, data


# ---- finding -------------------------------------------------------------------------------------


def find_taskonomy(root: str | Path) -> dict[str, dict[str, Place]]:
    """Find Taskonomy under ``root`` in any of the known layouts; they may be mixed.

    Args:
        root: Folder that holds ``<domain>/taskonomy/<building>/`` (omnitools),
            ``<domain>/<building>/``, ``<building>_<domain>/<domain>/`` or ``<building>/<domain>/``
            (unpacked tars), unopened ``<building>_<domain>.tar``, or ``<domain>/`` with the
            pictures of one building. Where a tar was unpacked beside it, the folder counts.

    Returns:
        ``{building: {domain: Place}}``; a building may lack a domain.

    Raises:
        FileNotFoundError: If there is no such folder, or no Taskonomy in it.
        ValueError: If a domain is missing in every building, or a building's is in two places.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"`root` is no folder: {root}.")
    places: dict[str, dict[str, Place]] = {}
    old_names = set()
    for entry in sorted(root.iterdir()):
        old_names |= {entry.name} & _OLD_NAMES
        for place in _places_in(entry):
            there = places.setdefault(place.building, {}).setdefault(place.domain, place)
            if _is_tar(place.path) == _is_tar(there.path) and place is not there:
                raise ValueError(
                    f"{place.domain} of {place.building} is in {there.path} and in {place.path}. "
                    "Keep one."
                )
            if _is_tar(there.path):
                places[place.building][place.domain] = place
    found = {domain for domains in places.values() for domain in domains}
    missing = [domain for domain in DOMAINS if domain not in found]
    if missing and old_names:
        raise ValueError(
            f"{root} has no {', '.join(missing)}, but {', '.join(sorted(old_names))}: folder "
            "names of the "
            f"first sample of Taskonomy, another version. Fetch the domains {', '.join(DOMAINS)}."
        )
    if not found:
        raise FileNotFoundError(
            f"no Taskonomy in {root}: expected folders {', '.join(DOMAINS)} with a folder for "
            "every "
            "building, or BUILDING_DOMAIN.tar. Pass the folder that holds them as --root."
        )
    if missing:
        raise ValueError(
            f"{root} has {', '.join(sorted(found))}, but no pictures in a folder or tar of the "
            f"{'domain' if len(missing) == 1 else 'domains'} {', '.join(missing)}. "
            f"Fetch {'it' if len(missing) == 1 else 'them'} too."
        )
    return places


def _is_tar(path: Path) -> bool:
    return path.suffix == ".tar"


def _places_in(entry: Path) -> Iterator[Place]:
    """What one entry of the root holds."""
    stem = entry.name.removesuffix(".tar")
    domain = next((domain for domain in DOMAINS if f"_{stem}".endswith(f"_{domain}")), "")
    building = stem.removesuffix(domain).removesuffix("_")
    if entry.is_file():
        if domain and building and _is_tar(entry):
            yield Place("raw tars", entry, domain, building)
    elif domain and building:
        inner = entry / domain
        yield from _places_of_building(inner if inner.is_dir() else entry, domain, building)
    elif domain:
        yield from _places_of_domain(entry, domain)
    else:
        for domain in DOMAINS:
            if (entry / domain).is_dir():
                yield from _places_of_building(entry / domain, domain, building)


def _places_of_domain(folder: Path, domain: str) -> Iterator[Place]:
    """``folder`` holds the buildings of a domain, or directly the pictures of one."""
    has_pictures, folders = _content(folder)
    if has_pictures:
        yield Place("one building", folder, domain, UNNAMED)
    for name in folders:
        if name == "taskonomy":  # omnitools puts other data sets beside it
            for building in _content(folder / name)[1]:
                yield Place("omnitools", folder / name / building, domain, building)
        else:
            yield Place("building folders", folder / name, domain, name)


def _places_of_building(folder: Path, domain: str, building: str) -> Iterator[Place]:
    """``folder`` comes from the tar of one building: pictures, perhaps below its name once more."""
    for place in _places_of_domain(folder, domain):
        if place.building not in (building, UNNAMED):
            raise ValueError(
                f"{place.path} should be of the building {building}: rename one of the two."
            )
        yield Place("unpacked tars", place.path, domain, building)


def _content(folder: Path) -> tuple[bool, list[str]]:
    """Whether there are pictures in the folder, and its folders."""
    with os.scandir(folder) as scan:
        entries = list(scan)
    folders = sorted(
        entry.name for entry in entries if entry.is_dir() and entry.name[0] not in "._"
    )
    return any(entry.name.startswith("point_") and not entry.is_dir() for entry in entries), folders


# ---- listing -------------------------------------------------------------------------------------


def list_pictures(place: Place) -> Pictures:
    """The pictures of one domain of one building; files of other names are passed over.

    Raises:
        ValueError: If a tar is cut short, or a member is a link, points outside, or is there twice.
    """
    pattern = _NAMES[place.domain]
    if _is_tar(place.path):
        members = list(_members(place))
    else:
        with os.scandir(place.path) as scan:
            members = [(entry.name, 0, -1) for entry in scan]
    rows, suffixes = [], set()
    for name, offset, size in members:
        if match := pattern.fullmatch(name):
            rows.append((int(match[1]) * _POINT + int(match[2]), offset, size))
            suffixes.add(match[3])
    if len(suffixes) > 1:
        raise ValueError(
            f"{place.path} has files that end {' and '.join(sorted(suffixes))}. Keep one kind."
        )
    table = np.array(sorted(rows), np.int64).reshape(-1, 3)
    views = table[:, 0]
    if (views[1:] == views[:-1]).any():
        point, number = point_and_view(int(views[1:][views[1:] == views[:-1]][0]))
        raise ValueError(
            f"{place.path} has point_{point}_view_{number} more than once. Fetch it again."
        )
    suffix = suffixes.pop() if suffixes else place.domain
    return Pictures(place.path, suffix, views, table[:, 1:] if _is_tar(place.path) else None)


def _members(place: Place) -> Iterator[tuple[str, int, int]]:
    """File name, offset and size of every file in a tar, without reading their content."""
    try:
        with tarfile.open(place.path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # it would keep them all
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or "\\" in member.name:
                    raise ValueError(
                        f"{place.path} member {member.name!r} points outside: not Taskonomy's tar."
                    )
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse() or member.size > _MOST_BYTES:
                    raise ValueError(
                        f"{place.path} member {member.name!r} is a link, a device or too large."
                    )
                if path.parent.name in (place.domain, place.building):
                    yield path.name, member.offset_data, member.size
            end = archive.offset
    except tarfile.TarError as error:
        raise ValueError(
            f"{place.path} is no complete tar file ({error}). Fetch it again."
        ) from None
    with open(place.path, "rb") as file:
        file.seek(end)
        if file.read(512) != bytes(512):  # tarfile takes a damaged header for the end
            raise ValueError(f"{place.path} is no complete tar file (no end mark). Fetch it again.")
