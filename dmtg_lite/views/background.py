"""Hours of training in a process of its own: the notebook that started it can be closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dmtg_lite.files import hold

# Windows knows no sessions; a process group of its own keeps our Ctrl-C from a process there
NEW_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0

_started: list[subprocess.Popen[bytes]] = []  # else Python warns that they outlive their names


def train_in_background(folder: str | Path, *arguments: str) -> str:
    """Start ``dmtg-lite train`` with these arguments and ``--out folder``, and say what was done.

    A run that is over is left alone, and so is one that a process of this machine trains; one that
    was stopped or killed is continued. So the same call serves before and after a restart of the
    kernel, which the process outlives. Watch it with ``Dashboard.follow(folder)``.
    """
    folder = Path(folder)
    if (folder / "result.json").exists():
        return f"{folder}: the run is over."
    with hold(folder / ".lock") as is_free:
        if not is_free:
            return f"{folder}: the run goes on in another process."
    command = [sys.executable, "-m", "dmtg_lite", "train", *arguments, "--out", str(folder)]
    log = folder / "train.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*command, "--resume"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            creationflags=NEW_GROUP,
        )
    _started.append(process)
    return f"{folder}: process {process.pid} trains; what it says is in {log}."
