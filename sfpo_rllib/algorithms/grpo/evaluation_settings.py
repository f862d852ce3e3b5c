"""What differs between training and evaluation."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.algorithms.grpo.rllib_settings import HARMLESS, HONOURED
from sfpo_rllib.core.checks import first_line, is_int, nearest, same

FIELD = "evaluation_config"
# What an evaluation has of its own, whichever runners sample it.
_READ = (
    *("env", "env_config", "env_timeout_s", "num_env_threads"),
    *("prompt_format", "chat_template_kwargs", "sampling", "explore", "group_size"),
    *("evaluation_duration", "evaluation_duration_unit", "custom_evaluation_function"),
    *("callbacks_class", "callbacks_on_environment_created", "callbacks_on_sample_end"),
    *(f"callbacks_on_episode_{event}" for event in ("created", "start", "step", "end")),
)
# What runners of its own have, too.
_READ_BY_OWN_RUNNERS = (
    *("rollout_engine", "engine_kwargs", "env_runner_cls", "num_cpus_per_env_runner"),
    *("num_gpus_per_env_runner", "custom_resources_per_env_runner"),
    *("ignore_env_runner_failures", "restart_failed_env_runners", "max_num_env_runner_restarts"),
    *("delay_between_env_runner_restarts_s", "env_runner_health_probe_timeout_s"),
    *("callbacks_on_env_runners_recreated", "validate_env_runners_after_construction"),
)
_RLLIBS_NAMES = {"callbacks": "callbacks_class"}  # of what is read, in dicts


def evaluation_problems(config: AlgorithmConfig) -> Iterator[str]:
    """What is wrong with `explore`, and with `evaluation_config` before RLlib takes it.

    Of an evaluation's own settings, whether greedy replies would be sampled several times.

    Args:
        config: Of the algorithm, or of its evaluation.
    """
    if config.in_evaluation:
        if is_greedy(config.sampling) and is_int(config.group_size, least=2):
            yield (
                f"group_size={config.group_size}: must be 1, or left out, with greedy decoding "
                "(temperature 0), as all replies to a problem would be the same"
            )
        return
    if not config.explore:
        yield (
            f"explore={config.explore!r}: must be True in training, as greedy replies of a group "
            "would all be the same; in evaluation_config it may be False"
        )
    yield from _override_problems(config)


def _override_problems(config: AlgorithmConfig) -> Iterator[str]:
    given = config.evaluation_config
    if isinstance(given, type(config)):
        given = _differences(given, config)
    if given is None:
        return
    if not isinstance(given, Mapping):
        yield f"{FIELD}={given!r:.200}: must be a dict of settings or a {type(config).__name__}"
        return
    has_runners = config.evaluation_num_env_runners != 0
    read = [*_READ, *(_READ_BY_OWN_RUNNERS if has_runners else ())]
    for key, value in given.items():
        name = str(_RLLIBS_NAMES.get(key, key))
        field = f"{FIELD}[{key!r}]={value!r:.200}"
        if name not in read:
            near = "" if hasattr(config, name) else nearest(name, read)
            own = name in _READ_BY_OWN_RUNNERS
            why = "; it is read with evaluation_num_env_runners > 0" if own else ""
            yield f"{field}: must be left out{near}{why}; evaluation reads {sorted(read)}"
            continue
        kind, why, taken = HONOURED.get(name), "", value
        try:
            evaluation = config.copy(copy_frozen=False).update_from_dict({key: value})
            taken = getattr(evaluation, name)  # of a class's path in a text the class
        except Exception as error:  # RLlib's setters have asserts, and take values apart
            why = f": RLlib does not take it: {first_line(error)}"
        if kind is not None and not kind.holds(taken):
            why = f": must be {kind.words}{kind.hint(taken)}"
        if why:
            yield f"{field}{why}"


def _differences(whole: AlgorithmConfig, config: AlgorithmConfig) -> dict[str, Any]:
    """What a whole config says otherwise than training's; how it is evaluated is training's."""
    return {
        name: value
        for name, value in vars(whole).items()
        if not (name in HARMLESS or (name.startswith("evaluation_") and name not in _READ))
        and not _is_copy(value, vars(config).get(name))
    }


def _is_copy(value: Any, of: Any) -> bool:
    if same(value, of):
        return True
    has_parts = type(value) is type(of) and not callable(value) and hasattr(value, "__dict__")
    return has_parts and same(vars(value), vars(of))


def of_evaluation(problems: Iterable[str]) -> Iterator[str]:
    """Problems of an evaluation's settings under the name of the setting that they are in."""
    for problem in problems:
        name = re.match(r"\w+(?=[\[=])", problem)
        yield (f"{FIELD}[{name[0]!r}]{problem[name.end() :]}" if name else f"{FIELD}: {problem}")


def evaluation_sampling(config: Any, evaluation: Any) -> dict[str, Any]:
    """The `sampling` of evaluation: greedy with `explore=False`, unless it says a temperature.

    Args:
        config: Of the algorithm, with its `evaluation_config`.
        evaluation: What RLlib has made of the two.
    """
    sampling: dict[str, Any] = evaluation.sampling
    overrides = config.evaluation_config
    if evaluation.explore:
        return sampling
    if isinstance(overrides, AlgorithmConfig):  # whole, so that all its settings are said
        says_temperature = sampling.get("temperature") != config.sampling.get("temperature")
    else:
        said = (overrides or {}).get("sampling")
        says_temperature = isinstance(said, Mapping) and "temperature" in said
    return sampling if says_temperature else {**sampling, "temperature": 0.0}


def is_greedy(sampling: Any) -> bool:
    """Whether replies are the likeliest ones, by a `sampling` that may be no dict."""
    return isinstance(sampling, Mapping) and sampling.get("temperature") == 0


def evaluation_group_size(config: Any, evaluation: Any) -> int:
    """The `group_size` of evaluation: 1 if it is greedy, unless it says one itself.

    Greedy replies to a problem are all the same: more of them would take the place of problems.

    Args:
        config: Of the algorithm, with its `evaluation_config`.
        evaluation: What RLlib has made of the two, with the sampling that evaluation has.
    """
    size: int = evaluation.group_size
    overrides = config.evaluation_config
    if isinstance(overrides, AlgorithmConfig):  # whole, so that all its settings are said
        says_size = size != config.group_size
    else:
        says_size = "group_size" in (overrides or {})
    return 1 if is_greedy(evaluation.sampling) and not says_size else size


def grades_training_problems(config: AlgorithmConfig, evaluation: AlgorithmConfig) -> bool:
    """Whether evaluation has training's environment with training's options."""
    try:
        return bool((config.env, config.env_config) == (evaluation.env, evaluation.env_config))
    except ValueError:  # arrays among them, other ones
        return False
