"""What the engine sampled from and what the learner trains differ: measured, and corrected for.

Even at equal weights the engine's log-probs are not the learner's: other kernels, other dtypes.
The ratio of the two, learner over engine, is the importance weight of a token.
"""

import torch

from sfpo_rllib.core.losses import MAX_LOG_RATIO, sequence_mean
from sfpo_rllib.core.metrics import Metrics

ENGINE_CORRECTIONS = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


def engine_importance(
    start_logp: torch.Tensor,
    engine_logp: torch.Tensor,
    mask: torch.Tensor,
    *,
    correction: str | None = "token_truncate",
    cap: float = 2.0,
    floor: float = 0.5,
) -> tuple[torch.Tensor, Metrics]:
    """Importance weight of each token, for what the engine's distribution differs.

    With r = exp(start_logp - engine_logp), `"token_truncate"` is min(r, cap) (TIS), and
    `"token_mask"` is r where floor <= r <= cap and 0 elsewhere (IcePop, arXiv 2510.18855).
    In `"sequence_truncate"` and `"sequence_mask"` r is the geometric mean over the sequence's
    tokens, exp(mean(start_logp - engine_logp)), as in GSPO. Not the product: its logarithm grows
    with the length, so that one bound would keep short replies and drop long ones.

    Args:
        start_logp: Log-probs of the learner at the start of the batch, nats, shape (B, T).
        engine_logp: Those that the engine gave when it sampled, shape (B, T).
        mask: True on tokens that count, shape (B, T).
        correction: One of `ENGINE_CORRECTIONS`, or None: every weight is 1.
        cap: Upper bound of r.
        floor: Lower bound of r, for the masks.

    Returns:
        The weights, shape (B, T), without gradient; a token that is masked still counts in the
        loss's normaliser. Metrics, sums over the counted tokens if not said otherwise:
        `engine_logp_diff`, |start_logp - engine_logp|; `engine_logp_diff_max`, the greatest of
        them; `engine_ratio`, r, and `engine_ratio_squared`, for `effective_sample_share`;
        `engine_beyond_bounds`, 1 where r is below `floor` or above `cap`.

    Raises:
        ValueError: If `correction` is unknown.
    """
    if correction is not None and correction not in ENGINE_CORRECTIONS:
        raise ValueError(f"correction={correction!r}: must be one of {ENGINE_CORRECTIONS} or None")
    with torch.no_grad():
        gap = torch.where(mask, start_logp - engine_logp, 0.0)
        log_ratio = gap
        if correction is not None and correction.startswith("sequence"):
            log_ratio = sequence_mean(gap, mask).expand_as(gap)
        ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        beyond = (ratio < floor) | (ratio > cap)
        metrics = {
            "engine_logp_diff": gap.abs().sum(),
            "engine_logp_diff_max": gap.abs().max(),
            "engine_ratio": torch.where(mask, ratio, 0.0).sum(),
            "engine_ratio_squared": torch.where(mask, ratio.square(), 0.0).sum(),
            "engine_beyond_bounds": (beyond & mask).sum().float(),
        }
        if correction is None:
            return torch.ones_like(ratio), metrics
        if correction.endswith("truncate"):
            return ratio.clamp(max=cap), metrics
        return ratio.masked_fill(beyond, 0.0), metrics


def effective_sample_share(ratio_mean: float, ratio_squared_mean: float) -> float:
    """Kish's effective sample size over the sample size, (E r)^2 / E r^2, in (0, 1].

    1 where engine and learner agree; 0.1 says that one token in ten carries the estimate.
    """
    return ratio_mean**2 / ratio_squared_mean if ratio_squared_mean else 0.0
