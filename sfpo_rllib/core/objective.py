"""The objective of a micro-batch: policy loss, KL to a reference, entropy bonus; its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sfpo_rllib.core.checks import is_number, none, number, one_of, value_problems
from sfpo_rllib.core.importance import ENGINE_CORRECTIONS, engine_importance
from sfpo_rllib.core.losses import LOSSES, MAX_LOG_RATIO, LossInputs, PolicyLoss
from sfpo_rllib.core.metrics import Metrics

KL_ESTIMATORS = ("k1", "k2", "k3")


def kl_estimate(log_ratio: torch.Tensor, estimator: str = "k3") -> torch.Tensor:
    """Estimate of KL(p || q) at each sample from p (Schulman, joschu.net/blog/kl-approx.html).

    With x = log p - log q: k1 = x, k2 = x^2 / 2, k3 = exp(-x) - 1 + x. k1 and k3 are unbiased as
    values, k3 is never negative. What a loss descends is their gradient at fixed samples: k2's is
    that of the KL, k3's one of KL(q || p), and k1's has the mean 0, so that it pulls nowhere.

    Args:
        log_ratio: log p - log q, nats, any shape.
        estimator: One of `KL_ESTIMATORS`.

    Returns:
        The estimates, nats, of the same shape.

    Raises:
        ValueError: If `estimator` is unknown.
    """
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio.square() / 2
    if estimator == "k3":
        return torch.expm1((-log_ratio).clamp(max=MAX_LOG_RATIO)) + log_ratio
    raise ValueError(f"estimator={estimator!r}: must be one of {KL_ESTIMATORS}")


@dataclass(frozen=True)
class Objective:
    """Policy loss + kl_coeff * KL(policy || reference) - entropy_coeff * entropy.

    All three are aggregated by the same token weights. The importance weights that correct for the
    engine belong to the policy loss alone.

    Attributes:
        loss: The policy loss.
        kl_coeff: 0: no reference is needed.
        kl_estimator: One of `KL_ESTIMATORS`.
        entropy_coeff: 0: the entropy needs no gradient.
        engine_correction: One of `core.importance.ENGINE_CORRECTIONS` (TIS and its like, the
            rollout correction), or None.
        engine_ratio_cap: Upper bound of the ratio of learner to engine.
        engine_ratio_floor: Lower bound of it.
    """

    loss: PolicyLoss = LOSSES["grpo"]
    kl_coeff: float = 0.0
    kl_estimator: str = "k3"
    entropy_coeff: float = 0.0
    engine_correction: str | None = "token_truncate"
    engine_ratio_cap: float = 2.0
    engine_ratio_floor: float = 0.5

    def problems(self) -> list[str]:
        """What is wrong with the settings, each as `field=value: what would be right`."""
        kinds = {
            "kl_coeff": number(least=0.0),
            "kl_estimator": one_of(*KL_ESTIMATORS),
            "entropy_coeff": number(least=0.0),
            "engine_correction": one_of(*ENGINE_CORRECTIONS) | none(),
            "engine_ratio_cap": number(
                above=0.0, unit="; engine_correction=None turns the correction off"
            ),
        }
        problems = [*self.loss.problems(), *value_problems(self, kinds)]
        cap, floor = self.engine_ratio_cap, self.engine_ratio_floor
        if is_number(cap, above=0.0) and not (is_number(floor, least=0.0) and floor < cap):
            problems.append(
                f"engine_ratio_floor={floor!r}: must be a number >= 0 and < engine_ratio_cap={cap}"
            )
        return problems

    def __call__(
        self,
        *,
        logp: torch.Tensor,
        entropy: torch.Tensor,
        start_logp: torch.Tensor,
        engine_logp: torch.Tensor,
        advantages: torch.Tensor,
        mask: torch.Tensor,
        weights: torch.Tensor,
        reference_logp: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Metrics]:
        """The loss of a micro-batch, of shape (B, T) if not said otherwise.

        Args:
            logp: Log-probs of the tokens under the policy being trained, nats.
            entropy: Entropies of the distributions they were drawn from, nats.
            start_logp: Log-probs under the policy at the start of the batch (old_logp).
            engine_logp: Those that the engine gave when it sampled (rollout log-probs).
            advantages: (B, 1) or (B, T).
            mask: True on tokens that count.
            weights: `token_weights` of the mini-batch, drawn up over all learners.
            reference_logp: Log-probs under the reference, if `kl_coeff` is not 0.

        Returns:
            The loss, a scalar, and its `core.metrics`: those of the loss, those of
            `engine_importance`, `entropy`, `num_tokens`, `kl_to_start` (k3 of KL(start ||
            current)), and with a reference `kl_to_reference`.

        Raises:
            ValueError: If there is a `kl_coeff` and no `reference_logp`, or the loss returns
                something else than a scalar and metrics.
        """
        importance, engine_metrics = engine_importance(
            start_logp,
            engine_logp,
            mask,
            correction=self.engine_correction,
            cap=self.engine_ratio_cap,
            floor=self.engine_ratio_floor,
        )
        inputs = LossInputs(logp, start_logp, advantages, mask, weights * importance, engine_logp)
        loss, metrics = self._loss_of(inputs)
        entropy = torch.where(mask, entropy, 0.0)
        metrics = {
            **metrics,
            **engine_metrics,
            "entropy": entropy.detach().sum(),
            "kl_to_start": kl_estimate(-inputs.log_ratio.detach(), "k3").sum(),
            "num_tokens": mask.sum().float(),
        }
        if self.kl_coeff:
            if reference_logp is None:
                raise ValueError(f"kl_coeff={self.kl_coeff}: must be 0 without reference log-probs")
            kl = kl_estimate(torch.where(mask, logp - reference_logp, 0.0), self.kl_estimator)
            loss = loss + self.kl_coeff * (kl * weights).sum()
            metrics["kl_to_reference"] = kl.detach().sum()
        if self.entropy_coeff:
            loss = loss - self.entropy_coeff * (entropy * weights).sum()
        return loss, metrics

    def _loss_of(self, inputs: LossInputs) -> tuple[torch.Tensor, Metrics]:
        returned: Any = self.loss.function(inputs, self.loss.clip)  # which may be a user's own
        is_pair = isinstance(returned, tuple | list) and len(returned) == 2
        loss, metrics = returned if is_pair else (None, None)
        if not (isinstance(loss, torch.Tensor) and loss.ndim == 0 and isinstance(metrics, Mapping)):
            raise ValueError(
                f"loss={self.loss.function!r}: must return a pair, the loss as a scalar tensor and "
                f"a dict of metrics; got {returned!r:.200}"
            )
        # A user's may be plain numbers, or still have a gradient.
        return loss, {
            name: torch.as_tensor(value, device=loss.device).detach()
            for name, value in metrics.items()
        }
