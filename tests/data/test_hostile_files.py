"""Damaged, mutated and lying files: each ends in one clear line, or in a folder that opens whole.

Seeded mutators change one file at a time of a small CelebA or Taskonomy, of a prepared folder or of
interrupted work. As a script it does so for one kind of file, where a crash is to be survived.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the child process

from data_scripts import prepare_celeba, prepare_taskonomy
from dmtg_lite import data
from dmtg_lite.data.stand_ins.celeba_files import make_fake_celeba
from dmtg_lite.data.stand_ins.taskonomy_files import make_fake_taskonomy
from tests.mutators import mutate_bytes, mutate_json

LISTS = "celeba/list_attr_celeba.txt", "celeba/list_eval_partition.txt"
IMAGE = "celeba/img_align_celeba/000004.jpg"
PARQUET = "img_align+identity+attr/valid-00000-of-00001.parquet"
BUILDING_SPLIT = "id,train,val,test\rhanson,1,0,0\rwiconisco,0,1,0\rihlen,0,0,1"
Outcome = str  # "right", "refused", or what is wrong

# kind: the layout of the fake files, the file that is changed, how many changes
SOURCES: dict[str, tuple[str, str, int]] = {
    "attribute list": ("torchvision", LISTS[0], 20),
    "partition": ("torchvision", LISTS[1], 20),
    "image": ("torchvision", IMAGE, 20),
    "attribute table": ("kaggle", "list_attr_celeba.csv", 12),
    "zip": ("zip", "celeba/img_align_celeba.zip", 24),
    "parquet": ("parquet", PARQUET, 24),
    "tar": ("tars", "wiconisco_depth_zbuffer.tar", 24),
    "tar of omnitools": ("compressed", "segment_semantic__taskonomy__ihlen.tar", 12),
    "picture": ("standley", "normal/hanson/point_0_view_0_domain_normal.png", 12),
    "list of buildings": ("standley", "split.csv", 20),
}


def make_root(root: Path, layout: str) -> None:
    if layout in ("torchvision", "kaggle", "zip", "parquet"):
        make_fake_celeba(root, n=12, n_drawn=2, layout=layout)
    else:
        make_fake_taskonomy(root, layout=layout, buildings=3, views=1, size=16)
        (root / "split.csv").write_bytes(BUILDING_SPLIT.encode())


def run(root: Path, out: Path) -> tuple[int, str]:
    """Prepare what lies in a folder: exit code, and the error without the progress bar."""
    arguments, script = ["--root", str(root), "--out", str(out)], prepare_celeba
    if (root / "split.csv").exists():
        arguments += ["--split", str(root / "split.csv"), "--size", "8"]
        script = prepare_taskonomy
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = script.main(arguments)
    lines = said.getvalue().split("\r")[-1].strip().splitlines()
    return code, "\n".join(line for line in lines if "row/s]" not in line)


def open_whole(out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    load = data.taskonomy if "taskonomy" in manifest["format"] else data.celeba
    opened = load(out, verify=True)
    assert min(len(opened.train), len(opened.val), len(opened.test)) > 0


def judge(root: Path, out: Path) -> Outcome:
    """Prepare and see that it ended as promised."""
    code, error = run(root, out)
    if code == 0:
        open_whole(out)
        shutil.rmtree(out)
        return "right"
    names = [path.name for path in root.rglob("*.*")]
    if code != 2 or "\n" in error or "Traceback" in error or len(error) > 1500:
        return f"ended with {code}: {error[:300]}"
    if not any(name in error for name in names):
        return f"names no file: {error[:300]}"
    left = [path.name for path in out.parent.glob(f"*{out.name}*")]
    return f"left {left}" if left else "refused"


def attempt(judge_one: Callable[[], Outcome]) -> Outcome:
    start = time.monotonic()
    try:
        outcome = judge_one()
    except Exception:  # noqa: BLE001  any that is not refused is what is looked for
        return traceback.format_exc()
    return outcome if time.monotonic() - start < 30 else "took more than 30 s"


def attack(kind: str, folder: Path) -> Iterator[Outcome]:
    """Change the file of a kind in many ways, one at a time."""
    layout, name, n = SOURCES[kind]
    root, path = folder / "root", folder / "root" / name
    make_root(root, layout)
    good = path.read_bytes()
    length = len(good.rstrip(b"\0"))  # a tar's padding says nothing
    for seed in range(n):
        path.write_bytes(mutate_bytes(good[:length], seed) + good[length:])
        outcome = attempt(lambda seed=seed: judge(root, folder / f"out{seed}"))
        yield f"{kind}, seed {seed}: {outcome}" if " " in outcome else outcome


@pytest.fixture(autouse=True)
def do_not_wait_for_the_disk(monkeypatch) -> None:
    """Hundreds of small preparations, none of which anybody needs after a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def check(outcomes: Iterator[Outcome], n: int) -> Counter:
    counts = Counter(outcomes)
    wrong = [outcome for outcome in counts if outcome not in ("right", "refused")]
    assert not wrong, "\n".join(wrong)
    assert sum(counts.values()) == n
    return counts


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "parquet"])
def test_a_changed_file_is_refused_in_a_line_or_right(kind, tmp_path) -> None:
    """Bits flipped, stretches zeroed, cut, doubled, dropped: no traceback, nothing half-written."""
    counts = check(attack(kind, tmp_path), SOURCES[kind][2])
    assert counts["refused"] > 0


@pytest.mark.slow
def test_a_changed_parquet_file_does_not_crash(tmp_path) -> None:
    """Its reader is a library in another language: in a process of its own."""
    pytest.importorskip("pyarrow")
    command = [sys.executable, __file__, "parquet", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    check(iter(json.loads(done.stdout)), SOURCES["parquet"][2])


# ---- prepared folders ----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["celeba", "taskonomy"])
def prepared(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    make_root(folder / "root", "torchvision" if request.param == "celeba" else "standley")
    assert run(folder / "root", folder / "out")[0] == 0
    return folder / "out"


def judge_opening(folder: Path) -> Outcome:
    try:
        open_whole(folder)
    except (ValueError, FileNotFoundError) as error:
        said = " ".join(str(error).split())
        is_clear = str(folder) in said and "data_scripts/prepare_" in said and len(said) < 1500
        return "refused" if is_clear else f"unclear: {said[:300]}"
    return "right"


def load(prepared: Path, folder: Path) -> Path:
    return Path(shutil.copytree(prepared, folder / "copy"))


def test_a_changed_manifest_is_refused_in_a_line_or_harmless(prepared, tmp_path) -> None:
    """Values retyped, dropped, renamed, doubled, nested: opened as it was, or refused by name."""
    folder = load(prepared, tmp_path)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())

    def outcomes() -> Iterator[Outcome]:
        for seed in range(60):
            path.write_text(json.dumps(mutate_json(manifest, seed)))
            yield attempt(lambda: judge_for(manifest, folder))

    counts = check(outcomes(), 60)
    assert counts["refused"] > 20


def judge_for(manifest: dict, folder: Path) -> Outcome:
    """What names the format must be there before the folder is known to be either."""
    load = data.taskonomy if "taskonomy" in manifest["format"] else data.celeba
    try:
        load(folder, verify=True)
    except (ValueError, FileNotFoundError) as error:
        is_clear = str(folder) in str(error) and "\n" not in str(error) and len(str(error)) < 1500
        return "refused" if is_clear else f"unclear: {error}"
    return "right"


def test_changed_arrays_are_refused_at_every_start(prepared, tmp_path) -> None:
    """Labels without being asked, images with ``verify``; whatever was changed of their bytes."""
    folder = load(prepared, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())

    def outcomes() -> Iterator[Outcome]:
        for seed in range(24):
            name = sorted(manifest["files"])[seed % len(manifest["files"])]
            good = (folder / name).read_bytes()
            bad = mutate_bytes(good, seed)
            (folder / name).write_bytes(bad)
            outcome = attempt(lambda: judge_for(manifest, folder))
            (folder / name).write_bytes(good)
            yield (
                outcome if (outcome == "refused") == (bad != good) else f"{name} {seed}: {outcome}"
            )

    check(outcomes(), 24)


def test_changed_records_of_interrupted_work_lose_nothing(prepared, tmp_path) -> None:
    """What cannot be continued is refused and left where it is; what can ends in the same bytes."""
    root, out = prepared.parent / "root", tmp_path / "out"
    manifest = json.loads((prepared / "manifest.json").read_text())
    ranges = manifest.pop("ranges", {})
    large = [name for name in manifest.pop("files") if name not in ("split.npy", "labels.npy")]
    n_rows = sum(manifest["counts"].values())
    record = {"manifest": manifest, "n_done": n_rows, "ranges": ranges, "broken": []}

    def judge_one(changed: object) -> Outcome:
        partial = tmp_path / "out.partial"
        partial.mkdir()
        for name in large:
            shutil.copy(prepared / name, partial)
        (partial / "progress.json").write_text(json.dumps(changed))
        code, error = run(root, out)
        if code == 0:
            same = all(
                (out / name).read_bytes() == (prepared / name).read_bytes() for name in large
            )
            shutil.rmtree(out)
            return "right" if same or not is_plausible(changed, record) else "other bytes"
        outcome = "refused" if code == 2 and "\n" not in error else f"unclear: {error}"
        if not all((partial / name).exists() for name in large):
            outcome = f"lost work: {error}"
        shutil.rmtree(partial)
        return outcome

    outcomes = (attempt(lambda s=seed: judge_one(mutate_json(record, s))) for seed in range(30))
    check(outcomes, 30)


def is_plausible(changed: object, record: dict) -> bool:
    return isinstance(changed, dict) and changed.get("n_done") == record["n_done"]


if __name__ == "__main__":
    os.fsync = lambda _: None
    print(json.dumps(list(attack(sys.argv[1], Path(sys.argv[2])))))
