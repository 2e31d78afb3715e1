"""One run per seed, nothing lost on a stop, and checkpoints that are refused where they must be."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import CONFIG, DATA, assert_equal, assert_same_run, run, start

from dmtg_lite.core.config import HeadOptions, Pruning
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.checkpoint import FORMAT, load_checkpoint, pack, save_checkpoint
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import build_network, continue_fit, continue_steps, fit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def test_the_same_seed_is_the_same_run() -> None:
    """Bit for bit, whatever torch's global generator is at; another seed is another run."""
    torch.manual_seed(1)
    first = run()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert_same_run(first, run())
    assert torch.equal(torch.get_rng_state(), state)
    other, _ = run(replace(CONFIG, seed=1))
    assert not np.array_equal(first[0].task_losses, other.task_losses)


RESUMED = {  # what is changed, and where the run is stopped; an epoch ends after step 4
    "toy": ({}, [1, 4, 9]),
    "resnet": ({"encoder": "resnet", "shared": 1}, [1, 4]),
    "mixed": ({"precision": "bfloat16", "tau": (5.0, 0.5), "heads": HeadOptions(hidden=4)}, [1, 9]),
    "two rules": ({"optimiser_assignment": "sgd", "heads": HeadOptions(train_all=True)}, [4]),
    "plateau": ({"schedule": "plateau", "lr": 0.3}, [4, 9]),
    "multistep": ({"schedule": "multistep", "batch_size": 70, "steps": 20}, [14, 15, 16]),
    "pruned": (
        {"pruning": Pruning(below=0.3, start=1), "steps": 30, "lr_assignment": 0.5},
        [1, 25, 26],
    ),
}


@pytest.mark.parametrize("option", RESUMED)
def test_a_resumed_run_is_the_uninterrupted_one(option: str, tmp_path: Path) -> None:
    """Stopped after any step and continued from its file by new objects: bit for bit."""
    change, stops = RESUMED[option]
    config = replace(CONFIG, **change)
    whole = run(config)
    for stop in stops:
        path = tmp_path / f"{stop}.safetensors"
        run(config, stop_at=stop, checkpoint=path)
        assert load_checkpoint(path)[1]["step"] == stop
        assert_same_run(run(config, checkpoint=path), whole)
    if option == "pruned":
        assert not whole[1].network.assignment.active.all()


def test_a_chain_of_stops_and_a_finished_run(path: Path) -> None:
    """Every step its own process, saved as often as one likes; a finished run returns at once."""
    whole = run()
    for stop in range(1, 13):
        last = run(stop_at=stop, checkpoint=path, checkpoint_every=5)
    assert_same_run(last, whole)
    assert_same_run(run(checkpoint=path), whole)


def test_a_run_goes_on_in_memory() -> None:
    """Stop, look, go on: the same as never having stopped."""
    history, state = run(stop_at=7)
    assert len(history) == 7
    evaluate(state.network, DATA.val)
    continue_fit(history, state, DATA, CONFIG.steps)
    assert_same_run((history, state), run())


def test_the_loop_may_be_left_and_entered_at_any_step() -> None:
    """The generator is its caller's: stopping is not asking again, and a state carries on."""
    state = TrainState(start(), CONFIG)
    for _, record in zip(range(5), continue_steps(state, DATA, CONFIG.steps), strict=False):
        assert not record.task_losses.requires_grad
        assert not record.probabilities.requires_grad
    rest = [record.step for record in continue_steps(state, DATA, CONFIG.steps)]
    assert rest == list(range(6, 13))
    assert_equal(pack(state)[0], pack(run()[1])[0])


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"seed": 3}, {"tau": (5.0, 1.0)}], ids=str)
def test_a_checkpoint_of_another_config_is_refused(change: dict, path: Path) -> None:
    """The message names what differs, with both values."""
    run(stop_at=4, checkpoint=path)
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"was made with {name}=.*; this run has {name}=") as error:
        run(replace(CONFIG, **change), checkpoint=path)
    assert str(list(value) if isinstance(value, tuple) else value) in str(error.value)


@pytest.mark.parametrize("group_of", [None, [0, 0, 1, 1]])
def test_a_checkpoint_of_another_grouping_is_refused(group_of, path: Path) -> None:
    """Another K, and other groups of the same sizes, whose tensors would fit."""
    naive = build_network(DATA, CONFIG)
    fit(naive.branch_out(2, group_of=[0, 1, 0, 1]), DATA, CONFIG, stop_at=2, checkpoint=path)
    other = naive.branch_out(3 if group_of is None else 2, group_of=group_of)
    complaint = r"was made with K=2 with \[2, 2\] heads.*; this run has K="
    with pytest.raises(ValueError, match=complaint):
        fit(other, DATA, CONFIG, checkpoint=path)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "foreign"])
def test_a_damaged_checkpoint_is_refused(damage: str, path: Path) -> None:
    """With the file's name, before anything of the network has changed."""
    run(stop_at=2, checkpoint=path)
    content = path.read_bytes()
    foreign = content.replace(FORMAT.encode(), b"dmtg-checkpoint/9")
    contents = {"garbage": b"no", "truncated": content[:-9], "empty": b"", "foreign": foreign}
    path.write_bytes(contents[damage])
    network = start()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"run\.safetensors is not a checkpoint of this version"):
        fit(network, DATA, CONFIG, checkpoint=path)
    assert_equal(dict(network.state_dict()), before)


def test_one_flipped_byte_of_a_checkpoint_is_named(path: Path) -> None:
    """Anywhere: in the header, at which reading begins, and in the tensors; 200 seeded places."""
    run(stop_at=3, checkpoint=path, validate_every=2)
    content, rng = path.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    places = [
        *range(12),
        *rng.sample(range(header), 90),
        *rng.sample(range(header, len(content)), 98),
    ]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(flipped))
        with pytest.raises(ValueError, match=r"run\.safetensors is not a checkpoint .* Delete it"):
            load_checkpoint(path)
    path.write_bytes(content)
    assert load_checkpoint(path)[1]["step"] == 3


def test_a_checkpoint_is_tensors_and_json(tmp_path: Path) -> None:
    """Of any layout and type they come back as they were; no temporary file is left."""
    tensors = {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "none": torch.empty(0, 3),
        "one": torch.tensor(3.0),
        "layout": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }
    path = tmp_path / "deep" / "x.safetensors"
    save_checkpoint(path, tensors, {"a": [1, None, "é"]})
    loaded, meta = load_checkpoint(path)
    assert meta == {"a": [1, None, "é"]}
    torch.testing.assert_close(loaded, tensors, rtol=0, atol=0, check_stride=False)
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nothing")


def test_a_loss_that_is_no_number_stops_the_run(path: Path) -> None:
    """Naming task, step and tau, and without a checkpoint of the ruin."""
    network = start()
    with torch.no_grad():  # every branch's head of t1
        for head in network.heads:
            head.linear.weight[2:4] = torch.nan
    complaint = r"task 't1' is nan at step 1 \(tau 2\.5\)\. Lower `lr`"
    with pytest.raises(FloatingPointError, match=complaint):
        fit(network, DATA, CONFIG, checkpoint=path, record_every=5, checkpoint_every=1)
    assert not path.exists()  # though step 1 is not to be recorded
