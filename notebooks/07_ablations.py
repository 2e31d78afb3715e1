# %% [markdown]
# # 7 · Take one thing away
#
# **Question.** DMTG is a pile of choices: one shot, nothing shared, tau 2.5, Gumbel noise, tiny
# branches, raw losses, a single run. Which of them matter?
#
# *25 minutes · CPU · no download · needs notebooks 0 to 2*

# %% [markdown] tags=["picture"]
# ![What it shows: 7 · Take one thing away](img/07_ablations.png)
#
# *From a real run. [How it looks when run](img/README.md)*

# %% tags=["setup"]
from dataclasses import replace

import pandas as pd
import torch
from plotly.subplots import make_subplots

from dmtg_lite import compute_mean_assignment, data, views
from dmtg_lite.course import check
from dmtg_lite.experiments import TOY, run_method
from dmtg_lite.views import plots

# %% [markdown]
# ## 7.1 How to take something away
#
# An **ablation** changes one choice, leaves the others alone and looks at the result. It needs a
# starting point, several seeds and the spread between them. Here: drawn faces with three planted
# groups, and the paper's optimiser in a shortened run.
#
# Twenty-one settings with three seeds each train for minutes, so they are *recorded*. Whatever you
# want to see from inside, you train yourself: seed 0, two seconds a run.

# %%
faces = data.toy_faces(n_tasks=9, n_groups=3, size=16, seed=0)
quick = replace(TOY["faces_plain"], pretrain=100, steps=400)
recorded = views.recordings.load_table("ablations")  # a row per run
print("recorded by:", recorded.attrs["command"])
seen = {}  # histories of the runs that you train


def ablate(setting, **changes):
    """Train one run with these changes, and remember its history."""
    seen[setting] = run_method(faces, "dmtg", 3, replace(quick, **changes)).history


# %%
def ring(k):
    return {"symbol": 100 + k, "size": 11, "line_width": 2.5, "color": plots.GROUP_COLOURS[k]}


def collect(*settings):
    """One row per run; `cost` counts encoder passes, in multiples of Naive MTL's."""
    passes = recorded[recorded.method == "Naive MTL"].encoder_passes.mean()
    tables = [recorded[recorded.method == setting] for setting in settings]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(cost=table.encoder_passes / passes)


# %%
def show(*settings):
    """Every run a ring; in brackets the cost."""
    table, fig = collect(*settings), make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    names = table.method + table.groupby("method").cost.transform("mean").map(" ({:.1f})".format)
    for column, value in enumerate(("total_error", "agreement"), 1):
        for seed, rows in table.groupby("seed"):
            own = {"name": f"seed {seed}", "showlegend": column == 1, "marker": ring(seed)}
            fig.add_scatter(x=rows[value], y=names[rows.index], row=1, col=column, **own)
    fig.update_traces(mode="markers")
    fig.update_xaxes(title="total error, points", rangemode="tozero", col=1)
    fig.update_xaxes(title="agreement", range=[-0.3, 1.1], col=2).update_yaxes(autorange="reversed")
    return plots.apply_style(fig, height=36 * len(settings) + 130)


# %% [markdown]
# Two numbers per run: **total error** is the sum over the nine tasks; **agreement** is 1 for the
# planted groups and about 0 for chance. The same seed has the same symbol in all figures. In
# brackets stands the cost in **encoder passes** (one batch through one branch), in Naive MTLs.
#
# **Predict:** three seeds of one recipe. How far apart will they be?

# %%
show("Naive MTL", "DMTG", "planted groups")

# %% [markdown]
# **What to notice.** Nothing was changed but the seed. Whatever an ablation does below has to be
# held against the distance of *these* dots.
#
# ## 7.2 One shot or two?
#
# **Two-shot** takes only DMTG's groups and trains them again: from scratch, or from the pretrained
# Naive MTL weights. A third way trains each pruned branch on for a while, a fourth just takes more
# steps.
#
# **Predict:** is a network better that knew its groups from the first step?

# %%
again = ("retrained from scratch", "retrained, pretrained", "fine-tuned branches")
show("DMTG", *again, "DMTG, longer")

# %% [markdown]
# **What to notice.** On the right the symbols of a second shot stand still: it keeps the groups,
# with their mistakes. On the left, compare symbol with symbol, and read the brackets: who trains
# twice trains longer.
#
# ### Exercise 7.1 · change
#
# Retraining from scratch runs pretraining and main steps again, with three branches from the first
# step on (if three groups were found). Alter the number of main steps of DMTG until it takes as
# many passes.

# %% tags=["exercise", "change"]
fair_steps = quick.steps  # your turn: another number
passes = quick.pretrain + 3 * fair_steps  # one branch first, then three
print(f"DMTG: {passes} passes; a first and a second training: more")


# %% tags=["check"]
def test(fair_steps):
    first, second = quick.pretrain + 3 * quick.steps, 3 * (quick.pretrain + quick.steps)
    passes = quick.pretrain + 3 * fair_steps
    assert passes >= first, "fewer than DMTG took before: does a second training cost nothing?"
    assert passes != first + second - 2 * quick.pretrain, "three branches pretrain, too"
    assert passes == first + second, "too few" if passes < first + second else "too many"


check("7.1", fair_steps, test, given=quick.steps, note="That is `DMTG, longer` above.")

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
fair_steps = 2 * quick.steps + quick.pretrain

# %% [markdown]
# **What to notice.** Compare it with retraining, seed with seed: for the same passes, is a lead
# left? (On faces, whose groups are sharp. It says nothing on vague ones.)
#
# ## 7.3 Sharing the first layers
#
# The encoder has three **stages**: patches, hidden units, and a last layer with one output.
# `shared` puts the first of them into a stem that all groups use.
#
# **Predict:** what happens to the cost, and what to the error?

# %%
show("Naive MTL", "DMTG", "1 stage shared", "2 stages shared")

# %% [markdown]
# **What to notice.** The cost falls for certain: it is counted. With two stages shared a branch is
# one small matrix. Whether the error rises, your dots must say; do they overlap? In a photograph
# more may be worth sharing than in a drawn face.
#
# ## 7.4 Temperature
#
# Tau makes a draw soft or sharp. Fixed at 0.5, 2.5 (DMTG) or 10, or falling from 10 to 0.5.
#
# **Predict:** at which tau do the tasks decide first?


# %%
def plot_paths(*settings):  # the largest probability of each task over time
    fig = make_subplots(1, len(settings), subplot_titles=settings, shared_yaxes=True)
    for column, setting in enumerate(settings, 1):
        paths = seen[setting].probabilities.max(-1)  # (T, N)
        for n, name in enumerate(faces.task_names):
            k = next(k for k, part in enumerate(faces.planted_groups) if name in part)
            colour, dash = plots.group_style(k)
            own = {"line": {"color": colour, "dash": dash, "width": 1.5}, "legendgroup": k}
            own["showlegend"] = (column, name) == (1, faces.planted_groups[k][0])
            fig.add_scatter(y=paths[:, n], name=f"like {name}", row=1, col=column, **own)
    plots.apply_style(fig.update_xaxes(title="step").update_yaxes(range=[0.3, 1.02]), height=350)
    return fig.update_layout(legend={"y": -0.25, "yanchor": "top"}, margin_t=40)


# %%
ablate("DMTG")
ablate("tau 0.5", tau=0.5)
ablate("tau 10", tau=10.0)
ablate("tau 10 to 0.5", tau=(10.0, 0.5))
plot_paths("tau 0.5", "DMTG", "tau 10", "tau 10 to 0.5")

# %%
rows = {}
for setting, tau in (("tau 0.5", 0.5), ("DMTG", 2.5), ("tau 10", 10.0), ("tau 10 to 0.5", 0.5)):
    probabilities = seen[setting].probabilities[-1]  # (N, K)
    weights = compute_mean_assignment(probabilities, tau, n_draws=2_000)  # E[Z], (N, K)
    rows[setting] = [probabilities.max(1).mean(), weights.max(1).mean()]
columns = ["winner's probability", "winner's weight E[Z]"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns).round(2)

# %% [markdown]
# **What to notice.** Softmax(S) is who wins, E[Z] is who gets trained. At tau 10 the winner's
# weight stays behind: the other branches go on learning the task. Yet S climbs hardly slower: Adam
# takes tau's factor out again.
#
# ## 7.5 The draw itself
#
# **Straight-through** uses a hard draw and the soft one's gradient. **Softmax** draws nothing.
# **Jitter** makes the copied branches a little unequal. **Predict:** one of the three never gets
# anywhere. Which, and why?

# %%
ablate("straight-through", estimator="straight_through")
ablate("softmax", estimator="softmax")
ablate("softmax, jitter", estimator="softmax", jitter=0.1)
plot_paths("DMTG", "straight-through", "softmax", "softmax, jitter")

# %%
taus = ("tau 0.5", "tau 10", "tau 10 to 0.5")
show("Naive MTL", "DMTG", *taus, "straight-through", "softmax", "softmax, jitter")

# %% [markdown]
# **What to notice.** Softmax alone stays at one third. Equal branches get equal gradients and stay
# equal, so S has nothing to follow: **symmetry**. Three encoders do the work of one, hence Naive
# MTL's error. Noise or unequal copies break it; which is better, three seeds do not say.
#
# From inside, at tau 10: drag the step, then choose **E[Z]**.

# %%
views.Dashboard(seen["tau 10"])

# %% [markdown]
# ## 7.6 Room
#
# `capacity` is how many numbers a branch passes on.
#
# **Predict:** with room for four, does a wrong grouping still hurt?

# %%
rooms = ("", ", capacity 2", ", capacity 4")
show(*[name + room for room in rooms for name in ("Naive MTL", "DMTG")])

# %%
tables = {"capacity 1": collect("DMTG", *taus, "straight-through", "softmax, jitter")}
tables |= {f"capacity {c}": collect(f"DMTG, capacity {c}") for c in (2, 4)}
fig = make_subplots()
for k, (name, table) in enumerate(tables.items()):
    fig.add_scatter(x=table.agreement, y=table.total_error, name=name, marker=ring(k))
fig.update_traces(mode="markers")
fig.update_xaxes(title="agreement").update_yaxes(title="total error, points", rangemode="tozero")
plots.apply_style(fig, "DMTG in sections 7.4 to 7.6, without plain softmax", height=360)

# %% [markdown]
# **What to notice.** With one number, error falls as agreement rises. With more, ask it again: is a
# low agreement still a high error? When everybody fits everywhere, groups lose their meaning, and
# Naive MTL loses its handicap.
#
# ## 7.7 Whose loss is loud?
#
# Losses are added up raw. Now give one task another unit, a thousand times smaller.
#
# **Predict:** how far does S move in one step, by Adam and by SGD?

# %%
loss_matrix = torch.tensor([[0.9, 0.6, 0.3], [0.9e-3, 0.6e-3, 0.3e-3]])  # L, (N=2, K=3)
for optimiser in (torch.optim.Adam, torch.optim.SGD):
    free = torch.zeros(2, 3, requires_grad=True)  # S
    (loss_matrix * free.softmax(-1)).sum().backward()
    optimiser([free], lr=0.03).step()
    loud, quiet = free.detach().abs().max(1).values.tolist()
    print(f"{optimiser.__name__:4}  loud task {loud:.6f}, quiet task {quiet:.6f}")

# %% [markdown]
# **What to notice.** Adam divides each entry of S by the size of its gradient: units cancel. By SGD
# the quiet task hardly moves. The *encoder* is another matter: its gradient is a sum over tasks,
# and there the quiet one is lost.
#
# ### Exercise 7.2 · invent
#
# The cure, `normalise_losses`: divide each task's row by its mean over the branches, where the mean
# counts as a constant. Write it.


# %% tags=["exercise", "invent"]
def normalise(loss_matrix):
    return None  # your turn: (N, K) in and out


# %% tags=["check"]
def test(normalise):
    leaf = loss_matrix.clone().requires_grad_()
    normal = normalise(leaf)
    assert normal.shape == leaf.shape, "a number for every task and branch is asked for"
    assert torch.allclose(normal.mean(1), torch.ones(2)), "what should the mean of a row be now?"
    normal[:, 0].sum().backward()
    ratio = leaf.grad[:, 0] * loss_matrix[:, 0] / normal[:, 0].detach()
    assert torch.allclose(ratio, torch.ones(2)), "a constant passes no gradient on: .detach() it"


check("7.2", normalise, test, note="Both tasks are equally loud now.")


# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
def normalise(loss_matrix):
    return loss_matrix / loss_matrix.detach().mean(1, keepdim=True)


# %%
losses = run_method(faces, "naive", 1, quick).task_losses.values()
print(f"Naive MTL, seed 0: the largest loss is {max(losses) / min(losses):.1f} times the smallest")
show("DMTG", "normalised losses")

# %% [markdown]
# **What to notice.** All losses here are cross-entropies: a factor, but not thousands. So these
# faces can show little. With five kinds of loss in five units (notebook 4) the same switch has more
# to do.
#
# ## 7.8 Try again
#
# `Restarts(n=4)` trains four times, pretraining included, and keeps the lowest loss on *training*
# images. The planted groups are not asked.
#
# **Predict:** will it keep runs of high agreement?

# %%
rows = [
    (run.seed, n, *one)
    for run in recorded[recorded.method == "4 restarts"].itertuples()
    for n, one in enumerate(run.restarts)
]
tries = pd.DataFrame(rows, columns=["seed", "restart", "training loss", "agreement"]).round(2)
lowest = tries.groupby("seed")["training loss"].transform("min")
tries["kept"] = (tries["training loss"] == lowest).map({True: "kept", False: ""})
tries.pivot(index="seed", columns="restart", values=["training loss", "agreement", "kept"])

# %% [markdown]
# **What to notice.** Restart 0 is section 7.1's run again, so the training loss cannot rise, at
# four times the cost. With so little room a failed grouping usually shows in it; if all four fail,
# it keeps the best failure. [Notebook 8](08_finding_groups.ipynb) looks for the same at a lower
# price: spare branches.
#
# ## 7.9 The paper's ablations
#
# Tables 4, 6 and A3, on Taskonomy. **Predict:** which of these rows differ for a reason?

# %%
paper = [
    ("4, K = 3", "one shot", 0.173), ("4, K = 3", "retrained from scratch", 0.183),
    ("4, K = 3", "retrained, pretrained", 0.194), ("6, K = 3", "0 blocks shared", 0.174),
    ("6, K = 3", "3 blocks shared", 0.166), ("6, K = 3", "6 blocks shared", 0.173),
    ("6, K = 3", "9 blocks shared", 0.169), ("A3, K = 5", "tau 4", 0.1684),
    ("A3, K = 5", "tau 100 to 4, halved", 0.1656), ("A3, K = 5", "tau 100 to 4, quartered", 0.1665),
    ("A3, K = 5", "tau 50 to 4, halved", 0.173), ("A3, K = 5", "tau 10 to 0.01, halved", 0.171),
]  # fmt: skip
pd.DataFrame(paper, columns=["table", "row", "total loss"]).set_index(["table", "row"])

# %% [markdown]
# **What to notice.** No spread is printed. Table 6 goes up and down without an order, as chance
# does, and the rows of A3 span about as much. Besides, the labels of three of the five tasks look
# doubtful to us (`docs/taskonomy.md`).
#
# ### Exercise 7.3 · read
#
# Suppose a choice does *nothing*, and each seed comes out better or worse with probability one
# half. How often do all three seeds agree: three times better, or three times worse?

# %% tags=["exercise", "read"]
all_agree = None  # your turn: a probability, two decimals

# %% tags=["check"]
note = "So many choices that do nothing look consistent."
check("7.3", all_agree, sealed="number:8173822bec", digits=2, note=note)

# %% tags=["solution"] jupyter={"source_hidden": true}
# solution
all_agree = 2 * 0.5**3

# %%
settings = [name for name in recorded.method.unique() if not name.startswith("Naive MTL")]
table = collect(*settings)
summary = table.groupby("method", sort=False)[["total_error", "agreement", "cost"]].mean()
summary.insert(1, "± (std)", table.groupby("method").total_error.std())
error = table.pivot(index="method", columns="seed", values="total_error")
summary["beats DMTG in seeds"] = error.lt(error.loc["DMTG"]).sum(axis=1)
summary.round(2)

# %% [markdown]
# **What to notice.** Hold each difference against the ±, and "3" and "0" in the last column against
# exercise 7.3. "No difference seen" is not "no difference": three seeds, drawn faces, a short run.
# More seeds: `docs/measurements.md`.
#
# ## You can now
#
# - plan an ablation, with the spread as its yardstick;
# - say what tau, noise, room and loss units do inside DMTG;
# - read a published ablation and miss its spread.
#
# **Next:** [8 · Musical chairs](08_finding_groups.ipynb)
