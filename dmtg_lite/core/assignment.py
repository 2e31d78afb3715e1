"""The categorical pruning core: who trains where, as one (N, K) matrix (section 3 of the paper).

Rows are tasks, columns are groups. Everything here is plain tensors: no images, no encoders, no
optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import torch
from torch import Tensor, nn

ESTIMATORS = ("gumbel", "straight_through", "softmax")


def sample_assignment(
    logits: Tensor,
    tau: float,
    *,
    estimator: str = "gumbel",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one relaxed assignment Z of tasks to groups.

    Row n says how much of task n's loss each of the K groups carries in this step. ``tau`` decides
    how far a draw is from one-hot, not which group wins most often.

    Args:
        logits: S, shape (N, K): unnormalised log-probabilities; -inf where a head is pruned.
        tau: Temperature, > 0, no unit. Towards 0: one-hot rows; large: rows near 1/K.
        estimator: ``"gumbel"``: softmax((S + g) / tau), the paper. ``"straight_through"``: the
            same draw rounded to one-hot rows, with the gradient of the relaxed one.
            ``"softmax"``: softmax(S) with neither noise nor tau; identical branches never
            separate under it.
        generator: Source of the Gumbel noise; ``None`` uses torch's global one.

    Returns:
        Z, shape (N, K), dtype and device of ``logits``; every row sums to 1.

    Raises:
        ValueError: If ``logits`` is not 2-D, ``tau`` is not positive or the estimator is unknown.

    Source:
        Equation (5). One draw serves the whole batch, as in the authors' released code.

    Example:
        >>> sample_assignment(torch.tensor([[50.0, 0.0]]), tau=1.0).round()
        tensor([[1., 0.]])
    """
    if logits.ndim != 2:
        raise ValueError(
            f"`logits` must have shape (n_tasks, n_groups), got {tuple(logits.shape)}. "
            "Pass the whole matrix S, not one task's row."
        )
    if not tau > 0:  # written this way so that NaN is refused too
        raise ValueError(f"`tau` must be > 0, got {tau}. Typical values are 0.5 to 5.")
    if estimator not in ESTIMATORS:
        raise ValueError(f"`estimator` must be one of {ESTIMATORS}, got {estimator!r}.")
    if estimator == "softmax":
        return logits.softmax(-1)
    # log of an exponential variable is minus a Gumbel variable; the call order is torch's own
    gumbel = -torch.empty_like(logits).exponential_(generator=generator).log()  # (N, K)
    relaxed = ((logits + gumbel) / tau).softmax(-1)  # (N, K)
    if estimator == "gumbel":
        return relaxed
    one_hot = torch.zeros_like(relaxed).scatter_(-1, relaxed.argmax(-1, keepdim=True), 1.0)
    return one_hot - relaxed.detach() + relaxed  # value: one_hot; gradient: that of relaxed


class Assignment(nn.Module):
    """Which group each task belongs to: learned logits S, or fixed once and for all.

    A learned assignment starts at S = 1/K (section 3.4, Initialization). A fixed one turns the
    same network into a baseline: one group is Naive MTL, N groups are STL.

    Args:
        n_tasks: N.
        n_groups: K.
        group_of: Group of each task, N integers in 0..K-1, to fix the assignment; ``None`` learns
            it.
        members: Tasks of each group, K lists of integers in 0..N-1, to fix an assignment whose
            groups may overlap; every task must be in one. ``None`` unless ``group_of`` is.

    Attributes:
        logits: S, shape (N, K): a parameter, or ``None`` when fixed.
        active: Heads that exist, bool of shape (N, K); a pruned head never comes back.

    Raises:
        ValueError: If N or K is below 1, ``group_of`` or ``members`` has another length or range,
            or a task is in no group.
    """

    def __init__(
        self,
        n_tasks: int,
        n_groups: int,
        *,
        group_of: Sequence[int] | None = None,
        members: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if n_tasks < 1 or n_groups < 1:
            raise ValueError(
                f"`n_tasks` and `n_groups` must be >= 1, got {n_tasks} and {n_groups}."
            )
        if members is not None:
            self.register_parameter("logits", None)
            active = _mark_members(n_tasks, n_groups, members)
        elif group_of is None:
            self.logits = nn.Parameter(torch.full((n_tasks, n_groups), 1.0 / n_groups))
            active = torch.ones(n_tasks, n_groups, dtype=torch.bool)
        else:
            group_of = [int(k) for k in group_of]
            if len(group_of) != n_tasks or not all(0 <= k < n_groups for k in group_of):
                raise ValueError(
                    f"`group_of` must hold {n_tasks} integers in 0..{n_groups - 1}, got {group_of}."
                )
            self.register_parameter("logits", None)
            active = torch.zeros(n_tasks, n_groups, dtype=torch.bool)
            active[torch.arange(n_tasks), torch.tensor(group_of)] = True
        self.active: Tensor
        self.register_buffer("active", active)  # (N, K)

    @property
    def is_fixed(self) -> bool:
        return self.logits is None

    @property
    def n_tasks(self) -> int:
        return self.active.shape[0]

    @property
    def n_groups(self) -> int:
        return self.active.shape[1]

    def masked_logits(self) -> Tensor:
        """S with -inf at pruned heads, shape (N, K); a fixed assignment reads 0 and -inf."""
        logits = (
            torch.zeros_like(self.active, dtype=torch.float32) if self.is_fixed else self.logits
        )
        return logits.masked_fill(~self.active, -torch.inf)

    def probabilities(self) -> Tensor:
        """Assignment probabilities softmax(S), shape (N, K), detached."""
        return self.masked_logits().detach().softmax(-1)

    def sample(
        self, tau: float, *, estimator: str = "gumbel", generator: torch.Generator | None = None
    ) -> Tensor:
        """One draw Z of shape (N, K); a fixed assignment returns its heads as 0 and 1 and draws nothing."""
        if self.is_fixed:
            return self.active.to(torch.float32)
        return sample_assignment(
            self.masked_logits(), tau, estimator=estimator, generator=generator
        )

    def group_of(self) -> Tensor:
        """Most probable group of each task, int64 of shape (N,)."""
        return self.probabilities().argmax(-1)

    def groups(self, task_names: Sequence[str]) -> list[list[str]]:
        """Task names by group; empty groups are dropped, since K is a maximum (section 3.1)."""
        return groups_from_labels(self.group_of().tolist(), task_names)

    @torch.no_grad()
    def prune_below(self, threshold: float) -> None:
        """Drop heads whose probability fell below ``threshold``; the winner of a row always stays.

        Stays on the device: no value travels to the host. The paper prunes once, at the end.
        """
        probabilities = self.probabilities()  # (N, K)
        winner = torch.zeros_like(self.active).scatter_(
            -1, probabilities.argmax(-1, keepdim=True), True
        )
        self.active &= (probabilities >= threshold) | winner

    @torch.no_grad()
    def choose(self, group_of: Tensor) -> None:
        """Serve each task of a fixed assignment from one group: where groups overlap, until now
        from several.

        Args:
            group_of: int64 of shape (N,), for each task a group that has it.
        """
        chosen = torch.zeros_like(self.active).scatter_(
            1, group_of.to(self.active.device)[:, None], True
        )
        self.active &= chosen

    @torch.no_grad()
    def close(self, group: int, next_best: Tensor) -> None:
        """Take a group out: its tasks go to their next best one, and S has a column less.

        S keeps each moved task's wish: at its new group it is at least what it was at the old one.

        Args:
            group: The column to take out.
            next_best: For each task the group it moves to if it must, int64 of shape (N,).
        """
        moved = (self.group_of() == group).nonzero().flatten()
        heirs = next_best[moved]
        if self.logits is not None:
            wish = torch.maximum(self.logits[moved, heirs], self.logits[moved, group])
            self.logits[moved, heirs] = wish
            self.logits = nn.Parameter(drop_column(self.logits, group))
        self.active[moved, heirs] = True
        self.active = drop_column(self.active, group)


def _mark_members(n_tasks: int, n_groups: int, members: Sequence[Sequence[int]]) -> Tensor:
    """Which task is in which group: bool (N, K)."""
    active = torch.zeros(n_tasks, n_groups, dtype=torch.bool)
    if len(members) != n_groups or not all(0 <= n < n_tasks for group in members for n in group):
        raise ValueError(
            f"`members` must hold {n_groups} lists of integers in 0..{n_tasks - 1}, got {members}."
        )
    for k, group in enumerate(members):
        active[list(group), k] = True
    if not active.any(1).all():
        raise ValueError(
            f"`members` {members} leaves task {int((~active.any(1)).nonzero()[0])} without a group."
        )
    return active


def drop_column(matrix: Tensor, column: int) -> Tensor:
    """A copy of a (N, K) matrix without one column: (N, K-1)."""
    return torch.cat([matrix[:, :column], matrix[:, column + 1 :]], dim=1)


def groups_from_labels(labels: Sequence[int], task_names: Sequence[str]) -> list[list[str]]:
    """Turn one group label per task into lists of task names, in label order, without empty groups."""
    if len(labels) != len(task_names):
        raise ValueError(
            f"{len(labels)} labels for {len(task_names)} tasks; pass one label per task."
        )
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
            "once, "
            f"got {[list(group) for group in groups]}."
        )
    return [label_of[name] for name in task_names]


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
            "the two groupings must name the same tasks, each once; "
            f"in only one of them: {differing}, more than once: {twice}."
        )
    a, b = labels_from_groups(groups, names), labels_from_groups(others, names)
    both = sum(comb(len(set(x) & set(y)), 2) for x in groups for y in others)
    in_a, in_b = (sum(comb(len(group), 2) for group in grouping) for grouping in (groups, others))
    expected = in_a * in_b / max(comb(len(names), 2), 1)
    highest = (in_a + in_b) / 2
    if highest == expected:  # all together or all apart in both
        return float(len(set(a)) == len(set(b)))
    return (both - expected) / (highest - expected)
