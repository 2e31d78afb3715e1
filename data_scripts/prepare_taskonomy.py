"""Prepare Taskonomy's PNGs for `dmtg_lite.data.taskonomy.load`: arguments in, one folder out.

Everything happens in `dmtg_lite.data.taskonomy.prepare`; Taskonomy itself you download yourself,
under its licence (non-commercial research).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dmtg_lite.data.scripts import run_script
from dmtg_lite.data.taskonomy.prepare import describe, prepare_taskonomy


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="prepare_taskonomy",
        description="Turn Taskonomy's pictures of the five tasks (rgb, depth_zbuffer, normal, "
        "segment_semantic, keypoints2d, edge_texture) into arrays and a manifest.",
        epilog="Time: about 45 ms of a core for a view of 512 pixels, besides reading its six "
        "files; three hours of one core for the 260,000 views of the tiny split. Disk: 0.85 MB a "
        "view at 256 pixels, 0.05 MB at 64 (tiny: 220 and 14 GB); the pictures are only read. "
        "Memory does not grow with the views. An interrupted run continues when started again. "
        "Broken pictures (the official files have some) are left out, counted and listed.",
    )
    parser.add_argument(
        "--root",
        required=True,
        help="folder with Taskonomy as omnitools (DOMAIN/taskonomy/BUILDING), Standley or DMTG "
        "(DOMAIN/BUILDING) lay it out, unpacked or unopened BUILDING_DOMAIN.tar or "
        "DOMAIN__taskonomy__BUILDING.tar, or one building",
    )
    parser.add_argument("--out", required=True, help="folder to make, e.g. prepared/taskonomy")
    parser.add_argument(
        "--split",
        default="tiny",
        help="tiny (default): the official 25, 5 and 5 buildings; a split CSV; one: divide the "
        "points of a single building 80, 10 and 10 percent; points: the same with each building "
        "that is there",
    )
    parser.add_argument(
        "--size", type=int, default=256, metavar="S", help="pixels a side (default 256)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="take about N views, evenly from the buildings"
    )
    parser.add_argument(
        "--max-broken",
        type=float,
        default=1.0,
        metavar="PERCENT",
        help="stop if more of the views have a broken picture (default 1 percent)",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="worker processes (default: all cores)"
    )
    parser.add_argument(
        "--restart", action="store_true", help="delete interrupted work of other settings"
    )
    return run_script(parser, prepare, "; start it again to continue", arguments)


def prepare(root: str, out: str, **options: Any) -> str:
    written = prepare_taskonomy(root, out, **options)
    return "\n".join([*describe(written), f"prepared {written}"])


if __name__ == "__main__":
    sys.exit(main())
