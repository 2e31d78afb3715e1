"""One number in, whoever made it: numpy's, torch's and Python's own are the same to a setting."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from operator import index
from typing import Any, SupportsFloat

MOST = 2**31 - 1  # of whatever is counted: steps are kept in 32 bits


def as_whole(name: str, value: Any, least: int, hint: str = "", *, most: int = MOST) -> int:
    """The whole number that a value is, of Python's own type, so that it prints and saves alike.

    Args:
        name: Of the argument, for the message.
        value: An int, numpy's or torch's integer, or an array of one; no bool and no float.
        least, most: Smallest and largest number allowed.
        hint: What else would be allowed, e.g. `` or "auto"``.

    Raises:
        ValueError: If it is none, smaller or larger.
    """
    try:
        number = None if _is_flag(value) else index(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        number = None
    if number is None or number < least:
        raise ValueError(
            f"`{name}` must be a whole number >= {least}{hint}, got {describe(value)}."
        )
    if number > most:
        raise ValueError(f"`{name}` must be at most {most}, got {describe(value)}.")
    return number


def as_number(value: Any) -> float | int | None:
    """The finite number that a value is, of Python's own type; None if it is none."""
    if _is_flag(value) or not isinstance(value, SupportsFloat):
        return None
    if type(value) is int:
        return value if abs(value) < 1e300 else None
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if isfinite(number) else None


def describe(value: Any) -> str:
    """A value for a message: as it prints if that is short, else its type and shape."""
    text = repr(value)
    if len(text) <= 80 and "\n" not in text and getattr(value, "shape", ()) == ():
        return text
    kind = f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"
    kind, shape = kind.removeprefix("builtins."), getattr(value, "shape", None)
    if not isinstance(shape, tuple):
        return kind
    dtype = str(getattr(value, "dtype", "mixed types")).removeprefix("torch.")
    return f"{kind} of {dtype} and shape {tuple(shape)}"


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse what is none of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {tuple(choices)}, got {describe(value)}.")


def check_kind(name: str, value: Any, kind: type, example: str) -> None:
    """Refuse an argument that is something else altogether, with what would do."""
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` must be a {kind.__name__}, {example}, got {describe(value)}.")


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))
