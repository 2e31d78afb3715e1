"""`dmtg-lite bench`: the same step twice, measured; a table that leaves out what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dmtg_lite.bench import run as module
from dmtg_lite.bench.cases import CASES, compare_losses, make_data, make_steps
from dmtg_lite.bench.measure import count_kernels, estimate_memory
from dmtg_lite.bench.run import run_bench
from dmtg_lite.cli import main

CPU = torch.device("cpu")
RATES = {"conv": 50.0, "matmul": 60.0}
SLOW = ("celeba40_k5", "taskonomy5_k3")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds is made up: rates of the machine, memory of other processes."""
    monkeypatch.setattr(module, "measure_rates", lambda *_: dict(RATES))
    monkeypatch.setattr(module, "measure_memory", lambda *_: 42.0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]
)
def test_both_formulations_are_the_same_step(name: str) -> None:
    """Same weights, pictures and noise: the same loss, but for the order of additions."""
    case = CASES[name].settle(CPU, is_quick=True)
    assert compare_losses(replace(case, side=32)) < 1e-5


def test_losses_stay_together_for_some_steps() -> None:
    """Gradients and optimisers are the same too; the toy's rate of S is its own, so not S."""
    case = CASES["toy"]
    case = replace(case, config=replace(case.config, lr_assignment=None))
    data = make_data(case, 16)
    case = replace(case, config=replace(case.config, batch_size=16))
    runs = [make_steps(case, name, data) for name in ("plain", "ours")]
    for _ in range(5):
        plain, ours = (float(next(each)) for each in runs)
        assert ours == pytest.approx(plain, rel=1e-4)


def test_host_waits_are_counted() -> None:
    """One a head, one for the check and one for the loss; none of ours."""
    plain, ours = (count_kernels(CASES["toy"], name) for name in ("plain", "ours"))
    assert (plain["waits"], ours["waits"]) == (9 * 3 + 2, 0)
    assert ours["kernels"] < plain["kernels"] / 4


def test_memory_grows_with_the_batch() -> None:
    case = CASES["toy"]
    sizes = [
        estimate_memory(replace(case, config=replace(case.config, batch_size=size)))
        for size in (4, 8, 16)
    ]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), abs=2)
    assert sizes[1] > sizes[0] > 0


@pytest.mark.usefixtures("quick")
def test_a_row_says_what_was_measured() -> None:
    """Beside the plain one in the same run; all of it goes into JSON, machine and versions too."""
    said: list[str] = []
    found = json.loads(
        json.dumps(run_bench(["toy"], device=CPU, is_quick=True, n_rounds=1, say=said.append))
    )
    assert {"torch", "device", "threads", "date", "cpu"} <= set(found["machine"])
    rows = {row["variant"]: row for row in found["rows"]}
    assert list(rows) == ["plain", "ours", "ours bfloat16"]
    for row in rows.values():
        assert row["images_per_second"] == pytest.approx(64_000 / row["ms"])
        assert row["share_of_rate"] > 0
        assert row["peak_mib"] == 42.0
    assert rows["plain"]["speed"] == 1.0
    assert "x plain" in "\n".join(said)


@pytest.mark.usefixtures("quick")
def test_a_row_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it needs and what there is; no step is taken."""
    monkeypatch.setattr(module, "measure_free_memory", lambda _: 1000)
    said: list[str] = []
    found = run_bench(["toy"], device=CPU, is_quick=True, say=said.append)
    assert found["rows"] == []
    assert "left out, needs about 0.0 GiB, 0.0 GiB are free" in said[-1]


@pytest.mark.usefixtures("quick")
def test_bfloat16_is_left_out_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"float32": RATES, "bfloat16": {"conv": 1.0, "matmul": 1.0}}
    assert module._choose_variants(CPU, slow) == ["plain", "ours"]
    fast = dict.fromkeys(("float32", "bfloat16"), RATES)
    assert module._choose_variants(torch.device("cuda:0"), fast)[-1] == "ours graph"


@pytest.mark.slow
def test_the_command_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With processes of its own for memory."""
    out = tmp_path / "bench.json"
    command = ["bench", "--quick", "--rounds", "1", "--only", "toy", "--device", "cpu"]
    assert main([*command, "--threads", "1", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert all(row["peak_mib"] > 0 for row in rows)
    assert "losses differ by" in capsys.readouterr().out
