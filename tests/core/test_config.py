"""What a config promises: it refuses by name, prints as a line to paste and reads old ones."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, fields

import pytest

from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
from dmtg_lite.experiments import PAPER, TOY

NAN, INF = float("nan"), float("inf")
BAD = {
    TrainConfig: {
        "tau": [0, -1.0, NAN, INF, (1.0,), (1.0, 2.0, 3.0), (1.0, 0.0), "2.5", None, True],
        "estimator": ["gumble", None], "lr": [-1.0, NAN, "0.1", None],
        "lr_assignment": [-1.0, "0.1"], "schedule": ["cosine"], "steps": [0, 1.5, True],
        "epochs": [0, -1, "3"],
        "pretrain": [-1, 0.5, None], "batch_size": [0, 2.0, None], "shared": [-1],
        "restarts": [0, None], "normalise_losses": ["yes", 1], "pruning": [0.1, None],
        "jitter": [-1.0, INF, "x"], "encoder": ["", None], "capacity": [0],
        "precision": ["float16"], "cuda_graph": ["yes", 1],
        "seed": [-1, 0.5, None], "spare": [2, "double", None],
        "optimiser_assignment": ["adamw", 3, None], "heads": [32, None], "pretrained": ["", 3],
    },
    Restarts: {"n": [0, None], "halve_every": [-1]},
    Spare: {
        "branches": [-1, 1.5, None, "twice"], "close_from": [0, 2.0], "close_every": [0, None],
        "rule": ["first", None],
    },
    Pruning: {"below": [-0.1, 1.0, NAN, "x"], "start": [-1]},
    HeadOptions: {"hidden": [-1, 0.5], "train_all": ["yes", 1]},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.__name__)
def test_a_bad_field_is_refused_by_name(kind: type) -> None:
    """A ValueError with the name of the field and of its group; and the table forgets none."""
    assert set(BAD[kind]) == {field.name for field in fields(kind)}
    group = "" if kind is TrainConfig else r"\w+\."
    for name, values in BAD[kind].items():
        for value in values:
            with pytest.raises(ValueError, match=f"`{group}{name}` must be"):
                kind(**{name: value})


def test_steps_and_epochs_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="give `steps` or `epochs`, not both"):
        TrainConfig(steps=1, epochs=1)


def paste(node: ast.expr) -> object:
    """What a printed line says: calls of the config's classes with literals in them."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    kinds = {kind.__name__: kind for kind in BAD}
    return kinds[node.func.id](**{entry.arg: paste(entry.value) for entry in node.keywords})


@pytest.mark.parametrize(
    "config", [*PAPER.values(), *TOY.values(), TrainConfig(), TrainConfig(tau=(9.0, 0.5), steps=3)]
)
def test_the_config_prints_as_a_line_to_paste(config: TrainConfig) -> None:
    """Only what differs from the default: read back it is the same config, and from JSON too."""
    line = repr(config)
    assert "\n" not in line
    assert paste(ast.parse(line, mode="eval").body) == config
    assert TrainConfig.from_json(json.loads(json.dumps(asdict(config)))) == config


def test_a_flat_config_of_old_is_read() -> None:
    """What earlier versions wrote, field by field, is the same config grouped."""
    old = {
        "tau": [9.0, 0.5], "optimiser": "adam", "optimiser_assignment": None, "steps": 3,
        "restarts": 8, "halve_every": 250, "spare_branches": "double", "close_from": 300,
        "close_every": 20, "close_rule": "random", "train_all_heads": True, "head_hidden": 32,
        "scale_gradients": False, "prune_below": 0.1, "prune_from": 5,
    }  # fmt: skip
    assert TrainConfig.from_json(old) == TrainConfig(
        tau=(9.0, 0.5),
        steps=3,
        restarts=Restarts(n=8, halve_every=250),
        spare=Spare(branches="double", close_from=300, close_every=20, rule="random"),
        heads=HeadOptions(hidden=32, train_all=True),
        pruning=Pruning(below=0.1, start=5),
    )
    with pytest.raises(ValueError, match="`optimiser='sgd'` is no longer offered"):
        TrainConfig.from_json({"optimiser": "sgd"})
    with pytest.raises(ValueError, match=r"unknown settings \['tua'\]"):
        TrainConfig.from_json({"tua": 1.0})


def test_options_are_off_in_the_papers_presets() -> None:
    """Each deviation from the paper has a name, and its presets do not use it."""
    off = {
        "restarts": Restarts(n=1), "spare": Spare(branches=0), "pruning": Pruning(below=0.0),
        "heads": HeadOptions(hidden=0, train_all=False), "normalise_losses": False, "jitter": 0.0,
        "precision": "float32", "pretrained": None, "estimator": "gumbel", "cuda_graph": False,
        "optimiser_assignment": "adam", "lr_assignment": None, "schedule": "plateau", "epochs": 100,
    }  # fmt: skip
    own = {
        "celeba9": (2.5, 8e-4, "resnet", 0), "celeba40": (2.5, 8e-4, "resnet", 0),
        "taskonomy5": (4.0, 1e-4, "xception", 6), "taskonomy5_vit": (4.0, 1e-4, "vit_base", 7),
    }  # fmt: skip
    assert PAPER.keys() == own.keys()
    for suite, preset in PAPER.items():
        assert {name: getattr(preset, name) for name in off} == off
        assert (preset.tau, preset.lr, preset.encoder, preset.shared) == own[suite]


def test_epochs_are_whole_batches() -> None:
    """70 images in batches of 16: 4 steps an epoch; a batch larger than the data is all of it."""
    assert TrainConfig(epochs=3, pretrain=2, batch_size=16).count_steps(70) == (8, 12)
    assert TrainConfig(steps=7, pretrain=2).count_steps(70) == (2, 7)
    assert TrainConfig(epochs=3, batch_size=256).count_steps(70) == (0, 3)
    with pytest.raises(ValueError, match="neither `steps` nor `epochs`"):
        TrainConfig().count_steps(70)


def test_tau_schedule() -> None:
    """Geometric from start to end; a number stays."""
    taus = [TrainConfig(tau=(100.0, 4.0)).tau_at(progress) for progress in (0.0, 0.5, 1.0)]
    assert taus == pytest.approx([100.0, 20.0, 4.0])
    assert TrainConfig(tau=3).tau_at(0.7) == 3.0


@pytest.mark.parametrize(
    ("spare", "n_groups", "n_tasks", "expected"),
    [
        (0, 3, 9, (3, 0)),
        ("double", 3, 9, (6, 3)),
        ("double", 3, 5, (5, 2)),  # never more branches than tasks
        ("double", 9, 4, (9, 0)),
        (2, 3, 9, (5, 2)),
        ("double", "auto", 9, (9, None)),
        (0, "auto", 40, (12, None)),
        (5, "auto", 40, (6, None)),
    ],
)
def test_how_many_branches_are_opened(spare, n_groups, n_tasks, expected) -> None:
    """K and the spare ones."""
    assert TrainConfig(spare=Spare(branches=spare)).count_branches(n_groups, n_tasks) == expected
