"""Bytes that a learner needs on its device."""

from dataclasses import dataclass

from sfpo_rllib.core.optimizers import Optimizer, optimizer_spec
from sfpo_rllib.rl_modules.footprint import Footprint
from sfpo_rllib.rl_modules.parallelism import FP32, parallelism_class

LOGIT_BYTES = 12  # of a logit: three float32 values, in the forward pass and in the backward pass


@dataclass(frozen=True)
class LearnerSettings:
    """What a learner's memory depends on besides the model.

    Attributes:
        num_learners: At least 1.
        parallelism: How they share the model; see `PARALLELISMS`.
        compute_bytes: Of a value in the compute dtype, 4 or 2.
        optimizer: See `core.make_optimizer`.
        parameter_copies: Of the update rule.
        holds_reference: Whether there is a frozen model for a KL term.
        micro_batch_tokens: Padded tokens of a micro-batch.
        logit_tokens: Positions whose logits are held at once, if a micro-batch has as many.
        bucket_views: Whether DDP's buckets are the gradients themselves.
        on_gpu: Whether the optimizer updates parameters in one go.
    """

    num_learners: int = 1
    parallelism: str = "ddp"
    compute_bytes: int = FP32
    optimizer: Optimizer = "adamw"
    parameter_copies: int = 0
    holds_reference: bool = False
    micro_batch_tokens: int = 16_384
    logit_tokens: int = 1024
    bucket_views: bool = False
    on_gpu: bool = True

    def __post_init__(self) -> None:
        parallelism_class(self.parallelism)  # raises if there is none


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

    The reference's pass, without a backward one, takes less than the policy's.
    """
    kind = parallelism_class(settings.parallelism)
    shards = kind.num_shards(settings.num_learners)

    def share(size: int) -> int:
        return -(-size // shards)

    weights = FP32 * model.trained_parameters
    in_layers = model.num_parameters - model.outside_layers
    reference = FP32 * model.outside_layers + settings.compute_bytes * in_layers
    tokens = settings.micro_batch_tokens
    logits = LOGIT_BYTES * min(tokens, settings.logit_tokens) * model.vocab_size
    held, peak = (int(tokens * each) for each in (model.held_per_token, model.peak_per_token))
    paged = optimizer_spec(settings.optimizer).paged
    at_once = model.parameters_at_once if settings.on_gpu else 0
    return LearnerMemory(
        frozen=share(settings.compute_bytes * (model.num_parameters - model.trained_parameters)),
        masters=share(weights),
        gradients=share(weights),
        optimizer_state=0 if paged else share(model.optimizer_bytes),
        snapshot=settings.parameter_copies * share(weights),
        reference=share(reference) if settings.holds_reference else 0,
        buckets=0 if settings.bucket_views else kind.buckets(weights, settings.num_learners),
        compute_weights=kind.pass_weights(
            model, settings.compute_bytes, holds_reference=settings.holds_reference
        ),
        # Logits are gone when the layers' backward pass is at its worst.
        activations=max(held, peak - logits),
        logits=logits,
        optimizer_step=share(FP32 * max(at_once, model.largest_parameter)),
    )
