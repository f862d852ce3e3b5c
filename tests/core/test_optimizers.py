"""Optimizers by name: which parameters go where, what is refused, states that go on."""

import copy
import importlib.util
import math
from typing import Any

import pytest
import torch

from sfpo_rllib.core.optimizers import (
    OPTIMIZERS,
    MuonWithAdamW,
    hidden_matrices,
    keeping_settings,
    make_optimizer,
    optimizer_problems,
)

HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="needs bitsandbytes")
EIGHT_BIT = ("adamw_8bit", "paged_adamw_8bit")
NAMES = [
    pytest.param(name, marks=needs_bitsandbytes) if name in EIGHT_BIT else name
    for name in OPTIMIZERS
]


class TinyLM(torch.nn.Module):
    """Embedding, a hidden matrix of more than 4096 values, norm, head, in transformers' ways."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(11, 72)
        self.hidden = torch.nn.Linear(72, 72)
        self.norm = torch.nn.LayerNorm(72)
        self.head = torch.nn.Linear(72, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def loss(self, step: int) -> torch.Tensor:
        ids = torch.randint(11, (64,), generator=torch.Generator().manual_seed(step))
        logits = self.head(self.norm(self.hidden(self.embed(ids))))
        return torch.nn.functional.cross_entropy(logits, (ids + 1) % 11)


def make(name: str, model: TinyLM, **settings: Any) -> torch.optim.Optimizer:
    optimizer = make_optimizer(
        name, model.parameters(), matrices=hidden_matrices(model), settings=settings
    )
    for group in optimizer.param_groups:
        group["lr"] = 0.1 if name == "sgd" else 1e-2
    return optimizer


def train(model: TinyLM, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        optimizer.zero_grad()
        loss = model.loss(step)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("tied", [False, True])
def test_muon_takes_the_hidden_matrices_and_adamw_all_else(tied: bool) -> None:
    model = TinyLM(tied)
    assert [id(p) for p in hidden_matrices(model)] == [id(model.hidden.weight)]
    optimizer = make("muon", model)
    train(model, optimizer, range(1))
    for name, param in model.named_parameters():
        expected = {"momentum_buffer"} if name == "hidden.weight" else {"step", "exp_avg"}
        assert expected <= optimizer.state[param].keys(), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(model.parameters())
    )


def test_muon_makes_the_steps_of_torchs_two_optimizers() -> None:
    ours, reference = TinyLM(), TinyLM()
    losses = train(ours, make("muon", ours), range(5))
    muon = torch.optim.Muon(
        [reference.hidden.weight], lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    rest = [p for p in reference.parameters() if p is not reference.hidden.weight]
    adamw = torch.optim.AdamW(rest, lr=1e-2, weight_decay=0.01)
    expected = []
    for step in range(5):
        loss = reference.loss(step)
        reference.zero_grad()
        loss.backward()
        muon.step()
        adamw.step()
        expected.append(float(loss.detach()))
    assert losses == expected
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_groups_say_whose_weight_decay_is_decoupled(name: str) -> None:
    """And keep it of a state that does not say so."""
    parameters = [torch.nn.Parameter(torch.ones(size)) for size in ((4, 4), (4,))]
    optimizer = make_optimizer(name, parameters, matrices=parameters[:1], weight_decay=0.1)
    silent = optimizer.state_dict()
    for group in silent["param_groups"]:
        group.pop("decoupled_weight_decay")
    with keeping_settings(optimizer):
        optimizer.load_state_dict(silent)
    assert all(group["decoupled_weight_decay"] for group in optimizer.param_groups)
    sgd = make_optimizer("sgd", parameters, weight_decay=0.1)
    assert not any(group.get("decoupled_weight_decay") for group in sgd.param_groups)


@pytest.mark.parametrize("matrices", [True, False])
def test_muon_with_one_of_its_parts_empty_trains(matrices: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = MuonWithAdamW(*(([weight], []) if matrices else ([], [weight])))
    weight.square().sum().backward()
    optimizer.step()
    assert (weight != 1).all() and len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    model = TinyLM()
    losses = train(model, make(name, model), range(60))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_goes_on_from_its_state_bit_for_bit(name: str) -> None:
    whole, half, other = TinyLM(), TinyLM(), TinyLM()
    settings = {"momentum": 0.9} if name == "sgd" else {}
    train(whole, make(name, whole, **settings), range(6))
    first = make(name, half, **settings)
    train(half, first, range(3))
    other.load_state_dict(half.state_dict())
    second = make(name, other, **settings)
    second.load_state_dict(first.state_dict())
    train(other, second, range(3, 6))
    for one, two in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.5, "nesterov": True},
    "muon": {"momentum": 0.5, "nesterov": False},
    "adamw": {"eps": 1e-4},
    **{name: {"eps": 1e-4} for name in EIGHT_BIT},
}


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]


@pytest.mark.parametrize("name", NAMES)
def test_a_state_may_bring_moments_and_step_counts_without_settings(name: str) -> None:
    """Then the next step is the one of the old optimizer, had its settings been changed."""
    old_model, model = TinyLM(), TinyLM()
    old = make(name, old_model, **({"momentum": 0.9} if name == "sgd" else {}))
    train(old_model, old, range(3))
    model.load_state_dict(old_model.state_dict())
    new = make_optimizer(
        name,
        model.parameters(),
        matrices=hidden_matrices(model),
        betas=(0.5, 0.6),
        weight_decay=0.3,
        settings=OTHER_SETTINGS[name],
    )
    for group in new.param_groups:
        group["lr"] = 0.02
    expected = settings_of(new)
    with keeping_settings(new):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    assert settings_of(new) == expected
    old_settings = settings_of(old)
    assert all(own != theirs for own, theirs in zip(expected, old_settings, strict=True))
    for group, own in zip(old.param_groups, expected, strict=True):
        group.update(own)
    train(old_model, old, range(3, 5))
    train(model, new, range(3, 5))
    for one, other in zip(old_model.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_settings_are_kept_where_an_optimizer_replaces_its_groups() -> None:
    """As bitsandbytes' do, past torch's own way of loading."""

    class Replacing(torch.optim.SGD):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            groups = [dict(group) for group in state_dict["param_groups"]]
            for group, own in zip(groups, self.param_groups, strict=True):
                group["params"] = own["params"]
            self.__setstate__({"state": state_dict["state"], "param_groups": groups})

    weight = torch.nn.Parameter(torch.ones(2))
    saved = torch.optim.SGD([weight], lr=0.5, weight_decay=0.9, momentum=0.9).state_dict()
    saved["param_groups"][0]["initial_lr"] = 0.5  # of a scheduler that is no more
    optimizer = Replacing([weight], lr=0.1, weight_decay=0.0)
    expected = settings_of(optimizer)
    with keeping_settings(optimizer):
        optimizer.load_state_dict(saved)
    assert settings_of(optimizer) == expected


def test_amsgrad_can_be_turned_on_for_a_state_without_it() -> None:
    model = TinyLM()
    old = make("adamw", model)
    train(model, old, range(2))
    new = make("adamw", model, amsgrad=True)
    with keeping_settings(new):
        new.load_state_dict(old.state_dict())
    losses = train(model, new, range(2, 30))
    assert losses[-1] < losses[0]


@needs_bitsandbytes
@pytest.mark.parametrize("name", EIGHT_BIT)
def test_eight_bit_moments_are_of_eight_bits_and_near_adamw(name: str) -> None:
    model, reference = TinyLM(), TinyLM()
    start = model.hidden.weight.detach().clone()
    optimizer = make(name, model)
    train(model, optimizer, range(3))
    train(reference, make("adamw", reference), range(3))
    assert optimizer.state[model.hidden.weight]["state1"].dtype == torch.uint8
    step, expected = model.hidden.weight - start, reference.hidden.weight - start
    assert torch.linalg.vector_norm(step - expected) < 0.2 * torch.linalg.vector_norm(expected)


def test_adamw_is_torchs_with_the_same_decay_on_all_parameters() -> None:
    model = TinyLM()
    optimizer = make_optimizer("adamw", model.parameters(), betas=(0.8, 0.9), weight_decay=0.3)
    assert type(optimizer) is torch.optim.AdamW
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.8, 0.9), 0.3)


REFUSED = [
    ("adam", {}, "optimizer='adam': must be one of", "did you mean 'adamw'?"),
    (None, {}, "optimizer=None: must be one of", ""),
    ("sgd", {"momentun": 0.9}, "optimizer_kwargs['momentun']=0.9: ", "did you mean 'momentum'?"),
    ("sgd", {"momentum": -1}, "optimizer_kwargs={'momentum': -1}: 'sgd' refuses", "momentum"),
    ("adamw", {"lr": 1.0}, "optimizer_kwargs['lr']=1.0: set lr instead", ""),
    ("adamw", {"betas": (0, 0)}, "optimizer_kwargs['betas']=(0, 0): set adam_betas", ""),
    ("adamw", {"params": []}, "optimizer_kwargs['params']=[]: 'adamw' has only", ""),
    ("adamw", {"fused": True, "foreach": True}, "optimizer_kwargs={'fused': True", "foreach"),
    ("adamw", 5, "optimizer_kwargs=5: must be a dict", ""),
    ("muon", {"adjust_lr_fn": "x"}, "optimizer_kwargs={'adjust_lr_fn': 'x'}: ", "not supported"),
]


@pytest.mark.parametrize(("name", "settings", "begins", "has"), REFUSED)
def test_what_is_no_setting_is_refused_by_field(name, settings, begins, has) -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(ValueError) as caught:
        make_optimizer(name, [weight], matrices=[weight], settings=settings)
    assert str(caught.value).startswith(begins) and has in str(caught.value)


@pytest.mark.parametrize("betas", [(0.9, 1.0), (0.9,), 0.9, ("a", "b"), (-0.1, 0.9)])
def test_betas_out_of_range_are_refused(betas: Any) -> None:
    with pytest.raises(ValueError, match=r"adam_betas=.*: must be two numbers in \[0, 1\)"):
        make_optimizer("adamw", [torch.nn.Parameter(torch.zeros(1))], betas=betas)


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_a_missing_package_is_named_with_what_to_install(name, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "bitsandbytes" else found(n, *a)
    )
    with pytest.raises(ValueError) as caught:
        make_optimizer(name, [torch.nn.Parameter(torch.zeros(1))])
    assert str(caught.value) == (
        f"optimizer={name!r}: bitsandbytes is not installed; pip install "
        "'bitsandbytes>=0.50', or use optimizer='adamw'"
    )


IN_A_STEP = [
    ("adamw", {"capturable": True}, "must be False"),
    ("adamw", {"differentiable": True}, "must be False"),
    ("sgd", {"maximize": True}, "must be False"),
    ("adamw", {"eps": math.inf}, "must be a finite number"),
    ("sgd", {"momentum": math.inf}, "must be a finite number"),
    ("muon", {"ns_steps": "5"}, "refuses it in a step"),
    ("muon", {"ns_steps": 2.5}, "refuses it in a step"),
    ("muon", {"ns_steps": 1000}, "refuses it in a step"),
    ("muon", {"ns_coefficients": (3.4, -4.7)}, "refuses it in a step"),
]


@pytest.mark.parametrize(("name", "settings", "why"), IN_A_STEP, ids=str)
def test_what_would_break_the_first_step_is_refused(name: str, settings: dict, why: str) -> None:
    found = optimizer_problems(name, betas=(0.9, 0.999), weight_decay=0.0, settings=settings)
    (problem,) = found
    assert problem.startswith("optimizer_kwargs") and why in problem
    assert all(key in problem and repr(value) in problem for key, value in settings.items())
