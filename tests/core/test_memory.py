"""Freed memory is kept on glibc, once a process, and nowhere else."""

from __future__ import annotations

import ctypes
import logging
import platform
from collections.abc import Iterator

import pytest

from dmtg_lite.core.memory import keep_freed_memory


class Libc:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def mallopt(self, name: int, value: int) -> int:
        self.calls.append((name, value))
        return 1


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Iterator[Libc]:
    own = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: own)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    keep_freed_memory.cache_clear()
    yield own
    keep_freed_memory.cache_clear()


def test_freed_memory_is_kept_once_and_the_log_says_so(
    libc: Libc, caplog: pytest.LogCaptureFixture
) -> None:
    """M_TRIM_THRESHOLD is -1 and M_MMAP_MAX -4 in malloc.h."""
    with caplog.at_level(logging.INFO, "dmtg_lite"):
        assert keep_freed_memory()
        assert keep_freed_memory()
    assert libc.calls == [(-1, 2**30), (-4, 0)]
    assert [record.getMessage().isascii() for record in caplog.records] == [True]


def test_it_can_be_turned_off(libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMTG_KEEP_MEMORY", "0")
    assert not keep_freed_memory()
    assert not libc.calls


def test_other_libraries_are_left_alone(libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))  # musl, macOS, Windows
    assert not keep_freed_memory()
    assert not libc.calls
