"""The paper's two large networks at 256x256: multiply-adds beside Tables 6 and A1, and one training
step.

A step needs memory rather than patience: each is taken in a process of its own, on the device
given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from heavy_heads import make_pictures

from dmtg_lite.bench.measure import read_peak
from dmtg_lite.bench.run import describe_machine
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.macs import count_macs
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.fit import branch_out, build_network, train_steps

SIZE = 256
TABLE_6 = {0: 56.89, 3: 49.68, 6: 42.67, 9: 33.36}  # shared stages -> the paper's "GFLOPs", K=3
TABLE_A1 = {3: 38.90, 4: 50.68, 5: 62.47}  # K -> the same; which stages are shared is not said
PAPER_VIT = {3: 141.0, 4: 180.6, 5: 220.2}
CASES = [("xception", 3, shared) for shared in TABLE_6]
CASES += [("xception", 4, 6), ("xception", 5, 6), *(("vit_base", k, 7) for k in PAPER_VIT)]
STEPS = [
    ("xception", 3, 6, "float32"),
    ("xception", 3, 6, "bfloat16"),
    ("xception", 3, 0, "float32"),
]
STEPS += [("vit_base", 3, 7, "float32"), ("vit_base", 3, 7, "bfloat16")]


def make_network(
    encoder: str, n_groups: int, shared: int, *, size: int = SIZE, batch_size: int = 1
):
    data = make_pictures(size, batch_size)
    config = TrainConfig(
        encoder=encoder, shared=shared, tau=4.0, lr=1e-4, batch_size=batch_size, steps=100
    )
    return data, config, branch_out(build_network(data, config), n_groups, config)


def count_all() -> list[dict[str, object]]:
    """Multiply-adds of one image, with the paper's figures where it has them."""
    rows = []
    print(
        f"{'encoder':10} {'K':>2} {'share':>5} {'encoders':>9} {'heads':>6} {'GMACs':>7} "
        f"{'Table 6':>8} {'Table A1':>8}"
    )
    for encoder, n_groups, shared in CASES:
        data, _, network = make_network(encoder, n_groups, shared)
        macs = {
            name: value / 1e9 for name, value in count_macs(network, data.feature_shape).items()
        }
        is_ours = encoder == "xception"
        table_6 = TABLE_6.get(shared) if is_ours and n_groups == 3 else None
        table_a1 = (TABLE_A1 if is_ours else PAPER_VIT).get(n_groups) if shared in (6, 7) else None
        rows.append({"encoder": encoder, "n_groups": n_groups, "shared": shared, "gmacs": macs,
                     "table_6": table_6, "table_a1": table_a1})  # fmt: skip
        print(
            f"{encoder:10} {n_groups:2} {shared:5} {macs['encoder']:9.2f} {macs['heads']:6.2f} "
            f"{macs['total']:7.2f} {table_6 or '-':>8} {table_a1 or '-':>8}"
        )
    return rows


def take_step(args: argparse.Namespace) -> None:
    """Print seconds of a step after the first, and the most memory in MiB."""
    data, config, network = make_network(
        args.encoder, args.groups, args.shared, size=args.size, batch_size=args.batch_size
    )
    data, network = data.to(args.device), network.to(args.device)
    steps = train_steps(network, data, replace(config, precision=args.precision))
    seconds = []
    for _ in range(args.n_steps):
        begin = time.perf_counter()
        float(next(steps).task_losses.sum())
        seconds.append(time.perf_counter() - begin)
    on_gpu = args.device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else read_peak()
    print(json.dumps({"seconds": min(seconds[1:] or seconds), "peak_mib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="About five minutes on two cores; under 16 GB of memory.",
    )
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--n-steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--out", help="JSON file to write")
    for name in ("--encoder", "--precision"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--groups", "--shared"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.encoder:
        take_step(args)
        return
    machine = describe_machine()
    if args.device.startswith("cuda"):
        machine["gpu"] = torch.cuda.get_device_name(args.device)
    print(f"{machine}\n")
    counts, rows = count_all(), []
    print(f"\none training step, B={args.batch_size}, {args.size}x{args.size}, {args.device}")
    print(
        f"{'encoder':10} {'K':>2} {'share':>5} {'precision':>9} {'s a step':>9} {'images/s':>9} "
        f"{'peak GiB':>9}"
    )
    for encoder, n_groups, shared, precision in STEPS:
        command = [sys.executable, __file__, "--encoder", encoder, "--groups", str(n_groups)]
        command += [
            "--shared",
            str(shared),
            "--precision",
            precision,
            "--batch-size",
            str(args.batch_size),
        ]
        command += [
            "--n-steps",
            str(args.n_steps),
            "--device",
            args.device,
            "--size",
            str(args.size),
        ]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        row |= {"encoder": encoder, "n_groups": n_groups, "shared": shared, "precision": precision}
        rows.append(row)
        print(
            f"{encoder:10} {n_groups:2} {shared:5} {precision:>9} {row['seconds']:9.2f} "
            f"{args.batch_size / row['seconds']:9.2f} {row['peak_mib'] / 1024:9.1f}",
            flush=True,
        )
    if args.out:
        content = {"machine": machine, "settings": vars(args), "macs": counts, "steps": rows}
        write_atomically(Path(args.out), json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
