"""Prepare the official CelebA files for `dmtg_lite.data.celeba.load`: arguments in, one folder out.

Everything happens in `dmtg_lite.data.celeba.prepare`; CelebA itself you download yourself, under
its licence (non-commercial research).
"""

from __future__ import annotations

import argparse
import sys

from dmtg_lite.data.celeba.prepare import prepare_celeba


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
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
        "--limit", type=int, metavar="N", help="take about N images, shared between the splits"
    )
    parser.add_argument(
        "--antialias", action="store_true", help="average when shrinking; the paper does not"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="worker processes (default: all cores)"
    )
    options = vars(parser.parse_args(arguments))
    try:
        out = prepare_celeba(options.pop("root"), options.pop("out"), **options)
    except (ValueError, OSError, ImportError) as error:
        print(f"prepare_celeba: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare_celeba: interrupted; start it again to continue", file=sys.stderr)
        return 130
    print(f"prepared {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
