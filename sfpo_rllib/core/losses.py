"""Policy losses as pure functions, `LossInputs -> (loss, metrics)`, and by name.

Losses are sums of per-token terms times given weights, never means. The weights are drawn up once
for a whole mini-batch (over all learners), so the loss does not depend on how the mini-batch is
cut into micro-batches or spread over learners. A micro-batch has whole sequences, so what a loss
needs of a sequence, such as GSPO's ratio, is at hand.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sfpo_rllib.core.advantages import AdvantageEstimator, make_advantages
from sfpo_rllib.core.checks import (
    FUNCTION,
    Kind,
    is_number,
    nearest,
    none,
    number,
    one_of,
    problems_of,
    value_problems,
)
from sfpo_rllib.core.metrics import Metrics

MAX_LOG_RATIO = 20.0  # e^20 is beyond any bound, and its square a float32
LOSS_AGGREGATIONS = ("token", "sequence", "constant")
_AGGREGATION = {"loss_aggregation": one_of(*LOSS_AGGREGATIONS)}


@dataclass(frozen=True)
class LossInputs:
    """What a policy loss sees of a micro-batch: B whole sequences, padded to T tokens.

    Attributes:
        logp: Log-probs of the tokens under the policy being trained, nats, shape (B, T). The only
            one that carries a gradient.
        start_logp: The same under the policy at the start of the batch (old_logp), shape (B, T).
        advantages: Shape (B, 1), or (B, T) for one a token.
        mask: True where the policy produced the token and it counts, shape (B, T). Elsewhere the
            log-probs may be anything.
        weights: Weight of each token, shape (B, T), 0 where `mask` is False: `token_weights`,
            times what corrects for the engine. A loss is the sum of its terms times these.
        engine_logp: Log-probs that the engine gave when it sampled, shape (B, T), under weights
            that may be some updates older than `start_logp`'s. None where nothing was sampled.
    """

    logp: torch.Tensor
    start_logp: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    weights: torch.Tensor
    engine_logp: torch.Tensor | None = None

    @property
    def log_ratio(self) -> torch.Tensor:
        """log(current / start) of each token, 0 where `mask` is False, shape (B, T).

        Within +-`MAX_LOG_RATIO`: a ratio that is infinite would be no number times a weight of 0.
        """
        log_ratio = torch.where(self.mask, self.logp - self.start_logp, 0.0)
        return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


@dataclass(frozen=True)
class ClipRange:
    """The ratio is clipped to [1 - low, 1 + high]. As ratios are positive, low = 1 is no bound.

    Attributes:
        low: Below 1.
        high: Above 1.
        dual: What the ratio of a token with a negative advantage is clipped to from above, as the
            minimum of two terms has no bound there (dual clip, arXiv 1912.09729, eq. 5). None: by
            nothing.
    """

    low: float
    high: float
    dual: float | None = None

    def clip(self, ratio: torch.Tensor) -> torch.Tensor:
        """The ratio within the range; no gradient passes where it was beyond."""
        return ratio.clamp(1.0 - self.low, 1.0 + self.high)


# A user's own loss has this signature too: it returns a scalar and `core.metrics`.
LossFunction = Callable[[LossInputs, ClipRange], tuple[torch.Tensor, Metrics]]


def clipped_surrogate(inputs: LossInputs, clip: ClipRange) -> tuple[torch.Tensor, Metrics]:
    """PPO's clipped surrogate on tokens (GRPO, arXiv 2402.03300, eq. 3, without the KL term).

    The sum of -w min(r A, clip(r) A) with r = exp(logp - start_logp).

    Returns:
        The loss, and `clip_fraction`: tokens whose gradient the clip stops.
    """
    return _pessimistic(inputs.log_ratio.exp(), inputs, clip)


def clipped_sequence_surrogate(inputs: LossInputs, clip: ClipRange) -> tuple[torch.Tensor, Metrics]:
    """GSPO: the clipped surrogate of the sequence's ratio (arXiv 2507.18071, eq. 5, 7 and 13).

    s = exp(mean over the sequence of logp - start_logp). In the form of GSPO-token, every token
    has the value of s and the gradient s * grad logp, so that advantages and weights may differ
    between tokens; where they do not, it is the sequence form.

    Returns:
        The loss, and `clip_fraction`: tokens of sequences whose gradient the clip stops.
    """
    log_ratio = inputs.log_ratio
    log_s = sequence_mean(log_ratio.detach(), inputs.mask)
    return _pessimistic((log_s + log_ratio - log_ratio.detach()).exp(), inputs, clip)


def clipped_weight_loss(inputs: LossInputs, clip: ClipRange) -> tuple[torch.Tensor, Metrics]:
    """CISPO: a policy gradient under a clipped ratio as weight (arXiv 2506.13585, eq. 4 and 5).

    The sum of -w stop_gradient(clip(r)) A logp: unlike in the surrogate, every token keeps a
    gradient.

    Returns:
        The loss, and `clip_fraction`: tokens whose ratio is clipped.
    """
    ratio = inputs.log_ratio.detach().exp()
    clipped = clip.clip(ratio)
    logp = torch.where(inputs.mask, inputs.logp, 0.0)
    loss = -(clipped * inputs.advantages * logp * inputs.weights).sum()
    return loss, {"clip_fraction": ((clipped != ratio) & inputs.mask).sum().float()}


def policy_gradient_loss(inputs: LossInputs, clip: ClipRange) -> tuple[torch.Tensor, Metrics]:
    """REINFORCE without a ratio (Williams 1992; for language models arXiv 2402.14740).

    The sum of -w A logp. Its gradient is the policy gradient at the start of the batch; in later
    steps over the same batch nothing corrects for how far the policy has moved.

    Returns:
        The loss, and `clip_fraction`, which is 0.
    """
    logp = torch.where(inputs.mask, inputs.logp, 0.0)
    loss = -(inputs.advantages * logp * inputs.weights).sum()
    return loss, {"clip_fraction": torch.zeros((), device=loss.device)}


def _pessimistic(
    ratio: torch.Tensor, inputs: LossInputs, clip: ClipRange
) -> tuple[torch.Tensor, Metrics]:
    bounded = ratio if clip.dual is None else ratio.clamp(max=clip.dual)
    unclipped = bounded * inputs.advantages
    clipped = clip.clip(ratio) * inputs.advantages
    loss = -(torch.minimum(unclipped, clipped) * inputs.weights).sum()
    is_clipped = (clipped < unclipped) | ((bounded < ratio) & (inputs.advantages < 0))
    return loss, {"clip_fraction": (is_clipped & inputs.mask).sum().float()}


@dataclass(frozen=True)
class PolicyLoss:
    """A loss and the settings that belong to it.

    Attributes:
        function: The loss.
        aggregation: Its normaliser, see `token_weights`.
        advantages: Its baseline, see `core.group_relative_advantages`.
        clip_param: The ratio's lower clip range, and upper if there is no other.
        clip_param_high: The upper one.
        clip_param_dual: What the ratio itself is at most where an advantage is negative, e.g. 3.0;
            see `ClipRange`.
    """

    function: LossFunction
    aggregation: str = "token"
    advantages: AdvantageEstimator = "group"
    clip_param: float = 0.2
    clip_param_high: float | None = None
    clip_param_dual: float | None = None

    @property
    def clip(self) -> ClipRange:
        """The bounds of the ratio."""
        high = self.clip_param if self.clip_param_high is None else self.clip_param_high
        return ClipRange(self.clip_param, high, self.clip_param_dual)

    def problems(self) -> list[str]:
        """What is wrong with the settings, each as `field=value: what would be right`."""
        positive = number(above=0.0)
        kinds = {
            "function": FUNCTION,
            "clip_param": Kind(positive.holds, f"{positive.words} or None (the loss's default)"),
            "clip_param_high": positive | none("the loss's default"),
        }
        problems = [
            *problems_of(lambda: make_advantages(self.advantages)),
            *value_problems({"loss_aggregation": self.aggregation}, _AGGREGATION),
            *value_problems(self, kinds),
        ]
        dual = self.clip_param_dual
        if dual is None or problems:
            return problems
        if self.function in (clipped_weight_loss, policy_gradient_loss):
            return [
                f"clip_param_dual={dual!r}: must be None with this loss, which has no use of it"
            ]
        if not is_number(dual, above=1.0 + self.clip.high):
            return [
                f"clip_param_dual={dual!r}: must be a number > {1.0 + self.clip.high:g}, the upper "
                "bound of every ratio, or None (no bound where an advantage is negative)"
            ]
        return []


LOSSES: dict[str, PolicyLoss] = {
    # Mean over tokens, as in verl and in SFPO's own code; "sequence" is the GRPO paper's.
    "grpo": PolicyLoss(clipped_surrogate),
    # arXiv 2503.20783: neither the length of a reply nor the spread of its group is divided by.
    "dr_grpo": PolicyLoss(clipped_surrogate, aggregation="constant", advantages="group_mean"),
    # arXiv 2503.14476: clip-higher.
    "dapo": PolicyLoss(clipped_surrogate, clip_param_high=0.28),
    # arXiv 2507.18071, section 5.1: a sequence's ratio moves far less than a token's.
    "gspo": PolicyLoss(
        clipped_sequence_surrogate,
        aggregation="sequence",
        clip_param=3e-4,
        clip_param_high=4e-4,
    ),
    # arXiv 2506.13585 has no lower bound and does not print the upper one; 5 is of 2510.13786.
    "cispo": PolicyLoss(clipped_weight_loss, clip_param=1.0, clip_param_high=4.0),
    # arXiv 2402.14740: the return of the whole reply, over the mean of the others.
    "reinforce": PolicyLoss(policy_gradient_loss, aggregation="constant", advantages="rloo"),
}


def make_loss(loss: str | PolicyLoss | LossFunction, **settings: Any) -> PolicyLoss:
    """The loss of that name, or an own function under the settings of `grpo`.

    Args:
        loss: A name in `LOSSES`, a `PolicyLoss` or a function.
        settings: Of `PolicyLoss`, in place of its own where they are not None.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(loss, str) and loss in LOSSES:
        loss = LOSSES[loss]
    elif not isinstance(loss, PolicyLoss):
        if not callable(loss):
            raise ValueError(
                f"loss={loss!r}: must be one of {sorted(LOSSES)}, a core.PolicyLoss or a function"
                f"{nearest(loss, LOSSES)}"
            )
        loss = PolicyLoss(loss)
    given = {name: value for name, value in settings.items() if value is not None}
    return dataclasses.replace(loss, **given) if given else loss


def token_weights(
    mask: torch.Tensor,
    *,
    aggregation: str = "token",
    num_tokens: float,
    num_sequences: float,
    max_tokens: int,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Weight of each token in the loss of a mini-batch.

    Args:
        mask: True where the policy produced the token and it counts, shape (B, T).
        aggregation: `"token"`: the mean over all tokens (DAPO, arXiv 2503.14476, eq. 8).
            `"sequence"`: the mean over sequences of the mean over each one's tokens (GRPO,
            arXiv 2402.03300, eq. 3). `"constant"`: the sum over tokens divided by sequences *
            `max_tokens` (Dr. GRPO, arXiv 2503.20783).
        num_tokens: Counted tokens of the mini-batch, over all learners.
        num_sequences: Sequences with at least one counted token, over all learners.
        max_tokens: Of the longest episode possible, over all its turns.
        dtype: Of the weights.

    Returns:
        Weights, shape (B, T), 0 where `mask` is False.

    Raises:
        ValueError: If `aggregation` is unknown.
    """
    weights = mask.to(dtype)
    if aggregation == "token":
        return weights / max(num_tokens, 1.0)
    if aggregation == "sequence":
        per_sequence = weights.sum(dim=1, keepdim=True).clamp(min=1.0)
        return weights / per_sequence / max(num_sequences, 1.0)
    if aggregation == "constant":
        return weights / (max_tokens * max(num_sequences, 1.0))
    raise ValueError(f"aggregation={aggregation!r}: must be one of {LOSS_AGGREGATIONS}")


def sequence_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over each sequence's counted tokens, shape (B, 1); 0 if it has none.

    Args:
        values: Shape (B, T), 0 where `mask` is False.
        mask: Shape (B, T).
    """
    return values.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
