"""The command line, ``python -m dmtg_lite`` or ``dmtg-lite``: parsing arguments and printing only.

What a command does and needs is the docstring of its function, which ``--help`` shows.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmtg_lite.files import check_writable, write_atomically

if TYPE_CHECKING:
    from dmtg_lite.core.config import TrainConfig
    from dmtg_lite.core.data import TaskData
    from dmtg_lite.runs.jobs import Workers

# torch takes seconds to load, so whatever needs it is imported in the command that is asked for

OUT = {
    "demo": "table, recorded run and replay page",
    "train": "result, recorded run and checkpoints",
    "compare": "table.csv, tasks.csv and finished runs",
    "evidence": "evidence.md, the same as .html and .json, and its runs",
    "reproduce": "the table as CSV and HTML, and its runs",
}
GOES_ON = {  # what an interrupted command says
    "train": "finished steps are kept in {out}/checkpoints: the same command with --resume goes on",
    "compare": "finished runs are kept in {out}/cells: the same command goes on",
    "evidence": "finished runs are kept in {out}/cells: the same command goes on",
    "reproduce": "finished runs are kept in {out}/cells: the same command goes on",
    "watch": "what was watched goes on",
    "present": "its kernels are gone",
}
PLAIN = {"±": "+-", "°": " degrees", "■": "#", "□": "o"}  # for a screen that knows ASCII only
OTHER_SPELLINGS = {  # of options that belong to a part of the config
    "--close-from": "--spare-close-from",
    "--close-every": "--spare-close-every",
    "--restarts": "--restarts-n",
    "--prune-below": "--pruning-below",
    "--prune-from": "--pruning-start",
}


def demo(args: argparse.Namespace) -> None:
    """The whole story on drawn faces.

    About two minutes on two cores, 1 MB of disk.
    """
    from dmtg_lite.experiments import BASICS, TOY, run_all, tabulate
    from dmtg_lite.studies.suites import open_suite
    from dmtg_lite.studies.tables import render_summary, write_table
    from dmtg_lite.views.replay import write_replay

    out = check_writable(args.out)
    if any((out / name).exists() for name in ("result.json", "run.json")):
        raise ValueError(f"{out} holds a trained run, which would be replaced: another --out.")
    faces = open_suite("toy_faces", seed=args.seed)
    _say(f"{faces}\n{args.seeds} seeds, {args.jobs} processes: about two minutes on two cores.")
    jobs, seeds = args.jobs, _list_seeds(args)
    results = run_all(faces, BASICS, 3, TOY["faces"], seeds, jobs=jobs, progress=True)
    table = tabulate(results)
    # the first seed, good or bad: a demonstration that picks its best run shows nothing
    run = next(result for result in results if result.method == "dmtg")
    numbers = json.dumps([result.to_json() for result in results], indent=1)
    written = [
        write_table(table, out / "table.csv"),
        write_atomically(out / "results.json", numbers.encode()),
        run.history.save(out / "run.npz"),
    ]
    page = write_replay(run.history, out / "replay.html")
    _say(render_summary(table))
    _say(f"\nDMTG, seed {run.config.seed}: groups found")
    for group in run.groups:
        _say("  " + ", ".join(group))
    _say(f"\nwrote {', '.join(map(str, written))}\nopen {page} in a browser")


def train(args: argparse.Namespace) -> None:
    """Train one method on one suite, or on a CSV file of your own.

    Toy faces: seconds; toy rooms: minutes. CelebA and Taskonomy with the paper's preset: hours and
    days on a GPU; checkpoints of 10 MB to 2 GB. In several processes under torchrun, see
    docs/several_gpus.md.
    """
    from dmtg_lite.methods import METHODS, Saving
    from dmtg_lite.runs.between import choose_validation
    from dmtg_lite.runs.loggers import LOGGERS
    from dmtg_lite.runs.parallel import world
    from dmtg_lite.studies.tables import render_result

    _show_log()
    out = Path(args.out)
    checkpoints = out / "checkpoints"
    world().first(lambda: _protect(out, checkpoints, args))
    workers = _read_workers(args).on_device(args.device)
    loggers = tuple(LOGGERS[name]() for name in args.log)
    is_shared = world().size > 1  # then no GPU holds all rows: its own of a batch come to it
    config, suite = _open(args, device="cpu" if is_shared else args.device)
    suite = suite.stream_to(args.device) if is_shared else suite
    METHODS[args.method].check(suite, args.groups, config)
    world().first(lambda: check_writable(out))  # now, not after the hours of a training
    _say(f"{args.method} on {suite.name}, K={args.groups}: {config}\n{suite}")
    looks = args.validate_every
    if looks is None:
        looks = choose_validation(suite, config, config.count_steps(len(suite.train))[1])
    how = {"every": args.checkpoint_every, "validate_every": looks, "progress": True}
    saving = Saving(checkpoints, runs=out, jobs=workers, loggers=loggers, **how)
    result = METHODS[args.method](suite, args.groups, config, saving=saving)
    _say(render_result(result))
    _say(f"wrote {out / 'result.json'}, {out / 'run.npz'}, {out / 'network.safetensors'}")


def _protect(out: Path, checkpoints: Path, args: argparse.Namespace) -> None:
    """Refuse a folder whose result, or half of one, this command would replace."""
    from dmtg_lite.methods import METHODS
    from dmtg_lite.schema import read_json

    result, facts = out / "result.json", out / "run.json"
    found = next((path for path in (checkpoints, result, facts) if path.exists()), None)
    if found and not args.resume:
        raise ValueError(
            f"{found} holds an earlier run: pass --resume to continue it, or another --out."
        )
    methods = {name for name in METHODS if (checkpoints / name).exists()}
    for path in filter(Path.exists, (result, facts)):
        methods.add(read_json(path, {"method": str})["method"])
    if result.exists() and not checkpoints.exists():
        raise ValueError(
            f"{result} is a finished run without the checkpoints that --resume needs, and would be "
            "replaced: give another --out."
        )
    if others := methods - {args.method}:
        raise ValueError(
            f"{out} holds a run of {', '.join(sorted(others))}, which {args.method} would replace: "
            "give another --out."
        )


def compare(args: argparse.Namespace) -> None:
    """Compare methods over seeds and numbers of groups.

    About 10 s per run on toy faces (hoa and mtg_net: minutes), minutes on toy rooms; CelebA and
    Taskonomy: a training each. Finished runs are kept in --out; the same command continues.
    """
    from dmtg_lite.experiments import plan_comparison, tabulate, tabulate_tasks
    from dmtg_lite.studies.cells import run_cells
    from dmtg_lite.studies.compare import find_refused
    from dmtg_lite.studies.suites import EMBEDDED, Opener
    from dmtg_lite.studies.tables import render_summary, render_tasks, write_table

    _show_log()
    workers, opener = _read_workers(args).on_device(args.device), None
    if not (workers.is_here or args.csv):  # each opens the data itself, on its own GPU
        opener = Opener(args.suite, args.data, args.device, args.seed, args.tolerant)
    config, suite = _open(args, device="cpu" if opener else args.device)
    cells = plan_comparison(suite, args.methods, args.groups, _list_seeds(args), config)
    out = Path(args.out)
    refused = {(cell.method, why) for cell, why in find_refused(cells, suite).items()}
    for method, why in sorted(refused):
        _say(f"{method} is left out, the others go on: {why}")
    results = run_cells(
        cells,
        opener or suite,
        folder=out / "cells",
        jobs=workers,
        progress=True,
        keep_checkpoints=args.keep_runs or not (args.csv or args.suite in EMBEDDED),
    )
    failed = [one for one in results if "failed" in one]
    if len(failed) == len(results):
        raise ValueError(f"all runs failed, the first: {failed[0]['failed']}")
    tables = {"table.csv": tabulate(results), "tasks.csv": tabulate_tasks(results)}
    written = [write_table(table, out / name) for name, table in tables.items()]
    _say(render_summary(tables["table.csv"]))
    for (method, why), seeds in _gather_failures(failed).items():
        with_ = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
        _say(f"{method} with {with_} failed, the others went on: {why}")
    if suite.tasks[0].is_dense:
        _say("\n" + render_tasks(tables["tasks.csv"]))
    for path in written:
        _say(f"wrote {path}")


def _gather_failures(failed: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """Method and reason, and the seeds with which it was so."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for one in failed:
        seeds.setdefault((one["method"], one["failed"]), []).append(str(one["seed"]))
    return seeds


def evidence(args: argparse.Namespace) -> None:
    """Judge each claim of the paper on drawn faces, over seeds.

    With ten seeds about 25 minutes on two cores; 5 MB of disk. Finished runs are kept in --out.
    """
    from dmtg_lite.studies.evidence import run_evidence, write_verdicts

    seeds, out = _list_seeds(args), Path(args.out)
    how = {"jobs": _read_workers(args), "progress": True, "keep_checkpoints": args.keep_runs}
    verdicts = run_evidence(seeds, folder=out / "cells", **how)
    heading = f"Seeds {seeds[0]} to {seeds[-1]}."
    written = write_verdicts(verdicts, out, heading=heading)
    _say("\n".join(map(str, verdicts)))
    _say(f"wrote {written}")


def reproduce(args: argparse.Namespace) -> None:
    """Put a table of the paper beside our numbers.

    With --toy about 10 minutes a table or less, on one core; on CelebA and Taskonomy a training for
    each row: hours and days on a GPU. tableA1 only counts: seconds. Finished runs are kept in --out
    and shared by tables.
    """
    from dmtg_lite.studies.paper import Setting, render_text, reproduce_table, write_reproduction

    args.seeds = args.seeds or (2 if args.toy else 1)
    out = Path(args.out)
    result = reproduce_table(
        args.table,
        out / "cells",
        setting=Setting(args.data, is_toy=args.toy, is_quick=args.quick, device=args.device),
        seeds=_list_seeds(args),
        jobs=_read_workers(args),
        progress=True,
        keep_checkpoints=args.keep_runs,
    )
    written = write_reproduction(result, out)
    _say(render_text(result))
    for path in written:
        _say(f"wrote {path}")


def replay(args: argparse.Namespace) -> None:
    """Turn a recorded run into one HTML page.

    A second; under 200 kB.
    """
    from dmtg_lite.runs.history import History
    from dmtg_lite.views.replay import write_replay

    _say(f"open {write_replay(History.load(args.run), args.html)} in a browser")


def watch(args: argparse.Namespace) -> None:
    """Watch a run, or several, in a browser page, while they train or later.

    The folder is what --out of train, compare or evidence names; there may be no run in it yet. The
    page is served on this machine alone, behind the token in its address, until Ctrl-C.
    """
    from dmtg_lite.views.watch import watch as serve

    serve(args.folder, port=args.port, open_browser=not args.no_browser, say=_say)


def present(args: argparse.Namespace) -> None:
    """Show notebooks in a browser without their code, for a lecture.

    Their live views move and their exercises stay closed. The pages are served on this machine
    alone, behind the token in their address, until Ctrl-C; every visit has a kernel of its own.
    """
    from dmtg_lite.views.watch import present as serve

    hide = [name for name in args.hide.replace(",", " ").split() if name]
    where = {"port": args.port, "open_browser": not args.no_browser, "say": _say}
    serve(args.notebooks, hide=hide, **where)


def doctor(args: argparse.Namespace) -> None:
    """Say what is installed here, what is in the way, and how to mend it.

    Seconds; with --data as long as every file of it takes to read.
    """
    from dmtg_lite.doctor import examine

    findings = examine(args.out, args.data)
    _say("\n".join(map(str, findings)))
    to_mend = [one.what for one in findings if one.level == "mend"]
    if to_mend:
        raise ValueError(f"to mend: {', '.join(to_mend)}.")


def bench(args: argparse.Namespace) -> None:
    """Measure training steps on this machine, beside the plain formulation of the same steps.

    Time, images a second, memory, kernels and host waits, on made-up pictures. About ten minutes
    on two cores and one on a GPU; with --quick one on a CPU.
    """
    import torch

    from dmtg_lite.bench.run import run_bench

    out = args.out and Path(args.out)
    if out:
        check_writable(out.parent)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    how = {"is_quick": args.quick, "n_rounds": args.rounds}
    found = run_bench(args.only or (), device=device, say=_say, **how)
    if out:
        write_atomically(out, json.dumps(found, indent=1).encode())
        _say(f"\nwrote {out}")


def _say(text: str) -> None:
    """Print, after the files are written: a screen is never the reason that work is lost.

    Whatever it can show: ASCII, or nothing where the reader has gone (``| head -1``).
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for sign, plain in PLAIN.items():
            text = text.replace(sign, plain)
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # or Python would complain of it again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_log() -> None:
    """On the error stream: how many threads the steps take, how long a search has left."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dmtg_lite").setLevel(logging.INFO)


def _settle_device(args: argparse.Namespace) -> None:
    """ "auto" becomes the device that it means here, and a device that is asked for is told."""
    if getattr(args, "device", "cpu") != "cpu":
        from dmtg_lite.core.devices import as_device, describe_device

        device = as_device(args.device)
        args.device = str(device)
        _say(f"device: {describe_device(device)}")


def _list_seeds(args: argparse.Namespace) -> range:
    return range(args.seed, args.seed + args.seeds)


def _read_workers(args: argparse.Namespace) -> Workers:
    """Where the runs of a command, or the parts of one, are done."""
    from dmtg_lite.runs.jobs import Workers

    jobs = args.jobs
    if jobs is None and args.on == "processes":
        jobs = _count_jobs(args.command)
    return Workers(args.on, jobs, cpus=args.cpus, gpus=args.gpus, address=args.ray_address)


def _open(args: argparse.Namespace, *, device: str) -> tuple[TrainConfig, TaskData]:
    """What ``train`` and ``compare`` start from."""
    from dmtg_lite.methods.recipe import choose_recipe
    from dmtg_lite.studies.compare import find_largest
    from dmtg_lite.studies.config_options import read_config_options
    from dmtg_lite.studies.suites import change_preset, find_preset, open_suite

    _check_source(args)
    changes, source = read_config_options(args) | {"seed": args.seed}, args.csv or args.suite
    preset = None if args.csv else find_preset(args.suite)
    config = preset and change_preset(preset, changes, source)  # refused before data are opened
    if args.csv:
        own = _open_csv(args, device)
    else:
        how = {"device": device, "seed": args.seed, "is_tolerant": args.tolerant}
        own = open_suite(args.suite, args.data, **how)
    if config is None:
        groups = args.groups if isinstance(args.groups, list) else [args.groups]
        recipe = choose_recipe(own, find_largest(groups))
        config = change_preset(recipe, changes, source)
    return config, own


def _open_csv(args: argparse.Namespace, device: str) -> TaskData:
    from dmtg_lite.data import from_csv

    targets, features = (
        names and [name.strip() for name in names.split(",")]
        for names in (args.targets, args.features)
    )
    how = {"splits": args.splits, "groups": args.together, "impute": args.impute}
    return from_csv(args.csv, targets, features=features, seed=args.seed, **how).to(device)


def _check_source(args: argparse.Namespace) -> None:
    """A suite, or a CSV file and what is said of it."""
    from dmtg_lite.studies.suites import CSV_OPTIONS, SUITES

    if (args.suite is None) == (args.csv is None):
        found = "neither" if args.csv is None else f"{args.suite} and {args.csv}"
        raise ValueError(f"give a suite ({', '.join(SUITES)}) or --csv FILE, got {found}.")
    given = [name for name in CSV_OPTIONS if getattr(args, name)]
    if args.csv is None and given:
        raise ValueError(f"--{given[0]} is for a CSV file: give --csv FILE, not {args.suite}.")
    if args.csv and not args.targets:
        raise ValueError("--targets is missing: which columns are to be predicted? a,b,c")
    if args.csv and (args.data or args.tolerant):
        wrong = "--data" if args.data else "--tolerant"
        raise ValueError(f"{wrong} is for a suite, not for a CSV file.")


# ---------------------------------------------------------------------- arguments


def _whole(text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) < 1 << 31):
        most = (1 << 31) - 1
        words = f"must be a whole number, at least {least} and at most {most}, got {text!r}"
        raise argparse.ArgumentTypeError(words)
    return int(text)


def _count(text: str) -> int:
    return _whole(text, least=1)


def _path(text: str) -> str:
    if not text or "\0" in text:  # "" would be the folder one stands in
        raise argparse.ArgumentTypeError(f"must be a path, got {text!r}")
    return text


def _device(name: str) -> str:
    """A device that torch can use here, or the reason why it cannot."""
    from dmtg_lite.core.devices import as_device

    try:
        as_device(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def _add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    if command == "replay":
        parser.add_argument("run", type=_path, help="a .npz recording")
        parser.add_argument("--html", type=_path, required=True, help="page to write")
        return
    if command in ("watch", "present"):
        if command == "watch":
            parser.add_argument("folder", type=_path, help="of one run, or of several")
        else:
            about = "notebooks, .ipynb"
            parser.add_argument("notebooks", type=_path, nargs="+", metavar="FILE", help=about)
            about = "controls to leave out, e.g. seed,spare: those of Dashboard(hide=...)"
            parser.add_argument("--hide", default="", metavar="NAMES", help=about)
        parser.add_argument("--port", type=_count, help="of the page (a free one)")
        parser.add_argument("--no-browser", action="store_true", help="only say its address")
        return
    if command == "doctor":
        parser.add_argument("--data", type=_path, help="a prepared folder, to be read as a whole")
        about = "folder for runs, whose disk is looked at (%(default)s)"
        parser.add_argument("--out", type=_path, default=".", help=about)
        return
    if command == "bench":
        _add_bench(parser)
        return
    if command in ("train", "compare"):
        _add_suite(parser, command)
    elif command == "reproduce":
        from dmtg_lite.studies.paper.specs import SPECS

        parser.add_argument("table", choices=SPECS)
        about = "the same experiment on drawn data, small networks: not comparable with the paper"
        parser.add_argument("--toy", action="store_true", help=about)
        about = "a few steps on a few images: to see that the table can be made"
        parser.add_argument("--quick", action="store_true", help=about)
    if command in ("train", "compare", "reproduce"):
        script = "data_scripts/prepare_celeba.py or prepare_taskonomy.py"
        parser.add_argument("--data", type=_path, help=f"folder that {script} wrote")
        about = "cpu (default), cuda, cuda:1, mps; auto: the best there is"
        parser.add_argument("--device", type=_device, default="cpu", help=about)
    default = "demo" if command == "demo" else None
    about = f"folder for {OUT[command]}"
    is_due = default is None
    parser.add_argument("--out", type=_path, default=default, required=is_due, help=about)
    parser.add_argument("--seed", type=_whole, default=0, help="the first one (%(default)s)")
    if command != "train":
        seeds = {"demo": 3, "compare": 3, "evidence": 10}.get(command)
        about = "number of seeds " + ("(%(default)s)" if seeds else "(1, with --toy 2)")
        parser.add_argument("--seeds", type=_count, default=seeds, help=about)
    if command in ("compare", "evidence", "reproduce"):
        about = "a folder of each run in --out/cells/checkpoints, to watch it and to go on in the "
        about += "middle: always so on CelebA and Taskonomy"
        parser.add_argument("--keep-runs", action="store_true", help=about)
    _add_workers(parser, command)


def _count_jobs(command: str) -> int:
    """Processes, where nobody says how many."""
    return min(os.cpu_count() or 1, 8) if command in ("demo", "evidence") else 1


def _add_workers(parser: argparse.ArgumentParser, command: str) -> None:
    n_jobs = _count_jobs(command)
    if command == "demo":
        about = "processes (%(default)s)"
        parser.add_argument("--jobs", type=_count, default=n_jobs, help=about)
        return
    where = parser.add_argument_group("workers", "for runs, or parts of one: see docs/many_runs.md")
    about = "processes of this machine, or a Ray cluster: needs dmtg-lite[cluster] (%(default)s)"
    where.add_argument("--on", choices=("processes", "ray"), default="processes", help=about)
    about = f"at a time ({n_jobs}; on Ray as many as it has room for)"
    where.add_argument("--jobs", type=_count, help=about)
    about = "threads of each, and what Ray counts for it (%(default)s)"
    where.add_argument("--cpus", type=float, default=1, help=about)
    about = "of each, 0 to 1, a part too on Ray (1 with --device cuda)"
    where.add_argument("--gpus", type=float, help=about)
    about = "of a Ray that runs already; without it one is started here, for as long as needed"
    where.add_argument("--ray-address", metavar="HOST:PORT", help=about)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    from dmtg_lite.bench.cases import CASES

    parser.add_argument("--only", nargs="+", choices=CASES, help="(all)")
    parser.add_argument("--device", type=_device, default="auto", help="(%(default)s)")
    about = "small batches, two rounds: does it run at all?"
    parser.add_argument("--quick", action="store_true", help=about)
    about = "measurements of each, of which the median counts (7, with --quick 2)"
    parser.add_argument("--rounds", type=_count, help=about)
    parser.add_argument("--threads", type=_count, help="of a CPU (as torch has it)")
    parser.add_argument("--out", type=_path, help="JSON file to write")


def _add_suite(parser: argparse.ArgumentParser, command: str) -> None:
    from dmtg_lite.core.config import NGroups, TrainConfig
    from dmtg_lite.experiments import BASICS
    from dmtg_lite.methods import METHODS
    from dmtg_lite.runs.loggers import LOGGERS
    from dmtg_lite.studies.config_options import add_config_options, parse_as
    from dmtg_lite.studies.suites import CSV_OPTIONS, SUITES

    about = "celeba* and taskonomy5 need --data; or --csv"
    parser.add_argument("suite", nargs="?", choices=SUITES, help=about)
    own = parser.add_argument_group("a CSV file", "instead of a suite: see docs/own_data.md")
    own.add_argument("--csv", type=_path, metavar="FILE", help="names of columns in its first line")
    for name, about in CSV_OPTIONS.items():
        choices = ["mean"] if name == "impute" else None
        metavar = None if choices else name.upper()
        own.add_argument(f"--{name}", choices=choices, metavar=metavar, help=about)
    finders = ", ".join(name for name, method in METHODS.items() if method.finds_k)
    about = f"K, the largest number of groups; auto, for {finders}: read off the closing costs (3)"
    how: dict[str, Any] = {"type": parse_as(NGroups), "help": about}
    if command == "compare":
        parser.add_argument("--groups", nargs="+", default=[3], **how)
        about = f"default: {', '.join(BASICS)}"
        parser.add_argument("--methods", nargs="+", choices=METHODS, help=about)
    else:
        parser.add_argument("--groups", default=3, **how)
        parser.add_argument("--method", choices=METHODS, default="dmtg", help="(%(default)s)")
        parser.add_argument("--resume", action="store_true", help="continue the run in --out")
        about = "event files in --out, for: tensorboard --logdir OUT (needs that extra)"
        parser.add_argument("--log", nargs="+", choices=LOGGERS, default=(), help=about)
        about = "steps between checkpoints (%(default)s)"
        parser.add_argument("--checkpoint-every", type=int, default=500, help=about)
        about = "steps between looks at the validation split, for whoever watches; 0: none "
        about += "(at most 50 looks, and a twentieth of the time)"
        parser.add_argument("--validate-every", type=_whole, help=about)
    about = "l1 of depth and normals that forgives a shift of one pixel"
    parser.add_argument("--tolerant", action="store_true", help=about)
    add_config_options(parser, TrainConfig, skip=["seed"], aliases=OTHER_SPELLINGS)


COMMANDS = (demo, train, compare, evidence, reproduce, replay, watch, present, doctor, bench)


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """All commands by name, and the arguments of the one that is asked for."""
    parser = argparse.ArgumentParser("dmtg-lite", description="See multi-task grouping happen.")
    commands = parser.add_subparsers(dest="command", required=True)
    for function in COMMANDS:
        name, about = function.__name__, inspect.getdoc(function) or ""
        own = commands.add_parser(name, help=about.partition("\n")[0], description=about)
        own.set_defaults(function=function)
        if name == command:
            _add_arguments(own, name)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 after one line on what was wrong with the input, or 130 after one
    on how to go on where it was interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if not sys.stderr.isatty():  # a log grows for days: a word of the bars now and then
        os.environ.setdefault("TQDM_MININTERVAL", "30")  # which tqdm reads when it is imported
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # that torchrun sets
        return _run(argv)
    from dmtg_lite.runs.parallel import joined

    try:
        with joined() as world:
            if world.size > 1 and argv[:1] != ["train"]:
                raise ValueError("under torchrun there is only train: start this one by itself.")
            if code := _run(argv):
                sys.exit(code)  # at once: the other processes learn it from the connection
            return code
    except (ValueError, OSError) as error:
        print(f"dmtg-lite: {error}", file=sys.stderr)
        return 2


def _run(argv: Sequence[str]) -> int:
    args = build_parser(argv[0] if argv else None).parse_args(argv)
    try:
        _settle_device(args)
        args.function(args)
        return 0
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        code, message = 2, str(error)
    except KeyboardInterrupt:
        more = GOES_ON.get(args.command, "nothing was kept").format(**vars(args))
        code, message = 130, f"interrupted; {more}."
    print(f"dmtg-lite: {message}", file=sys.stderr)  # now that no progress bar is left
    return code
