"""Grouping or balancing? Naive MTL, gradient balancing and DMTG on toy faces and on Yeast.

Seeds, recipes and intervals are those of `yeast.py`, which has the opponents too.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from yeast import run, show

from dmtg_lite import data
from dmtg_lite.methods.recipe import choose_recipe

METHODS = ("naive", "balance", "balance_pcgrad", "balance_mgda", "random", "dmtg")


def make_data(suite: str, seed: int):
    return getattr(data, suite)(seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--groups", type=int, default=3, help="K (%(default)s)")
    parser.add_argument("--suites", nargs="+", default=["toy_faces", "yeast"])
    parser.add_argument("--out", type=Path, default=Path("runs/yeast"))
    args = parser.parse_args()
    for suite in args.suites:
        make = partial(make_data, suite)
        config = choose_recipe(make(0), args.groups)
        print(f"{suite}: K = {args.groups}, {config}\n")
        show(*run(METHODS, args.groups, range(args.seeds), config, make, args.out))


if __name__ == "__main__":
    main()
