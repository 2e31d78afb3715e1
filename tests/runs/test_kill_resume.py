"""A trainer killed at any moment and resumed ends with the uninterrupted run, bit for bit.

``DMTG_KILLS=50 pytest -s tests/runs/test_kill_resume.py`` kills more often, and says when.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dmtg_lite.runs.checkpoint import load_checkpoint
from dmtg_lite.runs.folder import RunFolder, find_runs
from dmtg_lite.runs.history import History

RUN = [
    "train", "toy_faces", "--groups", "3", "--steps", "300", "--pretrain", "100", "--restarts", "2",
    "--close-from", "100", "--close-every", "20", "--prune-below", "0.3", "--prune-from", "170",
    "--batch-size", "16", "--checkpoint-every", "10", "--seed", "5",
]  # fmt: skip
# it imports and draws the faces once, so that 20 kills cost one start of Python; a fork trains
STARTER = """
import os, sys
import torch
torch.set_num_threads(1)
import pandas, tqdm.auto
from dmtg_lite import cli, data, experiments, methods
faces = data.toy_faces(seed=5)
data.toy_faces = lambda seed: faces
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # torch imports more at the first one
print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(cli.main(line.split("\\t")[:-1]))
    print(child, flush=True)
    sys.stdin.readline()  # until it is waited for, even a finished process can be killed
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Trainer:
    """A process that starts `dmtg-lite train` on request, without paying for imports each time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, out: Path, *flags: str) -> int:
        return self._ask("\t".join([*RUN, "--out", str(out), *flags, "\n"]))

    def wait(self) -> int:
        return self._ask("\n")

    def _ask(self, line: str) -> int:
        self.process.stdin.write(line)
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture
def trainer():
    trainer = Trainer()
    yield trainer
    trainer.close()


N_KILLS = int(os.environ.get("DMTG_KILLS", "8"))
PHASES = {100: "training", 180: "closing", 300: "pruning"}  # up to this step


class Reader(threading.Thread):
    """Opens every run folder again and again, and follows each; keeps what went wrong."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out, self.n_opened = out, 0
        self.failures: list[str] = []
        self._is_over = threading.Event()
        self._followed: dict[Path, RunFolder] = {}

    def run(self) -> None:
        while not self._is_over.wait(0.02):
            for path in find_runs(self.out):
                try:
                    for run in (RunFolder(path), self._followed.get(path)):
                        if run is not None:
                            run.update()
                            steps = run.history.steps.tolist()
                            assert steps == list(range(1, len(steps) + 1)), steps
                            assert run.step <= 300
                    self._followed.setdefault(path, RunFolder(path))
                    self.n_opened += 1
                except Exception as error:  # noqa: BLE001  told to the other thread
                    self.failures.append(f"{path}: {error!r}")

    def close(self) -> None:
        self._is_over.set()
        self.join()


def name_phase(out: Path) -> str:
    """Where the run of the last beat stood when it was killed."""
    runs = [RunFolder(path) for path in find_runs(out)]
    if not runs:
        return "start"
    run = max(runs, key=lambda run: (run.path / "heartbeat.json").stat().st_mtime_ns)
    step = max(run.step, *run.history.steps[-1:].tolist(), 0)
    if run.pretrained < 100 and not step:
        return "pretraining"
    last = all(one.step >= 300 for one in runs) and len(runs) == 2
    return "end" if last else next(name for most, name in PHASES.items() if step <= most)


@pytest.mark.slow
@pytest.mark.timeout(300 + 50 * N_KILLS)  # about a minute on an idle core for a dozen
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_kills_change_nothing(trainer: Trainer, tmp_path: Path) -> None:
    """SIGKILL at random moments, and readers all the time: every file that is left opens at any
    moment, and the final files are the same."""
    whole, out = tmp_path / "whole", tmp_path / "killed"
    begin = time.monotonic()
    trainer.start(whole)
    assert trainer.wait() == 0
    duration = time.monotonic() - begin

    rng, kills, finished, checked = random.Random(0), Counter(), 0, 0
    out.mkdir()
    readers = [Reader(out)]
    readers[0].start()
    try:
        while kills.total() < N_KILLS:
            # a short life each, so that the run is killed in every phase before it gets to its end,
            # and every fifth a long one, so that some are killed there
            process = trainer.start(out, "--resume")
            if kills.total() % 5 == 4:
                wait_for_the_end(out, duration)
                time.sleep(rng.uniform(0, 0.05) * duration)
            else:
                time.sleep(rng.uniform(0.01, 0.2) * duration)
            os.kill(process, signal.SIGKILL)
            if trainer.wait() == -signal.SIGKILL:
                kills[name_phase(out)] += 1
            else:  # done before its moment came: the rest of the kills strike a new run
                finished += 1
                assert_same_files(out, whole)
                out = tmp_path / f"killed{finished}"
                out.mkdir()
                readers.append(Reader(out))
                readers[-1].start()
            checked += check_files(out)
        trainer.start(out, "--resume")
        assert trainer.wait() == 0
    finally:
        for reader in readers:
            reader.close()
    print(dict(kills), f"{finished} runs ended, {sum(r.n_opened for r in readers)} times opened")
    assert not [failure for reader in readers for failure in reader.failures]
    assert checked
    assert_same_files(out, whole)


def wait_for_the_end(out: Path, most: float) -> None:
    """Until the last step of the last restart is on file: what is left takes a second or less."""
    until = time.monotonic() + 3 * most
    while time.monotonic() < until:
        if (out / "restart1" / "run.json").exists() and RunFolder(out / "restart1").step >= 300:
            return
        time.sleep(0.02)


def check_files(out: Path) -> int:
    """Open every checkpoint and recording; how many checkpoints there were."""
    checked = 0
    for path in out.rglob("*"):
        if path.suffix == ".safetensors" and path.name != "network.safetensors":
            tensors, meta = load_checkpoint(path)
            assert len(tensors["history.steps"]) == meta["step"]
            checked += 1
        elif path.name == "run.npz":
            History.load(path)
    return checked


def assert_same_files(one: Path, other: Path) -> None:
    """Weights, history and meta data of two finished runs, bit for bit."""
    first, second = (load_file(folder / "network.safetensors") for folder in (one, other))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    runs = [History.load(folder / "run.npz") for folder in (one, other)]
    for name in History.ARRAYS:
        np.testing.assert_array_equal(getattr(runs[0], name), getattr(runs[1], name), err_msg=name)
    assert runs[0].about == runs[1].about
