"""How fast CelebA is prepared and in how much memory: prints a table, writes JSON.

The images are drawn stand-ins in CelebA's file format (a few hundred faces, repeated) unless a
folder with the real ones is given; both are 178 x 218 JPEGs that are decoded in full.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

from dmtg_lite.data.celeba.prepare import prepare_celeba
from dmtg_lite.data.stand_ins.celeba_files import LAYOUTS, make_fake_celeba
from dmtg_lite.files import write_atomically


def _family() -> set[int]:
    """This process and its descendants."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1]
            )
        except OSError:  # ended meanwhile
            continue
    family, grew = {os.getpid()}, True
    while grew:
        new = {pid for pid, parent in parents.items() if parent in family} - family
        family |= new
        grew = bool(new)
    return family


class Watch:
    """Peak memory and CPU time of the family, sampled five times a second while open; Linux only.

    Memory is the proportional share (PSS), so pages that workers share count once.
    """

    def __enter__(self) -> Watch:
        self.peak, self._cpu, self._end = 0, {}, threading.Event()
        self._sample()
        self._before = self.cpu_seconds
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    @property
    def cpu_seconds(self) -> float:
        return sum(self._cpu.values()) / os.sysconf("SC_CLK_TCK") - getattr(self, "_before", 0.0)

    def _sample(self) -> None:
        memory = 0
        for pid in _family():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
                fields = (
                    Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
                )
            except OSError:
                continue
            memory += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
            self._cpu[pid] = int(fields[11]) + int(fields[12])  # user and system, in ticks
        self.peak = max(self.peak, memory)

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            self._sample()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._sample()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="a CelebA to read; default: a drawn one is made")
    parser.add_argument("--layout", choices=LAYOUTS, default="torchvision", help="of the drawn one")
    parser.add_argument(
        "--n", type=int, default=20_000, help="images (default 20,000; CelebA has 202,599)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", default="runs/prepare_celeba.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or make_fake_celeba(
            Path(folder, "fake"), n=options.n, layout=options.layout, n_drawn=300, progress=True
        )
        load = os.getloadavg()[0]
        start = time.perf_counter()
        with Watch() as watch:
            out = prepare_celeba(root, Path(folder, "out"), limit=options.n, jobs=options.jobs)
        seconds = time.perf_counter() - start
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        n = sum(manifest["counts"].values())  # reported before the files go: that takes minutes too
        result = {
            "images": n,
            "is_fake": manifest["is_fake"],
            "layout": manifest["source"]["layout"],
            "jobs": options.jobs,
            "seconds": round(seconds, 2),
            "images_per_second": round(n / seconds),
            "cpu_seconds": round(watch.cpu_seconds, 1),
            "images_per_cpu_second": round(n / watch.cpu_seconds),
            "peak_memory_mib": round(watch.peak / 2**20),
            "load_before": round(load, 2),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}",
            "date": time.strftime("%Y-%m-%d"),
        }
        for name, value in result.items():
            print(f"{name:>18}  {value}")
        write_atomically(options.out, json.dumps(result, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
