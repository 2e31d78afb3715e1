"""Files that nobody should believe, by the hundred: recordings, results, cells, remembered losses
and checkpoints, damaged by seeded mutators or made to do harm.

Each ends in one line that names the file, or in the right result; nothing is half-written. What
could take the process with it runs in a child.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mutators import mutate_arrays, mutate_bytes, mutate_json
from runs import small_runs
from safetensors.torch import save_file

from dmtg_lite import cli, data
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.methods import METHODS, MethodResult, Saving
from dmtg_lite.methods.hoa import measure_pairs
from dmtg_lite.runs.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from dmtg_lite.runs.load import load_result
from dmtg_lite.studies.cells import make_cells, run_cells
from dmtg_lite.studies.tables import tabulate, tabulate_tasks
from dmtg_lite.views import recordings

FACES = data.toy_faces(6, 2, n_train=60, n_val=30, n_test=30)
CONFIG = TrainConfig(encoder="toy", steps=4, pretrain=2, batch_size=16)


def check_refusal(error: Exception, path: Path) -> None:
    """One line, with the file's name."""
    assert "\n" not in str(error)
    assert path.name in str(error)


@pytest.fixture(scope="module")
def result() -> MethodResult:
    return METHODS["dmtg"](FACES, 2, CONFIG)


# ---------------------------------------------------------------------- recordings


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A run with closings and an elbow, short, as a file and as its arrays."""
    run = recordings.load("spare")
    path = run.slice(every=-(-len(run) // 40)).save(tmp_path_factory.mktemp("run") / "good.npz")
    with np.load(path) as file:
        return path, dict(file)


def mutate_recording(path: Path, arrays: dict[str, np.ndarray], seed: int, to: Path) -> None:
    if seed % 3 == 0:
        to.write_bytes(mutate_bytes(path.read_bytes(), seed))
        return
    if seed % 3 == 1:
        meta = mutate_json(json.loads(str(arrays["meta"])), seed)
        arrays = arrays | {"meta": np.array(json.dumps(meta))}
    else:
        changed = mutate_arrays({k: v for k, v in arrays.items() if k != "meta"}, seed)
        arrays = changed | {"meta": arrays["meta"]}
    np.savez(to, **arrays)


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_a_recording_is_refused_or_shown(
    first: int,
    recording: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """By the command line: 0 and a page, or 2, one line and none."""
    path, page = tmp_path / "hostile.npz", tmp_path / "page.html"
    for seed in range(first, first + 30):
        mutate_recording(*recording, seed, path)
        code = cli.main(["replay", str(path), "--html", str(page)])
        said = capsys.readouterr().err
        assert (code, page.exists(), said.count("\n")) in [(0, True, 0), (2, False, 1)], (
            seed,
            said,
        )
        assert code == 0 or str(path) in said, seed
        page.unlink(missing_ok=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# ---------------------------------------------------------------------- results and cells


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_a_result_is_refused_or_predicts(first: int, result: MethodResult, tmp_path: Path) -> None:
    """The JSON of a result, its weights and its recording."""
    folder = result.save(tmp_path / "result")
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    with torch.no_grad():
        wanted = result.network(FACES.test.images)
    for seed in range(first, first + 30):
        name = ["result.json", "result.json", "network.safetensors", "run.npz"][seed % 4]
        numbers = mutate_json(json.loads(good["result.json"]), seed)
        is_json = name == "result.json"
        content = json.dumps(numbers).encode() if is_json else mutate_bytes(good[name], seed)
        (folder / name).write_bytes(content)
        try:
            told = load_result(folder).network(FACES.test.images)
        except (ValueError, OSError) as error:
            check_refusal(error, folder)
        else:
            assert told.keys() == wanted.keys(), seed
            if not is_json:  # what JSON says of tasks and groups may be another truth
                torch.testing.assert_close(told, wanted, rtol=0, atol=0)
        (folder / name).write_bytes(good[name])


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_a_cell_is_believed_or_run_again(
    first: int, result: MethodResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cells, one of which is damaged: there is always a table, and a file is never lost."""
    naive = METHODS["naive"](FACES, 1, CONFIG)
    for one in (naive, result):
        again = replace(METHODS[one.method], train=lambda *_, own=one, **__: own)
        monkeypatch.setitem(METHODS, one.method, again)
    cells = make_cells(["naive", "dmtg"], [2], [0], CONFIG)
    whole = run_cells(cells, FACES, folder=tmp_path)
    path = next(tmp_path.glob("dmtg*.json"))
    good = path.read_bytes()
    for seed in range(first, first + 30):
        bad = json.dumps(mutate_json(json.loads(good), seed)).encode()
        bad = bad if seed % 3 else mutate_bytes(good, seed)
        path.write_bytes(bad)
        numbers = run_cells(cells, FACES, folder=tmp_path)
        assert len(tabulate(numbers)) == 2, seed
        assert len(tabulate_tasks(numbers)) == 12, seed
        aside = list(tmp_path.glob("*.damaged*"))
        if aside:
            assert [one.read_bytes() for one in aside] == [bad], seed
            assert numbers[1].pop("set_aside").startswith(str(path))
            assert json.loads(json.dumps(numbers)) == json.loads(json.dumps(whole))
            aside[0].unlink()
        path.write_bytes(good)


def test_what_a_search_remembers_is_refused_or_used(tmp_path: Path) -> None:
    """HOA's losses of single tasks and pairs."""
    two, saving = FACES.select(FACES.task_names[:2]), Saving(tmp_path)
    measure_pairs(two, CONFIG, saving=saving)
    path = tmp_path / "pairs_losses.json"
    good = path.read_bytes()
    for seed in range(30):
        bad = json.dumps(mutate_json(json.loads(good), seed)).encode()
        path.write_bytes(bad if seed % 3 else mutate_bytes(good, seed))
        try:
            values, _ = measure_pairs(two, CONFIG, saving=saving)
        except ValueError as error:
            check_refusal(error, path)
        else:
            assert not values.isnan().any(), seed


# ---------------------------------------------------------------------- checkpoints

CHILD = """
import sys, json, torch
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from runs import small_runs
torch.set_num_threads(1)
for path in sorted(Path(sys.argv[2]).iterdir()):
    print(path.name, end="\\t", flush=True)  # so that a crash tells whose it was
    try:
        _, state = small_runs.run(checkpoint=path)
    except (ValueError, OSError, FloatingPointError) as error:
        print("refused", json.dumps([type(error).__name__, str(error)]), sep="\\t", flush=True)
    else:
        weights = torch.cat([p.detach().flatten() for p in state.network.parameters()])
        is_finite = bool(weights.isfinite().all())
        print("done", json.dumps([is_finite, weights.double().sum().item()]), sep="\\t", flush=True)
"""
AVERAGE = "optimizer.weights.0.exp_avg"
HARMFUL = {  # a checkpoint made to do harm, and what its refusal says
    "adam_one_element": ({AVERAGE: torch.zeros(1)}, AVERAGE),
    "adam_bytes": ({AVERAGE: torch.zeros(172, dtype=torch.uint8)}, AVERAGE),
    "adam_number": ({AVERAGE: torch.tensor(0.0)}, AVERAGE),
    "adam_double_short": ({AVERAGE: torch.zeros(5, dtype=torch.float64)}, AVERAGE),
    "adam_int8": ({AVERAGE: torch.zeros(8, 3, 4, 4, dtype=torch.int8)}, AVERAGE),
    "adam_negative": ({f"{AVERAGE}_sq": torch.full((8, 3, 4, 4), -1.0)}, "must not be negative"),
    "adam_missing": ({AVERAGE: None}, "tensors are missing"),
    "adam_step": ({"optimizer.weights.0.step": torch.tensor(9e9)}, "must be from 1 to 4"),
    "s_average_empty": ({"optimizer.assignment.0.exp_avg": torch.zeros(0)}, "assignment.0.exp_avg"),
    "s_average_short": ({"optimizer.assignment.0.exp_avg": torch.zeros(2, 3)}, "shape (4, 3)"),
    "weight_nan": ({"network.stem_": torch.zeros(1)}, "not of this run: ['network.stem_']"),
    "logits_nan": ({"network.assignment.logits": torch.full((4, 3), math.nan)}, "must be finite"),
    "no_head": (
        {"network.assignment.active": torch.zeros(4, 3, dtype=torch.bool)},
        "leaves a task without a head",
    ),
    "noise_short": ({"noise": torch.zeros(16, dtype=torch.uint8)}, "`noise` must be torch.uint8"),
    "noise_junk": ({"noise": torch.full((5056,), 7, dtype=torch.uint8)}, "`noise` is no state"),
    "history_half": ({"history.tau": torch.zeros(4, dtype=torch.bfloat16)}, "`history.tau` must"),
    "history_long": ({"history.steps": torch.arange(1, 6, dtype=torch.int32)}, "of shape (5,"),
    "step_far": ({"step": 10**9}, "`step` must be from 1 to 12"),
    "step_text": ({"step": "4"}, "`step` must be a whole number"),
    "step_gone": ({"step": None}, "`step` must be a whole number"),
    "scale": ({"lr_scale": 1e9}, "`lr_scale` must be above 0"),
    "scale_nan": ({"lr_scale": math.nan}, "`lr_scale` must be a finite number"),
    "branches": ({"branches": [0, 1, 7]}, "`branches` must be of [0, 1, 2]"),
    "branches_none": ({"branches": []}, "`branches` must be of"),
    "heads": ({"heads": [[0], [0], [0]]}, "`heads` must be of"),
    "heads_short": ({"heads": [[0, 1, 2, 3]]}, "`heads` must be of"),
    "spare": ({"n_spare": 3}, "`n_spare` must be at most 0"),
    "elbow": ({"elbow": {"n_groups": "x"}}, "`elbow.n_branches` is missing"),
    "closings": ({"closings": [{"step": 1, "branch": 0}]}, "`closings[0].cost` is missing"),
    "settings": ({"settings": []}, "`settings` must be an object"),
    "remembered": ({"remembered": {"weights": [], "assignment": []}}, "not of this run: ['optimi"),
    "remembered_more": ({"remembered": {"weights": [99], "assignment": []}}, "no weights [99]"),
    "remembered_none": ({"remembered": {}}, "`remembered` must be of ['weights', 'assignment']"),
}


def spoil(tensors: dict, meta: dict, change: dict[str, Any], path: Path) -> None:
    """Other tensors or numbers, signed with the right checksum."""
    tensors = {**tensors, **{k: v for k, v in change.items() if k not in meta}}
    meta = {**meta, **{k: v for k, v in change.items() if k in meta}}
    save_checkpoint(path, {k: v for k, v in tensors.items() if v is not None}, meta)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for checkpoints, which need not survive a failure of the machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    (tmp_path / "files").mkdir()
    small_runs.run(stop_at=4, checkpoint=tmp_path / "good")
    return tmp_path / "files"


def open_all(files: Path) -> dict[str, tuple[str, list]]:
    """What a child process says of each checkpoint: it has to live to the last one."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", CHILD, str(here), str(files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=here.parent)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])
    told = {name: (outcome, json.loads(words)) for name, outcome, words in lines}
    assert told.keys() == {path.name for path in files.iterdir()}
    for name, (outcome, words) in told.items():
        if outcome == "refused":
            kind, message = words
            assert kind == "FloatingPointError" or str(files / name) in message, (name, words)
            assert "\n" not in message, name
        else:
            assert words[0], f"{name}: weights are not finite"
    return told


def test_no_checkpoint_made_to_do_harm_is_loaded(files: Path) -> None:
    """Signed with the right checksum, but of another form than the run: refused by the field."""
    tensors, meta = load_checkpoint(files.parent / "good")
    for name, (change, _) in HARMFUL.items():
        spoil(tensors, meta, change, files / name)
    content = (files.parent / "good").read_bytes()
    (files / "flip").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    save_file(tensors, files / "old", metadata={"format": "dmtg-checkpoint/4", "meta": "{}"})
    (files / "new").write_bytes(content.replace(FORMAT.encode(), b"dmtg-checkpoint/9"))
    (files / "folder").mkdir()
    os.mkfifo(files / "pipe")
    wanted = {name: words for name, (_, words) in HARMFUL.items()} | {
        "flip": "checksum says that it is not what was written",
        "old": "format 'dmtg-checkpoint/4', expected",
        "new": "format 'dmtg-checkpoint/9', expected",
        "folder": "is a folder, where a checkpoint is due",
        "pipe": "is no regular file, where a checkpoint is due",
    }
    for name, (outcome, told) in open_all(files).items():
        assert outcome == "refused", (name, told)
        assert wanted[name] in told[1], (name, told)


@pytest.mark.slow
def test_no_damaged_checkpoint_teaches_a_run_something_else(files: Path) -> None:
    """Of other bytes: refused, or the run ends as it would have. Of other tensors or numbers with
    the right checksum: refused, or a run like any other."""
    content = (files.parent / "good").read_bytes()
    tensors, meta = load_checkpoint(files.parent / "good")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    for seed in range(45):
        (files / f"bytes{seed}").write_bytes(mutate_bytes(content, seed))
        changed = mutate_arrays(arrays, seed).items()
        other = {name: torch.from_numpy(np.array(array)) for name, array in changed}
        save_checkpoint(files / f"tensors{seed}", other, meta)
        save_checkpoint(files / f"numbers{seed}", tensors, mutate_json(meta, seed))
    _, state = small_runs.run()
    right = torch.cat([p.detach().flatten() for p in state.network.parameters()])
    for name, (outcome, told) in open_all(files).items():
        if outcome == "done" and name.startswith("bytes"):
            assert told == [True, right.double().sum().item()], name
