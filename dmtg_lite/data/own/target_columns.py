"""Targets by name, whatever they came in: which column is which task, and what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmtg_lite.core.checks import describe
from dmtg_lite.core.columns import (
    Columns,
    as_columns,
    as_frame,
    is_table,
    list_categories,
    stack_rows,
)
from dmtg_lite.core.tasks import Task, check_unique
from dmtg_lite.data.own.kinds import Wish


def read_targets(targets: Any, tasks: Any) -> tuple[Columns, dict[str, Wish]]:
    """The targets as plain columns by name, and what was said of each.

    Args:
        targets: A table, or an array (n,) or (n, tasks), or lists.
        tasks: ``None``; names, in the order of an array's columns or as a choice of a table's; or
            `Task`s; or ``{name: "yes/no", "classes", "number" or Task}``, of some.

    Raises:
        ValueError: If names do not fit.
    """
    if isinstance(tasks, str | Task):
        tasks = [tasks]
    wishes: dict[str, Wish] = {}
    names = None
    if isinstance(tasks, Mapping):
        wishes = {str(name): wish for name, wish in tasks.items()}
    elif tasks is not None:
        if not isinstance(tasks, list | tuple) or not all(isinstance(t, str | Task) for t in tasks):
            raise ValueError(
                f"`tasks` must be names, Tasks or {{name: kind}}, got {describe(tasks)}."
            )
        listed = [one if isinstance(one, Task) else Task(one) for one in tasks]
        names = [task.name for task in check_unique(listed)]
        wishes = {one.name: one for one in tasks if isinstance(one, Task)}
    columns = _name_targets(targets, names or (list(wishes) or None))
    if unknown := [name for name in names or wishes if name not in columns]:
        raise ValueError(f"`tasks` names {unknown[:5]}; `targets` has {list(columns)[:20]}.")
    if not columns:
        raise ValueError("`targets` is empty: pass {name: column}, one for each task.")
    names = names or list(columns)
    return {name: columns[name] for name in names}, {name: wishes.get(name) for name in names}


def _name_targets(targets: Any, names: list[str] | None) -> Columns:
    targets = as_frame(targets, names[0] if names and len(names) == 1 else "target")
    if is_table(targets):
        return as_columns("targets", targets)
    raw = stack_rows("targets", targets) if isinstance(targets, list | tuple) else targets
    shape = getattr(raw, "shape", None)
    shape = shape if isinstance(shape, tuple) else ()
    if len(shape) == 1:
        return as_columns("targets", {names[0] if names and len(names) == 1 else "target": raw})
    if len(shape) != 2:
        raise ValueError(
            "`targets` must be {name: column}, a DataFrame, or an array (n,) or (n, tasks), got "
            f"{describe(targets)}."
        )
    if names is None or len(names) != shape[1]:
        if names is not None:
            raise ValueError(f"`tasks` names {len(names)} tasks; `targets` has {shape[1]} columns.")
        names = [f"task{k}" for k in range(shape[1])]
    return as_columns("targets", raw, names)


def order_of(targets: Any, name: str) -> list[Any] | None:
    """The categories of a target of pandas, in their order."""
    return list_categories(as_frame(targets, name), name)
