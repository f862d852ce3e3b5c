"""What can be wrong with the settings of the objective."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sfpo_rllib.core.advantages import make_advantages
from sfpo_rllib.core.importance import ENGINE_CORRECTIONS
from sfpo_rllib.core.losses import LOSS_AGGREGATIONS, make_loss
from sfpo_rllib.core.objective import KL_ESTIMATORS
from sfpo_rllib.core.values import is_number

if TYPE_CHECKING:
    from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig


def objective_problems(config: "GRPOConfig") -> Iterator[str]:
    """What is wrong with loss, advantages, KL, entropy bonus and the correction for the engine."""
    try:
        make_loss(config.loss)
    except ValueError as error:
        yield str(error)
    else:
        try:
            make_advantages(config.policy_loss.advantages)
        except ValueError as error:
            yield str(error)
        if config.policy_loss.aggregation not in LOSS_AGGREGATIONS:
            yield (
                f"loss_aggregation={config.policy_loss.aggregation!r}: must be one of "
                f"{LOSS_AGGREGATIONS}"
            )
    for field, known, optional in (
        ("kl_estimator", KL_ESTIMATORS, False),
        ("engine_correction", ENGINE_CORRECTIONS, True),
    ):
        value = getattr(config, field)
        if value not in known and not (optional and value is None):
            yield f"{field}={value!r}: must be one of {known}{' or None' if optional else ''}"
    for field in ("clip_param", "clip_param_high"):
        value = getattr(config, field)
        if value is not None and not is_number(value, above=0.0):
            yield f"{field}={value!r}: must be a number > 0, or None for the loss's default"
    for field in ("kl_coeff", "entropy_coeff"):
        value = getattr(config, field)
        if not is_number(value, least=0.0):
            yield f"{field}={value!r}: must be a number >= 0"
    bound = config.max_engine_logp_diff
    if bound is not None and not is_number(bound, above=0.0):
        yield f"max_engine_logp_diff={bound!r}: must be a number > 0 (nats a token), or None"
    cap, floor = config.engine_ratio_cap, config.engine_ratio_floor
    if not is_number(cap, above=0.0):
        yield (
            f"engine_ratio_cap={cap!r}: must be a number > 0; engine_correction=None turns the "
            "correction off"
        )
    elif not is_number(floor, least=0.0) or floor >= cap:
        yield f"engine_ratio_floor={floor!r}: must be a number >= 0 and < engine_ratio_cap={cap}"
