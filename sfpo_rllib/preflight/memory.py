"""Bytes that a learner and an engine need on their device."""

from dataclasses import dataclass

from sfpo_rllib.preflight.footprint import Footprint

PARALLELISMS = ("ddp", "fsdp")
LOGIT_BYTES = 12  # of a logit: three float32 values, in the forward pass and in the backward pass
_FP32 = 4


@dataclass(frozen=True)
class LearnerSettings:
    """What a learner's memory depends on besides the model.

    Attributes:
        num_learners: At least 1.
        parallelism: "ddp": every learner holds the model; "fsdp": a share of it.
        compute_bytes: Of a value in the compute dtype, 4 or 2.
        optimizer: Its name.
        parameter_copies: Of the update rule.
        holds_reference: Whether there is a frozen model for a KL term.
        micro_batch_tokens: Padded tokens of a micro-batch.
        logit_tokens: Positions whose logits are held at once, if a micro-batch has as many.
        bucket_views: Whether DDP's buckets are the gradients themselves.
        on_gpu: Whether the optimizer updates all parameters in one go.
    """

    num_learners: int = 1
    parallelism: str = "ddp"
    compute_bytes: int = _FP32
    optimizer: str = "adamw"
    parameter_copies: int = 0
    holds_reference: bool = False
    micro_batch_tokens: int = 16_384
    logit_tokens: int = 1024
    bucket_views: bool = False
    on_gpu: bool = True

    def __post_init__(self) -> None:
        if self.parallelism not in PARALLELISMS:
            raise ValueError(f"parallelism={self.parallelism!r}: must be one of {PARALLELISMS}")


@dataclass(frozen=True)
class LearnerMemory:
    """Bytes on the device of one learner.

    Attributes:
        frozen: Weights that are not trained, in the compute dtype.
        masters: The float32 weights that are trained.
        gradients: Theirs, float32.
        optimizer_state: Moments.
        snapshot: The update rule's copies of the masters.
        reference: The frozen model of a KL term, its layers in the compute dtype.
        buckets: DDP's buffers for the all-reduce.
        compute_weights: Weights in the compute dtype; under FSDP the gathered ones and their
            gradients.
        activations: Of the layers, for a micro-batch.
        logits: Of the LM head, for a chunk of a micro-batch.
        optimizer_step: Temporaries of a step or a reposition, when activations are gone.
    """

    frozen: int
    masters: int
    gradients: int
    optimizer_state: int
    snapshot: int
    reference: int
    buckets: int
    compute_weights: int
    activations: int
    logits: int
    optimizer_step: int

    @property
    def resident(self) -> int:
        """What stays through an update."""
        trained = self.masters + self.gradients + self.optimizer_state + self.snapshot
        return self.frozen + trained + self.reference + self.buckets

    @property
    def peak(self) -> int:
        """The most at once: in a backward pass, or in an optimizer step after it."""
        one_pass = self.compute_weights + self.activations + self.logits
        return self.resident + max(one_pass, self.optimizer_step)


def learner_memory(model: Footprint, settings: LearnerSettings) -> LearnerMemory:
    """The memory of one learner.

    FSDP is taken to shard masters, gradients, optimizer state, snapshot and reference, to reduce
    gradients after every micro-batch, and to hold two layers and what is outside of the layers, the
    reference's too, gathered. The reference's pass, without a backward one, takes less than the
    policy's.
    """
    sharded = settings.parallelism == "fsdp"
    shards = settings.num_learners if sharded else 1

    def share(size: int) -> int:
        return -(-size // shards)

    weights = _FP32 * model.trained_parameters
    in_layers = model.num_parameters - model.outside_layers
    reference = _FP32 * model.outside_layers + settings.compute_bytes * in_layers
    frozen = settings.compute_bytes * (model.num_parameters - model.trained_parameters)
    if sharded:
        # Two layers, gradients of one and its copy that is reduced; the rest is float32.
        layers = (3 * settings.compute_bytes + _FP32) * model.largest_layer
        outside = (3 if settings.holds_reference else 2) * _FP32 * model.outside_layers
        compute_weights = layers + outside
    else:
        compute_weights = settings.compute_bytes * model.cast_parameters
        if settings.compute_bytes == _FP32:
            compute_weights = 0  # they are the masters
    tokens = settings.micro_batch_tokens
    logits = LOGIT_BYTES * min(tokens, settings.logit_tokens) * model.vocab_size
    held, peak = (int(tokens * each) for each in (model.held_per_token, model.peak_per_token))
    # Logits are gone when the layers' backward pass is at its worst.
    activations = max(held, peak - logits)
    buckets = weights if settings.num_learners > 1 and not sharded else 0
    return LearnerMemory(
        frozen=share(frozen),
        masters=share(weights),
        gradients=share(weights),
        # Paged moments leave the device when it is full.
        optimizer_state=0
        if settings.optimizer.startswith("paged")
        else share(model.optimizer_bytes),
        snapshot=settings.parameter_copies * share(weights),
        reference=share(reference) if settings.holds_reference else 0,
        buckets=0 if settings.bucket_views else buckets,
        compute_weights=compute_weights,
        activations=activations,
        logits=logits,
        optimizer_step=share(
            _FP32
            * max(model.stepwise_parameters if settings.on_gpu else 0, model.largest_parameter)
        ),
    )


@dataclass(frozen=True)
class EngineMemory:
    """Bytes on a device of one engine.

    Attributes:
        weights: In the compute dtype, a share of them under tensor parallelism.
        kv_cache: For keys and values; None if that is not known.
        kv_bytes_per_token: Keys and values of one token.
    """

    weights: int
    kv_cache: int | None
    kv_bytes_per_token: int

    @property
    def peak(self) -> int:
        """Both."""
        return self.weights + (self.kv_cache or 0)

    @property
    def cached_tokens(self) -> int | None:
        """Tokens that the cache holds; None if that is not known."""
        return None if self.kv_cache is None else max(self.kv_cache, 0) // self.kv_bytes_per_token


def engine_memory(
    model: Footprint,
    *,
    compute_bytes: int,
    tensor_parallel_size: int = 1,
    kv_cache_bytes: int | None = None,
    allowed_bytes: int | None = None,
) -> EngineMemory:
    """The memory of one engine on each of its devices.

    Args:
        model: The model.
        compute_bytes: Of a value in its dtype.
        tensor_parallel_size: Devices of one engine.
        kv_cache_bytes: Of the cache, if that is known.
        allowed_bytes: Otherwise what engine and cache may take together.
    """
    weights = -(-compute_bytes * model.num_parameters // tensor_parallel_size)
    if kv_cache_bytes is None and allowed_bytes is not None:
        kv_cache_bytes = allowed_bytes - weights
    per_token = -(-compute_bytes * model.kv_values // tensor_parallel_size)
    return EngineMemory(weights, kv_cache_bytes, per_token)
