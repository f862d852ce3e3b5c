"""RLlib's own settings: each is honoured, or refused by name, so that nothing is ignored."""

import dataclasses
import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.policy import PolicySpec
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID
from ray.rllib.utils.metrics.stats import StatsBase
from torch.nn.parallel import DistributedDataParallel

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.core.checks import (
    BOOL,
    DICT,
    FUNCTION,
    Kind,
    integer,
    is_int,
    is_number,
    none,
    number,
    one_of,
    same,
    value_problems,
)
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.rl_modules import CausalLMModule

# Hooks of RLlib's learner that give it a loss. A loss of ours is a sum over tokens under weights of
# the whole mini-batch; what these return would depend on how the mini-batch is cut.
LOSS_HOOKS = ("compute_loss_for_module", "compute_losses", "compute_gradients")

_ANY = Kind(lambda value: True, "anything")  # checked elsewhere, or by RLlib
_CALLBACK = FUNCTION | Kind(
    lambda value: isinstance(value, list | tuple) and all(map(callable, value)), "a list of them"
)
_LEVELS = ("DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL")
_DDP_KEYWORDS = {*inspect.signature(DistributedDataParallel).parameters} - {"module"}
_LONG = 300  # characters, of a value that is cut in a message


def _makes_callbacks(cls: Any) -> bool:
    return issubclass(cls, RLlibCallback) if isinstance(cls, type) else callable(cls)


def _are_resources(given: Any) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(name, str) and name not in ("CPU", "GPU") and is_number(amount, least=0.0)
        for name, amount in given.items()
    )


def _are_stats(given: Any) -> bool:
    return (
        isinstance(given, Mapping)
        and given.keys() >= AlgorithmConfig().stats_cls_lookup.keys()
        and all(isinstance(cls, type) and issubclass(cls, StatsBase) for cls in given.values())
    )


# Read by RLlib or by us, whatever the value, which must be of its kind.
_HONOURED: dict[Kind, str] = {
    _ANY: """
        env evaluation_config optimizer policies lr grad_clip
        minibatch_size _train_batch_size_per_learner _learner_class _model_config _rl_module_spec
    """,
    integer(0): """
        num_env_runners num_learners evaluation_num_env_runners local_gpu_idx
        num_consecutive_env_runner_failures_tolerance
    """,
    number(least=0.0): """
        num_cpus_per_env_runner num_cpus_for_main_process delay_between_env_runner_restarts_s
    """,
    number(least=0.0, most=1.0, unit=" (GPUs); for more take more learners"): (
        "num_gpus_per_learner"
    ),
    Kind(
        lambda gpus: is_number(gpus, least=0.0) and (gpus < 1 or gpus == int(gpus)),
        "a number >= 0, a whole one above 1",
    ): "num_gpus_per_env_runner",
    number(above=0.0, unit=" (seconds)"): """
        env_runner_health_probe_timeout_s env_runner_restore_timeout_s
    """,
    BOOL: """
        create_local_env_runner validate_env_runners_after_construction explore
        torch_skip_nan_gradients log_sys_usage restart_failed_env_runners
        ignore_env_runner_failures
    """,
    DICT: "env_config learner_config_dict",
    Kind(_are_resources, "a dict of numbers >= 0, without 'CPU' and 'GPU'"): """
        custom_resources_per_env_runner custom_resources_per_learner
        custom_resources_for_main_process
    """,
    Kind(
        lambda given: isinstance(given, Mapping) and _DDP_KEYWORDS.issuperset(given),
        f"a dict of {sorted(_DDP_KEYWORDS)}",
    ): "torch_ddp_kwargs",
    Kind(
        _are_stats, "a dict of subclasses of StatsBase, {**AlgorithmConfig().stats_cls_lookup, ...}"
    ): "stats_cls_lookup",
    one_of(*_LEVELS) | integer(0) | none(): "log_level",
    Kind(
        lambda made: all(map(_makes_callbacks, made if isinstance(made, list | tuple) else [made])),
        "a subclass of RLlibCallback, a function that makes one, or a list of these",
    ): "callbacks_class",
    none() | _CALLBACK: """
        callbacks_on_algorithm_init callbacks_on_checkpoint_loaded callbacks_on_evaluate_start
        callbacks_on_env_runners_recreated callbacks_on_environment_created
        callbacks_on_episode_created callbacks_on_episode_start callbacks_on_episode_step
        callbacks_on_episode_end callbacks_on_evaluate_end callbacks_on_sample_end
        callbacks_on_train_result
    """,
    none() | FUNCTION: "custom_evaluation_function",
    none() | integer(0): "evaluation_interval",
    # Of several batches the first would have been trained on when the last is given up.
    Kind(
        lambda value: value is None or (is_number(value) and value == 0),
        "None or 0, as an iteration is one batch, which is trained on or given up as a whole; for "
        "more in each use train_batch_size_per_learner",
    ): """
        min_time_s_per_iteration min_sample_timesteps_per_iteration
        min_train_timesteps_per_iteration
    """,
    number(least=0.0) | one_of("auto"): "num_cpus_per_learner",
    integer(-1, " (-1: without end)"): "max_num_env_runner_restarts",
    integer(1): "evaluation_duration",
    one_of("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"): "placement_strategy",
    one_of("global_norm", "norm", "value"): "grad_clip_by",
    Kind(lambda value: value == "episodes", "'episodes' (completions)"): "evaluation_duration_unit",
    Kind(lambda value: value is False, "False; both use the same engines"): """
        evaluation_parallel_to_training
    """,
    none() | Kind(lambda seed: is_int(seed, 0) and seed < 1 << 32, "an integer in [0, 2**32)"): (
        "seed"
    ),
    Kind(
        lambda value: is_int(value, 1) and value == 1,
        "1; for more passes use SFPO's fast_steps or update_rule=MultiEpoch(...)",
    ): "num_epochs",
    Kind(
        lambda cls: isinstance(cls, type) and issubclass(cls, GroupEnvRunner),
        "a subclass of GroupEnvRunner",
    ): "env_runner_cls",
}
HONOURED = {name: kind for kind, names in _HONOURED.items() for name in names.split()}

# Nothing of a user's is lost: RLlib's own notes, or what is so in any case.
HARMLESS = (
    "algo_class",
    "in_evaluation",
    "simple_optimizer",
    "_is_frozen",
    "_prior_exploration_config",
    "batch_mode",  # episodes are always complete
    "disable_env_checking",  # RLlib's checks never run
)

# All that is in neither table is refused unless it is at its default, for this reason or another.
_UNREAD = ", as nothing reads it"
_WHY = {
    "; use train_batch_size_per_learner, which counts completions": "train_batch_size",
    ", as a reply has one return, and there is nothing to discount": "gamma",
    ", as it is never called; use training(advantages=...) or a wrapper of the environment": """
        _learner_connector
    """,
    ", as there are no connectors around an engine; use a wrapper of the environment": """
        _env_to_module_connector _module_to_env_connector
    """,
    ", as an engine samples whole groups of episodes, as many at once as it can": """
        num_envs_per_env_runner rollout_fragment_length
    """,
    "; the deadline is rollout_timeout_s": "sample_timeout_s evaluation_sample_timeout_s",
    "; use a wrapper of the environment": """
        clip_rewards clip_actions normalize_actions observation_filter _is_atari
    """,
    ", as the environment's own are used": "observation_space action_space",
    ", as it would load the model once more, and have no work": "num_aggregator_actors_per_learner",
    ", as all passes over a batch have the same mini-batches": "shuffle_batch_per_epoch",
    "; the update is none of the methods that RLlib compiles": "torch_compile_learner",
    "; losses are not scaled, as weights and gradients are float32": "_torch_grad_scaler_class",
    "; use training(lr_schedule=...)": "_torch_lr_scheduler_classes",
    ", as the norm of each pass is always reported": "log_gradients",
    "; use rl_module(model_config=...)": "model",
    ", as there is one module; set them on the config itself": """
        algorithm_config_overrides_per_module
    """,
    ", as there is one policy, and it is trained": "policy_mapping_fn policies_to_train",
    ", as settings are always checked": "_validate_config",
    "; use num_gpus_per_learner and num_gpus_per_env_runner": "num_gpus",
    "; use save_pretrained()": "export_native_model_files",
    ", as models are PyTorch's": "framework_str",
    ", as replies are sampled by an engine, never read from data": "input_ offline_data_class",
    ", as episodes are not written; a callback can": "output",
    ", as only RLlib's new API stack is supported": """
        enable_env_runner_and_connector_v2 enable_rl_module_and_learner
    """,
}
WHY = {name: why for why, names in _WHY.items() for name in names.split()}

# What users call those that RLlib holds under another name.
KEYWORDS = {
    "framework_str": "framework",
    "_learner_connector": "learner_connector",
    "_env_to_module_connector": "env_to_module_connector",
    "_module_to_env_connector": "module_to_env_connector",
    "_is_atari": "is_atari",
}


def refused() -> list[str]:
    """Which of RLlib's settings must be left at their defaults."""
    return [n for n in vars(AlgorithmConfig()) if n not in HONOURED and n not in HARMLESS]


def shape_problems(given: Mapping[str, Any]) -> list[str]:
    """What of a config's attributes RLlib itself stumbles over, whatever it is asked for."""
    model, policies = given["_model_config"], given["policies"]
    problems = []
    if not (isinstance(model, Mapping) or dataclasses.is_dataclass(model)):
        problems.append(f"model_config={model!r}: must be a dict")
    if not isinstance(policies, Collection) or isinstance(policies, str):
        problems.append(f"policies={policies!r}: must be left alone, as there is one policy")
    return problems


def rllib_problems(config: AlgorithmConfig, defaults: Mapping[str, Any]) -> list[str]:
    """What of RLlib's settings would be ignored, or is of no use.

    Args:
        config: What has them.
        defaults: All that such a config begins with.
    """
    given = vars(config)
    problems = value_problems(given, {n: kind for n, kind in HONOURED.items() if n in given})
    for name in refused():
        value, default = given.get(name), defaults.get(name)
        set_by_rllib = config.in_evaluation and name == "rollout_fragment_length"
        if not same(value, default) and not set_by_rllib:
            must = "empty" if default == {} else repr(default)
            must = must if len(must) < _LONG else "left alone"
            why = WHY.get(name, _UNREAD)
            field = f"{KEYWORDS.get(name, name)}={value!r}"
            problems.append(f"{field[:_LONG]}{'...' * (len(field) > _LONG)}: must be {must}{why}")
    if config.create_local_env_runner is True and config.num_env_runners:
        problems.append(
            "create_local_env_runner=True: must be False with remote env runners, or the driver "
            "starts an engine of its own"
        )
    if config.is_multi_agent:
        problems.append("policies: must be the one default policy; multi-agent is not supported")
    else:
        problems += _policy_problems(config.policies)
    return problems


def _policy_problems(policies: Any) -> list[str]:
    """What is said of the one policy; a collection of names says nothing."""
    spec = policies[DEFAULT_POLICY_ID] if isinstance(policies, Mapping) else None
    said = spec.get_state() if isinstance(spec, PolicySpec) else spec
    # Tune's JSON makes lists of tuples.
    if said is None or (isinstance(said, tuple | list) and all(p in (None, {}) for p in said)):
        return []
    return [f"policies[{DEFAULT_POLICY_ID!r}]={said!r:.{_LONG}}: must be left out{_UNREAD}"]


def bypassed_problems(learner_class: Any, rl_module_spec: Any) -> list[str]:
    """What of a user's own learner or module the update would pass by.

    Args:
        learner_class: The learner's class.
        rl_module_spec: What was given of the module, if anything.
    """
    problems = []
    if not (isinstance(learner_class, type) and issubclass(learner_class, GRPOTorchLearner)):
        problems.append(
            f"learner_class={learner_class!r}: must be a subclass of GRPOTorchLearner; for another "
            "loss use training(loss=...)"
        )
    else:
        problems += [
            f"learner_class={learner_class!r}: must not override {hook}(), which is never called; "
            "use training(loss=...)"
            for hook in LOSS_HOOKS
            if getattr(learner_class, hook) is not getattr(GRPOTorchLearner, hook)
        ]
    return [*problems, *([] if rl_module_spec is None else _spec_problems(rl_module_spec))]


def _spec_problems(spec: Any) -> list[str]:
    if not isinstance(spec, RLModuleSpec):
        return [
            f"rl_module_spec={spec!r:.{_LONG}}: must be an RLModuleSpec, as there is one module"
        ]
    problems, cls = [], spec.module_class
    if cls is not None and not (isinstance(cls, type) and issubclass(cls, CausalLMModule)):
        problems.append(f"rl_module_spec={cls!r}: must be a subclass of CausalLMModule")
    elif cls is not None and issubclass(cls, SelfSupervisedLossAPI):
        problems.append(
            f"rl_module_spec={cls!r}: must not have compute_self_supervised_loss(), which is "
            "never called; use training(loss=...)"
        )
    instead = {"model_config": "; use rl_module(model_config=...)"}
    problems += [
        f"rl_module_spec.{name}={value!r:.{_LONG}}: must be left out{instead.get(name, _UNREAD)}"
        for name in ("model_config", "observation_space", "action_space", "catalog_class")
        if (value := getattr(spec, name)) is not None
    ]
    if spec.learner_only:
        problems.append("rl_module_spec.learner_only=True: must be False, as engines run it too")
    path = spec.load_state_path
    if path is not None and "://" not in str(path) and not Path(path).is_dir():
        problems.append(
            f"rl_module_spec.load_state_path={path!r}: must be the folder of a module's state; "
            "there is no such folder"
        )
    return problems
