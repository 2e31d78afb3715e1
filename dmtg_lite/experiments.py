"""Presets and the table that sets methods side by side.

What one method does is in `dmtg_lite.methods`; what a table looks like on a page is in `plots`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING

import torch

from dmtg_lite.config import TrainConfig
from dmtg_lite.data.task_data import TaskData
from dmtg_lite.methods import METHODS, MethodResult, draw_groups
from dmtg_lite.metrics import total
from dmtg_lite.tasks import METRIC_LABELS

if TYPE_CHECKING:
    import pandas as pd

_TASKONOMY = TrainConfig(
    tau=4.0,
    lr=1e-4,
    schedule="plateau",
    epochs=100,
    pretrain=100,
    batch_size=16,
    encoder="xception",
    shared=6,
)
PAPER = {
    "celeba9": TrainConfig(
        tau=2.5, lr=8e-4, schedule="plateau", epochs=100, pretrain=100, batch_size=256, encoder="resnet"
    ),
    "celeba40": TrainConfig(
        tau=2.5, lr=8e-4, schedule="plateau", epochs=100, pretrain=100, batch_size=256, encoder="resnet"
    ),
    "taskonomy5": _TASKONOMY,
    "taskonomy5_vit": replace(_TASKONOMY, encoder="vit_base", shared=7),
}
"""What the paper states (section 4.1): S = 1/K, one Gumbel draw a step, Adam on weights and S alike,
fixed tau, plateau decay by 0.5, 100 epochs from pretrained Naive MTL weights, argmax at the end.

Where the paper is silent we had to choose: batches of 256, as in the released code; 100 epochs of
pretraining; patience 3 and any improvement counted for the plateau, in pretraining too; whole batches
only; the weights of the last step, where the released code keeps the checkpoint of the best losses. Rates
and Adam's averages start afresh after pretraining, while Naive MTL and STL train pretraining and main
steps in one go; random and planted groups start from the pretrained weights, as DMTG does.

Where the released code differs from the paper on CelebA: it halves the rate every 15 epochs
(``schedule="multistep"``), trains Naive MTL with SGD at 5e-4, and starts its runs without Naive MTL weights;
the FLOPs of Table A1 fit ``shared=1``.

On Taskonomy the paper is silent about batches (16, within the released code's 12 to 24) and about what its
main table shares: the first 6 stages, since Table 6 gives its numbers for that, and the released code's ViT
shares as many blocks (``shared=7``: the patches come first). There the released code has a rate of 1e-3, and
SGD at 0.1 for Naive MTL; ``scale_gradients`` (with the wrong n between branch and heads); the tolerant l1 on
depth and normals (`tasks.make_tolerant`); and a plateau of the training loss. Its labels are not what
they should be (class ids blended by resizing, 16-bit values scaled away, missing ones replaced by the view
before), so the absolute numbers of Tables 1 and 2 are no target: see the docs."""

_PLAIN = TrainConfig(
    tau=2.5, lr=3e-3, lr_assignment=3e-2, pretrain=300, steps=900, batch_size=64, capacity=1
)  # fmt: skip
_SPARE = replace(
    _PLAIN,
    pretrain=100,
    spare_branches="double",
    train_all_heads=True,
    optimiser_assignment="sgd",
    lr_assignment=6.0,
)

TOY = {
    "faces": _SPARE,
    "independent": replace(_SPARE, head_hidden=32),
    "separate": replace(_SPARE, batch_size=128),
    "planes": replace(_SPARE, capacity=2),
    "digits": replace(_PLAIN, pretrain=200, steps=600, capacity=2),
    "rooms": replace(_PLAIN, encoder="xception_small", batch_size=16, pretrain=200, steps=400),
    "faces_plain": _PLAIN,
}
"""What works on a CPU in seconds.

``"faces_plain"`` is the paper's optimiser: one Adam for weights and S. A few hundred steps are too few
for a single learning rate, since Adam moves S by at most the rate per step, so S has its own, ten times
larger. It finds the planted groups in some seeds only.

``"faces"`` opens twice as many branches and closes one after another, the one that is missed least (see
`dmtg_lite.closing`). Its S moves by SGD, its heads all learn from every batch, and it branches out after
100 steps: an encoder that has long served all tasks has settled on some of them. All of this is ours.

``"rooms"`` is the paper's optimiser again, with the small Xception: about two minutes on one core, most of
them spent in the 15 decoders.

The others are for `toy_faces(labels="independent")`, `toy_faces(labels_per_image=1, n_train=4000)`,
`toy_faces(labels="planes")` and the digits, which do better without spare branches."""


def run_method(
    data: TaskData, method: str, n_groups: int | str, config: TrainConfig, *, seed: int | None = None
) -> MethodResult:
    """Run one method by name.

    Raises:
        ValueError: If there is no such method; the message lists them.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {sorted(METHODS)}.")
    if seed is not None:
        config = replace(config, seed=seed)
    return METHODS[method](data, n_groups, config)


def choose_methods(data: TaskData) -> list[str]:
    """All methods that these data allow: `planted` only where those groups are known."""
    return [name for name in METHODS if name != "planted" or data.planted_groups]


def _run_quietly(job: tuple[TaskData, str, int, TrainConfig]) -> MethodResult:
    torch.set_num_threads(1)  # processes share the cores; two threads each would fight for them
    return run_method(*job)


def run_all(
    data: TaskData,
    methods: Sequence[str],
    n_groups: int | str,
    config: TrainConfig,
    seeds: Iterable[int],
    *,
    jobs: int = 1,
    progress: bool = False,
) -> list[MethodResult]:
    """Run every method with every seed on the same images.

    Args:
        data: The tasks and their images.
        methods: Names from `dmtg_lite.methods.METHODS`.
        n_groups: K, or ``"auto"`` for methods that find it (`dmtg`) or need none.
        config: The preset; each run gets its own seed.
        seeds: One run per seed and method.
        jobs: Processes of one thread each. With one job this process's threads are used; the number of
            threads (not of processes) can change the last digits of a sum.
        progress: Show a progress bar (needs tqdm).

    Returns:
        Results in the order of ``seeds``, then ``methods``.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"unknown methods {unknown}; there are {sorted(METHODS)}.")
    config.count_branches(n_groups, len(data.tasks))  # what will be refused is refused before any training
    if "random" in methods:
        if n_groups == "auto":
            raise ValueError('`random` needs a number of groups; "auto" is for `dmtg`.')
        draw_groups(data.task_names, n_groups, seed=0)
    if "planted" in methods and data.planted_groups is None:
        raise ValueError(f"{data.name!r} has no planted groups; leave `planted` out of the methods.")
    cells = [(data, name, n_groups, replace(config, seed=seed)) for seed in seeds for name in methods]
    if jobs == 1:
        return list(_with_progress((run_method(*cell) for cell in cells), len(cells), progress))
    # spawn: a forked child of a process that has used torch's threads can hang
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(_with_progress(pool.map(_run_quietly, cells), len(cells), progress))


def _with_progress(results: Iterable[MethodResult], total_: int, show: bool) -> Iterable[MethodResult]:
    if not show:
        return results
    from tqdm.auto import tqdm

    return tqdm(results, total=total_, desc="runs", leave=False)


def tabulate(results: Sequence[MethodResult], *, reference: str = "naive") -> pd.DataFrame:
    """One tidy row per run, with NormGain against the reference run of the same seed.

    Args:
        results: Of any methods and seeds, the reference among them.
        reference: Method every gain is relative to.

    Returns:
        Columns method, seed, total_error (points; nan where tasks have different metrics), total_loss,
        norm_gain_error and norm_gain_loss (percent), n_groups, agreement, encoder_cost, cpu_seconds,
        wall_seconds, groups, note.
        Where the reference has no error on a task (or a score of 0), norm_gain_error is nan and ``note``
        names the task.

    Raises:
        ValueError: If a seed has no run of the reference method.
    """
    import pandas as pd

    by_seed = _find_reference(results, reference)
    rows = []
    for result in results:
        seed = result.config.seed
        at_zero = [name for name, error in by_seed[seed].task_errors.items() if error == 0]
        rows.append(
            {
                "method": result.method,
                "seed": seed,
                "total_error": result.total_error,
                "total_loss": total(result.task_losses),
                # after hours of training, one task without errors must not cost the whole table
                "norm_gain_error": float("nan") if at_zero else result.norm_gain_error(by_seed[seed]),
                "norm_gain_loss": result.norm_gain_loss(by_seed[seed]),
                "n_groups": len(result.groups),
                "agreement": result.agreement,
                "encoder_cost": result.encoder_cost,
                "cpu_seconds": result.seconds["cpu"],
                "wall_seconds": result.seconds["wall"],
                "groups": " | ".join(", ".join(group) for group in result.groups),
                "note": f"no relative gain: {reference} is at 0 on {', '.join(at_zero)}" if at_zero else "",
            }
        )
    return pd.DataFrame(rows)


def tabulate_tasks(results: Sequence[MethodResult], *, reference: str = "naive") -> pd.DataFrame:
    """One tidy row per run and task, with the terms of both NormGains (Tables 2, 3 and A2, Figure A2).

    Returns:
        Columns method, seed, task, loss, error (in the unit of ``metric``), metric, gain_loss and gain_error
        (percent; nan where the reference has no error), group: the tasks it shares an encoder with.

    Raises:
        ValueError: If a seed has no run of the reference method.
    """
    import pandas as pd

    by_seed = _find_reference(results, reference)
    rows = []
    for result in results:
        other = by_seed[result.config.seed]
        loss_gains = result.loss_gains(other)
        at_zero = any(error == 0 for error in other.task_errors.values())
        error_gains = {} if at_zero else result.error_gains(other)
        group_of = {name: ", ".join(group) for group in result.groups for name in group}
        for task in result.tasks:
            name = task.name
            rows.append(
                {
                    "method": result.method, "seed": result.config.seed, "task": name,
                    "loss": result.task_losses[name], "error": result.task_errors[name],
                    "metric": METRIC_LABELS[task.metric], "gain_loss": loss_gains[name],
                    "gain_error": error_gains.get(name, float("nan")), "group": group_of[name],
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _find_reference(results: Sequence[MethodResult], reference: str) -> dict[int, MethodResult]:
    """The reference's run of every seed."""
    by_seed = {result.config.seed: result for result in results if result.method == reference}
    for result in results:
        if result.config.seed not in by_seed:
            raise ValueError(
                f"no {reference!r} run with seed {result.config.seed} to compare {result.method!r} with."
            )
    return by_seed


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread (standard deviation) over seeds, one row per method in order of appearance.

    With one seed there is no spread and the column says nan.
    """
    columns = ["total_error", "norm_gain_error", "norm_gain_loss", "agreement", "encoder_cost", "cpu_seconds"]
    grouped = table.groupby("method", sort=False)
    means, spreads = grouped[columns].mean(), grouped[columns].std()
    spread_of = ["total_error", "norm_gain_error", "norm_gain_loss"]
    summary = means.join(spreads[spread_of].add_suffix("_std"))
    summary["agreement"] = summary["agreement"].where(table.groupby("method")["agreement"].count() > 0)
    summary["seeds"] = grouped["seed"].nunique()
    return summary


def compare(
    data: TaskData,
    *,
    methods: Sequence[str] | None = None,
    n_groups: int | str = 3,
    seeds: Iterable[int] = range(3),
    config: TrainConfig | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> pd.DataFrame:
    """Methods x seeds on the same data, as one tidy table (see `tabulate`); needs pandas.

    Without ``methods`` all are run that the data allow: `planted` only where those groups are known.
    """
    config = TOY.get(data.name.removeprefix("toy_"), TOY["faces"]) if config is None else config
    names = list(methods or choose_methods(data))
    names = names if "naive" in names else ["naive", *names]
    return tabulate(run_all(data, names, n_groups, config, seeds, jobs=jobs, progress=progress))
