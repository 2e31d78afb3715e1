"""Tables and arrays in, whoever made them: of pandas, numpy or torch, dicts and lists.

Two plain forms come out. An array is a tensor of numbers. A table is `Columns`: by name one array
(n,) of float64 with nan for what is missing, of bool, or of objects, which are text or True and
False, and None for what is missing. Nothing is learned from values here; that is `reading`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.arrays import as_tensor
from dmtg_lite.core.checks import describe

Columns: TypeAlias = dict[str, np.ndarray]

_MISSING_TYPES = {"NAType", "NaTType", "NoneType"}  # pandas' own two by name: it may not be there
_TEXT = ("O", "U", "T")  # numpy's kinds of dtype that are text, or may be
_WIDE = {torch.bfloat16: torch.float32}  # what numpy does not know
_DATES = "pass numbers instead, such as .dt.year, or days since the first one"
_REFUSED = {
    "c": "complex numbers: pass real ones, such as abs(x)",
    "M": f"dates: {_DATES}",
    "m": "durations: pass numbers instead, such as .dt.total_seconds()",
    "S": "bytes: decode them to text or numbers first",
    "V": "records: pass one column each",
}


def is_table(value: Any) -> bool:
    """Whether columns have names: a DataFrame or Series, a dict, a structured array."""
    return (
        isinstance(value, Mapping)
        or hasattr(value, "columns")
        or hasattr(value, "to_frame")
        or isinstance(getattr(getattr(value, "dtype", None), "names", None), tuple)
    )


def as_frame(value: Any, name: str) -> Any:
    """A Series of pandas as a table of one column, of this name if it has none; all else as is."""
    if hasattr(value, "to_frame") and getattr(value, "ndim", 0) == 1:
        return value.to_frame(name if value.name is None else value.name)
    return value


def as_raw(name: str, value: Any) -> Tensor | Columns:
    """The plain form of whatever was given; mapped files stay mapped, tensors come to the CPU.

    Args:
        name: Of the argument, for messages.
        value: A table (`is_table`), a tensor or array of any shape, or lists. A 2-D array of
            objects or text is a table whose columns are called x0, x1 and so on.

    Raises:
        ValueError: If it is none, or holds what is neither number, yes/no nor text.
    """
    if is_table(value):
        return as_columns(name, value)
    if isinstance(value, list | tuple):
        value = stack_rows(name, value)
    if getattr(getattr(value, "dtype", None), "kind", "") in _TEXT and value.ndim == 2:
        return as_columns(name, value)
    return as_array(name, value).cpu()


def as_array(name: str, value: Any) -> Tensor:
    """A tensor of real numbers, without its graph.

    Raises:
        ValueError: If it holds text, objects, dates or complex numbers, or is sparse.
    """
    if isinstance(value, list | tuple):
        value = stack_rows(name, value)
    _refuse_sparse(name, value)
    _refuse_types(name, value)
    tensor = as_tensor(name, value).detach()
    if tensor.layout != torch.strided or tensor.is_meta:
        raise ValueError(f"`{name}` must be a dense tensor with values: pass {name}.to_dense().")
    return tensor.reshape(tensor.shape or 1)


def _refuse_sparse(name: str, value: Any) -> None:
    if type(value).__module__.startswith("scipy.sparse"):
        raise ValueError(f"`{name}` is sparse ({describe(value)}): pass {name}.toarray().")


def _refuse_types(name: str, value: Any) -> None:
    """Say of what is no array of real numbers what to do with it."""
    dtype = getattr(value, "dtype", None)
    kind = getattr(dtype, "kind", "c" if getattr(dtype, "is_complex", False) else "")
    if kind in _TEXT:
        found = describe(np.asarray(value).reshape(-1)[0]) if value.size else "nothing"
        raise ValueError(
            f"`{name}` must hold numbers, got {found} in {describe(value)}. Pictures must be "
            "opened, texts embedded; a table with text as categories is a pandas DataFrame."
        )
    if kind in _REFUSED:
        raise ValueError(f"`{name}` holds {_REFUSED[kind]}.")


def as_columns(name: str, value: Any, names: Sequence[str] | None = None) -> Columns:
    """The columns of a table by name.

    Args:
        names: Of the columns of an array without names; ``None``: x0, x1 and so on.

    Raises:
        ValueError: If names are no text or not unique, lengths differ, or a column holds what is
            neither number, yes/no nor text.
    """
    value = as_frame(value, "x0")
    if not is_table(value):
        value = _name_columns(name, value, names)
    columns = {
        text: as_column(f"`{name}[{text!r}]`", value[key])
        for text, key in _list_names(name, value).items()
    }
    lengths = {text: len(column) for text, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of `{name}` must have equal lengths, got {_shorten(lengths)}.")
    return columns


def _list_names(name: str, table: Any) -> dict[str, Any]:
    """Names of the columns as text, and as the table has them."""
    found = getattr(getattr(table, "dtype", None), "names", None)
    keys = list(found or getattr(table, "columns", table))
    texts = [_as_name(name, key) for key in keys]
    if twice := [text for text, count in Counter(texts).items() if count > 1]:
        raise ValueError(f"`{name}` has more than one column {twice[0]!r}: names must be unique.")
    return dict(zip(texts, keys, strict=True))


def _name_columns(name: str, value: Any, names: Sequence[str] | None) -> Columns:
    """The columns of an array (n, D) by name."""
    if isinstance(value, list | tuple):
        value = stack_rows(name, value)
    _refuse_sparse(name, value)
    array = value if hasattr(value, "ndim") else np.asarray(value)
    if array.ndim != 2:
        raise ValueError(
            f"`{name}` must be a table of shape (n, columns), got {describe(value)}. One row or "
            "column of it is x[None] or x[:, None]."
        )
    if names is not None and len(names) != array.shape[1]:
        raise ValueError(
            f"`{name}` must have {len(names)} columns, {_shorten(list(names))}, got "
            f"{array.shape[1]}."
        )
    return {
        str(text): array[:, index]
        for index, text in enumerate(names or [f"x{k}" for k in range(array.shape[1])])
    }


def _as_name(name: str, key: Any) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int | np.integer) or key == "":
        raise ValueError(
            f"names of columns in `{name}` must be text, got {describe(key)}. In pandas: "
            'df.columns = ["age", ...].'
        )
    return str(key)


# ---------------------------------------------------------------------------- one column


def as_column(name: str, values: Any) -> np.ndarray:
    """One column in its plain form; see the top of this file."""
    array = _as_numpy(name, values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be one value a row, shape (n,), got {describe(array)}. Of one-hot "
            "columns pass .argmax(1)."
        )
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    return array if array.dtype.kind == "b" else _settle_objects(name, array.astype(object))


def _as_numpy(name: str, values: Any) -> np.ndarray:
    """A column of whatever library as an array of numpy, missing values as nan or objects."""
    if isinstance(values, Tensor):
        tensor = as_array(name.strip("`"), values).cpu()
        return tensor.to(_WIDE.get(tensor.dtype, tensor.dtype)).numpy()
    if isinstance(values, list | tuple | range):
        return _as_objects(values)
    if isinstance(values, np.ma.MaskedArray):
        return _as_objects(values.tolist())
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if kind in _REFUSED:
        raise ValueError(f"{name} holds {_REFUSED[kind]}.")
    if kind in "iuf" and hasattr(values, "to_numpy"):  # pandas, nullable or not
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values)


def _settle_objects(name: str, values: np.ndarray) -> np.ndarray:
    """Objects of one kind: numbers become float64, text and yes/no stay, with None if missing."""
    values = _as_objects([None if is_missing(value) else value for value in values.tolist()])
    kinds = Counter(_name_kind(value) for value in values if value is not None)
    if set(kinds) <= {"number"}:
        return np.array([np.nan if v is None else float(v) for v in values], np.float64)
    if set(kinds) in ({"text"}, {"yes/no"}):
        return values
    raise ValueError(f"{name} {_name_mixture(values, kinds)} {_advise(kinds)}")


def _name_mixture(values: np.ndarray, kinds: Counter[str]) -> str:
    strange = min(kinds, key=lambda kind: (kind in ("number", "yes/no"), kinds[kind]))
    example = next(v for v in values if v is not None and _name_kind(v) == strange)
    what = " and ".join(f"{kind} ({count} rows)" for kind, count in kinds.most_common(3))
    return (
        f"must hold numbers, yes/no or text, one of them throughout; it holds {what}, such as "
        f"{describe(example)}."
    )


def _advise(kinds: Counter[str]) -> str:
    if set(kinds) == {"number", "text"}:
        return (
            "If the text stands for missing numbers: pandas.to_numeric(column, errors='coerce'); "
            "if the numbers are names: column.astype(str)."
        )
    if kinds.keys() & {"date", "datetime", "Timestamp", "datetime64"}:
        return f"Of dates {_DATES}."
    return "Make numbers of it, or names by column.astype(str)."


def _name_kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes/no"
    if isinstance(value, Number) and not isinstance(value, complex):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def is_missing(value: Any) -> bool:
    """None, nan, and pandas' own words for it."""
    if isinstance(value, float | np.floating):
        return bool(value != value)
    return type(value).__name__ in _MISSING_TYPES


def find_missing(column: np.ndarray) -> np.ndarray:
    """Where a plain column has no value, bool (n,)."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind == "b":
        return np.zeros(len(column), bool)
    return np.array([value is None for value in column], bool)


def name_value(value: Any) -> str:
    """What a category is called: text as it is, whole numbers without a point."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def list_categories(table: Any, key: str) -> list[Any] | None:
    """The categories of a pandas column of that type, in their order; None of any other column."""
    names = (
        {str(name): name for name in getattr(table, "columns", table)} if is_table(table) else {}
    )
    column = table[names[key]] if key in names else None
    found = getattr(getattr(column, "dtype", None), "categories", None)
    return None if found is None else found.tolist()


def _as_objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)  # whatever they hold: one object each
    for index, value in enumerate(values):
        array[index] = value.item() if getattr(value, "shape", None) == () else value
    return array


def stack_rows(name: str, rows: Sequence[Any]) -> Any:
    """Rows in a list as one array."""
    if len(rows) and isinstance(rows[0], Mapping):
        raise ValueError(f"`{name}` is a list of dicts: pass pandas.DataFrame({name}).")
    try:
        if len(rows) and all(isinstance(row, Tensor) for row in rows):
            return torch.stack(list(rows))
        array = np.asarray(rows)
        # numbers beside text would all be text
        return np.asarray(rows, dtype=object) if array.dtype.kind == "U" else array
    except (TypeError, ValueError, RuntimeError):
        shapes = Counter(str(getattr(row, "shape", None) or np.shape(row)) for row in rows[:1000])
        found = " and ".join(list(shapes)[:3])
        raise ValueError(
            f"`{name}` must be rows of one shape, got {found}. Pictures must be resized, "
            "sequences padded."
        ) from None


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
