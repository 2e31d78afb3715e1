"""The command line, ``python -m dmtg_lite`` or ``dmtg-lite``: parsing arguments and printing only."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path

from dmtg_lite.core.tasks import METRIC_LABELS, make_tolerant
from dmtg_lite.files import write_atomically

EMBEDDED = ("toy_faces", "toy_rooms", "digits")
SUITES = (*EMBEDDED, "celeba9", "celeba40", "taskonomy5")
BASICS = ("naive", "stl", "random", "planted", "dmtg")
METHODS = (
    *BASICS, "hoa", "tag", "cosine", "mtg_net", "two_shot", "two_shot_pretrained", "prune_finetune",
)  # fmt: skip
TABLES = (
    *(f"table{n}" for n in range(1, 7)),
    *(f"tableA{n}" for n in range(1, 6)),
    "figureA2",
    "appendixD",
)


def _load(args: argparse.Namespace):
    from dmtg_lite import data

    if args.tolerant and args.suite not in ("toy_rooms", "taskonomy5"):
        raise ValueError(f"`--tolerant` is for tasks with an l1 loss, and {args.suite} has none.")
    if args.suite in EMBEDDED:
        suite = getattr(data, args.suite)(seed=args.seed).to(args.device)
    elif args.data is None:
        script = "prepare_taskonomy.py" if args.suite == "taskonomy5" else "prepare_celeba.py"
        raise ValueError(
            f"`--data` is missing: {args.suite} needs the folder that data_scripts/{script} wrote."
        )
    elif args.suite == "taskonomy5":
        suite = data.taskonomy(args.data).stream_to(args.device)  # too large to move as a whole
    else:
        suite = data.celeba(args.data, suite=args.suite).to(args.device)
    return replace(suite, tasks=make_tolerant(suite.tasks)) if args.tolerant else suite


def _device(name: str) -> str:
    """A device that torch can use here, or the reason why it cannot."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"{name!r} cannot be used here: {reason}") from None
    return name


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, got {text!r}")
    return int(text)


def _count_or(word: str):
    """A whole number, or one word that stands for a rule."""

    def parse(text: str) -> int | str:
        if text == word or text.lstrip("-").isdecimal():
            return word if text == word else int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number or {word!r}, got {text!r}")

    return parse


def _config(args: argparse.Namespace):
    from dmtg_lite.experiments import PAPER, TOY

    config = PAPER[args.suite] if args.suite in PAPER else TOY[args.suite.removeprefix("toy_")]
    changes = {
        name: value
        for name in (
            "tau",
            "lr",
            "lr_assignment",
            "restarts",
            "spare_branches",
            "close_from",
            "close_every",
            "batch_size",
            "shared",
            "precision",
            "pretrain",
            "encoder",
            "pretrained",
            "prune_below",
            "prune_from",
        )
        if (value := getattr(args, name)) is not None
    }
    if args.steps is not None and args.epochs is not None:
        raise ValueError("give --steps or --epochs, not both.")
    for unit, other in (("steps", "epochs"), ("epochs", "steps")):
        if (value := getattr(args, unit)) is not None:
            if args.pretrain is None and config.pretrain and getattr(config, unit) is None:
                raise ValueError(
                    f"the preset of {args.suite} counts in {other}, {config.pretrain} of them "
                    "before "
                    f"branching out: say --pretrain in {unit} too."
                )
            changes |= {unit: value, other: None}
    return replace(config, seed=args.seed, **changes)


def _show(mean: float, spread: float, digits: int = 1) -> str:
    """A mean and its spread over seeds; no spread of one seed, and a dash for what does not exist."""
    if isnan(mean):
        return "-"
    return f"{mean:8.{digits}f}" + ("" if isnan(spread) else f" ±{spread:5.{digits}f}")


def _print_tasks(table) -> None:
    """Losses and errors of every task, one line a method and task."""
    heads = ("loss", "gain %", "metric", "value", "gain %")
    print(f"\n{'task':14} {'method':20} " + " ".join(f"{head:>17}" for head in heads))
    columns = ["loss", "gain_loss", "error", "gain_error"]
    for (task, method, metric), rows in table.groupby(["task", "method", "metric"], sort=False):
        mean, spread = rows[columns].mean(), rows[columns].std()
        loss, gain_loss, error, gain_error = (
            _show(mean[name], spread[name], 4 if name == "loss" else 1 if "gain" in name else 2)
            for name in columns
        )
        cells = (loss, gain_loss, metric, error, gain_error)
        print(f"{task:14} {method:20} " + " ".join(f"{cell:>17}" for cell in cells))


def _print_summary(table) -> None:
    from dmtg_lite.experiments import summarise

    summary = summarise(table)
    heads = [
        ("total error", 15),
        ("NormGain_E %", 16),
        ("NormGain_L %", 16),
        ("ARI", 6),
        ("cost", 6),
    ]
    heads.append(("CPU s", 7))
    lines = [f"{'method':20} " + " ".join(f"{head:>{width}}" for head, width in heads)]
    for key, row in summary.iterrows():
        # several numbers of groups: (method, K), and no K where none was asked for
        method = (
            key if isinstance(key, str) else key[0] if isnan(key[1]) else f"{key[0]} K={key[1]:.0f}"
        )
        pairs = [
            _show(row[name], row[name + "_std"])
            for name in ("total_error", "norm_gain_error", "norm_gain_loss")
        ]
        agreement = "     -" if row["agreement"] != row["agreement"] else f"{row['agreement']:6.2f}"
        costs = f"{row['encoder_cost']:6.2f} {row['cpu_seconds']:7.0f}"
        lines.append(
            f"{method:20} {pairs[0]:>15} {pairs[1]:>16} {pairs[2]:>16} {agreement} {costs}"
        )
    print("\n".join(lines))
    n_seeds = int(summary["seeds"].iloc[0])
    print(
        f"mean ± standard deviation over {n_seeds} seed{'s' * (n_seeds > 1)}; NormGain against "
        "Naive MTL\n"
        "of the same seed; ARI: agreement with the planted groups (1 exact, about 0 chance); "
        "cost: encoder\n"
        "multiply-adds spent in training relative to Naive MTL, spare branches and restarts "
        "included."
    )


def demo(args: argparse.Namespace) -> None:
    """Run the whole story on toy faces."""
    from dmtg_lite import data
    from dmtg_lite.experiments import TOY, run_all, tabulate
    from dmtg_lite.views.replay import write_replay

    faces = data.toy_faces(seed=args.seed)
    seeds = range(args.seed, args.seed + args.seeds)
    print(
        f"{len(faces.tasks)} tasks in {len(faces.planted_groups)} planted groups, "
        f"{len(faces.train)} drawn "
        f"faces, {args.seeds} seeds, {args.jobs} processes. About two minutes on two cores."
    )
    results = run_all(faces, BASICS, 3, TOY["faces"], seeds, jobs=args.jobs, progress=True)
    out = Path(args.out)
    write_atomically(
        out / "results.json", json.dumps([r.to_json() for r in results], indent=1).encode()
    )
    table = tabulate(results)
    _print_summary(table)
    write_atomically(out / "table.csv", table.to_csv(index=False).encode())
    # the first seed, whether it succeeded or not: a demonstration that picks its best run shows
    # nothing
    run = next(result for result in results if result.method == "dmtg")
    print(f"\nDMTG, seed {run.config.seed}: groups found")
    for group in run.groups:
        print("  " + ", ".join(group))
    run.history.save(out / "run.npz")
    page = write_replay(run.history, out / "replay.html")
    print(
        f"\nwrote {out / 'table.csv'}, {out / 'results.json'}, {out / 'run.npz'}\nopen {page} in "
        "a browser"
    )


def train(args: argparse.Namespace) -> None:
    """Train one method on one suite, with checkpoints."""
    from dmtg_lite import methods

    out = Path(args.out)
    checkpoints = out / "checkpoints"
    if checkpoints.exists() and not args.resume:
        raise ValueError(
            f"{checkpoints} holds an earlier run: pass --resume to continue it, or another --out."
        )
    config = _config(args)
    suite = _load(args)
    print(f"{args.method} on {args.suite}, K={args.groups}: {config}\n{suite}")
    result = methods.METHODS[args.method](
        suite,
        args.groups,
        config,
        saving=methods.Saving(checkpoints, every=args.checkpoint_every, progress=True),
    )
    result.save(out)
    print(result)
    if result.elbow is not None:
        costs = ", ".join(f"{cost:.2f}" for cost in result.elbow["costs"])
        n_opened, n_groups = result.elbow["n_branches"][0], result.elbow["n_groups"]
        print(
            f"closing costs, {n_opened} branches to 1: {costs}; the largest rise says K = "
            f"{n_groups}"
        )
    for task in result.tasks:
        loss, error = result.task_losses[task.name], result.task_errors[task.name]
        print(f"  {task.name:24} loss {loss:.4f}  {METRIC_LABELS[task.metric]} {error:6.2f}")
    print(f"wrote {out / 'result.json'}, {out / 'run.npz'}, {out / 'network.safetensors'}")


def compare(args: argparse.Namespace) -> None:
    """Compare methods over seeds and numbers of groups; finished runs in ``--out`` are not run again."""
    from dmtg_lite.experiments import plan_comparison, tabulate, tabulate_tasks
    from dmtg_lite.studies.cells import run_cells

    config, suite, out = _config(args), _load(args), Path(args.out)
    seeds = range(args.seed, args.seed + args.seeds)
    results = run_cells(
        plan_comparison(suite, args.methods, args.groups, seeds, config),
        suite,
        folder=out / "cells",
        jobs=args.jobs,
        progress=True,
        keep_checkpoints=args.suite not in EMBEDDED,
    )
    tables = {"table.csv": tabulate(results), "tasks.csv": tabulate_tasks(results)}
    _print_summary(tables["table.csv"])
    for one in results:
        if "failed" in one:
            print(
                f"{one['method']} with seed {one['seed']} failed, the others went on: "
                f"{one['failed']}"
            )
    if suite.tasks[0].is_dense:
        _print_tasks(tables["tasks.csv"])
    for name, table in tables.items():
        print(f"wrote {write_atomically(out / name, table.to_csv(index=False).encode())}")


def evidence(args: argparse.Namespace) -> None:
    """Judge each claim of the paper on drawn faces."""
    from dmtg_lite.studies.evidence import run_evidence, write_verdicts

    seeds = range(args.seed, args.seed + args.seeds)
    verdicts = run_evidence(seeds, folder=Path(args.out) / "cells", jobs=args.jobs, progress=True)
    for one in verdicts:
        spread = f" ({one.low:.2f} to {one.high:.2f})" if one.n_seeds else ""
        print(f"{one.verdict:14} {one.question}\n{'':14} {one.measured}: {one.value:.2f}{spread}")
    print(
        f"wrote {write_verdicts(verdicts, args.out, heading=f'Seeds {seeds[0]} to {seeds[-1]}.')}"
    )


def reproduce(args: argparse.Namespace) -> None:
    """Put a table of the paper beside our numbers."""
    from dmtg_lite.studies.paper import Setting, render_text, reproduce_table, write_reproduction

    setting = Setting(args.data, is_toy=args.toy, is_quick=args.quick, device=args.device)
    n_seeds = args.seeds or (2 if args.toy else 1)
    result = reproduce_table(
        args.table,
        Path(args.out) / "cells",
        setting=setting,
        seeds=range(args.seed, args.seed + n_seeds),
        jobs=args.jobs,
        progress=True,
    )
    print(render_text(result))
    for path in write_reproduction(result, args.out):
        print(f"wrote {path}")


def replay(args: argparse.Namespace) -> None:
    """Turn a recorded run into one HTML page."""
    from dmtg_lite.runs.history import History
    from dmtg_lite.views.replay import write_replay

    print(f"open {write_replay(History.load(args.run), args.html)} in a browser")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Names a default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _add_suite_arguments(parser: argparse.ArgumentParser, *, several_groups: bool = False) -> None:
    parser.add_argument(
        "suite",
        choices=SUITES,
        help="toy_faces, toy_rooms and digits are embedded; the others need --data",
    )
    parser.add_argument(
        "--data", help="folder that data_scripts/prepare_celeba.py or prepare_taskonomy.py wrote"
    )
    parser.add_argument(
        "--groups",
        type=_count_or("auto"),
        **({"nargs": "+", "default": [3]} if several_groups else {"default": 3}),
        help="K, the largest number of groups; auto, for dmtg alone: read off the closing costs",
    )
    parser.add_argument(
        "--tau", type=float, help="temperature of the draw; this and what follows: the preset's"
    )
    parser.add_argument("--lr", type=float, help="learning rate of the weights")
    parser.add_argument("--lr-assignment", type=float, help="learning rate of S")
    parser.add_argument("--steps", type=int, help="steps after pretraining")
    parser.add_argument("--epochs", type=int, help="epochs after pretraining")
    parser.add_argument(
        "--pretrain", type=int, help="Naive MTL steps (or epochs) before branching out"
    )
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--shared", type=int, help="encoder stages shared by all groups")
    parser.add_argument("--restarts", type=int, help="keep the best of this many, by training loss")
    parser.add_argument(
        "--spare-branches",
        type=_count_or("double"),
        help="branches opened beyond K and closed again while training; double: as many as K; 0: "
        "none",
    )
    parser.add_argument(
        "--close-from", type=int, help="step after which the first spare branch closes"
    )
    parser.add_argument("--close-every", type=int, help="steps from one closing to the next")
    parser.add_argument(
        "--encoder", help="xception, vit_base or a small sibling; resnet or toy for classes"
    )
    parser.add_argument(
        "--pretrained", metavar="FILE", help="local safetensors file with its first weights"
    )
    parser.add_argument(
        "--prune-below",
        type=float,
        help="drop heads less probable than this while training; 0: only at the end",
    )
    parser.add_argument("--prune-from", type=int, help="first step at which --prune-below acts")
    parser.add_argument(
        "--tolerant",
        action="store_true",
        help="l1 of depth and normals that forgives a shift of one pixel",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda, ...")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dmtg-lite", description="See multi-task grouping happen."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(function, about: str, needs: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            function.__name__,
            help=about,
            description=f"{about} {needs}",
            formatter_class=_Formatter,
        )
        command.set_defaults(function=function)
        return command

    cores = os.cpu_count() or 1
    command = add(
        demo, "The whole story on drawn faces.", "About two minutes on two cores, 1 MB of disk."
    )
    command.add_argument(
        "--out", default="demo", help="folder for table, recorded run and replay page"
    )
    command.add_argument("--seeds", type=_count, default=3, help="number of seeds")
    command.add_argument("--seed", type=int, default=0, help="first seed")
    command.add_argument("--jobs", type=_count, default=min(cores, 8), help="processes")

    command = add(
        train,
        "Train one method on one suite.",
        "Toy faces: seconds; toy rooms: minutes. CelebA and Taskonomy with the paper's preset: "
        "hours and "
        "days on a GPU; checkpoints of 10 MB to 2 GB.",
    )
    _add_suite_arguments(command)
    command.add_argument("--method", choices=METHODS, default="dmtg")
    command.add_argument(
        "--out", required=True, help="folder for result, recorded run and checkpoints"
    )
    command.add_argument("--resume", action="store_true", help="continue the run in --out")
    command.add_argument(
        "--checkpoint-every", type=int, default=500, help="steps between checkpoints"
    )
    command.add_argument("--seed", type=int, default=0)

    command = add(
        compare,
        "Compare methods over seeds.",
        "About 10 s per run on toy faces (hoa and mtg_net: minutes), minutes on toy rooms; CelebA "
        "and "
        "Taskonomy: a training each. Finished runs are kept in --out; the same command continues.",
    )
    _add_suite_arguments(command, several_groups=True)
    command.add_argument(
        "--methods", nargs="+", choices=METHODS, help=f"default: {', '.join(BASICS)}"
    )
    command.add_argument(
        "--out", required=True, help="folder for table.csv, tasks.csv and finished runs"
    )
    command.add_argument("--seeds", type=_count, default=3, help="number of seeds")
    command.add_argument("--seed", type=int, default=0, help="first seed")
    command.add_argument("--jobs", type=_count, default=1, help="processes")

    command = add(
        evidence,
        "Judge each claim of the paper on drawn faces, over seeds.",
        "With ten seeds about 25 minutes on two cores; 5 MB of disk. Finished runs are kept in "
        "--out.",
    )
    command.add_argument(
        "--out", required=True, help="folder for evidence.md, evidence.json and its runs"
    )
    command.add_argument("--seeds", type=_count, default=10, help="number of seeds, at least 2")
    command.add_argument("--seed", type=int, default=0, help="first seed")
    command.add_argument("--jobs", type=_count, default=min(cores, 8), help="processes")

    command = add(
        reproduce,
        "Put a table of the paper beside our numbers.",
        "With --toy about 10 minutes a table or less, on one core; on CelebA and Taskonomy a "
        "training for "
        "each row: hours and days on a GPU. tableA1 only counts: seconds. Finished runs are kept "
        "in --out "
        "and shared by tables.",
    )
    command.add_argument("table", choices=TABLES)
    command.add_argument(
        "--data", help="folder that data_scripts/prepare_celeba.py or prepare_taskonomy.py wrote"
    )
    command.add_argument(
        "--out", required=True, help="folder for the table as CSV and HTML, and its runs"
    )
    command.add_argument(
        "--toy",
        action="store_true",
        help="the same experiment on drawn data and small networks; not comparable with the paper",
    )
    command.add_argument("--seeds", type=_count, help="number of seeds (default: 1, with --toy 2)")
    command.add_argument("--seed", type=int, default=0, help="first seed")
    command.add_argument("--jobs", type=_count, default=1, help="processes")
    command.add_argument("--device", type=_device, default="cpu", help="cpu, cuda, ...")
    command.add_argument(
        "--quick",
        action="store_true",
        help="a few steps on a few images: to see that the table can be made",
    )

    command = add(replay, "Turn a recorded run into one HTML page.", "A second; under 200 kB.")
    command.add_argument("run", help="a .npz recording")
    command.add_argument("--html", required=True, help="page to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 after one line on what was wrong with the input."""
    args = build_parser().parse_args(argv)
    try:
        out = Path(getattr(args, "out", "."))
        if out.exists() and not out.is_dir():
            raise ValueError(f"`--out` must be a folder, {out} is a file.")
        groups = getattr(args, "groups", 1)
        for k in groups if isinstance(groups, list) else [groups]:
            if k == "auto" and (args.function is not train or args.method != "dmtg"):
                raise ValueError(
                    "`--groups auto` is for `train --method dmtg`; give the others a number."
                )
            if k != "auto" and k < 1:
                raise ValueError(f"`--groups` must be >= 1, got {k}.")
        args.function(args)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"dmtg-lite: {error}", file=sys.stderr)
        return 2
    return 0
