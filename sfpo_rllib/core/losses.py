"""Policy losses as pure functions: `inputs -> (loss, metrics)`.

Losses are sums of per-token terms times given weights, never means. The weights are drawn up once
for a whole mini-batch (over all learners), so the loss does not depend on how the mini-batch is
cut into micro-batches or spread over learners.
"""

import torch

LOSS_AGGREGATIONS = ("token", "sequence", "constant")


def token_weights(
    mask: torch.Tensor,
    *,
    aggregation: str = "token",
    num_tokens: float,
    num_sequences: float,
    max_tokens: int,
) -> torch.Tensor:
    """Weight of each token in the loss of a mini-batch.

    Args:
        mask: True where the policy produced the token and it counts, shape (B, T).
        aggregation: `"token"`: the mean over all tokens (DAPO, arXiv 2503.14476, eq. 8).
            `"sequence"`: the mean over sequences of the mean over each one's tokens (GRPO).
            `"constant"`: the sum over tokens divided by sequences * `max_tokens` (Dr. GRPO).
        num_tokens: Counted tokens of the mini-batch, over all learners.
        num_sequences: Sequences with at least one counted token, over all learners.
        max_tokens: Longest completion possible, in tokens.

    Returns:
        Float weights, shape (B, T), 0 where `mask` is False.

    Raises:
        ValueError: If `aggregation` is unknown.
    """
    weights = mask.float()
    if aggregation == "token":
        return weights / max(num_tokens, 1.0)
    if aggregation == "sequence":
        per_sequence = weights.sum(dim=1, keepdim=True).clamp(min=1.0)
        return weights / per_sequence / max(num_sequences, 1.0)
    if aggregation == "constant":
        return weights / (max_tokens * max(num_sequences, 1.0))
    raise ValueError(f"aggregation={aggregation!r}: must be one of {LOSS_AGGREGATIONS}")


def clipped_surrogate_loss(
    logp: torch.Tensor,
    behaviour_logp: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor,
    *,
    clip_param: float = 0.2,
    clip_param_high: float | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """PPO's clipped surrogate on tokens (GRPO, arXiv 2402.03300, eq. 3, without the KL term).

    Args:
        logp: Log-probs of the tokens under the policy being trained, shape (B, T).
        behaviour_logp: The same under the policy at the start of the batch, shape (B, T).
        advantages: Shape (B, T), or (B, 1) for one advantage a sequence.
        weights: `token_weights`, shape (B, T). Tokens of weight 0 do not count, whatever their
            log-probs are.
        clip_param: Lower clip range, and upper if `clip_param_high` is None.
        clip_param_high: Upper clip range (clip-higher, arXiv 2503.14476).

    Returns:
        The loss, a scalar, and metrics, each a sum over the counted tokens, to be divided by their
        number: `clip_fraction`, 1 where the clip stops the gradient; `kl_to_start`, the k3
        estimate of KL(start || current), (ratio - 1) - log ratio, in nats.
    """
    counted = weights > 0
    log_ratio = torch.where(counted, logp - behaviour_logp, 0.0)
    ratio = log_ratio.exp()
    high = clip_param if clip_param_high is None else clip_param_high
    unclipped = ratio * advantages
    clipped = ratio.clamp(1.0 - clip_param, 1.0 + high) * advantages
    loss = -(torch.minimum(unclipped, clipped) * weights).sum()
    with torch.no_grad():
        metrics = {
            "clip_fraction": ((clipped < unclipped) & counted).sum().float(),
            "kl_to_start": (ratio - 1.0 - log_ratio).sum(),
        }
    return loss, metrics
