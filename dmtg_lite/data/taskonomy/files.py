"""Taskonomy as it comes: finding the pictures in the known layouts, and the way to PNG bytes.

Which views are taken is `plan`, decoding is `images`.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from itertools import product
from pathlib import Path, PurePosixPath
from typing import NamedTuple

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
# Folders of a domain below the root, and where in them its pictures are. A building's name is what
# is left of the path without the domain and omnitools' "taskonomy"; what holds no picture is passed
# over.
_FOLDERS = ("{domain}", "*_{domain}", "*/{domain}")
_INSIDE = ("", "/*", "/taskonomy/*")
UNNAMED = "unnamed"  # the building of a folder that holds pictures and no building
POINT = 10**9  # a view is one number: point * POINT + view
_NAME = re.compile(r"point_(0|[1-9]\d{0,8})_view_(0|[1-9]\d{0,8})_domain_(\w+)\.png")
# Folder names of the first sample model, which is another version of the data
_OLD_NAMES = {"depth", "edge", "edge2d", "keypoint", "keypoint2d", "segmentsemantic"}
_MOST_BYTES = 16 << 20  # a picture has 0.05 to 1 MB; a file of another kind may have gigabytes

Location = tuple[str, str, int, int]  # name in errors, file, offset, size (-1: all of it)


class Place(NamedTuple):
    """Where the pictures of one domain of one building are: a folder or an unopened tar."""

    layout: str
    path: Path


@dataclass(frozen=True)
class Pictures:
    """The pictures of one domain of one building."""

    path: Path  # their folder, or the tar
    suffix: str  # what their names end with
    views: np.ndarray  # int64 (m,), ascending; see `point_and_view`
    extents: np.ndarray  # offset and size in the tar, int64 (m, 2); 0 and -1 in a folder

    def locate(self, view: int) -> Location:
        """Where the picture of a view is."""
        point, number = point_and_view(view)
        name = f"point_{point}_view_{number}_domain_{self.suffix}.png"
        offset, size = self.extents[np.searchsorted(self.views, view)].tolist()
        file = str(self.path / name if size < 0 else self.path)
        return file if size < 0 else f"{file} member {name}", file, offset, size


def point_and_view(view: int) -> tuple[int, int]:
    """Number of the point and of the view, from the one number that stands for both."""
    return divmod(view, POINT)


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
    missing = []
    for domain in DOMAINS:
        found = _find_folders(root, domain)
        for path in sorted(root.glob(f"?*_{domain}.tar")):
            found.setdefault(path.name.removesuffix(f"_{domain}.tar"), Place("raw tars", path))
        for building, place in found.items():
            places.setdefault(building, {})[domain] = place
        missing += [] if found else [domain]
    if missing:
        old = sorted(_OLD_NAMES & set(os.listdir(root)))
        hint = (
            f" It has {', '.join(old)}, names of the first sample, another version." if old else ""
        )
        raise (ValueError if places else FileNotFoundError)(
            f"no pictures of {', '.join(missing)} in {root}: expected a folder of that name with a "
            f"folder for every building, or BUILDING_DOMAIN.tar.{hint} Fetch all of "
            f"{', '.join(DOMAINS)}, and pass the folder that holds them as --root."
        )
    return places


def _find_folders(root: Path, domain: str) -> dict[str, Place]:
    """The buildings of a domain that lie in folders."""
    patterns = [f"{a}{b}/".format(domain=domain) for a, b in product(_FOLDERS, _INSIDE)]
    found: dict[str, Place] = {}
    for name in sorted({name for pattern in patterns for name in glob(pattern, root_dir=root)}):
        parts = Path(name).parts
        with os.scandir(root / name) as entries:
            if not any(entry.name.startswith("point_") for entry in entries):
                continue
        names = {part.removesuffix(f"_{domain}") for part in parts} - {domain, "taskonomy"}
        if len(names) > 1:
            two = " and ".join(sorted(names))
            raise ValueError(f"{root / name} should be of one building, is of {two}. Rename one.")
        building, path = names.pop() if names else UNNAMED, root / name
        layout = "omnitools" if "taskonomy" in parts else "building folders"
        layout = layout if parts[0] == domain else "unpacked tars"
        if building in found:
            raise ValueError(
                f"{domain} of {building} is in {found[building].path} and in {path}. Keep one."
            )
        found[building] = Place(layout if len(parts) > 1 else "one building", path)
    return found


# ---- listing -------------------------------------------------------------------------------------


def list_pictures(place: Place, building: str, domain: str) -> Pictures:
    """The pictures of one domain of one building; files of other names are passed over.

    Raises:
        ValueError: If a tar is cut short, or a member is a link, points outside, or is there twice.
    """
    path = place.path
    if path.suffix == ".tar":
        files = _members(path, (domain, building))
    else:
        files = ((name, 0, -1) for name in os.listdir(path))
    rows, suffixes = [], set()
    for name, offset, size in files:
        match = _NAME.fullmatch(name)
        if match and match[3] in DOMAINS[domain]:
            rows.append((int(match[1]) * POINT + int(match[2]), offset, size))
            suffixes.add(match[3])
    if len(suffixes) > 1:
        raise ValueError(
            f"{path} has files that end {' and '.join(sorted(suffixes))}. Keep one kind."
        )
    table = np.array(sorted(rows), np.int64).reshape(-1, 3)
    views = table[:, 0]
    if len(twice := views[1:][views[1:] == views[:-1]]):
        point, number = point_and_view(int(twice[0]))
        raise ValueError(f"{path} has point_{point}_view_{number} more than once. Fetch it again.")
    return Pictures(path, suffixes.pop() if suffixes else domain, views, table[:, 1:])


def _members(path: Path, folders: tuple[str, str]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of the files of a tar in these folders; no content is read."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                inner = PurePosixPath(member.name)
                if inner.is_absolute() or ".." in inner.parts or "\\" in member.name:
                    raise ValueError(
                        f"{path} member {member.name!r} points outside: not Taskonomy's tar."
                    )
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse() or member.size > _MOST_BYTES:
                    raise ValueError(
                        f"{path} member {member.name!r} is a link, a device or too large."
                    )
                if inner.parent.name in folders:
                    yield inner.name, member.offset_data, member.size
            end = archive.offset
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no complete tar file ({error}). Fetch it again.") from None
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(512) != bytes(512):  # tarfile takes a damaged header for the end
            raise ValueError(f"{path} is no complete tar file (no end mark). Fetch it again.")
