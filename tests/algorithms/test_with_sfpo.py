"""SFPO on RLlib's own algorithms: CartPole, no language model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

import cloudpickle
from probes import assert_equal_weights
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.utils.metrics import ALL_MODULES

from sfpo_rllib import with_sfpo, with_update_rule
from sfpo_rllib.core.update_rules import slow_fast

Running = Callable[[Algorithm], Algorithm]

FAST_STEPS = 3


def ppo(**training: Any) -> PPOConfig:
    """Two epochs of two mini-batches, whole episodes cut at 128 steps, in one process."""
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        .rl_module(model_config={"fcnet_hiddens": [16], "vf_share_layers": False})
        .training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=2, **training)
        .debugging(seed=0)
    )


@pytest.fixture
def update_events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Optimizer steps and repositions, as they happen."""
    events: list[str] = []
    slow_fast_update, step = slow_fast.slow_fast_update, torch.optim.Adam.step

    def spied_update(*args: Any, on_reposition: Callable, **kwargs: Any) -> Any:
        def report(measures: Any) -> None:
            events.append("reposition")
            on_reposition(measures)

        return slow_fast_update(*args, on_reposition=report, **kwargs)

    def spied_step(optimizer: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        events.append("step")
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(slow_fast, "slow_fast_update", spied_update)
    monkeypatch.setattr(torch.optim.Adam, "step", spied_step)
    return events


def sfpo_results(result: dict[str, Any]) -> dict[str, float]:
    return result["learners"][ALL_MODULES]["sfpo"]


def test_argument_is_left_alone() -> None:
    config = ppo().learners(learner_config_dict={"mine": 1})
    before = config.to_dict()
    changed = with_sfpo(config, reposition_alpha=0.5)

    assert config.to_dict() == before
    assert changed is not config
    assert isinstance(changed, type(config))
    assert changed.learner_config_dict["mine"] == 1
    assert issubclass(changed.learner_class, config.learner_class)
    assert changed.learner_class is not config.learner_class


def test_minibatch_is_repositioned_between_fast_steps_and_slow_one(
    running: Running, update_events: list[str]
) -> None:
    running(ppo().build_algo()).train()
    plain_steps = update_events.copy()
    update_events.clear()
    result = running(with_sfpo(ppo(), fast_steps=FAST_STEPS).build_algo()).train()

    assert len(plain_steps) >= 4  # RLlib may need a mini-batch more than 2 x 2
    one_minibatch = ["step"] * FAST_STEPS + ["reposition", "step"]
    assert update_events == one_minibatch * len(plain_steps)
    measured = sfpo_results(result)
    assert measured["active"] == 1
    assert measured["pull_back_norm"] == pytest.approx(0.2 * measured["displacement_norm"])
    assert measured["displacement_norm"] > 0


def test_trigger_fires_and_stays_fired_across_a_checkpoint(
    running: Running, update_events: list[str], tmp_path: Path
) -> None:
    config = with_sfpo(ppo(), entropy_window=3, entropy_z_threshold=-10.0)
    algo = running(config.build_algo())
    result = algo.train()
    one_minibatch = ["step"] * FAST_STEPS + ["reposition", "step"]
    plain = len(update_events) - 3 * len(one_minibatch)
    assert plain > 0
    assert update_events == one_minibatch * 3 + ["step"] * plain
    assert sfpo_results(result)["active"] == 0
    assert math.isfinite(sfpo_results(result)["entropy_z"])

    update_events.clear()
    restored = running(Algorithm.from_checkpoint(algo.save_to_path(tmp_path / "checkpoint")))
    trigger = restored.learner_group._learner._updater.trigger.state_dict()
    assert trigger == algo.learner_group._learner._updater.trigger.state_dict()
    assert trigger["fired"]
    restored.train()
    assert set(update_events) == {"step"}


@pytest.mark.slow
def test_replicas_stay_equal(running: Running) -> None:
    """The trigger fires while they train, at a z-score that each would see elsewhere alone."""
    config = with_sfpo(ppo(), entropy_window=3, entropy_z_threshold=0.0).learners(num_learners=2)
    algo = running(config.build_algo())
    for _ in range(3):
        algo.train()

    def state(learner: Learner) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        weights = learner.module[DEFAULT_MODULE_ID].unwrapped().state_dict()
        return dict(weights), learner._updater.trigger.state_dict()

    one, other = (result.get() for result in algo.learner_group.foreach_learner(state))
    assert_equal_weights(one[0], other[0])
    assert one[1] == other[1]
    assert one[1]["fired"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fast_steps": 0}, r"^fast_steps=0: must be an integer >= 1"),
        ({"reposition_alpha": 1.5}, r"^reposition_alpha=1\.5: must be a number in \[0, 1\]"),
        ({"reposition_alpha": "0.8"}, r"^reposition_alpha='0\.8': must be a number"),
        (
            {"fast_steps": 1.5, "reposition_alpha": -1},
            r"^fast_steps=1\.5: must be .*\nreposition_alpha=-1: must be",
        ),
        ({"entropy_window": 1}, r"^entropy_window=1: must be an integer >= 2"),
        ({"entropy_z_threshold": None}, r"^entropy_z_threshold=None: must be a number"),
        (
            {"entropy_window": 5, "entropy_z_threshold": 2.1},
            r"^entropy_z_threshold=2\.1: must be below sqrt\(entropy_window - 1\) = 2,",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_sfpo(ppo(), **settings)


def test_learners_without_torch_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a TorchLearner"):
        with_sfpo(ppo().learners(learner_class=Learner))


@pytest.mark.parametrize("config", [{"lr": 1e-3}, PPOConfig, None], ids=str)
def test_what_is_no_config_is_refused(config: Any) -> None:
    with pytest.raises(ValueError, match=r"^config=.*: must be an AlgorithmConfig"):
        with_sfpo(config)


@pytest.mark.parametrize("first", [with_sfpo, lambda config: with_update_rule(config, "single")])
@pytest.mark.parametrize("second", [with_sfpo, lambda config: with_update_rule(config, "single")])
def test_a_second_rule_is_refused_by_the_name_of_the_first(
    first: Callable[[Any], Any], second: Callable[[Any], Any]
) -> None:
    once = first(ppo())
    name = once.learner_config_dict["sfpo"]["update_rule"]
    with pytest.raises(ValueError, match=f"has a rule already, .*'update_rule': '{name}'"):
        second(once)


# Set later: `validate()` and `build_algo()` look again.

OLD_STACK = {"enable_rl_module_and_learner": False, "enable_env_runner_and_connector_v2": False}
NO_LEARNER = "must be True, as the update rule lives in a Learner, which the old API stack"


def test_the_old_api_stack_is_refused_before_and_after() -> None:
    message = f"^enable_rl_module_and_learner=False: {NO_LEARNER}"
    with pytest.raises(ValueError, match=message):
        with_sfpo(ppo().api_stack(**OLD_STACK))
    config = with_sfpo(ppo()).api_stack(**OLD_STACK)
    for check in (config.validate, config.build_algo):
        with pytest.raises(ValueError, match=message):
            check()


@pytest.mark.parametrize(
    ("learners", "message"),
    [
        ({"learner_class": PPOTorchLearner}, "^learner_class=.* has no update rule any more"),
        (
            {"learner_config_dict": {"sfpo": {"alpha": 0.5}}},
            r"^learner_config_dict\['sfpo'\]=\{'alpha': 0.5\}: must be a dict with at least",
        ),
        ({"learner_config_dict": {"sfpo": None}}, r"^learner_config_dict\['sfpo'\]=None: must"),
        (
            {"learner_config_dict": {"sfpo": {"update_rule": "slow_fast", "alpha": 2}}},
            "^alpha=2: must be a number in",
        ),
    ],
    ids=str,
)
def test_what_keeps_the_rule_from_its_work_is_refused(
    learners: dict[str, Any], message: str
) -> None:
    config = with_sfpo(ppo()).learners(**learners)
    with pytest.raises(ValueError, match=message):
        config.validate()


def test_all_that_is_wrong_is_said_at_once() -> None:
    config = with_sfpo(ppo()).api_stack(**OLD_STACK).learners(learner_class=PPOTorchLearner)
    with pytest.raises(ValueError) as caught:
        config.validate()
    fields = [line.partition("=")[0] for line in str(caught.value).splitlines()]
    assert fields == [*OLD_STACK, "learner_class"]


def test_a_config_that_is_copied_pickled_or_changed_still_looks() -> None:
    config = with_sfpo(ppo()).training(lr=1e-3)
    for again in (config.copy(), cloudpickle.loads(cloudpickle.dumps(config))):
        again.validate()
        assert again.lr == 1e-3
        assert again.learner_config_dict == config.learner_config_dict
        with pytest.raises(ValueError, match=NO_LEARNER):
            again.api_stack(**OLD_STACK).validate()
