"""What a JSON file may hold, said by type hints and checked where it is read.

The hints are those of the dataclasses and typed dictionaries that the values become: there is no
second list of fields. No torch, so that recordings can use it.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from pathlib import Path
from reprlib import repr as shorten
from types import NoneType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from dmtg_lite.files import check_is_file

AnyFloat = Annotated[float, "also nan or infinite, for which Python has words in JSON"]
_MAX_BYTES = 256 << 20  # of a JSON file: the largest of ours, a comparison's, is a few MB
_WORDS = {
    int: "a whole number >= 0",
    float: "a finite number",
    AnyFloat: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
    NoneType: "null",
}


class FieldError(ValueError):
    """What was read is not what the schema says; the message names the field."""


def read_json(path: str | Path, hint: Any) -> Any:
    """The value in a JSON file, checked by `check_value`.

    Raises:
        FileNotFoundError: If there is no such file.
        FieldError: If it is something else; the message names file and field.
    """
    path = check_is_file(path)
    if path.stat().st_size > _MAX_BYTES:
        raise FieldError(f"{path} is too large for a description ({path.stat().st_size} bytes).")
    try:
        return parse_json(path.read_bytes(), hint)
    except FieldError as error:
        raise FieldError(f"{path}: {error}") from None


def parse_json(text: str | bytes, hint: Any) -> Any:
    """The same of text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, or nested thousands deep
        raise FieldError(f"this is no JSON that can be read ({error}).") from None
    check_value(value, hint)
    return value


def check_value(value: Any, hint: Any, field: str = "") -> None:
    """Compare what JSON gave with a type hint.

    A whole number is never negative (in our files it counts something), a float is finite unless
    the hint is `AnyFloat`. Of objects all named fields must be there, and others may be.

    Args:
        hint: ``int``, ``float``, `AnyFloat`, ``bool``, ``str``, None, ``Any``, a ``Literal``, a
            list, dict, tuple or union of hints; a dataclass, a ``TypedDict`` or a
            ``{field: hint}``.
        field: Name of the value, for the message.

    Raises:
        FieldError: "`closings[0].step` must be a whole number >= 0, got 'x'."
    """
    kind, inner = get_origin(hint), get_args(hint)
    named = _name_fields(hint)
    if named is not None:
        _expect(isinstance(value, dict), dict, value, field)
        for name, (own, is_needed) in named.items():
            if name in value:
                check_value(value[name], own, f"{field}.{name}".lstrip("."))
            elif is_needed:
                raise FieldError(f"`{f'{field}.{name}'.lstrip('.')}` is missing.")
    elif kind in (list, tuple):
        _expect(isinstance(value, list), list, value, field)
        is_fixed = kind is tuple and ... not in inner
        if is_fixed and len(value) != len(inner):
            raise FieldError(f"`{field}` must hold {len(inner)} values, got {len(value)}.")
        hints = inner if is_fixed else inner[:1] * len(value)
        for index, (one, own) in enumerate(zip(value, hints, strict=True)):
            check_value(one, own, f"{field}[{index}]")
    elif kind is dict:
        _expect(isinstance(value, dict), dict, value, field)
        for key, one in value.items():
            check_value(one, inner[1], f"{field}[{shorten(key)}]")
    elif kind is Literal:
        if not any(type(value) is type(one) and value == one for one in inner):
            raise FieldError(f"`{field}` must be one of {inner}, got {shorten(value)}.")
    elif inner and kind is not Annotated:  # a union: None, or what the last member says
        others = [own for own in inner if own is not NoneType]
        if not (value is None and NoneType in inner):
            check_value(value, others[0] if len(others) == 1 else _choose(value, others), field)
    elif hint is not Any:
        _expect(_fits(value, hint), hint, value, field)


def _name_fields(hint: Any) -> dict[str, tuple[Any, bool]] | None:
    """``{field: (hint, whether it must be there)}`` of what has fields."""
    if isinstance(hint, dict):
        return {name: (own, True) for name, own in hint.items()}
    if is_typeddict(hint):
        return {name: _unwrap(own) for name, own in _get_hints(hint).items()}
    if isinstance(hint, type) and is_dataclass(hint):
        hints = _get_hints(hint)
        optional = {f.name for f in fields(hint) if {f.default, f.default_factory} != {MISSING}}
        return {f.name: (hints[f.name], f.name not in optional) for f in fields(hint)}
    return None


def _unwrap(hint: Any) -> tuple[Any, bool]:
    is_optional = get_origin(hint) is NotRequired
    return (get_args(hint)[0], False) if is_optional else (hint, True)


def _get_hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner, include_extras=True)


def _fits(value: Any, hint: Any) -> bool:
    if hint is int:
        return type(value) is int and 0 <= value < 1 << 63
    if hint in (float, AnyFloat):
        if type(value) is int:
            return abs(value) < 1 << 1000
        return type(value) is float and (hint == AnyFloat or isfinite(value))
    return type(value) is (NoneType if hint is None else hint)


def _choose(value: Any, hints: list[Any]) -> Any:
    """Of a union the member that a value is meant to be: that of its own type."""
    return next((own for own in hints if type(value) is (get_origin(own) or own)), hints[-1])


def _expect(is_right: bool, hint: Any, value: Any, field: str) -> None:
    if not is_right:
        where = f"`{field}`" if field else "this"
        raise FieldError(f"{where} must be {_WORDS[hint]}, got {shorten(value)}.")
