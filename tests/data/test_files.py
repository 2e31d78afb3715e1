"""What files.py promises: whole files or the old ones, scraps swept, and one holder of a lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmtg_lite.files import hold, write_atomically

HOLDER = """
import sys, time
from dmtg_lite.files import hold
with hold(sys.argv[1]) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""


def test_scraps_of_killed_runs_are_swept(tmp_path) -> None:
    """Of the same file and ten minutes old; what may still be written, or is another's, stays."""
    for name in ("a.json.7.part", "a.json.8.part", "b.json.7.part", "a.json.x.part", "film.part"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0) if "8" not in name else None)
    write_atomically(tmp_path / "a.json", b"whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.json", "a.json.8.part", "b.json.7.part", "a.json.x.part", "film.part"}


@pytest.mark.skipif(os.name != "posix", reason="kills")
def test_a_lock_has_one_holder_and_a_killed_one_holds_nothing(tmp_path) -> None:
    """While another process holds it, it is not ours; then it is, and it leaves no file."""
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, lock]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        with hold(lock) as is_ours:
            assert not is_ours
        assert lock.exists()
    finally:
        process.kill()
        process.communicate()
    with hold(lock) as is_ours:
        assert is_ours
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_holder_deleted_is_none(tmp_path, monkeypatch) -> None:
    """Opened before the holder ended and locked after: another may hold the file that is there."""
    lock, opened = tmp_path / "lock", []
    real = os.path.samestat

    def delete_first(a: os.stat_result, b: os.stat_result) -> bool:
        opened.append(a)
        return real(a, b) and len(opened) > 1

    monkeypatch.setattr(os.path, "samestat", delete_first)
    with hold(lock) as is_ours:
        assert not is_ours
    with hold(Path(lock)) as is_ours:
        assert is_ours
