"""How undecided a policy is, from what RLlib's modules return in training."""

from typing import Any

import torch
from ray.rllib.algorithms.sac.sac_learner import ACTION_PROBS
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.core.rl_module.rl_module import RLModule


@torch.no_grad()
def policy_entropy(module: RLModule, outputs: dict[str, Any]) -> torch.Tensor | None:
    """Entropy of the distribution over actions, in each state of a batch.

    That of a squashed Gaussian, SAC's policy, has no closed form: it is estimated by the
    surprise at one action a state. Random numbers of training are left alone.

    Args:
        module: One policy.
        outputs: Of its `forward_train()`.

    Returns:
        Nats, of the batch's shape; None if there is no such distribution, as in DQN, or RLlib
        knows no entropy of it.
    """
    if Columns.ACTION_DIST_INPUTS not in outputs:
        probs = outputs.get(ACTION_PROBS)  # SAC, discrete actions
        return None if probs is None else torch.special.entr(probs).sum(-1)
    inputs = outputs[Columns.ACTION_DIST_INPUTS]
    distribution = module.get_train_action_dist_cls().from_logits(inputs)
    if isinstance(distribution, TorchSquashedGaussian):
        with torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
            _, logp = distribution.sample_and_logp()
        return -logp
    try:
        return distribution.entropy()
    except (ValueError, RuntimeError, NotImplementedError):  # as RLlib's say it
        return None
