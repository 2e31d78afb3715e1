"""What `reproduce` promises: the paper's numbers beside ours, told apart where they must not be
compared.

Toy tables run end to end with a few steps; differences are checked on finished runs written by
hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

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
from dmtg_lite.studies import cells
from dmtg_lite.studies.paper import (
    SPECS,
    Setting,
    render_text,
    reproduce_table,
    setting,
    write_reproduction,
)
from dmtg_lite.studies.paper.costs import Costs, count_costs
from dmtg_lite.studies.paper.measure import mark_groups, tabulate_numbers
from dmtg_lite.studies.paper.page import name_table, render_page
from dmtg_lite.studies.paper.plan import list_cells, plan_row
from dmtg_lite.studies.paper.specs import METHOD_OF, TAU_OF, load_paper

QUICK = ["--toy", "--quick", "--seeds", "1"]
SLOW = (
    "table1",
    "table2",
    "table4",
    "table5",
    "tableA2",
    "tableA4",
)  # 37 networks and more for a table
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
    """Screen, CSV and page each say that the numbers are not comparable, and none shows a difference."""
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


def test_toys_have_two_seeds_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two seeds have a spread; the ratio of CelebA-40 to CelebA-9 is one of means."""
    assert cli.main(["reproduce", "appendixD", "--toy", "--quick", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "over seeds 0, 1" in printed
    assert " ± " in printed
    csv = pandas.read_csv(tmp_path / "appendixD.csv")
    assert csv["seeds"].tolist() == [2, 2, 1]
    assert csv["paper"].tolist() == pytest.approx([1.7, 2.9, 2.9 / 1.7])
    assert csv["ours"][2] == pytest.approx(csv["ours"][1] / csv["ours"][0])


def test_the_command_line_offers_the_tables_there_are() -> None:
    """The same names in the same order, and a paper's table for each."""
    assert cli.TABLES == tuple(SPECS) == tuple(TABLES)
    assert [name_table(name) for name in ("table3", "tableA1", "figureA2", "appendixD")] == [
        "Table 3",
        "Table A1",
        "Figure A2",
        "Appendix D",
    ]


@pytest.mark.parametrize(
    ("table", "script"),
    [
        (name, "celeba" if "celeba" in SPECS[name].suite else "taskonomy")
        for name in SPECS
        if name != "tableA1"
    ],
)
def test_without_data_the_way_to_them_is_named(
    table: str, script: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One line with the script and --toy, exit code 2, no files; only the counts of Table A1 need no data."""
    assert cli.main(["reproduce", table, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
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
    own = make_celeba()
    assert "12 training images instead of 162,770" in Setting("there").doubts("celeba9", own)[0]


# ---------------------------------------------------------------------- numbers by hand

SEEDS = (0, 1)


def make_celeba() -> TaskData:
    """Twelve black images that call themselves CelebA-9."""
    targets = {task.name: torch.arange(12) % 2 for task in CELEBA_9}
    split = Split(torch.zeros(12, 3, 64, 64, dtype=torch.uint8), targets)
    return TaskData("celeba9", CELEBA_9, split, split, split)


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Finished runs of Table 3, and methods that must not be called.

    Naive MTL: an error of 8 on each task with seed 0, of 10 with seed 1. DMTG: 5.87 on each for
        K=2, so
    that the total is the paper's; half of Naive MTL's for K=3; 5.5 and 6.5 for K=4. The others:
    Naive MTL's.
    """
    own = make_celeba()
    monkeypatch.setattr(setting, "N_CELEBA", 12)
    monkeypatch.setattr(Setting, "_open_prepared", lambda self, suite: own)
    for name in METHODS:
        monkeypatch.setitem(
            cells.METHODS, name, lambda *_, **__: pytest.fail("a finished run was run again")
        )
    there, spec = Setting("there"), SPECS["table3"]
    planned = [plan_row(row, spec, there) for row in TABLES["table3"]["rows"]]
    for cell in list_cells(planned, spec, there, SEEDS):
        error = 8.0 + 2 * cell.seed
        if cell.method == "dmtg":
            error = {2: 52.97 / 9, 3: error / 2, 4: 5.5 + cell.seed}[cell.k]
        run = {
            "method": cell.method,
            "k": cell.k,
            "data": "celeba9",
            "config": asdict(cell.config),
            "metrics": {task.name: "error_percent" for task in CELEBA_9},
            "task_errors": {task.name: error for task in CELEBA_9},
            "task_losses": {task.name: error / 100 for task in CELEBA_9},
            "seconds": {"wall": 1800.0 * (1 + cell.seed), "cpu": 0.0},
            "groups": [[task.name for task in CELEBA_9]],
            "trained_groups": [[t.name for t in CELEBA_9]],
        }
        path = tmp_path / f"{cell.name(own.fingerprint())}.json"
        path.write_text(json.dumps(run))
    return tmp_path


def line(frame: pandas.DataFrame, method: str, k: int | None, quantity: str) -> pandas.Series:
    own = frame[(frame["method"] == method) & (frame["quantity"] == quantity)]
    return (own[own["groups"] == k] if k else own).iloc[0]


def test_differences_by_hand(by_hand: Path) -> None:
    """Mean, spread and difference; nothing is trained."""
    result = reproduce_table("table3", by_hand, setting=Setting("there"), seeds=SEEDS)
    assert result.is_comparable
    assert result.frame["comparable"].all()
    naive = line(result.frame, "Naive MTL", None, "total_error")
    assert naive["ours"] == pytest.approx((72 + 90) / 2)
    assert naive["spread"] == pytest.approx(18 / 2**0.5)
    assert naive["difference"] == pytest.approx(81 - 56.13)
    assert naive["mark"] == "worse"
    assert line(result.frame, "DMTG", 2, "total_error")["mark"] == "same"
    half = line(result.frame, "DMTG", 3, "total_error")
    assert half["difference"] == pytest.approx(40.5 - 53.67)
    assert half["mark"] == "better"
    near = line(
        result.frame, "DMTG", 4, "total_error"
    )  # 49.5 and 58.5: their spread holds the paper's 53.62
    assert (near["ours"], near["mark"]) == (pytest.approx(54.0), "within spread")
    gain = line(result.frame, "DMTG", 3, "norm_gain_error")  # against Naive MTL of the same seed
    assert (gain["ours"], gain["spread"]) == (pytest.approx(50.0), pytest.approx(0.0))
    assert gain["difference"] == pytest.approx(50 - 4.64)
    assert gain["mark"] == "better"
    assert line(result.frame, "TAG", 2, "norm_gain_error")["difference"] == pytest.approx(-4.38)
    assert line(result.frame, "TAG", 2, "norm_gain_error")["mark"] == "worse"


def test_text_and_page_show_the_differences(by_hand: Path, tmp_path: Path) -> None:
    """The same words in both; no banner where there is nothing to warn of."""
    result = reproduce_table("table3", by_hand, setting=Setting("there"), seeds=SEEDS)
    text, page = render_text(result), render_page(result)
    assert "NOT COMPARABLE" not in text + page
    assert text.splitlines()[2].split("  ")[-1].strip() == "difference"
    for words in ("-13.17 better", "40.50 ± 6.36", "0.00 same", "+24.87 worse"):
        assert words in text
        assert words in page
    assert "over seeds 0, 1" in text
    csv, html = write_reproduction(result, tmp_path / "new")
    assert (
        pandas.read_csv(csv)["difference"].notna().sum() == 14 + 13
    )  # Naive MTL gains nothing over itself
    assert html.read_text() == page


def test_table_a1_reads_hours_of_finished_runs(by_hand: Path) -> None:
    """Half an hour and an hour: a mean of 0.75; nothing for what has not been run."""
    frame = reproduce_table("tableA1", by_hand, setting=Setting("there")).frame
    hours = frame[(frame["quantity"] == "hours") & (frame["part"] == "DMTG")]
    assert hours["ours"].tolist()[:3] == [0.75] * 3
    assert hours["ours"][3:].isna().all()


def test_a_killed_reproduction_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at its fourth run and asked again, no run is done twice; another table uses them too."""
    ran: list[tuple] = []

    def counted(name: str):
        method = METHODS[name]

        def run(data, k, config: TrainConfig, **kwargs):
            if len(ran) == 3 and None not in ran:
                ran.append(None)
                raise KeyboardInterrupt
            ran.append((name, k, config.seed))
            return method(data, k, config, **kwargs)

        return run

    for name in ("naive", "stl", "random", "hoa", "tag", "dmtg"):
        monkeypatch.setitem(cells.METHODS, name, counted(name))
    toy = Setting(is_toy=True, is_quick=True)
    with pytest.raises(KeyboardInterrupt):
        reproduce_table("table3", tmp_path, setting=toy)
    assert len(list(tmp_path.glob("*.json"))) == 3
    first = reproduce_table("table3", tmp_path, setting=toy)
    done = [entry for entry in ran if entry]
    assert len(done) == len(set(done)) == 2 + 3 * 4
    pandas.testing.assert_frame_equal(
        first.frame, reproduce_table("table3", tmp_path, setting=toy).frame
    )
    reproduce_table("tableA5", tmp_path, setting=toy)  # the groups of the same runs
    assert len([entry for entry in ran if entry]) == 14


# ---------------------------------------------------------------------- counts


def test_table_a1_counts_what_the_paper_prints_on_celeba() -> None:
    """0.15, 0.22 and 0.29 GMACs with one shared stage; TAG and HOA to the few percent that are left."""
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
    """Stem 1, branch 10, heads 4 of N=4 tasks: six pairs of two heads, K encoders with a head a task."""
    costs = Costs(4, stem=1, branch=10, heads=4)
    assert costs.naive == 15
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
    rows = reproduce_table(
        "table6", out / "cells", setting=Setting(is_toy=True, is_quick=True)
    ).frame
    gmacs = rows[rows["quantity"] == "gmacs"]["ours"].tolist()
    assert all(more > less for more, less in pairwise(gmacs))


# ---------------------------------------------------------------------- rows, groups, and what is
# not there


def test_every_row_of_the_paper_has_its_run() -> None:
    """The paper's methods, temperatures and shared blocks become methods, K and configs of ours."""
    there = Setting("there")
    row = plan_row({"groups": 4, "method": "Retrain from scratch"}, SPECS["table4"], there)
    assert (row.method, row.k, row.suite, row.config) == (
        "two_shot",
        4,
        "taskonomy5",
        PAPER["taskonomy5"],
    )
    row = plan_row({"groups": None, "method": "STL"}, SPECS["table5"], there)
    assert (row.method, row.k, row.config.encoder) == ("stl", None, "vit_base")
    row = plan_row(TABLES["table6"]["rows"][3], SPECS["table6"], there)
    assert (row.method, row.k, row.config.shared) == ("dmtg", 3, 9)
    assert row.known["gmacs"] == pytest.approx(24.74, abs=0.01)
    row = plan_row(TABLES["tableA3"]["rows"][3], SPECS["tableA3"], there)
    assert (row.k, row.config.tau) == (5, (10.0, 0.01))
    assert {row["strategy"] for row in TABLES["tableA3"]["rows"]} == set(TAU_OF)
    labels = {
        row["method"] for table in TABLES.values() for row in table["rows"] if "method" in row
    }
    assert labels == set(METHOD_OF)


def test_shared_six_is_the_run_of_table_1() -> None:
    """Tables ask for the same cell where they mean the same run."""
    there = Setting("there")
    of_table_6 = plan_row(TABLES["table6"]["rows"][2], SPECS["table6"], there).cell(0)
    of_table_1 = plan_row({"groups": 3, "method": "DMTG"}, SPECS["table1"], there).cell(0)
    assert of_table_6 == of_table_1


def test_marks_by_hand() -> None:
    """b and c are in two groups; the first serves b, the second c; the third group serves nobody."""
    marks = mark_groups([["a", "b", "c"], ["b", "c"], ["a"]], [["a", "b"], ["c"]])
    assert marks == [{"a": "■", "b": "■", "c": "□"}, {"b": "□", "c": "■"}, {"a": "□"}]
    marks = mark_groups(
        [["a", "b"], ["b", "c"]], [["b", "c"]]
    )  # of a group that serves nobody, all is hollow
    assert marks == [{"a": "□", "b": "□"}, {"b": "■", "c": "■"}]


def test_inferred_groups_fit_the_printed_marks() -> None:
    """A task is in as many inferred groups as its cell of Table A4 holds marks, where any survive."""
    for row in TABLES["tableA4"]["rows"]:
        for task, marks in row["marks"].items():
            assert marks.count("■") == (1 if marks else 0)
            if marks and row["inferred_groups"]:
                assert sum(task in group for group in row["inferred_groups"]) == len(marks)


def test_methods_that_are_missing_or_failed_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row without a run keeps the paper's number and says why ours is not there."""
    spec, toy = SPECS["table1"], Setting(is_toy=True)
    failing = plan_row({"groups": 3, "method": "DMTG", "total_loss": 0.173}, spec, toy)
    monkeypatch.delitem(cells.METHODS, "mtg_net")
    missing = plan_row({"groups": 3, "method": "MTG-Net", "total_loss": 0.191}, spec, toy)
    results = {failing.cell(0): {"method": "dmtg", "k": 3, "seed": 0, "failed": "ValueError: no"}}
    rows = tabulate_numbers([missing, failing], spec, results, [0])
    assert [row["note"] for row in rows] == ["not available"] * 2 + ["failed"] * 2
    assert rows[0]["paper"] == 0.191
    assert all(row["ours"] != row["ours"] for row in rows)  # nan


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match=r"`table` must be one of \('table1', "):
        reproduce_table("table7", tmp_path, setting=Setting(is_toy=True))
