"""Evaluation: its settings, a function of the user's in its place, what callbacks log in it."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from probes import ECHO, seeds
from ray.rllib.callbacks.callbacks import RLlibCallback
from refusals import one_problem

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.algorithms.grpo.evaluation_settings import grades_training_problems

METRICS_PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[SFPO], SFPO]


# Settings.


def temperature(config: SFPOConfig, **evaluation: Any) -> float:
    config.evaluation(**evaluation)
    return config.get_evaluation_config_object().sampling_settings.temperature


def test_without_exploration_an_evaluation_is_greedy(good):
    good.env_runners(sampling={"temperature": 0.7, "max_tokens": 4})
    assert temperature(good) == 0.7
    assert temperature(good, evaluation_config={"explore": False}) == 0
    assert temperature(good, evaluation_config=SFPOConfig.overrides(explore=False)) == 0
    assert good.get_evaluation_config_object().sampling_settings.max_tokens == 4
    assert good.sampling_settings.temperature == 0.7
    assert good.evaluation_config == {"explore": False}
    good.validate()


@pytest.mark.parametrize(("said", "expected"), [({"temperature": 0.7}, 0.7), ({}, 0)])
def test_a_temperature_that_evaluation_says_stands(good, said, expected):
    good.env_runners(sampling={"temperature": 0.7, "max_tokens": 4})
    overrides = {"explore": False, "sampling": {"max_tokens": 4, **said}}
    assert temperature(good, evaluation_config=overrides) == expected


def test_a_whole_config_may_evaluate_without_exploration(good):
    whole = good.copy(copy_frozen=False).env_runners(explore=False)
    assert temperature(good, evaluation_config=whole) == 0
    whole.env_runners(sampling={"temperature": 0.3, "max_tokens": 4})
    assert temperature(good, evaluation_config=whole) == 0.3


@pytest.mark.parametrize("greedy", [{"explore": False}, {"sampling": {"temperature": 0}}], ids=str)
def test_a_greedy_evaluation_has_one_reply_to_each_problem(good, greedy):
    good.evaluation(evaluation_config=greedy)
    evaluation = good.get_evaluation_config_object()
    evaluation.validate()
    assert (evaluation.group_size, good.group_size) == (1, 4)
    good.evaluation_config = good.copy(copy_frozen=False).update_from_dict(greedy)
    assert good.get_evaluation_config_object().group_size == 1


@pytest.mark.parametrize("overrides", [{}, {"explore": False, "sampling": {"temperature": 1.0}}])
def test_a_sampled_evaluation_has_as_many_replies_as_training(good, overrides):
    good.evaluation(evaluation_config=overrides)
    assert good.get_evaluation_config_object().group_size == good.group_size


def test_several_greedy_replies_to_a_problem_are_refused(good):
    good.evaluation(evaluation_config={"explore": False, "group_size": 4})
    field = "evaluation_config['group_size']"
    one_problem(
        good.get_evaluation_config_object(), field, 4, "must be 1, or left out, with greedy"
    )


def test_training_without_exploration_is_refused(good):
    one_problem(good.env_runners(explore=False), "explore", False, "must be True in training")


def test_it_is_seen_whether_evaluation_has_problems_of_its_own(good):
    def grades(**overrides: Any) -> bool:
        good.evaluation(evaluation_config=overrides)
        return grades_training_problems(good, good.get_evaluation_config_object())

    assert grades() and grades(group_size=2)
    assert not grades(env=ECHO)
    assert not grades(env_config={"num_digits": 1})
    good.environment(env_config={"table": np.zeros(2)})
    assert not grades(env_config={"table": np.ones(2)})


# What comes of it.


class LogEpisodes(RLlibCallback):
    """Logs in the runners, in ways that RLlib has."""

    def on_episode_end(self, *, episode: Any, metrics_logger: Any, **kwargs: Any) -> None:
        metrics_logger.log_value("my_episodes", 1, reduce="sum")
        metrics_logger.log_value(("mine", "turns"), len(episode), reduce="mean", window=100)


def log_seen(*, samples: list, metrics_logger: Any, **kwargs: Any) -> None:
    metrics_logger.log_value("my_samples_lifetime", len(samples), reduce="lifetime_sum")


def log_evaluation(*, algorithm: Any, metrics_logger: Any, evaluation_metrics: dict, **kwargs: Any):
    evaluation_metrics["seen_at"] = algorithm.iteration
    metrics_logger.log_value("num_evaluations", 1, reduce="lifetime_sum")


@pytest.mark.parametrize("num_env_runners", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_what_callbacks_log_is_in_the_results_of_training_and_of_evaluation(
    make_config: MakeConfig, running: Running, num_env_runners: int
) -> None:
    config = (
        make_config(env=ECHO, env_config={"turns": 2})
        .env_runners(num_env_runners=num_env_runners)
        .callbacks([LogEpisodes], on_sample_end=log_seen, on_evaluate_end=log_evaluation)
        .evaluation(evaluation_duration=10, evaluation_interval=1)
    )
    algo = running(config.build_algo())
    for _ in range(2):
        evaluated = algo.evaluate()["env_runners"]
    assert evaluated["my_episodes"] == evaluated["num_episodes"] == 10
    assert evaluated["mine"]["turns"] == 2
    assert evaluated["my_samples_lifetime"] == 20
    result = algo.train()
    trained, evaluation = result["env_runners"], result["evaluation"]
    assert (trained["my_episodes"], trained["mine"]["turns"]) == (16, 2)
    assert trained["my_samples_lifetime"] == 16  # evaluation's are not among them
    assert evaluation["env_runners"]["my_episodes"] == 10
    assert evaluation["env_runners"]["my_samples_lifetime"] == 30
    assert evaluation["seen_at"] == 0
    assert result["num_evaluations"] == 2  # as RLlib has it, the third one is of the next result


def look(algorithm: SFPO, eval_workers: Any) -> tuple[dict[str, Any], int, int]:
    groups = algorithm.sample_evaluation()
    numbers = {
        "problems": seeds(groups),
        "episodes": sum(map(len, groups)),
        "versions": eval_workers.foreach_env_runner(lambda runner: runner.weights_version),
    }
    return numbers, 10, 10


def test_a_function_of_the_users_evaluates_in_its_place(
    make_config: MakeConfig, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    functions: list[Callable] = [look]
    config = make_config(env=ECHO).evaluation(
        evaluation_duration=10,
        evaluation_interval=1,
        custom_evaluation_function=lambda *given: functions[-1](*given),
    )
    algo = running(config.build_algo())
    with caplog.at_level(logging.WARNING):
        result = algo.evaluate()
        evaluation = algo.train()["evaluation"]
    assert (result["problems"], result["episodes"], result["versions"]) == ([0, 1, 2], 10, [0])
    assert evaluation["versions"] == [1]  # those that this iteration has trained
    assert set(result) == {"problems", "episodes", "versions"}
    warnings = [r.message for r in caplog.records if "grades training problems" in r.message]
    assert len(warnings) == 1  # said once

    def bare(algorithm: SFPO, eval_workers: Any) -> dict[str, float]:
        algorithm.metrics.log_value(("evaluation", "logged"), 3, reduce="sum")
        return {"returned": 2.0}

    functions.append(bare)
    assert algo.evaluate() == {"logged": 3, "returned": 2.0}
    for wrong in (None, 1.0, ({}, 1), ({}, "1", 2), (1, 2, 3)):
        functions.append(lambda *_, wrong=wrong: wrong)
        with pytest.raises(ValueError, match=r"custom_evaluation_function=.*must return"):
            algo.evaluate()
    assert algo.stage is None


def test_the_function_and_the_callback_of_the_docs_do_what_they_say(
    make_config: MakeConfig, running: Running
) -> None:
    names: dict[str, Any] = {"config": make_config(env=ECHO).evaluation(evaluation_duration=4)}
    for block in re.findall(r"```python\n(.*?)```", METRICS_PAGE, flags=re.DOTALL):
        exec(block, names)
    algo = running(names["config"].build_algo())
    assert 0 <= algo.evaluate()["best_of_group"] <= 1
    assert algo.train()["env_runners"]["num_words"] <= 4


def test_an_evaluation_with_problems_of_its_own_warns_of_nothing(
    make_config: MakeConfig, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(env_config={"num_digits": 1, "num_test": 6}).evaluation(
        evaluation_duration=4,
        evaluation_config={"env_config": {"split": "test"}, "explore": False},
    )
    algo = running(config.build_algo())
    with caplog.at_level(logging.WARNING):
        groups = algo.sample_evaluation()
    assert "grades training problems" not in caplog.text
    assert (seeds(groups), [len(group) for group in groups]) == ([0, 1, 2, 3], [1, 1, 1, 1])


@pytest.mark.slow
def test_an_evaluation_says_for_itself_whether_dead_runners_are_waited_for(
    make_config: MakeConfig, running: Running
) -> None:
    config = make_config().evaluation(
        evaluation_num_env_runners=1,
        evaluation_duration=4,
        evaluation_config={"restart_failed_env_runners": False},
    )
    algo = running(config.build_algo())
    runners = algo.eval_env_runner_group
    for runner in runners._worker_manager.actors().values():
        ray.kill(runner)
    with pytest.raises(RuntimeError, match="restart_failed_env_runners=False"):
        algo.evaluate()
    algo.train()
