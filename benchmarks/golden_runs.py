"""Do small runs of every kind still end in the same weights and the same history, bit for bit?

    python benchmarks/golden_runs.py --record    # before a change: write the sums
    python benchmarks/golden_runs.py             # after it: compare, and say what differs

Sums hold on one machine with one version of torch: record them where you compare them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from dmtg_lite import TASKONOMY_5, TaskData, TrainConfig, data, methods
from dmtg_lite.data import Split

SUMS = Path(__file__).with_suffix(".json")
PLAIN: dict[str, Any] = {
    "encoder": "toy", "tau": 2.5, "lr": 3e-3, "lr_assignment": 3e-2, "pretrain": 40, "steps": 80,
    "seed": 3,
}  # fmt: skip
SPARE: dict[str, Any] = PLAIN | {
    "spare_branches": "double",
    "close_from": 40,
    "close_every": 10,
    "train_all_heads": True,
    "optimiser_assignment": "sgd",
    "lr_assignment": 6.0,
}
DENSE: dict[str, Any] = PLAIN | {
    "encoder": "xception_small", "batch_size": 16, "pretrain": 20, "steps": 60, "shared": 1,
    "prune_below": 0.32, "prune_from": 20,
}  # fmt: skip
OVERLAP = [["a", "b", "c", "d"], ["d", "e", "f"], ["f", "g", "h", "i"]]


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """A config from flat settings, by whichever way this version of the library reads them."""
    read = getattr(TrainConfig, "from_json", None)
    return read(settings) if read else TrainConfig(**settings)


def make_faces(**options: Any) -> TaskData:
    return data.toy_faces(
        n_tasks=9, n_groups=3, n_train=600, n_val=60, n_test=120, seed=0, **options
    )


def make_noise() -> TaskData:
    """Random pictures with Taskonomy's five tasks: how they are drawn can never change."""
    rng = torch.Generator().manual_seed(0)

    def make_split(n: int) -> Split:
        depth = (torch.rand(n, 1, 32, 32, generator=rng) * 3).half()
        depth[:, :, :4] = torch.nan
        return Split(
            torch.randint(0, 256, (n, 3, 32, 32), generator=rng, dtype=torch.uint8),
            {
                "depth": depth,
                "normal": torch.randint(-127, 128, (n, 3, 32, 32), generator=rng, dtype=torch.int8),
                "segmentation": torch.randint(-1, 18, (n, 32, 32), generator=rng, dtype=torch.int8),
                "keypoints": (torch.rand(n, 1, 32, 32, generator=rng) / 100).half(),
                "edges": (torch.rand(n, 1, 32, 32, generator=rng) / 50).half(),
            },
        )

    return TaskData("noise", TASKONOMY_5, make_split(160), make_split(16), make_split(16))


def overlapping(config: TrainConfig) -> Any:
    faces = make_faces()
    letters = dict(zip("abcdefghi", faces.task_names, strict=True))
    groups = [[letters[letter] for letter in group] for group in OVERLAP]
    return methods.train_groups(faces, groups, config)


def dmtg(
    make_data: Callable[[], TaskData], n_groups: int | str = 3
) -> Callable[[TrainConfig], Any]:
    return lambda config: methods.dmtg(make_data(), n_groups, config)


RUNS: dict[str, tuple[Callable[[TrainConfig], Any], dict[str, Any]]] = {
    "plain": (dmtg(make_faces), PLAIN),
    "spare": (dmtg(make_faces), SPARE),
    "auto": (dmtg(make_faces, "auto"), SPARE | {"spare_branches": 0, "close_every": 5}),
    "restarts": (dmtg(make_faces), PLAIN | {"restarts": 4, "halve_every": 30, "jitter": 0.01}),
    "overlapping": (overlapping, PLAIN | {"normalise_losses": True}),
    "rooms": (dmtg(lambda: data.toy_rooms(n_train=120, n_val=16, n_test=16, size=32), 2), DENSE),
    "noise": (dmtg(make_noise, 3), DENSE),
    "digits": (dmtg(data.digits), PLAIN | {"capacity": 2, "tau": [4.0, 0.5]}),
    "bfloat16": (dmtg(make_faces), PLAIN | {"precision": "bfloat16", "steps": 30}),
    "hidden": (
        dmtg(lambda: make_faces(labels="independent")),
        SPARE | {"head_hidden": 32, "normalise_losses": True, "close_rule": "random"},
    ),
    "epochs": (
        dmtg(make_faces),
        {"epochs": 8, "pretrain": 2, "schedule": "plateau", "estimator": "straight_through"}
        | {"encoder": "toy", "seed": 1},
    ),
    "hoa": (
        lambda config: methods.hoa(make_faces().select(make_faces().task_names[:4]), 2, config),
        PLAIN | {"pretrain": 20, "steps": 30},
    ),
}  # fmt: skip


def sum_bytes(parts: list[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def sum_weights(network: torch.nn.Module) -> str:
    """Of all weights and buffers, whatever their names and order."""
    tensors = network.state_dict().values()
    return sum_bytes(
        sorted(sum_bytes([t.cpu().contiguous().numpy().tobytes()]).encode() for t in tensors)
    )


def sum_history(history: Any) -> str:
    names = ("steps", "probabilities", "task_losses", "tau", "lr_assignment")
    arrays = [np.ascontiguousarray(getattr(history, name)).tobytes() for name in names]
    return sum_bytes([*arrays, json.dumps(history.closings, sort_keys=True).encode()])


def sum_data(suite: TaskData) -> str:
    parts = []
    for split in (suite.train, suite.val, suite.test):
        parts += [split.images.numpy().tobytes()]
        parts += [split.targets[name].numpy().tobytes() for name in suite.task_names]
    return sum_bytes(parts)


def run(names: list[str]) -> dict[str, dict[str, Any]]:
    sums: dict[str, dict[str, Any]] = {}
    warnings.simplefilter("ignore", UserWarning)  # that so few steps teach little
    for name in names:
        start, settings = RUNS[name]
        result = start(make_config(settings))
        losses = [*result.task_losses.values(), *result.task_errors.values(), result.train_loss]
        sums[name] = {
            "weights": sum_weights(result.network),
            "history": sum_history(result.history),
            "numbers": sum_bytes([repr(float(value)).encode() for value in losses]),
            "groups": result.groups,
            "encoder_macs": result.encoder_macs,
        }
        print(f"{name}: {sums[name]['weights'][:12]} {sums[name]['history'][:12]}", flush=True)
    return sums


def sum_all_data() -> dict[str, str]:
    few = {"n_train": 40, "n_val": 20, "n_test": 20}
    suites = {
        "faces": data.toy_faces(**few),
        "faces_64": data.toy_faces(10, 5, size=64, labels="planes", **few),
        "rooms": data.toy_rooms(**few),
        "digits": data.digits(),
    }
    return {f"data {name}": sum_data(suite) for name, suite in suites.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help=f"write {SUMS.name} anew")
    parser.add_argument("--only", nargs="+", choices=RUNS, help="these runs only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = run(args.only or list(RUNS)) | ({} if args.only else sum_all_data())
    if args.record:
        versions = {"torch": torch.__version__, "numpy": np.__version__}
        known = json.loads(SUMS.read_text(encoding="utf-8")) if args.only else {}
        SUMS.write_text(
            json.dumps(known | {"versions": versions} | found, indent=1) + "\n", encoding="utf-8"
        )
        return 0
    known = json.loads(SUMS.read_text(encoding="utf-8"))
    differ = [name for name, sums in found.items() if known[name] != sums]
    for name in differ:
        print(f"DIFFERS {name}: recorded {known[name]}\n        now {found[name]}")
    print(f"{len(found) - len(differ)} of {len(found)} as recorded with {known['versions']}.")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
