"""Write a FAKE Taskonomy: drawn rooms in the file formats and folder layouts of Taskonomy.

Nothing in it is Taskonomy. The drawing is `dmtg_lite.data.toys.rooms`, the formats
`dmtg_lite.data.stand_ins.taskonomy_files`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dmtg_lite.data.scripts import run_script
from dmtg_lite.data.stand_ins.taskonomy_files import LAYOUTS, make_fake_taskonomy


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make_toy_taskonomy",
        description="Write a FAKE Taskonomy: drawn rooms, not Taskonomy's photographs, with exact "
        "depth, normals and classes, and keypoints and edges computed from the drawings.",
        epilog="Time: about 0.3 s a room of 512 pixels, 15 seconds for 6 x 8. Disk: 0.5 MB a room. "
        "Then: python data_scripts/prepare_taskonomy.py --root FOLDER --out prepared/taskonomy",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument("--layout", choices=LAYOUTS, default="omnitools", help="default omnitools")
    parser.add_argument(
        "--buildings", type=int, help="number of buildings (default 6; 1 for layout single)"
    )
    parser.add_argument("--views", type=int, default=8, help="rooms in each building (default 8)")
    parser.add_argument(
        "--size", type=int, default=512, help="pixels, height and width (default 512)"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same rooms (default 0)")
    return run_script(parser, write, ", nothing was written", arguments)


def write(out: str, views: int, **options: Any) -> str:
    made = make_fake_taskonomy(out, views=views, progress=True, **options)
    return f"wrote {views} FAKE (drawn) rooms for each building to {made}"


if __name__ == "__main__":
    sys.exit(main())
