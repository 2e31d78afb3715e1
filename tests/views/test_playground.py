"""What the playground promises, without a browser: settings, lines, links, presets, two runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_scripts import make_what_if
from dmtg_lite import TaskData, TrainConfig, data, experiments
from dmtg_lite.views.playground import CONTROLS, OWN, PRESETS, RUNS, SUITES, Settings
from dmtg_lite.views.playground_text import _KEYS, _RECIPES, from_line, from_link, to_line, to_link
from dmtg_lite.views.widgets.playground import Playground

FACES = data.toy_faces(n_tasks=4, n_groups=2, size=16, n_train=100, n_val=20, n_test=20)
QUICK = TrainConfig(encoder="toy", lr=3e-3, pretrain=4, steps=20, batch_size=16)
FREE = {c.name: [value for value, _ in c.choices] for c in CONTROLS if c.choices}


@st.composite
def any_settings(draw: st.DrawFn, names: tuple[str, ...] = (*SUITES, OWN)) -> Settings:
    """Whatever the form lets one choose."""
    name = draw(st.sampled_from(names))
    values = {key: draw(st.sampled_from(known)) for key, known in FREE.items() if key != "data"}
    if name in ("digits", "rooms", OWN):
        values.pop("label_noise")
    values |= {"data": name, "seed": draw(st.integers(0, 999))}
    return Settings().change(values, FACES)


@settings(max_examples=30, deadline=None)
@given(any_settings())
def test_settings_come_back_from_their_line(one: Settings) -> None:
    """Every control, also of a reader's own data, and nothing else has changed."""
    assert from_line(to_line(one, FACES), Settings(), FACES) == one


@settings(max_examples=30, deadline=None)
@given(any_settings())
def test_the_form_says_all_that_can_be_chosen(one: Settings) -> None:
    """What it shows is what was chosen; chosen again, nothing changes."""
    assert one.change(one.form, FACES) == one
    assert [*one.form] == [control.name for control in CONTROLS]


def test_the_line_is_the_run() -> None:
    """As it stands in the what-if page's recipe, with the loss of one task a hundred times."""
    one = Settings().change({"weight": 100.0, "seed": 3, "label_noise": 0.3, "tau_end": 0.25})
    assert to_line(one) == (
        "methods.dmtg(data.toy_faces(size=16, label_noise=0.3, seed=3).weigh({'dark_hair': 100.0})"
        ", n_groups=3, config=TrainConfig(tau=(2.5, 0.25), lr=0.003, lr_assignment=6.0, "
        "optimiser_assignment='sgd', steps=900, pretrain=100, spare=Spare(branches='double'), "
        "heads=HeadOptions(train_all=True), encoder='toy', seed=3))"
    )
    assert one.open().tasks[0].weight == 100


@pytest.mark.parametrize("name", [name for name in SUITES if name not in ("rooms", "digits")])
def test_the_task_that_weighs_is_the_first_one(name: str) -> None:
    """Its name stands in the line before any data is drawn."""
    few = {"n_train": 40, "n_val": 20, "n_test": 20}
    suite = SUITES[name]
    drawn = getattr(data, suite.call)(**suite.arguments | few)
    assert drawn.task_names[0] == suite.first_task


def test_a_line_of_a_live_view_keeps_the_data() -> None:
    """It calls them ``data``; a comment with turned knobs is passed over."""
    before = Settings().change({"data": "digits"})
    line = f"methods.dmtg(data, n_groups=2, config={QUICK})  # tau turned to 4 at step 7"
    assert from_line(line, before) == replace(before, n_groups=2, config=QUICK)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("print(1)", "no line of a run: methods.dmtg"),
        ("methods.dmtg(", "no line of a run"),
        ("methods.hoa(data.digits(), 3)", "no line of a run"),
        ("methods.dmtg(data.toy_faces(n_tasks=12), 3)", "has no data .*n_tasks=12.*; it has data"),
        ("methods.dmtg(data.digits(), 3, config=open('x'))", r"open\('x'\) is no setting"),
        ("methods.dmtg(data.digits(), 3, config=TrainConfig(taus=3))", "taus=3. is no setting"),
        ("methods.dmtg(data.digits(), 3, config=TrainConfig(tau=-1))", "`tau` must be"),
        ("methods.dmtg(data.digits(), 3, config=3)", "`config` must be TrainConfig"),
        ("methods.dmtg(data.digits(), k, config=TrainConfig())", "k is no plain value"),
        ("methods.dmtg(data.digits(), 3, saving=3)", "has no 'saving'"),
        ("methods.dmtg(data.digits(), 0, config=TrainConfig())", "`n_groups` must be"),
        ("methods.dmtg(data.digits().weigh({'even': 9}), 3)", "weighs 'at_least_5' only"),
        ("methods.dmtg(data.digits(seed=3), 3, config=TrainConfig())", "one seed for both"),
    ],
)
def test_another_line_is_refused(line: str, complaint: str) -> None:
    """The message says what in it; nothing in it is run."""
    with pytest.raises(ValueError, match=complaint):
        from_line(line, Settings())


LINKED = st.builds(
    "k={}&tau={}&rate={}&spare={}&data={}&seed={}".format,
    st.integers(1, 6),
    st.sampled_from(("0.25", "0.5", "1", "2.5", "10")),
    st.sampled_from(("0.1", "0.3", "1", "3", "10")),
    st.sampled_from(("none", "double")),
    st.sampled_from(("faces", "digits")),
    st.integers(0, 20),
)


@settings(max_examples=30, deadline=None)
@given(LINKED, LINKED)
def test_settings_come_back_from_their_link(a: str, b: str) -> None:
    """Two settings of the what-if page: it lacks none of them, and both come back."""
    both = from_link(f"what_if.html#{a}&" + "&".join(f"b.{part}" for part in b.split("&")))
    link, lacking = to_link(both)
    assert lacking == []
    assert from_link(link) == both


def test_what_is_missing_in_a_link_is_the_default_and_b_is_like_a() -> None:
    """The page's own example: K too small beside K right, all else as the recipe."""
    found = from_link("https://example.org/what_if.html#k=2&spare=double&b.k=3&at=400")
    usual = Settings(config=experiments.TOY["faces"])
    assert found == {"A": replace(usual, n_groups=2), "B": usual}
    assert from_link("#k=3") == {"A": Settings(config=replace(TOY_PLAIN, lr_assignment=0.03))}


TOY_PLAIN = experiments.TOY["faces_plain"]


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("what_if.html", "no link to what_if.html"),
        ("what_if.html#", "no link to what_if.html"),
        ("#k=7", "says k=7, and k is one of 3, 1, 2, 4, 5, 6"),
        ("#b.tau=3", "says b.tau=3, and tau is one of 2.5"),
        ("#seed=-1", "seed=-1, and seed is one of a whole number"),
        ("#kk=3", "a key 'kk'; what_if.html knows data, k, tau"),
        ("#b.b.k=3", "a key 'b.b.k'"),
    ],
)
def test_a_bad_link_is_refused_by_name(link: str, complaint: str) -> None:
    """Of key and value."""
    with pytest.raises(ValueError, match=complaint):
        from_link(link)


def test_what_the_page_does_not_have_is_said() -> None:
    """By the control's name, with what is there in its place."""
    other = Settings().change({"capacity": 4, "weight": 100.0, "n_groups": 8, "spare": 2})
    link, lacking = to_link({"A": Settings(), "B": other})
    assert lacking == [
        "B: groups K 8 (there: 6)",
        "B: encoder capacity 4 (there: 1)",
        "B: spare branches 2 (there: as many as K)",
        "B: first task's loss 100 times (there: as it is)",
    ]
    assert from_link(link)["A"] == Settings()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.title)
def test_a_preset_is_two_runs_that_differ_in_one_thing(preset) -> None:
    """What its title says; with a question before, and what we saw in how many seeds after."""
    a, b = (preset.settings[run].form for run in RUNS)
    assert {name: value for name, value in b.items() if value != a[name]} == preset.changes
    assert len(preset.changes) == 1
    assert preset.expect.endswith("?")
    assert "seed" in preset.seen
    both = {run: one.change({"seed": 7}) for run, one in preset.settings.items()}
    assert preset.is_meant(both)
    assert not preset.is_meant(both | {"A": both["A"].change({"n_groups": 5})})


def test_explanations_are_short() -> None:
    """25 words beside each control."""
    assert {c.name: len(c.help.split()) for c in CONTROLS if len(c.help.split()) > 25} == {}


def test_labels_of_other_data_are_not_flipped() -> None:
    """Only drawn faces know how."""
    with pytest.raises(ValueError, match="`label_noise` is of drawn faces only"):
        Settings(data="digits", label_noise=0.3)


# ---------------------------------------------------------------- the widget
@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    quick = {run: Settings(data=OWN, n_groups=2, config=QUICK) for run in RUNS}
    monkeypatch.setattr("dmtg_lite.views.playground.Preset.settings", property(lambda _: quick))
    play = Playground(FACES, name="test")
    yield play
    play.close()


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """The first step of a process waits for torch to load what it compiles with."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the painter did not get there"
        time.sleep(0.02)


def set_form(play: Playground, run: str, **values: object) -> None:
    """As a browser does."""
    play.form.values = play.form.values | {run: play.form.values[run] | values}


def test_both_runs_train_and_are_shown_on_the_same_axes(play: Playground) -> None:
    """Start; two other runs after another control; the numbers are those of the runs."""
    assert "no step yet" in play.outcome.value
    play.start.click()
    eventually(lambda: play.state.value == "A: finished · B: finished")
    charts = play.curves.shown["charts"]
    assert [[len(line["x"]) for line in chart["lines"]] for chart in charts] == [[20, 20]] * 2
    assert charts[0]["lines"][0]["y"] == charts[0]["lines"][1]["y"]  # the same run twice
    assert play.curves.shown["end"] == 20
    told = play.tell()["run A"]
    assert "dark_hair" in told["groups"]
    assert 0 < float(told["mean error, %"]) < 100
    set_form(play, "B", n_groups=3, weight=100.0)
    eventually(lambda: "Start takes the new settings" in play.state.value)
    assert "b = methods.dmtg(mine.weigh(" in play.lines.value
    play.start.click()
    eventually(lambda: play.state.value == "A: finished · B: finished")
    assert play.sessions["B"].data.tasks[0].weight == 100
    eventually(lambda: len(play.matrices["B"].shown["numbers"][0]) == 3)


def test_start_takes_what_was_chosen_before_it(play: Playground) -> None:
    """The second change is said at once, and its trait follows after the click."""
    first, second = (
        play.form.values | {"B": play.form.values["B"] | {"n_groups": k}} for k in (4, 5)
    )
    play.form.set_state({"values": first})
    for values in (first, second):
        play.form._handle_custom_msg({"values": values}, [])
    play.start.click()
    play.form.set_state({"values": second})
    eventually(lambda: play.state.value == "A: finished · B: finished")
    assert play.sessions["B"].n_groups == 5
    assert play.settings["B"].n_groups == play.form.values["B"]["n_groups"] == 5
    assert "Start takes" not in play.state.value


def test_what_is_pasted_is_restored_and_what_is_not_understood_is_said(play: Playground) -> None:
    """A line for run B, a link for both; a bad one leaves everything as it was."""
    play.lines.value = f"b = methods.dmtg(mine, 4, config={QUICK})"
    eventually(lambda: play.form.values["B"]["n_groups"] == 4)
    assert play.form.values["A"]["n_groups"] == 2
    play.link.value = "what_if.html#k=7"
    eventually(lambda: "says k=7" in play.error.value)
    assert play.form.values["B"]["n_groups"] == 4
    play.link.value = "what_if.html#k=2&b.k=5"
    eventually(lambda: play.form.values["B"]["n_groups"] == 5)
    eventually(lambda: play.error.value == "")
    assert play.form.values["B"]["data"] == "faces"
    assert play.form.locked["A"] == []


def test_a_number_that_no_list_has_is_added_to_its_list(play: Playground) -> None:
    """So that nothing is shown but what is so."""
    play.read(f"a = methods.dmtg(mine, 2, config={replace(QUICK, tau=1.7)})")
    (row,) = [row for row in play.form.rows if row["name"] == "tau"]
    assert [1.7, "1.7"] in row["choices"]
    assert play.form.values["A"]["tau"] == 1.7


def test_text_of_data_is_text(monkeypatch: pytest.MonkeyPatch, play: Playground) -> None:
    """Names of tasks are escaped where they stand in HTML."""
    evil = "<img src=x>"
    tasks = (replace(FACES.tasks[0], name=evil), *FACES.tasks[1:])
    parts = {
        split: replace(part, targets=part.targets | {evil: part.targets[FACES.task_names[0]]})
        for split in ("train", "val", "test")
        for part in [getattr(FACES, split)]
    }
    other = Playground(TaskData("evil", tasks, **parts), name="test")
    other.start.click()
    eventually(lambda: other.state.value == "A: finished · B: finished")
    eventually(lambda: "&lt;img" in other.outcome.value)
    assert evil not in other.outcome.value + other.draw_still()
    other.close()


def test_a_link_means_what_the_page_has_recorded() -> None:
    """Same recipes and same values of every knob as where its runs are made."""
    made = {
        (name, spare): config
        for name, suite in make_what_if.SUITES.items()
        for spare, config in suite.recipes.items()
    }
    assert made == _RECIPES
    assert {knob: set(_KEYS[knob]) for knob in make_what_if.KNOBS} == {
        knob: set(values) for knob, values in make_what_if.KNOBS.items()
    }
