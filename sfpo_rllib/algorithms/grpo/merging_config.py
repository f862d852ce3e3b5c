"""An RLlib config that loses nothing on the way, whichever way settings come."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Self

import numpy as np
from ray.rllib.algorithms.algorithm_config import (
    DEPRECATED_VALUE,
    AlgorithmConfig,
    NotProvided,
)
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import AlgorithmConfigDict, PartialAlgorithmConfigDict
from ray.util.debug import log_once

from sfpo_rllib.algorithms.grpo.carried import carried, unpacked

_RLLIBS = vars(AlgorithmConfig())
# RLlib's methods that take values apart before anybody has looked at them, and these values.
_METHODS = ("environment", "env_runners", "learners", "training", "evaluation", "multi_agent")
_TAKEN_APART = (
    *("env_config", "evaluation_config", "learner_config_dict", "custom_resources_per_learner"),
    *("model", "policies", "num_envs_per_env_runner"),
)
# What RLlib reads under one name and holds under another, beside its own "rl_module_spec".
_HELD_AS = {"model_config": "_model_config", "learner_class": "_learner_class"}


class MergingConfig(AlgorithmConfig):
    """Merges settings that are dicts, keeps what RLlib takes for "not given", and Tune forgets.

    Attributes:
        merged: Settings whose keys keep their values where they are not given, in methods as in
            dicts: of `evaluation_config`, of Tune, of `from_dict`. Each with the setting that they
            belong to, which is given another value with others, if there is one.
        one_of_two: Settings of which the one that is given last counts; the other becomes None.
    """

    merged: Mapping[str, str | None] = {}
    one_of_two: tuple[str, ...] = ()

    def set_given(self, given: Mapping[str, Any]) -> Self:
        """Sets what a method was given of its own keywords.

        Args:
            given: Its `locals()`, among which other names are no settings.
        """
        own = {k: v for k, v in given.items() if k in vars(self) and v is not NotProvided}
        for name, value in self._with_old_keys(own).items():
            setattr(self, name, value)
        return self

    def _with_old_keys(self, given: Mapping[str, Any]) -> dict[str, Any]:
        merged = dict(given)
        if not merged.keys().isdisjoint(self.one_of_two):
            merged = {**dict.fromkeys(self.one_of_two), **merged}
        for name, owner in self.merged.items():
            old, new = getattr(self, name), given.get(name)
            another = owner and given.get(owner, getattr(self, owner)) != getattr(self, owner)
            if isinstance(old, Mapping) and isinstance(new, Mapping) and not another:
                merged[name] = {**old, **new}
        return merged

    @override(AlgorithmConfig)
    def update_from_dict(self, config_dict: PartialAlgorithmConfigDict) -> Self:
        # RLlib also passes whole configs.
        given = unpacked(dict(config_dict.items()))
        if "env" in given:  # before its options
            self.env = given["env"]
        for name in [name for name in given if _stumbles_over(name)]:
            self.__dict__[name] = given.pop(name)  # may be no text
        return super().update_from_dict(self._with_old_keys(given))

    @override(AlgorithmConfig)
    def to_dict(self) -> AlgorithmConfigDict:
        return carried(super().to_dict())

    @override(AlgorithmConfig)
    def __setattr__(self, key: str, value: Any) -> None:
        key, old = _HELD_AS.get(key, key), vars(self).get("env")
        # RLlib looks for Python's own numbers.
        super().__setattr__(key, value.item() if isinstance(value, np.number) else value)
        if key == "env" and old is not None and old is not value and old != value:
            self.env_config: dict[str, Any] = {}  # those were of another environment

    @override(AlgorithmConfig)
    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)  # RLlib's own goes past what is above

    @override(AlgorithmConfig)
    def get_state(self) -> dict[str, Any]:
        # RLlib drops whatever is -1, lr=-1.0 too: the algorithm would begin with the default.
        state = super().get_state()
        dropped = vars(self).keys() - state.keys() - {"algo_class", "_is_frozen"}
        kept = {k: vars(self)[k] for k in dropped if _RLLIBS.get(k) != DEPRECATED_VALUE}
        return {**state, **kept}

    @override(AlgorithmConfig)
    def validate(self) -> None:
        # RLlib would say once that this is the new API stack, and how to leave it.
        log_once(f"{self.algo_class.__name__}_on_new_api_stack")
        super().validate()


def _stumbles_over(name: Any) -> bool:
    """Whether RLlib would pass what a dict has under a name to a method that does not take it."""
    of_evaluation = inspect.signature(AlgorithmConfig.evaluation).parameters
    unknown = str(name).startswith("evaluation_") and name not in of_evaluation
    return unknown or name in ("multiagent", "replay_buffer_config") or not isinstance(name, str)


def _keeping(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which leaves what RLlib cannot take apart to `validate()`, as it is."""

    @wraps(method)
    def keeping(self: MergingConfig, *args: Any, **given: Any) -> Any:
        whole = {k: v for k, v in given.items() if isinstance(v, AlgorithmConfig)}
        try:
            method(self, *args, **{k: v for k, v in given.items() if k not in whole})
        except (AttributeError, TypeError, ValueError):
            kept = {n: given[n] for n in _TAKEN_APART if not isinstance(given.get(n, {}), Mapping)}
            if not kept:
                raise
            method(self, *args, **{k: v for k, v in given.items() if k not in kept | whole})
            whole |= kept
        for name, value in whole.items():
            setattr(self, name, value)
        return self

    return keeping


for _name in _METHODS:
    setattr(MergingConfig, _name, _keeping(getattr(AlgorithmConfig, _name)))
