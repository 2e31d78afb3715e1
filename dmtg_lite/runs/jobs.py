"""Independent pieces of work: one after another here, in processes of this machine, or on Ray.

The one place where workers are started. Who does what and when is decided by Python's pool or by
Ray; nothing is scheduled here.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from inspect import signature
from itertools import cycle, islice
from multiprocessing import active_children, current_process, get_context
from typing import Any, Literal, TypeVar

import torch

from dmtg_lite.core.checks import as_number, as_whole, describe
from dmtg_lite.core.data import TaskData
from dmtg_lite.encoders import ENCODERS, list_own
from dmtg_lite.encoders.own import find_homeless
from dmtg_lite.runs.parallel import world
from dmtg_lite.runs.progress import with_progress

T = TypeVar("T")
_RETRIES = 3  # of a piece whose worker was lost; one that raises is not tried again
_STARTS = 3  # of Ray, which gives up where a busy machine is slow


@dataclass(frozen=True, slots=True)
class Workers:
    """Where independent pieces of work are done, and what each of them may take.

    Args:
        on: ``"processes"`` of this machine, or ``"ray"`` (needs ``dmtg-lite[cluster]``).
        jobs: Pieces at a time. ``None``: one of processes, which is this process itself; on Ray as
            many as it has room for.
        cpus: Threads of each piece; Ray also counts them, and grants fractions.
        gpus: GPUs of each piece, 0 to 1: on Ray half of one is for two pieces that share it.
            Processes take turns: the first has the first GPU that is visible, and so on. A worker
            sees no other, and calls it ``cuda``. ``None``: one where the data lie on a GPU.
        address: Of a Ray that runs already, e.g. ``"auto"`` or ``"10.0.0.1:6379"``; ``None``: one
            on this machine, that listens to this machine only and ends with the work.

    Raises:
        ValueError: If one of them is something else, or they do not go together.
    """

    on: Literal["processes", "ray"] = "processes"
    jobs: int | None = None
    cpus: float = 1
    gpus: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.on not in ("processes", "ray"):
            raise ValueError(f'`on` must be "processes" or "ray", got {self.on!r}.')
        if self.jobs is not None:
            object.__setattr__(self, "jobs", as_whole("jobs", self.jobs, 1))
        cpus, gpus = as_number(self.cpus), as_number(0 if self.gpus is None else self.gpus)
        if cpus is None or cpus <= 0 or (cpus > 1 and cpus % 1):
            words = "a whole number >= 1, or a part of one"
            raise ValueError(f"`cpus` must be {words}, got {describe(self.cpus)}.")
        if gpus is None or not 0 <= gpus <= 1:
            words = "from 0 to 1, since a run trains on one GPU"
            raise ValueError(f"`gpus` must be {words}, got {describe(self.gpus)}.")
        if self.address is not None and (self.on != "ray" or self.jobs is not None):
            wrong = f"jobs={self.jobs}" if self.on == "ray" else f'on="{self.on}"'
            raise ValueError(
                f'`address` is of a Ray, and does not go with {wrong}: say on="ray"; how many jobs '
                "run at a time is decided there, by `cpus` and `gpus`."
            )

    @property
    def is_here(self) -> bool:
        """All is done in this process."""
        return self.on == "processes" and self.jobs in (None, 1)

    @property
    def n_threads(self) -> int:
        """Of each worker."""
        return max(1, int(self.cpus))

    def on_device(self, device: torch.device | str) -> Workers:
        """The same with the GPUs that work on a device needs.

        Raises:
            ValueError: If one GPU is meant, and workers would each have their own.
        """
        device = torch.device(device)
        if self.is_here:
            return self
        if device.index:
            raise ValueError(
                f"`device` {str(device)!r} is one GPU, and each worker has one of its own: ask for "
                f"'cuda', and choose with CUDA_VISIBLE_DEVICES={device.index}; or take jobs=1."
            )
        if self.gpus is not None:
            return self
        return replace(self, gpus=1 if device.type == "cuda" else 0)


def as_workers(jobs: int | Workers) -> Workers:
    """What ``jobs=`` means everywhere: a number of processes, or `Workers`."""
    return jobs if isinstance(jobs, Workers) else Workers(jobs=as_whole("jobs", jobs, 1))


def run_jobs(
    function: Callable[..., T],
    work: Sequence[tuple[Any, ...]],
    *,
    jobs: int | Workers = 1,
    progress: bool = False,
    label: str = "runs",
    lost: Callable[..., T] | None = None,
) -> list[T]:
    """What a function gives for each tuple of arguments, in order; an error ends it all.

    Args:
        function: Of a module, and arguments that can be pickled, unless all is done here.
        jobs: See `as_workers`.
        progress: Show one bar over all (needs tqdm).
        label: Of the bar.
        lost: Called with the arguments and ``reason=``, instead of an error, where Ray lost every
            worker that a piece was given to; it is tried four times.

    Raises:
        ChildProcessError: If a worker process ended before its work.
        ImportError: If there is no Ray.
    """
    workers = as_workers(jobs)
    bar = label if progress else None
    if workers.is_here:
        return [function(*arguments) for arguments in with_progress(work, bar, len(work))]
    if world().size > 1:
        raise ValueError("processes that share a run start no others: leave out --jobs and --on.")
    if workers.on == "ray":
        return _run_on_ray(function, work, workers, bar, lost)
    return _run_in_processes(function, work, workers, bar)


def _run_in_processes(
    function: Callable[..., T], work: Sequence[tuple[Any, ...]], workers: Workers, bar: str | None
) -> list[T]:
    if getattr(current_process(), "_inheriting", False):  # a child that reads the caller's script
        sys.exit(1)  # and would start children of its own; its parent says what to write
    others, n_workers = set(active_children()), workers.jobs or 1
    # spawn: a forked child of a process that has used torch's threads can hang
    context = get_context("spawn")
    gpus = context.SimpleQueue()
    for gpu in share_gpus(list_gpus(), n_workers) if workers.gpus else [None] * n_workers:
        gpus.put(gpu)
    start = {"initializer": _start_process, "initargs": (_pack_encoders(), workers.n_threads, gpus)}
    with ProcessPoolExecutor(n_workers, context, **start) as pool:
        try:  # an interrupt may come while workers are being started
            futures = [pool.submit(function, *arguments) for arguments in work]
            for future in with_progress(as_completed(futures), bar, len(work)):
                future.result()
        except BrokenProcessPool:
            raise ChildProcessError(
                f"`jobs={n_workers}`: a worker process ended before its work. In a script, put the "
                'call below `if __name__ == "__main__":`, since each worker reads the script anew; '
                "or memory ran out: use fewer jobs."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:  # or we would wait for their hours
                worker.terminate()
            raise
    return [future.result() for future in futures]


def _start_process(encoders: dict[str, Any], n_threads: int, gpus: Any) -> None:
    """A GPU of its own, before torch looks for any; an end without words at Ctrl-C."""
    if (gpu := gpus.get()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _start_worker(encoders, n_threads)


def _start_worker(encoders: dict[str, Any], n_threads: int) -> None:
    """Few threads, since workers share the cores; encoders."""
    torch.set_num_threads(n_threads)
    ENCODERS.update(encoders)


def list_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    return [str(index) for index in range(torch.cuda.device_count())]


def share_gpus(visible: Sequence[str], n_workers: int) -> list[str | None]:
    """The GPU of each worker: in turn, so that none has two workers before all have one.

    Example:
        >>> share_gpus(["2", "5"], 3)
        ['2', '5', '2']
    """
    return list(islice(cycle(visible or [None]), n_workers))


# ---------------------------------------------------------------------- Ray


def _run_on_ray(
    function: Callable[..., T],
    work: Sequence[tuple[Any, ...]],
    workers: Workers,
    bar: str | None,
    lost: Callable[..., T] | None,
) -> list[T]:
    with ray_for(workers) as ray:
        # data lie in Ray's store once, however many pieces work on them
        kept = {
            id(one): ray.put(one) for piece in work for one in piece if isinstance(one, TaskData)
        }
        encoders = ray.put(_pack_encoders())
        remote = ray.remote(
            num_cpus=workers.cpus, num_gpus=workers.gpus or 0, max_retries=_RETRIES
        )(_do)
        begun = {}
        for index, piece in enumerate(work):
            arguments = [kept.get(id(one), one) for one in piece]
            begun[remote.remote(function, encoders, workers.n_threads, *arguments)] = index
        results: dict[int, T] = {}
        try:
            for done in with_progress(_as_completed(ray, begun), bar, len(work)):
                index = begun[done]
                try:
                    results[index] = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None  # as it was raised there
                except ray.exceptions.RayError as error:  # workers killed, machines gone
                    reason = f"its workers were lost {_RETRIES + 1} times: {_first_line(error)}"
                    if lost is None:
                        raise ChildProcessError(f"a piece of work failed; {reason}.") from None
                    results[index] = lost(*work[index], reason=reason)
        except BaseException:
            for one in begun:
                ray.cancel(one, force=True)
            raise
    return [results[index] for index in range(len(work))]


def _do(function: Callable[..., T], encoders: dict[str, Any], n_threads: int, *piece: Any) -> T:
    _start_worker(encoders, n_threads)
    return function(*piece)


def _as_completed(ray: Any, begun: Iterable[Any]) -> Iterator[Any]:
    left = list(begun)
    while left:
        (done,), left = ray.wait(left)
        yield done


@contextmanager
def ray_for(workers: Workers) -> Iterator[Any]:
    """Ray, connected: the one this process is connected to already, or one for this block."""
    ray = _load_ray()
    is_ours = not ray.is_initialized()
    if is_ours and workers.address is None:
        _start_ray(ray, workers)
    elif is_ours and workers.address is not None:
        try:
            _knock(workers.address)
            ray.init(address=workers.address, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"`address` {workers.address!r}: no Ray answers there: {_first_line(error)}"
            ) from None
    try:
        if workers.address is None:
            _check_room(ray, workers)
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


@contextmanager
def held(jobs: int | Workers) -> Iterator[Workers]:
    """The workers; of Ray those that all calls of `run_jobs` in the block share: it starts once."""
    workers = as_workers(jobs)
    with ray_for(workers) if workers.on == "ray" else nullcontext():
        yield workers


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _load_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of each start
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ImportError(
            "work on Ray needs the package of that name, which is not installed. Run: pip install "
            '"dmtg-lite[cluster]"'
        ) from error
    return ray


def _start_ray(ray: Any, workers: Workers) -> None:
    """A Ray of this machine that listens to this machine alone.

    Its workers find modules where this process does. As many pieces fit as there are ``jobs``.
    """
    n_cpus = None if workers.jobs is None else math.ceil(workers.jobs * workers.cpus)
    reason = ""
    for _ in range(_STARTS):
        try:
            with _few_and_local():
                ray.init(
                    address="local",
                    num_cpus=n_cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    _metrics_export_port=_find_ports(1)[0],
                )
            return
        except Exception as error:  # noqa: BLE001  Ray has no class for it
            ray.shutdown()
            reason = _first_line(error)
    raise ChildProcessError(f"Ray did not start in {_STARTS} attempts: {reason}")


@contextmanager
def _few_and_local() -> Iterator[None]:
    """What Ray has no argument for while it starts.

    On Linux it would listen to the network; on macOS and Windows it does not, by this constant.
    Without autoscaler and a monitor of logs there is less to start at once; and its agents are told
    their ports, since Ray gives up where they need more than 15 seconds to say which they took.
    """
    from unittest import mock

    from ray._private import parameter, ray_constants, services

    agents = "metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port"
    ports = dict(zip(agents, _find_ports(len(agents)), strict=True))
    few = partial(parameter.RayParams, no_monitor=True, include_log_monitor=False, **ports)
    inherited = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "RAY_task_oom_retries": str(_RETRIES),  # not for ever
    }
    start = partial(_start_unasked, services.start_raylet)
    with (
        mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False),
        mock.patch.object(parameter, "RayParams", few),
        mock.patch.object(services, "start_raylet", start),
        mock.patch.dict(os.environ, inherited),
    ):
        yield


def _start_unasked(start: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Start Ray's own process, which is told one port by a file only: the agent will write it."""
    asked = signature(start).bind(*given, **named).arguments
    port, tell = (
        getattr(import_module("ray._raylet"), name, None)
        for name in ("DASHBOARD_AGENT_LISTEN_PORT_NAME", "persist_port")
    )
    if port and tell:  # older versions wait for no files
        tell(asked["session_dir"], asked["node_id"], port, -1)  # as the agent will: no dashboard
    return start(*given, **named)


def _find_ports(count: int) -> list[int]:
    """Free ones of this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _check_room(ray: Any, workers: Workers) -> None:
    """Refuse what this Ray would wait for without end. A cluster may grow: it is not asked."""
    there = ray.cluster_resources()
    for name, wanted in (("CPU", workers.cpus), ("GPU", workers.gpus or 0)):
        if wanted > there.get(name, 0):
            raise ValueError(
                f"`{name.lower()}s={wanted:g}` of each job: this Ray has {there.get(name, 0):g} to "
                "give, so that none would ever begin."
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# ---------------------------------------------------------------------- for all


def _pack_encoders() -> dict[str, Any]:
    """A reader's own encoders for other processes; of those that cannot go there, why."""
    return {
        name: partial(_refuse, name, homeless) if (homeless := find_homeless(build)) else build
        for name, build in list_own().items()
    }


def _refuse(name: str, homeless: str, *_: Any, **__: Any) -> Any:
    raise ValueError(
        f"`encoder` {name!r} cannot be sent to other processes, as they cannot import {homeless}: "
        "define it in a file and import it from there, at the file's top level; or take jobs=1."
    )
