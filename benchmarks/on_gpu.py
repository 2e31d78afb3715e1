"""What `dmtg-lite bench` and `pytest -m cuda` leave open on a GPU, in three parts:

encoders   is a step with each encoder captured as a graph, is it the same step, is it faster?
input      images a second of CelebA-9: pictures on the GPU, or fetched ahead while a step runs
groups     planted groups found, errors and seconds of whole runs, in each arithmetic
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import pytest
import torch

from dmtg_lite import data, methods
from dmtg_lite.bench.cases import CASES, Case, make_data, make_network
from dmtg_lite.bench.run import describe_machine
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.tasks import TASKONOMY_5, Task
from dmtg_lite.encoders import ENCODERS
from dmtg_lite.experiments import TOY
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.fit import train_steps

Row = dict[str, Any]
_DENSE = ("vit_base", "vit_small", "xception", "xception_small")  # encoders that decoders suit
_COMPARED, _TIMED = 12, 30


class Heard(logging.Handler):
    """Why there was no graph, if there was none."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def arithmetic(*, is_exact: bool) -> Iterator[None]:
    """Convolutions in float32, or in TF32 as torch has it."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=not is_exact):
        yield


def make_case(encoder: str) -> Case:
    """Nine questions about pictures, or the five dense tasks; rows of numbers where it wants
    them."""
    base = CASES["taskonomy5_k3"] if encoder in _DENSE else CASES["celeba9_k3"]
    tasks = TASKONOMY_5 if encoder in _DENSE else tuple(Task(f"t{n}") for n in range(9))
    config = replace(base.config, encoder=encoder, batch_size=16, shared=0)
    return replace(base, name=encoder, tasks=tasks, config=config, side=64)


def make_features(case: Case, device: torch.device) -> TaskData:
    """The case's random pictures; flat for `mlp`, as 64 words of 192 numbers for attention."""
    made = make_data(case)
    shape = {"mlp": (-1,), "attention_pool": (64, 192)}.get(case.name)
    if shape:
        rows = made.train.features.float().div(255).reshape(len(made.train), *shape)
        split = replace(made.train, features=rows)
        made = replace(made, train=split, val=split, test=split)
    return made.to(device)


def take(case: Case, made: TaskData, config: TrainConfig, n: int) -> tuple[torch.Tensor, float]:
    """Losses of the first steps, and median milliseconds of ten in a row of the others."""
    steps = train_steps(make_network(case, made), made, config)
    losses = torch.stack([next(steps).task_losses for _ in range(_COMPARED)])
    times = []
    for _ in range(n // 10):
        begin = time.perf_counter()
        for _ in range(10):
            record = next(steps)
        float(record.task_losses.sum())  # waits
        times.append(100 * (time.perf_counter() - begin))
    return losses.cpu(), median(times)


def try_encoders(device: torch.device, say: Callable[[str], object]) -> list[Row]:
    rows = []
    for name in ENCODERS:
        case, heard = make_case(name), Heard()
        graph = replace(case.config, cuda_graph=True)
        logging.getLogger("dmtg_lite").addHandler(heard)
        with arithmetic(is_exact=True):
            made = make_features(case, device)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("DMTG_PLAIN", "1")  # the form that a graph is made of
                plain, slow = take(case, made, case.config, _TIMED)
            stacked, ms = take(case, made, case.config, _TIMED)
            graphed, fast = take(case, made, graph, _TIMED)
        logging.getLogger("dmtg_lite").removeHandler(heard)
        row = {"encoder": name, "plain_ms": slow, "stacked_ms": ms, "graph_ms": fast,
               "stacked_difference": compare(stacked, plain), "refused": heard.said,
               "graph_difference": compare(graphed, plain)}  # fmt: skip
        rows.append(row)
        say(
            f"{name:16} plain {slow:7.2f} ms, stacked {ms:7.2f}, graph {fast:7.2f}; losses of "
            f"{_COMPARED} steps differ by {row['stacked_difference']:.0e} (stacked), "
            f"{row['graph_difference']:.0e} (graph) {' '.join(heard.said)}"
        )
    return rows


def compare(losses: torch.Tensor, plain: torch.Tensor) -> float:
    """Largest relative difference."""
    return float(((losses - plain).abs() / plain.abs().clamp_min(1e-3)).max())


def try_input(device: torch.device, say: Callable[[str], object], n_pictures: int) -> list[Row]:
    case = CASES["celeba9_k3"].settle(device, is_quick=device.type == "cpu")
    made, rows = make_data(case, n_pictures), []
    places = {"on the GPU": made.to, "fetched ahead": made.stream_to}
    for place, move in places.items():
        there = move(device)
        for precision in ("float32", "bfloat16"):
            for graph in (False, True):
                config = replace(case.config, precision=precision, cuda_graph=graph)
                _, ms = take(case, there, config, 50)
                per_second = 1000 * config.batch_size / ms
                told = {"pictures": place, "precision": precision, "graph": graph}
                rows.append({**told, "ms": ms, "images_per_second": per_second})
                say(
                    f"pictures {place}, {precision}, {'graph' if graph else 'eager'}: "
                    f"{ms:.2f} ms, {per_second:,.0f} images/s"
                )
    return rows


def try_groups(device: torch.device, say: Callable[[str], object], n_seeds: int) -> list[Row]:
    rows = []
    kinds = {
        "float32": ({}, True), "TF32": ({}, False), "TF32, graph": ({"cuda_graph": True}, False),
        "bfloat16, graph": ({"precision": "bfloat16", "cuda_graph": True}, False),
    }  # fmt: skip
    for kind, (changes, is_exact) in kinds.items():
        config = replace(TOY["faces"], **changes)
        found = []
        for seed in range(n_seeds):
            faces = data.toy_faces(seed=seed, n_test=4000).to(device)
            begin = time.perf_counter()
            with arithmetic(is_exact=is_exact):
                result = methods.dmtg(faces, 3, replace(config, seed=seed))
            seconds = time.perf_counter() - begin
            mean_error = fmean(result.task_errors.values())
            found.append((result.agreement, mean_error, seconds))
        ari, error, seconds = (list(each) for each in zip(*found, strict=True))
        rows.append({"kind": kind, "agreement": ari, "error": error, "seconds": seconds})
        say(
            f"{kind:16} found in {sum(a == 1 for a in ari)} of {n_seeds}, "
            f"errors {', '.join(f'{e:.1f}' for e in error)}, median {median(seconds):.1f} s a run"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="About five minutes on one GPU.",
    )
    parts = ("encoders", "input", "groups")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pictures", type=int, default=50_000, help="drawn for the input")
    parser.add_argument("--seeds", type=int, default=5, help="of the groups")
    parser.add_argument("--out", help="JSON file to write")
    args = parser.parse_args()
    device = torch.device(args.device)
    found: Row = {"machine": describe_machine(device)}
    print(found["machine"], flush=True)
    calls = {
        "encoders": lambda: try_encoders(device, say),
        "input": lambda: try_input(device, say, args.pictures),
        "groups": lambda: try_groups(device, say, args.seeds),
    }

    def say(line: str) -> None:
        print(line, flush=True)

    for part in args.only:
        found[part] = calls[part]()
    if args.out:
        write_atomically(args.out, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
