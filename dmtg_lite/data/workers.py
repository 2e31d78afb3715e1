"""Worker processes that work in order: results come as their arguments went, few at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], *, n_workers: int
) -> Generator[Result, None, None]:
    """Yield ``function(a)`` for each ``a``, in order, with at most two a worker under way.

    Args:
        function: Defined at the top of a module, so that workers find it, or a partial of such.
        arguments: Made one at a time, when a worker is free for it.
        n_workers: Processes; with one the work is done here.

    Raises:
        OSError: If a worker was killed.
    """
    if n_workers <= 1:
        yield from map(function, arguments)
        return
    # Processes, because Pillow holds the interpreter lock while it decodes; not forked from here,
    # because torch has threads. The fork server imports torch once for all workers.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(n_workers, context, initializer=_start_worker)
    under_way: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            under_way.append(pool.submit(function, argument))
            if len(under_way) > 2 * n_workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise OSError(
            "a worker process was killed, perhaps for want of memory. Start again with fewer "
            "(--jobs 1). In a script of your own, call this below `if __name__ == '__main__':`."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # a killed parent leaves no orphans
