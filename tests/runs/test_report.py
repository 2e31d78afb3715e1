"""What a report promises: the rule decides, what was not learned is said first, and the page holds
what was measured, whatever the tasks are called."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from small_runs import CONFIG, DATA, DENSE_CONFIG, PICTURES

from dmtg_lite import methods
from dmtg_lite.runs.report import MARGIN, Report

NAMES = ["rain", "snow", "price", "rent"]
FOUND, OTHER = [["rain", "snow"], ["price", "rent"]], [["rain", "price"], ["snow", "rent"]]
CONSTANT = {"rain": 50.0, "snow": 40.0, "price": 2000.0, "rent": 0.3}
METRICS = dict.fromkeys(NAMES[:2], "error_percent") | dict.fromkeys(NAMES[2:], "rmse")


def numbers(method: str, seed: int, share: float, groups: list | None = None) -> dict:
    """A run whose errors are all this share of the constant answers'."""
    return {
        "method": method,
        "config": {"seed": seed, "encoder": "mlp", "capacity": 1},
        "data": "mine",
        "note": "",
        "n_test": 100,
        "metrics": METRICS,
        "task_errors": {name: share * error for name, error in CONSTANT.items()},
        "constant_errors": CONSTANT,
        "task_losses": dict.fromkeys(CONSTANT, share),
        "constant_losses": dict.fromkeys(CONSTANT, 1.0),
        "groups": groups or FOUND,
        "agreement": None,
        "encoder_cost": 1.0,
        "elbow": None,
        "seconds": {"wall": 1.0, "cpu": 1.0},
    }


def runs(
    naive: float = 0.5, random: float = 0.5, dmtg: float = 0.4, scatter: float = 0.01, n: int = 5
) -> list[dict]:
    """Paired seeds: DMTG's shares scatter about their mean, its controls' do not."""
    noise = np.random.default_rng(0).normal(0, scatter, n)
    noise -= noise.mean()
    every = [numbers("naive", seed, naive, [NAMES]) for seed in range(n)]
    every += [numbers("random", seed, random, OTHER) for seed in range(n)]
    return every + [numbers("dmtg", seed, dmtg + own) for seed, own in enumerate(noise)]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "helps"),
        ({"random": 0.4}, "undecided"),  # no better than as many branches of any tasks
        ({"random": 0.4, "scatter": 0.001}, "does not help"),
        ({"random": 0.3}, "does not help"),
        ({"naive": 0.4}, "undecided"),
        ({"naive": 0.3}, "does not help"),
        ({"scatter": 0.3}, "undecided"),
        ({"dmtg": 0.5}, "undecided"),
        ({"dmtg": 0.5, "scatter": 0.0}, "does not help"),  # the very same numbers
        ({"n": 2}, "undecided"),
        ({"n": 3}, "undecided"),  # of four tasks three seeds may find the same two by luck
        ({"naive": 1.3, "random": 1.3, "dmtg": 1.2}, "undecided"),  # worse than looking at nothing
        ({"naive": 0.0, "random": 0.0, "dmtg": 0.0, "scatter": 0.0}, "does not help"),
    ],
)
def test_the_rule_decides(changes: dict, verdict: str) -> None:
    report = Report(runs(**changes))
    assert report.verdict == verdict, report.reasons
    assert report.reasons


def test_a_gain_by_hand() -> None:
    """Shares of 0.4 and 0.5 are a fifth less; the interval is Student's, as scipy has it."""
    report = Report(runs())
    gain = report.gain("naive")
    shares = [one["task_errors"]["rain"] / 50 for one in report.own]
    oracle = stats.ttest_1samp(100 * (0.5 - np.array(shares)) / 0.5, 0).confidence_interval(0.95)
    assert gain == pytest.approx((20.0, oracle.low, oracle.high, 5))
    # a class task counts by its error rate, a number by its share of the constant answer's error
    assert report.totals("naive")[0] == pytest.approx(0.5 * (0.5 + 0.4 + 1 + 1))
    assert "naive     50.0 +- 0.0" in str(report)


def test_where_an_encoder_for_each_task_is_better_groups_are_not_why() -> None:
    """Tasks of nothing in common gain by every branch more; STL beside them says so."""
    every = runs()
    alone = [[name] for name in NAMES]
    close = Report([*every, *(numbers("stl", seed, 0.39, alone) for seed in range(5))])
    better = Report([*every, *(numbers("stl", seed, 0.2, alone) for seed in range(5))])
    assert (close.verdict, better.verdict) == ("helps", "undecided")
    assert "(STL): -100.0 % (" in str(better)


def test_seeds_that_find_other_groups_each_time_decide_nothing() -> None:
    """The error falls, yet no grouping of the tasks comes back."""
    every = runs()
    thirds = [FOUND, OTHER, [["rain", "rent"], ["snow", "price"]]]
    for n, one in enumerate(one for one in every if one["method"] == "dmtg"):
        one["groups"] = thirds[n % 3]
    report = Report(every)
    assert report.gain("naive").low > 0
    assert report.chance > 0.1
    assert report.verdict == "undecided"


def test_groups_over_seeds() -> None:
    """Those most like all others, how often just these came, and which pairs are together."""
    every = runs()
    own = [one for one in every if one["method"] == "dmtg"]
    own[0]["groups"] = OTHER
    own[3]["groups"] = [["rent", "price"], ["snow", "rain"]]  # in another order
    report = Report(every)
    assert report.groups == FOUND
    assert report.n_same == 4
    np.testing.assert_allclose(report.together[0], [1, 0.8, 0.2, 0])  # rain, with rain snow price
    assert "exactly these in 4 of 5 seeds" in " ".join(str(report).split())


def test_what_was_not_learned_is_said_before_any_group() -> None:
    every = runs()
    for one in every:
        one["task_errors"]["snow"] = one["task_errors"]["rent"] = 2100.0
        one["task_losses"]["snow"] = 1.1  # of a rare class the loss alone may tell
    report = Report(every)
    assert report.unlearned == ["snow"]
    text = str(report)
    assert text.index("constant answer, over all seeds: snow.") < text.index("--- Groups found")


def test_a_task_without_a_constant_answer_is_measured_by_naive_mtl() -> None:
    """As pictures are: a score of 55 instead of 50 is a tenth better, and says so."""
    every = runs(n=3)
    for one in every:
        one["constant_errors"] = None
        one["metrics"] = {"rain": "miou"}
        one["task_errors"] = {"rain": 55.0 if one["method"] == "dmtg" else 50.0}
        one["groups"] = [["rain"]]
    assert Report(every).gain("naive").mean == pytest.approx(10.0)
    assert "55.0" in str(Report(every))


def test_one_run_says_how_to_decide() -> None:
    report = Report([numbers("dmtg", 0, 0.4)])
    assert report.verdict == "undecided"
    assert "experiments.report(data, n_groups=2, seeds=range(5))" in " ".join(str(report).split())
    assert "+-" not in str(report)
    assert "no method that looks for groups" in str(Report(runs()[:10]))


def test_failed_runs_stand_on_the_page() -> None:
    failed = {"method": "stl", "k": None, "seed": 0, "failed": "MemoryError: <too large>"}
    text = str(Report([*runs(), failed]))
    assert "!! A run failed. stl (seed 0): MemoryError: <too large>" in text
    with pytest.raises(ValueError, match="no finished run to report on: MemoryError"):
        Report([failed])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "yours"}, r"naive \(seed 0\) and dmtg \(seed 0\) differ in `data`"),
        ({"n_test": 7}, "differ in `n_test`"),
        ({"metrics": {"rain": "rmse"}}, "differ in `metrics`"),
        ({"constant_errors": {"rain": 3.0}}, "differ in `constant_errors`"),  # another split
        ({"method": "naive"}, "several of 'naive' with seed 0"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Report([numbers("naive", 0, 0.5), numbers("dmtg", 0, 0.4) | change])


class Tags(HTMLParser):
    """Elements of a page and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_escapes_and_the_text_is_ascii(tmp_path: Path) -> None:
    """A task may be called anything; what is ours a plain terminal can show."""
    evil = "<script>alert(1)</script>\n&"
    every = runs()
    for one in every:
        for field in ("metrics", "task_errors", "constant_errors"):
            one[field] = {(evil if name == "rain" else name): v for name, v in one[field].items()}
        one["groups"] = [[evil if n == "rain" else n for n in group] for group in one["groups"]]
        one["data"] = one["note"] = evil
    report = Report(every)
    assert str(report).isascii()
    assert max(map(len, str(report).splitlines())) <= 110
    for page in (report._repr_html_(), report.save(tmp_path / "r.html").read_text("utf-8")):
        tags = Tags(page)
        assert "script" not in tags.seen
        assert tags.text.count("<script>") >= 4
    assert "helps" in Tags(page).text
    assert report.save(tmp_path / "r.txt").read_text("utf-8") == f"{report}\n"
    with pytest.raises(ValueError, match=r"`path` must end in \.html or \.txt"):
        report.save(tmp_path / "r.pdf")


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e6, 1e30])
def test_a_number_is_told_in_three_digits_whatever_its_unit(scale: float) -> None:
    """Salaries and wavelengths: neither a row of noughts nor a row of digits."""
    every = runs()
    for one in every:
        for field in ("task_errors", "constant_errors"):
            one[field] = one[field] | {"rent": one[field]["rent"] * scale}
    report = Report(every)
    assert report.gain("naive").mean == pytest.approx(20.0)
    line = next(line for line in str(report).splitlines() if line.startswith("rent"))
    constant = re.split(r" {2,}", line)[3]
    assert float(constant) == pytest.approx(0.3 * scale, rel=0.01)
    assert len(constant) <= 9


def test_a_result_reports_on_itself_and_beside_others() -> None:
    """The numbers are its own; with its controls beside it, it is the study's report."""
    short = replace(CONFIG, steps=4, pretrain=2)
    result, naive = methods.dmtg(DATA, 2, short), methods.naive(DATA, 1, short)
    report = result.report()
    assert report.verdict == "undecided"
    assert report.groups == result.groups
    for name, error in result.task_errors.items():
        assert report.errors("dmtg", name).mean == error
    both = result.report(beside=[naive])
    assert both.methods == ["naive", "dmtg"]
    assert both.gain("naive").n_seeds == 1
    with pytest.raises(ValueError, match="differ in `metrics`"):
        result.report(beside=[methods.naive(DATA.select(["t0", "t1"]), 1, short)])


def test_the_margin_is_what_the_rule_says() -> None:
    assert f"{MARGIN:g} %" in str(Report(runs()))


def test_pictures_and_mixed_tasks_have_a_page_too() -> None:
    """Scores and errors without a constant answer; forty tasks, of one run each."""
    result = methods.naive(PICTURES, 1, replace(DENSE_CONFIG, steps=1))
    text = str(result.report(beside=[methods.dmtg(PICTURES, 2, replace(DENSE_CONFIG, steps=1))]))
    assert re.search(r"^depth +1 +aligned RMSE +- +\d", text, re.MULTILINE), text
    assert "error left" in text
    many = numbers("dmtg", 0, 0.4)
    names = [f"task {n}" for n in range(40)]
    for field, value in (("metrics", "error_percent"), ("task_errors", 9.0)):
        many[field] = dict.fromkeys(names, value)
    many |= {"constant_errors": dict.fromkeys(names, 40.0), "groups": [names[:25], names[25:]]}
    text = str(Report([many, many | {"config": many["config"] | {"seed": 1}}]))
    assert max(map(len, text.splitlines())) <= 100
    assert "Pairs" not in text


def test_one_run_needs_no_scipy_and_several_say_that_they_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert "VERDICT: undecided" in str(Report([numbers("dmtg", 0, 0.4)]))
    with pytest.raises(ImportError, match=r'need scipy: pip install "dmtg-lite\[data\]"'):
        str(Report(runs()))


def test_luck_is_rarely_taken_for_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Branches help, which ones does not matter, and the seeds agree: at most 2.5 % of verdicts."""
    monkeypatch.setattr("dmtg_lite.runs.report.compute_chance", lambda _: 0.0)
    rng, words = np.random.default_rng(0), []
    for _ in range(200):
        every = [numbers("naive", seed, 0.6, [NAMES]) for seed in range(5)]
        for name in ("random", "dmtg"):
            every += [numbers(name, seed, rng.normal(0.5, 0.05)) for seed in range(5)]
        words.append(Report(every).verdict)
    assert words.count("helps") <= 12  # 5 expected, standard deviation 2.2
    assert words.count("undecided") > 100


def test_the_page_says_what_a_wider_network_may_do() -> None:
    """Gains are measured at one capacity, and a reader must know which, and Naive MTL's."""

    def page(capacity: int) -> str:
        alone = numbers("naive", 0, 0.6)
        alone["config"] = alone["config"] | {"capacity": capacity}
        return " ".join(str(Report([numbers("dmtg", 0, 0.5), alone])).split())

    assert "of capacity 1, Naive MTL's too: one network that is wider may do as well" in page(1)
    assert "of capacity 1, Naive MTL's of 4, with room for all tasks" in page(4)
