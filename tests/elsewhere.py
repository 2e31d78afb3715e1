"""A second device without hardware: tensors that say they lie there, with numbers of the CPU's.

As on a GPU, tensors of two devices do not mix, and a value that is read makes the host wait; as on
Apple's, there is no float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

NAME = "elsewhere"
CROSSES = ("aten::_to_copy", "aten::copy_")  # what may see tensors of both devices


class There(Tensor):
    """A tensor of the device, with its numbers in ``own``."""

    own: Tensor

    @staticmethod
    def __new__(cls, own: Tensor) -> There:
        layout = {"strides": own.stride(), "storage_offset": own.storage_offset()}
        made = Tensor._make_wrapper_subclass(
            cls, own.shape, dtype=own.dtype, device=f"{NAME}:0", **layout
        )
        made.own = own
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: Tensor) -> None:  # the stacked form has weights that are views
        self.own = other.own

    def tolist(self) -> Any:  # torch refuses it of subclasses; also a wait
        return self.cpu().tolist()


class Elsewhere(TorchDispatchMode):
    """While it is on, the device is there. ``waits``: what has made the host wait for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __enter__(self) -> Elsewhere:
        self._before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # or torch.tensor would not come by here
        return super().__enter__()

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        torch._C._set_only_lift_cpu_tensors(self._before)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func._schema.name
        if args and isinstance(args[0], There):
            device = kwargs.get("device")
            leaves = name == "aten::_to_copy" and device is not None and device.type == "cpu"
            if leaves or name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
                self.waits.append(name)
        return _run(func, args, kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do it with the numbers beneath, and say of the results where they lie."""
    name, device = func._schema.name, kwargs.get("device")
    leaves, form = tree_flatten((args, kwargs))
    goes_there = any(isinstance(one, There) for one in leaves)
    if goes_there and name not in CROSSES:
        strangers = [one for one in leaves if type(one) in (Tensor, Parameter) and one.ndim]
        assert not strangers, f"{name} mixes tensors of two devices"
    own = [one.own if isinstance(one, There) else one for one in leaves]
    own_args, own_kwargs = tree_unflatten(own, form)
    if device is not None:
        goes_there = torch.device(device).type == NAME
        own_kwargs["device"] = torch.device("cpu")
    result = func(*own_args, **own_kwargs)
    if name == "aten::copy_":
        return args[0]
    if not goes_there:
        return result
    made = tree_map_only(Tensor, There, result)
    for one in [made] if isinstance(made, There) else tree_leaves(made):
        assert not (isinstance(one, There) and one.dtype == torch.float64), f"{name}: float64"
    return return_and_correct_aliasing(func, args, kwargs, made)


class _Backend:
    """What torch asks of the module of a device."""

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_available(self) -> bool:
        return True


# once a process, and before its first backward pass: torch then counts the devices
backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend())
