"""The grouped network: stem -> K branches -> heads, and the (N, K) loss matrix they all serve.

One class is every method: a learned assignment is DMTG, a fixed one is Naive MTL (one group),
STL (N groups) or any other grouping. How it is trained is in `step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Self, cast

import torch
from torch import Tensor, nn

from dmtg_lite.core.arrays import scale_inputs
from dmtg_lite.core.assignment import Assignment
from dmtg_lite.core.batches import Targets
from dmtg_lite.core.dense import build_heads
from dmtg_lite.core.encoder import Encoder
from dmtg_lite.core.heads import Heads, stack_losses
from dmtg_lite.core.tasks import Task, check_unique


class GroupedNetwork(nn.Module):
    """N tasks served by K branches behind an optional shared stem (Figure 2 of the paper).

    Built by `naive`, `branch_out` and `prune`; the constructor takes the parts.

    Args:
        tasks: The N tasks, in row order.
        stem: Stages shared by all groups; an empty `nn.Sequential` shares nothing.
        branches: K encoders, each from stem output to (B, D) features, or to maps.
        heads: Those of each branch, for the tasks whose head in that branch exists.
        assignment: Of shape (N, K), learned or fixed.
    """

    layout = torch.channels_last  # of pictures, as its convolutions want them

    def __init__(
        self,
        tasks: Sequence[Task],
        stem: nn.Module,
        branches: Sequence[nn.Module],
        heads: Sequence[Heads],
        assignment: Assignment,
    ) -> None:
        super().__init__()
        self.tasks = check_unique(tasks)
        self.stem = stem
        self.branches = cast("list[nn.Module]", nn.ModuleList(branches))
        self.heads = cast("list[Heads]", nn.ModuleList(heads))
        self.assignment = assignment
        self.branch_ids = list(range(len(branches)))  # a branch keeps its number when others close
        self.n_opened = len(branches)
        self.n_spare: int | None = 0  # branches that are to close; None: the costs will say
        self.index()

    def index(self) -> None:
        """Where heads and branches stand in matrices, as buffers, so that no step copies them."""
        row_of = {task.name: n for n, task in enumerate(self.tasks)}
        for head in self.heads:
            head.place(row_of)
        columns = torch.tensor(self.branch_ids, device=self.device)
        self.register_buffer("_columns", columns, persistent=False)

    @classmethod
    def naive(
        cls, tasks: Sequence[Task], encoder: Encoder, *, shared: int = 0, head_hidden: int = 0
    ) -> Self:
        """Naive MTL: one branch with all N heads.

        Args:
            tasks: The N tasks, in row order.
            encoder: Its first ``shared`` stages become the stem, the others the branch.
            head_hidden: Hidden units of each head; see `heads.FlatHeads`.

        Raises:
            ValueError: If no stage is left for the branch, or features do not suit the tasks.
        """
        n_stages = len(encoder.stages)
        if not 0 <= shared < n_stages:
            raise ValueError(
                f"`shared` must be in 0..{n_stages - 1}, got {shared}: the encoder has {n_stages} "
                "stages and a branch needs one of its own."
            )
        stem, branch = encoder.stages[:shared], encoder.stages[shared:]
        heads = build_heads(encoder, tasks, hidden=head_hidden)
        together = Assignment(len(tasks), 1, group_of=[0] * len(tasks))
        return cls(tasks, nn.Sequential(*stem), [nn.Sequential(*branch)], [heads], together)

    @property
    def n_groups(self) -> int:
        return len(self.branches)

    @property
    def device(self) -> torch.device:
        return self.assignment.active.device

    def branch_out(
        self,
        n_groups: int,
        *,
        group_of: Sequence[int] | None = None,
        members: Sequence[Sequence[int]] | None = None,
        jitter: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> GroupedNetwork:
        """Copy this Naive MTL network into K identical branches (section 4.1, Optimization).

        Args:
            n_groups: K, how many groups.
            group_of, members: Fix the assignment, see `Assignment`; each branch then has only its
                own heads. ``None`` learns it, with all K x N heads.
            jitter: Noise on every copy, relative to each tensor's standard deviation; 0 in the
                paper, where the noise of the draws alone separates identical branches.
            generator: Source of the jitter (on the CPU).
        """
        if self.n_groups != 1:
            raise ValueError(
                f"only a network with one branch can be copied K times, this has {self.n_groups}."
            )
        assignment = Assignment(len(self.tasks), n_groups, group_of=group_of, members=members)
        served = [column.nonzero().flatten().tolist() for column in assignment.active.T]
        new = GroupedNetwork(
            self.tasks,
            deepcopy(self.stem),
            [deepcopy(self.branches[0]) for _ in range(n_groups)],
            [self.heads[0].keep(rows) for rows in served],
            assignment.to(self.device),
        )
        if jitter:
            _shake([*new.branches, *new.heads], jitter, generator)
        return new.train(self.training)

    def _run_branches(self, inputs: Tensor) -> list[Tensor]:
        """Features of every branch: (B, ...) -> K tensors (B, D) or maps."""
        shared = self.stem(scale_inputs(inputs))
        return [branch(shared) for branch in self.branches]

    def compute_loss_matrix(self, inputs: Tensor, targets: Targets) -> Tensor:
        """Loss of every head, mean over the batch: L in equation (4).

        Args:
            inputs: Features: pictures uint8, or float in [0, 1], (B, C, H, W); tables (B, D), ...
            targets: As `Batches.take` gives them: (B, N), or a list of dense tasks.
        """
        features = self._run_branches(inputs)
        outputs = [head(x) for head, x in zip(self.heads, features, strict=True)]
        return stack_losses(self.heads, outputs, targets, len(self.tasks))

    def compute_split_losses(self, inputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The loss matrix twice, equal in value: one teaches encoders and S, the other heads.

        A head may then learn from every batch although its branch listens to few of its tasks.

        Returns:
            Two tensors (N, K): with the heads held still, and with the features held still.
        """
        pairs, n = list(zip(self.heads, self._run_branches(inputs), strict=True)), len(self.tasks)
        held = stack_losses(self.heads, [head.hold(x) for head, x in pairs], targets, n)
        return held, stack_losses(self.heads, [h(x.detach()) for h, x in pairs], targets, n)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Predict every task from its most probable group.

        Returns:
            ``{task name: logits (B, n_outputs)}``, in task order; of a dense task
            (B, n_outputs, H, W): logits, or numbers in the task's own unit.
        """
        features = self._run_branches(inputs)
        named = [head.split(head(x)) for head, x in zip(self.heads, features, strict=True)]
        group_of = self.assignment.group_of().tolist()
        return {t.name: named[k][t.name] for t, k in zip(self.tasks, group_of, strict=True)}

    def prune(self) -> GroupedNetwork:
        """A new, smaller network: N heads, each in its most probable group; no empty branch.

        Predictions equal this network's own, value for value; this network stays as it is.
        """
        group_of = self.assignment.group_of().tolist()
        used = sorted(set(group_of))
        heads = []
        for k in used:
            own = [n for n, group in enumerate(group_of) if group == k]
            heads.append(self.heads[k].keep([self.heads[k].served.index(n) for n in own]))
        pruned = GroupedNetwork(
            self.tasks,
            deepcopy(self.stem),
            [deepcopy(self.branches[k]) for k in used],
            heads,
            Assignment(len(self.tasks), len(used), group_of=[used.index(k) for k in group_of]),
        )
        return pruned.to(self.device).train(self.training)

    def widen(self, matrix: Tensor, fill: float = 0.0) -> Tensor:
        """Columns of open branches -> of all ever opened, closed ones ``fill``: (N, n_opened)."""
        if self.n_groups == self.n_opened:
            return matrix
        wide = matrix.new_full((len(matrix), self.n_opened), fill)
        return wide.index_copy(1, cast("Tensor", self._columns), matrix)


@torch.no_grad()
def _shake(modules: Sequence[nn.Module], jitter: float, generator: torch.Generator | None) -> None:
    """Add noise to all weights, of ``jitter`` times each tensor's own standard deviation."""
    for weight in [weight for module in modules for weight in module.parameters()]:
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        weight.add_(noise, alpha=jitter * float(weight.std(correction=0)))
