"""What preparing a folder promises whatever its rows are: here numbers, their squares and halves.

Run as a script it prepares them, so that it can be killed.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

from dmtg_lite import data
from dmtg_lite.data import open_prepared as opening
from dmtg_lite.data import prepared_folder
from dmtg_lite.data.open_prepared import Form, open_prepared, sha256, split_rows
from dmtg_lite.data.prepared_folder import Converted, write_prepared
from dmtg_lite.data.ranges import measure_range

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
N = 120
SPLIT = np.repeat([0, 1, 2], [80, 20, 20])
ROWS = {"squares.npy": np.dtype(("<i4", (3,))), "halves.npy": np.dtype(("<f2", (2, 2)))}
is_posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits are POSIX")


def convert(
    numbers: list[int],
    *,
    pause: float = 0.0,
    power: int = 2,
    meet: Callable[[int], object] = int,
    broken: frozenset[int] = frozenset(),
) -> Converted:
    """Rows of a few numbers but the broken; ``meet`` is called with each and may raise."""
    for number in numbers:
        meet(number)
    time.sleep(pause)
    whole = [number for number in numbers if number not in broken]
    left_out = [(i, f"{n} is broken.") for i, n in enumerate(numbers) if n in broken]
    if not whole:
        return Converted({}, {}, left_out)
    column = np.array(whole)[:, None]
    squares = np.repeat(column**power, 3, 1).astype("<i4")
    halves = np.repeat(column / 2, 4, 1).astype("<f2").reshape(-1, 2, 2)
    is_labelled = (column[:, 0] % 2 == 0) & (power < 3)
    return Converted(
        {"squares.npy": squares, "halves.npy": halves},
        {"squares": measure_range(squares, is_labelled)},
        left_out,
    )


def refuse_30(number: int) -> None:
    if number == 30:
        raise ValueError("number 30 is bad")


def prepare(
    out: Path,
    *,
    name: str = "a",
    jobs: int = 1,
    restart: bool = False,
    n_tolerated: int = 0,
    **options,
) -> Path:
    return write_prepared(
        out, {"format": "numbers/1", "name": name}, SPLIT, ROWS, partial(convert, **options),
        lambda row: iter(range(row, N)), {"names.csv": b"a\n", "thirds.npy": np.arange(N) / 3},
        chunk=8, jobs=jobs, progress=False, restart=restart, n_tolerated=n_tolerated,
        report_broken=lambda broken: {"broken": [row for row, _ in broken]},
    )  # fmt: skip


if __name__ == "__main__":
    prepared_folder.SAVE_EVERY = 0
    prepare(Path(sys.argv[1]), jobs=2, pause=0.05)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("numbers") / "out")


@pytest.fixture(autouse=True)
def save_after_each_chunk(monkeypatch) -> None:
    monkeypatch.setattr(prepared_folder, "SAVE_EVERY", 0)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def n_done(out: Path) -> int:
    state = out.with_name(f"{out.name}.partial") / "progress.json"
    return json.loads(state.read_text())["n_done"] if state.exists() else 0


FORM = Form(
    name="numbers/1",
    script="x.py",
    manifest={},
    row_types=lambda _: ROWS,
    images="halves.npy",
    limits={"squares.npy": (0, 119**2)},
)


def open_numbers(folder: Path, *, verify: bool = True) -> tuple[dict, dict[str, np.ndarray]]:
    return open_prepared(folder, FORM, verify=verify)


# ---- writing -------------------------------------------------------------------------------------


def test_what_is_opened_is_what_was_written(prepared) -> None:
    """Arrays of every row, the split, and the range of what is labelled: even numbers."""
    manifest, arrays = open_numbers(prepared)
    assert arrays["squares.npy"][:, 2].tolist() == [number**2 for number in range(N)]
    assert arrays["halves.npy"][-1].tolist() == [[59.5, 59.5], [59.5, 59.5]]
    assert arrays["split.npy"].tolist() == SPLIT.tolist()
    assert np.load(prepared / "thirds.npy")[6] == 2
    assert manifest["ranges"]["squares"] == {
        "lowest": [0, 0, 0], "highest": [118**2] * 3, "n_labelled": 60, "n_pixels": 120
    }  # fmt: skip
    assert manifest["counts"] == {"train": 80, "val": 20, "test": 20}
    assert [list(row) for row in split_rows(manifest, 12)] == [
        [0, 80, 8],
        [80, 20, 2],
        [100, 20, 2],
    ]


@is_posix
def test_killed_and_run_again_gives_the_same_bytes(prepared, tmp_path) -> None:
    """SIGKILL in the middle of the work of two workers, which end too; the next run continues."""
    out, until = tmp_path / "out", 40
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, out]
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    deadline = time.monotonic() + 60
    while n_done(out) < until and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert until <= n_done(out) < N
    assert not out.exists()
    wait_for_end_of_session(process.pid)
    folder = tmp_path / "out.partial"
    file_number = (folder / "squares.npy").stat().st_ino
    (folder / "progress.json.1.part").write_bytes(b"half a record")  # a kill may leave one
    prepare(out)
    assert content(out) == content(prepared)
    assert (out / "squares.npy").stat().st_ino == file_number  # continued, not begun again
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def wait_for_end_of_session(group: int) -> None:
    """No worker outlives a killed parent."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("workers are still running 20 s after their parent was killed")


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt(), OSError(5, "I/O error")], ids=repr)
def test_an_interruption_keeps_the_work_and_other_settings_refuse_it(
    stopped_by, prepared, tmp_path
) -> None:
    """Ctrl-C or a failing drive leave what is done; only the rest is done again. Other settings
    never delete it unless told to."""
    met = []

    def stop(number: int) -> None:
        met.append(number)
        if len(met) == 30:
            raise stopped_by

    with pytest.raises(type(stopped_by)):
        prepare(tmp_path / "out", meet=stop)
    assert n_done(tmp_path / "out") == 24
    shutil.copytree(tmp_path / "out.partial", tmp_path / "other.partial")
    prepare(tmp_path / "out", meet=met.append)
    assert met[30:] == list(range(24, N))
    assert content(tmp_path / "out") == content(prepared)
    before = content(tmp_path / "other.partial")
    with pytest.raises(ValueError, match=r"other.partial holds interrupted .*, 24 rows.*--restart"):
        prepare(tmp_path / "other", name="b")
    assert content(tmp_path / "other.partial") == before
    prepare(tmp_path / "other", name="b", meet=met.append, restart=True)
    assert len(met) == 30 + N - 24 + N


@pytest.mark.parametrize("left", ["{}", "[", '{"manifest": 1}', "[" * 10_000])
def test_a_record_that_cannot_be_read_needs_a_word(left, prepared, tmp_path) -> None:
    """Records of another version, or broken ones: the work may be long."""
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "progress.json").write_text(left)
    with pytest.raises(ValueError, match="an unknown number of rows"):
        prepare(tmp_path / "out")
    assert content(prepare(tmp_path / "out", restart=True)) == content(prepared)


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_that_is_in_the_way_is_not_touched(restart, tmp_path) -> None:
    """A person's files under the name that the work would have, whatever they are called."""
    (tmp_path / "out.partial").mkdir()
    for name in ("thesis.txt", "film.1.part", "squares.npy"):
        (tmp_path / "out.partial" / name).write_text("years of work")
    before = content(tmp_path / "out.partial")
    with pytest.raises(ValueError, match=r"out.partial, where .* holds something else"):
        prepare(tmp_path / "out", restart=restart)
    assert content(tmp_path / "out.partial") == before


def test_two_preparations_of_one_folder_do_not_mix(prepared, tmp_path) -> None:
    """The second is refused at once, with the same or other settings, and the first ends well."""
    refused = []

    def meet(number: int) -> None:
        if number == 40:
            for name in "ab":
                with pytest.raises(ValueError, match="out is being prepared by another process"):
                    prepare(tmp_path / "out", name=name, restart=True)
                refused.append(name)

    assert content(prepare(tmp_path / "out", meet=meet)) == content(prepared)
    assert refused == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # the lock went, too


def die_at_30(number: int) -> None:
    if number == 30:
        os._exit(1)


def test_a_killed_worker_is_said_to_be(prepared, tmp_path) -> None:
    """As the system does where memory is short; what was done is kept."""
    with pytest.raises(OSError, match=r"a worker process was killed.*--jobs 1"):
        prepare(tmp_path / "out", jobs=2, meet=die_at_30)
    assert content(prepare(tmp_path / "out")) == content(prepared)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_refused_source_leaves_what_was_done(jobs, prepared, tmp_path) -> None:
    """The error comes in one piece, also from a worker; the work goes on later."""
    with pytest.raises(ValueError, match="number 30 is bad"):
        prepare(tmp_path / "out", jobs=jobs, meet=refuse_30)
    assert n_done(tmp_path / "out") == 24
    assert content(prepare(tmp_path / "out", jobs=jobs)) == content(prepared)


def test_work_that_was_not_begun_leaves_nothing(tmp_path) -> None:
    """A first source that is refused."""
    with pytest.raises(ValueError, match="bad"):
        prepare(tmp_path / "out", meet=lambda n: refuse_30(30))
    assert list(tmp_path.iterdir()) == []


# ---- broken sources ------------------------------------------------------------------------------

BROKEN = frozenset({0, 8, 9, 10, 11, 12, 13, 14, 15, 85, 119})  # a whole chunk, first and last


def test_broken_sources_are_left_out_and_told(prepared, tmp_path) -> None:
    """Rows, counts, split and ranges are those of the others, as if the broken had not been."""
    out = prepare(tmp_path / "out", broken=BROKEN, n_tolerated=len(BROKEN))
    manifest, arrays = open_numbers(out)
    whole = [number for number in range(N) if number not in BROKEN]
    assert arrays["squares.npy"][:, 1].tolist() == [number**2 for number in whole]
    assert arrays["split.npy"].tolist() == SPLIT[whole].tolist()
    assert manifest["counts"] == {"train": 71, "val": 19, "test": 19}
    assert manifest["broken"] == sorted(BROKEN)
    assert manifest["ranges"]["squares"]["lowest"] == [4, 4, 4]
    assert prepare(out, meet=refuse_30) == out  # it is there, whatever was broken


def test_too_many_broken_sources_are_refused_and_the_limit_may_be_raised(tmp_path) -> None:
    """What was done is kept, and the rest is done with what is tolerated then."""
    expected = content(prepare(tmp_path / "whole", broken=BROKEN, n_tolerated=11))
    with pytest.raises(ValueError, match=r"85 is broken\. .*allows 9 of 120 views, and 10 are"):
        prepare(tmp_path / "out", broken=BROKEN, n_tolerated=9)
    assert n_done(tmp_path / "out") == 80
    met = []
    with pytest.raises(ValueError, match=r"0 is broken\. .*allows 7 of 120 views, and 9 are"):
        prepare(tmp_path / "out", n_tolerated=7, meet=met.append)
    out = prepare(tmp_path / "out", broken=BROKEN, n_tolerated=11, meet=met.append)
    assert met == list(range(80, N))
    assert content(out) == expected


def test_a_split_of_broken_sources_is_refused(tmp_path) -> None:
    """Nothing can be trained on it."""
    with pytest.raises(ValueError, match="the split `test` is broken"):
        prepare(tmp_path / "out", broken=frozenset(range(100, N)), n_tolerated=N)


@pytest.mark.parametrize(
    ("power", "message"), [(0, r"is the same, \[1.0"), (3, "has no labelled pixel")]
)
def test_a_constant_target_is_refused(power, message, tmp_path) -> None:
    """Nothing can be learned from it; nothing is left, for the rows would not be read again."""
    with pytest.raises(ValueError, match=f"`squares` {message}"):
        prepare(tmp_path / "out", power=power)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_will_be_full_is_refused_first(tmp_path, monkeypatch) -> None:
    """Free space is compared with what is needed before the work begins."""
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"the disk is full.*17 MB are needed, 0 MB are free"):
        prepare(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@is_posix
def test_a_disk_that_fills_up_meanwhile_leaves_what_was_done(prepared, tmp_path) -> None:
    """The system refuses to write on in the middle; with room again the rest is done."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(number: int) -> None:
        if number == 40:
            assert n_done(tmp_path / "out") == 40
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))

    try:
        with pytest.raises(OSError, match=r"the disk is full.*what was done is in .*out.partial"):
            prepare(tmp_path / "out", meet=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert content(prepare(tmp_path / "out")) == content(prepared)


def test_an_existing_folder_is_never_overwritten(prepared, tmp_path) -> None:
    """Same settings: nothing to do. Anything else under that name is refused and stays."""
    before = content(prepared)
    assert prepare(prepared, meet=refuse_30) == prepared
    with pytest.raises(ValueError, match="holds something else"):
        prepare(prepared, name="b")
    assert content(prepared) == before
    with pytest.raises(ValueError, match="holds something else"):
        prepare(tmp_path)


# ---- opening -------------------------------------------------------------------------------------


def shorten(folder: Path) -> None:
    os.truncate(folder / "halves.npy", 100)


def flip(folder: Path) -> None:
    changed = bytearray((folder / "halves.npy").read_bytes())
    changed[-1] ^= 1
    (folder / "halves.npy").write_bytes(changed)
    open_numbers(folder, verify=False)  # only the checksum tells


def change_manifest(*path: str, to: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = entry = json.loads((folder / "manifest.json").read_text())
        for key in path[:-1]:
            entry = entry[key]
        entry[path[-1]] = to
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def lie(number: int) -> Callable[[Path], None]:
    """A label that is none, with the checksum that belongs to it."""

    def damage(folder: Path) -> None:
        squares = np.load(folder / "squares.npy", mmap_mode="r+")
        squares[-2 if number > 0 else 0, 1] = number
        squares.flush()
        change_manifest("files", "squares.npy", "sha256", to=sha256(folder / "squares.npy"))(folder)

    return damage


DAMAGES = {
    "halves.npy has 100 bytes": shorten,
    "checksum of halves.npy": flip,
    "squares.npy": lambda folder: (folder / "squares.npy").unlink(),
    "format 'x'": change_manifest("format", to="x"),
    "`counts` must be an object": change_manifest("counts", to=3),
    "`counts.val` must be a whole number": change_manifest("counts", "val", to=20.0),
    "`counts` must be of train, val, test and > 0": change_manifest("counts", "val", to=0),
    "squares.npy is .*expected": change_manifest("counts", "train", to=79),
    r"is .*, expected \(dtype.*, \(1000000000000040,": change_manifest(
        "counts", "train", to=10**15
    ),
    "split.npy does not agree": change_manifest("counts", to={"train": 79, "val": 21, "test": 20}),
    "is the same": change_manifest("ranges", "squares", "lowest", to=[118**2] * 3),
    r"`ranges\[.*lowest` must be a list": change_manifest("ranges", "squares", "lowest", to=1),
    "Expecting value": lambda folder: (folder / "manifest.json").write_text("<html>"),
    "no JSON that can be read": lambda f: (f / "manifest.json").write_text("[" * 10_000),
    "squares.npy holds -1.0 to 14161.0, expected 0 to 14161": lie(-1),
    "squares.npy holds 0.0 to 99999.0": lie(99_999),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_folder_is_refused(message, prepared, tmp_path) -> None:
    """A short file is seen at once, a changed byte with verify=True; all say what to do."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    DAMAGES[message](folder)
    said = (
        f"is damaged or was not written by this version: .*({message}).* Run: python data_scripts"
    )
    with pytest.raises(ValueError, match=said):
        open_numbers(folder)


def test_changed_labels_are_noticed_at_every_start(prepared, tmp_path, monkeypatch) -> None:
    """Checksums of labels are compared each time; of large ones when they were touched since."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    hashed = []
    monkeypatch.setattr(opening, "sha256", lambda path: hashed.append(path.name) or sums(path))
    sums = sha256
    open_numbers(folder, verify=False)
    open_numbers(folder, verify=False)
    assert hashed == 2 * ["squares.npy", "split.npy"]
    monkeypatch.setattr(opening, "_LARGE", 1000)
    open_numbers(folder, verify=False)
    hashed.clear()
    open_numbers(folder, verify=False)  # as before: small ones only
    assert hashed == ["split.npy"]
    squares = np.load(folder / "squares.npy", mmap_mode="r+")
    squares[:] = squares[::-1].copy()
    squares.flush()
    os.utime(folder / "squares.npy")
    with pytest.raises(ValueError, match=r"the checksum of squares.npy is not the manifest's"):
        open_numbers(folder, verify=False)


@pytest.mark.parametrize("limit", [-3, 0, 2, 3.5, True, "12"])
def test_a_limit_that_is_none_is_refused(limit, prepared) -> None:
    """As when preparing."""
    manifest, _ = open_numbers(prepared)
    with pytest.raises(ValueError, match="`limit` must be a whole number >= 3"):
        list(split_rows(manifest, limit))


def test_changes_stay_in_memory(prepared) -> None:
    """Arrays are mapped, and writing to one never reaches the file."""
    before = content(prepared)
    open_numbers(prepared)[1]["squares.npy"][0] = 7
    assert content(prepared) == before


@pytest.mark.parametrize("name", ["celeba", "taskonomy"])
def test_a_missing_folder_names_the_command(name, tmp_path) -> None:
    """Whoever has not prepared the data set is told how."""
    command = rf"nothing prepared in .* Run: python data_scripts/prepare_{name}\.py --root"
    with pytest.raises(FileNotFoundError, match=command):
        getattr(data, name)(tmp_path)


# ---- scripts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prepare_celeba", "make_toy_celeba", "prepare_taskonomy"])
def test_help_says_time_and_disk(name, run_script) -> None:
    """Before anybody starts a long job."""
    code, text, _ = run_script(name, "--help")
    assert code == 0
    assert "Time:" in text
    assert "Disk:" in text


@pytest.mark.parametrize("name", ["prepare_celeba", "prepare_taskonomy"])
def test_a_script_ends_with_2_and_one_line(name, tmp_path, monkeypatch, capsys) -> None:
    """As it is run: `python data_scripts/NAME.py`."""
    arguments = ["--root", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"{name}: `root` is no folder: {tmp_path / 'nowhere'}.\n"
