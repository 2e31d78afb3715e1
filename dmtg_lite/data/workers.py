"""Worker processes that work in order: results come as their arguments went, few at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_order(
    function: Callable[..., Result], arguments: Iterable[tuple], *, n_workers: int
) -> Iterator[Result]:
    """Yield ``function(*a)`` for each ``a``, in order, with at most two a worker under way.

    Args:
        function: Defined at the top of a module, so that workers find it.
        arguments: Made one at a time, when a worker is free for it.
        n_workers: Processes; with one the work is done here.
    """
    if n_workers <= 1:
        yield from (function(*a) for a in arguments)
        return
    # Processes, because Pillow holds the interpreter lock while it decodes; not forked from here,
    # because torch has threads. The fork server imports the module once for all workers.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([function.__module__])
    pool = ProcessPoolExecutor(n_workers, context, initializer=_start_worker)
    under_way: deque[Future[Result]] = deque()
    try:
        for a in arguments:
            under_way.append(pool.submit(function, *a))
            if len(under_way) > 2 * n_workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the parent, which stops us in order
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            parent.join()
        os._exit(1)  # a killed parent leaves no orphans
