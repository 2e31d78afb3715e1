"""Files that somebody else made: read so that nothing hangs, bursts, or passes by halves.

Named pipes and devices are refused before they are opened, sizes before they are read, and a
picture before it is used if its decoder would have had to make something up.
"""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# What downloads and copies turn out to be, by their first bytes
_KINDS = (
    (b"<", "an HTML page"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"version https://git-lfs", "a Git LFS pointer, which stands for the file"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89PNG\r\n\x1a\n", "a PNG"),
    (b"RIFF", "a WEBP"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"PAR1", "a parquet file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x1f\x8b", "a gzip file"),
)
PERHAPS_TEXT = "no known kind of file"
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a marker, of no data and no restart
_PADDING = b"\xff\x00" * 8  # 64 bits, all ones: what a Huffman decoder reads ahead, and no code


class BrokenFile(ValueError):
    """One file is damaged or is no file: fetching it again may help, and others may be whole."""


def read_file(path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a regular file of at most ``most_bytes``.

    Raises:
        BrokenFile: If it is a named pipe, a device or a folder, or is larger.
    """
    status = os.stat(path)  # first: opening a named pipe waits for whoever writes to it
    if not stat.S_ISREG(status.st_mode):
        raise BrokenFile(f"{path} is no regular file. Put the file itself there.")
    if status.st_size > most_bytes:
        raise BrokenFile(
            f"{path} has more than {most_bytes >> 20} MB ({status.st_size:,} bytes): another file "
            "than expected here, or damaged."
        )
    with open(path, "rb", buffering=0) as file:
        return file.read()


def name_content(data: bytes) -> str:
    """What bytes are, in words, as far as their beginning tells."""
    if not data:
        return "empty"
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    known = (name for mark, name in _KINDS if start.startswith(mark))
    return next(known, "no text" if b"\0" in data[:1000] else PERHAPS_TEXT)


# ---- pictures ------------------------------------------------------------------------------------


@contextmanager
def _refusing(name: str, data: bytes, kind: str) -> Iterator[None]:
    from PIL import UnidentifiedImageError  # the caller checked that it is installed

    try:
        yield
    except Exception as error:  # noqa: BLE001  Pillow has many ways to find a file broken
        what = "damaged header" if isinstance(error, UnidentifiedImageError) else error
        raise BrokenFile(
            f"{name} is no complete {kind} ({len(data)} bytes; {what}). "
            "Fetch it again and repeat the command."
        ) from None


def open_picture(name: str, data: bytes, formats: list[str]) -> ImageFile:
    """The picture in some bytes, with size and mode known and nothing decoded.

    Args:
        name: What to call it in an error.
        formats: What Pillow calls them, such as ``["JPEG", "PNG"]``; decided by content.

    Raises:
        BrokenFile: If it is no picture of these formats.
    """
    from PIL import Image

    kind = name_content(data).rpartition(" ")[2]
    if kind not in formats:
        expected = " or ".join(formats)
        raise BrokenFile(
            f"{name} is {name_content(data)} ({len(data)} bytes), expected {expected}. "
            "Fetch it again and repeat the command."
        )
    with _refusing(name, data, kind), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # of an absurd size
        return Image.open(io.BytesIO(data), formats=formats)


def load_picture(name: str, data: bytes, image: ImageFile) -> ImageFile:
    """Decode what `open_picture` opened, strictly.

    Pillow pads what is missing in a JPEG that ends early, and does not look at a PNG's checksums.

    Raises:
        BrokenFile: If a PNG's checksum is wrong; or if the data of a JPEG end before its picture
            does, or after. (Damage that leaves a valid stream of codes shows in no decoder; nor
            are JPEGs of several scans looked at so closely.)
    """
    from PIL import Image

    kind = image.format or "picture"
    with _refusing(name, data, kind):
        if kind == "JPEG":
            _load_jpeg(data, image)
        else:
            if kind == "PNG":
                Image.open(io.BytesIO(data), formats=["PNG"]).verify()
            image.load()
    return image


class _Parts(io.BytesIO):
    """A file that is read in given parts, whatever size is asked for."""

    def __init__(self, *parts: bytes) -> None:
        super().__init__()
        self.left = list(parts)

    def read(self, size: int | None = -1, /) -> bytes:
        return self.left.pop(0) if self.left else b""


def _load_jpeg(data: bytes, image: ImageFile) -> None:
    """Decode a JPEG from its data without the end marker, at which libjpeg would begin to invent.

    It then wants more where data are missing, which Pillow refuses; and it must want the last byte,
    or there are more data than its picture has. Behind them lie the 64 bits that it looks ahead.
    """
    assert image.fp is not None  # `open` stopped where the scan begins
    end = _END_OF_SCAN.search(data, image.fp.tell())
    if end is None:
        raise OSError("no end marker")
    if end[0] != b"\xff\xd9":  # several scans: libjpeg wants them all before it begins
        image.load()
        return
    scan = data[: end.start()].rstrip(b"\xff")  # a marker may have more than one
    parts = _Parts(scan[:-1], scan[-1:] + _PADDING)
    image.fp = parts
    image.load()
    if parts.left:
        raise OSError("more data than pixels")
