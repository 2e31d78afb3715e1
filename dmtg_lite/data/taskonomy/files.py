"""Taskonomy as it comes: finding the pictures in the known layouts, and the way to PNG bytes.

Which views are taken is `plan`, decoding is `images`.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from dmtg_lite.data.foreign_files import read_file
from dmtg_lite.files import check_is_file

# Domain, which is the folder's name, and what its files end with: one of them differs.
DOMAINS = {
    "rgb": ("rgb",),
    "depth_zbuffer": ("depth_zbuffer",),
    "normal": ("normal",),
    "segment_semantic": ("segmentsemantic", "segment_semantic"),
    "keypoints2d": ("keypoints2d",),
    "edge_texture": ("edge_texture",),
}
# What people call the folder or tar of a domain, without blanks and the like; what its pictures
# are called decides which domain it is. A building's name is what is left of the path without these
# and without omnitools' "taskonomy".
_WORDS = {
    "rgb": {"rgb"},
    "depth_zbuffer": {"depthzbuffer", "zbuffer", "depth"},
    "normal": {"normal", "normals"},
    "segment_semantic": {"segmentsemantic", "semantic", "segmentation", "segment"},
    "keypoints2d": {"keypoints2d", "keypoint2d", "keypoints", "keypoint"},
    "edge_texture": {"edgetexture", "edge2d", "edges", "edge"},
}
_DEPTH = 4  # folders below the root: <building>/<domain>/taskonomy/<building>
UNNAMED = "unnamed"  # the building of a folder that holds pictures and no building
POINT = 10**9  # a view is one number: point * POINT + view
_NAME = re.compile(r"point_(0|[1-9]\d{0,8})_view_(0|[1-9]\d{0,8})_domain_(\w+)\.png", re.ASCII)
_ANY_NAME = re.compile(r"point_\d+_view_\d+_domain_(\w+)\..*", re.ASCII)
_MOST_BYTES = 16 << 20  # a picture has 0.05 to 1 MB; a file of another kind may have gigabytes
_MOST_PADDING = 1 << 20  # zeros after the end of a tar; 10 kB as a rule

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
    if size < 0:
        return name, read_file(path, _MOST_BYTES)
    with open(path, "rb") as file:
        file.seek(offset)
        return name, file.read(size)


# ---- finding -------------------------------------------------------------------------------------


def find_taskonomy(root: str | Path) -> dict[str, dict[str, Place]]:
    """Find Taskonomy under ``root`` in any of the known layouts; they may be mixed.

    Args:
        root: Folder that holds ``<domain>/taskonomy/<building>/`` (omnitools),
            ``<domain>/<building>/``, ``<building>_<domain>/<domain>/`` or ``<building>/<domain>/``
            (unpacked tars), unopened ``<building>_<domain>.tar`` or omnitools'
            ``<domain>__taskonomy__<building>.tar``, or ``<domain>/`` with the pictures of one
            building. Folders may be called otherwise where it is clear what they hold. Where a tar
            was unpacked beside it, the folder counts.

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
    odd: list[str] = []
    for parts, suffix in _find_folders(root, _DEPTH):
        domain = _domain_of(suffix)
        if domain:
            _add(places, domain, parts, root.joinpath(*parts))
        elif any(_simplify(part) in words for part in parts for words in _WORDS.values()):
            odd.append(f"{root.joinpath(*parts)} holds files named ..._domain_{suffix}")
    unpacked = {(building, domain) for building, found in places.items() for domain in found}
    for path in sorted(root.glob("*.tar")):
        parts = tuple(re.split("__taskonomy__", path.stem, flags=re.IGNORECASE))
        domain = _domain_of_tar(path, parts)
        if domain and (_name_building(parts, domain), domain) not in unpacked:
            _add(places, domain, parts, path)
    missing = [
        domain for domain in DOMAINS if not any(domain in found for found in places.values())
    ]
    if missing:
        there = ", ".join(sorted(os.listdir(root))[:8]) or "nothing"
        raise (ValueError if places else FileNotFoundError)(
            f"no pictures of {', '.join(missing)} in {root}: expected a folder of that name with a "
            f"folder for every building, or BUILDING_DOMAIN.tar, with pictures named "
            f"point_0_view_0_domain_{DOMAINS[missing[0]][0]}.png; found {there}"
            f"{'; '.join(['', *odd[:3]])}. Fetch all of {', '.join(DOMAINS)}, and pass the folder "
            "that holds them as --root."
        )
    return places


def _simplify(name: str) -> str:
    """A name without the capitals, blanks and underscores that copies differ in."""
    return re.sub("[^a-z0-9]", "", name.lower())


def _domain_of(suffix: str) -> str | None:
    """The domain whose pictures end so."""
    names = {_simplify(own): domain for domain, suffixes in DOMAINS.items() for own in suffixes}
    return names.get(_simplify(suffix))


def _find_folders(root: Path, depth: int, *above: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Folders that hold pictures, and what the first picture's name ends with."""
    folders = []
    with suppress(PermissionError), os.scandir(root) as entries:  # a disk's lost+found
        for entry in entries:
            if match := _ANY_NAME.fullmatch(entry.name):
                if above:
                    yield above, match[1]
                return
            if depth and entry.is_dir() and not entry.name.startswith("."):
                folders.append(entry.name)
    for name in sorted(folders):
        yield from _find_folders(root / name, depth - 1, *above, name)


def _domain_of_tar(path: Path, parts: Iterable[str]) -> str | None:
    """The domain of an unopened tar: by its full name, else by the first picture in it."""
    for domain, suffixes in DOMAINS.items():
        if _strip_domain(parts, {_simplify(name) for name in (domain, *suffixes)})[1]:
            return domain
    if not any(_strip_domain(parts, words)[1] for words in _WORDS.values()):
        return None
    names = (_ANY_NAME.fullmatch(PurePosixPath(name).name) for name, _, _ in _members(path))
    return next((_domain_of(match[1]) for match in names if match), None)


def _strip_domain(parts: Iterable[str], words: set[str]) -> tuple[set[str], bool]:
    """What is left of names without the words for a domain, and whether there was one."""
    left, is_there = set(), False
    for part in parts:
        cuts = [0, *(match.end() for match in re.finditer("[^A-Za-z0-9]+", part))]
        cut = next((cut for cut in cuts if _simplify(part[cut:]) in words), None)
        is_there |= cut is not None
        left.add(part[:cut].strip("_- .").lower())
    return left - {"", "taskonomy"}, is_there


def _name_building(parts: Iterable[str], domain: str) -> str:
    return " and ".join(sorted(_strip_domain(parts, _WORDS[domain])[0])) or UNNAMED


def _add(
    places: dict[str, dict[str, Place]], domain: str, parts: tuple[str, ...], path: Path
) -> None:
    """Note where a domain of a building is."""
    building = _name_building(parts, domain)
    if " and " in building:
        raise ValueError(
            f"{path} should be of one building, is of {building}. Rename one, call the folder of a "
            f"domain by its name ({domain}), or pass the folder that holds the domains as --root."
        )
    found = places.setdefault(building, {})
    if domain in found:
        raise ValueError(
            f"{domain} of {building} is in {found[domain].path} and in {path}. Keep one."
        )
    if path.suffix == ".tar":
        layout = "raw tars"
    elif len(parts) == 1:
        layout = "one building"
    elif _simplify(parts[0]) not in _WORDS[domain]:
        layout = "unpacked tars"
    else:
        layout = "omnitools" if "taskonomy" in parts else "building folders"
    found[domain] = Place(layout, path)


# ---- listing -------------------------------------------------------------------------------------


def list_pictures(place: Place, building: str, domain: str) -> Pictures:
    """The pictures of one domain of one building; files of other names are passed over.

    Raises:
        ValueError: If a tar is cut short, or a member is a link, points outside, or is there twice.
    """
    path = place.path
    if path.suffix == ".tar":
        folders = {*_WORDS[domain], _simplify(building), ""}
        found = ((PurePosixPath(name), *place) for name, *place in _members(path))
        files = ((p.name, *at) for p, *at in found if _simplify(p.parent.name) in folders)
    else:
        files = ((name, 0, -1) for name in os.listdir(path))
    rows, suffixes = [], set()
    for name, offset, size in files:
        match = _NAME.fullmatch(name)
        if match and _domain_of(match[3]) == domain:
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


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of the files of a tar; no content is read."""
    check_is_file(path, "tar archive")
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
                yield member.name, member.offset_data, member.size
            end = archive.offset
    except (tarfile.TarError, OverflowError, EOFError) as error:
        raise ValueError(f"{path} is no complete tar file ({error}). Fetch it again.") from None
    with open(path, "rb") as file:
        file.seek(end)
        rest = file.read(_MOST_PADDING + 1)
    # tarfile takes a damaged header for the end, and the hole of a download that goes on
    if len(rest) < 512 or len(rest) > _MOST_PADDING or rest.strip(b"\0"):
        raise ValueError(f"{path} is no complete tar file (no end mark). Fetch it again.")
