"""`evaluation_config`: what evaluation reads is honoured, and all else refused by name."""

import pytest
from own_rules import HeavyBall
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from refusals import one_problem, problems_of

from sfpo_rllib import GRPOConfig

pytestmark = pytest.mark.usefixtures("nothing_heavy")

UNREAD = {
    "lr": 1e-3,
    "loss": "dapo",
    "update_rule": "single",
    "train_batch_size_per_learner": 8,
    "max_staleness": 1,
    "weight_transport": "nccl",
    "sleep_while_learning": True,
    "num_learners": 2,
    "num_env_runners": 1,
    "kl_coeff": 0.1,
    "optimizer": "sgd",
    "curriculum": None,
    "evaluation_interval": 1,
    "evaluation_config": {"lr": 1.0},
    "evaluation_num_env_runners": 1,
    "model_config": {"dtype": "bfloat16"},
    "learner_class": 3,
    "seed": 1,
    "rollout_timeout_s": 3.0,
    "callbacks_on_evaluate_start": print,
    "log_level": "DEBUG",
    "num_consecutive_env_runner_failures_tolerance": 1,
    "no_such_setting": 1,
}


@pytest.mark.parametrize(("name", "value"), UNREAD.items(), ids=UNREAD)
def test_what_evaluation_does_not_read_is_refused(good, name, value):
    good.evaluation(evaluation_config={name: value}, evaluation_num_env_runners=1)
    field = f"evaluation_config[{name!r}]"
    one_problem(good, field, value, "must be left out; evaluation reads [", "'sampling'")


def test_engines_are_evaluations_own_with_runners_of_its_own(good):
    own = {"engine_kwargs": {"max_batch_size": 2}, "num_gpus_per_env_runner": 0}
    good.evaluation(evaluation_config=own, evaluation_num_env_runners=1).validate()
    problems = problems_of(good.evaluation(evaluation_num_env_runners=0))
    assert [p.split("=")[0] for p in problems] == [f"evaluation_config[{n!r}]" for n in own]
    assert all("it is read with evaluation_num_env_runners > 0" in p for p in problems)


class Watching(RLlibCallback):
    """Another one than training's."""


READ = {
    "env_config": {"num_digits": 3},
    "explore": False,
    "sampling": {"top_k": 3},
    "group_size": 1,
    "env_timeout_s": 9.0,
    "num_env_threads": 1,
    "prompt_format": "raw",
    "evaluation_duration": 4,
    "custom_evaluation_function": print,
    "callbacks": Watching,
    "callbacks_on_episode_end": print,
}


@pytest.mark.parametrize("name", READ)
def test_what_evaluation_reads_may_be_its_own(good, name):
    good.evaluation(evaluation_config={name: READ[name]}).validate()
    evaluated = good.get_evaluation_config_object()
    evaluated.validate()
    attribute = "callbacks_class" if name == "callbacks" else name
    assert getattr(evaluated, attribute) != getattr(good, attribute)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"env_config": 3}, "evaluation_config['env_config']=3: must be a dict"),
        ({"explore": "no"}, "evaluation_config['explore']='no': must be True or False"),
        ({"callbacks": 3}, "evaluation_config['callbacks']=3: must be a subclass of RLlibCallback"),
        (
            {"callbacks_on_sample_end": 3},
            "evaluation_config['callbacks_on_sample_end']=3: must be ",
        ),
        ({"sampl": {}}, "evaluation_config['sampl']={}: must be left out; did you mean 'sampling'"),
    ],
)
def test_values_that_rllib_stumbles_over_are_named(good, given, problem):
    (found,) = problems_of(good.evaluation(evaluation_config=given))
    assert found.startswith(problem)


def test_a_class_of_callbacks_may_be_a_text(good):
    path = "ray.rllib.callbacks.callbacks.RLlibCallback"
    good.evaluation(evaluation_config={"callbacks_class": path}).validate()
    assert good.get_evaluation_config_object().callbacks_class is RLlibCallback


def test_problems_of_an_evaluation_say_whose_they_are(good):
    good.evaluation(evaluation_config={"group_size": 0, "sampling": {"top_k": -9}}).validate()
    assert [p.split("=")[0] for p in problems_of(good.get_evaluation_config_object())] == [
        "evaluation_config['group_size']",
        "evaluation_config['sampling']['top_k']",
    ]


def test_a_whole_config_says_what_evaluation_reads(make_config):
    good = make_config(GRPOConfig).training(update_rule=HeavyBall(0.5))
    whole = good.copy(copy_frozen=False).env_runners(sampling={"top_k": 3})
    good.evaluation(evaluation_config=whole, evaluation_interval=1).validate()
    evaluated = good.get_evaluation_config_object()
    evaluated.validate()
    assert evaluated.sampling["top_k"] == 3
    whole.training(lr=0.5).env_runners(sampling={"top_k": -9})
    one_problem(good, "evaluation_config['lr']", 0.5, "must be left out; evaluation reads [")


def test_a_whole_config_of_another_algorithm_is_refused(good):
    (problem,) = problems_of(good.evaluation(evaluation_config=AlgorithmConfig()))
    assert problem.startswith("evaluation_config=<ray.rllib")
    assert problem.endswith("must be a dict of settings or a SFPOConfig")
