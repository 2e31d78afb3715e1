"""Every field of a config dataclass as an option of the command line: names, types and help texts
are read off the dataclass. Nothing here knows which config that is."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_PREFIX = "config."  # of the names under which argparse keeps the values
_WORDS = {int: "a whole number", float: "a number", str: "text", NoneType: "none"}
_METAVARS = {int: "N", float: "X", str: "TEXT", NoneType: "none"}


def add_config_options(
    parser: argparse.ArgumentParser,
    config_class: type,
    *,
    skip: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> None:
    """Add ``--field-name`` for every field, and ``--parent-field`` for those of nested dataclasses.

    Args:
        parser: Gets a group of its own for them, without defaults: those are a preset's.
        config_class: A dataclass; help is what ``Args:`` in its docstring says of each field.
        skip: Fields without an option.
        aliases: Other spellings, ``{"--other": "--name"}``; ignored where ``--name`` is not there.
    """
    group = parser.add_argument_group("training", "what is not given is as the preset has it")
    for path, hint, about in _walk(config_class):
        if path in skip:
            continue
        name = "--" + path.replace(".", "-").replace("_", "-")
        others = [other for other, target in (aliases or {}).items() if target == name]
        how: dict[str, Any] = {"dest": _PREFIX + path, "default": argparse.SUPPRESS}
        if hint is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how |= {"type": parse_as(hint), "metavar": _describe(hint, _METAVARS, "|")}
        group.add_argument(name, *others, **how, help=about.replace("%", "%%"))


def read_config_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given, for `change_config`: ``{"lr": 0.1, "spare.branches": 2}``."""
    return {
        key.removeprefix(_PREFIX): value
        for key, value in vars(args).items()
        if key.startswith(_PREFIX)
    }


def change_config(config: Any, changes: Mapping[str, Any]) -> Any:
    """The config with other values in some fields, ``"parent.field"`` for nested ones."""
    whole: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        parent, _, field = path.partition(".")
        if field:
            nested.setdefault(parent, {})[field] = value
        else:
            whole[parent] = value
    for parent, inner in nested.items():
        whole[parent] = change_config(getattr(config, parent), inner)
    return replace(config, **whole)


def parse_as(hint: Any) -> Callable[[str], Any]:
    """A ``type`` for argparse that reads ``int``, ``float``, ``str``, a ``Literal``, a tuple as
    ``1,2``, None as ``none``, or a union of them."""
    return partial(_parse_any, hint)


def _parse_any(hint: Any, text: str) -> Any:
    # None first and text last, since any text is text
    for kind in sorted(_members(hint), key=lambda kind: (kind is str) - (kind is NoneType)):
        try:
            return _parse(kind, text)
        except (ValueError, KeyError):
            continue
    raise argparse.ArgumentTypeError(f"must be {_describe(hint, _WORDS, ' or ')}, got {text!r}")


def _members(hint: Any) -> Sequence[Any]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]


def _parse(kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        return {str(value): value for value in get_args(kind)}[text]
    if get_origin(kind) is tuple:
        pairs = zip(get_args(kind), text.split(","), strict=True)
        return tuple(_parse(one, part) for one, part in pairs)
    convert = {"none": None}.__getitem__ if kind is NoneType else kind
    return convert(text)


def _describe(hint: Any, words: Mapping[Any, str], between: str) -> str:
    """All that may be given, ``"N|double"`` or ``"a whole number or 'double'"``."""
    names = []
    for kind in _members(hint):
        if get_origin(kind) is Literal:
            names += map(str if words is _METAVARS else repr, get_args(kind))
        else:
            names.append(words.get(kind) or ",".join(words[one] for one in get_args(kind)))
    return between.join(names)


def _walk(config_class: type, parent: str = "") -> Iterator[tuple[str, Any, str]]:
    """(path, type, help) of every field that is not a dataclass itself."""
    hints, about = get_type_hints(config_class), _read_docstring(config_class)
    for field in fields(config_class):
        hint, path = hints[field.name], parent + field.name
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _walk(hint, f"{path}.")
        else:
            yield path, hint, about.get(field.name, "")


def _read_docstring(config_class: type) -> dict[str, str]:
    """``{field: text}`` of the section ``Args:``, each on one line and without backticks."""
    section = inspect.cleandoc(config_class.__doc__ or "").partition("Args:\n")[2]
    entries = re.split(r"^ {4}(\w[\w, ]*): ", section.partition("\n\n")[0], flags=re.MULTILINE)[1:]
    return {
        name: " ".join(text.replace("`", "").split())
        for names, text in zip(entries[::2], entries[1::2], strict=True)
        for name in names.split(", ")
    }
