"""Arrays in, whoever made them: of numpy, pandas and torch, or plain lists."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.checks import describe


def as_tensor(name: str, value: Any) -> Tensor:
    """The tensor that a value is or holds; numpy's memory is shared, mapped files stay mapped.

    Args:
        name: Of the argument, for the message.
        value: A tensor, a numpy array, a column or table of pandas (missing and masked values
            become nan), or nested lists of numbers.

    Raises:
        ValueError: If it holds no numbers.
    """
    if isinstance(value, Tensor):
        return value
    try:
        if isinstance(value, np.ma.MaskedArray):
            value = np.ma.filled(value.astype(np.float64), np.nan)
        array = np.asarray(value)
        if array.dtype == object and hasattr(value, "to_numpy"):  # a nullable column of pandas
            array = value.to_numpy(dtype=np.float64, na_value=np.nan)
        with warnings.catch_warnings():  # nobody here writes into what is given
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            return torch.from_numpy(_as_torch_has_it(array if array.ndim else array[None]))
    except (TypeError, ValueError) as error:  # text, objects, rows of different lengths
        raise ValueError(
            f"`{name}` must be a tensor, an array or lists of numbers, got {describe(value)}: "
            f"{error}."
        ) from None


def _as_torch_has_it(array: np.ndarray) -> np.ndarray:
    """A copy where torch knows no such memory: bytes or rows in reverse, more than 64 bits."""
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        array = array.astype(np.float64)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array.copy() if min(array.strides, default=0) < 0 else array


def as_floats(name: str, value: Any) -> Tensor:
    """The same with a floating type: numbers one can train on or draw from."""
    tensor = as_tensor(name, value)
    return tensor if tensor.is_floating_point() else tensor.float()


def scale_inputs(inputs: Any) -> Tensor:
    """Features as a network takes them: uint8 from 0 to 255 -> 0 to 1; floats as they are.

    Raises:
        ValueError: If they are whole numbers of another type, which says nothing of their scale.
    """
    inputs = as_tensor("inputs", inputs)
    if inputs.dtype == torch.uint8:
        return inputs.to(torch.float32).mul_(1 / 255)
    if not inputs.is_floating_point():
        raise ValueError(
            f"`inputs` must be uint8, or floats (of pictures from 0 to 1), got {describe(inputs)}; "
            "uint8 holds brightness from 0 to 255."
        )
    return inputs.to(torch.float32)


def as_classes(name: str, value: Any) -> Tensor:
    """Class numbers as they are kept: int64, -1 where there is no label.

    They may come in any type, as floats too, nan where there is no label. Shapes stay.

    Raises:
        ValueError: If they are not whole.
    """
    labels = as_tensor(name, value)
    if labels.is_floating_point():
        whole = labels.nan_to_num(nan=-1.0)
        if not (whole == whole.round()).all():
            raise ValueError(
                f"`{name}` must hold whole class numbers, got {describe(labels)} with "
                f"{float(labels[whole != whole.round()][0]):g} among them."
            )
        labels = whole
    return labels.long()
