"""Groupings as lists of task names: from labels and back, and how alike two of them are."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

Groups = list[list[str]]
"""Task names by group."""


def groups_from_labels(labels: Sequence[int], task_names: Sequence[str]) -> Groups:
    """One group label per task -> lists of task names, in label order, without empty groups."""
    if len(labels) != len(task_names):
        raise ValueError(f"{len(labels)} labels for {len(task_names)} tasks; pass one per task.")
    return [
        [name for name, own in zip(task_names, labels, strict=True) if own == label]
        for label in sorted(set(labels))
    ]


def labels_from_groups(groups: Sequence[Sequence[str]], task_names: Sequence[str]) -> list[int]:
    """Group index of every task, in the order of ``task_names``.

    Raises:
        ValueError: If the groups are not a partition of the tasks.
    """
    label_of = {name: k for k, group in enumerate(groups) for name in group}
    if sorted(name for group in groups for name in group) != sorted(task_names):
        raise ValueError(
            f"`groups` must name each of the {len(task_names)} tasks {list(task_names)} exactly "
            f"once, got {[list(group) for group in groups]}."
        )
    return [label_of[name] for name in task_names]


def list_members(group_of: Sequence[int], n_tasks: int, n_groups: int) -> list[list[int]]:
    """Tasks of each group, from one group a task.

    Raises:
        ValueError: If it is not a group for each task.
    """
    if len(group_of) != n_tasks or not all(0 <= k < n_groups for k in group_of):
        wanted = f"{n_tasks} integers in 0..{n_groups - 1}"
        raise ValueError(f"`group_of` must hold {wanted}, got {group_of}.")
    return [[n for n, own in enumerate(group_of) if own == k] for k in range(n_groups)]


def mark_members(members: Sequence[Sequence[int]], n_tasks: int, n_groups: int) -> list[list[bool]]:
    """Which task is in which group, (N, K); groups may overlap.

    Raises:
        ValueError: If a task is unknown or in no group, or there are other than K groups.
    """
    if len(members) != n_groups or not all(0 <= n < n_tasks for group in members for n in group):
        raise ValueError(
            f"`members` must hold {n_groups} lists of integers in 0..{n_tasks - 1}, got {members}."
        )
    marks = [[n in group for group in map(set, members)] for n in range(n_tasks)]
    if alone := [n for n, own in enumerate(marks) if not any(own)]:
        raise ValueError(f"`members` {members} leaves task {alone[0]} without a group.")
    return marks


def compute_agreement(groups: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> float:
    """Adjusted Rand index of two groupings of the same tasks: 1 identical, about 0 chance.

    Source:
        Hubert and Arabie (1985): pairs that both groupings put together, corrected for chance.
        Two trivial groupings that are equal score 1.

    Raises:
        ValueError: If the two are not groupings of the same tasks.
    """
    names = sorted(name for group in groups for name in group)
    others_names = sorted(name for group in others for name in group)
    if names != others_names or len(set(names)) != len(names):
        differing = sorted(set(names) ^ set(others_names))
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            "the two groupings must name the same tasks, each once; in only one of them: "
            f"{differing}, more than once: {twice}."
        )
    both = sum(comb(len(set(a) & set(b)), 2) for a in groups for b in others)
    in_a, in_b = (sum(comb(len(group), 2) for group in own) for own in (groups, others))
    expected = in_a * in_b / max(comb(len(names), 2), 1)
    highest = (in_a + in_b) / 2
    if highest == expected:  # all together or all apart in both
        return float(sum(map(bool, groups)) == sum(map(bool, others)))
    return (both - expected) / (highest - expected)
