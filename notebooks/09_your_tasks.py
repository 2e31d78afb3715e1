# %% [markdown]
# # 9 · Your tasks: which of them belong together?
#
# **Question.** You have a table, pictures or embeddings, and several things to predict from them.
# Should they share an encoder?
#
# *25 minutes · CPU · no download · needs notebooks 0 and 6, for closing costs 8b*

# %% [markdown] tags=["picture"]
# ![What it shows: 9 · Your tasks: which of them belong together?](img/09_your_tasks.png)
#
# *From a real run. [How it looks when run](img/README.md)*

# %% tags=["setup"]
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
from torch import nn

from dmtg_lite import Spare, data, experiments, load_result, methods, views
from dmtg_lite.course import check

# %% [markdown]
# ## 9.1 Three lines
#
# Real data first: 2,417 genes of yeast. A row holds 103 measurements of one gene; a task is one of
# 14 functions, which the gene has or has not (Elisseeff and Weston, 2001).
#
# **Predict:** will three groups make fewer mistakes than one?

# %%
genes = data.yeast()
together = methods.naive(genes, 1)
grouped = methods.dmtg(genes, 3)

# %% [markdown]
# Nobody said how to train, so each method says what it chose: a line to paste, to change and to
# keep. And it warns of tasks that it did not learn.

# %%
errors = pd.DataFrame({
    "constant": together.constant_errors,  # the best answer that looks at no gene
    "Naive MTL": together.task_errors,
    "DMTG": grouped.task_errors,
})  # fmt: skip
errors.loc["mean"] = errors.mean()
errors.round(1)

# %%
grouped.groups

# %% [markdown]
# **What to notice.** There are groups: the method always finds some. But the last row hardly moves,
# and several tasks end where the constant answer does. A grouping of tasks that learned nothing
# means nothing, however crisp its probabilities are.
#
# ### Exercise 9.1 · invent
#
# Write the first column yourself: in percent, how often is the most frequent answer of `train`
# wrong on `test`?


# %% tags=["exercise", "invent"]
def constant_error(train, test):
    return None  # your turn: two integer tensors, 0 for no and 1 for yes


# %% tags=["check"]
def test(constant_error):
    for task, expected in together.constant_errors.items():
        yours = float(constant_error(genes.train.targets[task], genes.test.targets[task]))
        assert abs(yours - expected / 100) > 1e-3 or expected < 0.1, "in percent, please"
        assert abs(yours - (100 - expected)) > 0.1, f"{task}: that is how often it is *right*"
        assert abs(yours - expected) < 0.01, f"{task}: the answer comes from train, the errors not"


check("9.1", constant_error, test, note="Whoever is below has seen something in the features.")


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def constant_error(train, test):
    answer = int(train.float().mean() > 0.5)
    return 100 * float((test != answer).float().mean())


# %% [markdown]
# ## 9.2 When can grouping help?
#
# Three things must be true:
#
# 1. each task can be learned: **STL** beats the constant answer;
# 2. tasks stand in each other's way: Naive MTL does worse than STL;
# 3. some tasks need the same thing.
#
# Make a table where they are: a machine with twelve sensors, whose heat, wear and leaks each show
# in four of them.

# %%
rng = np.random.default_rng(0)
sensors = rng.normal(size=(2000, 12))
heat, wear, leak = (sensors[:, 4 * part : 4 * part + 4] @ [1, -1, 1, 1] for part in range(3))
table = pd.DataFrame(sensors, columns=[f"sensor_{n}" for n in range(12)])
table["site"] = rng.choice(["north", "south", "east"], len(table))
table.loc[::50, "sensor_3"] = np.nan  # a sensor that fails now and then

answers = pd.DataFrame({"warm": heat > -1, "hot": heat > 1, "melting": heat > 2})
answers["noisy"] = np.where(wear > 0, "noisy", "quiet")
answers["days_left"] = 50 - 10 * wear  # a number, in days
answers["damp"], answers["wet"], answers["dripping"] = leak > -1, leak > 0, leak > 1.5
answers.head(3)

# %%
machine = data.from_arrays(table, answers, impute="mean", name="machine")

# %% [markdown]
# **What to notice.** The line says how it was read: what is a number, what a category, what is
# missing. Read it *before* you train. What is doubtful is refused; without `impute` the failing
# sensor would be.

# %% [markdown]
# ## 9.3 How many groups?
#
# `"auto"` opens many branches, closes one after another and reads K off what each closing cost
# (notebook 8b). Tasks may be of different kinds: losses of numbers are in spreads, so that they
# weigh about as much as those of classes. Half of the recipe's steps is enough here.

# %%
spare = Spare(branches="double", close_from=150, close_every=40)
short = replace(methods.choose_recipe(machine, 3), steps=450, spare=spare)
found = methods.dmtg(machine, "auto", short)
views.plots.plot_closing_costs(found.history)

# %%
print(found)
pd.DataFrame({"error": found.task_errors, "constant": found.constant_errors}).round(2)

# %% [markdown]
# **What to notice.** The error of `days_left` is in days, of the others in percent; both stand
# beside the constant answer.
#
# ### Exercise 9.2 · read
#
# Over five seeds, groups beat Naive MTL by 6 % (95 % interval: 3 to 9), and as many *random* groups
# by 1 % (-2 to 4). Does the *grouping* help?

# %% tags=["exercise", "read"]
verdict = None  # your turn: "helps", "does not help" or "undecided"

# %% tags=["check"]
note = "What do three encoders have more than one? Room; which tasks share may not matter."
check("9.2", verdict, sealed="text:396e4061cb", note=note)

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
verdict = "undecided"

# %% [markdown]
# ## 9.4 The report
#
# One page: groups, each task beside the constant answer, Naive MTL and random groups, agreement of
# the seeds, and a verdict by a rule that is printed with it. Three seeds of three methods; five and
# STL are better, and longer.

# %%
experiments.report(machine, 3, seeds=range(3), config=short, methods=("naive", "random"))

# %% [markdown]
# **What to notice.** Random groups are the control: branches alone are capacity. All encoders are
# narrow here; without a config Naive MTL has room for all tasks. What would
# `experiments.report(machine, 3)` say then (minutes)? Section 9.6 has a hint.
#
# The live view takes your tasks like the faces. **Predict:** which tasks pair up first? Press
# Start.

# %%
session = views.LiveSession(machine, 3, config=short)
views.Dashboard(session)

# %% [markdown]
# ## 9.5 Keep it, and use it
#
# A result is saved with all that it needs: network, history, and how features were read. New rows
# may come as they are, in another program too.

# %%
folder = Path(mkdtemp())
found.save(folder / "machine")
back = load_result(folder / "machine")
back.predict(table.head(3))

# %% [markdown]
# ## 9.6 Now yours
#
# **A file.** Names of columns are all there is to say.

# %%
table.join(answers).to_csv(folder / "machine.csv", index=False)
same = data.from_csv(folder / "machine.csv", list(answers.columns), impute="mean")

# %% [markdown]
# **A folder of pictures.** Any size, any number of channels; here sixty drawn ones, whose names say
# what they show.

# %%
from PIL import Image

shapes = folder / "shapes"
shapes.mkdir()
for number in range(60):
    picture, bright, wide = np.zeros((20, 30), np.uint8), number % 2, number % 3
    picture[5:15, 5 : 10 + 5 * wide] = 90 + 100 * bright + number
    Image.fromarray(picture).save(shapes / f"bright{bright}_wide{wide}_{number:02d}.png")

# %%
paths = sorted(shapes.glob("*.png"))
pictures = np.stack([np.asarray(Image.open(path)) for path in paths])  # (n, H, W)
labels = {name: [f"{name}{d}" for d in digits] for name, digits in {
    "bright": [path.name[6] for path in paths],
    "wide": [path.name[12] for path in paths],
}.items()}  # fmt: skip
drawn = data.from_arrays(pictures, labels)
at_first = {"stars": "classes", "sold": "yes/no"}  # for exercise 9.3

# %% [markdown]
# **Embeddings**, numbers that another network says of a text, a sound or a molecule, are an array
# (n, D): `data.from_arrays(embeddings, answers)`.
#
# **An encoder of your own.** Any module that turns a batch into (B, D) numbers. Each branch gets a
# copy.


# %%
class TwoViews(nn.Module):
    def __init__(self):
        super().__init__()
        self.sum_up = nn.Linear(machine.feature_shape[0], 8)
        self.pick = nn.Linear(machine.feature_shape[0], 8)

    def forward(self, rows):  # (B, D) -> (B, 8)
        return self.sum_up(rows).relu() * self.pick(rows).sigmoid()


own = methods.naive(machine, 1, short, encoder=TwoViews())
print(own)

# %% [markdown]
# **What to notice.** One network for all tasks, eight numbers wide, beside three groups with one
# number each: compare the errors with those of 9.3. Grouping pays where an encoder cannot carry
# everything; where it can, ask what grouping is for.

# %% [markdown]
# ### Exercise 9.3 · change
#
# A shop rates its goods with 1, 2, 3, 4 or 5 stars. Read as classes, a guess of 4 for a 5 is as
# wrong as a 1. Alter the first line so that `stars` is a number, and read what is said of it.

# %% tags=["exercise", "change"]
kinds = {"stars": "classes", "sold": "yes/no"}  # your turn: "yes/no", "classes" or "number"
goods = {"stars": rng.integers(1, 6, 200), "sold": rng.random(200) > 0.5}
shop = data.from_arrays(rng.normal(size=(200, 3)), goods, tasks=kinds, name="shop")


# %% tags=["check"]
def test(kinds):
    columns = (np.arange(200) % 5 + 1, np.arange(200) % 2 > 0)
    five = dict(zip(at_first, columns, strict=True))
    checked = data.from_arrays(rng.normal(size=(200, 3)), five, tasks=kinds, name="checked")
    rated, bought = (task.is_number for task in checked.tasks)
    assert rated, "the first task is to be a number"
    assert not bought, "what is sold or not is no number"


check("9.3", kinds, test, given=at_first, note="The error is in stars now.")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
kinds = {"stars": "number", "sold": "yes/no"}

# %% [markdown]
# All forms and all refusals are in `docs/own_data.md`; from a terminal,
# `dmtg-lite train --csv machine.csv --targets warm,hot --groups auto --out runs/machine` does the
# same.
#
# ## You can now
#
# - bring tasks of your own, and read what was understood of them;
# - say what must be true before a grouping can help;
# - tell "more encoders" from "the right groups" by a control.
#
# **Next:** [10 · The playground](10_playground.ipynb), with your own data.
