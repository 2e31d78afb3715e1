"""The stacked form: K like branches and all their heads as one program, for small networks.

A step of a small network is mostly the cost of asking for it, K times the same calls. Here the
weights of a layer lie side by side in one tensor, (K, ...), and a layer of all branches is one
call: a convolution with K times the channels, one product of K matrices. `GroupedNetwork` has the
plain form, the one to read; both give the same losses but for rounding. Branches keep parameters of
their own, which are views of the stacked ones for as long as the stack stands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dmtg_lite.core.arrays import scale_inputs
from dmtg_lite.core.batches import Targets
from dmtg_lite.core.heads import FlatHeads
from dmtg_lite.core.sealed import is_small, sealed
from dmtg_lite.core.state import TrainState, build_optimizer, follow_objective

_BY_ELEMENT = (nn.LeakyReLU, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity)
_LATER = (nn.BatchNorm1d, nn.Dropout)  # each branch has its own, once it has numbers of its own
_KNOWN = (*_BY_ELEMENT, nn.Flatten, nn.Dropout, nn.Linear, nn.BatchNorm1d, nn.Conv2d)


def can_stack(state: TrainState, feature_shape: Sequence[int], *, n_runs: int = 1) -> bool:
    """Whether a run's network is small, has a stacked form, and its gradients are the usual ones.

    Branches are sequences of linear layers, activations, batch norm and dropout. A convolution may
    come first: one behind another would be computed in groups of channels, which costs more than it
    saves; one branch of a single run gains nothing. With DMTG_PLAIN in the environment no network
    has one.
    """
    network = state.network
    if os.environ.get("DMTG_PLAIN") or (dist.is_available() and dist.is_initialized()):
        return False  # ranks average the gradients of a network's own weights
    config = state.config
    is_usual = state.backward is follow_objective and config.precision == "float32"
    is_usual &= not config.cuda_graph  # which holds on to the weights of the form it was made of
    has_heads = all(type(head) is FlatHeads and head.served for head in network.heads)
    stages = [_list_layers(branch) for branch in network.branches]
    are_alike = len({str(layers) for layers in stages}) == 1
    suits = (
        len(stages) * n_runs > 1 and is_usual and has_heads and are_alike and _is_known(stages[0])
    )
    return suits and is_small(network, feature_shape, config.batch_size)


def _list_layers(module: nn.Module) -> list[nn.Module]:
    """Modules in the order in which they run, sequences opened."""
    if type(module) is not nn.Sequential:
        return [module]
    return [layer for child in module for layer in _list_layers(child)]


def _is_known(layers: Sequence[nn.Module]) -> bool:
    weighted = [n for n, layer in enumerate(layers) if list(layer.parameters())]
    usual = {nn.Flatten: "start_dim=1, end_dim=-1", nn.BatchNorm1d: "momentum=0.1, affine=True"}
    return (
        bool(weighted)
        and all(type(layer) in _KNOWN for layer in layers)
        and all(usual.get(type(layer), "") in repr(layer) for layer in layers)
        and not any(isinstance(layer, _LATER) for layer in layers[: weighted[0] + 1])
        and not any(isinstance(layer, nn.Conv2d) for layer in layers[weighted[0] + 1 :])
        and not any(word in repr(layers[weighted[0]]) for word in ("groups=", "padding_mode="))
    )


class Row:
    """One tensor of K like modules as one, (K, ...), of which theirs are views until `undo`."""

    def __init__(self, modules: Sequence[nn.Module], name: str) -> None:
        self.owns = [cast("Tensor", getattr(module, name)) for module in modules]
        self._before = [own.data for own in self.owns]
        self.all = _stack(self._before)
        if isinstance(self.owns[0], nn.Parameter):
            self.all = nn.Parameter(self.all, self.owns[0].requires_grad)
        for own, part in zip(self.owns, self.all.data, strict=True):
            own.data, own.grad = part, None

    def undo(self) -> None:
        """Give every module a tensor of its own again, laid out in memory as it was."""
        for own, before in zip(self.owns, self._before, strict=True):
            own.data = before.copy_(own.data)

    def gather(self, memory: dict[Any, Any]) -> dict[str, Tensor]:
        """What an optimiser remembers of the K tensors, as of one."""
        entries = [memory[own] for own in self.owns]
        return {
            name: _stack([entry[name] for entry in entries]) if first.ndim else first.clone()
            for name, first in entries[0].items()
        }

    def scatter(self, memory: dict[str, Tensor]) -> dict[Tensor, dict[str, Tensor]]:
        """And of one as of the K. Call it after `undo`: an average lies as its weight does."""
        return {
            own: {
                name: torch.empty_like(own).copy_(value[k]) if value.ndim else value.clone()
                for name, value in memory.items()
            }
            for k, own in enumerate(self.owns)
        }


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """(K, ...), row by row: kernels laid out by channels would give pictures laid out so, which
    the layer after would have to copy."""
    return torch.stack(list(tensors)).contiguous()


class _Layers:
    """The layers at one place of all G branches, K of each of R runs."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.one: Any = layers[0]  # its settings are those of all
        tensors = [*self.one.named_parameters(), *self.one.named_buffers()]
        self.rows = {name: Row(layers, name) for name, _ in tensors}

    def __getattr__(self, name: str) -> Any:
        """A weight or a buffer of all branches, (G, ...); None where layers have no such."""
        return self.rows[name].all if name in self.rows else None

    def share(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """From what the K branches of each run all see: R times (B, ...) -> R times (K, B, ...).

        Where they lie as rows of B, K: what comes next reads them so, and nothing is copied.
        """
        biases = [None] * len(inputs) if self.bias is None else _split(self.bias, len(inputs))
        parts = []
        for x, weight, bias in zip(inputs, _split(self.weight, len(inputs)), biases, strict=True):
            n_groups, weight = len(weight), weight.flatten(0, 1)  # as one layer, K times as wide
            bias = None if bias is None else bias.flatten()
            if isinstance(self.one, nn.Linear):
                parts.append(F.linear(x, weight, bias).unflatten(-1, (n_groups, -1)).movedim(-2, 0))
            else:
                how = self.one.stride, self.one.padding, self.one.dilation
                y = F.conv2d(x.contiguous(), weight, bias, *how)
                parts.append(y.unflatten(1, (n_groups, -1)).movedim(1, 0))
        return parts

    def multiply(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The linear layers of each run by themselves: large features stay near the processor."""
        weights, biases = (_split(each, len(parts)) for each in (self.weight, self.bias))
        return [multiply(*each) for each in zip(parts, weights, biases, strict=True)]

    def __call__(self, x: Tensor) -> Tensor:
        """(G, B, ...) -> (G, B, ...)."""
        one = self.one
        if isinstance(one, nn.Flatten):
            return x.flatten(2)
        if isinstance(one, nn.Linear):
            return multiply(x, self.weight, self.bias)
        if isinstance(one, nn.BatchNorm1d):
            return self._norm(x)
        return one(x)  # by element, and what dropout leaves out

    def _norm(self, x: Tensor) -> Tensor:
        """As one norm of G times the channels."""
        if self.one.training:
            self.num_batches_tracked.add_(1)
        own = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, var, weight, bias = (tensor.flatten() for tensor in own)
        wide = x.transpose(0, 1).flatten(1, 2)  # (B, G * C, ...)
        how = self.one.training, self.one.momentum, self.one.eps
        wide = F.batch_norm(wide, mean, var, weight, bias, *how)
        return wide.unflatten(1, (len(x), -1)).transpose(0, 1)


def _split(tensor: Tensor, n_runs: int) -> Sequence[Tensor]:
    """(G, ...) -> R times (K, ...); of one run the tensor itself, whose gradient is not copied."""
    return [tensor] if n_runs == 1 else tensor.chunk(n_runs)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """G linear layers: (G, B, ..., n_in), (G, n_out, n_in), (G, n_out) -> (G, B, ..., n_out)."""
    flat = x.flatten(1, -2)
    y = flat @ weight.mT if bias is None else torch.baddbmm(bias[:, None], flat, weight.mT)
    return y.view(*x.shape[:-1], -1)


class _LikeHeads:
    """Heads of consecutive branches that answer tasks of the same kinds."""

    def __init__(self, heads: Sequence[FlatHeads], start: int) -> None:
        self.one, self.start, self.end = heads[0], start, start + len(heads)
        layers = [[head.linear for head in heads]]
        if self.one.hidden is not None:
            layers.insert(0, [cast("nn.Linear", head.hidden) for head in heads])
        self.layers = [_Layers(each) for each in layers]
        self.rows = torch.stack([head.rows for head in heads])  # (G', n): of each head in L

    def find_places(self, n_groups: int) -> Tensor:
        """Of each head in L read row by row: (G', n)."""
        columns = torch.arange(self.start, self.end, device=self.rows.device)
        return self.rows * n_groups + columns[:, None]

    def __call__(self, features: Tensor, targets: Tensor, *, is_split: bool) -> Tensor:
        """Losses of all heads, (1, G', n); split, (2, G', n): with the heads held still, and with
        the features held still.

        ``features`` of all branches, (G, B, D); ``targets`` of these, (G', B, n).
        """
        x = features if len(features) == len(self.rows) else features[self.start : self.end]
        weights = [cast("Tensor", w) for each in self.layers for w in (each.weight, each.bias)]
        if is_split:  # as of twice the heads, of which one half teaches and the other learns
            x = torch.cat([x, x.detach()])
            weights = [torch.cat([weight.detach(), weight]) for weight in weights]
        outputs = answer(self.one, x, weights).unflatten(0, (-1, len(self.rows)))
        return self.one.compute_losses(outputs, targets)


def answer(one: FlatHeads, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """`FlatHeads.forward` of G branches: (G, B, D) -> (G, B, sum of n_outputs)."""
    if one.hidden is None:
        return multiply(x, *weights).float()
    hidden, hidden_bias, weight, bias = weights
    units = F.leaky_relu(multiply(x, hidden, hidden_bias), 0.1)
    units = units.unflatten(2, (len(one.tasks), -1))  # (G, B, n, hidden)
    if len(set(one.sizes)) == 1:
        weight = weight.unflatten(1, (len(one.tasks), -1))  # (G, n, outputs of one, hidden)
        outputs = torch.einsum("gbnh,gnoh->gbno", units, weight).flatten(2)
    else:
        outputs = torch.einsum("gboh,goh->gbo", units.index_select(2, one._place_of), weight)
    return (outputs + bias[:, None]).float()


def _group_heads(heads: Sequence[FlatHeads]) -> list[_LikeHeads]:
    """Consecutive ones of the same form; those with units or weights, of the same tasks."""

    def describe(index: int) -> Any:
        tasks = heads[index].tasks
        kinds = [(task.loss, task.n_outputs) for task in tasks]
        is_own = any(task.is_number or task.weight != 1 for task in tasks)
        return kinds, tasks if is_own else None

    blocks = [list(block) for _, block in groupby(range(len(heads)), describe)]
    return [_LikeHeads([heads[k] for k in block], block[0]) for block in blocks]


def _find_joints(layers: Sequence[nn.Module]) -> tuple[int, int]:
    """The layer that all branches of a run see the same of, the first with weights, and that from
    which all runs are one: large features come before, which stay near the processor run by run."""
    weighted = [n for n, layer in enumerate(layers) if list(layer.parameters())]
    after = weighted[1] if len(weighted) > 1 else len(layers)
    is_linear = after < len(layers) and isinstance(layers[after], nn.Linear)
    return weighted[0], after + 1 if is_linear else after


class Stack:
    """R runs' networks of one form, K branches each, in place of `GroupedNetwork` in their steps.

    Args:
        states: Between two steps, each of which `can_stack`. Several only if all heads are there.
    """

    layout = torch.contiguous_format

    def __init__(self, states: Sequence[TrainState]) -> None:
        self.states = states
        networks = [state.network for state in states]
        branches = [_list_layers(branch) for each in networks for branch in each.branches]
        self.layers = [_Layers(each) for each in zip(*branches, strict=True)]
        self._first, self._joint = _find_joints([layer.one for layer in self.layers])
        self.heads = _group_heads([cast("FlatHeads", h) for each in networks for h in each.heads])
        self.n_tasks, self.n_groups = len(networks[0].tasks), networks[0].n_groups
        places = [heads.find_places(self.n_groups).flatten() for heads in self.heads]
        self._places = torch.cat(places)
        self.is_full = all(len(head.tasks) == self.n_tasks for head in networks[0].heads)
        self._plain = [state.optimizers["weights"] for state in states]
        optimizer = self._stack_optimizers()
        for state in states:
            state.program, state.optimizers["weights"] = self, optimizer

    def _list_rows(self) -> list[Row]:
        every = [*self.layers, *(layer for heads in self.heads for layer in heads.layers)]
        return [row for layers in every for row in layers.rows.values()]

    def _stack_optimizers(self) -> torch.optim.Optimizer:
        """One for all that is stacked, and for what is not as before; it goes on from theirs."""
        self._trained = [row for row in self._list_rows() if isinstance(row.all, nn.Parameter)]
        stacked = {id(own) for row in self._trained for own in row.owns}
        plain = self._plain
        rest = [w for each in plain for w in each.param_groups[0]["params"] if id(w) not in stacked]
        rows = [row.all for row in self._trained]
        optimizer = build_optimizer("adam", [*rest, *rows], plain[0].param_groups[0]["lr"])
        memory = {own: entry for each in plain for own, entry in each.state.items()}
        optimizer.state |= {own: entry for own, entry in memory.items() if id(own) not in stacked}
        for row in self._trained:
            if row.owns[0] in memory:
                optimizer.state[row.all] = row.gather(memory)
        return optimizer

    @sealed()
    def undo(self) -> None:
        """Back to the plain form: networks and optimisers as if nothing had been."""
        optimizer, memory = self.states[0].optimizers["weights"], {}
        for row in self._list_rows():
            row.undo()
        for row in self._trained:
            if row.all in optimizer.state:
                memory |= row.scatter(optimizer.state[row.all])
        for state, plain in zip(self.states, self._plain, strict=True):
            known = memory | optimizer.state
            params = plain.param_groups[0]["params"]
            plain.state.update({own: known[own] for own in params if own in known})
            state.program, state.optimizers["weights"] = state.network, plain

    def compute_loss_matrix(self, inputs: Tensor, targets: Targets) -> Tensor:
        """As `GroupedNetwork.compute_loss_matrix`, of a single run."""
        return self.compute([inputs], [targets])[0][0]

    def compute_split_losses(self, inputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """As `GroupedNetwork.compute_split_losses`, of a single run."""
        held, free = self.compute([inputs], [targets], is_split=True)[0]
        return held, free

    def compute(
        self, inputs: Sequence[Tensor], targets: Sequence[Targets], *, is_split: bool = False
    ) -> list[Sequence[Tensor]]:
        """Of each run its loss matrix, (N, K), or both of its `compute_split_losses`."""
        features = self._run_branches(inputs)
        flat = cast("Sequence[Tensor]", targets)  # heads of whole rows, no pictures
        losses = [
            heads(features, self._pick(heads, flat), is_split=is_split) for heads in self.heads
        ]
        return self._arrange(losses)

    def _run_branches(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features of every branch of every run: R times (B, ...) -> (G, B, D)."""
        runs = zip(self.states, inputs, strict=True)
        parts = [state.network.stem(scale_inputs(x)) for state, x in runs]
        for layer in self.layers[: self._first]:
            parts = [layer.one(x) for x in parts]
        parts = self.layers[self._first].share(parts)
        for layer in self.layers[self._first + 1 : self._joint]:
            parts = layer.multiply(parts) if layer.rows else [layer(x) for x in parts]
        features = parts[0] if len(parts) == 1 else torch.cat(parts)
        for layer in self.layers[self._joint :]:
            features = layer(features)
        return features

    def _pick(self, heads: _LikeHeads, targets: Sequence[Tensor]) -> Tensor:
        """Targets of the tasks of these heads: (G', B, n)."""
        if not self.is_full:
            return targets[0].T[heads.rows].mT
        n_groups = len(heads.rows) // len(targets)
        return torch.stack(list(targets))[:, None].expand(-1, n_groups, -1, -1).flatten(0, 1)

    def _arrange(self, losses: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """Losses of the heads, S times (G', n), into loss matrices: R times S times (N, K)."""
        if self.is_full:
            runs = losses[0].chunk(len(self.states), 1)  # each (S, K, N)
            return [run.mT.contiguous().unbind() for run in runs]
        flat = torch.cat([each.flatten(1) for each in losses], 1)  # (S, number of heads)
        empty = flat.new_zeros(len(flat), self.n_tasks * self.n_groups)
        matrices = empty.index_copy(1, self._places, flat)
        return [matrices.view(-1, self.n_tasks, self.n_groups).unbind()]
