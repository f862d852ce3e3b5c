"""Every optimizer and every learning rate through the algorithm: trained, saved, gone on with."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from probes import ECHO, assert_equal_weights, train

from sfpo_rllib import GRPO, SFPO, SFPOConfig
from sfpo_rllib.core.lr_schedule import LRSchedule
from sfpo_rllib.core.optimizers import OPTIMIZERS

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]

HALF = 2  # iterations
SCHEDULE: dict[str, Any] = {
    "lr_schedule": "cosine",
    "lr_warmup_batches": 2,
    "lr_total_batches": 5,
    "lr_min_ratio": 0.1,
}
EXPECTED = [LRSchedule(1e-2, **SCHEDULE).at(batch) for batch in range(2 * HALF)]

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes"
)
NAMES = [
    pytest.param(name, marks=needs_bitsandbytes) if "8bit" in name else name for name in OPTIMIZERS
]


def logged_rates(results: list[dict[str, Any]]) -> list[float]:
    """The rate of each iteration, as the results have it."""
    key = "default_optimizer_learning_rate"
    return [float(result["learners"]["default_policy"][key]) for result in results]


def step_rates(algo: SFPO) -> list[list[float]]:
    """A list that fills with the rates of the optimizer steps, one entry a batch."""
    learner = algo.learner_group._learner
    batches: list[list[float]] = []
    update = learner._update

    def spied_update(*args: Any, **kwargs: Any) -> Any:
        batches.append([])
        return update(*args, **kwargs)

    learner._update = spied_update
    optimizer = learner.get_optimizer()
    optimizer.register_step_pre_hook(
        lambda *_: batches[-1].append(float(optimizer.param_groups[-1]["lr"]))
    )
    return batches


def test_all_steps_on_a_batch_have_its_rate_which_is_logged(
    make_config: MakeConfig, running: Running
) -> None:
    config = make_config(env=ECHO).training(lr=1e-2, minibatch_size=8, **SCHEDULE)
    algo = running(config.build_algo())
    steps = step_rates(algo)
    _, results = train(algo, 2 * HALF)
    # K + 1 = 4 passes of 2 mini-batches.
    assert steps == [[rate] * 8 for rate in EXPECTED]
    assert logged_rates(results) == pytest.approx(EXPECTED, rel=1e-6)


def test_a_warm_up_over_optimizer_steps_goes_on_where_a_checkpoint_left_it(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    settings = {"lr": 1e-2, "minibatch_size": 8, "fast_steps": 1, "lr_warmup_steps": 5}
    config = make_config(env=ECHO).training(**settings)
    whole = running(config.copy(copy_frozen=False).build_algo())
    steps = step_rates(whole)
    _, results = train(whole, 1)
    second = running(SFPO.from_checkpoint(whole.save_to_path(tmp_path / "checkpoint")))
    steps_of_second = step_rates(second)
    for algo in (whole, second):
        _, more = train(algo, 1)
    # 2 passes of 2 mini-batches a batch.
    rates = [1e-2 * min((step + 1) / 6, 1.0) for step in range(8)]
    assert steps == [rates[:4], rates[4:]] and steps_of_second == [rates[4:]]
    assert logged_rates([*results, *more]) == pytest.approx([rates[3], rates[7]])
    assert_equal_weights(whole.get_module_weights(), second.get_module_weights())


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_run_goes_on_with_rate_and_optimizer_bit_for_bit(
    make_config: MakeConfig, running: Running, tmp_path: Path, name: str
) -> None:
    config = make_config(env=ECHO).training(lr=1e-2, optimizer=name, **SCHEDULE)
    if name == "sgd":
        config.training(optimizer_kwargs={"momentum": 0.9})
    whole, first = (running(config.copy(copy_frozen=False).build_algo()) for _ in range(2))
    _, results = train(whole, 2 * HALF)
    train(first, HALF)
    second = running(SFPO.from_checkpoint(first.save_to_path(tmp_path / "checkpoint")))
    _, resumed = train(second, HALF)
    assert logged_rates(resumed) == logged_rates(results)[HALF:]
    assert logged_rates(resumed) == pytest.approx(EXPECTED[HALF:], rel=1e-6)
    assert_equal_weights(whole.get_module_weights(), second.get_module_weights())


def test_rllibs_schedule_of_timesteps_still_works(
    make_config: MakeConfig, running: Running
) -> None:
    # 16 single-turn episodes a batch.
    algo = running(make_config(env=ECHO).training(lr=[[0, 1e-2], [64, 2e-3]]).build_algo())
    steps = step_rates(algo)
    assert type(algo.learner_group._learner.get_optimizer().param_groups[0]["lr"]) is float
    _, results = train(algo, 2)
    assert [rates[0] for rates in steps] == pytest.approx([1e-2, 8e-3])
    assert logged_rates(results) == pytest.approx([8e-3, 6e-3])  # RLlib logs the next one


OTHERS: dict[str, dict[str, Any]] = {
    "adamw": {"eps": 1e-5},
    "muon": {"momentum": 0.5},
    "sgd": {"momentum": 0.5},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_goes_on_under_the_settings_of_another_config(
    make_config: MakeConfig, running: Running, tmp_path: Path, name: str
) -> None:
    """As when Tune's PBT copies a trial: moments and step counts are the checkpoint's."""
    config = make_config(env=ECHO).training(lr=1e-2, optimizer=name)
    if name == "sgd":
        config.training(optimizer_kwargs={"momentum": 0.9})
    first = running(config.build_algo())
    train(first, HALF)
    checkpoint = first.save_to_path(tmp_path / "checkpoint")
    other = config.copy(copy_frozen=False).training(
        lr=[[0, 1e-3], [64, 2e-4]],  # 16 episodes a batch
        weight_decay=0.3,
        adam_betas=(0.5, 0.6),
        optimizer_kwargs=OTHERS[name],
    )
    second = running(other.build_algo())
    optimizer = second.learner_group._learner.get_optimizer()
    expected = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    second.restore_from_path(checkpoint)

    saved = first.learner_group._learner.get_optimizer().state_dict()
    assert optimizer.state_dict()["state"].keys() == saved["state"].keys()
    for index, moments in saved["state"].items():
        for key, value in moments.items():
            restored = optimizer.state_dict()["state"][index][key]
            assert torch.equal(torch.as_tensor(restored), torch.as_tensor(value)), key
    steps = step_rates(second)
    train(second, 2)
    # On from the 32nd episode, as if the schedule had been there from the start.
    assert [rates[0] for rates in steps] == pytest.approx([6e-4, 4e-4])
    kept = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    assert [g | {"lr": None} for g in kept] == [g | {"lr": None} for g in expected]


def test_a_schedule_of_timesteps_goes_on_where_it_was(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    config = make_config(env=ECHO).training(lr=[[0, 1e-2], [64, 2e-3]])
    whole, first = (running(config.copy(copy_frozen=False).build_algo()) for _ in range(2))
    _, results = train(whole, 2 * HALF)
    train(first, HALF)
    second = running(SFPO.from_checkpoint(first.save_to_path(tmp_path / "checkpoint")))
    steps = step_rates(second)
    _, resumed = train(second, HALF)
    assert [rates[0] for rates in steps] == pytest.approx([6e-3, 4e-3])
    assert logged_rates(resumed) == logged_rates(results)[HALF:]
    assert_equal_weights(whole.get_module_weights(), second.get_module_weights())


def test_the_moments_of_another_optimizer_are_refused(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    first = running(make_config(env=ECHO).build_algo())
    train(first, 1)
    checkpoint = first.save_to_path(tmp_path / "checkpoint")
    second = running(make_config(env=ECHO).training(optimizer="sgd").build_algo())
    with pytest.raises(ValueError, match="optimizer='sgd': must be 'adamw', the checkpoint's"):
        second.restore_from_path(checkpoint)
