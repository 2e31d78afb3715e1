"""What is installed here and what is in the way of it, each with how to mend it.

Nothing is changed and nothing trains; `dmtg-lite doctor` prints it.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

Level = Literal["ok", "note", "mend"]
SELF = "dmtg-lite"
EXTENSIONS = {  # of JupyterLab, and the package that brings it
    "anywidget": "anywidget",
    "@jupyter-widgets/jupyterlab-manager": "ipywidgets",
}
_LEAST_MEMORY, _LEAST_DISK = 2, 4  # GiB: four processes of torch; an environment, or a few runs


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Args:
        level: ``"ok"``; ``"note"``: something is less than it could be; ``"mend"``: something the
            course needs does not work.
        what, found: What was looked at, and how it is.
        mend: What to do, where there is something to do.
    """

    level: Level
    what: str
    found: str
    mend: str = ""

    def __str__(self) -> str:
        mark = {"ok": "ok  ", "note": "note", "mend": "MEND"}[self.level]
        return f"{mark}  {self.what}: {self.found}" + (f"\n      {self.mend}" * bool(self.mend))


def examine(folder: str | Path = ".", prepared: str | Path | None = None) -> list[Finding]:
    """Look at packages, notebooks, device, memory, disk, and a prepared folder.

    Args:
        folder: Where runs are to be written: its disk is looked at.
        prepared: What a script of ``data_scripts`` wrote; every file of it is read and compared
            with its checksum: seconds for CelebA, minutes for a large Taskonomy.
    """
    found = [_examine_python(), *_examine_packages()]
    found += [*_examine_lab(_list_extensions()), *_examine_editor(os.environ)]
    found += [_examine_device(), _examine_memory(), _examine_disk(Path(folder))]
    return found + ([] if prepared is None else [_examine_prepared(Path(prepared))])


def _examine_python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("ok", "Python", found)


def _examine_packages() -> Iterator[Finding]:
    """A line an extra: what is missing or of a version that does not work."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Finding("note", "packages", "not compared", "pip install packaging")
        return
    try:
        needed = requires(SELF) or []
    except PackageNotFoundError:  # sources on the path
        found = f"not compared: {SELF} runs from a folder and is not installed"
        yield Finding("note", "packages", found, 'in that folder: pip install -e ".[all]"')
        return
    by_extra: dict[str, list[Requirement]] = {}
    for line in needed:
        one = Requirement(line)
        extra = str(one.marker).partition("extra == ")[2].strip("\"')") if one.marker else ""
        by_extra.setdefault(extra, []).append(one)
    by_extra.pop("all", None)  # the others once more
    for extra, wanted in by_extra.items():
        what = f"extra [{extra}]" if extra else "the library"
        wrong = [text for one in wanted if (text := _compare(one.name, one.specifier.contains))]
        if not wrong:
            yield Finding("ok", what, f"{len(wanted)} packages")
            continue
        level: Level = "mend" if extra in ("", "data", "notebook") else "note"
        bounds = ", ".join(str(one).partition(";")[0].strip() for one in wanted)
        install = f'pip install "{SELF}{f"[{extra}]" if extra else ""}"'
        yield Finding(level, what, "; ".join(wrong), f"{install} (it wants {bounds})")


def _compare(name: str, fits: Callable[[str], bool]) -> str:
    """What is wrong with a package, or nothing."""
    try:
        there = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    return "" if fits(there) else f"{name} {there} does not work"


def _list_extensions() -> dict[str, bool] | None:
    """Which of `EXTENSIONS` JupyterLab will find; None where there is no Jupyter."""
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return None
    folders = [Path(folder) for folder in jupyter_path("labextensions")]
    return {name: any((folder / name).is_dir() for folder in folders) for name in EXTENSIONS}


def _examine_lab(extensions: Mapping[str, bool] | None) -> Iterator[Finding]:
    if extensions is None:
        yield Finding("note", "JupyterLab", "not installed", f'pip install "{SELF}[notebook]"')
        return
    missing = [name for name, is_there in extensions.items() if not is_there]
    if not missing:
        yield Finding("ok", "JupyterLab", "finds the extensions that draw widgets")
    for name in missing:
        yield Finding(
            "mend",
            "JupyterLab",
            f"does not find {name}: widgets will not be drawn",
            f"Install {EXTENSIONS[name]} where JupyterLab itself is installed, then start it anew.",
        )


def _examine_editor(environment: Mapping[str, str]) -> Iterator[Finding]:
    if environment.get("TERM_PROGRAM") == "vscode" or "VSCODE_PID" in environment:
        yield Finding(
            "note",
            "VS Code",
            "widgets are loaded from the network unless told otherwise",
            'Set "jupyter.widgetScriptSources" to [] to use local files; `make lab` is what is '
            "tested.",
        )


def _examine_device() -> Finding:
    """What `--device auto` takes, and what of a GPU stands in its way."""
    import torch

    from dmtg_lite.core.devices import as_device, describe_device

    device = as_device("auto")
    found, built = describe_device(device), torch.version.cuda
    if device.type != "cpu":
        return Finding("ok", "device", found)
    if built and shutil.which("nvidia-smi"):
        return Finding(
            "mend",
            "device",
            f"{found}, although this is a build for CUDA {built}",
            "The driver is too old for it or sees no GPU: nvidia-smi says which.",
        )
    if shutil.which("nvidia-smi"):
        return Finding(
            "mend",
            "device",
            f"{found}, since this torch is a build for the CPU beside an NVIDIA driver",
            "Install the build for CUDA: https://pytorch.org/get-started/locally says how.",
        )
    return Finding("ok", "device", f"{found}: toys train in seconds to minutes")


def _examine_memory() -> Finding:
    from dmtg_lite.core.devices import GIB, measure_free_memory

    free = measure_free_memory()
    if free is None:
        return Finding("note", "memory", "not known on this system")
    free /= GIB
    found = f"{free:.1f} GiB free"
    if free < _LEAST_MEMORY:
        return Finding("note", "memory", found, "Close something, or run with --jobs 1.")
    return Finding("ok", "memory", found)


def _examine_disk(folder: Path) -> Finding:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    free, found = shutil.disk_usage(there).free / 2**30, str(folder)
    found = f"{free:.1f} GiB free for {found}"
    if free < _LEAST_DISK:
        return Finding("note", "disk", found, "Checkpoints of the paper's networks take up to 2.")
    return Finding("ok", "disk", found)


def _examine_prepared(folder: Path) -> Finding:
    from dmtg_lite import data
    from dmtg_lite.schema import read_json

    what = f"prepared folder {folder}"
    try:
        manifest = read_json(folder / "manifest.json", dict[str, Any])
        opener = data.celeba if "names" in manifest else data.taskonomy
        opened = opener(folder, verify=True)
    except (ValueError, OSError) as error:
        return Finding("mend", what, str(error), "Prepare it again: data_scripts/prepare_*.py.")
    sizes = ", ".join(f"{len(getattr(opened, name))} {name}" for name in ("train", "val", "test"))
    return Finding("ok", what, f"whole, all checksums right: {sizes}")
