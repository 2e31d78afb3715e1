"""A reader's own encoder: taken as it is, copied for each branch, checked before it trains."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from inspect import signature

import pytest
import torch
from torch import Tensor, nn

from dmtg_lite import data, methods
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.encoders import ENCODERS, Encoder, as_encoder, build_encoder, name_of, register
from dmtg_lite.encoders.own import find_homeless, make_builder
from dmtg_lite.experiments import compare
from dmtg_lite.methods import Saving
from dmtg_lite.runs.jobs import _pack_encoders
from dmtg_lite.runs.run import Run

SHAPE = (3, 16, 16)
FACES = data.toy_faces(n_tasks=4, n_groups=2, n_train=64, n_val=16, n_test=16, size=16)
CONFIG = TrainConfig(encoder="toy", steps=3, pretrain=2, batch_size=16)


@pytest.fixture(autouse=True)
def only_built_in() -> Iterator[None]:
    before = dict(ENCODERS)
    yield
    ENCODERS.clear()
    ENCODERS.update(before)


def make_module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )


MODULE = make_module()


def make_map() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1))


@pytest.mark.parametrize("given", [MODULE, list(MODULE), lambda: MODULE, Encoder(list(MODULE), 5)])
def test_a_module_a_list_and_a_function_are_taken(given) -> None:
    """The same network from each; a list's stages can be shared."""
    config = replace(CONFIG, encoder=register("mine", given))
    result = methods.dmtg(FACES, 2, config)
    expected = methods.dmtg(FACES, 2, replace(CONFIG, encoder=register("other", make_module())))
    assert result.task_losses == pytest.approx(expected.task_losses, rel=1e-6)
    assert "encoder='mine'" in repr(config)


def test_stages_of_a_list_are_shared() -> None:
    config = replace(CONFIG, encoder=register("mine", list(make_module())), shared=2)
    network = methods.dmtg(FACES, 2, config).network
    assert len(network.stem) == 2
    assert all(len(branch) == 3 for branch in network.branches)


def test_a_module_is_copied_with_its_weights_and_stays_as_it_was() -> None:
    """Pretrained weights are a reader's starting point; training leaves them alone."""
    module = make_module().train()
    before = deepcopy(module.state_dict())
    encoder = as_encoder(module, SHAPE)
    assert encoder.out_features == 5
    built = nn.Sequential(*encoder.stages)
    for own, other in zip(module.parameters(), built.parameters(), strict=True):
        assert own.equal(other)
        assert own.data_ptr() != other.data_ptr()
    register("mine", module)
    methods.naive(FACES, 1, replace(CONFIG, encoder="mine"))
    assert module.training
    for name, value in module.state_dict().items():
        assert value.equal(before[name])


def test_lazy_layers_learn_their_size_and_capacity_is_passed_on() -> None:
    """A function may take what the config says."""

    def build(image_shape: tuple[int, int, int], capacity: int) -> nn.Module:
        assert image_shape == SHAPE
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(capacity))

    register("mine", build)
    assert build_encoder("mine", SHAPE, capacity=7).out_features == 7


def test_a_map_gets_a_decoder_as_deep_as_it_needs() -> None:
    """16 pixels to 4 and back: two doublings."""
    encoder = as_encoder(make_map(), SHAPE)
    assert (encoder.out_features, encoder.decoder) == (32, (16, 8))
    rooms = data.toy_rooms(n_train=8, n_val=4, n_test=4)
    result = methods.naive(rooms, 1, replace(CONFIG, encoder=register("map", make_map())))
    images = rooms.test.images[:2]
    assert all(one.shape[-2:] == images.shape[-2:] for one in result.network(images).values())


class Shares(nn.Module):
    """Whose copies are not copies."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def __deepcopy__(self, memo: dict) -> Shares:
        return self


class Gives(nn.Module):
    """Whatever a function makes of the images."""

    def __init__(self, function) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.function = function

    def forward(self, x: Tensor):
        return self.function(x * self.weight)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (Shares(), "copies share weights"),
        (nn.Flatten(), "no weights to train"),
        (Gives(lambda x: (x.flatten(1), x)), r"must give features .* it gave"),
        (Gives(lambda x: x.mean()), r"must give features .* nn.Flatten"),
        (Gives(lambda x: x.flatten(1).double()), "must give float32"),
        (Gives(lambda x: x.flatten()[None]), "must give features"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 5)), r"does not take rows of \(3, 16, 16\)"),
        (nn.Conv2d(3, 4, 3), r"gives maps of 14x14 for images of 16x16"),
        (nn.Conv2d(3, 4, 1), r"gives maps of 16x16"),
        ([], "must be a torch module or a list of them"),
        ([nn.Flatten(), "linear"], "must be a torch module or a list"),
        (3, "must be a torch module or a list"),
    ],
)
def test_what_breaks_branches_is_refused_before_training(given, complaint: str) -> None:
    """By name, with what to do."""
    register("mine", given)
    with pytest.raises(ValueError, match=f"`mine`.*{complaint}"):
        methods.naive(FACES, 1, replace(CONFIG, encoder="mine"))


def test_names_are_kept_apart() -> None:
    """The library's are its own; an unknown one is told how to be known."""
    with pytest.raises(ValueError, match="which are the library's"):
        register("resnet", make_module())
    with pytest.raises(ValueError, match=r"encoders.register\('theirs', your_module\)"):
        build_encoder("theirs", SHAPE, capacity=1)
    assert name_of(make_module()) == name_of(make_module())
    assert name_of(make_module()) != name_of(make_map())
    assert name_of(make_module()).startswith("Sequential-")


def test_every_method_takes_it_at_the_door() -> None:
    """A module, a list or a name; the config of the result names it, so that it resumes."""
    result = methods.stl(FACES, 1, CONFIG, encoder=make_module())
    assert result.config.encoder == name_of(make_module())
    assert methods.stl(FACES, 1, result.config).task_losses == result.task_losses
    assert methods.dmtg(FACES, 2, CONFIG, encoder="resnet").config.encoder == "resnet"
    assert "encoder" in signature(methods.dmtg).parameters


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data": FACES.train}, "`data` must be a TaskData, .*got Split"),
        ({"config": {"steps": 3}}, "`config` must be a TrainConfig"),
        ({"saving": "runs"}, "`saving` must be a Saving"),
    ],
)
def test_a_mixed_up_argument_is_refused_at_the_door(change: dict, complaint: str) -> None:
    asked = {"data": FACES, "n_groups": 2, "config": CONFIG} | change
    with pytest.raises(ValueError, match=complaint):
        methods.dmtg(**asked)


def test_what_layers_draw_belongs_to_the_run(tmp_path) -> None:
    """Dropout: the same run twice and a resumed one are equal; the caller's numbers go on."""
    dropped = [*make_module()[:4], nn.Dropout(0.5), nn.Linear(64, 5)]
    register("dropped", dropped)
    config = replace(CONFIG, encoder="dropped", steps=6)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = methods.dmtg(FACES, 2, config)
    assert torch.rand(3).equal(expected)
    run = Run(FACES, config, 2, seed=first.history.about.seed, saving=Saving(tmp_path))
    run.train_until(3)
    again = Run(FACES, config, 2, seed=first.history.about.seed, saving=Saving(tmp_path))
    again.train_until()
    whole = Run(FACES, config, 2, seed=first.history.about.seed)
    whole.train_until()
    assert (again.history.loss_matrices == whole.history.loss_matrices).all()
    assert methods.dmtg(FACES, 2, config).task_losses == first.task_losses
    assert methods.tag(FACES, 2, config).affinity == methods.tag(FACES, 2, config).affinity


def test_other_processes_get_what_they_can_import() -> None:
    """Modules of torch and of files go there; what only this process has is named."""
    for given in (make_module(), list(make_module()), make_map, Encoder(list(make_module()), 5)):
        assert not find_homeless(make_builder("mine", given)), given

    class Local(nn.Linear):
        """Nobody could import it."""

    there = type("There", (nn.Linear,), {"__module__": "__main__"})
    for given, name in [
        (lambda: make_module(), "lambda"),
        (nn.Sequential(nn.Flatten(), Local(768, 4)), "Local"),
        ([nn.Flatten(), there(768, 4)], "There"),
    ]:
        assert name in find_homeless(make_builder("mine", given))
    register("mine", lambda: make_module())
    with pytest.raises(ValueError, match=r"`encoder` 'mine' cannot be sent .*jobs=1"):
        _pack_encoders()["mine"](SHAPE, capacity=1)


@pytest.mark.slow
def test_worker_processes_know_encoders_of_ones_own() -> None:
    """The same numbers from two processes as from one."""
    config = replace(CONFIG, encoder=register("mine", make_module()))
    register("unused", lambda: make_module())
    ask = {"methods": ["stl"], "seeds": [0], "config": config}
    alone, together = compare(FACES, **ask), compare(FACES, jobs=2, **ask)
    assert list(together["note"]) == list(alone["note"])
    assert list(together["total_loss"]) == pytest.approx(list(alone["total_loss"]), rel=1e-5)
