"""Every field of a config dataclass as an option of the command line: names, types and help texts
are read off the dataclass. Nothing here knows which config that is."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
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
    parent: str = "",
) -> None:
    """Add ``--field-name`` for every field, and ``--parent-field`` for those of nested dataclasses.

    Args:
        parser: Gets a group of options, and one for each nested dataclass. They have no defaults:
            what is not given is as the preset has it.
        config_class: A dataclass; help is what ``Args:`` in its docstring says of each field.
        aliases: Other spellings, ``{"--other": "--name"}``.
        parent: Path of a nested dataclass, ``"spare."``.
    """
    about, hints = _read_docstring(config_class), get_type_hints(config_class)
    group = (
        parser.add_argument_group(parent.rstrip("."), about[""])
        if parent
        else parser.add_argument_group("training", "what is not given is as the preset has it")
    )
    for field in fields(config_class):
        path, hint = parent + field.name, hints[field.name]
        if isinstance(hint, type) and is_dataclass(hint):
            add_config_options(parser, hint, aliases=aliases, parent=f"{path}.")
        if path in skip or is_dataclass(hint):
            continue
        name = "--" + path.replace(".", "-").replace("_", "-")
        others = [other for other, target in (aliases or {}).items() if target == name]
        how: dict[str, Any] = {"dest": _PREFIX + path, "default": argparse.SUPPRESS}
        if hint is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how |= {"type": parse_as(hint), "metavar": _describe(hint, _METAVARS, "|")}
        group.add_argument(name, *others, **how, help=about.get(field.name, ""))


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

    def parse(text: str) -> Any:
        # None first and text last, since any text is text
        for kind in sorted(_members(hint), key=lambda kind: (kind is str) - (kind is NoneType)):
            with suppress(ValueError, KeyError):
                return _parse(kind, text)
        raise argparse.ArgumentTypeError(f"must be {_describe(hint, _WORDS, ' or ')}, got {text!r}")

    return parse


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


def _read_docstring(config_class: type) -> dict[str, str]:
    """``{field: text}`` of the section ``Args:``, and its first line as ``""``; no backticks."""
    text = inspect.cleandoc(config_class.__doc__ or "").replace("`", "").replace("%", "%%")
    section = text.partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^ {4}(\w[\w, ]*): ", section, flags=re.MULTILINE)[1:]
    about = {
        name: " ".join(words.split())
        for names, words in zip(entries[::2], entries[1::2], strict=True)
        for name in names.split(", ")
    }
    return about | {"": text.partition("\n")[0]}
