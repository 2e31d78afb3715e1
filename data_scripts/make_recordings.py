"""Record the runs that ship with the package: good, failed, with spare branches, crisp without
meaning.

Seeds are tried in order; kept are the first good run and the first that failed with every task
settled. They are chosen, and their notes say so.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import dmtg_lite.views.recordings
from dmtg_lite import data, methods
from dmtg_lite.experiments import TOY
from dmtg_lite.methods import MethodResult

SINGLE = TOY["faces_plain"]


def keep(result: MethodResult, name: str, title: str, note: str, folder: Path) -> None:
    """Write every third step of a run, the last one included, under a name."""
    history = result.history.slice(start=(len(result.history) - 1) % 3, every=3)
    history.about = replace(history.about, title=title, note=note)
    path = history.save(folder / f"{name}.npz")
    print(
        f"{path}: seed {result.config.seed}, agreement {result.agreement:.2f}, "
        f"{path.stat().st_size} bytes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(dmtg_lite.views.recordings.__file__).parent
    )
    out = parser.parse_args().out
    torch.set_num_threads(1)
    runs: list[MethodResult] = []
    good = failed = None
    while good is None or failed is None:
        seed = len(runs)
        run = methods.dmtg(data.toy_faces(seed=seed), 3, replace(SINGLE, seed=seed))
        runs.append(run)
        if run.agreement == 1:
            good = good or run
        elif (run.history.probabilities[-1].max(-1) > 0.9).all():
            failed = failed or run
    tally = (
        f"of seeds 0 to {len(runs) - 1}, {sum(run.agreement == 1 for run in runs)} found them all"
    )
    keep(
        good,
        "good",
        "A run that finds the planted groups",
        f"A single run, chosen because it succeeds: {tally}.",
        out,
    )
    keep(
        failed,
        "failed",
        "A run that settles on the wrong groups",
        f"A single run, chosen because it fails: {tally}. It is as settled as a good one; its "
        f"training loss tells: {failed.train_loss:.2f} against {good.train_loss:.2f}.",
        out,
    )
    seed = failed.config.seed
    spare = methods.dmtg(data.toy_faces(seed=seed), 3, replace(TOY["faces"], seed=seed))
    found = (
        "finds the planted groups"
        if spare.agreement == 1
        else "does not find the planted groups either"
    )
    keep(
        spare,
        "spare",
        "Six branches, closed one by one until three remain",
        "The images of the failed run, with spare branches: each time the one missed least closes. "
        f"On these images that {found}.",
        out,
    )
    roomy = methods.dmtg(data.toy_faces(seed=good.config.seed), 3, replace(good.config, capacity=4))
    keep(
        roomy,
        "roomy",
        "Four numbers through the bottleneck: crisp groups without meaning",
        "The same images and seed as the good run with capacity=4. Every branch can serve every "
        "task, so which task sits where hardly matters; the probabilities settle all the same.",
        out,
    )


if __name__ == "__main__":
    main()
