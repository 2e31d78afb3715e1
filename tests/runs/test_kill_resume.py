"""A trainer killed at any moment and resumed ends with the uninterrupted run, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dmtg_lite.runs.checkpoint import load_checkpoint
from dmtg_lite.runs.history import History

RUN = [
    "train", "toy_faces", "--groups", "3", "--steps", "300", "--pretrain", "60", "--restarts", "2",
    "--close-from", "100", "--close-every", "20",
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


@pytest.mark.slow
@pytest.mark.timeout(900)  # about a minute on an idle core
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_twenty_kills_change_nothing(trainer: Trainer, tmp_path: Path) -> None:
    """SIGKILL at 20 random moments: every file left behind opens, the final files are the same."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begin = time.monotonic()
    trainer.start(whole)
    assert trainer.wait() == 0
    duration = time.monotonic() - begin

    rng, kills, finished, checked = random.Random(0), 0, 0, 0
    while kills < 20:
        # a short life each, so that the run is killed in every phase before it gets to its end
        process = trainer.start(killed, "--resume")
        time.sleep(rng.uniform(0.02, 0.25) * duration)
        os.kill(process, signal.SIGKILL)
        if trainer.wait() == -signal.SIGKILL:
            kills += 1
        else:  # done before its moment came: the rest of the kills strike a new run
            finished += 1
            assert_same_files(killed, whole)
            killed = tmp_path / f"killed{finished}"
        for path in killed.rglob("*"):
            if path.suffix == ".safetensors" and path.name != "network.safetensors":
                tensors, meta = load_checkpoint(path)
                assert len(tensors["history.steps"]) == meta["step"]
                checked += 1
            elif path.suffix == ".npz":
                History.load(path)
    trainer.start(killed, "--resume")
    assert trainer.wait() == 0
    assert checked >= 10
    assert_same_files(killed, whole)


def assert_same_files(one: Path, other: Path) -> None:
    """Weights, history and meta data of two finished runs, bit for bit."""
    first, second = (load_file(folder / "network.safetensors") for folder in (one, other))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    runs = [History.load(folder / "run.npz") for folder in (one, other)]
    for name in History.ARRAYS:
        np.testing.assert_array_equal(getattr(runs[0], name), getattr(runs[1], name), err_msg=name)
    assert runs[0].about == runs[1].about
