"""What `reproduce` promises: the paper's numbers beside ours, told apart where they must not be
compared. Toy tables run end to end with a few steps; differences are checked on runs by hand.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import torch

from dmtg_lite import cli
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.tasks import CELEBA_9, TASKONOMY_5
from dmtg_lite.data.celeba.prepare import prepare_celeba
from dmtg_lite.data.stand_ins.celeba_files import make_fake_celeba
from dmtg_lite.encoders import build_encoder
from dmtg_lite.methods import METHODS
from dmtg_lite.runs.presets import PAPER
from dmtg_lite.studies.paper import (
    SPECS,
    Setting,
    render_text,
    reproduce_table,
    runs,
    write_reproduction,
)
from dmtg_lite.studies.paper.costs import Costs, count_costs
from dmtg_lite.studies.paper.measure import mark_groups, tabulate_numbers
from dmtg_lite.studies.paper.page import name_table, render_page
from dmtg_lite.studies.paper.runs import plan_row
from dmtg_lite.studies.paper.specs import METHOD_OF, TAU_OF, load_paper

QUICK = ["--toy", "--quick", "--seeds", "1"]
pytestmark = pytest.mark.usefixtures("quick_learners")
SLOW = ("table1", "table2", "table4", "table5", "tableA2", "tableA4")  # 37 networks and more
TABLES = load_paper()["tables"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tables, so that they share runs as a user's do."""
    return tmp_path_factory.mktemp("reproduced")


# ---------------------------------------------------------------------- every table, end to end


@pytest.mark.parametrize(
    "table", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SPECS]
)
def test_every_table_is_made_on_toys_and_says_so(
    table: str, out: Path, capsys: pytest.CaptureFixture
) -> None:
    """Screen, CSV and page each say that the numbers are not comparable; none has a difference."""
    assert cli.main(["reproduce", table, *QUICK, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "!! NOT COMPARABLE with the paper's numbers" in printed
    assert "difference" not in printed
    assert "failed" not in printed
    csv = pandas.read_csv(out / f"{table}.csv")
    assert csv.columns[0] == "comparable"
    assert not csv["comparable"].any()
    if "difference" in csv:
        assert csv["difference"].isna().all()
        in_runs = ~csv["quantity"].isin(["hours"] if SPECS[table].kind == "costs" else [])
        assert (csv["seeds"][in_runs] == 1).all()
    page = (out / f"{table}.html").read_text()
    assert "NOT COMPARABLE" in page
    before, _, rest = page.partition("<script>")
    own = before + rest.partition("</script>")[2]  # all but plotly's code
    assert "<h1>" in own
    assert "src=" not in own  # nothing is fetched
    assert "href=" not in own
    assert own.count('class="plotly-graph-div"') >= 1


def test_toys_have_two_seeds_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two seeds have a spread; the ratio of CelebA-40 to CelebA-9, in its column, is of means."""
    assert cli.main(["reproduce", "appendixD", "--toy", "--quick", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "over seeds 0, 1" in printed
    assert " ± " in printed
    ratio = next(line for line in printed.splitlines() if "celeba40 / celeba9" in line)
    assert ratio.split()[-4:-1] == ["-", "-", "(1.71)"]
    csv = pandas.read_csv(tmp_path / "appendixD.csv")
    assert csv["seeds"].tolist() == [2, 2, 1]
    assert csv["paper"].tolist() == pytest.approx([1.7, 2.9, 2.9 / 1.7])
    assert csv["ours"][2] == pytest.approx(csv["ours"][1] / csv["ours"][0])


def test_there_is_a_table_of_the_paper_for_each_name() -> None:
    assert tuple(SPECS) == tuple(TABLES)
    names = [name_table(name) for name in ("table3", "tableA1", "figureA2", "appendixD")]
    assert names == ["Table 3", "Table A1", "Figure A2", "Appendix D"]


@pytest.mark.parametrize("table", [name for name in SPECS if name != "tableA1"])
def test_without_data_the_way_to_them_is_named(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One line with the script and --toy, exit code 2, no files; Table A1 alone needs no data."""
    assert cli.main(["reproduce", table, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    script = "celeba" if "celeba" in SPECS[table].suite else "taskonomy"
    assert f"data_scripts/prepare_{script}.py" in line
    assert "--toy" in line
    assert not (tmp_path / "out").exists()


def test_drawn_faces_in_official_files_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The whole path of CelebA, and a page that still says: these are no photographs."""
    make_fake_celeba(tmp_path / "files", n=60)
    prepare_celeba(tmp_path / "files", tmp_path / "prepared", attributes=40)
    command = ["reproduce", "figureA2", "--quick", "--data", str(tmp_path / "prepared")]
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "not the paper's data (Fake CelebA" in printed
    assert "of 40 tasks gain" in printed
    assert not pandas.read_csv(tmp_path / "out" / "figureA2.csv")["comparable"].any()


def test_a_part_of_celeba_is_not_compared() -> None:
    """As many training images as the official split has, or the banner says how many."""
    doubts = Setting("there").doubts("celeba9", make_celeba())
    assert "12 training images instead of 162,770" in doubts[0]


# ---------------------------------------------------------------------- numbers by hand

SEEDS = (0, 1)


def make_celeba() -> TaskData:
    """Twelve black images that call themselves CelebA-9."""
    targets = {task.name: torch.arange(12) % 2 for task in CELEBA_9}
    split = Split(torch.zeros(12, 3, 64, 64, dtype=torch.uint8), targets)
    return TaskData("celeba9", CELEBA_9, split, split, split)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Methods that train nothing and note that they were called: (method, K, seed).

    Naive MTL: an error of 8 on each task with seed 0, of 10 with seed 1. DMTG: 5.87 on each for
    K=2, so that the total is the paper's; half of Naive MTL's for K=3; 5.5 and 6.5 for K=4. The
    others: Naive MTL's.
    """
    own, ran, names = make_celeba(), [], [task.name for task in CELEBA_9]
    monkeypatch.setattr(runs, "N_CELEBA", 12)
    monkeypatch.setattr(runs, "open_suite", lambda *_, **__: own)

    def train(method: str, k: int, config: TrainConfig) -> SimpleNamespace:
        ran.append((method, k, config.seed))
        error = 8.0 + 2 * config.seed
        if method == "dmtg":
            error = {2: 52.97 / 9, 3: error / 2, 4: 5.5 + config.seed}[k]
        numbers = {
            "method": method, "data": "celeba9", "config": asdict(config), "groups": [names],
            "metrics": dict.fromkeys(names, "error_percent"), "trained_groups": [names],
            "task_errors": dict.fromkeys(names, error),
            "task_losses": dict.fromkeys(names, error / 100),
            "seconds": {"wall": 1800.0 * (1 + config.seed), "cpu": 0.0},
            "note": "", "n_test": 12, "train_loss": 1.0, "encoder_macs": 1, "encoder_cost": 1.0,
            "encoder_passes": 1.0, "agreement": None, "restarts": [], "closings": [], "elbow": None,
            "final_probabilities": [[1.0]] * len(names),
        }  # fmt: skip
        return SimpleNamespace(to_json=lambda: numbers)

    for name, method in METHODS.items():
        fake = replace(method, train=lambda _, k, config, saving, name=name: train(name, k, config))
        monkeypatch.setitem(METHODS, name, fake)
    return ran


def line(frame: pandas.DataFrame, method: str, k: int | None, quantity: str) -> pandas.Series:
    own = frame[(frame["method"] == method) & (frame["quantity"] == quantity)]
    return (own[own["groups"] == k] if k else own).iloc[0]


@pytest.mark.usefixtures("by_hand")
def test_differences_by_hand(tmp_path: Path) -> None:
    """Mean, spread, difference and what it is called."""
    result = reproduce_table("table3", tmp_path, setting=Setting("there"), seeds=SEEDS)
    assert result.is_comparable
    assert result.frame["comparable"].all()
    naive = line(result.frame, "Naive MTL", None, "total_error")
    assert naive["ours"] == pytest.approx((72 + 90) / 2)
    assert naive["spread"] == pytest.approx(18 / 2**0.5)
    assert naive["difference"] == pytest.approx(81 - 56.13)
    half = line(result.frame, "DMTG", 3, "total_error")
    assert half["difference"] == pytest.approx(40.5 - 53.67)
    near = line(result.frame, "DMTG", 4, "total_error")
    assert near["ours"] == pytest.approx(54.0)  # 49.5 and 58.5: their spread holds 53.62
    same = line(result.frame, "DMTG", 2, "total_error")
    gain = line(result.frame, "DMTG", 3, "norm_gain_error")  # against Naive MTL of the same seed
    assert (gain["ours"], gain["spread"]) == (pytest.approx(50.0), pytest.approx(0.0))
    assert gain["difference"] == pytest.approx(50 - 4.64)
    loss = line(result.frame, "TAG", 2, "norm_gain_error")
    assert loss["difference"] == pytest.approx(-4.38)
    marks = [row["mark"] for row in (naive, half, near, same, gain, loss)]
    assert marks == ["worse", "better", "within spread", "same", "better", "worse"]


@pytest.mark.usefixtures("by_hand")
def test_text_and_page_show_the_differences(tmp_path: Path) -> None:
    """The same words in both; no banner where there is nothing to warn of."""
    result = reproduce_table("table3", tmp_path, setting=Setting("there"), seeds=SEEDS)
    text, page = render_text(result), render_page(result)
    assert "NOT COMPARABLE" not in text + page
    assert text.splitlines()[2].split("  ")[-1].strip() == "difference"
    for words in ("-13.17 better", "40.50 ± 6.36", "0.00 same", "+24.87 worse"):
        assert words in text
        assert words in page
    assert "over seeds 0, 1" in text
    csv, html = write_reproduction(result, tmp_path / "new")
    differences = pandas.read_csv(csv)["difference"]
    assert differences.notna().sum() == 14 + 13  # Naive MTL gains nothing over itself
    assert html.read_text() == page


@pytest.mark.usefixtures("by_hand")
def test_table_a1_reads_hours_of_finished_runs(tmp_path: Path) -> None:
    """Half an hour and an hour: a mean of 0.75; nothing for what has not been run."""
    reproduce_table("table3", tmp_path, setting=Setting("there"), seeds=SEEDS)
    frame = reproduce_table("tableA1", tmp_path, setting=Setting("there")).frame
    hours = frame[(frame["quantity"] == "hours") & (frame["part"] == "DMTG")]
    assert hours["ours"].tolist()[:3] == [0.75] * 3
    assert hours["ours"][3:].isna().all()


def test_a_killed_reproduction_continues(
    by_hand: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at its fourth run and asked again, no run is done twice, by no table."""
    whole = METHODS["random"]

    def interrupt(*arguments, **options):
        monkeypatch.setitem(METHODS, "random", whole)
        raise KeyboardInterrupt

    monkeypatch.setitem(METHODS, "random", replace(whole, train=interrupt))
    ask = {"folder": tmp_path, "setting": Setting("there")}
    with pytest.raises(KeyboardInterrupt):
        reproduce_table("table3", **ask)
    n_done = len(list(tmp_path.glob("*.json")))
    assert n_done == len(by_hand) == 2
    first = reproduce_table("table3", **ask)
    again = reproduce_table("table3", **ask)
    pandas.testing.assert_frame_equal(first.frame, again.frame)
    reproduce_table("tableA5", **ask)  # the groups of the same runs
    assert len(by_hand) == len(set(by_hand)) == 2 + 3 * 4


# ---------------------------------------------------------------------- counts


def test_table_a1_counts_what_the_paper_prints_on_celeba() -> None:
    """0.15, 0.22, 0.29 GMACs with one shared stage; TAG and HOA to the few percent left."""
    frame = reproduce_table("tableA1", "nowhere", setting=Setting()).frame
    assert frame["comparable"].all()
    rows = frame[frame["method"] == "celeba9, resnet"]
    dmtg = rows[(rows["part"] == "DMTG") & (rows["quantity"] == "gmacs")]
    assert dmtg["ours"].round(2).tolist() == dmtg["paper"].tolist() == [0.15, 0.22, 0.29]
    for method, by_hand in (("TAG", [0.234, 0.312, 0.390]), ("HOA", [2.96, 3.04, 3.12])):
        own = rows[(rows["part"] == method) & (rows["quantity"] == "gmacs")]
        assert own["ours"].tolist() == pytest.approx(by_hand, rel=2e-3)
        assert own["ours"].tolist() == pytest.approx(own["paper"].tolist(), rel=0.03)
    assert rows[rows["part"] == "heads"]["ours"].tolist() == pytest.approx([0.33] * 3, abs=0.005)


def test_costs_by_hand() -> None:
    """Stem 1, branch 10, heads 4, N=4: six pairs of two heads, K encoders with a head a task."""
    costs = Costs(4, stem=1, branch=10, heads=4)
    assert costs.dmtg(3) == 1 + 3 * 14
    assert costs.tag(3) == 15 + 3 * 11 + 4
    assert costs.hoa(3) == 6 * (11 + 2) + 3 * 11 + 4


@pytest.mark.parametrize("n_groups", [1, 3])
def test_counted_costs_are_those_of_the_network(n_groups: int) -> None:
    """Oracle: a network with K branches, counted as a whole."""
    config, shape = TrainConfig(encoder="xception_small", shared=2), (3, 32, 32)
    encoder = build_encoder("xception_small", shape, capacity=1)
    network = GroupedNetwork.naive(TASKONOMY_5, encoder, shared=2).branch_out(n_groups)
    counted = count_costs(TASKONOMY_5, shape, config).dmtg(n_groups)
    assert counted == count_macs(network, shape)["total"]


def test_more_sharing_costs_less(out: Path) -> None:
    """Table 6: stages shared by all groups are computed once."""
    toy = Setting(is_toy=True, is_quick=True)
    rows = reproduce_table("table6", out / "cells", setting=toy).frame
    gmacs = rows[rows["quantity"] == "gmacs"]["ours"].tolist()
    assert all(more > less for more, less in pairwise(gmacs))


# ---------------------------------------------------------------------- rows and groups


def test_every_row_of_the_paper_has_its_run() -> None:
    """The paper's methods, temperatures and shared blocks become methods, K and configs of ours."""

    def plan(table: str, paper: dict) -> tuple:
        row = plan_row(paper, SPECS[table], Setting("there"))
        return row, row.cell.method, row.cell.k, row.cell.config

    row, *rest = plan("table4", {"groups": 4, "method": "Retrain from scratch"})
    assert (row.cell.data, *rest) == ("taskonomy5", "two_shot", 4, PAPER["taskonomy5"])
    _, method, k, config = plan("table5", {"groups": None, "method": "STL"})
    assert (method, k, config.encoder) == ("stl", None, "vit_base")
    row, method, k, config = plan("table6", TABLES["table6"]["rows"][3])
    assert (method, k, config.shared) == ("dmtg", 3, 9)
    assert row.known["gmacs"] == pytest.approx(24.74, abs=0.01)
    _, _, k, config = plan("tableA3", TABLES["tableA3"]["rows"][3])
    assert (k, config.tau) == (5, (10.0, 0.01))
    assert {row["strategy"] for row in TABLES["tableA3"]["rows"]} == set(TAU_OF)
    rows = [row for table in TABLES.values() for row in table["rows"]]
    assert {row["method"] for row in rows if "method" in row} <= set(METHOD_OF)


def test_shared_six_is_the_run_of_table_1() -> None:
    """Tables ask for the same cell where they mean the same run."""
    there = Setting("there")
    of_table_6 = plan_row(TABLES["table6"]["rows"][2], SPECS["table6"], there).at(0)
    of_table_1 = plan_row({"groups": 3, "method": "DMTG"}, SPECS["table1"], there).at(0)
    assert of_table_6 == of_table_1


def test_marks_by_hand() -> None:
    """b and c are in two groups; the first serves b, the second c; the third serves nobody."""
    marks = mark_groups([["a", "b", "c"], ["b", "c"], ["a"]], [["a", "b"], ["c"]])
    assert marks == [{"a": "■", "b": "■", "c": "□"}, {"b": "□", "c": "■"}, {"a": "□"}]
    # of a group that serves nobody, all is hollow
    marks = mark_groups([["a", "b"], ["b", "c"]], [["b", "c"]])
    assert marks == [{"a": "□", "b": "□"}, {"b": "■", "c": "■"}]


def test_inferred_groups_fit_the_printed_marks() -> None:
    """A task is in as many inferred groups as its cell holds marks, where any survive."""
    for row in TABLES["tableA4"]["rows"]:
        for task, marks in row["marks"].items():
            assert marks.count("■") == (1 if marks else 0)
            if marks and row["inferred_groups"]:
                assert sum(task in group for group in row["inferred_groups"]) == len(marks)


def test_a_method_that_failed_says_so() -> None:
    """A row without a run keeps the paper's number and says why ours is not there."""
    spec = SPECS["table1"]
    row = plan_row({"groups": 3, "method": "DMTG", "total_loss": 0.173}, spec, Setting(is_toy=True))
    results = {row.at(0): {"method": "dmtg", "k": 3, "seed": 0, "failed": "ValueError: no"}}
    lines = tabulate_numbers([row], spec, results)
    assert [line["note"] for line in lines] == ["failed"] * 2
    assert lines[0]["paper"] == 0.173
    assert all(line["ours"] != line["ours"] for line in lines)  # nan


def test_a_table_without_its_reference_is_refused(
    by_hand: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every gain would be missing; the message says which run failed and why."""

    def fail(*_, **__):
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setitem(METHODS, "naive", replace(METHODS["naive"], train=fail))
    with pytest.raises(ValueError, match="naive, K=None, seed 0 failed: FloatingPointError: the"):
        reproduce_table("table3", tmp_path, setting=Setting("there"))


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match=r"`table` must be one of \('table1', "):
        reproduce_table("table7", tmp_path, setting=Setting(is_toy=True))
