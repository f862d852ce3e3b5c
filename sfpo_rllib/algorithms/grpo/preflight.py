"""What a config's learners and engines need of their devices."""

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from transformers import PretrainedConfig

from sfpo_rllib import preflight as estimates
from sfpo_rllib.algorithms.grpo.settings import BatchSettings
from sfpo_rllib.core.checks import of_attributes
from sfpo_rllib.core.update_rules import rule_name
from sfpo_rllib.env_runners.engines import engine_class, gpu_share
from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.env_runners.engines.memory import EngineLoad
from sfpo_rllib.rl_modules.model_settings import MODEL_CONFIG_KEYS, ModelSettings


def preflight(
    config: AlgorithmConfig,
    *,
    parallelism: str = "ddp",
    device_memory_gb: float | None = None,
    model_config: PretrainedConfig | None = None,
) -> estimates.Preflight:
    """Estimates what a config needs; see `GRPOConfig.preflight`.

    Args:
        config: The config.
        parallelism: How learners share the model.
        device_memory_gb: Of each GPU, in 10^9 bytes.
        model_config: Instead of that of `config.model_config["model"]`.
    """
    model = {**MODEL_CONFIG_KEYS, **config.model_config}
    if model_config is None:
        model_config = ModelSettings.of(model).pretrained_config()
    context = context_length(model_config, config.engine_kwargs)
    rule = config.make_update_rule()
    # A micro-batch is never larger than the mini-batch it is cut from.
    largest = of_attributes(BatchSettings, config).largest_minibatch_size(rule.pass_settings)
    tokens = min(config.max_tokens_per_micro_batch, largest * context)
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
        weight_copies=config.stream_settings.weight_copies
        if config.weight_transport == "object_store"
        else 0,
        open_tokens=config.stream_settings.open_batches * config.total_train_batch_size * context,
        device_memory_gb=device_memory_gb,
    )
