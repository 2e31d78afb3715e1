"""Who trains where, as one (N, K) matrix: the draw of section 3.2 and the module that holds S.

Rows are tasks, columns are groups. Plain tensors: no features, no encoders, no optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dmtg_lite.core.arrays import as_floats
from dmtg_lite.core.checks import as_number, as_whole, describe
from dmtg_lite.core.groups import Groups, groups_from_labels, list_members, mark_members

Estimator = Literal["gumbel", "straight_through", "softmax"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


Noise = torch.Generator | Tensor | None
"""Where the noise of a draw comes from; a tensor (N, K) is the noise itself, of `draw_gumbel`."""


def draw_gumbel(like: Tensor, noise: Noise) -> Tensor:
    """Gumbel noise (N, K), made where the generator is: a seed means the same on every device."""
    if isinstance(noise, Tensor):
        return noise
    where = like.device if noise is None else noise.device
    # minus the log of an exponential variable is a Gumbel one: drawn as F.gumbel_softmax draws
    gumbel = -torch.empty_like(like, device=where).exponential_(generator=noise).log()
    return gumbel.to(like.device, non_blocking=like.is_cuda)


def sample_assignment(
    logits: Tensor, tau: float | Tensor, *, estimator: Estimator = "gumbel", generator: Noise = None
) -> Tensor:
    """Draw one relaxed assignment Z: row n is how each of K groups shares the loss of task n.

    Args:
        logits: S, shape (N, K): unnormalised log-probabilities; -inf where a head is pruned.
        tau: Temperature, > 0: how far a draw is from one-hot, not which group wins most often.
            Towards 0: one-hot rows; large: rows near 1/K. A tensor's value is not looked at.
        estimator: ``"gumbel"``: softmax((S + g) / tau), the paper. ``"straight_through"``: the same
            draw rounded to one-hot rows, with the gradient of the relaxed one. ``"softmax"``:
            softmax(S), neither noise nor tau; only rounding separates identical branches.
        generator: Source of the Gumbel noise; ``None`` uses torch's global one. Or the noise.

    Returns:
        Z, shape (N, K), dtype and device of ``logits``; every row sums to 1.

    Source:
        Equation (5). One draw serves the whole batch, as in the authors' released code.

    Example:
        >>> sample_assignment(torch.tensor([[50.0, 0.0]]), tau=1.0).round()
        tensor([[1., 0.]])
    """
    logits = as_floats("logits", logits)
    if logits.ndim != 2:
        raise ValueError(f"`logits` must have shape (n_tasks, n_groups), got {describe(logits)}.")
    if not (isinstance(tau, Tensor) or (as_number(tau) or 0) > 0):  # no wait for a device
        raise ValueError(f"`tau` must be > 0, got {tau!r}. Typical values are 0.5 to 5.")
    if estimator not in ESTIMATORS:
        raise ValueError(f"`estimator` must be one of {ESTIMATORS}, got {estimator!r}.")
    if estimator == "softmax":
        return logits.softmax(-1)
    relaxed = ((logits + draw_gumbel(logits, generator)) / tau).softmax(-1)  # (N, K)
    if estimator == "gumbel":
        return relaxed
    one_hot = torch.zeros_like(relaxed).scatter_(-1, relaxed.argmax(-1, keepdim=True), 1.0)
    return one_hot - relaxed.detach() + relaxed  # value: one_hot; gradient: that of relaxed


class Assignment(nn.Module):
    """Which group each task belongs to: learned logits S, or fixed once and for all.

    A learned assignment starts at S = 1/K (section 3.4). A fixed one turns the same network into a
    baseline: one group is Naive MTL, N groups are STL.

    Args:
        n_tasks, n_groups: N and K.
        group_of: Group of each task, N integers in 0..K-1, to fix the assignment.
        members: Tasks of each group, K lists of integers in 0..N-1, which may overlap; every task
            must be in one. ``None`` for both learns the assignment.
    """

    logits: nn.Parameter | None  # S, (N, K); None when fixed
    active: Tensor  # heads that exist, bool (N, K); a pruned head never comes back

    def __init__(
        self,
        n_tasks: int,
        n_groups: int,
        *,
        group_of: Sequence[int] | None = None,
        members: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        n_tasks, n_groups = as_whole("n_tasks", n_tasks, 1), as_whole("n_groups", n_groups, 1)
        if group_of is not None:
            members = list_members(group_of, n_tasks, n_groups)
        if members is None:
            logits = nn.Parameter(torch.full((n_tasks, n_groups), 1.0 / n_groups))
            active = torch.ones(n_tasks, n_groups, dtype=torch.bool)
        else:
            logits, active = None, torch.tensor(mark_members(members, n_tasks, n_groups))
        self.register_parameter("logits", logits)
        self.register_buffer("active", active)

    @property
    def is_fixed(self) -> bool:
        return self.logits is None

    def masked_logits(self) -> Tensor:
        """S with -inf at pruned heads, shape (N, K); a fixed assignment reads 0 and -inf."""
        logits = self.logits
        if logits is None:
            logits = torch.zeros_like(self.active, dtype=torch.float32)
        return logits.masked_fill(~self.active, -torch.inf)

    def probabilities(self) -> Tensor:
        """Assignment probabilities softmax(S), shape (N, K), detached."""
        return self.masked_logits().detach().softmax(-1)

    def draw_noise(self, estimator: Estimator, generator: torch.Generator) -> Tensor | None:
        """What `sample` takes of chance, (N, K); None where it takes nothing."""
        if self.logits is None or estimator == "softmax":
            return None
        return draw_gumbel(self.logits.detach(), generator)

    def sample(
        self, tau: float | Tensor, *, estimator: Estimator = "gumbel", generator: Noise = None
    ) -> Tensor:
        """One draw Z, (N, K); a fixed assignment returns its heads as 0 and 1 and draws nothing."""
        if self.is_fixed:
            return self.active.to(torch.float32)
        logits = self.masked_logits()
        return sample_assignment(logits, tau, estimator=estimator, generator=generator)

    def group_of(self) -> Tensor:
        """Most probable group of each task, int64 of shape (N,)."""
        return self.probabilities().argmax(-1)

    def groups(self, task_names: Sequence[str]) -> Groups:
        """Task names by group; empty groups are dropped, since K is a maximum (section 3.1)."""
        return groups_from_labels(self.group_of().tolist(), task_names)
