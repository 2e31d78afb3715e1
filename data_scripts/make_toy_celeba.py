"""Write a FAKE CelebA: drawn faces and random labels in the official file formats.

Nothing in it is CelebA. The drawing is `dmtg_lite.data.stand_ins.celeba`, the formats
`celeba_files` beside it.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dmtg_lite.data.scripts import run_script
from dmtg_lite.data.stand_ins.celeba_files import LAYOUTS, make_fake_celeba


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make_toy_celeba",
        description="Write a FAKE CelebA: drawn faces, not CelebA's images, with 40 random labels "
        "that have CelebA's positive rates and correlations and show in the drawing.",
        epilog="Time: about 8 ms a face, 5 seconds for 600. Disk: 5 kB a face. Then: "
        "python data_scripts/prepare_celeba.py --root FOLDER --out prepared/celeba",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument("--n", type=int, default=600, help="number of faces (default 600)")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="torchvision", help="default torchvision"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same faces (default 0)")
    return run_script(parser, write, ", nothing was written", arguments)


def write(out: str, n: int, **options: Any) -> str:
    made = make_fake_celeba(out, n=n, progress=True, **options)
    return f"wrote {n} FAKE (drawn) faces to {made}"


if __name__ == "__main__":
    sys.exit(main())
