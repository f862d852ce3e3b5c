"""`rl_module_spec` and `policies`: what is said of the one module is honoured or refused."""

from typing import Any

import pytest
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.rllib.policy.policy import PolicySpec
from refusals import problems_of

from sfpo_rllib.rl_modules import CausalLMModule

pytestmark = pytest.mark.usefixtures("nothing_heavy")


class OwnModule(CausalLMModule):
    """A user's."""


@pytest.mark.parametrize("module_class", [OwnModule, None], ids=str)
def test_a_class_of_ones_own_is_taken(good, tmp_path, module_class):
    spec = RLModuleSpec(module_class=module_class, load_state_path=str(tmp_path))
    good.rl_module(rl_module_spec=spec).validate()


NO_MODULE = {
    "a class": (CausalLMModule, "must be an RLModuleSpec, as there is one module"),
    "a name": ("CausalLMModule", "must be an RLModuleSpec, as there is one module"),
    "several": (
        MultiRLModuleSpec(rl_module_specs={"a": RLModuleSpec()}),
        "must be an RLModuleSpec, as there is one module",
    ),
    "a dict's class": (RLModuleSpec(dict), "must be a subclass of CausalLMModule"),
    "RLlib's class": (RLModuleSpec(RLModule), "must be a subclass of CausalLMModule"),
}


@pytest.mark.parametrize("name", NO_MODULE)
def test_what_is_no_module_of_a_language_model_is_refused(good, name):
    spec, right = NO_MODULE[name]
    (problem,) = problems_of(good.rl_module(rl_module_spec=spec))
    assert problem.startswith("rl_module_spec=") and problem.endswith(right)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (
            {"model_config": {"dtype": "float32"}},
            "must be left out; use rl_module(model_config=...)",
        ),
        ({"observation_space": 3}, "must be left out, as nothing reads it"),
        ({"action_space": 3}, "must be left out, as nothing reads it"),
        ({"catalog_class": dict}, "must be left out, as nothing reads it"),
        ({"learner_only": True}, "must be False, as engines run it too"),
        ({"load_state_path": "/no/such"}, "must be the folder of a module's state; there is no"),
    ],
    ids=str,
)
def test_what_a_spec_says_in_vain_is_refused(good, given: dict[str, Any], right):
    (name,) = given
    (problem,) = problems_of(good.rl_module(rl_module_spec=RLModuleSpec(OwnModule, **given)))
    assert problem.startswith(f"rl_module_spec.{name}={given[name]!r}: {right}")


@pytest.mark.parametrize(
    "said", [PolicySpec(config={"lr": 1.0}), (None, 3, None, {})], ids=["a spec", "a tuple"]
)
def test_what_is_said_of_the_one_policy_is_refused(good, said):
    good.multi_agent(policies={"default_policy"}).validate()
    good.multi_agent(policies={"default_policy": (None, None, None, {})}).validate()
    (problem,) = problems_of(good.multi_agent(policies={"default_policy": said}))
    assert problem.startswith("policies['default_policy']=(None, ")
    assert problem.endswith(": must be left out, as nothing reads it")
