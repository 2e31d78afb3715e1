"""What preparing and opening CelebA promise, on generated files that imitate its formats; no CelebA here."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("PIL", reason='needs the extra "data"')
pytest.importorskip("tqdm", reason='needs the extra "data"')

from PIL import Image

from dmtg_lite.data import prepared_folder
from dmtg_lite.data.celeba import prepare as celeba_prepare
from dmtg_lite.data.celeba.files import find_celeba
from dmtg_lite.data.celeba.images import decode, resize_bilinear
from dmtg_lite.data.celeba.lists import NAMES, read_attributes
from dmtg_lite.data.celeba.load import celeba
from dmtg_lite.data.celeba.prepare import prepare_celeba
from dmtg_lite.data.stand_ins.attribute_copula import sample_attributes
from dmtg_lite.data.stand_ins.celeba_files import LAYOUTS, attribute_text, make_fake_celeba

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
N = 40


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """The same fake CelebA in the four layouts of files (parquet is made where it is tested)."""
    folder = tmp_path_factory.mktemp("fake")
    return {
        name: make_fake_celeba(folder / name, n=N, layout=name)
        for name in LAYOUTS
        if name != "parquet"
    }


@pytest.fixture(scope="module")
def prepared(roots, tmp_path_factory) -> Path:
    """All 40 attributes of the torchvision layout."""
    out = tmp_path_factory.mktemp("prepared") / "celeba"
    return prepare_celeba(roots["torchvision"], out, attributes=40, progress=False)


@pytest.fixture
def root(roots, tmp_path) -> Path:
    """A copy of the torchvision layout to be damaged."""
    return Path(shutil.copytree(roots["torchvision"], tmp_path / "root"))


def content(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes() for name in ("images.npy", "labels.npy", "split.npy")
    }


# ---- pixels --------------------------------------------------------------------------------------


def test_resize_is_torchs_bilinear_without_antialiasing() -> None:
    """Oracle: every pixel equals F.interpolate's, rounded half to even; the weights are exact in float32."""
    images = np.random.default_rng(0).integers(0, 256, (8, 218, 178, 3), dtype=np.uint8)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    expected = F.interpolate(
        tensor, (64, 64), mode="bilinear", align_corners=False, antialias=False
    ).round()
    got = np.stack([resize_bilinear(image) for image in images])
    assert np.array_equal(got, expected.permute(0, 2, 3, 1).byte().numpy())


def test_antialias_is_pillows_bilinear(roots) -> None:
    """With antialias each image is what Pillow's resize makes of it, and differs from the plain one."""
    data = next((roots["torchvision"] / "celeba" / "img_align_celeba").iterdir()).read_bytes()
    expected = np.asarray(Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(decode("x", data, antialias=True), expected)
    assert not np.array_equal(decode("x", data), expected)


# ---- lists and layouts ---------------------------------------------------------------------------


def test_the_official_list_is_read_whatever_its_blanks(tmp_path) -> None:
    """Rows that start with a positive have one blank less, and are read all the same."""
    labels = sample_attributes(300, seed=1)
    assert 0 < labels[:, 0].sum() < 300
    (tmp_path / "list_attr_celeba.txt").write_bytes(attribute_text(labels))
    ids, got = read_attributes(tmp_path / "list_attr_celeba.txt")
    assert np.array_equal(got, labels)
    assert ids[0] == "000001.jpg"
    assert ids[-1] == "000300.jpg"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_arrays(layout, roots, prepared, tmp_path) -> None:
    """torchvision, authors' tree, Kaggle CSV, unopened zip and parquet end in the same bytes."""
    if layout == "parquet":
        pytest.importorskip("pyarrow")
        root = make_fake_celeba(tmp_path / "fake", n=N, layout="parquet")
    else:
        root = roots[layout]
    out = prepare_celeba(root, tmp_path / "out", attributes=40, progress=False)
    assert content(out) == content(prepared)
    assert json.loads((out / "manifest.json").read_text())["source"]["layout"] == layout


def test_zeros_are_accepted_in_a_csv_only(roots, prepared, tmp_path) -> None:
    """Copies with 0/1 exist as CSV; in the text list a 0 means that something is broken."""
    root = shutil.copytree(roots["kaggle"], tmp_path / "root")
    path = root / "list_attr_celeba.csv"
    path.write_text(path.read_text().replace(",-1", ",0"))
    out = prepare_celeba(root, tmp_path / "out", attributes=40, progress=False)
    assert content(out) == content(prepared)


def test_columns_are_taken_by_name(tmp_path) -> None:
    """A copy with its columns in another order gives the same labels."""
    labels = sample_attributes(5)
    order = np.random.default_rng(0).permutation(40)
    rows = [",".join([f"{k + 1:06d}.jpg", *map(str, labels[k, order])]) for k in range(5)]
    header = ",".join(["image_id", *np.array(NAMES)[order]])
    (tmp_path / "a.csv").write_text("\n".join([header, *rows, ""]))
    assert np.array_equal(read_attributes(tmp_path / "a.csv")[1], labels)


def test_a_limit_keeps_the_proportions_of_the_splits(roots, tmp_path) -> None:
    """The splits lie one after the other in the list, so the first n rows alone would all be train."""
    out = prepare_celeba(roots["torchvision"], tmp_path / "out", limit=20, progress=False)
    assert json.loads((out / "manifest.json").read_text())["counts"] == {
        "train": 16,
        "val": 2,
        "test": 2,
    }


# ---- refusals ------------------------------------------------------------------------------------


def lists(root: Path) -> tuple[Path, Path, Path]:
    folder = root / "celeba"
    return (
        folder / "list_attr_celeba.txt",
        folder / "list_eval_partition.txt",
        folder / "img_align_celeba",
    )


def html(root: Path) -> None:
    lists(root)[0].write_text("<!DOCTYPE html>\n<html><title>Quota exceeded</title></html>\n")


def truncated_list(root: Path) -> None:
    rows = lists(root)[0].read_bytes().splitlines(keepends=True)
    lists(root)[0].write_bytes(b"".join(rows[:-7]))


def list_cut_inside_a_row(root: Path) -> None:
    lists(root)[0].write_bytes(lists(root)[0].read_bytes()[:-50])


def row_with_39(root: Path) -> None:
    rows = lists(root)[0].read_bytes().splitlines(keepends=True)
    rows[5] = rows[5].rstrip()[:-2].rstrip() + b"\r\n"
    lists(root)[0].write_bytes(b"".join(rows))


def replace_in(which: int, old: bytes, new: bytes):
    def damage(root: Path) -> None:
        path = lists(root)[which]
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return damage


def missing_image(root: Path) -> None:
    (lists(root)[2] / "000007.jpg").unlink()


def cut_image(share: float):
    def damage(root: Path) -> None:
        path = lists(root)[2] / "000007.jpg"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return damage


def no_end_marker(root: Path) -> None:
    path = lists(root)[2] / "000007.jpg"
    path.write_bytes(path.read_bytes()[:-2])


def image_of(size: tuple[int, int], mode: str):
    def damage(root: Path) -> None:
        Image.new(mode, size).save(lists(root)[2] / "000007.jpg")

    return damage


def unlisted(which: int):
    def damage(root: Path) -> None:
        """Take one id out of a list, count line and all."""
        path = lists(root)[which]
        rows = [
            row
            for row in path.read_bytes().splitlines(keepends=True)
            if not row.startswith(b"000011")
        ]
        path.write_bytes(b"".join(rows).replace(b"%d\r\n" % N, b"%d\r\n" % (N - 1), 1))

    return damage


def zip_with(member: str | None, *, keep: int | None = None):
    def damage(root: Path) -> None:
        folder = lists(root)[2]
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"img_align_celeba/{path.name}")
            if member:
                archive.writestr(member, b"x")
        shutil.rmtree(folder)
        if keep is not None:
            data = folder.with_suffix(".zip").read_bytes()
            folder.with_suffix(".zip").write_bytes(data[:keep])

    return damage


def damaged_member(root: Path) -> None:
    zip_with(None)(root)
    path = lists(root)[2].with_suffix(".zip")
    data = bytearray(path.read_bytes())
    data[2000] ^= 0xFF
    path.write_bytes(data)


REFUSALS = {
    "an HTML page": (html, "HTML page"),
    "a list cut short": (truncated_list, "announces 40 images but lists 33"),
    "a list cut inside a row": (list_cut_inside_a_row, "line 42 .* found 2[0-9] values"),
    "a row with 39 values": (row_with_39, "line 6 .* found 39 values"),
    "a value 0": (replace_in(0, b" -1 ", b"  0 "), "line 3 has the value '0'"),
    "a value 2": (replace_in(0, b"  1 ", b"  2 "), "has the value '2'"),
    "39 names": (replace_in(0, b"Bald ", b""), "found 39 names; missing \\['Bald'\\]"),
    "an id that leaves the folder": (
        replace_in(0, b"000004.jpg", b"../../4.jpg"),
        "image id '../../4.jpg'",
    ),
    "an id twice": (replace_in(0, b"000004.jpg", b"000005.jpg"), "000005.jpg more than once"),
    "a split 3": (
        replace_in(1, b"000004.jpg 0", b"000004.jpg 3"),
        "line 4 should be an id and 0, 1 or 2",
    ),
    "an id in the partition only": (
        unlisted(0),
        "list_attr_celeba.txt lacks 1 ids of the other list, 000011.jpg first",
    ),
    "an id in the attributes only": (
        unlisted(1),
        "list_eval_partition.txt lacks 1 ids of the other list, 000011.jpg",
    ),
    "an image missing": (missing_image, "lacks 1 images of the list, 000007.jpg first"),
    "a truncated JPEG": (cut_image(0.6), "000007.jpg is no complete JPEG"),
    "a JPEG cut near its end": (cut_image(0.99), "000007.jpg is no complete JPEG"),
    "a JPEG without end marker": (no_end_marker, "000007.jpg is no complete JPEG"),
    "an empty image": (cut_image(0), "000007.jpg is no complete JPEG"),
    "a wrong size": (
        image_of((218, 178), "RGB"),
        "000007.jpg is 218 x 178 RGB, expected 178 x 218",
    ),
    "a grey image": (image_of((178, 218), "L"), "000007.jpg is 178 x 218 L"),
    "a zip that climbs out": (zip_with("img_align_celeba/../../evil.jpg"), "points outside"),
    "a zip with absolute paths": (zip_with("/etc/evil.jpg"), "points outside"),
    "a zip with an image twice": (zip_with("other/000007.jpg"), "000007.jpg more than once"),
    "a zip cut short": (zip_with(None, keep=50_000), "no complete zip"),
    "a zip with a damaged member": (damaged_member, "000001.jpg is damaged"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_with_one_line_and_nothing_left_behind(case, root, tmp_path, capsys) -> None:
    """Each broken download ends in exit code 2 and one line that names it; nothing is left."""
    damage, message = REFUSALS[case]
    damage(root)
    before = sorted(path.name for path in tmp_path.iterdir())
    main = load_script("prepare_celeba").main
    assert main(["--root", str(root), "--out", str(tmp_path / "out")]) == 2
    error = (
        capsys.readouterr().err.split("\r")[-1].strip().splitlines()[-1]
    )  # after the progress bar
    assert error.startswith("prepare_celeba: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_refused_in_a_worker_process_too(root, tmp_path) -> None:
    """The same error, in one piece, when the image is read by another process."""
    cut_image(0.5)(root)
    with pytest.raises(ValueError, match=r"000007\.jpg is no complete JPEG"):
        prepare_small(root, tmp_path / "out", jobs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def prepare_small(root: Path, out: Path, *, jobs: int) -> Path:
    chunk, celeba_prepare.CHUNK = celeba_prepare.CHUNK, 8
    try:
        return prepare_celeba(root, out, jobs=jobs, progress=False)
    finally:
        celeba_prepare.CHUNK = chunk


def test_a_disk_that_will_be_full_is_refused_first(roots, tmp_path, monkeypatch) -> None:
    """Free space is compared with what is needed before the work begins."""
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"the disk is full.*17 MB are needed, 0 MB are free"):
        prepare_celeba(roots["torchvision"], tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_disk_that_fills_up_meanwhile_leaves_nothing(roots, tmp_path) -> None:
    """The system refuses to write on in the middle: exit code 2, one line, nothing left."""
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, "
        "100_000));"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = ["--root", roots["torchvision"], "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, SCRIPTS / "prepare_celeba.py", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "prepare_celeba: the disk is full" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(prepared, roots, tmp_path) -> None:
    """Same settings: nothing to do. Anything else under that name is refused and stays."""
    before = content(prepared)
    assert prepare_celeba(roots["torchvision"], prepared, attributes=40, progress=False) == prepared
    with pytest.raises(ValueError, match="holds something else"):
        prepare_celeba(roots["torchvision"], prepared, attributes=9, progress=False)
    assert content(prepared) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attributes": 10}, "must be 9 or 40"),
        ({"limit": 2}, "at least 3"),
        ({"jobs": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, roots, tmp_path) -> None:
    """Each argument says what it may be."""
    with pytest.raises(ValueError, match=message):
        prepare_celeba(roots["torchvision"], tmp_path / "out", progress=False, **arguments)


def test_a_folder_without_celeba_says_what_is_missing(tmp_path) -> None:
    """Nothing there, no partition, no images: each names the file that was looked for."""
    with pytest.raises(FileNotFoundError, match=r"no list_attr_celeba\.txt"):
        find_celeba(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_bytes(attribute_text(sample_attributes(10)))
    with pytest.raises(FileNotFoundError, match=r"no list_eval_partition\.txt"):
        find_celeba(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_celeba(tmp_path / "nowhere")


def test_parquet_with_a_shard_missing_is_refused(tmp_path) -> None:
    """train-00000-of-00002 without its sibling is half a training split."""
    pytest.importorskip("pyarrow")
    root = make_fake_celeba(tmp_path / "fake", n=N, layout="parquet", n_drawn=2)
    next(root.glob("*/train-00001*")).unlink()
    with pytest.raises(ValueError, match="1 of 2 shards"):
        find_celeba(root)


def test_parquet_copies_with_numbers_or_a_struct_of_strings_are_read(tmp_path) -> None:
    """Other copies hold -1/1, or one struct of strings; a 2 or a missing attribute is refused by name."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    root = make_fake_celeba(tmp_path / "fake", n=N, layout="parquet", n_drawn=2)
    expected = find_celeba(root).labels
    tables = {shard: pq.read_table(shard) for shard in root.glob("*/*.parquet")}

    def rewrite(change) -> None:
        for shard, table in tables.items():
            values = {name: np.where(table[name].to_pylist(), 1, -1) for name in NAMES}
            pq.write_table(pa.table({"image": table["image"], **change(values)}), shard)

    rewrite(lambda values: values)
    assert np.array_equal(find_celeba(root).labels, expected)
    rewrite(lambda values: {"attributes": [dict(zip(values, map(str, row), strict=True))
                                           for row in zip(*values.values(), strict=True)]})  # fmt: skip
    assert np.array_equal(find_celeba(root).labels, expected)
    rewrite(lambda values: {**values, "Bald": values["Bald"] + 3})
    with pytest.raises(ValueError, match=r"column Bald has the value [24];"):
        find_celeba(root)
    rewrite(lambda values: {name: values[name] for name in NAMES[1:]})
    with pytest.raises(ValueError, match="lacks 1 of the 40 attributes, 5_o_Clock_Shadow"):
        find_celeba(root)


# ---- interruption --------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_and_run_again_gives_the_same_bytes(tmp_path) -> None:
    """SIGKILL in the middle, with workers, twice: the last run ends where an undisturbed one does."""
    root = make_fake_celeba(tmp_path / "fake", n=1200, n_drawn=12)
    whole = prepare_celeba(root, tmp_path / "whole", attributes=40, jobs=1, progress=False)
    code = (
        "import sys; from dmtg_lite.data.celeba import prepare as p; from dmtg_lite.data import prepared_folder as f; f.SAVE_EVERY, p.CHUNK = 0, 16;"
        "p.prepare_celeba(sys.argv[1], sys.argv[2], attributes=40, jobs=int(sys.argv[3]), "
        "progress=False)"
    )
    out, state = tmp_path / "out", tmp_path / "out.partial" / "progress.json"
    done = 0
    for jobs, until in ((1, 100), (2, 500)):
        command = [sys.executable, "-c", code, root, out, str(jobs)]
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 60
        while done < until and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)
            done = json.loads(state.read_text())["n_done"] if state.exists() else 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert until <= done < 1200
        assert not out.exists()
        file_number = (state.parent / "images.npy").stat().st_ino
        wait_for_end_of_session(process.pid)
    prepare_celeba(root, out, attributes=40, jobs=1, progress=False)
    assert content(out) == content(whole)
    assert (out / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert (out / "images.npy").stat().st_ino == file_number  # continued, not begun again
    assert not state.parent.exists()


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


@pytest.mark.parametrize(
    "stopped_by", [KeyboardInterrupt(), OSError(5, "Input/output error")], ids=repr
)
def test_an_interruption_keeps_the_work_and_other_settings_drop_it(
    stopped_by, roots, tmp_path, monkeypatch
) -> None:
    """Ctrl-C or a failing drive leave what is done; a run with other settings begins again."""
    calls = []

    def stop(name: str, data: bytes, *, antialias: bool) -> np.ndarray:
        calls.append(name)
        if len(calls) == 30:
            raise stopped_by
        return decode(name, data, antialias=antialias)

    monkeypatch.setattr(celeba_prepare, "CHUNK", 8)
    monkeypatch.setattr(prepared_folder, "SAVE_EVERY", 0)
    monkeypatch.setattr(celeba_prepare, "decode", stop)
    arguments = {"jobs": 1, "progress": False}
    with pytest.raises(type(stopped_by)):
        prepare_celeba(roots["torchvision"], tmp_path / "out", **arguments)
    assert json.loads((tmp_path / "out.partial" / "progress.json").read_text())["n_done"] == 24
    prepare_celeba(roots["torchvision"], tmp_path / "out", **arguments)
    assert len(calls) == 30 + N - 24
    monkeypatch.setattr(celeba_prepare, "decode", decode)
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "progress.json").write_text("{}")
    prepare_celeba(roots["torchvision"], tmp_path / "other", **arguments)
    assert content(tmp_path / "other") == content(tmp_path / "out")


# ---- opening -------------------------------------------------------------------------------------


def test_round_trip(prepared, roots) -> None:
    """What is opened is what the files say: pixels, labels, order, splits, and that the faces are drawn."""
    data = celeba(prepared, "celeba40", verify=True)
    folder = roots["torchvision"] / "celeba"
    _, labels = read_attributes(folder / "list_attr_celeba.txt")
    assert [len(data.train), len(data.val), len(data.test)] == [32, 4, 4]
    assert data.task_names == list(NAMES)
    for split, first in ((data.train, 0), (data.val, 32), (data.test, 36)):
        for row in range(len(split)):
            image = decode(
                "x", (folder / "img_align_celeba" / f"{first + row + 1:06d}.jpg").read_bytes()
            )
            assert np.array_equal(split.images[row].permute(1, 2, 0).numpy(), image)
        for column, name in enumerate(NAMES):
            assert split.targets[name].dtype == torch.int64
            assert (
                split.targets[name].tolist() == labels[first : first + len(split), column].tolist()
            )
    assert data.name == "fake_celeba40"
    assert "Fake" in data.note


def test_batches_are_channels_last_and_changes_stay_in_memory(prepared) -> None:
    """A drawn batch needs no conversion, and writing to an image never reaches the file."""
    before = content(prepared)
    images = celeba(prepared).train.images
    assert images[torch.tensor([3, 1, 2])].is_contiguous(memory_format=torch.channels_last)
    images[0] = 7
    assert (celeba(prepared).train.images[0] != 7).any()
    assert content(prepared) == before


def test_forty_attributes_serve_nine_but_not_the_reverse(prepared, roots, tmp_path) -> None:
    """The nine of a 40-attribute folder are the nine of a 9-attribute folder."""
    nine = prepare_celeba(roots["torchvision"], tmp_path / "nine", attributes=9, progress=False)
    a, b = celeba(nine), celeba(prepared, "celeba9")
    assert a.task_names == b.task_names
    assert len(a.tasks) == 9
    for name in a.task_names:
        assert torch.equal(a.train.targets[name], b.train.targets[name])
    with pytest.raises(ValueError, match="prepared with 9 attributes, 'celeba40' needs 40"):
        celeba(nine, "celeba40")


def test_a_limit_when_opening_takes_the_first_of_each_split(prepared) -> None:
    """Labels and images stay together."""
    whole, part = celeba(prepared), celeba(prepared, limit=20)
    assert [len(part.train), len(part.val), len(part.test)] == [16, 2, 2]
    assert torch.equal(part.test.images, whole.test.images[:2])
    assert torch.equal(part.test.targets["Goatee"], whole.test.targets["Goatee"][:2])


def test_a_missing_folder_names_the_command(tmp_path) -> None:
    """Whoever has not prepared CelebA is told how."""
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/prepare_celeba\.py --root"):
        celeba(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`suite` must be one of"):
        celeba(tmp_path, "celeba10")


@pytest.mark.parametrize("damage", ["shorter", "flipped", "other manifest", "no labels"])
def test_a_damaged_folder_is_refused(damage, prepared, tmp_path) -> None:
    """A short file is seen at once, a changed byte with verify=True; both say what to do."""
    folder = Path(shutil.copytree(prepared, tmp_path / "copy"))
    if damage == "shorter":
        os.truncate(folder / "images.npy", 1000)
    elif damage == "flipped":
        data = bytearray((folder / "images.npy").read_bytes())
        data[-1] ^= 1
        (folder / "images.npy").write_bytes(data)
        celeba(folder)
    elif damage == "other manifest":
        (folder / "manifest.json").write_text('{"format": "something else"}')
    else:
        (folder / "labels.npy").unlink()
    with pytest.raises(ValueError, match="is damaged or was not written by this version"):
        celeba(folder, verify=True)


def test_the_script_runs_from_a_checkout(roots, tmp_path) -> None:
    """`python data_scripts/prepare_celeba.py` prepares, and exits with 0."""
    command = [
        sys.executable,
        SCRIPTS / "prepare_celeba.py",
        "--root",
        roots["zip"],
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run([*command, "--limit", "10"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prepared" in done.stdout
    assert len(celeba(tmp_path / "out").train) == 8


@pytest.mark.parametrize("name", ["prepare_celeba", "make_toy_celeba"])
def test_help_says_time_and_disk(name, capsys) -> None:
    """Before anybody starts a long job."""
    with pytest.raises(SystemExit) as end:
        load_script(name).main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "Time:" in text
    assert "Disk:" in text


def test_the_toy_script_writes_what_the_other_one_reads(tmp_path, capsys) -> None:
    """Two commands, from nothing to a data set; a folder that exists is refused with one line."""
    toy, prepare = load_script("make_toy_celeba").main, load_script("prepare_celeba").main
    assert toy(["--out", str(tmp_path / "toy"), "--n", "12"]) == 0
    assert "FAKE" in capsys.readouterr().out
    assert prepare(["--root", str(tmp_path / "toy"), "--out", str(tmp_path / "out")]) == 0
    assert celeba(tmp_path / "out").name == "fake_celeba9"
    assert toy(["--out", str(tmp_path / "toy")]) == 2
    assert "exists already" in capsys.readouterr().err
