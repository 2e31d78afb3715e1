"""Arrays that lie in files: mapped here, and sent to other processes as a place in the file.

A tensor that is sent is copied into shared memory or through a pipe, 2.5 GB of it for CelebA. Of a
mapped one the path, and where in the file it lies, is all that another process needs.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

_FILES: dict[int, Path] = {}  # where the memory of a mapped array begins, and its file


def map_array(path: Path, mode: Literal["r", "c"]) -> np.memmap:
    """The array of a file, mapped; refuses one that is too short or no array's."""
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  numpy parses a header as Python does, or fails so
        raise ValueError(f"{path.name} does not begin as an array ({error})") from None


def as_mapped(array: np.memmap) -> Tensor:
    """The tensor of a mapped array; it and every view of it can be sent as a place in the file."""
    tensor = torch.from_numpy(array)
    begin = tensor.untyped_storage().data_ptr()
    _FILES[begin] = Path(str(array.filename)).absolute()
    # the tensor keeps the array, so that no other memory can begin there before
    weakref.finalize(array, _FILES.pop, begin, None)
    return tensor


@dataclass(frozen=True, slots=True)
class Place:
    """A view of a mapped file: what is sent in place of its tensor."""

    path: Path
    n_bytes: int  # of the whole array, so that another file is noticed
    dtype: torch.dtype
    shape: Sequence[int]
    stride: Sequence[int]
    offset: int  # in elements, from the first of the array

    def open(self) -> Tensor:
        """The same view, mapped where this is called.

        Raises:
            ValueError: If there is no such file here, or another one.
        """
        try:
            tensor = as_mapped(map_array(self.path, "c"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.path} cannot be opened by a worker ({error}): all machines need the "
                "prepared folder under the same path."
            ) from None
        if (tensor.dtype, tensor.nbytes) != (self.dtype, self.n_bytes):
            raise ValueError(
                f"{self.path} holds {tensor.nbytes} bytes of {tensor.dtype} for a worker, and "
                f"{self.n_bytes} of {self.dtype} where it was opened: all machines need the same "
                "prepared folder, and nobody may change it meanwhile."
            )
        return tensor.as_strided(self.shape, self.stride, self.offset)


@dataclass(frozen=True, slots=True)
class Moved:
    """The numbers of a tensor on a GPU: they go to the one that the other process has."""

    tensor: Tensor  # on the CPU
    device: str  # without a number

    def open(self) -> Tensor:
        return self.tensor.to(self.device)


def pack(tensor: Tensor) -> Tensor | Place | Moved:
    """What another process is sent of a tensor; `unpack` there gives it back."""
    if tensor.device.type != "cpu":
        return Moved(tensor.cpu(), tensor.device.type)
    return find_place(tensor) or tensor


def unpack(sent: Tensor | Place | Moved) -> Tensor:
    return sent if isinstance(sent, Tensor) else sent.open()


def find_place(tensor: Tensor) -> Place | None:
    """Where in a file a tensor lies; None of one in memory, and of one that was written to."""
    storage = tensor.untyped_storage()
    path = _FILES.get(storage.data_ptr())
    if path is None or tensor._version:  # views count the changes of their base
        return None
    shape, stride, offset = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
    return Place(path, storage.nbytes(), tensor.dtype, shape, stride, offset)
