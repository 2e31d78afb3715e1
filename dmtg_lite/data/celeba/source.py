"""What a layout of CelebA hands over, wherever it was found: labels, splits and a way to the JPEG bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Reader = Callable[[], Iterator[tuple[str, bytes]]]


@dataclass(frozen=True)
class Source:
    """A CelebA found on disk, checked, with nothing decoded yet.

    Args:
        layout: ``"torchvision"``, ``"authors"``, ``"kaggle"``, ``"zip"`` or ``"parquet"``.
        labels: uint8 (n, 40), columns in the order of `NAMES`.
        split: uint8 (n,): 0 train, 1 val, 2 test.
        lists: sha256 of every list file read, by file name.
        reader: Given row numbers, a picklable function that yields ``(image name, JPEG bytes)``.
        check: Given row numbers, raises FileNotFoundError where an image is missing.
    """

    layout: str
    labels: np.ndarray
    split: np.ndarray
    lists: dict[str, str]
    reader: Callable[[np.ndarray], Reader]
    check: Callable[[np.ndarray], None]
