"""Training end to end, in one process: results, update rule, trigger, evaluation, bad groups."""

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from probes import (
    ECHO,
    assert_equal_weights,
    greatest_difference,
    learned_groups,
    seeds,
    sfpo_results,
    train,
)
from ray.rllib.algorithms.algorithm import Algorithm
from sfpo_envs import ArithmeticEnv
from transformers import AutoModelForCausalLM, AutoTokenizer

from sfpo_rllib import GRPO, SFPO, GRPOConfig, SFPOConfig
from sfpo_rllib.core.update_rules import slow_fast
from sfpo_rllib.token_trace import TokenTrace

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]

ROLLOUT_KEYS = {
    *(f"episode_return_{what}" for what in ("mean", "min", "max")),
    *(f"episode_len_{what}" for what in ("mean", "min", "max")),
    "accuracy",
    "num_groups_equal_reward",
    "num_groups_dropped",
    *(f"completion_length_{what}" for what in ("mean", "min", "max")),
    "tokens_per_s",
    "weights_version",
}
PASS_KEYS = {"loss", "entropy", "kl_to_start", "clip_fraction", "grad_norm"}
SFPO_KEYS = {
    "active",
    "entropy",
    "entropy_z",
    "displacement_norm",
    "pull_back_norm",
    "optimizer_steps_lifetime",
    "refused_batches_lifetime",
    "skipped_steps_lifetime",
    "zero_gradient_steps_lifetime",
    "engine_logp_diff",
    "engine_logp_diff_max",
    "engine_ratio",
    "engine_ess",
    "engine_beyond_bounds",
}


@pytest.fixture
def update_events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Optimizer steps and repositions, as they happen."""
    events: list[str] = []
    slow_fast_update = slow_fast.slow_fast_update
    step = torch.optim.AdamW.step

    def spied_update(*args: Any, on_reposition: Callable, **kwargs: Any) -> Any:
        def report(measures: Any) -> None:
            events.append("reposition")
            on_reposition(measures)

        return slow_fast_update(*args, on_reposition=report, **kwargs)

    def spied_step(optimizer: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        events.append("step")
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(slow_fast, "slow_fast_update", spied_update)
    monkeypatch.setattr(torch.optim.AdamW, "step", spied_step)
    return events


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def without_speed(results: dict[str, Any]) -> dict[str, Any]:
    timed = ("tokens_per_s", "engine_busy_fraction")
    return {name: value for name, value in flat(results) if not name.endswith(timed)}


def test_results_have_the_documented_keys(make_config: MakeConfig, running: Running) -> None:
    config = make_config(env=ECHO).evaluation(evaluation_interval=1, evaluation_duration=8)
    result = running(config.build_algo()).train()

    assert set(result["env_runners"]) >= ROLLOUT_KEYS | {"num_rollouts_lifetime"}
    assert set(result["evaluation"]["env_runners"]) >= ROLLOUT_KEYS
    assert set(result["timers"]) >= {"sample", "learn", "sync_weights"}
    sfpo = sfpo_results(result)
    passes = {f"pass_{k}" for k in range(4)}
    assert set(sfpo) == SFPO_KEYS | passes
    assert all(set(sfpo[name]) == PASS_KEYS for name in passes)
    not_finite = {
        name
        for name, value in flat({key: result[key] for key in ("env_runners", "evaluation")})
        if not math.isfinite(value)
    }
    not_finite |= {name for name, value in flat(sfpo) if not math.isfinite(value)}
    assert not_finite == {"entropy_z"}  # there is no trigger
    assert result["env_runners"]["num_rollouts_lifetime"] == 16
    assert sfpo["pull_back_norm"] == pytest.approx(0.2 * sfpo["displacement_norm"])
    assert sfpo["entropy"] == sfpo["pass_3"]["entropy"]


@pytest.mark.parametrize(
    ("preset", "steps"), [("paper", [3, 1]), ("official_repo", [12, 4])], ids=lambda v: str(v)
)
def test_presets_reposition_once_a_batch(
    make_config: MakeConfig,
    running: Running,
    update_events: list[str],
    preset: str,
    steps: list[int],
) -> None:
    config = make_config(env=ECHO).training(preset=preset, entropy_z_threshold=None)
    algo = running(config.build_algo())
    update_events.clear()  # validation and the estimate of memory take steps of their own
    result = algo.train()

    fast, slow = steps
    assert update_events == ["step"] * fast + ["reposition"] + ["step"] * slow
    assert sfpo_results(result)["optimizer_steps_lifetime"] == fast + slow
    assert sfpo_results(result)["pass_0"]["kl_to_start"] >= 0


def test_batches_of_equal_rewards_are_warned_of_once_and_move_nothing(
    make_config: MakeConfig, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    algo = running(make_config().training(weight_decay=0.1).build_algo())
    before = algo.get_module_weights()
    for _ in range(2):
        result = algo.train()
    assert result["env_runners"]["num_groups_equal_reward"] == 4
    assert sfpo_results(result)["zero_gradient_steps_lifetime"] == 8
    assert_equal_weights(algo.get_module_weights(), before)
    said = [r.getMessage() for r in caplog.records if "equal rewards" in r.getMessage()]
    assert len(said) == 1 and "no optimizer step" in said[0]


def test_grpo_steps_once_a_minibatch(
    make_config: MakeConfig, running: Running, update_events: list[str]
) -> None:
    config = make_config(GRPOConfig, env=ECHO).training(minibatch_size=4)
    algo = running(config.build_algo())
    update_events.clear()
    sfpo = sfpo_results(algo.train())

    assert update_events == ["step"] * 4
    assert sfpo["optimizer_steps_lifetime"] == 4
    assert "pass_0" in sfpo and "pass_1" not in sfpo


def test_fired_trigger_leaves_one_plain_pass_a_batch(
    make_config: MakeConfig, running: Running, update_events: list[str]
) -> None:
    config = make_config(env=ECHO).training(entropy_window=2, entropy_z_threshold=-10)
    algo = running(config.build_algo())
    update_events.clear()
    results = [sfpo_results(algo.train()) for _ in range(4)]

    assert [r["active"] for r in results] == [1, 1, 0, 0]
    assert [r["optimizer_steps_lifetime"] for r in results] == [4, 8, 9, 10]
    assert update_events == ["step", "step", "step", "reposition", "step"] * 2 + ["step"] * 2
    assert math.isnan(results[0]["entropy_z"])
    assert all(math.isfinite(r["entropy_z"]) for r in results[1:])
    for plain in results[2:]:
        assert plain["displacement_norm"] == plain["pull_back_norm"] == 0
        assert plain["entropy"] == plain["pass_0"]["entropy"]
        assert all(math.isnan(plain[f"pass_{k}"]["loss"]) for k in (1, 2, 3))  # not passed


@pytest.mark.parametrize("saved_after", [1, 2], ids=["window half full", "fired"])
def test_trigger_goes_on_across_a_checkpoint(
    make_config: MakeConfig, running: Running, tmp_path: Path, saved_after: int
) -> None:
    config = make_config(env=ECHO).training(entropy_window=2, entropy_z_threshold=-10)
    algo = running(config.build_algo())
    active = [sfpo_results(algo.train())["active"] for _ in range(saved_after)]
    checkpoint = algo.save_to_path(tmp_path / "checkpoint")
    restored = running(SFPO.from_checkpoint(checkpoint))
    active += [sfpo_results(restored.train())["active"] for _ in range(4 - saved_after)]

    assert active == [1, 1, 0, 0]


def test_evaluation_is_deterministic_and_leaves_training_alone(
    make_config: MakeConfig, running: Running
) -> None:
    config = make_config(env=ECHO).evaluation(evaluation_duration=10).training(minibatch_size=4)
    plain, evaluated = (running(config.copy(copy_frozen=False).build_algo()) for _ in range(2))

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first, second = evaluated.evaluate(), evaluated.evaluate()
    assert states == (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
    )
    assert without_speed(first) == without_speed(second)
    assert first["env_runners"]["num_episodes"] == 10

    problems, _ = train(plain, 2)
    problems_evaluated, _ = train(evaluated, 1)
    evaluated.evaluate()
    problems_after, results_after = train(evaluated, 1)
    assert problems == problems_evaluated + problems_after
    assert results_after[0]["env_runners"]["num_rollouts_lifetime"] == 32
    assert_equal_weights(plain.get_module_weights(), evaluated.get_module_weights())


def test_evaluation_during_training_uses_its_own_settings(
    make_config: MakeConfig, running: Running
) -> None:
    num_test = 6
    config = make_config(env_config={"num_digits": 1, "num_test": num_test}).evaluation(
        evaluation_interval=1,
        evaluation_duration=24,
        evaluation_config={"env_config": {"split": "test"}, "sampling": {"max_tokens": 2}},
    )
    algo = running(config.build_algo())
    evaluate, evaluated = algo._rollouts.evaluate, []

    def spied_evaluate(*args: Any) -> Any:
        collection = evaluate(*args)
        evaluated.extend(collection.groups)
        return collection

    algo._rollouts.evaluate = spied_evaluate
    with learned_groups(algo) as batches:
        results = algo.train()["evaluation"]["env_runners"]

    test = ArithmeticEnv(num_digits=1, num_test=num_test, split="test")
    held_out = {problem.prompt for problem in test.problems()}
    assert {group[0].get_observations(0) for group in evaluated} == held_out
    assert not {group[0].get_observations(0) for group in batches[0]} & held_out
    assert results["completion_length_mean"] <= 2
    assert results["num_episodes"] == 24
    assert results["weights_version"] == 1  # those that this iteration has trained


def test_saved_folder_is_a_transformers_model_of_the_same_weights(
    make_config: MakeConfig, running: Running, tmp_path: Path, tiny_model: Path
) -> None:
    algo = running(make_config(env=ECHO).build_algo())
    before = algo.get_module_weights()
    algo.train()
    algo.save_pretrained(tmp_path / "model")

    weights = algo.get_module_weights()
    assert greatest_difference(before, weights) > 1e-4
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.dtype == torch.float32
    assert_equal_weights(model.state_dict(), weights)
    saved, original = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "model", tiny_model))
    assert saved("12+34=").input_ids == original("12+34=").input_ids


def test_dialogues_of_several_turns_train(make_config: MakeConfig, running: Running) -> None:
    algo = running(make_config(env=ECHO, env_config={"turns": 3}).build_algo())
    before = algo.get_module_weights()
    with learned_groups(algo) as batches:
        result = algo.train()

    rollouts = result["env_runners"]
    assert rollouts["num_rollouts_lifetime"] == rollouts["num_episodes"] == 16
    assert rollouts["num_env_steps_sampled"] == 48
    assert rollouts["episode_len_mean"] == 3
    assert sfpo_results(result)["engine_logp_diff"] < 1e-5
    assert greatest_difference(before, algo.get_module_weights()) > 1e-4
    for episode in (episode for group in batches[0] for episode in group):
        mask = TokenTrace.of(episode).loss_mask.astype(int)
        assert (np.diff(mask) == 1).sum() == 3  # three replies, with the environment's text between


def test_dropped_groups_are_counted_and_replaced(make_config: MakeConfig, running: Running) -> None:
    algo = running(make_config(env=ECHO, env_config={"raise_every": 3}).build_algo())
    problems, results = train(algo, 3)

    seen = [seed for batch in problems for seed in batch]
    issued = range(seen[0], seen[-1] + 1)
    assert all(len(batch) == 4 for batch in problems)
    assert sorted(seen) == [seed for seed in issued if seed % 3]
    dropped = sum(result["env_runners"]["num_groups_dropped"] for result in results)
    assert dropped in (len(issued) - 12, len(issued) - 11)  # one may be just before the first
    assert results[-1]["env_runners"]["num_rollouts_lifetime"] == 48


def test_environment_that_always_raises_ends_the_run(
    make_config: MakeConfig, running: Running
) -> None:
    algo = running(make_config(env=ECHO, env_config={"raise_every": 1}).build_algo())
    with pytest.raises(RuntimeError, match="does not like its seed"):
        algo.train()


def test_equal_reward_groups_are_resampled(make_config: MakeConfig, running: Running) -> None:
    config = make_config(env=ECHO, env_config={"equal_rewards_every": 2}).training(
        equal_reward_groups="resample", max_resampling_rounds=10
    )
    algo = running(config.build_algo())
    with learned_groups(algo) as batches:
        rollouts = algo.train()["env_runners"]

    assert len(batches[0]) == 4
    assert all(seed % 2 for seed in seeds(batches[0]))
    for group in batches[0]:
        assert len({episode.get_return() for episode in group}) > 1
    assert rollouts["num_groups_resampled"] >= 3
    assert rollouts["num_groups_equal_reward"] == rollouts["num_groups_resampled"]


def test_resampling_ends_when_all_rewards_are_equal(
    make_config: MakeConfig, running: Running
) -> None:
    config = make_config(env=ECHO, env_config={"equal_rewards_every": 1}).training(
        equal_reward_groups="resample", max_resampling_rounds=2
    )
    problems, results = train(running(config.build_algo()), 1)

    assert len(problems[0]) == 4
    assert results[0]["env_runners"]["num_groups_resampled"] == 8


def test_missing_resources_are_named_before_anything_starts(
    make_config: MakeConfig, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_start(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(Algorithm, "setup", must_not_start)
    config = make_config().env_runners(num_env_runners=50).learners(num_gpus_per_learner=1)
    with pytest.raises(ValueError) as error:
        config.build_algo()
    assert "CPU=51: the cluster has 8" in str(error.value)
    assert "GPU=1: the cluster has 0" in str(error.value)


def test_state_set_in_a_running_algorithm_reaches_its_engine(
    make_config: MakeConfig, running: Running
) -> None:
    trained = running(make_config().build_algo())
    trained.train()
    other = running(make_config().build_algo())
    other.set_state(trained.get_state())
    assert_equal_weights(other.get_module_weights(), trained.get_module_weights())
    result = other.train()
    assert sfpo_results(result)["engine_logp_diff"] < 1e-5
    assert result["env_runners"]["weights_version"] == 1
