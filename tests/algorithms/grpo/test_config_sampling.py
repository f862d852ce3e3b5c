"""Settings of sampling: what parts replies from the policy is refused, but for evaluation."""

import math

import pytest
from refusals import one_problem, problems_of

from sfpo_rllib.env_runners.engines import SamplingSettings

pytestmark = pytest.mark.usefixtures("nothing_heavy")

SAMPLING = [
    ("max_tokens", 0, "integer >= 1"),
    ("temperature", 0, "number > 0", "evaluation"),
    ("temperature", -1.0, "number > 0"),
    ("temperature", math.nan, "number > 0"),
    ("top_p", 0.9, "must be 1", "evaluation"),
    ("top_p", 1.5, "(0, 1]"),
    ("top_k", 5, "must be 0", "evaluation"),
    ("top_k", -1, "integer >= 0"),
    ("max_token", 5, "did you mean 'max_tokens'?"),
    ("temperature", math.inf, "number > 0"),
    ("stops", ["a"], "did you mean 'stop'?"),
    ("include_stop_str_in_output", True, "no such setting"),
]
STOP = ["", [""], ["a", ""], [1], 5, None, {"a": 1}, [["a"]]]


@pytest.mark.parametrize(("key", "value", "right"), [(k, v, r) for k, v, *r in SAMPLING])
def test_sampling_settings_out_of_range_are_refused(good, key, value, right):
    one_problem(good.env_runners(sampling={key: value}), f"sampling[{key!r}]", value, *right)


@pytest.mark.parametrize("stop", STOP, ids=str)
def test_stop_strings_that_are_none_are_refused(good, stop):
    (problem,) = problems_of(good.env_runners(sampling={"stop": stop}))
    assert problem.startswith("sampling['stop']=")
    assert problem.endswith("must be a string or a list of strings, none of them empty")


@pytest.mark.parametrize("stop", ["</answer>", ["</answer>", "\n\n"], ("a",), []], ids=str)
def test_stop_strings_pass_in_training_and_evaluation(good, stop):
    good.env_runners(sampling={"stop": stop}).validate()
    assert isinstance(good.sampling_settings.stop, tuple)
    good.get_evaluation_config_object().validate()


RESHAPING_SETTINGS = {
    "guided_decoding": {"regex": "[0-9]+"},
    "structured_outputs": {"json": {}},
    "logit_bias": {5: 1.0},
    "repetition_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "min_p": 0.1,
    "min_tokens": 5,
    "bad_words": ["so"],
    "logits_processors": [print],
    "allowed_token_ids": [1],
    "no_repeat_ngram_size": 3,
    "typical_p": 0.9,
    "num_beams": 4,
}


@pytest.mark.parametrize(("key", "value"), RESHAPING_SETTINGS.items())
def test_what_changes_the_distribution_is_refused_with_the_reason(good, key, value):
    good.env_runners(sampling={key: value})
    one_problem(good, f"sampling[{key!r}]", value, "must be left out", "biased")


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("logits_processors", ["my.Processor"], "must be left out"),
        ("logprobs_mode", "raw_logprobs", "'processed_logprobs'"),
        ("logprobs_mode", "raw_logits", "'processed_logprobs'"),
    ],
)
def test_an_engine_whose_log_probs_are_not_of_what_it_samples_is_refused(good, key, value, right):
    good.env_runners(engine_kwargs={key: value})
    one_problem(good, f"engine_kwargs[{key!r}]", value, right)


def test_settings_of_sampling_check_themselves():
    assert not [*SamplingSettings(stop="a").problems(evaluation=False)]
    greedy = SamplingSettings(temperature=0, top_p=0.5, top_k=3)
    assert not [*greedy.problems(evaluation=True)]
    fields = [problem.split("=")[0] for problem in greedy.problems(evaluation=False)]
    assert fields == ["sampling['temperature']", "sampling['top_p']", "sampling['top_k']"]


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"top_p": 0.9}, {"top_k": 5}])
def test_evaluation_may_sample_greedily_or_from_a_truncated_distribution(good, sampling):
    good.evaluation(evaluation_config={"sampling": {"max_tokens": 4, **sampling}})
    good.get_evaluation_config_object().validate()
