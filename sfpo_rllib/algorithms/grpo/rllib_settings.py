"""RLlib's own settings: each is honoured, or refused by name, so that nothing is ignored.

A test compares the three tables with all that RLlib's `AlgorithmConfig` has.
"""

from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.core.checks import (
    BOOL,
    DICT,
    FUNCTION,
    Kind,
    integer,
    is_int,
    none,
    number,
    one_of,
    value_problems,
)
from sfpo_rllib.env_runners import GroupEnvRunner

# Hooks of RLlib's learner that give it a loss. A loss of ours is a sum over tokens under weights of
# the whole mini-batch; what these return would depend on how the mini-batch is cut.
LOSS_HOOKS = ("compute_loss_for_module", "compute_losses", "compute_gradients")

_ANY = Kind(lambda value: True, "anything")  # checked elsewhere, or by RLlib
_CALLBACK = FUNCTION | Kind(
    lambda value: isinstance(value, list | tuple) and all(map(callable, value)), "a list of them"
)
_SECONDS = number(above=0.0, unit=" (seconds)")
_SHARE = number(least=0.0)
_LONG = 300  # characters, of a value that is cut in a message

_EVENTS = """
    algorithm_init checkpoint_loaded env_runners_recreated environment_created episode_created
    episode_end episode_start episode_step evaluate_end evaluate_start sample_end train_result
"""

# Read by RLlib or by us, whatever the value; it must be of its kind.
HONOURED: dict[str, Kind] = {
    "env": _ANY,
    "env_config": DICT,
    "env_runner_cls": Kind(
        lambda cls: isinstance(cls, type) and issubclass(cls, GroupEnvRunner),
        "a subclass of GroupEnvRunner",
    ),
    "num_env_runners": integer(0),
    "num_cpus_per_env_runner": _SHARE,
    "num_gpus_per_env_runner": _SHARE,
    "custom_resources_per_env_runner": DICT,
    "create_local_env_runner": BOOL,
    "validate_env_runners_after_construction": BOOL,
    "explore": BOOL,
    "num_learners": integer(0),
    "num_cpus_per_learner": _SHARE | one_of("auto"),
    "num_gpus_per_learner": _SHARE,
    "custom_resources_per_learner": DICT,
    "local_gpu_idx": integer(0),
    "learner_config_dict": DICT,  # an own learner may
    "_learner_class": _ANY,
    "torch_ddp_kwargs": DICT,
    "torch_skip_nan_gradients": BOOL,
    "num_cpus_for_main_process": _SHARE,
    "custom_resources_for_main_process": DICT,
    "placement_strategy": one_of("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"),
    "lr": _ANY,
    "grad_clip": _ANY,
    "grad_clip_by": one_of("global_norm", "norm", "value"),
    "optimizer": _ANY,
    "_train_batch_size_per_learner": _ANY,
    "minibatch_size": _ANY,
    "num_epochs": Kind(
        lambda value: is_int(value, 1) and value == 1,
        "1; for more passes use SFPO's fast_steps or update_rule=MultiEpoch(...)",
    ),
    "callbacks_class": _ANY,
    **{
        f"callbacks_on_{event}": none() | _CALLBACK
        for event in [
            "algorithm_init",
            "checkpoint_loaded",
            "env_runners_recreated",
            "environment_created",
            "episode_created",
            "episode_end",
            "episode_start",
            "episode_step",
            "evaluate_end",
            "evaluate_start",
            "sample_end",
            "train_result",
        ]
    },
    "policies": _ANY,
    "evaluation_config": _ANY,
    "evaluation_duration": integer(1),
    "evaluation_duration_unit": Kind(lambda value: value == "episodes", "'episodes' (completions)"),
    "evaluation_interval": integer(0) | none(),
    "evaluation_num_env_runners": integer(0),
    "evaluation_parallel_to_training": Kind(
        lambda value: value is False, "False; both use the same engines"
    ),
    "custom_evaluation_function": none() | FUNCTION,
    "min_time_s_per_iteration": number(least=0.0) | none(),
    "min_train_timesteps_per_iteration": integer(0) | none(),
    "min_sample_timesteps_per_iteration": integer(0) | none(),
    "stats_cls_lookup": DICT,
    "log_level": _ANY,
    "log_sys_usage": BOOL,
    "seed": Kind(lambda seed: is_int(seed, 0) and seed < 1 << 32, "an integer in [0, 2**32)")
    | none(),
    "restart_failed_env_runners": BOOL,
    "ignore_env_runner_failures": BOOL,
    "max_num_env_runner_restarts": integer(-1, " (-1: without end)"),
    "delay_between_env_runner_restarts_s": number(least=0.0, unit=" (seconds)"),
    "num_consecutive_env_runner_failures_tolerance": integer(0),
    "env_runner_health_probe_timeout_s": _SECONDS,
    "env_runner_restore_timeout_s": _SECONDS,
    "_model_config": _ANY,
    "_rl_module_spec": _ANY,
}

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

# Left at the default, or refused: by what is said after it.
_REFUSED = {
    "; use train_batch_size_per_learner, which counts completions": "train_batch_size",
    ", as a reply has one return, and there is nothing to discount": "gamma",
    ", as it is never called; use training(advantages=...) or a wrapper of the environment": """
        _learner_connector
    """,
    ", as there are no connectors around an engine; use a wrapper of the environment": """
        _env_to_module_connector _module_to_env_connector
        add_default_connectors_to_env_to_module_pipeline
        add_default_connectors_to_module_to_env_pipeline
        add_default_connectors_to_learner_pipeline merge_env_runner_states
        broadcast_env_runner_states use_env_runner_state_server
        env_runner_state_server_max_concurrency _dont_auto_sync_env_runner_states
        sync_filters_on_rollout_workers_timeout_s
    """,
    ", as an engine samples whole groups of episodes, as many at once as it can; use "
    "group_size and train_batch_size_per_learner": """
        num_envs_per_env_runner gym_env_vectorize_mode rollout_fragment_length
        episode_lookback_horizon episodes_to_numpy compress_observations
        max_requests_in_flight_per_env_runner
    """,
    "; the deadline is rollout_timeout_s": "sample_timeout_s evaluation_sample_timeout_s",
    "; use a wrapper of the environment": """
        clip_rewards clip_actions normalize_actions observation_filter render_env
        action_mask_key _is_atari
    """,
    ", as the environment's own are used": "observation_space action_space",
    ", as an environment that fails is always replaced": "restart_failed_sub_environments",
    ", as episodes of evaluation always begin anew": "evaluation_force_reset_envs_before_iteration",
    ", as it would load the model once more, and have no work": """
        num_aggregator_actors_per_learner max_requests_in_flight_per_aggregator_actor
    """,
    ", as learners take one batch at a time": "max_requests_in_flight_per_learner",
    ", as all passes over a batch have the same mini-batches": "shuffle_batch_per_epoch",
    "; the update is none of the methods that RLlib compiles": "torch_compile_learner",
    ", as nothing is compiled": """
        torch_compile_learner_what_to_compile torch_compile_learner_dynamo_backend
        torch_compile_learner_dynamo_mode torch_compile_worker
        torch_compile_worker_dynamo_backend torch_compile_worker_dynamo_mode
    """,
    "; losses are not scaled, as weights and gradients are float32": "_torch_grad_scaler_class",
    "; use training(lr_schedule=...)": "_torch_lr_scheduler_classes",
    ", as the norm of each pass is always reported": "log_gradients",
    "; use rl_module(model_config=...)": "model",
    ", as there is one module; set them on the config itself": """
        algorithm_config_overrides_per_module _per_module_overrides
    """,
    ", as there is one policy, and it is trained": """
        policy_mapping_fn policies_to_train policy_map_capacity policy_states_are_swappable
        observation_fn count_steps_by checkpoint_trainable_policies_only
    """,
    ", as results are of the iteration": """
        keep_per_episode_custom_metrics metrics_episode_collection_timeout_s
        metrics_num_episodes_for_smoothing
    """,
    ", as evaluation runs between two iterations, on `evaluation_duration` completions": """
        evaluation_auto_duration_min_env_steps_per_sample
        evaluation_auto_duration_max_env_steps_per_sample evaluation_unhealthy_workers_timeout_s
        evaluation_error_after_n_consecutive_skips
    """,
    ", as settings are always checked": "_validate_config",
    "; use num_gpus_per_learner and num_gpus_per_env_runner": "num_gpus _fake_gpus",
    "; use save_pretrained()": "export_native_model_files",
    ", as checkpoints have one format": "_use_msgpack_checkpoints",
    "; use Ray's runtime_env": "extra_python_environs_for_driver extra_python_environs_for_worker",
    ", as models are PyTorch's": """
        framework_str eager_tracing eager_max_retraces tf_session_args local_tf_session_args
        enable_tf1_exec_eagerly _tf_policy_handles_more_than_one_loss
    """,
    ", as replies are sampled by an engine, never read from data": """
        _is_online actions_in_input_normalized broadcast_offline_eval_runner_states
        callbacks_on_evaluate_offline_end callbacks_on_evaluate_offline_start
        callbacks_on_offline_eval_runners_recreated custom_resources_per_offline_eval_runner
        dataset_num_iters_per_eval_runner dataset_num_iters_per_learner fake_sampler
        ignore_final_observation ignore_offline_eval_runner_failures input_
        input_compress_columns input_config input_filesystem input_filesystem_kwargs
        input_read_batch_size input_read_episodes input_read_method input_read_method_kwargs
        input_read_sample_batches input_read_schema input_spaces_jsonable iter_batches_kwargs
        map_batches_kwargs materialize_data materialize_mapped_data
        max_num_offline_eval_runner_restarts max_requests_in_flight_per_offline_eval_runner
        num_cpus_per_offline_eval_runner num_gpus_per_offline_eval_runner
        num_offline_eval_runners off_policy_estimation_methods offline_data_class
        offline_eval_batch_size_per_runner offline_eval_rl_module_inference_only
        offline_eval_runner_class offline_eval_runner_health_probe_timeout_s
        offline_eval_runner_restore_timeout_s offline_evaluation_duration
        offline_evaluation_interval offline_evaluation_parallel_to_training
        offline_evaluation_timeout_s offline_evaluation_type offline_loss_for_module_fn
        offline_sampling ope_split_batch_by_episode postprocess_inputs prelearner_buffer_class
        prelearner_buffer_kwargs prelearner_class prelearner_module_synch_period
        prelearner_use_recorded_module_states restart_failed_offline_eval_runners
        shuffle_buffer_size validate_offline_eval_runners_after_construction
    """,
    ", as episodes are not written; a callback can": """
        output output_compress_columns output_config output_filesystem output_filesystem_kwargs
        output_max_file_size output_max_rows_per_file output_write_episodes output_write_method
        output_write_method_kwargs output_write_remaining_data
    """,
    ", as only RLlib's new API stack is supported": """
        _disable_action_flattening _disable_execution_plan_api
        _disable_initialize_loss_from_dummy_batch _disable_preprocessor_api
        _enable_rl_module_api always_attach_evaluation_results auto_wrap_old_gym_envs
        buffer_size collect_metrics_timeout create_env_on_local_worker
        custom_async_evaluation_function enable_async_evaluation enable_connectors
        enable_env_runner_and_connector_v2 enable_rl_module_and_learner env_task_fn
        evaluation_num_episodes exploration_config input_evaluation learning_starts
        metrics_smoothing_episodes min_iter_time_s min_sample_timesteps_per_reporting
        min_time_s_per_reporting min_train_timesteps_per_reporting monitor policy_map_cache
        preprocessor_pref prioritized_replay prioritized_replay_alpha prioritized_replay_beta
        prioritized_replay_eps remote_env_batch_wait_ms remote_worker_envs replay_batch_size
        replay_mode replay_sequence_length sample_collector sampler_perf_stats_ema_coef
        synchronize_filters timesteps_per_iteration update_worker_filter_stats
        use_worker_filter_stats worker_cls
    """,
}
# What must be left at its default, and why.
REFUSED = {name: why for why, names in _REFUSED.items() for name in names.split()}

# What users call those that RLlib holds under another name.
KEYWORDS = {
    "framework_str": "framework",
    "_learner_connector": "learner_connector",
    "_env_to_module_connector": "env_to_module_connector",
    "_module_to_env_connector": "module_to_env_connector",
    "_is_atari": "is_atari",
}


def rllib_problems(config: AlgorithmConfig, defaults: Mapping[str, Any]) -> list[str]:
    """What of RLlib's settings would be ignored, or is of no use.

    Args:
        config: What has them.
        defaults: All that such a config begins with.
    """
    given = vars(config)
    problems = value_problems(given, {n: kind for n, kind in HONOURED.items() if n in given})
    for name, why in REFUSED.items():
        value, default = given.get(name), defaults.get(name)
        set_by_rllib = config.in_evaluation and name == "rollout_fragment_length"
        if not _same(value, default) and not set_by_rllib:
            must = "empty" if default == {} else repr(default)
            must = must if len(must) < _LONG else "left alone"
            field = f"{KEYWORDS.get(name, name)}={value!r}"
            problems.append(f"{field[:_LONG]}{'...' * (len(field) > _LONG)}: must be {must}{why}")
    if config.create_local_env_runner is True and config.num_env_runners:
        problems.append(
            "create_local_env_runner=True: must be False with remote env runners, or the driver "
            "starts an engine of its own"
        )
    if config.is_multi_agent:
        problems.append("policies: must be the one default policy; multi-agent is not supported")
    return problems


def _same(value: Any, default: Any) -> bool:
    try:
        return value is default or bool(value == default)
    except Exception:  # what compares element by element
        return False


def bypassed_problems(learner_class: Any, rl_module_spec: Any) -> list[str]:
    """What of a user's own learner or module the update would pass by.

    Args:
        learner_class: The learner's class.
        rl_module_spec: Of the module.
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
    module = getattr(rl_module_spec, "module_class", None)
    if isinstance(module, type) and issubclass(module, SelfSupervisedLossAPI):
        problems.append(
            f"rl_module_spec={module!r}: must not have compute_self_supervised_loss(), which is "
            "never called; use training(loss=...)"
        )
    return problems
