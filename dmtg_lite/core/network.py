"""The grouped network: stem -> K branches -> heads, and the (N, K) loss matrix that everything
serves.

One class is every method: a learned assignment is DMTG, a fixed one is Naive MTL (one group),
STL (N groups) or any other grouping. How it is trained is in `train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dmtg_lite.core.assignment import Assignment
from dmtg_lite.core.dense_heads import DenseHeads
from dmtg_lite.core.encoder import Encoder
from dmtg_lite.core.gradient import ScaleGradient
from dmtg_lite.core.heads import Heads
from dmtg_lite.core.tasks import Task, check_unique


class GroupedNetwork(nn.Module):
    """N tasks served by K branches behind an optional shared stem (Figure 2 of the paper).

    Built by `GroupedNetwork.naive`, `branch_out` and `prune`; the constructor takes the parts.

    Args:
        tasks: The N tasks, in row order.
        stem: Stages shared by all groups; an empty `nn.Sequential` shares nothing.
        branches: K encoders, each from stem output to (B, D) features.
        heads: One `Heads` or `DenseHeads` per branch, for the tasks whose head in that branch
            exists.
        assignment: Of shape (N, K), learned or fixed.
        scale_gradients: Scale gradients by 1 / sqrt(N) where heads meet a branch, and by 1 /
            sqrt(K) where branches meet the stem: sums of many gradients then do not outgrow the
                learning rate.

    Attributes:
        branch_ids: Number that each open branch was opened with; a branch keeps it when others
            close.
        n_opened: Branches there were at the start.
        n_spare: How many of the open branches are to close while training; None: as many as the
            closing costs will say.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        stem: nn.Module,
        branches: Sequence[nn.Module],
        heads: Sequence[Heads | DenseHeads],
        assignment: Assignment,
        *,
        scale_gradients: bool = False,
    ) -> None:
        super().__init__()
        self.tasks = check_unique(tasks)
        self.stem = stem
        self.branches = nn.ModuleList(branches)
        self.heads = nn.ModuleList(heads)
        self.assignment = assignment
        self.scale_gradients = scale_gradients
        self.branch_ids = list(range(len(branches)))
        self.n_opened = len(branches)
        self.n_spare: int | None = 0
        self._index_rows()

    def served_by(self, k: int) -> list[int]:
        """Rows of the tasks that have a head in branch k."""
        row_of = {task.name: n for n, task in enumerate(self.tasks)}
        return [row_of[task.name] for task in self.heads[k].tasks]

    def _index_rows(self) -> None:
        """Rows of every branch's heads in the loss matrix; buffers, so that no step copies them."""
        for k in range(len(self.heads)):
            rows = torch.tensor(self.served_by(k), dtype=torch.long)
            self.register_buffer(f"_rows_{k}", rows.to(self.device), persistent=False)
        self._scale_branches = ScaleGradient(self.n_groups if self.scale_gradients else 1)
        self._scale_heads = ScaleGradient(len(self.tasks) if self.scale_gradients else 1)
        columns = torch.tensor(self.branch_ids, device=self.device)
        self.register_buffer("_columns", columns, persistent=False)

    @classmethod
    def naive(
        cls,
        tasks: Sequence[Task],
        encoder: Encoder,
        *,
        shared: int = 0,
        head_hidden: int = 0,
        scale_gradients: bool = False,
    ) -> GroupedNetwork:
        """Naive MTL: one branch with all N heads.

        Args:
            tasks: The N tasks, in row order.
            encoder: Its stages become stem and branch.
            shared: This many of the first stages go into the stem.
            head_hidden: Hidden units of each head; 0: linear heads, the paper's on CelebA. Decoders
                of dense tasks have none.
            scale_gradients: See the class.

        Raises:
            ValueError: If ``shared`` leaves no stage for the branch, or the encoder's features do
                not suit the tasks.
        """
        if not 0 <= shared < len(encoder.stages):
            raise ValueError(
                f"`shared` must be in 0..{len(encoder.stages) - 1}, got {shared}: "
                f"the encoder has {len(encoder.stages)} stages and a branch needs one of its own."
            )
        if encoder.decoder:
            heads = DenseHeads(encoder.out_features, encoder.decoder, tasks)
        else:
            heads = Heads(encoder.out_features, tasks, hidden=head_hidden)
        return cls(
            tasks,
            nn.Sequential(*encoder.stages[:shared]),
            [nn.Sequential(*encoder.stages[shared:])],
            [heads],
            Assignment(len(tasks), 1, group_of=[0] * len(tasks)),
            scale_gradients=scale_gradients,
        )

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
            n_groups: K.
            group_of: Fix the assignment to these N groups; each branch then has only its own heads.
                ``None`` learns it, with all K x N heads.
            members: The same for groups that may overlap: see `Assignment`.
            jitter: Standard deviation of noise added to every copy, relative to each tensor's own;
                0 in the paper, where the noise of the draws alone separates identical branches.
            generator: Source of the jitter (on the CPU).

        Raises:
            ValueError: If this network has more than one branch.
        """
        if self.n_groups != 1:
            raise ValueError(
                f"only a network with one branch can be copied K times, this has {self.n_groups}."
            )
        n_tasks = len(self.tasks)
        assignment = Assignment(n_tasks, n_groups, group_of=group_of, members=members).to(
            self.device
        )
        served = [assignment.active[:, k].nonzero().flatten().tolist() for k in range(n_groups)]
        new = GroupedNetwork(
            self.tasks,
            deepcopy(self.stem),
            [deepcopy(self.branches[0]) for _ in range(n_groups)],
            [self.heads[0].keep(rows) for rows in served],
            assignment,
            scale_gradients=self.scale_gradients,
        )
        if jitter:
            with torch.no_grad():
                for weight in [*new.branches.parameters(), *new.heads.parameters()]:
                    noise = torch.randn(weight.shape, generator=generator).to(weight)
                    weight.add_(noise, alpha=jitter * float(weight.std(correction=0)))
        return new.train(self.training)

    def close_branch(self, index: int, next_best: Tensor) -> list[nn.Parameter]:
        """Take a branch out for good, with its heads and its column of S; its tasks move on.

        Args:
            index: Position of the branch among those still open.
            next_best: Where each task goes if it must, int64 of shape (N,): positions as ``index``.

        Returns:
            The weights that left, for the optimiser to forget.

        Raises:
            ValueError: If it is the last branch or none, or one lacks a head that it would have to
                take over.
        """
        if self.n_groups == 1:
            raise ValueError("the last branch cannot close: its tasks would have nowhere to go.")
        if not 0 <= index < self.n_groups or next_best.shape != (len(self.tasks),):
            raise ValueError(
                f"`index` must be 0 to {self.n_groups - 1} and `next_best` hold a branch for each "
                "of the "
                f"{len(self.tasks)} tasks, got {index} and shape {tuple(next_best.shape)}."
            )
        moving = (self.assignment.group_of() == index).nonzero().flatten().tolist()
        for n in moving:
            heir = int(next_best[n])
            is_open = 0 <= heir < self.n_groups and heir != index
            if not is_open or n not in self.served_by(heir):
                raise ValueError(
                    f"task {self.tasks[n].name!r} cannot move from branch {index} to {heir}, "
                    "which has no head for it. Only a network with all K x N heads can close "
                    "branches."
                )
        gone = [*self.branches[index].parameters(), *self.heads[index].parameters()]
        self.assignment.close(index, next_best.to(self.device))
        del self.branches[index], self.heads[index], self.branch_ids[index]
        delattr(self, f"_rows_{len(self.branches)}")
        self._index_rows()
        if self.n_spare:
            self.n_spare -= 1
        return gone

    def drop_pruned(self) -> list[nn.Parameter]:
        """Let go of the decoders whose heads `Assignment.prune_below` has dropped.

        Fused heads of classifications stay: they cost less than cutting them would. Branches
            without any
        head left are for `close_branch`.

        Returns:
            The weights that left, for the optimiser to forget.
        """
        gone = []
        for k, head in enumerate(self.heads):
            if isinstance(head, DenseHeads):
                active = self.assignment.active[:, k].tolist()
                gone += head.drop(
                    [place for place, n in enumerate(self.served_by(k)) if not active[n]]
                )
        if gone:
            self._index_rows()
        return gone

    def widen(self, matrix: Tensor) -> Tensor:
        """Columns of the open branches -> columns of all that were ever open: (N, K) -> (N,
        n_opened).

        A closed branch reads 0.
        """
        if self.n_groups == self.n_opened:
            return matrix
        return matrix.new_zeros(len(matrix), self.n_opened).index_copy(1, self._columns, matrix)

    def _run_branches(self, images: Tensor) -> list[Tensor]:
        """Features of every branch: uint8 or [0, 1] images (B, 3, H, W) -> K tensors (B, D) or maps."""
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).mul_(1 / 255)
        shared = self._scale_branches(self.stem(images))
        return [self._scale_heads(branch(shared)) for branch in self.branches]

    def _stack_losses(
        self, outputs: Sequence[Tensor | list[Tensor]], targets: Tensor | Sequence[Tensor]
    ) -> Tensor:
        """Mean losses of all heads from what they say in each of the K branches: (N, K)."""
        is_dense = isinstance(self.heads[0], DenseHeads)
        if not is_dense and all(len(head.tasks) == len(self.tasks) for head in self.heads):
            # a learned grouping of classifications: one kernel
            return self.heads[0].compute_losses(torch.stack(list(outputs)), targets).T.contiguous()
        columns = []
        for k, (head, output) in enumerate(zip(self.heads, outputs, strict=True)):
            rows = getattr(self, f"_rows_{k}")
            column = torch.zeros(len(self.tasks), device=self.device)
            if len(rows):
                own = (
                    [targets[n] for n in self.served_by(k)]
                    if is_dense
                    else targets.index_select(1, rows)
                )
                column = column.index_copy(0, rows, head.compute_losses(output, own))
            columns.append(column)
        return torch.stack(columns, dim=1)

    def compute_loss_matrix(self, images: Tensor, targets: Tensor | Sequence[Tensor]) -> Tensor:
        """Loss of every head, mean over the batch: L in equation (4).

        Args:
            images: uint8, or float in [0, 1], shape (B, 3, H, W).
            targets: int64 class numbers, shape (B, N); of dense tasks a list, see
                `data.batches.decode`.

        Returns:
            Shape (N, K); 0 where a branch has no head for a task.
        """
        features = self._run_branches(images)
        return self._stack_losses(
            [head(x) for head, x in zip(self.heads, features, strict=True)], targets
        )

    def compute_split_losses(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss matrix twice, equal in value: one teaches encoders (and S), the other only
        heads.

        Two gradients from one pass through the encoders: a head may then learn from every batch
        although its branch listens to few of its tasks.

        Args:
            images, targets: As for `compute_loss_matrix`.

        Returns:
            Two tensors of shape (N, K): with the heads held still, and with the features held
                still.
        """
        features = self._run_branches(images)
        held = [
            functional_call(
                head, {name: weight.detach() for name, weight in head.named_parameters()}, (x,)
            )
            for head, x in zip(self.heads, features, strict=True)
        ]
        free = [head(x.detach()) for head, x in zip(self.heads, features, strict=True)]
        return self._stack_losses(held, targets), self._stack_losses(free, targets)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Predict every task from its most probable group.

        Args:
            images: uint8, or float in [0, 1], shape (B, 3, H, W).

        Returns:
            ``{task name: logits (B, n_outputs)}``, in task order; of a dense task
            (B, n_outputs, H, W): logits, or numbers in the task's own unit.
        """
        features = self._run_branches(images)
        named = [head.split(head(x)) for head, x in zip(self.heads, features, strict=True)]
        group_of = self.assignment.group_of().tolist()
        return {
            task.name: named[k][task.name] for task, k in zip(self.tasks, group_of, strict=True)
        }

    def prune(self) -> GroupedNetwork:
        """A new, smaller network: N heads, each in its most probable group; empty branches are
        gone.

        Predictions equal this network's own, value for value; this network stays as it is.
        """
        group_of = self.assignment.group_of().tolist()
        used = sorted(set(group_of))
        heads = []
        for k in used:
            names = [task.name for task in self.heads[k].tasks]
            rows = [
                names.index(task.name)
                for task, own in zip(self.tasks, group_of, strict=True)
                if own == k
            ]
            heads.append(self.heads[k].keep(rows))
        pruned = GroupedNetwork(
            self.tasks,
            deepcopy(self.stem),
            [deepcopy(self.branches[k]) for k in used],
            heads,
            Assignment(len(self.tasks), len(used), group_of=[used.index(k) for k in group_of]),
            scale_gradients=self.scale_gradients,
        )
        return pruned.to(self.device).train(self.training)


@torch.no_grad()
def count_macs(network: GroupedNetwork, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-adds of one image through each part, counted by running it.

    Args:
        network: Any grouped network.
        image_shape: (3, H, W).

    Returns:
        ``{"stem", "branches", "heads", "encoder", "total"}``: stem, all K branches, all heads,
        stem + branches, and everything. Convolutions and matrix products only, as the paper's
        Table A1 counts them (its "FLOPs" are multiply-adds).
    """
    was_training = network.training
    network.eval()  # a counting pass must not move batch-norm statistics

    def run(module: nn.Module, x: Tensor) -> tuple[Tensor, int]:
        # the fused attention of a CPU has no count: ask for the one made of matrix products
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            y = module(x)
        return y, counter.get_total_flops() // 2

    shared, stem = run(network.stem, torch.zeros(1, *image_shape, device=network.device))
    branches = heads = 0
    for branch, head in zip(network.branches, network.heads, strict=True):
        features, macs = run(branch, shared)
        branches += macs
        heads += run(head, features)[1]
    network.train(was_training)
    return {
        "stem": stem,
        "branches": branches,
        "heads": heads,
        "encoder": stem + branches,
        "total": stem + branches + heads,
    }
