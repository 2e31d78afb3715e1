"""Prepare the official CelebA files for `dmtg_lite.data.celeba.load`: arguments in, one folder out.

Everything happens in `dmtg_lite.data.celeba.prepare`; CelebA itself you download yourself, under
its licence (non-commercial research).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dmtg_lite.data.celeba.prepare import describe, prepare_celeba
from dmtg_lite.data.scripts import run_script


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="prepare_celeba",
        description="Turn CelebA's lists and images into one uint8 array of 64 x 64 pixels, labels "
        "and a manifest.",
        epilog="Time: about two minutes for all 202,599 images on two cores. Disk: 2.5 GB for all "
        "of them, 12 kB an image; the images and img_align_celeba.zip (1.4 GB) are only read. "
        "Memory: under 1 GB. An interrupted run continues when started again.",
    )
    parser.add_argument(
        "--root",
        required=True,
        help="folder with CelebA as torchvision, its authors, Kaggle or Hugging Face (parquet) lay "
        "it out, or with the unopened img_align_celeba.zip",
    )
    parser.add_argument("--out", required=True, help="folder to make, e.g. prepared/celeba")
    parser.add_argument(
        "--attributes", type=int, choices=(9, 40), default=9, help="labels to keep (default 9)"
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="take about N images, shared between the splits; needed for a partial download",
    )
    parser.add_argument(
        "--split-fractions",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        help="divide the images anew in their order, e.g. 0.8 0.1 0.1, where a sample lacks one of "
        "the official splits",
    )
    parser.add_argument(
        "--antialias", action="store_true", help="average when shrinking; the paper does not"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="worker processes (default: all cores)"
    )
    parser.add_argument(
        "--restart", action="store_true", help="delete interrupted work of other settings"
    )
    return run_script(parser, prepare, "; start it again to continue", arguments)


def prepare(root: str, out: str, **options: Any) -> str:
    written = prepare_celeba(root, out, **options)
    return "\n".join([*describe(written), f"prepared {written}"])


if __name__ == "__main__":
    sys.exit(main())
