"""Freed memory kept for the next step, where the C library is glibc; nothing elsewhere.

A training step on a CPU frees what the next one asks for again. By default glibc gives large blocks
back to the system at once, which hands them out anew page by page, each filled with zeros.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h
_KEPT = 2**30  # bytes free at the end of the heap, above which they are given back

_log = logging.getLogger("dmtg_lite")


@lru_cache  # once a process
def keep_freed_memory() -> bool:
    """Let this process keep what it frees, up to 1 GiB; False where that cannot be, or must not.

    The numbers of a run do not depend on it. With DMTG_KEEP_MEMORY=0 in the environment nothing is
    changed.

    Source:
        mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD.
    """
    if os.environ.get("DMTG_KEEP_MEMORY") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    is_set = libc.mallopt(_TRIM_THRESHOLD, _KEPT) == 1 == libc.mallopt(_MMAP_MAX, 0)
    if is_set:
        _log.info("this process keeps the memory it frees, up to 1 GiB: steps are faster so")
    return is_set
