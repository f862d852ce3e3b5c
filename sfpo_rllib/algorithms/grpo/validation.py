"""What can be wrong with a config, found before anything expensive starts.

Every check yields problems as `field=value: what would be right`.
"""

import contextlib
import difflib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from sfpo_rllib.algorithms.grpo.bypassed import bypassed_problems
from sfpo_rllib.algorithms.grpo.environment_problems import environment_problems
from sfpo_rllib.algorithms.grpo.evaluation_settings import exploration_problems
from sfpo_rllib.algorithms.grpo.lora_problems import lora_model_problems, lora_problems
from sfpo_rllib.algorithms.grpo.objective_problems import objective_problems
from sfpo_rllib.connectors.token_batch import TRUNCATED_REPLIES
from sfpo_rllib.core.entropy_trigger import check_entropy_trigger
from sfpo_rllib.core.optimizers import optimizer_problems
from sfpo_rllib.core.values import is_int, is_number
from sfpo_rllib.env_runners.engines import engine_class, gpu_share
from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.env_runners.engines.sampling import sampling_problems
from sfpo_rllib.env_runners.prompts import PROMPT_FORMATS, PromptFormatter
from sfpo_rllib.rl_modules.causal_lm import ADDED_BY_CONFIG, MODEL_CONFIG_KEYS
from sfpo_rllib.rl_modules.export import export_problems
from sfpo_rllib.rl_modules.packing import PACKED_ATTENTION
from sfpo_rllib.rl_modules.parallelism import parallelism_class
from sfpo_rllib.rl_modules.weights import DTYPES

if TYPE_CHECKING:
    from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig

EQUAL_REWARD_GROUPS = ("keep", "drop", "resample")


def cheap_problems(config: "GRPOConfig") -> Iterator[str]:
    """What is wrong with the values themselves."""
    yield from _unknown_keys(config)
    yield from _batch_sizes(config)
    yield from _update(config)
    yield from objective_problems(config)
    yield from bypassed_problems(config)
    yield from lora_problems(config)
    yield from _rollouts(config)
    yield from _parallelism(config)
    yield from _unsupported(config)
    yield from exploration_problems(config)


def costly_problems(config: "GRPOConfig") -> Iterator[str]:
    """What is wrong with engine, model, environment and prompts: seconds, no weights loaded."""
    yield from _engine(config)
    yield from _model_and_environment(config)
    yield from lora_model_problems(config)


def raise_problems(config: "GRPOConfig", problems: list[str]) -> None:
    """Raises one ValueError that lists all problems, if there are any."""
    if problems:
        raise ValueError("\n".join([f"{type(config).__name__}: invalid settings", *problems]))


def nearest(name: str, known: Any) -> str:
    """`; did you mean 'x'?` if a known name is near, else nothing."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _unknown_keys(config: "GRPOConfig") -> Iterator[str]:
    # RLlib sets whatever a dict (Tune's param_space, say) brings, known or not.
    known = {*vars(type(config)()), "class"}  # RLlib notes a copied config's class under "class"
    # Some settings are properties of the class over a name with an underscore.
    names = {key.removeprefix("_") for key in known}
    public = [name for name in names if name in known or hasattr(type(config), name)]
    for key in vars(config):
        if key not in known and not key.startswith("_"):
            yield f"{key}={getattr(config, key)!r}: no such setting{nearest(key, public)}"
    keys = [*MODEL_CONFIG_KEYS, *ADDED_BY_CONFIG]
    for key, value in config.model_config.items():
        if key not in keys:
            yield (
                f"model_config[{key!r}]={value!r}: no such setting{nearest(key, keys)}; "
                f"one of {sorted(keys)}"
            )


def _batch_sizes(config: "GRPOConfig") -> Iterator[str]:
    group, batch, mini = (
        config.group_size,
        config.train_batch_size_per_learner,
        config.minibatch_size,
    )
    if config.in_evaluation:  # nothing is trained on these groups
        if not is_int(group, 1):
            yield f"group_size={group!r}: must be an integer >= 1 in evaluation"
        return
    if not is_int(group, 2):
        yield f"group_size={group!r}: must be an integer >= 2, a baseline needs other completions"
    if not is_int(batch, 1):
        yield f"train_batch_size_per_learner={batch!r}: must be an integer >= 1 (completions)"
    elif is_int(group, 2) and batch % group:
        yield (
            f"train_batch_size_per_learner={batch}: must be a multiple of group_size={group}, "
            f"e.g. {max(batch // group, 1) * group}"
        )
    if mini is not None:
        if not is_int(mini, 1):
            yield f"minibatch_size={mini!r}: must be None (the whole batch) or an integer >= 1"
        elif is_int(batch, 1) and (mini > batch or batch % mini):
            yield (
                f"minibatch_size={mini}: must divide train_batch_size_per_learner={batch}, so that "
                "all mini-batches are of one size"
            )
    parts = config.minibatches_per_pass
    if parts is not None and not is_int(parts, 1):
        yield f"minibatches_per_pass={parts!r}: must be None or an integer >= 1"
    elif parts is not None and mini is None and is_int(batch, 1) and batch % parts:
        yield (
            f"minibatches_per_pass={parts}: must divide train_batch_size_per_learner={batch}, so "
            "that all mini-batches are of one size"
        )
    if not is_int(config.max_tokens_per_micro_batch, 1):
        yield (
            f"max_tokens_per_micro_batch={config.max_tokens_per_micro_batch!r}: "
            "must be an integer >= 1"
        )


def _update(config: "GRPOConfig") -> Iterator[str]:
    if config.num_epochs != 1:
        yield (
            f"num_epochs={config.num_epochs!r}: must be 1; for more passes use SFPO's fast_steps "
            "or update_rule=MultiEpoch(...)"
        )
    if config.snapshot_device not in (None, "cpu"):
        yield f"snapshot_device={config.snapshot_device!r}: must be None or 'cpu'"
    yield from config.update_rule_problems()
    yield from _trigger(config)
    yield from _optimizer(config)
    if config.equal_reward_groups not in EQUAL_REWARD_GROUPS:
        yield (
            f"equal_reward_groups={config.equal_reward_groups!r}: "
            f"must be one of {EQUAL_REWARD_GROUPS}"
        )
    if config.truncated_replies not in TRUNCATED_REPLIES:
        yield f"truncated_replies={config.truncated_replies!r}: must be one of {TRUNCATED_REPLIES}"
    if not is_int(config.max_resampling_rounds, 0):
        yield f"max_resampling_rounds={config.max_resampling_rounds!r}: must be an integer >= 0"
    if config.grad_clip is not None and not is_number(config.grad_clip, above=0.0):
        yield f"grad_clip={config.grad_clip!r}: must be a number > 0 or None"
    if not is_int(config.max_skipped_steps, 0):
        yield f"max_skipped_steps={config.max_skipped_steps!r}: must be an integer >= 0"


def _optimizer(config: "GRPOConfig") -> Iterator[str]:
    yield from optimizer_problems(
        config.optimizer,
        betas=config.adam_betas,
        weight_decay=config.weight_decay,
        settings=config.optimizer_kwargs,
    )
    try:
        config.make_lr_schedule()
    except ValueError as error:
        yield str(error)


def _parallelism(config: "GRPOConfig") -> Iterator[str]:
    try:
        yield from parallelism_class(config.parallelism).problems(config)
    except ValueError as error:
        yield str(error)
    if not isinstance(config.restart_failed_learners, bool):
        yield f"restart_failed_learners={config.restart_failed_learners!r}: must be True or False"


def _trigger(config: "GRPOConfig") -> Iterator[str]:
    threshold = config.entropy_z_threshold
    if threshold is None:
        return
    for field, window, z in (
        ("entropy_window", config.entropy_window, 0.0),
        ("entropy_z_threshold", 2, threshold),
    ):
        try:
            check_entropy_trigger(window=window, threshold=z)
        except ValueError as error:  # under the core's name for it
            yield f"{field}={str(error).split('=', 1)[1]}"


def _rollouts(config: "GRPOConfig") -> Iterator[str]:
    yield from sampling_problems(config.sampling, evaluation=config.in_evaluation)
    try:
        yield from engine_class(config.rollout_engine).problems(config.engine_kwargs)
    except ValueError as error:
        yield str(error)
    if config.prompt_format not in PROMPT_FORMATS:
        yield f"prompt_format={config.prompt_format!r}: must be one of {PROMPT_FORMATS}"
    if not is_number(config.rollout_timeout_s, above=0.0):
        yield f"rollout_timeout_s={config.rollout_timeout_s!r}: must be a number > 0 (seconds)"
    if config.env_timeout_s is not None and not is_number(config.env_timeout_s, above=0.0):
        yield f"env_timeout_s={config.env_timeout_s!r}: must be a number > 0 (seconds) or None"
    if not is_int(config.num_env_threads, 0):
        yield f"num_env_threads={config.num_env_threads!r}: must be an integer >= 0"
    if not config.in_evaluation:  # which has no stream, and may have no runners of its own
        yield from config.stream_settings.problems()
        yield from config.weight_settings.problems()
    attention = config.model_config.get("attn_implementation")
    if config.model_config.get("packing") and attention not in PACKED_ATTENTION:
        yield (
            f"model_config['attn_implementation']={attention!r}: must be one of "
            f"{list(PACKED_ATTENTION)} with packing=True; others do not keep packed sequences apart"
        )
    dtype = config.model_config.get("dtype", "float32")
    if dtype not in DTYPES:
        yield f"model_config['dtype']={dtype!r}: must be one of {sorted(DTYPES)}"


def _unsupported(config: "GRPOConfig") -> Iterator[str]:
    if config.create_local_env_runner and config.num_env_runners > 0:
        yield (
            "create_local_env_runner=True: must be False with remote env runners, or the driver "
            "starts an engine of its own"
        )
    if config.evaluation_parallel_to_training:
        yield "evaluation_parallel_to_training=True: must be False; both use the same engines"
    if config.evaluation_duration_unit != "episodes":
        yield (
            f"evaluation_duration_unit={config.evaluation_duration_unit!r}: must be 'episodes' "
            "(completions)"
        )
    if not is_int(config.evaluation_duration, 1):
        yield f"evaluation_duration={config.evaluation_duration!r}: must be an integer >= 1"
    if config.is_multi_agent:
        yield "policies: must be the one default policy; multi-agent is not supported"


def _engine(config: "GRPOConfig") -> Iterator[str]:
    if config.in_evaluation and not config.num_env_runners:
        return  # it runs on the training runners' engines
    with contextlib.suppress(ValueError):  # of an unknown engine, among the cheap ones
        yield from engine_class(config.rollout_engine).resource_problems(gpu_share(config))


def _model_and_environment(config: "GRPOConfig") -> Iterator[str]:
    """The model, the environment, and if both are there whether its prompts fit the model."""
    model = config.model_config.get("model")
    formatter, context = None, math.inf
    try:
        formatter, context = _load_tokenizer_and_context(config)
    except ValueError as error:
        yield str(error)
    except Exception as error:
        yield (
            f"model_config['model']={model!r}: must be a transformers folder with its tokenizer, "
            f"or a hub id that can be reached ({first_line(error)})"
        )
    else:
        yield from export_problems(config.model_config)
    if config.env is None:
        yield "env=None: must be a gymnasium id, a registered name, a class or a callable"
        return
    yield from environment_problems(config, formatter, context)


def _load_tokenizer_and_context(config: "GRPOConfig") -> tuple[PromptFormatter | None, float]:
    """What prompts are made with, None if prompt_format is unknown, and how long they may be.

    Raises:
        ValueError: If the model is not a causal LM, or the format does not suit its tokenizer.
    """
    model = config.model_config.get("model")
    if not model:
        raise ValueError("model_config['model']=None: must be a transformers folder or a hub id")
    source = {
        "trust_remote_code": config.model_config.get("trust_remote_code", False),
        "revision": config.model_config.get("revision"),
    }
    try:
        model_config = AutoConfig.from_pretrained(model, **source)
        tokenizer = AutoTokenizer.from_pretrained(model, **source)
    except ValueError as error:  # transformers' way to say it knows no such model
        raise RuntimeError(first_line(error)) from error
    if not source["trust_remote_code"] and not _is_causal_lm(model_config):
        raise ValueError(
            f"model_config['model']={model!r}: must be a causal language model, and is a "
            f"{model_config.model_type!r}"
        )
    context = context_length(model_config, config.engine_kwargs)
    if config.prompt_format not in PROMPT_FORMATS:
        return None, context  # reported among the cheap ones
    formatter = PromptFormatter(
        tokenizer, config.prompt_format, chat_template_kwargs=config.chat_template_kwargs
    )
    return formatter, context


def _is_causal_lm(model_config: PretrainedConfig) -> bool:
    # transformers loads BERT and its like as causal LMs too; without is_decoder they read in both
    # directions, so that a token's log-prob would depend on those after it.
    kind = model_config.model_type
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        model_config, "is_decoder", False
    )
    return (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and not encoder
        and not model_config.is_encoder_decoder
    )


def first_line(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
