"""Whether what a config asks for is there: CPUs and GPUs of the cluster, memory of a device."""

import logging

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from transformers import AutoConfig, PretrainedConfig

from sfpo_rllib import preflight as estimates
from sfpo_rllib.algorithms.grpo.validation import first_line, raise_problems
from sfpo_rllib.core.update_rules import rule_name
from sfpo_rllib.env_runners.engines import engine_class, gpu_share
from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.env_runners.engines.memory import EngineLoad
from sfpo_rllib.rl_modules.causal_lm import MODEL_CONFIG_KEYS

logger = logging.getLogger(__name__)


def check_cluster_resources(algo_class: type[Algorithm], config: AlgorithmConfig) -> None:
    """Compares what will be requested with what the cluster has, before any actor starts.

    Raises:
        ValueError: If it has too little of something, by name.
    """
    if ray.util.get_current_placement_group() is not None:
        return  # Tune has reserved it
    if not ray.is_initialized():
        ray.init()
    available = ray.cluster_resources()
    needed: dict[str, float] = {}
    for bundle in algo_class.default_resource_request(config).bundles:
        for name, amount in bundle.items():
            needed[name] = needed.get(name, 0.0) + amount
    missing = [
        f"{name}={amount:g}: the cluster has {available.get(name, 0.0):g}"
        for name, amount in needed.items()
        if amount > available.get(name, 0.0)
    ]
    if missing:
        raise ValueError(
            "More resources are asked for than the cluster has; ask for fewer num_env_runners, "
            "num_learners or GPUs, or start ray with more:\n" + "\n".join(missing)
        )


def check_memory(config: AlgorithmConfig) -> None:
    """Logs what a learner and an engine need on their devices, before any weights are loaded.

    Raises:
        ValueError: If that is more than there is, with the largest setting that would fit. On a
            CPU it is only warned about.
    """
    try:
        estimate = config.preflight()
    except Exception as error:  # a model that cannot be built without its weights
        logger.warning("preflight: memory is not estimated: %s", first_line(error))
        return
    logger.info("Memory by device:\n%s", estimate)
    problems = list(estimate.problems())
    if estimate.enforced:
        raise_problems(config, problems)
    elif problems:
        logger.warning("This may not fit into memory:\n%s", "\n".join(problems))


def preflight(
    config: AlgorithmConfig,
    *,
    parallelism: str = "ddp",
    device_memory_gb: float | None = None,
    model_config: PretrainedConfig | None = None,
) -> estimates.Preflight:
    """Estimates what a config needs; see `sfpo_rllib.preflight`.

    Args:
        config: The config.
        parallelism: "ddp", or "fsdp" for a model that is sharded over the learners.
        device_memory_gb: Of each GPU, in 10^9 bytes. None: of the first GPU visible here, or of
            the host if none is asked for.
        model_config: Instead of that of `config.model_config["model"]`.

    Raises:
        ValueError: If `parallelism` is unknown.
    """
    model = {**MODEL_CONFIG_KEYS, **config.model_config}
    if model_config is None:
        model_config = AutoConfig.from_pretrained(
            model["model"],
            revision=model["revision"],
            trust_remote_code=model["trust_remote_code"],
        )
    context = context_length(model_config, config.engine_kwargs)
    rule = config.make_update_rule()
    # A micro-batch is never larger than the mini-batch it is cut from.
    tokens = min(config.max_tokens_per_micro_batch, config.effective_minibatch_size * context)
    return estimates.preflight(
        model_config,
        model=model,
        learners=estimates.LearnerSettings(
            num_learners=max(config.num_learners, 1),
            parallelism=parallelism,
            optimizer=config.optimizer,
            parameter_copies=rule.parameter_copies if config.snapshot_device is None else 0,
            holds_reference=bool(config.kl_coeff) and not model["lora"],  # the adapter is off
            micro_batch_tokens=tokens,
            bucket_views=bool(config.torch_ddp_kwargs.get("gradient_as_bucket_view")),
            on_gpu=config.num_gpus_per_learner > 0,
        ),
        optimizer_kwargs=config.optimizer_kwargs,
        learner_gpus=config.num_gpus_per_learner,
        engine=engine_class(config.rollout_engine),
        load=EngineLoad(
            context=context,
            reply_tokens=min(config.sampling_settings.max_tokens, context),
            num_sequences=max(config.total_train_batch_size, int(config.evaluation_duration)),
            gpu_share=gpu_share(config),
            settings=config.engine_kwargs,
        ),
        one_process=config.num_env_runners == 0 and config.num_learners == 0,
        rule=rule_name(rule),
        device_memory_gb=device_memory_gb,
    )
